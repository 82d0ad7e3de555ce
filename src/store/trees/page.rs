//! Page of a b-tree, and its cells (SQLite file format, section 1.6).
//!
//! | header | at | bytes |
//! |---|---|---|
//! | kind | 0 | 1 |
//! | first free block | 1 | 2 |
//! | number of cells | 3 | 2 |
//! | start of the cell content, 0 for 65,536 | 5 | 2 |
//! | fragmented bytes | 7 | 1 |
//! | right child, of interior pages | 8 | 4 |

use super::varint;

/// Length in bytes of the database header, which precedes the page header on the first page.
const DATABASE_HEADER_BYTES: usize = 100;

/// Smallest size of a cell in bytes: a freed cell must have room for a free block.
const MIN_CELL_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum PageKind {
    TableInterior,
    TableLeaf,
    IndexInterior,
    IndexLeaf,
}

impl PageKind {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            2 => Some(Self::IndexInterior),
            5 => Some(Self::TableInterior),
            10 => Some(Self::IndexLeaf),
            13 => Some(Self::TableLeaf),
            _ => None,
        }
    }

    pub(in crate::store) fn is_table(self) -> bool {
        matches!(self, Self::TableInterior | Self::TableLeaf)
    }

    pub(in crate::store) fn is_leaf(self) -> bool {
        matches!(self, Self::TableLeaf | Self::IndexLeaf)
    }

    pub(super) fn name(self) -> &'static str {
        match self.is_table() {
            true => "a page of a table",
            false => "a page of an index",
        }
    }
}

/// A page with a plausible header.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Page<'p> {
    bytes: &'p [u8],
    usable: usize,
    header: usize,
    pub(in crate::store) kind: PageKind,
    pub(in crate::store) cells: usize,
}

/// Content of a cell.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Cell<'p> {
    pub(in crate::store) child: Option<u32>,
    pub(in crate::store) rowid: Option<i64>,
    pub(in crate::store) payload: Option<Payload<'p>>,
    /// Size in its page in bytes.
    size: usize,
}

/// A record, or its part in the page.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Payload<'p> {
    pub(in crate::store) len: u64,
    pub(in crate::store) local: &'p [u8],
    /// First overflow page.
    pub(in crate::store) overflow: Option<u32>,
}

pub(in crate::store) type Parsed<T> = Result<T, &'static str>;

const OUTSIDE: &str = "a cell outside the page";

impl<'p> Page<'p> {
    pub(in crate::store) fn parse(number: u64, bytes: &'p [u8], usable: usize) -> Parsed<Self> {
        let header = if number == 1 {
            DATABASE_HEADER_BYTES
        } else {
            0
        };
        let kind = bytes.get(header).and_then(|byte| PageKind::of(*byte));
        let Some(kind) = kind else {
            return Err("no page of a tree");
        };
        let mut page = Self {
            bytes,
            usable,
            header,
            kind,
            cells: 0,
        };
        // Offsets as in the table above.
        page.cells = page.u16(header + 3);
        if page.pointers_end() > usable {
            return Err("more cells than fit into a page");
        }
        Ok(page)
    }

    fn u16(&self, at: usize) -> usize {
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..self.usable)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn header_len(&self) -> usize {
        match self.kind.is_leaf() {
            true => 8,
            false => 12,
        }
    }

    fn pointers_end(&self) -> usize {
        self.header + self.header_len() + 2 * self.cells
    }

    pub(in crate::store) fn right_child(&self) -> Option<u32> {
        match self.kind.is_leaf() {
            true => None,
            false => self.u32(self.header + 8),
        }
    }

    pub(in crate::store) fn cell(&self, at: usize) -> Parsed<Cell<'p>> {
        let start = self.u16(self.header + self.header_len() + 2 * at);
        if start < self.pointers_end() {
            return Err(OUTSIDE);
        }
        let page = self.bytes.get(..self.usable).ok_or(OUTSIDE)?;
        let mut rest = page.get(start..).ok_or(OUTSIDE)?;
        let mut child = None;
        if !self.kind.is_leaf() {
            let (number, after) = rest.split_first_chunk().ok_or(OUTSIDE)?;
            child = Some(u32::from_be_bytes(*number));
            rest = after;
        }
        let mut number = || {
            let (value, len) = varint(rest).ok_or(OUTSIDE)?;
            rest = rest.get(len..).ok_or(OUTSIDE)?;
            Parsed::Ok(value)
        };
        let len = match self.kind {
            PageKind::TableInterior => None,
            _ => Some(number()?),
        };
        let rowid = match self.kind.is_table() {
            true => Some(number()?.cast_signed()),
            false => None,
        };
        let payload = match len {
            None => None,
            Some(len) => {
                let local_len = self.local(len);
                let (local, after) = rest.split_at_checked(local_len).ok_or(OUTSIDE)?;
                rest = after;
                let mut overflow = None;
                if (local_len as u64) < len {
                    let (number, after) = rest.split_first_chunk().ok_or(OUTSIDE)?;
                    overflow = Some(u32::from_be_bytes(*number));
                    rest = after;
                }
                Some(Payload {
                    len,
                    local,
                    overflow,
                })
            }
        };
        let size = self.usable.saturating_sub(start).saturating_sub(rest.len());
        Ok(Cell {
            child,
            rowid,
            payload,
            size: size.max(MIN_CELL_BYTES),
        })
    }

    /// Number of payload bytes in the page; the others are in overflow pages.
    fn local(&self, len: u64) -> usize {
        let usable = self.usable;
        // Formulas for X (most local bytes) and M (least) from the file format, with U the usable
        // size.
        let most = match self.kind {
            PageKind::TableLeaf => usable - 35,
            _ => (usable - 12) * 64 / 255 - 23,
        };
        let len = match usize::try_from(len) {
            Ok(len) if len <= most => return len,
            Ok(len) => len,
            Err(_) => usize::MAX,
        };
        let least = (usable - 12) * 32 / 255 - 23;
        // K = M + (P − M) mod (U − 4), used if it is at most X: overflow pages are then full.
        let local = least + (len - least) % (usable - 4);
        if local <= most {
            local
        } else {
            least
        }
    }

    /// Fails unless each byte from the first cell on is part of exactly one cell or free block. The
    /// header's number of fragmented bytes is the only exception. A lost cell breaks this balance.
    pub(super) fn check_space(&self) -> Parsed<()> {
        let mut start = self.u16(self.header + 5);
        // 0 stands for 65,536, which the two bytes cannot hold.
        if start == 0 {
            start = 1 << 16;
        }
        if start > self.usable || start < self.pointers_end() {
            return Err("cells that begin outside the page");
        }
        let mut ranges = Vec::with_capacity(self.cells);
        for at in 0..self.cells {
            let size = self.cell(at)?.size;
            ranges.push((self.u16(self.header + self.header_len() + 2 * at), size));
        }
        let mut block = self.u16(self.header + 1);
        while block != 0 {
            let (next, size) = (self.u16(block), self.u16(block + 2));
            // Offsets must ascend, which guarantees that the list ends.
            if next != 0 && next <= block || size < MIN_CELL_BYTES {
                return Err("a list of free blocks that does not ascend");
            }
            ranges.push((block, size));
            block = next;
        }
        ranges.sort_unstable();
        let mut fragmented = 0;
        let mut end = start;
        for (at, size) in ranges {
            if at < end {
                return Err("cells that overlap");
            }
            fragmented += at - end;
            end = at + size;
        }
        if end > self.usable {
            return Err(OUTSIDE);
        }
        fragmented += self.usable - end;
        let expected = self.bytes.get(self.header + 7).copied();
        if expected.map(usize::from) != Some(fragmented) {
            return Err("bytes that belong to no cell: cells are missing");
        }
        Ok(())
    }
}
