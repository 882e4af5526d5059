//! Training: the loop of every run, and the engines that compute its steps.
//!
//! The loop (steps, schedules, injection, evaluations, checkpoints) works with any [`Engine`]: this
//! crate's own on a CPU ([`cpu`]), or libtorch on a CPU or on GPUs (`torch`, with the feature of that
//! name).
//!
//! Four rules hold everywhere:
//!
//! - Parameters, gradients and moments are flat buffers.
//! - A step is backward pass, all-reduce, clipping, update.
//! - A sequence is identified by `position = step · batch + i`, whichever rank computes it.
//! - On a CPU, each small model runs on one thread, and as many models run at once as there are cores.

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
pub use inference::{Length, Sampling, generate, losses, token_losses};
pub use runs::{Control, FinetuneData, Observer, PretrainData, TargetData};
pub use runs::{finetune, import, mixture, pretrain};

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::data::sequences::{Sequences, Window};
use crate::model::{Precision, Shape};
use crate::run::EngineKind;
use crate::weight_decay::{AdamW, Step};
use std::borrow::Cow;

/// Computes losses and gradients. Threads may share an engine, but a model stays on the thread that
/// made it.
pub trait Engine: Sync {
    /// Which engine this is. Engines round differently, so the kind is part of the identity of a run.
    fn kind(&self) -> EngineKind;

    /// The ranks that train each run together.
    fn comm(&self) -> &dyn Comm {
        &Solo
    }

    /// A model to train, with moments of zero. `clip` bounds the global norm of the gradient.
    ///
    /// # Errors
    /// If the model's buffer does not match its shape, or the engine cannot train it in this precision.
    fn training(
        &self,
        model: &Checkpoint,
        precision: Precision,
        adamw: AdamW,
        clip: f64,
    ) -> Result<Box<dyn Training + '_>>;

    /// A model for inference.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    fn model(&self, model: &Checkpoint, precision: Precision) -> Result<Box<dyn Model>>;

    /// The mean cross-entropy of a model over the tokens of a set that count in the loss, in nats; NaN
    /// if none does. Ranks share the work, and each returns the same loss.
    ///
    /// # Errors
    /// As [`training`](Self::training), or if a rank is lost.
    fn loss(&self, model: &Checkpoint, precision: Precision, set: &Sequences) -> Result<f64>;
}

/// A model in training: its parameters, moments and the losses of its steps.
pub trait Training {
    /// The architecture.
    fn shape(&self) -> &Shape;

    /// One step on a batch: the gradient of the mean cross-entropy over the tokens that count in the
    /// loss, clipped by its global norm, and an update by AdamW. `batch` has the windows of all ranks,
    /// and each rank takes its share. The call may return before the device has finished.
    ///
    /// # Errors
    /// If a rank is lost, or the device refuses, as for want of memory; the training then cannot go on.
    fn step(&mut self, batch: &[Window<'_>], step: Step) -> Result<()>;

    /// The sum, over the steps since [`set_loss_sums`](Self::set_loss_sums), of the mean cross-entropy
    /// before each update, in nats: one part per rank, in the order of ranks.
    ///
    /// # Errors
    /// If a rank is lost, or the device refuses.
    fn loss_sums(&self) -> Result<Vec<f64>>;

    /// Sets each rank's part of the sum; missing parts are 0. If there are more parts than ranks, the
    /// first rank takes the surplus.
    ///
    /// # Errors
    /// If the device refuses.
    fn set_loss_sums(&mut self, sums: &[f64]) -> Result<()>;

    /// The mean cross-entropy over the tokens of a set that count in the loss, in nats; NaN if none
    /// does.
    ///
    /// # Errors
    /// If a rank is lost, or the device refuses.
    fn evaluate(&mut self, set: &Sequences) -> Result<f64>;

    /// The elements of a buffer, in the order of the shape's [`Layout`](crate::model::Layout).
    ///
    /// # Errors
    /// If the device refuses.
    fn buffer(&self, buffer: Buffer) -> Result<Cow<'_, [f32]>>;

    /// Replaces the elements of a buffer. `values` has the same length.
    ///
    /// # Errors
    /// If the device refuses.
    fn set_buffer(&mut self, buffer: Buffer, values: &[f32]) -> Result<()>;

    /// Copies all buffers from the first rank.
    ///
    /// # Errors
    /// If a rank is lost.
    fn follow(&mut self) -> Result<()> {
        Ok(())
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// As [`buffer`](Self::buffer).
    fn to_checkpoint(&self) -> Result<Checkpoint> {
        let theta = self.buffer(Buffer::Theta)?.into_owned();
        Ok(Checkpoint { shape: *self.shape(), theta })
    }
}

/// The buffers that a step changes: flat, each of
/// [`Layout::buffer_len`](crate::model::Layout::buffer_len) f32.
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
    /// Every buffer.
    pub const ALL: [Self; 3] = [Self::M, Self::Theta, Self::V];

    /// Its name in checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::M => "m",
            Self::Theta => "theta",
            Self::V => "v",
        }
    }
}

/// A model for inference: it has no gradients and no moments.
pub trait Model {
    /// The architecture.
    fn shape(&self) -> &Shape;

    /// For each window, the sum of the cross-entropies of its tokens that count in the loss, in nats.
    /// Windows may differ in length; none is longer than the model's context.
    ///
    /// # Errors
    /// If the device refuses, as for want of memory.
    fn window_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<f64>>;

    /// For each window, the cross-entropy of each predicted token, in nats, whether it counts in the
    /// loss or not.
    ///
    /// # Errors
    /// As [`window_losses`](Self::window_losses).
    fn token_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<Vec<f64>>>;

    /// The `vocab` logits of the token that follows a window of up to T tokens.
    ///
    /// # Errors
    /// As [`window_losses`](Self::window_losses).
    fn next_logits(&mut self, window: &[u32]) -> Result<Vec<f32>>;
}
