//! Writer of one segment of an FTS5 index.
//!
//! ```text
//! leaf:    offset of the first rowid before a term, or 0 (2 bytes); offset of the footer (2 bytes)
//!          terms, each with its doclist
//!          footer: differences of the offsets of the terms
//! doclist: rowid, bytes of the position list · 2, position list; difference of rowids, …
//! ```
//!
//! On each leaf, the first term is not abbreviated, and the first rowid is no difference. A doclist
//! that fills four leaves without a term has an index: the first rowid of each leaf.

use std::collections::VecDeque;

use rusqlite::Statement;

use super::{inconsistent, push_varint, varint_bytes, PostingSink, Trigram};
use crate::base::memory;
use crate::error::{Error, Result};
use crate::store::trees::varint;
use crate::store::write::DatabaseWriter;

/// Id of the segment.
pub(super) const ID: u64 = 1;

/// Number of the first leaf.
pub(super) const FIRST_LEAF: u64 = 1;

/// Bits in the rowids of `_data`: segment, flag of a doclist index, height in it, leaf.
const LEAF_BITS: u32 = 31;
const HEIGHT_BITS: u32 = 5;
const INDEX_FLAG_BITS: u32 = 1;

/// Most leaves of a segment, as in FTS5.
const MAX_LEAVES: u64 = 0x7FFF_FF00;

/// Leaves without a term from which on a doclist gets an index, as in FTS5.
const MIN_INDEXED_LEAVES: u64 = 4;

const HEADER_BYTES: usize = 4;

/// Precedes each term of the main index. Indexes of prefixes have other bytes.
const MAIN_INDEX: u8 = b'0';

/// Most bytes of a term with its two lengths, its entry in the footer, the first rowid and the
/// length of the first position list. They stay on one leaf, which FTS5 does not require.
const MAX_TERM_START_BYTES: usize = 13 + 2 + 3 + 9 + 5;

/// Pages of doclist indexes that wait until the leaves are written. Their rowids are larger, and
/// SQLite fills its own pages best if rows ascend.
const MAX_WAITING_BYTES: usize = 4 << 20;

const PURPOSE: &str = "index the trigrams of documents";

/// A level of the index of the current doclist. Level 0 refers to leaves.
#[derive(Debug, Default)]
struct Level {
    page: Vec<u8>,
    number: u64,
    rowid: i64,
}

pub(super) struct SegmentWriter<'w> {
    writer: &'w DatabaseWriter,
    data: Statement<'w>,
    terms: Statement<'w>,
    leaf_bytes: usize,
    leaf: Vec<u8>,
    footer: Vec<u8>,
    /// Number of the current leaf.
    number: u64,
    /// Offset of the last term on the leaf.
    last_term: usize,
    /// Neither a term nor a rowid is on the leaf.
    has_rowid: bool,
    term: Vec<u8>,
    /// The current term has a posting.
    has_posting: bool,
    rowid: i64,
    /// The last leaf with a term, and the shortest text that separates it from those before.
    indexed: (u64, Vec<u8>),
    /// Leaves without a term after it.
    termless: u64,
    levels: Vec<Level>,
    waiting: VecDeque<(i64, Vec<u8>)>,
    waiting_bytes: usize,
}

impl<'w> SegmentWriter<'w> {
    pub(super) fn new(writer: &'w DatabaseWriter, table: &str, leaf_bytes: usize) -> Result<Self> {
        Ok(Self {
            data: writer.prepare(&format!(
                "INSERT INTO {table}_data (id, block) VALUES (?1, ?2)"
            ))?,
            terms: writer.prepare(&format!(
                "INSERT INTO {table}_idx (segid, term, pgno) VALUES (?1, ?2, ?3)"
            ))?,
            writer,
            leaf_bytes,
            leaf: vec![0; HEADER_BYTES],
            footer: Vec::new(),
            number: FIRST_LEAF,
            last_term: 0,
            has_rowid: false,
            term: Vec::new(),
            has_posting: false,
            rowid: 0,
            indexed: (FIRST_LEAF, Vec::new()),
            termless: 0,
            levels: vec![Level::default()],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        })
    }

    /// Writes the rest, and returns the number of leaves.
    pub(super) fn finish(mut self) -> Result<u64> {
        if self.leaf.len() > HEADER_BYTES {
            self.flush_leaf()?;
        }
        let leaves = self.number.saturating_sub(FIRST_LEAF);
        if leaves > 0 {
            self.finish_indexed()?;
        }
        self.write_waiting()?;
        Ok(leaves)
    }

    /// Returns the free bytes of the leaf.
    fn room(&self) -> usize {
        let used = self.leaf.len().saturating_add(self.footer.len());
        self.leaf_bytes.saturating_sub(used)
    }

    fn flush_leaf(&mut self) -> Result<()> {
        if self.number > MAX_LEAVES {
            return Err(Error::internal("more trigrams than FTS5 can index"));
        }
        self.put_offset(2)?;
        if self.footer.is_empty() {
            let level = self.levels.first_mut().ok_or_else(inconsistent)?;
            if !self.has_rowid && !level.page.is_empty() {
                push_varint(&mut level.page, 0);
            }
            self.termless = self.termless.saturating_add(1);
        }
        self.leaf.append(&mut self.footer);
        let rowid = data_rowid(self.number, None)?;
        self.writer.run(&mut self.data, &[&rowid, &self.leaf])?;
        self.leaf.clear();
        self.leaf.resize(HEADER_BYTES, 0);
        self.number = self.number.saturating_add(1);
        self.last_term = 0;
        self.has_rowid = false;
        Ok(())
    }

    /// Stores the length of the leaf at an offset of its header.
    fn put_offset(&mut self, at: usize) -> Result<()> {
        let offset = u16::try_from(self.leaf.len()).map_err(Error::internal)?;
        let field = self.leaf.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        *field.ok_or_else(inconsistent)? = offset.to_be_bytes();
        Ok(())
    }

    /// Adds the last leaf with a term to the table of terms. Its last doclist is complete.
    fn finish_indexed(&mut self) -> Result<()> {
        let has_index = self.termless >= MIN_INDEXED_LEAVES;
        let mut has_page = false;
        for height in 0..self.levels.len() {
            let level = self.levels.get_mut(height).ok_or_else(inconsistent)?;
            let page = std::mem::take(&mut level.page);
            if page.is_empty() {
                break;
            }
            if has_index {
                has_page = true;
                let number = level.number;
                self.wait(height, number, page)?;
            }
        }
        self.termless = 0;
        let (leaf, term) = &self.indexed;
        let place = (leaf << 1 | u64::from(has_page)).cast_signed();
        let parameters: [&dyn rusqlite::ToSql; 3] = [&ID.cast_signed(), term, &place];
        self.writer.run(&mut self.terms, &parameters)?;
        Ok(())
    }

    /// Keeps a page of a doclist index to be written.
    fn wait(&mut self, height: usize, number: u64, page: Vec<u8>) -> Result<()> {
        self.waiting_bytes = self.waiting_bytes.saturating_add(page.len());
        let rowid = data_rowid(number, Some(height))?;
        self.waiting
            .try_reserve(1)
            .map_err(|_| Error::out_of_memory(PURPOSE, None))?;
        self.waiting.push_back((rowid, page));
        match self.waiting_bytes > MAX_WAITING_BYTES {
            true => self.write_waiting(),
            false => Ok(()),
        }
    }

    fn write_waiting(&mut self) -> Result<()> {
        self.waiting.make_contiguous().sort_unstable();
        for (rowid, page) in self.waiting.drain(..) {
            self.writer.run(&mut self.data, &[&rowid, &page])?;
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Adds the first rowid of the current leaf to the index of the doclist.
    fn index_rowid(&mut self, rowid: i64) -> Result<()> {
        let mut below = self.number;
        for height in 0.. {
            let level = self.levels.get_mut(height).ok_or_else(inconsistent)?;
            let is_full = level.page.len() >= self.leaf_bytes;
            if is_full {
                let mut page = std::mem::take(&mut level.page);
                let number = level.number;
                level.number = number.saturating_add(1);
                // Has a parent.
                *page.first_mut().ok_or_else(inconsistent)? = 1;
                let first = first_rowid(&page)?;
                self.wait(height, number, page)?;
                let parent = height.saturating_add(1);
                if self.levels.len() == parent {
                    memory::reserve(&mut self.levels, 1, PURPOSE)?;
                    self.levels.push(Level::default());
                }
                let parent = self.levels.get_mut(parent).ok_or_else(inconsistent)?;
                if parent.page.is_empty() {
                    parent.number = number;
                    parent.start(false, number, first);
                }
            }
            let level = self.levels.get_mut(height).ok_or_else(inconsistent)?;
            if level.page.is_empty() {
                level.start(is_full, below, rowid);
            } else {
                let difference = rowid.wrapping_sub(level.rowid).cast_unsigned();
                push_varint(&mut level.page, difference);
                level.rowid = rowid;
            }
            if !is_full {
                break;
            }
            below = level.number;
        }
        Ok(())
    }

    /// Appends the current term to the leaf, or to the next one.
    fn start_term(&mut self, term: &[u8]) -> Result<()> {
        if self.leaf.len() > HEADER_BYTES && self.room() < MAX_TERM_START_BYTES {
            self.flush_leaf()?;
        }
        let equal = self.term.iter().zip(term);
        let shared = equal.take_while(|(before, byte)| before == byte).count();
        let offset = self.leaf.len().saturating_sub(self.last_term);
        self.last_term = self.leaf.len();
        let mut kept = shared;
        if self.footer.is_empty() {
            kept = 0;
            if self.number != FIRST_LEAF {
                self.finish_indexed()?;
                let separator = term.get(..=shared).ok_or_else(inconsistent)?;
                self.indexed = (self.number, separator.to_vec());
            }
        } else {
            push_varint(&mut self.leaf, kept as u64);
        }
        push_varint(&mut self.footer, offset as u64);
        let rest = term.get(kept..).ok_or_else(inconsistent)?;
        push_varint(&mut self.leaf, rest.len() as u64);
        self.leaf.extend_from_slice(rest);
        self.term.clear();
        self.term.extend_from_slice(term);
        self.has_rowid = true;
        self.has_posting = false;
        self.levels.first_mut().ok_or_else(inconsistent)?.number = self.number;
        Ok(())
    }
}

impl PostingSink for SegmentWriter<'_> {
    fn trigram(&mut self, trigram: Trigram) -> Result<()> {
        let (mut bytes, mut len) = ([0; 13], 1);
        if let Some(prefix) = bytes.first_mut() {
            *prefix = MAIN_INDEX;
        }
        for code in trigram.characters() {
            let character = char::from_u32(code).ok_or_else(inconsistent)?;
            let rest = bytes.get_mut(len..).ok_or_else(inconsistent)?;
            len = len.saturating_add(character.len_utf8());
            if rest.len() < character.len_utf8() {
                return Err(inconsistent());
            }
            character.encode_utf8(rest);
        }
        self.start_term(bytes.get(..len).ok_or_else(inconsistent)?)
    }

    #[inline]
    fn posting(&mut self, rowid: i64, positions: &[u8]) -> Result<()> {
        // The lowest bit is the mark of a deleted posting.
        let size = (positions.len() as u64).saturating_mul(2);
        let mut number = match self.has_posting {
            true => rowid.wrapping_sub(self.rowid).cast_unsigned(),
            false => rowid.cast_unsigned(),
        };
        let bytes = varint_bytes(number).saturating_add(varint_bytes(size));
        if self.room() < bytes {
            self.flush_leaf()?;
        }
        if !self.has_rowid {
            self.has_rowid = true;
            number = rowid.cast_unsigned();
            self.put_offset(0)?;
            self.index_rowid(rowid)?;
        }
        push_varint(&mut self.leaf, number);
        push_varint(&mut self.leaf, size);
        self.rowid = rowid;
        self.has_posting = true;
        let mut rest = positions;
        loop {
            let room = self.room();
            if rest.len() <= room {
                self.leaf.extend_from_slice(rest);
                return Ok(());
            }
            // No number continues on the next leaf.
            let fits = rest.get(..room).unwrap_or_default();
            let end = fits.iter().rposition(|byte| *byte < 0x80);
            let (head, tail) = rest.split_at(end.map_or(0, |end| end.saturating_add(1)));
            self.leaf.extend_from_slice(head);
            self.flush_leaf()?;
            rest = tail;
        }
    }
}

impl Level {
    /// Starts a page with its first child.
    fn start(&mut self, has_parent: bool, child: u64, rowid: i64) {
        push_varint(&mut self.page, has_parent.into());
        push_varint(&mut self.page, child);
        push_varint(&mut self.page, rowid.cast_unsigned());
        self.rowid = rowid;
    }
}

/// Returns the first rowid of a page of a doclist index.
fn first_rowid(page: &[u8]) -> Result<i64> {
    let rest = page.get(1..).unwrap_or_default();
    let (_, bytes) = varint(rest).ok_or_else(inconsistent)?;
    let rest = rest.get(bytes..).unwrap_or_default();
    let (rowid, _) = varint(rest).ok_or_else(inconsistent)?;
    Ok(rowid.cast_signed())
}

/// Returns the rowid of a leaf, or of a page of a doclist index at a height.
fn data_rowid(number: u64, height: Option<usize>) -> Result<i64> {
    let (flag, height) = height.map_or((0, 0), |height| (1, height as u64));
    if height >= 1 << HEIGHT_BITS {
        return Err(inconsistent());
    }
    let rowid = ID << (LEAF_BITS + HEIGHT_BITS + INDEX_FLAG_BITS)
        | flag << (LEAF_BITS + HEIGHT_BITS)
        | height << LEAF_BITS
        | number;
    Ok(rowid.cast_signed())
}
