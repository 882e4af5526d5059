//! Pre-registration: predictions that are written before their runs are made (Table 4).
//!
//! The paper fits its laws to models of up to 334M parameters and to up to 3M tokens, and predicts
//! 1.27B at 30M tokens. Here the runs with both the largest model and the most data (or those that the
//! settings name) are withheld from the fits, and start only after [`Preregistration::write`] has
//! written the predictions to disk.

use super::{Finetuned, Results, distinct};
use crate::blocks::MAIN;
use crate::corner::{Beyond, Corner};
#[cfg(feature = "train")]
use crate::experiment::config::Predict;
use crate::format::{objective, status};
use forgetting_laws::fit::{self, Fit, Options, Params, Prediction};
use forgetting_laws::laws::{Finetuning, Forgetting, Law, Point, Row};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::store::{sha256, write_atomic};
use forgetting_laws::table::Table;
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// A predicted run, as it is known before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// The run: the hash of its specification.
    pub run_id: RunId,
    /// The name of the target domain.
    pub domain: String,
    /// The name of the model size.
    pub size: String,
    /// The model size N as the paper counts it.
    pub n_params: u64,
    /// D_ft as asked for, in tokens.
    pub d_ft_tokens: u64,
    /// The fraction of injected pretraining data.
    pub p: f64,
    /// L_pt⁰, the loss at the end of pretraining, in nats per token.
    pub loss_pt0: f64,
    /// Tokens of the pretraining, D.
    pub d_tokens: u64,
}

impl Withheld {
    /// The prediction's run, from a run that exists already.
    pub fn of(run: &Finetuned) -> Self {
        Self {
            run_id: run.record.id.clone(),
            domain: run.domain.clone(),
            size: run.size.clone(),
            n_params: run.n_params(),
            d_ft_tokens: run.d_ft_tokens,
            p: run.p,
            loss_pt0: run.loss_pt0(),
            d_tokens: run.d_tokens,
        }
    }

    /// All runs beyond a corner of a main grid that exists already.
    pub fn all(results: &Results, corner: Corner) -> Vec<Self> {
        let withheld = |run: &&Finetuned| {
            cell(results, run).is_some_and(|(rank, d_ft)| corner.withholds(rank, d_ft))
        };
        results.block(MAIN).filter(withheld).map(Self::of).collect()
    }

    fn row(&self) -> Row {
        Row {
            n_params: self.n_params as f64,
            d_ft_tokens: self.d_ft_tokens as f64,
            p: self.p,
            loss_pt0: self.loss_pt0,
            d_tokens: super::known(self.d_tokens),
        }
    }
}

/// The rank of a run's size and its D_ft.
fn cell(results: &Results, run: &Finetuned) -> Option<(usize, u64)> {
    Some((results.parent(run)?.rank, run.d_ft_tokens))
}

/// The prediction of a law for a run. Losses are in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// The run.
    pub run: Withheld,
    /// The law's prediction; its interval is that of a new run, including noise.
    pub prediction: Prediction,
    /// The prediction of the baseline without change: L_pt⁰, or the geometric mean of the fitted
    /// losses.
    pub no_change: f64,
}

/// A law of a domain and its predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// The domain.
    pub domain: String,
    /// The law's name.
    pub law: String,
    /// The runs that it was fitted to.
    pub fitted_to: Vec<RunId>,
    /// The hash of their records.
    pub records: RunId,
    /// Whether the optimum can be trusted, or why there is no fit.
    pub status: String,
    /// The parameters with their intervals; empty without a fit.
    pub params: Params,
    /// The predictions; empty without a fit.
    pub forecasts: Vec<Forecast>,
}

/// What is registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The preset.
    pub preset: String,
    /// Which runs are fitted and which are predicted.
    pub rule: String,
    /// What the fits minimise.
    pub objective: String,
    /// Resamples of each fit.
    pub resamples: usize,
    /// The level of the intervals.
    pub level: f64,
    /// The predictions, by domain and law.
    pub registered: Vec<Registered>,
}

/// Sealed predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preregistration {
    /// The hex SHA-256 of the content's compact JSON.
    pub sha256: String,
    /// The sealed content.
    pub content: Content,
}

/// Which runs are fitted and which are predicted, for the reader of the file.
const RULE: &str = "Fitted: the counted runs of the main grid with a smaller model than the \
                    largest and less data than the most. Predicted: those with both the largest \
                    model and the most data.";

/// How predictions are made.
pub struct Plan {
    /// Which runs are fitted and which are predicted.
    pub corner: Corner,
    /// The rule in words, for whoever reads the file.
    pub rule: String,
    /// The laws that predict.
    pub laws: Vec<&'static dyn Law>,
    /// How they are fitted.
    pub options: Options,
}

impl Plan {
    /// Table 4: Equations 6 and 7, on the largest model with the most data. Without the misfit, as the
    /// committed predictions of golden/nano were sealed.
    pub fn table4(corner: Corner) -> Self {
        Self {
            corner,
            rule: RULE.into(),
            laws: vec![&Finetuning, &Forgetting],
            // Nothing but the fit itself is asked for: holding runs out would only take time.
            options: Options { hold_out: None, misfit: false, ..Options::default() },
        }
    }

    /// What the settings say of the predictions of runs beyond a corner that are sealed now: the
    /// intervals know the misfit of the law.
    ///
    /// # Errors
    /// If a law is none.
    #[cfg(feature = "train")]
    pub fn of_settings(predict: &Predict, corner: Corner) -> Result<Self> {
        let mut plan = Self::table4(corner);
        plan.options.misfit = true;
        if !predict.laws.is_empty() {
            plan.laws = predict
                .laws
                .iter()
                .map(|name| forgetting_laws::laws::by_name(name))
                .collect::<Result<_>>()?;
            plan.options = Options::default();
        }
        if *predict != Predict::default() {
            let (size, d_ft) = (&predict.size, predict.d_ft_tokens);
            let size = if size.is_empty() { "the largest" } else { size.as_str() };
            let d_ft = if d_ft == 0 { "the most".into() } else { format!("{d_ft} tokens") };
            let joined = match predict.beyond {
                Beyond::Both => "and",
                Beyond::Either => "or",
            };
            plan.rule = format!(
                "Fitted: the counted runs of the main grid with a smaller model than {size} and less \
                 data than {d_ft}. Predicted: those with {size} or a larger one {joined} {d_ft} or more."
            );
        }
        Ok(plan)
    }

    /// Table 4 for the main grid of results.
    pub fn of(results: &Results) -> Self {
        let none = Corner { rank: 0, d_ft_tokens: 0, beyond: Beyond::Both };
        let cells = results.block(MAIN).filter_map(|run| cell(results, run));
        Self::table4(Corner::of(cells).unwrap_or(none))
    }

    /// Its predictions of runs that were made already.
    pub fn made_afterwards(&self, results: &Results) -> Preregistration {
        Preregistration::make(results, &Withheld::all(results, self.corner), self)
    }
}

impl Preregistration {
    /// Fits the laws to each domain's runs with a smaller model and less data than the corner, and
    /// predicts the withheld runs. Where a law cannot be fitted its status says why, and it predicts
    /// nothing. Equal results give equal predictions.
    pub fn make(results: &Results, withheld: &[Withheld], plan: &Plan) -> Self {
        let Plan { corner, rule, laws, options } = plan;
        let mut domains: Vec<&str> = withheld.iter().map(|run| run.domain.as_str()).collect();
        domains.sort_unstable();
        domains.dedup();
        let mut registered = Vec::new();
        for domain in domains {
            let of_domain = withheld.iter().filter(|run| run.domain == domain);
            let withheld: Vec<&Withheld> = of_domain.collect();
            let runs = fitted(results, domain, *corner);
            let of_law = |&law| register(domain, law, &runs, &withheld, options);
            registered.extend(laws.iter().map(of_law));
        }
        let content = Content {
            preset: results.preset.clone(),
            rule: rule.clone(),
            objective: objective(&options.objective),
            resamples: options.bootstrap.resamples,
            level: options.bootstrap.level,
            registered,
        };
        Self { sha256: content.sha256(), content }
    }

    /// The domains whose fitted records are not, or no longer, those of the results: their
    /// predictions come from other runs.
    pub fn changed(&self, results: &Results) -> Vec<&str> {
        let now = |registered: &Registered| {
            let find = |id: &RunId| {
                results.finetuned.iter().map(|run| &run.record).find(|record| record.id == *id)
            };
            registered.fitted_to.iter().filter_map(find).collect::<Vec<&Record>>()
        };
        let differs = |registered: &&Registered| RunId::of(&now(registered)) != registered.records;
        let mut domains: Vec<&str> =
            self.content.registered.iter().filter(differs).map(|r| r.domain.as_str()).collect();
        domains.dedup();
        domains
    }

    /// Writes it into a new file. A file that is there stays as it is: the first predictions count.
    ///
    /// # Errors
    /// If the file cannot be written, or is there with other predictions.
    pub fn write(&self, path: &Path) -> Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let json = serde_json::to_vec_pretty(self).expect("our types have string keys");
        // Several workers may come here at once; the link below is made by one of them.
        let mut name = path.as_os_str().to_owned();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".{}-{count}.new", std::process::id()));
        let beside = Path::new(&name);
        write_atomic(beside, &json)?;
        let linked = fs::hard_link(beside, path);
        fs::remove_file(beside).map_err(Error::io(beside))?;
        match linked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let first = Self::read(path)?.map_or_else(String::new, |first| first.sha256);
                if first == self.sha256 {
                    Ok(())
                } else {
                    Err(Error::content(path, None, self.refused(&first)))
                }
            }
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    fn refused(&self, first: &str) -> String {
        format!(
            "holds other predictions ({first}) than these runs give now ({}); the first count, so \
             remove the file only if no run that it predicts was started",
            self.sha256
        )
    }

    /// Reads what [`Preregistration::write`] wrote; None where there is no file.
    ///
    /// # Errors
    /// If it cannot be read, or its content does not have its hash.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(path))?,
        };
        let read: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::content(path, error.line() as u64, error.to_string()))?;
        let found = read.content.sha256();
        if found == read.sha256 {
            Ok(Some(read))
        } else {
            let reason = format!(
                "its content has the hash {found}, not {}: it was changed after it was sealed",
                read.sha256
            );
            Err(Error::Damaged { path: path.to_path_buf(), reason })
        }
    }
}

impl Content {
    fn sha256(&self) -> String {
        sha256(&serde_json::to_vec(self).expect("our types have string keys"))
    }
}

/// The counted runs of a domain in the main grid with a smaller model and less data than a corner.
fn fitted<'a>(results: &'a Results, domain: &str, corner: Corner) -> Vec<&'a Finetuned> {
    let fits = |run: &&Finetuned| {
        run.domain == domain
            && cell(results, run).is_some_and(|(rank, d_ft)| corner.fits(rank, d_ft))
            && run.left_out().is_none()
    };
    results.block(MAIN).filter(fits).collect()
}

fn register(
    domain: &str,
    law: &'static dyn Law,
    runs: &[&Finetuned],
    withheld: &[&Withheld],
    options: &Options,
) -> Registered {
    let records: Vec<&Record> = runs.iter().map(|run| &run.record).collect();
    let table = Table::new(runs.iter().map(|run| run.run()).collect());
    // A larger model is predicted from what size did to smaller ones, not from one of them.
    let sizes = distinct(runs.iter().map(|run| run.n_params() as f64)).len();
    let fitted = match sizes {
        0 | 1 => {
            let requirement = "must be at least two: a larger one is predicted from them";
            Err(Error::setting("distinct sizes", sizes, requirement))
        }
        _ => fit::fit(&table, law, options),
    };
    let (status, params, forecasts) = match fitted {
        Ok(fit) => {
            let forecasts = withheld.iter().map(|run| forecast(&fit, run));
            // A model whose pretraining diverged has no loss to predict from.
            let known = forecasts.filter(|forecast| forecast.prediction.value.is_finite());
            (status(fit.status).to_string(), fit.params.clone(), known.collect())
        }
        Err(error) => (format!("no fit: {error}"), Params(Vec::new()), Vec::new()),
    };
    Registered {
        domain: domain.into(),
        law: law.name().into(),
        fitted_to: records.iter().map(|record| record.id.clone()).collect(),
        records: RunId::of(&records),
        status,
        params,
        forecasts,
    }
}

fn forecast(fit: &Fit, run: &Withheld) -> Forecast {
    let row = run.row();
    let mean = || {
        let logs: f64 = fit.rows.iter().map(|observed| observed.loss.ln()).sum();
        (logs / fit.rows.len() as f64).exp()
    };
    Forecast {
        run: run.clone(),
        prediction: fit.predict(&row),
        no_change: fit.law.baseline(&Point::from(&row)).unwrap_or_else(mean),
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::planted;
    use super::*;
    #[cfg(feature = "train")]
    use crate::experiment::config::Config;

    #[test]
    fn the_corner_is_the_largest_of_both() {
        let corner = Corner::of([(0, 9), (2, 3), (1, 3)]).unwrap();
        assert_eq!(corner, Corner { rank: 2, d_ft_tokens: 9, beyond: Beyond::Both });
        assert_eq!(Corner::of([]), None);
        let parts = |rank, d| (corner.withholds(rank, d), corner.fits(rank, d));
        assert_eq!(parts(2, 9), (true, false));
        // What shares one of both with the corner is neither predicted nor fitted.
        assert_eq!([parts(1, 9), parts(2, 8)], [(false, false); 2]);
        assert_eq!(parts(1, 8), (false, true));
        // With either they are predicted too, and the same are fitted.
        let corner = Corner { rank: 1, d_ft_tokens: 8, beyond: Beyond::Either };
        let parts = |rank, d| (corner.withholds(rank, d), corner.fits(rank, d));
        assert_eq!([parts(2, 9), parts(1, 3), parts(0, 8)], [(true, false); 3]);
        assert_eq!(parts(0, 3), (false, true));
    }

    #[test]
    fn only_runs_outside_the_corner_are_fitted() {
        let results = planted();
        let made = results.preregistration.clone().unwrap();
        assert_eq!(made.content.registered.len(), 6);
        for registered in &made.content.registered {
            assert_eq!(registered.status, "converged");
            // 3 sizes, 3 D_ft, 4 p; the corner has 4 p.
            assert_eq!((registered.fitted_to.len(), registered.forecasts.len()), (36, 4));
            for id in &registered.fitted_to {
                let run = results.finetuned.iter().find(|run| run.record.id == *id).unwrap();
                assert_eq!(run.domain, registered.domain);
                assert!(run.size != "nano-medium" && run.d_ft_tokens < 40_960, "{id}");
            }
            for forecast in &registered.forecasts {
                let Forecast { run, prediction, no_change } = forecast;
                assert_eq!((run.size.as_str(), run.d_ft_tokens), ("nano-medium", 40_960));
                assert_eq!(prediction.outside, ["n_params", "d_ft_tokens"]);
                assert!(prediction.low < Some(prediction.value));
                assert!(Some(prediction.value) < prediction.high);
                if registered.law == "forgetting" {
                    assert_eq!(*no_change, run.loss_pt0);
                }
            }
        }
    }

    /// What the withheld runs gave does not matter, so that they can be made afterwards.
    #[test]
    fn predictions_do_not_know_the_corner() {
        let mut results = planted();
        let first = results.preregistration.take().unwrap();
        let laws = &first.content.registered;
        let mut plan = Plan::of(&results);
        let withheld = Withheld::all(&results, plan.corner);
        assert_eq!(withheld.len(), 12);
        results.finetuned.retain(|run| withheld.iter().all(|held| held.run_id != run.record.id));
        plan.options.bootstrap.resamples = first.content.resamples;
        assert_eq!(Preregistration::make(&results, &withheld, &plan), first);
        assert_eq!(first.changed(&results), [""; 0]);
        let fitted = &laws[0].fitted_to[0];
        let run = results.finetuned.iter_mut().find(|run| run.record.id == *fitted).unwrap();
        run.record.evaluations[0].loss_ft += 1e-9;
        assert_eq!(first.changed(&results), [laws[0].domain.as_str()]);
    }

    #[test]
    fn the_first_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preregistration.json");
        assert_eq!(Preregistration::read(&path).unwrap(), None);
        let first = planted().preregistration.unwrap();
        first.write(&path).unwrap();
        first.write(&path).unwrap();
        assert_eq!(Preregistration::read(&path).unwrap(), Some(first.clone()));
        let mut content = first.content.clone();
        content.registered[0].forecasts[0].prediction.value += 1e-12;
        let second = Preregistration { sha256: content.sha256(), content };
        assert_ne!(second.sha256, first.sha256);
        let refused = second.write(&path).unwrap_err().to_string();
        assert!(refused.contains("the first count"), "{refused}");
        assert_eq!(Preregistration::read(&path).unwrap(), Some(first));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn of_workers_that_write_at_once_one_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preregistration.json");
        let first = planted().preregistration.unwrap();
        let variant = |i: usize| {
            let content = Content { preset: format!("worker {}", i / 2), ..first.content.clone() };
            Preregistration { sha256: content.sha256(), content }
        };
        let variants: Vec<_> = (0..8).map(variant).collect();
        let won: Vec<bool> = std::thread::scope(|scope| {
            let path = &path;
            let write = |one: &'_ Preregistration| one.write(path).is_ok();
            let workers: Vec<_> =
                variants.iter().map(|one| scope.spawn(move || write(one))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let kept = Preregistration::read(&path).unwrap().unwrap();
        for (one, won) in variants.iter().zip(won) {
            assert_eq!(won, *one == kept, "{}", one.content.preset);
        }
    }

    #[test]
    fn a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preregistration.json");
        planted().preregistration.unwrap().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"level\": 0.9", "\"level\": 0.8", 1)).unwrap();
        assert!(matches!(Preregistration::read(&path), Err(Error::Damaged { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Preregistration::read(&path), Err(Error::Content { .. })));
    }

    #[test]
    fn without_enough_runs_there_is_a_reason() {
        let mut results = planted();
        let made = results.preregistration.take().unwrap();
        let withheld = vec![made.content.registered[0].forecasts[0].run.clone()];
        let plan = Plan::of(&results);
        results.finetuned.clear();
        let made = Preregistration::make(&results, &withheld, &plan);
        assert_eq!(made.content.registered.len(), 2);
        for registered in &made.content.registered {
            assert!(registered.status.starts_with("no fit: "), "{}", registered.status);
            assert!(registered.forecasts.is_empty() && registered.fitted_to.is_empty());
        }
        // One size alone, though the law of forgetting could be fitted to it.
        let mut results = planted();
        let made = results.preregistration.take().unwrap();
        let withheld: Vec<_> =
            made.content.registered[0].forecasts.iter().map(|one| one.run.clone()).collect();
        let smallest = results.finetuned.iter().map(Finetuned::n_params).min().unwrap();
        results.finetuned.retain(|run| run.n_params() == smallest);
        for registered in &Preregistration::make(&results, &withheld, &plan).content.registered {
            assert!(registered.status.contains("distinct sizes = 1"), "{}", registered.status);
            assert!(registered.forecasts.is_empty() && !registered.fitted_to.is_empty());
        }
    }

    /// A new grid's predictions know the misfit; those that were sealed without it are made again as
    /// they were.
    #[cfg(feature = "train")]
    #[test]
    fn predictions_of_new_grids_know_the_misfit() {
        let results = planted();
        let mut plans = [Plan::of(&results), Plan::of(&results)];
        plans[1] = Plan::of_settings(&Predict::default(), plans[0].corner).unwrap();
        let widths = plans.map(|mut plan| {
            plan.options.bootstrap.resamples = 100;
            let made = plan.made_afterwards(&results);
            let forecasts = made.content.registered.iter().flat_map(|r| r.forecasts.clone());
            let width = |f: Forecast| (f.prediction.high.unwrap() / f.prediction.low.unwrap()).ln();
            forecasts.map(width).sum::<f64>()
        });
        assert!(widths[1] > 1.01 * widths[0], "{widths:?}");
    }

    #[cfg(feature = "train")]
    #[test]
    fn what_is_predicted_is_a_setting() {
        let predict = Config::load("micro", &[]).unwrap().predict;
        let corner = Corner { rank: 3, d_ft_tokens: 98_304, beyond: Beyond::Either };
        let plan = Plan::of_settings(&predict, corner).unwrap();
        let named = |plan: &Plan| plan.laws.iter().map(|law| law.name()).collect::<Vec<_>>();
        assert_eq!(named(&plan), predict.laws);
        assert!(
            plan.rule.contains("nano-large or a larger one or 98304 tokens or more"),
            "{}",
            plan.rule
        );
        let usual = Plan::of_settings(&Predict::default(), corner).unwrap();
        assert_eq!(named(&usual), ["finetuning", "forgetting"]);
        let knows_the_misfit = |plan: &Plan| plan.options.misfit;
        assert!(knows_the_misfit(&plan) && knows_the_misfit(&usual));
        let refusal = |set: &str| Config::load("micro", &[set.into()]).unwrap_err().to_string();
        assert!(refusal("predict.laws=gravity").starts_with("predict.law = gravity: "));
        assert!(refusal("predict.size=nano-micro").starts_with("predict.size = nano-micro: "));
    }
}
