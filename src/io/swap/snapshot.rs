//! State of a store's files at the first look.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{walk, DATABASE};
use crate::error::{Error, Result};
use crate::io::file::{read_exact_at, FileIdentity};

/// Every file of a store with its length, modification time and inode, and SQLite's change counter.
/// Temporary files of this crate are left out.
#[derive(Debug)]
pub(crate) struct Snapshot {
    directory: PathBuf,
    /// By path in the directory. `None` for a directory, whose own state changes with its entries.
    entries: BTreeMap<PathBuf, Option<FileIdentity>>,
    change_counter: Option<u32>,
}

impl Snapshot {
    /// Takes the state of all files below a directory. Takes up to 10 ms if one was just written.
    pub(crate) fn take(directory: &Path) -> Result<Self> {
        let snapshot = Self::look(directory)?;
        for identity in snapshot.entries.values().flatten() {
            identity.outlive_clock_tick();
        }
        Ok(snapshot)
    }

    fn look(directory: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        walk(directory, &mut |path, metadata| {
            let identity = (!metadata.is_dir()).then(|| FileIdentity::of(metadata));
            entries.insert(path.to_path_buf(), identity);
            Ok(())
        })?;
        Ok(Self {
            directory: directory.to_path_buf(),
            entries,
            change_counter: change_counter(&directory.join(DATABASE)),
        })
    }

    /// Paths of all files and directories in the store's directory.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(PathBuf::as_path)
    }

    /// Fails if a file was changed, added or removed since.
    pub(crate) fn check(&self) -> Result<()> {
        let now = Self::look(&self.directory)?;
        let changed = |path: &Path, found: String, expected: String| {
            Err(Error::changed(&self.directory.join(path), found, expected))
        };
        for (path, before) in &self.entries {
            match (before, now.entries.get(path)) {
                (Some(before), Some(Some(now))) => {
                    if let Some((found, expected)) = before.difference(now) {
                        return changed(path, found, expected);
                    }
                }
                (None, Some(None)) => {}
                (_, None) => return changed(path, "nothing".into(), "a file".into()),
                (_, Some(_)) => {
                    return changed(path, "another kind of file".into(), "the same file".into())
                }
            }
        }
        if let Some(added) = now.paths().find(|path| !self.entries.contains_key(*path)) {
            return changed(added, "a new file".into(), "nothing".into());
        }
        if self.change_counter != now.change_counter {
            let shown = |counter: Option<u32>| match counter {
                Some(counter) => format!("change counter {counter}"),
                None => "no change counter".into(),
            };
            let database = Path::new(DATABASE);
            return changed(
                database,
                shown(now.change_counter),
                shown(self.change_counter),
            );
        }
        Ok(())
    }
}

/// Reads SQLite's change counter: 4 bytes at offset 24. Each transaction adds to it, except with a
/// write-ahead log, which is a file of its own.
fn change_counter(database: &Path) -> Option<u32> {
    let mut bytes = [0; 4];
    read_exact_at(&File::open(database).ok()?, &mut bytes, 24).ok()?;
    Some(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::error::ErrorKind;

    fn store() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("store");
        std::fs::create_dir_all(directory.join("segment")).unwrap();
        std::fs::write(directory.join("segment/header.bin"), b"header").unwrap();
        std::fs::write(directory.join("segment/length.bin"), b"length").unwrap();
        std::fs::write(directory.join(DATABASE), [0; 100]).unwrap();
        (parent, directory)
    }

    #[test]
    fn a_store_that_stays_the_same_passes() {
        let (_parent, directory) = store();
        let snapshot = Snapshot::take(&directory).unwrap();
        assert_eq!(snapshot.paths().count(), 4);
        // Reading, and temporary files of this crate.
        std::fs::read(directory.join(DATABASE)).unwrap();
        let inside = directory.join(".hnsw-toolbox-1-1.tmp");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("file"), b"x").unwrap();
        snapshot.check().unwrap();
    }

    #[test]
    fn every_change_is_detected_with_its_file() {
        type Change = fn(&Path);
        let changes: [(Change, &str, &str); 8] = [
            (
                |d| std::fs::write(d.join("new"), b"x").unwrap(),
                "new",
                "a new file",
            ),
            (
                |d| std::fs::create_dir(d.join("new")).unwrap(),
                "new",
                "a new file",
            ),
            (
                |d| std::fs::remove_file(d.join("segment/length.bin")).unwrap(),
                "segment/length.bin",
                "nothing",
            ),
            (
                |d| std::fs::write(d.join("segment/header.bin"), b"longer text").unwrap(),
                "segment/header.bin",
                "11 bytes",
            ),
            (
                |d| std::fs::write(d.join("segment/header.bin"), b"HEADER").unwrap(),
                "segment/header.bin",
                "modification time",
            ),
            (
                |d| {
                    std::fs::remove_file(d.join("segment/header.bin")).unwrap();
                    std::fs::create_dir(d.join("segment/header.bin")).unwrap();
                },
                "segment/header.bin",
                "another kind",
            ),
            (
                |d| write_counter(d, SystemTime::now()),
                DATABASE,
                "modification time",
            ),
            (
                |d| {
                    let modified = d.join(DATABASE).metadata().unwrap().modified().unwrap();
                    write_counter(d, modified);
                },
                DATABASE,
                "change counter 7, expected change counter 0",
            ),
        ];
        for (change, path, found) in changes {
            let (_parent, directory) = store();
            let snapshot = Snapshot::take(&directory).unwrap();
            change(&directory);
            let error = snapshot.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InputChanged, "{error}");
            assert_eq!(error.path(), Some(&*directory.join(path)), "{error}");
            assert!(error.to_string().contains(found), "{found}: {error}");
        }
    }

    fn write_counter(directory: &Path, modified: SystemTime) {
        let file = File::options()
            .write(true)
            .open(directory.join(DATABASE))
            .unwrap();
        crate::io::file::write_all_at(&file, &[0, 0, 0, 7], 24).unwrap();
        file.set_modified(modified).unwrap();
    }
}
