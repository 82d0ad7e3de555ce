//! A pickle's memo: the values that later opcodes refer to by number.
//!
//! A pickle may memoise every string and refer to few of them or to none. So the first pass records
//! only the kind of each entry and whether it is referred to. Later passes keep the referenced
//! strings, by span and fingerprint.

use super::opcode::Name;
use super::span::Span;
use crate::base::bits::Bits;
use crate::base::memory;
use crate::error::Result;

/// The kind of a memo entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Text(Name),
    /// A known function with which older protocols build plain values.
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

    /// The entry with that number. Marks it as referred to.
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
    /// Flagged if the string cannot be an id.
    pub(super) span: Span,
    pub(super) fingerprint: u64,
}

/// The strings of the memo to which an opcode refers.
#[derive(Debug)]
pub(super) struct MemoStrings {
    referred: Bits,
    /// Referenced strings before each word of `referred`, for ranks in constant time.
    ranks: Vec<usize>,
    /// Spans and fingerprints by rank, filled in the order of the file.
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

    /// Returns true if no opcode refers to a string.
    pub(super) fn is_unused(&self) -> bool {
        self.count == 0
    }

    /// Starts to fill the memo.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.spans = memory::with_capacity(self.count, "hold its memo")?;
        self.fingerprints = memory::with_capacity(self.count, "hold its memo")?;
        self.put = 0;
        Ok(())
    }

    /// Frees the spans: from here on strings are recognised by their fingerprints.
    pub(super) fn forget_spans(&mut self) {
        self.spans = Vec::new();
    }

    /// Returns true if the next entry is a string that an opcode refers to.
    pub(super) fn wants_next(&self) -> bool {
        self.referred.contains(self.put as u64)
    }

    /// Adds the next entry: `text` if it is a referenced string.
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

    /// The string with that number. Its span is unknown after [`forget_spans`](Self::forget_spans).
    pub(super) fn get(&self, index: u64) -> Option<Text> {
        let rank = self.rank(index)?;
        Some(Text {
            fingerprint: *self.fingerprints.get(rank)?,
            span: self.spans.get(rank).copied().unwrap_or(Span::UNKNOWN),
        })
    }
}
