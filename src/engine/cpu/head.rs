//! The tied head with its cross-entropy: logits z = h·Wᵀ for hidden states h, and the loss
//! ln s + max z − z_target with e = exp(z − max z) and s = Σ e. The gradient for z is e / s less 1 at the
//! target, times the weight of the token's loss. Rows of h and of the products are multiplied by weight / s
//! in place of those of e, which are longer.
//!
//! The logits of some tokens are in memory at a time.

use super::aligned::Aligned;
use super::each;
use super::layers::{cross_entropies, scale_rows};
use super::linear::{Into, Linear};
use super::simd::Simd;
use crate::memory::cpu_logit_tokens;

/// The losses of tokens, in nats.
pub(super) fn forward(
    simd: Simd,
    head: &Linear,
    hidden: &[f32],
    targets: &[u32],
    logits: &mut Aligned,
) -> Vec<f64> {
    let mut losses = vec![0.0; targets.len()];
    let d = hidden.len() / targets.len();
    let at_a_time = cpu_logit_tokens(head.outputs);
    let tokens = hidden.chunks(at_a_time * d).zip(targets.chunks(at_a_time));
    for ((hidden, targets), losses) in tokens.zip(losses.chunks_mut(at_a_time)) {
        logits.resize(targets.len() * head.outputs, 0.0);
        head.forward(simd, &[], hidden, logits);
        cross_entropies(simd, logits, targets, losses, &mut vec![1.0; targets.len()]);
    }
    losses
}

/// Tokens before the head, and what its backward gives.
pub(super) struct Tokens<'a> {
    /// h, `[n, d]`.
    pub hidden: &'a [f32],
    pub targets: &'a [u32],
    /// Their cross-entropies, in nats.
    pub losses: &'a mut [f64],
    /// The weight of each in the loss; that by s afterwards.
    pub weights: &'a mut [f32],
    /// The gradient of h, `[n, d]`.
    pub d_hidden: &'a mut [f32],
}

impl Tokens<'_> {
    /// So many at a time.
    fn chunks(&mut self, size: usize) -> impl Iterator<Item = Tokens<'_>> {
        let d = self.hidden.len() / self.targets.len();
        let read = self.hidden.chunks(size * d).zip(self.targets.chunks(size));
        let losses = self.losses.chunks_mut(size).zip(self.weights.chunks_mut(size));
        read.zip(losses).zip(self.d_hidden.chunks_mut(size * d)).map(
            |(((hidden, targets), (losses, weights)), d_hidden)| Tokens {
                hidden,
                targets,
                losses,
                weights,
                d_hidden,
            },
        )
    }
}

/// The losses, the gradient for h, and dW added to.
pub(super) fn forward_and_backward(
    simd: Simd,
    head: &Linear,
    mut tokens: Tokens<'_>,
    logits: &mut Aligned,
    mut into: Into<'_>,
) {
    let (vocab, share) = (head.outputs, cpu_logit_tokens(head.outputs));
    for mut block in tokens.chunks(share * into.threads) {
        logits.resize(block.targets.len() * vocab, 0.0);
        each(block.chunks(share).zip(logits.chunks_mut(share * vocab)), |(part, logits)| {
            head.forward(simd, &[], part.hidden, logits);
            cross_entropies(simd, logits, part.targets, part.losses, part.weights);
            head.backward(simd, logits, part.d_hidden);
            scale_rows(simd, part.d_hidden, part.weights);
        });
        let mut weighted = block.hidden.to_vec();
        scale_rows(simd, &mut weighted, block.weights);
        head.weight_gradient(simd, logits, &weighted, into.reborrow());
    }
}
