//! What a file is known by, so that it need not be read again to know that it is the same, and what is
//! kept of such files.

use forgetting_laws::store::{Claim, to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its whole path, without links.
    pub file: PathBuf,
    bytes: u64,
    /// When its content was changed, in seconds and nanoseconds since 1970, as far as whoever wrote
    /// it says.
    changed: (u64, u32),
    /// Its inode, and when that was changed, which nobody can set: an edit in place changes it even
    /// where the time of the content is set back.
    inode: Option<(u64, i64, i64)>,
}

impl Fingerprint {
    /// What files are known by now; None where one is no file but a pipe, or the system keeps no
    /// times.
    ///
    /// # Errors
    /// If one is not there.
    pub fn of_all(files: &[PathBuf]) -> Result<Option<Vec<Self>>> {
        files.iter().map(|file| Self::of(file)).collect()
    }

    fn of(file: &Path) -> Result<Option<Self>> {
        let metadata = fs::metadata(file).map_err(Error::io(file))?;
        let file = fs::canonicalize(file).map_err(Error::io(file))?;
        let changed = metadata.modified().ok().filter(|_| metadata.is_file());
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(changed.map(|changed| Self {
            file,
            bytes: metadata.len(),
            changed: (changed.as_secs(), changed.subsec_nanos()),
            inode: inode(&metadata),
        }))
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> Option<(u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> Option<(u64, i64, i64)> {
    None
}

/// What was kept; None where nothing is, or it is damaged.
pub fn recall<T: DeserializeOwned>(path: &Path) -> Option<T> {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Keeps it in a file of the folder `cache`, which is made if it is missing. Where that fails the files
/// are read again the next time: no reason to end here.
pub fn keep(cache: &Path, path: &Path, known: &impl Serialize) {
    let _ = Claim::wait_for(cache).and_then(|_one_at_a_time| write_atomic(path, &to_json(known)));
}

/// Gives a file the time of a change.
#[cfg(test)]
pub fn set_time(path: &Path, time: std::time::SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
