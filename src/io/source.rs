//! Byte sources of the parsers.
//!
//! A parser takes any [`Source`]: bytes in memory, or a window over a mapped or read file. It knows
//! no path, so tests and fuzz targets run on slices without the file system.

use std::ops::Range;

use crate::error::{Error, Result};

/// A sequence of bytes of known length that is read by range.
pub(crate) trait Source {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Returns the bytes `offset .. offset + len`, with the same alignment in memory as in the
    /// source, up to 8.
    ///
    /// # Errors
    ///
    /// Errors of the operating system. A range outside the source is an internal error: parsers
    /// check every range from a file against [`len`](Self::len), because only they know which field
    /// is wrong.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]>;

    /// Parts of a range that [`bytes`](Self::bytes) returned without having read them, in ascending
    /// order.
    fn unreadable(&self, _offset: u64, _len: usize) -> Vec<Range<u64>> {
        Vec::new()
    }
}

/// The slice must start at a multiple of 8, unless its reader needs no alignment.
impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        usize::try_from(offset)
            .ok()
            // An overflow of offset or length is outside as well.
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

/// Error for a range that the parser should have checked.
#[cold]
pub(crate) fn outside(offset: u64, len: usize, source_len: u64) -> Error {
    Error::internal(format!(
        "read of {len} bytes at offset {offset} is past the end ({source_len} bytes)"
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
