//! JSON: one object per line, or one array of objects.

use super::records::Room;
use super::{Cell, Record, Records, Unit};
use crate::formats::json::{self, NonFinite, Stop};
use crate::warning::WarningKind;
use crate::{Error, Result};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// The records of a file. The columns are all names, in the order in which they appear; an object that
/// lacks a name has no value there. A field of a nested object is a column `outer.inner`.
///
/// The file may have one object per line, objects over several lines, an array of objects, or one
/// object with a whole table: an array of objects (`{"data": [...]}`), the pandas orients `split` and
/// `columns`, or one list per column. Values that Python writes and JSON does not allow are read as in
/// [`json::records`]; NaN and Infinity are numbers.
///
/// # Errors
/// If the file is not JSON, contains something other than objects, or an object has a name twice.
pub fn read(path: &Path, mut bytes: &[u8]) -> Result<Records> {
    let mut objects: Vec<(u64, Object)> = Vec::new();
    let each = |line: u64, object: Object| {
        objects.push((line, object));
        Ok(())
    };
    let read = json::records(&mut bytes, PhantomData::<Object>, NonFinite::Text, each);
    let summary = read.map_err(|stop| match stop {
        Stop::Read(error) => Error::io(path)(error),
        Stop::At(line, reason) => Error::content(path, line, reason),
    })?;
    let warnings = match summary.replaced {
        0 => Vec::new(),
        n => vec![
            WarningKind::NotReadAsWritten
                .warn(format!("{n} escapes of half a surrogate pair were read as U+FFFD")),
        ],
    };
    if let [(_, Object(fields))] = objects.as_slice()
        && let Some(table) = whole_table(fields)
    {
        let table = table.map_err(|reason| Error::content(path, None, reason))?;
        return Ok(Records { warnings, ..table });
    }
    let mut table = Rows::default();
    for (line, Object(fields)) in objects {
        let twice = |Twice(name)| Error::content(path, line, format!("{name:?} appears twice"));
        table.push(line, &fields).map_err(twice)?;
    }
    let table = table.records(Unit::Line).map_err(|reason| Error::content(path, None, reason))?;
    Ok(Records { warnings, ..table })
}

/// The name that an object has twice.
struct Twice(String);

/// Rows whose columns are collected while they are read.
#[derive(Default)]
struct Rows {
    columns: Vec<String>,
    places: HashMap<String, usize>,
    /// The cells that each row has, with their columns.
    rows: Vec<(u64, Vec<(usize, Cell)>)>,
    /// The number of rows up to the last one that has each column.
    last: Vec<usize>,
}

impl Rows {
    /// Adds an object.
    fn push(&mut self, line: u64, fields: &[(String, Value)]) -> Result<(), Twice> {
        let mut cells = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            self.put(&mut cells, name, value)?;
        }
        self.rows.push((line, cells));
        Ok(())
    }

    fn put(
        &mut self,
        cells: &mut Vec<(usize, Cell)>,
        name: &str,
        value: &Value,
    ) -> Result<(), Twice> {
        if let Value::Object(inner) = value
            && !inner.is_empty()
        {
            let put =
                |(key, value): (&String, &Value)| self.put(cells, &format!("{name}.{key}"), value);
            return inner.iter().try_for_each(put);
        }
        let place = match self.places.get(name) {
            Some(&place) => place,
            None => {
                self.columns.push(name.to_owned());
                self.places.insert(name.to_owned(), self.columns.len() - 1);
                self.last.push(0);
                self.columns.len() - 1
            }
        };
        let row = self.rows.len() + 1;
        if std::mem::replace(&mut self.last[place], row) == row {
            return Err(Twice(name.to_owned()));
        }
        cells.push((place, cell(value)));
        Ok(())
    }

    /// The rows with a cell for every column.
    ///
    /// # Errors
    /// If they need too much memory.
    fn records(self, unit: Unit) -> Result<Records, String> {
        let columns = self.columns;
        Room::new().take(self.rows.len().saturating_mul(columns.len()), 0)?;
        let row = |(line, found)| {
            let mut cells = vec![Cell::Empty; columns.len()];
            for (place, cell) in found {
                cells[place] = cell;
            }
            Record { line, cells }
        };
        let rows = self.rows.into_iter().map(row).collect();
        Ok(Records { unit, columns, rows, warnings: Vec::new() })
    }
}

/// The table in one object; `None` if the object is a row.
fn whole_table(fields: &[(String, Value)]) -> Option<Result<Records, String>> {
    let get = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let mut table = Rows::default();
    // pandas: orient="split".
    if let (Some(Value::Array(columns)), Some(Value::Array(rows))) = (get("columns"), get("data")) {
        let names: Option<Vec<&str>> = columns.iter().map(Value::as_str).collect();
        let names = names?;
        for (number, row) in (1..).zip(rows) {
            let row = row.as_array().filter(|row| row.len() == names.len())?;
            let named =
                names.iter().zip(row).map(|(name, value)| (name.to_string(), value.clone()));
            table.push(number, &named.collect::<Vec<_>>()).ok()?;
        }
        return Some(table.records(Unit::Row));
    }
    // An array of objects under a name, with whatever describes it beside.
    let are_objects = |value: &Value| {
        value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
    };
    let mut arrays = fields.iter().filter(|(_, value)| are_objects(value));
    if let (Some((_, Value::Array(rows))), None) = (arrays.next(), arrays.next()) {
        for (number, row) in (1..).zip(rows) {
            let fields = row.as_object().into_iter().flatten();
            let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
            table.push(number, &fields.collect::<Vec<_>>()).ok()?;
        }
        return Some(table.records(Unit::Row));
    }
    // Columns: lists, or, with orient="columns", objects from the index to the value.
    let columns = fields.iter().map(|(name, value)| Some((name, by_index(value)?)));
    let columns: Vec<(&String, Vec<(u64, &Value)>)> = columns.collect::<Option<_>>()?;
    let (_, first) = columns.first().filter(|(_, first)| !first.is_empty())?;
    let index: Vec<u64> = first.iter().map(|(index, _)| *index).collect();
    let has_index =
        |column: &[(u64, &Value)]| column.iter().map(|(index, _)| index).eq(index.iter());
    if !columns.iter().all(|(_, column)| has_index(column)) {
        return None;
    }
    for row in 0..index.len() {
        let fields = columns.iter().map(|(name, column)| ((*name).clone(), column[row].1.clone()));
        table.push(row as u64 + 1, &fields.collect::<Vec<_>>()).ok()?;
    }
    Some(table.records(Unit::Row))
}

/// The values of a column in the order of their index; `None` if it is not a column.
fn by_index(column: &Value) -> Option<Vec<(u64, &Value)>> {
    let mut values: Vec<(u64, &Value)> = match column {
        Value::Array(values) => (0..).zip(values).collect(),
        Value::Object(values) => values
            .iter()
            .map(|(key, value)| Some((key.parse().ok()?, value)))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    values.sort_by_key(|(index, _)| *index);
    let single = |value: &Value| !value.is_object() && !value.is_array();
    values.iter().all(|(_, value)| single(value)).then_some(values)
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Empty,
        Value::String(text) => Cell::of_text(text),
        Value::Bool(_) | Value::Number(_) => Cell::Text(value.to_string()),
        Value::Array(_) | Value::Object(_) => Cell::Other(value.to_string()),
    }
}

/// A JSON object with its names in order.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with a value a column")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                let mut names = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if !names.insert(name.clone()) {
                        return Err(M::Error::custom(format!("{name:?} appears twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(text: &str) -> Records {
        read(Path::new("a.jsonl"), text.as_bytes()).unwrap()
    }

    fn refusal(text: &str) -> String {
        read(Path::new("a.jsonl"), text.as_bytes()).unwrap_err().to_string()
    }

    fn lines_of(records: &Records) -> Vec<u64> {
        records.rows.iter().map(|row| row.line).collect()
    }

    #[test]
    fn columns_are_all_names_in_order_of_appearance() {
        let records = records("{\"b\": 1, \"a\": \"x\"}\r\n\n{\"c\": null, \"a\": 2.5}\n");
        assert_eq!(records.columns, ["b", "a", "c"]);
        assert_eq!(lines_of(&records), [1, 3]);
        let texts = |i: usize| records.rows[i].cells.iter().map(Cell::text).collect::<Vec<_>>();
        assert_eq!(texts(0), ["1", "x", ""]);
        assert_eq!(texts(1), ["", "2.5", ""]);
        assert_eq!(records.rows[0].cells[2], Cell::Empty);
    }

    #[test]
    fn values_are_texts_of_their_own() {
        let text = r#"{"t": true, "s": " a ", "e": "", "l": [1], "o": {}, "n": 9007199254740993}"#;
        let cells = &records(text).rows[0].cells;
        assert_eq!(cells[0], Cell::Text("true".into()));
        assert_eq!(cells[1], Cell::Text("a".into()));
        assert_eq!(cells[2], Cell::Empty);
        assert_eq!(cells[3], Cell::Other("[1]".into()));
        assert_eq!(cells[4], Cell::Other("{}".into()));
        assert_eq!(cells[5], Cell::Text("9007199254740993".into()));
    }

    #[test]
    fn fields_of_inner_objects_are_columns() {
        let text = "{\"config\": {\"n\": 1, \"opt\": {\"lr\": 0.1}}, \"loss\": 2}\n\
                    {\"loss\": 3, \"config\": {\"n\": NaN, \"seed\": null}}\n";
        let records = records(text);
        assert_eq!(records.columns, ["config.n", "config.opt.lr", "loss", "config.seed"]);
        let texts = |i: usize| records.rows[i].cells.iter().map(Cell::text).collect::<Vec<_>>();
        assert_eq!(texts(0), ["1", "0.1", "2", ""]);
        assert_eq!(texts(1), ["NaN", "", "3", ""]);
        let twice = "{\"a\": {\"b\": 1}, \"a.b\": 2}";
        assert_eq!(refusal(twice), "a.jsonl, line 1: \"a.b\" appears twice");
    }

    #[test]
    fn objects_on_many_lines_are_read() {
        let expected = records("{\"a\": 1, \"b\": 2}\n{\"a\": 3}");
        for text in [
            "{\n \"a\": 1,\n \"b\": 2\n}\n{\n \"a\": 3\n}\n",
            "{\n \"a\": 1, \"b\": 2}{\"a\": 3}",
            "\u{1e}{\"a\": 1, \"b\": 2}\n\u{1e}{\"a\": 3}\n",
        ] {
            let records = records(text);
            assert_eq!(records.columns, expected.columns, "{text}");
            let cells = |records: &Records| {
                records.rows.iter().map(|row| row.cells.clone()).collect::<Vec<_>>()
            };
            assert_eq!(cells(&records), cells(&expected), "{text}");
        }
        assert_eq!(lines_of(&records("{\n\"a\": 1\n}\n\n{\"a\":\n3}")), [1, 5]);
    }

    #[test]
    fn one_object_may_be_the_table() {
        let expected = [["1", "0.5"], ["2", "1e-3"], ["3", ""]];
        for text in [
            r#"{"data": [{"n": 1, "l": 0.5}, {"n": 2, "l": 1e-3}, {"n": 3}], "version": 1}"#,
            r#"{"columns": ["n", "l"], "index": [0, 1, 2], "data": [[1, 0.5], [2, 1e-3], [3, null]]}"#,
            r#"{"n": {"0": 1, "2": 2, "10": 3}, "l": {"0": 0.5, "10": null, "2": 1e-3}}"#,
            r#"{"n": [1, 2, 3], "l": [0.5, 1e-3, null]}"#,
        ] {
            let records = records(text);
            assert_eq!((records.columns.len(), records.unit), (2, Unit::Row), "{text}");
            let place = |name| records.columns.iter().position(|column| column == name).unwrap();
            for (row, [n, l]) in records.rows.iter().zip(expected) {
                assert_eq!(row.cells[place("n")].number(), n.parse().ok(), "{text}");
                assert_eq!(row.cells[place("l")].number(), l.parse().ok(), "{text}");
            }
            assert_eq!(records.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3]);
        }
        // A row of its own, whatever it holds.
        for text in [
            r#"{"n": 1, "l": [1, 2]}"#,
            r#"{"n": [1, 2], "l": [1]}"#,
            r#"{"config": {"n": 1}, "summary": {"l": 2}}"#,
            r#"{"a": [], "b": {}}"#,
        ] {
            let records = records(text);
            assert_eq!((records.rows.len(), records.unit), (1, Unit::Line), "{text}");
        }
    }

    #[test]
    fn pythons_numbers_that_are_none_are_read() {
        let line = r#"{"a": NaN, "NaN \" Infinity": -Infinity, "c": "Infinity \\", "d":Infinity}"#;
        for text in [line.to_owned(), format!("[{line}]")] {
            let records = records(&text);
            assert_eq!(records.columns, ["a", "NaN \" Infinity", "c", "d"]);
            let cells = &records.rows[0].cells;
            assert!(cells[0].number().unwrap().is_nan());
            assert_eq!(cells[1].number(), Some(f64::NEG_INFINITY));
            assert_eq!(cells[2].text(), "Infinity \\");
            assert_eq!(cells[3].number(), Some(f64::INFINITY));
        }
    }

    #[test]
    fn arrays_give_each_object_its_line() {
        let records = records(" \n[{\"a\": 1},\n {\n\"a\": 2\n}\n, {\"a\": 3}]\n");
        assert_eq!(lines_of(&records), [2, 3, 6]);
        let texts: Vec<_> = records.rows.iter().map(|row| row.cells[0].text()).collect();
        assert_eq!(texts, ["1", "2", "3"]);
        assert_eq!(super::read(Path::new("a.json"), b"[ ]").unwrap().rows, []);
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line() {
        for (text, line, what) in [
            ("{\"a\": 1}\n{\"a\": 1", 2, "EOF while parsing an object"),
            ("{\"a\": 1}\n\n{\"a\" 1}\n", 3, "expected `:`"),
            ("{\"a\": 1}\n3\n", 2, "an object with a value a column"),
            ("{\"a\": 1, \"a\": 2}\n", 1, "\"a\" appears twice"),
            ("[{\"a\": 1},\n{\"a\":\n!}]", 3, "expected value"),
            ("[{\"a\": 1},\n]", 2, "trailing comma"),
            ("[{\"a\": 1}\n{\"a\": 1}]", 2, "expected `,` or `]`"),
            ("[{\"a\": 1}]\n{\"a\": 1}", 2, "trailing characters"),
            ("[[1]]", 1, "an object with a value a column"),
            ("{\n\"a\": 1\n}\n{\n\"a\" 2}", 5, "expected `:`"),
        ] {
            let message = refusal(text);
            assert!(message.starts_with(&format!("a.jsonl, line {line}: ")), "{message}");
            assert!(message.contains(what), "{message}");
        }
        for cut in ["[{\"a\": 1},\n", "[{\"a\": 1}\n", "[\n", "[{\"a\":\n", "{\n\"a\": 1\n"] {
            assert!(refusal(cut).contains("EOF while parsing"), "{cut}");
        }
    }

    #[test]
    fn names_of_one_object_do_not_fill_the_memory_for_all() {
        let rows = "{}\n".repeat(20_000);
        let names: Vec<_> = (0..2_000).map(|i| format!("\"{i}\": 0")).collect();
        let object = format!("{{{}}}", names.join(", "));
        let objects = format!("{}{object}", "{}, ".repeat(20_000));
        for text in [format!("{rows}{object}"), format!("{{\"data\": [{objects}]}}")] {
            let told =
                "a.jsonl: its cells need more than 1024 MiB of memory; leave out rows and columns";
            assert_eq!(refusal(&text), told);
        }
    }

    #[test]
    fn half_surrogate_pairs_are_replaced_and_counted() {
        let records = records("{\"name\": \"a\\ud83d\", \"loss\": 2}\n");
        assert_eq!(records.rows[0].cells[0].text(), "a\u{fffd}");
        assert!(
            records.warnings[0].message.starts_with("1 escapes of half"),
            "{:?}",
            records.warnings
        );
    }

    proptest! {
        /// Lines and an array of the same objects are the same table, numbers to the last bit.
        #[test]
        fn lines_and_arrays_agree(numbers in prop::collection::vec(any::<f64>(), 1..6)) {
            let text = |x: &f64| match (x.is_nan(), x.is_infinite()) {
                (true, _) => "NaN".to_owned(),
                (_, true) => format!("{}Infinity", if *x < 0.0 { "-" } else { "" }),
                _ => format!("{x:e}"),
            };
            let objects: Vec<_> =
                numbers.iter().map(|x| format!("{{\"x\": {}}}", text(x))).collect();
            let lines = records(&objects.join("\n"));
            let array = records(&format!("[{}]", objects.join(",\n")));
            prop_assert_eq!(&lines, &array);
            for (row, x) in lines.rows.iter().zip(&numbers) {
                let read = row.cells[0].number().unwrap();
                prop_assert!(read == *x || (read.is_nan() && x.is_nan()));
            }
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\":,a1\\\\ \nN\u{e9}]{0,24}(NaN)?[\\[\\]{}\":,\\\\]{0,4}") {
            let _ = read(Path::new("a.jsonl"), text.as_bytes());
            let _ = read(Path::new("a.jsonl"), format!("[{text}").as_bytes());
        }
    }
}
