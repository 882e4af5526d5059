//! How far apart two sources of documents are, measured on their text alone and with standard
//! errors.
//!
//! [`distances`](super::distances) measures sequences that were prepared for training. The measures
//! here are taken on a [`Sample`] of whole documents, so each comes with a standard error: how much
//! it would vary with another sample of documents. Larger means farther, except for the
//! classifier's error.
//!
//! # Sample
//! Documents are ordered by a hash of their text, and the documents of one group (the pieces of a
//! work) by the hash of the group's first document. The last bit of the hash puts the group into
//! one of two halves. A half takes the first document of each group, then the second of each, and
//! so on, until it has half of the tokens; the last document is cut. So a sample depends neither on
//! names nor on the order of files, it spans as many groups as possible, and a text that occurs in
//! both sources is in the same half of both.
//!
//! # Measures
//! - **Divergences**: the Jensen–Shannon divergences of tokens, pairs and triples, adjusted for
//!   chance as in the [parent module](super). The first half of one source is compared with the
//!   second half of the other, so that a text that is in both does not count twice. In nats, 0 to
//!   ln 2; 0 between a source and itself.
//! - **Trigram gap**: the loss on half of the target of a trigram model of the other half of the
//!   pretraining sample, minus that of a trigram model of the target's other half. This is nearly
//!   the Kullback–Leibler divergence of triples, in nats per token. Unlike the excess it does not
//!   depend on how hard the target is.
//! - **Trigram excess**: the loss of the same pretraining model on the target, minus its loss on
//!   the pretraining sample.
//! - **Classifier error**: the two trigram models serve as a classifier of windows of [`WINDOW`]
//!   tokens, which assigns each window to the source whose model gives it the larger probability.
//!   The error is the mean of the two sources' shares of mistakes: 0.5 if they cannot be told
//!   apart, 0 if they always can. A tie is half a mistake. This is the likelihood-ratio test for
//!   sources of triples.
//!
//! # Standard errors
//! Standard errors come from the jackknife, as for all [losses](crate::loss): each half is cut into
//! [`BLOCKS`] blocks of whole groups, a measure is computed without each block in turn, and the
//! variances of the halves are added. For the trigram measures the models stay the same, and blocks
//! of the text that they are evaluated on are left out. On 16 samples of synthetic text the
//! standard errors were 1.1 to 1.7 times the observed variation: too large rather than too small.
//!
//! The choice is ours; the paper has none.

use super::{LN_2, adjust};
use crate::data::ngram::{Ngram, pack};
use crate::data::{Encode, Source};
use crate::loss::{Loss, Measured, variance};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ops::Range;

/// Blocks of a half, at most.
pub const BLOCKS: usize = 10;
/// Tokens that the classifier is asked about at a time.
pub const WINDOW: usize = 32;

/// The measures of one target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// The adjusted Jensen–Shannon divergence of tokens, in nats: about 0 to ln 2.
    pub unigram_js: Measured,
    /// The Jensen-Shannon divergence of pairs of tokens.
    pub bigram_js: Measured,
    /// The Jensen-Shannon divergence of triples of tokens.
    pub trigram_js: Measured,
    /// The loss on the target of a trigram model of the pretraining data, minus that of a trigram
    /// model of the target, in nats per token.
    pub trigram_gap: Measured,
    /// The loss of a trigram model of the pretraining data on the target, minus its loss on the
    /// pretraining data, in nats per token.
    pub trigram_excess: Measured,
    /// The share of windows that the two models attribute to the wrong source: 0.5 if the sources
    /// cannot be told apart.
    pub classifier_error: Measured,
}

impl Measures {
    /// The measures with their names, in the order of the fields.
    pub fn named(&self) -> [(&'static str, Measured); 6] {
        [
            ("unigram_js", self.unigram_js),
            ("bigram_js", self.bigram_js),
            ("trigram_js", self.trigram_js),
            ("trigram_gap", self.trigram_gap),
            ("trigram_excess", self.trigram_excess),
            ("classifier_error", self.classifier_error),
        ]
    }
}

/// Documents of a source in two halves that share no group.
#[derive(Debug, Clone)]
pub struct Sample {
    halves: [Vec<Drawn>; 2],
}

/// A document of a sample.
#[derive(Debug, Clone)]
struct Drawn {
    /// The hash of its group, and which one of the group it is.
    place: (u64, u64),
    /// Its number in the source.
    document: u64,
    /// Its tokens and the end of text.
    tokens: Vec<u32>,
}

impl Sample {
    /// Draws documents with `tokens` tokens in all, half of them in each half, or all documents if
    /// they have fewer.
    ///
    /// An unlimited source gives its first documents, each a group of its own.
    ///
    /// # Errors
    /// If a document cannot be read or tokenised.
    pub fn draw(source: &dyn Source, encoder: &dyn Encode, tokens: u64) -> Result<Self> {
        let need = tokens.div_ceil(2);
        let mut halves = [Vec::new(), Vec::new()];
        let mut held = [0u64; 2];
        let mut take = |place: (u64, u64), document: u64| -> Result<bool> {
            let half = (place.0 & 1) as usize;
            if held[half] < need {
                let mut tokens = encoder.encode(&source.document(document)?)?;
                tokens.push(encoder.end_of_text());
                held[half] += tokens.len() as u64;
                halves[half].push(Drawn { place, document, tokens });
            }
            Ok(held.iter().all(|&held| held >= need))
        };
        match source.len() {
            Some(documents) => {
                for (rank, hash, document) in order(source, documents)? {
                    if take((hash, rank), document)? {
                        break;
                    }
                }
            }
            None => {
                for document in 0.. {
                    if take((hash(&source.document(document)?), 0), document)? {
                        break;
                    }
                }
            }
        }
        Ok(Self { halves })
    }

    /// The tokens of both halves together, if the larger is cut to the length of the smaller.
    pub fn tokens(&self) -> u64 {
        let tokens = |half: &Vec<Drawn>| half.iter().map(|drawn| drawn.tokens.len() as u64).sum();
        2 * self.halves.iter().map(tokens).min().unwrap_or(0)
    }

    /// The numbers, in the source, of the documents that [`compare`] reads for this many tokens:
    /// for further measures of the same text.
    pub fn documents(&self, tokens: u64) -> Vec<u64> {
        let taken = self.halves.iter().flat_map(|half| taken(half, tokens / 2));
        taken.map(|(drawn, _)| drawn.document).collect()
    }

    /// The halves as streams of half of `tokens` each.
    fn streams(&self, tokens: u64) -> Result<[Stream; 2]> {
        let [first, second] = self.halves.each_ref().map(|half| Stream::new(half, tokens / 2));
        Ok([first?, second?])
    }
}

/// The documents of a finite source in the order in which they are drawn: which one of its group
/// each is, the hash of the group, and its number.
fn order(source: &dyn Source, documents: u64) -> Result<Vec<(u64, u64, u64)>> {
    let mut groups: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut order = Vec::new();
    for i in 0..documents {
        let group = source.group(i);
        let (hash, next) = match groups.get(&group) {
            Some(&known) => known,
            None => (hash(&source.document(i)?), 0),
        };
        groups.insert(group, (hash, next + 1));
        order.push((next, hash, i));
    }
    order.sort_unstable();
    Ok(order)
}

fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("it has 32 bytes"))
}

/// The documents of a half that make up so many tokens, each with the tokens that are used.
fn taken(half: &[Drawn], tokens: u64) -> impl Iterator<Item = (&Drawn, &[u32])> {
    let mut left = tokens as usize;
    half.iter().map_while(move |drawn| {
        let used = &drawn.tokens[..drawn.tokens.len().min(left)];
        left -= used.len();
        (!used.is_empty()).then_some((drawn, used))
    })
}

/// A half's tokens, group by group, and the blocks that they are cut into.
struct Stream {
    tokens: Vec<u32>,
    blocks: Vec<Range<usize>>,
}

impl Stream {
    fn new(half: &[Drawn], tokens: u64) -> Result<Self> {
        let mut documents: Vec<(&Drawn, &[u32])> = taken(half, tokens).collect();
        documents.sort_by_key(|(drawn, _)| (drawn.place, drawn.document));
        let mut stream = Vec::with_capacity(tokens as usize);
        let mut groups = Vec::new();
        for group in documents.chunk_by(|(a, _), (b, _)| a.place.0 == b.place.0) {
            groups.push(stream.len());
            group.iter().for_each(|(_, used)| stream.extend_from_slice(used));
        }
        let mut starts: Vec<usize> = Vec::new();
        let block = |start: usize| start * BLOCKS / stream.len();
        for start in groups {
            if starts.last().is_none_or(|&last| block(last) != block(start)) {
                starts.push(start);
            }
        }
        if stream.len() < 2 * WINDOW {
            return Err(Error::Exhausted {
                what: "half of the text to measure a distance by".into(),
                asked: tokens.max(2 * WINDOW as u64),
                available: stream.len() as u64,
                remedy: "give more text, in more documents or works".into(),
            });
        }
        if starts.len() < 2 {
            let requirement = "must be at least 2: give more documents or works, or measure with more \
                               tokens";
            return Err(Error::setting("works in half of the text", starts.len(), requirement));
        }
        let ends = starts[1..].iter().copied().chain([stream.len()]);
        let blocks = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        Ok(Self { tokens: stream, blocks })
    }
}

/// Measures how far `target` is from `pretraining`, with this many tokens of each, all below
/// `vocab_size`.
///
/// Compare only results for the same number of tokens of the same tokenizer. Takes about 4 seconds
/// for 400,000 tokens on one core. Nothing is random: equal input gives equal numbers. If the two
/// samples are exchanged, the divergences and the classifier's error stay the same to the bit.
///
/// # Errors
/// If a sample has fewer tokens, if a half has fewer than two groups or 64 tokens, if neither side's
/// halves share a single n-gram of some order, if `vocab_size` is above 2²¹, or if a token is not
/// below it.
pub fn compare(
    pretraining: &Sample,
    target: &Sample,
    tokens: u64,
    vocab_size: usize,
) -> Result<Measures> {
    let available = pretraining.tokens().min(target.tokens());
    if available < tokens {
        return Err(Error::Exhausted {
            what: "text to measure a distance by".into(),
            asked: tokens,
            available,
            remedy: "give more text or ask for fewer tokens".into(),
        });
    }
    let (a, b) = (pretraining.streams(tokens)?, target.streams(tokens)?);
    let models = Models::of(&a, &b, vocab_size)?;
    let (of_a, of_b) = (models.ask(&a), models.ask(&b));
    let loss = |losses: &[Asked], model: usize| -> Vec<Loss> {
        losses.iter().map(|asked| Loss { nats: asked.nats[model], tokens: asked.tokens }).collect()
    };
    let gap = |asked: &Asked| Loss { nats: asked.nats[0] - asked.nats[1], tokens: asked.tokens };
    let mistakes = |losses: &[Asked], model: usize| -> Vec<Loss> {
        let mistakes = |asked: &Asked| Loss { nats: asked.mistakes[model], tokens: asked.windows };
        losses.iter().map(mistakes).collect()
    };
    let (of_first, of_second) =
        (Measured::mean(&mistakes(&of_a, 0)), Measured::mean(&mistakes(&of_b, 1)));
    Ok(Measures {
        unigram_js: divergence(&a, &b, 1)?,
        bigram_js: divergence(&a, &b, 2)?,
        trigram_js: divergence(&a, &b, 3)?,
        trigram_gap: Measured::mean(&of_b.iter().map(gap).collect::<Vec<_>>()),
        trigram_excess: Measured::excess(&loss(&of_a, 0), &loss(&of_b, 0)),
        classifier_error: Measured {
            value: (of_first.value + of_second.value) / 2.0,
            error: of_first.error.hypot(of_second.error) / 2.0,
        },
    })
}

/// For each half that is evaluated, the trigram models of the other halves of both sources.
struct Models([[Ngram; 2]; 2]);

/// What became of a block.
struct Asked {
    /// The losses by the model of the first and of the second source.
    nats: [f64; 2],
    tokens: u64,
    windows: u64,
    /// The mistakes, first if the windows are from the first source, then if from the second.
    mistakes: [f64; 2],
}

impl Models {
    fn of(a: &[Stream; 2], b: &[Stream; 2], vocab_size: usize) -> Result<Self> {
        let train = |half: usize| -> Result<[Ngram; 2]> {
            let of = |streams: &[Stream; 2]| Ngram::train(&streams[1 - half].tokens, vocab_size, 3);
            Ok([of(a)?, of(b)?])
        };
        Ok(Self([train(0)?, train(1)?]))
    }

    /// Asks about every block of both halves.
    fn ask(&self, streams: &[Stream; 2]) -> Vec<Asked> {
        let halves = streams.iter().zip(&self.0);
        let asked = halves.flat_map(|(stream, models)| {
            let block = |block: &Range<usize>| ask(models, &stream.tokens[block.clone()]);
            stream.blocks.iter().map(block)
        });
        asked.filter(|asked| asked.windows > 0).collect()
    }
}

/// Asks about whole windows; each begins without a context.
fn ask(models: &[Ngram; 2], tokens: &[u32]) -> Asked {
    let mut all = Asked { nats: [0.0; 2], tokens: 0, windows: 0, mistakes: [0.0; 2] };
    for window in tokens.chunks_exact(WINDOW) {
        let loss = |model: &Ngram| -> f64 {
            (0..WINDOW).map(|i| -libm::log(model.probability(&window[..i], window[i]))).sum()
        };
        let losses = models.each_ref().map(loss);
        for i in 0..2 {
            all.nats[i] += losses[i];
            all.mistakes[i] += match losses[i].total_cmp(&losses[1 - i]) {
                std::cmp::Ordering::Less => 0.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 1.0,
            };
        }
        all.tokens += WINDOW as u64;
        all.windows += 1;
    }
    all
}

/// The adjusted divergence of the n-grams of two sources, with the jackknife's error.
fn divergence(a: &[Stream; 2], b: &[Stream; 2], n: usize) -> Result<Measured> {
    let counts = Counts::of([&a[0], &a[1], &b[0], &b[1]], n);
    let pairs = PAIRS.map(|(i, j)| js(&counts.columns[i], &counts.columns[j]));
    let adjusted =
        |[first, second, of_a, of_b]: [f64; 4]| adjust((first + second) / 2.0, (of_a + of_b) / 2.0);
    let value = adjusted(pairs).ok_or_else(|| {
        let requirement =
            format!("must be larger: the halves of neither side share a run of {n} tokens");
        Error::setting("tokens of each side", 2 * a[0].tokens.len(), requirement)
    })?;
    let mut variances = [0.0; 4];
    for (stream, variance_of) in variances.iter_mut().enumerate() {
        let without = |cells: &Vec<(u32, u32)>| {
            let mut column = counts.columns[stream].clone();
            cells.iter().for_each(|&(ngram, count)| column[ngram as usize] -= count);
            let mut pairs = pairs;
            for (pair, (i, j)) in pairs.iter_mut().zip(PAIRS) {
                if i == stream {
                    *pair = js(&column, &counts.columns[j]);
                } else if j == stream {
                    *pair = js(&counts.columns[i], &column);
                }
            }
            adjusted(pairs)
        };
        let without: Vec<f64> = counts.cells[stream].iter().filter_map(without).collect();
        *variance_of = variance(&without);
    }
    let [a1, a2, b1, b2] = variances;
    Ok(Measured { value, error: ((a1 + a2) + (b1 + b2)).sqrt() })
}

/// Which of the four halves are compared: across the sources, and within each of them.
const PAIRS: [(usize, usize); 4] = [(0, 3), (1, 2), (0, 1), (2, 3)];

/// How often the n-grams of four streams occur.
struct Counts {
    /// The columns of the matrix, by stream and n-gram.
    columns: [Vec<u32>; 4],
    /// By stream and block: n-grams and how often each occurs there.
    cells: [Vec<Vec<(u32, u32)>>; 4],
}

impl Counts {
    fn of(streams: [&Stream; 4], n: usize) -> Self {
        let mut places: Vec<(u64, u8, u8)> = Vec::new();
        for (stream, which) in streams.iter().zip(0..) {
            for (block, part) in stream.blocks.iter().zip(0..) {
                let ngrams = stream.tokens[block.clone()].windows(n).map(pack);
                places.extend(ngrams.map(|ngram| (ngram, which, part)));
            }
        }
        places.sort_unstable();
        let distinct = places.chunk_by(|a, b| a.0 == b.0).count();
        let mut columns = [(); 4].map(|()| vec![0; distinct]);
        let mut cells = streams.map(|stream| vec![Vec::new(); stream.blocks.len()]);
        for (same, ngram) in places.chunk_by(|a, b| a.0 == b.0).zip(0u32..) {
            for cell in same.chunk_by(|a, b| a == b) {
                let (_, stream, block) = cell[0];
                let count = cell.len() as u32;
                columns[usize::from(stream)][ngram as usize] += count;
                cells[usize::from(stream)][usize::from(block)].push((ngram, count));
            }
        }
        Self { columns, cells }
    }
}

/// The Jensen–Shannon divergence, in nats, of two columns of counts.
fn js(p: &[u32], q: &[u32]) -> f64 {
    let total = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>() as f64;
    let (all_p, all_q) = (total(p), total(q));
    // What only one of them has adds half of its share times ln 2.
    let (mut only_p, mut only_q, mut shared) = (0u64, 0u64, 0.0);
    for (&p, &q) in p.iter().zip(q) {
        match (p, q) {
            (p, 0) => only_p += u64::from(p),
            (0, q) => only_q += u64::from(q),
            (p, q) => {
                let (p, q) = (f64::from(p) / all_p, f64::from(q) / all_q);
                let middle = (p + q) / 2.0;
                shared += p / 2.0 * libm::log(p / middle) + q / 2.0 * libm::log(q / middle);
            }
        }
    }
    shared + LN_2 / 2.0 * (only_p as f64 / all_p + only_q as f64 / all_q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fraction;
    use crate::data::Bytes;
    use crate::data::synthetic::{Domain, Synthetic};
    use crate::rng::Key;
    use approx::assert_relative_eq;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::collections::BTreeSet;

    const VOCAB: usize = 257;

    /// Texts with the numbers of their groups.
    struct Texts(Vec<(String, u64)>);

    impl Source for Texts {
        fn content_hash(&self) -> String {
            String::new()
        }

        fn len(&self) -> Option<u64> {
            Some(self.0.len() as u64)
        }

        fn document(&self, i: u64) -> Result<Cow<'_, str>> {
            Ok(Cow::Borrowed(&self.0[i as usize].0))
        }

        fn group(&self, i: u64) -> u64 {
            self.0[i as usize].1
        }
    }

    fn texts(texts: &[String]) -> Texts {
        Texts(texts.iter().cloned().zip(0..).collect())
    }

    fn draw(source: &dyn Source, tokens: u64) -> Sample {
        Sample::draw(source, &Bytes, tokens).unwrap()
    }

    /// Another part of the same unlimited source.
    struct Later<'a>(&'a Synthetic, u64);

    impl Source for Later<'_> {
        fn content_hash(&self) -> String {
            self.0.content_hash()
        }

        fn len(&self) -> Option<u64> {
            None
        }

        fn document(&self, i: u64) -> Result<Cow<'_, str>> {
            self.0.document(self.1 + i)
        }
    }

    /// The domains of the preset nano.
    fn nano(seed: u64) -> [Synthetic; 3] {
        let of = |kind, distance| Synthetic::target(kind, Fraction::new(distance).unwrap(), seed);
        [of(Domain::Prose, 0.25), of(Domain::Code, 0.6), of(Domain::Dialogue, 1.0)]
    }

    #[test]
    fn the_domains_of_nano_come_out_in_order() {
        for seed in [0, 5] {
            let pretraining = draw(&Synthetic::pretraining(seed), 40_000);
            let all = nano(seed).map(|domain| {
                compare(&pretraining, &draw(&domain, 40_000), 40_000, VOCAB).unwrap()
            });
            for measure in [0, 1, 2, 3] {
                let values = all.map(|measures| measures.named()[measure].1.value);
                assert!(values.is_sorted_by(|a, b| a < b), "{measure} {all:?}");
            }
            let errors = all.map(|measures| measures.classifier_error.value);
            assert!(errors[0] > errors[2] && errors[0] < 0.4, "{errors:?}");
        }
    }

    /// Standard errors are what other documents bring.
    #[test]
    fn errors_are_those_of_other_samples() {
        let (broad, [near, ..]) = (Synthetic::pretraining(0), nano(0));
        let samples: Vec<Measures> = (0..16)
            .map(|i| {
                let [broad, near] =
                    [&broad, &near].map(|source| draw(&Later(source, i << 32), 16_000));
                compare(&broad, &near, 16_000, VOCAB).unwrap()
            })
            .collect();
        for measure in 0..6 {
            let of = |measures: &Measures| measures.named()[measure].1;
            let n = samples.len() as f64;
            let mean = samples.iter().map(|m| of(m).value).sum::<f64>() / n;
            let spread =
                samples.iter().map(|m| (of(m).value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let stated = samples.iter().map(|m| of(m).error.powi(2)).sum::<f64>() / n;
            let ratio = (stated / spread).sqrt();
            // 15 degrees of freedom: 0.65 to 1.65 in 99% of cases where they agree.
            assert!((0.5..2.2).contains(&ratio), "{measure}: {ratio}");
        }
    }

    #[test]
    fn the_divergence_is_that_of_streams() {
        let (p, q) = ([0u32, 0, 1, 2], [0u32, 3, 3, 3]);
        assert_relative_eq!(
            js(&[2, 1, 1, 0], &[1, 0, 0, 3]),
            super::super::divergence(&p, &q, 1),
            epsilon = 1e-15
        );
        assert_eq!(js(&[1, 2], &[1, 2]), 0.0);
        assert_relative_eq!(js(&[1, 0], &[0, 7]), LN_2, epsilon = 1e-15);
    }

    /// For parts of one size it is the textbook's standard error of a mean.
    #[test]
    fn a_sample_spans_groups_and_keeps_them_whole() {
        // Twenty works of eight pieces.
        let piece = |i: u64| (format!("{i:04} {}", "x".repeat(44)), i / 8);
        let mut source = Texts((0..160).map(piece).collect());
        // 50 tokens a piece: 40 pieces, so two of each work on average.
        let sample = draw(&source, 2_000);
        let numbers = sample.documents(2_000);
        assert_eq!(numbers.len(), 40);
        let groups = |half: &[Drawn]| -> BTreeSet<u64> {
            half.iter().map(|drawn| drawn.document / 8).collect()
        };
        let [first, second] = sample.halves.each_ref().map(|half| groups(half));
        assert!(first.is_disjoint(&second) && first.len() + second.len() == 20);
        assert!(numbers.iter().all(|i| i % 8 < 5), "{numbers:?}");
        let stream = Stream::new(&sample.halves[0], 1_000).unwrap();
        assert_eq!(stream.tokens.len(), 1_000);
        for block in &stream.blocks {
            // A block begins with a work's first piece.
            let number: String =
                stream.tokens[block.start..][..4].iter().map(|&b| char::from(b as u8)).collect();
            assert_eq!(number.parse::<u64>().unwrap() % 8, 0);
        }
        assert_eq!(stream.blocks.last().unwrap().end, 1_000);
        // Neither names of groups nor their order count.
        let hashes = |sample: &Sample| {
            let place = |drawn: &Drawn| (drawn.place, drawn.tokens.clone());
            sample.halves.each_ref().map(|half| half.iter().map(place).collect::<Vec<_>>())
        };
        let before = hashes(&sample);
        source.0.rotate_left(80);
        source.0.iter_mut().for_each(|(_, group)| *group += 7);
        assert_eq!(before, hashes(&draw(&source, 2_000)));
    }

    #[test]
    fn too_little_text_is_refused() {
        let key = Key::new(1);
        let text =
            |i: u64| (0..100).map(|j| ['a', 'b'][key.below(100 * i + j, 2) as usize]).collect();
        let enough = draw(&texts(&(0..40).map(text).collect::<Vec<_>>()), 2_000);
        assert!(compare(&enough, &enough, 2_000, VOCAB).is_ok());
        let error = compare(&enough, &enough, 6_000, VOCAB).unwrap_err().to_string();
        assert!(error.contains("6000 tokens") && error.contains("fewer tokens"), "{error}");
        let error = compare(&enough, &enough, 100, VOCAB).unwrap_err().to_string();
        assert!(error.contains("half of the text") && error.contains("64 tokens"), "{error}");
        let long = draw(&texts(&[0, 1, 2, 3, 5].map(|i| text(i).repeat(20))), 2_000);
        let error = compare(&enough, &long, 2_000, VOCAB).unwrap_err().to_string();
        assert!(error.contains("works in half of the text = 1"), "{error}");
        assert!(compare(&enough, &enough, 2_000, 100).is_err(), "97 and 98 are above");
        let one = draw(&texts(&[text(0)]), 2_000);
        assert_eq!(one.tokens(), 0);
        assert!(compare(&enough, &one, 2_000, VOCAB).is_err());
        let none = draw(&texts(&[]), 2_000);
        assert!(compare(&none, &none, 0, VOCAB).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// A source is at no distance from itself, exactly; divergences and the classifier's error
        /// do not know which source is which.
        #[test]
        fn zero_and_symmetry(
            a in prop::collection::vec("[a-c ]{40,90}", 24..40),
            b in prop::collection::vec("[b-e ]{40,90}", 24..40),
        ) {
            let [a, b] = [a, b].map(|side| draw(&texts(&side), 600));
            prop_assume!(a.tokens().min(b.tokens()) >= 400);
            let own = compare(&a, &a, 400, VOCAB).unwrap();
            for (name, measured) in &own.named()[..5] {
                prop_assert_eq!(measured.value, 0.0, "{}", name);
            }
            prop_assert_eq!(own.classifier_error.value, 0.5);
            let [there, back] = [(&a, &b), (&b, &a)].map(|(a, b)| compare(a, b, 400, VOCAB).unwrap());
            let symmetric = |m: &Measures| {
                [m.unigram_js, m.bigram_js, m.trigram_js, m.classifier_error]
            };
            prop_assert_eq!(symmetric(&there), symmetric(&back));
            prop_assert!(symmetric(&there)[..3].iter().all(|js| js.value <= LN_2 + 1e-12));
            prop_assert!((0.0..=1.0).contains(&there.classifier_error.value));
            prop_assert!(there.named().iter().all(|(_, m)| m.value.is_finite() && m.error >= 0.0));
        }
    }
}
