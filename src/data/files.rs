//! Text files as a source of documents: `.txt`, `.jsonl` and `.json`, plain or packed as `.gz` or
//! `.zst`, `.parquet`, and standard input.

mod fields;
mod json;
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
use fields::Found;
use packing::Packing;
use pieces::Pieces;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use texts::Texts;

/// A line of a text file or a record of a JSON file that is longer, in bytes, is refused: what is no
/// text would else fill the memory before anybody notices.
pub const MAX_LINE: usize = 64 << 20;
/// The name of standard input among files.
pub const STDIN: &str = "-";

/// Below this many groups, plain texts are cut into blocks that are groups of their own.
const FEW_GROUPS: u64 = 16;
/// The number of such blocks that all plain texts make together, about.
const BLOCKS: usize = 32;
/// The line, or word, that separates documents in the plain text files of several corpora.
const SEPARATOR: &str = "<|endoftext|>";

/// Text files, read once.
///
/// # Memory
/// The documents' text is held in memory while it is short. Beyond 4 MiB it lies unpacked in a
/// file without a name in the system's folder for such files (the variable TMPDIR names another),
/// which goes with the last use of it. So documents can be read in any order, from packed files and
/// standard input too, and memory holds 24 bytes of each, whatever its length.
///
/// # Documents and groups
/// - A line of a `.jsonl` file, an element of the array in a `.json` file (whose first character is
///   then `[`; otherwise it is read as `.jsonl`), a row of a `.parquet` file is a record, and
///   [`Fields`] say what of it is a document. With a group field, documents with the same value
///   (in any file; a number and the string of its digits are the same) are one group, else every
///   document is its own.
/// - A `.txt` file is one work, or several where `<|endoftext|>` separates them, and a work is a
///   group. A long work is cut into documents of about 12,000 characters: at the first blank line
///   after that many, failing that at the first line end after twice as many, failing that after
///   three times as many characters.
/// - If this makes fewer than 16 groups in all, nothing could be held out without losing much of
///   the text or holding out one work only. Then the works in `.txt` files are cut further, into
///   about 32 contiguous blocks together, and the blocks are the groups. Neighbouring blocks of
///   one work may then lie on both sides of a split; [`Files::blocks`] says so.
///
/// The text stays as it is: no character is normalised, line ends are kept. A byte order mark at
/// the start of a file is no text and is dropped, and so are documents of white space only.
#[derive(Debug)]
pub struct Files {
    texts: Texts,
    documents: Vec<Document>,
    counted: Counted,
    /// The names of those groups that a field names.
    names: HashMap<u64, String>,
    files: Vec<OriginFile>,
    hash: String,
    blocks: bool,
}

/// The bytes that count in the loss, of the documents of which not all do.
type Counted = HashMap<u64, Box<[Range<usize>]>>;

#[derive(Debug)]
struct Document {
    /// Where its text ends and that of the next one begins.
    end: u64,
    group: u64,
    /// Whether this is a piece of a work in a text file, which blocks may cut.
    plain: bool,
}

impl Files {
    /// [`Files::read`] of records with the text in the field `text_field`, and where one is named,
    /// what tells works apart in `group_field`.
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

    /// Reads `paths`, each a file, a folder of files, a pattern of such names, as `texts/*.jsonl`, or
    /// [`STDIN`], once. A folder stands for the files in it that have a known extension, sorted by
    /// name, without hidden files and sub-folders; so do the names that a pattern fits. Standard
    /// input is taken for what its first bytes say, text or JSON, packed or not.
    ///
    /// Memory holds one line or record at a time, of [`MAX_LINE`] bytes at most, or a page of a
    /// Parquet file.
    ///
    /// # Errors
    /// The file, and where there is one the line or row, is named if a file is missing, empty,
    /// damaged, truncated, of an unknown kind, not UTF-8, or holds malformed JSON, a longer line or a
    /// record without the fields; if no record is let through by the filter; and if there is no room
    /// for the text.
    pub fn read(paths: &[PathBuf], fields: &Fields) -> Result<Self> {
        Self::keep(paths, fields, texts::Writer::new())
    }

    fn keep(paths: &[PathBuf], fields: &Fields, texts: texts::Writer) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::setting("text files", "none", "name one file or folder at least"));
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
        let paths = expand(paths)?;
        for path in &paths {
            let before = gathered.documents.len();
            let (format, hash, length) = gathered.file(path)?;
            if gathered.documents.len() == before && fields.filter.is_none() {
                let reason = match length {
                    0 => "the file is empty",
                    _ => "the file holds no text, only white space",
                };
                return Err(Error::content(shown(path), None, reason));
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(OriginFile { name, sha256: hex(&hash) });
            hasher.update([format as u8]);
            hasher.update(hash);
        }
        if let (Some(filter), true) = (&fields.filter, gathered.documents.is_empty()) {
            let seen: Vec<&str> = gathered.left_out.iter().map(String::as_str).collect();
            let requirement = match seen.as_slice() {
                [] => "no file has a record".to_string(),
                seen => format!("no record has it; found were {}", seen.join(", ")),
            };
            return Err(Error::setting(&filter.field, filter.values.join(", "), requirement));
        }
        let blocks = gathered.groups < FEW_GROUPS && gathered.cut_into_blocks();
        let hash = format!("{:x}", hasher.finalize());
        let names = gathered.named.into_iter().map(|(name, group)| (group, name)).collect();
        let last = shown(&paths[paths.len() - 1]);
        let texts = gathered.texts.finish().map_err(|why| Error::content(last, None, why))?;
        let Gathered { documents, counted, .. } = gathered;
        Ok(Self { texts, documents, counted, names, files, hash, blocks })
    }

    /// Whether works were cut into blocks because there are so few of them, so that a split by
    /// group no longer keeps whole works apart.
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    /// The files in order, with the hashes of what they hold unpacked.
    pub fn files(&self) -> &[OriginFile] {
        &self.files
    }
}

impl Source for Files {
    /// The SHA-256 of the names of the fields, of what counts in the loss where that is not all, and
    /// of the kind and the unpacked bytes of every file in order; of a Parquet file, the texts and
    /// groups. Neither names nor packing count: a file that is renamed or compressed stays the same
    /// source.
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

/// The files that the paths stand for, in order, as [`Files::read`] takes them.
///
/// # Errors
/// If there is no such file, or a folder or a pattern stands for none.
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
            return Err(Error::content(path, None, format!("the folder holds no {KNOWN} file")));
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

/// A path as messages name it.
fn shown(path: &Path) -> &Path {
    if path.as_os_str() == STDIN { Path::new("standard input") } else { path }
}

/// Whether a file that nobody named by itself is meant.
fn is_text(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| {
        // Files like ._a.txt, which some systems put beside a.txt, hold no text.
        name.as_encoded_bytes().starts_with(b".")
    });
    !hidden && path.is_file() && Kind::of(path).is_ok()
}

/// Whether a path that is not there may stand for others.
pub fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// The text files whose names fit a pattern, in order.
fn fitting(pattern: &Path) -> Result<Vec<PathBuf>> {
    let refuse = |reason: String| Error::content(pattern, None, reason);
    let text = pattern.to_str().ok_or_else(|| refuse("a pattern must be UTF-8".into()))?;
    let found = glob::glob(text).map_err(|error| refuse(format!("no pattern: {error}")))?;
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
    match files.is_empty() {
        true => Err(refuse(format!("no {KNOWN} file fits this pattern"))),
        false => Ok(files),
    }
}

const KNOWN: &str =
    ".txt or .jsonl, .txt.gz or .jsonl.gz, .txt.zst or .jsonl.zst (.json as .jsonl), or .parquet";

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
        } else if name.ends_with(".jsonl") || name.ends_with(".json") {
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

/// Hashes what is read.
struct Hashing {
    inner: Box<dyn Read>,
    hasher: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A file's lines, with what error messages need.
struct Lines<'a> {
    reader: BufReader<Hashing>,
    path: &'a Path,
    packing: Packing,
    /// The number of the line that was read last, from 1.
    line: u64,
    /// Unpacked bytes up to the end of that line.
    offset: u64,
}

impl Lines<'_> {
    /// Appends the next line, with its end, to `text`. False at the end of the file.
    fn append(&mut self, bytes: &mut Vec<u8>, text: &mut String) -> Result<bool> {
        bytes.clear();
        let read = self
            .reader
            .by_ref()
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', bytes)
            .map_err(|error| self.packing.error(self.path, error))?;
        self.line += 1;
        if read > MAX_LINE {
            return Err(
                self.error(format!("the line is longer than {MAX_LINE} bytes; is it text?"))
            );
        }
        let line = std::str::from_utf8(bytes).map_err(|error| {
            let offset = self.offset + error.valid_up_to() as u64;
            self.error(format!("byte {offset} is not UTF-8; save the file in that encoding"))
        })?;
        text.push_str(match self.offset {
            0 => line.strip_prefix('\u{feff}').unwrap_or(line),
            _ => line,
        });
        self.offset += read as u64;
        Ok(read > 0)
    }

    /// The first byte that is no white space, if it is among the first.
    fn first(&mut self) -> Result<Option<u8>> {
        let (path, packing) = (self.path, self.packing);
        let first = self.reader.fill_buf().map_err(|error| packing.error(path, error))?;
        let first = first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(first);
        Ok(first.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::content(self.path, self.line, reason)
    }
}

/// The documents while the files are read.
struct Gathered<'a> {
    fields: &'a Fields,
    texts: texts::Writer,
    documents: Vec<Document>,
    counted: Counted,
    groups: u64,
    named: HashMap<String, u64>,
    /// Some of the values that the filter left out.
    left_out: BTreeSet<String>,
}

impl<'a> Gathered<'a> {
    fn new(fields: &'a Fields, texts: texts::Writer) -> Self {
        let (documents, named, left_out) = (Vec::new(), HashMap::new(), BTreeSet::new());
        let counted = Counted::new();
        Self { fields, texts, documents, counted, groups: 0, named, left_out }
    }

    /// Reads a file. Returns its format, a hash of its content, and its length in bytes or rows.
    fn file(&mut self, path: &Path) -> Result<(Format, Vec<u8>, u64)> {
        if path.as_os_str() == STDIN {
            static READ: AtomicBool = AtomicBool::new(false);
            if READ.swap(true, Ordering::Relaxed) {
                let requirement = "standard input can be read once: name it in one place";
                return Err(Error::setting("text file", STDIN, requirement));
            }
            return self.stream(shown(path), io::stdin());
        }
        let kind = Kind::of(path)?;
        if matches!(kind.format, Format::Parquet) {
            let (hash, rows) = self.parquet(path)?;
            return Ok((kind.format, hash, rows));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let file = BufReader::with_capacity(1 << 16, file);
        self.lines(path, Some(kind.format), kind.packing, kind.packing.unpack(file))
    }

    /// Reads what says itself what it is.
    fn stream(
        &mut self,
        path: &Path,
        stream: impl Read + 'static,
    ) -> Result<(Format, Vec<u8>, u64)> {
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        let first = stream.fill_buf().map_err(Error::io(path))?;
        if first.starts_with(b"PAR1") {
            return Err(Error::content(path, None, "Parquet is read from its end: name a file"));
        }
        let packing = Packing::of(first);
        self.lines(path, None, packing, packing.unpack(stream))
    }

    fn lines(
        &mut self,
        path: &Path,
        format: Option<Format>,
        packing: Packing,
        inner: Box<dyn Read>,
    ) -> Result<(Format, Vec<u8>, u64)> {
        let reader = Hashing { inner, hasher: Sha256::new() };
        let reader = BufReader::with_capacity(1 << 16, reader);
        let mut lines = Lines { reader, path, packing, line: 0, offset: 0 };
        let format = match (format, lines.first()?) {
            (Some(Format::Text), _) => Format::Text,
            (_, Some(b'[')) => Format::JsonArray,
            (Some(_), _) | (_, Some(b'{')) => Format::JsonLines,
            _ => Format::Text,
        };
        match format {
            Format::Text => self.text(&mut lines)?,
            Format::JsonArray => self.json_array(&mut lines)?,
            _ => self.json_lines(&mut lines)?,
        }
        let Lines { reader, offset, .. } = lines;
        Ok((format, reader.into_inner().hasher.finalize().to_vec(), offset))
    }

    fn push(&mut self, text: &str, group: u64, plain: bool) -> Result<(), String> {
        if !text.trim().is_empty() {
            let end = self.texts.push(text)?;
            self.documents.push(Document { end, group, plain });
        }
        Ok(())
    }

    /// Keeps the document in a record.
    fn record(&mut self, value: Value) -> Result<(), String> {
        let found = self.fields.find(value)?;
        self.keep(found)
    }

    fn keep(&mut self, found: Found) -> Result<(), String> {
        /// More would not fit into a line.
        const SHOWN: usize = 24;
        let (passage, group) = match found {
            Found::Document(passage, group) => (passage, group),
            Found::Other(value) => {
                if self.left_out.len() < SHOWN {
                    self.left_out.insert(value);
                }
                return Ok(());
            }
        };
        let group = match group {
            Some(name) => match self.named.get(&name) {
                Some(&group) => group,
                None => {
                    let group = self.new_group();
                    self.named.insert(name, group);
                    group
                }
            },
            None => self.new_group(),
        };
        let document = self.documents.len();
        self.push(&passage.text, group, false)?;
        if let (Some(counted), true) = (passage.counted, self.documents.len() > document) {
            self.counted.insert(document as u64, counted.into());
        }
        Ok(())
    }

    fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups - 1
    }

    fn text(&mut self, lines: &mut Lines) -> Result<()> {
        let (mut bytes, mut line) = (Vec::new(), String::new());
        let (mut pieces, mut group) = (Pieces::new(), None);
        while lines.append(&mut bytes, &mut line)? {
            for (i, part) in line.split(SEPARATOR).enumerate() {
                let mut read = || -> Result<(), String> {
                    if i > 0 {
                        pieces.end(|piece| self.piece(piece, &mut group))?;
                        group = None;
                    }
                    pieces.push(part, |piece| self.piece(piece, &mut group))
                };
                read().map_err(|reason| lines.error(reason))?;
            }
            line.clear();
        }
        pieces.end(|piece| self.piece(piece, &mut group)).map_err(|reason| lines.error(reason))
    }

    /// Keeps a piece of a work, which is a group from its first piece on that is a document.
    fn piece(&mut self, piece: &str, group: &mut Option<u64>) -> Result<(), String> {
        if piece.trim().is_empty() {
            return Ok(());
        }
        let group = *group.get_or_insert_with(|| self.new_group());
        self.push(piece, group, true)
    }

    fn json_lines(&mut self, lines: &mut Lines) -> Result<()> {
        let (mut bytes, mut line) = (Vec::new(), String::new());
        while lines.append(&mut bytes, &mut line)? {
            if !line.trim().is_empty() {
                let value: Value = serde_json::from_str(line.trim_end()).map_err(|error| {
                    let (column, what) = (error.column(), json::message(&error));
                    lines.error(format!(
                        "malformed JSON at column {column} ({what}); a line is one JSON object"
                    ))
                })?;
                self.record(value).map_err(|reason| lines.error(reason))?;
            }
            line.clear();
        }
        Ok(())
    }

    fn json_array(&mut self, lines: &mut Lines) -> Result<()> {
        let (path, packing) = (lines.path, lines.packing);
        let each = |value| self.record(value);
        lines.offset = json::elements(&mut lines.reader, each).map_err(|stop| match stop {
            json::Stop::Read(error) => packing.error(path, error),
            json::Stop::At(line, reason) => Error::content(path, line, reason),
        })?;
        Ok(())
    }

    /// The hash of the texts and groups, and the number of rows.
    fn parquet(&mut self, path: &Path) -> Result<(Vec<u8>, u64)> {
        let (mut hasher, mut rows) = (Sha256::new(), 0u64);
        let fields = self.fields;
        parquet::rows(path, &fields.outermost(), |value| {
            rows += 1;
            let found = fields.find(value)?;
            if let Found::Document(passage, group) = &found {
                for part in [&passage.text, group.as_deref().unwrap_or_default()] {
                    hasher.update((part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                for range in passage.counted.iter().flat_map(|counted| counted.iter()) {
                    hasher.update((range.start as u64).to_le_bytes());
                    hasher.update((range.end as u64).to_le_bytes());
                }
            }
            self.keep(found)
        })?;
        Ok((hasher.finalize().to_vec(), rows))
    }

    /// Makes contiguous runs of the pieces of text files groups, about [`BLOCKS`] in all, none
    /// with pieces of two works. False if there is nothing to cut.
    fn cut_into_blocks(&mut self) -> bool {
        let pieces = self.documents.iter().filter(|document| document.plain).count();
        let size = pieces.div_ceil(BLOCKS).max(1);
        let before = self.groups;
        let (mut work, mut position) = (None, 0);
        for document in self.documents.iter_mut().filter(|document| document.plain) {
            if work.replace(document.group) != Some(document.group) {
                position = 0;
            }
            // The first block of a work keeps the work's group.
            if position >= size {
                self.groups += u64::from(position % size == 0);
                document.group = self.groups - 1;
            }
            position += 1;
        }
        self.groups > before
    }
}

#[cfg(test)]
mod tests;
