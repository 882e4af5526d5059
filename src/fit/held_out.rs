//! Errors on runs that a law was not fitted to.

use super::errors::{BaselineErrors, Errors, baseline_predictions, constant};
use super::in_order;
use super::json::infinite_for_null;
use super::objective::Objective;
use super::optimum::optimum;
use super::problem::{Problem, suffices};
use crate::laws::Law;
use crate::table::{Column, Sample};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which rows are held out. If a size, an amount of data or p has more than 16 distinct values,
/// neighbouring values are held out together, in 16 folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOut {
    /// Each model size in turn.
    Size,
    /// Each amount of data in turn: D_ft, or D for a law of pretraining.
    Data,
    /// Each fraction p in turn.
    P,
    /// The rows with both the largest model and the most data. The law is fitted to rows with
    /// neither (as in the paper's Table 4, which leaves out more sizes).
    Largest,
}

impl HoldOut {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Data => "data",
            Self::P => "p",
            Self::Largest => "largest",
        }
    }

    /// The held-out runs, as text to follow "on".
    pub(super) fn runs(self) -> &'static str {
        match self {
            Self::Size => "held-out sizes",
            Self::Data => "held-out amounts of data",
            Self::P => "held-out values of p",
            Self::Largest => "the held-out runs of the largest size with the most data",
        }
    }
}

/// A held-out row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRow {
    /// Its index among the fitted rows.
    pub index: usize,
    /// The prediction of the law fitted without it, in nats per token.
    #[serde(deserialize_with = "infinite_for_null")]
    pub prediction: f64,
}

/// The errors on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Which rows.
    pub by: HoldOut,
    /// The number of folds.
    pub folds: usize,
    /// The law's errors on them.
    #[serde(flatten)]
    pub errors: Errors,
    /// The errors of the baselines, fitted to the same rows as the law.
    pub null_models: BaselineErrors,
    /// Whether both errors of the law are below those of both baselines, by more than rounding
    /// ([`super::card::ROUNDING`]).
    pub supported: bool,
    /// The rows.
    pub rows: Vec<HeldOutRow>,
}

/// Fits a law without each fold in turn, and returns its predictions for the rows of each fold, in
/// order.
pub(super) fn predict_held_out(
    law: &'static dyn Law,
    sample: &Sample,
    folds: &[Fold],
    objective: &Objective,
    threads: usize,
) -> Result<Vec<HeldOutRow>> {
    // Folds are fitted side by side, and each by the threads that are then left.
    let within = threads / folds.len().clamp(1, threads.max(1));
    let of_fold = |i: usize| -> Result<Vec<HeldOutRow>> {
        let fold = &folds[i];
        let problem = Problem::new(law, &sample.select(&fold.train), objective.space);
        let values = problem.values(&optimum(&problem, objective, within)?.x);
        let row = |&index: &usize| HeldOutRow {
            index,
            prediction: law.predict(&sample.points[index], &values),
        };
        Ok(fold.test.iter().map(row).collect())
    };
    let found: Result<Vec<_>> = in_order(folds.len(), threads, of_fold)?.into_iter().collect();
    Ok(found?.concat())
}

/// The predictions of the baselines for a row that they were not fitted to, in nats per token.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaselineRow {
    /// Its index among the rows of the sample.
    pub index: usize,
    pub no_change: f64,
    pub log_linear: f64,
    /// The geometric mean of the fitted losses.
    pub constant: f64,
}

impl BaselineRow {
    /// The rows of each fold, fold after fold.
    pub(super) fn held_out(law: &dyn Law, sample: &Sample, folds: &[Fold]) -> Result<Vec<Self>> {
        let mut rows = Vec::new();
        for fold in folds {
            let (train, test) = (sample.select(&fold.train), sample.select(&fold.test));
            let (no_change, log_linear) = baseline_predictions(law, &train, &test)?;
            let constant = constant(&train);
            for ((&index, no_change), log_linear) in fold.test.iter().zip(no_change).zip(log_linear)
            {
                rows.push(Self { index, no_change, log_linear, constant });
            }
        }
        Ok(rows)
    }

    /// The mean of the rows' constants.
    pub(super) fn mean_constant(rows: &[Self]) -> f64 {
        rows.iter().map(|row| row.constant).sum::<f64>() / rows.len() as f64
    }
}

/// Why there are no errors on held-out rows.
pub(super) enum Untested {
    /// Too little is left to fit, in words.
    TooFew(String),
    /// A prediction failed.
    Failed(Error),
}

impl From<Error> for Untested {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Holds rows out in turn.
///
/// # Errors
/// If no fold leaves enough to fit, or a prediction fails.
pub(super) fn hold_out(
    law: &'static dyn Law,
    sample: &Sample,
    by: HoldOut,
    objective: &Objective,
    threads: usize,
) -> Result<HeldOut, Untested> {
    let folds = folds(law, sample, by).map_err(Untested::TooFew)?;
    let rows = predict_held_out(law, sample, &folds, objective, threads)?;
    let baselines = BaselineRow::held_out(law, sample, &folds)?;
    let test = sample.select(&rows.iter().map(|row| row.index).collect::<Vec<_>>());
    let constant = BaselineRow::mean_constant(&baselines);
    let errors = |predictions: Vec<f64>| Errors::of(law, &test, &predictions, constant);
    let own = errors(rows.iter().map(|row| row.prediction).collect());
    let no_change = errors(baselines.iter().map(|row| row.no_change).collect());
    let log_linear = errors(baselines.iter().map(|row| row.log_linear).collect());
    Ok(HeldOut {
        by,
        folds: folds.len(),
        errors: own,
        null_models: BaselineErrors { no_change, log_linear },
        supported: own.beat(&no_change) && own.beat(&log_linear),
        rows,
    })
}

/// The most folds of an axis.
const MOST_FOLDS: usize = 16;

pub(super) struct Fold {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
}

/// The folds that leave enough rows to fit the law.
pub(super) fn folds(law: &dyn Law, sample: &Sample, by: HoldOut) -> Result<Vec<Fold>, String> {
    let data = if law.reads(Column::DFtTokens) { Column::DFtTokens } else { Column::DTokens };
    let value = |column: Column, i: usize| sample.rows[i].get(column);
    let split = |held_out: &dyn Fn(usize) -> bool, left: &dyn Fn(usize) -> bool| Fold {
        train: (0..sample.len()).filter(|&i| left(i)).collect(),
        test: (0..sample.len()).filter(|&i| held_out(i)).collect(),
    };
    let largest =
        |column| (0..sample.len()).map(|i| value(column, i)).fold(f64::NEG_INFINITY, f64::max);
    let (what, all) = match by {
        HoldOut::Largest => {
            let (n, d) = (largest(Column::NParams), largest(data));
            let is_n = |i| value(Column::NParams, i) == n;
            let is_d = |i| value(data, i) == d;
            let fold = split(&|i| is_n(i) && is_d(i), &|i| !is_n(i) && !is_d(i));
            (format!("the largest n_params and {data}"), vec![fold])
        }
        HoldOut::Size | HoldOut::Data | HoldOut::P => {
            let column = match by {
                HoldOut::Size => Column::NParams,
                HoldOut::Data => data,
                _ => Column::P,
            };
            let mut values: Vec<f64> = (0..sample.len()).map(|i| value(column, i)).collect();
            values.sort_by(f64::total_cmp);
            values.dedup();
            let count = values.len().min(MOST_FOLDS);
            let fold = |k: usize| {
                let of = &values[k * values.len() / count..(k + 1) * values.len() / count];
                let held_out =
                    |i: usize| of[0] <= value(column, i) && value(column, i) <= of[of.len() - 1];
                split(&held_out, &|i| !held_out(i))
            };
            if !law.reads(column) {
                return Err(format!(
                    "nothing was held out: the {} law does not read {column}",
                    law.name()
                ));
            }
            (format!("each {column} in turn"), (0..count).map(fold).collect())
        }
    };
    // What a size does is seen on two others at least, whatever the law needs.
    let trend = |fold: &Fold| {
        let first = fold.train.first().map(|&i| value(Column::NParams, i));
        !matches!(by, HoldOut::Size | HoldOut::Largest)
            || fold.train.iter().any(|&i| Some(value(Column::NParams, i)) != first)
    };
    let enough = |fold: &Fold| {
        let rows = fold.train.iter().map(|&i| &sample.points[i]);
        !fold.test.is_empty() && suffices(law, rows) && trend(fold)
    };
    let good: Vec<Fold> = all.into_iter().filter(enough).collect();
    if good.is_empty() {
        Err(format!(
            "nothing was held out: without {what}, too few runs are left for the {} law",
            law.name()
        ))
    } else {
        Ok(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{Finetuning, Row};
    use crate::table::{Run, Table};

    fn sizes_held_out(count: u32) -> Vec<Vec<f64>> {
        let mut runs = Vec::new();
        for i in 0..count {
            for d_ft_tokens in [1e3, 1e4] {
                let row = Row { n_params: f64::from(1 + i), d_ft_tokens, ..Row::default() };
                runs.push(Run { row, loss_ft: Some(3.0), ..Run::default() });
            }
        }
        let sample = Table::new(runs).sample(&Finetuning).unwrap();
        let folds = folds(&Finetuning, &sample, HoldOut::Size).unwrap();
        let sizes = |fold: &Fold| {
            assert_eq!(fold.train.len() + fold.test.len(), sample.len());
            let mut sizes: Vec<f64> = fold.test.iter().map(|&i| sample.rows[i].n_params).collect();
            sizes.dedup();
            sizes
        };
        folds.iter().map(sizes).collect()
    }

    #[test]
    fn many_values_are_held_out_in_groups_of_neighbours() {
        assert_eq!(sizes_held_out(4), [[1.0], [2.0], [3.0], [4.0]]);
        let many = sizes_held_out(40);
        assert_eq!(many.len(), MOST_FOLDS);
        let all: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(many.concat(), all);
        assert!(many.iter().all(|sizes| sizes.len() == 2 || sizes.len() == 3));
    }
}
