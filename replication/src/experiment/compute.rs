//! The engine and its device. Only this module and [`ranks`](super::ranks) depend on libtorch.

#[cfg(feature = "torch")]
mod torch;

#[cfg(feature = "torch")]
pub use torch::gpus;

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

/// How ranks add their gradients; only libtorch has it.
#[cfg(not(feature = "torch"))]
pub trait Collectives {}

/// An engine on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// This project's CPU engine.
    Cpu,
    /// libtorch.
    #[cfg(feature = "torch")]
    Torch(tch::Device),
}

/// The engine that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", into = "EngineKind")]
pub enum EngineChoice {
    /// libtorch for bf16 and on a GPU, otherwise the CPU engine.
    Auto,
    /// This project's CPU engine.
    Cpu,
    /// libtorch.
    Torch,
}

impl EngineChoice {
    /// Resolves auto for a precision and a device (auto, cpu, cuda or cuda:N). The result does not
    /// depend on the features that this program is built with.
    pub fn resolve(self, precision: Precision, device: &str) -> Self {
        let on_gpu = device.starts_with("cuda") || device == "auto" && gpus() > 0;
        match self {
            Self::Auto if !precision.is_f32() || on_gpu => Self::Torch,
            Self::Auto => Self::Cpu,
            chosen => chosen,
        }
    }

    /// The engine; auto means the CPU engine if the device is not known.
    pub fn kind(self) -> EngineKind {
        match self {
            Self::Auto | Self::Cpu => EngineKind::Cpu,
            Self::Torch => EngineKind::Torch,
        }
    }

    /// Whether it is libtorch. Plans of `domain` are identified by their settings, and those of earlier
    /// versions use only libtorch.
    pub fn is_torch(&self) -> bool {
        self.kind().is_torch()
    }
}

impl From<EngineChoice> for EngineKind {
    fn from(choice: EngineChoice) -> Self {
        choice.kind()
    }
}

/// The engine and the device, for commands without settings.
#[derive(Args)]
pub struct ComputeOptions {
    /// The engine: auto is libtorch on a GPU, and otherwise this project's CPU engine.
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

/// How one model is trained.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// CPU threads.
    pub threads: i32,
    /// The passes of a training step.
    pub passes: Passes,
}

impl Compute {
    /// An engine on the device of a name: auto, cpu, cuda or cuda:N.
    ///
    /// # Errors
    /// If the device does not exist, this program is built without the engine, or the engine does not
    /// have this precision.
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

    /// The engine. If several processes train a run together, `ranks` connects them.
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

    /// The names of the devices that workers share if the user asks for `name`: all GPUs, unless one is
    /// named by its number.
    pub fn devices(self, name: &str) -> Vec<String> {
        match self.gpu() {
            Some(_) if ["auto", "cuda"].contains(&name) => {
                (0..gpus()).map(|index| format!("cuda:{index}")).collect()
            }
            Some(index) => vec![format!("cuda:{index}")],
            None => vec![name.to_string()],
        }
    }

    /// `cpu`, or `cuda:N` and the name of the device.
    pub fn device_name(self) -> String {
        match self {
            #[cfg(feature = "torch")]
            Self::Torch(device) => torch::device_name(device),
            Self::Cpu => "cpu".into(),
        }
    }

    /// The device, and the result of the search for a GPU.
    pub fn words(self) -> String {
        let findings = self.findings().map(|findings| format!("; {findings}")).unwrap_or_default();
        let engine = match self {
            Self::Cpu => " (this program's own engine)",
            #[cfg(feature = "torch")]
            Self::Torch(_) => "",
        };
        format!("device {}{engine}{findings}", self.device_name())
    }

    /// The result of the search for a GPU; `None` if there was no search.
    pub fn findings(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(_) => forgetting_laws::engine::torch::cuda::findings(),
        }
    }

    /// Bytes of the GPU's memory in use by all processes, and all its bytes.
    pub fn gpu_memory(self) -> Option<(u64, u64)> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(_) => self.gpu().and_then(forgetting_laws::engine::torch::cuda::memory),
        }
    }

    /// The versions that a run's last bits depend on.
    pub fn versions(self) -> String {
        match self {
            Self::Cpu => "cpu engine".into(),
            #[cfg(feature = "torch")]
            Self::Torch(device) => torch::versions(device),
        }
    }

    /// The vector instructions of the kernels on the CPU. The bits of libtorch depend on them.
    pub fn cpu_capability(self) -> String {
        match self {
            Self::Cpu => forgetting_laws::engine::cpu::vector_instructions().into(),
            #[cfg(feature = "torch")]
            Self::Torch(_) => torch_ext::cpu_capability(),
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

    /// FLOP/s of a square matrix product with libtorch.
    pub fn matmul_rate(self, threads: i32, precision: Precision) -> Option<f64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "torch")]
            Self::Torch(device) => Some(torch::matmul_rate(device, threads, precision)),
        }
    }
}

/// The error if something needs libtorch and another engine is used.
pub fn needs_libtorch(name: &str, value: impl ToString) -> Error {
    let requirement = if cfg!(feature = "torch") {
        "needs libtorch: use --engine torch"
    } else {
        "needs libtorch, and this program is built without it: cargo run -p replication --features \
         torch"
    };
    Error::setting(name, value, requirement)
}

/// How many GPUs this process can use.
#[cfg(not(feature = "torch"))]
pub fn gpus() -> usize {
    0
}
