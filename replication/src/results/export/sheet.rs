//! A table in columns, each with a description.

use crate::format::{cell, line};
use forgetting_laws::{Error, Result};

/// A column of a table whose rows are made from a `T`.
pub struct Column<T> {
    head: Head,
    of: Of<T>,
}

/// The description of a column, for the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The name in the header.
    pub name: &'static str,
    /// The unit; may be empty.
    pub unit: &'static str,
    /// Its meaning, and when it is empty.
    pub meaning: &'static str,
}

/// How a cell is made. A number that is not finite is an empty cell.
enum Of<T> {
    Text(fn(&T) -> String),
    Integer(fn(&T) -> Option<u64>),
    Number(fn(&T) -> f64),
    Flag(fn(&T) -> bool),
}

impl<T> Column<T> {
    /// A column of texts; an empty one is an empty cell.
    pub fn text(name: &'static str, meaning: &'static str, of: fn(&T) -> String) -> Self {
        Self { head: Head { name, unit: "", meaning }, of: Of::Text(of) }
    }

    /// A column of truth values.
    pub fn flag(name: &'static str, meaning: &'static str, of: fn(&T) -> bool) -> Self {
        Self { head: Head { name, unit: "", meaning }, of: Of::Flag(of) }
    }

    /// A column of counts.
    pub fn integer(
        name: &'static str,
        unit: &'static str,
        meaning: &'static str,
        of: fn(&T) -> Option<u64>,
    ) -> Self {
        Self { head: Head { name, unit, meaning }, of: Of::Integer(of) }
    }

    /// A column of numbers.
    pub fn number(
        name: &'static str,
        unit: &'static str,
        meaning: &'static str,
        of: fn(&T) -> f64,
    ) -> Self {
        Self { head: Head { name, unit, meaning }, of: Of::Number(of) }
    }

    fn values(&self, rows: &[T]) -> Result<Values> {
        let count = |value: u64| {
            let requirement = "must be below 2^63 to stand in a table";
            i64::try_from(value).map_err(|_| Error::setting(self.head.name, value, requirement))
        };
        Ok(match self.of {
            Of::Text(of) => {
                let text = |row| Some(of(row)).filter(|text| !text.is_empty());
                Values::Text(rows.iter().map(text).collect())
            }
            Of::Integer(of) => {
                let counts = rows.iter().map(|row| of(row).map(count).transpose());
                Values::Integer(counts.collect::<Result<_>>()?)
            }
            Of::Number(of) => {
                let number = |row| Some(of(row)).filter(|value| value.is_finite());
                Values::Number(rows.iter().map(number).collect())
            }
            Of::Flag(of) => Values::Flag(rows.iter().map(|row| Some(of(row))).collect()),
        })
    }
}

/// The cells of a column; `None` is an empty one.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Flag(Vec<Option<bool>>),
}

impl Values {
    /// The type, for the dictionary.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Flag(_) => "true or false",
        }
    }

    /// A cell in a CSV file.
    fn shown(&self, row: usize) -> String {
        match self {
            Self::Text(values) => values[row].clone().unwrap_or_default(),
            Self::Integer(values) => values[row].map(|v| v.to_string()).unwrap_or_default(),
            Self::Number(values) => values[row].map(cell).unwrap_or_default(),
            Self::Flag(values) => values[row].map(|v| v.to_string()).unwrap_or_default(),
        }
    }
}

/// A table, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The stem of its files.
    pub name: &'static str,
    /// What a row is.
    pub row: &'static str,
    /// Its columns.
    pub columns: Vec<(Head, Values)>,
    /// The number of rows.
    pub len: usize,
}

impl Sheet {
    /// The table of some rows.
    ///
    /// # Errors
    /// If a count is 2⁶³ or more.
    pub fn new<T>(
        name: &'static str,
        row: &'static str,
        columns: &[Column<T>],
        rows: &[T],
    ) -> Result<Self> {
        let columns = columns.iter().map(|column| Ok((column.head, column.values(rows)?)));
        Ok(Self { name, row, columns: columns.collect::<Result<_>>()?, len: rows.len() })
    }

    /// The table as CSV; numbers have the shortest form that reads back exactly.
    pub fn csv(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(head, _)| head.name.to_string()).collect();
        let mut text = line(&names);
        for row in 0..self.len {
            let cells: Vec<_> = self.columns.iter().map(|(_, values)| values.shown(row)).collect();
            text += &line(&cells);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_exact_and_empty_where_there_is_nothing() {
        let columns = [
            Column::text("name", "", |row: &(f64, u64)| format!("a,{}", row.1)),
            Column::integer("count", "", "", |row| (row.1 > 0).then_some(row.1)),
            Column::number("loss", "", "", |row| row.0),
            Column::flag("large", "", |row| row.1 > 5),
        ];
        let sheet = Sheet::new("t", "r", &columns, &[(0.1 + 0.2, 7), (f64::NAN, 0)]).unwrap();
        let expected =
            "name,count,loss,large\n\"a,7\",7,0.30000000000000004,true\n\"a,0\",,,false\n";
        assert_eq!(sheet.csv(), expected);
        let kinds: Vec<_> = sheet.columns.iter().map(|(_, values)| values.kind()).collect();
        assert_eq!(kinds, ["text", "integer", "number", "true or false"]);
    }

    #[test]
    fn a_count_that_no_table_holds_is_refused() {
        let column = [Column::integer("steps", "", "", |row: &u64| Some(*row))];
        assert!(Sheet::new("t", "r", &column, &[i64::MAX as u64]).is_ok());
        let error = Sheet::new("t", "r", &column, &[1 << 63]).unwrap_err().to_string();
        assert!(error.contains("steps") && error.contains("2^63"), "{error}");
    }
}
