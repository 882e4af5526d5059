//! The engine on libtorch: on a CPU or a GPU, alone or on several ranks.

mod comm;
pub mod cuda;
mod fused;
mod inference;
mod network;
mod trainer;

pub use comm::Collectives;
pub use network::Network;
pub use trainer::{Trainer, Windows, evaluate, evaluate_together, windows};

use super::{Buffer, Comm, Engine, Model, Training};
use crate::checkpoint::Checkpoint;
use crate::data::sequences::{Sequences, Window};
use crate::injection::share;
use crate::model::{Precision, Shape};
use crate::run::EngineKind;
use crate::weight_decay::{AdamW, Step};
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;
use tch::{Device, Tensor, no_grad};

/// libtorch on a device.
#[derive(Clone, Copy)]
pub struct Torch<'a> {
    /// Where to compute.
    pub device: Device,
    /// The ranks that carry out each run together. What they add up differs from one process's in its
    /// last digits.
    pub comm: &'a dyn Collectives,
    /// Sequences that a rank takes through the model at a time: fewer need less memory. Gradients add
    /// up over them, which changes their last digits.
    pub micro_batch: usize,
    /// Whether the forward pass of a block is repeated in the backward pass instead of keeping its
    /// activations: slower, with less memory.
    pub recompute: bool,
    /// Threads of the CPU that compute one model.
    pub threads: i32,
}

impl Torch<'_> {
    fn network(&self, model: &Checkpoint, precision: Precision) -> Result<Network> {
        // They are a property of the calling thread.
        tch::set_num_threads(self.threads);
        Network::from_checkpoint(model, self.device)?.in_precision(precision)
    }
}

impl Engine for Torch<'_> {
    fn kind(&self) -> EngineKind {
        EngineKind::Torch
    }

    fn comm(&self) -> &dyn Comm {
        self.comm
    }

    fn training(
        &self,
        model: &Checkpoint,
        precision: Precision,
        adamw: AdamW,
        clip: f64,
    ) -> Result<Box<dyn Training + '_>> {
        let network = self.network(model, precision)?.with_recompute(self.recompute);
        let trainer = Trainer::new(network, adamw, clip)?;
        let loss_sum = scalar(0.0, self.device)?;
        Ok(Box::new(Run { engine: self, trainer, loss_sum }))
    }

    fn model(&self, model: &Checkpoint, precision: Precision) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.network(model, precision)?))
    }

    fn loss(&self, model: &Checkpoint, precision: Precision, set: &Sequences) -> Result<f64> {
        evaluate_together(&self.network(model, precision)?, set, self.comm)
    }
}

/// A model in training on this rank.
struct Run<'a> {
    engine: &'a Torch<'a>,
    trainer: Trainer,
    /// This rank's part, a scalar of f64 on the device, so that adding to it does not wait.
    loss_sum: Tensor,
}

impl Training for Run<'_> {
    fn shape(&self) -> &Shape {
        self.trainer.network().shape()
    }

    fn step(&mut self, batch: &[Window<'_>], step: Step) -> Result<()> {
        let Torch { device, comm, micro_batch, .. } = *self.engine;
        let mine = share(batch.len() as u64, comm.rank() as u64, comm.world() as u64);
        let mine = &batch[mine.start as usize..mine.end as usize];
        let passes = mine.chunks(micro_batch.max(1)).map(|rows| Windows::of(rows, device));
        let counted = batch.iter().map(Window::counted).sum();
        let loss = self.trainer.step(passes, counted, step, comm)?;
        let _ = self.loss_sum.f_add_(&loss)?;
        Ok(())
    }

    fn loss_sums(&self) -> Result<Vec<f64>> {
        let Torch { device, comm, .. } = *self.engine;
        let mut sums = vec![0.0; comm.world()];
        sums[comm.rank()] = self.loss_sum.f_double_value(&[])?;
        let mut all = Tensor::f_from_slice(&sums)?.f_to_device(device)?;
        comm.all_reduce_sum(&mut all)?;
        Ok(Vec::try_from(all.f_to_device(Device::Cpu)?)?)
    }

    fn set_loss_sums(&mut self, sums: &[f64]) -> Result<()> {
        let Torch { device, comm, .. } = *self.engine;
        let mine = sums.get(comm.rank()).copied().unwrap_or(0.0);
        let of_others = sums.get(comm.world()..).filter(|_| comm.rank() == 0).unwrap_or_default();
        self.loss_sum = scalar(of_others.iter().fold(mine, |sum, other| sum + other), device)?;
        Ok(())
    }

    fn evaluate(&mut self, set: &Sequences) -> Result<f64> {
        evaluate_together(self.trainer.network(), set, self.engine.comm)
    }

    fn buffer(&self, buffer: Buffer) -> Result<Cow<'_, [f32]>> {
        Ok(to_f32(&self.trainer.buffer(buffer))?.into())
    }

    fn set_buffer(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        let mut flat = self.trainer.buffer(buffer);
        Ok(no_grad(|| flat.f_copy_(&Tensor::f_from_slice(values)?))?)
    }

    fn follow(&mut self) -> Result<()> {
        let broadcast = |buffer| self.engine.comm.broadcast(&mut self.trainer.buffer(buffer));
        [Buffer::Theta, Buffer::M, Buffer::V].into_iter().try_for_each(broadcast)
    }
}

fn scalar(value: f64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&[value])?.view(()).f_to_device(device)?)
}

/// The elements of a flat tensor in a range, sharing its storage.
fn half_open(flat: &Tensor, range: Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}

/// A flat tensor's values on the CPU.
fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?)?)
}

/// The device of a name: `auto` (the first GPU if there is one), `cpu`, `cuda` (the first GPU) or
/// `cuda:N`. For all but `cpu`, the CUDA half of libtorch is looked for: see [`cuda`].
///
/// # Errors
/// If the name is none of these, or no such device is there, or a CUDA half that the user named
/// cannot be used.
pub fn device(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if !cuda::is_there()? => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        _ => {
            let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
            let requirement = "must be auto, cpu, cuda or cuda:N";
            index.ok_or_else(|| Error::setting("device", name, requirement))?
        }
    };
    cuda::check(name, index)?;
    Ok(Device::Cuda(index))
}
