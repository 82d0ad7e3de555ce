//! The graph of the new directory, while it is being written.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use crate::base::memory;
use crate::error::{Error, Result};
use crate::graph::connect::Layer;
use crate::io::atomic::DirectoryFile;
use crate::io::file::read_exact_at;
use crate::segment::layout::LinksHeader;
use crate::segment::write::{EntryPoint, Shape};

/// Marks the end of a list that is not full. No internal id reaches it.
pub(super) const NO_NEIGHBOUR: u32 = u32::MAX;

/// The records of the new `data_level0.bin`; their links can be changed.
#[derive(Debug)]
pub(super) struct WrittenLevel0<'f> {
    pub(super) file: &'f DirectoryFile,
    pub(super) shape: Shape,
    pub(super) count: u32,
    bytes: Vec<u8>,
}

impl<'f> WrittenLevel0<'f> {
    pub(super) fn new(file: &'f DirectoryFile, shape: Shape, count: u32) -> Self {
        Self {
            file,
            shape,
            count,
            bytes: Vec::new(),
        }
    }

    fn offset(&self, node: u32) -> Result<u64> {
        if node >= self.count {
            return Err(Error::internal("a node that the new index does not have"));
        }
        (self.shape.record_size() as u64)
            .checked_mul(node.into())
            .ok_or_else(|| Error::internal("an offset beyond 64 bits"))
    }
}

impl Layer for WrittenLevel0<'_> {
    fn len(&self) -> u32 {
        self.count
    }

    fn slots(&self) -> usize {
        self.shape.slots(0)
    }

    fn read(&self, node: u32, list: &mut Vec<u32>) -> Result<()> {
        let offset = self.offset(node)?;
        // Read in place: the list's header takes 4 bytes, the size of a slot, and is removed below.
        list.clear();
        list.resize(self.slots().saturating_add(1), 0);
        read_exact_at(self.file.file(), list.as_mut_bytes(), offset)
            .map_err(self.file.error("read"))?;
        let links = LinksHeader::read_from_prefix(list.as_bytes());
        let (links, _) = links.map_err(|_| Error::internal("a short list"))?;
        list.remove(0);
        list.truncate(links.count.get().into());
        for neighbour in list {
            *neighbour = u32::from_le(*neighbour);
        }
        Ok(())
    }

    fn write(&mut self, node: u32, list: &[u32]) -> Result<()> {
        let offset = self.offset(node)?;
        self.bytes.clear();
        self.shape.push_list(&mut self.bytes, 0, list)?;
        self.file.write_at(&self.bytes, offset)
    }

    fn read_vector(&self, node: u32, vector: &mut [f32]) -> Result<()> {
        let offset = self.offset(node)?;
        let offset = offset.saturating_add(self.shape.list_size(0) as u64);
        read_exact_at(self.file.file(), vector.as_mut_bytes(), offset)
            .map_err(self.file.error("read"))
    }
}

/// The upper levels of the new graph.
///
/// Memory: 9 bytes for each of their nodes (one in m), and 4·m for each list.
#[derive(Debug)]
pub(super) struct UpperLevels {
    m: usize,
    /// Ascending.
    ids: Vec<u32>,
    levels: Vec<u8>,
    /// For each node, the number of lists before its own.
    starts: Vec<u32>,
    /// m neighbours per list; the lists of a node are contiguous, from level 1 up.
    neighbours: Vec<u32>,
}

/// Purpose of the allocations, for error messages.
const ACTION: &str = "hold the upper levels of the graph";

impl UpperLevels {
    /// Creates the levels without links. The ids of `elements` are ascending.
    pub(super) fn new(m: usize, elements: impl Iterator<Item = (u32, u8)>) -> Result<Self> {
        let mut upper = Self {
            m,
            ids: Vec::new(),
            levels: Vec::new(),
            starts: Vec::new(),
            neighbours: Vec::new(),
        };
        let mut lists = 0_u32;
        for (id, level) in elements {
            memory::reserve(&mut upper.ids, 1, ACTION)?;
            memory::reserve(&mut upper.levels, 1, ACTION)?;
            memory::reserve(&mut upper.starts, 1, ACTION)?;
            upper.ids.push(id);
            upper.levels.push(level);
            upper.starts.push(lists);
            lists = lists
                .checked_add(level.into())
                .ok_or_else(|| Error::out_of_memory(ACTION, None))?;
        }
        let size = (lists as usize)
            .checked_mul(m)
            .ok_or_else(|| Error::out_of_memory(ACTION, None))?;
        upper.neighbours = memory::filled(size, NO_NEIGHBOUR, ACTION)?;
        Ok(upper)
    }

    /// Returns all lists, and a lookup of the node and level of each.
    pub(super) fn lists_mut(&mut self) -> (Owners<'_>, std::slice::ChunksExactMut<'_, u32>) {
        let owners = Owners {
            ids: &self.ids,
            starts: &self.starts,
        };
        (owners, self.neighbours.chunks_exact_mut(self.m.max(1)))
    }

    /// Returns a node of the highest level.
    pub(super) fn top(&self) -> Option<EntryPoint> {
        let elements = self.ids.iter().zip(&self.levels);
        // Of several the lowest id, so that the result is deterministic.
        let top = elements.max_by_key(|(id, level)| (**level, std::cmp::Reverse(**id)));
        top.map(|(id, level)| EntryPoint {
            id: *id,
            level: *level,
        })
    }

    /// Returns the range of `neighbours` for the node at position `at`.
    fn slots_of(&self, at: usize, level: u8) -> Option<Range<usize>> {
        let list = (*self.starts.get(at)? as usize)
            .checked_add(level.into())?
            .checked_sub(1)?;
        let start = list.checked_mul(self.m)?;
        Some(start..start.checked_add(self.m)?)
    }

    /// Returns one of the levels as a graph of its own.
    pub(super) fn level<'u, 'f>(
        &'u mut self,
        level: u8,
        level0: &'u mut WrittenLevel0<'f>,
    ) -> Result<UpperLevel<'u, 'f>> {
        let mut members = Vec::new();
        for (at, own) in self.levels.iter().enumerate() {
            if *own >= level {
                memory::reserve(&mut members, 1, ACTION)?;
                members.push(u32::try_from(at).map_err(Error::internal)?);
            }
        }
        Ok(UpperLevel {
            upper: self,
            level,
            members,
            level0,
        })
    }

    /// Appends the entry of `link_lists.bin` for the record `id`: the size of its lists, and the
    /// lists. `at` is the position of the first node that is not yet written; returns the next one.
    pub(super) fn push_element(
        &self,
        out: &mut Vec<u8>,
        shape: &Shape,
        id: u32,
        at: usize,
    ) -> Result<usize> {
        // A record on level 0 only: a size of 0, and no lists.
        if self.ids.get(at) != Some(&id) {
            out.extend_from_slice(&0_u32.to_le_bytes());
            return Ok(at);
        }
        let level = self.levels.get(at).copied().unwrap_or_default();
        let size = shape.list_size(1).saturating_mul(level.into());
        let size = u32::try_from(size).map_err(Error::internal)?;
        out.extend_from_slice(&size.to_le_bytes());
        for level in 1..=level {
            let slots = self.slots_of(at, level);
            let slots = slots.and_then(|slots| self.neighbours.get(slots));
            let slots = slots.unwrap_or_default();
            let used = slots.iter().take_while(|id| **id != NO_NEIGHBOUR).count();
            shape.push_list(out, level, slots.get(..used).unwrap_or_default())?;
        }
        Ok(at.saturating_add(1))
    }
}

/// The node and level of each list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners<'u> {
    ids: &'u [u32],
    starts: &'u [u32],
}

impl Owners<'_> {
    pub(super) fn of(&self, list: u32) -> Option<(u32, u8)> {
        // The last node whose lists start at or before this one.
        let at = self
            .starts
            .partition_point(|start| *start <= list)
            .checked_sub(1)?;
        // The first list of a node is the one on level 1.
        let before = list.checked_sub(*self.starts.get(at)?)?;
        Some((
            *self.ids.get(at)?,
            u8::try_from(before).ok()?.checked_add(1)?,
        ))
    }
}

/// One of the upper levels.
#[derive(Debug)]
pub(super) struct UpperLevel<'u, 'f> {
    upper: &'u mut UpperLevels,
    level: u8,
    /// Positions in `ids` of the nodes on the level.
    members: Vec<u32>,
    level0: &'u mut WrittenLevel0<'f>,
}

impl UpperLevel<'_, '_> {
    fn id(&self, node: u32) -> Result<u32> {
        let at = self.members.get(node as usize);
        let id = at.and_then(|at| self.upper.ids.get(*at as usize));
        id.copied()
            .ok_or_else(|| Error::internal("a node off the level"))
    }

    /// Returns the number of a node within the level, by its internal id.
    pub(super) fn node(&self, id: u32) -> Result<u32> {
        let ids = &self.upper.ids;
        let node = self
            .members
            .binary_search_by_key(&Some(&id), |at| ids.get(*at as usize))
            .map_err(|_| Error::internal("a neighbour that is not on the level"))?;
        u32::try_from(node).map_err(Error::internal)
    }

    fn slots_of(&self, node: u32) -> Result<Range<usize>> {
        let at = self.members.get(node as usize).copied();
        at.and_then(|at| self.upper.slots_of(at as usize, self.level))
            .filter(|slots| slots.end <= self.upper.neighbours.len())
            .ok_or_else(|| Error::internal("a node off the level"))
    }
}

impl Layer for UpperLevel<'_, '_> {
    fn len(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    fn slots(&self) -> usize {
        self.upper.m
    }

    fn read(&self, node: u32, list: &mut Vec<u32>) -> Result<()> {
        list.clear();
        let slots = self.upper.neighbours.get(self.slots_of(node)?);
        let slots = slots.unwrap_or_default();
        list.extend(slots.iter().copied().take_while(|id| *id != NO_NEIGHBOUR));
        for neighbour in list {
            *neighbour = self.node(*neighbour)?;
        }
        Ok(())
    }

    fn write(&mut self, node: u32, list: &[u32]) -> Result<()> {
        let ids: Vec<u32> = list
            .iter()
            .map(|node| self.id(*node))
            .collect::<Result<_>>()?;
        let slots = self.slots_of(node)?;
        let slots = self.upper.neighbours.get_mut(slots).into_iter().flatten();
        let ids = ids.into_iter().chain(std::iter::repeat(NO_NEIGHBOUR));
        for (slot, id) in slots.zip(ids) {
            *slot = id;
        }
        Ok(())
    }

    fn read_vector(&self, node: u32, vector: &mut [f32]) -> Result<()> {
        let id = self.id(node)?;
        self.level0.read_vector(id, vector)
    }
}
