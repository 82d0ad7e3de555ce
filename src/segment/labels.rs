//! The labels of records, and which of them are duplicates.
//!
//! hnswlib gives each label to one record. When an index is damaged and several records have the same
//! label, the one with the highest internal id was written last and counts.

use serde::Serialize;

use super::record::{Level0, Level0Record};
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

/// The labels of the records that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Number of records.
    pub(crate) records: u64,
    pub(crate) range: Option<LabelRange>,
    /// Records whose label a record with a higher internal id also has.
    pub(crate) duplicates: u64,
    /// The lowest internal id of those, and its label.
    pub(crate) first_duplicate: Option<(u64, u64)>,
    /// The internal ids of those; without bits when there are none.
    superseded: Bits,
}

impl Labels {
    /// Scans the records for which `wanted` returns true, in up to three passes.
    ///
    /// Memory: a bit for each label between the lowest and the highest when labels are dense, as in
    /// Chroma's indexes, else 12 bytes for each record. With duplicates, another bit for each record.
    pub(crate) fn read(
        level0: &mut Level0<impl Source>,
        monitor: &Monitor<'_>,
        wanted: impl Fn(u64, &Level0Record<'_>) -> bool,
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

    /// Whether a record with a higher internal id has the same label.
    pub(crate) fn is_superseded(&self, internal_id: u64) -> bool {
        self.superseded.contains(internal_id)
    }

    fn find_dense(
        &mut self,
        level0: &mut Level0<impl Source>,
        monitor: &Monitor<'_>,
        wanted: &impl Fn(u64, &Level0Record<'_>) -> bool,
        range: LabelRange,
    ) -> Result<()> {
        let count = level0.count();
        let mut seen = Bits::with_len((range.max - range.min).saturating_add(1))?;
        let mut end = count;
        while end > 0 {
            let first = end.saturating_sub(level0.stride());
            let block = level0.block(first, end - first)?;
            // From the last record to the first: what was seen is what comes later.
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
        level0: &mut Level0<impl Source>,
        monitor: &Monitor<'_>,
        wanted: &impl Fn(u64, &Level0Record<'_>) -> bool,
    ) -> Result<()> {
        let capacity = usize::try_from(self.records).unwrap_or(usize::MAX);
        // Label (high, low) and internal id: 12 bytes, which order as they should.
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
