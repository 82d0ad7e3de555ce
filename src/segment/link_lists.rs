//! `link_lists.bin`: the neighbours of each record on the levels above 0.
//!
//! ```text
//! for each record:  size: u32 | levels 1, 2, … size/(4 + 4·max_m)
//!                               = count: u16 | 0: u16 | neighbours: u32 × max_m
//! ```
//!
//! The file has no table of offsets: lists are found only by adding up the sizes before them. So the
//! sizes are read once, into [`UpperNodes`], which keeps the offset of each record that has lists.
//! Only one record in m is on an upper level.

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;

use super::header::MAX_COUNT;
use super::layout::LinksHeader;
use super::IndexHeader;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::source::{exact, Source};

/// Bytes of the file in memory at a time.
pub(crate) const WINDOW: usize = 256 << 10;

/// Maximum number of levels above 0. hnswlib draws level ⌊−ln u / ln m⌋, which is below 54 because u
/// is at least 2⁻⁵³ and m at least 2. A header that claims more cannot make a read larger.
const MAX_LEVELS: u64 = 64;

/// Bytes of the size before the lists of a record.
const SIZE_FIELD: u64 = size_of::<U32>() as u64;

/// Sizes read between two checks for cancellation.
const CHECK_INTERVAL: u32 = 1 << 16;

/// A record with links on levels above 0.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UpperNode {
    /// Its internal id.
    pub id: u32,
    /// Its highest level, at least 1.
    pub level: u32,
    /// Offset in the file of its list on level 1.
    offset: u64,
}

/// The records on levels above 0, by ascending internal id, up to the first damaged size.
///
/// Memory: 16 bytes for each of them.
#[derive(Debug, Default)]
pub struct UpperNodes {
    elements: Vec<UpperNode>,
    /// Offset in the file of the first byte after the last list.
    pub(crate) end: u64,
    /// The damage that hides the lists of all later records.
    pub(crate) flaw: Option<SizeFlaw>,
}

/// The first damaged size, after which no list can be found.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SizeFlaw {
    /// Internal id of the record.
    pub id: u32,
    /// Offset of the damage in the file.
    pub offset: u64,
    /// The kind of damage.
    pub kind: SizeFlawKind,
}

/// The kinds of damage to a size.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SizeFlawKind {
    /// The file ends within the size or the lists.
    Short,
    /// The size, in bytes, exceeds the lists of all levels that the header allows.
    TooLarge(u64),
    /// The size, in bytes, is not a multiple of the size of a list.
    NotWhole(u64),
}

impl UpperNodes {
    /// The first damaged size, if there is one.
    #[must_use]
    pub fn flaw(&self) -> Option<SizeFlaw> {
        self.flaw
    }

    /// The records, by ascending internal id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &UpperNode> {
        self.elements.iter()
    }

    /// The record with this internal id, if it is on a level above 0.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&UpperNode> {
        let at = self
            .elements
            .binary_search_by_key(&id, |element| element.id);
        self.elements.get(at.ok()?)
    }

    /// The highest level of a record.
    pub(crate) fn level_of(&self, id: u32) -> u32 {
        self.get(id).map_or(0, |element| element.level)
    }
}

/// Reads the neighbours of records on levels above 0, from `link_lists.bin`.
#[derive(Debug)]
pub struct LinkLists<S> {
    source: S,
    /// Records of the segment.
    count: u64,
    /// Levels above level 0.
    levels: u64,
    /// Bytes of one list.
    list_size: usize,
}

impl<S: Source> LinkLists<S> {
    /// Reads lists of the size that the header implies, which must come from
    /// [`read`](IndexHeader::read).
    ///
    /// # Errors
    ///
    /// An internal error if the header counts more than 2³² records, or `max_m` overflows.
    pub fn new(source: S, header: &IndexHeader) -> Result<Self> {
        if header.cur_element_count > MAX_COUNT {
            return Err(Error::internal("cur_element_count was not checked"));
        }
        let list_size = header
            .max_m
            .checked_mul(4)
            .and_then(|size| size.checked_add(LinksHeader::SIZE))
            .ok_or_else(|| Error::internal("max_m was not checked"))?;
        Ok(Self {
            source,
            count: header.cur_element_count,
            levels: u64::try_from(header.max_level).unwrap_or(0).min(MAX_LEVELS),
            list_size: usize::try_from(list_size).map_err(Error::internal)?,
        })
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Maximum level of a record.
    pub(crate) fn levels(&self) -> u64 {
        self.levels
    }

    /// Bytes of one list.
    pub(crate) fn list_size(&self) -> u64 {
        self.list_size as u64
    }

    /// Maximum size in bytes of all lists of one record.
    pub(crate) fn most_for_element(&self) -> u64 {
        self.levels.saturating_mul(self.list_size())
    }

    /// Maximum size in bytes of the whole file.
    pub(crate) fn most(&self) -> u64 {
        self.count
            .saturating_mul(SIZE_FIELD.saturating_add(self.most_for_element()))
    }

    /// Reads the sizes of all records, up to the first damaged one.
    ///
    /// # Errors
    ///
    /// Errors of the source; [`Cancelled`](crate::ErrorKind::Cancelled);
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory). Damage is not an error: see
    /// [`UpperNodes::flaw`].
    pub fn elements(&mut self, monitor: &Monitor<'_>) -> Result<UpperNodes> {
        let mut upper = UpperNodes::default();
        for id in 0..u32::try_from(self.count).unwrap_or(u32::MAX) {
            if id % CHECK_INTERVAL == 0 {
                monitor.check()?;
            }
            let start = upper.end;
            let flaw = |offset, kind| Some(SizeFlaw { id, offset, kind });
            if self.len().saturating_sub(start) < SIZE_FIELD {
                upper.flaw = flaw(start, SizeFlawKind::Short);
                return Ok(upper);
            }
            let size = U32::read_from_bytes(exact(&mut self.source, start, size_of::<U32>())?)
                .map_err(|_| Error::internal("a size is not four bytes"))?;
            let size = u64::from(size.get());
            if size > self.most_for_element() {
                upper.flaw = flaw(start, SizeFlawKind::TooLarge(size));
                return Ok(upper);
            }
            if size % self.list_size() != 0 {
                upper.flaw = flaw(start, SizeFlawKind::NotWhole(size));
                return Ok(upper);
            }
            let lists = start + SIZE_FIELD;
            if self.len().saturating_sub(lists) < size {
                upper.flaw = flaw(lists, SizeFlawKind::Short);
                return Ok(upper);
            }
            if size > 0 {
                memory::reserve(&mut upper.elements, 1, "hold the upper levels of the graph")?;
                upper.elements.push(UpperNode {
                    id,
                    level: u32::try_from(size / self.list_size()).map_err(Error::internal)?,
                    offset: lists,
                });
            }
            upper.end = lists + size;
        }
        Ok(upper)
    }

    /// Reads the neighbours of a record on a level from 1 to its highest. In a damaged file they may
    /// be any numbers, and fewer than the list counts.
    ///
    /// # Errors
    ///
    /// Errors of the source; an internal error for any other level.
    pub fn neighbours(
        &mut self,
        node: &UpperNode,
        level: u32,
    ) -> Result<impl ExactSizeIterator<Item = u32> + '_> {
        let (count, slots) = self.list(node, level)?;
        let count = usize::from(count).min(slots.len());
        let used = slots.get(..count).unwrap_or_default();
        Ok(used.iter().map(|id| id.get()))
    }

    /// Reads the number of neighbours that a list claims, and all of its slots.
    pub(crate) fn list(&mut self, element: &UpperNode, level: u32) -> Result<(u16, &[U32])> {
        if !(1..=element.level).contains(&level) {
            return Err(Error::internal(format!(
                "level {level} of a record on levels 1 to {}",
                element.level
            )));
        }
        let skipped = u64::from(level.saturating_sub(1)).saturating_mul(self.list_size());
        let offset = element.offset.saturating_add(skipped);
        let bytes = exact(&mut self.source, offset, self.list_size)?;
        let (links, rest) =
            LinksHeader::read_from_prefix(bytes).map_err(|_| Error::internal("a short list"))?;
        let slots = <[U32]>::ref_from_bytes(rest).map_err(Error::internal)?;
        Ok((links.count.get(), slots))
    }
}

/// Summary of the sizes of all records, read without `header.bin`.
///
/// Chroma writes one size for each record and truncates the file after the last, so an undamaged file
/// gives the number of records. It also bounds m and the levels.
#[cfg(feature = "database")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Number of records.
    pub(crate) count: u64,
    /// Greatest common divisor of the sizes: a multiple of the size of one list, or 0.
    divisor: u64,
    /// The largest size, in bytes.
    largest: u64,
    /// The size of the requested record.
    asked: Option<u64>,
}

#[cfg(feature = "database")]
impl Survey {
    /// Reads the sizes of at most `most` records. `None` if the file does not end with the lists of a
    /// record. The size of record `asked` is remembered.
    pub(crate) fn read(
        mut source: impl Source,
        most: u64,
        asked: Option<u32>,
        monitor: &Monitor<'_>,
    ) -> Result<Option<Self>> {
        let len = source.len();
        let mut survey = Self::default();
        let mut at = 0;
        while at < len {
            if survey.count % u64::from(CHECK_INTERVAL) == 0 {
                monitor.check()?;
            }
            if survey.count == most || len - at < SIZE_FIELD {
                return Ok(None);
            }
            let size = U32::read_from_bytes(exact(&mut source, at, size_of::<U32>())?)
                .map_err(|_| Error::internal("a size is not four bytes"))?;
            let size = u64::from(size.get());
            at += SIZE_FIELD;
            if len - at < size || size % 4 != 0 {
                return Ok(None);
            }
            if asked.map(u64::from) == Some(survey.count) {
                survey.asked = Some(size);
            }
            survey.divisor = greatest_common_divisor(survey.divisor, size);
            survey.largest = survey.largest.max(size);
            survey.count += 1;
            at += size;
        }
        Ok(Some(survey))
    }

    /// Returns true if every size is a multiple of the size of a list for this `m`.
    pub(crate) fn fits(&self, m: u64) -> bool {
        let list = Self::list_size(m);
        self.divisor.is_multiple_of(list) && self.largest / list <= MAX_LEVELS
    }

    /// The largest m for which [`fits`](Self::fits) holds.
    pub(crate) fn m(&self) -> Option<u64> {
        (self.divisor / 4).checked_sub(1).filter(|m| *m > 0)
    }

    /// The highest level of a record.
    pub(crate) fn top(&self, m: u64) -> u64 {
        self.largest / Self::list_size(m)
    }

    /// The level of the requested record, if the file has it.
    pub(crate) fn level_of_asked(&self, m: u64) -> Option<u64> {
        Some(self.asked? / Self::list_size(m))
    }

    fn list_size(m: u64) -> u64 {
        m.saturating_mul(4).saturating_add(LinksHeader::SIZE)
    }
}

#[cfg(feature = "database")]
fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
