//! The model (the paper's pretraining): a decoder, as arithmetic on shapes.
//!
//! A [`Shape`] describes the architecture: normalisations, positions, attention, MLP, residual
//! form, biases and head. The defaults are GPT-2's, which the paper's models also follow. The other
//! choices are those of models that people finetune (Llama, Qwen, Pythia and similar), which
//! [`checkpoint`](crate::checkpoint) reads.
//!
//! Of the paper's models only the kind ("GPT2-style transformers") and the sizes are known. The
//! shapes below are the round ones whose count 12·L·d² + V·d truncates to each published number,
//! with V = 32,000, tied embeddings and a hidden layer of 4·d (PAPER_MAPPING.md states this
//! inference). This module needs no libtorch. It names every tensor and gives its place in the flat
//! buffer of parameters; `engine` does the computation.

mod layout;

pub use layout::{Init, Layout, TensorSpec};

use crate::{Error, ParamCount, Result};
use serde::{Deserialize, Serialize};

/// Vocabulary of the paper's SentencePiece tokenizer, as its sister papers state it.
pub const PAPER_VOCAB: usize = 32_000;

/// The largest allowed dimension. It keeps products of dimensions within 64 bits.
const MOST: usize = 1 << 24;

/// The largest allowed number of parameters: more than any machine holds, but countable in 64 bits.
const MOST_PARAMETERS: u64 = 1 << 50;

/// The name of the output head's matrix, if it is not the embedding.
const HEAD: &str = "head.weight";

/// Sequence length of the paper, in tokens.
pub const PAPER_CONTEXT: usize = 1_024;

/// What determines the architecture of a model. GPT-2's values are left out when a shape is
/// serialised, so the serialised form of a model does not change when new fields are added.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Transformer blocks, L.
    pub n_layers: usize,
    /// Width of the residual stream, d.
    pub d_model: usize,
    /// Query heads of the attention, h.
    pub n_heads: usize,
    /// Vocabulary size, V.
    pub vocab: usize,
    /// Longest sequence, in tokens, T.
    pub context: usize,
    /// Whether linear maps and normalisations have a bias, as in GPT-2. Off by default, since the
    /// published sizes fit a count without biases (Medium has 334M parameters without, 335M with).
    #[serde(default)]
    pub bias: bool,
    /// The position encoding; the paper's is unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub positions: Positions,
    /// The normalisations: two per block, and one before the head.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: Norm,
    /// Attention, apart from the number of heads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention: Attention,
    /// The part of a block that processes each token separately.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// What the attention and the MLP of a block take as input.
    #[serde(default, skip_serializing_if = "is_default")]
    pub residual: Residual,
    /// The matrix that maps to logits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub head: Head,
}

/// Specifications leave out GPT-2's values.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The position encoding of a model. N never counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned vector per position, added to the embedding: as in GPT-2 and arXiv 2409.03137.
    #[default]
    Learned,
    /// Queries and keys are rotated by angles proportional to their position (Su et al., 2021,
    /// arXiv 2104.09864), as in arXiv 2410.03529. Element i of a head of width w is rotated
    /// together with element i + w/2, by 10000^(−2i/w) radians per position.
    Rotary,
}

/// The normalisations of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// The kind.
    pub kind: NormKind,
    /// Added to the mean square before the square root.
    pub epsilon: f64,
}

impl Default for Norm {
    fn default() -> Self {
        Self { kind: NormKind::Layer, epsilon: 1e-5 }
    }
}

/// What a normalisation does to the d elements of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Layer normalisation: minus the mean, divided by the standard deviation, times learned
    /// weights (Ba et al., 2016, arXiv 1607.06450), as in GPT-2 and Pythia.
    #[default]
    Layer,
    /// Layer normalisation without weights, as in OLMo (Groeneveld et al., 2024, arXiv 2402.00838).
    Plain,
    /// Divided by the root mean square, times learned weights (Zhang and Sennrich, 2019, arXiv
    /// 1910.07467), as in Llama and Qwen. It has no bias.
    Rms,
}

/// The attention of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attention {
    /// Key and value heads, each shared by equally many query heads (grouped-query attention,
    /// Ainslie et al., 2023, arXiv 2305.13245). `None`: one per query head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_kv_heads: Option<usize>,
    /// Width of a head, w. `None`: d / h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Whether queries, keys and values have a bias even if other linear maps have none, as in
    /// Qwen2.
    #[serde(skip_serializing_if = "is_default")]
    pub qkv_bias: bool,
    /// c: queries, keys and values outside −c to c become the nearer of the two, before they are
    /// normalised and rotated, as in the OLMo models of 2024. `None`: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_qkv: Option<f64>,
    /// Whether queries and keys are normalised before rotation, by the root mean square: each head
    /// with weights that all heads share, as in Qwen3.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm: bool,
    /// With `qk_norm`: whether all heads of a token are normalised together, with a weight for each
    /// of their elements, as in OLMo 2.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm_of_all_heads: bool,
    /// The angles of rotary positions.
    #[serde(skip_serializing_if = "is_default")]
    pub rotary: Rotary,
}

/// The angles of rotary positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotary {
    /// θ: of the r rotated elements of a head, element i is rotated by θ^(−2i/r) radians per
    /// position.
    pub theta: f64,
    /// The fraction of a head's elements that is rotated: the first ones, rounded down.
    #[serde(skip_serializing_if = "is_whole")]
    pub fraction: f64,
    /// A reduction of the slow frequencies. `None`: no reduction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<RotaryScaling>,
}

/// Whether all elements of a head are rotated.
fn is_whole(fraction: &f64) -> bool {
    *fraction == 1.0
}

impl Default for Rotary {
    fn default() -> Self {
        Self { theta: 10_000.0, fraction: 1.0, scaling: None }
    }
}

/// How Llama 3.1 extends its context (Grattafiori et al., 2024, arXiv 2407.21783, and its released
/// code). A frequency with a wavelength above original / low positions is divided by the factor,
/// one with a wavelength below original / high is kept, and those in between are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotaryScaling {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// low: wavelengths above original / low are divided by the factor.
    pub low: f64,
    /// high, more than low: wavelengths below original / high are kept.
    pub high: f64,
    /// The original context length, in positions.
    pub original: f64,
}

impl Rotary {
    /// The number of rotated elements of a head, r.
    pub fn elements(&self, head_width: usize) -> usize {
        (head_width as f64 * self.fraction) as usize
    }

    /// Radians per position by which element i of r is rotated, together with element i + r/2.
    pub fn rate(&self, i: usize, elements: usize) -> f64 {
        let rate = libm::pow(self.theta, -2.0 * i as f64 / elements as f64);
        let Some(RotaryScaling { factor, low, high, original }) = self.scaling else { return rate };
        let turns = original * rate / (2.0 * std::f64::consts::PI);
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        kept * rate + (1.0 - kept) * rate / factor
    }
}

/// The part of a block that processes each token separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mlp {
    /// Width of the hidden layer, f. `None`: 4·d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
    /// The activation of the hidden layer.
    pub activation: Activation,
}

/// The activation of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// GELU in its tanh approximation, as in GPT-2.
    #[default]
    GeluTanh,
    /// Exact GELU, x·Φ(x) (Hendrycks and Gimpel, 2016, arXiv 1606.08415), as in Pythia and
    /// Cerebras-GPT.
    Gelu,
    /// SwiGLU: silu(g)·u of two layers of width f, with silu(g) = g·σ(g), stored g before u
    /// (Shazeer, 2020, arXiv 2002.05202), as in Llama and Qwen.
    Swiglu,
}

/// What the attention and the MLP of a block take as input, and where their normalisations are. Their
/// outputs are added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Residual {
    /// Sequential: the MLP reads the residual stream after attention, as in GPT-2 and Llama.
    #[default]
    Sequential,
    /// Parallel: both read the same residual stream, each with its own normalisation, as in Pythia.
    Parallel,
    /// Sequential, with the normalisations after attention and after the MLP in place of before
    /// them: they read the residual stream as it is, and what is added to it is normalised, as in
    /// OLMo 2 (Walsh et al., 2024, arXiv 2501.00656).
    NormAfter,
}

/// The matrix that maps to logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The token embedding (tied).
    #[default]
    Tied,
    /// A separate matrix.
    Own,
}

/// The precision of a model's computation. Parameters, gradients and moments are always in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16, as in the paper: matrix products, attention and the GELU have bf16 inputs and outputs,
    /// and parameters are rounded to bf16 once per pass. Normalisations, embeddings, the residual
    /// stream, attention's softmax and the cross-entropy are computed in f32.
    Bf16,
}

impl Precision {
    /// The default, which specifications leave out.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// `(name, layers, width, heads)`: the paper's five sizes, then sizes a thousand times smaller for
/// two CPU cores, and three in between for one GPU. We chose the number of heads of `tiny` and
/// `large`; the others are those of the sister papers.
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
    /// If no size has this name; the message lists the names.
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
        let shape = Self::gpt2(n_layers, d_model, n_heads, vocab, context);
        shape.validate()?;
        Ok(shape)
    }

    /// A GPT-2 decoder without biases.
    pub fn gpt2(
        n_layers: usize,
        d_model: usize,
        n_heads: usize,
        vocab: usize,
        context: usize,
    ) -> Self {
        Self {
            n_layers,
            d_model,
            n_heads,
            vocab,
            context,
            bias: false,
            positions: Positions::default(),
            norm: Norm::default(),
            attention: Attention::default(),
            mlp: Mlp::default(),
            residual: Residual::default(),
            head: Head::default(),
        }
    }

    /// The same shape without explicit values that equal the defaults. Otherwise one architecture
    /// could give a run two identities.
    pub fn canonical(mut self) -> Self {
        let Self { d_model, n_heads, attention, mlp, .. } = &mut self;
        mlp.d_ff = mlp.d_ff.filter(|&d_ff| d_ff != 4 * *d_model);
        attention.n_kv_heads = attention.n_kv_heads.filter(|heads| heads != n_heads);
        let usual = |width: &usize| width.checked_mul(*n_heads) == Some(*d_model);
        attention.head_width = attention.head_width.filter(|width| !usual(width));
        self
    }

    /// The number of key and value heads.
    pub fn n_kv_heads(&self) -> usize {
        self.attention.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Width of a head, w.
    pub fn head_width(&self) -> usize {
        self.attention.head_width.unwrap_or(self.d_model / self.n_heads)
    }

    /// Query elements over all heads, h·w.
    pub fn d_queries(&self) -> usize {
        self.n_heads * self.head_width()
    }

    /// Query and key elements over all heads.
    pub fn d_queries_and_keys(&self) -> usize {
        self.d_queries() + self.n_kv_heads() * self.head_width()
    }

    /// Query, key and value elements over all heads.
    pub fn d_qkv(&self) -> usize {
        self.d_queries_and_keys() + self.n_kv_heads() * self.head_width()
    }

    /// Elements of queries, and of keys, that are normalised together.
    pub(crate) fn qk_norm_widths(&self) -> [usize; 2] {
        if self.attention.qk_norm_of_all_heads {
            [self.d_queries(), self.d_queries_and_keys() - self.d_queries()]
        } else {
            [self.head_width(); 2]
        }
    }

    /// Width of the MLP's hidden layer, f.
    pub fn d_ff(&self) -> usize {
        self.mlp.d_ff.unwrap_or(4 * self.d_model)
    }

    /// Output elements of the MLP's first linear map: f, or 2·f if one half gates the other.
    pub fn d_fc(&self) -> usize {
        match self.mlp.activation {
            Activation::GeluTanh | Activation::Gelu => self.d_ff(),
            Activation::Swiglu => 2 * self.d_ff(),
        }
    }

    /// The linear maps of a block.
    fn linears(&self) -> [LinearMap; 4] {
        let d = self.d_model;
        let map = |name, outputs, inputs| LinearMap { name, outputs, inputs };
        [
            map("attn.qkv", self.d_qkv(), d),
            map("attn.proj", d, self.d_queries()),
            map("mlp.fc", self.d_fc(), d),
            map("mlp.proj", d, self.d_ff()),
        ]
    }

    /// Parameters of the linear maps of a block, without biases.
    pub(crate) fn matrices(&self) -> u64 {
        self.linears().iter().map(|map| map.outputs as u64 * map.inputs as u64).sum()
    }

    /// The names that [`Shape::named`] knows: the paper's sizes, then the nano and the mini ones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }

    /// # Errors
    /// If a dimension is zero or above the maximum, the heads do not divide the dimensions they
    /// share, the number of rotated elements is odd, or a number is not finite.
    pub fn validate(&self) -> Result<()> {
        self.validate_as(|field| field.to_string())
    }

    /// Does what [`validate`](Self::validate) does; messages use the names that `named` gives to the fields.
    pub(crate) fn validate_as(&self, named: impl Fn(&'static str) -> String) -> Result<()> {
        for (name, value) in [
            ("n_layers", self.n_layers),
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("vocab", self.vocab),
            ("context", self.context),
            ("n_kv_heads", self.n_kv_heads()),
            ("head_width", self.attention.head_width.unwrap_or(1)),
            ("d_ff", self.mlp.d_ff.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::setting(named(name), value, "must be at least 1"));
            }
            if value > MOST {
                let requirement = format!("must be at most {MOST} to be believed");
                return Err(Error::setting(named(name), value, requirement));
            }
        }
        let (heads, kv_heads) = (self.n_heads, self.n_kv_heads());
        if self.attention.head_width.is_none() && !self.d_model.is_multiple_of(heads) {
            let requirement = format!("must divide {} = {}", named("d_model"), self.d_model);
            return Err(Error::setting(named("n_heads"), heads, requirement));
        }
        if !heads.is_multiple_of(kv_heads) {
            let requirement = format!("must divide {} = {heads}", named("n_heads"));
            return Err(Error::setting(named("n_kv_heads"), kv_heads, requirement));
        }
        let positive = |name: &'static str, value: f64| {
            let fits = value.is_finite() && value > 0.0;
            let refuse = || Error::setting(named(name), value, "must be a finite number above 0");
            if fits { Ok(()) } else { Err(refuse()) }
        };
        positive("epsilon", self.norm.epsilon)?;
        self.attention.clip_qkv.map_or(Ok(()), |clip| positive("clip_qkv", clip))?;
        if self.attention.qk_norm_of_all_heads && !self.attention.qk_norm {
            let requirement = "must be false without qk_norm";
            return Err(Error::setting(named("qk_norm_of_all_heads"), true, requirement));
        }
        if self.positions == Positions::Rotary {
            let Rotary { theta, fraction, scaling } = self.attention.rotary;
            positive("theta", theta)?;
            let (width, elements) =
                (self.head_width(), self.attention.rotary.elements(self.head_width()));
            if is_whole(&fraction) && !width.is_multiple_of(2) {
                let requirement =
                    format!("must be even, to rotate pairs of the {width} elements of a head");
                return Err(Error::setting(named("head_width"), width, requirement));
            }
            if elements == 0 || elements > width || !elements.is_multiple_of(2) {
                let requirement = format!("must rotate pairs of the {width} elements of a head");
                return Err(Error::setting(named("rotary fraction"), fraction, requirement));
            }
            if let Some(RotaryScaling { factor, low, high, original }) = scaling {
                let numbers = [("factor", factor), ("low", low), ("high", high)];
                for (name, value) in numbers.into_iter().chain([("original", original)]) {
                    positive(name, value)?;
                }
                if high <= low {
                    let requirement = format!("must be above {} = {low}", named("low"));
                    return Err(Error::setting(named("high"), high, requirement));
                }
            }
        }
        let all = self.matrices().checked_mul(self.n_layers as u64);
        if all.is_none_or(|all| all > MOST_PARAMETERS) {
            let requirement = format!("must have at most {MOST_PARAMETERS} parameters");
            return Err(Error::setting(
                "the model",
                format!("{} layers", self.n_layers),
                requirement,
            ));
        }
        Ok(())
    }

    /// N, with and without embeddings.
    pub fn count(&self) -> ParamCount {
        let mut count = ParamCount { non_embedding: 0, embedding: 0, head: 0, positions: 0 };
        for tensor in self.layout().tensors() {
            let of = match tensor.name.as_str() {
                "wte" => &mut count.embedding,
                HEAD => &mut count.head,
                "wpe" => &mut count.positions,
                _ => &mut count.non_embedding,
            };
            *of += tensor.len() as u64;
        }
        count
    }

    /// Floating-point operations of one training step per token: forward and backward of every
    /// matrix product, 6 per weight, plus attention's 12·L·h·w·T (Chowdhery et al., PaLM,
    /// arXiv 2204.02311, appendix B; causal masking is not discounted).
    pub fn train_flops_per_token(&self) -> f64 {
        let (l, d, t) = (self.n_layers as f64, self.d_model as f64, self.context as f64);
        let matrices = l * self.matrices() as f64 + self.vocab as f64 * d;
        6.0 * matrices + 12.0 * l * self.d_queries() as f64 * t
    }

    /// The place of every tensor in the flat buffer.
    pub fn layout(&self) -> Layout {
        Layout::new(self)
    }
}

/// A linear map of a block, by the end of its tensors' names.
#[derive(Debug, Clone, Copy)]
struct LinearMap {
    name: &'static str,
    outputs: usize,
    inputs: usize,
}

#[cfg(test)]
mod tests {
    use super::layout::ALIGNMENT;
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
        assert!(odd.validate().unwrap_err().to_string().contains("pairs of the 5 elements"));
        assert!(Shape { n_heads: 5, ..odd }.validate().is_ok());
        assert!(Shape { n_heads: 5, vocab: 0, ..shape }.validate().is_err());
        let whole = Attention { qk_norm_of_all_heads: true, ..Attention::default() };
        let message = Shape { attention: whole, ..learned }.validate().unwrap_err().to_string();
        assert!(message.contains("qk_norm_of_all_heads = true"), "{message}");
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

    /// DataDecide's models have heads of their own. Their paper's sizes, and the N of its rule for
    /// peak rates, count V·d once.
    #[test]
    fn a_head_of_its_own_is_trained_but_not_in_n() {
        for (n_layers, d, heads, published) in
            [(8, 64, 8, 3.7), (16, 384, 12, 57.1), (16, 2_048, 16, 1_176.8)]
        {
            let tied = Shape {
                positions: Positions::Rotary,
                norm: Norm { kind: NormKind::Rms, epsilon: 1e-5 },
                mlp: Mlp { d_ff: None, activation: Activation::Swiglu },
                ..Shape::gpt2(n_layers, d, heads, 50_304, 2_048)
            };
            let own = Shape { head: Head::Own, ..tied };
            let (n, v_d) = (own.count(), 50_304 * d as u64);
            assert!((n.paper() as f64 / 1e6 - published).abs() < 0.1, "{n:?}");
            assert_eq!(n, ParamCount { head: v_d, ..tied.count() });
            assert_eq!(n.trained(), tied.count().trained() + v_d);
            // Records of tied models are as they were, and are read.
            let text = serde_json::to_string(&tied.count()).unwrap();
            assert!(!text.contains("head"), "{text}");
            assert_eq!(serde_json::from_str::<ParamCount>(&text).unwrap(), tied.count());
        }
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
                Shape { bias, positions, ..Shape::gpt2(n_layers, d_model, heads, vocab, context) };
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
