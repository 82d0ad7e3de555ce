//! `length.bin`: does it hold norms, and one for each record?

use super::finding::{Findings, NORMS_MISSING, NORMS_TOO_SHORT};
use crate::chroma::file_name::NORMS;
use crate::chroma::norms::Norms;
use crate::error::{Error, Result};
use crate::io::source::Source;
use crate::progress::Monitor;

/// Norms to look at at a time.
const BATCH: u64 = 1 << 16;

/// What `length.bin` looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Norms of vectors, as for the cosine metric.
    Norms,
    /// Memory that was never written, as for other metrics, from this record on.
    Junk(u64),
    /// There is nothing to judge by.
    Unknown,
}

pub(crate) fn check(
    norms: Option<Norms<impl Source>>,
    count: u64,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<NormKind> {
    let Some(mut norms) = norms else {
        if count > 0 {
            findings.note(&NORMS_MISSING, NORMS, || {
                format!("{count} records are counted")
            });
        }
        return Ok(NormKind::Unknown);
    };
    let held = norms.count();
    findings.note_many(&NORMS_TOO_SHORT, NORMS, count.saturating_sub(held), || {
        format!("record {held}: {} bytes hold {held} norms", norms.len())
    });
    let (mut at, end) = (0, held.min(count));
    let mut positive = false;
    while at < end {
        let batch = usize::try_from((end - at).min(BATCH)).map_err(Error::internal)?;
        for norm in norms.block(at, batch)? {
            let norm = norm.get();
            // A norm near the smallest number is an integer or a pointer seen as a float.
            if !norm.is_finite() || norm < 0.0 || norm.is_subnormal() {
                return Ok(NormKind::Junk(at));
            }
            positive |= norm > 0.0;
            at += 1;
        }
        monitor.check()?;
    }
    Ok(match (positive, end) {
        (true, _) => NormKind::Norms,
        (false, 0) => NormKind::Unknown,
        // Vectors are not all zeros; memory may be.
        (false, _) => NormKind::Junk(0),
    })
}
