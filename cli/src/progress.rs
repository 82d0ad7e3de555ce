//! A progress bar on standard error.

use hnsw_toolbox::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar. It is hidden if standard error is not a terminal, or with `--quiet`.
pub(super) struct Bar(ProgressBar);

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
        Self(bar)
    }

    pub(super) fn show(&self, progress: Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
