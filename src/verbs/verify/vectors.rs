//! Vectors and norms: checks them against the metric, or deduces the metric from them.

use super::finding::{
    Findings, Kind, METRIC_COSINE, METRIC_NOT_COSINE, NORM_MISSING, VECTOR_DAMAGED,
    VECTOR_NOT_FINITE, VECTOR_NOT_FINITE_DELETED, VECTOR_OVERFLOW, VECTOR_ZEROED_SECTOR,
};
use crate::segment::file_name::{LEVEL0, NORMS};
use crate::segment::record::Record;
use crate::segment::vectors::{First, Flawed, Tally};

pub(crate) fn note_not_finite(id: u64, record: &Record<'_>, findings: &mut Findings) {
    let finite = record.vector.iter().take_while(|one| one.is_finite());
    let at = finite.count();
    let kind = if record.links.is_deleted() {
        &VECTOR_NOT_FINITE_DELETED
    } else {
        &VECTOR_NOT_FINITE
    };
    findings.note(kind, LEVEL0, || format!("record {id}, component {at}"));
}

/// Notes damage by the rule for the metric, be it known or proved by the vectors. `held` is the
/// number of norms in length.bin.
pub(crate) fn check(tally: &Tally, held: u64, is_cosine: Option<bool>, findings: &mut Findings) {
    if is_cosine.unwrap_or_else(|| tally.proves_cosine()) {
        note(&VECTOR_DAMAGED, &tally.damaged, findings);
        note(&VECTOR_OVERFLOW, &tally.overflow, findings);
        // `length.too_short` counts the norms past the end of the file.
        if let Some(First {
            internal_id,
            norm: Some(norm),
            ..
        }) = tally.norm_missing.first
        {
            let count = tally.norm_missing.count - tally.norm_absent;
            findings.note_many(&NORM_MISSING, NORMS, count, || {
                format!(
                    "norm of record {internal_id}: found {norm}, expected the norm of its vector"
                )
            });
        }
    } else {
        note(&VECTOR_ZEROED_SECTOR, &tally.zeroed_sector, findings);
    }
    if is_cosine.is_none() {
        hint_metric(tally, held, findings);
    }
}

fn note(kind: &Kind, flawed: &Flawed, findings: &mut Findings) {
    if let Some(first) = flawed.first {
        findings.note_many(kind, LEVEL0, flawed.count, || {
            let First {
                internal_id,
                stored,
                ..
            } = first;
            format!("the vector of record {internal_id} has norm {stored}")
        });
    }
}

/// Guesses the metric, which no file of a segment states.
fn hint_metric(tally: &Tally, held: u64, findings: &mut Findings) {
    // Unit vectors with a norm of 1 beside them.
    let ones = tally.unit - tally.proofs - tally.junk.count - tally.blank;
    if tally.proves_cosine() {
        findings.note(&METRIC_COSINE, NORMS, || {
            format!("{} vectors have norm 1", tally.unit)
        });
    } else if tally.damaged.count > 0 {
        note(&METRIC_NOT_COSINE, &tally.damaged, findings);
    } else if let Some(First {
        internal_id,
        norm: Some(norm),
        ..
    }) = tally.junk.first
    {
        findings.note(&METRIC_NOT_COSINE, NORMS, || {
            format!(
                "vectors have norm 1, but entry {internal_id} of length.bin is {norm}, which is no \
                 norm"
            )
        });
    } else if ones + tally.proofs > 0 {
        findings.note(&METRIC_COSINE, NORMS, || {
            format!("{} vectors have norm 1", tally.unit)
        });
    } else if tally.unit > 0 && held > 0 {
        findings.note(&METRIC_NOT_COSINE, NORMS, || {
            "vectors have norm 1, but length.bin holds no norm".into()
        });
    }
}
