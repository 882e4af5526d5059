//! Every question at once.

use super::{Advisor, Collecting, Larger, Limit, Needed, NewRuns, OnTarget, SmallestP};
use crate::fit::LossPt0From;
use crate::laws::Row;
use crate::table::Column;
use crate::{Error, Result};
use serde::{Serialize, Serializer};
use std::fmt;

/// Everything that is asked of the laws of one domain at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Questions {
    /// The run: its N and D_ft; L_pt⁰, which is interpolated between the sizes of the runs where it
    /// is NaN; and D, without which no larger model is asked about. Its p is not read.
    pub row: Row,
    /// How much may be forgotten.
    pub limit: Limit,
    /// The probability with which a new run must stay within the limit.
    pub confidence: f64,
    /// The fraction for the other answers. `None`: the smallest that stays within the limit or, where
    /// none does, the one that the law itself asks for.
    pub p: Option<f64>,
    /// Passes over the target data. `None`: as many as the runs make.
    pub epochs: Option<f64>,
    /// The desired loss on the target, in nats per token.
    pub target_loss: Option<f64>,
    /// The smallest gain for which doubling the target data is worthwhile, in nats per token.
    pub worth: f64,
    /// Size of the larger model, as a multiple of N.
    pub larger: f64,
    /// Number of runs to propose.
    pub new_runs: Option<usize>,
}

/// Every answer that the laws of a domain give. What was not asked is `None`; so is what could not be
/// answered, and [`Answers::unanswered`] says why.
#[derive(Debug, Serialize)]
pub struct Answers {
    /// The run, with its L_pt⁰ and the p of the other answers.
    pub asked: Row,
    /// Where its L_pt⁰ is from; `None` if no law needs it.
    pub loss_pt0_from: Option<LossPt0From>,
    /// The smallest p that keeps the increase within the limit.
    pub smallest_p: Option<SmallestP>,
    /// What p does to the target.
    pub on_target: Option<OnTarget>,
    /// The model size that the target loss needs.
    pub n_for_target: Option<Needed>,
    /// The target data that it needs.
    pub d_ft_for_target: Option<Needed>,
    /// The target data worth collecting.
    pub worth_collecting: Option<Collecting>,
    /// A larger model at equal FLOPs.
    pub larger_model: Option<Larger>,
    /// The runs that would say most.
    pub best_new_runs: Option<NewRuns>,
    /// What could not be answered, in the order of [`Question`].
    pub unanswered: Vec<Unanswered>,
}

/// A question to the laws of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The smallest p.
    SmallestP,
    /// The target at that p.
    OnTarget,
    /// The sizes for a target loss.
    TargetLoss,
    /// The target data worth collecting.
    WorthCollecting,
    /// A larger model at equal FLOPs.
    LargerModel,
    /// The runs that would say most.
    BestNewRuns,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::SmallestP => "the smallest p",
            Self::OnTarget => "the target",
            Self::TargetLoss => "sizes for a target loss",
            Self::WorthCollecting => "the target data worth collecting",
            Self::LargerModel => "a larger model at equal FLOPs",
            Self::BestNewRuns => "the runs that would say most",
        })
    }
}

/// A question without an answer, and why.
#[derive(Debug, Serialize)]
pub struct Unanswered {
    /// The question.
    #[serde(serialize_with = "in_words")]
    pub question: Question,
    /// What is missing, or what was refused.
    #[serde(serialize_with = "in_words")]
    pub why: Error,
}

fn in_words<S: Serializer>(said: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(said)
}

impl Advisor<'_> {
    /// The answers to all of these questions. One that cannot be answered does not keep the others
    /// from being answered.
    pub fn answers(&self, questions: &Questions) -> Answers {
        let mut row = Row { p: 0.0, ..questions.row };
        let mut loss_pt0_from = Some(LossPt0From::Given);
        if row.loss_pt0.is_nan() {
            let found = self.fits.iter().find_map(|fit| fit.loss_pt0_at(row.n_params));
            row.loss_pt0 = found.map_or(f64::NAN, |found| found.loss_pt0);
            loss_pt0_from = found.map(|found| found.from);
        }
        let mut unanswered = Vec::new();
        let found = self.smallest_p(&row, questions.limit, questions.confidence);
        let mut smallest_p = answered(&mut unanswered, Question::SmallestP, found);
        let repetition = |output| self.fit(output)?.repetition(questions.epochs?);
        if let Some(found) = &mut smallest_p {
            // The warning that no p is enough stays the last.
            found.warnings.splice(0..0, repetition(Column::LossPt));
        }
        // Where no p keeps to the limit, the one that the law itself asks for; where even that is none, the
        // other answers are those without injection.
        let by_law = |found: &SmallestP| Some(found.by_law.value).filter(|p| p.is_finite());
        let advised = |found: &SmallestP| found.p.or(by_law(found)).unwrap_or(0.0);
        row.p = questions.p.or(smallest_p.as_ref().map(advised)).unwrap_or(0.0);
        let mut on_target = answered(&mut unanswered, Question::OnTarget, self.on_target(&row));
        if let Some(found) = &mut on_target {
            found.warnings.extend(repetition(Column::LossFt));
        }
        let sizes = |loss| Ok((self.n_for_target(&row, loss)?, self.d_ft_for_target(&row, loss)?));
        let sizes = questions
            .target_loss
            .and_then(|loss| answered(&mut unanswered, Question::TargetLoss, sizes(loss)));
        let (n_for_target, d_ft_for_target) = sizes.unzip();
        let found = self.worth_collecting(&row, questions.worth);
        let worth_collecting = answered(&mut unanswered, Question::WorthCollecting, found);
        let larger = (!row.d_tokens.is_nan()).then(|| self.larger_model(&row, questions.larger));
        let larger_model =
            larger.and_then(|found| answered(&mut unanswered, Question::LargerModel, found));
        let runs = questions.new_runs.map(|count| self.best_new_runs(&row, count));
        let best_new_runs =
            runs.and_then(|found| answered(&mut unanswered, Question::BestNewRuns, found));
        Answers {
            asked: row,
            loss_pt0_from,
            smallest_p,
            on_target,
            n_for_target,
            d_ft_for_target,
            worth_collecting,
            larger_model,
            best_new_runs,
            unanswered,
        }
    }
}

/// Keeps why a question has no answer.
fn answered<T>(
    unanswered: &mut Vec<Unanswered>,
    question: Question,
    found: Result<T>,
) -> Option<T> {
    found.map_err(|why| unanswered.push(Unanswered { question, why })).ok()
}
