//! Writes the files of a segment directory, in the 64-bit [`layout`](super::layout): Chroma loads no
//! other on a 64-bit machine.

use zerocopy::little_endian::{U16, U64};
use zerocopy::IntoBytes;

use super::header::{NO_ENTRY_POINT, PERSISTED_VERSION};
use super::layout::{LinksHeader, RawHeader};
use super::record::RecordLayout;
use crate::error::{Error, Result};

/// Chroma's defaults.
#[cfg(feature = "database")]
pub(crate) const DEFAULT_M: u64 = 16;
pub(crate) const DEFAULT_EF_CONSTRUCTION: u64 = 100;

/// The parameters that all records of a segment share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    layout: RecordLayout,
    m: usize,
    ef_construction: u64,
}

/// The record at which searches start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    pub(crate) id: u32,
    pub(crate) level: u8,
}

impl Shape {
    /// `None` if dimension or m is 0, or a vector would have nearly 2 GiB or more.
    pub(crate) fn new(dimension: usize, m: usize, ef_construction: u64) -> Option<Self> {
        // The count of a list has 16 bits.
        u16::try_from(m.checked_mul(2)?).ok()?;
        Some(Self {
            layout: RecordLayout::of_shape(dimension, m, true)?,
            m,
            ef_construction,
        })
    }

    pub(crate) fn dimension(&self) -> usize {
        self.layout.dimension()
    }

    pub(crate) fn m(&self) -> usize {
        self.m
    }

    pub(crate) fn ef_construction(&self) -> u64 {
        self.ef_construction
    }

    /// Maximum number of neighbours in a list.
    pub(crate) fn slots(&self, level: u8) -> usize {
        match level {
            0 => self.layout.max_m0(),
            _ => self.m,
        }
    }

    /// Bytes of a list.
    pub(crate) fn list_size(&self, level: u8) -> usize {
        // Within a record, whose size was checked.
        size_of::<LinksHeader>().saturating_add(self.slots(level).saturating_mul(4))
    }

    /// Bytes of a record of `data_level0.bin`.
    pub(crate) fn record_size(&self) -> usize {
        self.layout.size()
    }

    /// The whole of `header.bin`. An index of no records has no entry point.
    pub(crate) fn header(&self, count: u32, entry_point: Option<EntryPoint>) -> Result<Vec<u8>> {
        let word = |value: usize| U64::from(value as u64);
        let offset_data = self.list_size(0);
        let vector = self.dimension().saturating_mul(size_of::<f32>());
        let m = u32::try_from(self.m).map_err(Error::internal)?;
        let header = RawHeader {
            persisted_version: PERSISTED_VERSION.into(),
            offset_level0: word(0),
            max_elements: U64::from(u64::from(count)),
            cur_element_count: U64::from(u64::from(count)),
            size_data_per_element: word(self.record_size()),
            label_offset: word(offset_data.saturating_add(vector)),
            offset_data: word(offset_data),
            max_level: entry_point
                .map_or(-1, |entry| i32::from(entry.level))
                .into(),
            enterpoint_node: entry_point.map_or(NO_ENTRY_POINT, |entry| entry.id).into(),
            max_m: word(self.m),
            max_m0: word(self.slots(0)),
            m: word(self.m),
            mult: (1.0 / f64::from(m).ln()).into(),
            ef_construction: U64::from(self.ef_construction),
        };
        Ok(header.as_bytes().to_vec())
    }

    /// Appends a list of neighbours.
    pub(crate) fn push_list(&self, out: &mut Vec<u8>, level: u8, neighbours: &[u32]) -> Result<()> {
        let slots = self.slots(level);
        let count = u16::try_from(neighbours.len()).map_err(Error::internal)?;
        if neighbours.len() > slots {
            return Err(Error::internal("more neighbours than a list has room for"));
        }
        let header = LinksHeader {
            count: U16::from(count),
            flags: 0,
            reserved: 0,
        };
        out.extend_from_slice(header.as_bytes());
        for neighbour in neighbours {
            out.extend_from_slice(&neighbour.to_le_bytes());
        }
        let free = slots.saturating_sub(neighbours.len()).saturating_mul(4);
        out.resize(out.len().saturating_add(free), 0);
        Ok(())
    }

    /// Appends a record of `data_level0.bin`.
    pub(crate) fn push_record(
        &self,
        out: &mut Vec<u8>,
        neighbours: &[u32],
        vector: &[f32],
        label: u32,
    ) -> Result<()> {
        if vector.len() != self.dimension() {
            return Err(Error::internal("a vector of another dimension"));
        }
        self.push_list(out, 0, neighbours)?;
        out.extend_from_slice(vector.as_bytes());
        out.extend_from_slice(&u64::from(label).to_le_bytes());
        Ok(())
    }
}
