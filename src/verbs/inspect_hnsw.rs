//! Describes the contents of a `.hnsw` graph file.

use std::path::Path;

use serde::Serialize;

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::graph::distance::Metric;
use crate::graph::file::read::{has_magic, Layout};
use crate::io::file::{InputFile, IoMode};
use crate::segment::LabelRange;
use crate::verbs::inspect::InspectOptions;
use crate::verbs::verify::hnsw::take;
use crate::verbs::verify::Findings;

/// Returns true if a file starts with the magic bytes of a `.hnsw` file.
///
/// # Errors
///
/// When the file cannot be read.
pub fn is_hnsw(path: impl AsRef<Path>) -> Result<bool> {
    let file = InputFile::open(path.as_ref(), IoMode::Read)?;
    has_magic(&mut file.window_for_lookups())
}

/// The result of [`inspect_hnsw`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HnswReport {
    /// The metric that the file states; absent if it states none.
    pub metric: Option<Metric>,
    /// Vectors in the index.
    pub vectors: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Maximum number of neighbours on upper levels.
    pub m: u64,
    /// Maximum number of neighbours on level 0.
    pub m0: u64,
    /// Number of candidates that the builder kept.
    pub ef_construction: u64,
    /// The node at which searches start; absent if there are no vectors.
    pub entry_point: Option<u32>,
    /// For each level from 0 up, the number of nodes that have it as their highest.
    pub levels: Vec<u64>,
    /// The distribution of the number of neighbours on level 0, without empty entries.
    pub degrees: Vec<Degree>,
    /// The mean number of neighbours on level 0.
    pub mean_degree: f64,
    /// Nodes that are unreachable from the entry point over level 0.
    pub unreachable: u64,
    /// The lowest and the highest label; absent if there are no labels.
    pub labels: Option<LabelRange>,
    /// Number of nodes whose label repeats an earlier node's.
    pub duplicate_labels: u64,
    /// Vectors with components that are infinite or NaN.
    pub vectors_not_finite: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes after the last label.
    pub trailing_bytes: u64,
    /// True if [`verify_hnsw`](crate::verify_hnsw) reports the file as damaged.
    pub damaged: bool,
}

/// The number of nodes with a given number of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Degree {
    /// Number of neighbours on level 0.
    pub neighbours: u64,
    /// Number of nodes with this many neighbours.
    pub nodes: u64,
}

/// Reads a whole `.hnsw` file and describes its contents.
///
/// Memory: the same as for [`verify_hnsw`](crate::verify_hnsw).
///
/// # Errors
///
/// When the file cannot be read, is not a `.hnsw` file, or has an invalid header, and when the work
/// is cancelled ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn inspect_hnsw(
    path: impl AsRef<Path>,
    options: &InspectOptions,
    monitor: &Monitor<'_>,
) -> Result<HnswReport> {
    let file = InputFile::open(path.as_ref(), options.io)?;
    let mut findings = Findings::new();
    let census = take(&file, &mut findings, monitor)?;
    file.check_unchanged()?;
    let Some(layout) = census.layout else {
        // Parse the header again, for the error that the census has turned into a finding.
        let mut source = file.window_for_lookups();
        return match Layout::read_header(&mut source, file.path()) {
            Err(error) => Err(error),
            Ok(_) => Err(Error::internal("a header that cannot be read and then can")),
        };
    };
    let degrees: Vec<_> = (0..)
        .zip(&census.degrees)
        .filter(|(_, nodes)| **nodes > 0)
        .map(|(neighbours, nodes)| Degree {
            neighbours,
            nodes: *nodes,
        })
        .collect();
    let links: u64 = degrees
        .iter()
        .map(|degree| degree.neighbours.saturating_mul(degree.nodes))
        // Saturating, because the counts are from an untrusted file.
        .fold(0, u64::saturating_add);
    let (_, state) = findings.finish();
    Ok(HnswReport {
        metric: layout.metric,
        vectors: layout.nodes.into(),
        dimension: layout.dimension,
        m: layout.m,
        m0: layout.m0,
        ef_construction: layout.ef_construction,
        entry_point: layout.entry_point.map(|entry_point| entry_point.node),
        levels: census.levels,
        degrees,
        mean_degree: mean(links, layout.nodes),
        unreachable: census.unreachable,
        labels: census.labels,
        duplicate_labels: census.duplicate_labels,
        vectors_not_finite: census.not_finite,
        bytes: file.len(),
        trailing_bytes: census.trailing_bytes,
        damaged: state.is_damaged(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn mean(links: u64, nodes: u32) -> f64 {
    if nodes == 0 {
        return 0.0;
    }
    links as f64 / f64::from(nodes)
}
