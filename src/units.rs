use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A number in [0, 1]: the fraction p of pretraining data, a share of the steps.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Fraction(f64);

impl Fraction {
    /// # Errors
    /// If `value` is not in [0, 1].
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::Fraction;
    /// assert_eq!(Fraction::new(0.01).unwrap().get(), 0.01);
    /// assert!(Fraction::new(1.5).is_err());
    /// ```
    pub fn new(value: f64) -> Result<Self> {
        // -0.0 and 0.0 are one fraction: their text, and so the hash of a run, must not differ.
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value + 0.0))
        } else {
            Err(Error::setting("fraction", value, "must lie between 0 and 1"))
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Fraction {
    type Error = Error;
    fn try_from(value: f64) -> Result<Self> {
        Self::new(value)
    }
}

impl From<Fraction> for f64 {
    fn from(fraction: Fraction) -> f64 {
        fraction.0
    }
}

/// The model size N, and what it counts.
///
/// The published sizes (41M, 109M, 334M, 665M, 1.27B) fit a count that includes the tied
/// embedding and leaves out learned positions; [`ParamCount::paper`] is that count. So that N means
/// the same for models whose head is a matrix of its own, N counts their embedding and not their
/// head: one V·d for any model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamCount {
    /// Parameters of the transformer blocks and the final normalisation.
    pub non_embedding: u64,
    /// Parameters of the token embedding.
    pub embedding: u64,
    /// Parameters of the output head; 0 if it is the embedding (tied).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
    /// Parameters of the learned positions.
    pub positions: u64,
}

impl ParamCount {
    /// N as the paper's sizes suggest: the embedding counts once, even if the head has a matrix of
    /// its own, and positions do not count.
    pub fn paper(&self) -> u64 {
        self.non_embedding + self.embedding
    }

    /// Every parameter that is trained.
    pub fn trained(&self) -> u64 {
        self.paper() + self.head + self.positions
    }
}

/// Records of tied models have no field for the head.
fn is_zero(count: &u64) -> bool {
    *count == 0
}
