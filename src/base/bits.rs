//! One bit for each number.

use crate::base::memory;
use crate::error::{Error, Result};

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

    /// Sets all bits that are set in a set of the same length.
    pub(crate) fn unite(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
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

/// Words of bits before which the bits that are set are counted: a cache line.
const COUNTED_WORDS: usize = 8;

/// A set of numbers below 2³², and the position of each among them.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    bits: Bits,
    /// How many bits are set before each [`COUNTED_WORDS`] words.
    before: Vec<u32>,
    count: u32,
}

impl Ranks {
    /// `bits` must have no more than `u32::MAX` bits.
    pub(crate) fn of(bits: Bits) -> Result<Self> {
        let groups = bits.0.chunks(COUNTED_WORDS);
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

    /// How many numbers are in the set.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    pub(crate) fn contains(&self, at: u32) -> bool {
        self.bits.contains(at.into())
    }

    /// How many numbers of the set are below `at`.
    #[inline]
    pub(crate) fn rank(&self, at: u32) -> u32 {
        let word = at as usize / 64;
        let first = word - word % COUNTED_WORDS;
        let before = self.before.get(word / COUNTED_WORDS);
        let Some((before, words)) = before.zip(self.bits.0.get(first..)) else {
            return self.count;
        };
        let whole: u32 = words
            .iter()
            .take(word - first)
            .map(|word| word.count_ones())
            .sum();
        let below = (1_u64 << (at % 64)).wrapping_sub(1);
        let rest = words
            .get(word - first)
            .map_or(0, |word| (word & below).count_ones());
        before + whole + rest
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.bits.0).flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
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
