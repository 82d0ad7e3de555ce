//! `links: keep`: the existing graph without the dropped records.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use super::old::{existing, GraphCache, OldGraph};
use super::records::Chosen;
use super::threads::{self, Blocks};
use super::written::{UpperLevels, WrittenLevel0};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::graph::compact::{PartlyDeletedGraph, Reconnector};
use crate::graph::distance::Metric;
use crate::io::atomic::DirectoryFile;
use crate::io::file::{FileWindow, InputFile};
use crate::segment::directory::Segment;
use crate::segment::link_lists::UpperNodes;
use crate::segment::record::{RecordLayout, Records};
use crate::segment::write::{EntryPoint, Shape};

/// Bytes of records that a thread processes at a time.
const BLOCK_BYTES: usize = 512 << 10;

/// Lists of upper levels that a thread processes at a time.
const LISTS_PER_BLOCK: usize = 256;

/// The inputs of the kept graph.
pub(super) struct Keep<'k> {
    pub(super) segment: &'k Segment,
    pub(super) chosen: &'k Chosen,
    pub(super) shape: Shape,
    /// The metric for computing distances. Cosine vectors are stored with norm 1, so that the inner
    /// product serves for them.
    pub(super) metric: Metric,
    pub(super) threads: NonZeroUsize,
}

/// The graph of the records that were written.
pub(super) struct Kept {
    pub(super) upper: UpperLevels,
    pub(super) entry_point: EntryPoint,
    /// Records that lost neighbours.
    pub(super) bridged: u64,
}

impl Keep<'_> {
    /// Writes the kept records to `out` with their links on level 0. Returns their links on the
    /// upper levels.
    pub(super) fn run(&self, out: &DirectoryFile, monitor: &Monitor<'_>) -> Result<Kept> {
        let files = self.segment.files();
        let header = self.segment.header();
        // `choose_links` does not allow this without a header.
        let header = header.ok_or_else(|| Error::internal("links without a header"))?;
        let mut lists = files.read_link_lists(header)?;
        let old_upper = match &mut lists {
            Some(lists) => lists.elements(monitor)?,
            None => UpperNodes::default(),
        };
        let live = self.chosen.ranks();
        let stay = old_upper
            .iter()
            .filter(|element| live.contains(element.id))
            .map(|element| {
                let level = u8::try_from(element.level).unwrap_or(u8::MAX);
                (live.rank(element.id), level)
            });
        let mut upper = UpperLevels::new(self.shape.m(), stay)?;
        let silent = monitor.without_progress();
        let cache = GraphCache::read(self.segment, live, BLOCK_BYTES, self.threads, &silent)?;
        let file = files.level0.require()?;
        let graph = || -> Result<OldGraph<'_>> {
            Ok(OldGraph {
                file,
                layout: self.segment.layout(),
                count: self.segment.count(),
                live,
                cache: &cache,
                sketches: cache.sketches()?,
                upper: &old_upper,
                lists: files.read_link_lists_for_lookups(header)?,
                bytes: Vec::new(),
            })
        };
        let bridged = self.write_level0(out, file, &graph, monitor)?;
        self.fill_upper(&mut upper, &graph, &silent)?;
        let mut entry_point = upper.top().unwrap_or(EntryPoint { id: 0, level: 0 });
        // Keep the old entry point if it still exists and is on the highest level.
        let old = header.enterpoint_node;
        if live.contains(old) && old_upper.level_of(old) == u32::from(entry_point.level) {
            entry_point.id = live.rank(old);
        }
        Ok(Kept {
            upper,
            entry_point,
            bridged,
        })
    }

    fn level0_of<'f>(&self, file: &'f InputFile) -> Records<FileWindow<'f>> {
        let layout = self.segment.layout();
        Records::of_checked(file.window(BLOCK_BYTES), layout, self.segment.count())
            .with_blocks_of(BLOCK_BYTES)
    }

    /// Returns the maker of neighbour lists. The fewer records are kept, the more effort is spent
    /// on each, so that the total work stays the same.
    fn bridge(&self) -> Reconnector {
        let stay = u64::from(self.chosen.ranks().count()).max(1);
        let effort = self.segment.count().div_ceil(stay);
        let effort = usize::try_from(effort).unwrap_or(usize::MAX);
        Reconnector::new(self.metric, self.shape.dimension(), effort)
    }

    fn records_at_once(&self, layout: RecordLayout) -> usize {
        (BLOCK_BYTES / layout.size().max(1)).max(1)
    }

    /// Returns the range of new internal ids for `records` old ones from `first` on.
    fn run_of(&self, first: u64, records: usize) -> (u32, u32) {
        let live = self.chosen.ranks();
        let rank = |id: u64| live.rank(u32::try_from(id).unwrap_or(u32::MAX));
        (rank(first), rank(first.saturating_add(records as u64)))
    }

    fn write_level0<'g>(
        &self,
        out: &DirectoryFile,
        file: &'g InputFile,
        graph: &impl Fn() -> Result<OldGraph<'g>>,
        monitor: &Monitor<'_>,
    ) -> Result<u64> {
        let mut states = Vec::new();
        for _ in 0..self.threads.get() {
            states.push(Level0State {
                level0: self.level0_of(file),
                graph: graph()?,
                bridge: self.bridge(),
                old: Vec::new(),
                list: Vec::new(),
                out: Vec::new(),
                bridged: 0,
            });
        }
        let block = self.records_at_once(self.segment.layout());
        let blocks = Blocks {
            total: self.segment.count(),
            size: block as u64,
        };
        let live = self.chosen.ranks();
        let slots = self.shape.slots(0);
        threads::for_each_block(&mut states, blocks, monitor, |state, number| {
            let first = number.saturating_mul(block as u64);
            state.out.clear();
            for record in state.level0.block(first, block as u64)?.iter() {
                let (id, record) = record?;
                let Some(node) = u32::try_from(id).ok().filter(|id| live.contains(*id)) else {
                    continue;
                };
                state.old.clear();
                let used = record.links.count.get();
                let own = existing(used, record.neighbours, self.segment.count());
                state.old.extend(own);
                let lost = state.old.iter().any(|id| !live.contains(*id));
                state.bridged += u64::from(lost);
                state.bridge.neighbours(
                    &mut state.graph,
                    (node, 0),
                    &state.old,
                    record.vector,
                    slots,
                    &mut state.list,
                )?;
                for neighbour in &mut state.list {
                    *neighbour = live.rank(*neighbour);
                }
                let label = u32::try_from(record.label).map_err(Error::internal)?;
                self.shape
                    .push_record(&mut state.out, &state.list, record.vector, label)?;
            }
            // Blocks end in any order, but each has its own range of the file.
            let (start, _) = self.run_of(first, block);
            let offset = u64::from(start).saturating_mul(self.shape.record_size() as u64);
            out.write_at(&state.out, offset)
        })?;
        Ok(states.iter().map(|state| state.bridged).sum())
    }

    fn fill_upper<'g>(
        &self,
        upper: &mut UpperLevels,
        graph: &impl Fn() -> Result<OldGraph<'g>>,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        let live = self.chosen.ranks();
        let dimension = self.shape.dimension();
        let mut states = Vec::new();
        for _ in 0..self.threads.get() {
            states.push(UpperState {
                graph: graph()?,
                bridge: self.bridge(),
                vector: memory::filled(dimension, 0.0, "compare vectors")?,
                old: Vec::new(),
                list: Vec::new(),
            });
        }
        let (owners, lists) = upper.lists_mut();
        let blocks = Blocks {
            total: lists.len() as u64,
            size: LISTS_PER_BLOCK as u64,
        };
        let lists = Mutex::new(lists.enumerate());
        let slots = self.shape.slots(1);
        threads::for_each_block(&mut states, blocks, monitor, |state, _| {
            let taken: Vec<_> = {
                let lists = lists.lock();
                let mut lists = lists.map_err(|_| Error::internal("a thread panicked"))?;
                lists.by_ref().take(LISTS_PER_BLOCK).collect()
            };
            for (number, slice) in taken {
                let number = u32::try_from(number).map_err(Error::internal)?;
                let owner = owners.of(number);
                let (id, level) = owner.ok_or_else(|| Error::internal("a list without a node"))?;
                let node = self.chosen.old_id(id)?;
                state.old.clear();
                state.graph.add_neighbours(node, level, &mut state.old)?;
                state.graph.read_vector(node, &mut state.vector)?;
                state.bridge.neighbours(
                    &mut state.graph,
                    (node, level),
                    &state.old,
                    &state.vector,
                    slots,
                    &mut state.list,
                )?;
                for (slot, neighbour) in slice.iter_mut().zip(&state.list) {
                    *slot = live.rank(*neighbour);
                }
            }
            Ok(())
        })
    }
}

struct Level0State<'f> {
    level0: Records<FileWindow<'f>>,
    graph: OldGraph<'f>,
    bridge: Reconnector,
    old: Vec<u32>,
    list: Vec<u32>,
    out: Vec<u8>,
    bridged: u64,
}

struct UpperState<'f> {
    graph: OldGraph<'f>,
    bridge: Reconnector,
    vector: Vec<f32>,
    old: Vec<u32>,
    list: Vec<u32>,
}

/// Makes every record of the new graph reachable from the entry point on each of its levels.
/// Returns the number of links added.
pub(super) fn connect(
    level0: &mut WrittenLevel0<'_>,
    upper: &mut UpperLevels,
    entry_point: EntryPoint,
    metric: Metric,
    threads: NonZeroUsize,
    monitor: &Monitor<'_>,
) -> Result<u64> {
    let space = (metric, level0.shape.dimension());
    // Connecting replaces links that are not part of a spanning tree. With m = 1 there is no slot
    // to spare for that.
    if level0.shape.slots(1) > 1 {
        for level in 1..=entry_point.level {
            let mut level = upper.level(level, level0)?;
            let start = level.node(entry_point.id)?;
            crate::graph::connect::connect(&mut level, start, space, threads, monitor)?;
        }
    }
    crate::graph::connect::connect(level0, entry_point.id, space, threads, monitor)
}
