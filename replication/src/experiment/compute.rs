//! What computes the runs: an engine on its device. All that the harness knows of libtorch is here and
//! in [`ranks`](super::ranks).

#[cfg(feature = "torch")]
mod torch;

#[cfg(feature = "torch")]
pub use torch::{gpus, refusal};

use clap::{Args, ValueEnum};
use forgetting_laws::engine::Engine;
use forgetting_laws::engine::cpu::Cpu;
use forgetting_laws::memory::Passes;
use forgetting_laws::model::Precision;
use forgetting_laws::run::EngineKind;
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};

#[cfg(feature = "torch")]
pub use forgetting_laws::engine::torch::Collectives;

/// What processes that carry out a run together add their gradients by: only libtorch has it.
#[cfg(not(feature = "torch"))]
pub trait Collectives {}

/// An engine on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// The CPU's own.
    Cpu,
    /// libtorch.
    #[cfg(feature = "torch")]
    Torch(tch::Device),
}

/// Which engine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", into = "EngineKind")]
pub enum EngineChoice {
    /// libtorch for bf16 and on a GPU, else the CPU's.
    Auto,
    /// This project's own, on a CPU.
    Cpu,
    /// libtorch.
    Torch,
}

impl EngineChoice {
    /// The choice for models of a precision on the device of a name (auto, cpu, cuda or cuda:N), which
    /// is not auto. It does not depend on what this program is built with.
    pub fn resolve(self, precision: Precision, device: &str) -> Self {
        let on_gpu = device.starts_with("cuda") || device == "auto" && gpus() > 0;
        match self {
            Self::Auto if !precision.is_f32() || on_gpu => Self::Torch,
            Self::Auto => Self::Cpu,
            chosen => chosen,
        }
    }

    /// The engine; auto, where nothing is known of a device, is the CPU's.
    pub fn kind(self) -> EngineKind {
        match self {
            Self::Auto | Self::Cpu => EngineKind::Cpu,
            Self::Torch => EngineKind::Torch,
        }
    }

    /// Whether it is libtorch: plans of domains are known by their settings, and those of before have
    /// no other.
    pub fn is_torch(&self) -> bool {
        self.kind().is_torch()
    }
}

impl From<EngineChoice> for EngineKind {
    fn from(choice: EngineChoice) -> Self {
        choice.kind()
    }
}

/// Which engine on which device, for commands without settings.
#[derive(Args)]
pub struct ComputeOptions {
    /// What computes: auto takes libtorch on a GPU, and else the engine of this program.
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineChoice,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl ComputeOptions {
    /// The engine on its device.
    ///
    /// # Errors
    /// As [`Compute::open`].
    pub fn open(&self) -> Result<Compute> {
        let engine = self.engine.resolve(Precision::F32, &self.device);
        Compute::open(engine.kind(), &self.device, Precision::F32)
    }
}

/// How one model is computed.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Threads of the CPU.
    pub threads: i32,
    /// How sequences go through it in training.
    pub passes: Passes,
}

impl Compute {
    /// An engine on the device of a name: auto, cpu, cuda or cuda:N.
    ///
    /// # Errors
    /// If there is no such device, this program is built without the engine, or it does not compute in
    /// this precision.
    pub fn open(engine: EngineKind, device: &str, precision: Precision) -> Result<Self> {
        if engine == EngineKind::Torch {
            return Self::on_libtorch(device, precision);
        }
        match (device, precision) {
            ("auto" | "cpu", Precision::F32) => Ok(Self::Cpu),
            ("auto" | "cpu", Precision::Bf16) => Err(needs_libtorch("model.precision", "bf16")),
            _ if device.starts_with("cuda") => Err(needs_libtorch("--device", device)),
            _ => Err(Error::setting("--device", device, "must be auto, cpu, cuda or cuda:N")),
        }
    }

    #[cfg(feature = "torch")]
    fn on_libtorch(device: &str, _precision: Precision) -> Result<Self> {
        forgetting_laws::engine::torch::device(device).map(Self::Torch)
    }

    #[cfg(not(feature = "torch"))]
    fn on_libtorch(device: &str, precision: Precision) -> Result<Self> {
        Err(match precision {
            _ if device.starts_with("cuda") => needs_libtorch("--device", device),
            Precision::Bf16 => needs_libtorch("model.precision", "bf16"),
            Precision::F32 => needs_libtorch("run.engine", "torch"),
        })
    }

    /// Whether this program is built with an engine.
    pub fn is_built(engine: EngineKind) -> bool {
        engine == EngineKind::Cpu || cfg!(feature = "torch")
    }

    /// The engine; where several processes carry out a run together, `ranks` joins them.
    pub fn engine(self, effort: Effort, ranks: Option<&dyn Collectives>) -> Box<dyn Engine + '_> {
        match self {
            Self::Cpu => Box::new(Cpu {
                threads: effort.threads.unsigned_abs() as usize,
                recompute: effort.passes.recompute,
            }),
            #[cfg(feature = "torch")]
            Self::Torch(device) => torch::engine(device, effort, ranks),
        }
    }

    /// Which engine it is.
    pub fn kind(self) -> EngineKind {
        match self {
            Self::Cpu => EngineKind::Cpu,
            #[cfg(feature = "torch")]
            Self::Torch(_) => EngineKind::Torch,
        }
    }

    /// The number of the GPU, if it is one.
    pub fn gpu(self) -> Option<usize> {
        match self {
            #[cfg(feature = "torch")]
            Self::Torch(tch::Device::Cuda(index)) => Some(index),
            _ => None,
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
        match self {
            #[cfg(feature = "torch")]
            Self::Torch(device) => torch::device_name(device),
            Self::Cpu => "cpu".into(),
        }
    }

    /// Where runs compute, and what was found where a GPU was looked for.
    pub fn words(self) -> String {
        let findings = self.findings().map(|findings| format!("; {findings}")).unwrap_or_default();
        let engine = match self {
            Self::Cpu => " (this program's own engine)",
            #[cfg(feature = "torch")]
            Self::Torch(_) => "",
        };
        format!("device {}{engine}{findings}", self.device_name())
    }

    /// What was found where a GPU was looked for; None where nobody looked.
    pub fn findings(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(_) => forgetting_laws::engine::torch::cuda::findings(),
        }
    }

    /// Bytes of the GPU's memory that are in use, by all processes, and bytes that it has.
    pub fn gpu_memory(self) -> Option<(u64, u64)> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(_) => self.gpu().and_then(forgetting_laws::engine::torch::cuda::memory),
        }
    }

    /// Versions of what a run's last bits depend on.
    pub fn versions(self) -> String {
        match self {
            Self::Cpu => "cpu engine".into(),
            #[cfg(feature = "torch")]
            Self::Torch(device) => torch::versions(device),
        }
    }

    /// The library of matrix products on the CPU.
    pub fn blas(self) -> String {
        match self {
            Self::Cpu => "no BLAS".into(),
            #[cfg(feature = "torch")]
            Self::Torch(_) => torch::blas(),
        }
    }

    /// FLOP/s of a square matrix product, where libtorch computes it.
    pub fn matmul_rate(self, threads: i32, precision: Precision) -> Option<f64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(device) => Some(torch::matmul_rate(device, threads, precision)),
        }
    }
}

/// Refuses what only libtorch does, where it does not compute.
pub fn needs_libtorch(name: &str, value: impl ToString) -> Error {
    let requirement = if cfg!(feature = "torch") {
        "needs libtorch: use --engine torch"
    } else {
        "needs libtorch, and this program is built without: cargo run -p replication --features \
         torch"
    };
    Error::setting(name, value, requirement)
}

/// How many GPUs this process can use.
#[cfg(not(feature = "torch"))]
pub fn gpus() -> usize {
    0
}

/// What libtorch refused, if that is what a panic is.
#[cfg(not(feature = "torch"))]
pub fn refusal(_panic: &(dyn std::any::Any + Send)) -> Option<Error> {
    None
}
