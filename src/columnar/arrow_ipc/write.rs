//! The Arrow IPC file and stream formats.
//!
//! Both contain the same messages: schema, record batches and an end marker. A file also has a
//! magic number in front and a footer at the end, which allow random access.

#[cfg(feature = "wire")]
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow2::datatypes::Schema;
#[cfg(feature = "wire")]
use arrow2::io::ipc::write::StreamWriter;
use arrow2::io::ipc::write::{FileWriter, WriteOptions};

#[cfg(feature = "wire")]
use crate::columnar::batches::StreamSink;
use crate::columnar::batches::{Batch, BatchSink};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;

// Embeddings compress little, and uncompressed buffers can be mapped by readers.
const UNCOMPRESSED: WriteOptions = WriteOptions { compression: None };

/// Writes record batches to a file.
pub(crate) struct IpcFile<'o> {
    writer: FileWriter<&'o mut AtomicFile>,
    target: PathBuf,
}

impl<'o> IpcFile<'o> {
    pub(crate) fn new(output: &'o mut AtomicFile, schema: Schema) -> Result<Self> {
        // Kept for errors, because the writer borrows the output.
        let target = output.target().to_path_buf();
        let writer = FileWriter::try_new(output, schema, None, UNCOMPRESSED)
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

/// Writes record batches to a stream.
#[cfg(feature = "wire")]
pub(crate) struct IpcStream<W: Write> {
    writer: StreamWriter<W>,
}

#[cfg(feature = "wire")]
impl<W: Write> IpcStream<W> {
    pub(crate) fn new(output: W) -> Self {
        Self {
            writer: StreamWriter::new(output, UNCOMPRESSED),
        }
    }

    /// Writes the end-of-stream marker. A stream dropped before this call has no
    /// marker.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer.finish().map_err(output_error)?;
        let flushed = self.writer.into_inner().flush();
        flushed.map_err(Error::callback)
    }
}

#[cfg(feature = "wire")]
impl<W: Write> BatchSink for IpcStream<W> {
    fn write(&mut self, batch: Batch) -> Result<()> {
        self.writer.write(&batch, None).map_err(output_error)
    }
}

#[cfg(feature = "wire")]
impl<W: Write> StreamSink for IpcStream<W> {
    fn begin(&mut self, schema: Schema) -> Result<()> {
        self.writer.start(&schema, None).map_err(output_error)
    }
}

/// Maps a write error to the caller's, because the output of a stream belongs to the caller.
#[cfg(feature = "wire")]
fn output_error(error: arrow2::error::Error) -> Error {
    match error {
        arrow2::error::Error::Io(source) => Error::callback(source),
        other => Error::internal(other),
    }
}
