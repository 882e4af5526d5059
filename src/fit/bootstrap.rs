//! How much the parameters would vary with other runs.

use super::errors::mean_relative_error;
use super::in_order;
use super::json::{infinite_for_null, infinities_for_nulls};
use super::optimum::{Optimum, refit};
use super::problem::{Problem, ProblemRow};
use super::solve::{solve, typical_residual};
use crate::laws::Law;
use crate::rng::Key;
use crate::table::Column;
use crate::words::percent;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A bootstrap over whole runs: each resample draws as many runs as there are, with replacement,
/// and fits the law again from several starts. The paper reports "bootstrapped" errors; the number
/// and kind of resamples are unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The number of resamples; 0 for none.
    pub resamples: usize,
    /// The level of the intervals.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples and 90% intervals.
    fn default() -> Self {
        Self { resamples: 1000, level: 0.9, seed: 0 }
    }
}

impl Bootstrap {
    /// No resamples, and so no intervals.
    pub const NONE: Self = Self { resamples: 0, level: 0.9, seed: 0 };

    /// The most resamples: their parameters take about a gigabyte.
    pub const MOST: usize = 10_000_000;

    /// Checks the numbers. Intervals of a level c need at least (1 + c) / (1 − c) resamples: between
    /// the smallest and the largest of n draws another one lies with a probability of (n − 1) / (n + 1).
    ///
    /// # Errors
    /// If there are too few resamples for the level or more than [`Self::MOST`], or the level does
    /// not lie between 0 and 1.
    pub fn check(&self) -> Result<()> {
        let Self { resamples, level, .. } = *self;
        if resamples > Self::MOST {
            let requirement = format!("must be at most {}", Self::MOST);
            return Err(Error::setting("bootstrap", resamples, requirement));
        }
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::setting("level", level, "must lie between 0 and 1"));
        }
        // 19 for 90%, whatever rounding makes of it.
        let least = ((1.0 + level) / (1.0 - level) - 1e-9).ceil().min(Self::MOST as f64);
        if resamples > 0 && (resamples as f64) < least {
            let percent = percent(level);
            let requirement =
                format!("must be at least {least} for {percent} intervals, or 0 for none");
            return Err(Error::setting("bootstrap", resamples, requirement));
        }
        Ok(())
    }
}

/// An interval that holds the middle of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The mean.
    #[serde(deserialize_with = "infinite_for_null")]
    pub mean: f64,
    /// The lower end.
    #[serde(deserialize_with = "infinite_for_null")]
    pub low: f64,
    /// The upper end.
    #[serde(deserialize_with = "infinite_for_null")]
    pub high: f64,
}

impl Interval {
    /// The mean and the middle share `level` of some numbers; `None` where there are none or one
    /// is not finite.
    pub fn of(mut numbers: Vec<f64>, level: f64) -> Option<Self> {
        if numbers.is_empty() || numbers.iter().any(|x| !x.is_finite()) {
            return None;
        }
        Some(Self::around(&mut numbers, level))
    }

    /// The same of at least one number, some of which may be infinite. Sorts them.
    pub(super) fn around(numbers: &mut [f64], level: f64) -> Self {
        let (low, high) = middle(numbers, level);
        Self { mean: numbers.iter().sum::<f64>() / numbers.len() as f64, low, high }
    }
}

/// Sorts at least one number; the ends of their middle share `level`.
pub(super) fn middle(numbers: &mut [f64], level: f64) -> (f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - level);
    (quantile(numbers, tail), quantile(numbers, 1.0 - tail))
}

/// The same, wide enough to hold the value that the interval is for. The middle of the numbers can lie beside
/// it, for example where every run misses the law on the same side.
pub(super) fn middle_with(value: f64, numbers: &mut [f64], level: f64) -> (f64, f64) {
    let (low, high) = middle(numbers, level);
    (low.min(value), high.max(value))
}

/// The quantile of numbers in ascending order, interpolated linearly between them (the seventh
/// definition of Hyndman and Fan, 1996).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    // Equal ends give themselves, infinite ones too.
    if below == above { below } else { below + (above - below) * place.fract() }
}

/// The parameters of every resample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resampled {
    /// The number of resamples.
    pub resamples: usize,
    /// The level of the intervals.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
    /// The mean relative error on the rows of each resample.
    pub mre: Option<Interval>,
    /// The mean relative error on the rows of the runs that a resample lacks.
    pub mre_out_of_bag: Option<Interval>,
    /// The parameters of each resample, in the law's order.
    #[serde(deserialize_with = "infinities_for_nulls")]
    pub draws: Vec<Vec<f64>>,
}

impl Resampled {
    /// The interval of the j-th parameter.
    pub fn interval(&self, j: usize) -> Interval {
        self.interval_of(|values| values[j])
    }

    /// The interval of a number that depends on the parameters.
    pub fn interval_of(&self, of: impl Fn(&[f64]) -> f64) -> Interval {
        let mut numbers: Vec<f64> = self.draws.iter().map(|values| of(values)).collect();
        Interval::around(&mut numbers, self.level)
    }
}

/// The law fitted to a resample.
struct Resample {
    values: Vec<f64>,
    /// The mean relative error on the rows that were drawn.
    mre: f64,
    /// The mean relative error on the rows that were not drawn; NaN where all were.
    mre_out_of_bag: f64,
}

/// Draws resamples of a problem's runs and fits each.
///
/// # Errors
/// If the computation is stopped.
pub(super) fn resample(
    problem: &Problem,
    optimum: &Optimum,
    bootstrap: &Bootstrap,
    model_spread: Option<f64>,
    threads: usize,
) -> Result<Option<Resampled>> {
    if bootstrap.resamples == 0 {
        return Ok(None);
    }
    let key = Key::new(bootstrap.seed).named("bootstrap over runs");
    let noise = key.named("kernel");
    let models = key.named("pretrained models");
    let kernel = Kernel::new(problem, optimum);
    let of_row = |row: &ProblemRow| {
        let (n, d) = problem.pretraining[row.index];
        ClusterRow { n, d, model: row.model, run: row.run }
    };
    let clusters = Clusters::new(problem.law, problem.n_runs, problem.rows.iter().map(of_row));
    let one = |b: usize| -> Result<Resample> {
        let counts = match &clusters {
            Some(clusters) => clusters.draw(key.child(b as u64)),
            None => draw(problem, key.child(b as u64)),
        };
        let times = |(i, row): (usize, &ProblemRow)| std::iter::repeat_n(i, counts[row.run]);
        let rows: Vec<usize> = problem.rows.iter().enumerate().flat_map(times).collect();
        let mut resampled = problem.select(&rows);
        if let Some(kernel) = &kernel {
            kernel.smooth(&mut resampled, &rows, |draw| noise.child(b as u64).normal(draw));
        }
        if let Some(spread) = model_spread {
            other_models(&mut resampled, spread, models.child(b as u64));
        }
        let found = refit(&resampled, &optimum.x, &optimum.grid, optimum.delta)?;
        let predictions = problem.predictions(&found.x);
        let error = |times: &dyn Fn(usize) -> f64| {
            let of = |row: &ProblemRow| {
                (predictions[row.setting], row.loss, row.weight * times(row.run))
            };
            mean_relative_error(problem.rows.iter().map(of))
        };
        Ok(Resample {
            values: problem.values(&found.x),
            mre: error(&|run| counts[run] as f64),
            mre_out_of_bag: error(&|run| if counts[run] == 0 { 1.0 } else { 0.0 }),
        })
    };
    let fitted = in_order(bootstrap.resamples, threads, one)?;
    let fitted: Vec<Resample> = fitted.into_iter().collect::<Result<_>>()?;
    let level = bootstrap.level;
    // A resample that happens to have every run has nothing out of the bag.
    let outside = fitted.iter().map(|one| one.mre_out_of_bag).filter(|error| !error.is_nan());
    Ok(Some(Resampled {
        resamples: bootstrap.resamples,
        level,
        seed: bootstrap.seed,
        mre: Interval::of(fitted.iter().map(|one| one.mre).collect(), level),
        mre_out_of_bag: Interval::of(outside.collect(), level),
        draws: fitted.into_iter().map(|one| one.values).collect(),
    }))
}

/// The noise added to the residuals of a resample. It is ours; the paper's bootstrap is unknown.
///
/// With a small δ a fit is almost a median regression, and its variance depends on the density of
/// the residuals at 0, which is estimated poorly from few residuals: intervals from 125 rows were
/// about 10% too wide. The smoothed bootstrap solves this (Silverman and Young, 1987; Hall,
/// DiCiccio and Romano, 1989, for quantiles): each draw of a row gets its own normal noise and is
/// shrunk, so that normal residuals keep their distribution.
///
/// The law with the best fit to smoothed residuals differs from the fitted law and varies less, so
/// intervals around it would cover too often. Therefore residuals are computed from that law and
/// added to the fitted one, which becomes the true law of the resamples.
struct Kernel {
    /// The fitted law's predictions for each setting, in nats per token.
    predictions: Vec<f64>,
    /// The residual of each row, in the objective's space.
    residuals: Vec<f64>,
    /// The standard deviation of the noise.
    width: f64,
    shrinkage: f64,
}

impl Kernel {
    /// `None` if residuals need no noise: with squares, with a δ as wide as the kernel, or without
    /// residuals.
    fn new(problem: &Problem, optimum: &Optimum) -> Option<Self> {
        // The standard deviation of normal residuals, from the median of their sizes.
        let scale = 1.4826 * typical_residual(problem, &optimum.x);
        let rows = problem.rows.len();
        // The rule of Silverman (1986, Equation 3.31). Huber's penalty is, but for a constant, the
        // absolute one convolved with a uniform kernel on [-δ, δ], of variance δ²/3.
        let variance =
            (0.9 * scale * (rows as f64).powf(-0.2)).powi(2) - optimum.delta.powi(2) / 3.0;
        if variance <= 0.0 {
            return None;
        }
        let mut kernel = Self {
            predictions: problem.predictions(&optimum.x),
            residuals: problem.residuals(&optimum.x),
            width: variance.sqrt(),
            shrinkage: 1.0 / (1.0 + variance / scale.powi(2)).sqrt(),
        };
        let copies: Vec<usize> = (0..rows).flat_map(|i| [i; COPIES]).collect();
        let mut smoothed = problem.select(&copies);
        let key = Key::new(0).named("kernel");
        // In pairs of opposite noise, which moves nothing by itself.
        let noise = |i: u64| if i.is_multiple_of(2) { 1.0 } else { -1.0 } * key.normal(i / 2);
        kernel.smooth(&mut smoothed, &copies, noise);
        kernel.residuals = problem.residuals(&solve(&smoothed, &optimum.x, optimum.delta).x);
        Some(kernel)
    }

    /// Gives the rows of a resample, which are these rows of the problem, their noise.
    fn smooth(&self, resampled: &mut Problem, rows: &[usize], noise: impl Fn(u64) -> f64) {
        for (draw, &i) in rows.iter().enumerate() {
            let residual = self.shrinkage * (self.residuals[i] + self.width * noise(draw as u64));
            let prediction = self.predictions[resampled.rows[draw].setting];
            resampled.set_residual(draw, prediction, residual);
        }
    }
}

/// Copies of each row that stand for its smoothed residual.
const COPIES: usize = 64;

/// The runs of each pretrained model, for each size and amount of pretraining.
pub(super) struct Clusters {
    sizes: Vec<Vec<Vec<usize>>>,
    n_runs: usize,
}

/// A row, as far as clusters depend on it: N, D, its pretrained model and its run.
pub(super) struct ClusterRow {
    pub n: f64,
    pub d: f64,
    pub model: usize,
    pub run: usize,
}

impl Clusters {
    /// `None` if no size has several pretrained models, or the law is one of pretraining, since
    /// then the spread between models cannot be estimated.
    pub(super) fn new(
        law: &dyn Law,
        n_runs: usize,
        rows: impl Iterator<Item = ClusterRow>,
    ) -> Option<Self> {
        if !law.reads(Column::DFtTokens) {
            return None;
        }
        let size = |row: &ClusterRow| (row.n.to_bits(), row.d.to_bits());
        let mut rows: Vec<ClusterRow> = rows.collect();
        rows.sort_unstable_by_key(|row| (size(row), row.model, row.run));
        // A run is drawn once, with the first of its rows.
        let mut seen = vec![false; n_runs];
        rows.retain(|row| !std::mem::replace(&mut seen[row.run], true));
        let of_size = rows.chunk_by(|a, b| size(a) == size(b));
        let models = |rows: &[ClusterRow]| -> Vec<Vec<usize>> {
            let of_model = rows.chunk_by(|a, b| a.model == b.model);
            of_model.map(|rows| rows.iter().map(|row| row.run).collect()).collect()
        };
        let sizes: Vec<_> = of_size.map(models).collect();
        sizes.iter().any(|models| models.len() > 1).then_some(Self { sizes, n_runs })
    }

    /// How often each of `n_runs` runs is drawn for a paired bootstrap: by clusters, or run by run
    /// where there are none.
    pub(super) fn counts(clusters: Option<&Self>, n_runs: usize, key: Key) -> Vec<usize> {
        if let Some(clusters) = clusters {
            return clusters.draw(key);
        }
        one_by_one(n_runs, key)
    }

    /// How often each run is drawn: for each size as many models as there are, and for each drawn
    /// model as many runs as it has.
    pub(super) fn draw(&self, key: Key) -> Vec<usize> {
        let mut counts = vec![0; self.n_runs];
        let mut next = 0;
        let mut below = |count: usize| {
            next += 1;
            key.below(next, count as u64) as usize
        };
        for models in &self.sizes {
            for _ in 0..models.len() {
                let runs = &models[below(models.len())];
                for _ in 0..runs.len() {
                    counts[runs[below(runs.len())]] += 1;
                }
            }
        }
        counts
    }
}

/// Replaces every pretrained model by another one, by multiplying the increases of all its runs by
/// one random factor. The spread is the standard deviation of the factor's logarithm.
fn other_models(resampled: &mut Problem, spread: f64, key: Key) {
    for i in 0..resampled.rows.len() {
        let ProblemRow { loss, setting, model, .. } = resampled.rows[i];
        if let Some(base) = resampled.law.baseline(&resampled.points[setting]) {
            let factor = (spread * key.normal(model as u64)).exp();
            resampled.set_loss(i, base + factor * (loss - base));
        }
    }
}

/// How often each run is drawn, each by itself.
fn one_by_one(n_runs: usize, key: Key) -> Vec<usize> {
    let mut counts = vec![0; n_runs];
    for i in 0..n_runs as u64 {
        counts[key.below(i, n_runs as u64) as usize] += 1;
    }
    counts
}

/// How often each run is drawn. Draws to which the law cannot be fitted, because they lack a size,
/// are repeated.
fn draw(problem: &Problem, key: Key) -> Vec<usize> {
    const MOST_ATTEMPTS: u64 = 100;
    let mut counts = Vec::new();
    for attempt in 0..MOST_ATTEMPTS {
        counts = one_by_one(problem.n_runs, key.child(attempt));
        if problem.can_be_fitted(|run| counts[run] > 0) {
            break;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::objective::{Objective, Penalty, Space};
    use crate::fit::optimum::optimum;
    use crate::laws::{Finetuning, Law, Row};
    use crate::table::{Run, Table};

    #[test]
    fn more_resamples_than_memory_holds_are_refused() {
        let check = |resamples| Bootstrap { resamples, ..Bootstrap::default() }.check();
        assert!(check(Bootstrap::MOST).is_ok());
        for resamples in [Bootstrap::MOST + 1, 1 << 40, usize::MAX] {
            let error = check(resamples).unwrap_err().to_string();
            assert_eq!(error, format!("bootstrap = {resamples}: must be at most 10000000"));
        }
    }

    #[test]
    fn fewer_resamples_than_an_interval_needs_are_refused() {
        let check = |resamples, level| Bootstrap { resamples, level, seed: 0 }.check();
        for (resamples, level) in
            [(0, 0.9), (19, 0.9), (3, 0.5), (39, 0.95), (Bootstrap::MOST, 0.9999999)]
        {
            assert!(check(resamples, level).is_ok(), "{resamples} {level}");
        }
        for (resamples, level) in [(1, 0.9), (18, 0.9), (2, 0.5), (38, 0.95), (1000, 0.9999999)] {
            assert!(check(resamples, level).is_err(), "{resamples} {level}");
        }
        assert_eq!(
            check(1, 0.9).unwrap_err().to_string(),
            "bootstrap = 1: must be at least 19 for 90% intervals, or 0 for none"
        );
    }

    #[test]
    fn quantiles_interpolate() {
        let numbers = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!(quantile(&numbers, 0.0), 1.0);
        assert_eq!(quantile(&numbers, 1.0), 16.0);
        assert_eq!(quantile(&numbers, 0.5), 4.0);
        assert_eq!(quantile(&numbers, 0.6), 4.0 + 0.4 * 4.0);
        assert_eq!(quantile(&[3.0], 0.3), 3.0);
    }

    #[test]
    fn an_interval_holds_the_middle() {
        let interval = Interval::of((0..=100).rev().map(f64::from).collect(), 0.5).unwrap();
        assert_eq!(interval, Interval { mean: 50.0, low: 25.0, high: 75.0 });
        assert_eq!(Interval::of(vec![], 0.9), None);
        assert_eq!(Interval::of(vec![1.0, f64::NAN], 0.9), None);
    }

    /// A planted law with normal noise in the log loss, and its fit.
    fn fitted(noise: f64, objective: &Objective) -> (Problem, Optimum) {
        let mut runs = Vec::new();
        for i in 0..60u32 {
            let (n_params, d_ft_tokens) = (1e7 * f64::from(1 + i % 6), 1e6 * f64::from(1 + i / 6));
            let row = Row { n_params, d_ft_tokens, ..Row::default() };
            let error = (noise * Key::new(1).normal(i.into())).exp();
            let loss = Finetuning.predict(&(&row).into(), &[60.0, 0.1, 0.12, 1.2]) * error;
            runs.push(Run { row, loss_ft: Some(loss), ..Run::default() });
        }
        let sample = Table::new(runs).sample(&Finetuning).unwrap();
        let problem = Problem::new(&Finetuning, &sample, objective.space);
        let optimum = optimum(&problem, objective, 1).unwrap();
        (problem, optimum)
    }

    #[test]
    fn only_a_penalty_that_is_sharper_than_the_residuals_asks_for_noise() {
        let width = |noise, penalty| {
            let (problem, optimum) = fitted(noise, &Objective { space: Space::Log, penalty });
            Kernel::new(&problem, &optimum).map(|kernel| kernel.width)
        };
        assert_eq!(width(0.01, Penalty::Squared), None);
        assert_eq!(width(0.01, Penalty::Huber(0.01)), None);
        assert_eq!(width(0.0, Penalty::Huber(1e-3)), None);
        assert_eq!(width(0.0, Penalty::Absolute), None);
        let (sharp, huber) = (width(0.01, Penalty::Absolute), width(0.01, Penalty::Huber(1e-3)));
        // 0.9 · 60^(-1/5) = 0.4 of 0.01, for which 60 residuals with 4 parameters stand to a quarter.
        assert!((0.003..0.005).contains(&sharp.unwrap()), "{sharp:?}");
        assert!(huber < sharp && huber > Some(0.002), "{huber:?}");
    }

    /// Each draw of a row has its own noise, all rows keep their variance, and the fitted law is
    /// the best one of the smoothed rows.
    #[test]
    fn smoothed_rows_have_the_fitted_laws_residuals() {
        for space in [Space::Log, Space::Raw] {
            let penalty = Penalty::Huber(1e-3);
            let (problem, optimum) = fitted(0.01, &Objective { space, penalty });
            let kernel = Kernel::new(&problem, &optimum).unwrap();
            let rows: Vec<usize> = (0..60).flat_map(|i| [i; 400]).collect();
            let mut smoothed = problem.select(&rows);
            kernel.smooth(&mut smoothed, &rows, |draw| Key::new(2).normal(draw));
            assert!(smoothed.rows[0].loss != smoothed.rows[1].loss);
            for row in &smoothed.rows {
                assert!((space.of(row.loss) - row.target).abs() < 1e-14);
            }
            let variance = |r: &[f64]| r.iter().map(|r| r * r).sum::<f64>() / r.len() as f64;
            let scale = 1.4826 * typical_residual(&problem, &optimum.x);
            let expected =
                kernel.shrinkage.powi(2) * (variance(&kernel.residuals) + kernel.width.powi(2));
            let found = variance(&smoothed.residuals(&optimum.x));
            // 24,000 draws of a noise with a seventh of the variance.
            assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
            assert!(
                (kernel.shrinkage.powi(2) * (scale.powi(2) + kernel.width.powi(2)) / scale.powi(2)
                    - 1.0)
                    .abs()
                    < 1e-12
            );
            let best = solve(&smoothed, &optimum.x, optimum.delta).value;
            let value = smoothed.value(&optimum.x, optimum.delta);
            assert!(value < best * (1.0 + 1e-4), "{value} {best}");
            // Around the residuals of the fitted law itself, another law would be better.
            let own = Kernel { residuals: problem.residuals(&optimum.x), ..kernel };
            own.smooth(&mut smoothed, &rows, |draw| Key::new(2).normal(draw));
            let best = solve(&smoothed, &optimum.x, optimum.delta).value;
            assert!(smoothed.value(&optimum.x, optimum.delta) > best * (1.0 + 3e-4));
        }
    }
}
