//! Records as a stream of Arrow record batches, without a file. The C ABI exports it as an Arrow C
//! stream.
//!
//! A worker thread makes the next batch while the caller uses the current one. It then waits until
//! the caller asks for the batch, so at most two batches are in memory.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread::JoinHandle;

use arrow2::datatypes::Schema;

use crate::base::progress::{CancelToken, Monitor, Progress};
pub use crate::columnar::batches::Batch;
use crate::columnar::batches::{BatchSink, StreamSink};
use crate::error::{Error, Result};
#[cfg(feature = "database")]
use crate::verbs::export::{export_collection_to_batches, ExportOptions};
use crate::verbs::extract::{extract_index_to_batches, ColumnarOptions};

/// The source of a stream.
#[derive(Clone, Debug)]
pub enum StreamSource {
    /// The records of an index. Options about files are ignored.
    Index {
        /// The directory of the index.
        index_dir: PathBuf,
        /// Options of the extraction.
        options: ColumnarOptions,
    },
    /// The records of a collection.
    #[cfg(feature = "database")]
    Collection {
        /// The persist directory.
        persist_dir: PathBuf,
        /// Options of the export of one collection. Options about files are ignored.
        options: ExportOptions,
    },
}

impl StreamSource {
    fn give(&self, monitor: &Monitor<'_>, sink: &mut dyn StreamSink) -> Result<()> {
        match self {
            Self::Index { index_dir, options } => {
                extract_index_to_batches(index_dir, options, monitor, sink).map(drop)
            }
            #[cfg(feature = "database")]
            Self::Collection {
                persist_dir,
                options,
            } => export_collection_to_batches(persist_dir, options, monitor, sink).map(drop),
        }
    }
}

/// An iterator over record batches. An error ends it. If a file changes while it is read, the error
/// comes at the end.
///
/// Dropping the stream cancels the work, and waits for the worker thread to end.
#[derive(Debug)]
pub struct BatchStream {
    schema: Schema,
    /// `None` after the end.
    messages: Option<Receiver<Message>>,
    stop: CancelToken,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Schema(Schema),
    Batch(Batch),
    End(Result<()>),
}

impl BatchStream {
    /// Starts the work, and waits for the schema. `token` cancels the work. `report` is called with
    /// progress from the worker thread.
    ///
    /// # Errors
    ///
    /// Errors of the extraction or export before its first record, and
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if no thread can be spawned.
    pub fn open(
        source: StreamSource,
        token: Option<&CancelToken>,
        report: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Self> {
        let stop = token.map_or_else(CancelToken::new, CancelToken::child);
        // A rendezvous channel: it buffers no batch; the worker waits with one instead.
        let (sender, messages) = sync_channel(0);
        let work = {
            let stop = stop.clone();
            move || make(&source, &stop, &report, sender)
        };
        let worker = std::thread::Builder::new()
            .name("hnsw-toolbox stream".into())
            .spawn(work)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::WouldBlock => {
                    Error::out_of_memory("start a thread", None)
                }
                _ => Error::internal(error),
            })?;
        let mut stream = Self {
            schema: Schema::default(),
            messages: Some(messages),
            stop,
            worker: Some(worker),
        };
        match stream.receive() {
            Message::Schema(schema) => stream.schema = schema,
            Message::End(end) => {
                end?;
                return Err(Error::internal("a stream without a schema"));
            }
            Message::Batch(_) => return Err(Error::internal("a batch before its schema")),
        }
        Ok(stream)
    }

    /// Returns the columns of every batch, with the metadata of a file.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    fn receive(&self) -> Message {
        let received = self.messages.as_ref().map(Receiver::recv);
        match received {
            Some(Ok(message)) => message,
            // The worker always sends `End` before it closes the channel.
            Some(Err(_)) => Message::End(Err(Error::internal("a stream without an end"))),
            None => Message::End(Ok(())),
        }
    }
}

impl Iterator for BatchStream {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receive() {
            Message::Batch(batch) => Some(Ok(batch)),
            Message::End(end) => {
                self.messages = None;
                end.err().map(Err)
            }
            Message::Schema(_) => Some(Err(Error::internal("a second schema"))),
        }
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        self.stop.cancel();
        // Closes the channel, because the worker may be waiting to pass on a batch.
        self.messages = None;
        if let Some(worker) = self.worker.take() {
            // Never an error: the worker catches its panics.
            worker.join().unwrap_or_default();
        }
    }
}

/// Runs on the worker thread.
fn make(
    source: &StreamSource,
    stop: &CancelToken,
    report: &(dyn Fn(Progress) + Send + Sync),
    sender: SyncSender<Message>,
) {
    let mut sink = Sender(sender);
    let monitor = Monitor::default().with_cancel(stop).on_progress(&report);
    let work = AssertUnwindSafe(|| source.give(&monitor, &mut sink));
    let end = catch_unwind(work).unwrap_or_else(|panic| {
        // Dropping the payload of a panic may panic again.
        std::mem::forget(panic);
        Err(Error::internal("a panic while a batch was made"))
    });
    // An error means that the stream was dropped.
    sink.send(Message::End(end)).unwrap_or_default();
}

struct Sender(SyncSender<Message>);

impl Sender {
    fn send(&self, message: Message) -> Result<()> {
        self.0.send(message).map_err(|_| Error::cancelled())
    }
}

impl BatchSink for Sender {
    fn write(&mut self, batch: Batch) -> Result<()> {
        self.send(Message::Batch(batch))
    }
}

impl StreamSink for Sender {
    fn begin(&mut self, schema: Schema) -> Result<()> {
        self.send(Message::Schema(schema))
    }
}
