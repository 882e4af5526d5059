//! Splits a source into validation, injection and training parts, by works and not by tokens.
//!
//! Validation is taken first, so that it does not depend on the sizes of the other parts. The part that
//! is reserved for injection is taken before training, so that finetuning injects data that pretraining
//! has never seen: the paper streams fresh pretraining data into the finetuning mixture. How the paper
//! splits its data is unknown; the rules here are ours.

use super::mask::Encoded;
use super::sequences::{Sequences, Stream, whole_sequences};
use super::tokens::{Chosen, Document, Take, Tokens};
#[cfg(feature = "text")]
use super::tokens::{Origin, Recipe};
use super::{Encode, Source};
use crate::rng::Key;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
#[cfg(feature = "text")]
use std::path::Path;
use std::sync::Arc;

/// The number of classes into which a hash divides the works of a finite source. A held-out part takes
/// whole classes, so it is drawn from at least a twentieth of the works, however few tokens it needs: a
/// validation loss over two novels says more about the two authors than about the source.
const CLASSES: usize = 20;
/// A held-out part is drawn from at least this many works.
const HELD_OUT_WORKS: usize = 2;
/// Version of the rule for finite sources; part of the identity of every split.
pub const RULE: u32 = 1;
/// The rule in words.
pub const RULE_TEXT: &str = "a work lies in one of 20 classes by a hash of its name, or of the \
    letters and digits of its text; validation takes the first class, and the next ones while it \
    is too small, injection the last one and those before it, training the others";
/// The rule for unlimited sources in words.
pub const UNLIMITED_RULE_TEXT: &str = "documents are taken as they come, without repeats: validation \
    first, then injection, then training";
/// An unlimited source that yields this many repeats in a row counts as exhausted.
const REPEATS_IN_A_ROW: u32 = 10_000;

/// The number of tokens of each part. A part of 0 tokens is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitTokens {
    /// Predicted tokens to evaluate on.
    pub validation: u64,
    /// Predicted tokens reserved for injection into finetuning.
    pub injection: u64,
    /// The most predicted tokens to train on.
    pub training: u64,
}

/// How a source is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSettings {
    /// Decides which works go into which part, and their order. Unlimited sources are taken in their own
    /// order.
    pub key: Key,
    /// The size of each part.
    pub tokens: SplitTokens,
    /// Tokens of each sequence.
    pub context: usize,
}

/// The counts of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// The tokens that were asked for.
    pub asked: u64,
    /// The predicted tokens of its sequences.
    pub tokens: u64,
    /// How many of them count in the loss; `None` means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<u64>,
    /// The documents that they come from.
    pub documents: u64,
    /// The groups that those documents belong to.
    pub groups: u64,
}

/// The counts of all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// The validation part.
    pub validation: PartReport,
    /// The part reserved for injection.
    pub injection: PartReport,
    /// The training part. If `tokens` is far below `asked`, the source was exhausted.
    pub training: PartReport,
    /// Documents that were left out because an earlier one has the same text.
    pub duplicates: u64,
}

/// A source in three parts that have no document and no group in common.
///
/// - **Parts.** The works of a finite source are divided into 20 classes by a hash of the key and of
///   the work's name ([`Source::work`]) or, without a name, of the letters and digits of its text.
///   Validation takes the first class, and further classes until it is full and has at least two works.
///   Injection takes classes from the end in the same way. The rest is training. So equal texts and the
///   parts of one work are in the same part of the split. If one class is enough, documents that are
///   added to the source move no other document. Otherwise added documents may let a held-out part need
///   fewer classes; then works move from validation or injection to training, never the other way.
/// - **Order.** Within a part the documents are ordered by a hash of their text, so that neighbours
///   come from different works. The documents of an unlimited source are exchangeable: they are taken
///   in their order, without regard to groups.
/// - **Stream.** The stream of a part is its documents, each followed by the end-of-text token, cut to
///   whole sequences.
/// - **Repeats.** A document is left out if its text equals an earlier one except for case and white
///   space, so that no validation text is trained on, whatever works the two belong to.
/// - **Prefixes.** Smaller training parts are prefixes of larger ones: validation and injection
///   do not depend on `training`, nor validation on `injection`.
///
/// The result does not depend on the number of threads.
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
    /// Splits `source`. All of a finite source is tokenised into memory; an unlimited source is tokenised
    /// as far as needed.
    ///
    /// # Errors
    /// If a part that was asked for is smaller than one sequence, if validation or injection
    /// cannot be filled, if nothing is left for training, or if a document cannot be read or
    /// tokenised. A training part that is smaller than asked is not an error; the report shows it.
    pub fn build(
        source: &dyn Source,
        encoder: &dyn Encode,
        settings: SplitSettings,
    ) -> Result<Self> {
        if source.len().is_some() {
            return Self::of(&Arc::new(Tokens::of(source, encoder)?), settings);
        }
        Self::first(settings, |take| Tokens::first(source, encoder, take))
    }

    /// As [`build`](Self::build), but stores the tokens in a folder for the next call: all tokens of a
    /// finite source ([`Tokens::prepare`]), and of an unlimited source those that have been needed so
    /// far.
    ///
    /// # Errors
    /// As [`build`](Self::build) and [`Tokens::prepare`].
    #[cfg(feature = "text")]
    pub fn keep(
        folder: &Path,
        recipe: &Recipe<'_>,
        origin: &Origin,
        settings: SplitSettings,
    ) -> Result<Self> {
        if recipe.source.len().is_some() {
            let store = Tokens::prepare(folder, recipe, origin, &|_| ())?;
            return Self::of(&Arc::new(store), settings);
        }
        Self::first(settings, |take| Tokens::grow(folder, recipe, origin, take))
    }

    /// Splits an unlimited source, whose first documents `open` returns.
    fn first(
        settings: SplitSettings,
        open: impl FnOnce(Take<'_>) -> Result<Tokens>,
    ) -> Result<Self> {
        let mut filler = Filler::new(needs(settings)?);
        let store = match filler.flow() {
            ControlFlow::Continue(()) => Some(open(&mut |document| filler.take(document))?),
            ControlFlow::Break(()) => None,
        };
        let store = store.map(Arc::new);
        let part = |Filled { chosen, documents, .. }: Filled| -> Result<Part> {
            let stream = match &store {
                Some(store) => Stream::Stored(Chosen::new(Arc::clone(store), chosen)?),
                None => Stream::Memory(Encoded::default()),
            };
            Ok(Part { stream, documents })
        };
        let [validation, injection, training] = filler.parts;
        let parts = [part(validation)?, part(injection)?, part(training)?];
        Self::finish(parts, filler.duplicates, settings)
    }

    /// Splits the documents of a token store. The tokens stay in the store.
    ///
    /// # Errors
    /// As [`build`](Self::build), and if the store is damaged.
    pub fn of(store: &Arc<Tokens>, settings: SplitSettings) -> Result<Self> {
        let needs = needs(settings)?;
        let mut dealer = Dealer { seen: HashSet::new(), duplicates: 0 };
        let mut classes = deal(store, settings.key)?;
        let validation = dealer.held_out(needs[0], || classes.pop_front());
        let validation = dealer.part(store, validation, needs[0])?;
        let injection = dealer.held_out(needs[1], || classes.pop_back());
        let injection = dealer.part(store, injection, needs[1])?;
        let training = dealer.part(store, classes.into_iter().flatten().collect(), needs[2])?;
        Self::finish([validation, injection, training], dealer.duplicates, settings)
    }

    fn finish(parts: [Part; 3], duplicates: u64, settings: SplitSettings) -> Result<Self> {
        let SplitSettings { tokens, context, .. } = settings;
        let [validation, injection, training] = parts;
        let (validation, of_validation) =
            validation.finish("validation", tokens.validation, context, true)?;
        let (injection, of_injection) =
            injection.finish("injection", tokens.injection, context, true)?;
        let (training, of_training) =
            training.finish("training", tokens.training, context, false)?;
        let report = SplitReport {
            validation: of_validation,
            injection: of_injection,
            training: of_training,
            duplicates,
        };
        Ok(Self { validation, injection, training, report })
    }
}

/// The tokens of the whole sequences of each part, plus one; or 0.
fn needs(SplitSettings { tokens, context, .. }: SplitSettings) -> Result<[usize; 3]> {
    let need = |name, asked| match asked {
        0 => Ok(0),
        asked => whole_sequences(name, asked, context)
            .map(|count| count.saturating_mul(context).saturating_add(1)),
    };
    Ok([
        need("validation tokens", tokens.validation)?,
        need("injection tokens", tokens.injection)?,
        need("training tokens", tokens.training)?,
    ])
}

/// The stream of a part, with the group and the position of each of its documents.
struct Part {
    stream: Stream,
    documents: Vec<(u64, usize)>,
}

impl Part {
    fn finish(
        mut self,
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
        let mut sequences = match count {
            0 => Sequences::empty(context)?,
            _ => Sequences::of(self.stream, context)?,
        };
        if sequences.tokens() > asked {
            sequences = sequences.prefix(asked)?;
        }
        let used = sequences.stream_len();
        self.documents.retain(|&(_, start)| start < used);
        let mut groups: Vec<u64> = self.documents.iter().map(|&(group, _)| group).collect();
        groups.sort_unstable();
        groups.dedup();
        let report = PartReport {
            asked,
            tokens: sequences.tokens(),
            counted: Some(sequences.counted_tokens()).filter(|&n| n < sequences.tokens()),
            documents: self.documents.len() as u64,
            groups: groups.len() as u64,
        };
        Ok((sequences, report))
    }
}

/// A document of a finite source.
struct Dealt {
    /// Its position in the order of a part; equal for equal texts.
    order: (u64, u128),
    document: u64,
    group: u64,
    tokens: usize,
}

/// The documents of every class.
fn deal(store: &Tokens, key: Key) -> Result<VecDeque<Vec<Dealt>>> {
    let (class_key, document_key) = (key.named("groups"), key.named("documents"));
    let mut places: HashMap<u64, u64> = HashMap::new();
    for entry in store.entries() {
        let entry = entry?;
        let place = places.entry(entry.group).or_insert(entry.place);
        *place = entry.place.min(*place);
    }
    let mut classes: VecDeque<Vec<Dealt>> = (0..CLASSES).map(|_| Vec::new()).collect();
    for (document, entry) in (0..).zip(store.entries()) {
        let entry = entry?;
        let class = class_key.below(places[&entry.group], CLASSES as u64);
        classes[class as usize].push(Dealt {
            order: (document_key.word(entry.fingerprint as u64), entry.fingerprint),
            document,
            group: entry.group,
            tokens: (entry.tokens.end - entry.tokens.start) as usize,
        });
    }
    Ok(classes)
}

/// Fills the parts of a finite source.
struct Dealer {
    seen: HashSet<u128>,
    duplicates: u64,
}

impl Dealer {
    /// The documents of whole classes, as many as a held-out part needs.
    fn held_out(
        &self,
        need: usize,
        mut next_class: impl FnMut() -> Option<Vec<Dealt>>,
    ) -> Vec<Dealt> {
        let (mut held, mut tokens) = (Vec::new(), 0);
        let (mut texts, mut groups) = (HashSet::new(), HashSet::new());
        while need > 0
            && (tokens < need || groups.len() < HELD_OUT_WORKS)
            && let Some(class) = next_class()
        {
            for dealt in &class {
                if !self.seen.contains(&dealt.order.1) && texts.insert(dealt.order.1) {
                    tokens += dealt.tokens;
                    groups.insert(dealt.group);
                }
            }
            held.extend(class);
        }
        held
    }

    /// The first of the documents, in their order, that hold `need` tokens.
    fn part(&mut self, store: &Arc<Tokens>, mut from: Vec<Dealt>, need: usize) -> Result<Part> {
        from.sort_unstable_by_key(|dealt| (dealt.order, dealt.document));
        let (mut chosen, mut documents, mut tokens) = (Vec::new(), Vec::new(), 0);
        for dealt in from {
            if tokens >= need {
                break;
            }
            if !self.seen.insert(dealt.order.1) {
                self.duplicates += 1;
                continue;
            }
            chosen.push(dealt.document);
            documents.push((dealt.group, tokens));
            tokens += dealt.tokens;
        }
        let stream = Stream::Stored(Chosen::new(Arc::clone(store), chosen)?);
        Ok(Part { stream, documents })
    }
}

/// Fills the parts of an unlimited source, one after the other, with its documents as they come.
struct Filler {
    parts: [Filled; 3],
    /// The part that is being filled; 3 where all are.
    part: usize,
    /// The number of the next document.
    next: u64,
    /// Repeats in a row.
    repeats: u32,
    seen: HashSet<u128>,
    duplicates: u64,
}

/// A part that is being filled.
#[derive(Default)]
struct Filled {
    need: usize,
    chosen: Vec<u64>,
    /// Of each chosen document the group and the place in the stream.
    documents: Vec<(u64, usize)>,
    tokens: usize,
}

impl Filler {
    fn new(needs: [usize; 3]) -> Self {
        let parts = needs.map(|need| Filled { need, ..Filled::default() });
        let seen = HashSet::new();
        let mut filler = Self { parts, part: 0, next: 0, repeats: 0, seen, duplicates: 0 };
        filler.leave_full();
        filler
    }

    /// Goes on to the first part that is not full.
    fn leave_full(&mut self) {
        let is_full = |part: &Filled| part.tokens >= part.need;
        while self.parts.get(self.part).is_some_and(is_full) {
            self.part += 1;
            self.repeats = 0;
        }
    }

    /// Takes the next document, unless it is a repeat; a part is given up where there are only
    /// repeats.
    fn take(&mut self, document: &Document) -> ControlFlow<()> {
        let part = &mut self.parts[self.part];
        if self.seen.insert(document.fingerprint) {
            self.repeats = 0;
            part.chosen.push(self.next);
            part.documents.push((document.group, part.tokens));
            part.tokens += (document.tokens.end - document.tokens.start) as usize;
        } else {
            self.repeats += 1;
            self.duplicates += 1;
        }
        self.next += 1;
        if self.repeats >= REPEATS_IN_A_ROW {
            self.part += 1;
            self.repeats = 0;
        }
        self.leave_full();
        self.flow()
    }

    /// Whether there is anything left to fill.
    fn flow(&self) -> ControlFlow<()> {
        if self.part < self.parts.len() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
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
        Split::build(source, &Words, SplitSettings { key: Key::new(seed), tokens, context })
    }

    fn documents(sequences: &Sequences) -> BTreeSet<u64> {
        let stream = sequences.stream().into_owned().into_iter();
        stream.filter(|&token| token != END).map(u64::from).collect()
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

    /// Bits are those of tokens in memory, whatever was asked for before.
    #[cfg(feature = "text")]
    #[test]
    fn kept_tokens_make_the_same_parts() {
        let mut endless = Numbers::new(None, 6, 1);
        endless.same = (5..300).step_by(3).collect();
        for source in [endless, Numbers::new(1000, 6, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let recipe = Recipe {
                source: &source,
                encoder: &Words,
                tokenizer: "words",
                vocab: 1 << 32,
                shard_documents: 50,
            };
            for [validation, injection, training] in
                [[80, 80, 1500], [80, 0, 8], [0, 0, 0], [80, 80, 2500], [160, 0, 2000]]
            {
                let tokens = SplitTokens { validation, injection, training };
                let settings = SplitSettings { key: Key::new(3), tokens, context: 8 };
                let origin = Origin::default();
                let kept = Split::keep(folder.path(), &recipe, &origin, settings).unwrap();
                let built = Split::build(&source, &Words, settings).unwrap();
                assert_eq!(kept.report, built.report);
                for (kept, built) in [
                    (&kept.validation, &built.validation),
                    (&kept.injection, &built.injection),
                    (&kept.training, &built.training),
                ] {
                    assert_eq!(kept.hash(), built.hash());
                }
            }
        }
    }

    /// One work of 100 documents would be all of the validation otherwise.
    #[test]
    fn held_out_parts_span_a_twentieth_of_the_groups() {
        let source = Numbers::new(10_000, 6, 100);
        let split = build(&source, 0, [160, 160, 1_000_000], 8).unwrap();
        check_disjoint(&source, &split);
        assert!(split.report.validation.groups > 1 && split.report.injection.groups > 1);
        // Two classes of twenty are held out: 200 of 2000 works, 4 deviations of 13 around it.
        let source = Numbers::new(4000, 6, 2);
        let split = build(&source, 0, [8, 8, 1_000_000], 8).unwrap();
        let held_out = 2000 - split.report.training.groups;
        assert!((146..=254).contains(&held_out), "{held_out}");
    }

    /// Which of the documents 0 to 299 are in which part.
    fn sides(split: &Split) -> [BTreeSet<u64>; 3] {
        let old = |part| documents(part).into_iter().filter(|&i| i < 300).collect();
        [old(&split.validation), old(&split.injection), old(&split.training)]
    }

    /// All of every part is asked for, so that whoever leaves one is seen in another.
    #[test]
    fn documents_that_are_added_move_no_other() {
        for seed in 0..20 {
            let all = |documents, group_size| {
                let source = Numbers::new(documents, 6, group_size);
                let store = Arc::new(Tokens::of(&source, &Words).unwrap());
                let classes = deal(&store, Key::new(seed)).unwrap();
                let of = |class: &Vec<Dealt>| -> BTreeSet<u64> {
                    class.iter().map(|dealt| dealt.document).filter(|&i| i < 300).collect()
                };
                classes.iter().map(of).collect::<Vec<_>>()
            };
            assert_eq!(all(300, 1), all(700, 1));
            // The last work of 3 documents is whole in both.
            assert_eq!(all(300, 3), all(700, 3));
        }
        // Where classes are too small, works only leave held-out parts.
        for seed in 0..20 {
            let few = build(&Numbers::new(300, 6, 1), seed, [400, 400, 1 << 20], 8).unwrap();
            let many = build(&Numbers::new(900, 6, 1), seed, [400, 400, 1 << 20], 8).unwrap();
            let [_, _, training] = sides(&few);
            let [validation, injection, _] = sides(&many);
            assert!(training.is_disjoint(&validation) && training.is_disjoint(&injection));
        }
    }

    /// Copies that differ in punctuation lie on one side, and those that differ in white space are
    /// left out; so do texts of works with names, however their documents are numbered.
    #[test]
    fn copies_and_works_lie_on_one_side() {
        struct Texts(Vec<(String, Option<String>)>);
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
                let work = &self.0[i as usize].1;
                let first = self.0.iter().position(|(_, other)| other.is_some() && other == work);
                first.map_or(i, |first| first as u64)
            }
            fn work(&self, i: u64) -> Option<&str> {
                self.0[i as usize].1.as_deref()
            }
        }
        struct Letters;
        impl Encode for Letters {
            fn encode(&self, text: &str) -> Result<Vec<u32>> {
                Ok(text.chars().map(u32::from).collect())
            }
            fn end_of_text(&self) -> u32 {
                END
            }
        }
        let classes = |texts: Vec<(String, Option<String>)>| -> Vec<usize> {
            let store = Arc::new(Tokens::of(&Texts(texts), &Letters).unwrap());
            let mut found: Vec<(u64, usize)> = deal(&store, Key::new(0))
                .unwrap()
                .iter()
                .enumerate()
                .flat_map(|(class, all)| all.iter().map(move |dealt| (dealt.document, class)))
                .collect();
            found.sort_unstable();
            found.into_iter().map(|(_, class)| class).collect()
        };
        let copies = |end: &str| (0..60).map(move |i| (format!("Text {i}{end}"), None)).collect();
        let plain = classes(copies(""));
        assert!(plain.iter().collect::<BTreeSet<_>>().len() > 10);
        assert_eq!(classes(copies(" …!")), plain);
        assert_eq!(classes(copies("\n")), plain);
        assert_ne!(classes(copies("a")), plain);
        let works = |from: u64| -> Vec<(String, Option<String>)> {
            (from..from + 60).map(|i| (format!("{i}"), Some(format!("work {}", i / 3)))).collect()
        };
        // The pieces of work 10 stand at 30 to 32 of the one and at 0 to 2 of the other.
        let (all, later) = (classes(works(0)), classes(works(30)));
        assert!(all.chunks(3).all(|work| work.iter().all(|class| *class == work[0])));
        assert_eq!(all[30..], later[..30]);
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
