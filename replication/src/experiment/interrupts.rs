//! Signals that end the program while it trains.
//!
//! Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (which clusters send some time before they end a job) end the
//! program with status 130. Runs under way write checkpoints first.

use crate::terminal::{INTERRUPTED, log};
use forgetting_laws::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether runs must write checkpoints and end.
pub static STOP: AtomicBool = AtomicBool::new(false);

type Action = Box<dyn FnMut(i32) + Send>;

/// What a signal does; `None` means that it ends the program.
static ACTION: Mutex<Option<Action>> = Mutex::new(None);

fn action() -> MutexGuard<'static, Option<Action>> {
    ACTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the handlers of this module.
///
/// # Errors
/// If the system refuses.
pub fn catch() -> Result<()> {
    let asked =
        [SIGINT, SIGTERM, SIGUSR1].into_iter().chain((!hangups_are_ignored()).then_some(SIGHUP));
    let mut signals = Signals::new(asked).map_err(Error::io("signals"))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match &mut *action() {
                Some(act) => act(signal),
                // Runs have stopped, and what ends the program is about to be said.
                None if STOP.load(Ordering::Relaxed) && signal != SIGINT => {}
                None => exit(INTERRUPTED.into()),
            }
        }
    });
    Ok(())
}

/// Under `nohup` a closed terminal ends nothing.
#[allow(unsafe_code, reason = "what a signal does has no safe question")]
fn hangups_are_ignored() -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks without setting; what it wrote is read only where it has.
    unsafe {
        libc::sigaction(SIGHUP, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// While it lives, signals have another effect.
pub struct Acting(Option<Action>);

impl Drop for Acting {
    fn drop(&mut self) {
        *action() = self.0.take();
    }
}

/// Gives signals another effect.
pub fn act(with: impl FnMut(i32) + Send + 'static) -> Acting {
    Acting(action().replace(Box::new(with)))
}

/// Makes signals stop runs, which write checkpoints. A second Ctrl-C ends the program at once. A second
/// one of the other signals does not: it is often the first one, sent to a group of processes and
/// passed on.
pub fn stop_runs(says_so: bool) -> Acting {
    let mut told = false;
    act(move |signal| {
        STOP.store(true, Ordering::Relaxed);
        if told && signal == SIGINT {
            exit(INTERRUPTED.into());
        }
        if says_so && !told {
            log("writing checkpoints; Ctrl-C again ends at once");
        }
        told = true;
    })
}
