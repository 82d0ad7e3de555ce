//! The rows of an export: which records they are, and what each column of them holds.
//!
//! A columnar file wants one column after the other. So the rows of a group are chosen once, and
//! each column goes over them again: choosing again could choose others, if the index is being
//! written to, and a file whose columns disagree is corrupt.

use std::ops::ControlFlow;

use super::{ExtractOptions, Record};
use crate::error::{BoxError, Error, Result};
use crate::index::level0::{Level0, Level0Record};
use crate::index::Index;
use crate::monitor::Monitor;

/// Rows chosen from the index, in internal-id order.
#[derive(Debug, Default)]
pub(super) struct RowSet {
    pub(super) internal_ids: Vec<u32>,
    pub(super) labels: Vec<u64>,
    pub(super) deleted: Vec<bool>,
}

impl RowSet {
    pub(super) fn len(&self) -> usize {
        self.internal_ids.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.internal_ids.is_empty()
    }

    fn clear(&mut self) {
        self.internal_ids.clear();
        self.labels.clear();
        self.deleted.clear();
    }

    fn push(&mut self, internal_id: u64, record: &Level0Record<'_>) -> Result<()> {
        let internal_id = u32::try_from(internal_id)
            .map_err(|_| Error::internal("an internal id exceeds 32 bits"))?;
        self.internal_ids.push(internal_id);
        self.labels.push(record.label);
        self.deleted.push(record.links.is_deleted());
        Ok(())
    }
}

/// Chooses rows from the first record to the last, and reads their vectors.
pub(super) struct RowReader<'i> {
    level0: Level0<'i>,
    include_deleted: bool,
    /// Records looked at.
    scanned: u64,
    /// Rows chosen.
    emitted: u64,
}

impl<'i> RowReader<'i> {
    pub(super) fn new(index: &'i Index, options: &ExtractOptions) -> Result<Self> {
        Ok(Self {
            level0: index.level0()?,
            include_deleted: options.include_deleted,
            scanned: 0,
            emitted: 0,
        })
    }

    /// Number of records in the index.
    pub(super) fn total(&self) -> u64 {
        self.level0.count()
    }

    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    pub(super) fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Replaces `rows` by the next `limit` rows, or as many as there are.
    pub(super) fn choose(&mut self, rows: &mut RowSet, limit: usize) -> Result<()> {
        rows.clear();
        while rows.len() < limit && self.scanned < self.level0.count() {
            let block = self.level0.block(self.scanned, u64::MAX)?;
            for record in block.iter() {
                let (internal_id, record) = record?;
                self.scanned += 1;
                if record.links.is_deleted() && !self.include_deleted {
                    continue;
                }
                rows.push(internal_id, &record)?;
                self.emitted += 1;
                if rows.len() == limit {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Hands each row to `on_record` until it breaks off.
    pub(super) fn for_each<F>(&mut self, monitor: &Monitor<'_>, mut on_record: F) -> Result<()>
    where
        F: FnMut(Record<'_>) -> Result<ControlFlow<()>, BoxError>,
    {
        let total = self.total();
        while self.scanned < total {
            let block = self.level0.block(self.scanned, u64::MAX)?;
            for record in block.iter() {
                let (internal_id, record) = record?;
                self.scanned += 1;
                let deleted = record.links.is_deleted();
                if deleted && !self.include_deleted {
                    continue;
                }
                self.emitted += 1;
                let record = Record {
                    internal_id,
                    label: record.label,
                    deleted,
                    user_id: None,
                    seq_id: None,
                    vector: record.vector,
                };
                if on_record(record).map_err(Error::Callback)?.is_break() {
                    return monitor.advance(self.scanned, total);
                }
            }
            monitor.advance(self.scanned, total)?;
        }
        Ok(())
    }

    /// Calls `push` with the vector of each of `internal_ids`, which were chosen, in their order.
    pub(super) fn vectors(
        &mut self,
        internal_ids: &[u32],
        mut push: impl FnMut(&[f32]),
    ) -> Result<()> {
        let ids = internal_ids.iter().map(|&id| u64::from(id));
        self.level0.visit(ids, |_, record| {
            push(record.vector);
            Ok(())
        })
    }
}
