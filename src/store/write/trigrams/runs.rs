//! Runs: postings that were spilled to a temporary file, and their merge.
//!
//! ```text
//! run:     trigram (8 bytes), its postings, 0; the next trigram, …
//! posting: bytes of the position list, rowid − previous rowid, the position list
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::postings::Postings;
use super::{inconsistent, push_varint, PostingSink, Trigram};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{read_exact_at, write_all_at};
use crate::io::permissions::Sharing;
use crate::store::trees::varint;

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes for the buffers of all runs, and the least for one.
const MERGE_BYTES: usize = 16 << 20;
const MIN_READ_BYTES: usize = 4 << 10;

/// Most bytes of a varint.
const VARINT_BYTES: usize = 9;

const PURPOSE: &str = "merge the trigrams of documents";

/// Runs in one file, which is removed when dropped. The first run creates it.
#[derive(Debug)]
pub(super) struct Runs {
    path: PathBuf,
    file: Option<File>,
    /// End of each run in the file.
    ends: Vec<u64>,
}

impl Runs {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            ends: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Moves all postings to a new run.
    pub(super) fn spill(&mut self, postings: &mut Postings, monitor: &Monitor<'_>) -> Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true);
                let file = Sharing::PRIVATE.of_new_file(&mut options).open(&self.path);
                let file = file.map_err(Error::io(&self.path, "create"))?;
                self.file.insert(file)
            }
        };
        let mut run = RunWriter {
            file,
            path: &self.path,
            offset: self.ends.last().copied().unwrap_or_default(),
            buffer: memory::with_capacity(WRITE_BYTES, PURPOSE)?,
            rowid: 0,
            is_first: true,
        };
        postings.drain(&mut run, monitor)?;
        let end = run.finish()?;
        memory::reserve(&mut self.ends, 1, PURPOSE)?;
        self.ends.push(end);
        Ok(())
    }

    /// Passes the postings of all runs to `sink`.
    pub(super) fn merge(&self, sink: &mut impl PostingSink, monitor: &Monitor<'_>) -> Result<()> {
        let file = self.file.as_ref().ok_or_else(inconsistent)?;
        let read_bytes = (MERGE_BYTES / self.ends.len().max(1)).max(MIN_READ_BYTES);
        let mut runs = memory::with_capacity(self.ends.len(), PURPOSE)?;
        let mut heap = BinaryHeap::new();
        let reserved = heap.try_reserve(self.ends.len());
        reserved.map_err(|_| Error::out_of_memory(PURPOSE, None))?;
        let mut start = 0;
        for (number, end) in self.ends.iter().enumerate() {
            let mut run = RunReader {
                file,
                path: &self.path,
                offset: start,
                end: *end,
                buffer: memory::with_capacity(read_bytes, PURPOSE)?,
                at: 0,
            };
            start = *end;
            if let Some(trigram) = run.next_trigram()? {
                heap.push(Reverse((trigram, number)));
            }
            runs.push(run);
        }
        let mut current = None;
        // Runs of the same trigram follow each other in the order of their rowids.
        while let Some(Reverse((trigram, number))) = heap.pop() {
            monitor.check()?;
            if current != Some(trigram) {
                sink.trigram(trigram)?;
                current = Some(trigram);
            }
            let run = runs.get_mut(number).ok_or_else(inconsistent)?;
            let mut rowid = 0_i64;
            while let Some((difference, positions)) = run.next_posting()? {
                rowid = rowid.wrapping_add(difference);
                sink.posting(rowid, positions)?;
            }
            if let Some(trigram) = run.next_trigram()? {
                heap.push(Reverse((trigram, number)));
            }
        }
        Ok(())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        // Windows removes no open file.
        if self.file.take().is_some() {
            // If this fails, the temporary directory takes it along.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct RunWriter<'r> {
    file: &'r File,
    path: &'r Path,
    /// Place of the buffer in the file.
    offset: u64,
    buffer: Vec<u8>,
    rowid: i64,
    is_first: bool,
}

impl RunWriter<'_> {
    fn flush(&mut self) -> Result<()> {
        let written = write_all_at(self.file, &self.buffer, self.offset);
        written.map_err(Error::io(self.path, "write"))?;
        self.offset = self.offset.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Returns the end of the run.
    fn finish(mut self) -> Result<u64> {
        if !self.is_first {
            self.buffer.push(0);
        }
        self.flush()?;
        Ok(self.offset)
    }
}

impl PostingSink for RunWriter<'_> {
    fn trigram(&mut self, trigram: Trigram) -> Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.buffer.push(0);
        }
        self.buffer.extend_from_slice(&trigram.0.to_le_bytes());
        self.rowid = 0;
        Ok(())
    }

    #[inline]
    fn posting(&mut self, rowid: i64, positions: &[u8]) -> Result<()> {
        let bytes = positions.len().saturating_add(3 * VARINT_BYTES);
        if self.buffer.len().saturating_add(bytes) > self.buffer.capacity() {
            self.flush()?;
            memory::reserve(&mut self.buffer, bytes, PURPOSE)?;
        }
        push_varint(&mut self.buffer, positions.len() as u64);
        let difference = rowid.wrapping_sub(self.rowid).cast_unsigned();
        push_varint(&mut self.buffer, difference);
        self.buffer.extend_from_slice(positions);
        self.rowid = rowid;
        Ok(())
    }
}

struct RunReader<'r> {
    file: &'r File,
    path: &'r Path,
    /// Part of the file that is still to be read.
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Offset in the buffer.
    at: usize,
}

impl RunReader<'_> {
    /// Makes the buffer hold the next `bytes` of the run, or all that is left.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        if self.buffer.len().saturating_sub(self.at) >= bytes {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let kept = self.buffer.len();
        memory::reserve(&mut self.buffer, bytes.saturating_sub(kept), PURPOSE)?;
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let count = self.buffer.capacity().saturating_sub(kept).min(left);
        self.buffer.resize(kept.saturating_add(count), 0);
        let target = self.buffer.get_mut(kept..).unwrap_or_default();
        let read = read_exact_at(self.file, target, self.offset);
        read.map_err(Error::io(self.path, "read"))?;
        self.offset = self.offset.saturating_add(count as u64);
        Ok(())
    }

    fn next_trigram(&mut self) -> Result<Option<Trigram>> {
        self.fill(8)?;
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(trigram) => {
                self.at += trigram.len();
                Ok(Some(Trigram(u64::from_le_bytes(*trigram))))
            }
            None if rest.is_empty() => Ok(None),
            None => Err(inconsistent()),
        }
    }

    fn next_number(&mut self) -> Result<u64> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let (number, bytes) = varint(rest).ok_or_else(inconsistent)?;
        self.at = self.at.saturating_add(bytes);
        Ok(number)
    }

    /// Returns the difference to the rowid before, and the position list.
    #[inline]
    fn next_posting(&mut self) -> Result<Option<(i64, &[u8])>> {
        self.fill(2 * VARINT_BYTES)?;
        let bytes = self.next_number()?;
        if bytes == 0 {
            return Ok(None);
        }
        let bytes = usize::try_from(bytes).map_err(Error::internal)?;
        let difference = self.next_number()?.cast_signed();
        self.fill(bytes)?;
        let start = self.at;
        self.at = start.saturating_add(bytes);
        let positions = self.buffer.get(start..self.at);
        Ok(Some((difference, positions.ok_or_else(inconsistent)?)))
    }
}
