//! Replaces the commands that train in a program that is built without them.

use clap::{ArgMatches, Subcommand};
use forgetting_laws::Result;

/// No command.
#[derive(Subcommand)]
pub enum Command {}

impl Command {
    /// The command of a figure; there are none.
    pub fn of_figure(_: &ArgMatches) -> Result<Option<Self>, clap::Error> {
        Ok(None)
    }

    /// Starts other processes; there are none.
    pub fn launch(&self) -> Result<Option<u8>> {
        match *self {}
    }

    /// Carries out the command; there are none.
    pub fn carry_out(self) -> Result<()> {
        match self {}
    }
}

/// Adds a command for each figure; there are none.
pub fn with_figures(program: clap::Command) -> clap::Command {
    program
}

/// Prepares the process for training; there is nothing to prepare.
pub fn prepare_process() {}
