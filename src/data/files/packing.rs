//! Compressed files.

use crate::Error;
use crate::formats::foreign;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

/// The largest window of a zstd frame, as a power of two: the limit of `zstd -dc`.
const ZSTD_WINDOW: u32 = 27;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A file that is decompressed while it is read.
pub(super) enum Unpacked {
    Plain(Box<dyn BufRead>),
    Gzip(Box<Members>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Box<dyn BufRead>>>),
}

impl Packing {
    /// Recognised by the first bytes.
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Why a file with these first bytes is not what its name says.
    pub fn refuses(self, first: &[u8]) -> Option<String> {
        let (tool, end, magic) = match self {
            Self::Plain => return foreign(first),
            Self::Gzip => ("gzip", ".gz", &[0x1f, 0x8b][..]),
            Self::Zstd => ("zstd", ".zst", &[0x28, 0xb5, 0x2f, 0xfd][..]),
        };
        // A file that ends within its first bytes is cut off.
        if Self::of(first) == self || magic.starts_with(first) {
            return None;
        }
        let other = || format!("it is not compressed with {tool}; remove {end} from its name");
        Some(foreign(first).unwrap_or_else(other))
    }

    pub fn unpack(self, file: impl BufRead + 'static) -> io::Result<Unpacked> {
        let file: Box<dyn BufRead> = Box::new(file);
        Ok(match self {
            Self::Plain => Unpacked::Plain(file),
            Self::Gzip => Unpacked::Gzip(Box::new(Members::new(file))),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Unpacked::Zstd(Box::new(decoder))
            }
        })
    }

    /// The error of a failed read of `path`.
    pub fn error(self, path: &Path, error: io::Error) -> Error {
        let name = match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Plain => return Error::io(path)(error),
        };
        if error.raw_os_error().is_some() {
            return Error::io(path)(error);
        }
        let what = error.to_string();
        if what.contains("too much memory") {
            let reason = format!(
                "its zstd data need a window of more than {} bytes, which is the limit; repack \
                 it: zstd -dc --long=31 OLD | zstd > NEW",
                1u64 << ZSTD_WINDOW
            );
            return Error::content(path, None, reason);
        }
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("its {name} data end early"),
            _ if what.contains("Unknown frame") => {
                "there are other bytes after its last zstd frame".to_string()
            }
            _ => format!("its {name} data cannot be decompressed ({what})"),
        };
        let reason = format!("{reason}; copy or download it again");
        Error::Damaged { path: path.to_path_buf(), reason }
    }
}

impl Unpacked {
    /// Whether bytes after the compressed data were ignored, as `gzip` does with a warning.
    pub fn ignored_a_tail(&self) -> bool {
        matches!(self, Self::Gzip(members) if members.tail)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(members) => members.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// All members of a gzip file, one after the other. As in `gzip`, bytes after the last member are
/// ignored: zeros that fill a block, or what an upload has appended.
pub(super) struct Members {
    /// `None` at the end.
    member: Option<GzDecoder<Rest>>,
    /// Whether anything but zeros follows the last member.
    tail: bool,
}

/// The rest of a file after bytes that have been read to recognise it.
type Rest = io::Chain<Cursor<Vec<u8>>, Box<dyn BufRead>>;

impl Members {
    fn new(file: Box<dyn BufRead>) -> Self {
        let rest = Cursor::new(Vec::new()).chain(file);
        Self { member: Some(GzDecoder::new(rest)), tail: false }
    }

    /// Starts the next member.
    fn next(&mut self, rest: Rest) -> io::Result<Option<GzDecoder<Rest>>> {
        // The bytes that were looked at are a part of the member that has ended.
        let (_, mut file) = rest.into_inner();
        let mut first = Vec::new();
        file.by_ref().take(2).read_to_end(&mut first)?;
        if first == [0x1f, 0x8b] {
            return Ok(Some(GzDecoder::new(Cursor::new(first).chain(file))));
        }
        self.tail = first.iter().any(|&byte| byte != 0);
        Ok(None)
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(ended) = self.member.take() {
                self.member = self.next(ended.into_inner())?;
            }
        }
        Ok(0)
    }
}
