//! The errors of a law, compared with baselines.
//!
//! Most of L_pt is L_pt⁰, so a law that predicts no forgetting at all has a small mean relative
//! error. The error of the increase reveals it.

use super::card::ROUNDING;
use super::json::infinite_for_null;
use crate::laws::Law;
use crate::table::{Column, Sample};
use crate::{Error, Result};
use ndarray::{Array1, Array2};
use ndarray_linalg::LeastSquaresSvd;
use serde::{Deserialize, Serialize};

/// The errors of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// The mean over rows of |L̂ − L| / L. The paper's exact definition is unknown; this is that of
    /// its sister paper (arXiv 2507.09404).
    #[serde(deserialize_with = "infinite_for_null")]
    pub mre: f64,
    /// The sum of |L̂ − L| over the sum of |L − L₀|: 0 for a perfect prediction, 1 for that of no
    /// change. L₀ is L_pt⁰ for a law of forgetting, and otherwise the geometric mean of the fitted
    /// losses. It is a ratio of sums, since a single increase may be 0. NaN (null in a file) if all
    /// increases are within [`ROUNDING`] of the losses.
    #[serde(deserialize_with = "infinite_for_null")]
    pub rise_error: f64,
}

impl Errors {
    /// The errors of predictions for a sample; `constant` is L₀ if the law has no baseline.
    pub(super) fn of(law: &dyn Law, sample: &Sample, predictions: &[f64], constant: f64) -> Self {
        let rows =
            || (0..sample.len()).map(|i| (predictions[i], sample.losses[i], sample.weights[i]));
        let base = |i: usize| law.baseline(&sample.points[i]).unwrap_or(constant);
        let missed: f64 = rows().map(|(prediction, loss, w)| w * (prediction - loss).abs()).sum();
        let risen: f64 =
            rows().enumerate().map(|(i, (_, loss, w))| w * (loss - base(i)).abs()).sum();
        let total: f64 = rows().map(|(_, loss, w)| w * loss).sum();
        let rise_error = if risen > ROUNDING * total { missed / risen } else { f64::NAN };
        Self { mre: mean_relative_error(rows()), rise_error }
    }

    /// Whether both errors are smaller than others on the same rows, the relative one by more than
    /// the rounding of the losses. Always false if no loss increases.
    pub(super) fn beat(&self, other: &Self) -> bool {
        self.mre + ROUNDING < other.mre && self.rise_error < other.rise_error
    }
}

/// The mean of |L̂ − L| / L over triples of prediction, loss and weight; NaN if there are none.
pub(super) fn mean_relative_error(rows: impl Iterator<Item = (f64, f64, f64)>) -> f64 {
    let add = |(sum, total): (f64, f64), (prediction, loss, weight): (f64, f64, f64)| {
        if weight > 0.0 {
            (sum + weight * (prediction - loss).abs() / loss, total + weight)
        } else {
            (sum, total)
        }
    };
    let (sum, total) = rows.fold((0.0, 0.0), add);
    sum / total
}

/// The geometric mean of the losses.
pub(super) fn constant(sample: &Sample) -> f64 {
    let total: f64 = sample.weights.iter().sum();
    let sum: f64 = sample.losses.iter().zip(&sample.weights).map(|(l, w)| w * l.ln()).sum();
    (sum / total).exp()
}

/// The errors of the baselines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineErrors {
    /// No change: L_pt = L_pt⁰, or the geometric mean of the fitted losses.
    pub no_change: Errors,
    /// Log-linear: ln L (ln L − ln L_pt⁰ for a law of forgetting) by ordinary least squares on 1, p
    /// and the logarithms of the sizes that the law reads.
    pub log_linear: Errors,
}

impl BaselineErrors {
    /// The errors on `test` of baselines fitted to `train`.
    pub(super) fn of(law: &dyn Law, train: &Sample, test: &Sample) -> Result<Self> {
        let errors = |predictions: &[f64]| Errors::of(law, test, predictions, constant(train));
        let (no_change, log_linear) = baseline_predictions(law, train, test)?;
        Ok(Self { no_change: errors(&no_change), log_linear: errors(&log_linear) })
    }
}

/// The predictions for `test` of the two baselines fitted to `train`.
pub(super) fn baseline_predictions(
    law: &dyn Law,
    train: &Sample,
    test: &Sample,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let constant = constant(train);
    let unchanged: Vec<f64> =
        test.points.iter().map(|point| law.baseline(point).unwrap_or(constant)).collect();
    let reference = |sample: &Sample, i: usize| law.baseline(&sample.points[i]).unwrap_or(1.0);
    let features = |sample: &Sample, i: usize| {
        let point = &sample.points[i];
        let of = |column: Column| match column {
            Column::NParams => Some(point.ln_n),
            Column::DFtTokens => Some(point.ln_d_ft),
            Column::DTokens => Some(point.ln_d),
            Column::P => Some(point.p),
            _ => None,
        };
        let known = law.inputs().iter().filter_map(|input| of(input.column));
        std::iter::once(1.0).chain(known).collect::<Vec<f64>>()
    };
    let width = features(train, 0).len();
    let mut matrix = Array2::zeros((train.len(), width));
    let mut target = Array1::zeros(train.len());
    for i in 0..train.len() {
        let weight = train.weights[i].sqrt();
        for (entry, feature) in matrix.row_mut(i).iter_mut().zip(features(train, i)) {
            *entry = weight * feature;
        }
        target[i] = weight * (train.losses[i] / reference(train, i)).ln();
    }
    let unsolved =
        |_| Error::setting("log-linear regression", train.len(), "LAPACK found no solution");
    let solution = matrix.least_squares(&target).map_err(unsolved)?.solution;
    let predict = |i: usize| {
        let sum: f64 = features(test, i).iter().zip(&solution).map(|(f, c)| f * c).sum();
        reference(test, i) * sum.exp()
    };
    Ok((unchanged, (0..test.len()).map(predict).collect()))
}
