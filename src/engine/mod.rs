//! Training on libtorch: the network, the optimiser step, and the two kinds of run.
//!
//! Four rules keep every later step simple: parameters, gradients and moments are flat buffers;
//! a step is backward, all-reduce, clip, update; a sample is addressed by
//! `position = step · batch + i`, whichever rank computes it; small models on a CPU run on one thread
//! each, as many at once as there are cores.

mod comm;
pub mod cuda;
mod fused;
mod inference;
mod network;
mod runs;
mod trainer;

pub use comm::{Comm, Signals, Solo};
pub use inference::{Sampling, generate, losses};
pub use network::Network;
pub use runs::{Control, Observer, PretrainData, TargetData};
pub use runs::{finetune, has_checkpoints, import, mixture, pretrain, remove_checkpoints};
pub use trainer::{Trainer, Windows, evaluate, evaluate_together, windows};

use crate::{Error, Result};
use std::ops::Range;
use tch::{Device, Tensor};

/// The elements of a flat tensor in a range, sharing its storage.
fn half_open(flat: &Tensor, range: Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}

/// A flat tensor's values on the CPU.
fn to_f32(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu)).expect("a flat f32 tensor")
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
