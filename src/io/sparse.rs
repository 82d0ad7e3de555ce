//! Copies of sparse files, and the check that they fit.
//!
//! A hole occupies no disk space. A copy that filled the holes could need terabytes for a file of a
//! few kilobytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{write_all_at, InputFile};

/// Bytes copied between two checks of the cancel token.
const COPY_BLOCK: usize = 1 << 20;

/// Aligned blocks of zeros of this length in bytes become holes. No file system has larger blocks
/// by default.
const HOLE_BYTES: usize = 64 << 10;

/// Copies the first `len` bytes of a file to a new one, which it returns. Holes stay holes.
///
/// Reads only from the open file, never by its path, which may lead to another file by now.
pub(crate) fn copy(
    source: &InputFile,
    len: u64,
    target: &Path,
    monitor: &Monitor<'_>,
) -> Result<File> {
    const WRITE: &str = "write the copy of the database";
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(target)
        .map_err(Error::io(target, "create"))?;
    file.set_len(len).map_err(Error::io(target, WRITE))?;
    let mut block = memory::filled(COPY_BLOCK, 0, "copy the database")?;
    let mut next = Some(0);
    while let Some(data) = next.and_then(|at| source.next_data(at, len)) {
        let mut at = data.start;
        while at < data.end {
            monitor.check()?;
            let left = usize::try_from(data.end - at).unwrap_or(usize::MAX);
            let count = left.min(COPY_BLOCK);
            let bytes = block.get_mut(..count).unwrap_or_default();
            source.read_at(bytes, at)?;
            for part in bytes.chunks(HOLE_BYTES) {
                if part.iter().any(|byte| *byte != 0) {
                    write_all_at(&file, part, at).map_err(Error::io(target, WRITE))?;
                }
                at += part.len() as u64;
            }
        }
        next = Some(at);
    }
    Ok(file)
}

/// Fails if the file system of `directory` has less than `needed` bytes free. If the system does
/// not report free space, writing will fail instead. `action` says what they are for.
pub(crate) fn check_free_space(directory: &Path, needed: u64, action: &'static str) -> Result<()> {
    match free_space(directory) {
        Some(free) if free < needed => {
            let detail = format!("found {free} bytes free, expected at least {needed}");
            let cause = io::Error::new(io::ErrorKind::StorageFull, detail);
            Err(Error::io(directory, action)(cause))
        }
        _ => Ok(()),
    }
}

/// Returns the next range of data at or after `offset`, up to `end`.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(super) fn next_data(file: &File, offset: u64, end: u64) -> Option<Range<u64>> {
    use nix::errno::Errno;
    use nix::unistd::{lseek, Whence};

    if offset >= end {
        return None;
    }
    let seek = |from: u64, whence| {
        let from = libc::off_t::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        Ok(u64::try_from(lseek(file, from, whence)?).unwrap_or(end))
    };
    let start = match seek(offset, Whence::SeekData) {
        Ok(start) => start.max(offset),
        // ENXIO: only a hole follows.
        Err(Errno::ENXIO) => return None,
        // The file system cannot tell, so everything may be data.
        Err(_) => return Some(offset..end),
    };
    let hole = seek(start, Whence::SeekHole).unwrap_or(end);
    // Never an empty range, even if another process punches a hole in between.
    (start < end).then(|| start..hole.clamp(start + 1, end))
}

/// This system cannot tell, so everything may be data.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn next_data(_: &File, offset: u64, end: u64) -> Option<Range<u64>> {
    (offset < end).then_some(offset..end)
}

/// Bytes that this user may write to the file system of a directory.
#[cfg(unix)]
pub(crate) fn free_space(directory: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(directory).ok()?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let (blocks, size) = (
        u64::from(found.blocks_available()),
        u64::from(found.fragment_size()),
    );
    blocks.checked_mul(size)
}

#[cfg(not(unix))]
pub(crate) fn free_space(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::CancelToken;
    use crate::error::ErrorKind;
    use crate::io::file::IoMode;

    const MIB: u64 = 1 << 20;

    /// A file with data at the given offsets and holes everywhere else.
    fn sparse(path: &Path, len: u64, data: &[u64]) -> InputFile {
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        for at in data {
            write_all_at(&file, b"data", *at).unwrap();
        }
        InputFile::open(path, IoMode::Read).unwrap()
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let directory = tempfile::tempdir().unwrap();
        let len = 64 * MIB + 5;
        let offsets = [0, 3 * MIB - 2, 40 * MIB, len - 4];
        let source = sparse(&directory.path().join("source"), len, &offsets);
        let target = directory.path().join("target");
        copy(&source, len, &target, &Monitor::default()).unwrap();
        let copied = std::fs::read(&target).unwrap();
        assert!(copied == std::fs::read(source.path()).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let bytes = std::fs::metadata(&target).unwrap().blocks() * 512;
            assert!(bytes < 2 * MIB, "{bytes} bytes for four blocks");
        }
    }

    #[test]
    fn a_copy_ends_at_the_requested_length() {
        let directory = tempfile::tempdir().unwrap();
        let source = sparse(&directory.path().join("source"), 1 << 40, &[0, 1 << 39]);
        let target = directory.path().join("target");
        copy(&source, 8192, &target, &Monitor::default()).unwrap();
        let mut expected = vec![0; 8192];
        expected[..4].copy_from_slice(b"data");
        assert_eq!(std::fs::read(target).unwrap(), expected);
    }

    #[test]
    fn a_copy_can_be_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let source = sparse(&directory.path().join("source"), MIB, &[0]);
        let token = CancelToken::new();
        token.cancel();
        let monitor = Monitor::default().with_cancel(&token);
        let copied = copy(&source, MIB, &directory.path().join("target"), &monitor);
        assert_eq!(copied.unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[cfg(unix)]
    #[test]
    fn too_little_free_space_is_an_error_with_both_sizes() {
        let directory = tempfile::tempdir().unwrap();
        check_free_space(directory.path(), 0, "write").unwrap();
        let error = check_free_space(directory.path(), u64::MAX, "write").unwrap_err();
        assert_eq!(error.code(), 300);
        let words = error.to_string();
        let start = format!("{}: cannot write: found ", directory.path().display());
        assert!(words.starts_with(&start), "{words}");
        let end = format!("bytes free, expected at least {}", u64::MAX);
        assert!(words.ends_with(&end), "{words}");
    }
}
