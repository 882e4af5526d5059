//! Training: the loop of every run, and the engines that compute its steps.
//!
//! The loop (steps, schedules, injection, evaluations, checkpoints) drives an [`Engine`] and does not
//! know which: this crate's own on a CPU ([`cpu`]), or libtorch on a CPU or on GPUs (`torch`, with the
//! feature of that name).
//!
//! Four rules keep every later step simple: parameters, gradients and moments are flat buffers;
//! a step is backward, all-reduce, clip, update; a sample is addressed by
//! `position = step · batch + i`, whichever rank computes it; small models on a CPU run on one thread
//! each, as many at once as there are cores.

mod checkpoints;
mod comm;
pub mod cpu;
mod inference;
mod runs;
mod test_set;
#[cfg(feature = "torch")]
pub mod torch;

pub use checkpoints::{has_checkpoints, remove_checkpoints};
pub use comm::{Comm, Signals, Solo};
pub use inference::{Sampling, generate, losses, token_losses};
pub use runs::{Control, Observer, PretrainData, TargetData};
pub use runs::{finetune, import, mixture, pretrain};

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::data::sequences::{Sequences, Window};
use crate::model::{Precision, Shape};
use crate::run::EngineKind;
use crate::weight_decay::{AdamW, Step};
use std::borrow::Cow;

/// What computes losses and gradients. Threads share an engine; a model stays on the thread that made
/// it.
pub trait Engine: Sync {
    /// Which one it is. Engines round differently, so it belongs to the identity of a run.
    fn kind(&self) -> EngineKind;

    /// The ranks that carry out each run together.
    fn comm(&self) -> &dyn Comm {
        &Solo
    }

    /// A model to train, with moments of zero; `clip` bounds the global norm of the gradient.
    ///
    /// # Errors
    /// If the model is not that of its shape, or the engine cannot train it so.
    fn training(
        &self,
        model: &Checkpoint,
        precision: Precision,
        adamw: AdamW,
        clip: f64,
    ) -> Result<Box<dyn Training + '_>>;

    /// A model that reads and writes.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    fn model(&self, model: &Checkpoint, precision: Precision) -> Result<Box<dyn Model>>;

    /// The mean cross-entropy of a model over the targets of a set that count, in nats; NaN where none
    /// does. Ranks share the work, and all get the one loss.
    ///
    /// # Errors
    /// As [`training`](Self::training), or if a rank is lost.
    fn loss(&self, model: &Checkpoint, precision: Precision, set: &Sequences) -> Result<f64>;
}

/// A model in training: its parameters, moments and the losses of its steps.
pub trait Training {
    /// The architecture.
    fn shape(&self) -> &Shape;

    /// One step on a batch: the gradient of the mean cross-entropy over the targets that count, clipped
    /// by its global norm, and AdamW. It is given the windows of all ranks and takes its own share. It
    /// need not wait for the device.
    ///
    /// # Errors
    /// If a rank is lost.
    fn step(&mut self, batch: &[Window<'_>], step: Step) -> Result<()>;

    /// The sum, over the steps since [`set_loss_sums`](Self::set_loss_sums), of the mean cross-entropy
    /// before each update, in nats: each rank's part, in their order.
    ///
    /// # Errors
    /// If a rank is lost.
    fn loss_sums(&self) -> Result<Vec<f64>>;

    /// Sets each rank's part of the sum; 0 where there is none. Where there were more ranks than now,
    /// the first takes over the parts of those that are gone.
    fn set_loss_sums(&mut self, sums: &[f64]);

    /// The mean cross-entropy over the targets of a set that count, in nats; NaN where none does.
    ///
    /// # Errors
    /// If a rank is lost.
    fn evaluate(&mut self, set: &Sequences) -> Result<f64>;

    /// The elements of a buffer, in the order of the shape's [`Layout`](crate::model::Layout).
    fn buffer(&self, buffer: Buffer) -> Cow<'_, [f32]>;

    /// Replaces the elements of a buffer by as many others.
    fn set_buffer(&mut self, buffer: Buffer, values: &[f32]);

    /// Takes all buffers from the first rank.
    ///
    /// # Errors
    /// If a rank is lost.
    fn follow(&mut self) -> Result<()> {
        Ok(())
    }

    /// The model as it is now.
    fn to_checkpoint(&self) -> Checkpoint {
        Checkpoint { shape: *self.shape(), theta: self.buffer(Buffer::Theta).into_owned() }
    }
}

/// What a step changes: flat buffers of [`Layout::buffer_len`](crate::model::Layout::buffer_len) f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// AdamW's first moment.
    M,
    /// The parameters θ.
    Theta,
    /// AdamW's second moment.
    V,
}

impl Buffer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::M, Self::Theta, Self::V];

    /// As checkpoints call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::M => "m",
            Self::Theta => "theta",
            Self::V => "v",
        }
    }
}

/// A model that reads and writes, without what training needs.
pub trait Model {
    /// The architecture.
    fn shape(&self) -> &Shape;

    /// For each window the sum of the cross-entropies of its targets that count, in nats. Windows may
    /// differ in length; none is longer than the model's positions.
    fn window_losses(&mut self, windows: &[Window<'_>]) -> Vec<f64>;

    /// For each window the cross-entropy of each of its targets, in nats, whether it counts or not.
    fn token_losses(&mut self, windows: &[Window<'_>]) -> Vec<Vec<f64>>;

    /// The logits of the token after a window of up to T tokens, `vocab` of them.
    fn next_logits(&mut self, window: &[u32]) -> Vec<f32>;
}
