//! Linear maps.

use super::each;
use super::layers::{add, bias_gradient};
use super::matmul::{Left, Matrix, Output, Panels, Product};
use super::simd::Simd;
use std::ops::Range;

/// Where a layer's weight and bias lie in the flat buffers.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
}

/// A linear map y = x·Wᵀ + b, W of `[outputs, inputs]`, packed for products.
#[derive(Debug)]
pub(super) struct Linear {
    pub place: Place,
    inputs: usize,
    pub outputs: usize,
    /// Wᵀ, for the forward.
    transposed: Panels,
    /// W, for the backward.
    weight: Panels,
}

impl Linear {
    pub fn new(place: Place, inputs: usize, outputs: usize) -> Self {
        let (transposed, weight) = (Panels::default(), Panels::default());
        Self { place, inputs, outputs, transposed, weight }
    }

    pub fn pack_for_forward(&mut self, simd: Simd, theta: &[f32]) {
        let weight = &theta[self.place.weight.clone()];
        self.transposed.pack_transposed(simd, Matrix::dense(weight, self.inputs));
    }

    pub fn pack_for_backward(&mut self, simd: Simd, theta: &[f32]) {
        let weight = &theta[self.place.weight.clone()];
        self.weight.pack(simd, Matrix::dense(weight, self.inputs));
    }

    /// y = x·Wᵀ + b.
    pub fn forward(&self, simd: Simd, theta: &[f32], x: &[f32], y: &mut [f32]) {
        let bias = self.place.bias.clone().map(|range| &theta[range]);
        self.product(simd, x, y, Output::Set(bias));
    }

    /// y ← y + b + x·Wᵀ.
    pub fn forward_add(&self, simd: Simd, theta: &[f32], x: &[f32], y: &mut [f32]) {
        if let Some(range) = self.place.bias.clone() {
            y.chunks_exact_mut(self.outputs).for_each(|y| add(y, &theta[range.clone()]));
        }
        self.product(simd, x, y, Output::Add);
    }

    fn product(&self, simd: Simd, x: &[f32], y: &mut [f32], output: Output<'_>) {
        let left = Left::Rows { data: x, stride: self.inputs };
        let (rows, stride) = (x.len() / self.inputs, self.outputs);
        simd.run(Product { left, right: &self.transposed, out: y, stride, rows, output });
    }

    /// dx = dy·W.
    pub fn backward(&self, simd: Simd, dy: &[f32], dx: &mut [f32]) {
        let left = Left::Rows { data: dy, stride: self.outputs };
        let (rows, stride) = (dy.len() / self.outputs, self.inputs);
        let output = Output::Set(None);
        simd.run(Product { left, right: &self.weight, out: dx, stride, rows, output });
    }

    /// dW += dyᵀ·x and db += Σ dy, token after token; threads share the rows of dW.
    pub fn weight_gradient(&self, simd: Simd, dy: &[f32], x: &[f32], into: Into<'_>) {
        let Into { gradient, packed, threads } = into;
        if let Some(range) = self.place.bias.clone() {
            bias_gradient(simd, dy, &mut gradient[range]);
        }
        packed.pack(simd, Matrix::dense(x, self.inputs));
        let share = self.outputs.div_ceil(threads).next_multiple_of(8);
        let weight = gradient[self.place.weight.clone()].chunks_mut(share * self.inputs);
        each(weight.enumerate(), |(i, out)| {
            let left = Left::Columns { data: &dy[i * share..], stride: self.outputs };
            let (rows, stride) = (out.len() / self.inputs, self.inputs);
            simd.run(Product { left, right: packed, out, stride, rows, output: Output::Extend });
        });
    }
}

/// Where the gradients of weights go, a buffer for packing, and the threads that compute them.
#[derive(Debug)]
pub(super) struct Into<'a> {
    pub gradient: &'a mut [f32],
    pub packed: &'a mut Panels,
    pub threads: usize,
}

impl Into<'_> {
    pub fn reborrow(&mut self) -> Into<'_> {
        Into { gradient: self.gradient, packed: self.packed, threads: self.threads }
    }
}
