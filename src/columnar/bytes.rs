//! The input file as checked byte ranges, and the errors of its decoders.

use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::file::InputFile;
use crate::io::source::Source as _;

/// Maximum size in bytes of a footer or record batch header.
pub(crate) const MAX_METADATA: u64 = 256 << 20;

/// A decoder's finding. The decoder knows neither the path nor the offset; its caller adds both.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The bytes are not what the format requires.
    Invalid {
        found: Cow<'static, str>,
        expected: Cow<'static, str>,
    },
    /// The bytes are well formed, but use an unsupported part of the format.
    Unsupported {
        found: Cow<'static, str>,
        expected: Cow<'static, str>,
    },
    /// Out of memory, or an internal error.
    Failed(Error),
}

pub(crate) type Decoded<T> = std::result::Result<T, DecodeError>;

impl DecodeError {
    pub(crate) fn new(
        found: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid {
            found: found.into(),
            expected: expected.into(),
        }
    }

    pub(crate) fn unsupported(
        found: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Unsupported {
            found: found.into(),
            expected: expected.into(),
        }
    }

    pub(crate) fn end() -> Self {
        Self::new("the end of the data", "more data")
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The `N` bytes at `at`.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Decoded<[u8; N]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or_else(DecodeError::end)
}

/// The open input file. Clones share the handle.
#[derive(Clone, Debug)]
pub(crate) struct Input(Arc<InputFile>);

impl Input {
    pub(crate) fn new(source: InputFile) -> Self {
        Self(Arc::new(source))
    }

    pub(crate) fn source(&self) -> &InputFile {
        &self.0
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn invalid(
        &self,
        field: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Error {
        self.error(field, DecodeError::new(found, expected))
    }

    pub(crate) fn error(&self, field: impl Into<Cow<'static, str>>, error: DecodeError) -> Error {
        let path = self.0.path();
        match error {
            DecodeError::Invalid { found, expected } => Error::input(path, field, found, expected),
            DecodeError::Unsupported { found, expected } => {
                Error::unsupported(path, field, found, expected)
            }
            DecodeError::Failed(error) => error.in_file(path),
        }
    }

    /// Calls `decode` with the bytes `offset .. offset + len`, which must lie before `end`.
    /// `field` names the bytes in errors.
    pub(crate) fn decode<T>(
        &self,
        offset: u64,
        len: u64,
        end: u64,
        field: impl Fn() -> String,
        decode: impl FnOnce(&[u8]) -> Decoded<T>,
    ) -> Result<T> {
        // An overflowing end counts as past the end.
        let past_end = offset
            .checked_add(len)
            .is_none_or(|last| last > end.min(self.len()));
        // `len` can exceed the address space on 32-bit targets; that is reported as past the end.
        let size = usize::try_from(len).ok().filter(|_| !past_end);
        let Some(size) = size else {
            return Err(self.invalid(
                field(),
                format!("{len} bytes at offset {offset}"),
                format!("a range that ends by byte {end}"),
            ));
        };
        let mut window = self.0.window(0);
        decode(window.bytes(offset, size)?).map_err(|error| self.error(field(), error))
    }

    /// A stream of the bytes `offset .. offset + len`. The caller must have checked the range.
    pub(crate) fn reader(&self, offset: u64, len: u64) -> RangeReader {
        RangeReader {
            input: self.clone(),
            at: offset,
            left: len,
        }
    }
}

/// Reads a range of the input sequentially.
#[derive(Debug)]
pub(crate) struct RangeReader {
    input: Input,
    at: u64,
    left: u64,
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // `left` can exceed the address space on 32-bit targets.
        let len = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let mut window = self.input.0.window(0);
        let bytes = window.bytes(self.at, len).map_err(io::Error::other)?;
        if let Some(out) = out.get_mut(..len) {
            out.copy_from_slice(bytes);
        }
        self.at += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}
