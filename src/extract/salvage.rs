//! Which records of an index are extracted, and which of a damaged one are left out.

use serde::Serialize;

use super::ExtractOptions;
use crate::chroma::labels::Labels;
use crate::chroma::record::{Level0, Level0Record};
use crate::chroma::segment::Segment;
use crate::error::{Error, Result};
use crate::io::source::Source;
use crate::progress::Monitor;

/// How a damaged index directory is read: what can be saved is, and the rest is counted.
///
/// As many records are read as `header.bin` counts and `data_level0.bin` holds whole. Records whose
/// label is 0 or that of a later record are left out, and so are those whose vector is not finite.
/// In the header, only the layout of a record has to be valid. Without readable metadata, user ids
/// and sequence numbers are null. `link_lists.bin` is not read, and `length.bin` only for
/// [`VectorForm::Original`](super::VectorForm::Original).
///
/// If `dimension` and `m` are given, `header.bin` is ignored, except that a 60-byte header implies
/// 32-bit labels. Every complete record of `data_level0.bin` is read. Chroma makes that file as long
/// as the first capacity of the index, so that uninitialised memory may follow the last record. It
/// is only told from a record by a label of 0, a label that comes again, or a vector that is not
/// finite. Junk that repeats a real label comes later, and takes the place of that label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// Components of each vector.
    pub dimension: Option<usize>,
    /// The parameter M of the index.
    pub m: Option<usize>,
}

setters!(Salvage {
    with_dimension(dimension: impl Into<Option<usize>>),
    with_m(m: impl Into<Option<usize>>),
});

impl Salvage {
    /// Dimension and m, when the header is not to be used.
    pub(crate) fn shape(&self) -> Result<Option<(usize, usize)>> {
        match (self.dimension, self.m) {
            (None, None) => Ok(None),
            (Some(dimension), Some(m)) => Ok(Some((dimension, m))),
            (None, Some(_)) => Err(Error::argument(
                "dimension",
                "none",
                "a number, as m is given",
            )),
            (Some(_), None) => Err(Error::argument(
                "m",
                "none",
                "a number, as dimension is given",
            )),
        }
    }
}

/// What was saved of a damaged index, and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SalvageSummary {
    /// Records that `header.bin` counts; absent when it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_records: Option<u64>,
    /// Whole records that `data_level0.bin` has room for, of whatever content.
    pub whole_records: u64,
    /// Records left out because their label is 0.
    pub label_zero: u64,
    /// Records left out because a later record that can be used has their label.
    pub label_duplicate: u64,
    /// Records left out because their vector has a component that is infinite or not a number.
    pub vector_not_finite: u64,
    /// Records left out because the disk cannot read them.
    pub unreadable: u64,
    /// Why there are no user ids and sequence numbers, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_error: Option<String>,
}

impl SalvageSummary {
    /// True if no record that the header counts and no metadata is missing.
    pub(crate) fn is_complete(&self) -> bool {
        let counted = self.counted_records.unwrap_or(0);
        let left_out = [
            self.label_zero,
            self.label_duplicate,
            self.vector_not_finite,
            self.unreadable,
        ];
        counted <= self.whole_records
            && left_out.iter().all(|count| *count == 0)
            && self.metadata_error.is_none()
    }
}

/// Decides, record by record, what is extracted.
pub(crate) struct Selection {
    include_deleted: bool,
    deleted_skipped: u64,
    salvage: Option<Salvaged>,
}

struct Salvaged {
    live: Labels,
    label_zero: u64,
    label_duplicate: u64,
    vector_not_finite: u64,
    unreadable: u64,
}

impl Selection {
    /// In a salvage, goes over the labels of all records.
    pub(crate) fn new(
        level0: &mut Level0<impl Source>,
        options: &ExtractOptions,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let salvaged = |live| Salvaged {
            live,
            label_zero: 0,
            label_duplicate: 0,
            vector_not_finite: 0,
            unreadable: 0,
        };
        Ok(Self {
            include_deleted: options.include_deleted,
            deleted_skipped: 0,
            salvage: match options.salvage {
                None => None,
                Some(_) => {
                    // Only what reading the metadata and the rows reports is progress.
                    let silent = monitor.without_progress();
                    Some(salvaged(Labels::read(level0, &silent, |record| {
                        !record.unreadable
                            && !record.links.is_deleted()
                            && record.label != 0
                            && is_finite(record)
                    })?))
                }
            },
        })
    }

    /// Whether a record is extracted; it is counted if not.
    #[inline]
    pub(crate) fn admits(&mut self, internal_id: u64, record: &Level0Record<'_>) -> bool {
        if let (true, Some(salvage)) = (record.unreadable, &mut self.salvage) {
            // Its delete mark is unknown as well.
            salvage.unreadable += 1;
            return false;
        }
        let deleted = record.links.is_deleted();
        if deleted && !self.include_deleted {
            self.deleted_skipped += 1;
            return false;
        }
        let Some(salvage) = &mut self.salvage else {
            return true;
        };
        let reason = if record.label == 0 {
            &mut salvage.label_zero
        } else if !is_finite(record) {
            &mut salvage.vector_not_finite
        } else if salvage.live.is_superseded(internal_id) {
            &mut salvage.label_duplicate
        } else {
            return true;
        };
        *reason += 1;
        false
    }

    pub(crate) fn deleted_skipped(&self) -> u64 {
        self.deleted_skipped
    }

    /// What a salvage left out; `metadata_error` says why there is no metadata.
    pub(crate) fn summary(
        &self,
        segment: &Segment,
        metadata_error: Option<String>,
    ) -> Result<Option<SalvageSummary>> {
        let Some(salvage) = &self.salvage else {
            return Ok(None);
        };
        Ok(Some(SalvageSummary {
            counted_records: segment.header().map(|header| header.cur_element_count),
            whole_records: segment.whole_records()?,
            label_zero: salvage.label_zero,
            label_duplicate: salvage.label_duplicate,
            vector_not_finite: salvage.vector_not_finite,
            unreadable: salvage.unreadable,
            metadata_error,
        }))
    }
}

fn is_finite(record: &Level0Record<'_>) -> bool {
    record.vector.iter().all(|component| component.is_finite())
}
