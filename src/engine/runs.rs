//! The two kinds of run: pretraining, and finetuning with injection. Both use the same loop of steps,
//! evaluations and checkpoints. They differ in the source of the windows, the learning rate and the
//! evaluation.

use super::checkpoints::{self, State};
use super::comm::{Comm, Signals};
use super::test_set::{self, FinetunedModel};
use super::{Buffer, Engine, Training};
use crate::checkpoint::{Checkpoint, WEIGHTS};
use crate::data::sequences::{Sequences, Window};
use crate::finetuning::{EvalPlan, Evaluation, StopRule, UCurve};
use crate::injection::{Draw, Mixture, MixtureSpec, Shuffle};
use crate::rng::Key;
use crate::run::{
    EngineKind, FinetuneSpec, ImportSpec, Outcome, PretrainSpec, Realised, Record, RunId, Spec,
};
use crate::store::{Claim, hash_file, write_atomic};
use crate::weight_decay::Step;
use crate::{Error, Result};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The pretraining data as sequences.
#[derive(Debug, Clone)]
pub struct PretrainData {
    /// Measures L_pt during the run.
    pub validation: Sequences,
    /// Measures L_pt again at the end ([`TestLosses`](crate::run::TestLosses)), if given.
    pub test: Option<Sequences>,
    /// Reserved for injection; never used in pretraining.
    pub injection: Sequences,
    /// Used in pretraining.
    pub training: Sequences,
}

/// A target domain as sequences.
#[derive(Debug, Clone)]
pub struct TargetData {
    /// Measures L_ft during the run, to find the bottom of the U-curve.
    pub validation: Sequences,
    /// Measures L_ft again at the bottom, if given.
    pub test: Option<Sequences>,
    /// Used in finetuning. The subsets of size D_ft are its prefixes.
    pub training: Sequences,
}

/// What a finetuning run reads.
#[derive(Debug, Clone, Copy)]
pub struct FinetuneData<'a> {
    /// Whose injection data are mixed into the target's.
    pub pretraining: &'a PretrainData,
    /// The domain that the model is finetuned on.
    pub target: &'a TargetData,
}

/// How a run is carried out. Nothing here except the engine changes its result.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// If it is set, the run writes a checkpoint and ends with [`Error::Interrupted`].
    pub stop: &'a AtomicBool,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// The token between documents, for the `config.json` of models that are written.
    pub end_of_text: Option<u32>,
    /// Whether finetuning keeps the model at the bottom of the U-curve in the run's folder.
    pub keep_bottom: bool,
    /// Is told what happens.
    pub observer: &'a dyn Observer,
}

/// Is told what happens in a run.
pub trait Observer: Sync {
    /// The run starts at this step: 0, or the step of a checkpoint.
    fn started(&self, step: u64, total_steps: u64);
    /// A step was taken: its number, counted from 1, and the number of predicted tokens.
    fn stepped(&self, step: u64, tokens: u64);
    /// The validation losses were measured.
    fn evaluated(&self, evaluation: &Evaluation);
    /// Something that the user should know.
    fn note(&self, text: &str);
}

/// Pretrains a model. If the claim's folder has a checkpoint, the run continues from it. Here and
/// below, only the first rank has a claim and writes files.
///
/// # Errors
/// If a setting is invalid, the data do not suffice, a file cannot be written, or the run is
/// interrupted.
pub fn pretrain(
    spec: &PretrainSpec,
    data: &PretrainData,
    claim: Option<&Claim>,
    control: &Control<'_>,
) -> Result<Record> {
    spec.schedule.validate()?;
    let key = Key::new(spec.seed).named("pretraining");
    check_engine(spec.engine, control)?;
    data.test.iter().try_for_each(test_set::check)?;
    let model = Checkpoint::initial(spec.shape, key.named("initialisation"))?;
    let mut training = control.engine.training(&model, spec.precision, spec.adamw, spec.clip)?;
    drop(model);
    let order = Shuffle::new(key.named("order"), data.training.len() as u64)?;
    let job = Job {
        total_steps: spec.schedule.total_steps,
        rates: &|step| (spec.schedule.lr(step), spec.schedule.multiplier(step)),
        rows: &|step| {
            let positions = step * spec.batch..(step + 1) * spec.batch;
            let window = |position| data.training.window(order.at(position) as usize);
            positions.map(window).collect()
        },
        evaluate: &spec.evaluate,
        target: None,
        pretraining: &data.validation,
        stop: None,
        keeps_bottom: false,
    };
    let id = Spec::Pretrain(spec.clone()).id();
    let (state, outcome) = drive(&job, &id, &mut *training, claim, control)?;
    let sequences = state.step * spec.batch;
    let epochs = sequences as f64 / data.training.len() as f64;
    if epochs > 1.0 {
        control.observer.note(&format!("the pretraining text was used {epochs:.2} times"));
    }
    let model = training.to_checkpoint()?;
    let test = match &data.test {
        Some(set) if outcome == Outcome::Completed => {
            Some(test_set::of_model(control.engine, &model, spec.precision, set)?)
        }
        _ => None,
    };
    let write = |claim: &Claim| model.write(claim.folder(), control.end_of_text);
    Ok(Record {
        id,
        outcome,
        steps: state.step,
        n_params: spec.shape.count(),
        realised: Realised {
            sequences,
            tokens: sequences * spec.shape.context as u64,
            unique_tokens: data.training.tokens(),
            epochs,
            ..Realised::default()
        },
        evaluations: state.evaluations,
        test,
        model: claim.map(write).transpose()?,
    })
}

/// Imports a model that was pretrained elsewhere: measures its loss on the pretraining data before
/// finetuning, L_pt⁰, and writes it to the claim's folder. Its learning rates and its number of
/// pretraining tokens are unknown here.
///
/// # Errors
/// If the model is not that of the specification, its context is too short for the data, its loss is
/// not finite, or a file cannot be written.
pub fn import(
    spec: &ImportSpec,
    model: &Checkpoint,
    data: &PretrainData,
    claim: Option<&Claim>,
    control: &Control<'_>,
) -> Result<Record> {
    let found = model.hash();
    if found != spec.weights {
        return Err(Error::setting("model", found, format!("must have the hash {}", spec.weights)));
    }
    check_engine(spec.engine, control)?;
    check_context(model, &data.validation)?;
    data.test.iter().try_for_each(test_set::check)?;
    let evaluation = Evaluation {
        step: 0,
        loss_ft: f64::NAN,
        loss_pt: control.engine.loss(model, spec.precision, &data.validation)?,
        loss_train: None,
    };
    if !evaluation.loss_pt.is_finite() {
        let requirement = "must be finite on the pretraining data before any finetuning";
        return Err(Error::setting("loss of the model", evaluation.loss_pt, requirement));
    }
    control.observer.evaluated(&evaluation);
    let id = Spec::Import(spec.clone()).id();
    Ok(Record {
        id,
        outcome: Outcome::Completed,
        steps: 0,
        n_params: model.shape.count(),
        realised: Realised::default(),
        evaluations: vec![evaluation],
        test: match &data.test {
            Some(set) => Some(test_set::of_model(control.engine, model, spec.precision, set)?),
            None => None,
        },
        model: claim.map(|claim| model.write(claim.folder(), control.end_of_text)).transpose()?,
    })
}

/// Refuses an engine that is not the one in the identity of the run.
fn check_engine(asked: EngineKind, control: &Control<'_>) -> Result<()> {
    match control.engine.kind() {
        kind if kind == asked => Ok(()),
        kind => Err(Error::setting("engine", kind, format!("must be {asked}, the run's"))),
    }
}

/// Refuses sequences that are longer than the model's context.
fn check_context(model: &Checkpoint, sequences: &Sequences) -> Result<()> {
    let (context, positions) = (sequences.context(), model.shape.context);
    if context > positions {
        let requirement = format!("must be at most {positions}, the positions of the model");
        return Err(Error::setting("context", context, requirement));
    }
    Ok(())
}

/// Finetunes a model on the target with injected pretraining data. If the claim's folder has a
/// checkpoint, the run continues from it. Sequences may be shorter than the model's context.
///
/// # Errors
/// If a setting is invalid, the data or the reserved pretraining data do not suffice, a file cannot be
/// written, or the run is interrupted.
pub fn finetune(
    spec: &FinetuneSpec,
    model: &Checkpoint,
    data: FinetuneData<'_>,
    claim: Option<&Claim>,
    control: &Control<'_>,
) -> Result<Record> {
    let FinetuneData { pretraining, target } = data;
    spec.schedule.validate()?;
    check_engine(spec.engine, control)?;
    check_context(model, &target.training)?;
    let context = target.training.context() as u64;
    let d_ft = target.training.prefix(spec.d_ft_tokens)?;
    let read = Read::of(&d_ft)?;
    if target.validation.counted_tokens() == 0 {
        return Err(nothing_counts("the target's validation set", target.validation.tokens()));
    }
    let reserved = pretraining.injection.len() as u64;
    let mixture = mixture_of(spec, context, read.len() as u64, reserved)?;
    if spec.p.get() > 0.0 && mixture.counts(spec.steps).pretrain == 0 {
        control.observer.note("p is above 0 but so small that no sequence will be injected");
    }
    let tests = pretraining.test.as_ref().zip(target.test.as_ref());
    tests.iter().try_for_each(|(a, b)| test_set::check(a).and(test_set::check(b)))?;
    let mut training = control.engine.training(model, spec.precision, spec.adamw, spec.clip)?;
    let job = Job {
        total_steps: spec.steps,
        rates: &|step| (spec.schedule.lr(step), spec.schedule.multiplier(step)),
        rows: &|step| {
            let sequence = |draw| match draw {
                Draw::Target(i) => d_ft.window(read.at(i)),
                Draw::Pretrain(j) => pretraining.injection.window(j as usize),
            };
            mixture.batch(step).map(sequence).collect()
        },
        evaluate: &spec.evaluate,
        target: Some(&target.validation),
        pretraining: &pretraining.validation,
        stop: spec.stop.as_ref(),
        keeps_bottom: tests.is_some(),
    };
    let id = Spec::Finetune(spec.clone()).id();
    let (mut state, outcome) = drive(&job, &id, &mut *training, claim, control)?;
    drop(training);
    let bottom = state.bottom.take().map(|theta| Checkpoint { shape: model.shape, theta });
    let test = match (tests, bottom) {
        (Some(sets), Some(bottom)) => {
            let models = FinetunedModel { before: model, bottom: &bottom };
            Some(test_set::of_finetuning(control.engine, models, spec.precision, sets)?)
        }
        _ => None,
    };
    let counts = mixture.counts(state.step);
    let sequences = counts.target + counts.pretrain;
    Ok(Record {
        id,
        outcome,
        steps: state.step,
        n_params: model.shape.count(),
        realised: Realised {
            sequences,
            injected_sequences: counts.pretrain,
            tokens: sequences * context,
            injected_tokens: counts.pretrain * context,
            counted_tokens: read.counted(&mixture, sequences, context),
            unique_tokens: d_ft.tokens(),
            unique_counted_tokens: Some(d_ft.counted_tokens()).filter(|&n| n < d_ft.tokens()),
            epochs: counts.target as f64 / read.len() as f64,
        },
        evaluations: state.evaluations,
        test,
        model: match claim.filter(|_| control.keep_bottom) {
            Some(claim) => Some(hash_file(&claim.folder().join(WEIGHTS))?),
            None => None,
        },
    })
}

/// The mixture of a finetuning run: which sequence is at each position, given the tokens per sequence
/// (`context`) and the number of sequences reserved for injection. It needs no data, so a run can be
/// refused before anything is trained.
///
/// # Errors
/// If the reserved sequences do not suffice, or a setting is invalid.
pub fn mixture(spec: &FinetuneSpec, context: u64, reserved_sequences: u64) -> Result<Mixture> {
    mixture_of(spec, context, spec.d_ft_tokens / context, reserved_sequences)
}

/// The mixture if only some of the sequences of D_ft are used. The injected positions do not depend on
/// how many.
fn mixture_of(
    spec: &FinetuneSpec,
    context: u64,
    target_sequences: u64,
    reserved_sequences: u64,
) -> Result<Mixture> {
    MixtureSpec {
        sampler: spec.sampler,
        p: spec.p,
        steps: spec.steps,
        global_batch: spec.batch,
        target_sequences,
        reserved_sequences,
        replay_sequences: spec.replay_tokens.map(|tokens| tokens / context),
        sequence_tokens: context,
    }
    .of_run(spec.seed)
}

/// The sequences of D_ft that are used: those in which a token counts in the loss.
enum Read {
    /// All sequences, this many; every token counts.
    All(usize),
    /// Some, each with the number of its tokens that count.
    These(Vec<(usize, u64)>),
}

impl Read {
    fn of(d_ft: &Sequences) -> Result<Self> {
        if d_ft.counted_tokens() == d_ft.tokens() {
            return Ok(Self::All(d_ft.len()));
        }
        let counted = (0..d_ft.len()).map(|i| (i, d_ft.window(i).counted()));
        let read: Vec<_> = counted.filter(|&(_, counted)| counted > 0).collect();
        if read.is_empty() {
            Err(nothing_counts("D_ft", d_ft.tokens()))
        } else {
            Ok(Self::These(read))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::These(sequences) => sequences.len(),
        }
    }

    fn at(&self, draw: u64) -> usize {
        match self {
            Self::All(_) => draw as usize,
            Self::These(sequences) => sequences[draw as usize].0,
        }
    }

    /// How many tokens count in the first `sequences` of a run; `None` means all.
    fn counted(&self, mixture: &Mixture, sequences: u64, context: u64) -> Option<u64> {
        let Self::These(read) = self else { return None };
        let of = |draw| match draw {
            Draw::Target(i) => read[i as usize].1,
            Draw::Pretrain(_) => context,
        };
        Some((0..sequences).filter_map(|position| mixture.draw(position)).map(of).sum())
    }
}

/// The error if no token counts in the loss.
fn nothing_counts(what: &str, tokens: u64) -> Error {
    let requirement = "at least one must count in the loss, and all belong to instructions; ask for \
                       more tokens, or let all count (data.loss)";
    Error::setting(format!("tokens of {what}"), tokens, requirement)
}

/// What the loop needs to know of a run.
struct Job<'a> {
    total_steps: u64,
    /// Learning rate and multiplier of a step, counted from 0.
    rates: &'a dyn Fn(u64) -> (f64, f64),
    /// The windows of a step, each of T + 1 tokens.
    rows: &'a dyn Fn(u64) -> Vec<Window<'a>>,
    evaluate: &'a EvalPlan,
    /// Measures L_ft; `None` in pretraining.
    target: Option<&'a Sequences>,
    /// Measures L_pt.
    pretraining: &'a Sequences,
    stop: Option<&'a StopRule>,
    /// Whether the parameters with the lowest L_ft are kept until the end.
    keeps_bottom: bool,
}

/// The loop of every run.
fn drive(
    job: &Job<'_>,
    id: &RunId,
    training: &mut dyn Training,
    claim: Option<&Claim>,
    control: &Control<'_>,
) -> Result<(State, Outcome)> {
    job.evaluate.validate()?;
    let evaluated_steps = job.evaluate.steps(job.total_steps);
    let comm = control.engine.comm();
    let mut state = State::new(id);
    let mut metrics = None;
    if let Some(claim) = claim {
        let bottom = job.keeps_bottom;
        state = checkpoints::resume(id, training, bottom, claim, control.observer)?;
        metrics = Some(Metrics::open(claim, &state.evaluations)?);
    }
    if comm.world() > 1 {
        state = follow(state, training, comm)?;
    }
    control.observer.started(state.step, job.total_steps);
    training.set_loss_sums(&state.loss_sums())?;
    let mut last_checkpoint = Instant::now();
    loop {
        let evaluated_before = state.evaluations.last().map(|evaluation| evaluation.step);
        if evaluated_steps.binary_search(&state.step).is_ok()
            && evaluated_before != Some(state.step)
        {
            let steps = state.step - evaluated_before.unwrap_or(0);
            let losses = training.loss_sums()?;
            let mean = || losses.iter().sum::<f64>() / steps as f64;
            let mut evaluate = |set| training.evaluate(set);
            let evaluation = Evaluation {
                step: state.step,
                loss_ft: job.target.map(&mut evaluate).transpose()?.unwrap_or(f64::NAN),
                loss_pt: evaluate(job.pretraining)?,
                loss_train: (steps > 0).then(mean),
            };
            if let Some(metrics) = &mut metrics {
                metrics.append(&evaluation)?;
            }
            control.observer.evaluated(&evaluation);
            let lowest = || state.evaluations.iter().all(|e| evaluation.loss_ft < e.loss_ft);
            if job.target.is_some() && lowest() {
                if job.keeps_bottom {
                    state.bottom = Some(training.buffer(Buffer::Theta)?.into_owned());
                }
                if let Some(claim) = claim.filter(|_| control.keep_bottom) {
                    training.to_checkpoint()?.write(claim.folder(), control.end_of_text)?;
                }
            }
            state.evaluations.push(evaluation);
            training.set_loss_sums(&[])?;
        }
        let curve = UCurve::new(&state.evaluations)?;
        let outcome = match state.evaluations.last().filter(|last| last.step == state.step) {
            Some(last) if diverged(last, job.target.is_some()) => {
                Some(Outcome::Diverged { step: last.step })
            }
            Some(_) if job.stop.is_some_and(|rule| rule.stops(&curve)) => Some(Outcome::Turned),
            _ if state.step >= job.total_steps => Some(Outcome::Completed),
            _ => None,
        };
        let told = comm.agree(Signals {
            stop: control.stop.load(Ordering::Relaxed),
            due: last_checkpoint.elapsed() >= control.checkpoint_every,
            failed: false,
        })?;
        if told.failed {
            return Err(Error::RankFailed);
        }
        let interrupted = outcome.is_none() && told.stop;
        if told.due || interrupted || outcome.is_some() {
            state.set_loss_sums(training.loss_sums()?);
            if let Some(claim) = claim {
                checkpoints::write(training, &state, claim)?;
            }
            last_checkpoint = Instant::now();
        }
        if let Some(outcome) = outcome {
            return Ok((state, outcome));
        }
        if interrupted {
            return Err(Error::Interrupted);
        }
        let rows = (job.rows)(state.step);
        let tokens = rows.iter().map(Window::targets).sum();
        let (lr, multiplier) = (job.rates)(state.step);
        state.step += 1;
        training.step(&rows, Step { t: state.step, lr, multiplier })?;
        control.observer.stepped(state.step, tokens);
    }
}

/// Copies the state of the first rank to all ranks.
fn follow(state: State, training: &mut dyn Training, comm: &dyn Comm) -> Result<State> {
    if comm.agree(Signals::default())?.failed {
        return Err(Error::RankFailed);
    }
    let json = serde_json::to_vec(&state).expect("our types have string keys");
    let state: State = serde_json::from_slice(&comm.share(json)?)
        .map_err(|error| Error::RankLost(format!("rank 0 sent no state ({error})")))?;
    training.follow()?;
    Ok(state)
}

fn diverged(evaluation: &Evaluation, has_target: bool) -> bool {
    !evaluation.loss_pt.is_finite()
        || (has_target && !evaluation.loss_ft.is_finite())
        || evaluation.loss_train.is_some_and(|loss| !loss.is_finite())
}

/// `metrics.jsonl`: one line per evaluation, to follow a run.
struct Metrics {
    path: PathBuf,
    file: std::fs::File,
}

impl Metrics {
    /// Starts the file with the evaluations of the checkpoint. Later lines of an interrupted process
    /// are dropped.
    fn open(claim: &Claim, evaluations: &[Evaluation]) -> Result<Self> {
        let path = claim.folder().join("metrics.jsonl");
        write_atomic(&path, evaluations.iter().map(Self::line).collect::<String>().as_bytes())?;
        let file = std::fs::File::options().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    fn line(evaluation: &Evaluation) -> String {
        serde_json::to_string(evaluation).expect("our types have string keys") + "\n"
    }

    fn append(&mut self, evaluation: &Evaluation) -> Result<()> {
        self.file.write_all(Self::line(evaluation).as_bytes()).map_err(Error::io(&self.path))
    }
}
