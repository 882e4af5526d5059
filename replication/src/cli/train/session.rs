//! The session of a command on a grid: its settings, sources and runs, and how the runs are carried
//! out.

mod registration;

use super::helpers::Helpers;
use super::options::{Options, configure, refuse_helpers, refuse_stdin};
use super::plan;
use crate::experiment::compute::{Collectives, Compute, Effort};
use crate::experiment::config::Config;
use crate::experiment::data::{DataStats, Prepared, Sources};
use crate::experiment::grid::Grid;
use crate::experiment::interrupts::{STOP, stop_runs};
use crate::experiment::job::{self, Job};
use crate::experiment::known::KnownRun;
use crate::experiment::memory::{self, Budget, DeviceMemory};
use crate::experiment::provenance::Machine;
use crate::experiment::queue::Done;
use crate::experiment::ranks::{RankOptions, Ranks};
use crate::experiment::worker::{self, RunContext};
use crate::inputs::pretrained::Needed;
use crate::results::{Preregistration, Results, known};
use crate::terminal::{Display, log};
use forgetting_laws::checkpoint::WEIGHTS;
use forgetting_laws::engine::Engine;
use forgetting_laws::memory::{Asked, Passes};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::store::{Claim, Store};
use forgetting_laws::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The sub-folder of the output folder for cached facts about data and models.
pub const DATA: &str = "data";

/// What a session is about.
struct Scope<'a> {
    /// The blocks of the grid; all if none is named.
    blocks: Option<&'a [&'a str]>,
    /// The sizes whose models are opened; all if none is named.
    sizes: &'a [String],
    /// Which pretrained models are read.
    needed: Needed<'a>,
}

/// Settings, sources and runs of a call.
pub struct Session {
    pub config: Config,
    pub sources: Sources,
    pub grid: Grid,
    pub compute: Compute,
    /// The ranks, if this is one of several.
    pub ranks: Option<Ranks>,
    pub out: PathBuf,
    pub options: Options,
    /// The runs of the grid.
    pub blocks: Vec<String>,
    /// The sizes whose runs are asked for; none: all of the blocks'.
    pub sizes: Vec<String>,
    /// Runs of other results that count as done.
    pub known: known::Tables,
}

/// The engine for some settings.
pub fn compute(config: &Config, device: &str) -> Result<Compute> {
    Compute::open(config.run.engine.kind(), device, config.model.precision)
}

impl Session {
    /// The same, connected to the other ranks, if there are several.
    pub fn together(mut self, ranks: &RankOptions) -> Result<Self> {
        let device = Ranks::own_device(&self.options.device)?;
        self.compute = compute(&self.config, &device)?;
        self.ranks = Ranks::join(ranks, self.compute)?;
        if self.ranks.is_some() {
            refuse_helpers(&self.options)?;
        }
        Ok(self)
    }

    /// Opens a session on some blocks, or on all.
    pub fn open(options: &Options, blocks: Option<&[&str]>, only_plan: bool) -> Result<Self> {
        Self::of(options, configure(options)?, blocks, &[], only_plan)
    }

    /// The same for some sizes, or for all if none is named: no other pretrained model is opened.
    pub fn of(
        options: &Options,
        config: Config,
        blocks: Option<&[&str]>,
        sizes: &[String],
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
        let needed = if only_plan { Needed::Here } else { Needed::All };
        Self::with(options, config, compute, Scope { blocks, sizes, needed })
    }

    /// Opens a session on all blocks for results. Of the pretrained models only those are read from which
    /// runs began.
    pub fn for_results(options: &Options) -> Result<Self> {
        let config = configure(options)?;
        let compute = compute(&config, &options.device)?;
        let sizes = config.sizes_of(None);
        let imported = sizes.iter().any(|name| config.size(name).pretrained.is_some());
        // Runs of other results (`--known`) are found by the identity of their models.
        let begun = if imported && options.known.is_empty() {
            job::imported_shapes(&options.out().join("runs"))
        } else {
            None
        };
        let needed = begun.as_deref().map_or(Needed::All, Needed::Begun);
        Self::with(options, config, compute, Scope { blocks: None, sizes: &[], needed })
    }

    fn with(options: &Options, config: Config, compute: Compute, scope: Scope<'_>) -> Result<Self> {
        let Scope { blocks, sizes, needed } = scope;
        if options.workers_per_device.is_some() {
            refuse_stdin(options)?;
        }
        let out = options.out();
        let mut opened = config.sizes_of(blocks);
        opened.retain(|name| sizes.is_empty() || sizes.iter().any(|size| size == name));
        let sources = Sources::open(&config, Some(&opened), needed, Some(&out.join(DATA)))?;
        let asked = |name: &&String| blocks.is_none_or(|asked| asked.contains(&name.as_str()));
        let blocks: Vec<String> = config.grid.keys().filter(asked).cloned().collect();
        let names: Vec<&str> = blocks.iter().map(String::as_str).collect();
        let grid = Grid::new(&config, &sources, &names)?;
        job::check(&grid.jobs(), config.data.injection_tokens)?;
        let options = options.clone();
        let known = known::Tables::read(&options.known)?;
        let (sizes, ranks) = (sizes.to_vec(), None);
        Ok(Self { config, sources, grid, compute, ranks, out, options, blocks, sizes, known })
    }

    /// Prints what would be done, after checking that it would not be refused. Only text that has not
    /// been named or fetched yet may be missing.
    ///
    /// # Errors
    /// If the run would be refused.
    pub fn dry_run(&self, ranks: &RankOptions) -> Result<()> {
        if ranks.launches()? {
            refuse_helpers(&self.options)?;
            ranks.check(&self.options.device, self.compute)?;
        }
        check_folder(&self.out)?;
        // What was prepared before is enough.
        if self.all_stats()?.is_none() {
            self.sources.check(&self.config, &self.grid.domains())?;
        }
        let (jobs, ranks) = (self.grid.jobs(), usize::from(ranks.ranks));
        // What does not fit here may be planned for another machine: the plan says so.
        plan::print(self, &jobs, ranks)
    }

    /// How many runs are trained at once, how many of them certainly do not share a device, and a
    /// description of the devices.
    pub fn workers(&self) -> (usize, usize, String) {
        let (each, devices) = match self.options.workers_per_device {
            Some(each) => (each, self.compute.devices(&self.options.device).len()),
            None => (self.config.run.workers(), 1),
        };
        match self.compute.gpu() {
            Some(_) => (each * devices, devices, format!(" on {devices} GPU(s)")),
            None => (each, each, String::new()),
        }
    }

    /// The store of the runs; it is created if it is missing.
    pub fn store(&self) -> Result<Store> {
        Store::open(self.out.join("runs")).map_err(|error| {
            let out = self.out.display();
            Error::setting("--out", out, format!("must be a folder to write to ({error})"))
        })
    }

    /// The records of the finished jobs; creates no folder.
    pub fn finished(&self, jobs: &[Job]) -> Result<BTreeMap<RunId, Record>> {
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

    /// The finished pretrainings that are repeated because missing runs need their models: the results are
    /// known from elsewhere, and the models are neither in the folder of runs nor beside those results.
    ///
    /// # Errors
    /// If the origin of a run cannot be read.
    pub fn repeated(
        &self,
        jobs: &[Job],
        finished: &BTreeMap<RunId, Record>,
    ) -> Result<BTreeSet<RunId>> {
        let missing = jobs.iter().filter(|job| !finished.contains_key(&job.spec.id()));
        let needed: BTreeSet<&RunId> = missing.filter_map(Job::parent).collect();
        let mut repeated = BTreeSet::new();
        for id in needed.into_iter().filter(|id| finished.contains_key(id)) {
            let folder = self.out.join("runs").join(id.as_str());
            let in_store = KnownRun::read(&folder)?;
            let known = in_store.as_ref().or(self.known.run(id));
            let is_there = folder.join(WEIGHTS).exists();
            if known.is_some_and(|known| !is_there && !known.has_model()) {
                repeated.insert(id.clone());
            }
        }
        Ok(repeated)
    }

    /// The stats of those domains of the grid that were prepared before.
    pub fn known_stats(&self) -> Result<BTreeMap<String, DataStats>> {
        let mut stats = BTreeMap::new();
        for (domain, d_ft) in self.grid.domains() {
            // What was prepared for all blocks has all that some of them need.
            let read = |d_ft| {
                let id = self.sources.stats_id(&domain, d_ft);
                DataStats::read(&self.out.join(DATA), &id)
            };
            let known = match read(d_ft)? {
                Some(known) => Some(known),
                None => read(self.grid.largest[&domain])?,
            };
            stats.extend(known.map(|known| (domain, known)));
        }
        Ok(stats)
    }

    /// The stats of all domains of the grid; `None` if one was not prepared before.
    pub fn all_stats(&self) -> Result<Option<BTreeMap<String, DataStats>>> {
        let stats = self.known_stats()?;
        Ok(Some(stats).filter(|stats| stats.len() == self.grid.domains().len()))
    }

    /// Prepares the data.
    pub fn prepare(&self) -> Result<Prepared> {
        let (domains, known) = (self.grid.domains(), self.known_stats()?);
        self.sources.prepare(&self.config, &domains, &known, Some(&self.out.join(DATA)))
    }

    /// Carries out jobs; those that they depend on must be among them. Returns their outcome, or `None`
    /// in a rank other than the first, which has nothing more to do.
    pub fn train(&self, jobs: &[Job]) -> Result<Option<Done>> {
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

    /// Takes part in the runs that the first rank begins.
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
            worker::assist(&self.context(&store, prepared, &machine, &display), &job)?;
        }
    }

    fn lead(&self, jobs: &[Job]) -> Result<Done> {
        let store = self.store()?;
        self.known.take(&store, jobs)?;
        let records = job::finished(&store, jobs)?;
        worker::remove_leftovers(&store, &records, jobs)?;
        let keep_models = self.config.run.keep_models;
        let whole = !records.values().any(|record| job::lacks_model(record, keep_models));
        if whole && records.len() == jobs.len() && self.all_stats()?.is_some() {
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
        let done =
            self.with_context(&store, &prepared, jobs, |context| self.in_order(context, jobs));
        drop(helpers);
        done
    }

    /// Prepares the data of runs, and warns about data that may mislead.
    pub fn prepare_runs(&self) -> Result<Prepared> {
        let prepared = self.prepare()?;
        for domain in self.grid.domains().keys() {
            let stats = &prepared.stats[&self.sources.target_spec(domain).id()];
            if let Some(warning) = stats.overlap.and_then(|overlap| overlap.warning(domain)) {
                log(&warning);
            }
        }
        Ok(prepared)
    }

    /// What all runs have in common. Damaged models that the jobs need are trained again.
    pub fn with_context(
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
        let done = work(&self.context(store, prepared, &machine, &display));
        display.finish();
        done
    }

    fn machine(&self) -> Machine {
        let ranks = self.engine().comm().world();
        Machine { ranks, ..Machine::here(self.compute, self.config.run.threads) }
    }

    pub fn engine(&self) -> Box<dyn Engine + '_> {
        let ranks = self.ranks.as_ref().map(|ranks| ranks as &dyn Collectives);
        self.compute.engine(self.effort(), ranks)
    }

    /// Whatever fits.
    pub fn effort(&self) -> Effort {
        let micro_batch = match self.config.run.micro_batch {
            0 => usize::MAX,
            most => most,
        };
        let passes = Passes { micro_batch, recompute: false };
        Effort { threads: self.config.run.threads, passes }
    }

    /// The memory that runs may use.
    pub fn budget(&self) -> Budget {
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

    /// Refuses runs that do not fit, before any starts.
    fn check_memory(&self, budget: &Budget, jobs: &[Job]) -> Result<()> {
        jobs.iter().try_for_each(|job| budget.passes(job).map(drop))
    }

    fn context<'a>(
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

    /// The results of all blocks.
    pub fn results(&self) -> Result<Results> {
        let stats = match self.all_stats()? {
            Some(stats) => stats,
            None => {
                let prepared = self.prepare()?;
                let of = |(domain, _): (String, u64)| {
                    let id = self.sources.target_spec(&domain).id();
                    (domain, prepared.stats[&id].clone())
                };
                self.grid.domains().into_iter().map(of).collect()
            }
        };
        let store = self.store()?;
        self.known.take(&store, &self.grid.jobs())?;
        let mut results =
            Results::collect(&self.options.preset, &self.config, &self.grid, &store, &stats)?;
        results.preregistration = Preregistration::read(&self.preregistration())?;
        Ok(results)
    }

    /// The same, or an error if there are none.
    pub fn some_results(&self) -> Result<Results> {
        if self.finished(&self.grid.jobs())?.is_empty() {
            let requirement = "has no finished run of these settings; replication run makes some";
            return Err(Error::setting("--out", self.out.display(), requirement));
        }
        self.results()
    }

    pub fn folder(&self, name: &str) -> Result<Claim> {
        Claim::wait_for(&self.out.join(name))
    }
}

/// Refuses a folder that cannot be created or written to, without creating it.
///
/// # Errors
/// If it cannot.
pub fn check_folder(out: &Path) -> Result<()> {
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
