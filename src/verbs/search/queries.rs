//! Searches for the vectors of a file.

use std::path::Path;

use serde::Serialize;

use super::{HnswIndex, Neighbour, OpenOptions};
use crate::base::path::display_path;
use crate::base::progress::Monitor;
use crate::columnar::columns::{Column, ColumnType, ElementType, Schema, Value};
use crate::columnar::read::{ColumnarInput, RowBatch};
use crate::columnar::selection::ReadOptions;
use crate::columnar::source::WriteOptions;
use crate::columnar::write::TableWriter;
use crate::columnar::{check_batch_size, ColumnarFormat};
use crate::error::{BoxError, Error, Result};
use crate::graph::distance::Metric;
use crate::io::atomic::AtomicFile;
use crate::io::file::IoMode;
use crate::io::protected::Protected;
use crate::segment::file_name;
use crate::verbs::build::is_zero;

// The columns of an output.
const QUERY: &str = "query";
const LABELS: &str = "labels";
const DISTANCES: &str = "distances";

/// Options of a search for the vectors of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchOptions {
    /// Number of neighbours per query: at least 1.
    pub k: usize,
    /// Number of candidates that a search keeps. Larger values raise recall and cost time. Values
    /// below `k` count as `k`.
    pub ef: usize,
    /// The metric of an index whose file does not state it.
    pub metric: Option<Metric>,
    /// Format of the file of queries.
    pub queries_format: ColumnarFormat,
    /// The column of the queries; `vector` by default. No other column is read.
    pub vector_column: Option<String>,
    /// Format of the output.
    pub output_format: ColumnarFormat,
    /// Queries held in memory: 1 to 1,048,576.
    pub batch_size: usize,
    /// Number of search threads: 1 to 1024; by default one per core.
    pub threads: Option<usize>,
    /// The I/O mode for the index and the queries.
    pub io: IoMode,
    /// Load the whole index into memory first: see [`OpenOptions::load`].
    pub load: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            k: 10,
            ef: 100,
            metric: None,
            queries_format: ColumnarFormat::default(),
            vector_column: None,
            output_format: ColumnarFormat::default(),
            batch_size: 1024,
            threads: None,
            io: IoMode::default(),
            load: false,
        }
    }
}

setters!(SearchOptions {
    with_k(k: usize),
    with_ef(ef: usize),
    with_metric(metric: impl Into<Option<Metric>>),
    with_queries_format(queries_format: ColumnarFormat),
    with_vector_column(vector_column: impl Into<Option<String>>),
    with_output_format(output_format: ColumnarFormat),
    with_batch_size(batch_size: usize),
    with_threads(threads: impl Into<Option<usize>>),
    with_io(io: IoMode),
    with_load(load: bool),
});

/// The result of a search for the vectors of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SearchSummary {
    /// The metric of the index.
    pub metric: Metric,
    /// Vectors in the index.
    pub vectors: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Rows of the file of queries.
    pub queries: u64,
    /// Total number of neighbours found.
    pub found: u64,
    /// Damaged vectors of the index that searches met and skipped: see
    /// [`HnswIndex::damaged_vectors`].
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged_skipped: u64,
}

/// Searches an index for each row of a Parquet or Arrow IPC file. The queries are in the column
/// `vector`, or in [the selected one](SearchOptions::vector_column).
///
/// `answer` gets the number of each row, in order, and its neighbours, nearest first. `batch_size`
/// rows and their neighbours are held in memory.
///
/// # Errors
///
/// When an option is invalid, when the index or the queries cannot be read, when the dimension of a
/// query differs from the index, when `answer` fails
/// ([`ErrorKind::Callback`](crate::ErrorKind::Callback)), and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn search_index(
    index: impl AsRef<Path>,
    queries: impl AsRef<Path>,
    options: &SearchOptions,
    monitor: &Monitor<'_>,
    mut answer: impl FnMut(u64, &[Neighbour]) -> Result<(), BoxError>,
) -> Result<SearchSummary> {
    search_each(
        index.as_ref(),
        queries.as_ref(),
        options,
        monitor,
        |query, neighbours| answer(query, neighbours).map_err(Error::callback),
    )
}

/// Searches an index like [`search_index`], and writes the results to a Parquet or Arrow IPC file.
///
/// Its columns are `query` (uint64, the number of the row), `labels` (list of uint64) and
/// `distances` (list of float32), nearest first. No value is null.
///
/// # Errors
///
/// The same as for [`search_index`], and when the output cannot be written. An existing file then
/// stays unchanged.
pub fn search_index_to_columnar(
    index: impl AsRef<Path>,
    queries: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &SearchOptions,
    monitor: &Monitor<'_>,
) -> Result<SearchSummary> {
    let (index, queries, output) = (index.as_ref(), queries.as_ref(), output.as_ref());
    check_batch_size(options.batch_size)?;
    let protected = Protected::names(file_name::PROTECTED)
        .and_input(index)
        .and_input(queries);
    let schema = Schema {
        columns: vec![
            Column::required(QUERY, ColumnType::UInt64),
            Column::required(LABELS, ColumnType::List(ElementType::UInt64)),
            Column::required(DISTANCES, ColumnType::List(ElementType::Float32)),
        ],
        metadata: Vec::new(),
    };
    let write = WriteOptions {
        format: options.output_format,
        batch_size: options.batch_size,
        ..WriteOptions::default()
    };
    let mut file = AtomicFile::create(output, protected)?;
    let mut table = TableWriter::new(&mut file, &schema, &write)?;
    let (mut labels, mut distances) = (Vec::new(), Vec::new());
    let summary = search_each(index, queries, options, monitor, |query, neighbours| {
        labels.clear();
        labels.extend(neighbours.iter().map(|neighbour| neighbour.label));
        distances.clear();
        distances.extend(neighbours.iter().map(|neighbour| neighbour.distance));
        table.push(0, Value::UInt64(query))?;
        table.push(1, Value::UInt64List(&labels))?;
        table.push(2, Value::Vector(&distances))?;
        table.end_row()
    })?;
    table.finish()?;
    file.commit()?;
    Ok(summary)
}

fn search_each(
    path: &Path,
    queries: &Path,
    options: &SearchOptions,
    monitor: &Monitor<'_>,
    mut answer: impl FnMut(u64, &[Neighbour]) -> Result<()>,
) -> Result<SearchSummary> {
    check_batch_size(options.batch_size)?;
    let open = OpenOptions::default()
        .with_metric(options.metric)
        .with_io(options.io)
        .with_load(options.load);
    let index = HnswIndex::open(path, &open)?;
    let read = ReadOptions {
        format: options.queries_format,
        batch_size: options.batch_size,
        // Every row is a query, and is identified by its number.
        include_deleted: true,
        vector_column: options.vector_column.clone(),
        row_numbers: true,
        io: options.io,
        ..ReadOptions::default()
    };
    let mut input = ColumnarInput::open(queries, &read)?;
    let total = input.row_count();
    let mut summary = SearchSummary {
        metric: index.metric(),
        vectors: index.len() as u64,
        dimension: index.dimension(),
        queries: 0,
        found: 0,
        damaged_skipped: 0,
    };
    let mut batch = RowBatch::default();
    while input.next(&mut batch)? {
        if batch.dimension != index.dimension() {
            return Err(Error::input(
                queries,
                format!("column {}", input.vector_name()),
                format!("dimension {}", batch.dimension),
                format!("{}, as in {}", index.dimension(), display_path(path)),
            ));
        }
        let results = index.search_batch(&batch.vectors, options.k, options.ef, options.threads)?;
        for (query, neighbours) in batch.rows.iter().zip(&results) {
            answer(*query, neighbours)?;
            summary.queries = summary.queries.saturating_add(1);
            summary.found = summary.found.saturating_add(neighbours.len() as u64);
        }
        monitor.advance(summary.queries, total)?;
    }
    // At the end, so that they cover every read.
    input.check_unchanged()?;
    index.check_unchanged()?;
    summary.damaged_skipped = index.damaged_vectors();
    Ok(summary)
}
