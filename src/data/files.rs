//! Text files as a source of documents: `.txt`, `.jsonl` and `.json`, plain or packed as `.gz` or
//! `.zst`, `.parquet`, and standard input.

mod fields;
mod notes;
mod packing;
mod parquet;
mod pieces;
mod texts;

pub use fields::{Fields, Filter, Instructions};

use super::Source;
use super::mask::Passage;
use super::tokens::OriginFile;
use crate::formats::json::{self, NonFinite, Wanted};
use crate::formats::{HEAD, foreign, is_page, not_data};
use crate::store::hex;
use crate::{Error, Result};
use fields::Found;
use notes::Notes;
use packing::{Packing, Unpacked};
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

/// The name of standard input among files.
pub const STDIN: &str = "-";

/// Below this many groups, plain texts are cut into blocks that are groups of their own.
const FEW_GROUPS: u64 = 16;
/// The number of such blocks that all plain texts make together, about.
const BLOCKS: usize = 32;
/// The line, or word, that separates documents in the plain text files of several corpora.
const SEPARATOR: &str = "<|endoftext|>";
/// Bytes of a line of a text file that are read at a time: lines have any length.
const PART: usize = 1 << 20;

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
    notes: Vec<String>,
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
    /// Memory holds a part of a text, or one record at a time, of
    /// [`MAX_RECORD`](crate::formats::json::MAX_RECORD) bytes at most, or a page of a Parquet file.
    ///
    /// Files without any text among others are skipped; [`notes`](Self::notes) names them.
    ///
    /// # Errors
    /// The file, and where there is one the line or row, is named if a file is missing, damaged,
    /// truncated, of an unknown kind, something else than text (a git-lfs pointer, UTF-16, NULs; see
    /// [`foreign`]), not UTF-8, or holds malformed JSON, a longer record or
    /// one without the fields; if no file has any text, or no record is let through by the filter;
    /// and if there is no room for the text.
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

    /// What was left out or replaced while the files were read, each in a line for people: files
    /// without text, records without text that [`Fields::skip_missing`] leaves out, escapes that are
    /// no character, bytes after the packed data.
    pub fn notes(&self) -> &[String] {
        &self.notes
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
    if files.is_empty() {
        Err(refuse(format!("no {KNOWN} file fits this pattern")))
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

/// Hashes what is read.
struct Hashing {
    inner: Unpacked,
    hasher: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A text file, with what error messages need.
struct Lines<'a> {
    reader: BufReader<Hashing>,
    path: &'a Path,
    packing: Packing,
    /// The number of the line that was read last, from 1, and whether more of it is to come.
    line: u64,
    within: bool,
    /// Unpacked bytes that were handed out.
    offset: u64,
    /// Bytes that were read and not handed out.
    held: Vec<u8>,
}

impl Lines<'_> {
    /// Appends the next line with its end, or a part of a long one, to `text`. A part ends neither
    /// within a character nor within [`SEPARATOR`]. False at the end of the file.
    fn append(&mut self, text: &mut String) -> Result<bool> {
        let read = self.reader.by_ref().take(PART as u64).read_until(b'\n', &mut self.held);
        let read = read.map_err(|error| self.packing.error(self.path, error))?;
        if self.held.is_empty() {
            return Ok(false);
        }
        self.line += u64::from(!self.within);
        let line_end = self.held.ends_with(b"\n");
        self.within = !line_end;
        let length = if line_end || read == 0 {
            self.held.len()
        } else {
            self.held.len() - unfinished(&self.held)
        };
        let bytes = &self.held[..length];
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            let byte = self.offset + at as u64;
            return Err(self.error(format!(
                "byte {byte} is NUL, which no text holds; if the rest is text: \
                 tr -d '\\000' < OLD > NEW"
            )));
        }
        let part = std::str::from_utf8(bytes).map_err(|error| {
            let byte = self.offset + error.valid_up_to() as u64;
            self.error(format!("byte {byte} is not UTF-8; save the file in that encoding"))
        })?;
        text.push_str(match self.offset {
            0 => part.strip_prefix('\u{feff}').unwrap_or(part),
            _ => part,
        });
        self.offset += length as u64;
        self.held.drain(..length);
        Ok(true)
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

/// How many bytes at the end of a part may be the beginning of [`SEPARATOR`] or of a character.
fn unfinished(part: &[u8]) -> usize {
    let separator = SEPARATOR.as_bytes();
    let begun = (1..separator.len()).rev().find(|&length| part.ends_with(&separator[..length]));
    begun.unwrap_or_else(|| match std::str::from_utf8(part) {
        Err(error) if error.error_len().is_none() => part.len() - error.valid_up_to(),
        _ => 0,
    })
}

/// A file that was read.
struct FileRead {
    format: Format,
    /// Hash of its content.
    hash: Vec<u8>,
    /// Whether it has no bytes.
    empty: bool,
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
    /// Records without text in the file that is read.
    missing: u64,
    notes: Notes,
}

impl<'a> Gathered<'a> {
    fn new(fields: &'a Fields, texts: texts::Writer) -> Self {
        Self {
            fields,
            texts,
            documents: Vec::new(),
            counted: Counted::new(),
            groups: 0,
            named: HashMap::new(),
            left_out: BTreeSet::new(),
            missing: 0,
            notes: Notes::default(),
        }
    }

    /// Why there is no document, where these files have no text.
    fn nothing(&self, without_text: &[(&PathBuf, bool)]) -> Error {
        if let Some(filter) = &self.fields.filter {
            let seen: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
            let requirement = match seen.as_slice() {
                [] => "no file has a record with text".to_string(),
                seen => format!("no record has it; found were {}", seen.join(", ")),
            };
            return Error::setting(&filter.field, filter.values.join(", "), requirement);
        }
        let (first, _) = without_text.first().expect("a file was read");
        let files = match without_text.len() {
            1 => "the file".to_string(),
            files => format!("this file, as each of the {files},"),
        };
        let reason = if without_text.iter().all(|(_, empty)| *empty) {
            "is empty".to_string()
        } else {
            match self.notes.missing.count {
                0 => "holds no text".to_string(),
                count => format!("holds no text: {count} records lack it"),
            }
        };
        Error::content(shown(first), None, format!("{files} {reason}"))
    }

    /// Reads a file.
    fn file(&mut self, path: &Path) -> Result<FileRead> {
        if path.as_os_str() == STDIN {
            static READ: AtomicBool = AtomicBool::new(false);
            if READ.swap(true, Ordering::Relaxed) {
                let requirement = "standard input can be read once: name it in one place";
                return Err(Error::setting("text file", STDIN, requirement));
            }
            return self.stream(shown(path), io::stdin());
        }
        let kind = Kind::of(path)?;
        let file = File::open(path).map_err(Error::io(path))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let first = file.fill_buf().map_err(Error::io(path))?;
        let empty = first.is_empty();
        if matches!(kind.format, Format::Parquet) {
            let hash = if empty { Vec::new() } else { self.parquet(path)? };
            return Ok(FileRead { format: kind.format, hash, empty });
        }
        let packing = if empty { Packing::Plain } else { kind.packing };
        self.lines(path, Some(kind.format), packing, file)
    }

    /// Reads what says itself what it is.
    fn stream(&mut self, path: &Path, stream: impl Read + 'static) -> Result<FileRead> {
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        let first = stream.fill_buf().map_err(Error::io(path))?;
        if first.starts_with(b"PAR1") {
            return Err(Error::content(path, None, "Parquet is read from its end: name a file"));
        }
        let packing = Packing::of(first);
        self.lines(path, None, packing, stream)
    }

    fn lines(
        &mut self,
        path: &Path,
        format: Option<Format>,
        packing: Packing,
        mut file: impl BufRead + 'static,
    ) -> Result<FileRead> {
        let head = |first: &[u8]| first[..first.len().min(HEAD)].to_vec();
        let first = head(file.fill_buf().map_err(Error::io(path))?);
        if let Some(what) = packing.refuses(&first) {
            return Err(Error::content(path, None, what));
        }
        let inner = packing.unpack(file).map_err(Error::io(path))?;
        let reader = Hashing { inner, hasher: Sha256::new() };
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        let first = head(reader.fill_buf().map_err(|error| packing.error(path, error))?);
        if let (true, Some(what)) = (packing != Packing::Plain, foreign(&first)) {
            return Err(Error::content(path, None, format!("unpacked, {what}")));
        }
        let (line, offset, held) = (0, 0, Vec::new());
        let mut lines = Lines { reader, path, packing, line, within: false, offset, held };
        let text = match format {
            Some(format) => matches!(format, Format::Text),
            None => !matches!(lines.first()?, Some(b'[' | b'{' | b'\x1e')),
        };
        if !text && let Some(what) = not_data(&first) {
            return Err(Error::content(path, None, what));
        }
        self.notes.pages.add(path, u64::from(is_page(&first)));
        let format = if text {
            self.text(&mut lines)?;
            Format::Text
        } else if self.json(&mut lines)? {
            Format::JsonArray
        } else {
            Format::JsonLines
        };
        let Hashing { inner, hasher } = lines.reader.into_inner();
        self.notes.tails.add(path, u64::from(inner.ignored_a_tail()));
        Ok(FileRead { format, hash: hasher.finalize().to_vec(), empty: lines.offset == 0 })
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
            Found::Missing => {
                self.missing += 1;
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
        let mut line = String::new();
        let (mut pieces, mut group) = (Pieces::new(), None);
        while lines.append(&mut line)? {
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

    /// The records of a JSON file, and whether it is an array.
    fn json(&mut self, lines: &mut Lines) -> Result<bool> {
        let (path, packing, fields) = (lines.path, lines.packing, self.fields);
        let each = |_, value| self.record(value);
        let wanted = fields.outermost();
        let summary = json::records(&mut lines.reader, Wanted(&wanted), NonFinite::Null, each);
        let summary = summary.map_err(|stop| match stop {
            json::Stop::Read(error) => packing.error(path, error),
            json::Stop::At(line, reason) => Error::content(path, line, reason),
        })?;
        lines.offset = summary.bytes;
        self.notes.halves.add(path, summary.replaced);
        Ok(summary.array)
    }

    /// The hash of the texts and groups.
    fn parquet(&mut self, path: &Path) -> Result<Vec<u8>> {
        let mut hasher = Sha256::new();
        let fields = self.fields;
        parquet::rows(path, &fields.outermost(), |value| {
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
        Ok(hasher.finalize().to_vec())
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
