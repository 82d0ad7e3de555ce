//! Repair of a whole persist directory: a new one that Chroma opens, with everything that is
//! readable of the old one.
//!
//! ```text
//! lock (in place) ─ read the catalogue ─ migrations ─ per collection: merge ─┬─ rows ─ SQLite
//!                                                                            └─ segment
//!   ─ full text, indexes, watermarks ─ other files ─ check ─ rename, or exchange the names
//! ```
//!
//! The merge of segment, queue and metadata is the one of an export. Its rows go straight into the
//! new database.

mod check;
mod files;
mod write;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

pub(crate) use self::write::{AddedCounts, Addition};
use self::write::{SegmentIds, Store};
use super::{RepairLinks, Space};
use crate::base::path::{display_path, with_suffix, Shell};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory};
use crate::io::file::IoMode;
#[cfg(feature = "wire")]
use crate::io::sparse::free_space;
use crate::io::swap::{commit_within, exchange, undo_commands, Lock, Snapshot, Stamp, Strategy};
use crate::store::write::Dropped;
use crate::verbs::collections::{has_loss, CollectionFinding, Persist};
use crate::verbs::extract::Salvage;

pub use crate::store::write::FullText;

/// Options of [`repair_store`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairStoreOptions {
    /// An empty persist directory made by the Chroma that will open the result. Needed only if the
    /// rows of the table `migrations` are lost or unknown.
    pub template: Option<PathBuf>,
    /// Keep records without a vector in the store. Chroma 1.0 and later fails on every filtered
    /// query of such a collection.
    pub keep_incomplete: bool,
    /// The source of the links of the new segments, as for [`repair_index`](crate::repair_index).
    pub links: Option<RepairLinks>,
    /// The metric of collections for which the database does not state it.
    pub metric: Option<Space>,
    /// Dimension and m of collections whose `header.bin` is lost, if nothing else states them.
    pub salvage: Salvage,
    /// Number of threads: by default one per core, and never more than 8.
    pub threads: Option<usize>,
    /// The I/O mode for the segments: [`IoMode::Read`] by default.
    pub io: IoMode,
    /// Report what would be done, and write nothing.
    pub dry_run: bool,
}

impl Default for RepairStoreOptions {
    fn default() -> Self {
        Self {
            template: None,
            keep_incomplete: false,
            links: None,
            metric: None,
            salvage: Salvage::default(),
            threads: None,
            io: IoMode::Read,
            dry_run: false,
        }
    }
}

setters!(RepairStoreOptions {
    with_template(template: impl Into<Option<PathBuf>>),
    with_keep_incomplete(keep_incomplete: bool),
    with_links(links: impl Into<Option<RepairLinks>>),
    with_metric(metric: impl Into<Option<Space>>),
    with_salvage(salvage: Salvage),
    with_threads(threads: impl Into<Option<usize>>),
    with_io(io: IoMode),
    with_dry_run(dry_run: bool),
});

/// The result of a repair of a store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RepairStoreSummary {
    /// The old persist directory.
    pub persist_dir: PathBuf,
    /// The new one.
    pub output_dir: PathBuf,
    /// True if nothing was written.
    pub dry_run: bool,
    /// The SQLite rollback journal or write-ahead log that was replayed, in a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<&'static str>,
    /// Records of the new store.
    pub records: u64,
    /// Records without a vector that are not in the new store.
    pub left_out: u64,
    /// An export of the records that were left out.
    pub left_out_dir: Option<PathBuf>,
    /// The old store, after a repair in place.
    pub kept_dir: Option<PathBuf>,
    /// The commands that bring the old store back, after a repair in place.
    pub undo: Vec<String>,
    /// The collections, by tenant, database and name.
    pub collections: Vec<RepairedStoreCollection>,
    /// Number of rows left out of each table: rows of deleted collections, and damaged ones.
    pub rows_dropped: Dropped,
    /// The origin of the full-text table; absent in a dry run.
    pub full_text: Option<FullText>,
    /// Directories of segments without a collection, which are not in the new store.
    pub leftover_directories: Vec<String>,
    /// Files that are not Chroma's, which were copied, and their bytes.
    pub other_files: u64,
    /// Their bytes.
    pub other_bytes: u64,
    /// Bytes that the old store takes on the disk.
    pub bytes_before: u64,
    /// Bytes that the new one takes; in a dry run, at most as many.
    pub bytes_after: u64,
    /// Findings about the database as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<CollectionFinding>,
    /// Warnings, such as files whose owner could not be set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl RepairStoreSummary {
    /// Returns true if no record, vector or text of the collections is missing or damaged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_whole = |collection: &RepairedStoreCollection| {
            collection.without_vector == 0 && !has_loss(&collection.findings)
        };
        self.collections.iter().all(is_whole) && !has_loss(&self.findings)
    }
}

/// A collection of a repaired store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RepairedStoreCollection {
    /// The tenant.
    pub tenant: String,
    /// The database, in Chroma's sense.
    pub database: String,
    /// The name.
    pub name: String,
    /// The id of the collection.
    pub id: String,
    /// The directory of its new segment; absent if it has no vectors.
    pub segment_dir: Option<String>,
    /// Components of each vector.
    pub dimension: Option<usize>,
    /// The metric: `l2`, `cosine` or `ip`.
    pub metric: &'static str,
    /// The source of the metric.
    pub metric_source: &'static str,
    /// Records of the new store.
    pub records: u64,
    /// Records whose vector is from the segment.
    pub vectors_from_segment: u64,
    /// Records whose vector is from the queue.
    pub vectors_from_queue: u64,
    /// Records whose vector is from another directory of the segment, such as a quarantined one.
    pub vectors_from_elsewhere: u64,
    /// Records whose vector is not finite. They stay in the queue, as no segment can hold them.
    pub vectors_not_finite: u64,
    /// Records without a vector.
    pub without_vector: u64,
    /// The ids of the first hundred records without a vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_ids_without_vector: Vec<String>,
    /// The source of the links of the new segment.
    pub links: Option<RepairLinks>,
    /// The findings reported with the collection.
    pub findings: Vec<CollectionFinding>,
}

/// Writes a whole persist directory anew: `chroma.sqlite3` and the segment of every collection,
/// with everything that is readable of `persist_dir`.
///
/// `new_dir` must not exist. It is created atomically, after it was read back and checked. The old
/// directory is never written to.
///
/// Records keep their order, their documents and typed metadata. Records without a vector are left
/// out, because Chroma 1.0 and later fails on queries of a collection with such records. They are
/// exported to `new_dir` with the suffix `.without-vectors`.
///
/// Memory: as for an export, and as for [`repair_index`](crate::repair_index) of the largest
/// collection, and 32 MiB for SQLite.
///
/// # Errors
///
/// As for [`repair_index`](crate::repair_index) and
/// [`export_collections`](crate::export_collections). When a collection has a vector segment of a
/// type that is not in the directory. When the rows of the table `migrations` are lost and there is
/// no template.
pub fn repair_store(
    persist_dir: impl AsRef<Path>,
    new_dir: impl AsRef<Path>,
    options: &RepairStoreOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairStoreSummary> {
    let (persist_dir, new_dir) = (persist_dir.as_ref(), new_dir.as_ref());
    check_new_dir(persist_dir, new_dir)?;
    let persist = Persist::open(persist_dir, &monitor.without_progress())?;
    write_beside(&persist, new_dir, options, &mut [], monitor)
}

/// Fails if a new store cannot get a name.
pub(crate) fn check_new_dir(persist_dir: &Path, new_dir: &Path) -> Result<()> {
    require_vacant(new_dir)?;
    refuse_inside(new_dir, persist_dir)
}

/// Writes a store with the records of another one and `additions` to `new_dir`.
pub(crate) fn write_beside(
    persist: &Persist<'_>,
    new_dir: &Path,
    options: &RepairStoreOptions,
    additions: &mut [Addition<'_>],
    monitor: &Monitor<'_>,
) -> Result<RepairStoreSummary> {
    let store = Store::new(persist, options, SegmentIds::Kept, additions, monitor)?;
    if options.dry_run {
        return store.preview(new_dir);
    }
    let left_out_dir = with_suffix(new_dir, ".without-vectors");
    require_vacant(&left_out_dir)?;
    store.check_free_space(new_dir)?;
    let output = AtomicDirectory::create(new_dir, persist.sharing(&store.origins))?;
    let summary = store.write(&output, new_dir, &left_out_dir, additions)?;
    persist.database.check_unchanged()?;
    output.sync_all()?;
    output.commit()?;
    store.report_end()?;
    Ok(summary)
}

/// Replaces a persist directory by a repaired one, under its name.
///
/// The new store is written beside the old one, read back and checked. Then the names of both are
/// exchanged at once, so that the name always has a complete store. The old one stays, under
/// [`kept_dir`](RepairStoreSummary::kept_dir). If the directory is a mount point, its contents are
/// replaced instead; renaming `chroma.sqlite3` decides.
///
/// `announce` gets the commands that bring the old store back, right before the exchange. If the
/// process is killed after that, they may be needed.
///
/// # Errors
///
/// As for [`repair_store`]. When another process, or this one, has a file of the store open. When
/// the store changes during the repair.
pub fn repair_store_in_place(
    persist_dir: impl AsRef<Path>,
    options: &RepairStoreOptions,
    announce: impl FnOnce(&[String]),
    monitor: &Monitor<'_>,
) -> Result<RepairStoreSummary> {
    let place = InPlace::lock(persist_dir.as_ref())?;
    let persist = Persist::open(place.directory(), &monitor.without_progress())?;
    place.write(&persist, options, &mut [], announce, monitor)
}

/// A persist directory that is locked before it is read, and replaced under its name.
pub(crate) struct InPlace {
    lock: Lock,
    snapshot: Snapshot,
    strategy: Strategy,
}

impl InPlace {
    pub(crate) fn lock(persist_dir: &Path) -> Result<Self> {
        // Before anything of the store is opened.
        let lock = Lock::open(persist_dir)?;
        Ok(Self {
            snapshot: Snapshot::take(lock.directory())?,
            strategy: Strategy::of(lock.directory())?,
            lock,
        })
    }

    /// The path of the directory, with links followed.
    pub(crate) fn directory(&self) -> &Path {
        self.lock.directory()
    }

    /// Writes a store with the records of this one, which `persist` has open, and `additions`, and
    /// puts it in place of this one.
    pub(crate) fn write(
        &self,
        persist: &Persist<'_>,
        options: &RepairStoreOptions,
        additions: &mut [Addition<'_>],
        announce: impl FnOnce(&[String]),
        monitor: &Monitor<'_>,
    ) -> Result<RepairStoreSummary> {
        let Self {
            lock,
            snapshot,
            strategy,
        } = self;
        let (persist_dir, strategy) = (lock.directory(), *strategy);
        let segment_ids = match strategy {
            Strategy::Exchange => SegmentIds::Kept,
            // Old and new segments are in one directory until the database is renamed.
            Strategy::Within(_) => SegmentIds::New,
        };
        let store = Store::new(persist, options, segment_ids, additions, monitor)?;
        if options.dry_run {
            return store.preview(persist_dir);
        }
        let stamp = Stamp::unused(persist_dir, SystemTime::now())?;
        let kept = stamp.before_repair(persist_dir, strategy);
        store.check_free_space(&kept)?;
        let output = AtomicDirectory::create(&kept, persist.sharing(&store.origins))?;
        let left_out_dir = stamp.without_vectors(persist_dir);
        let mut summary = store.write(&output, persist_dir, &left_out_dir, additions)?;
        output.sync_all()?;
        summary.undo = undo_commands(strategy, persist_dir, &stamp, Shell::of_system());
        announce(&summary.undo);
        persist.database.check_unchanged()?;
        snapshot.check()?;
        lock.check_still_unused()?;
        monitor.check()?;
        match strategy {
            Strategy::Exchange => exchange(output.temporary(), persist_dir, &kept)?,
            Strategy::Within(_) => {
                let collections = summary.collections.iter();
                let segments: Vec<_> = collections
                    .filter_map(|collection| collection.segment_dir.clone())
                    .collect();
                let old = &store.contents.segments;
                let left = commit_within(output.temporary(), persist_dir, &segments, old, &kept)?;
                if !left.is_empty() {
                    summary.warnings.push(format!(
                        "{} old segments could not be moved to {}",
                        left.len(),
                        display_path(&kept)
                    ));
                }
            }
        }
        if lock.unseen() {
            summary.warnings.push(
                "processes of other users, and outside this container, cannot be seen: make sure that \
                 none has the old store open"
                    .into(),
            );
        }
        if let Some(user) = lock.opened_during_swap() {
            let warning = format!("{user} opened the old store during the exchange: restart it");
            summary.warnings.push(warning);
        }
        summary.kept_dir = Some(kept);
        store.report_end()?;
        Ok(summary)
    }
}

/// Returns the bytes that a repair of a store writes at most, and the free bytes there.
#[cfg(feature = "wire")]
pub fn store_space(persist_dir: &Path, new_dir: Option<&Path>) -> (u64, Option<u64>) {
    let free = free_space(write::volume(new_dir.unwrap_or(persist_dir)));
    (files::size(persist_dir), free)
}
