//! Comma- and tab-separated values: a header, then one record per row.

use super::{Cell, Field, Record, Records, Unit};
use crate::warning::{Warning, WarningKind};
use crate::{Error, Result};
use ::csv::{Reader, ReaderBuilder, StringRecord, Trim};
use std::path::Path;

/// The records of a text. A quoted field may contain separators and line ends. Rows without any value,
/// which spreadsheets leave, are skipped, and so are lines that start with `#`.
///
/// If the header is a single column and another separator splits it, that separator is used. A first
/// line `sep=;`, which spreadsheets write, also sets the separator.
///
/// # Errors
/// If there is no header, a row has another number of fields than the header, or a quotation mark
/// is never closed.
pub fn read(path: &Path, text: &str, separator: u8, decimal_comma: bool) -> Result<Records> {
    let Layout { start, separator, comments } = Layout::find(text, separator);
    let first_line = 1 + text[..start].matches('\n').count() as u64;
    let text = &text[start..];
    let mut reader = reader(text, separator, comments);
    let mut lines = Lines { text, at: 0, line: first_line, comments, passed: Vec::new() };
    let mut header: Option<StringRecord> = None;
    let mut rows = Vec::new();
    let mut record = StringRecord::new();
    let cell = if decimal_comma { Cell::of_text_with_decimal_comma } else { Cell::of_text };
    loop {
        let start = reader.position().byte() as usize;
        let more = reader
            .read_record(&mut record)
            .map_err(|error| Error::content(path, None, error.to_string()))?;
        let line = lines.of_record(start);
        if !more {
            break;
        }
        let raw = text.get(lines.at..).unwrap_or_default();
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
            Some(_) => rows.push(Record { line, cells: record.iter().map(cell).collect() }),
        }
    }
    let header = header.filter(|header| header.iter().any(|name| !name.is_empty()));
    let header = header.ok_or_else(|| Error::content(path, None, "the file has no header"))?;
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    if let [only] = columns.as_slice()
        && only.split_whitespace().any(|word| word != only && Field::by_name(word).is_some())
    {
        let reason = format!("the header is one column, {only:?}; separate columns by commas");
        return Err(Error::content(path, first_line, reason));
    }
    let warnings = lines.warning().into_iter().collect();
    Ok(Records { unit: Unit::Line, columns, rows, warnings })
}

fn reader(text: &str, separator: u8, comments: bool) -> Reader<&[u8]> {
    ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        // A row's own number of fields is refused by our own line, since the reader's refusal
        // miscounts lines that end in CR LF.
        .flexible(true)
        .trim(Trim::All)
        .comment(comments.then_some(b'#'))
        .from_reader(text.as_bytes())
}

/// The layout of a text.
#[derive(Debug, PartialEq)]
struct Layout {
    /// The position of the header.
    start: usize,
    separator: u8,
    /// Whether lines that start with `#` are comments. They are not if the header starts with `#`.
    comments: bool,
}

impl Layout {
    fn find(text: &str, mut separator: u8) -> Self {
        let (mut at, mut comment) = (0, None);
        for line in text.split_inclusive('\n') {
            let content = line.trim();
            let named = content.get(..4).filter(|start| start.eq_ignore_ascii_case("sep="));
            match (named, content.get(4..).map(str::as_bytes)) {
                (Some(_), Some(&[named])) => separator = named,
                // A tab is trimmed away with the end of its line.
                (Some(_), Some([])) => separator = b'\t',
                _ if content.starts_with('#') => {
                    comment = Some(at + line.len() - line.trim_start().len());
                }
                _ if content.is_empty() => {}
                _ => break,
            }
            at += line.len();
        }
        let start = match comment {
            Some(comment) => header_behind_hash(text, comment, at, separator).unwrap_or(at),
            None => at,
        };
        let text = &text[start..];
        let separator = better_separator(text, separator);
        Self { start, separator, comments: !text.starts_with('#') }
    }
}

/// The position of a header that is written as the last comment, as NumPy does: after the `#` it has as
/// many fields as the next row, which has a number where the header has a name. A first column may be
/// named `#`.
fn header_behind_hash(text: &str, comment: usize, row: usize, separator: u8) -> Option<usize> {
    let behind = text[comment + 1..row].trim_start_matches([' ', '#']);
    let start = row - behind.len();
    let separator = better_separator(&text[start..], separator);
    let [header, first] = first_records(&text[start..], separator)?;
    let is_number = |field: &str| field.parse::<f64>().is_ok();
    let is_header = header.len() > 1
        && header.len() == first.len()
        && !header.iter().any(is_number)
        && first.iter().any(is_number);
    let start = if behind.as_bytes().first() == Some(&separator) { comment } else { start };
    is_header.then_some(start)
}

/// The separator that splits a single-column header into several columns, and the row below it into as
/// many.
fn better_separator(text: &str, given: u8) -> u8 {
    let columns = |separator: u8| match first_records(text, separator) {
        Some([header, first]) if header.len() == first.len() => header.len(),
        _ => 0,
    };
    let is_one = first_records(text, given).is_some_and(|[header, _]| header.len() == 1);
    let others = [b',', b';', b'\t', b'|'].into_iter().filter(|&separator| separator != given);
    match others.max_by_key(|&separator| columns(separator)) {
        Some(other) if is_one && columns(other) > 1 => other,
        _ => given,
    }
}

/// The header and the first row.
fn first_records(text: &str, separator: u8) -> Option<[StringRecord; 2]> {
    let mut records = reader(text, separator, !text.starts_with('#')).into_records();
    Some([records.next()?.ok()?, records.next()?.ok()?])
}

/// Whether the last record of a file includes the lines after an unclosed quotation mark.
fn is_open(raw: &str) -> bool {
    let raw = raw.trim();
    raw.contains('\n') && raw.matches('"').count() % 2 == 1
}

/// Counts the lines of a text while it is read.
struct Lines<'a> {
    text: &'a str,
    /// The position of the last record.
    at: usize,
    line: u64,
    /// Whether lines that start with `#` are skipped.
    comments: bool,
    /// The comments so far.
    passed: Vec<u64>,
}

impl Lines<'_> {
    /// The line of the next record. The reader's position is before the preceding line end, empty lines
    /// and comments.
    fn of_record(&mut self, from: usize) -> u64 {
        let bytes = self.text.as_bytes();
        let mut start = from.min(bytes.len());
        loop {
            let is_end = |&&byte: &&u8| byte == b'\n' || byte == b'\r';
            start += bytes[start..].iter().take_while(is_end).count();
            self.go_to(start);
            if !(self.comments && bytes[start..].starts_with(b"#")) {
                return self.line;
            }
            self.passed.push(self.line);
            start += bytes[start..].iter().take_while(|&&byte| byte != b'\n').count();
        }
    }

    fn go_to(&mut self, start: usize) {
        let passed = &self.text.as_bytes()[self.at..start];
        let count = |byte: u8| passed.iter().filter(|&&b| b == byte).count();
        let pairs = passed.windows(2).filter(|pair| pair == b"\r\n").count();
        self.line += (count(b'\n') + count(b'\r') - pairs) as u64;
        self.at = start;
    }

    fn warning(&self) -> Option<Warning> {
        let first = self.passed.first()?;
        Some(WarningKind::NotReadAsWritten.warn(match self.passed.len() {
            1 => format!("line {first} starts with # and is taken for a comment"),
            n => format!("{n} lines start with # and are taken for comments, the first is {first}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(text: &str) -> Records {
        read(Path::new("a.csv"), text, b',', false).unwrap()
    }

    fn refusal(text: &str) -> String {
        read(Path::new("a.csv"), text, b',', false).unwrap_err().to_string()
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
        let text = "a\tb,c\n1\t\"2\t3\"\n";
        let records = read(Path::new("a.tsv"), text, b'\t', false).unwrap();
        assert_eq!(records.columns, ["a", "b,c"]);
        assert_eq!(rows(&records), [(2, vec!["1", "2\t3"])]);
    }

    #[test]
    fn other_separators_are_found_where_the_header_is_one_column() {
        for (text, first) in [
            ("n_params;loss\n1;2,5\n", 2),
            ("n_params|loss\r\n1|2,5\r\n", 2),
            ("n_params\tloss\n1\t2,5\n", 2),
            ("sep=;\nn_params;loss\n1;2,5\n", 3),
            ("SEP=|\r\nn_params|loss\r\n1|2,5\r\n", 3),
            ("sep=\t\nn_params\tloss\n1\t2,5\n", 3),
        ] {
            let records = records(text);
            assert_eq!(records.columns, ["n_params", "loss"], "{text:?}");
            assert_eq!(rows(&records), [(first, vec!["1", "2,5"])], "{text:?}");
            assert_eq!(records.warnings, []);
        }
        let commas = read(Path::new("a.tsv"), "n_params,loss\n1,2\n", b'\t', false).unwrap();
        assert_eq!(commas.columns, ["n_params", "loss"]);
        // A column alone, whatever its name and its values.
        for text in ["a;b\n1\n", "loss\n1;2\n", "loss\n\"1\"\n"] {
            assert_eq!(records(text).columns.len(), 1, "{text:?}");
        }
        let commas = read(Path::new("a.csv"), "n;loss\n1;2,5\n", b',', true).unwrap();
        assert_eq!(commas.rows[0].cells[1].number(), Some(2.5));
        let expected = "a.csv, line 2: the header is one column, \"n_params d_tokens loss\"; \
                        separate columns by commas";
        assert_eq!(refusal("\nn_params d_tokens loss\n1 2 3\n"), expected);
    }

    #[test]
    fn lines_that_start_with_a_hash_are_comments() {
        let text = "# runs of May, \"one and two\n# losses, in nats\r\n\nn_params,loss\n1,2\n# 3,4\n5,6\n#";
        let commented = records(text);
        assert_eq!(rows(&commented), [(5, vec!["1", "2"]), (7, vec!["5", "6"])]);
        let warning = "2 lines start with # and are taken for comments, the first is 6";
        assert_eq!(commented.warnings[0].message, warning);
        // As NumPy writes a header, with a separator that is found too.
        for text in ["# n_params,loss\n1,2\n", "# May\n#n_params;loss\r\n1;2\r\n"] {
            let records = records(text);
            assert_eq!(records.columns, ["n_params", "loss"], "{text:?}");
            assert_eq!(records.rows.len(), 1);
        }
        // A header that starts so makes rows of such lines.
        let numbered = records("#,loss\n1,2\n#3,4\n");
        assert_eq!(numbered.columns, ["#", "loss"]);
        assert_eq!(rows(&numbered), [(2, vec!["1", "2"]), (3, vec!["#3", "4"])]);
        assert_eq!(refusal("# a\n# b\n"), "a.csv: the file has no header");
        // Quoted it is a value.
        assert_eq!(rows(&records("a,b\n\"#1\",2\n")), [(2, vec!["#1", "2"])]);
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
        fn no_text_panics(text in "(sep=)?[a#;|\",\n\r 1\u{e9}]{0,40}") {
            if let Ok(records) = read(Path::new("a.csv"), &text, b',', false) {
                let lines = text.matches(['\n', '\r']).count() as u64 + 1;
                prop_assert!(records.rows.iter().all(|row| (1..=lines).contains(&row.line)));
            }
        }
    }
}
