//! Ask and tell: which run to make next, for any training code.
//!
//! A [`Study`] has a question (how much to inject for a model and an amount of target data), the
//! candidate runs with their costs, and the results. [`Study::ask`] hands out the runs that say
//! most about the question for their cost ([`crate::fit::design`]); [`Study::tell`] records their
//! losses; [`Study::add`] records runs made elsewhere; [`Study::answer`] says what the results
//! show. A study trains nothing. It is stored in one readable file ([`Study::change`]) that several
//! processes can share.
//!
//! Runs can be told in any order, even if they were not handed out. Runs that were handed out and
//! not yet told count as made when the next ones are chosen, so that workers do not duplicate each
//! other's work. Nothing is random: the same study hands out the same runs.
//!
//! # Examples
//! ```
//! use forgetting_laws::fit::{Limit, Options};
//! use forgetting_laws::laws::{Forgetting, Law, Row};
//! use forgetting_laws::study::{Losses, Question, Study, Verdict};
//!
//! // How much to inject into 3e6 tokens of target data, for a model of 3.3e8 parameters, so that it
//! // forgets at most 10% of its pretraining loss?
//! let question = Question {
//!     n_params: 3.3e8,
//!     d_ft_tokens: 3e6,
//!     limit: Limit::Relative(0.1),
//!     confidence: 0.9,
//!     p: vec![0.0, 0.01, 0.05],
//!     loss_pt0: None,
//!     vocab_size: None,
//! };
//! let mut study = Study::new(question)?;
//! // Pretrained models that are there, and runs at 6·N FLOPs a token, ten passes each.
//! for (name, n_params) in [("small", 4.1e7), ("middle", 1.1e8), ("large", 3.3e8)] {
//!     study.add_model(name, n_params, 0.0)?;
//!     for d_ft_tokens in [3e5, 1e6, 3e6] {
//!         for p in [0.0, 0.01, 0.05] {
//!             study.add_candidate(name, d_ft_tokens, p, 60.0 * n_params * d_ft_tokens)?;
//!         }
//!     }
//! }
//! // Somebody's training code; here, Equation 7.
//! let train = |n_params: f64, d_ft_tokens, p| {
//!     let loss_pt0 = 2.0 + 20.0 * n_params.powf(-0.15);
//!     let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
//!     let loss_pt = Forgetting.predict(&(&row).into(), &[6.0, 829.0, 0.4, 0.35]);
//!     Losses { loss_pt0: Some(loss_pt0), loss_pt: Some(loss_pt), ..Losses::default() }
//! };
//! for _ in 0..6 {
//!     for asked in study.ask(2)? {
//!         study.tell(asked.run, train(asked.n_params, asked.d_ft_tokens, asked.p))?;
//!     }
//! }
//! let answer = study.answer(&Options::default());
//! assert_eq!(answer.verdict, Verdict::Inject);
//! println!("{}", answer.lead[0]);
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

mod answer;
mod choice;
mod file;

pub use answer::{Answer, Verdict};

use crate::fit::{Limit, Options};
use crate::laws::Row;
use crate::table::{Run, Table};
use crate::words::size;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The question: how much to inject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The model size N in parameters.
    pub n_params: f64,
    /// The unique tokens of the target, D_ft.
    pub d_ft_tokens: f64,
    /// How much may be forgotten.
    pub limit: Limit,
    /// The probability with which a new run must stay within the limit.
    pub confidence: f64,
    /// The fractions p for which forgetting is to be estimated.
    pub p: Vec<f64>,
    /// The pretraining loss before finetuning of the model in question, in nats per token, if it is
    /// known. By default it is derived from the sizes of the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_pt0: Option<f64>,
    /// The size V of the models' vocabulary, in tokens, if it is known. Then the bounded form for
    /// this vocabulary ([`crate::laws::ForgettingBounded`]) is among the forms that the runs can
    /// support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<u32>,
}

impl Question {
    fn check(&self) -> Result<()> {
        positive("n_params", self.n_params)?;
        positive("d_ft_tokens", self.d_ft_tokens)?;
        self.limit.nats(1.0)?;
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(Error::setting("confidence", self.confidence, "must lie between 0 and 1"));
        }
        if self.p.is_empty() {
            return Err(Error::setting("number of p asked about", 0, "must be at least one"));
        }
        self.p.iter().try_for_each(|&p| fraction(p))?;
        if let Some(vocab_size) = self.vocab_size.filter(|&vocab_size| vocab_size < 2) {
            return Err(Error::setting("vocab_size", vocab_size, "must be at least 2"));
        }
        self.loss_pt0.map_or(Ok(()), |loss| positive("loss_pt0", loss))
    }
}

/// A pretrained model, from which runs start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name in the study.
    pub name: String,
    /// N in parameters.
    pub n_params: f64,
    /// The cost of pretraining it, in the unit of the runs' costs; 0 if it exists. The first run of
    /// the model bears this cost.
    pub cost: f64,
    /// Its pretraining loss L_pt⁰ in nats per token, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_pt0: Option<f64>,
    /// The tokens that it was pretrained on, D, if they are known. They tell whether the effect of N may
    /// be one of D.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_tokens: Option<f64>,
}

/// A run of a study, planned or made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyRun {
    /// Its number, counted from 1.
    pub run: u64,
    /// The name of the model that it starts from.
    pub model: String,
    /// The unique tokens of the target, D_ft.
    pub d_ft_tokens: f64,
    /// The fraction p of injected pretraining data.
    pub p: f64,
    /// The cost without that of its model, in any unit: FLOPs, device seconds, money.
    pub cost: f64,
    /// Its state.
    pub state: State,
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can be handed out.
    Open,
    /// It was handed out.
    Asked,
    /// It was made.
    Done(Losses),
    /// It was tried and has no result, for this reason. It is not handed out again.
    Failed(String),
}

/// The losses of a run at the bottom of its U-curve, in nats per token; `None` where not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// The pretraining loss of its model before finetuning, L_pt⁰. Once it is known for a model,
    /// other runs of the model need not give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_pt0: Option<f64>,
    /// The pretraining loss after finetuning, L_pt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_pt: Option<f64>,
    /// The loss on the target after finetuning, L_ft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ft: Option<f64>,
}

/// A run that was made elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The name of its model. `None`: the study's model of this size.
    pub model: Option<String>,
    /// N in parameters.
    pub n_params: f64,
    /// The unique tokens of the target, D_ft.
    pub d_ft_tokens: f64,
    /// The fraction p of injected pretraining data.
    pub p: f64,
    /// Its losses.
    pub losses: Losses,
}

/// A run to make.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// Its number, for [`Study::tell`].
    pub run: u64,
    /// The model to start from.
    pub model: String,
    /// N in parameters.
    pub n_params: f64,
    /// The unique tokens of the target, D_ft.
    pub d_ft_tokens: f64,
    /// The fraction p of pretraining data to inject.
    pub p: f64,
    /// The cost, including its model if that must be pretrained.
    pub cost: f64,
    /// Whether its model must be pretrained first.
    pub makes_model: bool,
    /// The mean standard deviation of the predicted ln(L_pt − L_pt⁰) over the p asked about, before it.
    pub before: f64,
    /// The same deviation, as expected after the run.
    pub after: f64,
}

/// A question, the runs that may answer it, and their results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    format: u32,
    question: Question,
    models: Vec<Model>,
    runs: Vec<StudyRun>,
}

/// The format of files.
const FORMAT: u32 = 1;

impl Study {
    /// A study without runs.
    ///
    /// # Errors
    /// If a number in the question lies outside its domain.
    pub fn new(question: Question) -> Result<Self> {
        question.check()?;
        Ok(Self { format: FORMAT, question, models: Vec::new(), runs: Vec::new() })
    }

    /// The question that the study answers.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The models, in the order in which they were added.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The runs, by number.
    pub fn runs(&self) -> &[StudyRun] {
        &self.runs
    }

    /// Adds a pretrained model of `n_params` parameters. `cost` is that of pretraining it, 0 if it
    /// exists.
    ///
    /// # Errors
    /// If the name is taken, or a number lies outside its domain.
    pub fn add_model(&mut self, name: &str, n_params: f64, cost: f64) -> Result<()> {
        positive("n_params", n_params)?;
        price("cost of a model", cost)?;
        if name.is_empty() || self.models.iter().any(|model| model.name == name) {
            return Err(Error::setting("model", name, "must be a name that no other model has"));
        }
        let name = name.into();
        self.models.push(Model { name, n_params, cost, loss_pt0: None, d_tokens: None });
        Ok(())
    }

    /// Records that a model exists, with its pretraining loss L_pt⁰ in nats per token. Telling one
    /// of its runs does this too.
    ///
    /// # Errors
    /// If there is no such model, or the loss is not a finite number above 0.
    pub fn tell_model(&mut self, name: &str, loss_pt0: f64) -> Result<()> {
        positive("loss_pt0", loss_pt0)?;
        self.model_mut(name)?.loss_pt0 = Some(loss_pt0);
        Ok(())
    }

    /// Records how many tokens a model was or will be pretrained on.
    ///
    /// # Errors
    /// If there is no such model, or the number is not a finite number above 0.
    pub fn set_d_tokens(&mut self, name: &str, d_tokens: f64) -> Result<()> {
        positive("d_tokens", d_tokens)?;
        self.model_mut(name)?.d_tokens = Some(d_tokens);
        Ok(())
    }

    /// Adds a candidate run of a model, on `d_ft_tokens` unique tokens of the target with a
    /// fraction `p` of pretraining data, and returns its number. Several runs may have the same
    /// settings (replicates).
    ///
    /// # Errors
    /// If there is no such model, or a number lies outside its domain.
    pub fn add_candidate(
        &mut self,
        model: &str,
        d_ft_tokens: f64,
        p: f64,
        cost: f64,
    ) -> Result<u64> {
        self.model(model)?;
        self.push(model.into(), d_ft_tokens, p, cost)
    }

    fn push(&mut self, model: String, d_ft_tokens: f64, p: f64, cost: f64) -> Result<u64> {
        positive("d_ft_tokens", d_ft_tokens)?;
        fraction(p)?;
        price("cost", cost)?;
        let run = self.runs.len() as u64 + 1;
        self.runs.push(StudyRun { run, model, d_ft_tokens, p, cost, state: State::Open });
        Ok(run)
    }

    /// Records the losses of a run. Telling the same again changes nothing.
    ///
    /// # Errors
    /// If there is no such run, it was told other losses, a loss is not a finite number above 0, or
    /// neither L_pt with L_pt⁰ nor L_ft is known.
    pub fn tell(&mut self, run: u64, losses: Losses) -> Result<()> {
        let name = self.run(run)?.model.clone();
        let losses = self.resolved(&name, losses)?;
        if let State::Done(told) = self.run(run)?.state
            && told != losses
        {
            let requirement = "it was told other losses; release it first to replace them";
            return Err(Error::setting("run", run, requirement));
        }
        self.run_mut(run)?.state = State::Done(losses);
        match (self.model(&name)?.loss_pt0, losses.loss_pt0) {
            (None, Some(loss_pt0)) => self.tell_model(&name, loss_pt0),
            _ => Ok(()),
        }
    }

    /// Records that a run was tried and has no result: it crashed, diverged, or its bottom was not
    /// seen. It is not handed out again.
    ///
    /// # Errors
    /// If there is no such run, or it was told its losses.
    pub fn fail(&mut self, run: u64, why: &str) -> Result<()> {
        if matches!(self.run(run)?.state, State::Done(_)) {
            let requirement = "it was told its losses; release it first to discard them";
            return Err(Error::setting("run", run, requirement));
        }
        self.run_mut(run)?.state = State::Failed(why.into());
        Ok(())
    }

    /// Takes a run back, so that it can be handed out again. Its losses, if any, are discarded.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn release(&mut self, run: u64) -> Result<()> {
        self.run_mut(run)?.state = State::Open;
        Ok(())
    }

    /// Records a run that was made elsewhere, and returns its number. This is the number of a run
    /// with the same settings that was not made yet or has the same losses, or else a new run
    /// without cost.
    ///
    /// # Errors
    /// If a number lies outside its domain, or the study has a model of this name and another size.
    pub fn add(&mut self, made: &Made) -> Result<u64> {
        positive("n_params", made.n_params)?;
        positive("d_ft_tokens", made.d_ft_tokens)?;
        fraction(made.p)?;
        let of_size = |model: &&Model| model.n_params == made.n_params;
        let named = match &made.model {
            Some(name) => self.models.iter().find(|model| model.name == *name),
            None => self.models.iter().find(of_size),
        };
        let name = match (named, &made.model) {
            (Some(model), _) if model.n_params != made.n_params => {
                let requirement = format!(
                    "the study's model of this name has {} parameters and not {}",
                    model.n_params, made.n_params
                );
                return Err(Error::setting("model", &model.name, requirement));
            }
            (Some(model), _) => model.name.clone(),
            (None, Some(name)) => name.clone(),
            (None, None) => size(made.n_params),
        };
        let is_new = named.is_none();
        let losses =
            if is_new { checked(made.losses)? } else { self.resolved(&name, made.losses)? };
        let same = |run: &&StudyRun| {
            run.model == name
                && run.d_ft_tokens == made.d_ft_tokens
                && run.p == made.p
                && match &run.state {
                    State::Open | State::Asked => true,
                    State::Done(told) => *told == losses,
                    State::Failed(_) => false,
                }
        };
        let of_same = self.runs.iter().filter(same);
        // One that has these losses, before one that waits for some.
        let known = of_same.min_by_key(|run| !matches!(run.state, State::Done(_)));
        let run = match known.map(|run| run.run) {
            Some(run) => run,
            None => {
                if is_new {
                    self.add_model(&name, made.n_params, 0.0)?;
                }
                self.push(name, made.d_ft_tokens, made.p, 0.0)?
            }
        };
        self.tell(run, losses)?;
        Ok(run)
    }

    /// What the results show so far. This fits the laws, which takes about a second with the
    /// default options.
    pub fn answer(&self, options: &Options) -> Answer {
        Answer::of(&self.table(), self.question.clone(), options)
    }

    /// The runs that were made, as a table of losses with their numbers and models.
    pub fn table(&self) -> Table {
        let run = |run: &StudyRun| {
            let State::Done(losses) = run.state else { return None };
            let model = self.model(&run.model).ok()?;
            let loss_pt0 = losses.loss_pt0.or(model.loss_pt0).unwrap_or(f64::NAN);
            Some(Run {
                run: run.run.to_string(),
                parent: run.model.clone(),
                row: Row { loss_pt0, ..self.row(run, model) },
                loss_pt: losses.loss_pt,
                loss_ft: losses.loss_ft,
                ..Run::default()
            })
        };
        Table::new(self.runs.iter().filter_map(run).collect())
    }

    /// The cost of the runs that were made or are under way, including their models.
    pub fn spent(&self) -> f64 {
        self.cost_of(|run| matches!(run.state, State::Asked | State::Done(_)))
    }

    /// The cost of all runs, including their models.
    pub fn cost(&self) -> f64 {
        self.cost_of(|_| true)
    }

    fn cost_of(&self, counts: impl Fn(&StudyRun) -> bool) -> f64 {
        let runs = || self.runs.iter().filter(|run| counts(run));
        let needed = |model: &&Model| runs().any(|run| run.model == model.name);
        let models = self.models.iter().filter(needed);
        runs().map(|run| run.cost).sum::<f64>() + models.map(|model| model.cost).sum::<f64>()
    }

    /// The losses of a run of a model, with the model's L_pt⁰ where they do not say it.
    fn resolved(&self, model: &str, losses: Losses) -> Result<Losses> {
        let known = self.model(model)?.loss_pt0;
        checked(Losses { loss_pt0: losses.loss_pt0.or(known), ..losses })
    }

    fn model(&self, name: &str) -> Result<&Model> {
        self.place_of(name).map(|place| &self.models[place])
    }

    fn model_mut(&mut self, name: &str) -> Result<&mut Model> {
        self.place_of(name).map(|place| &mut self.models[place])
    }

    fn place_of(&self, name: &str) -> Result<usize> {
        self.models.iter().position(|model| model.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| &*model.name).collect();
            let requirement = if names.is_empty() {
                "the study has no models yet".into()
            } else {
                format!("the study's models are {}", names.join(", "))
            };
            Error::setting("model", name, requirement)
        })
    }

    fn run(&self, run: u64) -> Result<&StudyRun> {
        let found = usize::try_from(run).ok().and_then(|run| self.runs.get(run.checked_sub(1)?));
        found.ok_or_else(|| {
            let requirement = format!("the study's runs are 1 to {}", self.runs.len());
            Error::setting("run", run, requirement)
        })
    }

    fn run_mut(&mut self, run: u64) -> Result<&mut StudyRun> {
        self.run(run)?;
        Ok(&mut self.runs[run as usize - 1])
    }

    /// What does not fit together, for a file that somebody changed.
    fn check(&self) -> Result<()> {
        self.question.check()?;
        let mut empty = Self { models: Vec::new(), runs: Vec::new(), ..self.clone() };
        for model in &self.models {
            empty.add_model(&model.name, model.n_params, model.cost)?;
            model.loss_pt0.map_or(Ok(()), |loss| positive("loss_pt0", loss))?;
            model.d_tokens.map_or(Ok(()), |d_tokens| positive("d_tokens", d_tokens))?;
        }
        for run in &self.runs {
            let number = empty.add_candidate(&run.model, run.d_ft_tokens, run.p, run.cost)?;
            if number != run.run {
                let requirement =
                    format!("runs are numbered from 1 on, and this is number {number}");
                return Err(Error::setting("run", run.run, requirement));
            }
            if let State::Done(losses) = run.state {
                empty.tell(number, losses)?;
            }
        }
        Ok(())
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, value, "must be a number above 0"))
    }
}

fn price(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, value, "must be a number of at least 0"))
    }
}

fn fraction(p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        Ok(())
    } else {
        Err(Error::setting("p", p, "must lie between 0 and 1"))
    }
}

/// Refuses losses that are none, or say nothing.
fn checked(losses: Losses) -> Result<Losses> {
    let Losses { loss_pt0, loss_pt, loss_ft } = losses;
    for (name, loss) in [("loss_pt0", loss_pt0), ("loss_pt", loss_pt), ("loss_ft", loss_ft)] {
        if let Some(loss) = loss.filter(|loss| !(loss.is_finite() && *loss > 0.0)) {
            let requirement =
                "must be a finite number above 0; tell that a run diverged as a failure";
            return Err(Error::setting(name, loss, requirement));
        }
    }
    match (loss_pt, loss_ft, loss_pt0) {
        (None, None, _) => Err(Error::missing("a loss", "give loss_pt, loss_ft or, best, both")),
        (Some(_), _, None) => {
            let requirement = "give the pretraining loss of the run's model before finetuning, on the \
                               same validation set as loss_pt";
            Err(Error::missing("loss_pt0", requirement))
        }
        _ => Ok(losses),
    }
}

#[cfg(test)]
mod tests;
