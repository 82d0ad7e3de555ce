//! Errors of the parsers, which know bytes and no path.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};

/// An error of a parser: a field or an offset, the value found and the value expected.
///
/// It names no file, because parsers read a [`Source`](super::Source). The code that opened the file
/// adds the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not what the format requires.
    #[error("{at}: found {found}, expected {expected}")]
    Invalid {
        /// The damaged part.
        at: Location,
        /// The value in the source.
        found: String,
        /// The value that the format requires.
        expected: Cow<'static, str>,
    },
    /// The bytes are well formed, but of a version that this crate does not read.
    #[error("{field}: found {found}, which is not supported; expected {expected}")]
    Unsupported {
        /// The field that holds the version.
        field: &'static str,
        /// Its value.
        found: String,
        /// The supported value.
        expected: String,
    },
    /// A later pass found other bytes than an earlier one: the source changed in between.
    #[error("changed while it was being read: found {found}, expected {expected}")]
    Changed {
        /// The value of the later pass.
        found: String,
        /// The value of the earlier pass.
        expected: String,
    },
    /// The source failed, the work was cancelled, or memory ran out.
    #[error(transparent)]
    Failed(Error),
}

/// The part of a file that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A field of a binary file.
    Field(Cow<'static, str>),
    /// An offset in bytes from the start of a pickle.
    Byte(u64),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field),
            Self::Byte(position) => write!(f, "byte {position}"),
        }
    }
}

/// `Result` with a parser's error.
pub type Decoded<T> = Result<T, DecodeError>;

impl DecodeError {
    /// A field does not hold what the format requires.
    #[cold]
    pub(crate) fn field(
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid {
            at: Location::Field(field.into()),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The byte at `position` is not what the format requires.
    #[cold]
    pub(crate) fn byte(
        position: u64,
        found: impl Into<String>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid {
            at: Location::Byte(position),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// A fault in this crate.
    #[cold]
    pub(crate) fn internal(detail: impl ToString) -> Self {
        Self::Failed(Error::internal(detail))
    }

    /// Adds the path of the file that the source reads.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        match self {
            Self::Invalid {
                at: Location::Field(field),
                found,
                expected,
            } => Error::corrupt(path, field, found, expected),
            Self::Invalid {
                at: Location::Byte(position),
                found,
                expected,
            } => Error::corrupt_metadata(path, position, found, expected),
            Self::Unsupported {
                field,
                found,
                expected,
            } => Error::unsupported(path, field, found, expected),
            Self::Changed { found, expected } => Error::changed(path, found, expected),
            Self::Failed(error) => error.in_file(path),
        }
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
