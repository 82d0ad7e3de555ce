//! Lists of neighbours, and `link_lists.bin`, which holds those of the upper levels.
//!
//! ```text
//! for each element: size: u32 | levels 1, 2, … size/(4 + 4·max_m)
//!                               = count: u16 | 0: u16 | neighbours: u32 × max_m
//! ```

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;

use super::finding::{
    Findings, LINKS_BELOW_LEVEL, LINKS_DUPLICATE, LINKS_ENTRY_POINT, LINKS_OUT_OF_RANGE,
    LINKS_SELF, LINKS_TOO_MANY, LINK_LISTS_MISSING, LINK_LISTS_RUNAWAY_LENGTH,
    LINK_LISTS_RUNAWAY_SIZE, LINK_LISTS_SIZE, LINK_LISTS_TOO_SHORT, LINK_LISTS_TRAILING,
};
use crate::chroma::file_name::LINK_LISTS;
use crate::chroma::layout::LinksHeader;
use crate::chroma::IndexHeader;
use crate::error::{Error, Result};
use crate::io::file::{Cursor, Source};
use crate::memory;
use crate::progress::Monitor;

/// More levels than hnswlib can draw: ⌊−ln u / ln m⌋ is below 54 where u is at least 2⁻⁵³ and m at
/// least 2. It bounds what is read for one element when the header claims more.
const MAX_LEVELS: u64 = 64;

/// Bytes of `link_lists.bin` that are looked at at once.
const WINDOW: usize = 256 << 10;

const SIZE_FIELD: u64 = size_of::<U32>() as u64;

/// Checks lists of neighbours of one file.
#[derive(Debug)]
pub(crate) struct ListCheck {
    file: &'static str,
    count: u64,
    sorted: Vec<u32>,
}

impl ListCheck {
    /// For an index of `count` elements.
    pub(crate) fn new(file: &'static str, count: u64) -> Self {
        Self {
            file,
            count,
            sorted: Vec::new(),
        }
    }

    /// Checks a list with `places`, of which the first `used` are in use.
    pub(crate) fn check(
        &mut self,
        id: u64,
        level: u64,
        used: u16,
        places: &[U32],
        findings: &mut Findings,
    ) {
        let at = |what: &str| format!("record {id}, level {level}{what}");
        let neighbours = match places.get(..usize::from(used)) {
            Some(neighbours) => neighbours,
            None => {
                findings.note(&LINKS_TOO_MANY, self.file, || {
                    at(&format!(": {used} neighbours in {} places", places.len()))
                });
                places
            }
        };
        self.sorted.clear();
        self.sorted
            .extend(neighbours.iter().map(|neighbour| neighbour.get()));
        self.sorted.sort_unstable();
        let inside = self
            .sorted
            .partition_point(|neighbour| u64::from(*neighbour) < self.count);
        let (inside, outside) = self.sorted.split_at_checked(inside).unwrap_or_default();
        if let Some(first) = outside.first() {
            findings.note_many(&LINKS_OUT_OF_RANGE, self.file, outside.len() as u64, || {
                at(&format!(": neighbour {first} of {} records", self.count))
            });
        }
        let twice = inside.windows(2).find(|pair| match pair {
            [one, other] => one == other,
            _ => false,
        });
        if let Some([neighbour, ..]) = twice {
            findings.note(&LINKS_DUPLICATE, self.file, || {
                at(&format!(": neighbour {neighbour}"))
            });
        }
        let own = u32::try_from(id).ok();
        if own.is_some_and(|own| inside.binary_search(&own).is_ok()) {
            findings.note(&LINKS_SELF, self.file, || at(""));
        }
    }
}

/// An element that is on upper levels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpperElement {
    pub(crate) id: u32,
    /// The highest level that it is on.
    pub(crate) level: u32,
    /// Offset in the file of its links on level 1.
    offset: u64,
}

/// The lists of neighbours on one level, from the file.
#[derive(Debug)]
pub(crate) struct UpperLinks<'s> {
    cursor: Cursor<'s>,
    unit: usize,
}

impl<'s> UpperLinks<'s> {
    pub(crate) fn new(source: &'s Source, header: &IndexHeader) -> Result<Self> {
        Ok(Self {
            cursor: source.cursor_with_window(WINDOW),
            unit: usize::try_from(unit(header)).map_err(Error::internal)?,
        })
    }

    /// How many neighbours the list claims, and all of its places.
    pub(crate) fn list(&mut self, element: &UpperElement, level: u32) -> Result<(u16, &[U32])> {
        let skipped = u64::from(level.saturating_sub(1)).saturating_mul(self.unit as u64);
        let bytes = self
            .cursor
            .bytes(element.offset.saturating_add(skipped), self.unit)?;
        let (links, rest) =
            LinksHeader::read_from_prefix(bytes).map_err(|_| Error::internal("a short list"))?;
        let places = <[U32]>::ref_from_bytes(rest).map_err(Error::internal)?;
        Ok((links.count.get(), places))
    }
}

/// Bytes of the links of an element on one upper level.
fn unit(header: &IndexHeader) -> u64 {
    LinksHeader::SIZE + 4 * header.max_m
}

/// Checks the whole file, and gives the elements on upper levels by ascending id, as far as they
/// can be found.
pub(crate) fn check(
    source: Option<&Source>,
    header: &IndexHeader,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<Vec<UpperElement>> {
    let Some(source) = source else {
        if header.cur_element_count > 0 {
            findings.note(&LINK_LISTS_MISSING, LINK_LISTS, || {
                format!("{} records are counted", header.cur_element_count)
            });
        }
        return Ok(Vec::new());
    };
    let (elements, complete) = read_sizes(source, header, findings, monitor)?;
    check_lists(source, header, &elements, complete, findings, monitor)?;
    if complete && header.cur_element_count > 0 {
        let entry = header.enterpoint_node;
        let level = level_of(&elements, entry);
        if i64::from(level) != i64::from(header.max_level) {
            findings.note(&LINKS_ENTRY_POINT, LINK_LISTS, || {
                format!(
                    "record {entry} is on level {level}, max_level is {}",
                    header.max_level
                )
            });
        }
    }
    Ok(elements)
}

fn level_of(elements: &[UpperElement], id: u32) -> u32 {
    elements
        .binary_search_by_key(&id, |element| element.id)
        .ok()
        .and_then(|at| elements.get(at))
        .map_or(0, |element| element.level)
}

/// The elements on upper levels, and whether the sizes of all elements were read.
fn read_sizes(
    source: &Source,
    header: &IndexHeader,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<(Vec<UpperElement>, bool)> {
    let count = header.cur_element_count;
    let unit = unit(header);
    let levels = u64::try_from(header.max_level).unwrap_or(0).min(MAX_LEVELS);
    let most = levels.saturating_mul(unit);
    let longest = count.saturating_mul(SIZE_FIELD.saturating_add(most));
    if source.len() > longest {
        findings.note(&LINK_LISTS_RUNAWAY_LENGTH, LINK_LISTS, || {
            format!(
                "{} bytes, and {count} records on up to {levels} levels take at most {longest}",
                source.len()
            )
        });
    }
    let mut elements: Vec<UpperElement> = Vec::new();
    let mut cursor = source.cursor_with_window(WINDOW);
    let mut offset = 0_u64;
    for id in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        if id % (1 << 16) == 0 {
            monitor.check()?;
        }
        if source.len().saturating_sub(offset) < SIZE_FIELD {
            too_short(source, id, count, offset, findings);
            return Ok((elements, false));
        }
        let size = U32::read_from_bytes(cursor.bytes(offset, size_of::<U32>())?)
            .map_err(|_| Error::internal("a size is not four bytes"))?;
        let size = u64::from(size.get());
        if size > most || size % unit != 0 {
            let kind = if size > most {
                &LINK_LISTS_RUNAWAY_SIZE
            } else {
                &LINK_LISTS_SIZE
            };
            findings.note(kind, LINK_LISTS, || {
                format!(
                    "record {id}, byte {offset}: {size} bytes, at most {most} in units of {unit}"
                )
            });
            return Ok((elements, false));
        }
        offset += SIZE_FIELD;
        if source.len() - offset < size {
            too_short(source, id, count, offset, findings);
            return Ok((elements, false));
        }
        if size > 0 {
            memory::reserve(&mut elements, 1, "hold the upper levels of the graph")?;
            elements.push(UpperElement {
                id,
                level: u32::try_from(size / unit).map_err(Error::internal)?,
                offset,
            });
        }
        offset += size;
    }
    if source.len() <= longest {
        findings.note_many(
            &LINK_LISTS_TRAILING,
            LINK_LISTS,
            source.len() - offset,
            || format!("from byte {offset} on"),
        );
    }
    Ok((elements, true))
}

fn too_short(source: &Source, id: u32, count: u64, offset: u64, findings: &mut Findings) {
    let left = count.saturating_sub(id.into());
    findings.note_many(&LINK_LISTS_TOO_SHORT, LINK_LISTS, left, || {
        format!("record {id}, byte {offset} of {}", source.len())
    });
}

/// Checks each list. When not all elements are known, neither are the levels of neighbours.
fn check_lists(
    source: &Source,
    header: &IndexHeader,
    elements: &[UpperElement],
    complete: bool,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let mut links = UpperLinks::new(source, header)?;
    let mut lists = ListCheck::new(LINK_LISTS, header.cur_element_count);
    for (at, element) in elements.iter().enumerate() {
        if at % 1024 == 0 {
            monitor.check()?;
        }
        for level in 1..=element.level {
            let (used, places) = links.list(element, level)?;
            lists.check(element.id.into(), level.into(), used, places, findings);
            if !complete {
                continue;
            }
            for neighbour in places.iter().take(used.into()).map(|id| id.get()) {
                let is_element = u64::from(neighbour) < header.cur_element_count;
                if is_element && level_of(elements, neighbour) < level {
                    findings.note(&LINKS_BELOW_LEVEL, LINK_LISTS, || {
                        format!(
                            "record {}, level {level}: neighbour {neighbour}",
                            element.id
                        )
                    });
                }
            }
        }
    }
    Ok(())
}
