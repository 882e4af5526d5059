use super::Fit;
use super::bootstrap::middle_with;
use super::objective::Space;
use crate::laws::{Point, Row};
use crate::rng::Key;
use crate::table::Column;
use crate::warning::{Warning, WarningKind};
use serde::{Deserialize, Serialize};

/// The prediction of a fitted law for a run, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The value of the law at the optimum.
    pub value: f64,
    /// The lower end of the interval of a new run: resampled parameters, residuals of the fitted
    /// rows, and, if the fit has them, the misfit of the law and the spread between pretrained
    /// models.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// The lower end of the interval of the law itself: resampled parameters alone.
    pub law_low: Option<f64>,
    /// Its upper end.
    pub law_high: Option<f64>,
    /// The lower end of the interval of a new run if the law is right: without the misfit and the
    /// spread. `None` if the fit has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_right_low: Option<f64>,
    /// Its upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_right_high: Option<f64>,
    /// The columns in which the run lies outside the fitted rows.
    pub outside: Vec<String>,
    /// The measured losses of runs with this setting, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// The measured losses of fitted runs with one setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Their mean loss, in nats per token.
    pub loss: f64,
    /// The number of runs.
    pub runs: usize,
}

impl Prediction {
    /// A warning if there are runs of this setting and their mean loss is outside the interval of a
    /// new run.
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
    /// Predicts the loss of a run, with intervals at the level of the bootstrap. Where the resamples lie on
    /// one side of the value, an interval is widened to hold it.
    pub fn predict(&self, row: &Row) -> Prediction {
        let point = Point::from(row);
        let value = self.law.predict(&point, &self.values());
        let level = self.bootstrap.as_ref().map(|resampled| resampled.level);
        let ends = |mut numbers: Vec<f64>| {
            let level = level?;
            (!numbers.is_empty()).then(|| middle_with(value, &mut numbers, level))
        };
        let new_run = ends(self.outcomes(row));
        let known = self.misfit.is_some() || self.model_spread.is_some();
        let if_right = if known { ends(self.outcomes_if_right(row)) } else { None };
        let law = ends(self.curves(row));
        Prediction {
            value,
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

    /// Simulated losses of a new run, one per resample: those of [`Fit::outcomes_if_right`] plus a
    /// draw of the misfit. None without a bootstrap.
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

    /// The loss at which a prediction has this residual.
    fn missed(&self, prediction: f64, residual: f64) -> f64 {
        match self.minimised.space {
            Space::Log => prediction * (-residual).exp(),
            Space::Raw => prediction - residual,
        }
    }

    /// The measured losses of the fitted runs of this setting: those whose N, D_ft, D, p and L_pt⁰
    /// are within 1% of the row's, as far as both have them, including those that the law does not
    /// read.
    pub fn measured(&self, row: &Row) -> Option<Measured> {
        const SAME: f64 = 0.01;
        const SETTING: [Column; 5] =
            [Column::NParams, Column::DFtTokens, Column::DTokens, Column::P, Column::LossPt0];
        let is_there = |known: &Row| {
            SETTING.into_iter().all(|column| {
                let (known, asked) = (known.get(column), row.get(column));
                let unknown = known.is_nan() || asked.is_nan();
                (known - asked).abs() <= SAME * asked.abs() || (unknown && !self.law.reads(column))
            })
        };
        let losses = self.rows.iter().filter(|known| is_there(&known.row)).map(|known| known.loss);
        let (runs, sum) = losses.fold((0, 0.0), |(runs, sum), loss| (runs + 1, sum + loss));
        (runs > 0).then(|| Measured { loss: sum / runs as f64, runs })
    }

    /// Simulated losses of a new run if the law is right, one per resample: the prediction plus a
    /// residual of the fitted rows, drawn with the seed of the bootstrap and scaled for the number
    /// of fitted parameters. None without a bootstrap.
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

    /// The columns in which a run lies outside the fitted rows.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Bootstrap, Options, fit};
    use crate::laws::{Finetuning, Law};
    use crate::table::{Run, Table};

    /// Runs of Equation 6 at two fractions, whose loss at 5% is higher by a tenth.
    fn fitted() -> Fit {
        let mut runs = Vec::new();
        for n_params in [1e6, 1e7, 1e8] {
            for d_ft_tokens in [1e5, 1e6, 1e7] {
                for p in [0.0, 0.05] {
                    let d_tokens = 40.0 * n_params;
                    let row = Row { n_params, d_ft_tokens, d_tokens, p, ..Row::default() };
                    let loss = Finetuning.predict(&(&row).into(), &[60.0, 0.1, 0.12, 1.2]);
                    runs.push(Run { row, loss_ft: Some(loss + 2.0 * p), ..Run::default() });
                }
            }
        }
        let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
        fit(&Table::new(runs), &Finetuning, &Options { bootstrap, ..Options::default() }).unwrap()
    }

    /// A run answers only a question about its own setting, also where the law does not read a column.
    #[test]
    fn a_run_answers_for_its_own_setting() {
        let fit = fitted();
        let row = Row { n_params: 1e7, d_ft_tokens: 1e6, ..Row::default() };
        let runs = |row: Row| fit.measured(&row).map(|found| found.runs);
        assert_eq!(runs(row), Some(2));
        assert_eq!(runs(Row { n_params: 1.02e7, ..row }), None);
        assert_eq!(runs(Row { d_tokens: 4e8, ..row }), Some(2));
        assert_eq!(runs(Row { d_tokens: 8e8, ..row }), None);
        // The runs do not say their L_pt0.
        assert_eq!(runs(Row { loss_pt0: 3.0, ..row }), Some(2));
        let [without, with] = [0.0, 0.05].map(|p| fit.measured(&Row { p, ..row }).unwrap());
        assert_eq!((without.runs, with.runs), (1, 1));
        assert!((with.loss - without.loss - 0.1).abs() < 1e-9);
        assert_eq!(runs(Row { p: 0.01, ..row }), None);
    }

    #[test]
    fn a_run_outside_its_interval_is_a_warning() {
        let fit = fitted();
        let row = Row { n_params: 1e7, d_ft_tokens: 1e6, p: 0.05, ..Row::default() };
        let mut prediction = fit.predict(&row);
        let seen = prediction.measured.unwrap().loss;
        (prediction.low, prediction.high) = (Some(seen - 0.1), Some(seen + 0.1));
        assert_eq!(prediction.contradiction(), None);
        prediction.high = Some(seen - 0.05);
        let warning = prediction.contradiction().unwrap();
        assert_eq!(warning.kind, WarningKind::RunOutsideInterval);
        assert!(warning.to_string().contains("measured was"), "{warning}");
    }
}
