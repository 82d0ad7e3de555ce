//! A progress bar on standard error.

use hnsw_toolbox::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar when standard error is a terminal and it was not asked for silence, else nothing.
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
        // The bar moves with the reports, which are frequent. A thread that moved it between
        // them could not be started where memory is short.
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
