//! The plan: the missing runs, their cost on this machine, and their state.

use super::session::Session;
use crate::experiment::compute::Compute;
use crate::experiment::estimate::Estimate;
use crate::experiment::job::{self, Job};
use crate::experiment::memory::Budget;
use crate::experiment::worker::Failure;
use crate::format::significant;
use crate::terminal;
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::Window;
use forgetting_laws::engine::Engine;
use forgetting_laws::finetuning::Evaluation;
use forgetting_laws::memory::{Memory, Passes, USABLE, Workload, gigabytes};
use forgetting_laws::model::{Precision, Shape};
use forgetting_laws::rng::Key;
use forgetting_laws::run::{EngineKind, Outcome, Record, Spec};
use forgetting_laws::store::Store;
use forgetting_laws::weight_decay::{AdamW, Step};
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The runs with their sizes and costs, and which are done or left; each run is trained by `ranks`
/// ranks.
///
/// # Errors
/// If a record cannot be read or a shape is invalid.
pub fn print(session: &Session, jobs: &[Job], ranks: usize) -> Result<()> {
    let done = session.finished(jobs)?;
    let repeated = session.repeated(jobs, &done)?;
    let mark = |job: &Job| match job.spec.id() {
        id if repeated.contains(&id) => "again",
        id if done.contains_key(&id) => "yes",
        _ => "no",
    };
    let mut plan = format!("{:<48} {:>12} {:>14} {:>12}  done\n", "run", "N", "tokens", "FLOPs");
    for job in jobs {
        let n = job.shape.count().paper();
        let Job { label, tokens, flops, .. } = job;
        let _ = writeln!(plan, "{label:<48} {n:>12} {tokens:>14} {flops:>12.3e}  {}", mark(job));
    }
    let left: Vec<&Job> = jobs.iter().filter(|job| mark(job) != "yes").collect();
    // Not `sum`, which makes -0 of nothing.
    let flops = left.iter().fold(0.0, |sum, job| sum + job.flops);
    let _ = writeln!(
        plan,
        "{} runs, {} done; {flops:.3e} FLOPs left at most (finetuning and evaluations included)",
        jobs.len(),
        done.len()
    );
    if !repeated.is_empty() {
        let _ = writeln!(
            plan,
            "{} of the models that runs start from are known only by their results, and are trained again",
            repeated.len()
        );
    }
    let budget = Budget { ranks, ..session.budget() };
    let memory = MemoryOfSizes::of(&left, &budget);
    let run = &session.config.run;
    let batch = session.config.finetuning.batch;
    let rates = Rates::measure(&left, batch, session)?;
    // Blocks that are computed again make four thirds of a step.
    let again = |job: &Job| if memory.recompute(&job.size) { 4.0 / 3.0 } else { 1.0 };
    let (workers, at_once, where_) = session.workers();
    let hours = |flops: &dyn Fn(&Job) -> f64| {
        let seconds = left.iter().map(|job| again(job) * flops(job) / rates.of(job)).sum::<f64>();
        // Not -0 where nothing is left.
        seconds.abs() / 3600.0 / at_once as f64
    };
    let most = hours(&|job| job.flops);
    let estimate =
        Estimate::new(jobs.iter().filter_map(|job| Some((job, done.get(&job.spec.id())?))));
    let hours = if session.config.finetuning.stop_when_turned {
        let expected = hours(&|job| estimate.flops(&session.config, job));
        format!("about {} hours here, {} at most", significant(expected, 3), significant(most, 3))
    } else {
        format!("{} hours here", significant(most, 3))
    };
    let _ = writeln!(
        plan,
        "{hours}: {workers} worker(s){where_} with {} CPU thread(s) each; {}",
        run.threads, rates.words
    );
    let _ = writeln!(plan, "{}", session.compute.words());
    if !Compute::is_built(run.engine.kind()) {
        let _ = writeln!(
            plan,
            "these runs need libtorch, and this program is built without it: cargo run -p replication \
             --features torch; the hours here are those of its own engine in f32"
        );
    }
    let _ = writeln!(
        plan,
        "{} hours on one A100 (312 TFLOP/s in bf16, 40% used)",
        significant(gpu_hours(flops), 3)
    );
    let disk: f64 = jobs.iter().map(disk).sum();
    let _ = writeln!(plan, "{:.1} MB of disk at most, {:.1} MB kept", disk / 1e6, kept(jobs) / 1e6);
    if !memory.0.is_empty() {
        let _ = writeln!(plan, "{}", memory.words(&budget));
    }
    plan.push_str(&costs(session, &left, &memory));
    terminal::print(&plan)
}

/// Hours of an A100 at 40% of its 312 TFLOP/s in bf16. This is an assumption; nothing has been measured
/// on one.
fn gpu_hours(flops: f64) -> f64 {
    flops / (0.4 * 312e12) / 3600.0
}

/// The cost of the runs of each size, largest last.
fn costs(session: &Session, jobs: &[&Job], memory: &MemoryOfSizes) -> String {
    let mut table = format!(
        "\n{:<16} {:>12} {:>5} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10} {:>11} {:>11}\n",
        "size",
        "N",
        "GPUs",
        "pretraining",
        "finetunings",
        "PT A100 h",
        "FT A100 h",
        "disk, GB",
        "memory, GB",
        "micro-batch",
        "activations"
    );
    let mut sizes: Vec<(u64, &str)> =
        jobs.iter().map(|job| (job.shape.count().paper(), job.size.as_str())).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for (n, size) in sizes {
        let of = |tuned: bool| {
            jobs.iter().filter(move |job| job.size == size && job.parent().is_some() == tuned)
        };
        let flops = |tuned| of(tuned).fold(0.0, |sum, job| sum + job.flops);
        let count = |tuned: bool| of(tuned).count();
        let gigabytes =
            [false, true].into_iter().flat_map(of).map(|job| disk(job)).sum::<f64>() / 1e9;
        let [pt, ft] = [false, true].map(flops);
        let gpus = session.config.sizes.get(size).map_or(1, |size| size.gpus);
        let _ = writeln!(
            table,
            "{size:<16} {n:>12} {gpus:>5} {:>12} {:>12} {:>12.3} {:>12.3} {gigabytes:>10.3}{}",
            format!("{} {pt:.1e}", count(false)),
            format!("{} {ft:.1e}", count(true)),
            gpu_hours(pt),
            gpu_hours(ft),
            memory.columns(size)
        );
    }
    table
}

/// The passes and the memory of a run, or why it does not fit.
type Fit = Result<(Passes, Memory)>;

/// The fit of the run that needs the most memory, for each size.
struct MemoryOfSizes(BTreeMap<String, (Workload, Fit)>);

impl MemoryOfSizes {
    fn of(jobs: &[&Job], budget: &Budget) -> Self {
        let mut sizes = Self(BTreeMap::new());
        for job in jobs {
            let Some(workload) = budget.workload(job) else { continue };
            // A grid has thousands of runs, and few that differ in this.
            let known = sizes.0.get(&job.size);
            if known.is_none_or(|(known, _)| known.batch < workload.batch) {
                let fit = budget.passes(job).map(|passes| (passes, workload.memory(passes)));
                sizes.0.insert(job.size.clone(), (workload, fit));
            }
        }
        sizes
    }

    fn recompute(&self, size: &str) -> bool {
        matches!(self.0.get(size), Some((_, Ok((passes, _)))) if passes.recompute)
    }

    fn columns(&self, size: &str) -> String {
        match self.0.get(size) {
            None => String::new(),
            Some((_, Err(_))) => format!(" {:>10} {:>11} {:>11}", "too much", "-", "-"),
            Some((workload, Ok((passes, memory)))) => {
                // The CPU's engine cuts a step by itself.
                let micro_batch = match workload.engine {
                    EngineKind::Cpu => "-".to_string(),
                    EngineKind::Torch => passes.micro_batch.to_string(),
                };
                let activations = if passes.recompute { "recomputed" } else { "kept" };
                let total = gigabytes(memory.total());
                format!(" {total:>10.3} {micro_batch:>11} {activations:>11}")
            }
        }
    }

    /// The choice for the size that needs the most memory, and the sizes that do not fit.
    fn words(&self, budget: &Budget) -> String {
        let of = match budget.device {
            Some(bytes) => {
                let shared = match budget.sharing {
                    1 => String::new(),
                    runs => format!(", which {runs} share"),
                };
                let (all, usable) = (gigabytes(bytes), 100.0 * USABLE);
                format!("of {all:.3}{shared}; plans use up to {usable:.0}% of it")
            }
            None => "of an unknown device; --set run.device_memory=80GB shows what fits".into(),
        };
        let fits = |(size, (_, fit)): (&String, &(Workload, Fit))| {
            fit.as_ref().ok().map(|&(passes, memory)| (size.clone(), passes, memory))
        };
        let largest = self.0.iter().filter_map(fits).max_by_key(|(.., memory)| memory.total());
        let largest = largest.map(|(size, passes, memory)| {
            let gb = |bytes: u64| format!("{:.3}", gigabytes(bytes));
            let activations =
                if passes.recompute { "recomputed in the backward pass" } else { "kept for the backward pass" };
            format!(
                "memory: at most {} GB a run {of} ({size}: parameters {}, gradients {}, moments {}, \
                 activations {}, logits {}, workspace {}); its activations are {activations}",
                gb(memory.total()),
                gb(memory.parameters),
                gb(memory.gradients),
                gb(memory.moments),
                gb(memory.activations),
                gb(memory.logits),
                gb(memory.workspace),
            )
        });
        let refusals =
            self.0.values().filter_map(|(_, fit)| fit.as_ref().err().map(Error::to_string));
        largest.into_iter().chain(refusals).collect::<Vec<_>>().join("\n")
    }
}

/// The share of a matrix product's rate that a training step is assumed to reach.
const SHARE_OF_MATMUL: f64 = 0.3;

/// FLOP/s of training, by size.
pub struct Rates {
    of_size: BTreeMap<String, f64>,
    others: f64,
    words: String,
}

/// The largest model that is measured on a CPU, where steps of larger ones take long.
const MEASURED: u64 = 20_000_000;

/// The largest model that is measured on a GPU, whose memory larger ones may fill.
const MEASURED_ON_GPU: u64 = 200_000_000;

/// The most FLOPs of a step that is measured on a CPU: some seconds on a core.
const MEASURED_STEP: f64 = 3e11;

impl Rates {
    /// Measures steps of one worker.
    ///
    /// # Errors
    /// If a shape is invalid.
    pub fn measure(jobs: &[&Job], batch: u64, session: &Session) -> Result<Self> {
        let mut of_size = BTreeMap::new();
        let engine = session.engine();
        let precision = |job: &Job| match engine.kind() {
            EngineKind::Cpu => Precision::F32,
            EngineKind::Torch => job.spec.precision(),
        };
        let on_gpu = session.compute.gpu().is_some();
        let most = if on_gpu { MEASURED_ON_GPU } else { MEASURED };
        let short = |job: &Job| {
            let tokens = batch as f64 * job.shape.context as f64;
            on_gpu || job.shape.train_flops_per_token() * tokens <= MEASURED_STEP
        };
        let of_interest = |job: &&&Job| job.shape.count().paper() <= most && short(job);
        for job in jobs.iter().filter(of_interest) {
            if !of_size.contains_key(&job.size) {
                let rate = measured(job.shape, precision(job), batch, &*engine)?;
                of_size.insert(job.size.clone(), rate);
            }
        }
        let precision = jobs.first().map(|job| precision(job)).unwrap_or_default();
        let threads = session.config.run.threads;
        let (others, what) = match session.compute.matmul_rate(threads, precision) {
            Some(rate) => (
                SHARE_OF_MATMUL * rate,
                format!(
                    "{:.0}% of the {:.0} GFLOP/s that a matrix product reaches",
                    100.0 * SHARE_OF_MATMUL,
                    rate / 1e9
                ),
            ),
            None => {
                let rate = measured_reference(&*engine)?;
                (rate, format!("the {:.0} GFLOP/s that steps of {REFERENCE} reach", rate / 1e9))
            }
        };
        let sizes = jobs.iter().map(|job| &job.size).collect::<std::collections::BTreeSet<_>>();
        let words = match sizes.len() - of_size.len() {
            0 => "measured steps of every size".to_string(),
            _ => format!("{what}, for sizes whose steps were not measured"),
        };
        Ok(Self { of_size, others, words })
    }

    /// The rate of a run.
    pub fn of(&self, job: &Job) -> f64 {
        self.of_size.get(&job.size).copied().unwrap_or(self.others)
    }
}

/// The size whose rate is used for larger ones if an engine has no other measurement.
const REFERENCE: &str = "nano-large";

fn measured_reference(engine: &dyn Engine) -> Result<f64> {
    measured(Shape::named(REFERENCE, 512, 64)?, Precision::F32, 16, engine)
}

/// FLOP/s of training steps of a model, the best of several.
fn measured(shape: Shape, precision: Precision, batch: u64, engine: &dyn Engine) -> Result<f64> {
    let row = shape.context as u64 + 1;
    let token = |i| Key::new(0).below(i, shape.vocab as u64) as u32;
    let tokens: Vec<u32> = (0..batch * row).map(token).collect();
    let rows = tokens.chunks(row as usize);
    let rows: Vec<_> = rows.map(|row| Window { tokens: row.into(), counted: None }).collect();
    let model = Checkpoint::initial(shape, Key::new(0))?;
    let mut training = engine.training(&model, precision, AdamW::default(), 5.0)?;
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    let mut steps = 0;
    while steps < 3 || (begun.elapsed() < Duration::from_millis(300) && steps < 50) {
        let step = Instant::now();
        steps += 1;
        training.step(&rows, Step { t: steps, lr: 1e-4, multiplier: 1.0 })?;
        // Reading the loss waits for the device.
        let _ = training.loss_sums()?;
        best = best.min(step.elapsed().as_secs_f64());
    }
    Ok(shape.train_flops_per_token() * (batch * shape.context as u64) as f64 / best)
}

/// The most bytes that a run writes: two checkpoints of parameters and moments, and the model.
fn disk(job: &Job) -> f64 {
    let count = job.shape.count();
    let parameters = 4.0 * (count.paper() + count.head) as f64;
    match job.spec {
        Spec::Pretrain(_) => 7.0 * parameters,
        Spec::Import(_) => parameters,
        Spec::Finetune(_) => 6.0 * parameters,
    }
}

/// Bytes that are kept: models and their last checkpoints, and only the losses of finetuning runs.
fn kept(jobs: &[Job]) -> f64 {
    jobs.iter().filter(|job| job.parent().is_none()).map(disk).sum()
}

/// The state of every run.
///
/// # Errors
/// If a record cannot be read.
pub fn status(session: &Session) -> Result<()> {
    let jobs = session.grid.jobs();
    let store = if session.out.join("runs").is_dir() { Some(session.store()?) } else { None };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut text = String::new();
    for job in &jobs {
        let (mut state, mut words) = state(store.as_ref(), job)?;
        if let ("left", Some(known)) = (state, session.known.run(&job.spec.id())) {
            (state, words) = ("known", format!("from {}", known.file.display()));
        }
        *counts.entry(state).or_default() += 1;
        if state != "left" {
            let _ = writeln!(text, "{:<48} {state:<9} {words}", job.label);
        }
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let _ = writeln!(text, "{} runs: {}", jobs.len(), counts.join(", "));
    terminal::print(&text)
}

fn state(store: Option<&Store>, job: &Job) -> Result<(&'static str, String)> {
    let id = job.spec.id();
    let Some(store) = store.filter(|store| store.folder(&id).is_dir()) else {
        return Ok(("left", String::new()));
    };
    if let Some(record) = store.record::<Record>(&id)? {
        let last = record.evaluations.last();
        let losses = last.map(job::losses).unwrap_or_default();
        return Ok(match record.outcome {
            Outcome::Diverged { step } => {
                let finite = |e: &&Evaluation| e.loss_pt.is_finite();
                let good = record.evaluations.iter().rev().find(finite);
                let good = good.map(|e| format!(", last good at {}: {}", e.step, job::losses(e)));
                let words = format!("not finite at step {step}{}", good.unwrap_or_default());
                ("diverged", words)
            }
            _ => ("done", format!("{} steps, {losses}", record.steps)),
        });
    }
    if store.is_claimed(&id)? {
        let metrics = std::fs::read_to_string(store.folder(&id).join("metrics.jsonl"));
        let metrics = metrics.unwrap_or_default();
        let last = metrics.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
        let words = |last: Evaluation| format!("at step {}: {}", last.step, job::losses(&last));
        return Ok(("under way", last.map(words).unwrap_or_default()));
    }
    Ok(match Failure::read(store, &id) {
        Some(failure) => {
            let last = failure.last.as_ref();
            let last = last.map(|e| format!(" (at step {}: {})", e.step, job::losses(e)));
            ("failed", format!("{}{}", failure.reason, last.unwrap_or_default()))
        }
        None => ("begun", "no process works on it now".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Finetuned, Results};
    use std::path::Path;

    /// Nothing of a published grid is known, and then the half of its runs.
    #[test]
    fn published_grids_take_what_is_expected() {
        for (grid, runs) in [("nano/synthetic", 350), ("nano/real", 250), ("micro", 500)] {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(grid);
            let results = Results::read(&golden.join("results.json")).unwrap();
            assert!(results.finetuned.len() > runs, "{grid}");
            let n = |run: &Finetuned| run.record.n_params.paper() as f64;
            let pass = |run: &Finetuned| run.d_ft_tokens as f64 / (64 * run.batch) as f64;
            let ratio = |estimate: &Estimate, runs: &[Finetuned]| {
                let expected = |run: &Finetuned| {
                    n(run) * estimate.turned(n(run), pass(run)).clamp(100.0, run.steps as f64)
                };
                let taken = |run: &Finetuned| n(run) * run.record.steps as f64;
                runs.iter().map(expected).sum::<f64>() / runs.iter().map(taken).sum::<f64>()
            };
            let mut estimate = Estimate::new([]);
            let unknown = ratio(&estimate, &results.finetuned);
            for run in results.finetuned.iter().step_by(2) {
                estimate.learn(n(run), pass(run), &run.record);
            }
            let known = ratio(&estimate, &results.finetuned);
            assert!((1.0 / 1.5..1.5).contains(&unknown), "{grid}: {unknown}");
            assert!((1.0 / 1.5..1.5).contains(&known), "{grid}: {known}");
        }
    }
}
