//! Commands that train: what a figure needs, and the figure.

use crate::config::Config;
use crate::data::{Facts, Sources};
use crate::exec::{self, Job, Lab};
use crate::fig5::Fig5;
use crate::progress::{Display, answer, complain};
use crate::provenance::{self, Machine};
use clap::Args;
use forgetting_laws::store::{Claim, Store};
use forgetting_laws::{Error, Result, engine};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by Ctrl-C: runs write a checkpoint and end.
static STOP: AtomicBool = AtomicBool::new(false);

/// How to make a figure.
#[derive(Args)]
pub struct Options {
    /// Settings to start from: nano (two CPU cores, minutes), mini (one GPU), paper (a node).
    #[arg(long, default_value = "nano")]
    preset: String,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Folder of the runs and figures [default: out/PRESET].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Overrides a setting; may be repeated. Example: --set seed=7
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pretraining text: .txt or .jsonl files, plain, .gz or .zst, or folders of them.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pretrain: Vec<PathBuf>,
    /// Text of the target domain.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    target: Vec<PathBuf>,
    /// Field of .jsonl files that names the work; pieces of one work never straddle a split.
    #[arg(long, value_name = "FIELD")]
    group: Option<String>,
    /// A tokenizer.json to use; without, one is trained on the pretraining text.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Only say what would be done, and what it would cost.
    #[arg(long)]
    dry_run: bool,
}

/// Turns a refusal of libtorch into an error of its run; all other panics are bugs and are reported.
pub fn report_bugs_alone() {
    let report_bug = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if exec::refusal_of_libtorch(panic.payload()).is_none() {
            report_bug(panic);
        }
    }));
}

/// Trains what the figure needs and draws it.
///
/// # Errors
/// If a setting or an input is refused, a run fails, or a file cannot be written.
pub fn run(options: Options) -> Result<()> {
    let config = configure(&options)?;
    let device = engine::device(&options.device)?;
    let sources = Sources::open(&config, options.dry_run)?;
    let figure = Fig5::plan(&config, &sources)?;
    let jobs = figure.jobs();
    exec::check(&jobs, config.data.injection_tokens)?;
    let out = options.out.unwrap_or_else(|| PathBuf::from("out").join(&options.preset));
    if options.dry_run {
        return dry_run(&out, &jobs, &config);
    }
    let begun = Instant::now();
    let store = Store::open(out.join("runs")).map_err(|error| {
        Error::setting("--out", out.display(), format!("must be a folder to write to ({error})"))
    })?;
    let data_folder = out.join("data");
    let data_id = sources.id();
    let machine = Machine::here(device, config.run.threads);
    let mut records = exec::finished(&store, &jobs)?;
    let facts = match Facts::read(&data_folder, &data_id)? {
        Some(facts) if records.len() == jobs.len() => facts,
        _ => {
            let prepared = sources.prepare(&config, config.finetuning.d_ft_tokens)?;
            prepared.write(&data_folder, &data_id)?;
            catch_interrupts();
            let display = Display::new(jobs.iter().map(|job| job.flops).sum());
            exec::heal(&store, &jobs, &display)?;
            let workers = match config.run.workers {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                workers => workers,
            };
            let lab = Lab {
                store: &store,
                prepared: &prepared,
                machine: &machine,
                device,
                workers,
                threads: config.run.threads,
                checkpoint_every: Duration::from_secs(config.run.checkpoint_seconds),
                stop: &STOP,
                display: &display,
            };
            let result = exec::execute(&lab, &jobs);
            display.finish();
            records = result?;
            prepared.facts
        }
    };
    let folder = out.join("fig5");
    let _one_at_a_time = Claim::wait_for(&folder)?;
    let machines = provenance::machines(&store, records.keys());
    let summary = figure.draw(&records, &facts, &machines.join("; "), &folder)?;
    answer(&format!(
        "{} runs, {:.0} s; figure: {}\nsummary: {}\n",
        jobs.len(),
        begun.elapsed().as_secs_f64(),
        folder.join("fig5.svg").display(),
        summary.display()
    ))
}

fn configure(options: &Options) -> Result<Config> {
    let mut config = Config::load(&options.preset, &options.set)?;
    if !options.pretrain.is_empty() {
        config.data.pretrain.clone_from(&options.pretrain);
    }
    if !options.target.is_empty() {
        config.data.target.clone_from(&options.target);
    }
    if let Some(group) = &options.group {
        config.data.group.clone_from(group);
    }
    if let Some(tokenizer) = &options.tokenizer {
        config.data.tokenizer.clone_from(tokenizer);
    }
    Ok(config)
}

/// The first Ctrl-C lets runs write their checkpoints, the second ends the process at once.
fn catch_interrupts() {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        complain("writing checkpoints; Ctrl-C again ends at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        complain(&format!("Ctrl-C will end without a last checkpoint: {error}"));
    }
}

fn dry_run(out: &std::path::Path, jobs: &[Job], config: &Config) -> Result<()> {
    let done = match out.join("runs").is_dir() {
        true => exec::finished(&Store::open(out.join("runs"))?, jobs)?,
        false => Default::default(),
    };
    let mut plan = format!("{:<40} {:>12} {:>14} {:>12}  done\n", "run", "N", "tokens", "FLOPs");
    for job in jobs {
        let n = job.shape.count().paper();
        let mark = if done.contains_key(&job.spec.id()) { "yes" } else { "no" };
        let Job { label, tokens, flops, .. } = job;
        let _ = writeln!(plan, "{label:<40} {n:>12} {tokens:>14} {flops:>12.3e}  {mark}");
    }
    let left = jobs.iter().filter(|job| !done.contains_key(&job.spec.id()));
    // Not `sum`, which makes -0 of nothing.
    let flops = left.fold(0.0, |sum, job| sum + job.flops);
    let rate = exec::matmul_rate(config.run.threads);
    let workers = match config.run.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let hours = |rate: f64| flops / rate / 3600.0;
    let _ = writeln!(
        plan,
        "{} runs, {} done; {flops:.3e} FLOPs left at most (finetuning and evaluations included)",
        jobs.len(),
        done.len()
    );
    let _ = writeln!(
        plan,
        "{:.3} hours here: {workers} worker(s) at {:.0}% of the {:.0} GFLOP/s that a matrix product \
         reaches on {} CPU thread(s)",
        hours(exec::SHARE_OF_MATMUL * rate * workers as f64),
        100.0 * exec::SHARE_OF_MATMUL,
        rate / 1e9,
        config.run.threads
    );
    let a100 = hours(0.4 * 312e12);
    let _ = writeln!(plan, "{a100:.3} hours on one A100 (312 TFLOP/s in bf16, 40% used)");
    answer(&plan)
}
