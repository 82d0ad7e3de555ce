//! A progress bar on standard error.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hnsw_toolbox::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::one_line;

/// A progress bar, or one for each collection. It is hidden if standard error is not a terminal, or
/// with `--quiet`.
pub(super) struct Bar {
    bar: ProgressBar,
    verb: &'static str,
    /// Rows of the collections before the current one.
    before: AtomicU64,
    done: AtomicU64,
}

/// Longest name of a collection in a bar, in characters.
const MAX_NAME_CHARS: usize = 24;

impl Bar {
    pub(super) fn new(verb: &'static str, quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target).with_message(verb);
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} [{wide_bar}] {human_pos}/{human_len} rows, {per_sec}, {eta}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        // Drawn on reports only, which are frequent. A ticker thread could fail to start if memory
        // is low.
        bar.tick();
        Self {
            bar,
            verb,
            before: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Leaves the bar of the last collection on the screen, and starts the next.
    pub(super) fn begin(&self, collection: &str) {
        let name: String = one_line(collection)
            .to_string()
            .chars()
            .take(MAX_NAME_CHARS)
            .collect();
        let done = self.done.load(Relaxed);
        let before = self.before.swap(done, Relaxed);
        if done > before && !self.bar.is_hidden() {
            let rows = done.saturating_sub(before);
            self.bar
                .println(format!("{}: {rows} rows", self.bar.message()));
        }
        self.bar.set_message(format!("{} {name}", self.verb));
    }

    pub(super) fn show(&self, progress: Progress) {
        self.done.store(progress.done, Relaxed);
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
