//! Progress and cancellation, shared by every long operation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::error::{Error, Result};

/// A flag that stops an operation from another thread. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    parent: Option<Box<CancelToken>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every operation that holds this token to stop. It cannot be undone.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let parent = self.parent.as_deref();
        self.flag.load(Ordering::Relaxed) || parent.is_some_and(Self::is_cancelled)
    }

    /// A token that is cancelled when this one is, and can be by itself.
    #[cfg(feature = "wire")]
    pub(crate) fn child(&self) -> Self {
        Self {
            flag: Arc::default(),
            parent: Some(Box::new(self.clone())),
        }
    }
}

/// How far an operation has come.
///
/// Not `#[non_exhaustive]`: there is nothing more to a count, and callers make their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows done.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// How a caller watches and stops an operation. `Monitor::default()` does neither.
#[derive(Clone, Copy, Default)]
pub struct Monitor<'a> {
    cancel: Option<&'a CancelToken>,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

impl<'a> Monitor<'a> {
    /// Stops with [`Error::Cancelled`] soon after `token` is cancelled.
    #[must_use]
    pub fn with_cancel(mut self, token: &'a CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Calls `report` from time to time, at least at the end, on whichever thread does the work.
    #[must_use]
    pub fn on_progress(mut self, report: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(report);
        self
    }

    /// The same, but for progress, which is not reported.
    pub(crate) fn without_progress(self) -> Self {
        Self {
            progress: None,
            ..self
        }
    }

    /// The token that stops the operation.
    #[cfg(feature = "database")]
    pub(crate) fn token(&self) -> Option<CancelToken> {
        self.cancel.cloned()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.cancel {
            Some(token) if token.is_cancelled() => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }

    pub(crate) fn advance(&self, done: u64, total: u64) -> Result<()> {
        if let Some(report) = self.progress {
            report(Progress { done, total });
        }
        self.check()
    }
}

impl std::fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("cancel", &self.cancel)
            .field("progress", &self.progress.is_some())
            .finish()
    }
}
