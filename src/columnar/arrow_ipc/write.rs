//! The Arrow IPC file format.

use std::path::{Path, PathBuf};

use arrow2::datatypes::Schema;
use arrow2::io::ipc::write::{FileWriter, WriteOptions};

use crate::columnar::batches::{Batch, BatchSink};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;

/// A file that takes record batches.
pub(crate) struct IpcFile<'o> {
    writer: FileWriter<&'o mut AtomicFile>,
    target: PathBuf,
}

impl<'o> IpcFile<'o> {
    pub(crate) fn new(output: &'o mut AtomicFile, schema: Schema) -> Result<Self> {
        let target = output.target().to_path_buf();
        let options = WriteOptions { compression: None };
        let writer = FileWriter::try_new(output, schema, None, options)
            .map_err(|error| write_error(&target, error))?;
        Ok(Self { writer, target })
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer
            .finish()
            .map_err(|error| write_error(&self.target, error))
    }
}

impl BatchSink for IpcFile<'_> {
    fn write(&mut self, batch: Batch) -> Result<()> {
        self.writer
            .write(&batch, None)
            .map_err(|error| write_error(&self.target, error))
    }
}

fn write_error(target: &Path, error: arrow2::error::Error) -> Error {
    match error {
        arrow2::error::Error::Io(source) => Error::io(target, "write")(source),
        other => Error::internal(other),
    }
}
