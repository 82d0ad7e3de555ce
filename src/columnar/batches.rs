//! Builds record batches of at most `batch_size` rows, for Arrow IPC files and streams.

use arrow2::array::Array;
use arrow2::chunk::Chunk;

use super::columns::{Builder, Capacity, Schema};
use super::source::{fill, ColumnSource, WriteOptions};
use crate::error::{Error, Result};

/// Soft limit on the bytes of vectors per record batch. It lowers the number of rows per batch.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// Soft limit on the bytes of strings per record batch; the value that crosses it is still
/// included.
const MAX_STRING_BYTES: usize = 32 << 20;

/// Soft limit on all bytes per record batch when rows are pushed one at a time. It bounds memory
/// for strings of any size.
const MAX_PUSHED_BYTES: usize = 4 << 20;

/// The columns of a record batch.
#[cfg_attr(not(feature = "wire"), expect(unreachable_pub))]
pub type Batch = Chunk<Box<dyn Array>>;

/// Receives record batches.
pub(crate) trait BatchSink {
    /// Takes a batch. If the call drops it, its vector buffer is reused for the next batch.
    fn write(&mut self, batch: Batch) -> Result<()>;
}

/// Receives record batches, preceded by their schema.
#[cfg(feature = "wire")]
pub(crate) trait StreamSink: BatchSink {
    /// Takes the schema. Called once, before the first batch.
    fn begin(&mut self, schema: arrow2::datatypes::Schema) -> Result<()>;
}

#[cfg(feature = "wire")]
impl BatchSink for &mut dyn StreamSink {
    fn write(&mut self, batch: Batch) -> Result<()> {
        (**self).write(batch)
    }
}

/// Collects rows into record batches.
pub(super) struct BatchWriter<S> {
    sink: S,
    builders: Vec<Builder>,
    /// Maximum number of rows in a record batch.
    batch_rows: usize,
}

impl<S: BatchSink> BatchWriter<S> {
    pub(super) fn new(sink: S, schema: &Schema, options: &WriteOptions) -> Result<Self> {
        let batch_rows = options.batch_rows(MAX_BATCH_BYTES, schema.vector_bytes());
        let capacity = Capacity {
            // Only rows bound a builder here; bytes are counted per group or per row.
            rows: batch_rows,
            bytes: usize::MAX,
        };
        let builders = schema
            .columns
            .iter()
            .map(|column| Builder::new(column.clone(), capacity))
            .collect::<Result<_>>()?;
        Ok(Self {
            sink,
            builders,
            batch_rows,
        })
    }

    /// Writes a record batch for each group of rows.
    pub(super) fn write_batches(&mut self, source: &mut impl ColumnSource) -> Result<()> {
        loop {
            let rows = source.next_group(self.batch_rows, MAX_STRING_BYTES)?;
            if rows == 0 {
                return Ok(());
            }
            for (column, builder) in self.builders.iter_mut().enumerate() {
                fill(source, column, 0..rows, builder)?;
            }
            self.end_batch()?;
        }
    }

    /// The builders into which the caller pushes the values of a row.
    pub(super) fn builders(&mut self) -> &mut [Builder] {
        &mut self.builders
    }

    /// Flushes the builders when they are full.
    pub(super) fn end_row(&mut self) -> Result<()> {
        let bytes: usize = self.builders.iter().map(Builder::bytes).sum();
        if bytes >= MAX_PUSHED_BYTES || self.builders.iter().any(Builder::is_full) {
            self.end_batch()?;
        }
        Ok(())
    }

    /// Flushes the builders as one record batch; does nothing if they are empty.
    pub(super) fn end_batch(&mut self) -> Result<()> {
        if self.builders.iter().all(Builder::is_empty) {
            return Ok(());
        }
        let arrays = self.builders.iter_mut().map(Builder::finish);
        let batch = Chunk::try_new(arrays.collect::<Result<_>>()?).map_err(Error::internal)?;
        self.sink.write(batch)?;
        // If the sink has dropped the batch, the builders take its buffers back.
        self.builders.iter_mut().try_for_each(Builder::clear)
    }

    /// Returns the sink after the last batch.
    pub(super) fn into_sink(self) -> S {
        self.sink
    }
}
