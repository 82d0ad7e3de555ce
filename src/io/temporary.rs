//! Temporary files and directories: their names, and directories that are removed when dropped or
//! renamed when complete.
//!
//! Both are named `.hnsw-toolbox-<pid>-<n>.tmp`. They are locked during use, if the system can lock
//! them, so that a later run removes the leftovers of killed processes.

use std::ffi::OsStr;
use std::fs::{DirBuilder, DirEntry, File, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::io::permissions::Sharing;

const PREFIX: &str = ".hnsw-toolbox-";
const SUFFIX: &str = ".tmp";

/// Returns a path in `parent` that no other call in this process returns.
pub(super) fn unused_path(parent: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()))
}

/// Returns true for the names of temporary files and directories.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Lists the temporary entries of `parent` of one kind, in use or not.
pub(super) fn entries(
    parent: &Path,
    is_kind: fn(&FileType) -> bool,
) -> impl Iterator<Item = DirEntry> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(move |entry| {
        is_temporary(&entry.file_name()) && entry.file_type().is_ok_and(|kind| is_kind(&kind))
    })
}

/// A directory of this process, which is removed with all of its content.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
    /// Held for its lock.
    _lock: Option<File>,
}

impl TemporaryDirectory {
    /// Creates a directory in `parent` that only its owner can read.
    #[cfg(any(test, feature = "database"))]
    pub(crate) fn create_private(parent: &Path) -> Result<Self> {
        Self::create(parent, Sharing::PRIVATE)
    }

    /// Creates a directory in `parent`.
    pub(crate) fn create(parent: &Path, sharing: Sharing) -> Result<Self> {
        remove_abandoned(parent);
        loop {
            let path = unused_path(parent);
            match sharing
                .of_new_directory(&mut DirBuilder::new())
                .create(&path)
            {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(Error::io(
                        parent,
                        "create a temporary directory in the directory",
                    )(error));
                }
            }
            let lock = File::open(&path).ok();
            let taken = lock.as_ref().is_some_and(|lock| {
                matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock))
            });
            // Another run may have removed it as abandoned before it was locked: try again.
            if !taken && path.exists() {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all files in the directory durable, including their names.
    #[cfg(feature = "database")]
    pub(crate) fn sync_all(&self) -> Result<()> {
        let failed = |error: io::Error| Error::io(&self.path, "sync")(error);
        // One `syncfs` is much faster than an `fsync` for each of ten thousand files.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let directory = File::open(&self.path).map_err(failed)?;
            nix::unistd::syncfs(&directory).map_err(|error| failed(error.into()))
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            for entry in std::fs::read_dir(&self.path).map_err(failed)? {
                // Some systems sync only files that are open for writing.
                let file = entry.and_then(|entry| File::options().write(true).open(entry.path()));
                file.and_then(|file| file.sync_all()).map_err(failed)?;
            }
            Ok(())
        }
    }

    /// Renames the directory to `target`, which must be missing or an empty directory.
    pub(crate) fn rename_to(mut self, target: &Path) -> Result<()> {
        // Not every system can rename over a directory. `remove_dir` fails if it is not empty.
        if target.is_dir() {
            std::fs::remove_dir(target).map_err(Error::io(
                target,
                "replace the directory, which must be empty",
            ))?;
        }
        std::fs::rename(&self.path, target)
            .map_err(Error::io(target, "move the finished directory to its name"))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // If this fails, the next run removes the directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes the temporary directories of processes that were killed.
fn remove_abandoned(parent: &Path) {
    for entry in entries(parent, FileType::is_dir) {
        // A directory that cannot be opened or locked may be in use.
        let Ok(directory) = File::open(entry.path()) else {
            continue;
        };
        if directory.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_directory_is_gone_with_its_files() {
        let parent = tempfile::tempdir().unwrap();
        let directory = TemporaryDirectory::create_private(parent.path()).unwrap();
        std::fs::write(directory.path().join("file"), b"x").unwrap();
        drop(directory);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_finished_directory_takes_its_name() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        for empty_before in [false, true] {
            if empty_before {
                std::fs::create_dir(&target).unwrap();
            }
            let directory = TemporaryDirectory::create(parent.path(), Sharing::default()).unwrap();
            std::fs::write(directory.path().join("file"), b"x").unwrap();
            directory.rename_to(&target).unwrap();
            assert_eq!(std::fs::read(target.join("file")).unwrap(), b"x");
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
            std::fs::remove_dir_all(&target).unwrap();
        }
    }

    #[test]
    fn a_directory_with_files_is_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("theirs"), b"x").unwrap();
        let directory = TemporaryDirectory::create(parent.path(), Sharing::default()).unwrap();
        assert!(directory.rename_to(&target).is_err());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(target.join("theirs").exists());
    }

    #[cfg(unix)]
    #[test]
    fn abandoned_directories_are_removed_and_live_ones_kept() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join(".hnsw-toolbox-1-1.tmp");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("file"), b"x").unwrap();
        let first = TemporaryDirectory::create_private(parent.path()).unwrap();
        let second = TemporaryDirectory::create_private(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(first.path().exists() && second.path().exists());
    }
}
