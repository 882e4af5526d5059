use super::*;
use crate::laws::{Additive, Finetuning, Forgetting};
use proptest::prelude::*;

const COLUMNS: [&str; 2] = ["size", "loss_ft"];

/// A run of the forgetting law's, N and D_ft in powers of ten.
fn run(n: i32, d_ft: i32, p: f64) -> Run {
    let size = |power| 10f64.powi(power);
    Run {
        row: Row { n_params: size(n), d_ft_tokens: size(d_ft), p, loss_pt0: 3.0, ..Row::default() },
        loss_pt: Some(3.5),
        loss_ft: Some(f64::from(n + d_ft)),
        ..Run::default()
    }
}

/// What the forgetting law can be fitted to; the lines are 2 to 9.
fn grid() -> Table {
    let mut runs = Vec::new();
    for (n, d_ft) in [(6, 5), (6, 6), (7, 5), (7, 6)] {
        runs.extend([run(n, d_ft, 0.0), run(n, d_ft, 0.01)]);
    }
    for (line, run) in (2..).zip(&mut runs) {
        run.line = Some(line);
    }
    Table { path: "a.csv".into(), ..Table::new(runs) }
}

fn refusal(table: &Table, law: &dyn Law) -> String {
    table.sample(law).unwrap_err().to_string()
}

/// The grid with a column of the third row, line 4, set.
fn with(column: Column, value: Option<f64>) -> Table {
    let mut table = grid();
    table.runs[2].set(column, value);
    table
}

#[test]
fn columns_are_set_and_got_by_their_own_names() {
    let mut run = Run::default();
    for (i, column) in Column::ALL.into_iter().enumerate() {
        assert_eq!(run.get(column), None);
        run.set(column, Some(i as f64));
        assert_eq!(column.to_string(), column.name());
        assert!(Column::ALL[..i].iter().all(|other| other.name() != column.name()));
    }
    for (i, column) in Column::ALL.into_iter().enumerate() {
        assert_eq!(run.get(column), Some(i as f64), "{column}");
        run.set(column, None);
        assert_eq!(run.get(column), None);
    }
}

#[test]
fn a_sample_has_the_rows_that_have_the_loss() {
    let mut table = grid();
    table.runs[1].loss_pt = None;
    table.runs[3].weight = 2.5;
    let sample = table.sample(&Forgetting).unwrap();
    let kept: Vec<_> = [0, 2, 3, 4, 5, 6, 7].map(|i| &table.runs[i]).into();
    assert_eq!(sample.len(), 7);
    assert!(!sample.is_empty());
    assert_eq!(sample.losses, [3.5; 7]);
    assert_eq!(sample.weights, [1.0, 1.0, 2.5, 1.0, 1.0, 1.0, 1.0]);
    for (i, run) in kept.into_iter().enumerate() {
        assert_eq!(sample.rows[i].n_params, run.row.n_params);
        assert_eq!(sample.points[i].ln_d_ft, run.row.d_ft_tokens.ln());
        assert_eq!(sample.points[i].p, run.row.p);
    }
    // Another law has all eight, of another loss.
    let losses = table.sample(&Finetuning).unwrap().losses;
    assert_eq!(losses, [11.0, 11.0, 12.0, 12.0, 12.0, 12.0, 13.0, 13.0]);
}

#[test]
fn rows_of_one_run_are_one_run() {
    let mut table = grid();
    for (run, name) in table.runs.iter_mut().zip(["b", "", "a", "b", "", "a", "c", "b"]) {
        run.run = name.into();
    }
    let sample = table.sample(&Forgetting).unwrap();
    assert_eq!(sample.runs, [0, 1, 2, 0, 3, 2, 4, 0]);
    assert_eq!(sample.n_runs, 5);
    let some = sample.select(&[7, 0, 2, 2]);
    assert_eq!((some.len(), some.n_runs), (4, 5));
    assert_eq!(some.runs, [0, 0, 2, 2]);
    assert_eq!(some.rows[0].d_ft_tokens, 1e6);
    assert_eq!(some.points[0].ln_d_ft, sample.points[7].ln_d_ft);
    assert_eq!((some.losses.len(), some.weights.len()), (4, 4));
    assert!(sample.select(&[]).is_empty());
}

#[test]
fn what_no_row_has_is_named_with_what_there_is() {
    let mut table = grid();
    let expected = "a.csv: the additive law needs loss, and no row has it; map another \
                    column to it (--map loss=NAME)";
    assert_eq!(refusal(&table, &Additive), expected);
    table.columns = COLUMNS.map(str::to_owned).to_vec();
    for run in &mut table.runs {
        run.set(Column::NParams, None);
    }
    let expected = "a.csv: the finetuning law needs n_params, and no row has it; the columns \
                    are size, loss_ft; map another column to it (--map n_params=NAME)";
    assert_eq!(refusal(&table, &Finetuning), expected);
    assert!(refusal(&Table::new(Vec::new()), &Finetuning).contains("needs loss_ft"));
}

#[test]
fn rows_that_lack_a_size_are_named() {
    let mut table = with(Column::DFtTokens, None);
    assert_eq!(refusal(&table, &Finetuning), "a.csv: line 4: have loss_ft and no d_ft_tokens");
    for run in &mut table.runs[..7] {
        run.set(Column::DFtTokens, None);
    }
    let expected = "a.csv: lines 2, 3, 4, 5, 6 and 2 more: have loss_ft and no d_ft_tokens";
    assert_eq!(refusal(&table, &Finetuning), expected);
    table.path = "a.PARQUET".into();
    assert!(refusal(&table, &Finetuning).starts_with("a.PARQUET: rows 2, 3, 4, 5, 6 and"));
    for run in &mut table.runs {
        run.line = None;
    }
    let expected = "a.PARQUET: 7 rows: have loss_ft and no d_ft_tokens";
    assert_eq!(refusal(&table, &Finetuning), expected);
    let mut wide = with(Column::DFtTokens, None);
    wide.runs[3] = wide.runs[2].clone();
    assert_eq!(refusal(&wide, &Finetuning), "a.csv: line 4: have loss_ft and no d_ft_tokens");
    // A row without the loss may lack what it likes.
    for run in &mut table.runs[..7] {
        run.loss_ft = None;
    }
    assert!(refusal(&table, &Finetuning).starts_with("distinct values of n_params = 1"));
}

#[test]
fn values_outside_their_domain_are_refused_with_their_lines() {
    for column in [Column::NParams, Column::DFtTokens, Column::LossPt0, Column::LossPt] {
        for bad in [0.0, -1.0, f64::INFINITY] {
            let expected = format!("a.csv: line 4: {column} must be a number above 0");
            assert_eq!(refusal(&with(column, Some(bad)), &Forgetting), expected);
        }
        assert!(with(column, Some(f64::MIN_POSITIVE)).sample(&Forgetting).is_ok());
    }
    let diverged = with(Column::LossPt, Some(f64::NAN));
    assert_eq!(refusal(&diverged, &Forgetting), "a.csv: line 4: loss_pt must be a number above 0");
    assert!(diverged.sample(&Finetuning).is_ok());
    let between = "a.csv: line 4: p must lie between 0 and 1";
    let percent = format!("{between}; `fit --percent` takes it for a percentage");
    for bad in [1.0 + f64::EPSILON, 5.0, 100.0] {
        assert_eq!(refusal(&with(Column::P, Some(bad)), &Forgetting), percent);
    }
    for bad in [-f64::MIN_POSITIVE, 101.0, f64::INFINITY] {
        assert_eq!(refusal(&with(Column::P, Some(bad)), &Forgetting), between);
    }
    for good in [0.0, -0.0, f64::MIN_POSITIVE, 1.0] {
        assert!(with(Column::P, Some(good)).sample(&Forgetting).is_ok());
    }
}

#[test]
fn more_unique_tokens_than_tokens_are_refused() {
    let expected = "a.csv: line 4: d_ft_tokens, the unique tokens, exceed d_tokens, all tokens";
    assert_eq!(refusal(&with(Column::DTokens, Some(999_999.0)), &Finetuning), expected);
    assert!(with(Column::DTokens, Some(1e6)).sample(&Finetuning).is_ok());
}

#[test]
fn weights_are_numbers_above_zero() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut table = grid();
        table.runs[2].weight = bad;
        let expected = "a.csv: line 4: the weight must be a number above 0";
        assert_eq!(refusal(&table, &Forgetting), expected);
    }
}

#[test]
fn too_few_distinct_values_are_refused() {
    let mut table = grid();
    for run in &mut table.runs {
        run.row.p = if run.row.p == 0.0 { 0.0 } else { -0.0 };
    }
    let expected = "distinct values of p = 1: the forgetting law needs at least 2: a single p \
                    does not determine its B";
    assert_eq!(refusal(&table, &Forgetting), expected);
    for run in &mut table.runs {
        run.row.d_ft_tokens = 1e5;
    }
    let expected = "distinct values of d_ft_tokens = 1: the finetuning law needs at least 2";
    assert_eq!(refusal(&table, &Finetuning), expected);
}

/// Replicates are no further settings.
#[test]
fn a_law_needs_as_many_settings_as_it_has_parameters() {
    let runs = |settings: &[(i32, i32)]| {
        let twice = settings.iter().chain(settings);
        Table::new(twice.map(|&(n, d_ft)| run(n, d_ft, 0.0)).collect())
    };
    let mut few = runs(&[(6, 5), (6, 6), (7, 5)]);
    few.runs.extend(few.runs.clone());
    let expected = "runs with distinct settings = 3: the finetuning law has 4 parameters and \
                    needs at least as many";
    assert_eq!(refusal(&few, &Finetuning), expected);
    assert!(runs(&[(6, 5), (6, 6), (7, 5), (7, 6)]).sample(&Finetuning).is_ok());
}

#[test]
fn rows_that_repeat_another_count_once() {
    let twin = |change: &dyn Fn(&mut Run)| {
        let mut other = run(6, 5, 0.0);
        change(&mut other);
        Table::new(vec![run(6, 5, 0.0), other])
    };
    let same = twin(&|run| run.line = Some(7));
    assert_eq!((same.runs.len(), same.runs[0].line), (1, None));
    let warning = "1 of 2 rows repeats another in every column and is counted once";
    assert_eq!(same.warnings, [WarningKind::RepeatedRows.warn(warning)]);
    assert_eq!(twin(&|run| run.row.p = -0.0).runs.len(), 1);
    let changes: [&dyn Fn(&mut Run); 7] = [
        &|run| run.domain = "a".into(),
        &|run| run.seed = "1".into(),
        &|run| run.run = "r".into(),
        &|run| run.parent = "m".into(),
        &|run| run.weight = 2.0,
        &|run| run.loss_pt = None,
        &|run| run.loss_ft = Some(3.0),
    ];
    for change in changes {
        let table = twin(change);
        assert_eq!((table.runs.len(), table.warnings.len()), (2, 0));
    }
    for column in Column::ALL {
        assert_eq!(twin(&|run| run.set(column, Some(0.25))).runs.len(), 2, "{column}");
    }
    let warning = "2 of 3 rows repeat another in every column and are counted once";
    let warned = Table::new(vec![run(6, 5, 0.0); 3]).warnings;
    assert_eq!(warned, [WarningKind::RepeatedRows.warn(warning)]);
}

#[test]
fn groups_are_the_tables_of_the_domains() {
    let mut table = grid();
    for (run, domain) in table.runs.iter_mut().zip(["b", "a", "b", "", "a", "b", "b", "b"]) {
        run.domain = domain.into();
    }
    table.warnings = vec![WarningKind::Other.warn("of all")];
    table.columns = COLUMNS.map(str::to_owned).to_vec();
    let groups = table.groups();
    let sizes: Vec<_> =
        groups.iter().map(|(name, group)| (name.as_str(), group.runs.len())).collect();
    assert_eq!(sizes, [("", 1), ("a", 2), ("b", 5)]);
    let lines = |i: usize| groups[i].1.runs.iter().filter_map(|run| run.line);
    assert_eq!(lines(2).collect::<Vec<_>>(), [2, 4, 7, 8, 9]);
    for (_, group) in &groups {
        assert_eq!((&group.path, &group.columns), (&table.path, &table.columns));
        assert!(group.warnings.is_empty());
    }
}

fn any_run() -> impl Strategy<Value = Run> {
    let loss = prop::option::of(0..2u8);
    (0..2u8, 0..2u8, 0..3i32, 0..3i32, 0..3u8, loss).prop_map(|(domain, seed, n, d, p, loss)| Run {
        domain: domain.to_string(),
        seed: seed.to_string(),
        loss_ft: loss.map(|loss| 1.0 + f64::from(loss)),
        ..run(n, d, f64::from(p) / 2.0)
    })
}

proptest! {
    /// Every row is in the group of its domain, and nowhere else.
    #[test]
    fn groups_part_the_rows(runs in prop::collection::vec(any_run(), 0..30)) {
        let table = Table::new(runs);
        let groups = table.groups();
        prop_assert!(groups.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let total: usize = groups.iter().map(|(_, group)| group.runs.len()).sum();
        prop_assert_eq!(total, table.runs.len());
        for (name, group) in groups {
            prop_assert!(!group.runs.is_empty());
            prop_assert!(group.runs.iter().all(|run| run.domain == name));
        }
    }

    /// What is left has no twins, is as long as the given rows less the warning's, and is found
    /// whatever the order.
    #[test]
    fn twins_go_once(runs in prop::collection::vec(any_run(), 0..30)) {
        let given = runs.len();
        let table = Table::new(runs.clone());
        let again = Table::new(table.runs.clone());
        prop_assert_eq!(again.runs.len(), table.runs.len());
        prop_assert!(again.warnings.is_empty());
        match table.warnings.first().and_then(|warning| warning.message.split(' ').next()) {
            Some(twins) => prop_assert_eq!(table.runs.len() + twins.parse::<usize>()?, given),
            None => prop_assert_eq!(table.runs.len(), given),
        }
        let reversed = Table::new(runs.into_iter().rev().collect());
        prop_assert_eq!(reversed.runs.len(), table.runs.len());
    }

    /// A table is refused or not whatever the order of its rows, and a sample is of its rows.
    #[test]
    fn the_order_of_rows_decides_nothing(runs in prop::collection::vec(any_run(), 0..30)) {
        let table = Table::new(runs);
        let reversed = Table { runs: table.runs.iter().rev().cloned().collect(), ..table.clone() };
        match (table.sample(&Finetuning), reversed.sample(&Finetuning)) {
            (Ok(sample), Ok(mut mirror)) => {
                let rows = table.runs.iter().filter_map(|run| run.loss_ft);
                prop_assert_eq!(&sample.losses, &rows.collect::<Vec<_>>());
                prop_assert_eq!(sample.n_runs, sample.len());
                mirror.losses.reverse();
                prop_assert_eq!(sample.losses, mirror.losses);
            }
            (Err(error), Err(mirror)) => {
                prop_assert_eq!(error.to_string(), mirror.to_string());
            }
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    }
}
