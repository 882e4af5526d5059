//! How several processes, the ranks, agree on the course of a run that they carry out together.

use crate::Result;

/// A group of ranks. All call the same operations in the same order.
pub trait Comm: Send + Sync {
    /// This process among `world`, from 0. Rank 0 alone writes.
    fn rank(&self) -> usize;
    /// Number of processes.
    fn world(&self) -> usize;
    /// The bytes of rank 0, whatever the others give.
    ///
    /// # Errors
    /// If a rank is lost.
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
    /// What any of the ranks says. It is how those who fail tell the others: whoever fails between two
    /// operations of a run says so in place of its next word.
    ///
    /// # Errors
    /// If a rank is lost.
    fn agree(&self, mine: Signals) -> Result<Signals>;
}

/// What a rank tells the others before each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals {
    /// The run is to write a checkpoint and end.
    pub stop: bool,
    /// A checkpoint is due.
    pub due: bool,
    /// It has failed and leaves the run.
    pub failed: bool,
}

/// One process alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl Comm for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn world(&self) -> usize {
        1
    }
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
    fn agree(&self, mine: Signals) -> Result<Signals> {
        Ok(mine)
    }
}
