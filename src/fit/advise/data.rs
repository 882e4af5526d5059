//! How large a model and how much data the target needs.

use super::super::card::brief;
use super::{Advisor, Asked, Estimate, Searched, check, check_positive};
use crate::Result;
use crate::laws::Row;
use crate::table::Column;
use crate::warning::{Warning, WarningKind};
use serde::Serialize;

/// The size that a loss on the target needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Needed {
    /// The law that was asked.
    pub law: &'static str,
    /// The loss that is wanted, in nats per token.
    pub loss_ft: f64,
    /// N in parameters, or D_ft in tokens; infinite where no size that was looked at reaches the loss.
    pub size: Estimate,
    /// The sizes that were looked at.
    pub searched: Searched,
    /// The share of the resampled laws by which one of these sizes reaches it.
    pub reachable: f64,
    /// The loss that no size goes below, in nats per token.
    pub floor: Estimate,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

/// What more target data is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collecting {
    /// The law that was asked.
    pub law: &'static str,
    /// How much doubling D_ft lowers L_ft, in nats per token.
    pub doubling: Estimate,
    /// The gain that doubling should have at least, in nats per token.
    pub worth: f64,
    /// The D_ft in tokens from which on doubling gains less; the least that was looked at where it always
    /// does, and infinite where no amount is enough.
    pub enough: Estimate,
    /// The amounts that were looked at.
    pub searched: Searched,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

impl Advisor<'_> {
    /// The N that reaches a loss on the target with the data at hand. Reads D_ft (and p, where
    /// only the law with p was fitted).
    ///
    /// It is the N of the law, without the noise of a run: half of all runs reach the loss with it.
    ///
    /// # Errors
    /// If there is no finetuning law with resamples, or a number is outside its domain.
    pub fn n_for_target(&self, row: &Row, loss_ft: f64) -> Result<Needed> {
        self.needed(row, Column::NParams, Column::DFtTokens, loss_ft)
    }

    /// The D_ft that reaches a loss on the target with the model at hand. Reads N; the rest as for
    /// [`Advisor::n_for_target`].
    ///
    /// # Errors
    /// As for [`Advisor::n_for_target`].
    pub fn d_ft_for_target(&self, row: &Row, loss_ft: f64) -> Result<Needed> {
        self.needed(row, Column::DFtTokens, Column::NParams, loss_ft)
    }

    fn needed(&self, row: &Row, size: Column, given: Column, loss_ft: f64) -> Result<Needed> {
        let law = self.law(Column::LossFt)?;
        check(row, &[given])?;
        check_p(&law, row)?;
        check_positive("loss_ft", loss_ft)?;
        let with = |x: f64| match size {
            Column::NParams => Row { n_params: x, ..*row },
            _ => Row { d_ft_tokens: x, ..*row },
        };
        let searched = Searched::around(law.fit, size, row.get(size));
        let reaching = |values: &[f64]| searched.smallest(|x| law.at(&with(x), values) <= loss_ft);
        let needed = law.estimate(reaching);
        let reached = law.draws.iter().filter(|values| reaching(values).is_finite()).count();
        let mut warnings = Vec::new();
        if needed.value.is_finite() {
            warnings = law.warnings(&with(needed.value));
        } else {
            let message = format!(
                "by the {} law no {} up to {} reaches the loss, {} times the most of its runs",
                law.name(),
                size.name(),
                brief(searched.most),
                brief(searched.most / law.fit.range(size).1),
            );
            warnings.push(WarningKind::LossNotReached.warn(message));
            // Of the rest of the run and the law itself there may still be something to say.
            let inside = law.fit.range(size).1;
            warnings.extend(law.warnings(&with(inside)));
        }
        Ok(Needed {
            law: law.name(),
            loss_ft,
            size: needed,
            searched,
            reachable: reached as f64 / law.draws.len() as f64,
            floor: law.estimate(|values| floor(law.at(&with(f64::MAX), values))),
            warnings,
        })
    }

    /// What more target data is worth to a model: the gain of doubling D_ft, and the D_ft from which
    /// on doubling gains less than `worth` nats. Reads N and D_ft (and p, where only the law with p
    /// was fitted).
    ///
    /// # Errors
    /// If there is no finetuning law with resamples, or a number is outside its domain.
    pub fn worth_collecting(&self, row: &Row, worth: f64) -> Result<Collecting> {
        let law = self.law(Column::LossFt)?;
        check(row, &[Column::NParams, Column::DFtTokens])?;
        check_p(&law, row)?;
        check_positive("worth", worth)?;
        let gain = |d_ft_tokens: f64, values: &[f64]| {
            let with = |d_ft_tokens| Row { d_ft_tokens, ..*row };
            law.at(&with(d_ft_tokens), values) - law.at(&with(2.0 * d_ft_tokens), values)
        };
        let searched = Searched::around(law.fit, Column::DFtTokens, row.d_ft_tokens);
        let enough = law.estimate(|values| searched.smallest(|d| gain(d, values) < worth));
        let mut warnings = law.warnings(row);
        // Of an amount that is more than any that was looked at there is nothing to warn.
        if enough.value.is_finite() {
            let at_enough = Row { d_ft_tokens: enough.value, ..*row };
            let mut more = law.warnings(&at_enough);
            more.retain(|more| !warnings.contains(more));
            warnings.extend(more);
        }
        Ok(Collecting {
            law: law.name(),
            doubling: law.estimate(|values| gain(row.d_ft_tokens, values)),
            worth,
            enough,
            searched,
            warnings,
        })
    }
}

/// A loss that only the largest float leaves above 0 is 0.
fn floor(loss: f64) -> f64 {
    const ROUNDING: f64 = 1e-9;
    if loss < ROUNDING { 0.0 } else { loss }
}

/// Refuses a question without p to a law that reads it.
fn check_p(law: &Asked, row: &Row) -> Result<()> {
    if law.fit.law.reads(Column::P) { check(row, &[Column::P]) } else { Ok(()) }
}
