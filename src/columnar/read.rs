//! Vectors and labels out of Parquet and Arrow IPC files, batch by batch.
//!
//! Only the columns `vector`, `label` (else `internal_id`) and `deleted` are ever decoded; others
//! may be of any type. The files are decoded here rather than by arrow2 and parquet2, whose readers
//! panic on, or allocate what is written in, malformed files, refuse files for columns that are
//! not needed, and hold whole row groups.
//!
//! Rows are numbered from 0, in errors too. Rows that are deleted and so left out are not looked
//! at: their vectors and labels may be null, not finite or of another dimension.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::arrow_ipc::read::IpcColumns;
use super::bytes::{Flaw, Input};
use super::parquet::read::ParquetColumns;
use crate::columnar::ColumnarFormat;
use crate::error::{Error, Result};
use crate::io::file::{InputFile, IoMode};

/// The columns that may be needed, in the order of [`choose`]'s argument.
pub(crate) const NAMES: [&str; 4] = ["vector", "label", "internal_id", "deleted"];

/// Longest footer or record batch header that is read, in bytes.
pub(crate) const MAX_METADATA: u64 = 256 << 20;

/// Longest vector. What compresses well may be far longer than the file.
const MAX_DIMENSION: usize = 1 << 20;

/// A batch ends early when its vectors have this many elements (256 MiB).
const MAX_BATCH_ELEMENTS: usize = 64 << 20;

/// Some consecutive rows of the input.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowBatch {
    /// Number in the file of the first row scanned.
    pub(crate) first_row: u64,
    /// Elements of each vector; 0 until the first row that is not left out.
    pub(crate) dimension: usize,
    /// Row-major, of the rows that are not left out: finite numbers, `dimension` for each row.
    pub(crate) vectors: Vec<f32>,
    /// One for each of these rows.
    pub(crate) labels: Vec<u64>,
    /// Their numbers in the file.
    pub(crate) rows: Vec<u64>,
    /// Rows of the file in this batch.
    pub(crate) scanned: u64,
    /// Those of them that are deleted and were left out.
    pub(crate) deleted_skipped: u64,
}

/// An open Parquet or Arrow IPC file of vectors.
pub(crate) struct ColumnarInput {
    input: Input,
    columns: Box<dyn Columns>,
    label_name: &'static str,
    batch_size: usize,
    next_row: u64,
    dimension: usize,
}

impl ColumnarInput {
    /// Opens `path` and checks its schema.
    ///
    /// With `include_deleted`, every row is kept and the column `deleted` is not looked at.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a needed column is missing, there twice or of a wrong type, or
    /// when the file is malformed; [`Error::Unsupported`] when it is of a kind that is not read
    /// (encrypted, big-endian, an unknown codec …); [`Error::Io`].
    pub(crate) fn open(
        path: &Path,
        format: ColumnarFormat,
        batch_size: usize,
        include_deleted: bool,
        io: IoMode,
    ) -> Result<Self> {
        let input = Input::new(InputFile::open(path, io)?);
        check_format(&input, format)?;
        let columns: Box<dyn Columns> = match format {
            ColumnarFormat::Parquet => Box::new(ParquetColumns::open(&input, include_deleted)?),
            ColumnarFormat::ArrowIpc => Box::new(IpcColumns::open(&input, include_deleted)?),
        };
        Ok(Self {
            label_name: columns.label_name(),
            input,
            columns,
            batch_size: batch_size.max(1),
            next_row: 0,
            dimension: 0,
        })
    }

    /// Rows in the file, deleted ones included.
    pub(crate) fn row_count(&self) -> u64 {
        self.columns.row_count()
    }

    /// Reads the next rows: as many as the batch size, or fewer at the end and when vectors are
    /// very long. Returns `false`, with an empty batch, at the end. The batch's memory is reused.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] names the first row, column and element that cannot be used; or the
    /// part of the file that is malformed. Nothing may be read after an error.
    pub(crate) fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        batch.first_row = self.next_row;
        batch.vectors.clear();
        batch.labels.clear();
        batch.rows.clear();
        batch.scanned = 0;
        batch.deleted_skipped = 0;
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
        let cell = |name: &str| format!("row {row}, column {name}");
        let Some(deleted) = self.columns.deleted()? else {
            return Err(self.input.invalid(
                cell("deleted"),
                "null",
                "true or false, or an integer, where 0 means not deleted",
            ));
        };
        let deleted = deleted != 0;
        let label = self.columns.label(row)?;
        let mut vector = VectorRow {
            input: &self.input,
            row,
            skip: deleted,
            dimension: self.dimension,
            elements: 0,
            out: &mut batch.vectors,
        };
        self.columns.vector(&mut vector)?;
        if deleted {
            batch.deleted_skipped += 1;
            return Ok(());
        }
        self.dimension = vector.finish()?;
        let label = label.ok_or("null".to_string());
        let label = label.and_then(|n| u64::try_from(n).map_err(|_| n.to_string()));
        batch.labels.push(label.map_err(|found| {
            self.input.invalid(
                cell(self.label_name),
                found,
                "an integer from 0 to 18446744073709551615",
            )
        })?);
        batch.rows.push(row);
        Ok(())
    }

    /// Fails when the file is not what it was when it was opened.
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

/// The three columns of a file, each read from its first row to its last, at equal pace.
pub(crate) trait Columns: Send {
    fn row_count(&self) -> u64;
    fn label_name(&self) -> &'static str;
    /// Whether the next row is deleted: 0 when not.
    fn deleted(&mut self) -> Result<Option<i128>>;
    /// The label of the next row, which is row number `row`.
    fn label(&mut self, row: u64) -> Result<Option<i128>>;
    /// Gives the elements of the next row's vector to `row`.
    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()>;
    /// Fails when there is more than `row_count` rows need.
    fn finish(&mut self) -> Result<()>;
}

/// Takes the vector of one row, and checks it.
pub(crate) struct VectorRow<'a> {
    pub(crate) input: &'a Input,
    pub(crate) row: u64,
    /// Whether to take no notice of what is given.
    pub(crate) skip: bool,
    /// What other rows have; 0 when this is the first.
    pub(crate) dimension: usize,
    /// Elements taken.
    pub(crate) elements: usize,
    pub(crate) out: &'a mut Vec<f32>,
}

impl VectorRow<'_> {
    pub(crate) fn cell(&self) -> String {
        format!("row {}, column vector", self.row)
    }

    pub(crate) fn element(&self) -> String {
        format!("{}, element {}", self.cell(), self.elements)
    }

    pub(crate) fn null(&self) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        Err(self.input.invalid(self.cell(), "null", "a vector"))
    }

    pub(crate) fn null_element(&mut self) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        Err(self.input.invalid(self.element(), "null", "a number"))
    }

    pub(crate) fn push_f32(&mut self, value: f32) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() {
            return Err(self.not_finite(value.into()));
        }
        self.push(value)
    }

    pub(crate) fn push_f64(&mut self, value: f64) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() {
            return Err(self.not_finite(value));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded to the nearest float32, which is checked not to be infinite"
        )]
        let rounded = value as f32;
        if !rounded.is_finite() {
            return Err(self.input.invalid(
                self.element(),
                format!("{value:e}"),
                "a number in the range of float32, ±3.4e38",
            ));
        }
        self.push(rounded)
    }

    pub(crate) fn push(&mut self, value: f32) -> Result<()> {
        if self.dimension == 0 && self.elements == MAX_DIMENSION {
            return Err(self.input.invalid(
                self.cell(),
                format!("more than {MAX_DIMENSION} elements"),
                format!("at most {MAX_DIMENSION}"),
            ));
        }
        // A vector that is too long is counted to its end, but not kept.
        if self.dimension == 0 || self.elements < self.dimension {
            self.out.push(value);
        }
        self.elements += 1;
        Ok(())
    }

    pub(crate) fn not_finite(&self, value: f64) -> Error {
        let expected = "a finite number";
        self.input
            .invalid(self.element(), value.to_string(), expected)
    }

    /// The dimension of this and all other rows.
    fn finish(self) -> Result<usize> {
        let expected = match (self.elements, self.dimension) {
            (0, 0) => "at least one".to_string(),
            (elements, 0) => return Ok(elements),
            (elements, dimension) if elements == dimension => return Ok(dimension),
            (_, dimension) => format!("{dimension}, as in the rows before"),
        };
        let found = match self.elements {
            0 => "an empty vector".to_string(),
            elements => format!("{elements} elements"),
        };
        Err(self.input.invalid(self.cell(), found, expected))
    }
}

/// How the bits of an integer are to be understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerType {
    pub(crate) bits: u32,
    pub(crate) signed: bool,
}

impl IntegerType {
    pub(crate) fn new(bits: u32, signed: bool) -> Self {
        Self { bits, signed }
    }

    /// The integer whose bits are the lowest of `bits`; those above are 0.
    pub(crate) fn value(self, bits: u64) -> i128 {
        if self.signed {
            let unused = 64u32.saturating_sub(self.bits);
            i128::from((bits << unused).cast_signed() >> unused)
        } else {
            i128::from(bits)
        }
    }
}

/// A column that may be there.
pub(crate) struct Found<T> {
    /// How many columns have its name.
    pub(crate) seen: usize,
    /// The last of them.
    pub(crate) column: Option<T>,
}

/// The columns that will be read, with their names.
pub(crate) struct Chosen<T> {
    pub(crate) vector: (&'static str, T),
    pub(crate) label: Option<(&'static str, T)>,
    pub(crate) deleted: Option<(&'static str, T)>,
}

/// Chooses from the columns of a schema, which are given in the order of [`NAMES`].
pub(crate) fn choose<T>(
    input: &Input,
    found: [Found<T>; 4],
    include_deleted: bool,
) -> Result<Chosen<T>> {
    let named = |name: &'static str, found: Found<T>| match (found.column, found.seen) {
        (_, 2..) => Err(input.invalid(
            format!("column {name}"),
            format!("{} columns of that name", found.seen),
            "one",
        )),
        (column, _) => Ok(column.map(|column| (name, column))),
    };
    let [vector, label, internal_id, deleted] = found;
    let [vector_name, label_name, internal_id_name, deleted_name] = NAMES;
    let vector = named(vector_name, vector)?.ok_or_else(|| {
        input.invalid(
            format!("column {vector_name}"),
            "no such column",
            "a list of float32 or float64",
        )
    })?;
    let label = match named(label_name, label)? {
        Some(label) => Some(label),
        None => named(internal_id_name, internal_id)?,
    };
    let deleted = if include_deleted {
        None
    } else {
        named(deleted_name, deleted)?
    };
    Ok(Chosen {
        vector,
        label,
        deleted,
    })
}

/// Tells a file of another format by its first bytes.
fn check_format(input: &Input, format: ColumnarFormat) -> Result<()> {
    let (magic, expected) = match format {
        ColumnarFormat::Parquet => (b"PAR1".as_slice(), "a Parquet file"),
        ColumnarFormat::ArrowIpc => (b"ARROW1".as_slice(), "an Arrow IPC file"),
    };
    let len = input.len();
    input.decode(
        0,
        len.min(8),
        len,
        || "start of the file".into(),
        |start| {
            if start.starts_with(magic) {
                return Ok(());
            }
            let found = match start {
                [] => "an empty file",
                [b'P', b'A', b'R', b'1', ..] => "a Parquet file",
                [b'P', b'A', b'R', b'E', ..] => "an encrypted Parquet file",
                [b'A', b'R', b'R', b'O', b'W', b'1', ..] => "an Arrow IPC file",
                [b'F', b'E', b'A', b'1', ..] => "a Feather file of version 1",
                [0xff, 0xff, 0xff, 0xff, ..] => {
                    return Err(Flaw::unsupported(
                        "what looks like an Arrow IPC stream",
                        format!("{expected} (Arrow's file format, not its stream format)"),
                    ))
                }
                _ => "other bytes",
            };
            Err(Flaw::new(found, expected))
        },
    )
}
