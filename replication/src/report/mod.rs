//! The report: one self-contained HTML page, and the same in Markdown. It has the claims, each figure
//! with the command that makes it, an interactive panel for the laws, and the provenance.
//!
//! The page needs no network and, except for the panel, no JavaScript.

pub mod card;
pub mod html;
mod markdown;
mod panel;
pub mod ranking;

use crate::figures::{FIGURES, Figure, Finding, Page, Verdict};
use crate::results::{Laws, LeftOut, Results};
use forgetting_laws::store::write_atomic;
use forgetting_laws::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `report.html` and `report.md` into `folder`, which is created if it is missing, and returns
/// their paths. The Markdown expects the drawings where [`Page::write`] puts them: in a folder of
/// `folder` named by the figure's id.
///
/// # Errors
/// If a file cannot be written.
pub fn write(
    results: &Results,
    laws: &Laws,
    pages: &[(&Figure, Page)],
    folder: &Path,
) -> Result<[PathBuf; 2]> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let paths = [folder.join("report.html"), folder.join("report.md")];
    let [html, markdown] = [html::page(results, laws, pages), markdown::page(results, pages)];
    write_atomic(&paths[0], html.as_bytes())?;
    write_atomic(&paths[1], markdown.as_bytes())?;
    Ok(paths)
}

/// The command that makes a figure.
fn command(figure: &Figure, results: &Results) -> String {
    format!("cargo run -p replication -- {} --preset {}", figure.id, results.preset)
}

/// A figure's name in lists: the paper's name without remarks, or the title if the paper has no such
/// figure.
pub fn name(figure: &Figure) -> String {
    let paper = figure.paper;
    if !paper.contains(|c: char| c.is_ascii_digit()) {
        return figure.title.to_string();
    }
    match paper.split_once(';') {
        Some((name, _)) if name.contains('(') => format!("{name})"),
        Some((name, _)) => name.to_string(),
        None => paper.to_string(),
    }
}

/// A claim with the findings of all figures about it.
struct Claim<'a> {
    claim: &'a str,
    source: &'a str,
    findings: Vec<(&'a Figure, &'a Finding)>,
}

impl Claim<'_> {
    /// The verdict of all its findings; `None` if they differ.
    fn verdict(&self) -> Option<Verdict> {
        let first = self.findings.first()?.1.verdict;
        self.findings.iter().all(|(_, finding)| finding.verdict == first).then_some(first)
    }
}

/// The claims in the order of the figures. Findings with the same words belong to one claim.
fn claims<'a>(pages: &'a [(&'a Figure, Page)]) -> Vec<Claim<'a>> {
    let mut claims: Vec<Claim> = Vec::new();
    for (figure, page) in pages {
        for finding in &page.findings {
            match claims.iter_mut().find(|claim| claim.claim == finding.claim) {
                Some(claim) => claim.findings.push((*figure, finding)),
                None => claims.push(Claim {
                    claim: &finding.claim,
                    source: &finding.source,
                    findings: vec![(*figure, finding)],
                }),
            }
        }
    }
    claims
}

/// The claims by verdict, each group with its heading; groups without a claim are left out.
fn groups<'a, 'b>(claims: &'b [Claim<'a>]) -> Vec<(&'static str, Vec<&'b Claim<'a>>)> {
    let groups = [
        ("Supported", Some(Verdict::Supported)),
        ("Supported in part", None),
        ("Not supported", Some(Verdict::NotSupported)),
        ("Not testable at this scale", Some(Verdict::NotTestable)),
    ];
    let groups = groups.into_iter().map(|(heading, verdict)| {
        (heading, claims.iter().filter(|claim| claim.verdict() == verdict).collect::<Vec<_>>())
    });
    groups.filter(|(_, claims)| !claims.is_empty()).collect()
}

/// The number of claims per verdict, in a sentence.
fn summary(claims: &[Claim]) -> String {
    let counts = groups(claims).into_iter().map(|(heading, claims)| {
        let mut words = heading.to_string();
        words.get_mut(..1).map(str::make_ascii_lowercase);
        format!("{} {words}", claims.len())
    });
    let counts: Vec<_> = counts.collect();
    match claims.len() {
        0 => "No claim was tested.".into(),
        1 => format!("1 claim: {}.", counts.join(", ")),
        count => format!("{count} claims: {}.", counts.join(", ")),
    }
}

/// The provenance of the runs, as pairs of name and value.
fn provenance(results: &Results) -> Vec<(String, String)> {
    let pretraining = &results.pretraining;
    let left_out =
        [LeftOut::Diverged, LeftOut::Unstable, LeftOut::BottomAtStart, LeftOut::BottomAtEnd]
            .into_iter()
            .filter_map(|why| {
                let count =
                    results.finetuned.iter().filter(|run| run.left_out() == Some(why)).count();
                (count > 0).then(|| format!("{count} {}", why.name()))
            });
    let left_out: Vec<_> = left_out.collect();
    let runs = format!(
        "{} of pretraining and {} of finetuning; {} are missing; left out of the fits: {}",
        results.pretrained.len(),
        results.finetuned.len(),
        results.missing,
        if left_out.is_empty() { "none".into() } else { left_out.join(", ") },
    );
    let mut facts = vec![
        ("Preset".to_string(), results.preset.clone()),
        ("Runs".into(), runs),
        ("Hash of all records".into(), results.hash().to_string()),
        ("Program of the results".into(), results.program.clone()),
        (
            "Program of this report".into(),
            format!(
                "replication {} commit {}",
                env!("CARGO_PKG_VERSION"),
                env!("REPLICATION_COMMIT")
            ),
        ),
        (
            "Pretraining data".into(),
            format!(
                "{}; {}; {} distinct tokens",
                pretraining.source, pretraining.data, pretraining.vocab
            ),
        ),
    ];
    facts.extend(results.domains.iter().map(|domain| {
        let overlap = domain.overlap.map(|o| format!("; {}", o.words())).unwrap_or_default();
        let data = format!("{}; {}{overlap}", domain.source, domain.data);
        (format!("Domain {}", domain.name), data)
    }));
    facts.extend(results.machines.iter().map(|machine| ("Machine".to_string(), machine.clone())));
    facts
}

/// Draws every figure and table into a folder of its own, writes the report, and returns the path of
/// its page.
///
/// # Errors
/// If a file cannot be written.
pub fn draw_all(results: &Results, out: &Path) -> Result<PathBuf> {
    let laws = Laws::of(results);
    let mut pages: Vec<(&Figure, Page)> = Vec::new();
    for &figure in FIGURES {
        let page = (figure.draw)(results, &laws)?;
        page.write_folder(figure, results, out)?;
        pages.push((figure, page));
    }
    let [html, _] = write(results, &laws, &pages, out)?;
    Ok(html)
}

#[cfg(test)]
mod tests;
