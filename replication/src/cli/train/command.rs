//! The commands that train, and those for what training needs: models, texts, tokenizers.

use super::domain::{DomainOptions, run as domain};
use super::options::{BlockOptions, FigureOptions, Options, RunOptions, SlurmOptions};
use super::{all, export, launch, launch_run, plan, report, run, slurm, status};
use super::{data as datasets, distance, eval, retention, sample, tokenizer};
use clap::Subcommand;
use forgetting_laws::Result;

/// A command of the program.
#[derive(Subcommand)]
pub enum Command {
    /// The whole paper: trains the grid, draws every figure and table, writes the report.
    All(FigureOptions),
    /// Shows the runs of the grid, what they cost on this machine, what is done and what is left.
    Plan(BlockOptions),
    /// For a folder of text of one's own: trains within a budget what says most, and advises on p.
    Domain(Box<DomainOptions>),
    /// Trains runs of the grid and draws nothing.
    Run(Box<RunOptions>),
    /// Writes job arrays for Slurm that share the grid's runs on a shared folder.
    Slurm(Box<SlurmOptions>),
    /// Says which runs are done, under way, failed or left.
    Status(BlockOptions),
    /// Writes the tables of losses of the runs that there are.
    Export(Options),
    /// Draws every figure and table from the runs that there are and writes the report.
    Report(Options),
    /// Measures the loss of a model on any text.
    Eval(eval::EvalOptions),
    /// Says what a model forgot of a text since it was finetuned, and where.
    Retention(retention::RetentionOptions),
    /// Lets a model write, to see what it knows and what it forgot.
    Sample(sample::SampleOptions),
    /// Data sets by name: lists, fetches, verifies and inspects them.
    Data(datasets::Options),
    /// Says how far domains are from the pretraining data, by several measures of their text.
    Distance(distance::Options),
    /// Trains a tokenizer on text and saves it as a tokenizer.json.
    Tokenizer(tokenizer::Options),
}

impl Command {
    /// Starts the processes that carry it out together, if it asks for several; returns the status to
    /// end with.
    ///
    /// # Errors
    /// If a setting or an input is refused, or a process cannot be started.
    pub fn launch(&self) -> Result<Option<u8>> {
        match self {
            Self::All(options) => launch(options, None),
            Self::Run(options) => launch_run(options),
            _ => Ok(None),
        }
    }

    /// Does what it says.
    ///
    /// # Errors
    /// If it cannot be done.
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
        }
    }
}
