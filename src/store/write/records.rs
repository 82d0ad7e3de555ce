//! Rows of `embeddings`, `embedding_metadata` and `embedding_metadata_array`.

use rusqlite::{Statement, ToSql};

use super::DatabaseWriter;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::store::collection::Row;
use crate::store::metadata::{Map, Value, DOCUMENT, URI};
use crate::store::Database;

/// Typed columns of a value: text, integer, float, boolean.
type Columns<'v> = (Option<&'v str>, Option<i64>, Option<f64>, Option<bool>);

/// Writes the records of all collections.
pub(crate) struct RecordWriter<'w> {
    writer: &'w DatabaseWriter,
    embedding: Statement<'w>,
    value: Statement<'w>,
    /// `None` before Chroma 1.5, which introduced lists.
    element: Option<Statement<'w>>,
    seq_id: rusqlite::types::Value,
    has_bool: bool,
    /// The id of the next record that has none.
    next_id: i64,
    /// The first of these ids, if every record keeps its id.
    pub(crate) first_new: Option<i64>,
}

impl<'w> RecordWriter<'w> {
    pub(crate) fn new(
        writer: &'w DatabaseWriter,
        old: &Database,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let last = old.last_rowid("embeddings", monitor)?.unwrap_or_default();
        // After the largest id no new one can follow: Chroma cannot add either.
        let next_id = last
            .max(0)
            .checked_add(1)
            .filter(|next| *next < i64::MAX / 2);
        let has_bool = writer
            .columns("embedding_metadata")?
            .iter()
            .any(|column| column == "bool_value");
        let value = match has_bool {
            true => {
                "INSERT OR IGNORE INTO embedding_metadata (id, key, string_value, int_value, \
                 float_value, bool_value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            }
            false => {
                "INSERT OR IGNORE INTO embedding_metadata (id, key, string_value, int_value, \
                 float_value) VALUES (?1, ?2, ?3, ?4, ?5)"
            }
        };
        let element = match writer.columns("embedding_metadata_array")?.is_empty() {
            true => None,
            false => Some(writer.prepare(
                "INSERT INTO embedding_metadata_array (id, key, string_value, int_value, \
                 float_value, bool_value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?),
        };
        Ok(Self {
            embedding: writer.prepare(
                "INSERT OR IGNORE INTO embeddings (id, segment_id, embedding_id, seq_id, \
                 created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            value: writer.prepare(value)?,
            element,
            seq_id: writer.stored_seq_id(writer.last_write.seq_id),
            has_bool,
            first_new: next_id,
            next_id: next_id.unwrap_or(1),
            writer,
        })
    }

    /// Writes a record of the collection with this metadata segment. Returns its id in `embeddings`,
    /// or `None` if the collection already has a record with the user's id.
    pub(crate) fn push(&mut self, segment: &str, row: &Row<'_>) -> Result<Option<i64>> {
        let known = row.rowid.filter(|_| self.first_new.is_some());
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.next_id;
                self.next_id = id
                    .checked_add(1)
                    .ok_or_else(|| Error::internal("ids beyond 64 bits"))?;
                id
            }
        };
        let created_at = row.created_at.unwrap_or(&self.writer.now);
        let writer = self.writer;
        let written = writer.run(
            &mut self.embedding,
            &[&id, &segment, &row.id, &self.seq_id, &created_at],
        )?;
        if written == 0 {
            return Ok(None);
        }
        let texts = &row.texts;
        for (key, text) in [(DOCUMENT, &texts.document), (URI, &texts.uri)] {
            if let Some(text) = text {
                self.push_value(id, key, (Some(text), None, None, None))?;
            }
        }
        for key in &texts.nan {
            self.push_value(id, key, (None, None, None, None))?;
        }
        self.push_map(id, &texts.metadata)?;
        self.push_map(id, &texts.hidden)?;
        Ok(Some(id))
    }

    fn push_map(&mut self, id: i64, map: &Map) -> Result<()> {
        for (key, value) in map.iter() {
            match value {
                Value::List(values) => self.push_list(id, key, values)?,
                value => self.push_value(id, key, columns(value))?,
            }
        }
        Ok(())
    }

    fn push_value(&mut self, id: i64, key: &str, value: Columns<'_>) -> Result<()> {
        let (text, int, float, boolean) = value;
        // Before Chroma 0.4.4 a boolean is an integer.
        let int = int.or(boolean.filter(|_| !self.has_bool).map(i64::from));
        let parameters: [&dyn ToSql; 6] = [&id, &key, &text, &int, &float, &boolean];
        let count = if self.has_bool { 6 } else { 5 };
        let parameters = parameters.get(..count).unwrap_or_default();
        self.writer.run(&mut self.value, parameters)?;
        Ok(())
    }

    fn push_list(&mut self, id: i64, key: &str, values: &[Value]) -> Result<()> {
        let Some(element) = &mut self.element else {
            return Err(Error::argument(
                "lists",
                format!("the list {key:?} in the metadata of a record"),
                "json, or a store or template of Chroma 1.5 or later, the first with lists",
            ));
        };
        for value in values {
            let (text, int, float, boolean) = columns(value);
            self.writer
                .run(element, &[&id, &key, &text, &int, &float, &boolean])?;
        }
        Ok(())
    }
}

fn columns(value: &Value) -> Columns<'_> {
    match value {
        Value::Text(text) => (Some(text), None, None, None),
        Value::Int(value) => (None, Some(*value), None, None),
        Value::Float(value) => (None, None, Some(*value), None),
        Value::Bool(value) => (None, None, None, Some(*value)),
        // A list never holds a list.
        Value::List(_) | Value::Null => (None, None, None, None),
    }
}
