//! Runs that were taken from a `results.json`, as they are stored.

use crate::inputs::pretrained::copy_files;
use forgetting_laws::checkpoint;
use forgetting_laws::run::Record;
use forgetting_laws::store::{to_json, verify_file};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file in the folder of such a run.
pub const KNOWN: &str = "known.json";

/// A run of a `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownRun {
    /// The file.
    pub file: PathBuf,
    /// Its hex SHA-256.
    pub sha256: String,
    /// The machines that made its runs, one line each.
    pub machines: Vec<String>,
    /// The core-seconds of the run, if the file has them.
    #[serde(default)]
    pub core_seconds: Option<f64>,
    /// The record of this run in the file.
    pub record: Record,
}

impl KnownRun {
    /// The origin of the run of a folder, if it was taken from a `results.json`.
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

    /// The folder of the run's model, if it is beside the `results.json`: `runs/ID`, as in the folder where
    /// the run was made.
    fn model_folder(&self) -> Option<PathBuf> {
        Some(self.file.parent()?.join("runs").join(self.record.id.as_str()))
    }

    /// Whether there is a file of the model beside the `results.json`; it is not read.
    pub fn has_model(&self) -> bool {
        self.model_folder().is_some_and(|folder| folder.join(checkpoint::WEIGHTS).exists())
    }

    /// Copies the model of a pretraining run to a folder, if it is beside the `results.json`. Says whether
    /// it is.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn take_model(&self, folder: &Path) -> Result<bool> {
        let (Some(hash), Some(source)) = (&self.record.model, self.model_folder()) else {
            return Ok(false);
        };
        if verify_file(&source.join(checkpoint::WEIGHTS), hash).is_err() {
            return Ok(false);
        }
        let files = [checkpoint::TOKENIZER, checkpoint::CONFIG, checkpoint::WEIGHTS];
        copy_files(&files, &source, folder)?;
        Ok(true)
    }

    /// Refuses a run that was trained again with another result: then the runs in the file did not
    /// start from this model.
    ///
    /// # Errors
    /// If the results differ.
    pub fn confirm(&self, label: &str, made: &Record) -> Result<()> {
        let of_file = &self.record;
        let same_model = of_file.model.is_none() || of_file.model == made.model;
        // As text, in which a NaN (no loss on a target) equals another NaN.
        if same_model && to_json(&of_file.evaluations) == to_json(&made.evaluations) {
            return Ok(());
        }
        let requirement = format!(
            "has another result for {label} than training it again gives here, so its runs and those \
             made here do not belong together; use another --out, without --known"
        );
        Err(Error::setting("--known", self.file.display(), requirement))
    }
}
