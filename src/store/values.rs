//! Reader of `embedding_metadata` and `embedding_metadata_array`: the keys and values of records.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use super::large::{is_mark, LargeTexts};
use super::records::LISTS;
use super::{text, Damage, Database};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::store::metadata::Value;

/// Decodes a typed value: the first column that is not NULL, in the order string, integer, float,
/// boolean.
pub(super) fn value(row: &Row<'_>, first_column: usize) -> Option<Value> {
    if let Some(text) = text(row, first_column) {
        return Some(Value::Text(text));
    }
    let number = |column| row.get_ref(first_column + column).ok();
    if let Some(ValueRef::Integer(value)) = number(1) {
        return Some(Value::Int(value));
    }
    match number(2) {
        Some(ValueRef::Real(value)) => return Some(Value::Float(value)),
        // A column of type REAL stores a float without a fraction as an integer; SQLite converts it
        // when it reads.
        Some(ValueRef::Integer(value)) => {
            #[allow(clippy::cast_precision_loss)] // the column is declared REAL
            return Some(Value::Float(value as f64));
        }
        _ => {}
    }
    match number(3) {
        Some(ValueRef::Integer(value)) => Some(Value::Bool(value != 0)),
        _ => None,
    }
}

/// Columns of the statements: the row's rowid, and the record's rowid in the statement over several
/// records.
const ROWID: usize = 5;
const RECORD: usize = 6;

/// Soft limit in bytes on the texts that are read ahead. The record that crosses it is still
/// included.
pub(super) const BYTES_AHEAD: usize = 256 << 10;

/// A row of a table of values.
#[derive(Debug)]
struct ValueRow {
    key: String,
    value: Option<Value>,
    /// Rowid of a large text, which is read separately.
    large: Option<i64>,
}

impl ValueRow {
    /// Returns `None` for a row without a key.
    fn of(row: &Row<'_>) -> Option<Self> {
        let large = is_mark(row, 1);
        Some(Self {
            key: text(row, 0)?,
            value: if large { None } else { value(row, 1) },
            large: super::integer(row, ROWID).filter(|_| large),
        })
    }
}

/// Reads a record's rows from a table of values.
#[derive(Debug)]
pub(super) struct ValueReader<'d> {
    database: &'d Database,
    table: &'static str,
    by_id: Statement<'d>,
    by_ids: Statement<'d>,
    ahead: Ahead,
    by_rowid: Statement<'d>,
    large: LargeTexts<'d>,
    /// Rows of one record, in a buffer that is reused.
    found: Vec<ValueRow>,
    /// True if the table's index has all rows.
    has_index: bool,
}

/// Rows of several records, read with one statement.
#[derive(Debug, Default)]
struct Ahead {
    /// First and last record whose rows are complete.
    records: Option<(i64, i64)>,
    /// Rows with their record, in order of the record.
    rows: VecDeque<(i64, ValueRow)>,
}

/// Rowids of each record's rows, from a scan of the table itself.
#[derive(Debug)]
struct Rowids {
    /// Pairs of the record's rowid and the row's, sorted.
    pairs: Vec<(i64, i64)>,
    damage: Damage,
}

/// Facts about the tables of values, cached across collections.
#[derive(Debug, Default)]
pub(super) struct ValueTables([ValueTable; 2]);

#[derive(Debug, Default)]
struct ValueTable {
    has_index: OnceCell<bool>,
    /// Read if the table's index is missing or damaged, at 16 bytes per row.
    rowids: OnceCell<Rowids>,
}

impl ValueTables {
    fn get(&self, table: &str) -> &ValueTable {
        let [values, lists] = &self.0;
        if table == LISTS {
            lists
        } else {
            values
        }
    }
}

impl<'d> ValueReader<'d> {
    pub(super) fn new(database: &'d Database, table: &'static str) -> Result<Option<Self>> {
        if !database.has_table(table) {
            return Ok(None);
        }
        let bool_value = database.column_or_null(table, "bool_value");
        let large = LargeTexts::new(database, table, "string_value")?;
        let string_value = large.marked();
        let columns = format!("key, {string_value}, int_value, float_value, {bool_value}, rowid");
        let select = format!("SELECT {columns} FROM {table}");
        Ok(Some(Self {
            database,
            table,
            // Sorted by key and rowid: the elements of a list stay in their order.
            by_id: database.prepare(&format!("{select} WHERE id = ?1 ORDER BY key, rowid"))?,
            by_ids: database.prepare(&format!(
                "SELECT {columns}, id FROM {table} WHERE id BETWEEN ?1 AND ?2 \
                 ORDER BY id, key, rowid"
            ))?,
            ahead: Ahead::default(),
            by_rowid: database.prepare(&format!("{select} WHERE rowid = ?1"))?,
            large,
            found: Vec::new(),
            has_index: database.has_usable_index(table) && database.has_value_index(table)?,
        }))
    }

    /// Reads ahead the rows of the records from `first` to `last`, or of fewer if they are large.
    /// If that fails, each record's rows are looked up when it is asked for.
    pub(super) fn read_ahead(&mut self, first: i64, last: i64) -> Result<()> {
        self.ahead.clear();
        if !self.has_index {
            return Ok(());
        }
        match self.read_range(first, last)? {
            Some(end) => self.ahead.records = Some((first, end)),
            None => self.ahead.clear(),
        }
        Ok(())
    }

    /// Returns the last record with complete rows, or `None` if the table is damaged.
    fn read_range(&mut self, first: i64, last: i64) -> Result<Option<i64>> {
        let database = self.database;
        let mut rows = self
            .by_ids
            .query([first, last])
            .map_err(|error| database.failed(error))?;
        let mut bytes = 0;
        let mut current = first;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Some(last)),
                Err(error) if database.is_damage(&error) => return Ok(None),
                Err(error) => return Err(database.failed(error)),
            };
            match super::integer(row, RECORD) {
                Some(record) if record > current && bytes >= BYTES_AHEAD => {
                    return Ok(Some(current));
                }
                Some(record) if record >= current => current = record,
                // The index goes back to an earlier record, or has no record's rowid: it is
                // damaged.
                _ => return Ok(None),
            }
            if let Some(row) = ValueRow::of(row) {
                bytes += row.key.len();
                if let Some(Value::Text(text)) = &row.value {
                    bytes += text.len();
                }
                self.ahead.rows.push_back((current, row));
            }
        }
    }

    /// Visits the keys and values of a record. Returns whether all of them could be read.
    pub(super) fn each(
        &mut self,
        record: i64,
        monitor: &Monitor<'_>,
        visit: impl FnMut(String, Option<Value>),
    ) -> Result<bool> {
        let is_whole = self.find(record, monitor)?;
        Ok(self.visit_found(monitor, visit)? && is_whole)
    }

    /// Finds the rows of a record. Returns whether all of them could be read.
    fn find(&mut self, record: i64, monitor: &Monitor<'_>) -> Result<bool> {
        let database = self.database;
        // Collected before any is visited, so that a retry after a damaged page does not visit one
        // twice.
        let found = &mut self.found;
        found.clear();
        if self.ahead.take(record, found) {
            return Ok(true);
        }
        if self.has_index && read_values(database, &mut self.by_id, record, found)? {
            return Ok(true);
        }
        found.clear();
        let rowids = database.rowids(self.table, monitor)?;
        let first = rowids.pairs.partition_point(|pair| pair.0 < record);
        let pairs = rowids.pairs.get(first..).unwrap_or_default();
        // The record is complete only if there is no index. An index that has all rows but failed
        // for this record means damage.
        let is_sound = rowids.damage.is_none() && database.is_sound(self.table);
        let mut is_whole = is_sound && !self.has_index;
        for (_, rowid) in pairs.iter().take_while(|pair| pair.0 == record) {
            monitor.check()?;
            is_whole &= read_values(database, &mut self.by_rowid, *rowid, found)?;
        }
        Ok(is_whole)
    }

    /// Visits the rows found by `find`. Returns whether all large texts could be read.
    fn visit_found(
        &mut self,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(String, Option<Value>),
    ) -> Result<bool> {
        let mut is_whole = true;
        for row in self.found.drain(..) {
            let value = match row.large {
                None => row.value,
                Some(rowid) => {
                    let text = self.large.read(rowid, monitor)?;
                    is_whole &= text.is_some();
                    text.map(Value::Text)
                }
            };
            visit(row.key, value);
        }
        Ok(is_whole)
    }
}

/// Appends the rows of a statement's result. Returns whether all of them could be read.
fn read_values(
    database: &Database,
    statement: &mut Statement<'_>,
    argument: i64,
    found: &mut Vec<ValueRow>,
) -> Result<bool> {
    let mut rows = statement
        .query([argument])
        .map_err(|error| database.failed(error))?;
    loop {
        match rows.next() {
            Ok(Some(row)) => found.extend(ValueRow::of(row)),
            Ok(None) => return Ok(true),
            Err(error) if database.is_damage(&error) => return Ok(false),
            Err(error) => return Err(database.failed(error)),
        }
    }
}

impl Ahead {
    fn clear(&mut self) {
        self.records = None;
        self.rows.clear();
    }

    /// Moves the rows of a record to `found`, and drops the rows of earlier records. Returns false
    /// if the record was not read ahead.
    fn take(&mut self, record: i64, found: &mut Vec<ValueRow>) -> bool {
        let end = match self.records {
            Some((first, end)) if (first..=end).contains(&record) => end,
            _ => return false,
        };
        // Rows of earlier records are gone, so the range must not be used for them again.
        self.records = record.checked_add(1).map(|next| (next, end));
        while self.rows.front().is_some_and(|row| row.0 <= record) {
            match self.rows.pop_front() {
                Some((of, row)) if of == record => found.push(row),
                _ => {}
            }
        }
        true
    }
}

impl Rowids {
    fn read(database: &Database, table: &'static str, monitor: &Monitor<'_>) -> Result<Self> {
        let mut pairs = Vec::new();
        let all = (i64::MIN, i64::MAX);
        let damage = database.scan(table, "id", all, monitor, |rowid, row| {
            if let Some(record) = super::integer(row, 1) {
                memory::reserve(
                    &mut pairs,
                    1,
                    "hold where the values of a damaged table are",
                )?;
                pairs.push((record, rowid));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        pairs.sort_unstable();
        Ok(Self { pairs, damage })
    }
}

impl Database {
    fn rowids(&self, table: &'static str, monitor: &Monitor<'_>) -> Result<&Rowids> {
        let known = &self.value_tables.get(table).rowids;
        if let Some(rowids) = known.get() {
            return Ok(rowids);
        }
        let rowids = Rowids::read(self, table, monitor)?;
        Ok(known.get_or_init(|| rowids))
    }

    /// Returns true if an index finds the rows of a record without a scan of the table.
    fn has_value_index(&self, table: &str) -> Result<bool> {
        let known = &self.value_tables.get(table).has_index;
        if let Some(has_index) = known.get() {
            return Ok(*has_index);
        }
        let has_index = self.has_index_on(table, "id")?;
        Ok(*known.get_or_init(|| has_index))
    }

    pub(super) fn is_empty(&self, table: &str) -> Result<bool> {
        if !self.has_table(table) {
            return Ok(true);
        }
        let exists = self
            .prepare(&format!("SELECT 1 FROM {table} LIMIT 1"))?
            .exists([]);
        match exists {
            Ok(exists) => Ok(!exists),
            Err(error) if self.is_damage(&error) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }
}
