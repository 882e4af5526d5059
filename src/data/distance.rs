//! How far a target is from the pretraining data, by several measures.
//!
//! The paper's coefficients differ between domains, and one would like to know them before
//! finetuning. Later work (arXiv 2603.16177) finds that measures of a domain's distance disagree:
//! divergences of n-grams, classifiers and scores of generated text put the same domains in
//! different orders. So this module computes several measures. Each needs only tokens, and a larger
//! value means a farther domain:
//!
//! - **Divergences.** The Jensen–Shannon divergence of tokens, pairs and triples (Lin, "Divergence
//!   measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, 1991):
//!   0 to ln 2 nats, symmetric. They miss differences in rare tokens, and the difficulty
//!   of the target.
//! - **Excess cross-entropy.** The loss of a trigram model of the pretraining data on the target, minus
//!   its loss on held-out pretraining data. It mixes the distance with the difficulty of the target: a
//!   simple target in familiar words may be below 0.
//! - **Unseen triples.** The share of the target's triples of tokens that do not occur in as many tokens of
//!   pretraining data: how little of what the target is made of the model can have seen. Where tokens are
//!   parts of words, a triple is about a word.
//! - **Classifier.** The accuracy of naive Bayes on held-out sequences: how reliably one sequence
//!   reveals its source. It saturates at 1 for domains that differ clearly, and sequences of one
//!   document are not independent.
//!
//! # Parts
//! A side is the pretraining data or the target. Its halves are its first and its last m sequences,
//! where m is the largest number for which both sides have two disjoint halves. Neighbouring sequences
//! share documents, so a half is a contiguous stretch of the stream and not random sequences; documents
//! must be in random order (as [`Split`](super::split::Split) leaves them). The trigram model is
//! trained on all of the pretraining data except the last m sequences, on which it is evaluated.
//!
//! # Bias
//! Finite samples of one source differ, and more so if the n-grams are rare. So plug-in divergences are
//! too large, and more so for triples than for tokens. Two steps reduce this bias. Both sides have the
//! same number of tokens. And F, the mean divergence between the halves of each side, which would be 0
//! without the bias, is mapped to 0, and ln 2 to ln 2, as for indices that are adjusted for chance
//! (Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985):
//!
//! ln 2 · (D − F) / (ln 2 − F),
//!
//! where D is the mean of the divergence between the first halves and that between the last halves. The
//! share of unseen triples is adjusted in the same way, with 1 in place of ln 2. Two samples of one source
//! give values around 0, sometimes below 0 (and around 0.5 for the classifier).
//! As an example, triples of bytes of synthetic dialogue against the synthetic pretraining data, in
//! nats, by tokens per side:
//!
//! | distance | tokens | D | D − F | adjusted |
//! |---|---|---|---|---|
//! | 0.5 | 10K | 0.307 | 0.189 | 0.228 |
//! | 0.5 | 30K | 0.275 | 0.206 | 0.229 |
//! | 0.5 | 100K | 0.245 | 0.214 | 0.224 |
//! | 1 | 10K | 0.604 | 0.500 | 0.588 |
//! | 1 | 30K | 0.594 | 0.527 | 0.583 |
//! | 1 | 100K | 0.587 | 0.562 | 0.583 |
//!
//! A larger vocabulary leaves more bias at the same size. Compare domains only if they were measured
//! with the same number of tokens of the same tokenizer.
//!
//! The measures, the adjustment and the classifier are ours; the paper has none.

pub mod documents;

use super::ngram::Ngram;
use super::sequences::Sequences;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// The measures of one target. For each, a larger value means farther away.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// The adjusted Jensen–Shannon divergence of tokens, in nats: about 0 to ln 2.
    pub unigram_js: f64,
    /// The Jensen-Shannon divergence of pairs of tokens.
    pub bigram_js: f64,
    /// The Jensen-Shannon divergence of triples of tokens.
    pub trigram_js: f64,
    /// The loss of a trigram model of the pretraining data on the target minus that on held-out
    /// pretraining data, in nats per token.
    pub trigram_excess: f64,
    /// The share of the target's triples of tokens that do not occur in as many tokens of pretraining data,
    /// adjusted: about 0 for more pretraining data, 1 if none occurs.
    pub unseen_trigrams: f64,
    /// The accuracy of naive Bayes on held-out sequences, half of them from each side: 0.5 if the sides
    /// cannot be told apart, 1 if they always can. A tie counts as a half.
    pub classifier: f64,
    /// m: the number of sequences in each half of a side.
    pub sequences: u64,
}

impl Distances {
    /// The measures with their names, in the order of the fields.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("unigram_js", self.unigram_js),
            ("bigram_js", self.bigram_js),
            ("trigram_js", self.trigram_js),
            ("trigram_excess", self.trigram_excess),
            ("unseen_trigrams", self.unseen_trigrams),
            ("classifier", self.classifier),
        ]
    }
}

/// Measures how far `target` is from `pretraining`, both in tokens below `vocab_size`.
///
/// Takes about 0.3 seconds for 100,000 tokens per side on one core. Nothing is random: equal input
/// gives equal numbers.
///
/// # Errors
/// If the sides differ in T; if a side has fewer than two sequences, or a half of it fewer than three
/// tokens; if for some n the halves of neither side have an n-gram in common; if `vocab_size` is above
/// 2²¹; or if a token is not below it.
///
/// # Examples
/// A source that counts up and one that counts down have the same tokens in another order.
/// ```
/// use forgetting_laws::data::{distance::distances, sequences::Sequences};
/// let up = Sequences::new((0..4001).map(|i| i % 10).collect(), 50)?;
/// let down = Sequences::new((0..4001).map(|i| 9 - i % 10).collect(), 50)?;
/// let measured = distances(&up, &down, 10)?;
/// assert!(measured.unigram_js.abs() < 1e-9 && measured.classifier == 0.5);
/// assert!(measured.bigram_js > 0.69 && measured.trigram_excess > 1.0);
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn distances(
    pretraining: &Sequences,
    target: &Sequences,
    vocab_size: usize,
) -> Result<Distances> {
    let context = pretraining.context();
    if target.context() != context {
        return Err(Error::setting(
            "context of the target",
            target.context(),
            format!("must be that of the pretraining data, {context}"),
        ));
    }
    let m = pretraining.len().min(target.len()) / 2;
    let needed = ORDERS.div_ceil(context);
    for (side, sequences) in [("pretraining data", pretraining), ("target data", target)] {
        if sequences.len() < 2 * needed {
            return Err(Error::Exhausted {
                what: format!("{side} to measure a distance by"),
                asked: (2 * needed * context) as u64,
                available: sequences.tokens(),
                remedy: "give more text".into(),
            });
        }
    }
    let (p, q) = (pretraining.stream(), target.stream());
    let (model, held_out) = split(&p, m, context)?;
    let model = Ngram::train(model, vocab_size, ORDERS)?;
    let trigram_excess = model.loss(target)? - model.loss(&held_out)?;
    let (p, q) = (halves(&p, m * context), halves(&q, m * context));
    Ok(Distances {
        unigram_js: adjusted_divergence(p, q, 1)?,
        bigram_js: adjusted_divergence(p, q, 2)?,
        trigram_js: adjusted_divergence(p, q, 3)?,
        trigram_excess,
        unseen_trigrams: adjusted_unseen(p, q).ok_or_else(|| too_little(p, ORDERS))?,
        classifier: accuracy(p, q, context, vocab_size),
        sequences: m as u64,
    })
}

/// The longest n-grams.
const ORDERS: usize = 3;

/// All tokens before the last `m` sequences, and those sequences.
fn split(stream: &[u32], m: usize, context: usize) -> Result<(&[u32], Sequences)> {
    let start = stream.len() - 1 - m * context;
    Ok((&stream[..=start], Sequences::new(stream[start..].to_vec(), context)?))
}

/// The first and the last `tokens` predicted tokens.
fn halves(stream: &[u32], tokens: usize) -> [&[u32]; 2] {
    [&stream[1..=tokens], &stream[stream.len() - tokens..]]
}

/// The divergence of the n-grams of `p` and `q`, adjusted for the divergence between the halves of
/// each.
fn adjusted_divergence(p: [&[u32]; 2], q: [&[u32]; 2], n: usize) -> Result<f64> {
    let found = mean(divergence(p[0], q[0], n), divergence(p[1], q[1], n));
    let floor = mean(divergence(p[0], p[1], n), divergence(q[0], q[1], n));
    adjust(found, floor).ok_or_else(|| too_little(p, n))
}

/// The halves have no n-gram in common.
fn too_little(p: [&[u32]; 2], n: usize) -> Error {
    let requirement =
        format!("must be larger: the halves of neither side share a run of {n} tokens");
    Error::setting("tokens of each side", 2 * p[0].len(), requirement)
}

/// The share of the n-grams of `q` that are not in `p`, for the longest n, adjusted for that between the
/// halves of each.
fn adjusted_unseen(p: [&[u32]; 2], q: [&[u32]; 2]) -> Option<f64> {
    let found = mean(unseen(q[0], p[0]), unseen(q[1], p[1]));
    let between =
        |halves: [&[u32]; 2]| mean(unseen(halves[0], halves[1]), unseen(halves[1], halves[0]));
    let floor = mean(between(p), between(q));
    (floor < 1.0).then(|| (found - floor) / (1.0 - floor))
}

fn mean(a: f64, b: f64) -> f64 {
    (a + b) / 2.0
}

/// The share of the n-grams of one stream that do not occur in another, for the longest n.
fn unseen(stream: &[u32], other: &[u32]) -> f64 {
    let mut seen: Vec<&[u32]> = other.windows(ORDERS).collect();
    seen.sort_unstable();
    let ngrams = stream.windows(ORDERS);
    let all = ngrams.len() as f64;
    ngrams.filter(|ngram| seen.binary_search(ngram).is_err()).count() as f64 / all
}

/// D adjusted for F. `None` if the halves have no n-gram in common, for which rounding may give a
/// little less than ln 2.
fn adjust(found: f64, floor: f64) -> Option<f64> {
    (floor <= LN_2 * (1.0 - 1e-12)).then(|| LN_2 * (found - floor) / (LN_2 - floor))
}

/// The Jensen–Shannon divergence, in nats, of the n-grams of two streams of at least n tokens.
fn divergence(p: &[u32], q: &[u32], n: usize) -> f64 {
    let mut ngrams: Vec<(&[u32], bool)> = p.windows(n).map(|ngram| (ngram, false)).collect();
    ngrams.extend(q.windows(n).map(|ngram| (ngram, true)));
    ngrams.sort_unstable();
    let (all_p, all_q) = ((p.len() - n + 1) as f64, (q.len() - n + 1) as f64);
    let term = |p: f64, q: f64| if p > 0.0 { p / 2.0 * libm::log(2.0 * p / (p + q)) } else { 0.0 };
    ngrams
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| {
            let in_q = same.iter().filter(|(_, in_q)| *in_q).count();
            let (p, q) = ((same.len() - in_q) as f64 / all_p, in_q as f64 / all_q);
            term(p, q) + term(q, p)
        })
        .sum()
}

/// The mean accuracy of naive Bayes, trained on the first halves and tested on the last, and vice
/// versa.
fn accuracy(
    [p1, p2]: [&[u32]; 2],
    [q1, q2]: [&[u32]; 2],
    context: usize,
    vocab_size: usize,
) -> f64 {
    let (there, back) = (
        NaiveBayes::learn(p1, q1, vocab_size).right(p2, q2, context),
        NaiveBayes::learn(p2, q2, vocab_size).right(p1, q1, context),
    );
    let asked = [p1, p2, q1, q2].map(|half| half.len() / context).iter().sum::<usize>();
    (there + back) as f64 / (2 * asked) as f64
}

/// For each token ln p(token | second side) − ln p(token | first side), with one added to every
/// count. The sides are equally likely and have equally many tokens, so nothing else matters.
struct NaiveBayes(Vec<f64>);

impl NaiveBayes {
    fn learn(first: &[u32], second: &[u32], vocab_size: usize) -> Self {
        let count = |tokens: &[u32]| {
            let mut counts = vec![1u32; vocab_size];
            tokens.iter().for_each(|&token| counts[token as usize] += 1);
            counts
        };
        let pairs = count(first).into_iter().zip(count(second));
        Self(
            pairs
                .map(|(first, second)| libm::log(f64::from(second)) - libm::log(f64::from(first)))
                .collect(),
        )
    }

    /// Twice the number of sequences that are classified correctly, so that a tie counts once.
    fn right(&self, first: &[u32], second: &[u32], context: usize) -> u64 {
        let on = |tokens: &[u32], side: f64| -> u64 {
            tokens
                .chunks_exact(context)
                .map(|sequence| {
                    let evidence: f64 = sequence.iter().map(|&token| self.0[token as usize]).sum();
                    match side * evidence {
                        favour if favour > 0.0 => 2,
                        favour if favour < 0.0 => 0,
                        _ => 1,
                    }
                })
                .sum()
        };
        on(first, -1.0) + on(second, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fraction;
    use crate::data::Source;
    use crate::data::synthetic::{Domain, Synthetic};
    use crate::rng::Key;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    const BYTES: usize = 257;

    /// Some `tokens` bytes of a source from document `first` on, 256 after each document.
    fn bytes(source: &Synthetic, first: u64, tokens: usize) -> Sequences {
        let mut stream: Vec<u32> = Vec::new();
        for i in first.. {
            stream.extend(source.document(i).unwrap().bytes().map(u32::from));
            stream.push(256);
            if stream.len() > tokens {
                break;
            }
        }
        stream.truncate(tokens + 1);
        Sequences::new(stream, 64).unwrap()
    }

    fn sequences(stream: &[u32], context: usize) -> Sequences {
        Sequences::new(stream.to_vec(), context).unwrap()
    }

    fn measure(pretraining: &Sequences, target: &Sequences) -> Distances {
        distances(pretraining, target, BYTES).unwrap()
    }

    /// Tokens 0 0 1 2 against 0 3 3 3: the two have 0 in common, with shares 1/2 and 1/4.
    #[test]
    fn the_divergence_by_hand() {
        let (p, q) = ([0, 0, 1, 2], [0, 3, 3, 3]);
        let shared = 0.25 * (2.0f64 * 0.5 / 0.75).ln() + 0.125 * (2.0f64 * 0.25 / 0.75).ln();
        let expected = shared + 0.25 * LN_2 + 0.375 * LN_2;
        assert_relative_eq!(divergence(&p, &q, 1), expected, epsilon = 1e-15);
        assert_relative_eq!(divergence(&p, &q, 2), LN_2, epsilon = 1e-15);
        assert_eq!(divergence(&p, &p, 2), 0.0);
        // Of the pairs 00 01 and 01 12, one of two is shared.
        assert_relative_eq!(divergence(&[0, 0, 1], &[0, 1, 2], 2), LN_2 / 2.0, epsilon = 1e-15);
    }

    /// A half counted by hand: D = ln 2 in both pairings; F = ln 2 / 2 between the halves of p and
    /// 0 between those of q; the adjustment leaves ln 2 as it is and takes F to 0.
    #[test]
    fn the_adjustment_keeps_both_ends() {
        let p: [&[u32]; 2] = [&[0, 1], &[1, 2]];
        let q: [&[u32]; 2] = [&[5, 6], &[6, 5]];
        assert_relative_eq!(adjusted_divergence(p, q, 1).unwrap(), LN_2, epsilon = 1e-15);
        let same: [&[u32]; 2] = [&[0, 1], &[2, 1]];
        // D = F: as far from one another as the halves of each.
        let crossed: [&[u32]; 2] = [&[2, 1], &[0, 1]];
        assert_relative_eq!(adjusted_divergence(same, crossed, 1).unwrap(), 0.0, epsilon = 1e-15);
        // D = 0 and F = ln 2 / 2: −ln 2.
        assert_relative_eq!(adjusted_divergence(same, same, 1).unwrap(), -LN_2, epsilon = 1e-15);
        // Nothing in common between the halves: nothing can be said.
        let apart: [&[u32]; 2] = [&[0, 1], &[2, 3]];
        assert!(adjusted_divergence(apart, apart, 1).is_err());
        assert!(adjusted_divergence(apart, q, 1).is_ok());
    }

    /// Of the triples 012, 123 and 234, the last is new; of the halves of p, 012 and 123 are shared.
    #[test]
    fn unseen_triples_by_hand() {
        assert_relative_eq!(unseen(&[0, 1, 2, 3, 4], &[9, 0, 1, 2, 3]), 1.0 / 3.0);
        assert_eq!(unseen(&[0, 1, 2], &[0, 1, 2]), 0.0);
        let p: [&[u32]; 2] = [&[0, 1, 2, 3], &[0, 1, 2, 9]];
        // Half of each is not in the other. F is 1/4 where the halves of q are the same.
        let adjusted = |q| adjusted_unseen(p, q).unwrap();
        assert_eq!(adjusted([&[5, 6, 7, 8], &[5, 6, 7, 8]]), 1.0);
        assert_relative_eq!(adjusted([&[0, 1, 2, 8], &[0, 1, 2, 8]]), 1.0 / 3.0);
        assert_eq!(adjusted(p), -1.0);
        let apart: [&[u32]; 2] = [&[0, 1, 2], &[3, 4, 5]];
        assert_eq!(adjusted_unseen(apart, apart), None);
    }

    /// The first half has one token more of 0 on the first side and of 1 on the second; 2 tells
    /// nothing.
    #[test]
    fn naive_bayes_by_hand() {
        let model = NaiveBayes::learn(&[0, 0, 1, 2], &[0, 1, 1, 2], 4);
        let evidence = (3.0f64 / 2.0).ln();
        for (token, expected) in [-evidence, evidence, 0.0, 0.0].into_iter().enumerate() {
            assert_relative_eq!(model.0[token], expected, epsilon = 1e-15);
        }
        // Right, wrong and a tie on the first side; two ties and one right on the second.
        assert_eq!(model.right(&[0, 2, 1, 1, 0, 1], &[2, 3, 1, 0, 2, 1], 2), (2 + 1) + (1 + 1 + 2));
        let halves: [&[u32]; 2] = [&[0, 0], &[0, 0]];
        let other: [&[u32]; 2] = [&[1, 1], &[1, 0]];
        // Learnt from the first halves: 2 of 2 for the first side, 1 of 2 for the second. Learnt
        // from the last, where the second side has both: 2 of 2 and 2 of 2.
        assert_eq!(accuracy(halves, other, 1, 2), 7.0 / 8.0);
    }

    /// Two samples of one source: no divergence, no excess, no better than a coin. Tokens are drawn
    /// without memory, so that sequences are independent and standard errors are known.
    #[test]
    fn one_source_is_at_no_distance() {
        let draw = |key: Key| {
            // The lower of two even draws of 50: an uneven distribution.
            let token = |i: u64| key.below(2 * i, 50).min(key.below(2 * i + 1, 50)) as u32;
            sequences(&(0..40_001u64).map(token).collect::<Vec<_>>(), 50)
        };
        let measured = distances(&draw(Key::new(1)), &draw(Key::new(2)), 50).unwrap();
        assert_eq!(measured.sequences, 400);
        // Of 50 tokens in 20,000 a plug-in divergence is about 49 / (4 · 20,000) = 6e-4, of
        // thousands of pairs and triples as much as 0.02 and 0.4; the adjusted ones spread by the
        // square root of twice the n-grams over four times the tokens.
        assert!(measured.unigram_js.abs() < 5e-4, "{measured:?}");
        assert!(measured.bigram_js.abs() < 4e-3, "{measured:?}");
        assert!(measured.trigram_js.abs() < 2e-2, "{measured:?}");
        assert!(measured.trigram_excess.abs() < 0.03, "{measured:?}");
        // About a third of 40,000 triples are new in either: four standard errors of 0.003.
        assert!(measured.unseen_trigrams.abs() < 0.012, "{measured:?}");
        // 1,600 answers: four standard errors of 0.0125.
        assert!((measured.classifier - 0.5).abs() < 0.05, "{measured:?}");
    }

    /// Halves of real documents, whose topics differ.
    #[test]
    fn one_corpus_is_near_itself() {
        let source = Synthetic::pretraining(0);
        let measured = measure(&bytes(&source, 0, 60_000), &bytes(&source, 1 << 40, 60_000));
        for (name, value) in &measured.named()[..3] {
            assert!(value.abs() < 0.01, "{name} {value}");
        }
        assert!(measured.trigram_excess.abs() < 0.2, "{measured:?}");
        assert!((measured.classifier - 0.5).abs() < 0.15, "{measured:?}");
    }

    /// Every measure but the classifier, which saturates, rises with the distance at each step.
    #[test]
    fn farther_is_larger() {
        let pretraining = bytes(&Synthetic::pretraining(3), 0, 25_000);
        for domain in Domain::ALL {
            let all = [0.0, 0.5, 1.0].map(|distance| {
                let distance = Fraction::new(distance).unwrap();
                measure(&pretraining, &bytes(&Synthetic::target(domain, distance, 3), 0, 25_000))
            });
            for (name, measure) in all[0].named().map(|(name, _)| name).into_iter().zip(0..5) {
                let values = all.map(|distances| distances.named()[measure].1);
                assert!(values.is_sorted_by(|a, b| a < b), "{domain} {name} {values:?}");
                assert!(measure >= 3 || values[0] > 0.0, "{domain} {name} {values:?}");
            }
            assert!(all[0].classifier > 0.6 && all[2].classifier > 0.97, "{domain} {all:?}");
        }
    }

    /// A domain can be far by one measure and near by another: that is why there are several.
    #[test]
    fn measures_disagree() {
        let pretraining = bytes(&Synthetic::pretraining(0), 0, 25_000);
        let [arithmetic, prose] =
            [(Domain::Arithmetic, 0.0), (Domain::Prose, 0.75)].map(|(domain, distance)| {
                let distance = Fraction::new(distance).unwrap();
                measure(&pretraining, &bytes(&Synthetic::target(domain, distance, 0), 0, 25_000))
            });
        assert!(arithmetic.trigram_js > prose.trigram_js, "{arithmetic:?} {prose:?}");
        assert!(arithmetic.trigram_excess < prose.trigram_excess, "{arithmetic:?} {prose:?}");
    }

    #[test]
    fn bad_input_is_refused_in_words() {
        let stream: Vec<u32> = (0..201).map(|i| i % 7).collect();
        let good = sequences(&stream, 10);
        let refuse = |pretraining: &Sequences, target: &Sequences, vocab_size, words: &[&str]| {
            let error = distances(pretraining, target, vocab_size).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        assert!(distances(&good, &good, 7).is_ok());
        refuse(&good, &sequences(&stream, 20), 7, &["context of the target = 20", "data, 10"]);
        let empty = Sequences::empty(10).unwrap();
        refuse(&empty, &good, 7, &["pretraining data", "20 tokens", "0 are", "more text"]);
        refuse(&good, &empty, 7, &["target data", "20 tokens", "0 are", "more text"]);
        let one = sequences(&stream[..11], 10);
        refuse(&good, &one, 7, &["target data", "10 are available"]);
        assert!(distances(&good, &sequences(&stream[..21], 10), 7).is_ok());
        // Halves of three tokens hold one triple each.
        let cycle = |n: usize| sequences(&vec![0; n], 1);
        refuse(&cycle(6), &cycle(6), 7, &["6 tokens were asked for and 5"]);
        assert!(distances(&cycle(7), &cycle(7), 7).is_ok());
        for (pretraining, target) in
            [(&good, &sequences(&[7; 21], 10)), (&sequences(&[7; 21], 10), &good)]
        {
            refuse(pretraining, target, 7, &["token = 7", "vocabulary size, 7"]);
            assert!(distances(pretraining, target, 8).is_ok());
        }
        refuse(&good, &good, (1 << 21) + 1, &["vocabulary size"]);
        let distinct = sequences(&(0..41).collect::<Vec<_>>(), 10);
        refuse(&distinct, &distinct, 41, &["tokens of each side = 40", "run of 1 tokens"]);
    }

    #[test]
    fn the_excess_is_of_the_model_of_all_but_the_held_out_sequences() {
        let stream: Vec<u32> = (0..101).map(|i| i * i % 7).collect();
        let target: Vec<u32> = (0..41).map(|i| i * i * i % 7).collect();
        let measured = distances(&sequences(&stream, 10), &sequences(&target, 10), 7).unwrap();
        assert_eq!(measured.sequences, 2);
        let model = Ngram::train(&stream[..81], 7, 3).unwrap();
        let expected = model.loss(&sequences(&target, 10)).unwrap()
            - model.loss(&sequences(&stream[80..], 10)).unwrap();
        assert_relative_eq!(measured.trigram_excess, expected, epsilon = 1e-15);
    }

    /// Only the last m sequences are kept from the model, and the first and last m are compared.
    #[test]
    fn parts_are_disjoint_and_equally_large() {
        let all = sequences(&(0..101).collect::<Vec<_>>(), 10);
        let stream = all.stream();
        let (model, held_out) = split(&stream, 3, 10).unwrap();
        assert_eq!((model[0], model[model.len() - 1], model.len()), (0, 70, 71));
        assert_eq!((held_out.len(), held_out.stream()[0], held_out.stream()[30]), (3, 70, 100));
        let [first, last] = halves(&stream, 50);
        assert_eq!((first[0], first[49], first.len()), (1, 50, 50));
        assert_eq!((last[0], last[49], last.len()), (51, 100, 50));
        let [first, last] = halves(&stream, 20);
        assert_eq!((first[0], first[19], last[0], last[19]), (1, 20, 81, 100));
    }

    proptest! {
        /// Divergences and accuracy are symmetric to the bit and bounded, and equal input gives
        /// equal numbers; before the adjustment a divergence lies from 0 to ln 2.
        #[test]
        fn bounds_and_symmetry(
            p in prop::collection::vec(0u32..6, 30..120),
            q in prop::collection::vec(0u32..6, 30..120),
            context in 1usize..8,
        ) {
            let (one, two) = (sequences(&p, context), sequences(&q, context));
            if let Ok(there) = distances(&one, &two, 6) {
                let back = distances(&two, &one, 6).unwrap();
                let symmetric = |d: &Distances| [d.unigram_js, d.bigram_js, d.trigram_js, d.classifier];
                prop_assert_eq!(symmetric(&there), symmetric(&back));
                prop_assert!(symmetric(&there)[..3].iter().all(|&js| js <= LN_2 + 1e-12));
                prop_assert!((0.0..=1.0).contains(&there.classifier));
                prop_assert!(there.named().iter().all(|(_, value)| value.is_finite()));
                prop_assert_eq!(there, distances(&one, &two, 6).unwrap());
            }
            for n in 1..=3 {
                let found = divergence(&p, &q, n);
                prop_assert!((-1e-12..=LN_2 + 1e-12).contains(&found), "{n} {found}");
                prop_assert_eq!(found, divergence(&q, &p, n));
                prop_assert!(divergence(&p, &p, n).abs() < 1e-12);
            }
        }
    }
}
