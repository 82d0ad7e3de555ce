//! `hnsw-toolbox inspect` and `verify` for `.hnsw` files.

use std::io::{self, Write};
use std::path::Path;

use hnsw_toolbox::{is_hnsw, Error, HnswReport, Result};
use indicatif::HumanBytes;

/// Returns true for a `.hnsw` file, and false for a directory. Fails for any other file.
pub(super) fn is_hnsw_file(path: &Path) -> Result<bool> {
    // Missing and special files are reported when the path is opened as a directory.
    if !path.is_file() {
        return Ok(false);
    }
    if is_hnsw(path)? {
        return Ok(true);
    }
    Err(Error::unusable(
        path,
        "a file of another kind",
        "a vector segment directory or a .hnsw file",
    ))
}

/// Formats a number of bytes, from 1 KiB on with a larger unit as well.
fn size(bytes: u64) -> String {
    if bytes < 1024 {
        bytes.to_string()
    } else {
        format!("{bytes} ({})", HumanBytes(bytes))
    }
}

/// Prints the contents of a `.hnsw` file.
pub(super) fn print(report: &HnswReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut field = |name: &str, value: &dyn std::fmt::Display| writeln!(out, "{name:<24}{value}");
    match report.metric {
        Some(metric) => field("metric", &metric)?,
        None => field("metric", &"not stated")?,
    }
    field("vectors", &report.vectors)?;
    field("dimension", &report.dimension)?;
    match report.labels {
        Some(range) => field("labels", &format_args!("{} to {}", range.min, range.max))?,
        None => field("labels", &"none")?,
    }
    field("duplicate_labels", &report.duplicate_labels)?;
    field("vectors_not_finite", &report.vectors_not_finite)?;
    field("m", &report.m)?;
    field("m0", &report.m0)?;
    field("ef_construction", &report.ef_construction)?;
    match report.entry_point {
        Some(node) => field("entry_point", &node)?,
        None => field("entry_point", &"none")?,
    }
    for (level, nodes) in report.levels.iter().enumerate() {
        field(&format!("nodes of level {level}"), nodes)?;
    }
    field("mean_degree", &format_args!("{:.2}", report.mean_degree))?;
    for degree in &report.degrees {
        field(&format!("{} neighbours", degree.neighbours), &degree.nodes)?;
    }
    field("unreachable", &report.unreachable)?;
    field("bytes", &size(report.bytes))?;
    field("trailing_bytes", &size(report.trailing_bytes))?;
    field("damaged", &report.damaged)
}
