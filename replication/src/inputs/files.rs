//! Text files, with cached facts that save reading them again.

use crate::inputs::fingerprint::{self, Fingerprint};
use crate::terminal::log;
use forgetting_laws::data::Source;
use forgetting_laws::data::files::{Fields, Files, STDIN, expand};
use forgetting_laws::data::mask::Passage;
use forgetting_laws::data::tokens::OriginFile;
use forgetting_laws::store::{sha256, to_json};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Text files. They are read when they are opened, unless the cache describes them. Then they are read
/// when the first document is requested, which does not happen if the tokens are in a store.
pub struct Text {
    paths: Vec<PathBuf>,
    fields: Fields,
    identity: Identity,
    files: OnceLock<Files>,
    /// Held by the one that reads.
    reading: Mutex<()>,
    /// None where nothing tells that the files are the same another time.
    known: Option<CachedIdentity>,
}

/// Reads text files, and reports on standard error what was skipped or replaced.
///
/// # Errors
/// As [`Files::read`].
pub fn read(paths: &[PathBuf], fields: &Fields) -> Result<Files> {
    let files = Files::read(paths, fields)?;
    files.notes().iter().for_each(|note| log(&format!("warning: {note}")));
    Ok(files)
}

/// Facts about a text that are needed before its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Identity {
    /// [`Source::content_hash`] of its files.
    hash: String,
    documents: u64,
    files: Vec<OriginFile>,
}

/// Facts about a text, with the fingerprints of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedIdentity {
    /// Version of how files become documents.
    version: u32,
    /// Hash of what it is known by beside the fingerprints.
    key: String,
    #[serde(rename = "stamps")]
    fingerprints: Vec<Fingerprint>,
    identity: Identity,
}

impl Text {
    /// Opens files. Facts about them are read from the folder `cache`, and stored there if it exists (a
    /// plan does not create it). They are valid while every file has the same
    /// [fingerprint](Fingerprint), unless the files must be read again anyway.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn open(
        paths: &[PathBuf],
        fields: &Fields,
        cache: Option<&Path>,
        reread: bool,
    ) -> Result<Self> {
        // Before they are read: a file that changes meanwhile has another fingerprint the next time.
        let fingerprinted = if paths.iter().any(|path| path.as_os_str() == STDIN) {
            None
        } else {
            let files = expand(paths)?;
            Fingerprint::of_all(&files)?.map(|fingerprints| {
                (CachedIdentity::key(fields, &files, &fingerprints), fingerprints)
            })
        };
        let of = |identity, files, known| Self {
            paths: paths.to_vec(),
            fields: fields.clone(),
            identity,
            files,
            reading: Mutex::new(()),
            known,
        };
        if let (Some(cache), Some((key, fingerprints)), false) = (cache, &fingerprinted, reread)
            && let Some(known) = CachedIdentity::find(cache, key, fingerprints)
        {
            return Ok(of(known.identity.clone(), OnceLock::new(), Some(known)));
        }
        let files = read(paths, fields)?;
        let identity = Identity::of(&files);
        let known = fingerprinted.map(|(key, fingerprints)| {
            let identity = identity.clone();
            CachedIdentity { version: CachedIdentity::VERSION, key, fingerprints, identity }
        });
        if let (Some(cache), Some(known)) = (cache.filter(|cache| cache.is_dir()), &known) {
            known.keep(cache);
        }
        Ok(of(identity, OnceLock::from(files), known))
    }

    /// The files with the hashes of their decompressed content.
    pub fn files(&self) -> &[OriginFile] {
        &self.identity.files
    }

    /// The facts to store.
    pub fn known(&self) -> Option<&CachedIdentity> {
        self.known.as_ref()
    }

    /// The documents; they are read if they have not been.
    fn read(&self) -> Result<&Files> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = read(&self.paths, &self.fields)?;
        if Identity::of(&files) != self.identity {
            let names: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
            let requirement = "has changed, although the times and sizes of its files have not: read them \
                               again with --reread-texts";
            return Err(Error::setting("text", names.join(", "), requirement));
        }
        Ok(self.files.get_or_init(|| files))
    }
}

impl Source for Text {
    fn content_hash(&self) -> String {
        self.identity.hash.clone()
    }

    fn len(&self) -> Option<u64> {
        Some(self.identity.documents)
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        self.read()?.document(i)
    }

    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        self.read()?.passage(i)
    }

    fn group(&self, i: u64) -> u64 {
        // Whoever asks has the document, or the error.
        self.read().map_or(i, |files| files.group(i))
    }

    fn work(&self, i: u64) -> Option<&str> {
        self.read().ok()?.work(i)
    }
}

impl Identity {
    fn of(files: &Files) -> Self {
        let documents = files.len().unwrap_or_default();
        Self { hash: files.content_hash(), documents, files: files.files().to_vec() }
    }
}

impl CachedIdentity {
    const VERSION: u32 = 2;

    /// Of how files are read, and which. Their names say of what kind they are, and where a name is a
    /// link, the file that it leads to has another.
    fn key(fields: &Fields, files: &[PathBuf], fingerprints: &[Fingerprint]) -> String {
        let names: Vec<_> = files.iter().map(|file| file.file_name()).collect();
        let paths: Vec<_> =
            fingerprints.iter().map(|fingerprint| fingerprint.file.as_path()).collect();
        sha256(&to_json(&(fields, names, paths)))
    }

    fn path(cache: &Path, key: &str) -> PathBuf {
        cache.join(format!("text-{}.json", &key[..16]))
    }

    fn find(cache: &Path, key: &str, fingerprints: &[Fingerprint]) -> Option<Self> {
        let known: Self = fingerprint::recall(&Self::path(cache, key))?;
        let found = (known.version, &*known.key, &*known.fingerprints);
        (found == (Self::VERSION, key, fingerprints)).then_some(known)
    }

    /// Keeps it in a folder, which is made if it is missing.
    pub fn keep(&self, cache: &Path) {
        let path = Self::path(cache, &self.key);
        if fingerprint::recall::<Self>(&path).as_ref() != Some(self) {
            fingerprint::keep(cache, &path, self);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::fingerprint::set_time;
    use std::fs;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_text_is_read_again_when_it_changes_and_only_then() {
        let root = tempfile::tempdir().unwrap();
        let (folder, cache) = (root.path().join("texts"), root.path().join("out/data"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("a.jsonl");
        let write = |text: &str, time| {
            fs::write(&file, format!("{{\"text\": \"{text}\", \"work\": \"{text}\"}}\n")).unwrap();
            set_time(&file, time);
        };
        let then = SystemTime::now() - Duration::from_secs(1000);
        write("one", then);
        let fields = Fields::plain("text", None);
        let open = |cache| Text::open(std::slice::from_ref(&folder), &fields, cache, false);
        let first = open(Some(&cache)).unwrap();
        // A plan makes no folder, and a run does.
        assert!(!cache.exists() && first.files.get().is_some());
        first.known().unwrap().keep(&cache);
        let kept = open(Some(&cache)).unwrap();
        assert!(kept.files.get().is_none());
        assert_eq!((kept.content_hash(), kept.len()), (first.content_hash(), Some(1)));
        assert_eq!(kept.files(), first.files());
        assert_eq!((&*kept.document(0).unwrap(), kept.group(0)), ("one", 0));
        assert!(kept.files.get().is_some());

        // Another text of the same length and time, in the same file: its change time tells.
        #[cfg(unix)]
        {
            std::thread::sleep(Duration::from_millis(20));
            write("two", then);
            let same = open(Some(&cache)).unwrap();
            assert_ne!(same.content_hash(), first.content_hash());
            // Another file in its place: the inode tells.
            let other = root.path().join("other");
            fs::write(&other, "{\"text\": \"six\", \"work\": \"six\"}\n").unwrap();
            set_time(&other, then);
            fs::rename(&other, &file).unwrap();
            assert_eq!(open(Some(&cache)).unwrap().document(0).unwrap(), "six");
        }
        // The system says that nothing changed, and it did: what was kept is not taken for it, and it
        // can be read all the same.
        write("ten", then);
        let mut known = first.known().unwrap().clone();
        known.fingerprints = Fingerprint::of_all(std::slice::from_ref(&file)).unwrap().unwrap();
        known.keep(&cache);
        let stale = open(Some(&cache)).unwrap();
        let error = stale.document(0).unwrap_err().to_string();
        assert!(error.contains("texts: has changed, although"), "{error}");
        let again = Text::open(std::slice::from_ref(&folder), &fields, Some(&cache), true).unwrap();
        assert_eq!(again.document(0).unwrap(), "ten");
        assert_eq!(open(Some(&cache)).unwrap().content_hash(), again.content_hash());

        // Another time, another length, another file, other fields, another name: it is read.
        write("two", then + Duration::from_millis(1));
        let second = open(Some(&cache)).unwrap();
        assert_ne!(second.content_hash(), first.content_hash());
        assert!(open(Some(&cache)).unwrap().files.get().is_none());
        write("three", then + Duration::from_millis(1));
        assert!(open(Some(&cache)).unwrap().files.get().is_some());
        fs::write(folder.join("b.txt"), "more").unwrap();
        assert_eq!(open(Some(&cache)).unwrap().len(), Some(2));
        let grouped = Fields::plain("text", Some("work"));
        let grouped =
            Text::open(std::slice::from_ref(&file), &grouped, Some(&cache), false).unwrap();
        assert_eq!((grouped.work(0), grouped.files.get().is_some()), (Some("three"), true));
        fs::rename(&file, folder.join("c.jsonl")).unwrap();
        assert!(open(Some(&cache)).unwrap().files.get().is_some());
        // What is kept is damaged.
        for file in fs::read_dir(&cache).unwrap() {
            fs::write(file.unwrap().path(), "{").unwrap();
        }
        assert!(open(Some(&cache)).unwrap().files.get().is_some());
        assert!(open(Some(&cache)).unwrap().files.get().is_none());
    }
}
