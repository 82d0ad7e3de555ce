//! Values that callers hold by number. A stale or invented number yields "no such thing", and is
//! never dereferenced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use toolbox::wire::lock;

/// Values by number. A call shares the value that it uses, so a concurrent release is harmless.
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

    /// Adds a value and returns its number, which is never 0 and never reused.
    pub(crate) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.live).insert(number, Arc::new(value));
        number
    }

    pub(crate) fn find(&self, number: u64) -> Option<Arc<T>> {
        lock(&self.live).get(&number).cloned()
    }

    /// Removes a value. Returns true if it existed.
    pub(crate) fn release(&self, number: u64) -> bool {
        // Dropped outside the lock, because dropping a value may take time.
        let released = lock(&self.live).remove(&number);
        released.is_some()
    }
}
