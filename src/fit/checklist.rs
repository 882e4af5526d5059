//! A checklist from the literature: what a reader must know about a fitted scaling law to judge it.
//!
//! Li et al. ("(Mis)Fitting: A Survey of Scaling Laws", ICLR 2025) found that most papers leave out
//! what is needed to repeat or trust a fit, and ask four groups of questions: about the hypothesis,
//! the training, the collection of the data and the fitting. Here they are in our words. A
//! [`Checklist`] takes answers from the fits where possible; the author of the table can state the
//! rest.

use super::objective::{Penalty, Space};
use super::{Fit, HoldOut};
use crate::table::{Column, Table};
use crate::warning::{Warning, WarningKind};
use crate::words::counted;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A question of the checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Its name in a file of answers.
    pub id: &'static str,
    /// The part of the work it is about.
    pub about: &'static str,
    /// The question.
    pub question: &'static str,
}

const fn item(id: &'static str, about: &'static str, question: &'static str) -> Item {
    Item { id, about, question }
}

/// Every question, in the order of the work.
pub const ITEMS: [Item; 19] = [
    item("form", "hypothesis", "Which equations are fitted?"),
    item("variables", "hypothesis", "Which variables do they have, and in which units?"),
    item("parameters", "hypothesis", "Which parameters are fitted?"),
    item("assumptions", "hypothesis", "What is assumed and not tested?"),
    item("models", "training", "How many models were trained, of which sizes?"),
    item("data", "training", "On which data, and how much?"),
    item("repetition", "training", "How often is data repeated?"),
    item("count_n", "training", "How is N counted: with embeddings or without?"),
    item("count_d", "training", "How is D counted: unique tokens or all?"),
    item("compute", "training", "How is compute counted?"),
    item("hyperparameters", "training", "How do the hyper-parameters follow the scale?"),
    item("checkpoints", "collection", "Which checkpoints are used: final or intermediate?"),
    item("averaging", "collection", "Are losses averaged or smoothed, over what?"),
    item("objective", "fitting", "What is minimised?"),
    item("algorithm", "fitting", "By which algorithm, from which starts?"),
    item("dropped", "fitting", "Which data points are left out?"),
    item("validation", "fitting", "How is the fit validated?"),
    item("intervals", "fitting", "How are intervals found?"),
    item("public", "fitting", "Are data and code public?"),
];

/// The source of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The table and the options of the fit.
    Fit,
    /// The author of the table.
    Stated,
    /// None: the answer is empty.
    NotStated,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The question's [`Item::id`].
    pub id: String,
    /// The question.
    pub question: String,
    /// The answer; empty where there is none.
    pub answer: String,
    /// Its source.
    pub source: Source,
}

/// The checklist, answered as far as it can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checklist(pub Vec<Answer>);

impl Checklist {
    /// The answers from the fits of one table, which are assumed to have the same options.
    pub fn of_fits(fits: &[&Fit]) -> Self {
        let answer = |item: &Item| {
            let answer = fits.first().and_then(|first| known(item.id, fits, first));
            Answer {
                id: item.id.into(),
                question: item.question.into(),
                source: if answer.is_some() { Source::Fit } else { Source::NotStated },
                answer: answer.unwrap_or_default(),
            }
        };
        Self(ITEMS.iter().map(answer).collect())
    }

    /// Adds the answer of the table's author, after the answer from the fits, if there is one.
    ///
    /// # Errors
    /// If there is no such question.
    pub fn state(&mut self, id: &str, answer: &str) -> Result<()> {
        let Some(entry) = self.0.iter_mut().find(|entry| entry.id == id) else {
            let names: Vec<_> = ITEMS.iter().map(|item| item.id).collect();
            let requirement = format!("must be one of {}", names.join(", "));
            return Err(Error::setting("item of the checklist", id, requirement));
        };
        let answer = answer.trim();
        if answer.is_empty() {
            return Ok(());
        }
        entry.answer = match entry.source {
            Source::Fit => format!("{}; stated: {answer}", entry.answer),
            Source::Stated | Source::NotStated => {
                entry.source = Source::Stated;
                answer.into()
            }
        };
        Ok(())
    }

    /// Answers which rows of a table were left out of its fits. `tables` are the groups that were
    /// fitted, by the name that their fits have, `filters` the conditions that their rows satisfy, and
    /// `warnings` those about the file.
    pub fn dropped(
        &mut self,
        fits: &[&Fit],
        tables: &[(String, Table)],
        filters: &[String],
        warnings: &[Warning],
    ) {
        let mut parts = Vec::new();
        if !filters.is_empty() {
            parts.push(format!("rows that do not satisfy {}", filters.join(" and ")));
        }
        let repeated = warnings.iter().filter(|warning| warning.kind == WarningKind::RepeatedRows);
        parts.extend(repeated.map(|warning| warning.message.clone()));
        for loss in [Column::LossPt, Column::LossFt, Column::Loss] {
            let (mut without, mut all) = (0, 0);
            for (domain, table) in tables {
                let of = |fit: &&&Fit| fit.domain == *domain && fit.law.output() == loss;
                if let Some(fit) = fits.iter().find(of) {
                    all += table.runs.len();
                    without += table.runs.len().saturating_sub(fit.n_rows);
                }
            }
            if without > 0 {
                parts.push(format!("{without} of {all} rows, which have no {loss}"));
            }
        }
        for (domain, table) in tables {
            if fits.iter().all(|fit| fit.domain != *domain) {
                let rows = table.runs.len();
                parts.push(format!("{domain}, to whose {rows} rows no law could be fitted"));
            }
        }
        let answer = if parts.is_empty() { "none".into() } else { parts.join("; ") };
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.id == "dropped") {
            (entry.answer, entry.source) = (answer, Source::Fit);
        }
    }

    /// The number of questions with an answer.
    pub fn answered(&self) -> usize {
        self.0.iter().filter(|entry| entry.source != Source::NotStated).count()
    }
}

/// The answer of fits to a question.
fn known(id: &str, fits: &[&Fit], first: &Fit) -> Option<String> {
    match id {
        "form" => Some(each(fits, "; ", |fit| vec![fit.equation.clone()])),
        "variables" => Some(each(fits, ", ", |fit| {
            let inputs = fit.law.inputs().iter().map(|input| described(input.column));
            std::iter::once(described(fit.law.output())).chain(inputs).collect()
        })),
        "parameters" => Some(each(fits, "; ", |fit| {
            let names: Vec<_> = fit.params.0.iter().map(|param| param.name.as_str()).collect();
            vec![format!("{}: {}", fit.law.name(), names.join(", "))]
        })),
        "assumptions" => {
            let untested = |fit: &Fit| {
                let is_assumed = |warning: &&Warning| UNTESTED.contains(&warning.kind);
                fit.warnings.iter().filter(is_assumed).map(|w| w.message.clone()).collect()
            };
            let spread = |fit: &Fit| {
                let spread = fit.model_spread.filter(|_| fit.law.output() == Column::LossPt);
                let text = |spread: f64| {
                    let percent = super::card::brief(100.0 * spread);
                    format!("pretrained models of one size differ by {percent}% in the increase")
                };
                spread.map(text).into_iter().collect()
            };
            let known = [each(fits, "; ", untested), each(fits, "; ", spread)];
            let known = known.into_iter().filter(|text| !text.is_empty());
            let always = "no parameter is below 0".to_string();
            Some(std::iter::once(always).chain(known).collect::<Vec<_>>().join("; "))
        }
        "models" => Some(models(fits)),
        "checkpoints" => {
            // Other rows of the same runs, or other runs.
            let several = fits.iter().filter(|fit| fit.n_rows > fit.n_runs);
            Some(match several.max_by_key(|fit| fit.n_rows) {
                Some(Fit { n_rows, n_runs, .. }) => {
                    format!("several of a run: {n_rows} rows of {n_runs} runs")
                }
                None => "one of each run".into(),
            })
        }
        "data" => {
            let tokens = |column| {
                let of = |fit: &Fit| {
                    if fit.law.reads(column) { values(fit, column) } else { Vec::new() }
                };
                let found = each(fits, ", ", of);
                (!found.is_empty()).then(|| format!("{column} = {found}"))
            };
            let both = [Column::DFtTokens, Column::DTokens].into_iter().filter_map(tokens);
            Some(both.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
        }
        "repetition" => {
            let epochs = || fits.iter().flat_map(|fit| &fit.rows).filter_map(|row| row.epochs);
            let (low, high) = (epochs().reduce(f64::min)?, epochs().reduce(f64::max)?);
            let brief = super::card::brief;
            Some(format!("the target data is passed over {} to {} times", brief(low), brief(high)))
        }
        "objective" => {
            let space = match first.minimised.space {
                Space::Log => "log losses",
                Space::Raw => "raw losses",
            };
            Some(match first.minimised.penalty {
                Penalty::Huber(delta) => {
                    format!("the sum of Huber penalties, delta = {delta}, of {space}")
                }
                Penalty::Squared => format!("the sum of squares of {space}"),
                Penalty::Absolute => format!("the sum of absolute errors of {space}"),
            })
        }
        "algorithm" => Some(format!(
            "descents with analytic derivatives from {} starts chosen on a grid over the whole domain of \
             the parameters, and from {} places near the best minimum",
            first.restarts.started, first.restarts.started_nearby
        )),
        "validation" => first.held_out.as_ref().map(|held_out| {
            let by = match held_out.by {
                HoldOut::Size => "each size in turn",
                HoldOut::Data => "each amount of data in turn",
                HoldOut::P => "each p in turn",
                HoldOut::Largest => "the largest size with the most data",
            };
            format!("{by} is held out, beside two baselines")
        }),
        "intervals" => first.bootstrap.as_ref().map(|resampled| {
            format!(
                "{} resamples of runs, {}% intervals",
                resampled.resamples,
                super::card::brief(100.0 * resampled.level)
            )
        }),
        _ => None,
    }
}

/// The warnings that say what a fit takes for granted.
const UNTESTED: [WarningKind; 5] = [
    WarningKind::FewDistinctValues,
    WarningKind::SizesTogether,
    WarningKind::OneSeed,
    WarningKind::OnePretrainedModel,
    WarningKind::NotHeldOut,
];

/// How many runs there are, of how many models, of which sizes. Domains have runs of their own, and
/// start from the same models.
fn models(fits: &[&Fit]) -> String {
    let sizes = each(fits, ", ", |fit| values(fit, Column::NParams)) + " parameters";
    let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
    for fit in fits {
        let known = runs.entry(&fit.domain).or_default();
        *known = fit.n_runs.max(*known);
    }
    let of = |fit: &&Fit| -> Option<usize> {
        let models = fit.rows.iter().map(|row| row.origin.map(|origin| origin.model));
        models.collect::<Option<BTreeSet<_>>>().map(|models| models.len())
    };
    let finetuned: Vec<&Fit> =
        fits.iter().filter(|fit| fit.law.reads(Column::DFtTokens)).copied().collect();
    let runs = counted(runs.values().sum());
    match finetuned.iter().filter_map(of).max() {
        Some(1) => format!("{runs} of 1 pretrained model, with {sizes}"),
        Some(models) => format!("{runs} of {models} pretrained models, with {sizes}"),
        None => format!("{runs}, with {sizes}"),
    }
}

/// The distinct values of a column among the fitted rows, in ascending order.
fn values(fit: &Fit, column: Column) -> Vec<String> {
    let mut values: Vec<f64> = fit.rows.iter().map(|row| row.row.get(column)).collect();
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.dedup();
    values.into_iter().map(super::card::brief).collect()
}

/// What the fits say, each text once.
fn each(fits: &[&Fit], between: &str, of: impl Fn(&Fit) -> Vec<String>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in fits.iter().flat_map(|fit| of(fit)) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join(between)
}

fn described(column: Column) -> String {
    let what = match column {
        Column::NParams => "N, parameters",
        Column::DFtTokens => "D_ft, unique tokens",
        Column::DTokens => "D, tokens",
        Column::P => "p, fraction",
        Column::LossPt0 | Column::LossPt | Column::LossFt | Column::Loss => "nats per token",
    };
    format!("{column} ({what})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Bootstrap, Options, fit};
    use crate::laws::{Finetuning, Law, Row};
    use crate::table::Run;

    fn table() -> Table {
        let mut runs = Vec::new();
        for n_params in [1e6, 1e7, 1e8] {
            for d_ft_tokens in [1e5, 1e6, 1e7] {
                let row = Row { n_params, d_ft_tokens, ..Row::default() };
                let loss = Finetuning.predict(&(&row).into(), &[60.0, 0.1, 0.12, 1.2]);
                let epochs = Some(1e7 / d_ft_tokens);
                runs.push(Run { row, epochs, loss_ft: Some(loss), ..Run::default() });
            }
        }
        Table::new(runs)
    }

    fn fit_to(table: &Table) -> Fit {
        let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
        fit(table, &Finetuning, &Options { bootstrap, ..Options::default() }).unwrap()
    }

    fn fitted() -> Fit {
        fit_to(&table())
    }

    /// Which rows are left out, and how many checkpoints and models there are.
    #[test]
    fn the_table_says_what_is_left_out_and_what_its_rows_are() {
        let answer = |checklist: &Checklist, id: &str| {
            checklist.0.iter().find(|entry| entry.id == id).cloned().unwrap().answer
        };
        let fit = fitted();
        let mut checklist = Checklist::of_fits(&[&fit]);
        assert_eq!(answer(&checklist, "dropped"), "");
        checklist.dropped(&[&fit], &[(String::new(), table())], &[], &[]);
        assert_eq!(answer(&checklist, "dropped"), "none");

        // Two rows of a run each, two models of one size, and a row without a loss.
        let mut several = table();
        for run in table().runs {
            let loss_ft = run.loss_ft.map(|loss| 1.001 * loss);
            several.runs.push(Run { loss_ft, ..run });
        }
        for (i, run) in several.runs.iter_mut().enumerate() {
            run.run = (i % 9).to_string();
            run.parent = if i % 9 == 0 { "other".into() } else { run.row.n_params.to_string() };
        }
        several.runs.push(Run { loss_ft: None, run: "9".into(), ..several.runs[0].clone() });
        let fit = fit_to(&several);
        let mut checklist = Checklist::of_fits(&[&fit]);
        assert!(answer(&checklist, "models").starts_with("9 runs of 4 pretrained models"));
        assert_eq!(answer(&checklist, "checkpoints"), "several of a run: 18 rows of 9 runs");
        let tables = [(String::new(), several), ("empty".into(), table())];
        let repeated = [WarningKind::RepeatedRows.warn("2 rows are there twice")];
        checklist.dropped(&[&fit], &tables, &["loss_ft<9".into()], &repeated);
        assert_eq!(
            answer(&checklist, "dropped"),
            "rows that do not satisfy loss_ft<9; 2 rows are there twice; 1 of 19 rows, which have no \
             loss_ft; empty, to whose 9 rows no law could be fitted"
        );
    }

    #[test]
    fn a_fit_answers_what_it_knows_and_people_the_rest() {
        let fit = fitted();
        let mut checklist = Checklist::of_fits(&[&fit]);
        let find = |checklist: &Checklist, id: &str| {
            checklist.0.iter().find(|entry| entry.id == id).cloned().unwrap()
        };
        assert_eq!(checklist.0.len(), ITEMS.len());
        for (id, words) in [
            ("form", "Eq. 6"),
            ("variables", "d_ft_tokens (D_ft, unique tokens)"),
            ("parameters", "finetuning: A, alpha, beta, E"),
            ("assumptions", "no parameter is below 0; each of the 9 settings was run once"),
            ("models", "9 runs of 3 pretrained models, with 1e6, 1e7, 1e8 parameters"),
            ("checkpoints", "one of each run"),
            ("data", "d_ft_tokens = 1e5, 1e6, 1e7"),
            ("repetition", "1 to 100 times"),
            ("objective", "Huber penalties, delta = 0.001, of log losses"),
            ("algorithm", "starts"),
            ("validation", "each size in turn"),
            ("intervals", "20 resamples of runs, 90% intervals"),
        ] {
            let entry = find(&checklist, id);
            assert_eq!(entry.source, Source::Fit, "{id}");
            assert!(entry.answer.contains(words), "{id}: {}", entry.answer);
        }
        assert_eq!(find(&checklist, "count_n").source, Source::NotStated);
        assert_eq!(checklist.answered(), 12);
        checklist.state("count_n", " with embeddings ").unwrap();
        checklist.state("models", "GPT-2 shapes").unwrap();
        checklist.state("public", "").unwrap();
        assert_eq!(find(&checklist, "count_n").answer, "with embeddings");
        assert_eq!(find(&checklist, "count_n").source, Source::Stated);
        assert!(find(&checklist, "models").answer.ends_with("; stated: GPT-2 shapes"));
        assert_eq!(checklist.answered(), 13);
        let refused = checklist.state("colour", "red").unwrap_err().to_string();
        assert!(refused.contains("colour") && refused.contains("count_d"), "{refused}");
    }

    #[test]
    fn the_items_have_names_of_their_own() {
        let mut ids: Vec<_> = ITEMS.iter().map(|item| item.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ITEMS.len());
        assert_eq!(Checklist::of_fits(&[]).answered(), 0);
    }
}
