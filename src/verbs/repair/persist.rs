//! Repair from a persist directory: the records of the segment and of the queue, merged as an
//! export merges them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::records::Chosen;
use super::steps::{run_sql, steps};
use super::{
    choose_links, flaw_of_links, threads, write_metadata, written_shape, written_shape_with,
    MetricSource, RepairOptions, RepairSummary, RepairedCollection, Space, Work,
    MAX_EF_CONSTRUCTION,
};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::path::Shell;
use crate::base::progress::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory, DirectoryFile};
use crate::io::file::{exists, is_directory, Access, IoMode};
use crate::segment::directory::{Segment, SegmentFiles};
use crate::segment::evidence::Evidence;
use crate::segment::file_name;
use crate::segment::pickle::write::{Ids, Totals};
use crate::segment::write::{Shape, DEFAULT_EF_CONSTRUCTION, DEFAULT_M};
use crate::store::catalog::{self, Catalog, SpaceSource, LOCAL_INDEX};
use crate::store::collection::base::recoverable;
use crate::store::collection::{
    directory_of, metric, normalize, Given, Origin, Outcome, Plan, Row,
};
use crate::store::Database;
use crate::verbs::collections::{CollectionFilter, Persist};
use crate::verbs::verify::{self, VerifyReport};

/// The name of the file in the new directory that holds the ids until the metadata is written.
const SPOOL: &str = "ids.tmp";

/// Purpose of the allocations, for error messages.
const LABELS: &str = "hold the labels of a collection";

/// Queued records are inserted into the existing graph if they number at most one per this many
/// records of the index. Beyond that, building a new graph takes less time.
const RECORDS_PER_INSERT: u32 = 20;

/// Up to this many queued records are inserted into a graph of any size.
const MIN_INSERT_LIMIT: u32 = 1000;

/// Values of m outside this range are ignored as mistakes.
const M_RANGE: std::ops::RangeInclusive<u64> = 2..=256;

impl From<catalog::Space> for Space {
    fn from(space: catalog::Space) -> Self {
        match space {
            catalog::Space::L2 => Self::L2,
            catalog::Space::Cosine => Self::Cosine,
            catalog::Space::Ip => Self::Ip,
        }
    }
}

impl From<Space> for catalog::Space {
    fn from(space: Space) -> Self {
        match space {
            Space::L2 => Self::L2,
            Space::Cosine => Self::Cosine,
            Space::Ip => Self::Ip,
        }
    }
}

/// Returns the metric of the collection that `index_dir` belongs to, if a database next to the
/// directory lists it. An unreadable database does not prevent a repair.
pub(super) fn space_of(
    index_dir: &Path,
    given: Option<Space>,
    evidence: impl FnOnce() -> Result<Evidence>,
    monitor: &Monitor<'_>,
) -> Result<Option<metric::Chosen>> {
    let index_dir = index_dir
        .canonicalize()
        .map_err(Error::io(index_dir, "look up the index directory"))?;
    let Some((persist_dir, name)) = index_dir.parent().zip(index_dir.file_name()) else {
        return Ok(None);
    };
    if !exists(&persist_dir.join(file_name::DATABASE))? {
        return Ok(None);
    }
    let read =
        Database::open(persist_dir, monitor).and_then(|database| Catalog::read(&database, monitor));
    let catalog = match read {
        Ok(catalog) => catalog,
        // Chroma may be writing, which must not fail the repair of an index.
        Err(error) if error.kind() == ErrorKind::InputChanged => return Ok(None),
        Err(error) => return recoverable(error).map(|_| None),
    };
    let collection = catalog.collections.iter().find(|collection| {
        let segment = collection.vector_segment.as_ref();
        segment.is_some_and(|segment| *name == *segment.id)
    });
    let chosen = collection
        .map(|collection| metric::choose(collection, given.map(Into::into), |_| evidence()));
    chosen.transpose()
}

impl From<SpaceSource> for MetricSource {
    fn from(source: SpaceSource) -> Self {
        match source {
            SpaceSource::Option => Self::Option,
            SpaceSource::Evidence => Self::Evidence,
            SpaceSource::Undecided => Self::Undecided,
            _ => Self::Database,
        }
    }
}

/// Writes a new index for a collection, from its segment and the queue.
pub(super) fn repair(
    persist_dir: &Path,
    name: &str,
    new_dir: &Path,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairSummary> {
    options.salvage.shape()?;
    let silent = monitor.without_progress();
    let persist = Persist::open(persist_dir, &silent)?;
    let filter = CollectionFilter::default()
        .with_names(vec![name.to_string()])
        .with_database(options.database.clone())
        .with_tenant(options.tenant.clone())
        .with_io(options.io);
    let origins = persist.choose(&filter)?;
    let [origin] = origins.as_slice() else {
        return Err(Error::argument(
            "collection",
            format!("{name}, a name in {} databases", origins.len()),
            "the name of one collection, with its database and tenant",
        ));
    };
    let origin = origin.with_given(Given {
        dimension: options.salvage.dimension,
        m: options.salvage.m,
        space: options.metric.map(Into::into),
    });
    let collection = origin.collection;
    let own_segment = vector_segment(collection)?;
    let index_dir = directory_of(persist_dir, &own_segment.id).ok_or_else(|| {
        Error::argument(
            "collection",
            format!("{name}, whose segment id is {:?}", own_segment.id),
            "a segment id that is a valid directory name",
        )
    })?;
    require_vacant(new_dir)?;
    refuse_inside(new_dir, persist_dir)?;
    let exists = is_directory(&index_dir)?;
    if exists {
        refuse_inside(new_dir, &index_dir)?;
    }
    let output = AtomicDirectory::create(new_dir, persist.sharing(&origins))?;
    let mut plan = Plan::new(origin, &silent)?;
    let (_, written) = write_segment(
        Source {
            origin,
            plan: &mut plan,
            index_dir: exists.then_some(&*index_dir),
        },
        &output,
        options,
        None,
        |_, _| Ok(()),
        monitor,
    )?;
    let Some(written) = written else {
        return Err(Error::nothing_to_repair(
            persist_dir,
            format!("collection {name}"),
            format!(
                "{} records, none with a vector in the index or in the queue",
                plan.counts.records
            ),
            "at least one vector: there is nothing to repair. Documents and metadata can \
                       be saved with export",
        ));
    };
    let WrittenSegment {
        summary,
        from_index,
        from_log,
        without_vector,
    } = written;
    persist.database.check_unchanged()?;
    let statements = statements(collection);
    let shell = Shell::of_system();
    let mut next = steps(shell, &index_dir, new_dir, exists);
    let database = persist_dir.join(file_name::DATABASE);
    let mend = statements
        .iter()
        .map(|statement| run_sql(shell, &database, statement));
    // Before the last step, which starts Chroma.
    let at = next.len().saturating_sub(1);
    next.splice(at..at, mend);
    let summary = RepairSummary {
        collection: Some(RepairedCollection {
            tenant: collection.tenant.clone(),
            database: collection.database.clone(),
            name: collection.name.clone(),
            segment_dir: own_segment.id.clone(),
            from_index,
            from_log,
            without_vector,
            findings: plan.findings.clone().into_vec(),
            statements,
        }),
        steps: next,
        ..summary
    };
    output.commit()?;
    monitor.advance(summary.records, summary.records)?;
    Ok(summary)
}

/// A collection whose segment is written anew.
pub(super) struct Source<'s> {
    pub(super) origin: Origin<'s>,
    pub(super) plan: &'s mut Plan,
    /// Directory of the old segment, if it exists.
    pub(super) index_dir: Option<&'s Path>,
}

/// A new segment.
pub(super) struct WrittenSegment {
    /// Without a collection and steps.
    pub(super) summary: RepairSummary,
    pub(super) from_index: u64,
    pub(super) from_log: u64,
    pub(super) without_vector: u64,
}

/// Place of a record in the new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    InSegment,
    /// Its vector is not finite, so that no segment can hold it.
    NotFinite,
    WithoutVector,
}

/// Writes the segment of a collection into a new directory, and passes each of its records to
/// `visit`. Also returns the counts of the records. Without a usable vector nothing is written, and
/// there is no segment.
///
/// `last_write` is the sequence number up to which the new segment has applied the queue. Without
/// it, the old segment's stays.
pub(super) fn write_segment(
    source: Source<'_>,
    output: &AtomicDirectory,
    options: &RepairOptions,
    last_write: Option<u64>,
    visit: impl FnMut(&mut Row<'_>, Fate) -> Result<()>,
    monitor: &Monitor<'_>,
) -> Result<(Outcome, Option<WrittenSegment>)> {
    let Source {
        origin,
        plan,
        index_dir,
    } = source;
    let silent = monitor.without_progress();
    let threads = threads::count(options.threads)?;
    let collection = origin.collection;
    let metric_source = MetricSource::from(plan.space_source);
    let space = match metric_source {
        MetricSource::Undecided => None,
        _ => Some(Space::from(plan.space)),
    };
    let (report, known) = match index_dir {
        Some(index_dir) => (
            Some(verify::examine(
                &SegmentFiles::new(index_dir, options.access())?,
                space,
                None,
                threads,
                &silent,
            )?),
            KnownLabels::read(index_dir, &silent)?,
        ),
        None => (None, KnownLabels::default()),
    };
    let segment = match plan.counts.in_index {
        0 => None,
        _ => plan.reopen_segment(options.access())?,
    };
    let (merged, mut ids) = merge(
        origin,
        plan,
        segment.as_ref(),
        known,
        output,
        visit,
        &silent,
    )?;
    let base = merged.chosen.ranks().count();
    let count = base.checked_add(merged.logged);
    let count = count.ok_or_else(|| Error::internal("more than 2³² records"))?;
    if count == 0 {
        ids.remove()?;
        return Ok((merged.outcome, None));
    }
    if space.is_none() && merged.logged > 0 {
        return Err(Error::argument(
            "metric",
            "none",
            format!(
                "l2, cosine or ip: neither the database nor the vectors of the collection {} \
                 determine how to store the {} queued vectors",
                collection.name, merged.logged
            ),
        ));
    }
    let few_are_new =
        base > 0 && merged.logged <= (base / RECORDS_PER_INSERT).max(MIN_INSERT_LIMIT);
    let work = Work {
        segment: segment.as_ref(),
        chosen: &merged.chosen,
        logged: merged.logged,
        shape: shape_of(plan, segment.as_ref(), collection)?,
        space,
        keeps_norms: metric_source == MetricSource::Undecided,
        links: choose_links(
            options.links,
            space,
            &links_flaw(report.as_ref().filter(|_| base > 0), segment.as_ref()),
            few_are_new,
        )?,
        threads,
    };
    let totals = Totals {
        dimensionality: work.shape.dimension() as u64,
        total_elements_added: merged.total_elements_added,
        // Chroma's Python implementation needs a number if the database has none; the Rust one
        // never reads it.
        max_seq_id: last_write
            .or(known.max_seq_id)
            .or_else(|| merged.last_seq_id.filter(|_| needs_seq_id(collection))),
    };
    let append = |out: &DirectoryFile| {
        let norms = append_logged(origin, plan, &merged, work.shape, out, &silent)?;
        // Frees memory for the graph.
        plan.forget_rows();
        Ok(norms)
    };
    let metadata_of = |output: &AtomicDirectory| {
        write_metadata(output, totals, &mut ids, &silent)?;
        ids.remove()
    };
    let written = work.write(output, append, metadata_of, monitor)?;
    let scanned = segment.as_ref().map_or(0, Segment::count);
    let (from_index, from_log) = (base.into(), merged.logged.into());
    let without_vector = merged.without_vector;
    plan.check_unchanged()?;
    if let Some(segment) = &segment {
        segment.files().check_unchanged()?;
    }
    let summary = RepairSummary {
        state_before: report.map(|report| report.state),
        scanned,
        deleted_removed: scanned.saturating_sub(from_index),
        metric_source,
        ..work.summary(&written)
    };
    let written = WrittenSegment {
        summary,
        from_index,
        from_log,
        without_vector,
    };
    Ok((merged.outcome, Some(written)))
}

/// Returns true if neither the database nor Chroma 1.0 knows the collection's watermark.
fn needs_seq_id(collection: &catalog::Collection) -> bool {
    let segment = collection.vector_segment.as_ref();
    let watermark = segment.and_then(|segment| segment.watermark);
    watermark.is_none() && !collection.configured_by_rust
}

/// Returns the reason why the links of the index cannot be kept, or `None` if they can.
fn links_flaw(report: Option<&VerifyReport>, segment: Option<&Segment>) -> Option<String> {
    match (report, segment.map(Segment::header)) {
        (Some(_), Some(None)) => Some("its header.bin is damaged".into()),
        (report, _) => flaw_of_links(report),
    }
}

/// Returns the shape of the new index. Dimension and m come from the existing records, or else from
/// the database or Chroma's defaults. The database has precedence for ef_construction, which does
/// not affect the layout of the segment.
fn shape_of(
    plan: &Plan,
    segment: Option<&Segment>,
    collection: &catalog::Collection,
) -> Result<Shape> {
    let ef_construction = collection
        .ef_construction
        .filter(|ef| (1..=MAX_EF_CONSTRUCTION).contains(ef));
    if let Some(segment) = segment {
        return match ef_construction {
            None if collection.space.in_doubt => written_shape(segment),
            ef => written_shape_with(segment, ef.unwrap_or(DEFAULT_EF_CONSTRUCTION)),
        };
    }
    let dimension = plan.dimension.unwrap_or_default();
    let m = collection.m.filter(|m| M_RANGE.contains(m));
    let shape = Shape::new(
        dimension,
        usize::try_from(m.unwrap_or(DEFAULT_M)).map_err(Error::internal)?,
        ef_construction.unwrap_or(DEFAULT_EF_CONSTRUCTION),
    );
    shape.ok_or_else(|| {
        Error::argument(
            "collection",
            format!(
                "{}, with vectors of {dimension} components",
                collection.name
            ),
            "vectors of at least one component and less than 2 GiB",
        )
    })
}

/// Counters that the segment's metadata gives besides the ids, if it is readable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownLabels {
    pub(super) total_elements_added: u64,
    pub(super) max_seq_id: Option<u64>,
    /// True if any id has a sequence number.
    has_seq_ids: bool,
    /// True if the metadata is readable.
    is_known: bool,
}

impl KnownLabels {
    pub(super) fn read(dir: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let access = Access::from(IoMode::Read).past_bad_sectors();
        let files = SegmentFiles::new(dir, access)?;
        match files.read_metadata(monitor) {
            Ok(metadata) => {
                let table = metadata.table();
                Ok(Self {
                    total_elements_added: table.total_elements_added().unwrap_or_default(),
                    max_seq_id: table.max_seq_id(),
                    has_seq_ids: table.iter().any(|entry| entry.seq_id.is_some()),
                    is_known: true,
                })
            }
            Err(error) => recoverable(error).map(|_| Self::default()),
        }
    }
}

/// The records of a collection, split by the place of their vectors: segment or queue.
pub(super) struct Merged {
    pub(super) chosen: Chosen,
    /// Records whose vector is in the queue. They follow the others, in the collection's order.
    pub(super) logged: u32,
    /// Records without a usable vector.
    pub(super) without_vector: u64,
    /// The damage that was met.
    outcome: Outcome,
    /// The highest label, which Chroma calls by this name.
    pub(super) total_elements_added: u64,
    /// The highest sequence number of a record.
    pub(super) last_seq_id: Option<u64>,
}

/// Reads the collection once: finds the records that are in the segment, and spools all ids.
pub(super) fn merge<'d>(
    origin: Origin<'_>,
    plan: &Plan,
    segment: Option<&Segment>,
    known: KnownLabels,
    output: &'d AtomicDirectory,
    mut visit: impl FnMut(&mut Row<'_>, Fate) -> Result<()>,
    monitor: &Monitor<'_>,
) -> Result<(Merged, SpooledIds<'d>)> {
    let with_seq_ids =
        known.has_seq_ids || (!known.is_known && !origin.collection.configured_by_rust);
    let mut spool = Spool::create(output)?;
    let mut live = Bits::with_len(segment.map_or(0, Segment::count))?;
    // By position in the spool.
    let mut from_queue = Bits::default();
    let mut highest = 0;
    let (mut without_vector, mut number) = (0, 0_u64);
    let mut last_seq_id = None;
    let is_cosine = plan.space == catalog::Space::Cosine;
    let outcome = plan.for_each(origin, Some(false), monitor, |row| {
        // A segment's vectors are normalised already.
        let normalizes = is_cosine && row.internal_id.is_none();
        let usable = row.vector.filter(|vector| is_storable(vector, normalizes));
        let label = match (usable, row.internal_id, row.label) {
            (None, _, _) => None,
            // In the queue. 0 is never a label, so it stands for one that is assigned below.
            (Some(_), None, _) => Some(0),
            (Some(_), Some(id), Some(label)) => {
                let label = u32::try_from(label).ok().filter(|label| *label > 0);
                // A record that two ids claim belongs to the first.
                label.filter(|_| !live.insert(id))
            }
            _ => None,
        };
        let Some(label) = label else {
            without_vector += 1;
            let fate = match row.vector {
                Some(_) if usable.is_none() => Fate::NotFinite,
                _ => Fate::WithoutVector,
            };
            return visit(row, fate);
        };
        if label == 0 {
            from_queue.grow(number.saturating_add(1))?;
            from_queue.insert(number);
        }
        highest = label.max(highest);
        last_seq_id = last_seq_id.max(row.seq_id);
        let seq_id = row.seq_id.filter(|_| with_seq_ids);
        spool.push(row.id, label, seq_id)?;
        number = number.saturating_add(1);
        visit(row, Fate::InSegment)
    })?;
    // Queued records get the labels that follow the highest ever assigned, as in Chroma.
    let mut next = known.total_elements_added.max(highest.into());
    let mut logged = 0_u32;
    for (number, label) in (0_u64..).zip(&mut spool.labels) {
        if from_queue.contains(number) {
            next = next.saturating_add(1);
            *label = u32::try_from(next).map_err(|_| {
                Error::argument(
                    "collection",
                    format!("labels up to {next}"),
                    "labels of 32 bits, the limit of Chroma",
                )
            })?;
            logged = logged.saturating_add(1);
        }
    }
    let merged = Merged {
        chosen: Chosen::of(live)?,
        logged,
        without_vector,
        outcome,
        total_elements_added: next,
        last_seq_id,
    };
    Ok((merged, spool.finish()?))
}

/// Returns true if a segment can hold the vector. All of its components are finite, and its norm is
/// as well if it is to be divided by it.
fn is_storable(vector: &[f32], normalizes: bool) -> bool {
    let squares = vector.iter().map(|component| component * component);
    vector.iter().all(|component| component.is_finite())
        && (!normalizes || squares.sum::<f32>().is_finite())
}

/// Appends the queued records to the written ones, without links. Returns their norms.
pub(super) fn append_logged(
    origin: Origin<'_>,
    plan: &Plan,
    merged: &Merged,
    shape: Shape,
    out: &DirectoryFile,
    monitor: &Monitor<'_>,
) -> Result<Vec<f32>> {
    let mut norms = memory::with_capacity(merged.logged as usize, "hold the norms of new records")?;
    if merged.logged == 0 {
        return Ok(norms);
    }
    let normalizes = plan.space == catalog::Space::Cosine;
    let first = u64::from(merged.chosen.ranks().count());
    let first_label = merged
        .total_elements_added
        .saturating_sub(merged.logged.into())
        .saturating_add(1);
    let (mut bytes, mut vector) = (Vec::new(), Vec::new());
    plan.for_each(origin, Some(true), monitor, |row| {
        let Some(given) = row.vector.filter(|_| row.internal_id.is_none()) else {
            return Ok(());
        };
        if !is_storable(given, normalizes) {
            return Ok(());
        }
        vector.clear();
        vector.extend_from_slice(given);
        let norm = if normalizes {
            normalize(&mut vector)
        } else {
            0.0
        };
        let number = norms.len() as u64;
        if number >= u64::from(merged.logged) {
            return Err(Error::internal("more queued records than before"));
        }
        let label = u32::try_from(first_label.saturating_add(number)).map_err(Error::internal)?;
        // An empty list; `insert` or `build` links the record.
        bytes.clear();
        shape.push_record(&mut bytes, &[], &vector, label)?;
        let offset = first
            .saturating_add(number)
            .saturating_mul(shape.record_size() as u64);
        out.write_at(&bytes, offset)?;
        norms.push(norm);
        Ok(())
    })?;
    if norms.len() == merged.logged as usize {
        Ok(norms)
    } else {
        Err(Error::internal("fewer queued records than before"))
    }
}

/// Writes ids to a temporary file until the metadata is written, so that memory stays at 12 bytes
/// per id: a label and a sequence number.
struct Spool<'d> {
    output: &'d AtomicDirectory,
    out: BufWriter<DirectoryFile>,
    labels: Vec<u32>,
    seq_ids: Vec<u64>,
}

/// Stands for an id without a sequence number.
const NO_SEQ_ID: u64 = u64::MAX;

impl<'d> Spool<'d> {
    fn create(output: &'d AtomicDirectory) -> Result<Self> {
        Ok(Self {
            out: BufWriter::new(output.create_file(SPOOL)?),
            output,
            labels: Vec::new(),
            seq_ids: Vec::new(),
        })
    }

    fn push(&mut self, id: &str, label: u32, seq_id: Option<u64>) -> Result<()> {
        // Length-prefixed: ids may contain any character.
        let length = u32::try_from(id.len()).map_err(Error::internal)?;
        let written = self
            .out
            .write_all(&length.to_le_bytes())
            .and_then(|()| self.out.write_all(id.as_bytes()));
        written.map_err(|error| self.out.get_ref().error("write")(error))?;
        memory::reserve(&mut self.labels, 1, LABELS)?;
        memory::reserve(&mut self.seq_ids, 1, LABELS)?;
        self.labels.push(label);
        self.seq_ids.push(seq_id.unwrap_or(NO_SEQ_ID));
        Ok(())
    }

    fn finish(mut self) -> Result<SpooledIds<'d>> {
        let flushed = self.out.flush();
        flushed.map_err(|error| self.out.get_ref().error("write")(error))?;
        let path = self.output.temporary().join(SPOOL);
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        Ok(SpooledIds {
            output: self.output,
            file: BufReader::new(file),
            labels: self.labels,
            seq_ids: self.seq_ids,
            id: String::new(),
        })
    }
}

/// Reads the spooled ids back in order.
pub(super) struct SpooledIds<'d> {
    output: &'d AtomicDirectory,
    file: BufReader<File>,
    labels: Vec<u32>,
    seq_ids: Vec<u64>,
    id: String,
}

impl SpooledIds<'_> {
    /// Removes the file.
    pub(super) fn remove(self) -> Result<()> {
        let path = self.output.temporary().join(SPOOL);
        drop(self.file);
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))
    }
}

impl Ids for SpooledIds<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.labels.len()).unwrap_or(u32::MAX)
    }

    fn label(&self, number: u32) -> u32 {
        self.labels
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }

    fn seq_id(&self, number: u32) -> Option<u64> {
        let seq_id = self.seq_ids.get(number as usize).copied();
        seq_id.filter(|seq_id| *seq_id != NO_SEQ_ID)
    }

    fn user_id(&mut self, _: u32) -> Result<&str> {
        let path = || self.output.temporary().join(SPOOL);
        let mut length = [0; 4];
        let read = self.file.read_exact(&mut length);
        read.map_err(|error| Error::io(&path(), "read")(error))?;
        let length = u64::from(u32::from_le_bytes(length));
        self.id.clear();
        let read = (&mut self.file).take(length).read_to_string(&mut self.id);
        read.map_err(|error| Error::io(&path(), "read")(error))?;
        Ok(&self.id)
    }
}

/// Returns SQL statements that restore the watermarks that a migration of Chroma has corrupted.
pub(super) fn statements(collection: &catalog::Collection) -> Vec<String> {
    let segments = [&collection.vector_segment, &collection.metadata_segment];
    let spoilt = segments.into_iter().flatten().filter_map(|segment| {
        let watermark = segment
            .watermark
            .filter(|seq_id| seq_id.poisoned.is_some())?;
        Some(format!(
            "UPDATE max_seq_id SET seq_id = {} WHERE segment_id = '{}';",
            watermark.value,
            // SQL escapes a quote by doubling it.
            segment.id.replace('\'', "''")
        ))
    });
    spoilt.collect()
}

/// Returns the vector segment. Fails unless it is a local HNSW index of the persist directory.
pub(super) fn vector_segment(collection: &catalog::Collection) -> Result<&catalog::Segment> {
    let unsupported = |found: &str| {
        Error::argument(
            "collection",
            format!("{}, {found}", collection.name),
            "a collection with a local HNSW index as its vector segment",
        )
    };
    match &collection.vector_segment {
        None => Err(unsupported("without a vector segment")),
        Some(segment) if segment.type_ != LOCAL_INDEX => Err(unsupported(&format!(
            "with a vector segment of type {}",
            segment.type_
        ))),
        Some(segment) => Ok(segment),
    }
}
