//! The end of the queue: its last row, watermarks, and vectors that no segment can hold.

use std::ops::ControlFlow;

use rusqlite::types::Value;

use super::{owned, DatabaseWriter};
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::store::Database;

const TABLE: &str = "embeddings_queue";

/// Columns of the queue after its sequence number.
const COLUMNS: [&str; 7] = [
    "created_at",
    "operation",
    "topic",
    "id",
    "vector",
    "encoding",
    "metadata",
];

/// Chroma's name of an update that also adds.
const UPSERT: i64 = 2;
const DELETE: i64 = 3;

/// Start of a topic, before the id of the collection. Tenant and namespace are not rows of
/// `tenants`: Chroma never sets them.
pub(super) const TOPIC: &str = "persistent://default/default/";

/// The last write of the queue. Everything up to it is applied in a new store.
#[derive(Debug)]
pub(crate) struct LastWrite {
    /// 1 for an empty queue, which gets a row that changes nothing: Chroma before 1.0 takes the
    /// watermark 0 for none, and ignores the first write.
    pub(crate) seq_id: i64,
    /// The values of the other columns, unless they are unreadable.
    row: Option<Vec<Value>>,
}

impl Default for LastWrite {
    fn default() -> Self {
        Self {
            seq_id: 1,
            row: None,
        }
    }
}

impl LastWrite {
    pub(crate) fn read(database: &Database, monitor: &Monitor<'_>) -> Result<Self> {
        if !database.has_table(TABLE) {
            return Ok(Self::default());
        }
        let last = database.last_rowid(TABLE, monitor)?;
        let Some(seq_id) = last.filter(|seq_id| *seq_id > 0) else {
            return Ok(Self::default());
        };
        let mut row = None;
        let columns = COLUMNS.map(|column| database.column_or_null(TABLE, column));
        let columns = columns.join(", ");
        database.scan(TABLE, &columns, (seq_id, seq_id), monitor, |_, found| {
            let values = (1..=COLUMNS.len()).map(|at| found.get_ref(at).map(owned));
            row = values.collect::<Result<Vec<_>, _>>().ok();
            Ok(ControlFlow::Break(()))
        })?;
        Ok(Self { seq_id, row })
    }
}

impl DatabaseWriter {
    /// Writes the last row of the old queue, so that the next write gets the number after it.
    pub(super) fn write_last_row(&self) -> Result<()> {
        let LastWrite { seq_id, row } = &self.last_write;
        let is_valid = |row: &&Vec<Value>| {
            // The first four columns are NOT NULL.
            row.iter().take(4).all(|value| *value != Value::Null)
        };
        let mut insert = self.prepare(INSERT)?;
        match row.as_ref().filter(is_valid).map(Vec::as_slice) {
            Some([created_at, operation, topic, id, vector, encoding, metadata]) => self.run(
                &mut insert,
                &[
                    seq_id, created_at, operation, topic, id, vector, encoding, metadata,
                ],
            ),
            // A row of no collection, which every Chroma skips.
            _ => self.run(
                &mut insert,
                &[
                    seq_id,
                    &self.now,
                    &DELETE,
                    &format!("{TOPIC}00000000-0000-0000-0000-000000000000"),
                    &"",
                    &None::<Vec<u8>>,
                    &None::<&str>,
                    &None::<&str>,
                ],
            ),
        }?;
        Ok(())
    }

    /// Sets the watermarks of a collection: everything is applied, except the last `queued` rows
    /// of the queue, which only the vector segment has yet to apply.
    pub(crate) fn write_watermarks(
        &self,
        vector_segment: &str,
        metadata_segment: &str,
        queued: Queued,
    ) -> Result<()> {
        let sql = "INSERT INTO max_seq_id (segment_id, seq_id) VALUES (?1, ?2)";
        let vector = self.stored_seq_id(self.last_write.seq_id);
        let metadata = self.stored_seq_id(queued.last);
        self.execute(sql, &[&vector_segment, &vector])?;
        self.execute(sql, &[&metadata_segment, &metadata])?;
        Ok(())
    }

    /// Removes the vector of the last row if it is of a record that has none: that row did not change
    /// the record, and a search of the whole queue must not take it for the record's.
    pub(crate) fn forget_last_vector(&self, collection: &str, id: &str) -> Result<()> {
        // Compared first, because it is called for every record without a vector.
        let last = self.last_write.row.as_ref().and_then(|row| row.get(3));
        if !matches!(last, Some(Value::Text(last)) if last == id) {
            return Ok(());
        }
        self.execute(
            "UPDATE embeddings_queue SET vector = NULL, encoding = NULL \
             WHERE seq_id = ?1 AND id = ?2 AND topic LIKE '%/' || ?3",
            &[&self.last_write.seq_id, &id, &collection],
        )?;
        Ok(())
    }

    /// Returns the end of the queue.
    pub(crate) fn queued(&self) -> Queued {
        Queued {
            last: self.last_write.seq_id,
        }
    }

    /// Appends a vector that no segment can hold to the queue.
    pub(crate) fn push_queued(
        &self,
        queued: &mut Queued,
        collection: &str,
        id: &str,
        vector: &[f32],
    ) -> Result<()> {
        queued.last = queued
            .last
            .checked_add(1)
            .ok_or_else(|| Error::internal("a sequence number beyond 64 bits"))?;
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut insert = self.prepare(INSERT)?;
        self.run(
            &mut insert,
            &[
                &queued.last,
                &self.now,
                &UPSERT,
                &format!("{TOPIC}{collection}"),
                &id,
                &bytes,
                &"FLOAT32",
                &None::<&str>,
            ],
        )?;
        Ok(())
    }
}

/// The end of the new queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    last: i64,
}

const INSERT: &str = "INSERT INTO embeddings_queue (seq_id, created_at, operation, topic, id, \
                      vector, encoding, metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
