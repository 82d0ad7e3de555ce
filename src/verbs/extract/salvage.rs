//! Which records of an index are extracted, and which of a damaged one are left out.

use serde::Serialize;

use super::{ExtractOptions, VectorForm};
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::directory::Segment;
use crate::segment::labels::Labels;
use crate::segment::record::Record as Level0Record;
use crate::segment::vectors::Flaws;
use crate::verbs::repair::Space;

/// How a damaged index directory is read: what can be saved is, and the rest is counted.
///
/// As many records are read as `header.bin` counts and `data_level0.bin` holds whole. Records whose
/// label is 0 or that of a later record are left out, and so are those whose vector is not finite,
/// or in a cosine segment not of norm 1. The metric is known from a database next to the segment,
/// or if the vectors and norms prove it. In the header, only the layout of a record has to be valid.
/// Without readable metadata, user ids and sequence numbers are null. `link_lists.bin` is not read.
/// With [`VectorForm::Original`](super::VectorForm::Original), a vector whose norm is missing is
/// written as it is stored, and counted.
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
    /// Records of a cosine segment left out because their vector does not have norm 1.
    pub vector_damaged: u64,
    /// Rows in which zeros fill a 512-byte sector of the vector, with another metric than cosine.
    pub vector_zeroed_sector: u64,
    /// Rows whose norm is missing, so that their vector is written divided by it.
    pub norm_missing: u64,
    /// Why there are no user ids and sequence numbers, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_error: Option<String>,
}

impl SalvageSummary {
    /// True if no record that the header counts and no metadata is missing, and no vector is damaged.
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

/// Decides, record by record, what is extracted.
pub(crate) struct Selection {
    include_deleted: bool,
    deleted_skipped: u64,
    salvage: Option<Salvaged>,
}

struct Salvaged {
    live: Labels,
    flaws: Flaws,
    /// Vectors are multiplied by their norms.
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
    /// In a salvage, goes over all records. `space` is the metric, if it is known.
    pub(crate) fn new(
        segment: &Segment,
        space: Option<Space>,
        options: &ExtractOptions,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let salvage = match options.salvage {
            None => None,
            Some(_) => {
                // Only what reading the metadata and the rows reports is progress.
                let silent = monitor.without_progress();
                let mut level0 = segment.level0()?;
                let mut needs_norms = options.vectors == VectorForm::Original;
                let is_cosine = match needs_norms {
                    true => Some(true),
                    false => space.map(|space| space == Space::Cosine),
                };
                let norms = segment.files().read_norms()?;
                let mut flaws = Flaws::read(&mut level0, norms, is_cosine, &silent)?;
                // With another metric there are no norms to mend: what length.bin has is taken.
                if needs_norms && space != Some(Space::Cosine) && flaws.refute_cosine() {
                    (flaws, needs_norms) = (Flaws::default(), false);
                }
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

    /// True if vectors without a norm are written as they are stored.
    pub(crate) fn mends_norms(&self) -> bool {
        let salvage = self.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.needs_norms)
    }

    /// True if there is no norm to multiply the vector of a record by.
    pub(crate) fn lacks_norm(&self, internal_id: u64) -> bool {
        let salvage = self.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.flaws.lacks_norm(internal_id))
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
            vector_damaged: salvage.vector_damaged,
            vector_zeroed_sector: salvage.vector_zeroed_sector,
            norm_missing: salvage.norm_missing,
            metadata_error,
        }))
    }
}

fn is_finite(record: &Level0Record<'_>) -> bool {
    record.vector.iter().all(|component| component.is_finite())
}
