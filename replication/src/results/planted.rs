//! A small simulated grid for tests: U-curves whose bottoms follow the paper's laws. Nothing in it is
//! measured.

use super::{Domain, Finetuned, Plan, Pretrained, PretrainingData, Results};
use crate::blocks::MAIN;
use forgetting_laws::data::split::{PartReport, SplitReport};
use forgetting_laws::finetuning::{Evaluation, LR_RATIO};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::laws::{Finetuning, Forgetting, Law, Row};
use forgetting_laws::model::Shape;
use forgetting_laws::rng::Key;
use forgetting_laws::run::{Outcome, Realised, Record, RunId};
use std::sync::LazyLock;

/// Sizes, their last pretraining losses, and their ranks.
const SIZES: [(&str, f64); 4] =
    [("nano-micro", 3.2), ("nano-tiny", 2.6), ("nano-small", 2.1), ("nano-medium", 1.8)];
const DOMAINS: [(&str, f64); 3] = [("near", 20.0), ("middle", 120.0), ("far", 600.0)];
const D_FT: [u64; 4] = [1_280, 5_120, 12_800, 40_960];
const P: [f64; 4] = [0.0, 0.005, 0.01, 0.05];

/// Four sizes, three domains, four D_ft, four p; a second seed on a part of it ("seeds"); larger p
/// ("high-p"), the exact sampler ("exact") and a replay pool ("replay") in the middle of it; no decay
/// of weights in pretraining ("fig17"); two sizes at three learning
/// rates ("fig5"); and one run whose bottom lies at the end. The predictions of
/// Table 4 are made from the part without its runs.
pub fn planted() -> Results {
    static PLANTED: LazyLock<Results> = LazyLock::new(|| {
        let mut results = grid();
        let mut plan = Plan::of(&results);
        // Fewer resamples than the real thing: tests are many.
        plan.options.bootstrap.resamples = 100;
        results.preregistration = Some(plan.made_afterwards(&results));
        results
    });
    PLANTED.clone()
}

fn grid() -> Results {
    let mut pretrained = Vec::new();
    let mut finetuned = Vec::new();
    for (rank, (size, loss)) in SIZES.into_iter().enumerate() {
        for weight_decay in [0.1, 0.0] {
            let shape = Shape::named(size, 512, 64).unwrap();
            let blocks = if weight_decay > 0.0 {
                vec![MAIN.into(), "fig17".into()]
            } else {
                vec!["fig17".into()]
            };
            let excess = if weight_decay > 0.0 { 0.0 } else { 0.03 };
            let steps = 40 * shape.count().paper() / 1024;
            let at = |i: u64| Evaluation {
                step: steps * i / 20,
                loss_ft: f64::NAN,
                loss_pt: loss + excess + 3.0 * (-0.3 * i as f64).exp(),
                loss_train: (i > 0).then_some(loss + 3.0 * (-0.3 * i as f64).exp()),
            };
            let realised = Realised {
                sequences: steps * 16,
                tokens: steps * 1024,
                unique_tokens: 1_000_000,
                epochs: 1.0,
                ..Realised::default()
            };
            pretrained.push(Pretrained {
                blocks,
                size: size.into(),
                rank,
                shape,
                gpus: 1,
                seed: 0,
                peak_lr: 0.01,
                batch: 16,
                weight_decay,
                core_seconds: None,
                record: Record {
                    id: RunId::of(&("planted", size, weight_decay.to_bits())),
                    outcome: Outcome::Completed,
                    steps,
                    n_params: shape.count(),
                    realised,
                    evaluations: (0..=20).map(at).collect(),
                    test: None,
                    model: Some("model.safetensors".into()),
                },
            });
        }
        let parent = &pretrained[pretrained.len() - 2];
        let run = |blocks: &[&str], domain: usize, d_ft: u64, p: f64, seed: u64| {
            finetuning(parent, blocks, domain, d_ft, p, seed)
        };
        for domain in 0..DOMAINS.len() {
            for d_ft in D_FT {
                for p in P {
                    let at_rule = figure_5(size, domain, d_ft, p);
                    let blocks: &[&str] = if at_rule { &[MAIN, "fig5"] } else { &[MAIN] };
                    finetuned.push(run(blocks, domain, d_ft, p, 0));
                    for times in [0.1, 10.0] {
                        finetuned.extend(
                            at_rule.then(|| {
                                at_another_rate(run(&["fig5"], domain, d_ft, p, 0), times)
                            }),
                        );
                    }
                }
            }
            for seed in [1, 2] {
                finetuned.push(run(&["seeds"], domain, D_FT[1], 0.0, seed));
                finetuned.push(run(&["seeds"], domain, D_FT[1], 0.01, seed));
            }
            for p in [0.2, 0.5] {
                finetuned.push(run(&["high-p"], domain, D_FT[1], p, 0));
            }
            let mut exact = run(&["exact"], domain, D_FT[1], 0.01, 0);
            exact.sampler = SamplerKind::Exact;
            exact.record.id = RunId::of(&("exact", &exact.record.id));
            finetuned.push(exact);
            let mut replay = run(&["replay"], domain, D_FT[1], 0.05, 0);
            replay.replay_tokens = Some(640);
            replay.record.id = RunId::of(&("replay", &replay.record.id));
            finetuned.push(replay);
        }
    }
    // Seen one evaluation short of the turn.
    let last = finetuned.iter_mut().find(|run| run.d_ft_tokens == D_FT[3]).unwrap();
    let bottom = last.bottom().unwrap().step;
    last.record.evaluations.retain(|evaluation| evaluation.step <= bottom);
    finetuned.sort_by(|a, b| a.domain.cmp(&b.domain));
    let domain = |(i, (name, _)): (usize, (&str, f64))| Domain {
        name: name.into(),
        source: format!("planted {name}"),
        data: RunId::of(&name),
        unigram_ft: 5.5 + 0.2 * i as f64,
        trigram_ft: 2.5 + 0.5 * i as f64,
        counts: counts(50_000, 0),
        distances: vec![
            ("unigram_js".into(), 0.05 + 0.1 * i as f64),
            ("trigram_excess".into(), 0.3 + 0.8 * i as f64),
            ("classifier".into(), 0.6 + 0.15 * i as f64),
        ],
        overlap: None,
    };
    let mut domains: Vec<Domain> = DOMAINS.into_iter().enumerate().map(domain).collect();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    Results {
        preset: "planted".into(),
        pretraining: PretrainingData {
            source: "planted".into(),
            data: RunId::of(&"planted"),
            counts: counts(1_000_000, 100_000),
            tokenizer: "0123456789abcdef0123456789abcdef".into(),
            unigram_pt: 5.3,
            trigram_pt: 2.0,
            vocab: 512,
        },
        domains,
        pretrained,
        finetuned,
        missing: 0,
        machines: vec!["a planted machine".into()],
        program: "forgetting-laws planted".into(),
        preregistration: None,
    }
}

/// The block of Figure 5.
fn figure_5(size: &str, domain: usize, d_ft: u64, p: f64) -> bool {
    let sizes = [SIZES[1].0, SIZES[2].0];
    sizes.contains(&size) && domain == 2 && d_ft == D_FT[1] && p != P[1]
}

/// A run whose bottom comes so many times earlier.
fn at_another_rate(mut run: Finetuned, times: f64) -> Finetuned {
    run.lr_ratio = LR_RATIO * times;
    run.lr *= times;
    run.record.id = RunId::of(&(times.to_bits(), &run.record.id));
    for evaluation in &mut run.record.evaluations {
        evaluation.step = (evaluation.step as f64 / times).round() as u64;
    }
    run
}

fn counts(training: u64, injection: u64) -> SplitReport {
    let part =
        |tokens| PartReport { asked: tokens, tokens, counted: None, documents: 10, groups: 10 };
    SplitReport {
        validation: part(8_192),
        injection: part(injection),
        training: part(training),
        duplicates: 0,
    }
}

fn finetuning(
    parent: &Pretrained,
    blocks: &[&str],
    domain: usize,
    d_ft: u64,
    p: f64,
    seed: u64,
) -> Finetuned {
    let (name, b) = DOMAINS[domain];
    let key = Key::new(seed).named(name).named(&parent.size).child(d_ft).child(p.to_bits());
    let loss_pt0 = parent.loss();
    let row = Row {
        n_params: parent.shape.count().paper() as f64,
        d_ft_tokens: d_ft as f64,
        p,
        loss_pt0,
        ..Row::default()
    };
    let rise = Forgetting.predict(&(&row).into(), &[0.5, b, 0.35, 0.45]) - loss_pt0;
    let loss_pt = loss_pt0 + rise * (0.02 * key.normal(0)).exp();
    let loss_ft = Finetuning.predict(&(&row).into(), &[30.0, 0.15, 0.12, 1.0])
        * (0.003 * key.normal(1)).exp();
    let bottom = (d_ft / 16).max(20);
    let at = |i: u64| {
        let step = bottom * i / 10;
        // In units of the bottom's step.
        let t = i as f64 / 10.0;
        let u = (t.max(0.02).ln()).powi(2);
        Evaluation {
            step,
            loss_ft: loss_ft + 0.3 * u,
            loss_pt: loss_pt0 + (loss_pt - loss_pt0) * t.powf(0.4),
            loss_train: (i > 0).then_some(loss_ft + 0.2 - 0.9 * t.min(2.0)),
        }
    };
    let steps = 2 * bottom;
    let injected = (p * (steps * 8) as f64).round() as u64;
    Finetuned {
        blocks: blocks.iter().map(|block| block.to_string()).collect(),
        parent: parent.record.id.clone(),
        size: parent.size.clone(),
        domain: name.into(),
        d_ft_tokens: d_ft,
        d_tokens: parent.d_tokens(),
        p,
        seed,
        lr_ratio: 1.0 / 30.0,
        lr: parent.peak_lr / 30.0,
        sampler: SamplerKind::Independent,
        replay_tokens: None,
        weight_decay: 0.1,
        steps: 12_000,
        batch: 8,
        core_seconds: None,
        record: Record {
            id: RunId::of(&("planted", &parent.record.id, name, d_ft, p.to_bits(), seed)),
            outcome: Outcome::Turned,
            steps,
            n_params: parent.shape.count(),
            realised: Realised {
                sequences: steps * 8,
                injected_sequences: injected,
                tokens: steps * 512,
                injected_tokens: injected * 64,
                unique_tokens: d_ft,
                epochs: (steps * 512) as f64 / d_ft as f64,
                ..Realised::default()
            },
            evaluations: (0..=20).map(at).collect(),
            test: None,
            model: None,
        },
    }
}

#[test]
fn the_planted_grid_is_whole() {
    let results = planted();
    assert_eq!(results.block(MAIN).count(), 192);
    assert_eq!(results.table(MAIN).runs.len(), 191);
    assert_eq!(results.domains_of("seeds").len(), 3);
    let read: Results = serde_json::from_str(&serde_json::to_string(&results).unwrap()).unwrap();
    assert_eq!(read.hash(), results.hash());
    assert_eq!(read.preregistration, results.preregistration);
}
