//! Records as Arrow record batches, without a file. What the C ABI hands out as an Arrow C stream.
//!
//! A thread makes the next batch while the caller uses the one before, and waits with it until it is
//! asked for: so there are two in memory.

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

/// What a stream is of.
#[derive(Clone, Debug)]
pub enum StreamSource {
    /// The records of an index; of the options, what is about files does not matter.
    Index {
        /// The directory of the index.
        index_dir: PathBuf,
        /// What is extracted, and how.
        options: ColumnarOptions,
    },
    /// The records of a collection.
    #[cfg(feature = "database")]
    Collection {
        /// The persist directory.
        persist_dir: PathBuf,
        /// One collection; what is about files does not matter.
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

/// Record batches, one after the other. After an error there are no more. That a file has changed
/// meanwhile is an error at the end.
///
/// Dropping it ends the work, and waits for that.
#[derive(Debug)]
pub struct BatchStream {
    schema: Schema,
    /// Taken at the end.
    messages: Option<Receiver<Message>>,
    stop: CancelToken,
    maker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Schema(Schema),
    Batch(Batch),
    End(Result<()>),
}

impl BatchStream {
    /// Begins the work, and waits for its first result. `token` stops it; `report` is told, on the
    /// thread that does it, how far it is.
    ///
    /// # Errors
    ///
    /// Those of an extraction or an export that has not come to its first record, and
    /// [`Error::OutOfMemory`] when there is no thread to be had.
    pub fn open(
        source: StreamSource,
        token: Option<&CancelToken>,
        report: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Self> {
        let stop = token.map_or_else(CancelToken::new, CancelToken::child);
        // No batch waits in the channel: the maker waits with it.
        let (sender, messages) = sync_channel(0);
        let work = {
            let stop = stop.clone();
            move || make(&source, &stop, &report, sender)
        };
        let maker = std::thread::Builder::new()
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
            maker: Some(maker),
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

    /// The columns of every batch, and the metadata that a file of them would have.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    fn receive(&self) -> Message {
        let received = self.messages.as_ref().map(Receiver::recv);
        match received {
            Some(Ok(message)) => message,
            // The maker's last message is its end.
            Some(Err(_)) => Message::End(Err(Error::internal("a stream broke off"))),
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
        // The maker may wait for someone to take its batch.
        self.messages = None;
        if let Some(maker) = self.maker.take() {
            // It catches its panics.
            maker.join().unwrap_or_default();
        }
    }
}

/// The maker's work.
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
        // Dropping what a panic carries may panic in its turn.
        std::mem::forget(panic);
        Err(Error::internal("a panic while a batch was made"))
    });
    // When nobody waits for it, it is of no interest.
    sink.send(Message::End(end)).unwrap_or_default();
}

struct Sender(SyncSender<Message>);

impl Sender {
    fn send(&self, message: Message) -> Result<()> {
        self.0.send(message).map_err(|_| Error::Cancelled)
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
