//! `links: build`: a new graph of the kept records.

use std::num::NonZeroUsize;

use zerocopy::FromBytes;

use super::records::Chosen;
use super::written::{UpperLevels, WrittenLevel0};
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::graph::connect::Layer;
use crate::graph::distance::{with_space, Metric, Vectors};
use crate::graph::native::Native;
use crate::graph::partition::Partition;
use crate::graph::Graph;
use crate::io::atomic::DirectoryFile;
use crate::io::mmap::Map;
use crate::segment::directory::Segment;
use crate::segment::write::{EntryPoint, Shape};

/// Bytes of records per write.
const WRITE_BYTES: usize = 1 << 20;

/// Nodes between two checks for cancellation.
const CHECK_INTERVAL: u32 = 1024;

/// Writes the kept records to `out`, without links.
pub(super) fn write_records(
    segment: &Segment,
    chosen: &Chosen,
    shape: Shape,
    out: &DirectoryFile,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut offset = 0;
    segment.level0()?.for_each(monitor, |id, record| {
        if chosen.contains(id) {
            let label = u32::try_from(record.label).map_err(Error::internal)?;
            shape.push_record(&mut bytes, &[], record.vector, label)?;
            if bytes.len() >= WRITE_BYTES {
                out.write_at(&bytes, offset)?;
                offset += bytes.len() as u64;
                bytes.clear();
            }
        }
        Ok(())
    })?;
    out.write_at(&bytes, offset)
}

/// Builds a graph of the written records, and writes their links.
///
/// The vectors are not copied: the file is mapped, and they are compared in place.
pub(super) fn build(
    level0: &mut WrittenLevel0<'_>,
    metric: Metric,
    threads: NonZeroUsize,
    monitor: &Monitor<'_>,
) -> Result<(UpperLevels, EntryPoint)> {
    let shape = level0.shape;
    let size = shape.record_size();
    let bytes = size
        .checked_mul(level0.count as usize)
        .ok_or_else(|| Error::out_of_memory("map the new records", None))?;
    let map =
        Map::new(level0.file.file(), 0, bytes).map_err(level0.file.error("map into memory"))?;
    // Links, labels and flags are read as f32 here, but never used as such: `Vectors` strides over
    // them.
    let elements = <[f32]>::ref_from_bytes(&map)
        .map_err(|_| Error::internal("the map of the records is not aligned"))?;
    let (element, start) = (size_of::<f32>(), shape.list_size(0));
    let vectors =
        Vectors::in_records(elements, shape.dimension(), start / element, size / element)?;
    let graph = with_space(
        metric,
        vectors,
        Partition(Native {
            m: shape.m(),
            m0: shape.slots(0),
            ef_construction: usize::try_from(shape.ef_construction()).map_err(Error::internal)?,
            // Fixed, so that a repair is reproducible.
            seed: 0,
            threads,
            monitor,
        }),
    )??;
    // Unmapped before the links are written to the same file.
    drop(map);
    let nodes = 0..level0.count;
    let on_upper = nodes.clone().map(|node| (node, graph.level(node)));
    let on_upper = on_upper.filter(|(_, level)| *level > 0);
    let mut upper = UpperLevels::new(shape.m(), on_upper)?;
    let mut list = Vec::new();
    let (owners, lists) = upper.lists_mut();
    for (number, slots) in (0..).zip(lists) {
        let owner = owners.of(number);
        let (node, level) = owner.ok_or_else(|| Error::internal("a list without a node"))?;
        graph.neighbours(node, level, &mut list);
        for (slot, neighbour) in slots.iter_mut().zip(&list) {
            *slot = *neighbour;
        }
    }
    for node in nodes {
        if node % CHECK_INTERVAL == 0 {
            monitor.check()?;
        }
        graph.neighbours(node, 0, &mut list);
        level0.write(node, &list)?;
    }
    let id = graph.entry_point().unwrap_or_default();
    let level = graph.level(id);
    Ok((upper, EntryPoint { id, level }))
}
