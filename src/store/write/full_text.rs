//! The full-text table, which indexes each document by its trigrams.
//!
//! FTS5 keeps it in five shadow tables. Copying them takes a fraction of the time of building the
//! index again, and is right if they hold the very documents under the same ids. A new index is
//! written by [`TrigramWriter`], several times faster than FTS5 builds it. The check of the finished
//! database compares the index itself with its documents. If it fails, FTS5 builds the table.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::ToSql;

use super::trigrams::{Limits, TrigramWriter};
use super::{insert_into, owned, DatabaseWriter};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::store::Database;

const TABLE: &str = "embedding_fulltext_search";

/// The statement of Chroma's migration.
const CREATE: &str = "CREATE VIRTUAL TABLE embedding_fulltext_search USING fts5(string_value, \
                      tokenize='trigram')";

/// The shadow tables with the index and the documents.
const SHADOWS: [&str; 4] = ["data", "idx", "content", "docsize"];

named_enum! {
    /// The origin of the full-text table of a new store.
    pub enum FullText for "full_text" {
        /// Copied from the old store, where it agreed with the documents.
        Copied = "copied",
        /// Copied, and extended by the documents of new records.
        Extended = "extended",
        /// Built from the documents.
        Built = "built",
    }
}

impl DatabaseWriter {
    /// Copies the shadow tables. Returns false if they cannot be read, or hold other documents than
    /// the records with ids below `first_new`. The table must be built then.
    pub(super) fn copy_full_text(
        &self,
        old: &Database,
        first_new: i64,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        Ok(self.copy_shadows(old, monitor)? && self.content_agrees(first_new)?)
    }

    fn copy_shadows(&self, old: &Database, monitor: &Monitor<'_>) -> Result<bool> {
        let config = format!("{TABLE}_config");
        let version = |rows: &[Vec<Value>]| match rows {
            [row] => row.clone(),
            _ => Vec::new(),
        };
        let own = self.rows(&format!("SELECT k, v FROM {config}"))?;
        let mut theirs = Vec::new();
        // Other options than the version come from no Chroma, and may make a search fail.
        let is_read = self.copies_table(old, &config)?
            && old.read_rows(&config, &["k", "v"], monitor, |row| {
                theirs.push(row);
                Ok(ControlFlow::Continue(()))
            })?;
        if !is_read || own.is_empty() || version(&own) != version(&theirs) {
            return Ok(false);
        }
        for shadow in SHADOWS {
            let table = format!("{TABLE}_{shadow}");
            if !self.copies_table(old, &table)? {
                return Ok(false);
            }
            self.execute(&format!("DELETE FROM {table}"), &[])?;
            if !self.copy_rows(old, &table, monitor)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns true if the old database has the same table, by the SQL that creates it. Reading
    /// such a table runs no code of the old database.
    pub(super) fn copies_table(&self, old: &Database, table: &str) -> Result<bool> {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let own = self.connection.query_row(sql, [table], |row| row.get(0));
        let own: String = own.map_err(|error| self.failed(error))?;
        old.creates_table(table, &own)
    }

    /// Copies all rows of a table that [`copies_table`](Self::copies_table) accepts. Returns
    /// whether all of them could be read and inserted.
    pub(super) fn copy_rows(
        &self,
        old: &Database,
        table: &str,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        let columns = self.columns(table)?;
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let mut insert = self.prepare(&insert_into(table, &columns))?;
        let mut is_whole = true;
        let is_read = old.read_rows(table, &columns, monitor, |row| {
            let row: Vec<&dyn ToSql> = row.iter().map(|value| value as _).collect();
            is_whole &= self.run(&mut insert, &row)? == 1;
            Ok(match is_whole {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })?;
        Ok(is_read && is_whole)
    }

    /// Returns true if the copied table holds exactly the documents of the records with ids below
    /// `first_new`.
    fn content_agrees(&self, first_new: i64) -> Result<bool> {
        let found = self.rows(&format!(
            "SELECT (SELECT count(*) FROM {TABLE}_content) = \
             (SELECT count(*) FROM embedding_metadata \
              WHERE key = 'chroma:document' AND string_value IS NOT NULL AND id < {first_new}) \
             AND NOT EXISTS (SELECT 1 FROM {TABLE}_content AS copy \
              LEFT JOIN embedding_metadata AS document \
              ON document.id = copy.id AND document.key = 'chroma:document' \
              WHERE document.string_value IS NOT copy.c0)"
        ))?;
        Ok(found == [[Value::Integer(1)]])
    }

    /// Returns true if more than a quarter of all documents belong to records with ids from
    /// `first_new` on. Building the whole table is faster then than adding these to a copy.
    pub(super) fn has_many_new_documents(&self, first_new: i64) -> Result<bool> {
        let found = self.rows(&format!(
            "SELECT 4 * sum(id >= {first_new}) > count(*) FROM embedding_metadata \
             WHERE key = 'chroma:document'"
        ))?;
        Ok(found == [[Value::Integer(1)]])
    }

    /// Builds the table from the documents of all records. Some can only be indexed by FTS5.
    /// Returns the number of these. The connection must be closed before the table is used.
    pub(super) fn build_full_text(&self, limits: Limits, monitor: &Monitor<'_>) -> Result<usize> {
        self.create_full_text()?;
        let mut table = TrigramWriter::new(self, TABLE, limits)?;
        let mut left = 0_usize;
        let mut select = self.prepare(&documents(""))?;
        let mut rows = select.query([]).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            monitor.check()?;
            let rowid = row.get(0).map_err(|error| self.failed(error))?;
            let text = row.get_ref(1).map_err(|error| self.failed(error))?;
            let is_added = match text.as_str() {
                Ok(text) => table.push(rowid, text, monitor)?,
                // A blob, or no UTF-8.
                Err(_) => false,
            };
            left = left.saturating_add(usize::from(!is_added));
        }
        table.finish(monitor)?;
        Ok(left)
    }

    /// Lets FTS5 build the table from the documents of all records.
    pub(super) fn insert_full_text(&self) -> Result<()> {
        self.create_full_text()?;
        self.add_documents(i64::MIN)?;
        Ok(())
    }

    fn create_full_text(&self) -> Result<()> {
        self.execute(&format!("DROP TABLE IF EXISTS {TABLE}"), &[])?;
        self.execute(CREATE, &[])?;
        Ok(())
    }

    /// Adds the documents of the records with ids from `first` on to the table. Returns their
    /// number.
    pub(super) fn add_documents(&self, first: i64) -> Result<usize> {
        self.insert_documents("AND embeddings.id >= ?1", &[&first])
    }

    /// Adds the documents that [`build_full_text`](Self::build_full_text) has left.
    pub(super) fn add_left_documents(&self) -> Result<usize> {
        let condition = format!("AND embeddings.id NOT IN (SELECT id FROM {TABLE}_docsize)");
        self.insert_documents(&condition, &[])
    }

    fn insert_documents(&self, condition: &str, parameters: &[&dyn ToSql]) -> Result<usize> {
        let documents = documents(condition);
        self.execute(
            &format!("INSERT INTO {TABLE} (rowid, string_value) {documents}"),
            parameters,
        )
    }
}

/// Returns the statement that selects the documents of records.
fn documents(condition: &str) -> String {
    // In the order of the ids, which FTS5 needs, without sorting the documents.
    format!(
        "SELECT embeddings.id, string_value FROM embeddings CROSS JOIN embedding_metadata \
         ON embedding_metadata.id = embeddings.id AND key = 'chroma:document' \
         WHERE string_value IS NOT NULL {condition} ORDER BY embeddings.id"
    )
}

impl Database {
    /// Returns true if a table was created by exactly this SQL.
    pub(super) fn creates_table(&self, table: &str, sql: &str) -> Result<bool> {
        let mut statement = self.prepare(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql = ?2",
        )?;
        match statement.exists([table, sql]) {
            Ok(exists) => Ok(exists),
            Err(error) if self.is_damage(&error) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Visits the rows of a table. Returns false at the first damage.
    pub(super) fn read_rows(
        &self,
        table: &str,
        columns: &[&str],
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(Vec<Value>) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let columns_sql = columns.join(", ");
        let mut statement = self.prepare(&format!("SELECT {columns_sql} FROM {table}"))?;
        let mut rows = statement.query([]).map_err(|error| self.failed(error))?;
        // Each row takes at least a byte: pages that link back to earlier ones end the scan.
        let mut left = self.files.len();
        loop {
            match rows.next() {
                Ok(Some(row)) if left > 0 => {
                    left -= 1;
                    monitor.check()?;
                    let values = (0..columns.len()).map(|at| row.get_ref(at).map(owned));
                    let values: std::result::Result<_, _> = values.collect();
                    let values = values.map_err(|error| self.failed(error))?;
                    if visit(values)?.is_break() {
                        return Ok(true);
                    }
                }
                Ok(Some(_)) => return Ok(false),
                Ok(None) => return Ok(true),
                Err(error) if self.is_damage(&error) => return Ok(false),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Returns the number of readable rows of a table.
    pub(crate) fn row_count(&self, table: &'static str, monitor: &Monitor<'_>) -> Result<u64> {
        let mut count = 0;
        let all = (i64::MIN, i64::MAX);
        self.scan(table, "NULL", all, monitor, |_, _| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    /// Returns the largest rowid of a table, as far as it is readable.
    pub(super) fn last_rowid(
        &self,
        table: &'static str,
        monitor: &Monitor<'_>,
    ) -> Result<Option<i64>> {
        if !self.has_table(table) {
            return Ok(None);
        }
        let mut last = None;
        if self.is_sound(table) {
            let mut statement = self.prepare(&format!("SELECT max(rowid) FROM {table}"))?;
            match statement.query_row([], |row| row.get(0)) {
                Ok(found) => return Ok(found),
                Err(error) if self.is_damage(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let all = (i64::MIN, i64::MAX);
        self.scan(table, "NULL", all, monitor, |rowid, _| {
            last = last.max(Some(rowid));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(last)
    }
}
