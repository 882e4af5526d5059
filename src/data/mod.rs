//! Data: where documents come from, and how they become sequences of tokens.
//!
//! A [`Source`] yields documents, an [`Encode`] turns them into tokens, [`tokens::Tokens`] keeps
//! them, [`split::Split`] parts them into validation, injection and training, and
//! [`sequences::Sequences`] is what a model reads. The paper pretrains on RedPajama V2 and finetunes on domains of The Pile; its
//! preprocessing and its splits are not published, so the rules of these modules are ours.

pub mod distance;
#[cfg(feature = "text")]
pub mod files;
pub mod mask;
pub mod ngram;
pub mod overlap;
pub mod parallel;
#[cfg(feature = "hub")]
pub mod registry;
pub mod sequences;
pub mod split;
pub mod synthetic;
#[cfg(feature = "text")]
pub mod tokenizer;
pub mod tokens;

use self::mask::Passage;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// Where documents come from.
///
/// A source is a pure function of its index: the same `i` gives the same text on every call, in
/// every thread and in every process whose source has the same [`content_hash`](Self::content_hash).
pub trait Source: Send + Sync {
    /// The hexadecimal SHA-256 of everything that determines the content.
    fn content_hash(&self) -> String;

    /// The number of documents, or `None` where it is unlimited.
    fn len(&self) -> Option<u64>;

    /// Whether there is no document at all.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The text of document `i`, counted from 0.
    ///
    /// # Errors
    /// If `i` is not below [`len`](Self::len), or if the text cannot be produced.
    fn document(&self, i: u64) -> Result<Cow<'_, str>>;

    /// The same text, and which of its bytes count in the loss; by default all.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        self.document(i).map(Passage::plain)
    }

    /// The group of document `i`. Documents of one group are pieces of one work (a novel, a
    /// repository, a thread) and never lie on both sides of a split. By default every document is
    /// a group of its own.
    fn group(&self, i: u64) -> u64 {
        i
    }

    /// The name of the work that document `i` belongs to, where it has one that stays the same
    /// when documents are added to the source, as the value of a field does. It decides on which
    /// side of a split the work lies; where there is none, the documents' text does.
    fn work(&self, i: u64) -> Option<&str> {
        let _ = i;
        None
    }
}

/// What turns text into tokens.
pub trait Encode: Sync {
    /// The tokens of a text, without any that mark its beginning or end.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The tokens of a text of which some bytes count in the loss (in order, without overlap, cut
    /// between characters), and of each token whether it counts: whether one of its bytes does.
    ///
    /// By default the parts that count and those that do not are encoded each by itself. Who knows
    /// which bytes a token stands for gives the tokens of [`encode`](Self::encode).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_counted(
        &self,
        text: &str,
        counted: &[Range<usize>],
    ) -> Result<(Vec<u32>, Vec<bool>)> {
        let (mut tokens, mut mask) = (Vec::new(), Vec::new());
        for (part, counts) in mask::parts(text, counted) {
            tokens.append(&mut self.encode(part)?);
            mask.resize(tokens.len(), counts);
        }
        Ok((tokens, mask))
    }

    /// The token that stands between documents.
    fn end_of_text(&self) -> u32;
}

/// Which tokenizer is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Byte-level BPE, as GPT-2's.
    #[default]
    Bpe,
    /// A unigram language model over pieces, with bytes for rare characters, as SentencePiece's.
    Unigram,
}

impl TokenizerKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Bpe, Self::Unigram];

    /// The smallest vocabulary.
    pub fn min_vocab(self) -> usize {
        match self {
            Self::Bpe => 256 + 1,
            Self::Unigram => 256 + 1 + 1 + 22,
        }
    }

    /// What the smallest vocabulary holds, in words.
    pub fn least_tokens(self) -> &'static str {
        match self {
            Self::Bpe => "256 bytes and the end of text",
            Self::Unigram => {
                "256 bytes, the 22 characters of the names of bytes and of <unk>, <unk> and the \
                 end of text"
            }
        }
    }

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpe => "bpe",
            Self::Unigram => "unigram",
        }
    }

    /// Whether it is the one that a specification does not mention.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// For tests: each byte is a token, and 256 the end of text.
#[cfg(test)]
pub(crate) struct Bytes;

#[cfg(test)]
impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn end_of_text(&self) -> u32 {
        256
    }
}
