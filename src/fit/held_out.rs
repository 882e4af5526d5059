//! What a law says of runs that it was not fitted to.

use super::errors::{Errors, NullErrors, constant, null_predictions};
use super::json::infinite_for_null;
use super::objective::Objective;
use super::optimum::optimum;
use super::problem::{Problem, suffices};
use crate::Result;
use crate::laws::Law;
use crate::table::{Column, Sample};
use serde::{Deserialize, Serialize};

/// Which rows are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOut {
    /// Each model size in turn.
    Size,
    /// Each amount of data in turn: D_ft, or D for a law of pretraining.
    Data,
    /// Each fraction p in turn.
    P,
    /// Those with both the largest model and the most data, at once; the law is fitted to rows with
    /// neither (the paper's Table 4, which leaves out more sizes).
    Largest,
}

/// A row that was held out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRow {
    /// Its index among the fitted rows.
    pub index: usize,
    /// What the law, fitted without it, says of it, in nats per token.
    #[serde(deserialize_with = "infinite_for_null")]
    pub prediction: f64,
}

/// The errors on rows that were held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Which rows.
    pub by: HoldOut,
    /// How many times some were.
    pub folds: usize,
    /// The law's errors on them.
    #[serde(flatten)]
    pub errors: Errors,
    /// Those of models that know nothing, fitted to the same rows as the law.
    pub null_models: NullErrors,
    /// Whether both of the law's errors are below those of both null models, by more than
    /// rounding alone may make ([`super::card::ROUNDING`]).
    pub supported: bool,
    /// The rows.
    pub rows: Vec<HeldOutRow>,
}

/// What is said of a row by models that were fitted without it, in nats per token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predicted {
    /// Its index among the rows of the sample.
    pub index: usize,
    pub law: f64,
    pub no_change: f64,
    pub log_linear: f64,
    /// The geometric mean of the losses that were fitted.
    pub constant: f64,
}

/// Holds rows out in turn: how many times, and the predictions of each; in words why that is not
/// possible, where it is not.
pub(super) fn predict_held_out(
    law: &'static dyn Law,
    sample: &Sample,
    by: HoldOut,
    objective: &Objective,
    threads: usize,
) -> Result<Result<(usize, Vec<Predicted>), String>> {
    let folds = match folds(law, sample, by) {
        Ok(folds) => folds,
        Err(why) => return Ok(Err(why)),
    };
    let mut rows = Vec::new();
    for fold in &folds {
        let (train, test) = (sample.select(&fold.train), sample.select(&fold.test));
        let problem = Problem::new(law, &train, objective.space);
        let values = problem.values(&optimum(&problem, objective, threads)?.x);
        let (no_change, log_linear) = null_predictions(law, &train, &test)?;
        let constant = constant(&train);
        for (i, (&index, point)) in fold.test.iter().zip(&test.points).enumerate() {
            let (no_change, log_linear) = (no_change[i], log_linear[i]);
            let law = law.predict(point, &values);
            rows.push(Predicted { index, law, no_change, log_linear, constant });
        }
    }
    Ok(Ok((folds.len(), rows)))
}

/// Holds rows out in turn; in words why that is not possible, where it is not.
pub(super) fn hold_out(
    law: &'static dyn Law,
    sample: &Sample,
    by: HoldOut,
    objective: &Objective,
    threads: usize,
) -> Result<Result<HeldOut, String>> {
    let (folds, found) = match predict_held_out(law, sample, by, objective, threads)? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let indices: Vec<usize> = found.iter().map(|row| row.index).collect();
    let test = sample.select(&indices);
    // Each row's constant is that of the rows that its law was fitted to.
    let base = found.iter().map(|row| row.constant).sum::<f64>() / found.len() as f64;
    let errors = |of: fn(&Predicted) -> f64| {
        let predictions: Vec<f64> = found.iter().map(of).collect();
        Errors::of(law, &test, &predictions, base)
    };
    let own = errors(|row| row.law);
    let no_change = errors(|row| row.no_change);
    let log_linear = errors(|row| row.log_linear);
    let supported = own.beat(&no_change) && own.beat(&log_linear);
    let row = |row: &Predicted| HeldOutRow { index: row.index, prediction: row.law };
    Ok(Ok(HeldOut {
        by,
        folds,
        errors: own,
        null_models: NullErrors { no_change, log_linear },
        supported,
        rows: found.iter().map(row).collect(),
    }))
}

pub(super) struct Fold {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
}

/// The folds that leave a law enough to be fitted to.
pub(super) fn folds(law: &dyn Law, sample: &Sample, by: HoldOut) -> Result<Vec<Fold>, String> {
    let reads = |column| law.inputs().iter().any(|input| input.column == column);
    let data = if reads(Column::DFtTokens) { Column::DFtTokens } else { Column::DTokens };
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
            let fold = |v: f64| split(&|i| value(column, i) == v, &|i| value(column, i) != v);
            let folds = match reads(column) {
                true => values.into_iter().map(fold).collect(),
                false => Vec::new(),
            };
            (format!("each {column} in turn"), folds)
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
    match good.is_empty() {
        true => Err(format!(
            "nothing was held out: without {what}, too few runs are left for the {} law",
            law.name()
        )),
        false => Ok(good),
    }
}
