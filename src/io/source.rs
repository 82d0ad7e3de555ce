//! Where parsers get their bytes from.
//!
//! A parser takes any [`Source`]: bytes in memory, or a window over a file that is mapped or read.
//! So it knows no path, and tests and fuzz targets run on slices without touching the file system.

use std::ops::Range;

use crate::error::{Error, Result};

/// A sequence of bytes of known length that is read by range.
pub(crate) trait Source {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// The bytes `offset .. offset + len`, aligned in memory as they are in the source for any
    /// alignment up to 8.
    ///
    /// # Errors
    ///
    /// Those of the operating system. A range that is not inside the source is an internal error:
    /// parsers check every range that they read from a file against [`len`](Self::len), because
    /// only they can say which field was wrong.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]>;

    /// Parts of a range that [`bytes`](Self::bytes) gave without having read them, in ascending
    /// order.
    fn unreadable(&self, _offset: u64, _len: usize) -> Vec<Range<u64>> {
        Vec::new()
    }
}

/// A slice that starts at a multiple of 8, or whose reader needs no alignment.
impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(len)?))
            .ok_or_else(|| outside(offset, len, Source::len(self)))
    }
}

impl<S: Source> Source for &mut S {
    fn len(&self) -> u64 {
        S::len(self)
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        S::bytes(self, offset, len)
    }

    fn unreadable(&self, offset: u64, len: usize) -> Vec<Range<u64>> {
        S::unreadable(self, offset, len)
    }
}

/// The error of a range that its reader should have checked.
#[cold]
pub(crate) fn outside(offset: u64, len: usize, source_len: u64) -> Error {
    Error::internal(format!(
        "{len} bytes from byte {offset} on are not among {source_len} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_serve_ranges_inside_them_and_no_others() {
        let mut source: &[u8] = b"0123456789";
        assert_eq!(Source::len(&source), 10);
        assert_eq!(source.bytes(0, 10).unwrap(), b"0123456789");
        assert_eq!(source.bytes(7, 3).unwrap(), b"789");
        assert_eq!(source.bytes(10, 0).unwrap(), b"");
        for (offset, len) in [(8, 3), (11, 0), (u64::MAX, 1), (1, usize::MAX)] {
            assert!(matches!(
                source.bytes(offset, len),
                Err(Error::Internal { .. })
            ));
        }
    }
}
