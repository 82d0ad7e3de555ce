//! Builds a graph from the rows of a columnar file, and writes a `.hnsw` graph file.
//!
//! The vectors are written straight to their place in the output. The graph is built over a memory
//! map of that part of the output. Memory is needed for links only, so the vectors may be larger
//! than memory.

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod label_tests;

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

use crate::base::memory;
use crate::base::progress::Monitor;
use crate::columnar::read::{ColumnarInput, RowBatch};
use crate::columnar::selection::ReadOptions;
use crate::columnar::{check_batch_size, ColumnarFormat, DEFAULT_BATCH_SIZE};
use crate::error::{Error, Result};
use crate::graph::distance::{with_space, Measure, Space, Vectors, WithSpace};
use crate::graph::file::layout::VECTORS_OFFSET;
use crate::graph::file::write::{reserve_header, write_graph, Parameters};
#[cfg(feature = "hnsw_rs")]
use crate::graph::hnsw_rs::HnswRs;
use crate::graph::native::{self, Native};
use crate::graph::options::{Engine, GraphOptions};
use crate::graph::partition::Partition;
use crate::graph::range::OutOfRange;
use crate::graph::Graph;
use crate::io::atomic::AtomicFile;
use crate::io::file::IoMode;
use crate::io::mmap::{check_headroom, check_headroom_and, Map};
use crate::io::protected::Protected;
use crate::segment::file_name;

#[cfg(target_endian = "big")]
compile_error!("vectors are mapped from little-endian files");

/// Options for reading a columnar file and building a graph of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildOptions {
    /// Options of the graph.
    pub graph: GraphOptions,
    /// The input's format.
    pub format: ColumnarFormat,
    /// Also insert the rows that are marked as deleted.
    pub include_deleted: bool,
    /// Input rows held in memory: 1 to 1,048,576.
    pub batch_size: usize,
    /// The column of the vectors; `vector` by default.
    pub vector_column: Option<String>,
    /// The column of the labels; it must exist. By default it is `label`, or else `internal_id`, or
    /// else the labels are the row numbers.
    pub label_column: Option<String>,
    /// Use the row numbers as labels, even if there is a column of labels. Excludes `label_column`.
    pub row_numbers: bool,
    /// The I/O mode for the input.
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
            row_numbers: false,
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
    with_row_numbers(row_numbers: bool),
    with_io(io: IoMode),
});

/// The result of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BuildSummary {
    /// Rows of the input.
    pub scanned: u64,
    /// Vectors in the index.
    pub inserted: u64,
    /// Rows left out because they are marked as deleted.
    pub deleted_skipped: u64,
    /// Rows left out because they have no vector. Only the export of a collection may have such
    /// rows.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_vector: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Sentences about problems that affect searches of the graph. Empty for ordinary vectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl BuildOptions {
    fn check(&self) -> Result<()> {
        check_batch_size(self.batch_size)?;
        self.graph.check()
    }
}

/// Builds a `.hnsw` graph of the vectors of a Parquet or Arrow IPC file.
///
/// The column `vector`, or [the selected one](BuildOptions::vector_column), is a list, large list
/// or fixed-size list of float16, float32 or float64. Labels are the integers of the column
/// `label`, or else `internal_id`, or else the row numbers from 0. Rows whose `deleted` is true, or
/// a number other than 0, are skipped unless [included](BuildOptions::include_deleted).
///
/// The output is written atomically: an existing file is replaced only when the new one is
/// complete. The vectors are written straight to their place in it, so that memory is needed for
/// the links of the graph and `batch_size` rows, not for the vectors.
///
/// # Errors
///
/// When an option is invalid, when the input is not such a file or has an invalid row (the error
/// names row, column and component), when there is no row to insert, when the output cannot be
/// written, and when the work is cancelled ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn build_index_from_columnar(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let (input, output) = (input.as_ref(), output.as_ref());
    options.check()?;
    let protected = Protected::names(file_name::PROTECTED).and_input(input);
    // Before the input is read, which may take long.
    protected.check(output)?;
    let mut rows = ColumnarInput::open(
        input,
        &ReadOptions {
            format: options.format,
            batch_size: options.batch_size,
            include_deleted: options.include_deleted,
            vector_column: options.vector_column.clone(),
            label_column: options.label_column.clone(),
            row_numbers: options.row_numbers,
            io: options.io,
        },
    )?;
    build_to(
        &mut rows,
        input,
        (output, protected),
        &options.graph,
        monitor,
    )
}

impl RowSource for ColumnarInput {
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        let more = ColumnarInput::next(self, batch)?;
        // At the end of the rows: a change must be detected before the graph is built.
        if !more {
            self.check_unchanged()?;
        }
        Ok(more)
    }

    fn label_name(&self) -> Option<String> {
        self.label_column().map(|name| format!("column {name}"))
    }
}

/// Builds a `.hnsw` graph of vectors in memory; see [`build_index_from_columnar`] for files.
///
/// `vectors` holds rows of `dimension` finite components each. Without `labels`, the row numbers
/// are used.
///
/// # Errors
///
/// When an option, the dimension or the number of labels is invalid, when a component is not finite
/// (the error names the row), when the output cannot be written, or when the work is cancelled. An
/// existing output then stays unchanged.
pub fn build_index_from_vectors(
    vectors: &[f32],
    dimension: usize,
    labels: Option<&[u64]>,
    output: impl AsRef<Path>,
    options: &GraphOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    options.check()?;
    let rows = vectors.len().checked_div(dimension);
    let Some(rows) = rows.filter(|rows| rows.checked_mul(dimension) == Some(vectors.len())) else {
        return Err(Error::argument(
            "dimension",
            dimension,
            format!("a divisor of the number of components, {}", vectors.len()),
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
    build_to(&mut source, Path::new("vectors"), output, options, monitor)
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
        // Rows checked and copied between two checks for cancellation.
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
            if let Some(at) = vector.iter().position(|component| !component.is_finite()) {
                return Err(Error::argument(
                    "vectors",
                    format!(
                        "{} in row {row}, component {at}",
                        vector.get(at).copied().unwrap_or_default()
                    ),
                    "finite numbers",
                ));
            }
            batch.vectors.extend_from_slice(vector);
        }
        Ok(!rows.is_empty())
    }

    fn label_name(&self) -> Option<String> {
        self.labels.map(|_| "labels".into())
    }
}

/// A source of rows in batches.
trait RowSource {
    /// Replaces the contents of `batch` by the next rows. Returns false, with an empty batch, after
    /// the last row.
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool>;

    /// Returns the name of the labels for a warning, or `None` if they are the row numbers.
    fn label_name(&self) -> Option<String> {
        None
    }
}

/// Memory of a thread: its stack, and its share of the allocator.
const BYTES_PER_THREAD: usize = 4 << 20;

/// Builds a graph file of the rows. Errors about rows name `input`.
fn build_to<R: RowSource>(
    rows: &mut R,
    input: &Path,
    (output, protected): (&Path, Protected),
    options: &GraphOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildSummary> {
    let mut target = AtomicFile::create(output, protected)?;
    let (summary, labels) = write_vectors(rows, input, &mut target, options, monitor)?;
    let bytes = labels
        .len()
        .checked_mul(summary.dimension)
        .and_then(|components| components.checked_mul(size_of::<f32>()))
        .ok_or_else(|| Error::out_of_memory("map the vectors", None).in_file(output))?;
    // By now the output holds the vectors; its header, lists and labels are written below.
    let map = Map::new(target.file()?, VECTORS_OFFSET, bytes)
        .map_err(Error::io(output, "map into memory"))?;
    let data = <[f32]>::ref_from_bytes(&map)
        .map_err(|_| Error::internal("the map of the vectors is not aligned"))?;
    let work = BuildGraph {
        target: &mut target,
        labels: &labels,
        options,
        monitor,
    };
    let threads = options.threads()?.get();
    check_headroom_and(threads.saturating_mul(BYTES_PER_THREAD), "build the graph")?;
    with_space(options.metric, Vectors::new(data, summary.dimension)?, work)??;
    drop(map);
    target.commit()?;
    Ok(summary)
}

/// Writes the vectors of all rows to their place in the output. Returns their labels.
fn write_vectors<R: RowSource>(
    rows: &mut R,
    input: &Path,
    target: &mut AtomicFile,
    options: &GraphOptions,
    monitor: &Monitor<'_>,
) -> Result<(BuildSummary, Vec<u64>)> {
    let mut labels: Vec<u64> = Vec::new();
    let mut summary = BuildSummary {
        scanned: 0,
        inserted: 0,
        deleted_skipped: 0,
        without_vector: 0,
        dimension: 0,
        warnings: Vec::new(),
    };
    let mut out_of_range = OutOfRange::default();
    let mut batch = RowBatch::default();
    // `write_graph` fills in the header when the graph is known.
    reserve_header(target).map_err(|error| target.write_error(error))?;
    while rows.next(&mut batch)? {
        monitor.check()?;
        summary.scanned = summary.scanned.saturating_add(batch.scanned);
        summary.deleted_skipped = summary
            .deleted_skipped
            .saturating_add(batch.deleted_skipped);
        summary.without_vector = summary.without_vector.saturating_add(batch.without_vector);
        if batch.labels.is_empty() {
            continue;
        }
        // The first batch with rows sets the dimension. The others must agree.
        if labels.is_empty() {
            summary.dimension = batch.dimension;
        }
        check_batch(&batch, summary.dimension)?;
        check_capacity(&batch, labels.len(), options.capacity)?;
        // Decoders make small allocations that abort on failure.
        check_headroom("read the next rows").map_err(|error| error.in_file(input))?;
        memory::reserve(&mut labels, batch.labels.len(), "hold the labels")?;
        labels.extend_from_slice(&batch.labels);
        out_of_range.count(options.metric, &batch.vectors, batch.dimension);
        target
            .write_all(batch.vectors.as_bytes())
            .map_err(|error| target.write_error(error))?;
    }
    summary.inserted = labels.len() as u64;
    summary.warnings = out_of_range.warnings(options.metric, summary.inserted);
    if let Some(name) = rows.label_name() {
        summary.warnings.extend(repeated_labels(&name, &labels)?);
    }

    let invalid = |field: &'static str, found: String, expected: &'static str| {
        Err(Error::input(input, field, found, expected))
    };
    if labels.is_empty() {
        let found = match summary.scanned {
            0 => "none".to_string(),
            deleted => format!("{deleted}, all of them deleted"),
        };
        return invalid("rows", found, "at least one vector to insert");
    }
    if labels.len() > native::MAX_NODES {
        return invalid(
            "rows",
            format!("{} vectors", labels.len()),
            "at most 2147483647, because node numbers have 31 bits",
        );
    }
    if out_of_range.unusable(options.metric) == summary.inserted {
        return invalid(
            "vectors",
            summary.warnings.join("; "),
            "at least one vector whose norm is representable as f32",
        );
    }
    Ok((summary, labels))
}

/// Returns a warning if labels are not unique. The classes of a data set are a typical mistake.
fn repeated_labels(name: &str, labels: &[u64]) -> Result<Option<String>> {
    let mut sorted = memory::with_capacity(labels.len(), "compare the labels")?;
    sorted.extend_from_slice(labels);
    // Sorted, equal labels are adjacent. The first one of each is not a repetition.
    sorted.sort_unstable();
    let repeated = sorted.windows(2).filter(|pair| pair.first() == pair.last());
    let (repeated, all) = (repeated.count(), labels.len());
    Ok((repeated > 0).then(|| {
        format!(
            "{name}: {repeated} of {all} labels repeat another label, so results do not identify \
             a vector; --row-numbers (row_numbers) uses the row numbers instead"
        )
    }))
}

fn check_capacity(batch: &RowBatch, before: usize, capacity: Option<usize>) -> Result<()> {
    match capacity {
        Some(capacity) if before.saturating_add(batch.labels.len()) > capacity => {
            let one_too_many = batch.rows.get(capacity.saturating_sub(before));
            let expected = format!(
                "at least the number of vectors to insert; row {} is one more",
                one_too_many.copied().unwrap_or_default()
            );
            Err(Error::argument("capacity", capacity, expected))
        }
        _ => Ok(()),
    }
}

/// Builds the graph and writes it behind the vectors.
struct BuildGraph<'a> {
    target: &'a mut AtomicFile,
    labels: &'a [u64],
    options: &'a GraphOptions,
    monitor: &'a Monitor<'a>,
}

impl WithSpace for BuildGraph<'_> {
    type Output = Result<()>;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<()> {
        match self.options.engine {
            Engine::Native => {
                let graph = self.native()?.run(space)?;
                self.write(space, &graph, true)
            }
            Engine::Partition => {
                let graph = Partition(self.native()?).run(space)?;
                self.write(space, &graph, true)
            }
            #[cfg(feature = "hnsw_rs")]
            Engine::HnswRs => {
                let graph = HnswRs {
                    metric: self.options.metric,
                    m: self.options.m,
                    ef_construction: self.options.ef_construction,
                    // A seed only makes this engine use one thread.
                    repeatable: self.options.seed.is_some(),
                    threads: self.options.threads()?,
                    monitor: self.monitor,
                };
                let graph = graph.run(space)?;
                self.write(space, &graph, false)
            }
            #[cfg(not(feature = "hnsw_rs"))]
            // Always an error: `check` refuses the engine without the feature.
            Engine::HnswRs => self.options.check(),
        }
    }
}

impl<'a> BuildGraph<'a> {
    fn native(&self) -> Result<Native<'a>> {
        Ok(Native {
            m: self.options.m,
            m0: self.options.m0(),
            ef_construction: self.options.ef_construction,
            seed: self.options.seed.unwrap_or_default(),
            threads: self.options.threads()?,
            monitor: self.monitor,
        })
    }

    /// Writes the graph. `ours` is true for an engine of this crate, which prunes by the heuristic
    /// of the HNSW paper and keeps pruned candidates; the header of the file records both.
    fn write<G: Graph, M: Measure>(
        self,
        space: &Space<'_, M>,
        graph: &G,
        ours: bool,
    ) -> Result<()> {
        let parameters = Parameters {
            m: self.options.m,
            m0: self.options.m0(),
            ef_construction: self.options.ef_construction,
            keep_pruned: ours,
            prune_by_heuristic: ours,
        };
        let metric = self.options.metric;
        write_graph(self.target, space, metric, graph, self.labels, parameters)
    }
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
        Err(Error::internal("a batch with inconsistent lengths"))
    }
}
