//! Cells of a record batch: scalars, and lists of them.

use super::batch::{IntegerBatch, Lists};
use super::dictionary::{Dictionary, Entry};
use super::parts::{Opener, Size};
use super::schema::{CellField, ScalarField};
use super::stream::Bits;
use super::text::{Text, Texts};
use crate::base::memory;
use crate::columnar::bytes::Input;
use crate::columnar::cells::IntegerType;
use crate::columnar::table::cell::{CellSink, HOLD_CELLS};
use crate::error::{Error, Result};

/// The layout of scalar values in buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// No buffers: all values are null.
    Nothing,
    Bits,
    Number(IntegerType),
    /// Offsets of this many bytes each, then the bytes of all texts.
    Texts(usize),
    /// Texts of this many bytes each.
    FixedTexts(u32),
    Views,
}

impl Layout {
    pub(super) fn size(self) -> Size {
        let numbers = Size::NUMBERS;
        match self {
            Self::Nothing => Size {
                buffers: 0,
                ..numbers
            },
            Self::Bits | Self::Number(_) | Self::FixedTexts(_) => numbers,
            Self::Texts(_) => Size {
                buffers: 3,
                ..numbers
            },
            Self::Views => Size {
                is_variadic: true,
                ..numbers
            },
        }
    }
}

/// Scalar values, of a column or of the elements of its lists.
pub(super) enum Scalars {
    /// Number of values left.
    Nulls(u64),
    Numbers(IntegerBatch),
    Texts(Bits, Texts),
}

/// A scalar value.
pub(super) enum Value {
    Null,
    /// The value in the lowest bits.
    Number(u64),
    /// A text, which must be read next.
    Text(Text),
}

impl Scalars {
    /// Opens the values of node `node`, whose first buffer is number `buffer`.
    pub(super) fn new(
        column: &Opener<'_>,
        node: usize,
        buffer: usize,
        layout: Layout,
    ) -> Result<Self> {
        let (rows, _) = column.node(node);
        let texts = |texts: Result<Texts>| {
            let validity = column.validity(node, buffer)?;
            Ok(Self::Texts(validity, texts?))
        };
        match layout {
            Layout::Nothing => Ok(Self::Nulls(rows)),
            Layout::Bits => IntegerBatch::new(column, node, buffer, None).map(Self::Numbers),
            Layout::Number(integer) => {
                IntegerBatch::new(column, node, buffer, Some(integer)).map(Self::Numbers)
            }
            Layout::Texts(width) => texts(Texts::offsets(column, buffer + 1, rows, width)),
            Layout::FixedTexts(width) => texts(Texts::fixed(column, buffer + 1, rows, width)),
            Layout::Views => texts(Texts::views(column, buffer + 1, rows)),
        }
    }

    /// Takes the next value. A text must be read with [`read_text`](Self::read_text) at once.
    pub(super) fn next(&mut self) -> Result<Value> {
        match self {
            Self::Nulls(left) => {
                let rest = left.checked_sub(1);
                *left = rest.ok_or_else(|| Error::internal("a null past the last one"))?;
                Ok(Value::Null)
            }
            Self::Numbers(numbers) => Ok(numbers.next_bits()?.map_or(Value::Null, Value::Number)),
            Self::Texts(validity, texts) => {
                let text = texts.next()?;
                // The view of a null is unspecified.
                if validity.next()? {
                    texts.check(text)?;
                    return Ok(Value::Text(text));
                }
                texts.skip(text)?;
                Ok(Value::Null)
            }
        }
    }

    /// Appends the text that [`next`](Self::next) returned.
    pub(super) fn read_text(&mut self, text: Text, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Texts(_, texts) => texts.read(text, out),
            _ => Err(Error::internal("a text among numbers")),
        }
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        if let Self::Nulls(left) = self {
            *left = left.saturating_sub(count);
            return Ok(());
        }
        for _ in 0..count {
            if let Value::Text(text) = self.next()? {
                if let Self::Texts(_, texts) = self {
                    texts.skip(text)?;
                }
            }
        }
        Ok(())
    }
}

/// The cells of a column in a record batch.
pub(super) struct CellBatch {
    input: Input,
    /// Names the column in errors.
    place: String,
    field: ScalarField,
    /// Validity and lengths of the lists; `None` if the cells are scalars.
    lists: Option<(Bits, Lists)>,
    values: Scalars,
}

/// The parts of a column of cells in a record batch.
pub(super) fn size(field: &CellField) -> Size {
    let scalars = match field.scalar.dictionary {
        // Validity and indices.
        Some(_) => Size::NUMBERS,
        None => field.scalar.layout.size(),
    };
    match field.list {
        Some(list) => list.size(scalars),
        None => scalars,
    }
}

impl CellBatch {
    pub(super) fn new(column: &Opener<'_>, field: &CellField) -> Result<Self> {
        let scalar = field.scalar;
        let layout = match scalar.dictionary {
            Some((_, index)) => Layout::Number(index),
            None => scalar.layout,
        };
        let (lists, values) = match field.list {
            None => (None, Scalars::new(column, 0, 0, layout)?),
            Some(kind) => {
                let (lists, before) = Lists::new(column, kind, column.place.clone())?;
                let mut values = Scalars::new(column, 1, 1 + kind.offset_buffers(), layout)?;
                values.skip(before)?;
                (Some((column.validity(0, 0)?, lists)), values)
            }
        };
        Ok(Self {
            input: column.input.clone(),
            place: column.place.clone(),
            field: scalar,
            lists,
            values,
        })
    }

    /// Decodes the next row's cell. `dictionary` belongs to the column.
    pub(super) fn next(
        &mut self,
        dictionary: Option<&Dictionary>,
        sink: &mut CellSink<'_>,
    ) -> Result<()> {
        let Some((validity, lists)) = &mut self.lists else {
            return self.value(dictionary, sink);
        };
        let count = lists.next()?;
        if !validity.next()? {
            sink.null()?;
            return self.values.skip(count);
        }
        sink.begin_list();
        (0..count).try_for_each(|_| self.value(dictionary, sink))
    }

    fn value(&mut self, dictionary: Option<&Dictionary>, sink: &mut CellSink<'_>) -> Result<()> {
        let type_ = self.field.type_;
        let bits = match self.values.next()? {
            Value::Null => return sink.null(),
            Value::Text(text) => {
                let values = &mut self.values;
                return sink.text(type_, text.len(), |out| values.read_text(text, out));
            }
            Value::Number(bits) => bits,
        };
        let (Some((_, index)), Some(dictionary)) = (self.field.dictionary, dictionary) else {
            return sink.number(type_, bits);
        };
        let entry = dictionary.get(index.value(bits));
        match entry.map_err(|error| self.input.error(self.place.clone(), error))? {
            None => sink.null(),
            Some(Entry::Number(bits)) => sink.number(type_, bits),
            Some(Entry::Text(text)) => sink.text(type_, text.len() as u64, |out| {
                memory::reserve(out, text.len(), HOLD_CELLS)?;
                out.extend_from_slice(text);
                Ok(())
            }),
        }
    }
}
