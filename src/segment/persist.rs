//! Tells a persist directory from a segment directory.
//!
//! A *persist directory* contains `chroma.sqlite3`, and below it one *segment directory* for each
//! collection, with `header.bin`. Users confuse them: they know the first by its path, and the second
//! has only a UUID for a name.

use std::fs::DirEntry;
use std::path::Path;

use super::file_name;
use crate::base::path::display_path;
use crate::error::{Error, Result};

/// Maximum number of directory entries to read, so that a directory of millions costs little.
const MAX_ENTRIES: usize = 4096;

/// Maximum number of segments that an error lists.
const MAX_LISTED: usize = 8;

/// Fails if `dir` is a persist directory and not a segment directory, and lists the segments below it.
pub(super) fn refuse_persist_directory(dir: &Path) -> Result<()> {
    let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
    if !has(file_name::DATABASE) || has(file_name::HEADER) || has(file_name::LEVEL0) {
        return Ok(());
    }
    let segments = segments_below(dir);
    let expected = match segments.as_slice() {
        [] => "a vector segment directory, but there is none in it".to_string(),
        [only] => format!("its vector segment directory {only}"),
        all => {
            let shown = all.get(..MAX_LISTED).unwrap_or(all);
            let more = match all.len() - shown.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let shown = shown.join(", ");
            format!("one of its vector segment directories: {shown}{more}")
        }
    };
    Err(Error::unusable(
        dir,
        "a persist directory (the one with chroma.sqlite3)",
        format!("{expected}; `export` takes the whole persist directory"),
    ))
}

/// The names of the segment directories in a persist directory, sorted, each with the total size of
/// its files.
fn segments_below(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut segments: Vec<_> = entries
        .take(MAX_ENTRIES)
        .flatten()
        .filter(|entry| is_uuid(entry) && entry.path().join(file_name::HEADER).is_file())
        .map(|entry| {
            let path = entry.path();
            let bytes = file_name::ALL
                .iter()
                .filter_map(|name| Some(std::fs::metadata(path.join(name)).ok()?.len()))
                .fold(0, u64::saturating_add);
            let name = entry.file_name();
            format!("{} ({bytes} bytes)", display_path(name.as_ref()))
        })
        .collect();
    segments.sort_unstable();
    segments
}

/// Returns true for a name of the form that Chroma gives to segments: `8-4-4-4-12` hexadecimal digits.
fn is_uuid(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    let groups = name.split(|byte| *byte == b'-').map(<[u8]>::len);
    groups.eq([8, 4, 4, 4, 12])
        && name
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0f5ba1f4-6d0c-4d4f-9f5e-1b2c3d4e5f60";

    fn segment(dir: &Path, name: &str, bytes: usize) {
        let segment = dir.join(name);
        std::fs::create_dir(&segment).unwrap();
        std::fs::write(segment.join("header.bin"), vec![0; bytes]).unwrap();
    }

    fn refusal(dir: &Path) -> String {
        refuse_persist_directory(dir).unwrap_err().to_string()
    }

    #[test]
    fn a_persist_directory_is_refused_with_its_segments() {
        let dir = tempfile::tempdir().unwrap();
        refuse_persist_directory(dir.path()).unwrap();
        std::fs::write(dir.path().join("chroma.sqlite3"), b"").unwrap();
        assert!(refusal(dir.path()).contains("there is none in it"));

        segment(dir.path(), UUID, 100);
        segment(dir.path(), "not-a-uuid", 100);
        std::fs::create_dir(dir.path().join(UUID.replace('0', "1"))).unwrap();
        let error = refusal(dir.path());
        let expected = format!("its vector segment directory {UUID} (100 bytes)");
        assert!(error.contains(&expected), "{error}");

        for number in 10..30 {
            let name = format!("{number}000000-0000-0000-0000-000000000000");
            segment(dir.path(), &name, number);
        }
        let error = refusal(dir.path());
        assert!(error.contains(&format!("directories: {UUID} (100 bytes), 10000000-")));
        assert!(error.contains("(16 bytes) and 13 more"), "{error}");

        // A directory that is both is an index.
        std::fs::write(dir.path().join("header.bin"), b"").unwrap();
        refuse_persist_directory(dir.path()).unwrap();
    }
}
