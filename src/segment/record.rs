//! `data_level0.bin`: records of fixed size, one for each vector.
//!
//! Records have no framing: record `i` starts at byte `i · size`. The links, the neighbours and the
//! vector are cast in place, so a record costs no copy:
//!
//! ```text
//! size_data_per_element
//! ├─ LinksHeader ─┼─ neighbours: u32 × max_m0 ─┼─ vector: f32 × dimension ─┼─ label: u64 or u32 ─┤
//! 0               4                            offset_data                 label_offset
//! ```

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Unaligned};

use super::decode_error::{DecodeError, Decoded};
use super::layout::LinksHeader;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::source::{exact, Source};

/// Bytes in a block, by default. Rounded to page boundaries, a block fills one
/// [window](crate::io::file::WINDOW) of a file.
pub(crate) const BLOCK_BYTES: usize = crate::io::file::WINDOW - (64 << 10);

/// Maximum size of a vector. Arrow's fixed-size lists and Parquet's pages count bytes in `i32`; 1 MiB
/// is left for the headers around the vector.
pub(super) const MAX_VECTOR_BYTES: u64 = i32::MAX as u64 - (1 << 20);

/// One record, borrowed from its source.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(crate) links: LinksHeader,
    /// `max_m0` slots. The first `links.count` are in use; hnswlib never clears the others.
    pub(crate) neighbours: &'a [U32],
    pub(crate) vector: &'a [f32],
    pub(crate) label: u64,
    /// True if the disk could not read all of its bytes: then none may be used.
    pub(crate) unreadable: bool,
}

impl<'a> Record<'a> {
    /// The stored vector: `dimension` components. With the cosine metric hnswlib has divided it by
    /// its norm.
    #[must_use]
    pub fn vector(&self) -> &'a [f32] {
        self.vector
    }

    /// hnswlib's label, to which [`Pickle`](super::Pickle) gives an id.
    #[must_use]
    pub fn label(&self) -> u64 {
        self.label
    }

    /// Returns true for a deleted record: it is part of the graph and of no result.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.links.is_deleted()
    }

    /// Internal ids of the neighbours on level 0. In a damaged file they may be any numbers, and
    /// fewer than the record counts.
    pub fn neighbours(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        let count = usize::from(self.links.count.get()).min(self.neighbours.len());
        let used = self.neighbours.get(..count).unwrap_or_default();
        used.iter().map(|id| id.get())
    }

    /// Returns false if the [`Source`] could not read all bytes of the record. Zeros or any other
    /// bytes stand in for them.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.unreadable
    }
}

impl std::fmt::Debug for LinksHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinksHeader")
            .field("count", &self.count.get())
            .field("deleted", &self.is_deleted())
            .finish()
    }
}

/// The parts of a record and their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    /// In bytes.
    pub(super) size: usize,
    /// Slots for neighbours.
    pub(super) max_m0: usize,
    pub(super) dimension: usize,
    /// True for labels of 64 bits, false for 32.
    pub(super) wide_label: bool,
}

impl RecordLayout {
    /// The layout that hnswlib uses for this dimension and m, with labels of 64 or 32 bits. `None` if
    /// one of the two is 0, or a vector has nearly 2 GiB or more.
    #[must_use]
    pub fn of_shape(dimension: usize, m: usize, wide_label: bool) -> Option<Self> {
        let max_m0 = m.checked_mul(2)?;
        let vector = dimension.checked_mul(4)?;
        if m == 0 || vector == 0 || vector as u64 > MAX_VECTOR_BYTES {
            return None;
        }
        let label = if wide_label { 8 } else { 4 };
        let size = max_m0.checked_mul(4)?.checked_add(vector)?;
        Some(Self {
            size: size.checked_add(size_of::<LinksHeader>() + label)?,
            max_m0,
            dimension,
            wide_label,
        })
    }

    /// Bytes of a record.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Slots for neighbours on level 0.
    #[must_use]
    pub fn max_m0(&self) -> usize {
        self.max_m0
    }

    /// Size in bytes of a label: 8 or 4.
    #[must_use]
    pub fn label_size(&self) -> u8 {
        if self.wide_label {
            8
        } else {
            4
        }
    }

    /// Number of whole records in `len` bytes.
    #[must_use]
    pub fn whole_records(&self, len: u64) -> u64 {
        len / (self.size as u64).max(1)
    }

    /// Checks that `len` bytes hold `count` records.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid) if they hold fewer.
    pub fn check_len(&self, len: u64, count: u64) -> Decoded<()> {
        let whole = self.whole_records(len);
        if whole >= count {
            return Ok(());
        }
        Err(DecodeError::field(
            "length",
            format!(
                "{len} bytes, which hold {whole} whole records of {} bytes",
                self.size
            ),
            format!("{count} records, as header.bin counts (cur_element_count)"),
        ))
    }

    fn parse<'a>(&self, record: &'a [u8]) -> Option<Record<'a>> {
        let (links, rest) = LinksHeader::read_from_prefix(record).ok()?;
        let (neighbours, rest) = <[U32]>::ref_from_prefix_with_elems(rest, self.max_m0).ok()?;
        let (vector, rest) = <[f32]>::ref_from_prefix_with_elems(rest, self.dimension).ok()?;
        let label = if self.wide_label {
            read_word::<U64>(rest)?
        } else {
            read_word::<U32>(rest)?
        };
        Some(Record {
            links,
            neighbours,
            vector,
            label,
            unreadable: false,
        })
    }
}

fn read_word<W: FromBytes + Unaligned + Into<u64>>(bytes: &[u8]) -> Option<u64> {
    W::read_from_bytes(bytes).ok().map(Into::into)
}

/// Reads records by internal id, from `data_level0.bin`.
#[derive(Debug)]
pub struct Records<S> {
    source: S,
    layout: RecordLayout,
    count: u64,
    /// Records in a block.
    stride: u64,
}

impl<S: Source> Records<S> {
    /// Reads the first `count` records of `source`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid) if the source holds fewer.
    pub fn new(source: S, layout: RecordLayout, count: u64) -> Decoded<Self> {
        layout.check_len(source.len(), count)?;
        Ok(Self::of_checked(source, layout, count))
    }

    /// Reads the first `count` records of `source`, whose length the caller has checked.
    pub(crate) fn of_checked(source: S, layout: RecordLayout, count: u64) -> Self {
        debug_assert!(layout.whole_records(source.len()) >= count);
        Self {
            source,
            layout,
            count,
            stride: 1,
        }
        .with_blocks_of(BLOCK_BYTES)
    }

    /// Limits a block to the records that fit in `bytes`, or one.
    pub(crate) fn with_blocks_of(self, bytes: usize) -> Self {
        Self {
            stride: self.layout.whole_records(bytes as u64).max(1),
            ..self
        }
    }

    /// Number of records.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The layout of each record.
    pub fn layout(&self) -> RecordLayout {
        self.layout
    }

    /// Reads a block of records that starts with record `first`: at most `most`. It is empty if
    /// `most` is 0 or `first` is the number of records, and never otherwise.
    ///
    /// # Errors
    ///
    /// Errors of the source; an internal error if `first` exceeds the number of records.
    pub fn block(&mut self, first: u64, most: u64) -> Result<Block<'_>> {
        let outside = || Error::internal(format!("record {first} is outside the segment"));
        let left = self.count.checked_sub(first).ok_or_else(outside)?;
        let records = left.min(most).min(self.stride);
        let size = self.layout.size;
        let offset = (size as u64).checked_mul(first).ok_or_else(outside)?;
        let len = usize::try_from(records)
            .ok()
            .and_then(|records| records.checked_mul(size))
            .ok_or_else(outside)?;
        exact(&mut self.source, offset, len)?;
        // The source learns this when it reads, so it is asked afterwards.
        let unreadable = self.source.unreadable(offset, len);
        Ok(Block {
            bytes: exact(&mut self.source, offset, len)?,
            first,
            layout: self.layout,
            unreadable,
        })
    }

    /// Maximum number of records in a block.
    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// Calls `visit` with each internal id and its record, in ascending order, and reports progress
    /// in records.
    ///
    /// # Errors
    ///
    /// Errors of the source and of `visit`; [`Cancelled`](crate::ErrorKind::Cancelled) if the
    /// monitor is cancelled.
    pub fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(u64, Record<'_>) -> Result<()>,
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

    /// Reads one record.
    ///
    /// # Errors
    ///
    /// Errors of the source; an internal error if there is no record `id`, or the source is not
    /// aligned.
    pub fn record(&mut self, id: u64) -> Result<Record<'_>> {
        if id >= self.count {
            return Err(Error::internal(format!(
                "record {id} is outside the segment"
            )));
        }
        self.block(id, 1)?
            .get(id)
            .ok_or_else(|| Error::internal("a record is not aligned"))
    }

    /// Calls `visit` with each of the records `ids`, which must ascend. Records of one block are read
    /// together.
    pub(crate) fn visit<T, I>(&mut self, ids: I, mut visit: T) -> Result<()>
    where
        T: FnMut(u64, Record<'_>) -> Result<()>,
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

/// Consecutive records, borrowed from their source.
#[derive(Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
    first: u64,
    layout: RecordLayout,
    /// Ranges of the source that could not be read.
    unreadable: Vec<Range<u64>>,
}

impl<'a> Block<'a> {
    /// The record with this internal id, if the block contains it and the source is aligned.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Record<'a>> {
        let at = usize::try_from(id.checked_sub(self.first)?)
            .ok()?
            .checked_mul(self.layout.size)?;
        let record = self.bytes.get(at..at.checked_add(self.layout.size)?)?;
        self.parse(record, id)
    }

    fn parse(&self, bytes: &'a [u8], id: u64) -> Option<Record<'a>> {
        let mut record = self.layout.parse(bytes)?;
        if !self.unreadable.is_empty() {
            let size = self.layout.size as u64;
            let start = size.saturating_mul(id);
            let own = start..start.saturating_add(size);
            record.unreadable = self
                .unreadable
                .iter()
                .any(|bad| bad.start < own.end && own.start < bad.end);
        }
        Some(record)
    }

    /// Each internal id with its record.
    ///
    /// An item is an error only if the source is not aligned: see [`Source::bytes`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(u64, Record<'a>)>> + '_ {
        self.bytes
            .chunks_exact(self.layout.size)
            .zip(self.first..)
            .map(|(bytes, id)| {
                let record = self.parse(bytes, id);
                let record = record.ok_or_else(|| Error::internal("a record is not aligned"))?;
                Ok((id, record))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::file::{FileWindow, InputFile, IoMode};
    use crate::segment::IndexHeader;

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

    fn assert_is(id: u64, found: Record<'_>) {
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

    fn for_each_window(check: impl Fn(Records<FileWindow<'_>>)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data_level0.bin");
        let bytes: Vec<u8> = (0..COUNT).flat_map(record).collect();
        std::fs::write(&path, bytes).unwrap();
        for mode in [IoMode::Mmap, IoMode::Read] {
            let file = InputFile::open(&path, mode).unwrap();
            let layout = header().record_layout().unwrap();
            for window in [0, 1, 411, 413, 100_000, usize::MAX] {
                let mut level0 = Records::of_checked(file.window(window), layout, COUNT.into());
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

    #[test]
    fn the_shape_of_an_index_gives_the_layout_of_its_header() {
        let header = header();
        let of_header = header.record_layout().unwrap();
        assert_eq!(RecordLayout::of_shape(84, 8, true), Some(of_header));
        let narrow = IndexHeader {
            word_size_bytes: 4,
            size_data_per_element: 408,
            ..header
        };
        let of_header = narrow.record_layout().unwrap();
        assert_eq!(RecordLayout::of_shape(84, 8, false), Some(of_header));
        for (dimension, m) in [
            (0, 8),
            (84, 0),
            (1 << 29, 8),
            (usize::MAX, 8),
            (84, usize::MAX),
        ] {
            assert_eq!(RecordLayout::of_shape(dimension, m, true), None);
        }
    }
}
