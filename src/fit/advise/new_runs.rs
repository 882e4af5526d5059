//! Which new runs would say most about a prediction.

use super::{Advisor, Asked, check};
use crate::Result;
use crate::laws::Row;
use crate::table::Column;
use crate::warning::{Warning, WarningKind};
use serde::Serialize;

/// A run that could be made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NewRun {
    /// Its model size in parameters.
    pub n_params: f64,
    /// Its target data in tokens.
    pub d_ft_tokens: f64,
    /// Its fraction p.
    pub p: f64,
    /// The share of the variance that it would remove by itself.
    pub alone: f64,
    /// The share that it and those before it in the list would remove together.
    pub together: f64,
}

/// The runs that would most reduce the uncertainty of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewRuns {
    /// The law that was asked.
    pub law: &'static str,
    /// The standard deviation of the law's increase L_pt − L_pt⁰ at the point in question, over the
    /// resamples, in nats per token.
    pub deviation: f64,
    /// The standard deviation of the noise of a single run there, which no other run removes, in
    /// nats per token.
    pub noise: f64,
    /// The runs, the best first.
    pub runs: Vec<NewRun>,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

/// The standard deviation in nats below which resampled laws differ by rounding alone.
const ROUNDING: f64 = 1e-8;

impl Advisor<'_> {
    /// The runs (N, D_ft, p) that would most reduce the uncertainty of the forgetting law at a
    /// point. Reads N, D_ft and p.
    ///
    /// Observing the loss c of a run with noise of variance σ² removes Cov(q, c)² / (Var c + σ²) of
    /// the variance of a quantity q, if all are normal: the update of a linear-Gaussian model, as
    /// in Lindley ("On a measure of the information provided by an experiment", 1956) and MacKay
    /// ("Information-based objective functions for active data selection", 1992). Here the moments
    /// are those of the resamples, q is the law at the point and σ² is from the fitted rows'
    /// residuals. Each run of the list is the best one after those before it. A run may be a new
    /// seed of one that was made.
    ///
    /// Candidates are the grid of the fitted N, D_ft and p, with one more step at either end. Their
    /// costs do not count, and the law is assumed to hold: runs that would test it are not looked
    /// for.
    ///
    /// # Errors
    /// If there is no forgetting law with resamples, or a number is outside its domain.
    pub fn best_new_runs(&self, row: &Row, count: usize) -> Result<NewRuns> {
        let law = self.law(Column::LossPt)?;
        check(row, &[Column::NParams, Column::DFtTokens, Column::P])?;
        // Where the increase starts matters to the noise alone.
        let point = Row { loss_pt0: loss_pt0_near(&law, row.n_params), ..*row };
        let Candidate { loss: mut asked, noise, .. } = Candidate::new(&law, point);
        let noise = noise.sqrt();
        let mut candidates: Vec<Candidate> =
            grid(&law).into_iter().map(|row| Candidate::new(&law, row)).collect();
        let variance = asked.left(&asked);
        let mut warnings = law.warnings(row);
        let mut runs: Vec<NewRun> = Vec::new();
        if !(variance.is_finite() && variance.sqrt() > ROUNDING) {
            let message = "the resampled laws agree: there is nothing to shrink";
            warnings.push(WarningKind::NothingToShrink.warn(message));
            return Ok(NewRuns { law: law.name(), deviation: 0.0, noise, runs, warnings });
        }
        let removed = |asked: &Uncertain, run: &Candidate| {
            let gain = asked.left(&run.loss).powi(2) / run.variance();
            if gain.is_finite() { gain / variance } else { 0.0 }
        };
        let alone: Vec<f64> = candidates.iter().map(|run| removed(&asked, run)).collect();
        for _ in 0..count {
            let shares = candidates.iter().map(|run| removed(&asked, run)).enumerate();
            // Of equals the first.
            let Some((best, share)) = shares.reduce(|a, b| if b.1 > a.1 { b } else { a }) else {
                break;
            };
            let before = runs.last().map_or(0.0, |run| run.together);
            let Row { n_params, d_ft_tokens, p, .. } = candidates[best].row;
            let together = before + share;
            runs.push(NewRun { n_params, d_ft_tokens, p, alone: alone[best], together });
            let learned = candidates[best].clone();
            asked.learn(&learned);
            candidates.iter_mut().for_each(|run| run.loss.learn(&learned));
        }
        Ok(NewRuns { law: law.name(), deviation: variance.sqrt(), noise, runs, warnings })
    }
}

/// A loss that the resamples leave uncertain.
#[derive(Clone)]
struct Uncertain {
    /// What the resampled laws say, less its mean.
    draws: Vec<f64>,
    /// For each run that is taken as made, the covariance with what was new in it, over the
    /// deviation of what was new in it.
    loadings: Vec<f64>,
}

impl Uncertain {
    fn new(draws: Vec<f64>) -> Self {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        Self { draws: draws.into_iter().map(|x| x - mean).collect(), loadings: Vec::new() }
    }

    /// The covariance that is left.
    fn left(&self, other: &Self) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&self.draws, &other.draws) / self.draws.len() as f64
            - dot(&self.loadings, &other.loadings)
    }

    fn learn(&mut self, run: &Candidate) {
        self.loadings.push(self.left(&run.loss) / run.variance().sqrt());
    }
}

/// A run that could be made.
#[derive(Clone)]
struct Candidate {
    row: Row,
    loss: Uncertain,
    /// The variance of its noise.
    noise: f64,
}

impl Candidate {
    fn new(law: &Asked, row: Row) -> Self {
        let curves = law.fit.curves(&row);
        let outcomes = law.fit.outcomes_if_right(&row);
        let noise = Uncertain::new(outcomes.iter().zip(&curves).map(|(o, c)| o - c).collect());
        Self { row, noise: noise.left(&noise), loss: Uncertain::new(curves) }
    }

    /// The variance of what is observed.
    fn variance(&self) -> f64 {
        self.loss.left(&self.loss) + self.noise
    }
}

/// The grid of the fitted N, D_ft and p, with one step more at either end.
fn grid(law: &Asked) -> Vec<Row> {
    let sizes = with_ends(fitted(law, Column::NParams), f64::INFINITY);
    let tokens = with_ends(fitted(law, Column::DFtTokens), f64::INFINITY);
    let fractions = with_ends(fitted(law, Column::P), 1.0);
    let mut rows = Vec::with_capacity(sizes.len() * tokens.len() * fractions.len());
    for &n_params in &sizes {
        let loss_pt0 = loss_pt0_near(law, n_params);
        for &d_ft_tokens in &tokens {
            let row = |&p: &f64| Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
            rows.extend(fractions.iter().map(row));
        }
    }
    rows
}

/// The distinct values of a column, in ascending order.
fn fitted(law: &Asked, column: Column) -> Vec<f64> {
    let mut values: Vec<f64> = law.fit.rows.iter().map(|run| run.row.get(column)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// One more value at either end of those above 0, as far as these are apart in the geometric mean,
/// and none above `most`.
fn with_ends(values: Vec<f64>, most: f64) -> Vec<f64> {
    let positive: Vec<f64> = values.iter().copied().filter(|&value| value > 0.0).collect();
    let (Some(&first), Some(&last)) = (positive.first(), positive.last()) else { return values };
    let ratio = match positive.len() {
        1 => 2.0,
        n => (last / first).powf(1.0 / (n - 1) as f64),
    };
    let mut all = values;
    all.push(first / ratio);
    all.push((last * ratio).min(most));
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The mean L_pt⁰ of the fitted runs of the nearest size: it matters to the noise alone.
fn loss_pt0_near(law: &Asked, n_params: f64) -> f64 {
    let distance = |run: &Row| (run.n_params / n_params).ln().abs();
    let rows = || law.fit.rows.iter().map(|run| &run.row);
    let nearest = rows().map(distance).fold(f64::INFINITY, f64::min);
    let near: Vec<f64> =
        rows().filter(|row| distance(row) == nearest).map(|row| row.loss_pt0).collect();
    near.iter().sum::<f64>() / near.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_more_at_either_end() {
        let close = |found: Vec<f64>, wanted: &[f64]| {
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12 * b.abs();
            assert!(!found.iter().zip(wanted).any(far), "{found:?}");
        };
        close(with_ends(vec![1.0, 2.0, 16.0], f64::INFINITY), &[0.25, 1.0, 2.0, 16.0, 64.0]);
        close(with_ends(vec![0.0, 0.1, 0.5], 1.0), &[0.0, 0.02, 0.1, 0.5, 1.0]);
        close(with_ends(vec![0.0, 0.5, 1.0], 1.0), &[0.0, 0.25, 0.5, 1.0]);
        close(with_ends(vec![3.0], f64::INFINITY), &[1.5, 3.0, 6.0]);
        close(with_ends(vec![0.0], 1.0), &[0.0]);
    }

    /// Two losses that move together: what is learned of one with noise as large as its spread
    /// halves what is unknown of both.
    #[test]
    fn learning_takes_away_what_is_shared() {
        let draws = vec![1.0, -1.0, 3.0, -3.0];
        let double = draws.iter().map(|x| 10.0 + 2.0 * x).collect();
        let (mut asked, loss) = (Uncertain::new(double), Uncertain::new(draws));
        assert_eq!((asked.left(&asked), asked.left(&loss), loss.left(&loss)), (20.0, 10.0, 5.0));
        let mut run = Candidate { row: Row::default(), loss, noise: 5.0 };
        let learned = run.clone();
        asked.learn(&learned);
        run.loss.learn(&learned);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(asked.left(&asked), 10.0) && near(asked.left(&run.loss), 5.0));
        // The same again leaves a third, as a mean of two does.
        let learned = run.clone();
        asked.learn(&learned);
        assert!(near(asked.left(&asked), 20.0 / 3.0));
    }
}
