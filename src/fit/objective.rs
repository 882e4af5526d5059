use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The space of residuals. The paper's choice is unknown; [`Space::Log`] is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// ln L̂ − ln L, without unit: relative errors.
    Log,
    /// L̂ − L, in nats per token.
    Raw,
}

impl Space {
    /// A loss in this space.
    pub(super) fn of(self, loss: f64) -> f64 {
        match self {
            Self::Log => loss.ln(),
            Self::Raw => loss,
        }
    }

    /// The loss, in nats per token, that is this number in this space.
    pub(super) fn loss(self, number: f64) -> f64 {
        match self {
            Self::Log => number.exp(),
            Self::Raw => number,
        }
    }
}

/// The penalty on a residual r.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Penalty {
    /// Huber's: r²/2 up to |r| = δ, then δ·(|r| − δ/2). The paper minimises a Huber loss; its δ is
    /// unknown.
    Huber(f64),
    /// r²/2.
    Squared,
    /// |r|.
    Absolute,
}

/// What a fit minimises: the sum over rows of weight times penalty of the residual.
///
/// It is a sum and not the usual mean; the optimum is the same.
///
/// # Examples
/// ```
/// use forgetting_laws::fit::{Objective, Penalty, Space};
/// let objective = Objective { space: Space::Raw, penalty: Penalty::Huber(0.5) };
/// assert_eq!(objective.cost(3.25, 3.0), 0.03125);
/// assert_eq!(objective.cost(5.0, 3.0), 0.875);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Objective {
    /// The space of residuals.
    pub space: Space,
    /// The penalty on a residual.
    pub penalty: Penalty,
}

/// An objective in a file.
#[derive(Serialize, Deserialize)]
struct Written {
    space: Space,
    penalty: Name,
    delta: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Huber,
    Squared,
    Absolute,
}

impl From<Objective> for Written {
    fn from(Objective { space, penalty }: Objective) -> Self {
        let (penalty, delta) = match penalty {
            Penalty::Huber(delta) => (Name::Huber, Some(delta)),
            Penalty::Squared => (Name::Squared, None),
            Penalty::Absolute => (Name::Absolute, None),
        };
        Self { space, penalty, delta }
    }
}

impl TryFrom<Written> for Objective {
    type Error = Error;

    fn try_from(Written { space, penalty, delta }: Written) -> Result<Self> {
        let penalty = match (penalty, delta) {
            (Name::Huber, delta) => Penalty::Huber(delta.unwrap_or(f64::NAN)),
            (Name::Squared, _) => Penalty::Squared,
            (Name::Absolute, _) => Penalty::Absolute,
        };
        let objective = Self { space, penalty };
        objective.check()?;
        Ok(objective)
    }
}

impl Default for Objective {
    /// Huber's with δ = 10⁻³ on log losses, as is usual in the field (Hoffmann et al., 2022).
    fn default() -> Self {
        Self { space: Space::Log, penalty: Penalty::Huber(1e-3) }
    }
}

impl Objective {
    /// # Errors
    /// If δ is not a number above 0.
    pub fn check(&self) -> Result<()> {
        match self.penalty {
            Penalty::Huber(delta) if !(delta.is_finite() && delta > 0.0) => {
                Err(Error::setting("delta", delta, "must be a number above 0"))
            }
            _ => Ok(()),
        }
    }

    /// The residual of a prediction.
    pub fn residual(&self, prediction: f64, loss: f64) -> f64 {
        match self.space {
            Space::Log => (prediction / loss).ln(),
            Space::Raw => prediction - loss,
        }
    }

    /// The penalty of a row of weight 1.
    pub fn cost(&self, prediction: f64, loss: f64) -> f64 {
        let r = self.residual(prediction, loss);
        match self.penalty {
            Penalty::Huber(delta) => huber(r, delta),
            Penalty::Squared => 0.5 * r * r,
            Penalty::Absolute => r.abs(),
        }
    }
}

/// Huber's penalty; with δ = ∞, r²/2.
pub(super) fn huber(r: f64, delta: f64) -> f64 {
    let size = r.abs();
    if size <= delta { 0.5 * size * size } else { delta * (size - 0.5 * delta) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubers_penalty_at_its_edge_and_in_its_limits() {
        assert_eq!(huber(0.25, 0.25), 0.03125);
        assert_eq!(huber(-0.25, 0.25), huber(0.25, 0.25));
        assert_eq!(huber(1.0, 0.25), 0.25 * 0.875);
        assert_eq!(huber(-3.0, f64::INFINITY), 4.5);
        // Far beyond its edge it is δ times the absolute penalty.
        assert!((huber(2.0, 1e-9) / 1e-9 - 2.0).abs() < 1e-9);
    }

    #[test]
    fn spaces_and_penalties() {
        let cost = |space, penalty| Objective { space, penalty }.cost(2.0, 1.0);
        let ln2 = std::f64::consts::LN_2;
        assert_eq!(cost(Space::Raw, Penalty::Squared), 0.5);
        assert_eq!(cost(Space::Raw, Penalty::Absolute), 1.0);
        assert_eq!(cost(Space::Log, Penalty::Absolute), ln2);
        assert_eq!(cost(Space::Log, Penalty::Squared), 0.5 * ln2 * ln2);
        let log = Objective::default();
        assert_eq!(log.residual(1.0, 2.0), -ln2);
    }

    #[test]
    fn a_delta_is_a_number_above_0() {
        for delta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let penalty = Penalty::Huber(delta);
            let error = Objective { penalty, ..Objective::default() }.check().unwrap_err();
            assert_eq!(error.to_string(), format!("delta = {delta}: must be a number above 0"));
        }
        assert!(Objective::default().check().is_ok());
        assert!(Objective { space: Space::Raw, penalty: Penalty::Squared }.check().is_ok());
    }
}
