//! The registry of live tokens. A token is known by number, so that a stale or invented one is
//! an answer of "no such token" and never a pointer to follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use toolbox::{CancelToken, Progress};

static TOKENS: Mutex<BTreeMap<u64, Arc<Token>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a caller holds to watch and stop a call. A running call shares it, so freeing it then
/// is harmless.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) cancel: CancelToken,
    progress: Mutex<Progress>,
}

impl Token {
    pub(crate) fn report(&self, progress: Progress) {
        *lock(&self.progress) = progress;
    }

    pub(crate) fn progress(&self) -> Progress {
        *lock(&self.progress)
    }
}

/// Nothing under these locks can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new token's number; never 0, and never given out again.
pub(crate) fn create() -> u64 {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let token = Arc::new(Token {
        cancel: CancelToken::new(),
        progress: Mutex::new(Progress { done: 0, total: 0 }),
    });
    lock(&TOKENS).insert(id, token);
    id
}

pub(crate) fn find(id: u64) -> Option<Arc<Token>> {
    lock(&TOKENS).get(&id).cloned()
}

/// Whether there was such a token.
pub(crate) fn release(id: u64) -> bool {
    lock(&TOKENS).remove(&id).is_some()
}
