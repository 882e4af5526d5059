//! A run that was taken from a table of results, as it is kept in the store.

use forgetting_laws::run::Record;
use forgetting_laws::store::to_json;
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file in the folder of a run that was taken from a table of results.
pub const KNOWN: &str = "known.json";

/// A run of a table of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownRun {
    /// The file.
    pub file: PathBuf,
    /// Its hex SHA-256.
    pub sha256: String,
    /// The machines that made its runs, in a line each.
    pub machines: Vec<String>,
    /// Seconds of a core that the run took, where the file says.
    #[serde(default)]
    pub core_seconds: Option<f64>,
    /// What it says of this run.
    pub record: Record,
}

impl KnownRun {
    /// What is known of the run of a folder, if it was taken from a table.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(KNOWN);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::content(&path, error.line() as u64, error.to_string())),
        }
    }

    /// Refuses a run that was made again and came out otherwise: the runs of the file that started from
    /// its model started from another one.
    ///
    /// # Errors
    /// If it did.
    pub fn confirm(&self, label: &str, made: &Record) -> Result<()> {
        let of_file = &self.record;
        let same_model = of_file.model.is_none() || of_file.model == made.model;
        // As text, in which no loss on a target is like any other such.
        if same_model && to_json(&of_file.evaluations) == to_json(&made.evaluations) {
            return Ok(());
        }
        let requirement = format!(
            "says of {label} what it does not come to here, so that its runs and those made here do not \
             belong together; use another --out, without --known"
        );
        Err(Error::setting("--known", self.file.display(), requirement))
    }
}
