//! Write-behind: a thread that writes while the producer encodes the next chunk.

use std::io::{self, Write};
use std::sync::mpsc::{channel, sync_channel, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

/// Bytes per block that is handed to the thread.
const BLOCK_BYTES: usize = 256 << 10;

/// Blocks in the queue: the pages of a row group, which arrive all at once.
const MAX_QUEUED_BLOCKS: usize = 36;

/// A writer on its own thread. All bytes are written after [`WriteBehind::finish`].
#[derive(Debug)]
pub(super) struct WriteBehind<W> {
    block: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    /// Written blocks, for reuse.
    written: Receiver<Vec<u8>>,
    thread: JoinHandle<(W, io::Result<()>)>,
}

impl<W: Write + Send + 'static> WriteBehind<W> {
    /// Moves `writer` to a new thread. If that cannot be started, the writer is dropped.
    pub(super) fn start(mut writer: W) -> io::Result<Self> {
        let (full, receiver) = sync_channel::<Vec<u8>>(MAX_QUEUED_BLOCKS);
        let (sender, written) = channel();
        let thread = thread::Builder::new().name("hnsw-toolbox-write".into());
        let thread = thread.spawn(move || {
            let result = receiver.iter().try_for_each(|mut block| {
                writer.write_all(&block)?;
                block.clear();
                // The receiver is gone after the last block.
                let _ = sender.send(block);
                Ok(())
            });
            (writer, result)
        })?;
        Ok(Self {
            block: Vec::new(),
            full,
            written,
            thread,
        })
    }

    /// Copies as much of `bytes` as the block has room for. Fails with `BrokenPipe` if the thread
    /// has met an error, which [`WriteBehind::finish`] returns.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK_BYTES {
            self.send()?;
        }
        if self.block.capacity() == 0 {
            self.block = self.written.try_recv().unwrap_or_default();
            self.block.try_reserve_exact(BLOCK_BYTES)?;
        }
        let room = BLOCK_BYTES - self.block.len();
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        self.block.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let sent = self.full.send(block);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until everything is written. Returns the writer unless it panicked.
    pub(super) fn finish(mut self) -> (Option<W>, io::Result<()>) {
        // If this fails, the thread's result gives the reason.
        let sent = self.send();
        let Self { full, thread, .. } = self;
        drop(full);
        match thread.join() {
            Ok((writer, result)) => (Some(writer), result.and(sent)),
            Err(_) => (
                None,
                Err(io::Error::other("the thread that writes has panicked")),
            ),
        }
    }

    /// Waits for the thread to write the blocks that it has already received.
    pub(super) fn abandon(self) {
        let Self { full, thread, .. } = self;
        drop(full);
        // Its error would concern a file that is being discarded.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_written_in_order() {
        for length in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            50 * BLOCK_BYTES + 7,
        ] {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte / 3) as u8).collect();
            let mut behind = WriteBehind::start(Vec::new()).unwrap();
            for mut part in bytes.chunks(100_001) {
                while !part.is_empty() {
                    let count = behind.write(part).unwrap();
                    part = &part[count..];
                }
            }
            let (written, result) = behind.finish();
            result.unwrap();
            assert_eq!(written.unwrap(), bytes);
        }
    }

    #[test]
    fn the_error_of_the_thread_is_returned() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match self.0.checked_sub(1) {
                    None => Err(io::ErrorKind::StorageFull.into()),
                    Some(left) => {
                        self.0 = left;
                        Ok(bytes.len())
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for blocks in [0, 1, 9] {
            let mut behind = WriteBehind::start(Full(blocks)).unwrap();
            let mut failed = false;
            for _ in 0..2 * MAX_QUEUED_BLOCKS {
                failed |= behind.write(&[0; BLOCK_BYTES]).is_err();
            }
            assert!(failed);
            let (_, result) = behind.finish();
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }
}
