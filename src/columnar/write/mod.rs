//! Writes Parquet and Arrow IPC files and streams with bounded memory.
//!
//! Rows are supplied in one of two ways. [`write`] takes a [`ColumnSource`], which can read the
//! rows of a group again for each column. Memory then holds one page or record batch.
//! [`TableWriter`] takes rows one at a time:
//!
//! ```text
//! let schema = Schema {
//!     columns: vec![
//!         Column::required("id", ColumnType::Utf8),
//!         Column::nullable("vector", ColumnType::Vector(384)),
//!         Column::nullable("metadata.page", ColumnType::Int64),
//!         Column::nullable("metadata.tags", ColumnType::List(ElementType::Utf8)),
//!     ],
//!     metadata: vec![("hnsw_toolbox.collection".into(), "papers".into())],
//! };
//! let mut file = AtomicFile::create(path, protected)?;
//! let mut table = TableWriter::new(&mut file, &schema, &WriteOptions::default())?;
//! for record in records {
//!     table.push(0, Value::Utf8(record.id))?;
//!     table.push(1, Value::Vector(record.vector))?;
//!     table.push(3, Value::Utf8List(&record.tags))?;
//!     table.end_row()?; // columns without a value are null in this row
//! }
//! let rows = table.finish()?;
//! file.commit()?;
//! ```
//!
//! Pushed values are flushed every `batch_size` rows. Parquet stores the pages of a column
//! contiguously. The encoded pages of all other columns are therefore kept, up to 8 MiB, while the
//! pages of vectors go to the file at once. In a row group, vectors come first regardless of their
//! position in the schema.

#[cfg(test)]
mod tests;

use super::arrow_ipc::write::IpcFile;
use super::batches::BatchWriter;
#[cfg(feature = "wire")]
use super::batches::StreamSink;
use super::columns::{Builder, Schema, Value};
use super::parquet::write::ParquetWriter;
use super::source::{ColumnSource, WriteOptions};
use super::ColumnarFormat;
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;

/// Minimum size in bytes of a text that bypasses the builder's copy. Memory then holds it at most
/// twice: the text and its encoded form.
pub(crate) const LARGE_TEXT_BYTES: usize = 1 << 20;

/// Destination of rows.
pub(crate) enum Output<'o> {
    File(&'o mut AtomicFile),
    /// Record batches, the same as an Arrow IPC file would contain.
    #[cfg(feature = "wire")]
    Batches(&'o mut dyn StreamSink),
}

impl<'o> From<&'o mut AtomicFile> for Output<'o> {
    fn from(file: &'o mut AtomicFile) -> Self {
        Self::File(file)
    }
}

/// Writes all rows of `source`.
pub(crate) fn write<'o>(
    output: impl Into<Output<'o>>,
    schema: &Schema,
    options: &WriteOptions,
    source: &mut impl ColumnSource,
) -> Result<()> {
    let mut writer = FormatWriter::new(output.into(), schema, options)?;
    match &mut writer {
        FormatWriter::Parquet(writer) => writer.write_groups(source)?,
        FormatWriter::ArrowIpc(writer) => writer.write_batches(source)?,
        #[cfg(feature = "wire")]
        FormatWriter::Batches(writer) => writer.write_batches(source)?,
    }
    writer.finish()
}

enum FormatWriter<'o> {
    Parquet(ParquetWriter<'o>),
    ArrowIpc(BatchWriter<IpcFile<'o>>),
    #[cfg(feature = "wire")]
    Batches(BatchWriter<&'o mut dyn StreamSink>),
}

impl<'o> FormatWriter<'o> {
    fn new(output: Output<'o>, schema: &Schema, options: &WriteOptions) -> Result<Self> {
        Ok(match (output, options.format) {
            (Output::File(file), ColumnarFormat::Parquet) => {
                Self::Parquet(ParquetWriter::new(file, schema, options)?)
            }
            (Output::File(file), ColumnarFormat::ArrowIpc) => {
                let file = IpcFile::new(file, schema.arrow())?;
                Self::ArrowIpc(BatchWriter::new(file, schema, options)?)
            }
            #[cfg(feature = "wire")]
            (Output::Batches(sink), _) => {
                sink.begin(schema.arrow())?;
                Self::Batches(BatchWriter::new(sink, schema, options)?)
            }
        })
    }

    fn builders(&mut self) -> &mut [Builder] {
        match self {
            Self::Parquet(writer) => writer.builders(),
            Self::ArrowIpc(writer) => writer.builders(),
            #[cfg(feature = "wire")]
            Self::Batches(writer) => writer.builders(),
        }
    }

    fn end_row(&mut self) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.end_row(),
            Self::ArrowIpc(writer) => writer.end_row(),
            #[cfg(feature = "wire")]
            Self::Batches(writer) => writer.end_row(),
        }
    }

    /// Pushes a text whose memory the column can take over.
    fn push_text(&mut self, column: usize, text: String) -> Result<()> {
        if let Self::Parquet(writer) = self {
            return writer.push_text(column, text);
        }
        match self.builders().get_mut(column) {
            Some(builder) => builder.push_text(text),
            None => Err(Error::internal(format!("no column {column}"))),
        }
    }

    /// Prepares for a row with large texts.
    fn begin_large_row(&mut self) -> Result<()> {
        match self {
            // Each column has its own pages.
            Self::Parquet(_) => Ok(()),
            Self::ArrowIpc(writer) => writer.end_batch(),
            #[cfg(feature = "wire")]
            Self::Batches(writer) => writer.end_batch(),
        }
    }

    /// Flushes pushed rows and completes the output.
    fn finish(self) -> Result<()> {
        match self {
            Self::Parquet(mut writer) => {
                writer.end_group()?;
                writer.finish()
            }
            Self::ArrowIpc(mut writer) => {
                writer.end_batch()?;
                writer.into_sink().finish()
            }
            #[cfg(feature = "wire")]
            Self::Batches(mut writer) => writer.end_batch(),
        }
    }
}

/// Writes rows supplied one at a time.
pub(crate) struct TableWriter<'o> {
    writer: FormatWriter<'o>,
    /// Number of complete rows.
    rows: u64,
    /// Number of values pushed into each column, including nulls.
    pushed: Vec<u64>,
}

impl<'o> TableWriter<'o> {
    pub(crate) fn new(
        output: impl Into<Output<'o>>,
        schema: &Schema,
        options: &WriteOptions,
    ) -> Result<Self> {
        Ok(Self {
            writer: FormatWriter::new(output.into(), schema, options)?,
            rows: 0,
            pushed: vec![0; schema.columns.len()],
        })
    }

    /// Sets the current row's value in column number `column`.
    pub(crate) fn push(&mut self, column: usize, value: Value<'_>) -> Result<()> {
        let builder = self.writer.builders().get_mut(column);
        match (builder, self.pushed.get_mut(column)) {
            (Some(builder), Some(pushed)) if *pushed == self.rows => {
                builder.push(value)?;
                *pushed += 1;
                Ok(())
            }
            (Some(_), _) => Err(Error::internal(format!("two values in column {column}"))),
            (None, _) => Err(Error::internal(format!("no column {column}"))),
        }
    }

    /// Sets the current row's text in column number `column`. A large text is not copied if the row
    /// was begun with [`begin_large_row`](Self::begin_large_row).
    pub(crate) fn push_text(&mut self, column: usize, text: String) -> Result<()> {
        if text.len() < LARGE_TEXT_BYTES {
            return self.push(column, Value::Utf8(&text));
        }
        match self.pushed.get_mut(column) {
            Some(pushed) if *pushed == self.rows => *pushed += 1,
            Some(_) => return Err(Error::internal(format!("two values in column {column}"))),
            None => return Err(Error::internal(format!("no column {column}"))),
        }
        self.writer.push_text(column, text)
    }

    /// Announces that the next row has large texts.
    pub(crate) fn begin_large_row(&mut self) -> Result<()> {
        self.writer.begin_large_row()
    }

    /// Completes the current row. Columns without a value are set to null.
    pub(crate) fn end_row(&mut self) -> Result<()> {
        for column in 0..self.pushed.len() {
            if self.pushed.get(column) == Some(&self.rows) {
                self.push(column, Value::Null)?;
            }
        }
        self.rows += 1;
        self.writer.end_row()
    }

    /// Completes the file and returns its number of rows.
    pub(crate) fn finish(self) -> Result<u64> {
        if self.pushed.iter().any(|&pushed| pushed != self.rows) {
            return Err(Error::internal("the last row is not complete"));
        }
        self.writer.finish()?;
        Ok(self.rows)
    }
}
