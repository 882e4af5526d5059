//! The minimum of a convex function on a box, from below.

use super::convex::{ALPHA, KAPPA, MAX, Vector};
use super::relaxation::Relaxation;

/// A symmetric matrix, of which the lower triangle is used.
type Matrix = [[f64; MAX]; MAX];

/// A function around a point, to second order.
struct Expansion {
    value: f64,
    gradient: Vector,
    hessian: Matrix,
}

/// The most steps; what a bound is worth does not depend on it.
const STEPS: usize = 60;

/// The most attempts at one step, each ten times as cautious as the one before.
const ATTEMPTS: usize = 12;

impl Relaxation<'_> {
    /// A number below the convex function everywhere in the box, and a point where the function is
    /// small.
    ///
    /// Projected Newton steps lead towards the minimum. Wherever they stand, the tangent plane lies
    /// below the function, and its smallest value in the box is a bound, however far the minimum is.
    /// They end when the bound reaches `enough` or it is clear that it will not.
    pub fn minimum(&self, start: &Vector, enough: f64) -> (f64, Vector) {
        let (low, high) = (self.inner.low, self.inner.high);
        let dims = self.problem.dims();
        let mut x = self.enter(start);
        let mut here = self.expand(&x);
        let mut bound = 0f64;
        let mut damping = 1e-9;
        for _ in 0..STEPS {
            bound = bound.max(self.tangent(&here, &x));
            let missing = (enough - here.value).max(1e-5 * enough);
            if bound >= enough || here.value - bound <= 0.1 * missing {
                break;
            }
            let free: Vec<usize> = (0..dims)
                .filter(|&j| {
                    let out = if here.gradient[j] > 0.0 { x[j] <= low[j] } else { x[j] >= high[j] };
                    let width = self.inner.width(j);
                    width.is_finite() && width > 0.0 && !out
                })
                .collect();
            let next = (0..ATTEMPTS).find_map(|_| {
                let step = self.step(&here, &free, damping);
                let mut to = x;
                free.iter().for_each(|&j| to[j] = (x[j] + step[j]).clamp(low[j], high[j]));
                let there = self.expand(&to);
                let good = there.value < here.value;
                damping =
                    if good { (0.1 * damping).max(1e-12) } else { (10.0 * damping).max(1e-6) };
                good.then_some((to, there))
            });
            let Some(next) = next else { break };
            (x, here) = next;
        }
        (bound, self.leave(&x))
    }

    /// The smallest value in the box of the tangent plane at `x`.
    fn tangent(&self, here: &Expansion, x: &Vector) -> f64 {
        let mut value = here.value;
        for (j, &slope) in here.gradient.iter().enumerate() {
            if slope != 0.0 {
                let end = if slope > 0.0 { self.inner.low[j] } else { self.inner.high[j] };
                value += slope * (end - x[j]);
            }
        }
        value
    }

    /// The Newton step in the free coordinates, held back by `damping`. In units of the box's
    /// widths, so that no unit of a coordinate matters.
    fn step(&self, here: &Expansion, free: &[usize], damping: f64) -> Vector {
        let mut matrix = [[0.0; MAX]; MAX];
        let mut right = [0.0; MAX];
        let mut largest = f64::MIN_POSITIVE;
        for (a, &j) in free.iter().enumerate() {
            let width = self.inner.width(j);
            right[a] = -here.gradient[j] * width;
            for (b, &k) in free[..=a].iter().enumerate() {
                matrix[a][b] = here.hessian[j][k] * width * self.inner.width(k);
            }
            largest = largest.max(matrix[a][a]).max(right[a].abs());
        }
        for (a, row) in matrix.iter_mut().enumerate() {
            row[a] += damping * largest;
        }
        solve(&mut matrix, &mut right, free.len());
        let mut step = [0.0; MAX];
        free.iter().zip(right).for_each(|(&j, length)| step[j] = length * self.inner.width(j));
        step
    }

    fn expand(&self, x: &Vector) -> Expansion {
        let (problem, dims) = (self.problem, self.problem.dims());
        let bends = self.bends(x);
        let (mut value, mut gradient, mut hessian) = (self.constant, [0.0; MAX], [[0.0; MAX]; MAX]);
        let mut add = |[cost, slope, square]: [f64; 3], by: &Vector, hessian: &mut Matrix| {
            value += cost;
            for j in 0..dims {
                gradient[j] += slope * by[j];
            }
            rank_one(hessian, square, by, dims);
        };
        for (row, part) in self.parts.iter().enumerate() {
            if let Some((offset, plane)) = &part.over {
                let r = offset + plane.iter().zip(x).map(|(slope, x)| slope * x).sum::<f64>();
                if r < 0.0 {
                    add(problem.cost(row, r), plane, &mut hessian);
                }
            }
            let Some((rest, moving)) = part.under else { continue };
            let terms = &problem.form.rows[row].terms;
            if let Some([r, first, second]) = self.enveloped(row, x, &bends) {
                if r > 0.0 {
                    let [cost, slope, curve] = problem.cost(row, r);
                    let mut linear = terms[0].linear;
                    if let Some(bend) = terms[0].bend.map(|bend| bends[bend]) {
                        linear[ALPHA] -= bend.by_alpha;
                        linear[KAPPA] -= bend.by_kappa;
                        let mut along = [0.0; MAX];
                        (along[ALPHA], along[KAPPA]) = (-bend.sigma, 1.0);
                        rank_one(&mut hessian, slope * first * bend.curve, &along, dims);
                    }
                    rank_one(&mut hessian, slope * second, &linear, dims);
                    add([cost, slope, curve], &linear.map(|by| first * by), &mut hessian);
                }
                continue;
            }
            let mut exps = [0.0; 3];
            let mut prediction = rest;
            for (k, term) in terms.iter().enumerate().filter(|(k, _)| moving >> k & 1 == 1) {
                exps[k] = term.exponent(x, &bends).exp();
                prediction += exps[k];
            }
            let r = self.under(row, prediction, x);
            if r <= 0.0 {
                continue;
            }
            let [cost, slope, curve] = problem.cost(row, r);
            let [by_prediction, second] = problem.residual_slopes(prediction);
            let mut by = [0.0; MAX];
            for (term, exp) in terms.iter().zip(exps).filter(|(_, exp)| *exp > 0.0) {
                let by_exponent = exp * by_prediction;
                let mut linear = term.linear;
                if let Some(bend) = term.bend.map(|bend| bends[bend]) {
                    linear[ALPHA] -= bend.by_alpha;
                    linear[KAPPA] -= bend.by_kappa;
                    let mut along = [0.0; MAX];
                    (along[ALPHA], along[KAPPA]) = (-bend.sigma, 1.0);
                    rank_one(&mut hessian, slope * by_exponent * bend.curve, &along, dims);
                }
                by.iter_mut().zip(linear).for_each(|(by, linear)| *by += by_exponent * linear);
                rank_one(&mut hessian, slope * by_exponent, &linear, dims);
            }
            rank_one(&mut hessian, slope * second, &by, dims);
            if let Some(j) = self.plain() {
                by[j] += part.plain;
            }
            add([cost, slope, curve], &by, &mut hessian);
        }
        Expansion { value, gradient, hessian }
    }
}

/// Adds `scale` · v vᵀ.
fn rank_one(matrix: &mut Matrix, scale: f64, v: &Vector, dims: usize) {
    for j in 0..dims {
        for k in 0..=j {
            matrix[j][k] += scale * v[j] * v[k];
        }
    }
}

/// Solves a system with a positive definite matrix by Cholesky's decomposition. A pivot that
/// rounding has made too small is enlarged: any direction will do that the next step can test.
fn solve(matrix: &mut Matrix, right: &mut Vector, n: usize) {
    for a in 0..n {
        let diagonal = matrix[a][a];
        for b in 0..=a {
            let sum: f64 = (0..b).map(|c| matrix[a][c] * matrix[b][c]).sum();
            let rest = matrix[a][b] - sum;
            matrix[a][b] = if a == b {
                rest.max(1e-14 * diagonal).max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / matrix[b][b]
            };
        }
        let sum: f64 = (0..a).map(|c| matrix[a][c] * right[c]).sum();
        right[a] = (right[a] - sum) / matrix[a][a];
    }
    for a in (0..n).rev() {
        let sum: f64 = (a + 1..n).map(|c| matrix[c][a] * right[c]).sum();
        right[a] = (right[a] - sum) / matrix[a][a];
    }
}
