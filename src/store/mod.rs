//! Reader of `chroma.sqlite3`: collections, their metadata, and the queue of writes.
//!
//! The database belongs to Chroma, which may be running, may have died during a write, and may be
//! of any version since 0.4. It is therefore never opened for writing in place, and its contents
//! are not trusted. Columns are looked up, numbers are decoded by their stored type, unreadable
//! pages are skipped and counted, and no virtual (full-text) table is ever queried.
//!
//! ```text
//! collections ─┬─ segments (VECTOR)   ── max_seq_id, segment_metadata, a directory of that name
//!              └─ segments (METADATA) ── max_seq_id, embeddings ── embedding_metadata, …_array
//! embeddings_queue ── every write, by topic; those up to the watermark may be gone
//! ```

pub(crate) mod catalog;
pub(crate) mod collection;
mod connect;
mod copies;
mod files;
mod journal;
mod large;
pub(crate) mod metadata;
mod pages;
pub(crate) mod queue;
mod rebuild;
pub(crate) mod records;
mod runs;
mod scan;
mod schema;
pub(crate) mod seq_id;
pub(crate) mod space;
mod structure;
mod trees;
mod values;
pub(crate) mod write;

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row, Statement};

use self::connect::Watch;
use self::files::DatabaseFiles;
use self::pages::Pages;
pub(crate) use self::rebuild::Rebuilt;
use self::records::TableRecords;
use self::runs::Runs;
pub(crate) use self::scan::Damage;
use self::structure::Structure;
use self::values::ValueTables;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Name of the database in a persist directory.
pub(crate) const FILE_NAME: &str = "chroma.sqlite3";

/// Chroma's database, open for reading.
#[derive(Debug)]
pub(crate) struct Database {
    // Declared before `files`: the connection must close before the copy that it reads is removed.
    connection: Connection,
    files: DatabaseFiles,
    _watch: Option<Watch>,
    rebuilt: Option<Rebuilt>,
    /// Columns of each of Chroma's tables that exists.
    tables: BTreeMap<String, Vec<String>>,
    table_records: OnceCell<TableRecords>,
    structure: Structure,
    record_runs: OnceCell<Runs>,
    has_record_index: Cell<Option<bool>>,
    value_tables: ValueTables,
    pages: OnceCell<Option<Pages>>,
    noted_damage: Cell<bool>,
}

impl Database {
    /// Opens the database of a persist directory.
    ///
    /// If a rollback journal or a write-ahead log lies beside it, a copy of the whole set is
    /// opened, because replaying either one writes. So is a copy with a new schema, if the schema is
    /// damaged.
    pub(crate) fn open(persist_dir: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let mut files = DatabaseFiles::open(persist_dir, monitor)?;
        let (connection, rebuilt) = rebuild::open(&mut files, monitor)?;
        let mut database = Self {
            _watch: Watch::start(&connection, monitor),
            connection,
            files,
            rebuilt,
            tables: BTreeMap::new(),
            table_records: OnceCell::new(),
            structure: Structure::default(),
            record_runs: OnceCell::new(),
            has_record_index: Cell::new(None),
            value_tables: ValueTables::default(),
            pages: OnceCell::new(),
            noted_damage: Cell::new(false),
        };
        database.tables = database.read_schema()?;
        for table in ["collections", "segments"] {
            if !database.has_table(table) {
                return Err(database.corrupt(
                    "tables",
                    format!("no table {table}"),
                    "a database that Chroma 0.4 or later has made",
                ));
            }
        }
        database.check_structure(monitor)?;
        Ok(database)
    }

    /// Path of the database in the persist directory.
    pub(crate) fn path(&self) -> &Path {
        self.files.path()
    }

    /// Suffix of the file that was replayed in a copy: `-journal` or `-wal`.
    pub(crate) fn replayed(&self) -> Option<&'static str> {
        self.files.replayed()
    }

    /// Tables found in place of a damaged schema.
    pub(crate) fn rebuilt(&self) -> Option<&Rebuilt> {
        self.rebuilt.as_ref()
    }

    /// Number of pages missing at the end of the file.
    pub(crate) fn missing_pages(&self) -> u64 {
        self.files.missing_pages()
    }

    /// Fails if the database changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.files.check_unchanged()
    }

    /// Returns true if the database has this table, one of [`schema::TABLES`].
    pub(crate) fn has_table(&self, table: &str) -> bool {
        debug_assert!(schema::TABLES.contains(&table), "{table} is not checked");
        self.tables.contains_key(table)
    }

    /// Returns true if the table has this column.
    pub(crate) fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables
            .get(table)
            .is_some_and(|columns| columns.iter().any(|name| name == column))
    }

    /// Returns the column's name, or NULL for a column that a later version introduced.
    fn column_or_null(&self, table: &str, column: &'static str) -> &'static str {
        if self.has_column(table, column) {
            column
        } else {
            "NULL"
        }
    }

    /// Returns true if a non-partial index has this column as its first one.
    fn has_index_on(&self, table: &str, column: &str) -> Result<bool> {
        let mut statement = self.prepare(
            "SELECT 1 FROM pragma_index_list(?1) AS list, pragma_index_info(list.name) AS entry \
             WHERE list.partial = 0 AND entry.seqno = 0 AND entry.name = ?2",
        )?;
        match statement.exists([table, column]) {
            Ok(found) => Ok(found),
            Err(error) if self.is_damage(&error) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        self.connection
            .prepare(sql)
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        failed(self.path(), error)
    }

    fn corrupt(
        &self,
        field: impl Into<std::borrow::Cow<'static, str>>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Error {
        corrupt(self.path(), field, found, expected)
    }

    /// Returns true if an error means that a page or a record of the file cannot be read.
    ///
    /// SQLite checks the cells of a page only when it reads the page from the file, not while the
    /// page is cached. The cache is therefore emptied, so that the next access reports the damage
    /// again.
    fn is_damage(&self, error: &rusqlite::Error) -> bool {
        let is_damage = is_damage(error);
        if is_damage {
            self.forget_pages();
        }
        is_damage
    }

    /// Like [`Database::is_damage`], for use while another statement is being stepped. Emptying the
    /// cache then would make SQLite seek its position again. In a damaged index that may be an
    /// earlier position, and the scan would never end. [`Database::forget_noted`] empties the cache
    /// later.
    fn note_damage(&self, error: &rusqlite::Error) -> bool {
        let is_damage = is_damage(error);
        if is_damage {
            self.noted_damage.set(true);
        }
        is_damage
    }

    /// Empties the cache if damage was noted.
    fn forget_noted(&self) {
        if self.noted_damage.take() {
            self.forget_pages();
        }
    }

    fn forget_pages(&self) {
        // If this fails, the cache merely stays as it is.
        self.connection
            .execute_batch("PRAGMA shrink_memory")
            .unwrap_or_default();
    }
}

/// The column as a string, if its value is text.
fn text(row: &Row<'_>, column: usize) -> Option<String> {
    text_ref(row, column).map(|text| text.into_owned())
}

/// Like [`text`], but borrowed.
fn text_ref<'r>(row: &'r Row<'_>, column: usize) -> Option<std::borrow::Cow<'r, str>> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => Some(utf8(bytes)),
        _ => None,
    }
}

/// Converts SQLite's text, which is not guaranteed to be UTF-8. Invalid sequences become U+FFFD.
fn utf8(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    // The check alone is several times as fast as the lossy conversion.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Into::into)
}

fn integer(row: &Row<'_>, column: usize) -> Option<i64> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(value)) => Some(value),
        _ => None,
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as Sqlite;
    match error {
        Sqlite::SqliteFailure(failure, _) => match failure.code {
            // A length above SQLITE_LIMIT_LENGTH cannot come from Chroma, so it is damage as well.
            ErrorCode::DatabaseCorrupt | ErrorCode::TooBig => true,
            ErrorCode::SystemIoFailure => is_bad_sector(failure.extended_code),
            _ => false,
        },
        _ => false,
    }
}

/// Returns true for the SQLITE_IOERR codes that concern one place of the file. The other codes of
/// that family report a refusal of the system: no memory, no descriptor, no lock.
fn is_bad_sector(extended_code: i32) -> bool {
    use rusqlite::ffi;
    [
        ffi::SQLITE_IOERR_READ,
        ffi::SQLITE_IOERR_SHORT_READ,
        ffi::SQLITE_IOERR_CORRUPTFS,
        ffi::SQLITE_IOERR_DATA,
    ]
    .contains(&extended_code)
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::Error as Sqlite;
    let (failure, detail) = match &error {
        Sqlite::SqliteFailure(failure, detail) => (Some(failure), detail.clone()),
        Sqlite::SqlInputError { error, msg, .. } => (Some(error), Some(msg.clone())),
        _ => (None, None),
    };
    let detail = detail.unwrap_or_else(|| error.to_string());
    let code = failure.map(|failure| failure.code);
    let extended_code = failure.map_or(0, |failure| failure.extended_code);
    match code {
        Some(ErrorCode::OperationInterrupted) => Error::cancelled(),
        // Only replaying writes, and that happens in a copy.
        Some(ErrorCode::DiskFull) => {
            let cause = std::io::Error::new(std::io::ErrorKind::StorageFull, detail);
            Error::io(path, "replay its journal or write-ahead log in a copy")(cause)
        }
        Some(ErrorCode::OutOfMemory) => Error::out_of_memory("read it", None).in_file(path),
        // SQLite reports this one as an I/O error, although it is about memory.
        _ if extended_code == rusqlite::ffi::SQLITE_IOERR_NOMEM => {
            Error::out_of_memory("read it", None).in_file(path)
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::io(path, "open")(std::io::Error::other(detail))
        }
        Some(ErrorCode::SystemIoFailure) if !is_bad_sector(extended_code) => {
            let detail = format!("{detail} (SQLite code {extended_code})");
            Error::io(path, "read")(std::io::Error::other(detail))
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::ReadOnly
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::FileLockingProtocolFailed,
        ) => Error::io(path, "read")(std::io::Error::other(detail)),
        _ => corrupt(path, "content", detail, "a readable SQLite database"),
    }
}

fn corrupt(
    path: &Path,
    field: impl Into<std::borrow::Cow<'static, str>>,
    found: impl ToString,
    expected: impl ToString,
) -> Error {
    Error::corrupt_database(path, field, found, expected.to_string())
}
