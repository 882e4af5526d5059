//! The CPU's own engine against libtorch, which shares no code with it.
#![cfg(feature = "torch")]

use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::Window;
use forgetting_laws::engine::Solo;
use forgetting_laws::engine::cpu::{Decoder, Optimizer};
use forgetting_laws::engine::torch::{Collectives, Network, Trainer, Windows};
use forgetting_laws::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Residual, Rotary, Shape,
};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use proptest::prelude::*;
use tch::{Device, Tensor};

/// Both compute in f32, and sum in other orders: relative to the largest value of its kind, or to 1.
const F32: f64 = 1e-5;

fn values(flat: &Tensor) -> Vec<f32> {
    Vec::try_from(flat.reshape([-1])).unwrap()
}

fn shape() -> impl Strategy<Value = Shape> {
    // No narrower than 8: a normalisation over two values that are nearly equal magnifies any rounding.
    let sizes = (1..4usize, 1..4usize, 4..9usize, 2..80usize, 1..70usize);
    let choices = (any::<bool>(), any::<bool>(), any::<bool>(), 0..4usize);
    (sizes, choices).prop_map(|(sizes, (bias, rotary, choice, family))| {
        let (n_layers, n_heads, half, vocab, context) = sizes;
        let positions = if rotary { Positions::Rotary } else { Positions::Learned };
        let gpt2 = Shape {
            bias,
            positions,
            ..Shape::gpt2(n_layers, 2 * half * n_heads, n_heads, vocab, context)
        };
        let mlp = Mlp { d_ff: Some(13), activation: Activation::Swiglu };
        let of_kind = |kind| Norm { kind, epsilon: 1e-5 };
        let quarter = Rotary { fraction: 2.0 / (2 * half) as f64, ..Rotary::default() };
        match family {
            // Llama's and Qwen's.
            0 => Shape {
                norm: of_kind(NormKind::Rms),
                attention: Attention {
                    n_kv_heads: Some(1),
                    head_width: Some(10),
                    qkv_bias: choice,
                    qk_norm: !choice,
                    ..Attention::default()
                },
                mlp,
                head: if choice { Head::Own } else { Head::Tied },
                ..gpt2
            },
            // Pythia's.
            1 => Shape {
                attention: Attention { rotary: quarter, ..Attention::default() },
                mlp: Mlp { activation: Activation::Gelu, ..Mlp::default() },
                residual: Residual::Parallel,
                head: Head::Own,
                ..gpt2
            },
            // OLMo's of 2024, and OLMo 2's.
            2 if choice => Shape {
                norm: of_kind(NormKind::Plain),
                attention: Attention { clip_qkv: Some(0.05), ..Attention::default() },
                mlp,
                ..gpt2
            },
            2 => Shape {
                norm: of_kind(NormKind::Rms),
                attention: Attention {
                    n_kv_heads: Some(1),
                    qk_norm: true,
                    qk_norm_of_all_heads: true,
                    ..Attention::default()
                },
                residual: Residual::NormAfter,
                mlp,
                ..gpt2
            },
            _ => gpt2,
        }
    })
}

/// Sequences of one length, as libtorch takes them, some of whose targets may not count.
fn rows(shape: &Shape, count: u64, masked: bool, key: Key) -> Vec<Window<'static>> {
    let length = shape.context as u64;
    let row = |key: Key| {
        let token = |i| key.below(i, shape.vocab as u64) as u32;
        // The first counts: there is one at least.
        let counts = |i| i == 0 || key.child(1).below(i, 3) > 0;
        Window {
            tokens: (0..=length).map(token).collect::<Vec<_>>().into(),
            counted: masked.then(|| (0..length).map(counts).collect()),
        }
    };
    (0..count).map(|i| row(key.child(i))).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let far = f64::from((found - expected).abs());
        assert!(far < F32 * f64::from(largest), "{what} {i}: {found}, {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn logits_losses_and_gradients_are_libtorchs(
        shape in shape(), count in 1..5u64, masked in any::<bool>(), seed in any::<u64>()
    ) {
        let key = Key::new(seed);
        let mut network = Network::new(shape, key.child(0), Device::Cpu).unwrap();
        let mut checkpoint = network.to_checkpoint().unwrap();
        // Weights that are not small, so that attention and GELU are not nearly linear.
        for (value, i) in checkpoint.theta.iter_mut().zip(0..) {
            *value += 0.2 * key.child(1).normal(i) as f32;
        }
        network = Network::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
        let mut decoder = Decoder::new(shape).unwrap();
        decoder.load(&checkpoint.theta);

        let rows = rows(&shape, count, masked, key.child(2));
        let flat: Vec<i64> =
            rows.iter().flat_map(|row| row.tokens.iter().map(|&token| i64::from(token))).collect();
        let tokens = Tensor::from_slice(&flat).view([count as i64, -1]);
        let time = shape.context as i64;
        let (inputs, targets) = (tokens.narrow(1, 0, time), tokens.narrow(1, 1, time));

        let logits: Vec<f32> =
            rows.iter().flat_map(|row| decoder.logits(&row.tokens[..shape.context])).collect();
        assert_close(&logits, &values(&network.logits(&inputs).unwrap()), "logits");
        let losses: Vec<f32> =
            decoder.token_losses(&rows).into_iter().map(|loss| loss as f32).collect();
        assert_close(&losses, &values(&network.token_losses(&inputs, &targets).unwrap()), "losses");

        let positions: u64 = rows.iter().map(Window::counted).sum();
        let mut gradient = vec![0.0; checkpoint.theta.len()];
        let loss = decoder.loss_and_gradient(&rows, positions, &mut gradient);
        let counted: Option<Vec<f32>> = masked.then(|| {
            let counts = rows.iter().flat_map(|row| row.counted.clone().unwrap());
            counts.map(|counts| f32::from(u8::from(counts))).collect()
        });
        let counted = counted.map(|counted| Tensor::from_slice(&counted).view([count as i64, -1]));
        let expected = network
            .accumulate_masked_gradient(&inputs, &targets, counted.as_ref(), positions)
            .unwrap()
            .double_value(&[]);
        prop_assert!((loss - expected).abs() < F32 * expected.max(1.0));
        assert_close(&gradient, &values(network.gradient()), "gradient");
    }
}

/// Two hundred steps, in which rounding grows, but not into another model.
#[test]
fn training_is_that_of_libtorch_up_to_rounding() {
    tch::set_num_threads(1);
    let shape = Shape::named("nano-micro", 50, 16).unwrap();
    let network = Network::new(shape, Key::new(1), Device::Cpu).unwrap();
    let Checkpoint { mut theta, .. } = network.to_checkpoint().unwrap();
    let mut trainer = Trainer::new(network, AdamW::default(), 1.0).unwrap();
    let mut decoder = Decoder::new(shape).unwrap();
    let mut optimizer = Optimizer::new(&shape.layout(), AdamW::default(), 1.0).unwrap();
    // Each token follows from the one before, so that there is something to learn.
    let sequence = |key: Key| -> Vec<u32> {
        let first = key.below(0, 50) as u32;
        (0..=16)
            .scan(first, |token, _| Some(std::mem::replace(token, (*token * 3 + 1) % 50)))
            .collect()
    };
    let solo: &dyn Collectives = &Solo;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for t in 1..=200 {
        let tokens: Vec<Vec<u32>> = (0..4).map(|i| sequence(Key::new(t).child(i))).collect();
        let rows: Vec<Window<'_>> = tokens
            .iter()
            .map(|row| Window { tokens: row.as_slice().into(), counted: None })
            .collect();
        decoder.load(&theta);
        let mut gradient = vec![0.0; theta.len()];
        ours.push(decoder.loss_and_gradient(&rows, 64, &mut gradient));
        let step = Step { t, lr: 3e-3, multiplier: 1.0 };
        optimizer.step(&mut theta, &gradient, step);
        let windows = Windows::of(&rows, Device::Cpu);
        let loss = trainer.step([windows], 64, step, solo).unwrap();
        theirs.push(loss.double_value(&[]));
    }
    assert!(ours[199] < 0.5 * ours[0], "{} and {}", ours[0], ours[199]);
    for (t, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert!((ours - theirs).abs() < 1e-3 * theirs.max(1.0), "step {t}: {ours} and {theirs}");
    }
}
