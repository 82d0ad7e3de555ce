//! From rows of a columnar file to a graph, and from there to a `.hnsw` file.
//!
//! The vectors are copied once, from the input into their place in the output. The graph is built
//! over a map of that part of the output, so that memory is taken for links only, and an index may
//! be larger than memory.

#[cfg(test)]
#[path = "build_tests.rs"]
pub(crate) mod tests;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;

use serde::Serialize;
use zerocopy::FromBytes;

use crate::chroma::file_name;
use crate::columnar::{check_batch_size, ColumnarFormat, DEFAULT_BATCH_SIZE};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::file::IoMode;
use crate::io::mmap::Map;
use crate::io::protected::Protected;
use crate::memory;
use crate::progress::Monitor;
use crate::threads::thread_count;

use crate::columnar::read::{ColumnarInput, ReadOptions, RowBatch};
use crate::graph::distance::{with_space, Metric, Vectors};
use crate::graph::file::layout::VECTORS_OFFSET;
use crate::graph::file::write::{write_graph, Parameters, VectorWriter};
use crate::graph::hnsw_rs::{self, HnswRs};
use crate::graph::native::{self, Native};
use crate::graph::Graph;

#[cfg(target_endian = "big")]
compile_error!("vectors are mapped from little-endian files");

named_enum! {
    /// Which code builds the graph.
    #[derive(Default)]
    pub enum Engine for "engine" {
        /// This crate's own.
        #[default]
        Native = "native",
        /// The hnsw_rs crate: m0 is 2·m and nothing else; a seed makes it use one thread.
        HnswRs = "hnsw_rs",
    }
}

/// How a graph is built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphOptions {
    /// What "near" means. The `.hnsw` file states it, but fast-hnsw does not read that: whoever
    /// opens the file with fast-hnsw must know it.
    pub metric: Metric,
    /// Neighbours of a node on the layers above 0: 2 to 256.
    pub m: usize,
    /// Neighbours of a node on layer 0: `m` to 1024; 2·m when not given. The engine `hnsw_rs` can
    /// only do 2·m.
    pub m0: Option<usize>,
    /// Candidates that are kept while a node's neighbours are looked for: `m` to 65536.
    pub ef_construction: usize,
    /// The most vectors that are expected. More of them are an error.
    pub capacity: Option<usize>,
    /// Makes the build repeatable: same input, options and seed give the same bytes on this kind
    /// of processor, whatever the number of threads.
    pub seed: Option<u64>,
    /// Threads that build the graph: 1 to 1024; one for each core when not given.
    pub threads: Option<usize>,
    /// Which code builds the graph.
    pub engine: Engine,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            metric: Metric::Euclidean,
            m: 16,
            m0: None,
            ef_construction: 200,
            capacity: None,
            seed: None,
            threads: None,
            engine: Engine::default(),
        }
    }
}

setters!(GraphOptions {
    with_metric(metric: Metric),
    with_m(m: usize),
    with_m0(m0: impl Into<Option<usize>>),
    with_ef_construction(ef_construction: usize),
    with_capacity(capacity: impl Into<Option<usize>>),
    with_seed(seed: impl Into<Option<u64>>),
    with_threads(threads: impl Into<Option<usize>>),
    with_engine(engine: Engine),
});

/// How a columnar file is read, and how a graph is built of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildOptions {
    /// How the graph is built.
    pub graph: GraphOptions,
    /// The input's format.
    pub format: ColumnarFormat,
    /// Also insert the rows that are marked as deleted.
    pub include_deleted: bool,
    /// Input rows held at once: 1 to 1,048,576.
    pub batch_size: usize,
    /// The column of the vectors: `vector` when not given.
    pub vector_column: Option<String>,
    /// The column of the labels, which must then exist. When not given, it is `label`, or else
    /// `internal_id`, or else the labels are the row numbers.
    pub label_column: Option<String>,
    /// How the input is read.
    pub io: IoMode,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            graph: GraphOptions::default(),
            format: ColumnarFormat::default(),
            include_deleted: false,
            batch_size: DEFAULT_BATCH_SIZE,
            vector_column: None,
            label_column: None,
            io: IoMode::default(),
        }
    }
}

setters!(BuildOptions {
    with_graph(graph: GraphOptions),
    with_format(format: ColumnarFormat),
    with_include_deleted(include_deleted: bool),
    with_batch_size(batch_size: usize),
    with_vector_column(vector_column: impl Into<Option<String>>),
    with_label_column(label_column: impl Into<Option<String>>),
    with_io(io: IoMode),
});

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BuildSummary {
    /// Rows of the input.
    pub scanned: u64,
    /// Vectors in the index.
    pub inserted: u64,
    /// Rows left out because they are marked as deleted.
    pub deleted_skipped: u64,
    /// Elements of each vector.
    pub dimension: usize,
}

const M0_MAX: usize = 1024;
const EF_CONSTRUCTION_MAX: usize = 1 << 16;

/// Options that were checked, with the defaults filled in.
#[derive(Clone, Copy, Debug)]
struct Plan {
    metric: Metric,
    m: usize,
    m0: usize,
    ef_construction: usize,
    capacity: Option<usize>,
    seed: Option<u64>,
    threads: NonZeroUsize,
    engine: Engine,
}

impl GraphOptions {
    fn check(&self) -> Result<Plan> {
        let m = self.m;
        if !(2..=hnsw_rs::M_MAX).contains(&m) {
            return Err(Error::argument("m", m, "a number from 2 to 256"));
        }
        let m0 = self.m0.unwrap_or(2 * m);
        if !(m..=M0_MAX).contains(&m0) {
            let expected = format!("a number from m, which is {m}, to {M0_MAX}");
            return Err(Error::argument("m0", m0, expected));
        }
        if self.engine == Engine::HnswRs && m0 != 2 * m {
            let expected = format!(
                "2·m, which is {}: the engine hnsw_rs can do nothing else (the engine native can)",
                2 * m
            );
            return Err(Error::argument("m0", m0, expected));
        }
        if !(m..=EF_CONSTRUCTION_MAX).contains(&self.ef_construction) {
            let expected = format!("a number from m, which is {m}, to {EF_CONSTRUCTION_MAX}");
            return Err(Error::argument(
                "ef_construction",
                self.ef_construction,
                expected,
            ));
        }
        if self.capacity == Some(0) {
            return Err(Error::argument(
                "capacity",
                0,
                "at least the number of vectors to insert",
            ));
        }
        let threads = thread_count(self.threads)?;
        Ok(Plan {
            metric: self.metric,
            m,
            m0,
            ef_construction: self.ef_construction,
            capacity: self.capacity,
            seed: self.seed,
            threads,
            engine: self.engine,
        })
    }
}

impl BuildOptions {
    fn check(&self) -> Result<Plan> {
        check_batch_size(self.batch_size)?;
        self.graph.check()
    }
}

/// Builds a `.hnsw` index of the vectors of a Parquet or Arrow IPC file.
///
/// The column `vector`, or [the one asked for](BuildOptions::vector_column), is a list, large list or
/// fixed-size list of float16, float32 or float64. Labels are the integers of the column `label`, or
/// else `internal_id`, or else the row numbers from 0. Rows whose `deleted` is true, or a number
/// other than 0, are left out unless they are asked for.
///
/// The output appears whole or not at all; a file of that name stays as it was until then. The
/// vectors go from the input straight to their place in it, so that memory is taken for the links
/// of the graph and `batch_size` rows, not for the vectors.
///
/// # Errors
///
/// When an option makes no sense, when the input is not such a file or a row of it cannot be used
/// (the error names row, column and element), when there is no row to insert, when the output
/// cannot be written, and [`Error::Cancelled`].
pub fn build_index_from_columnar(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let (input, output) = (input.as_ref(), output.as_ref());
    let plan = options.check()?;
    let protected = Protected::names(file_name::PROTECTED).and_input(input);
    protected.check(output)?;
    let mut rows = ColumnarInput::open(
        input,
        &ReadOptions {
            format: options.format,
            batch_size: options.batch_size,
            include_deleted: options.include_deleted,
            vector_column: options.vector_column.clone(),
            label_column: options.label_column.clone(),
            io: options.io,
        },
    )?;
    build_to(&mut rows, input, (output, protected), &plan, monitor)
}

impl RowSource for ColumnarInput {
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        let more = ColumnarInput::next(self, batch)?;
        if !more {
            self.check_unchanged()?;
        }
        Ok(more)
    }
}

/// Builds a `.hnsw` index of vectors in memory, as
/// [`build_index_from_columnar`] does of a file's.
///
/// `vectors` holds rows of `dimension` finite elements each. The labels are the row numbers where
/// none are given.
///
/// # Errors
///
/// When an option, the dimension or the number of labels makes no sense, when an element is not
/// finite (the error names the row), when the output cannot be written, or when the work is
/// cancelled. The output then stays as it was.
pub fn build_index_from_vectors(
    vectors: &[f32],
    dimension: usize,
    labels: Option<&[u64]>,
    output: impl AsRef<Path>,
    options: &GraphOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let plan = options.check()?;
    let rows = vectors.len().checked_div(dimension);
    let Some(rows) = rows.filter(|rows| rows.checked_mul(dimension) == Some(vectors.len())) else {
        return Err(Error::argument(
            "dimension",
            dimension,
            format!("a divisor of the number of elements, {}", vectors.len()),
        ));
    };
    if let Some(labels) = labels.filter(|labels| labels.len() != rows) {
        return Err(Error::argument(
            "labels",
            labels.len(),
            format!("one for each of {rows} vectors"),
        ));
    }
    let mut source = Slices {
        vectors,
        dimension,
        labels,
        next: 0,
    };
    let protected = Protected::names(file_name::PROTECTED);
    let output = (output.as_ref(), protected);
    build_to(&mut source, Path::new("vectors"), output, &plan, monitor)
}

/// Rows of [`build_index_from_vectors`].
struct Slices<'a> {
    vectors: &'a [f32],
    dimension: usize,
    labels: Option<&'a [u64]>,
    next: usize,
}

impl RowSource for Slices<'_> {
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        const ROWS_AT_ONCE: usize = 1024;
        let rows: Vec<&[f32]> = self
            .vectors
            .chunks_exact(self.dimension)
            .skip(self.next)
            .take(ROWS_AT_ONCE)
            .collect();
        let first = self.next;
        self.next = first.saturating_add(rows.len());
        let numbers = first..self.next;
        batch.dimension = self.dimension;
        batch.scanned = rows.len() as u64;
        batch.deleted_skipped = 0;
        batch.rows.clear();
        batch.rows.extend(numbers.clone().map(|row| row as u64));
        batch.labels.clear();
        match self.labels {
            None => batch.labels.extend_from_slice(&batch.rows),
            Some(labels) => batch
                .labels
                .extend_from_slice(labels.get(numbers.clone()).unwrap_or_default()),
        }
        batch.vectors.clear();
        for (row, vector) in numbers.zip(&rows) {
            if let Some(at) = vector.iter().position(|element| !element.is_finite()) {
                return Err(Error::argument(
                    "vectors",
                    format!(
                        "{} in row {row}, element {at}",
                        vector.get(at).copied().unwrap_or_default()
                    ),
                    "finite numbers",
                ));
            }
            batch.vectors.extend_from_slice(vector);
        }
        Ok(!rows.is_empty())
    }
}

/// Builds an index of the rows into a file that appears when it is complete.
fn build_to<R: RowSource>(
    rows: &mut R,
    input: &Path,
    (output, protected): (&Path, Protected),
    plan: &Plan,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let mut target = AtomicFile::create(output, protected)?;
    let file = target.file()?;
    let summary = build_from_rows(rows, input, file, output, plan, monitor)?;
    target.commit()?;
    Ok(summary)
}

/// Where rows come from, batch by batch.
trait RowSource {
    /// Replaces what is in `batch`. False, and nothing in it, after the last row.
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool>;
}

/// Builds an index of the rows into `file`, which must be open for reading and writing.
///
/// `input` and `output` are the paths that errors name.
fn build_from_rows<R: RowSource>(
    rows: &mut R,
    input: &Path,
    file: &File,
    output: &Path,
    plan: &Plan,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let write_error = || Error::io(output, "write");
    let mut writer = VectorWriter::new(file).map_err(write_error())?;
    let mut labels: Vec<u64> = Vec::new();
    let mut summary = BuildSummary {
        scanned: 0,
        inserted: 0,
        deleted_skipped: 0,
        dimension: 0,
    };
    let mut batch = RowBatch::default();
    while rows.next(&mut batch)? {
        monitor.check()?;
        summary.scanned = summary.scanned.saturating_add(batch.scanned);
        summary.deleted_skipped = summary
            .deleted_skipped
            .saturating_add(batch.deleted_skipped);
        if batch.labels.is_empty() {
            continue;
        }
        if labels.is_empty() {
            summary.dimension = batch.dimension;
        }
        check_batch(&batch, summary.dimension)?;
        if let Some(capacity) = plan.capacity {
            if labels.len().saturating_add(batch.labels.len()) > capacity {
                let one_too_many = batch.rows.get(capacity.saturating_sub(labels.len()));
                let expected = format!(
                    "at least the number of vectors to insert; row {} is one more",
                    one_too_many.copied().unwrap_or_default()
                );
                return Err(Error::argument("capacity", capacity, expected));
            }
        }
        memory::reserve(&mut labels, batch.labels.len(), "hold the labels")?;
        labels.extend_from_slice(&batch.labels);
        writer.write(&batch.vectors).map_err(write_error())?;
    }
    drop(batch);
    summary.inserted = labels.len() as u64;

    let too_many_or_none = |found: String, expected: &'static str| Error::InvalidInput {
        path: input.to_path_buf(),
        field: "rows".into(),
        found,
        expected: expected.into(),
    };
    if labels.is_empty() {
        let found = match summary.scanned {
            0 => "none".to_string(),
            deleted => format!("{deleted}, all of them deleted"),
        };
        return Err(too_many_or_none(found, "at least one vector to insert"));
    }
    if labels.len() > native::NODES_MAX {
        return Err(too_many_or_none(
            format!("{} vectors", labels.len()),
            "at most 2147483647, for node numbers are 31 bits wide",
        ));
    }

    let bytes = labels
        .len()
        .checked_mul(summary.dimension)
        .and_then(|elements| elements.checked_mul(size_of::<f32>()))
        .ok_or_else(|| Error::out_of_memory("map the vectors", None).in_file(output))?;
    let map =
        Map::new(file, VECTORS_OFFSET, bytes).map_err(Error::io(output, "map into memory"))?;
    let data = <[f32]>::ref_from_bytes(&map)
        .map_err(|_| Error::internal("the map of the vectors is not aligned"))?;
    let vectors = Vectors::new(data, summary.dimension)?;
    match plan.engine {
        Engine::HnswRs => {
            let graph = with_space(
                plan.metric,
                vectors,
                HnswRs {
                    metric: plan.metric,
                    m: plan.m,
                    ef_construction: plan.ef_construction,
                    repeatable: plan.seed.is_some(),
                    threads: plan.threads,
                    monitor,
                },
            )?;
            finish(file, vectors, plan, &graph, &labels)
        }
        Engine::Native => {
            let graph = with_space(
                plan.metric,
                vectors,
                Native {
                    m: plan.m,
                    m0: plan.m0,
                    ef_construction: plan.ef_construction,
                    seed: plan.seed.unwrap_or_default(),
                    threads: plan.threads,
                    monitor,
                },
            )?;
            finish(file, vectors, plan, &graph, &labels)
        }
    }
    .map_err(write_error())?;
    Ok(summary)
}

fn finish<G: Graph + Sync>(
    file: &File,
    vectors: Vectors<'_>,
    plan: &Plan,
    graph: &G,
    labels: &[u64],
) -> std::io::Result<()> {
    let native = plan.engine == Engine::Native;
    let parameters = Parameters {
        m: plan.m,
        m0: plan.m0,
        ef_construction: plan.ef_construction,
        keep_pruned: native,
        prune_by_heuristic: native,
    };
    write_graph(file, vectors, plan.metric, graph, labels, parameters)
}

fn check_batch(batch: &RowBatch, dimension: usize) -> Result<()> {
    let rows = batch.labels.len();
    let consistent = batch.dimension == dimension
        && dimension != 0
        && batch.rows.len() == rows
        && rows.checked_mul(dimension) == Some(batch.vectors.len());
    if consistent {
        Ok(())
    } else {
        Err(Error::internal("a batch of rows of different lengths"))
    }
}
