//! One bit for each number.

use crate::error::Result;
use crate::memory;

/// A set of numbers below a fixed length.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// `len` bits, none of them set.
    pub(crate) fn with_len(len: u64) -> Result<Self> {
        let count = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        Ok(Self(memory::filled(
            count,
            0,
            "hold one bit for each record",
        )?))
    }

    /// Makes the set one of numbers below `len`, if it is one of fewer.
    pub(crate) fn grow(&mut self, len: u64) -> Result<()> {
        let count = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        if let Some(more) = count.checked_sub(self.0.len()).filter(|more| *more > 0) {
            memory::reserve(&mut self.0, more, "hold one bit for each record")?;
            self.0.resize(count, 0);
        }
        Ok(())
    }

    /// The bits, the lowest first, in words.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn contains(&self, at: u64) -> bool {
        usize::try_from(at / 64)
            .ok()
            .and_then(|word| self.0.get(word))
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Sets a bit; says whether it was set before. Bits beyond the length are not kept.
    pub(crate) fn insert(&mut self, at: u64) -> bool {
        let word = usize::try_from(at / 64)
            .ok()
            .and_then(|word| self.0.get_mut(word));
        let Some(word) = word else {
            return false;
        };
        let bit = 1 << (at % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    /// Number of bits that are set.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The lowest bit below `len` that is not set.
    pub(crate) fn first_absent(&self, len: u64) -> Option<u64> {
        (0..)
            .zip(&self.0)
            .find(|(_, word)| **word != u64::MAX)
            .map(|(at, word): (u64, _)| at * 64 + u64::from(word.trailing_ones()))
            .filter(|at| *at < len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted_and_nothing_beyond_its_length() {
        let mut bits = Bits::with_len(130).unwrap();
        assert_eq!(bits.first_absent(130), Some(0));
        for at in [0, 63, 64, 129] {
            assert!(!bits.contains(at));
            assert!(!bits.insert(at));
            assert!(bits.insert(at));
            assert!(bits.contains(at));
        }
        assert!(!bits.insert(u64::MAX));
        assert!(!bits.contains(u64::MAX));
        assert_eq!(bits.count(), 4);
        assert_eq!(bits.first_absent(130), Some(1));
        for at in 0..130 {
            bits.insert(at);
        }
        assert_eq!(bits.first_absent(130), None);
    }
}
