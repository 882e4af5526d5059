//! Helpers: further processes that work on the same runs, several on one GPU or on several GPUs.
//!
//! A small run leaves a GPU waiting for its process. A process has one thread for automatic
//! differentiation on a device and one queue of computations there, so several runs at once need
//! several processes (with NVIDIA's MPS they also compute at the same time). Each helper is this
//! program with one worker. The store prevents two processes from working on the same run, as for the
//! jobs of a cluster, and no result depends on which process made it.
//!
//! A helper reads from its standard input which runs it must work on. Standard input stays open. When
//! it is closed, for whatever reason the first process has ended, the helper writes its checkpoints and
//! ends too.

use super::options::Options;
use super::session::Session;
use crate::experiment::interrupts::STOP;
use crate::experiment::job::Job;
use forgetting_laws::{Error, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

/// Running helpers. When this is dropped, they are told to end and waited for.
pub struct Helpers(Vec<Child>);

impl Helpers {
    /// Starts all workers except the first, which is this process, on the jobs of a session. The output
    /// of a helper goes to `workers/DEVICE-I.log` in the output folder.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn start(session: &Session, jobs: &[Job]) -> Result<Self> {
        let mut helpers = Self(Vec::new());
        let Session { options, blocks, sizes, out, .. } = session;
        let Some(each) = options.workers_per_device else { return Ok(helpers) };
        let devices = session.compute.devices(&options.device);
        let program = std::env::current_exe().map_err(Error::io("this program"))?;
        let logs = out.join("workers");
        std::fs::create_dir_all(&logs).map_err(Error::io(&logs))?;
        let runs = jobs.iter().map(|job| format!("{}\n", job.spec.id()));
        let list: String = runs.chain(["\n".into()]).collect();
        for i in 1..each * devices.len() {
            let device = &devices[i % devices.len()];
            let mut own = Options { device: device.clone(), ..options.clone() };
            own.workers_per_device = None;
            own.set.push("run.workers=1".into());
            let name = format!("{}-{}.log", device.replace(':', ""), i / devices.len());
            let path = logs.join(name);
            let log = File::create(&path).map_err(Error::io(&path))?;
            let mut call = Command::new(&program);
            call.arg("run").args(own.arguments(out)).arg("--helper").stdin(Stdio::piped());
            call.args(blocks.iter().flat_map(|block| ["--block", block]));
            call.args(sizes.iter().flat_map(|size| ["--size", size]));
            call.stdout(log.try_clone().map_err(Error::io(&path))?).stderr(log);
            let mut child = call.spawn().map_err(Error::io(&program))?;
            let pipe = child.stdin.as_mut();
            // One that is gone by now has said why in its log; the others do its work.
            let _ = pipe.map(|pipe| pipe.write_all(list.as_bytes()));
            helpers.0.push(child);
        }
        Ok(helpers)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Reads the runs that a helper must work on. From then on the end of its standard input stops it like
/// an interrupt.
///
/// # Errors
/// If standard input cannot be read.
pub fn told() -> Result<BTreeSet<String>> {
    let mut lines = std::io::stdin().lock().lines();
    let mut runs = BTreeSet::new();
    loop {
        match lines.next().transpose().map_err(Error::io("standard input"))? {
            None => {
                STOP.store(true, Ordering::Relaxed);
                break;
            }
            Some(line) if line.is_empty() => break,
            Some(line) => drop(runs.insert(line)),
        }
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        STOP.store(true, Ordering::Relaxed);
    });
    Ok(runs)
}
