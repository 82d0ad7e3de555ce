//! What an index directory holds, without judging it.

use std::path::Path;

use serde::Serialize;

use super::level0::Level0;
use super::{file_name, Index, IndexHeader, IoMode};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// What [`inspect_index`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndexReport {
    /// The header's fields.
    pub header: IndexHeader,
    /// Components of each vector.
    pub dimension: usize,
    /// Records without the delete mark.
    pub live: u64,
    /// Records with the delete mark.
    pub deleted: u64,
    /// The labels of the live records; absent when there are none.
    pub labels: Option<LabelRange>,
    /// Live records whose label a live record with a lower internal id has, too. In a healthy
    /// index there are none.
    pub duplicate_labels: u64,
    /// The files of the directory, in the order in which Chroma writes them.
    pub files: Vec<FileSize>,
}

/// The lowest and the highest of some labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LabelRange {
    /// The lowest label.
    pub min: u64,
    /// The highest label.
    pub max: u64,
}

/// How large a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// The file's name in the directory.
    pub name: &'static str,
    /// Length in bytes; absent when there is no such file.
    pub apparent_bytes: Option<u64>,
    /// Bytes allocated on disk, which are fewer in a sparse file; absent where the system does
    /// not tell.
    pub allocated_bytes: Option<u64>,
}

/// Reads the header and goes over every record of an index.
///
/// Memory: a bit for each label between the lowest and the highest when labels are dense, as
/// Chroma's are, else 8 bytes for each live record.
///
/// # Errors
///
/// Those of an index that cannot be read, and [`Error::Cancelled`].
pub fn inspect_index(
    index_dir: impl AsRef<Path>,
    io: IoMode,
    monitor: &Monitor<'_>,
) -> Result<IndexReport> {
    let index = Index::open(index_dir.as_ref(), io)?;
    let mut level0 = index.level0()?;

    let mut live = 0;
    let mut labels: Option<LabelRange> = None;
    for_each_live_label(&mut level0, monitor, |label| {
        live += 1;
        labels = Some(labels.map_or(
            LabelRange {
                min: label,
                max: label,
            },
            |range| LabelRange {
                min: range.min.min(label),
                max: range.max.max(label),
            },
        ));
    })?;
    let duplicate_labels = match labels {
        None => 0,
        Some(range) => count_duplicates(&mut level0, live, range, monitor)?,
    };
    index.check_unchanged()?;

    Ok(IndexReport {
        dimension: index.header().dimension(),
        live,
        deleted: level0.count() - live,
        labels,
        duplicate_labels,
        files: file_name::ALL
            .into_iter()
            .map(|name| file_size(index.dir(), name))
            .collect::<Result<_>>()?,
        header: index.header().clone(),
    })
}

fn for_each_live_label(
    level0: &mut Level0<'_>,
    monitor: &Monitor<'_>,
    mut visit: impl FnMut(u64),
) -> Result<()> {
    let count = level0.count();
    let mut done = 0;
    while done < count {
        let block = level0.block(done, count)?;
        for record in block.iter() {
            let (id, record) = record?;
            if !record.links.is_deleted() {
                visit(record.label);
            }
            done = id + 1;
        }
        monitor.advance(done, count)?;
    }
    Ok(())
}

fn count_duplicates(
    level0: &mut Level0<'_>,
    live: u64,
    range: LabelRange,
    monitor: &Monitor<'_>,
) -> Result<u64> {
    let out_of_memory = |_| Error::internal("not enough memory for the labels of the index");
    let span = range.max - range.min;
    let mut duplicates = 0;
    if span / 64 <= live {
        let words = usize::try_from(span / 64 + 1).unwrap_or(usize::MAX);
        let mut seen: Vec<u64> = Vec::new();
        seen.try_reserve_exact(words).map_err(out_of_memory)?;
        seen.resize(words, 0);
        for_each_live_label(level0, monitor, |label| {
            // A label outside the range appeared since the first pass: the check at the end of
            // the reading tells.
            let Some(at) = label.checked_sub(range.min) else {
                return;
            };
            let word = usize::try_from(at / 64)
                .ok()
                .and_then(|at| seen.get_mut(at));
            if let Some(word) = word {
                let bit = 1 << (at % 64);
                duplicates += u64::from(*word & bit != 0);
                *word |= bit;
            }
        })?;
    } else {
        let mut labels: Vec<u64> = Vec::new();
        let count = usize::try_from(live).unwrap_or(usize::MAX);
        labels.try_reserve_exact(count).map_err(out_of_memory)?;
        for_each_live_label(level0, monitor, |label| {
            if labels.len() < count {
                labels.push(label);
            }
        })?;
        labels.sort_unstable();
        labels.dedup_by(|one, other| {
            let same = one == other;
            duplicates += u64::from(same);
            same
        });
    }
    Ok(duplicates)
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
    // POSIX leaves the unit to the system; it is 512 bytes on all that are in use.
    std::os::unix::fs::MetadataExt::blocks(metadata).checked_mul(512)
}

#[cfg(not(unix))]
fn allocated_bytes(_: &std::fs::Metadata) -> Option<u64> {
    None
}
