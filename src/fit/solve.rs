//! From a start to the nearest minimum: Newton's method on coordinates of at least 0.
//!
//! Each iteration first tries a step of iteratively reweighted least squares, which goes far where
//! Huber's penalty is linear and has no curvature. If that gains little, a Newton step follows,
//! damped until the curvature is positive and the objective falls (Levenberg and Marquardt).
//! Coordinates at 0 whose derivative holds them there stay at 0 (a projected method, Bertsekas
//! 1982). If δ is small compared with the residuals, the objective is nearly polyhedral; δ is then
//! lowered to its value in steps.

use super::problem::{Expansion, MAX, Matrix, Problem, Vector};

/// A point where the solver came to rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Minimum {
    pub x: Vector,
    /// The objective with Huber's penalty of the last δ.
    pub value: f64,
}

/// How much of the objective a Newton step would still win where a solve ends: below what can be
/// seen in the digits of the objective.
pub(super) const DECREMENT: f64 = 1e-14;

/// The decrement at which a descent ends that another one follows.
pub(super) const ROUGH: f64 = 1e-6;

const MAX_ITERATIONS: usize = 200;

/// Minimises from a start with Huber's δ; infinite for squares.
pub(super) fn solve(problem: &Problem, start: &Vector, delta: f64) -> Minimum {
    let mut x = *start;
    let mut stage = 0.3 * typical_residual(problem, &x);
    while stage > delta {
        x = descend(problem, &x, stage, ROUGH).x;
        // Not past the scale on which residuals now live.
        stage = (0.1 * stage).min(0.3 * typical_residual(problem, &x));
    }
    descend(problem, &x, delta, DECREMENT)
}

/// The median of the absolute residuals.
pub(super) fn typical_residual(problem: &Problem, x: &Vector) -> f64 {
    let residuals = problem.residuals(x).into_iter();
    let mut sizes: Vec<f64> = residuals.filter(|r| r.is_finite()).map(f64::abs).collect();
    let middle = sizes.len() / 2;
    if sizes.is_empty() { 0.0 } else { *sizes.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

/// Descends until a Newton step would win less than a share of the objective.
pub(super) fn descend(problem: &Problem, start: &Vector, delta: f64, decrement: f64) -> Minimum {
    let k = problem.dim();
    let mut x = *start;
    let mut value = problem.value(&x, delta);
    let mut damping = 1e-3;
    for _ in 0..MAX_ITERATIONS {
        if !value.is_finite() {
            break;
        }
        let around = problem.expand(&x, delta);
        value = around.value;
        let mut free = free(&x, &around.gradient, k);
        // What moves no prediction here, as the exponent of a term that is 0, stays.
        free.retain(|&j| around.majorant[j][j] > 0.0);
        let try_step = |step: Option<Vector>| {
            let moved = project(problem, &x, &step?);
            Some((problem.value(&moved, delta), moved))
        };
        let better = |a: Option<(f64, Vector)>, b: Option<(f64, Vector)>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        let falls = |found: &Option<(f64, Vector)>, to: f64| found.is_some_and(|(v, _)| v < to);

        let majorant = Quadratic { gradient: &around.gradient, hessian: around.majorant };
        let mut best = try_step(majorant.plus(&majorant.hessian, RIDGE).step(&x, &free));
        if !falls(&best, FAST * value) {
            let hessian = problem.hessian(&x, &around);
            let undamped = Quadratic { hessian, ..majorant }.step(&x, &free);
            if is_flat(&around, undamped.as_ref(), &free, decrement) {
                break;
            }
            best = better(best, try_step(undamped));
            // A full step that wins what its quadratic says needs no damping.
            if !falls(&best, value) || undamped.is_none() {
                for _ in 0..DAMPINGS {
                    let damped = majorant.plus(&hessian, damping);
                    let found = try_step(damped.step(&x, &free));
                    let fell = falls(&found, value);
                    best = better(best, found);
                    if fell {
                        damping = (damping * 0.1).max(1e-12);
                        break;
                    }
                    damping *= 8.0;
                }
                damping = damping.min(1e6);
            }
        }
        match best {
            Some((reached, moved)) if reached < value => (value, x) = (reached, moved),
            _ => break,
        }
    }
    Minimum { x, value }
}

/// How much of its diagonal is added to a curvature that may be singular.
const RIDGE: f64 = 1e-9;

/// To what share of the objective a reweighted step must come to make Newton's unnecessary.
const FAST: f64 = 0.8;

const DAMPINGS: usize = 30;

/// The coordinates that may move: those above 0, and those that would rise from it.
pub(super) fn free(x: &Vector, gradient: &Vector, k: usize) -> Vec<usize> {
    (0..k).filter(|&j| x[j] > 0.0 || gradient[j] < 0.0).collect()
}

/// Whether an undamped Newton step would win next to nothing.
fn is_flat(around: &Expansion, step: Option<&Vector>, free: &[usize], decrement: f64) -> bool {
    match step {
        Some(step) => {
            let win: f64 = free.iter().map(|&j| -0.5 * step[j] * around.gradient[j]).sum();
            win <= decrement * around.value
        }
        None => free.iter().all(|&j| around.gradient[j] == 0.0),
    }
}

/// The point after a step, each coordinate of which is cut to a few times the coordinate.
fn project(problem: &Problem, x: &Vector, step: &Vector) -> Vector {
    const LONGEST: f64 = 5.0;
    std::array::from_fn(|j| {
        let longest = LONGEST * (1.0 + x[j]);
        let most = if j < problem.dim() { problem.most(j) } else { 0.0 };
        (x[j] + step[j].clamp(-longest, longest)).clamp(0.0, most)
    })
}

/// A quadratic around a point, gradient'·step + step'·hessian·step / 2.
#[derive(Clone, Copy)]
pub(super) struct Quadratic<'a> {
    pub gradient: &'a Vector,
    pub hessian: Matrix,
}

impl Quadratic<'_> {
    /// The step to the minimum over the free coordinates from x, none of which falls below 0:
    /// where one would, it is held at 0 and the others follow. `None` where the quadratic is not
    /// curved upwards.
    pub fn step(&self, x: &Vector, free: &[usize]) -> Option<Vector> {
        let mut free = free.to_vec();
        let mut held = [0.0; MAX];
        loop {
            let gradient = std::array::from_fn(|a| {
                let pulled = self.hessian[a].iter().zip(&held).map(|(h, step)| h * step);
                self.gradient[a] + pulled.sum::<f64>()
            });
            let step = newton_step(&self.hessian, &gradient, &free)?;
            let below = |&j: &usize| x[j] + step[j];
            let worst = free.iter().copied().min_by(|a, b| below(a).total_cmp(&below(b)));
            match worst {
                Some(j) if below(&j) < 0.0 => {
                    held[j] = -x[j];
                    free.retain(|&other| other != j);
                }
                _ => return Some(std::array::from_fn(|j| step[j] + held[j])),
            }
        }
    }

    /// Another curvature, and a share of this one and of its diagonal, which is never singular.
    fn plus(&self, hessian: &Matrix, share: f64) -> Self {
        let own = |a: usize, b: usize| if a == b { 2.0 } else { 1.0 } * self.hessian[a][b];
        let sum = |a: usize, b: usize| hessian[a][b] + share * own(a, b);
        let hessian = std::array::from_fn(|a| std::array::from_fn(|b| sum(a, b)));
        Self { hessian, ..*self }
    }
}

/// Solves H · step = −gradient over the free coordinates; `None` where H is not positive definite
/// there.
pub(super) fn newton_step(hessian: &Matrix, gradient: &Vector, free: &[usize]) -> Option<Vector> {
    let n = free.len();
    // Scaled to a diagonal of 1, so that no unit matters to the pivots.
    let mut scale = [0.0; MAX];
    for (scale, &j) in scale.iter_mut().zip(free) {
        let diagonal = hessian[j][j];
        if !(diagonal > 0.0 && diagonal.is_finite()) {
            return None;
        }
        *scale = 1.0 / diagonal.sqrt();
    }
    let mut l: Matrix = [[0.0; MAX]; MAX];
    for a in 0..n {
        for b in 0..=a {
            let mut sum = hessian[free[a]][free[b]] * scale[a] * scale[b];
            sum -= (0..b).map(|c| l[a][c] * l[b][c]).sum::<f64>();
            if a > b {
                l[a][b] = sum / l[b][b];
            } else if sum > SMALLEST_PIVOT {
                l[a][a] = sum.sqrt();
            } else {
                return None;
            }
        }
    }
    let mut y = [0.0; MAX];
    for a in 0..n {
        let sum: f64 = (0..a).map(|c| l[a][c] * y[c]).sum();
        y[a] = (-gradient[free[a]] * scale[a] - sum) / l[a][a];
    }
    let mut step = [0.0; MAX];
    let mut z = [0.0; MAX];
    for a in (0..n).rev() {
        let sum: f64 = (a + 1..n).map(|c| l[c][a] * z[c]).sum();
        z[a] = (y[a] - sum) / l[a][a];
        step[free[a]] = z[a] * scale[a];
    }
    step.iter().all(|s| s.is_finite()).then_some(step)
}

/// Pivots of a matrix with a diagonal of 1 that are rounding errors.
const SMALLEST_PIVOT: f64 = 1e-15;
