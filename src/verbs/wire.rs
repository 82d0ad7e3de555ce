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
#[cfg(feature = "database")]
use crate::verbs::import::ImportSummary;
use crate::verbs::inspect::IndexReport;
use crate::verbs::inspect_hnsw::HnswReport;
use crate::verbs::recall::RecallReport;
#[cfg(feature = "database")]
use crate::verbs::repair::store::RepairStoreSummary;
use crate::verbs::repair::{repair_index, RepairOptions, RepairSummary};
use crate::verbs::search::queries::{search_index_to_columnar, SearchOptions, SearchSummary};
use crate::verbs::verify::VerifyReport;

pub use crate::base::path::Shell;
pub use crate::base::threads::lock;
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

impl Answer for IndexReport {}
impl Answer for HnswReport {}
impl Answer for RecallReport {}

/// Always complete: the damage that a verification finds is its result.
impl Answer for VerifyReport {}

#[cfg(feature = "database")]
impl Answer for RepairStoreSummary {
    fn is_complete(&self) -> bool {
        self.is_complete()
    }
}

#[cfg(feature = "database")]
impl Answer for ImportSummary {
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

impl<T: Serialize> Answer for Response<T> {
    fn is_complete(&self) -> bool {
        self.complete
    }
}

/// The summary of the work, with the paths and formats that the request named.
#[derive(Clone, Debug, Serialize)]
pub struct Response<T> {
    #[serde(skip)]
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queries_path: Option<PathBuf>,
    /// The path of the output, as given.
    pub output_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_format: Option<ColumnarFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_format: Option<ColumnarFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<Metric>,
    /// The summary of the work.
    pub summary: T,
}

impl<T> Response<T> {
    fn new(complete: bool, output_path: PathBuf, summary: T) -> Self {
        Self {
            complete,
            input_path: None,
            index_path: None,
            queries_path: None,
            output_path,
            input_format: None,
            output_format: None,
            metric: None,
            summary,
        }
    }
}

/// Extracts an index like [`extract_index_to_columnar`].
pub fn extract(
    index_dir: PathBuf,
    output_path: PathBuf,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<Response<ExtractSummary>> {
    let summary = extract_index_to_columnar(index_dir, &output_path, options, monitor)?;
    Ok(Response {
        output_format: Some(options.format),
        ..Response::new(summary.is_complete(), output_path, summary)
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

/// Builds a graph like [`build_index_from_columnar`].
pub fn build(
    input_path: PathBuf,
    output_path: PathBuf,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<Response<BuildSummary>> {
    let summary = build_index_from_columnar(&input_path, &output_path, options, monitor)?;
    Ok(Response {
        input_path: Some(input_path),
        input_format: Some(options.format),
        metric: Some(options.graph.metric),
        ..Response::new(true, output_path, summary)
    })
}

/// Exports collections like [`export_collections`].
#[cfg(feature = "database")]
pub fn export(
    persist_dir: PathBuf,
    output_path: PathBuf,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<Response<ExportSummary>> {
    let summary = export_collections(persist_dir, &output_path, options, monitor)?;
    Ok(Response {
        output_format: Some(options.format),
        ..Response::new(summary.is_complete(), output_path, summary)
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

/// Searches an index like [`search_index_to_columnar`].
pub fn search(
    index_path: PathBuf,
    queries_path: PathBuf,
    output_path: PathBuf,
    options: &SearchOptions,
    monitor: &Monitor<'_>,
) -> Result<Response<SearchSummary>> {
    let summary =
        search_index_to_columnar(&index_path, &queries_path, &output_path, options, monitor)?;
    Ok(Response {
        index_path: Some(index_path),
        queries_path: Some(queries_path),
        output_format: Some(options.output_format),
        ..Response::new(true, output_path, summary)
    })
}

/// Repairs an index like [`repair_index`].
pub fn repair(
    index_dir: PathBuf,
    output_path: PathBuf,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<Response<RepairSummary>> {
    let summary = repair_index(index_dir, &output_path, options, monitor)?;
    Ok(Response::new(summary.is_complete(), output_path, summary))
}
