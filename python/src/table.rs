//! Tables of losses on their way from and to Python.

use super::{json, watched};
use forgetting_laws::Error;
use forgetting_laws::table::read::{Cell, Loaded, Reading, Record, Records, Unit, read};
use forgetting_laws::table::{Column, Run, Table};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// The 64-bit floats of bytes in native order.
pub fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| f64::from_ne_bytes(*bytes))
}

/// 64-bit floats as bytes in native order.
pub fn bytes(py: Python<'_>, numbers: impl Iterator<Item = f64>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &numbers.flat_map(f64::to_ne_bytes).collect::<Vec<u8>>())
}

/// A table of losses as Python hands it over: columns of numbers, in which NaN is a missing cell, and
/// columns of labels.
#[derive(FromPyObject)]
pub struct PyTable {
    rows: usize,
    numbers: HashMap<String, PyBackedBytes>,
    labels: HashMap<String, Vec<String>>,
    /// The names of the table's own columns.
    columns: Vec<String>,
    /// The columns beside those of numbers that nothing but their names asks for.
    unasked: Vec<String>,
    /// What it is, or the path of its file, and the hash of that.
    pub source: String,
    pub sha256: String,
    /// Which column was taken for a name, as NAME=COLUMN.
    pub map: Vec<String>,
    /// The line of each row; empty: they are numbered.
    lines: Vec<u64>,
    /// What should be known of how it was read, as JSON.
    warnings: String,
}

impl PyTable {
    /// The rows as they are: which of them repeat others is known where all their columns are.
    pub fn table(&self) -> forgetting_laws::Result<Table> {
        let unknown = |name: &str| Error::setting("column", name, "is not known");
        let line = |i: usize| self.lines.get(i).copied().unwrap_or(i as u64 + 1);
        let run = |i| Run { line: Some(line(i)), ..Run::default() };
        let mut runs: Vec<Run> = (0..self.rows).map(run).collect();
        for (name, values) in &self.numbers {
            let column = Column::ALL.into_iter().find(|column| column.name() == name);
            for (run, value) in runs.iter_mut().zip(floats(values)) {
                let known = (!value.is_nan()).then_some(value);
                match (column, name.as_str()) {
                    (Some(column), _) => run.set(column, known),
                    (None, "weight") => run.weight = value,
                    (None, "epochs") => run.epochs = known.filter(|epochs| *epochs > 0.0),
                    _ => return Err(unknown(name)),
                }
            }
        }
        for (name, values) in &self.labels {
            for (run, value) in runs.iter_mut().zip(values) {
                match name.as_str() {
                    "domain" => run.domain.clone_from(value),
                    "seed" => run.seed.clone_from(value),
                    "run" => run.run.clone_from(value),
                    "parent_id" => run.parent.clone_from(value),
                    "interior" => run.interior = value.to_lowercase().parse().ok(),
                    _ => return Err(unknown(name)),
                }
            }
        }
        let (columns, unasked) = (self.columns.clone(), self.unasked.clone());
        let warnings = serde_json::from_str(&self.warnings)
            .map_err(|error| Error::setting("warnings", &self.warnings, error.to_string()))?;
        Ok(Table { columns, unasked, warnings, path: (&self.source).into(), runs })
    }
}

/// Columns of numbers, columns of labels, the file's own columns, those that nothing but their names
/// asks for, the file's hash, the line of each row, and what should be known of how it was read.
type FileOfLosses<'py> = (
    HashMap<&'static str, Bound<'py, PyBytes>>,
    HashMap<&'static str, Vec<String>>,
    Vec<String>,
    Vec<String>,
    String,
    Vec<u64>,
    String,
);

/// Reads a table of losses from a file, by the rules of the command.
#[pyfunction]
#[pyo3(signature = (path, map))]
fn read_table<'py>(
    py: Python<'py>,
    path: PathBuf,
    map: Vec<String>,
) -> PyResult<FileOfLosses<'py>> {
    let reading = Reading { map, ..Reading::default() };
    let Loaded { table, fields, sha256 } = watched(py, None, || read(&path, &reading))?;
    let (mut numbers, mut labels) = (HashMap::new(), HashMap::new());
    let floats = |of: &dyn Fn(&Run) -> Option<f64>| {
        bytes(py, table.runs.iter().map(|run| of(run).unwrap_or(f64::NAN)))
    };
    let texts = |of: &dyn Fn(&Run) -> String| table.runs.iter().map(of).collect::<Vec<_>>();
    for name in fields {
        let column = Column::ALL.into_iter().find(|column| column.name() == name);
        match (column, name) {
            (Some(column), _) => drop(numbers.insert(name, floats(&|run| run.get(column)))),
            (None, "weight") => drop(numbers.insert(name, floats(&|run| Some(run.weight)))),
            (None, "epochs") => drop(numbers.insert(name, floats(&|run| run.epochs))),
            (None, "domain") => drop(labels.insert(name, texts(&|run| run.domain.clone()))),
            (None, "seed") => drop(labels.insert(name, texts(&|run| run.seed.clone()))),
            (None, "run") => drop(labels.insert(name, texts(&|run| run.run.clone()))),
            (None, "parent_id") => drop(labels.insert(name, texts(&|run| run.parent.clone()))),
            (None, _) => {
                let interior =
                    |run: &Run| run.interior.map_or_else(String::new, |is| is.to_string());
                labels.insert(name, texts(&interior));
            }
        }
    }
    let lines = table.runs.iter().filter_map(|run| run.line).collect();
    let warnings = json(&table.warnings);
    Ok((numbers, labels, table.columns, table.unasked, sha256, lines, warnings))
}

/// The warning about rows that repeat others, each given by its number, as JSON.
#[pyfunction]
fn repeated_rows(rows: u64, repeated: Vec<u64>) -> String {
    let repeated: HashSet<u64> = repeated.into_iter().collect();
    // The first row repeats none, so that all of them may repeat that one.
    let text = |line: u64| if repeated.contains(&line) { 1 } else { line }.to_string();
    let row = |line| Record { line, cells: vec![Cell::Text(text(line))] };
    let rows = (1..=rows).map(row).collect();
    let (unit, columns, warnings) = (Unit::Row, Vec::new(), Vec::new());
    json(&Records { unit, columns, rows, warnings }.drop_twins().into_iter().collect::<Vec<_>>())
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read_table, module)?)?;
    module.add_function(wrap_pyfunction!(repeated_rows, module)?)
}
