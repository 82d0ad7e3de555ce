//! Vectors out of Chroma's persisted HNSW directories, and new HNSW indexes from columnar files.

mod build;
mod columnar;
mod error;
mod index;
mod map;
mod monitor;

pub use build::{BuildOptions, BuildSummary, Engine, Metric};
pub use columnar::ColumnarFormat;
pub use error::{BoxError, Error, Result};
pub use index::IoMode;
pub use monitor::{CancelToken, Monitor, Progress};
