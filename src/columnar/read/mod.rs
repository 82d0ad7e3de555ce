//! Reads vectors and labels from Parquet and Arrow IPC files in batches.
//!
//! Only the columns of vectors, labels and `deleted` are decoded; others can be of any type. The
//! decoders here replace the readers of arrow2 and parquet2. Those panic on malformed files,
//! allocate sizes found in the file, refuse files for columns that are not needed, and hold whole
//! row groups.
//!
//! Rows are numbered from 0, also in errors. The contents of skipped deleted rows are not checked:
//! their vectors and labels can be null, not finite or of another dimension.

#[cfg(all(test, feature = "codecs"))]
mod tests;

use std::path::Path;

use super::arrow_ipc::read::IpcColumns;
use super::bytes::{DecodeError, Input};
use super::cells::{Columns, VectorRow};
use super::columns::{DELETED, LABEL};
use super::parquet::read::ParquetColumns;
use super::selection::{Name, ReadOptions, Wanted};
use super::ColumnarFormat;
use crate::error::Result;
use crate::io::file::InputFile;

/// A batch ends early once its vectors have this many components (256 MiB).
const MAX_BATCH_ELEMENTS: usize = 64 << 20;

/// Consecutive rows of the input.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowBatch {
    /// Components per vector; 0 before the first row that is kept.
    pub(crate) dimension: usize,
    /// Row-major vectors of the kept rows: `dimension` finite components each.
    pub(crate) vectors: Vec<f32>,
    /// One label per kept row.
    pub(crate) labels: Vec<u64>,
    /// Row numbers of the kept rows in the file.
    pub(crate) rows: Vec<u64>,
    /// Number of rows of the file in this batch, kept or skipped.
    pub(crate) scanned: u64,
    /// Number of rows skipped because they are deleted.
    pub(crate) deleted_skipped: u64,
    /// Number of rows skipped because they have no vector.
    pub(crate) without_vector: u64,
}

/// An open Parquet or Arrow IPC file of vectors.
pub(crate) struct ColumnarInput {
    input: Input,
    columns: Box<dyn Columns>,
    vector_name: Name,
    label_name: Option<Name>,
    batch_size: usize,
    next_row: u64,
    dimension: usize,
}

impl ColumnarInput {
    /// Opens `path` and checks its schema.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a needed column is missing,
    /// duplicated or of a wrong type, or if the file is malformed;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the file uses an unsupported
    /// feature (encryption, big-endian data, an unknown codec …);
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let wanted = Wanted::new(options)?;
        let input = Input::new(InputFile::open(path, options.io)?);
        let columns: Box<dyn Columns> = match check_format(&input, Some(options.format))? {
            Container::Parquet => Box::new(ParquetColumns::open(&input, &wanted)?),
            Container::ArrowFile => Box::new(IpcColumns::open_file(&input, &wanted)?),
            Container::ArrowStream => Box::new(IpcColumns::open_stream(&input, &wanted)?),
        };
        Ok(Self {
            input,
            vector_name: columns.vector_name(),
            label_name: columns.label_name(),
            columns,
            batch_size: options.batch_size.max(1),
            next_row: 0,
            dimension: 0,
        })
    }

    /// Name of the vector column.
    pub(crate) fn vector_name(&self) -> &str {
        &self.vector_name
    }

    /// Name of the label column; `None` if the row numbers serve as labels.
    pub(crate) fn label_column(&self) -> Option<&str> {
        self.label_name.as_deref()
    }

    /// Number of rows in the file, including deleted ones.
    pub(crate) fn row_count(&self) -> u64 {
        self.columns.row_count()
    }

    /// Reads the next rows: up to the batch size, or fewer at the end and if vectors are very long.
    /// Returns `false` with an empty batch at the end. The batch's memory is reused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the first invalid row,
    /// column and component, or the malformed part of the file. After an error, this method must
    /// not be called again.
    pub(crate) fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        batch.vectors.clear();
        batch.labels.clear();
        batch.rows.clear();
        batch.scanned = 0;
        batch.deleted_skipped = 0;
        batch.without_vector = 0;
        let left = self.row_count().saturating_sub(self.next_row);
        let wanted = left.min(u64::try_from(self.batch_size).unwrap_or(u64::MAX));
        while batch.scanned < wanted && batch.vectors.len() < MAX_BATCH_ELEMENTS {
            self.next_row(batch)?;
            self.next_row += 1;
            batch.scanned += 1;
        }
        if left > 0 && batch.scanned == left {
            self.columns.finish()?;
        }
        batch.dimension = self.dimension;
        Ok(batch.scanned > 0)
    }

    fn next_row(&mut self, batch: &mut RowBatch) -> Result<()> {
        let row = self.next_row;
        let Some(deleted) = self.columns.deleted()? else {
            return Err(self.input.invalid(
                format!("row {row}, column {DELETED}"),
                "null",
                "true or false, or an integer, where 0 means not deleted",
            ));
        };
        let deleted = deleted != 0;
        // Columns advance together, so label and vector are read for skipped rows also.
        let label = self.columns.label(row)?;
        let mut vector = VectorRow {
            input: &self.input,
            name: &self.vector_name,
            row,
            skip: deleted,
            may_be_null: self.columns.is_export(),
            accept_non_finite: false,
            is_null: false,
            dimension: self.dimension,
            elements: 0,
            out: &mut batch.vectors,
        };
        self.columns.vector(&mut vector)?;
        if deleted {
            batch.deleted_skipped += 1;
            return Ok(());
        }
        if vector.is_null {
            batch.without_vector += 1;
            return Ok(());
        }
        self.dimension = vector.finish()?;
        let label = label.ok_or("null".to_string());
        let label = label.and_then(|n| u64::try_from(n).map_err(|_| n.to_string()));
        batch.labels.push(label.map_err(|found| {
            self.input.invalid(
                format!("row {row}, column {}", self.label_column().unwrap_or(LABEL)),
                found,
                "an integer from 0 to 18446744073709551615",
            )
        })?);
        batch.rows.push(row);
        Ok(())
    }

    /// Fails if the file has changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.input.source().check_unchanged()
    }
}

impl std::fmt::Debug for ColumnarInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnarInput")
            .field("path", &self.input.source().path())
            .field("row_count", &self.row_count())
            .field("next_row", &self.next_row)
            .finish_non_exhaustive()
    }
}

/// The container format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Parquet,
    ArrowFile,
    /// Messages without a footer, the form of Hugging Face datasets.
    ArrowStream,
}

/// Detects the container by its first bytes, and checks it against `format`, if any.
pub(super) fn check_format(input: &Input, format: Option<ColumnarFormat>) -> Result<Container> {
    let expected = match format {
        Some(ColumnarFormat::Parquet) => "a Parquet file",
        Some(ColumnarFormat::ArrowIpc) => "an Arrow IPC file or stream",
        None => "a Parquet file, or an Arrow IPC file or stream",
    };
    let len = input.len();
    input.decode(
        0,
        len.min(8),
        len,
        || "start of the file".into(),
        |start| {
            let (found, container) = match start {
                [] => ("an empty file", None),
                [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", Some(Container::Parquet)),
                [b'P', b'A', b'R', b'E', ..] => ("an encrypted Parquet file", None),
                [b'A', b'R', b'R', b'O', b'W', b'1', ..] => {
                    ("an Arrow IPC file", Some(Container::ArrowFile))
                }
                [b'F', b'E', b'A', b'1', ..] => ("a Feather file of version 1", None),
                // The marker in front of each message of a stream.
                [0xff, 0xff, 0xff, 0xff, ..] => {
                    ("an Arrow IPC stream", Some(Container::ArrowStream))
                }
                _ => ("other bytes", None),
            };
            match (container, format) {
                (Some(Container::Parquet), Some(ColumnarFormat::Parquet)) => Ok(Container::Parquet),
                (
                    Some(arrow @ (Container::ArrowFile | Container::ArrowStream)),
                    Some(ColumnarFormat::ArrowIpc),
                ) => Ok(arrow),
                (Some(any), None) => Ok(any),
                _ => Err(DecodeError::new(found, expected)),
            }
        },
    )
}
