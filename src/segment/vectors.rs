//! Damaged vectors and missing norms of a segment: one definition for `export`, `extract`, `repair`
//! and `verify`.
//!
//! A cosine segment holds each vector divided by its norm, and the norm in `length.bin`. hnswlib
//! computes both in f32, so most damage shows: the vector is not of norm 1, or the norm is one that
//! f32 cannot give.
//!
//! ```text
//! norm  = sqrt(Σ given²)                 0 where Σ underflows, ∞ where it overflows
//! stored = given · 1 / (norm + 1e-30)    given · 1e30,         0
//! ```
//!
//! With the other metrics every vector is possible. There, only zeros that fill a sector of a disk
//! are evidence of damage.

use zerocopy::IntoBytes;

use super::norms::Norms;
use super::record::{Record, RecordLayout, Records};
use crate::base::bits::Bits;
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::source::Source;

/// Largest deviation from 1 of the norm of a stored vector of a cosine segment. hnswlib's sums in f32
/// stay below 1e-4.
pub(crate) const UNIT_TOLERANCE: f64 = 1e-3;

/// Added to each norm by hnswlib, so that it never divides by zero.
const NORM_OFFSET: f32 = 1e-30;

/// The least norm above 0: the root of the least f32, 2⁻¹⁴⁹.
const MIN_NORM: f32 = 3.7e-23;

/// The greatest norm: the root of the greatest f32.
const MAX_NORM: f32 = 1.844_674_4e19;

/// The least difference of two f32, by which the square of a small component is rounded.
const LEAST_SQUARE: f64 = 1.401_298_464_324_817e-45;

/// Bytes that a disk writes at once, at least.
const SECTOR_BYTES: u64 = 512;

/// A stored vector times this number is as it was given, if its norm is sound. hnswlib divided by it.
pub(crate) fn scale(norm: f32) -> f32 {
    norm + NORM_OFFSET
}

/// A vector of a cosine segment, and its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// hnswlib writes this pair.
    Sound,
    /// The vector is of norm 1, or zero, and its norm is missing or impossible: the direction is
    /// all that is left.
    NormMissing,
    /// hnswlib writes this pair for a vector whose norm exceeds f32: zeros are all that is left.
    Overflow,
    /// The vector is not what hnswlib wrote.
    Damaged,
}

/// Judges a stored vector of a cosine segment by its norm in `length.bin`, where that has one.
pub(crate) fn judge(vector: &[f32], norm: Option<f32>) -> Verdict {
    judge_by_squares(vector, squares(vector), norm)
}

fn judge_by_squares(vector: &[f32], squares: f64, norm: Option<f32>) -> Verdict {
    let plausible = norm.filter(|norm| is_plausible(*norm));
    if squares == 0.0 {
        return match (norm, plausible) {
            // Chroma stores zeros for zeros.
            (_, Some(0.0)) => Verdict::Sound,
            (_, Some(_)) => Verdict::Damaged,
            (Some(f32::INFINITY), None) => Verdict::Overflow,
            (_, None) => Verdict::NormMissing,
        };
    }
    let is_unit = (squares.sqrt() - 1.0).abs() <= UNIT_TOLERANCE;
    match plausible {
        Some(norm) if is_positive_norm(norm) => {
            // The squares of components below 1e-15 lose digits, and the norm with them.
            let rounding = LEAST_SQUARE * width(vector) / f64::from(norm).powi(2);
            if is_unit || (squares - 1.0).abs() <= rounding {
                Verdict::Sound
            } else {
                Verdict::Damaged
            }
        }
        _ if is_unit => Verdict::NormMissing,
        Some(_) if is_underflow(vector) => Verdict::Sound,
        _ => Verdict::Damaged,
    }
}

/// The norm to write for a vector that is not damaged, and whether it was missing.
pub(crate) fn mended(vector: &[f32], norm: Option<f32>) -> (f32, bool) {
    match (judge(vector, norm), norm) {
        (Verdict::Sound | Verdict::Overflow, Some(norm)) => (norm, false),
        _ if squares(vector) == 0.0 => (0.0, true),
        _ => (1.0, true),
    }
}

/// True for a norm that is sound beside every vector of norm 1.
pub(crate) fn is_positive_norm(norm: f32) -> bool {
    norm > 0.0 && is_plausible(norm)
}

/// True for a norm that sqrt(Σ x²) in f32 can give for finite sums.
fn is_plausible(norm: f32) -> bool {
    norm == 0.0 || (MIN_NORM..=MAX_NORM).contains(&norm)
}

/// True if hnswlib stores this vector for one whose squares are all 0 in f32: each component is the
/// product of an f32 and 1e30.
fn is_underflow(vector: &[f32]) -> bool {
    let scale = 1.0 / NORM_OFFSET;
    // A zero vector that is damaged in part has few others.
    let zeros = vector.iter().filter(|component| **component == 0.0).count();
    zeros <= vector.len() / 2
        && vector.iter().all(|stored| {
            let given = nearest(f64::from(*stored) / f64::from(scale));
            given * given == 0.0 && (given * scale).to_bits() == stored.to_bits()
        })
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn nearest(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_precision_loss, reason = "dimensions are far below 2⁵²")]
fn width(vector: &[f32]) -> f64 {
    vector.len() as f64
}

/// The sum of squares in f64, which is finite where all components are. In lanes, as one sum would
/// wait for each addition.
pub(crate) fn squares(vector: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (chunks, rest) = vector.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, component) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*component) * f64::from(*component);
        }
    }
    for (sum, component) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*component) * f64::from(*component);
    }
    sums.iter().sum()
}

/// True if zeros fill a sector of the file that holds some components of a record, and end where
/// that sector ends.
///
/// Zeros that are part of a sparse or padded vector end elsewhere, except for one in 128.
pub(crate) fn has_zeroed_sector(
    layout: RecordLayout,
    internal_id: u64,
    record: &Record<'_>,
) -> bool {
    const WORD: u64 = 4;
    let start = (layout.size() as u64).saturating_mul(internal_id);
    let list = (layout.max_m0() as u64 + 1) * WORD;
    let vector_start = start.saturating_add(list);
    let len = record.vector.len() as u64;
    let vector_end = vector_start.saturating_add(len * WORD);
    let is_zero = |word: u64| {
        let word = usize::try_from(word).ok();
        let component = word.and_then(|word| record.vector.get(word));
        component.is_some_and(|component| component.to_bits() == 0)
    };
    // The end of the sector that holds the first component.
    let first_sector = vector_start - vector_start % SECTOR_BYTES;
    let mut end = first_sector.saturating_add(SECTOR_BYTES);
    while end <= vector_end {
        let after = (end - vector_start) / WORD;
        if is_zero(after - 1) && !is_zero(after) {
            let run = (0..after).rev().take_while(|word| is_zero(*word)).count() as u64;
            let run_start = end - run * WORD;
            let fills = if run == after {
                // The sector began before the vector, so the links before it are zeros. A vector of
                // zeros only was given, unless its record has no links at all.
                let from = first_sector.saturating_sub(start);
                (after < len || from == 0) && are_links_zero(record, from)
            } else {
                run * WORD >= SECTOR_BYTES
                    && run_start.is_multiple_of(SECTOR_BYTES)
                    && !is_sparse(record.vector, run)
            };
            if fills {
                return true;
            }
        }
        end = end.saturating_add(SECTOR_BYTES);
    }
    false
}

/// True if the links of a record are zeros from this byte on.
fn are_links_zero(record: &Record<'_>, from: u64) -> bool {
    let skipped = usize::try_from((from / 4).saturating_sub(1)).unwrap_or(usize::MAX);
    let is_header_zero = || record.links.as_bytes().iter().all(|byte| *byte == 0);
    let mut slots = record.neighbours.iter().skip(skipped);
    (from > 0 || is_header_zero()) && slots.all(|slot| slot.get() == 0)
}

/// True if most of the components besides a run of zeros are zeros.
fn is_sparse(vector: &[f32], run: u64) -> bool {
    let zeros = vector.iter().filter(|one| **one == 0.0).count() as u64;
    let others = (vector.len() as u64).saturating_sub(run);
    zeros.saturating_sub(run).saturating_mul(4) > others.saturating_mul(3)
}

/// Number of records with a flaw, and the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flawed {
    pub(crate) count: u64,
    pub(crate) first: Option<First>,
}

/// The first record of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) internal_id: u64,
    /// The norm of the stored vector.
    pub(crate) stored: f64,
    /// Its norm in `length.bin`.
    pub(crate) norm: Option<f32>,
}

impl Flawed {
    fn note(&mut self, first: First) {
        self.count += 1;
        self.first.get_or_insert(first);
    }

    fn absorb(&mut self, later: &Self) {
        self.count += later.count;
        self.first = self.first.or(later.first);
    }
}

/// Flaws of the vectors of a segment by either rule, and the evidence for its metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By the rule for the cosine metric. Only finite vectors are counted as damaged.
    pub(crate) damaged: Flawed,
    pub(crate) norm_missing: Flawed,
    /// The part of them that is past the end of length.bin.
    pub(crate) norm_absent: u64,
    pub(crate) overflow: Flawed,
    /// By the rule for the other metrics.
    pub(crate) zeroed_sector: Flawed,
    /// Vectors of norm 1, and the ones with a norm that is neither possible nor blank.
    pub(crate) unit: u64,
    pub(crate) junk: Flawed,
    /// Vectors of norm 1 with a norm of 0, of all one bits, or none: the traces of a lost block.
    pub(crate) blank: u64,
    /// Vectors of norm 1 with a possible norm other than 1: proof of the cosine metric.
    pub(crate) proofs: u64,
}

/// Findings about one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) verdict: Verdict,
    pub(crate) zeroed_sector: bool,
    pub(crate) is_finite: bool,
}

impl Tally {
    /// Judges one more record. Of deleted ones, nothing is counted.
    pub(crate) fn see(
        &mut self,
        layout: RecordLayout,
        internal_id: u64,
        record: &Record<'_>,
        norm: Option<f32>,
    ) -> Seen {
        let squares = squares(record.vector);
        let verdict = judge_by_squares(record.vector, squares, norm);
        let seen = Seen {
            verdict,
            zeroed_sector: has_zeroed_sector(layout, internal_id, record),
            is_finite: squares.is_finite(),
        };
        if record.links.is_deleted() {
            return seen;
        }
        let stored = squares.sqrt();
        let first = First {
            internal_id,
            stored,
            norm,
        };
        match verdict {
            Verdict::Sound => {}
            Verdict::NormMissing => {
                self.norm_missing.note(first);
                self.norm_absent += u64::from(norm.is_none());
            }
            Verdict::Overflow => self.overflow.note(first),
            Verdict::Damaged if !seen.is_finite => {}
            Verdict::Damaged => self.damaged.note(first),
        }
        if seen.zeroed_sector {
            self.zeroed_sector.note(first);
        }
        if (stored - 1.0).abs() <= UNIT_TOLERANCE {
            self.unit += 1;
            match norm {
                Some(norm) if is_positive_norm(norm) => {
                    let is_other = (f64::from(norm) - 1.0).abs() > UNIT_TOLERANCE;
                    self.proofs += u64::from(is_other);
                }
                Some(norm) if norm.to_bits() != u32::MAX && norm != 0.0 => self.junk.note(first),
                _ => self.blank += 1,
            }
        }
        seen
    }

    /// Adds the tally of later records.
    pub(crate) fn absorb(&mut self, later: &Self) {
        self.damaged.absorb(&later.damaged);
        self.norm_missing.absorb(&later.norm_missing);
        self.overflow.absorb(&later.overflow);
        self.zeroed_sector.absorb(&later.zeroed_sector);
        self.junk.absorb(&later.junk);
        self.norm_absent += later.norm_absent;
        self.unit += later.unit;
        self.blank += later.blank;
        self.proofs += later.proofs;
    }

    /// True if the vectors and norms prove the cosine metric, though some of them are damaged.
    ///
    /// With another metric `length.bin` is memory that was never written. Of random words one in four
    /// is a possible norm, and of cleared memory none.
    pub(crate) fn proves_cosine(&self) -> bool {
        let refuting = self.damaged.count.saturating_add(self.junk.count);
        self.proofs > 0
            && self.proofs >= refuting.saturating_mul(3)
            && self.proofs.saturating_mul(9) >= self.blank
    }
}

/// The records of a segment that have a flaw, by internal id.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    /// Records whose vector must not be used: known for the cosine metric only.
    damaged: Bits,
    norm_missing: Bits,
    zeroed_sector: Bits,
    not_finite: Bits,
    tally: Tally,
}

impl Flaws {
    /// Judges all records. Where it is not known whether the metric is cosine, they decide.
    pub(crate) fn read(
        level0: &mut Records<impl Source>,
        norms: Option<Norms<impl Source>>,
        is_cosine: Option<bool>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let mut reader = FlawReader::new(level0.layout(), norms);
        level0.for_each(monitor, |internal_id, record| {
            reader.see(internal_id, &record)
        })?;
        let mut flaws = reader.finish();
        flaws.keep(is_cosine.unwrap_or_else(|| flaws.tally.proves_cosine()));
        Ok(flaws)
    }

    /// Keeps the flaws by the rule for the metric.
    pub(crate) fn keep(&mut self, is_cosine: bool) {
        if is_cosine {
            self.zeroed_sector = Bits::default();
            self.not_finite = Bits::default();
        } else {
            self.damaged = Bits::default();
            self.norm_missing = Bits::default();
        }
    }

    /// True if any record has a flaw.
    #[cfg(feature = "database")]
    pub(crate) fn has_any(&self) -> bool {
        let suspects = [&self.zeroed_sector, &self.not_finite];
        let mut sets = [&self.damaged, &self.norm_missing]
            .into_iter()
            .chain(suspects);
        sets.any(|set| !set.words().is_empty())
    }

    /// True if most vectors do not have norm 1, so that damage is no explanation.
    pub(crate) fn refute_cosine(&self) -> bool {
        self.tally.damaged.count > self.tally.unit
    }

    /// True if the vector of a record must not be used.
    pub(crate) fn is_damaged(&self, internal_id: u64) -> bool {
        self.damaged.contains(internal_id)
    }

    /// True if there is no norm to multiply the vector of a record by.
    pub(crate) fn lacks_norm(&self, internal_id: u64) -> bool {
        self.norm_missing.contains(internal_id)
    }

    /// True if a component of a vector is infinite or NaN, with another metric than cosine.
    #[cfg(feature = "database")]
    pub(crate) fn is_not_finite(&self, internal_id: u64) -> bool {
        self.not_finite.contains(internal_id)
    }

    /// True if zeros fill a sector of a record.
    pub(crate) fn has_zeroed_sector(&self, internal_id: u64) -> bool {
        self.zeroed_sector.contains(internal_id)
    }
}

/// Judges some records of a segment, in the order of their internal ids.
#[derive(Debug)]
pub(crate) struct FlawReader<S> {
    layout: RecordLayout,
    norms: Option<Norms<S>>,
    flaws: Flaws,
}

impl<S: Source> FlawReader<S> {
    pub(crate) fn new(layout: RecordLayout, norms: Option<Norms<S>>) -> Self {
        Self {
            layout,
            norms,
            flaws: Flaws::default(),
        }
    }

    pub(crate) fn see(&mut self, internal_id: u64, record: &Record<'_>) -> Result<()> {
        if record.unreadable {
            return Ok(());
        }
        let norm = match &mut self.norms {
            Some(norms) => norms.find(internal_id)?,
            None => None,
        };
        let flaws = &mut self.flaws;
        let seen = flaws.tally.see(self.layout, internal_id, record, norm);
        let set = match seen.verdict {
            Verdict::Sound => None,
            Verdict::NormMissing | Verdict::Overflow => Some(&mut flaws.norm_missing),
            Verdict::Damaged => Some(&mut flaws.damaged),
        };
        let zeroed = seen.zeroed_sector.then_some(&mut flaws.zeroed_sector);
        let not_finite = (!seen.is_finite).then_some(&mut flaws.not_finite);
        for set in set.into_iter().chain(zeroed).chain(not_finite) {
            set.grow(internal_id.saturating_add(1))?;
            set.insert(internal_id);
        }
        Ok(())
    }

    /// The flaws by both rules.
    pub(crate) fn finish(self) -> Flaws {
        self.flaws
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::little_endian::{U16, U32};

    use super::*;
    use crate::segment::layout::LinksHeader;

    /// The vector and the norm that hnswlib stores for a vector.
    fn stored(given: &[f32]) -> (Vec<f32>, f32) {
        let squares: f32 = given.iter().map(|component| component * component).sum();
        let norm = squares.sqrt();
        let factor = 1.0 / (norm + NORM_OFFSET);
        (given.iter().map(|one| one * factor).collect(), norm)
    }

    /// Numbers that look random (xorshift).
    fn random(seed: u32) -> impl FnMut() -> u32 {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        }
    }

    fn vector(dimension: usize, scale: f32) -> Vec<f32> {
        let mut random = random(dimension as u32);
        (0..dimension)
            .map(|_| (random() as f32 / u32::MAX as f32 - 0.49) * scale)
            .collect()
    }

    #[test]
    fn what_hnswlib_stores_is_sound_at_any_scale() {
        for dimension in [1, 2, 3, 24, 384, 1536] {
            for exponent in -44..=18 {
                let given = vector(dimension, 10_f32.powi(exponent));
                let (stored, norm) = stored(&given);
                let verdict = judge(&stored, Some(norm));
                assert_eq!(verdict, Verdict::Sound, "{dimension}, 1e{exponent}: {norm}");
                let scale = scale(norm);
                for (stored, given) in stored.iter().zip(&given) {
                    let difference = (stored * scale - given).abs();
                    assert!(
                        difference <= given.abs() * 1e-6 + f32::from_bits(1),
                        "{given}"
                    );
                }
            }
            for exponent in 21..=37 {
                let (stored, norm) = stored(&vector(dimension, 10_f32.powi(exponent)));
                assert_eq!(judge(&stored, Some(norm)), Verdict::Overflow);
            }
        }
        assert_eq!(judge(&[0.0; 8], Some(0.0)), Verdict::Sound);
    }

    #[test]
    fn a_unit_vector_keeps_its_direction_without_a_norm() {
        let (unit, norm) = stored(&vector(24, 3.0));
        assert_eq!(mended(&unit, Some(norm)), (norm, false));
        let lost = [
            0.0,
            -0.0,
            -1.0,
            f32::NAN,
            f32::INFINITY,
            1e-40,
            1e-23,
            2e19,
            1e38,
        ];
        for norm in lost.map(Some).into_iter().chain([None]) {
            assert_eq!(judge(&unit, norm), Verdict::NormMissing, "{norm:?}");
            assert_eq!(mended(&unit, norm), (1.0, true), "{norm:?}");
        }
        assert_eq!(judge(&[0.0; 4], None), Verdict::NormMissing);
        assert_eq!(mended(&[0.0; 4], Some(f32::NAN)), (0.0, true));
    }

    #[test]
    fn a_vector_of_another_norm_than_1_is_damaged() {
        let (unit, _) = stored(&vector(384, 3.0));
        let torn = |change: &dyn Fn(&mut [f32])| {
            let mut torn = unit.clone();
            change(&mut torn);
            torn
        };
        for torn in [
            torn(&|vector| vector[100..228].fill(0.0)),
            torn(&|vector| vector.fill(0.0)),
            torn(&|vector| vector[7] = 3e7),
            torn(&|vector| vector[7] = f32::NAN),
            torn(&|vector| vector[7] = f32::INFINITY),
            torn(&|vector| vector.iter_mut().for_each(|one| *one *= 1.002)),
        ] {
            assert_eq!(judge(&torn, Some(5.0)), Verdict::Damaged);
            if torn.iter().any(|component| *component != 0.0) {
                for norm in [
                    None,
                    Some(0.0),
                    Some(-3.0),
                    Some(f32::NAN),
                    Some(f32::INFINITY),
                ] {
                    assert_eq!(judge(&torn, norm), Verdict::Damaged, "{norm:?}");
                }
            }
        }
        let mut zeros = [0.0; 24];
        zeros[..2].fill(12.0);
        assert_eq!(judge(&zeros, Some(0.0)), Verdict::Damaged);
    }

    /// Records of random vectors, links and labels in the layout of a file.
    fn level0(dimension: usize, m: usize) -> (RecordLayout, Vec<u8>) {
        let layout = RecordLayout::of_shape(dimension, m, true).unwrap();
        let mut bytes = Vec::new();
        // More of the small ones, so that sectors end everywhere in them.
        let count: u32 = if dimension <= 24 { 130 } else { 10 };
        for id in 0..count {
            let links = LinksHeader {
                count: U16::new(2),
                flags: 0,
                reserved: 0,
            };
            bytes.extend_from_slice(links.as_bytes());
            for slot in 0..layout.max_m0() {
                bytes.extend((if slot < 2 { id + 1 } else { 0 }).to_le_bytes());
            }
            for component in vector(dimension + id as usize, 1.0).iter().take(dimension) {
                bytes.extend((component + 1.0).to_le_bytes());
            }
            bytes.extend((u64::from(id) + 1).to_le_bytes());
        }
        (layout, bytes)
    }

    /// Ids of the records whose label is not 0 and in which a sector is zeroed.
    fn zeroed(layout: RecordLayout, bytes: &[u8]) -> Vec<u64> {
        let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
        aligned.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        let source = &aligned.as_bytes()[..bytes.len()];
        let mut found = Vec::new();
        let count = layout.whole_records(bytes.len() as u64);
        Records::of_checked(source, layout, count)
            .for_each(&Monitor::default(), |id, record| {
                if record.label != 0 && has_zeroed_sector(layout, id, &record) {
                    found.push(id);
                }
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn every_zeroed_block_shows_in_the_vectors_that_it_cuts() {
        for (dimension, m) in [(3, 16), (24, 16), (24, 4), (128, 16), (384, 16), (384, 64)] {
            let (layout, sound) = level0(dimension, m);
            assert_eq!(zeroed(layout, &sound), [0_u64; 0]);
            for block in [512, 4096] {
                for start in (0..sound.len()).step_by(block) {
                    let mut torn = sound.clone();
                    let end = (start + block).min(sound.len());
                    torn[start..end].fill(0);
                    let count = layout.whole_records(sound.len() as u64);
                    let cut = (0..count).filter(|id| {
                        let at = *id as usize * layout.size();
                        let vector = at + 4 + 4 * layout.max_m0()..at + layout.size() - 8;
                        let label = vector.end..vector.end + 4;
                        torn[vector.clone()] != sound[vector] && torn[label.clone()] == sound[label]
                    });
                    assert_eq!(
                        zeroed(layout, &torn),
                        cut.collect::<Vec<_>>(),
                        "{dimension}, {m}, {block} from {start}"
                    );
                }
            }
        }
    }

    #[test]
    fn zeros_that_were_given_are_no_damage() {
        for dimension in [128, 384, 1536] {
            let (layout, sound) = level0(dimension, 16);
            let vector_at = 4 + 4 * layout.max_m0();
            for (from, to) in [(0, 1), (1, 2), (0, 2)] {
                let mut padded = sound.clone();
                for record in padded.chunks_mut(layout.size()) {
                    let bytes = 4 * dimension;
                    let vector = &mut record[vector_at..vector_at + bytes];
                    vector[bytes * from / 2..bytes * to / 2].fill(0);
                }
                assert_eq!(
                    zeroed(layout, &padded),
                    [0_u64; 0],
                    "{dimension}, {from}/2 to {to}/2"
                );
            }
        }
    }

    #[test]
    fn evidence_outweighs_damage_but_not_chance() {
        let layout = RecordLayout::of_shape(24, 16, true).unwrap();
        let neighbours = [U32::new(0); 32];
        let tally = |vectors: &[(Vec<f32>, f32)]| {
            let mut tally = Tally::default();
            for (id, (vector, norm)) in (0..).zip(vectors) {
                let record = Record {
                    links: LinksHeader {
                        count: U16::new(1),
                        flags: 0,
                        reserved: 0,
                    },
                    neighbours: &neighbours,
                    vector,
                    label: id + 1,
                    unreadable: false,
                };
                tally.see(layout, id, &record, Some(*norm));
            }
            tally
        };
        let unit = stored(&vector(24, 3.0));
        let mut vectors = vec![unit.clone(); 1000];
        assert!(tally(&vectors).proves_cosine());
        for (_, norm) in &mut vectors[..500] {
            *norm = 0.0;
        }
        vectors[600].0[3] = 0.5;
        assert!(tally(&vectors).proves_cosine());
        // Memory that was never written.
        let mut random = random(1);
        for (_, norm) in &mut vectors {
            *norm = f32::from_bits(random());
        }
        assert!(!tally(&vectors).proves_cosine());
        let ones = vec![(unit.0, 1.0); 1000];
        assert!(!tally(&ones).proves_cosine());
    }
}
