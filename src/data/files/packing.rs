//! How files are packed.

use crate::Error;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};
use std::path::Path;

#[derive(Clone, Copy)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes of what is packed.
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// What is packed, unpacked while it is read.
    pub fn unpack(self, file: impl BufRead + 'static) -> Box<dyn Read> {
        match self {
            Self::Plain => Box::new(file),
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(Frames { source: file, decoder: FrameDecoder::new() }),
        }
    }

    /// What a failed read of `path` means.
    pub fn error(self, path: &Path, error: io::Error) -> Error {
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
