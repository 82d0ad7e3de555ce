//! Independent readers of what is extracted.
//!
//! Vectors are compared as the bits of their components: a float comparison would take −0.0 for
//! 0.0, and a NaN for unequal to itself.
#![allow(dead_code, reason = "each user needs a part")]

use std::collections::BTreeMap;

pub mod arrow_ipc;
pub mod parquet;

/// One row of an export, or one record handed to a callback.
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

/// A columnar file as read back.
#[derive(Debug)]
pub struct Export {
    pub rows: Vec<Row>,
    /// Rows in each row group or record batch.
    pub groups: Vec<usize>,
    /// The most rows in a page of any column; as `groups` for Arrow IPC.
    pub largest_page: usize,
    pub metadata: BTreeMap<String, String>,
}

/// Fails with the first row that differs, rather than with all of them.
#[track_caller]
pub fn assert_same_rows(found: &[Row], expected: &[Row], context: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{context}");
    }
    assert_eq!(found.len(), expected.len(), "{context}: number of rows");
}
