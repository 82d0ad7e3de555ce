//! The graph that the index has, read in no order.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::threads::{self, Blocks};
use super::written::NONE;
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
use crate::segment::link_lists::{LinkLists, UpperElements};
use crate::segment::record::{Level0, RecordLayout};

/// Bytes of vectors that the directions of sketches are found with.
const SAMPLE: usize = 2 << 20;

/// Vectors that they are found with, at most.
const SAMPLE_VECTORS: u32 = 1024;

/// Bytes of lists that are held, at most. What goes is asked for by all that it was a neighbour of,
/// and each time would be a read.
const LISTS_BYTES: usize = 16 << 20;

/// What is held in memory of the old graph. Nothing where no record goes.
///
/// Memory: 24 bytes for each record, and at most 16 MiB.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Sketches of all records, those that go included. They are read in no order, for which large
    /// pages serve.
    sketches: Option<Map>,
    /// The neighbours on level 0 of the first of the records that go.
    lists: Vec<u32>,
    slots: usize,
}

impl Held {
    /// Reads all records, `block` bytes of them at a time on each thread.
    pub(super) fn read(
        segment: &Segment,
        live: &Ranks,
        block: usize,
        threads: NonZeroUsize,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let count = segment.count();
        if u64::from(live.count()) == count {
            return Ok(Self::default());
        }
        let directions = directions(segment, live)?;
        let all = usize::try_from(count).map_err(Error::internal)?;
        let layout = segment.layout();
        let slots = layout.max_m0();
        let most = LISTS_BYTES / slots.saturating_mul(size_of::<u32>()).max(1);
        let gone = all.saturating_sub(live.count() as usize);
        let size = gone.min(most).saturating_mul(slots);
        let mut lists = memory::filled(size, NONE, "hold the links of records that go")?;
        let file = segment.files().level0.require()?;
        let mut states: Vec<_> = (0..threads.get())
            .map(|_| Level0::new(file.window(block), layout, count).with_blocks_of(block))
            .collect();
        let stride = (block / layout.size().max(1)).max(1);
        let blocks = Blocks {
            total: count,
            size: stride as u64,
        };
        let size = all.saturating_mul(size_of::<Sketch>());
        let sketches = Map::filled(size, "hold a sketch of each record", |bytes| {
            let sketches = <[Sketch]>::mut_from_bytes(bytes).map_err(Error::internal)?;
            let mut runs = Vec::new();
            let mut rest = lists.as_mut_slice();
            let mut first = 0;
            for sketches in sketches.chunks_mut(stride) {
                let end = first + sketches.len();
                let before = |id| gone_before(live, id).min(most);
                let own = before(end).saturating_sub(before(first));
                let (own, others) = rest
                    .split_at_mut_checked(own.saturating_mul(slots))
                    .ok_or_else(|| Error::internal("more records go than were counted"))?;
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

    /// The neighbours on level 0 of a record that goes, if they are held.
    fn list(&self, live: &Ranks, node: u32) -> Option<&[u32]> {
        let start = gone_before(live, node as usize).checked_mul(self.slots)?;
        self.lists.get(start..start.checked_add(self.slots)?)
    }
}

/// How many of the records before `id` go.
fn gone_before(live: &Ranks, id: usize) -> usize {
    let rank = live.rank(u32::try_from(id).unwrap_or(u32::MAX));
    id.saturating_sub(rank as usize)
}

/// The ids in the first `used` slots of a list, except those that an index of `count` records does
/// not have.
pub(super) fn existing(used: u16, slots: &[U32], count: u64) -> impl Iterator<Item = u32> + '_ {
    let used = slots.iter().take(used.into());
    used.map(|id| id.get())
        .filter(move |id| u64::from(*id) < count)
}

/// What a sample of the records that stay varies in most.
fn directions(segment: &Segment, live: &Ranks) -> Result<Directions> {
    let layout = segment.layout();
    let dimension = layout.dimension();
    let most = SAMPLE / dimension.max(1).saturating_mul(size_of::<f32>());
    let most = u32::try_from(most)
        .unwrap_or(u32::MAX)
        .clamp(1, SAMPLE_VECTORS);
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

/// The graph as one thread reads it.
pub(super) struct OldGraph<'f> {
    pub(super) file: &'f InputFile,
    pub(super) layout: RecordLayout,
    pub(super) count: u64,
    pub(super) live: &'f Ranks,
    pub(super) held: &'f Held,
    /// Those that are held.
    pub(super) sketches: &'f [Sketch],
    pub(super) upper: &'f UpperElements,
    pub(super) lists: Option<LinkLists<FileWindow<'f>>>,
    pub(super) bytes: Vec<u8>,
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
                if let Some(list) = self.held.list(self.live, node) {
                    neighbours.extend(list.iter().copied().take_while(|id| *id != NONE));
                    return Ok(());
                }
            }
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
