//! A pickle's memo: the values that later opcodes refer to by number.
//!
//! A pickle may memoise each of its strings and come back to few of them, or to none. So the first
//! pass only notes what kind of value each entry is and which strings are referred to; from then on
//! only those are kept, by position and fingerprint.

use super::opcode::Name;
use super::place::Place;
use super::reserve;
use crate::error::Result;
use crate::io::file::Source;

/// What an entry of the memo is, as far as the reader cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text(Name),
    /// One of the known functions that older protocols build plain values with.
    Constructor,
    Other,
}

/// One bit for each number.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// `count` bits, none of them set.
    pub(super) fn with_len(source: &Source, count: usize) -> Result<Self> {
        let mut words = reserve(source, count.div_ceil(64))?;
        words.resize(count.div_ceil(64), 0);
        Ok(Self(words))
    }

    pub(super) fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & mask(index) != 0)
    }

    /// Sets a bit; says whether it was set before. Bits beyond the length are not kept.
    pub(super) fn replace(&mut self, index: usize) -> bool {
        match self.0.get_mut(index / 64) {
            Some(word) => {
                let before = *word & mask(index) != 0;
                *word |= mask(index);
                before
            }
            None => false,
        }
    }

    fn push_word_for(&mut self, index: usize) {
        if index / 64 >= self.0.len() {
            self.0.push(0);
        }
    }
}

fn mask(index: usize) -> u64 {
    1 << (index % 64)
}

/// The memo of the first pass.
#[derive(Debug, Default)]
pub(super) struct MemoKinds {
    kinds: Vec<Kind>,
    referred: Bits,
}

impl MemoKinds {
    /// Adds the next entry. Picklers number their entries 0, 1, 2, …, so there is no other way.
    pub(super) fn push(&mut self, kind: Kind) {
        self.referred.push_word_for(self.kinds.len());
        self.kinds.push(kind);
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The entry of that number, which is noted as referred to.
    pub(super) fn refer(&mut self, index: u64) -> Option<Kind> {
        let index = usize::try_from(index).ok()?;
        let kind = *self.kinds.get(index)?;
        if matches!(kind, Kind::Text(_)) {
            self.referred.replace(index);
        }
        Some(kind)
    }
}

/// A string of the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// Flagged when the string cannot be an id.
    pub(super) place: Place,
    pub(super) fingerprint: u64,
}

/// The strings of the memo that are referred to.
#[derive(Debug)]
pub(super) struct MemoStrings {
    referred: Bits,
    /// Strings referred to before each word of `referred`.
    ranks: Vec<usize>,
    /// Both by rank, filled in the order of the file.
    places: Vec<Place>,
    fingerprints: Vec<u64>,
    count: usize,
    /// Entries put so far, strings or not.
    put: usize,
}

impl MemoStrings {
    pub(super) fn new(source: &Source, kinds: MemoKinds) -> Result<Self> {
        let MemoKinds { kinds, referred } = kinds;
        drop(kinds);
        let mut ranks = reserve(source, referred.0.len())?;
        let mut count = 0_usize;
        for word in &referred.0 {
            ranks.push(count);
            count += usize::try_from(word.count_ones()).unwrap_or_default();
        }
        Ok(Self {
            referred,
            ranks,
            places: Vec::new(),
            fingerprints: Vec::new(),
            count,
            put: 0,
        })
    }

    /// Whether nothing is ever taken from the memo.
    pub(super) fn is_unused(&self) -> bool {
        self.count == 0
    }

    /// Begins to fill the memo.
    pub(super) fn restart(&mut self, source: &Source) -> Result<()> {
        self.places = reserve(source, self.count)?;
        self.fingerprints = reserve(source, self.count)?;
        self.put = 0;
        Ok(())
    }

    /// Gives back what is not needed to know equal strings by their fingerprints.
    pub(super) fn forget_places(&mut self) {
        self.places = Vec::new();
    }

    /// Whether the next entry is a string that is referred to.
    pub(super) fn wants_next(&self) -> bool {
        self.referred.get(self.put)
    }

    /// Puts the next entry, which is `text` if it is a string that is referred to.
    pub(super) fn push(&mut self, text: Option<Text>) {
        if self.wants_next() && self.fingerprints.len() < self.count {
            let text = text.unwrap_or(Text {
                place: Place::NOWHERE,
                fingerprint: 0,
            });
            self.places.push(text.place);
            self.fingerprints.push(text.fingerprint);
        }
        self.put += 1;
    }

    fn rank(&self, index: u64) -> Option<usize> {
        let index = usize::try_from(index).ok()?;
        if !self.referred.get(index) {
            return None;
        }
        let below = self.referred.0.get(index / 64)? & (mask(index) - 1);
        self.ranks
            .get(index / 64)?
            .checked_add(usize::try_from(below.count_ones()).ok()?)
    }

    /// The string of that number. Its place is unknown once places were forgotten.
    pub(super) fn get(&self, index: u64) -> Option<Text> {
        let rank = self.rank(index)?;
        Some(Text {
            fingerprint: *self.fingerprints.get(rank)?,
            place: self.places.get(rank).copied().unwrap_or(Place::UNKNOWN),
        })
    }
}
