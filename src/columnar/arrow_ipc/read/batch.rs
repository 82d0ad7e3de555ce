//! The columns of a record batch, each at its next row.

use super::parts::Opener;
use super::schema::ListKind;
use super::stream::{Bits, Stream};
use crate::columnar::bytes::{DecodeError, Input};
use crate::columnar::cells::{FloatType, IntegerType, VectorRow, CHUNK_ELEMENTS};
use crate::error::{Error, Result};

/// Bytes of components decoded at a time.
const CHUNK: usize = CHUNK_ELEMENTS * size_of::<f32>();

/// Numbers or booleans of a record batch.
pub(super) struct IntegerBatch {
    validity: Bits,
    values: IntegerValues,
}

enum IntegerValues {
    Booleans(Bits),
    Integers(Stream, IntegerType),
}

impl IntegerBatch {
    /// Opens the values of node `node`, whose first buffer is number `buffer`. Booleans have no
    /// type.
    pub(super) fn new(
        column: &Opener<'_>,
        node: usize,
        buffer: usize,
        integer: Option<IntegerType>,
    ) -> Result<Self> {
        let (rows, _) = column.node(node);
        let values = match integer {
            None => IntegerValues::Booleans(Bits::new(Some(column.bits(rows, buffer + 1)?))),
            Some(integer) => {
                let stream = column.buffer(buffer + 1)?;
                let len = rows.saturating_mul(u64::from(integer.bits / 8));
                stream.check(len, &format!("{rows} integers"))?;
                IntegerValues::Integers(stream, integer)
            }
        };
        Ok(Self {
            validity: column.validity(node, buffer)?,
            values,
        })
    }

    pub(super) fn error(&self, error: DecodeError) -> Error {
        match &self.values {
            IntegerValues::Booleans(_) => Error::internal("indices are no booleans"),
            IntegerValues::Integers(stream, _) => stream.error(error),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<i128>> {
        let bits = self.next_bits()?;
        Ok(match &self.values {
            IntegerValues::Booleans(_) => bits.map(i128::from),
            IntegerValues::Integers(_, integer) => bits.map(|bits| integer.value(bits)),
        })
    }

    /// The next value in the lowest bits; `None` for null.
    pub(super) fn next_bits(&mut self) -> Result<Option<u64>> {
        let bits = match &mut self.values {
            IntegerValues::Booleans(bits) => u64::from(bits.next()?),
            IntegerValues::Integers(stream, integer) => {
                let mut bytes = [0; 8];
                // The lowest `width` bytes of a little-endian u64; the rest stay 0.
                let width = integer.width();
                stream.take(bytes.get_mut(..width).unwrap_or_default())?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(self.validity.next()?.then_some(bits))
    }
}

/// The vectors of a record batch.
pub(super) struct VectorBatch {
    validity: Bits,
    lists: Lists,
    /// Validity of the components of all lists in sequence.
    present: Bits,
    elements: Stream,
    float: FloatType,
}

/// The lengths of a column's lists.
pub(super) struct Lists {
    input: Input,
    /// Names the elements in errors.
    place: String,
    ends: Ends,
    /// Total number of elements, and the number in the lists so far.
    len: u64,
    at: u64,
}

enum Ends {
    Fixed(u64),
    Offsets(Stream, usize),
}

impl Lists {
    /// Opens the offsets, if any, in buffer 1. Returns the number of elements before the first list
    /// also. `place` names the elements in errors.
    pub(super) fn new(column: &Opener<'_>, kind: ListKind, place: String) -> Result<(Self, u64)> {
        let (rows, _) = column.node(0);
        let (len, _) = column.node(1);
        let ends = match kind {
            ListKind::Fixed(size) => Ends::Fixed(size),
            ListKind::Offsets(width) => {
                let offsets = column.buffer(1)?;
                let bytes = rows.saturating_add(1).saturating_mul(width as u64);
                offsets.check(bytes, &format!("the offsets of {rows} lists"))?;
                Ends::Offsets(offsets, width)
            }
        };
        let mut lists = Self {
            input: column.input.clone(),
            place,
            ends,
            len,
            at: 0,
        };
        // The first offset is read here; each row then reads the offset of its end. It is not 0 for
        // a slice if the writer kept the whole child array.
        let before = match lists.ends {
            Ends::Fixed(_) => 0,
            Ends::Offsets(..) => lists.next()?,
        };
        Ok((lists, before))
    }

    /// The number of elements of the next list.
    pub(super) fn next(&mut self) -> Result<u64> {
        let at = self.at;
        let offset = match &mut self.ends {
            Ends::Fixed(size) => Ok(at.saturating_add(*size)),
            Ends::Offsets(stream, width) => {
                let offset = match width {
                    4 => i64::from(i32::from_le_bytes(stream.take_array()?)),
                    _ => i64::from_le_bytes(stream.take_array()?),
                };
                u64::try_from(offset)
                    .map_err(|_| DecodeError::new(format!("list offset {offset}"), "0 or more"))
            }
        };
        let end = offset.and_then(|end| match end < at || end > self.len {
            true => Err(DecodeError::new(
                format!("a list of elements {at} to {end}"),
                format!("an end not before its start, and at most {}", self.len),
            )),
            false => Ok(end),
        });
        self.at = end.map_err(|error| self.input.error(self.place.clone(), error))?;
        Ok(self.at - at)
    }
}

impl VectorBatch {
    pub(super) fn new(column: &Opener<'_>, kind: ListKind, float: FloatType) -> Result<Self> {
        let (len, _) = column.node(1);
        let next = 1 + kind.offset_buffers();
        let (lists, before) = Lists::new(column, kind, column.buffer_place(next + 1))?;
        let elements = column.buffer(next + 1)?;
        elements.check(
            len.saturating_mul(float.width() as u64),
            &format!("{len} elements"),
        )?;
        let mut batch = Self {
            validity: column.validity(0, 0)?,
            lists,
            present: column.validity(1, next)?,
            elements,
            float,
        };
        batch.take_elements(before, None)?;
        Ok(batch)
    }

    pub(super) fn next(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        let count = self.lists.next()?;
        if !self.validity.next()? {
            row.null()?;
        }
        self.take_elements(count, Some(row))
    }

    /// Decodes the next `count` components into `row`, or skips them.
    fn take_elements(&mut self, count: u64, mut row: Option<&mut VectorRow<'_>>) -> Result<()> {
        let float = self.float;
        let width = float.width();
        let mut chunk = [0; CHUNK];
        let mut left = count;
        while left > 0 {
            let count = left.min((CHUNK / width) as u64);
            left -= count;
            let bytes = usize::try_from(count).map_or(CHUNK, |count| count * width);
            let bytes = chunk.get_mut(..bytes).unwrap_or_default();
            self.elements.take(bytes)?;
            // Without nulls, a whole chunk is converted at once.
            if let (Some(row), true) = (&mut row, self.present.are_all_ones()) {
                let append = |out: &mut Vec<_>| {
                    float.append(bytes, out);
                    true
                };
                if row.push_chunk(bytes.len() / width, append)? {
                    continue;
                }
            }
            for element in bytes.chunks_exact(width) {
                let mut bits = [0; 8];
                for (bits, &byte) in bits.iter_mut().zip(element) {
                    *bits = byte;
                }
                match (&mut row, self.present.next()?) {
                    (Some(row), true) => row.push_bits(float, u64::from_le_bytes(bits))?,
                    (Some(row), false) => row.null_element()?,
                    (None, _) => {}
                }
            }
        }
        Ok(())
    }
}
