//! Commands that train the runs of a grid and draw figures from them.

mod command;
pub mod data;
pub mod distance;
mod domain;
pub mod eval;
mod helpers;
mod options;
mod plan;
pub mod prepare;
pub mod retention;
pub mod sample;
mod session;
mod slurm;
pub mod tokenizer;

pub use command::{Command, with_figures};

use crate::experiment::grid;
use crate::experiment::interrupts;
use crate::experiment::job::Job;
use crate::experiment::queue::Done;
use crate::experiment::ranks::{self, RankOptions};
use crate::figures::Figure;
use crate::results::{Laws, export};
use crate::terminal::{log, print};
use forgetting_laws::run::RunId;
use forgetting_laws::{Error, Result};
use options::{
    BlockOptions, FigureOptions, Options, RunOptions, SlurmOptions, configure, refuse_helpers,
    refuse_stdin,
};
use session::{DATA, Session};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

/// Prepares the process for training: signals end it with a last checkpoint.
pub fn prepare_process() {
    if let Err(error) = interrupts::catch() {
        log(&format!("a signal will end this program without a last checkpoint: {error}"));
    }
}

/// Starts the ranks for a figure or for `all`, if several are asked for. Settings and inputs are
/// checked once, before any rank starts. Returns the exit status.
///
/// # Errors
/// If a setting or an input is refused, or a process cannot be started.
pub fn launch(options: &FigureOptions, blocks: Option<&[&str]>) -> Result<Option<u8>> {
    if options.dry_run || !options.ranks.launches()? {
        return Ok(None);
    }
    refuse_helpers(&options.common)?;
    let session = Session::open(&options.common, blocks, true)?;
    start_ranks(&session, &options.ranks).map(Some)
}

/// The same for `run`.
///
/// # Errors
/// As above.
pub fn launch_run(options: &RunOptions) -> Result<Option<u8>> {
    if !options.ranks.launches()? {
        return Ok(None);
    }
    refuse_helpers(&options.grid.common)?;
    let session = open_blocks(&options.grid, &options.sizes, true)?;
    start_ranks(&session, &options.ranks).map(Some)
}

fn start_ranks(session: &Session, ranks: &RankOptions) -> Result<u8> {
    ranks.check(&session.options.device, session.compute)?;
    // So that they do not read text that was read here.
    session.sources.keep(Some(&session.out.join(DATA)));
    ranks::launch(ranks)
}

/// A figure of the list: trains what it needs and draws it.
///
/// # Errors
/// If a setting or an input is refused, a file cannot be written, or a run failed (the figure is then
/// drawn without it).
pub fn figure(figure: &Figure, options: &FigureOptions) -> Result<()> {
    let session = Session::open(&options.common, Some(figure.blocks), options.dry_run)?;
    let jobs = session.grid.jobs();
    if options.dry_run {
        return session.dry_run(&options.ranks);
    }
    let begun = Instant::now();
    let session = session.together(&options.ranks)?;
    let Some(done) = session.train(&jobs)? else { return Ok(()) };
    say_failures(&done);
    let results = session.results()?;
    let laws = Laws::of(&results);
    let page = (figure.draw)(&results, &laws)?;
    let folder = page.write_folder(figure, &results, &session.out)?;
    let drawing = match page.drawing {
        Some(_) => format!("; figure: {}", folder.join(format!("{}.svg", figure.id)).display()),
        None => String::new(),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let summary = folder.join("summary.md");
    print(&format!(
        "{} runs, {seconds:.0} s{drawing}\nsummary: {}\n",
        jobs.len(),
        summary.display()
    ))?;
    done.all().map(drop)
}

/// `all`: trains the whole grid, draws every figure and table, exports the losses and writes the
/// report.
///
/// # Errors
/// If a setting or an input is refused, a file cannot be written, or a run failed (the others are
/// drawn).
pub fn all(options: &FigureOptions) -> Result<()> {
    let session = Session::open(&options.common, None, options.dry_run)?;
    let jobs = session.grid.jobs();
    if options.dry_run {
        return session.dry_run(&options.ranks);
    }
    let begun = Instant::now();
    let session = session.together(&options.ranks)?;
    let Some(done) = session.train(&jobs)? else { return Ok(()) };
    say_failures(&done);
    let report = write_report(&session)?;
    print(&format!(
        "{} runs, {:.0} s; report: {}\n",
        jobs.len(),
        begun.elapsed().as_secs_f64(),
        report.display()
    ))?;
    done.all().map(drop)
}

/// `report`: every figure and table from the finished runs, the losses and the report.
///
/// # Errors
/// If there are no runs, or a file cannot be written.
pub fn report(options: &Options) -> Result<()> {
    let session = Session::for_results(options)?;
    let report = write_report(&session)?;
    print(&format!("report: {}\n", report.display()))
}

fn write_report(session: &Session) -> Result<PathBuf> {
    let results = session.some_results()?;
    export::write(&results, &session.out)?;
    crate::report::draw_all(&results, &session.out)
}

/// `export`: the tables of losses.
///
/// # Errors
/// If a file cannot be written.
pub fn export(options: &Options) -> Result<()> {
    let session = Session::for_results(options)?;
    let written = export::write(&session.some_results()?, &session.out)?;
    let lines: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    print(&lines)
}

/// `plan`: the missing runs and their cost on this machine.
///
/// # Errors
/// If a setting or an input is refused.
pub fn plan(options: &BlockOptions) -> Result<()> {
    let session = open_blocks(options, &[], true)?;
    plan::print(&session, &session.grid.jobs(), 1)
}

/// `status`: which runs are done, under way, failed or left.
///
/// # Errors
/// If a setting or an input is refused.
pub fn status(options: &BlockOptions) -> Result<()> {
    let session = open_blocks(options, &[], true)?;
    plan::status(&session)
}

/// `run`: trains, and draws nothing.
///
/// # Errors
/// If a setting or an input is refused, or any run failed (the others are carried out).
pub fn run(options: &RunOptions) -> Result<()> {
    if options.prepare_only {
        return prepare_only(&options.grid);
    }
    let session = open_blocks(&options.grid, &options.sizes, false)?;
    let mut jobs = session.grid.jobs();
    if options.helper {
        let told = helpers::told()?;
        jobs.retain(|job| told.contains(job.spec.id().as_str()));
    }
    if !options.sizes.is_empty() {
        jobs.retain(|job| options.sizes.contains(&job.size));
    }
    if options.pretraining_only {
        jobs.retain(|job| job.parent().is_none());
    }
    if let Some(shard) = &options.shard {
        jobs = part(jobs, shard)?;
    }
    let session = session.together(&options.ranks)?;
    let Some(done) = session.train(&jobs)? else { return Ok(()) };
    print(&format!("{} of {} runs done\n", done.records.len(), jobs.len()))?;
    say_waiting(&done);
    done.all().map(drop)
}

/// `run --prepare-only`: the data of all runs of some blocks.
fn prepare_only(options: &BlockOptions) -> Result<()> {
    let data = options.common.out().join(DATA);
    // There, so that what is known of models is kept as well.
    std::fs::create_dir_all(&data).map_err(Error::io(&data))?;
    let session = open_blocks(options, &[], false)?;
    let prepared = session.prepare_runs()?;
    print(&format!(
        "pretraining on {} tokens and {} domain(s) prepared in {}\n",
        prepared.pretraining.training.tokens(),
        prepared.targets.len(),
        data.display()
    ))
}

/// `slurm`: job arrays that share the grid among the nodes of a cluster.
///
/// # Errors
/// If a setting or an input is refused, or a file cannot be written.
pub fn slurm(options: &SlurmOptions) -> Result<()> {
    let common = &options.grid.common;
    refuse_stdin(common)?;
    let session = open_blocks(&options.grid, &[], true)?;
    let folder = session.folder("slurm")?;
    // Who has several ranks has no workers, which the jobs are asked for one by one.
    let common = Options { workers_per_device: None, ..common.clone() };
    let arguments = common.arguments(&session.out);
    slurm::write(&session.grid, &session.config, options, &arguments, folder.folder())
}

/// Opens a session on some blocks and, if any are named, on some of their sizes.
fn open_blocks(options: &BlockOptions, sizes: &[String], only_plan: bool) -> Result<Session> {
    let config = configure(&options.common)?;
    grid::check_blocks(&config, &options.blocks)?;
    let blocks: Vec<&str> = options.blocks.iter().map(String::as_str).collect();
    let blocks = Some(&blocks[..]).filter(|blocks| !blocks.is_empty());
    let known = config.sizes_of(blocks);
    if let Some(size) = sizes.iter().find(|size| !known.contains(size.as_str())) {
        let requirement = "is not a size of these blocks; replication plan lists them";
        return Err(Error::setting("--size", size, requirement));
    }
    Session::of(&options.common, config, blocks, sizes, only_plan)
}

/// Every N-th finetuning run from the I-th on, and the models that these need; if there are no
/// finetuning runs, every N-th model.
fn part(jobs: Vec<Job>, shard: &str) -> Result<Vec<Job>> {
    let numbers = shard.split_once('/').and_then(|(i, n)| {
        let (i, n): (usize, usize) = (i.parse().ok()?, n.parse().ok()?);
        (i < n).then_some((i, n))
    });
    let Some((i, n)) = numbers else {
        return Err(Error::setting("--shard", shard, "must be I/N with I below N, such as 0/4"));
    };
    let (children, parents): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.parent().is_some());
    let every = |jobs: Vec<Job>| jobs.into_iter().skip(i).step_by(n).collect::<Vec<_>>();
    if children.is_empty() {
        return Ok(every(parents));
    }
    let children = every(children);
    let needed: BTreeSet<&RunId> = children.iter().filter_map(Job::parent).collect();
    let parents = parents.into_iter().filter(|job| needed.contains(&job.spec.id()));
    let mut jobs: Vec<Job> = parents.collect();
    jobs.extend(children.iter().cloned());
    Ok(jobs)
}

fn say_failures(done: &Done) {
    for (label, error) in &done.failures {
        log(&format!("{label}: {error}"));
    }
    if done.left > 0 {
        log(&format!("{} runs were skipped because their model failed", done.left));
    }
    say_waiting(done);
}

fn say_waiting(done: &Done) {
    if done.waiting > 0 {
        log(&format!(
            "{} runs wait for the runs from which Table 4 predicts them; run again when these are done",
            done.waiting
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::config::Config;
    use crate::experiment::data::Sources;
    use crate::experiment::grid::Grid;
    use crate::inputs::pretrained::Needed;
    use std::collections::BTreeMap;

    #[test]
    fn shards_share_the_finetunings_and_bring_their_models() {
        let config = Config::load("nano", &[]).unwrap();
        let sources = Sources::open(&config, None, Needed::Here, None).unwrap();
        let jobs = Grid::new(&config, &sources, &["main", "fig17"]).unwrap().jobs();
        let mut seen = BTreeMap::new();
        for i in 0..5 {
            let part = part(jobs.clone(), &format!("{i}/5")).unwrap();
            let ids: BTreeSet<RunId> = part.iter().map(|job| job.spec.id()).collect();
            assert!(part.iter().all(|job| job.parent().is_none_or(|id| ids.contains(id))));
            for job in part.iter().filter(|job| job.parent().is_some()) {
                *seen.entry(job.spec.id()).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.len(), 192);
        assert!(seen.values().all(|&times| times == 1));
        let models: Vec<Job> = jobs.iter().filter(|job| job.parent().is_none()).cloned().collect();
        assert_eq!(part(models.clone(), "1/2").unwrap().len(), models.len() / 2);
        for bad in ["", "1", "2/2", "-1/2", "0/0", "a/b"] {
            assert!(part(jobs.clone(), bad).unwrap_err().to_string().contains("I/N"), "{bad}");
        }
    }
}
