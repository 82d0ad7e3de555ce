//! Checks a segment for damage.
//!
//! One pass over the records checks their links, labels and vectors, and compares them with the
//! metadata. Unless that proves all labels distinct, a second pass looks for duplicates. Then the
//! links of the upper levels are checked, and a breadth-first walk over the graph finds the records
//! that are unreachable from the entry point.

pub(super) mod finding;
mod header;
pub(crate) mod hnsw;
mod links;
mod metadata;
mod norms;
mod reach;
mod records;
mod vectors;

use std::num::NonZeroUsize;
use std::path::Path;

use serde::Serialize;

pub use finding::{Finding, Severity};
pub use hnsw::verify_hnsw;

pub(crate) use self::finding::Findings;
use self::metadata::MetadataCheck;
use self::records::Part;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{Access, FileWindow, InputFile, IoMode, WINDOW};
use crate::segment::directory::{SegmentFiles, SegmentMetadata};
use crate::segment::file_name::{self, LEVEL0};
use crate::segment::labels::Labels;
use crate::segment::norms::Norms;
use crate::segment::pickle::Pickle;
use crate::segment::record::RecordLayout;
use crate::verbs::repair::{self, Space};

named_enum! {
    /// The state of an index. Of several problems the first in this order is reported, because an
    /// earlier one makes the later ones less reliable.
    #[derive(PartialOrd, Ord)]
    pub enum IndexState for "state" {
        /// `header.bin` has a version that this crate does not know.
        UnsupportedVersion = "unsupported_version",
        /// `header.bin` is missing or inconsistent, so that nothing else can be read.
        BadHeader = "bad_header",
        /// Records are missing or have values that no record has, or `length.bin` is too short.
        TornData = "torn_data",
        /// `link_lists.bin` has impossible sizes, or is longer than it can be. A known bug of
        /// Chroma writes such files, sparse and terabytes long.
        RunawayLinks = "runaway_links",
        /// Links lead nowhere, or are missing.
        TornLinks = "torn_links",
        /// Records exist, but no readable metadata. That is damage: no vector has an id, and Chroma
        /// starts over with an empty index.
        NoMetadata = "no_metadata",
        /// The metadata and the records differ in their labels or in the dimension.
        MetadataMismatch = "metadata_mismatch",
        /// Holds no records: the collection was never flushed. That is not damage.
        Empty = "empty",
        /// Nothing is wrong.
        Healthy = "healthy",
    }
}

impl IndexState {
    /// Returns true if data is lost or an operation on the index would fail.
    #[must_use]
    pub fn is_damaged(self) -> bool {
        !matches!(self, Self::Empty | Self::Healthy)
    }
}

/// Options of [`verify_index`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The I/O mode for the files: [`IoMode::Read`] by default.
    pub io: IoMode,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { io: IoMode::Read }
    }
}

setters!(VerifyOptions {
    with_io(io: IoMode),
});

/// The result of [`verify_index`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The state of the index.
    pub state: IndexState,
    /// True if data is lost or an operation on the index would fail.
    pub damaged: bool,
    /// Records present in the file that are not marked as deleted.
    pub live: u64,
    /// Records present in the file that are marked as deleted.
    pub deleted: u64,
    /// The findings, worst first.
    pub findings: Vec<Finding>,
}

/// Checks everything that the files of an index promise.
///
/// Peculiarities of healthy indexes are not reported: records beyond the count, a capacity that
/// differs from the length of a file, labels in any order, deleted records. Damage is a
/// [`Finding`], not an error.
///
/// Memory:
///
/// - for each record and each label: a bit (12 bytes for each live record if labels are far apart)
/// - for each id of the metadata: 24 bytes, and up to 48 while it is read
/// - for each record on upper levels (one in m): 16 bytes
/// - for each record while the graph is walked: at most 8 bytes
///
/// # Errors
///
/// When the directory has no file of a segment
/// ([`ErrorKind::UnusablePath`](crate::ErrorKind::UnusablePath)), when a directory or file cannot be
/// opened or read, when a file changes while it is read
/// ([`ErrorKind::InputChanged`](crate::ErrorKind::InputChanged)), and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn verify_index(
    index_dir: impl AsRef<Path>,
    options: &VerifyOptions,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    let index_dir = index_dir.as_ref();
    let access = Access::from(options.io).past_bad_sectors();
    let files = SegmentFiles::new(index_dir, access)?;
    // Some missing files are damage. Without any, the directory is something else.
    let is_missing = |name: &&str| !index_dir.join(name).exists();
    if file_name::ALL.iter().all(is_missing) {
        return Err(Error::unusable(
            index_dir,
            "none of them",
            "header.bin, data_level0.bin and the other files of a segment",
        ));
    }
    let space = repair::space_beside(index_dir, None, &monitor.without_progress())?;
    verify_segment(&files, space, monitor)
}

/// Checks everything that the files of a segment promise. `space` is the metric of its collection,
/// if it is known.
pub(crate) fn verify_segment(
    files: &SegmentFiles,
    space: Option<Space>,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    verify_with(files, space, &Extent::All, monitor)
}

/// Makes the same checks on several threads, but does not walk the graph. `metadata` is the
/// segment's, if it has already been read.
pub(crate) fn examine(
    files: &SegmentFiles,
    space: Option<Space>,
    metadata: Option<&Pickle>,
    threads: NonZeroUsize,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    let extent = Extent::Examined { metadata, threads };
    verify_with(files, space, &extent, monitor)
}

/// The checks to make, and their resources.
enum Extent<'m> {
    /// Every check, on one thread.
    All,
    /// Every check except reachability.
    Examined {
        metadata: Option<&'m Pickle>,
        threads: NonZeroUsize,
    },
}

fn verify_with(
    files: &SegmentFiles,
    space: Option<Space>,
    extent: &Extent<'_>,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    files.open_all()?;
    let mut findings = Findings::new();
    let (live, deleted, is_empty) = verify_files(files, space, extent, &mut findings, monitor)?;
    for (file, sectors) in files.bad_sectors() {
        let first = || "input/output error".to_string();
        findings.note_many(&finding::UNREADABLE, file.name(), sectors, first);
    }
    // After all reads: findings about a changing index would be meaningless.
    files.check_unchanged()?;
    let (findings, found) = findings.finish();
    let state = match found {
        IndexState::Healthy if is_empty => IndexState::Empty,
        found => found,
    };
    Ok(VerifyReport {
        state,
        damaged: state.is_damaged(),
        live,
        deleted,
        findings,
    })
}

/// Returns the numbers of live and deleted records, and true if the header counts no records.
fn verify_files(
    files: &SegmentFiles,
    space: Option<Space>,
    extent: &Extent<'_>,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<(u64, u64, bool)> {
    let source = files.header.get()?.map(|file| file.window(WINDOW));
    let Some(header) = header::check(source, findings)? else {
        return Ok((0, 0, false));
    };
    let layout = header
        .record_layout()
        .map_err(|error| error.in_file(files.header.path()))?;
    let count = header.cur_element_count;
    let level0_len = files.level0.get()?.map(InputFile::len);
    let whole = level0_len.map_or(0, |len| layout.whole_records(len));
    match level0_len {
        None => findings.note(&finding::LEVEL0_MISSING, LEVEL0, || {
            format!("header.bin counts {count} records")
        }),
        Some(len) => {
            let missing = count.saturating_sub(whole);
            findings.note_many(&finding::LEVEL0_TOO_SHORT, LEVEL0, missing, || {
                format!(
                    "record {whole}: {len} bytes hold {whole} complete records, header.bin counts \
                     {count}"
                )
            });
        }
    }
    let (known, threads) = match extent {
        Extent::All => (None, NonZeroUsize::MIN),
        Extent::Examined { metadata, threads } => (*metadata, *threads),
    };
    let read = match known {
        Some(_) => None,
        None => metadata::read(files, &header, findings, monitor)?,
    };
    let table = known.or(read.as_ref().map(SegmentMetadata::table));
    let mut metadata = MetadataCheck::new(table, &header, findings)?;

    let mut totals = records::Totals::default();
    let mut level0 = match level0_len {
        // Complete records only, and none beyond the count.
        Some(_) => Some(files.read_level0(layout, count.min(whole))?),
        None => None,
    };
    if let Some(level0) = &mut level0 {
        let parts = parts_of(files, layout, level0.count(), threads)?;
        totals = records::check(parts, &header, &mut metadata, findings, monitor)?;
        // As many distinct labels as live records: no duplicates, and no second pass.
        if !metadata.has_seen_different(totals.live) {
            let silent = monitor.without_progress();
            let labels = Labels::read(level0, &silent, |_, record| {
                !record.links.is_deleted() && !record.unreadable
            })?;
            if let Some((id, label)) = labels.first_duplicate {
                findings.note_many(&finding::LABEL_DUPLICATE, LEVEL0, labels.duplicates, || {
                    format!("record {id}, label {label}")
                });
            }
        }
    }
    metadata.finish(findings);
    let norms = files.read_norms()?;
    let held = norms.as_ref().map_or(0, Norms::count);
    norms::check(norms, count, findings);
    let is_cosine = space.map(|space| space == Space::Cosine);
    vectors::check(&totals.vectors, held, is_cosine, findings);

    let mut links = files.read_link_lists(&header)?;
    let upper = links::check(links.as_mut(), &header, findings, monitor)?;
    if let (Extent::All, Some(level0)) = (extent, &mut level0) {
        // For steps of the walk that visit few records, far apart in the file.
        let mut sparse = files.read_level0_for_lookups(layout, level0.count())?;
        let links = links.as_mut().map(|links| (links, &upper));
        let entry_point = header.enterpoint_node;
        reach::check(level0, &mut sparse, links, entry_point, findings, monitor)?;
    }
    Ok((totals.live, totals.deleted, count == 0))
}

/// Splits the records into one part per thread, but into no more than one per window of the file.
fn parts_of(
    files: &SegmentFiles,
    layout: RecordLayout,
    count: u64,
    threads: NonZeroUsize,
) -> Result<Vec<Part<FileWindow<'_>>>> {
    let size = count.saturating_mul(layout.size() as u64);
    let parts = size.div_ceil(WINDOW as u64).min(threads.get() as u64);
    let len = count.div_ceil(parts.max(1)).max(1);
    // The windows of all parts together take the memory of one.
    let window = WINDOW / usize::try_from(parts.max(1)).map_err(Error::internal)?;
    let mut all = Vec::new();
    let mut start = 0;
    while start < count {
        let end = start.saturating_add(len).min(count);
        all.push(Part {
            level0: files.read_level0_in(window, layout, count)?,
            norms: files.read_norms()?,
            range: start..end,
        });
        start = end;
    }
    Ok(all)
}
