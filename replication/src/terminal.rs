//! Output for the user: results, messages and progress.

#[cfg(feature = "train")]
mod display;
#[cfg(feature = "train")]
mod transfers;

#[cfg(feature = "train")]
pub use display::Display;
#[cfg(feature = "train")]
pub use transfers::Transfers;

use forgetting_laws::{Error, Result};
use std::io::{ErrorKind, Write};

/// The status of a program that a signal has ended.
pub const INTERRUPTED: u8 = 130;

/// Writes a line to standard error. If it cannot be written, for example to a full disk, the run
/// continues (with `eprintln` it would panic).
pub fn log(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
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
