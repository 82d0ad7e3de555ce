//! Pages of the database file, read without SQLite.
//!
//! Content that does not fit into a leaf page is in a chain of overflow pages. Each one begins with
//! the number of the next:
//!
//! ```text
//! leaf page: … | size | rowid | first bytes | 17 | …
//! page 17:   42 | bytes      page 42:   0 | bytes
//! ```
//!
//! SQLite follows the chain until it has as many bytes as the cell states, and does not notice a
//! chain that returns to an earlier page. A small file can then hold a document of any size. A
//! chain that ends with page 0 after exactly the required number of pages visits each page once,
//! because every page has one successor.

use super::trees::{Cell, Page, Payload, MAX_DEPTH};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::file::InputFile;

/// Offsets in the database header of the page size, and of the number of reserved bytes at the end
/// of each page.
const PAGE_SIZE_AT: u64 = 16;
const RESERVED_AT: u64 = 20;

/// Length in bytes of the database header on the first page.
const HEADER_LEN: usize = 100;

/// Overflow pages between two checks of the cancel token.
const PAGES_PER_CHECK: u64 = 1024;

/// Pages of a database file.
#[derive(Debug)]
pub(super) struct Pages {
    file: InputFile,
    page_size: usize,
    /// Bytes of a page that can hold content.
    usable: usize,
}

impl Pages {
    /// Returns `None` if the header has no valid page size.
    pub(super) fn new(file: InputFile) -> Result<Option<Self>> {
        if file.len() < HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut size = [0; 2];
        file.read_at(&mut size, PAGE_SIZE_AT)?;
        let mut reserved = [0; 1];
        file.read_at(&mut reserved, RESERVED_AT)?;
        let page_size = match u16::from_be_bytes(size) {
            // 65,536 does not fit into the field's two bytes; the format stores 1.
            1 => 1 << 16,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(usize::from(reserved[0]));
        // The format's minima: pages of 512 bytes, 480 of them usable.
        Ok((page_size >= 512 && usable >= 480).then_some(Self {
            file,
            page_size,
            usable,
        }))
    }

    /// Most bytes of a row that are stored in its leaf page.
    pub(super) fn max_local(&self) -> usize {
        // Table leaf pages: the usable size less 35 (SQLite file format, section 1.6).
        self.usable.saturating_sub(35)
    }

    /// Returns true if all of a row's content is in its leaf page and in a chain of overflow pages
    /// that ends where the content does.
    pub(super) fn is_row_whole(
        &self,
        root: u32,
        rowid: i64,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        let mut bytes = Vec::new();
        let mut number = root;
        for _ in 0..=MAX_DEPTH {
            if !self.read(number, &mut bytes)? {
                return Ok(false);
            }
            let Ok(page) = Page::parse(number.into(), &bytes, self.usable) else {
                return Ok(false);
            };
            let cell = first_from(&page, rowid);
            if !page.kind.is_leaf() {
                let child = match cell {
                    Some(cell) => cell.child,
                    None => page.right_child(),
                };
                match child.filter(|_| page.kind.is_table()) {
                    Some(child) => number = child,
                    None => return Ok(false),
                }
                continue;
            }
            let row = cell.filter(|cell| cell.rowid == Some(rowid));
            return match row.and_then(|row| row.payload) {
                Some(payload) => self.is_payload_whole(&payload, monitor),
                None => Ok(false),
            };
        }
        Ok(false)
    }

    fn is_payload_whole(&self, payload: &Payload<'_>, monitor: &Monitor<'_>) -> Result<bool> {
        let Some(mut next) = payload.overflow else {
            return Ok(true);
        };
        // 4 bytes of each overflow page are the number of the next one.
        let per_page = self.usable.saturating_sub(4) as u64;
        let left = payload.len.saturating_sub(payload.local.len() as u64);
        let pages = left.div_ceil(per_page);
        if pages.saturating_mul(self.page_size as u64) > self.file.len() {
            return Ok(false);
        }
        for page in 0..pages {
            if page % PAGES_PER_CHECK == 0 {
                monitor.check()?;
            }
            let mut successor = [0; 4];
            match self.offset(next, successor.len()) {
                Some(offset) => self.file.read_at(&mut successor, offset)?,
                None => return Ok(false),
            }
            next = u32::from_be_bytes(successor);
        }
        Ok(next == 0)
    }

    /// Offset of a page, if the file holds its first `len` bytes.
    fn offset(&self, number: u32, len: usize) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?);
        let offset = before.checked_mul(self.page_size as u64)?;
        (offset.checked_add(len as u64)? <= self.file.len()).then_some(offset)
    }

    /// Reads a page. Returns false if it is beyond the end of the file.
    fn read(&self, number: u32, page: &mut Vec<u8>) -> Result<bool> {
        let Some(offset) = self.offset(number, self.page_size) else {
            return Ok(false);
        };
        page.resize(self.page_size, 0);
        self.file.read_at(page, offset)?;
        Ok(true)
    }
}

/// Finds the first cell of a page whose rowid is not below `rowid`. Cells are in ascending order.
fn first_from<'p>(page: &Page<'p>, rowid: i64) -> Option<Cell<'p>> {
    let (mut first, mut end) = (0, page.cells);
    while first < end {
        let middle = first.midpoint(end);
        match page.cell(middle) {
            Ok(cell) if cell.rowid.is_some_and(|found| found < rowid) => first = middle + 1,
            _ => end = middle,
        }
    }
    page.cell(first).ok().filter(|_| first < page.cells)
}
