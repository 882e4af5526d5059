//! How often the intervals of new runs cover their losses, away from the fitted runs: on the
//! committed tables, with each size, each amount of data, each p and the largest held out in turn,
//! and on tables generated from laws that are right and from laws that are wrong in known ways.
//!
//! ```sh
//! cargo run -p forgetting-laws --example new_runs --features fit -- 40 200
//! ```
//!
//! The arguments are the numbers of planted tables of each kind and of resamples for each fit.
//! Prints CSV: table, law, axis, level, runs, held, share, and the same for intervals that assume
//! the law is right, with the median ratio of their widths. Nothing depends on the number of
//! threads.

use forgetting_laws::fit::{Bootstrap, Fit, Interval, Options, fit};
use forgetting_laws::laws::{
    Finetuning, Forgetting, ForgettingBounded, ForgettingPlusTokens, ForgettingTimesTokens, Law,
    Row,
};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Column, Run, Table};
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The nominal levels.
pub const LEVELS: [f64; 3] = [0.5, 0.8, 0.9];

/// Which runs are held out.
pub const AXES: [&str; 4] = ["size", "data", "p", "largest"];

/// The committed tables, below `golden/nano`.
pub const TABLES: [&str; 3] = ["synthetic", "real", "more-data"];

/// How intervals of one level did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Count {
    /// The new runs.
    pub runs: usize,
    /// Those that the interval holds.
    pub held: usize,
    /// Those that the interval holds which takes the law for right.
    pub held_if_right: usize,
    /// How many times as wide the former is, for each run.
    pub widths: Vec<f64>,
}

/// What was counted, by table, law, axis and level.
pub type Counts = BTreeMap<(String, String, String, usize), Count>;

/// Prints the study.
pub fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| {
        text.parse::<usize>().map_err(|_| Error::setting("argument", &text, "must be a number"))
    });
    let tables = arguments.next().transpose()?.unwrap_or(40);
    let resamples = arguments.next().transpose()?.unwrap_or(200);
    let mut counts = Counts::new();
    for name in TABLES {
        for (domain, table) in committed(name)? {
            for law in LAWS.into_iter().chain(other_forms()) {
                for axis in AXES {
                    let at = [format!("{name}, {domain}"), law.name().into(), axis.into()];
                    held_out(&table, law, axis, resamples, &at, &mut counts)?;
                }
            }
        }
    }
    let mut together = Counts::new();
    for ((_, law, axis, level), count) in &counts {
        let is_the_papers = LAWS.iter().any(|of_paper| of_paper.name() == law);
        let law = if is_the_papers { "both" } else { law };
        for axis in [axis.as_str(), "together"] {
            let key = ("committed".into(), law.into(), axis.into(), *level);
            add(together.entry(key).or_default(), count);
        }
    }
    for truth in TRUTHS {
        planted(&truth, tables, resamples, &mut counts)?;
    }
    print!("{}", csv(&counts.into_iter().chain(together).collect()));
    Ok(())
}

/// The laws of the paper.
pub const LAWS: [&dyn Law; 2] = [&Forgetting, &Finetuning];

/// The forms of the forgetting law that rankings prefer, on models with a vocabulary of 512 tokens.
pub fn other_forms() -> [&'static dyn Law; 3] {
    [&ForgettingTimesTokens, &ForgettingPlusTokens, ForgettingBounded::of(512)]
}

fn add(sum: &mut Count, count: &Count) {
    sum.runs += count.runs;
    sum.held += count.held;
    sum.held_if_right += count.held_if_right;
    sum.widths.extend(&count.widths);
}

/// The counts as CSV.
pub fn csv(counts: &Counts) -> String {
    let mut text = String::from(
        "table,law,axis,level,runs,held,share,held_if_right,share_if_right,width_ratio\n",
    );
    for ((table, law, axis, level), count) in counts {
        let share = |held: usize| held as f64 / count.runs as f64;
        let mut widths = count.widths.clone();
        widths.sort_by(f64::total_cmp);
        let (held, if_right) = (count.held, count.held_if_right);
        text += &format!(
            "\"{table}\",{law},{axis},{},{},{held},{:.3},{if_right},{:.3},{:.2}\n",
            LEVELS[*level],
            count.runs,
            share(held),
            share(if_right),
            widths[widths.len() / 2]
        );
    }
    text
}

/// The runs of a committed table that count in the fits, by domain.
pub fn committed(name: &str) -> Result<Vec<(String, Table)>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/nano").join(name).join("losses.csv");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let place = |name: &str| {
        header
            .iter()
            .position(|column| *column == name)
            .ok_or_else(|| Error::content(&path, 1, format!("there is no column {name}")))
    };
    let [domain, parent, main, left_out] =
        [place("domain")?, place("parent_id")?, place("main")?, place("left_out")?];
    let mut columns = Vec::new();
    for column in Column::ALL.into_iter().filter(|column| *column != Column::Loss) {
        columns.push((column, place(column.name())?));
    }
    let mut runs = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        if cells[main] != "true" || !cells[left_out].is_empty() {
            continue;
        }
        let (domain, parent) = (cells[domain].into(), cells[parent].into());
        let mut run = Run { domain, parent, ..Run::default() };
        for (column, place) in &columns {
            run.set(*column, cells[*place].parse().ok());
        }
        runs.push(run);
    }
    Ok(Table::new(runs).groups())
}

/// Fits a law without the runs of each value of an axis, and asks it for them.
pub fn held_out(
    table: &Table,
    law: &'static dyn Law,
    axis: &str,
    resamples: usize,
    at: &[String; 3],
    counts: &mut Counts,
) -> Result<()> {
    let value = |run: &Run| match axis {
        "size" => run.row.n_params,
        "data" => run.row.d_ft_tokens,
        _ => run.row.p,
    };
    let reads_p = law.reads(Column::P);
    if axis == "p" && !reads_p {
        return Ok(());
    }
    let most = |of: fn(&Run) -> f64| table.runs.iter().map(of).fold(0.0, f64::max);
    let (n, d) = (most(|run| run.row.n_params), most(|run| run.row.d_ft_tokens));
    let mut folds: Vec<(Vec<Run>, Vec<Run>)> = Vec::new();
    if axis == "largest" {
        let is = |run: &Run| (run.row.n_params == n, run.row.d_ft_tokens == d);
        let of =
            |wanted: (bool, bool)| table.runs.iter().filter(|r| is(r) == wanted).cloned().collect();
        folds.push((of((false, false)), of((true, true))));
    } else {
        let mut values: Vec<f64> = table.runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        for held in values {
            folds.push(table.runs.iter().cloned().partition(|run| value(run) != held));
        }
    }
    for (fitted, new) in folds {
        let sizes = |runs: &[Run]| runs.iter().any(|run| run.row.n_params != runs[0].row.n_params);
        if new.is_empty() || fitted.is_empty() || !sizes(&fitted) {
            continue;
        }
        // Where too few are left there is no law and no interval.
        if let Ok(fit) = fitted_to(Table::new(fitted), law, resamples) {
            count(&fit, &new, at, counts);
        }
    }
    Ok(())
}

fn fitted_to(table: Table, law: &'static dyn Law, resamples: usize) -> Result<Fit> {
    let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
    fit(&table, law, &Options { bootstrap, hold_out: None, ..Options::default() })
}

/// Counts which new runs lie in their intervals.
fn count(fit: &Fit, new: &[Run], at: &[String; 3], counts: &mut Counts) {
    for run in new {
        let Some(loss) = run.get(fit.law.output()) else { continue };
        let (outcomes, if_right) = (fit.outcomes(&run.row), fit.outcomes_if_right(&run.row));
        for (level, share) in LEVELS.into_iter().enumerate() {
            let of = |losses: &[f64]| Interval::of(losses.to_vec(), share);
            let (Some(wide), Some(narrow)) = (of(&outcomes), of(&if_right)) else { continue };
            let [table, law, axis] = at.clone();
            let count = counts.entry((table, law, axis, level)).or_default();
            let holds = |interval: Interval| interval.low <= loss && loss <= interval.high;
            count.runs += 1;
            count.held += usize::from(holds(wide));
            count.held_if_right += usize::from(holds(narrow));
            count.widths.push((wide.high / wide.low).ln() / (narrow.high / narrow.low).ln());
        }
    }
}

/// What planted runs really follow.
pub struct Truth {
    /// Its name in the table.
    pub name: &'static str,
    /// The law that is fitted.
    pub law: &'static dyn Law,
    /// The loss without noise.
    pub loss: fn(&Row) -> f64,
    /// The standard deviation of the noise of ln of the loss: the errors that the paper reports.
    pub noise: f64,
}

/// The law itself, and three ways to be wrong: an exponent of N that changes with N, injected tokens
/// in place of their fraction, and an increase that is bounded.
pub const TRUTHS: [Truth; 5] = [
    Truth { name: "planted, right", law: &Forgetting, loss: forgetting, noise: 0.0083 },
    Truth { name: "planted, right", law: &Finetuning, loss: finetuning, noise: 0.0201 },
    Truth { name: "planted, bent in N", law: &Forgetting, loss: bent, noise: 0.0083 },
    Truth { name: "planted, p*D_ft for p", law: &Forgetting, loss: injected, noise: 0.0083 },
    Truth { name: "planted, bounded increase", law: &Forgetting, loss: bounded, noise: 0.0083 },
];

fn forgetting(row: &Row) -> f64 {
    Forgetting.predict(&row.into(), &[6.0, 829.0, 0.4, 0.35])
}

fn finetuning(row: &Row) -> f64 {
    Finetuning.predict(&row.into(), &[2000.0, 0.25, 0.2, 1.2])
}

fn increase(row: &Row) -> f64 {
    forgetting(row) - row.loss_pt0
}

fn bent(row: &Row) -> f64 {
    row.loss_pt0 + increase(row) * (0.1 * (row.n_params / 165e6).ln().powi(2)).exp()
}

fn injected(row: &Row) -> f64 {
    forgetting(&Row { p: row.p * row.d_ft_tokens / 3e6, ..*row })
}

fn bounded(row: &Row) -> f64 {
    let increase = increase(row);
    row.loss_pt0 + increase / (1.0 + increase)
}

/// Tables of four sizes, amounts of data and fractions, and new runs: at fitted settings, between
/// them, and three times beyond on each axis.
pub fn planted(truth: &Truth, tables: usize, resamples: usize, counts: &mut Counts) -> Result<()> {
    let sizes = [41e6, 109e6, 334e6, 665e6];
    let amounts = [3e5, 1e6, 3e6, 1e7];
    let fractions = [0.0, 0.005, 0.01, 0.05];
    // About the losses of the paper's sizes.
    let row = |n_params: f64, d_ft_tokens: f64, p: f64| {
        let loss_pt0 = 3.31 * (n_params / 41e6).powf(-0.1);
        Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() }
    };
    let key = Key::new(0).named("new runs").named(truth.name).named(truth.law.name());
    for t in 0..tables as u64 {
        let key = key.child(t);
        let mut draws = 0;
        let mut run = |row: Row| {
            draws += 1;
            let mut run = Run { row, ..Run::default() };
            let loss = (truth.loss)(&row) * (truth.noise * key.normal(draws)).exp();
            run.set(truth.law.output(), Some(loss));
            run
        };
        let mut runs = Vec::new();
        for n in sizes {
            for d in amounts {
                runs.extend(fractions.map(|p| run(row(n, d, p))));
            }
        }
        let fit = fitted_to(Table::new(runs), truth.law, resamples)?;
        let questions: [(&str, Vec<Row>); 5] = [
            ("at the runs", vec![row(109e6, 1e6, 0.01), row(334e6, 3e6, 0.0)]),
            ("between", vec![row(200e6, 2e6, 0.02), row(70e6, 5e5, 0.0075)]),
            ("size", vec![row(2e9, 3e6, 0.0), row(2e9, 3e6, 0.01), row(14e6, 3e6, 0.01)]),
            ("data", vec![row(334e6, 3e7, 0.0), row(334e6, 3e7, 0.01), row(334e6, 1e5, 0.01)]),
            ("p", vec![row(334e6, 3e6, 0.15), row(109e6, 1e7, 0.15)]),
        ];
        for (axis, rows) in questions {
            let at = [truth.name.into(), truth.law.name().into(), axis.into()];
            let new: Vec<Run> = rows.into_iter().map(&mut run).collect();
            count(&fit, &new, &at, counts);
            let all = [truth.name.into(), truth.law.name().into(), "together".into()];
            count(&fit, &new, &all, counts);
        }
    }
    Ok(())
}
