//! Reads the file section by section.
//!
//! [`Layout::read`] checks everything that takes constant time: the bounds of the sections, the
//! entry point and the offset of the labels. Neighbour lists are checked when a [`View`] reads
//! them. A walk over a damaged file ends with an error that names the problem, and never reads
//! outside of the file.

use std::path::Path;

use zerocopy::little_endian::{U32, U64};
use zerocopy::FromBytes;

use super::layout::{
    Connection, RawHeader, RawPayloadHeader, StatedMetric, LABEL_SIZE, MAGIC, NO_ENTRY_POINT,
    VECTORS_OFFSET, VERSION,
};
use crate::error::{Error, Result};
use crate::graph::candidate::Candidate;
use crate::graph::distance::Metric;
use crate::io::source::Source;

/// Maximum dimension: a vector takes less than 2 GiB, as in a segment.
const MAX_DIMENSION: usize = (1 << 29) - 1;

const F32_SIZE: u64 = size_of::<f32>() as u64;
const LEVEL_SIZE: u64 = size_of::<U32>() as u64;
const OFFSET_SIZE: u64 = size_of::<U64>() as u64;
const COUNT_SIZE: u64 = size_of::<U32>() as u64;
const CONNECTION_SIZE: u64 = size_of::<Connection>() as u64;

/// The header's fields and the offsets of the sections, checked against the length of the file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) nodes: u32,
    /// Number of components per vector; at least 1 if there are nodes.
    pub(crate) dimension: usize,
    pub(crate) m: u64,
    pub(crate) m0: u64,
    pub(crate) ef_construction: u64,
    /// `None` if there are no nodes.
    pub(crate) entry_point: Option<EntryPoint>,
    /// `None` if the file does not state it.
    pub(crate) metric: Option<Metric>,
    stated_entry_point: u64,
    stated_level: u64,
    levels: u64,
    offsets: u64,
    connections: u64,
    /// End of the last node's lists.
    connections_end: u64,
    /// Offset of the first label; `None` if the file has no labels.
    labels: Option<u64>,
    /// End of the labels.
    pub(crate) end: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPoint {
    pub(crate) node: u32,
    pub(crate) level: u8,
}

/// Returns true if a file starts like a `.hnsw` file.
pub(crate) fn has_magic<S: Source>(source: &mut S) -> Result<bool> {
    Ok(source.len() >= MAGIC.len() as u64 && source.bytes(0, MAGIC.len())? == MAGIC)
}

impl Layout {
    /// Reads and checks the header, the entry point and the position of the labels.
    ///
    /// `path` names the file in errors.
    pub(crate) fn read<S: Source>(source: &mut S, path: &Path) -> Result<Self> {
        let mut layout = Self::read_header(source, path)?;
        layout.read_entry_point(source, path)?;
        layout.find_labels(source, path)?;
        Ok(layout)
    }

    /// Reads and checks the header alone; entry point and labels are left out.
    pub(crate) fn read_header<S: Source>(source: &mut S, path: &Path) -> Result<Self> {
        let len = source.len();
        let corrupt = |field: &'static str, found: &dyn ToString, expected: &dyn ToString| {
            Error::corrupt(path, field, found.to_string(), expected.to_string())
        };
        if len < VECTORS_OFFSET {
            return Err(corrupt(
                "length",
                &format!("{len} bytes"),
                &format!("at least {VECTORS_OFFSET}, for the header"),
            ));
        }
        let header = RawHeader::read_from_bytes(source.bytes(0, size_of::<RawHeader>())?)
            .map_err(|_| Error::internal("the header is not as long as it was asked for"))?;
        if header.magic != MAGIC {
            return Err(corrupt(
                "magic",
                &header.magic.escape_ascii(),
                &MAGIC.escape_ascii(),
            ));
        }
        let unsupported = |field: &'static str, found: u64, expected: String| {
            Error::unsupported(path, field, found, expected)
        };
        if header.version.get() != VERSION {
            return Err(unsupported(
                "version",
                header.version.get().into(),
                VERSION.to_string(),
            ));
        }
        let metric = match header.extension.metric() {
            StatedMetric::Nothing => None,
            StatedMetric::Metric(metric) => Some(metric),
            StatedMetric::UnknownCode(code) => {
                return Err(corrupt("metric", &code, &"a code from 1 to 5"))
            }
            StatedMetric::UnknownVersion(version) => {
                return Err(unsupported(
                    "version of the metric's field",
                    version.into(),
                    "1".into(),
                ))
            }
        };

        let (n, dimension) = (header.len.get(), header.dimension.get());
        if n > 0 && dimension == 0 {
            return Err(corrupt("dimension", &0, &"at least 1"));
        }
        let sections = || {
            let vectors = n.checked_mul(dimension)?.checked_mul(F32_SIZE)?;
            let levels = VECTORS_OFFSET.checked_add(vectors)?;
            let offsets = levels.checked_add(n.checked_mul(LEVEL_SIZE)?)?;
            let connections = offsets.checked_add(n.checked_mul(OFFSET_SIZE)?)?;
            // Each node has at least an empty list on level 0.
            let least = connections.checked_add(n.checked_mul(COUNT_SIZE)?)?;
            Some((levels, offsets, connections, least))
        };
        let sections = sections().filter(|(_, _, _, least)| *least <= len);
        let Some((levels, offsets, connections, _)) = sections else {
            return Err(corrupt(
                "length",
                &format!("{len} bytes"),
                &format!("more, for {n} vectors of dimension {dimension} and their lists"),
            ));
        };
        let nodes = u32::try_from(n)
            .ok()
            .filter(|nodes| *nodes <= Candidate::MAX_NODES)
            .ok_or_else(|| {
                let expected = format!("at most {}", Candidate::MAX_NODES);
                unsupported("number of vectors", n, expected)
            })?;
        // In a file without nodes, its length does not bound the dimension.
        let dimension = usize::try_from(dimension)
            .ok()
            .filter(|dimension| *dimension <= MAX_DIMENSION)
            .ok_or_else(|| {
                let expected = format!("at most {MAX_DIMENSION}");
                corrupt("dimension", &dimension, &expected)
            })?;

        Ok(Self {
            nodes,
            dimension,
            m: header.m.get(),
            m0: header.m0.get(),
            ef_construction: header.ef_construction.get(),
            entry_point: None,
            metric,
            stated_entry_point: header.entry_point.get(),
            stated_level: header.entry_point_level.get(),
            levels,
            offsets,
            connections,
            connections_end: if nodes == 0 { connections } else { len },
            labels: None,
            end: len,
        })
    }

    /// Checks the entry point against the table of levels.
    pub(crate) fn read_entry_point<S: Source>(
        &mut self,
        source: &mut S,
        path: &Path,
    ) -> Result<()> {
        let (stated, nodes) = (self.stated_entry_point, self.nodes);
        let node = u32::try_from(stated).ok().filter(|node| *node < nodes);
        let Some(node) = node else {
            let found = match stated {
                NO_ENTRY_POINT if nodes == 0 => return Ok(()),
                NO_ENTRY_POINT => "none".to_string(),
                id => format!("node {id}"),
            };
            let expected = match nodes {
                0 => "none, as there are no vectors".to_string(),
                nodes => format!("a node below {nodes}"),
            };
            return Err(Error::corrupt(path, "entry point", found, expected));
        };
        let level = View::new(&mut *source, self, path).level(node)?;
        if self.stated_level != u64::from(level) {
            return Err(Error::corrupt(
                path,
                "level of the entry point",
                self.stated_level,
                format!("{level}, as in the table of levels"),
            ));
        }
        self.entry_point = Some(EntryPoint { node, level });
        Ok(())
    }

    /// Locates the labels, which follow the last node's lists.
    pub(crate) fn find_labels<S: Source>(&mut self, source: &mut S, path: &Path) -> Result<()> {
        if let Some(last) = self.nodes.checked_sub(1) {
            self.connections_end = View::new(&mut *source, self, path).end_of_connections(last)?;
        }
        const HEADER_SIZE: usize = size_of::<RawPayloadHeader>();
        let start = self.connections_end.saturating_add(HEADER_SIZE as u64);
        let left = source.len().saturating_sub(start);
        if source.len() < start {
            return Err(Error::corrupt(
                path,
                "length",
                format!("{} bytes", source.len()),
                format!("at least {start}, for the header of the labels"),
            ));
        }
        let bytes = source.bytes(self.connections_end, HEADER_SIZE)?;
        let header = RawPayloadHeader::read_from_bytes(bytes)
            .map_err(|_| Error::internal("the header is not as long as it was asked for"))?;
        let (count, stride) = (header.count.get(), header.stride.get());
        if count == 0 {
            self.end = start;
            return Ok(());
        }
        if count != u64::from(self.nodes) {
            return Err(Error::corrupt(
                path,
                "number of labels",
                count,
                format!("{}, one for each vector, or none", self.nodes),
            ));
        }
        if stride != LABEL_SIZE {
            return Err(Error::unsupported(
                path,
                "bytes of a label",
                stride,
                LABEL_SIZE.to_string(),
            ));
        }
        // Cannot overflow: the count equals the number of nodes, and each has more bytes in the
        // file.
        let size = count.saturating_mul(LABEL_SIZE);
        if left < size {
            return Err(Error::corrupt(
                path,
                "length",
                format!("{} bytes", source.len()),
                format!("at least {}, for the labels", start.saturating_add(size)),
            ));
        }
        self.labels = Some(start);
        self.end = start.saturating_add(size);
        Ok(())
    }

    /// Range of the neighbour lists in the file.
    pub(crate) fn connections(&self) -> std::ops::Range<u64> {
        self.connections..self.connections_end
    }

    /// Returns true if nodes have labels.
    pub(crate) fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Offset of a node's vector.
    pub(crate) fn vector_offset(&self, node: u32) -> u64 {
        // Cannot overflow: `read` has checked the last node.
        VECTORS_OFFSET.wrapping_add(u64::from(node).wrapping_mul(self.vector_size() as u64))
    }

    /// Size of a vector in bytes.
    pub(crate) fn vector_size(&self) -> usize {
        self.dimension.wrapping_mul(size_of::<f32>())
    }

    /// Offset of a node's entry in the table of offsets.
    pub(crate) fn offset_offset(&self, node: u32) -> u64 {
        self.offsets
            .wrapping_add(u64::from(node).wrapping_mul(OFFSET_SIZE))
    }
}

/// A neighbour list, checked to be inside the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub(crate) node: u32,
    pub(crate) layer: u8,
    /// Offset of the first link.
    start: u64,
    pub(crate) count: usize,
}

impl List {
    /// Size in bytes of a list with this many links, including its count.
    pub(crate) fn size_of(connections: usize) -> usize {
        connections
            .saturating_mul(size_of::<Connection>())
            .saturating_add(size_of::<U32>())
    }
}

/// Access to the sections of a file, each checked when it is read.
#[derive(Debug)]
pub(crate) struct View<'v, S> {
    source: S,
    layout: &'v Layout,
    path: &'v Path,
}

impl<'v, S: Source> View<'v, S> {
    pub(crate) fn new(source: S, layout: &'v Layout, path: &'v Path) -> Self {
        Self {
            source,
            layout,
            path,
        }
    }

    pub(crate) fn layout(&self) -> &'v Layout {
        self.layout
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    #[cold]
    fn corrupt(
        &self,
        field: impl FnOnce() -> String,
        found: impl ToString,
        expected: impl ToString,
    ) -> Error {
        Error::corrupt(self.path, field(), found, expected)
    }

    #[inline(always)]
    fn number<const N: usize>(&mut self, offset: u64) -> Result<[u8; N]> {
        let bytes = self.source.bytes(offset, N)?;
        bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| Error::internal("fewer bytes than were asked for"))
    }

    /// The vector of a node, which must exist.
    #[inline(always)]
    pub(crate) fn vector(&mut self, node: u32) -> Result<&[f32]> {
        let (offset, size) = (self.layout.vector_offset(node), self.layout.vector_size());
        <[f32]>::ref_from_bytes(self.source.bytes(offset, size)?)
            .map_err(|_| Error::internal("vectors are not aligned in memory"))
    }

    /// The vectors of a range of nodes, contiguous.
    pub(crate) fn vectors(&mut self, nodes: std::ops::Range<u32>) -> Result<&[f32]> {
        let count = nodes.end.saturating_sub(nodes.start) as usize;
        let size = count.saturating_mul(self.layout.vector_size());
        let offset = self.layout.vector_offset(nodes.start);
        <[f32]>::ref_from_bytes(self.source.bytes(offset, size)?)
            .map_err(|_| Error::internal("vectors are not aligned in memory"))
    }

    /// The highest level of a node.
    pub(crate) fn level(&mut self, node: u32) -> Result<u8> {
        let offset = u64::from(node).wrapping_mul(LEVEL_SIZE);
        let level = self.number(self.layout.levels.wrapping_add(offset))?;
        // The file has 32 bits per level; real graphs need far fewer than 8 bits.
        let level = u32::from_le_bytes(level);
        u8::try_from(level)
            .map_err(|_| self.corrupt(|| format!("level of node {node}"), level, "at most 255"))
    }

    /// The stored offset of a node's lists.
    #[inline(always)]
    pub(crate) fn offset(&mut self, node: u32) -> Result<u64> {
        Ok(u64::from_le_bytes(
            self.number(self.layout.offset_offset(node))?,
        ))
    }

    /// A node's list on a level.
    #[inline(always)]
    pub(crate) fn list(&mut self, node: u32, layer: u8) -> Result<List> {
        let start = self.offset(node)?;
        if start < self.layout.connections {
            return Err(self.corrupt(
                || format!("offset of node {node}"),
                start,
                format!("at least {}, after the tables", self.layout.connections),
            ));
        }
        // Offsets point to the list on level 0; lists of upper levels follow it.
        let list = self.list_at(node, 0, start)?;
        if layer == 0 {
            return Ok(list);
        }
        self.upper_list(list, layer)
    }

    #[cold]
    fn upper_list(&mut self, base: List, layer: u8) -> Result<List> {
        let level = self.level(base.node)?;
        if level < layer {
            return Err(self.corrupt(
                || format!("level of node {}", base.node),
                level,
                format!("at least {layer}, as links on level {layer} lead there"),
            ));
        }
        let mut list = base;
        // Upper lists follow the one on level 0 without a table of their own.
        for layer in 1..=layer {
            list = self.list_at(base.node, layer, self.end_of(list))?;
        }
        Ok(list)
    }

    /// The list at an offset. [`Layout::connections_end`] must be at least 4.
    #[inline(always)]
    pub(crate) fn list_at(&mut self, node: u32, layer: u8, offset: u64) -> Result<List> {
        let end = self.layout.connections_end;
        let field = |what: &str| format!("{what} of node {node} on level {layer}");
        let start = offset.checked_add(COUNT_SIZE).filter(|start| *start <= end);
        let Some(start) = start else {
            return Err(self.corrupt(
                || field("offset of the list"),
                offset,
                format!("at most {}", end.saturating_sub(COUNT_SIZE)),
            ));
        };
        let count = u32::from_le_bytes(self.number(offset)?);
        let most = if layer == 0 {
            self.layout.m0
        } else {
            self.layout.m
        };
        // Neither limit alone guarantees that the list is inside the file.
        let room = end.wrapping_sub(start) / CONNECTION_SIZE;
        if u64::from(count) > most.min(room) {
            let expected = if most <= room {
                let name = if layer == 0 { "m0" } else { "m" };
                format!("at most {name}, which is {most}")
            } else {
                format!("at most {room}, as the lists end at byte {end}")
            };
            return Err(self.corrupt(|| field("number of neighbours"), count, expected));
        }
        Ok(List {
            node,
            layer,
            start,
            count: count as usize,
        })
    }

    /// End of a list, where the node's next list starts.
    pub(crate) fn end_of(&self, list: List) -> u64 {
        let size = (list.count as u64).wrapping_mul(CONNECTION_SIZE);
        list.start.wrapping_add(size)
    }

    /// End of a node's last list.
    fn end_of_connections(&mut self, node: u32) -> Result<u64> {
        let level = self.level(node)?;
        let last = self.list(node, level)?;
        Ok(self.end_of(last))
    }

    /// At most `most` links of a list, starting with number `first`.
    #[inline(always)]
    pub(crate) fn connections(
        &mut self,
        list: List,
        first: usize,
        most: usize,
    ) -> Result<&[Connection]> {
        let count = list.count.saturating_sub(first).min(most);
        let offset = (first as u64).wrapping_mul(CONNECTION_SIZE);
        let size = count.wrapping_mul(size_of::<Connection>());
        let bytes = self.source.bytes(list.start.wrapping_add(offset), size)?;
        <[Connection]>::ref_from_bytes(bytes)
            .map_err(|_| Error::internal("a list of a length that was not asked for"))
    }

    /// The error for a neighbour that does not exist.
    #[cold]
    pub(crate) fn no_such_node(&self, list: List, id: u32) -> Error {
        self.corrupt(
            || format!("neighbours of node {} on level {}", list.node, list.layer),
            format!("node {id}"),
            format!("nodes below {}", self.layout.nodes),
        )
    }

    /// A node's label; the node itself if the file has no labels.
    pub(crate) fn label(&mut self, node: u32) -> Result<u64> {
        let Some(labels) = self.layout.labels else {
            return Ok(node.into());
        };
        let offset = u64::from(node).wrapping_mul(LABEL_SIZE);
        Ok(u64::from_le_bytes(
            self.number(labels.wrapping_add(offset))?,
        ))
    }
}
