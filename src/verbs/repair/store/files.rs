//! Files of a persist directory that are not Chroma's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::file_name;

/// Name of the directories in which a repair in place keeps what it replaced.
pub(super) const KEPT: &str = "before-repair-";

/// Largest block of a file system, by default.
const MAX_BLOCK: u64 = 64 << 10;

/// Contents of a persist directory, apart from the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// Directories of segments that some collection has.
    pub(super) segments: Vec<OsString>,
    /// Directories of segments that no collection has: of deleted collections, or quarantined.
    pub(super) leftovers: Vec<OsString>,
    /// Everything else, except what an earlier repair has kept.
    pub(super) others: Vec<OsString>,
}

impl Contents {
    /// Lists a persist directory. `known` are the ids of the segments.
    pub(super) fn read(persist_dir: &Path, known: &BTreeSet<&str>) -> Result<Self> {
        let mut contents = Self::default();
        for entry in list(persist_dir)? {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_database = text.starts_with(file_name::DATABASE);
            // Temporary directories of a killed run, which the next one removes.
            let is_ours = text.starts_with(KEPT) || text.starts_with(".hnsw-toolbox-");
            if is_database || is_ours {
                continue;
            }
            let path = entry.path();
            // A link to a segment's directory counts as the directory.
            if known.contains(&*text) {
                contents.segments.push(name);
            } else if file_name::ALL.iter().any(|file| path.join(file).exists()) {
                contents.leftovers.push(name);
            } else {
                contents.others.push(name);
            }
        }
        Ok(contents)
    }
}

fn list(directory: &Path) -> Result<Vec<std::fs::DirEntry>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io(directory, "list"))?;
    let entries = entries.collect::<std::io::Result<Vec<_>>>();
    let mut entries = entries.map_err(Error::io(directory, "list"))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    Ok(entries)
}

/// Number and length of copied files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Sockets, pipes and devices, which are not copied.
    pub(super) special: u64,
}

/// Copies files and directories from one directory to another. A symbolic link stays one.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    names: &[OsString],
    monitor: &Monitor<'_>,
) -> Result<Copied> {
    let left = names.iter().map(|name| (from.join(name), to.join(name)));
    copy_all(left.collect(), monitor)
}

/// Copies a directory, to which `from` may be a link.
pub(super) fn copy_directory(from: &Path, to: &Path, monitor: &Monitor<'_>) -> Result<Copied> {
    let from = from
        .canonicalize()
        .map_err(Error::io(from, "follow the path"))?;
    copy_all(vec![(from, to.to_path_buf())], monitor)
}

fn copy_all(mut left: Vec<(PathBuf, PathBuf)>, monitor: &Monitor<'_>) -> Result<Copied> {
    let mut copied = Copied::default();
    while let Some((from, to)) = left.pop() {
        monitor.check()?;
        let found = std::fs::symlink_metadata(&from).map_err(Error::io(&from, "look up"))?;
        if found.is_dir() {
            std::fs::create_dir(&to).map_err(Error::io(&to, "create"))?;
            left.extend(list(&from)?.into_iter().map(|entry| {
                let name = entry.file_name();
                (from.join(&name), to.join(name))
            }));
        } else if found.is_symlink() {
            link(&from, &to)?;
            copied.files += 1;
        } else if found.is_file() {
            copied.bytes += std::fs::copy(&from, &to).map_err(Error::io(&from, "copy"))?;
            copied.files += 1;
        } else {
            copied.special += 1;
        }
    }
    Ok(copied)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> Result<()> {
    let target = std::fs::read_link(from).map_err(Error::io(from, "read the link"))?;
    std::os::unix::fs::symlink(target, to).map_err(Error::io(to, "create the link"))
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> Result<()> {
    // A link needs a privilege here: the file itself takes its place.
    std::fs::copy(from, to).map_err(Error::io(from, "copy"))?;
    Ok(())
}

/// Returns the bytes that a directory takes on the disk, or a file's length.
pub(super) fn size(path: &Path) -> u64 {
    let mut bytes = 0_u64;
    // The directory itself may be a link.
    let mut left = vec![path.canonicalize().unwrap_or_else(|_| path.to_path_buf())];
    while let Some(path) = left.pop() {
        // A file that cannot be looked up counts nothing: the number is for people.
        let Ok(found) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if found.is_dir() {
            left.extend(list(&path).into_iter().flatten().map(|entry| entry.path()));
        } else {
            bytes = bytes.saturating_add(allocated(&found));
        }
    }
    bytes
}

/// Returns true if a file of the directory takes less than its length, by more than a block.
pub(super) fn has_holes(directory: &Path) -> bool {
    let files = list(directory).into_iter().flatten();
    let mut found = files.filter_map(|file| std::fs::metadata(file.path()).ok());
    found.any(|file| file.is_file() && allocated(&file).saturating_add(MAX_BLOCK) < file.len())
}

/// A sparse file takes less than its length.
#[cfg(unix)]
fn allocated(found: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    found.len().min(found.blocks().saturating_mul(512))
}

#[cfg(not(unix))]
fn allocated(found: &std::fs::Metadata) -> u64 {
    found.len()
}
