//! A target domain of your own: implement [`Source`], and everything else works with it. The
//! example pretrains two small models, finetunes them on the domain with and without injection,
//! fits the law of forgetting, and says how much to inject:
//!
//! ```sh
//! cargo run -p forgetting-laws --example new_domain --features fit,train
//! ```
//!
//! It takes about ten seconds on a CPU. Without the features it only splits the domain and measures
//! its distance. For the command line, write the documents to a .jsonl file:
//! `replication domain sorting --data sorting.jsonl --budget 20m`.

use forgetting_laws::Result;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::split::{Split, SplitSettings, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::{Encode, Source};
use forgetting_laws::rng::{Draws, Key};
use forgetting_laws::store::sha256;
use std::borrow::Cow;

/// Lists of numbers and the same lists in order. Unlimited: every index is a document.
struct Sorting {
    seed: u64,
}

impl Source for Sorting {
    fn content_hash(&self) -> String {
        sha256(format!("sorting, version 1, seed {}", self.seed).as_bytes())
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        let mut draws = Draws::new(Key::new(self.seed).named("sorting").child(i));
        let mut numbers: Vec<u64> = (0..6).map(|_| draws.below(1000)).collect();
        let given = format!("{numbers:?}");
        numbers.sort();
        Ok(format!("sort {given} = {numbers:?}").into())
    }
}

/// A token a byte, to need no tokenizer. `data::tokenizer::Tokenizer` is the real one.
struct Bytes;

impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn end_of_text(&self) -> u32 {
        256
    }
}

/// Splits the domain and measures its distance from the pretraining data.
pub fn main() -> Result<()> {
    let split = |source: &dyn Source, injection| {
        let settings = SplitSettings {
            key: Key::new(0).named("split"),
            tokens: SplitTokens { validation: 8_192, injection, training: 100_000 },
            context: CONTEXT,
        };
        Split::build(source, &Bytes, settings)
    };
    let pretraining = split(&Synthetic::pretraining(0), 50_000)?;
    let target = split(&Sorting { seed: 0 }, 0)?;
    println!("{:?}", target.report.training);
    for d_ft in [1_000, 10_000, 100_000] {
        println!("D_ft = {} tokens", target.training.prefix(d_ft)?.tokens());
    }

    let trigram = Ngram::train(&pretraining.training.stream(), 257, 3)?;
    let near = trigram.loss(&pretraining.validation)?;
    let far = trigram.loss(&target.validation)?;
    println!("a trigram model of the pretraining data: {near:.2} nats a byte there, {far:.2} here");
    assert!(far > near);

    #[cfg(all(feature = "fit", feature = "train"))]
    training::advise(pretraining, target)?;
    Ok(())
}

/// Tokens a sequence.
const CONTEXT: usize = 32;

#[cfg(all(feature = "fit", feature = "train"))]
mod training {
    use super::CONTEXT;
    use forgetting_laws::checkpoint::Checkpoint;
    use forgetting_laws::data::split::Split;
    use forgetting_laws::engine::cpu::Cpu;
    use forgetting_laws::engine::{
        self, Control, FinetuneData, Observer, PretrainData, TargetData,
    };
    use forgetting_laws::finetuning::{self, EvalPlan, Evaluation, StopRule, UCurve};
    use forgetting_laws::fit::{Advisor, Bootstrap, HoldOut, Limit, Options, fit};
    use forgetting_laws::injection::SamplerKind;
    use forgetting_laws::laws::{Forgetting, Row};
    use forgetting_laws::model::{Precision, Shape};
    use forgetting_laws::pretraining::Schedule;
    use forgetting_laws::run::{EngineKind, FORMAT, FinetuneSpec, PretrainSpec, RunId, Spec};
    use forgetting_laws::store::{Claim, Store};
    use forgetting_laws::table::{Run, Table};
    use forgetting_laws::weight_decay::AdamW;
    use forgetting_laws::{Error, Fraction, Result};
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Pretrains, finetunes, fits, and prints what the law advises.
    pub fn advise(pretraining: Split, target: Split) -> Result<()> {
        let data = PretrainData {
            validation: pretraining.validation,
            test: None,
            injection: pretraining.injection,
            training: pretraining.training,
        };
        let target =
            TargetData { validation: target.validation, test: None, training: target.training };
        let folder = std::env::temp_dir().join(format!("new-domain-{}", std::process::id()));
        let data = FinetuneData { pretraining: &data, target: &target };
        let made = runs(data, &Store::open(&folder)?);
        // What runs leave is not needed any more.
        let _ = std::fs::remove_dir_all(&folder);
        let table = Table::new(made?);

        let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let options = Options { bootstrap, hold_out: Some(HoldOut::P), ..Options::default() };
        let law = fit(&table, &Forgetting, &options)?;
        println!("{}, {:?}", law.equation, law.status);
        for parameter in &law.params.0 {
            println!("  {} = {:.3e}", parameter.name, parameter.value);
        }
        let asked = table.runs.last().expect("runs were made").row;
        let advice = Advisor::new([&law]).smallest_p(&asked, Limit::Nats(1.5), 0.9)?;
        let increase = advice.rise_without;
        println!("without injection L_pt increases by {:.2} nats", increase.value);
        match advice.p {
            Some(p) => println!("inject {:.1}% to forget at most 1.5 nats", 100.0 * p),
            None => println!("no p keeps the increase within 1.5 nats for sure"),
        }
        advice.warnings.iter().for_each(|warning| println!("warning: {warning}"));
        Ok(())
    }

    /// Two sizes, two D_ft, p = 0, 1% and 10%: the losses at the bottom of each U-curve.
    fn runs(data: FinetuneData<'_>, store: &Store) -> Result<Vec<Run>> {
        // Small models are slower on more threads.
        let engine = Cpu { threads: 1, recompute: false };
        let stop = AtomicBool::new(false);
        let control = Control {
            engine: &engine,
            stop: &stop,
            checkpoint_every: Duration::from_secs(60),
            end_of_text: Some(256),
            keep_bottom: false,
            observer: &Silent,
        };
        let mut made = Vec::new();
        for (size, peak) in [("nano-micro", 1.5e-2), ("nano-tiny", 1e-2)] {
            let shape = Shape::named(size, 257, CONTEXT)?;
            let spec = PretrainSpec {
                format: FORMAT,
                data: RunId::of(&"synthetic"),
                shape,
                precision: Precision::F32,
                engine: EngineKind::Cpu,
                seed: 0,
                batch: 8,
                schedule: Schedule::paper(peak, 1000),
                adamw: AdamW::default(),
                clip: 5.0,
                evaluate: EvalPlan::every(100),
            };
            let parent = Spec::Pretrain(spec.clone()).id();
            let claim = claim(store, &parent)?;
            engine::pretrain(&spec, data.pretraining, Some(&claim), &control)?;
            let model = Checkpoint::read(claim.folder())?;
            for (d_ft_tokens, p) in
                [(512, 0.0), (512, 0.01), (512, 0.1), (2048, 0.0), (2048, 0.01), (2048, 0.1)]
            {
                let spec = FinetuneSpec {
                    format: FORMAT,
                    parent: parent.clone(),
                    target: RunId::of(&"sorting"),
                    precision: Precision::F32,
                    engine: EngineKind::Cpu,
                    seed: 0,
                    d_ft_tokens,
                    p: Fraction::new(p)?,
                    sampler: SamplerKind::Independent,
                    replay_tokens: None,
                    batch: 8,
                    // Three times the paper's rate: few steps are to reach the bottom.
                    schedule: finetuning::Schedule { peak, ratio: 0.1, warmup_steps: 0 },
                    steps: 1000,
                    adamw: AdamW::default(),
                    clip: 5.0,
                    evaluate: EvalPlan { min_interval: 4, ratio: 1.2, max_interval: 40 },
                    stop: Some(StopRule { rise: 0.05, factor: 1.5, min_steps: 50 }),
                };
                let claim = self::claim(store, &Spec::Finetune(spec.clone()).id())?;
                let record = engine::finetune(&spec, &model, data, Some(&claim), &control)?;
                let bottom = UCurve::new(&record.evaluations)?.bottom();
                let n_params = shape.count().paper() as f64;
                let loss_pt0 = record.evaluations[0].loss_pt;
                let d_ft_tokens = d_ft_tokens as f64;
                if let Some(bottom) = bottom.filter(|bottom| bottom.interior) {
                    let increase = bottom.loss_pt - loss_pt0;
                    println!(
                        "N = {n_params}, D_ft = {d_ft_tokens}, p = {p}: L_ft {:.2}, increase {increase:.2}",
                        bottom.loss_ft
                    );
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    made.push(Run { row, loss_pt: Some(bottom.loss_pt), ..Run::default() });
                }
            }
        }
        Ok(made)
    }

    fn claim(store: &Store, id: &RunId) -> Result<Claim> {
        store.claim(id)?.ok_or_else(|| Error::setting("run", id, "another process works on it"))
    }

    /// Shows nothing on the way.
    struct Silent;

    impl Observer for Silent {
        fn started(&self, _: u64, _: u64) {}
        fn stepped(&self, _: u64, _: u64) {}
        fn evaluated(&self, _: &Evaluation) {}
        fn note(&self, _: &str) {}
    }
}
