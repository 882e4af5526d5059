//! Comma- and tab-separated values: a header, then a record a row.

use super::records::{Cell, Record, Records, Unit};
use ::csv::{ReaderBuilder, StringRecord, Trim};
use forgetting_laws::{Error, Result};
use std::path::Path;

/// The records of a text. Fields may be quoted and then hold separators and line ends. Rows without
/// any value, which spreadsheets leave, are none.
///
/// # Errors
/// If there is no header, a row has another number of fields than the header, or a quotation mark
/// is never closed.
pub fn read(path: &Path, text: &str, delimiter: u8) -> Result<Records> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        // Here, since the reader's own refusal miscounts lines that end in CR LF.
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut lines = Lines { text, at: 0, line: 1 };
    let mut header: Option<StringRecord> = None;
    let mut rows = Vec::new();
    let mut record = StringRecord::new();
    loop {
        let start = reader.position().byte() as usize;
        let more = reader
            .read_record(&mut record)
            .map_err(|error| Error::content(path, None, error.to_string()))?;
        if !more {
            break;
        }
        let line = lines.of_record(start);
        let raw = text.get(start..).unwrap_or_default();
        let last = reader.position().byte() as usize >= text.len();
        if last && is_open(raw) {
            let reason = "a field starts with a quotation mark that is never closed";
            return Err(Error::content(path, line, reason));
        }
        match &header {
            None => header = Some(record.clone()),
            Some(_) if record.iter().all(str::is_empty) => {}
            Some(header) if header.len() != record.len() => {
                let reason =
                    format!("has {} fields, and the header has {}", record.len(), header.len());
                return Err(Error::content(path, line, reason));
            }
            Some(_) => {
                rows.push(Record { line, cells: record.iter().map(Cell::of_text).collect() });
            }
        }
    }
    let header = header.filter(|header| header.iter().any(|name| !name.is_empty()));
    let header = header.ok_or_else(|| Error::content(path, None, "the file has no header"))?;
    let columns = header.iter().map(str::to_owned).collect();
    Ok(Records { unit: Unit::Line, columns, rows })
}

/// Whether the last record of a file swallowed the lines after a quotation mark.
fn is_open(raw: &str) -> bool {
    let raw = raw.trim();
    raw.contains('\n') && raw.matches('"').count() % 2 == 1
}

/// Counts lines on the way through a text.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that the reader found from here on: it leaves the end of the line
    /// before, and empty lines, to the next record.
    fn of_record(&mut self, from: usize) -> u64 {
        let bytes = self.text.as_bytes();
        let is_end = |&&byte: &&u8| byte == b'\n' || byte == b'\r';
        let ends = bytes.iter().skip(from).take_while(is_end).count();
        let start = (from + ends).min(bytes.len());
        let passed = &bytes[self.at..start];
        let count = |byte: u8| passed.iter().filter(|&&b| b == byte).count();
        let pairs = passed.windows(2).filter(|pair| pair == b"\r\n").count();
        self.line += (count(b'\n') + count(b'\r') - pairs) as u64;
        self.at = start;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(text: &str) -> Records {
        read(Path::new("a.csv"), text, b',').unwrap()
    }

    fn refusal(text: &str) -> String {
        read(Path::new("a.csv"), text, b',').unwrap_err().to_string()
    }

    /// Line and texts of each row.
    fn rows(records: &Records) -> Vec<(u64, Vec<&str>)> {
        let rows = records.rows.iter();
        rows.map(|row| (row.line, row.cells.iter().map(Cell::text).collect())).collect()
    }

    #[test]
    fn fields_may_be_quoted_empty_and_have_blanks_around() {
        let records = records("config name,\"a,b\", c\n\"x \"\"y\"\" \",, 3 \n");
        assert_eq!(records.columns, ["config name", "a,b", "c"]);
        assert_eq!(rows(&records), [(2, vec!["x \"y\"", "", "3"])]);
        assert_eq!(records.rows[0].cells[1], Cell::Empty);
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "1,2", "", "\"x", "y\",3", "", "", "4,5"].join(end);
            for text in [text.clone(), format!("{text}{end}"), format!("{end}{text}")] {
                let records = records(&text);
                let first = if text.starts_with(end) { 3 } else { 2 };
                let lines: Vec<_> = records.rows.iter().map(|row| row.line).collect();
                assert_eq!(lines, [first, first + 2, first + 6], "{text:?}");
                assert_eq!(records.rows[1].cells[0].text(), format!("x{end}y"));
            }
        }
    }

    #[test]
    fn tabs_separate_where_asked() {
        let records = read(Path::new("a.tsv"), "a\tb,c\n1\t\"2\t3\"\n", b'\t').unwrap();
        assert_eq!(records.columns, ["a", "b,c"]);
        assert_eq!(rows(&records), [(2, vec!["1", "2\t3"])]);
    }

    #[test]
    fn rows_without_any_value_are_none() {
        assert_eq!(rows(&records("a,b\n,\n1,\n , \n,,,\n")), [(3, vec!["1", ""])]);
    }

    #[test]
    fn ragged_rows_are_refused_with_their_line() {
        for (text, line, count) in [
            ("a,b\n1,2\n3\n", 3, 1),
            ("a,b\r\n1,2\r\n3,4,5\r\n", 3, 3),
            ("a,b\n\"1\n\n\",2\n\n3,4,5", 6, 3),
        ] {
            let expected = format!("a.csv, line {line}: has {count} fields, and the header has 2");
            assert_eq!(refusal(text), expected);
        }
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_is_refused() {
        let expected = "a.csv, line 3: a field starts with a quotation mark that is never closed";
        assert_eq!(refusal("a,b\n1,2\n3,\"x\n5,6\n7,8\n"), expected);
        assert_eq!(refusal("a,b\r\n1,2\r\n3,\"x\r\n5,6"), expected);
        // Within a field it is a character.
        assert_eq!(rows(&records("a,b\n1,5\" disk\n")), [(2, vec!["1", "5\" disk"])]);
        assert_eq!(rows(&records("a,b\n1,\"x\ny\"\n")), [(2, vec!["1", "x\ny"])]);
    }

    #[test]
    fn a_header_is_needed() {
        for text in ["\n\n", " ", ",,\n1,2,3\n"] {
            assert_eq!(refusal(text), "a.csv: the file has no header");
        }
        assert_eq!(records("a,,b").rows, []);
    }

    proptest! {
        /// What is written with quotation marks is read back, each row with its line.
        #[test]
        fn quoted_tables_are_read_back(
            cells in prop::collection::vec(["[a-c\",;\n\r\t ]{0,6}", "[0-9.]{1,4}"], 1..8),
            crlf in any::<bool>(),
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut text = format!("a,b{end}");
            let mut expected = Vec::new();
            for [a, b] in &cells {
                let count = text.replace("\r\n", "\n").matches(['\n', '\r']).count() as u64;
                expected.push((count + 1, vec![a.trim(), b]));
                text.push_str(&format!("\"{}\",{b}{end}", a.replace('"', "\"\"")));
            }
            let records = records(&text);
            prop_assert_eq!(rows(&records), expected);
        }

        #[test]
        fn no_text_panics(text in "[a\",\n\r 1]{0,40}") {
            if let Ok(records) = read(Path::new("a.csv"), &text, b',') {
                let lines = text.matches(['\n', '\r']).count() as u64 + 1;
                prop_assert!(records.rows.iter().all(|row| (1..=lines).contains(&row.line)));
            }
        }
    }
}
