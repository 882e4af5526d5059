//! A token store on disk. Its parts are written atomically, opened by memory mapping, and verified by
//! hashes.

use super::shard::{Header, Shard, Writer};
use super::{Packer, Take, Tokens, flow};
use crate::data::split::{RULE_TEXT, UNLIMITED_RULE_TEXT};
use crate::data::{Encode, Source};
use crate::store::{
    Claim, hash_file, hashed_files, hex, states_hash, to_json, verify_file, write_atomic,
    write_hashed_stream,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Component, Path};

/// What determines a store.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// The documents.
    pub source: &'a dyn Source,
    /// The tokenizer.
    pub encoder: &'a dyn Encode,
    /// Hash of the tokenizer.
    pub tokenizer: &'a str,
    /// The vocabulary size; tokens are below it. Up to 2¹⁶ a token takes 2 bytes, else 4.
    pub vocab: usize,
    /// Documents per shard, or at most, if the source is unlimited; [`Recipe::SHARD`] unless there
    /// is a reason for another number.
    pub shard_documents: u64,
}

impl Recipe<'_> {
    /// Documents per shard: about 50 MB of typical web pages and parts of books.
    pub const SHARD: u64 = 1 << 14;

    /// The hash of what determines every byte of every shard.
    fn header(&self) -> Header {
        let (vocab, end_of_text) = (self.vocab as u64, self.encoder.end_of_text());
        let width = if vocab <= 1 << 16 { 2 } else { 4 };
        let (source, shard) = (self.source.content_hash(), self.shard_documents);
        let all = (FORMAT, source, self.tokenizer, vocab, end_of_text, shard);
        let json = serde_json::to_vec(&all).expect("numbers and strings");
        let identity = <sha2::Sha256 as sha2::Digest>::digest(json).into();
        let (tokens, documents, first, masked) = (0, 0, 0, false);
        Header { width, vocab, end_of_text, tokens, documents, first, masked, identity }
    }

    /// The identity of the store: 16 hex digits, for the name of a shared folder.
    pub fn id(&self) -> String {
        hex(&self.header().identity)[..16].to_string()
    }

    /// The manifest of a folder. It must belong to this recipe.
    fn known(&self, folder: &Path) -> Result<Option<StoreManifest>> {
        if self.shard_documents == 0 {
            return Err(Error::setting("documents of a shard", 0, "must be at least 1"));
        }
        let known = StoreManifest::read(folder)?;
        if known.as_ref().is_some_and(|known| known.identity != hex(&self.header().identity)) {
            let requirement = "holds the tokens of another source or tokenizer; name another \
                               folder or remove this one";
            return Err(Error::setting("folder", folder.display(), requirement));
        }
        Ok(known)
    }

    /// Writes the manifest of a store of these shards.
    fn write_manifest(&self, folder: &Path, origin: &Origin, shards: &[ShardFile]) -> Result<()> {
        let header = self.header();
        let rule = if self.source.len().is_some() { RULE_TEXT } else { UNLIMITED_RULE_TEXT };
        let manifest = StoreManifest {
            format: FORMAT,
            identity: hex(&header.identity),
            origin: origin.clone(),
            source: self.source.content_hash(),
            tokenizer: self.tokenizer.into(),
            vocab: header.vocab,
            end_of_text: header.end_of_text,
            bytes_per_token: header.width,
            documents: shards.iter().map(|shard| shard.documents).sum(),
            tokens: shards.iter().map(|shard| shard.tokens).sum(),
            counted: counted(shards),
            split: rule.into(),
            shards: shards.to_vec(),
        };
        write_atomic(&folder.join(MANIFEST), &to_json(&manifest))
    }

    /// Tokenises documents, until `take` has enough of them, and writes them as a shard.
    fn write(
        &self,
        folder: &Path,
        stem: &str,
        documents: Range<u64>,
        take: Take<'_>,
    ) -> Result<ShardFile> {
        let (path, header) =
            (folder.join(stem), Header { first: documents.start, ..self.header() });
        let (path, sha256) = write_hashed_stream(folder, stem, "tokens", |out| {
            let writer = Writer::new(out, &path, header)?;
            Packer { source: self.source, encoder: self.encoder, flow: flow() }
                .pack(documents, writer, take)
        })?;
        Ok(entry(&Shard::open(path)?, sha256))
    }
}

/// Version of what a store holds of a document.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const SHARD: &str = "shard-";

/// The origin of a source, as far as it is known, for information only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// A description.
    pub name: String,
    /// The revision of the repository that it was fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OriginFile>,
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OriginFile {
    /// Its name without folders.
    pub name: String,
    /// Hex SHA-256 of its decompressed content.
    pub sha256: String,
}

/// The content of a store: `manifest.json`, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreManifest {
    /// Version of the format.
    pub format: u32,
    /// Hex SHA-256 of what determines the tokens.
    pub identity: String,
    /// Where the source comes from.
    pub origin: Origin,
    /// The source's content hash.
    pub source: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Tokens are below this.
    pub vocab: u64,
    /// The token after each document.
    pub end_of_text: u32,
    /// Bytes per token.
    pub bytes_per_token: u32,
    /// The number of documents in all shards.
    pub documents: u64,
    /// The number of tokens in all shards.
    pub tokens: u64,
    /// The tokens that count in the loss; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<u64>,
    /// How documents are dealt to the parts of a split.
    pub split: String,
    /// The shards in order.
    pub shards: Vec<ShardFile>,
}

/// A shard of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardFile {
    /// Its name.
    pub file: String,
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// Its documents.
    pub documents: u64,
    /// Its tokens.
    pub tokens: u64,
    /// The tokens that count in the loss, if it has a mask; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<u64>,
}

/// The tokens of shards that count in the loss, where some do not.
fn counted(shards: &[ShardFile]) -> Option<u64> {
    let masked = shards.iter().any(|shard| shard.counted.is_some());
    let counted = |shard: &ShardFile| shard.counted.unwrap_or(shard.tokens);
    masked.then(|| shards.iter().map(counted).fold(0, u64::saturating_add))
}

impl StoreManifest {
    /// The manifest of a folder, or `None` if the store is not finished.
    ///
    /// # Errors
    /// If the manifest exists and cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(&path))?,
        };
        let refuse = |reason: String| Err(Error::content(&path, None, reason));
        let manifest: Self = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return refuse(format!("not the manifest of a token store ({error})")),
        };
        if manifest.format != FORMAT {
            let found = manifest.format;
            return refuse(format!("format {found}; this program reads {FORMAT}"));
        }
        for ShardFile { file, .. } in &manifest.shards {
            let mut parts = Path::new(file).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return refuse(format!("the shard {file:?} is not in the folder"));
            }
        }
        Ok(Some(manifest))
    }

    fn of(folder: &Path) -> Result<Self> {
        let unfinished = || {
            let reason = "is not a token store, or is not finished: prepare it";
            Error::content(folder, None, reason)
        };
        Self::read(folder)?.ok_or_else(unfinished)
    }

    /// Maps a shard and compares its header with this entry.
    fn open(&self, folder: &Path, i: usize, first: u64) -> Result<Shard> {
        let entry = &self.shards[i];
        let path = folder.join(&entry.file);
        let shard = Shard::open(path.clone()).map_err(|error| match error {
            Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                let reason = "the manifest names it, but it does not exist; prepare again".into();
                Error::Damaged { path, reason }
            }
            error => error,
        })?;
        let expected = Header {
            width: self.bytes_per_token,
            vocab: self.vocab,
            end_of_text: self.end_of_text,
            tokens: entry.tokens,
            documents: entry.documents,
            first,
            masked: entry.counted.is_some(),
            identity: shard.header().identity,
        };
        if *shard.header() != expected || hex(&expected.identity) != self.identity {
            let reason = "its header differs from the manifest".into();
            return Err(Error::Damaged { path, reason });
        }
        Ok(shard)
    }

    /// All shards.
    fn shards(&self, folder: &Path) -> impl Iterator<Item = Result<Shard>> {
        let mut first = 0u64;
        (0..self.shards.len()).map(move |i| {
            let shard = self.open(folder, i, first);
            first = first.saturating_add(self.shards[i].documents);
            shard
        })
    }
}

impl Tokens {
    /// Tokenises a finite source into a folder, or opens the finished store. `progress` is called after
    /// each document. Memory holds what [`Recipe::source`] holds, some megabytes of tokens that wait to
    /// be written, and the entries of one shard.
    ///
    /// Shards are written atomically. A shard that an interrupted call has finished is verified and
    /// kept, so the bytes depend neither on interruptions nor on the number of threads. If another
    /// process prepares the same folder, this one waits for it.
    ///
    /// # Errors
    /// If the folder has the tokens of another source or tokenizer, a shard of a finished store is
    /// damaged, a document cannot be read or tokenised, or a file cannot be written.
    pub fn prepare(
        folder: &Path,
        recipe: &Recipe<'_>,
        origin: &Origin,
        progress: &dyn Fn(u64),
    ) -> Result<Self> {
        let documents = recipe.source.len().ok_or_else(|| {
            Error::setting("documents", "unlimited", "must be finite to be stored on disk")
        })?;
        let claim = Claim::wait_for(folder)?;
        let known = recipe.known(folder)?;
        let mut shards = Vec::new();
        for first in (0..documents).step_by(recipe.shard_documents as usize) {
            let end = documents.min(first.saturating_add(recipe.shard_documents));
            let listed = known.as_ref().and_then(|known| known.shards.get(shards.len()));
            let header = Header { first, ..recipe.header() };
            let stem = stem(shards.len());
            let file = match kept(folder, &stem, &header, end - first, listed)? {
                Some(file) => file,
                None => recipe.write(folder, &stem, first..end, &mut |_| {
                    progress(1);
                    ControlFlow::Continue(())
                })?,
            };
            shards.push(file);
        }
        if known.is_none_or(|known| known.shards != shards) {
            recipe.write_manifest(folder, origin, &shards)?;
        }
        drop(claim);
        Self::open(folder)
    }

    /// Opens the first documents of a source in a folder, until `take` has enough of them. Existing
    /// documents are read; missing ones are tokenised and added as new shards, and existing shards
    /// never change. Each shard is entered in the manifest as soon as it is written, so an interruption
    /// loses at most one shard. If another process uses the folder, this one waits for it.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(in crate::data) fn grow(
        folder: &Path,
        recipe: &Recipe<'_>,
        origin: &Origin,
        take: Take<'_>,
    ) -> Result<Self> {
        let claim = Claim::wait_for(folder)?;
        let mut shards = recipe.known(folder)?.map_or_else(Vec::new, |known| known.shards);
        let (mut first, mut flow) = (0u64, ControlFlow::Continue(()));
        for i in 0.. {
            match shards.get(i) {
                None if flow.is_break() => break,
                None => {
                    // Written, and interrupted before the manifest spoke of it.
                    for path in hashed_files(folder, &format!("{}.", stem(i)))? {
                        fs::remove_file(&path).map_err(Error::io(&path))?;
                    }
                    let documents = first..first.saturating_add(recipe.shard_documents);
                    let mut take = |document: &_| {
                        flow = take(document);
                        flow
                    };
                    shards.push(recipe.write(folder, &stem(i), documents, &mut take)?);
                    recipe.write_manifest(folder, origin, &shards)?;
                }
                Some(listed) => {
                    if !folder.join(&listed.file).exists() {
                        let documents = first..first.saturating_add(listed.documents);
                        let all = &mut |_: &_| ControlFlow::Continue(());
                        shards[i] = recipe.write(folder, &stem(i), documents, all)?;
                        recipe.write_manifest(folder, origin, &shards)?;
                    }
                    if flow.is_continue() {
                        flow = hear(&Shard::open(folder.join(&shards[i].file))?, take)?;
                    }
                }
            }
            first = first.saturating_add(shards[i].documents);
        }
        drop(claim);
        Self::open(folder)
    }

    /// Opens a store. The time does not depend on the length of the shards: only their headers and
    /// lengths are compared with the manifest. [`Tokens::verify`] checks the rest.
    ///
    /// # Errors
    /// If there is no finished store, or a shard is missing, truncated or different from the manifest.
    /// The error names the shard.
    pub fn open(folder: &Path) -> Result<Self> {
        let shards = StoreManifest::of(folder)?.shards(folder).collect::<Result<_>>()?;
        Self::new(shards)
    }

    /// Reads every byte of a store and compares the hashes with the manifest. Returns what is damaged,
    /// or an empty list.
    ///
    /// # Errors
    /// If there is no finished store.
    pub fn verify(folder: &Path) -> Result<Vec<Error>> {
        let manifest = StoreManifest::of(folder)?;
        let check = |(shard, entry): (Result<Shard>, &ShardFile)| -> Result<()> {
            let shard = shard?;
            let path = folder.join(&entry.file);
            verify_file(&path, &entry.sha256)?;
            shard.check()?;
            if shard.counted() == entry.counted {
                Ok(())
            } else {
                let reason = "the manifest states another number of tokens that count".into();
                Err(Error::Damaged { path, reason })
            }
        };
        let mut damages: Vec<Error> =
            manifest.shards(folder).zip(&manifest.shards).filter_map(|s| check(s).err()).collect();
        let total = |count: fn(&ShardFile) -> u64| {
            manifest.shards.iter().map(count).fold(0, u64::saturating_add)
        };
        let all = (manifest.documents, manifest.tokens, manifest.counted);
        if (total(|s| s.documents), total(|s| s.tokens), counted(&manifest.shards)) != all {
            let reason = "its counts differ from those of its shards".into();
            damages.push(Error::Damaged { path: folder.join(MANIFEST), reason });
        }
        Ok(damages)
    }
}

/// Passes the documents of a shard to `take` until it has enough of them.
fn hear(shard: &Shard, take: Take<'_>) -> Result<ControlFlow<()>> {
    for i in 0..shard.header().documents {
        if take(&shard.document(i)?).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The prefix of the name of shard `i`.
fn stem(i: usize) -> String {
    format!("{SHARD}{i:05}")
}

/// A shard that exists already. In a finished store it must match the manifest; in an unfinished store,
/// damaged shards are removed.
fn kept(
    folder: &Path,
    stem: &str,
    header: &Header,
    documents: u64,
    listed: Option<&ShardFile>,
) -> Result<Option<ShardFile>> {
    if let Some(listed) = listed {
        return Ok(folder.join(&listed.file).exists().then(|| listed.clone()));
    }
    let mut found = None;
    for path in hashed_files(folder, &format!("{stem}."))? {
        let hash = hash_file(&path)?;
        let whole = states_hash(&path, &hash)
            .then(|| Shard::open(path.clone()).ok())
            .flatten()
            .filter(|shard| {
                let Header { tokens, masked, .. } = *shard.header();
                *shard.header() == Header { tokens, documents, masked, ..*header }
            });
        match whole {
            Some(shard) => found = Some(entry(&shard, hash)),
            None => fs::remove_file(&path).map_err(Error::io(&path))?,
        }
    }
    Ok(found)
}

fn entry(shard: &Shard, sha256: String) -> ShardFile {
    let Header { documents, tokens, .. } = *shard.header();
    let file = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    ShardFile { file, sha256, documents, tokens, counted: shard.counted() }
}
