//! Table 2: the coefficients of both laws in every domain.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::format::{objective, significant, status};
use crate::results::{Laws, Results, distinct};
use forgetting_laws::Result;
use forgetting_laws::fit::{Fit, Interval, Param, Status};
use forgetting_laws::laws::Forgetting;

/// Table 2. The content of the paper's is unknown; it probably has coefficients.
pub const TABLE2: Figure = Figure {
    id: "table2",
    paper: "Table 2 (arXiv v2; what it holds there is not known)",
    title: "Coefficients of both laws",
    blocks: &[MAIN],
    draw,
};

/// The paper's B in the only two domains for which it is known.
const PAPER: [(&str, f64); 2] = [("dm_mathematics", 1e4), ("wikipedia", 829.0)];

/// The index of B among the forgetting law's parameters.
const B: usize = 1;

/// The p at which sizes are compared.
const P: f64 = 0.01;

/// Injection acts like a larger model if 1 + B·p at p = 1% is at least this.
const LARGER: f64 = 1.1;

/// The smallest exponent that counts: with it, a factor of ten changes forgetting by 5%.
const EXPONENT: f64 = 0.02;

/// Two values of B are of the same order if neither is more than this many times the other.
const ORDER: f64 = 10.0;

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let mut findings = vec![as_if_larger(laws), exponents(laws)];
    findings.extend(PAPER.map(|(domain, b)| papers(laws, domain, b)));
    let mut notes = style::notes(results, &[MAIN]);
    notes.extend(laws.missing());
    if let Some(fit) = laws.fits().next() {
        let level = style::percent(laws.bootstrap().level);
        let resamples = laws.bootstrap().resamples;
        notes.push(format!(
            "The objective of the fits is {}. Brackets hold {level} intervals from {resamples} \
             resamples of the runs.",
            objective(&fit.minimised)
        ));
    }
    Ok(Page {
        csv: vec![("table2".into(), coefficients(laws))],
        tables: vec![forgetting(laws), finetuning(laws)],
        findings,
        notes,
        ..Page::default()
    })
}

/// One row per parameter.
fn coefficients(laws: &Laws) -> String {
    let columns = ["domain", "law", "parameter", "value", "low", "high", "status", "n_runs"];
    let mut csv = Csv::new(columns);
    let optional = |value: Option<f64>| value.map_or(String::new(), cell);
    for fit in laws.fits() {
        for param in &fit.params.0 {
            csv.row([
                fit.domain.clone(),
                fit.law.name().into(),
                param.name.clone(),
                cell(param.value),
                optional(param.low),
                optional(param.high),
                status(fit.status).into(),
                fit.n_runs.to_string(),
            ]);
        }
    }
    csv.text()
}

/// A number with its interval: `0.35 [0.33, 0.37]`.
fn with_interval(value: f64, ends: Option<(f64, f64)>) -> String {
    let value = significant(value, 3);
    match ends {
        Some((low, high)) => {
            format!("{value} [{}, {}]", significant(low, 3), significant(high, 3))
        }
        None => value,
    }
}

/// The parameters of a fit as text, in the law's order.
fn values(fit: &Fit) -> Vec<String> {
    let of = |param: &Param| with_interval(param.value, param.low.zip(param.high));
    fit.params.0.iter().map(of).collect()
}

/// (1 + B·p) of a forgetting law, with its interval.
fn effective(fit: &Fit) -> (f64, Option<Interval>) {
    let times = |b: f64| Forgetting::effective_size(b, P, 1.0);
    let resampled = fit.bootstrap.as_ref();
    let interval = resampled.map(|resampled| resampled.interval_of(|values| times(values[B])));
    (times(fit.values()[B]), interval)
}

/// The fitted forgetting laws.
fn forgetting_fits(laws: &Laws) -> impl Iterator<Item = &Fit> {
    laws.0.iter().filter_map(|laws| laws.forgetting.as_ref().ok())
}

fn forgetting(laws: &Laws) -> Table {
    let row = |fit: &Fit| {
        let (times, interval) = effective(fit);
        let mut row = vec![fit.domain.clone(), fit.n_runs.to_string()];
        row.extend(values(fit));
        row.push(with_interval(times, interval.map(|i| (i.low, i.high))));
        row.push(status(fit.status).into());
        row
    };
    let paper = |(domain, b): (&str, f64)| {
        let unknown = || "-".to_string();
        let times = significant(Forgetting::effective_size(b, P, 1.0), 3);
        let b = significant(b, 3);
        let domain = format!("{domain}, the paper");
        vec![domain, unknown(), unknown(), b, unknown(), unknown(), times, unknown()]
    };
    let columns = ["domain", "runs", "A", "B", "α", "β", "1 + B·p at p = 1%", "status"];
    Table {
        caption: "Forgetting: L_pt = L_pt⁰ + A · D_ft^β / ((1 + B·p) · N)^α.".into(),
        columns: columns.map(String::from).to_vec(),
        rows: forgetting_fits(laws).map(row).chain(PAPER.map(paper)).collect(),
    }
}

fn finetuning(laws: &Laws) -> Table {
    let row = |fit: &Fit| {
        let mut row = vec![fit.domain.clone(), fit.n_runs.to_string()];
        row.extend(values(fit));
        row.push(status(fit.status).into());
        row
    };
    Table {
        caption: "Finetuning: L_ft = A / (N^α · D_ft^β) + E.".into(),
        columns: ["domain", "runs", "A", "α", "β", "E", "status"].map(String::from).to_vec(),
        rows: laws.0.iter().filter_map(|laws| laws.finetuning.as_ref().ok()).map(row).collect(),
    }
}

/// Whether a fit's parameters can be trusted.
fn known(fit: &Fit) -> bool {
    matches!(fit.status, Status::Converged | Status::AtBound) && fit.bootstrap.is_some()
}

/// The verdict over all domains; not testable if a domain has no fit that can be trusted.
fn verdict(laws: &Laws, holds: impl Fn(&Fit) -> bool) -> Verdict {
    style::all(laws.0.iter().map(|laws| match &laws.forgetting {
        Ok(fit) if known(fit) => Verdict::of(holds(fit)),
        _ => Verdict::NotTestable,
    }))
}

/// A sentence about one property of every forgetting law.
fn each(laws: &Laws, of: impl Fn(&Fit) -> String, sentence: fn(String) -> String) -> String {
    let word = |fit: &Fit| format!("{} in {}", of(fit), fit.domain);
    let words: Vec<_> = forgetting_fits(laws).map(word).collect();
    if words.is_empty() {
        return "No forgetting law could be fitted.".into();
    }
    // Intervals have commas of their own.
    sentence(words.join("; "))
}

fn as_if_larger(laws: &Laws) -> Finding {
    let factor = |fit: &Fit| {
        let (times, interval) = effective(fit);
        with_interval(times, interval.map(|i| (i.low, i.high)))
    };
    Finding {
        claim: "Injecting a fraction p acts as if the model were 1 + B·p times as large".into(),
        source: "Equation 7 (arXiv v2), reported".into(),
        ours: each(laws, factor, |words| {
            format!("At p = 1% the factor 1 + B·p is, with its interval in brackets, {words}.")
        }),
        rule: format!(
            "the lower end of the interval of 1 + B·p at p = 1% is at least {LARGER} in every domain."
        ),
        verdict: verdict(laws, |fit| effective(fit).1.is_some_and(|i| i.low >= LARGER)),
    }
}

fn exponents(laws: &Laws) -> Finding {
    let of = |fit: &Fit, name: &str| {
        fit.params
            .get(name)
            .map_or_else(String::new, |param| with_interval(param.value, param.low.zip(param.high)))
    };
    let low = |fit: &Fit, name: &str| fit.params.get(name).and_then(|param| param.low);
    Finding {
        claim: "\"Forgetting is more severe when the model is small and when the finetuning \
                dataset is big\", by the exponents of the law"
            .into(),
        source: "quoted".into(),
        ours: each(
            laws,
            |fit| format!("α = {} and β = {}", of(fit, "alpha"), of(fit, "beta")),
            |words| format!("With their intervals in brackets, the exponents are {words}."),
        ),
        rule: format!(
            "the lower ends of the intervals of α and β are at least {EXPONENT} in every domain."
        ),
        verdict: verdict(laws, |fit| {
            ["alpha", "beta"].iter().all(|name| low(fit, name).is_some_and(|low| low >= EXPONENT))
        }),
    }
}

/// One of the paper's two known coefficients, if the grid has its domain.
fn papers(laws: &Laws, domain: &str, b: f64) -> Finding {
    let bare = |name: &str| {
        name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
    };
    let fit = forgetting_fits(laws).find(|fit| bare(&fit.domain) == bare(domain));
    let (ours, verdict) = match fit {
        Some(fit) => {
            let verdict = if known(fit) {
                Verdict::of((b / ORDER..=b * ORDER).contains(&fit.values()[B]))
            } else {
                Verdict::NotTestable
            };
            (format!("Here B is {}.", values(fit)[B]), verdict)
        }
        None => {
            let found = distinct(forgetting_fits(laws).map(|fit| fit.values()[B]));
            let range = found.first().zip(found.last()).map_or_else(String::new, |(low, high)| {
                let (low, high) = (significant(*low, 3), significant(*high, 3));
                format!(" In the domains that it has, B ranges from {low} to {high}.")
            });
            (format!("The grid has no domain {domain}.{range}"), Verdict::NotTestable)
        }
    };
    Finding {
        claim: format!(
            "B is about {} for {domain}, so that at p = 1% a model acts as if it were {} times as \
             large",
            significant(b, 3),
            significant(Forgetting::effective_size(b, P, 1.0), 3)
        ),
        source: "reported by one reader".into(),
        ours,
        rule: format!("B of the same domain is within a factor of {ORDER} of the reported value."),
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use forgetting_laws::fit::{Bootstrap, Options};
    use forgetting_laws::laws::Law;

    #[test]
    fn planted_coefficients_are_found() {
        assert_eq!(Forgetting.parameters()[B].name, "B");
        let page = golden::page(&TABLE2);
        let [forgetting, finetuning] = &page.tables[..] else { panic!("two tables") };
        assert_eq!((forgetting.rows.len(), finetuning.rows.len()), (3 + PAPER.len(), 3));
        assert!(page.tables.iter().all(|t| t.rows.iter().all(|r| r.len() == t.columns.len())));
        assert_eq!(forgetting.rows[4][..4], ["wikipedia, the paper", "-", "-", "829"]);
        assert_eq!((&*forgetting.rows[3][6], &*forgetting.rows[4][6]), ("101", "9.29"));
        // Planted: 20 near the pretraining data, 120, and 600 far from it.
        for (laws, planted) in PLANTED.1.0.iter().zip([600.0, 120.0, 20.0]) {
            let param = laws.forgetting.as_ref().unwrap().params.get("B").unwrap().clone();
            assert!((param.value / planted - 1.0).abs() < 0.2, "{}: {}", laws.domain, param.value);
        }
        let verdicts: Vec<_> = page.findings.iter().map(|finding| finding.verdict).collect();
        use Verdict::{NotTestable, Supported};
        assert_eq!(verdicts, [Supported, Supported, NotTestable, NotTestable]);
        assert!(page.findings[2].ours.contains("no domain dm_mathematics"));
    }

    #[test]
    fn the_papers_domains_are_compared_where_they_are() {
        let laws = |scale: f64| {
            let mut table = PLANTED.0.table(MAIN);
            table.runs.retain(|run| run.domain == "far");
            for run in &mut table.runs {
                run.domain = "DM Mathematics".into();
                run.row.p *= scale;
            }
            let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
            let options = Options { bootstrap, hold_out: None, ..Options::default() };
            Laws::fitted(&table, &options)
        };
        // With p a tenth of what it was, B of 600 becomes 6,000.
        for (scale, verdict) in [(0.1, Verdict::Supported), (1.0, Verdict::NotSupported)] {
            let finding = papers(&laws(scale), "dm_mathematics", 1e4);
            assert_eq!(finding.verdict, verdict, "{}", finding.ours);
            assert!(finding.ours.starts_with("Here B is "));
        }
    }

    /// What is the same at every p, N or D_ft has no effect that could be found.
    #[test]
    fn no_effect_is_not_supported() {
        let mut table = PLANTED.0.table(MAIN);
        for run in &mut table.runs {
            run.loss_pt = Some(run.row.loss_pt0 + 0.5);
        }
        let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
        let options = Options { bootstrap, hold_out: None, ..Options::default() };
        let laws = Laws::fitted(&table, &options);
        for finding in [as_if_larger(&laws), exponents(&laws)] {
            assert_ne!(finding.verdict, Verdict::Supported, "{}", finding.ours);
        }
        let none = Laws(Vec::new());
        assert_eq!(exponents(&none).verdict, Verdict::NotTestable);
    }
}
