//! What a parser finds wrong.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Result};

/// A parser's error. It says where in the bytes something is wrong, but not in which file: whoever
/// opened the file adds the path with [`in_file`](Self::in_file).
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The bytes are not what the format requires.
    Invalid {
        at: Location,
        found: String,
        expected: Cow<'static, str>,
    },
    /// The bytes are well formed, but of a version that is not read here.
    Unsupported {
        field: &'static str,
        found: String,
        expected: String,
    },
    /// A later pass over the bytes found something else than an earlier one.
    Changed { found: String, expected: String },
    /// The source failed, or the work was cancelled, or memory ran out.
    Failed(Error),
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a field of a binary file.
    Field(Cow<'static, str>),
    /// At an offset in bytes in a pickle.
    Byte(u64),
}

pub(crate) type Decoded<T> = Result<T, DecodeError>;

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

    /// The same for whoever knows no parser: with the file that the bytes are from.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        let path_buf = || path.to_path_buf();
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
            } => Error::CorruptMetadata {
                path: path_buf(),
                position,
                found,
                expected,
            },
            Self::Unsupported {
                field,
                found,
                expected,
            } => Error::Unsupported {
                path: path_buf(),
                field: field.into(),
                found,
                expected: expected.into(),
            },
            Self::Changed { found, expected } => Error::InputChanged {
                path: path_buf(),
                found,
                expected,
            },
            Self::Failed(error) => error.in_file(path),
        }
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
