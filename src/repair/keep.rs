//! The graph that the index has, without the records that go.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::records::Chosen;
use super::threads::{self, Blocks};
use super::written::{UpperLevels, WrittenLevel0};
use crate::bits::Ranks;
use crate::chroma::layout::LinksHeader;
use crate::chroma::link_lists::{LinkLists, UpperElements};
use crate::chroma::record::{Level0, RecordLayout};
use crate::chroma::segment::Segment;
use crate::chroma::write::{EntryPoint, Shape};
use crate::error::{Error, Result};
use crate::graph::compact::{Bridge, Holed};
use crate::graph::distance::Metric;
use crate::graph::sketch::{Directions, Sketch};
use crate::io::atomic::DirectoryFile;
use crate::io::file::{FileWindow, InputFile};
use crate::memory;
use crate::progress::Monitor;

/// Bytes of records that a thread has in hand.
const BLOCK: usize = 512 << 10;

/// Bytes of vectors that the directions of sketches are found with.
const SAMPLE: usize = 2 << 20;

/// Vectors that they are found with, at most.
const SAMPLE_VECTORS: u32 = 1024;

/// Lists of upper levels that a thread has in hand.
const LISTS: usize = 256;

/// What is kept of an index.
pub(super) struct Keep<'k> {
    pub(super) segment: &'k Segment,
    pub(super) chosen: &'k Chosen,
    pub(super) shape: Shape,
    /// What distances are computed with. Vectors of the cosine metric are stored with length 1, so
    /// that this need not be one of three.
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
    /// Writes the records that stay to `out`, with their links, and gives their links on the upper
    /// levels.
    pub(super) fn run(&self, out: &DirectoryFile, monitor: &Monitor<'_>) -> Result<Kept> {
        let files = self.segment.files();
        let header = self.segment.header();
        let header = header.ok_or_else(|| Error::internal("links without a header"))?;
        let mut lists = files.read_link_lists(header)?;
        let old_upper = match &mut lists {
            Some(lists) => lists.elements(monitor)?,
            None => UpperElements::default(),
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
        let sketches = self.sketches(&silent)?;
        let file = files.level0.require()?;
        let graph = || -> Result<OldGraph<'_>> {
            Ok(OldGraph {
                file,
                layout: self.segment.layout(),
                count: self.segment.count(),
                live,
                sketches: &sketches,
                upper: &old_upper,
                lists: files.read_link_lists(header)?,
                bytes: Vec::new(),
            })
        };
        let bridged = self.write_level0(out, file, &graph, monitor)?;
        self.fill_upper(&mut upper, &graph, &silent)?;
        let mut entry_point = upper.top().unwrap_or(EntryPoint { id: 0, level: 0 });
        // The index's own, where it stays and is on the highest level.
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

    /// The sketches of all records, those that go included. None where no record goes.
    fn sketches(&self, monitor: &Monitor<'_>) -> Result<Vec<Sketch>> {
        let live = self.chosen.ranks();
        let count = live.count();
        if u64::from(count) == self.segment.count() {
            return Ok(Vec::new());
        }
        let dimension = self.shape.dimension();
        let most = SAMPLE / dimension.max(1).saturating_mul(size_of::<f32>());
        let most = u32::try_from(most)
            .unwrap_or(u32::MAX)
            .clamp(1, SAMPLE_VECTORS);
        let step = count.div_ceil(most).max(1);
        let mut sample = Vec::new();
        let ids = live.iter().step_by(step as usize).map(u64::from);
        let layout = self.segment.layout();
        let mut lookup = self
            .segment
            .files()
            .read_level0_for_lookups(layout, self.segment.count())?;
        for id in ids {
            memory::reserve(&mut sample, dimension, "hold a sample of the vectors")?;
            sample.extend_from_slice(lookup.record(id)?.vector);
        }
        let directions = Directions::of_sample(&sample, dimension)?;
        drop(sample);

        let all = usize::try_from(self.segment.count()).map_err(Error::internal)?;
        let mut sketches = memory::filled(all, Sketch::NONE, "hold a sketch of each record")?;
        let block = self.records_at_once(layout);
        let runs: Vec<_> = sketches.chunks_mut(block).map(Mutex::new).collect();
        let file = self.segment.files().level0.require()?;
        let mut states: Vec<_> = (0..self.threads.get())
            .map(|_| self.level0_of(file))
            .collect();
        let blocks = Blocks {
            total: self.segment.count(),
            size: block as u64,
        };
        threads::for_each_block(&mut states, blocks, monitor, |level0, number| {
            let first = number.saturating_mul(block as u64);
            let run = usize::try_from(number)
                .ok()
                .and_then(|number| runs.get(number));
            let mut run = run
                .and_then(|run| run.lock().ok())
                .ok_or_else(|| Error::internal("a run beyond the records"))?;
            let block = level0.block(first, block as u64)?;
            for (record, slot) in block.iter().zip(run.iter_mut()) {
                *slot = directions.sketch(record?.1.vector);
            }
            Ok(())
        })?;
        drop(runs);
        Ok(sketches)
    }

    fn level0_of<'f>(&self, file: &'f InputFile) -> Level0<FileWindow<'f>> {
        let layout = self.segment.layout();
        Level0::new(file.window(BLOCK), layout, self.segment.count()).with_blocks_of(BLOCK)
    }

    /// Makes the lists of neighbours. The fewer records stay, the farther it looks for each, so that
    /// the work as a whole is the same.
    fn bridge(&self) -> Bridge {
        let stay = u64::from(self.chosen.ranks().count()).max(1);
        let effort = self.segment.count().div_ceil(stay);
        let effort = usize::try_from(effort).unwrap_or(usize::MAX);
        Bridge::new(self.metric, self.shape.dimension(), effort)
    }

    fn records_at_once(&self, layout: RecordLayout) -> usize {
        (BLOCK / layout.size().max(1)).max(1)
    }

    /// The new ids of so many old records.
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
                let used = record
                    .neighbours
                    .iter()
                    .take(record.links.count.get().into());
                let own = used.map(|neighbour| neighbour.get());
                let inside = own.filter(|id| u64::from(*id) < self.segment.count());
                state.old.extend(inside);
                let goes = state.old.iter().any(|id| !live.contains(*id));
                state.bridged += u64::from(goes);
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
            size: LISTS as u64,
        };
        let lists = Mutex::new(lists.enumerate());
        let slots = self.shape.slots(1);
        threads::for_each_block(&mut states, blocks, monitor, |state, _| {
            let taken: Vec<_> = {
                let lists = lists.lock();
                let mut lists = lists.map_err(|_| Error::internal("a thread panicked"))?;
                lists.by_ref().take(LISTS).collect()
            };
            for (number, slice) in taken {
                let number = u32::try_from(number).map_err(Error::internal)?;
                let owner = owners.of(number);
                let (id, level) = owner.ok_or_else(|| Error::internal("a list of nobody"))?;
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
    level0: Level0<FileWindow<'f>>,
    graph: OldGraph<'f>,
    bridge: Bridge,
    old: Vec<u32>,
    list: Vec<u32>,
    out: Vec<u8>,
    bridged: u64,
}

struct UpperState<'f> {
    graph: OldGraph<'f>,
    bridge: Bridge,
    vector: Vec<f32>,
    old: Vec<u32>,
    list: Vec<u32>,
}

/// The graph of the index, read in no order.
struct OldGraph<'f> {
    file: &'f InputFile,
    layout: RecordLayout,
    count: u64,
    live: &'f Ranks,
    sketches: &'f [Sketch],
    upper: &'f UpperElements,
    lists: Option<LinkLists<FileWindow<'f>>>,
    bytes: Vec<u8>,
}

impl OldGraph<'_> {
    fn offset(&self, node: u32) -> u64 {
        (self.layout.size() as u64).saturating_mul(node.into())
    }

    /// Bytes of a record before the vector.
    fn list_size(&self) -> usize {
        size_of::<LinksHeader>().saturating_add(self.layout.max_m0().saturating_mul(4))
    }
}

impl Holed for OldGraph<'_> {
    fn is_live(&self, node: u32) -> bool {
        self.live.contains(node)
    }

    fn add_neighbours(&mut self, node: u32, layer: u8, neighbours: &mut Vec<u32>) -> Result<()> {
        if u64::from(node) >= self.count {
            return Ok(());
        }
        let count = self.count;
        let mut add = |used: u16, slots: &[U32]| {
            let ids = slots.iter().take(used.into()).map(|id| id.get());
            neighbours.extend(ids.filter(|id| u64::from(*id) < count));
        };
        if layer == 0 {
            let (size, offset) = (self.list_size(), self.offset(node));
            self.bytes.resize(size, 0);
            self.file.read_at(&mut self.bytes, offset)?;
            let (links, slots) = LinksHeader::read_from_prefix(&self.bytes)
                .map_err(|_| Error::internal("a short list"))?;
            add(
                links.count.get(),
                <[U32]>::ref_from_bytes(slots).map_err(Error::internal)?,
            );
        } else if let (Some(lists), Some(element)) = (&mut self.lists, self.upper.get(node)) {
            if element.level >= layer.into() {
                let (used, slots) = lists.list(element, layer.into())?;
                add(used, slots);
            }
        }
        Ok(())
    }

    fn read_vector(&mut self, node: u32, vector: &mut [f32]) -> Result<()> {
        let offset = self.offset(node).saturating_add(self.list_size() as u64);
        self.file.read_at(vector.as_mut_bytes(), offset)
    }

    fn sketch(&self, node: u32) -> &Sketch {
        self.sketches.get(node as usize).unwrap_or(&Sketch::NONE)
    }
}

/// Makes every record of the new graph reachable, on level 0 and, from the entry point, on those
/// above. Returns how many links that took.
pub(super) fn connect(
    level0: &mut WrittenLevel0<'_>,
    upper: &mut UpperLevels,
    entry_point: EntryPoint,
    metric: Metric,
    monitor: &Monitor<'_>,
) -> Result<u64> {
    let space = (metric, level0.shape.dimension());
    // A list of one slot cannot hold a tree and a link that is not part of it.
    if level0.shape.slots(1) > 1 {
        for level in 1..=entry_point.level {
            let mut level = upper.level(level, level0)?;
            let start = level.node(entry_point.id)?;
            crate::graph::connect::connect(&mut level, start, space, monitor)?;
        }
    }
    crate::graph::connect::connect(level0, entry_point.id, space, monitor)
}
