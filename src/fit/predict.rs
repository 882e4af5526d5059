use super::Fit;
use super::bootstrap::middle;
use super::objective::Space;
use crate::laws::{Point, Row};
use crate::rng::Key;
use crate::table::Column;
use crate::warning::{Warning, WarningKind};
use serde::{Deserialize, Serialize};

/// What a fitted law says of a run, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The law at the optimum.
    pub value: f64,
    /// Where the loss of a new run will lie: resampled parameters, a residual of the fitted rows, and,
    /// where the fit knows them, the misfit of the law and the spread of pretrained models.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Where the law itself lies: resampled parameters alone.
    pub law_low: Option<f64>,
    /// Its upper end.
    pub law_high: Option<f64>,
    /// Where it would lie if the law were right: without the misfit and the spread. `None` where the
    /// fit knows neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_right_low: Option<f64>,
    /// Its upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_right_high: Option<f64>,
    /// The columns in which the run lies outside what was fitted.
    pub outside: Vec<String>,
    /// What runs of this setting came to, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// What runs came to that were made and fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Their mean loss, in nats per token.
    pub loss: f64,
    /// How many they are.
    pub runs: usize,
}

impl Prediction {
    /// A warning where runs of this setting were made and their mean loss is outside the interval of
    /// a new run.
    pub fn contradiction(&self) -> Option<Warning> {
        let (measured, low, high) = (self.measured?, self.low?, self.high?);
        let outside = !(low..=high).contains(&measured.loss);
        outside.then(|| {
            WarningKind::RunOutsideInterval.warn(format!(
                "measured was {:.4}, outside the law's {low:.4} to {high:.4}",
                measured.loss
            ))
        })
    }
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
        let known = self.misfit.is_some() || self.model_spread.is_some();
        let if_right = if known { ends(self.outcomes_if_right(row)) } else { None };
        let law = ends(self.curves(row));
        Prediction {
            value: self.law.predict(&point, &self.values()),
            low: new_run.map(|(low, _)| low),
            high: new_run.map(|(_, high)| high),
            law_low: law.map(|(low, _)| low),
            law_high: law.map(|(_, high)| high),
            if_right_low: if_right.map(|(low, _)| low),
            if_right_high: if_right.map(|(_, high)| high),
            outside: self.outside(row),
            measured: self.measured(row),
        }
    }

    /// The predictions of the resampled parameters, in the order of the resamples; none without a
    /// bootstrap.
    pub fn curves(&self, row: &Row) -> Vec<f64> {
        let point = Point::from(row);
        let draws = self.bootstrap.as_ref().map_or(&[][..], |resampled| &resampled.draws);
        draws.iter().map(|values| self.law.predict(&point, values)).collect()
    }

    /// Losses that a new run may have, one for each resample: those of [`Fit::outcomes_if_right`]
    /// with a draw of what the law misses. None without a bootstrap.
    pub fn outcomes(&self, row: &Row) -> Vec<f64> {
        let mut losses = self.outcomes_if_right(row);
        let deviation = self.misfit_deviation(row);
        if let (Some(resampled), true) = (&self.bootstrap, deviation > 0.0) {
            let key = Key::new(resampled.seed).named("misfit of new runs");
            for (b, loss) in losses.iter_mut().enumerate() {
                *loss = self.missed(*loss, deviation * key.normal(b as u64));
            }
        }
        losses
    }

    /// The loss whose prediction has a residual.
    fn missed(&self, prediction: f64, residual: f64) -> f64 {
        match self.minimised.space {
            Space::Log => prediction * (-residual).exp(),
            Space::Raw => prediction - residual,
        }
    }

    /// What the fitted runs of a setting came to: those whose sizes and p are within 1% of the row's.
    pub fn measured(&self, row: &Row) -> Option<Measured> {
        const SAME: f64 = 0.01;
        let inputs = || self.law.inputs().iter().map(|input| input.column);
        let is_there = |known: &Row| {
            let mut columns = inputs().filter(|&column| column != Column::LossPt0);
            columns.all(|column| {
                let (known, asked) = (known.get(column), row.get(column));
                (known - asked).abs() <= SAME * asked.abs()
            })
        };
        let losses = self.rows.iter().filter(|known| is_there(&known.row)).map(|known| known.loss);
        let (runs, sum) = losses.fold((0, 0.0), |(runs, sum), loss| (runs + 1, sum + loss));
        (runs > 0).then(|| Measured { loss: sum / runs as f64, runs })
    }

    /// Losses that a new run may have if the law is right, one for each resample: its prediction and
    /// a residual of the fitted rows, drawn by the bootstrap's seed and scaled for the parameters that
    /// were fitted to them. None without a bootstrap.
    pub fn outcomes_if_right(&self, row: &Row) -> Vec<f64> {
        let Some(resampled) = &self.bootstrap else { return Vec::new() };
        let residuals: Vec<f64> =
            self.rows.iter().map(|row| self.minimised.residual(row.prediction, row.loss)).collect();
        let spare = residuals.len().saturating_sub(self.law.parameters().len()).max(1);
        let inflation = (residuals.len() as f64 / spare as f64).sqrt();
        let key = Key::new(resampled.seed).named("residuals of new runs");
        let mut curves = self.curves(row);
        for (b, loss) in curves.iter_mut().enumerate() {
            let r = inflation * residuals[key.below(b as u64, residuals.len() as u64) as usize];
            *loss = self.missed(*loss, r);
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
