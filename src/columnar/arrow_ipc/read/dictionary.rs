//! The dictionaries of dictionary-encoded labels.
//!
//! Messages of their own hold a dictionary's values; record batches hold indices. In a stream, a
//! dictionary may be replaced or extended between record batches, so that which values an index
//! stands for depends on where in the file it is.

use super::flatbuffer::Table;
use super::format::{dictionary_batch, header_type, record_batch};
use super::{compression, length, Block, IntegerBatch, Opener, Parts, Slot};
use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Decoded, Input};
use crate::columnar::cells::IntegerType;
use crate::error::Result;

/// Most values of a dictionary. They are kept in memory.
const MAX_VALUES: usize = 1 << 22;

/// A message with values of a dictionary.
pub(super) struct DictionaryBlock {
    block: Block,
    id: i64,
    /// Whether the values follow those that were there before, rather than replace them.
    is_delta: bool,
    /// Record batches that come before it.
    before: usize,
}

impl DictionaryBlock {
    /// Reads what the message at `block` is about.
    pub(super) fn read(input: &Input, block: Block, before: usize) -> Result<Self> {
        header(input, &block, |header| {
            Ok(Self {
                block,
                id: header.i64(dictionary_batch::ID)?,
                is_delta: header.u8(dictionary_batch::IS_DELTA)? != 0,
                before,
            })
        })
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }
}

fn place(block: &Block) -> String {
    format!("dictionary at byte {}", block.offset)
}

fn header<T>(
    input: &Input,
    block: &Block,
    read: impl FnOnce(Table<'_>) -> Decoded<T>,
) -> Result<T> {
    let place = || place(block);
    block.header(input, place, |kind, header, _| match kind {
        header_type::DICTIONARY_BATCH => read(header),
        _ => Err(DecodeError::new(
            format!("a message of type {kind}"),
            "2, a dictionary",
        )),
    })
}

/// The values of a column's dictionary, as they are at one place in the file.
pub(super) struct Dictionary {
    id: i64,
    type_: IntegerType,
    /// The bits of each value.
    values: Vec<Option<u64>>,
    /// Messages that were looked at.
    seen: usize,
}

impl Dictionary {
    pub(super) fn new(id: i64, type_: IntegerType) -> Self {
        Self {
            id,
            type_,
            values: Vec::new(),
            seen: 0,
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// The value that `index` stands for.
    pub(super) fn get(&self, index: i128) -> Decoded<Option<i128>> {
        let value = usize::try_from(index)
            .ok()
            .and_then(|index| self.values.get(index));
        match value {
            Some(value) => Ok(value.map(|bits| self.type_.value(bits))),
            None => Err(DecodeError::new(
                format!("dictionary index {index}"),
                format!("0 or more, and less than {}", self.values.len()),
            )),
        }
    }

    /// Goes on to the values for record batch number `batch`.
    pub(super) fn update(
        &mut self,
        input: &Input,
        blocks: &[DictionaryBlock],
        batch: usize,
    ) -> Result<()> {
        while let Some(block) = blocks.get(self.seen) {
            if block.before > batch {
                break;
            }
            self.seen += 1;
            if block.id == self.id {
                self.read(input, block)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, input: &Input, dictionary: &DictionaryBlock) -> Result<()> {
        if !dictionary.is_delta {
            self.values.clear();
        }
        let block = &dictionary.block;
        let (rows, compression, parts) = header(input, block, |header| {
            let data = header
                .table(dictionary_batch::DATA)?
                .ok_or_else(|| DecodeError::new("a dictionary without values", "them"))?;
            let rows = length(data.i64(record_batch::LENGTH)?)?;
            let parts = Parts::new(&data, block, Slot::default(), 1, 2, rows)?;
            Ok((rows, compression(&data)?, parts))
        })?;
        let count = usize::try_from(rows)
            .ok()
            .filter(|rows| rows.saturating_add(self.values.len()) <= MAX_VALUES)
            .ok_or_else(|| {
                let found = format!("a dictionary of {rows} more values");
                let expected = format!("at most {MAX_VALUES} values");
                input.error(place(block), DecodeError::unsupported(found, expected))
            })?;
        let opener = Opener {
            input,
            compression,
            place: place(block),
            parts,
        };
        // Fails when the values are fewer, so that no memory is taken for more than there are.
        let mut values = IntegerBatch::new(&opener, Some(self.type_))?;
        for _ in 0..count {
            memory::reserve(&mut self.values, 1, "hold a dictionary")?;
            let bits = values.next_bits()?;
            self.values.push(bits);
        }
        Ok(())
    }
}
