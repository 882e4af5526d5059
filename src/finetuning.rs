//! Finetuning (the paper's experimental setup, and Figure 5): the learning-rate rule, when to
//! evaluate, and the bottom of the U-curve.
//!
//! The paper finetunes for 12K steps at 1/30 of the peak pretraining rate, and always considers
//! "the models obtained at the bottom of the U-curve, that is, models with the best validation loss
//! on the finetuning set"; the pretraining loss is read at the same checkpoint.
//!
//! ```
//! use forgetting_laws::finetuning::{Evaluation, UCurve};
//!
//! let at = |step, loss_ft, loss_pt| Evaluation { step, loss_ft, loss_pt, loss_train: None };
//! let evaluations = [at(0, 4.0, 3.0), at(100, 3.1, 3.2), at(200, 3.3, 3.4)];
//! let bottom = UCurve::new(&evaluations)?.bottom().unwrap();
//! assert_eq!((bottom.step, bottom.loss_pt, bottom.interior), (100, 3.2, true));
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

use crate::{Error, Fraction, Result};
use serde::{Deserialize, Serialize};

/// The paper's rule of thumb: finetuning rate divided by peak pretraining rate.
pub const LR_RATIO: f64 = 1.0 / 30.0;

/// The paper's length of finetuning in optimiser steps, enough for a U-curve in every
/// configuration that it tested.
pub const STEPS: u64 = 12_000;

/// What the finetuning budget counts. As far as is known, the paper's 12K steps include injected
/// data, which then replaces target data. If only target data count, injection adds steps instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The budget counts all sequences, injected ones included.
    #[default]
    Total,
    /// Target sequences only: 1 / (1 − p) times as many steps.
    Target,
}

impl Budget {
    /// Optimiser steps at a fraction p of injected data, for a budget of `steps` at p = 0; rounded up.
    ///
    /// # Errors
    /// If only target sequences count and there are none, at p = 1.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::{Fraction, finetuning::Budget};
    /// let p = Fraction::new(0.25)?;
    /// assert_eq!((Budget::Total.steps(12_000, p)?, Budget::Target.steps(12_000, p)?), (12_000, 16_000));
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn steps(self, steps: u64, p: Fraction) -> Result<u64> {
        match self {
            Self::Total => Ok(steps),
            Self::Target if p.get() == 1.0 => {
                let requirement = "must be total where p = 1: there is no target data to count";
                Err(Error::setting("budget", "target", requirement))
            }
            // As a float, 0.05 is a little above 1/20. What exceeds a whole number by rounding
            // alone does not count.
            Self::Target => Ok((steps as f64 / (1.0 - p.get()) * (1.0 - 1e-12)).ceil() as u64),
        }
    }
}

/// The learning rate of finetuning: constant after an optional warmup.
///
/// The paper gives the ratio. Its schedule and warmup are unknown; a constant rate without warmup
/// is our choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The pretraining's peak learning rate.
    pub peak: f64,
    /// The finetuning rate divided by that peak; [`LR_RATIO`] by default.
    #[serde(default = "Schedule::paper_ratio")]
    pub ratio: f64,
    /// Steps of linear warmup; none by default.
    #[serde(default)]
    pub warmup_steps: u64,
}

impl Schedule {
    /// The paper's rate for a model that was pretrained with this peak.
    pub fn paper(peak: f64) -> Self {
        Self { peak, ratio: LR_RATIO, warmup_steps: 0 }
    }

    fn paper_ratio() -> f64 {
        LR_RATIO
    }

    /// Refuses settings that no run can use.
    ///
    /// # Errors
    /// If the peak or the ratio is not a positive number.
    pub fn validate(&self) -> Result<()> {
        positive("peak", self.peak)?;
        positive("ratio", self.ratio)
    }

    /// The learning rate of optimiser step `step`, counted from 0. The first warmup step has
    /// 1/warmup_steps of the rate, the last one the full rate.
    pub fn lr(&self, step: u64) -> f64 {
        self.peak * self.multiplier(step)
    }

    /// The rate of `step` divided by the peak pretraining rate: the η_t of fully decoupled weight
    /// decay, which thus continues that of pretraining.
    pub fn multiplier(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            self.ratio * (step + 1) as f64 / self.warmup_steps as f64
        } else {
            self.ratio
        }
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, value, "must be a positive number"))
    }
}

/// The losses, in nats per token, after a number of finetuning steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Optimiser steps taken; 0 is the pretrained model.
    pub step: u64,
    /// The loss on the target's validation set. Written as null where it is not finite.
    #[serde(with = "nan_as_null")]
    pub loss_ft: f64,
    /// The loss on the pretraining's validation set. Written as null where it is not finite.
    #[serde(with = "nan_as_null")]
    pub loss_pt: f64,
    /// The training loss, if known.
    pub loss_train: Option<f64>,
}

impl Evaluation {
    fn has_finite_validation(&self) -> bool {
        self.loss_ft.is_finite() && self.loss_pt.is_finite()
    }

    fn is_finite(&self) -> bool {
        self.has_finite_validation() && self.loss_train.is_none_or(f64::is_finite)
    }
}

/// JSON has no NaN, but diverged runs must still be written and read.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// After which steps to evaluate: densely at the start, to catch an early bottom, then at
/// intervals that grow with the step. The paper's intervals are unknown; these are ours.
///
/// After step s the next evaluation is at ⌊ratio · s⌋, but not before s + min_interval nor after
/// s + max_interval; step 0 and the last step are always evaluated.
///
/// ```
/// use forgetting_laws::finetuning::EvalPlan;
/// let plan = EvalPlan { min_interval: 10, ratio: 1.5, max_interval: 50 };
/// assert_eq!(plan.steps(200), [0, 10, 20, 30, 45, 67, 100, 150, 200]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalPlan {
    /// The interval at the start, in steps.
    pub min_interval: u64,
    /// The ratio of consecutive evaluation steps between the two limits.
    pub ratio: f64,
    /// The largest interval, in steps.
    pub max_interval: u64,
}

impl Default for EvalPlan {
    fn default() -> Self {
        Self { min_interval: 1, ratio: 1.2, max_interval: 250 }
    }
}

impl EvalPlan {
    /// Evaluations at a regular interval.
    pub fn every(interval: u64) -> Self {
        Self { min_interval: interval, ratio: 1.0, max_interval: interval }
    }

    /// Refuses settings that no run can use.
    ///
    /// # Errors
    /// If an interval is 0, the largest is smaller than the smallest, or the ratio is below 1.
    pub fn validate(&self) -> Result<()> {
        if self.min_interval == 0 {
            return Err(Error::setting("min_interval", 0, "must be at least 1 step"));
        }
        if self.max_interval < self.min_interval {
            let requirement = format!("must not be below min_interval, {}", self.min_interval);
            return Err(Error::setting("max_interval", self.max_interval, requirement));
        }
        if !(self.ratio.is_finite() && self.ratio >= 1.0) {
            return Err(Error::setting("ratio", self.ratio, "must be a number of at least 1"));
        }
        Ok(())
    }

    /// The steps to evaluate after in a run of `horizon` steps, ascending, from 0 to `horizon`.
    /// Except for the last, they do not depend on the horizon.
    pub fn steps(&self, horizon: u64) -> Vec<u64> {
        let mut steps = vec![0];
        let mut step = 0;
        while step < horizon {
            let grown = ((self.ratio * step as f64) as u64).saturating_sub(step);
            // max(1) ends the loop for a plan that was not validated, too.
            let interval = grown.max(self.min_interval).min(self.max_interval).max(1);
            step = step.saturating_add(interval).min(horizon);
            steps.push(step);
        }
        steps
    }
}

/// An increase by more than this many nats from one evaluation to the next is a jump. This is our
/// choice: between two evaluations of the default plan, overfitting increases the loss by less and
/// divergence by more.
pub const JUMP: f64 = 1.0;

/// The evaluations of one run: the finetuning loss falls, and rises again when the model overfits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UCurve<'a>(&'a [Evaluation]);

/// The model that the paper considers: the best on the finetuning validation set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bottom {
    /// Optimiser steps taken.
    pub step: u64,
    /// The finetuning validation loss there, the lowest of the run.
    pub loss_ft: f64,
    /// The pretraining validation loss there.
    pub loss_pt: f64,
    /// Whether there are finite evaluations on both sides. If not, the run was too short to
    /// overfit, overfitted before the first evaluation, or diverged.
    pub interior: bool,
}

/// Why a run is not stable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Instability {
    /// A loss was not finite.
    NonFinite {
        /// The first such evaluation.
        step: u64,
    },
    /// A loss rose by more than the stated size from one evaluation to the next.
    Jump {
        /// The first evaluation after a jump.
        step: u64,
        /// The increase in nats.
        rise: f64,
    },
}

impl<'a> UCurve<'a> {
    /// The curve through the evaluations of one run.
    ///
    /// # Errors
    /// If the steps are not strictly ascending.
    pub fn new(evaluations: &'a [Evaluation]) -> Result<Self> {
        match evaluations.windows(2).find(|pair| pair[0].step >= pair[1].step) {
            None => Ok(Self(evaluations)),
            Some(pair) => {
                let requirement = format!("must come after step {}", pair[0].step);
                Err(Error::setting("evaluation step", pair[1].step, requirement))
            }
        }
    }

    /// The evaluation with the lowest finetuning validation loss, the earliest of equal ones.
    /// Evaluations with a validation loss that is not finite do not count; `None` if none is left.
    pub fn bottom(&self) -> Option<Bottom> {
        let finite = || self.0.iter().filter(|e| e.has_finite_validation());
        // min_by keeps the first of equal ones.
        let best = finite().min_by(|a, b| a.loss_ft.total_cmp(&b.loss_ft))?;
        let interior = finite().next()?.step < best.step && best.step < finite().next_back()?.step;
        Some(Bottom { step: best.step, loss_ft: best.loss_ft, loss_pt: best.loss_pt, interior })
    }

    /// The first reason why the run is not stable, if there is one.
    ///
    /// A run is *stable* when every recorded loss is finite and neither the finetuning validation
    /// loss nor the training loss rises by more than `jump` nats ([`JUMP`] by default) from one
    /// evaluation to the next, before or after the bottom. The pretraining loss may: forgetting is
    /// not instability. A gradual increase after the bottom is overfitting, which is expected. What
    /// the paper means by "stable training" is unknown.
    pub fn instability(&self, jump: f64) -> Option<Instability> {
        let mut previous: Option<&Evaluation> = None;
        for now in self.0 {
            if !now.is_finite() {
                return Some(Instability::NonFinite { step: now.step });
            }
            if let Some(before) = previous {
                let train = now.loss_train.zip(before.loss_train).map_or(0.0, |(b, a)| b - a);
                let rise = (now.loss_ft - before.loss_ft).max(train);
                if rise > jump {
                    return Some(Instability::Jump { step: now.step, rise });
                }
            }
            previous = Some(now);
        }
        None
    }

    /// Whether [`UCurve::instability`] finds nothing at the default [`JUMP`].
    pub fn stable(&self) -> bool {
        self.instability(JUMP).is_none()
    }
}

/// When to stop because the U-curve has clearly turned and further steps would only overfit. Off in
/// the paper.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRule {
    /// How far the finetuning validation loss must be above the bottom, in nats.
    pub rise: f64,
    /// The minimum step, as a multiple of the bottom's step.
    pub factor: f64,
    /// Steps that are always taken, since an initial increase from rewarming the learning rate is
    /// not a U-curve.
    pub min_steps: u64,
}

impl Default for StopRule {
    fn default() -> Self {
        Self { rise: 0.1, factor: 2.0, min_steps: 100 }
    }
}

impl StopRule {
    /// Refuses settings that no run can use.
    ///
    /// # Errors
    /// If the increase is not a positive number or the factor is below 1.
    pub fn validate(&self) -> Result<()> {
        positive("rise", self.rise)?;
        if self.factor.is_finite() && self.factor >= 1.0 {
            Ok(())
        } else {
            Err(Error::setting("factor", self.factor, "must be a number of at least 1"))
        }
    }

    /// Whether to stop after the last of these evaluations. It depends only on them, so a resumed
    /// run stops at the same step as an uninterrupted one.
    ///
    /// True if the last evaluation is at least `rise` above the bottom, at a step of at least
    /// `min_steps` and at least `factor` times the bottom's. Also true if a validation loss is not
    /// finite, since the run cannot recover.
    pub fn stops(&self, curve: &UCurve) -> bool {
        let Some(last) = curve.0.last() else { return false };
        let Some(bottom) = curve.bottom().filter(|_| last.has_finite_validation()) else {
            return true;
        };
        last.step >= self.min_steps
            && last.step as f64 >= self.factor * bottom.step as f64
            && last.loss_ft >= bottom.loss_ft + self.rise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn at(step: u64, loss_ft: f64) -> Evaluation {
        Evaluation { step, loss_ft, loss_pt: 10.0 + step as f64, loss_train: None }
    }

    /// Evaluations at steps 0, 10, 20, …
    fn run(losses: &[f64]) -> Vec<Evaluation> {
        (0..).step_by(10).zip(losses).map(|(step, &loss)| at(step, loss)).collect()
    }

    fn bottom(losses: &[f64]) -> Option<(u64, bool)> {
        UCurve::new(&run(losses)).unwrap().bottom().map(|b| (b.step, b.interior))
    }

    #[test]
    fn the_rate_is_a_thirtieth_after_the_warmup() {
        let schedule = Schedule::paper(3e-3);
        // One rounding of the product.
        assert_relative_eq!(schedule.lr(0), 1e-4, max_relative = 1e-15);
        assert_eq!(schedule.lr(STEPS - 1), schedule.lr(0));
        assert_eq!(schedule.multiplier(5), LR_RATIO);
        let warm = Schedule { peak: 2.0, ratio: 0.5, warmup_steps: 4 };
        let rates = [0.25, 0.5, 0.75, 1.0, 1.0];
        assert_eq!([0, 1, 2, 3, 4].map(|step| warm.lr(step)), rates);
        assert_eq!([0, 1, 2, 3, 4].map(|step| 2.0 * warm.multiplier(step)), rates);
        assert_eq!(warm.lr(u64::MAX), 1.0);
    }

    #[test]
    fn a_budget_of_target_steps_grows_with_p() {
        let steps = |budget: Budget, p| budget.steps(12_000, Fraction::new(p).unwrap());
        for (p, expected) in [(0.0, 12_000), (0.01, 12_122), (0.05, 12_632), (0.5, 24_000)] {
            assert_eq!(steps(Budget::Total, p).unwrap(), 12_000);
            let total = steps(Budget::Target, p).unwrap();
            assert_eq!(total, expected, "p = {p}");
            // As many target steps as were asked for, and not one more than needed.
            assert!(total as f64 * (1.0 - p) >= 12_000.0 - 1e-6);
            assert!((total - 1) as f64 * (1.0 - p) < 12_000.0);
        }
        assert_eq!(steps(Budget::Total, 1.0).unwrap(), 12_000);
        assert!(steps(Budget::Target, 1.0).unwrap_err().to_string().contains("budget"));
    }

    #[test]
    fn the_rate_is_read_with_defaults_and_validated() {
        let read: Schedule = serde_json::from_str(r#"{"peak": 0.5}"#).unwrap();
        assert_eq!(read, Schedule::paper(0.5));
        assert!(read.validate().is_ok());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule { peak: bad, ..read }.validate().is_err());
            assert!(Schedule { ratio: bad, ..read }.validate().is_err());
        }
    }

    #[test]
    fn plan_is_dense_at_first_and_regular_at_last() {
        let steps = EvalPlan::default().steps(STEPS);
        assert_eq!(steps[..14], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16]);
        assert_eq!(steps.last(), Some(&STEPS));
        assert!((60..100).contains(&steps.len()), "{}", steps.len());
        assert_eq!(EvalPlan::every(4).steps(10), [0, 4, 8, 10]);
        assert_eq!(EvalPlan::every(4).steps(0), [0]);
        assert_eq!(EvalPlan::every(5).steps(10), [0, 5, 10]);
        assert_eq!(EvalPlan::every(0).steps(3), [0, 1, 2, 3]);
    }

    #[test]
    fn plan_is_validated() {
        let name = |plan: EvalPlan| match plan.validate().unwrap_err() {
            Error::Setting { name, .. } => name,
            other => panic!("{other}"),
        };
        let plan = EvalPlan::default();
        assert!(plan.validate().is_ok());
        assert!(EvalPlan::every(7).validate().is_ok());
        assert_eq!(name(EvalPlan::every(0)), "min_interval");
        assert_eq!(name(EvalPlan { min_interval: 251, ..plan }), "max_interval");
        for ratio in [0.99, f64::NAN, f64::INFINITY] {
            assert_eq!(name(EvalPlan { ratio, ..plan }), "ratio");
        }
    }

    #[test]
    fn bottom_is_the_earliest_minimum_and_says_whether_it_is_interior() {
        let nan = f64::NAN;
        assert_eq!(bottom(&[]), None);
        assert_eq!(bottom(&[3.0]), Some((0, false)));
        assert_eq!(bottom(&[3.0, 2.0]), Some((10, false)));
        assert_eq!(bottom(&[2.0, 3.0]), Some((0, false)));
        assert_eq!(bottom(&[3.0, 2.0, 2.5]), Some((10, true)));
        assert_eq!(bottom(&[3.0, 2.0, 2.0, 2.5]), Some((10, true)));
        assert_eq!(bottom(&[3.0, 2.5, 2.0, 2.0]), Some((20, true)));
        // A run that breaks down has not turned.
        assert_eq!(bottom(&[3.0, 2.0, nan, nan]), Some((10, false)));
        assert_eq!(bottom(&[3.0, 2.0, nan, 2.5]), Some((10, true)));
        assert_eq!(bottom(&[nan, 2.0, 2.5]), Some((10, false)));
        assert_eq!(bottom(&[nan, f64::INFINITY, f64::NEG_INFINITY]), None);
    }

    #[test]
    fn bottom_reads_both_losses_of_one_checkpoint() {
        let mut evaluations = run(&[3.0, 2.0, 1.0]);
        evaluations[2].loss_pt = f64::NAN;
        let bottom = UCurve::new(&evaluations).unwrap().bottom().unwrap();
        assert_eq!(bottom, Bottom { step: 10, loss_ft: 2.0, loss_pt: 20.0, interior: false });
    }

    #[test]
    fn steps_must_ascend() {
        for steps in [[0, 0], [5, 4]] {
            let error = UCurve::new(&steps.map(|step| at(step, 1.0))).unwrap_err().to_string();
            assert!(error.contains(&format!("must come after step {}", steps[0])), "{error}");
        }
    }

    #[test]
    fn stable_means_finite_and_without_a_jump() {
        let instability = |losses: &[f64]| UCurve::new(&run(losses)).unwrap().instability(0.5);
        assert_eq!(instability(&[]), None);
        assert_eq!(instability(&[3.0, 2.0, 2.5, 3.0, 3.5]), None);
        assert_eq!(
            instability(&[3.0, 2.0, 2.75, 9.0]),
            Some(Instability::Jump { step: 20, rise: 0.75 })
        );
        // Before the bottom, too.
        assert_eq!(instability(&[3.0, 4.0, 2.0]), Some(Instability::Jump { step: 10, rise: 1.0 }));
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(instability(&[3.0, 2.0, bad]), Some(Instability::NonFinite { step: 20 }));
        }
        assert!(UCurve::new(&run(&[3.0, 2.0, 3.0])).unwrap().stable());
        assert!(!UCurve::new(&run(&[3.0, 2.0, 3.01])).unwrap().stable());
    }

    #[test]
    fn stability_looks_at_the_training_loss_and_lets_the_model_forget() {
        let mut evaluations = run(&[3.0, 3.0, 3.0]);
        let curve = |evaluations: &[Evaluation]| UCurve::new(evaluations).unwrap().instability(0.5);
        evaluations[2].loss_pt = 99.0;
        assert_eq!(curve(&evaluations), None);
        for (train, stays) in [(2.5, true), (2.75, false), (1.0, true), (f64::NAN, false)] {
            evaluations[1].loss_train = Some(2.0);
            evaluations[2].loss_train = Some(train);
            assert_eq!(curve(&evaluations).is_none(), stays, "{train}");
        }
        evaluations[2].loss_train = None;
        evaluations[1].loss_pt = f64::NAN;
        assert_eq!(curve(&evaluations), Some(Instability::NonFinite { step: 10 }));
    }

    #[test]
    fn stops_when_the_u_has_clearly_turned() {
        let rule = StopRule { rise: 0.5, factor: 3.0, min_steps: 20 };
        let stops = |losses: &[f64]| rule.stops(&UCurve::new(&run(losses)).unwrap());
        assert!(!stops(&[]));
        assert!(!stops(&[3.0]));
        // The bottom is at 10, so 30 is the first step that may end the run.
        assert!(!stops(&[3.0, 2.0, 2.5]));
        assert!(stops(&[3.0, 2.0, 2.5, 2.5]));
        assert!(!stops(&[3.0, 2.0, 2.5, 2.49]));
        assert!(!stops(&[3.0, 2.0, 2.9, 2.9, 1.9]));
        // A bottom at the start is believed after min_steps.
        assert!(!stops(&[2.0, 3.0]));
        assert!(stops(&[2.0, 3.0, 3.0]));
        // What is not finite does not come back.
        assert!(stops(&[f64::NAN]));
        assert!(stops(&[3.0, 2.0, f64::NAN]));
    }

    #[test]
    fn stop_rule_is_validated() {
        let rule = StopRule::default();
        assert!(rule.validate().is_ok());
        assert!(StopRule { factor: 1.0, ..rule }.validate().is_ok());
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            assert!(StopRule { rise: bad, ..rule }.validate().is_err());
            assert!(StopRule { factor: bad, ..rule }.validate().is_err());
        }
        assert!(StopRule { factor: 0.99, ..rule }.validate().is_err());
    }

    #[test]
    fn a_broken_run_survives_json() {
        let broken = Evaluation { loss_ft: f64::NAN, loss_pt: f64::INFINITY, ..at(7, 0.0) };
        let text = serde_json::to_string(&[at(3, 0.1), broken]).unwrap();
        let back: Vec<Evaluation> = serde_json::from_str(&text).unwrap();
        assert_eq!(back[0], at(3, 0.1));
        assert!(back[1].step == 7 && back[1].loss_ft.is_nan() && back[1].loss_pt.is_nan());
    }
}
