//! Writes the file.
//!
//! Vectors come first and are written while they are read. The graph is then built over the file's
//! own mapping, and the other sections are appended. The header needs the number of vectors, so
//! zeros hold its place until the end. No other part is written twice.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use pulp::{Arch, Simd, WithSimd};
use zerocopy::little_endian::{U32, U64};
use zerocopy::IntoBytes;

use super::layout::{
    Connection, RawExtension, RawHeader, RawPayloadHeader, LABEL_SIZE, MAGIC, NO_ENTRY_POINT,
    VECTORS_OFFSET, VERSION,
};
use crate::error::Result;
use crate::graph::distance::{Measure, Metric, Space};
use crate::graph::Graph;
use crate::io::atomic::AtomicFile;

/// Bytes buffered per write to the operating system.
const BUFFER: usize = 1 << 20;

/// Number of nodes whose lists are encoded at a time.
const NODES_AT_ONCE: u32 = 1024;

/// Build parameters, as recorded in the header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    pub(crate) m: usize,
    pub(crate) m0: usize,
    pub(crate) ef_construction: usize,
    /// True if free slots hold candidates that the heuristic rejected.
    pub(crate) keep_pruned: bool,
    /// True if an overflowing list is pruned by the heuristic rather than by distance alone.
    pub(crate) prune_by_heuristic: bool,
}

/// Starts a file with room for the header. The vectors follow, row by row.
pub(crate) fn reserve_header(writer: &mut impl Write) -> io::Result<()> {
    writer.write_all(&[0; size_of::<RawHeader>()])
}

/// Appends the graph and the labels to the vectors, then writes the header.
pub(crate) fn write_graph<G: Graph, M: Measure>(
    target: &mut AtomicFile,
    space: &Space<'_, M>,
    metric: Metric,
    graph: &G,
    labels: &[u64],
    parameters: Parameters,
) -> Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER, &mut *target);
    let appended = append_graph(&mut writer, space, metric, graph, labels);
    // `write_error` needs the file, which the writer borrows.
    drop(writer);
    appended.map_err(|error| target.write_error(error))?;
    let header = header(space.vectors().dimension(), metric, graph, parameters);
    let mut file: &File = target.file()?;
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(header.as_bytes()))
        .map_err(|error| target.write_error(error))
}

fn append_graph<G: Graph, M: Measure>(
    writer: &mut impl Write,
    space: &Space<'_, M>,
    metric: Metric,
    graph: &G,
    labels: &[u64],
) -> io::Result<()> {
    let vectors = space.vectors();
    let nodes = 0..graph.len();
    for node in nodes.clone() {
        writer.write_all(U32::from(u32::from(graph.level(node))).as_bytes())?;
    }

    let mut neighbours = Vec::new();
    // Tables of levels (u32) and offsets (u64): 12 bytes per node.
    let mut offset = VECTORS_OFFSET
        .saturating_add(size_of_val(vectors.data()) as u64)
        .saturating_add(12 * u64::from(graph.len()));
    for node in nodes {
        writer.write_all(U64::from(offset).as_bytes())?;
        for layer in graph.layers(node) {
            graph.neighbours(node, layer, &mut neighbours);
            // A u32 count, and 8 bytes per link.
            offset = offset.saturating_add(4 + 8 * neighbours.len() as u64);
        }
    }

    let mut bytes = Vec::new();
    let mut first = 0;
    while first < graph.len() {
        let end = first.saturating_add(NODES_AT_ONCE).min(graph.len());
        bytes.clear();
        Arch::new().dispatch(EncodeConnections {
            bytes: &mut bytes,
            graph,
            metric,
            space,
            nodes: first..end,
        });
        writer.write_all(&bytes)?;
        first = end;
    }

    let payload = RawPayloadHeader {
        count: (labels.len() as u64).into(),
        stride: LABEL_SIZE.into(),
    };
    writer.write_all(payload.as_bytes())?;
    for label in labels {
        writer.write_all(U64::from(*label).as_bytes())?;
    }
    writer.flush()
}

fn header<G: Graph>(
    dimension: usize,
    metric: Metric,
    graph: &G,
    parameters: Parameters,
) -> RawHeader {
    let entry_point = graph.entry_point();
    RawHeader {
        magic: MAGIC,
        version: VERSION.into(),
        len: u64::from(graph.len()).into(),
        dimension: (dimension as u64).into(),
        m: (parameters.m as u64).into(),
        m0: (parameters.m0 as u64).into(),
        ef_construction: (parameters.ef_construction as u64).into(),
        entry_point: entry_point.map_or(NO_ENTRY_POINT, u64::from).into(),
        entry_point_level: entry_point
            .map_or(0, |node| u64::from(graph.level(node)))
            .into(),
        use_heuristic: 1,
        extend_candidates: 0,
        keep_pruned: u8::from(parameters.keep_pruned),
        prune_strategy: u8::from(parameters.prune_by_heuristic),
        extension: RawExtension::new(metric),
        zeros: [0; 168],
    }
}

struct EncodeConnections<'e, 'v, G, M> {
    bytes: &'e mut Vec<u8>,
    graph: &'e G,
    metric: Metric,
    space: &'e Space<'v, M>,
    nodes: std::ops::Range<u32>,
}

impl<G: Graph, M: Measure> WithSimd for EncodeConnections<'_, '_, G, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut neighbours = Vec::new();
        for node in self.nodes {
            let origin = self.space.origin(node);
            for layer in self.graph.layers(node) {
                self.graph.neighbours(node, layer, &mut neighbours);
                for id in &neighbours {
                    // Neighbours are scattered over the file, so their vectors are requested ahead.
                    self.space.prefetch(*id);
                }
                let count = u32::try_from(neighbours.len()).unwrap_or(u32::MAX);
                self.bytes.extend_from_slice(&count.to_le_bytes());
                for id in &neighbours {
                    let key = self.space.key(simd, &origin, *id);
                    let connection = Connection {
                        id: (*id).into(),
                        distance: self.metric.distance_of_key(key).into(),
                    };
                    self.bytes.extend_from_slice(connection.as_bytes());
                }
            }
        }
    }
}
