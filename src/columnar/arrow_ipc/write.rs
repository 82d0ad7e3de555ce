//! The Arrow IPC file format: a record batch for each `batch_size` rows.

use arrow2::chunk::Chunk;
use arrow2::io::ipc::write::{FileWriter, WriteOptions as IpcOptions};

use crate::columnar::columns::{Builder, Capacity, Schema};
use crate::columnar::source::{fill, ColumnSource, WriteOptions};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;

/// A record batch holds fewer than `batch_size` rows when their vectors would exceed this.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// And it ends when its strings hold this much.
const MAX_STRING_BYTES: usize = 32 << 20;

/// It ends, too, when rows that are pushed hold this much: their strings may be of any size.
const MAX_PUSHED_BYTES: usize = 4 << 20;

pub(crate) struct IpcWriter<'o> {
    writer: FileWriter<&'o mut AtomicFile>,
    target: std::path::PathBuf,
    builders: Vec<Builder>,
    /// Most rows in a record batch.
    batch_rows: usize,
}

impl<'o> IpcWriter<'o> {
    pub(crate) fn new(
        output: &'o mut AtomicFile,
        schema: &Schema,
        options: &WriteOptions,
    ) -> Result<Self> {
        let target = output.target().to_path_buf();
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
        let writer = FileWriter::try_new(
            output,
            schema.arrow(),
            None,
            IpcOptions { compression: None },
        )
        .map_err(|error| write_error(&target, error))?;
        Ok(Self {
            writer,
            target,
            builders,
            batch_rows,
        })
    }

    /// Writes a record batch for each group of rows.
    pub(crate) fn write_batches(&mut self, source: &mut impl ColumnSource) -> Result<()> {
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
    pub(crate) fn builders(&mut self) -> &mut [Builder] {
        &mut self.builders
    }

    /// Flushes the builders when they are full.
    pub(crate) fn end_row(&mut self) -> Result<()> {
        let bytes: usize = self.builders.iter().map(Builder::bytes).sum();
        if bytes >= MAX_PUSHED_BYTES || self.builders.iter().any(Builder::is_full) {
            self.end_batch()?;
        }
        Ok(())
    }

    /// Flushes what the builders hold, if anything, as a record batch.
    pub(crate) fn end_batch(&mut self) -> Result<()> {
        if self.builders.iter().all(Builder::is_empty) {
            return Ok(());
        }
        let arrays = self.builders.iter_mut().map(Builder::finish);
        let batch = Chunk::try_new(arrays.collect::<Result<_>>()?).map_err(Error::internal)?;
        self.writer
            .write(&batch, None)
            .map_err(|error| write_error(&self.target, error))?;
        // The builders get the memory of the arrays back.
        drop(batch);
        self.builders.iter_mut().try_for_each(Builder::clear)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer
            .finish()
            .map_err(|error| write_error(&self.target, error))
    }
}

fn write_error(target: &std::path::Path, error: arrow2::error::Error) -> Error {
    match error {
        arrow2::error::Error::Io(source) => Error::io(target, "write")(source),
        other => Error::internal(other),
    }
}
