//! Tables of losses from files, whoever wrote them.
//!
//! A file becomes records of text ([`mod@records`]; one small module a format), a wide table becomes a
//! long one ([`wide`]), rows are chosen ([`filter`]), and what is left becomes the columns that the
//! laws know ([`Field`]).

mod csv;
mod filter;
mod json;
mod parquet;
mod records;
mod wide;

use filter::Filter;
use forgetting_laws::formats;
use forgetting_laws::store::sha256;
use forgetting_laws::table::{Column, Run, Table};
use forgetting_laws::{Error, Result};
pub use records::{Cell, Record, Records};
use std::path::Path;
use std::{fmt, fs};
use wide::Wide;

/// How a table is read, as the command line has it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Takes another column for a name: n_params, d_ft_tokens, d_tokens, p, loss_pt0, loss_pt,
    /// loss_ft, loss, domain, seed, run, weight, parent_id (the pretrained model), epochs (passes over
    /// the target data) or interior (whether the bottom is). Example: --map n_params=Model_Size
    #[arg(long, value_name = "NAME=COLUMN")]
    pub map: Vec<String>,
    /// Takes p for a percentage: 5 is 0.05. What is written with the sign, 5%, is one without this.
    #[arg(long)]
    pub percent: bool,
    /// Takes 3,14 in .csv and .tsv files for 3.14.
    #[arg(long)]
    pub decimal_comma: bool,
    /// Keeps the rows for which it holds, by the values that the file has; OP is = != < <= > or >=.
    /// May be repeated: all must hold. Example: --where 'family=GPT2,OPT' --where 'd_ft_tokens>0'
    #[arg(long = "where", value_name = "COLUMN OP VALUE")]
    pub filters: Vec<String>,
    /// Makes a row of each column whose header is a number: the header is the first, the cell the
    /// second. Example: --wide d_ft_tokens:loss_ft
    #[arg(long, value_name = "NAME:NAME")]
    pub wide: Option<String>,
    /// Fits each value of this column by itself; none fits all rows together [default: domain, where
    /// there is one].
    #[arg(long, value_name = "COLUMN")]
    pub group_by: Option<String>,
    /// The column that says which rows come from one run; the bootstrap draws them together
    /// [default: run, or else each row is a run].
    #[arg(long, value_name = "COLUMN")]
    pub runs: Option<String>,
    /// The column that says how many rows each counts for [default: weight, or else 1].
    #[arg(long, value_name = "COLUMN")]
    pub weight: Option<String>,
}

/// How the columns of a file become those of the laws.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Which column is taken for a field; a field that is not here has a column of its own name.
    map: Vec<Mapping>,
    /// Each with its possible readings.
    filters: Vec<Vec<Filter>>,
    wide: Option<Wide>,
    /// The column that makes the groups, a field's name or the file's own.
    group_by: Option<String>,
    /// How its numbers are written.
    notation: Notation,
}

/// How a file writes numbers, where that is not the usual way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Notation {
    /// Every p is a percentage.
    percent: bool,
    /// A comma in place of the decimal point.
    decimal_comma: bool,
}

/// A field and the column that is taken for it.
#[derive(Debug, Clone, PartialEq)]
struct Mapping {
    field: Field,
    column: String,
    /// The option that says so.
    flag: &'static str,
    /// What stands behind it.
    text: String,
}

impl Mapping {
    /// `--map NAME=COLUMN`.
    fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once('=').filter(|(_, column)| !column.trim().is_empty());
        let known = parts.and_then(|(name, column)| Some((Field::by_name(name.trim())?, column)));
        let (field, column) = known.ok_or_else(|| {
            let names = Field::ALL.map(Field::name).join(", ");
            Error::setting("--map", text, format!("must be NAME=COLUMN, and NAME one of {names}"))
        })?;
        let column = column.trim().to_owned();
        Ok(Self { field, column, flag: "--map", text: text.to_owned() })
    }

    /// `FLAG COLUMN`, for a field that has an option of its own.
    fn of_flag(field: Field, flag: &'static str, column: &Option<String>) -> Option<Self> {
        let text = column.clone()?;
        Some(Self { field, column: text.clone(), flag, text })
    }

    fn refuse<T>(&self, requirement: String) -> Result<T> {
        Err(Error::setting(self.flag, &self.text, requirement))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flag, self.text)
    }
}

impl Reading {
    /// What the command line asks for.
    ///
    /// # Errors
    /// If an option is not of its form, or one field is given two columns.
    pub fn new(options: &Options) -> Result<Self> {
        let mut map: Vec<_> =
            options.map.iter().map(|text| Mapping::parse(text)).collect::<Result<_>>()?;
        map.extend(Mapping::of_flag(Field::Run, "--runs", &options.runs));
        map.extend(Mapping::of_flag(Field::Weight, "--weight", &options.weight));
        let wide = options.wide.as_deref().map(Wide::parse).transpose()?;
        for (i, mapping) in map.iter().enumerate() {
            let name = mapping.field.name();
            if let Some(twin) = map[..i].iter().find(|earlier| earlier.field == mapping.field) {
                return mapping.refuse(format!("{twin} already says what {name} is"));
            }
            if let Some(wide) = wide.filter(|wide| wide.makes(name)) {
                return mapping.refuse(format!("--wide {wide} already says what {name} is"));
            }
        }
        let filters = options.filters.iter().map(|text| Filter::readings(text));
        let filters = filters.collect::<Result<_>>()?;
        let Options { percent, decimal_comma, .. } = *options;
        let notation = Notation { percent, decimal_comma };
        Ok(Self { map, filters, wide, group_by: options.group_by.clone(), notation })
    }

    /// The special columns that no option asks for.
    fn unasked(&self, fields: &[(Field, usize)]) -> Vec<String> {
        let asked = |field: Field| {
            (field == Field::Domain && self.group_by.is_some())
                || self.map.iter().any(|mapping| mapping.field == field)
        };
        let special = fields.iter().map(|(field, _)| *field).filter(|field| field.is_special());
        special.filter(|field| !asked(*field)).map(|field| field.name().to_string()).collect()
    }
}

/// What a column of a file may be taken for.
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

    fn name(self) -> &'static str {
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

    /// Whether the column changes what is fitted, although it holds no number of a law.
    fn is_special(self) -> bool {
        matches!(self, Self::Domain | Self::Run | Self::Weight | Self::Parent)
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// Puts a cell where it belongs, or says what is wrong with it.
    fn set(self, run: &mut Run, cell: &Cell, percent: bool) -> Result<(), String> {
        match self {
            Self::Number(column) => {
                let value = match column {
                    Column::P => number(cell, cell.share(percent))?,
                    _ => number(cell, cell.number())?,
                };
                // A `Row` cannot tell a size that is NaN from one that is not known.
                let size = !matches!(column, Column::LossPt | Column::LossFt | Column::Loss);
                if size && value.is_some_and(f64::is_nan) {
                    let what = "which is not a number; leave it empty where it is unknown";
                    return Err(format!("{}, {what}", cell.shown()));
                }
                run.set(column, value);
            }
            // What is needed and missing is refused with the row's line when a law is fitted.
            Self::Weight => run.weight = number(cell, cell.number())?.unwrap_or(f64::NAN),
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

/// What a cell is read as, or that it is no number, with how to write or read it as one.
fn number(cell: &Cell, value: Option<f64>) -> Result<Option<f64>, String> {
    match (cell, value) {
        (Cell::Empty, _) => Ok(None),
        (_, Some(value)) => Ok(Some(value)),
        (_, None) => {
            let hint = cell.hint().map_or_else(String::new, |hint| format!("; {hint}"));
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

/// A table, and what it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The rows.
    pub table: Table,
    /// Hex SHA-256 of the file.
    pub sha256: String,
}

/// Reads a table of losses: CSV, JSON Lines (or a JSON array of objects) or Parquet, by the file's
/// extension.
///
/// A cell without a value is a loss that was not measured or a size that is not known. Records that
/// are identical in every column of the file, also in those that nobody reads, are counted once,
/// with a warning.
///
/// # Errors
/// In one line: if there is no such file, its format is not known or broken (with the line), it
/// lacks a column that was asked for (with those that it has), a value that is read as a number is
/// none (with the line), or no row is left.
pub fn read(path: &Path, reading: &Reading) -> Result<Loaded> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let hash = sha256(&bytes);
    let records = parse(path, bytes, reading.notation)?;
    Ok(Loaded { table: table(path, records, reading)?, sha256: hash })
}

/// A file's records, whatever its columns mean.
///
/// # Errors
/// As [`read`], as far as it is the file's.
pub fn records(path: &Path) -> Result<Records> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    parse(path, bytes, Notation::default())
}

/// A file's records.
fn parse(path: &Path, bytes: Vec<u8>, notation: Notation) -> Result<Records> {
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
        "csv" => csv::read(path, utf8(path, &bytes)?, b',', notation.decimal_comma),
        "tsv" => csv::read(path, utf8(path, &bytes)?, b'\t', notation.decimal_comma),
        "parquet" => parquet::read(path, bytes),
        _ => json::read(path, &bytes),
    }?;
    if records.rows.is_empty() {
        Err(Error::content(path, None, "the file has no rows"))
    } else {
        Ok(records)
    }
}

/// The text of a file, without the mark that some programs put at its start.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Error::content(path, line, "is not UTF-8 text; save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What the laws know of a file's records.
fn table(path: &Path, mut records: Records, reading: &Reading) -> Result<Table> {
    let columns = records.columns.clone();
    let mut warnings = std::mem::take(&mut records.warnings);
    warnings.extend(records.drop_twins());
    if let Some(wide) = &reading.wide {
        records = wide.lengthen(path, records)?;
    }
    let places = Places { path, records: &records, reading };
    let fields = places.fields()?;
    let unasked = reading.unasked(&fields);
    let filters = reading.filters.iter().map(|readings| places.filter(readings));
    let filters: Vec<_> = filters.collect::<Result<_>>()?;

    let mut runs = Vec::new();
    for row in &records.rows {
        let kept = |(filter, column): &(&Filter, usize)| filter.keeps(&row.cells[*column]);
        let kept: Result<Vec<_>, String> = filters.iter().map(kept).collect();
        if !kept.map_err(|why| records.fault(path, row, &why))?.contains(&false) {
            let mut run = Run { line: Some(row.line), ..Run::default() };
            for &(field, column) in &fields {
                let cell = &row.cells[column];
                field.set(&mut run, cell, reading.notation.percent).map_err(|why| {
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
    Ok(Table { path: path.to_owned(), columns, unasked, runs, warnings })
}

/// Which column of a file is what.
struct Places<'a> {
    path: &'a Path,
    records: &'a Records,
    reading: &'a Reading,
}

impl Places<'_> {
    /// The fields that the file has, each with its column.
    fn fields(&self) -> Result<Vec<(Field, usize)>> {
        let mut fields = Vec::new();
        for field in Field::ALL {
            let mapping = self.reading.map.iter().find(|mapping| mapping.field == field);
            let column = match (field, &self.reading.group_by, mapping) {
                (Field::Domain, Some(name), _) => {
                    Some(self.named(name, &format!("--group-by {name}"))?)
                }
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

    /// The reading of a filter whose column is there, and that column.
    fn filter<'a>(&self, readings: &'a [Filter]) -> Result<(&'a Filter, usize)> {
        let is_there = |filter: &&Filter| {
            Field::by_name(&filter.column).is_some_and(|field| self.is_mapped(field))
                || self.records.columns.contains(&filter.column)
        };
        // Where none is there, the shortest name is the one that is missing.
        let filter = readings.iter().find(is_there).or(readings.last());
        let filter = filter.expect("a filter has a reading");
        Ok((filter, self.named(&filter.column, &format!("--where {filter}"))?))
    }

    fn is_mapped(&self, field: Field) -> bool {
        self.reading.map.iter().any(|mapping| mapping.field == field)
    }

    /// The column of a field's name, or else the file's own column.
    fn named(&self, name: &str, option: &str) -> Result<usize> {
        let mapped = self.reading.map.iter().find(|mapping| mapping.field.name() == name);
        self.column(mapped.map_or(name, |mapping| &mapping.column), option)
    }

    fn column(&self, name: &str, option: &str) -> Result<usize> {
        let columns = &self.records.columns;
        let refuse = |what: String| Err(Error::content(self.path, None, what));
        let mut places = (0..columns.len()).filter(|&i| columns[i] == name);
        match (places.next(), places.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => {
                refuse(format!("several columns are named {name}; rename all but one"))
            }
            (None, _) => refuse(format!(
                "there is no column {name}, as {option} has it; the columns are {}",
                columns.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests;
