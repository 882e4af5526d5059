//! Exports the results of a grid: tables of losses, the meaning of their columns, and how they were
//! made.
//!
//! ```text
//! losses.csv        one row per finetuning run, read by `replication fit`; also .parquet
//! pretrained.csv    one row per pretraining run; also .parquet
//! trajectories.csv  one row per evaluation of every run; also .parquet
//! dictionary.csv    one row per column of these tables: type, unit, meaning; also .md
//! results.json      everything, in this program's own format
//! DATASHEET.md      what, why, how made, what is left out, known limits, how to refit
//! ```
//!
//! One list of columns ([`columns`]) makes the CSV, the Parquet and the dictionary. Equal results
//! give equal bytes.

mod columns;
mod datasheet;
mod dictionary;
mod parquet;
mod sheet;

use crate::results::Results;
use forgetting_laws::store::{sha256, write_atomic};
use forgetting_laws::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the files into `folder`, which is created if it is missing, and returns their paths.
///
/// # Errors
/// If a file cannot be written, or a number is too large for a table (2⁶³ and more).
pub fn write(results: &Results, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut files = Vec::new();
    let sheets = columns::sheets(results)?;
    for sheet in &sheets {
        files.push((format!("{}.csv", sheet.name), sheet.csv().into_bytes()));
        files.push((format!("{}.parquet", sheet.name), parquet::bytes(sheet)?));
    }
    files.push(("dictionary.csv".into(), dictionary::csv(&sheets).into_bytes()));
    files.push(("dictionary.md".into(), dictionary::markdown(&sheets).into_bytes()));
    let mut json = serde_json::to_vec(results).expect("our types have string keys");
    json.push(b'\n');
    files.push(("results.json".into(), json));
    let hashes: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), sha256(bytes))).collect();
    // Last: whoever finds it finds what it speaks of.
    let datasheet = datasheet::markdown(results, &hashes).into_bytes();
    files.push(("DATASHEET.md".into(), datasheet));
    let mut paths = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        let path = folder.join(name);
        write_atomic(&path, &bytes)?;
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
