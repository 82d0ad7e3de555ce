//! The pages of the database's file, read without SQLite.
//!
//! What does not fit into a leaf page is in a chain of overflow pages, each of which begins with
//! the number of the next:
//!
//! ```text
//! leaf page: … | size | rowid | first bytes | 17 | …
//! page 17:   42 | bytes      page 42:   0 | bytes
//! ```
//!
//! SQLite follows the chain until it has as many bytes as the cell says, and does not notice when
//! the chain leads back to a page it has read: a small file then holds a document of any size. A
//! chain that ends with page 0 after exactly as many pages as the size needs visits each once,
//! since every page has one successor.

use crate::error::Result;
use crate::io::file::InputFile;
use crate::progress::Monitor;

/// Where in the header of a database these are: the size of a page, and the bytes at the end of
/// each that SQLite does not use.
const PAGE_SIZE: u64 = 16;
const RESERVED: u64 = 20;

/// Bytes of the header on the first page.
const HEADER_LEN: usize = 100;

/// Pages from the root of a table to a leaf. 20 of them hold more rows than there are rowids.
const MAX_DEPTH: usize = 20;

/// Overflow pages between two looks at the cancel token.
const PAGES_PER_CHECK: u64 = 1024;

/// Kinds of pages of a table.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// The file of a database.
#[derive(Debug)]
pub(super) struct Pages {
    file: InputFile,
    page_size: usize,
    /// Bytes of a page that hold content.
    usable: usize,
}

impl Pages {
    /// `None` where the header says no size of a page.
    pub(super) fn new(file: InputFile) -> Result<Option<Self>> {
        if file.len() < HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut size = [0; 2];
        file.read_at(&mut size, PAGE_SIZE)?;
        let mut reserved = [0; 1];
        file.read_at(&mut reserved, RESERVED)?;
        let page_size = match u16::from_be_bytes(size) {
            1 => 1 << 16,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(usize::from(reserved[0]));
        Ok((page_size >= 512 && usable >= 480).then_some(Self {
            file,
            page_size,
            usable,
        }))
    }

    /// Most bytes of a row that are in its leaf page.
    pub(super) fn max_local(&self) -> usize {
        self.usable.saturating_sub(35)
    }

    /// Whether all of a row's content is where the row says: in its page, and in a chain of
    /// overflow pages that ends where the content does.
    pub(super) fn is_row_whole(
        &self,
        root: u32,
        rowid: i64,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        let mut page = Vec::new();
        let mut number = root;
        for _ in 0..MAX_DEPTH {
            if !self.read(number, &mut page)? {
                return Ok(false);
            }
            let start = if number == 1 { HEADER_LEN } else { 0 };
            let content = Content { page: &page, start };
            match content.kind() {
                Some(INTERIOR) => match content.child(rowid) {
                    Some(child) => number = child,
                    None => return Ok(false),
                },
                Some(LEAF) => {
                    return match content.payload(rowid) {
                        Some((size, at)) => self.is_payload_whole(&content, size, at, monitor),
                        None => Ok(false),
                    };
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Whether `size` bytes that begin at `at` of a leaf page are whole.
    fn is_payload_whole(
        &self,
        leaf: &Content<'_>,
        size: u64,
        at: usize,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        let max_local = self.max_local() as u64;
        if size <= max_local {
            return Ok(true);
        }
        // As the file format defines it: what is left of a page is filled, if it is not too much.
        let per_page = self.usable.saturating_sub(4) as u64;
        let min_local = (self.usable.saturating_sub(12) * 32 / 255).saturating_sub(23) as u64;
        let filled = min_local.saturating_add(size.saturating_sub(min_local) % per_page);
        let local = if filled <= max_local {
            filled
        } else {
            min_local
        };
        let first = usize::try_from(local)
            .ok()
            .and_then(|local| at.checked_add(local))
            .and_then(|at| leaf.number(at));
        let Some(mut next) = first else {
            return Ok(false);
        };
        let pages = size.saturating_sub(local).div_ceil(per_page);
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

    /// Where a page begins, if `len` bytes of it are in the file.
    fn offset(&self, number: u32, len: usize) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?);
        let offset = before.checked_mul(self.page_size as u64)?;
        (offset.checked_add(len as u64)? <= self.file.len()).then_some(offset)
    }

    /// Reads a page. Returns false where the file does not have it.
    fn read(&self, number: u32, page: &mut Vec<u8>) -> Result<bool> {
        let Some(offset) = self.offset(number, self.page_size) else {
            return Ok(false);
        };
        page.resize(self.page_size, 0);
        self.file.read_at(page, offset)?;
        Ok(true)
    }
}

/// A page of a table.
struct Content<'p> {
    page: &'p [u8],
    /// Where the header of the page is.
    start: usize,
}

impl Content<'_> {
    fn kind(&self) -> Option<u8> {
        self.page.get(self.start).copied()
    }

    fn cells(&self) -> usize {
        self.short(self.start.saturating_add(3)).unwrap_or_default()
    }

    fn short(&self, at: usize) -> Option<usize> {
        let bytes = self.page.get(at..)?.first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*bytes)))
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.page.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    /// A number of one to nine bytes, and where the next one is.
    fn varint(&self, at: usize) -> Option<(u64, usize)> {
        let mut value = 0_u64;
        for (index, byte) in self.page.get(at..)?.iter().take(9).enumerate() {
            let next = at.checked_add(index)?.checked_add(1)?;
            if index == 8 {
                return Some((value << 8 | u64::from(*byte), next));
            }
            value = value << 7 | u64::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Some((value, next));
            }
        }
        None
    }

    /// Where cell number `cell` is, when the pointers to the cells begin at `pointers`.
    fn cell(&self, pointers: usize, cell: usize) -> Option<usize> {
        self.short(
            self.start
                .checked_add(pointers)?
                .checked_add(cell.checked_mul(2)?)?,
        )
    }

    /// The first of the cells, which are in order, whose rowid is not below `rowid`.
    fn search(&self, rowid: i64, rowid_of: impl Fn(usize) -> Option<i64>) -> usize {
        let (mut first, mut end) = (0, self.cells());
        while first < end {
            let middle = first.midpoint(end);
            match rowid_of(middle) {
                Some(found) if found < rowid => first = middle.saturating_add(1),
                _ => end = middle,
            }
        }
        first
    }

    /// The page below an interior page that leads to a row.
    fn child(&self, rowid: i64) -> Option<u32> {
        const POINTERS: usize = 12;
        let key = |cell: usize| {
            let at = self.cell(POINTERS, cell)?.checked_add(4)?;
            Some(self.varint(at)?.0.cast_signed())
        };
        let cell = self.search(rowid, key);
        if cell < self.cells() {
            self.number(self.cell(POINTERS, cell)?)
        } else {
            self.number(self.start.checked_add(8)?)
        }
    }

    /// The size of a row's content, and where it begins.
    fn payload(&self, rowid: i64) -> Option<(u64, usize)> {
        const POINTERS: usize = 8;
        let payload = |cell: usize| {
            let (size, at) = self.varint(self.cell(POINTERS, cell)?)?;
            let (key, at) = self.varint(at)?;
            Some((key.cast_signed(), size, at))
        };
        let cell = self.search(rowid, |cell| payload(cell).map(|cell| cell.0));
        if cell >= self.cells() {
            return None;
        }
        payload(cell)
            .filter(|cell| cell.0 == rowid)
            .map(|(_, size, at)| (size, at))
    }
}
