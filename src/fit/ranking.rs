//! Which form of a law predicts held-out runs best.

use super::bootstrap::{Bootstrap, ClusterRow, Clusters, Interval};
use super::errors::Errors;
use super::held_out::{BaselineRow, Fold, HeldOutRow, HoldOut, folds, predict_held_out};
use super::{Fit, Observed, Options, in_order};
use crate::Result;
use crate::laws::Law;
use crate::rng::Key;
use crate::table::{Sample, Table};
use crate::words::error_percent;
use serde::{Deserialize, Serialize};

/// The forms for one loss, ranked by their errors on held-out runs.
///
/// Every form is fitted to the same rows and predicts the same held-out rows, on every axis with
/// enough values in the table: each size in turn, each amount of data, each p except 0, and the
/// largest size with the most data. The rank is by the error of the increase
/// ([`Errors::rise_error`]), averaged over all axes except the last, which holds out few runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// The domain or group, for the reader; empty if there is only one.
    pub domain: String,
    /// The column of the loss.
    pub loss: String,
    /// The number of compared rows.
    pub n_rows: usize,
    /// The number of runs that they belong to.
    pub n_runs: usize,
    /// The axes on which runs were held out.
    pub axes: Vec<HoldOut>,
    /// The number of resamples of runs behind the intervals.
    pub resamples: usize,
    /// The level of the intervals.
    pub level: f64,
    /// The forms, the best first.
    pub forms: Vec<Ranked>,
    /// The baselines: no change, and the log-linear regression.
    pub baselines: Vec<Ranked>,
}

/// A ranked form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranked {
    /// The law's name, or `no-change` or `log-linear`.
    pub form: String,
    /// The number of its parameters.
    pub parameters: usize,
    /// Its errors on the runs held out on each axis, in the order of [`Ranking::axes`].
    pub errors: Vec<Errors>,
    /// The mean of its errors over the axes except the largest, which holds out few runs.
    pub mean: Errors,
    /// By how much its mean error of the increase exceeds the best form's: a paired bootstrap over
    /// runs. If a size has several pretrained models, models are drawn first, and then runs of each.
    pub behind: Interval,
    /// Whether it cannot be told apart from the best form: the interval reaches 0.
    pub tied: bool,
    /// Whether both of its mean errors are below those of both baselines.
    pub supported: bool,
}

/// The preferred form of a ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferred {
    /// The law's name.
    pub form: String,
    /// The reason, as text to follow the name.
    pub why: String,
}

impl Ranking {
    /// The preferred form: among those that cannot be told apart from the best (and are supported,
    /// if any is), the one with the fewest parameters, with ties going to the smallest error.
    pub fn preferred(&self) -> Option<Preferred> {
        let any = self.forms.iter().any(|form| form.tied && form.supported);
        let candidates = || self.forms.iter().filter(|form| form.tied && (form.supported || !any));
        let chosen = candidates().min_by_key(|form| form.parameters)?;
        let others: Vec<_> =
            candidates().filter(|form| form.form != chosen.form).map(|form| &*form.form).collect();
        let error = |form: &Ranked| error_percent(form.mean.rise_error);
        let mut why = format!("smallest error of the increase on held-out runs, {}", error(chosen));
        let best = &self.forms[0];
        if best.form != chosen.form {
            why = format!(
                "fewest parameters among the forms that cannot be told apart from the best: error of the \
                 increase {}, {} {}",
                error(chosen),
                best.form,
                error(best)
            );
        } else if !others.is_empty() {
            why += &format!("; cannot be told apart from {}", others.join(", "));
        }
        if !any {
            why += "; no form beats both baselines";
        }
        Some(Preferred { form: chosen.form.clone(), why })
    }
}

/// Ranks the forms for one loss on a table; `None` if fewer than two of them can be compared. The
/// caller sets the domain. Held-out results in `fits` of this table are reused.
///
/// # Errors
/// If a value in the table is invalid.
pub fn rank(
    table: &Table,
    laws: &[&'static dyn Law],
    fits: &[Fit],
    options: &Options,
) -> Result<Option<Ranking>> {
    let threads = super::threads(options);
    let laws: Vec<_> = laws.iter().filter(|law| table.sample(**law).is_ok()).copied().collect();
    // The law that reads most has the rows that all can read.
    let Some(widest) = laws.iter().rev().max_by_key(|law| law.inputs().len()) else {
        return Ok(None);
    };
    if laws.len() < 2 {
        return Ok(None);
    }
    let sample = table.sample(*widest)?;
    let contest = Contest { laws: &laws, widest: *widest, sample: &sample, fits, options, threads };
    let mut axes = Vec::new();
    for by in [HoldOut::Size, HoldOut::Data, HoldOut::P, HoldOut::Largest] {
        axes.extend(contest.axis(by)?);
    }
    let means = |axis: &&Axis| axis.by != HoldOut::Largest;
    if !axes.iter().any(|axis| means(&axis)) {
        return Ok(None);
    }
    let contestants = laws.len() + BASELINES.len();
    let scores = |counts: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let of = |i: usize| {
            let scored = axes.iter().filter(means);
            let each: Vec<f64> = scored.map(|axis| axis.error_of_increase(i, counts)).collect();
            each.iter().sum::<f64>() / each.len() as f64
        };
        (0..contestants).map(of).collect()
    };
    let whole = scores(&|_| 1.0);
    let best = (0..laws.len()).min_by(|&a, &b| whole[a].total_cmp(&whole[b])).unwrap_or(0);
    options.bootstrap.check()?;
    let Bootstrap { resamples, level, seed } = options.bootstrap;
    let key = Key::new(seed).named("paired bootstrap over runs");
    let models = sample.models();
    let of_row = |i: usize| {
        let (row, model, run) = (&sample.rows[i], models[i], sample.runs[i]);
        ClusterRow { n: row.n_params, d: row.d_tokens, model, run }
    };
    let clusters = Clusters::new(*widest, sample.n_runs, (0..sample.len()).map(of_row));
    let resample = |b: usize| {
        let key = key.child(b as u64);
        let counts = Clusters::counts(clusters.as_ref(), sample.n_runs, key);
        scores(&|run| counts[run] as f64)
    };
    let resampled = in_order(resamples, threads, resample)?;
    let ranked = |i: usize| {
        let mut differences: Vec<f64> =
            resampled.iter().map(|scores| scores[i] - scores[best]).collect();
        let difference = whole[i] - whole[best];
        let behind = if differences.is_empty() {
            Interval { mean: difference, low: difference, high: difference }
        } else {
            Interval::around(&mut differences, level)
        };
        let (form, parameters) = match laws.get(i) {
            Some(law) => (law.name(), law.parameters().len()),
            None => BASELINES[i - laws.len()],
        };
        let parameters = if form == LOG_LINEAR { widest.inputs().len() } else { parameters };
        let errors: Vec<Errors> = axes.iter().map(|axis| axis.errors[i]).collect();
        let scored: Vec<Errors> = axes.iter().filter(means).map(|axis| axis.errors[i]).collect();
        let mean =
            |of: fn(&Errors) -> f64| scored.iter().map(of).sum::<f64>() / scored.len() as f64;
        Ranked {
            form: form.to_string(),
            parameters,
            errors,
            mean: Errors { mre: mean(|e| e.mre), rise_error: mean(|e| e.rise_error) },
            behind,
            // Below what two fits of one law differ by, it is no difference.
            tied: i == best || behind.low <= 1e-7,
            supported: false,
        }
    };
    let mut forms: Vec<Ranked> = (0..contestants).map(ranked).collect();
    let baselines = forms.split_off(laws.len());
    for form in &mut forms {
        form.supported = baselines.iter().all(|baseline| form.mean.beat(&baseline.mean));
    }
    forms.sort_by(|a, b| a.mean.rise_error.total_cmp(&b.mean.rise_error));
    Ok(Some(Ranking {
        domain: String::new(),
        loss: widest.output().to_string(),
        n_rows: sample.len(),
        n_runs: sample.n_runs,
        axes: axes.iter().map(|axis| axis.by).collect(),
        resamples,
        level,
        forms,
        baselines,
    }))
}

const LOG_LINEAR: &str = "log-linear";
const BASELINES: [(&str, usize); 2] = [("no-change", 0), (LOG_LINEAR, 0)];

/// An axis along which runs were held out, with what each form and then each baseline says of them.
struct Axis {
    by: HoldOut,
    errors: Vec<Errors>,
    /// The run of each row that all have predicted, the size of its increase, and the error of each
    /// form and baseline, all times the row's weight.
    rows: Vec<(usize, f64, Vec<f64>)>,
}

/// Forms that are compared on one sample.
struct Contest<'a> {
    laws: &'a [&'static dyn Law],
    /// The one that reads most.
    widest: &'static dyn Law,
    sample: &'a Sample,
    /// What of them was held out before.
    fits: &'a [Fit],
    options: &'a Options,
    threads: usize,
}

impl Contest<'_> {
    /// `None` where too few runs are left for some form.
    fn axis(&self, by: HoldOut) -> Result<Option<Axis>> {
        let Self { laws, widest, sample, fits, options, threads } = *self;
        // Without p = 0 no run shows what is forgotten without injection, and B is anything.
        let asked = |i: usize| by != HoldOut::P || sample.rows[i].p > 0.0;
        let asked_of = |fold: &Fold| fold.test.iter().all(|&i| asked(i));
        // The predictions of each form, by row; rows that some form has no prediction for are out.
        let mut found: Vec<Vec<Option<f64>>> = Vec::new();
        let mut of_widest = Vec::new();
        for &law in laws {
            let Ok(mut folds) = folds(law, sample, by) else { return Ok(None) };
            folds.retain(asked_of);
            let known = fits.iter().find_map(|fit| known(fit, law, sample, by, options));
            let rows = match known {
                Some(rows) => rows.to_vec(),
                None => predict_held_out(law, sample, &folds, &options.objective, threads)?,
            };
            let mut of_form = vec![None; sample.len()];
            for row in rows.iter().filter(|row| asked(row.index)) {
                of_form[row.index] = Some(row.prediction);
            }
            found.push(of_form);
            if law.name() == widest.name() {
                of_widest = folds;
            }
        }
        let in_all = |&i: &usize| found.iter().all(|rows| rows[i].is_some());
        let shared: Vec<usize> = (0..sample.len()).filter(in_all).collect();
        if shared.is_empty() {
            return Ok(None);
        }
        let mut baselines = BaselineRow::held_out(widest, sample, &of_widest)?;
        baselines.sort_by_key(|row| row.index);
        baselines.retain(|row| shared.binary_search(&row.index).is_ok());
        let base = BaselineRow::mean_constant(&baselines);
        let test = sample.select(&shared);
        let mut predictions: Vec<Vec<f64>> =
            found.iter().map(|rows| shared.iter().filter_map(|&i| rows[i]).collect()).collect();
        predictions.push(baselines.iter().map(|row| row.no_change).collect());
        predictions.push(baselines.iter().map(|row| row.log_linear).collect());
        let errors = predictions.iter().map(|p| Errors::of(widest, &test, p, base)).collect();
        let row = |(j, &i): (usize, &usize)| {
            let weight = sample.weights[i];
            let without = widest.baseline(&sample.points[i]).unwrap_or(base);
            let missed = predictions.iter().map(|p| weight * (p[j] - sample.losses[i]).abs());
            (sample.runs[i], weight * (sample.losses[i] - without).abs(), missed.collect())
        };
        let rows = shared.iter().enumerate().map(row).collect();
        Ok(Some(Axis { by, errors, rows }))
    }
}

impl Axis {
    /// The error of the increase of a form or baseline, with each run counted so many times.
    fn error_of_increase(&self, i: usize, counts: &dyn Fn(usize) -> f64) -> f64 {
        let add = |(missed, increase): (f64, f64), (run, size, errors): &(usize, f64, Vec<f64>)| {
            let count = counts(*run);
            (missed + count * errors[i], increase + count * size)
        };
        let (missed, increase) = self.rows.iter().fold((0.0, 0.0), add);
        missed / increase
    }
}

/// What a fit of a law to these very rows has held out along an axis.
fn known<'a>(
    fit: &'a Fit,
    law: &dyn Law,
    sample: &Sample,
    by: HoldOut,
    options: &Options,
) -> Option<&'a [HeldOutRow]> {
    let held_out = fit.held_out.as_ref().filter(|held_out| held_out.by == by)?;
    let same = |i: usize| {
        let Observed { row, loss, weight, .. } = fit.rows[i];
        let reads = law.inputs().iter().map(|input| input.column);
        let mut values = reads.map(|column| row.get(column) == sample.rows[i].get(column));
        values.all(|same| same) && loss == sample.losses[i] && weight == sample.weights[i]
    };
    let of_these = fit.law.name() == law.name()
        && fit.minimised == options.objective
        && fit.rows.len() == sample.len()
        && (0..sample.len()).all(same);
    of_these.then_some(&held_out.rows)
}
