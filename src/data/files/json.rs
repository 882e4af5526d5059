//! The elements of one large JSON array, one at a time.

use super::MAX_LINE;
use serde_json::{Deserializer, Value};
use std::io::{self, BufRead, Read};

/// Bytes that are read at a time; twice as many each time where an element is longer.
const CHUNK: usize = 1 << 18;

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file could not be read.
    Read(io::Error),
    /// At this line, counted from 1, something is wrong.
    At(u64, String),
}

/// Hands out the elements of an array, of which memory holds one; returns its bytes.
///
/// # Errors
/// If it is malformed or cannot be read, an element is longer than [`MAX_LINE`], or what `each`
/// says, which must refuse what is no object.
pub(super) fn elements(
    reader: &mut impl BufRead,
    each: impl FnMut(Value) -> Result<(), String>,
) -> Result<u64, Stop> {
    read(reader, CHUNK, each)
}

fn read(
    reader: &mut impl BufRead,
    chunk: usize,
    mut each: impl FnMut(Value) -> Result<(), String>,
) -> Result<u64, Stop> {
    if reader.fill_buf().map_err(Stop::Read)?.starts_with("\u{feff}".as_bytes()) {
        reader.consume(3);
    }
    let mut text = Window { reader, chunk, held: Vec::new(), at: 0, bytes: 0, line: 1, column: 0 };
    if text.peek()? != Some(b'[') {
        return Err(text.malformed("expected an array"));
    }
    text.pass(1);
    let mut closed = text.peek()? == Some(b']');
    while !closed {
        let element = text.element()?;
        each(element).map_err(|reason| Stop::At(text.line, reason))?;
        closed = match text.peek()? {
            Some(b']') => true,
            Some(b',') => {
                text.pass(1);
                if text.peek()? == Some(b']') {
                    return Err(text.malformed("trailing comma"));
                }
                false
            }
            Some(_) => return Err(text.malformed("expected `,` or `]`")),
            None => return Err(text.malformed("EOF while parsing a list")),
        };
    }
    text.pass(1);
    match text.peek()? {
        None => Ok(text.bytes),
        Some(_) => Err(text.malformed("trailing characters")),
    }
}

/// An error's reason without the place.
pub(super) fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what).to_string()
}

/// The part of a text that is in memory.
struct Window<'a, R> {
    reader: &'a mut R,
    chunk: usize,
    held: Vec<u8>,
    /// How many of the bytes that are held were passed.
    at: usize,
    /// All that were passed.
    bytes: u64,
    /// The line of the next byte, from 1, and how many bytes of the line were passed.
    line: u64,
    column: usize,
}

impl<R: BufRead> Window<'_, R> {
    fn rest(&self) -> &[u8] {
        &self.held[self.at..]
    }

    /// Reads on; false at the end.
    fn more(&mut self) -> Result<bool, Stop> {
        self.held.drain(..self.at);
        self.at = 0;
        let most = (MAX_LINE + 1).saturating_sub(self.held.len());
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

    /// The next byte that is no white space; what stands before it is passed.
    fn peek(&mut self) -> Result<Option<u8>, Stop> {
        loop {
            let blank = self.rest().iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
            self.pass(blank);
            let next = self.rest().first().copied();
            if next.is_some() || !self.more()? {
                return Ok(next);
            }
        }
    }

    /// The element that begins here. Where what is held ends within it, it is looked at again with
    /// more; a number may come out shortened then, and is no object either way.
    fn element(&mut self) -> Result<Value, Stop> {
        loop {
            let mut values = Deserializer::from_slice(self.rest()).into_iter();
            let error = match values.next() {
                Some(Ok(element)) => {
                    let length = values.byte_offset();
                    self.pass(length);
                    return Ok(element);
                }
                Some(Err(error)) => error,
                None => return Err(self.malformed("EOF while parsing a value")),
            };
            if error.is_eof() {
                if self.rest().len() > MAX_LINE {
                    let ends = self.rest().iter().filter(|&&byte| byte == b'\n').count();
                    let reason =
                        format!("the element is longer than {MAX_LINE} bytes; is it text?");
                    return Err(Stop::At(self.line + ends as u64, reason));
                }
                if self.more()? {
                    continue;
                }
            }
            let before = if error.line() == 1 { self.column } else { 0 };
            let (line, column) = (self.line + error.line() as u64 - 1, before + error.column());
            return Err(malformed(line, column, &message(&error)));
        }
    }

    /// Something is wrong with the next byte.
    fn malformed(&self, what: &str) -> Stop {
        malformed(self.line, self.column + 1, what)
    }
}

fn malformed(line: u64, column: usize, what: &str) -> Stop {
    Stop::At(line, format!("malformed JSON at column {column} ({what})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn objects(text: &[u8], chunk: usize) -> Result<Vec<Value>, Stop> {
        let mut found = Vec::new();
        let each = |value: Value| match value.is_object() {
            true => {
                found.push(value);
                Ok(())
            }
            false => Err("no object".into()),
        };
        let bytes = read(&mut io::BufReader::with_capacity(3, text), chunk, each)?;
        assert_eq!(bytes, text.len() as u64);
        Ok(found)
    }

    proptest! {
        /// However little is read at a time, an array is what it is as a whole, and no array what is
        /// none.
        #[test]
        fn elements_are_those_of_the_whole(
            texts in prop::collection::vec("[ -~\u{e4}\n]{0,12}", 0..12),
            change in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(b"[]{},:\"1 \n\\".to_vec()))),
            pretty in any::<bool>(),
            chunk in 1usize..40,
        ) {
            let all: Vec<Value> =
                texts.iter().map(|text| json!({"text": text, "n": [1, {"m": null}]})).collect();
            let written = if pretty { serde_json::to_vec_pretty(&all) } else { serde_json::to_vec(&all) };
            let mut bytes = written.unwrap();
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole: Option<Vec<Value>> = serde_json::from_slice(&bytes).ok();
            let whole = whole.filter(|all| all.iter().all(Value::is_object));
            prop_assert_eq!(objects(&bytes, chunk).ok(), whole);
        }
    }

    #[test]
    fn the_place_of_what_is_wrong() {
        for (text, line, what) in [
            ("7", 1, "column 1 (expected an array)"),
            ("[\n {},\n]", 3, "column 1 (trailing comma)"),
            ("[{}\n  {}]", 2, "column 3 (expected `,` or `]`)"),
            ("[{}", 1, "column 4 (EOF while parsing a list)"),
            ("[{},", 1, "column 5 (EOF while parsing a value)"),
            ("[{}, {\"a\" 1}]", 1, "column 11 (expected `:`)"),
            ("[{},\n\n {\"a\":\n  nul}]", 4, "column 6 (expected ident)"),
            ("[{}]\n\n ]", 3, "column 2 (trailing characters)"),
        ] {
            for chunk in [1, 5, 1000] {
                match objects(text.as_bytes(), chunk) {
                    Err(Stop::At(at, reason)) => {
                        assert_eq!((at, &*reason), (line, &*format!("malformed JSON at {what}")));
                    }
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
        let error = objects(b"[{},\n7]", 1).unwrap_err();
        assert!(matches!(error, Stop::At(2, reason) if reason == "no object"));
    }
}
