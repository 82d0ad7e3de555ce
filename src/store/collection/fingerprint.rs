//! Sets of ids in 16 bytes each: a 64-bit fingerprint and a value.
//!
//! The hash key is random, so that no file can be crafted to hold ids with equal fingerprints.
//! Among a million ids, the probability that any two collide is 3 · 10⁻⁸.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::base::memory;
use crate::error::Result;

/// Purpose of an allocation, for error messages.
const HOLD_IDS: &str = "hold the ids of a collection";

/// Hashes ids.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter(RandomState);

impl Fingerprinter {
    pub(crate) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(crate) fn of(&self, id: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(id.as_bytes());
        hasher.finish()
    }
}

/// Values by fingerprint; sorted once all of them are added.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprints<T>(Vec<(u64, T)>);

impl<T> Default for Fingerprints<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord> Fingerprints<T> {
    pub(crate) fn with_capacity(capacity: usize) -> Result<Self> {
        memory::with_capacity(capacity, HOLD_IDS).map(Self)
    }

    pub(crate) fn reserve(&mut self) -> Result<()> {
        memory::reserve(&mut self.0, 1, HOLD_IDS)
    }

    pub(crate) fn push(&mut self, fingerprint: u64, value: T) {
        self.0.push((fingerprint, value));
    }

    /// Sorts the entries by fingerprint and value. Returns whether all fingerprints are distinct.
    pub(crate) fn sort(&mut self) -> bool {
        self.0.sort_unstable();
        self.0
            .windows(2)
            .all(|pair| matches!(pair, [first, second] if first.0 != second.0))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the entries whose value passes the predicate.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(T) -> bool)
    where
        T: Copy,
    {
        self.0.retain(|(_, value)| keep(*value));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn entries(&self) -> &[(u64, T)] {
        &self.0
    }

    /// Position of the first entry of a fingerprint.
    pub(crate) fn position(&self, fingerprint: u64) -> Option<usize> {
        // Fingerprints are uniformly distributed, so an entry's position is close to its share of
        // the 64-bit range.
        let len = self.0.len();
        let share = (u128::from(fingerprint) * len as u128) >> 64;
        let guess = usize::try_from(share).unwrap_or(0);
        let mut reach = 64;
        let (mut first, mut end) = (guess, guess);
        let is_before = |at: usize| self.0.get(at).is_some_and(|entry| entry.0 < fingerprint);
        // Invariant of the result: the entry before `first` is smaller than the fingerprint, and
        // the entry at `end` is not.
        while first > 0 && !is_before(first - 1) {
            first = first.saturating_sub(reach);
            reach = reach.saturating_mul(2);
        }
        reach = 64;
        while end < len && is_before(end) {
            end = end.saturating_add(reach).min(len);
            reach = reach.saturating_mul(2);
        }
        let range = self.0.get(first..end).unwrap_or_default();
        let at = first + range.partition_point(|entry| entry.0 < fingerprint);
        let found = self.0.get(at)?;
        (found.0 == fingerprint).then_some(at)
    }

    /// The value of a fingerprint that occurs once.
    pub(crate) fn get(&self, fingerprint: u64) -> Option<T> {
        let at = self.position(fingerprint)?;
        self.0.get(at).map(|entry| entry.1)
    }

    /// The entries of a fingerprint, in the order of their values.
    pub(crate) fn group(&self, fingerprint: u64) -> &[(u64, T)] {
        let Some(first) = self.position(fingerprint) else {
            return &[];
        };
        let rest = self.0.get(first..).unwrap_or_default();
        let len = rest
            .iter()
            .take_while(|entry| entry.0 == fingerprint)
            .count();
        rest.get(..len).unwrap_or_default()
    }

    /// The entries, one slice for each fingerprint.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(u64, T)]> {
        self.0.chunk_by(|first, second| first.0 == second.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_at_any_position() {
        for len in [0_u64, 1, 2, 63, 64, 65, 1000, 10_000] {
            for spread in [1, 1 << 20, u64::MAX / len.max(1)] {
                let mut entries = Fingerprints::default();
                for at in (0..len).rev() {
                    entries.push(at.wrapping_mul(spread), at);
                }
                assert!(entries.sort());
                for at in 0..len {
                    let fingerprint = at.wrapping_mul(spread);
                    assert_eq!(entries.get(fingerprint), Some(at));
                    assert_eq!(entries.group(fingerprint), &[(fingerprint, at)]);
                    if spread > 1 {
                        assert_eq!(entries.get(fingerprint + 1), None);
                    }
                }
                assert_eq!(entries.get(u64::MAX), None);
            }
        }
    }

    #[test]
    fn several_entries_of_a_fingerprint_are_a_group() {
        let mut entries = Fingerprints::default();
        for (fingerprint, value) in [(7, 3), (9, 1), (7, 1), (2, 5), (7, 2)] {
            entries.push(fingerprint, value);
        }
        assert!(!entries.sort());
        assert_eq!(entries.group(7), &[(7, 1), (7, 2), (7, 3)]);
        assert_eq!(entries.group(8), &[]);
        assert_eq!(entries.groups().count(), 3);
    }
}
