//! The objective as a smooth function of few coordinates.

use super::objective::{Objective, Penalty, Space, huber};
use crate::laws::{Law, Parameter, Point, Role, Units};
use crate::rng::Key;
use crate::table::{Column, Sample};

/// The most parameters of a law.
pub(super) const MAX: usize = 8;

/// A point in the solver's coordinates; the entries from the number of parameters on are 0.
pub(super) type Vector = [f64; MAX];

/// A symmetric matrix in the solver's coordinates.
pub(super) type Matrix = [[f64; MAX]; MAX];

/// A fit's objective. The rows are in a canonical order and sizes are in units derived from the
/// table. So neither the order nor the units of a table change anything, and there are no valleys
/// along which a coefficient follows its exponent.
///
/// The coordinates, all of them at least 0, are the parameters in these units, but u = ln(1 + B)
/// for a [`Role::Strength`], which may be of any order of magnitude, and A / (1 + K) for a coefficient
/// A that grows with a strength K ([`Law::ratio`]).
#[derive(Clone)]
pub(super) struct Problem {
    pub law: &'static dyn Law,
    pub roles: Vec<Role>,
    /// The settings: points that differ in what the law reads.
    pub points: Vec<Point>,
    /// The rows, those of one setting together, so that the law is computed once for them.
    pub rows: Vec<ProblemRow>,
    pub n_runs: usize,
    pub space: Space,
    pub units: Units,
    /// N and D of each row of the sample, which tell pretrained models apart.
    pub pretraining: Vec<(f64, f64)>,
    /// What the coordinate of a strength may reach.
    strongest: f64,
}

/// A row.
#[derive(Clone, Copy)]
pub(super) struct ProblemRow {
    /// The index of its point.
    pub setting: usize,
    /// The measured loss in nats per token.
    pub loss: f64,
    /// The loss in the objective's space.
    pub target: f64,
    pub weight: f64,
    pub run: usize,
    /// Its index in the sample.
    pub index: usize,
    /// The pretrained model that its run starts from.
    pub model: usize,
}

/// The objective around a point.
pub(super) struct Expansion {
    pub value: f64,
    pub gradient: Vector,
    /// The second derivative but for the curvature of the predictions (Gauss and Newton), and whole
    /// for pairs of coefficients.
    inner: Matrix,
    /// Of the quadratic that touches the objective from above, but for the curvature of the
    /// predictions (iteratively reweighted least squares).
    pub majorant: Matrix,
    /// Weight times derivative of the penalty, summed for each setting.
    slopes: Vec<f64>,
}

/// ln(1 + B) of the largest strength that a float holds in these and in plain units, also times what it
/// multiplies.
fn strongest(law: &dyn Law, units: &Units, points: &[Point]) -> f64 {
    const LN_LARGEST: f64 = 709.0;
    let is_strength = |j: usize| law.parameters()[j].role == Role::Strength;
    let value = |parameter: &Parameter| f64::from(u8::from(parameter.role != Role::Exponent));
    let ones: Vec<f64> = law.parameters().iter().map(value).collect();
    let plain = law.in_units(&ones, &units.inverse());
    let plain = plain.iter().enumerate().filter(|(j, _)| is_strength(*j)).map(|(_, value)| *value);
    let multiplied = points
        .iter()
        .flat_map(|point| [point.p, point.tokens_per_pass(), point.tokens_per_parameter()]);
    // NaN where a law does not read p or a size.
    LN_LARGEST - plain.chain(multiplied).fold(1.0, f64::max).ln()
}

impl Problem {
    pub fn new(law: &'static dyn Law, sample: &Sample, space: Space) -> Self {
        let of = |i: usize| {
            let [a, b, c, d, e] = inputs(&sample.points[i], |column| law.reads(column));
            (i, [a, b, c, d, e, sample.losses[i], sample.weights[i]])
        };
        let mut order: Vec<(usize, [f64; 7])> = (0..sample.len()).map(of).collect();
        order.sort_by(|(_, a), (_, b)| {
            let mut pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
            pairs.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
        let units = units_of(law, order.iter().map(|(i, _)| &sample.points[*i]));
        let models = sample.models();
        // Runs are numbered anew, by their first row.
        let mut numbers = vec![usize::MAX; sample.n_runs];
        let mut n_runs = 0;
        let (mut points, mut rows) = (Vec::new(), Vec::new());
        let same = |(_, a): &(usize, [f64; 7]), (_, b): &(usize, [f64; 7])| {
            a[..5].iter().zip(&b[..5]).all(|(a, b)| a.total_cmp(b).is_eq())
        };
        for of_one_setting in order.chunk_by(same) {
            for &(i, _) in of_one_setting {
                let number = &mut numbers[sample.runs[i]];
                if *number == usize::MAX {
                    *number = n_runs;
                    n_runs += 1;
                }
                let (loss, weight) = (sample.losses[i], sample.weights[i]);
                let target = space.of(loss);
                let (run, model, setting) = (*number, models[i], points.len());
                rows.push(ProblemRow { setting, loss, target, weight, run, index: i, model });
            }
            points.push(units.measure(&sample.points[of_one_setting[0].0]));
        }
        let roles = law.parameters().iter().map(|parameter| parameter.role).collect();
        let pretraining = sample.rows.iter().map(|row| (row.n_params, row.d_tokens)).collect();
        let strongest = strongest(law, &units, &points);
        Self { law, roles, points, rows, n_runs, space, units, pretraining, strongest }
    }

    /// The problem of some of the rows in ascending order, each of which may be there several
    /// times. The settings are the same ones, also those that are left without a row.
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = rows.iter().map(|&i| self.rows[i]).collect();
        Self {
            rows,
            points: self.points.clone(),
            roles: self.roles.clone(),
            pretraining: Vec::new(),
            ..*self
        }
    }

    /// The problem with each row's weight times an exponential draw.
    pub fn weighed_anew(&self, key: Key) -> Self {
        let mut weighed = self.clone();
        for (i, row) in weighed.rows.iter_mut().enumerate() {
            row.weight *= -(-key.uniform(i as u64)).ln_1p();
        }
        weighed
    }

    /// The problem without the settings that have no row.
    pub fn without_idle_settings(mut self) -> Self {
        let mut points: Vec<Point> = Vec::new();
        let mut last = None;
        for row in &mut self.rows {
            if last != Some(row.setting) {
                last = Some(row.setting);
                points.push(self.points[row.setting]);
            }
            row.setting = points.len() - 1;
        }
        Self { points, ..self }
    }

    /// The rows of each setting that has any, with its index.
    pub fn by_setting(&self) -> impl Iterator<Item = (usize, &[ProblemRow])> + Clone {
        let same = |a: &ProblemRow, b: &ProblemRow| a.setting == b.setting;
        self.rows.chunk_by(same).map(|rows| (rows[0].setting, rows))
    }

    /// Whether some of the runs have as many distinct sizes as the law needs.
    pub fn can_be_fitted(&self, has: impl Fn(usize) -> bool) -> bool {
        let has_any = |rows: &[ProblemRow]| rows.iter().any(|row| has(row.run));
        let settings = self.by_setting().filter(|(_, rows)| has_any(rows));
        suffices(self.law, settings.map(|(setting, _)| &self.points[setting]))
    }

    /// What a coordinate may reach: no limit to a coefficient, and to the others what a float can
    /// hold of the parameters in plain units. There predictions move no more, or as slowly as 1/ln B.
    pub fn most(&self, j: usize) -> f64 {
        const LN_LARGEST: f64 = 680.0;
        let sizes = [self.units.ln_n, self.units.ln_d_ft, self.units.ln_d];
        match self.roles[j] {
            Role::Coefficient => f64::INFINITY,
            Role::Strength => self.strongest,
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
        if let Some((coefficient, strength)) = self.law.ratio() {
            values[coefficient] *= 1.0 + values[strength];
        }
        values
    }

    /// The law's parameters in plain units, at a point.
    pub fn values(&self, x: &Vector) -> Vec<f64> {
        self.law.in_units(&self.scaled(x)[..self.dim()], &self.units.inverse())
    }

    /// The law's prediction for each setting, in nats per token.
    pub fn predictions(&self, x: &Vector) -> Vec<f64> {
        let values = self.scaled(x);
        let of = |point| self.law.predict(point, &values[..self.dim()]);
        self.points.iter().map(of).collect()
    }

    /// Gives the i-th row another loss, if it can be one.
    pub fn set_loss(&mut self, i: usize, loss: f64) {
        if loss > 0.0 && loss.is_finite() {
            self.rows[i] = ProblemRow { loss, target: self.space.of(loss), ..self.rows[i] };
        }
    }

    /// Gives the i-th row the loss that has this residual at a prediction, if it can be a loss.
    pub fn set_residual(&mut self, i: usize, prediction: f64, residual: f64) {
        let target = self.space.of(prediction) - residual;
        let loss = self.space.loss(target);
        if loss > 0.0 && loss.is_finite() {
            self.rows[i] = ProblemRow { loss, target, ..self.rows[i] };
        }
    }

    /// The residuals at a point.
    pub fn residuals(&self, x: &Vector) -> Vec<f64> {
        let predictions = self.predictions(x);
        let residual = |row: &ProblemRow| self.space.of(predictions[row.setting]) - row.target;
        self.rows.iter().map(residual).collect()
    }

    /// The objective with Huber's penalty at a point.
    pub fn value(&self, x: &Vector, delta: f64) -> f64 {
        let values = self.scaled(x);
        let values = &values[..self.dim()];
        let predict = |setting: usize| self.law.predict(&self.points[setting], values);
        self.value_of(predict, delta)
    }

    /// The objective with Huber's penalty of predictions.
    pub fn value_of(&self, predict: impl Fn(usize) -> f64, delta: f64) -> f64 {
        let mut sum = 0.0;
        for (setting, rows) in self.by_setting() {
            let response = self.space.of(predict(setting));
            for row in rows {
                sum += row.weight * huber(response - row.target, delta);
            }
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
        self.residuals(x).iter().zip(&self.rows).map(|(r, row)| row.weight * absolute(r)).sum()
    }

    /// The sum of the rows' weights.
    pub fn weight(&self) -> f64 {
        self.rows.iter().map(|row| row.weight).sum()
    }

    /// The derivatives of the residuals with respect to the coordinates, for each setting that has
    /// rows, with the sum of their weights.
    pub fn derivatives(&self, x: &Vector) -> Vec<(f64, Vector)> {
        let (values, chain) = (self.scaled(x), self.chain(x));
        let of = |(setting, rows): (usize, &[ProblemRow])| {
            let weight = rows.iter().map(|row| row.weight).sum();
            (weight, self.derive(setting, &values, &chain).1)
        };
        self.by_setting().map(of).collect()
    }

    /// The objective around a point.
    pub fn expand(&self, x: &Vector, delta: f64) -> Expansion {
        let k = self.dim().min(MAX);
        let (values, chain) = (self.scaled(x), self.chain(x));
        let is_coefficient = self.are_coefficients();
        let mut found = Expansion {
            value: 0.0,
            gradient: [0.0; MAX],
            inner: [[0.0; MAX]; MAX],
            majorant: [[0.0; MAX]; MAX],
            slopes: vec![0.0; self.points.len()],
        };
        for (setting, rows) in self.by_setting() {
            let (prediction, derivatives) = self.derive(setting, &values, &chain);
            let response = self.space.of(prediction);
            let (mut slope, mut inside, mut reweighted) = (0.0, 0.0, 0.0);
            for row in rows {
                let r = response - row.target;
                let size = r.abs();
                found.value += row.weight * huber(r, delta);
                slope += row.weight * r.clamp(-delta, delta);
                if size <= delta {
                    inside += row.weight;
                    reweighted += row.weight;
                } else {
                    reweighted += row.weight * delta / size;
                }
            }
            found.slopes[setting] = slope;
            // (ln f)'' is -(ln f)'² where f is linear.
            let whole = if self.space == Space::Log { inside - slope } else { inside };
            for a in 0..k {
                found.gradient[a] += slope * derivatives[a];
                for b in 0..=a {
                    let product = derivatives[a] * derivatives[b];
                    let both = is_coefficient[a] && is_coefficient[b];
                    found.inner[a][b] += if both { whole } else { inside } * product;
                    found.majorant[a][b] += reweighted * product;
                }
            }
        }
        for a in 0..k {
            for b in 0..a {
                found.inner[b][a] = found.inner[a][b];
                found.majorant[b][a] = found.majorant[a][b];
            }
        }
        found
    }

    /// The second derivative at the point of an expansion, where there is one.
    ///
    /// The contribution of the predictions' own curvature is computed from differences of the
    /// gradient, with the slopes of the penalty held; predictions are affine in pairs of
    /// coefficients, which need none. The error, of the order of the step, only slows down the last
    /// steps.
    pub fn hessian(&self, x: &Vector, around: &Expansion) -> Matrix {
        let is_coefficient = self.are_coefficients();
        let mut hessian = around.inner;
        for b in (0..self.dim()).filter(|&b| !is_coefficient[b]) {
            let step = 1e-6 * (1.0 + x[b].abs());
            let mut shifted = *x;
            shifted[b] += step;
            let gradient = self.gradient_with(&shifted, &around.slopes);
            for a in 0..self.dim() {
                let curvature = (gradient[a] - around.gradient[a]) / step;
                hessian[a][b] += curvature;
                if is_coefficient[a] {
                    hessian[b][a] += curvature;
                }
            }
        }
        hessian
    }

    fn gradient_with(&self, x: &Vector, slopes: &[f64]) -> Vector {
        let (values, chain) = (self.scaled(x), self.chain(x));
        let mut gradient = [0.0; MAX];
        for (setting, slope) in slopes.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
            let (_, derivatives) = self.derive(setting, &values, &chain);
            for (sum, derivative) in gradient.iter_mut().zip(derivatives) {
                *sum += slope * derivative;
            }
        }
        gradient
    }

    /// The prediction for a setting, and the derivatives of its residuals with respect to the
    /// coordinates.
    fn derive(&self, setting: usize, values: &Vector, chain: &Vector) -> (f64, Vector) {
        let k = self.dim();
        let mut derivatives = [0.0; MAX];
        let point = &self.points[setting];
        let prediction = self.law.gradient(point, &values[..k], &mut derivatives[..k]);
        if let Some((coefficient, strength)) = self.law.ratio() {
            let ratio = values[coefficient] / (1.0 + values[strength]);
            derivatives[strength] += ratio * derivatives[coefficient];
        }
        let inner = if self.space == Space::Log { 1.0 / prediction } else { 1.0 };
        for (derivative, outer) in derivatives.iter_mut().zip(chain) {
            *derivative *= inner * outer;
        }
        (prediction, derivatives)
    }

    fn are_coefficients(&self) -> [bool; MAX] {
        std::array::from_fn(|j| self.roles.get(j) == Some(&Role::Coefficient))
    }

    /// The derivative of each parameter with respect to its own coordinate.
    pub fn chain(&self, x: &Vector) -> Vector {
        let mut chain = [0.0; MAX];
        for ((chain, x), role) in chain.iter_mut().zip(x).zip(&self.roles) {
            *chain = if *role == Role::Strength { x.exp() } else { 1.0 };
        }
        if let Some((coefficient, strength)) = self.law.ratio() {
            chain[coefficient] = chain[strength];
        }
        chain
    }
}

/// What is read of a point by a law that reads these columns.
fn inputs(point: &Point, reads: impl Fn(Column) -> bool) -> [f64; 5] {
    let &Point { ln_n, ln_d_ft, p, loss_pt0, ln_d } = point;
    let all = [
        (Column::NParams, ln_n),
        (Column::DFtTokens, ln_d_ft),
        (Column::DTokens, ln_d),
        (Column::P, p),
        (Column::LossPt0, loss_pt0),
    ];
    all.map(|(column, value)| if reads(column) { value } else { 0.0 })
}

/// Whether rows have as many distinct sizes as a law needs, and as many distinct settings as it has
/// parameters.
pub(super) fn suffices<'a>(law: &dyn Law, rows: impl Iterator<Item = &'a Point> + Clone) -> bool {
    let distinct = |reads: &dyn Fn(Column) -> bool| {
        let mut keys: Vec<_> =
            rows.clone().map(|point| inputs(point, reads).map(f64::to_bits)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    };
    law.inputs().iter().all(|input| distinct(&|column| column == input.column) >= input.distinct)
        && distinct(&|column| law.reads(column)) >= law.parameters().len()
}

/// Units in which no term of the law exceeds its coefficient: the smallest or the largest value of
/// each size in the rows, depending on whether the law falls or rises with it. A coefficient is
/// then the largest value of its term, and stays the same where an exponent grows without limit.
/// The unit of p is the geometric mean of the values above 0.
pub(super) fn units_of<'a>(
    law: &dyn Law,
    points: impl Iterator<Item = &'a Point> + Clone,
) -> Units {
    let known = |of: fn(&Point) -> f64| points.clone().map(of).filter(|x| x.is_finite());
    let corner = |of: fn(&Point) -> f64, rises: bool| {
        let extreme = if rises { known(of).reduce(f64::max) } else { known(of).reduce(f64::min) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{ForgettingBounded, LAWS, Row};
    use crate::table::{Run, Table};

    /// Two losses at each of 18 settings, and a point away from the optimum.
    fn problem(law: &'static dyn Law, space: Space) -> (Problem, Vector) {
        let mut runs = Vec::new();
        for i in 0..36 {
            let key = Key::new(i);
            let n_params = [1e7, 5e7, 2e8][i as usize / 2 % 3];
            let d = [1e6, 4e6, 8e6][i as usize / 6 % 3];
            let p = [0.0, 0.02][i as usize / 18];
            let row = Row { n_params, d_ft_tokens: d, d_tokens: 9.0 * d, p, loss_pt0: 2.5 };
            let mut run = Run { row, weight: 1.0 + key.uniform(0), ..Run::default() };
            run.set(law.output(), Some(3.0 + 0.3 * key.normal(1)));
            runs.push(run);
        }
        let sample = Table::new(runs).sample(law).unwrap();
        let mut x = [0.0; MAX];
        x[..law.parameters().len()]
            .copy_from_slice(&[0.9, 0.7, 0.4, 0.3, 0.6][..law.parameters().len()]);
        (Problem::new(law, &sample, space), x)
    }

    /// Central differences with step h err by h² and 10⁻¹⁶/h: at h = 10⁻⁵ below 10⁻⁸ of a gradient
    /// around 10, and the Hessian's own differences by 10⁻⁵.
    #[test]
    fn expansions_are_those_of_finite_differences() {
        let bounded: &'static dyn Law = ForgettingBounded::of(512);
        let laws = LAWS.iter().copied().chain([bounded]);
        for (law, space) in laws.flat_map(|law| [(law, Space::Log), (law, Space::Raw)]) {
            let (problem, x) = problem(law, space);
            for delta in [f64::INFINITY, 0.05] {
                let around = problem.expand(&x, delta);
                assert!((around.value - problem.value(&x, delta)).abs() < 1e-12);
                let hessian = problem.hessian(&x, &around);
                for a in 0..problem.dim() {
                    let shifted = |h: f64| {
                        let mut x = x;
                        x[a] += h;
                        problem.expand(&x, delta)
                    };
                    let (above, below) = (shifted(1e-5), shifted(-1e-5));
                    let slope = (above.value - below.value) / 2e-5;
                    let scale = 1.0 + around.gradient[a].abs();
                    assert!((slope - around.gradient[a]).abs() < 1e-7 * scale, "{law:?} {space:?}");
                    for b in 0..problem.dim() {
                        let curvature = (above.gradient[b] - below.gradient[b]) / 2e-5;
                        let error = (curvature - hessian[a.max(b)][a.min(b)]).abs();
                        let scale = 1.0 + curvature.abs();
                        assert!(error < 1e-4 * scale, "{law:?} {space:?} {a} {b} {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_what_a_law_reads_alike_are_one_setting() {
        for (&law, settings) in LAWS.iter().zip([18, 9, 9, 18, 18, 18, 18, 18]) {
            let (problem, _) = problem(law, Space::Log);
            assert_eq!((problem.points.len(), problem.rows.len()), (settings, 36), "{law:?}");
            let each: Vec<_> = problem.by_setting().map(|(i, rows)| (i, rows.len())).collect();
            let expected: Vec<_> = (0..settings).map(|i| (i, 36 / settings)).collect();
            assert_eq!(each, expected);
        }
    }

    #[test]
    fn a_row_that_is_selected_twice_counts_twice() {
        let (problem, x) = problem(LAWS[0], Space::Raw);
        let twice = problem.select(&[3, 3, 7]);
        let mut weighted = problem.select(&[3, 7]);
        weighted.rows[0].weight *= 2.0;
        assert_eq!(twice.points.len(), 18);
        assert_eq!(twice.without_idle_settings().points.len(), 2);
        let value = weighted.value(&x, 0.1);
        let (twice, idle) = (problem.select(&[3, 3, 7]), weighted.without_idle_settings());
        assert!((twice.value(&x, 0.1) - value).abs() < 1e-14);
        assert_eq!(idle.value(&x, 0.1), value);
    }

    #[test]
    fn a_loss_below_0_is_not_taken() {
        for space in [Space::Log, Space::Raw] {
            let (mut problem, _) = problem(LAWS[0], space);
            let before = problem.rows[5].loss;
            problem.set_residual(5, 2.0, if space == Space::Raw { 2.5 } else { -800.0 });
            assert_eq!(problem.rows[5].loss, before);
            problem.set_residual(5, 2.0, 0.5);
            let loss = if space == Space::Raw { 1.5 } else { 2.0 * (-0.5f64).exp() };
            assert!((problem.rows[5].loss - loss).abs() < 1e-15);
        }
    }
}
