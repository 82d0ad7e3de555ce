//! `data_level0.bin`: links on level 0, labels and vectors.

use super::finding::{
    Findings, LABEL_ZERO, LEVEL0_FLAGS, METRIC_COSINE, METRIC_NOT_COSINE, VECTOR_NOT_FINITE,
    VECTOR_NOT_FINITE_DELETED,
};
use super::links::ListCheck;
use super::metadata::MetadataCheck;
use super::norms::NormKind;
use crate::chroma::file_name::{LEVEL0, NORMS};
use crate::chroma::record::{Level0, Level0Record};
use crate::chroma::IndexHeader;
use crate::error::Result;
use crate::graph::distance::dot_in_f64;
use crate::io::source::Source;
use crate::progress::Monitor;

/// How far the norm of a vector that was divided by its norm in f32 may be from 1.
const UNIT_TOLERANCE: f64 = 1e-4;

/// What the records have in common.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) live: u64,
    pub(crate) deleted: u64,
    /// Live vectors of norm 1.
    unit: u64,
    /// Live vectors whose norm is neither 0 nor 1, and the first of them.
    other: u64,
    first_other: Option<(u64, f64)>,
}

/// Checks each record by itself and against the metadata.
pub(crate) fn check(
    level0: &mut Level0<impl Source>,
    header: &IndexHeader,
    metadata: &mut MetadataCheck<'_>,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut lists = ListCheck::new(LEVEL0, header.cur_element_count);
    level0.for_each(monitor, |id, record| {
        let links = record.links;
        if links.has_unknown_flags() {
            findings.note(&LEVEL0_FLAGS, LEVEL0, || format!("record {id}"));
        }
        lists.check(id, 0, links.count.get(), record.neighbours, findings);
        if record.label == 0 {
            findings.note(&LABEL_ZERO, LEVEL0, || format!("record {id}"));
        }
        if links.is_deleted() {
            totals.deleted += 1;
        } else {
            totals.live += 1;
            metadata.see(id, record.label, findings);
        }
        totals.see_vector(id, &record, findings);
        Ok(())
    })?;
    Ok(totals)
}

impl Totals {
    fn see_vector(&mut self, id: u64, record: &Level0Record<'_>, findings: &mut Findings) {
        let norm = dot_in_f64(record.vector, record.vector).sqrt();
        if !norm.is_finite() {
            let finite = record.vector.iter().take_while(|one| one.is_finite());
            let at = finite.count();
            let kind = if record.links.is_deleted() {
                &VECTOR_NOT_FINITE_DELETED
            } else {
                &VECTOR_NOT_FINITE
            };
            findings.note(kind, LEVEL0, || format!("record {id}, component {at}"));
            return;
        }
        if record.links.is_deleted() {
            return;
        }
        if (norm - 1.0).abs() <= UNIT_TOLERANCE {
            self.unit += 1;
        } else if norm != 0.0 {
            // A vector of zeros cannot be normalised, and stays what it is.
            self.other += 1;
            self.first_other.get_or_insert((id, norm));
        }
    }

    /// Guesses the metric, which no file says.
    pub(crate) fn hint_metric(&self, norms: NormKind, findings: &mut Findings) {
        if let Some((id, norm)) = self.first_other {
            findings.note_many(&METRIC_NOT_COSINE, LEVEL0, self.other, || {
                format!("the vector of record {id} has norm {norm}")
            });
        } else if self.unit > 0 {
            match norms {
                NormKind::Norms => findings.note(&METRIC_COSINE, NORMS, || {
                    format!("{} vectors have norm 1", self.unit)
                }),
                NormKind::Junk(at) => findings.note(&METRIC_NOT_COSINE, NORMS, || {
                    format!(
                        "vectors have norm 1, but entry {at} of length.bin is not a plausible norm"
                    )
                }),
                NormKind::Unknown => {}
            }
        }
    }
}
