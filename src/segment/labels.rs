//! The labels of records, and duplicates among them.
//!
//! hnswlib gives each label to one record. If several records of a damaged segment have the same
//! label, the record with the highest internal id was written last and supersedes the others.

use serde::Serialize;

use super::record::{Record, Records};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::source::Source;

/// The lowest and the highest of some labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LabelRange {
    /// The lowest label.
    pub min: u64,
    /// The highest label.
    pub max: u64,
}

impl LabelRange {
    pub(crate) fn extend(range: &mut Option<Self>, label: u64) {
        *range = Some(range.map_or(
            Self {
                min: label,
                max: label,
            },
            |range| Self {
                min: range.min.min(label),
                max: range.max.max(label),
            },
        ));
    }
}

/// The labels of the requested records.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Number of records.
    pub(crate) records: u64,
    pub(crate) range: Option<LabelRange>,
    /// Records superseded by a record with a higher internal id and the same label.
    pub(crate) duplicates: u64,
    /// Internal id and label of the first superseded record.
    pub(crate) first_duplicate: Option<(u64, u64)>,
    /// Internal ids of the superseded records; empty if there are none.
    superseded: Bits,
}

impl Labels {
    /// Scans the records for which `wanted` returns true, in up to three passes.
    ///
    /// Memory: a bit for each label from the lowest to the highest if labels are dense, as Chroma gives
    /// them, else 12 bytes for each record. With duplicates, another bit for each record.
    pub(crate) fn read(
        level0: &mut Records<impl Source>,
        monitor: &Monitor<'_>,
        wanted: impl Fn(u64, &Record<'_>) -> bool,
    ) -> Result<Self> {
        let mut labels = Self::default();
        level0.for_each(monitor, |id, record| {
            if wanted(id, &record) {
                labels.records += 1;
                LabelRange::extend(&mut labels.range, record.label);
            }
            Ok(())
        })?;
        let Some(range) = labels.range else {
            return Ok(labels);
        };
        let span = range.max - range.min;
        if span / 64 <= labels.records {
            labels.find_dense(level0, monitor, &wanted, range)?;
        } else {
            labels.find_sparse(level0, monitor, &wanted)?;
        }
        Ok(labels)
    }

    /// Returns true if a record with a higher internal id has the same label.
    pub(crate) fn is_superseded(&self, internal_id: u64) -> bool {
        self.superseded.contains(internal_id)
    }

    fn find_dense(
        &mut self,
        level0: &mut Records<impl Source>,
        monitor: &Monitor<'_>,
        wanted: &impl Fn(u64, &Record<'_>) -> bool,
        range: LabelRange,
    ) -> Result<()> {
        let count = level0.count();
        let mut seen = Bits::with_len((range.max - range.min).saturating_add(1))?;
        let mut end = count;
        while end > 0 {
            let first = end.saturating_sub(level0.stride());
            let block = level0.block(first, end - first)?;
            // Backwards, so that the first record seen of each label is the one that counts.
            let mut id = end;
            while id > first {
                id -= 1;
                let record = block.get(id).ok_or_else(|| {
                    Error::internal(format!("record {id} is not in the block of its stride"))
                })?;
                if !wanted(id, &record) {
                    continue;
                }
                // A label outside the range has been written since the first pass: the check for
                // changes at the end reports it.
                let at = record.label.checked_sub(range.min);
                if at.is_some_and(|at| seen.insert(at)) {
                    self.supersede(id, record.label, count)?;
                }
            }
            end = first;
            monitor.check()?;
        }
        Ok(())
    }

    fn find_sparse(
        &mut self,
        level0: &mut Records<impl Source>,
        monitor: &Monitor<'_>,
        wanted: &impl Fn(u64, &Record<'_>) -> bool,
    ) -> Result<()> {
        let capacity = usize::try_from(self.records).unwrap_or(usize::MAX);
        // Label (high, low) and internal id: 12 bytes instead of the 16 of (u64, u32), in the same
        // order.
        let mut rows: Vec<[u32; 3]> = memory::with_capacity(capacity, "sort the labels")?;
        level0.for_each(monitor, |id, record| {
            if rows.len() < capacity && wanted(id, &record) {
                let [high, low] = halves(record.label);
                let [_, id] = halves(id);
                rows.push([high, low, id]);
            }
            Ok(())
        })?;
        rows.sort_unstable();
        for pair in rows.windows(2) {
            if let [[high, low, id], [next_high, next_low, _]] = *pair {
                if (high, low) == (next_high, next_low) {
                    let label = u64::from(high) << 32 | u64::from(low);
                    self.supersede(id.into(), label, level0.count())?;
                }
            }
        }
        Ok(())
    }

    fn supersede(&mut self, internal_id: u64, label: u64, count: u64) -> Result<()> {
        if self.duplicates == 0 {
            self.superseded = Bits::with_len(count)?;
        }
        self.duplicates += 1;
        self.superseded.insert(internal_id);
        match self.first_duplicate {
            Some((first, _)) if first < internal_id => {}
            _ => self.first_duplicate = Some((internal_id, label)),
        }
        Ok(())
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}
