//! The two hashes by which the Hub identifies files.

use crate::store::hex;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The hash of a file, written as `sha256:…` or `git:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Hash {
    /// Hex SHA-256 of the bytes, for files in large file storage.
    Sha256(String),
    /// Hex SHA-1 of git's blob (a header with the length, then the bytes), for all other files.
    Git(String),
}

impl Hash {
    /// Parses an entity tag (ETag) of the Hub, with or without quotes; `None` if it is not a hash.
    pub fn of_etag(etag: &str) -> Option<Self> {
        let hex = etag.trim().trim_start_matches("W/").trim_matches('"');
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !hex.bytes().all(lower) {
            return None;
        }
        match hex.len() {
            64 => Some(Self::Sha256(hex.into())),
            40 => Some(Self::Git(hex.into())),
            _ => None,
        }
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }

    /// The SHA-256 of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn sha256_of(path: &Path) -> Result<Self> {
        Ok(Self::Sha256(digest::<Sha256>(path, b"")?))
    }

    /// The hash of a file, of the same kind as this one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn same_of(&self, path: &Path) -> Result<Self> {
        match self {
            Self::Sha256(_) => Self::sha256_of(path),
            Self::Git(_) => {
                let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
                Ok(Self::Git(digest::<Sha1>(path, format!("blob {size}\0").as_bytes())?))
            }
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256:{hex}"),
            Self::Git(hex) => write!(f, "git:{hex}"),
        }
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let (kind, hex) = text.split_once(':').unwrap_or_default();
        match (kind, Self::of_etag(hex)) {
            ("sha256", Some(hash @ Self::Sha256(_))) | ("git", Some(hash @ Self::Git(_))) => {
                Ok(hash)
            }
            _ => Err(format!("{text:?} is not a hash")),
        }
    }
}

fn digest<D: Digest>(path: &Path, before: &[u8]) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut digest = D::new();
    digest.update(before);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(hex(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_standard_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::sha256_of(&path).unwrap().hex(), sha256);
        // `printf abc | git hash-object --stdin`
        let git = Hash::of_etag("W/\"f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f\"").unwrap();
        assert_eq!(git.same_of(&path).unwrap(), git);
        assert_eq!(Hash::try_from(git.to_string()).unwrap(), git);
        for none in ["", "\"abc\"", "../../../../../../../../../../../../etc/pass", &"A".repeat(40)]
        {
            assert_eq!(Hash::of_etag(none), None);
        }
        assert!(Hash::try_from(format!("git:{sha256}")).is_err());
    }
}
