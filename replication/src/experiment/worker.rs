//! Carries out one run: claims it, resumes or starts it, and records how it ended.

use crate::experiment::compute::{Collectives, Compute, Effort};
use crate::experiment::data::Prepared;
use crate::experiment::job::{self, Job, finished, lacks_model, losses, usable};
use crate::experiment::known::{KNOWN, KnownRun};
use crate::experiment::memory::Budget;
use crate::experiment::provenance::{MANIFEST, Machine, Memory, RunManifest, cpu_seconds};
use crate::experiment::ranks::Ranks;
use crate::inputs::pretrained::{copy_besides, keep_special_tokens};
use crate::terminal::Display;
use forgetting_laws::checkpoint::{self, Checkpoint};
use forgetting_laws::engine::{self, Control, Engine, FinetuneData, Observer};
use forgetting_laws::finetuning::Evaluation;
use forgetting_laws::run::{Outcome, Record, RunId, Spec};
use forgetting_laws::store::{Claim, Store, verify_file, write_atomic};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often a worker looks whether another process has finished a run.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What all runs have in common.
pub struct RunContext<'a> {
    /// The store of runs.
    pub store: &'a Store,
    /// The data.
    pub prepared: &'a Prepared,
    /// The machine and versions, for the manifests.
    pub machine: &'a Machine,
    /// The engine and its device.
    pub compute: Compute,
    /// CPU threads per run.
    pub threads: i32,
    /// The memory that runs may use.
    pub budget: Budget,
    /// The ranks, if several processes train a run together.
    pub ranks: Option<&'a Ranks>,
    /// How many runs are trained at a time.
    pub workers: usize,
    /// The time between checkpoints.
    pub checkpoint_every: Duration,
    /// Whether finetuning runs keep the model at the bottom of the U-curve.
    pub keep_models: bool,
    /// Set if the user asks the program to stop.
    pub stop: &'a AtomicBool,
    /// The display for the user.
    pub display: &'a Display,
}

impl RunContext<'_> {
    /// What computes a run, as it fits.
    fn engine(&self, job: &Job) -> Result<Box<dyn Engine + '_>> {
        let effort = Effort { threads: self.threads, passes: self.budget.passes(job)? };
        Ok(self.compute.engine(effort, self.ranks.map(|ranks| ranks as &dyn Collectives)))
    }
}

/// Removes the checkpoints of finetuning runs whose process died after writing the record.
///
/// # Errors
/// If the system refuses.
pub fn remove_leftovers(
    store: &Store,
    finished: &BTreeMap<RunId, Record>,
    jobs: &[Job],
) -> Result<()> {
    for job in jobs.iter().filter(|job| job.parent().is_some()) {
        let id = job.spec.id();
        if finished.contains_key(&id)
            && engine::has_checkpoints(&store.folder(&id))?
            && let Some(claim) = store.claim(&id)?
        {
            engine::remove_checkpoints(&claim)?;
        }
    }
    Ok(())
}

/// Claims, starts or resumes, and records one run. `None` if another process works on it.
pub fn carry_out(context: &RunContext<'_>, job: &Job) -> Result<Option<Record>> {
    let id = job.spec.id();
    let finished = || {
        let record: Option<Record> = context.store.record(&id)?;
        Ok::<_, Error>(record.filter(|record| !lacks_model(record, context.keep_models)))
    };
    if let Some(record) = finished()? {
        return usable(job, &record).map(|()| Some(record));
    }
    let Some(claim) = context.store.claim(&id)? else { return Ok(None) };
    // It may have been finished between the look and the claim.
    if let Some(record) = finished()? {
        return usable(job, &record).map(|()| Some(record));
    }
    if let Some(ranks) = context.ranks {
        ranks.begin(job)?;
    }
    match together(context, || attempt(context, job, &claim)) {
        Ok(record) => {
            claim.remove_if_there(FAILURE)?;
            usable(job, &record).map(|()| Some(record))
        }
        Err(error @ (Error::Interrupted | Error::RankLost(_))) => Err(error),
        Err(error) => {
            // Where not even this can be written, the reason is still said.
            let _ = claim.write_json(FAILURE, &Failure::new(&claim, &error));
            Err(error)
        }
    }
}

/// Takes part, as another rank, in a run that the first rank leads. A failure is logged and reported to
/// the other ranks.
///
/// # Errors
/// If a rank is lost.
pub fn assist(context: &RunContext<'_>, job: &Job) -> Result<()> {
    let display = context.display.run(&job.label, job.flops);
    match together(context, || train(context, job, None, &display)) {
        Err(error @ Error::RankLost(_)) => Err(error),
        // The first rank says how it ended.
        Ok(_) | Err(Error::Interrupted | Error::RankFailed) => Ok(()),
        Err(error) => {
            context.ranks.expect("who assists is a rank").log_failure(job, &error);
            Ok(())
        }
    }
}

/// The result of the work of this rank. All ranks learn whether one of them failed.
fn together<T>(context: &RunContext<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match context.ranks {
        Some(ranks) => ranks.conclude(work()),
        None => work(),
    }
}

/// The file in the folder of a failed run.
pub const FAILURE: &str = "failure.json";

/// Why a run failed. The next call tries it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub reason: String,
    /// The last evaluation before.
    pub last: Option<Evaluation>,
}

impl Failure {
    fn new(claim: &Claim, error: &Error) -> Self {
        let metrics = std::fs::read_to_string(claim.folder().join("metrics.jsonl"));
        let last = metrics.unwrap_or_default().lines().next_back().map(serde_json::from_str);
        Self { reason: error.to_string(), last: last.and_then(std::result::Result::ok) }
    }

    /// Why a run failed, if it did.
    pub fn read(store: &Store, id: &RunId) -> Option<Self> {
        let bytes = std::fs::read(store.folder(id).join(FAILURE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Trains a run that this process has claimed.
fn attempt(context: &RunContext<'_>, job: &Job, claim: &Claim) -> Result<Record> {
    let data = context.prepared;
    claim.write_json(job::SPEC, &job.spec)?;
    write_atomic(&claim.folder().join(checkpoint::TOKENIZER), data.tokenizer.to_json().as_bytes())?;
    let begins_with = match &job.spec {
        Spec::Pretrain(_) => None,
        Spec::Import(_) => job.import.clone(),
        Spec::Finetune(spec) => Some(context.store.folder(&spec.parent)),
    };
    if let Some(from) = &begins_with {
        copy_besides(from, claim.folder(), &data.tokenizer)?;
    }
    let mut manifest =
        RunManifest::open(claim, &job.label, context.machine, data.stats_of(&job.spec)?)?;
    let display = context.display.run(&job.label, job.flops);
    let begun = (Instant::now(), cpu_seconds());
    let result = train(context, job, Some(claim), &display);
    let memory = Memory::now(context.compute);
    manifest.end_session(begun.0.elapsed(), cpu_seconds() - begun.1, memory);
    claim.write_json(MANIFEST, &manifest)?;
    let record = result?;
    if let Some(from) = &begins_with {
        keep_special_tokens(from, claim.folder(), &data.tokenizer)?;
    }
    if let Some(known) = KnownRun::read(claim.folder())? {
        known.confirm(&job.label, &record)?;
    }
    claim.write_json("record.json", &record)?;
    if let Spec::Finetune(_) = job.spec {
        engine::remove_checkpoints(claim)?;
    }
    display.note(&(summary(&record) + &memory.words()));
    Ok(record)
}

/// Trains a run. Only the first rank has a claim.
fn train(
    context: &RunContext<'_>,
    job: &Job,
    claim: Option<&Claim>,
    observer: &dyn Observer,
) -> Result<Record> {
    let data = context.prepared;
    let engine = context.engine(job)?;
    let control = Control {
        engine: &*engine,
        stop: context.stop,
        checkpoint_every: context.checkpoint_every,
        end_of_text: Some(data.tokenizer.end_of_text()),
        keep_bottom: context.keep_models,
        observer,
    };
    match &job.spec {
        Spec::Pretrain(spec) => engine::pretrain(spec, &data.pretraining, claim, &control),
        Spec::Import(spec) => {
            let folder = job.import.as_deref().expect("a job that imports has a folder");
            let model = Checkpoint::read(folder);
            model.and_then(|m| engine::import(spec, &m, &data.pretraining, claim, &control))
        }
        Spec::Finetune(spec) => parent_model(context.store, &spec.parent).and_then(|model| {
            let (pretraining, target) = (&data.pretraining, &data.targets[&spec.target]);
            let data = FinetuneData { pretraining, target };
            engine::finetune(spec, &model, data, claim, &control)
        }),
    }
}

fn parent_model(store: &Store, parent: &RunId) -> Result<Checkpoint> {
    let folder = store.folder(parent);
    let hash =
        store.record::<Record>(parent)?.and_then(|record| record.model).ok_or_else(|| {
            Error::content(
                folder.join("record.json"),
                None,
                "names no model; remove it and run again",
            )
        })?;
    Checkpoint::read_verified(&folder, &hash)
}

/// One line about how a run ended.
fn summary(record: &Record) -> String {
    let last = record.evaluations.last();
    let losses = last.map(|e| format!(", losses {}", losses(e))).unwrap_or_default();
    let how = match &record.outcome {
        Outcome::Completed => format!("done after {} steps", record.steps),
        Outcome::Turned => format!("the U-curve has turned: done after {} steps", record.steps),
        Outcome::Diverged { step } => format!("diverged: a loss is not finite at step {step}"),
    };
    let injected = match record.realised.fraction() {
        Some(fraction) if fraction > 0.0 => format!(", {:.2}% injected", 100.0 * fraction),
        _ => String::new(),
    };
    format!("{how}{losses}, {:.1} epochs{injected}", record.realised.epochs)
}

/// Checks the models that missing runs depend on. A damaged model is reported and its record removed,
/// so that its pretraining continues from the last checkpoint. The model of a known run is copied if it
/// is beside the file that has the run, and else trained.
///
/// # Errors
/// If a model cannot be read, or a record cannot be removed.
pub fn repair(store: &Store, jobs: &[Job], display: &Display) -> Result<()> {
    let done = finished(store, jobs)?;
    let missing = jobs.iter().filter(|job| !done.contains_key(&job.spec.id()));
    let needed: BTreeSet<&RunId> = missing.filter_map(Job::parent).collect();
    for job in jobs {
        let id = job.spec.id();
        let is_known = store.folder(&id).join(KNOWN).exists();
        if is_known && !needed.contains(&id) {
            continue;
        }
        let model = || Ok::<_, Error>(store.record::<Record>(&id)?.and_then(|record| record.model));
        while model()?.is_some() {
            let Some(claim) = store.claim(&id)? else {
                // Another process looks at this very model.
                std::thread::sleep(LOOK_EVERY);
                continue;
            };
            // Asked again, as that process may have taken the record away.
            let Some(hash) = model()? else { break };
            match verify_file(&claim.folder().join(checkpoint::WEIGHTS), &hash) {
                Ok(()) => break,
                Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => {
                    if let Some(known) = KnownRun::read(claim.folder())?
                        && known.take_model(claim.folder())?
                    {
                        break;
                    }
                    let label = &job.label;
                    display.line(&if is_known {
                        format!(
                            "{label}: its result is known but not its model, which is trained again"
                        )
                    } else {
                        format!("{label}: {error}; training continues from the last checkpoint")
                    });
                    claim.remove("record.json")?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
