//! The decoder on a CPU, written by hand: forward and backward passes of every layer in safe Rust.
//! It is for models that are too small to keep a tensor library busy, and its losses are the same
//! to the last bit on every machine.
//!
//! No result depends on the processor's vector instructions, on the number of threads, or on how many
//! sequences are taken through the model at a time: each element of a gradient is one chain of sums over
//! the step's tokens in their order. Tokens go through the model in groups, so that their activations stay
//! in the cache and memory does not grow with the step.
//!
//! From bottom to top: `aligned`, `simd` and `math`; `matmul`; the layers (`linear`, `layers`,
//! `attention`, `head`), each with its forward and backward pass side by side; the blocks of the
//! model (`group`); and in this file what is done over all groups. `adamw` takes the step.

mod adamw;
mod aligned;
mod attention;
mod group;
mod head;
mod layers;
mod linear;
mod math;
mod matmul;
mod simd;
#[cfg(test)]
mod tests;
mod training;

pub use adamw::Optimizer;
pub use training::Cpu;

use crate::Result;
use crate::data::sequences::Window;
use crate::memory::GROUP_TOKENS;
use crate::model::{Layout, Shape};
use group::{Group, Kept, Model};
use linear::{Into, Linear};
use matmul::Panels;
use simd::Simd;

/// A decoder that computes on flat buffers of [`Layout::buffer_len`] f32, on one thread
/// unless more are asked for.
#[derive(Debug)]
pub struct Decoder {
    model: Model,
    /// The sequences and buffers of each thread.
    groups: Vec<Group>,
    group_tokens: usize,
    packed: Panels,
    /// What the forward of a step keeps.
    kept: Kept,
    /// Whether the weights packed for the backward pass are those of θ.
    backward_is_packed: bool,
}

impl Decoder {
    /// A decoder whose parameters are 0 until [`load`](Self::load).
    ///
    /// # Errors
    /// If the shape is invalid.
    pub fn new(shape: Shape) -> Result<Self> {
        Self::with_simd(shape, Simd::best())
    }

    fn with_simd(shape: Shape, simd: Simd) -> Result<Self> {
        shape.validate()?;
        Ok(Self {
            model: Model::new(shape, simd),
            groups: vec![Group::default()],
            group_tokens: GROUP_TOKENS,
            packed: Panels::default(),
            kept: Kept::All,
            backward_is_packed: false,
        })
    }

    /// The same decoder on so many threads, one at least.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.groups.resize_with(threads.max(1), Group::default);
        self
    }

    /// The same decoder, which keeps only the input of each block and repeats its forward pass in
    /// the backward pass if `recompute`, and otherwise keeps all activations. No bit depends on it.
    pub fn with_recompute(mut self, recompute: bool) -> Self {
        self.kept = if recompute { Kept::Inputs } else { Kept::All };
        self
    }

    /// The architecture.
    pub fn shape(&self) -> &Shape {
        &self.model.shape
    }

    /// Where each tensor lies in the flat buffers.
    pub fn layout(&self) -> &Layout {
        &self.model.layout
    }

    /// Takes the parameters θ that the calls below compute with.
    ///
    /// # Panics
    /// If their number is not that of the layout.
    pub fn load(&mut self, theta: &[f32]) {
        self.update(|own| own.copy_from_slice(theta));
    }

    /// The parameters θ.
    pub fn theta(&self) -> &[f32] {
        &self.model.theta
    }

    /// Changes the parameters θ in their place.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        change(&mut self.model.theta);
        self.model.pack(Linear::pack_for_forward);
        self.backward_is_packed = false;
    }

    /// Adds to `gradient` the gradient of a loss, and returns the loss in nats: the cross-entropies
    /// of the targets that count, summed over `rows` and divided by `positions`. The rows are those
    /// of a whole step; only a few are in memory at a time, however many there are.
    ///
    /// # Panics
    /// If a token is outside the vocabulary, a row longer than the model's context, or the gradient not
    /// as long as the layout.
    pub fn loss_and_gradient(
        &mut self,
        rows: &[Window<'_>],
        positions: u64,
        gradient: &mut [f32],
    ) -> f64 {
        if !self.backward_is_packed {
            self.model.pack(Linear::pack_for_backward);
            self.backward_is_packed = true;
        }
        let Self { model, groups, group_tokens, packed, kept, .. } = self;
        let (model, threads) = (&*model, groups.len());
        let mut into = Into { gradient, packed, threads };
        let scale = (1.0 / positions as f64) as f32;
        let mut loss = 0.0;
        // The head comes first for all tokens, then their embeddings, which may be the same matrix.
        let tokens: u64 = rows.iter().map(Window::targets).sum();
        let mut d_embedded = Vec::with_capacity(tokens as usize * model.shape.d_model);
        for wave in groups_of(rows, *group_tokens).chunks(threads) {
            let groups = &mut groups[..wave.len()];
            each(groups.iter_mut().zip(wave), |(group, rows)| {
                group.load(model, rows);
                group.forward(model, *kept);
            });
            for group in &mut *groups {
                group.head_backward(model, scale, &mut loss, into.reborrow());
            }
            each(&mut *groups, |group| group.ln_f_backward(model));
            groups.iter().for_each(|group| group.ln_f_gradient(model, into.gradient));
            for layer in (0..model.blocks.len()).rev() {
                each(&mut *groups, |group| group.block_backward(model, layer));
                for group in &*groups {
                    group.block_gradient(model, layer, into.reborrow());
                }
            }
            groups.iter().for_each(|group| d_embedded.extend_from_slice(group.d_embedded()));
        }
        let mut d_embedded = d_embedded.chunks_exact(model.shape.d_model);
        for row in rows {
            let inputs = row.tokens[..row.targets() as usize].iter();
            for (place, (&token, dx)) in inputs.zip(&mut d_embedded).enumerate() {
                model.embed_backward(token, place, dx, into.gradient);
            }
        }
        loss / positions as f64
    }

    /// The cross-entropy of each row's targets, in nats, row after row, whether they count or not.
    ///
    /// # Panics
    /// If a token is outside the vocabulary, or a row longer than the model's context.
    pub fn token_losses(&mut self, rows: &[Window<'_>]) -> Vec<f64> {
        let Self { model, groups, group_tokens, .. } = self;
        let mut losses = Vec::new();
        for wave in groups_of(rows, *group_tokens).chunks(groups.len()) {
            let mut parts = vec![Vec::new(); wave.len()];
            each(groups.iter_mut().zip(wave).zip(&mut parts), |((group, rows), losses)| {
                group.load(model, rows);
                group.forward(model, Kept::Nothing);
                *losses = group.losses(model);
            });
            losses.extend(parts.into_iter().flatten());
        }
        losses
    }

    /// For each of the tokens the logits of the token that follows it, `[time, vocab]`.
    ///
    /// # Panics
    /// As [`token_losses`](Self::token_losses).
    pub fn logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.last_logits(tokens, tokens.len())
    }

    /// The logits of the token that follows all of these, `[vocab]`.
    ///
    /// # Panics
    /// As [`token_losses`](Self::token_losses).
    pub fn next_logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.last_logits(tokens, 1)
    }

    fn last_logits(&mut self, tokens: &[u32], count: usize) -> Vec<f32> {
        let Shape { d_model, vocab, .. } = self.model.shape;
        // A window has a target, which its logits do not depend on.
        let tokens = [tokens, &[0]].concat();
        let group = &mut self.groups[0];
        group.load(&self.model, &[Window { tokens: tokens.into(), counted: None }]);
        let hidden = group.forward(&self.model, Kept::Nothing);
        let mut logits = vec![0.0; count * vocab];
        let last = &hidden[hidden.len() - count * d_model..];
        self.model.head.forward(self.model.simd, &[], last, &mut logits);
        logits
    }
}

/// The vector instructions that this engine uses on this processor, by the names that libtorch has for them:
/// `AVX512`, `AVX2`, or `DEFAULT` for those of every processor of its architecture. No bit depends on them.
pub fn vector_instructions() -> &'static str {
    Simd::best().name()
}

/// Rows in groups of so many targets at most, or of one row.
fn groups_of<'a, 'b>(rows: &'a [Window<'b>], most: usize) -> Vec<&'a [Window<'b>]> {
    let mut groups = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|row| {
            tokens += row.targets() as usize;
            tokens <= most
        });
        let (group, others) = rest.split_at(fit.count().max(1));
        groups.push(group);
        rest = others;
    }
    groups
}

/// Runs the jobs side by side, the last of them on this thread.
fn each<T: Send>(jobs: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let mut jobs = jobs.into_iter().peekable();
        while let Some(job) = jobs.next() {
            match jobs.peek() {
                Some(_) => drop(scope.spawn(|| run(job))),
                None => run(job),
            }
        }
    });
}
