//! Postings in memory: the trigrams of documents, in their order, until they are sorted.
//!
//! A token is one trigram of a document. Documents follow each other, and so do the positions within
//! one. A token is therefore its trigram's number alone, and its place says the rest:
//!
//! ```text
//! tokens    1 2 3 2 │ 1 4 2 5 1 │ …    trigram of each token
//!           document  document
//! sorted    0 4 8 … │ 1 3 6 … │ …      places of the tokens, by trigram
//! ```
//!
//! The number of tokens of each trigram is known, so that one pass sorts them.

use std::collections::HashMap;

use super::{inconsistent, push_varint, PostingSink, Trigram, CHARACTER_BITS};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Added to each position, because FTS5 gives lower numbers another meaning.
const POSITION_BASE: u32 = 2;

/// Number of ASCII characters, and of their pairs.
const ASCII: usize = 1 << 7;
const ASCII_PAIRS: usize = ASCII * ASCII;

/// Stands for a trigram without a number, and for a pair without trigrams.
const NONE: u32 = u32::MAX;

/// Tokens whose document is looked up together.
const TOKENS_PER_LOOKUP: usize = 64;

/// Purpose of the allocations, for error messages.
const PURPOSE: &str = "hold the trigrams of documents";

/// A document with at least one token.
#[derive(Clone, Copy, Debug)]
struct Document {
    rowid: i64,
    /// Place of its first token.
    first: u32,
}

/// Tokens of consecutive documents.
#[derive(Debug, Default)]
pub(super) struct Postings {
    tokens: Vec<u32>,
    documents: Vec<Document>,
    /// Trigrams by number, and how many tokens each has.
    trigrams: Vec<Trigram>,
    counts: Vec<u32>,
    numbers: Numbers,
    sorted: Vec<u32>,
}

/// Numbers of trigrams.
#[derive(Debug, Default)]
struct Numbers {
    /// For each pair of ASCII characters, where the numbers of its 128 trigrams start in `ascii`.
    pairs: Vec<u32>,
    ascii: Vec<u32>,
    /// Numbers of trigrams that are not ASCII.
    others: HashMap<Trigram, u32>,
}

impl Postings {
    /// Returns the memory that the postings need, sorted tokens included.
    pub(super) fn bytes(&self) -> usize {
        let sizes = [
            (self.tokens.len(), 2 * size_of::<u32>()),
            (self.documents.len(), size_of::<Document>()),
            // And its place in the order.
            (self.trigrams.len(), 2 * size_of::<(Trigram, u32)>()),
            // Up to half of a hash table is empty.
            (self.numbers.others.len(), 2 * size_of::<(Trigram, u32)>()),
        ];
        let sizes = sizes.map(|(count, bytes)| count.saturating_mul(bytes));
        sizes.into_iter().fold(0, usize::saturating_add)
    }

    /// Adds a document, and returns the number of its tokens. Rowids must ascend. `fold` returns the
    /// code point to index instead of a character, or 0 to skip it.
    pub(super) fn add(
        &mut self,
        rowid: i64,
        text: &str,
        mut fold: impl FnMut(char) -> Result<u32>,
    ) -> Result<u64> {
        let first = self.tokens.len();
        memory::reserve(&mut self.tokens, text.len(), PURPOSE)?;
        if text.is_ascii() && !text.contains('\0') {
            let mut pair = 0;
            for (at, byte) in text.bytes().enumerate() {
                let third = usize::from(byte.to_ascii_lowercase());
                if at >= 2 {
                    self.push_ascii(pair, third)?;
                }
                pair = (pair * ASCII + third) % ASCII_PAIRS;
            }
        } else {
            let (mut trigram, mut characters) = (Trigram(0), 0_usize);
            for character in text.chars() {
                let folded = fold(character)?;
                if folded == 0 {
                    continue;
                }
                trigram = trigram.shifted(folded);
                characters = characters.saturating_add(1);
                if characters >= 3 {
                    self.push(trigram)?;
                }
            }
        }
        let count = self.tokens.len().saturating_sub(first);
        if count > 0 {
            memory::reserve(&mut self.documents, 1, PURPOSE)?;
            let first = u32::try_from(first).map_err(Error::internal)?;
            self.documents.push(Document { rowid, first });
        }
        Ok(count as u64)
    }

    fn push(&mut self, trigram: Trigram) -> Result<()> {
        let [first, second, third] = trigram.characters();
        if ((first | second | third) as usize) < ASCII {
            let pair = first as usize * ASCII + second as usize;
            return self.push_ascii(pair, third as usize);
        }
        let number = match self.numbers.others.get(&trigram) {
            Some(number) => *number,
            None => {
                let reserved = self.numbers.others.try_reserve(1);
                reserved.map_err(|_| Error::out_of_memory(PURPOSE, None))?;
                let number = self.add_trigram(trigram)?;
                self.numbers.others.insert(trigram, number);
                number
            }
        };
        self.push_number(number)
    }

    /// Adds a token of three ASCII characters, whose first two are a pair.
    #[inline]
    fn push_ascii(&mut self, pair: usize, third: usize) -> Result<()> {
        let start = self.numbers.pairs.get(pair).copied().unwrap_or(NONE);
        let number = self
            .numbers
            .ascii
            .get((start as usize).saturating_add(third));
        match number {
            Some(number) if *number != NONE => self.push_number(*number),
            _ => {
                let number = self.add_ascii(pair, third)?;
                self.push_number(number)
            }
        }
    }

    #[inline]
    fn push_number(&mut self, number: u32) -> Result<()> {
        let count = self.counts.get_mut(number as usize);
        *count.ok_or_else(inconsistent)? += 1;
        self.tokens.push(number);
        Ok(())
    }

    #[cold]
    fn add_ascii(&mut self, pair: usize, third: usize) -> Result<u32> {
        let numbers = &mut self.numbers;
        if numbers.pairs.is_empty() {
            numbers.pairs = memory::filled(ASCII_PAIRS, NONE, PURPOSE)?;
        }
        let start = numbers.pairs.get_mut(pair).ok_or_else(inconsistent)?;
        if *start == NONE {
            let len = numbers.ascii.len();
            *start = u32::try_from(len).map_err(Error::internal)?;
            memory::reserve(&mut numbers.ascii, ASCII, PURPOSE)?;
            numbers.ascii.resize(len.saturating_add(ASCII), NONE);
        }
        let at = (*start as usize).saturating_add(third);
        let codes = [pair / ASCII, pair % ASCII, third];
        let trigram = codes
            .iter()
            .fold(0, |trigram, code| trigram << CHARACTER_BITS | *code as u64);
        let number = self.add_trigram(Trigram(trigram))?;
        *self.numbers.ascii.get_mut(at).ok_or_else(inconsistent)? = number;
        Ok(number)
    }

    /// Numbers a trigram.
    fn add_trigram(&mut self, trigram: Trigram) -> Result<u32> {
        let number = u32::try_from(self.trigrams.len()).map_err(Error::internal)?;
        memory::reserve(&mut self.trigrams, 1, PURPOSE)?;
        memory::reserve(&mut self.counts, 1, PURPOSE)?;
        self.trigrams.push(trigram);
        self.counts.push(0);
        Ok(number)
    }

    /// Passes all postings to `sink`, and forgets them. Keeps the memory.
    pub(super) fn drain(
        &mut self,
        sink: &mut impl PostingSink,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        let mut order = memory::with_capacity(self.trigrams.len(), PURPOSE)?;
        order.extend((0..).zip(&self.trigrams).map(|(number, it)| (*it, number)));
        order.sort_unstable();
        self.sort(&order)?;
        let lookup = self.lookup()?;
        let mut rest = self.sorted.as_slice();
        let mut done = 0;
        let mut positions = Vec::new();
        for (trigram, number) in order {
            monitor.check()?;
            // The counts are the ends of the sorted tokens by now.
            let end = *self.counts.get(number as usize).ok_or_else(inconsistent)?;
            let count = (end as usize).saturating_sub(done);
            let (tokens, after) = rest.split_at_checked(count).ok_or_else(inconsistent)?;
            (rest, done) = (after, end as usize);
            sink.trigram(trigram)?;
            self.pass(tokens, &lookup, &mut positions, sink)?;
        }
        self.tokens.clear();
        self.documents.clear();
        self.trigrams.clear();
        self.counts.clear();
        self.numbers.pairs.fill(NONE);
        self.numbers.ascii.clear();
        self.numbers.others.clear();
        Ok(())
    }

    /// Sorts the places of the tokens by trigram. Replaces the counts by the ends of their tokens.
    fn sort(&mut self, order: &[(Trigram, u32)]) -> Result<()> {
        let mut start = 0_u32;
        for (_, number) in order {
            let count = self.counts.get_mut(*number as usize);
            let count = count.ok_or_else(inconsistent)?;
            let end = start.checked_add(*count).ok_or_else(inconsistent)?;
            *count = start;
            start = end;
        }
        let additional = self.tokens.len().saturating_sub(self.sorted.len());
        memory::reserve(&mut self.sorted, additional, PURPOSE)?;
        self.sorted.resize(self.tokens.len(), 0);
        for (place, number) in (0..).zip(&self.tokens) {
            let next = self.counts.get_mut(*number as usize);
            let next = next.ok_or_else(inconsistent)?;
            let sorted = self.sorted.get_mut(*next as usize);
            *sorted.ok_or_else(inconsistent)? = place;
            *next += 1;
        }
        Ok(())
    }

    /// Returns the numbers of the documents of every 64th token.
    fn lookup(&self) -> Result<Vec<u32>> {
        let count = self.tokens.len().div_ceil(TOKENS_PER_LOOKUP);
        let mut lookup = memory::with_capacity(count, PURPOSE)?;
        for (number, document) in (0_u32..).zip(&self.documents) {
            // Tokens before the document belong to the one before it.
            while lookup.len().saturating_mul(TOKENS_PER_LOOKUP) < document.first as usize {
                lookup.push(number.saturating_sub(1));
            }
        }
        let last = self.documents.len().saturating_sub(1);
        lookup.resize(count, u32::try_from(last).map_err(Error::internal)?);
        Ok(lookup)
    }

    /// Passes the postings of one trigram, which has these tokens.
    fn pass(
        &self,
        mut tokens: &[u32],
        lookup: &[u32],
        positions: &mut Vec<u8>,
        sink: &mut impl PostingSink,
    ) -> Result<()> {
        while let Some(token) = tokens.first() {
            let number = lookup.get(*token as usize / TOKENS_PER_LOOKUP);
            let number = *number.ok_or_else(inconsistent)? as usize;
            let mut documents = self.documents.get(number..).unwrap_or_default().iter();
            let mut document = documents.next().ok_or_else(inconsistent)?;
            let mut end = u32::MAX;
            for next in documents {
                if *token < next.first {
                    end = next.first;
                    break;
                }
                document = next;
            }
            let mut last = document.first;
            let mut count = 0_usize;
            positions.clear();
            for token in tokens.iter().take_while(|token| **token < end) {
                let difference = token.saturating_sub(last).saturating_add(POSITION_BASE);
                push_varint(positions, difference.into());
                last = *token;
                count += 1;
            }
            sink.posting(document.rowid, positions)?;
            tokens = tokens.get(count..).unwrap_or_default();
        }
        Ok(())
    }
}
