//! The reference step against trajectories that PyTorch and Optax computed themselves
//! (`golden/weight_decay/make.py`; the versions are in the file).

use forgetting_laws::weight_decay::{AdamW, DecayScope, Step, WeightDecay, clip_global_norm};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Both libraries and we compute in float64 and differ in the order of roundings: a few times
/// 1e-16 a step, up to a thousand times that where 1 − 0.999ᵗ cancels.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Golden {
    versions: BTreeMap<String, String>,
    theta: Vec<f64>,
    multipliers: Vec<f64>,
    grads: Vec<Vec<f64>>,
    cases: Vec<Case>,
    clip: Vec<Clip>,
}

#[derive(Deserialize)]
struct Case {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    peak: f64,
    trajectories: Vec<Trajectory>,
}

#[derive(Deserialize)]
struct Trajectory {
    semantics: WeightDecay,
    computed_by: String,
    steps: Vec<State>,
}

#[derive(Clone, Deserialize)]
struct State {
    theta: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

#[derive(Deserialize)]
struct Clip {
    grad: Vec<f64>,
    max_norm: f64,
    norm: f64,
    clipped: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/weight_decay/trajectories.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every state of a run of the reference step.
fn ours(golden: &Golden, case: &Case, semantics: WeightDecay) -> Vec<State> {
    let adamw = AdamW {
        beta1: case.beta1,
        beta2: case.beta2,
        eps: case.eps,
        weight_decay: case.weight_decay,
        semantics,
        scope: DecayScope::All,
    };
    let zeros = vec![0.0; golden.theta.len()];
    let mut state = State { theta: golden.theta.clone(), m: zeros.clone(), v: zeros };
    let mut states = Vec::new();
    for ((grad, &multiplier), t) in golden.grads.iter().zip(&golden.multipliers).zip(1..) {
        let step = Step { t, lr: case.peak * multiplier, multiplier };
        adamw
            .reference_step(&mut state.theta, grad, &mut state.m, &mut state.v, step)
            .expect("the golden settings are valid");
        states.push(state.clone());
    }
    states
}

/// The largest relative difference of two slices.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let relative = |(a, b): (&f64, &f64)| {
        if a == b { 0.0 } else { (a - b).abs() / a.abs().max(b.abs()) }
    };
    // A NaN must not be lost in the maximum.
    a.iter().zip(b).map(relative).fold(0.0, |max, d| if d > max || d.is_nan() { d } else { max })
}

#[test]
fn every_trajectory_is_met() {
    let golden = golden();
    let mut met = BTreeMap::new();
    for case in &golden.cases {
        for Trajectory { semantics, computed_by, steps } in &case.trajectories {
            let ours = ours(&golden, case, *semantics);
            assert_eq!(ours.len(), steps.len());
            for (t, (ours, theirs)) in ours.iter().zip(steps).enumerate() {
                for (what, ours, theirs) in [
                    ("theta", &ours.theta, &theirs.theta),
                    ("m", &ours.m, &theirs.m),
                    ("v", &ours.v, &theirs.v),
                ] {
                    let difference = difference(ours, theirs);
                    assert!(
                        difference < TOLERANCE,
                        "{computed_by}, {what} after step {}: {difference:e}",
                        t + 1
                    );
                }
            }
            let library = computed_by.split('.').next().unwrap_or_default();
            *met.entry((format!("{semantics:?}"), library.to_owned())).or_insert(0) += 1;
        }
    }
    // Each meaning is there from both libraries, under both settings.
    for semantics in ["L2", "TimesLr", "FullyDecoupled"] {
        for library in ["torch", "optax"] {
            let n = met.get(&(semantics.to_owned(), library.to_owned())).copied().unwrap_or(0);
            assert!(n >= golden.cases.len(), "{semantics} by {library}: {n}");
        }
    }
    for library in ["torch", "optax", "jax", "numpy", "python"] {
        assert!(golden.versions.contains_key(library), "no version of {library}");
    }
}

/// The file can tell the three meanings apart: a reference that took one for another would fail.
#[test]
fn trajectories_tell_the_meanings_apart() {
    let golden = golden();
    for case in &golden.cases {
        for Trajectory { semantics, computed_by, steps } in &case.trajectories {
            for other in [WeightDecay::L2, WeightDecay::TimesLr, WeightDecay::FullyDecoupled] {
                let last = &ours(&golden, case, other).pop().expect("there are steps").theta;
                let apart = difference(last, &steps[steps.len() - 1].theta) > 1e-3;
                assert_eq!(apart, other != *semantics, "{computed_by} as {other:?}");
            }
        }
    }
}

#[test]
fn clipping_is_pytorchs() {
    let golden = golden();
    assert!(golden.clip.iter().any(|c| c.norm > c.max_norm));
    assert!(golden.clip.iter().any(|c| c.norm < c.max_norm));
    for Clip { grad, max_norm, norm, clipped } in golden.clip {
        let mut ours = grad;
        let our_norm = clip_global_norm(&mut ours, max_norm).expect("the limits are above 0");
        assert!(difference(&[our_norm], &[norm]) < TOLERANCE, "{our_norm} {norm}");
        assert!(difference(&ours, &clipped) < TOLERANCE, "{ours:?} {clipped:?}");
    }
}
