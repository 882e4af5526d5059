//! Schedules and injection against the sequences of an independent implementation: the scripts
//! beside the files under golden/ wrote them, in Python, without this library.

use forgetting_laws::Fraction;
use forgetting_laws::injection::{Draw, Mixture, MixtureSpec, Pick, Sampler, SamplerKind, Shuffle};
use forgetting_laws::pretraining::Schedule;
use forgetting_laws::rng::Key;
use serde::Deserialize;

#[derive(Deserialize)]
struct ScheduleCase {
    schedule: Schedule,
    rates: Vec<(u64, f64)>,
}

#[test]
fn schedule_rates() {
    let cases: Vec<ScheduleCase> =
        serde_json::from_str(include_str!("../golden/schedule/schedule.json")).unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        for (step, rate) in case.rates {
            let lr = case.schedule.lr(step);
            // The other implementation rounds elsewhere: a few units in the last place of the peak.
            let tolerance = 8.0 * f64::EPSILON * case.schedule.peak;
            assert!((lr - rate).abs() <= tolerance, "{:?} at {step}: {lr} {rate}", case.schedule);
        }
    }
}

#[derive(Deserialize)]
struct InjectionCases {
    samplers: Vec<SamplerCase>,
    shuffles: Vec<ShuffleCase>,
    mixtures: Vec<MixtureCase>,
    finetunings: Vec<MixtureCase>,
}

#[derive(Deserialize)]
struct SamplerCase {
    kind: SamplerKind,
    p: Fraction,
    seed: u64,
    positions: u64,
    injected: Vec<u64>,
}

#[derive(Deserialize)]
struct ShuffleCase {
    seed: u64,
    len: u64,
    order: Vec<u64>,
}

#[derive(Deserialize)]
struct MixtureCase {
    seed: u64,
    spec: MixtureSpec,
    draws: Vec<(String, u64)>,
}

impl MixtureCase {
    fn assert_draws(&self, mixture: &Mixture) {
        let draws: Vec<(String, u64)> = (0..self.spec.steps)
            .flat_map(|step| mixture.batch(step).collect::<Vec<_>>())
            .map(|draw| match draw {
                Draw::Target(index) => ("target".into(), index),
                Draw::Pretrain(index) => ("pretrain".into(), index),
            })
            .collect();
        assert_eq!(draws, self.draws, "{:?}", self.spec);
    }
}

fn injection() -> InjectionCases {
    serde_json::from_str(include_str!("../golden/injection/injection.json")).unwrap()
}

#[test]
fn sampler_positions() {
    let cases = injection().samplers;
    assert!(cases.len() >= 16);
    for case in cases {
        let sampler = Sampler::new(case.kind, case.p, Key::new(case.seed), case.positions);
        let injected: Vec<u64> = (0..case.positions)
            .filter(|&position| matches!(sampler.pick(position), Pick::Pretrain(_)))
            .collect();
        assert_eq!(injected, case.injected, "{:?} {:?}", case.kind, case.p);
        assert_eq!(sampler.pretrain_count(case.positions), injected.len() as u64);
    }
}

#[test]
fn shuffle_orders() {
    let cases = injection().shuffles;
    assert!(cases.len() >= 10);
    for case in cases {
        let shuffle = Shuffle::new(Key::new(case.seed), case.len).unwrap();
        let order: Vec<u64> = (0..case.order.len() as u64).map(|draw| shuffle.at(draw)).collect();
        assert_eq!(order, case.order);
    }
}

#[test]
fn mixture_draws() {
    let cases = injection().mixtures;
    assert!(cases.len() >= 12);
    for case in cases {
        case.assert_draws(&case.spec.build(Key::new(case.seed)).unwrap());
    }
}

/// `python/tests/test_mixture.py` compares the Python package with the same cases.
#[test]
fn finetunings_draw_in_the_order_of_their_seed() {
    let cases = injection().finetunings;
    assert!(cases.len() >= 3);
    for case in cases {
        case.assert_draws(&case.spec.of_run(case.seed).unwrap());
    }
}
