//! Independent readers of extraction outputs.
//!
//! Vectors are compared by the bits of their components. A float comparison would equate −0.0 with
//! 0.0, and would consider NaN unequal to itself.
#![allow(dead_code, reason = "each user needs a part")]

use std::collections::BTreeMap;

pub mod arrow_ipc;
pub mod parquet;

/// One row of an export, or one record passed to a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub internal_id: u64,
    pub label: u64,
    pub deleted: bool,
    pub user_id: Option<String>,
    pub seq_id: Option<u64>,
    /// The bits of each component.
    pub vector: Vec<u32>,
}

/// A columnar file after reading.
#[derive(Debug)]
pub struct Export {
    pub rows: Vec<Row>,
    /// Number of rows in each row group or record batch.
    pub groups: Vec<usize>,
    /// Maximum number of rows in a page of any column; same as `groups` for Arrow IPC.
    pub largest_page: usize,
    pub metadata: BTreeMap<String, String>,
}

/// Fails at the first differing row, rather than printing all of them.
#[track_caller]
pub fn assert_same_rows(found: &[Row], expected: &[Row], context: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{context}");
    }
    assert_eq!(found.len(), expected.len(), "{context}: number of rows");
}
