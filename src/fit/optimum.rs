//! The optimum, and why it can be trusted.

use super::identifiability::{DEFAULT_TOLERANCE, Identifiability};
use super::in_order;
use super::objective::{Objective, Penalty};
use super::problem::{Matrix, Problem, Vector};
use super::solve::{DECREMENT, Minimum, Quadratic, ROUGH, descend, free, solve, typical_residual};
use super::starts::{Grid, Start};
use crate::laws::Role;
use crate::rng::Key;
use crate::{Error, Result};
use ndarray::Array2;
use ndarray_linalg::{Eigh, UPLO};
use serde::{Deserialize, Serialize};

/// The status of a fit. It depends on the gradient, the curvature and the agreement of restarts at
/// the returned point, not on the termination of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The gradient vanishes, the curvature is positive in every direction, and several descents end
    /// here.
    Converged,
    /// The same, with parameters held at 0 by their derivative. Zero is a valid result: no
    /// irreducible loss, no effect of the model size.
    AtBound,
    /// In some directions the predictions do not change: the runs do not determine the parameters.
    NotIdentified,
    /// The gradient does not vanish, or no two descents end here. The fit should not be trusted.
    NotConverged,
}

/// A direction that the runs do not determine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undetermined {
    /// The change of each parameter along it, relative for parameters above 0. A unit vector in the
    /// order of the law's parameters.
    pub direction: Vec<f64>,
    /// The same as text, such as `alpha + 0.05 A`, or `an upper limit of B`.
    pub words: String,
}

/// The results of the restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// The number of descents from starts out of a screened grid, all over the domain.
    pub started: usize,
    /// How many of them ended at the optimum.
    pub agreed: usize,
    /// The number of descents from places near the best minimum, which search for a better one.
    #[serde(default)]
    pub started_nearby: usize,
    /// How many of them ended at the optimum. None ended lower.
    #[serde(default)]
    pub agreed_nearby: usize,
}

/// The optimum of a problem.
pub(super) struct Optimum {
    pub x: Vector,
    pub status: Status,
    pub at_bound: Vec<usize>,
    pub undetermined: Vec<Undetermined>,
    pub condition_number: f64,
    pub restarts: Restarts,
    /// Huber's δ of the last descent; infinite for squares.
    pub delta: f64,
    /// The nodes of the grid that may matter to a resample of the rows.
    pub grid: Grid,
}

/// Starts that are always descended from, and those after which agreement is given up.
const STARTS: usize = 12;
const MOST_STARTS: usize = 36;

/// The relative excess of the objective at which two descents ended at the same optimum.
const AGREEMENT: f64 = 1e-9;

/// The share of the objective that a Newton step may still gain at a point that counts as
/// stationary.
const STATIONARY: f64 = 1e-10;

/// Nodes of the grid that a resample screens.
const NODES_OF_RESAMPLES: usize = 40;

/// The optimum over the whole domain.
pub(super) fn optimum(problem: &Problem, objective: &Objective, threads: usize) -> Result<Optimum> {
    let first = match objective.penalty {
        Penalty::Huber(delta) => delta,
        Penalty::Squared | Penalty::Absolute => f64::INFINITY,
    };
    let grid = Grid::new(problem, first, threads)?;
    let screened = grid.screen(problem, first, threads)?;
    let delta = match objective.penalty {
        Penalty::Absolute => absolute_delta(problem, &screened),
        _ => first,
    };
    let starts: Vec<Vector> =
        grid.spread(&screened, MOST_STARTS).iter().map(|start| start.x).collect();
    let (best, restarts) = search(problem, &starts, delta, threads)?;
    let resampled: Vec<Start> = screened.into_iter().take(NODES_OF_RESAMPLES).collect();
    let Judgement { status, at_bound, undetermined, condition_number } =
        judge(problem, &best, delta, restarts)?;
    Ok(Optimum {
        x: best.x,
        status,
        at_bound,
        undetermined,
        condition_number,
        restarts,
        delta,
        grid: grid.only(&resampled),
    })
}

/// The optimum for other weights of the rows: from the given point, and from the best of a grid.
///
/// # Errors
/// If the computation is stopped.
pub(super) fn refit(problem: &Problem, near: &Vector, grid: &Grid, delta: f64) -> Result<Minimum> {
    const STARTS: usize = 2;
    let screened = grid.screen(problem, delta, 1)?;
    let starts = grid.spread(&screened, STARTS).into_iter().map(|start| start.x);
    let starts: Vec<Vector> = std::iter::once(*near).chain(starts).collect();
    Ok(descents(problem, problem, &starts, delta, 1)?.0)
}

/// Descends from every start, and says how many ended at the best.
///
/// The first part of the way is done roughly, where the objective is smooth, and with the rows of
/// `some` alone; starts that have met by then go on as one.
fn descents(
    problem: &Problem,
    some: &Problem,
    starts: &[Vector],
    delta: f64,
    threads: usize,
) -> Result<(Minimum, usize)> {
    let smooth = starts.iter().map(|x| typical_residual(some, x)).fold(f64::INFINITY, f64::min);
    let stage = delta.max(0.3 * smooth);
    let mut met: Vec<(Minimum, usize)> = Vec::new();
    let roughly = |i: usize| descend(some, &starts[i], stage, ROUGH);
    for rough in in_order(starts.len(), threads, roughly)? {
        let same = |other: &Minimum| {
            (other.value - rough.value).abs() <= 1e-5 * rough.value
                && other.x.iter().zip(rough.x).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs()))
        };
        match met.iter_mut().find(|(other, _)| same(other)) {
            Some((other, count)) => {
                *count += 1;
                if rough.value < other.value {
                    *other = rough;
                }
            }
            None => met.push((rough, 1)),
        }
    }
    let end = |i: usize| (solve(problem, &met[i].0.x, delta), met[i].1);
    let ends: Vec<(Minimum, usize)> = in_order(met.len(), threads, end)?;
    let best = ends.iter().map(|(end, _)| *end).min_by(|a, b| a.value.total_cmp(&b.value));
    let best = best.expect("there is a start");
    let most = best.value * (1.0 + AGREEMENT) + rounding_floor(problem);
    Ok((best, ends.iter().filter(|(end, _)| end.value <= most).map(|(_, count)| count).sum()))
}

/// Descends from the first starts, and from more of them until two agree on the best; then searches
/// for better minima near it.
fn search(
    problem: &Problem,
    starts: &[Vector],
    delta: f64,
    threads: usize,
) -> Result<(Minimum, Restarts)> {
    let some = problem.thinned();
    let mut started = STARTS.min(starts.len());
    let (mut best, mut agreed) = descents(problem, &some, &starts[..started], delta, threads)?;
    while agreed < 2 && started < starts.len() {
        let more = (started + STARTS).min(starts.len());
        let mut next = starts[started..more].to_vec();
        // The best of before is one of the starts.
        next.push(best.x);
        (best, agreed) = descents(problem, &some, &next, delta, threads)?;
        started = more;
    }
    let restarts = Restarts { started, agreed, started_nearby: 0, agreed_nearby: 0 };
    beside(problem, best, restarts, delta, threads)
}

/// Searches for a better minimum near a minimum.
///
/// If Huber's δ is small compared with the residuals, the objective is nearly a sum of absolute
/// values. It has kinks wherever a residual is 0, and a long valley can have many minima. Descents
/// from far away do not find the lowest of them. So each row gets a random weight (an exponential
/// draw, as in the Bayesian bootstrap of Rubin, 1981). A descent with these weights leads to
/// another place in the valley, and a descent with the true weights from there to a minimum. This
/// is repeated around the best minimum until many draws in a row have found nothing better.
fn beside(
    problem: &Problem,
    mut best: Minimum,
    mut restarts: Restarts,
    delta: f64,
    threads: usize,
) -> Result<(Minimum, Restarts)> {
    let floor = rounding_floor(problem);
    let key = Key::new(0).named("minima beside a minimum");
    let (mut drawn, mut fruitless) = (0, 0);
    let patience = (ROWS_OF_PATIENCE / problem.rows.len()).clamp(LEAST_PATIENCE, MOST_PATIENCE);
    while fruitless < patience && drawn < 8 * patience {
        let typical = typical_residual(problem, &best.x);
        let from = best.x;
        let try_one = |i: usize| {
            let draw = (drawn + i) as u64;
            let weighed = problem.weighed_anew(key.child(draw));
            let smooth = delta.max(SMOOTH[draw as usize % SMOOTH.len()] * typical);
            let moved = descend(&weighed, &from, smooth, ROUGH);
            descend(problem, &moved.x, delta, DECREMENT)
        };
        let ends = in_order(TOGETHER, threads, try_one)?;
        drawn += TOGETHER;
        fruitless += TOGETHER;
        restarts.started_nearby += TOGETHER;
        for end in ends {
            if end.value < best.value * (1.0 - AGREEMENT) - floor {
                (restarts.agreed, restarts.agreed_nearby, fruitless) = (0, 0, 0);
            }
            if end.value <= best.value * (1.0 + AGREEMENT) + floor {
                restarts.agreed_nearby += 1;
            }
            if end.value < best.value {
                best = end;
            }
        }
    }
    Ok((best, restarts))
}

/// How many draws are tried at once, whatever the number of threads.
const TOGETHER: usize = 8;

const ROWS_OF_PATIENCE: usize = 4000;
const LEAST_PATIENCE: usize = 8;
const MOST_PATIENCE: usize = 64;

/// How smooth the objective of drawn weights is: Huber's delta in units of the typical residual.
const SMOOTH: [f64; 2] = [0.3, 0.03];

/// The objective of residuals that are rounding errors.
fn rounding_floor(problem: &Problem) -> f64 {
    const ROUNDING: f64 = 1e-13;
    0.5 * ROUNDING * ROUNDING * problem.weight()
}

/// Where Huber's penalty over δ is the absolute value as nearly as digits allow.
fn absolute_delta(problem: &Problem, screened: &[Start]) -> f64 {
    let squares = solve(problem, &screened[0].x, f64::INFINITY);
    let typical = typical_residual(problem, &squares.x);
    // Without residuals there is nothing that absolute values would weigh differently.
    if typical > 1e-12 { 1e-5 * typical } else { f64::INFINITY }
}

/// The curvature of the objective at its optimum, and of a quadratic above it.
struct Curvature {
    hessian: Matrix,
    majorant: Matrix,
    /// The parameters that are not at a bound.
    free: Vec<usize>,
}

/// What is said of an optimum: the fields of [`Optimum`] with these names.
struct Judgement {
    status: Status,
    at_bound: Vec<usize>,
    undetermined: Vec<Undetermined>,
    condition_number: f64,
}

fn judge(problem: &Problem, best: &Minimum, delta: f64, restarts: Restarts) -> Result<Judgement> {
    let k = problem.dim();
    let around = problem.expand(&best.x, delta);
    let free = free(&best.x, &around.gradient, k);
    let at_bound: Vec<usize> = (0..k).filter(|j| !free.contains(j)).collect();
    let hessian = problem.hessian(&best.x, &around);
    let curvature = Curvature { hessian, majorant: around.majorant, free };
    let (undetermined, condition_number) = undetermined(problem, best, delta, &curvature)?;
    let free = &curvature.free;
    let quadratic = Quadratic { gradient: &around.gradient, hessian };
    let stationary = match quadratic.step(&best.x, free) {
        Some(step) => {
            let win: f64 = free.iter().map(|&j| -0.5 * step[j] * around.gradient[j]).sum();
            win <= STATIONARY * around.value + rounding_floor(problem)
        }
        None => around.value <= rounding_floor(problem),
    };
    let status = if !undetermined.is_empty() {
        Status::NotIdentified
    } else if !stationary || restarts.agreed + restarts.agreed_nearby < 2 {
        Status::NotConverged
    } else if at_bound.is_empty() {
        Status::Converged
    } else {
        Status::AtBound
    };
    Ok(Judgement { status, at_bound, undetermined, condition_number })
}

/// The directions of the free parameters that the rows do not determine, and the condition number
/// of the Jacobian of the predictions. A direction is not determined if no prediction changes along
/// it to first order, or if predictions change but the objective does not. The latter occurs with
/// absolute values, and with Huber's penalty with a small δ: like the median of two numbers, the
/// optimum is then a range.
fn undetermined(
    problem: &Problem,
    best: &Minimum,
    delta: f64,
    curvature: &Curvature,
) -> Result<(Vec<Undetermined>, f64)> {
    let free = &curvature.free[..];
    if free.is_empty() {
        return Ok((Vec::new(), 1.0));
    }
    let x = &best.x;
    let unlimited: Vec<usize> = free.iter().copied().filter(|&j| x[j] >= problem.most(j)).collect();
    if !unlimited.is_empty() {
        let of = |&j: &usize| Undetermined {
            direction: (0..problem.dim()).map(|i| f64::from(u8::from(i == j))).collect(),
            words: format!("an upper limit of {}", problem.law.parameters()[j].name),
        };
        return Ok((unlimited.iter().map(of).collect(), f64::INFINITY));
    }
    let derivatives = problem.derivatives(x);
    // Relative changes of coefficients; exponents, and logarithms of strengths, as they are.
    let scale = |j: usize| match problem.roles[j] {
        Role::Coefficient if x[j] > 0.0 => x[j],
        _ => 1.0,
    };
    let entry = |(i, c): (usize, usize)| {
        let (weight, by) = &derivatives[i];
        weight.sqrt() * by[free[c]] * scale(free[c])
    };
    let jacobian = Array2::from_shape_fn((derivatives.len(), free.len()), entry);
    if jacobian.iter().any(|entry| !entry.is_finite()) {
        return Ok((Vec::new(), f64::INFINITY));
    }
    let of = |components: &[f64]| {
        let mut direction = vec![0.0; problem.dim()];
        for (&j, component) in free.iter().zip(components) {
            direction[j] = *component;
        }
        // Where their ratio stays, the coefficient changes by as much as 1 + the strength.
        if let Some((coefficient, strength)) = problem.law.ratio().filter(|(a, _)| x[*a] > 0.0) {
            direction[coefficient] += direction[strength];
            let norm = direction.iter().map(|c| c * c).sum::<f64>().sqrt();
            direction.iter_mut().for_each(|c| *c /= norm);
        }
        Undetermined { words: words(problem, &direction), direction }
    };
    let found = Identifiability::of(&jacobian, DEFAULT_TOLERANCE)?;
    let mut undetermined: Vec<Undetermined> =
        found.undetermined().iter().map(|d| of(d.components())).collect();
    if undetermined.is_empty() {
        let scales: Vec<f64> = free.iter().map(|&j| scale(j)).collect();
        let flat = flat(problem, best, delta, curvature, &scales)?;
        undetermined = flat.iter().map(|d| of(d)).collect();
    }
    Ok((undetermined, found.condition_number()))
}

/// The directions in which the objective does not rise, in units of the scales.
fn flat(
    problem: &Problem,
    best: &Minimum,
    delta: f64,
    Curvature { hessian, majorant, free }: &Curvature,
    scales: &[f64],
) -> Result<Vec<Vec<f64>>> {
    // Scaled to a majorant of diagonal 1.
    let unit = |c: usize| 1.0 / majorant[free[c]][free[c]].sqrt();
    let entry = |(a, b): (usize, usize)| {
        let (low, high) = (free[a.min(b)], free[a.max(b)]);
        hessian[high][low] * unit(a) * unit(b)
    };
    let scaled = Array2::from_shape_fn((free.len(), free.len()), entry);
    if scaled.iter().any(|entry| !entry.is_finite()) || best.value <= rounding_floor(problem) {
        return Ok(Vec::new());
    }
    let unsolved =
        |_| Error::setting("curvature", problem.law.name(), "LAPACK found no eigenvalues");
    let (curvatures, vectors) = scaled.eigh(UPLO::Lower).map_err(unsolved)?;
    let mut found = Vec::new();
    for (curvature, vector) in curvatures.iter().zip(vectors.columns()) {
        if *curvature > SMALLEST_CURVATURE {
            continue;
        }
        // As far as a direction that is curved like the majorant would raise the objective by a
        // thousandth.
        let length = (2e-3 * best.value).sqrt();
        let moved = |sign: f64| {
            let mut x = best.x;
            for (c, &j) in free.iter().enumerate() {
                x[j] = (x[j] + sign * length * vector[c] * unit(c)).max(0.0);
            }
            problem.value(&x, delta)
        };
        if moved(1.0).min(moved(-1.0)) <= best.value * (1.0 + FLAT) {
            let relative = |c: usize| vector[c] * unit(c) / scales[c];
            let direction: Vec<f64> = (0..free.len()).map(relative).collect();
            let norm = direction.iter().map(|c| c * c).sum::<f64>().sqrt();
            found.push(direction.iter().map(|c| c / norm).collect());
        }
    }
    Ok(found)
}

/// Curvatures, relative to the majorant's, that are looked at twice, and by what share of itself the
/// objective may rise along a direction that is flat.
const SMALLEST_CURVATURE: f64 = 1e-6;
const FLAT: f64 = 1e-6;

/// A direction in words: its larger components, the largest first.
fn words(problem: &Problem, direction: &[f64]) -> String {
    let names = problem.law.parameters();
    let mut parts: Vec<(usize, f64)> =
        direction.iter().copied().enumerate().filter(|(_, c)| c.abs() >= 0.01).collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    let term = |(i, (j, c)): (usize, &(usize, f64))| {
        let sign = match (i, *c < 0.0) {
            (0, false) => "",
            (0, true) => "-",
            (_, false) => " + ",
            (_, true) => " - ",
        };
        format!("{sign}{:.2} {}", c.abs(), names[*j].name)
    };
    parts.iter().enumerate().map(term).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::objective::Space;
    use crate::laws::{Additive, Finetuning, Law, Row};
    use crate::table::{Run, Table};

    /// A harsh table: parameters some of which are 0, noise of up to 30%, a part of a grid.
    fn harsh(law: &'static dyn Law, key: Key) -> Option<(Problem, Objective)> {
        let typical = [40.0, 1000.0, 0.3, 0.3, 1.5];
        let typical =
            if law.name() == "finetuning" { &[60.0, 0.1, 0.12, 1.2] } else { &typical[..] };
        let value = |(j, v): (usize, &f64)| match key.uniform(j as u64) {
            u if u < 0.12 => 0.0,
            u => 2.0 * u * v,
        };
        let values: Vec<f64> = typical.iter().enumerate().map(value).collect();
        let noise = [0.001, 0.01, 0.05, 0.3][key.below(10, 4) as usize];
        let mut runs = Vec::new();
        for n_params in [41e6, 109e6, 334e6, 665e6, 1.27e9] {
            for d in [3e7, 1e8, 3e8, 1e9, 3e9] {
                let i = runs.len() as u64;
                let row = Row { n_params, d_ft_tokens: d, d_tokens: d, ..Row::default() };
                let loss =
                    law.predict(&(&row).into(), &values) * (noise * key.normal(100 + i)).exp();
                let mut run = Run { row, ..Run::default() };
                run.set(law.output(), Some(loss));
                runs.push(run);
            }
        }
        let some = runs.into_iter().enumerate().filter(|(i, _)| key.uniform(300 + *i as u64) < 0.8);
        let sample = Table::new(some.map(|(_, run)| run).collect()).sample(law).ok()?;
        let penalty = [Penalty::Huber(1e-3), Penalty::Squared, Penalty::Huber(1e-4)];
        let objective = Objective {
            space: if key.uniform(11) < 0.5 { Space::Log } else { Space::Raw },
            penalty: penalty[key.below(12, 3) as usize],
        };
        Some((Problem::new(law, &sample, objective.space), objective))
    }

    /// Of all descents from all nodes of the grid, none ends lower.
    #[test]
    fn no_node_of_the_grid_leads_lower() {
        let laws: [&'static dyn Law; 2] = [&Finetuning, &Additive];
        let mut seen = 0;
        for trial in 0..24 {
            let law = laws[trial % 2];
            let Some((problem, objective)) = harsh(law, Key::new(trial as u64)) else { continue };
            let found = optimum(&problem, &objective, 1).unwrap();
            let value = problem.value(&found.x, found.delta);
            for start in Grid::whole(&problem, 1).unwrap().screen(&problem, found.delta, 1).unwrap()
            {
                let other = solve(&problem, &start.x, found.delta);
                assert!(
                    value <= other.value * (1.0 + 1e-7),
                    "trial {trial}: {} {objective:?}: {value:e}, and {:e} at {:?}",
                    law.name(),
                    other.value,
                    other.x
                );
            }
            seen += 1;
        }
        assert!(seen > 20, "{seen}");
    }
}
