//! The report card of a table's fits: warnings, each once, and the checklist of the field.

use super::file::LawFile;
use super::terminal;
use forgetting_laws::fit::checklist::{Answer, Checklist, ITEMS, Source};
use forgetting_laws::warning::Warning;
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The warnings of the table and of its fits by identifier, each with the fits that it is about.
fn warnings(file: &LawFile) -> Vec<(Warning, String)> {
    let mut fits: BTreeMap<&Warning, Vec<String>> = BTreeMap::new();
    for warning in &file.input.warnings {
        fits.entry(warning).or_default();
    }
    for fit in file.fits() {
        for warning in &fit.warnings {
            fits.entry(warning).or_default().push(terminal::name(fit));
        }
    }
    let all = file.fits().count();
    let shown = |(warning, names): (&Warning, Vec<String>)| {
        let about = match names.len() {
            0 => "the table".into(),
            count if count == all => "all fits".into(),
            _ => names.join("; "),
        };
        (warning.clone(), about)
    };
    fits.into_iter().map(shown).collect()
}

/// The report card for the terminal; `markdown` is where the whole card stands.
pub fn text(file: &LawFile, markdown: &Path) -> String {
    let mut text = String::from("report card\n");
    for (warning, about) in warnings(file) {
        let Warning { kind, message } = &warning;
        terminal::entry(&mut text, kind.id(), &format!("{about}: {message}. {}", kind.remedy()));
    }
    let (answered, asked) = (file.checklist.answered(), ITEMS.len());
    let _ = writeln!(
        text,
        "  checklist  {answered} of {asked} questions of the field answered: {}\n",
        markdown.display()
    );
    text
}

/// The report card as Markdown.
pub fn markdown(file: &LawFile) -> String {
    let mut text = format!("# Report card of {}\n\n", file.input.path);
    let _ = writeln!(text, "By {}. SHA-256 of the table: `{}`.\n", file.program, file.input.sha256);
    text.push_str("## Fits\n\n| fit | rows | runs | status | MRE | MRE held out | supported |\n|---|---|---|---|---|---|---|\n");
    for fit in file.fits() {
        let supported = match fit.is_supported() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not tested",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {supported} |",
            cell(&terminal::name(fit)),
            fit.n_rows,
            fit.n_runs,
            terminal::label(fit.status),
            terminal::percent(fit.mre),
            terminal::percent(fit.mre_held_out.unwrap_or(f64::NAN)),
        );
    }
    text.push_str("\n## Warnings\n\n");
    let warnings = warnings(file);
    if warnings.is_empty() {
        text.push_str("None.\n");
    } else {
        text.push_str("| | about | what | what to do |\n|---|---|---|---|\n");
    }
    for (warning, about) in warnings {
        let Warning { kind, message } = &warning;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            kind.id(),
            cell(&about),
            cell(message),
            kind.remedy()
        );
    }
    text.push_str("\n## Checklist\n\n| | question | answer | from |\n|---|---|---|---|\n");
    for (Answer { question, answer, source, .. }, item) in file.checklist.0.iter().zip(ITEMS) {
        let (answer, source) = match source {
            Source::Fit => (answer.as_str(), "the fit"),
            Source::Stated => (answer.as_str(), "the author"),
            Source::NotStated => ("not stated", ""),
        };
        let _ = writeln!(text, "| {} | {question} | {} | {source} |", item.about, cell(answer));
    }
    text
}

/// Text in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('*', "\\*")
}

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
