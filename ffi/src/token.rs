//! Tokens, with which a caller watches and stops a call from another thread.

use std::sync::{Arc, Mutex};

use toolbox::wire::lock;
use toolbox::{CancelToken, Progress};

use crate::registry::Registry;

static TOKENS: Registry<Token> = Registry::new();

/// Cancellation and progress of a call.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) cancel: CancelToken,
    progress: Mutex<Progress>,
}

impl Token {
    pub(crate) fn report(&self, progress: Progress) {
        // One lock for both numbers, so that a reader never sees `done` of one report with `total`
        // of another.
        *lock(&self.progress) = progress;
    }

    pub(crate) fn progress(&self) -> Progress {
        *lock(&self.progress)
    }
}

/// Creates a token and returns its number.
pub(crate) fn create() -> u64 {
    TOKENS.insert(Token {
        cancel: CancelToken::new(),
        progress: Mutex::new(Progress { done: 0, total: 0 }),
    })
}

pub(crate) fn find(number: u64) -> Option<Arc<Token>> {
    TOKENS.find(number)
}

/// Releases a token. Returns true if it existed.
pub(crate) fn release(number: u64) -> bool {
    TOKENS.release(number)
}
