//! Bit sets, and ranks within them.

use crate::base::memory;
use crate::error::{Error, Result};

/// A set of numbers below a fixed length.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// Creates a set for numbers below `len`, initially empty.
    pub(crate) fn with_len(len: u64) -> Result<Self> {
        // A length beyond the address space fails in the allocation.
        let count = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        Ok(Self(memory::filled(count, 0, "hold one bit per record")?))
    }

    /// Extends the set to numbers below `len`. Never shrinks it.
    pub(crate) fn grow(&mut self, len: u64) -> Result<()> {
        let count = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        if let Some(more) = count.checked_sub(self.0.len()).filter(|more| *more > 0) {
            memory::reserve(&mut self.0, more, "hold one bit per record")?;
            self.0.resize(count, 0);
        }
        Ok(())
    }

    /// The bits in words, lowest first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn contains(&self, at: u64) -> bool {
        usize::try_from(at / 64)
            .ok()
            .and_then(|word| self.0.get(word))
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Sets a bit. Returns whether it was set before. Bits beyond the length are ignored.
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

    /// Sets all bits of another set of the same length.
    pub(crate) fn unite(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Number of set bits.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Lowest bit below `len` that is not set.
    pub(crate) fn first_absent(&self, len: u64) -> Option<u64> {
        (0..)
            .zip(&self.0)
            .find(|(_, word)| **word != u64::MAX)
            .map(|(at, word): (u64, _)| at * 64 + u64::from(word.trailing_ones()))
            .filter(|at| *at < len)
    }
}

/// Words per group whose preceding set bits are counted: 8 words of 8 bytes are a cache line of 64
/// bytes.
const WORDS_PER_COUNT: usize = 8;

/// A set of numbers below 2³² that knows each number's rank.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    bits: Bits,
    /// Number of set bits before each group of [`WORDS_PER_COUNT`] words.
    before: Vec<u32>,
    count: u32,
}

impl Ranks {
    /// `bits` must have no more than `u32::MAX` bits.
    pub(crate) fn of(bits: Bits) -> Result<Self> {
        let groups = bits.0.chunks(WORDS_PER_COUNT);
        let mut before = memory::with_capacity(groups.len(), "number the records that stay")?;
        let mut count = 0_u32;
        for words in groups {
            before.push(count);
            let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
            count = count
                .checked_add(ones)
                .ok_or_else(|| Error::internal("more than 2³² numbers in a set"))?;
        }
        Ok(Self {
            bits,
            before,
            count,
        })
    }

    /// Number of members.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    pub(crate) fn contains(&self, at: u32) -> bool {
        self.bits.contains(at.into())
    }

    /// Number of members below `at`.
    #[inline]
    pub(crate) fn rank(&self, at: u32) -> u32 {
        let word = at as usize / 64;
        let first = word - word % WORDS_PER_COUNT;
        let before = self.before.get(word / WORDS_PER_COUNT);
        let Some((before, words)) = before.zip(self.bits.0.get(first..)) else {
            return self.count;
        };
        let whole: u32 = words
            .iter()
            .take(word - first)
            .map(|word| word.count_ones())
            .sum();
        // All bits below the position.
        let below = (1_u64 << (at % 64)).wrapping_sub(1);
        let rest = words
            .get(word - first)
            .map_or(0, |word| (word & below).count_ones());
        before + whole + rest
    }

    /// Members in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.bits.0).flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                // Clears the lowest set bit. `trailing_zeros` of 0 is 64, which ends the iteration.
                left &= left.wrapping_sub(1);
                (bit < 64).then(|| word * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_inserted_numbers_and_none_beyond_its_length() {
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
        let mut other = Bits::with_len(130).unwrap();
        other.insert(64);
        other.insert(100);
        other.unite(&bits);
        assert_eq!(other.count(), 5);
        assert_eq!(bits.count(), 4);
        assert_eq!(bits.first_absent(130), Some(1));
        for at in 0..130 {
            bits.insert(at);
        }
        assert_eq!(bits.first_absent(130), None);
    }

    #[test]
    fn ranks_count_what_is_below() {
        let members = [0, 1, 5, 63, 64, 511, 512, 513, 1500, 1999];
        let mut bits = Bits::with_len(2000).unwrap();
        for at in members {
            bits.insert(at.into());
        }
        let ranks = Ranks::of(bits).unwrap();
        assert_eq!(ranks.count(), 10);
        assert!(ranks.iter().eq(members));
        for at in 0..3000_u32 {
            let below = members.iter().filter(|member| **member < at).count();
            assert_eq!(ranks.rank(at) as usize, below, "{at}");
            assert_eq!(ranks.contains(at), members.contains(&at));
        }
    }
}
