//! The selection of records, and the salvage of damaged segments.

use serde::Serialize;

use super::{ExtractOptions, VectorForm};
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::directory::Segment;
use crate::segment::labels::Labels;
use crate::segment::record::Record;
use crate::segment::vectors::Flaws;
use crate::verbs::repair::Space;

/// Reads a damaged segment: skips the damaged records, and counts them.
///
/// All complete records of `data_level0.bin` are read, up to the count in `header.bin`. In the
/// header, only the layout of a record has to be valid. A record is skipped if
///
/// - the disk cannot read all of it,
/// - its label is 0, or a later usable record has the same label,
/// - its vector is not finite, or
/// - its vector does not have norm 1 in a cosine segment, according to a database next to the
///   segment or to the proof in vectors and norms.
///
/// Without readable metadata, ids and sequence numbers are null. `link_lists.bin` is not read.
/// With [`VectorForm::Original`](super::VectorForm::Original), a vector whose norm is missing is
/// written as stored, and counted.
///
/// If `dimension` and `m` are given, `header.bin` is ignored, except that a 60-byte header implies
/// 32-bit labels. Every complete record of `data_level0.bin` is read. Chroma makes that file as
/// long as the first capacity of the index, so that uninitialised memory may follow the last
/// record. Such junk is recognised only by a label of 0, a repeated label, or a vector that is not
/// finite. Junk that repeats a real label replaces the real record, because it comes later.
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
    /// Returns dimension and m if they replace the header. Fails if only one of them is given.
    pub(crate) fn shape(&self) -> Result<Option<(usize, usize)>> {
        match (self.dimension, self.m) {
            (None, None) => Ok(None),
            (Some(dimension), Some(m)) => Ok(Some((dimension, m))),
            (None, Some(_)) => Err(Error::argument(
                "dimension",
                "none",
                "a number, because m is given",
            )),
            (Some(_), None) => Err(Error::argument(
                "m",
                "none",
                "a number, because dimension is given",
            )),
        }
    }
}

/// The result of a salvage: counts of skipped and of damaged records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SalvageSummary {
    /// Records that `header.bin` counts; absent if it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_records: Option<u64>,
    /// Complete records that fit into `data_level0.bin`, whether valid or not.
    pub whole_records: u64,
    /// Records left out because their label is 0.
    pub label_zero: u64,
    /// Records left out because a later usable record has their label.
    pub label_duplicate: u64,
    /// Records left out because their vector has a component that is infinite or NaN.
    pub vector_not_finite: u64,
    /// Records left out because the disk cannot read them.
    pub unreadable: u64,
    /// Records of a cosine segment left out because their vector does not have norm 1.
    pub vector_damaged: u64,
    /// Rows in which zeros fill a 512-byte sector of the vector. Only for metrics other than
    /// cosine.
    pub vector_zeroed_sector: u64,
    /// Rows whose norm is missing, so that their vector is written as stored, divided by it.
    pub norm_missing: u64,
    /// The reason why ids and sequence numbers are missing, if they were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_error: Option<String>,
}

impl SalvageSummary {
    /// Returns true if no counted record and no metadata is missing, and no vector is damaged.
    pub(crate) fn is_complete(&self) -> bool {
        let counted = self.counted_records.unwrap_or(0);
        let left_out = [
            self.label_zero,
            self.label_duplicate,
            self.vector_not_finite,
            self.unreadable,
            self.vector_damaged,
            self.vector_zeroed_sector,
            self.norm_missing,
        ];
        counted <= self.whole_records
            && left_out.iter().all(|count| *count == 0)
            && self.metadata_error.is_none()
    }
}

/// Decides for each record whether it is extracted, and counts the others.
pub(crate) struct Selection {
    include_deleted: bool,
    deleted_skipped: u64,
    salvage: Option<Salvaged>,
}

struct Salvaged {
    live: Labels,
    flaws: Flaws,
    /// True if vectors are multiplied by their norms.
    needs_norms: bool,
    label_zero: u64,
    label_duplicate: u64,
    vector_not_finite: u64,
    unreadable: u64,
    vector_damaged: u64,
    vector_zeroed_sector: u64,
    norm_missing: u64,
}

impl Selection {
    /// Creates a selection. For a salvage, this reads all records. `space` is the metric, if known.
    pub(crate) fn new(
        segment: &Segment,
        space: Option<Space>,
        options: &ExtractOptions,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let salvage = match options.salvage {
            None => None,
            Some(_) => {
                // Progress counts the reading of metadata and rows only, not this pass.
                let silent = monitor.without_progress();
                let mut level0 = segment.level0()?;
                let mut needs_norms = options.vectors == VectorForm::Original;
                let is_cosine = match needs_norms {
                    true => Some(true),
                    false => space.map(|space| space == Space::Cosine),
                };
                let norms = segment.files().read_norms()?;
                let mut flaws = Flaws::read(&mut level0, norms, is_cosine, &silent)?;
                // With another metric length.bin holds no norms, and nothing can be missing.
                if needs_norms && space != Some(Space::Cosine) && flaws.refute_cosine() {
                    (flaws, needs_norms) = (Flaws::default(), false);
                }
                // Only usable records take a label: a damaged one must not supersede an intact one.
                let live = Labels::read(&mut level0, &silent, |internal_id, record| {
                    !record.unreadable
                        && !record.links.is_deleted()
                        && record.label != 0
                        && is_finite(record)
                        && !flaws.is_damaged(internal_id)
                })?;
                Some(Salvaged {
                    live,
                    flaws,
                    needs_norms,
                    label_zero: 0,
                    label_duplicate: 0,
                    vector_not_finite: 0,
                    unreadable: 0,
                    vector_damaged: 0,
                    vector_zeroed_sector: 0,
                    norm_missing: 0,
                })
            }
        };
        Ok(Self {
            include_deleted: options.include_deleted,
            deleted_skipped: 0,
            salvage,
        })
    }

    /// Returns true if vectors without a norm are written as stored.
    pub(crate) fn mends_norms(&self) -> bool {
        let salvage = self.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.needs_norms)
    }

    /// Returns true if the norm of a record is missing.
    pub(crate) fn lacks_norm(&self, internal_id: u64) -> bool {
        let salvage = self.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.flaws.lacks_norm(internal_id))
    }

    /// Returns true if a record is to be extracted; otherwise counts it.
    #[inline]
    pub(crate) fn admits(&mut self, internal_id: u64, record: &Record<'_>) -> bool {
        if let (true, Some(salvage)) = (record.unreadable, &mut self.salvage) {
            // Counted before the check for deletion: the delete mark is unreadable as well.
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
        } else if salvage.flaws.is_damaged(internal_id) {
            &mut salvage.vector_damaged
        } else if salvage.live.is_superseded(internal_id) {
            &mut salvage.label_duplicate
        } else {
            let flaws = &salvage.flaws;
            let lacks_norm = salvage.needs_norms && flaws.lacks_norm(internal_id);
            salvage.norm_missing += u64::from(lacks_norm);
            salvage.vector_zeroed_sector += u64::from(flaws.has_zeroed_sector(internal_id));
            return true;
        };
        *reason += 1;
        false
    }

    pub(crate) fn deleted_skipped(&self) -> u64 {
        self.deleted_skipped
    }

    /// Returns the counts of a salvage. `metadata_error` is the reason why metadata is missing.
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
            vector_damaged: salvage.vector_damaged,
            vector_zeroed_sector: salvage.vector_zeroed_sector,
            norm_missing: salvage.norm_missing,
            metadata_error,
        }))
    }
}

fn is_finite(record: &Record<'_>) -> bool {
    record.vector.iter().all(|component| component.is_finite())
}
