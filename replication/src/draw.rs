//! `replication draw`: every figure, every table and the report from a file of results, such as
//! `results.json` beside an exported table of losses. Needs no libtorch and trains nothing.

use crate::figures::{FIGURES, Figure, Page};
use crate::progress::answer;
use crate::report;
use crate::results::{Laws, Results};
use clap::Args;
use forgetting_laws::store::Claim;
use forgetting_laws::{Error, Result};
use std::path::{Path, PathBuf};

/// Which results, and where to.
#[derive(Args)]
pub struct Options {
    /// A results.json, as `replication export` writes it.
    results: PathBuf,
    /// Folder of the figures and the report [default: out/draw].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Draws what a file of results says.
///
/// # Errors
/// If the file is none of ours, or a file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let results = read(&options.results)?;
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from("out/draw"));
    let report = everything(&results, &out)?;
    answer(&format!("report: {}\n", report.display()))
}

/// The results of a file.
///
/// # Errors
/// If it is none of ours.
pub fn read(path: &Path) -> Result<Results> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("{error}; it is to be a results.json of replication export");
        Error::content(path, error.line() as u64, reason)
    })
}

/// Draws every figure and table into a folder of its own and writes the report, whose page is
/// returned.
///
/// # Errors
/// If a file cannot be written.
pub fn everything(results: &Results, out: &Path) -> Result<PathBuf> {
    let laws = Laws::of(results);
    let mut pages: Vec<(&dyn Figure, Page)> = Vec::new();
    for &figure in FIGURES {
        let page = figure.draw(results, &laws)?;
        write(figure, &page, results, out)?;
        pages.push((figure, page));
    }
    let [html, _] = report::write(results, &laws, &pages, out)?;
    Ok(html)
}

/// Writes a figure into its folder, which is returned.
///
/// # Errors
/// If a file cannot be written.
pub fn write(figure: &dyn Figure, page: &Page, results: &Results, out: &Path) -> Result<PathBuf> {
    let folder = Claim::wait_for(&out.join(figure.id()))?;
    page.write(figure, results, folder.folder())?;
    Ok(folder.folder().to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::planted::planted;

    #[test]
    fn results_of_a_file_are_drawn_and_other_files_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let out = folder.path().join("drawn");
        let options = Options { results: path.clone(), out: Some(out.clone()) };
        std::fs::write(&path, serde_json::to_vec(&planted()).unwrap()).unwrap();
        run(&options).unwrap();
        for figure in FIGURES {
            assert!(out.join(figure.id()).join("summary.md").exists(), "{}", figure.id());
        }
        assert!(out.join("report.html").exists());
        std::fs::write(&path, "{\"preset\": 3}").unwrap();
        let message = run(&options).unwrap_err().to_string();
        assert!(message.contains("results.json") && message.contains("export"), "{message}");
    }
}
