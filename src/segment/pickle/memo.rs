//! A pickle's memo: the values that later opcodes refer to by number.
//!
//! A pickle may memoise each of its strings and use few of them again, or none. So the first pass
//! only notes the kind of each entry and which strings are used again. Later passes keep those
//! strings alone, by span and fingerprint.

use super::opcode::Name;
use super::span::Span;
use crate::base::bits::Bits;
use crate::base::memory;
use crate::error::Result;

/// What an entry of the memo is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Text(Name),
    /// One of the known functions that older protocols build plain values with.
    Constructor,
    Other,
}

/// The memo of the first pass.
#[derive(Debug, Default)]
pub(super) struct MemoKinds {
    kinds: Vec<EntryKind>,
    referred: Bits,
}

impl MemoKinds {
    /// Adds the next entry. Picklers number their entries 0, 1, 2, …, so there is no other way.
    pub(super) fn push(&mut self, kind: EntryKind) -> Result<()> {
        memory::reserve(&mut self.kinds, 1, "hold its memo")?;
        self.kinds.push(kind);
        self.referred.grow(self.kinds.len() as u64)
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The entry of that number, which is noted as referred to.
    pub(super) fn refer(&mut self, index: u64) -> Option<EntryKind> {
        let kind = *self.kinds.get(usize::try_from(index).ok()?)?;
        if matches!(kind, EntryKind::Text(_)) {
            self.referred.insert(index);
        }
        Some(kind)
    }
}

/// A string of the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// Flagged when the string cannot be an id.
    pub(super) span: Span,
    pub(super) fingerprint: u64,
}

/// The strings of the memo that are referred to.
#[derive(Debug)]
pub(super) struct MemoStrings {
    referred: Bits,
    /// Strings referred to before each word of `referred`.
    ranks: Vec<usize>,
    /// Both by rank, filled in the order of the file.
    spans: Vec<Span>,
    fingerprints: Vec<u64>,
    count: usize,
    /// Entries put so far, strings or not.
    put: usize,
}

impl MemoStrings {
    pub(super) fn new(kinds: MemoKinds) -> Result<Self> {
        let MemoKinds { kinds, referred } = kinds;
        drop(kinds);
        let words = referred.words();
        let mut ranks = memory::with_capacity(words.len(), "hold its memo")?;
        let mut count = 0_usize;
        for word in words {
            ranks.push(count);
            count += usize::try_from(word.count_ones()).unwrap_or_default();
        }
        Ok(Self {
            referred,
            ranks,
            spans: Vec::new(),
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
    pub(super) fn restart(&mut self) -> Result<()> {
        self.spans = memory::with_capacity(self.count, "hold its memo")?;
        self.fingerprints = memory::with_capacity(self.count, "hold its memo")?;
        self.put = 0;
        Ok(())
    }

    /// Frees what is not needed to recognise strings by their fingerprints.
    pub(super) fn forget_spans(&mut self) {
        self.spans = Vec::new();
    }

    /// Whether the next entry is a string that is referred to.
    pub(super) fn wants_next(&self) -> bool {
        self.referred.contains(self.put as u64)
    }

    /// Puts the next entry, which is `text` if it is a string that is referred to.
    pub(super) fn push(&mut self, text: Option<Text>) {
        if self.wants_next() && self.fingerprints.len() < self.count {
            let text = text.unwrap_or(Text {
                span: Span::NOWHERE,
                fingerprint: 0,
            });
            self.spans.push(text.span);
            self.fingerprints.push(text.fingerprint);
        }
        self.put += 1;
    }

    fn rank(&self, index: u64) -> Option<usize> {
        if !self.referred.contains(index) {
            return None;
        }
        let word = usize::try_from(index / 64).ok()?;
        let below = self.referred.words().get(word)? & ((1 << (index % 64)) - 1);
        self.ranks
            .get(word)?
            .checked_add(usize::try_from(below.count_ones()).ok()?)
    }

    /// The string of that number. Its span is unknown once spans were forgotten.
    pub(super) fn get(&self, index: u64) -> Option<Text> {
        let rank = self.rank(index)?;
        Some(Text {
            fingerprint: *self.fingerprints.get(rank)?,
            span: self.spans.get(rank).copied().unwrap_or(Span::UNKNOWN),
        })
    }
}
