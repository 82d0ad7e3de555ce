//! Record batches of arrow2 builders, one for each `batch_size` rows: what an Arrow IPC file and a
//! stream are made of.

use arrow2::array::Array;
use arrow2::chunk::Chunk;

use super::columns::{Builder, Capacity, Schema};
use super::source::{fill, ColumnSource, WriteOptions};
use crate::error::{Error, Result};

/// A record batch holds fewer than `batch_size` rows when their vectors would exceed this.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// And it ends when its strings hold this much.
const MAX_STRING_BYTES: usize = 32 << 20;

/// It ends, too, when rows that are pushed hold this much: their strings may be of any size.
const MAX_PUSHED_BYTES: usize = 4 << 20;

/// The columns of some rows.
#[cfg_attr(not(feature = "wire"), expect(unreachable_pub))]
pub type Batch = Chunk<Box<dyn Array>>;

/// Takes record batches.
pub(crate) trait BatchSink {
    /// Takes a batch. When this call drops it, the next vectors get the memory of its own.
    fn write(&mut self, batch: Batch) -> Result<()>;
}

/// Takes record batches whose schema it learns first.
#[cfg(feature = "wire")]
pub(crate) trait StreamSink: BatchSink {
    /// Takes the schema, once.
    fn begin(&mut self, schema: arrow2::datatypes::Schema) -> Result<()>;
}

#[cfg(feature = "wire")]
impl BatchSink for &mut dyn StreamSink {
    fn write(&mut self, batch: Batch) -> Result<()> {
        (**self).write(batch)
    }
}

/// Makes record batches of rows.
pub(super) struct BatchWriter<S> {
    sink: S,
    builders: Vec<Builder>,
    /// Most rows in a record batch.
    batch_rows: usize,
}

impl<S: BatchSink> BatchWriter<S> {
    pub(super) fn new(sink: S, schema: &Schema, options: &WriteOptions) -> Result<Self> {
        let batch_rows = options.batch_rows(MAX_BATCH_BYTES, schema.vector_bytes());
        let capacity = Capacity {
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

    /// To push a row's values into.
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

    /// Flushes what the builders hold, if anything, as a record batch.
    pub(super) fn end_batch(&mut self) -> Result<()> {
        if self.builders.iter().all(Builder::is_empty) {
            return Ok(());
        }
        let arrays = self.builders.iter_mut().map(Builder::finish);
        let batch = Chunk::try_new(arrays.collect::<Result<_>>()?).map_err(Error::internal)?;
        self.sink.write(batch)?;
        // The builders get the memory of the arrays back.
        self.builders.iter_mut().try_for_each(Builder::clear)
    }

    /// What has taken the batches.
    pub(super) fn into_sink(self) -> S {
        self.sink
    }
}
