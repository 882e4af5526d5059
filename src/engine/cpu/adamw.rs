//! Clipping and AdamW on flat buffers of f32: [`AdamW::reference_step`] made fast.

use super::aligned::Aligned;
use super::math::LANES;
use super::simd::Simd;
use crate::model::Layout;
use crate::weight_decay::{AdamW, Step, clip_coefficient};
use crate::{Error, Result};
use std::ops::Range;

/// An optimiser and its moments.
#[derive(Debug, Clone)]
pub struct Optimizer {
    adamw: AdamW,
    /// Largest global norm of the gradient.
    clip: f64,
    /// The range of the parameters that decay.
    decayed: Range<usize>,
    /// First and second moment.
    m: Aligned,
    v: Aligned,
    simd: Simd,
}

/// The numbers of one step on some parameters, as f32.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// Factor of the gradient.
    clip: f32,
    /// How much of the weights is added to the gradient.
    in_gradient: f32,
    /// Factor that takes the decay off the weights.
    factor: f32,
    /// 1 − β.
    towards_m: f32,
    towards_v: f32,
    /// 1 / √(1 − β₂ᵗ).
    root_correction: f32,
    eps: f32,
    /// lr / (1 − β₁ᵗ).
    rate: f32,
}

impl Optimizer {
    /// An optimiser before its first step, for buffers of the layout; `clip` bounds the global norm of the
    /// gradient.
    ///
    /// # Errors
    /// If a setting is outside its domain.
    pub fn new(layout: &Layout, adamw: AdamW, clip: f64) -> Result<Self> {
        adamw.validate()?;
        if clip.is_nan() || clip <= 0.0 {
            return Err(Error::setting("clip", clip, "must be above 0"));
        }
        let decayed = layout.range_of(|tensor| adamw.scope.applies(tensor.kind)).unwrap_or(0..0);
        let zeros = Aligned::zeros(layout.buffer_len());
        Ok(Self { adamw, clip, decayed, m: zeros.clone(), v: zeros, simd: Simd::best() })
    }

    /// The first and the second moment.
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.m, &self.v)
    }

    /// Both moments, to be replaced by those of a checkpoint.
    pub fn moments_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.m, &mut self.v)
    }

    /// Clips the gradient by its global norm, as PyTorch's `clip_grad_norm_`, and takes a step; returns the
    /// norm before clipping.
    ///
    /// # Panics
    /// If a buffer is not as long as the layout.
    pub fn step(&mut self, theta: &mut [f32], gradient: &[f32], step: Step) -> f64 {
        assert_eq!((theta.len(), gradient.len()), (self.m.len(), self.v.len()));
        let norm = norm(self.simd, gradient);
        let AdamW { beta1, beta2, eps, .. } = self.adamw;
        let correction = |beta: f64| 1.0 - libm::pow(beta, step.t as f64);
        let without_decay = Numbers {
            clip: clip_coefficient(norm, self.clip) as f32,
            in_gradient: 0.0,
            factor: 1.0,
            towards_m: (1.0 - beta1) as f32,
            towards_v: (1.0 - beta2) as f32,
            root_correction: (1.0 / correction(beta2).sqrt()) as f32,
            eps: eps as f32,
            rate: (step.lr / correction(beta1)) as f32,
        };
        let with_decay = Numbers {
            in_gradient: self.adamw.gradient_decay() as f32,
            factor: self.adamw.decay_factor(step) as f32,
            ..without_decay
        };
        let Range { start, end } = self.decayed;
        for (range, numbers) in
            [(0..start, without_decay), (start..end, with_decay), (end..theta.len(), without_decay)]
        {
            let (m, v) = (&mut self.m[range.clone()], &mut self.v[range.clone()]);
            let theta = &mut theta[range.clone()];
            let parts = Parts { theta, gradient: &gradient[range], m, v };
            update(self.simd, parts, numbers);
        }
        norm
    }
}

/// The Euclidean norm, summed in f64, lane by lane.
fn norm(simd: Simd, gradient: &[f32]) -> f64 {
    let mut squares = [0f64; LANES];
    simd.map(
        #[inline(always)]
        || {
            let (chunks, rest) = gradient.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    let g = f64::from(chunk[i]);
                    squares[i] = g.mul_add(g, squares[i]);
                }
            }
            for (sum, &g) in squares.iter_mut().zip(rest) {
                *sum += f64::from(g) * f64::from(g);
            }
        },
    );
    squares.iter().sum::<f64>().sqrt()
}

/// The same part of the parameters, the gradient and both moments.
struct Parts<'a> {
    theta: &'a mut [f32],
    gradient: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

fn update(simd: Simd, parts: Parts<'_>, n: Numbers) {
    let Parts { theta, gradient, m, v } = parts;
    simd.map(
        #[inline(always)]
        || {
            for (((theta, gradient), m), v) in theta.iter_mut().zip(gradient).zip(m).zip(v) {
                let g = theta.mul_add(n.in_gradient, gradient * n.clip);
                *m = (g - *m).mul_add(n.towards_m, *m);
                *v = g.mul_add(g, -*v).mul_add(n.towards_v, *v);
                let root = v.sqrt().mul_add(n.root_correction, n.eps);
                *theta = (*m / root).mul_add(-n.rate, *theta * n.factor);
            }
        },
    );
}
