//! The paper's figures and tables, and further ones. Each makes a page from the results of the grid. A
//! figure is one file here and one line in [`FIGURES`].
//!
//! The numbers of figures are those of arXiv v2 unless a page says PMLR; see PAPER_MAPPING.md.

pub mod beyond;
#[cfg(test)]
pub(crate) mod golden;
pub mod paper;
pub mod style;

use beyond::{ablations, b_from_text, counting, isoflop, path, prevented};
use paper::{fig1, fig2, fig3, fig4, fig5, fig6, fig14, fig17, table1, table2, table3, table4};

pub use crate::format::Table;
use crate::results::{Laws, Results};
use forgetting_laws::Result;
use forgetting_laws::store::{Claim, write_atomic};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A figure or a table: what it is called, what it needs, and how it is drawn.
pub struct Figure {
    /// The command's name, as `fig1` or `table4`; also the folder.
    pub id: &'static str,
    /// What the paper calls it, with the numbering, as "Figure 1 (arXiv v2)"; "beyond the paper"
    /// where it is ours.
    pub paper: &'static str,
    /// What it shows, in a line.
    pub title: &'static str,
    /// The blocks of the grid whose runs it needs.
    pub blocks: &'static [&'static str],
    /// Draws it from what runs there are; fails only where the results cannot be drawn at all. A run
    /// that is missing is left out and said so in a note.
    pub draw: fn(&Results, &Laws) -> Result<Page>,
}

/// Every figure and table, in the order of the report.
pub const FIGURES: &[&Figure] = &[
    &fig1::FIG1,
    &fig2::FIG2,
    &fig14::FIG14,
    &fig3::FIG3,
    &fig4::FIG4,
    &fig5::FIG5,
    &fig6::FIG6,
    &fig17::FIG17,
    &table1::TABLE1,
    &table2::TABLE2,
    &table3::TABLE3,
    &table4::TABLE4,
    &counting::COUNTING,
    &isoflop::ISOFLOP,
    &path::PATH,
    &prevented::PREVENTED,
    &b_from_text::B_FROM_TEXT,
    &ablations::ABLATIONS,
];

/// What a figure gives.
#[derive(Default)]
pub struct Page {
    /// The drawing; None for a table.
    pub drawing: Option<plot::Figure>,
    /// Every number that is drawn, by file stem: the first is that of the figure's own name.
    pub csv: Vec<(String, String)>,
    /// Tables for people.
    pub tables: Vec<Table>,
    /// The paper's claims beside what these runs say.
    pub findings: Vec<Finding>,
    /// What the reader should know, a sentence or a few each.
    pub notes: Vec<String>,
}

/// What the runs say of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds, by the stated tolerance.
    Supported,
    /// It does not.
    NotSupported,
    /// These runs cannot tell; the finding says why.
    NotTestable,
}

impl Verdict {
    /// The verdict as pages print it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::NotSupported => "not supported",
            Self::NotTestable => "not testable at this scale",
        }
    }

    /// The verdict of a test that could be made.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Supported } else { Self::NotSupported }
    }
}

/// A claim or a number of the paper beside ours.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The claim: the paper's words in quotation marks, or what readers report of it.
    pub claim: String,
    /// Where it stands and how sure we are of it, as "abstract, quoted".
    pub source: String,
    /// What these runs show, with numbers.
    pub ours: String,
    /// The rule of the verdict: what follows "Supported if", with a full stop. The rules are ours.
    pub rule: String,
    /// The verdict.
    pub verdict: Verdict,
}

impl Page {
    /// Writes the figure into a folder of its own within `out`, which is returned.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_folder(&self, figure: &Figure, results: &Results, out: &Path) -> Result<PathBuf> {
        let folder = Claim::wait_for(&out.join(figure.id))?;
        self.write(figure, results, folder.folder())?;
        Ok(folder.folder().to_path_buf())
    }

    /// Writes the drawing as SVG and PNG, the tables as CSV, and a summary in Markdown into
    /// `folder`, which is there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, figure: &Figure, results: &Results, folder: &Path) -> Result<()> {
        for (stem, csv) in &self.csv {
            write_atomic(&folder.join(format!("{stem}.csv")), csv.as_bytes())?;
        }
        if let Some(drawing) = &self.drawing {
            drawings::write(drawing, &folder.join(figure.id))?;
        }
        let summary = self.markdown(figure, results);
        write_atomic(&folder.join("summary.md"), summary.as_bytes())
    }

    /// The summary: claims first.
    pub fn markdown(&self, figure: &Figure, results: &Results) -> String {
        let mut text = format!("# {}: {}\n\n", figure.paper, figure.title);
        for finding in &self.findings {
            let Finding { claim, source, ours, rule, verdict } = finding;
            let _ = writeln!(
                text,
                "- **{}**: {claim} ({source})\n  Here: {ours}\n  Supported if {rule}",
                verdict.words()
            );
        }
        if !self.findings.is_empty() {
            text.push('\n');
        }
        if self.drawing.is_some() {
            let _ = writeln!(text, "![{}]({}.png)\n", figure.title, figure.id);
        }
        for table in &self.tables {
            let _ = writeln!(text, "{}", table.markdown());
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        let _ = writeln!(
            text,
            "\nDrawn from {} runs of the preset {}; {} runs are missing. The hash of all records is \
             {}. Program of the results: {}. Runs made by: {}.",
            results.pretrained.len() + results.finetuned.len(),
            results.preset,
            results.missing,
            results.hash(),
            results.program,
            results.machines.join("; ")
        );
        text
    }
}
