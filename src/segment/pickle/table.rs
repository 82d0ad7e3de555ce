//! The table of labels, ordered by fingerprint while maps are joined to it, and then by label for
//! lookups.

use super::span::Span;
use crate::base::bits::Bits;
use crate::base::memory;
use crate::error::Result;

/// Minimum average number of rows in a bucket of the index over fingerprints.
const ROWS_PER_BUCKET: usize = 4;

/// A label and its id, in 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) label: u64,
    /// After the join: flagged if `word` is a sequence number.
    pub(super) span: Span,
    /// The fingerprint of the id; after the join, its sequence number, if it has one.
    pub(super) word: u64,
}

/// Rows in the order of their fingerprints.
#[derive(Debug)]
pub(super) struct ByFingerprint {
    rows: Vec<Row>,
    /// Index of the first row of each bucket, and the number of rows.
    buckets: Vec<u32>,
    /// The bucket of a fingerprint is the fingerprint shifted right by this many bits.
    shift: u32,
}

impl ByFingerprint {
    /// Sorts at most `u32::MAX` rows.
    pub(super) fn new(mut rows: Vec<Row>) -> Result<Self> {
        debug_assert!(u32::try_from(rows.len()).is_ok());
        // Rows of one id in the order of the file, so that an error is the same in every run.
        rows.sort_unstable_by_key(|row| (row.word, row.span.position(), row.label));
        let bits = (rows.len() / ROWS_PER_BUCKET).max(2).ilog2();
        let shift = u64::BITS - bits;
        let mut buckets = memory::with_capacity((1_usize << bits) + 1, "join its ids")?;
        let mut row = 0;
        for bucket in 0..1_u64 << bits {
            buckets.push(u32::try_from(row).unwrap_or(u32::MAX));
            while rows.get(row).is_some_and(|row| row.word >> shift <= bucket) {
                row += 1;
            }
        }
        buckets.push(u32::try_from(row).unwrap_or(u32::MAX));
        Ok(Self {
            rows,
            buckets,
            shift,
        })
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The index and the label of the row with that fingerprint.
    #[inline]
    pub(super) fn find(&self, fingerprint: u64) -> Option<(usize, u64)> {
        let bucket = usize::try_from(fingerprint >> self.shift).ok()?;
        let first = usize::try_from(*self.buckets.get(bucket)?).ok()?;
        let end = usize::try_from(*self.buckets.get(bucket + 1)?).ok()?;
        let rows = self.rows.get(first..end)?;
        let at = rows.iter().position(|row| row.word == fingerprint)?;
        Some((first + at, rows.get(at)?.label))
    }

    /// Orders the rows by label, and adds the sequence numbers, which are given by row.
    pub(super) fn into_by_label(self, seq_ids: Vec<u64>, has_seq_id: &Bits) -> Vec<Row> {
        let Self { mut rows, .. } = self;
        for (index, row) in rows.iter_mut().enumerate() {
            match seq_ids.get(index) {
                Some(seq_id) if has_seq_id.contains(index as u64) => {
                    row.word = *seq_id;
                    row.span = row.span.flagged();
                }
                _ => row.word = 0,
            }
        }
        drop(seq_ids);
        rows.sort_unstable_by_key(|row| (row.label, row.span.position()));
        rows
    }
}

/// The index of a label's row, in rows ordered by label without duplicates.
#[inline]
pub(super) fn find_label(rows: &[Row], label: u64) -> Option<usize> {
    let first = rows.first()?.label;
    // Labels ascend without duplicates, so a label is at most its distance from the first away.
    // Chroma gives consecutive labels, so that is usually the place.
    let furthest = usize::try_from(label.checked_sub(first)?).unwrap_or(usize::MAX);
    match rows.get(furthest) {
        Some(row) if row.label == label => return Some(furthest),
        _ => {}
    }
    let rows = rows.get(..furthest).unwrap_or(rows);
    rows.binary_search_by_key(&label, |row| row.label).ok()
}
