//! Rewrites a damaged, bloated or wiped index as a healthy one that every Chroma loads.
//!
//! The input is never written to. The new directory is written next to its final place, checked
//! like [`verify_index`](crate::verify_index) does, and renamed:
//!
//! ```text
//! verify the old ─ choose records ─ write header, records, norms, links, ids ─ verify ─ rename
//!                                            │
//!                   keep: the old graph without the deleted records
//!                   build: a new graph of the records that stay
//! ```
//!
//! Labels keep their values, so that Chroma's database and queue still agree with the index.
//!
//! A repair from a persist directory writes the records that an export would write: the records of
//! the index, merged with the queue entries that the index has not seen. So a missing or wiped
//! index is recovered as far back as the queue goes.

mod build;
mod keep;
mod old;
#[cfg(feature = "database")]
mod persist;
mod records;
#[cfg(feature = "database")]
mod spool;
mod steps;
#[cfg(feature = "database")]
pub(crate) mod store;
mod threads;
mod written;

use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use serde::Serialize;

use self::keep::Keep;
use self::records::Chosen;
use self::steps::steps;
use self::written::{UpperLevels, WrittenLevel0};
use crate::base::path::Shell;
use crate::base::progress::Monitor;
use crate::base::threads::both;
use crate::error::{is_absent, Error, ErrorKind, Result};
use crate::graph::connect::insert;
use crate::graph::distance::Metric;
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory, DirectoryFile};
use crate::io::file::{Access, FileWindow, IoMode};
use crate::io::mmap::check_headroom_and;
use crate::segment::directory::{Segment, SegmentFiles};
use crate::segment::evidence::{Evidence, Verdict};
use crate::segment::file_name;
use crate::segment::norms::Norms;
use crate::segment::pickle::write::{self as pickle, Ids, Totals};
use crate::segment::pickle::Pickle as Metadata;
use crate::segment::record::Records;
use crate::segment::vectors::{is_positive_norm, mended};
use crate::segment::write::{EntryPoint, Shape, DEFAULT_EF_CONSTRUCTION};
#[cfg(feature = "database")]
use crate::verbs::collections::{has_loss, CollectionFinding};
use crate::verbs::extract::salvage::Selection;
use crate::verbs::extract::{ExtractOptions, IndexProperties, Salvage, SalvageSummary};
use crate::verbs::verify::finding::{METRIC_COSINE, VECTOR_ZEROED_SECTOR};
use crate::verbs::verify::IndexState;
use crate::verbs::verify::{self, VerifyReport};

/// The largest value that the graph engines accept.
pub(crate) const MAX_EF_CONSTRUCTION: u64 = 65536;

/// Memory of a thread: its stack, its share of the allocator, and the records it is working on.
const BYTES_PER_THREAD: usize = 4 << 20;

named_enum! {
    /// The source of the links of the new index.
    pub enum RepairLinks for "links" {
        /// Keeps the links of the index. Neighbours of dropped records are linked to others
        /// instead.
        Keep = "keep",
        /// Builds a new graph.
        Build = "build",
    }
}

named_enum! {
    /// The metric of a collection, which Chroma calls its space. No file of an index states it.
    pub enum Space for "metric" {
        /// The squared Euclidean distance.
        L2 = "l2",
        /// 1 − cos(a, b). Vectors are stored with norm 1.
        Cosine = "cosine",
        /// 1 − a·b.
        Ip = "ip",
    }
}

impl Space {
    /// Returns a metric that orders the stored vectors as this one does.
    fn metric(self) -> Metric {
        match self {
            Self::L2 => Metric::SquaredEuclidean,
            // Chroma stores unit vectors for cosine, so that 1 − a·b is the cosine distance.
            Self::Cosine | Self::Ip => Metric::DotProduct,
        }
    }
}

/// The source of the metric of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricSource {
    /// Chroma's database.
    Database,
    /// The options.
    Option,
    /// The vectors and norms of the index, which prove or refute cosine.
    Evidence,
    /// Norms of 1 beside unit vectors, as in a cosine index that was given unit vectors.
    Hint,
    /// None: the database is unreadable where it states the metric, and the vectors are
    /// inconclusive.
    Undecided,
    /// None: the metric is unknown.
    Unknown,
}

/// Options of [`repair_index`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairOptions {
    /// The source of the links of the new index. By default they are kept if they are intact;
    /// otherwise a new graph is built.
    pub links: Option<RepairLinks>,
    /// The metric of the collection, if no database in or next to the directory states it. A metric
    /// that contradicts the database or the vectors is an error. Without both, the vectors and norms
    /// are checked for cosine.
    pub metric: Option<Space>,
    /// Dimension and m, to be used instead of a damaged `header.bin`.
    pub salvage: Salvage,
    /// Number of threads: by default one per core, and never more than 8.
    pub threads: Option<usize>,
    /// The I/O mode for the segment: [`IoMode::Read`] by default.
    pub io: IoMode,
    /// The name of the collection, if the directory is a persist directory (with
    /// `chroma.sqlite3`).
    pub collection: Option<String>,
    /// Its database in Chroma's sense, if several databases have a collection of that name.
    pub database: Option<String>,
    /// The tenant that the database belongs to.
    pub tenant: Option<String>,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            links: None,
            metric: None,
            salvage: Salvage::default(),
            threads: None,
            io: IoMode::Read,
            collection: None,
            database: None,
            tenant: None,
        }
    }
}

setters!(RepairOptions {
    with_links(links: impl Into<Option<RepairLinks>>),
    with_metric(metric: impl Into<Option<Space>>),
    with_salvage(salvage: Salvage),
    with_threads(threads: impl Into<Option<usize>>),
    with_io(io: IoMode),
    with_collection(collection: impl Into<Option<String>>),
    with_database(database: impl Into<Option<String>>),
    with_tenant(tenant: impl Into<Option<String>>),
});

impl RepairOptions {
    /// Access to the files of the segment.
    fn access(&self) -> Access {
        Access::from(self.io).past_bad_sectors()
    }
}

/// The result of a repair.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RepairSummary {
    /// The state of the index before the repair; absent if the index did not exist.
    pub state_before: Option<IndexState>,
    /// Records of the old index.
    pub scanned: u64,
    /// Records of the new index.
    pub records: u64,
    /// Records left out because they are marked as deleted. For a collection: all records of the
    /// index that are not in the new one, because the queue has deleted or changed them.
    pub deleted_removed: u64,
    /// Records left out because the metadata has no id for them: Chroma cannot return them.
    pub records_without_id: u64,
    /// Ids left out because no usable record has their label.
    pub ids_without_record: u64,
    /// Other records left out of a damaged index; absent if the records are not damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salvage: Option<SalvageSummary>,
    /// Components of each vector.
    pub dimension: usize,
    /// The metric of the collection; absent if unknown.
    pub metric: Option<Space>,
    /// The source of the metric.
    pub metric_source: MetricSource,
    /// The source of the links of the new index.
    pub links: RepairLinks,
    /// The metric that neighbours were compared with. It can differ from the collection's, because
    /// all metrics order unit vectors alike.
    pub compared_by: Metric,
    /// Records that lost a neighbour and were linked to others.
    pub bridged: u64,
    /// Links added to make unreachable records reachable.
    pub links_added: u64,
    /// Norms of a cosine collection that were missing or impossible, and were set to 1.
    pub norms_lost: u64,
    /// Properties of the new index.
    pub index_properties: IndexProperties,
    /// The collection; absent if a segment was repaired without its database.
    #[cfg(feature = "database")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<RepairedCollection>,
    /// The steps that make Chroma use the new directory, in order.
    pub steps: Vec<String>,
}

impl RepairSummary {
    /// Returns true if every record that is not deleted is in the new segment, with its id and
    /// norm.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        #[cfg(feature = "database")]
        if let Some(collection) = &self.collection {
            if collection.without_vector > 0 || has_loss(&collection.findings) {
                return false;
            }
        }
        let lost = [
            self.records_without_id,
            self.ids_without_record,
            self.norms_lost,
        ];
        lost.iter().all(|count| *count == 0)
            && self
                .salvage
                .as_ref()
                .is_none_or(SalvageSummary::is_complete)
    }
}

/// The collection whose index was repaired.
#[cfg(feature = "database")]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RepairedCollection {
    /// The tenant.
    pub tenant: String,
    /// The database, in Chroma's sense.
    pub database: String,
    /// The name.
    pub name: String,
    /// The directory of its index in the persist directory; it may be missing.
    pub segment_dir: String,
    /// Records whose vector was in the index.
    pub from_index: u64,
    /// Records whose vector was in the queue.
    pub from_log: u64,
    /// Records left out because neither the index nor the queue has a finite vector for them.
    pub without_vector: u64,
    /// The findings reported with the collection.
    pub findings: Vec<CollectionFinding>,
    /// SQL statements that restore a watermark that a migration of Chroma has corrupted. With such
    /// a watermark Chroma applies no later write. The repair itself never writes to the database.
    pub statements: Vec<String>,
}

/// Writes a healthy replacement for a damaged or bloated index.
///
/// `new_dir`, which must not exist, gets the five files that Chroma persists for a vector segment.
/// They hold the records of the vector segment directory `dir` that are not deleted and that a
/// [`Salvage`] would extract, each with its label and its id.
///
/// With [`collection`](RepairOptions::collection), `dir` is a persist directory. The records are
/// the ones that an export of the collection would write; records that only the queue has get new
/// labels.
///
/// The new directory is created atomically, and only after it was found to be healthy. `dir` is
/// never written to.
///
/// Memory:
///
/// - for each id of the metadata: 24 bytes, and up to 48 while the pickle is read
/// - for each record of the index: 25 bytes
/// - for each list of upper levels (one for m records): 16 + 4·m bytes
/// - for a new graph: the same as for the partition engine of
///   [`build_index_from_columnar`](crate::build_index_from_columnar), with mapped vectors
/// - for a collection: the same as for an export, and 12 bytes for each record
///
/// # Errors
///
/// When the index cannot be read or changes during the repair. When it has no usable record, or no
/// metadata and thus no ids. When a new graph needs the metric and it is unknown. When the output
/// cannot be written. When the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn repair_index(
    dir: impl AsRef<Path>,
    new_dir: impl AsRef<Path>,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairSummary> {
    let (dir, new_dir) = (dir.as_ref(), new_dir.as_ref());
    match &options.collection {
        #[cfg(feature = "database")]
        Some(name) => persist::repair(dir, name, new_dir, options, monitor),
        #[cfg(not(feature = "database"))]
        Some(name) => Err(Error::argument(
            "collection",
            name,
            "none: this build lacks the feature `database`",
        )),
        None => repair_segment(dir, new_dir, options, monitor),
    }
}

fn repair_segment(
    index_dir: &Path,
    new_dir: &Path,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairSummary> {
    for (field, value) in [("database", &options.database), ("tenant", &options.tenant)] {
        if let Some(value) = value {
            return Err(Error::argument(field, value, "none without a collection"));
        }
    }
    let shape = options.salvage.shape()?;
    let threads = threads::count(options.threads)?;
    let files = SegmentFiles::new(index_dir, options.access())?;
    require_vacant(new_dir)?;
    refuse_inside(new_dir, index_dir)?;
    let output = AtomicDirectory::create(new_dir, files.protected().sharing())?;
    let silent = monitor.without_progress();
    // Always read in windows: ids are looked up in file order, so a map has no advantage.
    let access = Access::from(IoMode::Read).past_bad_sectors();
    let metadata_files = SegmentFiles::new(index_dir, access)?;
    let mut metadata = match metadata_files.read_metadata(&silent) {
        Ok(metadata) => metadata,
        Err(error) => return Err(no_ids(error, &metadata_files)),
    };
    let known = space_beside(index_dir, options.metric, &silent)?;
    let report = verify::examine(&files, known, Some(metadata.table()), threads, &silent)?;
    let segment = open(files, &report, shape)?;
    let (space, metric_source) = find_space(&segment, options.metric, &report, &silent)?;
    // States before `RunawayLinks` concern the records; the later ones concern links and metadata.
    let is_damaged = report.state < IndexState::RunawayLinks
        || report
            .findings
            .iter()
            .any(|finding| finding.is(&VECTOR_ZEROED_SECTOR));
    let extract = ExtractOptions::default()
        .with_io(options.io)
        .with_salvage(is_damaged.then_some(options.salvage));
    let mut selection = Selection::new(&segment, space, &extract, &silent)?;
    let chosen = Chosen::read(&segment, &mut selection, metadata.table(), &silent)?;
    let count = chosen.ranks().count();
    if count == 0 {
        return Err(nothing_to_repair(&segment));
    }
    let work = Work {
        segment: Some(&segment),
        chosen: &chosen,
        logged: 0,
        shape: written_shape(&segment)?,
        space,
        // The metric may be cosine, which needs its norms.
        keeps_norms: metric_source == MetricSource::Undecided,
        // No records are inserted, so keeping the links is always worth it.
        links: choose_links(options.links, space, &flaw_of_links(Some(&report)), true)?,
        threads,
    };
    let table = metadata.table();
    let totals = Totals {
        dimensionality: work.shape.dimension() as u64,
        total_elements_added: table
            .total_elements_added()
            .unwrap_or_default()
            .max(chosen.highest_label.into()),
        max_seq_id: table.max_seq_id(),
    };
    let ids_without_record = (table.len() as u64).saturating_sub(count.into());
    let metadata_of = |output: &AtomicDirectory| {
        write_metadata(output, totals, &mut chosen.ids(&mut metadata)?, &silent)?;
        // Free the old ids before the written ones are read back for the check.
        drop(metadata);
        metadata_files.check_unchanged()
    };
    let append = |_: &DirectoryFile| Ok(Vec::new());
    let written = work.write(&output, append, metadata_of, monitor)?;
    segment.files().check_unchanged()?;
    let summary = RepairSummary {
        state_before: Some(report.state),
        scanned: segment.count(),
        deleted_removed: selection.deleted_skipped(),
        records_without_id: chosen.without_id,
        ids_without_record,
        salvage: selection.summary(&segment, None)?,
        metric_source,
        steps: steps(Shell::of_system(), index_dir, new_dir, true),
        ..work.summary(&written)
    };
    output.commit()?;
    monitor.advance(segment.count(), segment.count())?;
    Ok(summary)
}

/// The inputs of a new index: its records, and the way to link them.
struct Work<'w> {
    /// `None` if no record comes from an index.
    segment: Option<&'w Segment>,
    chosen: &'w Chosen,
    /// Number of queued records; they follow the records of the index.
    logged: u32,
    shape: Shape,
    space: Option<Space>,
    /// If true, norms are kept although the metric is not known to be cosine.
    keeps_norms: bool,
    links: RepairLinks,
    threads: NonZeroUsize,
}

/// Counts of changed links and norms, for the summary.
struct Written {
    bridged: u64,
    links_added: u64,
    norms_lost: u64,
}

impl Work<'_> {
    fn count(&self) -> u32 {
        self.chosen.ranks().count().saturating_add(self.logged)
    }

    fn compared_by(&self) -> Metric {
        self.space.map_or(Metric::SquaredEuclidean, Space::metric)
    }

    /// Writes every file, and fails unless the result is a healthy index.
    ///
    /// `append` writes the queued records behind the others, without links, and returns their
    /// norms. `metadata_of` writes the metadata on a second thread.
    fn write(
        &self,
        output: &AtomicDirectory,
        append: impl FnOnce(&DirectoryFile) -> Result<Vec<f32>>,
        metadata_of: impl FnOnce(&AtomicDirectory) -> Result<()> + Send,
        monitor: &Monitor<'_>,
    ) -> Result<Written> {
        let silent = monitor.without_progress();
        let (written, metadata) = both(
            "hnsw-toolbox-metadata",
            || self.write_index(output, append, monitor),
            || {
                metadata_of(output)?;
                let files = SegmentFiles::new(output.temporary(), IoMode::Read)?;
                Ok(files.read_metadata(&silent)?.into_table())
            },
        )?;
        self.check_written(output.temporary(), &metadata, &silent)?;
        Ok(written)
    }

    /// Writes every file but the metadata.
    fn write_index(
        &self,
        output: &AtomicDirectory,
        append: impl FnOnce(&DirectoryFile) -> Result<Vec<f32>>,
        monitor: &Monitor<'_>,
    ) -> Result<Written> {
        let silent = monitor.without_progress();
        let (shape, count, metric) = (self.shape, self.count(), self.compared_by());
        check_headroom_and(
            self.threads.get().saturating_mul(BYTES_PER_THREAD),
            "link the records",
        )?;
        let level0 = output.create_file(file_name::LEVEL0)?;
        let mut written = WrittenLevel0::new(&level0, shape, count);
        let first_logged = self.chosen.ranks().count();
        // Either way, queued records are appended before the links are made, so that records of the
        // index keep the lower internal ids.
        let (mut upper, entry_point, bridged, norms) = match (self.links, self.segment) {
            (RepairLinks::Keep, Some(segment)) => {
                let keep = Keep {
                    segment,
                    chosen: self.chosen,
                    shape,
                    metric,
                    threads: self.threads,
                };
                let kept = keep.run(&level0, monitor)?;
                let norms = append(&level0)?;
                let ef = usize::try_from(shape.ef_construction()).map_err(Error::internal)?;
                insert(
                    &mut written,
                    kept.entry_point.id,
                    first_logged,
                    ef,
                    (metric, shape.dimension()),
                    &silent,
                )?;
                (kept.upper, kept.entry_point, kept.bridged, norms)
            }
            (_, segment) => {
                if let Some(segment) = segment {
                    build::write_records(segment, self.chosen, shape, &level0, &silent)?;
                }
                let norms = append(&level0)?;
                let (upper, entry_point) =
                    build::build(&mut written, metric, self.threads, monitor)?;
                (upper, entry_point, 0, norms)
            }
        };
        let links_added = keep::connect(
            &mut written,
            &mut upper,
            entry_point,
            metric,
            self.threads,
            &silent,
        )?;
        level0.finish()?;
        write_link_lists(output, &shape, &upper, count, &silent)?;
        write_header(output, &shape, count, entry_point)?;
        let norms_lost = self.write_norms(output, &norms, &silent)?;
        Ok(Written {
            bridged,
            links_added,
            norms_lost,
        })
    }

    /// Writes the norms, which only the cosine metric uses. Returns the number of missing ones.
    fn write_norms(
        &self,
        output: &AtomicDirectory,
        logged: &[f32],
        monitor: &Monitor<'_>,
    ) -> Result<u64> {
        let file = output.create_file(file_name::NORMS)?;
        let failed = file.error("write");
        let mut out = BufWriter::new(file);
        let is_cosine = self.space == Some(Space::Cosine) || self.keeps_norms;
        let mut old = OldNorms::of(self.segment.filter(|_| is_cosine))?;
        let mut lost = 0;
        for (number, id) in self.chosen.ranks().iter().enumerate() {
            if number % (1 << 14) == 0 {
                monitor.check()?;
            }
            let (norm, was_missing) = match &mut old {
                Some(old) => old.read(id.into())?,
                // Other metrics never read the norm. With zeros, no later check of the norms
                // mistakes the metric for cosine.
                None => (0.0, false),
            };
            lost += u64::from(was_missing);
            out.write_all(&norm.to_le_bytes()).map_err(&failed)?;
        }
        for norm in logged {
            let norm = if is_cosine { *norm } else { 0.0 };
            out.write_all(&norm.to_le_bytes()).map_err(&failed)?;
        }
        let file = out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.finish()?;
        Ok(lost)
    }

    /// Fails unless the new directory is healthy.
    fn check_written(&self, dir: &Path, metadata: &Metadata, monitor: &Monitor<'_>) -> Result<()> {
        let files = SegmentFiles::new(dir, IoMode::Read)?;
        // Judge vectors by the rule that chose the records. If the metric is unknown, use a metric
        // without norms, by which no vector is damaged.
        let space = Some(self.space.unwrap_or(Space::L2));
        let report = verify::examine(&files, space, Some(metadata), self.threads, monitor)?;
        let count = self.count();
        if report.state == IndexState::Healthy && report.live == u64::from(count) {
            return Ok(());
        }
        let finding = report.findings.first().map(|finding| finding.code);
        Err(Error::internal(format!(
            "the new index is {} ({}), with {} of {count} records",
            report.state,
            finding.unwrap_or("without a finding"),
            report.live
        )))
    }

    /// Fills in the fields of a summary that both kinds of repair share.
    fn summary(&self, written: &Written) -> RepairSummary {
        let count = self.count();
        RepairSummary {
            state_before: None,
            scanned: 0,
            records: count.into(),
            deleted_removed: 0,
            records_without_id: 0,
            ids_without_record: 0,
            salvage: None,
            dimension: self.shape.dimension(),
            metric: self.space,
            metric_source: MetricSource::Unknown,
            links: self.links,
            compared_by: self.compared_by(),
            bridged: written.bridged,
            links_added: written.links_added,
            norms_lost: written.norms_lost,
            index_properties: IndexProperties {
                m: self.shape.m() as u64,
                ef_construction: self.shape.ef_construction(),
                cur_element_count: count.into(),
                max_elements: count.into(),
                persisted_version: crate::segment::header::PERSISTED_VERSION,
                word_size_bytes: 8,
            },
            #[cfg(feature = "database")]
            collection: None,
            steps: Vec::new(),
        }
    }
}

/// The norms of the segment, with missing ones recomputed.
struct OldNorms<'s> {
    norms: Option<Norms<FileWindow<'s>>>,
    /// Looks up the vectors whose norm is not positive.
    level0: Records<FileWindow<'s>>,
}

impl<'s> OldNorms<'s> {
    fn of(segment: Option<&'s Segment>) -> Result<Option<Self>> {
        let Some(segment) = segment else {
            return Ok(None);
        };
        let files = segment.files();
        Ok(Some(Self {
            norms: files.read_norms()?,
            level0: files.read_level0_for_lookups(segment.layout(), segment.count())?,
        }))
    }

    /// Returns a norm, and true if it was missing.
    fn read(&mut self, internal_id: u64) -> Result<(f32, bool)> {
        let norm = match &mut self.norms {
            Some(norms) => norms.find(internal_id)?,
            None => None,
        };
        match norm {
            Some(norm) if is_positive_norm(norm) => Ok((norm, false)),
            norm => Ok(mended(self.level0.record(internal_id)?.vector, norm)),
        }
    }
}

fn write_metadata(
    output: &AtomicDirectory,
    totals: Totals,
    ids: &mut impl Ids,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let file = output.create_file(file_name::METADATA)?;
    let failed = file.error("write");
    let mut out = BufWriter::new(file);
    pickle::write(&mut out, totals, ids, monitor, &failed)?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.finish()
}

/// Opens the segment. If its records are damaged, or a shape is given, `header.bin` is not required
/// to be consistent.
fn open(
    files: SegmentFiles,
    report: &VerifyReport,
    shape: Option<(usize, usize)>,
) -> Result<Segment> {
    match (report.state, shape) {
        (_, Some(_)) => Segment::of_damaged(files, shape),
        (state, None) if state < IndexState::RunawayLinks => Segment::of_damaged(files, None),
        _ => Segment::of(files),
    }
}

/// Returns the error for metadata that is unreadable.
fn no_ids(error: Error, files: &SegmentFiles) -> Error {
    let found = match error.kind() {
        ErrorKind::CorruptMetadata => error.to_string(),
        _ if error.io_cause().is_some_and(is_absent) => "no such file".into(),
        _ => return error,
    };
    Error::no_ids(
        files.metadata.path(),
        found,
        "ids, which Chroma requires for every record: repair the persist directory \
                   instead (PERSIST_DIR --collection NAME), which takes them from Chroma's queue; \
                   or save the vectors with extract --salvage, and documents and metadata with \
                   export",
    )
}

/// Returns the error for an index without a usable record.
fn nothing_to_repair(segment: &Segment) -> Error {
    Error::nothing_to_repair(
        segment.files().dir(),
        "records",
        format!(
            "{} records, none both live and usable with an id",
            segment.count()
        ),
        "at least one usable record: there is nothing to repair. Writes that Chroma has \
                   not yet applied to the index are in its queue: repair the persist directory \
                   instead (PERSIST_DIR --collection NAME), or save them with export",
    )
}

/// Returns the metric and its source. Fails if the given one contradicts the database or the
/// vectors.
fn find_space(
    segment: &Segment,
    given: Option<Space>,
    report: &VerifyReport,
    monitor: &Monitor<'_>,
) -> Result<(Option<Space>, MetricSource)> {
    let evidence = || Evidence::of(segment, monitor);
    #[cfg(feature = "database")]
    if let Some(chosen) = persist::space_of(segment.files().dir(), given, evidence, monitor)? {
        let source = chosen.source.into();
        let is_known = source != MetricSource::Undecided;
        return Ok((is_known.then(|| chosen.space.into()), source));
    }
    let evidence = evidence()?;
    let verdict = evidence.verdict();
    let expected = match given {
        Some(Space::Cosine) if evidence.refutes_cosine() => "l2 or ip",
        Some(Space::L2 | Space::Ip) if verdict == Verdict::Cosine => "cosine",
        Some(_) => return Ok((given, MetricSource::Option)),
        None if verdict == Verdict::Cosine => {
            return Ok((Some(Space::Cosine), MetricSource::Evidence));
        }
        None => {
            let hint = report
                .findings
                .iter()
                .any(|finding| finding.is(&METRIC_COSINE));
            return Ok(match hint {
                true => (Some(Space::Cosine), MetricSource::Hint),
                false => (None, MetricSource::Unknown),
            });
        }
    };
    let reason = evidence.reason();
    let given = given.map_or("none", Space::name);
    Err(Error::argument(
        "metric",
        given,
        format!("{expected}, because {reason}"),
    ))
}

/// Returns the metric that a database next to the segment states for its collection, or
/// else `given`.
pub(crate) fn space_beside(
    index_dir: &Path,
    given: Option<Space>,
    monitor: &Monitor<'_>,
) -> Result<Option<Space>> {
    #[cfg(feature = "database")]
    {
        let evidence = || Ok(Evidence::default());
        let chosen = persist::space_of(index_dir, given, evidence, monitor)?;
        if let Some(chosen) = chosen.filter(|chosen| chosen.source.is_said()) {
            return Ok(Some(chosen.space.into()));
        }
    }
    let _ = (index_dir, monitor);
    Ok(given)
}

/// Returns the reason why the links of an index cannot be kept, or `None` if they can. `report` is
/// `None` if there is no index.
fn flaw_of_links(report: Option<&VerifyReport>) -> Option<String> {
    let Some(report) = report else {
        return Some("there is no index whose links could be kept".into());
    };
    report
        .findings
        .iter()
        .find(|finding| finding.is_damage_of_links())
        .map(|finding| format!("its links are damaged ({}: {})", finding.file, finding.code))
}

/// Decides where the links come from. `unsound` is the reason why the links of the index cannot be
/// kept; `worth_it` is true if keeping them leaves few records to insert.
fn choose_links(
    asked: Option<RepairLinks>,
    space: Option<Space>,
    unsound: &Option<String>,
    worth_it: bool,
) -> Result<RepairLinks> {
    let links = match (asked, unsound) {
        (Some(RepairLinks::Keep), Some(why)) => {
            return Err(Error::argument(
                "links",
                "keep",
                format!("build, because {why}"),
            ));
        }
        (Some(asked), _) => asked,
        (None, None) if worth_it => RepairLinks::Keep,
        (None, _) => RepairLinks::Build,
    };
    if links == RepairLinks::Build && space.is_none() {
        return Err(Error::argument(
            "metric",
            "none",
            "l2, cosine or ip: a new graph needs the metric of the collection, which the files of \
             an index do not state",
        ));
    }
    Ok(links)
}

/// Returns the shape of the new records, with the ef_construction of the old header if valid.
fn written_shape(segment: &Segment) -> Result<Shape> {
    let header = segment.header();
    let ef_construction = header
        .map(|header| header.ef_construction)
        .filter(|ef_construction| (1..=MAX_EF_CONSTRUCTION).contains(ef_construction))
        .unwrap_or(DEFAULT_EF_CONSTRUCTION);
    written_shape_with(segment, ef_construction)
}

/// Returns the shape of the new records, with another ef_construction.
fn written_shape_with(segment: &Segment, ef_construction: u64) -> Result<Shape> {
    let layout = segment.layout();
    // hnswlib fixes max_m0 at 2·m.
    let m = layout.max_m0() / 2;
    Shape::new(layout.dimension(), m, ef_construction).ok_or_else(|| {
        Error::corrupt(
            segment.files().header.path(),
            "max_m0",
            layout.max_m0(),
            // The count of a list has 16 bits.
            "an even number from 2 to 65534",
        )
    })
}

fn write_header(
    output: &AtomicDirectory,
    shape: &Shape,
    count: u32,
    entry_point: EntryPoint,
) -> Result<()> {
    let file = output.create_file(file_name::HEADER)?;
    file.write_at(&shape.header(count, Some(entry_point))?, 0)?;
    file.finish()
}

fn write_link_lists(
    output: &AtomicDirectory,
    shape: &Shape,
    upper: &UpperLevels,
    count: u32,
    monitor: &Monitor<'_>,
) -> Result<()> {
    /// Records between two checks for cancellation.
    const CHECK_INTERVAL: u32 = 1 << 14;
    let file = output.create_file(file_name::LINK_LISTS)?;
    let failed = file.error("write");
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let mut bytes = Vec::new();
    let mut at = 0;
    for id in 0..count {
        if id % CHECK_INTERVAL == 0 {
            monitor.check()?;
        }
        bytes.clear();
        at = upper.push_element(&mut bytes, shape, id, at)?;
        out.write_all(&bytes).map_err(&failed)?;
    }
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.finish()
}
