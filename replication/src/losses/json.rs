//! JSON: an object a line, or one array of objects.

use super::records::{Cell, Record, Records, Unit};
use forgetting_laws::{Error, Result};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// The records of a text. The columns are all names in the order in which they appear; an object
/// that lacks one has no value there.
///
/// NaN and Infinity, which Python writes and JSON does not know, are read as such.
///
/// # Errors
/// If it is not JSON, holds anything but objects, or one of them has a name twice.
pub fn read(path: &Path, text: &str) -> Result<Records> {
    let objects = match text.trim_start().starts_with('[') {
        true => array(path, text)?,
        false => lines(path, text)?,
    };
    let mut columns = Vec::new();
    let mut places = HashMap::new();
    let mut rows = Vec::with_capacity(objects.len());
    for (line, Object(fields)) in objects {
        let mut cells = vec![Cell::Empty; columns.len()];
        for (name, value) in fields {
            let place = *places.entry(name).or_insert_with_key(|name: &String| {
                columns.push(name.clone());
                columns.len() - 1
            });
            cells.resize(columns.len(), Cell::Empty);
            cells[place] = cell(&value);
        }
        rows.push(Record { line, cells });
    }
    for row in &mut rows {
        row.cells.resize(columns.len(), Cell::Empty);
    }
    Ok(Records { unit: Unit::Line, columns, rows })
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Empty,
        Value::String(text) => Cell::of_text(text),
        Value::Bool(_) | Value::Number(_) => Cell::Text(value.to_string()),
        Value::Array(_) | Value::Object(_) => Cell::Other(value.to_string()),
    }
}

/// An object of each line that is not empty.
fn lines(path: &Path, text: &str) -> Result<Vec<(u64, Object)>> {
    let numbered = (1u64..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (u64, &str)| {
        let object = serde_json::from_str(&with_numbers_quoted(line));
        Ok((number, object.map_err(|error| malformed(path, number, &error))?))
    };
    numbered.map(parse).collect()
}

/// The objects of an array. They are taken one by one, so that each has its line.
fn array(path: &Path, text: &str) -> Result<Vec<(u64, Object)>> {
    let text = with_numbers_quoted(text);
    let mut here = Cursor { rest: &text, line: 1 };
    let mut objects = Vec::new();
    here.skip_blanks();
    here.skip(1);
    here.skip_blanks();
    while !(objects.is_empty() && here.rest.starts_with(']')) {
        let mut stream = serde_json::Deserializer::from_str(here.rest).into_iter();
        let Some(object) = stream.next() else { break };
        let line = here.line;
        let object = object
            .map_err(|error| malformed(path, line + error.line().max(1) as u64 - 1, &error))?;
        objects.push((line, object));
        here.skip(stream.byte_offset());
        here.skip_blanks();
        if !here.rest.starts_with(',') {
            break;
        }
        here.skip(1);
        here.skip_blanks();
    }
    let reason = match here.rest.strip_prefix(']').map(str::trim) {
        Some("") => return Ok(objects),
        Some(_) => "the array ends here and the file does not",
        None if here.rest.is_empty() => "is not JSON: the array is not closed",
        None => "is not JSON: expected , or ] after an object of the array",
    };
    Err(Error::content(path, here.line, reason))
}

/// A place in a text.
struct Cursor<'a> {
    rest: &'a str,
    line: u64,
}

impl Cursor<'_> {
    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count() as u64;
        self.rest = rest;
    }

    fn skip_blanks(&mut self) {
        self.skip(self.rest.len() - self.rest.trim_start().len());
    }
}

fn malformed(path: &Path, line: u64, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    // Its line is that of the piece.
    let what = text.split(" at line ").next().unwrap_or_default();
    let reason = format!("is not a JSON object: {what} (column {})", error.column());
    Error::content(path, line, reason)
}

/// The text with NaN, Infinity and -Infinity as strings where they stand for numbers.
fn with_numbers_quoted(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest, mut in_string) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS.into_iter().find(|word| !in_string && rest.starts_with(word));
        let taken = match (word, first) {
            (Some(word), _) => word.len(),
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => first.len_utf8(),
        };
        in_string ^= first == '"';
        let (piece, tail) = rest.split_at(taken);
        match word {
            Some(word) => out.extend(["\"", word, "\""]),
            None => out.push_str(piece),
        }
        rest = tail;
    }
    Cow::Owned(out)
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
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if fields.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(M::Error::custom(format!("{name:?} stands there twice")));
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
        read(Path::new("a.jsonl"), text).unwrap()
    }

    fn refusal(text: &str) -> String {
        read(Path::new("a.jsonl"), text).unwrap_err().to_string()
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
        let text =
            r#"{"t": true, "s": " a ", "e": "", "l": [1], "o": {"x": 1}, "n": 9007199254740993}"#;
        let cells = &records(text).rows[0].cells;
        assert_eq!(cells[0], Cell::Text("true".into()));
        assert_eq!(cells[1], Cell::Text("a".into()));
        assert_eq!(cells[2], Cell::Empty);
        assert_eq!(cells[3], Cell::Other("[1]".into()));
        assert_eq!(cells[4], Cell::Other("{\"x\":1}".into()));
        assert_eq!(cells[5], Cell::Text("9007199254740993".into()));
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
        assert_eq!(super::read(Path::new("a.json"), "[ ]").unwrap().rows, []);
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line() {
        for (text, line, what) in [
            ("{\"a\": 1}\n{\"a\": 1", 2, "EOF while parsing an object (column 7)"),
            ("{\"a\": 1}\n\n{\"a\" 1}\n", 3, "expected `:` (column 6)"),
            ("{\"a\": 1}\n3\n", 2, "an object with a value a column"),
            ("{\"a\": 1} {\"a\": 2}\n", 1, "trailing characters"),
            ("{\"a\": 1, \"a\": 2}\n", 1, "\"a\" stands there twice"),
            ("[{\"a\": 1},\n{\"a\":\n!}]", 3, "expected value"),
            ("[{\"a\": 1},\n]", 2, "expected value"),
            ("[{\"a\": 1},\n", 2, "the array is not closed"),
            ("[{\"a\": 1}\n", 2, "the array is not closed"),
            ("[\n", 2, "the array is not closed"),
            ("[{\"a\":\n", 2, "EOF while parsing a value"),
            ("[{\"a\": 1}\n{\"a\": 1}]", 2, "expected , or ]"),
            ("[{\"a\": 1}]\n{\"a\": 1}", 1, "the array ends here and the file does not"),
            ("[[1]]", 1, "an object with a value a column"),
        ] {
            let message = refusal(text);
            assert!(message.starts_with(&format!("a.jsonl, line {line}: ")), "{message}");
            assert!(message.contains(what), "{message}");
            assert!(!message.contains(" at line "), "{message}");
        }
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
            let _ = read(Path::new("a.jsonl"), &text);
            let _ = read(Path::new("a.jsonl"), &format!("[{text}"));
        }
    }
}
