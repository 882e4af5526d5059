//! Carries out the missing runs: as many at once as there are workers, models before the runs that
//! start from them.
//!
//! Workers of this process share a queue. A claim in the store keeps other processes off a run, and
//! their results are used when they appear. If a run fails, the reason and its last losses are
//! recorded, and the other runs continue.

use super::job::Job;
use super::worker::{LOOK_EVERY, RunContext, carry_out};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What became of jobs.
#[derive(Default)]
pub struct Done {
    /// The records of the finished jobs.
    pub records: BTreeMap<RunId, Record>,
    /// Why others did not, each with the job's label.
    pub failures: Vec<(String, Error)>,
    /// How many had to be left since the run that they depend on failed.
    pub left: usize,
    /// How many wait for runs that others have yet to make.
    pub waiting: usize,
}

impl Done {
    /// Adds what became of other jobs.
    pub fn add(&mut self, other: Self) {
        self.records.extend(other.records);
        self.failures.extend(other.failures);
        self.left += other.left;
        self.waiting += other.waiting;
    }

    /// The records, where every job ended.
    ///
    /// # Errors
    /// The first failure.
    pub fn all(mut self) -> Result<BTreeMap<RunId, Record>> {
        if self.failures.is_empty() { Ok(self.records) } else { Err(self.failures.remove(0).1) }
    }
}

struct Queue {
    /// Longest first.
    pending: Vec<Job>,
    running: usize,
    done: Done,
    /// Why all ends before its end.
    ended: Option<Error>,
}

/// Carries out all jobs. The jobs that they depend on must be among them.
///
/// # Errors
/// [`Error::Interrupted`], when the user asks for an end, or [`Error::RankLost`]. What runs have done
/// by then is kept.
pub fn execute(context: &RunContext<'_>, jobs: &[Job]) -> Result<Done> {
    let mut pending = jobs.to_vec();
    // What others wait for first, then the longest.
    pending.sort_by(|a, b| {
        let waits = |job: &Job| job.parent().is_some();
        waits(a).cmp(&waits(b)).then(b.flops.total_cmp(&a.flops))
    });
    let queue = Queue { pending, running: 0, done: Done::default(), ended: None };
    let shared = (Mutex::new(queue), Condvar::new());
    std::thread::scope(|scope| {
        for _ in 0..context.workers.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| while work_once(context, &shared) {});
        }
    });
    let queue = shared.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    queue.ended.map_or(Ok(queue.done), Err)
}

/// Takes one job and carries it out. Returns false if nothing is left to do.
fn work_once(context: &RunContext<'_>, (queue, changed): &(Mutex<Queue>, Condvar)) -> bool {
    let mut state = lock(queue);
    let job = loop {
        if state.ended.is_some() || (state.pending.is_empty() && state.running == 0) {
            changed.notify_all();
            return false;
        }
        if context.stop.load(Ordering::Relaxed) {
            state.ended = Some(Error::Interrupted);
            changed.notify_all();
            return false;
        }
        let ready = |job: &Job| job.parent().is_none_or(|id| state.done.records.contains_key(id));
        if let Some(i) = state.pending.iter().position(ready) {
            break state.pending.remove(i);
        }
        state = changed.wait_timeout(state, LOOK_EVERY).map_or_else(|p| p.into_inner().0, |r| r.0);
    };
    state.running += 1;
    drop(state);

    let result = catch_unwind(AssertUnwindSafe(|| carry_out(context, &job)));

    let mut state = lock(queue);
    state.running -= 1;
    let result = result.unwrap_or_else(|bug| {
        // Without this the other workers would wait for this one.
        context.stop.store(true, Ordering::Relaxed);
        changed.notify_all();
        resume_unwind(bug)
    });
    match result {
        Ok(Some(record)) => {
            context.display.work_done(job.flops);
            state.done.records.insert(job.spec.id(), record);
        }
        Ok(None) => {
            // Another process works on it: last in the queue, and not at once again.
            state.pending.push(job);
            let _ = changed.wait_timeout(state, LOOK_EVERY);
            return true;
        }
        Err(error @ (Error::Interrupted | Error::RankLost(_))) => state.ended = Some(error),
        Err(error) => state.fail(job, error),
    }
    changed.notify_all();
    true
}

impl Queue {
    /// Notes a failure; what depends on the run is left.
    fn fail(&mut self, job: Job, error: Error) {
        let id = job.spec.id();
        let before = self.pending.len();
        self.pending.retain(|other| other.parent() != Some(&id));
        self.done.left += before - self.pending.len();
        self.done.failures.push((job.label, error));
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
