//! What a model's folder says in JSON, on any bytes: `config.json`, the index of its files, the tokenizer
//! in its newer and its older form, and what names the end of a text. A model, a tokenizer or an error in
//! one line, never a panic or memory without end.
//!
//! The input takes the place of one of these files by its first byte, in one of the golden models by its
//! second; the other files, and the tensors, are those of that model. `fuzz/seeds.py` writes first inputs.

#![no_main]

use forgetting_laws::Error;
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// The files that the input takes the place of.
const FILES: [&str; 9] = [
    "config.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
];

/// The models: one in several files, which has an index, and one or more of each family.
const MODELS: [&str; 14] = [
    "sharded",
    "families/cerebras-gpt",
    "families/datadecide",
    "families/llama",
    "families/llama-3",
    "families/mistral",
    "families/neox-sequential",
    "families/olmo",
    "families/olmo-0724",
    "families/olmo2",
    "families/pythia",
    "families/qwen2",
    "families/qwen3",
    "families/smollm2",
];

/// A model's folder, and those of the files that it has.
type Model = (TempDir, [Option<Vec<u8>>; FILES.len()]);

/// The models, with a tokenizer in the older form, which every file says something about.
static FOLDERS: LazyLock<[Model; MODELS.len()]> = LazyLock::new(|| MODELS.map(copied));

fn copied(name: &str) -> Model {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint").join(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(&golden).expect("the golden model") {
        let path = entry.expect("a file").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let vocab = r#"{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}"#;
    fs::write(folder.path().join("vocab.json"), vocab).expect("a written file");
    fs::write(folder.path().join("merges.txt"), "#version: 0.2\na b\n").expect("a written file");
    let files = FILES.map(|name| fs::read(folder.path().join(name)).ok());
    (folder, files)
}

fn is_one_line(error: &Error) {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

fuzz_target!(|data: &[u8]| {
    let Some((&[which, model], bytes)) = data.split_first_chunk() else { return };
    let (folder, files) = &FOLDERS[usize::from(model) % MODELS.len()];
    for (i, (name, whole)) in FILES.iter().zip(files).enumerate() {
        let spoiled = usize::from(which) % FILES.len() == i;
        let path = folder.path().join(name);
        match whole.as_deref().filter(|_| !spoiled).or(spoiled.then_some(bytes)) {
            Some(bytes) => fs::write(path, bytes).expect("a written file"),
            None => drop(fs::remove_file(path)),
        }
    }
    let folder = folder.path();
    match Checkpoint::read(folder) {
        Ok(model) => {
            assert_eq!(model.theta.len(), model.shape.layout().buffer_len());
            Checkpoint::remarks(folder).expect("the files of a model that was read");
        }
        Err(error) => is_one_line(&error),
    }
    match Tokenizer::open(folder, None) {
        Ok(tokenizer) => {
            let text = "ab<|endoftext|>ba é";
            match tokenizer.encode(text) {
                Ok(tokens) => {
                    assert!(!tokens.contains(&tokenizer.end_of_text()));
                    let bytes = tokenizer.token_bytes(text).expect("a text that was encoded");
                    assert_eq!(bytes.len(), tokens.len());
                }
                Err(error) => is_one_line(&error),
            }
        }
        Err(error) => is_one_line(&error),
    }
});
