//! What callers hold by number: a stale or invented number is an answer of "no such thing", and
//! never a pointer to follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values that are known by number. A call that uses one shares it, so releasing it then is
/// harmless.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<T>>>,
}

impl<T> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            live: Mutex::new(BTreeMap::new()),
        }
    }

    /// The number of a new value; never 0, and never given out again.
    pub(crate) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.live).insert(number, Arc::new(value));
        number
    }

    pub(crate) fn find(&self, number: u64) -> Option<Arc<T>> {
        lock(&self.live).get(&number).cloned()
    }

    /// Whether the value was there.
    pub(crate) fn release(&self, number: u64) -> bool {
        // Dropped after the lock, for a value may take its time to go.
        let released = lock(&self.live).remove(&number);
        released.is_some()
    }
}

/// Nothing under these locks can panic halfway through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
