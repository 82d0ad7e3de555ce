//! Random access to bytes, for parsers that know no path.
//!
//! A parser takes any [`Source`]: a slice, or a window over a file that is mapped or read. So tests
//! and fuzz targets run on slices and never touch the file system.

use std::ops::Range;

use crate::error::{Error, Result};

/// A sequence of bytes of known length, read by range.
///
/// Implement it to read a segment from elsewhere, such as object storage:
///
/// ```
/// use hnsw_toolbox::segment::{Header, Source};
/// use hnsw_toolbox::{Error, Result};
///
/// /// An object whose ranges are fetched on demand.
/// struct Object {
///     len: u64,
///     buffer: Vec<u8>,
/// }
///
/// # fn fetch(_: u64, _: usize) -> std::io::Result<Vec<u8>> { Ok(vec![0; 100]) }
/// impl Source for Object {
///     fn len(&self) -> u64 {
///         self.len
///     }
///
///     fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
///         self.buffer = fetch(offset, len).map_err(Error::callback)?;
///         Ok(&self.buffer)
///     }
/// }
///
/// let object = Object { len: 100, buffer: Vec::new() };
/// assert!(Header::read(object).is_err(), "a header of zeros");
/// ```
pub trait Source {
    /// Length in bytes. It must not change.
    fn len(&self) -> u64;

    /// Returns true if the length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the bytes `offset .. offset + len`.
    ///
    /// [`Records`](crate::segment::Records) cast vectors in place, for which the address modulo 4 must
    /// equal the offset modulo 4. Other readers accept any address.
    ///
    /// A reader may request a range twice in a row, and ranges of 4 bytes one after another. A source
    /// whose reads are slow should keep a window.
    ///
    /// # Errors
    ///
    /// Errors of the storage, as [`ErrorKind::Callback`](crate::ErrorKind::Callback) outside this
    /// crate. A range past the end is an internal error: parsers check each range against
    /// [`len`](Self::len) first, because only they know which field is wrong.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]>;

    /// Parts of a range that the last [`bytes`](Self::bytes) could not read, in ascending order, as
    /// offsets in the source. Their content is unspecified. Only [`Records`](crate::segment::Records)
    /// ask; for the other readers return an error instead.
    fn unreadable(&self, _offset: u64, _len: usize) -> Vec<Range<u64>> {
        Vec::new()
    }
}

/// For a reader that casts in place, the slice must start at a multiple of 4.
impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        range_of(self, offset, len)
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

/// Borrows a range of bytes in memory.
pub(crate) fn range_of(bytes: &[u8], offset: u64, len: usize) -> Result<&[u8]> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(len)?))
        .ok_or_else(|| outside(offset, len, bytes.len() as u64))
}

/// Reads a range. Fails if the source returns more or fewer bytes, because parsers advance by the
/// bytes that they get.
pub(crate) fn exact<S: Source>(source: &mut S, offset: u64, len: usize) -> Result<&[u8]> {
    let bytes = source.bytes(offset, len)?;
    if bytes.len() == len {
        return Ok(bytes);
    }
    Err(Error::internal(format!(
        "source returned {} bytes at offset {offset}, expected {len}",
        bytes.len()
    )))
}

/// The error of a range that the parser should have checked.
#[cold]
pub(crate) fn outside(offset: u64, len: usize, source_len: u64) -> Error {
    Error::internal(format!(
        "read of {len} bytes at offset {offset} is past the end ({source_len} bytes)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn slices_serve_ranges_inside_them_and_no_others() {
        let mut source: &[u8] = b"0123456789";
        assert_eq!(Source::len(&source), 10);
        assert_eq!(source.bytes(0, 10).unwrap(), b"0123456789");
        assert_eq!(source.bytes(7, 3).unwrap(), b"789");
        assert_eq!(source.bytes(10, 0).unwrap(), b"");
        for (offset, len) in [(8, 3), (11, 0), (u64::MAX, 1), (1, usize::MAX)] {
            let error = source.bytes(offset, len).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }
}
