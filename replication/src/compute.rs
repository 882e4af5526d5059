//! What computes the runs: an engine on its device.

use crate::ranks::Ranks;
use forgetting_laws::engine::torch::{self, Collectives, Torch, cuda};
use forgetting_laws::engine::{Engine, Solo};
use forgetting_laws::model::Precision;
use forgetting_laws::{Error, Result};
use std::any::Any;
use std::time::Instant;
use tch::{Device, Kind, TchError, Tensor};

/// An engine on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// libtorch.
    Torch(Device),
}

/// How one model is computed.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Threads of the CPU.
    pub threads: i32,
    /// Sequences of a pass.
    pub micro_batch: usize,
}

impl Compute {
    /// An engine on the device of a name: auto, cpu, cuda or cuda:N.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn open(device: &str) -> Result<Self> {
        torch::device(device).map(Self::Torch)
    }

    /// The engine, whose runs `ranks` carry out together if there are several.
    pub fn engine(self, effort: Effort, ranks: Option<&Ranks>) -> Box<dyn Engine + '_> {
        let Effort { threads, micro_batch } = effort;
        match self {
            Self::Torch(device) => {
                let comm = ranks.map_or(&Solo as &dyn Collectives, |ranks| ranks);
                Box::new(Torch { device, comm, micro_batch, threads })
            }
        }
    }

    /// The number of the GPU, if it is one.
    pub fn gpu(self) -> Option<usize> {
        match self {
            Self::Torch(Device::Cuda(index)) => Some(index),
            Self::Torch(_) => None,
        }
    }

    /// The names of the devices that workers share where the user asks for this one by a name: every
    /// GPU, unless one is numbered.
    pub fn devices(self, name: &str) -> Vec<String> {
        match self.gpu() {
            Some(_) if ["auto", "cuda"].contains(&name) => {
                (0..gpus()).map(|index| format!("cuda:{index}")).collect()
            }
            Some(index) => vec![format!("cuda:{index}")],
            None => vec![name.to_string()],
        }
    }

    /// `cpu`, or `cuda:N` and what the device is called.
    pub fn device_name(self) -> String {
        match self.gpu() {
            Some(index) => {
                let name = cuda::name(index).map(|name| format!(" {name}")).unwrap_or_default();
                format!("cuda:{index}{name}")
            }
            None => "cpu".into(),
        }
    }

    /// Where runs compute, and what was found where a GPU was looked for.
    pub fn words(self) -> String {
        let findings = cuda::findings().map(|findings| format!("; {findings}")).unwrap_or_default();
        format!("device {}{findings}", self.device_name())
    }

    /// Whether the user wants to know: a GPU is used, or one was looked for in vain.
    pub fn is_remarkable(self) -> bool {
        self.gpu().is_some() || cuda::findings().is_some()
    }

    /// Bytes of the GPU's memory that are in use, by all processes, and bytes that it has.
    pub fn gpu_memory(self) -> Option<(u64, u64)> {
        self.gpu().and_then(cuda::memory)
    }

    /// What the losses' last bits depend on beside the processor: versions of libraries.
    pub fn versions(self) -> String {
        let half = self.gpu().and_then(|_| cuda::load());
        let half = half.map(|found| format!(", libtorch_cuda {}", found.version));
        format!("libtorch {}{}, tch 0.24.0", env!("REPLICATION_LIBTORCH"), half.unwrap_or_default())
    }

    /// The library of matrix products on the CPU.
    pub fn blas(self) -> String {
        if tch::utils::has_mkl() { "MKL" } else { "not MKL" }.into()
    }

    /// FLOP/s of a square matrix product, the best of a few.
    pub fn matmul_rate(self, threads: i32, precision: Precision) -> f64 {
        let Self::Torch(device) = self;
        tch::set_num_threads(threads);
        let n = if device.is_cuda() { 8192 } else { 1024 };
        let kind = match precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let a = Tensor::ones([n, n], (kind, device));
        let seconds = (0..5).map(|_| {
            let begun = Instant::now();
            // Reading one element waits for the device.
            let _ = a.matmul(&a).double_value(&[0, 0]);
            begun.elapsed().as_secs_f64()
        });
        2.0 * (n as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
    }
}

/// How many GPUs this process can use.
pub fn gpus() -> usize {
    cuda::count()
}

/// What libtorch said, if this is the panic of one of the functions of tch that return no
/// `Result`: too little memory, in most cases.
pub fn refusal_of_libtorch(panic: &(dyn Any + Send)) -> Option<Error> {
    let message = panic.downcast_ref::<String>()?;
    let said = message.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")?;
    // The rest is a trace of C++ functions, with its line ends escaped.
    let said = said.split("\\n").next().unwrap_or_default();
    Some(Error::Torch(TchError::Torch(said.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn a_refusal_of_libtorch_is_an_error_and_other_panics_are_none() {
        let too_much = || Tensor::zeros([1 << 60], (Kind::Float, Device::Cpu));
        let panic = catch_unwind(|| too_much().numel()).unwrap_err();
        let message = refusal_of_libtorch(&*panic).unwrap().to_string();
        assert!(message.starts_with("libtorch: ") && message.contains("memory"), "{message}");
        assert!(!message.contains('\n') && !message.contains("frame #"), "{message}");
        let panic = catch_unwind(|| panic!("a bug in {}", 7)).unwrap_err();
        assert!(refusal_of_libtorch(&*panic).is_none());
    }
}
