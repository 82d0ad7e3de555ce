//! Responses of the C ABI and of `--json`. Not part of the public interface of this crate.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::progress::Monitor;
use crate::columnar::arrow_ipc::write::IpcStream;
use crate::columnar::columns::{INTERNAL_ID, LABEL};
use crate::columnar::ColumnarFormat;
use crate::error::Result;
use crate::graph::distance::Metric;
use crate::verbs::build::{build_index_from_columnar, BuildOptions, BuildSummary};
#[cfg(feature = "database")]
use crate::verbs::collections::CollectionList;
#[cfg(feature = "database")]
use crate::verbs::export::{
    export_collection_to_batches, export_collections, ExportOptions, ExportSummary,
};
use crate::verbs::extract::{
    extract_index_to_batches, extract_index_to_columnar, ColumnarOptions, ExtractSummary,
};
use crate::verbs::inspect::IndexReport;
use crate::verbs::inspect_hnsw::HnswReport;
use crate::verbs::recall::RecallReport;
#[cfg(feature = "database")]
use crate::verbs::repair::store::RepairStoreSummary;
use crate::verbs::repair::{repair_index, RepairOptions, RepairSummary};
use crate::verbs::search::queries::{search_index_to_columnar, SearchOptions, SearchSummary};
use crate::verbs::verify::VerifyReport;

pub use crate::base::path::Shell;
#[cfg(feature = "database")]
pub use crate::verbs::repair::store::store_space;
pub use crate::verbs::stream::{Batch, BatchStream, StreamSource};

/// Columns that `build` takes labels from, unless it is given another.
pub const LABEL_COLUMNS: [&str; 2] = [LABEL, INTERNAL_ID];

/// Checks that 16 MiB can be allocated. `action` describes their purpose in the error.
///
/// # Errors
///
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if they cannot.
pub fn check_headroom(action: &'static str) -> Result<()> {
    crate::io::mmap::check_headroom(action)
}

/// A response of the C ABI and of `--json`.
pub trait Answer: Serialize {
    /// Returns false if records, vectors or texts are missing or damaged. The command line then
    /// exits with status 3.
    fn is_complete(&self) -> bool {
        true
    }
}

/// A response with the field `complete`, which all responses have.
#[derive(Serialize)]
struct Completed<'a, A> {
    complete: bool,
    #[serde(flatten)]
    answer: &'a A,
}

/// Writes a response as one JSON object.
///
/// # Errors
///
/// Errors of `output`, and an error for a path that is not UTF-8.
pub fn write_json(output: impl Write, answer: &impl Answer) -> io::Result<()> {
    let complete = answer.is_complete();
    serde_json::to_writer(output, &Completed { complete, answer }).map_err(io::Error::from)
}

impl Answer for BuildResponse {}
impl Answer for SearchResponse {}
impl Answer for IndexReport {}
impl Answer for HnswReport {}
impl Answer for RecallReport {}

/// Always complete: the damage that a verification finds is its result.
impl Answer for VerifyReport {}

impl Answer for ExtractResponse {
    fn is_complete(&self) -> bool {
        self.summary.is_complete()
    }
}

impl Answer for RepairResponse {
    fn is_complete(&self) -> bool {
        self.summary.is_complete()
    }
}

#[cfg(feature = "database")]
impl Answer for RepairStoreSummary {
    fn is_complete(&self) -> bool {
        self.is_complete()
    }
}

#[cfg(feature = "database")]
impl Answer for CollectionList {
    fn is_complete(&self) -> bool {
        self.is_complete()
    }
}

#[cfg(feature = "database")]
impl Answer for ExportResponse {
    fn is_complete(&self) -> bool {
        self.summary.is_complete()
    }
}

/// The response of an extraction.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractResponse {
    /// The path of the output, as given.
    pub output_path: PathBuf,
    /// Format of the output.
    pub output_format: ColumnarFormat,
    /// The summary of the work.
    pub summary: ExtractSummary,
}

/// Extracts an index like [`extract_index_to_columnar`].
pub fn extract(
    index_dir: PathBuf,
    output_path: PathBuf,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractResponse> {
    let summary = extract_index_to_columnar(index_dir, &output_path, options, monitor)?;
    Ok(ExtractResponse {
        output_path,
        output_format: options.format,
        summary,
    })
}

/// Extracts an index like [`extract`], but writes an Arrow IPC stream to `output`. It takes the
/// same memory as a file.
///
/// After an error the stream lacks its end-of-stream marker. Many readers accept such a stream, so
/// only the error shows that an index changed while it was read.
///
/// # Errors
///
/// Errors of an extraction. Errors of `output` are in
/// [`ErrorKind::Callback`](crate::ErrorKind::Callback).
pub fn extract_to_stream(
    index_dir: &Path,
    output: impl Write,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractSummary> {
    let mut stream = IpcStream::new(output);
    let summary = extract_index_to_batches(index_dir, options, monitor, &mut stream)?;
    // The end-of-stream marker, only after success.
    stream.finish()?;
    Ok(summary)
}

/// The response of a build.
#[derive(Clone, Debug, Serialize)]
pub struct BuildResponse {
    /// The path of the input, as given.
    pub input_path: PathBuf,
    /// The path of the output, as given.
    pub output_path: PathBuf,
    /// Format of the input.
    pub input_format: ColumnarFormat,
    /// The metric that the index was built for.
    pub metric: Metric,
    /// The summary of the work.
    pub summary: BuildSummary,
}

/// Builds a graph like [`build_index_from_columnar`].
pub fn build(
    input_path: PathBuf,
    output_path: PathBuf,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildResponse> {
    let summary = build_index_from_columnar(&input_path, &output_path, options, monitor)?;
    Ok(BuildResponse {
        input_path,
        output_path,
        input_format: options.format,
        metric: options.graph.metric,
        summary,
    })
}

/// The response of an export.
#[cfg(feature = "database")]
#[derive(Clone, Debug, Serialize)]
pub struct ExportResponse {
    /// The path of the output, as given.
    pub output_path: PathBuf,
    /// Format of the files.
    pub output_format: ColumnarFormat,
    /// The summary of the work.
    pub summary: ExportSummary,
}

/// Exports collections like [`export_collections`].
#[cfg(feature = "database")]
pub fn export(
    persist_dir: PathBuf,
    output_path: PathBuf,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<ExportResponse> {
    let summary = export_collections(persist_dir, &output_path, options, monitor)?;
    Ok(ExportResponse {
        output_path,
        output_format: options.format,
        summary,
    })
}

/// Exports one collection to an Arrow IPC stream; see [`extract_to_stream`]. The file name, length
/// and hash in the summary are empty.
///
/// # Errors
///
/// Errors of an export of one collection. Errors of `output` are in
/// [`ErrorKind::Callback`](crate::ErrorKind::Callback).
#[cfg(feature = "database")]
pub fn export_to_stream(
    persist_dir: &Path,
    output: impl Write,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<ExportSummary> {
    let mut stream = IpcStream::new(output);
    let summary = export_collection_to_batches(persist_dir, options, monitor, &mut stream)?;
    // The end-of-stream marker, only after success.
    stream.finish()?;
    Ok(summary)
}

/// The response of a search.
#[derive(Clone, Debug, Serialize)]
pub struct SearchResponse {
    /// The path of the index, as given.
    pub index_path: PathBuf,
    /// The path of the queries, as given.
    pub queries_path: PathBuf,
    /// The path of the output, as given.
    pub output_path: PathBuf,
    /// Format of the output.
    pub output_format: ColumnarFormat,
    /// The summary of the work.
    pub summary: SearchSummary,
}

/// Searches an index like [`search_index_to_columnar`].
pub fn search(
    index_path: PathBuf,
    queries_path: PathBuf,
    output_path: PathBuf,
    options: &SearchOptions,
    monitor: &Monitor<'_>,
) -> Result<SearchResponse> {
    let summary =
        search_index_to_columnar(&index_path, &queries_path, &output_path, options, monitor)?;
    Ok(SearchResponse {
        index_path,
        queries_path,
        output_path,
        output_format: options.output_format,
        summary,
    })
}

/// The response of a repair.
#[derive(Clone, Debug, Serialize)]
pub struct RepairResponse {
    /// The path of the new directory, as given.
    pub output_path: PathBuf,
    /// The summary of the work.
    pub summary: RepairSummary,
}

/// Repairs an index like [`repair_index`].
pub fn repair(
    index_dir: PathBuf,
    output_path: PathBuf,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairResponse> {
    let summary = repair_index(index_dir, &output_path, options, monitor)?;
    Ok(RepairResponse {
        output_path,
        summary,
    })
}
