//! How a run came about: machine, versions, data, times. Nothing here decides a result, but for
//! the last bits of it.

use crate::experiment::compute::Compute;
use crate::experiment::data::DataStats;
use crate::experiment::known::KnownRun;
use forgetting_laws::Result;
use forgetting_laws::run::{EngineKind, RunId};
use forgetting_laws::store::{Claim, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// This program and its commit.
pub fn program() -> String {
    format!("forgetting-laws {} commit {}", env!("CARGO_PKG_VERSION"), env!("REPLICATION_COMMIT"))
}

/// What a run was carried out on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `forgetting-laws` and its commit, with `-dirty` where files were changed.
    pub software: String,
    /// What computed it.
    #[serde(default, skip_serializing_if = "EngineKind::is_torch")]
    pub engine: EngineKind,
    /// Of libtorch, and of its CUDA half where that computes, the bindings and the compiler's target.
    pub versions: String,
    /// `cpu`, or `cuda:N` and what it is called.
    pub device: String,
    /// The instruction set that libtorch's CPU kernels use, whose bits depend on it.
    pub cpu_capability: String,
    /// The processor's name, where the system tells it.
    pub processor: String,
    /// The library of matrix products on the CPU.
    pub blas: String,
    /// Intra-op threads of the run.
    pub threads: i32,
    /// Processes that carried it out together.
    #[serde(default = "one")]
    pub ranks: usize,
}

fn one() -> usize {
    1
}

impl Machine {
    /// This machine.
    pub fn here(compute: Compute, threads: i32) -> Self {
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        Self {
            software: program(),
            engine: compute.kind(),
            versions: format!("{}, {arch} {os}", compute.versions()),
            device: compute.device_name(),
            cpu_capability: cpu_capability(),
            processor: processor(),
            blas: compute.blas(),
            threads,
            ranks: one(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { software, versions, device, cpu_capability, processor, .. } = self;
        let Self { blas, threads, ranks, .. } = self;
        let ranks = if *ranks > 1 { format!(", {ranks} ranks") } else { String::new() };
        format!(
            "{software}; {versions}; device {device}, {processor} ({cpu_capability}), {blas}, \
             {threads} thread(s) a run{ranks}"
        )
    }
}

/// As libtorch chooses: the variable ATEN_CPU_CAPABILITY, else the best that the processor has.
fn cpu_capability() -> String {
    if let Ok(chosen) = std::env::var("ATEN_CPU_CAPABILITY") {
        return format!("{chosen} (ATEN_CPU_CAPABILITY)");
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            return "AVX512".into();
        }
        if avx2 {
            return "AVX2".into();
        }
    }
    "DEFAULT".into()
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_string())
}

/// A run's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// For people.
    pub label: String,
    /// Where the run was last worked on.
    pub machine: Machine,
    /// Hex SHA-256 of the token streams and the tokenizer.
    pub data: DataStats,
    /// Every time that a process worked on the run: start in seconds since 1970, and seconds of
    /// work (up to a kill, nothing is known of a session's length).
    pub sessions: Vec<Session>,
}

/// What runs were last worked on, each in one line and once; of those that were taken from tables, the
/// tables' machines. A run whose manifest cannot be read says so: its result stands.
pub fn machines<'a>(store: &Store, runs: impl Iterator<Item = &'a RunId>) -> Vec<String> {
    let lines = runs.flat_map(|id| {
        let folder = store.folder(id);
        let known = KnownRun::read(&folder).ok().flatten();
        let here = Manifest::read(&folder).map(|manifest| manifest.machine.line());
        let unknown = (known.is_none() && here.is_none()).then(|| "unknown machine".into());
        known.map(|known| known.machines).unwrap_or_default().into_iter().chain(here).chain(unknown)
    });
    lines.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Seconds that a run's thread kept a core busy; of a run that was taken from a table, what the table
/// says. None where not all are known.
pub fn core_seconds(store: &Store, id: &RunId) -> Option<f64> {
    let folder = store.folder(id);
    match Manifest::read(&folder) {
        Some(manifest) => manifest.sessions.iter().map(|session| session.cpu_seconds).sum(),
        None => KnownRun::read(&folder).ok().flatten()?.core_seconds,
    }
}

/// A time that a process worked on a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Seconds since 1970.
    pub started: u64,
    /// Seconds; None while it goes on, and for ever where it was killed.
    pub seconds: Option<f64>,
    /// Seconds of a processor that the run's own thread used; all of them where it has only one.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// What memory was needed by its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The most that the process ever held, with all its workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_peak: Option<u64>,
    /// In use on the GPU, by all processes: libtorch keeps what it once took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_device: Option<u64>,
    /// What the GPU has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_device: Option<u64>,
}

impl Memory {
    /// As it is now.
    pub fn now(compute: Compute) -> Self {
        let on_device = compute.gpu_memory();
        Self {
            process_peak: peak_memory(),
            on_device: on_device.map(|(used, _)| used),
            of_device: on_device.map(|(_, total)| total),
        }
    }

    /// In words, as the end of a line; empty where nothing is known.
    pub fn words(&self) -> String {
        match *self {
            Self { on_device: Some(used), of_device: Some(total), .. } => {
                format!(
                    ", {:.1} of {:.1} GB of the GPU in use",
                    used as f64 / 1e9,
                    total as f64 / 1e9
                )
            }
            Self { process_peak: Some(peak), .. } => {
                format!(", {:.0} MB of memory", peak as f64 / 1e6)
            }
            _ => String::new(),
        }
    }
}

/// The most memory that this process ever held, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Its file in a run's folder.
pub const MANIFEST: &str = "manifest.json";

impl Manifest {
    /// That of a run's folder, if it is there and can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let bytes = std::fs::read(folder.join(MANIFEST)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Seconds that were worked on the run; None where not all are known.
    pub fn seconds(&self) -> Option<f64> {
        self.sessions.iter().map(|session| session.seconds).sum()
    }

    /// The manifest in the claim's folder with a session more, or a new one; written at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(claim: &Claim, label: &str, machine: &Machine, data: &DataStats) -> Result<Self> {
        let mut sessions =
            Self::read(claim.folder()).map(|manifest| manifest.sessions).unwrap_or_default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        sessions.push(Session { started, seconds: None, cpu_seconds: None, memory: None });
        let manifest = Self {
            label: label.to_string(),
            machine: machine.clone(),
            data: data.clone(),
            sessions,
        };
        claim.write_json(MANIFEST, &manifest)?;
        Ok(manifest)
    }

    /// Ends the session.
    pub fn end_session(&mut self, seconds: Duration, cpu_seconds: f64, memory: Memory) {
        if let Some(session) = self.sessions.last_mut() {
            session.seconds = Some(seconds.as_secs_f64());
            session.cpu_seconds = Some(cpu_seconds);
            session.memory = Some(memory);
        }
    }
}

/// Seconds of a processor that this thread has used; 0 where the system does not tell.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the thread's clock has no safe wrapper")]
pub fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    if status == 0 { time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64 } else { 0.0 }
}

/// Seconds of a processor that this thread has used; 0 where the system does not tell.
#[cfg(not(unix))]
pub fn cpu_seconds() -> f64 {
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_touched_counts() {
        let before = Memory::now(Compute::Cpu);
        let much = vec![1u8; 100_000_000];
        assert!(much.iter().step_by(4096).all(|&byte| byte == 1));
        let after = Memory::now(Compute::Cpu);
        // Other tests may have held as much before.
        assert!(after.process_peak.unwrap() >= before.process_peak.unwrap().max(100_000_000));
        assert_eq!((after.on_device, after.of_device), (None, None));
        assert!(after.words().ends_with(" MB of memory"), "{}", after.words());
        let gpu =
            Memory { on_device: Some(2_000_000_000), of_device: Some(80_000_000_000), ..after };
        assert_eq!(gpu.words(), ", 2.0 of 80.0 GB of the GPU in use");
    }

    #[test]
    fn manifests_of_before_are_read() {
        let session = r#"{"started":7,"seconds":1.5}"#;
        let session: Session = serde_json::from_str(session).unwrap();
        assert_eq!((session.started, session.memory), (7, None));
    }
}
