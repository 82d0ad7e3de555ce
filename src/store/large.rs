//! Reader of texts that do not fit into their leaf page: documents of up to hundreds of megabytes.
//!
//! A statement returns a mark in place of such a text, which is then read by itself. Its pages are
//! checked first, and it is read in parts, so that memory holds it once. SQLite would hold a second
//! copy.

use rusqlite::types::ValueRef;
use rusqlite::Row;

use super::pages::Pages;
use super::Database;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;

/// Longest text in bytes that is read. Chroma's own limit on a request is far below.
pub(super) const MAX_TEXT_BYTES: usize = 512 << 20;

/// Bytes read between two checks of the cancel token.
const PART_BYTES: usize = 1 << 20;

/// Reads large texts of one column.
#[derive(Debug)]
pub(super) struct LargeTexts<'d> {
    database: &'d Database,
    table: &'static str,
    column: &'static str,
    /// `None` if SQLite reads the texts, because the database is not a file in UTF-8.
    pages: Option<(&'d Pages, u32)>,
    /// Remaining byte budget: all texts together cannot be longer than the file.
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

    /// Returns true if a value of this length may extend beyond its leaf page.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        let pages = self.pages.map(|(pages, _)| pages);
        // Half of the maximum leaves room for the cell header and the other columns.
        pages.is_some_and(|pages| bytes > pages.max_local() / 2)
    }

    /// SQL expression for the column: an empty BLOB stands in for a text that may extend beyond its
    /// leaf page.
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

    /// Returns true if a row's content is in pages of its own, each used once.
    pub(super) fn is_row_whole(&self, rowid: i64, monitor: &Monitor<'_>) -> Result<bool> {
        match self.pages {
            Some((pages, root)) => pages.is_row_whole(root, rowid, monitor),
            None => Ok(true),
        }
    }

    /// Reads the text that a mark stands for; `None` if it is damaged.
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
            // Longer than the file allows: an overflow chain or a length is damaged.
            _ => return Ok(None),
        };
        let mut bytes = memory::with_capacity(len, "hold a document")?;
        while bytes.len() < len {
            monitor.check()?;
            let start = bytes.len();
            bytes.resize(start.saturating_add(PART_BYTES).min(len), 0);
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

/// Returns true if the column holds the mark of a large text.
pub(super) fn is_mark(row: &Row<'_>, column: usize) -> bool {
    matches!(row.get_ref(column), Ok(ValueRef::Blob(b"")))
}

impl Database {
    /// The file's pages; `None` if they do not hold texts as UTF-8.
    fn pages(&self) -> Result<Option<&Pages>> {
        if let Some(pages) = self.pages.get() {
            return Ok(pages.as_ref());
        }
        let encoding = self
            .prepare("PRAGMA encoding")?
            .query_row([], |row| Ok(super::text(row, 0)))
            .map_err(|error| self.failed(error))?;
        let pages = match encoding.as_deref() {
            // `blob_open` returns the stored bytes, so UTF-16 would need a conversion. Chroma
            // writes UTF-8.
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
