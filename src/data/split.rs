//! Validation, injection and training parts of a source, cut along works and not along tokens.
//!
//! Validation comes first, so that it stays the same whatever the other parts ask for. The part
//! that is reserved for injection comes before training, so that what finetuning injects was
//! never seen in pretraining: the paper streams fresh pretraining data into the finetuning
//! mixture. How the paper splits its data is not known; the rules here are ours.

use super::sequences::{Sequences, whole_sequences};
use super::{Encode, Source};
use crate::rng::Key;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A held-out part of a finite source spans at least this many groups, or
/// [`HELD_OUT_SHARE`] of all where that is less: a validation loss over two novels says more
/// about the two authors than about the source.
const HELD_OUT_GROUPS: usize = 64;
/// The divisor of the share above: a twentieth of the groups.
const HELD_OUT_SHARE: usize = 20;
/// An unlimited source that yields this many repeats in a row has nothing more to give.
const REPEATS_IN_A_ROW: u32 = 10_000;

/// The tokens that each part should hold; a part of 0 tokens is left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitTokens {
    /// Predicted tokens to evaluate on.
    pub validation: u64,
    /// Predicted tokens reserved for injection into finetuning.
    pub injection: u64,
    /// Predicted tokens to train on, at most.
    pub training: u64,
}

/// What became of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// The tokens that were asked for.
    pub asked: u64,
    /// The predicted tokens of its whole sequences.
    pub tokens: u64,
    /// The documents that they come from.
    pub documents: u64,
    /// The groups that those documents belong to.
    pub groups: u64,
}

/// What became of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// The validation part.
    pub validation: PartReport,
    /// The part reserved for injection.
    pub injection: PartReport,
    /// The training part; `tokens` far below `asked` says that the source ran out.
    pub training: PartReport,
    /// Documents that were left out because an earlier one has the same text.
    pub duplicates: u64,
}

/// A source in three parts that share no document and no group.
///
/// - **Order.** The groups of a finite source are ordered by a hash of the key. Whole groups go
///   to validation until it can be filled, then to injection, and all others are training. A
///   held-out part takes at least a twentieth of the groups, or 64 where that is less, so that it
///   does not rest on one or two long works. Within a part the documents are ordered by another
///   hash, so that neighbours are different works. The documents of an unlimited source are
///   exchangeable: they are taken as they come, and its groups are not looked at.
/// - **Stream.** A part is its documents, each followed by the end-of-text token, cut to its
///   whole sequences.
/// - **Repeats.** A document whose text equals that of one before it, but for upper and lower
///   case and white space, is left out, so that no validation text is trained on.
/// - **Prefixes.** Smaller training parts are prefixes of larger ones: validation and injection
///   do not depend on `training`, nor validation on `injection`.
///
/// Documents are tokenised in parallel and only as far as they are needed. The result does not
/// depend on the number of threads.
#[derive(Debug, Clone)]
pub struct Split {
    /// The sequences to evaluate on.
    pub validation: Sequences,
    /// The sequences reserved for injection.
    pub injection: Sequences,
    /// The sequences to train on.
    pub training: Sequences,
    /// Counts of every part.
    pub report: SplitReport,
}

impl Split {
    /// Splits `source` into sequences of `context` tokens.
    ///
    /// # Errors
    /// If a part that was asked for is smaller than one sequence, if validation or injection
    /// cannot be filled, if nothing is left for training, or if a document cannot be read or
    /// tokenised. A training part that is smaller than asked is no error; the report says so.
    pub fn build(
        source: &dyn Source,
        encoder: &dyn Encode,
        key: Key,
        tokens: SplitTokens,
        context: usize,
    ) -> Result<Self> {
        let need = |name, asked| match asked {
            0 => Ok(0),
            asked => whole_sequences(name, asked, context).map(|count| count * context + 1),
        };
        let needs = [
            need("validation tokens", tokens.validation)?,
            need("injection tokens", tokens.injection)?,
            need("training tokens", tokens.training)?,
        ];
        let mut reader = Reader { source, encoder, seen: HashSet::new(), duplicates: 0 };
        let parts = match source.len() {
            Some(documents) => reader.finite(documents, key, needs)?,
            None => reader.unlimited(needs)?,
        };
        let [validation, injection, training] = parts;
        let (validation, validation_report) =
            validation.finish(source, "validation", tokens.validation, context, true)?;
        let (injection, injection_report) =
            injection.finish(source, "injection", tokens.injection, context, true)?;
        let (training, training_report) =
            training.finish(source, "training", tokens.training, context, false)?;
        Ok(Self {
            validation,
            injection,
            training,
            report: SplitReport {
                validation: validation_report,
                injection: injection_report,
                training: training_report,
                duplicates: reader.duplicates,
            },
        })
    }
}

/// A part's stream while it is filled, and the documents in it with their places in the stream.
#[derive(Default)]
struct Part {
    stream: Vec<u32>,
    documents: Vec<(u64, usize)>,
}

impl Part {
    fn push(&mut self, document: u64, tokens: &[u32], end_of_text: u32) {
        self.documents.push((document, self.stream.len()));
        self.stream.extend_from_slice(tokens);
        self.stream.push(end_of_text);
    }

    fn finish(
        mut self,
        source: &dyn Source,
        name: &str,
        asked: u64,
        context: usize,
        in_full: bool,
    ) -> Result<(Sequences, PartReport)> {
        let count = self.stream.len().saturating_sub(1) / context;
        let short = count == 0 || (in_full && (count as u64) < asked / context as u64);
        if asked > 0 && short {
            return Err(Error::Exhausted {
                what: format!("the {name} part"),
                asked,
                available: count as u64 * context as u64,
                remedy: format!(
                    "give more text, in more documents or works, or ask for fewer {} tokens",
                    if in_full { name } else { "validation and injection" }
                ),
            });
        }
        let sequences = if count == 0 {
            Sequences::empty(context)?
        } else {
            self.stream.truncate(count * context + 1);
            Sequences::new(self.stream, context)?
        };
        let used = sequences.stream().len();
        self.documents.retain(|&(_, start)| start < used);
        let mut groups: Vec<u64> = self.documents.iter().map(|&(i, _)| source.group(i)).collect();
        groups.sort_unstable();
        groups.dedup();
        let report = PartReport {
            asked,
            tokens: sequences.tokens(),
            documents: self.documents.len() as u64,
            groups: groups.len() as u64,
        };
        Ok((sequences, report))
    }
}

/// A document's fingerprint and tokens.
type Tokenised = (u128, Vec<u32>);

struct Reader<'a> {
    source: &'a dyn Source,
    encoder: &'a dyn Encode,
    seen: HashSet<u128>,
    duplicates: u64,
}

impl Reader<'_> {
    fn finite(&mut self, documents: u64, key: Key, needs: [usize; 3]) -> Result<[Part; 3]> {
        let (group_key, document_key) = (key.named("groups"), key.named("documents"));
        let mut order: Vec<(u64, u64, u64)> = (0..documents)
            .map(|i| (self.source.group(i), i))
            .map(|(group, i)| (group_key.word(group), group, i))
            .collect();
        order.sort_unstable();
        let groups: Vec<Vec<u64>> = order
            .chunk_by(|a, b| a.1 == b.1)
            .map(|group| group.iter().map(|&(_, _, i)| i).collect())
            .collect();
        let mut rest = groups.as_slice();
        let least = HELD_OUT_GROUPS.min(groups.len().div_ceil(HELD_OUT_SHARE));
        let validation = self.whole_groups(&mut rest, document_key, needs[0], least)?;
        let injection = self.whole_groups(&mut rest, document_key, needs[1], least)?;
        let mut training: Vec<u64> = rest.concat();
        training.sort_unstable_by_key(|&i| (document_key.word(i), i));
        let (training, _) =
            self.fill(needs[2], 0, |position| training.get(position as usize).copied())?;
        Ok([validation, injection, training])
    }

    fn unlimited(&mut self, needs: [usize; 3]) -> Result<[Part; 3]> {
        let (validation, next) = self.fill(needs[0], 0, Some)?;
        let (injection, next) = self.fill(needs[1], next, Some)?;
        let (training, _) = self.fill(needs[2], next, Some)?;
        Ok([validation, injection, training])
    }

    /// Takes whole groups off the front of `rest` until they hold `need` tokens and are `least`,
    /// then draws the part from all of them.
    fn whole_groups(
        &mut self,
        rest: &mut &[Vec<u64>],
        document_key: Key,
        need: usize,
        least: usize,
    ) -> Result<Part> {
        let (mut held, mut taken, mut tokens) = (Vec::new(), 0, 0);
        while need > 0 && (tokens < need || taken < least) && !rest.is_empty() {
            // A batch keeps the threads busy where the groups are small; what of it turns out not
            // to be needed is forgotten.
            let mut size = 0;
            let batch = rest.iter().take_while(|group| {
                let wanted = size < BATCH;
                size += group.len();
                wanted
            });
            let batch: Vec<u64> = batch.flatten().copied().collect();
            let mut tokenised = batch.iter().copied().zip(self.tokenise(&batch)?).peekable();
            while tokenised.peek().is_some() && (tokens < need || taken < least) {
                let group = tokenised.by_ref().take(rest[0].len());
                for (document, (fingerprint, encoded)) in group.collect::<Vec<_>>() {
                    if self.is_new(fingerprint) {
                        tokens += encoded.len() + 1;
                        held.push((document_key.word(document), document, encoded));
                    }
                }
                *rest = &rest[1..];
                taken += 1;
            }
        }
        held.sort_unstable_by_key(|&(word, document, _)| (word, document));
        let mut part = Part::default();
        for (_, document, encoded) in held {
            if part.stream.len() >= need {
                break;
            }
            part.push(document, &encoded, self.encoder.end_of_text());
        }
        part.stream.truncate(need);
        Ok(part)
    }

    /// Takes the documents at `position`, `position` + 1, … of an order until they hold `need`
    /// tokens or there are no more. Returns the position after the last one as well.
    fn fill(
        &mut self,
        need: usize,
        mut position: u64,
        document_at: impl Fn(u64) -> Option<u64>,
    ) -> Result<(Part, u64)> {
        let mut part = Part::default();
        let mut repeats = 0;
        while part.stream.len() < need {
            let mean = (part.stream.len() / part.documents.len().max(1)).max(1);
            let wanted = match part.documents.len() {
                0 => BATCH,
                _ => ((need - part.stream.len()) / mean + 1).clamp(BATCH / 4, 32 * BATCH),
            };
            let batch: Vec<u64> =
                (position..position + wanted as u64).map_while(&document_at).collect();
            if batch.is_empty() {
                break;
            }
            for (document, (fingerprint, encoded)) in batch.iter().zip(self.tokenise(&batch)?) {
                if part.stream.len() >= need {
                    break;
                }
                position += 1;
                if self.is_new(fingerprint) {
                    repeats = 0;
                    part.push(*document, &encoded, self.encoder.end_of_text());
                } else {
                    repeats += 1;
                }
            }
            if self.source.len().is_none() && repeats >= REPEATS_IN_A_ROW {
                break;
            }
        }
        part.stream.truncate(need);
        Ok((part, position))
    }

    fn is_new(&mut self, fingerprint: u128) -> bool {
        let new = self.seen.insert(fingerprint);
        self.duplicates += u64::from(!new);
        new
    }

    /// Tokenises documents on all cores, in the order in which they are given.
    fn tokenise(&self, documents: &[u64]) -> Result<Vec<Tokenised>> {
        let tokenise = |&document: &u64| -> Result<Tokenised> {
            let text = self.source.document(document)?;
            Ok((fingerprint(&text), self.encoder.encode(&text)?))
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let i = next.fetch_add(1, Ordering::Relaxed)
                && i < documents.len()
            {
                done.push((i, tokenise(&documents[i])));
            }
            done
        };
        let mut done: Vec<(usize, Result<Tokenised>)> = std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..cores.min(documents.len())).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                done.extend(other.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            }
            done
        });
        done.sort_unstable_by_key(|&(i, _)| i);
        done.into_iter().map(|(_, tokenised)| tokenised).collect()
    }
}

/// Documents that are tokenised at one go, where nothing better is known.
const BATCH: usize = 64;

/// 128 bits of the SHA-256 of a text in lower case with single spaces. Punctuation and digits
/// stay: they are all that tells two short exercises in arithmetic apart.
fn fingerprint(text: &str) -> u128 {
    let mut folded = String::with_capacity(text.len() + 1);
    for word in text.split_whitespace() {
        folded.extend(word.chars().flat_map(char::to_lowercase));
        folded.push(' ');
    }
    let digest = Sha256::digest(folded.as_bytes());
    digest.iter().take(16).fold(0, |bits, &byte| (bits << 8) | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::collections::BTreeSet;

    const END: u32 = u32::MAX;

    /// Document i is its number, repeated; a document in `same` has the text of document 0.
    #[derive(Clone, Default)]
    struct Numbers {
        documents: Option<u64>,
        words: u64,
        group_size: u64,
        same: BTreeSet<u64>,
        broken: Option<u64>,
    }

    impl Numbers {
        fn new(documents: impl Into<Option<u64>>, words: u64, group_size: u64) -> Self {
            Self { documents: documents.into(), words, group_size, ..Self::default() }
        }
    }

    impl Source for Numbers {
        fn content_hash(&self) -> String {
            String::new()
        }
        fn len(&self) -> Option<u64> {
            self.documents
        }
        fn document(&self, i: u64) -> Result<Cow<'_, str>> {
            if self.broken == Some(i) {
                return Err(Error::setting("document", i, "is broken"));
            }
            let i = if self.same.contains(&i) { 0 } else { i };
            // Lengths differ: 1 to 2·words − 1 words.
            let words = 1 + (i * 7919) % (2 * self.words - 1);
            Ok(vec![i.to_string(); words as usize].join(" ").into())
        }
        fn group(&self, i: u64) -> u64 {
            i / self.group_size
        }
    }

    /// A word is a number and its token.
    struct Words;

    impl Encode for Words {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            let token = |word: &str| {
                word.parse().map_err(|_| Error::setting("word", word, "must be a number"))
            };
            text.split(' ').map(token).collect()
        }
        fn end_of_text(&self) -> u32 {
            END
        }
    }

    fn build(source: &Numbers, seed: u64, tokens: [u64; 3], context: usize) -> Result<Split> {
        let [validation, injection, training] = tokens;
        let tokens = SplitTokens { validation, injection, training };
        Split::build(source, &Words, Key::new(seed), tokens, context)
    }

    fn documents(sequences: &Sequences) -> BTreeSet<u64> {
        let stream = sequences.stream().iter().filter(|&&token| token != END);
        stream.map(|&token| u64::from(token)).collect()
    }

    fn check_disjoint(source: &Numbers, split: &Split) {
        let parts = [&split.validation, &split.injection, &split.training];
        for by_group in [false, true] {
            let ids = |sequences: &Sequences| -> BTreeSet<u64> {
                let id = |i| if by_group { source.group(i) } else { i };
                documents(sequences).into_iter().map(id).collect()
            };
            let all: usize = parts.iter().map(|part| ids(part).len()).sum();
            let union: BTreeSet<u64> = parts.iter().flat_map(|part| ids(part)).collect();
            assert_eq!(union.len(), all);
        }
    }

    proptest! {
        #[test]
        fn parts_share_nothing_and_hold_what_was_asked(
            seed in 0u64..1000,
            group_size in 1u64..5,
            context in 1usize..9,
            validation in 0u64..200,
            injection in 0u64..200,
        ) {
            let asked = |tokens| if tokens < context as u64 { 0 } else { tokens };
            let (validation, injection) = (asked(validation), asked(injection));
            let source = Numbers::new(300, 6, group_size);
            let tokens = [validation, injection, 1_000_000];
            let split = build(&source, seed, tokens, context).unwrap();
            check_disjoint(&source, &split);
            let whole = |tokens: u64| tokens / context as u64 * context as u64;
            prop_assert_eq!(split.validation.tokens(), whole(validation));
            prop_assert_eq!(split.injection.tokens(), whole(injection));
            prop_assert_eq!(split.report.training.tokens, split.training.tokens());
            let parts = [
                (&split.validation, split.report.validation),
                (&split.injection, split.report.injection),
                (&split.training, split.report.training),
            ];
            for (part, report) in parts {
                // A part's last token may be the end of a document of which nothing else is in.
                let found = documents(part).len() as u64;
                prop_assert!(report.documents == found);
                let groups: BTreeSet<u64> =
                    documents(part).into_iter().map(|i| source.group(i)).collect();
                prop_assert_eq!(report.groups, groups.len() as u64);
            }
            // Every document that is in whole is in as it should be: its words and one end.
            let stream = split.training.stream();
            for document in stream.split_inclusive(|&token| token == END) {
                if document.last() == Some(&END) {
                    let i = u64::from(document[0]);
                    let mut expected = Words.encode(&source.document(i).unwrap()).unwrap();
                    expected.push(END);
                    prop_assert_eq!(document, &expected);
                }
            }
        }

        #[test]
        fn smaller_training_parts_are_prefixes(seed in 0u64..1000, training in 8u64..1500) {
            for source in [Numbers::new(400, 6, 3), Numbers::new(None, 6, 1)] {
                let all = build(&source, seed, [80, 80, 1500], 8).unwrap();
                let part = build(&source, seed, [80, 80, training], 8).unwrap();
                prop_assert_eq!(part.validation.hash(), all.validation.hash());
                prop_assert_eq!(part.injection.hash(), all.injection.hash());
                prop_assert_eq!(part.training.tokens(), training / 8 * 8);
                prop_assert_eq!(
                    part.training.hash(),
                    all.training.prefix(training).unwrap().hash()
                );
            }
        }
    }

    #[test]
    fn validation_does_not_depend_on_the_other_parts() {
        for source in [Numbers::new(400, 6, 3), Numbers::new(None, 6, 1)] {
            let with = build(&source, 0, [80, 200, 300], 8).unwrap();
            let without = build(&source, 0, [80, 0, 300], 8).unwrap();
            assert_eq!(with.validation.hash(), without.validation.hash());
            assert!(without.injection.is_empty());
            assert_eq!(without.report.injection.documents, 0);
        }
    }

    #[test]
    fn the_key_decides_the_order_of_a_finite_source() {
        let source = Numbers::new(300, 6, 2);
        let first = build(&source, 1, [80, 80, 1000], 8).unwrap();
        let again = build(&source, 1, [80, 80, 1000], 8).unwrap();
        let other = build(&source, 2, [80, 80, 1000], 8).unwrap();
        assert_eq!(first.training.hash(), again.training.hash());
        assert_eq!(first.report, again.report);
        assert_ne!(first.training.hash(), other.training.hash());
        assert_ne!(documents(&first.validation), documents(&other.validation));
        // Neighbours are of different groups for the most part.
        let order: Vec<u64> = first
            .training
            .stream()
            .split(|&token| token == END)
            .filter_map(|document| document.first())
            .map(|&i| source.group(u64::from(i)))
            .collect();
        let same = order.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(same * 10 < order.len(), "{same} of {}", order.len());
    }

    #[test]
    fn an_unlimited_source_is_taken_as_it_comes() {
        let source = Numbers::new(None, 6, 1);
        let split = build(&source, 3, [64, 64, 6400], 8).unwrap();
        check_disjoint(&source, &split);
        let order: Vec<u64> = [&split.validation, &split.injection, &split.training]
            .iter()
            .flat_map(|part| documents(part))
            .collect();
        assert!(order.is_sorted());
        assert_eq!(order, (0..order.len() as u64).collect::<Vec<_>>());
        assert_eq!(split.training.tokens(), 6400);
    }

    /// One work in three parts of 100 documents would be all of the validation otherwise.
    #[test]
    fn held_out_parts_span_a_twentieth_of_the_groups() {
        let source = Numbers::new(10_000, 6, 100);
        let split = build(&source, 0, [160, 160, 100_000], 8).unwrap();
        check_disjoint(&source, &split);
        assert!(split.report.validation.groups > 1 && split.report.validation.groups <= 5);
        assert_eq!(split.report.training.groups, 90);
        // 64 groups are enough of many.
        let source = Numbers::new(3000, 6, 2);
        let split = build(&source, 0, [8, 8, 100_000], 8).unwrap();
        assert_eq!(split.report.training.groups, 1500 - 2 * 64);
    }

    #[test]
    fn repeats_are_left_out() {
        let mut source = Numbers::new(200, 6, 1);
        source.same = (50..100).collect();
        let split = build(&source, 0, [80, 80, 100_000], 8).unwrap();
        assert_eq!(split.report.duplicates, 50);
        check_disjoint(&source, &split);
        let zero = |part: &Sequences| documents(part).contains(&0);
        let parts = [&split.validation, &split.injection, &split.training];
        assert!(parts.iter().filter(|part| zero(part)).count() <= 1);
    }

    #[test]
    fn only_case_and_white_space_make_no_difference() {
        assert_eq!(fingerprint("A  b\n"), fingerprint(" a B"));
        assert_ne!(fingerprint("34 + 7"), fingerprint("3 + 47"));
        assert_ne!(fingerprint("3 + 4"), fingerprint("3 - 4"));
        assert_ne!(fingerprint("a b"), fingerprint("ab"));
        // The first half of Python's hashlib.sha256(b"a b ").hexdigest().
        assert_eq!(format!("{:032x}", fingerprint("a b")), "60270911794ae6e2b85c041d498c5ecc");
    }

    #[test]
    fn parts_that_cannot_be_filled() {
        // 40 documents of 1 to 11 words.
        let source = Numbers::new(40, 6, 1);
        let exhausted = |tokens: [u64; 3]| match build(&source, 0, tokens, 8).unwrap_err() {
            Error::Exhausted { what, asked, available, .. } => (what, asked, available),
            error => panic!("{error}"),
        };
        let (what, asked, available) = exhausted([10_000, 0, 100]);
        assert_eq!((&*what, asked), ("the validation part", 10_000));
        assert!(available > 100 && available < 40 * 12, "{available}");
        assert_eq!(exhausted([80, 10_000, 100]).0, "the injection part");
        assert_eq!(exhausted([available, 0, 100]).0, "the training part");
        // A part that holds all that it should is no error, a token more is.
        assert!(build(&source, 0, [available, 0, 0], 8).is_ok());
        assert_eq!(exhausted([available + 8, 0, 0]).2, available);
        let nothing = Numbers::new(0, 6, 1);
        assert!(build(&nothing, 0, [0, 0, 8], 8).is_err());
    }

    #[test]
    fn a_source_that_only_repeats_itself_ends() {
        let mut source = Numbers::new(None, 2, 1);
        source.same = (20..100_000).collect();
        assert!(matches!(build(&source, 0, [8, 0, 800], 8), Ok(split)
            if split.report.training.tokens < 100 && split.report.duplicates >= 10_000));
        assert!(matches!(build(&source, 0, [800, 0, 8], 8), Err(Error::Exhausted { .. })));
    }

    #[test]
    fn bad_settings_and_documents() {
        let mut source = Numbers::new(100, 6, 1);
        assert!(build(&source, 0, [8, 8, 8], 0).is_err());
        for tokens in [[7, 0, 8], [8, 7, 8], [8, 0, 7]] {
            assert!(matches!(build(&source, 0, tokens, 8), Err(Error::Setting { .. })));
        }
        assert!(build(&source, 0, [0, 0, 8], 8).is_ok());
        source.broken = Some(57);
        let error = build(&source, 0, [8, 8, 100_000], 8).unwrap_err().to_string();
        assert!(error.contains("57"), "{error}");
    }
}
