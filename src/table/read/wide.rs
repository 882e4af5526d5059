//! Wide tables, which have one column for each size of the data.

use super::records::Room;
use super::{Cell, Naming, Record, Records};
use crate::table::Column;
use crate::{Error, Result};
use std::fmt;
use std::path::Path;

/// Turns each column whose header is a number into a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wide {
    /// The column that gets the header.
    pub header: Column,
    /// The column that gets the cell.
    pub cell: Column,
}

impl Wide {
    /// Reads `HEADER:CELL`, such as `d_ft_tokens:loss_ft`.
    ///
    /// # Errors
    /// If the names are not those of two different columns of numbers.
    pub fn parse(text: &str, naming: Naming) -> Result<Self> {
        let by_name = |name: &str| Column::ALL.into_iter().find(|c| c.name() == name.trim());
        let names = text.split_once(':');
        let columns = names.and_then(|(header, cell)| Some((by_name(header)?, by_name(cell)?)));
        match columns {
            Some((header, cell)) if header != cell => Ok(Self { header, cell }),
            _ => {
                let names = Column::ALL.map(Column::name).join(", ");
                let requirement = format!(
                    "must be what the headers are and what the cells are, such as \
                     d_ft_tokens:loss_ft; there are {names}"
                );
                Err(Error::setting(naming.name("wide"), text, requirement))
            }
        }
    }

    /// Whether the headers or the cells give the long table a column of this name.
    pub fn makes(self, name: &str) -> bool {
        [self.header, self.cell].iter().any(|column| column.name() == name)
    }

    /// The long table: the other columns, then the columns of the header and of the cell.
    ///
    /// # Errors
    /// If no header is a number, two headers are equal, or the table already has one of the new
    /// columns.
    pub fn lengthen(self, path: &Path, records: Records, naming: Naming) -> Result<Records> {
        let is_number = |name: &String| name.parse().is_ok_and(f64::is_finite);
        let columns = &records.columns;
        let (sizes, others): (Vec<_>, Vec<_>) =
            (0..columns.len()).partition(|&i| is_number(&columns[i]));
        let refuse = |what: String| {
            let setting = naming.name("wide");
            let reason =
                format!("{setting} {self}: {what}; the columns are {}", columns.join(", "));
            Err(Error::content(path, None, reason))
        };
        if sizes.is_empty() {
            return refuse("no header is a number".into());
        }
        let twin = |i: &&usize| columns[..**i].contains(&columns[**i]);
        if let Some(&twin) = sizes.iter().find(twin) {
            return refuse(format!("several columns are named {}", columns[twin]));
        }
        let new = [self.header, self.cell].map(|column| column.name().to_owned());
        if let Some(name) = new.iter().find(|name| columns.contains(name)) {
            return refuse(format!("the column {name} exists already"));
        }
        let (mut rows, mut room) = (Vec::new(), Room::new());
        for row in &records.rows {
            let text: usize = others.iter().map(|&i| row.cells[i].text().len()).sum();
            let cells = sizes.len().saturating_mul(others.len() + new.len());
            if let Err(what) = room.take(cells, text.saturating_mul(sizes.len())) {
                return refuse(what);
            }
            for &size in &sizes {
                let kept = others.iter().map(|&i| row.cells[i].clone());
                let new = [Cell::of_text(&columns[size]), row.cells[size].clone()];
                rows.push(Record { line: row.line, cells: kept.chain(new).collect() });
            }
        }
        let kept = others.iter().map(|&i| columns[i].clone());
        Ok(Records { columns: kept.chain(new).collect(), rows, ..records })
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.header, self.cell)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    const WIDE: Wide = Wide { header: Column::DFtTokens, cell: Column::LossFt };

    fn records(columns: &[&str], rows: &[&[&str]]) -> Records {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let record = |(line, cells): (u64, &&[&str])| Record {
            line,
            cells: cells.iter().map(|text| Cell::of_text(text)).collect(),
        };
        let rows = (2..).zip(rows).map(record).collect();
        Records { unit: Unit::Line, columns, rows, warnings: Vec::new() }
    }

    fn refusal(columns: &[&str]) -> String {
        WIDE.lengthen(Path::new("a.csv"), records(columns, &[]), Naming::Flag)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn names_are_read() {
        assert_eq!(Wide::parse("d_ft_tokens:loss_ft", Naming::Flag).unwrap(), WIDE);
        assert_eq!(Wide::parse(&WIDE.to_string(), Naming::Flag).unwrap(), WIDE);
        assert_eq!(Wide::parse("p : loss_pt", Naming::Flag).unwrap().header, Column::P);
        assert!(WIDE.makes("loss_ft") && WIDE.makes("d_ft_tokens") && !WIDE.makes("p"));
        for text in ["", "loss_ft", "d_ft_tokens:", "size:loss_ft", "p:p", "p:loss:loss_ft"] {
            let message = Wide::parse(text, Naming::Flag).unwrap_err().to_string();
            assert!(message.starts_with(&format!("--wide = {text}: must be")), "{message}");
        }
    }

    #[test]
    fn each_number_of_the_header_is_a_row() {
        let table =
            records(&["0", "name", "1e3", "inf"], &[&["4", "a", "3", "x"], &["", "b", "2", ""]]);
        let long = WIDE.lengthen(Path::new("a.csv"), table, Naming::Flag).unwrap();
        let expected = records(
            &["name", "inf", "d_ft_tokens", "loss_ft"],
            &[
                &["a", "x", "0", "4"],
                &["a", "x", "1e3", "3"],
                &["b", "", "0", ""],
                &["b", "", "1e3", "2"],
            ],
        );
        assert_eq!(long.columns, expected.columns);
        assert_eq!(long.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 2, 3, 3]);
        for (row, expected) in long.rows.iter().zip(&expected.rows) {
            assert_eq!(row.cells, expected.cells);
        }
        assert_eq!(long.rows.len(), expected.rows.len());
    }

    #[test]
    fn a_text_is_not_repeated_until_the_memory_is_full() {
        let sizes: Vec<_> = (0..2_000).map(|i| i.to_string()).collect();
        let columns: Vec<_> =
            ["name"].into_iter().chain(sizes.iter().map(String::as_str)).collect();
        let name = "a".repeat(1 << 20);
        let row: Vec<_> = [name.as_str()].into_iter().chain(sizes.iter().map(|_| "1")).collect();
        let table = records(&columns, &[&row]);
        let refusal = WIDE.lengthen(Path::new("a.csv"), table, Naming::Flag).unwrap_err();
        assert!(refusal.to_string().contains(": its cells need more than 1024 MiB of memory;"));
    }

    #[test]
    fn headers_that_give_no_rows_are_refused() {
        let start = "a.csv: --wide d_ft_tokens:loss_ft:";
        let expected = format!("{start} no header is a number; the columns are a, nan");
        assert_eq!(refusal(&["a", "nan"]), expected);
        assert!(
            refusal(&["10", "a", "10"])
                .starts_with(&format!("{start} several columns are named 10;"))
        );
        for name in ["loss_ft", "d_ft_tokens"] {
            let expected = format!("{start} the column {name} exists already;");
            assert!(refusal(&["10", name]).starts_with(&expected));
        }
    }
}
