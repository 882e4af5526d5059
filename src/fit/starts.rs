//! Starts of descents, from a grid over the whole domain.
//!
//! A law is affine in its coefficients. So for fixed exponents and strengths the best non-negative
//! coefficients solve a small least-squares problem (variable projection, Golub and Pereyra 1973),
//! reweighted a few times for Huber's penalty. Only the other parameters need a grid.

use super::in_order;
use super::objective::Space;
use super::problem::{MAX, Problem, ProblemRow, Vector};
use crate::Result;
use crate::laws::Role;
use crate::rng::Key;
use std::collections::HashMap;

/// Exponents of the grid; zero is an answer that real tables give.
const EXPONENTS: &[f64] = &[0.0, 0.01, 0.04, 0.12, 0.3, 0.6, 1.1, 2.0, 4.0, 10.0, 40.0];

/// The exponents of the grid for a law with two strengths, whose grid has one more axis.
const FEWER_EXPONENTS: &[f64] = &[0.0, 0.04, 0.3, 0.8, 2.0, 10.0];

/// Strengths of the grid, in units of one over a typical p.
const STRENGTHS: &[f64] = &[0.0, 0.2, 1.5, 10.0, 100.0, 1e4, 1e10, 1e40];

/// The same for a strength with a coefficient that grows with it: their ratio is found at each of them.
const STRENGTHS_OF_RATIOS: &[f64] = &[0.0, 0.3, 3.0, 50.0, 1e4, 1e12];

/// How often coefficients are found anew with the weights that Huber's penalty gives to residuals: for
/// the whole grid, of which a rough order is enough, and for its best nodes.
const ROUGH_REWEIGHTINGS: usize = 1;
const REWEIGHTINGS: usize = 3;

/// The whole grid is seen through this many rows at most, and this many of its nodes through all.
const ROWS: usize = 128;
const NODES: usize = 64;

/// Nodes of the grid with what the law's coefficients multiply at each.
#[derive(Clone)]
pub(super) struct Grid {
    nodes: Vec<Node>,
    coefficients: Vec<usize>,
}

#[derive(Clone)]
struct Node {
    place: Place,
    /// The prediction with every coefficient at 0, setting by setting.
    offsets: Vec<f64>,
    /// The derivatives with respect to the coefficients, setting by setting.
    columns: Vec<f64>,
}

#[derive(Clone)]
struct Place {
    /// The node with every coefficient at 0.
    x: Vector,
    /// Its index on each axis.
    indices: Vec<usize>,
}

/// A start and its objective.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    node: usize,
    pub x: Vector,
    pub value: f64,
}

impl Grid {
    /// The nodes of the whole domain that matter most to a problem.
    pub fn new(problem: &Problem, delta: f64, threads: usize) -> Result<Self> {
        let thinned = problem.thinned();
        let whole = Self::whole(&thinned, threads)?;
        let screened = whole.screen_with(&thinned, delta, threads, ROUGH_REWEIGHTINGS)?;
        let places = |starts: Vec<Start>| {
            starts.iter().map(|start| whole.nodes[start.node].place.clone()).collect()
        };
        Self::at(problem, places(whole.spread(&screened, NODES)), threads)
    }

    /// Every node.
    pub fn whole(problem: &Problem, threads: usize) -> Result<Self> {
        Self::at(problem, places(problem), threads)
    }

    fn at(problem: &Problem, places: Vec<Place>, threads: usize) -> Result<Self> {
        let coefficients = with_role(problem, |role| role == Role::Coefficient);
        let k = problem.dim();
        let node = |i: usize| {
            let place = places[i].clone();
            let (values, chain) = (problem.scaled(&place.x), problem.chain(&place.x));
            let mut gradient = [0.0; MAX];
            let settings = problem.points.len();
            let mut offsets = Vec::with_capacity(settings);
            let mut columns = Vec::with_capacity(settings * coefficients.len());
            for point in &problem.points {
                offsets.push(problem.law.gradient(point, &values[..k], &mut gradient[..k]));
                columns.extend(coefficients.iter().map(|&j| gradient[j] * chain[j]));
            }
            Node { place, offsets, columns }
        };
        Ok(Self { nodes: in_order(places.len(), threads, node)?, coefficients })
    }

    /// Every node with its best coefficients, the best first.
    pub fn screen(&self, problem: &Problem, delta: f64, threads: usize) -> Result<Vec<Start>> {
        self.screen_with(problem, delta, threads, REWEIGHTINGS)
    }

    fn screen_with(
        &self,
        problem: &Problem,
        delta: f64,
        threads: usize,
        reweightings: usize,
    ) -> Result<Vec<Start>> {
        let start = |node: usize| {
            let found = self.project(problem, &self.nodes[node], delta, reweightings);
            let predict =
                |setting| self.nodes[node].predict(setting, &found[..self.coefficients.len()]);
            let mut x = self.nodes[node].place.x;
            for (&j, value) in self.coefficients.iter().zip(found) {
                x[j] = value;
            }
            Start { node, x, value: problem.value_of(predict, delta) }
        };
        let mut starts: Vec<Start> = in_order(self.nodes.len(), threads, start)?;
        starts.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.node.cmp(&b.node)));
        Ok(starts)
    }

    /// A few starts that are far apart: first the nodes that are better than all their neighbours,
    /// then the best of the others.
    pub fn spread(&self, screened: &[Start], count: usize) -> Vec<Start> {
        // The rank of the node at each place; no axis is as long as the base.
        const BASE: i64 = 64;
        let code = |place: &Place| place.indices.iter().fold(0, |code, &i| BASE * code + i as i64);
        let codes = screened.iter().map(|start| code(&self.nodes[start.node].place));
        let ranks: HashMap<i64, usize> =
            codes.enumerate().map(|(rank, code)| (code, rank)).collect();
        let axes = self.nodes.first().map_or(0, |node| node.place.indices.len());
        let mut around = vec![0];
        for _ in 0..axes {
            around = around.iter().flat_map(|c| [-1, 0, 1].map(|step| BASE * c + step)).collect();
        }
        let mut taken: Vec<Start> = Vec::new();
        for (rank, start) in screened.iter().enumerate() {
            let code = code(&self.nodes[start.node].place);
            let better = |step: &i64| ranks.get(&(code + step)).is_some_and(|other| *other < rank);
            if taken.len() < count && !around.iter().any(better) {
                taken.push(*start);
            }
        }
        for start in screened {
            if taken.len() < count && !taken.iter().any(|s| s.node == start.node) {
                taken.push(*start);
            }
        }
        taken
    }

    /// The grid with only these nodes.
    pub fn only(&self, starts: &[Start]) -> Self {
        let nodes = starts.iter().map(|start| self.nodes[start.node].clone()).collect();
        Self { nodes, coefficients: self.coefficients.clone() }
    }

    /// The coefficients of at least 0 that fit best at a node, nearly: residuals are taken to first
    /// order, as relative errors in log space.
    fn project(&self, problem: &Problem, node: &Node, delta: f64, reweightings: usize) -> Vector {
        let m = self.coefficients.len();
        let mut found = [0.0; MAX];
        for pass in 0..=reweightings {
            let mut gram = [[0.0; MAX]; MAX];
            let mut right = [0.0; MAX];
            for (setting, rows) in problem.by_setting() {
                let prediction = node.predict(setting, &found[..m]);
                let (mut weights, mut targets) = (0.0, 0.0);
                for row in rows {
                    let scale = problem.first_order_scale(row);
                    let size = ((prediction - row.loss) * scale).abs();
                    let reweighted = if pass == 0 || size <= delta { 1.0 } else { delta / size };
                    let weight = row.weight * reweighted * scale * scale;
                    weights += weight;
                    targets += weight * (row.loss - node.offsets[setting]);
                }
                let columns = &node.columns[setting * m..][..m];
                for (a, column) in columns.iter().enumerate() {
                    right[a] += targets * column;
                    for (entry, other) in gram[a].iter_mut().zip(&columns[..=a]) {
                        *entry += weights * column * other;
                    }
                }
            }
            found = non_negative(&gram, &right, m);
            if delta.is_infinite() {
                break;
            }
        }
        found
    }
}

impl Node {
    /// The prediction for a setting with these coefficients.
    fn predict(&self, setting: usize, coefficients: &[f64]) -> f64 {
        let m = coefficients.len();
        let terms = self.columns[setting * m..][..m].iter().zip(coefficients);
        self.offsets[setting] + terms.map(|(column, value)| column * value).sum::<f64>()
    }
}

/// The indices of the parameters with a role.
fn with_role(problem: &Problem, is: fn(Role) -> bool) -> Vec<usize> {
    (0..problem.dim()).filter(|&j| is(problem.roles[j])).collect()
}

/// Every node of the grid.
fn places(problem: &Problem) -> Vec<Place> {
    let mut places = vec![Place { x: [0.0; MAX], indices: Vec::new() }];
    let strengths = with_role(problem, |role| role == Role::Strength).len();
    let exponents = if strengths < 2 { EXPONENTS } else { FEWER_EXPONENTS };
    for j in with_role(problem, |role| role != Role::Coefficient) {
        let of_ratio = problem.law.ratio().is_some_and(|(_, strength)| strength == j);
        let axis: Vec<f64> = match problem.roles[j] {
            Role::Strength if of_ratio => STRENGTHS_OF_RATIOS.iter().map(|s| s.ln_1p()).collect(),
            Role::Strength => STRENGTHS.iter().map(|s| s.ln_1p()).collect(),
            _ => exponents.to_vec(),
        };
        let most = problem.most(j);
        let longer = |place: &Place| {
            let place = place.clone();
            let with = move |(i, value): (usize, &f64)| {
                let mut longer = place.clone();
                longer.x[j] = value.min(most);
                longer.indices.push(i);
                longer
            };
            axis.iter().enumerate().map(with).collect::<Vec<_>>()
        };
        places = places.iter().flat_map(longer).collect();
    }
    places
}

impl Problem {
    /// The problem of a fixed choice of rows, through which the way is found.
    pub fn thinned(&self) -> Self {
        let key = Key::new(0).named("thinned rows");
        let mut rows: Vec<usize> = (0..self.rows.len()).collect();
        rows.sort_by_key(|&i| key.word(i as u64));
        rows.truncate(ROWS);
        rows.sort_unstable();
        self.select(&rows).without_idle_settings()
    }

    /// What a small residual in nats is in the objective's space.
    fn first_order_scale(&self, row: &ProblemRow) -> f64 {
        match self.space {
            Space::Log => 1.0 / row.loss,
            Space::Raw => 1.0,
        }
    }
}

/// Minimises c'Gc/2 − r'c over c ≥ 0, for the few coefficients of a law, by trying every choice of
/// which of them are above 0. Only the lower half of G is read.
fn non_negative(gram: &[[f64; MAX]; MAX], right: &[f64; MAX], m: usize) -> Vector {
    let mut best = ([0.0; MAX], 0.0);
    let all = (1u32 << m) - 1;
    for choice in (1..=all).rev() {
        let free: Vec<usize> = (0..m).filter(|j| choice >> j & 1 == 1).collect();
        let negative = std::array::from_fn(|j| -right[j]);
        let Some(c) = super::solve::newton_step(gram, &negative, &free) else { continue };
        let value: f64 = -0.5 * free.iter().map(|&j| c[j] * right[j]).sum::<f64>();
        if value < best.1 && free.iter().all(|&j| c[j] >= 0.0) {
            best = (c, value);
            // Without bounds it is the best of all.
            if choice == all {
                break;
            }
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G = [[2, 1], [1, 2]]: unconstrained [1, 1] for r = [3, 3], and the bound for r = [3, −3].
    #[test]
    fn coefficients_are_the_best_of_at_least_0() {
        let mut gram = [[0.0; MAX]; MAX];
        (gram[0][0], gram[0][1], gram[1][0], gram[1][1]) = (2.0, 1.0, 1.0, 2.0);
        let with = |a: f64, b: f64| {
            let mut right = [0.0; MAX];
            (right[0], right[1]) = (a, b);
            let found = non_negative(&gram, &right, 2);
            [found[0], found[1]]
        };
        let close = |found: [f64; 2], expected: [f64; 2]| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-11), "{found:?}");
        };
        close(with(3.0, 3.0), [1.0, 1.0]);
        close(with(3.0, -3.0), [1.5, 0.0]);
        close(with(-1.0, 0.5), [0.0, 0.25]);
        close(with(-1.0, -1.0), [0.0, 0.0]);
    }
}
