//! Seeded, unlimited synthetic corpora: a broad pretraining source and target domains at a
//! controlled distance from it.
//!
//! The paper's corpora are too large for two CPU cores, and this repository ships no third-party
//! text, so the default data is synthetic. The generator is ours, not the paper's. Document i is a
//! pure function of the seed and i.
//!
//! # Structure
//! - A *language* has syllables, roots, nearly 4,000 word types in open classes (about 8,000
//!   forms) whose frequencies follow Zipf's law, agreement in gender and number, 40 topics,
//!   collocations (each word prefers four others) and facts (the capital of each place, who
//!   founded it).
//! - A *writer* composes phrases and sentences. Each word is one that its cue prefers, or an earlier
//!   word of the document, or a word of the topic, or any word.
//! - *Components* determine the form of documents: news, encyclopedia, stories, letters, minutes,
//!   trivia, recipes, catalogues, and a little dialogue, code and arithmetic make up the pretraining
//!   mixture; a target [`Domain`] is one component in its own language and on few topics.
//!
//! # Distance
//! A target's language starts as the pretraining language. Each word type, collocation, fact, topic and
//! grammatical rule is replaced by the domain's own with probability `distance`. Replacements are
//! nested: what is replaced at one distance is also replaced at every larger one. At 0 only the form
//! and the narrow choice of topics are the domain's own. At 1 only digits and some letters are shared,
//! as between two European languages.
//!
//! # Measured
//! Losses are in nats per token, with seed 0, a byte-level BPE of 512 tokens (2.9 bytes per token), and
//! 64 tokens per sequence.
//!
//! With this crate's `nano` preset (40 tokens per parameter) the loss is 2.639 at N = 41,120 and 1.762
//! at N = 107,856. On the same 4.5M tokens a trigram model has a loss of 1.996, and a unigram model
//! 5.304.
//!
//! The following is from a separate PyTorch sketch with N = 109,488 and 20 tokens per parameter. The
//! validation loss by position in the sequence is 3.16 (positions 0 and 1), 2.47 (2, 3), 2.21 (4 to 7),
//! 2.11 (8 to 15), 2.02 (16 to 31) and 2.03 (32 to 63). The model was then finetuned at about 1/30 of
//! the peak rate on 10K tokens, for 2,000 steps of 8 sequences, and evaluated every 100 steps. The
//! table shows the increase of the pretraining loss (2.084) at the bottom of the target's validation
//! loss; each row is one run:
//!
//! | target | distance | p | bottom at step | target loss there (at the end) | increase |
//! |---|---|---|---|---|---|
//! | prose | 0 | 0 | 200 | 2.428 (3.430) | 0.32 |
//! | prose | 0.5 | 0 | 500 | 2.478 (3.324) | 1.64 |
//! | prose | 1 | 0 | 600 | 1.945 (2.553) | 2.75 |
//! | prose | 1 | 1% | 700 | 1.950 (2.524) | 1.36 |
//! | prose | 1 | 5% | 700 | 1.961 (2.434) | 0.70 |
//! | dialogue | 0 | 0 | 100 | 2.297 (3.474) | 0.26 |
//! | dialogue | 1 | 0 | 600 | 1.890 (2.548) | 2.79 |
//! | arithmetic | 1 | 0 | 600 | 1.022 (1.363) | 2.55 |

mod chance;
mod components;
mod instructions;
mod language;
mod writer;

use super::Source;
use super::mask::{Passage, Supervised};
use crate::rng::{Draws, Key};
use crate::store::sha256;
use crate::{Error, Fraction, Result};
use chance::Alias;
use language::{Language, TOPICS};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use writer::Writer;

/// The version of the generator: raised whenever any document changes.
pub const VERSION: u32 = 1;

/// The number of topics of a target domain.
const TARGET_TOPICS: usize = 6;

/// A target domain. Arithmetic, dialogue and code are also small components of the pretraining
/// mixture, in its own language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Questions and answers in whole numbers; every equation is right.
    Arithmetic,
    /// Speakers' turns.
    Dialogue,
    /// Definitions of functions.
    Code,
    /// Chapters of long sentences in an older register.
    Prose,
    /// Instructions between `[INST]` and `[/INST]`, each followed by its answer: the paper's format for
    /// Open Hermes. There the two markers are special tokens. Here they are plain text, because the
    /// tokenizer is a byte-level BPE, and they are the same at every distance. They do not occur in the
    /// pretraining mixture.
    Instructions,
}

impl Domain {
    /// All domains.
    pub const ALL: [Self; 5] =
        [Self::Arithmetic, Self::Dialogue, Self::Code, Self::Prose, Self::Instructions];

    /// The domain's name in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Dialogue => "dialogue",
            Self::Code => "code",
            Self::Prose => "prose",
            Self::Instructions => "instructions",
        }
    }

    fn write(self, writer: &mut Writer) {
        match self {
            Self::Arithmetic => components::arithmetic(writer),
            Self::Dialogue => components::dialogue(writer),
            Self::Code => components::code(writer),
            Self::Prose => components::prose(writer),
            Self::Instructions => instructions::instructions(writer),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Domain {
    type Err = Error;

    /// # Errors
    /// If there is no domain of this name.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|domain| domain.name() == name).ok_or_else(|| {
            let requirement = "must be arithmetic, dialogue, code, prose or instructions";
            Error::setting("domain", name, requirement)
        })
    }
}

/// An unlimited corpus of synthetic documents: the pretraining source of an experiment, or one of its
/// target domains.
///
/// # Examples
/// ```
/// use forgetting_laws::Fraction;
/// use forgetting_laws::data::Source;
/// use forgetting_laws::data::synthetic::{Domain, Synthetic};
///
/// let pretraining = Synthetic::pretraining(7);
/// let far = Synthetic::target(Domain::Dialogue, Fraction::new(1.0).unwrap(), 7);
/// assert_eq!(pretraining.document(3).unwrap(), pretraining.document(3).unwrap());
/// assert_ne!(pretraining.content_hash(), far.content_hash());
/// assert_eq!(far.len(), None);
/// ```
pub struct Synthetic {
    seed: u64,
    kind: Kind,
    language: Language,
    documents: Key,
    loss: Supervised,
}

enum Kind {
    Pretraining { mixture: Alias },
    Target { domain: Domain, distance: Fraction, first_topic: usize },
}

impl Synthetic {
    /// The pretraining source for `seed`.
    pub fn pretraining(seed: u64) -> Self {
        let key = Key::new(seed);
        Self {
            seed,
            kind: Kind::Pretraining {
                mixture: Alias::new(&components::MIXTURE.map(|(weight, _)| weight)),
            },
            language: Language::new(key.named("language"), false),
            documents: key.named("documents").named("pretraining"),
            loss: Supervised::All,
        }
    }

    /// The target `domain` for `seed`, at a `distance` from the pretraining source of the same seed.
    /// Its documents are about six of the forty topics.
    pub fn target(domain: Domain, distance: Fraction, seed: u64) -> Self {
        let key = Key::new(seed);
        let own = key.named("own").named(domain.name());
        let language = Language::new(key.named("language"), false).towards(
            Language::new(own.named("language"), true),
            distance.get(),
            own.named("mixture"),
        );
        let first_topic = own.named("topics").below(0, (TOPICS - TARGET_TOPICS + 1) as u64);
        Self {
            seed,
            kind: Kind::Target { domain, distance, first_topic: first_topic as usize },
            language,
            documents: key.named("documents").named(domain.name()),
            loss: Supervised::All,
        }
    }

    /// Sets which tokens of instructions count in the loss; in other text all do.
    pub fn counting(self, loss: Supervised) -> Self {
        Self { loss, ..self }
    }

    /// Whether only answers count in the loss.
    pub fn counts_answers(&self) -> bool {
        let instructions = matches!(&self.kind, Kind::Target { domain: Domain::Instructions, .. });
        instructions && self.loss == Supervised::Answer
    }
}

impl Source for Synthetic {
    fn content_hash(&self) -> String {
        let kind = match &self.kind {
            Kind::Pretraining { .. } => "pretraining".to_owned(),
            Kind::Target { domain, distance, .. } => {
                format!("target {domain} distance {:016x}", distance.get().to_bits())
            }
        };
        let loss = if self.counts_answers() { " loss answer" } else { "" };
        let identity = format!("synthetic version {VERSION} seed {} {kind}{loss}", self.seed);
        sha256(identity.as_bytes())
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        let key = self.documents.child(i);
        let text = match &self.kind {
            Kind::Pretraining { mixture } => {
                let component = mixture.draw(&mut Draws::new(key.named("component")));
                let mut writer = Writer::new(&self.language, key, 0..TOPICS);
                components::MIXTURE[component].1(&mut writer);
                writer.text
            }
            Kind::Target { domain, first_topic, .. } => {
                let topics = *first_topic..first_topic + TARGET_TOPICS;
                let mut writer = Writer::new(&self.language, key, topics);
                domain.write(&mut writer);
                writer.text
            }
        };
        Ok(Cow::Owned(text))
    }

    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        let text = self.document(i)?;
        let counted = self.counts_answers().then(|| instructions::answers(&text).into());
        Ok(Passage { text, counted })
    }
}
