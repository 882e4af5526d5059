//! What a model makes of text: the loss of each document, and text that it writes itself.

use super::Model;
use crate::data::mask::Encoded;
use crate::data::sequences::Window;
use crate::loss::Loss;
use crate::rng::Key;
use crate::{Error, Result};

/// The losses of documents, window by window.
///
/// No token is added before or after a document. Its windows of up to T inputs, the model's
/// positions, follow one another without overlap, and each token but the first is predicted once:
/// window k predicts the tokens k·T + 1 to (k + 1)·T from those before them in the window. A
/// document of fewer than two tokens has no window. Tokens that do not count are read only.
///
/// # Errors
/// If a token is outside the vocabulary.
pub fn losses(model: &mut dyn Model, documents: &[Encoded]) -> Result<Vec<Vec<Loss>>> {
    let (windows, counts) = windows(model, documents, model.shape().context)?;
    let sums = model.window_losses(&windows);
    let loss = |(window, nats): (&Window<'_>, f64)| Loss { nats, tokens: window.counted() };
    let mut losses = windows.iter().zip(sums).map(loss);
    Ok(counts.into_iter().map(|count| losses.by_ref().take(count).collect()).collect())
}

/// The losses in nats of each document's tokens that are predicted and count, in windows of at most so
/// many inputs: those of [`losses`] where these are the model's positions. Two models are compared token
/// by token where their windows are the same.
///
/// # Errors
/// As [`losses`].
pub fn token_losses(
    model: &mut dyn Model,
    documents: &[Encoded],
    context: usize,
) -> Result<Vec<Vec<f64>>> {
    let (windows, counts) = windows(model, documents, context.clamp(1, model.shape().context))?;
    let losses = model.token_losses(&windows);
    let counted = |(window, losses): (&Window<'_>, Vec<f64>)| -> Vec<f64> {
        let counts = |i: usize| window.counted.as_ref().is_none_or(|counted| counted[i]);
        losses.into_iter().enumerate().filter(|&(i, _)| counts(i)).map(|(_, loss)| loss).collect()
    };
    let mut of_windows = windows.iter().zip(losses).map(counted);
    Ok(counts
        .into_iter()
        .map(|count| of_windows.by_ref().take(count).flatten().collect())
        .collect())
}

/// The windows of documents, and how many each has.
fn windows<'a>(
    model: &dyn Model,
    documents: &'a [Encoded],
    context: usize,
) -> Result<(Vec<Window<'a>>, Vec<usize>)> {
    check_tokens(model, documents.iter().flat_map(|document| &document.tokens))?;
    let (mut windows, mut counts) = (Vec::new(), Vec::new());
    for Encoded { tokens, counted } in documents {
        let starts = (0..tokens.len().saturating_sub(1)).step_by(context);
        counts.push(starts.len());
        windows.extend(starts.map(|start| {
            let end = tokens.len().min(start + context + 1);
            let counted = counted.as_ref().map(|counted| counted[start + 1..end].to_vec());
            Window { tokens: tokens[start..end].into(), counted }
        }));
    }
    Ok((windows, counts))
}

/// Refuses a token that the model does not know.
fn check_tokens<'a>(model: &dyn Model, tokens: impl IntoIterator<Item = &'a u32>) -> Result<()> {
    let vocab = model.shape().vocab;
    match tokens.into_iter().find(|&&token| token as usize >= vocab) {
        None => Ok(()),
        Some(token) => {
            let requirement = format!("must be below {vocab}, the model's vocabulary");
            Err(Error::setting("token", token, requirement))
        }
    }
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
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            Ok(())
        } else {
            Err(Error::setting("temperature", self.temperature, "must be finite and not below 0"))
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
    model: &mut dyn Model,
    prompt: &[u32],
    tokens: usize,
    sampling: Sampling,
    end_of_text: Option<u32>,
    key: Key,
) -> Result<Vec<u32>> {
    sampling.validate()?;
    check_tokens(model, prompt)?;
    let context = model.shape().context;
    if prompt.is_empty() {
        return Err(Error::setting("prompt", "(empty)", "must hold one token at least"));
    }
    let mut text = prompt.to_vec();
    for i in 0..tokens {
        let window = &text[text.len().saturating_sub(context)..];
        let next = sampling.draw(&model.next_logits(window), key.uniform(i as u64));
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
