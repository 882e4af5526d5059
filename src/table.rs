//! Tables of losses: runs and their final losses, from this project or elsewhere.
//! With the feature `tables`, [`mod@read`] reads them from files.
//!
//! ```
//! use forgetting_laws::laws::{Finetuning, Row};
//! use forgetting_laws::table::{Run, Table};
//!
//! let run = |n_params, d_ft_tokens, loss_ft| Run {
//!     row: Row { n_params, d_ft_tokens, ..Row::default() },
//!     loss_ft: Some(loss_ft),
//!     ..Run::default()
//! };
//! let mut runs = vec![run(1e6, 1e5, 3.1), run(1e6, 1e6, 2.8), run(1e7, 1e5, 2.9)];
//! runs.push(run(1e7, 1e6, 2.5));
//! let table = Table::new(runs);
//! assert_eq!(table.sample(&Finetuning)?.losses, [3.1, 2.8, 2.9, 2.5]);
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

#[cfg(feature = "tables")]
pub mod read;

use crate::laws::{Law, Point, Row};
use crate::warning::{Warning, WarningKind};
use crate::{Error, Result};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::path::PathBuf;

/// A column of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// The model size N.
    NParams,
    /// The unique tokens of the target, D_ft.
    DFtTokens,
    /// The tokens of pretraining, D.
    DTokens,
    /// The fraction p of injected pretraining data.
    P,
    /// The pretraining loss before finetuning, L_pt⁰.
    LossPt0,
    /// The pretraining loss after finetuning, L_pt.
    LossPt,
    /// The loss on the target after finetuning, L_ft.
    LossFt,
    /// The loss of pretraining.
    Loss,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 8] = [
        Self::NParams,
        Self::DFtTokens,
        Self::DTokens,
        Self::P,
        Self::LossPt0,
        Self::LossPt,
        Self::LossFt,
        Self::Loss,
    ];

    /// The name in a file's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NParams => "n_params",
            Self::DFtTokens => "d_ft_tokens",
            Self::DTokens => "d_tokens",
            Self::P => "p",
            Self::LossPt0 => "loss_pt0",
            Self::LossPt => "loss_pt",
            Self::LossFt => "loss_ft",
            Self::Loss => "loss",
        }
    }

    /// What is wrong with a value, if the column cannot have it.
    fn fault(self, value: f64) -> Option<&'static str> {
        let good = match self {
            Self::P => (0.0..=1.0).contains(&value),
            _ => value.is_finite() && value > 0.0,
        };
        (!good).then_some(match self {
            Self::P if value > 1.0 && value <= 100.0 => {
                "must lie between 0 and 1; `fit --percent` takes it for a percentage"
            }
            Self::P => "must lie between 0 and 1",
            _ => "must be a number above 0",
        })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row of a table. A loss that was not measured is `None`; a size that is not known is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The target domain, or the value of another grouping column; empty if there is only one
    /// group.
    pub domain: String,
    /// The seed, or another identifier of replicates.
    pub seed: String,
    /// The run that the row belongs to, if several rows come from one run, such as its checkpoints. The
    /// bootstrap draws all rows of a run together. If empty, the row is a run of its own.
    pub run: String,
    /// The pretrained model that the run starts from. Runs of one model are not independent, so the
    /// bootstrap draws models and then runs. If empty, it is not known.
    pub parent: String,
    /// How often the run passes over the target data.
    pub epochs: Option<f64>,
    /// Whether the bottom lies between the first and the last evaluation.
    pub interior: Option<bool>,
    /// The inputs of the laws.
    pub row: Row,
    /// L_pt, in nats per token.
    pub loss_pt: Option<f64>,
    /// L_ft, in nats per token.
    pub loss_ft: Option<f64>,
    /// The loss of pretraining, in nats per token.
    pub loss: Option<f64>,
    /// The weight of this row in the objective.
    pub weight: f64,
    /// The line in the file, counted from 1; in a Parquet file, the row.
    pub line: Option<u64>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            domain: String::new(),
            seed: String::new(),
            run: String::new(),
            parent: String::new(),
            epochs: None,
            interior: None,
            row: Row::default(),
            loss_pt: None,
            loss_ft: None,
            loss: None,
            weight: 1.0,
            line: None,
        }
    }
}

impl Run {
    /// The value of a column, if there is one.
    pub fn get(&self, column: Column) -> Option<f64> {
        let known = |value: f64| (!value.is_nan()).then_some(value);
        match column {
            Column::LossPt => self.loss_pt,
            Column::LossFt => self.loss_ft,
            Column::Loss => self.loss,
            input => known(self.row.get(input)),
        }
    }

    /// Sets the value of a column; `None` if it is not known.
    pub fn set(&mut self, column: Column, value: Option<f64>) {
        let or_unknown = value.unwrap_or(f64::NAN);
        match column {
            Column::NParams => self.row.n_params = or_unknown,
            Column::DFtTokens => self.row.d_ft_tokens = or_unknown,
            Column::DTokens => self.row.d_tokens = or_unknown,
            Column::P => self.row.p = or_unknown,
            Column::LossPt0 => self.row.loss_pt0 = or_unknown,
            Column::LossPt => self.loss_pt = value,
            Column::LossFt => self.loss_ft = value,
            Column::Loss => self.loss = value,
        }
    }
}

/// A table of losses.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Where it comes from, for messages.
    pub path: PathBuf,
    /// The columns of the source, for messages; empty if it is not a file.
    pub columns: Vec<String>,
    /// The non-numeric columns that are used because of their names, without an option that asks
    /// for them.
    pub unasked: Vec<String>,
    /// The rows.
    pub runs: Vec<Run>,
    /// What the user should know about the rows.
    pub warnings: Vec<Warning>,
}

impl Table {
    /// A table of runs. Rows that are identical in everything are counted once, with a warning.
    pub fn new(runs: Vec<Run>) -> Self {
        let mut kept: Vec<Run> = Vec::with_capacity(runs.len());
        let given = runs.len();
        let key = |run: &Run| {
            let numbers = Column::ALL.map(|column| run.get(column).map(identity));
            let names = [&run.domain, &run.seed, &run.run, &run.parent].map(String::clone);
            (names, numbers, identity(run.weight))
        };
        let mut seen = std::collections::HashSet::new();
        kept.extend(runs.into_iter().filter(|run| seen.insert(key(run))));
        let warnings = match given - kept.len() {
            0 => Vec::new(),
            1 => vec![WarningKind::RepeatedRows.warn(format!(
                "1 of {given} rows repeats another in every column and is counted once"
            ))],
            twins => vec![WarningKind::RepeatedRows.warn(format!(
                "{twins} of {given} rows repeat another in every column and are counted once"
            ))],
        };
        Self {
            path: PathBuf::from("table"),
            columns: Vec::new(),
            unasked: Vec::new(),
            runs: kept,
            warnings,
        }
    }

    /// The tables of each domain, by name.
    pub fn groups(&self) -> Vec<(String, Self)> {
        let mut names: Vec<_> = self.runs.iter().map(|run| run.domain.clone()).collect();
        names.sort();
        names.dedup();
        let of = |name: String| {
            let runs = self.runs.iter().filter(|run| run.domain == name).cloned().collect();
            let group = Self { runs, warnings: Vec::new(), ..self.clone() };
            (name, group)
        };
        names.into_iter().map(of).collect()
    }

    /// The rows that have the loss that a law predicts.
    ///
    /// # Errors
    /// If no row has the loss; if a row has the loss but lacks a size; if a value is out of the range
    /// of its column; if a row has more unique tokens than tokens; or if there are fewer distinct
    /// values of a size than the law needs, or fewer distinct rows than parameters. The error names
    /// lines if there are any.
    pub fn sample(&self, law: &dyn Law) -> Result<Sample> {
        let output = law.output();
        let rows: Vec<_> = self.runs.iter().filter(|run| run.get(output).is_some()).collect();
        if rows.is_empty() {
            return Err(self.lacks(output, law));
        }
        for input in law.inputs() {
            let known = |run: &&&Run| run.get(input.column).is_some();
            match rows.iter().filter(known).count() {
                0 => return Err(self.lacks(input.column, law)),
                n if n < rows.len() => {
                    let without = rows.iter().filter(|run| !known(run));
                    let reason = format!("have {output} and no {}", input.column);
                    return Err(self.refuse(without.copied(), &reason));
                }
                _ => {}
            }
        }
        let columns = law.inputs().iter().map(|input| input.column).chain([output]);
        for column in columns {
            let fault = |run: &Run| run.get(column).and_then(|value| column.fault(value));
            if let Some(fault) = rows.iter().find_map(|run| fault(run)) {
                let bad = rows.iter().filter(|run| {
                    run.get(column).is_some_and(|value| column.fault(value).is_some())
                });
                return Err(self.refuse(bad.copied(), &format!("{column} {fault}")));
            }
        }
        let fault = |run: &&&Run| law.fault(&run.row).is_some();
        if let Some(reason) = rows.iter().find_map(|run| law.fault(&run.row)) {
            return Err(self.refuse(rows.iter().filter(fault).copied(), &reason));
        }
        let excess = |run: &&&Run| run.row.d_ft_tokens > run.row.d_tokens;
        if rows.iter().any(|run| excess(&run)) {
            let reason = "d_ft_tokens, the unique tokens, exceed d_tokens, all tokens";
            return Err(self.refuse(rows.iter().filter(excess).copied(), reason));
        }
        let good = |run: &&&Run| run.weight.is_finite() && run.weight > 0.0;
        if rows.iter().any(|run| !good(&run)) {
            let bad = rows.iter().filter(|run| !good(run)).copied();
            return Err(self.refuse(bad, "the weight must be a number above 0"));
        }
        for input in law.inputs() {
            let distinct = count_distinct(rows.iter().map(|run| [run.get(input.column)]));
            if distinct < input.distinct {
                let name = format!("distinct values of {}", input.column);
                let requirement = match input.column {
                    Column::P => format!(
                        "the {} law needs at least {}: a single p does not determine its B",
                        law.name(),
                        input.distinct
                    ),
                    _ => format!("the {} law needs at least {}", law.name(), input.distinct),
                };
                return Err(Error::setting(name, distinct, requirement));
            }
        }
        let inputs =
            |run: &&Run| law.inputs().iter().map(|i| run.get(i.column)).collect::<Vec<_>>();
        let distinct = count_distinct(rows.iter().map(inputs));
        if distinct < law.parameters().len() {
            let requirement = format!(
                "the {} law has {} parameters and needs at least as many",
                law.name(),
                law.parameters().len()
            );
            return Err(Error::setting("runs with distinct settings", distinct, requirement));
        }
        Ok(Sample::of(&rows, output))
    }

    fn lacks(&self, column: Column, law: &dyn Law) -> Error {
        let found = if self.columns.is_empty() {
            String::new()
        } else {
            format!("; the columns are {}", self.columns.join(", "))
        };
        let reason = format!(
            "the {} law needs {column}, and no row has it{found}; map another \
             column to it (--map {column}=NAME)",
            law.name()
        );
        Error::content(&self.path, None, reason)
    }

    fn refuse<'a>(&self, bad: impl Iterator<Item = &'a Run>, reason: &str) -> Error {
        const NAMED: usize = 5;
        let mut lines: Vec<_> = bad.map(|run| run.line).collect();
        // A line of a wide table has several runs.
        lines.dedup_by(|a, b| a.is_some() && a == b);
        let named: Vec<_> =
            lines.iter().flatten().take(NAMED).map(|line| line.to_string()).collect();
        let rest = match lines.len().saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        // A Parquet file has no lines; its rows are counted.
        let parquet = self.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
        let unit = if parquet { "row" } else { "line" };
        let plural = if lines.len() == 1 { "" } else { "s" };
        let which = if named.is_empty() {
            format!("{} row{plural}", lines.len())
        } else {
            format!("{unit}{plural} {}{rest}", named.join(", "))
        };
        Error::content(&self.path, None, format!("{which}: {reason}"))
    }
}

/// Bits that are the same for equal numbers: 0 equals −0, and NaN equals NaN.
fn identity(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// The number of each key, counted from 0 in order of appearance, and how many there are.
pub(crate) fn numbered<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> (Vec<usize>, usize) {
    let mut known = HashMap::new();
    let number = |key| {
        let next = known.len();
        *known.entry(key).or_insert(next)
    };
    let numbers = keys.map(number).collect();
    (numbers, known.len())
}

fn count_distinct<T: AsRef<[Option<f64>]>>(keys: impl Iterator<Item = T>) -> usize {
    let bits = |key: T| key.as_ref().iter().map(|v| v.map(identity)).collect::<Vec<_>>();
    let mut keys: Vec<_> = keys.map(bits).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.len()
}

/// The rows of a table that a law is fitted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The inputs of the law.
    pub rows: Vec<Row>,
    /// The inputs of the law, with logarithms of sizes.
    pub points: Vec<Point>,
    /// The observed losses, in nats per token.
    pub losses: Vec<f64>,
    /// The weight of each row.
    pub weights: Vec<f64>,
    /// The run that each row belongs to, counted from 0 in order of appearance.
    pub runs: Vec<usize>,
    /// The number of runs.
    pub n_runs: usize,
    /// The pretrained model of each row, counted from 0; `None` if it is not known.
    pub parents: Vec<Option<usize>>,
    /// How often the run of each row passes over the target data, if known.
    pub epochs: Vec<Option<f64>>,
}

impl Sample {
    fn of(rows: &[&Run], output: Column) -> Self {
        // A row without a run is a run of its own.
        let names = rows.iter().enumerate().map(|(i, run)| match run.run.as_str() {
            "" => Err(i),
            name => Ok(name),
        });
        let (runs, n_runs) = numbered(names);
        let mut known = HashMap::new();
        let mut parent = |run: &Run| {
            let next = known.len();
            (!run.parent.is_empty()).then(|| *known.entry(run.parent.clone()).or_insert(next))
        };
        Self {
            rows: rows.iter().map(|run| run.row).collect(),
            points: rows.iter().map(|run| Point::from(&run.row)).collect(),
            losses: rows.iter().map(|run| run.get(output).unwrap_or(f64::NAN)).collect(),
            weights: rows.iter().map(|run| run.weight).collect(),
            runs,
            n_runs,
            parents: rows.iter().map(|run| parent(run)).collect(),
            epochs: rows.iter().map(|run| run.epochs).collect(),
        }
    }

    /// The pretrained model of each row, counted from 0. If the table does not say, runs with the
    /// same N and D share a model.
    pub fn models(&self) -> Vec<usize> {
        let key = |i: usize| {
            let row = &self.rows[i];
            match self.parents[i] {
                Some(parent) => (Some(parent), 0, 0),
                None => (None, identity(row.n_params), identity(row.d_tokens)),
            }
        };
        numbered((0..self.len()).map(key)).0
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.losses.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// The rows of these indices, in this order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            rows: indices.iter().map(|&i| self.rows[i]).collect(),
            points: indices.iter().map(|&i| self.points[i]).collect(),
            losses: indices.iter().map(|&i| self.losses[i]).collect(),
            weights: indices.iter().map(|&i| self.weights[i]).collect(),
            runs: indices.iter().map(|&i| self.runs[i]).collect(),
            n_runs: self.n_runs,
            parents: indices.iter().map(|&i| self.parents[i]).collect(),
            epochs: indices.iter().map(|&i| self.epochs[i]).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
