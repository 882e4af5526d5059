//! The provenance of a run: machine, versions, data, times. Nothing here affects a result beyond its
//! last bits.

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

/// The machine and the versions that a run was carried out with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `forgetting-laws` and its commit, with `-dirty` if files were changed.
    pub software: String,
    /// The engine.
    #[serde(default, skip_serializing_if = "EngineKind::is_torch")]
    pub engine: EngineKind,
    /// The versions of libtorch (and of CUDA if it computes), of the bindings, and the compiler's
    /// target.
    pub versions: String,
    /// `cpu`, or `cuda:N` and the name of the GPU.
    pub device: String,
    /// The vector instructions of the kernels on the CPU. The bits of libtorch depend on them.
    pub cpu_capability: String,
    /// The processor's name, if the system says.
    pub processor: String,
    /// The library of matrix products on the CPU.
    pub blas: String,
    /// Intra-op threads of the run.
    pub threads: i32,
    /// The number of ranks that trained it together.
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
            cpu_capability: compute.cpu_capability(),
            processor: processor(),
            blas: compute.blas(),
            threads,
            ranks: one(),
        }
    }

    /// A description in one line.
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

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_string())
}

/// A run's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// The run's label.
    pub label: String,
    /// The machine and versions of the last session.
    pub machine: Machine,
    /// Hex SHA-256 of the token streams and the tokenizer.
    pub data: DataStats,
    /// Every session in which a process worked on the run. The length of a session that was killed is
    /// unknown.
    pub sessions: Vec<Session>,
}

/// The distinct machines on which runs were last worked on, one line each. For runs taken from a
/// `results.json`, the machines named there. A manifest that cannot be read counts as an unknown
/// machine.
pub fn machines<'a>(store: &Store, runs: impl Iterator<Item = &'a RunId>) -> Vec<String> {
    let lines = runs.flat_map(|id| {
        let folder = store.folder(id);
        let known = KnownRun::read(&folder).ok().flatten();
        let here = RunManifest::read(&folder).map(|manifest| manifest.machine.line());
        let unknown = (known.is_none() && here.is_none()).then(|| "unknown machine".into());
        known.map(|known| known.machines).unwrap_or_default().into_iter().chain(here).chain(unknown)
    });
    lines.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Seconds that a run's thread kept a core busy; for a run taken from a `results.json`, the number in
/// it. `None` if not all are known.
pub fn core_seconds(store: &Store, id: &RunId) -> Option<f64> {
    let folder = store.folder(id);
    match RunManifest::read(&folder) {
        Some(manifest) => manifest.sessions.iter().map(|session| session.cpu_seconds).sum(),
        None => KnownRun::read(&folder).ok().flatten()?.core_seconds,
    }
}

/// A session in which a process worked on a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The start, in seconds since 1970.
    pub started: u64,
    /// The length in seconds; `None` while the session lasts, or if it was killed.
    pub seconds: Option<f64>,
    /// Core-seconds that the run's own thread used; these are all if the run has only one thread.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// The memory used by the end of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The most that the process has used, including all its workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_peak: Option<u64>,
    /// The memory in use on the GPU by all processes; libtorch keeps memory that it has allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_device: Option<u64>,
    /// The memory of the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_device: Option<u64>,
}

impl Memory {
    /// The present use.
    pub fn now(compute: Compute) -> Self {
        let on_device = compute.gpu_memory();
        Self {
            process_peak: peak_memory(),
            on_device: on_device.map(|(used, _)| used),
            of_device: on_device.map(|(_, total)| total),
        }
    }

    /// The memory in use, as text for the end of a line; empty if nothing is known.
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

/// The most memory that this process has used, if the system says.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The file of the manifest in a run's folder.
pub const MANIFEST: &str = "manifest.json";

impl RunManifest {
    /// The manifest of a run's folder, if it exists and can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let bytes = std::fs::read(folder.join(MANIFEST)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Seconds of all sessions; `None` if not all are known.
    pub fn seconds(&self) -> Option<f64> {
        self.sessions.iter().map(|session| session.seconds).sum()
    }

    /// Adds a session to the manifest in the claim's folder, or starts a new manifest, and writes it.
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
