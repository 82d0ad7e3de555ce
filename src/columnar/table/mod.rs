//! Reads whole tables from Parquet and Arrow IPC files: vectors, and any other columns as cells.
//!
//! A [`Table`] knows the columns of a file. [`Table::select`] chooses one column of vectors and any
//! number of others, and a [`TableReader`] reads them row by row. It shares its decoders with
//! [`ColumnarInput`](super::read::ColumnarInput):
//!
//! ```text
//! parquet::read    ColumnReader ─┬─▶ VectorRow: checks the vector of a row
//! arrow_ipc::read  Batch        ─┴─▶ CellSink: checks a cell of a row ─▶ TableRow
//! ```
//!
//! Memory holds one row; for Parquet also a page and a dictionary per column, for Arrow IPC a read
//! buffer per column and the dictionaries. Rows are numbered from 0, also in errors.

pub(crate) mod cell;
#[cfg(all(test, feature = "codecs"))]
mod tests;

use std::path::Path;

pub(crate) use cell::{Cell, ColumnKind};

use super::arrow_ipc::read::ArrowTable;
use super::bytes::{DecodeError, Decoded, Input};
use super::cells::VectorRow;
use super::parquet::read::ParquetTable;
use super::read::{check_format, Container};
use super::selection::{ColumnNames, Name, VECTOR_TYPE};
use super::ColumnarFormat;
use crate::base::memory;
use crate::error::{Error, Result};
use crate::io::file::{InputFile, IoMode};
use cell::{CellSink, CELL_TYPE};

/// Maximum number of columns to read. Each has its own buffers.
const MAX_SELECTED: usize = 4096;

/// Limit on the bytes of column names and key-value metadata, with [`COLUMN_BYTES`] more for each
/// column and pair. Arrow's pairs can share their bytes, so the size of the file is no limit.
const MAX_SCHEMA_BYTES: usize = 16 << 20;

/// Bytes that describe a column, besides its name.
const COLUMN_BYTES: usize = 256;

/// Key of the Arrow schema in a Parquet file. It can be large, and nothing here depends on it.
const ARROW_SCHEMA_KEY: &[u8] = b"ARROW:schema";

/// Options for reading a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableOptions {
    /// The required format; `None` to accept any.
    pub(crate) format: Option<ColumnarFormat>,
    pub(crate) io: IoMode,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
}

/// The columns and the key-value metadata of a file. Their size is limited.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    columns: Vec<TableColumn>,
    metadata: Vec<(String, String)>,
    bytes: usize,
}

impl Contents {
    fn charge(&mut self, bytes: usize) -> Decoded<()> {
        self.bytes = self
            .bytes
            .saturating_add(bytes)
            .saturating_add(COLUMN_BYTES);
        if self.bytes <= MAX_SCHEMA_BYTES {
            return Ok(());
        }
        Err(DecodeError::unsupported(
            format!(
                "column names and metadata of more than {MAX_SCHEMA_BYTES} bytes, counting \
                 {COLUMN_BYTES} for each column"
            ),
            "fewer columns, or less metadata",
        ))
    }

    pub(crate) fn push_column(&mut self, name: &[u8], kind: ColumnKind) -> Decoded<()> {
        self.charge(name.len())?;
        memory::reserve(&mut self.columns, 1, "hold the columns")?;
        self.columns.push(TableColumn {
            name: String::from_utf8_lossy(name).into_owned(),
            kind,
        });
        Ok(())
    }

    /// Adds a pair of the file's metadata. Pairs that are not UTF-8 are skipped.
    pub(crate) fn push_metadata(&mut self, key: &[u8], value: &[u8]) -> Decoded<()> {
        if key == ARROW_SCHEMA_KEY {
            return Ok(());
        }
        if let (Ok(key), Ok(value)) = (std::str::from_utf8(key), std::str::from_utf8(value)) {
            self.charge(key.len().saturating_add(value.len()))?;
            memory::reserve(&mut self.metadata, 1, "hold the metadata")?;
            self.metadata.push((key.into(), value.into()));
        }
        Ok(())
    }
}

/// The chosen columns of an open file. All advance together.
pub(crate) trait TableRows: Send {
    /// Advances to the next row. Each column must then be read once.
    fn next_row(&mut self) -> Result<()>;
    /// Decodes the components of the row's vector into `row`.
    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()>;
    /// Decodes the row's cell of the chosen column number `column`.
    fn cell(&mut self, column: usize, sink: &mut CellSink<'_>) -> Result<()>;
    /// Fails if a column holds more values than its rows need.
    fn finish(&mut self) -> Result<()>;
}

/// The chosen columns: names, and positions among all columns.
pub(crate) struct Selected {
    pub(crate) vector: Option<(Name, usize)>,
    pub(crate) cells: Vec<(Name, usize)>,
}

/// A file whose format has been recognised.
enum File {
    Parquet(ParquetTable),
    Arrow(ArrowTable),
}

/// An open Parquet or Arrow IPC file whose columns are not chosen yet.
pub(crate) struct Table {
    input: Input,
    contents: Contents,
    file: File,
}

impl Table {
    /// Opens `path` and reads its schema. Columns of any type are accepted.
    ///
    /// # Errors
    ///
    /// Like [`ColumnarInput::open`](super::read::ColumnarInput::open), except that no column is
    /// required.
    pub(crate) fn open(path: &Path, options: &TableOptions) -> Result<Self> {
        let input = Input::new(InputFile::open(path, options.io)?);
        let mut contents = Contents::default();
        let file = match check_format(&input, options.format)? {
            Container::Parquet => File::Parquet(ParquetTable::open(&input, &mut contents)?),
            Container::ArrowFile => File::Arrow(ArrowTable::open_file(&input, &mut contents)?),
            Container::ArrowStream => File::Arrow(ArrowTable::open_stream(&input, &mut contents)?),
        };
        Ok(Self {
            input,
            contents,
            file,
        })
    }

    /// Opens a file of any format by positioned reads: another process may be writing it.
    pub(crate) fn open_any(path: &Path) -> Result<Self> {
        let options = TableOptions {
            format: None,
            io: IoMode::Read,
        };
        Self::open(path, &options)
    }

    /// The columns, in the order of the file.
    pub(crate) fn columns(&self) -> &[TableColumn] {
        &self.contents.columns
    }

    /// Keys and values of the file's own metadata.
    pub(crate) fn metadata(&self) -> &[(String, String)] {
        &self.contents.metadata
    }

    /// Number of rows in the file.
    pub(crate) fn row_count(&self) -> u64 {
        match &self.file {
            File::Parquet(table) => table.row_count(),
            File::Arrow(table) => table.row_count(),
        }
    }

    /// Chooses columns by name: one of vectors, and others to read as cells, in this order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a column is missing,
    /// duplicated or of a type that cannot be read;
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for more than 4,096
    /// columns.
    pub(crate) fn select(self, vector: Option<&str>, cells: &[&str]) -> Result<TableReader> {
        if cells.len() > MAX_SELECTED {
            return Err(Error::argument(
                "columns",
                cells.len(),
                format!("at most {MAX_SELECTED} to read at a time"),
            ));
        }
        let rows = self.row_count();
        let vector = match vector {
            Some(name) => Some((name.into(), self.find(name, VECTOR_TYPE)?)),
            None => None,
        };
        let cells = cells
            .iter()
            .map(|&name| Ok((name.into(), self.find(name, CELL_TYPE)?)))
            .collect::<Result<Vec<(Name, usize)>>>()?;
        let selected = Selected { vector, cells };
        let columns: Box<dyn TableRows> = match self.file {
            File::Parquet(table) => Box::new(table.select(&self.input, &selected)?),
            File::Arrow(table) => Box::new(table.select(&self.input, &selected)?),
        };
        Ok(TableReader {
            input: self.input,
            columns,
            vector: selected.vector.map(|(name, _)| name),
            cells: selected.cells.into_iter().map(|(name, _)| name).collect(),
            rows,
            next_row: 0,
            dimension: 0,
            accept_non_finite: false,
            accept_any_dimension: false,
        })
    }

    /// The position of the only column called `name`.
    fn find(&self, name: &str, expected: &str) -> Result<usize> {
        let columns = self.columns().iter().enumerate();
        let mut named = columns.filter(|(_, column)| column.name == name);
        let field = || format!("column {name}");
        let Some((position, _)) = named.next() else {
            let mut all = ColumnNames::default();
            for column in self.columns() {
                all.push(column.name.as_bytes());
            }
            return Err(self.input.invalid(
                field(),
                "no such column",
                format!("{expected}; {all}"),
            ));
        };
        match named.count() {
            0 => Ok(position),
            more => Err(self.input.invalid(
                field(),
                format!("{} columns of that name", more.saturating_add(1)),
                "one",
            )),
        }
    }
}

/// A row of the chosen columns. Its memory is reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableRow {
    /// Number of the row in the file, from 0.
    pub(crate) number: u64,
    vector: Vec<f32>,
    has_vector: bool,
    /// The cells of the chosen columns, in the order of the selection.
    pub(crate) cells: Vec<Cell>,
}

impl TableRow {
    /// The components; `None` if the vector is null or no column of vectors was chosen.
    pub(crate) fn vector(&self) -> Option<&[f32]> {
        self.has_vector.then_some(&*self.vector)
    }
}

/// Reads the rows of the chosen columns.
pub(crate) struct TableReader {
    input: Input,
    columns: Box<dyn TableRows>,
    vector: Option<Name>,
    cells: Vec<Name>,
    rows: u64,
    next_row: u64,
    dimension: usize,
    accept_non_finite: bool,
    accept_any_dimension: bool,
}

impl TableReader {
    /// Accepts vectors with components that are NaN or infinite. A Chroma store can hold them, and
    /// so can its exports.
    #[must_use]
    pub(crate) fn accept_non_finite(mut self) -> Self {
        self.accept_non_finite = true;
        self
    }

    /// Accepts vectors of different dimensions.
    #[must_use]
    pub(crate) fn accept_any_dimension(mut self) -> Self {
        self.accept_any_dimension = true;
        self
    }

    /// The dimension of the last vector; 0 before the first that is not null.
    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Reads the next row. Returns false at the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the invalid row and
    /// column, or the malformed part of the file. After an error, this method must not be called
    /// again.
    pub(crate) fn next(&mut self, row: &mut TableRow) -> Result<bool> {
        if self.next_row >= self.rows {
            return Ok(false);
        }
        row.number = self.next_row;
        self.next_row += 1;
        self.columns.next_row()?;
        self.read_vector(row)?;
        row.cells.resize(self.cells.len(), Cell::Null);
        let mut used = 0;
        for (column, (name, cell)) in self.cells.iter().zip(&mut row.cells).enumerate() {
            self.columns.cell(
                column,
                &mut CellSink {
                    input: &self.input,
                    name,
                    row: row.number,
                    used: &mut used,
                    is_list: false,
                    out: cell,
                },
            )?;
        }
        if self.next_row == self.rows {
            self.columns.finish()?;
        }
        Ok(true)
    }

    fn read_vector(&mut self, row: &mut TableRow) -> Result<()> {
        row.vector.clear();
        row.has_vector = false;
        let Some(name) = &self.vector else {
            return Ok(());
        };
        let mut vector = VectorRow {
            input: &self.input,
            name,
            row: row.number,
            skip: false,
            may_be_null: true,
            accept_non_finite: self.accept_non_finite,
            is_null: false,
            dimension: match self.accept_any_dimension {
                true => 0,
                false => self.dimension,
            },
            elements: 0,
            out: &mut row.vector,
        };
        self.columns.vector(&mut vector)?;
        if !vector.is_null {
            self.dimension = vector.finish()?;
            row.has_vector = true;
        }
        Ok(())
    }

    /// Fails if the file has changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.input.source().check_unchanged()
    }
}
