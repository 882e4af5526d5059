//! The layers without matrix products: each one's forward and backward, for tokens `[n, d]` row by row.

use super::math::{LANES, ROWS, exp, gelu, lanes, ln, sum_lanes};
use super::simd::Simd;

/// Epsilon of the normalisations, GPT-2's.
const NORM_EPS: f32 = 1e-5;

/// A normalisation's scale γ and bias β, `[d]` each.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
}

/// What a normalisation keeps for its backward.
#[derive(Debug, Default)]
pub(super) struct Normalised {
    /// x̂ = (x − mean) · r, `[n, d]`.
    pub hat: Vec<f32>,
    /// r = 1 / √(variance + ε), `[n]`.
    pub rate: Vec<f32>,
    /// y = x̂ · γ + β, `[n, d]`.
    pub out: Vec<f32>,
}

/// Rows of `[n, d]`, as slices.
#[inline(always)]
fn rows<const R: usize>(data: &[f32]) -> [&[f32]; R] {
    let d = data.len() / R;
    let mut rows = [data; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &data[r * d..(r + 1) * d];
    }
    rows
}

/// out_i ← f(out_i, a_i, b_i).
#[inline(always)]
fn map(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32, f32) -> f32) {
    let (out_chunks, out_rest) = out.as_chunks_mut::<LANES>();
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for ((out, a), b) in out_chunks.iter_mut().zip(a_chunks).zip(b_chunks) {
        // By value: the compiler need not ask whether the slices overlap.
        let (old, a, b) = (*out, *a, *b);
        let mut new = [0f32; LANES];
        for i in 0..LANES {
            new[i] = f(old[i], a[i], b[i]);
        }
        *out = new;
    }
    for ((out, &a), &b) in out_rest.iter_mut().zip(a_rest).zip(b_rest) {
        *out = f(*out, a, b);
    }
}

/// y = x̂·γ + β with x̂ = (x − mean)·r.
pub(super) fn norm_forward(simd: Simd, norm: Norm<'_>, x: &[f32], kept: &mut Normalised) {
    let d = norm.weight.len();
    kept.hat.resize(x.len(), 0.0);
    kept.out.resize(x.len(), 0.0);
    kept.rate.resize(x.len() / d, 0.0);
    simd.map(
        #[inline(always)]
        || {
            let (hat, out) = (kept.hat.chunks_mut(ROWS * d), kept.out.chunks_mut(ROWS * d));
            let rates = kept.rate.chunks_mut(ROWS);
            for (((x, hat), out), rate) in x.chunks(ROWS * d).zip(hat).zip(out).zip(rates) {
                if rate.len() == ROWS {
                    norm_rows::<ROWS>(norm, x, hat, out, rate);
                    continue;
                }
                let rows = hat.chunks_exact_mut(d).zip(out.chunks_exact_mut(d));
                for ((x, (hat, out)), rate) in x.chunks_exact(d).zip(rows).zip(rate.chunks_mut(1)) {
                    norm_rows::<1>(norm, x, hat, out, rate);
                }
            }
        },
    );
}

#[inline(always)]
fn norm_rows<const R: usize>(
    norm: Norm<'_>,
    x: &[f32],
    hat: &mut [f32],
    out: &mut [f32],
    rate: &mut [f32],
) {
    let d = norm.weight.len();
    let x = rows::<R>(x);
    let mut mean = sum_lanes(lanes(x, x, 0.0, |_, sum, x, _| sum + x));
    for mean in &mut mean {
        *mean /= d as f32;
    }
    let square = |r: usize, sum: f32, x: f32, _| (x - mean[r]).mul_add(x - mean[r], sum);
    let squares = sum_lanes(lanes(x, x, 0.0, square));
    for r in 0..R {
        rate[r] = 1.0 / (squares[r] / d as f32 + NORM_EPS).sqrt();
        let (hat, out) = (&mut hat[r * d..(r + 1) * d], &mut out[r * d..(r + 1) * d]);
        map(hat, x[r], x[r], |_, x, _| (x - mean[r]) * rate[r]);
        map(out, hat, norm.weight, |_, hat, weight| hat * weight);
        if let Some(bias) = norm.bias {
            add(out, bias);
        }
    }
}

/// Adds to dx, with ĝ = dy·γ: r·(ĝ − mean ĝ − x̂·mean(ĝ·x̂)).
pub(super) fn norm_backward(
    simd: Simd,
    weight: &[f32],
    kept: &Normalised,
    dy: &[f32],
    dx: &mut [f32],
) {
    let d = weight.len();
    let mut g = vec![0.0; ROWS * d];
    simd.map(
        #[inline(always)]
        || {
            let rows = dy.chunks(ROWS * d).zip(dx.chunks_mut(ROWS * d));
            let kept = kept.hat.chunks(ROWS * d).zip(kept.rate.chunks(ROWS));
            for ((dy, dx), (hat, rate)) in rows.zip(kept) {
                let g = &mut g[..dy.len()];
                for (g, dy) in g.chunks_exact_mut(d).zip(dy.chunks_exact(d)) {
                    map(g, dy, weight, |_, dy, weight| dy * weight);
                }
                if rate.len() == ROWS {
                    norm_rows_backward::<ROWS>(hat, rate, g, dx);
                    continue;
                }
                let rows = g.chunks_exact(d).zip(dx.chunks_exact_mut(d));
                for ((g, dx), (hat, rate)) in rows.zip(hat.chunks_exact(d).zip(rate.chunks(1))) {
                    norm_rows_backward::<1>(hat, rate, g, dx);
                }
            }
        },
    );
}

#[inline(always)]
fn norm_rows_backward<const R: usize>(hat: &[f32], rate: &[f32], g: &[f32], dx: &mut [f32]) {
    let d = g.len() / R;
    let (hat, g) = (rows::<R>(hat), rows::<R>(g));
    let mean = sum_lanes(lanes(g, g, 0.0, |_, sum, g, _| sum + g));
    let along = sum_lanes(lanes(g, hat, 0.0, |_, sum, g, hat| g.mul_add(hat, sum)));
    for (r, dx) in dx.chunks_exact_mut(d).enumerate() {
        let (mean, along) = (mean[r] / d as f32, along[r] / d as f32);
        map(dx, g[r], hat[r], |dx, g, hat| hat.mul_add(-along, g - mean).mul_add(rate[r], dx));
    }
}

/// Adds to a normalisation's dγ the sum over tokens of dy·x̂, token after token.
pub(super) fn norm_weight_gradient(simd: Simd, hat: &[f32], dy: &[f32], gradient: &mut [f32]) {
    let d = gradient.len();
    simd.map(
        #[inline(always)]
        || {
            for (hat, dy) in hat.chunks_exact(d).zip(dy.chunks_exact(d)) {
                map(gradient, hat, dy, |gradient, hat, dy| hat.mul_add(dy, gradient));
            }
        },
    );
}

/// Adds to a bias's gradient the sum of dy over tokens, token after token.
pub(super) fn bias_gradient(simd: Simd, dy: &[f32], gradient: &mut [f32]) {
    simd.map(
        #[inline(always)]
        || dy.chunks_exact(gradient.len()).for_each(|dy| add(gradient, dy)),
    );
}

/// a ← a + b.
#[inline(always)]
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    map(a, b, b, |a, b, _| a + b);
}

/// x ← GELU(x); the slopes are kept for the backward.
pub(super) fn gelu_forward(simd: Simd, x: &mut [f32], slopes: &mut [f32]) {
    simd.map(
        #[inline(always)]
        || {
            for (x, slope) in x.iter_mut().zip(slopes) {
                (*x, *slope) = gelu(*x);
            }
        },
    );
}

/// dx = dy · slope, in the place of dy.
pub(super) fn gelu_backward(simd: Simd, slopes: &[f32], gradient: &mut [f32]) {
    simd.map(
        #[inline(always)]
        || {
            for (gradient, slope) in gradient.iter_mut().zip(slopes) {
                *gradient *= slope;
            }
        },
    );
}

/// The losses of tokens in nats, given their logits z, `[n, vocab]`: ln s + max z − z_target, where
/// e = exp(z − max z) and s = Σ e. For the backward e takes the place of the logits, less s at the target,
/// and each weight is divided by s.
pub(super) fn cross_entropies(
    simd: Simd,
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f64],
    weights: &mut [f32],
) {
    let vocab = logits.len() / targets.len();
    simd.map(
        #[inline(always)]
        || {
            let tokens = logits.chunks_mut(ROWS * vocab).zip(targets.chunks(ROWS));
            let results = losses.chunks_mut(ROWS).zip(weights.chunks_mut(ROWS));
            for ((logits, targets), (losses, weights)) in tokens.zip(results) {
                if targets.len() == ROWS {
                    cross_entropy_rows::<ROWS>(logits, targets, losses, weights);
                    continue;
                }
                for (i, logits) in logits.chunks_exact_mut(vocab).enumerate() {
                    let i = i..i + 1;
                    let (losses, weights) = (&mut losses[i.clone()], &mut weights[i.clone()]);
                    cross_entropy_rows::<1>(logits, &targets[i], losses, weights);
                }
            }
        },
    );
}

#[inline(always)]
fn cross_entropy_rows<const R: usize>(
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f64],
    weights: &mut [f32],
) {
    let vocab = logits.len() / R;
    let z = rows::<R>(logits);
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let most = lanes(z, z, f32::NEG_INFINITY, |_, most, z, _| larger(most, z));
    let mut max = [f32::NEG_INFINITY; R];
    for r in 0..R {
        max[r] = most[r].iter().fold(max[r], |a, &b| larger(a, b));
        losses[r] = f64::from(max[r]) - f64::from(z[r][targets[r] as usize]);
    }
    for (z, max) in logits.chunks_exact_mut(vocab).zip(&max) {
        for z in z {
            *z = exp(*z - max);
        }
    }
    let e = rows::<R>(logits);
    let s = sum_lanes(lanes(e, e, 0.0, |_, sum, e, _| sum + e));
    for (r, e) in logits.chunks_exact_mut(vocab).enumerate() {
        losses[r] += ln(f64::from(s[r]));
        e[targets[r] as usize] -= s[r];
        weights[r] /= s[r];
    }
}

/// Multiplies each row of `[n, d]` by its weight.
pub(super) fn scale_rows(simd: Simd, rows: &mut [f32], weights: &[f32]) {
    let d = rows.len() / weights.len();
    simd.map(
        #[inline(always)]
        || {
            for (row, weight) in rows.chunks_exact_mut(d).zip(weights) {
                row.iter_mut().for_each(|value| *value *= weight);
            }
        },
    );
}
