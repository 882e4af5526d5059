//! Runs, on every engine that this is built with: a resumed run equals an uninterrupted one to the bit,
//! settings matter, and what went wrong is told.
#![cfg(feature = "train")]

mod small;

use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::engine::cpu::Cpu;
use forgetting_laws::engine::{
    Control, Engine, FinetuneData, PretrainData, TargetData, finetune, import, remove_checkpoints,
};
use forgetting_laws::finetuning::{Evaluation, StopRule, UCurve};
use forgetting_laws::model::Precision;
use forgetting_laws::rng::Key;
use forgetting_laws::run::{
    EngineKind, FORMAT, FinetuneSpec, ImportSpec, Outcome, Record, RunId, Spec,
};
use forgetting_laws::store::{Claim, Store, hashed_files};
use forgetting_laws::{Error, Fraction};
use small::{
    NEVER, Watch, assert_same, claim, control, data, finetuned, finetuned_on, finetuning,
    pretrained, pretraining, sequences, store, watch,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CPU: Cpu = Cpu { threads: 1, recompute: false };

#[cfg(feature = "torch")]
static TORCH: forgetting_laws::engine::torch::Torch<'static> =
    forgetting_laws::engine::torch::Torch {
        device: tch::Device::Cpu,
        comm: &forgetting_laws::engine::Solo,
        micro_batch: 4,
        recompute: false,
        threads: 1,
    };

fn on_each_engine(test: impl Fn(&dyn Engine)) {
    test(&CPU);
    #[cfg(feature = "torch")]
    test(&TORCH);
}

#[test]
fn interrupted_anywhere_equals_uninterrupted() {
    on_each_engine(|engine| {
        let (_a, plain) = store();
        let whole = pretrained(engine, &plain, &watch(0), NEVER).unwrap();
        assert_eq!(whole.outcome, Outcome::Completed);
        assert_eq!(whole.steps, 60);
        // At the first step, between two evaluations, at an evaluation, before the last step.
        for stop_after in [1, 33, 40, 59] {
            let (_b, resumed) = store();
            let first = pretrained(engine, &resumed, &watch(stop_after), NEVER);
            assert!(matches!(first, Err(Error::Interrupted)));
            let rest = watch(0);
            let record = pretrained(engine, &resumed, &rest, NEVER).unwrap();
            assert_eq!(rest.steps.load(Ordering::Relaxed), 60 - stop_after);
            // The record holds the hash of every bit of the model's parameters.
            assert_same(&record, &whole);
        }
    });
}

#[test]
fn finetuning_resumes_to_the_bit_and_checkpoints_change_nothing() {
    on_each_engine(|engine| {
        let spec = finetuning(&pretraining(engine.kind()));
        let (_a, plain) = store();
        let whole = finetuned(&spec, engine, &plain, &watch(0), NEVER).unwrap();
        let (_b, resumed) = store();
        assert!(matches!(
            finetuned(&spec, engine, &resumed, &watch(17), Duration::ZERO),
            Err(Error::Interrupted)
        ));
        let record = finetuned(&spec, engine, &resumed, &watch(0), Duration::ZERO).unwrap();
        assert_same(&record, &whole);
        let folder = resumed.folder(&record.id);
        // They stay until the record is written: a kill in between must not cost the run.
        assert_ne!(hashed_files(&folder, "checkpoint-").unwrap().len(), 0);
        remove_checkpoints(&resumed.claim(&record.id).unwrap().unwrap()).unwrap();
        assert_eq!(hashed_files(&folder, "checkpoint-").unwrap().len(), 0);
        let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let lines: Vec<Evaluation> =
            metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, whole.evaluations);
    });
}

/// What a kill leaves: checkpoints, but evaluations in the metrics beyond the last of them.
#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    on_each_engine(|engine| {
        let (_a, plain) = store();
        let whole = pretrained(engine, &plain, &watch(0), NEVER).unwrap();
        let (_b, store) = store();
        assert!(pretrained(engine, &store, &watch(30), Duration::ZERO).is_err());
        let folder = store.folder(&whole.id);
        let checkpoints = hashed_files(&folder, "checkpoint-").unwrap();
        assert_eq!(checkpoints.len(), 2);
        let mut bytes = std::fs::read(&checkpoints[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&checkpoints[1], bytes).unwrap();
        let rest = watch(0);
        let record = pretrained(engine, &store, &rest, NEVER).unwrap();
        assert_same(&record, &whole);
        assert_eq!(rest.steps.load(Ordering::Relaxed), 31);
        let notes = rest.notes.lock().unwrap().join("\n");
        let name = checkpoints[1].file_name().unwrap().to_string_lossy();
        assert!(notes.contains(&*name) && notes.contains("damaged"), "{notes}");
    });
}

#[test]
fn a_finished_pretraining_goes_on_from_its_last_checkpoint() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let whole = pretrained(engine, &store, &watch(0), NEVER).unwrap();
        let again = watch(0);
        assert_same(&pretrained(engine, &store, &again, NEVER).unwrap(), &whole);
        assert_eq!(again.steps.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn seeds_and_fractions_matter_and_are_counted() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let spec = finetuning(&pretraining(engine.kind()));
        let base = finetuned(&spec, engine, &store, &watch(0), NEVER).unwrap();
        let other =
            finetuned(&FinetuneSpec { seed: 2, ..spec.clone() }, engine, &store, &watch(0), NEVER);
        let other = other.unwrap();
        assert_ne!(base.evaluations[1..], other.evaluations[1..]);
        assert_eq!(base.evaluations[0], other.evaluations[0], "the same pretrained model");
        let r = &base.realised;
        assert_eq!((r.sequences, r.tokens), (200, 1600));
        assert_eq!(r.unique_tokens, 160, "whole sequences of D_ft only");
        assert!(r.injected_sequences > 25 && r.injected_sequences < 75, "{r:?}");
        assert_eq!(r.injected_tokens, 8 * r.injected_sequences);
        assert_eq!(r.epochs, (200 - r.injected_sequences) as f64 / 20.0);
        let none = FinetuneSpec { p: Fraction::new(0.0).unwrap(), ..spec.clone() };
        let none = finetuned(&none, engine, &store, &watch(0), NEVER).unwrap();
        assert_eq!(none.realised.injected_sequences, 0);
        let all = FinetuneSpec { p: Fraction::new(1.0).unwrap(), ..spec };
        let all = finetuned(&all, engine, &store, &watch(0), NEVER).unwrap();
        assert_eq!(all.realised.injected_sequences, 200);
        assert_eq!(all.realised.epochs, 0.0);
        // The first evaluation is the pretrained model's, whatever p.
        assert_eq!(all.evaluations[0], none.evaluations[0]);
    });
}

/// A model that this crate pretrained, brought back as one from elsewhere: the same losses.
#[test]
fn an_imported_model_finetunes_as_the_one_that_it_was() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let own = pretrained(engine, &store, &watch(0), NEVER).unwrap();
        let model = Checkpoint::read(&store.folder(&own.id)).unwrap();
        let (pretraining_data, target) = data();
        let import_spec = ImportSpec {
            format: FORMAT,
            data: RunId::of(&"data"),
            shape: model.shape,
            precision: Precision::F32,
            engine: engine.kind(),
            weights: model.hash(),
        };
        let imported = claim(&store, &Spec::Import(import_spec.clone()));
        let watch = watch(0);
        let control = control(engine, &watch, NEVER);
        let record =
            import(&import_spec, &model, &pretraining_data, Some(&imported), &control).unwrap();
        let last = own.evaluations.last().unwrap();
        assert_eq!(record.evaluations[0].loss_pt.to_bits(), last.loss_pt.to_bits());
        assert_eq!(record.model, own.model);
        assert_eq!(Checkpoint::read(imported.folder()).unwrap(), model);

        let of_own = finetuning(&pretraining(engine.kind()));
        let of_import = FinetuneSpec { parent: record.id, ..of_own.clone() };
        let run = |spec: &FinetuneSpec, keep_bottom| {
            let claim = claim(&store, &Spec::Finetune(spec.clone()));
            let control = Control { keep_bottom, ..control };
            let record = finetune(
                spec,
                &model,
                FinetuneData { pretraining: &pretraining_data, target: &target },
                Some(&claim),
                &control,
            );
            (record.unwrap(), claim.folder().to_path_buf())
        };
        let (a, _) = run(&of_own, false);
        let (b, folder) = run(&of_import, true);
        assert_eq!(a.evaluations, b.evaluations);
        assert_eq!((a.model, b.model.is_some()), (None, true));
        // What was kept is the model with the lowest loss on the target.
        let kept = Checkpoint::read(&folder).unwrap();
        let bottom = b.evaluations.iter().map(|e| e.loss_ft).fold(f64::INFINITY, f64::min);
        let loss = engine.loss(&kept, Precision::F32, &target.validation).unwrap();
        assert_eq!(loss.to_bits(), bottom.to_bits());
        assert_ne!(Some(bottom), b.evaluations.last().map(|e| e.loss_ft), "a U that turned");

        let other = ImportSpec { weights: "0".repeat(64), ..import_spec };
        let message = import(&other, &model, &pretraining_data, Some(&imported), &control);
        assert!(message.unwrap_err().to_string().contains("hash"));
        let long = Sequences::new(vec![0; 30], model.shape.context + 1).unwrap();
        let long = PretrainData { validation: long, ..pretraining_data };
        let spec = ImportSpec { weights: model.hash(), ..other };
        let message =
            import(&spec, &model, &long, Some(&imported), &control).unwrap_err().to_string();
        assert!(message.contains("positions of the model"), "{message}");
    });
}

/// For a model of another family too, and blocks that are computed again.
#[test]
fn a_model_of_another_family_goes_on_where_it_was_stopped() {
    let again = Cpu { recompute: true, ..CPU };
    let test = |engine: &dyn Engine| {
        let model = Checkpoint::initial(small::qwen3(), Key::new(3)).unwrap();
        let spec = finetuning(&pretraining(engine.kind()));
        let (pretraining_data, target) = data();
        let run = |store: &Store, stop_after| {
            let watch = watch(stop_after);
            let claim = claim(store, &Spec::Finetune(spec.clone()));
            let control = control(engine, &watch, NEVER);
            finetune(
                &spec,
                &model,
                FinetuneData { pretraining: &pretraining_data, target: &target },
                Some(&claim),
                &control,
            )
        };
        let (_a, plain) = store();
        let whole = run(&plain, 0).unwrap();
        let (_b, resumed) = store();
        assert!(matches!(run(&resumed, 17), Err(Error::Interrupted)));
        assert_same(&run(&resumed, 0).unwrap(), &whole);
        whole
    };
    on_each_engine(|engine| drop(test(engine)));
    assert_same(&test(&again), &test(&CPU));
}

#[test]
fn data_that_do_not_suffice_are_refused_before_the_run() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let spec = finetuning(&pretraining(engine.kind()));
        let long = FinetuneSpec { steps: 1000, p: Fraction::new(1.0).unwrap(), ..spec.clone() };
        let message = finetuned(&long, engine, &store, &watch(0), NEVER).unwrap_err().to_string();
        assert!(message.contains("data.injection_tokens"), "{message}");
        let replay = FinetuneSpec {
            replay_tokens: Some(80),
            steps: 110,
            p: Fraction::new(1.0).unwrap(),
            ..spec.clone()
        };
        finetuned(&replay, engine, &store, &watch(0), NEVER).unwrap();
        let greedy = FinetuneSpec { d_ft_tokens: 100_000, ..spec };
        assert!(finetuned(&greedy, engine, &store, &watch(0), NEVER).is_err());
    });
}

/// With test sets the evaluations along the run are those without, and both losses of the model at the
/// bottom are measured there too, even where the run was killed after the bottom.
#[test]
fn test_sets_measure_the_model_at_the_bottom() {
    on_each_engine(|engine| {
        let spec = finetuning(&pretraining(engine.kind()));
        let (pretraining_data, target) = data();
        let tests = [sequences(6, 50, 8), sequences(7, 40, 8)];
        let data = || {
            let [of_pretraining, of_target] = tests.clone().map(Some);
            (
                PretrainData { test: of_pretraining, ..pretraining_data.clone() },
                TargetData { test: of_target, ..target.clone() },
            )
        };
        let (_a, plain) = store();
        let (_b, tested) = store();
        let without = finetuned(&spec, engine, &plain, &watch(0), NEVER).unwrap();
        let record = finetuned_on(&spec, engine, &tested, &watch(0), NEVER, data()).unwrap();
        assert_eq!(without, Record { test: None, ..record.clone() });

        let before = Checkpoint::read(&plain.folder(&spec.parent)).unwrap();
        let (_c, keeping) = store();
        let kept = claim(&keeping, &Spec::Finetune(spec.clone()));
        let watched = watch(0);
        let keep = Control { keep_bottom: true, ..control(engine, &watched, NEVER) };
        let (pretraining_set, target_set) = data();
        let finetuned_from = |pretraining: &PretrainData, claim: Option<&Claim>| {
            finetune(
                &spec,
                &before,
                FinetuneData { pretraining, target: &target_set },
                claim,
                &keep,
            )
        };
        finetuned_from(&pretraining_set, Some(&kept)).unwrap();
        let bottom = Checkpoint::read(kept.folder()).unwrap();
        let loss = |model: &Checkpoint, set| engine.loss(model, Precision::F32, set).unwrap();
        let test = record.test.unwrap();
        let measured = test.finetuning.unwrap();
        let [before_pt, bottom_pt] = [&before, &bottom].map(|model| loss(model, &tests[0]));
        for (measured, loss) in [
            (measured.loss_ft, loss(&bottom, &tests[1])),
            (measured.loss_pt0, before_pt),
            (test.loss_pt, bottom_pt),
            (measured.increase, bottom_pt - before_pt),
        ] {
            assert!((measured.value - loss).abs() < 1e-6, "{measured:?} {loss}");
            assert!(measured.error > 0.0 && measured.error < 1.0, "{measured:?}");
        }

        // The bottom lies before the last step, so a run that was stopped there must have kept it.
        let step = UCurve::new(&record.evaluations).unwrap().bottom().unwrap().step;
        assert!(step < spec.steps - 2, "{step}");
        let (_d, killed) = store();
        let run = |watch: &Watch| finetuned_on(&spec, engine, &killed, watch, NEVER, data());
        assert!(matches!(run(&watch(spec.steps - 1)), Err(Error::Interrupted)));
        assert_same(&run(&watch(0)).unwrap(), &record);

        let one = PretrainData { test: Some(sequences(6, 1, 8)), ..pretraining_set };
        let refused = finetuned_from(&one, None).unwrap_err().to_string();
        assert!(refused.contains("sequences of a test set = 1"), "{refused}");
    });
}

/// A rate that breaks the model is a result, not a crash.
#[test]
fn divergence_is_recorded() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let mut spec = finetuning(&pretraining(engine.kind()));
        spec.schedule.ratio = 1e38;
        let record = finetuned(&spec, engine, &store, &watch(0), NEVER).unwrap();
        let Outcome::Diverged { step } = record.outcome else { panic!("{:?}", record.outcome) };
        assert_eq!(record.evaluations.last().unwrap().step, step);
        assert!(record.steps < spec.steps);
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read.outcome, record.outcome);
    });
}

#[test]
fn a_turned_u_ends_the_run_early() {
    on_each_engine(|engine| {
        let (_a, store) = store();
        let mut spec = finetuning(&pretraining(engine.kind()));
        spec.steps = 2000;
        spec.p = Fraction::new(0.0).unwrap();
        spec.stop = Some(StopRule { rise: 0.05, factor: 1.5, min_steps: 20 });
        let record = finetuned(&spec, engine, &store, &watch(0), NEVER).unwrap();
        assert_eq!(record.outcome, Outcome::Turned);
        assert!(record.steps < 2000);
    });
}

/// Neither threads nor what else a machine computes at the same time moves a bit.
#[test]
fn the_cpus_engine_makes_the_same_bits_on_any_number_of_threads_and_workers() {
    let spec = finetuning(&pretraining(EngineKind::Cpu));
    let (_a, alone) = store();
    let expected = finetuned(&spec, &CPU, &alone, &watch(0), NEVER).unwrap();
    let work = |threads| {
        let (_b, store) = store();
        finetuned(&spec, &Cpu { threads, recompute: false }, &store, &watch(0), NEVER).unwrap()
    };
    let records: Vec<Record> = std::thread::scope(|scope| {
        let workers = [1, 2, 3, 8].map(|threads| scope.spawn(move || work(threads)));
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    records.iter().for_each(|record| assert_same(record, &expected));
}

/// Losses of one engine are not to go by the name of another's.
#[test]
fn a_run_of_another_engine_is_refused() {
    on_each_engine(|engine| {
        let other = match engine.kind() {
            EngineKind::Cpu => EngineKind::Torch,
            EngineKind::Torch => EngineKind::Cpu,
        };
        let (_a, store) = store();
        let refused =
            small::pretrained_by(pretraining(other), engine, &store, &watch(0), NEVER).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("engine = {}: must be {other}, the run's", engine.kind())
        );
    });
}

#[test]
fn the_cpus_engine_computes_in_f32_alone() {
    let model = Checkpoint::initial(small::shape(), forgetting_laws::rng::Key::new(0)).unwrap();
    let refused = CPU.model(&model, Precision::Bf16).err().unwrap().to_string();
    assert!(refused.contains("precision = bf16"), "{refused}");
}

/// A pretraining and a finetuning of 60 and 50 steps, from initial parameters to the last loss, on
/// x86-64, and on 64-bit ARM as far as qemu-user shows it.
#[test]
fn runs_of_the_cpus_engine_are_the_same_on_every_machine() {
    let (_folder, store) = store();
    let parent = pretrained(&CPU, &store, &watch(0), NEVER).unwrap();
    assert_eq!(
        parent.model.as_deref(),
        Some("844c8da446790ef5e6f26b12d606def3e06e6b61fbdab850553c2d0b1d867da9")
    );
    let spec = finetuning(&pretraining(CPU.kind()));
    let record = finetuned(&spec, &CPU, &store, &watch(0), NEVER).unwrap();
    let evaluations = forgetting_laws::store::to_json(&record.evaluations);
    assert_eq!(
        forgetting_laws::store::sha256(&evaluations),
        "f74fb4f634170e881a4de0d4e025beab27725935aed8641b95da9147b6ec60e4"
    );
}

/// Two engines that round differently end within the noise of rounding: a hundred and ten steps carry
/// it on, and what each learned is far above it.
#[cfg(feature = "torch")]
#[test]
fn both_engines_learn_the_same() {
    let run = |engine: &dyn Engine| {
        let (_a, store) = store();
        let parent = pretrained(engine, &store, &watch(0), NEVER).unwrap();
        let spec = finetuning(&pretraining(engine.kind()));
        (parent, finetuned(&spec, engine, &store, &watch(0), NEVER).unwrap())
    };
    let ((a_parent, a), (b_parent, b)) = (run(&CPU), run(&TORCH));
    assert_ne!((&a_parent.id, &a.id), (&b_parent.id, &b.id));
    let learned = |record: &Record| {
        let losses = [0, record.evaluations.len() - 1].map(|i| record.evaluations[i].loss_pt);
        losses[0] - losses[1]
    };
    assert!(learned(&a_parent) > 0.1, "{}", learned(&a_parent));
    for (a, b) in [(&a_parent, &b_parent), (&a, &b)] {
        assert_eq!((a.steps, &a.realised), (b.steps, &b.realised));
        for (a, b) in a.evaluations.iter().zip(&b.evaluations) {
            let train = |e: &Evaluation| e.loss_train.unwrap_or(0.0);
            for (a, b) in [(a.loss_pt, b.loss_pt), (a.loss_ft, b.loss_ft), (train(a), train(b))] {
                assert!((a - b).abs() < 1e-4 || (a.is_nan() && b.is_nan()), "{a} and {b}");
            }
        }
    }
}
