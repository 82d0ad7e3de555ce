//! Writer of a whole `chroma.sqlite3` from the readable parts of an old one.
//!
//! ```text
//! migrations ── verified, copied and run: they make the tables
//! tenants … segment_metadata ── row by row, as far as their collection exists
//! embeddings, embedding_metadata, …_array ── the merged records, all with the sequence number W
//! embedding_fulltext_search ── its shadow tables are copied if they agree, or written
//! max_seq_id, embeddings_queue ── W, and the last row of the old queue
//! ```
//!
//! W is the largest sequence number of the queue. Its row stays, because the next write gets the
//! number after the last row, and Chroma ignores every write at or below a watermark.

mod catalog;
mod full_text;
pub(crate) mod migrations;
mod queue;
mod records;
mod trigrams;

use std::path::{Path, PathBuf};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement, ToSql};

pub(crate) use self::catalog::{new_uuid, Configuration, Dropped, NewCollection, NewSegments};
pub use self::full_text::FullText;
use self::migrations::Migrations;
pub(crate) use self::queue::{LastWrite, Queued};
pub(crate) use self::records::RecordWriter;
use self::trigrams::Limits;
use super::connect::Watch;
use super::Database;
use crate::base::progress::Monitor;
use crate::base::threads::both;
use crate::error::{Error, Result};

/// Size in KiB of the page cache. New pages of the indexes over ids stay in it up to about half a
/// million records.
const CACHE_KIB: i32 = 32 << 10;

/// Steps of SQLite's virtual machine between two checks of the cancel token.
const STEPS_PER_CHECK: i32 = 10_000;

/// A new database, written in one transaction.
pub(crate) struct DatabaseWriter {
    _watch: Option<Watch>,
    connection: Connection,
    path: PathBuf,
    has_integer_seq_ids: bool,
    /// SQL of the indexes, which are created last.
    indexes: Vec<String>,
    last_write: LastWrite,
    /// Time of rows without one, in Chroma's form.
    now: String,
}

impl DatabaseWriter {
    /// Creates a database with Chroma's tables at `path`, where no file may exist, and the last row
    /// of the queue.
    pub(crate) fn create(
        path: &Path,
        migrations: &Migrations,
        last_write: LastWrite,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let mut writer = Self::open(
            path,
            OpenFlags::SQLITE_OPEN_CREATE,
            migrations.has_integer_seq_ids(),
            last_write,
            monitor,
        )?;
        migrations.run(&writer.connection, path)?;
        // The migrations insert defaults, which the old rows have if they are still valid.
        for table in ["databases", "tenants"] {
            if !writer.columns(table)?.is_empty() {
                writer.execute(&format!("DELETE FROM {table}"), &[])?;
            }
        }
        let indexes = writer
            .rows("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?;
        for index in indexes {
            if let [Value::Text(name), Value::Text(sql)] = index.as_slice() {
                writer.execute(&format!("DROP INDEX \"{name}\""), &[])?;
                writer.indexes.push(sql.clone());
            }
        }
        writer.write_last_row()?;
        Ok(writer)
    }

    /// Opens the database and starts the transaction.
    fn open(
        path: &Path,
        flags: OpenFlags,
        has_integer_seq_ids: bool,
        last_write: LastWrite,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let failed = |error| failed(path, error);
        let flags = flags
            | OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        if let Some(token) = monitor.token() {
            let is_cancelled = move || token.is_cancelled();
            connection
                .progress_handler(STEPS_PER_CHECK, Some(is_cancelled))
                .map_err(failed)?;
        }
        // The file has no name that anybody knows until it is complete, so it needs no journal.
        let pragmas = format!(
            "PRAGMA page_size = 4096; PRAGMA encoding = 'UTF-8'; PRAGMA journal_mode = OFF; \
             PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = FILE; \
             PRAGMA foreign_keys = OFF; PRAGMA cache_size = -{CACHE_KIB}; BEGIN;"
        );
        connection.execute_batch(&pragmas).map_err(failed)?;
        let now = connection.query_row("SELECT datetime('now')", [], |row| row.get(0));
        Ok(Self {
            now: now.map_err(failed)?,
            _watch: Watch::start(&connection, monitor),
            connection,
            path: path.to_path_buf(),
            has_integer_seq_ids,
            indexes: Vec::new(),
            last_write,
        })
    }

    /// Writes what depends on all records, and makes the file durable. Fails unless SQLite finds
    /// the result sound, and unless `check` succeeds, which runs at the same time.
    ///
    /// The full-text table of `old` is copied if it agrees with the documents and the records keep
    /// their ids. `first_new` is the first id of a record without one, then.
    pub(crate) fn finish(
        self,
        old: &Database,
        first_new: Option<i64>,
        check: impl FnOnce() -> Result<()>,
        monitor: &Monitor<'_>,
    ) -> Result<FullText> {
        let copied = match first_new {
            Some(first) if self.has_many_new_documents(first)? => None,
            Some(first) => self.copy_full_text(old, first, monitor)?.then_some(first),
            None => None,
        };
        let left = match copied {
            Some(_) => 0,
            None => self.build_full_text(Limits::default(), monitor)?,
        };
        for index in &self.indexes {
            self.execute(index, &[])?;
        }
        // Closes the connection, which has the structure of the empty full-text table in memory.
        let closed = self.close()?;
        let full_text = match copied {
            None => closed.complete_full_text(left, monitor)?,
            Some(first) => closed.extend_full_text(first, monitor)?,
        };
        // The full-text table takes most of the time, as FTS5 derives every trigram again.
        let ((), problem) = both(
            "hnsw-toolbox-full-text",
            || {
                check_tables(&closed.path, Part::Tables, monitor)?.map_or(Ok(()), unsound)?;
                check()
            },
            || check_tables(&closed.path, Part::FullText, monitor),
        )?;
        let full_text = match problem {
            None => full_text,
            Some(_) => closed.insert_full_text(monitor)?,
        };
        closed.sync()?;
        Ok(full_text)
    }

    /// Ends the transaction.
    fn close(self) -> Result<Closed> {
        self.execute("COMMIT", &[])?;
        Ok(Closed {
            path: self.path,
            has_integer_seq_ids: self.has_integer_seq_ids,
        })
    }

    /// Returns W, the number of the last write.
    pub(crate) fn last_seq_id(&self) -> u64 {
        self.last_write.seq_id.unsigned_abs()
    }

    /// Returns a sequence number in the form of the tables `embeddings` and `max_seq_id`.
    fn stored_seq_id(&self, seq_id: i64) -> Value {
        match self.has_integer_seq_ids {
            true => Value::Integer(seq_id),
            false => Value::Blob(seq_id.to_be_bytes().to_vec()),
        }
    }

    /// Returns the columns of a table, in order; none if it does not exist.
    fn columns(&self, table: &str) -> Result<Vec<String>> {
        let columns = self.rows(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let names = columns.into_iter().flatten().filter_map(|name| match name {
            Value::Text(name) => Some(name),
            _ => None,
        });
        Ok(names.collect())
    }

    /// Returns all rows of a small result.
    fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let mut statement = self.prepare(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns).map(|column| row.get(column)).collect()
        });
        rows.and_then(Iterator::collect)
            .map_err(|error| self.failed(error))
    }

    fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        self.connection
            .prepare(sql)
            .map_err(|error| self.failed(error))
    }

    /// Returns the number of changed rows.
    fn execute(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<usize> {
        let mut statement = self.prepare(sql)?;
        self.run(&mut statement, parameters)
    }

    fn run(&self, statement: &mut Statement<'_>, parameters: &[&dyn ToSql]) -> Result<usize> {
        statement
            .execute(parameters)
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        failed(&self.path, error)
    }
}

/// A new database without a connection.
struct Closed {
    path: PathBuf,
    has_integer_seq_ids: bool,
}

impl Closed {
    fn reopen(&self, monitor: &Monitor<'_>) -> Result<DatabaseWriter> {
        let (flags, last_write) = (OpenFlags::empty(), LastWrite::default());
        DatabaseWriter::open(
            &self.path,
            flags,
            self.has_integer_seq_ids,
            last_write,
            monitor,
        )
    }

    /// Adds the documents of the records with ids from `first_new` on to the copied table.
    fn extend_full_text(&self, first_new: i64, monitor: &Monitor<'_>) -> Result<FullText> {
        let writer = self.reopen(monitor)?;
        let added = writer.add_documents(first_new)?;
        writer.close()?;
        Ok(match added {
            0 => FullText::Copied,
            _ => FullText::Extended,
        })
    }

    /// Adds the documents that only FTS5 can index to the table that was built, if there are any.
    fn complete_full_text(&self, left: usize, monitor: &Monitor<'_>) -> Result<FullText> {
        if left > 0 {
            let writer = self.reopen(monitor)?;
            writer.add_left_documents()?;
            writer.close()?;
        }
        Ok(FullText::Built)
    }

    /// Replaces a full-text table that is not sound by one that FTS5 builds, and checks the result.
    fn insert_full_text(&self, monitor: &Monitor<'_>) -> Result<FullText> {
        let writer = self.reopen(monitor)?;
        writer.insert_full_text()?;
        writer.close()?;
        for part in [Part::Tables, Part::FullText] {
            check_tables(&self.path, part, monitor)?.map_or(Ok(()), unsound)?;
        }
        Ok(FullText::Built)
    }

    /// Makes the file durable.
    fn sync(&self) -> Result<()> {
        let file = std::fs::File::options().write(true).open(&self.path);
        file.and_then(|file| file.sync_all())
            .map_err(Error::io(&self.path, "sync"))
    }
}

/// Part of a database that is checked by itself.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// All tables but the full-text table, whose shadow tables are among them.
    Tables,
    FullText,
}

/// Returns the first problem that SQLite finds in some tables of a database.
fn check_tables(path: &Path, part: Part, monitor: &Monitor<'_>) -> Result<Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
    let failed = |error| failed(path, error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let _watch = Watch::start(&connection, monitor);
    let kind = match part {
        Part::Tables => "NOT LIKE",
        Part::FullText => "LIKE",
    };
    let names = format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql {kind} 'CREATE VIRTUAL%'"
    );
    let mut names = connection.prepare(&names).map_err(failed)?;
    let names = names.query_map([], |row| row.get::<_, String>(0));
    let names: rusqlite::Result<Vec<_>> = names.and_then(Iterator::collect);
    for name in names.map_err(failed)? {
        monitor.check()?;
        let check = format!("PRAGMA integrity_check('{name}')");
        let found = connection.query_row(&check, [], |row| row.get::<_, String>(0));
        match found {
            Ok(answer) if answer == "ok" => {}
            Ok(problem) => return Ok(Some(problem)),
            Err(error) if super::is_damage(&error) => return Ok(Some(error.to_string())),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

fn unsound(problem: String) -> Result<()> {
    let detail = format!("the new database is not sound: {problem}");
    Err(Error::internal(detail))
}

/// Returns the statement that adds a row, unless one has its key or a value is not allowed.
fn insert_into(table: &str, columns: &[&str]) -> String {
    let marks: Vec<_> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    let (columns, marks) = (columns.join(", "), marks.join(", "));
    format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})")
}

/// Converts the error of a statement on the new database.
fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let detail = error.to_string();
    let io = |kind| Error::io(path, "write")(std::io::Error::new(kind, detail.clone()));
    match code {
        Some(ErrorCode::OperationInterrupted) => Error::cancelled(),
        Some(ErrorCode::DiskFull) => io(std::io::ErrorKind::StorageFull),
        Some(ErrorCode::OutOfMemory) => Error::out_of_memory("write it", None).in_file(path),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::FileLockingProtocolFailed,
        ) => io(std::io::ErrorKind::Other),
        _ => Error::internal(format!("while writing the new database: {detail}")),
    }
}

/// Copies a value of a row. Text that is not UTF-8 gets replacement characters, as Chroma fails on
/// it.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Text(bytes) => Value::Text(super::utf8(bytes).into_owned()),
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
