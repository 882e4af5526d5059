//! The reader of token stores on any bytes: a store or an error, never a panic or memory without end.
//!
//! A store of one shard is made once; the input takes the place of its manifest, where the first
//! byte is even, or of its shard.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run tokens -- -rss_limit_mb=1024
//! ```

#![no_main]

use forgetting_laws::Result;
use forgetting_laws::data::tokens::{Manifest, Origin, Recipe, Tokens};
use forgetting_laws::data::{Encode, Source};
use libfuzzer_sys::fuzz_target;
use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
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

/// A whole store: its folder, and its manifest and shard with their bytes.
static STORE: LazyLock<(TempDir, [(PathBuf, Vec<u8>); 2])> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = Recipe {
        source: &Numbers,
        encoder: &Bytes,
        tokenizer: "bytes",
        vocab: 257,
        shard_documents: 16,
    };
    Tokens::prepare(folder.path(), &recipe, &Origin::default(), &|_| ()).expect("a store");
    let manifest = Manifest::read(folder.path()).expect("it is whole").expect("it is there");
    let names = ["manifest.json", &manifest.shards[0].file];
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
        let spoiled = usize::from(which) % 2 == i;
        fs::write(path, if spoiled { bytes } else { whole }).expect("a written file");
    }
    if let Ok(tokens) = Tokens::open(folder.path()) {
        for i in (0..tokens.documents().min(100)).chain([u64::MAX]) {
            let _ = tokens.document(i);
        }
    }
    let _ = Tokens::verify(folder.path());
});
