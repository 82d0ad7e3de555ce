//! `length.bin`

use zerocopy::little_endian::F32;
use zerocopy::FromBytes;

use super::finding::{Findings, LENGTH_MISSING, LENGTH_TOO_SHORT};
use crate::chroma::file_name::LENGTH;
use crate::error::{Error, Result};
use crate::io::file::Source;
use crate::progress::Monitor;

const SIZE: u64 = size_of::<F32>() as u64;

/// Norms that are looked at at once.
const BATCH: u64 = 1 << 16;

/// What `length.bin` looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Norms of vectors, as for the cosine metric.
    Norms,
    /// Memory that was never written, as for other metrics, from this record on.
    Junk(u64),
    /// There is nothing to tell from.
    Unknown,
}

pub(crate) fn check(
    source: Option<&Source>,
    count: u64,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<NormKind> {
    let Some(source) = source else {
        if count > 0 {
            findings.note(&LENGTH_MISSING, LENGTH, || {
                format!("{count} records are counted")
            });
        }
        return Ok(NormKind::Unknown);
    };
    let held = source.len() / SIZE;
    findings.note_many(
        &LENGTH_TOO_SHORT,
        LENGTH,
        count.saturating_sub(held),
        || format!("record {held}: {} bytes hold {held} norms", source.len()),
    );
    let mut cursor = source.cursor();
    let (mut at, end) = (0, held.min(count));
    let mut positive = false;
    while at < end {
        let batch = (end - at).min(BATCH);
        let len = usize::try_from(batch * SIZE).map_err(Error::internal)?;
        let bytes = cursor.bytes(at * SIZE, len)?;
        let norms = <[F32]>::ref_from_bytes(bytes).map_err(Error::internal)?;
        for norm in norms {
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
