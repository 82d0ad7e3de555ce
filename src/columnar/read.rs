//! Vectors and labels out of Parquet and Arrow IPC files, batch by batch.
//!
//! Only the columns of the vectors, the labels and `deleted` are ever decoded; others may be of any
//! type. The files are decoded here rather than by arrow2 and parquet2, whose readers
//! panic on, or allocate what is written in, malformed files, refuse files for columns that are
//! not needed, and hold whole row groups.
//!
//! Rows are numbered from 0, in errors too. Rows that are deleted and so left out are not looked
//! at: their vectors and labels may be null, not finite or of another dimension.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow2::types::f16;

use super::arrow_ipc::read::IpcColumns;
use super::bytes::{DecodeError, Input};
use super::parquet::read::ParquetColumns;
use crate::columnar::columns::{DELETED, INTERNAL_ID, LABEL, VECTOR};
use crate::columnar::ColumnarFormat;
use crate::error::{Error, Result};
use crate::io::file::{InputFile, IoMode};
use crate::memory;

/// Longest footer or record batch header that is read, in bytes.
pub(crate) const MAX_METADATA: u64 = 256 << 20;

/// Longest vector. What compresses well may be far longer than the file.
const MAX_DIMENSION: usize = 1 << 20;

/// A batch ends early when its vectors have this many elements (256 MiB).
const MAX_BATCH_ELEMENTS: usize = 64 << 20;

/// How a file is read, and which of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOptions {
    pub(crate) format: ColumnarFormat,
    /// Most rows in a batch.
    pub(crate) batch_size: usize,
    /// Keep every row, and do not look at the column `deleted`.
    pub(crate) include_deleted: bool,
    /// The column of the vectors, `vector` unless it is given.
    pub(crate) vector_column: Option<String>,
    /// The column of the labels, which must then exist. Without it, `label` is taken, or else
    /// `internal_id`, or else the row numbers are.
    pub(crate) label_column: Option<String>,
    pub(crate) io: IoMode,
}

/// Some consecutive rows of the input.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowBatch {
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
    vector_name: Name,
    label_name: Name,
    batch_size: usize,
    next_row: u64,
    dimension: usize,
}

impl ColumnarInput {
    /// Opens `path` and checks its schema.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a needed column is missing, there twice or of a wrong type, or
    /// when the file is malformed; [`Error::Unsupported`] when it is of a kind that is not read
    /// (encrypted, big-endian, an unknown codec …); [`Error::Io`].
    pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let wanted = Wanted::new(options)?;
        let input = Input::new(InputFile::open(path, options.io)?);
        let columns: Box<dyn Columns> = match check_format(&input, options.format)? {
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
        let Some(deleted) = self.columns.deleted()? else {
            return Err(self.input.invalid(
                format!("row {row}, column {DELETED}"),
                "null",
                "true or false, or an integer, where 0 means not deleted",
            ));
        };
        let deleted = deleted != 0;
        let label = self.columns.label(row)?;
        let mut vector = VectorRow {
            input: &self.input,
            name: &self.vector_name,
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
                format!("row {row}, column {}", self.label_name),
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
    fn vector_name(&self) -> Name;
    fn label_name(&self) -> Name;
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
    /// Of the column.
    pub(crate) name: &'a str,
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
    fn cell(&self) -> String {
        format!("row {}, column {}", self.row, self.name)
    }

    fn element(&self) -> String {
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

    /// Takes an element of which these are the bits, the lowest ones.
    #[inline]
    pub(crate) fn push_bits(&mut self, type_: FloatType, bits: u64) -> Result<()> {
        let too_long = |_| Error::internal("a float of more bits than its type has");
        match type_ {
            FloatType::Half => {
                let half = f16::from_bits(u16::try_from(bits).map_err(too_long)?);
                self.push_f32(half.to_f32())
            }
            FloatType::Single => {
                self.push_f32(f32::from_bits(u32::try_from(bits).map_err(too_long)?))
            }
            FloatType::Double => self.push_f64(f64::from_bits(bits)),
        }
    }

    fn push_f32(&mut self, value: f32) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() {
            return Err(self.not_finite(value.into()));
        }
        self.push(value)
    }

    fn push_f64(&mut self, value: f64) -> Result<()> {
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

    fn push(&mut self, value: f32) -> Result<()> {
        if self.dimension == 0 && self.elements == MAX_DIMENSION {
            return Err(self.input.invalid(
                self.cell(),
                format!("more than {MAX_DIMENSION} elements"),
                format!("at most {MAX_DIMENSION}"),
            ));
        }
        // A vector that is too long is counted to its end, but not kept.
        if self.dimension == 0 || self.elements < self.dimension {
            if self.out.len() == self.out.capacity() {
                memory::reserve(self.out, 1, "hold the vectors of a batch")?;
            }
            self.out.push(value);
        }
        self.elements += 1;
        Ok(())
    }

    fn not_finite(&self, value: f64) -> Error {
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

/// The type of a vector's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatType {
    Half,
    Single,
    Double,
}

impl FloatType {
    /// Size in bytes.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
            Self::Double => 8,
        }
    }
}

/// What a column of vectors must be.
pub(crate) const VECTOR_TYPE: &str = "a list of float16, float32 or float64";

/// A column's name.
pub(crate) type Name = Arc<str>;

/// The names of the columns that may be needed, each once.
pub(crate) struct Wanted {
    vector: Name,
    /// Of which the first that there is will be taken.
    labels: Vec<Name>,
    /// Whether there must be one.
    label_required: bool,
    deleted: Option<Name>,
}

impl Wanted {
    fn new(options: &ReadOptions) -> Result<Self> {
        let vector: Name = options.vector_column.as_deref().unwrap_or(VECTOR).into();
        let labels: Vec<Name> = match &options.label_column {
            Some(label) if **label == *vector => {
                return Err(Error::argument(
                    "label_column",
                    label,
                    "another column than that of the vectors",
                ));
            }
            Some(label) => vec![label.as_str().into()],
            None => [LABEL, INTERNAL_ID].map(Name::from).into(),
        };
        let is_taken = |name: &str| {
            let label = options.label_column.as_deref();
            *vector == *name || label == Some(name)
        };
        Ok(Self {
            labels: labels.into_iter().filter(|l| *l != vector).collect(),
            label_required: options.label_column.is_some(),
            deleted: (!options.include_deleted && !is_taken(DELETED)).then(|| DELETED.into()),
            vector,
        })
    }

    /// All of them, in the order of [`choose`](Self::choose)'s argument.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.vector)
            .chain(&self.labels)
            .chain(&self.deleted)
    }

    /// Chooses from the columns of a file, whose columns are called `all`.
    pub(crate) fn choose<T>(
        &self,
        input: &Input,
        found: Vec<Found<T>>,
        all: &ColumnNames,
    ) -> Result<Chosen<T>> {
        let mut found = found.into_iter();
        let mut next = |name: &Name| match found.next() {
            Some(Found { seen, .. }) if seen > 1 => Err(input.invalid(
                format!("column {name}"),
                format!("{seen} columns of that name"),
                "one",
            )),
            found => Ok(found
                .and_then(|found| found.column)
                .map(|column| (name.clone(), column))),
        };
        let missing = |name: &Name, expected| {
            input.invalid(
                format!("column {name}"),
                "no such column",
                format!("{expected}; {all}"),
            )
        };
        let vector = next(&self.vector)?.ok_or_else(|| missing(&self.vector, VECTOR_TYPE))?;
        let mut label = None;
        for name in &self.labels {
            // A column that is not taken may be there twice.
            let candidate = next(name);
            if label.is_none() {
                label = candidate?;
            }
        }
        if let (None, true, Some(name)) = (&label, self.label_required, self.labels.first()) {
            return Err(missing(name, INTEGER_TYPE));
        }
        Ok(Chosen {
            vector,
            label,
            deleted: match &self.deleted {
                Some(name) => next(name)?,
                None => None,
            },
        })
    }

    /// The name of the labels in errors, where no column was chosen.
    pub(crate) fn label(&self) -> Name {
        self.labels.first().cloned().unwrap_or_else(|| LABEL.into())
    }
}

/// What a column of labels must be.
pub(crate) const INTEGER_TYPE: &str = "an integer of at most 64 bits";

/// A column that may be there.
pub(crate) struct Found<T> {
    /// How many columns have its name.
    pub(crate) seen: usize,
    /// The last of them.
    pub(crate) column: Option<T>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self {
            seen: 0,
            column: None,
        }
    }
}

/// The columns that will be read, with their names.
pub(crate) struct Chosen<T> {
    pub(crate) vector: (Name, T),
    pub(crate) label: Option<(Name, T)>,
    pub(crate) deleted: Option<(Name, T)>,
}

/// The names of a file's columns, for errors: of very many or very long ones, the beginning.
#[derive(Debug, Default)]
pub(crate) struct ColumnNames {
    first: Vec<String>,
    count: usize,
}

/// Columns that are named in an error, and characters of each.
const NAMES_SHOWN: usize = 20;
const CHARACTERS_SHOWN: usize = 60;

impl ColumnNames {
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMES_SHOWN {
            // Longer than what is shown, however many bytes a character has.
            let start = name.get(..4 * CHARACTERS_SHOWN + 4).unwrap_or(name);
            let name = String::from_utf8_lossy(start);
            let mut shown: String = name.chars().take(CHARACTERS_SHOWN).collect();
            if shown.len() < name.len() {
                shown.push('…');
            }
            self.first.push(shown.escape_debug().to_string());
        }
    }
}

impl fmt::Display for ColumnNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first.is_empty() {
            return f.write_str("the file has no columns");
        }
        write!(f, "the file has {}", self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more columns"),
        }
    }
}

/// What a file is, apart from its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Parquet,
    ArrowFile,
    /// Messages without a footer, as Hugging Face datasets are.
    ArrowStream,
}

/// Tells a file of another format by its first bytes.
fn check_format(input: &Input, format: ColumnarFormat) -> Result<Container> {
    let expected = match format {
        ColumnarFormat::Parquet => "a Parquet file",
        ColumnarFormat::ArrowIpc => "an Arrow IPC file or stream",
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
                // What comes before each message of a stream.
                [0xff, 0xff, 0xff, 0xff, ..] => {
                    ("an Arrow IPC stream", Some(Container::ArrowStream))
                }
                _ => ("other bytes", None),
            };
            match (container, format) {
                (Some(Container::Parquet), ColumnarFormat::Parquet) => Ok(Container::Parquet),
                (
                    Some(arrow @ (Container::ArrowFile | Container::ArrowStream)),
                    ColumnarFormat::ArrowIpc,
                ) => Ok(arrow),
                _ => Err(DecodeError::new(found, expected)),
            }
        },
    )
}
