//! Beyond the paper: the laws with N counted with and without the embeddings.
//!
//! The published sizes include the embeddings. In a small model the embeddings are a large part of the
//! parameters, so the two counts are not proportional.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, short};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::format::{error_percent, significant, status};
use crate::results::{Finetuned, Laws, Results};
use forgetting_laws::fit::{Comparison, Fit, HoldOut, Options, compare};
use forgetting_laws::table::Run;
use forgetting_laws::{Result, table};

/// Fits with both counts of N.
pub const COUNTING: Figure = Figure {
    id: "counting",
    paper: "beyond the paper",
    title: "The laws with N counted with and without embeddings",
    blocks: &[MAIN],
    draw,
};

const COUNTS: [&str; 2] = ["with embeddings", "without"];

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let options = Options {
        bootstrap: laws.bootstrap(),
        hold_out: Some(HoldOut::Size),
        misfit: false,
        ..Options::default()
    };
    let without = Laws::fitted(&without_embeddings(results), &options);
    let pairs = pairs(laws, &without);
    let mut notes = style::notes(results, &[MAIN]);
    notes.extend(laws.missing());
    notes.extend(ranges(&pairs));
    Ok(Page {
        csv: vec![("counting".into(), fits(&pairs))],
        tables: vec![table(&pairs, "finetuning", "E"), table(&pairs, "forgetting", "B")],
        findings: vec![
            alike(&pairs, "finetuning", "Equation 6"),
            alike(&pairs, "forgetting", "Equation 7"),
        ],
        notes,
        ..Page::default()
    })
}

/// The runs of the fits, with the other count of N.
fn without_embeddings(results: &Results) -> table::Table {
    let counted = results.block(MAIN).filter(|run| run.left_out().is_none());
    let run = |finetuned: &Finetuned| {
        let mut run: Run = finetuned.run();
        run.row.n_params = finetuned.count().non_embedding as f64;
        run
    };
    table::Table::new(counted.map(run).collect())
}

/// One law of one domain with both counts.
struct Pair<'a> {
    fits: [&'a Fit; 2],
    /// The difference of the held-out errors, the first count minus the second, if runs were held out.
    comparison: Option<Comparison>,
}

fn pairs<'a>(with: &'a Laws, without: &'a Laws) -> Vec<Pair<'a>> {
    let of = |fit: &'a Fit| {
        let same = |other: &&Fit| other.domain == fit.domain && other.law.name() == fit.law.name();
        let other = without.fits().find(same)?;
        let comparison = compare(&[fit.clone(), other.clone()]).into_iter().next();
        Some(Pair { fits: [fit, other], comparison })
    };
    with.fits().filter_map(of).collect()
}

/// One row per law, domain and count.
fn fits(pairs: &[Pair]) -> String {
    let mut csv = Csv::new([
        "domain",
        "law",
        "n_counts",
        "n_params_min",
        "n_params_max",
        "parameter",
        "value",
        "low",
        "high",
        "status",
        "mre",
        "rise_error",
        "held_out_mre",
        "held_out_rise_error",
    ]);
    let optional = |value: Option<f64>| value.map_or(String::new(), cell);
    for pair in pairs {
        for (fit, count) in pair.fits.into_iter().zip(COUNTS) {
            let (low, high) = fit.range(table::Column::NParams);
            let held_out = fit.held_out.as_ref().map(|held_out| held_out.errors);
            for param in &fit.params.0 {
                csv.row([
                    fit.domain.clone(),
                    fit.law.name().into(),
                    count.into(),
                    cell(low),
                    cell(high),
                    param.name.clone(),
                    cell(param.value),
                    optional(param.low),
                    optional(param.high),
                    status(fit.status).into(),
                    cell(fit.mre),
                    cell(fit.rise_error),
                    optional(held_out.map(|errors| errors.mre)),
                    optional(held_out.map(|errors| errors.rise_error)),
                ]);
            }
        }
    }
    csv.text()
}

/// Both counts of one law side by side; `last` is the parameter that is shown next to α.
fn table(pairs: &[Pair], law: &str, last: &str) -> Table {
    let value = |fit: &Fit, name: &str| {
        let Some(param) = fit.params.get(name) else { return "-".into() };
        let digits = |value: f64| significant(value, 3);
        match param.low.zip(param.high) {
            Some((low, high)) => {
                format!("{} [{}, {}]", digits(param.value), digits(low), digits(high))
            }
            None => digits(param.value),
        }
    };
    let row = |fit: &Fit, count: &str| {
        vec![
            fit.domain.clone(),
            count.to_string(),
            value(fit, "alpha"),
            value(fit, "beta"),
            value(fit, last),
            error_percent(fit.mre),
            fit.mre_held_out.map_or_else(|| "-".into(), error_percent),
            status(fit.status).into(),
        ]
    };
    let of_law = pairs.iter().filter(|pair| pair.fits[0].law.name() == law);
    Table {
        caption: format!("The {law} law with both counts of N."),
        columns: ["domain", "N", "α", "β", last, "MRE", "MRE, sizes held out", "status"]
            .map(String::from)
            .to_vec(),
        rows: of_law
            .flat_map(|pair| pair.fits.into_iter().zip(COUNTS))
            .map(|(fit, count)| row(fit, count))
            .collect(),
    }
}

/// The difference of the two counts.
fn ranges(pairs: &[Pair]) -> Option<String> {
    let [(a, b), (c, d)] = pairs.first()?.fits.map(|fit| fit.range(table::Column::NParams));
    Some(format!(
        "N is {} to {} with the embeddings, and {} to {} without.",
        short(a),
        short(b),
        short(c),
        short(d)
    ))
}

fn alike(pairs: &[Pair], law: &str, equation: &str) -> Finding {
    let compared: Vec<&Comparison> = pairs
        .iter()
        .filter(|pair| pair.fits[0].law.name() == law)
        .filter_map(|pair| pair.comparison.as_ref())
        .collect();
    let word = |(i, comparison): (usize, &&Comparison)| {
        let points = |share: f64| format!("{:+.2}", 100.0 * share);
        let interval = comparison.interval;
        format!(
            "{}{} [{}, {}] in {}",
            points(comparison.difference),
            if i == 0 { " points" } else { "" },
            points(interval.low),
            points(interval.high),
            comparison.domain
        )
    };
    let words: Vec<_> = compared.iter().enumerate().map(word).collect();
    let same = |comparison: &&Comparison| {
        let interval = comparison.interval;
        Verdict::of(interval.low <= 0.0 && 0.0 <= interval.high)
    };
    Finding {
        claim: format!("{equation} predicts equally well with either count of N"),
        source: "not in the paper; that its N counts the embeddings is inferred from its sizes"
            .into(),
        ours: style::about(&words, "No size could be held out with both counts.", |words| {
            format!(
                "Counting the embeddings changes the MRE on held-out sizes by {words}. Where this is \
                 below 0, the law predicts better with the embeddings."
            )
        }),
        rule: "the interval of the change, from a paired bootstrap over the runs, contains 0 in every \
               domain."
            .into(),
        verdict: style::all(compared.iter().map(same)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    /// The planted runs follow the count with embeddings, and the other bends their lines.
    #[test]
    fn the_planted_count_is_told_from_the_other() {
        let page = golden::page(&COUNTING);
        assert_eq!(page.tables.iter().map(|t| t.rows.len()).collect::<Vec<_>>(), [6, 6]);
        assert!(page.tables.iter().all(|t| t.rows.iter().all(|r| r.len() == t.columns.len())));
        let n = page.notes.last().unwrap();
        assert_eq!(n, "N is 14.4K to 329K with the embeddings, and 6.22K to 296K without.");
        assert_eq!(page.findings.len(), 2);
        for finding in &page.findings {
            assert_eq!(finding.verdict, Verdict::NotSupported, "{}", finding.ours);
        }
    }

    #[test]
    fn counts_that_are_proportional_are_alike() {
        let (results, laws) = &*PLANTED;
        let mut table = results.table(MAIN);
        for run in &mut table.runs {
            run.row.n_params *= 0.5;
        }
        let options = Options { bootstrap: laws.bootstrap(), misfit: false, ..Options::default() };
        let half = Laws::fitted(&table, &options);
        let pairs = pairs(laws, &half);
        assert_eq!(pairs.len(), 6);
        assert_eq!(alike(&pairs, "forgetting", "").verdict, Verdict::Supported);
        assert_eq!(alike(&[], "forgetting", "").verdict, Verdict::NotTestable);
    }

    #[test]
    fn the_other_count_is_of_the_same_runs() {
        let results = &PLANTED.0;
        let (with, without) = (results.table(MAIN), without_embeddings(results));
        assert_eq!(with.runs.len(), without.runs.len());
        for (a, b) in with.runs.iter().zip(&without.runs) {
            assert!(b.row.n_params < a.row.n_params);
            assert_eq!((&a.run, a.loss_pt, a.loss_ft), (&b.run, b.loss_pt, b.loss_ft));
        }
    }
}
