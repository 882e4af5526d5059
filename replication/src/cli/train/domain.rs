//! `domain`: how much to inject, for the user's own folder of text.
//!
//! Plans a grid that fits a time budget on this machine, trains the runs that are most informative for
//! the question ([`forgetting_laws::fit::design`]), and writes a report. It shares the store of runs
//! with the other commands: finished runs are used, and a call that was killed is continued.

mod campaign;
mod plan;
mod report;

use super::options::{Options, configure};
use super::plan::Rates;
use super::session::{DATA, Session};
use crate::blocks::MAIN;

use crate::experiment::data::Sources;
use crate::experiment::grid::Grid;
use crate::experiment::job;
use crate::inputs::pretrained::Needed;
use crate::results::known;
use crate::terminal::{log, print};
use campaign::Campaign;
use clap::Args;
use forgetting_laws::fit::Limit;
use forgetting_laws::fit::design::Steps;
use forgetting_laws::run::RunId;
use forgetting_laws::store::Claim;
use forgetting_laws::{Error, Fraction, Result};
use plan::Sizing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Your own domain.
#[derive(Args)]
pub struct DomainOptions {
    /// A name for the domain, its folder and the report.
    pub name: String,
    /// Text of the domain: files, folders or patterns such as 'texts/*.jsonl', or hub:NAME.
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Wall-clock time for training with all workers, such as 90s, 20m or 2h. Time that earlier
    /// calls spent on the same text counts.
    #[arg(long, value_name = "TIME", value_parser = plan::seconds)]
    pub budget: f64,
    /// Prints what would be done, and does nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Parameters of the model in question [default: the largest of the plan].
    #[arg(long, value_name = "N", value_parser = forgetting_laws::numbers::size)]
    pub n_params: Option<f64>,
    /// Tokens of target data in question [default: all of the text, or the largest amount of the
    /// plan if that is a small part].
    #[arg(long, value_name = "D", value_parser = forgetting_laws::numbers::size)]
    pub d_ft: Option<f64>,
    /// How much may be forgotten: a share of the pretraining loss (5%) or nats per token (0.05).
    #[arg(long, default_value = "5%", value_parser = crate::cli::values::limit)]
    pub limit: Limit,
    /// The probability with which a new run must stay within the limit.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub confidence: f64,
    /// How much the increase of L_pt varies between pretrained models of one size: 8% or 0.08. The plan
    /// has one model per size, which cannot show it.
    #[arg(long, value_name = "SHARE", value_parser = crate::cli::values::model_spread)]
    pub model_spread: Option<f64>,
    #[command(flatten)]
    pub common: Options,
}

/// The plan. The first call fixes it, and later calls choose by the same numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The hash of its settings, text and budget.
    key: RunId,
    /// Tokens of the domain's training part.
    available: u64,
    sizes: Vec<String>,
    d_ft_tokens: Vec<u64>,
    p: Vec<Fraction>,
    /// Measured FLOP/s of one worker, by size.
    rates: BTreeMap<String, f64>,
}

impl Plan {
    /// The default tokens in question: all of the text, unless that is far beyond the plan's runs.
    fn question(&self) -> f64 {
        const FAR: f64 = 4.0;
        let (all, most) =
            (self.available as f64, self.d_ft_tokens.last().map_or(0.0, |&d| d as f64));
        if all <= FAR * most { all } else { most }
    }
}

/// `domain`: plans, trains the most informative runs, and reports.
///
/// # Errors
/// If an option, a setting or an input is refused, the budget is too small for anything, or a file
/// cannot be written. Runs that fail are noted and stop no other.
pub fn run(options: &DomainOptions) -> Result<()> {
    check(options)?;
    let common = &options.common;
    let mut config = configure(common)?;
    let files = BTreeMap::from([(options.name.clone(), options.data.clone())]);
    config.set_targets(files, std::slice::from_ref(&options.name));
    config.grid.retain(|name, _| name == MAIN);
    let given = |key: &str| common.set.iter().any(|set| set.trim_start().starts_with(key));
    let out = common.out();
    let sources = Sources::open(&config, None, Needed::All, Some(&out.join(DATA)))?;
    let folder = out.join("domains").join(&options.name);
    let key = RunId::of(&(
        &config,
        sources.pretraining_spec(),
        sources.target_spec(&options.name),
        options.budget,
    ));
    let compute = super::session::compute(&config, &common.device)?;
    // Two calls on one domain follow one another.
    let claim = if options.dry_run {
        super::session::check_folder(&folder)?;
        None
    } else {
        Some(Claim::wait_for(&folder)?)
    };
    let known: Option<Plan> = read(&folder.join(PLAN))?;
    let mut session = Session {
        grid: Grid::new(&config, &sources, &[MAIN])?,
        config,
        sources,
        compute,
        ranks: None,
        out,
        options: common.clone(),
        blocks: vec![MAIN.into()],
        sizes: Vec::new(),
        known: known::Tables::read(&common.known)?,
    };
    let planned = match known.filter(|plan| plan.key == key) {
        Some(plan) => plan,
        None => {
            let all_sizes = !given("grid.main.sizes");
            let all_fractions = !given("grid.main.p");
            make(&mut session, options, key, [all_sizes, all_fractions])?
        }
    };
    session.narrow(&planned)?;
    job::check(&session.grid.jobs(), session.config.data.injection_tokens)?;
    let mut campaign = Campaign::new(&session, options, &planned, &folder)?;
    print(&campaign.describe()?)?;
    let Some(claim) = claim else { return Ok(()) };
    claim.write_json(PLAN, &planned)?;
    let ended = campaign.train()?;
    let page = report::write(&session, &campaign, &ended, options, &folder)?;
    print(&page)
}

/// The files of a domain's folder.
const PLAN: &str = "plan.json";

fn check(options: &DomainOptions) -> Result<()> {
    if let Some(workers) = options.common.workers_per_device {
        let requirement = "domain plans its rounds for one process: use --set run.workers=N";
        return Err(Error::setting("--workers-per-device", workers, requirement));
    }
    let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if options.name.is_empty() || !options.name.chars().all(good) {
        let requirement = "must be one word of letters, digits, _ and -";
        return Err(Error::setting("the domain's name", &options.name, requirement));
    }
    if !options.common.target.is_empty() {
        let given = options.common.target[0].display();
        return Err(Error::setting("--target", given, "the text of the domain is given by --data"));
    }
    if !(options.confidence > 0.0 && options.confidence < 1.0) {
        let requirement = "must lie between 0 and 1";
        return Err(Error::setting("--confidence", options.confidence, requirement));
    }
    Ok(())
}

/// A JSON file, if it exists.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_path_buf(), source }),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::content(path, None, format!("{error}; remove the file and run again"))
        }),
    }
}

/// Counts the tokens of the text, measures steps and chooses a grid that fits the budget. With `all`,
/// every size of the preset is considered and a larger fraction is added.
fn make(
    session: &mut Session,
    options: &DomainOptions,
    key: RunId,
    all: [bool; 2],
) -> Result<Plan> {
    log("counting the tokens of the text and measuring training steps");
    let available = count(session, options)?;
    let config = &session.config;
    let main = &config.grid[MAIN];
    let (context, batch) = (config.model.context as u64, config.finetuning.batch);
    let names: Vec<String> =
        if all[0] { config.sizes.keys().cloned().collect() } else { main.sizes.clone() };
    let given: Vec<f64> = main.p.iter().map(|p| p.get()).collect();
    let reserved = config.data.injection_tokens / context;
    let p = if all[1] { plan::fractions(&given, main.steps * batch, reserved) } else { given };
    let p = p.into_iter().map(Fraction::new).collect::<Result<Vec<_>>>()?;
    // Every size on every amount, to see what each costs.
    let block = session.config.grid.get_mut(MAIN).expect("every preset has it");
    (block.sizes, block.p) = (names, p.clone());
    session.grid = Grid::new(&session.config, &session.sources, &[MAIN])?;
    let smallest = session.grid.pretrainings.first().expect("a block has sizes");
    let largest = session.grid.pretrainings.last().expect("a block has sizes");
    let middle = |a: u64, b: u64| (a as f64 * b as f64).sqrt();
    let n = |run: &crate::experiment::grid::Pretraining| run.job.shape.count().paper();
    let steps = Steps::new(middle(n(smallest), n(largest)));
    // More data than the smallest model gets through is of no use: its bottom would be missed.
    let budget = session.config.grid[MAIN].steps as f64;
    let sequences = (1..).map(|k| 1u64 << k).take_while(|sequences| {
        let pass = *sequences as f64 / batch as f64;
        *sequences < 1 << 40 && steps.expected(n(smallest) as f64, pass) <= budget
    });
    let most = sequences.last().unwrap_or(1) * context;
    let d_ft_tokens = plan::amounts(available, most, context, budget as u64)?;
    session.config.grid.get_mut(MAIN).expect("every preset has it").d_ft_tokens =
        d_ft_tokens.clone();
    session.grid = Grid::new(&session.config, &session.sources, &[MAIN])?;
    let jobs = session.grid.jobs();
    let records = session.finished(&jobs)?;
    let models: Vec<&job::Job> = session.grid.pretrainings.iter().map(|run| &run.job).collect();
    let measured = Rates::measure(&models, batch, session)?;
    let rates: BTreeMap<String, f64> =
        models.iter().map(|job| (job.size.clone(), measured.of(job))).collect();
    let sizing = |run: &crate::experiment::grid::Pretraining| {
        let job = &run.job;
        let made = records.contains_key(&job.spec.id());
        let finetuning = |d_ft: u64| {
            let pass = d_ft as f64 / (context * batch) as f64;
            let steps = steps.expected(n(run) as f64, pass).min(budget);
            steps * (batch * context) as f64 * job.shape.train_flops_per_token() / rates[&job.size]
        };
        Sizing {
            name: job.size.clone(),
            pretraining: if made { 0.0 } else { job.flops / rates[&job.size] },
            finetunings: [finetuning(d_ft_tokens[0]), finetuning(d_ft_tokens[1])],
        }
    };
    let sizings: Vec<Sizing> = session.grid.pretrainings.iter().map(sizing).collect();
    let fitting = plan::fitting(&sizings, options.budget, session.config.run.workers())?;
    let sizes = sizings[..fitting].iter().map(|size| size.name.clone()).collect();
    Ok(Plan { key, available, sizes, d_ft_tokens, p, rates })
}

/// The tokens of the domain's training part, at most as many as the pretraining set may have.
fn count(session: &Session, options: &DomainOptions) -> Result<u64> {
    let name = &options.name;
    // Who only asks for the plan finds nothing written.
    let folder = (!options.dry_run).then(|| session.out.join("data"));
    let most = session.config.data.pretrain_tokens;
    let asked = BTreeMap::from([(name.to_string(), most)]);
    match session.sources.prepare(&session.config, &asked, &BTreeMap::new(), folder.as_deref()) {
        Err(Error::Exhausted { what, available, .. })
            if what == crate::experiment::data::training_text(name) =>
        {
            Ok(available)
        }
        prepared => prepared.map(|_| most),
    }
}

impl Session {
    /// The grid of a plan.
    fn narrow(&mut self, plan: &Plan) -> Result<()> {
        let block = self.config.grid.get_mut(MAIN).expect("every preset has it");
        block.sizes.clone_from(&plan.sizes);
        block.d_ft_tokens.clone_from(&plan.d_ft_tokens);
        block.p.clone_from(&plan.p);
        self.grid = Grid::new(&self.config, &self.sources, &[MAIN])?;
        Ok(())
    }
}
