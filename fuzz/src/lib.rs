//! What the fuzz targets share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

/// A directory for the files of one run.
pub struct Directory(TempDir);

impl Directory {
    /// A new one, in memory where the system has such a place.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        Self(made.expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that is old enough to be opened without a wait.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("a file is written");
        let file = File::options().write(true).open(&path).expect("it opens");
        file.set_modified(UNIX_EPOCH).expect("it takes a time");
        path
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}
