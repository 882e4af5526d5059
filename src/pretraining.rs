//! Pretraining (the paper's experimental setup): how long, and at which learning rate.
//!
//! The paper trains on 100 tokens per parameter, with a linear warmup during 0.5% of the total
//! iterations and then a cosine to one hundredth of the maximum at the end.
//!
//! ```
//! use forgetting_laws::pretraining::{Budget, Schedule};
//!
//! let steps = Budget::paper().steps(41_000_000, 64 * 1024)?;
//! let schedule = Schedule::paper(1e-3, steps);
//! assert_eq!(steps, 62_562);
//! assert!((schedule.lr(steps - 1) - 1e-5).abs() < 1e-12);
//! // Finetuning's learning rate, peak/30, "was reached at about 90% of the pretraining stage".
//! assert!((schedule.crossing(1.0 / 30.0).unwrap() - 0.902).abs() < 5e-4);
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

use crate::{Error, Fraction, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The learning rate of pretraining: linear warmup, then a cosine.
///
/// The schedule is a function of the progress t ∈ (0, 1] of the run, the same for every length:
///
/// ```text
/// m(t) = t / w                                          while t ≤ w      (warmup)
///      = f + (1 − f) · (1 + cos(π (t − w) / (1 − w))) / 2   afterwards    (cosine)
/// ```
///
/// with w the share of warmup steps and f the last rate divided by the peak. Optimiser step s,
/// counted from 0, is taken at t = (s + 1) / total_steps. So, with T steps:
///
/// | step | rate |
/// |---|---|
/// | 0 | peak / (w·T) when w·T ≥ 1: small, not zero, so no step is wasted |
/// | w·T − 1, when whole | the peak: the last step of the warmup |
/// | T − 1 | f · peak exactly |
/// | T and beyond | f · peak |
///
/// A run too short for a warmup (w·T < 1) starts on the cosine; a run of one step has the rate f ·
/// peak. How the paper counts its iterations is unknown; these conventions are ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Optimiser steps in the run.
    pub total_steps: u64,
    /// The share of warmup steps; the paper's 0.005 by default.
    #[serde(default = "Schedule::paper_warmup")]
    pub warmup: Fraction,
    /// The last rate as a share of the peak; the paper's 0.01 by default.
    #[serde(default = "Schedule::paper_terminal")]
    pub terminal: Fraction,
}

impl Schedule {
    /// The paper's schedule: 0.5% of warmup, a cosine down to one hundredth of the peak.
    pub fn paper(peak: f64, total_steps: u64) -> Self {
        let (warmup, terminal) = (Self::paper_warmup(), Self::paper_terminal());
        Self { peak, total_steps, warmup, terminal }
    }

    fn paper_warmup() -> Fraction {
        Fraction::new(0.005).expect("0.5% is a fraction")
    }

    fn paper_terminal() -> Fraction {
        Fraction::new(0.01).expect("one hundredth is a fraction")
    }

    /// Refuses settings that no run can use.
    ///
    /// # Errors
    /// If the peak is not a positive number or there are no steps.
    pub fn validate(&self) -> Result<()> {
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return Err(Error::setting("peak", self.peak, "must be a positive learning rate"));
        }
        if self.total_steps == 0 {
            return Err(Error::setting("total_steps", 0, "must be at least 1"));
        }
        Ok(())
    }

    /// The learning rate of optimiser step `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        self.peak * self.multiplier(step)
    }

    /// The rate of `step` as a share of the peak: the η_t of fully decoupled weight decay.
    pub fn multiplier(&self, step: u64) -> f64 {
        // min also takes care of a run without steps, whose progress would be infinite.
        self.curve((step.saturating_add(1) as f64 / self.total_steps as f64).min(1.0))
    }

    fn curve(&self, progress: f64) -> f64 {
        let (warmup, terminal) = (self.warmup.get(), self.terminal.get());
        if progress <= warmup {
            progress / warmup
        } else {
            let turn = PI * (progress - warmup) / (1.0 - warmup);
            terminal + (1.0 - terminal) * (1.0 + libm::cos(turn)) / 2.0
        }
    }

    /// The progress, from 0 to 1, at which the cosine has come down to `multiplier` times the
    /// peak; `None` if it never does. For the paper's schedule and 1/30 it is 0.9024.
    pub fn crossing(&self, multiplier: f64) -> Option<f64> {
        let (warmup, terminal) = (self.warmup.get(), self.terminal.get());
        if warmup == 1.0 || terminal == 1.0 || !(terminal..=1.0).contains(&multiplier) {
            return None;
        }
        let height = (multiplier - terminal) / (1.0 - terminal);
        Some(warmup + (1.0 - warmup) * (2.0 * height - 1.0).acos() / PI)
    }
}

/// How much to pretrain: tokens per parameter.
///
/// N counts token embeddings but not position embeddings: [`crate::ParamCount::paper`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens for each parameter.
    pub tokens_per_param: f64,
}

impl Budget {
    /// The paper's budget, 100 tokens per parameter.
    pub fn paper() -> Self {
        Self { tokens_per_param: 100.0 }
    }

    /// The tokens for a model of `n_params` parameters, rounded up to a whole token.
    ///
    /// # Errors
    /// If the tokens per parameter are not a positive number or there are no parameters.
    pub fn tokens(&self, n_params: u64) -> Result<u64> {
        if !(self.tokens_per_param.is_finite() && self.tokens_per_param > 0.0) {
            let requirement = "must be a positive number";
            return Err(Error::setting("tokens_per_param", self.tokens_per_param, requirement));
        }
        if n_params == 0 {
            return Err(Error::setting("n_params", 0, "must be at least 1"));
        }
        Ok((self.tokens_per_param * n_params as f64).ceil() as u64)
    }

    /// The number of optimiser steps of `tokens_per_step` tokens for the budget, rounded up so that
    /// no run has fewer tokens than requested.
    ///
    /// # Errors
    /// As [`Budget::tokens`], and if a step has no tokens.
    pub fn steps(&self, n_params: u64, tokens_per_step: u64) -> Result<u64> {
        if tokens_per_step == 0 {
            return Err(Error::setting("tokens_per_step", 0, "must be at least 1"));
        }
        Ok(self.tokens(n_params)?.div_ceil(tokens_per_step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn fraction(value: f64) -> Fraction {
        Fraction::new(value).unwrap()
    }

    /// The multipliers of 1,000 steps worked out by hand, at every place where the rule changes.
    #[test]
    fn values_at_the_ends_of_each_part() {
        let schedule = Schedule::paper(2.0, 1000);
        // A few roundings of 2⁻⁵³ each.
        let close = |step, lr: f64| {
            assert_relative_eq!(schedule.lr(step), lr, max_relative = 1e-14);
            assert_relative_eq!(schedule.multiplier(step), lr / 2.0, max_relative = 1e-14);
        };
        close(0, 0.4);
        close(3, 1.6);
        close(4, 2.0);
        // One step down the cosine, and its very last one.
        close(5, 2.0 * (0.01 + 0.99 * (1.0 + (PI / 995.0).cos()) / 2.0));
        close(999, 0.02);
        close(1000, 0.02);
        close(u64::MAX, 0.02);
        // Halfway between warmup and end: the mean of peak and terminal value.
        let even = Schedule { warmup: fraction(0.5), ..Schedule::paper(1.0, 8) };
        assert_relative_eq!(even.lr(5), (1.0 + 0.01) / 2.0, max_relative = 1e-14);
    }

    #[test]
    fn very_short_runs_and_extreme_shares_have_a_rate() {
        assert_relative_eq!(Schedule::paper(1.0, 1).lr(0), 0.01, max_relative = 1e-14);
        assert!(Schedule::paper(1.0, 2).lr(0) > 0.5);
        assert_relative_eq!(Schedule::paper(1.0, 2).lr(1), 0.01, max_relative = 1e-14);
        assert_relative_eq!(Schedule::paper(1.0, 0).lr(0), 0.01, max_relative = 1e-14);
        let only_warmup = Schedule { warmup: fraction(1.0), ..Schedule::paper(1.0, 4) };
        assert_eq!([0, 1, 2, 3, 9].map(|step| only_warmup.lr(step)), [0.25, 0.5, 0.75, 1.0, 1.0]);
        let no_warmup = Schedule { warmup: fraction(0.0), ..Schedule::paper(1.0, 4) };
        assert_relative_eq!(
            no_warmup.lr(0),
            0.01 + 0.99 * (1.0 + (PI / 4.0).cos()) / 2.0,
            max_relative = 1e-14
        );
        let constant = Schedule { terminal: fraction(1.0), ..no_warmup };
        assert_eq!([0, 1, 3].map(|step| constant.lr(step)), [1.0; 3]);
    }

    /// Béthune et al.: peak/30 "was reached at about 90% of the pretraining stage".
    #[test]
    fn crosses_a_thirtieth_of_the_peak_at_90_percent() {
        let schedule = Schedule::paper(3e-3, 100_000);
        let crossing = schedule.crossing(1.0 / 30.0).unwrap();
        assert!((crossing - 0.902).abs() < 5e-4, "{crossing}");
        let first_below = (1000..100_000).find(|&s| schedule.lr(s) <= 1e-4).unwrap();
        assert_eq!(first_below + 1, (crossing * 1e5).ceil() as u64);
    }

    #[test]
    fn crossing_covers_the_cosine_and_nothing_else() {
        let schedule = Schedule::paper(1.0, 1000);
        assert_relative_eq!(schedule.crossing(1.0).unwrap(), 0.005);
        assert_relative_eq!(schedule.crossing(0.01).unwrap(), 1.0);
        assert_relative_eq!(schedule.crossing(0.505).unwrap(), 0.5025);
        assert_eq!(schedule.crossing(0.0099), None);
        assert_eq!(schedule.crossing(1.01), None);
        assert_eq!(schedule.crossing(f64::NAN), None);
        assert_eq!(Schedule { warmup: fraction(1.0), ..schedule }.crossing(0.5), None);
        assert_eq!(Schedule { terminal: fraction(1.0), ..schedule }.crossing(1.0), None);
    }

    #[test]
    fn validation_names_the_setting() {
        let message = |schedule: Schedule| schedule.validate().unwrap_err().to_string();
        assert!(Schedule::paper(1e-3, 1).validate().is_ok());
        assert!(message(Schedule::paper(0.0, 1)).starts_with("peak = 0:"));
        assert!(message(Schedule::paper(f64::NAN, 1)).starts_with("peak = NaN:"));
        assert!(message(Schedule::paper(f64::INFINITY, 1)).starts_with("peak = inf:"));
        assert!(message(Schedule::paper(1e-3, 0)).starts_with("total_steps = 0:"));
    }

    #[test]
    fn reads_with_the_papers_defaults_and_refuses_unknown_fields() {
        let read = |text| serde_json::from_str::<Schedule>(text);
        let schedule = read(r#"{"peak": 0.001, "total_steps": 7}"#).unwrap();
        assert_eq!(schedule, Schedule::paper(1e-3, 7));
        assert!(read(r#"{"peak": 0.001, "total_steps": 7, "warm_up": 0.1}"#).is_err());
        assert!(read(r#"{"peak": 0.001, "total_steps": 7, "warmup": 1.1}"#).is_err());
    }

    #[test]
    fn budget_rounds_up() {
        let budget = Budget { tokens_per_param: 2.5 };
        assert_eq!(budget.tokens(3).unwrap(), 8);
        assert_eq!(budget.steps(3, 8).unwrap(), 1);
        assert_eq!(budget.steps(3, 7).unwrap(), 2);
        assert_eq!(budget.steps(1, 1_000_000).unwrap(), 1);
        assert_eq!(Budget::paper().tokens(1_273_526_272).unwrap(), 127_352_627_200);
    }

    #[test]
    fn budget_refuses_nonsense() {
        let name = |result: Result<u64>| match result.unwrap_err() {
            Error::Setting { name, .. } => name,
            other => panic!("{other}"),
        };
        for tokens_per_param in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(name(Budget { tokens_per_param }.steps(1, 1)), "tokens_per_param");
        }
        assert_eq!(name(Budget::paper().steps(0, 1)), "n_params");
        assert_eq!(name(Budget::paper().steps(1, 0)), "tokens_per_step");
    }
}
