//! The files of a SQLite database, and which of them may be opened where they are.
//!
//! | beside the database | what is opened |
//! |---|---|
//! | nothing | the database itself, read-only, as immutable: SQLite takes no lock and writes nothing |
//! | a rollback journal or a write-ahead log that is not empty | a copy of the set in a temporary directory, which SQLite then brings up to date |
//!
//! `immutable` with a write-ahead log would silently show an old state, and with a hot journal
//! half-written pages; opening the original would write to it. The `-shm` file is only an index of
//! the log and is made anew.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::{corrupt, FILE_NAME};
use crate::chroma::file_name;
use crate::error::{Error, Result};
use crate::io::file::{InputFile, IoMode};
use crate::io::source::Source;
use crate::io::temporary::TemporaryDirectory;
use crate::progress::Monitor;

const JOURNAL: &str = "-journal";
const LOG: &str = "-wal";

/// The first bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Where in the header of a database these are, as big-endian numbers.
mod header {
    /// In two bytes, where 1 stands for 65,536.
    pub(super) const PAGE_SIZE: usize = 16;
    /// In four bytes each. The number of pages is valid when the two others are equal.
    pub(super) const CHANGE_COUNTER: usize = 24;
    pub(super) const PAGES: usize = 28;
    pub(super) const PAGES_VALID_FOR: usize = 92;
    pub(super) const LEN: usize = 100;
}

/// Bytes copied between two looks at the cancel token.
const COPY_BLOCK: usize = 1 << 20;

/// The database and what is beside it, as they were when they were opened.
#[derive(Debug)]
pub(super) struct DatabaseFiles {
    path: PathBuf,
    database: InputFile,
    /// Journal and log, where there are any.
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
            let path = sibling(&path, suffix);
            siblings.extend(
                InputFile::open_if_present(&path, IoMode::Read.into())?
                    .map(|source| (suffix, source)),
            );
        }
        let start = usize::try_from(database.len()).map_or(MAGIC.len(), |len| len.min(MAGIC.len()));
        if database.window(start).bytes(0, start)? != MAGIC {
            let found = match database.len() {
                0 => "an empty file".to_string(),
                len => format!("{len} bytes that do not begin as a SQLite database does"),
            };
            return Err(corrupt(&path, "content", found, "a SQLite database"));
        }
        let mut files = Self {
            missing_pages: missing_pages(&database)?,
            path,
            database,
            siblings,
            copy: None,
        };
        if files.replayed().is_some() {
            files.missing_pages = 0;
            files.copy = Some(files.copy_all(monitor)?);
            files.check_unchanged()?;
        }
        Ok(files)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of all files in bytes.
    pub(super) fn len(&self) -> u64 {
        let siblings = self.siblings.iter().map(|(_, file)| file.len());
        siblings.fold(self.database.len(), u64::saturating_add)
    }

    /// Pages that the database should have and the file does not, as its end is cut off. Not known
    /// of one to which a journal or a log is added.
    pub(super) fn missing_pages(&self) -> u64 {
        self.missing_pages
    }

    /// The suffix of the file that has to be replayed.
    pub(super) fn replayed(&self) -> Option<&'static str> {
        self.siblings
            .iter()
            .find(|(_, source)| source.len() > 0)
            .map(|(suffix, _)| *suffix)
    }

    /// The name by which SQLite opens the database, and how.
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

    /// Fails when any of the files changed, appeared or is gone.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.database.check_unchanged()?;
        for suffix in [JOURNAL, LOG] {
            match self.siblings.iter().find(|(known, _)| *known == suffix) {
                Some((_, source)) => source.check_unchanged()?,
                None => {
                    let path = sibling(&self.path, suffix);
                    if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
                        return Err(Error::InputChanged {
                            path: self.path.clone(),
                            found: format!("a file {FILE_NAME}{suffix} beside it"),
                            expected: "none, as before: another process writes to the database"
                                .into(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_all(&self, monitor: &Monitor<'_>) -> Result<TemporaryDirectory> {
        let directory = TemporaryDirectory::create_private(&std::env::temp_dir())?;
        let files = std::iter::once(("", &self.database))
            .chain(self.siblings.iter().map(|(suffix, file)| (*suffix, file)));
        for (suffix, source) in files {
            let target = directory.path().join(format!("{FILE_NAME}{suffix}"));
            copy(source.path(), &target, monitor)?;
        }
        Ok(directory)
    }
}

fn missing_pages(database: &InputFile) -> Result<u64> {
    if database.len() < header::LEN as u64 {
        return Ok(0);
    }
    let mut window = database.window(header::LEN);
    let bytes = window.bytes(0, header::LEN)?;
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from(u32::from_be_bytes(*bytes)))
    };
    let page_size = match number(header::PAGE_SIZE) >> 16 {
        1 => 1 << 16,
        size => size.max(1),
    };
    Ok(
        match number(header::CHANGE_COUNTER) == number(header::PAGES_VALID_FOR) {
            true => number(header::PAGES).saturating_sub(database.len() / page_size),
            false => 0,
        },
    )
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
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
    Error::UnusablePath {
        path: dir.to_path_buf(),
        found: found.into(),
        expected: format!("a Chroma persist directory: the one with {FILE_NAME}").into(),
    }
}

fn copy(from: &Path, to: &Path, monitor: &Monitor<'_>) -> Result<()> {
    let mut source = File::open(from).map_err(Error::io(from, "open"))?;
    let mut target = File::create_new(to).map_err(Error::io(to, "create"))?;
    let mut block = vec![0; COPY_BLOCK];
    loop {
        monitor.check()?;
        let count = source.read(&mut block).map_err(Error::io(from, "read"))?;
        if count == 0 {
            return Ok(());
        }
        target
            .write_all(block.get(..count).unwrap_or_default())
            .map_err(Error::io(to, "write the copy of the database"))?;
    }
}

/// The path as a URI with `immutable`, in which every byte of the path that has a meaning is
/// escaped.
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
    fn every_path_has_a_uri_that_means_it() {
        let uri = immutable_uri(Path::new("/a b/100%?x=1#y&é.db"));
        let expected = "file:/a%20b/100%25%3Fx%3D1%23y%26%C3%A9.db?mode=ro&immutable=1";
        assert_eq!(uri, Path::new(expected));
    }
}
