//! Table 3: the errors of both laws in every domain, next to the baselines.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::format::{error_percent, status};
use crate::results::{Laws, Results};
use forgetting_laws::Result;
use forgetting_laws::fit::{Fit, Interval};
use forgetting_laws::laws::{Finetuning, Forgetting, Law};
use forgetting_laws::warning::WarningKind;

/// Table 3. The content of the paper's is unknown; it probably has errors.
pub const TABLE3: Figure = Figure {
    id: "table3",
    paper: "Table 3 (arXiv v2; what it holds there is not known)",
    title: "Errors of both laws",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let mut notes = style::notes(results, &[MAIN]);
    notes.extend(laws.missing());
    let warned = laws.fits().flat_map(|fit| {
        let name = format!("{}, {}", fit.domain, fit.law.name());
        // The others are of the table and its sizes, which the other figures describe.
        let untested = fit.warnings.iter().filter(|w| w.kind == WarningKind::NotHeldOut);
        untested.map(move |warning| format!("{name}: {}.", warning.message))
    });
    notes.extend(warned);
    Ok(Page {
        csv: vec![("table3".into(), errors(laws))],
        tables: [&Finetuning as &dyn Law, &Forgetting]
            .map(|law| table(laws, law))
            .into_iter()
            .chain(others(laws))
            .collect(),
        findings: vec![fits(laws, &Finetuning, "6"), fits(laws, &Forgetting, "7")],
        notes,
        ..Page::default()
    })
}

/// One row per law and domain.
fn errors(laws: &Laws) -> String {
    let mut csv = Csv::new([
        "domain",
        "law",
        "status",
        "n_runs",
        "mre",
        "mre_bootstrap",
        "mre_bootstrap_low",
        "mre_bootstrap_high",
        "mre_out_of_bag",
        "rise_error",
        "mre_no_change",
        "mre_log_linear",
        "held_out_folds",
        "held_out_mre",
        "held_out_rise_error",
        "held_out_mre_no_change",
        "held_out_rise_error_no_change",
        "held_out_mre_log_linear",
        "held_out_rise_error_log_linear",
        "supported",
    ]);
    for fit in laws.fits().chain(laws.others()) {
        let resampled = fit.bootstrap.as_ref();
        let inside = resampled.and_then(|resampled| resampled.mre);
        let outside = resampled.and_then(|resampled| resampled.mre_out_of_bag);
        let of = |interval: Option<Interval>, end: fn(Interval) -> f64| {
            interval.map_or(String::new(), |interval| cell(end(interval)))
        };
        let mut row = vec![
            fit.domain.clone(),
            fit.law.name().into(),
            status(fit.status).into(),
            fit.n_runs.to_string(),
            cell(fit.mre),
            of(inside, |i| i.mean),
            of(inside, |i| i.low),
            of(inside, |i| i.high),
            of(outside, |i| i.mean),
            cell(fit.rise_error),
            cell(fit.null_models.no_change.mre),
            cell(fit.null_models.log_linear.mre),
        ];
        row.extend(match &fit.held_out {
            None => vec![String::new(); 8],
            Some(held_out) => {
                let null = held_out.null_models;
                let numbers = [held_out.errors, null.no_change, null.log_linear]
                    .into_iter()
                    .flat_map(|errors| [cell(errors.mre), cell(errors.rise_error)]);
                std::iter::once(held_out.folds.to_string())
                    .chain(numbers)
                    .chain([held_out.supported.to_string()])
                    .collect()
            }
        });
        csv.row(row);
    }
    csv.text()
}

fn table(laws: &Laws, law: &dyn Law) -> Table {
    let fits = laws.fits().filter(|fit| fit.law.name() == law.name());
    of_fits(&format!("The {} law", law.name()), fits, |fit| fit.domain.clone())
}

/// The forms that are better than Equation 7, if there are any.
fn others(laws: &Laws) -> Option<Table> {
    let name = |fit: &Fit| format!("{}, {}", fit.domain, fit.law.name());
    let caption = "Beyond the paper: forms of the forgetting law that predict held-out runs better than \
         Equation 7";
    laws.others().next().is_some().then(|| of_fits(caption, laws.others(), name))
}

fn of_fits<'a>(
    caption: &str,
    fits: impl Iterator<Item = &'a Fit>,
    name: impl Fn(&Fit) -> String,
) -> Table {
    let row = |fit: &Fit| {
        let bootstrapped = fit.bootstrap.as_ref().and_then(|resampled| resampled.mre);
        let held_out = fit.held_out.as_ref();
        let of = |share: Option<f64>| share.map_or_else(|| "-".into(), error_percent);
        vec![
            name(fit),
            fit.n_runs.to_string(),
            bootstrapped.map_or_else(
                || error_percent(fit.mre),
                |i| {
                    format!(
                        "{} [{}, {}]",
                        error_percent(i.mean),
                        error_percent(i.low),
                        error_percent(i.high)
                    )
                },
            ),
            of(fit.bootstrap.as_ref().and_then(|r| r.mre_out_of_bag).map(|i| i.mean)),
            error_percent(fit.rise_error),
            of(held_out.map(|h| h.errors.mre)),
            of(held_out.map(|h| h.null_models.no_change.mre)),
            of(held_out.map(|h| h.null_models.log_linear.mre)),
            of(held_out.map(|h| h.errors.rise_error)),
            match fit.is_supported() {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            }
            .into(),
        ]
    };
    let columns = [
        "domain",
        "runs",
        "bootstrapped MRE",
        "out of bag",
        "error of the increase",
        "MRE, sizes held out",
        "no change",
        "log-linear",
        "error of the increase, held out",
        "beats both",
    ];
    Table {
        caption: format!(
            "{caption}. The MRE is the mean of |prediction − loss| / loss. The error of the \
             increase is the sum of |prediction − loss| divided by the sum of |loss − no change|. \
             Out of bag is the MRE on runs that are not in a resample. Each size in turn is held out \
             from the fits of the law and of the baselines."
        ),
        columns: columns.map(String::from).to_vec(),
        rows: fits.map(row).collect(),
    }
}

/// The claim for one law.
fn fits(laws: &Laws, law: &dyn Law, equation: &str) -> Finding {
    let of = |fit: &Fit| {
        let held_out = fit.held_out.as_ref()?;
        let null = &held_out.null_models;
        Some(format!(
            "{} in {} (no change: {}, log-linear model: {})",
            error_percent(held_out.errors.mre),
            fit.domain,
            error_percent(null.no_change.mre),
            error_percent(null.log_linear.mre)
        ))
    };
    let fits: Vec<&Fit> = laws.fits().filter(|fit| fit.law.name() == law.name()).collect();
    let words: Vec<_> = fits.iter().filter_map(|fit| of(fit)).collect();
    let of_domain = |domain: &str| fits.iter().find(|fit| fit.domain == domain);
    let supported = laws.0.iter().map(|laws| {
        let supported = of_domain(&laws.domain).and_then(|fit| fit.is_supported());
        supported.map_or(Verdict::NotTestable, Verdict::of)
    });
    Finding {
        claim: format!("The {} law, Equation {equation}, fits in every domain", law.name()),
        source: format!("Equation {equation} (arXiv v2), reported"),
        ours: style::about(&words, "No size could be held out.", |words| {
            format!("The MRE on held-out sizes is {words}.")
        }),
        rule:
            "both the MRE and the error of the increase on held-out sizes are smaller for the law than for \
               either baseline in every domain."
                .into(),
        verdict: style::all(supported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::fig3::FIG3;
    use crate::figures::fig6::FIG6;
    use crate::figures::golden::{self, PLANTED};
    use crate::results::DomainLaws;
    use forgetting_laws::Error;
    use forgetting_laws::fit::{Bootstrap, Options};
    use forgetting_laws::laws::ForgettingTimesTokens;

    #[test]
    fn planted_laws_are_supported() {
        let page = golden::page(&TABLE3);
        assert!(page.tables.iter().all(|t| t.rows.len() == 3));
        assert!(page.tables.iter().all(|t| t.rows.iter().all(|r| r.len() == t.columns.len())));
        assert!(page.tables.iter().all(|t| t.rows.iter().all(|r| r[9] == "yes")));
        assert!(page.findings.iter().all(|f| f.verdict == Verdict::Supported));
        assert_eq!(page.csv[0].1.lines().count(), 1 + 6);
    }

    /// Where the tokens that are injected act, and not their share, the form that says so stands beside
    /// Equation 7.
    #[test]
    fn a_form_that_does_better_stands_beside_equation_7() {
        let mut runs = PLANTED.0.table(MAIN);
        runs.runs.retain(|run| run.domain == "near");
        for (i, run) in runs.runs.iter_mut().enumerate() {
            let values = [0.5, 0.1, 0.35, 0.45];
            let loss = ForgettingTimesTokens.predict(&(&run.row).into(), &values);
            run.loss_pt = Some(loss * (0.002 * (2.4 * i as f64).sin()).exp());
        }
        let bootstrap = Bootstrap { resamples: 50, ..Bootstrap::default() };
        let laws = Laws::fitted(&runs, &Options { bootstrap, ..Options::default() });
        let page = draw(&PLANTED.0, &laws).unwrap();
        assert_eq!(page.tables.len(), 3);
        assert_eq!(page.tables[2].rows[0][0], "near, forgetting-times-tokens");
        assert!(page.csv[0].1.contains("near,forgetting-times-tokens,converged,"));
        let drawing = (FIG6.draw)(&PLANTED.0, &laws).unwrap().drawing.unwrap();
        assert_eq!(drawing.panels.len(), 5);
        assert_eq!(drawing.rows[3], "another form of forgetting");
        let page = (FIG3.draw)(&PLANTED.0, &laws).unwrap();
        assert!(page.csv[1].1.contains(",forgetting-times-tokens,"));
    }

    #[test]
    fn noise_is_not_supported_and_a_missing_law_not_testable() {
        let mut runs = PLANTED.0.table(MAIN);
        runs.runs.retain(|run| run.domain == "near");
        for (i, run) in runs.runs.iter_mut().enumerate() {
            let noise = (2.4 * i as f64).sin();
            run.loss_ft = Some(2.0 + noise);
            run.loss_pt = Some(run.row.loss_pt0 * (1.2 + noise));
        }
        let options = Options { bootstrap: Bootstrap::NONE, ..Options::default() };
        let mut laws = Laws::fitted(&runs, &options);
        assert_eq!(fits(&laws, &Finetuning, "6").verdict, Verdict::NotSupported);
        assert_eq!(fits(&laws, &Forgetting, "7").verdict, Verdict::NotSupported);
        // Without resamples the error on all runs stands in the place of the bootstrapped one.
        let shown = &table(&laws, &Forgetting).rows[0][2];
        assert_eq!(*shown, error_percent(laws.0[0].forgetting.as_ref().unwrap().mre));
        let missing = || Err(Error::setting("runs", 3, "must be at least 5"));
        laws.0 = vec![DomainLaws {
            domain: "near".into(),
            forgetting: missing(),
            finetuning: missing(),
            other: None,
            unbounded: None,
        }];
        let page = draw(&PLANTED.0, &laws).unwrap();
        assert!(page.findings.iter().all(|f| f.verdict == Verdict::NotTestable));
        let note = "There is no finetuning law for near: runs = 3: must be at least 5.";
        assert!(page.notes.iter().any(|said| said == note), "{:?}", page.notes);
    }
}
