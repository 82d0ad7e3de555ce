//! Bulk builder of a trigram index, in FTS5's own format.
//!
//! FTS5 builds an index token by token, in its hash table, and merges the many segments that this
//! leaves. A builder that sees all documents in the order of their rowids needs one merge only:
//!
//! ```text
//! documents ── trigrams ──► postings ── budget exceeded ──► runs in a temporary file
//!                              │                               │
//!                              └── end of a table that fits ───┴── merged ──► one segment
//! ```
//!
//! The shadow tables are filled through SQL, on a connection that has not used the table since it
//! was created. It must be closed before the table is used, because FTS5 caches the structure.
//!
//! The format is described in SQLite's `fts5_index.c`.

mod folding;
mod postings;
mod runs;
mod segment;
#[cfg(test)]
mod tests;

use rusqlite::Statement;

use self::folding::Folding;
use self::postings::Postings;
use self::runs::Runs;
use self::segment::SegmentWriter;
use super::DatabaseWriter;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Limit on the bytes of postings in memory. A document that exceeds it is still included.
///
/// Twice as much makes 100,000 documents of 500 bytes a tenth faster.
const MAX_POSTING_BYTES: usize = 16 << 20;

/// Documents with more bytes are left to FTS5, because each trigram of a document may take 72 bytes
/// of memory.
const MAX_DOCUMENT_BYTES: usize = 2 << 20;

/// Size of a leaf page in FTS5's default configuration. A row with such a page just fits into a page
/// of SQLite's default size.
const LEAF_BYTES: usize = 4050;

/// Rowids of two records in the table `_data`.
const AVERAGES_ROWID: i64 = 1;
const STRUCTURE_ROWID: i64 = 10;

/// Bits of a code point.
const CHARACTER_BITS: u32 = 21;

/// Receives the postings of an index by ascending trigram, and within a trigram by rowid.
trait PostingSink {
    /// Starts the next trigram.
    fn trigram(&mut self, trigram: Trigram) -> Result<()>;

    /// Adds a document with the current trigram. `positions` are encoded as in a position list.
    fn posting(&mut self, rowid: i64, positions: &[u8]) -> Result<()>;
}

/// Three folded characters, 21 bits each. Orders as FTS5's terms, which are UTF-8, do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Trigram(u64);

impl Trigram {
    /// Drops the first character, and appends one.
    fn shifted(self, next: u32) -> Self {
        let all = (1 << (3 * CHARACTER_BITS)) - 1;
        Self((self.0 << CHARACTER_BITS | u64::from(next)) & all)
    }

    /// Returns the three code points.
    fn characters(self) -> [u32; 3] {
        let mask = (1 << CHARACTER_BITS) - 1;
        #[allow(clippy::cast_possible_truncation)] // 21 bits
        [2, 1, 0].map(|at| ((self.0 >> (at * CHARACTER_BITS)) & mask) as u32)
    }
}

/// Limits that tests lower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    posting_bytes: usize,
    document_bytes: usize,
    leaf_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            posting_bytes: MAX_POSTING_BYTES,
            document_bytes: MAX_DOCUMENT_BYTES,
            leaf_bytes: LEAF_BYTES,
        }
    }
}

/// Fills the shadow tables of an empty full-text table.
pub(super) struct TrigramWriter<'w> {
    writer: &'w DatabaseWriter,
    table: &'static str,
    limits: Limits,
    content: Statement<'w>,
    size: Statement<'w>,
    folding: Folding,
    postings: Postings,
    runs: Runs,
    rows: u64,
    /// Number of trigrams in all documents, with repetitions.
    tokens: u64,
}

impl<'w> TrigramWriter<'w> {
    /// Starts with a table that has just been created. Its temporary file stands beside the database.
    pub(super) fn new(
        writer: &'w DatabaseWriter,
        table: &'static str,
        limits: Limits,
    ) -> Result<Self> {
        let insert = |shadow, columns| {
            writer.prepare(&format!(
                "INSERT INTO {table}_{shadow} ({columns}) VALUES (?1, ?2)"
            ))
        };
        Ok(Self {
            content: insert("content", "id, c0")?,
            size: insert("docsize", "id, sz")?,
            folding: Folding::default(),
            postings: Postings::default(),
            runs: Runs::new(writer.path.with_extension("trigrams.tmp")),
            rows: 0,
            tokens: 0,
            writer,
            table,
            limits,
        })
    }

    /// Adds a document. Rowids must ascend. Returns false, and adds nothing, if the document is too
    /// long.
    pub(super) fn push(&mut self, rowid: i64, text: &str, monitor: &Monitor<'_>) -> Result<bool> {
        if text.len() > self.limits.document_bytes {
            return Ok(false);
        }
        let folding = &mut self.folding;
        let count = self.postings.add(rowid, text, |c| folding.fold(c))?;
        if self.postings.bytes() > self.limits.posting_bytes {
            self.runs.spill(&mut self.postings, monitor)?;
        }
        let mut size = Vec::new();
        push_varint(&mut size, count);
        self.writer.run(&mut self.content, &[&rowid, &text])?;
        self.writer.run(&mut self.size, &[&rowid, &size])?;
        self.rows = self.rows.saturating_add(1);
        self.tokens = self.tokens.saturating_add(count);
        Ok(true)
    }

    /// Writes the index of all documents.
    pub(super) fn finish(mut self, monitor: &Monitor<'_>) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let (writer, table) = (self.writer, self.table);
        let mut segment = SegmentWriter::new(writer, table, self.limits.leaf_bytes)?;
        if self.runs.is_empty() {
            self.postings.drain(&mut segment, monitor)?;
        } else {
            self.runs.spill(&mut self.postings, monitor)?;
            // Its memory serves the buffers of the runs.
            drop(self.postings);
            self.runs.merge(&mut segment, monitor)?;
        }
        let leaves = segment.finish()?;
        let mut averages = Vec::new();
        push_varint(&mut averages, self.rows);
        push_varint(&mut averages, self.tokens);
        let mut records = vec![(AVERAGES_ROWID, averages)];
        if leaves > 0 {
            records.push((STRUCTURE_ROWID, structure(leaves)));
        }
        let replace = format!("INSERT OR REPLACE INTO {table}_data (id, block) VALUES (?1, ?2)");
        for (rowid, record) in records {
            writer.execute(&replace, &[&rowid, &record])?;
        }
        Ok(())
    }
}

/// Returns the structure record of an index with one segment.
///
/// FTS5 merges four segments of a level into one on the next. On the level that log₄(leaves) such
/// merges of single leaves reach, the segment is merged only with others of its size, not again and
/// again with small ones.
fn structure(leaves: u64) -> Vec<u8> {
    let level = u64::from(leaves.max(1).ilog(4));
    // The configuration cookie of a new table.
    let mut record = vec![0; 4];
    let mut push = |value| push_varint(&mut record, value);
    let segments = 1;
    push(level.saturating_add(1));
    push(segments);
    // The write counter: leaves written so far.
    push(leaves);
    for _ in 0..level {
        // No merge in progress, and no segments.
        push(0);
        push(0);
    }
    push(0);
    push(segments);
    push(segment::ID);
    push(segment::FIRST_LEAF);
    push(leaves);
    record
}

/// Appends a number in SQLite's encoding: big-endian groups of 7 bits, and 8 bits in a ninth byte.
#[inline]
fn push_varint(bytes: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => bytes.push((value & 0x7f) as u8),
        _ => push_long_varint(bytes, value),
    }
}

fn push_long_varint(bytes: &mut Vec<u8>, value: u64) {
    let group = |shift: u32| ((value >> shift) & 0x7f) as u8;
    if value < 1 << 14 {
        bytes.extend_from_slice(&[0x80 | group(7), group(0)]);
    } else if value < 1 << 56 {
        for at in (1..=value.ilog2() / 7).rev() {
            bytes.push(0x80 | group(7 * at));
        }
        bytes.push(group(0));
    } else {
        for at in (0..8).rev() {
            bytes.push(0x80 | group(7 * at + 8));
        }
        bytes.push((value & 0xff) as u8);
    }
}

/// Returns the bytes that [`push_varint`] appends.
#[inline]
fn varint_bytes(value: u64) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (value.ilog2() as usize / 7).saturating_add(1).min(9),
    }
}

fn inconsistent() -> Error {
    Error::internal("postings of trigrams are inconsistent")
}
