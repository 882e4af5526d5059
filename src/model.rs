//! The model (the paper's pretraining): a GPT-2-style decoder, as arithmetic on shapes.
//!
//! What is known of the paper's models is their kind ("GPT2-style transformers") and their sizes.
//! The shapes below are the tidy ones whose count 12·L·d² + V·d truncates to each published
//! number, with V = 32,000, tied embeddings and a hidden layer of 4·d (PAPER_MAPPING.md states
//! this inference). This module needs no libtorch: it names every tensor and says where it lies
//! in the flat buffer of parameters; `engine` computes with it.

use crate::weight_decay::ParamKind;
use crate::{Error, ParamCount, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Tensors start at multiples of this many f32 (64 bytes): vector instructions load whole lines.
const ALIGNMENT: usize = 16;

/// Vocabulary of the paper's SentencePiece tokenizer, as its sister papers state it.
pub const PAPER_VOCAB: usize = 32_000;

/// Sequence length of the paper, in tokens.
pub const PAPER_CONTEXT: usize = 1_024;

/// What determines the architecture of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Transformer blocks, L.
    pub n_layers: usize,
    /// Width of the residual stream, d.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub n_heads: usize,
    /// Number of different tokens, V.
    pub vocab: usize,
    /// Longest sequence, in tokens, T.
    pub context: usize,
    /// Whether linear maps and normalisations have a bias, as GPT-2's do. The published sizes
    /// fit a count without (Medium is 334M, and 335M with): off by default.
    #[serde(default)]
    pub bias: bool,
    /// How the model knows where a token stands; unknown of the paper's.
    #[serde(default, skip_serializing_if = "Positions::is_learned")]
    pub positions: Positions,
}

/// How a model knows where a token stands. N does not count positions either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned vector for each place, added to the embedding: GPT-2's, and those of arXiv
    /// 2409.03137.
    #[default]
    Learned,
    /// Queries and keys are turned by angles in proportion to their place (Su et al., 2021, arXiv
    /// 2104.09864): those of arXiv 2410.03529. Element i of a head of width w turns together with
    /// element i + w/2, by 10000^(−2i/w) radians a place.
    Rotary,
}

impl Positions {
    /// The default, which specifications leave out.
    fn is_learned(&self) -> bool {
        *self == Self::Learned
    }
}

/// What a model computes in. Parameters, gradients and moments are kept in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// The paper's: matrix products, attention and the GELU take and give bf16, of parameters that
    /// are rounded to it once a pass. Normalisations, embeddings, the residual stream, attention's
    /// softmax and the cross-entropy are computed in f32.
    Bf16,
}

impl Precision {
    /// The default, which specifications leave out.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// `(name, layers, width, heads)`: the paper's five sizes, then sizes a thousand times smaller for
/// two CPU cores, and three in between for one GPU. The number of heads of `tiny` and `large` is ours; the others are the sister
/// papers'.
const NAMED: [(&str, usize, usize, usize); 14] = [
    ("tiny", 8, 512, 8),
    ("small", 12, 768, 12),
    ("medium", 24, 1_024, 16),
    ("large", 20, 1_600, 25),
    ("xl", 24, 2_048, 16),
    ("nano-micro", 2, 16, 1),
    ("nano-tiny", 2, 32, 2),
    ("nano-small", 3, 48, 3),
    ("nano-medium", 6, 64, 4),
    ("nano-large", 8, 80, 5),
    ("nano-xl", 8, 112, 7),
    ("mini-tiny", 4, 128, 4),
    ("mini-small", 6, 256, 4),
    ("mini-medium", 8, 384, 6),
];

impl Shape {
    /// The shape of a named size for a vocabulary and a sequence length.
    ///
    /// # Errors
    /// If no size has this name; the message lists those that there are.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Shape};
    /// let tiny = Shape::named("tiny", PAPER_VOCAB, PAPER_CONTEXT).unwrap();
    /// assert_eq!(tiny.count().paper() / 1_000_000, 41);
    /// ```
    pub fn named(name: &str, vocab: usize, context: usize) -> Result<Self> {
        let (_, n_layers, d_model, n_heads) =
            *NAMED.iter().find(|(known, ..)| *known == name).ok_or_else(|| {
                let known: Vec<_> = Self::names().collect();
                Error::setting("size", name, format!("must be one of {}", known.join(", ")))
            })?;
        let positions = Positions::Learned;
        let shape = Self { n_layers, d_model, n_heads, vocab, context, bias: false, positions };
        shape.validate()?;
        Ok(shape)
    }

    /// The names that [`Shape::named`] knows: the paper's sizes, then the nano and the mini ones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }

    /// # Errors
    /// If a dimension is zero, the heads do not divide the width, or heads of odd width are to turn.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("n_layers", self.n_layers),
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("vocab", self.vocab),
            ("context", self.context),
        ] {
            if value == 0 {
                return Err(Error::setting(name, value, "must be at least 1"));
            }
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let requirement = format!("must divide d_model = {}", self.d_model);
            return Err(Error::setting("n_heads", self.n_heads, requirement));
        }
        let width = self.d_model / self.n_heads;
        if self.positions == Positions::Rotary && !width.is_multiple_of(2) {
            let requirement = format!("must be learned for heads of odd width, {width}");
            return Err(Error::setting("positions", "rotary", requirement));
        }
        Ok(())
    }

    /// N, by what it counts.
    pub fn count(&self) -> ParamCount {
        let (l, d) = (self.n_layers as u64, self.d_model as u64);
        let biases = if self.bias { l * 11 * d + d } else { 0 };
        ParamCount {
            non_embedding: 12 * l * d * d + (2 * l + 1) * d + biases,
            embedding: self.vocab as u64 * d,
            positions: match self.positions {
                Positions::Learned => self.context as u64 * d,
                Positions::Rotary => 0,
            },
        }
    }

    /// Floating-point operations of one training step per token: forward and backward of every
    /// matrix product, 6 per weight, plus attention's 12·L·d·T (Chowdhery et al., PaLM,
    /// arXiv 2204.02311, appendix B; causal masking is not discounted).
    pub fn train_flops_per_token(&self) -> f64 {
        let (l, d, t) = (self.n_layers as f64, self.d_model as f64, self.context as f64);
        6.0 * (12.0 * l * d * d + self.vocab as f64 * d) + 12.0 * l * d * t
    }

    /// Where every tensor lies in the flat buffer.
    pub fn layout(&self) -> Layout {
        Layout::new(self)
    }
}

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Its name, as in GPT-2's published checkpoints where it has one.
    pub name: String,
    /// Its dimensions; a linear map is `[out, in]`.
    pub dims: Vec<usize>,
    /// What it is, for weight decay.
    pub kind: ParamKind,
    /// How it starts.
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

    /// Its elements' place in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// How a tensor starts, as GPT-2's do (Radford et al., 2019, Section 2.3, and its released code).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zeros: biases.
    Zeros,
    /// All ones: normalisation weights.
    Ones,
    /// Normal with this standard deviation: 0.02, for the projections onto the residual stream
    /// divided by √(2·L), since 2·L of them add up there.
    Normal(f64),
}

/// The tensors of a model in one flat buffer.
///
/// Embeddings come first, then matrices, then vectors, so that what weight decay applies to is one
/// contiguous range under every [`DecayScope`](crate::weight_decay::DecayScope).
#[derive(Debug, Clone)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    len: usize,
}

impl Layout {
    fn new(shape: &Shape) -> Self {
        use ParamKind::{Embedding, Matrix, Vector};
        let d = shape.d_model;
        let normal = Init::Normal(0.02);
        let residual = Init::Normal(0.02 / (2.0 * shape.n_layers as f64).sqrt());
        let mut all: Vec<(String, Vec<usize>, ParamKind, Init)> =
            vec![("wte".into(), vec![shape.vocab, d], Embedding, normal)];
        if shape.positions == Positions::Learned {
            all.push(("wpe".into(), vec![shape.context, d], Embedding, normal));
        }
        let linears = [
            ("attn.qkv", 3 * d, d, normal),
            ("attn.proj", d, d, residual),
            ("mlp.fc", 4 * d, d, normal),
            ("mlp.proj", d, 4 * d, residual),
        ];
        let blocks = 0..shape.n_layers;
        for i in blocks.clone() {
            for (name, rows, columns, init) in linears {
                all.push((format!("h.{i}.{name}.weight"), vec![rows, columns], Matrix, init));
            }
        }
        for i in blocks {
            for name in ["ln_1", "ln_2"] {
                all.push((format!("h.{i}.{name}.weight"), vec![d], Vector, Init::Ones));
                if shape.bias {
                    all.push((format!("h.{i}.{name}.bias"), vec![d], Vector, Init::Zeros));
                }
            }
            if shape.bias {
                for (name, rows, ..) in linears {
                    all.push((format!("h.{i}.{name}.bias"), vec![rows], Vector, Init::Zeros));
                }
            }
        }
        all.push(("ln_f.weight".into(), vec![d], Vector, Init::Ones));
        if shape.bias {
            all.push(("ln_f.bias".into(), vec![d], Vector, Init::Zeros));
        }

        let mut offset = 0;
        let tensors: Vec<TensorSpec> = all
            .into_iter()
            .map(|(name, dims, kind, init)| {
                let tensor = TensorSpec { name, dims, kind, init, offset };
                offset = tensor.range().end.next_multiple_of(ALIGNMENT);
                tensor
            })
            .collect();
        Self { tensors, len: offset }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weight_decay::DecayScope;
    use proptest::prelude::*;

    /// Sizes as published: each shape's count truncates to it.
    #[test]
    fn counts_are_the_published_sizes() {
        for (name, published, unit) in [
            ("tiny", 41, 1_000_000),
            ("small", 109, 1_000_000),
            ("medium", 334, 1_000_000),
            ("large", 665, 1_000_000),
            ("xl", 127, 10_000_000),
        ] {
            let n = Shape::named(name, PAPER_VOCAB, PAPER_CONTEXT).unwrap().count().paper();
            assert_eq!(n / unit, published, "{name}: {n}");
        }
    }

    #[test]
    fn nano_sizes_are_a_thousandth() {
        let count = |name| Shape::named(name, 512, 64).unwrap().count().paper();
        assert_eq!(count("nano-micro") / 1_000, 14);
        assert_eq!(count("nano-tiny") / 1_000, 41);
        assert_eq!(count("nano-small") / 1_000, 107);
        assert_eq!(count("nano-medium") / 1_000, 328);
        assert_eq!(count("nano-large") / 1_000, 656);
        assert_eq!(count("nano-xl") / 1_000, 1_263);
    }

    #[test]
    fn unknown_and_impossible_shapes_are_refused() {
        let message = Shape::named("huge", 512, 64).unwrap_err().to_string();
        assert!(message.contains("huge") && message.contains("tiny, small"), "{message}");
        let learned = Shape::named("nano-tiny", 5, 4).unwrap();
        let shape = Shape { n_layers: 1, d_model: 10, n_heads: 3, ..learned };
        assert!(shape.validate().is_err());
        assert!(Shape { n_heads: 5, ..shape }.validate().is_ok());
        let odd = Shape { n_heads: 2, positions: Positions::Rotary, ..shape };
        assert!(odd.validate().unwrap_err().to_string().contains("odd width, 5"));
        assert!(Shape { n_heads: 5, ..odd }.validate().is_ok());
        assert!(Shape { n_heads: 5, vocab: 0, ..shape }.validate().is_err());
    }

    /// The identity of runs that were made before there was a choice.
    #[test]
    fn learned_positions_leave_no_trace_in_specifications() {
        let learned = Shape::named("nano-tiny", 512, 64).unwrap();
        let text = serde_json::to_string(&learned).unwrap();
        assert!(!text.contains("positions"), "{text}");
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), learned);
        let rotary = Shape { positions: Positions::Rotary, ..learned };
        let text = serde_json::to_string(&rotary).unwrap();
        assert!(text.contains("\"positions\":\"rotary\""), "{text}");
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), rotary);
        assert_eq!(rotary.count().paper(), learned.count().paper());
    }

    #[test]
    fn residual_projections_start_smaller() {
        let layout = Shape::named("nano-tiny", 512, 64).unwrap().layout();
        for tensor in layout.tensors() {
            let expected = if tensor.name.ends_with("proj.weight") {
                Init::Normal(0.01)
            } else if tensor.name.contains("ln_") {
                Init::Ones
            } else {
                Init::Normal(0.02)
            };
            assert_eq!(tensor.init, expected, "{}", tensor.name);
        }
    }

    proptest! {
        #[test]
        fn tensors_are_disjoint_aligned_and_counted(
            n_layers in 1usize..5, heads in 1usize..4, width in 1usize..20,
            vocab in 1usize..70, context in 1usize..40, bias: bool, rotary: bool,
        ) {
            let d_model = heads * width;
            let positions = if rotary { Positions::Rotary } else { Positions::Learned };
            let shape =
                Shape { n_layers, d_model, n_heads: heads, vocab, context, bias, positions };
            let layout = shape.layout();
            let mut end = 0;
            for tensor in layout.tensors() {
                prop_assert!(tensor.offset >= end && tensor.offset - end < ALIGNMENT);
                prop_assert_eq!(tensor.offset % ALIGNMENT, 0);
                end = tensor.range().end;
            }
            prop_assert!(layout.buffer_len() >= end);
            let total: usize = layout.tensors().iter().map(TensorSpec::len).sum();
            prop_assert_eq!(total as u64, shape.count().trained());
        }

        /// The optimiser decays one range: it must hold all that the scope names, and nothing else.
        #[test]
        fn every_decay_scope_is_one_range(n_layers in 1usize..4, bias: bool) {
            let named = Shape::named("nano-tiny", 7, 5).unwrap();
            let shape = Shape { n_layers, d_model: 6, n_heads: 2, bias, ..named };
            let layout = shape.layout();
            for scope in [DecayScope::All, DecayScope::Matrices, DecayScope::MatricesWithoutEmbeddings] {
                let range = layout.range_of(|t| scope.applies(t.kind)).unwrap();
                for tensor in layout.tensors() {
                    let inside = range.start <= tensor.offset && tensor.range().end <= range.end;
                    prop_assert_eq!(inside, scope.applies(tensor.kind), "{}", tensor.name);
                }
            }
        }
    }
}
