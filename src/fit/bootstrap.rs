//! How far the parameters would move with other runs.

use super::errors::mean_relative_error;
use super::in_order;
use super::json::{infinite_for_null, infinities_for_nulls};
use super::optimum::{Optimum, refit};
use super::problem::Problem;
use crate::rng::Key;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A bootstrap over whole runs: as many runs as there are, drawn with replacement, and the law
/// fitted anew from several starts. The paper reports "bootstrapped" errors; how many resamples and
/// of what is unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The number of resamples; 0 for none.
    pub resamples: usize,
    /// What share of them an interval holds.
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
    /// None.
    pub const NONE: Self = Self { resamples: 0, level: 0.9, seed: 0 };

    pub(super) fn check(&self) -> Result<()> {
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::setting("level", self.level, "must lie between 0 and 1"));
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
    /// What share of them an interval holds.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
    /// The mean relative error on the rows of each resample.
    pub mre: Option<Interval>,
    /// The mean relative error on the rows of the runs that a resample does not have.
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

/// Draws resamples of a problem's runs and fits each.
pub(super) fn resample(
    problem: &Problem,
    optimum: &Optimum,
    bootstrap: &Bootstrap,
    threads: usize,
) -> Option<Resampled> {
    if bootstrap.resamples == 0 {
        return None;
    }
    let key = Key::new(bootstrap.seed).named("bootstrap over runs");
    let one = |b: usize| {
        let counts = draw(problem, key.child(b as u64));
        let mut resampled = problem.clone();
        for (weight, &run) in resampled.weights.iter_mut().zip(&problem.runs) {
            *weight *= counts[run];
        }
        let found = refit(&resampled, &optimum.x, &optimum.grid, optimum.delta);
        let scaled = problem.scaled(&found.x);
        let prediction =
            |i: usize| problem.law.predict(&problem.points[i], &scaled[..problem.dim()]);
        let error = |weight: &dyn Fn(usize) -> f64| {
            let rows = 0..problem.points.len();
            mean_relative_error(rows.map(|i| (prediction(i), problem.losses[i], weight(i))))
        };
        let inside = error(&|i| resampled.weights[i]);
        let bag = |i: usize| if counts[problem.runs[i]] == 0.0 { problem.weights[i] } else { 0.0 };
        (problem.values(&found.x), inside, error(&bag))
    };
    let fitted = in_order(bootstrap.resamples, threads, one);
    let level = bootstrap.level;
    // A resample that happens to have every run has nothing out of the bag.
    let outside = fitted.iter().map(|(_, _, error)| *error).filter(|error| !error.is_nan());
    Some(Resampled {
        resamples: bootstrap.resamples,
        level,
        seed: bootstrap.seed,
        mre: Interval::of(fitted.iter().map(|(_, error, _)| *error).collect(), level),
        mre_out_of_bag: Interval::of(outside.collect(), level),
        draws: fitted.into_iter().map(|(values, _, _)| values).collect(),
    })
}

/// How often each run is drawn. Draws from which the law cannot be fitted, because they lack a
/// size, are drawn again.
fn draw(problem: &Problem, key: Key) -> Vec<f64> {
    const MOST_ATTEMPTS: u64 = 100;
    let mut counts = vec![0.0; problem.n_runs];
    for attempt in 0..MOST_ATTEMPTS {
        let key = key.child(attempt);
        counts.fill(0.0);
        for i in 0..problem.n_runs as u64 {
            counts[key.below(i, problem.n_runs as u64) as usize] += 1.0;
        }
        if problem.can_be_fitted(|run| counts[run] > 0.0) {
            break;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
