//! The scaling laws: what the losses at the bottom of the U-curve depend on.
//!
//! A law is an equation with named parameters; it computes a prediction and its gradient. Fitting
//! uses laws only through [`Law`]. A new law is one file and one line in [`LAWS`].
//!
//! Losses are in nats per token, N in parameters, D_ft and D in tokens. The exponents have no unit;
//! the coefficients have the units that make up the difference ([`Law::in_units`]).

mod additive;
mod finetuning;
mod finetuning_p;
mod forgetting;
mod forgetting_bounded;
mod forgetting_ceiling;
mod forgetting_offset;
mod forgetting_plus_tokens;
mod forgetting_times_tokens;
#[cfg(feature = "fit")]
pub(crate) mod growing_b;
mod held;

pub use additive::Additive;
pub use finetuning::Finetuning;
pub use finetuning_p::FinetuningP;
pub use forgetting::Forgetting;
pub use forgetting_bounded::ForgettingBounded;
pub use forgetting_ceiling::ForgettingCeiling;
pub use forgetting_offset::ForgettingOffset;
pub use forgetting_plus_tokens::ForgettingPlusTokens;
pub use forgetting_times_tokens::ForgettingTimesTokens;
pub use held::Held;

use crate::table::Column;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Every law except [`ForgettingBounded`], of which there is one per vocabulary size.
pub const LAWS: &[&dyn Law] = &[
    &Forgetting,
    &Finetuning,
    &Additive,
    &ForgettingOffset,
    &FinetuningP,
    &ForgettingTimesTokens,
    &ForgettingPlusTokens,
    &ForgettingCeiling,
];

/// The inputs of a law, for one run. A law reads the fields in its equation; unknown values are
/// NaN, as in [`Row::default`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The model size N in parameters; [`crate::ParamCount::paper`] is the paper's count.
    #[serde(default = "unknown", deserialize_with = "unknown_for_null")]
    pub n_params: f64,
    /// The unique tokens of the target, D_ft.
    #[serde(default = "unknown", deserialize_with = "unknown_for_null")]
    pub d_ft_tokens: f64,
    /// The fraction p of injected pretraining data, in [0, 1].
    #[serde(default = "unknown", deserialize_with = "unknown_for_null")]
    pub p: f64,
    /// The pretraining validation loss before finetuning, L_pt⁰, in nats per token.
    #[serde(default = "unknown", deserialize_with = "unknown_for_null")]
    pub loss_pt0: f64,
    /// The tokens of pretraining, D.
    #[serde(default = "unknown", deserialize_with = "unknown_for_null")]
    pub d_tokens: f64,
}

fn unknown() -> f64 {
    f64::NAN
}

/// JSON has no NaN and writes null.
fn unknown_for_null<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(d)?.unwrap_or(f64::NAN))
}

impl Default for Row {
    fn default() -> Self {
        let unknown = unknown();
        Self {
            n_params: unknown,
            d_ft_tokens: unknown,
            p: unknown,
            loss_pt0: unknown,
            d_tokens: unknown,
        }
    }
}

impl Row {
    /// The value of an input; NaN if it is not known, or for the losses that laws predict.
    pub fn get(&self, column: Column) -> f64 {
        match column {
            Column::NParams => self.n_params,
            Column::DFtTokens => self.d_ft_tokens,
            Column::DTokens => self.d_tokens,
            Column::P => self.p,
            Column::LossPt0 => self.loss_pt0,
            Column::LossPt | Column::LossFt | Column::Loss => f64::NAN,
        }
    }
}

/// What B multiplies in a law with injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// The fraction p.
    Fraction,
    /// The tokens injected per pass over the target, p·D_ft.
    TokensPerPass,
    /// Those per parameter of the model, p·D_ft/N.
    TokensPerParameter,
}

impl Injected {
    /// Its value for a run.
    pub fn of(self, point: &Point) -> f64 {
        match self {
            Self::Fraction => point.p,
            Self::TokensPerPass => point.tokens_per_pass(),
            Self::TokensPerParameter => point.tokens_per_parameter(),
        }
    }
}

/// The structure of a law's equation. A proof that a fit is optimal needs it, to find coordinates in
/// which the prediction is convex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// L_pt⁰ + A·D_ft^β / ((1 + B·q)·N)^α + E, with the parameters A, B, α, β and E.
    Forgetting {
        /// Which quantity of injected data q is.
        injected: Injected,
        /// Whether there is an E.
        offset: bool,
    },
    /// L_pt⁰ + (ln V − L_pt⁰)·h / (1 + h) with h = A·D_ft^β / ((1 + B·q)·N)^α, where q is the injected
    /// tokens per parameter, and the parameters A, B, α and β.
    Bounded {
        /// V, the size of the vocabulary.
        vocab_size: u32,
    },
    /// A / (((1 + B·q)·N)^α · D_ft^β) + E, with the parameters A, B, α, β and E.
    Finetuning {
        /// Which quantity of injected data q is; with `None` it is 0, and there is no B.
        injected: Option<Injected>,
    },
    /// A / N^α + B / D^β + E, with the parameters A, B, α, β and E.
    Additive,
}

/// A [`Row`] with the logarithms of sizes, which laws compute with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// ln N.
    pub ln_n: f64,
    /// ln D_ft.
    pub ln_d_ft: f64,
    /// p.
    pub p: f64,
    /// L_pt⁰ in nats per token.
    pub loss_pt0: f64,
    /// ln D.
    pub ln_d: f64,
}

impl Point {
    /// p · D_ft: the tokens injected per pass over the target.
    pub(crate) fn tokens_per_pass(&self) -> f64 {
        self.p * self.ln_d_ft.exp()
    }

    /// p · D_ft / N.
    pub(crate) fn tokens_per_parameter(&self) -> f64 {
        self.p * (self.ln_d_ft - self.ln_n).exp()
    }
}

impl From<&Row> for Point {
    fn from(row: &Row) -> Self {
        Self {
            ln_n: row.n_params.ln(),
            ln_d_ft: row.d_ft_tokens.ln(),
            p: row.p,
            loss_pt0: row.loss_pt0,
            ln_d: row.d_tokens.ln(),
        }
    }
}

/// Units of measurement: how many parameters or tokens, or what fraction, count as 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Units {
    /// ln of the unit of N, in parameters.
    pub ln_n: f64,
    /// ln of the unit of D_ft, in tokens.
    pub ln_d_ft: f64,
    /// ln of the unit of p.
    pub ln_p: f64,
    /// ln of the unit of D, in tokens.
    pub ln_d: f64,
}

impl Units {
    /// One parameter, one token, and plain fractions.
    pub const PLAIN: Self = Self { ln_n: 0.0, ln_d_ft: 0.0, ln_p: 0.0, ln_d: 0.0 };

    /// The inverse: measuring in these units and then in the inverse gives the plain units again.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { ln_n: -self.ln_n, ln_d_ft: -self.ln_d_ft, ln_p: -self.ln_p, ln_d: -self.ln_d }
    }

    /// Converts a point to these units.
    #[must_use]
    pub fn measure(&self, point: &Point) -> Point {
        Point {
            ln_n: point.ln_n - self.ln_n,
            ln_d_ft: point.ln_d_ft - self.ln_d_ft,
            p: point.p * (-self.ln_p).exp(),
            loss_pt0: point.loss_pt0,
            ln_d: point.ln_d - self.ln_d,
        }
    }
}

/// How a parameter enters a law. Every parameter is at least 0 and has no upper limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The prediction is affine in it for fixed other parameters: A, E.
    Coefficient,
    /// The exponent of a size: α, β.
    Exponent,
    /// It multiplies p, the injected tokens or the whole of a bounded term, and can have any order
    /// of magnitude: B of the forgetting law.
    Strength,
}

/// A parameter of a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// The paper's symbol, in letters.
    pub name: &'static str,
    /// How it enters the law.
    pub role: Role,
}

const fn coefficient(name: &'static str) -> Parameter {
    Parameter { name, role: Role::Coefficient }
}

const fn exponent(name: &'static str) -> Parameter {
    Parameter { name, role: Role::Exponent }
}

const fn strength(name: &'static str) -> Parameter {
    Parameter { name, role: Role::Strength }
}

/// A column that a law reads, and the minimum number of distinct values for a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The column.
    pub column: Column,
    /// With fewer distinct values than this, some parameter is not determined.
    pub distinct: usize,
}

const fn input(column: Column, distinct: usize) -> Input {
    Input { column, distinct }
}

/// A quantity with a meaning of its own that a law's parameters determine.
#[derive(Debug, Clone, Copy)]
pub struct Derived {
    /// How it is computed, as text.
    pub name: &'static str,
    /// What the parameter measures, with its unit.
    pub meaning: &'static str,
    /// Its value for the parameters, in the law's order.
    pub value: fn(&[f64]) -> f64,
}

/// The form of a scaling law.
pub trait Law: Send + Sync {
    /// The name, as for `--law`.
    fn name(&self) -> &'static str;

    /// The equation and its source.
    fn equation(&self) -> &'static str;

    /// The parameters, in the order of their values.
    fn parameters(&self) -> &'static [Parameter];

    /// The columns that it reads.
    fn inputs(&self) -> &'static [Input];

    /// Whether it reads a column.
    fn reads(&self, column: Column) -> bool {
        self.inputs().iter().any(|input| input.column == column)
    }

    /// The loss that it predicts.
    fn output(&self) -> Column;

    /// The positions of a coefficient and a strength that may grow without limit together, while the losses
    /// depend on their ratio.
    fn ratio(&self) -> Option<(usize, usize)> {
        None
    }

    /// The loss in nats per token that the law predicts for a point with N, D_ft and D above 0. NaN
    /// if the number of values is wrong; [`Law::check`] gives the error.
    fn predict(&self, point: &Point, values: &[f64]) -> f64;

    /// The prediction, and its derivatives with respect to the parameters, written to `out` in
    /// their order. NaN if the number of values is wrong.
    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64;

    /// The parameter values of the same law for sizes measured in other units:
    /// `predict(units.measure(point), in_units(values, units))` is `predict(point, values)`.
    ///
    /// The number of values must be that of the parameters.
    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64>;

    /// The structure of the equation, if it is one of [`Structure`]. Without it a law can be fitted and
    /// compared like any other, but no fit of it can be proved to be optimal.
    fn structure(&self) -> Option<Structure> {
        None
    }

    /// The loss without any effect of the law: L_pt⁰ for laws of forgetting, `None` for others.
    fn baseline(&self, point: &Point) -> Option<f64> {
        let _ = point;
        None
    }

    /// Whether the loss approaches a bound as D_ft grows.
    fn is_bounded(&self) -> bool {
        false
    }

    /// A quantity that the parameters determine and that says more than they do, if there is one.
    fn derived(&self) -> Option<Derived> {
        None
    }

    /// Why the law has no meaning for a run, as text to follow its place; `None` if it has one.
    fn fault(&self, row: &Row) -> Option<String> {
        let _ = row;
        None
    }

    /// Refuses values for which the law has no meaning.
    ///
    /// # Errors
    /// If there are too few or too many, or one is not a number of at least 0.
    fn check(&self, values: &[f64]) -> Result<()> {
        let parameters = self.parameters();
        if values.len() != parameters.len() {
            let names: Vec<_> = parameters.iter().map(|parameter| parameter.name).collect();
            let requirement = format!("must be {}: {}", names.len(), names.join(", "));
            let name = format!("number of the {} law's parameters", self.name());
            return Err(Error::setting(name, values.len(), requirement));
        }
        let good = |value: f64| value.is_finite() && value >= 0.0;
        match parameters.iter().zip(values).find(|(_, value)| !good(**value)) {
            None => Ok(()),
            Some((parameter, value)) => {
                let name = format!("{} of the {} law", parameter.name, self.name());
                Err(Error::setting(name, value, "must be a number of at least 0"))
            }
        }
    }
}

impl std::fmt::Debug for dyn Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The law with a name.
///
/// # Errors
/// If there is none; the message lists the names.
///
/// ```
/// use forgetting_laws::laws;
/// assert_eq!(laws::by_name("forgetting")?.parameters().len(), 4);
/// assert!(laws::by_name("gravity").is_err());
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn by_name(name: &str) -> Result<&'static dyn Law> {
    let bounded = || ForgettingBounded::by_name(name).map(|law| law as &'static dyn Law);
    LAWS.iter().copied().find(|law| law.name() == name).or_else(bounded).ok_or_else(|| {
        let names: Vec<_> = LAWS.iter().map(|law| law.name()).collect();
        let requirement = format!(
            "must be one of {}, forgetting-bounded-V with the size V of the vocabulary",
            names.join(", ")
        );
        Error::setting("law", name, requirement)
    })
}

/// Every form for a loss: those of [`LAWS`] and, if the size of the vocabulary is known, the one that
/// the loss of a uniform model bounds.
pub fn forms(loss: Column, vocab_size: Option<u32>) -> Vec<&'static dyn Law> {
    let bounded = vocab_size.map(|v| ForgettingBounded::of(v) as &'static dyn Law);
    LAWS.iter().copied().chain(bounded).filter(|law| law.output() == loss).collect()
}

/// A derivative by h for parameters on which h depends, from those of h. Where all is lost, nothing
/// moves it, whatever h is.
fn through<const K: usize>(slope: f64, by: [f64; K]) -> [f64; K] {
    by.map(|by| if slope == 0.0 { 0.0 } else { slope * by })
}

/// Writes a gradient and returns the prediction, or NaN where there is none or no room for it.
fn write<const K: usize>(found: Option<(f64, [f64; K])>, out: &mut [f64]) -> f64 {
    match found {
        Some((prediction, gradient)) if out.len() == K => {
            out.copy_from_slice(&gradient);
            prediction
        }
        _ => {
            out.fill(f64::NAN);
            f64::NAN
        }
    }
}

/// The values as an array, where there are as many as there should be.
fn values_of<const K: usize>(values: &[f64]) -> Option<[f64; K]> {
    values.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    pub(super) const ROW: Row =
        Row { n_params: 1e3, d_ft_tokens: 64.0, p: 0.01, loss_pt0: 3.0, d_tokens: 1e5 };

    /// Every law, that of a vocabulary of 512 tokens among them.
    fn laws() -> impl Iterator<Item = &'static dyn Law> {
        let bounded: &'static dyn Law = ForgettingBounded::of(512);
        LAWS.iter().copied().chain([bounded])
    }

    /// Values inside the domain, unlike each other.
    fn values(law: &dyn Law) -> Vec<f64> {
        [0.7, 1.3, 0.45, 0.6, 0.8][..law.parameters().len()].to_vec()
    }

    /// Central differences with step h err by h²/6 of the third derivative and 10⁻¹⁶/h of
    /// rounding: at h = 10⁻⁵ far below 10⁻⁷ of values around 1.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        for law in laws() {
            for p in [0.0, 0.01, 1.0] {
                let point = Point::from(&Row { p, ..ROW });
                let at = values(law);
                let mut gradient = vec![0.0; at.len()];
                let prediction = law.gradient(&point, &at, &mut gradient);
                assert_eq!(prediction, law.predict(&point, &at));
                for (i, &analytic) in gradient.iter().enumerate() {
                    let shifted = |h: f64| {
                        let mut values = at.clone();
                        values[i] += h;
                        law.predict(&point, &values)
                    };
                    let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                    assert_relative_eq!(analytic, numeric, max_relative = 1e-7, epsilon = 1e-9);
                }
            }
        }
    }

    /// Variable projection rests on it: the derivative with respect to a coefficient does not
    /// depend on any coefficient.
    #[test]
    fn predictions_are_affine_in_their_coefficients() {
        for law in laws() {
            let derivatives = |coefficients: f64| {
                let mut at = values(law);
                for (value, parameter) in at.iter_mut().zip(law.parameters()) {
                    if parameter.role == Role::Coefficient {
                        *value = coefficients;
                    }
                }
                let mut gradient = vec![0.0; at.len()];
                law.gradient(&Point::from(&ROW), &at, &mut gradient);
                let of = |(parameter, d): (&Parameter, f64)| {
                    (parameter.role == Role::Coefficient).then_some(d)
                };
                law.parameters().iter().zip(gradient).filter_map(of).collect::<Vec<_>>()
            };
            assert_eq!(derivatives(0.0), derivatives(123.0), "{}", law.name());
            assert!(derivatives(0.0).len() < law.parameters().len(), "{}", law.name());
        }
    }

    #[test]
    fn units_change_values_and_no_prediction() {
        let units = Units { ln_n: 3.0, ln_d_ft: -2.0, ln_p: -4.0, ln_d: 5.0 };
        for law in laws() {
            let point = Point::from(&ROW);
            let at = values(law);
            let scaled = law.in_units(&at, &units);
            assert_relative_eq!(
                law.predict(&units.measure(&point), &scaled),
                law.predict(&point, &at),
                max_relative = 1e-13
            );
            for ((value, back), parameter) in
                at.iter().zip(law.in_units(&scaled, &units.inverse())).zip(law.parameters())
            {
                assert_relative_eq!(*value, back, max_relative = 1e-13);
                let is_loss = parameter.name == "E";
                let moved = parameter.role != Role::Exponent && !is_loss;
                let index = law.parameters().iter().position(|p| p == parameter).unwrap();
                assert_eq!(scaled[index] != *value, moved, "{} {}", law.name(), parameter.name);
            }
        }
    }

    /// An input that is not declared does not matter, and one that is does.
    #[test]
    fn laws_read_the_columns_that_they_name() {
        let columns = [
            (Column::NParams, Row { n_params: f64::NAN, ..ROW }),
            (Column::DFtTokens, Row { d_ft_tokens: f64::NAN, ..ROW }),
            (Column::P, Row { p: f64::NAN, ..ROW }),
            (Column::LossPt0, Row { loss_pt0: f64::NAN, ..ROW }),
            (Column::DTokens, Row { d_tokens: f64::NAN, ..ROW }),
        ];
        for law in laws() {
            for (column, without) in &columns {
                let needed = law.reads(*column);
                let prediction = law.predict(&without.into(), &values(law));
                assert_eq!(prediction.is_nan(), needed, "{} {column:?}", law.name());
            }
            let forgets = law.reads(Column::LossPt0);
            assert_eq!(law.baseline(&Point::from(&ROW)), forgets.then_some(3.0));
            assert_eq!(law.output() == Column::LossPt, forgets);
        }
    }

    #[test]
    fn names_and_parameters_are_distinct() {
        for (i, law) in laws().enumerate() {
            assert!(laws().take(i).all(|other| other.name() != law.name()));
            assert_eq!(by_name(law.name()).unwrap().equation(), law.equation());
            for parameter in law.parameters() {
                assert!(law.equation().contains(parameter.name), "{}", parameter.name);
            }
        }
        let names = "must be one of forgetting, finetuning, additive, forgetting-offset, \
                     finetuning-p, forgetting-times-tokens, forgetting-plus-tokens, \
                     forgetting-ceiling, forgetting-bounded-V with the size V of the vocabulary";
        assert!(
            matches!(by_name("x"), Err(Error::Setting { requirement, .. }) if requirement == names)
        );
    }

    #[test]
    fn wrong_values_are_refused_in_words_and_never_panic() {
        let point = Point::from(&ROW);
        for law in laws() {
            let good = values(law);
            assert!(law.check(&good).is_ok());
            assert!(law.check(&vec![0.0; good.len()]).is_ok());
            for bad in [&good[1..], &[], &[1.0; 9]] {
                assert!(law.predict(&point, bad).is_nan());
                let mut gradient = vec![0.0; good.len()];
                assert!(law.gradient(&point, bad, &mut gradient).is_nan());
                assert!(gradient.iter().all(|g| g.is_nan()));
                assert!(law.check(bad).is_err());
            }
            let mut short = [0.0];
            assert!(law.gradient(&point, &good, &mut short).is_nan());
            assert!(short[0].is_nan());
        }
        let message = |values: &[f64]| Forgetting.check(values).unwrap_err().to_string();
        assert_eq!(
            message(&[1.0]),
            "number of the forgetting law's parameters = 1: must be 4: A, B, alpha, beta"
        );
        for bad in ["-0.5", "NaN", "inf"] {
            assert_eq!(
                message(&[1.0, bad.parse().unwrap(), 1.0, 1.0]),
                format!("B of the forgetting law = {bad}: must be a number of at least 0")
            );
        }
    }
}
