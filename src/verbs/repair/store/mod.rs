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

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::check::{Expected, Samples};
use self::files::Contents;
use super::persist::{self, Fate, Source};
use super::{RepairLinks, RepairOptions, Space};
use crate::base::bits::Bits;
use crate::base::progress::{Monitor, Progress};
use crate::error::{Error, Result};
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory};
use crate::io::file::{is_directory, IoMode};
use crate::io::sparse::check_free_space;
use crate::segment::file_name;
use crate::store::catalog::{SpaceSource, LOCAL_INDEX};
use crate::store::collection::{directory_of, Given, Origin, Plan, Row};
use crate::store::write::migrations::Migrations;
use crate::store::write::{
    new_uuid, Configuration, DatabaseWriter, Dropped, LastWrite, NewSegments, RecordWriter,
};
use crate::verbs::collections::{has_loss, CollectionFilter, CollectionFinding, Persist};
use crate::verbs::export::export_rows;
use crate::verbs::extract::Salvage;

pub use crate::store::write::FullText;

/// Records between two progress reports.
const RECORDS_PER_REPORT: u64 = 512;

/// Ids without a vector that the summary lists.
const MAX_LISTED_IDS: usize = 100;

/// Chroma's defaults.
const DEFAULT_M: u64 = 16;
const DEFAULT_EF_CONSTRUCTION: u64 = 100;

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
    /// The collections, by tenant, database and name.
    pub collections: Vec<RepairedStoreCollection>,
    /// Number of rows left out of each table: those of deleted collections, and damaged ones.
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
    require_vacant(new_dir)?;
    refuse_inside(new_dir, persist_dir)?;
    let silent = monitor.without_progress();
    let persist = Persist::open(persist_dir, &silent)?;
    let store = Store::new(&persist, options, monitor)?;
    if options.dry_run {
        return store.preview(new_dir);
    }
    let left_out_dir = with_suffix(new_dir, ".without-vectors");
    require_vacant(&left_out_dir)?;
    store.check_free_space(new_dir)?;
    let output = AtomicDirectory::create(new_dir, persist.sharing(&store.origins))?;
    let summary = store.write(&output, new_dir, &left_out_dir)?;
    persist.database.check_unchanged()?;
    output.commit()?;
    monitor.advance(store.total, store.total)?;
    Ok(summary)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A persist directory that is written anew.
struct Store<'s> {
    persist: &'s Persist<'s>,
    options: &'s RepairStoreOptions,
    monitor: &'s Monitor<'s>,
    origins: Vec<Origin<'s>>,
    migrations: Migrations,
    contents: Contents,
    /// Progress of all collections: each record counts twice, when it is read and when its vector
    /// is linked.
    total: u64,
}

impl<'s> Store<'s> {
    fn new(
        persist: &'s Persist<'s>,
        options: &'s RepairStoreOptions,
        monitor: &'s Monitor<'s>,
    ) -> Result<Self> {
        options.salvage.shape()?;
        let given = Given {
            dimension: options.salvage.dimension,
            m: options.salvage.m,
            space: options.metric.map(Into::into),
        };
        let filter = CollectionFilter::default().with_io(options.io);
        let origins = persist.choose(&filter)?.into_iter();
        let origins: Vec<_> = origins.map(|origin| origin.with_given(given)).collect();
        let silent = monitor.without_progress();
        let mut records = 0;
        for origin in &origins {
            let collection = origin.collection;
            let segment = collection.vector_segment.as_ref();
            if let Some(segment) = segment.filter(|segment| segment.type_ != LOCAL_INDEX) {
                return Err(Error::argument(
                    "collection",
                    format!(
                        "{}, with a vector segment of type {}",
                        collection.name, segment.type_
                    ),
                    "collections with local HNSW indexes only: save the others with export",
                ));
            }
            if let Some(segment) = &collection.metadata_segment {
                records += persist.database.record_count(&segment.id, &silent)?;
            }
        }
        let template = options.template.as_deref();
        let migrations = Migrations::read(&persist.database, template, &silent)?;
        let known: BTreeSet<_> = origins
            .iter()
            .filter_map(|origin| origin.collection.vector_segment.as_ref())
            .map(|segment| segment.id.as_str())
            .collect();
        Ok(Self {
            contents: Contents::read(persist.dir, &known)?,
            persist,
            options,
            monitor,
            origins,
            migrations,
            total: records * 2,
        })
    }

    /// Bytes that the old store takes on the disk: the database, the segments and other files.
    fn bytes_before(&self) -> u64 {
        files::size(self.persist.dir)
    }

    /// Bytes that the new store takes at most.
    fn bytes_needed(&self) -> u64 {
        let parts = self.contents.segments.iter().chain(&self.contents.others);
        let parts = parts.map(|name| files::size(&self.persist.dir.join(name)));
        parts.fold(
            files::size(self.persist.database.path()),
            u64::saturating_add,
        )
    }

    fn check_free_space(&self, new_dir: &Path) -> Result<()> {
        let parent = new_dir.ancestors().skip(1).find(|parent| parent.is_dir());
        check_free_space(parent.unwrap_or(Path::new(".")), self.bytes_needed())
    }

    fn summary(&self, new_dir: &Path) -> RepairStoreSummary {
        let lossy = |name: &std::ffi::OsString| name.to_string_lossy().into_owned();
        RepairStoreSummary {
            persist_dir: self.persist.dir.to_path_buf(),
            output_dir: new_dir.to_path_buf(),
            dry_run: self.options.dry_run,
            replayed: self.persist.database.replayed(),
            records: 0,
            left_out: 0,
            left_out_dir: None,
            collections: Vec::new(),
            rows_dropped: Dropped::new(),
            full_text: None,
            leftover_directories: self.contents.leftovers.iter().map(lossy).collect(),
            other_files: 0,
            other_bytes: 0,
            bytes_before: self.bytes_before(),
            bytes_after: self.bytes_needed(),
            findings: self.persist.findings(),
        }
    }

    /// Finds what a repair would write and what it would lose.
    fn preview(&self, new_dir: &Path) -> Result<RepairStoreSummary> {
        let silent = self.monitor.without_progress();
        let mut summary = self.summary(new_dir);
        for origin in &self.origins {
            let plan = Plan::new(*origin, &silent)?;
            plan.check_unchanged()?;
            let mut collection = describe(*origin, &plan);
            collection.without_vector = plan.counts.without_vector;
            collection.records = plan.counts.records;
            if !self.options.keep_incomplete {
                collection.records = collection
                    .records
                    .saturating_sub(plan.counts.without_vector);
                summary.left_out += plan.counts.without_vector;
            }
            collection.vectors_from_segment = plan.counts.in_index.min(collection.records);
            collection.vectors_from_queue = plan
                .counts
                .records
                .saturating_sub(plan.counts.without_vector)
                .saturating_sub(collection.vectors_from_segment);
            collection.findings = plan.findings.clone().into_vec();
            summary.records += collection.records;
            summary.collections.push(collection);
        }
        self.persist.database.check_unchanged()?;
        Ok(summary)
    }

    /// Writes the store into `output`, and checks it.
    fn write(
        &self,
        output: &AtomicDirectory,
        new_dir: &Path,
        left_out_dir: &Path,
    ) -> Result<RepairStoreSummary> {
        let silent = self.monitor.without_progress();
        let database = &self.persist.database;
        let directory = output.temporary();
        let mut summary = self.summary(new_dir);
        let last_write = LastWrite::read(database, &silent)?;
        let applied = last_write.seq_id.unsigned_abs();
        let path = directory.join(file_name::DATABASE);
        // Creates the file with the permissions of the output.
        drop(output.create_file(file_name::DATABASE)?);
        let writer = DatabaseWriter::create(&path, &self.migrations, last_write, &silent)?;
        let segments: Vec<_> = self.origins.iter().map(new_segments).collect();
        let catalog = &self.persist.catalog;
        summary.rows_dropped = writer.copy_catalog(database, catalog, &segments, &silent)?;
        let mut records = RecordWriter::new(&writer, database, &silent)?;
        let mut queued = writer.queued();
        let mut left_out = Vec::new();
        let mut expected = Vec::new();
        let mut done = 0_u64;
        for (origin, segments) in self.origins.iter().zip(&segments) {
            let mut plan = Plan::new(*origin, &silent)?;
            let mut collection = describe(*origin, &plan);
            if plan.space_source == SpaceSource::Undecided && plan.counts.records > 0 {
                return Err(Error::argument(
                    "metric",
                    "none",
                    format!(
                        "l2, cosine or ip, because neither the database nor the vectors of the \
                         collection {} determine it",
                        origin.collection.name
                    ),
                ));
            }
            let mut rows = Rows {
                collection: &mut collection,
                id: &origin.collection.id,
                segment: &segments.metadata,
                keeps_incomplete: self.options.keep_incomplete,
                writer: &writer,
                records: &mut records,
                queued: &mut queued,
                number: 0,
                left_out: Bits::default(),
                samples: Samples::new(plan.counts.records),
            };
            let result = {
                let first = done;
                let mut seen = 0_u64;
                let total = self.total;
                let segment_dir = directory.join(&segments.vector);
                let segment_output =
                    AtomicDirectory::create(&segment_dir, self.persist.sharing(&[*origin]))?;
                let of_collection = plan.counts.records;
                // The second half of the collection's share.
                let report = |progress: Progress| {
                    let linked = progress.done.min(of_collection);
                    let done = first.saturating_add(of_collection).saturating_add(linked);
                    // A cancellation is noticed at the next check.
                    let _ = self.monitor.advance(done, total.max(done));
                };
                let monitor = silent.on_progress(&report);
                let index_dir = index_dir(*origin)?;
                let source = Source {
                    origin: *origin,
                    plan: &mut plan,
                    index_dir: index_dir.as_deref(),
                };
                let visit = |row: &mut Row<'_>, fate| {
                    seen += 1;
                    if seen.is_multiple_of(RECORDS_PER_REPORT) {
                        let done = first.saturating_add(seen);
                        self.monitor.advance(done, total.max(done))?;
                    }
                    rows.push(row, fate)
                };
                let written = persist::write_segment(
                    source,
                    &segment_output,
                    &self.segment_options(),
                    Some(applied),
                    visit,
                    &monitor,
                )?;
                if written.is_some() {
                    segment_output.commit()?;
                }
                done = first.saturating_add(of_collection.saturating_mul(2));
                written
            };
            let Rows {
                left_out: rows_left_out,
                samples,
                number,
                ..
            } = rows;
            self.complete(&writer, *origin, &plan, segments)?;
            writer.write_watermarks(&segments.vector, &segments.metadata, queued)?;
            collection.findings = plan.findings.clone().into_vec();
            if let Some(written) = result {
                collection.segment_dir = Some(segments.vector.clone());
                collection.links = Some(written.summary.links);
                collection.vectors_from_segment = written.from_index;
                collection.vectors_from_queue = written
                    .from_log
                    .saturating_sub(collection.vectors_from_elsewhere);
            }
            let kept = number.saturating_sub(collection.without_vector);
            let kept_without = match self.options.keep_incomplete {
                true => collection.without_vector,
                false => 0,
            };
            expected.push(Expected {
                id: collection.id.clone(),
                records: kept.saturating_add(kept_without),
                without_vector: kept_without,
                samples,
            });
            if kept_without < collection.without_vector {
                summary.left_out += collection.without_vector;
                left_out.push((*origin, rows_left_out));
            }
            collection.records = kept.saturating_add(kept_without);
            summary.records += collection.records;
            summary.collections.push(collection);
        }
        let (keeps_ids, repeated) = (records.keeps_ids, records.repeated);
        drop(records);
        if repeated > 0 {
            summary.rows_dropped.insert("embeddings", repeated);
        }
        let full_text = writer.finish(database, keeps_ids, &self.migrations, &silent)?;
        summary.full_text = Some(full_text);
        let others = &self.contents.others;
        let copied = files::copy(self.persist.dir, directory, others, &silent)?;
        (summary.other_files, summary.other_bytes) = (copied.files, copied.bytes);
        check::check(directory, &expected, &silent)?;
        if !left_out.is_empty() {
            export_rows(self.persist, left_out, left_out_dir, &silent)?;
            summary.left_out_dir = Some(left_out_dir.to_path_buf());
        }
        summary.bytes_after = files::size(directory);
        Ok(summary)
    }

    fn segment_options(&self) -> RepairOptions {
        RepairOptions {
            links: self.options.links,
            metric: self.options.metric,
            salvage: self.options.salvage,
            threads: self.options.threads,
            io: self.options.io,
            ..RepairOptions::default()
        }
    }

    /// Writes what the old database does not state about a collection, or states wrongly.
    fn complete(
        &self,
        writer: &DatabaseWriter,
        origin: Origin<'_>,
        plan: &Plan,
        segments: &NewSegments,
    ) -> Result<()> {
        let collection = origin.collection;
        if plan.dimension != collection.dimension {
            writer.write_dimension(&collection.id, plan.dimension)?;
        }
        let is_stated = matches!(
            plan.space_source,
            SpaceSource::SegmentMetadata | SpaceSource::Schema | SpaceSource::Configuration
        );
        let is_default = plan.space_source == SpaceSource::Default && !collection.is_lost;
        if is_stated || is_default {
            return Ok(());
        }
        writer.write_configuration(
            &collection.id,
            &segments.vector,
            Configuration {
                space: plan.space,
                m: collection.m.unwrap_or(DEFAULT_M),
                ef_construction: collection
                    .ef_construction
                    .unwrap_or(DEFAULT_EF_CONSTRUCTION),
            },
        )
    }
}

fn describe(origin: Origin<'_>, plan: &Plan) -> RepairedStoreCollection {
    let collection = origin.collection;
    RepairedStoreCollection {
        tenant: collection.tenant.clone(),
        database: collection.database.clone(),
        name: collection.name.clone(),
        id: collection.id.clone(),
        segment_dir: None,
        dimension: plan.dimension,
        metric: plan.space.name(),
        metric_source: plan.space_source.name(),
        records: 0,
        vectors_from_segment: 0,
        vectors_from_queue: 0,
        vectors_from_elsewhere: 0,
        vectors_not_finite: 0,
        without_vector: 0,
        first_ids_without_vector: Vec::new(),
        links: None,
        findings: Vec::new(),
    }
}

/// Returns the ids of a collection's segments. Lost ones get new ids, and so does a vector segment
/// whose id cannot name a directory.
fn new_segments(origin: &Origin<'_>) -> NewSegments {
    let collection = origin.collection;
    let is_usable = |id: &String| directory_of(origin.persist_dir, id).is_some();
    let id_of = |segment: &Option<crate::store::catalog::Segment>| {
        let id = segment.as_ref().map(|segment| segment.id.clone());
        id.filter(is_usable).unwrap_or_else(new_uuid)
    };
    NewSegments {
        vector: id_of(&collection.vector_segment),
        metadata: id_of(&collection.metadata_segment),
    }
}

/// Returns the directory of the old segment, if it exists.
fn index_dir(origin: Origin<'_>) -> Result<Option<PathBuf>> {
    let segment = origin.collection.vector_segment.as_ref();
    let directory = segment.and_then(|segment| directory_of(origin.persist_dir, &segment.id));
    Ok(match directory {
        Some(directory) if is_directory(&directory)? => Some(directory),
        _ => None,
    })
}

/// The rows of one collection, on their way into the new database.
struct Rows<'r, 'w> {
    collection: &'r mut RepairedStoreCollection,
    id: &'r str,
    segment: &'r str,
    keeps_incomplete: bool,
    writer: &'w DatabaseWriter,
    records: &'r mut RecordWriter<'w>,
    queued: &'r mut crate::store::write::Queued,
    /// Records so far.
    number: u64,
    /// Numbers of the records without a vector.
    left_out: Bits,
    samples: Samples,
}

impl Rows<'_, '_> {
    fn push(&mut self, row: &mut Row<'_>, fate: Fate) -> Result<()> {
        let number = self.number;
        self.number += 1;
        if fate == Fate::WithoutVector {
            let collection = &mut self.collection;
            collection.without_vector += 1;
            if collection.first_ids_without_vector.len() < MAX_LISTED_IDS {
                collection.first_ids_without_vector.push(row.id.to_string());
            }
            if !self.keeps_incomplete {
                self.left_out.grow(number.saturating_add(1))?;
                self.left_out.insert(number);
                return Ok(());
            }
        }
        if let (Fate::NotFinite, Some(vector)) = (fate, row.vector) {
            self.collection.vectors_not_finite += 1;
            self.writer
                .push_queued(self.queued, self.id, row.id, vector)?;
        }
        self.collection.vectors_from_elsewhere += u64::from(row.is_from_elsewhere);
        if self.records.push(self.segment, row)? {
            self.samples.push(row);
        }
        Ok(())
    }
}
