//! What a model's folder says in JSON, on any bytes: `config.json`, the index of its files and what
//! names the end of a text. A model, a tokenizer or an error, never a panic or memory without end.
//!
//! The input takes the place of one of these files by its first byte; the others, and the tensors, are
//! those of the golden models.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run config -- -rss_limit_mb=1024
//! ```

#![no_main]

use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// The files that the input takes the place of.
const FILES: [&str; 6] = [
    "config.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// A sharded model with a tokenizer in the older form, which every file says something about.
static MODEL: LazyLock<(TempDir, [Vec<u8>; FILES.len()])> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/sharded");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(&golden).expect("the golden model") {
        let path = entry.expect("a file").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let vocab = r#"{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}"#;
    fs::write(folder.path().join("vocab.json"), vocab).expect("a written file");
    fs::write(folder.path().join("merges.txt"), "#version: 0.2\na b\n").expect("a written file");
    let whole = FILES.map(|name| fs::read(folder.path().join(name)).unwrap_or(b"{}".to_vec()));
    (folder, whole)
});

fuzz_target!(|data: &[u8]| {
    let (folder, files) = &*MODEL;
    let Some((&which, bytes)) = data.split_first() else { return };
    for (i, (name, whole)) in FILES.iter().zip(files).enumerate() {
        let spoiled = usize::from(which) % FILES.len() == i;
        fs::write(folder.path().join(name), if spoiled { bytes } else { whole })
            .expect("a written file");
    }
    let folder = folder.path();
    if let Ok(model) = Checkpoint::read(folder) {
        assert_eq!(model.theta.len(), model.shape.layout().buffer_len());
        Checkpoint::remarks(folder).expect("the files of a model that was read");
    }
    if let Ok(tokenizer) = Tokenizer::open(folder, None) {
        let text = "ab<|endoftext|>ba é";
        if let Ok(tokens) = tokenizer.encode(text) {
            assert!(!tokens.contains(&tokenizer.end_of_text()));
            let bytes = tokenizer.token_bytes(text).expect("a text that was encoded");
            assert_eq!(bytes.len(), tokens.len());
        }
    }
});
