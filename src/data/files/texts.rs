//! The text of all documents, one after the other: in memory while it is short, then in an unnamed file
//! that disappears with its last owner.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::{SpooledTempFile, spooled_tempfile_in};

/// Bytes of text that stay in memory.
const IN_MEMORY: usize = 4 << 20;

/// Text that is being written.
pub(super) struct Writer {
    out: BufWriter<SpooledTempFile>,
    folder: PathBuf,
    bytes: u64,
}

/// Text that has been written. Any thread can read it at any position.
#[derive(Debug)]
pub(super) struct Texts {
    file: Mutex<SpooledTempFile>,
    folder: PathBuf,
}

impl Writer {
    /// Writes to the system's temporary folder, or the folder of the variable TMPDIR.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir(), IN_MEMORY)
    }

    /// Writes to a folder if there are more bytes than fit in memory.
    pub fn within(folder: &Path, bytes: usize) -> Self {
        let out = BufWriter::with_capacity(1 << 16, spooled_tempfile_in(bytes, folder));
        Self { out, folder: folder.to_path_buf(), bytes: 0 }
    }

    /// Appends a text and returns where it ends.
    ///
    /// # Errors
    /// In one line, if the system refuses.
    pub fn push(&mut self, text: &str) -> Result<u64, String> {
        self.out.write_all(text.as_bytes()).map_err(|error| kept(&self.folder, &error))?;
        self.bytes += text.len() as u64;
        Ok(self.bytes)
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// In one line, if the system refuses.
    pub fn finish(self) -> Result<Texts, String> {
        let Self { out, folder, .. } = self;
        match out.into_inner() {
            Ok(file) => Ok(Texts { file: Mutex::new(file), folder }),
            Err(error) => Err(kept(&folder, error.error())),
        }
    }
}

fn kept(folder: &Path, error: &io::Error) -> String {
    let folder = folder.display();
    format!(
        "its text cannot be kept in {folder} while it is used ({error}); name a folder with room \
         for the decompressed text by the variable TMPDIR"
    )
}

impl Texts {
    /// The folder of the file, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text at some bytes.
    ///
    /// # Errors
    /// If the system refuses, or no text was written there.
    pub fn read(&self, bytes: Range<u64>) -> io::Result<String> {
        let mut text = vec![0; (bytes.end - bytes.start) as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(bytes.start)).and_then(|_| file.read_exact(&mut text))?;
        drop(file);
        String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Wherever the texts lie, they come back, in any order.
        #[test]
        fn texts_come_back(texts in prop::collection::vec(".{0,40}", 0..40), memory in 0usize..600) {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::within(folder.path(), memory);
            let ends: Vec<u64> = texts.iter().map(|text| writer.push(text).unwrap()).collect();
            let written = writer.finish().unwrap();
            for (i, text) in texts.iter().enumerate().rev() {
                let start = if i == 0 { 0 } else { ends[i - 1] };
                prop_assert_eq!(&written.read(start..ends[i]).unwrap(), text);
            }
            let end = ends.last().copied().unwrap_or(0);
            prop_assert!(written.read(end..end + 1).is_err());
            // A file without a name.
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn where_there_is_no_room_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::within(&folder.path().join("missing"), 9);
        assert_eq!(writer.push("short"), Ok(5));
        assert!(writer.finish().is_ok());
        let mut writer = Writer::within(&folder.path().join("missing"), 9);
        writer.push("a longer text").unwrap();
        let error = writer.finish().unwrap_err();
        assert!(error.contains("missing") && error.contains("TMPDIR"), "{error}");
        assert!(!error.contains('\n'));
    }
}
