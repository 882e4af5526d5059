//! The format of one shard, in a file or in memory.
//!
//! ```text
//! header     96 bytes: magic, version, counts, and a checksum of the header
//! tokens     each in 2 or 4 bytes
//! documents  40 bytes each: where its tokens end, and what a split needs to know of it
//! mask       one bit per token, starting with the lowest bit of each byte: whether it counts in the
//!            loss; only in version 2, for shards in which some do not; 0 after the last token
//! ```
//!
//! All numbers are little-endian.

use crate::data::mask::Encoded;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::{Seek, SeekFrom, Write};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

/// Bytes of the header.
pub const HEADER: usize = 96;
/// Bytes of a document's entry.
pub const ENTRY: usize = 40;
const MAGIC: [u8; 8] = *b"fl-token";
/// Versions without and with a mask.
const VERSIONS: [u32; 2] = [1, 2];
/// Bytes of the header that its checksum covers.
const CHECKED: usize = HEADER - 8;

/// The content of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of a token, 2 or 4.
    pub width: u32,
    /// Tokens are below this.
    pub vocab: u64,
    /// The token after each document.
    pub end_of_text: u32,
    /// The number of tokens, including those after documents.
    pub tokens: u64,
    /// The number of documents.
    pub documents: u64,
    /// The number of the first document in the source.
    pub first: u64,
    /// Whether there is a mask: some tokens do not count in the loss.
    pub masked: bool,
    /// SHA-256 of what determines the tokens of the whole source.
    pub identity: [u8; 32],
}

impl Header {
    /// The bytes of the header.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let version = VERSIONS[usize::from(self.masked)];
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.documents.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.vocab.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.end_of_text.to_le_bytes());
        // 52 to 56 are 0.
        bytes[56..88].copy_from_slice(&self.identity);
        let digest = Sha256::digest(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&digest[..8]);
        bytes
    }

    /// Parses the header of a shard. The shard must have the length that follows from it.
    fn of(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: String| Error::Damaged { path: path.to_path_buf(), reason };
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(Error::content(path, None, "not a shard of a token store"));
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err(damaged("it ends within its header".into()));
        };
        if Sha256::digest(&header[..CHECKED])[..8] != header[CHECKED..] {
            return Err(damaged("its header was altered".into()));
        }
        let version = u32_at(header, 8);
        let found = Self {
            width: u32_at(header, 12),
            tokens: u64_at(header, 16),
            documents: u64_at(header, 24),
            first: u64_at(header, 32),
            vocab: u64_at(header, 40),
            end_of_text: u32_at(header, 48),
            masked: version == VERSIONS[1],
            identity: header[56..88].try_into().expect("32 bytes"),
        };
        if !VERSIONS.contains(&version) || found.to_bytes() != *header {
            let [first, last] = VERSIONS;
            let reason =
                format!("version {version} of the format; this program reads {first} to {last}");
            return Err(Error::content(path, None, reason));
        }
        if !matches!(found.width, 2 | 4) {
            return Err(damaged(format!("tokens of {} bytes", found.width)));
        }
        let expected = u128::from(found.tokens) * u128::from(found.width)
            + u128::from(found.documents) * ENTRY as u128
            + u128::from(found.mask_bytes())
            + HEADER as u128;
        if bytes.len() as u128 != expected {
            let reason = format!("it has {} bytes, and by its header {expected}", bytes.len());
            return Err(damaged(reason));
        }
        Ok(found)
    }

    fn mask_bytes(&self) -> u64 {
        if self.masked { self.tokens.div_ceil(8) } else { 0 }
    }
}

/// A document of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its tokens in the shard, including the end of text.
    pub tokens: Range<u64>,
    /// The [`fingerprint`](super::fingerprint) of its text.
    pub fingerprint: u128,
    /// Decides which part of a split its work belongs to; the smallest number among the documents of a
    /// work counts.
    pub place: u64,
    /// Its group in the source.
    pub group: u64,
}

/// A shard's bytes.
pub enum Bytes {
    Memory(Vec<u8>),
    #[cfg(feature = "text")]
    Mapped(memmap2::Mmap),
}

impl Bytes {
    /// Maps the file into memory; the system reads only what is used.
    #[cfg(feature = "text")]
    #[allow(unsafe_code, reason = "a mapped file has no safe interface")]
    fn map(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        // SAFETY: shards are renamed into place when they are whole, and never written to again;
        // whoever else alters one while it is read is outside what this program can guard against.
        let mapped = unsafe { memmap2::Mmap::map(&file) };
        mapped.map(Self::Mapped).map_err(Error::io(path))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            #[cfg(feature = "text")]
            Self::Mapped(bytes) => bytes,
        }
    }
}

/// A shard that can be read.
pub struct Shard {
    path: PathBuf,
    header: Header,
    bytes: Bytes,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("path", &self.path).field("header", &self.header).finish()
    }
}

impl Shard {
    /// A shard in memory. `path` names it in errors.
    ///
    /// # Errors
    /// If the header is not that of a shard of this length.
    pub fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        Ok(Self { header: Header::of(&path, &bytes)?, path, bytes })
    }

    /// Maps a file, in a time that does not depend on its length.
    ///
    /// # Errors
    /// If it cannot be read, or the header is not that of a shard of this length.
    #[cfg(feature = "text")]
    pub fn open(path: PathBuf) -> Result<Self> {
        let bytes = Bytes::map(&path)?;
        Self::new(path, bytes)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Document `i` of the shard, counted from 0.
    ///
    /// # Errors
    /// If there is no such document, or its entry contradicts the others.
    pub fn document(&self, i: u64) -> Result<Document> {
        if i >= self.header.documents {
            let requirement = format!("must be below {}", self.header.documents);
            return Err(Error::setting("document of the shard", i, requirement));
        }
        let start = if i == 0 { 0 } else { u64_at(self.entry(i - 1), 0) };
        let entry = self.entry(i);
        let end = u64_at(entry, 0);
        if start >= end || end > self.header.tokens {
            let reason = format!("document {i} is said to lie on tokens {start} to {end}");
            return Err(Error::Damaged { path: self.path.clone(), reason });
        }
        Ok(Document {
            tokens: start..end,
            fingerprint: u128::from_le_bytes(entry[8..24].try_into().expect("16 bytes")),
            place: u64_at(entry, 24),
            group: u64_at(entry, 32),
        })
    }

    fn entry(&self, i: u64) -> &[u8] {
        let start = HEADER as u64 + self.header.tokens * u64::from(self.header.width);
        let start = (start + i * ENTRY as u64) as usize;
        &self.bytes[start..start + ENTRY]
    }

    /// Appends tokens of the shard.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn read(&self, tokens: Range<u64>, into: &mut Vec<u32>) {
        assert!(tokens.end <= self.header.tokens, "tokens {tokens:?} of {}", self.header.tokens);
        let width = self.header.width as usize;
        let at = |token: u64| HEADER + token as usize * width;
        let bytes = &self.bytes[at(tokens.start)..at(tokens.end)];
        match width {
            2 => {
                let pairs = bytes.as_chunks::<2>().0;
                into.extend(pairs.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))));
            }
            _ => {
                let quads = bytes.as_chunks::<4>().0;
                into.extend(quads.iter().map(|&quad| u32::from_le_bytes(quad)));
            }
        }
    }

    /// Appends, for tokens of the shard, whether they count in the loss.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn read_counted(&self, tokens: Range<u64>, into: &mut Vec<bool>) {
        assert!(tokens.end <= self.header.tokens, "tokens {tokens:?} of {}", self.header.tokens);
        let mask = self.mask();
        let counts = |token: u64| mask[(token / 8) as usize] >> (token % 8) & 1 == 1;
        if self.header.masked {
            into.extend(tokens.map(counts))
        } else {
            into.resize(into.len() + (tokens.end - tokens.start) as usize, true)
        }
    }

    /// The number of tokens that count in the loss; `None` if all do.
    #[cfg(feature = "text")]
    pub fn counted(&self) -> Option<u64> {
        let ones = || self.mask().iter().map(|byte| u64::from(byte.count_ones())).sum();
        self.header.masked.then(ones)
    }

    fn mask(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.header.mask_bytes() as usize..]
    }

    /// Checks every document and token: entries are in order, every document ends with the end of text,
    /// every token is in the vocabulary, and the mask is 0 after the last token.
    ///
    /// # Errors
    /// If one of these is violated.
    #[cfg(feature = "text")]
    pub fn check(&self) -> Result<()> {
        let damaged = |reason| Err(Error::Damaged { path: self.path.clone(), reason });
        let (mut tokens, mut end) = (Vec::new(), 0);
        for i in 0..self.header.documents {
            let document = self.document(i)?;
            end = document.tokens.end;
            tokens.clear();
            self.read(document.tokens, &mut tokens);
            if tokens.last() != Some(&self.header.end_of_text) {
                return damaged(format!("document {i} has no end"));
            }
            if let Some(token) = tokens.iter().find(|&&t| u64::from(t) >= self.header.vocab) {
                let vocab = self.header.vocab;
                return damaged(format!("document {i} has the token {token} of {vocab}"));
            }
        }
        if end != self.header.tokens {
            return damaged(format!("its documents end at token {end}"));
        }
        let rest = self.mask().last().map_or(0, |&last| u32::from(last) >> ((end + 7) % 8 + 1));
        match rest {
            0 => Ok(()),
            _ => damaged("its mask continues after its last token".into()),
        }
    }
}

/// Writes a shard from its documents. Only the entries and the mask stay in memory. The header is
/// written last.
pub struct Writer<'a, W> {
    out: &'a mut W,
    path: &'a Path,
    header: Header,
    entries: Vec<u8>,
    /// Empty as long as every token counts.
    mask: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'a, W: Write + Seek> Writer<'a, W> {
    /// Starts a shard with this header; the counts are filled in at the end.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new(out: &'a mut W, path: &'a Path, header: Header) -> Result<Self> {
        out.write_all(&[0; HEADER]).map_err(Error::io(path))?;
        let header = Header { tokens: 0, documents: 0, masked: false, ..header };
        let (entries, mask, buffer) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { out, path, header, entries, mask, buffer })
    }

    /// Adds a document: its tokens, including the end of text. The range of tokens in the entry is
    /// ignored.
    ///
    /// # Errors
    /// If the file cannot be written, or a token is not below the vocabulary size.
    pub fn push(&mut self, encoded: &Encoded, document: &Document) -> Result<()> {
        let (tokens, vocab) = (&encoded.tokens, self.header.vocab);
        if let Some(token) = tokens.iter().find(|&&token| u64::from(token) >= vocab) {
            let requirement = format!("must be below the vocabulary size, {vocab}");
            return Err(Error::setting("token", token, requirement));
        }
        self.buffer.clear();
        for token in tokens {
            self.buffer.extend_from_slice(&token.to_le_bytes()[..self.header.width as usize]);
        }
        let counted = encoded.counted.as_ref().filter(|counted| counted.contains(&false));
        if counted.is_some() && !self.header.masked {
            self.header.masked = true;
            append_bits(&mut self.mask, 0, (0..self.header.tokens).map(|_| true));
        }
        if self.header.masked {
            let bits = (0..tokens.len()).map(|i| counted.is_none_or(|counted| counted[i]));
            append_bits(&mut self.mask, self.header.tokens, bits);
        }
        self.out.write_all(&self.buffer).map_err(Error::io(self.path))?;
        self.header.tokens += tokens.len() as u64;
        self.header.documents += 1;
        self.entries.extend_from_slice(&self.header.tokens.to_le_bytes());
        self.entries.extend_from_slice(&document.fingerprint.to_le_bytes());
        self.entries.extend_from_slice(&document.place.to_le_bytes());
        self.entries.extend_from_slice(&document.group.to_le_bytes());
        Ok(())
    }

    /// Ends the shard.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<()> {
        let mut written = || {
            self.out.write_all(&self.entries)?;
            if self.header.masked {
                self.out.write_all(&self.mask)?;
            }
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&self.header.to_bytes())
        };
        written().map_err(Error::io(self.path))
    }
}

/// Appends bits to a mask that has `length` bits.
fn append_bits(bytes: &mut Vec<u8>, length: u64, bits: impl Iterator<Item = bool>) {
    for (place, bit) in (length..).zip(bits) {
        if place.is_multiple_of(8) {
            bytes.push(0);
        }
        *bytes.last_mut().expect("there is one") |= u8::from(bit) << (place % 8);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
