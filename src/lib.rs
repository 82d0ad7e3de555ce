//! Vectors out of Chroma's persisted HNSW directories, and new HNSW indexes from columnar files.

mod build;
mod columnar;
mod error;
mod extract;
mod index;
mod map;
mod monitor;
mod output;

pub use build::{build_index_from_vectors, BuildOptions, BuildSummary, Engine, Metric};
pub use columnar::ColumnarFormat;
pub use error::{BoxError, Error, Result};
pub use extract::{
    extract_index, extract_index_to_columnar, ColumnarOptions, Compression, ExtractOptions,
    ExtractResponse, ExtractSummary, IndexProperties, Record,
};
pub use index::{inspect_index, FileSize, IndexHeader, IndexReport, IoMode, LabelRange};
pub use monitor::{CancelToken, Monitor, Progress};
