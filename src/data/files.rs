//! Text files as a source of documents: `.txt` and `.jsonl`, plain or packed as `.gz` or `.zst`.

use super::Source;
use super::tokens::OriginFile;
use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A text longer than this many characters is cut at the first blank line after them.
const PIECE: usize = 12_000;
/// Below this many groups, plain texts are cut into blocks that are groups of their own.
const FEW_GROUPS: u64 = 16;
/// The number of such blocks that all plain texts make together, about.
const BLOCKS: usize = 32;
/// The line, or word, that separates documents in the plain text files of several corpora.
const SEPARATOR: &str = "<|endoftext|>";

/// Text files, held in memory.
///
/// # Documents and groups
/// - A line of a `.jsonl` file is a document. With a group field, documents with the same value
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
    documents: Vec<Document>,
    /// The names of those groups that a field names.
    names: HashMap<u64, String>,
    files: Vec<OriginFile>,
    hash: String,
    blocks: bool,
}

#[derive(Debug)]
struct Document {
    text: Box<str>,
    group: u64,
    /// Whether this is a piece of a work in a text file, which blocks may cut.
    plain: bool,
}

impl Files {
    /// Reads `paths`, each a file or a folder of files; a folder stands for the files in it that
    /// have a known extension, sorted by name, without hidden files and sub-folders.
    ///
    /// `text_field` names the field of a `.jsonl` line that holds the text, `group_field` the one
    /// that tells works apart.
    ///
    /// # Errors
    /// The file, and where there is one the line, is named if a file is missing, empty, damaged,
    /// truncated, of an unknown kind, not UTF-8, or holds malformed JSON or a line without the
    /// fields.
    ///
    /// # Examples
    /// ```no_run
    /// use forgetting_laws::data::{Source, files::Files};
    /// let files = Files::open(&["books.jsonl.zst".into()], "text", Some("source"))?;
    /// println!("{} documents", files.len().unwrap());
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn open(paths: &[PathBuf], text_field: &str, group_field: Option<&str>) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::setting("text files", "none", "name one file or folder at least"));
        }
        let mut gathered = Gathered::default();
        let mut hasher = Sha256::new();
        for field in [text_field, group_field.unwrap_or_default()] {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        let mut files = Vec::new();
        for path in expand(paths)? {
            let kind = Kind::of(&path)?;
            let file = File::open(&path).map_err(Error::io(&path))?;
            let reader = Hashing { inner: kind.packing.unpack(file), hasher: Sha256::new() };
            let mut lines = Lines {
                reader: BufReader::with_capacity(1 << 16, reader),
                path: &path,
                packing: kind.packing,
                line: 0,
                offset: 0,
            };
            let before = gathered.documents.len();
            match kind.format {
                Format::Text => gathered.text(&mut lines)?,
                Format::JsonLines => gathered.json_lines(&mut lines, text_field, group_field)?,
            }
            if gathered.documents.len() == before {
                let reason = match lines.offset {
                    0 => "the file is empty",
                    _ => "the file holds no text, only white space",
                };
                return Err(Error::content(&path, None, reason));
            }
            let digest = lines.reader.into_inner().hasher.finalize();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(OriginFile { name, sha256: format!("{digest:x}") });
            hasher.update([kind.format as u8]);
            hasher.update(digest);
        }
        let blocks = gathered.groups < FEW_GROUPS && gathered.cut_into_blocks();
        let hash = format!("{:x}", hasher.finalize());
        let names = gathered.named.into_iter().map(|(name, group)| (group, name)).collect();
        Ok(Self { documents: gathered.documents, names, files, hash, blocks })
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
    /// The SHA-256 of the names of the fields, and of the kind and the unpacked bytes of every
    /// file in order. Neither names nor packing count: a file that is renamed or compressed
    /// stays the same source.
    fn content_hash(&self) -> String {
        self.hash.clone()
    }

    fn len(&self) -> Option<u64> {
        Some(self.documents.len() as u64)
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        usize::try_from(i)
            .ok()
            .and_then(|i| self.documents.get(i))
            .map(|document| Cow::Borrowed(&*document.text))
            .ok_or_else(|| {
                let count = self.documents.len();
                Error::setting("document", i, format!("must be below their number, {count}"))
            })
    }

    fn group(&self, i: u64) -> u64 {
        self.documents.get(i as usize).map_or(i, |document| document.group)
    }

    fn work(&self, i: u64) -> Option<&str> {
        self.names.get(&self.group(i)).map(String::as_str)
    }
}

/// The files that the paths stand for, in order.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(Error::io(path))? {
            let entry = entry.map_err(Error::io(path))?.path();
            let hidden = entry.file_name().is_some_and(|name| {
                // Files like ._a.txt, which some systems put beside a.txt, hold no text.
                name.as_encoded_bytes().starts_with(b".")
            });
            if !hidden && entry.is_file() && Kind::of(&entry).is_ok() {
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

const KNOWN: &str = ".txt or .jsonl, .txt.gz or .jsonl.gz, .txt.zst or .jsonl.zst";

#[derive(Clone, Copy)]
enum Format {
    Text = 0,
    JsonLines = 1,
}

#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
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
        } else if name.ends_with(".jsonl") {
            Format::JsonLines
        } else {
            let reason = format!("unknown kind of file; the known ones end in {KNOWN}");
            return Err(Error::content(path, None, reason));
        };
        Ok(Self { format, packing })
    }
}

impl Packing {
    fn unpack(self, file: File) -> Box<dyn Read> {
        let file = BufReader::with_capacity(1 << 16, file);
        match self {
            Self::Plain => Box::new(file),
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(Frames { source: file, decoder: FrameDecoder::new() }),
        }
    }

    /// What a failed read of `path` means.
    fn error(self, path: &Path, error: io::Error) -> Error {
        let name = match self {
            Self::Plain => return Error::io(path)(error),
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        };
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("its {name} data end early; copy or download it again")
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                format!("its {name} data cannot be unpacked ({error})")
            }
            _ => return Error::io(path)(error),
        };
        Error::Damaged { path: path.to_path_buf(), reason }
    }
}

/// All frames of a zstd file, one after the other: some compressors write several, and files that
/// are joined are a file again (RFC 8878, section 3.1).
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    /// Goes to the next frame that holds data. False at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let mut skipped = self.source.by_ref().take(length);
                    if io::copy(&mut skipped, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(frame_error(error)),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            while !self.decoder.is_finished() && self.decoder.can_collect() < buffer.len() {
                let missing = buffer.len() - self.decoder.can_collect();
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(missing))
                    .map_err(frame_error)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            // The frame is at its end, and the decoder leaves its checksum to its caller.
            if let Some(checksum) = self.decoder.get_checksum_from_data()
                && self.decoder.get_calculated_checksum() != Some(checksum)
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum differs"));
            }
            if !self.next_frame()? {
                return Ok(0);
            }
        }
    }
}

/// The decoder's error as the reader's: an input/output error where one lies under it, which is
/// how it reports data that end early.
fn frame_error(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return inner.kind().into();
        }
        cause = inner.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
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
            .read_until(b'\n', bytes)
            .map_err(|error| self.packing.error(self.path, error))?;
        self.line += 1;
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

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::content(self.path, self.line, reason)
    }
}

/// The documents while the files are read.
#[derive(Default)]
struct Gathered {
    documents: Vec<Document>,
    groups: u64,
    named: HashMap<String, u64>,
}

impl Gathered {
    fn push(&mut self, text: &str, group: u64, plain: bool) {
        if !text.trim().is_empty() {
            self.documents.push(Document { text: text.into(), group, plain });
        }
    }

    fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups - 1
    }

    fn text(&mut self, lines: &mut Lines) -> Result<()> {
        let (mut bytes, mut text) = (Vec::new(), String::new());
        while lines.append(&mut bytes, &mut text)? {}
        for work in text.split(SEPARATOR).filter(|work| !work.trim().is_empty()) {
            let group = self.new_group();
            pieces(work).for_each(|piece| self.push(piece, group, true));
        }
        Ok(())
    }

    fn json_lines(
        &mut self,
        lines: &mut Lines,
        text_field: &str,
        group_field: Option<&str>,
    ) -> Result<()> {
        let (mut bytes, mut line) = (Vec::new(), String::new());
        while lines.append(&mut bytes, &mut line)? {
            if !line.trim().is_empty() {
                let (text, group) = record(lines, &line, text_field, group_field)?;
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
                self.push(&text, group, false);
            }
            line.clear();
        }
        Ok(())
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

/// The text and the group's name in a line of JSON.
fn record(
    lines: &Lines,
    line: &str,
    text_field: &str,
    group_field: Option<&str>,
) -> Result<(String, Option<String>)> {
    let value: Value = serde_json::from_str(line.trim_end()).map_err(|error| {
        let column = error.column();
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what);
        lines.error(format!(
            "malformed JSON at column {column} ({message}); a line is one JSON object"
        ))
    })?;
    let Value::Object(mut fields) = value else {
        return Err(lines.error(format!("{} stands where a JSON object should", kind(&value))));
    };
    let missing = |fields: &serde_json::Map<String, Value>, name: &str| {
        let found: Vec<String> = fields.keys().take(8).map(|key| format!("{key:?}")).collect();
        let found = if found.is_empty() { "none".into() } else { found.join(", ") };
        lines.error(format!("no field {name:?}; the fields found are: {found}"))
    };
    let group = match group_field {
        None => None,
        Some(name) => match fields.get(name).ok_or_else(|| missing(&fields, name))? {
            Value::String(group) => Some(group.clone()),
            Value::Number(group) => Some(group.to_string()),
            other => {
                let kind = kind(other);
                return Err(lines.error(format!(
                    "the field {name:?} is {kind}; a string or a number names a group"
                )));
            }
        },
    };
    match fields.get_mut(text_field).map(Value::take) {
        Some(Value::String(text)) => Ok((text, group)),
        Some(other) => {
            let kind = kind(&other);
            Err(lines.error(format!("the field {text_field:?} is {kind}; text is a string")))
        }
        None => Err(missing(&fields, text_field)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Cuts a work into pieces of about [`PIECE`] characters; joined, they are the work.
fn pieces(work: &str) -> impl Iterator<Item = &str> {
    let mut rest = work;
    std::iter::from_fn(move || {
        let (mut length, mut blank) = (0, true);
        let mut end = rest.len();
        for (i, c) in rest.char_indices() {
            length += 1;
            let line_end = c == '\n';
            if (line_end && blank && length >= PIECE)
                || (line_end && length >= 2 * PIECE)
                || length >= 3 * PIECE
            {
                end = i + c.len_utf8();
                break;
            }
            blank = line_end || (blank && c.is_whitespace());
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::collections::BTreeSet;
    use std::io::Write;
    use tempfile::TempDir;

    const TWO_LINES: &str = "{\"text\":\"one two three\"}\n{\"text\":\"four\"}\n";
    /// `TWO_LINES` packed by the zstd command line tool 1.5, with a checksum.
    const TWO_LINES_ZSTD: &[u8] =
        b"\x28\xb5\x2f\xfd\x04\x68\x49\x01\x00{\"text\":\"one two three\"}\
        \n{\"text\":\"four\"}\n\x8b\x01\xcc\x58";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    /// A folder with files in it.
    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn open(name: &str, bytes: impl AsRef<[u8]>) -> Result<Files> {
        open_grouped(name, bytes, None)
    }

    fn open_grouped(name: &str, bytes: impl AsRef<[u8]>, group: Option<&str>) -> Result<Files> {
        let folder = folder(&[(name, bytes.as_ref())]);
        Files::open(&[folder.path().join(name)], "text", group)
    }

    fn texts(files: &Files) -> Vec<String> {
        let all = 0..files.len().unwrap();
        all.map(|i| files.document(i).unwrap().into_owned()).collect()
    }

    fn groups(files: &Files) -> Vec<u64> {
        (0..files.len().unwrap()).map(|i| files.group(i)).collect()
    }

    /// The error's text without the folder's name.
    fn complaint(name: &str, bytes: impl AsRef<[u8]>) -> String {
        let error = open(name, bytes).unwrap_err().to_string();
        error[error.find(name).expect("the file is named")..].to_owned()
    }

    #[test]
    fn every_packing_is_the_same_source() {
        let plain = open("a.jsonl", TWO_LINES).unwrap();
        assert_eq!(texts(&plain), ["one two three", "four"]);
        let halves = TWO_LINES.split_at(24);
        let packed = [
            ("b.jsonl.gz", gzip(TWO_LINES.as_bytes())),
            // Two members, as `cat a.gz b.gz` makes.
            ("b.JSONL.gz", [gzip(halves.0.as_bytes()), gzip(halves.1.as_bytes())].concat()),
            ("b.jsonl.zst", TWO_LINES_ZSTD.to_vec()),
            ("b.jsonl.zst", zstd(TWO_LINES.as_bytes())),
            // Two frames, a skippable one of 3 bytes and an empty one between them.
            (
                "b.jsonl.zst",
                [
                    zstd(halves.0.as_bytes()),
                    b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
                    zstd(b""),
                    zstd(halves.1.as_bytes()),
                ]
                .concat(),
            ),
        ];
        for (name, bytes) in packed {
            let files = open(name, bytes).unwrap();
            assert_eq!(texts(&files), texts(&plain), "{name}");
            assert_eq!(files.content_hash(), plain.content_hash(), "{name}");
        }
    }

    #[test]
    fn packed_files_that_end_early_are_damaged() {
        let text = TWO_LINES.repeat(3);
        for (name, whole) in [
            ("a.jsonl.gz", gzip(text.as_bytes())),
            ("a.jsonl.zst", zstd(text.as_bytes())),
            ("a.jsonl.zst", TWO_LINES_ZSTD.to_vec()),
        ] {
            assert!(open(name, &whole).is_ok());
            for length in 1..whole.len() {
                let error = open(name, &whole[..length]).unwrap_err();
                assert!(
                    matches!(&error, Error::Damaged { reason, .. } if reason.contains("end early")),
                    "{length} of {}: {error}",
                    whole.len()
                );
            }
        }
        let skippable = [TWO_LINES_ZSTD, b"\x50\x2a\x4d\x18\x03\0\0\0ab"].concat();
        assert!(complaint("a.jsonl.zst", skippable).contains("end early"));
    }

    #[test]
    fn packed_files_that_are_something_else_are_damaged() {
        assert!(complaint("a.txt.gz", "plain text").contains("cannot be unpacked"));
        assert!(complaint("a.txt.zst", "plain text").contains("cannot be unpacked"));
        let mut flipped = gzip(TWO_LINES.as_bytes());
        let checksum = flipped.len() - 8;
        flipped[checksum] ^= 1;
        assert!(complaint("a.jsonl.gz", flipped).contains("cannot be unpacked"));
        // A letter of the text, which lies there as it is.
        let mut flipped = TWO_LINES_ZSTD.to_vec();
        flipped[20] ^= 1;
        assert!(complaint("a.jsonl.zst", flipped).contains("its checksum differs"));
        let garbage = [TWO_LINES_ZSTD, b"garbage"].concat();
        assert!(complaint("a.jsonl.zst", garbage).contains("cannot be unpacked"));
    }

    #[test]
    fn one_line_says_what_is_wrong_and_where() {
        let lines = |line: &str| format!("{{\"text\":\"a\"}}\n\n{line}\n{{\"text\":\"b\"}}\n");
        let cases = [
            (
                "a.csv",
                "a".into(),
                "a.csv: unknown kind of file; the known ones end in .txt or .jsonl",
            ),
            ("a.jsonl", String::new(), "a.jsonl: the file is empty"),
            ("a.txt", String::new(), "a.txt: the file is empty"),
            ("a.txt", "\u{feff}".into(), "a.txt: the file holds no text, only white space"),
            ("a.txt", " \n<|endoftext|>\n".into(), "a.txt: the file holds no text"),
            ("a.jsonl", "\n \n".into(), "a.jsonl: the file holds no text, only white space"),
            (
                "a.jsonl",
                lines("{\"text\": \"a"),
                "a.jsonl, line 3: malformed JSON at column 11 (EOF",
            ),
            ("a.jsonl", lines("[1]"), "a.jsonl, line 3: an array stands where a JSON object"),
            ("a.jsonl", lines("{\"text\":5}"), "a.jsonl, line 3: the field \"text\" is a number"),
            ("a.jsonl", lines("{}"), "line 3: no field \"text\"; the fields found are: none"),
            (
                "a.jsonl",
                lines("{\"body\":\"x\",\"id\":1}"),
                "line 3: no field \"text\"; the fields found are: \"body\", \"id\"",
            ),
        ];
        for (name, bytes, expected) in cases {
            let error = open(name, &bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n{expected}");
            assert!(!error.contains('\n'));
        }
        let error = open_grouped("a.jsonl", "{\"text\":\"a\"}", Some("book")).unwrap_err();
        let expected = "line 1: no field \"book\"; the fields found are: \"text\"";
        assert!(error.to_string().contains(expected), "{error}");
        let error = open_grouped("a.jsonl", "{\"text\":\"a\",\"book\":null}", Some("book"));
        assert!(error.unwrap_err().to_string().contains("line 1: the field \"book\" is null"));
        let missing = Files::open(&["missing.txt".into()], "text", None).unwrap_err();
        assert!(matches!(missing, Error::Io { .. }));
        assert!(Files::open(&[], "text", None).is_err());
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        let latin = b"one\ntwo\nsm\xf8r\n";
        assert!(complaint("a.txt", latin).starts_with("a.txt, line 3: byte 10 is not UTF-8"));
        let json = b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}";
        assert!(complaint("a.jsonl", json).starts_with("a.jsonl, line 2: byte 22 is not UTF-8"));
        let utf16 = b"\xff\xfea\0";
        assert!(complaint("a.txt", utf16).starts_with("a.txt, line 1: byte 0 is not UTF-8"));
    }

    #[test]
    fn text_is_kept_as_it_is() {
        let text = "\u{feff}  e\u{301}\r\n\r\n\ttwo \u{feff}\0\r\n ";
        assert_eq!(texts(&open("a.txt", text).unwrap()), [&text[3..]]);
        let line = "\u{feff}{\"text\":\" a\\r\\n\\u00e9\\ud83d\\ude00 \"}\r\n";
        assert_eq!(texts(&open("a.jsonl", line).unwrap()), [" a\r\né😀 "]);
    }

    #[test]
    fn separated_documents_are_works() {
        let text = "one\n<|endoftext|>two <|endoftext|> \n<|endoftext|>three";
        let files = open("a.txt", text).unwrap();
        assert_eq!(texts(&files), ["one\n", "two ", "three"]);
        assert_eq!(groups(&files), [0, 1, 2]);
        assert!(!files.blocks());
    }

    #[test]
    fn groups_are_named_by_a_field_in_all_files() {
        let line = |book: &str| format!("{{\"text\":\"x\",\"book\":{book}}}\n");
        let folder = folder(&[
            ("1.jsonl", (line("\"b\"") + &line("\"a\"") + &line("7")).as_bytes()),
            ("2.jsonl.gz", &gzip((line("\"a\"") + &line("\"7\"") + &line("\"c\"")).as_bytes())),
            ("3.txt", b"a work of its own"),
        ]);
        let paths = [folder.path().to_path_buf()];
        let files = Files::open(&paths, "text", Some("book")).unwrap();
        assert_eq!(groups(&files), [0, 1, 2, 1, 2, 3, 4]);
        let works: Vec<Option<&str>> = (0..7).map(|i| files.work(i)).collect();
        let named = ["b", "a", "7", "a", "7", "c"].map(Some);
        assert_eq!(works, [&named[..], &[None]].concat());
        let ungrouped = Files::open(&paths, "text", None);
        assert_eq!(groups(&ungrouped.unwrap()), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_folder_is_its_text_files_in_order() {
        let folder = folder(&[
            ("b.txt", b"second"),
            ("a.txt", b"first"),
            ("c.jsonl", b"{\"text\":\"third\"}"),
            (".a.txt", b"\xff"),
            ("README.md", b"no document"),
        ]);
        fs::create_dir(folder.path().join("d.txt")).unwrap();
        let paths = [folder.path().to_path_buf()];
        let files = Files::open(&paths, "text", None).unwrap();
        assert_eq!(texts(&files), ["first", "second", "third"]);
        let error = Files::open(&[folder.path().join("d.txt")], "text", None).unwrap_err();
        assert!(error.to_string().contains("the folder holds no .txt"), "{error}");
        let named = ["a.txt", "b.txt", "c.jsonl"].map(|name| folder.path().join(name));
        assert_eq!(Files::open(&named, "text", None).unwrap().content_hash(), files.content_hash());
        let names: Vec<&str> = files.files().iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["a.txt", "b.txt", "c.jsonl"]);
        assert_eq!(files.files()[0].sha256, crate::store::sha256(b"first"));
    }

    #[test]
    fn the_hash_is_of_what_determines_the_content() {
        let hash = |files: &[(&str, &[u8])], text: &str, group: Option<&str>| {
            let folder = folder(files);
            let paths = files.iter().map(|(name, _)| folder.path().join(name)).collect::<Vec<_>>();
            Files::open(&paths, text, group).unwrap().content_hash()
        };
        let line: &[u8] = b"{\"text\":\"a\",\"b\":\"b\"}\n";
        let hashes = [
            hash(&[("a.jsonl", line)], "text", None),
            hash(&[("a.jsonl", line)], "b", None),
            hash(&[("a.jsonl", line)], "text", Some("b")),
            hash(&[("a.txt", line)], "text", None),
            hash(&[("a.jsonl", line), ("b.jsonl", line)], "text", None),
            hash(&[("a.jsonl", &line.repeat(2))], "text", None),
        ];
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
        assert_eq!(hashes[0], hash(&[("c.jsonl", line)], "text", None));
        assert_eq!(hashes[0].len(), 64);
    }

    #[test]
    fn documents_outside_are_an_error() {
        let files = open("a.txt", "a").unwrap();
        assert!(files.document(0).is_ok());
        assert!(files.document(1).is_err() && files.document(u64::MAX).is_err());
    }

    #[test]
    fn works_are_cut_at_blank_lines() {
        let lengths = |text: &str| -> Vec<usize> {
            pieces(text).map(|piece| piece.chars().count()).collect()
        };
        // A paragraph of 100 characters, the blank line among them.
        let paragraph = |c: &str| format!("{}\n\n", c.repeat(98));
        assert_eq!(lengths(&paragraph("é").repeat(250)), [PIECE, PIECE, 1000]);
        let windows = format!("{}\r\n \r\n", "a".repeat(95));
        assert_eq!(lengths(&windows.repeat(250)), [PIECE, PIECE, 1000]);
        // The blank line that comes one character too early does not count.
        let early = format!("{}\n\n{}\n\nc", "a".repeat(PIECE - 3), "b".repeat(50));
        assert_eq!(lengths(&early), [PIECE - 1 + 52, 1]);
        // No blank lines, then no lines.
        assert_eq!(lengths(&format!("{}\n", "a".repeat(99)).repeat(250)), [2 * PIECE, 1000]);
        assert_eq!(lengths(&"a".repeat(3 * PIECE + 1)), [3 * PIECE, 1]);
        assert_eq!(lengths("short"), [5]);
    }

    #[test]
    fn a_single_work_is_cut_into_blocks() {
        let long = |c: char| format!("{}\n\n", String::from(c).repeat(PIECE - 2));
        let work = |pieces: usize| (0..pieces).map(|_| long('a')).collect::<String>();
        // 96 pieces in blocks of 3.
        let files = open("a.txt", work(96)).unwrap();
        assert!(files.blocks());
        assert_eq!(groups(&files), (0..96).map(|i| i / 3).collect::<Vec<_>>());
        // 97 in blocks of 4, two of three works cut.
        let folder = folder(&[
            ("a.txt", work(60).as_bytes()),
            ("b.txt", work(3).as_bytes()),
            ("c.txt", work(34).as_bytes()),
        ]);
        let paths = [folder.path().to_path_buf()];
        let files = Files::open(&paths, "text", None).unwrap();
        let mut sizes =
            groups(&files).chunk_by(|a, b| a == b).map(<[u64]>::len).collect::<Vec<_>>();
        assert_eq!(sizes.iter().sum::<usize>(), 97);
        assert_eq!(sizes.split_off(15), [3, 4, 4, 4, 4, 4, 4, 4, 4, 2]);
        assert_eq!(sizes, [4; 15]);
        assert_eq!(groups(&files).into_iter().collect::<BTreeSet<_>>().len(), 25);
        // 16 works are enough to keep them whole; so is a work of one piece, where nothing can be
        // cut.
        let many = vec![work(2); 16].join(SEPARATOR);
        let files = open("a.txt", many).unwrap();
        assert!(!files.blocks());
        assert_eq!(groups(&files), (0..32).map(|i| i / 2).collect::<Vec<_>>());
        assert!(open("a.txt", vec![work(2); 15].join(SEPARATOR)).unwrap().blocks());
        assert!(!open("a.txt", "short").unwrap().blocks());
    }

    proptest! {
        #[test]
        fn pieces_joined_are_the_work(
            parts in prop::collection::vec(("[ab é\n]{0,9}", 1usize..6000), 0..9)
        ) {
            let text: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
            let pieces: Vec<&str> = pieces(&text).collect();
            prop_assert_eq!(&pieces.concat(), &text);
            for (i, piece) in pieces.iter().enumerate() {
                let length = piece.chars().count();
                prop_assert!(length <= 3 * PIECE);
                prop_assert!(length >= PIECE || i + 1 == pieces.len());
            }
        }

        /// What is packed in a damaged way is refused or read, and never takes the program down.
        #[test]
        fn damaged_files_are_no_disaster(at in 0usize..200, bits in 1u8..) {
            let text = TWO_LINES.repeat(5);
            for (name, mut bytes) in
                [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd(text.as_bytes()))]
            {
                let at = at % bytes.len();
                bytes[at] ^= bits;
                let _ = open(name, bytes);
            }
        }
    }
}
