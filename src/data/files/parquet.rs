//! Records of Parquet files, a few rows at a time.

use crate::formats::parquet::{Reader, Stop, open};
use crate::{Error, Result};
use parquet::record::reader::TreeBuilder;
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows that are decoded at a time. A page, of about a megabyte, is decompressed as a whole.
const BATCH: usize = 64;

/// Passes the rows of a file, counted from 1, with some of their outermost fields to `each`.
///
/// # Errors
/// As [`formats::parquet::open`](crate::formats::parquet::open); if the file lacks a field; or
/// the error of `each`.
pub(super) fn rows(
    path: &Path,
    fields: &[&str],
    mut each: impl FnMut(Value) -> Result<(), String>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    open(path, file, |reader| read(reader, fields, &mut each))
}

fn read(
    reader: &Reader<File>,
    fields: &[&str],
    each: &mut impl FnMut(Value) -> Result<(), String>,
) -> Result<(), Stop> {
    let schema = reader.schema();
    let root = schema.root_schema();
    let has = |name: &str| root.get_fields().iter().any(|field| field.name() == name);
    // A name with dots is a field within another one, or one whose own name has them.
    let outermost = |name: &&str| {
        if has(name) {
            Some(name.to_string())
        } else {
            name.match_indices('.').map(|(dot, _)| &name[..dot]).find(|n| has(n)).map(Into::into)
        }
    };
    let mut wanted: Vec<String> = Vec::new();
    for name in fields {
        let Some(found) = outermost(name) else {
            let names = root.get_fields().iter().map(|field| field.name());
            return Err(Stop::Refused(super::fields::no_field(name, names)));
        };
        wanted.push(found);
    }
    let kept = root.get_fields().iter().filter(|field| wanted.iter().any(|n| n == field.name()));
    let kept =
        Type::group_type_builder(root.name()).with_fields(kept.cloned().collect()).build()?;
    let kept = Arc::new(SchemaDescriptor::new(Arc::new(kept)));
    let mut row = 0u64;
    for group in 0..reader.row_groups() {
        let group = reader.row_group(group, |name| wanted.iter().any(|wanted| wanted == name))?;
        for record in TreeBuilder::new().with_batch_size(BATCH).as_iter(kept.clone(), &group)? {
            row += 1;
            each(object(record?)).map_err(|why| Stop::Refused(format!("row {row}: {why}")))?;
        }
    }
    Ok(())
}

fn object(row: Row) -> Value {
    Value::Object(
        row.into_columns().into_iter().map(|(n, field)| (n, value(field))).collect::<Map<_, _>>(),
    )
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => Number::from_f64(value.into()).map_or(Value::Null, Value::Number),
        Field::Double(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Field::Str(text) => text.into(),
        // Some writers do not say that it is text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => Value::Array(Vec::new()),
        },
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => other.to_string().into(),
    }
}
