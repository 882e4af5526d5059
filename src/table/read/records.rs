//! A file's rows before its columns are interpreted.

use super::Naming;
use crate::Error;
use crate::numbers;
use crate::warning::{Warning, WarningKind};
use std::collections::HashSet;
use std::path::Path;

/// The rows of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Whether messages name lines or rows.
    pub unit: Unit,
    /// The header.
    pub columns: Vec<String>,
    /// The rows, each with one cell per column.
    pub rows: Vec<Record>,
    /// Warnings about how they were read.
    pub warnings: Vec<Warning>,
}

/// How the position of a row is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The line of the text on which it starts, counted from 1.
    Line,
    /// The number of the row, counted from 1, if the file has no lines.
    Row,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its line or row.
    pub line: u64,
    /// Its cells.
    pub cells: Vec<Cell>,
}

/// One cell. A number is kept as a text from which it can be read without loss and which can also serve
/// as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// No value.
    Empty,
    /// Text, or a number.
    Text(String),
    /// A number of single precision, as its shortest text.
    Single(String),
    /// A number whose value depends on the decimal sign: 1.234.
    Ambiguous(String),
    /// A list, an object or anything else that is not a single value, as a text that identifies it.
    Other(String),
}

impl Cell {
    /// A cell of a text file, without the blanks around it.
    pub fn of_text(text: &str) -> Self {
        match text.trim() {
            "" => Self::Empty,
            text => Self::Text(text.to_owned()),
        }
    }

    /// A cell of a text file with decimal commas: 3,14 is 3.14, and 1.234,5 is 1234.5.
    pub fn of_text_with_decimal_comma(text: &str) -> Self {
        match comma_number(text.trim()) {
            Some(CommaNumber::One(text)) => Self::Text(text),
            Some(CommaNumber::Ambiguous) => Self::Ambiguous(text.trim().to_owned()),
            None => Self::of_text(text),
        }
    }

    /// The text; empty if there is no value.
    pub fn text(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::Text(text) | Self::Single(text) | Self::Ambiguous(text) | Self::Other(text) => {
                text
            }
        }
    }

    /// The number, if the text is one; `nan` and `inf` are numbers.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Empty | Self::Ambiguous(_) | Self::Other(_) => None,
            _ => self.in_my_precision(self.text()),
        }
    }

    /// The share: 1% is 0.01, and so is 1 if every share is a percentage.
    pub fn share(&self, percent: bool) -> Option<f64> {
        let signed = self.text().ends_with('%');
        match self {
            Self::Empty | Self::Ambiguous(_) | Self::Other(_) => None,
            Self::Text(text) if signed => numbers::percentage(text),
            Self::Text(text) if percent => numbers::scaled(text, -2),
            Self::Single(text) if percent => {
                numbers::scaled(text, -2).map(|share| f64::from(share as f32))
            }
            _ => self.number(),
        }
    }

    /// What a cell that is not a number may mean, and what to do.
    pub(super) fn hint(&self, naming: Naming) -> Option<String> {
        let text = self.text();
        let decimal_comma = naming.name("decimal_comma");
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let groups = |separator: char| {
            let mut groups = text.split(separator);
            let first = groups.next().is_some_and(|first| digits(first) && first.len() <= 3);
            let rest: Vec<_> = groups.collect();
            first && !rest.is_empty() && rest.iter().all(|group| digits(group) && group.len() == 3)
        };
        let point = text.replacen(',', ".", 1);
        if let Self::Ambiguous(_) = self {
            let whole = text.replace('.', "");
            return Some(format!(
                "with decimal commas it may be {whole} or {text}: write {whole} or \
                                 {point}",
                point = text.replacen('.', ",", 1)
            ));
        }
        let is_decimal = point != text && point.parse::<f64>().is_ok();
        if groups(',') && is_decimal {
            Some(format!(
                "write it as {}, or {decimal_comma} reads it as {point}",
                text.replace(',', "")
            ))
        } else if [',', ' ', '\u{a0}', '\u{202f}', '\''].into_iter().any(groups) {
            Some("write it without separators of thousands".into())
        } else if is_decimal {
            Some(format!("{decimal_comma} reads it as {point}"))
        } else if let Ok(size) = numbers::size(text) {
            Some(format!("write it in digits, as {size:e}"))
        } else if ["na", "n/a", "null", "none", "-"].contains(&text.to_lowercase().as_str()) {
            Some("leave it empty if it is unknown".into())
        } else {
            None
        }
    }

    /// The number in a text, rounded to the precision of the cell: 0.01 equals the nearest number of
    /// single precision.
    pub fn in_my_precision(&self, text: &str) -> Option<f64> {
        match self {
            Self::Single(_) => text.parse::<f32>().ok().map(f64::from),
            _ => text.parse().ok(),
        }
    }

    /// The cell in a message: the text in quotation marks, shortened if it is long.
    pub fn shown(&self) -> String {
        const SHOWN: usize = 40;
        if let Self::Other(_) = self {
            return "a list or another value that is neither a number nor text".into();
        }
        let text = self.text();
        match text.char_indices().nth(SHOWN) {
            None => format!("{text:?}"),
            Some((end, _)) => format!("{:?}", format!("{}...", &text[..end])),
        }
    }
}

/// How a text is read with a decimal comma.
enum CommaNumber {
    /// A number: its text with a decimal point.
    One(String),
    /// Ambiguous: a group of thousands or three decimals.
    Ambiguous,
}

/// How a text is read if the comma is the decimal sign and points separate thousands; `None` if it has
/// neither.
fn comma_number(text: &str) -> Option<CommaNumber> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let (whole, fraction) = match unsigned.split_once(',') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split('.');
    let first = groups.next().unwrap_or_default();
    let rest: Vec<_> = groups.collect();
    let in_groups = (1..=3).contains(&first.len()) && !first.starts_with('0') && !rest.is_empty();
    let in_groups = in_groups && rest.iter().all(|group| group.len() == 3 && digits(group));
    if !digits(first) || !(rest.is_empty() || in_groups) {
        return None;
    }
    match fraction {
        Some(_) => {
            let number = text.replace('.', "").replacen(',', ".", 1);
            number.parse::<f64>().is_ok().then_some(CommaNumber::One(number))
        }
        None if rest.len() > 1 => Some(CommaNumber::One(text.replace('.', ""))),
        None => (rest.len() == 1).then_some(CommaNumber::Ambiguous),
    }
}

/// Memory for the cells of a table. A few bytes of a file can stand for any number of cells: a name that one
/// object has is a column for all, and Parquet states how often a value is repeated.
pub(super) struct Room {
    /// Bytes that are left.
    left: usize,
}

impl Room {
    /// Bytes of all cells together.
    const ALL: usize = 1 << 30;

    pub fn new() -> Self {
        Self { left: Self::ALL }
    }

    /// Takes the room of so many cells, which have so many bytes of text in all.
    ///
    /// # Errors
    /// In one line, if there is not as much.
    pub fn take(&mut self, cells: usize, text: usize) -> Result<(), String> {
        let needed = cells.saturating_mul(size_of::<Cell>()).saturating_add(text);
        self.left = self.left.checked_sub(needed).ok_or_else(|| {
            let most = Self::ALL >> 20;
            format!("its cells need more than {most} MiB of memory; leave out rows and columns")
        })?;
        Ok(())
    }
}

impl Records {
    /// Drops rows that repeat another in every column, with a warning.
    pub fn drop_twins(&mut self) -> Option<Warning> {
        const NAMED: usize = 5;
        let given = self.rows.len();
        let mut seen = HashSet::new();
        let is_first: Vec<bool> =
            self.rows.iter().map(|row| seen.insert(row.cells.as_slice())).collect();
        drop(seen);
        let mut is_first = is_first.into_iter();
        let (kept, twins): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.rows).into_iter().partition(|_| is_first.next() == Some(true));
        self.rows = kept;
        let places: Vec<_> = twins.iter().take(NAMED).map(|row| row.line.to_string()).collect();
        let rest = match twins.len().saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        let (repeat, unit) = match (twins.len(), self.unit) {
            (1, Unit::Line) => ("repeats another in every column and is", "line"),
            (1, Unit::Row) => ("repeats another in every column and is", "row"),
            (_, Unit::Line) => ("repeat another in every column and are", "lines"),
            (_, Unit::Row) => ("repeat another in every column and are", "rows"),
        };
        let places = places.join(", ");
        let count = twins.len();
        (count > 0).then(|| {
            WarningKind::RepeatedRows.warn(format!(
                "{count} of {given} rows {repeat} counted once: {unit} {places}{rest}"
            ))
        })
    }

    /// What is wrong with a row.
    pub fn fault(&self, path: &Path, row: &Record, reason: &str) -> Error {
        match self.unit {
            Unit::Line => Error::content(path, row.line, reason),
            Unit::Row => Error::content(path, None, format!("row {}: {reason}", row.line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(unit: Unit, rows: &[&str]) -> Records {
        let row = |(line, text): (u64, &&str)| Record { line, cells: vec![Cell::of_text(text)] };
        let rows = (2..).zip(rows).map(row).collect();
        Records { unit, columns: vec!["a".into()], rows, warnings: Vec::new() }
    }

    #[test]
    fn twins_are_dropped_and_named() {
        let mut none = records(Unit::Line, &["1", "2"]);
        assert_eq!(none.drop_twins(), None);
        assert_eq!(none.rows.len(), 2);

        // Another text of the same number is another row.
        let mut one = records(Unit::Line, &["1", "2", "1", "1.0"]);
        let warning = "1 of 4 rows repeats another in every column and is counted once: line 4";
        assert_eq!(one.drop_twins().unwrap().message, warning);
        assert_eq!(one, Records { rows: one.rows.clone(), ..records(Unit::Line, &[]) });
        assert_eq!(one.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3, 5]);

        let mut many = records(Unit::Row, &["1"; 8]);
        let warning = "7 of 8 rows repeat another in every column and are counted once: \
                       rows 3, 4, 5, 6, 7 and 2 more";
        assert_eq!(many.drop_twins().unwrap().message, warning);
        assert_eq!(many.rows.len(), 1);
    }

    #[test]
    fn cells_are_numbers_where_their_text_is_one() {
        for (text, value) in [
            ("3", 3.0),
            (" -2.5e-3 ", -0.0025),
            ("1E6", 1e6),
            ("+.5", 0.5),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(Cell::of_text(text).number(), Some(value), "{text}");
        }
        assert!(Cell::of_text("NaN").number().unwrap().is_nan());
        for text in ["", "  ", "124M", "1,000", "1_000", "0x10", "NA", "3 4"] {
            assert_eq!(Cell::of_text(text).number(), None, "{text}");
        }
        assert_eq!(Cell::Other("3".into()).number(), None);
        assert_eq!(Cell::of_text(" \t"), Cell::Empty);
        assert_eq!(Cell::of_text(" a b ").text(), "a b");
    }

    #[test]
    fn shares_may_be_percentages() {
        let share = |text, percent| Cell::of_text(text).share(percent);
        assert_eq!(share("0.07", false), Some(0.07));
        assert_eq!(share("7%", false), Some(0.07));
        assert_eq!(share("7 %", true), Some(0.07));
        assert_eq!(share("7", true), Some(0.07));
        assert_eq!(share("1e-1", true), Some(0.001));
        assert_eq!(Cell::Single("7".into()).share(true), Some(f64::from(0.07f32)));
        for text in ["", "%", "many", "nan"] {
            assert_eq!(share(text, true), None, "{text}");
        }
    }

    #[test]
    fn decimal_commas_are_read_where_they_can_be_nothing_else() {
        for (text, number) in [
            ("3,25", 3.25),
            ("-0,5", -0.5),
            (",5", 0.5),
            ("1.234,5", 1234.5),
            ("1.234.567", 1_234_567.0),
            ("1,5e-3", 0.0015),
            ("7", 7.0),
            ("0.125", 0.125),
            ("3.25", 3.25),
        ] {
            let cell = Cell::of_text_with_decimal_comma(text);
            assert_eq!(cell.number(), Some(number), "{text}");
        }
        let cell = Cell::of_text_with_decimal_comma(" 1.234 ");
        assert_eq!((cell.number(), cell.text()), (None, "1.234"));
        assert!(cell.hint(Naming::Flag).unwrap().contains("1234 or 1.234: write 1234 or 1,234"));
        for text in ["a,b", "1,2,3", "GPT-2, small"] {
            assert_eq!(Cell::of_text_with_decimal_comma(text), Cell::of_text(text));
        }
    }

    #[test]
    fn what_is_no_number_has_a_hint() {
        for (text, hint) in [
            ("3,14", "--decimal-comma reads it as 3.14"),
            ("1,234", "write it as 1234, or --decimal-comma reads it as 1.234"),
            ("1,000,000", "without separators of thousands"),
            ("4 000", "without separators of thousands"),
            ("4\u{a0}000\u{a0}000", "without separators of thousands"),
            ("4M", "write it in digits, as 4e6"),
            ("NA", "leave it empty"),
        ] {
            let said = Cell::of_text(text).hint(Naming::Flag).unwrap_or_default();
            assert!(said.contains(hint), "{text}: {said}");
        }
        for text in ["3.5 nats", "", "a,b"] {
            assert_eq!(Cell::of_text(text).hint(Naming::Flag), None, "{text}");
        }
    }

    #[test]
    fn single_precision_is_widened_exactly() {
        let cell = Cell::Single("0.1".into());
        assert_eq!(cell.number(), Some(f64::from(0.1f32)));
        assert_eq!(cell.in_my_precision("0.1"), cell.number());
        assert_eq!(Cell::Text("0.1".into()).in_my_precision("0.1"), Some(0.1));
    }

    #[test]
    fn messages_show_the_start_of_a_long_cell() {
        assert_eq!(Cell::of_text("a\nb").shown(), "\"a\\nb\"");
        let forty = "\u{e9}".repeat(40);
        assert_eq!(Cell::of_text(&forty).shown(), format!("\"{forty}\""));
        assert_eq!(Cell::of_text(&format!("{forty}x")).shown(), format!("\"{forty}...\""));
    }

    #[test]
    fn faults_name_the_place() {
        let path = Path::new("a.csv");
        let lines = records(Unit::Line, &["1"]);
        assert_eq!(lines.fault(path, &lines.rows[0], "bad").to_string(), "a.csv, line 2: bad");
        let rows = records(Unit::Row, &["1"]);
        assert_eq!(rows.fault(path, &rows.rows[0], "bad").to_string(), "a.csv: row 2: bad");
    }
}
