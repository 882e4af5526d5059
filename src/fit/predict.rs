use super::Fit;
use super::bootstrap::middle;
use super::objective::Space;
use crate::laws::{Point, Row};
use crate::rng::Key;
use crate::table::Column;
use serde::{Deserialize, Serialize};

/// What a fitted law says of a run, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The law at the optimum.
    pub value: f64,
    /// Where the loss of a new run will lie: resampled parameters and a residual of the fitted rows.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Where the law itself lies: resampled parameters alone.
    pub law_low: Option<f64>,
    /// Its upper end.
    pub law_high: Option<f64>,
    /// The columns in which the run lies outside what was fitted.
    pub outside: Vec<String>,
}

impl Fit {
    /// What the law says of a run, with the intervals of the bootstrap's level.
    pub fn predict(&self, row: &Row) -> Prediction {
        let point = Point::from(row);
        let level = self.bootstrap.as_ref().map(|resampled| resampled.level);
        let ends = |mut numbers: Vec<f64>| {
            let level = level?;
            (!numbers.is_empty()).then(|| middle(&mut numbers, level))
        };
        let new_run = ends(self.outcomes(row));
        let law = ends(self.curves(row));
        Prediction {
            value: self.law.predict(&point, &self.values()),
            low: new_run.map(|(low, _)| low),
            high: new_run.map(|(_, high)| high),
            law_low: law.map(|(low, _)| low),
            law_high: law.map(|(_, high)| high),
            outside: self.outside(row),
        }
    }

    /// The predictions of the resampled parameters, in the order of the resamples; none without a
    /// bootstrap.
    pub fn curves(&self, row: &Row) -> Vec<f64> {
        let point = Point::from(row);
        let draws = self.bootstrap.as_ref().map_or(&[][..], |resampled| &resampled.draws);
        draws.iter().map(|values| self.law.predict(&point, values)).collect()
    }

    /// Losses that a new run may have, one for each resample: its prediction and a residual of the
    /// fitted rows, drawn by the bootstrap's seed and scaled for the parameters that were fitted to
    /// them. None without a bootstrap.
    pub fn outcomes(&self, row: &Row) -> Vec<f64> {
        let Some(resampled) = &self.bootstrap else { return Vec::new() };
        let residuals: Vec<f64> =
            self.rows.iter().map(|row| self.minimised.residual(row.prediction, row.loss)).collect();
        let spare = residuals.len().saturating_sub(self.law.parameters().len()).max(1);
        let inflation = (residuals.len() as f64 / spare as f64).sqrt();
        let key = Key::new(resampled.seed).named("residuals of new runs");
        let mut curves = self.curves(row);
        for (b, loss) in curves.iter_mut().enumerate() {
            let r = inflation * residuals[key.below(b as u64, residuals.len() as u64) as usize];
            *loss = match self.minimised.space {
                Space::Log => *loss * (-r).exp(),
                Space::Raw => *loss - r,
            };
        }
        curves
    }

    /// The columns in which a run lies outside what was fitted.
    pub fn outside(&self, row: &Row) -> Vec<String> {
        let is_outside = |column: Column| {
            let (low, high) = self.range(column);
            !(low <= row.get(column) && row.get(column) <= high)
        };
        let inputs = self.law.inputs().iter().map(|input| input.column);
        inputs.filter(|&c| c != Column::LossPt0 && is_outside(c)).map(|c| c.to_string()).collect()
    }

    /// The smallest and the largest value of a column among the fitted rows.
    pub fn range(&self, column: Column) -> (f64, f64) {
        let values = || self.rows.iter().map(|observed| observed.row.get(column));
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    }
}
