//! `data_level0.bin`: one record for each element.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Unaligned};

use super::header::IndexHeader;
use super::layout::LinksHeader;
use crate::error::{Error, Result};
use crate::io::file::{window_size, Cursor, Source};
use crate::progress::Monitor;

/// Bytes of records that are handed out at a time; with the rounding to page boundaries they fill
/// a window of the source.
const BLOCK_BYTES: usize = (4 << 20) - (64 << 10);

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
        let whole = Self::whole_records(source, header);
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

    /// Number of whole records that the file has room for, of whatever content.
    pub(crate) fn whole_records(source: &Source, header: &IndexHeader) -> u64 {
        source.len() / header.size_data_per_element.max(1)
    }

    /// Over the first `count` records of the file that `cursor` reads, of which only the layout of
    /// a record is taken from `header`.
    pub(crate) fn over(cursor: Cursor<'s>, header: &IndexHeader, count: u64) -> Result<Self> {
        let too_large = |_| {
            Error::corrupt(
                cursor.source().path(),
                "size_data_per_element",
                header.size_data_per_element,
                "a record that fits in memory",
            )
        };
        let neighbours = header.offset_data.saturating_sub(LinksHeader::SIZE) / 4;
        let layout = RecordLayout {
            size: usize::try_from(header.size_data_per_element).map_err(too_large)?,
            max_m0: usize::try_from(neighbours).map_err(too_large)?,
            dimension: header.dimension(),
            wide_label: header.word_size_bytes == 8,
        };
        Ok(Self {
            stride: (window_size(BLOCK_BYTES) as u64 / header.size_data_per_element.max(1)).max(1),
            cursor,
            layout,
            count,
        })
    }

    /// Number of records.
    pub(crate) fn count(&self) -> u64 {
        self.count
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

    /// Most records in a block.
    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// Calls `visit` with each record and its internal id, and reports how far it has come.
    pub(crate) fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(u64, Level0Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let count = self.count;
        let mut done = 0;
        while done < count {
            for record in self.block(done, count)?.iter() {
                let (id, record) = record?;
                visit(id, record)?;
                done = id + 1;
            }
            monitor.advance(done, count)?;
        }
        Ok(())
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::file::IoMode;

    const COUNT: u32 = 700;

    /// 700 records of 412 bytes (m 8, dimension 84): more than four windows of the least size.
    fn header() -> IndexHeader {
        IndexHeader {
            word_size_bytes: 8,
            persisted_version: 1,
            offset_level0: 0,
            max_elements: 1000,
            cur_element_count: COUNT.into(),
            size_data_per_element: 412,
            label_offset: 404,
            offset_data: 68,
            max_level: 0,
            enterpoint_node: 0,
            max_m: 8,
            max_m0: 16,
            m: 8,
            mult: 1.0 / 8_f64.ln(),
            ef_construction: 100,
        }
    }

    /// The values of record `id` are `id` with the position in the high bits.
    fn record(id: u32) -> Vec<u8> {
        let mut bytes = vec![3, 0, u8::from(id.is_multiple_of(5)), 0];
        for at in 0..100 {
            bytes.extend((id | at << 16).to_le_bytes());
        }
        bytes.extend((u64::from(id) << 32).to_le_bytes());
        bytes
    }

    fn assert_is(id: u64, found: Level0Record<'_>) {
        let id = u32::try_from(id).unwrap();
        assert_eq!(found.links.is_deleted(), id.is_multiple_of(5));
        assert_eq!(found.links.count.get(), 3);
        assert_eq!(found.neighbours.len(), 16);
        assert_eq!(found.neighbours[15].get(), id | 15 << 16);
        assert_eq!(found.vector.len(), 84);
        assert_eq!(found.vector[0].to_bits(), id | 16 << 16);
        assert_eq!(found.vector[83].to_bits(), id | 99 << 16);
        assert_eq!(found.label, u64::from(id) << 32);
    }

    fn for_each_window(check: impl Fn(Level0<'_>)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data_level0.bin");
        let bytes: Vec<u8> = (0..COUNT).flat_map(record).collect();
        std::fs::write(&path, bytes).unwrap();
        for mode in [IoMode::Mmap, IoMode::Read] {
            let source = Source::open(&path, mode).unwrap();
            for window in [0, 1, 411, 413, 100_000, usize::MAX] {
                let cursor = source.cursor_with_window(window);
                let mut level0 = Level0::over(cursor, &header(), COUNT.into()).unwrap();
                // Blocks that cross the boundaries of the windows, which are 64 KiB apart.
                level0.stride = 37;
                check(level0);
            }
        }
    }

    #[test]
    fn blocks_hold_each_record_once_whatever_the_window() {
        for_each_window(|mut level0| {
            let mut next = 0;
            while next < level0.count() {
                let block = level0.block(next, 100).unwrap();
                assert!((1..=37).contains(&block.iter().count()));
                for found in block.iter() {
                    let (id, record) = found.unwrap();
                    assert_eq!(id, next);
                    assert_is(id, record);
                    next += 1;
                }
            }
            assert_eq!(next, u64::from(COUNT));
            assert_eq!(level0.block(next, 1).unwrap().iter().count(), 0);
            assert!(level0.block(next + 1, 1).is_err());
            assert!(level0.block(u64::MAX, 1).is_err());
        });
    }

    #[test]
    fn chosen_records_are_visited_in_order_whatever_the_window() {
        for_each_window(|mut level0| {
            for step in [1, 2, 36, 37, 38, 159, 699, 700] {
                let ids = (0..u64::from(COUNT)).step_by(step);
                let mut visited = Vec::new();
                level0
                    .visit(ids.clone(), |id, record| {
                        assert_is(id, record);
                        visited.push(id);
                        Ok(())
                    })
                    .unwrap();
                assert!(ids.eq(visited));
            }
            let outside = level0.visit(std::iter::once(u64::from(COUNT)), |_, _| Ok(()));
            assert!(outside.is_err());
        });
    }
}
