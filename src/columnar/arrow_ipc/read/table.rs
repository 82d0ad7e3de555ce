//! Any columns of a file or a stream, chosen by name.

use super::batch::VectorBatch;
use super::cells::{size, CellBatch};
use super::dictionary::Dictionary;
use super::messages::{
    compression, record_batch_header, record_batch_place, Messages, Needed, Schema,
};
use super::parts::{Opener, Parts, Size};
use super::schema::{for_each_field, for_each_pair, CellField, ListKind, Slot};
use super::stream::READ_AHEAD;
use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Decoded, Input};
use crate::columnar::cells::{FloatType, VectorRow};
use crate::columnar::selection::Name;
use crate::columnar::table::cell::{CellSink, ColumnKind};
use crate::columnar::table::{Contents, Selected, TableRows};
use crate::error::{Error, Result};

/// Bytes read ahead in all columns together, and the minimum for each buffer.
const TOTAL_READ_AHEAD: u64 = 4 << 20;
const MIN_READ_AHEAD: u64 = 4 << 10;

/// A column's place, and its types if it is read as cells and as vectors.
struct Column {
    slot: Slot,
    cells: Decoded<CellField>,
    vector: Decoded<(ListKind, FloatType)>,
}

/// The columns of a file or a stream, not yet chosen.
pub(crate) struct ArrowTable {
    /// In the order of [`Contents`].
    columns: Vec<Column>,
    messages: Messages,
}

impl ArrowTable {
    pub(crate) fn open_file(input: &Input, contents: &mut Contents) -> Result<Self> {
        Messages::open_file(input, |schema| Self::columns(schema, contents).map(Ok)).map(Self::new)
    }

    pub(crate) fn open_stream(input: &Input, contents: &mut Contents) -> Result<Self> {
        Messages::open_stream(input, |schema| Self::columns(schema, contents).map(Ok))
            .map(Self::new)
    }

    fn new((columns, messages): (Vec<Column>, Messages)) -> Self {
        Self { columns, messages }
    }

    /// Reads the schema, and adds columns and metadata to `contents`.
    fn columns(schema: &Schema<'_>, contents: &mut Contents) -> Decoded<(Vec<Column>, Needed)> {
        let mut columns = Vec::new();
        for_each_field(schema, |name, field| {
            let column = Column {
                slot: field.slot,
                cells: field.cells(),
                vector: field.vector(),
            };
            contents.push_column(name, column.kind())?;
            memory::reserve(&mut columns, 1, "hold the columns")?;
            columns.push(column);
            Ok(())
        })?;
        for_each_pair(&schema.table, |key, value| {
            contents.push_metadata(key, value)
        })?;
        Ok((columns, Needed::All))
    }

    pub(crate) fn row_count(&self) -> u64 {
        self.messages.rows()
    }

    pub(crate) fn select(mut self, input: &Input, selected: &Selected) -> Result<ArrowRows> {
        let mut cells = Vec::new();
        for (name, position) in &selected.cells {
            let column = column(&mut self.columns, *position)?;
            let field = typed(input, name, &mut column.cells)?;
            let scalar = field.scalar;
            let dictionary = scalar.dictionary;
            cells.push(Cells {
                name: name.clone(),
                slot: column.slot,
                dictionary: dictionary.map(|(id, _)| Dictionary::new(id, scalar.layout)),
                field,
                batch: None,
            });
        }
        let vector = match &selected.vector {
            None => None,
            Some((name, position)) => {
                let column = column(&mut self.columns, *position)?;
                Some(Vectors {
                    name: name.clone(),
                    slot: column.slot,
                    type_: typed(input, name, &mut column.vector)?,
                    batch: None,
                })
            }
        };
        Ok(ArrowRows {
            messages: self.messages,
            vector,
            cells,
            begun: 0,
            left: 0,
        })
    }
}

fn column(columns: &mut [Column], position: usize) -> Result<&mut Column> {
    let column = columns.get_mut(position);
    column.ok_or_else(|| Error::internal(format!("no column {position}")))
}

/// The type of a column, or the error that says why it has another.
fn typed<T: Copy>(input: &Input, name: &Name, type_: &mut Decoded<T>) -> Result<T> {
    match type_ {
        Ok(type_) => Ok(*type_),
        Err(error) => {
            let error = std::mem::replace(error, DecodeError::end());
            Err(input.error(format!("column {name}"), error))
        }
    }
}

impl Column {
    fn kind(&self) -> ColumnKind {
        match &self.cells {
            Ok(CellField { list, scalar }) => {
                let kind = scalar.type_.kind();
                match list {
                    Some(_) => ColumnKind::List(kind),
                    None => ColumnKind::Scalar(kind),
                }
            }
            Err(DecodeError::Invalid { found, .. } | DecodeError::Unsupported { found, .. }) => {
                ColumnKind::Other(found.clone().into_owned())
            }
            Err(DecodeError::Failed(error)) => ColumnKind::Other(error.to_string()),
        }
    }
}

struct Vectors {
    name: Name,
    slot: Slot,
    type_: (ListKind, FloatType),
    batch: Option<VectorBatch>,
}

struct Cells {
    name: Name,
    slot: Slot,
    field: CellField,
    dictionary: Option<Dictionary>,
    batch: Option<CellBatch>,
}

/// The chosen columns. They share the record batch.
pub(crate) struct ArrowRows {
    messages: Messages,
    vector: Option<Vectors>,
    cells: Vec<Cells>,
    /// Number of record batches started.
    begun: usize,
    /// Number of rows left in the record batch.
    left: u64,
}

impl ArrowRows {
    fn next_batch(&mut self) -> Result<()> {
        let number = self.begun;
        let (block, rows) = self.messages.batch(number)?;
        self.begun += 1;
        self.left = rows;
        if rows == 0 {
            return Ok(());
        }
        let input = &self.messages.input;
        let columns = self.cells.len().saturating_add(1) as u64;
        let read_ahead = TOTAL_READ_AHEAD / columns;
        let read_ahead = read_ahead.clamp(MIN_READ_AHEAD, READ_AHEAD);
        let place = record_batch_place(number);
        let (compression, vector, cells) = record_batch_header(input, block, &place, |header| {
            let parts = |slot, size| Parts::new(&header, &block, slot, size, rows);
            let vector = self.vector.as_ref();
            let vector = vector.map(|it| parts(it.slot, it.type_.0.size(Size::NUMBERS)));
            let cells = self.cells.iter().map(|it| parts(it.slot, size(&it.field)));
            Ok((
                compression(&header)?,
                vector.transpose()?,
                cells.collect::<Decoded<Vec<_>>>()?,
            ))
        })?;
        let open = |name: &Name, parts| Opener {
            input,
            compression,
            place: format!("record batch {number}, column {name}"),
            read_ahead,
            parts,
        };
        if let (Some(vectors), Some(parts)) = (&mut self.vector, vector) {
            let (kind, float) = vectors.type_;
            // Close the streams of the last batch before more are opened.
            vectors.batch = None;
            vectors.batch = Some(VectorBatch::new(&open(&vectors.name, parts), kind, float)?);
        }
        for (column, parts) in self.cells.iter_mut().zip(cells) {
            column.batch = None;
            if let Some(dictionary) = &mut column.dictionary {
                dictionary.update(input, self.messages.dictionaries(), number)?;
            }
            column.batch = Some(CellBatch::new(&open(&column.name, parts), &column.field)?);
        }
        Ok(())
    }
}

impl TableRows for ArrowRows {
    fn next_row(&mut self) -> Result<()> {
        // Empty record batches are skipped.
        while self.left == 0 {
            self.next_batch()?;
        }
        self.left -= 1;
        Ok(())
    }

    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        let vectors = self.vector.as_mut().and_then(|it| it.batch.as_mut());
        let vectors = vectors.ok_or_else(|| Error::internal("no column of vectors"))?;
        vectors.next(row)
    }

    fn cell(&mut self, column: usize, sink: &mut CellSink<'_>) -> Result<()> {
        let missing = || Error::internal(format!("no column {column}"));
        let column = self.cells.get_mut(column).ok_or_else(missing)?;
        let batch = column.batch.as_mut().ok_or_else(missing)?;
        batch.next(column.dictionary.as_ref(), sink)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
