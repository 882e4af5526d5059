//! JSON that people can read.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use std::io::{self, Write};

/// A value as JSON with a newline at the end. It is indented, except that values at the depth
/// `in_one_line`, such as rows, take one line each. The value itself is at depth 1.
pub fn to_json_lines(value: &impl Serialize, in_one_line: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = Lines { outer: PrettyFormatter::new(), depth: 0, in_one_line };
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("our types have string keys");
    bytes.push(b'\n');
    bytes
}

struct Lines {
    outer: PrettyFormatter<'static>,
    depth: usize,
    /// The depth from which on a value stands in one line.
    in_one_line: usize,
}

/// Passes what is not deep to the indented form.
macro_rules! by_depth {
    ($name:ident $(, $argument:ident: $type:ty)*) => {
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            match self.depth >= self.in_one_line {
                true => CompactFormatter.$name(writer $(, $argument)*),
                false => self.outer.$name(writer $(, $argument)*),
            }
        }
    };
}

macro_rules! deeper {
    ($begin:ident, $end:ident) => {
        fn $begin<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.depth += 1;
            match self.depth >= self.in_one_line {
                true => CompactFormatter.$begin(writer),
                false => self.outer.$begin(writer),
            }
        }
        fn $end<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.depth -= 1;
            match self.depth + 1 >= self.in_one_line {
                true => CompactFormatter.$end(writer),
                false => self.outer.$end(writer),
            }
        }
    };
}

impl Formatter for Lines {
    deeper!(begin_array, end_array);
    deeper!(begin_object, end_object);
    by_depth!(begin_array_value, first: bool);
    by_depth!(end_array_value);
    by_depth!(begin_object_key, first: bool);
    by_depth!(begin_object_value);
    by_depth!(end_object_value);
}
