//! Whether runs fit the memory of their device, and how many sequences they take per pass.

use crate::experiment::job::Job;
use forgetting_laws::memory::{Asked, Passes, Workload, gigabytes};
use forgetting_laws::run::{EngineKind, Spec};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The memory of a device that runs may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceMemory {
    /// As many as the memory of the device allows.
    #[default]
    Auto,
    /// This many bytes.
    Bytes(u64),
}

/// The units of memory, longest names first.
const UNITS: [(&str, f64); 4] =
    [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("GB", 1e9), ("MB", 1e6)];

impl DeviceMemory {
    /// The default, which settings leave out.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl TryFrom<String> for DeviceMemory {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let bytes = UNITS.iter().find_map(|(unit, bytes)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            Some(number * bytes)
        });
        match bytes {
            Some(bytes) if (1e6..1e18).contains(&bytes) => Ok(Self::Bytes(bytes as u64)),
            _ => Err(format!("{text} must be auto or an amount such as 80GB, 79GiB or 500MB")),
        }
    }
}

impl From<DeviceMemory> for String {
    fn from(memory: DeviceMemory) -> Self {
        memory.to_string()
    }
}

impl fmt::Display for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => write!(f, "{}MB", *bytes as f64 / 1e6),
        }
    }
}

/// Whether blocks are recomputed in the backward pass instead of keeping their activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// If a model does not fit otherwise.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Recompute {
    /// The default, which settings leave out.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// `None` means whatever fits.
    pub fn asked(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::On => Some(true),
            Self::Off => Some(false),
        }
    }
}

/// The memory that runs may use.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The engine.
    pub engine: EngineKind,
    /// Whether the engine computes on a GPU.
    pub on_gpu: bool,
    /// Threads per run.
    pub threads: usize,
    /// The number of ranks that train a run together.
    pub ranks: usize,
    /// What the settings ask of passes.
    pub asked: Asked,
    /// Bytes of the device; `None` if unknown.
    pub device: Option<u64>,
    /// How many runs or ranks share the device.
    pub sharing: usize,
}

impl Budget {
    /// What a run trains; `None` if it trains nothing.
    pub fn workload(&self, job: &Job) -> Option<Workload> {
        let batch = match &job.spec {
            Spec::Pretrain(spec) => spec.batch,
            Spec::Finetune(spec) => spec.batch,
            Spec::Import(_) => return None,
        };
        Some(Workload {
            shape: job.shape,
            engine: self.engine,
            on_gpu: self.on_gpu,
            precision: job.spec.precision(),
            threads: self.threads,
            batch: (batch as usize).div_ceil(self.ranks),
        })
    }

    /// The passes of a run.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn passes(&self, job: &Job) -> Result<Passes> {
        let Some(workload) = self.workload(job) else {
            return Ok(Passes { micro_batch: 1, recompute: false });
        };
        let share = self.device.map(|bytes| bytes / self.sharing as u64);
        workload.choose(self.asked, share).map_err(|error| match error {
            Error::Setting { requirement, .. } => {
                let sharing = match self.sharing {
                    1 => String::new(),
                    runs => format!(", which {runs} runs share,"),
                };
                let bytes = gigabytes(self.device.unwrap_or_default());
                let value = format!("{bytes:.3} GB{sharing} for {}", job.size);
                Error::setting("run.device_memory", value, requirement)
            }
            error => error,
        })
    }
}

/// Bytes of memory that this process may use, if the system says: those of the machine, or the limit of
/// its control group.
pub fn of_system() -> Option<u64> {
    let all = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = all.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let bound = bound.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some(bound.min(kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_unit() {
        let read = |text: &str| DeviceMemory::try_from(text.to_string());
        assert_eq!(read("auto"), Ok(DeviceMemory::Auto));
        assert_eq!(read("80GB"), Ok(DeviceMemory::Bytes(80_000_000_000)));
        assert_eq!(read("0.5 GiB"), Ok(DeviceMemory::Bytes(1 << 29)));
        for memory in ["1.5GB", "3MiB"].map(|text| read(text).unwrap()) {
            assert_eq!(read(&memory.to_string()), Ok(memory));
        }
        for bad in ["", "80", "GB", "-1GB", "nanGB", "1e30GB", "80 TB", "0GB"] {
            assert!(read(bad).unwrap_err().contains("80GB"), "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_has_memory() {
        assert!(of_system().unwrap() > 1 << 26);
    }
}
