//! Several processes, the ranks, that carry out each run together: on one machine by `--ranks`, or
//! started by torchrun or srun.
//!
//! Rank 0 leads: it alone claims runs, writes files and draws. The others wait for its orders and
//! train with it. Gradients go through NCCL where the models are on GPUs and libtorch has it,
//! otherwise through Gloo; what ranks tell each other goes through a group of Gloo's own, so that
//! nobody waits for a GPU to hear it.

mod launch;

pub use launch::launch;

use crate::exec::Job;
use clap::Args;
use forgetting_laws::engine::{self, Comm, Signals};
use forgetting_laws::{Error, Result};
use std::time::Duration;
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store, has_nccl};

/// How many processes carry out a run.
#[derive(Args)]
pub struct RankOptions {
    /// Processes that carry out each run together, started here; torchrun and srun start them by
    /// themselves.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub ranks: u16,
    /// Seconds that a rank waits for the others before it gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub rank_timeout: u64,
}

impl RankOptions {
    /// Whether this process is to start the ranks, and is none of them.
    ///
    /// # Errors
    /// If the variables that place a process cannot be, or contradict `--ranks`.
    pub fn launches(&self) -> Result<bool> {
        match place()? {
            None => Ok(self.ranks > 1),
            Some(place) if self.ranks > 1 && place.world != usize::from(self.ranks) => {
                let requirement = format!(
                    "contradicts the WORLD_SIZE of {} that this was started with",
                    place.world
                );
                Err(Error::setting("--ranks", self.ranks, requirement))
            }
            Some(_) => Ok(false),
        }
    }
}

/// This process among the ranks, if it is one of several.
///
/// # Errors
/// If the variables that say so cannot be.
pub fn place() -> Result<Option<Place>> {
    Place::from_env().map_err(|error| match error {
        torch_ext::Error::Variable { name, value, requirement } => {
            Error::setting(name, value, requirement)
        }
        other => Error::RankLost(other.to_string()),
    })
}

/// How long a rank waits while another one may be at work alone: it prepares data, draws, or waits for
/// a run of another process.
const IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// This process's connection to the other ranks.
#[derive(Debug)]
pub struct Ranks {
    place: Place,
    gradients: Group,
    /// Gradients on a GPU go through memory of the CPU.
    staged: bool,
    orders: Group,
    /// Others may yet ask the one that serves it.
    _store: Store,
}

impl Ranks {
    /// Meets the other ranks, if there are any.
    ///
    /// # Errors
    /// If they do not come or do not fit together.
    pub fn join(options: &RankOptions, device: Device) -> Result<Option<Self>> {
        let Some(place) = place()? else { return Ok(None) };
        // What fails is said by errors.
        torch_ext::quiet();
        let timeout = Duration::from_secs(options.rank_timeout);
        let on_gpu = matches!(device, Device::Cuda(_));
        let staged = on_gpu && !has_nccl();
        let backend = if on_gpu && !staged { Backend::Nccl } else { Backend::Gloo };
        let connect = || {
            let store = place.meet(timeout)?;
            let orders = Group::open(&store, &place, "orders", Backend::Gloo, timeout)?;
            let gradients = Group::open(&store, &place, "gradients", backend, timeout)?;
            Ok((store, orders, gradients))
        };
        match connect() {
            Ok((store, orders, gradients)) => {
                Ok(Some(Self { place, gradients, staged, orders, _store: store }))
            }
            Err(torch_ext::Error::Meeting(reason)) => Err(Error::RankLost(reason)),
            Err(error) => Err(Error::RankLost(error.to_string())),
        }
    }

    /// Whether this process waits for the orders of another one.
    pub fn follows(&self) -> bool {
        self.place.rank > 0
    }

    /// The device of this rank, where one is asked for without a number.
    pub fn own_device(name: &str) -> Result<String> {
        match (place()?, name) {
            (Some(place), "cuda") => Ok(format!("cuda:{}", place.local_rank)),
            (Some(place), "auto") if engine::cuda::count() > 0 => {
                Ok(format!("cuda:{}", place.local_rank))
            }
            _ => Ok(name.to_string()),
        }
    }

    /// Has all ranks begin a run; the first calls it.
    ///
    /// # Errors
    /// If a rank is lost, or cannot begin.
    pub fn begin(&self, job: &Job) -> Result<()> {
        let order = serde_json::to_vec(job).expect("our types have string keys");
        self.send(order, Some(IDLE))?;
        match self.agree_within(Signals::default(), Some(IDLE))?.failed {
            true => Err(Error::RankFailed),
            false => Ok(()),
        }
    }

    /// Lets the other ranks go; the first calls it.
    pub fn dismiss(&self) {
        // Those who are gone need no leave.
        let _ = self.send(Vec::new(), None);
    }

    /// The run that the first rank has begun; None: it is done. Where `ready` fails, the others are
    /// told, and the next order is waited for.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn next(&self, mut ready: impl FnMut() -> Result<()>) -> Result<Option<Job>> {
        loop {
            let order = self.send(Vec::new(), Some(IDLE))?;
            if order.is_empty() {
                return Ok(None);
            }
            let job: Job = serde_json::from_slice(&order)
                .map_err(|error| Error::RankLost(format!("rank 0 ordered no run ({error})")))?;
            let begun = ready();
            let mine = Signals { failed: begun.is_err(), ..Signals::default() };
            let told = self.agree_within(mine, Some(IDLE))?;
            if let Err(error) = begun {
                self.complain(&job, &error);
            }
            if !told.failed {
                return Ok(Some(job));
            }
        }
    }

    /// Says why this rank failed in a run; the first one's reason is said by its caller.
    pub fn complain(&self, job: &Job, error: &Error) {
        let (rank, label) = (self.place.rank, &job.label);
        crate::progress::complain(&format!("rank {rank}: {label}: {error}"));
    }

    /// The first rank's bytes to all.
    fn send(&self, bytes: Vec<u8>, patience: Option<Duration>) -> Result<Vec<u8>> {
        let mut length = Tensor::from_slice(&[bytes.len() as i64]);
        self.lost(self.orders.broadcast(&mut length, patience))?;
        let length = length.int64_value(&[0]) as usize;
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut content = match self.place.rank {
            0 => Tensor::from_slice(&bytes),
            _ => Tensor::zeros([length as i64], (Kind::Uint8, Device::Cpu)),
        };
        self.lost(self.orders.broadcast(&mut content, None))?;
        Ok(Vec::try_from(content).expect("a flat tensor of bytes"))
    }

    fn agree_within(&self, mine: Signals, patience: Option<Duration>) -> Result<Signals> {
        let mut said = Tensor::from_slice(&[mine.stop, mine.due, mine.failed].map(i64::from));
        self.lost(self.orders.all_reduce_max(&mut said, patience))?;
        let any = |i: i64| said.int64_value(&[i]) > 0;
        Ok(Signals { stop: any(0), due: any(1), failed: any(2) })
    }

    /// Carries out an operation on a buffer, by way of the CPU's memory where that is needed.
    fn on_buffer(
        &self,
        flat: &mut Tensor,
        work: impl Fn(&mut Tensor) -> torch_ext::Result<()>,
    ) -> Result<()> {
        if !self.staged {
            return self.lost(work(flat));
        }
        let mut copy = flat.to_device(Device::Cpu);
        self.lost(work(&mut copy))?;
        tch::no_grad(|| flat.copy_(&copy));
        Ok(())
    }

    fn lost(&self, result: torch_ext::Result<()>) -> Result<()> {
        let Place { rank, world, .. } = self.place;
        result.map_err(|error| {
            let advice = "the same command goes on from the last checkpoint";
            Error::RankLost(format!("rank {rank} of {world}: {error}; {advice}"))
        })
    }
}

impl Comm for Ranks {
    fn rank(&self) -> usize {
        self.place.rank
    }
    fn world(&self) -> usize {
        self.place.world
    }
    fn all_reduce_sum(&self, flat: &mut Tensor) -> Result<()> {
        self.on_buffer(flat, |flat| self.gradients.all_reduce_sum(flat))
    }
    fn broadcast(&self, flat: &mut Tensor) -> Result<()> {
        self.on_buffer(flat, |flat| self.gradients.broadcast(flat, None))
    }
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.send(bytes, None)
    }
    fn agree(&self, mine: Signals) -> Result<Signals> {
        self.agree_within(mine, None)
    }
}
