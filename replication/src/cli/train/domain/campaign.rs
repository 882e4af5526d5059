//! The campaign of a domain: which runs are next, how much time is left, and which runs were chosen.
//!
//! Runs are chosen in rounds, one run per worker and more if one of them takes long, from the results
//! at the beginning of the round. Every round is written to disk before it starts, so after a kill the
//! next call finishes the round and continues with the same choices. Only whether a run still fits into
//! the time depends on the clock.

use super::super::say_failures;
use super::super::session::Session;
use super::{DomainOptions, Plan, plan, read};
use crate::blocks::MAIN;

use crate::experiment::data::Prepared;
use crate::experiment::grid::Finetuning;
use crate::experiment::interrupts::STOP;
use crate::experiment::job::Job;
use crate::experiment::provenance::RunManifest;
use crate::experiment::queue;
use crate::results::Results;
use crate::terminal::log;
use forgetting_laws::fit::design::Steps;
use forgetting_laws::run::{Record, RunId, Spec};
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::study::{Losses, Question, State, Study};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The campaign of a domain.
pub struct Campaign<'a> {
    session: &'a Session,
    plan: &'a Plan,
    budget: f64,
    folder: PathBuf,
    /// Rounds so far.
    pub journal: Journal,
    spent: Spent,
    /// The question.
    pub question: Question,
    /// N of each size of the plan, ascending.
    sizes: Vec<f64>,
}

/// The runs that were chosen, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    key: RunId,
    /// Rounds.
    pub rounds: Vec<Round>,
}

/// Runs that were chosen at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The runs.
    pub runs: Vec<Chosen>,
    /// How many runs were known.
    pub known: usize,
    /// The criterion: the mean standard deviation of the predicted ln of the increase.
    pub before: f64,
}

/// A run that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its identity.
    pub id: RunId,
    /// Its label.
    pub label: String,
    /// The expected criterion with this run and those before it.
    pub after: f64,
    /// The expected seconds of one worker for it, including the model that it needs.
    pub seconds: f64,
}

/// The time that calls on a domain took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Spent {
    /// The hash of the text.
    text: RunId,
    seconds: f64,
}

const JOURNAL: &str = "journal.json";
const SPENT: &str = "spent.json";

/// What comes next.
enum Next {
    Round(Round),
    End(End),
}

/// How a campaign ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every run of the plan was made.
    AllMade,
    /// No remaining run fits into the remaining time.
    BudgetSpent,
}

impl<'a> Campaign<'a> {
    /// Opens the campaign of a plan, as far as earlier calls have come.
    ///
    /// # Errors
    /// If a file of an earlier call cannot be read.
    pub fn new(
        session: &'a Session,
        options: &DomainOptions,
        plan: &'a Plan,
        folder: &Path,
    ) -> Result<Self> {
        let key = plan.key.clone();
        let text = session.sources.target_spec(&options.name).id();
        let journal: Option<Journal> = read(&folder.join(JOURNAL))?;
        let spent: Option<Spent> = read(&folder.join(SPENT))?;
        let count =
            |run: &crate::experiment::grid::Pretraining| run.job.shape.count().paper() as f64;
        let mut sizes: Vec<f64> = session.grid.pretrainings.iter().map(count).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let largest = sizes.last().copied().unwrap_or(f64::NAN);
        let vocab_size = u32::try_from(session.sources.vocab).ok();
        Ok(Self {
            session,
            plan,
            budget: options.budget,
            folder: folder.to_path_buf(),
            journal: journal
                .filter(|journal| journal.key == key)
                .unwrap_or(Journal { key, rounds: Vec::new() }),
            spent: spent.filter(|spent| spent.text == text).unwrap_or(Spent { text, seconds: 0.0 }),
            question: Question {
                n_params: options.n_params.unwrap_or(largest),
                d_ft_tokens: options.d_ft.unwrap_or_else(|| plan.question()),
                limit: options.limit,
                confidence: options.confidence,
                p: plan.p.iter().map(|p| p.get()).collect(),
                loss_pt0: None,
                vocab_size,
            },
            sizes,
        })
    }

    /// Seconds that calls on this domain took.
    pub fn spent(&self) -> f64 {
        self.spent.seconds
    }

    /// The plan in words.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn describe(&self) -> Result<String> {
        let Session { config, grid, .. } = self.session;
        let workers = config.run.workers();
        let records = self.session.finished(&grid.jobs())?;
        let steps = self.steps(&records);
        let pace = self.pace(&records)?;
        let mut text = format!(
            "{} runs to choose from: {} sizes, {} D_ft, {} p; {} of their {} models and runs are \
             there\n",
            grid.finetunings.len(),
            self.plan.sizes.len(),
            self.plan.d_ft_tokens.len(),
            self.plan.p.len(),
            records.len(),
            grid.jobs().len(),
        );
        let largest = self.plan.d_ft_tokens.last().copied().unwrap_or(0);
        for run in &grid.pretrainings {
            let of_size = |other: &&Finetuning| other.size == run.size;
            let times = grid.finetunings.iter().filter(of_size);
            let times: Vec<f64> = times.map(|run| pace * self.seconds(run, &steps)).collect();
            let low = times.iter().copied().fold(f64::INFINITY, f64::min);
            let high = times.iter().copied().fold(0.0, f64::max);
            let of_model = match run.job.spec {
                Spec::Import(_) => "an evaluation",
                _ => "pretraining",
            };
            let _ = writeln!(
                text,
                "  {:<14} N = {:<9} {of_model} about {}, a finetuning {} to {}",
                run.size,
                run.job.shape.count().paper(),
                plan::duration(pace * self.whole_seconds(&run.job)),
                plan::duration(low),
                plan::duration(high),
            );
        }
        let list = |values: Vec<String>| values.join(", ");
        let d_ft = list(self.plan.d_ft_tokens.iter().map(u64::to_string).collect());
        let _ = writeln!(text, "  D_ft = {d_ft} of {} available tokens", self.plan.available);
        if largest < self.plan.available / 2 {
            let _ = writeln!(
                text,
                "  on more than {largest} tokens the smallest model would not reach the bottom of \
                 its U-curve in {} steps",
                config.grid[MAIN].steps
            );
        }
        let p = self.plan.p.iter().map(|p| crate::format::percent(p.get())).collect();
        let _ = writeln!(text, "  p = {}", list(p));
        let every = |job: &Job| {
            if records.contains_key(&job.spec.id()) { 0.0 } else { self.whole_seconds(job) }
        };
        let left = grid.finetunings.iter().filter(|run| !records.contains_key(&run.job.spec.id()));
        let all = grid.pretrainings.iter().map(|run| every(&run.job)).sum::<f64>()
            + left.map(|run| self.seconds(run, &steps)).sum::<f64>();
        let _ = writeln!(
            text,
            "  all that is left would take about {} with {workers} worker(s); of the budget of {} \
             there are {} left, for the runs that say most",
            plan::duration(pace * all / workers as f64),
            plan::duration(self.budget),
            plan::duration((self.budget - self.spent.seconds).max(0.0)),
        );
        if config.data.pretrain.is_empty() {
            text += "  no --pretrain was given: the models are pretrained on the synthetic source, \
                     and what they forget is synthetic text\n";
        }
        Ok(text)
    }

    /// Carries out rounds until no run is left that fits.
    ///
    /// # Errors
    /// If the user interrupts, or a file cannot be written.
    pub fn train(&mut self) -> Result<End> {
        let begun = Instant::now();
        let before = self.spent.seconds;
        let (done, late) = (AtomicBool::new(false), AtomicBool::new(false));
        let (path, text) = (self.folder.join(SPENT), self.spent.text.clone());
        let spent =
            || Spent { text: text.clone(), seconds: before + begun.elapsed().as_secs_f64() };
        let budget = self.budget;
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut written = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(50));
                    let now = spent();
                    if now.seconds >= budget && !late.swap(true, Ordering::Relaxed) {
                        STOP.store(true, Ordering::Relaxed);
                    }
                    if written.elapsed() > Duration::from_secs(1) {
                        // A time that cannot be noted is not worth the runs.
                        let _ = write_atomic(&path, &to_json(&now));
                        written = Instant::now();
                    }
                }
            });
            let ended = self.rounds(&|| budget - spent().seconds);
            done.store(true, Ordering::Relaxed);
            ended
        });
        let ended = match ended {
            Err(Error::Interrupted) if late.load(Ordering::Relaxed) => {
                log(
                    "the budget is spent; unfinished runs are kept, and a larger budget continues them",
                );
                STOP.store(false, Ordering::Relaxed);
                Ok(End::BudgetSpent)
            }
            ended => ended,
        };
        self.spent = spent();
        // Nothing was trained: nothing was spent.
        if self.spent.seconds - before > 1.0 || before == 0.0 {
            write_atomic(&self.folder.join(SPENT), &to_json(&self.spent))?;
        }
        ended
    }

    fn rounds(&mut self, time_left: &dyn Fn() -> f64) -> Result<End> {
        let store = self.session.store()?;
        self.session.known.take(&store, &self.session.grid.jobs())?;
        let mut prepared: Option<Prepared> = None;
        let mut failed: BTreeSet<RunId> = BTreeSet::new();
        loop {
            let records = self.session.finished(&self.session.grid.jobs())?;
            let gone = |id: &RunId| records.contains_key(id) || failed.contains(id);
            let open = self.journal.rounds.last().map(|round| {
                round.runs.iter().map(|run| run.id.clone()).filter(|id| !gone(id)).collect()
            });
            let open: Vec<RunId> = open.unwrap_or_default();
            let next = if !open.is_empty() {
                open
            } else {
                match self.choose(&records, &failed, time_left())? {
                    Next::Round(round) => {
                        let ids = round.runs.iter().map(|run| run.id.clone()).collect();
                        self.journal.rounds.push(round);
                        write_atomic(&self.folder.join(JOURNAL), &to_json(&self.journal))?;
                        ids
                    }
                    Next::End(end) => return Ok(end),
                }
            };
            let prepared = match &mut prepared {
                Some(prepared) => prepared,
                None => prepared.insert(self.session.prepare_runs()?),
            };
            let jobs = self.jobs(&next);
            let done = self
                .session
                .with_context(&store, prepared, &jobs, |context| queue::execute(context, &jobs))?;
            say_failures(&done);
            for job in &jobs {
                if done.failures.iter().any(|(label, _)| *label == job.label) {
                    failed.insert(job.spec.id());
                }
            }
            let orphan = |run: &&Finetuning| run.job.parent().is_some_and(|id| failed.contains(id));
            let orphans = self.session.grid.finetunings.iter().filter(orphan);
            let orphans: Vec<RunId> = orphans.map(|run| run.job.spec.id()).collect();
            failed.extend(orphans);
        }
    }

    /// Some runs and the models that they need.
    fn jobs(&self, ids: &[RunId]) -> Vec<Job> {
        let grid = &self.session.grid;
        let runs = grid.finetunings.iter().filter(|run| ids.contains(&run.job.spec.id()));
        let runs: Vec<&Job> = runs.map(|run| &run.job).collect();
        let needed: BTreeSet<&RunId> = runs.iter().filter_map(|job| job.parent()).collect();
        let models = grid.pretrainings.iter().map(|run| &run.job);
        let models = models.filter(|job| needed.contains(&job.spec.id()));
        models.chain(runs).cloned().collect()
    }

    /// The next round, or why there is none.
    fn choose(
        &self,
        records: &BTreeMap<RunId, Record>,
        failed: &BTreeSet<RunId>,
        time_left: f64,
    ) -> Result<Next> {
        let study = self.study(records, failed)?;
        // What is chosen follows from the plan's times; only what still fits, from those it took.
        let time_left = time_left / self.pace(records)?;
        let models = study.models();
        let prices: Vec<f64> = models.iter().map(|model| model.cost).collect();
        let place = |name: &str| models.iter().position(|model| model.name == name);
        let open = study.runs().iter().filter(|run| run.state == State::Open).filter_map(|run| {
            Some(Open { run: run.run, cost: run.cost, needs: place(&run.model)? })
        });
        let mut left: Vec<Open> = open.collect();
        let any = !left.is_empty();
        left.retain(|run| run.cost + prices[run.needs] <= time_left);
        leave_time_for_the_largest(&mut left, &prices, time_left);
        if left.is_empty() {
            return Ok(Next::End(if any { End::BudgetSpent } else { End::AllMade }));
        }
        let workers = self.session.config.run.workers();
        let fits = |number: u64| left.iter().any(|run| run.run == number);
        let chosen = study.choose(workers * RUNS_BESIDE_A_LONG_ONE, |run| fits(run.run))?;
        let waits = |model: &str| place(model).is_some_and(|needs| prices[needs] > 0.0);
        let costs: Vec<(f64, bool)> =
            chosen.iter().map(|asked| (asked.cost, waits(&asked.model))).collect();
        let runs = filled(&costs, workers).into_iter().map(|i| {
            let asked = &chosen[i];
            let job = &self.session.grid.finetunings[asked.run as usize - 1].job;
            let (id, label) = (job.spec.id(), job.label.clone());
            Chosen { id, label, after: asked.after, seconds: asked.cost }
        });
        let before = study.deviation()?;
        Ok(Next::Round(Round { runs: runs.collect(), known: records.len(), before }))
    }

    /// The plan's runs as a study, in the order of the grid, with the costs of runs and models in
    /// seconds of one worker and the results of finished runs.
    fn study(&self, records: &BTreeMap<RunId, Record>, failed: &BTreeSet<RunId>) -> Result<Study> {
        let grid = &self.session.grid;
        let mut question = self.question.clone();
        if !grid.pretrainings.iter().any(|run| records.contains_key(&run.job.spec.id())) {
            // What is usual for the vocabulary.
            question.loss_pt0 = Some(0.65 * (self.session.sources.vocab as f64).ln());
        }
        let mut study = Study::new(question)?;
        for run in &grid.pretrainings {
            let id = run.job.spec.id();
            let record = records.get(&id);
            let price = if record.is_some() { 0.0 } else { self.whole_seconds(&run.job) };
            study.add_model(id.as_str(), run.job.shape.count().paper() as f64, price)?;
            let loss = record.and_then(|record| Some(record.evaluations.last()?.loss_pt));
            if let Some(loss) = loss.filter(|loss| loss.is_finite() && *loss > 0.0) {
                study.tell_model(id.as_str(), loss)?;
            }
        }
        let steps = self.steps(records);
        let mut numbers = BTreeMap::new();
        for run in &grid.finetunings {
            let context = run.job.shape.context as u64;
            let d_ft_tokens = (run.cell.d_ft_tokens / context * context) as f64;
            let model = run.job.parent().map_or("", RunId::as_str);
            let seconds = self.seconds(run, &steps);
            let number = study.add_candidate(model, d_ft_tokens, run.cell.p.get(), seconds)?;
            let id = run.job.spec.id();
            if records.contains_key(&id) || failed.contains(&id) {
                study.fail(number, "without a result")?;
            }
            numbers.insert(id, number);
        }
        if numbers.keys().any(|id| records.contains_key(id)) {
            let results = self.results()?;
            for run in results.block(MAIN).filter(|run| run.left_out().is_none()) {
                let Some(&number) = numbers.get(&run.record.id) else { continue };
                let made = run.run();
                let loss_pt0 = Some(made.row.loss_pt0);
                let losses = Losses { loss_pt0, loss_pt: made.loss_pt, loss_ft: made.loss_ft };
                study.tell(number, losses)?;
            }
        }
        Ok(study)
    }

    /// The criterion with all finished runs.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn deviation(&self) -> Result<f64> {
        let records = self.session.finished(&self.session.grid.jobs())?;
        self.study(&records, &BTreeSet::new())?.deviation()
    }

    /// The finished runs of the plan.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn results(&self) -> Result<Results> {
        self.session.results()
    }

    /// How long finetuning runs take, estimated from finished ones.
    fn steps(&self, records: &BTreeMap<RunId, Record>) -> Steps {
        let logs = self.sizes.iter().map(|n| n.ln()).sum::<f64>();
        let mut steps = Steps::new((logs / self.sizes.len() as f64).exp());
        for run in &self.session.grid.finetunings {
            if let Some(record) = records.get(&run.job.spec.id()) {
                let n_params = run.job.shape.count().paper() as f64;
                steps.learn(n_params, self.pass(run), record.steps);
            }
        }
        steps
    }

    /// The steps of one pass over a run's target data.
    fn pass(&self, run: &Finetuning) -> f64 {
        let sequences = run.cell.d_ft_tokens / run.job.shape.context as u64;
        sequences as f64 / self.session.config.finetuning.batch as f64
    }

    /// The seconds of one worker that a finetuning is expected to take.
    fn seconds(&self, run: &Finetuning, steps: &Steps) -> f64 {
        let n_params = run.job.shape.count().paper() as f64;
        let budget = run.cell.steps as f64;
        let finetuning = &self.session.config.finetuning;
        let expected = if finetuning.stop_when_turned {
            // It is looked at from so many steps on.
            steps.expected(n_params, self.pass(run)).max(finetuning.stop.min_steps as f64)
        } else {
            budget
        };
        let share = (expected / budget).min(1.0);
        share * self.whole_seconds(&run.job)
    }

    /// The ratio of the time that finished runs took to the time by the plan's rates; 1 before any.
    fn pace(&self, records: &BTreeMap<RunId, Record>) -> Result<f64> {
        // Who only asks for the plan finds no folder of runs.
        if records.is_empty() {
            return Ok(1.0);
        }
        let store = self.session.store()?;
        let grid = &self.session.grid;
        let models = grid.pretrainings.iter().map(|run| (&run.job, 1.0));
        let of_budget =
            |run: &Finetuning, record: &Record| record.steps as f64 / run.cell.steps as f64;
        let runs = grid
            .finetunings
            .iter()
            .filter_map(|run| Some((&run.job, of_budget(run, records.get(&run.job.spec.id())?))));
        let times = models.chain(runs).filter_map(|(job, share)| {
            let id = job.spec.id();
            records.get(&id)?;
            let took = RunManifest::read(&store.folder(&id))?.seconds()?;
            Some((took, share * self.whole_seconds(job)))
        });
        Ok(pace(times))
    }

    /// The seconds of one worker that a job takes to its last step, by the plan's rates.
    fn whole_seconds(&self, job: &Job) -> f64 {
        job.flops / self.plan.rates[&job.size]
    }
}

/// A run that can be made: its number in the study, its own seconds, and the index of its model.
#[derive(Debug, PartialEq)]
struct Open {
    run: u64,
    cost: f64,
    needs: usize,
}

/// The plan promises its largest model. Until that exists, runs that would use the time for it and for
/// its shortest run are left out.
fn leave_time_for_the_largest(left: &mut Vec<Open>, prices: &[f64], time_left: f64) {
    let Some((largest, &price)) = prices.iter().enumerate().next_back() else { return };
    let of_it = left.iter().filter(|run| run.needs == largest);
    let shortest = of_it.map(|run| run.cost).fold(f64::INFINITY, f64::min);
    let promised = price + shortest;
    if price == 0.0 || promised > time_left {
        return;
    }
    left.retain(|run| run.needs == largest || run.cost + prices[run.needs] + promised <= time_left);
}

/// The most runs of a round per worker.
const RUNS_BESIDE_A_LONG_ONE: usize = 8;

/// The runs of a round: one per worker, and further ones if the other workers would wait for a long
/// one. `chosen` has the runs, the best first, with their costs and whether a model must be made first.
fn filled(chosen: &[(f64, bool)], workers: usize) -> Vec<usize> {
    let first = &chosen[..workers.min(chosen.len())];
    let longest = first.iter().map(|run| run.0).fold(0.0, f64::max);
    let mut free = workers as f64 * longest - first.iter().map(|run| run.0).sum::<f64>();
    let mut round: Vec<usize> = (0..first.len()).collect();
    for (i, &(cost, waits)) in chosen.iter().enumerate().skip(first.len()) {
        if !waits && cost <= free {
            free -= cost;
            round.push(i);
        }
    }
    round
}

/// The ratio of the total time taken to the total time expected; 1 if there is none. A factor beyond 5
/// is attributed to other work on the machine.
fn pace(times: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (took, expected) =
        times.fold((0.0, 0.0), |sum, (took, expected)| (sum.0 + took, sum.1 + expected));
    let ratio = took / expected;
    if ratio.is_finite() && ratio > 0.0 { ratio.clamp(0.2, 5.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_model_keeps_its_time() {
        let open = |(run, cost, needs)| Open { run, cost, needs };
        // Two models, of which the second takes 600 seconds.
        let all = || [(1, 5.0, 0), (2, 90.0, 0), (3, 9.0, 1)].map(open).into_iter().collect();
        let costs = |prices: [f64; 2], time_left: f64| {
            let mut left: Vec<Open> = all();
            leave_time_for_the_largest(&mut left, &prices, time_left);
            left.iter().map(|run| run.cost).collect::<Vec<f64>>()
        };
        assert_eq!(costs([30.0, 600.0], 800.0), [5.0, 90.0, 9.0]);
        assert_eq!(costs([30.0, 600.0], 650.0), [5.0, 9.0]);
        assert_eq!(costs([0.0, 600.0], 700.0), [5.0, 90.0, 9.0]);
        assert_eq!(costs([30.0, 600.0], 620.0), [9.0]);
        // Made, or too late for it.
        assert_eq!(costs([30.0, 0.0], 100.0), [5.0, 90.0, 9.0]);
        assert_eq!(costs([30.0, 600.0], 600.0), [5.0, 90.0, 9.0]);
    }

    #[test]
    fn nobody_waits_beside_a_long_run() {
        let short = |cost: f64| (cost, false);
        assert_eq!(filled(&[short(10.0), short(9.0), short(5.0)], 2), [0, 1]);
        let beside =
            [(100.0, true), short(20.0), short(50.0), (1.0, true), short(40.0), short(30.0)];
        assert_eq!(filled(&beside, 2), [0, 1, 2, 5]);
        assert_eq!(filled(&[short(3.0)], 4), [0]);
        assert!(filled(&[], 2).is_empty());
    }

    #[test]
    fn the_pace_is_that_of_all_runs() {
        assert_eq!(pace([].into_iter()), 1.0);
        assert_eq!(pace([(3.0, 1.0), (3.0, 2.0)].into_iter()), 2.0);
        assert_eq!(pace([(1e9, 1.0)].into_iter()), 5.0);
        assert_eq!(pace([(0.0, 1.0)].into_iter()), 1.0);
    }
}
