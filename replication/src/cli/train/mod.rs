//! Commands that train: the runs of a grid, and what is drawn from them.

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
mod slurm;
pub mod tokenizer;

pub use command::Command;
pub use options::FigureOptions;

use crate::blocks::MAIN;
use crate::corner::Corner;
use crate::experiment::compute::{Collectives, Compute, Effort, refusal};
use crate::experiment::config::{Config, Predict};
use crate::experiment::data::{DataStats, Prepared, Sources};
use crate::experiment::grid::{self, Finetuning, Grid};
use crate::experiment::interrupts::{STOP, stop_runs};
use crate::experiment::job::{self, Job};
use crate::experiment::memory::{self, Budget, DeviceMemory};
use crate::experiment::provenance::Machine;
use crate::experiment::queue::{self, Done};
use crate::experiment::ranks::{self, RankOptions, Ranks};
use crate::experiment::worker::{self, RunContext};
use crate::figures::Figure;
use crate::results::export;
use crate::results::known;
use crate::results::{Laws, Plan, Preregistration, Pretrained, Results, Withheld};
use crate::terminal::{Display, log, print};
use forgetting_laws::engine::Engine;
use forgetting_laws::memory::{Asked, Passes};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::store::{Claim, Store};
use forgetting_laws::{Error, Result};
use helpers::Helpers;
use options::{
    BlockOptions, Options, RunOptions, SlurmOptions, configure, refuse_helpers, refuse_stdin,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder within that of the results for what is known of data and models.
const DATA: &str = "data";

/// Turns a refusal of libtorch into an error of its run; all other panics are bugs and are reported.
pub fn report_bugs_alone() {
    let report_bug = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if refusal(panic.payload()).is_none() {
            report_bug(panic);
        }
    }));
}

/// Settings, sources and runs of a call.
struct Session {
    config: Config,
    sources: Sources,
    grid: Grid,
    compute: Compute,
    /// Where this is one of several processes.
    ranks: Option<Ranks>,
    out: PathBuf,
    options: Options,
    /// The grid's.
    blocks: Vec<String>,
    /// Runs of other tables that count as done.
    known: known::Tables,
}

/// What computes the runs of some settings.
fn compute(config: &Config, device: &str) -> Result<Compute> {
    Compute::open(config.run.engine.kind(), device, config.model.precision)
}

impl Session {
    /// The same as one of several processes, if this is one.
    fn together(mut self, ranks: &RankOptions) -> Result<Self> {
        let device = Ranks::own_device(&self.options.device)?;
        self.compute = compute(&self.config, &device)?;
        self.ranks = Ranks::join(ranks, self.compute)?;
        if self.ranks.is_some() {
            refuse_helpers(&self.options)?;
        }
        Ok(self)
    }

    /// Of some blocks, or of all.
    fn open(options: &Options, blocks: Option<&[&str]>, only_plan: bool) -> Result<Self> {
        Self::of(options, configure(options)?, blocks, only_plan)
    }

    fn of(
        options: &Options,
        config: Config,
        blocks: Option<&[&str]>,
        only_plan: bool,
    ) -> Result<Self> {
        // A plan also says what runs cost that this program is built without the engine for.
        let compute = if !Compute::is_built(config.run.engine.kind())
            && only_plan
            && !options.device.starts_with("cuda")
        {
            Compute::Cpu
        } else {
            compute(&config, &options.device)?
        };
        if options.workers_per_device.is_some() {
            refuse_stdin(options)?;
        }
        let out = options.out();
        let sources = Sources::open(&config, only_plan, Some(&out.join(DATA)))?;
        let asked = |name: &&String| blocks.is_none_or(|asked| asked.contains(&name.as_str()));
        let blocks: Vec<String> = config.grid.keys().filter(asked).cloned().collect();
        let names: Vec<&str> = blocks.iter().map(String::as_str).collect();
        let grid = Grid::new(&config, &sources, &names)?;
        job::check(&grid.jobs(), config.data.injection_tokens)?;
        let options = options.clone();
        let known = known::Tables::read(&options.known)?;
        Ok(Self { config, sources, grid, compute, ranks: None, out, options, blocks, known })
    }

    /// Says what would be done, once it is known that it would not be refused. Only text that nobody
    /// has named or fetched yet may be missing.
    ///
    /// # Errors
    /// If the run would be refused.
    fn dry_run(&self, ranks: &RankOptions) -> Result<()> {
        if ranks.launches()? {
            refuse_helpers(&self.options)?;
            ranks.check(&self.options.device, self.compute)?;
        }
        check_folder(&self.out)?;
        // What was prepared before is enough.
        if self.all_facts()?.is_none() {
            self.sources.check(&self.config, &self.grid.domains())?;
        }
        let (jobs, ranks) = (self.grid.jobs(), usize::from(ranks.ranks));
        // What does not fit here may be planned for another machine: the plan says so.
        plan::print(self, &jobs, ranks)
    }

    /// How many runs are worked on at once, how many of them are sure not to share a device's time,
    /// and where they are, in words.
    fn workers(&self) -> (usize, usize, String) {
        let (each, devices) = match self.options.workers_per_device {
            Some(each) => (each, self.compute.devices(&self.options.device).len()),
            None => (self.config.run.workers(), 1),
        };
        match self.compute.gpu() {
            Some(_) => (each * devices, devices, format!(" on {devices} GPU(s)")),
            None => (each, each, String::new()),
        }
    }

    /// The store of the runs, made if it is missing.
    fn store(&self) -> Result<Store> {
        Store::open(self.out.join("runs")).map_err(|error| {
            let out = self.out.display();
            Error::setting("--out", out, format!("must be a folder to write to ({error})"))
        })
    }

    /// The records of those jobs that are done; makes no folder.
    fn finished(&self, jobs: &[Job]) -> Result<BTreeMap<RunId, Record>> {
        let mut finished = if self.out.join("runs").is_dir() {
            job::finished(&self.store()?, jobs)?
        } else {
            BTreeMap::new()
        };
        for id in jobs.iter().map(|job| job.spec.id()) {
            if let Some(known) = self.known.run(&id) {
                finished.entry(id).or_insert_with(|| known.record.clone());
            }
        }
        Ok(finished)
    }

    /// What is known of the data of those domains of the grid that were prepared before.
    fn known_facts(&self) -> Result<BTreeMap<String, DataStats>> {
        let mut facts = BTreeMap::new();
        for (domain, d_ft) in self.grid.domains() {
            // What was prepared for all blocks has all that some of them need.
            let read = |d_ft| {
                let id = self.sources.facts_id(&domain, d_ft);
                DataStats::read(&self.out.join(DATA), &id)
            };
            let known = match read(d_ft)? {
                Some(known) => Some(known),
                None => read(self.grid.largest[&domain])?,
            };
            facts.extend(known.map(|known| (domain, known)));
        }
        Ok(facts)
    }

    /// The same of all domains of the grid; None if one was not prepared before.
    fn all_facts(&self) -> Result<Option<BTreeMap<String, DataStats>>> {
        let facts = self.known_facts()?;
        Ok(Some(facts).filter(|facts| facts.len() == self.grid.domains().len()))
    }

    /// Prepares the data.
    fn prepare(&self) -> Result<Prepared> {
        let (domains, known) = (self.grid.domains(), self.known_facts()?);
        self.sources.prepare(&self.config, &domains, &known, Some(&self.out.join(DATA)))
    }

    /// Carries out jobs, whose parents are among them. Returns what became of them; None in a rank
    /// other than the first, which has nothing more to do.
    fn train(&self, jobs: &[Job]) -> Result<Option<Done>> {
        match &self.ranks {
            None => self.lead(jobs).map(Some),
            Some(ranks) if ranks.follows() => self.follow(ranks, jobs).map(|()| None),
            Some(ranks) => {
                let done = self.lead(jobs);
                ranks.dismiss();
                done.map(Some)
            }
        }
    }

    /// Carries out what the first rank begins, with it.
    fn follow(&self, ranks: &Ranks, jobs: &[Job]) -> Result<()> {
        let store = self.store()?;
        let mut prepared: Option<Prepared> = None;
        if job::finished(&store, jobs)?.len() < jobs.len() {
            // While the first does the same. Why it cannot be is said when it is needed.
            prepared = self.prepare().ok();
        }
        let display = Display::silent();
        let _stopping = stop_runs(false);
        loop {
            let job = ranks.next(|| {
                if prepared.is_none() {
                    prepared = Some(self.prepare()?);
                }
                Ok(())
            })?;
            let (Some(job), Some(prepared)) = (job, &prepared) else { return Ok(()) };
            let machine = self.machine();
            worker::assist(&self.lab(&store, prepared, &machine, &display), &job)?;
        }
    }

    fn lead(&self, jobs: &[Job]) -> Result<Done> {
        let store = self.store()?;
        self.known.take(&store, jobs)?;
        let records = job::finished(&store, jobs)?;
        worker::remove_leftovers(&store, &records, jobs)?;
        let keep_models = self.config.run.keep_models;
        let whole = !records.values().any(|record| job::lacks_model(record, keep_models));
        if whole && records.len() == jobs.len() && self.all_facts()?.is_some() {
            // Those that cannot be used are said again.
            let diverged = jobs.iter().filter_map(|job| {
                let error = job::usable(job, &records[&job.spec.id()]).err()?;
                Some((job.label.clone(), error))
            });
            let failures = diverged.collect();
            return Ok(Done { records, failures, ..Done::default() });
        }
        let left = jobs.iter().filter(|job| !records.contains_key(&job.spec.id()));
        self.check_memory(&self.budget(), &left.cloned().collect::<Vec<_>>())?;
        let prepared = self.prepare_runs()?;
        let helpers = Helpers::start(self, jobs)?;
        let done = self.in_lab(&store, &prepared, jobs, |lab| self.in_order(lab, jobs));
        drop(helpers);
        done
    }

    /// Prepares the data of runs; what of it may mislead is said.
    fn prepare_runs(&self) -> Result<Prepared> {
        let prepared = self.prepare()?;
        for domain in self.grid.domains().keys() {
            let facts = &prepared.facts[&self.sources.target_spec(domain).id()];
            if let Some(warning) = facts.overlap.and_then(|overlap| overlap.warning(domain)) {
                log(&warning);
            }
        }
        Ok(prepared)
    }

    /// What carries out jobs, with all that runs share; damaged models that they need are mended.
    fn in_lab(
        &self,
        store: &Store,
        prepared: &Prepared,
        jobs: &[Job],
        work: impl FnOnce(&RunContext<'_>) -> Result<Done>,
    ) -> Result<Done> {
        let _stopping = stop_runs(true);
        let display = Display::new(jobs.iter().map(|job| job.flops).sum());
        // Where it is not plain.
        if self.compute.gpu().is_some() || self.compute.findings().is_some() {
            display.line(&self.compute.words());
        }
        worker::repair(store, jobs, &display)?;
        let machine = self.machine();
        let done = work(&self.lab(store, prepared, &machine, &display));
        display.finish();
        done
    }

    fn machine(&self) -> Machine {
        let ranks = self.engine().comm().world();
        Machine { ranks, ..Machine::here(self.compute, self.config.run.threads) }
    }

    fn engine(&self) -> Box<dyn Engine + '_> {
        let ranks = self.ranks.as_ref().map(|ranks| ranks as &dyn Collectives);
        self.compute.engine(self.effort(), ranks)
    }

    /// Whatever fits.
    fn effort(&self) -> Effort {
        let micro_batch = match self.config.run.micro_batch {
            0 => usize::MAX,
            most => most,
        };
        let passes = Passes { micro_batch, recompute: false };
        Effort { threads: self.config.run.threads, passes }
    }

    /// The memory that runs may take.
    fn budget(&self) -> Budget {
        let run = &self.config.run;
        let engine = run.engine.kind();
        // What only a plan can be made of here is for a GPU.
        let is_here = Compute::is_built(engine);
        let on_gpu = self.compute.gpu().is_some() || !is_here;
        let ranks = self.ranks.as_ref().map_or(1, |_| self.engine().comm().world());
        let found = || match self.compute.gpu() {
            Some(_) => self.compute.gpu_memory().map(|(_, total)| total),
            None => memory::of_system(),
        };
        let device = match run.device_memory {
            DeviceMemory::Bytes(bytes) => Some(bytes),
            DeviceMemory::Auto if is_here => found(),
            DeviceMemory::Auto => None,
        };
        let sharing = match (ranks, on_gpu) {
            (1, _) => {
                let workers = self.options.workers_per_device.unwrap_or_else(|| run.workers());
                workers.min(self.grid.jobs().len()).max(1)
            }
            (_, true) => 1,
            (ranks, false) => ranks,
        };
        let micro_batch = Some(run.micro_batch).filter(|&most| most > 0);
        let threads = run.threads.unsigned_abs() as usize;
        let asked = Asked { micro_batch, recompute: run.recompute.asked() };
        Budget { engine, on_gpu, threads, ranks, asked, device, sharing }
    }

    /// Refuses runs that do not fit, before any is begun.
    fn check_memory(&self, budget: &Budget, jobs: &[Job]) -> Result<()> {
        jobs.iter().try_for_each(|job| budget.passes(job).map(drop))
    }

    fn lab<'a>(
        &'a self,
        store: &'a Store,
        prepared: &'a Prepared,
        machine: &'a Machine,
        display: &'a Display,
    ) -> RunContext<'a> {
        let run = &self.config.run;
        RunContext {
            store,
            prepared,
            machine,
            compute: self.compute,
            threads: run.threads,
            budget: self.budget(),
            ranks: self.ranks.as_ref(),
            // All ranks are on one run at a time.
            workers: if self.ranks.is_some() { 1 } else { run.workers() },
            checkpoint_every: Duration::from_secs(run.checkpoint_seconds),
            keep_models: run.keep_models,
            stop: &STOP,
            display,
        }
    }

    /// Carries out first what Table 4 predicts from, and what it predicts once its predictions are
    /// written down.
    fn in_order(&self, lab: &RunContext<'_>, jobs: &[Job]) -> Result<Done> {
        let corner = self.corner();
        let withheld = |run: &&Finetuning| {
            run.in_block(MAIN)
                && corner.is_some_and(|c| c.withholds(run.rank, run.cell.d_ft_tokens))
        };
        let withheld: BTreeSet<RunId> =
            self.grid.finetunings.iter().filter(withheld).map(|run| run.job.spec.id()).collect();
        let is_withheld = |job: &&Job| withheld.contains(&job.spec.id());
        let (later, now): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(is_withheld);
        let now: Vec<Job> = now.into_iter().cloned().collect();
        let mut done = queue::execute(lab, &now)?;
        if later.is_empty() {
            return Ok(done);
        }
        if !self.register(corner.expect("something is withheld"), &done)? {
            done.waiting = later.len();
            return Ok(done);
        }
        let parents = now.iter().filter(|job| job.parent().is_none());
        let later: Vec<Job> = parents.chain(later).cloned().collect();
        done.add(queue::execute(lab, &later)?);
        Ok(done)
    }

    fn corner(&self) -> Option<Corner> {
        let main = || self.grid.finetunings.iter().filter(|run| run.in_block(MAIN));
        let largest = Corner::of(main().map(|run| (run.rank, run.cell.d_ft_tokens)))?;
        let Predict { beyond, size, d_ft_tokens, .. } = &self.config.predict;
        let rank_of = |size: &String| main().find(|run| run.size == *size).map(|run| run.rank);
        let rank = if size.is_empty() {
            largest.rank
        } else {
            // Blocks without that size have no run that is so large.
            rank_of(size).unwrap_or(usize::MAX)
        };
        let d_ft_tokens = if *d_ft_tokens > 0 { *d_ft_tokens } else { largest.d_ft_tokens };
        Some(Corner { rank, d_ft_tokens, beyond: *beyond })
    }

    fn preregistration(&self) -> PathBuf {
        self.out.join("table4").join("preregistration.json")
    }

    /// Writes down what the laws predict for the corner of the main grid, if nobody has; false where
    /// runs that they are to be fitted to are missing.
    fn register(&self, corner: Corner, done: &Done) -> Result<bool> {
        let path = self.preregistration();
        if path.exists() {
            return Ok(true);
        }
        let of_main = || self.grid.finetunings.iter().filter(|run| run.in_block(MAIN));
        let fits = |run: &&Finetuning| corner.fits(run.rank, run.cell.d_ft_tokens);
        if !of_main().any(|run| fits(&run)) {
            // A part of a grid may have nothing to predict from. The rest may be asked for later.
            return Ok(true);
        }
        let results = self.results()?;
        let here = |run: &Finetuning| {
            let id = run.job.spec.id();
            let failed = done.failures.iter().any(|(label, _)| *label == run.job.label);
            // All models were to be trained before: one that is not there has failed.
            let parent = |made: &Pretrained| Some(&made.record.id) == run.job.parent();
            failed
                || !results.pretrained.iter().any(parent)
                || results.finetuned.iter().any(|made| made.record.id == id)
        };
        if !of_main().filter(fits).all(here) {
            return Ok(false);
        }
        let parents: BTreeMap<&RunId, &Pretrained> =
            results.pretrained.iter().map(|made| (&made.record.id, made)).collect();
        let withheld = of_main().filter_map(|run| {
            let parent = parents.get(run.job.parent()?)?;
            corner.withholds(run.rank, run.cell.d_ft_tokens).then(|| Withheld {
                run_id: run.job.spec.id(),
                domain: run.domain.clone(),
                size: run.size.clone(),
                n_params: run.job.shape.count().paper(),
                d_ft_tokens: run.cell.d_ft_tokens,
                p: run.cell.p.get(),
                loss_pt0: parent.loss(),
                d_tokens: parent.d_tokens(),
            })
        });
        let mut withheld: Vec<Withheld> = withheld.collect();
        let folder = self.folder("table4")?;
        let ids: BTreeSet<&RunId> = withheld.iter().map(|run| &run.run_id).collect();
        if path.exists() {
            // Another process has written it since.
        } else if let Some(sealed) = self.known.sealed(&ids) {
            sealed.write(&path)?;
        } else {
            // Nothing is sealed about a run that was made before, here or elsewhere.
            let made = |id: &RunId| results.finetuned.iter().any(|run| run.record.id == *id);
            withheld.retain(|run| !made(&run.run_id) && self.known.run(&run.run_id).is_none());
            if !withheld.is_empty() {
                let plan = Plan::of_settings(&self.config.predict, corner)?;
                Preregistration::make(&results, &withheld, &plan).write(&path)?;
            }
        }
        drop(folder);
        Ok(true)
    }

    /// The results of all blocks.
    fn results(&self) -> Result<Results> {
        let facts = match self.all_facts()? {
            Some(facts) => facts,
            None => {
                let prepared = self.prepare()?;
                let of = |(domain, _): (String, u64)| {
                    let id = self.sources.target_spec(&domain).id();
                    (domain, prepared.facts[&id].clone())
                };
                self.grid.domains().into_iter().map(of).collect()
            }
        };
        let store = self.store()?;
        self.known.take(&store, &self.grid.jobs())?;
        let mut results =
            Results::collect(&self.options.preset, &self.config, &self.grid, &store, &facts)?;
        results.preregistration = Preregistration::read(&self.preregistration())?;
        Ok(results)
    }

    /// The same, where there are any.
    fn some_results(&self) -> Result<Results> {
        if self.finished(&self.grid.jobs())?.is_empty() {
            let requirement = "has no finished run of these settings; replication run makes some";
            return Err(Error::setting("--out", self.out.display(), requirement));
        }
        self.results()
    }

    fn folder(&self, name: &str) -> Result<Claim> {
        Claim::wait_for(&self.out.join(name))
    }
}

/// Refuses a folder that cannot be made or written to; makes none.
///
/// # Errors
/// If it is so.
fn check_folder(out: &Path) -> Result<()> {
    let here = |above| if above == Path::new("") { Path::new(".") } else { above };
    let Some(above) = out.ancestors().map(here).find(|above| above.exists()) else {
        return Ok(());
    };
    let why = if above.is_dir() {
        // A file without a name shows whether files can be written, and leaves nothing.
        tempfile::tempfile_in(above).err().map(|error| format!("cannot be written to: {error}"))
    } else {
        Some("is a file".into())
    };
    why.map_or(Ok(()), |why| {
        let requirement = format!("must be a folder to write to ({} {why})", above.display());
        Err(Error::setting("--out", out.display(), requirement))
    })
}

/// Starts the ranks that make a figure, or all, if several are asked for. What every rank would refuse
/// is refused once, before. Returns the status to end with.
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
    let session = open_blocks(&options.grid, true)?;
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
/// If a setting or an input is refused, a file cannot be written, or a run failed: what there is
/// without it is drawn.
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
/// If a setting or an input is refused, a file cannot be written, or a run failed: the others are
/// drawn.
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

/// `report`: every figure and table from what runs there are, the losses and the report.
///
/// # Errors
/// If there are no runs, or a file cannot be written.
pub fn report(options: &Options) -> Result<()> {
    let session = Session::open(options, None, false)?;
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
    let session = Session::open(options, None, false)?;
    let written = export::write(&session.some_results()?, &session.out)?;
    let lines: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    print(&lines)
}

/// `plan`: what there is to do, and what it costs on this machine.
///
/// # Errors
/// If a setting or an input is refused.
pub fn plan(options: &BlockOptions) -> Result<()> {
    let session = open_blocks(options, true)?;
    plan::print(&session, &session.grid.jobs(), 1)
}

/// `status`: which runs are done, under way, failed or left.
///
/// # Errors
/// If a setting or an input is refused.
pub fn status(options: &BlockOptions) -> Result<()> {
    let session = open_blocks(options, true)?;
    plan::status(&session)
}

/// `run`: trains, and draws nothing.
///
/// # Errors
/// If a setting or an input is refused, or any run failed; the others are done by then.
pub fn run(options: &RunOptions) -> Result<()> {
    if options.prepare_only {
        return prepare_only(&options.grid);
    }
    let session = open_blocks(&options.grid, false)?;
    let mut jobs = session.grid.jobs();
    if options.helper {
        let told = helpers::told()?;
        jobs.retain(|job| told.contains(job.spec.id().as_str()));
    }
    for size in &options.sizes {
        if !jobs.iter().any(|job| job.size == *size) {
            let requirement = "is not a size of these blocks; replication plan lists them";
            return Err(Error::setting("--size", size, requirement));
        }
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
    let session = open_blocks(options, false)?;
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
    let session = open_blocks(&options.grid, true)?;
    let folder = session.folder("slurm")?;
    // Who has several ranks has no workers, which the jobs are asked for one by one.
    let common = Options { workers_per_device: None, ..common.clone() };
    let arguments = common.arguments(&session.out);
    slurm::write(&session.grid, &session.config, options, &arguments, folder.folder())
}

fn open_blocks(options: &BlockOptions, only_plan: bool) -> Result<Session> {
    let config = configure(&options.common)?;
    grid::check_blocks(&config, &options.blocks)?;
    let blocks: Vec<&str> = options.blocks.iter().map(String::as_str).collect();
    let blocks = Some(&blocks[..]).filter(|blocks| !blocks.is_empty());
    Session::of(&options.common, config, blocks, only_plan)
}

/// Every N-th finetuning from the I-th on, and the models that these need; where there are no
/// finetunings, every N-th model.
fn part(jobs: Vec<Job>, shard: &str) -> Result<Vec<Job>> {
    let numbers = shard.split_once('/').and_then(|(i, n)| {
        let (i, n): (usize, usize) = (i.parse().ok()?, n.parse().ok()?);
        (i < n).then_some((i, n))
    });
    let Some((i, n)) = numbers else {
        return Err(Error::setting("--shard", shard, "must be I/N with I below N, as 0/4"));
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
        log(&format!("{} runs were left, as the model that they need failed", done.left));
    }
    say_waiting(done);
}

fn say_waiting(done: &Done) {
    if done.waiting > 0 {
        log(&format!(
            "{} runs wait for those that Table 4 predicts them from; run again when these are done",
            done.waiting
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_finetunings_and_bring_their_models() {
        let config = Config::load("nano", &[]).unwrap();
        let sources = Sources::open(&config, true, None).unwrap();
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
