//! Files of a SQLite database, and the decision which of them are opened in place.
//!
//! | beside the database | what is opened |
//! |---|---|
//! | nothing | the database itself, read-only, as immutable: SQLite takes no lock and writes nothing |
//! | a rollback journal or a write-ahead log that is not empty | a copy of the set in a temporary directory, which SQLite then brings up to date |
//!
//! With a write-ahead log, `immutable` would silently show an old state, and with a hot journal
//! half-written pages. Opening the original read-write would modify it. The `-shm` file is only an
//! index of the log and is rebuilt.
//!
//! SQLite opens only the copy. A journal that names a super-journal is refused, because SQLite
//! would open that path, which may be any file.

use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::journal;
use super::{corrupt, FILE_NAME};
use crate::base::path::with_suffix;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{InputFile, IoMode};
use crate::io::sparse;
use crate::io::temporary::TemporaryDirectory;
use crate::segment::file_name;

const JOURNAL: &str = "-journal";
const LOG: &str = "-wal";

/// The first bytes of every SQLite database.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Offsets in the database header of these big-endian numbers.
mod header {
    /// Two bytes, in which 1 means 65,536.
    pub(super) const PAGE_SIZE: usize = 16;
    /// Four bytes each. The number of pages is valid if the two other fields are equal.
    pub(super) const CHANGE_COUNTER: usize = 24;
    pub(super) const PAGES: usize = 28;
    pub(super) const PAGES_VALID_FOR: usize = 92;
    pub(super) const LEN: usize = 100;
}

/// Free space in bytes for the index that SQLite builds of a write-ahead log, and for the file
/// system's own needs.
pub(super) const SPARE_BYTES: u64 = 1 << 20;

/// Smallest page size of SQLite in bytes.
const MIN_PAGE_SIZE: u64 = 512;

/// Size of a database according to its header.
#[derive(Clone, Copy, Debug)]
struct Size {
    page_size: u64,
    /// `None` if SQLite uses the length of the file instead.
    pages: Option<u64>,
}

impl Size {
    fn read(database: &InputFile) -> Result<Self> {
        let mut bytes = [0; header::LEN];
        // A shorter file is not a database; SQLite reports that itself.
        if database.len() >= bytes.len() as u64 {
            database.read_at(&mut bytes, 0)?;
        }
        let number = |at: usize| {
            let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from(u32::from_be_bytes(*bytes)))
        };
        let page_size = match number(header::PAGE_SIZE) >> 16 {
            1 => 1 << 16,
            size => size,
        };
        let is_valid = page_size >= MIN_PAGE_SIZE
            && page_size.is_power_of_two()
            && number(header::CHANGE_COUNTER) == number(header::PAGES_VALID_FOR);
        Ok(Self {
            page_size,
            pages: Some(number(header::PAGES)).filter(|pages| is_valid && *pages > 0),
        })
    }

    fn missing_pages(self, len: u64) -> u64 {
        let pages = self
            .pages
            .map(|pages| pages.saturating_sub(len / self.page_size));
        pages.unwrap_or_default()
    }
}

/// The database and its sibling files, as they were when they were opened.
#[derive(Debug)]
pub(super) struct DatabaseFiles {
    path: PathBuf,
    database: InputFile,
    /// Journal and write-ahead log, if they exist.
    siblings: Vec<(&'static str, InputFile)>,
    copy: Option<TemporaryDirectory>,
    missing_pages: u64,
}

impl DatabaseFiles {
    pub(super) fn open(persist_dir: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let path = persist_dir.join(FILE_NAME);
        let database = match InputFile::open_if_present(&path, IoMode::Read.into())? {
            Some(database) => database,
            None => return Err(not_a_persist_directory(persist_dir)),
        };
        let mut siblings = Vec::new();
        for suffix in [JOURNAL, LOG] {
            let path = with_suffix(&path, suffix);
            siblings.extend(
                InputFile::open_if_present(&path, IoMode::Read.into())?
                    .map(|source| (suffix, source)),
            );
        }
        let size = Size::read(&database)?;
        let mut files = Self {
            missing_pages: size.missing_pages(database.len()),
            path,
            database,
            siblings,
            copy: None,
        };
        if files.replayed().is_some() {
            files.missing_pages = 0;
            files.copy = Some(files.copy_all(size, monitor)?);
            files.check_unchanged()?;
        }
        Ok(files)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the file does not begin as a database.
    pub(super) fn check_magic(&self) -> Result<()> {
        if has_magic(&self.database)? {
            return Ok(());
        }
        let found = match self.database.len() {
            0 => "an empty file".to_string(),
            len => format!("{len} bytes that do not begin as a SQLite database does"),
        };
        Err(corrupt(&self.path, "content", found, "a SQLite database"))
    }

    /// Makes SQLite open this copy.
    pub(super) fn set_copy(&mut self, copy: TemporaryDirectory) {
        self.copy = Some(copy);
    }

    /// The database file in the persist directory.
    pub(super) fn database(&self) -> &InputFile {
        &self.database
    }

    /// The copy that SQLite reads instead, if one was made.
    pub(super) fn opened(&self) -> Result<Option<InputFile>> {
        let copy = self.copy.as_ref().map(|copy| {
            let path = copy.path().join(FILE_NAME);
            InputFile::open(&path, IoMode::Read)
        });
        copy.transpose()
    }

    /// Total length of the files in bytes.
    pub(super) fn len(&self) -> u64 {
        let siblings = self.siblings.iter().map(|(_, file)| file.len());
        siblings.fold(self.database.len(), u64::saturating_add)
    }

    /// Number of pages that the truncated file lacks. Unknown, and therefore 0, with a journal or a
    /// write-ahead log.
    pub(super) fn missing_pages(&self) -> u64 {
        self.missing_pages
    }

    /// Suffix of the file that has to be replayed.
    pub(super) fn replayed(&self) -> Option<&'static str> {
        self.siblings
            .iter()
            .find(|(_, source)| source.len() > 0)
            .map(|(suffix, _)| *suffix)
    }

    /// Name and flags with which SQLite opens the database.
    pub(super) fn open_as(&self) -> (PathBuf, OpenFlags) {
        match &self.copy {
            Some(copy) => (
                copy.path().join(FILE_NAME),
                OpenFlags::SQLITE_OPEN_READ_WRITE,
            ),
            None => (
                immutable_uri(&self.path),
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
            ),
        }
    }

    /// The database that SQLite reads, after the write-ahead log was copied into it.
    pub(super) fn replayed_database(&self) -> Result<InputFile> {
        match self.opened()? {
            Some(copy) => Ok(copy),
            None => InputFile::open(&self.path, IoMode::Read),
        }
    }

    /// Fails if any of the files changed, appeared or disappeared.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.database.check_unchanged()?;
        for suffix in [JOURNAL, LOG] {
            match self.siblings.iter().find(|(known, _)| *known == suffix) {
                Some((_, source)) => source.check_unchanged()?,
                None => {
                    let path = with_suffix(&self.path, suffix);
                    let found = InputFile::open_if_present(&path, IoMode::Read.into())?;
                    if found.is_some_and(|found| found.len() > 0) {
                        return Err(Error::changed(
                            &self.path,
                            format!("a file {FILE_NAME}{suffix} beside it"),
                            "none, as before: another process writes to the database",
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies the set, siblings first, so that an unusable journal is refused before the database
    /// is copied.
    fn copy_all(&self, size: Size, monitor: &Monitor<'_>) -> Result<TemporaryDirectory> {
        let mut files = Vec::new();
        let mut database_len = match size.pages {
            Some(pages) => pages.saturating_mul(size.page_size),
            None => self.database.len(),
        };
        for (suffix, file) in &self.siblings {
            if *suffix == JOURNAL {
                // The journal may restore a longer database than the current one.
                database_len = database_len.max(journal::initial_len(file, size.page_size)?);
            }
            files.push((*suffix, file, file.len()));
        }
        // Bytes behind the last page belong to no page: SQLite never reads them.
        files.push(("", &self.database, self.database.len().min(database_len)));

        let parent = std::env::temp_dir();
        let needed = files.iter().map(|(_, file, len)| file.allocated(*len));
        let needed = needed.fold(SPARE_BYTES, u64::saturating_add);
        sparse::check_free_space(&parent, needed, "copy the database there")?;
        let directory = TemporaryDirectory::create_private(&parent)?;
        for (suffix, source, len) in files {
            let target = directory.path().join(format!("{FILE_NAME}{suffix}"));
            let copied = sparse::copy(source, len, &target, monitor)?;
            if suffix != JOURNAL {
                continue;
            }
            // Checked in the copy, which no other process can change: SQLite will read these bytes.
            let name = journal::super_journal(&copied, len);
            if let Some(name) = name.map_err(Error::io(&target, "read"))? {
                return Err(corrupt(
                    source.path(),
                    "super-journal",
                    format!("the name {name}"),
                    "a journal of this database alone: the file of that name decides whether it \
                     is rolled back, and is never opened",
                ));
            }
        }
        Ok(directory)
    }
}

/// Returns true if a file begins as a database does.
pub(super) fn has_magic(database: &InputFile) -> Result<bool> {
    let mut start = [0; MAGIC.len()];
    if database.len() < start.len() as u64 {
        return Ok(false);
    }
    database.read_at(&mut start, 0)?;
    Ok(start == *MAGIC)
}

fn not_a_persist_directory(dir: &Path) -> Error {
    let found = if dir.join(file_name::HEADER).exists() {
        format!(
            "a vector segment directory ({} is in it), without {FILE_NAME}",
            file_name::HEADER
        )
    } else if dir.is_dir() {
        format!("a directory without {FILE_NAME}")
    } else if dir.exists() {
        "something that is not a directory".into()
    } else {
        "nothing".into()
    };
    Error::unusable(
        dir,
        found,
        format!("a Chroma persist directory: the one with {FILE_NAME}"),
    )
}

/// Formats the path as a URI with `immutable`. Every byte with a meaning in a URI is escaped.
fn immutable_uri(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut uri = String::from("file:");
    let bytes = absolute.as_os_str().as_encoded_bytes();
    if !bytes.starts_with(b"/") {
        uri.push('/'); // a drive letter
    }
    for &byte in bytes {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b':' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    PathBuf::from(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn every_path_is_escaped_in_its_uri() {
        let uri = immutable_uri(Path::new("/a b/100%?x=1#y&é.db"));
        let expected = "file:/a%20b/100%25%3Fx%3D1%23y%26%C3%A9.db?mode=ro&immutable=1";
        assert_eq!(uri, Path::new(expected));
    }
}
