//! The fields of the file as raw structs.

use zerocopy::little_endian::{F32, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::graph::distance::Metric;

pub(crate) const MAGIC: [u8; 8] = *b"HNSWNDX\0";
pub(crate) const VERSION: u32 = 1;

/// Offset of the first vector.
pub(crate) const VECTORS_OFFSET: u64 = 256;

/// Stored entry point of a graph without nodes.
pub(crate) const NO_ENTRY_POINT: u64 = u64::MAX;

/// Size of a label in bytes.
pub(crate) const LABEL_SIZE: u64 = 8;

/// The first 256 bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) len: U64,
    pub(crate) dimension: U64,
    pub(crate) m: U64,
    pub(crate) m0: U64,
    pub(crate) ef_construction: U64,
    pub(crate) entry_point: U64,
    pub(crate) entry_point_level: U64,
    pub(crate) use_heuristic: u8,
    pub(crate) extend_candidates: u8,
    pub(crate) keep_pruned: u8,
    pub(crate) prune_strategy: u8,
    pub(crate) extension: RawExtension,
    // fast-hnsw reserves the header up to byte 256.
    pub(crate) zeros: [u8; 168],
}

const _: () = assert!(size_of::<RawHeader>() as u64 == VECTORS_OFFSET);

/// This crate's addition to the header. fast-hnsw writes zeros here and ignores them.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawExtension {
    tag: [u8; 8],
    version: U32,
    metric: u8,
    // Pads the extension to 16 bytes.
    zeros: [u8; 3],
}

const EXTENSION_TAG: [u8; 8] = *b"hnswtool";
const EXTENSION_VERSION: u32 = 1;

/// The metric recorded in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatedMetric {
    /// Not recorded: written by fast-hnsw or by an earlier version of this crate.
    Nothing,
    Metric(Metric),
    /// An unassigned code.
    UnknownCode(u8),
    /// An extension of a later version.
    UnknownVersion(u32),
}

impl RawExtension {
    pub(crate) fn new(metric: Metric) -> Self {
        Self {
            tag: EXTENSION_TAG,
            version: EXTENSION_VERSION.into(),
            metric: metric_code(metric),
            zeros: [0; 3],
        }
    }

    pub(crate) fn metric(&self) -> StatedMetric {
        if self.tag != EXTENSION_TAG {
            return StatedMetric::Nothing;
        }
        if self.version != EXTENSION_VERSION {
            return StatedMetric::UnknownVersion(self.version.get());
        }
        Metric::ALL
            .iter()
            .copied()
            .find(|metric| metric_code(*metric) == self.metric)
            .map_or(StatedMetric::UnknownCode(self.metric), StatedMetric::Metric)
    }
}

/// The stored code of a metric. Codes are part of the format and must never change.
fn metric_code(metric: Metric) -> u8 {
    match metric {
        Metric::Euclidean => 1,
        Metric::SquaredEuclidean => 2,
        Metric::Cosine => 3,
        Metric::DotProduct => 4,
        Metric::Manhattan => 5,
    }
}

/// An entry of a neighbour list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Connection {
    pub(crate) id: U32,
    pub(crate) distance: F32,
}

/// The header in front of the labels.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawPayloadHeader {
    pub(crate) count: U64,
    pub(crate) stride: U64,
}
