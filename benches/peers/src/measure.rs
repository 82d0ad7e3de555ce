//! Runs programs and measures each: wall time, CPU time, peak resident memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use wait4::Wait4;

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// From start to exit.
    pub wall: Duration,
    /// User and kernel time of the process and its children.
    pub cpu: Duration,
    /// Peak resident memory in bytes, including mapped files.
    ///
    /// A child starts with its parent's memory, so this is at least the memory of the measuring
    /// program, which must therefore stay small.
    pub peak_rss: u64,
}

/// Runs `commands` sequentially and adds up their costs.
///
/// # Errors
///
/// The error of the first command that cannot be started or fails.
pub fn run(commands: &mut [Command]) -> Result<Usage> {
    let mut total = Usage::default();
    for command in commands {
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let ended = child.wait4()?;
        let wall = start.elapsed();
        ensure!(ended.status.success(), "{command:?}: {}", ended.status);
        total.wall += wall;
        total.cpu += ended.rusage.utime + ended.rusage.stime;
        total.peak_rss = total.peak_rss.max(ended.rusage.maxrss);
    }
    Ok(total)
}

/// The median of `values`; for an even number, the mean of the middle two.
///
/// # Panics
///
/// If `values` is empty.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
