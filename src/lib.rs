//! Rescues the collections of Chroma, and builds and searches HNSW graphs.
//!
//! Chroma keeps a collection in two places: ids, documents, metadata and a queue of writes in
//! `chroma.sqlite3`, and vectors in a *segment*, a directory of hnswlib files. This crate reads both
//! without Chroma, in memory that does not grow with the vectors, and never writes to them.
//!
//! | source | result | function |
//! |---|---|---|
//! | persist directory | the state of each collection | `list_collections` |
//! | persist directory | a file for each collection: ids, vectors, documents, metadata | `export_collections`, `export_collection` |
//! | persist directory | a healthy persist directory, under a new name or the same | `repair_store`, `repair_store_in_place` |
//! | persist directories, exports, Parquet and Arrow IPC files | a persist directory with their collections | `import_collections`, `import_collections_in_place` |
//! | persist directory or segment | a healthy segment, which Chroma loads | [`repair_index`] |
//! | segment | its records, borrowed one by one | [`extract_index`] |
//! | segment | a Parquet or Arrow IPC file | [`extract_index_to_columnar`] |
//! | segment | what it contains, or whether it is damaged | [`inspect_index`], [`verify_index`] |
//! | Parquet or Arrow IPC file | a graph file, `.hnsw` | [`build_index_from_columnar`] |
//! | vectors in memory | a graph file | [`build_index_from_vectors`] |
//! | graph file | nearest neighbours | [`HnswIndex`], [`search_index`], [`search_index_to_columnar`] |
//! | graph file | the share of true neighbours that searches find | [`measure_recall`] |
//! | graph file | what it contains, or whether it is damaged | [`inspect_hnsw`], [`verify_hnsw`] |
//!
//! Each function takes an options struct with `with_` setters, and a [`Monitor`], which reports
//! progress and stops the work. `is_complete` of a summary says whether anything is missing.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `database` | yes | collections, exports, imports and repairs of whole stores; compiles SQLite |
//! | `codecs` | no | input files compressed with gzip, Brotli or LZ4; Snappy and zstd are always read |
//! | `hnsw_rs` | no | [`Engine::HnswRs`], with the crate of that name |
//!
//! # Errors
//!
//! An [`Error`] names the file and the field, what was found and what was expected, and has a
//! stable [code](Error::code): 100 for a wrong request, 200 for damaged input, 300 for a refusal of
//! the operating system. [`ErrorKind`] lists them. A refusal, such as too many open files, is never
//! taken for damage.
//!
//! # Examples
//!
//! Go over the records of an index, with the ids that Chroma's users gave them:
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use hnsw_toolbox::{extract_index, ExtractOptions, Monitor};
//!
//! # let index_dir = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! let options = ExtractOptions::default().with_include_deleted(true);
//! let mut deleted = 0;
//! let summary = extract_index(index_dir, &options, &Monitor::default(), |record| {
//!     deleted += usize::from(record.deleted);
//!     println!("{:?}: {} components", record.user_id, record.vector.len());
//!     Ok(ControlFlow::Continue(()))
//! })?;
//! assert_eq!(summary.emitted, summary.scanned);
//! # assert_eq!(deleted, 265);
//! # Ok::<(), hnsw_toolbox::Error>(())
//! ```
//!
//! Write them to a file, build a new index of that, and search it:
//!
//! ```
//! use hnsw_toolbox::{
//!     build_index_from_columnar, extract_index_to_columnar, BuildOptions, ColumnarOptions,
//!     Compression, GraphOptions, HnswIndex, Metric, Monitor, OpenOptions,
//! };
//!
//! # let index_dir = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! # let scratch = tempfile::tempdir()?;
//! # let parquet = scratch.path().join("vectors.parquet");
//! # let hnsw = scratch.path().join("vectors.hnsw");
//! let monitor = Monitor::default();
//! let options = ColumnarOptions::default().with_compression(Compression::Zstd);
//! let extracted = extract_index_to_columnar(index_dir, &parquet, &options, &monitor)?;
//!
//! let graph = GraphOptions::default().with_metric(Metric::Cosine).with_seed(42);
//! let options = BuildOptions::default().with_graph(graph);
//! let built = build_index_from_columnar(&parquet, &hnsw, &options, &monitor)?;
//! assert_eq!(built.inserted, extracted.emitted);
//!
//! let index = HnswIndex::open(&hnsw, &OpenOptions::default())?;
//! let nearest = index.search(&vec![0.5; index.dimension()], 10, 100)?;
//! assert_eq!(nearest.len(), 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Look at an index, and check it; another thread may stop that with the token:
//!
//! ```
//! use hnsw_toolbox::{
//!     inspect_index, verify_index, CancelToken, InspectOptions, IndexState, Monitor, Progress,
//!     VerifyOptions,
//! };
//!
//! # let index_dir = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! let cancel = CancelToken::new();
//! let show = |progress: Progress| println!("{} of {}", progress.done, progress.total);
//! let monitor = Monitor::default().with_cancel(&cancel).on_progress(&show);
//!
//! let report = inspect_index(index_dir, &InspectOptions::default(), &monitor)?;
//! println!("{} vectors of dimension {}", report.live, report.dimension);
//!
//! let report = verify_index(index_dir, &VerifyOptions::default(), &monitor)?;
//! for finding in &report.findings {
//!     println!("{}: {} in {}", finding.severity, finding.code, finding.file);
//! }
//! assert_eq!(report.state, IndexState::Healthy);
//! # Ok::<(), hnsw_toolbox::Error>(())
//! ```
//!
//! Write a directory without deleted records and damage, and show how Chroma gets to use it:
//!
//! ```
//! use hnsw_toolbox::{repair_index, Monitor, RepairOptions};
//!
//! # let index_dir = "tests/fixtures/chroma/1.5.9/cosine/segment";
//! # let scratch = tempfile::tempdir()?;
//! # let new_dir = scratch.path().join("new");
//! let options = RepairOptions::default();
//! let summary = repair_index(index_dir, &new_dir, &options, &Monitor::default())?;
//! for step in &summary.steps {
//!     println!("{step}");
//! }
//! assert_eq!(summary.records + summary.deleted_removed, summary.scanned);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Files that change
//!
//! Extraction, builds and searches map files into memory by default. When another process *truncates*
//! a mapped file, the operating system kills the process that reads it (SIGBUS); no library can turn
//! that into an error. [`IoMode::Read`] reads into a buffer instead and gives an error. It is the
//! default of everything else, because Chroma may be writing the files. Both notice when a file is not
//! the same at the end as it was at the start, and then write nothing.

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
// Without a feature, shared code lacks some of its users. It is not worth a `cfg` on each item.
#![cfg_attr(
    not(all(feature = "database", feature = "wire")),
    allow(dead_code, unreachable_pub)
)]

/// The examples of the front page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[macro_use]
mod base;

mod columnar;
mod error;
#[cfg(any(test, feature = "_fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod io;
pub mod segment;
#[cfg(feature = "database")]
mod store;
#[cfg(test)]
#[path = "../tests/support/extent.rs"]
mod test_extent;
mod verbs;
#[cfg(feature = "wire")]
#[doc(hidden)]
pub use verbs::wire;

pub use base::path::display_path;
pub use base::progress::{CancelToken, Monitor, Progress};
pub use columnar::{ColumnarFormat, Compression};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use graph::distance::Metric;
pub use graph::options::{Engine, GraphOptions};
pub use io::file::IoMode;
pub use segment::{Header as IndexHeader, LabelRange};
pub use verbs::build::{
    build_index_from_columnar, build_index_from_vectors, BuildOptions, BuildSummary,
};
#[cfg(feature = "database")]
pub use verbs::collections::{
    list_collections, CollectionFilter, CollectionFinding, CollectionList, CollectionMetadata,
    CollectionReport, CollectionState,
};
#[cfg(feature = "database")]
pub use verbs::export::{
    export_collection, export_collections, ExportOptions, ExportSummary, ExportedFile, MetadataForm,
};
pub use verbs::extract::{
    extract_index, extract_index_to_columnar, ColumnarOptions, ExtractOptions, ExtractSummary,
    IndexProperties, JoinSummary, MetadataFrom, Record, RecordRange, Salvage, SalvageSummary,
    VectorForm,
};
#[cfg(feature = "database")]
pub use verbs::import::{
    import_collections, import_collections_in_place, FileColumns, ImportOptions, ImportOrigin,
    ImportSummary, ImportedCollection, ListForm, OnConflict,
};
pub use verbs::inspect::{inspect_index, FileSize, IndexReport, InspectOptions};
pub use verbs::inspect_hnsw::{inspect_hnsw, is_hnsw, Degree, HnswReport};
pub use verbs::recall::{measure_recall, RecallOptions, RecallQueries, RecallReport, RecallRow};
#[cfg(feature = "database")]
pub use verbs::repair::store::{
    repair_store, repair_store_in_place, FullText, RepairStoreOptions, RepairStoreSummary,
    RepairedStoreCollection,
};
#[cfg(feature = "database")]
pub use verbs::repair::RepairedCollection;
pub use verbs::repair::{
    repair_index, MetricSource, RepairLinks, RepairOptions, RepairSummary, Space,
};
pub use verbs::search::queries::{
    search_index, search_index_to_columnar, SearchOptions, SearchSummary,
};
pub use verbs::search::{HnswIndex, Neighbour, OpenOptions};
pub use verbs::verify::{
    verify_hnsw, verify_index, Finding, IndexState, Severity, VerifyOptions, VerifyReport,
};
