//! A proof of optimality: a lower bound on the objective of a fit over all parameters.
//!
//! Branch and bound. A box of parameters whose lower bound is at least the objective of the fit
//! (minus the allowed gap) is discarded; any other is split in two. When no box is left, no
//! parameters of the law are better by more than the gap.
//!
//! *Coordinates.* A term of a law is written as exp(t), where t is linear in ln of the term at a
//! corner of the table, α and β. The forgetting laws' factor (1 + B·q)^−α, where q is p or
//! proportional to it (p·D_ft, p·D_ft/N), has the coordinate κ = α·ln(1 + B·q_min), with the smallest
//! q > 0 of the table: then α·ln(1 + B·q) is κ itself at q_min, and at the other q the perspective
//! α·f(κ/α) of a concave f. So the exponents, the
//! predictions and their logarithms are convex in the coordinates, and so are the residuals.
//!
//! *Bound.* Then the penalty of a positive residual is convex. The penalty of a negative one is
//! bounded from below by that of a plane above the residual. The minimum over the box of any
//! tangent plane of this convex function is a lower bound. Its error decreases with the square of
//! the box's size, faster than the objective increases away from an optimum, so few boxes are
//! needed there.
//!
//! *A bounded term*, L_pt⁰ + R·h / (1 + h), is convex in ln h where little is lost and concave where
//! much is. A row's residual depends on ln h alone, so its convex envelope over the box takes its place: the
//! residual up to where a tangent reaches the residual at the upper end, and from there the tangent.
//!
//! *Infinity.* α, β, κ from 0 to ∞ and ln A, ln E from −∞ on are in the first box, with the limits
//! (A = 0, E = 0, B = ∞, …). A term that has no limit in a box counts with the smallest or largest
//! prediction that it allows; a small E adds a multiple of E, between two bounds. ln A and ln E are
//! bounded from above by a row that depends on them alone: beyond the bound, the penalty of this
//! row exceeds the objective of the fit.
//!
//! Bounds for sums of compositions are McCormick's idea ("Computability of global solutions to
//! factorable nonconvex programs", 1976), bounds with an error of second order those of αBB
//! (Adjiman, Dallwig, Floudas and Neumaier, 1998); the coordinates are ours.

mod convex;
mod minimise;
mod relaxation;
#[cfg(test)]
mod tests;

use super::{Objective, Watch};
use crate::laws::{Law, Point};
use crate::parallel::in_order;
use crate::{Error, Result};
use convex::{Form, Kind, MAX, Vector};
use relaxation::{Problem, Region, Relaxation};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// How much a proof should prove, and what it may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProveOptions {
    /// The relative gap at which the proof is complete, between 0 and 1.
    pub gap: f64,
    /// The number of boxes after which it stops, with the bound that it has then.
    pub max_nodes: u64,
    /// The number of threads. The result does not depend on it.
    pub threads: usize,
}

impl Default for ProveOptions {
    /// A gap of 10⁻³, 500,000 boxes, and the threads of the machine.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { gap: 1e-3, max_nodes: 500_000, threads }
    }
}

/// What is proved of a fit: nowhere is the objective below [`Proof::lower`].
///
/// Numbers are computed with ordinary rounding; a margin for it is part of `lower`, but the
/// operations are not rounded outwards one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The lowest objective that is known: the fit's, or that of `better`.
    pub best: f64,
    /// A bound: all parameters of the domain, and all limits of them, have at least this objective
    /// (but see `ceiling`).
    pub lower: f64,
    /// (`best` − `lower`) / `best`, and 0 for a fit whose residuals are nothing but rounding (at
    /// most 10⁻⁹ on the whole).
    pub relative_gap: f64,
    /// The number of boxes that were bounded.
    pub nodes: u64,
    /// Whether the gap that was asked for is reached.
    pub complete: bool,
    /// `None` if the proof covers the whole domain. Otherwise it covers the parameters for which
    /// the law's term is at most this, in nats per token, in the corner of the table: at the
    /// smallest N and p and the largest D_ft (the smallest for finetuning laws). For a bounded form it is
    /// its h, without unit. The reason is that
    /// no row lies in this corner, or that the best known fit is so poor that this row excludes
    /// nothing.
    pub ceiling: Option<f64>,
    /// An objective below the fit's and its parameters, if any turned up (by a relative 10⁻⁹ at
    /// least): then the fit was not at the optimum.
    pub better: Option<(f64, Vec<f64>)>,
}

/// The number of boxes that are bounded between two looks at the results. A constant, so that
/// neither the number of threads nor their speed changes what is done.
const BATCH: usize = 64;

/// Whether [`prove`] knows the form of a law. It knows none for [`crate::laws::ForgettingCeiling`], whose
/// ceiling is one more parameter, in which no coordinates make the predictions convex.
pub fn is_provable(law: &dyn Law) -> bool {
    law.structure().is_some()
}

/// The rows of a fit. The three slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct Observations<'a> {
    /// What the law reads.
    pub points: &'a [Point],
    /// The observed losses, in nats per token.
    pub losses: &'a [f64],
    /// The weights; a row with weight 0 does not count.
    pub weights: &'a [f64],
}

/// Bounds the objective of a law from below over its whole domain, zeros included and without upper
/// limits. It works for every law for which [`is_provable`] is true.
///
/// `best` is the objective that the fit has reached. On the paper's grid a proof takes some hundred
/// boxes of 50 μs each. The bound is never above the true minimum, whatever `best` is, and never
/// above `best`.
///
/// # Errors
/// If a law has no convex form here, a row lacks what the law reads, a loss is not a number above
/// 0, a weight or `best` is not a number of at least 0, or an option has no meaning.
///
/// # Examples
/// Nine losses with errors that follow no law; the fit is known to be good to 0.1%.
/// ```
/// use forgetting_laws::fit::{Objective, Observations, ProveOptions, prove};
/// use forgetting_laws::laws::{Finetuning, Law, Point, Row};
///
/// let (mut points, mut losses) = (vec![], vec![]);
/// for n_params in [1e7, 1e8, 1e9] {
///     for d_ft_tokens in [1e5, 1e6, 1e7] {
///         points.push(Point::from(&Row { n_params, d_ft_tokens, ..Row::default() }));
///         let error = 1.0 + 0.003 * (7.0 * losses.len() as f64).sin();
///         losses.push(error * Finetuning.predict(points.last().unwrap(), &[50.0, 0.1, 0.15, 1.5]));
///     }
/// }
/// let rows = Observations { points: &points, losses: &losses, weights: &[1.0; 9] };
/// let objective = Objective::default();
/// let prove = |best| prove(&Finetuning, rows, &objective, best, &ProveOptions::default());
/// // A poor fit is found out.
/// let (best, values) = prove(1e-4)?.better.expect("a better fit");
/// assert!((values[3] - 1.5).abs() < 0.2);
/// let proof = prove(best)?;
/// assert!(proof.complete && proof.ceiling.is_none());
/// assert!(proof.lower > 0.998 * best);
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn prove(
    law: &dyn Law,
    rows: Observations<'_>,
    objective: &Objective,
    best: f64,
    options: &ProveOptions,
) -> Result<Proof> {
    check(rows, best, options)?;
    objective.check()?;
    let Observations { points, losses, weights } = rows;
    let rows = || (0..points.len()).filter(|&row| weights[row] > 0.0);
    let points: Vec<_> = rows().map(|row| points[row]).collect();
    let losses: Vec<_> = rows().map(|row| losses[row]).collect();
    let weights: Vec<_> = rows().map(|row| weights[row]).collect();
    let Some(form) = Form::of(law, &points) else {
        let requirement = "must be a law whose convex form is known; no proof is possible";
        return Err(Error::setting("law", law.name(), requirement));
    };
    let readable = |row: &convex::Sum| {
        let finite = |term: &convex::Term| term.linear.iter().all(|slope| slope.is_finite());
        let base = row.bound.map_or(row.base, |bound| bound.base);
        base.is_finite() && base >= 0.0 && row.terms.iter().all(finite)
    };
    if let Some(row) = form.rows.iter().position(|row| !readable(row)) {
        let requirement =
            format!("must have the sizes and losses that the {} law reads", law.name());
        return Err(Error::setting("row of a proof", row, requirement));
    }

    let total: f64 = weights.iter().sum();
    let smooth = (0.1 * options.gap * best / total).max(1e-12);
    let cost_of_rounding =
        |(weight, loss): (&f64, &f64)| weight * objective.cost(loss * (1.0 + 1e-9), *loss);
    if best <= weights.iter().zip(&losses).map(cost_of_rounding).sum() {
        let (lower, relative_gap, ceiling, better) = (0.0, 0.0, None, None);
        return Ok(Proof { best, lower, relative_gap, nodes: 0, complete: true, ceiling, better });
    }
    let problem = Problem::new(form, losses, weights, objective, smooth);
    let search = Search { law, points: &points, objective, problem: &problem, options };
    search.run(best)
}

fn check(rows: Observations<'_>, best: f64, options: &ProveOptions) -> Result<()> {
    let Observations { points, losses, weights } = rows;
    for (name, len) in [("number of losses", losses.len()), ("number of weights", weights.len())] {
        if len != points.len() {
            let requirement = format!("must be {}, as of points", points.len());
            return Err(Error::setting(name, len, requirement));
        }
    }
    let not_negative = |value: f64| value.is_finite() && value >= 0.0;
    if let Some(loss) = losses.iter().find(|loss| !(loss.is_finite() && **loss > 0.0)) {
        return Err(Error::setting("loss", loss, "must be a number above 0"));
    }
    if let Some(weight) = weights.iter().find(|weight| !not_negative(**weight)) {
        return Err(Error::setting("weight", weight, "must be a number of at least 0"));
    }
    if weights.iter().all(|weight| *weight == 0.0) {
        return Err(Error::setting("weights", points.len(), "must have one above 0"));
    }
    if !not_negative(best) {
        return Err(Error::setting("objective of the fit", best, "must be a number of at least 0"));
    }
    if !(options.gap > 0.0 && options.gap < 1.0) {
        return Err(Error::setting("gap", options.gap, "must lie between 0 and 1"));
    }
    Ok(())
}

/// A box that is open, with a bound on it and a point to start from.
struct Node {
    bound: f64,
    /// Its number, in the order in which boxes come into being.
    id: u64,
    region: Region,
    start: Vector,
}

impl Ord for Node {
    /// The greatest is the one with the lowest bound, and of equals the oldest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Node {}

/// What is found out about a box.
struct Found {
    bound: f64,
    /// A point of the box, its parameters and their objective.
    x: Vector,
    values: Vec<f64>,
    objective: f64,
    /// The coordinate to split.
    split: usize,
}

struct Search<'a> {
    law: &'a dyn Law,
    points: &'a [Point],
    objective: &'a Objective,
    problem: &'a Problem,
    options: &'a ProveOptions,
}

impl Search<'_> {
    fn run(&self, best: f64) -> Result<Proof> {
        let (region, ceiling) = self.whole(best);
        let mut open = BinaryHeap::new();
        // Without any value for a coordinate, a row costs too much whatever the parameters.
        if (0..self.problem.dims()).all(|j| region.low[j] < region.high[j]) {
            open.push(Node { bound: 0.0, id: 0, region, start: [0.0; MAX] });
        }
        let (mut nodes, mut ids) = (0, 1);
        let mut known = best;
        let mut better = None;
        // The lowest bound of the boxes that are done with.
        let mut done = f64::INFINITY;
        let mut complete = true;
        while !open.is_empty() && nodes < self.options.max_nodes {
            Watch::look()?;
            let enough = known * (1.0 - self.options.gap) + self.margin(known);
            let batch: Vec<Node> = (0..BATCH).map_while(|_| open.pop()).collect();
            for (node, found) in batch.iter().zip(self.look_at(&batch, enough)) {
                nodes += 1;
                if found.objective < known * (1.0 - 1e-9) {
                    known = found.objective;
                    better = Some((known, found.values));
                }
                let bound = found.bound.max(node.bound);
                match self.halves(&node.region, found.split) {
                    Some(halves) if bound < enough => {
                        for region in halves {
                            open.push(Node { bound, id: ids, region, start: found.x });
                            ids += 1;
                        }
                    }
                    // A box as small as numbers can be is done with, whatever its bound.
                    _ => {
                        done = done.min(bound);
                        complete &= bound >= enough;
                    }
                }
            }
        }
        complete &= open.is_empty();
        let left = open.peek().map_or(f64::INFINITY, |node| node.bound);
        let lower = (done.min(left).min(known) - self.margin(known)).max(0.0);
        let relative_gap = (known - lower) / known;
        // What a poor fit left open a better one may close.
        let (rest, still) = self.whole(known);
        let beyond = (0..self.problem.dims()).any(|j| rest.high[j] > region.high[j]);
        let ceiling = if still.is_none() && !beyond { None } else { ceiling };
        Ok(Proof { best: known, lower, relative_gap, nodes, complete, ceiling, better })
    }

    /// The box of everything that can be at least as good as `best`, and the limit to which it
    /// holds the term of a product that no row has for itself.
    fn whole(&self, best: f64) -> (Region, Option<f64>) {
        let problem = self.problem;
        let mut region = Region { low: [0.0; MAX], high: [0.0; MAX] };
        let mut ceiling = None;
        for (j, kind) in problem.form.kinds.iter().enumerate() {
            region.high[j] = f64::INFINITY;
            if *kind == Kind::Level {
                let rows = 0..problem.losses.len();
                let highest = rows.filter_map(|row| problem.ceiling(row, j, best));
                region.low[j] = f64::NEG_INFINITY;
                region.high[j] = highest.fold(f64::INFINITY, f64::min);
                if region.high[j] == f64::INFINITY {
                    let limit = 1e3 * problem.losses.iter().fold(0.0, |a: f64, b| a.max(*b));
                    region.high[j] = limit.ln();
                    ceiling = Some(limit);
                }
            }
        }
        (region, ceiling)
    }

    /// What rounding may have added to a bound. Residuals are exact to a few ε, taken as 10⁻¹⁴ of
    /// the losses with room to spare, and the sum of slopes is at most √(2·F·Σw) for penalties
    /// whose slope is at most √(2ρ); |r| has the slope 1.
    fn margin(&self, known: f64) -> f64 {
        let total: f64 = self.problem.weights.iter().sum();
        let largest = self.problem.losses.iter().fold(1.0, |a: f64, b| a.max(*b));
        let slopes = match self.objective.penalty {
            super::Penalty::Absolute => total,
            _ => (2.0 * known * total).sqrt(),
        };
        1e-12 * known + 1e-14 * largest * slopes
    }

    fn look_at(&self, nodes: &[Node], enough: f64) -> Vec<Found> {
        // Threads are not worth their start for a few boxes.
        let threads = if nodes.len() < 8 { 1 } else { self.options.threads };
        in_order(nodes.len(), threads, |i| self.bound(&nodes[i], enough))
    }

    fn bound(&self, node: &Node, enough: f64) -> Found {
        let relaxation = Relaxation::new(self.problem, &node.region);
        let (bound, x) = relaxation.minimum(&node.start, enough);
        let values = self.problem.form.values(&x);
        let objective = self.cost(&values);
        Found { bound, x, values, objective, split: relaxation.split(&x) }
    }

    /// The objective of parameters, by the law itself; ∞ where they are none.
    fn cost(&self, values: &[f64]) -> f64 {
        if self.law.check(values).is_err() {
            return f64::INFINITY;
        }
        let Problem { losses, weights, .. } = self.problem;
        let rows = self.points.iter().zip(losses).zip(weights);
        let cost: f64 = rows
            .map(|((point, loss), weight)| {
                weight * self.objective.cost(self.law.predict(point, values), *loss)
            })
            .sum();
        if cost.is_nan() { f64::INFINITY } else { cost }
    }

    /// The two halves of a box. A box without an end is cut where a term has changed by a factor
    /// of e^4 at most, and then again and again at three times the distance.
    fn halves(&self, region: &Region, j: usize) -> Option<[Region; 2]> {
        let (low, high) = (region.low[j], region.high[j]);
        let at = match (low.is_finite(), high.is_finite()) {
            (true, true) => low + 0.5 * (high - low),
            (true, false) => low + (4.0 * self.problem.unit(j)).max(2.0 * low),
            (false, _) => high - 2.0,
        };
        (low < at && at < high).then(|| {
            let mut halves = [*region; 2];
            halves[0].high[j] = at;
            halves[1].low[j] = at;
            halves
        })
    }
}
