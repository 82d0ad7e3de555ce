//! Properties that must hold for any bytes. The targets in `fuzz/` search for inputs that break
//! them. The tests here replay the seeds in that folder, and every input that has ever broken a
//! property.
//!
//! Each property returns true if it has run. Otherwise the input does not describe a case: the
//! fuzzer drops it, and a seed must never be one.

pub mod build_index;
#[cfg(feature = "database")]
mod chains;
#[cfg(feature = "database")]
mod hostile;
pub mod io_modes;
pub mod level0;
#[cfg(feature = "database")]
pub mod persist;
pub mod pickle;
pub mod round_trip;
pub mod search;

#[path = "../../tests/support/export/mod.rs"]
mod export;
#[path = "../../tests/support/fuzzing.rs"]
mod support;
#[path = "../../tests/support/synthetic.rs"]
mod synthetic;

use std::ops::ControlFlow;
use std::path::Path;

use crate::io::file::Access;
use crate::verbs::extract::{extract_segment, open_segment};
use crate::{ExtractOptions, ExtractSummary, Monitor, Result};
use export::{assert_same_rows, Export, Row};
use support::Directory;

/// Returns the records that an extraction passes to its callback.
fn rows(
    directory: &Path,
    options: &ExtractOptions,
    access: impl Into<Access>,
) -> Result<(ExtractSummary, Vec<Row>)> {
    let mut rows = Vec::new();
    let segment = open_segment(directory, options, access)?;
    let summary = extract_segment(&segment, options, &Monitor::default(), |record| {
        rows.push(Row {
            internal_id: record.internal_id,
            label: record.label,
            deleted: record.deleted,
            user_id: record.user_id.map(str::to_string),
            seq_id: record.seq_id,
            vector: record.vector.iter().map(|value| value.to_bits()).collect(),
        });
        Ok(ControlFlow::Continue(()))
    })?;
    assert_eq!(summary.emitted, rows.len() as u64);
    assert!(rows.iter().all(|row| row.vector.len() == summary.dimension));
    Ok((summary, rows))
}

/// Splits at most `len` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], len: impl Into<usize>) -> &'a [u8] {
    let (front, rest) = bytes.split_at(len.into().min(bytes.len()));
    *bytes = rest;
    front
}

#[cfg(test)]
fn replay(target: &str, property: impl Fn(&[u8]) -> bool) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    support::replay(&fuzz, target, property);
}
