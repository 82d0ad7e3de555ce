//! Arrow IPC files and streams, read record batch by record batch and row by row.
//!
//! ```text
//! stream: messages (schema, dictionaries, record batches):
//!     0xFFFFFFFF, i32 length, Message (FlatBuffers: lengths, null counts, places of buffers), body
//! 0xFFFFFFFF, 0
//!
//! file: "ARROW1", 2 bytes of padding
//!     stream
//!     footer (FlatBuffers: schema, place of every message), i32 length of the footer, "ARROW1"
//! ```
//!
//! A file's footer lists its record batches. A stream is scanned once, header by header, to find
//! them; its end marker is optional. Only dictionaries stay in memory: 16 bytes per value, and text.
//! Source: <https://arrow.apache.org/docs/format/Columnar.html>.

mod batch;
mod cells;
mod dictionary;
mod flatbuffer;
mod format;
mod messages;
mod parts;
mod schema;
mod stream;
mod table;
mod text;

use crate::columnar::bytes::{Decoded, Input};
use crate::columnar::cells::{Columns, FloatType, IntegerType, VectorRow};
use crate::columnar::selection::{Chosen, ColumnNames, Name, Wanted, EXPORT_KEY};
use crate::error::{Error, Result};
use batch::{IntegerBatch, VectorBatch};
use cells::Layout;
use dictionary::{Dictionary, Entry};
use messages::{compression, record_batch_header, record_batch_place, Messages, Needed, Schema};
use parts::{Opener, Parts, Size};
use schema::{Field, IntegerField, ListKind, Slot};
use stream::READ_AHEAD;
pub(crate) use table::ArrowTable;

pub(crate) struct IpcColumns {
    messages: Messages,
    chosen: ChosenColumns,
    /// Number of record batches started.
    begun: usize,
    batch: Batch,
}

/// The columns to read.
struct ChosenColumns {
    vector_name: Name,
    vector: (Slot, ListKind, FloatType),
    /// Name of the label column; `None` if the row numbers serve as labels.
    label_name: Option<Name>,
    is_export: bool,
    label: Option<Integers>,
    deleted: Option<Integers>,
}

struct Integers {
    name: Name,
    slot: Slot,
    /// `None` for booleans.
    stored: Option<IntegerType>,
    /// The dictionary, and the type of its values.
    dictionary: Option<(Dictionary, IntegerType)>,
}

/// The columns of the current record batch, each at its next row.
#[derive(Default)]
struct Batch {
    rows: u64,
    vector: Option<VectorBatch>,
    label: Option<IntegerBatch>,
    deleted: Option<IntegerBatch>,
}

impl ChosenColumns {
    /// Checks the schema and chooses the columns.
    fn from_schema(
        input: &Input,
        schema: &Schema<'_>,
        wanted: &Wanted,
    ) -> Decoded<Result<(Self, Needed)>> {
        let names: Vec<&str> = wanted.names().map(|name| &**name).collect();
        let mut all = ColumnNames::default();
        let found = schema::fields(schema, &names, &mut all)?;
        let is_export = schema::has_key(&schema.table, EXPORT_KEY);
        let columns = wanted
            .choose(input, found, &all, is_export)
            .and_then(|chosen| Self::new(input, chosen, is_export));
        Ok(columns.map(|columns| {
            let needed = Needed::Only(columns.dictionaries());
            (columns, needed)
        }))
    }

    fn new(input: &Input, chosen: Chosen<Field<'_>>, is_export: bool) -> Result<Self> {
        let mistyped = |name: &Name, error| input.error(format!("column {name}"), error);
        let integers = |column: Option<(Name, Field<'_>)>, boolean| {
            let Some((name, field)) = column else {
                return Ok(None);
            };
            match field.integer(boolean) {
                Ok(IntegerField { stored, dictionary }) => Ok(Some(Integers {
                    name,
                    slot: field.slot,
                    stored,
                    dictionary: dictionary
                        .map(|(id, type_)| (Dictionary::new(id, Layout::Number(type_)), type_)),
                })),
                Err(error) => Err(mistyped(&name, error)),
            }
        };
        let (vector_name, field) = chosen.vector;
        let (kind, float) = field
            .vector()
            .map_err(|error| mistyped(&vector_name, error))?;
        let label = integers(chosen.label, false)?;
        Ok(Self {
            is_export,
            vector_name,
            vector: (field.slot, kind, float),
            label_name: label.as_ref().map(|label| label.name.clone()),
            label,
            deleted: integers(chosen.deleted, true)?,
        })
    }

    /// Ids of the dictionaries of these columns.
    fn dictionaries(&self) -> Vec<i64> {
        let columns = [&self.label, &self.deleted].into_iter().flatten();
        columns
            .filter_map(|column| Some(column.dictionary.as_ref()?.0.id()))
            .collect()
    }
}

impl IpcColumns {
    pub(crate) fn open_file(input: &Input, wanted: &Wanted) -> Result<Self> {
        let read = |schema: &Schema<'_>| ChosenColumns::from_schema(input, schema, wanted);
        Messages::open_file(input, read).map(Self::new)
    }

    pub(crate) fn open_stream(input: &Input, wanted: &Wanted) -> Result<Self> {
        let read = |schema: &Schema<'_>| ChosenColumns::from_schema(input, schema, wanted);
        Messages::open_stream(input, read).map(Self::new)
    }

    fn new((chosen, messages): (ChosenColumns, Messages)) -> Self {
        Self {
            messages,
            chosen,
            begun: 0,
            batch: Batch::default(),
        }
    }

    fn next_batch(&mut self) -> Result<()> {
        let number = self.begun;
        let (block, rows) = self.messages.batch(number)?;
        self.begun += 1;
        self.batch = Batch::default();
        if rows == 0 {
            return Ok(());
        }
        let input = &self.messages.input;
        let chosen = &mut self.chosen;
        for column in [&mut chosen.label, &mut chosen.deleted]
            .into_iter()
            .flatten()
        {
            if let Some((dictionary, _)) = &mut column.dictionary {
                dictionary.update(input, self.messages.dictionaries(), number)?;
            }
        }
        let (vector_slot, kind, float) = chosen.vector;
        let place = record_batch_place(number);
        let (compression, vector, label, deleted) =
            record_batch_header(input, block, &place, |header| {
                let integers = |column: &Option<Integers>| {
                    column
                        .as_ref()
                        .map(|column| Parts::new(&header, &block, column.slot, Size::NUMBERS, rows))
                        .transpose()
                };
                Ok((
                    compression(&header)?,
                    Parts::new(&header, &block, vector_slot, kind.size(Size::NUMBERS), rows)?,
                    integers(&chosen.label)?,
                    integers(&chosen.deleted)?,
                ))
            })?;
        let open = |name: &Name, parts: Parts| Opener {
            input,
            compression,
            read_ahead: READ_AHEAD,
            place: format!("record batch {number}, column {name}"),
            parts,
        };
        let integers = |column: &Option<Integers>, parts: Option<Parts>| match (column, parts) {
            (Some(column), Some(parts)) => {
                IntegerBatch::new(&open(&column.name, parts), 0, 0, column.stored).map(Some)
            }
            _ => Ok(None),
        };
        self.batch = Batch {
            rows,
            vector: Some(VectorBatch::new(
                &open(&chosen.vector_name, vector),
                kind,
                float,
            )?),
            label: integers(&chosen.label, label)?,
            deleted: integers(&chosen.deleted, deleted)?,
        };
        Ok(())
    }
}

/// The next value of a column, or null, if there is a column.
fn next_integer(
    batch: &mut Option<IntegerBatch>,
    column: &Option<Integers>,
) -> Result<Option<Option<i128>>> {
    let Some(batch) = batch else {
        return Ok(None);
    };
    let stored = batch.next()?;
    let dictionary = column
        .as_ref()
        .and_then(|column| column.dictionary.as_ref());
    match (stored, dictionary) {
        (Some(index), Some((dictionary, type_))) => match dictionary.get(index) {
            Ok(Some(Entry::Number(bits))) => Ok(Some(Some(type_.value(bits)))),
            Ok(Some(Entry::Text(_))) => Err(Error::internal("text among labels")),
            Ok(None) => Ok(Some(None)),
            Err(error) => Err(batch.error(error)),
        },
        (stored, _) => Ok(Some(stored)),
    }
}

impl Columns for IpcColumns {
    fn row_count(&self) -> u64 {
        self.messages.rows()
    }

    fn vector_name(&self) -> Name {
        self.chosen.vector_name.clone()
    }

    fn label_name(&self) -> Option<Name> {
        self.chosen.label_name.clone()
    }

    fn is_export(&self) -> bool {
        self.chosen.is_export
    }

    fn deleted(&mut self) -> Result<Option<i128>> {
        // `deleted` is called first for each row, so it starts record batches. Empty ones are
        // skipped.
        while self.batch.rows == 0 {
            self.next_batch()?;
        }
        self.batch.rows -= 1;
        match next_integer(&mut self.batch.deleted, &self.chosen.deleted)? {
            Some(deleted) => Ok(deleted),
            None => Ok(Some(0)),
        }
    }

    fn label(&mut self, row: u64) -> Result<Option<i128>> {
        match next_integer(&mut self.batch.label, &self.chosen.label)? {
            Some(label) => Ok(label),
            None => Ok(Some(row.into())),
        }
    }

    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        match &mut self.batch.vector {
            Some(column) => column.next(row),
            None => Err(Error::internal("a row outside of any record batch")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
