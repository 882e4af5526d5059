//! What a model makes of text: the loss of each document, and text that it writes itself.

use super::network::Network;
use super::trainer::EVALUATION_TOKENS;
use crate::data::mask::Encoded;
use crate::data::sequences::Window;
use crate::loss::Loss;
use crate::rng::Key;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// The losses of documents, window by window.
///
/// No token is added before or after a document. Its windows of up to T inputs, the model's
/// positions, follow one another without overlap, and each token but the first is predicted once:
/// window k predicts the tokens k·T + 1 to (k + 1)·T from those before them in the window. A
/// document of fewer than two tokens has no window. Tokens that do not count are read only.
///
/// # Errors
/// If a token is outside the vocabulary.
pub fn losses(network: &Network, documents: &[Encoded]) -> Result<Vec<Vec<Loss>>> {
    check_tokens(network, documents.iter().flat_map(|document| &document.tokens))?;
    let context = network.shape().context;
    let mut results: Vec<Vec<Loss>> = Vec::with_capacity(documents.len());
    let mut windows: Vec<(usize, usize, Window<'_>)> = Vec::new();
    for (document, Encoded { tokens, counted }) in documents.iter().enumerate() {
        let starts = (0..tokens.len().saturating_sub(1)).step_by(context);
        let cut = starts.map(|start| {
            let end = tokens.len().min(start + context + 1);
            let counted = counted.as_ref().map(|counted| counted[start + 1..end].to_vec());
            Window { tokens: tokens[start..end].into(), counted }
        });
        let before = windows.len();
        windows.extend(cut.enumerate().map(|(i, window)| (document, i, window)));
        results.push(vec![Loss::default(); windows.len() - before]);
    }
    // Windows of about one length go together, so that little is padded.
    windows.sort_by_key(|(document, i, window)| {
        (std::cmp::Reverse(window.tokens.len()), *document, *i)
    });
    let mut rest = windows.as_slice();
    while let Some((_, _, longest)) = rest.first() {
        let width = longest.targets() as usize;
        let rows = (EVALUATION_TOKENS / width).max(1).min(rest.len());
        let (batch, others) = rest.split_at(rows);
        rest = others;
        let sums = batch_losses(network, batch.iter().map(|(_, _, window)| window), width);
        for ((document, i, window), nats) in batch.iter().zip(sums) {
            results[*document][*i] = Loss { nats, tokens: window.counted() };
        }
    }
    Ok(results)
}

/// Refuses a token that the model does not know.
fn check_tokens<'a>(network: &Network, tokens: impl IntoIterator<Item = &'a u32>) -> Result<()> {
    let vocab = network.shape().vocab;
    match tokens.into_iter().find(|&&token| token as usize >= vocab) {
        None => Ok(()),
        Some(token) => {
            let requirement = format!("must be below {vocab}, the model's vocabulary");
            Err(Error::setting("token", token, requirement))
        }
    }
}

/// The sum of each window's losses that count. Shorter windows are filled up at their end, where causal
/// attention keeps it from what is predicted before.
fn batch_losses<'a>(
    network: &Network,
    windows: impl Iterator<Item = &'a Window<'a>>,
    width: usize,
) -> Vec<f64> {
    let (mut inputs, mut targets, mut counted) = (Vec::new(), Vec::new(), Vec::new());
    for window in windows {
        let (tokens, length) = (&window.tokens, window.tokens.len() - 1);
        let filled = |tokens: &[u32]| {
            let tokens = tokens.iter().map(|&token| i64::from(token));
            tokens.chain(std::iter::repeat_n(0, width - length)).collect::<Vec<_>>()
        };
        inputs.extend(filled(&tokens[..length]));
        targets.extend(filled(&tokens[1..]));
        let counts = |i| i < length && window.counted.as_ref().is_none_or(|counted| counted[i]);
        counted.extend((0..width).map(|i| if counts(i) { 1.0 } else { 0f64 }));
    }
    let device = network.device();
    let rows = |values: Tensor| values.view([-1, width as i64]).to_device(device);
    let losses = network
        .token_losses(&rows(Tensor::from_slice(&inputs)), &rows(Tensor::from_slice(&targets)));
    let sums = (losses.to_kind(Kind::Double) * rows(Tensor::from_slice(&counted))).sum_dim_intlist(
        1,
        false,
        Kind::Double,
    );
    Vec::try_from(sums.to_device(tch::Device::Cpu)).expect("a flat f64 tensor")
}

/// How a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn from; 0: all.
    pub top_k: usize,
    /// Only tokens below are drawn: a model may have more than its tokenizer.
    pub vocab: usize,
}

impl Sampling {
    /// # Errors
    /// If the temperature is negative or not finite, or there is no token to draw.
    pub fn validate(&self) -> Result<()> {
        if self.vocab == 0 {
            return Err(Error::setting("vocab", 0, "must be at least 1"));
        }
        match self.temperature.is_finite() && self.temperature >= 0.0 {
            true => Ok(()),
            false => Err(Error::setting(
                "temperature",
                self.temperature,
                "must be finite and not below 0",
            )),
        }
    }

    /// The token that a uniform number `u` in [0, 1) draws. Of equal logits the first is the
    /// likelier.
    fn draw(&self, logits: &[f32], u: f64) -> u32 {
        let mut order: Vec<usize> = (0..logits.len().min(self.vocab)).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if self.temperature == 0.0 {
            return order[0] as u32;
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let most = f64::from(logits[order[0]]);
        let weight = |&i: &usize| ((f64::from(logits[i]) - most) / self.temperature).exp();
        let total: f64 = order.iter().map(weight).sum();
        let mut left = u * total;
        for i in &order {
            left -= weight(i);
            if left < 0.0 {
                return *i as u32;
            }
        }
        order[order.len() - 1] as u32
    }
}

/// What a model writes after a prompt: up to `tokens` tokens, fewer where it ends the text. Each is
/// predicted from as many tokens before it as the model has positions. The same key gives the same
/// text.
///
/// # Errors
/// If the prompt is empty or holds a token outside the vocabulary, or a setting refuses.
pub fn generate(
    network: &Network,
    prompt: &[u32],
    tokens: usize,
    sampling: Sampling,
    end_of_text: Option<u32>,
    key: Key,
) -> Result<Vec<u32>> {
    sampling.validate()?;
    check_tokens(network, prompt)?;
    let context = network.shape().context;
    if prompt.is_empty() {
        return Err(Error::setting("prompt", "(empty)", "must hold one token at least"));
    }
    let mut text = prompt.to_vec();
    for i in 0..tokens {
        let window = &text[text.len().saturating_sub(context)..];
        let next = sampling.draw(&network.next_logits(window), key.uniform(i as u64));
        if Some(next) == end_of_text {
            break;
        }
        text.push(next);
    }
    Ok(text.split_off(prompt.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_by_hand() {
        // Probabilities 1/2, 1/4, 1/4 by likelihood: tokens 2, 0, 1.
        let logits = [0.0, 0.0, 2f32.ln()];
        let drawn =
            |temperature, top_k, u| Sampling { temperature, top_k, vocab: 9 }.draw(&logits, u);
        let all = |u| drawn(1.0, 0, u);
        assert_eq!([all(0.0), all(0.49), all(0.51), all(0.74), all(0.76)], [2, 2, 0, 0, 1]);
        assert_eq!((drawn(0.0, 0, 0.99), drawn(1.0, 1, 0.99)), (2, 2));
        // Of two, 2/3 and 1/3.
        assert_eq!((drawn(1.0, 2, 0.66), drawn(1.0, 2, 0.67)), (2, 0));
        // At half the temperature probabilities are squared: 4/6, 1/6, 1/6.
        assert_eq!((drawn(0.5, 0, 0.66), drawn(0.5, 0, 0.67)), (2, 0));
        // Without the likeliest, 1/2 each.
        let of_two = Sampling { temperature: 1.0, top_k: 0, vocab: 2 };
        assert_eq!((of_two.draw(&logits, 0.49), of_two.draw(&logits, 0.51)), (0, 1));
        assert!(Sampling { vocab: 0, ..of_two }.validate().is_err());
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Sampling { temperature: bad, top_k: 0, vocab: 1 }.validate().is_err());
        }
    }
}
