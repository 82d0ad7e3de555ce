//! Neighbour lists, and `link_lists.bin`, which holds the lists of the upper levels.

use zerocopy::little_endian::U32;

use super::finding::{
    Findings, LINKS_BELOW_LEVEL, LINKS_DUPLICATE, LINKS_ENTRY_POINT, LINKS_OUT_OF_RANGE,
    LINKS_SELF, LINKS_TOO_MANY, LINK_LISTS_MISSING, LINK_LISTS_RUNAWAY_LENGTH,
    LINK_LISTS_RUNAWAY_SIZE, LINK_LISTS_SIZE, LINK_LISTS_TOO_SHORT, LINK_LISTS_TRAILING,
};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::source::Source;
use crate::segment::file_name::LINK_LISTS;
use crate::segment::link_lists::{LinkLists, SizeFlaw, SizeFlawKind, UpperNodes};
use crate::segment::IndexHeader;

/// Checks the neighbour lists of one file.
#[derive(Debug)]
pub(crate) struct ListCheck {
    file: &'static str,
    count: u64,
    /// The neighbours of the current list, ascending; reused for each list.
    sorted: Vec<u32>,
}

impl ListCheck {
    /// Checks lists of a segment with `count` records.
    pub(crate) fn new(file: &'static str, count: u64) -> Self {
        Self {
            file,
            count,
            sorted: Vec::new(),
        }
    }

    /// Checks the list of a record on a level. The first `used` of its `slots` are in use.
    pub(crate) fn check(
        &mut self,
        id: u64,
        level: u64,
        used: u16,
        slots: &[U32],
        findings: &mut Findings,
    ) {
        let at = |what: &str| format!("record {id}, level {level}{what}");
        let neighbours = match slots.get(..usize::from(used)) {
            Some(neighbours) => neighbours,
            // A damaged count. The slots are still checked for ids out of range.
            None => {
                findings.note(&LINKS_TOO_MANY, self.file, || {
                    at(&format!(": {used} neighbours in {} slots", slots.len()))
                });
                slots
            }
        };
        self.sorted.clear();
        self.sorted
            .extend(neighbours.iter().map(|neighbour| neighbour.get()));
        self.sorted.sort_unstable();
        // Sorted, so ids out of range are at the end.
        let inside = self
            .sorted
            .partition_point(|neighbour| u64::from(*neighbour) < self.count);
        let (inside, outside) = self.sorted.split_at_checked(inside).unwrap_or_default();
        if let Some(first) = outside.first() {
            findings.note_many(&LINKS_OUT_OF_RANGE, self.file, outside.len() as u64, || {
                at(&format!(": neighbour {first} of {} records", self.count))
            });
        }
        // One finding per list, for its first duplicate.
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

/// Checks the whole file. Returns the records on upper levels, up to the first invalid size.
pub(crate) fn check(
    links: Option<&mut LinkLists<impl Source>>,
    header: &IndexHeader,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<UpperNodes> {
    let Some(links) = links else {
        if header.cur_element_count > 0 {
            findings.note(&LINK_LISTS_MISSING, LINK_LISTS, || {
                format!("header.bin counts {} records", header.cur_element_count)
            });
        }
        return Ok(UpperNodes::default());
    };
    let elements = links.elements(monitor)?;
    note_sizes(links, header, &elements, findings);
    check_lists(links, header, &elements, findings, monitor)?;
    // After an invalid size the level of the entry point may be unknown.
    if elements.flaw.is_none() && header.cur_element_count > 0 {
        let entry = header.enterpoint_node;
        let level = elements.level_of(entry);
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

/// Notes an invalid size of the file or of a record's lists.
fn note_sizes(
    links: &LinkLists<impl Source>,
    header: &IndexHeader,
    elements: &UpperNodes,
    findings: &mut Findings,
) {
    let count = header.cur_element_count;
    let (len, most) = (links.len(), links.most());
    if len > most {
        findings.note(&LINK_LISTS_RUNAWAY_LENGTH, LINK_LISTS, || {
            format!(
                "{len} bytes, and {count} records on up to {} levels take at most {most}",
                links.levels()
            )
        });
    }
    let Some(SizeFlaw { id, offset, kind }) = elements.flaw else {
        if len <= most {
            findings.note_many(&LINK_LISTS_TRAILING, LINK_LISTS, len - elements.end, || {
                format!("from byte {} on", elements.end)
            });
        }
        return;
    };
    let wrong_size = |size| {
        let (most, unit) = (links.most_for_element(), links.list_size());
        format!("record {id}, byte {offset}: {size} bytes, at most {most} in units of {unit}")
    };
    match kind {
        SizeFlawKind::Short => {
            let left = count.saturating_sub(id.into());
            findings.note_many(&LINK_LISTS_TOO_SHORT, LINK_LISTS, left, || {
                format!("record {id}, byte {offset} of {len}")
            });
        }
        SizeFlawKind::TooLarge(size) => {
            findings.note(&LINK_LISTS_RUNAWAY_SIZE, LINK_LISTS, || wrong_size(size));
        }
        SizeFlawKind::NotWhole(size) => {
            findings.note(&LINK_LISTS_SIZE, LINK_LISTS, || wrong_size(size));
        }
    }
}

/// Checks each list. After an invalid size the levels of neighbours are unknown, and not checked.
fn check_lists(
    links: &mut LinkLists<impl Source>,
    header: &IndexHeader,
    elements: &UpperNodes,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let mut lists = ListCheck::new(LINK_LISTS, header.cur_element_count);
    for (at, element) in elements.iter().enumerate() {
        if at % 1024 == 0 {
            monitor.check()?;
        }
        for level in 1..=element.level {
            let (used, slots) = links.list(element, level)?;
            lists.check(element.id.into(), level.into(), used, slots, findings);
            if elements.flaw.is_some() {
                continue;
            }
            for neighbour in slots.iter().take(used.into()).map(|id| id.get()) {
                let is_element = u64::from(neighbour) < header.cur_element_count;
                if is_element && elements.level_of(neighbour) < level {
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
