//! Reads tables of losses from files: CSV and JSON, and Parquet with the feature `parquet`.
//!
//! ```
//! use forgetting_laws::laws::Finetuning;
//! use forgetting_laws::table::read::{Reading, read};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("runs.csv");
//! std::fs::write(&path, "size,tokens,eval/loss\n1e6,1e5,3.1\n1e6,1e6,2.8\n1e7,1e5,2.9\n1e7,1e6,2.5\n")?;
//! let map = ["n_params=size", "d_ft_tokens=tokens", "loss_ft=eval/loss"].map(String::from);
//! let table = read(&path, &Reading { map: map.to_vec(), ..Reading::default() })?.table;
//! assert_eq!(table.sample(&Finetuning)?.losses, [3.1, 2.8, 2.9, 2.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A file is read as records of text (one module per format); a wide table is turned into a long one;
//! rows are selected; and the rest is converted to the columns of the laws.

mod csv;
mod filter;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod records;
mod wide;

use super::{Column, Run, Table};
use crate::store::sha256;
use crate::{Error, Result, formats};
use filter::Filter;
pub use records::{Cell, Record, Records, Unit};
use std::path::Path;
use std::{fmt, fs};
use wide::Wide;

/// How the columns of a file become those of the laws. By default each field is read from the column of
/// the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// `NAME=COLUMN` reads NAME from another column. NAME is the name of a [`Column`], or `domain`,
    /// `seed`, `run`, `weight`, `parent_id` (the pretrained model), `epochs` (passes over the target
    /// data) or `interior` (whether the bottom lies between the first and the last evaluation).
    pub map: Vec<String>,
    /// Reads p as a percentage: 5 means 0.05. A value with a sign, such as 5%, is always a percentage.
    pub percent: bool,
    /// Reads 3,14 in .csv and .tsv files as 3.14.
    pub decimal_comma: bool,
    /// `COLUMN OP VALUE` keeps the rows whose value in the file satisfies the condition; OP is `=`,
    /// `!=`, `<`, `<=`, `>` or `>=`. All conditions must hold.
    pub filters: Vec<String>,
    /// `NAME:NAME` turns each column whose header is a number into a row: the first name gets the
    /// header, the second the cell.
    pub wide: Option<String>,
    /// The column whose values define groups that are fitted separately; `domain` by default.
    pub group_by: Option<String>,
    /// The column that identifies the run of each row; by default `run`, and without it each row is a
    /// run.
    pub runs: Option<String>,
    /// The column with the weight of each row; by default `weight`, and without it the weight is 1.
    pub weight: Option<String>,
    /// How messages name these settings.
    pub naming: Naming,
}

/// How messages name a setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// By the name of its field: `group_by`.
    #[default]
    Field,
    /// By the option of the command `fit`: `--group-by`.
    Flag,
}

impl Naming {
    fn name(self, field: &str) -> String {
        match (self, field) {
            (Self::Field, _) => field.to_owned(),
            (Self::Flag, "filters") => "--where".into(),
            (Self::Flag, _) => format!("--{}", field.replace('_', "-")),
        }
    }
}

/// A [`Reading`] whose settings have been checked.
#[derive(Debug, Default)]
struct Plan {
    /// The column of a field; a field that is not here is read from the column of the same name.
    map: Vec<Mapping>,
    /// Each filter with its possible meanings.
    filters: Vec<Vec<Filter>>,
    wide: Option<Wide>,
    /// The column that defines groups: the name of a field, or of a column of the file.
    group_by: Option<String>,
    /// Whether every p is a percentage.
    percent: bool,
    naming: Naming,
}

/// A field and the column that it is read from.
#[derive(Debug)]
struct Mapping {
    field: Field,
    column: String,
    /// The setting that names the column, as in messages.
    setting: String,
    /// The value of the setting.
    text: String,
}

impl Mapping {
    /// `NAME=COLUMN`.
    fn parse(text: &str, naming: Naming) -> Result<Self> {
        let parts = text.split_once('=').filter(|(_, column)| !column.trim().is_empty());
        let known = parts.and_then(|(name, column)| Some((Field::by_name(name.trim())?, column)));
        let setting = naming.name("map");
        let Some((field, column)) = known else {
            let names = FIELDS.join(", ");
            let requirement = format!("must be NAME=COLUMN, and NAME one of {names}");
            return Err(Error::setting(setting, text, requirement));
        };
        Ok(Self { field, column: column.trim().to_owned(), setting, text: text.to_owned() })
    }

    /// The mapping of a field that has a setting of its own.
    fn of_setting(field: Field, setting: String, column: &Option<String>) -> Option<Self> {
        let text = column.clone()?;
        Some(Self { field, column: text.clone(), setting, text })
    }

    fn refuse<T>(&self, requirement: String) -> Result<T> {
        Err(Error::setting(&self.setting, &self.text, requirement))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.setting, self.text)
    }
}

impl Plan {
    /// Checks the settings.
    ///
    /// # Errors
    /// If a setting is malformed, or one field is given two columns.
    fn new(reading: &Reading) -> Result<Self> {
        let naming = reading.naming;
        let map = reading.map.iter().map(|text| Mapping::parse(text, naming));
        let mut map: Vec<_> = map.collect::<Result<_>>()?;
        map.extend(Mapping::of_setting(Field::Run, naming.name("runs"), &reading.runs));
        map.extend(Mapping::of_setting(Field::Weight, naming.name("weight"), &reading.weight));
        let wide = reading.wide.as_deref().map(|text| Wide::parse(text, naming)).transpose()?;
        for (i, mapping) in map.iter().enumerate() {
            let name = mapping.field.name();
            if let Some(twin) = map[..i].iter().find(|earlier| earlier.field == mapping.field) {
                return mapping.refuse(format!("{twin} already sets {name}"));
            }
            if let Some(wide) = wide.filter(|wide| wide.makes(name)) {
                let setting = naming.name("wide");
                return mapping.refuse(format!("{setting} {wide} already sets {name}"));
            }
        }
        let filters = reading.filters.iter().map(|text| Filter::readings(text, naming));
        let filters = filters.collect::<Result<_>>()?;
        let (group_by, percent) = (reading.group_by.clone(), reading.percent);
        Ok(Self { map, filters, wide, group_by, percent, naming })
    }

    /// The special columns that are used without a setting.
    fn unasked(&self, fields: &[(Field, usize)]) -> Vec<String> {
        let asked = |field: Field| {
            (field == Field::Domain && self.group_by.is_some())
                || self.map.iter().any(|mapping| mapping.field == field)
        };
        let special = fields.iter().map(|(field, _)| *field).filter(|field| field.is_special());
        special.filter(|field| !asked(*field)).map(|field| field.name().to_string()).collect()
    }
}

/// What a column of a file may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Number(Column),
    Domain,
    Seed,
    Run,
    Weight,
    Parent,
    Epochs,
    Interior,
}

/// The names that a column of a file may have, or be given by [`Reading::map`].
pub const FIELDS: [&str; 15] = {
    let mut names = [""; 15];
    let mut i = 0;
    while i < names.len() {
        names[i] = Field::ALL[i].name();
        i += 1;
    }
    names
};

impl Field {
    const ALL: [Self; 15] = [
        Self::Number(Column::ALL[0]),
        Self::Number(Column::ALL[1]),
        Self::Number(Column::ALL[2]),
        Self::Number(Column::ALL[3]),
        Self::Number(Column::ALL[4]),
        Self::Number(Column::ALL[5]),
        Self::Number(Column::ALL[6]),
        Self::Number(Column::ALL[7]),
        Self::Domain,
        Self::Seed,
        Self::Run,
        Self::Weight,
        Self::Parent,
        Self::Epochs,
        Self::Interior,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Number(column) => column.name(),
            Self::Domain => "domain",
            Self::Seed => "seed",
            Self::Run => "run",
            Self::Weight => "weight",
            Self::Parent => "parent_id",
            Self::Epochs => "epochs",
            Self::Interior => "interior",
        }
    }

    /// Whether the column affects the fit although it is not a number of a law.
    fn is_special(self) -> bool {
        matches!(self, Self::Domain | Self::Run | Self::Weight | Self::Parent)
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// Stores a cell in its field, or says what is wrong with it.
    fn set(self, run: &mut Run, cell: &Cell, plan: &Plan) -> Result<(), String> {
        let number = |value: Option<f64>| number(cell, value, plan.naming);
        match self {
            Self::Number(column) => {
                let value = match column {
                    Column::P => number(cell.share(plan.percent))?,
                    _ => number(cell.number())?,
                };
                // A `Row` cannot tell a size that is NaN from one that is not known.
                let size = !matches!(column, Column::LossPt | Column::LossFt | Column::Loss);
                if size && value.is_some_and(f64::is_nan) {
                    let what = "which is not a number; leave it empty if it is unknown";
                    return Err(format!("{}, {what}", cell.shown()));
                }
                run.set(column, value);
            }
            // What is needed and missing is refused with the row's line when a law is fitted.
            Self::Weight => run.weight = number(cell.number())?.unwrap_or(f64::NAN),
            Self::Domain => run.domain = label(cell)?,
            Self::Seed => run.seed = label(cell)?,
            Self::Run => run.run = label(cell)?,
            Self::Parent => run.parent = label(cell)?,
            // They are for warnings alone, and a column of another meaning may have their names.
            Self::Epochs => run.epochs = cell.number().filter(|epochs| *epochs > 0.0),
            Self::Interior => run.interior = cell.text().trim().to_lowercase().parse().ok(),
        }
        Ok(())
    }
}

/// The number in a cell, or why it is not a number and how to write or read it as one.
fn number(cell: &Cell, value: Option<f64>, naming: Naming) -> Result<Option<f64>, String> {
    match (cell, value) {
        (Cell::Empty, _) => Ok(None),
        (_, Some(value)) => Ok(Some(value)),
        (_, None) => {
            let hint = cell.hint(naming).map_or_else(String::new, |hint| format!("; {hint}"));
            Err(format!("{}, which is not a number{hint}", cell.shown()))
        }
    }
}

fn label(cell: &Cell) -> Result<String, String> {
    match cell {
        Cell::Other(_) => Err(cell.shown()),
        _ => Ok(cell.text().to_owned()),
    }
}

/// A table and the hash of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The rows.
    pub table: Table,
    /// The names among [`FIELDS`] that the file has a column for, by its name or by a setting.
    pub fields: Vec<&'static str>,
    /// Hex SHA-256 of the file.
    pub sha256: String,
}

/// Reads a table of losses: CSV, JSON Lines (or a JSON array of objects) or Parquet, by the file's
/// extension.
///
/// A cell without a value is a loss that was not measured or a size that is not known. Records that are
/// identical in every column of the file, including those that are not used, are counted once, with a
/// warning.
///
/// # Errors
/// If a setting is malformed or gives one field two columns; if the file does not exist, has an unknown
/// format or is malformed (the error names the line); if it lacks a requested column (the error names
/// its columns); if a value that must be a number is not one (the error names the line); if the cells
/// of a JSON or Parquet file, or of a wide table, need more than 1 GiB of memory; or if no row is left.
pub fn read(path: &Path, reading: &Reading) -> Result<Loaded> {
    let plan = Plan::new(reading)?;
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let hash = sha256(&bytes);
    let records = parse(path, bytes, reading.decimal_comma)?;
    let (table, fields) = table(path, records, &plan)?;
    Ok(Loaded { table, fields, sha256: hash })
}

/// A file's records, before its columns are interpreted.
///
/// # Errors
/// Those of [`read`] that concern the file and not the settings.
pub fn records(path: &Path) -> Result<Records> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    parse(path, bytes, false)
}

/// A file's records.
fn parse(path: &Path, bytes: Vec<u8>, decimal_comma: bool) -> Result<Records> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let known = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"];
    if !known.contains(&extension.as_str()) {
        let reason = format!("the name must end in .{}", known.join(", ."));
        return Err(Error::content(path, None, reason));
    }
    if bytes.is_empty() {
        return Err(Error::content(path, None, "the file is empty"));
    }
    let head = &bytes[..bytes.len().min(formats::HEAD)];
    if extension != "parquet"
        && let Some(what) = formats::not_data(head)
    {
        return Err(Error::content(path, None, what));
    }
    let records = match extension.as_str() {
        "csv" => csv::read(path, utf8(path, &bytes)?, b',', decimal_comma),
        "tsv" => csv::read(path, utf8(path, &bytes)?, b'\t', decimal_comma),
        #[cfg(feature = "parquet")]
        "parquet" => parquet::read(path, bytes),
        #[cfg(not(feature = "parquet"))]
        "parquet" => {
            let reason = "this build does not read Parquet (feature parquet); save the table as .csv or .jsonl";
            Err(Error::content(path, None, reason))
        }
        _ => json::read(path, &bytes),
    }?;
    if records.rows.is_empty() {
        Err(Error::content(path, None, "the file has no rows"))
    } else {
        Ok(records)
    }
}

/// The text of a file, without a byte order mark.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Error::content(path, line, "is not UTF-8 text; save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Converts a file's records to the columns of the laws.
fn table(path: &Path, mut records: Records, plan: &Plan) -> Result<(Table, Vec<&'static str>)> {
    let columns = records.columns.clone();
    let mut warnings = std::mem::take(&mut records.warnings);
    warnings.extend(records.drop_twins());
    if let Some(wide) = &plan.wide {
        records = wide.lengthen(path, records, plan.naming)?;
    }
    let places = Places { path, records: &records, plan };
    let fields = places.fields()?;
    let unasked = plan.unasked(&fields);
    let filters = plan.filters.iter().map(|readings| places.filter(readings));
    let filters: Vec<_> = filters.collect::<Result<_>>()?;

    let mut runs = Vec::new();
    for row in &records.rows {
        let kept = |(filter, column): &(&Filter, usize)| filter.keeps(&row.cells[*column]);
        let kept: Result<Vec<_>, String> = filters.iter().map(kept).collect();
        if !kept.map_err(|why| records.fault(path, row, &why))?.contains(&false) {
            let mut run = Run { line: Some(row.line), ..Run::default() };
            for &(field, column) in &fields {
                let cell = &row.cells[column];
                field.set(&mut run, cell, plan).map_err(|why| {
                    let column = &records.columns[column];
                    let taken = if column == field.name() {
                        String::new()
                    } else {
                        format!(" ({})", field.name())
                    };
                    let why = format!("{column}{taken} is {why}");
                    records.fault(path, row, &why)
                })?;
            }
            runs.push(run);
        }
    }
    if runs.is_empty() {
        let asked: Vec<_> = filters.iter().map(|(filter, _)| filter.to_string()).collect();
        let reason = format!("no row of {} has {}", records.rows.len(), asked.join(" and "));
        return Err(Error::content(path, None, reason));
    }
    let names = fields.iter().map(|(field, _)| field.name()).collect();
    Ok((Table { path: path.to_owned(), columns, unasked, runs, warnings }, names))
}

/// The columns of a file and what they are read as.
struct Places<'a> {
    path: &'a Path,
    records: &'a Records,
    plan: &'a Plan,
}

impl Places<'_> {
    /// The fields of the file, each with its column.
    fn fields(&self) -> Result<Vec<(Field, usize)>> {
        let mut fields = Vec::new();
        for field in Field::ALL {
            let mapping = self.plan.map.iter().find(|mapping| mapping.field == field);
            let column = match (field, &self.plan.group_by, mapping) {
                (Field::Domain, Some(name), _) => Some(
                    self.named(name, &format!("{} {name}", self.plan.naming.name("group_by")))?,
                ),
                (_, _, Some(mapping)) => Some(self.column(&mapping.column, &mapping.to_string())?),
                (_, _, None) if self.records.columns.iter().any(|name| name == field.name()) => {
                    Some(self.column(field.name(), "the reading")?)
                }
                _ => None,
            };
            fields.extend(column.map(|column| (field, column)));
        }
        Ok(fields)
    }

    /// The meaning of a filter whose column exists, and that column.
    fn filter<'a>(&self, readings: &'a [Filter]) -> Result<(&'a Filter, usize)> {
        let is_there = |filter: &&Filter| {
            Field::by_name(&filter.column).is_some_and(|field| self.is_mapped(field))
                || self.records.columns.contains(&filter.column)
        };
        // Where none is there, the shortest name is the one that is missing.
        let filter = readings.iter().find(is_there).or(readings.last());
        let filter = filter.expect("a filter has a reading");
        let setting = format!("{} {filter}", self.plan.naming.name("filters"));
        Ok((filter, self.named(&filter.column, &setting)?))
    }

    fn is_mapped(&self, field: Field) -> bool {
        self.plan.map.iter().any(|mapping| mapping.field == field)
    }

    /// The column of a field or, if there is no such field, the file's column of that name.
    fn named(&self, name: &str, setting: &str) -> Result<usize> {
        let mapped = self.plan.map.iter().find(|mapping| mapping.field.name() == name);
        self.column(mapped.map_or(name, |mapping| &mapping.column), setting)
    }

    fn column(&self, name: &str, setting: &str) -> Result<usize> {
        let columns = &self.records.columns;
        let refuse = |what: String| Err(Error::content(self.path, None, what));
        let mut places = (0..columns.len()).filter(|&i| columns[i] == name);
        match (places.next(), places.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => {
                refuse(format!("several columns are named {name}; rename all but one"))
            }
            (None, _) => refuse(format!(
                "{setting} needs the column {name}, which does not exist; the columns are {}",
                columns.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests;
