//! Parquet: columns of numbers, texts and truth values, plain or compressed with snappy, zstd, gzip
//! or lz4.

use super::records::Room;
use super::{Cell, Record, Records, Unit};
use crate::Result;
use crate::formats::parquet::{self, Reader, Stop};
use ::parquet::basic::{ConvertedType, LogicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::RowGroupReader;
use ::parquet::schema::types::ColumnDescriptor;
use bytes::Bytes;
use half::f16;
use std::path::Path;

/// The records of a file. A field of a struct is a column `struct.field`. Dates and times are the
/// numbers in the file.
///
/// # Errors
/// If the file is not Parquet, is damaged, or is compressed in another way.
pub fn read(path: &Path, bytes: Vec<u8>) -> Result<Records> {
    let (columns, cells) = parquet::open(path, Bytes::from(bytes), columns)?;
    let mut cells: Vec<_> = cells.into_iter().map(Vec::into_iter).collect();
    let length = cells.first().map_or(0, ExactSizeIterator::len);
    let rows = (1..=length as u64)
        .map(|line| Record { line, cells: cells.iter_mut().filter_map(Iterator::next).collect() })
        .collect();
    Ok(Records { unit: Unit::Row, columns, rows, warnings: Vec::new() })
}

/// The names of the columns and their cells; all columns have the same length.
fn columns(reader: &Reader<Bytes>) -> Result<(Vec<String>, Vec<Vec<Cell>>), Stop> {
    let schema = reader.schema();
    let names = schema.columns().iter().map(|column| column.path().parts().join("."));
    let (mut cells, mut room) = (vec![Vec::new(); schema.num_columns()], Room::new());
    for group in 0..reader.row_groups() {
        let group = reader.row_group(group, |_| true)?;
        for (i, column) in schema.columns().iter().enumerate() {
            cells[i].extend(values(group.get_column_reader(i)?, column, &mut room)?);
        }
    }
    let length = cells.first().map_or(0, Vec::len);
    if cells.iter().any(|column| column.len() != length) {
        return Err(ParquetError::General("its columns differ in length".into()).into());
    }
    Ok((names.collect(), cells))
}

/// A column of a row group, one cell per row.
fn values(
    reader: ColumnReader,
    column: &ColumnDescriptor,
    room: &mut Room,
) -> Result<Vec<Cell>, Stop> {
    use ColumnReader as R;
    let kind = Kind::of(column);
    match reader {
        R::BoolColumnReader(r) => cells(r, column, room, |v| Cell::Text(v.to_string())),
        // An unsigned number is stored as the signed one of the same bits.
        R::Int32ColumnReader(r) => cells(r, column, room, |&v| match kind {
            Kind::Unsigned => Cell::Text((v as u32).to_string()),
            _ => kind.integer(v.into()),
        }),
        R::Int64ColumnReader(r) => cells(r, column, room, |&v| match kind {
            Kind::Unsigned => Cell::Text((v as u64).to_string()),
            _ => kind.integer(v.into()),
        }),
        R::Int96ColumnReader(r) => {
            cells(r, column, room, |v| Cell::Other(format!("{:?}", v.data())))
        }
        R::FloatColumnReader(r) => cells(r, column, room, |v| Cell::Single(v.to_string())),
        R::DoubleColumnReader(r) => cells(r, column, room, |v| Cell::Text(v.to_string())),
        R::ByteArrayColumnReader(r) => cells(r, column, room, |v| kind.bytes(v.data())),
        R::FixedLenByteArrayColumnReader(r) => cells(r, column, room, |v| kind.bytes(v.data())),
    }
}

/// The meaning of the numbers and bytes of a column.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Unsigned,
    /// Integers to be divided by this power of ten.
    Decimal(usize),
    /// Numbers of half precision.
    Half,
    /// Bytes that are not text.
    Opaque,
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Self {
        use ConvertedType as C;
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Decimal(_)), _) | (_, C::DECIMAL) => {
                // The format has at most as many digits as its widest numbers.
                match usize::try_from(column.type_scale()) {
                    Ok(scale @ 0..=76) => Self::Decimal(scale),
                    _ => Self::Opaque,
                }
            }
            (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Self::Unsigned,
            (_, C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64) => Self::Unsigned,
            (Some(LogicalType::Float16), _) => Self::Half,
            (Some(LogicalType::Uuid), _) | (_, C::INTERVAL) => Self::Opaque,
            _ => Self::Plain,
        }
    }

    fn integer(self, value: i128) -> Cell {
        match self {
            Self::Decimal(scale) => Cell::Text(decimal(value, scale)),
            _ => Cell::Text(value.to_string()),
        }
    }

    fn bytes(self, bytes: &[u8]) -> Cell {
        let text = std::str::from_utf8(bytes);
        match (self, text) {
            (Self::Plain | Self::Unsigned, Ok(text)) => Cell::of_text(text),
            (Self::Decimal(scale), _) => match integer(bytes) {
                Some(value) => Cell::Text(decimal(value, scale)),
                None => Cell::Other(format!("{bytes:?}")),
            },
            (Self::Half, _) => match <[u8; 2]>::try_from(bytes) {
                // Every one of them is a number of single precision too.
                Ok(bytes) => Cell::Text(f16::from_le_bytes(bytes).to_f64().to_string()),
                Err(_) => Cell::Other(format!("{bytes:?}")),
            },
            _ => Cell::Other(format!("{bytes:?}")),
        }
    }
}

/// A big-endian two's complement integer; `None` if it has more than 128 bits, as the widest decimals
/// may.
fn integer(bytes: &[u8]) -> Option<i128> {
    let sign: i128 = if *bytes.first()? < 0x80 { 0 } else { -1 };
    let more = bytes.len().saturating_sub(size_of::<i128>());
    let value = bytes[more..].iter().fold(sign, |value, &byte| value << 8 | i128::from(byte));
    let extends = bytes[..more].iter().all(|&byte| byte == sign as u8);
    (extends && (value < 0) == (sign < 0)).then_some(value)
}

/// The text of value / 10^scale.
fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

/// The cells of a column, one per row. Parquet stores only the values that exist, with how much of the
/// path to each exists ("definition") and whether it continues a row ("repetition").
fn cells<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    column: &ColumnDescriptor,
    room: &mut Room,
    cell: impl Fn(&T::T) -> Cell,
) -> Result<Vec<Cell>, Stop> {
    const BATCH: usize = 1 << 14;
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    let (mut read, mut values) = (Vec::new(), Vec::new());
    loop {
        let before = definitions.len();
        let levels = (Some(&mut definitions), Some(&mut repetitions));
        if reader.read_records(BATCH, levels.0, levels.1, &mut read)?.0 == 0 {
            break;
        }
        // A value that does not exist is a cell too.
        let cells = read.len().max(definitions.len() - before);
        room.take(cells, 0).map_err(Stop::Refused)?;
        for value in read.drain(..) {
            let value = cell(&value);
            room.take(0, value.text().len()).map_err(Stop::Refused)?;
            values.push(value);
        }
    }
    if column.max_def_level() == 0 {
        return Ok(values);
    }
    let mut values = values.into_iter();
    let single = definitions.iter().map(|&level| {
        let value = (level == column.max_def_level()).then(|| values.next()).flatten();
        (level, value.unwrap_or(Cell::Empty))
    });
    if column.max_rep_level() == 0 {
        return Ok(single.map(|(_, cell)| cell).collect());
    }
    let mut rows: Vec<String> = Vec::new();
    for (repetition, (level, cell)) in repetitions.iter().zip(single) {
        let item = format!("{repetition}/{level}:{:?} ", cell.text());
        match rows.last_mut() {
            Some(row) if *repetition > 0 => row.push_str(&item),
            _ => rows.push(item),
        }
    }
    Ok(rows.into_iter().map(Cell::Other).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::*;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Values, definition levels and repetition levels of a column.
    enum Data {
        Bool(Vec<bool>),
        Int32(Vec<i32>),
        Int64(Vec<i64>),
        Float(Vec<f32>),
        Double(Vec<f64>, Vec<i16>),
        Bytes(Vec<&'static [u8]>, Vec<i16>),
        Fixed(Vec<Vec<u8>>),
        List(Vec<i32>, Vec<i16>, Vec<i16>),
    }

    /// A file of this schema; the data come as many times as there are row groups.
    fn file(schema: &str, data: &[Data], groups: usize, compression: Compression) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut out = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).unwrap();
        for _ in 0..groups {
            let mut group = writer.next_row_group().unwrap();
            for data in data {
                let mut column = group.next_column().unwrap().unwrap();
                match data {
                    Data::Bool(v) => column.typed::<BoolType>().write_batch(v, None, None),
                    Data::Int32(v) => column.typed::<Int32Type>().write_batch(v, None, None),
                    Data::Int64(v) => column.typed::<Int64Type>().write_batch(v, None, None),
                    Data::Float(v) => column.typed::<FloatType>().write_batch(v, None, None),
                    Data::Double(v, defined) => {
                        column.typed::<DoubleType>().write_batch(v, Some(defined), None)
                    }
                    Data::Bytes(v, defined) => {
                        let v: Vec<_> = v.iter().map(|bytes| ByteArray::from(*bytes)).collect();
                        column.typed::<ByteArrayType>().write_batch(&v, Some(defined), None)
                    }
                    Data::Fixed(v) => {
                        let v: Vec<_> =
                            v.iter().map(|bytes| ByteArray::from(bytes.clone()).into()).collect();
                        column.typed::<FixedLenByteArrayType>().write_batch(&v, None, None)
                    }
                    Data::List(v, defined, repeated) => {
                        column.typed::<Int32Type>().write_batch(v, Some(defined), Some(repeated))
                    }
                }
                .unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        out
    }

    fn records(bytes: Vec<u8>) -> Records {
        read(Path::new("a.parquet"), bytes).unwrap()
    }

    fn refusal(bytes: Vec<u8>) -> String {
        read(Path::new("a.parquet"), bytes).unwrap_err().to_string()
    }

    fn texts(texts: &[&str]) -> Vec<Cell> {
        texts.iter().map(|text| Cell::of_text(text)).collect()
    }

    fn column(records: &Records, name: &str) -> Vec<Cell> {
        let place = records.columns.iter().position(|column| column == name).unwrap();
        records.rows.iter().map(|row| row.cells[place].clone()).collect()
    }

    const PLAIN: &str = "message table {
        required boolean flag; required int32 i; required int64 l; required float f;
        optional double d; optional binary s (UTF8);
    }";

    fn plain() -> Vec<Data> {
        vec![
            Data::Bool(vec![true, false, true]),
            Data::Int32(vec![-1, 0, i32::MAX]),
            Data::Int64(vec![i64::MIN, 0, 1_638_400]),
            Data::Float(vec![0.01, 1e20, f32::NAN]),
            Data::Double(vec![0.1 + 0.2, f64::NEG_INFINITY], vec![1, 0, 1]),
            Data::Bytes(vec![b"GPT 2", "\u{3b2}".as_bytes()], vec![1, 1, 0]),
        ]
    }

    #[test]
    fn columns_of_all_kinds_come_back_whatever_the_compression() {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let gzip = Compression::GZIP(Default::default());
        let lz4 = [Compression::LZ4, Compression::LZ4_RAW];
        let others = [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, gzip];
        for compression in others.into_iter().chain(lz4) {
            let records = records(file(PLAIN, &plain(), 1, compression));
            assert_eq!(records.columns, ["flag", "i", "l", "f", "d", "s"]);
            assert_eq!(records.unit, Unit::Row);
            assert_eq!(records.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!(column(&records, "flag"), texts(&["true", "false", "true"]));
            assert_eq!(column(&records, "i"), texts(&["-1", "0", "2147483647"]));
            let longs = ["-9223372036854775808", "0", "1638400"];
            assert_eq!(column(&records, "l"), texts(&longs));
            let singles = column(&records, "f");
            assert_eq!(singles[0], Cell::Single("0.01".into()));
            assert_eq!(singles[0].number(), Some(f64::from(0.01f32)));
            assert_eq!(singles[1].number(), Some(f64::from(1e20f32)));
            assert!(singles[2].number().unwrap().is_nan());
            let doubles = column(&records, "d");
            assert_eq!(doubles, texts(&["0.30000000000000004", "", "-inf"]));
            assert_eq!(doubles[2].number(), Some(f64::NEG_INFINITY));
            assert_eq!(column(&records, "s"), texts(&["GPT 2", "\u{3b2}", ""]));
        }
    }

    /// A column without a value, and a file of 121 bytes whatever its length.
    fn missing(count: u32) -> Vec<u8> {
        let byte = |i: u32| ((2 * count) >> (7 * i)) as u8 & 127 | if i < 3 { 128 } else { 0 };
        let parts: [&[u8]; 6] = [
            b"PAR1\x15\0\x15\x12\x15\x12,\x15",
            b"\x15\0\x15\x06\x15\x06\0\0\x05\0\0\0",
            b"\0\x15\x02\x19,5\0\x18\x06schema\x15\x02\0\x15\x0c%\x02\x18\x04loss\0\x16",
            b"\x19\x1c\x19\x1c&\0\x1c\x15\x0c\x19%\0\x06\x19\x18\x04loss\x15\0\x16",
            b"\x16:\x16:&\x08\0\0\x16B\x16",
            b"\0\0M\0\0\0PAR1",
        ];
        parts.join(&[0, 1, 2, 3].map(byte)[..])
    }

    #[test]
    fn files_of_a_few_bytes_take_no_more_memory_than_there_is_room_for() {
        assert_eq!(column(&records(missing(2_000_000)), "loss"), vec![Cell::Empty; 2_000_000]);
        let told = "a.parquet: its cells need more than 1024 MiB of memory;";
        assert!(refusal(missing(40_000_000)).starts_with(told));
        let told = "a.parquet: a column of a row group has more than 67108864 values";
        assert!(refusal(missing(100_000_000)).starts_with(told));
    }

    #[test]
    fn row_groups_follow_each_other() {
        let records = records(file(PLAIN, &plain(), 3, Compression::SNAPPY));
        assert_eq!(records.rows.len(), 9);
        assert_eq!(records.rows[8].line, 9);
        assert_eq!(records.rows[8].cells[2], Cell::Text("1638400".into()));
        assert_eq!(records.rows[3].cells[4], Cell::Text("0.30000000000000004".into()));
    }

    /// More rows than are taken at a time, on several pages.
    #[test]
    fn long_columns_are_read_to_their_end() {
        let schema = "message table { required int64 l; }";
        let numbers: Vec<_> = (0..40_000).collect();
        let records = records(file(schema, &[Data::Int64(numbers)], 1, Compression::SNAPPY));
        assert_eq!(records.rows.len(), 40_000);
        assert!((0u64..).zip(&records.rows).all(|(i, row)| row.cells[0].text() == i.to_string()));
    }

    #[test]
    fn annotated_numbers_are_what_they_stand_for() {
        let schema = "message table {
            required int32 u (UINT_32); required int64 w (UINT_64);
            required int32 c (DECIMAL(9, 2)); required int64 e (DECIMAL(18, 0));
            required fixed_len_byte_array(3) x (DECIMAL(6, 4));
            required fixed_len_byte_array(2) h (FLOAT16);
            required fixed_len_byte_array(25) y (DECIMAL(59, 4));
        }";
        let data = [
            Data::Int32(vec![-1, 7]),
            Data::Int64(vec![-1, 7]),
            Data::Int32(vec![5, -1234]),
            Data::Int64(vec![12, -3]),
            Data::Fixed(vec![vec![0, 1, 0], vec![0xff, 0xff, 0xfe]]),
            Data::Fixed(vec![vec![0, 60], vec![0x66, 0x2e]]),
            Data::Fixed(vec![wide(&[0, 1, 0], 0), wide(&[0xff, 0xfe], 0xff)]),
        ];
        let records = records(file(schema, &data, 1, Compression::UNCOMPRESSED));
        assert_eq!(column(&records, "u"), texts(&["4294967295", "7"]));
        assert_eq!(column(&records, "w"), texts(&["18446744073709551615", "7"]));
        assert_eq!(column(&records, "c"), texts(&["0.05", "-12.34"]));
        assert_eq!(column(&records, "e"), texts(&["12", "-3"]));
        assert_eq!(column(&records, "x"), texts(&["0.0256", "-0.0002"]));
        // 0.1 in half precision.
        assert_eq!(column(&records, "h"), texts(&["1", "0.0999755859375"]));
        assert_eq!(column(&records, "y"), texts(&["0.0256", "-0.0002"]));
    }

    /// 25 bytes that end in these.
    fn wide(end: &[u8], filling: u8) -> Vec<u8> {
        [&vec![filling; 25 - end.len()], end].concat()
    }

    #[test]
    fn integers_of_any_width_are_read_up_to_128_bits() {
        assert_eq!(integer(&[]), None);
        assert_eq!(integer(&[0x80]), Some(-128));
        assert_eq!(integer(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        assert_eq!(integer(&wide(&i128::MAX.to_be_bytes(), 0)), Some(i128::MAX));
        assert_eq!(integer(&wide(&i128::MIN.to_be_bytes(), 0xff)), Some(i128::MIN));
        // One bit more.
        assert_eq!(integer(&wide(&i128::MIN.to_be_bytes(), 0)), None);
        assert_eq!(integer(&wide(&[1; 17], 0)), None);
    }

    #[test]
    fn lists_are_told_apart_and_structs_are_columns() {
        let schema = "message table {
            required group a (LIST) { repeated group list { optional int32 element; } }
            required group s { optional double d; }
        }";
        // [1, null], [], [1], [2, 3]
        let list = Data::List(vec![1, 1, 2, 3], vec![2, 1, 0, 2, 2, 2], vec![0, 1, 0, 0, 0, 1]);
        let data = [list, Data::Double(vec![0.5], vec![0, 1, 0, 0])];
        let records = records(file(schema, &data, 1, Compression::UNCOMPRESSED));
        assert_eq!(records.columns, ["a.list.element", "s.d"]);
        assert_eq!(column(&records, "s.d"), texts(&["", "0.5", "", ""]));
        let lists = column(&records, "a.list.element");
        assert!(lists.iter().all(|cell| matches!(cell, Cell::Other(_))));
        assert!((1..4).all(|i| !lists[..i].contains(&lists[i])));
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        let schema = "message table { optional binary b; }";
        let data = [Data::Bytes(vec![b" GPT ", b"\xff"], vec![1, 1])];
        let records = records(file(schema, &data, 1, Compression::UNCOMPRESSED));
        assert_eq!(records.rows[0].cells, [Cell::Text("GPT".into())]);
        assert!(matches!(records.rows[1].cells[0], Cell::Other(_)));
    }

    #[test]
    fn what_is_not_parquet_is_refused_in_one_line() {
        let good = file(PLAIN, &plain(), 1, Compression::SNAPPY);
        for bad in [b"PAR1".to_vec(), b"a,b\n1,2\n".to_vec(), good[..good.len() - 9].to_vec()] {
            let message = refusal(bad);
            assert!(message.contains("cannot be read as Parquet"), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn other_compression_is_refused_by_name() {
        let schema = "message table { required int32 size; }";
        let good = file(schema, &[Data::Int32(vec![1, 2])], 1, Compression::SNAPPY);
        // The footer's entry of the column: its path, and after it the number of the codec.
        let entry = b"\x19\x18\x04size\x15\x02";
        let at = good.windows(entry.len()).position(|bytes| bytes == entry).unwrap();
        for (number, codec) in [(3, "lzo"), (4, "brotli")] {
            let mut other = good.clone();
            other[at + entry.len() - 1] = 2 * number;
            let message = refusal(other);
            let expected = format!("its column \"size\" is compressed with {codec}, which is not");
            assert!(message.contains(&expected), "{message}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 1, "0.5"),
            (-5, 3, "-0.005"),
            (12345, 2, "123.45"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(decimal(value, scale), text);
        }
    }

    proptest! {
        /// One byte of the file changed: a refusal or a table, and never a panic.
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = file(PLAIN, &plain(), 2, Compression::SNAPPY);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(records) = read(Path::new("a.parquet"), bytes) {
                prop_assert!(records.rows.iter().all(|row| row.cells.len() == 6));
            }
        }
    }
}
