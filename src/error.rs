//! The one error type of the crate.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::path::display_path;

/// An error that any caller-supplied function may return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with a stable [code](Error::code) for each kind.
///
/// The text of an error is complete: that of [`Io`](Self::Io) and [`Callback`](Self::Callback) ends
/// with the cause. So that a report of the whole chain does not say it twice,
/// [`source`](std::error::Error::source) is `None`; the cause itself is in the variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request document is not valid JSON, or not a request at all.
    #[error("request: {detail}")]
    InvalidRequest {
        /// What is wrong and where.
        detail: String,
    },
    /// An option or a request field has a value that is out of range or makes no sense.
    #[error("{field}: found {found}, expected {expected}")]
    InvalidArgument {
        /// The option's name, as in the JSON request.
        field: Cow<'static, str>,
        /// The value that was given.
        found: String,
        /// What would be accepted.
        expected: Cow<'static, str>,
    },
    /// An index file does not hold what its format requires.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptIndex {
        /// The file.
        path: PathBuf,
        /// The field of the file, or the quantity that was checked.
        field: Cow<'static, str>,
        /// What the file holds.
        found: String,
        /// What the format requires.
        expected: String,
    },
    /// A metadata pickle cannot be read.
    #[error(
        "{}: byte {position}: found {found}, expected {expected}",
        display_path(path)
    )]
    CorruptMetadata {
        /// The pickle.
        path: PathBuf,
        /// Offset in bytes from the start of the file.
        position: u64,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: Cow<'static, str>,
    },
    /// `chroma.sqlite3` cannot be read, or not as Chroma's database.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptDatabase {
        /// The database.
        path: PathBuf,
        /// The table, or the quantity that was checked.
        field: Cow<'static, str>,
        /// What the file holds.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// A Parquet or Arrow IPC input is malformed, or a row of it cannot be used.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    InvalidInput {
        /// The file.
        path: PathBuf,
        /// The column, row or part of the file.
        field: Cow<'static, str>,
        /// What the file holds.
        found: String,
        /// What is needed.
        expected: Cow<'static, str>,
    },
    /// The input is well formed, but of a version or kind that this crate does not read.
    #[error(
        "{}: {field}: found {found}, which is not supported; expected {expected}",
        display_path(path)
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field that says so.
        field: Cow<'static, str>,
        /// What the file holds.
        found: String,
        /// What is supported.
        expected: Cow<'static, str>,
    },
    /// A segment without ids: Chroma could not use the records that a repair would write.
    #[error("{}: ids: found {found}, expected {expected}", display_path(path))]
    NoIds {
        /// The pickle.
        path: PathBuf,
        /// Why there are none.
        found: String,
        /// What would have ids.
        expected: Cow<'static, str>,
    },
    /// A segment or a collection without a record that a repair could write.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    NothingToRepair {
        /// The segment or the persist directory.
        path: PathBuf,
        /// The records or the collection.
        field: Cow<'static, str>,
        /// What there is.
        found: String,
        /// What is needed.
        expected: Cow<'static, str>,
    },
    /// A file changed while it was being read, so nothing was written.
    #[error(
        "{}: changed while it was being read: found {found}, expected {expected}",
        display_path(path)
    )]
    InputChanged {
        /// The file.
        path: PathBuf,
        /// Its state now.
        found: String,
        /// Its state when it was opened.
        expected: String,
    },
    /// The operating system refused an operation on a file.
    #[error("{}: cannot {action}: {cause}", display_path(path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A path is not one that may be read or written.
    #[error("{}: found {found}, expected {expected}", display_path(path))]
    UnusablePath {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: Cow<'static, str>,
        /// What may be there.
        expected: Cow<'static, str>,
    },
    /// Memory that the work needs cannot be allocated.
    #[error("{}cannot {action}: out of memory{}", Prefix(path), Bytes(*bytes))]
    OutOfMemory {
        /// The file whose content or output needs the memory, when it is known.
        path: Option<PathBuf>,
        /// What the memory is for, as an infinitive.
        action: &'static str,
        /// Bytes that were asked for, when they are known.
        bytes: Option<u64>,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// The caller's own record callback failed.
    #[error("callback failed: {0}")]
    Callback(BoxError),
    /// A fault in this crate or in one it uses, caught before it could do harm.
    #[error("internal error: {detail}")]
    Internal {
        /// What was caught.
        detail: String,
    },
}

/// A path with a colon behind it, or nothing.
struct Prefix<'a>(&'a Option<PathBuf>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{}: ", display_path(path)),
            None => Ok(()),
        }
    }
}

/// A number of bytes in brackets, or nothing.
struct Bytes(Option<u64>);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, " ({bytes} bytes)"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// A number that identifies the kind of error and never changes its meaning.
    ///
    /// | band | meaning |
    /// |---|---|
    /// | 100 – 199 | the request is wrong |
    /// | 200 – 299 | an input's content is wrong |
    /// | 300 – 399 | the operating system or the file system refused |
    /// | 400 – 499 | the caller stopped the work |
    /// | 900 – 999 | a fault of this library |
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Error::InvalidRequest { .. } => 100,
            Error::InvalidArgument { .. } => 101,
            Error::CorruptIndex { .. } => 200,
            Error::CorruptMetadata { .. } => 201,
            Error::InvalidInput { .. } => 202,
            Error::Unsupported { .. } => 203,
            Error::InputChanged { .. } => 204,
            Error::CorruptDatabase { .. } => 205,
            Error::NoIds { .. } => 206,
            Error::NothingToRepair { .. } => 207,
            Error::Io { .. } => 300,
            Error::UnusablePath { .. } => 301,
            Error::OutOfMemory { .. } => 302,
            Error::Cancelled => 400,
            Error::Callback(_) => 401,
            Error::Internal { .. } => 900,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |cause| match cause.kind() {
            io::ErrorKind::OutOfMemory => Error::OutOfMemory {
                path: Some(path),
                action,
                bytes: None,
            },
            _ => Error::Io {
                path,
                action,
                cause,
            },
        }
    }

    /// `action` says as an infinitive what the memory is for.
    pub(crate) fn out_of_memory(action: &'static str, bytes: impl Into<Option<u64>>) -> Error {
        Error::OutOfMemory {
            path: None,
            action,
            bytes: bytes.into(),
        }
    }

    /// Adds the file to an [`Error::OutOfMemory`] that names none.
    pub(crate) fn in_file(mut self, file: &Path) -> Error {
        if let Error::OutOfMemory { path, .. } = &mut self {
            path.get_or_insert_with(|| file.to_path_buf());
        }
        self
    }

    pub(crate) fn argument(
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::InvalidArgument {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// `found` is none of the names of `field`.
    pub(crate) fn unknown_name(
        field: &'static str,
        found: &str,
        known: impl Into<Vec<&'static str>>,
    ) -> Error {
        let mut known = known.into();
        let last = known.pop().unwrap_or_default();
        Error::argument(field, found, format!("{} or {last}", known.join(", ")))
    }

    pub(crate) fn corrupt(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Error {
        Error::CorruptIndex {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn internal(detail: impl ToString) -> Error {
        Error::Internal {
            detail: detail.to_string(),
        }
    }
}

/// The words of an error that says that a file is missing or damaged; others end the work.
///
/// A refusal of the operating system says nothing of the file: too many open files, no permission,
/// no memory. Taken for damage, it would make an export without vectors look like all there is.
pub(crate) fn recoverable(error: Error) -> Result<String> {
    match error {
        Error::CorruptIndex { .. }
        | Error::CorruptMetadata { .. }
        | Error::CorruptDatabase { .. }
        | Error::Unsupported { .. }
        | Error::UnusablePath { .. } => Ok(error.to_string()),
        Error::Io { ref cause, .. } if is_absent(cause) || is_bad_medium(cause) => {
            Ok(error.to_string())
        }
        other => Err(other),
    }
}

/// True if an error says that the file does not exist. A path through a file leads to none either.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// True if an error says that the disk cannot read its own content: a bad sector, or a block whose
/// checksum is wrong. All others are refusals of the system, which say nothing of the file.
pub(crate) fn is_bad_medium(error: &io::Error) -> bool {
    #[cfg(unix)]
    const CODES: &[i32] = &[
        libc::EIO,
        // ext4 and XFS give these for blocks that fail their checks.
        libc::EBADMSG,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::EUCLEAN,
    ];
    // ERROR_CRC and ERROR_IO_DEVICE.
    #[cfg(windows)]
    const CODES: &[i32] = &[23, 1117];
    error
        .raw_os_error()
        .is_some_and(|code| CODES.contains(&code))
}
