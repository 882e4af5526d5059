//! Gathers the documents of files while they are read.

use super::fields::{Fields, Found};
use super::notes::Notes;
use super::packing::{Packing, Unpacked};
use super::pieces::Pieces;
use super::{Counted, Document, Format, Kind, STDIN, parquet, shown, texts};
use crate::formats::json::{self, NonFinite, Refusal, Wanted};
use crate::formats::{HEAD, foreign, is_page, not_data};
use crate::{Error, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The approximate number of blocks into which all plain texts are cut if there are few groups.
const BLOCKS: usize = 32;
/// The line, or word, that separates documents in the plain text files of several corpora.
pub const SEPARATOR: &str = "<|endoftext|>";
/// Bytes of a line of a text file that are read at a time; a line may have any length.
pub const PART: usize = 1 << 20;

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
    /// The number of the line that was read last, from 1, and whether more of it follows.
    line: u64,
    within: bool,
    /// Decompressed bytes that were returned.
    offset: u64,
    /// Bytes that were read and not yet returned.
    held: Vec<u8>,
}

impl Lines<'_> {
    /// Appends the next line with its end, or a part of a long line, to `text`. A part does not end
    /// within a character or within [`SEPARATOR`]. Returns false at the end of the file.
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

    /// The first byte that is not white space, if it is among the bytes that were read first.
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
pub struct FileRead {
    pub format: Format,
    /// Hash of its content.
    pub hash: Vec<u8>,
    /// Whether it has no bytes.
    pub empty: bool,
}

/// The documents while the files are read.
pub struct Gathered<'a> {
    pub fields: &'a Fields,
    pub texts: texts::Writer,
    pub documents: Vec<Document>,
    pub counted: Counted,
    pub groups: u64,
    pub named: HashMap<String, u64>,
    /// Some of the values that the filter left out.
    pub left_out: BTreeSet<String>,
    /// Records without text in the file that is read.
    pub missing: u64,
    pub notes: Notes,
}

impl<'a> Gathered<'a> {
    pub fn new(fields: &'a Fields, texts: texts::Writer) -> Self {
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

    /// The error if no document was found; these files have no text.
    pub fn nothing(&self, without_text: &[(&PathBuf, bool)]) -> Error {
        if let Some(filter) = &self.fields.filter {
            let seen: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
            let requirement = match seen.as_slice() {
                [] => "no file has a record with text".to_string(),
                seen => format!("no record has it; the values found include {}", seen.join(", ")),
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
                0 => "contains no text".to_string(),
                count => format!("contains no text: {count} records have none"),
            }
        };
        Error::content(shown(first), None, format!("{files} {reason}"))
    }

    /// Reads a file.
    pub fn file(&mut self, path: &Path) -> Result<FileRead> {
        if path.as_os_str() == STDIN {
            static READ: AtomicBool = AtomicBool::new(false);
            if READ.swap(true, Ordering::Relaxed) {
                let requirement = "standard input can be read only once: name it in one place";
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

    /// Reads standard input, whose first bytes say what it is.
    pub fn stream(&mut self, path: &Path, stream: impl Read + 'static) -> Result<FileRead> {
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        let first = stream.fill_buf().map_err(Error::io(path))?;
        if first.starts_with(b"PAR1") {
            return Err(Error::content(
                path,
                None,
                "Parquet is read from its end and needs a file: give its name",
            ));
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
            return Err(Error::content(path, None, format!("decompressed, {what}")));
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
    fn record(&mut self, value: Value) -> Result<(), Refusal> {
        let found = self.fields.find(value)?;
        Ok(self.keep(found)?)
    }

    fn keep(&mut self, found: Found) -> Result<(), String> {
        /// The most values that a message names.
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

    /// Keeps a part of a work. The work becomes a group with its first part that is a document.
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
            let found = fields.find(value).map_err(|refusal| refusal.reason)?;
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

    /// Groups contiguous parts of text files into about [`BLOCKS`] blocks in all; no block has parts of
    /// two works. Returns false if there is nothing to cut.
    pub fn cut_into_blocks(&mut self) -> bool {
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
