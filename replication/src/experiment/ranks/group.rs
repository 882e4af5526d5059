//! Communication of ranks with libtorch's c10d: orders and gradients.
//!
//! Gradients go through NCCL if the models are on GPUs and libtorch has NCCL, otherwise through Gloo.
//! Messages go through a separate Gloo group, so that they do not wait for a GPU.

use super::RankOptions;
use crate::experiment::compute::{Compute, needs_libtorch};
use crate::experiment::job::Job;
use crate::terminal::log;
use forgetting_laws::engine::torch::{Collectives, cuda};
use forgetting_laws::engine::{Comm, Signals};
use forgetting_laws::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store, has_nccl};

/// This process among the ranks, if it is one of several.
///
/// # Errors
/// If the environment variables of ranks are invalid.
fn place() -> Result<Option<Place>> {
    Place::from_env().map_err(|error| match error {
        torch_ext::Error::Variable { name, value, requirement } => {
            Error::setting(name, value, requirement)
        }
        other => rank_lost(other),
    })
}

pub(super) fn rank_lost(error: torch_ext::Error) -> Error {
    Error::RankLost(error.to_string())
}

/// How long a rank waits while another one works alone: it prepares data, draws, or waits for a run of
/// another process.
const IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The message of a rank that has failed.
const FAILED: Signals = Signals { stop: false, due: false, failed: true };

/// After how long a rank without a launcher reports that it waits for the others.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// The time between such reports.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Runs an operation that waits for the other ranks, and reports meanwhile that it waits and why:
/// environment variables left over from another program make a process wait for ranks that nobody
/// starts.
fn waiting<T>(place: &Place, timeout: Duration, meet: impl FnOnce() -> T) -> T {
    let (met, still_waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let begun = Instant::now();
            let mut patience = if place.serves { SAY_AFTER } else { SAY_EVERY };
            while still_waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                log(&waits_for(place, Place::names_in_env(), begun.elapsed(), timeout));
                patience = SAY_EVERY;
            }
        });
        let result = meet();
        drop(met);
        result
    })
}

/// `RANK=0 and WORLD_SIZE=2: waiting for 1 other rank at node0:29500, 31 of 600 s; ...`
fn waits_for(
    place: &Place,
    names: Option<[&'static str; 3]>,
    waited: Duration,
    timeout: Duration,
) -> String {
    let Place { rank, world, host, port, .. } = place;
    let others = match world - 1 {
        1 => "1 other rank".to_string(),
        others => format!("{others} other ranks"),
    };
    let (waited, timeout) = (waited.as_secs(), timeout.as_secs());
    let waiting = format!("waiting for {others} at {host}:{port}, {waited} of {timeout} s");
    match names {
        Some([own, _, all]) if place.serves => {
            let unset = if own == "RANK" { "RANK and WORLD_SIZE" } else { "MASTER_ADDR" };
            format!("{own}={rank} and {all}={world}: {waiting}; to run alone, unset {unset}")
        }
        // A launcher that is there set them for this process.
        _ => format!("rank {rank} of {world}: {waiting}"),
    }
}

/// This process's connection to the other ranks.
#[derive(Debug)]
pub struct Ranks {
    place: Place,
    orders: Group,
    /// `None` if this rank has left the group.
    gradients: RwLock<Option<Group>>,
    /// The backend for gradients.
    backend: Backend,
    /// The number of gradient groups so far.
    groups: AtomicUsize,
    /// Whether gradients on a GPU are copied through CPU memory.
    staged: bool,
    store: Store,
    timeout: Duration,
}

impl Ranks {
    /// How many processes this one was started with, if it is one of several.
    ///
    /// # Errors
    /// If the environment variables of ranks are invalid.
    pub fn world() -> Result<Option<usize>> {
        Ok(place()?.map(|place| place.world))
    }

    /// Connects to the other ranks, if there are any.
    ///
    /// # Errors
    /// If they do not connect, or contradict each other.
    pub fn join(options: &RankOptions, compute: Compute) -> Result<Option<Self>> {
        let Some(place) = place()? else { return Ok(None) };
        let Compute::Torch(device) = compute else {
            return Err(needs_libtorch("WORLD_SIZE", place.world));
        };
        // What fails is said by errors.
        torch_ext::quiet();
        let on_gpu = matches!(device, Device::Cuda(_));
        let staged = on_gpu && !has_nccl();
        let backend = if on_gpu && !staged { Backend::Nccl } else { Backend::Gloo };
        Self::meet(place, Duration::from_secs(options.rank_timeout), backend, staged).map(Some)
    }

    fn meet(place: Place, timeout: Duration, backend: Backend, staged: bool) -> Result<Self> {
        let connect = || {
            let store = waiting(&place, timeout, || place.meet(timeout))?;
            let orders = Group::open(&store, &place, "orders", Backend::Gloo, timeout)?;
            Ok((store, orders))
        };
        let (store, orders) = connect().map_err(rank_lost)?;
        let (gradients, groups) = (RwLock::default(), AtomicUsize::new(0));
        let ranks = Self { place, orders, gradients, backend, groups, staged, store, timeout };
        ranks.regroup()?;
        Ok(ranks)
    }

    /// Opens a new group for gradients; all ranks call it.
    fn regroup(&self) -> Result<()> {
        self.leave();
        let name = format!("gradients {}", self.groups.fetch_add(1, Ordering::Relaxed));
        let group = Group::open(&self.store, &self.place, &name, self.backend, self.timeout)
            .map_err(rank_lost)?;
        *self.gradients.write().unwrap_or_else(PoisonError::into_inner) = Some(group);
        Ok(())
    }

    /// Leaves the group for gradients, so that ranks that wait there for this one fail at once.
    fn leave(&self) {
        let group = self.gradients.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(group) = group
            && self.backend == Backend::Nccl
        {
            group.abort();
        }
    }

    fn has_left(&self) -> bool {
        self.gradients.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Ends a run: all ranks call it and learn whether one of them failed. A rank may fail while others
    /// wait for its gradient. It leaves the group, so that they fail too, come here and learn the
    /// reason. Then all open a new group.
    ///
    /// # Errors
    /// Those of the run; if it failed on another rank, or a rank is lost.
    pub fn conclude<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Ok(_) | Err(Error::Interrupted) => {
                if !self.agree(Signals::default())?.failed {
                    return result;
                }
                self.regroup()?;
                Err(Error::RankFailed)
            }
            // All have heard it.
            Err(Error::RankFailed) => {
                self.regroup()?;
                Err(Error::RankFailed)
            }
            Err(Error::RankLost(reason)) => {
                // Another one has left the group, or is gone.
                if !self.has_left() || !self.tell(&FAILED, false, None)?.1 {
                    return Err(Error::RankLost(reason));
                }
                self.regroup()?;
                Err(Error::RankFailed)
            }
            Err(error) => {
                self.leave();
                if let Err(lost) = self.tell(&FAILED, true, None).and_then(|_| self.regroup()) {
                    log(&format!("rank {}: {error}", self.place.rank));
                    return Err(lost);
                }
                Err(error)
            }
        }
    }

    /// Whether this process waits for the orders of the first rank.
    pub fn follows(&self) -> bool {
        self.place.rank > 0
    }

    /// The device of this rank, if the user names one without a number.
    pub fn own_device(name: &str) -> Result<String> {
        let Some(place) = place()? else { return Ok(name.to_string()) };
        // Where one GPU is to be seen, it is that of the process: clusters can show each its own.
        Ok(match (name, cuda::count()) {
            ("cuda" | "auto", 1) => "cuda:0".into(),
            ("cuda", _) | ("auto", 2..) => format!("cuda:{}", place.local_rank),
            _ => name.to_string(),
        })
    }

    /// Orders all ranks to begin a run; the first rank calls it.
    ///
    /// # Errors
    /// If a rank is lost, or cannot begin.
    pub fn begin(&self, job: &Job) -> Result<()> {
        let order = serde_json::to_vec(job).expect("our types have string keys");
        self.send(order, Some(IDLE))?;
        if self.agree_within(Signals::default(), Some(IDLE))?.failed {
            Err(Error::RankFailed)
        } else {
            Ok(())
        }
    }

    /// Dismisses the other ranks; the first rank calls it.
    pub fn dismiss(&self) {
        // Those who are gone need no leave.
        let _ = self.send(Vec::new(), None);
    }

    /// The next run of the first rank; `None` if there are no more. If `ready` fails, the others are
    /// told, and this rank waits for the next order.
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
                self.log_failure(&job, &error);
            }
            if !told.failed {
                return Ok(Some(job));
            }
        }
    }

    /// Logs why this rank failed in a run. The first rank's caller reports its reason.
    pub fn log_failure(&self, job: &Job, error: &Error) {
        let (rank, label) = (self.place.rank, &job.label);
        log(&format!("rank {rank}: {label}: {error}"));
    }

    /// Broadcasts the first rank's bytes.
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
        Ok(self.tell(&mine, false, patience)?.0)
    }

    /// Combines the signals of all ranks, and whether one of them failed for a reason of its own.
    fn tell(
        &self,
        mine: &Signals,
        has_reason: bool,
        patience: Option<Duration>,
    ) -> Result<(Signals, bool)> {
        let Signals { stop, due, failed } = *mine;
        let mut said = Tensor::from_slice(&[stop, due, failed, has_reason].map(i64::from));
        self.lost(self.orders.all_reduce_max(&mut said, patience))?;
        let any = |i: i64| said.int64_value(&[i]) > 0;
        Ok((Signals { stop: any(0), due: any(1), failed: any(2) }, any(3)))
    }

    /// Applies an operation of the gradient group to a buffer, through CPU memory if needed. If it
    /// fails before the time-out, another rank has left the group, and this one leaves it too.
    fn on_buffer(
        &self,
        flat: &mut Tensor,
        work: impl Fn(&Group, &mut Tensor) -> torch_ext::Result<()>,
    ) -> Result<()> {
        let mut copy = if self.staged { flat.to_device(Device::Cpu) } else { flat.shallow_clone() };
        let begun = Instant::now();
        let result = match &*self.gradients.read().unwrap_or_else(PoisonError::into_inner) {
            Some(group) => self.lost(work(group, &mut copy)),
            None => Err(Error::RankLost("the group of ranks no longer exists".into())),
        };
        if result.is_err() && begun.elapsed() < self.timeout {
            self.leave();
        }
        if self.staged && result.is_ok() {
            tch::no_grad(|| flat.copy_(&copy));
        }
        result
    }

    fn lost(&self, result: torch_ext::Result<()>) -> Result<()> {
        let Place { rank, world, .. } = self.place;
        result.map_err(|error| {
            let advice = "the same command continues from the last checkpoint";
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
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.send(bytes, None)
    }
    fn agree(&self, mine: Signals) -> Result<Signals> {
        self.agree_within(mine, None)
    }
}

impl Collectives for Ranks {
    fn all_reduce_sum(&self, flat: &mut Tensor) -> Result<()> {
        self.on_buffer(flat, Group::all_reduce_sum)
    }
    fn broadcast(&self, flat: &mut Tensor) -> Result<()> {
        self.on_buffer(flat, |group, flat| group.broadcast(flat, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What each of three ranks comes to, well before the time-out.
    fn outcomes<T: Send>(rank: impl Fn(usize, Ranks) -> T + Sync) -> Vec<T> {
        let begun = Instant::now();
        let store = Store::serve(0).unwrap();
        let place = |rank| Place::local(rank, 3, store.port());
        let outcomes = std::thread::scope(|scope| {
            let work = |i| rank(i, Ranks::meet(place(i), PATIENCE, Backend::Gloo, false).unwrap());
            let threads = [0, 1, 2].map(|i| scope.spawn(move || work(i)));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        outcomes
    }

    fn sum(ranks: &Ranks) -> Result<f64> {
        let mut one = Tensor::from_slice(&[1f32]);
        ranks.all_reduce_sum(&mut one)?;
        Ok(one.double_value(&[0]))
    }

    #[test]
    fn variables_that_are_obeyed_are_named_and_how_to_ignore_them() {
        let place = Place { serves: true, ..Place::local(0, 2, 29731) };
        let said = |place: &Place, names| {
            waits_for(place, names, Duration::from_secs(31), Duration::from_secs(600))
        };
        let torchrun = ["RANK", "LOCAL_RANK", "WORLD_SIZE"];
        let waiting = "waiting for 1 other rank at 127.0.0.1:29731, 31 of 600 s";
        assert_eq!(
            said(&place, Some(torchrun)),
            format!("RANK=0 and WORLD_SIZE=2: {waiting}; to run alone, unset RANK and WORLD_SIZE")
        );
        let slurm = ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"];
        assert_eq!(
            said(&place, Some(slurm)),
            format!(
                "SLURM_PROCID=0 and SLURM_NTASKS=2: {waiting}; to run alone, unset MASTER_ADDR"
            )
        );
        let launched = Place { serves: false, ..place };
        assert_eq!(said(&launched, Some(torchrun)), format!("rank 0 of 2: {waiting}"));
        let four = Place { rank: 3, world: 4, ..launched };
        assert!(said(&four, None).contains("waiting for 3 other ranks"));
    }

    #[test]
    fn one_that_fails_while_others_wait_for_it_is_heard_at_once_and_the_next_run_goes_on() {
        let own = || Error::setting("memory", "none", "must be some");
        let said = outcomes(|rank, ranks| {
            let run = match rank {
                1 => Err(own()),
                _ => sum(&ranks),
            };
            let ended = ranks.conclude(run).unwrap_err();
            assert_eq!(sum(&ranks).unwrap(), 3.0);
            assert_eq!(ranks.conclude(Ok(rank)).unwrap(), rank);
            ended.to_string()
        });
        let other = Error::RankFailed.to_string();
        assert_eq!(said, [other.clone(), own().to_string(), other]);
    }

    #[test]
    fn what_none_of_them_has_a_reason_for_ends_all() {
        let said = outcomes(|rank, ranks| {
            if rank == 1 {
                ranks.leave();
            }
            ranks.conclude(sum(&ranks)).unwrap_err()
        });
        assert!(said.iter().all(|error| matches!(error, Error::RankLost(_))), "{said:?}");
    }

    #[test]
    fn one_that_is_gone_ends_the_others() {
        let said = outcomes(|rank, ranks| match rank {
            1 => None,
            _ => Some(ranks.conclude(sum(&ranks)).unwrap_err()),
        });
        let lost = |error: &Option<Error>| matches!(error, Some(Error::RankLost(_)));
        assert!(lost(&said[0]) && said[1].is_none() && lost(&said[2]), "{said:?}");
    }
}
