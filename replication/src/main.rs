//! The replication harness: a command for each figure, and commands for tables of losses.
//!
//! `cargo run -p replication -- fig5` trains what Figure 5 needs and draws it; `fit` takes anyone's
//! losses and finds their laws, `predict` asks these of runs that nobody made, and `advise` turns
//! them into decisions; `study` says which run to make next. Without the feature `train` there are
//! these four, `draw` and `compare` alone, and no libtorch.

mod blocks;
mod cli;
mod corner;
#[cfg(feature = "train")]
mod experiment;
mod figures;
mod format;
#[cfg(feature = "train")]
mod inputs;
mod report;
#[cfg_attr(
    not(feature = "train"),
    allow(dead_code, reason = "a part of it serves the commands that train")
)]
mod results;
mod terminal;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
#[cfg(feature = "train")]
use cli::train;
use cli::{advise, compare, draw, fit, predict, study};
#[cfg(feature = "train")]
use experiment::interrupts;
use std::process::ExitCode;
use terminal::log;

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
    #[cfg(feature = "train")]
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
    let call = match parse() {
        Ok(call) => call,
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
    {
        train::report_bugs_alone();
        if let Err(error) = interrupts::catch() {
            log(&format!("a signal will end this without a last checkpoint: {error}"));
        }
        if let Some(ended) = call.launch() {
            return ended.map_or_else(|error| end(Err(error)), ExitCode::from);
        }
    }
    end(call.carry_out())
}

fn carry_out(command: Command) -> forgetting_laws::Result<()> {
    match command {
        #[cfg(feature = "train")]
        Command::Training(command) => command.carry_out(),
        Command::Draw(options) => draw::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Fit(arguments) => fit::run(*arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Advise(options) => advise::run(options),
        Command::Study(command) => study::run(command),
    }
}

fn end(result: forgetting_laws::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error.to_string());
            match error {
                #[cfg(feature = "train")]
                forgetting_laws::Error::Interrupted => ExitCode::from(interrupts::INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// What the user asks for.
enum Call {
    Command(Box<Command>),
    /// A figure or a table of the list.
    #[cfg(feature = "train")]
    Figure(&'static figures::Figure, Box<train::FigureOptions>),
}

impl Call {
    /// Starts several processes for the command if it asks for them; returns the exit status.
    #[cfg(feature = "train")]
    fn launch(&self) -> Option<forgetting_laws::Result<u8>> {
        let launched = match self {
            Self::Figure(figure, options) => train::launch(options, Some(figure.blocks)),
            Self::Command(command) => match &**command {
                Command::Training(command) => command.launch(),
                _ => Ok(None),
            },
        };
        launched.transpose()
    }

    fn carry_out(self) -> forgetting_laws::Result<()> {
        match self {
            Self::Command(command) => carry_out(*command),
            #[cfg(feature = "train")]
            Self::Figure(figure, options) => train::figure(figure, &options),
        }
    }
}

/// The command line: the commands above, and one for each figure of the list.
fn program() -> clap::Command {
    #[cfg(feature = "train")]
    {
        use clap::Args;
        figures::FIGURES.iter().fold(Cli::command(), |program, figure| {
            let about = format!("{}: {}", figure.paper, figure.title);
            let command = train::FigureOptions::augment_args(clap::Command::new(figure.id));
            // After the options, which bring a text of their own.
            program.subcommand(command.about(about))
        })
    }
    #[cfg(not(feature = "train"))]
    Cli::command()
}

fn parse() -> Result<Call, clap::Error> {
    let matches = program().try_get_matches()?;
    #[cfg(feature = "train")]
    if let Some((name, matches)) = matches.subcommand()
        && let Some(figure) = figures::FIGURES.iter().find(|figure| figure.id == name)
    {
        use clap::FromArgMatches;
        let options = train::FigureOptions::from_arg_matches(matches)?;
        return Ok(Call::Figure(figure, Box::new(options)));
    }
    let cli = <Cli as clap::FromArgMatches>::from_arg_matches(&matches)?;
    Ok(Call::Command(Box::new(cli.command)))
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
