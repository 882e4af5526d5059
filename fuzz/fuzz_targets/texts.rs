//! The reader of text files on any bytes: documents or an error in one line, never a panic or memory
//! without end. The first byte of the input chooses the kind of file, and how records are read.

#![no_main]

use forgetting_laws::data::Source;
use forgetting_laws::data::files::{Fields, Files, Instructions};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

const NAMES: [&str; 8] = [
    "a.txt",
    "a.jsonl",
    "a.json",
    "a.parquet",
    "a.txt.gz",
    "a.jsonl.gz",
    "a.jsonl.zst",
    "a.txt.zst",
];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let path = FOLDER.path().join(NAMES[choice as usize % NAMES.len()]);
    fs::write(&path, bytes).expect("the file is written");
    let form = Instructions::FORMS.get(choice as usize / NAMES.len() % 4);
    let instructions = form.and_then(|name| Instructions::form(name));
    let skip_missing = choice >= 128;
    let fields = Fields { instructions, skip_missing, ..Fields::plain("text", None) };
    match Files::read(&[path], &fields) {
        Ok(files) => {
            let count = files.len().expect("files are finite");
            assert!(count > 0);
            for i in 0..count {
                let passage = files.passage(i).expect("it was read");
                assert!(!passage.text.trim().is_empty());
                for range in passage.counted.iter().flat_map(|counted| counted.iter()) {
                    assert!(passage.text.get(range.clone()).is_some());
                }
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
});
