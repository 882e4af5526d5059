//! Text files as a source of documents: `.txt`, `.jsonl` and `.json`, plain or compressed (`.gz`,
//! `.zst`); `.parquet`; and standard input.

mod fields;
mod gather;
mod notes;
mod packing;
mod parquet;
mod pieces;
mod texts;

pub use fields::{Fields, Filter, Instructions};

use super::Source;
use super::mask::Passage;
use super::tokens::OriginFile;
use crate::store::hex;
use crate::{Error, Result};
use gather::Gathered;
use packing::Packing;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use texts::Texts;

/// The path that means standard input.
pub const STDIN: &str = "-";

/// With fewer groups than this, plain texts are cut into blocks, and each block is a group.
const FEW_GROUPS: u64 = 16;

/// Text files, read once.
///
/// # Memory
/// Up to 4 MiB of text is kept in memory. Longer text is written, decompressed, to an unnamed file in
/// the system's temporary folder (or the folder of the variable TMPDIR), which disappears after its
/// last use. So documents can be read in any order, even from compressed files and standard input, and
/// each takes 24 bytes of memory, whatever its length.
///
/// # Documents and groups
/// - A record is a line of a `.jsonl` file, an element of the array in a `.json` file, or a row of a
///   `.parquet` file. (A `.json` file that does not start with `[` is read as `.jsonl`.) [`Fields`] say
///   which part of a record is the document. With a group field, documents with the same value form a
///   group, across all files; a number and the string of its digits are the same value. Without a group
///   field every document is a group of its own.
/// - A `.txt` file is one work, or several works separated by `<|endoftext|>`, and each work is a
///   group. A long work is cut into documents: at the first blank line after 12,000 characters; if
///   there is none, at the first line end after 24,000; if there is none, after 36,000.
/// - With fewer than 16 groups in all, a held-out part would be one work only, or much of the text.
///   Then the works in `.txt` files are cut into about 32 contiguous blocks in all, and the blocks are
///   the groups. A split may then divide a work; [`Files::blocks`] says so.
///
/// The text is not changed: no character is normalised, and line ends are kept. A byte order mark at
/// the start of a file is dropped, and so are documents that contain only white space.
#[derive(Debug)]
pub struct Files {
    texts: Texts,
    documents: Vec<Document>,
    counted: Counted,
    /// The names of the groups, if a field names them.
    names: HashMap<u64, String>,
    files: Vec<OriginFile>,
    hash: String,
    blocks: bool,
    notes: Vec<String>,
}

/// The bytes that count in the loss, for documents of which only some do.
type Counted = HashMap<u64, Box<[Range<usize>]>>;

#[derive(Debug)]
struct Document {
    /// The end of its text, where the next text begins.
    end: u64,
    group: u64,
    /// Whether this is a part of a work in a text file, which blocks may divide.
    plain: bool,
}

impl Files {
    /// [`Files::read`] of records with the text in the field `text_field` and, if given, the name of
    /// the work in `group_field`.
    ///
    /// # Errors
    /// As [`Files::read`].
    ///
    /// # Examples
    /// ```no_run
    /// use forgetting_laws::data::{Source, files::Files};
    /// let files = Files::open(&["books.jsonl.zst".into()], "text", Some("source"))?;
    /// println!("{} documents", files.len().unwrap());
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn open(paths: &[PathBuf], text_field: &str, group_field: Option<&str>) -> Result<Self> {
        Self::read(paths, &Fields::plain(text_field, group_field))
    }

    /// Reads each of `paths` once: a file, a folder, a pattern such as `texts/*.jsonl`, or [`STDIN`]. A
    /// folder or a pattern means its files with a known extension, sorted by name, without hidden files
    /// and sub-folders. The first bytes of standard input decide whether it is text or JSON, and
    /// whether it is compressed.
    ///
    /// Memory holds a part of a text, one record of at most
    /// [`MAX_RECORD`](crate::formats::json::MAX_RECORD) bytes, or a page of a Parquet file at a time.
    ///
    /// A file without text is skipped if others have text; [`notes`](Self::notes) names it.
    ///
    /// # Errors
    /// If a file is missing, damaged, truncated, of an unknown kind, not text (a git-lfs pointer,
    /// UTF-16, NULs; see [`foreign`](crate::formats::foreign)) or not UTF-8; if it contains malformed
    /// JSON, a longer record or a record without the fields; if no file has text, or no record passes
    /// the filter; or if there is no space for the text. The error names the file and, if possible, the
    /// line or row.
    pub fn read(paths: &[PathBuf], fields: &Fields) -> Result<Self> {
        Self::keep(paths, fields, texts::Writer::new())
    }

    fn keep(paths: &[PathBuf], fields: &Fields, texts: texts::Writer) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::missing("a text file", "name at least one file or folder"));
        }
        let mut gathered = Gathered::new(fields, texts);
        let mut hasher = Sha256::new();
        for field in [&fields.text, fields.group.as_deref().unwrap_or_default()] {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        if let Some(rest) = fields.rest() {
            hasher.update(rest);
        }
        let mut files = Vec::new();
        let mut without_text = Vec::new();
        let paths = expand(paths)?;
        for path in &paths {
            let before = gathered.documents.len();
            let read = gathered.file(path)?;
            gathered.notes.missing.add(shown(path), std::mem::take(&mut gathered.missing));
            if gathered.documents.len() == before && fields.filter.is_none() {
                without_text.push((path, read.empty));
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(OriginFile { name, sha256: hex(&read.hash) });
            hasher.update([read.format as u8]);
            hasher.update(read.hash);
        }
        if gathered.documents.is_empty() {
            return Err(gathered.nothing(&without_text));
        }
        for (path, _) in without_text {
            gathered.notes.empty.add(shown(path), 1);
        }
        let blocks = gathered.groups < FEW_GROUPS && gathered.cut_into_blocks();
        let hash = format!("{:x}", hasher.finalize());
        let names = gathered.named.into_iter().map(|(name, group)| (group, name)).collect();
        let last = shown(&paths[paths.len() - 1]);
        let texts = gathered.texts.finish().map_err(|why| Error::content(last, None, why))?;
        let Gathered { documents, counted, notes, .. } = gathered;
        let notes = notes.lines();
        Ok(Self { texts, documents, counted, names, files, hash, blocks, notes })
    }

    /// What was skipped or replaced while the files were read, one line each: files without text,
    /// records without text that [`Fields::skip_missing`] leaves out, escapes that are not a character,
    /// bytes after the compressed data.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether works were cut into blocks because there are so few of them. A split may then divide a
    /// work.
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    /// The files in order, with the hashes of their decompressed content.
    pub fn files(&self) -> &[OriginFile] {
        &self.files
    }
}

impl Source for Files {
    /// The SHA-256 of the names of the fields, of what counts in the loss (unless that is all), and of
    /// the kind and the decompressed bytes of every file in order; for a Parquet file, of its texts and
    /// groups. A file that is renamed or compressed gives the same hash.
    fn content_hash(&self) -> String {
        self.hash.clone()
    }

    fn len(&self) -> Option<u64> {
        Some(self.documents.len() as u64)
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        let count = self.documents.len();
        if i >= count as u64 {
            return Err(Error::setting(
                "document",
                i,
                format!("must be below their number, {count}"),
            ));
        }
        let i = i as usize;
        let start = if i == 0 { 0 } else { self.documents[i - 1].end };
        let text = self.texts.read(start..self.documents[i].end);
        text.map(Cow::Owned).map_err(Error::io(self.texts.folder()))
    }

    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        let counted = self.counted.get(&i).map(|counted| Cow::Borrowed(&**counted));
        Ok(Passage { text: self.document(i)?, counted })
    }

    fn group(&self, i: u64) -> u64 {
        self.documents.get(i as usize).map_or(i, |document| document.group)
    }

    fn work(&self, i: u64) -> Option<&str> {
        self.names.get(&self.group(i)).map(String::as_str)
    }
}

/// The files that the paths mean, in order, as in [`Files::read`].
///
/// # Errors
/// If a file does not exist, or a folder or a pattern has no file.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            files.push(path.clone());
            continue;
        }
        let metadata = match fs::metadata(path) {
            Err(_) if is_pattern(path) => {
                files.append(&mut fitting(path)?);
                continue;
            }
            metadata => metadata.map_err(Error::io(path))?,
        };
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(Error::io(path))? {
            let entry = entry.map_err(Error::io(path))?.path();
            if is_text(&entry) {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            return Err(Error::content(path, None, format!("the folder contains no {KNOWN} file")));
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

/// The name of a path in messages.
fn shown(path: &Path) -> &Path {
    if path.as_os_str() == STDIN { Path::new("standard input") } else { path }
}

/// Whether a folder or a pattern includes a file.
fn is_text(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| {
        // Files like ._a.txt, which some systems put beside a.txt, hold no text.
        name.as_encoded_bytes().starts_with(b".")
    });
    !hidden && path.is_file() && Kind::of(path).is_ok()
}

/// Whether a path that does not exist may be a pattern.
pub fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// The text files whose names match a pattern, in order.
fn fitting(pattern: &Path) -> Result<Vec<PathBuf>> {
    let refuse = |reason: String| Error::content(pattern, None, reason);
    let text = pattern.to_str().ok_or_else(|| refuse("a pattern must be UTF-8".into()))?;
    let found = glob::glob(text).map_err(|error| refuse(format!("not a pattern: {error}")))?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            let at = error.path().to_path_buf();
            Error::io(at)(error.into())
        })?;
        if is_text(&path) {
            files.push(path);
        }
    }
    if files.is_empty() {
        Err(refuse(format!("no {KNOWN} file matches this pattern")))
    } else {
        Ok(files)
    }
}

const KNOWN: &str = ".txt or .jsonl, .txt.gz or .jsonl.gz, .txt.zst or .jsonl.zst (.json and .ndjson as .jsonl), or \
     .parquet";

#[derive(Clone, Copy)]
enum Format {
    Text = 0,
    JsonLines = 1,
    JsonArray = 2,
    Parquet = 3,
}

#[derive(Clone, Copy)]
struct Kind {
    format: Format,
    packing: Packing,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let (name, packing) = if let Some(name) = name.strip_suffix(".gz") {
            (name, Packing::Gzip)
        } else if let Some(name) = name.strip_suffix(".zst") {
            (name, Packing::Zstd)
        } else {
            (&*name, Packing::Plain)
        };
        let format = if name.ends_with(".txt") {
            Format::Text
        } else if [".jsonl", ".ndjson", ".json"].iter().any(|end| name.ends_with(end)) {
            // An array, if it is one, says so itself.
            Format::JsonLines
        } else if name.ends_with(".parquet") && matches!(packing, Packing::Plain) {
            Format::Parquet
        } else {
            let reason = format!("unknown kind of file; the known ones end in {KNOWN}");
            return Err(Error::content(path, None, reason));
        };
        Ok(Self { format, packing })
    }
}

#[cfg(test)]
mod tests;
