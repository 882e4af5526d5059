//! Communication between ranks: the processes that train one run together.

use crate::Result;

/// A group of ranks. All ranks call the same operations in the same order.
pub trait Comm: Send + Sync {
    /// The number of this process, from 0 to `world` − 1. Only rank 0 writes files.
    fn rank(&self) -> usize;
    /// The number of ranks.
    fn world(&self) -> usize;
    /// Broadcasts the bytes of rank 0; those of other ranks are ignored.
    ///
    /// # Errors
    /// If a rank is lost.
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
    /// Combines the signals of all ranks: each is set if any rank sets it. A rank that fails between
    /// two operations of a run calls this with `failed` in place of its next operation, so that the
    /// others stop.
    ///
    /// # Errors
    /// If a rank is lost.
    fn agree(&self, mine: Signals) -> Result<Signals>;
}

/// What a rank tells the others before each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals {
    /// The run must write a checkpoint and end.
    pub stop: bool,
    /// A checkpoint is due.
    pub due: bool,
    /// This rank has failed and leaves the run.
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
