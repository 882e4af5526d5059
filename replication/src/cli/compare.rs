//! `replication compare`: the verdicts on every claim from several files of results side by side, for
//! example from synthetic and from real text. Needs no libtorch and trains nothing.

use crate::cli::values::named;
use crate::figures::{FIGURES, Finding, Table};
use crate::report;
use crate::results::{Laws, Results};
use crate::terminal::print;
use clap::Args;
use forgetting_laws::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which results to compare.
#[derive(Args)]
pub struct Options {
    /// Files results.json, as `replication export` writes them. NAME=FILE names a column [default:
    /// the name of the file's folder].
    #[arg(required = true, num_args = 2..)]
    results: Vec<PathBuf>,

    /// Shows only the verdicts, without the numbers behind them.
    #[arg(long)]
    verdicts: bool,
}

/// Prints the verdicts of each file on every claim, as a Markdown table.
///
/// # Errors
/// If a file is not one of results, or two have the same name.
pub fn run(options: &Options) -> Result<()> {
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    for given in &options.results {
        let (name, path) = column_of(given);
        if !names.insert(name.clone()) {
            let requirement = "is given twice; name the columns with NAME=FILE";
            return Err(Error::setting("results", name, requirement));
        }
        files.push((name, path));
    }
    // The laws of one file take a while: all are read before any is judged.
    let read = |(name, path): (String, PathBuf)| Ok((name, Results::read(&path)?));
    let files: Vec<_> = files.into_iter().map(read).collect::<Result<_>>()?;
    let column = |(name, results)| Ok(Column { name, findings: findings(&results)? });
    let columns: Vec<Column> = files.into_iter().map(column).collect::<Result<_>>()?;
    let words = if options.verdicts { verdict } else { verdict_and_numbers };
    print(&table(&columns, words).markdown())
}

/// The findings of one file.
struct Column {
    name: String,
    /// With the name of their figure.
    findings: Vec<(String, Finding)>,
}

fn findings(results: &Results) -> Result<Vec<(String, Finding)>> {
    let laws = Laws::of(results);
    let mut findings = Vec::new();
    for &figure in FIGURES {
        let page = (figure.draw)(results, &laws)?;
        findings.extend(page.findings.into_iter().map(|finding| (report::name(figure), finding)));
    }
    Ok(findings)
}

/// `NAME=FILE`, or the name of the file's folder.
fn column_of(given: &Path) -> (String, PathBuf) {
    named(given).unwrap_or_else(|| {
        let folder = given.parent().and_then(Path::file_name).unwrap_or(given.as_os_str());
        (folder.to_string_lossy().into_owned(), given.into())
    })
}

fn verdict(finding: &Finding) -> String {
    finding.verdict.words().into()
}

fn verdict_and_numbers(finding: &Finding) -> String {
    format!("**{}**: {}", finding.verdict.words(), finding.ours)
}

/// One row per finding of the first column, in the order of the figures, then those that only later
/// columns have.
fn table(columns: &[Column], words: fn(&Finding) -> String) -> Table {
    let mut rows: Vec<(&str, &Finding)> = Vec::new();
    for (figure, finding) in columns.iter().flat_map(|column| &column.findings) {
        if !rows.iter().any(|(of, row)| of == figure && row.claim == finding.claim) {
            rows.push((figure, finding));
        }
    }
    let cells = |(figure, row): (&str, &Finding)| {
        let of = |column: &Column| {
            let same =
                |(of, finding): &&(String, Finding)| of == figure && finding.claim == row.claim;
            column.findings.iter().find(same).map_or("–".into(), |(_, finding)| words(finding))
        };
        let head = [figure.to_string(), format!("{} ({})", row.claim, row.source)];
        head.into_iter().chain(columns.iter().map(of)).collect()
    };
    let names = columns.iter().map(|column| column.name.clone());
    Table {
        caption: String::new(),
        columns: ["figure", "claim"].map(String::from).into_iter().chain(names).collect(),
        rows: rows.into_iter().map(cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Verdict;

    fn column(name: &str, findings: &[(&str, &str, Verdict)]) -> Column {
        let finding = |&(figure, claim, verdict): &(&str, &str, Verdict)| {
            let finding = Finding {
                claim: claim.into(),
                source: "quoted".into(),
                ours: format!("by {name} | yes"),
                rule: "ours".into(),
                verdict,
            };
            (figure.to_string(), finding)
        };
        Column { name: name.into(), findings: findings.iter().map(finding).collect() }
    }

    #[test]
    fn claims_stand_side_by_side() {
        let columns = [
            column("one", &[("F1", "a", Verdict::Supported), ("F2", "a", Verdict::NotSupported)]),
            column("two", &[("F2", "a", Verdict::Supported), ("F2", "b", Verdict::NotTestable)]),
        ];
        let expected = "\
| figure | claim | one | two |
|---|---|---|---|
| F1 | a (quoted) | **supported**: by one \\| yes | – |
| F2 | a (quoted) | **not supported**: by one \\| yes | **supported**: by two \\| yes |
| F2 | b (quoted) | – | **not testable at this scale**: by two \\| yes |
";
        assert_eq!(table(&columns, verdict_and_numbers).markdown(), expected);
        let row = "| F2 | a (quoted) | not supported | supported |\n";
        assert!(table(&columns, verdict).markdown().contains(row));
    }

    #[test]
    fn columns_are_named_once() {
        let path = Path::new("nowhere/real/results.json");
        assert_eq!(column_of(path), ("real".into(), path.into()));
        assert_eq!(column_of(Path::new("x=a/b.json")), ("x".into(), "a/b.json".into()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let planted = crate::results::planted::planted();
        std::fs::write(&path, serde_json::to_vec(&planted).unwrap()).unwrap();
        let twice = Options { results: vec![path.clone(), path.clone()], verdicts: false };
        let message = run(&twice).unwrap_err().to_string();
        assert!(message.contains("twice") && message.contains("NAME=FILE"), "{message}");
        let missing = vec![path, folder.path().join("other/none.json")];
        let missing = Options { results: missing, verdicts: false };
        assert!(run(&missing).unwrap_err().to_string().contains("none.json"));
    }
}
