//! Files from the Hugging Face Hub and from other HTTPS servers. Each is fetched once, resumed after an
//! interruption, pinned to a version and verified.
//!
//! A [`Repository`] at a revision becomes a [`Snapshot`]: a commit and the names of its files. A
//! file of a snapshot is stored where the Hub's own clients put it and look for it:
//!
//! ```text
//! <cache>/datasets--OWNER--NAME/refs/REVISION            the commit
//!                              /snapshots/COMMIT/FILE    a link to
//!                              /blobs/HASH               the bytes, named by the hash that the Hub announced
//!                              /listing/COMMIT.json      the names of all files (only this crate writes it)
//! ```
//!
//! It is moved there only after its bytes have been checked against that hash. If a transfer breaks
//! off, the bytes received stay in `blobs/HASH.incomplete`, and the next attempt requests only the
//! rest. Requests are retried, within [`Patience`], if a server is busy (429, 5xx) or breaks off; the
//! pause is the one that the server asks for.
//!
//! The token is sent to the endpoint only. It is not sent to servers that the endpoint redirects to,
//! and never appears in messages or manifests.

mod error;
mod hash;
mod settings;
mod wire;

pub use error::HubError;
pub use hash::Hash;
pub use settings::{Patience, Settings, Token};

use crate::store::{sha256, write_atomic};
use crate::{Error, Result};
use hf_hub::{Cache, Repo, RepoType};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use wire::{Download, Wire};

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    Dataset,
    /// A model.
    Model,
}

/// A repository of the Hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    id: String,
    kind: Kind,
    revision: String,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The repository and the revision that was asked for.
    pub repository: Repository,
    /// The commit of that revision, 40 hex digits.
    pub commit: String,
    /// The names of the commit's files, with `/` between folders.
    pub files: Vec<String>,
}

/// A file that has been fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its name in the repository or listing.
    pub name: String,
    /// Where it is stored.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The hash that it was verified by. For a file from another server than the Hub: the hash of its
    /// bytes when they were received.
    pub hash: Hash,
}

/// Is told how transfers progress.
pub trait Progress {
    /// The transfer of a file starts at byte `here` of `size`, if the server says the size. Called
    /// again after each interruption.
    fn started(&self, what: &str, here: u64, size: Option<u64>);

    /// This many more bytes were received.
    fn advanced(&self, bytes: u64);

    /// A request failed with a transient error and will be repeated after a pause.
    fn waiting(&self, what: &str, why: &HubError, pause: Duration);

    /// A file is complete and verified.
    fn finished(&self);
}

/// Reports nothing.
impl Progress for () {
    fn started(&self, _what: &str, _here: u64, _size: Option<u64>) {}
    fn advanced(&self, _bytes: u64) {}
    fn waiting(&self, _what: &str, _why: &HubError, _pause: Duration) {}
    fn finished(&self) {}
}

impl Repository {
    /// The repository `id` (`OWNER/NAME`) at a branch, a tag or a commit.
    ///
    /// # Errors
    /// If the id or the revision is not a valid name.
    pub fn new(id: &str, kind: Kind, revision: &str) -> Result<Self> {
        let good = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.', '/'].contains(&c);
        let is_name = |name: &str| name.chars().all(good) && plain(name);
        if !is_name(id) || id.contains("--") || id.split('/').count() > 2 {
            return Err(Error::setting("repository", id, "must be a name such as OWNER/NAME"));
        }
        if !is_name(revision) {
            let requirement = "must be a branch, a tag or a commit, such as main";
            return Err(Error::setting("revision", revision, requirement));
        }
        Ok(Self { id: id.into(), kind, revision: revision.into() })
    }

    /// The name, `OWNER/NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn repo(&self, revision: &str) -> Repo {
        let kind = match self.kind {
            Kind::Dataset => RepoType::Dataset,
            Kind::Model => RepoType::Model,
        };
        Repo::with_revision(self.id.clone(), kind, revision.into())
    }

    /// Its path on the endpoint.
    fn address(&self) -> String {
        match self.kind {
            Kind::Dataset => format!("datasets/{}", self.id),
            Kind::Model => self.id.clone(),
        }
    }
}

/// The Hub's answer about a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The Hub and its cache.
#[derive(Debug)]
pub struct Hub {
    wire: Wire,
    cache: Cache,
}

impl Hub {
    /// A Hub with the settings of the environment variables.
    ///
    /// # Errors
    /// If a variable has an invalid value.
    pub fn from_env() -> Result<Self> {
        Ok(Self::new(Settings::from_env()?))
    }

    /// A Hub with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { cache: Cache::new(settings.cache.clone()), wire: Wire::new(settings) }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        self.wire.settings()
    }

    /// The commit of a repository's revision, and the names of its files. A commit whose names are
    /// known needs no network. Offline, a branch or tag means the commit that it had when it was last
    /// requested.
    ///
    /// # Errors
    /// If the Hub cannot be reached, refuses, or names a file that would be outside its folder.
    pub fn snapshot(&self, repository: &Repository, progress: &dyn Progress) -> Result<Snapshot> {
        let Repository { id, revision, .. } = repository;
        let what = format!("{} at {revision}", repository.address());
        let offline = self.settings().offline;
        let folder = self.folder(repository);
        let known = match is_commit(revision) {
            true => Some(revision.clone()),
            false if offline => fs::read_to_string(folder.join("refs").join(revision)).ok(),
            false => None,
        };
        if let Some(commit) = known.filter(|commit| is_commit(commit))
            && let Some(files) = read_listing(&folder, &commit)
        {
            return Ok(Snapshot { repository: repository.clone(), commit, files });
        }
        if offline {
            return Err(HubError::Offline { what }.into());
        }
        let kind = if repository.kind == Kind::Dataset { "datasets" } else { "models" };
        let endpoint = &self.settings().endpoint;
        let url = format!("{endpoint}/api/{kind}/{id}/revision/{}", revision.replace('/', "%2F"));
        let answer = self.wire.text(&what, &url, progress)?;
        let info: Info = serde_json::from_str(&answer).map_err(|error| HubError::Protocol {
            what: what.clone(),
            reason: format!("{error}"),
        })?;
        if !is_commit(&info.sha) {
            let reason = "it names no commit".into();
            return Err(HubError::Protocol { what, reason }.into());
        }
        let mut files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        files.sort();
        if let Some(name) = files.iter().find(|name| !plain(name)) {
            return Err(HubError::UnsafeName { what, name: name.clone() }.into());
        }
        if !is_commit(revision) {
            let reference = self.cache.repo(repository.repo(revision)).create_ref(&info.sha);
            reference.map_err(Error::io(folder.join("refs").join(revision)))?;
        }
        let listing = folder.join("listing");
        fs::create_dir_all(&listing).map_err(Error::io(&listing))?;
        let names = serde_json::to_vec(&files).expect("names are strings");
        write_atomic(&listing.join(format!("{}.json", info.sha)), &names)?;
        Ok(Snapshot { repository: repository.clone(), commit: info.sha, files })
    }

    /// A file of a snapshot, from the cache or the Hub.
    ///
    /// # Errors
    /// If the file is not in the cache and the Hub cannot be reached, refuses or breaks off; if the
    /// disk is full; or if the bytes do not have the hash that the Hub announced.
    pub fn fetch(&self, of: &Snapshot, name: &str, progress: &dyn Progress) -> Result<Fetched> {
        let repository = &of.repository;
        let what = format!("{}/{name}", repository.address());
        if !plain(name) || !is_commit(&of.commit) {
            return Err(HubError::UnsafeName { what, name: name.into() }.into());
        }
        let folder = self.folder(repository);
        let place =
            self.cache.repo(repository.repo(&of.commit)).pointer_path(&of.commit).join(name);
        if let Some(fetched) = in_place(&place, name)? {
            return Ok(fetched);
        }
        if self.settings().offline {
            return Err(HubError::Offline { what }.into());
        }
        let (endpoint, address) = (&self.settings().endpoint, repository.address());
        let url = format!("{endpoint}/{address}/resolve/{}/{}", of.commit, escape(name));
        let head = self.wire.head(&what, &url, progress)?;
        let Some(hash) = head.etag.as_deref().and_then(Hash::of_etag) else {
            let reason = "it announces no hash of the file".into();
            return Err(HubError::Protocol { what, reason }.into());
        };
        let blobs = folder.join("blobs");
        let blob = blobs.join(hash.hex());
        let locks =
            self.settings().cache.join(".locks").join(folder.file_name().unwrap_or_default());
        let _one_at_a_time = lock(&locks, &format!("{}.lock", hash.hex()))?;
        if !blob.exists() {
            fs::create_dir_all(&blobs).map_err(Error::io(&blobs))?;
            let partial = blobs.join(format!("{}.incomplete", hash.hex()));
            let (what, url, partial, size) = (&what, &url, &partial, head.size);
            self.wire.download(&Download { what, url, partial, size, progress })?;
            verify(what, partial, &hash)?;
            fs::rename(partial, &blob).map_err(Error::io(&blob))?;
        }
        link(&blob, &place, name)?;
        progress.finished();
        let size = fs::metadata(&blob).map_err(Error::io(&blob))?.len();
        Ok(Fetched { name: name.into(), path: place, size, hash })
    }

    /// The lines of a listing, which name files below some URL.
    ///
    /// # Errors
    /// If the listing cannot be fetched, or names a file that would be outside its folder.
    pub fn listing(&self, url: &str, progress: &dyn Progress) -> Result<Vec<String>> {
        let fetched = self.fetch_url(url, url, progress)?;
        let text = fs::read_to_string(&fetched.path).map_err(Error::io(&fetched.path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut names: Vec<String> = lines.map(String::from).collect();
        names.sort();
        names.dedup();
        match names.iter().find(|name| !plain(name)) {
            Some(name) => Err(HubError::UnsafeName { what: url.into(), name: name.clone() }.into()),
            None => Ok(names),
        }
    }

    /// A file at a URL of another server than the Hub. It is fetched once, and an interrupted transfer
    /// is resumed if the server states the file's version. The server announces no hash, so the hash of
    /// the received bytes is stored next to the file.
    ///
    /// # Errors
    /// If the file has not been fetched before and cannot be fetched now.
    pub fn fetch_url(&self, url: &str, name: &str, progress: &dyn Progress) -> Result<Fetched> {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let rest = rest.unwrap_or_default().replace(':', "_");
        if !plain(&rest) || rest.contains(['?', '#', '@']) {
            return Err(HubError::UnsafeName { what: "an address".into(), name: url.into() }.into());
        }
        let place = self.settings().own_folder().join("https").join(&rest);
        let (folder, file) = match (place.parent(), place.file_name()) {
            (Some(folder), Some(file)) => (folder, file.to_string_lossy().into_owned()),
            _ => return Err(Error::setting("address", url, "must name a file")),
        };
        let stated = folder.join(format!(".{file}.sha256"));
        let here = |progress: Option<&dyn Progress>| -> Result<Option<Fetched>> {
            let (Ok(metadata), Ok(hex)) = (fs::metadata(&place), fs::read_to_string(&stated))
            else {
                return Ok(None);
            };
            let Some(hash) = Hash::of_etag(&hex) else { return Ok(None) };
            if let Some(progress) = progress {
                progress.finished();
            }
            Ok(Some(Fetched { name: name.into(), path: place.clone(), size: metadata.len(), hash }))
        };
        if let Some(fetched) = here(None)? {
            return Ok(fetched);
        }
        if self.settings().offline {
            return Err(HubError::Offline { what: url.into() }.into());
        }
        let _one_at_a_time = lock(folder, &format!(".{file}.lock"))?;
        if let Some(fetched) = here(None)? {
            return Ok(fetched);
        }
        let head = self.wire.head(url, url, progress)?;
        // Without a version, what is here cannot be known to be a part of what is there.
        let version = head.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        let version = sha256(version.unwrap_or_default().as_bytes());
        let partial = folder.join(format!(".{file}.{}.incomplete", &version[..16]));
        if head.etag.is_none() && partial.exists() {
            fs::remove_file(&partial).map_err(Error::io(&partial))?;
        }
        let (partial, size) = (&partial, head.size);
        self.wire.download(&Download { what: url, url, partial, size, progress })?;
        write_atomic(&stated, Hash::sha256_of(partial)?.hex().as_bytes())?;
        fs::rename(partial, &place).map_err(Error::io(&place))?;
        here(Some(progress))?.ok_or_else(|| HubError::Offline { what: url.into() }.into())
    }

    /// The folder of a repository in the cache.
    fn folder(&self, repository: &Repository) -> PathBuf {
        self.settings().cache.join(repository.repo(&repository.revision).folder_name())
    }
}

impl Fetched {
    /// Checks that the bytes still have the hash of [`Fetched::hash`].
    ///
    /// # Errors
    /// If they do not, or the file cannot be read.
    pub fn verify(&self) -> Result<()> {
        let found = self.hash.same_of(&self.path)?;
        if found == self.hash {
            return Ok(());
        }
        let reason = format!(
            "its hash is {found} and should be {}; remove it (and what it links to) and fetch it again",
            self.hash
        );
        Err(Error::Damaged { path: self.path.clone(), reason })
    }
}

/// Whether a name is a relative path that stays inside its folder on every system.
fn plain(name: &str) -> bool {
    let parts = Path::new(name).components();
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part != "~";
    let strange = |c: char| c.is_control() || c == '\\' || c == ':';
    name.split('/').all(is_plain)
        && !name.contains(strange)
        && parts.into_iter().all(|part| matches!(part, Component::Normal(_)))
}

fn is_commit(text: &str) -> bool {
    matches!(Hash::of_etag(text), Some(Hash::Git(hex)) if hex == text)
}

/// A file's name, escaped for use in a URL.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn read_listing(folder: &Path, commit: &str) -> Option<Vec<String>> {
    let bytes = fs::read(folder.join("listing").join(format!("{commit}.json"))).ok()?;
    let files: Vec<String> = serde_json::from_slice(&bytes).ok()?;
    files.iter().all(|name| plain(name)).then_some(files)
}

/// The file that a snapshot's link leads to, whose name is its hash. If there is no link, the bytes are
/// hashed.
fn in_place(place: &Path, name: &str) -> Result<Option<Fetched>> {
    let Ok(metadata) = fs::metadata(place) else { return Ok(None) };
    let target = fs::read_link(place).ok();
    let named = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let hash = match named.and_then(Hash::of_etag) {
        Some(hash) => hash,
        None => Hash::sha256_of(place)?,
    };
    let (name, path) = (name.to_string(), place.to_path_buf());
    Ok(Some(Fetched { name, path, size: metadata.len(), hash }))
}

/// Removes a file if it does not have the hash.
fn verify(what: &str, path: &Path, expected: &Hash) -> Result<()> {
    let found = expected.same_of(path)?;
    if found == *expected {
        return Ok(());
    }
    fs::remove_file(path).map_err(Error::io(path))?;
    Err(HubError::WrongHash { what: what.into(), expected: expected.clone(), found }.into())
}

/// Waits for other processes that fetch the same file.
fn lock(folder: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::io(&path))?;
    file.lock().map_err(Error::io(&path))?;
    Ok(file)
}

/// Links a blob into a snapshot.
fn link(blob: &Path, place: &Path, name: &str) -> Result<()> {
    let folder = place.parent().unwrap_or(place);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // A link to what is no longer there, or that another process has just made.
    let _ = fs::remove_file(place);
    #[cfg(unix)]
    {
        let up = "../".repeat(1 + name.split('/').count());
        let target = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(target, place).map_err(Error::io(place))
    }
    #[cfg(not(unix))]
    {
        let _ = name;
        fs::hard_link(blob, place).map_err(Error::io(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_folder() {
        for good in ["a", "a/b.txt", "en 1/ü.json", "...", "a..b", ".hidden"] {
            assert!(plain(good), "{good}");
        }
        for bad in [
            "", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", "a\\b", "C:a", "a\nb", "~/a",
            "a/./b",
        ] {
            assert!(!plain(bad), "{bad:?}");
        }
        for bad in ["", "../a", "a/b/c", "a b/c", "/a", "a/..", "a--b/c"] {
            assert!(Repository::new(bad, Kind::Dataset, "main").is_err(), "{bad:?}");
        }
        assert!(Repository::new("a/b", Kind::Model, "../main").is_err());
        assert!(Repository::new("a/b", Kind::Model, "refs/convert/parquet").is_ok());
        assert_eq!(escape("a/b c+ü.txt"), "a/b%20c%2B%C3%BC.txt");
    }
}
