//! Causal attention, fused. Of a head's scores, only those of one panel of queries are in memory at
//! a time, keys by queries, `[keys, width]`. For head width w, with q already divided by √w:
//!
//! - forward: s_ji = k_j·q_i for j ≤ i; p_ji = exp(s_ji − max_j s_ji) / Σ_j; o_i = Σ_j p_ji·v_j.
//! - backward: p as before; g_ji = v_j·do_i; h_ji = p_ji·(g_ji − Σ_j p_ji·g_ji);
//!   dq_i = Σ_j h_ji·k_j / √w; dk_j = Σ_i h_ji·q_i; dv_j = Σ_i p_ji·do_i.
//!
//! Softmax and the sum Σ_j are taken column by column, keys in order.

use super::math::exp;
use super::matmul::{Left, Matrix, Output, Panels, Product, panel_width};
use super::simd::{Kernel, Simd};
use std::ops::Range;

/// A head of attention: where its queries, keys and values begin among those of a token, which have
/// `stride` elements in all. Its outputs lie among those of all heads as its queries do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub stride: usize,
    /// Elements of all heads' outputs, h·w.
    pub outputs: usize,
    /// The head's width, w.
    pub width: usize,
    pub query: usize,
    pub key: usize,
    pub value: usize,
}

impl Head {
    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// The head's queries, keys or values, `[rows, w]`: those that begin at `column` of some tokens.
    fn matrix<'a>(&self, qkv: &'a [f32], column: usize, rows: Range<usize>) -> Matrix<'a> {
        let data = &qkv[rows.start * self.stride + column..];
        Matrix { data, stride: self.stride, rows: rows.len(), columns: self.width }
    }
}

/// Buffers that are reused from head to head.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// qᵀ / √w or doᵀ, `[w, queries]`.
    columns: Panels,
    /// q or do, `[queries, w]`.
    rows: Panels,
    /// s, then p, `[keys, queries]`.
    scores: Panels,
    /// g, then h, `[keys, queries]`.
    gradients: Panels,
    /// v or k, `[time, w]`.
    keys: Panels,
}

/// The queries of a panel.
#[derive(Debug, Clone, Copy)]
struct Queries {
    first: usize,
    count: usize,
    /// Columns of the panel, with its padding.
    width: usize,
}

impl Queries {
    /// The panels of a sequence, one after the other.
    fn panels(simd: Simd, time: usize) -> impl Iterator<Item = Self> {
        let wide = 2 * simd.lanes();
        (0..time).step_by(wide).map(move |first| {
            let count = wide.min(time - first);
            Self { first, count, width: panel_width(simd, count) }
        })
    }

    /// The keys that one at least of the queries sees.
    fn keys(&self) -> usize {
        self.first + self.count
    }

    fn range(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// Weights of keys, `[keys, queries]`, as the left operand of their products with rows of keys.
    fn columns_of<'a>(&self, weights: &'a Panels) -> Left<'a> {
        Left::Columns { data: weights.data(), stride: self.width }
    }
}

/// One sequence, and what its forward gives.
pub(super) struct Forward<'a> {
    /// Queries, keys and values of all heads, `[time, stride]`.
    pub qkv: &'a [f32],
    /// o of all heads, `[time, h·w]`.
    pub out: &'a mut [f32],
    /// The largest score of each query and the sum of its exponentials, `[time]`, which the backward
    /// pass needs.
    pub max: &'a mut [f32],
    pub sum: &'a mut [f32],
}

/// Attention of one head over one sequence. Of `out` it writes the head's columns.
pub(super) fn forward(simd: Simd, head: Head, sequence: Forward<'_>, scratch: &mut Scratch) {
    let Forward { qkv, out, max, sum } = sequence;
    let d = head.outputs;
    scratch.keys.pack(simd, head.matrix(qkv, head.value, 0..max.len()));
    for queries in Queries::panels(simd, max.len()) {
        scratch.score(simd, head, qkv, queries);
        simd.run(Softmax {
            queries,
            scores: scratch.scores.data_mut(),
            max: &mut max[queries.range()],
            sum: &mut sum[queries.range()],
        });
        let out = &mut out[queries.first * d + head.query..];
        simd.run(Product {
            left: queries.columns_of(&scratch.scores),
            right: &scratch.keys,
            out,
            stride: d,
            rows: queries.count,
            output: Output::Set(None),
        });
        for (out, sum) in out.chunks_mut(d).zip(&sum[queries.range()]) {
            out[..head.width].iter_mut().for_each(|out| *out /= sum);
        }
    }
}

/// One sequence after its forward, and what its backward gives.
pub(super) struct Backward<'a> {
    /// Queries, keys and values, as in [`Forward`].
    pub qkv: &'a [f32],
    pub max: &'a [f32],
    pub sum: &'a [f32],
    /// The gradient of o of all heads, `[time, h·w]`.
    pub d_out: &'a [f32],
    /// The gradient of queries, keys and values, `[time, stride]`.
    pub d_qkv: &'a mut [f32],
}

/// Computes the gradient of one head's q, k and v. For k and v it is added to what other heads that share
/// them have written there.
pub(super) fn backward(simd: Simd, head: Head, sequence: Backward<'_>, scratch: &mut Scratch) {
    let Backward { qkv, max, sum, d_out, d_qkv } = sequence;
    let stride = head.stride;
    scratch.keys.pack(simd, head.matrix(qkv, head.key, 0..max.len()));
    for queries in Queries::panels(simd, max.len()) {
        let (keys, first, width) = (queries.keys(), queries.first, queries.width);
        scratch.score(simd, head, qkv, queries);
        let d_out = Matrix {
            data: &d_out[first * head.outputs + head.query..],
            stride: head.outputs,
            rows: queries.count,
            columns: head.width,
        };
        let Scratch { columns, rows, scores, gradients, keys: packed_keys } = scratch;
        columns.pack_transposed(simd, d_out);
        columns.widen();
        gradients.panel(keys, width);
        let left = Left::Rows { data: &qkv[head.value..], stride };
        let out = gradients.data_mut();
        let output = Output::Set(None);
        simd.run(Product { left, right: columns, out, stride: width, rows: keys, output });
        simd.run(SoftmaxBackward {
            queries,
            scale: head.scale(),
            scores: scores.data_mut(),
            gradients: gradients.data_mut(),
            max: &max[queries.range()],
            sum: &sum[queries.range()],
        });

        simd.run(Product {
            left: queries.columns_of(gradients),
            right: packed_keys,
            out: &mut d_qkv[first * stride + head.query..],
            stride,
            rows: queries.count,
            output: Output::Set(None),
        });
        let mut add = |rows: &Panels, left: &[f32], column| {
            simd.run(Product {
                left: Left::Rows { data: left, stride: width },
                right: rows,
                out: &mut d_qkv[column..],
                stride,
                rows: keys,
                output: Output::Extend,
            });
        };
        rows.pack(simd, head.matrix(qkv, head.query, queries.range()));
        add(rows, gradients.data(), head.key);
        rows.pack(simd, d_out);
        add(rows, scores.data(), head.value);
    }
}

impl Scratch {
    /// The scores of a panel of queries.
    fn score(&mut self, simd: Simd, head: Head, qkv: &[f32], queries: Queries) {
        self.columns.pack_transposed(simd, head.matrix(qkv, head.query, queries.range()));
        self.columns.widen();
        let scale = head.scale();
        self.columns.data_mut().iter_mut().for_each(|q| *q *= scale);
        self.scores.panel(queries.keys(), queries.width);
        simd.run(Product {
            left: Left::Rows { data: &qkv[head.key..], stride: head.stride },
            right: &self.columns,
            out: self.scores.data_mut(),
            stride: queries.width,
            rows: queries.keys(),
            output: Output::Set(None),
        });
    }
}

/// s becomes exp(s − max), 0 where a key is after its query.
struct Softmax<'a> {
    queries: Queries,
    scores: &'a mut [f32],
    max: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(self) {
        if self.queries.width == TWO { self.columns::<TWO>() } else { self.columns::<ONE>() }
    }
}

impl Softmax<'_> {
    #[inline(always)]
    fn columns<const WIDTH: usize>(self) {
        let scores = self.scores.as_chunks_mut::<WIDTH>().0;
        hide_later_keys(&mut scores[self.queries.first..]);
        let mut max = [f32::NEG_INFINITY; WIDTH];
        for scores in &*scores {
            for i in 0..WIDTH {
                max[i] = if scores[i] > max[i] { scores[i] } else { max[i] };
            }
        }
        let mut sum = [0f32; WIDTH];
        for scores in scores {
            for i in 0..WIDTH {
                scores[i] = exp(scores[i] - max[i]);
                sum[i] += scores[i];
            }
        }
        self.max.copy_from_slice(&max[..self.queries.count]);
        self.sum.copy_from_slice(&sum[..self.queries.count]);
    }
}

/// Of the keys from the first query on, those after their query get the score −∞.
#[inline(always)]
fn hide_later_keys<const WIDTH: usize>(scores: &mut [[f32; WIDTH]]) {
    for (key, scores) in scores.iter_mut().enumerate() {
        scores[..key].fill(f32::NEG_INFINITY);
    }
}

/// s becomes p, and g becomes h / √w.
struct SoftmaxBackward<'a> {
    queries: Queries,
    /// 1 / √w.
    scale: f32,
    scores: &'a mut [f32],
    gradients: &'a mut [f32],
    max: &'a [f32],
    sum: &'a [f32],
}

impl Kernel for SoftmaxBackward<'_> {
    #[inline(always)]
    fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(self) {
        if self.queries.width == TWO { self.columns::<TWO>() } else { self.columns::<ONE>() }
    }
}

impl SoftmaxBackward<'_> {
    #[inline(always)]
    fn columns<const WIDTH: usize>(self) {
        let scores = self.scores.as_chunks_mut::<WIDTH>().0;
        let gradients = self.gradients.as_chunks_mut::<WIDTH>().0;
        hide_later_keys(&mut scores[self.queries.first..]);
        let (mut max, mut share) = ([0f32; WIDTH], [1f32; WIDTH]);
        max[..self.queries.count].copy_from_slice(self.max);
        for (share, sum) in share.iter_mut().zip(self.sum) {
            *share = 1.0 / sum;
        }
        let mut along = [0f32; WIDTH];
        for (scores, gradients) in scores.iter_mut().zip(&*gradients) {
            for i in 0..WIDTH {
                scores[i] = exp(scores[i] - max[i]) * share[i];
                along[i] = scores[i].mul_add(gradients[i], along[i]);
            }
        }
        for (scores, gradients) in scores.iter().zip(gradients) {
            for i in 0..WIDTH {
                gradients[i] = scores[i] * (gradients[i] - along[i]) * self.scale;
            }
        }
    }
}
