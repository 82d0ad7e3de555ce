//! Check of the database file's b-trees, page by page.
//!
//! SQLite silently reads a page that lacks half of its cells, or that belongs to another table.
//! Each tree with Chroma's data is therefore walked once, directly in the file:
//!
//! ```text
//! page:  header | cell pointers | gap | cells, free blocks, fragments: all bytes accounted for
//! tree:  rowids and keys ascend within the parent's bounds; no page occurs twice
//! cell:  its record has the columns of the table and the stated length
//! ```
//!
//! A sum of hashes over the rows of a table and over the entries of each index shows whether both
//! hold the same rows. Memory: one page per level of a tree, and one bit per page that a tree
//! refers to.

mod page;
mod record;

use std::collections::BTreeMap;

use crate::base::progress::Monitor;
use crate::error::{is_bad_medium, Result};
use crate::io::file::InputFile;

pub(super) use self::page::{Cell, Page, Payload};
pub(super) use self::record::Column;
use self::record::{EntrySum, KeyOrder, RecordCheck};

/// Levels of a tree. SQLite's own cursor goes no deeper.
pub(super) const MAX_DEPTH: usize = 20;

/// Pages read between two checks of the cancel token.
const PAGES_PER_CHECK: u64 = 64;

/// A tree to be checked.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: u32,
    pub(super) kind: TreeKind,
}

#[derive(Clone, Debug)]
pub(super) enum TreeKind {
    /// The columns, and the positions of the columns that each index covers.
    Table {
        columns: Vec<Column>,
        indexes: Vec<Vec<usize>>,
    },
    /// The number of columns before the rowid, and whether the keys ascend bytewise.
    Index { columns: usize, ascends: bool },
}

/// Result of the check of a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// Pages that are damaged, belong to another tree, or are unreachable.
    pub(super) damaged_pages: u64,
    /// Description of the first one.
    pub(super) first: Option<String>,
    /// For a table, one sum per index; for an index, the sum of its entries.
    pub(super) sums: Vec<EntrySum>,
}

impl Checked {
    pub(super) fn is_sound(&self) -> bool {
        self.damaged_pages == 0
    }

    fn damage(&mut self, page: u64, what: impl std::fmt::Display) {
        self.damaged_pages += 1;
        self.first
            .get_or_insert_with(|| format!("page {page}: {what}"));
    }
}

/// Set of page numbers, in words of 64 bits.
///
/// A rollback journal can extend a database to 2³² pages, nearly all of them holes. A word is
/// therefore added only when one of its pages is inserted.
#[derive(Debug, Default)]
pub(super) struct PageSet(BTreeMap<u64, u64>);

impl PageSet {
    /// Adds a page. Returns whether it was in the set before.
    pub(super) fn insert(&mut self, page: u64) -> bool {
        let word = self.0.entry(page / 64).or_default();
        let bit = 1 << (page % 64);
        let was_present = *word & bit != 0;
        *word |= bit;
        was_present
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        let word = self.0.get(&(page / 64));
        word.is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    /// The pages in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let words = self.0.iter();
        words.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word & 1 << bit != 0);
            bits.map(move |bit| at * 64 + bit)
        })
    }
}

/// Checks the trees of a database file.
#[derive(Debug)]
pub(super) struct Checker<'f> {
    file: &'f InputFile,
    page_size: usize,
    usable: usize,
    pages: u64,
    /// Pages of the trees checked so far.
    seen: PageSet,
    /// One buffer per level.
    buffers: Vec<Vec<u8>>,
    overflow: Vec<u8>,
    until_check: u64,
    monitor: &'f Monitor<'f>,
}

/// State of a walk through a tree.
#[derive(Debug)]
struct Walk<'t> {
    kind: &'t TreeKind,
    checked: Checked,
    /// Highest rowid so far; later rows must be above it.
    last_rowid: Option<i64>,
    order: KeyOrder,
    record: RecordCheck,
}

/// Largest rowid that a page may hold, from its parents.
type Upper = Option<i64>;

impl<'f> Checker<'f> {
    /// Returns `None` if the page size is invalid.
    pub(super) fn new(
        file: &'f InputFile,
        page_size: u64,
        reserved: u64,
        monitor: &'f Monitor<'f>,
    ) -> Option<Self> {
        // SQLite's limits: page sizes from 512 to 65,536 bytes, at least 480 of them usable.
        let is_valid = (512..=65_536).contains(&page_size) && page_size.is_power_of_two();
        let usable = page_size.saturating_sub(reserved);
        let (Ok(page_size), Ok(usable)) = (usize::try_from(page_size), usize::try_from(usable))
        else {
            return None;
        };
        if !is_valid || usable < 480 {
            return None;
        }
        // The file's length, not the header's page count, which may be stale or damaged.
        let pages = file.len() / page_size as u64;
        Some(Self {
            file,
            page_size,
            usable,
            pages,
            seen: PageSet::default(),
            buffers: Vec::new(),
            overflow: Vec::new(),
            until_check: 0,
            monitor,
        })
    }

    /// Checks one tree.
    pub(super) fn check(&mut self, tree: &Tree) -> Result<Checked> {
        let sums = match &tree.kind {
            TreeKind::Table { indexes, .. } => indexes.len(),
            TreeKind::Index { .. } => 1,
        };
        let mut walk = Walk {
            kind: &tree.kind,
            checked: Checked {
                sums: vec![EntrySum::default(); sums],
                ..Checked::default()
            },
            last_rowid: None,
            order: KeyOrder::default(),
            record: RecordCheck::default(),
        };
        self.walk(tree.root, 0, None, &mut walk)?;
        Ok(walk.checked)
    }

    fn walk(&mut self, number: u32, depth: usize, upper: Upper, walk: &mut Walk<'_>) -> Result<()> {
        let number = u64::from(number);
        if depth > MAX_DEPTH {
            walk.checked.damage(number, "deeper than any tree");
            return Ok(());
        }
        let mut buffer = self.buffers.pop().unwrap_or_default();
        let read = self.read(number, &mut buffer);
        match read {
            Ok(Ok(())) => self.walk_page(number, depth, upper, &buffer, walk)?,
            Ok(Err(what)) => walk.checked.damage(number, what),
            Err(error) => return Err(error),
        }
        self.buffers.push(buffer);
        Ok(())
    }

    fn walk_page(
        &mut self,
        number: u64,
        depth: usize,
        upper: Upper,
        bytes: &[u8],
        walk: &mut Walk<'_>,
    ) -> Result<()> {
        let page = match Page::parse(number, bytes, self.usable) {
            Ok(page) => page,
            Err(what) => {
                walk.checked.damage(number, what);
                return Ok(());
            }
        };
        let fits = match walk.kind {
            TreeKind::Table { .. } => page.kind.is_table(),
            TreeKind::Index { .. } => !page.kind.is_table(),
        };
        if !fits {
            let what = format!("{} where another kind belongs", page.kind.name());
            walk.checked.damage(number, what);
            return Ok(());
        }
        if depth > 0 && page.cells == 0 {
            walk.checked.damage(number, "no cells");
            return Ok(());
        }
        if let Err(what) = page.check_space() {
            walk.checked.damage(number, what);
        }
        // One finding per page, however many of its cells are damaged.
        let mut is_noted = false;
        for at in 0..page.cells {
            let cell = page.cell(at);
            let found = match &cell {
                Ok(cell) => self.check_cell(depth, cell, upper, walk)?,
                Err(what) => Err((*what).into()),
            };
            if let Err(what) = found {
                if !is_noted {
                    is_noted = true;
                    walk.checked.damage(number, what);
                }
            }
        }
        if let Some(child) = page.right_child() {
            // Children before their cell, the right child last: that is key order, which the checks
            // depend on.
            self.walk(child, depth + 1, upper, walk)?;
        }
        Ok(())
    }

    /// Checks a cell, after its left child.
    fn check_cell(
        &mut self,
        depth: usize,
        cell: &Cell<'_>,
        upper: Upper,
        walk: &mut Walk<'_>,
    ) -> Result<std::result::Result<(), String>> {
        if let Some(child) = cell.child {
            let upper = match cell.rowid {
                Some(rowid) => Some(upper.map_or(rowid, |upper| upper.min(rowid))),
                None => upper,
            };
            self.walk(child, depth + 1, upper, walk)?;
        }
        if let Some(rowid) = cell.rowid {
            let is_after = walk.last_rowid.is_none_or(|last| match cell.child {
                // The parent's key may equal the last rowid of its left child.
                Some(_) => last <= rowid,
                None => last < rowid,
            });
            walk.last_rowid = Some(walk.last_rowid.map_or(rowid, |last| last.max(rowid)));
            if !is_after || upper.is_some_and(|upper| rowid > upper) {
                return Ok(Err(format!("rowid {rowid} out of order")));
            }
        }
        match &cell.payload {
            None => Ok(Ok(())),
            Some(_) => self.check_payload(cell, walk),
        }
    }

    fn check_payload(
        &mut self,
        cell: &Cell<'_>,
        walk: &mut Walk<'_>,
    ) -> Result<std::result::Result<(), String>> {
        let Some(payload) = &cell.payload else {
            return Ok(Ok(()));
        };
        if let Err(what) = walk.record.begin(walk.kind, payload) {
            return Ok(Err(what.into()));
        }
        if let TreeKind::Index { ascends: true, .. } = walk.kind {
            if !walk.order.follows(payload.local, payload.len) {
                return Ok(Err("keys out of order".into()));
            }
        }
        walk.record.bytes(payload.local);
        let mut left = payload.len.saturating_sub(payload.local.len() as u64);
        let mut next = payload.overflow;
        let mut overflow = std::mem::take(&mut self.overflow);
        let mut found = Ok(());
        while left > 0 {
            let Some(number) = next else {
                found = Err("an overflow chain that ends too early".to_string());
                break;
            };
            if let Err(what) = self.read(u64::from(number), &mut overflow)? {
                found = Err(format!("overflow page {number}: {what}"));
                break;
            }
            let Some((link, content)) = overflow
                .get(..self.usable)
                .and_then(<[u8]>::split_first_chunk::<4>)
            else {
                break;
            };
            let len = usize::try_from(left).map_or(content.len(), |left| left.min(content.len()));
            let content = content.get(..len).unwrap_or_default();
            let link = u32::from_be_bytes(*link);
            // Text never contains a page of zeros; a vector may.
            if link == 0 && walk.record.is_in_text() && content.iter().all(|byte| *byte == 0) {
                found = Err(format!("overflow page {number}: zeros"));
                break;
            }
            walk.record.bytes(content);
            left -= len as u64;
            next = (link != 0).then_some(link);
        }
        if found.is_ok() && left == 0 && payload.overflow.is_some() && next.is_some() {
            found = Err("an overflow chain that goes on after its end".into());
        }
        self.overflow = overflow;
        if found.is_ok() {
            walk.record
                .end(walk.kind, cell.rowid, &mut walk.checked.sums);
        }
        Ok(found)
    }

    /// Reads a page that no tree contains yet. The inner error is damage.
    fn read(
        &mut self,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<std::result::Result<(), &'static str>> {
        if self.until_check == 0 {
            self.monitor.check()?;
            self.until_check = PAGES_PER_CHECK;
        }
        self.until_check -= 1;
        if number == 0 || number > self.pages {
            return Ok(Err("a page beyond the end of the file"));
        }
        if self.seen.insert(number) {
            return Ok(Err("a page that is also elsewhere"));
        }
        buffer.resize(self.page_size, 0);
        let offset = (number - 1).saturating_mul(self.page_size as u64);
        match self.file.read_at(buffer, offset) {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.io_cause().is_some_and(is_bad_medium) => {
                Ok(Err("a page that cannot be read"))
            }
            Err(error) => Err(error),
        }
    }
}

/// Decodes a SQLite varint: big-endian, seven bits per byte, eight in the ninth. Returns the number
/// and its length in bytes.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sets_hold_only_words_in_use() {
        let mut pages = PageSet::default();
        for page in [1, 63, 64, u64::from(u32::MAX)] {
            assert!(!pages.insert(page));
            assert!(pages.insert(page));
        }
        assert_eq!(pages.0.len(), 3);
        let all: Vec<_> = pages.iter().collect();
        assert_eq!(all, [1, 63, 64, u64::from(u32::MAX)]);
        assert!(pages.contains(64) && !pages.contains(65));
    }
}
