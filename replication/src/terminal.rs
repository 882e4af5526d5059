//! What the user sees: results, messages, and how far runs are.

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

/// A line on standard error. Where it cannot be written, as to a file on a full disk, the run goes
/// on, which `eprintln` would not let it do.
pub fn log(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Text on standard output.
///
/// # Errors
/// If it cannot be written; that nobody reads to the end is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("standard output")),
    }
}
