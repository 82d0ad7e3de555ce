//! Connection to SQLite: read-only, bounded, and interruptible.
//!
//! SQLite checks the cancel token between the steps of its virtual machine. Some work takes seconds
//! within one step: replaying a journal or a write-ahead log, parsing the schema, counting the rows
//! of a table. The first two happen while the database is opened, which therefore runs on a
//! separate thread that is abandoned on cancellation. The third responds to an interrupt from
//! another thread, the [`Watch`].

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::failed;
use super::files::DatabaseFiles;
use crate::base::progress::{CancelToken, Monitor};
use crate::error::{Error, Result};

/// Size in KiB of SQLite's page cache.
const CACHE_KIB: i32 = 4096;

/// Steps of SQLite's virtual machine between two checks of the cancel token.
pub(super) const STEPS_PER_CHECK: i32 = 10_000;

/// Time between two checks of the cancel token while SQLite itself does not check it.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Longest id, vector or other value in bytes that SQLite reads. A longer value is damage.
/// Documents may be longer: [`LargeTexts`](super::large::LargeTexts) reads them.
const MAX_VALUE_BYTES: u64 = 16 << 20;

/// Columns per table. Chroma's tables have at most eight, but tables of other programs may exist in
/// the file.
const MAX_COLUMNS: i32 = 256;

/// Opens the database, replays its journal or write-ahead log, and reads its schema.
pub(super) fn connect(files: &DatabaseFiles, monitor: &Monitor<'_>) -> Result<Connection> {
    let (name, flags) = files.open_as();
    let opening = Opening {
        name,
        flags,
        is_truncated: files.missing_pages() > 0,
        is_copy: files.replayed().is_some(),
        // A stored value is never longer than the file, and a schema may compute values.
        max_value: files.len().clamp(1 << 20, MAX_VALUE_BYTES),
        token: monitor.token(),
    };
    let opened = match opening.token {
        None => opening.open(),
        Some(_) => {
            let (sender, receiver) = mpsc::sync_channel(1);
            let thread = thread::Builder::new()
                .name("open-database".into())
                .spawn(move || {
                    // After a cancellation there is no receiver. The copy is removed by then, so
                    // nothing is left behind.
                    let _ = sender.send(opening.open());
                })
                .map_err(Error::io(files.path(), "start a thread to open it"))?;
            loop {
                match receiver.recv_timeout(POLL_INTERVAL) {
                    Ok(opened) => {
                        // The thread has sent its result and is about to end.
                        let _ = thread.join();
                        break opened;
                    }
                    Err(RecvTimeoutError::Timeout) => monitor.check()?,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::internal("the thread that opens a database panicked"));
                    }
                }
            }
        }
    };
    opened.map_err(|error| failed(files.path(), error))
}

struct Opening {
    name: PathBuf,
    flags: OpenFlags,
    is_truncated: bool,
    is_copy: bool,
    max_value: u64,
    token: Option<CancelToken>,
}

impl Opening {
    fn open(self) -> rusqlite::Result<Connection> {
        let flags =
            self.flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let mut connection = Connection::open_with_flags(self.name, flags)?;
        // SQLite opens a truncated database only with a writable schema, which excludes the
        // defensive mode. Nothing can be written either way, because the file is open as immutable.
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, !self.is_truncated),
            (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, self.is_truncated),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            // The write-ahead log is empty by then, or the copy is about to be removed.
            (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        ] {
            connection.set_db_config(config, on)?;
        }
        // Far above the needs of our statements and of Chroma's schema.
        for (limit, max) in [
            (
                Limit::SQLITE_LIMIT_LENGTH,
                i32::try_from(self.max_value).unwrap_or(i32::MAX),
            ),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
            (Limit::SQLITE_LIMIT_COLUMN, MAX_COLUMNS),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 2),
            (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, 16),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 64),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 16),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, max)?;
        }
        if let Some(token) = self.token {
            let cancelled = move || token.is_cancelled();
            connection.progress_handler(STEPS_PER_CHECK, Some(cancelled))?;
        }
        if self.is_copy {
            // The trees are also read directly from the file, which must therefore include the
            // write-ahead log.
            connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        // A single transaction: every statement that starts its own reads the first page again. The
        // first pragma reads the schema.
        connection.execute_batch(&format!(
            "PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; \
             PRAGMA cell_size_check = ON; PRAGMA query_only = ON; BEGIN;"
        ))?;
        Ok(connection)
    }
}

/// Interrupts a connection's statements once the operation is cancelled, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Closed to end the thread.
    ended: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended = None;
        // The closed channel wakes the thread at once.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Watch {
    /// Returns `None` if the operation cannot be cancelled or no thread can be started. Then only
    /// the progress handler stops a statement.
    pub(super) fn start(connection: &Connection, monitor: &Monitor<'_>) -> Option<Self> {
        let token = monitor.token()?;
        let interrupt = connection.get_interrupt_handle();
        let (sender, ended) = mpsc::channel::<()>();
        let watch = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(POLL_INTERVAL) {
                if token.is_cancelled() {
                    // Repeated, because a statement that starts later clears the interrupt.
                    interrupt.interrupt();
                }
            }
        };
        let thread = thread::Builder::new().name("watch-database".into());
        Some(Self {
            thread: Some(thread.spawn(watch).ok()?),
            ended: Some(sender),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_soon_after_a_cancellation() {
        let connection = Connection::open_in_memory().unwrap();
        let token = CancelToken::new();
        let monitor = Monitor::default().with_cancel(&token);
        let _watch = Watch::start(&connection, &monitor);
        let forever =
            "WITH RECURSIVE forever(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM forever) \
                       SELECT count(*) FROM forever";
        let ended = thread::scope(|scope| {
            scope.spawn(|| token.cancel());
            connection.query_row(forever, [], |_| Ok(()))
        });
        let code = ended.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
    }
}
