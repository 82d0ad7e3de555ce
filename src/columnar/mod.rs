//! The columnar file formats that are written by extraction and read by building.

pub(crate) mod arrow_ipc;
mod bytes;
mod codec;
pub(crate) mod columns;
pub(crate) mod parquet;
pub(crate) mod read;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MAX_BATCH_SIZE: usize = 1 << 20;

/// Rows of a columnar file that are held at once: 1 to 1,048,576.
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

/// A columnar file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnarFormat {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// The Arrow IPC *file* format, also known as Feather version 2.
    ArrowIpc,
}

impl ColumnarFormat {
    /// The format that a file name's extension stands for: `.parquet`; `.arrow`, `.ipc` or
    /// `.feather`; in any case of letters.
    #[must_use]
    pub fn from_extension(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "arrow" | "ipc" | "feather" => Some(Self::ArrowIpc),
            _ => None,
        }
    }

    /// The name used in requests and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::ArrowIpc => "arrow_ipc",
        }
    }
}

impl fmt::Display for ColumnarFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ColumnarFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "parquet" => Ok(Self::Parquet),
            "arrow_ipc" => Ok(Self::ArrowIpc),
            _ => Err(Error::argument("format", name, "parquet or arrow_ipc")),
        }
    }
}
