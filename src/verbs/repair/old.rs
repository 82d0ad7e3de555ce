//! The old graph, for random access.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::threads::{self, Blocks};
use super::written::NO_NEIGHBOUR;
use crate::base::bits::Ranks;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::graph::compact::PartlyDeletedGraph;
use crate::graph::sketch::{Directions, Sketch};
use crate::io::file::{FileWindow, InputFile};
use crate::io::mmap::Map;
use crate::segment::directory::Segment;
use crate::segment::layout::LinksHeader;
use crate::segment::link_lists::{LinkLists, UpperNodes};
use crate::segment::record::{RecordLayout, Records};

/// Limit on the bytes of vectors that the directions of sketches are computed from.
const MAX_SAMPLE_BYTES: usize = 2 << 20;

/// Limit on their number.
const MAX_SAMPLE_VECTORS: u32 = 1024;

/// Limit on the bytes of cached lists. The list of a dropped record is needed once for each record
/// that linked to it, and without a cache each time would be a read.
const MAX_LIST_BYTES: usize = 16 << 20;

/// The parts of the old graph that are held in memory. Empty if no record is dropped.
///
/// Memory: 24 bytes for each record, and at most 16 MiB.
#[derive(Debug, Default)]
pub(super) struct GraphCache {
    /// Sketches of all records, including dropped ones. They are read at random, for which large
    /// pages are faster.
    sketches: Option<Map>,
    /// The neighbours on level 0 of the first dropped records, as many as the limit admits.
    lists: Vec<u32>,
    /// Neighbours per list.
    slots: usize,
}

impl GraphCache {
    /// Reads all records. Each thread reads `block` bytes of them at a time.
    pub(super) fn read(
        segment: &Segment,
        live: &Ranks,
        block: usize,
        threads: NonZeroUsize,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let count = segment.count();
        // Without dropped records no list changes, and nothing is looked up.
        if u64::from(live.count()) == count {
            return Ok(Self::default());
        }
        let directions = directions(segment, live)?;
        let all = usize::try_from(count).map_err(Error::internal)?;
        let layout = segment.layout();
        let slots = layout.max_m0();
        let most = MAX_LIST_BYTES / slots.saturating_mul(size_of::<u32>()).max(1);
        let dropped = all.saturating_sub(live.count() as usize);
        let size = dropped.min(most).saturating_mul(slots);
        let mut lists = memory::filled(size, NO_NEIGHBOUR, "hold the links of dropped records")?;
        let file = segment.files().level0.require()?;
        let mut states: Vec<_> = (0..threads.get())
            .map(|_| Records::of_checked(file.window(block), layout, count).with_blocks_of(block))
            .collect();
        let stride = (block / layout.size().max(1)).max(1);
        let blocks = Blocks {
            total: count,
            size: stride as u64,
        };
        let size = all.saturating_mul(size_of::<Sketch>());
        let sketches = Map::filled(size, "hold a sketch of each record", |bytes| {
            let sketches = <[Sketch]>::mut_from_bytes(bytes).map_err(Error::internal)?;
            // Split both arrays into one disjoint part for each block.
            let mut runs = Vec::new();
            let mut rest = lists.as_mut_slice();
            let mut first = 0;
            for sketches in sketches.chunks_mut(stride) {
                let end = first + sketches.len();
                let before = |id| dropped_before(live, id).min(most);
                let own = before(end).saturating_sub(before(first));
                let (own, others) = rest
                    .split_at_mut_checked(own.saturating_mul(slots))
                    .ok_or_else(|| Error::internal("more dropped records than were counted"))?;
                rest = others;
                first = end;
                runs.push(Mutex::new((sketches, own)));
            }
            threads::for_each_block(&mut states, blocks, monitor, |level0, number| {
                let first = number.saturating_mul(stride as u64);
                let run = usize::try_from(number).ok().and_then(|at| runs.get(at));
                let mut run = run
                    .and_then(|run| run.lock().ok())
                    .ok_or_else(|| Error::internal("a run beyond the records"))?;
                let (sketches, lists) = &mut *run;
                let mut lists = lists.chunks_exact_mut(slots.max(1));
                let block = level0.block(first, stride as u64)?;
                for (record, sketch) in block.iter().zip(sketches.iter_mut()) {
                    let (id, record) = record?;
                    *sketch = directions.sketch(record.vector);
                    if u32::try_from(id).is_ok_and(|id| live.contains(id)) {
                        continue;
                    }
                    let neighbours = existing(record.links.count.get(), record.neighbours, count);
                    let list = lists.next().into_iter().flatten();
                    // The rest of the slots stays NO_NEIGHBOUR.
                    list.zip(neighbours).for_each(|(slot, id)| *slot = id);
                }
                Ok(())
            })
        })?;
        Ok(Self {
            sketches: Some(sketches),
            lists,
            slots,
        })
    }

    /// Sketches by id.
    pub(super) fn sketches(&self) -> Result<&[Sketch]> {
        match &self.sketches {
            Some(map) => <[Sketch]>::ref_from_bytes(map).map_err(Error::internal),
            None => Ok(&[]),
        }
    }

    /// Returns the neighbours on level 0 of a dropped record, if they are cached.
    fn list(&self, live: &Ranks, node: u32) -> Option<&[u32]> {
        let start = dropped_before(live, node as usize).checked_mul(self.slots)?;
        self.lists.get(start..start.checked_add(self.slots)?)
    }
}

/// Returns the number of dropped records before `id`.
fn dropped_before(live: &Ranks, id: usize) -> usize {
    let rank = live.rank(u32::try_from(id).unwrap_or(u32::MAX));
    id.saturating_sub(rank as usize)
}

/// Returns the ids in the first `used` slots of a list. Ids of `count` or more are skipped.
pub(super) fn existing(used: u16, slots: &[U32], count: u64) -> impl Iterator<Item = u32> + '_ {
    let used = slots.iter().take(used.into());
    used.map(|id| id.get())
        .filter(move |id| u64::from(*id) < count)
}

/// Returns the directions in which a sample of the kept records varies most.
fn directions(segment: &Segment, live: &Ranks) -> Result<Directions> {
    let layout = segment.layout();
    let dimension = layout.dimension();
    let most = MAX_SAMPLE_BYTES / dimension.max(1).saturating_mul(size_of::<f32>());
    let most = u32::try_from(most)
        .unwrap_or(u32::MAX)
        .clamp(1, MAX_SAMPLE_VECTORS);
    // Evenly spaced, over all kept records.
    let step = live.count().div_ceil(most).max(1);
    let mut sample = Vec::new();
    let files = segment.files();
    let mut lookup = files.read_level0_for_lookups(layout, segment.count())?;
    for id in live.iter().step_by(step as usize) {
        memory::reserve(&mut sample, dimension, "hold a sample of the vectors")?;
        sample.extend_from_slice(lookup.record(id.into())?.vector);
    }
    Directions::of_sample(&sample, dimension)
}

/// The graph, as read by one thread.
pub(super) struct OldGraph<'f> {
    pub(super) file: &'f InputFile,
    pub(super) layout: RecordLayout,
    pub(super) count: u64,
    pub(super) live: &'f Ranks,
    pub(super) cache: &'f GraphCache,
    /// The cached sketches, by id.
    pub(super) sketches: &'f [Sketch],
    pub(super) upper: &'f UpperNodes,
    pub(super) lists: Option<LinkLists<FileWindow<'f>>>,
    pub(super) bytes: Vec<u8>,
}

impl OldGraph<'_> {
    fn offset(&self, node: u32) -> u64 {
        (self.layout.size() as u64).saturating_mul(node.into())
    }

    /// Bytes of a record before its vector: the list of level 0.
    fn list_size(&self) -> usize {
        size_of::<LinksHeader>().saturating_add(self.layout.max_m0().saturating_mul(4))
    }
}

impl PartlyDeletedGraph for OldGraph<'_> {
    #[inline]
    fn is_live(&self, node: u32) -> bool {
        self.live.contains(node)
    }

    fn add_neighbours(&mut self, node: u32, layer: u8, neighbours: &mut Vec<u32>) -> Result<()> {
        if u64::from(node) >= self.count {
            return Ok(());
        }
        if layer == 0 {
            if !self.is_live(node) {
                if let Some(list) = self.cache.list(self.live, node) {
                    neighbours.extend(list.iter().copied().take_while(|id| *id != NO_NEIGHBOUR));
                    return Ok(());
                }
            }
            // Reads the list alone, without the vector.
            let (size, offset) = (self.list_size(), self.offset(node));
            self.bytes.resize(size, 0);
            self.file.read_at(&mut self.bytes, offset)?;
            let (links, slots) = LinksHeader::read_from_prefix(&self.bytes)
                .map_err(|_| Error::internal("a short list"))?;
            let slots = <[U32]>::ref_from_bytes(slots).map_err(Error::internal)?;
            neighbours.extend(existing(links.count.get(), slots, self.count));
        } else if let (Some(lists), Some(element)) = (&mut self.lists, self.upper.get(node)) {
            if element.level >= layer.into() {
                let (used, slots) = lists.list(element, layer.into())?;
                neighbours.extend(existing(used, slots, self.count));
            }
        }
        Ok(())
    }

    fn read_vector(&mut self, node: u32, vector: &mut [f32]) -> Result<()> {
        let offset = self.offset(node).saturating_add(self.list_size() as u64);
        self.file.read_at(vector.as_mut_bytes(), offset)
    }

    #[inline]
    fn sketch(&self, node: u32) -> &Sketch {
        let sketch = self.sketches.get(node as usize);
        sketch.unwrap_or(&Sketch::NONE)
    }
}
