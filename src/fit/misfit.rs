//! The misfit: how wrong a law is where there are no runs.
//!
//! Intervals from resampled parameters and residuals account for the noise of the runs but assume
//! that the law is right. On the committed runs it is not: with a held-out size, amount of data or
//! p such 90% intervals cover only 79% of runs. What is missing is the misfit of the law, which is
//! small near the runs and grows with the distance from them.
//!
//! Its form is fixed and its size is estimated. For a run it is normal with mean 0 and variance
//!
//! ```text
//! rise² · Σ_axes κ_axis² · d_axis²
//! ```
//!
//! where rise is the law's L − L_pt⁰ (L for a law without L_pt⁰), an axis is ln N, ln D_ft, ln D or
//! ln(1 + p/p₀) with p₀ the smallest p > 0 of the runs, and d is the distance on the axis: outside
//! the runs the distance to the nearest value, between two values at distances a and b it is ab/(a
//! + b).
//!
//! The κ maximise the likelihood of the errors on held-out runs: each size, each amount of data,
//! each p, and the largest size with the most data, each time with a law fitted to the others. The
//! variance of such an error is the sum of those of the noise, the parameters (linearised around
//! the optimum) and the misfit. The errors of one fold are correlated, so each fold counts as one
//! error. A weak prior keeps a κ without evidence near its usual value: a factor of e² counts as
//! much as an error of 0.9 standard deviations. Where the law is right, the κ are small and the
//! intervals are close to those without a misfit (`golden/coverage/new-runs.csv`).

use super::Fit;
use super::design::Gaussian;
use super::held_out::{Fold, HoldOut, folds};
use super::in_order;
use super::objective::Space;
use super::optimum::{Optimum, refit};
use super::problem::Problem;
use crate::Result;
use crate::laws::{Law, Point, Row};
use crate::table::{Column, Sample};
use serde::{Deserialize, Serialize};

/// The misfit of a law: its size on each axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misfit {
    /// The axes, in the order of the law's inputs.
    pub axes: Vec<Axis>,
    /// The number of folds it was estimated from; with 0 it has the usual values.
    pub folds: usize,
}

/// An axis of the misfit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// The column.
    pub column: String,
    /// κ: the standard deviation of the misfit, as a share of the increase, at a distance of 1, a factor
    /// of e.
    pub deviation: f64,
}

/// The usual κ of laws of forgetting, and of other laws.
const USUAL_OF_RISE: f64 = 0.25;
const USUAL_OF_LOSS: f64 = 0.05;
/// The weight of the prior's penalty, the square of ln κ minus ln of the usual κ.
const PRIOR: f64 = 0.1;
/// The standard deviation of the coordinates of the parameters before there are runs.
const VAGUE: f64 = 3.0;

/// The axes of a law.
fn axes(law: &dyn Law) -> impl Iterator<Item = Column> {
    law.inputs().iter().map(|input| input.column).filter(|column| *column != Column::LossPt0)
}

/// The smallest p above 0; 1 if there is none.
fn smallest_p(rows: impl Iterator<Item = f64>) -> f64 {
    let least = rows.filter(|p| *p > 0.0).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 1.0 }
}

/// The coordinate of a run on an axis.
fn coordinate(column: Column, row: &Row, smallest_p: f64) -> f64 {
    match column {
        Column::P => (row.p / smallest_p).ln_1p(),
        _ => row.get(column).ln(),
    }
}

/// The distance of a coordinate from known ones.
fn distance(known: impl Iterator<Item = f64>, place: f64) -> f64 {
    let (mut below, mut above) = (f64::INFINITY, f64::INFINITY);
    for x in known {
        if x <= place {
            below = below.min(place - x);
        }
        if x >= place {
            above = above.min(x - place);
        }
    }
    match (below.is_finite(), above.is_finite()) {
        (true, true) if below + above > 0.0 => below * above / (below + above),
        (true, true) => 0.0,
        (true, false) => below,
        (false, true) => above,
        (false, false) => 0.0,
    }
}

/// The quantity of which the misfit is a share, in the objective's space.
fn rise(law: &dyn Law, space: Space, point: &Point, prediction: f64) -> f64 {
    let rise = prediction - law.baseline(point).unwrap_or(0.0);
    match space {
        Space::Log => rise / prediction,
        Space::Raw => rise,
    }
}

impl Fit {
    /// The standard deviation that a new run has in addition to its noise, in the objective's
    /// space: the misfit of the law, and the spread between pretrained models; 0 if neither is
    /// known.
    pub fn misfit_deviation(&self, row: &Row) -> f64 {
        let point = Point::from(row);
        let prediction = self.law.predict(&point, &self.values());
        let rise = rise(self.law, self.minimised.space, &point, prediction).abs();
        let mut shares = 0.0;
        if let Some(misfit) = &self.misfit {
            let smallest = smallest_p(self.rows.iter().map(|known| known.row.p));
            for (column, axis) in axes(self.law).zip(&misfit.axes) {
                let place = |row: &Row| coordinate(column, row, smallest);
                let known = self.rows.iter().map(|known| place(&known.row));
                shares += (axis.deviation * distance(known, place(row))).powi(2);
            }
        }
        if self.law.baseline(&point).is_some() {
            shares += self.model_spread.unwrap_or(0.0).powi(2);
        }
        let deviation = rise * shares.sqrt();
        if deviation.is_finite() { deviation } else { 0.0 }
    }
}

/// An error on a held-out run.
struct HeldOutError {
    square: f64,
    /// What noise and parameters contribute to its variance.
    known: f64,
    /// What each axis contributes with κ = 1.
    axes: Vec<f64>,
    /// One over the number of errors of its fold.
    weight: f64,
}

/// Estimates the misfit of a law from held-out runs.
///
/// # Errors
/// If the computation is stopped.
pub(super) fn learn(
    problem: &Problem,
    optimum: &Optimum,
    sample: &Sample,
    threads: usize,
) -> Result<Misfit> {
    let law = problem.law;
    let columns: Vec<Column> = axes(law).collect();
    let smallest = smallest_p(sample.rows.iter().map(|row| row.p));
    let place = |row: &Row| -> Vec<f64> {
        columns.iter().map(|&column| coordinate(column, row, smallest)).collect()
    };
    let places: Vec<Vec<f64>> = sample.rows.iter().map(place).collect();
    let axes = [HoldOut::Size, HoldOut::Data, HoldOut::P, HoldOut::Largest];
    let all: Vec<Fold> =
        axes.into_iter().filter_map(|by| folds(law, sample, by).ok()).flatten().collect();
    let of_fold = |i: usize| held_out(problem, optimum, &all[i], &places);
    let errors: Result<Vec<_>> = in_order(all.len(), threads, of_fold)?.into_iter().collect();
    let errors: Vec<HeldOutError> = errors?.into_iter().flatten().collect();
    let usual = match law.baseline(&sample.points[0]) {
        Some(_) => USUAL_OF_RISE,
        None => USUAL_OF_LOSS,
    };
    let deviations = most_likely(&errors, columns.len(), usual);
    let axis = |(column, deviation): (&Column, f64)| Axis { column: column.to_string(), deviation };
    Ok(Misfit { axes: columns.iter().zip(deviations).map(axis).collect(), folds: all.len() })
}

/// The errors of a law that is fitted without a fold, on the fold.
fn held_out(
    problem: &Problem,
    optimum: &Optimum,
    fold: &Fold,
    places: &[Vec<f64>],
) -> Result<Vec<HeldOutError>> {
    let of = |indices: &[usize]| {
        let mut is_in = vec![false; places.len()];
        indices.iter().for_each(|&i| is_in[i] = true);
        let rows = problem.rows.iter().enumerate().filter(|(_, row)| is_in[row.index]);
        problem.select(&rows.map(|(i, _)| i).collect::<Vec<_>>())
    };
    let (train, test) = (of(&fold.train), of(&fold.test));
    let x = refit(&train, &optimum.x, &optimum.grid, optimum.delta)?.x;
    let residuals = train.residuals(&x);
    let squares: f64 = residuals.iter().zip(&train.rows).map(|(r, row)| row.weight * r * r).sum();
    let spare = residuals.len().saturating_sub(train.dim()).max(1) as f64;
    let noise = squares / train.weight() * residuals.len() as f64 / spare;
    if !(noise.is_finite() && noise > 0.0) {
        return Ok(Vec::new());
    }
    let mut parameters = Gaussian::new(&vec![(0.0, VAGUE); train.dim()]);
    for (weight, derivatives) in train.derivatives(&x) {
        parameters.learn(&derivatives[..train.dim()], 0.0, noise / weight);
    }
    let predictions = test.predictions(&x);
    let derivatives = test.derivatives(&x);
    let errors = test.residuals(&x);
    let mut found = Vec::new();
    let mut next = 0;
    for ((setting, rows), (_, derivatives)) in test.by_setting().zip(&derivatives) {
        let variance = parameters.variance(&derivatives[..test.dim()]);
        let rise = rise(test.law, test.space, &test.points[setting], predictions[setting]);
        for row in rows {
            let share = |axis: usize| {
                let known = fold.train.iter().map(|&i| places[i][axis]);
                (rise * distance(known, places[row.index][axis])).powi(2)
            };
            found.push(HeldOutError {
                square: errors[next].powi(2),
                known: noise + variance,
                axes: (0..places[row.index].len()).map(share).collect(),
                weight: 1.0 / test.rows.len() as f64,
            });
            next += 1;
        }
    }
    let good = |error: &HeldOutError| {
        error.square.is_finite()
            && error.known.is_finite()
            && error.axes.iter().all(|a| a.is_finite())
    };
    found.retain(good);
    Ok(found)
}

/// The κ of the largest likelihood times prior: one after another on a coarse grid of ln κ, and then
/// on a finer one around.
fn most_likely(errors: &[HeldOutError], axes: usize, usual: f64) -> Vec<f64> {
    const ROUNDS: usize = 4;
    const STEPS: [(f64, i32); 3] = [(0.8, 10), (0.2, 4), (0.05, 4)];
    let mut logs = vec![usual.ln(); axes];
    let loss = |logs: &[f64]| {
        let squares: Vec<f64> = logs.iter().map(|ln| (2.0 * ln).exp()).collect();
        let of = |error: &HeldOutError| {
            let misfit: f64 = error.axes.iter().zip(&squares).map(|(a, s)| a * s).sum();
            let variance = error.known + misfit;
            0.5 * error.weight * (variance.ln() + error.square / variance)
        };
        let prior: f64 = logs.iter().map(|ln| PRIOR * (ln - usual.ln()).powi(2)).sum();
        errors.iter().map(of).sum::<f64>() + prior
    };
    for (step, reach) in STEPS {
        for _ in 0..ROUNDS {
            let before = logs.clone();
            for axis in 0..axes {
                let middle = logs[axis];
                let mut best = (f64::INFINITY, middle);
                for i in -reach..=reach {
                    logs[axis] = middle + f64::from(i) * step;
                    let value = loss(&logs);
                    if value < best.0 {
                        best = (value, logs[axis]);
                    }
                }
                logs[axis] = best.1;
            }
            if logs == before {
                break;
            }
        }
    }
    logs.into_iter().map(f64::exp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Bootstrap, Options, fit};
    use crate::laws::{Finetuning, Forgetting};
    use crate::rng::Key;
    use crate::table::{Run, Table};

    #[test]
    fn distances_shrink_between_two_runs() {
        let known = || [1.0, 3.0, 7.0].into_iter();
        assert_eq!(distance(known(), 3.0), 0.0);
        assert_eq!(distance(known(), 9.0), 2.0);
        assert_eq!(distance(known(), 0.5), 0.5);
        assert_eq!(distance(known(), 2.0), 0.5);
        assert_eq!(distance(known(), 4.0), 0.75);
        assert_eq!(distance(std::iter::empty(), 4.0), 0.0);
    }

    /// Errors of the variance 0.01 + 0.09·d² on one axis.
    #[test]
    fn the_size_of_a_planted_misfit_is_found() {
        let key = Key::new(3);
        let error = |i: u64| {
            let d = 0.5 * (1 + i % 4) as f64;
            let square = (0.01 + 0.09 * d * d) * key.normal(i).powi(2);
            HeldOutError { square, known: 0.01, axes: vec![d * d, 0.0], weight: 1.0 }
        };
        let errors: Vec<_> = (0..4000).map(error).collect();
        let found = most_likely(&errors, 2, 0.05);
        // A standard deviation of 4,000 squares is known to about 1%.
        assert!((found[0] / 0.3 - 1.0).abs() < 0.06, "{found:?}");
        // Of the second axis nothing is seen.
        assert!((found[1] / 0.05 - 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!(most_likely(&[], 1, 0.25), [0.25f64.ln().exp()]);
    }

    fn table(law: &dyn Law, values: &[f64], bend: f64) -> Table {
        let mut runs = Vec::new();
        for (n_params, loss_pt0) in [(41e6, 3.31), (109e6, 2.98), (334e6, 2.66), (665e6, 2.49)] {
            for d_ft_tokens in [3e5, 1e6, 3e6, 1e7] {
                for p in [0.0, 0.005, 0.01, 0.05] {
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    let noise = 0.005 * Key::new(5).normal(runs.len() as u64);
                    let bent = bend * (n_params / 165e6).ln().powi(2);
                    let base = law.baseline(&(&row).into()).unwrap_or(0.0);
                    let rise = (law.predict(&(&row).into(), values) - base) * bent.exp();
                    let mut run = Run { row, ..Run::default() };
                    run.set(law.output(), Some((base + rise) * noise.exp()));
                    runs.push(run);
                }
            }
        }
        Table::new(runs)
    }

    fn fitted(table: &Table, law: &'static dyn Law, misfit: bool) -> Fit {
        let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
        fit(table, law, &Options { bootstrap, misfit, ..Options::default() }).unwrap()
    }

    #[test]
    fn a_law_that_is_bent_has_a_misfit_and_one_that_is_right_has_none_to_speak_of() {
        let values = [6.0, 829.0, 0.4, 0.35];
        let deviation = |bend: f64| {
            let fit = fitted(&table(&Forgetting, &values, bend), &Forgetting, true);
            let axes = fit.misfit.as_ref().unwrap().axes.clone();
            assert_eq!(axes[0].column, "n_params");
            axes[0].deviation
        };
        let (right, bent) = (deviation(0.0), deviation(0.3));
        assert!(right < 0.06 && bent > 0.15 && bent < 1.0, "{right} {bent}");
    }

    #[test]
    fn the_interval_grows_with_the_distance_and_is_the_old_one_at_a_run() {
        let values = [60.0, 0.1, 0.12, 1.2];
        let table = table(&Finetuning, &values, 0.05);
        let (new, old) = (fitted(&table, &Finetuning, true), fitted(&table, &Finetuning, false));
        let at = |n_params: f64| Row { n_params, d_ft_tokens: 1e6, ..Row::default() };
        let run = at(109e6);
        assert_eq!(new.outcomes(&run), old.outcomes(&run));
        assert_eq!(old.misfit_deviation(&at(1e10)), 0.0);
        let deviations = [109e6, 150e6, 1e9, 1e10].map(|n| new.misfit_deviation(&at(n)));
        assert_eq!(deviations[0], 0.0);
        assert!(deviations.windows(2).all(|pair| pair[0] < pair[1]), "{deviations:?}");
        let far = new.predict(&at(1e10));
        assert_eq!(far.if_right_low, old.predict(&at(1e10)).low);
        assert!(far.low < far.if_right_low && far.high > far.if_right_high);
        assert_eq!((far.law_low, far.law_high), {
            let old = old.predict(&at(1e10));
            (old.law_low, old.law_high)
        });
    }
}
