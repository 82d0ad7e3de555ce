//! How many threads share a piece of work.

use std::num::NonZeroUsize;

use crate::error::{Error, Result};

/// More threads are taken for a mistake.
const MOST: usize = 1024;

/// The number of threads that was asked for, or one for each core.
pub(crate) fn thread_count(threads: Option<usize>) -> Result<NonZeroUsize> {
    match threads {
        None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        Some(threads) => NonZeroUsize::new(threads)
            .filter(|threads| threads.get() <= MOST)
            .ok_or_else(|| {
                Error::argument("threads", threads, format!("a number from 1 to {MOST}"))
            }),
    }
}
