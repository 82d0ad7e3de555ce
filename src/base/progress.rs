//! Progress and cancellation of long operations.

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
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every operation that holds this token to stop. It cannot be undone.
    pub fn cancel(&self) {
        // Relaxed: the flag publishes no other data.
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Returns true if [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let parent = self.parent.as_deref();
        self.flag.load(Ordering::Relaxed) || parent.is_some_and(Self::is_cancelled)
    }

    /// Creates a token that is cancelled with this one, and can be cancelled separately.
    #[cfg(feature = "wire")]
    pub(crate) fn child(&self) -> Self {
        Self {
            flag: Arc::default(),
            parent: Some(Box::new(self.clone())),
        }
    }
}

/// Progress of an operation.
///
/// Not `#[non_exhaustive]`: a count needs no further fields, and callers construct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows done.
    pub done: u64,
    /// Total number of rows.
    pub total: u64,
}

/// Observer of an operation: progress and cancellation. `Monitor::default()` has neither.
#[derive(Clone, Copy, Default)]
pub struct Monitor<'a> {
    cancel: Option<&'a CancelToken>,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    part: Option<&'a (dyn Fn(&str) + Sync)>,
}

impl<'a> Monitor<'a> {
    /// Makes the operation stop with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) soon
    /// after `token` is cancelled.
    #[must_use]
    pub fn with_cancel(mut self, token: &'a CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Calls `report` periodically and at least once at the end, on any thread that does the work.
    #[must_use]
    pub fn on_progress(mut self, report: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(report);
        self
    }

    /// Calls `report` with the name of each collection when the work on it begins. Progress counts
    /// the rows of all collections.
    #[must_use]
    pub fn on_part(mut self, report: &'a (dyn Fn(&str) + Sync)) -> Self {
        self.part = Some(report);
        self
    }

    #[cfg(feature = "database")]
    pub(crate) fn begin_part(&self, name: &str) {
        if let Some(report) = self.part {
            report(name);
        }
    }

    /// Returns the monitor without its progress callback.
    pub(crate) fn without_progress(self) -> Self {
        Self {
            progress: None,
            part: None,
            ..self
        }
    }

    /// Token that stops the operation.
    #[cfg(feature = "database")]
    pub(crate) fn token(&self) -> Option<CancelToken> {
        self.cancel.cloned()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.cancel {
            Some(token) if token.is_cancelled() => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }

    pub(crate) fn advance(&self, done: u64, total: u64) -> Result<()> {
        if let Some(report) = self.progress {
            // Reported before the check, so that the last progress of a cancelled call is current.
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
