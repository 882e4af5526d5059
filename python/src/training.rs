//! Schedules, weight decay and the U-curve, for training loops of Python.

use super::{named, raise};
use forgetting_laws::finetuning::{self, EvalPlan, Evaluation, JUMP, StopRule, UCurve};
use forgetting_laws::pretraining;
use forgetting_laws::weight_decay::WeightDecay;
use forgetting_laws::{Error, Fraction};
use pyo3::prelude::*;

fn pretraining_schedule(
    peak: f64,
    total_steps: u64,
    warmup: f64,
    terminal: f64,
) -> forgetting_laws::Result<pretraining::Schedule> {
    let (warmup, terminal) = (Fraction::new(warmup)?, Fraction::new(terminal)?);
    let schedule = pretraining::Schedule { peak, total_steps, warmup, terminal };
    schedule.validate()?;
    Ok(schedule)
}

/// The learning rates of steps of pretraining; multipliers where the peak is 1.
#[pyfunction]
fn pretraining_lr(
    peak: f64,
    total_steps: u64,
    warmup: f64,
    terminal: f64,
    steps: Vec<u64>,
) -> PyResult<Vec<f64>> {
    let schedule = pretraining_schedule(peak, total_steps, warmup, terminal).map_err(raise)?;
    Ok(steps.into_iter().map(|step| schedule.lr(step)).collect())
}

/// The progress at which the cosine has come down to a share of the peak.
#[pyfunction]
fn pretraining_crossing(warmup: f64, terminal: f64, share: f64) -> PyResult<Option<f64>> {
    let schedule = pretraining_schedule(1.0, 1, warmup, terminal).map_err(raise)?;
    Ok(schedule.crossing(share))
}

/// The learning rates of steps of finetuning; multipliers where the peak is 1.
#[pyfunction]
fn finetuning_lr(peak: f64, ratio: f64, warmup_steps: u64, steps: Vec<u64>) -> PyResult<Vec<f64>> {
    let schedule = finetuning::Schedule { peak, ratio, warmup_steps };
    schedule.validate().map_err(raise)?;
    Ok(steps.into_iter().map(|step| schedule.lr(step)).collect())
}

/// The λ that is the same decay by another meaning.
#[pyfunction]
fn convert_weight_decay(value: f64, meant: &str, wanted: &str, peak: Option<f64>) -> PyResult<f64> {
    const NAMES: &str = "l2, times-lr or fully-decoupled";
    let meant: WeightDecay = named("semantics", meant, NAMES)?;
    let wanted = named("semantics", wanted, NAMES)?;
    meant.convert(value, wanted, peak.unwrap_or(f64::NAN)).map_err(|error| match error {
        Error::Setting { name, .. } if name == "peak" && peak.is_none() => {
            let why = "give the peak learning rate, by which the two meanings differ";
            raise(Error::missing("peak", why))
        }
        other => raise(other),
    })
}

/// The steps after which to evaluate.
#[pyfunction]
fn evaluation_steps(
    horizon: u64,
    min_interval: u64,
    ratio: f64,
    max_interval: u64,
) -> PyResult<Vec<u64>> {
    let plan = EvalPlan { min_interval, ratio, max_interval };
    plan.validate().map_err(raise)?;
    Ok(plan.steps(horizon))
}

/// The bottom of a run: the step, L_ft and L_pt there, and whether evaluations lie on both sides.
type Bottom = (u64, f64, f64, bool);

/// Of the evaluations of a run, each a step, L_ft and L_pt: the bottom, whether the U has turned by a
/// rule of rise, factor and least steps, and whether the run is stable.
#[pyfunction]
fn u_curve(
    evaluations: Vec<(u64, f64, f64)>,
    rise: f64,
    factor: f64,
    min_steps: u64,
) -> PyResult<(Option<Bottom>, bool, bool)> {
    let of = |(step, loss_ft, loss_pt)| Evaluation { step, loss_ft, loss_pt, loss_train: None };
    let evaluations: Vec<_> = evaluations.into_iter().map(of).collect();
    let curve = UCurve::new(&evaluations).map_err(raise)?;
    let rule = StopRule { rise, factor, min_steps };
    rule.validate().map_err(raise)?;
    let bottom = curve.bottom();
    let bottom = bottom.map(|at| (at.step, at.loss_ft, at.loss_pt, at.interior));
    Ok((bottom, rule.stops(&curve), curve.instability(JUMP).is_none()))
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pretraining_lr, module)?)?;
    module.add_function(wrap_pyfunction!(pretraining_crossing, module)?)?;
    module.add_function(wrap_pyfunction!(finetuning_lr, module)?)?;
    module.add_function(wrap_pyfunction!(convert_weight_decay, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation_steps, module)?)?;
    module.add_function(wrap_pyfunction!(u_curve, module)?)
}
