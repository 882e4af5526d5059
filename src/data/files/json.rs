//! The elements of one large JSON array, one at a time.

use super::MAX_LINE;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::{Value, error::Category};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, BufRead, Read};

/// Why reading ended early.
pub(super) enum Stop {
    /// The file could not be read.
    Read(io::Error),
    /// At this line, counted from 1, something is wrong.
    At(u64, String),
}

/// Hands out the elements of an array; returns its bytes.
///
/// # Errors
/// If it is malformed or cannot be read, an element is longer than [`MAX_LINE`], or what `each` says.
pub(super) fn elements(
    reader: &mut impl BufRead,
    each: impl FnMut(Value) -> Result<(), String>,
) -> Result<u64, Stop> {
    if reader.fill_buf().map_err(Stop::Read)?.starts_with("\u{feff}".as_bytes()) {
        reader.consume(3);
    }
    let place = Place::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Watched { reader, place: &place });
    let read = (&mut deserializer).deserialize_seq(Elements { each, place: &place });
    match read.and_then(|()| deserializer.end()) {
        Ok(()) => Ok(place.bytes.get()),
        Err(error) => Err(match place.refused.take() {
            Some(reason) => Stop::At(place.line.get(), reason),
            None if error.classify() == Category::Io => Stop::Read(error.into()),
            None => {
                let (line, column) = (error.line() as u64, error.column());
                let what = message(&error);
                Stop::At(line, format!("malformed JSON at column {column} ({what})"))
            }
        }),
    }
}

/// An error's reason without the place.
pub(super) fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what).to_string()
}

/// How far reading is.
struct Place {
    line: Cell<u64>,
    bytes: Cell<u64>,
    /// Bytes up to the end of the last element.
    element: Cell<u64>,
    refused: RefCell<Option<String>>,
}

impl Default for Place {
    fn default() -> Self {
        let (bytes, element) = (Cell::new(0), Cell::new(0));
        Self { line: Cell::new(1), bytes, element, refused: RefCell::new(None) }
    }
}

impl Place {
    fn refuse(&self, reason: impl Into<String>) {
        *self.refused.borrow_mut() = Some(reason.into());
    }
}

struct Watched<'a, R> {
    reader: &'a mut R,
    place: &'a Place,
}

impl<R: BufRead> Read for Watched<'_, R> {
    /// Of one byte each: what is taken has been looked at.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let place = self.place;
        place.bytes.set(place.bytes.get() + read as u64);
        let ends = buffer[..read].iter().filter(|&&byte| byte == b'\n').count();
        place.line.set(place.line.get() + ends as u64);
        if place.bytes.get() - place.element.get() > MAX_LINE as u64 {
            place.refuse(format!("the element is longer than {MAX_LINE} bytes; is it text?"));
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

struct Elements<'a, F> {
    each: F,
    place: &'a Place,
}

impl<'de, F: FnMut(Value) -> Result<(), String>> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            self.place.element.set(self.place.bytes.get());
            (self.each)(element).map_err(|reason| {
                self.place.refuse(reason);
                A::Error::custom("refused")
            })?;
        }
        Ok(())
    }
}
