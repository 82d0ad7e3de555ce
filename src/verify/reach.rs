//! Which records the links lead to from the entry point.
//!
//! The graph is walked breadth first. All records at one distance are visited in the order of the
//! file, so that the file is gone over a few times rather than read at random.

use zerocopy::little_endian::U32;

use super::finding::{Findings, LINKS_UNREACHABLE};
use super::links::{UpperElement, UpperLinks};
use crate::bits::Bits;
use crate::chroma::file_name::LEVEL0;
use crate::chroma::record::Level0;
use crate::chroma::IndexHeader;
use crate::error::Result;
use crate::io::file::Source;
use crate::memory;
use crate::progress::Monitor;

/// Where fewer than one record in so many is wanted, each is read by itself.
const SPARSE: u64 = 4;

/// What is read for a record that is read by itself, at least.
const LOOKUP_WINDOW: usize = 4 << 10;

/// Records between two looks at whether the work was cancelled.
const CHECK_INTERVAL: usize = 1024;

/// Counts the records, of the first `count`, that cannot be reached over the links of any level.
pub(crate) fn check(
    level0: &Source,
    link_lists: Option<&Source>,
    header: &IndexHeader,
    count: u64,
    upper: &[UpperElement],
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<()> {
    if u64::from(header.enterpoint_node) >= count {
        return Ok(());
    }
    let mut seen = Bits::with_len(count)?;
    seen.insert(header.enterpoint_node.into());
    let mut next = Next {
        seen,
        count,
        ids: Vec::new(),
    };
    let mut frontier = vec![header.enterpoint_node];
    let mut dense = Level0::over(level0.cursor(), header, count)?;
    let mut sparse = Level0::over(level0.cursor_with_window(LOOKUP_WINDOW), header, count)?;
    let mut links = link_lists
        .map(|source| UpperLinks::new(source, header))
        .transpose()?;
    while !frontier.is_empty() {
        monitor.check()?;
        frontier.sort_unstable();
        let ids = frontier.iter().map(|&id| u64::from(id));
        if (frontier.len() as u64).saturating_mul(SPARSE) >= count {
            dense.visit(ids, |_, record| {
                next.add(record.links.count.get(), record.neighbours)
            })?;
        } else {
            for (at, id) in ids.enumerate() {
                if at % CHECK_INTERVAL == 0 {
                    monitor.check()?;
                }
                if let Some(record) = sparse.block(id, 1)?.get(id) {
                    next.add(record.links.count.get(), record.neighbours)?;
                }
            }
        }
        if let Some(links) = &mut links {
            for id in &frontier {
                let Ok(at) = upper.binary_search_by_key(id, |element| element.id) else {
                    continue;
                };
                let Some(element) = upper.get(at) else {
                    continue;
                };
                for level in 1..=element.level {
                    let (used, places) = links.list(element, level)?;
                    next.add(used, places)?;
                }
            }
        }
        frontier.clear();
        std::mem::swap(&mut frontier, &mut next.ids);
    }
    let unreachable = count.saturating_sub(next.seen.count());
    if let Some(first) = next.seen.first_absent(count) {
        findings.note_many(&LINKS_UNREACHABLE, LEVEL0, unreachable, || {
            format!("record {first}")
        });
    }
    Ok(())
}

/// The records that were found, and those of them that are to be visited.
struct Next {
    seen: Bits,
    count: u64,
    ids: Vec<u32>,
}

impl Next {
    fn add(&mut self, used: u16, places: &[U32]) -> Result<()> {
        for id in places.iter().take(used.into()).map(|id| id.get()) {
            if u64::from(id) < self.count && !self.seen.insert(id.into()) {
                memory::reserve(&mut self.ids, 1, "follow the links")?;
                self.ids.push(id);
            }
        }
        Ok(())
    }
}
