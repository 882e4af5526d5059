//! Where each tensor of a model lies in the flat buffer of parameters, and how it begins.

use super::{HEAD, Head, LinearMap, NormKind, Positions, Shape};
use crate::weight_decay::ParamKind;
use std::ops::Range;

/// Tensors start at multiples of this many f32 (64 bytes, a cache line), for vector instructions.
pub(super) const ALIGNMENT: usize = 16;

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// The name, as in GPT-2's published checkpoints if the tensor exists there.
    pub name: String,
    /// The dimensions; a linear map is `[out, in]`.
    pub dims: Vec<usize>,
    /// The kind, for weight decay.
    pub kind: ParamKind,
    /// The initialisation.
    pub init: Init,
    /// First element in the flat buffer.
    pub offset: usize,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no elements (never, for a valid shape).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of its elements in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// The initialisation of a tensor, as in GPT-2 (Radford et al., 2019, Section 2.3, and its released
/// code).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zeros: biases.
    Zeros,
    /// All ones: normalisation weights.
    Ones,
    /// Normal with this standard deviation: 0.02, divided by √(2·L) for the projections onto the
    /// residual stream, where 2·L of them are summed.
    Normal(f64),
}

/// The tensors of a model in one flat buffer.
///
/// Embeddings come first, then matrices, then vectors, so that the parameters that decay are one
/// contiguous range under every [`DecayScope`](crate::weight_decay::DecayScope).
#[derive(Debug, Clone)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    len: usize,
}

impl Layout {
    pub(super) fn new(shape: &Shape) -> Self {
        use ParamKind::{Embedding, Matrix, Vector};
        let d = shape.d_model;
        let normal = Init::Normal(0.02);
        let residual = Init::Normal(0.02 / (2.0 * shape.n_layers as f64).sqrt());
        // The place of a tensor follows from those before it.
        let tensor = |name, dims, kind, init| TensorSpec { name, dims, kind, init, offset: 0 };
        let mut all = vec![tensor("wte".into(), vec![shape.vocab, d], Embedding, normal)];
        if shape.positions == Positions::Learned {
            all.push(tensor("wpe".into(), vec![shape.context, d], Embedding, normal));
        }
        if shape.head == Head::Own {
            all.push(tensor(HEAD.into(), vec![shape.vocab, d], Matrix, normal));
        }
        let linears = shape.linears();
        let blocks = 0..shape.n_layers;
        for i in blocks.clone() {
            for LinearMap { name, outputs, inputs } in linears {
                // These two write to the residual stream.
                let init = if name.ends_with("proj") { residual } else { normal };
                let dims = vec![outputs, inputs];
                all.push(tensor(format!("h.{i}.{name}.weight"), dims, Matrix, init));
            }
        }
        let norm_of = |all: &mut Vec<_>, name: String| {
            if shape.norm.kind != NormKind::Plain {
                all.push(tensor(format!("{name}.weight"), vec![d], Vector, Init::Ones));
            }
            if shape.bias && shape.norm.kind == NormKind::Layer {
                all.push(tensor(format!("{name}.bias"), vec![d], Vector, Init::Zeros));
            }
        };
        for i in blocks {
            for name in ["ln_1", "ln_2"] {
                norm_of(&mut all, format!("h.{i}.{name}"));
            }
            if shape.attention.qk_norm {
                for (name, width) in ["q_norm", "k_norm"].into_iter().zip(shape.qk_norm_widths()) {
                    let name = format!("h.{i}.attn.{name}.weight");
                    all.push(tensor(name, vec![width], Vector, Init::Ones));
                }
            }
            for LinearMap { name, outputs, .. } in linears {
                if shape.bias || shape.attention.qkv_bias && name == "attn.qkv" {
                    let name = format!("h.{i}.{name}.bias");
                    all.push(tensor(name, vec![outputs], Vector, Init::Zeros));
                }
            }
        }
        norm_of(&mut all, "ln_f".into());

        let mut len = 0;
        for tensor in &mut all {
            tensor.offset = len;
            len = tensor.range().end.next_multiple_of(ALIGNMENT);
        }
        Self { tensors: all, len }
    }

    /// The tensors, in the order of the buffer.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Length of the flat buffer in elements, padding included.
    pub fn buffer_len(&self) -> usize {
        self.len
    }

    /// The smallest range that holds every tensor for which `holds` is true, if there is one.
    pub fn range_of(&self, holds: impl Fn(&TensorSpec) -> bool) -> Option<Range<usize>> {
        let start = self.tensors.iter().find(|t| holds(t))?.offset;
        let end = self.tensors.iter().rev().find(|t| holds(t))?.range().end;
        Some(start..end)
    }
}
