//! `NAME=FILE` on the command line.

use std::path::{Path, PathBuf};

/// The name and the file, where an argument has both. A file that is there is one, whatever its name.
pub fn named(path: &Path) -> Option<(String, PathBuf)> {
    let (name, rest) = path.to_str()?.split_once('=')?;
    let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_name = !name.is_empty() && name.chars().all(good) && !path.exists();
    is_name.then(|| (name.to_string(), PathBuf::from(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_and_a_file_that_is_there_none() {
        assert_eq!(named(Path::new("x=a/b.txt")), Some(("x".into(), "a/b.txt".into())));
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("x=y.txt");
        std::fs::write(&odd, "text").unwrap();
        assert_eq!(named(&odd), None);
        assert_eq!(named(Path::new("=y.txt")), None);
        assert_eq!(named(Path::new("a/b=y.txt")), None);
    }
}
