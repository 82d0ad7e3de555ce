//! Peak resident memory of the command line, which must not depend on the size of the index.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // the figures, for whoever asks with --nocapture

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::*;

const MIB: u64 = 1 << 20;

/// Mapped pages included.
const BUDGET: u64 = 32 * MIB;

/// Runs a command, and gives its exit status (as `wait` does) and its peak resident memory in
/// bytes, as the kernel counted it.
#[allow(clippy::zombie_processes)] // wait4 waits for it
fn peak_memory(command: &mut Command) -> (i32, u64) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    #[allow(unsafe_code)]
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the types that wait4 fills. The child is not waited
    // for by anybody else: `Child` does so only when asked to.
    #[allow(unsafe_code)]
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    // Before `exec` the child shares the memory of this process, so that the figure may be too
    // high, never too low.
    (status, u64::try_from(usage.ru_maxrss).unwrap() * 1024)
}

fn assert_within_budget(dir: &Path, format: &str, more: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    let (status, peak) = peak_memory(
        Command::new(BINARY)
            .arg("extract")
            .arg(dir)
            .arg("-o")
            .arg(&output)
            .args(["--format", format, "--quiet"])
            .args(more),
    );
    assert_eq!(status, 0);
    let written = std::fs::metadata(&output).unwrap().len();
    assert!(written > 140 * MIB, "only {written} bytes were written");
    assert!(peak <= BUDGET, "{format} {more:?}: {} KiB", peak / 1024);
    println!("{format} {more:?}: {} KiB", peak / 1024);
}

#[test]
fn the_measure_sees_memory_that_a_command_uses() {
    let (status, peak) = peak_memory(
        Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=48M", "count=1"])
            .stderr(Stdio::null()),
    );
    assert_eq!(status, 0);
    assert!(peak > 48 * MIB, "{peak}");
}

#[test]
fn extracting_a_hundred_thousand_vectors_stays_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    write_sparse(dir.path(), 384, 100_000);
    assert_within_budget(dir.path(), "parquet", &[]);
    assert_within_budget(dir.path(), "arrow_ipc", &[]);
    assert_within_budget(dir.path(), "parquet", &["--io", "read"]);
}
