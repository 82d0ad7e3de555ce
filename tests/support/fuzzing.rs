//! What every fuzz property needs: a directory for its files, and inputs to run it over in
//! `cargo test`.
#![allow(dead_code, reason = "each user needs a part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

/// A directory for the files of one run, in memory where the system can.
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

    /// Writes a file that is old enough to be opened at once: a target that waited 10 ms for the
    /// clock in each run would try a hundred inputs a second.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        path
    }
}

/// Runs a property over the seeds of its target, and over what once failed. It must say of each
/// that it has run it: an input that it refuses tests nothing.
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
        // Which input it is, when the property fails.
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
