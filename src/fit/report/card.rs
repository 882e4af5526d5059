//! The report card of a table's fits: warnings, each once, and the checklist of the field.

use super::format::{entry, error_percent, fit_name, status};
use crate::fit::Fit;
use crate::fit::checklist::{Answer, ITEMS, Source};
use crate::fit::file::LawFile;
use crate::warning::{Warning, WarningKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The warnings of a kind: what each says and which fits it is about.
struct OfKind {
    kind: WarningKind,
    messages: Vec<(String, String)>,
}

/// The warnings of the table and of its fits by identifier. Of a form to which a ranking prefers another,
/// it is not said that it is not supported or not identified.
fn warnings(file: &LawFile) -> Vec<OfKind> {
    let mut found: BTreeMap<&Warning, BTreeSet<usize>> = BTreeMap::new();
    for warning in &file.input.warnings {
        found.entry(warning).or_default();
    }
    let fits: Vec<&Fit> = file.fits().collect();
    for (i, fit) in fits.iter().enumerate() {
        let preferred = file.preferred(&fit.domain, fit.law);
        let matters = preferred.is_none_or(|preferred| preferred.form == fit.law.name());
        let of_the_form = [WarningKind::NotSupported, WarningKind::NotIdentified];
        let matter = |warning: &&Warning| matters || !of_the_form.contains(&warning.kind);
        for warning in fit.warnings.iter().filter(matter) {
            found.entry(warning).or_default().insert(i);
        }
    }
    let mut kinds: Vec<OfKind> = Vec::new();
    for (warning, about) in found {
        let message = (warning.message.clone(), names(&fits, &about));
        match kinds.last_mut().filter(|last| last.kind == warning.kind) {
            Some(last) => last.messages.push(message),
            None => kinds.push(OfKind { kind: warning.kind, messages: vec![message] }),
        }
    }
    kinds
}

/// Some of the fits, named as briefly as may be: by domain, by law or by those that are missing.
fn names(fits: &[&Fit], about: &BTreeSet<usize>) -> String {
    if about.is_empty() {
        return "the table".into();
    }
    if about.len() == fits.len() {
        return "all fits".into();
    }
    let domain = |fit: &Fit| fit.domain.clone();
    let law = |fit: &Fit| fit.law.name().to_string();
    let shortest = |about: &BTreeSet<usize>| {
        let ways = [grouped(fits, about, domain), grouped(fits, about, law)];
        ways.into_iter().min_by_key(String::len).unwrap_or_default()
    };
    let missing = (0..fits.len()).filter(|i| !about.contains(i)).collect();
    let but = format!("all fits except {}", shortest(&missing));
    let only = shortest(about);
    if but.len() < only.len() { but } else { only }
}

/// Some of the fits, those of a group together where all of it are among them.
fn grouped(fits: &[&Fit], about: &BTreeSet<usize>, group: impl Fn(&Fit) -> String) -> String {
    let mut members: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (i, fit) in fits.iter().enumerate() {
        members.entry(group(fit)).or_default().insert(i);
    }
    let is_whole = |i: &usize| {
        let members = &members[&group(fits[*i])];
        members.len() > 1 && members.is_subset(about)
    };
    let (whole, single): (Vec<usize>, Vec<usize>) = about.iter().copied().partition(is_whole);
    let mut groups: Vec<String> = whole.into_iter().map(|i| group(fits[i])).collect();
    // In the order of the fits, each once.
    let mut seen = BTreeSet::new();
    groups.retain(|name| seen.insert(name.clone()));
    let mut parts: Vec<String> = Vec::new();
    if !groups.is_empty() {
        parts.push(format!("those of {}", groups.join(", ")));
    }
    parts.extend(single.into_iter().map(|i| fit_name(fits[i])));
    parts.join("; ")
}

/// The report card in a few lines; `markdown` is where the whole card stands, if anywhere.
pub fn text(file: &LawFile, markdown: Option<&Path>) -> String {
    let mut text = String::from("report card\n");
    for OfKind { kind, messages } in warnings(file) {
        let said = messages.iter().map(|(message, about)| format!("{about}: {message}. "));
        let said: String = said.collect();
        entry(&mut text, kind.id(), &format!("{said}{}", kind.remedy()));
    }
    let (answered, asked) = (file.checklist.answered(), ITEMS.len());
    let place = markdown.map_or(String::new(), |path| format!(": {}", path.display()));
    let _ = writeln!(text, "  checklist  {answered} of {asked} questions answered{place}\n");
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
            cell(&fit_name(fit)),
            fit.n_rows,
            fit.n_runs,
            status(fit.status),
            error_percent(fit.mre),
            error_percent(fit.mre_held_out.unwrap_or(f64::NAN)),
        );
    }
    text.push_str("\n## Warnings\n\n");
    let warnings = warnings(file);
    if warnings.is_empty() {
        text.push_str("None.\n");
    } else {
        text.push_str("| | about | what | what to do |\n|---|---|---|---|\n");
    }
    for OfKind { kind, messages } in warnings {
        for (message, about) in messages {
            let (id, what) = (kind.id(), cell(&message));
            let _ = writeln!(text, "| {id} | {} | {what} | {} |", cell(&about), kind.remedy());
        }
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
