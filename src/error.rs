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

/// Any failure: its [kind](Error::kind), the place of the fault, and its cause.
///
/// The text is complete and reads on its own: it ends with the cause of [`ErrorKind::Io`] and
/// [`ErrorKind::Callback`]. [`source`](std::error::Error::source) is that same cause. A report
/// prints the text or walks the chain below this error; both would repeat the cause.
///
/// ```
/// use hnsw_toolbox::{inspect_index, ErrorKind, InspectOptions, Monitor};
///
/// let options = InspectOptions::default();
/// let error = inspect_index("no/such/directory", &options, &Monitor::default()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Io);
/// assert_eq!(error.code(), 300);
/// assert_eq!(error.path(), Some("no/such/directory".as_ref()));
/// ```
// A pointer, so that a `Result` of a small value stays small.
pub struct Error(Box<Repr>);

/// Defines the kinds once: number and name of each are contract, because callers compare them.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $code:literal, $name:literal;)+) => {
        /// Kind of an [`Error`]. The number and the name of a kind never change.
        ///
        /// New kinds stay in these bands:
        ///
        /// | band | meaning |
        /// |---|---|
        /// | 100 – 199 | the request is wrong |
        /// | 200 – 299 | an input's content is wrong |
        /// | 300 – 399 | the operating system or the file system refused |
        /// | 400 – 499 | the caller stopped the work |
        /// | 900 – 999 | a fault of this library |
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $kind = $code,)+
        }

        impl ErrorKind {
            /// All kinds, for tests of other interfaces.
            #[doc(hidden)]
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Number of the kind.
            #[must_use]
            pub fn code(self) -> u16 {
                self as u16
            }

            /// Name of the kind, as in the C header without its prefix: `CORRUPT_INDEX`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// 100: the request is not valid JSON, or not a request at all.
    InvalidRequest = 100, "INVALID_REQUEST";
    /// 101: an option or a request field has an invalid value.
    InvalidArgument = 101, "INVALID_ARGUMENT";
    /// 200: a file of a segment or a graph file violates its format.
    CorruptIndex = 200, "CORRUPT_INDEX";
    /// 201: a pickle cannot be read.
    CorruptMetadata = 201, "CORRUPT_METADATA";
    /// 202: a Parquet or Arrow IPC input is malformed, or a row of it cannot be used.
    InvalidInput = 202, "INVALID_INPUT";
    /// 203: the input is valid, but of a version or kind that this crate does not read.
    Unsupported = 203, "UNSUPPORTED";
    /// 204: a file changed while it was being read, so nothing was written.
    InputChanged = 204, "INPUT_CHANGED";
    /// 205: `chroma.sqlite3` is unreadable, or not Chroma's database.
    CorruptDatabase = 205, "CORRUPT_DATABASE";
    /// 206: the segment has no ids, so Chroma could not use the repaired records.
    NoIds = 206, "NO_IDS";
    /// 207: the segment or collection has no record that a repair could write.
    NothingToRepair = 207, "NOTHING_TO_REPAIR";
    /// 300: the operating system refused an operation on a file.
    Io = 300, "IO";
    /// 301: a path cannot be read or written as requested.
    UnusablePath = 301, "UNUSABLE_PATH";
    /// 302: required memory cannot be allocated.
    OutOfMemory = 302, "OUT_OF_MEMORY";
    /// 400: the caller cancelled the work.
    Cancelled = 400, "CANCELLED";
    /// 401: the caller's own function failed. See [`Error::into_callback`].
    Callback = 401, "CALLBACK";
    /// 900: a fault in this crate or a dependency, caught before it could do harm.
    Internal = 900, "INTERNAL";
}

/// Data and text of an error.
#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("request: {detail}")]
    InvalidRequest {
        /// Description and place of the mistake.
        detail: String,
    },
    #[error("{field}: found {found}, expected {expected}")]
    InvalidArgument {
        /// The option's name, as in the JSON request.
        field: Cow<'static, str>,
        /// The given value.
        found: String,
        /// The accepted values.
        expected: Cow<'static, str>,
    },
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptIndex {
        /// The file.
        path: PathBuf,
        /// The field of the file, or the quantity that was checked.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The content that the format requires.
        expected: Cow<'static, str>,
    },
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
    #[error("{}: {field}: found {found}, expected {expected}", display_path(path))]
    CorruptDatabase {
        /// The database.
        path: PathBuf,
        /// The table, or the quantity that was checked.
        field: Cow<'static, str>,
        /// The file's content.
        found: String,
        /// The required content.
        expected: Cow<'static, str>,
    },
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
    #[error("{}: ids: found {found}, expected {expected}", display_path(path))]
    NoIds {
        /// The pickle.
        path: PathBuf,
        /// Reason why there are no ids.
        found: String,
        /// An input that has ids.
        expected: Cow<'static, str>,
    },
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
        expected: Cow<'static, str>,
    },
    #[error("{}: cannot {action}: {cause}", display_path(path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The attempted action, as an infinitive.
        action: &'static str,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    #[error("{}: found {found}, expected {expected}", display_path(path))]
    UnusablePath {
        /// The path.
        path: PathBuf,
        /// The object at the path.
        found: String,
        /// The objects that are allowed there.
        expected: Cow<'static, str>,
    },
    #[error("{}cannot {action}: out of memory{}", Prefix(path), Bytes(*bytes))]
    OutOfMemory {
        /// The file whose content or output needs the memory, if known.
        path: Option<PathBuf>,
        /// Purpose of the memory, as an infinitive.
        action: &'static str,
        /// Requested bytes, if known.
        bytes: Option<u64>,
    },
    #[error("cancelled")]
    Cancelled,
    #[error("callback failed: {0}")]
    Callback(#[source] BoxError),
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
    fn of(repr: Repr) -> Self {
        Self(Box::new(repr))
    }

    /// Kind of the error, to tell errors apart.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Repr::InvalidRequest { .. } => ErrorKind::InvalidRequest,
            Repr::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Repr::CorruptIndex { .. } => ErrorKind::CorruptIndex,
            Repr::CorruptMetadata { .. } => ErrorKind::CorruptMetadata,
            Repr::InvalidInput { .. } => ErrorKind::InvalidInput,
            Repr::Unsupported { .. } => ErrorKind::Unsupported,
            Repr::InputChanged { .. } => ErrorKind::InputChanged,
            Repr::CorruptDatabase { .. } => ErrorKind::CorruptDatabase,
            Repr::NoIds { .. } => ErrorKind::NoIds,
            Repr::NothingToRepair { .. } => ErrorKind::NothingToRepair,
            Repr::Io { .. } => ErrorKind::Io,
            Repr::UnusablePath { .. } => ErrorKind::UnusablePath,
            Repr::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Repr::Cancelled => ErrorKind::Cancelled,
            Repr::Callback(_) => ErrorKind::Callback,
            Repr::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Number of the [kind](Self::kind). Its meaning never changes.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.kind().code()
    }

    /// The file or directory that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &*self.0 {
            Repr::CorruptIndex { path, .. }
            | Repr::CorruptMetadata { path, .. }
            | Repr::InvalidInput { path, .. }
            | Repr::Unsupported { path, .. }
            | Repr::InputChanged { path, .. }
            | Repr::CorruptDatabase { path, .. }
            | Repr::NoIds { path, .. }
            | Repr::NothingToRepair { path, .. }
            | Repr::Io { path, .. }
            | Repr::UnusablePath { path, .. } => Some(path),
            Repr::OutOfMemory { path, .. } => path.as_deref(),
            Repr::InvalidRequest { .. }
            | Repr::InvalidArgument { .. }
            | Repr::Cancelled
            | Repr::Callback(_)
            | Repr::Internal { .. } => None,
        }
    }

    /// The field of the file, the quantity that was checked, or the option's name as in the JSON
    /// request.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match &*self.0 {
            Repr::InvalidArgument { field, .. }
            | Repr::CorruptIndex { field, .. }
            | Repr::InvalidInput { field, .. }
            | Repr::Unsupported { field, .. }
            | Repr::CorruptDatabase { field, .. }
            | Repr::NothingToRepair { field, .. } => Some(field),
            Repr::NoIds { .. } => Some("ids"),
            _ => None,
        }
    }

    /// Offset in bytes from the start of the pickle, for [`ErrorKind::CorruptMetadata`].
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match &*self.0 {
            Repr::CorruptMetadata { position, .. } => Some(*position),
            _ => None,
        }
    }

    /// The value that the field, the file or the path has.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.comparison().map(|(found, _)| found)
    }

    /// The values that are allowed there.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.comparison().map(|(_, expected)| expected)
    }

    fn comparison(&self) -> Option<(&str, &str)> {
        match &*self.0 {
            Repr::InvalidArgument {
                found, expected, ..
            }
            | Repr::CorruptIndex {
                found, expected, ..
            }
            | Repr::CorruptMetadata {
                found, expected, ..
            }
            | Repr::InvalidInput {
                found, expected, ..
            }
            | Repr::Unsupported {
                found, expected, ..
            }
            | Repr::InputChanged {
                found, expected, ..
            }
            | Repr::CorruptDatabase {
                found, expected, ..
            }
            | Repr::NoIds {
                found, expected, ..
            }
            | Repr::NothingToRepair {
                found, expected, ..
            }
            | Repr::UnusablePath {
                found, expected, ..
            } => Some((found, expected)),
            _ => None,
        }
    }

    /// Error of a caller's own function, such as a [`Source`](crate::segment::Source).
    #[must_use]
    pub fn callback(error: impl Into<BoxError>) -> Self {
        Self::of(Repr::Callback(error.into()))
    }

    /// Returns the error of the caller's own function, as it was given to the library.
    ///
    /// # Errors
    ///
    /// Any error of another kind than [`ErrorKind::Callback`], unchanged.
    pub fn into_callback(self) -> Result<BoxError> {
        match *self.0 {
            Repr::Callback(error) => Ok(error),
            other => Err(Self::of(other)),
        }
    }

    /// The operating system's error, for [`ErrorKind::Io`].
    pub(crate) fn io_cause(&self) -> Option<&io::Error> {
        match &*self.0 {
            Repr::Io { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Constructors. The hidden ones are for the program and the C ABI.
impl Error {
    #[doc(hidden)]
    pub fn request(detail: impl ToString) -> Self {
        Self::of(Repr::InvalidRequest {
            detail: detail.to_string(),
        })
    }

    #[doc(hidden)]
    pub fn argument(
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::InvalidArgument {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// Error for a name that is not among the known names of `field`.
    pub(crate) fn unknown_name(
        field: &'static str,
        found: &str,
        known: impl Into<Vec<&'static str>>,
    ) -> Self {
        let mut known = known.into();
        // Formats the list as "a, b or c".
        let last = known.pop().unwrap_or_default();
        Self::argument(field, found, format!("{} or {last}", known.join(", ")))
    }

    pub(crate) fn corrupt(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::of(Repr::CorruptIndex {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.to_string().into(),
        })
    }

    /// `position` is an offset in bytes from the start of the pickle.
    pub(crate) fn corrupt_metadata(
        path: &Path,
        position: u64,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::CorruptMetadata {
            path: path.to_path_buf(),
            position,
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `field` is a table, or the quantity that was checked.
    #[cfg(feature = "database")]
    pub(crate) fn corrupt_database(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::CorruptDatabase {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `field` is a column, a row or a part of the file.
    pub(crate) fn input(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::InvalidInput {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `field` has the unsupported version or kind; `expected` lists the supported ones.
    pub(crate) fn unsupported(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::Unsupported {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `expected` names the records or the collection that a repair needs.
    pub(crate) fn nothing_to_repair(
        path: &Path,
        field: impl Into<Cow<'static, str>>,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::NothingToRepair {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `found` is the reason why there are no ids, `expected` an input that has them.
    pub(crate) fn no_ids(
        path: &Path,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::NoIds {
            path: path.to_path_buf(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `found` is the file's state now, `expected` its state when it was opened.
    pub(crate) fn changed(
        path: &Path,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::InputChanged {
            path: path.to_path_buf(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `action` is the attempted action, as an infinitive.
    #[doc(hidden)]
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| {
            Self::of(match cause.kind() {
                // Failed allocations have one code, whether the allocator or the kernel reports
                // them.
                io::ErrorKind::OutOfMemory => Repr::OutOfMemory {
                    path: Some(path),
                    action,
                    bytes: None,
                },
                _ => Repr::Io {
                    path,
                    action,
                    cause,
                },
            })
        }
    }

    /// `found` is the object at the path, `expected` the objects that are allowed there.
    #[doc(hidden)]
    pub fn unusable(
        path: &Path,
        found: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Repr::UnusablePath {
            path: path.to_path_buf(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// `action` is the purpose of the memory, as an infinitive.
    pub(crate) fn out_of_memory(action: &'static str, bytes: impl Into<Option<u64>>) -> Self {
        Self::of(Repr::OutOfMemory {
            path: None,
            action,
            bytes: bytes.into(),
        })
    }

    /// Adds the file to an [`ErrorKind::OutOfMemory`] that names none.
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        if let Repr::OutOfMemory { path, .. } = &mut *self.0 {
            path.get_or_insert_with(|| file.to_path_buf());
        }
        self
    }

    #[doc(hidden)]
    pub fn cancelled() -> Self {
        Self::of(Repr::Cancelled)
    }

    #[doc(hidden)]
    pub fn internal(detail: impl ToString) -> Self {
        Self::of(Repr::Internal {
            detail: detail.to_string(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

/// Returns the message of an error that means a missing or damaged file; any other error is passed
/// on.
///
/// A refusal of the operating system is no evidence about the file: too many open files, no
/// permission, no memory. If it were taken for damage, an export would silently lack vectors that
/// exist.
pub(crate) fn recoverable(error: Error) -> Result<String> {
    let is_evidence = match error.kind() {
        ErrorKind::CorruptIndex
        | ErrorKind::CorruptMetadata
        | ErrorKind::CorruptDatabase
        | ErrorKind::Unsupported
        | ErrorKind::UnusablePath => true,
        // Excludes `Cancelled`, `InputChanged` and all other refusals of the system.
        _ => error
            .io_cause()
            .is_some_and(|cause| is_absent(cause) || is_bad_medium(cause)),
    };
    match is_evidence {
        true => Ok(error.to_string()),
        false => Err(error),
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

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_has_the_size_of_a_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn the_cause_of_an_io_error_is_its_source_and_ends_its_text() {
        let cause = || io::Error::from_raw_os_error(2);
        let error = Error::io(Path::new("a/b"), "open")(cause());
        let source = error.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(source.unwrap().raw_os_error(), Some(2));
        assert_eq!(error.to_string(), format!("a/b: cannot open: {}", cause()));
    }

    #[test]
    fn a_callers_error_comes_back_as_it_was() {
        let error = Error::callback(fmt::Error);
        assert_eq!(error.kind(), ErrorKind::Callback);
        assert!(error.source().unwrap().is::<fmt::Error>());
        assert!(error.into_callback().unwrap().is::<fmt::Error>());
        let other = Error::argument("k", 0, "at least 1").into_callback();
        assert_eq!(other.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn kinds_have_distinct_codes_and_their_names() {
        let mut codes = std::collections::BTreeSet::new();
        for kind in ErrorKind::ALL {
            assert!(codes.insert(kind.code()), "{kind:?}");
            let name = kind.name().replace('_', "");
            assert_eq!(name, format!("{kind:?}").to_uppercase());
        }
    }
}
