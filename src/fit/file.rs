//! The file of fitted laws: what `fit` writes and `predict` and `advise` read.

use crate::fit::checklist::Checklist;
use crate::fit::sweep::Variant;
use crate::fit::{Comparison, Fit, GrowthOfB, HoldOut, Preferred, Proof, Ranking};
use crate::formats::json;
use crate::laws::Law;
use crate::store::{to_json_lines, write_atomic};
use crate::warning::Warning;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The format that this program writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The laws that were fitted to a table. Equal tables, options and programs give equal bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LawFile {
    /// [`FORMAT`].
    pub format: u32,
    /// The program and its version.
    pub program: String,
    /// Its commit, with `-dirty` if files were changed.
    pub commit: String,
    /// What was fitted.
    pub input: Input,
    /// The fitted laws, by group.
    pub groups: Vec<Group>,
    /// The forms compared on held-out rows.
    pub comparisons: Vec<Comparison>,
    /// The checklist; empty in files of earlier versions.
    #[serde(default)]
    pub checklist: Checklist,
    /// The forms of each group and loss, ranked by their errors on held-out runs.
    #[serde(default)]
    pub rankings: Vec<Ranking>,
    /// Whether B of Equation 7 grows with D_ft, for each group that can tell.
    #[serde(default)]
    pub growths: Vec<Growth>,
}

/// How B of Equation 7 depends on D_ft in a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The group.
    pub domain: String,
    /// The exponent.
    #[serde(flatten)]
    pub growth: GrowthOfB,
}

/// A table and how it was read, as the command line had it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The file.
    pub path: String,
    /// Hex SHA-256 of it.
    pub sha256: String,
    /// `--map`.
    pub map: Vec<String>,
    /// `--where`.
    #[serde(rename = "where")]
    pub filters: Vec<String>,
    /// `--wide`.
    pub wide: Option<String>,
    /// `--group-by`.
    pub group_by: Option<String>,
    /// `--runs`.
    pub runs: Option<String>,
    /// `--weight`.
    pub weight: Option<String>,
    /// `--percent`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub percent: bool,
    /// `--decimal-comma`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decimal_comma: bool,
    /// Which rows were held out.
    pub hold_out: Option<HoldOut>,
    /// Warnings about the table.
    pub warnings: Vec<Warning>,
}

/// A law of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// The law.
    #[serde(flatten)]
    pub fit: Fit,
    /// A lower bound on the objective over all parameters, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The law under other objectives, if requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<Variant>,
}

impl LawFile {
    /// The fits.
    pub fn fits(&self) -> impl Iterator<Item = &Fit> {
        self.groups.iter().map(|group| &group.fit)
    }

    /// The names of the groups, each once; an empty one if the table had no groups.
    pub fn domains(&self) -> Vec<&str> {
        let mut domains: Vec<&str> = Vec::new();
        for fit in self.fits() {
            if !domains.contains(&fit.domain.as_str()) {
                domains.push(&fit.domain);
            }
        }
        domains
    }

    /// The ranking of the group's forms for the loss that a law predicts, if they were ranked.
    pub fn ranking(&self, domain: &str, law: &dyn Law) -> Option<&Ranking> {
        let of_loss =
            |ranking: &&Ranking| ranking.domain == domain && ranking.loss == law.output().name();
        self.rankings.iter().find(of_loss)
    }

    /// The form that this ranking prefers.
    pub fn preferred(&self, domain: &str, law: &dyn Law) -> Option<Preferred> {
        self.ranking(domain, law)?.preferred()
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, &self.json())
    }

    /// The file's bytes.
    pub fn json(&self) -> Vec<u8> {
        // The rows of a law lie at this depth.
        to_json_lines(self, 5)
    }
}

/// Reads what [`LawFile::write`] has written.
///
/// # Errors
/// In one line: if the file does not exist, is not JSON (with the line), was written by another
/// program or version, or its numbers are inconsistent.
pub fn read(path: &Path) -> Result<LawFile> {
    parse(path, &fs::read(path).map_err(Error::io(path))?)
}

/// Reads the bytes of a file; errors name the path.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<LawFile> {
    const WANTED: &str = "expected the law.json that `replication fit` writes";
    let value: serde_json::Value = json::whole(path, bytes, &format!("JSON; {WANTED}"))?;
    let refuse = |reason: String| Error::content(path, None, reason);
    if value.get("groups").is_none() {
        return Err(refuse(format!("holds no fitted laws; {WANTED}")));
    }
    match value.get("format") {
        Some(format) if *format == FORMAT => {}
        format => {
            let found = format.map_or("no format".into(), |format| format!("format {format}"));
            return Err(refuse(format!(
                "has {found}, and this program reads format {FORMAT}; fit the table again"
            )));
        }
    }
    drop(value);
    // Parsed from the text and not from the value, so that an error has a line.
    let file: LawFile = json::whole(path, bytes, &format!("as it was written; {WANTED}"))?;
    if file.groups.is_empty() {
        return Err(refuse("holds no fitted laws; fit the table again".into()));
    }
    let found = file.fits().find_map(fault);
    match found {
        None => Ok(file),
        Some(fault) => Err(refuse(format!("is damaged: {fault}; fit the table again"))),
    }
}

/// What in a fit does not fit together.
fn fault(fit: &Fit) -> Option<String> {
    let names: Vec<_> = fit.law.parameters().iter().map(|parameter| parameter.name).collect();
    let found: Vec<_> = fit.params.0.iter().map(|param| param.name.as_str()).collect();
    let law = fit.law.name();
    if names != found {
        return Some(format!(
            "the {law} law has {} and not {}",
            names.join(", "),
            found.join(", ")
        ));
    }
    let good = |value: &f64| *value >= 0.0;
    if let Some(param) = fit.params.0.iter().find(|param| !good(&param.value)) {
        return Some(format!("{} of the {law} law is {}", param.name, param.value));
    }
    if fit.rows.is_empty() || fit.rows.len() != fit.n_rows {
        let count = fit.rows.len();
        return Some(format!("the {law} law has {count} rows and should have {}", fit.n_rows));
    }
    let held_out = fit.held_out.iter().flat_map(|held_out| &held_out.rows);
    if held_out.map(|row| row.index).any(|index| index >= fit.rows.len()) {
        return Some(format!("the {law} law has a held-out row that is none of its rows"));
    }
    let resampled = fit.bootstrap.as_ref()?;
    let whole = |values: &Vec<f64>| values.len() == names.len() && values.iter().all(good);
    let level = resampled.level > 0.0 && resampled.level < 1.0;
    let complete = resampled.draws.len() == resampled.resamples && !resampled.draws.is_empty();
    (!(level && complete && resampled.draws.iter().all(whole)))
        .then(|| format!("the resamples of the {law} law are not complete"))
}
