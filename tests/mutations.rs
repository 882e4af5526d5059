//! Damaged files of models: whatever the bytes of `config.json`, of the index, of the tensors' header or of
//! the tokenizer's files are, there is a model or an error in one line, never a panic or memory without end.
//!
//! Each file of the golden models is changed at random places, always the same ones: a number seeds each
//! change. `FORGETTING_LAWS_MUTATIONS=1000000` makes so many changes; `fuzz/` looks for inputs by what they
//! reach.
#![cfg(all(feature = "checkpoint", feature = "text"))]

use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::rng::Key;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tempfile::TempDir;

/// Changes of a usual test.
const USUAL: u64 = 3_000;

/// Files of a model that are changed, if it has them; else what stands in their place.
const FILES: [(&str, &str); 8] = [
    ("config.json", "{}"),
    ("model.safetensors.index.json", r#"{"weight_map": {"a": "model.safetensors"}}"#),
    ("model.safetensors", ""),
    ("generation_config.json", r#"{"eos_token_id": [3, 0]}"#),
    ("tokenizer_config.json", r#"{"eos_token": {"content": "<|endoftext|>"}}"#),
    ("special_tokens_map.json", r#"{"eos_token": "<|endoftext|>"}"#),
    ("added_tokens.json", r#"{"<|endoftext|>": 3}"#),
    ("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}"#),
];

/// What is put into a file: JSON of other types, numbers beyond what is stored, text that is not UTF-8.
const PIECES: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1",
    b"3",
    b"1e99",
    b"1e999",
    b"1e-320",
    b"0.5",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"16777216",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"{\"a\":",
    b"\"",
    b"\"gelu\"",
    b"\"../config.json\"",
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
];

/// A model in a folder of its own, and the bytes of its files.
struct Model {
    name: String,
    folder: TempDir,
    files: Vec<Option<Vec<u8>>>,
}

fn models() -> Vec<Model> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/checkpoint");
    let families =
        fs::read_dir(golden.join("families")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = families.filter(|path| path.is_dir()).collect();
    folders.extend(["sharded", "f16", "bf16"].map(|name| golden.join(name)));
    folders.sort();
    let model = |from: &std::path::PathBuf| {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let merges = folder.path().join("merges.txt");
        fs::write(merges, "#version: 0.2\na b\n").unwrap();
        fs::write(folder.path().join("vocab.json"), FILES[7].1).unwrap();
        let files = FILES.map(|(file, _)| fs::read(folder.path().join(file)).ok()).to_vec();
        Model { name: from.file_name().unwrap().to_string_lossy().into(), folder, files }
    };
    folders.iter().map(model).collect()
}

/// Some changes of some bytes, which the key chooses.
fn changed(mut bytes: Vec<u8>, other: &[u8], key: Key) -> Vec<u8> {
    let below = |i: u64, n: usize| key.below(i, n.max(1) as u64) as usize;
    for change in 0..1 + below(0, 4) as u64 {
        let at = |i: u64, n: usize| below(16 * (change + 1) + i, n);
        // A file of tensors begins with the length of its header, and most of it are numbers.
        let length = if at(0, 4) > 0 { bytes.len().min(1_000) } else { bytes.len() };
        let (place, many) = (at(1, length + 1), 1 + at(2, 24));
        let end = (place + many).min(bytes.len());
        let piece = PIECES[at(3, PIECES.len())];
        match at(4, 8) {
            0 if place < bytes.len() => bytes[place] ^= 1 << at(5, 8),
            1 => drop(bytes.splice(place..place, piece.iter().copied())),
            2 => drop(bytes.drain(place..end)),
            3 => {
                let again = bytes[place..end].to_vec();
                drop(bytes.splice(place..place, again));
            }
            4 => bytes.truncate(place),
            5 => {
                let from = at(5, other.len() + 1);
                let part = other[from..(from + 4 * many).min(other.len())].to_vec();
                drop(bytes.splice(place..end, part));
            }
            // The value of a field, or a part of one.
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'\n');
                let begin = bytes[place..].iter().position(|&byte| byte == b':');
                let begin = begin.map_or(place, |colon| place + colon + 1);
                let end = bytes[begin..].iter().position(is_end).map_or(bytes.len(), |n| begin + n);
                drop(bytes.splice(begin..end, piece.iter().copied()));
            }
        }
    }
    bytes
}

/// Reads what there is of a model, and whether there was one.
fn read(folder: &Path) -> bool {
    let one_line = |error: forgetting_laws::Error| {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    };
    let model = Checkpoint::read(folder);
    let is_model = model.is_ok();
    match model {
        Ok(model) => {
            assert_eq!(model.theta.len(), model.shape.layout().buffer_len());
            Checkpoint::remarks(folder).unwrap();
            let again = tempfile::tempdir().unwrap();
            model.write(again.path(), None).unwrap();
            assert_eq!(Checkpoint::read(again.path()).unwrap().shape, model.shape);
        }
        Err(error) => one_line(error),
    }
    match Tokenizer::open(&folder.join("tokenizer.json"), None) {
        Ok(tokenizer) => {
            let text = "ab<|endoftext|>ba é";
            match tokenizer.encode(text) {
                Ok(tokens) => {
                    assert!(!tokens.contains(&tokenizer.end_of_text()));
                    assert_eq!(tokenizer.token_bytes(text).unwrap().len(), tokens.len());
                }
                Err(error) => one_line(error),
            }
        }
        Err(error) => one_line(error),
    }
    is_model
}

#[test]
fn damaged_files_end_in_an_error_or_a_model() {
    let asked = std::env::var("FORGETTING_LAWS_MUTATIONS").ok();
    let count = asked.map_or(USUAL, |count| count.parse().expect("a number of changes"));
    let models = models();
    let sharded = models.iter().find(|model| model.name == "sharded").expect("a golden model");
    let mut read_models = 0;
    for i in 0..count {
        let key = Key::new(i);
        let which = key.below(1, FILES.len() as u64) as usize;
        let model = match FILES[which].0 {
            // Of this one alone it is read.
            "model.safetensors.index.json" => sharded,
            _ => &models[key.below(0, models.len() as u64) as usize],
        };
        let other = &models[key.below(2, models.len() as u64) as usize].files[which];
        let (file, usual) = FILES[which];
        let path = model.folder.path().join(file);
        let whole = &model.files[which];
        let bytes = whole.clone().unwrap_or_else(|| usual.into());
        let bytes = changed(bytes, other.as_deref().unwrap_or(usual.as_bytes()), key.child(3));
        fs::write(&path, &bytes).unwrap();
        match catch_unwind(AssertUnwindSafe(|| read(model.folder.path()))) {
            Ok(is_model) => read_models += u64::from(is_model),
            Err(_) => panic!("change {i}: {file} of {} is {}", model.name, bytes.escape_ascii()),
        }
        match whole {
            Some(whole) => fs::write(&path, whole).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    println!("{count} changes, {read_models} of which left a model");
    // Neither all is refused, nor nothing.
    assert!(read_models > count / 10 && read_models < count - count / 10);
    // Linux tells the most memory that there was.
    if let Ok(status) = fs::read_to_string("/proc/self/status")
        && let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))
    {
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 1 << 20, "{kib} KiB");
    }
}

/// Found by the changes above: the first is 2³² − 1 in 32 bits.
#[test]
fn numbers_of_tokens_that_no_embedding_has_are_refused() {
    for number in ["18446744073709551615", "4294967295", "16777216"] {
        let folder = tempfile::tempdir().unwrap();
        let vocab = FILES[7].1.replace("\"ab\": 2", &format!("\"ab\": {number}"));
        fs::write(folder.path().join("vocab.json"), vocab).unwrap();
        fs::write(folder.path().join("merges.txt"), "#version: 0.2\na b\n").unwrap();
        let Err(error) = Tokenizer::open(folder.path(), None) else { panic!("was not refused") };
        let error = error.to_string();
        assert!(
            error.contains("vocab.json") && error.contains("must be below 16777216"),
            "{error}"
        );
    }
}
