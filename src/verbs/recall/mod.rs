//! Recall and latency of a `.hnsw` graph, measured against an exhaustive search.
//!
//! The exhaustive search compares each query with every vector, and reads the whole file once for
//! each group of queries. Memory is bounded by a group of queries and a window of the file, for an
//! index of any size.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::base::memory;
use crate::base::progress::Monitor;
use crate::base::threads::{for_each, thread_count};
use crate::columnar::read::{ColumnarInput, RowBatch};
use crate::columnar::selection::ReadOptions;
use crate::columnar::ColumnarFormat;
use crate::error::{Error, Result};
use crate::graph::candidate::Candidate;
use crate::graph::distance::{is_finite, Metric};
use crate::graph::exact::Exact;
use crate::graph::random::Random;
use crate::verbs::build::is_zero;
use crate::verbs::search::HnswIndex;

/// Bytes of queries per group; the whole index is read once for each group.
const BYTES_PER_GROUP: usize = 8 << 20;

/// Maximum number of rows per read of a file of queries.
const ROWS_AT_ONCE: usize = 1024;

/// The source of the queries.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecallQueries<'q> {
    /// This many vectors of the index itself, spread over it. The sample is always the same. A
    /// vector does not count as its own neighbour. Damaged vectors are skipped.
    Sample(usize),
    /// Contiguous vectors of the index's dimension.
    Vectors(&'q [f32]),
    /// The column `vector` of a Parquet or Arrow IPC file, or
    /// [another](RecallOptions::vector_column).
    File {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: ColumnarFormat,
    },
}

/// Options of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecallOptions {
    /// Number of neighbours per search: at least 1.
    pub k: usize,
    /// The values of `ef` to measure, in order. Values below `k` count as `k`.
    pub efs: Vec<usize>,
    /// Number of threads that share the queries: 1 to 1024; by default one per core.
    pub threads: Option<usize>,
    /// The column of [queries from a file](RecallQueries::File); `vector` by default. No other
    /// column is read.
    pub vector_column: Option<String>,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self {
            k: 10,
            efs: vec![50, 100, 200],
            threads: None,
            vector_column: None,
        }
    }
}

setters!(RecallOptions {
    with_k(k: usize),
    with_efs(efs: impl Into<Vec<usize>>),
    with_threads(threads: impl Into<Option<usize>>),
    with_vector_column(vector_column: impl Into<Option<String>>),
});

/// The result of [`measure_recall`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecallReport {
    /// The index's metric.
    pub metric: Metric,
    /// Vectors in the index.
    pub vectors: u64,
    /// Vectors with a component that is not finite. They are used neither as results nor as
    /// queries.
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged_skipped: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Number of queries.
    pub queries: u64,
    /// Number of neighbours per search.
    pub k: usize,
    /// Threads that shared the queries.
    pub threads: usize,
    /// Seconds of the exhaustive search.
    pub exact_seconds: f64,
    /// The results for each value of `ef`.
    pub rows: Vec<RecallRow>,
}

/// The results for one value of `ef`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecallRow {
    /// Number of candidates that a search kept.
    pub ef: usize,
    /// The fraction of the `k` true nearest neighbours that were found. Vectors at the same
    /// distance are equivalent.
    pub recall: f64,
    /// Queries per second, by all threads together.
    pub queries_per_second: f64,
}

/// Measures the recall and the speed of searches of an index.
///
/// # Errors
///
/// When an option is invalid, when the queries cannot be read or have another dimension, when the
/// search meets damage, and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn measure_recall(
    index: &HnswIndex,
    queries: &RecallQueries<'_>,
    options: &RecallOptions,
    monitor: &Monitor<'_>,
) -> Result<RecallReport> {
    if options.k == 0 {
        return Err(Error::argument("k", 0, "at least 1"));
    }
    if options.efs.is_empty() {
        return Err(Error::argument("ef", "none", "at least one value"));
    }
    if index.is_empty() {
        return Err(Error::argument("INDEX", "no vectors", "at least one"));
    }
    let mut measurement = Measurement {
        index,
        options,
        threads: thread_count(options.threads)?.get(),
        monitor,
        groups: 0,
        groups_done: 0,
        queries: 0,
        damaged: AtomicU64::new(0),
        wanted: 0,
        exact: Duration::ZERO,
        found: vec![(0, Duration::ZERO); options.efs.len()],
    };
    let most = (BYTES_PER_GROUP / size_of::<f32>() / index.dimension().max(1)).max(1);
    match queries {
        RecallQueries::Sample(count) => measurement.sample(*count, most)?,
        RecallQueries::Vectors(vectors) => {
            index.check_queries(vectors)?;
            let groups = vectors.chunks(most.saturating_mul(index.dimension().max(1)));
            measurement.groups = groups.len() as u64;
            for group in groups {
                measurement.measure(group, None)?;
            }
        }
        RecallQueries::File { path, format } => {
            let read = ReadOptions {
                format: *format,
                batch_size: most.min(ROWS_AT_ONCE),
                include_deleted: true,
                vector_column: options.vector_column.clone(),
                row_numbers: true,
                io: index.io(),
                ..ReadOptions::default()
            };
            let mut input = ColumnarInput::open(path, &read)?;
            let mut batch = RowBatch::default();
            measurement.groups = input.row_count().div_ceil(read.batch_size as u64);
            while input.next(&mut batch)? {
                if batch.dimension != index.dimension() {
                    return Err(Error::input(
                        path,
                        format!("column {}", input.vector_name()),
                        format!("dimension {}", batch.dimension),
                        format!("{}, as in the index", index.dimension()),
                    ));
                }
                measurement.measure(&batch.vectors, None)?;
            }
            input.check_unchanged()?;
        }
    }
    index.check_unchanged()?;
    measurement.finish()
}

struct Measurement<'m> {
    index: &'m HnswIndex,
    options: &'m RecallOptions,
    threads: usize,
    monitor: &'m Monitor<'m>,
    /// Number of groups of queries in total, and of groups measured.
    groups: u64,
    groups_done: u64,
    queries: u64,
    /// Damaged vectors in the index.
    damaged: AtomicU64,
    /// Number of true nearest vectors of all queries.
    wanted: u64,
    exact: Duration,
    /// For each ef, the number of true nearest vectors found, and the time of the searches.
    found: Vec<(u64, Duration)>,
}

/// A query's true neighbours, and its results.
#[derive(Clone, Debug, Default)]
struct Case {
    /// The query's own node, if it is a vector of the index.
    own: Option<u32>,
    /// Number of true nearest vectors, and the key of the farthest.
    wanted: usize,
    farthest: u32,
    found: Vec<Candidate>,
}

impl Measurement<'_> {
    /// Measures with vectors of the index, at most `most` at a time.
    fn sample(&mut self, count: usize, most: usize) -> Result<()> {
        let vectors = self.index.len();
        if count == 0 {
            return Err(Error::argument("sample", 0, "at least 1"));
        }
        let count = count.min(vectors);
        let mut queries = Vec::new();
        let mut nodes = Vec::new();
        self.groups = count.div_ceil(most) as u64;
        let mut random = Random::new(0);
        for number in 0..count {
            // One from each of `count` equal parts, at a pseudorandom position: a fixed stride
            // could match a period of the rows and sample only one kind.
            let part = |number: usize| {
                let position = number as u128 * vectors as u128 / count as u128;
                u32::try_from(position).unwrap_or(u32::MAX)
            };
            let (start, end) = (part(number), part(number.saturating_add(1)));
            let offset = random.below(end.saturating_sub(start));
            let node = start.saturating_add(offset);
            if self.index.append_vector(node, &mut queries)? {
                nodes.push(node);
            }
            if nodes.len() == most || number.saturating_add(1) == count {
                self.measure(&queries, Some(&nodes))?;
                queries.clear();
                nodes.clear();
            }
        }
        Ok(())
    }

    /// Measures with a group of queries. `nodes` are their own nodes, if they are from the index.
    fn measure(&mut self, queries: &[f32], nodes: Option<&[u32]>) -> Result<()> {
        if queries.is_empty() {
            return Ok(());
        }
        let dimension = self.index.dimension().max(1);
        let mut cases = memory::filled(
            queries.len() / dimension,
            Case::default(),
            "hold the true neighbours of each query",
        )?;
        for (case, node) in cases.iter_mut().zip(nodes.unwrap_or_default()) {
            case.own = Some(*node);
        }
        let start = Instant::now();
        self.find_truth(queries, &mut cases)?;
        self.exact = self.exact.saturating_add(start.elapsed());

        self.queries = self.queries.saturating_add(cases.len() as u64);
        let wanted: u64 = cases.iter().map(|case| case.wanted as u64).sum();
        self.wanted = self.wanted.saturating_add(wanted);
        // A sampled vector also finds itself, which is not counted.
        let k = self.options.k.saturating_add(usize::from(nodes.is_some()));
        if self.groups_done == 0 {
            // Warm up: the first searches wait for page faults and allocations, and are not timed.
            let ef = self.options.efs.first().copied().unwrap_or(k);
            self.search(queries, &mut cases, k, ef)?;
        }
        for number in 0..self.options.efs.len() {
            self.monitor.check()?;
            let ef = self.options.efs.get(number).copied().unwrap_or(k);
            let start = Instant::now();
            self.search(queries, &mut cases, k, ef)?;
            let time = start.elapsed();
            let hits: u64 = cases.iter().map(|case| case.hits() as u64).sum();
            if let Some((found, total)) = self.found.get_mut(number) {
                *found = found.saturating_add(hits);
                *total = total.saturating_add(time);
            }
        }
        self.groups_done = self.groups_done.saturating_add(1);
        Ok(())
    }

    fn search(&self, queries: &[f32], cases: &mut [Case], k: usize, ef: usize) -> Result<()> {
        self.index
            .for_each_query(queries, cases, self.threads, |query, case| {
                self.index.search_nodes(query, k, ef, &mut case.found)?;
                // Looking up labels is part of a search, and must not be optimised away.
                for candidate in &case.found {
                    std::hint::black_box(self.index.label(candidate.node())?);
                }
                Ok(())
            })
    }

    /// Finds the true nearest vectors of each query by an exhaustive search.
    fn find_truth(&self, queries: &[f32], cases: &mut [Case]) -> Result<()> {
        let dimension = self.index.dimension().max(1);
        let rows = cases.len().div_ceil(self.threads).max(1);
        let parts = queries
            .chunks(rows.saturating_mul(dimension))
            .zip(cases.chunks_mut(rows));
        let parts = parts.enumerate();
        let threads = &mut vec![(); self.threads];
        for_each("hnsw-toolbox-recall", threads, parts, |(), part| {
            let (number, (queries, cases)) = part;
            // One more than k, because a sampled query finds itself.
            let count = self.options.k.saturating_add(1);
            let metric = self.index.metric();
            let mut exact = Exact::new(queries, dimension, count)?;
            self.index.for_each_block(|first, vectors| {
                exact.compare(metric, first, vectors)?;
                if number == 0 && self.groups_done == 0 {
                    let damaged = vectors.chunks_exact(dimension).filter(|v| !is_finite(v));
                    self.damaged
                        .fetch_add(damaged.count() as u64, Ordering::Relaxed);
                }
                let done = u64::from(first).saturating_add((vectors.len() / dimension) as u64);
                // All threads read the same vectors, so the first one reports the progress of all.
                if number > 0 {
                    return self.monitor.check();
                }
                let vectors = self.index.len() as u64;
                let total = vectors.saturating_mul(self.groups);
                let done = done.saturating_add(vectors.saturating_mul(self.groups_done));
                self.monitor.advance(done.min(total), total)
            })?;
            let rows = queries.chunks_exact(dimension).zip(exact.into_nearest());
            for (case, (query, mut nearest)) in cases.iter_mut().zip(rows) {
                self.index.rank(query, &mut nearest)?;
                nearest.retain(|candidate| Some(candidate.node()) != case.own);
                nearest.truncate(self.options.k);
                case.wanted = nearest.len();
                case.farthest = nearest.last().map_or(0, |candidate| candidate.order());
            }
            Ok(())
        })
    }

    fn finish(self) -> Result<RecallReport> {
        if self.queries == 0 {
            return Err(Error::argument("queries", "none", "at least one"));
        }
        let rows = self.options.efs.iter().zip(&self.found);
        Ok(RecallReport {
            metric: self.index.metric(),
            vectors: self.index.len() as u64,
            damaged_skipped: self.damaged.into_inner(),
            dimension: self.index.dimension(),
            queries: self.queries,
            k: self.options.k,
            threads: self.threads,
            exact_seconds: self.exact.as_secs_f64(),
            rows: rows
                .map(|(ef, (found, time))| RecallRow {
                    ef: *ef,
                    recall: ratio(*found, self.wanted),
                    queries_per_second: as_f64(self.queries) / time.as_secs_f64().max(1e-9),
                })
                .collect(),
        })
    }
}

impl Case {
    /// Returns the number of true nearest vectors found.
    fn hits(&self) -> usize {
        self.found
            .iter()
            .filter(|candidate| Some(candidate.node()) != self.own)
            .take(self.wanted)
            .filter(|candidate| candidate.order() <= self.farthest)
            .count()
    }
}

/// Returns found / wanted, or 1 if nothing was wanted.
fn ratio(found: u64, wanted: u64) -> f64 {
    if wanted == 0 {
        return 1.0;
    }
    as_f64(found) / as_f64(wanted)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
