//! Output for the user: results, messages and progress.

#[cfg(feature = "train")]
mod display;
#[cfg(feature = "train")]
mod transfers;

#[cfg(feature = "train")]
pub use display::Display;
#[cfg(feature = "train")]
pub use transfers::Transfers;

use forgetting_laws::fit::Watch;
use forgetting_laws::{Error, Result};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The status of a program that a signal has ended.
pub const INTERRUPTED: u8 = 130;

/// Writes a line to standard error. If it cannot be written, for example to a full disk, the run
/// continues (with `eprintln` it would panic).
pub fn log(line: &str) {
    let erase = if SHOWN.swap(false, Ordering::Relaxed) { ERASE } else { "" };
    let _ = std::io::stderr().write_all(format!("{erase}{line}\n").as_bytes());
}

/// Whether the last line of the terminal is one of progress.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Erases the line of the terminal.
const ERASE: &str = "\r\x1b[K";

/// Runs a computation of fits and shows on standard error how far it is: on a terminal in one line, which
/// is erased at the end, elsewhere in a line a minute.
///
/// # Errors
/// Those of the computation.
pub fn with_progress<T>(what: &str, compute: impl FnOnce() -> Result<T>) -> Result<T> {
    let watch = Watch::default();
    let (running, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let shown = watch.clone();
        scope.spawn(move || show(what, &shown, &ended));
        // Dropped at the end, also of a computation that panics, which ends the thread.
        let _running = running;
        watch.run(compute)
    })
}

fn show(what: &str, watch: &Watch, ended: &Receiver<()>) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { Duration::from_millis(500) } else { Duration::from_secs(60) };
    while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let line = progress(what, watch.progress());
        if terminal {
            SHOWN.store(true, Ordering::Relaxed);
            let _ = std::io::stderr().write_all(format!("{ERASE}{line}").as_bytes());
        } else {
            log(&line);
        }
    }
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = std::io::stderr().write_all(ERASE.as_bytes());
    }
}

/// The total is that of the parts known so far.
fn progress(what: &str, (done, total): (usize, usize)) -> String {
    format!("{what}: {done} of {total} small fits")
}

/// Writes text to standard output.
///
/// # Errors
/// If it cannot be written. A closed pipe is not an error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("standard output")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computation_with_progress_gives_its_result_and_ends_its_thread() {
        assert_eq!(with_progress("x", || Ok(7)).unwrap(), 7);
        let refused = with_progress("x", || Err::<(), _>(Error::missing("--x", "give it")));
        assert_eq!(refused.unwrap_err().to_string(), "--x is missing: give it");
        // A thread that went on would keep the scope from ending.
        let panicked = std::panic::catch_unwind(|| {
            let _ = with_progress("x", || -> Result<()> { std::panic::resume_unwind(Box::new(3)) });
        });
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&3));
        assert_eq!(progress("real", (20, 1000)), "real: 20 of 1000 small fits");
    }
}
