//! The author's answers for the report card of a table's fits.

use forgetting_laws::fit::checklist::Checklist;
use forgetting_laws::{Error, Result};
use std::fs;
use std::path::Path;

/// Reads the answers from a TOML file: `count_n = "with embeddings"`.
///
/// # Errors
/// If the file is not TOML, an answer is not text, or there is no such question.
pub fn state(checklist: &mut Checklist, path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map(|span| &text[..span.start.min(text.len())]);
        let line = before.map(|before| 1 + before.matches('\n').count() as u64);
        Error::content(path, line, format!("is not TOML: {}", error.message()))
    })?;
    for (id, answer) in &table {
        let toml::Value::String(answer) = answer else {
            let reason = format!("{id} must be a text in quotes");
            return Err(Error::content(path, None, reason));
        };
        checklist
            .state(id, answer)
            .map_err(|error| Error::content(path, None, error.to_string()))?;
    }
    Ok(())
}
