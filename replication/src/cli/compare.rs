//! `replication compare`: the verdicts on every claim from several files of results side by side, for
//! example from synthetic and from real text. Needs no libtorch and trains nothing.

use crate::cli::values::named;
use crate::figures::{FIGURES, Finding, Table, style};
use crate::report;
use crate::results::{Laws, Results};
use crate::terminal::{print, with_progress};
use clap::Args;
use forgetting_laws::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which results to compare.
#[derive(Args)]
pub struct Options {
    /// results.json files, as `replication export` writes them. NAME=FILE names a column [default:
    /// the name of the file's folder].
    #[arg(required = true, num_args = 2..)]
    results: Vec<PathBuf>,

    /// Shows only the verdicts, without the numbers behind them and the rules.
    #[arg(long)]
    verdicts: bool,
}

/// Prints the verdicts of each file on every claim as a Markdown table, and their rules below it.
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
    let column = |(name, results): (String, Results)| {
        let findings = with_progress(&name, || findings(&results))?;
        Ok(Column { name, findings })
    };
    let columns: Vec<Column> = files.into_iter().map(column).collect::<Result<_>>()?;
    let claims = claims(&columns);
    let text = if options.verdicts {
        table(&claims, &columns, verdict).markdown()
    } else {
        let mut table = table(&claims, &columns, verdict_and_numbers);
        table.columns.insert(0, "no.".into());
        for (row, number) in table.rows.iter_mut().zip(1..) {
            row.insert(0, number.to_string());
        }
        format!("{}{}", table.markdown(), rules(&claims))
    };
    print(&text)
}

/// The findings of one file.
struct Column {
    name: String,
    /// Each finding, with the name of its figure.
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

/// The claims with the name of their figure: those of the first column, in the order of the figures,
/// then those that only later columns have.
fn claims(columns: &[Column]) -> Vec<(&str, &Finding)> {
    let mut claims: Vec<(&str, &Finding)> = Vec::new();
    for (figure, finding) in columns.iter().flat_map(|column| &column.findings) {
        if !claims.iter().any(|(of, known)| of == figure && known.claim == finding.claim) {
            claims.push((figure, finding));
        }
    }
    claims
}

/// The rules of the verdicts, each with the numbers of its rows in the table.
fn rules(claims: &[(&str, &Finding)]) -> String {
    let mut rules: Vec<(&str, Vec<String>)> = Vec::new();
    for (number, (_, claim)) in (1..).zip(claims) {
        let number = number.to_string();
        match rules.iter_mut().find(|(rule, _)| *rule == claim.rule) {
            Some((_, numbers)) => numbers.push(number),
            None => rules.push((&claim.rule, vec![number])),
        }
    }
    let line = |(rule, numbers): &(&str, Vec<String>)| {
        let are = if numbers.len() == 1 { ("Claim", "is") } else { ("Claims", "are each") };
        format!("- {} {} {} supported if {rule}\n", are.0, style::list(numbers), are.1)
    };
    let lines: String = rules.iter().map(line).collect();
    format!("\nThe rules of the verdicts:\n\n{lines}")
}

/// One row per claim.
fn table(claims: &[(&str, &Finding)], columns: &[Column], words: fn(&Finding) -> String) -> Table {
    let cells = |&(figure, row): &(&str, &Finding)| {
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
        rows: claims.iter().map(cells).collect(),
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
                rule: format!("{claim} holds."),
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
        let claims = claims(&columns);
        assert_eq!(table(&claims, &columns, verdict_and_numbers).markdown(), expected);
        let row = "| F2 | a (quoted) | not supported | supported |\n";
        assert!(table(&claims, &columns, verdict).markdown().contains(row));
        let expected = "
The rules of the verdicts:

- Claims 1 and 2 are each supported if a holds.
- Claim 3 is supported if b holds.
";
        assert_eq!(rules(&claims), expected);
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
