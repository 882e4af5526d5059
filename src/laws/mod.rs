//! The scaling laws: what the losses at the bottom of the U-curve depend on.
//!
//! A law is a form with named parameters, its value and its gradient; fitting knows laws only
//! through [`Law`]. A new law is one file and one line in [`LAWS`].

mod additive;
mod finetuning;
mod forgetting;

pub use additive::Additive;
pub use finetuning::Finetuning;
pub use forgetting::Forgetting;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Every law.
pub const LAWS: &[&dyn Law] = &[&Forgetting, &Finetuning, &Additive];

/// What a law may look at, for one run. A law reads the fields that its equation has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The model size N in parameters; [`crate::ParamCount::paper`] is the paper's count.
    pub n_params: f64,
    /// The unique tokens of the target, D_ft.
    pub d_ft_tokens: f64,
    /// The fraction p of injected pretraining data, in [0, 1].
    pub p: f64,
    /// The pretraining validation loss before finetuning, L_pt⁰, in nats per token.
    pub loss_pt0: f64,
    /// The tokens of pretraining, D.
    pub d_tokens: f64,
}

/// The values that a parameter may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Finite and above 0.
    Positive,
    /// Finite and not below 0.
    NonNegative,
}

impl Domain {
    /// Whether a value lies in the domain.
    pub fn contains(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Positive => value > 0.0,
                Self::NonNegative => value >= 0.0,
            }
    }
}

/// A parameter of a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// The paper's symbol, in letters.
    pub name: &'static str,
    /// The values that it may take.
    pub domain: Domain,
}

const fn positive(name: &'static str) -> Parameter {
    Parameter { name, domain: Domain::Positive }
}

const fn non_negative(name: &'static str) -> Parameter {
    Parameter { name, domain: Domain::NonNegative }
}

/// The form of a scaling law.
pub trait Law: Send + Sync {
    /// The name by which it is asked for.
    fn name(&self) -> &'static str;

    /// The equation, and where it stands.
    fn equation(&self) -> &'static str;

    /// The parameters, in the order in which values are given.
    fn parameters(&self) -> &'static [Parameter];

    /// The loss in nats per token that the law predicts for a row with N, D_ft and D above 0.
    /// NaN if the number of values is not that of the parameters: [`Law::check`] says so in words.
    fn predict(&self, row: &Row, values: &[f64]) -> f64;

    /// The derivatives of the prediction with respect to the parameters, written to `out` in
    /// their order. NaN if the number of values is not that of the parameters.
    fn gradient(&self, row: &Row, values: &[f64], out: &mut [f64]);

    /// Refuses values that the law has no meaning for.
    ///
    /// # Errors
    /// If there are too few or too many, or one lies outside its domain.
    fn check(&self, values: &[f64]) -> Result<()> {
        let parameters = self.parameters();
        if values.len() != parameters.len() {
            let names: Vec<_> = parameters.iter().map(|parameter| parameter.name).collect();
            let requirement = format!("must be {}: {}", names.len(), names.join(", "));
            let name = format!("number of the {} law's parameters", self.name());
            return Err(Error::setting(name, values.len(), requirement));
        }
        let pairs = parameters.iter().zip(values);
        match pairs.into_iter().find(|(parameter, value)| !parameter.domain.contains(**value)) {
            None => Ok(()),
            Some((parameter, value)) => {
                let requirement = match parameter.domain {
                    Domain::Positive => "must be a number above 0",
                    Domain::NonNegative => "must be a number of at least 0",
                };
                let name = format!("{} of the {} law", parameter.name, self.name());
                Err(Error::setting(name, value, requirement))
            }
        }
    }
}

/// The law of a name.
///
/// # Errors
/// If there is none; the message names those that there are.
///
/// ```
/// use forgetting_laws::laws;
/// assert_eq!(laws::by_name("forgetting")?.parameters().len(), 4);
/// assert!(laws::by_name("gravity").is_err());
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn by_name(name: &str) -> Result<&'static dyn Law> {
    LAWS.iter().copied().find(|law| law.name() == name).ok_or_else(|| {
        let names: Vec<_> = LAWS.iter().map(|law| law.name()).collect();
        Error::setting("law", name, format!("must be one of {}", names.join(", ")))
    })
}

/// Writes a gradient, or NaN where the law got the wrong number of values.
fn write<const K: usize>(gradient: Option<[f64; K]>, out: &mut [f64]) {
    match (gradient, out.len() == K) {
        (Some(gradient), true) => out.copy_from_slice(&gradient),
        _ => out.fill(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    pub(super) const ROW: Row =
        Row { n_params: 1e3, d_ft_tokens: 64.0, p: 0.01, loss_pt0: 3.0, d_tokens: 1e5 };

    /// Values inside every domain, unlike each other.
    fn values(law: &dyn Law) -> Vec<f64> {
        [0.7, 1.3, 0.45, 0.6, 0.8][..law.parameters().len()].to_vec()
    }

    /// Central differences with step h err by h²/6 of the third derivative and 10⁻¹⁶/h of
    /// rounding: at h = 10⁻⁵ far below 10⁻⁷ of values around 1.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        for law in LAWS {
            for p in [0.0, 0.01, 1.0] {
                let row = Row { p, ..ROW };
                let at = values(*law);
                let mut gradient = vec![0.0; at.len()];
                law.gradient(&row, &at, &mut gradient);
                for (i, &analytic) in gradient.iter().enumerate() {
                    let shifted = |h: f64| {
                        let mut values = at.clone();
                        values[i] += h;
                        law.predict(&row, &values)
                    };
                    let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                    assert_relative_eq!(analytic, numeric, max_relative = 1e-7, epsilon = 1e-9);
                }
            }
        }
    }

    #[test]
    fn names_and_parameters_are_distinct() {
        for (i, law) in LAWS.iter().enumerate() {
            assert!(LAWS[..i].iter().all(|other| other.name() != law.name()));
            assert_eq!(by_name(law.name()).unwrap().equation(), law.equation());
            for parameter in law.parameters() {
                assert!(law.equation().contains(parameter.name), "{}", parameter.name);
            }
        }
        assert!(matches!(by_name("x"), Err(Error::Setting { requirement, .. })
            if requirement == "must be one of forgetting, finetuning, additive"));
    }

    #[test]
    fn wrong_values_are_refused_in_words_and_never_panic() {
        for law in LAWS {
            let good = values(*law);
            assert!(law.check(&good).is_ok());
            for bad in [&good[1..], &[], &[1.0; 9]] {
                assert!(law.predict(&ROW, bad).is_nan());
                let mut gradient = vec![0.0; good.len()];
                law.gradient(&ROW, bad, &mut gradient);
                assert!(gradient.iter().all(|g| g.is_nan()));
                assert!(law.check(bad).is_err());
            }
            let mut short = [0.0];
            law.gradient(&ROW, &good, &mut short);
            assert!(short[0].is_nan());
        }
        let message = |values: &[f64]| Forgetting.check(values).unwrap_err().to_string();
        assert_eq!(
            message(&[1.0]),
            "number of the forgetting law's parameters = 1: must be 4: A, B, alpha, beta"
        );
        assert_eq!(
            message(&[1.0, 1.0, 0.0, 1.0]),
            "alpha of the forgetting law = 0: must be a number above 0"
        );
        assert_eq!(
            message(&[1.0, -0.5, 1.0, 1.0]),
            "B of the forgetting law = -0.5: must be a number of at least 0"
        );
    }

    #[test]
    fn domains_have_their_bounds() {
        for domain in [Domain::Positive, Domain::NonNegative] {
            assert!(domain.contains(f64::MIN_POSITIVE));
            assert!(!domain.contains(-f64::MIN_POSITIVE));
            assert!(!domain.contains(f64::INFINITY) && !domain.contains(f64::NAN));
            assert_eq!(domain.contains(0.0), domain == Domain::NonNegative);
        }
    }
}
