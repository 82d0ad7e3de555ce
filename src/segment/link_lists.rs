//! `link_lists.bin`: the neighbours of each element on the levels above level 0.
//!
//! ```text
//! for each element: size: u32 | levels 1, 2, … size/(4 + 4·max_m)
//!                               = count: u16 | 0: u16 | neighbours: u32 × max_m
//! ```
//!
//! Elements have no offsets of their own: where one starts is only known from the sizes of all
//! before it. So the sizes are read once, in [`UpperElements`], and lists are then found by offset.
//! Few elements (one in m) are on upper levels at all; only those are kept.

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;

use super::header::MAX_COUNT;
use super::layout::LinksHeader;
use super::IndexHeader;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::source::Source;

/// Bytes of the file to hold at a time.
pub(crate) const WINDOW: usize = 256 << 10;

/// More levels than hnswlib can draw: ⌊−ln u / ln m⌋ is below 54 where u is at least 2⁻⁵³ and m at
/// least 2. It bounds what is read for one element when the header claims more.
const MAX_LEVELS: u64 = 64;

/// Bytes before the lists of an element.
const SIZE_FIELD: u64 = size_of::<U32>() as u64;

/// Sizes between two looks at whether the work was cancelled.
const CHECK_INTERVAL: u32 = 1 << 16;

/// An element that is on upper levels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpperElement {
    pub(crate) id: u32,
    /// The highest level that it is on.
    pub(crate) level: u32,
    /// Offset in the file of its list on level 1.
    offset: u64,
}

/// The elements on upper levels, by ascending id, as far as they can be found.
#[derive(Debug, Default)]
pub(crate) struct UpperElements {
    elements: Vec<UpperElement>,
    /// Offset in the file of the first byte that belongs to none of them.
    pub(crate) end: u64,
    /// Why the elements from some id on were not found.
    pub(crate) flaw: Option<SizeFlaw>,
}

/// The first element whose size, or whose lists, the file does not hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeFlaw {
    pub(crate) id: u32,
    /// Offset in the file of what is wrong.
    pub(crate) offset: u64,
    pub(crate) kind: SizeFlawKind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SizeFlawKind {
    /// The file ends within the size or the lists.
    Short,
    /// The size is larger than the lists of all levels of the index.
    TooLarge(u64),
    /// The size is not that of whole lists.
    NotWhole(u64),
}

impl UpperElements {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &UpperElement> {
        self.elements.iter()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&UpperElement> {
        let at = self
            .elements
            .binary_search_by_key(&id, |element| element.id);
        self.elements.get(at.ok()?)
    }

    /// The highest level that an element is on.
    pub(crate) fn level_of(&self, id: u32) -> u32 {
        self.get(id).map_or(0, |element| element.level)
    }
}

/// Reads lists of neighbours on upper levels.
#[derive(Debug)]
pub(crate) struct LinkLists<S> {
    source: S,
    /// Elements of the index.
    count: u64,
    /// Levels above level 0.
    levels: u64,
    /// Bytes of one list.
    list_size: usize,
}

impl<S: Source> LinkLists<S> {
    /// For an index whose header is valid.
    pub(crate) fn new(source: S, header: &IndexHeader) -> Result<Self> {
        debug_assert!(header.cur_element_count <= MAX_COUNT);
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

    /// Levels above level 0 that an element can be on.
    pub(crate) fn levels(&self) -> u64 {
        self.levels
    }

    /// Bytes of one list.
    pub(crate) fn list_size(&self) -> u64 {
        self.list_size as u64
    }

    /// Most bytes of the lists of one element.
    pub(crate) fn most_for_element(&self) -> u64 {
        self.levels.saturating_mul(self.list_size())
    }

    /// Most bytes of the whole file.
    pub(crate) fn most(&self) -> u64 {
        self.count
            .saturating_mul(SIZE_FIELD.saturating_add(self.most_for_element()))
    }

    /// Reads the sizes of all elements, up to the first one that is wrong.
    ///
    /// Memory: 16 bytes for each element on upper levels.
    pub(crate) fn elements(&mut self, monitor: &Monitor<'_>) -> Result<UpperElements> {
        let mut upper = UpperElements::default();
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
            let size = U32::read_from_bytes(self.source.bytes(start, size_of::<U32>())?)
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
            if self.len() - lists < size {
                upper.flaw = flaw(lists, SizeFlawKind::Short);
                return Ok(upper);
            }
            if size > 0 {
                memory::reserve(&mut upper.elements, 1, "hold the upper levels of the graph")?;
                upper.elements.push(UpperElement {
                    id,
                    level: u32::try_from(size / self.list_size()).map_err(Error::internal)?,
                    offset: lists,
                });
            }
            upper.end = lists + size;
        }
        Ok(upper)
    }

    /// How many neighbours an element claims on a level from 1 to its highest, and all of the
    /// list's slots.
    pub(crate) fn list(&mut self, element: &UpperElement, level: u32) -> Result<(u16, &[U32])> {
        debug_assert!((1..=element.level).contains(&level));
        let skipped = u64::from(level.saturating_sub(1)).saturating_mul(self.list_size());
        let offset = element.offset.saturating_add(skipped);
        let bytes = self.source.bytes(offset, self.list_size)?;
        let (links, rest) =
            LinksHeader::read_from_prefix(bytes).map_err(|_| Error::internal("a short list"))?;
        let slots = <[U32]>::ref_from_bytes(rest).map_err(Error::internal)?;
        Ok((links.count.get(), slots))
    }
}

/// The sizes of all elements, read without `header.bin`.
///
/// Chroma writes one size for each element and cuts the file there, so that a whole file tells the
/// number of elements. It also bounds m and the levels.
#[cfg(feature = "database")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Number of elements.
    pub(crate) count: u64,
    /// Greatest common divisor of the sizes: a multiple of the size of one list, or 0.
    divisor: u64,
    /// The largest size, in bytes.
    largest: u64,
    /// The size of the element that was asked for.
    asked: Option<u64>,
}

#[cfg(feature = "database")]
impl Survey {
    /// Reads the sizes of at most `most` elements. `None` if the file does not end where the lists
    /// of an element end. The level of the element `asked` is noted.
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
            let size = U32::read_from_bytes(source.bytes(at, size_of::<U32>())?)
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

    /// Whether all sizes are those of whole lists of `m` neighbours.
    pub(crate) fn fits(&self, m: u64) -> bool {
        let list = Self::list_size(m);
        self.divisor.is_multiple_of(list) && self.largest / list <= MAX_LEVELS
    }

    /// The largest m that all sizes fit.
    pub(crate) fn m(&self) -> Option<u64> {
        (self.divisor / 4).checked_sub(1).filter(|m| *m > 0)
    }

    /// The highest level of an element.
    pub(crate) fn top(&self, m: u64) -> u64 {
        self.largest / Self::list_size(m)
    }

    /// The level of the element that was asked for, if it is there.
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
