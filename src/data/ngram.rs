//! N-gram models, whose losses a transformer must beat.
//!
//! Interpolated Witten–Bell smoothing (Witten and Bell, "The zero-frequency problem: estimating the
//! probabilities of novel events in adaptive text compression", IEEE Transactions on Information
//! Theory 37, 1991, method C; in this form in Chen and Goodman, "An empirical study of smoothing
//! techniques for language modeling", Computer Speech and Language 13, 1999):
//!
//! p(w | h) = (c(hw) + N₁₊(h·) · p(w | h')) / (c(h) + N₁₊(h·)),
//!
//! where c(·) is a count, N₁₊(h·) is the number of different tokens seen after h, and h' is h without
//! its first token. The unigram distribution is interpolated with the uniform distribution over the
//! vocabulary. After a context that never occurred, p(w | h) = p(w | h').
//!
//! Methods that estimate a discount from the n-grams that occur once (absolute discounting, Kneser–Ney)
//! assume a natural vocabulary with many rare words. Small byte-level vocabularies and synthetic text
//! have few of them. Measured on plays and on word problems with 512 and 1,024 tokens, this trigram
//! model's loss is between 0.06 nats below and 0.04 above that of absolute discounting.
//!
//! The choice of these models is ours. Which models the paper compares with is unknown.

use super::sequences::{Sequences, Window};
use crate::{Error, Result};

/// Bits of one token in a packed n-gram.
const TOKEN_BITS: u32 = 21;

/// A unigram, bigram or trigram model.
#[derive(Debug, Clone)]
pub struct Ngram {
    vocab_size: usize,
    orders: Vec<Order>,
}

/// The counts of one order: sorted n-grams and their contexts.
#[derive(Debug, Clone)]
struct Order {
    /// Packed n-grams, ascending, and how often each occurs.
    ngrams: Vec<u64>,
    counts: Vec<u32>,
    /// Packed contexts, ascending; the n-grams of context i are
    /// `ngrams[starts[i]..starts[i + 1]]`, and occur `totals[i]` times together.
    contexts: Vec<u64>,
    starts: Vec<usize>,
    totals: Vec<u64>,
}

impl Ngram {
    /// Counts the n-grams of 1 to `order` tokens of a stream whose token ids are below `vocab_size`.
    ///
    /// Takes 8 bytes of memory per token, and one sort per order.
    ///
    /// # Errors
    /// If `order` is not 1, 2 or 3, if the stream is shorter than that, if `vocab_size` is above
    /// 2²¹, or if a token is not below `vocab_size`.
    ///
    /// # Examples
    /// A unigram model of three 0 and one 1, with two different tokens seen and two in the
    /// vocabulary.
    /// ```
    /// use forgetting_laws::data::ngram::Ngram;
    /// let model = Ngram::train(&[0, 0, 1, 0], 2, 1)?;
    /// assert_eq!(model.probability(&[], 0), (3.0 + 2.0 * 0.5) / (4.0 + 2.0));
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn train(tokens: &[u32], vocab_size: usize, order: usize) -> Result<Self> {
        if !(1..=3).contains(&order) {
            return Err(Error::setting("n-gram order", order, "must be 1, 2 or 3"));
        }
        if vocab_size > 1 << TOKEN_BITS {
            return Err(Error::setting(
                "vocabulary size",
                vocab_size,
                format!("must be at most {} for n-gram models", 1 << TOKEN_BITS),
            ));
        }
        if tokens.len() < order {
            return Err(Error::Exhausted {
                what: format!("text for an n-gram model of order {order}"),
                asked: order as u64,
                available: tokens.len() as u64,
                remedy: "give more text".into(),
            });
        }
        check_tokens(tokens, vocab_size)?;
        let orders = (1..=order).map(|n| Order::count(tokens, n)).collect();
        Ok(Self { vocab_size, orders })
    }

    /// p(`token` | `context`). Only the last `order` − 1 tokens of the context are used.
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        let mut probability = 1.0 / self.vocab_size as f64;
        for (length, order) in self.orders.iter().enumerate().take(context.len() + 1) {
            let context = pack(&context[context.len() - length..]);
            if let Ok(i) = order.contexts.binary_search(&context) {
                let (start, end) = (order.starts[i], order.starts[i + 1]);
                let ngram = (context << TOKEN_BITS) | u64::from(token);
                let count = match order.ngrams[start..end].binary_search(&ngram) {
                    Ok(j) => order.counts[start + j],
                    Err(_) => 0,
                };
                let different = (end - start) as f64;
                probability = (f64::from(count) + different * probability)
                    / (order.totals[i] as f64 + different);
            }
        }
        probability
    }

    /// The mean loss in nats per token over the predicted tokens that count in the loss; NaN if none
    /// does.
    ///
    /// As for the transformer, the context starts with each sequence: the first prediction of a
    /// sequence sees one token.
    ///
    /// # Errors
    /// If there is no sequence, or a token outside the vocabulary.
    pub fn loss(&self, sequences: &Sequences) -> Result<f64> {
        if sequences.is_empty() {
            return Err(Error::Exhausted {
                what: "sequences to evaluate".into(),
                asked: sequences.context() as u64,
                available: 0,
                remedy: "ask for some validation tokens".into(),
            });
        }
        sequences.chunks(1 << 16).try_for_each(|chunk| check_tokens(&chunk, self.vocab_size))?;
        let sequence_loss = |window: Window<'_>| -> f64 {
            let sequence = &window.tokens;
            let counts = |&i: &usize| window.counted.as_ref().is_none_or(|counted| counted[i - 1]);
            let loss = |i| -libm::log(self.probability(&sequence[..i], sequence[i]));
            (1..sequence.len()).filter(counts).map(loss).sum()
        };
        let sum: f64 = (0..sequences.len()).map(|i| sequence_loss(sequences.window(i))).sum();
        Ok(sum / sequences.counted_tokens() as f64)
    }
}

impl Order {
    fn count(tokens: &[u32], n: usize) -> Self {
        let mut packed: Vec<u64> = tokens.windows(n).map(pack).collect();
        packed.sort_unstable();
        let (mut ngrams, mut counts) = (Vec::new(), Vec::new());
        for run in packed.chunk_by(|a, b| a == b) {
            ngrams.push(run[0]);
            counts.push(run.len() as u32);
        }
        let (mut contexts, mut starts, mut totals) = (Vec::new(), vec![0], Vec::new());
        for run in ngrams.chunk_by(|a, b| a >> TOKEN_BITS == b >> TOKEN_BITS) {
            let start = starts[contexts.len()];
            let end = start + run.len();
            contexts.push(run[0] >> TOKEN_BITS);
            totals.push(counts[start..end].iter().map(|&count| u64::from(count)).sum());
            starts.push(end);
        }
        Self { ngrams, counts, contexts, starts, totals }
    }
}

fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(token) => Err(Error::setting(
            "token",
            token,
            format!("must be below the vocabulary size, {vocab_size}"),
        )),
        None => Ok(()),
    }
}

/// Up to three tokens as one number.
pub(super) fn pack(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0, |packed, &token| (packed << TOKEN_BITS) | u64::from(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    fn sequences(tokens: &[u32], context: usize) -> Sequences {
        Sequences::new(tokens.to_vec(), context).unwrap()
    }

    /// By hand, for the stream 0 1 0 1 0 2: 0 is followed by 1, 1 and 2, and 1 0 by 1 and 2.
    #[test]
    fn probabilities_by_hand() {
        let model = Ngram::train(&[0, 1, 0, 1, 0, 2], 4, 3).unwrap();
        let unigram = |count: f64| (count + 3.0 / 4.0) / (6.0 + 3.0);
        for (token, count) in [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)] {
            assert_relative_eq!(model.probability(&[], token), unigram(count), epsilon = 1e-15);
        }
        let after_0 = |count: f64, lower: f64| (count + 2.0 * lower) / (3.0 + 2.0);
        let p1 = after_0(2.0, unigram(2.0));
        assert_relative_eq!(model.probability(&[0], 1), p1, epsilon = 1e-15);
        let after_10 = |count: f64, lower: f64| (count + 2.0 * lower) / (2.0 + 2.0);
        assert_relative_eq!(model.probability(&[1, 0], 1), after_10(1.0, p1), epsilon = 1e-15);
        let p3 = after_0(0.0, unigram(0.0));
        assert_relative_eq!(model.probability(&[1, 0], 3), after_10(0.0, p3), epsilon = 1e-15);
        // 2 0 never occurred, so 0 alone decides; a third token of context is not looked at.
        assert_eq!(model.probability(&[2, 0], 1), p1);
        assert_eq!(model.probability(&[3, 1, 0], 1), model.probability(&[1, 0], 1));
    }

    #[test]
    fn the_context_starts_anew_with_every_sequence() {
        let model = Ngram::train(&[0, 1, 0, 1, 0, 2, 0, 1], 3, 3).unwrap();
        let stream = [0, 1, 0, 2, 0];
        let expected: f64 = [(&[0][..], 1), (&[0, 1], 0), (&[0], 2), (&[0, 2], 0)]
            .iter()
            .map(|&(context, token)| -model.probability(context, token).ln())
            .sum();
        assert_relative_eq!(
            model.loss(&sequences(&stream, 2)).unwrap(),
            expected / 4.0,
            epsilon = 1e-15
        );
    }

    /// Tokens of a known second-order source: a large sample's losses approach its entropies.
    #[test]
    fn losses_approach_the_entropies_of_a_known_source() {
        // The next bit is the sum of the last two modulo 2 with probability 0.9. The bits are
        // fair, alone and in pairs.
        let key = Key::new(7);
        let mut stream = vec![0u32, 1];
        for i in 0..200_000 {
            let flip = u32::from(key.uniform(i) < 0.1);
            stream.push((stream[stream.len() - 1] + stream[stream.len() - 2] + flip) % 2);
        }
        let (train, test) = stream.split_at(100_000);
        let test = sequences(test, 1000);
        let entropy = -(0.9f64.ln() * 0.9 + 0.1f64.ln() * 0.1);
        // Four standard errors of a mean over 1e5 tokens, and 1 token in 1,000 sees no trigram.
        let tolerance = 4.0 * (0.09f64 * 9f64.ln().powi(2) / 1e5).sqrt() + 1e-3;
        for (order, expected) in [(1, 2f64.ln()), (2, 2f64.ln()), (3, entropy)] {
            let loss = Ngram::train(train, 2, order).unwrap().loss(&test).unwrap();
            assert!((loss - expected).abs() < tolerance, "order {order}: {loss} and {expected}");
        }
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Ngram::train(&[0, 1, 2], 3, 0).is_err());
        assert!(Ngram::train(&[0, 1, 2], 3, 4).is_err());
        assert!(Ngram::train(&[0, 1], 2, 3).is_err());
        assert!(Ngram::train(&[0, 1, 2], 3, 3).is_ok());
        assert!(Ngram::train(&[0, 1, 2], 2, 1).is_err());
        assert!(Ngram::train(&[0], 1 << 21, 1).is_ok());
        assert!(Ngram::train(&[0], (1 << 21) + 1, 1).is_err());
        let model = Ngram::train(&[0, 1, 2], 3, 1).unwrap();
        assert!(model.loss(&Sequences::empty(2).unwrap()).is_err());
        assert!(model.loss(&sequences(&[0, 1, 2], 2)).is_ok());
        assert!(model.loss(&sequences(&[0, 1, 3], 2)).is_err());
    }

    /// Three of the largest ids fill the word without touching one another.
    #[test]
    fn the_largest_ids_fit() {
        let top = (1 << 21) - 1;
        let model = Ngram::train(&[top, top, top - 1, top, top, top - 1], 1 << 21, 3).unwrap();
        assert!(model.probability(&[top, top], top - 1) > 0.5);
        assert!(model.probability(&[top - 1, top], top - 1) < 0.5);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one(
            stream in prop::collection::vec(0u32..6, 3..60),
            context in prop::collection::vec(0u32..7, 0..4),
            order in 1usize..4,
        ) {
            let model = Ngram::train(&stream, 7, order).unwrap();
            let all: Vec<f64> = (0..7).map(|token| model.probability(&context, token)).collect();
            prop_assert!(all.iter().all(|&p| p > 0.0));
            prop_assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}
