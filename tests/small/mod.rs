//! Runs of a very small model, on any engine.

use forgetting_laws::Fraction;
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::engine::{
    Control, Engine, FinetuneData, Observer, PretrainData, TargetData, finetune, pretrain,
};
use forgetting_laws::finetuning::{self, EvalPlan, Evaluation};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Precision, Shape,
};
use forgetting_laws::pretraining::Schedule;
use forgetting_laws::rng::Key;
use forgetting_laws::run::{EngineKind, FORMAT, FinetuneSpec, PretrainSpec, Record, RunId, Spec};
use forgetting_laws::store::{Claim, Store};
use forgetting_laws::weight_decay::AdamW;
use forgetting_laws::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A time between checkpoints that no test takes.
pub const NEVER: Duration = Duration::from_secs(3600);

pub fn sequences(seed: u64, count: u64, context: usize) -> Sequences {
    // A noisy cycle, so that there is something to learn and something to memorise.
    let key = Key::new(seed);
    let token = |i: u64| if key.below(i, 3) == 0 { key.below(i + (1 << 40), 13) } else { i % 13 };
    Sequences::new((0..=count * context as u64).map(|i| token(i) as u32).collect(), context)
        .unwrap()
}

pub fn shape() -> Shape {
    let named = Shape::named("nano-tiny", 13, 8).unwrap();
    Shape { n_layers: 1, d_model: 16, ..named }
}

/// The same with blocks of another family: Qwen3's, with a head of its own.
pub fn qwen3() -> Shape {
    Shape {
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
        attention: Attention { n_kv_heads: Some(1), qk_norm: true, ..Attention::default() },
        mlp: Mlp { d_ff: Some(24), activation: Activation::Swiglu },
        head: Head::Own,
        ..shape()
    }
}

pub fn data() -> (PretrainData, TargetData) {
    let pretraining = PretrainData {
        validation: sequences(1, 20, 8),
        test: None,
        injection: sequences(2, 400, 8),
        training: sequences(3, 100, 8),
    };
    let (validation, training) = (sequences(4, 20, 8), sequences(5, 30, 8));
    (pretraining, TargetData { validation, test: None, training })
}

pub fn pretraining(engine: EngineKind) -> PretrainSpec {
    PretrainSpec {
        format: FORMAT,
        data: RunId::of(&"data"),
        shape: shape(),
        precision: Precision::F32,
        engine,
        seed: 1,
        batch: 4,
        schedule: Schedule::paper(1e-2, 60),
        adamw: AdamW::default(),
        clip: 5.0,
        evaluate: EvalPlan::every(20),
    }
}

pub fn finetuning(parent: &PretrainSpec) -> FinetuneSpec {
    FinetuneSpec {
        format: FORMAT,
        parent: Spec::Pretrain(parent.clone()).id(),
        target: RunId::of(&"target"),
        precision: Precision::F32,
        engine: parent.engine,
        seed: 1,
        d_ft_tokens: 20 * 8 + 3,
        p: Fraction::new(0.25).unwrap(),
        sampler: SamplerKind::Independent,
        replay_tokens: None,
        batch: 4,
        schedule: finetuning::Schedule { peak: 1e-2, ratio: 1.0, warmup_steps: 0 },
        steps: 50,
        adamw: AdamW::default(),
        clip: 5.0,
        evaluate: EvalPlan { min_interval: 3, ratio: 1.2, max_interval: 10 },
        stop: None,
    }
}

/// Stops the run after a number of steps, as Ctrl-C would, and keeps the notes.
#[derive(Default)]
pub struct Watch {
    pub stop: AtomicBool,
    stop_after: AtomicU64,
    pub steps: AtomicU64,
    pub notes: Mutex<Vec<String>>,
}

impl Observer for Watch {
    fn started(&self, _step: u64, _total: u64) {}
    fn stepped(&self, _step: u64, _tokens: u64) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if steps == self.stop_after.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn evaluated(&self, _evaluation: &Evaluation) {}
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_string());
    }
}

/// A watch that lets `steps` steps pass; 0: all.
pub fn watch(steps: u64) -> Watch {
    Watch { stop_after: steps.into(), ..Watch::default() }
}

pub fn control<'a>(
    engine: &'a dyn Engine,
    watch: &'a Watch,
    checkpoint_every: Duration,
) -> Control<'a> {
    Control {
        engine,
        stop: &watch.stop,
        checkpoint_every,
        end_of_text: None,
        keep_bottom: false,
        observer: watch,
    }
}

/// Equality to the bit; the target's loss of a pretraining is NaN, which equals nothing.
pub fn assert_same(a: &Record, b: &Record) {
    assert_eq!(serde_json::to_string(a).unwrap(), serde_json::to_string(b).unwrap());
}

pub fn claim(store: &Store, spec: &Spec) -> Claim {
    store.claim(&spec.id()).unwrap().unwrap()
}

pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

/// The pretraining of [`pretraining`], in a store.
pub fn pretrained(
    engine: &dyn Engine,
    store: &Store,
    watch: &Watch,
    every: Duration,
) -> Result<Record, Error> {
    pretrained_by(pretraining(engine.kind()), engine, store, watch, every)
}

pub fn pretrained_by(
    spec: PretrainSpec,
    engine: &dyn Engine,
    store: &Store,
    watch: &Watch,
    every: Duration,
) -> Result<Record, Error> {
    let claim = claim(store, &Spec::Pretrain(spec.clone()));
    pretrain(&spec, &data().0, Some(&claim), &control(engine, watch, every))
}

/// A finetuning of the model of [`pretrained`], which it makes first.
pub fn finetuned(
    spec: &FinetuneSpec,
    engine: &dyn Engine,
    store: &Store,
    watch: &Watch,
    every: Duration,
) -> Result<Record, Error> {
    finetuned_on(spec, engine, store, watch, every, data())
}

pub fn finetuned_on(
    spec: &FinetuneSpec,
    engine: &dyn Engine,
    store: &Store,
    watch: &Watch,
    every: Duration,
    (pretraining, target): (PretrainData, TargetData),
) -> Result<Record, Error> {
    let parent = pretrained(engine, store, &Watch::default(), NEVER).unwrap();
    let model = Checkpoint::read(&store.folder(&parent.id)).unwrap();
    let claim = claim(store, &Spec::Finetune(spec.clone()));
    let control = control(engine, watch, every);
    finetune(
        spec,
        &model,
        FinetuneData { pretraining: &pretraining, target: &target },
        Some(&claim),
        &control,
    )
}
