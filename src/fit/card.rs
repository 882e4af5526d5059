//! The report card: the [`Warning`]s of a fit and of a question.
//!
//! [`fit`](super::fit()) puts those of a table into [`Fit::warnings`]; those of a question come from
//! [`Fit::extrapolations`] and [`Fit::repetition`].

use super::{Fit, HeldOut, Prediction, Status};
use crate::laws::{Law, Row};
use crate::table::{Column, Run, Sample, Table};
pub use crate::warning::{Warning, WarningKind};
use serde::{Deserialize, Serialize};

/// A column in which a question lies outside the fitted runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extrapolation {
    /// The column's name.
    pub column: String,
    /// The value in question.
    pub asked: f64,
    /// The smallest value among the fitted runs.
    pub low: f64,
    /// The largest one.
    pub high: f64,
    /// The distance of the question from the nearest run: the decimal logarithm of their ratio,
    /// infinite if one of them is 0.
    #[serde(deserialize_with = "super::json::infinite_for_null")]
    pub decades: f64,
}

impl Extrapolation {
    /// The warning.
    pub fn warning(&self, law: &str) -> Warning {
        let Self { column, asked, low, high, decades } = self;
        let far = if decades.is_finite() {
            format!(", by a factor of {}", brief(10f64.powf(*decades)))
        } else {
            String::new()
        };
        WarningKind::Extrapolation.warn(format!(
            "{column} = {} is outside the range {} to {} of the {law} law's runs{far}",
            brief(*asked),
            brief(*low),
            brief(*high)
        ))
    }
}

impl Fit {
    /// The columns in which a run lies outside the fitted rows, in the order of the law's inputs.
    pub fn extrapolations(&self, row: &Row) -> Vec<Extrapolation> {
        let outside = self.outside(row);
        let inputs = self.law.inputs().iter().map(|input| input.column);
        inputs
            .filter(|column| outside.iter().any(|name| name == column.name()))
            .map(|column| {
                let (low, high) = self.range(column);
                let asked = row.get(column);
                let nearest = if asked < low { low } else { high };
                let decades = (asked / nearest).log10().abs();
                let column = column.to_string();
                Extrapolation { column, asked, low, high, decades }
            })
            .collect()
    }

    /// A warning if `epochs` passes over the target data are more than three times as many as in
    /// any fitted run, or less than a third; `None` also if the runs do not say how many.
    pub fn repetition(&self, epochs: f64) -> Option<Warning> {
        const FAR: f64 = 3.0;
        let known = || self.rows.iter().filter_map(|observed| observed.epochs);
        let low = known().reduce(f64::min)?;
        let high = known().reduce(f64::max)?;
        let far = epochs > FAR * high || epochs < low / FAR;
        far.then(|| {
            WarningKind::Repetition.warn(format!(
                "passes over the target data: {}, but {} in the {} law's runs",
                brief(epochs),
                if low == high { brief(low) } else { format!("{} to {}", brief(low), brief(high)) },
                self.law.name()
            ))
        })
    }

    /// What to know before relying on a prediction for a run: where it lies outside the fitted runs, an L_pt⁰
    /// that is `extrapolated`, `epochs` passes over the target data, a measured loss outside the interval,
    /// and the doubts about the fit.
    pub fn cautions(
        &self,
        row: &Row,
        prediction: &Prediction,
        extrapolated: bool,
        epochs: Option<f64>,
    ) -> Vec<Warning> {
        let law = self.law.name();
        let outside = self.extrapolations(row);
        let mut warnings: Vec<_> = outside.iter().map(|outside| outside.warning(law)).collect();
        if extrapolated {
            warnings.push(
                WarningKind::BaselineExtrapolated.warn("loss_pt0 is extrapolated from other sizes"),
            );
        }
        warnings.extend(epochs.and_then(|epochs| self.repetition(epochs)));
        warnings.extend(prediction.contradiction());
        warnings.extend(self.doubts());
        warnings
    }

    /// The warnings of the fit itself, for any question: that the law is not supported, not
    /// identified, not converged, or was not tested.
    pub fn doubts(&self) -> Vec<Warning> {
        let law = self.law.name();
        let mut doubts: Vec<_> = status(self.status, law).into_iter().collect();
        match self.is_supported() {
            Some(true) => {}
            Some(false) => doubts.extend(not_supported(law, self.held_out.as_ref())),
            None => doubts.push(
                WarningKind::NotHeldOut
                    .warn(format!("the {law} law was not tested on held-out runs")),
            ),
        }
        doubts
    }
}

/// The warning of a status.
fn status(status: Status, law: &str) -> Option<Warning> {
    match status {
        Status::Converged | Status::AtBound => None,
        Status::NotIdentified => Some(WarningKind::NotIdentified.warn(format!(
            "the runs do not determine the {law} law's parameters (not_identified)"
        ))),
        Status::NotConverged => Some(
            WarningKind::NotConverged
                .warn(format!("the {law} law's optimum was not found (not_converged)")),
        ),
    }
}

fn not_supported(law: &str, held_out: Option<&HeldOut>) -> Option<Warning> {
    let held_out = held_out.filter(|held_out| !held_out.supported)?;
    let on = held_out.by.runs();
    Some(
        WarningKind::NotSupported.warn(format!(
            "the {law} law is not supported: on {on} it does not beat both baselines"
        )),
    )
}

/// What a law's fit to a table should not be trusted for.
pub(super) fn of_table(
    table: &Table,
    law: &dyn Law,
    sample: &Sample,
    model_spread: Option<f64>,
) -> Vec<Warning> {
    let rows: Vec<&Run> = table.runs.iter().filter(|run| run.get(law.output()).is_some()).collect();
    let mut warnings = table.warnings.clone();
    warnings.extend(few_distinct_values(law, &rows));
    warnings.extend(sizes_together(law, &rows));
    warnings.extend(one_seed(law, &rows));
    warnings.extend(few_runs(sample));
    warnings.extend(unasked(&table.unasked));
    warnings.extend(percentages(law, &rows));
    warnings.extend(equal_losses(law, sample));
    warnings.extend(not_interior(&rows));
    // The spread is one of what is forgotten.
    if model_spread.is_none() || sample.points.iter().all(|point| law.baseline(point).is_none()) {
        warnings.extend(one_pretrained_model(law, &rows));
    }
    warnings
}

/// What the optimum and the held-out runs say against a fit.
pub(super) fn of_fit(law: &dyn Law, optimum: Status, held_out: Option<&HeldOut>) -> Vec<Warning> {
    let status = status(optimum, law.name()).into_iter();
    status.chain(not_supported(law.name(), held_out)).collect()
}

/// Distinct numbers, in ascending order.
fn distinct(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers
}

fn few_distinct_values(law: &dyn Law, rows: &[&Run]) -> Vec<Warning> {
    const ENOUGH: usize = 3;
    let columns = law.inputs().iter().map(|input| input.column);
    let few = |column: Column| {
        let values = distinct(rows.iter().map(|run| run.row.get(column)));
        let plural = if values.len() == 1 { "" } else { "s" };
        (values.len() < ENOUGH).then(|| {
            WarningKind::FewDistinctValues
                .warn(format!("{} distinct value{plural} of {column}", values.len()))
        })
    };
    columns.filter(|&column| column != Column::LossPt0).filter_map(few).collect()
}

/// Whether N keeps its ratio to D or D_ft.
fn sizes_together(law: &dyn Law, rows: &[&Run]) -> Vec<Warning> {
    /// The standard deviation of ln of a ratio below which it counts as one.
    const ONE_RATIO: f64 = 0.05;
    let several = distinct(rows.iter().map(|run| run.row.n_params)).len() > 1;
    if !several || !law.reads(Column::NParams) {
        return Vec::new();
    }
    let together = |column: Column| {
        let ratios: Vec<f64> =
            rows.iter().map(|run| (run.row.get(column) / run.row.n_params).ln()).collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let variance = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / ratios.len() as f64;
        // NaN where a row does not say.
        (variance.sqrt() < ONE_RATIO).then(|| {
            let what = if law.reads(column) {
                "their exponents cannot be told apart".to_string()
            } else {
                format!("the effect of N in the law may be due to {column}")
            };
            WarningKind::SizesTogether.warn(format!(
                "all runs have about {} {column} per parameter: {what}",
                brief(mean.exp())
            ))
        })
    };
    [Column::DTokens, Column::DFtTokens].into_iter().filter_map(together).collect()
}

fn one_seed(law: &dyn Law, rows: &[&Run]) -> Option<Warning> {
    let setting = |run: &&Run| -> Vec<u64> {
        law.inputs().iter().map(|input| (run.row.get(input.column) + 0.0).to_bits()).collect()
    };
    let mut settings: Vec<_> = rows.iter().map(setting).collect();
    settings.sort_unstable();
    let twice = settings.windows(2).any(|pair| pair[0] == pair[1]);
    (!twice).then(|| {
        WarningKind::OneSeed.warn(format!("each of the {} settings was run once", rows.len()))
    })
}

fn few_runs(sample: &Sample) -> Option<Warning> {
    const ENOUGH: usize = 10;
    let runs = sample.n_runs;
    let plural = if runs == 1 { "" } else { "s" };
    (runs < ENOUGH && runs < sample.len()).then(|| {
        WarningKind::FewRuns.warn(format!("the {} rows come from {runs} run{plural}", sample.len()))
    })
}

fn unasked(columns: &[String]) -> Option<Warning> {
    let meaning = |column: &String| match column.as_str() {
        "parent_id" => "the pretrained model".to_string(),
        name => format!("the {name}"),
    };
    let meanings: Vec<_> = columns.iter().map(meaning).collect();
    let (plural, were, their) =
        if columns.len() == 1 { ("", "was", "its name") } else { ("s", "were", "their names") };
    (!columns.is_empty()).then(|| {
        WarningKind::ColumnUsedUnasked.warn(format!(
            "the column{plural} {} {were} used as {} of each row, only because of {their}",
            columns.join(" and "),
            meanings.join(" and ")
        ))
    })
}

/// With p = 1 there is no target data at all, and 0.1 with 0.5 are the paper's values in percent.
fn percentages(law: &dyn Law, rows: &[&Run]) -> Option<Warning> {
    let reads = law.reads(Column::P);
    let values = distinct(rows.iter().map(|run| run.row.p));
    let has = |p: f64| values.contains(&p);
    let looks = reads && (has(1.0) || (has(0.1) && has(0.5)));
    looks.then(|| {
        let shown: Vec<_> = values.iter().map(|p| brief(*p)).collect();
        WarningKind::PercentagesAsFractions
            .warn(format!("p = {} are read as fractions", shown.join(", ")))
    })
}

/// A relative difference of losses that rounding alone may make.
pub const ROUNDING: f64 = 1e-9;

/// What a law explains: losses above their baseline, or all losses.
fn equal_losses(law: &dyn Law, sample: &Sample) -> Option<Warning> {
    let base = |i: usize| law.baseline(&sample.points[i]).unwrap_or(sample.losses[0]);
    let equal = |i: usize| (sample.losses[i] - base(i)).abs() <= ROUNDING * sample.losses[i];
    let what = if law.baseline(&sample.points[0]).is_some() { "loss_pt0" } else { "each other" };
    (0..sample.len()).all(equal).then(|| {
        WarningKind::EqualLosses
            .warn(format!("all {} losses equal {what} apart from rounding", sample.len()))
    })
}

fn not_interior(rows: &[&Run]) -> Option<Warning> {
    let known = rows.iter().filter(|run| run.interior.is_some()).count();
    let not = rows.iter().filter(|run| run.interior == Some(false)).count();
    (not > 0).then(|| {
        WarningKind::BottomNotInterior
            .warn(format!("{not} of {known} runs have no interior bottom"))
    })
}

/// Runs with the same value of `parent` start from the same pretrained model.
fn one_pretrained_model(law: &dyn Law, rows: &[&Run]) -> Option<Warning> {
    // For a law of pretraining each row is a model.
    if !law.reads(Column::DFtTokens) {
        return None;
    }
    let known = rows.iter().all(|run| !run.parent.is_empty());
    let mut models: Vec<_> =
        rows.iter().map(|run| (run.row.n_params.to_bits(), run.parent.as_str())).collect();
    models.sort_unstable();
    models.dedup();
    let twice = models.windows(2).any(|pair| pair[0].0 == pair[1].0);
    let message = match known {
        true if twice => return None,
        true => {
            "each size has one pretrained model: the intervals do not include how much another \
                 would differ"
        }
        false => {
            "no column parent_id says which pretrained model a run starts from; the fit \
                  assumes one per size"
        }
    };
    Some(WarningKind::OnePretrainedModel.warn(message))
}

/// Three significant digits: 0.0279, 3e9.
pub(super) fn brief(value: f64) -> String {
    // What was written with three digits has no more when it is read.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-3..1e5).contains(&rounded) {
        rounded.to_string()
    } else {
        format!("{rounded:e}")
    }
}

#[cfg(test)]
mod tests;
