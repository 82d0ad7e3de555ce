//! `data_level0.bin`: one record for each element.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Unaligned};

use super::header::IndexHeader;
use super::layout::LinksHeader;
use super::source::{Cursor, Source};
use crate::error::{Error, Result};

/// Bytes of records that are handed out at a time; with the rounding to page boundaries they fill
/// a window of the source.
const BLOCK_BYTES: u64 = (4 << 20) - (64 << 10);

/// One element, borrowed from the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level0Record<'a> {
    pub(crate) links: LinksHeader,
    /// `max_m0` places, of which the first `links.count` are in use.
    pub(crate) neighbours: &'a [U32],
    pub(crate) vector: &'a [f32],
    pub(crate) label: u64,
}

impl std::fmt::Debug for LinksHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinksHeader")
            .field("count", &self.count.get())
            .field("deleted", &self.is_deleted())
            .finish()
    }
}

/// How a record divides, from a valid header.
#[derive(Clone, Copy, Debug)]
struct RecordLayout {
    size: usize,
    max_m0: usize,
    dimension: usize,
    wide_label: bool,
}

impl RecordLayout {
    fn parse<'a>(&self, record: &'a [u8]) -> Option<Level0Record<'a>> {
        let (links, rest) = LinksHeader::read_from_prefix(record).ok()?;
        let (neighbours, rest) = <[U32]>::ref_from_prefix_with_elems(rest, self.max_m0).ok()?;
        let (vector, rest) = <[f32]>::ref_from_prefix_with_elems(rest, self.dimension).ok()?;
        let label = if self.wide_label {
            read_word::<U64>(rest)?
        } else {
            read_word::<U32>(rest)?
        };
        Some(Level0Record {
            links,
            neighbours,
            vector,
            label,
        })
    }
}

fn read_word<W: FromBytes + Unaligned + Into<u64>>(bytes: &[u8]) -> Option<u64> {
    W::read_from_bytes(bytes).ok().map(Into::into)
}

/// Reads records by internal id, through one window of the file.
#[derive(Debug)]
pub(crate) struct Level0<'s> {
    cursor: Cursor<'s>,
    layout: RecordLayout,
    count: u64,
    /// Records in a block.
    stride: u64,
}

impl<'s> Level0<'s> {
    /// Fails when the file does not hold the header's count of whole records.
    pub(crate) fn new(source: &'s Source, header: &IndexHeader) -> Result<Self> {
        let size = header.size_data_per_element;
        let whole = source.len() / size.max(1);
        if whole < header.cur_element_count {
            return Err(Error::corrupt(
                source.path(),
                "length",
                format!(
                    "{} bytes, which hold {whole} whole records of {size} bytes",
                    source.len()
                ),
                format!(
                    "{} records, as header.bin counts (cur_element_count)",
                    header.cur_element_count
                ),
            ));
        }
        Self::over(source.cursor(), header, header.cur_element_count)
    }

    /// Over the first `count` records of the file that `cursor` reads.
    pub(crate) fn over(cursor: Cursor<'s>, header: &IndexHeader, count: u64) -> Result<Self> {
        let too_large = |_| {
            Error::corrupt(
                cursor.source().path(),
                "size_data_per_element",
                header.size_data_per_element,
                "a record that fits in memory",
            )
        };
        let layout = RecordLayout {
            size: usize::try_from(header.size_data_per_element).map_err(too_large)?,
            max_m0: usize::try_from(header.max_m0).map_err(too_large)?,
            dimension: header.dimension(),
            wide_label: header.word_size_bytes == 8,
        };
        Ok(Self {
            stride: (BLOCK_BYTES / header.size_data_per_element.max(1)).max(1),
            cursor,
            layout,
            count,
        })
    }

    /// Number of records.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn source(&self) -> &'s Source {
        self.cursor.source()
    }

    /// Some of the records from `first` on: at least one, at most `most`, as many as fit a window.
    pub(crate) fn block(&mut self, first: u64, most: u64) -> Result<Block<'_>> {
        let outside = || Error::internal(format!("record {first} is outside the index"));
        let left = self.count.checked_sub(first).ok_or_else(outside)?;
        let records = left.min(most).min(self.stride);
        let size = self.layout.size;
        let offset = (size as u64).checked_mul(first).ok_or_else(outside)?;
        let len = usize::try_from(records)
            .ok()
            .and_then(|records| records.checked_mul(size))
            .ok_or_else(outside)?;
        Ok(Block {
            bytes: self.cursor.bytes(offset, len)?,
            first,
            layout: self.layout,
        })
    }

    /// Calls `visit` with each of the records `ids`, which ascend. Neighbouring ids share a window.
    pub(crate) fn visit<T, I>(&mut self, ids: I, mut visit: T) -> Result<()>
    where
        T: FnMut(u64, Level0Record<'_>) -> Result<()>,
        I: Iterator<Item = u64> + Clone,
    {
        let mut ids = ids.peekable();
        while let Some(&first) = ids.peek() {
            let block = self.block(first, u64::MAX)?;
            while let Some(&id) = ids.peek() {
                let Some(record) = block.get(id) else {
                    if id == first {
                        return Err(Error::internal("a record is not in the block it starts"));
                    }
                    break;
                };
                visit(id, record)?;
                ids.next();
            }
        }
        Ok(())
    }
}

/// Consecutive records, borrowed from a window.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    bytes: &'a [u8],
    first: u64,
    layout: RecordLayout,
}

impl<'a> Block<'a> {
    /// The record with this internal id, if it is in the block.
    pub(crate) fn get(&self, id: u64) -> Option<Level0Record<'a>> {
        let at = usize::try_from(id.checked_sub(self.first)?)
            .ok()?
            .checked_mul(self.layout.size)?;
        let record = self.bytes.get(at..at.checked_add(self.layout.size)?)?;
        self.layout.parse(record)
    }

    /// Each record with its internal id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<(u64, Level0Record<'a>)>> + '_ {
        self.bytes
            .chunks_exact(self.layout.size)
            .zip(self.first..)
            .map(|(bytes, id)| {
                let record = self.layout.parse(bytes);
                let record = record.ok_or_else(|| Error::internal("a record is not aligned"))?;
                Ok((id, record))
            })
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.layout.size.max(1)
    }
}
