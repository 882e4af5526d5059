//! The objective as a smooth function of few coordinates.

use super::objective::{Objective, Penalty, Space, huber};
use crate::laws::{Law, Point, Role, Units};
use crate::table::{Column, Sample};

/// The most parameters of a law.
pub(super) const MAX: usize = 8;

/// A point in the solver's coordinates; the entries from the number of parameters on are 0.
pub(super) type Vector = [f64; MAX];

/// A symmetric matrix in the solver's coordinates.
pub(super) type Matrix = [[f64; MAX]; MAX];

/// A fit's objective. The rows are in a canonical order and sizes in units of the table's own, so
/// that neither the order nor the units of a table change anything, and the valleys along which a
/// coefficient follows its exponent are gone.
///
/// The coordinates, all of them at least 0, are the parameters in these units, but u = ln(1 + B)
/// for a [`Role::Strength`], which may be of any order of magnitude.
#[derive(Clone)]
pub(super) struct Problem {
    pub law: &'static dyn Law,
    pub roles: Vec<Role>,
    pub points: Vec<Point>,
    pub losses: Vec<f64>,
    pub weights: Vec<f64>,
    /// The run of each row.
    pub runs: Vec<usize>,
    pub n_runs: usize,
    pub space: Space,
    pub units: Units,
    /// The index in the sample of each row.
    pub order: Vec<usize>,
    ln_losses: Vec<f64>,
}

/// The objective around a point.
pub(super) struct Expansion {
    pub value: f64,
    pub gradient: Vector,
    /// The second derivative but for the curvature of the predictions (Gauss and Newton).
    inner: Matrix,
    /// Of the quadratic that touches the objective from above, but for the curvature of the
    /// predictions (iteratively reweighted least squares).
    pub majorant: Matrix,
    /// Weight times derivative of the penalty, row by row.
    slopes: Vec<f64>,
}

impl Problem {
    pub fn new(law: &'static dyn Law, sample: &Sample, space: Space) -> Self {
        let mut order: Vec<_> = (0..sample.len()).collect();
        let key = |i: usize| {
            let Point { ln_n, ln_d_ft, p, loss_pt0, ln_d } = sample.points[i];
            [ln_n, ln_d_ft, ln_d, p, loss_pt0, sample.losses[i], sample.weights[i]]
        };
        let compare = |a: &f64, b: &f64| a.total_cmp(b);
        order.sort_by(|&a, &b| {
            let pairs = key(a).into_iter().zip(key(b));
            pairs
                .map(|(a, b)| compare(&a, &b))
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let units = units_of(law, order.iter().map(|&i| &sample.points[i]));
        // Runs are numbered anew, by their first row.
        let mut numbers = vec![usize::MAX; sample.n_runs];
        let mut n_runs = 0;
        let runs = order.iter().map(|&i| {
            let number = &mut numbers[sample.runs[i]];
            if *number == usize::MAX {
                *number = n_runs;
                n_runs += 1;
            }
            *number
        });
        Self {
            law,
            roles: law.parameters().iter().map(|parameter| parameter.role).collect(),
            runs: runs.collect(),
            n_runs,
            points: order.iter().map(|&i| units.measure(&sample.points[i])).collect(),
            losses: order.iter().map(|&i| sample.losses[i]).collect(),
            ln_losses: order.iter().map(|&i| sample.losses[i].ln()).collect(),
            weights: order.iter().map(|&i| sample.weights[i]).collect(),
            space,
            units,
            order,
        }
    }

    /// The problem of some of the rows, in the same units.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            roles: self.roles.clone(),
            points: rows.iter().map(|&i| self.points[i]).collect(),
            losses: rows.iter().map(|&i| self.losses[i]).collect(),
            ln_losses: rows.iter().map(|&i| self.ln_losses[i]).collect(),
            weights: rows.iter().map(|&i| self.weights[i]).collect(),
            runs: rows.iter().map(|&i| self.runs[i]).collect(),
            order: rows.iter().map(|&i| self.order[i]).collect(),
            ..*self
        }
    }

    /// Whether some of the runs have as many distinct sizes as the law needs.
    pub fn can_be_fitted(&self, has: impl Fn(usize) -> bool) -> bool {
        let rows = (0..self.points.len()).filter(|&i| has(self.runs[i]));
        suffices(self.law, rows.map(|i| &self.points[i]))
    }

    /// What a coordinate may reach: no limit to a coefficient, and to the others what a float can
    /// hold of the parameters in plain units. There the prediction has long stopped moving.
    pub fn most(&self, j: usize) -> f64 {
        const LN_LARGEST: f64 = 680.0;
        let sizes = [self.units.ln_n, self.units.ln_d_ft, self.units.ln_d];
        match self.roles[j] {
            Role::Coefficient => f64::INFINITY,
            Role::Strength => LN_LARGEST - self.units.ln_p.abs(),
            // Two of them may act on one coefficient.
            Role::Exponent => 0.5 * LN_LARGEST / sizes.iter().fold(1.0, |m: f64, s| m.max(s.abs())),
        }
    }

    /// The number of parameters.
    pub fn dim(&self) -> usize {
        self.roles.len()
    }

    /// The law's parameters in the problem's units, at a point.
    pub fn scaled(&self, x: &Vector) -> Vector {
        let mut values = *x;
        for (value, role) in values.iter_mut().zip(&self.roles) {
            if *role == Role::Strength {
                *value = value.exp_m1();
            }
        }
        values
    }

    /// The law's parameters in plain units, at a point.
    pub fn values(&self, x: &Vector) -> Vec<f64> {
        self.law.in_units(&self.scaled(x)[..self.dim()], &self.units.inverse())
    }

    /// The residual of the i-th row.
    pub fn residual(&self, i: usize, prediction: f64) -> f64 {
        match self.space {
            Space::Log => prediction.ln() - self.ln_losses[i],
            Space::Raw => prediction - self.losses[i],
        }
    }

    /// The residuals at a point.
    pub fn residuals(&self, x: &Vector) -> Vec<f64> {
        let values = self.scaled(x);
        let values = &values[..self.dim()];
        let of = |i: usize| self.residual(i, self.law.predict(&self.points[i], values));
        (0..self.points.len()).map(of).collect()
    }

    /// The objective with Huber's penalty at a point.
    pub fn value(&self, x: &Vector, delta: f64) -> f64 {
        let values = self.scaled(x);
        let values = &values[..self.dim()];
        let mut sum = 0.0;
        for i in (0..self.points.len()).filter(|&i| self.weights[i] > 0.0) {
            let r = self.residual(i, self.law.predict(&self.points[i], values));
            sum += self.weights[i] * huber(r, delta);
        }
        if sum.is_nan() { f64::INFINITY } else { sum }
    }

    /// The objective as it is reported, with the penalty asked for.
    pub fn reported(&self, x: &Vector, objective: &Objective) -> f64 {
        let absolute = |r: &f64| match objective.penalty {
            Penalty::Huber(delta) => huber(*r, delta),
            Penalty::Squared => 0.5 * r * r,
            Penalty::Absolute => r.abs(),
        };
        self.residuals(x).iter().zip(&self.weights).map(|(r, weight)| weight * absolute(r)).sum()
    }

    /// The derivative of every residual with respect to the coordinates.
    pub fn derivatives(&self, x: &Vector) -> Vec<Vector> {
        let (values, chain) = (self.scaled(x), self.chain(x));
        let of = |i: usize| self.row(i, &values, &chain).1;
        (0..self.points.len()).map(of).collect()
    }

    /// The objective around a point.
    pub fn expand(&self, x: &Vector, delta: f64) -> Expansion {
        let k = self.dim();
        let (values, chain) = (self.scaled(x), self.chain(x));
        let mut found = Expansion {
            value: 0.0,
            gradient: [0.0; MAX],
            inner: [[0.0; MAX]; MAX],
            majorant: [[0.0; MAX]; MAX],
            slopes: vec![0.0; self.points.len()],
        };
        for i in (0..self.points.len()).filter(|&i| self.weights[i] > 0.0) {
            let weight = self.weights[i];
            let (r, derivatives) = self.row(i, &values, &chain);
            let slope = weight * r.clamp(-delta, delta);
            found.value += weight * huber(r, delta);
            found.slopes[i] = slope;
            let inside = if r.abs() <= delta { weight } else { 0.0 };
            let reweighted = if r.abs() <= delta { weight } else { weight * delta / r.abs() };
            for a in 0..k {
                found.gradient[a] += slope * derivatives[a];
                for b in 0..k {
                    let product = derivatives[a] * derivatives[b];
                    found.inner[a][b] += inside * product;
                    found.majorant[a][b] += reweighted * product;
                }
            }
        }
        found
    }

    /// The second derivative at the point of an expansion, where there is one.
    ///
    /// What the predictions' own curvature adds is found from differences of the gradient with the
    /// slopes of the penalty held. Its error, of the order of the step, only slows the last steps.
    pub fn hessian(&self, x: &Vector, around: &Expansion) -> Matrix {
        let k = self.dim();
        let mut hessian = around.inner;
        for b in 0..k {
            let step = 1e-6 * (1.0 + x[b].abs());
            let mut shifted = *x;
            shifted[b] += step;
            let gradient = self.gradient_with(&shifted, &around.slopes);
            for (a, row) in hessian.iter_mut().enumerate().take(k) {
                row[b] += (gradient[a] - around.gradient[a]) / step;
            }
        }
        hessian
    }

    fn gradient_with(&self, x: &Vector, slopes: &[f64]) -> Vector {
        let (values, chain) = (self.scaled(x), self.chain(x));
        let mut gradient = [0.0; MAX];
        for (i, slope) in slopes.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
            let (_, derivatives) = self.row(i, &values, &chain);
            for (sum, derivative) in gradient.iter_mut().zip(derivatives) {
                *sum += slope * derivative;
            }
        }
        gradient
    }

    /// The residual of a row and its derivatives with respect to the coordinates.
    fn row(&self, i: usize, values: &Vector, chain: &Vector) -> (f64, Vector) {
        let k = self.dim();
        let mut derivatives = [0.0; MAX];
        let prediction = self.law.gradient(&self.points[i], &values[..k], &mut derivatives[..k]);
        let inner = if self.space == Space::Log { 1.0 / prediction } else { 1.0 };
        for (derivative, outer) in derivatives.iter_mut().zip(chain) {
            *derivative *= inner * outer;
        }
        (self.residual(i, prediction), derivatives)
    }

    /// The derivative of each parameter with respect to its coordinate.
    fn chain(&self, x: &Vector) -> Vector {
        let mut chain = [0.0; MAX];
        for ((chain, x), role) in chain.iter_mut().zip(x).zip(&self.roles) {
            *chain = if *role == Role::Strength { x.exp() } else { 1.0 };
        }
        chain
    }
}

/// Whether rows have as many distinct sizes as a law needs, and as many distinct settings as it has
/// parameters.
pub(super) fn suffices<'a>(law: &dyn Law, rows: impl Iterator<Item = &'a Point> + Clone) -> bool {
    let value = |point: &Point, column: Column| match column {
        Column::NParams => point.ln_n,
        Column::DFtTokens => point.ln_d_ft,
        Column::DTokens => point.ln_d,
        Column::P => point.p,
        _ => point.loss_pt0,
    };
    let distinct = |columns: &[Column]| {
        let bits = |point| columns.iter().map(|&c| value(point, c).to_bits()).collect::<Vec<u64>>();
        let mut keys: Vec<_> = rows.clone().map(bits).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    };
    let columns: Vec<Column> = law.inputs().iter().map(|input| input.column).collect();
    law.inputs().iter().all(|input| distinct(&[input.column]) >= input.distinct)
        && distinct(&columns) >= law.parameters().len()
}

/// Units in which no term of the law exceeds its coefficient: of each size the smallest or the
/// largest of the rows, as the law falls or rises with it. A coefficient is then the largest value
/// of its term and stands still where an exponent grows without limit. The unit of p is the
/// geometric mean of those above 0.
fn units_of<'a>(law: &dyn Law, points: impl Iterator<Item = &'a Point> + Clone) -> Units {
    let known = |of: fn(&Point) -> f64| points.clone().map(of).filter(|x| x.is_finite());
    let corner = |of: fn(&Point) -> f64, rises: bool| {
        let extreme = match rises {
            true => known(of).reduce(f64::max),
            false => known(of).reduce(f64::min),
        };
        extreme.unwrap_or(0.0)
    };
    let origin = Point { ln_n: 0.0, ln_d_ft: 0.0, p: 0.0, loss_pt0: 1.0, ln_d: 0.0 };
    let ones = vec![1.0; law.parameters().len()];
    let rises = |point: Point| law.predict(&point, &ones) > law.predict(&origin, &ones);
    let (count, sum) =
        known(|point| point.p.ln()).fold((0.0, 0.0), |(count, sum), x| (count + 1.0, sum + x));
    Units {
        ln_n: corner(|point| point.ln_n, rises(Point { ln_n: 1.0, ..origin })),
        ln_d_ft: corner(|point| point.ln_d_ft, rises(Point { ln_d_ft: 1.0, ..origin })),
        ln_p: if count > 0.0 { sum / count } else { 0.0 },
        ln_d: corner(|point| point.ln_d, rises(Point { ln_d: 1.0, ..origin })),
    }
}
