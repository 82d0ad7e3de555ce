//! Evidence of the metric in the vectors of a segment.
//!
//! With the cosine metric hnswlib divides each vector by its norm and keeps the norm in `length.bin`.
//! With l2 and ip vectors are stored unchanged, and `length.bin` is uninitialised memory.

use crate::base::progress::Monitor;
use crate::error::Result;
use crate::segment::directory::Segment;

/// Maximum deviation from 1 of the norm of a normalised vector: hnswlib sums squares in f32.
const UNIT_TOLERANCE: f64 = 1e-3;

/// Records to read if the database names the metric. With l2 and ip, some vector among so many has
/// another norm than 1.
const SAMPLE: u64 = 1024;

/// Counts of vectors that speak for or against the cosine metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Evidence {
    /// Vectors of norm 1.
    unit: u64,
    /// Vectors of another norm. Zero vectors and vectors with infinities count as neither.
    other: u64,
    /// Vectors of norm 1 whose norm in `length.bin` is positive.
    with_norm: u64,
    /// Vectors of norm 1 whose norm in `length.bin` is positive and not 1.
    scaled: u64,
    /// Internal id and norm of the first vector of another norm.
    first_other: Option<(u64, f64)>,
    /// Internal id of the first vector counted by `scaled`, and its norm in `length.bin`.
    first_scaled: Option<(u64, f32)>,
}

/// The conclusion from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Vectors were divided by norms that `length.bin` holds.
    Cosine,
    /// Vectors were not divided by their norms.
    NotCosine,
    /// Vectors have norm 1, and may have been given so.
    Undecided,
}

impl Evidence {
    /// Looks at all live records.
    pub(crate) fn of(segment: &Segment, monitor: &Monitor<'_>) -> Result<Self> {
        Self::of_first(segment, u64::MAX, monitor)
    }

    /// Looks at the first records, and at all if those say cosine.
    #[cfg(feature = "database")]
    pub(crate) fn of_few(segment: &Segment, monitor: &Monitor<'_>) -> Result<Self> {
        let few = Self::of_first(segment, SAMPLE, monitor)?;
        match few.verdict() {
            Verdict::Cosine => Self::of(segment, monitor),
            _ => Ok(few),
        }
    }

    fn of_first(segment: &Segment, most: u64, monitor: &Monitor<'_>) -> Result<Self> {
        let mut evidence = Self::default();
        let mut norms = segment.files().read_norms()?;
        let held = norms.as_ref().map_or(0, super::norms::Norms::count);
        let mut level0 = segment.level0()?;
        let end = level0.count().min(most);
        let mut next = 0;
        while next < end {
            for record in level0.block(next, end - next)?.iter() {
                let (id, record) = record?;
                next = id.saturating_add(1);
                if record.links.is_deleted() {
                    continue;
                }
                let norm = match &mut norms {
                    Some(norms) if id < held => norms.block(id, 1)?.first().map(|norm| norm.get()),
                    _ => None,
                };
                evidence.add(id, record.vector, norm);
            }
            monitor.check()?;
        }
        Ok(evidence)
    }

    fn add(&mut self, id: u64, vector: &[f32], norm: Option<f32>) {
        let squares = vector.iter().map(|component| f64::from(*component).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if length == 0.0 || !length.is_finite() {
            return;
        }
        if (length - 1.0).abs() > UNIT_TOLERANCE {
            self.other += 1;
            self.first_other.get_or_insert((id, length));
            return;
        }
        self.unit += 1;
        // A subnormal number is a piece of a pointer.
        let Some(norm) = norm.filter(|norm| norm.is_normal() && *norm > 0.0) else {
            return;
        };
        self.with_norm += 1;
        if (f64::from(norm) - 1.0).abs() > UNIT_TOLERANCE {
            self.scaled += 1;
            self.first_scaled.get_or_insert((id, norm));
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        // Memory that was never written holds positive numbers for half of the vectors at most.
        let has_norms = self.unit > 0 && self.with_norm >= self.unit - self.unit / 4;
        if has_norms && self.scaled > 0 && self.unit >= self.other {
            return Verdict::Cosine;
        }
        match self.other {
            0 => Verdict::Undecided,
            // Damaged vectors of a cosine index whose vectors were given with norm 1.
            other if has_norms && other <= self.unit / 10 => Verdict::Undecided,
            _ => Verdict::NotCosine,
        }
    }

    /// Returns true if most vectors contradict the cosine metric.
    pub(crate) fn refutes_cosine(&self) -> bool {
        self.verdict() == Verdict::NotCosine && self.other > self.unit
    }

    /// The first record that decides.
    pub(crate) fn reason(&self) -> String {
        match (self.verdict(), self.first_other, self.first_scaled) {
            (Verdict::Cosine, _, Some((id, norm))) => format!(
                "{} vectors have norm 1 and other norms in length.bin, the first one (record {id}) \
                 {norm}",
                self.scaled
            ),
            (Verdict::NotCosine, Some((id, norm)), _) => format!(
                "{} vectors have another norm than 1, the first one (record {id}) {norm}",
                self.other
            ),
            _ if self.unit == 0 => "the segment holds no vectors that tell".into(),
            _ if self.with_norm == 0 => format!(
                "all {} vectors have norm 1, and length.bin holds no norms",
                self.unit
            ),
            _ => format!("all {} vectors were given with norm 1", self.unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(vectors: &[([f32; 2], f32)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (id, (vector, norm)) in (0..).zip(vectors) {
            evidence.add(id, vector, Some(*norm));
        }
        evidence
    }

    #[test]
    fn the_metric_follows_from_lengths_and_norms() {
        const UNIT: [f32; 2] = [0.6, 0.8];
        const LONG: [f32; 2] = [3.0, 4.0];
        const POINTER: f32 = 4.586e-41;
        for (vectors, verdict) in [
            (vec![], Verdict::Undecided),
            (vec![([0.0, 0.0], 0.0); 3], Verdict::Undecided),
            (vec![(UNIT, 5.0); 4], Verdict::Cosine),
            // A zero vector has no direction and no norm.
            (vec![(UNIT, 5.0), ([0.0, 0.0], 0.0)], Verdict::Cosine),
            (vec![(UNIT, 1.0); 4], Verdict::Undecided),
            (vec![(UNIT, 0.0); 4], Verdict::Undecided),
            (
                vec![(UNIT, POINTER), (UNIT, -4e8), (UNIT, f32::NAN)],
                Verdict::Undecided,
            ),
            (vec![(UNIT, 7.0), (UNIT, POINTER)], Verdict::Undecided),
            (vec![(LONG, 5.0); 4], Verdict::NotCosine),
            (
                vec![(UNIT, 0.0), (UNIT, 0.0), (LONG, 0.0)],
                Verdict::NotCosine,
            ),
            // One damaged vector among the divided ones.
            (
                [vec![(UNIT, 5.0); 20], vec![(LONG, 5.0)]].concat(),
                Verdict::Cosine,
            ),
            (
                [vec![(UNIT, 1.0); 20], vec![(LONG, 1.0)]].concat(),
                Verdict::Undecided,
            ),
        ] {
            assert_eq!(evidence(&vectors).verdict(), verdict, "{vectors:?}");
        }
    }
}
