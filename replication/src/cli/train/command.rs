//! The commands that train, and those for what training needs: models, texts, tokenizers.

use super::domain::{DomainOptions, run as domain};
use super::options::{BlockOptions, FigureOptions, Options, RunOptions, SlurmOptions};
use super::{all, export, figure, launch, launch_run, plan, report, run, slurm, status};
use super::{data as datasets, distance, eval, retention, sample, tokenizer};
use crate::figures::{FIGURES, Figure};
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use forgetting_laws::Result;

/// A command of the program.
#[derive(Subcommand)]
pub enum Command {
    /// Reproduces the whole paper: trains the grid, draws every figure and table, writes the
    /// report.
    All(FigureOptions),
    /// Shows the runs of the grid, their cost on this machine, and which are done or left.
    Plan(BlockOptions),
    /// Says how much to inject for your own text: trains the most informative runs within a time
    /// budget.
    Domain(Box<DomainOptions>),
    /// Trains runs of the grid without drawing.
    Run(Box<RunOptions>),
    /// Writes job arrays for Slurm that divide the runs of the grid through a shared folder.
    Slurm(Box<SlurmOptions>),
    /// Shows which runs are done, under way, failed or left.
    Status(BlockOptions),
    /// Writes the tables of losses of the finished runs.
    Export(Options),
    /// Draws every figure and table from the finished runs and writes the report.
    Report(Options),
    /// Measures the loss of a model on any text.
    Eval(eval::EvalOptions),
    /// Measures how much of a text a model forgot in finetuning, by document and slice.
    Retention(retention::RetentionOptions),
    /// Generates text with a model, to see what it knows and what it forgot.
    Sample(sample::SampleOptions),
    /// Lists, fetches, verifies and inspects data sets, and prepares token stores.
    Data(datasets::Options),
    /// Measures how far domains are from the pretraining data, by several measures of their text.
    Distance(distance::Options),
    /// Trains a tokenizer on text and saves it as a tokenizer.json.
    Tokenizer(tokenizer::Options),
    /// A figure or a table of the list, whose command has its name.
    #[command(skip)]
    Figure(&'static Figure, Box<FigureOptions>),
}

/// Adds a command for each figure of the list.
pub fn with_figures(program: clap::Command) -> clap::Command {
    FIGURES.iter().fold(program, |program, figure| {
        let about = format!("{}: {}", figure.paper, figure.title);
        let command = FigureOptions::augment_args(clap::Command::new(figure.id));
        // After the options, which bring a text of their own.
        program.subcommand(command.about(about))
    })
}

impl Command {
    /// The figure that the command line names, if any.
    ///
    /// # Errors
    /// If its options are invalid.
    pub fn of_figure(matches: &ArgMatches) -> Result<Option<Self>, clap::Error> {
        let Some((name, matches)) = matches.subcommand() else { return Ok(None) };
        let Some(figure) = FIGURES.iter().find(|figure| figure.id == name) else { return Ok(None) };
        let options = FigureOptions::from_arg_matches(matches)?;
        Ok(Some(Self::Figure(figure, Box::new(options))))
    }

    /// Starts several processes for the command if it asks for them; returns the exit status.
    ///
    /// # Errors
    /// If a setting or an input is refused, or a process cannot be started.
    pub fn launch(&self) -> Result<Option<u8>> {
        match self {
            Self::All(options) => launch(options, None),
            Self::Run(options) => launch_run(options),
            Self::Figure(figure, options) => launch(options, Some(figure.blocks)),
            _ => Ok(None),
        }
    }

    /// Carries out the command.
    ///
    /// # Errors
    /// If the command fails.
    pub fn carry_out(self) -> Result<()> {
        match self {
            Self::All(options) => all(&options),
            Self::Plan(options) => plan(&options),
            Self::Domain(options) => domain(&options),
            Self::Run(options) => run(&options),
            Self::Slurm(options) => slurm(&options),
            Self::Status(options) => status(&options),
            Self::Export(options) => export(&options),
            Self::Report(options) => report(&options),
            Self::Eval(options) => eval::eval(&options),
            Self::Retention(options) => retention::retention(&options),
            Self::Sample(options) => sample::sample(&options),
            Self::Data(options) => datasets::run(options),
            Self::Distance(options) => distance::run(&options),
            Self::Tokenizer(options) => tokenizer::run(&options),
            Self::Figure(asked, options) => figure(asked, &options),
        }
    }
}
