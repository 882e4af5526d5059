//! Tables as Parquet: one row group, every column optional, zstd. Equal tables give equal bytes.

use super::sheet::{Sheet, Values};
use ::parquet::basic::{Compression, LogicalType, Repetition, Type, ZstdLevel};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::Type as Schema;
use forgetting_laws::{Error, Result};
use std::sync::Arc;

/// The bytes of a file.
///
/// # Errors
/// If the table cannot be encoded.
pub fn bytes(sheet: &Sheet) -> Result<Vec<u8>> {
    encode(sheet).map_err(|error| {
        Error::content(format!("{}.parquet", sheet.name), None, format!("cannot be made: {error}"))
    })
}

fn encode(sheet: &Sheet) -> std::result::Result<Vec<u8>, ParquetError> {
    let fields = sheet.columns.iter().map(|(head, values)| {
        let (physical, logical) = match values {
            Values::Text(_) => (Type::BYTE_ARRAY, Some(LogicalType::String)),
            Values::Integer(_) => (Type::INT64, None),
            Values::Number(_) => (Type::DOUBLE, None),
            Values::Flag(_) => (Type::BOOLEAN, None),
        };
        let field = Schema::primitive_type_builder(head.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    });
    let fields = fields.collect::<std::result::Result<_, _>>()?;
    let schema = Schema::group_type_builder(sheet.name).with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("forgetting-laws ", env!("CARGO_PKG_VERSION")).into())
        .build();
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (_, values) in &sheet.columns {
        let Some(column) = group.next_column()? else { break };
        match values {
            Values::Text(values) => {
                let bytes = values.iter().map(|v| v.as_deref().map(ByteArray::from));
                write::<ByteArrayType>(column, bytes)?;
            }
            Values::Integer(values) => write::<Int64Type>(column, values.iter().copied())?,
            Values::Number(values) => write::<DoubleType>(column, values.iter().copied())?,
            Values::Flag(values) => write::<BoolType>(column, values.iter().copied())?,
        }
    }
    group.close()?;
    writer.close()?;
    Ok(out)
}

/// Writes a column: the existing values, and for each cell whether it has one.
fn write<T: DataType>(
    mut column: SerializedColumnWriter<'_>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> std::result::Result<(), ParquetError> {
    let (mut values, mut defined) = (Vec::new(), Vec::new());
    for cell in cells {
        defined.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    column.typed::<T>().write_batch(&values, Some(&defined), None)?;
    column.close()
}
