//! Records of JSON: an object a line, or one array of objects, of any size.
//!
//! What Python's `json` writes by default is read: `NaN`, `Infinity` and `-Infinity` (and numbers
//! that Python reads as such, like 1e400), and escapes of half surrogate pairs, which become U+FFFD
//! and are counted. Objects of a file of lines may extend over several lines, and record separators
//! (U+001E) before them are skipped.

mod python;

use crate::Error;
use crate::formats::{HEAD, not_data, without_mark};
use python::Python;
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// The longest record, in bytes. A longer one is refused, since a file that is not data would
/// otherwise fill the memory before anyone notices.
pub const MAX_RECORD: usize = 64 << 20;

/// Bytes that are read at a time; twice as many each time where a record is longer.
const CHUNK: usize = 1 << 18;

/// What NaN, Infinity and -Infinity become, for which JSON has no numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonFinite {
    /// Null.
    Null,
    /// The word as a string.
    Text,
}

/// What a file of records was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Whether it is one array; otherwise its objects follow one another, as in JSON Lines.
    pub array: bool,
    /// Its length.
    pub bytes: u64,
    /// Escapes of half surrogate pairs that became U+FFFD.
    pub replaced: u64,
}

/// Why reading ended early.
#[derive(Debug)]
pub enum Stop {
    /// The file could not be read.
    Read(io::Error),
    /// Something is wrong at this line, counted from 1.
    At(u64, String),
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong with it, in one line.
    pub reason: String,
    /// Whether it may be an object around the records: it lacks a field or has an object in its place,
    /// and has no form that is known. If it is the only one of its file, [`records`] looks for records in
    /// it and says where they are.
    pub may_hold_records: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, may_hold_records: false }
    }
}

/// Hands out the records of a file, each with the line on which it begins, counted from 1. Memory
/// holds one of them. `seed` says what a record becomes: [`Wanted`] keeps some of its fields, and a
/// `PhantomData` of a type that can be deserialised makes that type.
///
/// # Errors
/// If the file cannot be read, is malformed or not UTF-8, or a record is longer than [`MAX_RECORD`];
/// or what `each` says of a record.
pub fn records<T, S>(
    reader: &mut impl BufRead,
    seed: S,
    non_finite: NonFinite,
    each: impl FnMut(u64, T) -> Result<(), Refusal>,
) -> Result<Summary, Stop>
where
    S: for<'de> DeserializeSeed<'de, Value = T> + Clone,
{
    read(reader, CHUNK, Parser { seed, non_finite, replaced: 0 }, each)
}

fn read<T, S>(
    reader: &mut impl BufRead,
    chunk: usize,
    mut parser: Parser<S>,
    mut each: impl FnMut(u64, T) -> Result<(), Refusal>,
) -> Result<Summary, Stop>
where
    S: for<'de> DeserializeSeed<'de, Value = T> + Clone,
{
    let mut text = Window { reader, chunk, held: Vec::new(), at: 0, bytes: 0, line: 1, column: 0 };
    text.skip_mark()?;
    let array = text.peek()? == Some(b'[');
    if array {
        text.array(&mut parser, &mut each)?;
    } else {
        text.objects(&mut parser, &mut each)?;
    }
    Ok(Summary { array, bytes: text.bytes, replaced: parser.replaced })
}

/// Parses a JSON file that is read as a whole, such as those next to a model. A byte order mark at
/// the start is skipped.
///
/// # Errors
/// If it is not what is `wanted`, with the line; or with what it is instead, if [`not_data`] knows.
pub fn whole<T: DeserializeOwned>(path: &Path, bytes: &[u8], wanted: &str) -> crate::Result<T> {
    serde_json::from_slice(without_mark(bytes)).map_err(|error| {
        if let Some(what) = not_data(&bytes[..bytes.len().min(HEAD)]) {
            return Error::content(path, None, what);
        }
        let line = (error.line() > 0).then_some(error.line() as u64);
        Error::content(path, line, format!("is not {wanted} ({error})"))
    })
}

/// If `fields` are those of one object around all records, says what the file is and how to turn it
/// into lines.
pub fn wrapped<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Option<String> {
    let fields: Vec<_> = fields.into_iter().collect();
    let lists = fields.iter().filter_map(|(name, value)| match value {
        Value::Array(list) if list.first().is_some_and(Value::is_object) => Some((name, list)),
        _ => None,
    });
    if let Some((name, list)) = lists.max_by_key(|(_, list)| list.len()) {
        let count = list.len();
        return Some(format!(
            "the file is one object, and its field {name:?} is a list of {count} records; write \
             these one a line: jq -c '.[{name:?}][]' OLD > NEW.jsonl"
        ));
    }
    let counts = |value: &Value| match value {
        Value::Object(rows) => rows.keys().enumerate().all(|(i, key)| *key == i.to_string()),
        _ => false,
    };
    let columns = !fields.is_empty() && fields.iter().all(|(_, value)| counts(value));
    let split = ["columns", "data"].iter().all(|name| fields.iter().any(|(n, _)| n == name));
    (columns || split).then(|| {
        "the file is one object of columns, as pandas writes by default; write it with \
         to_json(NAME, orient=\"records\", lines=True)"
            .into()
    })
}

/// Keeps the fields of an object whose outermost name is wanted. Of the other fields it keeps the
/// name with null; they are not parsed, so nothing in them can make a record unreadable. Of a list
/// or another value in place of an object, only the kind is kept.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a>(
    /// The names of fields. A name with dots may be that of a nested field.
    pub &'a [&'a str],
);

impl Wanted<'_> {
    fn has(&self, name: &str) -> bool {
        let outermost = |wanted: &&str| {
            wanted.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.0.iter().any(outermost)
    }
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = if self.has(&name) {
                map.next_value()?
            } else {
                map.next_value::<serde::de::IgnoredAny>().map(|_| Value::Null)?
            };
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::String(String::new()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
}

struct Parser<S> {
    seed: S,
    non_finite: NonFinite,
    replaced: u64,
}

/// Why a text is no record.
#[derive(Debug)]
struct Malformed {
    /// The byte at which something is wrong.
    offset: usize,
    /// What; none if the byte is not UTF-8.
    what: Option<String>,
    /// Whether more of the text, from the next line on, could make it a record.
    unfinished: bool,
}

impl<T, S: for<'de> DeserializeSeed<'de, Value = T> + Clone> Parser<S> {
    fn parse(&mut self, text: &[u8]) -> Result<T, Malformed> {
        let text = std::str::from_utf8(text).map_err(|error| Malformed {
            offset: error.valid_up_to(),
            what: None,
            unfinished: false,
        })?;
        self.strictly(text).or_else(|error| {
            // Only what is no JSON is worth a second look.
            let Some(python) = Python::read(text, self.non_finite) else { return Err(error) };
            let record = self.strictly(&python.text).map_err(|error| Malformed {
                offset: python.offset_before(error.offset).min(text.len()),
                ..error
            })?;
            self.replaced += python.replaced;
            Ok(record)
        })
    }

    fn strictly(&self, text: &str) -> Result<T, Malformed> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let record = self.seed.clone().deserialize(&mut deserializer);
        record.and_then(|record| deserializer.end().map(|()| record)).map_err(|error| {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let offset = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            let message = error.to_string();
            let what = message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what);
            // A string cannot go on in the next line.
            let unfinished = error.is_eof() && !what.ends_with("string");
            Malformed { offset: offset.min(text.len()), what: Some(what.into()), unfinished }
        })
    }
}

/// Finds where a value ends, however it is handed over.
#[derive(Default)]
struct Extent {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Extent {
    /// The place after the last byte of the value if it ends here. A number or a word ends before
    /// what follows it.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(i + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return Some(i),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(i + 1);
                    }
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return Some(i),
                _ => {}
            }
        }
        None
    }
}

/// The part of a text that is in memory.
struct Window<'a, R> {
    reader: &'a mut R,
    chunk: usize,
    held: Vec<u8>,
    /// How many of the bytes that are held were passed.
    at: usize,
    /// The bytes that were passed.
    bytes: u64,
    /// The line of the next byte, from 1, and how many bytes of the line were passed.
    line: u64,
    column: usize,
}

impl<R: BufRead> Window<'_, R> {
    fn rest(&self) -> &[u8] {
        &self.held[self.at..]
    }

    /// Reads on; false at the end, and where as much is held as may be.
    fn more(&mut self) -> Result<bool, Stop> {
        self.held.drain(..self.at);
        self.at = 0;
        let most = (MAX_RECORD + 1).saturating_sub(self.held.len());
        let some = self.chunk.max(self.held.len()).min(most) as u64;
        let read = self.reader.take(some).read_to_end(&mut self.held).map_err(Stop::Read)?;
        Ok(read > 0)
    }

    fn pass(&mut self, count: usize) {
        let passed = &self.held[self.at..self.at + count];
        let ends = passed.iter().filter(|&&byte| byte == b'\n').count();
        self.line += ends as u64;
        self.column = match passed.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => count - last - 1,
            None => self.column + count,
        };
        self.bytes += count as u64;
        self.at += count;
    }

    fn skip_mark(&mut self) -> Result<(), Stop> {
        while self.rest().len() < 3 && self.more()? {}
        if self.rest().starts_with("\u{feff}".as_bytes()) {
            self.pass(3);
            self.column = 0;
        }
        Ok(())
    }

    /// The next byte that is neither white space nor a record separator; what stands before it is
    /// passed.
    fn peek(&mut self) -> Result<Option<u8>, Stop> {
        loop {
            let blank = |byte: &&u8| b" \t\r\n\x1e\x0b\x0c".contains(byte);
            let blank = self.rest().iter().take_while(blank).count();
            self.pass(blank);
            let next = self.rest().first().copied();
            if next.is_some() || !self.more()? {
                return Ok(next);
            }
        }
    }

    /// How many bytes from here on are a value; all that there are if it does not end.
    fn extent(&mut self) -> Result<usize, Stop> {
        let (mut extent, mut seen) = (Extent::default(), 0);
        loop {
            if let Some(end) = extent.end(&self.rest()[seen..]) {
                return Ok(seen + end);
            }
            seen = self.rest().len();
            self.within_limit(seen)?;
            if !self.more()? {
                return Ok(seen);
            }
        }
    }

    /// How many bytes there are to the first end of a line from the byte `from` on, without it.
    fn line(&mut self, from: usize) -> Result<usize, Stop> {
        let mut seen = from.min(self.rest().len());
        loop {
            if let Some(end) = self.rest()[seen..].iter().position(|&byte| byte == b'\n') {
                return Ok(seen + end);
            }
            seen = self.rest().len();
            self.within_limit(seen)?;
            if !self.more()? {
                return Ok(seen);
            }
        }
    }

    fn within_limit(&self, length: usize) -> Result<(), Stop> {
        if length <= MAX_RECORD {
            return Ok(());
        }
        let reason = format!(
            "the record that begins here is longer than {MAX_RECORD} bytes, which is the limit; \
             if it is one object around a list of records, write these one a line"
        );
        Err(Stop::At(self.line, reason))
    }

    fn array<T, S: for<'de> DeserializeSeed<'de, Value = T> + Clone>(
        &mut self,
        parser: &mut Parser<S>,
        each: &mut impl FnMut(u64, T) -> Result<(), Refusal>,
    ) -> Result<(), Stop> {
        self.pass(1);
        let mut closed = self.peek()? == Some(b']');
        while !closed {
            if self.peek()?.is_none() {
                return Err(self.expected("EOF while parsing a value"));
            }
            let length = self.extent()?;
            let record = parser.parse(&self.rest()[..length]);
            let record = record.map_err(|error| self.malformed(&error))?;
            each(self.line, record).map_err(|refusal| Stop::At(self.line, refusal.reason))?;
            self.pass(length);
            closed = match self.peek()? {
                Some(b']') => true,
                Some(b',') => {
                    self.pass(1);
                    if self.peek()? == Some(b']') {
                        return Err(self.expected("trailing comma"));
                    }
                    false
                }
                Some(_) => return Err(self.expected("expected `,` or `]`")),
                None => return Err(self.expected("EOF while parsing a list")),
            };
        }
        self.pass(1);
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.expected("trailing characters")),
        }
    }

    fn objects<T, S: for<'de> DeserializeSeed<'de, Value = T> + Clone>(
        &mut self,
        parser: &mut Parser<S>,
        each: &mut impl FnMut(u64, T) -> Result<(), Refusal>,
    ) -> Result<(), Stop> {
        let mut first = true;
        while self.peek()?.is_some() {
            let mut length = self.line(0)?;
            let mut record = parser.parse(&self.rest()[..length]);
            if record.as_ref().is_err_and(|error| error.unfinished) {
                // An object over several lines, or a line that was cut off before the next one.
                let next = self.line(length + 1)?;
                if !is_record(self.rest().get(length + 1..next).unwrap_or_default(), parser) {
                    length = self.extent()?;
                    record = parser.parse(&self.rest()[..length]);
                }
            }
            let line = self.line;
            let record = record.map_err(|error| self.malformed_line(&error))?;
            if let Err(Refusal { reason, may_hold_records }) = each(line, record) {
                let object = self.rest()[..length].to_vec();
                self.pass(length);
                let alone = first && may_hold_records && self.peek()?.is_none();
                let wrapped = if alone { wrapped_in(&object) } else { None };
                return Err(Stop::At(line, wrapped.unwrap_or(reason)));
            }
            self.pass(length);
            first = false;
        }
        Ok(())
    }

    fn malformed_line(&self, error: &Malformed) -> Stop {
        let Stop::At(line, reason) = self.malformed(error) else { unreachable!() };
        let rest = self.rest();
        let advice = match (error.what.as_deref(), rest.get(error.offset)) {
            (None, _) => "",
            (Some("trailing characters"), Some(b',')) => {
                "; a line is one JSON object, without a comma after it"
            }
            (Some("trailing characters"), _) if rest[..error.offset].ends_with(b"\r") => {
                "; a line ends in a line feed, not in a carriage return alone: \
                 tr '\\r' '\\n' < OLD > NEW"
            }
            (Some(_), _) => "; a line is one JSON object",
        };
        Stop::At(line, reason + advice)
    }

    /// A record that begins with the next byte is malformed.
    fn malformed(&self, error: &Malformed) -> Stop {
        let before = &self.rest()[..error.offset];
        let line = self.line + before.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let column = match before.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => before.len() - end,
            None => self.column + before.len() + 1,
        };
        match &error.what {
            Some(what) => malformed_at(line, column, what),
            None => {
                let byte = self.bytes + error.offset as u64;
                let reason = format!("byte {byte} is not UTF-8; save the file in that encoding");
                Stop::At(line, reason)
            }
        }
    }

    /// Something is wrong with the next byte.
    fn expected(&self, what: &str) -> Stop {
        malformed_at(self.line, self.column + 1, what)
    }
}

fn malformed_at(line: u64, column: usize, what: &str) -> Stop {
    Stop::At(line, format!("malformed JSON at column {column} ({what})"))
}

/// Whether a line is a record by itself. White space at its start says that it belongs to what
/// stands above it.
fn is_record<T, S: for<'de> DeserializeSeed<'de, Value = T> + Clone>(
    line: &[u8],
    parser: &Parser<S>,
) -> bool {
    let line = line.strip_prefix(b"\x1e").unwrap_or(line);
    line.starts_with(b"{")
        && std::str::from_utf8(line).is_ok_and(|line| parser.strictly(line).is_ok())
}

/// [`wrapped`] of a text, if it is an object.
fn wrapped_in(text: &[u8]) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_slice(text).ok()?;
    wrapped(fields.iter().map(|(name, value)| (name.as_str(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::marker::PhantomData;

    /// The records of a text with their lines, read a few bytes at a time.
    fn all(text: &[u8], chunk: usize) -> Result<(Vec<(u64, Value)>, Summary), Stop> {
        let mut found = Vec::new();
        let each = |line, value: Value| {
            if value.is_object() {
                found.push((line, value));
                Ok(())
            } else {
                Err("no object".to_string().into())
            }
        };
        let parser =
            Parser { seed: PhantomData::<Value>, non_finite: NonFinite::Text, replaced: 0 };
        let summary = read(&mut io::BufReader::with_capacity(3, text), chunk, parser, each)?;
        assert_eq!(summary.bytes, text.len() as u64);
        Ok((found, summary))
    }

    fn values(text: &str) -> Vec<Value> {
        all(text.as_bytes(), 7).unwrap().0.into_iter().map(|(_, value)| value).collect()
    }

    fn refusal(text: &str) -> (u64, String) {
        let refusals = [1, 5, 1000].map(|chunk| match all(text.as_bytes(), chunk) {
            Err(Stop::At(line, reason)) => (line, reason),
            other => panic!("{text}: {other:?}"),
        });
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
        refusals[0].clone()
    }

    proptest! {
        /// However little is read at a time, an array is what it is as a whole, and no array what is
        /// none; its elements one a line, or over several lines, are the same records.
        #[test]
        fn elements_are_those_of_the_whole(
            texts in prop::collection::vec("[ -~\u{e4}\n]{0,12}", 0..12),
            change in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(b"[]{},:\"1 \n\\".to_vec()))),
            pretty in any::<bool>(),
            chunk in 1usize..40,
        ) {
            let records: Vec<Value> =
                texts.iter().map(|text| json!({"text": text, "n": [1, {"m": null}]})).collect();
            let write = |value: &Value| if pretty { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() };
            let lines: Vec<String> = records.iter().map(write).collect();
            let (found, summary) = all(lines.join("\n").as_bytes(), chunk).unwrap();
            prop_assert!(!summary.array);
            prop_assert_eq!(found.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), records.clone());

            let mut bytes = write(&Value::Array(records)).into_bytes();
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole: Option<Vec<Value>> = serde_json::from_slice(&bytes).ok();
            let whole = whole.filter(|all| all.iter().all(Value::is_object));
            if bytes.trim_ascii_start().starts_with(b"[") {
                let found = all(&bytes, chunk).ok();
                let found = found.map(|(found, _)| found.into_iter().map(|(_, value)| value).collect());
                prop_assert_eq!(found, whole);
            }
        }

        /// Whatever Python's `json` makes of its own numbers and strings is what it was.
        #[test]
        fn pythons_output_is_read(
            units in prop::collection::vec(any::<u16>(), 0..12),
            number in any::<f64>(),
        ) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let word = match number {
                n if n.is_nan() => "NaN".to_string(),
                n if n.is_infinite() => format!("{}Infinity", if n < 0.0 { "-" } else { "" }),
                n => format!("{n:e}"),
            };
            let text = format!("{{\"s\": \"NaN{escaped}\", \"n\": [{word}]}}");
            let (found, summary) = all(text.as_bytes(), 9).unwrap();
            let value = &found[0].1;
            let expected = format!("NaN{}", String::from_utf16_lossy(&units));
            prop_assert_eq!(value["s"].as_str().unwrap(), &expected);
            let halves = char::decode_utf16(units).filter(Result::is_err).count();
            prop_assert_eq!(summary.replaced, halves as u64);
            if number.is_finite() { prop_assert_eq!(value["n"][0].as_f64(), Some(number)) } else { prop_assert_eq!(value["n"][0].as_str(), Some(&*word)) }
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\":,a1\\\\ \nuNd8-]{0,24}(NaN)?[\\[\\]{}\":,\\\\]{0,4}", chunk in 1usize..9) {
            let _ = all(text.as_bytes(), chunk);
            let _ = all(format!("[{text}").as_bytes(), chunk);
        }
    }

    #[test]
    fn objects_follow_one_another() {
        let expected = [json!({"a": 1}), json!({"a": {"b": [2]}})];
        for text in [
            "{\"a\": 1}\n{\"a\": {\"b\": [2]}}\n",
            "\u{feff}{\"a\": 1}\r\n\r\n{\"a\": {\"b\": [2]}}",
            "{\n\"a\": 1\n}\n{\n \"a\":\n {\"b\": [\n2]}\n}\n",
            "\x1e{\"a\": 1}\n\x1e{\"a\": {\"b\": [2]}}\n",
            "[{\"a\": 1},\n{\"a\": {\"b\": [2]}}]\n",
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
        let (found, _) = all(b"\n{\"a\":\n1}\n\n{}", 3).unwrap();
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(all(b" [ ]", 1).unwrap().1, Summary { array: true, bytes: 4, replaced: 0 });
        assert!(values("").is_empty());
    }

    #[test]
    fn words_of_python_are_null_or_texts() {
        let text = br#"{"a": NaN, "NaN \" Infinity": -Infinity, "c": "Infinity \\", "d":[1e400]}"#;
        let with = |non_finite| {
            let mut found = Vec::new();
            let each = |_, value: Value| {
                found.push(value);
                Ok(())
            };
            records(&mut &text[..], PhantomData::<Value>, non_finite, each).unwrap();
            found.remove(0)
        };
        let c = "Infinity \\";
        let texts = json!({"a": "NaN", "NaN \" Infinity": "-Infinity", "c": c, "d": ["Infinity"]});
        assert_eq!(with(NonFinite::Text), texts);
        let nulls = json!({"a": null, "NaN \" Infinity": null, "c": c, "d": [null]});
        assert_eq!(with(NonFinite::Null), nulls);
    }

    #[test]
    fn what_nobody_wants_is_not_looked_into() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        let text = format!(
            r#"{{"a": 1e999, "b": "\ud800", "c": {deep}, "m": {{"id": 7}}, "d": NaN, "text": "x"}}"#
        );
        let mut found = Vec::new();
        let each = |_, value: Value| {
            found.push(value);
            Ok(())
        };
        records(&mut text.as_bytes(), Wanted(&["text", "m.id"]), NonFinite::Null, each).unwrap();
        let expected =
            json!({"a": null, "b": null, "c": null, "m": {"id": 7}, "d": null, "text": "x"});
        assert_eq!(found, [expected]);
    }

    #[test]
    fn the_place_of_what_is_wrong() {
        for (text, line, what) in [
            ("7", 1, "no object"),
            ("[\n {},\n]", 3, "malformed JSON at column 1 (trailing comma)"),
            ("[{}\n  {}]", 2, "malformed JSON at column 3 (expected `,` or `]`)"),
            ("[{}", 1, "malformed JSON at column 4 (EOF while parsing a list)"),
            ("[{},", 1, "malformed JSON at column 5 (EOF while parsing a value)"),
            ("[{}, {\"a\" 1}]", 1, "malformed JSON at column 11 (expected `:`)"),
            ("[{},\n\n {\"a\":\n  nul}]", 4, "malformed JSON at column 6 (expected ident)"),
            ("[{}]\n\n ]", 3, "malformed JSON at column 2 (trailing characters)"),
            ("[{},\n7]", 2, "no object"),
            (
                "{}\n{\"a\": NaN, \"b\" 1}",
                2,
                "malformed JSON at column 16 (expected `:`); a line is one JSON object",
            ),
            (
                "{},\n{}",
                1,
                "malformed JSON at column 3 (trailing characters); a line is one JSON object, without a comma after it",
            ),
            // A line that was cut off is not blamed on the next one.
            (
                "{}\n{\"a\": 1\n{}\n",
                2,
                "malformed JSON at column 7 (EOF while parsing an object); a line is one JSON object",
            ),
            (
                "{\"a\": \"b\n{}\n",
                1,
                "malformed JSON at column 8 (EOF while parsing a string); a line is one JSON object",
            ),
            (
                "{\n\"a\": 1,\n\"b\" 1}",
                3,
                "malformed JSON at column 5 (expected `:`); a line is one JSON object",
            ),
        ] {
            assert_eq!(refusal(text), (line, what.to_string()), "{text}");
        }
        // Where words were replaced the place is that in the file.
        let (_, reason) = refusal("{NaN");
        assert!(reason.starts_with("malformed JSON at column 5"), "{reason}");
        let (_, reason) = refusal("{}\r{}\r");
        assert!(reason.contains("carriage return"), "{reason}");
        let bytes = b"{}\n{\"a\": \"\xff\"}";
        let error = all(bytes, 4).unwrap_err();
        assert!(matches!(error, Stop::At(2, reason) if reason.starts_with("byte 10 is not UTF-8")));
    }

    #[test]
    fn a_record_over_the_limit_is_called_that() {
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_RECORD));
        let (found, _) = all(b"{}", 9).unwrap();
        assert_eq!(found.len(), 1);
        let each = |_, _: Value| Ok(());
        let mut text = long.as_bytes();
        match records(&mut text, PhantomData::<Value>, NonFinite::Null, each) {
            Err(Stop::At(1, reason)) => assert!(reason.contains("67108864 bytes"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_object_around_the_records_is_named() {
        for (text, what) in [
            (r#"{"version": 1, "data": [{"text": "a"}, {"text": "b"}]}"#, r#"jq -c '.["data"][]'"#),
            // Of several lists the longest.
            (r#"{"a": [{"text": "a"}, {"text": "b"}], "z": [{"text": "a"}]}"#, r#"'.["a"][]'"#),
            (r#"{"text": {"0": "a", "1": "b"}}"#, "to_json"),
            (r#"{"columns": ["text"], "index": [0], "data": [["a"]]}"#, "to_json"),
        ] {
            let refusal = |text: &str, may_hold_records: bool| {
                let refused = Refusal { reason: "refused".into(), may_hold_records };
                let each = |_, _: Value| Err(refused.clone());
                match records(&mut text.as_bytes(), Wanted(&["text"]), NonFinite::Null, each) {
                    Err(Stop::At(1, reason)) => reason,
                    other => panic!("{other:?}"),
                }
            };
            let reason = refusal(text, true);
            assert!(reason.contains(what), "{reason}");
            // What is wrong within a record, or in one of several, is said.
            assert_eq!(refusal(text, false), "refused");
            assert_eq!(refusal(&format!("{text}\n{{}}"), true), "refused");
        }
        assert_eq!(wrapped_in(br#"{"text": "a", "tags": ["x"], "meta": {"id": 1}}"#), None);
        assert_eq!(wrapped_in(b"{}"), None);
    }
}
