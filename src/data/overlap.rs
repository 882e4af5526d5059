//! How much of a validation set also occurs in text that a model is trained on.
//!
//! A split separates equal documents and the parts of one work, but not quotations, boilerplate and
//! different editions, nor what the target and the pretraining data have in common. A model predicts
//! from memory what it has seen in training, so its loss there says little about the domain. This
//! module measures the overlap: the share of the validation set's n-grams of tokens that occur in the
//! other text, and the share of its documents that contain such an n-gram. The default elsewhere in
//! this project is n = 13, as in Brown et al., "Language models are few-shot learners" (2020), appendix
//! C, which counts words.

use super::sequences::Sequences;
use crate::rng::mix;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};

/// The overlap of a validation set with other text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// The length n of the n-grams, in tokens.
    pub n: usize,
    /// The number of n-grams of the validation set that lie within one document.
    pub ngrams: u64,
    /// How many of these n-grams occur in the other text.
    pub found: u64,
    /// The number of documents of the validation set that are long enough for an n-gram.
    pub documents: u64,
    /// How many of these documents have an n-gram that occurs in the other text.
    pub touched: u64,
}

impl Overlap {
    /// The share of n-grams that occur in the other text, from 0 to 1; 0 if there are no n-grams.
    pub fn share(&self) -> f64 {
        self.found as f64 / self.ngrams.max(1) as f64
    }

    /// The share of documents with an n-gram that occurs in the other text.
    pub fn document_share(&self) -> f64 {
        self.touched as f64 / self.documents.max(1) as f64
    }
}

/// The largest share of n-grams in the other text for which there is no warning.
const HIGH_OVERLAP: f64 = 0.1;

/// The overlap of a target's validation set with the text that models are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overlaps {
    /// The overlap with the pretraining data, including the part for injection.
    pub pretraining: Overlap,
    /// The overlap with the target's own training part.
    pub training: Overlap,
}

impl Overlaps {
    /// Both, each with the name of the text that the validation set was compared with.
    pub fn named(&self) -> [(&'static str, Overlap); 2] {
        [
            ("the pretraining data", self.pretraining),
            ("the target's own training text", self.training),
        ]
    }

    /// A description in one line.
    pub fn words(&self) -> String {
        let [pretraining, training] = self.named().map(|(text, overlap)| {
            let (share, documents) = (100.0 * overlap.share(), 100.0 * overlap.document_share());
            (
                format!("{share:.2}%"),
                format!("{text} (at least one in {documents:.1}% of the documents)"),
            )
        });
        format!(
            "{} of the validation set's {}-grams occur in {}, and {} in {}",
            pretraining.0, self.pretraining.n, pretraining.1, training.0, training.1
        )
    }

    /// A warning if so much of a domain's validation set was seen in training that its loss may come
    /// from memory.
    pub fn warning(&self, domain: &str) -> Option<String> {
        let high = self.named().into_iter().any(|(_, overlap)| overlap.share() > HIGH_OVERLAP);
        high.then(|| {
            let words = self.words();
            format!("domain {domain}: {words}; losses there may come from memory")
        })
    }
}

/// Looks for every n-gram of `validation` in the documents of `others`. In both, the token
/// `end_of_text` separates documents.
///
/// Takes about 40 bytes of memory per token of the validation set, whatever the length of the others.
/// N-grams are compared by a 64-bit hash. If the validation set has millions of n-grams, a fraction of
/// about 10⁻¹² of the others' n-grams matches by accident.
///
/// # Errors
/// If `n` is 0.
///
/// # Examples
/// Of the pairs 12, 23, 34 and 56, two occur in the other text; 45 lies across a document's end.
/// ```
/// use forgetting_laws::data::{overlap::overlap, sequences::Sequences};
/// let validation = Sequences::new(vec![1, 2, 3, 4, 0, 5, 6], 6)?;
/// let other = Sequences::new(vec![2, 3, 4, 5, 0, 6, 6], 6)?;
/// let found = overlap(&validation, &[&other], 0, 2)?;
/// assert_eq!((found.ngrams, found.found), (4, 2));
/// assert_eq!((found.documents, found.touched), (2, 1));
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn overlap(
    validation: &Sequences,
    others: &[&Sequences],
    end_of_text: u32,
    n: usize,
) -> Result<Overlap> {
    if n == 0 {
        return Err(Error::setting("tokens of an n-gram", n, "must be at least 1"));
    }
    // The n-grams of each document, one after the other, and of each whether it was found.
    let (mut wanted, mut found) = (Vec::new(), HashMap::new());
    Ngrams::new(n, end_of_text).each(validation, |document, hash| {
        wanted.push((document, hash));
        found.insert(hash, false);
    });
    for other in others {
        Ngrams::new(n, end_of_text).each(other, |_, hash| {
            if let Some(found) = found.get_mut(&hash) {
                *found = true;
            }
        });
    }
    let mut overlap =
        Overlap { n, ngrams: wanted.len() as u64, found: 0, documents: 0, touched: 0 };
    for document in wanted.chunk_by(|a, b| a.0 == b.0) {
        let here = document.iter().filter(|(_, hash)| found[hash]).count() as u64;
        overlap.found += here;
        overlap.documents += 1;
        overlap.touched += u64::from(here > 0);
    }
    Ok(overlap)
}

/// How many tokens of a stream are in memory at a time.
const CHUNK: usize = 1 << 16;
/// The base of the polynomial: an arbitrary odd number.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The rolling hashes of a stream's n-grams: polynomials modulo 2⁶⁴ of mixed tokens.
struct Ngrams {
    n: usize,
    end_of_text: u32,
    /// BASE to the n.
    power: u64,
    /// The last n tokens of the document, mixed.
    window: VecDeque<u64>,
    hash: u64,
    document: u64,
}

impl Ngrams {
    fn new(n: usize, end_of_text: u32) -> Self {
        let power = (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
        let window = VecDeque::with_capacity(n.min(CHUNK) + 1);
        Self { n, end_of_text, power, window, hash: 0, document: 0 }
    }

    /// Calls `hear` with every n-gram and the number of its document.
    fn each(mut self, sequences: &Sequences, mut hear: impl FnMut(u64, u64)) {
        for chunk in sequences.chunks(CHUNK) {
            for &token in chunk.iter() {
                if let Some(hash) = self.push(token) {
                    hear(self.document, hash);
                }
            }
        }
    }

    fn push(&mut self, token: u32) -> Option<u64> {
        if token == self.end_of_text {
            self.window.clear();
            self.hash = 0;
            self.document += 1;
            return None;
        }
        let mixed = mix(u64::from(token) + 1);
        self.hash = self.hash.wrapping_mul(BASE).wrapping_add(mixed);
        self.window.push_back(mixed);
        if self.window.len() > self.n {
            let left = self.window.pop_front().expect("longer than n");
            self.hash = self.hash.wrapping_sub(left.wrapping_mul(self.power));
        }
        (self.window.len() == self.n).then_some(self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const END: u32 = 9;

    fn by_hand(validation: &[u32], others: &[&[u32]], n: usize) -> Overlap {
        let ngrams = |stream: &[u32]| -> Vec<Vec<Vec<u32>>> {
            let of = |document: &[u32]| document.windows(n).map(<[u32]>::to_vec).collect();
            stream.split(|&token| token == END).map(of).collect()
        };
        let there: HashSet<Vec<u32>> =
            others.iter().flat_map(|other| ngrams(other)).flatten().collect();
        let documents: Vec<Vec<Vec<u32>>> =
            ngrams(validation).into_iter().filter(|document| !document.is_empty()).collect();
        let found = |document: &&Vec<Vec<u32>>| document.iter().any(|ngram| there.contains(ngram));
        let all = || documents.iter().flatten();
        Overlap {
            n,
            ngrams: all().count() as u64,
            found: all().filter(|ngram| there.contains(*ngram)).count() as u64,
            documents: documents.len() as u64,
            touched: documents.iter().filter(found).count() as u64,
        }
    }

    #[test]
    fn streams_are_looked_at_across_chunks() {
        let stream: Vec<u32> = (0..CHUNK as u32 + 40).map(|i| i % 70_001 + 10).collect();
        let all = Sequences::new(stream.clone(), 1).unwrap();
        let part = Sequences::new(stream[CHUNK - 20..CHUNK + 20].to_vec(), 1).unwrap();
        let found = overlap(&part, &[&all], END, 13).unwrap();
        assert_eq!((found.ngrams, found.found), (28, 28));
        assert_eq!((found.share(), found.document_share()), (1.0, 1.0));
        assert!(overlap(&part, &[&all], END, 0).is_err());
        // Longer than any document: nothing to look for, and no shares of nothing.
        let none = overlap(&part, &[&all], END, 41).unwrap();
        assert_eq!((none.ngrams, none.documents, none.share()), (0, 0, 0.0));
    }

    proptest! {
        #[test]
        fn it_is_what_is_counted_by_hand(
            validation in prop::collection::vec(0u32..=END, 2..60),
            one in prop::collection::vec(0u32..=END, 2..60),
            two in prop::collection::vec(0u32..=END, 2..60),
            n in 1usize..5,
        ) {
            let sequences = |stream: &[u32]| Sequences::new(stream.to_vec(), 1).unwrap();
            let (first, second) = (sequences(&one), sequences(&two));
            let measured = overlap(&sequences(&validation), &[&first, &second], END, n).unwrap();
            prop_assert_eq!(measured, by_hand(&validation, &[&one, &two], n));
        }
    }
}
