//! The reader of token stores on any bytes: a store or an error in one line, never a panic or memory
//! without end.
//!
//! A store of two shards is made once, the first without a mask and the second with one; the input
//! takes the place of a part of its manifest or of a shard, by its first byte; the next four say where the
//! part begins and how long it is. A shard that is changed like this has neither the checksum of its header
//! nor the hash in the manifest; so the input may also be what follows the header of the second shard,
//! and the header and the manifest are made to agree with it.

#![no_main]

use forgetting_laws::data::mask::Passage;
use forgetting_laws::data::tokens::{Chosen, Origin, Recipe, StoreManifest, Tokens};
use forgetting_laws::data::{Encode, Source};
use forgetting_laws::{Error, Result};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

struct Numbers;

impl Source for Numbers {
    fn content_hash(&self) -> String {
        "numbers".into()
    }

    fn len(&self) -> Option<u64> {
        Some(9)
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        Ok(format!("number {i}").into())
    }

    /// From number 5 on the digits alone count.
    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        let text = self.document(i)?;
        let number = "number ".len()..text.len();
        let counted = (i > 4).then(|| vec![number].into());
        Ok(Passage { text, counted })
    }
}

/// A token a byte.
struct Bytes;

impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn end_of_text(&self) -> u32 {
        256
    }
}

/// A whole store: its folder, and its manifest and shards with their bytes.
static STORE: LazyLock<(TempDir, [(PathBuf, Vec<u8>); 3])> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = Recipe {
        source: &Numbers,
        encoder: &Bytes,
        tokenizer: "bytes",
        vocab: 257,
        shard_documents: 5,
    };
    Tokens::prepare(folder.path(), &recipe, &Origin::default(), &|_| ()).expect("a store");
    let manifest = StoreManifest::read(folder.path()).expect("it is whole").expect("it is there");
    let masks = [0, 1].map(|shard: usize| manifest.shards[shard].counted.is_some());
    assert_eq!(masks, [false, true]);
    let names = ["manifest.json", &manifest.shards[0].file, &manifest.shards[1].file];
    let files = names.map(|name| {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).expect("a file of the store");
        (path, bytes)
    });
    (folder, files)
});

/// A file with a part replaced: the input is where it begins, its length, and what is there instead.
fn spliced(file: &[u8], input: &[u8]) -> Vec<u8> {
    let (&[a, b, c, d], bytes) = input.split_first_chunk().unwrap_or((&[0; 4], &[]));
    let start = usize::from(u16::from_le_bytes([a, b])).min(file.len());
    let end = (start + usize::from(u16::from_le_bytes([c, d]))).min(file.len());
    [&file[..start], bytes, &file[end..]].concat()
}

/// The second shard, and the manifest, with this in place of the tokens, the documents and the mask. The
/// first byte is the number of documents, and the highest bit of it whether there is a mask.
fn sealed(input: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (&first, body) = input.split_first().unwrap_or((&0, &[]));
    let is_masked = first >= 128;
    let documents = usize::from(first % 128).min(body.len() / 40);
    let rest = body.len() - 40 * documents;
    // Two bytes a token, and a bit in the mask.
    let tokens = if is_masked { 8 * rest / 17 } else { rest / 2 };
    let mask = if is_masked { tokens.div_ceil(8) } else { 0 };
    let body = &body[..2 * tokens + 40 * documents + mask];
    let mut shard = STORE.1[2].1[..96].to_vec();
    shard[8] = 1 + u8::from(is_masked);
    shard[16..24].copy_from_slice(&(tokens as u64).to_le_bytes());
    shard[24..32].copy_from_slice(&(documents as u64).to_le_bytes());
    let checksum = Sha256::digest(&shard[..88]);
    shard[88..].copy_from_slice(&checksum[..8]);
    shard.extend(body);
    let ones: u64 = body[body.len() - mask..].iter().map(|byte| u64::from(byte.count_ones())).sum();
    let whole = &STORE.1[0].1;
    let mut manifest: StoreManifest = serde_json::from_slice(whole).expect("the manifest");
    let (before, tokens, documents) = (manifest.shards[0].clone(), tokens as u64, documents as u64);
    manifest.documents = before.documents + documents;
    manifest.tokens = before.tokens + tokens;
    manifest.counted = is_masked.then_some(before.tokens + ones);
    let entry = &mut manifest.shards[1];
    (entry.documents, entry.tokens) = (documents, tokens);
    entry.counted = is_masked.then_some(ones);
    entry.sha256 = format!("{:x}", Sha256::digest(&shard));
    (serde_json::to_vec(&manifest).expect("a manifest"), shard)
}

fn is_one_line(error: &Error) {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

fuzz_target!(|data: &[u8]| {
    let (folder, files) = &*STORE;
    let Some((&which, bytes)) = data.split_first() else { return };
    let which = usize::from(which) % 4;
    let mut contents = files.each_ref().map(|(_, whole)| whole.as_slice());
    let whole = (which == 3).then(|| sealed(bytes));
    let spliced = if which < 3 { spliced(contents[which], bytes) } else { Vec::new() };
    match &whole {
        Some((manifest, shard)) => (contents[0], contents[2]) = (manifest, shard),
        None => contents[which] = &spliced,
    }
    for ((path, _), bytes) in files.iter().zip(contents) {
        fs::write(path, bytes).expect("a written file");
    }
    let opened = Tokens::open(folder.path());
    let damages = Tokens::verify(folder.path());
    damages.iter().flatten().for_each(is_one_line);
    opened.as_ref().err().into_iter().chain(damages.as_ref().err()).for_each(is_one_line);
    if let Ok(tokens) = opened {
        let is_whole = damages.is_ok_and(|damages| damages.is_empty());
        for i in (0..tokens.documents().min(100)).chain([u64::MAX]) {
            let document = tokens.document(i);
            let counted = tokens.counted(i);
            assert!(!is_whole || document.is_ok() || i == u64::MAX);
            assert_eq!(document.map(|tokens| tokens.len()).ok(), counted.map(|c| c.len()).ok());
        }
        let tokens = Arc::new(tokens);
        let documents = (0..tokens.documents().min(100)).collect();
        if let Ok(chosen) = Chosen::new(tokens, documents) {
            let range = 0..chosen.len().min(1 << 16);
            let (mut tokens, mut counted) = (Vec::new(), Vec::new());
            chosen.read(range.clone(), &mut tokens);
            chosen.read_counted(range, &mut counted);
            assert_eq!(tokens.len(), counted.len());
        }
    }
});
