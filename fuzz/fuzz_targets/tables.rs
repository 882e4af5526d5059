//! The reader of tables of losses on any bytes: a table or an error in one line, never a panic or
//! memory without end. The first byte of the input chooses the kind of file, and how it is read.

#![no_main]

use forgetting_laws::Error;
use forgetting_laws::laws::LAWS;
use forgetting_laws::table::read::{Reading, read};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

const NAMES: [&str; 5] = ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"];

/// What a user may ask for: nothing, other numbers, other columns, a long form.
static READINGS: LazyLock<[Reading; 4]> = LazyLock::new(|| {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
    [
        Reading::default(),
        Reading { percent: true, decimal_comma: true, ..Reading::default() },
        Reading {
            map: owned(&["n_params=a", "loss=b.c"]),
            filters: owned(&["n_params>1", "d!=x,y"]),
            group_by: Some("d".into()),
            ..Reading::default()
        },
        Reading { wide: Some("d_ft_tokens:loss_ft".into()), ..Reading::default() },
    ]
});

fn is_one_line(error: &Error) {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let path = FOLDER.path().join(NAMES[choice as usize % NAMES.len()]);
    fs::write(&path, bytes).expect("the file is written");
    match read(&path, &READINGS[choice as usize / NAMES.len() % READINGS.len()]) {
        Ok(loaded) => {
            assert!(!loaded.table.runs.is_empty());
            let groups = loaded.table.groups();
            let rows: usize = groups.iter().map(|(_, group)| group.runs.len()).sum();
            assert_eq!(rows, loaded.table.runs.len());
            for law in LAWS {
                if let Err(error) = loaded.table.sample(*law) {
                    is_one_line(&error);
                }
            }
        }
        Err(error) => is_one_line(&error),
    }
});
