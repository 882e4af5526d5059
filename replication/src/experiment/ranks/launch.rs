//! Starts the ranks on this machine.

use super::RankOptions;
use super::group::rank_lost;
use crate::experiment::interrupts;
use crate::terminal::log;
use forgetting_laws::{Error, Result};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use torch_ext::{Place, Store};

/// How long the other ranks have to end by themselves after one has failed.
const GRACE: Duration = Duration::from_secs(20);

/// How often the processes are polled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts this program once per rank and waits for all. A signal to this process is passed on to them.
/// Returns the exit status: that of the first rank, or of the first rank that failed.
///
/// # Errors
/// If a process cannot be started.
pub fn launch(options: &RankOptions) -> Result<u8> {
    let store = Store::serve(0).map_err(rank_lost)?;
    let place = |rank| Place::local(rank, options.ranks.into(), store.port());
    let mut children = Vec::new();
    for rank in 0..usize::from(options.ranks) {
        match start(&place(rank)) {
            Ok(child) => children.push(child),
            Err(error) => {
                end(&mut children);
                return Err(error);
            }
        }
    }
    let ids: Vec<u32> = children.iter().map(Child::id).collect();
    let running = Arc::new(Mutex::new(ids));
    let told = Arc::clone(&running);
    let _passing_on = interrupts::act(move |signal| {
        let running = told.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().for_each(|&id| send(signal, id));
    });
    let statuses = wait(&mut children, &running);
    for (rank, status) in statuses.iter().enumerate() {
        if let Some(signal) = status.signal() {
            log(&format!("rank {rank} was ended by signal {signal}"));
        }
    }
    let failed = statuses.iter().find(|status| !status.success());
    let code = |status: &ExitStatus| u8::try_from(status.code().unwrap_or(1)).unwrap_or(1);
    Ok(failed.map_or(0, code))
}

fn start(place: &Place) -> Result<Child> {
    let program = std::env::current_exe().map_err(Error::io("this program"))?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).envs(place.variables()).stdin(Stdio::null());
    if place.rank > 0 {
        command.stdout(Stdio::null());
    }
    // In a group of its own, Ctrl-C reaches it through this process alone, and once.
    command.process_group(0);
    die_with_parent(&mut command);
    command.spawn().map_err(Error::io(program))
}

/// Waits for all. After one has failed, the others are killed if they do not end.
fn wait(children: &mut [Child], running: &Mutex<Vec<u32>>) -> Vec<ExitStatus> {
    let mut statuses: Vec<Option<ExitStatus>> = vec![None; children.len()];
    let mut failed: Option<Instant> = None;
    loop {
        for (child, status) in children.iter_mut().zip(&mut statuses) {
            if status.is_none()
                && let Ok(Some(ended)) = child.try_wait()
            {
                *status = Some(ended);
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                running.retain(|&id| id != child.id());
                if !ended.success() {
                    failed.get_or_insert_with(Instant::now);
                }
            }
        }
        if let Some(statuses) = statuses.iter().copied().collect() {
            return statuses;
        }
        if failed.is_some_and(|at| at.elapsed() > GRACE) {
            end(children);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn end(children: &mut [Child]) {
    for child in children {
        // One that has ended already is no failure.
        let _ = child.kill();
    }
}

#[allow(unsafe_code, reason = "kill has no safe wrapper")]
fn send(signal: i32, id: u32) {
    // SAFETY: sends a signal; the process is a child of ours that has not been waited for.
    unsafe {
        libc::kill(id as libc::pid_t, signal);
    }
}

/// If the system supports it, the ranks write checkpoints and end when this process is killed.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "prctl has no safe wrapper")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
