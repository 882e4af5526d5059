//! The laws in coordinates in which their predictions are convex.

use crate::laws::{Injected, Law, Point, Structure};

/// The most coordinates of a law.
pub(super) const MAX: usize = 5;

/// A point; the entries from the number of coordinates on are 0.
pub(super) type Vector = [f64; MAX];

/// Where α stands.
pub(super) const ALPHA: usize = 1;

/// Where κ stands, in the laws that know injection.
pub(super) const KAPPA: usize = 3;

/// What values a coordinate takes; the infinite end belongs to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The logarithm of a term where it is largest, or of E: any number.
    Level,
    /// How fast a term falls away from there: at least 0.
    Decay,
}

/// A term of a prediction: exp(`linear` · x − g(α, κ)), with g as [`Bend`] says.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub linear: Vector,
    /// Which of the [`Form::bends`] g has; without one, g is 0.
    pub bend: Option<usize>,
}

impl Term {
    /// The exponent, with what the bends are at `x`; −∞ where an infinite decay has an effect.
    pub fn exponent(&self, x: &Vector, bends: &[Bend]) -> f64 {
        // 0 · ∞ is no effect.
        let moved = self.linear.iter().zip(x).filter(|(slope, _)| **slope != 0.0);
        let linear: f64 = moved.map(|(slope, value)| slope * value).sum();
        self.bend.map_or(linear, |bend| linear - bends[bend].value)
    }

    /// Whether a coordinate has an effect.
    pub fn depends_on(&self, j: usize) -> bool {
        self.linear[j] != 0.0 || (self.bend.is_some() && (j == ALPHA || j == KAPPA))
    }
}

/// A row of the table: the prediction is `base` plus the terms, or, if there is a bound, that of their sum.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pub base: f64,
    pub terms: Vec<Term>,
    pub bound: Option<Bound>,
}

/// A bound on what a term h adds to a loss: the prediction is `base + room·h / (1 + h)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub base: f64,
    pub room: f64,
}

impl Bound {
    /// The prediction for a term.
    pub fn of(&self, h: f64) -> f64 {
        self.base + self.room / (1.0 + 1.0 / h)
    }

    /// ln of the term with this prediction: −∞ where it is not above the base, and ∞ where it is not below
    /// the bound.
    pub fn exponent(&self, prediction: f64) -> f64 {
        let (added, left) = (prediction - self.base, self.base + self.room - prediction);
        if left <= 0.0 {
            f64::INFINITY
        } else if added <= 0.0 {
            f64::NEG_INFINITY
        } else {
            (added / left).ln()
        }
    }
}

/// A law on the rows of a table.
///
/// The coordinates of a product are ln of the product where it is largest, α, β, κ = α·ln(1 +
/// B·q_min) if it depends on injection, and ln E if it has an E. The product is largest for the
/// smallest N and q of the table and the largest D_ft (the smallest if the product falls with
/// D_ft), whether or not a row has them all. The coordinates of the additive law are ln of its
/// first term at the smallest N, α, ln of its second term at the smallest D, β and ln E.
pub(super) struct Form {
    structure: Structure,
    pub kinds: Vec<Kind>,
    pub rows: Vec<Sum>,
    /// q / q_min − 1, for each q of the table above the smallest that is not 0, q_min.
    pub bends: Vec<f64>,
    /// ln N and ln D_ft (or ln D) where the terms are largest.
    corner: [f64; 2],
    q_min: f64,
    with_zero: bool,
}

impl Form {
    /// None for a law without a [`Structure`]. What a law needs and a point lacks makes its slopes or
    /// base NaN.
    pub fn of(law: &dyn Law, points: &[Point]) -> Option<Self> {
        use Kind::{Decay, Level};
        let structure = law.structure()?;
        let kinds = match structure {
            Structure::Additive => vec![Level, Decay, Level, Decay, Level],
            Structure::Forgetting { .. }
            | Structure::Bounded { .. }
            | Structure::Finetuning { .. } => {
                let kappa = injected(structure).map(|_| Decay);
                let offset = has_offset(structure).then_some(Level);
                [Level, Decay, Decay].into_iter().chain(kappa).chain(offset).collect()
            }
        };
        let smallest =
            |of: &dyn Fn(&Point) -> f64| points.iter().map(of).fold(f64::INFINITY, f64::min);
        let sign = data_sign(structure);
        let mut form = Self {
            corner: [
                smallest(&|point| point.ln_n),
                sign * smallest(&|point| sign * ln_data(structure, point)),
            ],
            q_min: smallest(&|point| match q(structure, point) {
                q if q > 0.0 => q,
                _ => f64::INFINITY,
            }),
            with_zero: points.iter().any(|point| q(structure, point) == 0.0),
            structure,
            kinds,
            rows: vec![],
            bends: vec![],
        };
        form.rows = points.iter().map(|point| form.row(point)).collect();
        Some(form)
    }

    fn row(&mut self, point: &Point) -> Sum {
        let term = |entries: &[(usize, f64)], bend| {
            let mut linear = [0.0; MAX];
            entries.iter().for_each(|&(j, slope)| linear[j] = slope);
            Term { linear, bend }
        };
        let size = point.ln_n - self.corner[0];
        let data = data_sign(self.structure) * (ln_data(self.structure, point) - self.corner[1]);
        let offset_term = term(&[(self.kinds.len() - 1, 1.0)], None);
        match self.structure {
            Structure::Additive => {
                let first = term(&[(0, 1.0), (1, -size)], None);
                let second = term(&[(2, 1.0), (3, -data)], None);
                Sum { base: 0.0, terms: vec![first, second, offset_term], bound: None }
            }
            Structure::Forgetting { .. }
            | Structure::Bounded { .. }
            | Structure::Finetuning { .. } => {
                let mut entries = vec![(0, 1.0), (1, -size), (2, -data)];
                let mut bend = None;
                let q = q(self.structure, point);
                if !(q.is_finite() && q >= 0.0) {
                    entries.push((KAPPA, f64::NAN));
                }
                if q > 0.0 {
                    // Without rows of p = 0 the product is largest at q_min.
                    entries.extend(self.with_zero.then_some((KAPPA, -1.0)));
                    bend = self.bend(q / self.q_min - 1.0);
                }
                let mut terms = vec![term(&entries, bend)];
                terms.extend(has_offset(self.structure).then_some(offset_term));
                let loss_pt0 = point.loss_pt0;
                let (base, bound) = match self.structure {
                    Structure::Forgetting { .. } => (loss_pt0, None),
                    Structure::Bounded { vocab_size } => {
                        // A model worse than the uniform one forgets nothing.
                        let room = (f64::from(vocab_size).ln() - loss_pt0).max(0.0);
                        (0.0, Some(Bound { base: loss_pt0, room }))
                    }
                    Structure::Finetuning { .. } | Structure::Additive => (0.0, None),
                };
                Sum { base, terms, bound }
            }
        }
    }

    fn bend(&mut self, excess: f64) -> Option<usize> {
        if excess == 0.0 {
            return None;
        }
        let known = self.bends.iter().position(|&bend| bend == excess);
        Some(known.unwrap_or_else(|| {
            self.bends.push(excess);
            self.bends.len() - 1
        }))
    }

    /// The law's values at a point, in the order of its parameters. Some are not finite at those
    /// limits that are no values of the law, or beyond the largest number.
    pub fn values(&self, x: &Vector) -> Vec<f64> {
        let last = x[self.kinds.len() - 1];
        match self.structure {
            Structure::Additive => {
                let a = (x[0] + x[1] * self.corner[0]).exp();
                let b = (x[2] + x[3] * self.corner[1]).exp();
                vec![a, b, x[1], x[3], last.exp()]
            }
            Structure::Forgetting { .. }
            | Structure::Bounded { .. }
            | Structure::Finetuning { .. } => {
                let injects = injected(self.structure).is_some();
                let sign = data_sign(self.structure);
                let mut ln_a = x[0] + x[1] * self.corner[0] + sign * x[2] * self.corner[1];
                if injects && !self.with_zero {
                    ln_a += x[KAPPA];
                }
                let mut values = vec![ln_a.exp()];
                if injects {
                    let none = x[KAPPA] == 0.0 || self.q_min.is_infinite();
                    values.push(if none { 0.0 } else { (x[KAPPA] / x[1]).exp_m1() / self.q_min });
                }
                values.extend([x[1], x[2]]);
                values.extend(has_offset(self.structure).then(|| last.exp()));
                values
            }
        }
    }
}

/// −1 for a product that grows with the data, 1 for terms that fall.
fn data_sign(structure: Structure) -> f64 {
    if matches!(structure, Structure::Forgetting { .. } | Structure::Bounded { .. }) {
        -1.0
    } else {
        1.0
    }
}

/// What B multiplies, in a law that knows injection.
fn injected(structure: Structure) -> Option<Injected> {
    match structure {
        Structure::Forgetting { injected, .. } => Some(injected),
        Structure::Bounded { .. } => Some(Injected::TokensPerParameter),
        Structure::Finetuning { injected } => injected,
        Structure::Additive => None,
    }
}

/// Whether the law has an E.
fn has_offset(structure: Structure) -> bool {
    !matches!(structure, Structure::Forgetting { offset: false, .. } | Structure::Bounded { .. })
}

/// q, which is 0 for a law that knows no injection.
fn q(structure: Structure, point: &Point) -> f64 {
    injected(structure).map_or(0.0, |injected| injected.of(point))
}

fn ln_data(structure: Structure, point: &Point) -> f64 {
    match structure {
        Structure::Forgetting { .. } | Structure::Bounded { .. } | Structure::Finetuning { .. } => {
            point.ln_d_ft
        }
        Structure::Additive => point.ln_d,
    }
}

/// g(α, κ) = α·ln(1 + c·(1 − e^−σ)) with σ = κ/α, and its derivatives: by how much more than at
/// q_min the exponent falls at q = (1 + c)·q_min.
///
/// It is α·f(κ/α) for a concave f, and so concave; it is 0 where κ or α is, rises with both, and
/// tends to c·κ as α grows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bend {
    pub value: f64,
    pub by_alpha: f64,
    pub by_kappa: f64,
    /// The second derivatives are −`curve` · (−σ, 1)ᵀ(−σ, 1).
    pub curve: f64,
    pub sigma: f64,
}

impl Bend {
    pub fn at(excess: f64, alpha: f64, kappa: f64) -> Self {
        if kappa == 0.0 || alpha == f64::INFINITY {
            return Self { value: excess * kappa, by_kappa: excess, ..Self::default() };
        }
        if alpha == 0.0 || kappa == f64::INFINITY {
            let by_alpha = excess.ln_1p();
            return Self { value: alpha * by_alpha, by_alpha, ..Self::default() };
        }
        let sigma = kappa / alpha;
        let value = (-excess * (-sigma).exp_m1()).ln_1p();
        let by_kappa = excess * (-sigma - value).exp();
        Self {
            value: alpha * value,
            // Rounding must not make it negative.
            by_alpha: (value - sigma * by_kappa).max(0.0),
            by_kappa,
            curve: by_kappa * (1.0 + by_kappa) / alpha,
            sigma,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{ForgettingBounded, LAWS, Row};
    use approx::assert_relative_eq;

    /// Three sizes, two data sizes and the given fractions.
    fn points(fractions: &[f64]) -> Vec<Point> {
        let mut points = vec![];
        for n_params in [1e7, 4e7, 1e9] {
            for d in [1e5, 3e6] {
                for &p in fractions {
                    let d_tokens = 100.0 * d;
                    let row = Row { n_params, d_ft_tokens: d, p, loss_pt0: 3.0, d_tokens };
                    points.push((&row).into());
                }
            }
        }
        points
    }

    #[test]
    fn predictions_are_those_of_the_laws() {
        for fractions in [[0.0, 0.01, 0.05], [0.001, 0.01, 1.0]] {
            let points = points(&fractions);
            let bounded: &dyn Law = ForgettingBounded::of(64);
            let laws = LAWS.iter().copied().chain([bounded]);
            for law in laws.filter(|law| law.structure().is_some()) {
                let form = Form::of(law, &points).unwrap();
                let x = [0.3, 0.4, 0.2, 0.5, -0.2];
                let bends: Vec<_> =
                    form.bends.iter().map(|&c| Bend::at(c, x[ALPHA], x[KAPPA])).collect();
                let values = form.values(&x);
                assert!(law.check(&values).is_ok(), "{}", law.name());
                for (point, row) in points.iter().zip(&form.rows) {
                    let terms = row.terms.iter().map(|term| term.exponent(&x, &bends).exp());
                    let sum = row.base + terms.sum::<f64>();
                    assert_relative_eq!(
                        row.bound.map_or(sum, |bound| bound.of(sum)),
                        law.predict(point, &values),
                        max_relative = 1e-12
                    );
                }
            }
        }
    }

    #[test]
    fn terms_fall_away_from_a_corner_of_the_table() {
        for law in LAWS.iter().filter(|law| law.structure().is_some()) {
            let points = points(&[0.0, 0.01, 0.05]);
            let form = Form::of(*law, &points).unwrap();
            for (j, kind) in form.kinds.iter().enumerate() {
                let slopes =
                    || form.rows.iter().flat_map(|row| &row.terms).map(|term| term.linear[j]);
                match kind {
                    Kind::Level => assert!(slopes().all(|slope| slope == 0.0 || slope == 1.0)),
                    Kind::Decay => assert!(slopes().all(|slope| slope <= 0.0)),
                }
                assert!(slopes().any(|slope| slope != 0.0));
            }
        }
    }

    /// Against central differences, whose error at this step is about 10⁻¹⁰.
    #[test]
    fn bends_have_their_derivatives() {
        let h = 1e-5;
        for (excess, alpha, kappa) in [(4.0, 0.5, 0.3), (49.0, 0.1, 2.0), (0.5, 3.0, 0.01)] {
            let at = Bend::at(excess, alpha, kappa);
            let (up, down) =
                (Bend::at(excess, alpha + h, kappa), Bend::at(excess, alpha - h, kappa));
            assert_relative_eq!(at.by_alpha, (up.value - down.value) / (2.0 * h), epsilon = 1e-8);
            let second = (up.by_alpha - down.by_alpha) / (2.0 * h);
            assert_relative_eq!(-at.curve * at.sigma * at.sigma, second, epsilon = 1e-6);
            let (up, down) =
                (Bend::at(excess, alpha, kappa + h), Bend::at(excess, alpha, kappa - h));
            assert_relative_eq!(at.by_kappa, (up.value - down.value) / (2.0 * h), epsilon = 1e-8);
            let second = (up.by_alpha - down.by_alpha) / (2.0 * h);
            assert_relative_eq!(at.curve * at.sigma, second, epsilon = 1e-6);
        }
    }

    #[test]
    fn bends_have_their_limits() {
        let close = |near: f64, limit: f64| assert_relative_eq!(near, limit, max_relative = 1e-6);
        for excess in [0.5, 49.0] {
            close(Bend::at(excess, 1e18, 0.7).value, Bend::at(excess, f64::INFINITY, 0.7).value);
            close(Bend::at(excess, 0.3, 1e-9).value, Bend::at(excess, 0.3, 0.0).by_kappa * 1e-9);
            close(Bend::at(excess, 0.3, 1e9).value, Bend::at(excess, 0.3, f64::INFINITY).value);
            assert!(Bend::at(excess, 1e-12, 0.7).value < 1e-11);
            assert_eq!(Bend::at(excess, 0.0, 0.7).value, 0.0);
            assert_eq!(Bend::at(excess, 0.0, f64::INFINITY).value, 0.0);
            assert_eq!(Bend::at(excess, f64::INFINITY, 0.0).value, 0.0);
            assert_eq!(Bend::at(excess, f64::INFINITY, f64::INFINITY).value, f64::INFINITY);
        }
    }
}
