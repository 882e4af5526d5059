//! Table 4: predictions for the largest model with the most data, by laws fitted to smaller models and
//! less data.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, Tally};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::format::error_percent;
use crate::results::{Finetuned, Forecast, Laws, Plan, Preregistration, Registered, Results};
use forgetting_laws::Result;
use forgetting_laws::laws;
use forgetting_laws::table::Column;

/// Table 4.
pub const TABLE4: Figure = Figure {
    id: "table4",
    paper: "Table 4 (arXiv v2)",
    title: "Extrapolation to the largest model with the most data, pre-registered",
    blocks: &[MAIN],
    draw,
};

/// The laws with the paper's errors, and the loss of each with its name.
const PAPER: [(&str, f64, &str); 2] =
    [("finetuning", 0.0201, "finetuning"), ("forgetting", 0.0083, "pretraining")];

/// The paper extrapolates by 3.8 times in size and 10 times in data, over 12 domains. An error of up to
/// this many times the paper's counts as the same.
const TIMES: f64 = 2.0;

/// The required share of runs inside their 90% intervals. If 24 independent runs are each inside with
/// 90% probability, at least three quarters of them are inside in 99 of 100 cases; runs of one domain
/// share a law and are not independent.
const INSIDE: f64 = 0.75;

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let made;
    let (predictions, sealed) = match &results.preregistration {
        Some(preregistration) => (preregistration, true),
        None => {
            made = Plan::of(results).made_afterwards(results);
            (&made, false)
        }
    };
    let laws: Vec<Judged> = predictions
        .content
        .registered
        .iter()
        .map(|registered| Judged::of(registered, results))
        .collect();
    let mut findings: Vec<Finding> = PAPER
        .iter()
        .map(|&paper| error(&laws, paper, &how(predictions, sealed), results))
        .collect();
    findings.push(intervals(&laws, predictions.content.level));
    Ok(Page {
        drawing: None,
        csv: vec![("table4".into(), runs(&laws)), ("laws".into(), summary(&laws))],
        tables: vec![table(&laws)],
        findings,
        notes: notes(results, predictions, sealed, &laws),
    })
}

/// A prediction with the result of its run.
struct Case<'a> {
    forecast: &'a Forecast,
    /// The run, if it is finished.
    run: Option<&'a Finetuned>,
    /// Its loss at the bottom, in nats per token, if the run is not left out.
    observed: Option<f64>,
}

impl Case<'_> {
    fn inside(&self) -> Option<bool> {
        let prediction = &self.forecast.prediction;
        let observed = self.observed?;
        Some(prediction.low? <= observed && observed <= prediction.high?)
    }
}

/// A law's predictions with the results of their runs.
struct Judged<'a> {
    registered: &'a Registered,
    cases: Vec<Case<'a>>,
}

impl<'a> Judged<'a> {
    fn of(registered: &'a Registered, results: &'a Results) -> Self {
        let output = laws::by_name(&registered.law).map_or(Column::Loss, |law| law.output());
        let case = |forecast: &'a Forecast| {
            let finished = |run: &&Finetuned| run.record.id == forecast.run.run_id;
            let run = results.finetuned.iter().find(finished);
            let counted = run.filter(|run| run.left_out().is_none());
            Case { forecast, run, observed: counted.and_then(|run| run.run().get(output)) }
        };
        Self { registered, cases: registered.forecasts.iter().map(case).collect() }
    }
}

fn of_law<'a>(laws: &'a [Judged<'a>], law: &str) -> Vec<&'a Case<'a>> {
    laws.iter().filter(|judged| judged.registered.law == law).flat_map(|j| &j.cases).collect()
}

/// The mean of |L̂ − L| / L over the runs that are not left out; `None` if there are none.
fn mre<'a>(
    cases: impl IntoIterator<Item = &'a Case<'a>>,
    predicted: impl Fn(&Forecast) -> f64,
) -> Option<f64> {
    let error = |case: &Case| {
        let observed = case.observed?;
        Some((predicted(case.forecast) - observed).abs() / observed)
    };
    let errors: Vec<f64> = cases.into_iter().filter_map(error).collect();
    (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
}

/// The sum of |L̂ − L| over that of predicting no change: 0 for a perfect prediction. Of a law of L_pt this
/// is the error of its increase.
fn over_no_change<'a>(cases: impl IntoIterator<Item = &'a Case<'a>>) -> Option<f64> {
    let (mut missed, mut change) = (0.0, 0.0);
    for case in cases {
        if let Some(observed) = case.observed {
            missed += (value(case.forecast) - observed).abs();
            change += (no_change(case.forecast) - observed).abs();
        }
    }
    Some(missed / change).filter(|ratio| ratio.is_finite())
}

fn value(forecast: &Forecast) -> f64 {
    forecast.prediction.value
}

fn no_change(forecast: &Forecast) -> f64 {
    forecast.no_change
}

fn inside<'a>(cases: impl IntoIterator<Item = &'a Case<'a>>) -> Tally {
    Tally::count(cases.into_iter().filter_map(Case::inside))
}

/// One row per run and law.
fn runs(laws: &[Judged]) -> String {
    let mut csv = Csv::new([
        "domain",
        "law",
        "size",
        "n_params",
        "d_ft_tokens",
        "p",
        "run_id",
        "predicted",
        "low",
        "high",
        "law_low",
        "law_high",
        "no_change",
        "observed",
        "inside",
        "left_out",
    ]);
    let optional = |value: Option<f64>| value.map_or(String::new(), cell);
    for Judged { registered, cases } in laws {
        for case in cases {
            let Forecast { run, prediction, no_change } = case.forecast;
            let left_out = match case.run {
                None => "not_finished",
                Some(run) => run.left_out().map_or("", |why| why.name()),
            };
            csv.row([
                registered.domain.clone(),
                registered.law.clone(),
                run.size.clone(),
                run.n_params.to_string(),
                run.d_ft_tokens.to_string(),
                cell(run.p),
                run.run_id.to_string(),
                cell(prediction.value),
                optional(prediction.low),
                optional(prediction.high),
                optional(prediction.law_low),
                optional(prediction.law_high),
                cell(*no_change),
                optional(case.observed),
                case.inside().map_or(String::new(), |inside| inside.to_string()),
                left_out.into(),
            ]);
        }
    }
    csv.text()
}

/// One row per law.
fn summary(laws: &[Judged]) -> String {
    let mut csv = Csv::new([
        "domain",
        "law",
        "status",
        "fitted_runs",
        "predicted_runs",
        "counted_runs",
        "mre",
        "mre_no_change",
        "inside",
        "paper_mre",
    ]);
    for Judged { registered, cases } in laws {
        let tally = inside(cases);
        csv.row([
            registered.domain.clone(),
            registered.law.clone(),
            registered.status.clone(),
            registered.fitted_to.len().to_string(),
            cases.len().to_string(),
            tally.of.to_string(),
            mre(cases, value).map_or(String::new(), cell),
            mre(cases, no_change).map_or(String::new(), cell),
            tally.holds.to_string(),
            paper(&registered.law).map_or(String::new(), cell),
        ]);
    }
    csv.text()
}

fn paper(law: &str) -> Option<f64> {
    PAPER.iter().find(|(name, ..)| *name == law).map(|(_, error, _)| *error)
}

fn table(laws: &[Judged]) -> Table {
    let percent = |error: Option<f64>| error.map_or_else(|| "-".into(), error_percent);
    let row = |domain: &str, law: &str, status: &str, fitted: String, cases: &[&Case]| {
        let cases = || cases.iter().copied();
        vec![
            law.to_string(),
            domain.to_string(),
            fitted,
            status.to_string(),
            percent(mre(cases(), value)),
            percent(mre(cases(), no_change)),
            percent(paper(law)),
            inside(cases()).to_string(),
            percent(over_no_change(cases())),
        ]
    };
    let mut rows = Vec::new();
    for law in names(laws) {
        for Judged { registered, cases } in laws.iter().filter(|j| j.registered.law == law) {
            let fitted = registered.fitted_to.len().to_string();
            let cases: Vec<&Case> = cases.iter().collect();
            rows.push(row(&registered.domain, law, &registered.status, fitted, &cases));
        }
        rows.push(row("all", law, "", String::new(), &of_law(laws, law)));
    }
    let columns = [
        "law",
        "domain",
        "runs fitted",
        "status",
        "MRE",
        "MRE of no change",
        "MRE in the paper",
        "within the 90% interval",
        "error of the change",
    ];
    Table {
        caption: "Errors of predictions for the largest model with the most data. Predicting no \
                  change means L_pt⁰ or, for L_ft, the geometric mean of the fitted losses. The error \
                  of the change is the sum of the errors divided by that of predicting no change, so \
                  0% is perfect. The paper's MRE is over its domains, for 1.27B parameters and 30M \
                  tokens, with laws fitted to at most 334M and 3M."
            .into(),
        columns: columns.map(String::from).to_vec(),
        rows,
    }
}

/// The paper's laws, then the other laws that predict.
fn names<'a>(laws: &[Judged<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = PAPER.iter().map(|(law, ..)| *law).collect();
    for judged in laws {
        let name = judged.registered.law.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How the predictions were made.
fn how(predictions: &Preregistration, sealed: bool) -> String {
    if sealed {
        format!(
            "The predictions were pre-registered with the SHA-256 {}.",
            &predictions.sha256[..16]
        )
    } else {
        "The predictions were not pre-registered.".into()
    }
}

/// The finding about the paper's error of a law.
fn error(
    laws: &[Judged],
    (law, paper, loss): (&str, f64, &str),
    how: &str,
    results: &Results,
) -> Finding {
    let cases = of_law(laws, law);
    let claim = format!(
        "Fitted to models of up to 334M parameters on up to 3M tokens, the law predicts the {loss} \
         loss of a model of 1.27B parameters on 30M tokens with an MRE of {}, possibly an upper \
         bound",
        error_percent(paper)
    );
    let (own, unchanged) = (mre(cases.clone(), value), mre(cases.clone(), no_change));
    let (ours, verdict) = match (own, unchanged) {
        (Some(own), Some(unchanged)) => (
            format!(
                "The MRE is {} over {} runs, and {} for predicting no change. {} {how}",
                error_percent(own),
                inside(cases).of,
                error_percent(unchanged),
                reach(laws, law, results)
            ),
            Verdict::of(own <= TIMES * paper && own < unchanged),
        ),
        _ => ("No predicted run is finished and counts.".into(), Verdict::NotTestable),
    };
    let rule = format!(
        "the MRE is at most {TIMES} times the paper's, and smaller than that of predicting no change."
    );
    Finding { claim, source: "Table 4 (arXiv v2), reported".into(), ours, rule, verdict }
}

/// The range of the extrapolation, in a sentence.
fn reach(laws: &[Judged], law: &str, results: &Results) -> String {
    let Some(judged) = laws.iter().find(|judged| judged.registered.law == law) else {
        return String::new();
    };
    let is_fitted = |run: &&Finetuned| judged.registered.fitted_to.contains(&run.record.id);
    let most = |runs: &mut dyn Iterator<Item = &Finetuned>| {
        runs.fold((0, 0), |(n, d), run| (n.max(run.n_params()), d.max(run.d_ft_tokens)))
    };
    let fitted = most(&mut results.finetuned.iter().filter(is_fitted));
    let counted = of_law(laws, law).into_iter().filter(|case| case.observed.is_some());
    let to = most(&mut counted.filter_map(|case| case.run));
    let words = |(n, d): (u64, u64)| {
        let [n, d] = [n, d].map(|size| style::short(size as f64));
        format!("{n} parameters and {d} tokens")
    };
    format!(
        "The fitted runs have at most {}, and the predicted runs at most {}.",
        words(fitted),
        words(to)
    )
}

fn intervals(laws: &[Judged], level: f64) -> Finding {
    let level = style::percent(level);
    let tally = inside(laws.iter().flat_map(|judged| &judged.cases));
    let of = |law: &str| format!("{} for the {law} law", inside(of_law(laws, law)));
    let each: Vec<String> = names(laws).into_iter().map(of).collect();
    Finding {
        claim: format!("The {level} intervals of the predictions hold for new runs"),
        source: "not in the paper; the intervals are ours".into(),
        ours: match tally.of {
            0 => "No predicted run is finished and counts.".into(),
            _ => format!("{tally} losses lie within their intervals: {}.", style::list(&each)),
        },
        rule: format!(
            "at least {} of the losses lie within their intervals.",
            style::percent(INSIDE)
        ),
        verdict: tally.verdict(INSIDE),
    }
}

fn notes(
    results: &Results,
    predictions: &Preregistration,
    sealed: bool,
    laws: &[Judged],
) -> Vec<String> {
    let content = &predictions.content;
    let mut notes = vec![format!(
        "The rule of the predictions is: “{}” The objective of the fits is {}.",
        content.rule, content.objective
    )];
    notes.push(if sealed {
        format!(
            "The predictions were pre-registered: they were written before these runs started. The \
             SHA-256 of their content is {}.",
            predictions.sha256
        )
    } else {
        "The predictions were not pre-registered. They were made after these runs, but from the \
         same runs as predictions made before them would have been."
            .into()
    });
    let changed = predictions.changed(results);
    if !changed.is_empty() {
        notes.push(format!(
            "The predictions for {} were made from runs that are missing here or have other records.",
            style::list(&changed.into_iter().map(String::from).collect::<Vec<_>>())
        ));
    }
    let cases = || laws.iter().flat_map(|judged| &judged.cases);
    let waiting = cases().filter(|case| case.run.is_none()).count();
    let left_out = cases().filter(|case| case.run.is_some() && case.observed.is_none()).count();
    if waiting > 0 {
        notes.push(format!("{waiting} predictions are for runs that are not finished."));
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} predictions are for runs that are left out because they are unstable or \
             have no interior bottom."
        ));
    }
    let failed = laws.iter().filter(|judged| judged.registered.forecasts.is_empty());
    notes.extend(failed.map(|judged| {
        let Registered { domain, law, status, .. } = judged.registered;
        format!("The {law} law predicts nothing for {domain}: {status}.")
    }));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use crate::results::Withheld;
    use forgetting_laws::run::RunId;

    /// The runs that are predicted.
    fn withheld(results: &Results) -> Vec<RunId> {
        let runs = Withheld::all(results, Plan::of(results).corner);
        runs.into_iter().map(|run| run.run_id).collect()
    }

    fn verdicts(page: &Page) -> Vec<Verdict> {
        page.findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn planted_laws_extrapolate() {
        let page = golden::page(&TABLE4);
        assert_eq!(verdicts(&page), [Verdict::Supported; 3]);
        let ours = &page.findings[0].ours;
        assert!(ours.contains("pre-registered with the SHA-256"));
        assert!(
            ours.contains(
                "have at most 108K parameters and 12.8K tokens, and the predicted runs at most 329K \
                 parameters and 41K tokens."
            ),
            "{ours}"
        );
        assert!(page.notes[1].starts_with("The predictions were pre-registered"));
        // Three domains and all of them, for each law.
        let rows = &page.tables[0].rows;
        assert_eq!(rows.len(), 8);
        assert!(rows.iter().all(|row| row.len() == page.tables[0].columns.len()));
        assert_eq!((rows[3][1].as_str(), rows[3][6].as_str()), ("all", "2.01%"));
        assert_eq!(rows[7][6], "0.830%");
    }

    /// What stands in the table is what its words say.
    #[test]
    fn errors_are_means_over_the_counted_runs() {
        let results = &PLANTED.0;
        let registered = &results.preregistration.as_ref().unwrap().content.registered[1];
        let judged = Judged::of(registered, results);
        let (mut relative, mut missed, mut risen) = (0.0, 0.0, 0.0);
        for forecast in &registered.forecasts {
            let id = &forecast.run.run_id;
            let run = results.finetuned.iter().find(|run| run.record.id == *id).unwrap();
            let loss = run.bottom().unwrap().loss_pt;
            relative += (forecast.prediction.value / loss - 1.0).abs();
            missed += (forecast.prediction.value - loss).abs();
            risen += loss - forecast.no_change;
        }
        assert!((mre(&judged.cases, value).unwrap() - relative / 4.0).abs() < 1e-15);
        assert!((over_no_change(&judged.cases).unwrap() - missed / risen).abs() < 1e-15);
        assert_eq!(over_no_change(&judged.cases[..0]), None);
    }

    #[test]
    fn surprising_runs_are_not_supported() {
        let mut results = PLANTED.0.clone();
        let withheld = withheld(&results);
        for run in results.finetuned.iter_mut().filter(|r| withheld.contains(&r.record.id)) {
            for evaluation in &mut run.record.evaluations {
                evaluation.loss_ft *= 1.1;
            }
        }
        let page = draw(&results, &PLANTED.1).unwrap();
        // Of the finetuning law's twelve none is inside any more.
        let expected = [Verdict::NotSupported, Verdict::Supported, Verdict::NotSupported];
        assert_eq!(verdicts(&page), expected);
        assert!(page.findings[2].ours.contains("0 of 12 for the finetuning law"));
    }

    #[test]
    fn without_registration_the_laws_are_fitted_all_the_same() {
        let mut results = PLANTED.0.clone();
        results.preregistration = None;
        results.finetuned.retain(|run| run.domain == "far");
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.findings[0].ours.contains("not pre-registered"));
        assert!(page.notes[1].starts_with("The predictions were not pre-registered"));
        assert_eq!(page.findings[0].verdict, Verdict::Supported);
        assert_eq!(page.tables[0].rows[1][7], "4 of 4");
        results.finetuned.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert_eq!(verdicts(&page), [Verdict::NotTestable; 3]);
    }

    #[test]
    fn runs_that_wait_or_do_not_count_are_said() {
        let mut results = PLANTED.0.clone();
        let withheld = withheld(&results);
        results.finetuned.retain(|run| run.record.id != withheld[0]);
        let run = results.finetuned.iter_mut().find(|run| run.record.id == withheld[1]).unwrap();
        run.record.evaluations.truncate(3);
        let page = draw(&results, &PLANTED.1).unwrap();
        let said = |what: &str| page.notes.iter().any(|note| note.starts_with(what));
        assert!(said("2 predictions are for runs that are not finished"), "{:?}", page.notes);
        assert!(said("2 predictions are for runs that are left out"), "{:?}", page.notes);
        assert!(page.csv[0].1.contains("not_finished") && page.csv[0].1.contains("bottom_at_end"));
        assert!(page.findings[2].ours.contains("of 20 losses"));
    }
}
