//! A study as a file.

use super::{FORMAT, Study};
use crate::formats::json;
use crate::store::{lock_beside, to_json_lines, write_atomic};
use crate::{Error, Result};
use std::fs;
use std::path::Path;

impl Study {
    /// Writes a new file.
    ///
    /// # Errors
    /// If there is such a file, or the system refuses.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let _lock = lock_beside(path)?;
        if path.exists() {
            let reason = "is there already; choose another name, or remove it to begin anew";
            return Err(Error::content(path, None, reason));
        }
        self.write(path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// In one line: if there is no such file, it is not a study (with the line), or its numbers do not
    /// fit together.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let study: Self = json::whole(path, &bytes, "a study")?;
        if study.format != FORMAT {
            let found = study.format;
            let reason = format!("has format {found}, and this program reads format {FORMAT}");
            return Err(Error::content(path, None, reason));
        }
        study.check().map_err(|error| Error::content(path, None, error.to_string()))?;
        Ok(study)
    }

    /// Reads a file, changes the study and writes the file again atomically. Another process that
    /// wants to change it waits meanwhile. If `change` fails, the file stays as it was.
    ///
    /// # Errors
    /// As [`Self::read`]; the error of `change`; or if the system refuses.
    ///
    /// # Examples
    /// ```no_run
    /// use forgetting_laws::study::{Losses, Study};
    /// let asked = Study::change("study.json", |study| study.ask(1))?;
    /// // … train …
    /// let losses = Losses { loss_pt0: Some(2.9), loss_pt: Some(3.1), loss_ft: Some(2.2) };
    /// Study::change("study.json", |study| study.tell(asked[0].run, losses))?;
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn change<T>(
        path: impl AsRef<Path>,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let path = path.as_ref();
        // A mistyped name must not create a lock file.
        fs::metadata(path).map_err(Error::io(path))?;
        let _lock = lock_beside(path)?;
        let mut study = Self::read(path)?;
        let before = study.clone();
        let result = change(&mut study)?;
        if study != before {
            study.write(path)?;
        }
        Ok(result)
    }

    fn write(&self, path: &Path) -> Result<()> {
        // A run in one line.
        write_atomic(path, &to_json_lines(self, 3))
    }
}
