//! How much to inject, and what that does to the target.

use super::super::card::brief;
use super::super::{Fit, Measured};
use super::{Advisor, Asked, Estimate};
use super::{Searched, check, check_positive, smallest};
use crate::laws::Row;
use crate::table::Column;
use crate::warning::{Warning, WarningKind};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How much may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// An increase of the pretraining loss, in nats per token.
    Nats(f64),
    /// An increase, as a share of L_pt⁰: 0.01 for one percent.
    Relative(f64),
}

impl Limit {
    /// The limit in nats per token.
    ///
    /// # Errors
    /// If it is not a number above 0.
    pub fn nats(self, loss_pt0: f64) -> Result<f64> {
        let (Self::Nats(limit) | Self::Relative(limit)) = self;
        check_positive("limit", limit)?;
        Ok(match self {
            Self::Nats(nats) => nats,
            Self::Relative(share) => share * loss_pt0,
        })
    }
}

/// The smallest p with which forgetting stays within a limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SmallestP {
    /// The law that was asked.
    pub law: &'static str,
    /// The largest increase L_pt − L_pt⁰ that is allowed, in nats per token.
    pub limit: f64,
    /// The probability with which a new run must stay within it.
    pub confidence: f64,
    /// The smallest such p: 0 if nothing need be injected, `None` if even p = 1 is not enough.
    pub p: Option<f64>,
    /// The share of the simulated runs that must stay within the limit, above `confidence`.
    pub required: f64,
    /// The share that does so at that p, or at 1.
    pub share: f64,
    /// The p at which the law itself, without the noise of a run, meets the limit: there half of
    /// all runs do. Infinite if no p up to 1 does.
    pub by_law: Estimate,
    /// The increase at that p, or at 1: the law's value, and the interval of a new run.
    pub rise: Estimate,
    /// The increase without injection.
    pub rise_without: Estimate,
    /// The loss of the fitted runs at that p, where there are any.
    pub measured: Option<Measured>,
    /// The same without injection.
    pub measured_without: Option<Measured>,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

impl SmallestP {
    /// Why no p is enough, if none is: the last of the warnings.
    pub fn why_none(&self) -> Option<Warning> {
        let why = || {
            if self.by_law.value.is_finite() {
                format!(
                    "no p keeps a new run within the limit with this confidence: the law itself meets the \
                     limit at p = {}, but the limit is within the noise of a run or the uncertainty of \
                     the law",
                    brief(self.by_law.value)
                )
            } else {
                "no p keeps the increase within the limit, even by the law itself".to_string()
            }
        };
        self.p.is_none().then(|| WarningKind::NoPKeepsLimit.warn(why()))
    }
}

/// What injection does to the loss on the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnTarget {
    /// The fraction p that is injected.
    pub p: f64,
    /// L_ft of a new run, in nats per token.
    pub loss_ft: Estimate,
    /// L_ft of the fitted runs of this setting, where there are any.
    pub measured: Option<Measured>,
    /// The law that predicts it. Equation 6 does not depend on p.
    pub law: &'static str,
    /// How much of it is due to p, in nats per token: L_ft at p − L_ft at 0, below 0 where
    /// injection helps. `None` without the `finetuning-p` law.
    pub change: Option<Estimate>,
    /// How many times the target data would do the same without injection; infinite where none of
    /// those looked at does.
    pub equivalent_data: Option<Estimate>,
    /// The multiples of the target data that were looked at, from one to those that are
    /// [`Searched::FACTOR`] times what any run has.
    pub searched_data: Option<Searched>,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

impl Advisor<'_> {
    /// The smallest p with which the forgetting of a new run stays within a limit with probability
    /// `confidence`. Reads N, D_ft and L_pt⁰.
    ///
    /// A simulated new run follows the law with the parameters of one of the resamples. It misses
    /// this law by the residual of one of the fitted rows and, if the fit has one, by a draw of the
    /// misfit ([`crate::fit::Fit::outcomes`]). These stand for the uncertainty of the law, the
    /// noise of a single run, and the error of the law away from the runs. The share of simulated
    /// runs that must stay within the limit is a little above `confidence`, because how runs miss
    /// the law is known only from the n fitted ones. It is Wilson's upper limit (1927, 95%,
    /// one-sided) of that share among n: 0.936 for 0.9 and n = 125. L_pt⁰ counts as known.
    ///
    /// # Errors
    /// If there is no forgetting law with resamples, or a number is outside its domain.
    pub fn smallest_p(&self, row: &Row, limit: Limit, confidence: f64) -> Result<SmallestP> {
        let law = self.law(Column::LossPt)?;
        check(row, &[Column::NParams, Column::DFtTokens, Column::LossPt0])?;
        let limit = limit.nats(row.loss_pt0)?;
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::setting("confidence", confidence, "must lie between 0 and 1"));
        }
        let most = row.loss_pt0 + limit;
        let with = |p| Row { p, ..*row };
        // The noise of every draw is the same at every p, so that the share never falls with p.
        let share = |p: f64| {
            let losses = law.fit.outcomes(&with(p));
            losses.iter().filter(|&&loss| loss <= most).count() as f64 / losses.len() as f64
        };
        let required = wilson_upper(confidence, law.fit.n_runs);
        let holds = |p: f64| share(p) >= required;
        let p = match law.fit.misfit {
            None => smallest(0.0, 1.0, holds),
            // What the law misses grows with the distance from the p of the runs.
            Some(_) => first_p(holds),
        };
        let by_law = law.estimate(|values| {
            let meets = |p| law.at(&with(p), values) <= most;
            smallest(0.0, 1.0, meets).unwrap_or(f64::INFINITY)
        });
        let at = p.unwrap_or(1.0);
        let mut found = SmallestP {
            law: law.name(),
            limit,
            confidence,
            p,
            required,
            share: share(at),
            by_law,
            rise: rise_of_a_run(&law, &with(at)),
            rise_without: rise_of_a_run(&law, &with(0.0)),
            measured: law.fit.measured(&with(at)),
            measured_without: law.fit.measured(&with(0.0)),
            warnings: law.warnings(&with(at)),
        };
        let contradictions = [at, 0.0].map(|p| law.fit.predict(&with(p)).contradiction());
        found.warnings.extend(contradictions.into_iter().flatten());
        found.warnings.dedup();
        found.warnings.extend(found.why_none());
        Ok(found)
    }

    /// What an injected fraction does to the target. Reads N, D_ft and p.
    ///
    /// The loss is that of the first finetuning law that was given; the paper's Equation 6 has no
    /// p. The effect of p is taken from its ablation [`crate::laws::FinetuningP`], which cannot
    /// show that injection harms, since it has B ≥ 0.
    ///
    /// # Errors
    /// If there is no finetuning law with resamples, or a number is outside its domain.
    pub fn on_target(&self, row: &Row) -> Result<OnTarget> {
        let law = self.law(Column::LossFt)?;
        check(row, &[Column::NParams, Column::DFtTokens, Column::P])?;
        let mut warnings = law.warnings(row);
        warnings.extend(law.fit.predict(row).contradiction());
        let reads_p = |fit: &&&Fit| fit.law.output() == Column::LossFt && fit.law.reads(Column::P);
        let with_p = self.fits.iter().find(reads_p).and_then(|fit| Asked::of(fit).ok());
        let without = Row { p: 0.0, ..*row };
        let change = with_p.map(|law| {
            warnings.extend(law.warnings(row));
            law.estimate(|values| law.at(row, values) - law.at(&without, values))
        });
        let searched_data = with_p.map(|law| {
            let most = law.fit.range(Column::DFtTokens).1 * Searched::FACTOR / row.d_ft_tokens;
            Searched { least: 1.0, most: most.max(1.0) }
        });
        let equivalent_data = with_p.zip(searched_data).map(|(law, searched)| {
            law.estimate(|values| {
                let loss = law.at(row, values);
                let size = |d_ft_tokens| Row { d_ft_tokens, ..without };
                // Where p changes nothing, no data beyond what is there is needed.
                if law.at(&without, values) <= loss {
                    return 1.0;
                }
                searched.smallest(|times| law.at(&size(times * row.d_ft_tokens), values) <= loss)
            })
        });
        warnings.dedup();
        Ok(OnTarget {
            p: row.p,
            loss_ft: Estimate::of(law.at(row, &law.fit.values()), law.fit.outcomes(row), law.level),
            measured: law.fit.measured(row),
            law: law.name(),
            change,
            equivalent_data,
            searched_data,
            warnings,
        })
    }

    /// The increase of a run with the given N, D_ft, p and L_pt⁰, with the interval of a new run.
    ///
    /// # Errors
    /// If there is no forgetting law with resamples, or a number is outside its domain.
    pub fn rise(&self, row: &Row) -> Result<Estimate> {
        let law = self.law(Column::LossPt)?;
        check(row, &[Column::NParams, Column::DFtTokens, Column::LossPt0, Column::P])?;
        Ok(rise_of_a_run(&law, row))
    }
}

/// The smallest p for which a condition holds; the condition may fail again above it.
fn first_p(holds: impl Fn(f64) -> bool) -> Option<f64> {
    /// Steps that are even in ln(1 + p/SMALL).
    const STEPS: usize = 200;
    const SMALL: f64 = 1e-4;
    let at = |i: usize| match i {
        STEPS => 1.0,
        _ => SMALL * (i as f64 / STEPS as f64 * (1.0 / SMALL).ln_1p()).exp_m1(),
    };
    let first = (0..=STEPS).find(|&i| holds(at(i)))?;
    smallest(at(first.saturating_sub(1)), at(first), holds)
}

fn rise_of_a_run(law: &Asked, row: &Row) -> Estimate {
    let losses = law.fit.outcomes(row);
    let rise = |loss: f64| loss - row.loss_pt0;
    let value = rise(law.at(row, &law.fit.values()));
    Estimate::of(value, losses.into_iter().map(rise).collect(), law.level)
}

/// The upper end of the interval of Wilson ("Probable inference, the law of succession, and
/// statistical inference", 1927) for a share that was seen among n, 95% one-sided.
fn wilson_upper(share: f64, n: usize) -> f64 {
    const Z: f64 = 1.644_853_626_951_472_7;
    let t = Z * Z / n as f64;
    let spread = (t * share * (1.0 - share) + 0.25 * t * t).sqrt();
    (share + 0.5 * t + spread) / (1.0 + t)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit u of a share s solves (u − s)² = z²·u·(1 − u)/n.
    #[test]
    fn wilsons_limit_solves_its_equation() {
        for (share, n) in [(0.9, 125), (0.5, 12), (0.99, 5), (0.9, 1_000_000)] {
            let u = wilson_upper(share, n);
            assert!(share < u && u < 1.0);
            let spread = 1.644_853_626_951_472_7f64.powi(2) * u * (1.0 - u) / n as f64;
            assert!(((u - share).powi(2) / spread - 1.0).abs() < 1e-9, "{share} {n}");
        }
    }

    #[test]
    fn the_first_p_is_found_also_where_a_condition_fails_again() {
        assert_eq!(first_p(|_| true), Some(0.0));
        assert_eq!(first_p(|_| false), None);
        assert_eq!(first_p(|p| p >= 1.0), Some(1.0));
        let found = first_p(|p| (0.03..0.2).contains(&p) || p > 0.7).unwrap();
        assert!((found / 0.03 - 1.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn limits_in_nats() {
        assert_eq!(Limit::Nats(0.05).nats(f64::NAN).unwrap(), 0.05);
        assert_eq!(Limit::Relative(0.25).nats(2.0).unwrap(), 0.5);
        assert!(Limit::Relative(-0.1).nats(2.0).is_err());
    }
}
