//! Ranks without libtorch: there are none.

use super::RankOptions;
use crate::experiment::compute::{Collectives, Compute, needs_libtorch};
use crate::experiment::job::Job;
use forgetting_laws::{Error, Result};
use std::convert::Infallible;

/// There are none.
#[derive(Debug)]
pub struct Ranks(Infallible);

impl Collectives for Ranks {}

impl Ranks {
    /// How many processes this one was started with, if it is one of several.
    ///
    /// # Errors
    /// If it is.
    pub fn world() -> Result<Option<usize>> {
        let world = std::env::var("WORLD_SIZE").ok().filter(|_| std::env::var_os("RANK").is_some());
        match world.filter(|world| world != "1") {
            None => Ok(None),
            // Such variables are often left over from another program.
            Some(world) => {
                let requirement = "ranks need libtorch, and this program is built without it: cargo run \
                                   -p replication --features torch; to run alone, unset RANK and \
                                   WORLD_SIZE";
                Err(Error::setting("WORLD_SIZE", world, requirement))
            }
        }
    }

    /// This process is alone.
    ///
    /// # Errors
    /// If it was started as one of several.
    pub fn join(_options: &RankOptions, _compute: Compute) -> Result<Option<Self>> {
        Self::world().map(|_| None)
    }

    /// The device as the user names it.
    ///
    /// # Errors
    /// None.
    pub fn own_device(name: &str) -> Result<String> {
        Ok(name.to_string())
    }

    pub fn follows(&self) -> bool {
        match self.0 {}
    }

    pub fn begin(&self, _job: &Job) -> Result<()> {
        match self.0 {}
    }

    pub fn conclude<T>(&self, _result: Result<T>) -> Result<T> {
        match self.0 {}
    }

    pub fn dismiss(&self) {
        match self.0 {}
    }

    pub fn next(&self, _ready: impl FnMut() -> Result<()>) -> Result<Option<Job>> {
        match self.0 {}
    }

    pub fn log_failure(&self, _job: &Job, _error: &Error) {
        match self.0 {}
    }
}

/// Starts nothing.
///
/// # Errors
/// Always.
pub fn launch(options: &RankOptions) -> Result<u8> {
    Err(needs_libtorch("--ranks", options.ranks))
}
