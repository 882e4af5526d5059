//! The layers without matrix products: each one's forward and backward, for tokens `[n, d]` row by row.

use super::aligned::Aligned;
use super::math::{LANES, ROWS, Rows, exp, gelu, gelu_tanh, ln, silu, sum_lanes, sum_rows};
use super::simd::Simd;
use crate::model::Activation;

/// A normalisation: its scale γ and bias β, `[d]` each, its ε, and whether it subtracts the mean.
/// If it does not, the mean is 0 in the formulas below, and the variance is the mean square.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub epsilon: f32,
    pub centred: bool,
}

/// What a normalisation keeps for its backward.
#[derive(Debug, Default)]
pub(super) struct Normalised {
    /// x̂ = (x − mean) · r, `[n, d]`.
    pub hat: Aligned,
    /// r = 1 / √(variance + ε), `[n]`.
    pub rate: Aligned,
    /// y = x̂ · γ + β, `[n, d]`.
    pub out: Aligned,
}

/// Each element of some rows, `[R, d]`, becomes f(row, itself, element of a, element of b).
#[inline(always)]
fn map_rows<const R: usize>(
    out: &mut [f32],
    a: Rows<'_>,
    b: Rows<'_>,
    f: impl Fn(usize, f32, f32, f32) -> f32,
) {
    let d = out.len() / R;
    let whole = d / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, b) = (a.chunk::<R>(start), b.chunk::<R>(start));
        let mut values = Rows { data: out, stride: d }.chunk::<R>(start);
        for i in 0..LANES {
            for r in 0..R {
                values[r][i] = f(r, values[r][i], a[r][i], b[r][i]);
            }
        }
        for (r, values) in values.iter().enumerate() {
            *out[r * d + start..].first_chunk_mut().expect("a whole chunk") = *values;
        }
    }
    for r in 0..R {
        for i in whole..d {
            out[r * d + i] = f(r, out[r * d + i], a.at(r, i), b.at(r, i));
        }
    }
}

/// Each element of `out`, `[d]`, is a chain over some rows: f(so far, element of a, element of b).
#[inline(always)]
fn chain_rows<const R: usize>(
    out: &mut [f32],
    a: Rows<'_>,
    b: Rows<'_>,
    f: impl Fn(f32, f32, f32) -> f32,
) {
    let whole = out.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, b) = (a.chunk::<R>(start), b.chunk::<R>(start));
        let [mut values] = Rows { data: out, stride: 0 }.chunk::<1>(start);
        for i in 0..LANES {
            for r in 0..R {
                values[i] = f(values[i], a[r][i], b[r][i]);
            }
        }
        out[start..start + LANES].copy_from_slice(&values);
    }
    for r in 0..R {
        for (i, out) in out.iter_mut().enumerate().skip(whole) {
            *out = f(*out, a.at(r, i), b.at(r, i));
        }
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
    let x = Rows { data: x, stride: d };
    let mut mean = sum_rows::<R>(d, x, x, |_, sum, x, _| sum + x);
    for mean in &mut mean {
        *mean = if norm.centred { *mean / d as f32 } else { 0.0 };
    }
    let square = |r: usize, sum: f32, x: f32, _| (x - mean[r]).mul_add(x - mean[r], sum);
    let squares = sum_rows::<R>(d, x, x, square);
    let mut rates = [0f32; R];
    for r in 0..R {
        rates[r] = 1.0 / (squares[r] / d as f32 + norm.epsilon).sqrt();
    }
    rate.copy_from_slice(&rates);
    map_rows::<R>(hat, x, x, |r, _, x, _| (x - mean[r]) * rates[r]);
    let (hat, weight) = (Rows { data: hat, stride: d }, Rows { data: norm.weight, stride: 0 });
    map_rows::<R>(out, hat, weight, |_, _, hat, weight| hat * weight);
    if let Some(bias) = norm.bias {
        let bias = Rows { data: bias, stride: 0 };
        map_rows::<R>(out, bias, bias, |_, out, bias, _| out + bias);
    }
}

/// Adds to dx, with ĝ = dy·γ: r·(ĝ − mean ĝ − x̂·mean(ĝ·x̂)).
pub(super) fn norm_backward(
    simd: Simd,
    norm: Norm<'_>,
    kept: &Normalised,
    dy: &[f32],
    dx: &mut [f32],
) {
    let d = norm.weight.len();
    let mut g = vec![0.0; ROWS * d];
    simd.map(
        #[inline(always)]
        || {
            let rows = dy.chunks(ROWS * d).zip(dx.chunks_mut(ROWS * d));
            let kept = kept.hat.chunks(ROWS * d).zip(kept.rate.chunks(ROWS));
            for ((dy, dx), (hat, rate)) in rows.zip(kept) {
                if rate.len() == ROWS {
                    norm_rows_backward::<ROWS>(norm, (hat, rate), dy, dx, &mut g);
                    continue;
                }
                let rows = dy.chunks_exact(d).zip(dx.chunks_exact_mut(d));
                for ((dy, dx), kept) in rows.zip(hat.chunks_exact(d).zip(rate.chunks(1))) {
                    norm_rows_backward::<1>(norm, kept, dy, dx, &mut g[..d]);
                }
            }
        },
    );
}

#[inline(always)]
fn norm_rows_backward<const R: usize>(
    norm: Norm<'_>,
    (hat, rate): (&[f32], &[f32]),
    dy: &[f32],
    dx: &mut [f32],
    g: &mut [f32],
) {
    let d = norm.weight.len();
    let (dy, weight) = (Rows { data: dy, stride: d }, Rows { data: norm.weight, stride: 0 });
    map_rows::<R>(g, dy, weight, |_, _, dy, weight| dy * weight);
    let (hat, g) = (Rows { data: hat, stride: d }, Rows { data: g, stride: d });
    let mut mean = sum_rows::<R>(d, g, g, |_, sum, g, _| sum + g);
    let mut along = sum_rows::<R>(d, g, hat, |_, sum, g, hat| g.mul_add(hat, sum));
    let mut rates = [0f32; R];
    for r in 0..R {
        mean[r] = if norm.centred { mean[r] / d as f32 } else { 0.0 };
        (along[r], rates[r]) = (along[r] / d as f32, rate[r]);
    }
    map_rows::<R>(dx, g, hat, |r, dx, g, hat| {
        hat.mul_add(-along[r], g - mean[r]).mul_add(rates[r], dx)
    });
}

/// Adds to a normalisation's dγ the sum over tokens of dy·x̂, token after token.
pub(super) fn norm_weight_gradient(simd: Simd, hat: &[f32], dy: &[f32], gradient: &mut [f32]) {
    chain(
        simd,
        hat,
        dy,
        gradient,
        #[inline(always)]
        |sum, hat, dy| hat.mul_add(dy, sum),
    );
}

/// Adds to a bias's gradient the sum of dy over tokens, token after token.
pub(super) fn bias_gradient(simd: Simd, dy: &[f32], gradient: &mut [f32]) {
    chain(
        simd,
        dy,
        dy,
        gradient,
        #[inline(always)]
        |sum, dy, _| sum + dy,
    );
}

/// [`chain_rows`] over all rows of `[n, d]`.
fn chain(simd: Simd, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32, f32) -> f32) {
    let d = out.len();
    simd.map(
        #[inline(always)]
        || {
            for (a, b) in a.chunks(ROWS * d).zip(b.chunks(ROWS * d)) {
                let whole = a.len() == ROWS * d;
                let mut a = Rows { data: a, stride: d };
                let mut b = Rows { data: b, stride: d };
                if whole {
                    chain_rows::<ROWS>(out, a, b, &f);
                    continue;
                }
                while !a.data.is_empty() {
                    chain_rows::<1>(out, a, b, &f);
                    (a.data, b.data) = (&a.data[d..], &b.data[d..]);
                }
            }
        },
    );
}

/// Elements outside −clip to clip become the nearer of the two; `unclipped` is 1 for each of the others,
/// and else 0.
pub(super) fn clip_forward(clip: f32, x: &mut [f32], unclipped: &mut Aligned) {
    unclipped.resize(x.len(), 0.0);
    for (x, unclipped) in x.iter_mut().zip(unclipped.iter_mut()) {
        *unclipped = if x.abs() > clip { 0.0 } else { 1.0 };
        *x = x.clamp(-clip, clip);
    }
}

/// Takes a gradient back through [`clip_forward`].
pub(super) fn clip_backward(unclipped: &[f32], dx: &mut [f32]) {
    for (dx, unclipped) in dx.iter_mut().zip(unclipped) {
        *dx *= unclipped;
    }
}

/// a ← a + b.
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// The hidden layer of an MLP, `[n, f]`, from the output of its first map, `[n, f]` or `[n, 2·f]`.
/// For the backward pass, the slopes of the hidden layer replace that output. Those of a gated one,
/// h = silu(g)·u, are u·silu'(g) and silu(g).
pub(super) fn activate(
    simd: Simd,
    activation: Activation,
    d_ff: usize,
    given: &mut [f32],
    hidden: &mut [f32],
) {
    match activation {
        Activation::GeluTanh => map(simd, given, hidden, gelu_tanh),
        Activation::Gelu => map(simd, given, hidden, gelu),
        Activation::Swiglu => simd.map(
            #[inline(always)]
            || {
                for (given, h) in
                    given.chunks_exact_mut(2 * d_ff).zip(hidden.chunks_exact_mut(d_ff))
                {
                    let (g, u) = given.split_at_mut(d_ff);
                    for ((g, u), h) in g.iter_mut().zip(u).zip(h) {
                        let (value, slope) = silu(*g);
                        *h = value * *u;
                        (*g, *u) = (*u * slope, value);
                    }
                }
            },
        ),
    }
}

/// y = f(x), and the slope in the place of x.
#[inline(always)]
fn map(simd: Simd, x: &mut [f32], y: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    simd.map(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                (*y, *x) = f(*x);
            }
        },
    );
}

/// What goes back to the first map: dh · slope, for each of the slopes that an element of h has.
pub(super) fn activate_backward(
    simd: Simd,
    (d_ff, d_fc): (usize, usize),
    slopes: &[f32],
    dh: &[f32],
    out: &mut [f32],
) {
    simd.map(
        #[inline(always)]
        || {
            let rows = out.chunks_exact_mut(d_fc).zip(slopes.chunks_exact(d_fc));
            for ((out, slopes), dh) in rows.zip(dh.chunks_exact(d_ff)) {
                for (out, slopes) in out.chunks_exact_mut(d_ff).zip(slopes.chunks_exact(d_ff)) {
                    for ((out, slope), dh) in out.iter_mut().zip(slopes).zip(dh) {
                        *out = dh * slope;
                    }
                }
            }
        },
    );
}

/// The losses of tokens in nats, given their logits z, `[n, vocab]`: ln s + max z − z_target, where
/// e = exp(z − max z) and s = Σ e. For the backward pass e replaces the logits, with s subtracted
/// at the target, and each weight is divided by s.
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

/// z ← exp(z − max); returns the sum, lane by lane.
#[inline(always)]
fn exp_chunks(chunks: &mut [[f32; LANES]], max: f32) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - max);
            lanes[i] += chunk[i];
        }
    }
    lanes
}

/// The largest element, in any order: NaN is left to those who compute with it.
#[inline(always)]
fn maximum(z: &[f32]) -> f32 {
    const WIDTH: usize = 64;
    let (chunks, rest) = z.as_chunks::<WIDTH>();
    let mut most = max_chunks(chunks);
    let mut half = WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            most[i] = most[i].max(most[i + half]);
        }
        half /= 2;
    }
    rest.iter().fold(most[0], |most, z| most.max(*z))
}

#[inline(always)]
fn max_chunks<const WIDTH: usize>(chunks: &[[f32; WIDTH]]) -> [f32; WIDTH] {
    let mut most = [f32::NEG_INFINITY; WIDTH];
    for chunk in chunks {
        for i in 0..WIDTH {
            most[i] = most[i].max(chunk[i]);
        }
    }
    most
}

#[inline(always)]
fn cross_entropy_rows<const R: usize>(
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f64],
    weights: &mut [f32],
) {
    let vocab = logits.len() / R;
    let mut s = [0f32; R];
    for (r, z) in logits.chunks_exact_mut(vocab).enumerate() {
        let max = maximum(z);
        losses[r] = f64::from(max) - f64::from(z[targets[r] as usize]);
        let mut lanes = exp_chunks(z.as_chunks_mut().0, max);
        for (lane, z) in lanes.iter_mut().zip(z.as_chunks_mut::<LANES>().1) {
            *z = exp(*z - max);
            *lane += *z;
        }
        [s[r]] = sum_lanes([lanes]);
    }
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
