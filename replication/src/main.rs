//! The replication harness: a command for each figure, and commands for tables of losses.
//!
//! `cargo run -p replication -- fig5` trains what Figure 5 needs and draws it. `fit` fits laws to any
//! table of losses, `predict` predicts further runs with them, `advise` turns them into decisions, and
//! `study` says which run to make next. Without the feature `train` the program has only these four,
//! `draw` and `compare`, and no libtorch.

mod blocks;
mod cli;
mod corner;
mod figures;
mod format;
mod report;
mod results;
mod terminal;

// The one gate of the feature `train`, with `cli::train`.
#[cfg(feature = "train")]
mod experiment;
#[cfg(feature = "train")]
mod inputs;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use cli::{advise, compare, draw, fit, predict, study, train};
use forgetting_laws::{Error, Result};
use std::process::ExitCode;
use terminal::{INTERRUPTED, log};

/// Reproduces the figures of "Scaling Laws for Forgetting during Finetuning with Pretraining Data
/// Injection" (Béthune et al., ICML 2025), and fits its laws to tables of losses.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Training(Box<train::Command>),
    /// Draws every figure, table and the report from a file of results, without training.
    Draw(draw::Options),
    /// Shows the verdicts on every claim from several files of results side by side.
    Compare(compare::Options),
    /// Fits laws to a table of losses: parameters, intervals, errors and plots.
    Fit(Box<fit::Arguments>),
    /// Predicts the losses of other runs with fitted laws.
    Predict(predict::Arguments),
    /// Turns fitted laws into decisions: how much to inject, how large a model, how much data.
    Advise(advise::Options),
    /// Chooses the next run for your own training code, and says what the runs show so far.
    #[command(subcommand)]
    Study(study::Command),
}

fn main() -> ExitCode {
    keep_memory();
    let command = match parse() {
        Ok(command) => command,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return end(terminal::print(&error.to_string()));
        }
        Err(error) => {
            fail(&format!("{}; see replication --help", usage(&error)));
            return ExitCode::from(2);
        }
    };
    train::prepare_process();
    match command.launch() {
        Some(ended) => ended.map_or_else(|error| end(Err(error)), ExitCode::from),
        None => end(command.carry_out()),
    }
}

impl Command {
    /// Starts the ranks of the command, if it asks for several. Returns the exit status.
    fn launch(&self) -> Option<Result<u8>> {
        match self {
            Self::Training(command) => command.launch().transpose(),
            _ => None,
        }
    }

    fn carry_out(self) -> Result<()> {
        match self {
            Self::Training(command) => command.carry_out(),
            Self::Draw(options) => draw::run(&options),
            Self::Compare(options) => compare::run(&options),
            Self::Fit(arguments) => fit::run(*arguments),
            Self::Predict(arguments) => predict::run(arguments),
            Self::Advise(options) => advise::run(options),
            Self::Study(command) => study::run(command),
        }
    }
}

fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error.to_string());
            match error {
                Error::Interrupted => ExitCode::from(INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The command line: the commands above, and one for each figure of the list.
fn program() -> clap::Command {
    train::with_figures(Cli::command())
}

fn parse() -> Result<Command, clap::Error> {
    let matches = program().try_get_matches()?;
    match train::Command::of_figure(&matches)? {
        Some(figure) => Ok(Command::Training(Box::new(figure))),
        None => Ok(Cli::from_arg_matches(&matches)?.command),
    }
}

/// Prints in one line why the process ends, even if the user's input contains line breaks.
fn fail(why: &str) {
    let lines: Vec<_> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    log(&format!("replication: {}", lines.join(" ")));
}

/// What is wrong with the command line.
fn usage(error: &clap::Error) -> String {
    let commands = || {
        let command = program();
        let mut names: Vec<_> = command.get_subcommands().map(|c| c.get_name()).collect();
        names.sort_by_key(|name| !figures::FIGURES.iter().any(|figure| figure.id == *name));
        names.join(", ")
    };
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(name)) => {
            format!("{name} is not a command; the commands are {}", commands())
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => {
            format!("no command or figure was given; the commands are {}", commands())
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

/// Keeps freed memory in the process. Every step allocates and frees the same few megabytes, and glibc
/// would return them to the system and fault them in again each time.
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
