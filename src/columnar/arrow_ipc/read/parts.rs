//! The nodes and buffers of one column in a record batch.

use super::flatbuffer::Table;
use super::format::record_batch;
use super::messages::{length, Block};
use super::schema::Slot;
use super::stream::{Bits, Compression, Range, Stream};
use crate::columnar::bytes::{array, DecodeError, Decoded, Input};
use crate::error::{Error, Result};

/// The number of nodes and buffers of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) buffers: usize,
    /// True if each record batch counts more buffers, as for views.
    pub(super) is_variadic: bool,
}

impl Size {
    /// A column of numbers: validity and values.
    pub(super) const NUMBERS: Self = Self {
        nodes: 1,
        buffers: 2,
        is_variadic: false,
    };
}

/// A column's share of a record batch: nodes (length and null count) and buffer ranges.
pub(super) struct Parts {
    nodes: Vec<(u64, u64)>,
    buffers: Vec<Range>,
}

impl Parts {
    /// Finds the parts of the column at `slot`, which has `rows` rows.
    pub(super) fn new(
        header: &Table<'_>,
        block: &Block,
        slot: Slot,
        size: Size,
        rows: u64,
    ) -> Decoded<Self> {
        let pairs = |field, first: usize, count: usize| {
            let bytes = header.vector(field, record_batch::PAIR_SIZE)?;
            (first..first.saturating_add(count))
                .map(|index| {
                    let at = index.saturating_mul(record_batch::PAIR_SIZE);
                    let pair = [array(bytes, at)?, array(bytes, at.saturating_add(8))?];
                    let [first, second] = pair.map(i64::from_le_bytes);
                    Ok((length(first)?, length(second)?))
                })
                .collect::<Decoded<Vec<_>>>()
        };
        let mut first = slot.buffer;
        let counts = header.vector(record_batch::VARIADIC_BUFFER_COUNTS, size_of::<i64>())?;
        // View columns have a variable number of buffers, counted separately.
        let add_variadic = |buffers: usize, column: usize| {
            let count = length(i64::from_le_bytes(array(counts, column.saturating_mul(8))?))?;
            usize::try_from(count)
                .ok()
                .and_then(|count| buffers.checked_add(count))
                .ok_or_else(DecodeError::end)
        };
        for column in 0..slot.variadic {
            first = add_variadic(first, column)?;
        }
        let buffers = match size.is_variadic {
            true => add_variadic(size.buffers, slot.variadic)?,
            false => size.buffers,
        };
        let nodes = pairs(record_batch::NODES, slot.node, size.nodes)?;
        if nodes.first().is_none_or(|(len, _)| *len != rows) {
            return Err(DecodeError::new(
                "a column of another length than the record batch",
                format!("{rows} rows"),
            ));
        }
        // Buffer offsets are relative to the body, which follows the header.
        let body = block.offset.saturating_add(block.metadata);
        let buffers = pairs(record_batch::BUFFERS, first, buffers)?;
        let buffers = buffers
            .into_iter()
            .map(|(offset, len)| match offset.checked_add(len) {
                Some(end) if end <= block.body => Ok(Range {
                    offset: body.saturating_add(offset),
                    len,
                }),
                _ => Err(DecodeError::new(
                    format!("a buffer of {len} bytes at byte {offset}"),
                    format!("one within the body's {} bytes", block.body),
                )),
            });
        Ok(Self {
            nodes,
            buffers: buffers.collect::<Decoded<_>>()?,
        })
    }
}

/// Opens the buffers of one column in a record batch.
pub(super) struct Opener<'a> {
    pub(super) input: &'a Input,
    pub(super) compression: Compression,
    pub(super) place: String,
    /// Bytes to read ahead in each buffer.
    pub(super) read_ahead: u64,
    pub(super) parts: Parts,
}

impl Opener<'_> {
    pub(super) fn node(&self, index: usize) -> (u64, u64) {
        self.parts.nodes.get(index).copied().unwrap_or_default()
    }

    pub(super) fn buffer(&self, index: usize) -> Result<Stream> {
        match self.parts.buffers.get(index) {
            Some(&range) => Stream::new(
                self.input,
                range,
                self.compression,
                self.read_ahead,
                self.buffer_place(index),
            ),
            None => Err(Error::internal("a buffer that the column does not have")),
        }
    }

    /// Names a buffer in errors.
    pub(super) fn buffer_place(&self, index: usize) -> String {
        format!("{}, buffer {index}", self.place)
    }

    /// The ranges of the buffers from number `first`.
    pub(super) fn ranges(&self, first: usize) -> &[Range] {
        self.parts.buffers.get(first..).unwrap_or_default()
    }

    /// Opens the validity bitmap of node `node`, stored in buffer `buffer`.
    pub(super) fn validity(&self, node: usize, buffer: usize) -> Result<Bits> {
        // Without nulls, writers are free to omit the bitmap.
        let (len, nulls) = self.node(node);
        if nulls == 0 {
            return Ok(Bits::new(None));
        }
        self.bits(len, buffer).map(|bits| Bits::new(Some(bits)))
    }

    pub(super) fn bits(&self, len: u64, buffer: usize) -> Result<Stream> {
        let stream = self.buffer(buffer)?;
        stream.check(len.div_ceil(8), &format!("{len} bits"))?;
        Ok(stream)
    }
}
