//! The hash by which a manifest knows its files again, computed while they are written.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Bytes hashed between two looks at whether they are still wanted.
const BLOCK: usize = 256 << 10;

/// A thread that hashes a file, from its beginning, as it grows.
///
/// The pages are still in memory when it reads them, and the hash takes no time of the writer's.
#[derive(Debug)]
pub(super) struct Hash {
    path: PathBuf,
    grown: Option<SyncSender<()>>,
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<(u64, Sha256)>>>,
}

impl Hash {
    /// Starts to hash `file`, which is to be `path`, from its cursor on.
    pub(super) fn start(file: File, path: &Path) -> Result<Self> {
        let (grown, receiver) = sync_channel(1);
        let abandoned = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("hnsw-toolbox-hash".into());
        let thread = thread.spawn({
            let abandoned = Arc::clone(&abandoned);
            move || follow(file, &receiver, &abandoned)
        });
        Ok(Self {
            path: path.to_path_buf(),
            grown: Some(grown),
            abandoned,
            thread: Some(thread.map_err(Error::io(path, "start a thread to hash"))?),
        })
    }

    /// Says that the file has grown.
    pub(super) fn advance(&self) {
        if let Some(grown) = &self.grown {
            // When the thread has not looked at the last notice yet, that one will do.
            let _ = grown.try_send(());
        }
    }

    /// The length of the file, which is complete, and its hash in hexadecimal digits.
    pub(super) fn finish(mut self) -> Result<(u64, String)> {
        let (length, hasher) = self.join()?.map_err(Error::io(&self.path, "read"))?;
        let digits = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok((length, digits))
    }

    fn join(&mut self) -> Result<io::Result<(u64, Sha256)>> {
        self.grown = None;
        let thread = self.thread.take();
        thread
            .and_then(|thread| thread.join().ok())
            .ok_or_else(|| Error::internal("the thread that hashes has panicked"))
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.abandoned.store(true, Relaxed);
            // It holds the file open, and must not outlive this call.
            let _ = self.join();
        }
    }
}

fn follow(
    mut file: File,
    grown: &Receiver<()>,
    abandoned: &AtomicBool,
) -> io::Result<(u64, Sha256)> {
    let mut block = vec![0; BLOCK];
    let mut hasher = Sha256::new();
    let mut length = 0_u64;
    loop {
        // Without a sender the file is complete: what is read after that is the rest of it.
        let complete = grown.recv().is_err();
        while !abandoned.load(Relaxed) {
            let count = file.read(&mut block)?;
            if count == 0 {
                break;
            }
            hasher.update(block.get(..count).unwrap_or_default());
            length = length.saturating_add(count as u64);
        }
        if complete {
            return Ok((length, hasher));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard() {
        for notices in [0, 1, 3] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let mut file = File::create_new(&path).unwrap();
            let hash = Hash::start(File::open(&path).unwrap(), &path).unwrap();
            for byte in b"abc" {
                file.write_all(&[*byte]).unwrap();
                (0..notices).for_each(|_| hash.advance());
            }
            let (length, digits) = hash.finish().unwrap();
            assert_eq!(length, 3);
            assert_eq!(
                digits,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            );
        }
    }

    #[test]
    fn a_hash_that_is_not_wanted_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; 3 * BLOCK]).unwrap();
        let hash = Hash::start(File::open(&path).unwrap(), &path).unwrap();
        hash.advance();
        drop(hash);
    }
}
