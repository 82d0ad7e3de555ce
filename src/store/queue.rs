//! Reader of `embeddings_queue`, the queue of writes.
//!
//! All collections share one sequence of numbers. The last part of a row's topic is the
//! collection's id. The parts before it are configuration, not the names of a tenant or a database.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use super::large::{is_mark, LargeTexts};
use super::runs::Runs;
use super::{integer, text_ref, Damage, Database};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;

const TABLE: &str = "embeddings_queue";

/// Operation of a queue row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Update,
    Upsert,
    Delete,
    /// Chroma's bookkeeping; it changes no record.
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

/// State of a row's vector, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoggedVector {
    Absent,
    /// Number of components.
    Floats(usize),
    /// Another encoding, or a length that is not a multiple of 4.
    Unreadable,
}

/// A queue row, without its contents.
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

/// Queue rows of each collection, and the queue's damage.
#[derive(Debug)]
pub(crate) struct Topics {
    runs: Runs,
    /// Damage from each of these sequence numbers to the end, ascending. Lost rows may belong to
    /// any collection.
    lost: Vec<(i64, Damage)>,
}

impl Topics {
    pub(crate) fn read<'c>(
        database: &Database,
        collections: impl IntoIterator<Item = &'c str>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let mut runs = Runs::of(collections);
        // Both closures below append to it.
        let lost = RefCell::new(Vec::new());
        let lose = |seq_id, damage| {
            let mut lost = lost.borrow_mut();
            memory::reserve(&mut lost, 1, "hold which rows of the queue are lost")?;
            lost.push((seq_id, damage));
            Ok(())
        };
        let all = (i64::MIN, i64::MAX);
        database.scan_ranges(
            TABLE,
            "topic",
            [all],
            monitor,
            |seq_id, row| {
                match text_ref(row, 1) {
                    Some(topic) => runs.push(seq_id, collection_of(&topic))?,
                    None => {
                        runs.push_unknown();
                        lose(seq_id, Damage { rows: 1, ranges: 0 })?;
                    }
                }
                Ok(ControlFlow::Continue(()))
            },
            lose,
        )?;
        let mut lost = lost.into_inner();
        let mut sum = Damage::default();
        // Suffix sums: each entry gets the damage from its row to the end.
        for (_, damage) in lost.iter_mut().rev() {
            sum.add(*damage);
            *damage = sum;
        }
        Ok(Self { runs, lost })
    }

    /// Damage to the rows from `first` on.
    fn lost_from(&self, first: i64) -> Damage {
        let at = self.lost.partition_point(|(seq_id, _)| *seq_id < first);
        self.lost.get(at).map_or(Damage::default(), |lost| lost.1)
    }
}

/// Ids of the collections that have rows.
pub(super) fn collections(database: &Database, monitor: &Monitor<'_>) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let all = (i64::MIN, i64::MAX);
    database.scan(TABLE, "topic", all, monitor, |_, row| {
        if let Some(topic) = text_ref(row, 1) {
            let id = collection_of(&topic);
            if !ids.contains(id) {
                ids.insert(id.to_string());
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}

impl Database {
    /// Visits the rows of a collection in `range`, in order of their sequence numbers. Without
    /// `topics`, all rows are scanned.
    pub(crate) fn queue(
        &self,
        collection: &str,
        topics: Option<&Topics>,
        range: (i64, i64),
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(QueueRow<'_>) -> Result<()>,
    ) -> Result<Damage> {
        // `typeof` and `octet_length` do not load the vector.
        let columns = "topic, operation, id, typeof(vector), octet_length(vector), encoding";
        let all = [(i64::MIN, i64::MAX)];
        let runs = topics.map_or(all.as_slice(), |topics| topics.runs.get(collection));
        let skipped = runs.partition_point(|(_, last)| *last < range.0);
        let runs = runs.get(skipped..).unwrap_or_default().iter();
        let runs = runs.map(|(first, last)| ((*first).max(range.0), (*last).min(range.1)));
        let mut unreadable = 0;
        let mut damage = Damage::default();
        let visit_row = |seq_id: i64, row: &Row<'_>| {
            let topic = text_ref(row, 1);
            // A row without a topic may belong to any collection. `topics` has counted it already.
            unreadable += u64::from(topic.is_none() && topics.is_none());
            if topic.as_deref().map(collection_of) != Some(collection) {
                return Ok(ControlFlow::Continue(()));
            }
            let length = integer(row, 5).and_then(|length| usize::try_from(length).ok());
            let vector = match (row.get_ref(4), length, row.get_ref(6)) {
                (Ok(ValueRef::Text(b"null")), ..) => LoggedVector::Absent,
                // An empty BLOB has no components and counts as no vector.
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
        };
        self.scan_ranges(TABLE, columns, runs, monitor, visit_row, |_, lost| {
            damage.add(lost);
            Ok(())
        })?;
        // Rows skipped outside the runs may also belong to this collection.
        damage.widen(topics.map_or(Damage::default(), |topics| topics.lost_from(range.0)));
        damage.rows += unreadable;
        Ok(damage)
    }
}

/// Content of a queue row, if readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<T> {
    Readable(T),
    Damaged,
}

/// Reads the contents of single queue rows.
#[derive(Debug)]
pub(crate) struct QueueReader<'d> {
    database: &'d Database,
    large: LargeTexts<'d>,
    vector: Statement<'d>,
    metadata: Statement<'d>,
    id: Statement<'d>,
}

impl<'d> QueueReader<'d> {
    /// Returns `None` if there is no queue.
    pub(crate) fn new(database: &'d Database) -> Result<Option<Self>> {
        if !database.has_table(TABLE) {
            return Ok(None);
        }
        let large = LargeTexts::new(database, TABLE, "metadata")?;
        let column = |column: &str| {
            database.prepare(&format!("SELECT {column} FROM {TABLE} WHERE seq_id = ?1"))
        };
        Ok(Some(Self {
            database,
            vector: column("vector")?,
            metadata: column(&large.marked())?,
            id: column("id")?,
            large,
        }))
    }

    /// Appends the components of a row's vector. Returns whether the row has one.
    pub(crate) fn vector(
        &mut self,
        seq_id: i64,
        out: &mut Vec<f32>,
        monitor: &Monitor<'_>,
    ) -> Result<Stored<bool>> {
        let start = out.len();
        let found = read(self.database, &mut self.vector, seq_id, |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Blob(bytes) => {
                    let (floats, _) = bytes.as_chunks::<4>();
                    out.extend(floats.iter().map(|float| f32::from_le_bytes(*float)));
                    true
                }
                _ => false,
            })
        })?;
        let bytes = out
            .len()
            .saturating_sub(start)
            .saturating_mul(size_of::<f32>());
        if self.large.is_large(bytes) && !self.large.is_row_whole(seq_id, monitor)? {
            return Ok(Stored::Damaged);
        }
        Ok(found)
    }

    /// Reads the JSON object with a row's document and metadata.
    pub(crate) fn metadata(
        &mut self,
        seq_id: i64,
        monitor: &Monitor<'_>,
    ) -> Result<Stored<Option<String>>> {
        let found = read(self.database, &mut self.metadata, seq_id, |row| {
            Ok((super::text(row, 0), is_mark(row, 0)))
        })?;
        Ok(match found {
            Stored::Damaged => Stored::Damaged,
            Stored::Readable((text, false)) => Stored::Readable(text),
            Stored::Readable((_, true)) => match self.large.read(seq_id, monitor)? {
                Some(text) => Stored::Readable(Some(text)),
                None => Stored::Damaged,
            },
        })
    }

    /// Reads the id that a row refers to.
    pub(crate) fn id(&mut self, seq_id: i64) -> Result<Stored<Option<String>>> {
        read(self.database, &mut self.id, seq_id, |row| {
            Ok(super::text(row, 0))
        })
    }
}

/// Reads a column of a row. Content beyond the leaf page may be damaged even if the row is not.
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
