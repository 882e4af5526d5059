//! Data: sources of documents, and how documents become sequences of tokens.
//!
//! A [`Source`] yields documents, an [`Encode`] turns them into tokens, [`tokens::Tokens`] stores the
//! tokens, [`split::Split`] divides them into validation, injection and training, and a model reads
//! [`sequences::Sequences`]. The paper pretrains on RedPajama V2 and finetunes on domains of The Pile.
//! Its preprocessing and its splits are not published, so the rules of these modules are ours.

pub mod distance;
#[cfg(feature = "text")]
pub mod files;
pub mod mask;
pub mod ngram;
pub mod overlap;
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

/// A source of documents.
///
/// A source is a pure function of its index: the same `i` gives the same text on every call, in
/// every thread and in every process whose source has the same [`content_hash`](Self::content_hash).
pub trait Source: Send + Sync {
    /// The hexadecimal SHA-256 of everything that determines the content.
    fn content_hash(&self) -> String;

    /// The number of documents, or `None` if it is unlimited.
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

    /// The same text, and which of its bytes count in the loss. By default all do.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        self.document(i).map(Passage::plain)
    }

    /// The group of document `i`. Documents of one group are parts of one work (a novel, a repository,
    /// a thread), which a split never divides. By default every document is a group of its own.
    fn group(&self, i: u64) -> u64 {
        i
    }

    /// The name of the work that document `i` belongs to, if the work has a name that stays the same
    /// when documents are added to the source, such as the value of a field. The name decides which
    /// part of a split the work belongs to; without a name, the text of the documents decides.
    fn work(&self, i: u64) -> Option<&str> {
        let _ = i;
        None
    }
}

/// Turns text into tokens.
pub trait Encode: Sync {
    /// The tokens of a text, without any that mark its beginning or end.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The tokens of a text, and for each token whether it counts in the loss: it does if one of its
    /// bytes does. `counted` has the byte ranges that count, in order, without overlap, cut between
    /// characters.
    ///
    /// By default each part that counts or does not count is encoded separately. An implementation that
    /// knows the bytes of each token returns the same tokens as [`encode`](Self::encode).
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

    /// The token between documents.
    fn end_of_text(&self) -> u32;
}

/// The kind of tokenizer that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Byte-level BPE, like GPT-2's.
    #[default]
    Bpe,
    /// A unigram language model over pieces, with bytes for rare characters, like SentencePiece's.
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

    /// A description of what the smallest vocabulary contains.
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

    /// Whether it is the default, which a specification omits.
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
