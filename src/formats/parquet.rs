//! Parquet files, opened with guards: no memory is taken for what a file merely claims, damage is
//! an error in one line where the decoder would panic, and what is not supported is named.

use crate::formats::{HEAD, not_data};
use crate::quiet::quietly;
use crate::{Error, Result};
use ::parquet::basic::Compression;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{SchemaDescPtr, Type};
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// Why reading ended early.
#[derive(Debug)]
pub enum Stop {
    /// The file is not what the format says.
    Parquet(ParquetError),
    /// The file is sound, but something in it is not supported here, or not wanted.
    Refused(String),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

/// Runs `work` on the reader of a file (a [`std::fs::File`], or `bytes::Bytes`).
///
/// # Errors
/// In one line, if the file is not Parquet (with what it is instead, if [`not_data`] knows), is
/// damaged, or is compressed in a way that is not supported here; or the error of `work`. A panic
/// in `work` counts as damage, because the decoder panics on some damaged files.
pub fn open<R: ChunkReader + 'static, T>(
    path: &Path,
    input: R,
    work: impl FnOnce(&Reader<R>) -> Result<T, Stop>,
) -> Result<T> {
    // What a panic interrupts is dropped with the error.
    let read = quietly(AssertUnwindSafe(|| {
        let head = input.get_bytes(0, input.len().min(HEAD as u64) as usize)?;
        if !head.starts_with(b"PAR1")
            && let Some(what) = not_data(&head)
        {
            return Err(Stop::Refused(what));
        }
        let reader = Reader(SerializedFileReader::new(input)?);
        work(&reader)
    }));
    let damaged = |what: &str| {
        // Some reasons hold whole values.
        let what: String = what.lines().next().unwrap_or_default().chars().take(160).collect();
        let reason = format!("it cannot be read as Parquet ({what}); copy or download it again");
        Error::Damaged { path: path.to_path_buf(), reason }
    };
    match read {
        Some(Ok(done)) => Ok(done),
        Some(Err(Stop::Refused(reason))) => Err(Error::content(path, None, reason)),
        Some(Err(Stop::Parquet(ParquetError::External(error)))) if error.is::<TooManyValues>() => {
            Err(Error::content(path, None, error.to_string()))
        }
        Some(Err(Stop::Parquet(error))) => Err(damaged(&match error {
            ParquetError::General(what) | ParquetError::NYI(what) | ParquetError::EOF(what) => what,
            other => other.to_string(),
        })),
        None => Err(damaged("its parts do not fit together")),
    }
}

/// A file that is open.
pub struct Reader<R: ChunkReader + 'static>(SerializedFileReader<R>);

impl<R: ChunkReader + 'static> Reader<R> {
    /// The columns.
    pub fn schema(&self) -> SchemaDescPtr {
        self.0.metadata().file_metadata().schema_descr_ptr()
    }

    /// The number of row groups.
    pub fn row_groups(&self) -> usize {
        self.0.num_row_groups()
    }

    /// A row group, of which the columns whose outermost name `wanted` lets through are to be read.
    ///
    /// # Errors
    /// If one of them is compressed in a way that is not read here, or the file is damaged.
    pub fn row_group(
        &self,
        group: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<impl RowGroupReader + '_, Stop> {
        let group = self.0.get_row_group(group)?;
        for column in group.metadata().columns() {
            let name = column.column_path().parts().first().map_or("", String::as_str);
            let codec = match column.compression() {
                Compression::LZO => "lzo",
                Compression::BROTLI(_) => "brotli",
                _ => continue,
            };
            if wanted(name) {
                return Err(Stop::Refused(format!(
                    "its column {name:?} is compressed with {codec}, which is not read here \
                     (snappy, zstd, gzip and lz4 are); in pandas: \
                     read_parquet(OLD).to_parquet(NEW, compression=\"zstd\")"
                )));
            }
        }
        Ok(Checked(group))
    }
}

/// A row group whose dictionaries are as long as they say, and whose columns are not longer than
/// [`MOST_VALUES`]. The decoder makes room for what a header claims, so that a few bytes could ask for all
/// memory.
struct Checked<'a>(Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for Checked<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> ::parquet::errors::Result<Box<dyn PageReader>> {
        Ok(Box::new(Pages { pages: self.0.get_column_page_reader(i)?, values: 0 }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&::parquet::bloom_filter::Sbbf> {
        self.0.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> ::parquet::errors::Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The most values of a column in a row group. Repeated or missing values take hardly a byte of the file,
/// and a list with all of them is read as a whole.
const MOST_VALUES: u64 = 1 << 26;

/// The file may be sound, but a column of it is not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "a column of a row group has more than {} values, the most that are read; write the file with smaller row \
     groups",
    MOST_VALUES
)]
struct TooManyValues;

struct Pages {
    pages: Box<dyn PageReader>,
    /// The values of the pages so far.
    values: u64,
}

impl Iterator for Pages {
    type Item = ::parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ::parquet::errors::Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        match &page {
            // A value of any kind but truth values, which have no dictionary, takes a byte at least.
            Some(Page::DictionaryPage { buf, num_values, .. })
                if *num_values as usize > buf.len() =>
            {
                let what =
                    format!("a dictionary of {} bytes claims {num_values} values", buf.len());
                return Err(ParquetError::General(what));
            }
            Some(Page::DictionaryPage { .. }) | None => {}
            Some(data) => self.values += u64::from(data.num_values()),
        }
        if self.values > MOST_VALUES {
            return Err(ParquetError::External(Box::new(TooManyValues)));
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ::parquet::errors::Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ::parquet::errors::Result<()> {
        self.pages.skip_next_page()
    }
}
