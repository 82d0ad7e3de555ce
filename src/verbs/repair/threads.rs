//! Blockwise parallel work.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::progress::Monitor;
use crate::base::threads::{for_each, thread_count};
use crate::error::Result;

/// Bounds memory: each thread has its own buffers.
const MAX_REPAIR_THREADS: usize = 8;

/// Returns the number of threads to use: `threads` or one per core, within the limit.
pub(super) fn count(threads: Option<usize>) -> Result<NonZeroUsize> {
    let threads = thread_count(threads)?.get().min(MAX_REPAIR_THREADS);
    Ok(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN))
}

/// The division of a range into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Length of the range.
    pub(super) total: u64,
    /// Length of a block.
    pub(super) size: u64,
}

/// Calls `work` with the number of each block, in any order, on one thread for each of `states`,
/// and reports progress. The first error stops all threads.
pub(super) fn for_each_block<S: Send>(
    states: &mut [S],
    blocks: Blocks,
    monitor: &Monitor<'_>,
    work: impl Fn(&mut S, u64) -> Result<()> + Sync,
) -> Result<()> {
    let Blocks { total, size } = blocks;
    let count = total.div_ceil(size.max(1));
    let done = AtomicU64::new(0);
    for_each("hnsw-toolbox-repair", states, 0..count, |state, block| {
        work(state, block)?;
        // Relaxed, because it only counts: no other memory depends on it.
        let done = done.fetch_add(1, Relaxed).saturating_add(1);
        monitor.advance(done.saturating_mul(size).min(total), total)
    })
}
