//! Vectors out of Chroma's persisted HNSW directories, and new HNSW indexes from columnar files.
//!
//! Chroma keeps the embeddings of a collection in a *vector segment directory* of hnswlib files.
//! This crate reads such a directory without Chroma, in memory that does not grow with it:
//!
//! - [`extract_index`] streams its records to a callback, each borrowed from the mapped file;
//! - [`extract_index_to_columnar`] writes them to a Parquet or Arrow IPC file;
//! - [`inspect_index`] tells what the directory holds;
//! - [`verify_index`] tells whether that is as it should be.
//!
//! And [`build_index_from_columnar`] builds a new index, one `.hnsw` file, from such a file.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use hnsw_toolbox::{extract_index, ExtractOptions, Monitor};
//!
//! let directory = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! let options = ExtractOptions {
//!     metadata: Some(format!("{directory}/index_metadata.pickle").into()),
//!     ..ExtractOptions::default()
//! };
//! let mut longest = 0;
//! let summary = extract_index(directory, &options, &Monitor::default(), |record| {
//!     longest = longest.max(record.user_id.map_or(0, |id| id.chars().count()));
//!     assert_eq!(record.vector.len(), 33);
//!     Ok(ControlFlow::Continue(()))
//! })?;
//! assert_eq!(summary.emitted, 1775);
//! assert_eq!(longest, 300);
//! # Ok::<(), hnsw_toolbox::Error>(())
//! ```
//!
//! # Files that change
//!
//! Index files are mapped into memory by default. When another process *truncates* a mapped file,
//! the operating system kills the process that reads it (SIGBUS); no library can turn that into an
//! error. [`IoMode::Read`] reads into a buffer instead and gives an error. Both notice when a file
//! is not the same at the end as it was at the start, and then write nothing.

mod build;
mod columnar;
mod error;
mod extract;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod map;
mod monitor;
mod output;

pub use build::{
    build_index_from_columnar, build_index_from_vectors, BuildOptions, BuildResponse, BuildSummary,
    Engine, Metric,
};
pub use columnar::ColumnarFormat;
pub use error::{BoxError, Error, Result};
pub use extract::{
    extract_index, extract_index_to_columnar, ColumnarOptions, Compression, ExtractOptions,
    ExtractResponse, ExtractSummary, IndexProperties, JoinSummary, Record, Salvage, SalvageSummary,
    Vectors,
};
pub use index::{
    inspect_index, verify_index, FileSize, Finding, IndexHeader, IndexReport, IndexState, IoMode,
    LabelRange, Severity, VerifyReport,
};
pub use monitor::{CancelToken, Monitor, Progress};
