//! The replication harness: a command for each figure, and commands for tables of losses.
//!
//! `cargo run -p replication -- fig5` trains what Figure 5 needs and draws it; `fit` takes anyone's
//! losses and finds their laws, `predict` asks these of runs that nobody made, and `advise` turns
//! them into decisions. Without the feature `train` there are these three alone, and no libtorch.

mod advise;
#[cfg(feature = "train")]
mod config;
#[cfg(feature = "train")]
mod data;
#[cfg(feature = "train")]
mod exec;
#[cfg(feature = "train")]
mod fig5;
#[cfg(feature = "train")]
mod figures;
mod fit;
mod losses;
mod plot;
mod predict;
mod progress;
#[cfg(feature = "train")]
mod provenance;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use forgetting_laws::Error;
use progress::complain;
use std::process::ExitCode;

/// Re-runs the figures of "Scaling Laws for Forgetting during Finetuning with Pretraining Data
/// Injection" (Béthune et al., ICML 2025), and fits its laws to tables of losses.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Figure 5: learning rates of finetuning over model scales and mixtures.
    #[cfg(feature = "train")]
    Fig5(figures::Options),
    /// Fits laws to a table of losses: coefficients, intervals, errors and drawings.
    Fit(Box<fit::Arguments>),
    /// Says what fitted laws predict for other runs.
    Predict(predict::Arguments),
    /// Turns fitted laws into decisions: how much to inject, how large a model, how much data.
    Advise(advise::Options),
}

fn main() -> ExitCode {
    keep_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            fail(&format!("{}; see replication --help", usage(&error)));
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "train")]
    figures::report_bugs_alone();
    let result = match cli.command {
        #[cfg(feature = "train")]
        Command::Fig5(options) => figures::run(options),
        Command::Fit(arguments) => fit::run(*arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Advise(options) => advise::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error.to_string());
            match error {
                Error::Interrupted => ExitCode::from(130),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Says in one line why the process ends; what the user wrote may hold line ends.
fn fail(why: &str) {
    let lines: Vec<_> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    complain(&format!("replication: {}", lines.join(" ")));
}

/// What is wrong with the command line.
fn usage(error: &clap::Error) -> String {
    let commands = || {
        let command = Cli::command();
        let names: Vec<_> = command.get_subcommands().map(|c| c.get_name().to_string()).collect();
        names.join(", ")
    };
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(name)) => {
            format!("{name} is no command; there is {}", commands())
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => {
            format!("no figure or other command was named; there is {}", commands())
        }
        _ => {
            let text = error.to_string();
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
            // What would be right stands on a line of its own.
            let second = lines
                .next()
                .filter(|line| line.starts_with("[possible") || first.ends_with("not provided:"));
            match second {
                Some(second) => format!("{first} {second}"),
                None => first.trim_end_matches(':').to_string(),
            }
        }
    }
}

/// Keeps freed memory in the process. A step allocates and frees the same few megabytes over and
/// over; glibc would give them back to the system each time, and fault them in again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "mallopt has no safe wrapper")]
fn keep_memory() {
    const HALF_A_GIBIBYTE: libc::c_int = 1 << 29;
    // SAFETY: called before any other thread exists; mallopt only sets the allocator's limits.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, HALF_A_GIBIBYTE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, HALF_A_GIBIBYTE);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
