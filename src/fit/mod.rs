//! Fits laws to runs, and says what a fit does and does not determine.
//!
//! [`fit`] finds the optimum over the whole domain of a law and a status that says whether to trust
//! it ([`Fit::prove`] proves it). It adds intervals from a bootstrap over whole runs, and errors on
//! held-out runs next to those of baselines. [`Fit::predict`] gives predictions, an [`Advisor`]
//! decisions.
//!
//! # I have my own losses
//! ```
//! use forgetting_laws::fit::{Bootstrap, Options, Status, fit};
//! use forgetting_laws::laws::{Finetuning, Row};
//! use forgetting_laws::table::{Run, Table};
//!
//! // N, D_ft and the loss on the target, in nats per token.
//! let losses = [
//!     (1e6, 1e5, 3.212), (1e6, 1e6, 2.871), (1e6, 1e7, 2.592),
//!     (1e7, 1e5, 2.834), (1e7, 1e6, 2.554), (1e7, 1e7, 2.331),
//!     (1e8, 1e5, 2.527), (1e8, 1e6, 2.300), (1e8, 1e7, 2.117),
//! ];
//! let run = |&(n_params, d_ft_tokens, loss): &(f64, f64, f64)| Run {
//!     row: Row { n_params, d_ft_tokens, ..Row::default() },
//!     loss_ft: Some(loss),
//!     ..Run::default()
//! };
//! let table = Table::new(losses.iter().map(run).collect());
//!
//! let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
//! let fitted = fit(&table, &Finetuning, &Options { bootstrap, ..Options::default() })?;
//! assert_eq!(fitted.status, Status::Converged);
//! let alpha = fitted.params.get("alpha").unwrap();
//! println!("alpha = {:.3} in [{:.3}, {:.3}]", alpha.value, alpha.low.unwrap(), alpha.high.unwrap());
//!
//! let larger = Row { n_params: 1e9, d_ft_tokens: 1e7, ..Row::default() };
//! let prediction = fitted.predict(&larger);
//! assert!(prediction.value < 2.117);
//! assert_eq!(prediction.outside, ["n_params"]); // beyond every size that was fitted
//! # Ok::<(), forgetting_laws::Error>(())
//! ```
//!
//! Linear algebra uses LAPACK through [`ndarray_linalg`]. This workspace links an OpenBLAS,
//! separate from libtorch's own BLAS; a package that depends on this one chooses a backend with a
//! feature such as `openblas-system`.

pub mod advise;
mod baseline;
mod bootstrap;
pub mod card;
pub mod checklist;
mod compare;
pub mod design;
mod errors;
pub mod file;
mod growth_of_b;
mod held_out;
mod identifiability;
mod json;
mod misfit;
mod objective;
mod optimum;
mod predict;
mod problem;
mod prove;
mod ranking;
pub mod report;
mod shared;
mod solve;
mod starts;
pub mod sweep;
mod watch;

pub use advise::{Advisor, Limit};
pub use baseline::{Baseline, LossPt0From};
pub use bootstrap::{Bootstrap, Interval, Resampled};
pub use compare::{Comparison, compare};
pub use errors::{BaselineErrors, Errors};
pub use growth_of_b::{GrowthOfB, growth_of_b};
pub use held_out::{HeldOut, HeldOutRow, HoldOut};
pub use identifiability::{DEFAULT_TOLERANCE, Direction, Identifiability, jacobian};
pub use json::{Param, Params};
pub use misfit::{Axis as MisfitAxis, Misfit};
pub use objective::{Objective, Penalty, Space};
pub use optimum::{Restarts, Status, Undetermined};
pub use predict::{Measured, Prediction};
pub use prove::{Observations, Proof, ProveOptions, is_provable, prove};
pub use ranking::{Preferred, Ranked, Ranking, rank};
pub use shared::Shared;
pub use watch::Watch;

use crate::laws::{Law, Point, Row};
use crate::parallel;
use crate::table::{Sample, Table};
use crate::{Error, Result};
use card::{Warning, WarningKind};
use held_out::Untested;
use problem::Problem;
use serde::{Deserialize, Serialize};

/// The options of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What is minimised.
    pub objective: Objective,
    /// The resamples that intervals come from.
    pub bootstrap: Bootstrap,
    /// Which runs are held out, to measure the errors of the law on runs that it was not fitted to.
    pub hold_out: Option<HoldOut>,
    /// Whether the misfit of the law is estimated from held-out runs, so that intervals of new runs
    /// are valid outside the fitted ones. Needs resamples.
    pub misfit: bool,
    /// The spread between pretrained models of one size, if it is known from elsewhere: the
    /// standard deviation of the logarithm of the increase of L_pt. For laws of forgetting.
    pub model_spread: Option<f64>,
    /// Threads to use; 0 means one per core. Only the time depends on it.
    pub threads: usize,
}

impl Default for Options {
    /// [`Objective::default`], 1,000 resamples, each model size held out in turn, and the misfit
    /// estimated.
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            bootstrap: Bootstrap::default(),
            hold_out: Some(HoldOut::Size),
            misfit: true,
            model_spread: None,
            threads: 0,
        }
    }
}

/// A fitted row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The inputs of the law.
    pub row: Row,
    /// The observed loss, in nats per token.
    pub loss: f64,
    /// The law's prediction at the optimum, in nats per token.
    #[serde(deserialize_with = "json::infinite_for_null")]
    pub prediction: f64,
    /// The weight of the row.
    pub weight: f64,
    /// How often its run passes over the target data, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Its run and the pretrained model that the run starts from, each counted from 0; `None` in
    /// files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Which rows of a fit belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The run, counted from 0.
    pub run: usize,
    /// The pretrained model, counted from 0. If the table does not say which it is, runs with the
    /// same N and D share a model.
    pub model: usize,
}

/// A fitted law.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fit {
    /// The domain or group, for the reader; empty if there is only one.
    #[serde(default)]
    pub domain: String,
    /// The law.
    #[serde(with = "json::law")]
    pub law: &'static dyn Law,
    /// Its equation, for the reader of a file.
    pub equation: String,
    /// What was minimised.
    #[serde(flatten)]
    pub minimised: Objective,
    /// The number of fitted rows.
    pub n_rows: usize,
    /// The number of runs that they belong to.
    pub n_runs: usize,
    /// The objective at the optimum.
    pub objective: f64,
    /// Whether the optimum can be trusted.
    pub status: Status,
    /// The parameters that are 0 at the optimum and held there.
    pub at_bound: Vec<String>,
    /// The directions that the rows do not determine.
    pub undetermined: Vec<Undetermined>,
    /// The condition number of the Jacobian of the predictions with respect to the parameters, in
    /// the units of the table; infinite if the parameters are not identified.
    #[serde(deserialize_with = "json::infinite_for_null")]
    pub condition_number: f64,
    /// The results of the restarts.
    pub restarts: Restarts,
    /// The parameters, with an interval for each if there was a bootstrap.
    pub params: Params,
    /// The mean relative error on the fitted rows.
    #[serde(deserialize_with = "json::infinite_for_null")]
    pub mre: f64,
    /// The error of the increase on the fitted rows: [`Errors::rise_error`].
    #[serde(deserialize_with = "json::infinite_for_null")]
    pub rise_error: f64,
    /// The same errors for the baselines.
    pub null_models: BaselineErrors,
    /// The mean relative error on the held-out rows.
    pub mre_held_out: Option<f64>,
    /// The held-out rows.
    pub held_out: Option<HeldOut>,
    /// The resamples.
    pub bootstrap: Option<Resampled>,
    /// The misfit of the law, if it was estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<Misfit>,
    /// [`Options::model_spread`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_spread: Option<f64>,
    /// The fitted rows.
    pub rows: Vec<Observed>,
    /// The report card: what the user should know.
    pub warnings: Vec<Warning>,
}

impl Fit {
    /// The values of the parameters, in the order of the law.
    pub fn values(&self) -> Vec<f64> {
        self.params.0.iter().map(|param| param.value).collect()
    }

    /// A lower bound on the objective over all parameters of the law, which proves that none are
    /// better by more than a small gap.
    ///
    /// # Errors
    /// As [`prove`].
    pub fn prove(&self, options: &ProveOptions) -> Result<Proof> {
        let points: Vec<Point> = self.rows.iter().map(|observed| (&observed.row).into()).collect();
        let losses: Vec<f64> = self.rows.iter().map(|observed| observed.loss).collect();
        let weights: Vec<f64> = self.rows.iter().map(|observed| observed.weight).collect();
        let rows = Observations { points: &points, losses: &losses, weights: &weights };
        prove(self.law, rows, &self.minimised, self.objective, options)
    }

    /// Whether the law beats the baselines on held-out runs; `None` if none were held out.
    pub fn is_supported(&self) -> Option<bool> {
        self.held_out.as_ref().map(|held_out| held_out.supported)
    }
}

/// Fits a law to all rows of a table of losses. To fit each domain separately, use
/// [`Table::groups`].
///
/// # Errors
/// If the table lacks what the law needs ([`Table::sample`]) or an option is outside its domain.
pub fn fit(table: &Table, law: &'static dyn Law, options: &Options) -> Result<Fit> {
    options.objective.check()?;
    options.bootstrap.check()?;
    if let Some(spread) = options.model_spread.filter(|spread| !(0.0..1.0).contains(spread)) {
        let requirement = "must be a share from 0 to 1, such as 0.08";
        return Err(Error::setting("spread between pretrained models", spread, requirement));
    }
    let most = problem::MAX;
    if law.parameters().len() > most {
        let requirement = format!("must be at most {most}");
        let name = format!("number of the {} law's parameters", law.name());
        return Err(Error::setting(name, law.parameters().len(), requirement));
    }
    let sample = table.sample(law)?;
    let threads = threads(options);
    let mut untested = None;
    let problem = Problem::new(law, &sample, options.objective.space);
    let optimum = optimum::optimum(&problem, &options.objective, threads)?;
    let values = problem.values(&optimum.x);
    let predictions = predictions(law, &sample, &values);
    let errors = Errors::of(law, &sample, &predictions, errors::constant(&sample));
    let null_models = BaselineErrors::of(law, &sample, &sample)?;
    let held_out = match options.hold_out {
        None => None,
        Some(by) => match held_out::hold_out(law, &sample, by, &options.objective, threads) {
            Ok(held_out) => Some(held_out),
            Err(Untested::TooFew(why)) => {
                untested = Some(WarningKind::NotHeldOut.warn(why));
                None
            }
            Err(Untested::Failed(error)) => return Err(error),
        },
    };
    let spread = options.model_spread;
    let bootstrap = bootstrap::resample(&problem, &optimum, &options.bootstrap, spread, threads)?;
    let misfit = if options.misfit && bootstrap.is_some() {
        Some(misfit::learn(&problem, &optimum, &sample, threads)?)
    } else {
        None
    };
    let names = law.parameters().iter().map(|parameter| parameter.name);
    let param = |(j, (name, value)): (usize, (&str, &f64))| {
        let interval = bootstrap.as_ref().map(|resampled| resampled.interval(j));
        let (low, high) = (interval.map(|i| i.low), interval.map(|i| i.high));
        Param { name: name.to_string(), value: *value, low, high }
    };
    let models = sample.models();
    let observed = |(i, prediction): (usize, &f64)| Observed {
        row: sample.rows[i],
        loss: sample.losses[i],
        prediction: *prediction,
        weight: sample.weights[i],
        epochs: sample.epochs[i],
        origin: Some(Origin { run: sample.runs[i], model: models[i] }),
    };
    let mut warnings = card::of_table(table, law, &sample, spread);
    let nothing_changes = warnings.iter().any(|w| w.kind == WarningKind::EqualLosses);
    // Where nothing changes, held-out runs say nothing more.
    let judged = held_out.as_ref().filter(|_| !nothing_changes);
    warnings.extend(card::of_fit(law, optimum.status, judged));
    warnings.extend(untested);
    warnings.sort();
    Ok(Fit {
        domain: String::new(),
        law,
        equation: law.equation().to_string(),
        minimised: options.objective,
        n_rows: sample.len(),
        n_runs: sample.n_runs,
        objective: problem.reported(&optimum.x, &options.objective),
        status: optimum.status,
        at_bound: optimum.at_bound.iter().map(|&j| law.parameters()[j].name.to_string()).collect(),
        undetermined: optimum.undetermined,
        condition_number: optimum.condition_number,
        restarts: optimum.restarts,
        params: Params(names.zip(&values).enumerate().map(param).collect()),
        mre: errors.mre,
        rise_error: errors.rise_error,
        null_models,
        mre_held_out: held_out.as_ref().map(|held_out| held_out.errors.mre),
        held_out,
        bootstrap,
        misfit,
        model_spread: options.model_spread,
        rows: predictions.iter().enumerate().map(observed).collect(),
        warnings,
    })
}

/// The number of threads that options ask for.
fn threads(options: &Options) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// A law's predictions for a sample, in nats per token.
fn predictions(law: &dyn Law, sample: &Sample, values: &[f64]) -> Vec<f64> {
    sample.points.iter().map(|point| law.predict(point, values)).collect()
}

/// As [`parallel::in_order`], with the progress and the interruptions of the [`Watch`].
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted) if the watch stops the computation.
fn in_order<T: Send>(
    count: usize,
    threads: usize,
    of: impl Fn(usize) -> T + Sync,
) -> Result<Vec<T>> {
    let Some(watch) = Watch::begin(count) else {
        return Ok(parallel::in_order(count, threads, of));
    };
    parallel::in_order(count, threads, |i| watch.part(|| of(i))).into_iter().collect()
}
