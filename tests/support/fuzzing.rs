//! Support for fuzz properties: a directory for files, and inputs for `cargo test`.
#![allow(dead_code, reason = "each user needs a part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

/// A directory for the files of one run, in memory if possible.
pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        Self(made.unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file old enough to be opened at once. With a wait of 10 ms for the clock in each
    /// run, a target would try a hundred inputs per second.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        path
    }
}

/// Runs a property over the seeds and regressions of its target. It must return true for each,
/// because an input that it skips tests nothing.
#[cfg(test)]
pub fn replay(fuzz: &Path, target: &str, property: impl Fn(&[u8]) -> bool) {
    let inputs = |kind: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(fuzz.join(kind).join(target));
        let entries = entries.into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let seeds = inputs("seeds");
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for input in seeds.into_iter().chain(inputs("regressions")) {
        // Names the input if the property fails.
        let _shown = Shown(&input);
        assert!(property(&std::fs::read(&input).unwrap()), "was not run");
    }
}

#[cfg(test)]
struct Shown<'a>(&'a Path);

#[cfg(test)]
impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0.display());
        }
    }
}
