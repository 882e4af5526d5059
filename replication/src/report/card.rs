//! What the author of a table states for the report card of its fits.

use forgetting_laws::fit::checklist::Checklist;
use forgetting_laws::{Error, Result};
use std::fs;
use std::path::Path;

/// Takes the answers of a TOML file: `count_n = "with embeddings"`.
///
/// # Errors
/// In one line, if it is no TOML, an answer is no text, or there is no such question.
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
