//! A convex function below the objective on a box.

use super::convex::{ALPHA, Bend, Bound, Form, KAPPA, Kind, MAX, Sum, Term, Vector};
use crate::fit::{Objective, Penalty, Space};

/// The most terms of a prediction.
const TERMS: usize = 3;

/// A box of coordinates. Where an end is infinite, the limit belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub low: Vector,
    pub high: Vector,
}

impl Region {
    pub fn width(&self, j: usize) -> f64 {
        self.high[j] - self.low[j]
    }

    fn is_infinite(&self, j: usize) -> bool {
        !(self.low[j].is_finite() && self.high[j].is_finite())
    }
}

/// The objective in the coordinates of a [`Form`].
pub(super) struct Problem {
    pub form: Form,
    pub losses: Vec<f64>,
    pub weights: Vec<f64>,
    space: Space,
    ln_losses: Vec<f64>,
    delta: f64,
    factor: f64,
}

impl Problem {
    /// The penalty |r| has a kink. Huber's penalty with δ = `smooth`, divided by δ, takes its
    /// place: it is less, by at most δ/2.
    pub fn new(
        form: Form,
        losses: Vec<f64>,
        weights: Vec<f64>,
        objective: &Objective,
        smooth: f64,
    ) -> Self {
        let (delta, factor) = match objective.penalty {
            Penalty::Huber(delta) => (delta, 1.0),
            Penalty::Squared => (f64::INFINITY, 1.0),
            Penalty::Absolute => (smooth, 1.0 / smooth),
        };
        let ln_losses = losses.iter().map(|loss| loss.ln()).collect();
        Self { form, losses, weights, space: objective.space, ln_losses, delta, factor }
    }

    pub fn dims(&self) -> usize {
        self.form.kinds.len()
    }

    /// How far a coordinate goes to change some exponent by 1, and none by more.
    pub fn unit(&self, j: usize) -> f64 {
        let terms = self.form.rows.iter().flat_map(|row| &row.terms);
        let steepest = terms.map(|term| term.linear[j].abs()).fold(0.0, f64::max);
        if steepest > 0.0 { 1.0 / steepest } else { 1.0 }
    }

    /// The residual of a prediction, or of the term of a bounded one: the prediction minus the loss, or the
    /// difference of their logarithms.
    pub fn residual(&self, row: usize, prediction: f64) -> f64 {
        let prediction = self.form.rows[row].bound.map_or(prediction, |bound| bound.of(prediction));
        match self.space {
            Space::Log => prediction.ln() - self.ln_losses[row],
            Space::Raw => prediction - self.losses[row],
        }
    }

    /// The derivatives of the residual with respect to the prediction: the first, and the second
    /// over the square of the first.
    pub fn residual_slopes(&self, prediction: f64) -> [f64; 2] {
        match self.space {
            Space::Log => [1.0 / prediction, -1.0],
            Space::Raw => [1.0, 0.0],
        }
    }

    /// The residual of a row whose prediction is bounded, and its first two derivatives, at an exponent of
    /// its term.
    fn bounded(&self, row: usize, Bound { base, room }: Bound, exponent: f64) -> [f64; 3] {
        let (lost, kept) = (1.0 / (1.0 + (-exponent).exp()), 1.0 / (1.0 + exponent.exp()));
        let (prediction, slope) = (base + room * lost, room * lost * kept);
        match self.space {
            Space::Raw => [prediction - self.losses[row], slope, slope * (kept - lost)],
            Space::Log => {
                let slope = slope / prediction;
                let residual = prediction.ln() - self.ln_losses[row];
                [residual, slope, slope * (kept - lost - slope)]
            }
        }
    }

    /// The exponent up to which such a residual is convex, and from which on it is concave.
    fn inflection(&self, Bound { base, room }: Bound) -> f64 {
        match self.space {
            Space::Raw => 0.0,
            Space::Log => {
                // The share s that is lost there solves base − 2·base·s = room·s².
                let root = (base * (base + room)).sqrt();
                (base / root).ln()
            }
        }
    }

    /// The convex envelope of such a residual on an interval.
    fn envelope(&self, row: usize, bound: Bound, low: f64, high: f64) -> Envelope {
        let at = |t: f64| self.bounded(row, bound, t);
        let [end, ..] = at(high);
        let bend = self.inflection(bound);
        if high <= bend && low < high {
            return Envelope { bound, from: f64::INFINITY, at: high, value: end, slope: 0.0 };
        }
        // By how much the tangent misses the upper end; it rises with t up to the inflection.
        let missed = |t: f64| {
            let [value, slope, _] = at(t);
            value + slope * (high - t) - end
        };
        if low >= bend || missed(low) >= 0.0 {
            // A chord, which ends at the residuals of both ends.
            let [value, ..] = at(low);
            let slope = if low < high { ((end - value) / (high - low)).max(0.0) } else { 0.0 };
            return Envelope { bound, from: f64::NEG_INFINITY, at: low, value, slope };
        }
        let (mut from, mut beyond) = (low, bend);
        for _ in 0..60 {
            let middle = 0.5 * (from + beyond);
            *(if missed(middle) <= 0.0 { &mut from } else { &mut beyond }) = middle;
        }
        let [value, slope, _] = at(from);
        Envelope { bound, from, at: from, value, slope }
    }

    /// A line above such a residual on an interval: its value at 0 and its slope.
    fn line_above(&self, row: usize, bound: Bound, low: f64, high: f64) -> (f64, f64) {
        let at = |t: f64| self.bounded(row, bound, t);
        let ([first, ..], [last, ..]) = (at(low), at(high));
        if high - low <= 1e-9 || !low.is_finite() {
            return (last, 0.0);
        }
        let slope = ((last - first) / (high - low)).max(0.0);
        let mut offset = (first - slope * low).max(last - slope * high);
        // Where the residual is concave it may exceed the chord, by most where it has its slope.
        let (mut rises, mut falls) = (low.max(self.inflection(bound)), high);
        if rises < falls && at(rises)[1] > slope {
            for _ in 0..60 {
                let middle = 0.5 * (rises + falls);
                *(if at(middle)[1] > slope { &mut rises } else { &mut falls }) = middle;
            }
            let [value, steeper, _] = at(rises);
            offset = offset.max(value - slope * rises + (steeper - slope) * (falls - rises));
        }
        (offset, slope)
    }

    /// The slopes of two lines in E from 0 to `most`: what E adds to a residual lies between them if
    /// the prediction is from `lowest` to `highest`, those with E = 0 and E = `most`. None where E
    /// is not small.
    fn slopes_of_offset(&self, lowest: f64, highest: f64, most: f64) -> Option<[f64; 2]> {
        match self.space {
            Space::Raw => Some([1.0, 1.0]),
            Space::Log if 2.0 * most > lowest => None,
            Space::Log => Some([(most / (highest - most)).ln_1p() / most, 1.0 / lowest]),
        }
    }

    /// A row's cost of a residual, its slope and its curvature.
    pub fn cost(&self, row: usize, r: f64) -> [f64; 3] {
        let size = r.abs();
        let cost = if size <= self.delta {
            [0.5 * r * r, r, 1.0]
        } else {
            [self.delta * (size - 0.5 * self.delta), self.delta * r.signum(), 0.0]
        };
        cost.map(|value| value * self.factor * self.weights[row])
    }

    /// The bends at a point.
    pub fn bends(&self, x: &Vector) -> Vec<Bend> {
        self.form.bends.iter().map(|&excess| Bend::at(excess, x[ALPHA], x[KAPPA])).collect()
    }

    /// A row's prediction, of those of its terms for which `which` has a bit, with `rest` for the
    /// others.
    pub fn prediction(&self, row: usize, x: &Vector, bends: &[Bend], rest: f64, which: u8) -> f64 {
        let terms = self.form.rows[row].terms.iter().enumerate();
        let chosen = terms.filter(|(k, _)| which >> k & 1 == 1);
        rest + chosen.map(|(_, term)| term.exponent(x, bends).exp()).sum::<f64>()
    }

    /// The largest value of a coordinate for which the row's cost can be at most `best`, if the
    /// coordinate is an exponent of the row by itself.
    pub fn ceiling(&self, row: usize, j: usize, best: f64) -> Option<f64> {
        let Sum { base, terms, bound } = &self.form.rows[row];
        let alone = |term: &Term| (0..self.dims()).all(|k| term.depends_on(k) == (k == j));
        if !terms.iter().any(alone) {
            return None;
        }
        let cost = best / (self.weights[row] * self.factor);
        let inside = cost <= 0.5 * self.delta * self.delta;
        let r = if inside { (2.0 * cost).sqrt() } else { cost / self.delta + 0.5 * self.delta };
        let prediction = match self.space {
            Space::Log => (self.ln_losses[row] + r).exp(),
            Space::Raw => self.losses[row] + r,
        };
        // The factor covers rounding.
        let prediction = prediction * (1.0 + 1e-12);
        match bound {
            Some(bound) => {
                Some(bound.exponent(prediction)).filter(|&exponent| exponent < f64::INFINITY)
            }
            None => Some((prediction - base).max(0.0).ln()),
        }
    }
}

/// A convex function below the objective on a box: the sum of `constant` and of the rows' parts.
///
/// A penalty ρ is the sum of ρ₊, which is 0 below residuals of 0, and ρ₋, which is 0 above. The
/// residual r is convex in the coordinates (the logarithm of a sum of exponentials of convex
/// exponents, or such a sum), so ρ₊(r) is convex too. A plane that lies above r wherever r < 0 in
/// the box makes ρ₋(plane) a convex function below ρ₋(r). How far the plane lies above r shrinks
/// with the square of the box's size, and so does the whole error.
///
/// A term that moves without limit in the box stands still in both: smallest in r, largest in the
/// plane. But where the box reaches E = 0, E itself takes the place of ln E: the residual lies
/// between those without E plus multiples of E, and their difference is of second order too.
pub(super) struct Relaxation<'a> {
    pub problem: &'a Problem,
    region: Region,
    /// The box, with E in the place of ln E if there is a `plain` coordinate.
    pub inner: Region,
    plain: Option<usize>,
    pub constant: f64,
    pub parts: Vec<Part>,
}

/// A row's part.
pub(super) struct Part {
    /// The plane, where r < 0 is possible: its value at 0 and its slopes.
    pub over: Option<(f64, Vector)>,
    /// Where r > 0 is possible: the prediction without the terms that move, and bits for these.
    pub under: Option<(f64, u8)>,
    /// There, if the prediction is bounded: what takes the place of the residual.
    envelope: Option<Envelope>,
    /// The least that E adds to the residual in `under`, for each nat per token.
    pub plain: f64,
    /// By how much each term moves the prediction in the box.
    reach: [f64; TERMS],
}

impl<'a> Relaxation<'a> {
    pub fn new(problem: &'a Problem, region: &Region) -> Self {
        let last = problem.dims() - 1;
        let has_offset = last > 0 && problem.form.kinds[last] == Kind::Level;
        let plain = (has_offset && region.low[last] == f64::NEG_INFINITY).then_some(last);
        let mut inner = *region;
        if let Some(j) = plain {
            (inner.low[j], inner.high[j]) = (0.0, region.high[j].exp());
        }
        let (constant, parts) = (0.0, vec![]);
        let mut relaxation = Self { problem, region: *region, inner, plain, constant, parts };
        // Where the exponents are largest and smallest.
        let (mut top, mut bottom) = (region.high, region.low);
        for (j, kind) in problem.form.kinds.iter().enumerate() {
            if *kind == Kind::Decay {
                (top[j], bottom[j]) = (region.low[j], region.high[j]);
            }
        }
        let ends = [(bottom, problem.bends(&bottom)), (top, problem.bends(&top))];
        let planes: Vec<_> =
            problem.form.bends.iter().map(|&excess| plane_below(excess, region)).collect();
        for row in 0..problem.losses.len() {
            let part = relaxation.part(row, &ends, &planes);
            relaxation.parts.push(part);
        }
        relaxation
    }

    /// A point with E in the place of ln E where the relaxation has it so, in the box.
    pub fn enter(&self, x: &Vector) -> Vector {
        let mut inner = *x;
        if let Some(j) = self.plain {
            inner[j] = inner[j].exp();
        }
        for (j, value) in inner.iter_mut().enumerate().take(self.problem.dims()) {
            let (low, high) = (self.inner.low[j], self.inner.high[j]);
            *value = value.clamp(low, high);
            if !value.is_finite() {
                // Nothing depends on a coordinate without an end.
                *value = if low.is_finite() { low } else { high };
            }
        }
        inner
    }

    /// The inverse of [`enter`](Self::enter).
    pub fn leave(&self, inner: &Vector) -> Vector {
        let mut x = *inner;
        if let Some(j) = self.plain {
            x[j] = x[j].ln();
        }
        x
    }

    /// Whether a term moves without limit in the box. Where α alone is unlimited, bends do not.
    fn stands(&self, term: &Term) -> bool {
        let moves = |j: usize| match term.bend {
            Some(_) if j == ALPHA => term.linear[ALPHA] != 0.0,
            _ => term.depends_on(j),
        };
        (0..self.problem.dims()).any(|j| self.region.is_infinite(j) && moves(j))
    }

    fn part(&mut self, row: usize, ends: &[(Vector, Vec<Bend>); 2], planes: &[Plane]) -> Part {
        let Sum { base, terms, bound } = &self.problem.form.rows[row];
        let mut exponents = [[0.0; 2]; TERMS];
        let mut part =
            Part { over: None, under: None, envelope: None, plain: 0.0, reach: [0.0; TERMS] };
        let (mut lowest, mut highest, mut rest, mut moving) = (*base, *base, *base, 0);
        for (k, term) in terms.iter().enumerate() {
            exponents[k] = [0, 1].map(|end| term.exponent(&ends[end].0, &ends[end].1));
            let [low, high] = exponents[k].map(f64::exp);
            part.reach[k] = high - low;
            lowest += low;
            highest += high;
            if self.stands(term) {
                rest += low;
            } else {
                moving |= 1 << k;
            }
        }
        let mut plane = [0.0; MAX];
        if let Some(j) = self.plain {
            let offset = self.inner.high[j];
            if let Some([below, above]) = self.problem.slopes_of_offset(lowest, highest, offset) {
                (part.plain, plane[j]) = (below, above);
                exponents[terms.len() - 1] = [f64::NEG_INFINITY; 2];
            }
        }
        if self.problem.residual(row, lowest) < 0.0 {
            let (mut value, slopes) = self.over(row, exponents, moving, lowest);
            for (term, slope) in terms.iter().zip(slopes).filter(|(_, slope)| *slope > 0.0) {
                plane.iter_mut().zip(&term.linear).for_each(|(out, linear)| *out += slope * linear);
                if let Some(below) = term.bend.map(|bend| &planes[bend]) {
                    value -= slope * below.value;
                    plane[ALPHA] -= slope * below.by_alpha;
                    plane[KAPPA] -= slope * below.by_kappa;
                }
            }
            if plane == [0.0; MAX] {
                self.constant += self.problem.cost(row, value.min(0.0))[0];
            } else {
                part.over = Some((value, plane));
            }
        }
        if self.problem.residual(row, highest) > 0.0 {
            if moving == 0 && part.plain == 0.0 {
                let r = self.problem.residual(row, lowest);
                self.constant += self.problem.cost(row, r.max(0.0))[0];
            } else {
                part.under = Some((rest, moving));
                part.envelope = bound.map(|bound| {
                    let [low, high] = exponents[0];
                    self.problem.envelope(row, bound, low, high)
                });
            }
        }
        if let Some(bound) = bound {
            part.reach[0] = bound.of(highest) - bound.of(lowest);
        }
        part
    }

    /// A plane in the exponents that lies above the residual wherever that is below 0: its value at
    /// 0 and its slopes, of which none is negative.
    fn over(
        &self,
        row: usize,
        mut exponents: [[f64; 2]; TERMS],
        moving: u8,
        lowest: f64,
    ) -> (f64, [f64; TERMS]) {
        let Sum { base, terms, bound } = &self.problem.form.rows[row];
        if let Some(bound) = *bound {
            // Beyond the exponent that makes the residual 0 the line is above 0 too.
            let [low, high] = exponents[0];
            let high = high.min(bound.exponent(self.problem.losses[row])).max(low);
            let low = if moving == 0 { high } else { low };
            let (value, slope) = self.problem.line_above(row, bound, low, high);
            let mut slopes = [0.0; TERMS];
            slopes[0] = slope;
            return (value, slopes);
        }
        let mut moves = [false; TERMS];
        for (k, [low, high]) in exponents[..terms.len()].iter_mut().enumerate() {
            // Beyond the exponent that makes the residual 0 when the others are smallest, it is
            // above 0, and so is a plane that is at least 0 there.
            let room = self.problem.losses[row] - (lowest - low.exp());
            if room > 0.0 {
                *high = high.min(room.ln());
            }
            moves[k] = moving >> k & 1 == 1 && *high - *low > 1e-9;
            if !moves[k] {
                *low = *high;
            }
        }
        // The residual is convex in the exponents: a plane above its corners is above it.
        let corners = 1usize << terms.len();
        let end = |corner: usize, k: usize| exponents[k][corner >> k & 1];
        let exps = exponents.map(|ends| ends.map(f64::exp));
        let mut values = [0.0; 1 << TERMS];
        for (corner, value) in values[..corners].iter_mut().enumerate() {
            let sum: f64 = (0..terms.len()).map(|k| exps[k][corner >> k & 1]).sum();
            *value = self.problem.residual(row, base + sum);
        }
        let values = &values[..corners];
        let mut slopes = [0.0; TERMS];
        for k in (0..terms.len()).filter(|&k| moves[k]) {
            let signed = |(corner, value): (usize, &f64)| {
                if corner >> k & 1 == 1 { *value } else { -value }
            };
            let rise: f64 = values.iter().enumerate().map(signed).sum();
            slopes[k] =
                rise.max(0.0) * 2.0 / (corners as f64 * (exponents[k][1] - exponents[k][0]));
        }
        let moved = |corner| -> f64 {
            (0..terms.len()).filter(|&k| moves[k]).map(|k| slopes[k] * end(corner, k)).sum()
        };
        let offsets = values.iter().enumerate().map(|(corner, value)| value - moved(corner));
        (offsets.fold(f64::NEG_INFINITY, f64::max), slopes)
    }

    /// Below a row's residual, at an exponent of its bounded term: the convex envelope and its first two
    /// derivatives; `None` for a row without a bound.
    pub fn enveloped(&self, row: usize, x: &Vector, bends: &[Bend]) -> Option<[f64; 3]> {
        let envelope = self.parts[row].envelope.as_ref()?;
        let exponent = self.problem.form.rows[row].terms[0].exponent(x, bends);
        Some(if exponent > envelope.from {
            let Envelope { at, value, slope, .. } = *envelope;
            [value + slope * (exponent - at), slope, 0.0]
        } else {
            self.problem.bounded(row, envelope.bound, exponent)
        })
    }

    /// A row's residual, of a prediction without a plain E.
    pub fn under(&self, row: usize, prediction: f64, inner: &Vector) -> f64 {
        let plain = self.plain.map_or(0.0, |j| self.parts[row].plain * inner[j]);
        self.problem.residual(row, prediction) + plain
    }

    /// The coordinate of a plain E.
    pub fn plain(&self) -> Option<usize> {
        self.plain
    }

    /// Where the bends of the convex parts are taken: they are largest where α is.
    pub fn bends(&self, x: &Vector) -> Vec<Bend> {
        let mut at = *x;
        if self.region.high[ALPHA].is_infinite() {
            at[ALPHA] = f64::INFINITY;
        }
        self.problem.bends(&at)
    }

    /// The convex function.
    #[cfg(test)]
    pub fn value(&self, x: &Vector) -> f64 {
        let inner = self.enter(x);
        let bends = self.bends(&inner);
        let parts = (0..self.parts.len()).map(|row| self.value_of(row, &inner, &bends));
        self.constant + parts.sum::<f64>()
    }

    /// A row's part at a point.
    fn value_of(&self, row: usize, inner: &Vector, bends: &[Bend]) -> f64 {
        let mut value = 0.0;
        if let Some((offset, plane)) = &self.parts[row].over {
            let r = offset + plane.iter().zip(inner).map(|(slope, x)| slope * x).sum::<f64>();
            value += self.problem.cost(row, r.min(0.0))[0];
        }
        if let Some((rest, moving)) = self.parts[row].under {
            let r = match self.enveloped(row, inner, bends) {
                Some([r, ..]) => r,
                None => {
                    let prediction = self.problem.prediction(row, inner, bends, rest, moving);
                    self.under(row, prediction, inner)
                }
            };
            value += self.problem.cost(row, r.max(0.0))[0];
        }
        value
    }

    /// The coordinate to split: it moves most those rows for which the convex function lies far
    /// below the objective at `x`.
    pub fn split(&self, x: &Vector) -> usize {
        let problem = self.problem;
        let inner = self.enter(x);
        let (bends, below) = (problem.bends(x), self.bends(&inner));
        let bend_moves: Vec<_> =
            problem.form.bends.iter().map(|&excess| bend_moves(excess, &self.region)).collect();
        let mut score = [0.0; MAX];
        for (row, part) in self.parts.iter().enumerate() {
            let Sum { base, terms, .. } = &problem.form.rows[row];
            let prediction = problem.prediction(row, x, &bends, *base, u8::MAX);
            let cost = problem.cost(row, problem.residual(row, prediction))[0];
            // The second part decides where no row's convex function is too low.
            let gap = (cost - self.value_of(row, &inner, &below)).max(0.0) + 1e-9 * cost;
            let reach: f64 = part.reach.iter().sum();
            for (term, share) in terms.iter().zip(part.reach) {
                let mut moves = [0.0; MAX];
                for (j, moves) in moves.iter_mut().enumerate().take(problem.dims()) {
                    if term.linear[j] != 0.0 {
                        *moves = term.linear[j].abs() * self.region.width(j);
                    }
                    match term.bend {
                        Some(bend) if j == ALPHA => *moves += bend_moves[bend][0],
                        Some(bend) if j == KAPPA => *moves += bend_moves[bend][1],
                        _ => {}
                    }
                    // Infinite ones share evenly.
                    *moves = moves.min(1e3);
                }
                let all: f64 = moves.iter().sum();
                if all > 0.0 && reach > 0.0 {
                    let scale = gap * share / reach / all;
                    score.iter_mut().zip(moves).for_each(|(score, moves)| *score += scale * moves);
                }
            }
        }
        (1..problem.dims()).fold(0, |best, j| if score[j] > score[best] { j } else { best })
    }
}

/// The convex envelope of the residual of a bounded prediction: the residual up to an exponent, and from
/// there a line.
struct Envelope {
    bound: Bound,
    from: f64,
    /// A place on the line, and its value there.
    at: f64,
    value: f64,
    slope: f64,
}

/// A plane in α and κ.
struct Plane {
    value: f64,
    by_alpha: f64,
    by_kappa: f64,
}

/// A plane below a bend on a box. The bend is concave, so its corners decide; where α has no upper
/// end, the bend is smallest at its lower end.
fn plane_below(excess: f64, region: &Region) -> Plane {
    let alpha = if region.is_infinite(ALPHA) {
        [region.low[ALPHA]; 2]
    } else {
        [region.low[ALPHA], region.high[ALPHA]]
    };
    let kappa = if region.is_infinite(KAPPA) {
        [region.low[KAPPA]; 2]
    } else {
        [region.low[KAPPA], region.high[KAPPA]]
    };
    let values = alpha.map(|alpha| kappa.map(|kappa| Bend::at(excess, alpha, kappa).value));
    let [[ll, lh], [hl, hh]] = values;
    // The mean of the opposite sides' slopes.
    let slope = |rise: f64, [low, high]: [f64; 2]| {
        if high > low { 0.5 * rise / (high - low) } else { 0.0 }
    };
    let by_alpha = slope(hl - ll + hh - lh, alpha);
    let by_kappa = slope(lh - ll + hh - hl, kappa);
    let mut value = f64::INFINITY;
    for (values, alpha) in values.iter().zip(alpha) {
        for (corner, kappa) in values.iter().zip(kappa) {
            value = value.min(corner - by_alpha * alpha - by_kappa * kappa);
        }
    }
    Plane { value, by_alpha, by_kappa }
}

/// By how much α and κ move a bend in a box.
fn bend_moves(excess: f64, Region { low, high }: &Region) -> [f64; 2] {
    let at = |alpha, kappa| Bend::at(excess, alpha, kappa).value;
    let most = at(high[ALPHA], high[KAPPA]);
    if most.is_infinite() {
        return [f64::INFINITY; 2];
    }
    [most - at(low[ALPHA], high[KAPPA]), most - at(high[ALPHA], low[KAPPA])]
}
