//! `embeddings_queue`: the log of writes.
//!
//! There is one sequence of numbers for all collections. Which collection a row belongs to is the
//! last part of its topic; the parts before are configuration, not the names of a tenant or a
//! database.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use super::{integer, text_ref, Damage, Database};
use crate::error::Result;
use crate::progress::Monitor;

const TABLE: &str = "embeddings_queue";

/// What a row of the log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Update,
    Upsert,
    Delete,
    /// Chroma's own bookkeeping.
    Backfill,
    Unknown(i64),
}

impl Operation {
    fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Add,
            1 => Self::Update,
            2 => Self::Upsert,
            3 => Self::Delete,
            4 => Self::Backfill,
            other => Self::Unknown(other),
        }
    }
}

/// The vector of a row, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoggedVector {
    Absent,
    /// Of so many components.
    Floats(usize),
    /// In another encoding, or no whole number of floats.
    Unreadable,
}

/// A row of the log, without its contents.
#[derive(Clone, Debug)]
pub(crate) struct QueueRow<'r> {
    pub(crate) seq_id: i64,
    pub(crate) operation: Operation,
    pub(crate) id: Cow<'r, str>,
    pub(crate) vector: LoggedVector,
}

fn collection_of(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap_or(topic)
}

/// Where in the log the rows of each collection are: the first and the last sequence number.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_collection: BTreeMap<String, (i64, i64)>,
    /// Those of rows that may be of any collection.
    unreadable: Option<(i64, i64)>,
}

impl Topics {
    pub(crate) fn read(database: &Database, monitor: &Monitor<'_>) -> Result<Self> {
        let mut topics = Self::default();
        let all = (i64::MIN, i64::MAX);
        // What is stepped over here is counted when the rows are read.
        database.scan(TABLE, "topic", all, monitor, |seq_id, row| {
            match text_ref(row, 1) {
                None => {
                    let (_, last) = topics.unreadable.get_or_insert((seq_id, seq_id));
                    *last = seq_id;
                }
                Some(topic) => {
                    let collection = collection_of(&topic);
                    match topics.by_collection.get_mut(collection) {
                        Some((_, last)) => *last = seq_id,
                        None => {
                            let range = (seq_id, seq_id);
                            topics.by_collection.insert(collection.to_string(), range);
                        }
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(topics)
    }

    /// The ids of the collections that have rows.
    pub(crate) fn collections(self) -> Vec<String> {
        self.by_collection.into_keys().collect()
    }

    /// Among which sequence numbers all rows of a collection are. When there are none: beyond every
    /// row, so that none is looked at.
    pub(crate) fn range_of(&self, collection: &str) -> (i64, i64) {
        let ranges = [self.by_collection.get(collection).copied(), self.unreadable];
        ranges
            .into_iter()
            .flatten()
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .unwrap_or((i64::MAX, i64::MAX))
    }
}

impl Database {
    /// Visits the rows of a collection whose sequence numbers are in `range`, in their order.
    pub(crate) fn queue(
        &self,
        collection: &str,
        range: (i64, i64),
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(QueueRow<'_>) -> Result<()>,
    ) -> Result<Damage> {
        // Neither of the functions of `vector` makes SQLite read it.
        let columns = "topic, operation, id, typeof(vector), octet_length(vector), encoding";
        let mut unreadable = 0;
        let mut damage = self.scan(TABLE, columns, range, monitor, |seq_id, row| {
            let topic = text_ref(row, 1);
            // Without a topic, it may be of any collection.
            unreadable += u64::from(topic.is_none());
            if topic.as_deref().map(collection_of) != Some(collection) {
                return Ok(ControlFlow::Continue(()));
            }
            let length = integer(row, 5).and_then(|length| usize::try_from(length).ok());
            let vector = match (row.get_ref(4), length, row.get_ref(6)) {
                (Ok(ValueRef::Text(b"null")), ..) => LoggedVector::Absent,
                (Ok(ValueRef::Text(b"blob")), Some(0), _) => LoggedVector::Absent,
                (
                    Ok(ValueRef::Text(b"blob")),
                    Some(length),
                    Ok(ValueRef::Text(b"FLOAT32") | ValueRef::Null),
                ) if length % 4 == 0 => LoggedVector::Floats(length / 4),
                _ => LoggedVector::Unreadable,
            };
            match (integer(row, 2), text_ref(row, 3)) {
                (Some(operation), Some(id)) => visit(QueueRow {
                    seq_id,
                    operation: Operation::from_code(operation),
                    id,
                    vector,
                })?,
                _ => unreadable += 1,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        damage.rows += unreadable;
        Ok(damage)
    }
}

/// What a row of the log holds, where it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<T> {
    Readable(T),
    Damaged,
}

/// Reads what single rows of the log hold.
#[derive(Debug)]
pub(crate) struct QueueReader<'d> {
    database: &'d Database,
    vector: Statement<'d>,
    metadata: Statement<'d>,
    id: Statement<'d>,
}

impl<'d> QueueReader<'d> {
    /// `None` when there is no log.
    pub(crate) fn new(database: &'d Database) -> Result<Option<Self>> {
        if !database.has_table(TABLE) {
            return Ok(None);
        }
        let column = |column: &str| {
            database.prepare(&format!("SELECT {column} FROM {TABLE} WHERE seq_id = ?1"))
        };
        Ok(Some(Self {
            database,
            vector: column("vector")?,
            metadata: column("metadata")?,
            id: column("id")?,
        }))
    }

    /// Appends the components of a row's vector; says whether there was one.
    pub(crate) fn vector(&mut self, seq_id: i64, out: &mut Vec<f32>) -> Result<Stored<bool>> {
        read(self.database, &mut self.vector, seq_id, |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Blob(bytes) => {
                    let (floats, _) = bytes.as_chunks::<4>();
                    out.extend(floats.iter().map(|float| f32::from_le_bytes(*float)));
                    true
                }
                _ => false,
            })
        })
    }

    /// The JSON object with a row's document and metadata.
    pub(crate) fn metadata(&mut self, seq_id: i64) -> Result<Stored<Option<String>>> {
        read(self.database, &mut self.metadata, seq_id, |row| {
            Ok(super::text(row, 0))
        })
    }

    /// The id that a row is about.
    pub(crate) fn id(&mut self, seq_id: i64) -> Result<Stored<Option<String>>> {
        read(self.database, &mut self.id, seq_id, |row| {
            Ok(super::text(row, 0))
        })
    }
}

/// Reads a column of a row. What does not fit into its page may be in others, which are damaged.
fn read<T: Default>(
    database: &Database,
    statement: &mut Statement<'_>,
    seq_id: i64,
    column: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Stored<T>> {
    match statement.query_row([seq_id], column) {
        Ok(found) => Ok(Stored::Readable(found)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Stored::Readable(T::default())),
        Err(error) if database.is_damage(&error) => Ok(Stored::Damaged),
        Err(error) => Err(database.failed(error)),
    }
}
