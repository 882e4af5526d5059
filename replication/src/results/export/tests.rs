use super::*;
use crate::blocks::MAIN;
use crate::results::Results;
use crate::results::planted::planted;
use forgetting_laws::fit::{Options, fit};
use forgetting_laws::laws::Forgetting;
use forgetting_laws::loss::Measured;
use forgetting_laws::run::{FinetuningTest, Outcome, TestLosses};
use forgetting_laws::table::read::{Loaded, Reading, read};
use forgetting_laws::table::{Run, Table};

/// A folder with the planted results.
fn exported() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&planted(), folder.path()).unwrap();
    folder
}

fn text(folder: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

/// What this program reads of a table, without what depends on the format.
fn runs(path: &Path, filters: &[&str]) -> Vec<Run> {
    let filters = filters.iter().map(ToString::to_string).collect();
    let reading = Reading { filters, ..Reading::default() };
    let Loaded { table, .. } = read(path, &reading).unwrap();
    assert_eq!(table.warnings, []);
    table.runs.into_iter().map(|run| Run { line: None, ..run }).collect()
}

const COUNTED: [&str; 2] = ["main=true", "left_out="];

#[test]
fn the_tables_are_read_back_and_are_those_of_the_laws() {
    let folder = exported();
    let [csv, parquet] = ["losses.csv", "losses.parquet"].map(|name| folder.path().join(name));
    let all = runs(&csv, &[]);
    assert_eq!(all.len(), planted().finetuned.len());
    assert_eq!(format!("{all:?}"), format!("{:?}", runs(&parquet, &[])));
    let counted = runs(&csv, &COUNTED);
    // The exported table names no runs: each row is one.
    let expected = planted().table(MAIN).runs.into_iter();
    let expected: Vec<_> = expected.map(|run| Run { run: String::new(), ..run }).collect();
    assert_eq!(counted, expected);
    assert_eq!(runs(&parquet, &COUNTED), expected);
}

/// Of a model that came pretrained nobody knows on how many tokens; the laws need not.
#[test]
fn unknown_tokens_of_the_pretraining_keep_no_law_from_being_fitted() {
    let mut results = planted();
    results.pretrained.iter_mut().for_each(|model| model.record.realised.tokens = 0);
    results.finetuned.iter_mut().for_each(|run| run.d_tokens = 0);
    let own = fit(&results.table(MAIN), &Forgetting, &Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(&results, folder.path()).unwrap();
    for name in ["losses.csv", "losses.parquet"] {
        let table = Table::new(runs(&folder.path().join(name), &COUNTED));
        let read = fit(&table, &Forgetting, &Options::default()).unwrap();
        assert_eq!(read.params, own.params);
    }
}

#[test]
fn every_column_of_every_table_is_explained_and_no_other() {
    let folder = exported();
    let dictionary = text(&folder, "dictionary.csv");
    let explained: Vec<_> = csv::Reader::from_reader(dictionary.as_bytes())
        .records()
        .map(|row| row.unwrap().iter().map(String::from).collect::<Vec<_>>())
        .collect();
    let mut found = Vec::new();
    for name in ["losses", "pretrained", "trajectories"] {
        let table = text(&folder, &format!("{name}.csv"));
        let header = table.lines().next().unwrap();
        found.extend(header.split(',').map(|column| (name.to_string(), column.to_string())));
        let mut names: Vec<_> = header.split(',').collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), header.split(',').count(), "a column of {name} comes twice");
    }
    let named: Vec<_> = explained.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(named, found);
    let markdown = text(&folder, "dictionary.md");
    for row in &explained {
        assert!(row[4].ends_with('.') && row[4].len() > 5, "{} is not explained", row[1]);
        assert!(markdown.contains(&format!("| {} | {} |", row[1], row[2])), "{}", row[1]);
    }
}

/// Where test sets were measured the losses that the laws read are theirs.
#[test]
fn losses_on_test_sets_count_and_stand_beside_those_of_the_validation_sets() {
    let mut results = planted();
    let measured = |value| Measured { value, error: 0.01 };
    for run in &mut results.pretrained {
        let loss_pt = measured(run.loss() + 0.1);
        run.record.test = Some(TestLosses { loss_pt, finetuning: None });
    }
    for run in &mut results.finetuned {
        let Some(bottom) = run.bottom() else { continue };
        let (loss_pt0, loss_pt) = (run.loss_pt0() + 0.1, bottom.loss_pt + 0.2);
        let finetuning = FinetuningTest {
            loss_ft: measured(bottom.loss_ft + 0.3),
            loss_pt0: measured(loss_pt0),
            increase: measured(loss_pt - loss_pt0),
        };
        let loss_pt = measured(loss_pt);
        run.record.test = Some(TestLosses { loss_pt, finetuning: Some(finetuning) });
    }
    let folder = tempfile::tempdir().unwrap();
    write(&results, folder.path()).unwrap();
    let counted = runs(&folder.path().join("losses.csv"), &COUNTED);
    let before = planted().table(MAIN).runs;
    assert_eq!(counted.len(), before.len());
    for (now, before) in counted.iter().zip(&before) {
        let added = |now: Option<f64>, before: Option<f64>| now.unwrap() - before.unwrap();
        assert!((now.row.loss_pt0 - before.row.loss_pt0 - 0.1).abs() < 1e-9);
        assert!((added(now.loss_pt, before.loss_pt) - 0.2).abs() < 1e-9);
        assert!((added(now.loss_ft, before.loss_ft) - 0.3).abs() < 1e-9);
    }
    let table = text(&folder, "losses.csv");
    let header: Vec<_> = table.lines().next().unwrap().split(',').collect();
    let first: Vec<_> = table.lines().nth(1).unwrap().split(',').collect();
    let cell = |name| first[header.iter().position(|column| *column == name).unwrap()];
    let number = |name| cell(name).parse::<f64>().unwrap();
    assert!((number("loss_pt") - number("loss_pt_validation") - 0.2).abs() < 1e-9);
    assert_eq!((cell("loss_ft_se"), cell("increase_se")), ("0.01", "0.01"));
    assert!(text(&folder, "dictionary.csv").contains("pretraining's test set"));
    assert!(!text(&exported(), "dictionary.csv").contains("test set"));
}

#[test]
fn equal_results_give_equal_bytes() {
    let (a, b) = (exported(), exported());
    let mut names: Vec<_> =
        fs::read_dir(a.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 10);
    for name in names {
        let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(&name)).unwrap();
        assert_eq!(read(&a), read(&b), "{name:?}");
    }
}

#[test]
fn trajectories_hold_every_evaluation_of_every_run() {
    let folder = exported();
    let results = planted();
    let pretrained = results.pretrained.iter().map(|run| &run.record);
    let records = pretrained.chain(results.finetuned.iter().map(|run| &run.record));
    let expected: Vec<_> = records
        .flat_map(|record| record.evaluations.iter().map(move |e| (record.id.to_string(), *e)))
        .collect();
    let table = text(&folder, "trajectories.csv");
    let rows: Vec<_> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), expected.len());
    for (row, (id, evaluation)) in rows.iter().zip(&expected) {
        let cells: Vec<_> = row.split(',').collect();
        assert_eq!((cells[0], cells[2]), (id.as_str(), evaluation.step.to_string().as_str()));
        let loss = |cell: &str| cell.parse().unwrap_or(f64::NAN);
        assert_eq!(loss(cells[4]).to_bits(), (evaluation.loss_ft).to_bits());
        assert_eq!(loss(cells[5]), evaluation.loss_pt);
        assert_eq!(cells[6].parse().ok(), evaluation.loss_train);
    }
}

#[test]
fn results_are_read_back_whole() {
    let folder = exported();
    let read: Results = serde_json::from_str(&text(&folder, "results.json")).unwrap();
    assert_eq!(read.hash(), planted().hash());
}

#[test]
fn runs_that_do_not_count_stay_in_the_table_with_their_reason() {
    let mut results = planted();
    let broken = &mut results.finetuned[0].record;
    broken.outcome = Outcome::Diverged { step: 3 };
    for evaluation in &mut broken.evaluations {
        (evaluation.loss_ft, evaluation.loss_pt) = (f64::NAN, f64::INFINITY);
    }
    let folder = tempfile::tempdir().unwrap();
    write(&results, folder.path()).unwrap();
    let at_end = planted().finetuned.iter().filter(|run| run.left_out().is_some()).count();
    assert_eq!(at_end, 1);
    for name in ["losses.csv", "losses.parquet"] {
        let path = folder.path().join(name);
        assert_eq!(runs(&path, &["left_out=bottom_at_end", "interior=false"]).len(), 1);
        let diverged = runs(&path, &["left_out=diverged"]);
        assert_eq!(diverged.len(), 1);
        assert_eq!((diverged[0].loss_pt, diverged[0].loss_ft), (None, None));
        let counted = runs(&path, &["left_out="]);
        assert_eq!(counted.len(), results.finetuned.len() - 2);
    }
    let datasheet = text(&folder, "DATASHEET.md");
    assert!(datasheet.contains("`diverged`, 1 of 300: a loss was no longer finite"), "{datasheet}");
}

/// Two sizes of the planted grid with losses that are the same on every machine.
fn pinned() -> Results {
    let mut results = planted();
    results.pretrained.retain(|run| run.rank < 2);
    let parents: Vec<_> = results.pretrained.iter().map(|run| run.record.id.clone()).collect();
    results.finetuned.retain(|run| parents.contains(&run.parent) && run.domain == "far");
    results.finetuned.retain(|run| run.d_ft_tokens == 5_120);
    let runs = results.finetuned.iter_mut().map(|run| &mut run.record);
    let records = results.pretrained.iter_mut().map(|run| &mut run.record).chain(runs);
    for (i, record) in records.enumerate() {
        record.evaluations.truncate(3);
        for (j, evaluation) in record.evaluations.iter_mut().enumerate() {
            let at = 2.0 + i as f64 / 16.0;
            // Pretraining has no target.
            if !evaluation.loss_ft.is_nan() {
                // A U: down and up again.
                evaluation.loss_ft = at + [0.5, 0.25, 0.375][j];
            }
            evaluation.loss_pt = at + j as f64 / 8.0;
            evaluation.loss_train = (j > 0).then_some(at - j as f64 / 4.0);
        }
    }
    let diverged = &mut results.finetuned[1].record;
    diverged.outcome = Outcome::Diverged { step: diverged.evaluations[2].step };
    diverged.evaluations[2].loss_ft = f64::NAN;
    results
}

#[test]
fn the_tables_are_the_pinned_ones() {
    let folder = tempfile::tempdir().unwrap();
    write(&pinned(), folder.path()).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/figures/export");
    for name in ["losses.csv", "pretrained.csv", "trajectories.csv", "dictionary.csv"] {
        let (made, path) = (text(&folder, name), golden.join(name));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&golden).unwrap();
            fs::write(&path, &made).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(made, expected, "{}; if it is meant, set UPDATE_GOLDEN=1", path.display());
    }
}

#[test]
fn the_overlap_stands_in_the_datasheet_where_it_was_measured() {
    use forgetting_laws::data::overlap::Overlap;
    use forgetting_laws::data::overlap::Overlaps;
    let mut results = planted();
    let without = datasheet::markdown(&results, &[]);
    assert!(!without.contains("13-grams"));
    let training = Overlap { n: 13, ngrams: 400, found: 1, documents: 8, touched: 1 };
    let pretraining = Overlap { found: 40, touched: 4, ..training };
    let overlap = Overlaps { pretraining, training };
    results.domains[0].overlap = Some(overlap);
    let with = datasheet::markdown(&results, &[]);
    let line = format!(
        "- {}: 10.00% of the validation set's 13-grams occur in the pretraining data (at least one in \
         50.0% of the documents), and 0.25% in the target's own training text (at least one in 12.5% \
         of the documents)\n",
        results.domains[0].name
    );
    assert!(with.contains(&line), "{with}");
    assert_eq!(overlap.warning("a"), None);
    let high = Overlaps { training: Overlap { found: 41, ..training }, pretraining };
    let warning = high.warning("a").unwrap();
    assert!(warning.contains("domain a: ") && warning.contains("10.25%"), "{warning}");
}
