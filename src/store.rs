//! The runs on disk: one folder per run, named by the run's identity.
//!
//! ```text
//! runs/<id>/spec.json           what determines the result; its hash is the id
//!          /record.json         the result, written last: a run that has one is finished
//!          /manifest.json       how it came about: machine, versions, times
//!          /metrics.jsonl       every evaluation so far
//!          /checkpoint-*.safetensors    to go on from, named by their own hash
//!          /config.json, model.safetensors, tokenizer.json    the model ([`crate::checkpoint`])
//!          /lock                held by the process that works on the run
//! ```
//!
//! Files appear whole or not at all: they are written beside their place and renamed. A claim is a
//! lock of the operating system, so it ends with its process, however that ends.

mod lines;

pub use lines::to_json_lines;

use crate::run::RunId;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Hex SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all: beside its place, flushed to the disk, then renamed.
///
/// # Errors
/// If the system refuses; nothing is left behind then, and an older file stays as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial_beside(path);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        let _ = fs::remove_file(&partial);
        Error::Io { path: path.to_path_buf(), source }
    })
}

/// How a file ends while it is being written.
const PARTIAL: &str = ".partial";

/// Where a file is written before it is renamed: a name that no other writer uses.
fn partial_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!(".{name}.{unique}{PARTIAL}"))
}

/// Hex digits of the hash in a file's name.
const HASH_DIGITS: usize = 16;

/// Writes `<stem>.<hash>.<extension>` into `folder`, where the hash is that of the bytes, and
/// returns its path.
///
/// # Errors
/// If the system refuses.
pub fn write_hashed(folder: &Path, stem: &str, extension: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(format!("{stem}.{}.{extension}", &sha256(bytes)[..HASH_DIGITS]));
    write_atomic(&path, bytes)?;
    Ok(path)
}

/// Hex SHA-256 of a file's content.
///
/// # Errors
/// If it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let copied = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    copied.map_err(Error::io(path))?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Refuses a file whose content does not have a hash, in hex.
///
/// # Errors
/// If it cannot be read, or has another hash.
pub fn verify_file(path: &Path, hash: &str) -> Result<()> {
    let found = hash_file(path)?;
    if found == hash {
        return Ok(());
    }
    Err(Error::altered(path, &found, hash))
}

/// As [`write_hashed`], for a file that need not fit into memory: `write` writes it piece by piece.
/// Returns its path and the whole hash.
///
/// # Errors
/// If `write` or the system refuses; nothing is left behind then.
pub fn write_hashed_stream(
    folder: &Path,
    stem: &str,
    extension: &str,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<(PathBuf, String)> {
    let partial = partial_beside(&folder.join(stem));
    let written = || {
        let file = File::create(&partial).map_err(Error::io(&partial))?;
        let mut writer = BufWriter::with_capacity(1 << 16, &file);
        write(&mut writer)?;
        writer.flush().and_then(|()| file.sync_all()).map_err(Error::io(&partial))?;
        drop(writer);
        let hash = hash_file(&partial)?;
        let path = folder.join(format!("{stem}.{}.{extension}", &hash[..HASH_DIGITS]));
        fs::rename(&partial, &path).map_err(Error::io(&path))?;
        Ok((path, hash))
    };
    written().inspect_err(|_| drop(fs::remove_file(&partial)))
}

/// Whether a file's name, as [`write_hashed`] makes it, states this hash.
pub fn states_hash(path: &Path, hash: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('.').nth(1) == hash.get(..HASH_DIGITS)
}

/// Reads a file that [`write_hashed`] wrote.
///
/// # Errors
/// If it cannot be read, or its bytes no longer have the hash that its name states.
pub fn read_hashed(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stated = name.rsplit('.').nth(1).unwrap_or_default();
    let found = &sha256(&bytes)[..HASH_DIGITS];
    if stated == found {
        return Ok(bytes);
    }
    let reason = format!("its content has the hash {found}, not the one in its name");
    Err(Error::Damaged { path: path.to_path_buf(), reason })
}

/// The hashed files of a folder whose name starts with `stem`, newest step last. The stem is
/// followed by a number of fixed width or by nothing, so that the order of names is that of steps.
///
/// # Errors
/// If the folder cannot be read.
pub fn hashed_files(folder: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(stem) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A folder of runs. Cloning it is cheap, and clones refer to the same folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`, made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(Error::io(&root))?;
        Ok(Self { root })
    }

    /// The folder of a run.
    pub fn folder(&self, id: &RunId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// A finished run's record, or None where the run is not finished.
    ///
    /// # Errors
    /// If there is a record and it cannot be read.
    pub fn record<R: DeserializeOwned>(&self, id: &RunId) -> Result<Option<R>> {
        let path = self.folder(id).join("record.json");
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let reason = format!("{error}; remove the file and run again to redo the run");
                Error::Content { path, line: None, reason }
            }),
        }
    }

    /// Claims a run for this process, or returns None where another one works on it.
    ///
    /// # Errors
    /// If the folder or the lock cannot be made.
    pub fn claim(&self, id: &RunId) -> Result<Option<Claim>> {
        let folder = self.folder(id);
        let (path, lock) = lock_file(&folder, "lock")?;
        match lock.try_lock() {
            Ok(()) => Claim::of(folder, lock).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }

    /// Whether a process works on a run now.
    ///
    /// # Errors
    /// If the lock cannot be tested.
    pub fn is_claimed(&self, id: &RunId) -> Result<bool> {
        let path = self.folder(id).join("lock");
        let Ok(file) = File::open(&path) else { return Ok(false) };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }
}

/// The folder's lock, made if it is missing, and not yet taken.
fn lock_file(folder: &Path, name: &str) -> Result<(PathBuf, File)> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join(name);
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    file.map_err(Error::io(&path)).map(|file| (path, file))
}

/// The right to change a file, until what is returned is dropped or its process ends. Where another
/// process has it, this one waits. The lock is the file `.NAME.lock` beside it.
///
/// # Errors
/// If the lock cannot be made.
pub fn lock_beside(path: &Path) -> Result<File> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    let (path, lock) = lock_file(folder, &format!(".{name}.lock"))?;
    lock.lock().map_err(Error::io(&path))?;
    Ok(lock)
}

/// The right to work on a run, or to write into a folder, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    _lock: File,
}

impl Claim {
    /// The right to write into any folder, which is made if it is missing. Where another process
    /// has it, this one waits.
    ///
    /// # Errors
    /// If the folder or the lock cannot be made.
    pub fn wait_for(folder: &Path) -> Result<Self> {
        let (path, lock) = lock_file(folder, ".lock")?;
        lock.lock().map_err(Error::io(&path))?;
        Self::of(folder.to_path_buf(), lock)
    }

    fn of(folder: PathBuf, lock: File) -> Result<Self> {
        let claim = Self { folder, _lock: lock };
        claim.remove_partial_files()?;
        Ok(claim)
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one of the run's JSON files.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_atomic(&self.folder.join(name), &to_json(value))
    }

    /// Removes one of the run's files.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::remove_file(&path).map_err(Error::io(&path))
    }

    /// Removes one of the run's files, if it is there.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove_if_there(&self, name: &str) -> Result<()> {
        match self.remove(name) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(())
            }
            removed => removed,
        }
    }

    /// What a process that died while writing left behind.
    fn remove_partial_files(&self) -> Result<()> {
        for path in hashed_files(&self.folder, ".")? {
            if path.to_string_lossy().ends_with(PARTIAL) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

/// A value as indented JSON with a newline at the end.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("our types have string keys");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RunId {
        RunId::of(&text)
    }

    #[test]
    fn sha256_is_the_standard_one() {
        // FIPS 180-4's example "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
    }

    #[test]
    fn one_claim_at_a_time_and_records_only_when_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let claim = store.claim(&id("a")).unwrap().unwrap();
        assert!(store.claim(&id("a")).unwrap().is_none());
        assert!(store.claim(&id("b")).unwrap().is_some());
        assert_eq!(store.record::<u32>(&id("a")).unwrap(), None);
        claim.write_json("record.json", &7u32).unwrap();
        assert_eq!(store.record::<u32>(&id("a")).unwrap(), Some(7));
        drop(claim);
        assert!(store.claim(&id("a")).unwrap().is_some());
    }

    #[test]
    fn leftovers_of_a_dead_writer_go_with_the_next_claim() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let claim = store.claim(&id("a")).unwrap().unwrap();
        let leftover = claim.folder().join(".record.json.1-1.partial");
        fs::write(&leftover, "half").unwrap();
        drop(claim);
        let claim = store.claim(&id("a")).unwrap().unwrap();
        assert!(!leftover.exists());
        assert!(claim.folder().join("lock").exists());
    }

    #[test]
    fn a_folder_has_one_writer_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("new");
        let first = Claim::wait_for(&folder).unwrap();
        let leftover = folder.join(".figure.svg.1-1.partial");
        fs::write(&leftover, "half").unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Claim::wait_for(&folder).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!second.is_finished() && leftover.exists());
            drop(first);
            second.join().unwrap();
        });
        assert!(!leftover.exists());
    }

    #[test]
    fn damage_is_noticed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_hashed(folder.path(), "checkpoint-7", "safetensors", b"state").unwrap();
        assert_eq!(read_hashed(&path).unwrap(), b"state");
        fs::write(&path, b"stale").unwrap();
        let message = read_hashed(&path).unwrap_err().to_string();
        assert!(message.contains("checkpoint-7") && message.contains("damaged"), "{message}");
    }

    #[test]
    fn a_refused_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/file");
        assert!(write_atomic(&path, b"x").is_err());
        let path = folder.path().join("file");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_record_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let claim = store.claim(&id("a")).unwrap().unwrap();
        fs::write(claim.folder().join("record.json"), "{").unwrap();
        let message = store.record::<u32>(&id("a")).unwrap_err().to_string();
        assert!(message.contains("record.json") && message.contains("remove"), "{message}");
    }
}
