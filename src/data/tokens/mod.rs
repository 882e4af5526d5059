//! The tokens of a source: each document is tokenised once, on disk or in memory.
//!
//! A [`Tokens`] has the documents of a source in the source's order, each followed by the end-of-text
//! token, with what a split needs to know of each. All other settings (the part of a split, D_ft, the
//! context, the seed) only choose among these documents, so a text is tokenised again only if the
//! source or the tokenizer changes. Of an unlimited source it has the first documents, as many as have
//! been needed so far.
//!
//! On disk it is a folder:
//!
//! ```text
//! manifest.json               the source and its files, the tokenizer, counts, every shard's hash
//! shard-00000.<hash>.tokens   some documents; memory-mapped, so it may be larger than memory
//! ```

#[cfg(feature = "text")]
mod folder;
mod shard;

#[cfg(feature = "text")]
pub use folder::{Origin, OriginFile, Recipe, ShardFile, StoreManifest};

use super::mask::Encoded;
use super::{Encode, Source};
use crate::parallel::Flow;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
pub(super) use shard::Document;
use shard::{Bytes, Header, Shard, Writer};
use std::io::{Cursor, Seek, Write};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;

/// Is called with the documents of a source in their order, and breaks at the last one that it needs.
pub(super) type Take<'a> = &'a mut dyn FnMut(&Document) -> ControlFlow<()>;

/// The tokens of a source, by document.
#[derive(Debug)]
pub struct Tokens {
    shards: Vec<Shard>,
    documents: u64,
    tokens: u64,
}

impl Tokens {
    /// Tokenises all of a finite source into memory, on all cores.
    ///
    /// # Errors
    /// If the source is unlimited, or a document cannot be read or tokenised.
    pub fn of(source: &dyn Source, encoder: &dyn Encode) -> Result<Self> {
        let documents = source.len().ok_or_else(|| {
            let requirement = "must be finite: an unlimited source is tokenised as it is needed";
            Error::setting("documents", "unlimited", requirement)
        })?;
        Self::in_memory(source, encoder, 0..documents, &mut |_| ControlFlow::Continue(()))
    }

    /// Tokenises the first documents of a source into memory, until `take` has enough of them.
    ///
    /// # Errors
    /// If a document cannot be read or tokenised.
    pub(super) fn first(source: &dyn Source, encoder: &dyn Encode, take: Take<'_>) -> Result<Self> {
        Self::in_memory(source, encoder, 0..u64::MAX, take)
    }

    fn in_memory(
        source: &dyn Source,
        encoder: &dyn Encode,
        documents: Range<u64>,
        take: Take<'_>,
    ) -> Result<Self> {
        let path = PathBuf::from("tokens in memory");
        let mut bytes = Cursor::new(Vec::new());
        let header = Header {
            width: 4,
            vocab: 1 << 32,
            end_of_text: encoder.end_of_text(),
            tokens: 0,
            documents: 0,
            first: 0,
            masked: false,
            identity: [0; 32],
        };
        let writer = Writer::new(&mut bytes, &path, header)?;
        Packer { source, encoder, flow: flow() }.pack(documents, writer, take)?;
        Self::new(vec![Shard::new(path, Bytes::Memory(bytes.into_inner()))?])
    }

    fn new(shards: Vec<Shard>) -> Result<Self> {
        let (mut documents, mut tokens) = (0, 0);
        for shard in &shards {
            if shard.header().first != documents {
                let reason = "its documents do not follow those of the shard before".into();
                return Err(Error::Damaged { path: shard.path().to_path_buf(), reason });
            }
            documents += shard.header().documents;
            tokens += shard.header().tokens;
        }
        Ok(Self { shards, documents, tokens })
    }

    /// The number of documents.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The number of tokens, including those between documents.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The entries of all documents, in the source's order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Document>> {
        self.shards
            .iter()
            .flat_map(|shard| (0..shard.header().documents).map(|i| shard.document(i)))
    }

    /// The tokens of document `i`, counted from 0, including the end of text.
    ///
    /// # Errors
    /// If there is no such document, or the store is damaged there.
    pub fn document(&self, i: u64) -> Result<Vec<u32>> {
        let ((shard, range), mut tokens) = (self.find(i)?, Vec::new());
        shard.read(range, &mut tokens);
        Ok(tokens)
    }

    /// For each of these tokens, whether it counts in the loss.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    pub fn counted(&self, i: u64) -> Result<Vec<bool>> {
        let ((shard, range), mut counted) = (self.find(i)?, Vec::new());
        shard.read_counted(range, &mut counted);
        Ok(counted)
    }

    /// Whether some tokens do not count in the loss.
    pub fn is_masked(&self) -> bool {
        self.shards.iter().any(|shard| shard.header().masked)
    }

    /// The shard of a document, and its tokens there.
    fn find(&self, i: u64) -> Result<(&Shard, Range<u64>)> {
        if i >= self.documents {
            let requirement = format!("must be below their number, {}", self.documents);
            return Err(Error::setting("document", i, requirement));
        }
        let (shard, i) = self.locate(i);
        Ok((shard, shard.document(i)?.tokens))
    }

    /// The shard of a document, and its number there.
    fn locate(&self, i: u64) -> (&Shard, u64) {
        let after = self.shards.partition_point(|shard| shard.header().first <= i);
        let shard = &self.shards[after - 1];
        (shard, i - shard.header().first)
    }
}

/// Documents of a [`Tokens`] in any order, as one stream.
#[derive(Debug, Clone)]
pub struct Chosen {
    tokens: Arc<Tokens>,
    documents: Vec<u64>,
    /// Where each document ends in the stream.
    ends: Vec<usize>,
}

impl Chosen {
    /// The stream of these documents.
    ///
    /// # Errors
    /// If there is no such document, or the store is damaged there.
    pub fn new(tokens: Arc<Tokens>, documents: Vec<u64>) -> Result<Self> {
        let (mut end, mut ends) = (0, Vec::with_capacity(documents.len()));
        for &document in &documents {
            let (_, range) = tokens.find(document)?;
            end += (range.end - range.start) as usize;
            ends.push(end);
        }
        Ok(Self { tokens, documents, ends })
    }

    /// Tokens in the stream.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether some tokens of the store do not count in the loss.
    pub fn is_masked(&self) -> bool {
        self.tokens.is_masked()
    }

    /// Appends a part of the stream.
    ///
    /// # Panics
    /// If the stream is shorter.
    pub fn read(&self, range: Range<usize>, into: &mut Vec<u32>) {
        self.each(range, |shard, tokens| shard.read(tokens, into));
    }

    /// Appends, for each token of a part of the stream, whether it counts in the loss.
    ///
    /// # Panics
    /// If the stream is shorter.
    pub fn read_counted(&self, range: Range<usize>, into: &mut Vec<bool>) {
        self.each(range, |shard, tokens| shard.read_counted(tokens, into));
    }

    /// Calls `hear` with the tokens of every document in a part of the stream.
    fn each(&self, range: Range<usize>, mut hear: impl FnMut(&Shard, Range<u64>)) {
        assert!(range.end <= self.len(), "tokens {range:?} of {}", self.len());
        let mut at = range.start;
        let first = self.ends.partition_point(|&end| end <= at);
        for (&document, &end) in self.documents[first..].iter().zip(&self.ends[first..]) {
            if at >= range.end {
                break;
            }
            let (shard, tokens) =
                self.tokens.find(document).expect("was looked at when it was chosen");
            let stop = end.min(range.end);
            hear(shard, tokens.end - (end - at) as u64..tokens.end - (end - stop) as u64);
            at = stop;
        }
    }
}

/// Tokenises documents of a source.
struct Packer<'a> {
    source: &'a dyn Source,
    encoder: &'a dyn Encode,
    flow: Flow,
}

impl Packer<'_> {
    /// Writes documents to a shard in their order, until `take` has enough.
    fn pack(
        self,
        documents: Range<u64>,
        mut writer: Writer<'_, impl Write + Seek>,
        take: Take<'_>,
    ) -> Result<()> {
        let Self { source, encoder, flow } = self;
        let tokenise = |i: u64| -> Result<(Encoded, Document)> {
            let passage = source.passage(i)?;
            let fingerprint = fingerprint(&passage.text);
            let place = match source.work(i) {
                Some(work) => first_64_bits(work.as_bytes()),
                None => place(&passage.text).unwrap_or(fingerprint as u64),
            };
            let encoded = Encoded::ended(encoder, &passage)?;
            let tokens = 0..encoded.tokens.len() as u64;
            let document = Document { tokens, fingerprint, place, group: source.group(i) };
            Ok((encoded, document))
        };
        let write = |(encoded, document): (Encoded, Document)| {
            writer.push(&encoded, &document)?;
            Ok(take(&document))
        };
        flow.run(documents, tokenise, |(encoded, _)| encoded.tokens.len(), write)?;
        writer.finish()
    }
}

/// Runs on all cores. At most 4 MB of tokens wait to be written, plus one document per core.
pub(super) fn flow() -> Flow {
    Flow::new(1 << 20)
}

/// 128 bits of the SHA-256 of a text in lower case with single spaces. Punctuation and digits are kept,
/// because two short exercises in arithmetic may differ in nothing else.
pub(super) fn fingerprint(text: &str) -> u128 {
    let mut folded = String::with_capacity(text.len() + 1);
    for word in text.split_whitespace() {
        folded.extend(word.chars().flat_map(char::to_lowercase));
        folded.push(' ');
    }
    let digest = Sha256::digest(folded.as_bytes());
    digest.iter().take(16).fold(0, |bits, &byte| (bits << 8) | u128::from(byte))
}

/// 64 bits of the SHA-256 of a text's letters and digits in lower case, which are the same for copies
/// that differ in typography. `None` if the text has no letters or digits.
fn place(text: &str) -> Option<u64> {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        if c.is_ascii() {
            folded.push(c.to_ascii_lowercase());
        } else {
            folded.extend(c.to_lowercase());
        }
    }
    (!folded.is_empty()).then(|| first_64_bits(folded.as_bytes()))
}

fn first_64_bits(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(*digest.first_chunk().expect("32 bytes"))
}

#[cfg(test)]
mod tests;
