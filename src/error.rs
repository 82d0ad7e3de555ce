//! Error type of the crate.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::path::display_path;

/// An error that any caller-supplied function may return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure, with a stable [code](Error::code) for each kind.
///
/// The text of an error is complete: [`Io`](Self::Io) and [`Callback`](Self::Callback) end with
/// their cause. To keep reports of the whole chain from repeating it,
/// [`source`](std::error::Error::source) is `None`. The cause itself is in the variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is not valid JSON, or not a request at all.
    #[error("request: {detail}")]
    InvalidRequest {
        /// Description and place of the mistake.
        detail: String,
    },
    /// An option or a request field has an invalid value.
    #[error("{field}: found {found}, expected {expected}")]
    InvalidArgument {
        /// The option's name, as in the JSON request.
        field: Cow<'static, str>,
        /// The given value.
        found: String,
        /// The accepted values.
        expected: Cow<'static, str>,
    },
    /// A file of a segment or a graph file violates its format.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptIndex {
        /// The file.
        path: PathBuf,
        /// The field of the file, or the quantity that was checked.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The content that the format requires.
        expected: String,
    },
    /// A pickle cannot be read.
    #[error(
        "{}: byte {position}: found {found}, expected {expected}",
        display_path(path)
    )]
    CorruptMetadata {
        /// The pickle.
        path: PathBuf,
        /// Offset in bytes from the start of the file.
        position: u64,
        /// The bytes at that offset.
        found: String,
        /// The bytes that the format requires.
        expected: Cow<'static, str>,
    },
    /// `chroma.sqlite3` is unreadable, or not Chroma's database.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptDatabase {
        /// The database.
        path: PathBuf,
        /// The table, or the quantity that was checked.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The required content.
        expected: String,
    },
    /// A Parquet or Arrow IPC input is malformed, or a row of it cannot be used.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    InvalidInput {
        /// The file.
        path: PathBuf,
        /// The column, row or part of the file.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The required content.
        expected: Cow<'static, str>,
    },
    /// The input is valid, but of a version or kind that this crate does not read.
    #[error(
        "{}: {field}: found {found}, which is not supported; expected {expected}",
        display_path(path)
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field with the unsupported version or kind.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The supported versions or kinds.
        expected: Cow<'static, str>,
    },
    /// The segment has no ids, so Chroma could not use the repaired records.
    #[error("{}: ids: found {found}, expected {expected}", display_path(path))]
    NoIds {
        /// The pickle.
        path: PathBuf,
        /// Reason why there are no ids.
        found: String,
        /// An input that has ids.
        expected: Cow<'static, str>,
    },
    /// The segment or collection has no record that a repair could write.
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    NothingToRepair {
        /// The segment or the persist directory.
        path: PathBuf,
        /// The records or the collection.
        field: Cow<'static, str>,
        /// Its content.
        found: String,
        /// The records or the collection that a repair needs.
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
        /// The attempted action, as an infinitive.
        action: &'static str,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A path cannot be read or written as requested.
    #[error("{}: found {found}, expected {expected}", display_path(path))]
    UnusablePath {
        /// The path.
        path: PathBuf,
        /// The object at the path.
        found: Cow<'static, str>,
        /// The objects that are allowed there.
        expected: Cow<'static, str>,
    },
    /// Required memory cannot be allocated.
    #[error("{}cannot {action}: out of memory{}", Prefix(path), Bytes(*bytes))]
    OutOfMemory {
        /// The file whose content or output needs the memory, if known.
        path: Option<PathBuf>,
        /// Purpose of the memory, as an infinitive.
        action: &'static str,
        /// Requested bytes, if known.
        bytes: Option<u64>,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// The caller's own record callback failed.
    #[error("callback failed: {0}")]
    Callback(BoxError),
    /// A fault in this crate or a dependency, caught before it could do harm.
    #[error("internal error: {detail}")]
    Internal {
        /// Description of the fault.
        detail: String,
    },
}

/// Formats a path and a colon, or nothing.
struct Prefix<'a>(&'a Option<PathBuf>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{}: ", display_path(path)),
            None => Ok(()),
        }
    }
}

/// Formats a number of bytes in brackets, or nothing.
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
    /// Number of the kind of error. Its meaning never changes.
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
            // The codes are contract: callers compare the numbers.
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
            // Failed allocations have one code, whether the allocator or the kernel reports them.
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

    /// `action` is the purpose of the memory, as an infinitive.
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

    /// Error for a name that is not among the known names of `field`.
    pub(crate) fn unknown_name(
        field: &'static str,
        found: &str,
        known: impl Into<Vec<&'static str>>,
    ) -> Error {
        let mut known = known.into();
        // Formats the list as "a, b or c".
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

/// Returns the message of an error that means a missing or damaged file; any other error is passed
/// on.
///
/// A refusal of the operating system is no evidence about the file: too many open files, no
/// permission, no memory. If it were taken for damage, an export would silently lack vectors that
/// exist.
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
        // Includes `Cancelled`, `InputChanged` and all refusals of the system.
        other => Err(other),
    }
}

/// Returns true if an error means that the file does not exist, or that its path leads through a
/// file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Returns true if an error means that the disk cannot read its own content: a bad sector or a
/// block with a wrong checksum. Other errors are refusals of the system.
pub(crate) fn is_bad_medium(error: &io::Error) -> bool {
    #[cfg(unix)]
    const CODES: &[i32] = &[
        libc::EIO,
        // ext4 and XFS return these for blocks that fail their checks.
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
