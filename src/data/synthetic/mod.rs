//! Seeded, unlimited synthetic corpora: a broad pretraining source and target domains at a
//! controlled distance from it.
mod chance;
mod components;
mod language;
mod writer;

use super::Source;
use crate::rng::{Draws, Key};
use crate::{Error, Fraction, Result};
use chance::Alias;
use language::{Language, TOPICS};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use writer::Writer;

/// The version of the generator: raised whenever any document changes.
pub const VERSION: u32 = 1;

/// Topics that a target domain is about.
const TARGET_TOPICS: usize = 6;

/// A target domain. All but prose are also small components of the pretraining mixture, in its
/// own language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Questions and answers in whole numbers; every equation is right.
    Arithmetic,
    /// Speakers' turns.
    Dialogue,
    /// Function definitions.
    Code,
    /// Chapters of long sentences in an older register.
    Prose,
}

impl Domain {
    /// All domains.
    pub const ALL: [Self; 4] = [Self::Arithmetic, Self::Dialogue, Self::Code, Self::Prose];

    /// The domain's name in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Dialogue => "dialogue",
            Self::Code => "code",
            Self::Prose => "prose",
        }
    }

    fn write(self, writer: &mut Writer) {
        match self {
            Self::Arithmetic => components::arithmetic(writer),
            Self::Dialogue => components::dialogue(writer),
            Self::Code => components::code(writer),
            Self::Prose => components::prose(writer),
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
            Error::setting("domain", name, "must be arithmetic, dialogue, code or prose")
        })
    }
}

/// An unlimited corpus of made-up documents: the pretraining source of an experiment or one of its
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
}

enum Kind {
    Pretraining { mixture: Alias },
    Target { domain: Domain, distance: Fraction, first_topic: usize },
}

impl Synthetic {
    /// The pretraining source of the experiment `seed`.
    pub fn pretraining(seed: u64) -> Self {
        let key = Key::new(seed);
        Self {
            seed,
            kind: Kind::Pretraining {
                mixture: Alias::new(&components::MIXTURE.map(|(weight, _)| weight)),
            },
            language: Language::new(key.named("language"), false),
            documents: key.named("documents").named("pretraining"),
        }
    }

    /// The target `domain` of the experiment `seed`, at a `distance` from the pretraining source of
    /// the same seed. Documents are about six of the forty topics.
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
        }
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
        let identity = format!("synthetic version {VERSION} seed {} {kind}", self.seed);
        Sha256::digest(identity).iter().map(|byte| format!("{byte:02x}")).collect()
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
}
