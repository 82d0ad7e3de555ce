//! The same work on several threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::progress::Monitor;
use crate::base::threads::thread_count;
use crate::error::Result;
use crate::graph::workers;

/// Each thread has buffers of its own; more would take more memory than a repair may.
const MOST: usize = 8;

/// How many threads to use when asked for `threads`.
pub(super) fn count(threads: Option<usize>) -> Result<NonZeroUsize> {
    let threads = thread_count(threads)?.get().min(MOST);
    Ok(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN))
}

/// Things that are done in blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// How many things there are.
    pub(super) total: u64,
    /// How many are in a block.
    pub(super) size: u64,
}

/// Calls `work` with the number of each block, in any order, on one thread for each of `states`,
/// and reports progress. The first error stops all.
pub(super) fn for_each_block<S: Send>(
    states: &mut [S],
    blocks: Blocks,
    monitor: &Monitor<'_>,
    work: impl Fn(&mut S, u64) -> Result<()> + Sync,
) -> Result<()> {
    let Blocks { total, size } = blocks;
    let count = total.div_ceil(size.max(1));
    let done = AtomicU64::new(0);
    workers::for_each(states, 0..count, |state, block| {
        work(state, block)?;
        let done = done.fetch_add(1, Relaxed).saturating_add(1);
        monitor.advance(done.saturating_mul(size).min(total), total)
    })
}
