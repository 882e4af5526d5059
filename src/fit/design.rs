//! Which run to make next: sequential optimal design.
//!
//! Runs cost anything from seconds to hours, and most say little about the question. The question
//! of a [`Design`] is the prediction of a law at a few points. Among the candidate runs it chooses
//! those that most reduce the uncertainty of the answer for their cost.
//!
//! The criterion. Let w be the standard deviation of the predicted ln(L − L₀), the logarithm of the
//! increase above the law's baseline (ln L for a law without), averaged over the points of the
//! question. The next run is the one with the largest (w before − w after) / cost. The deviation is
//! that of a linear-Gaussian model. The model consists of the law linearised around the parameters
//! that fit the runs so far (Gauss and Newton), with a weak normal prior on every parameter, and a
//! misfit: a quadratic in ln N, ln D_ft and ln(1 + p/p₀) over the range of the candidates, whose
//! coefficients are normal with a deviation of 0.2 in the logarithm of the increase. In a corner
//! these add up to 0.5, about the error of the laws of `golden/nano` at held-out sizes. Without the
//! misfit a law would be trusted far from any run; with it, runs near the question are worth their
//! cost. The loss of a run with noise σ² reduces the variance g′Cg of a prediction by (g′Ch)² /
//! (h′Ch + σ²) (Kalman, 1960). This does not depend on the loss itself, so several runs can be
//! chosen one after another before any of them is made. This is a V-optimal design (Fedorov,
//! "Theory of Optimal Experiments", 1972) by greedy steps per cost.
//!
//! The first of several runs that share a prerequisite, such as a pretrained model, bears its cost.
//! Such a run is judged together with the runs that become cheaper: by the best ratio of gain to
//! cost over the first 1, 2, … runs of a greedy order among those with the same prerequisite.
//!
//! Until the law can be fitted, only cheap initial runs are chosen: the two smallest N, the two
//! smallest D_ft and the extremes of p.
//!
//! Nothing here is random: the same runs give the same choice.
//!
//! # Examples
//! ```
//! use forgetting_laws::fit::design::{Candidate, Design};
//! use forgetting_laws::laws::{Forgetting, Row};
//! use forgetting_laws::table::Table;
//!
//! // Two sizes, which cost a pretraining each, two amounts of data, with injection and without.
//! let mut candidates = Vec::new();
//! for (needs, n_params) in [(0, 1e6), (1, 1e7)] {
//!     for (d_ft_tokens, p) in [(1e5, 0.0), (1e5, 0.05), (1e6, 0.0), (1e6, 0.05)] {
//!         let row = Row { n_params, d_ft_tokens, p, loss_pt0: 3.0, ..Row::default() };
//!         let cost = n_params * d_ft_tokens;
//!         candidates.push(Candidate { row, cost, needs: Some(needs) });
//!     }
//! }
//! let asked = vec![candidates[6].row, candidates[7].row];
//! let design = Design::new(&Forgetting, asked, candidates.iter().map(|run| run.row))?;
//! let known = design.knowing(&Table::new(vec![]));
//! let first = known.choose(&candidates, &[1e12, 1e14], 2)?;
//! assert_eq!(first.len(), 2);
//! assert!(first[1].after < first[0].after && first[0].after < first[0].before);
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

mod gaussian;
mod steps;

pub use steps::Steps;

use super::problem::{suffices, units_of};
use super::{Bootstrap, Fit, Options, Watch, fit};
use crate::laws::{Law, Point, Role, Row, Units};
use crate::table::{Run, Table};
use crate::{Error, Result};
pub(super) use gaussian::Gaussian;

/// A candidate run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The inputs of the law. L_pt⁰ may be a guess; it determines how much of the loss is increase.
    pub row: Row,
    /// The cost of the run alone, in any unit: FLOPs or core-seconds.
    pub cost: f64,
    /// Its prerequisite: an index into the costs that several runs share.
    pub needs: Option<usize>,
}

/// A chosen run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its index among the candidates.
    pub index: usize,
    /// The criterion before it: the mean standard deviation of the predicted ln(L − L₀).
    pub before: f64,
    /// The criterion expected after it.
    pub after: f64,
    /// Its cost, including that of its prerequisite if not yet paid.
    pub cost: f64,
}

/// A question to a law, and the range of the runs that may answer it.
#[derive(Clone)]
pub struct Design {
    law: &'static dyn Law,
    asked: Vec<Row>,
    units: Units,
    /// Middle and half the width of the range of each coordinate of the misfit.
    ranges: [(f64, f64); AXES],
    /// The N, D_ft and p of the first runs.
    spread: [[f64; 2]; AXES],
}

/// What the finished runs say about the answer.
#[derive(Clone)]
pub struct Knowledge<'a> {
    design: &'a Design,
    /// The law's parameters at which it is linearised, in the design's units.
    values: Vec<f64>,
    /// The parameters less these values, in units of their priors, and the coefficients of the misfit
    /// in units of theirs.
    known: Gaussian,
    /// The variance of the noise of a run, in ln L.
    noise: f64,
    /// Whether the law could be fitted to the runs.
    fitted: bool,
}

/// ln N, ln D_ft and ln(1 + p/p₀).
const AXES: usize = 3;
/// Products of two coordinates.
const MISFITS: usize = AXES * (AXES + 1) / 2;
/// The standard deviation of the coefficients of the misfit, in the logarithm of the increase.
const MISFIT: f64 = 0.2;

/// Of the prior: standard deviations of the logarithm of a coefficient, of an exponent, and of
/// ln(1 + B·p₀).
const OF_COEFFICIENTS: f64 = 2.0;
const OF_EXPONENTS: f64 = 0.5;
const OF_STRENGTHS: f64 = 2.0;

/// The noise of ln L that is assumed before there are runs, and how many runs that counts for.
const NOISE: f64 = 0.01;
const NOISE_RUNS: f64 = 2.0;

/// The most runs with which the price of what they share is judged.
const BUNDLE: usize = 12;

impl Design {
    /// A design for the points of the question, with the rows of all candidate and finished runs.
    ///
    /// # Errors
    /// If the question has no point, or a size that the law reads is not a number above 0.
    pub fn new(
        law: &'static dyn Law,
        asked: Vec<Row>,
        reach: impl IntoIterator<Item = Row>,
    ) -> Result<Self> {
        if asked.is_empty() {
            return Err(Error::setting("points asked about", 0, "must be at least one"));
        }
        let reach: Vec<Row> = reach.into_iter().collect();
        let spread = spread(&reach);
        let rows: Vec<Row> = asked.iter().chain(&reach).copied().collect();
        for column in law.inputs().iter().map(|input| input.column) {
            for row in &rows {
                super::advise::check(row, &[column])?;
            }
        }
        let points: Vec<Point> = rows.iter().map(Point::from).collect();
        let units = units_of(law, points.iter());
        let mut design = Self { law, asked, units, ranges: [(0.0, 1.0); AXES], spread };
        design.ranges = std::array::from_fn(|axis| {
            let of = |point: &Point| design.axes(&units.measure(point))[axis];
            let low = points.iter().map(of).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
            (0.5 * (low + high), 0.5 * (high - low))
        });
        Ok(design)
    }

    /// The state of knowledge with the runs of a table. If they are too few for a fit, the law is
    /// taken at the middle of its prior.
    pub fn knowing(&self, table: &Table) -> Knowledge<'_> {
        let known = |run: &&Run| run.get(self.law.output()).is_some();
        let rows: Vec<Row> = table.runs.iter().filter(known).map(|run| run.row).collect();
        let points: Vec<Point> = rows.iter().map(Point::from).collect();
        let k = self.law.parameters().len();
        let enough = rows.len() > k && suffices(self.law, points.iter());
        let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
        let fitted = if enough { fit(table, self.law, &options).ok() } else { None };
        let mut known = Knowledge {
            design: self,
            values: self.values(fitted.as_ref()),
            known: Gaussian::new(&[(0.0, 1.0)].repeat(k + MISFITS)),
            noise: noise(fitted.as_ref(), k),
            fitted: fitted.is_some(),
        };
        rows.iter().for_each(|row| known.learn(row));
        known
    }

    /// The parameters in this design's units. Those of a fit are kept away from 0, where a
    /// parameter has no effect and nothing could be learned about it, and from absurd values, to
    /// which few runs may lead. Without a fit, they are guesses.
    fn values(&self, fitted: Option<&Fit>) -> Vec<f64> {
        let guess = |role: Role| match role {
            Role::Coefficient => 0.5,
            Role::Exponent => 0.3,
            Role::Strength => 1f64.exp_m1(),
        };
        let range = |role: Role| match role {
            Role::Coefficient => (1e-3, 10.0),
            Role::Exponent => (0.05, 1.5),
            Role::Strength => (0.1f64.exp_m1(), 5f64.exp_m1()),
        };
        let roles = self.law.parameters().iter().map(|parameter| parameter.role);
        match fitted.map(|fitted| self.law.in_units(&fitted.values(), &self.units)) {
            Some(values) if values.iter().all(|value| value.is_finite()) => {
                let inside = |(role, value): (Role, f64)| {
                    let (least, most) = range(role);
                    value.clamp(least, most)
                };
                roles.zip(values).map(inside).collect()
            }
            _ => roles.map(guess).collect(),
        }
    }

    /// Whether a run is one of the spread that makes a first fit possible.
    fn is_first(&self, row: &Row) -> bool {
        let [sizes, amounts, fractions] = &self.spread;
        let any = |values: &[f64; 2], x: f64| x.is_nan() || values.contains(&x);
        any(sizes, row.n_params) && any(amounts, row.d_ft_tokens) && any(fractions, row.p)
    }

    /// The coordinates of the misfit, before they are scaled.
    fn axes(&self, measured: &Point) -> [f64; AXES] {
        let known = |x: f64| if x.is_finite() { x } else { 0.0 };
        [measured.ln_n, measured.ln_d_ft, measured.p.ln_1p()].map(known)
    }
}

impl Knowledge<'_> {
    /// The criterion: the mean over the points asked about of the standard deviation of the predicted
    /// ln(L − L₀).
    pub fn deviation(&self) -> f64 {
        self.deviation_of(&self.asked())
    }

    /// The standard deviation of what the law says at one point.
    pub fn deviation_at(&self, row: &Row) -> f64 {
        self.deviation_of(&[self.of_rise(row)])
    }

    /// The information of a run's loss about the law and its misfit, in nats, whatever the
    /// question: ½ ln(1 + h′Ch/σ²). A D-optimal design chooses the runs with the most information
    /// (Lindley, 1956).
    pub fn information(&self, row: &Row) -> f64 {
        0.5 * (self.known.variance(&self.of_loss(row)) / self.noise).ln_1p()
    }

    /// Whether the law could be fitted to the runs.
    pub fn is_fitted(&self) -> bool {
        self.fitted
    }

    /// The next runs to make, best first: the requested number, or all that are left. `shared` has
    /// the costs of prerequisites, 0 if paid.
    ///
    /// # Errors
    /// If a [`Watch`] stops the computation.
    pub fn choose(
        &self,
        candidates: &[Candidate],
        shared: &[f64],
        count: usize,
    ) -> Result<Vec<Choice>> {
        let mut known = self.clone();
        let mut shared = shared.to_vec();
        let mut left: Vec<usize> = (0..candidates.len()).collect();
        let is_first = |i: &usize| self.design.is_first(&candidates[*i].row);
        if !self.fitted && left.iter().any(is_first) {
            left.retain(is_first);
        }
        let derivatives: Vec<Vec<f64>> =
            candidates.iter().map(|run| self.of_loss(&run.row)).collect();
        let asked = self.asked();
        let mut choices: Vec<Choice> = Vec::new();
        while choices.len() < count && !left.is_empty() {
            Watch::look()?;
            let before = known.deviation_of(&asked);
            let unpaid = |i: usize| candidates[i].needs.map_or(0.0, |needs| shared[needs]);
            let mut best: Option<(f64, usize)> = None;
            let mut offer = |found: (f64, usize)| {
                // Of equals the first.
                if best.is_none_or(|(ratio, _)| found.0 > ratio) {
                    best = Some(found);
                }
            };
            for &i in left.iter().filter(|&&i| unpaid(i) == 0.0) {
                let after = known.deviation_after(&asked, &derivatives[i]);
                offer(((before - after) / candidates[i].cost.max(f64::MIN_POSITIVE), i));
            }
            for (needs, &price) in shared.iter().enumerate().filter(|(_, price)| **price > 0.0) {
                let group = left.iter().copied().filter(|&i| candidates[i].needs == Some(needs));
                let group: Vec<usize> = group.collect();
                let costs = |i: usize| candidates[i].cost;
                if let Some(found) = known.bundle(&asked, &derivatives, group, price, &costs)? {
                    offer(found);
                }
            }
            let Some((_, index)) = best else { break };
            let cost = candidates[index].cost + unpaid(index);
            known.update(&derivatives[index]);
            choices.push(Choice { index, before, after: known.deviation_of(&asked), cost });
            left.retain(|&i| i != index);
            if let Some(needs) = candidates[index].needs {
                shared[needs] = 0.0;
            }
        }
        Ok(choices)
    }

    /// The best ratio of gain to cost of the first runs of a group that shares a price, and the first
    /// of them.
    fn bundle(
        &self,
        asked: &[Vec<f64>],
        derivatives: &[Vec<f64>],
        mut group: Vec<usize>,
        price: f64,
        costs: &impl Fn(usize) -> f64,
    ) -> Result<Option<(f64, usize)>> {
        let mut known = self.clone();
        let begun = known.deviation_of(asked);
        let (mut spent, mut first, mut best) = (price, None, f64::NEG_INFINITY);
        for _ in 0..BUNDLE {
            Watch::look()?;
            let before = known.deviation_of(asked);
            let ratio =
                |&i: &usize| (before - known.deviation_after(asked, &derivatives[i])) / costs(i);
            let Some(next) =
                group.iter().copied().reduce(|a, b| if ratio(&b) > ratio(&a) { b } else { a })
            else {
                break;
            };
            first = first.or(Some(next));
            known.update(&derivatives[next]);
            group.retain(|&i| i != next);
            spent += costs(next);
            best = best.max((begun - known.deviation_of(asked)) / spent);
        }
        Ok(first.map(|first| (best, first)))
    }

    /// Counts a run that is under way as made, without its result.
    pub fn learn(&mut self, row: &Row) {
        let derivatives = self.of_loss(row);
        self.update(&derivatives);
    }

    fn update(&mut self, derivatives: &[f64]) {
        // What the law says is what is expected.
        self.known.learn(derivatives, self.known.mean(derivatives), self.noise);
    }

    fn deviation_of(&self, asked: &[Vec<f64>]) -> f64 {
        asked.iter().map(|of| self.known.variance(of).sqrt()).sum::<f64>() / asked.len() as f64
    }

    /// The criterion once a run with these derivatives is made.
    fn deviation_after(&self, asked: &[Vec<f64>], derivatives: &[f64]) -> f64 {
        let variances = self.known.variances_after(asked, derivatives, self.noise);
        variances.map(f64::sqrt).sum::<f64>() / asked.len() as f64
    }

    fn asked(&self) -> Vec<Vec<f64>> {
        self.design.asked.iter().map(|row| self.of_rise(row)).collect()
    }

    /// The derivatives of ln L.
    fn of_loss(&self, row: &Row) -> Vec<f64> {
        let (prediction, rise, derivatives) = self.derivatives(row);
        derivatives.into_iter().map(|d| d * rise / prediction).collect()
    }

    /// The derivatives of ln(L − L₀).
    fn of_rise(&self, row: &Row) -> Vec<f64> {
        self.derivatives(row).2
    }

    /// L, its increase L − L₀, and the derivatives of ln(L − L₀) with respect to the parameters, in units
    /// of their priors, and to the coefficients of the misfit, in units of theirs.
    fn derivatives(&self, row: &Row) -> (f64, f64, Vec<f64>) {
        let Design { law, units, ranges, .. } = self.design;
        let point = units.measure(&Point::from(row));
        let mut derivatives = vec![0.0; self.values.len()];
        let prediction = law.gradient(&point, &self.values, &mut derivatives);
        let rise = prediction - law.baseline(&point).unwrap_or(0.0);
        for ((derivative, value), parameter) in
            derivatives.iter_mut().zip(&self.values).zip(law.parameters())
        {
            *derivative *= match parameter.role {
                Role::Coefficient => OF_COEFFICIENTS * value,
                Role::Exponent => OF_EXPONENTS,
                Role::Strength => OF_STRENGTHS * (1.0 + value),
            } / rise;
        }
        let axes = self.design.axes(&point);
        let scaled: [f64; AXES] = std::array::from_fn(|i| {
            let (middle, half) = ranges[i];
            if half > 0.0 { (axes[i] - middle) / half } else { 0.0 }
        });
        for a in 0..AXES {
            derivatives.extend((0..=a).map(|b| MISFIT * scaled[a] * scaled[b]));
        }
        (prediction, rise, derivatives)
    }
}

/// The two smallest N and D_ft, and the extremes of p.
fn spread(reach: &[Row]) -> [[f64; 2]; AXES] {
    let of = |of: fn(&Row) -> f64, extremes: bool| {
        let mut values: Vec<f64> = reach.iter().map(of).filter(|x| !x.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let second = if extremes { values.last() } else { values.get(1) };
        let first = values.first().copied().unwrap_or(f64::NAN);
        [first, second.copied().unwrap_or(first)]
    };
    [of(|row| row.n_params, false), of(|row| row.d_ft_tokens, false), of(|row| row.p, true)]
}

/// The variance of ln L around the law, from the residuals of a fit and what is assumed before.
fn noise(fitted: Option<&Fit>, parameters: usize) -> f64 {
    let assumed = NOISE_RUNS * NOISE * NOISE;
    let Some(fitted) = fitted else { return assumed / NOISE_RUNS };
    let squares = fitted.rows.iter().map(|row| (row.loss / row.prediction).ln().powi(2));
    let spare = fitted.rows.len().saturating_sub(parameters) as f64;
    (assumed + squares.sum::<f64>()) / (NOISE_RUNS + spare)
}
