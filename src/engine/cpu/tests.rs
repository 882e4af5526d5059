use super::math::{exp, gelu, gelu_tanh, ln, silu};
use super::*;
use crate::model::{
    Activation, Attention, Head, Init, Mlp, Norm, NormKind, Positions, Residual, Rotary,
    RotaryScaling,
};
use crate::rng::Key;
use crate::weight_decay::{AdamW, DecayScope, Step, WeightDecay, clip_global_norm};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// `golden/model/*.json`: computed by PyTorch's modules in f64.
#[derive(Deserialize)]
struct Golden {
    config: Shape,
    tokens: Vec<Vec<u32>>,
    targets: Vec<Vec<u32>>,
    loss: f64,
    logits: Vec<Vec<Vec<f64>>>,
    weights: BTreeMap<String, Vec<f64>>,
    gradients: BTreeMap<String, Vec<f64>>,
}

impl Golden {
    fn all() -> impl Iterator<Item = Self> {
        ["bias_false.json", "bias_true.json", "rotary.json"].into_iter().map(|name| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/model").join(name);
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        })
    }

    fn flat(&self, tensors: &BTreeMap<String, Vec<f64>>) -> Vec<f64> {
        let layout = self.config.layout();
        let mut flat = vec![0.0; layout.buffer_len()];
        for tensor in layout.tensors() {
            flat[tensor.range()].copy_from_slice(&tensors[&tensor.name]);
        }
        flat
    }

    fn theta(&self) -> Vec<f32> {
        self.flat(&self.weights).iter().map(|&weight| weight as f32).collect()
    }

    /// The targets are not the tokens that follow: each has a row of its own, in which it alone counts.
    fn rows(&self) -> Vec<Window<'static>> {
        let rows = self.tokens.iter().zip(&self.targets).flat_map(|(tokens, targets)| {
            targets.iter().enumerate().map(|(i, &target)| {
                let counted = (0..=i).map(|k| k == i).collect();
                let tokens = [&tokens[..=i], &[target]].concat();
                Window { tokens: tokens.into(), counted: Some(counted) }
            })
        });
        rows.collect()
    }
}

/// Single precision against double: PyTorch's own f32 deviates by up to 5.1e-7 on this model, as the
/// golden files say.
const F32: f64 = 3e-6;

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(found) - expected).abs() < F32, "{what} {i}: {found} and {expected}");
    }
}

#[test]
fn logits_loss_and_gradients_are_pytorchs() {
    for golden in Golden::all() {
        for simd in Simd::all() {
            let mut decoder = Decoder::with_simd(golden.config, simd).unwrap();
            decoder.load(&golden.theta());
            for (tokens, logits) in golden.tokens.iter().zip(&golden.logits) {
                assert_close(&decoder.logits(tokens), &logits.concat(), "logits");
                assert_close(&decoder.next_logits(tokens), logits.last().unwrap(), "logits");
            }
            let rows = golden.rows();
            let positions: u64 = rows.iter().map(Window::counted).sum();
            let mut gradient = vec![0.0; decoder.layout().buffer_len()];
            let loss = decoder.loss_and_gradient(&rows, positions, &mut gradient);
            assert!((loss - golden.loss).abs() < F32, "{loss} and {}", golden.loss);
            assert_close(&gradient, &golden.flat(&golden.gradients), "gradient");
        }
    }
}

/// A model of a shape, initialised as GPT-2 is, but for larger biases and norms that are not 1.
pub(super) fn theta(shape: &Shape, key: Key) -> Vec<f32> {
    let layout = shape.layout();
    let mut theta = vec![0.0; layout.buffer_len()];
    for (tensor, i) in layout.tensors().iter().zip(0..) {
        let (key, slots) = (key.child(i), &mut theta[tensor.range()]);
        let (mean, deviation) = match tensor.init {
            Init::Ones => (1.0, 0.2),
            Init::Zeros => (0.0, 0.2),
            Init::Normal(deviation) => (0.0, 5.0 * deviation),
        };
        for (slot, k) in slots.iter_mut().zip(0..) {
            *slot = (mean + deviation * key.normal(k)) as f32;
        }
    }
    theta
}

/// Rows of different lengths, some of whose targets do not count.
pub(super) fn rows(shape: &Shape, count: u64, key: Key) -> Vec<Window<'static>> {
    let row = |key: Key| {
        let targets = 1 + key.below(0, shape.context as u64);
        let token = |i| key.child(1).below(i, shape.vocab as u64) as u32;
        let counts = |i| key.child(2).below(i, 4) > 0;
        let counted = (key.below(1, 2) == 0).then(|| (0..targets).map(counts).collect());
        Window { tokens: (0..=targets).map(token).collect::<Vec<_>>().into(), counted }
    };
    (0..count).map(|i| row(key.child(i))).collect()
}

/// GPT-2's shapes whose dimensions are and are not multiples of a vector's width.
pub(super) fn shapes() -> Vec<Shape> {
    let shape = |d_model, n_heads, vocab, context, bias, positions| Shape {
        bias,
        positions,
        ..Shape::gpt2(2, d_model, n_heads, vocab, context)
    };
    vec![
        shape(16, 1, 40, 37, false, Positions::Learned),
        shape(48, 3, 67, 12, true, Positions::Rotary),
        shape(10, 5, 3, 70, true, Positions::Learned),
        shape(36, 2, 33, 5, false, Positions::Rotary),
        shape(7, 1, 100, 9, true, Positions::Learned),
    ]
}

/// Shapes of other families, which have every choice of a shape at least once.
pub(super) fn other_shapes() -> Vec<Shape> {
    let rms = Norm { kind: NormKind::Rms, epsilon: 1e-6 };
    let swiglu = |d_ff| Mlp { d_ff: Some(d_ff), activation: Activation::Swiglu };
    let gelu = Mlp { d_ff: None, activation: Activation::Gelu };
    let scaling = RotaryScaling { factor: 8.0, low: 1.0, high: 4.0, original: 16.0 };
    let grouped = Attention { n_kv_heads: Some(2), ..Attention::default() };
    let rotary = |theta, fraction, scaling| Rotary { theta, fraction, scaling };
    let cerebras = Shape { bias: true, mlp: gelu, ..Shape::gpt2(2, 24, 3, 40, 37) };
    let llama = Shape {
        positions: Positions::Rotary,
        norm: rms,
        attention: Attention { rotary: rotary(5e5, 1.0, Some(scaling)), ..grouped },
        mlp: swiglu(37),
        head: Head::Own,
        ..Shape::gpt2(2, 32, 4, 67, 40)
    };
    let qwen2 = Attention { qkv_bias: true, ..grouped };
    let qwen3 = Attention { qk_norm: true, head_width: Some(10), ..grouped };
    let olmo = Shape {
        norm: Norm { kind: NormKind::Plain, epsilon: 1e-5 },
        attention: Attention::default(),
        ..llama
    };
    let pythia = Shape {
        bias: true,
        positions: Positions::Rotary,
        attention: Attention { rotary: rotary(1e4, 0.25, None), ..Attention::default() },
        mlp: gelu,
        residual: Residual::Parallel,
        head: Head::Own,
        ..Shape::gpt2(2, 48, 3, 33, 21)
    };
    vec![
        cerebras,
        llama,
        Shape { attention: qwen2, ..llama },
        Shape { attention: qwen3, head: Head::Tied, ..llama },
        Shape { bias: true, mlp: Mlp { activation: Activation::Gelu, ..llama.mlp }, ..llama },
        olmo,
        pythia,
        Shape { residual: Residual::Sequential, mlp: swiglu(16), ..pythia },
    ]
}

/// Shapes of OLMo's later models: clipped queries, keys and values; and normalisations that come after.
pub(super) fn shapes_of_olmo() -> Vec<Shape> {
    let llama = Shape {
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
        mlp: Mlp { d_ff: Some(37), activation: Activation::Swiglu },
        ..Shape::gpt2(2, 32, 4, 67, 40)
    };
    let attention = Attention { n_kv_heads: Some(2), qk_norm: true, ..Attention::default() };
    let whole = Attention { qk_norm_of_all_heads: true, ..attention };
    let clipped = Attention { clip_qkv: Some(0.5), ..Attention::default() };
    vec![
        Shape {
            norm: Norm { kind: NormKind::Plain, epsilon: 1e-5 },
            attention: clipped,
            head: Head::Own,
            ..llama
        },
        Shape { residual: Residual::NormAfter, attention: whole, ..llama },
        // What no family has together.
        Shape {
            residual: Residual::NormAfter,
            attention,
            norm: Norm::default(),
            bias: true,
            ..llama
        },
    ]
}

/// The shapes of every list above.
pub(super) fn all_shapes() -> impl Iterator<Item = Shape> {
    shapes().into_iter().chain(other_shapes()).chain(shapes_of_olmo())
}

pub(super) fn positions(rows: &[Window<'_>]) -> u64 {
    rows.iter().map(Window::counted).sum()
}

/// Loss, gradient, losses of tokens, and logits.
fn bits(decoder: &mut Decoder, theta: &[f32], rows: &[Window<'_>]) -> Vec<u64> {
    decoder.load(theta);
    let mut gradient = vec![0.0; theta.len()];
    let loss = decoder.loss_and_gradient(rows, positions(rows), &mut gradient);
    let losses = decoder.token_losses(rows);
    let logits = decoder.logits(&rows[0].tokens[1..]);
    let singles = [gradient, logits].concat().into_iter().map(|value| u64::from(value.to_bits()));
    singles.chain([loss].into_iter().chain(losses).map(f64::to_bits)).collect()
}

#[test]
fn bits_do_not_depend_on_instructions_threads_groups_or_what_is_kept() {
    for (shape, i) in all_shapes().zip(0..) {
        let key = Key::new(i);
        let (theta, rows) = (theta(&shape, key.child(1)), rows(&shape, 7, key.child(2)));
        let expected = bits(&mut Decoder::new(shape).unwrap(), &theta, &rows);
        for simd in Simd::all() {
            for (threads, group_tokens) in [(1, GROUP_TOKENS), (1, 1), (3, 1), (2, 30), (4, 1000)] {
                let mut decoder = Decoder::with_simd(shape, simd).unwrap().with_threads(threads);
                decoder.group_tokens = group_tokens;
                for recompute in [false, true] {
                    decoder = decoder.with_recompute(recompute);
                    let found = bits(&mut decoder, &theta, &rows);
                    let how = format!("{simd:?} {threads} {group_tokens} {recompute}");
                    assert!(found == expected, "{shape:?} {how}");
                }
            }
        }
    }
}

/// What the losses, gradients and logits above come to on x86-64, and those of GPT-2's shapes on 64-bit
/// ARM as far as qemu-user shows it.
#[test]
fn bits_are_the_same_on_every_machine() {
    for (shapes, hash) in [
        (shapes(), "4d0425628b89f6d41bffa38dcea6b78eb3cad36d5a988b76a8561a92a3018144"),
        (other_shapes(), "c6b69af13f7fbcd0076b0612a6f98a43b84d46719b09ed7ccd30a45f1475b5a6"),
    ] {
        let mut bytes = Vec::new();
        for (shape, i) in shapes.into_iter().zip(0..) {
            let key = Key::new(i);
            let (theta, rows) = (theta(&shape, key.child(1)), rows(&shape, 7, key.child(2)));
            let bits = bits(&mut Decoder::new(shape).unwrap(), &theta, &rows);
            bytes.extend(bits.into_iter().flat_map(u64::to_le_bytes));
        }
        assert_eq!(crate::store::sha256(&bytes), hash);
    }
}

/// A decoder's buffers are those of its last call: nothing of it may be seen in the next.
#[test]
fn calls_do_not_see_one_another() {
    let shape = shapes()[0];
    let theta = theta(&shape, Key::new(1));
    let (long, short) = (rows(&shape, 9, Key::new(2)), rows(&shape, 2, Key::new(3)));
    let expected = bits(&mut Decoder::new(shape).unwrap(), &theta, &short);
    let mut decoder = Decoder::new(shape).unwrap();
    bits(&mut decoder, &theta.iter().map(|value| 2.0 * value).collect::<Vec<_>>(), &long);
    assert!(bits(&mut decoder, &theta, &short) == expected);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let step = 4e-3f32;
    for (shape, i) in all_shapes().zip(0..) {
        let key = Key::new(100 + i);
        let (theta, rows) = (theta(&shape, key.child(1)), rows(&shape, 3, key.child(2)));
        let mut decoder = Decoder::new(shape).unwrap();
        let mut gradient = vec![0.0; theta.len()];
        decoder.load(&theta);
        let loss = decoder.loss_and_gradient(&rows, positions(&rows), &mut gradient);
        let counts = |row: &Window<'_>| match &row.counted {
            Some(counted) => counted.clone(),
            None => vec![true; row.targets() as usize],
        };
        let counted: Vec<bool> = rows.iter().flat_map(counts).collect();
        let mut mean = |theta: &[f32]| {
            decoder.load(theta);
            let losses = decoder.token_losses(&rows);
            let of_counted = losses.iter().zip(&counted).filter(|(_, counts)| **counts);
            of_counted.map(|(loss, _)| loss).sum::<f64>() / positions(&rows) as f64
        };
        assert_eq!(mean(&theta).to_bits(), loss.to_bits());
        for tensor in shape.layout().tensors() {
            // Along a random direction in each tensor.
            let key = key.child(3).named(&tensor.name);
            let along: Vec<f32> = (0..tensor.len() as u64).map(|k| key.normal(k) as f32).collect();
            let length = along.iter().map(|x| x * x).sum::<f32>().sqrt();
            let mut at = |step: f32| {
                let mut moved = theta.clone();
                let slots = &mut moved[tensor.range()];
                slots.iter_mut().zip(&along).for_each(|(slot, x)| *slot += step * x / length);
                mean(&moved)
            };
            let numerical = (at(step) - at(-step)) / (2.0 * f64::from(step));
            let products = gradient[tensor.range()].iter().zip(&along);
            let analytical = products.map(|(g, x)| f64::from(g * x / length)).sum::<f64>();
            assert!(
                (analytical - numerical).abs() < 2e-4 + 2e-3 * numerical.abs(),
                "{shape:?} {}: {analytical} and {numerical}",
                tensor.name
            );
        }
    }
}

#[test]
fn functions_are_within_their_errors() {
    let ulp = |x: f32| f64::from(f32::from_bits(x.to_bits() + 1) - x);
    // Every 997th number on either side of 0, and those about the ends.
    let (least, most) = ((-87f32).to_bits(), 88f32.to_bits());
    let negative = (0x8000_0000..=least).step_by(997).chain([least]);
    for x in negative.chain((0..=most).step_by(997)).chain([most]).map(f32::from_bits) {
        let (found, expected) = (exp(x), f64::from(x).exp());
        let error = (f64::from(found) - expected).abs() / ulp(expected as f32);
        assert!(error <= 1.0, "exp({x}): {error} ulp");
    }
    assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    assert_eq!(exp(f32::INFINITY), exp(88.0));
    assert!(exp(f32::NAN).is_nan());

    let key = Key::new(7);
    for i in 0..20_000 {
        let x = (20.0 * key.uniform(i)).exp();
        assert!((ln(x) - x.ln()).abs() <= 1e-15 * x.ln().max(1.0), "ln {x}");
        let x = key.child(1).normal(i) * 3.0;
        let x = f64::from(x as f32);
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        let slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
        let expected = 0.5 * x * (1.0 + inner.tanh());
        let derivative =
            0.5 * (1.0 + inner.tanh()) + 0.5 * x * (1.0 - inner.tanh().powi(2)) * slope;
        let close = |(found, slope): (f32, f32), expected: f64, derivative: f64, what| {
            assert!((f64::from(found) - expected).abs() < 4e-7 * x.abs().max(1.0), "{what} {x}");
            assert!((f64::from(slope) - derivative).abs() < 6e-7, "{what}' {x}");
        };
        close(gelu_tanh(x as f32), expected, derivative, "gelu_tanh");
        let below = 0.5 * libm::erfc(-x / 2f64.sqrt());
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        close(gelu(x as f32), x * below, below + x * density, "gelu");
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        close(silu(x as f32), x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)), "silu");
    }
}

#[test]
fn steps_are_those_of_the_reference() {
    use {DecayScope::*, WeightDecay::*};
    let shape = shapes()[2];
    let layout = shape.layout();
    for (semantics, scope) in
        [(L2, All), (TimesLr, Matrices), (FullyDecoupled, MatricesWithoutEmbeddings)]
    {
        for clip in [0.05, 50.0] {
            let adamw = AdamW { semantics, scope, ..AdamW::default() };
            let mut found = theta(&shape, Key::new(1));
            let mut optimizer = Optimizer::new(&layout, adamw, clip).unwrap();
            let mut expected: Vec<f64> = found.iter().copied().map(f64::from).collect();
            let (mut m, mut v) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
            for t in 1..=5u64 {
                let step = Step { t, lr: 1e-2 / t as f64, multiplier: 1.0 / t as f64 };
                let gradient = theta(&shape, Key::new(10 + t));
                let norm = optimizer.step(&mut found, &gradient, step);
                let mut gradient: Vec<f64> = gradient.iter().copied().map(f64::from).collect();
                let expected_norm = clip_global_norm(&mut gradient, clip).unwrap();
                assert!((norm / expected_norm - 1.0).abs() < 1e-12);
                for tensor in layout.tensors() {
                    let r = tensor.range();
                    let (m, v) = (&mut m[r.clone()], &mut v[r.clone()]);
                    let gradient = &gradient[r.clone()];
                    let kind = adamw.for_kind(tensor.kind);
                    kind.reference_step(&mut expected[r], gradient, m, v, step).unwrap();
                }
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
                }
            }
            let (first, second) = optimizer.moments();
            let near = |a: &[f32], b: &[f64]| {
                a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6)
            };
            assert!(near(first, &m) && near(second, &v));
        }
    }
    assert!(Optimizer::new(&layout, AdamW::default(), 0.0).is_err());
    assert!(Optimizer::new(&layout, AdamW { beta1: 1.0, ..AdamW::default() }, 1.0).is_err());
}
