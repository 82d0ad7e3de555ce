//! What the C ABI and `--json` answer. No part of the public interface of this crate.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::progress::Monitor;
use crate::columnar::arrow_ipc::write::IpcStream;
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
use crate::verbs::repair::{repair_index, RepairOptions, RepairSummary};
use crate::verbs::search::queries::{search_index_to_columnar, SearchOptions, SearchSummary};
use crate::verbs::verify::VerifyReport;

pub use crate::base::path::Shell;
pub use crate::verbs::stream::{Batch, BatchStream, StreamSource};

/// Fails when 16 MiB more could not be allocated. `action` says in the error what they are for.
///
/// # Errors
///
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn check_headroom(action: &'static str) -> Result<()> {
    crate::io::mmap::check_headroom(action)
}

/// A response of the C ABI, and what `--json` prints.
pub trait Answer: Serialize {
    /// False if records, vectors or texts are missing or damaged. The command line then ends with
    /// status 3.
    fn is_complete(&self) -> bool {
        true
    }
}

/// A response with the field that all have.
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
/// Those of `output`, and of a path that is not UTF-8.
pub fn write_json(output: impl Write, answer: &impl Answer) -> io::Result<()> {
    let complete = answer.is_complete();
    serde_json::to_writer(output, &Completed { complete, answer }).map_err(io::Error::from)
}

impl Answer for BuildResponse {}
impl Answer for SearchResponse {}
impl Answer for IndexReport {}
impl Answer for HnswReport {}
impl Answer for RecallReport {}

/// Damage that a check finds is its result: the check itself is complete.
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

/// The answer to a request to extract.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractResponse {
    /// Where the output is, as it was asked for.
    pub output_path: PathBuf,
    /// Format of the output.
    pub output_format: ColumnarFormat,
    /// What was done.
    pub summary: ExtractSummary,
}

/// As [`extract_index_to_columnar`].
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

/// As [`extract`], but writes an Arrow IPC stream to `output`. Memory is that of a file.
///
/// After an error the stream has no mark of its end, but many readers do without one: that an index
/// changed while it was read is known from the error only.
///
/// # Errors
///
/// Those of an extraction. Errors of `output` are in [`Error::Callback`](crate::Error::Callback).
pub fn extract_to_stream(
    index_dir: &Path,
    output: impl Write,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractSummary> {
    let mut stream = IpcStream::new(output);
    let summary = extract_index_to_batches(index_dir, options, monitor, &mut stream)?;
    stream.finish()?;
    Ok(summary)
}

/// The answer to a request to build.
#[derive(Clone, Debug, Serialize)]
pub struct BuildResponse {
    /// The input, as it was asked for.
    pub input_path: PathBuf,
    /// Where the output is, as it was asked for.
    pub output_path: PathBuf,
    /// Format of the input.
    pub input_format: ColumnarFormat,
    /// The metric that the index was built for.
    pub metric: Metric,
    /// What was done.
    pub summary: BuildSummary,
}

/// As [`build_index_from_columnar`].
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

/// The answer to a request to export.
#[cfg(feature = "database")]
#[derive(Clone, Debug, Serialize)]
pub struct ExportResponse {
    /// Where the output is, as it was asked for.
    pub output_path: PathBuf,
    /// Format of the files.
    pub output_format: ColumnarFormat,
    /// What was done.
    pub summary: ExportSummary,
}

/// As [`export_collections`].
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

/// As [`extract_to_stream`], of one collection. What the summary says of its file is empty.
///
/// # Errors
///
/// Those of an export of one collection, and those of `output` as there.
#[cfg(feature = "database")]
pub fn export_to_stream(
    persist_dir: &Path,
    output: impl Write,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<ExportSummary> {
    let mut stream = IpcStream::new(output);
    let summary = export_collection_to_batches(persist_dir, options, monitor, &mut stream)?;
    stream.finish()?;
    Ok(summary)
}

/// The answer to a request to search.
#[derive(Clone, Debug, Serialize)]
pub struct SearchResponse {
    /// The index, as it was asked for.
    pub index_path: PathBuf,
    /// The queries, as they were asked for.
    pub queries_path: PathBuf,
    /// Where the output is, as it was asked for.
    pub output_path: PathBuf,
    /// Format of the output.
    pub output_format: ColumnarFormat,
    /// What was done.
    pub summary: SearchSummary,
}

/// As [`search_index_to_columnar`].
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

/// The answer to a request to repair.
#[derive(Clone, Debug, Serialize)]
pub struct RepairResponse {
    /// The new directory, as it was asked for.
    pub output_path: PathBuf,
    /// What was done.
    pub summary: RepairSummary,
}

/// As [`repair_index`].
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
