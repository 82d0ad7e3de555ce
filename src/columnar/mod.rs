//! Parquet and Arrow IPC: writers for extraction, export and search; readers for building and for
//! search queries.

pub(crate) mod arrow_ipc;
pub(crate) mod batches;
mod bytes;
mod cells;
mod codec;
pub(crate) mod columns;
pub(crate) mod parquet;
pub(crate) mod read;
pub(crate) mod selection;
pub(crate) mod source;
pub(crate) mod table;
pub(crate) mod write;

use std::path::Path;

use crate::error::{Error, Result};

/// Maximum number of rows held at a time; larger requests are rejected as mistakes.
const MAX_BATCH_SIZE: usize = 1 << 20;

/// Default number of rows held at a time.
pub(crate) const DEFAULT_BATCH_SIZE: usize = 1024;

/// Checks the number of rows of a columnar file to hold at a time: 1 to 1,048,576.
pub(crate) fn check_batch_size(batch_size: usize) -> Result<()> {
    if (1..=MAX_BATCH_SIZE).contains(&batch_size) {
        return Ok(());
    }
    Err(Error::argument(
        "batch_size",
        batch_size,
        format!("a number from 1 to {MAX_BATCH_SIZE}"),
    ))
}

named_enum! {
    /// Compression of Parquet pages. Embeddings are close to noise and compress little.
    #[derive(Default)]
    pub enum Compression for "compression" {
        /// None: the fastest to write and to read.
        #[default]
        None = "none",
        /// Snappy.
        Snappy = "snappy",
        /// Zstandard at its default level.
        Zstd = "zstd",
    }
}

named_enum! {
    /// A columnar file format.
    #[derive(Default)]
    pub enum ColumnarFormat for "format" {
        /// Apache Parquet.
        #[default]
        Parquet = "parquet",
        /// The Arrow IPC *file* format, also known as Feather version 2. Arrow IPC *streams* are read
        /// as well.
        ArrowIpc = "arrow_ipc",
    }
}

impl ColumnarFormat {
    /// Derives the format from a file name extension: `.parquet`; `.arrow`, `.arrows`, `.ipc` or
    /// `.feather`. Case is ignored.
    #[must_use]
    pub fn from_extension(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Self::ArrowIpc),
            _ => None,
        }
    }
}
