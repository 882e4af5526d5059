//! How ranks share a step: each computes the gradient of its part of the sequences, the gradients
//! are summed, and all ranks take the same step.

use crate::Result;
use crate::engine::{Comm, Solo};
use tch::Tensor;

/// Ranks that exchange tensors.
pub trait Collectives: Comm {
    /// Replaces a buffer on the model's device by its sum over all ranks.
    ///
    /// # Errors
    /// If a rank is lost.
    fn all_reduce_sum(&self, flat: &mut Tensor) -> Result<()>;
    /// Replaces a buffer on the model's device by that of rank 0.
    ///
    /// # Errors
    /// If a rank is lost.
    fn broadcast(&self, flat: &mut Tensor) -> Result<()>;
}

impl Collectives for Solo {
    fn all_reduce_sum(&self, _flat: &mut Tensor) -> Result<()> {
        Ok(())
    }
    fn broadcast(&self, _flat: &mut Tensor) -> Result<()> {
        Ok(())
    }
}
