//! Texts that do not fit into their page, which may be documents of hundreds of megabytes.
//!
//! A statement gives such a text as a mark, and it is read here by itself: after a look at the pages
//! that hold it, and in parts, so that memory holds it once. SQLite would hold a copy of its own.

use rusqlite::types::ValueRef;
use rusqlite::Row;

use super::pages::Pages;
use super::Database;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;

/// The longest text, in bytes. Chroma's own limit on a request is far below.
pub(super) const MAX_TEXT_BYTES: usize = 512 << 20;

/// Bytes read between two looks at the cancel token.
const PART: usize = 1 << 20;

/// Reads large texts of one column.
#[derive(Debug)]
pub(super) struct LargeTexts<'d> {
    database: &'d Database,
    table: &'static str,
    column: &'static str,
    /// `None` where texts are read by SQLite: the database is no file in UTF-8.
    pages: Option<(&'d Pages, u32)>,
    /// Bytes that the texts may still have: all of them together are not longer than the file.
    left: u64,
}

impl<'d> LargeTexts<'d> {
    pub(super) fn new(
        database: &'d Database,
        table: &'static str,
        column: &'static str,
    ) -> Result<Self> {
        let pages = database.pages()?;
        Ok(Self {
            database,
            table,
            column,
            pages: match pages {
                Some(pages) => database.root(table)?.map(|root| (pages, root)),
                None => None,
            },
            left: database.files.len(),
        })
    }

    /// Whether a value of so many bytes may not be in its page.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        let pages = self.pages.map(|(pages, _)| pages);
        // The cell's header and the other columns take some of the page.
        pages.is_some_and(|pages| bytes > pages.max_local() / 2)
    }

    /// The column in SQL, with an empty BLOB in place of a text that may not be in its page.
    pub(super) fn marked(&self) -> String {
        let column = self.column;
        match self.pages {
            None => column.into(),
            Some((pages, _)) => format!(
                "iif(octet_length({column}) > {} AND typeof({column}) = 'text', x'', {column})",
                pages.max_local() / 2
            ),
        }
    }

    /// Whether a row's content is in pages of its own, each once.
    pub(super) fn is_row_whole(&self, rowid: i64, monitor: &Monitor<'_>) -> Result<bool> {
        match self.pages {
            Some((pages, root)) => pages.is_row_whole(root, rowid, monitor),
            None => Ok(true),
        }
    }

    /// Reads the text of a row in place of which there was a mark; `None` where it is damaged.
    pub(super) fn read(&mut self, rowid: i64, monitor: &Monitor<'_>) -> Result<Option<String>> {
        let database = self.database;
        if !self.is_row_whole(rowid, monitor)? {
            return Ok(None);
        }
        let blob = database
            .connection
            .blob_open("main", self.table, self.column, rowid, true);
        let blob = match blob {
            Ok(blob) => blob,
            Err(error) if database.is_damage(&error) => return Ok(None),
            Err(error) => return Err(database.failed(error)),
        };
        let len = blob.len();
        self.left = match self.left.checked_sub(len as u64) {
            Some(left) if len <= MAX_TEXT_BYTES => left,
            _ => return Ok(None),
        };
        let mut bytes = memory::with_capacity(len, "hold a document")?;
        while bytes.len() < len {
            monitor.check()?;
            let start = bytes.len();
            bytes.resize(start.saturating_add(PART).min(len), 0);
            let part = bytes.get_mut(start..).unwrap_or_default();
            match blob.read_at_exact(part, start) {
                Ok(()) => {}
                Err(error) if database.is_damage(&error) => return Ok(None),
                Err(error) => return Err(database.failed(error)),
            }
        }
        Ok(Some(String::from_utf8(bytes).unwrap_or_else(|error| {
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })))
    }
}

/// Whether a column of a row is the mark of a large text.
pub(super) fn is_mark(row: &Row<'_>, column: usize) -> bool {
    matches!(row.get_ref(column), Ok(ValueRef::Blob(b"")))
}

impl Database {
    /// The file's pages; `None` where they do not hold texts as UTF-8.
    fn pages(&self) -> Result<Option<&Pages>> {
        if let Some(pages) = self.pages.get() {
            return Ok(pages.as_ref());
        }
        let encoding = self
            .prepare("PRAGMA encoding")?
            .query_row([], |row| Ok(super::text(row, 0)))
            .map_err(|error| self.failed(error))?;
        let pages = match encoding.as_deref() {
            Some("UTF-8") => Pages::new(self.files.replayed_database()?)?,
            _ => None,
        };
        Ok(self.pages.get_or_init(|| pages).as_ref())
    }

    /// The root page of a table.
    fn root(&self, table: &str) -> Result<Option<u32>> {
        let mut statement =
            self.prepare("SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
        match statement.query_row([table], |row| Ok(super::integer(row, 0))) {
            Ok(root) => Ok(root.and_then(|root| u32::try_from(root).ok())),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) if self.is_damage(&error) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }
}
