//! The reader of token stores on any bytes: a store or an error, never a panic or memory without end.
//!
//! A store of two shards is made once, the first without a mask and the second with one; the input
//! takes the place of its manifest or of a shard, by its first byte.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run tokens -- -rss_limit_mb=1024
//! ```

#![no_main]

use forgetting_laws::Result;
use forgetting_laws::data::mask::Passage;
use forgetting_laws::data::tokens::{Chosen, Manifest, Origin, Recipe, Tokens};
use forgetting_laws::data::{Encode, Source};
use libfuzzer_sys::fuzz_target;
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
    let manifest = Manifest::read(folder.path()).expect("it is whole").expect("it is there");
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

fuzz_target!(|data: &[u8]| {
    let (folder, files) = &*STORE;
    let Some((&which, bytes)) = data.split_first() else { return };
    for (i, (path, whole)) in files.iter().enumerate() {
        let spoiled = usize::from(which) % 3 == i;
        fs::write(path, if spoiled { bytes } else { whole }).expect("a written file");
    }
    if let Ok(tokens) = Tokens::open(folder.path()) {
        for i in (0..tokens.documents().min(100)).chain([u64::MAX]) {
            let _ = tokens.document(i);
            let _ = tokens.counted(i);
        }
        let tokens = Arc::new(tokens);
        let documents = (0..tokens.documents().min(100)).collect();
        if let Ok(chosen) = Chosen::new(tokens, documents) {
            chosen.read_counted(0..chosen.len().min(1 << 16), &mut Vec::new());
        }
    }
    let _ = Tokens::verify(folder.path());
});
