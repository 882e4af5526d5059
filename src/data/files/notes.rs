//! Notes for the user about what was skipped or replaced while files were read.

use std::path::{Path, PathBuf};

/// How often something was found, and where.
#[derive(Default)]
pub(super) struct Tally {
    pub count: u64,
    files: u64,
    first: PathBuf,
}

impl Tally {
    pub fn add(&mut self, path: &Path, count: u64) {
        if count > 0 {
            if self.files == 0 {
                self.first = path.to_path_buf();
            }
            self.count += count;
            self.files += 1;
        }
    }
}

/// What was found in the files.
#[derive(Default)]
pub(super) struct Notes {
    /// Files without text.
    pub empty: Tally,
    /// Records without text.
    pub missing: Tally,
    /// Escapes of half surrogate pairs.
    pub halves: Tally,
    /// Compressed files with other bytes after the compressed data.
    pub tails: Tally,
    /// Text files that begin like an HTML or XML page.
    pub pages: Tally,
}

impl Notes {
    /// One line for each kind.
    pub fn lines(&self) -> Vec<String> {
        [
            (&self.empty, "no text in it, skipped"),
            (&self.missing, "records without text, skipped: {}"),
            (&self.halves, "escapes of half a surrogate pair, read as U+FFFD: {}"),
            (&self.tails, "bytes after the compressed data were ignored, as gzip does"),
            (&self.pages, "it begins like an HTML or XML page, but is read as text"),
        ]
        .into_iter()
        .filter(|(tally, _)| tally.files > 0)
        .map(|(Tally { count, files, first }, what)| {
            let what = what.replace("{}", &count.to_string());
            let others = match files {
                1 => String::new(),
                2 => " and another file".to_string(),
                files => format!(" and {} other files", files - 1),
            };
            format!("{}{others}: {what}", first.display())
        })
        .collect()
    }
}
