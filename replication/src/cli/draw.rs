//! `replication draw`: every figure, every table and the report from a file of results, such as
//! `results.json` beside an exported table of losses. Needs no libtorch and trains nothing.

use crate::report;
use crate::results::Results;
use crate::terminal::print;
use clap::Args;
use forgetting_laws::Result;
use std::path::PathBuf;

/// Which results to draw, and where.
#[derive(Args)]
pub struct Options {
    /// A results.json, as `replication export` writes it.
    results: PathBuf,
    /// Folder of the figures and the report [default: out/draw].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Draws the figures, tables and report of a file of results.
///
/// # Errors
/// If the file is not one of results, or a file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let results = Results::read(&options.results)?;
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from("out/draw"));
    let report = report::draw_all(&results, &out)?;
    print(&format!("report: {}\n", report.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::FIGURES;
    use crate::results::planted::planted;

    #[test]
    fn results_of_a_file_are_drawn_and_other_files_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let out = folder.path().join("drawn");
        let options = Options { results: path.clone(), out: Some(out.clone()) };
        let mut results = planted();
        results.domains.retain(|domain| domain.name == "far");
        results.finetuned.retain(|run| run.domain == "far");
        std::fs::write(&path, serde_json::to_vec(&results).unwrap()).unwrap();
        run(&options).unwrap();
        for figure in FIGURES {
            assert!(out.join(figure.id).join("summary.md").exists(), "{}", figure.id);
        }
        assert!(out.join("report.html").exists());
        std::fs::write(&path, "{\"preset\": 3}").unwrap();
        let message = run(&options).unwrap_err().to_string();
        assert!(message.contains("results.json") && message.contains("export"), "{message}");
    }
}
