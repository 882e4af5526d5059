//! Ranks: several processes that train each run together, started on one machine by `--ranks`, or by
//! torchrun or srun.
//!
//! Rank 0 leads: only it claims runs, writes files and draws. The others wait for its orders and train
//! with it.

#[cfg(feature = "torch")]
mod group;
#[cfg(feature = "torch")]
mod launch;
#[cfg(not(feature = "torch"))]
mod none;

#[cfg(feature = "torch")]
pub use group::Ranks;
#[cfg(feature = "torch")]
pub use launch::launch;
#[cfg(not(feature = "torch"))]
pub use none::{Ranks, launch};

use crate::experiment::compute::{Compute, gpus, needs_libtorch};
use clap::Args;
use forgetting_laws::run::EngineKind;
use forgetting_laws::{Error, Result};

/// The number of ranks.
#[derive(Args)]
pub struct RankOptions {
    /// Number of processes that carry out each run together. This command starts them, unless torchrun
    /// or srun does.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub ranks: u16,
    /// Seconds that a rank waits for the others before it gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub rank_timeout: u64,
}

impl RankOptions {
    /// Whether this process only starts the ranks and is not one of them.
    ///
    /// # Errors
    /// If the environment variables of ranks are invalid or contradict `--ranks`.
    pub fn launches(&self) -> Result<bool> {
        match Ranks::world()? {
            None => Ok(self.ranks > 1),
            Some(world) if self.ranks > 1 && world != usize::from(self.ranks) => {
                let requirement =
                    format!("contradicts the WORLD_SIZE of {world} that this was started with");
                Err(Error::setting("--ranks", self.ranks, requirement))
            }
            Some(_) => Ok(false),
        }
    }

    /// Refuses ranks on another engine than libtorch, and more ranks on this machine than GPUs, since
    /// each rank has a GPU of its own.
    ///
    /// # Errors
    /// If there are too few GPUs, or a single one is named.
    pub fn check(&self, name: &str, compute: Compute) -> Result<()> {
        if compute.kind() != EngineKind::Torch {
            return Err(needs_libtorch("--ranks", self.ranks));
        }
        let count = gpus();
        match compute.gpu() {
            Some(_) if name.starts_with("cuda:") => {
                let requirement = "is one GPU, and each rank needs one: use --device cuda";
                Err(Error::setting("--device", name, requirement))
            }
            Some(_) if count < usize::from(self.ranks) => {
                let requirement = format!("needs as many GPUs, but this machine has {count}");
                Err(Error::setting("--ranks", self.ranks, requirement))
            }
            _ => Ok(()),
        }
    }
}
