//! Describes a segment, without checking for damage.

use std::path::Path;

use serde::Serialize;

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::IoMode;
use crate::segment::directory::Segment;
use crate::segment::labels::{LabelRange, Labels};
use crate::segment::{file_name, IndexHeader};

/// Options of [`inspect_index`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectOptions {
    /// The I/O mode for the files: [`IoMode::Read`] by default.
    pub io: IoMode,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self { io: IoMode::Read }
    }
}

setters!(InspectOptions {
    with_io(io: IoMode),
});

/// The result of [`inspect_index`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IndexReport {
    /// The header's fields.
    pub header: IndexHeader,
    /// Components of each vector.
    pub dimension: usize,
    /// Records that are not marked as deleted.
    pub live: u64,
    /// Records that are marked as deleted.
    pub deleted: u64,
    /// The range of the labels of live records; absent if there are none.
    pub labels: Option<LabelRange>,
    /// Live records whose label a live record with a higher internal id also has. A healthy index
    /// has none.
    pub duplicate_labels: u64,
    /// The files of the directory, in the order in which Chroma writes them.
    pub files: Vec<FileSize>,
}

/// The size of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileSize {
    /// The file's name in the directory.
    pub name: &'static str,
    /// Length in bytes; absent if the file is missing.
    pub apparent_bytes: Option<u64>,
    /// Bytes allocated on disk, fewer than the length for a sparse file. Absent if the system does
    /// not report them.
    pub allocated_bytes: Option<u64>,
}

/// Reads the header and every record of an index.
///
/// Memory: a bit for each label between the lowest and the highest when labels are dense, as in
/// Chroma's indexes, else 12 bytes for each live record.
///
/// # Errors
///
/// When the index cannot be read, and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn inspect_index(
    index_dir: impl AsRef<Path>,
    options: &InspectOptions,
    monitor: &Monitor<'_>,
) -> Result<IndexReport> {
    inspect_segment(&Segment::open(index_dir.as_ref(), options.io)?, monitor)
}

/// Reads every record of a segment that is not damaged.
pub(crate) fn inspect_segment(segment: &Segment, monitor: &Monitor<'_>) -> Result<IndexReport> {
    let header = segment
        .header()
        .ok_or_else(|| Error::internal("the header of a healthy segment was not read"))?;
    let labels = Labels::read(&mut segment.level0()?, monitor, |_, record| {
        !record.links.is_deleted()
    })?;
    let files = segment.files();
    files.check_unchanged()?;

    Ok(IndexReport {
        dimension: segment.layout().dimension(),
        live: labels.records,
        // `labels` counts live records only.
        deleted: segment.count() - labels.records,
        labels: labels.range,
        duplicate_labels: labels.duplicates,
        files: file_name::ALL
            .into_iter()
            .map(|name| file_size(files.dir(), name))
            .collect::<Result<_>>()?,
        header: header.clone(),
    })
}

fn file_size(directory: &Path, name: &'static str) -> Result<FileSize> {
    let path = directory.join(name);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(FileSize {
            name,
            apparent_bytes: None,
            allocated_bytes: None,
        }),
        Err(error) => Err(Error::io(&path, "read the size")(error)),
        Ok(metadata) => Ok(FileSize {
            name,
            apparent_bytes: Some(metadata.len()),
            allocated_bytes: allocated_bytes(&metadata),
        }),
    }
}

#[cfg(unix)]
fn allocated_bytes(metadata: &std::fs::Metadata) -> Option<u64> {
    // POSIX leaves the unit of st_blocks unspecified; it is 512 bytes on all systems in use.
    std::os::unix::fs::MetadataExt::blocks(metadata).checked_mul(512)
}

#[cfg(not(unix))]
fn allocated_bytes(_: &std::fs::Metadata) -> Option<u64> {
    None
}
