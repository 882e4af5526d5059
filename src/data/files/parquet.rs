//! Records of Parquet files, a few rows at a time.

use crate::quiet::quietly;
use crate::{Error, Result};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::{RowIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

/// Rows that are decoded at a time. A page, of about a megabyte, is unpacked as a whole.
const BATCH: usize = 64;

/// Hands out the rows of a file with some of their outermost fields, counted from 1.
///
/// # Errors
/// If the file is not Parquet, is damaged or packed in another way than plain, snappy, zstd or gzip,
/// or lacks a field; or what `each` says of a row.
pub(super) fn rows(
    path: &Path,
    fields: &[&str],
    mut each: impl FnMut(Value) -> Result<(), String>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    // What a panic interrupts is dropped with the error.
    let read = quietly(AssertUnwindSafe(|| read(file, fields, &mut each)));
    let damaged = |what: &str| {
        // Some reasons hold whole values.
        let what: String = what.lines().next().unwrap_or_default().chars().take(160).collect();
        let reason = format!("it cannot be read as Parquet ({what}); copy or download it again");
        Error::Damaged { path: path.to_path_buf(), reason }
    };
    match read {
        Some(Ok(())) => Ok(()),
        Some(Err(Stop::Refused(reason))) => Err(Error::content(path, None, reason)),
        Some(Err(Stop::Parquet(error))) => Err(damaged(&match error {
            ParquetError::General(what) | ParquetError::NYI(what) | ParquetError::EOF(what) => what,
            other => other.to_string(),
        })),
        None => Err(damaged("its parts do not fit together")),
    }
}

enum Stop {
    Parquet(ParquetError),
    Refused(String),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

fn read(
    file: File,
    fields: &[&str],
    each: &mut impl FnMut(Value) -> Result<(), String>,
) -> Result<(), Stop> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let root = schema.root_schema();
    let has = |name: &str| root.get_fields().iter().any(|field| field.name() == name);
    // A name with dots is a field within another one, or one whose own name has them.
    let outermost = |name: &&str| match has(name) {
        true => Some(name.to_string()),
        false => {
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
    for group in 0..reader.num_row_groups() {
        let group = Checked(reader.get_row_group(group)?);
        for record in TreeBuilder::new().with_batch_size(BATCH).as_iter(kept.clone(), &group)? {
            row += 1;
            each(object(record?)).map_err(|why| Stop::Refused(format!("row {row}: {why}")))?;
        }
    }
    Ok(())
}

/// A row group whose dictionaries are as long as they say. The decoder makes room for what a
/// dictionary's header claims, so that a few bytes could ask for all memory.
struct Checked<'a>(Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for Checked<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> parquet::errors::Result<Box<dyn PageReader>> {
        Ok(Box::new(Pages(self.0.get_column_page_reader(i)?)))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&parquet::bloom_filter::Sbbf> {
        self.0.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> parquet::errors::Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct Pages(Box<dyn PageReader>);

impl Iterator for Pages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        let page = self.0.get_next_page()?;
        match &page {
            // A value of any kind but truth values, which have no dictionary, takes a byte at least.
            Some(Page::DictionaryPage { buf, num_values, .. })
                if *num_values as usize > buf.len() =>
            {
                let what =
                    format!("a dictionary of {} bytes claims {num_values} values", buf.len());
                Err(ParquetError::General(what))
            }
            _ => Ok(page),
        }
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        self.0.skip_next_page()
    }
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
