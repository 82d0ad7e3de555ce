//! Reachability of records from the entry point.
//!
//! The walk over the graph is breadth first. All records at the same distance are visited in file
//! order, so that the file is read in a few sequential passes rather than at random.

use zerocopy::little_endian::U32;

use super::finding::{Findings, LINKS_UNREACHABLE};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::source::Source;
use crate::segment::file_name::LEVEL0;
use crate::segment::link_lists::{LinkLists, UpperNodes};
use crate::segment::record::Records;

/// If the walk needs fewer than one record in this many, each is read individually.
const MAX_RECORDS_PER_LOOKUP: u64 = 4;

/// Records between two checks for cancellation.
const CHECK_INTERVAL: usize = 1024;

/// Counts the records that are unreachable over the links of all levels.
///
/// `dense` and `sparse` read the same records, through a large window and through one that holds
/// little more than a record.
pub(crate) fn check<S: Source>(
    dense: &mut Records<S>,
    sparse: &mut Records<S>,
    mut links: Option<(&mut LinkLists<S>, &UpperNodes)>,
    entry_point: u32,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let count = dense.count();
    // The index is empty, or the record of the entry point is missing.
    if u64::from(entry_point) >= count {
        return Ok(());
    }
    let mut seen = Bits::with_len(count)?;
    seen.insert(entry_point.into());
    let mut next = Next {
        seen,
        count,
        ids: Vec::new(),
    };
    let mut frontier = vec![entry_point];
    while !frontier.is_empty() {
        monitor.check()?;
        // File order.
        frontier.sort_unstable();
        let ids = frontier.iter().map(|&id| u64::from(id));
        if (frontier.len() as u64).saturating_mul(MAX_RECORDS_PER_LOOKUP) >= count {
            dense.visit(ids, |_, record| {
                next.add(record.links.count.get(), record.neighbours)
            })?;
        } else {
            for (at, id) in ids.enumerate() {
                if at % CHECK_INTERVAL == 0 {
                    monitor.check()?;
                }
                let record = sparse.record(id)?;
                next.add(record.links.count.get(), record.neighbours)?;
            }
        }
        if let Some((links, elements)) = &mut links {
            for element in frontier.iter().filter_map(|&id| elements.get(id)) {
                for level in 1..=element.level {
                    let (used, slots) = links.list(element, level)?;
                    next.add(used, slots)?;
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

/// The records found so far, and the ids to visit in the next step.
struct Next {
    seen: Bits,
    count: u64,
    ids: Vec<u32>,
}

impl Next {
    fn add(&mut self, used: u16, slots: &[U32]) -> Result<()> {
        for id in slots.iter().take(used.into()).map(|id| id.get()) {
            if u64::from(id) < self.count && !self.seen.insert(id.into()) {
                memory::reserve(&mut self.ids, 1, "follow the links")?;
                self.ids.push(id);
            }
        }
        Ok(())
    }
}
