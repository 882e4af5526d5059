//! The memory that training needs, computed from the shape of the model: how many bytes a step takes,
//! which micro-batch fits a device, and whether the activations of a block must be recomputed in the
//! backward pass (activation checkpointing; Chen et al., 2016, arXiv 1604.06174).
//!
//! The counts are those of this crate's two engines. The activations of a block are summed tensor by
//! tensor from the description of the model. Tests compare the sums with the buffers of the CPU engine
//! and with what libtorch allocates.
//!
//! ```
//! use forgetting_laws::memory::{Asked, Workload};
//! use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Precision, Shape};
//! use forgetting_laws::run::EngineKind;
//! let xl = Workload {
//!     shape: Shape::named("xl", PAPER_VOCAB, PAPER_CONTEXT).unwrap(),
//!     engine: EngineKind::Torch,
//!     on_gpu: true,
//!     precision: Precision::Bf16,
//!     threads: 1,
//!     batch: 16,
//! };
//! let passes = xl.choose(Asked::default(), Some(80_000_000_000)).unwrap();
//! assert_eq!((passes.micro_batch, passes.recompute), (16, false));
//! assert!(xl.choose(Asked::default(), Some(24_000_000_000)).is_err());
//! ```

use crate::model::{Activation, NormKind, Positions, Precision, Residual, Shape};
use crate::run::EngineKind;
use crate::{Error, Result};

/// The share of a device's memory that a plan may use. The rest is for what is not counted: the context
/// of CUDA and its libraries, and gaps between allocations.
pub const USABLE: f64 = 0.9;

/// Tokens that a thread of the CPU engine takes through the model at a time, unless one sequence is
/// longer.
pub(crate) const GROUP_TOKENS: usize = 128;

/// Logits that a thread of the CPU engine holds at a time; at least those of [`LOGIT_TOKENS`] tokens.
const CPU_LOGITS: usize = 1 << 16;
const LOGIT_TOKENS: usize = 64;

/// Tokens whose logits a thread of the CPU engine holds at a time.
pub(crate) fn cpu_logit_tokens(vocab: usize) -> usize {
    LOGIT_TOKENS.max(CPU_LOGITS / vocab)
}

/// Logits that libtorch holds at a time (64 MiB of f32), so that the loss over a vocabulary of 32,000
/// needs no buffer of batch × context × vocabulary.
const TORCH_LOGITS: usize = 1 << 24;

/// The same on a GPU (512 MiB), which needs larger matrix products to be busy.
const TORCH_LOGITS_ON_GPU: usize = 1 << 27;

/// Tokens of one forward pass in an evaluation on libtorch. It is a constant because the bits of a loss
/// depend on how the set is cut into batches.
pub(crate) const EVALUATION_TOKENS: usize = 4_096;

/// Tokens whose logits libtorch's network holds at a time.
pub(crate) fn torch_logit_tokens(vocab: usize, on_gpu: bool) -> usize {
    let logits = if on_gpu { TORCH_LOGITS_ON_GPU } else { TORCH_LOGITS };
    (logits / vocab).max(1)
}

/// What one rank trains on one device. Each rank holds all parameters, gradients and moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// The model, whose context is the length of the sequences.
    pub shape: Shape,
    /// The engine.
    pub engine: EngineKind,
    /// Whether the engine computes on a GPU.
    pub on_gpu: bool,
    /// The precision.
    pub precision: Precision,
    /// Threads of the CPU engine.
    pub threads: usize,
    /// Sequences per step on this rank.
    pub batch: usize,
}

/// How the sequences of a step go through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passes {
    /// Sequences per forward and backward pass. The CPU engine ignores it and cuts a step by itself.
    pub micro_batch: usize,
    /// Whether a block keeps only its input and is computed again in the backward pass.
    pub recompute: bool,
}

/// What the user sets of [`Passes`]; `None` means whatever fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// The most sequences per pass.
    pub micro_batch: Option<usize>,
    /// Whether blocks are recomputed in the backward pass.
    pub recompute: Option<bool>,
}

/// Bytes that training takes at its peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The parameters θ and their copies: rounded to bf16, or packed for the products of the CPU
    /// engine, which also keeps the model that training started from.
    pub parameters: u64,
    /// Gradients of the parameters; in bf16 also a second copy of those of the matrices.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// The logits held at a time, and what is computed from them.
    pub logits: u64,
    /// The gradients of a block's activations, and other short-lived tensors.
    pub workspace: u64,
}

impl Memory {
    /// The sum of all parts.
    pub fn total(&self) -> u64 {
        self.state() + self.activations + self.logits + self.workspace
    }

    /// The part that does not depend on the number of sequences: parameters, gradients and moments.
    pub fn state(&self) -> u64 {
        self.parameters + self.gradients + self.moments
    }
}

impl Workload {
    /// The memory that training takes.
    pub fn memory(&self, passes: Passes) -> Memory {
        match self.engine {
            EngineKind::Cpu => self.on_cpu_engine(passes),
            EngineKind::Torch => self.on_libtorch(passes),
        }
    }

    /// The most sequences per pass for which the total is at most `bytes`; `None` if not even one fits.
    pub fn largest_micro_batch(&self, recompute: bool, bytes: u64) -> Option<usize> {
        let fits = |micro_batch| self.memory(Passes { micro_batch, recompute }).total() <= bytes;
        // What is needed never falls with the number of sequences.
        let (mut fit, mut too_many) = (0, self.batch.max(1) + 1);
        while too_many - fit > 1 {
            let middle = fit + (too_many - fit) / 2;
            *(if fits(middle) { &mut fit } else { &mut too_many }) = middle;
        }
        (fit > 0).then_some(fit)
    }

    /// The passes that fit into [`USABLE`] of a device's memory (in bytes) and respect what is asked.
    /// Blocks are recomputed only if nothing fits otherwise; then as many sequences per pass as fit are
    /// chosen. If the memory is `None`, everything fits.
    ///
    /// # Errors
    /// If nothing fits. The message says how much is needed, and how many sequences would fit.
    pub fn choose(&self, asked: Asked, device: Option<u64>) -> Result<Passes> {
        let most = asked.micro_batch.unwrap_or(self.batch).clamp(1, self.batch.max(1));
        let Some(device) = device else {
            return Ok(Passes { micro_batch: most, recompute: asked.recompute.unwrap_or(false) });
        };
        let usable = (device as f64 * USABLE) as u64;
        let fitting = |recompute| self.largest_micro_batch(recompute, usable);
        let either = [false, true].into_iter();
        for recompute in either.filter(|&recompute| asked.recompute.is_none_or(|a| a == recompute))
        {
            match (fitting(recompute), asked.micro_batch) {
                (Some(fit), None) => return Ok(Passes { micro_batch: fit, recompute }),
                (Some(fit), Some(_)) if fit >= most => {
                    return Ok(Passes { micro_batch: most, recompute });
                }
                _ => {}
            }
        }
        let micro_batch = asked.micro_batch.map_or(1, |_| most);
        let memory = self.memory(Passes { micro_batch, recompute: asked.recompute != Some(false) });
        let fit = |recompute: bool, how| {
            fitting(recompute).map(|fit| format!("; {} would fit {how}", fit.min(most)))
        };
        let remedy = fit(false, "at a time")
            .or_else(|| fit(true, "if activations are recomputed"))
            .unwrap_or_default();
        let requirement = format!(
            "is too little for {} parameters with {micro_batch} sequence(s) of {} tokens at a time: they \
             need {:.1} GB ({:.1} GB of it for parameters, gradients and moments), and {:.1} GB may be \
             used{remedy}",
            self.shape.count().trained(),
            self.shape.context,
            gigabytes(memory.total()),
            gigabytes(memory.state()),
            gigabytes(usable),
        );
        Err(Error::setting("device memory", format!("{:.1} GB", gigabytes(device)), requirement))
    }

    /// Buffers of `engine::cpu`, in f32, without the padding of lines and panels.
    fn on_cpu_engine(&self, passes: Passes) -> Memory {
        let shape = &self.shape;
        let (d, context) = (shape.d_model, shape.context.max(1));
        let sequences = (GROUP_TOKENS / context).max(1).min(self.batch.max(1));
        let groups = self.batch.div_ceil(sequences).clamp(1, self.threads.max(1));
        let (n, parameters) = (sequences * context, shape.layout().buffer_len());
        let head = shape.vocab * d;
        let packed = 2 * (shape.n_layers * shape.matrices() as usize + head);
        let heads = shape.d_queries_and_keys() * usize::from(shape.attention.qk_norm);
        let gradients_of_block = 3 * d + 2 * d // of the residual stream, and of what is normalised
            + shape.d_qkv()
            + heads
            + shape.d_queries()
            + shape.d_ff()
            + shape.d_fc()
            // Of what is normalised after attention and after the MLP, and that itself.
            + 3 * d * usize::from(shape.residual == Residual::NormAfter);
        let inputs = d.max(shape.d_queries()).max(shape.d_ff());
        let at_a_time = cpu_logit_tokens(shape.vocab);
        let logits = groups * n.min(at_a_time * groups) * shape.vocab;
        Memory {
            parameters: f32s(2 * parameters + packed),
            gradients: f32s(parameters),
            moments: f32s(2 * parameters),
            activations: f32s(groups * n * self.cpu_kept(passes.recompute)),
            logits: f32s(logits),
            workspace: f32s(
                groups * n * (d + gradients_of_block)
                    // A map's inputs, packed, and the gradient of a step's embeddings.
                    + n * inputs
                    + self.batch * context * d,
            ),
        }
    }

    /// Elements that the CPU engine keeps for each token of a group.
    pub(crate) fn cpu_kept(&self, recompute: bool) -> usize {
        let Shape { d_model: d, n_layers, n_heads, .. } = self.shape;
        // x̂ and the output, each of this width, and one rate.
        let normalised = |width: usize| 2 * width + 1;
        let mut block = 2 * normalised(d)
            + self.shape.d_qkv()
            + 2 * n_heads // largest score and sum of each query
            + self.shape.d_queries()
            + self.shape.d_ff()
            + self.shape.d_fc();
        if self.shape.attention.qk_norm {
            block += 2 * self.shape.d_queries_and_keys() + self.rates_of_qk_norm();
        }
        if self.shape.attention.clip_qkv.is_some() {
            block += self.shape.d_qkv();
        }
        if self.shape.residual == Residual::NormAfter {
            block += 2 * d; // what attention and the MLP were given
        }
        let blocks = if recompute { n_layers * d + block } else { n_layers * block };
        // The residual stream, and the last normalisation.
        blocks + d + normalised(d)
    }

    /// Rates that the normalisations of a token's queries and keys have.
    fn rates_of_qk_norm(&self) -> usize {
        if self.shape.attention.qk_norm_of_all_heads {
            2
        } else {
            self.shape.n_heads + self.shape.n_kv_heads()
        }
    }

    /// Tensors of `engine::torch`.
    fn on_libtorch(&self, passes: Passes) -> Memory {
        let shape = &self.shape;
        let (d, vocab) = (shape.d_model, shape.vocab);
        let n = passes.micro_batch.clamp(1, self.batch.max(1)) * shape.context;
        let layout = shape.layout();
        let parameters = layout.buffer_len();
        let matrices = shape.n_layers * shape.matrices() as usize;
        let embedding = vocab * d;
        let half = match self.precision {
            Precision::F32 => 0,
            Precision::Bf16 => 2,
        };
        let own_head = shape.count().head as usize;
        let kept = self.kept_by_blocks(passes.recompute) + 4 * d; // and the last one's result
        let rows = n.min(torch_logit_tokens(vocab, self.on_gpu));
        // Logits in f32. In bf16 there is a second copy of them, and of the gradient of the head.
        let logits = rows * vocab * (4 + half) + half * embedding;
        // Hidden states, their gradient and the product of both; the input and the output of a
        // block; and the gradients of the larger of its two halves.
        let k = self.element();
        let mlp = match shape.mlp.activation {
            Activation::GeluTanh | Activation::Gelu => 2 * shape.d_ff(),
            Activation::Swiglu => 5 * shape.d_ff(),
        };
        let attention = 2 * shape.d_qkv();
        let workspace = n * (20 * d + k * (d + mlp.max(attention)));
        // When the gradient of the embedding is computed, the activations of all blocks are no
        // longer held.
        let of_embedding = (4 * embedding).saturating_sub(n * kept);
        // An evaluation keeps nothing, but may have more tokens at a time: the most that one block holds, or
        // hidden states, logits and the logarithms of their softmax.
        let evaluated = (EVALUATION_TOKENS / shape.context).max(1) * shape.context;
        let evaluated_rows = evaluated.min(torch_logit_tokens(vocab, self.on_gpu));
        let of_evaluation = (evaluated * self.held_by_block())
            .max(evaluated * 4 * d + evaluated_rows * (k * d + 8 * vocab))
            .saturating_sub(n * kept + logits);
        Memory {
            parameters: f32s(parameters) + (half * (matrices + own_head + embedding)) as u64,
            gradients: f32s(parameters) + (half * (matrices + own_head)) as u64,
            moments: f32s(2 * parameters),
            activations: (n * kept) as u64,
            logits: logits as u64,
            workspace: workspace.max(of_embedding).max(of_evaluation) as u64,
        }
    }

    /// Bytes per element of the result of a matrix product.
    fn element(&self) -> usize {
        match self.precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// Bytes per token that libtorch keeps for all blocks and the last normalisation.
    pub(crate) fn kept_by_blocks(&self, recompute: bool) -> usize {
        let (d, n_layers, block) = (self.shape.d_model, self.shape.n_layers, self.kept_by_block());
        let blocks = if recompute { 4 * n_layers * d + block } else { n_layers * block };
        blocks + 4 * d + self.normalised(d)
    }

    /// Bytes that a normalisation of `width` elements keeps, apart from its input and its f32 output.
    fn normalised(&self, width: usize) -> usize {
        match self.shape.norm.kind {
            NormKind::Layer | NormKind::Plain => 8, // mean and rate
            NormKind::Rms => 4 + 4 * width,         // rate and x̂
        }
    }

    /// The most bytes per token that libtorch holds in a block of a forward pass that keeps nothing: the
    /// residual stream, and what is made of it last.
    fn held_by_block(&self) -> usize {
        let (shape, k) = (&self.shape, self.element());
        let (d, f, queries) = (shape.d_model, shape.d_ff(), shape.d_queries());
        let keys = shape.d_queries_and_keys() - queries;
        let (turned, normalised) = (shape.positions == Positions::Rotary, shape.attention.qk_norm);
        let shared = shape.n_kv_heads() < shape.n_heads;
        // Where products are in bf16 and what follows is not, it begins with a copy.
        let copied = if k == 2 { 4 } else { 0 };
        let norm = match shape.norm.kind {
            NormKind::Layer | NormKind::Plain => 4 * d,
            NormKind::Rms => 8 * d, // x̂ and the result
        };
        // Normalised heads are x̂ and the result; of elements that turn there are both halves in turn, two
        // products and their sum.
        let heads_of = |elements: usize| {
            let of_norm = if normalised { (copied + 8) * elements } else { 0 };
            let turning = shape.attention.rotary.elements(shape.head_width());
            let turning = elements / shape.head_width() * turning;
            let given = if normalised { k * elements } else { 0 };
            let of_turn = if turned { given + (copied + 16) * turning } else { 0 };
            of_norm.max(of_turn)
        };
        let made = |elements: usize| if turned || normalised { k * elements } else { 0 };
        // Queries first; then keys; then what each head of queries is given of keys and values, and the
        // result.
        let attended = k * queries + 4 * shape.n_heads;
        let repeated = if shared { 2 * k * queries } else { 0 };
        let attention = heads_of(queries)
            .max(made(queries) + heads_of(keys))
            .max(made(queries + keys) + repeated + attended);
        let attention = 4 * d + k * shape.d_qkv() + attention;
        // The stream in the middle of the block, beside all of the MLP.
        let hidden = match shape.mlp.activation {
            Activation::GeluTanh | Activation::Gelu => 2 * f,
            Activation::Swiglu => 4 * f, // g and u, silu(g), and the product
        };
        let mlp = 4 * d + norm.max(4 * d + k * hidden).max(4 * d + k * (f + d));
        4 * d + norm.max(attention).max(mlp)
    }

    /// Bytes per token that libtorch keeps for one block, in the order of its forward pass.
    fn kept_by_block(&self) -> usize {
        let (shape, k) = (&self.shape, self.element());
        let (d, f, heads) = (shape.d_model, shape.d_ff(), shape.n_heads);
        let (queries, keys) = (shape.d_queries(), shape.d_qkv() - shape.d_queries_and_keys());
        // Both normalisations, what they are given, and what the matrix products read: their outputs, or
        // the residual stream. They are given that before the block and, if the MLP reads it there, between
        // the two halves; or what is added to it.
        let given_to_norms = if shape.residual == Residual::Parallel { 1 } else { 2 };
        let norms = given_to_norms * 4 * d + 2 * (self.normalised(d) + k * d);
        let (turned, shared) = (shape.positions == Positions::Rotary, shape.n_kv_heads() < heads);
        let normalised = shape.attention.qk_norm;
        // Queries, keys and values as the first product returns them, if any of them is kept in
        // this form; then those of them that were transformed.
        let given = if !turned && !normalised || !shared || normalised && k == 4 {
            k * shape.d_qkv()
        } else {
            0
        };
        let heads_of_queries = queries * usize::from(turned || normalised);
        let heads_of_keys = if shared { queries } else { keys * usize::from(turned || normalised) };
        let heads_of_values = if shared { queries } else { 0 };
        let made = k * (heads_of_queries + heads_of_keys + heads_of_values);
        // In f32: x̂ and one rate per head; in bf16 also the input.
        let norms_of_heads = if normalised {
            let elements = queries + keys;
            4 * (elements + self.rates_of_qk_norm()) + if k == 2 { 4 * elements } else { 0 }
        } else {
            0
        };
        // One logarithm per query, and the output of attention, which the next product reads. If
        // the queries were assembled from parts, its elements are in another order, and there is a
        // second copy.
        let in_parts =
            turned && shape.attention.rotary.elements(shape.head_width()) < shape.head_width();
        let attention = 4 * heads + k * queries * if in_parts { 2 } else { 1 };
        let mlp = match shape.mlp.activation {
            Activation::GeluTanh | Activation::Gelu => 2 * f, // before and after
            Activation::Swiglu => 4 * f,                      // g and u, silu(g), and the product
        };
        let clipped = if shape.attention.clip_qkv.is_some() { k * shape.d_qkv() } else { 0 };
        norms + given + clipped + made + norms_of_heads + attention + k * mlp
    }
}

fn f32s(elements: usize) -> u64 {
    4 * elements as u64
}

/// Bytes in units of 10⁹.
pub fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attention, Head, Mlp, Norm, PAPER_CONTEXT, PAPER_VOCAB, Rotary};

    fn on_gpu(shape: Shape, precision: Precision, batch: usize) -> Workload {
        Workload { shape, engine: EngineKind::Torch, on_gpu: true, precision, threads: 1, batch }
    }

    fn paper(size: &str, batch: usize) -> Workload {
        let shape = Shape::named(size, PAPER_VOCAB, PAPER_CONTEXT).unwrap();
        on_gpu(shape, Precision::Bf16, batch)
    }

    /// The published shape of Qwen2.5-1.5B (its config.json), on sequences of 1,024 tokens.
    fn qwen() -> Shape {
        Shape {
            positions: Positions::Rotary,
            norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
            attention: Attention {
                n_kv_heads: Some(2),
                qkv_bias: true,
                rotary: Rotary { theta: 1e6, ..Rotary::default() },
                ..Attention::default()
            },
            mlp: Mlp { d_ff: Some(8_960), activation: Activation::Swiglu },
            ..Shape::gpt2(28, 1_536, 12, 151_936, 1_024)
        }
    }

    /// Both matrices of an untied model are held, though N counts one.
    #[test]
    fn a_head_of_its_own_takes_memory() {
        let passes = Passes { micro_batch: 1, recompute: false };
        let memory = |shape| on_gpu(shape, Precision::Bf16, 64).memory(passes);
        let (tied, own) = (memory(qwen()), memory(Shape { head: Head::Own, ..qwen() }));
        let v_d = 151_936 * 1_536;
        assert_eq!(own.parameters - tied.parameters, 6 * v_d);
        assert_eq!(own.gradients - tied.gradients, 6 * v_d);
        assert_eq!(own.moments - tied.moments, 8 * v_d);
    }

    /// As `docs/models.md` states it.
    #[test]
    fn xl_and_a_qwen_of_one_and_a_half_billion_fit_80_gb() {
        let device = Some(80_000_000_000);
        let (xl, qwen) = (paper("xl", 16), on_gpu(qwen(), Precision::Bf16, 64));
        assert_eq!(qwen.shape.count().trained(), 1_543_714_304);
        for (workload, recompute, stated) in
            [(xl, false, "56.9"), (xl, true, "32.3"), (qwen, false, "86.6"), (qwen, true, "38.7")]
        {
            let memory = workload.memory(Passes { micro_batch: 16, recompute });
            assert_eq!(format!("{:.1}", gigabytes(memory.total())), stated);
        }
        let passes = |micro_batch, recompute| Passes { micro_batch, recompute };
        let all = Asked::default();
        assert_eq!(xl.choose(all, device).unwrap(), passes(16, false));
        assert_eq!(qwen.choose(all, device).unwrap(), passes(11, false));
        // With more sequences at a time than fit, blocks are computed again.
        let sixteen = Asked { micro_batch: Some(16), recompute: None };
        assert_eq!(qwen.choose(sixteen, device).unwrap(), passes(16, true));
        let never = Asked { recompute: Some(false), ..sixteen };
        let refusal = qwen.choose(never, device).unwrap_err().to_string();
        assert!(refusal.contains("need 86.6 GB (30.4 GB of it"), "{refusal}");
        assert!(refusal.ends_with("; 11 would fit at a time"), "{refusal}");
        let refusal = qwen.choose(all, Some(30_000_000_000)).unwrap_err().to_string();
        assert!(refusal.starts_with("device memory = 30.0 GB: is too little"), "{refusal}");
        assert!(refusal.ends_with("may be used") && !refusal.contains('\n'), "{refusal}");
        // Where nothing is known of a device, all is taken to fit.
        assert_eq!(qwen.choose(all, None).unwrap(), passes(64, false));
    }

    /// Counted by `tools/no-gpu`, where all but the arithmetic of a GPU is real: GB of steps of 16
    /// sequences.
    #[test]
    fn the_papers_sizes_need_what_a_gpu_is_asked_for() {
        for (size, counted) in
            [("tiny", 4.2), ("small", 9.0), ("medium", 23.5), ("large", 36.1), ("xl", 57.8)]
        {
            let passes = Passes { micro_batch: 16, recompute: false };
            let planned = gigabytes(paper(size, 16).memory(passes).total());
            assert!((planned / counted - 1.0).abs() < 0.07, "{size}: {planned} and {counted}");
        }
    }

    #[test]
    fn more_sequences_never_need_less_and_the_largest_number_that_fits_is_found() {
        let cpu = |workload| Workload { engine: EngineKind::Cpu, threads: 3, ..workload };
        for workload in
            [paper("tiny", 24), cpu(paper("tiny", 24)), on_gpu(qwen(), Precision::F32, 24)]
        {
            for recompute in [false, true] {
                let total =
                    |micro_batch| workload.memory(Passes { micro_batch, recompute }).total();
                for micro_batch in 1..24 {
                    assert!(total(micro_batch) <= total(micro_batch + 1));
                    let most = workload.largest_micro_batch(recompute, total(micro_batch)).unwrap();
                    assert!(most >= micro_batch && total(most) == total(micro_batch));
                }
                assert_eq!(workload.largest_micro_batch(recompute, total(1) - 1), None);
            }
        }
    }
}
