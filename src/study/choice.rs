//! Which runs to make next.

use super::{Asked, Model, Question, State, Study, StudyRun};
use crate::fit::design::{Candidate, Design, Knowledge};
use crate::laws::{Forgetting, Row};
use crate::{Error, Result};

/// The assumed L_pt⁰ in nats per token if nothing is known about it.
const USUAL_LOSS: f64 = 3.0;

impl Study {
    /// The next runs to make, best first: `count` of them, or all that are left. They count as
    /// under way until they are told, have failed or are released.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn ask(&mut self, count: usize) -> Result<Vec<Asked>> {
        let chosen = self.choose(count, |_| true)?;
        for asked in &chosen {
            self.run_mut(asked.run)?.state = State::Asked;
        }
        Ok(chosen)
    }

    /// What [`Self::ask`] would hand out among the runs that satisfy `offered`. The study does not
    /// change.
    ///
    /// # Errors
    /// If the study has no runs.
    pub fn choose(&self, count: usize, offered: impl Fn(&StudyRun) -> bool) -> Result<Vec<Asked>> {
        let design = self.design()?;
        let mut known = self.known(&design);
        let mut prices: Vec<f64> = self.models.iter().map(|model| self.price(model)).collect();
        let mut left: Vec<&StudyRun> =
            self.runs.iter().filter(|run| run.state == State::Open && offered(run)).collect();
        let mut chosen: Vec<Asked> = Vec::new();
        // Where no law can be fitted yet, the design offers only a few runs that change that.
        while chosen.len() < count && !left.is_empty() {
            let candidates = left.iter().map(|run| self.candidate(run));
            let candidates: Vec<Candidate> = candidates.collect::<Result<_>>()?;
            let choices = known.choose(&candidates, &prices, count - chosen.len())?;
            for choice in &choices {
                let (run, candidate) = (left[choice.index], candidates[choice.index]);
                let price = candidate.needs.map_or(0.0, |needs| std::mem::take(&mut prices[needs]));
                known.learn(&candidate.row);
                chosen.push(Asked {
                    run: run.run,
                    model: run.model.clone(),
                    n_params: candidate.row.n_params,
                    d_ft_tokens: run.d_ft_tokens,
                    p: run.p,
                    cost: choice.cost,
                    makes_model: price > 0.0,
                    before: choice.before,
                    after: choice.after,
                });
            }
            let before = left.len();
            left.retain(|run| chosen.iter().all(|asked| asked.run != run.run));
            if left.len() == before {
                break;
            }
        }
        Ok(chosen)
    }

    fn candidate(&self, run: &StudyRun) -> Result<Candidate> {
        let needs = self.models.iter().position(|model| model.name == run.model);
        Ok(Candidate { row: self.row(run, self.model(&run.model)?), cost: run.cost, needs })
    }

    /// The criterion of the design: the mean standard deviation of the predicted ln(L_pt − L_pt⁰) over
    /// the p asked about. Runs under way count as made.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn deviation(&self) -> Result<f64> {
        Ok(self.known(&self.design()?).deviation())
    }

    fn design(&self) -> Result<Design> {
        if self.runs.is_empty() {
            return Err(Error::setting("runs of the study", 0, "add runs that could be made"));
        }
        let Question { n_params, d_ft_tokens, loss_pt0, .. } = self.question;
        let loss_pt0 = loss_pt0.unwrap_or_else(|| self.expected_loss_pt0(n_params));
        let at = |&p: &f64| Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
        let rows = self.runs.iter().map(|run| Ok(self.row(run, self.model(&run.model)?)));
        let asked = self.question.p.iter().map(at).collect();
        Design::new(&Forgetting, asked, rows.collect::<Result<Vec<Row>>>()?)
    }

    /// What the runs say, with those under way taken as made.
    fn known<'d>(&self, design: &'d Design) -> Knowledge<'d> {
        let mut known = design.knowing(&self.table());
        for run in self.runs.iter().filter(|run| run.state == State::Asked) {
            if let Ok(model) = self.model(&run.model) {
                known.learn(&self.row(run, model));
            }
        }
        known
    }

    pub(super) fn row(&self, run: &StudyRun, model: &Model) -> Row {
        Row {
            n_params: model.n_params,
            d_ft_tokens: run.d_ft_tokens,
            p: run.p,
            loss_pt0: model.loss_pt0.unwrap_or_else(|| self.expected_loss_pt0(model.n_params)),
            d_tokens: model.d_tokens.unwrap_or(f64::NAN),
        }
    }

    /// The pretraining loss of a size: that of the model nearest in ln N whose loss is known, or the
    /// question's, or what is usual.
    fn expected_loss_pt0(&self, n_params: f64) -> f64 {
        let distance = |model: &Model| (model.n_params / n_params).ln().abs();
        let known = self.models.iter().filter_map(|model| Some((distance(model), model.loss_pt0?)));
        let nearest = known.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, loss)| loss);
        nearest.or(self.question.loss_pt0).unwrap_or(USUAL_LOSS)
    }

    /// What is still to be paid for a model.
    fn price(&self, model: &Model) -> f64 {
        let uses = |run: &StudyRun| {
            run.model == model.name && matches!(run.state, State::Asked | State::Done(_))
        };
        if model.loss_pt0.is_some() || self.runs.iter().any(uses) { 0.0 } else { model.cost }
    }
}
