//! Fingerprints of files, which show without reading a file that it has not changed, and a cache of
//! facts about such files.

use forgetting_laws::store::{Claim, to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The fingerprint of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its absolute path, with links resolved.
    pub file: PathBuf,
    bytes: u64,
    /// The modification time, in seconds and nanoseconds since 1970. Programs can set it.
    changed: (u64, u32),
    /// Its inode and the change time of the inode, which programs cannot set: an edit changes it even
    /// if the modification time is set back.
    inode: Option<(u64, i64, i64)>,
}

impl Fingerprint {
    /// The present fingerprints of files; `None` if one is a pipe, or the system has no times.
    ///
    /// # Errors
    /// If a file does not exist.
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

/// The stored facts; `None` if there are none, or they are damaged.
pub fn recall<T: DeserializeOwned>(path: &Path) -> Option<T> {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Stores facts in a file of the folder `cache`, which is created if it is missing. A failure is
/// ignored: the files are then read again the next time.
pub fn keep(cache: &Path, path: &Path, known: &impl Serialize) {
    let _ = Claim::wait_for(cache).and_then(|_one_at_a_time| write_atomic(path, &to_json(known)));
}

/// Gives a file the time of a change.
#[cfg(test)]
pub fn set_time(path: &Path, time: std::time::SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
