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
//! And [`build_index_from_columnar`] builds a new index, one `.hnsw` file, from such a file, which
//! [`HnswIndex`] searches where it lies.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use hnsw_toolbox::{extract_index, ExtractOptions, Monitor};
//!
//! let directory = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! let options = ExtractOptions::default().with_include_deleted(true);
//! let mut longest = 0;
//! let summary = extract_index(directory, &options, &Monitor::default(), |record| {
//!     longest = longest.max(record.user_id.map_or(0, |id| id.chars().count()));
//!     assert_eq!(record.vector.len(), 33);
//!     Ok(ControlFlow::Continue(()))
//! })?;
//! assert_eq!(summary.emitted, summary.scanned);
//! # assert_eq!(longest, 300);
//! # Ok::<(), hnsw_toolbox::Error>(())
//! ```
//!
//! # Files that change
//!
//! Index files are mapped into memory by default. When another process *truncates* a mapped file,
//! the operating system kills the process that reads it (SIGBUS); no library can turn that into an
//! error. [`IoMode::Read`] reads into a buffer instead and gives an error. Both notice when a file
//! is not the same at the end as it was at the start, and then write nothing.

// Nothing that a caller or a file gives may stop the process or lose bits unseen. Tests are free: to
// panic is how they fail.
#![cfg_attr(
    not(any(test, feature = "_fuzzing")),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::print_stderr
    ),
    warn(missing_docs, unreachable_pub)
)]

#[macro_use]
mod macros;

mod bits;
mod build;
mod chroma;
#[cfg(feature = "database")]
mod collections;
mod columnar;
mod error;
#[cfg(feature = "database")]
mod export;
mod extract;
#[cfg(any(test, feature = "_fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod inspect;
mod io;
mod memory;
mod path;
mod progress;
mod search;
mod threads;
mod verify;
#[cfg(feature = "wire")]
#[doc(hidden)]
pub mod wire;

pub use build::{build_index_from_columnar, build_index_from_vectors, BuildOptions, BuildSummary};
pub use chroma::{IndexHeader, LabelRange};
#[cfg(feature = "database")]
pub use collections::{
    list_collections, CollectionFilter, CollectionFinding, CollectionList, CollectionMetadata,
    CollectionReport, CollectionState,
};
pub use columnar::{ColumnarFormat, Compression};
pub use error::{BoxError, Error, Result};
#[cfg(feature = "database")]
pub use export::{
    export_collection, export_collections, ExportOptions, ExportSummary, ExportedFile, MetadataForm,
};
pub use extract::{
    extract_index, extract_index_to_columnar, ColumnarOptions, ExtractOptions, ExtractSummary,
    IndexProperties, JoinSummary, MetadataFrom, Record, Salvage, SalvageSummary, VectorForm,
};
pub use graph::distance::Metric;
pub use graph::options::{Engine, GraphOptions};
pub use inspect::{inspect_index, FileSize, IndexReport, InspectOptions};
pub use io::file::IoMode;
pub use path::display_path;
pub use progress::{CancelToken, Monitor, Progress};
pub use search::{HnswIndex, Neighbour, OpenOptions};
pub use verify::{verify_index, Finding, IndexState, Severity, VerifyOptions, VerifyReport};
