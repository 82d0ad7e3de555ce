//! The dictionaries of dictionary-encoded columns.
//!
//! A dictionary's values come in separate messages; record batches hold indices. In a stream, a
//! dictionary can be replaced or extended between record batches. The value of an index therefore
//! depends on its position in the file.

use super::cells::{Layout, Scalars, Value};
use super::flatbuffer::Table;
use super::format::{dictionary_batch, header_type, record_batch};
use super::messages::{compression, length, Block};
use super::parts::{Opener, Parts};
use super::schema::Slot;
use super::stream::READ_AHEAD;
use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Decoded, Input};
use crate::columnar::codec::MAX_PAGE;
use crate::error::{Error, Result};

/// Maximum number of values in a dictionary. They are kept in memory, 16 bytes each, and text.
const MAX_VALUES: usize = 1 << 22;

/// Purpose of a dictionary's memory in out-of-memory errors.
const HOLD_DICTIONARY: &str = "hold a dictionary";

/// A dictionary message.
pub(super) struct DictionaryBlock {
    block: Block,
    id: i64,
    /// True if the values extend the earlier ones instead of replacing them.
    is_delta: bool,
    /// Number of record batches in front of it.
    before: usize,
}

impl DictionaryBlock {
    /// Reads the id and the delta flag of the message at `block`.
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

/// The values of a column's dictionary as of one position in the file.
pub(super) struct Dictionary {
    id: i64,
    layout: Layout,
    /// `None` is null.
    values: Vec<Option<Kept>>,
    /// The texts one after another.
    text: Vec<u8>,
    /// Number of dictionary messages processed.
    seen: usize,
}

/// A value of a dictionary.
#[derive(Clone, Copy)]
enum Kept {
    Number(u64),
    /// Position and length in the text.
    Text(u32, u32),
}

/// A value of a dictionary, looked up.
pub(super) enum Entry<'a> {
    /// The value in the lowest bits.
    Number(u64),
    Text(&'a [u8]),
}

impl Dictionary {
    pub(super) fn new(id: i64, layout: Layout) -> Self {
        Self {
            id,
            layout,
            values: Vec::new(),
            text: Vec::new(),
            seen: 0,
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Looks up the value of `index`.
    pub(super) fn get(&self, index: i128) -> Decoded<Option<Entry<'_>>> {
        let value = usize::try_from(index)
            .ok()
            .and_then(|index| self.values.get(index));
        match value {
            Some(Some(Kept::Number(bits))) => Ok(Some(Entry::Number(*bits))),
            Some(Some(Kept::Text(start, len))) => {
                let [start, len] = [*start, *len].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                let text = self.text.get(start..).and_then(|text| text.get(..len));
                let text = text.ok_or_else(|| Error::internal("a text outside its dictionary"))?;
                Ok(Some(Entry::Text(text)))
            }
            Some(None) => Ok(None),
            None => Err(DecodeError::new(
                format!("dictionary index {index}"),
                format!("0 or more, and less than {}", self.values.len()),
            )),
        }
    }

    /// Applies all dictionary messages in front of record batch number `batch`.
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
            self.text.clear();
        }
        let block = &dictionary.block;
        let (rows, compression, parts) = header(input, block, |header| {
            let data = header
                .table(dictionary_batch::DATA)?
                .ok_or_else(|| DecodeError::new("a dictionary without values", "them"))?;
            let rows = length(data.i64(record_batch::LENGTH)?)?;
            // A dictionary is stored as a record batch of one column.
            let parts = Parts::new(&data, block, Slot::default(), self.layout.size(), rows)?;
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
            read_ahead: READ_AHEAD,
            parts,
        };
        // Fails if there are fewer values than announced, so memory is bounded by the file's
        // content.
        let mut values = Scalars::new(&opener, 0, 0, self.layout)?;
        for _ in 0..count {
            memory::reserve(&mut self.values, 1, HOLD_DICTIONARY)?;
            let value = match values.next()? {
                Value::Null => None,
                Value::Number(bits) => Some(Kept::Number(bits)),
                Value::Text(text) => {
                    let start = self.text.len();
                    let total = text.len().saturating_add(start as u64);
                    let place = (u32::try_from(start), u32::try_from(text.len()));
                    let (Ok(start), Ok(len), true) = (place.0, place.1, total <= MAX_PAGE as u64)
                    else {
                        let found = format!("a dictionary of {total} bytes of text");
                        let expected = format!("at most {MAX_PAGE}");
                        let error = DecodeError::unsupported(found, expected);
                        return Err(input.error(opener.place, error));
                    };
                    values.read_text(text, &mut self.text)?;
                    Some(Kept::Text(start, len))
                }
            };
            self.values.push(value);
        }
        Ok(())
    }
}
