//! Repair from a persist directory: the records of the segment and of the queue, merged as an
//! export merges them.

use std::path::Path;

use super::records::Chosen;
use super::spool::{IdSpool, SpooledIds, SpooledVectors, VectorSpool};
use super::steps::{run_sql, steps};
use super::{
    choose_links, flaw_of_links, threads, write_metadata, written_shape, written_shape_with,
    MetricSource, RepairOptions, RepairSummary, RepairedCollection, Space, Work,
    MAX_EF_CONSTRUCTION,
};
use crate::base::bits::Bits;
use crate::base::path::Shell;
use crate::base::progress::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory, DirectoryFile};
use crate::io::file::{exists, is_directory, Access, IoMode};
use crate::segment::directory::{Segment, SegmentFiles};
use crate::segment::evidence::Evidence;
use crate::segment::file_name;
use crate::segment::pickle::write::Totals;
use crate::segment::write::{Shape, DEFAULT_EF_CONSTRUCTION, DEFAULT_M};
use crate::store::catalog::{self, Catalog, SpaceSource, LOCAL_INDEX};
use crate::store::collection::base::recoverable;
use crate::store::collection::{
    directory_of, metric, Added, Form, Given, Origin, Outcome, Plan, Row,
};
use crate::store::Database;
use crate::verbs::collections::{CollectionFilter, Persist};
use crate::verbs::verify::{self, VerifyReport};

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
            added: None,
        },
        &output,
        options,
        None,
        |_, _, _| Ok(true),
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
    /// Records that join the collection.
    pub(super) added: Option<&'s mut dyn Added>,
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
/// `visit`, with true if it is an added one. A record for which `visit` returns false is left out.
/// Also returns the counts of the collection's own records. Without a usable vector nothing is
/// written, and there is no segment.
///
/// `last_write` is the sequence number up to which the new segment has applied the queue. Without
/// it, the old segment's stays.
pub(super) fn write_segment(
    source: Source<'_>,
    output: &AtomicDirectory,
    options: &RepairOptions,
    last_write: Option<u64>,
    visit: impl FnMut(&mut Row<'_>, Fate, bool) -> Result<bool>,
    monitor: &Monitor<'_>,
) -> Result<(Outcome, Option<WrittenSegment>)> {
    let Source {
        origin,
        plan,
        index_dir,
        added,
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
    let (merged, mut ids, vectors) = merge(
        (origin, plan, added),
        segment.as_ref(),
        (known, last_write),
        output,
        visit,
        &silent,
    )?;
    // Frees memory for the graph.
    plan.forget_rows();
    let base = merged.chosen.ranks().count();
    let logged = vectors.count();
    let count = base.checked_add(logged);
    let count = count.ok_or_else(|| Error::internal("more than 2³² records"))?;
    if count == 0 {
        ids.remove()?;
        return Ok((merged.outcome, None));
    }
    if space.is_none() && logged > 0 {
        return Err(Error::argument(
            "metric",
            "none",
            format!(
                "l2, cosine or ip: neither the database nor the vectors of the collection {} \
                 determine how to store the {logged} queued vectors",
                collection.name
            ),
        ));
    }
    let few_are_new = base > 0 && logged <= (base / RECORDS_PER_INSERT).max(MIN_INSERT_LIMIT);
    let work = Work {
        segment: segment.as_ref(),
        chosen: &merged.chosen,
        logged,
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
    let first_label = merged
        .total_elements_added
        .saturating_sub(logged.into())
        .saturating_add(1);
    let append =
        |out: &DirectoryFile| vectors.append((base, first_label), work.shape, out, &silent);
    let metadata_of = |output: &AtomicDirectory| {
        write_metadata(output, totals, &mut ids, &silent)?;
        ids.remove()
    };
    let written = work.write(output, append, metadata_of, monitor)?;
    let scanned = segment.as_ref().map_or(0, Segment::count);
    let (from_index, from_log) = (base.into(), logged.into());
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
struct KnownLabels {
    total_elements_added: u64,
    max_seq_id: Option<u64>,
    /// True if any id has a sequence number.
    has_seq_ids: bool,
    /// True if the metadata is readable.
    is_known: bool,
}

impl KnownLabels {
    fn read(dir: &Path, monitor: &Monitor<'_>) -> Result<Self> {
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

/// The records of a collection, split by the place of their vectors: in the old segment or not.
struct Merged {
    chosen: Chosen,
    /// Records without a usable vector.
    without_vector: u64,
    /// The damage that was met.
    outcome: Outcome,
    /// The highest label, which Chroma calls by this name.
    total_elements_added: u64,
    /// The highest sequence number of a record.
    last_seq_id: Option<u64>,
}

/// Reads the collection and the added records once: finds the records that are in the segment, and
/// spools all ids, and the vectors that are not.
fn merge<'d>(
    (origin, plan, added): (Origin<'_>, &Plan, Option<&mut dyn Added>),
    segment: Option<&Segment>,
    (known, last_write): (KnownLabels, Option<u64>),
    output: &'d AtomicDirectory,
    mut visit: impl FnMut(&mut Row<'_>, Fate, bool) -> Result<bool>,
    monitor: &Monitor<'_>,
) -> Result<(Merged, SpooledIds<'d>, SpooledVectors<'d>)> {
    let with_seq_ids =
        known.has_seq_ids || (!known.is_known && !origin.collection.configured_by_rust);
    let mut ids = IdSpool::create(output)?;
    let mut vectors = VectorSpool::create(output, plan.space == catalog::Space::Cosine);
    let mut live = Bits::with_len(segment.map_or(0, Segment::count))?;
    // By position in the spool of ids: records whose vector is spooled.
    let mut is_new = Bits::default();
    let mut highest = 0;
    let (mut without_vector, mut number) = (0, 0_u64);
    let mut last_seq_id = None;
    let mut take = |row: &mut Row<'_>, is_added: bool| -> Result<bool> {
        // 0 is never a label, so it stands for one that is assigned below.
        let mut label = 0;
        let is_taken = match (row.vector, row.internal_id, row.label) {
            (Some(given), None, _) => match vectors.stored_form(given, is_added) {
                Some(vector) => {
                    let mut stored = row.with_vector(vector.vector());
                    let is_taken = visit(&mut stored, Fate::InSegment, is_added)?;
                    if is_taken {
                        vector.keep()?;
                        is_new.grow(number.saturating_add(1))?;
                        is_new.insert(number);
                    }
                    is_taken
                }
                None => {
                    without_vector += 1;
                    return visit(row, Fate::NotFinite, is_added);
                }
            },
            (Some(_), Some(id), Some(found)) => {
                let found = u32::try_from(found).ok().filter(|label| *label > 0);
                // A record that two ids claim belongs to the first.
                let Some(found) = found.filter(|_| !live.contains(id)) else {
                    without_vector += 1;
                    return visit(row, Fate::WithoutVector, is_added);
                };
                label = found;
                highest = found.max(highest);
                let is_taken = visit(row, Fate::InSegment, is_added)?;
                if is_taken {
                    live.insert(id);
                }
                is_taken
            }
            _ => {
                without_vector += 1;
                return visit(row, Fate::WithoutVector, is_added);
            }
        };
        if is_taken {
            let seq_id = match is_added {
                true => last_write,
                false => row.seq_id,
            };
            last_seq_id = last_seq_id.max(seq_id);
            ids.push(row.id, label, seq_id.filter(|_| with_seq_ids))?;
            number = number.saturating_add(1);
        }
        Ok(is_taken)
    };
    // The first of two records with one id counts.
    let (before, after) = match added {
        Some(added) if added.replaces() => (Some(added), None),
        added => (None, added),
    };
    if let Some(added) = before {
        added.for_each(monitor, &mut |row| take(row, true))?;
    }
    let outcome = plan.for_each(origin, Form::Found, monitor, |row| {
        take(row, false).map(drop)
    })?;
    if let Some(added) = after {
        added.for_each(monitor, &mut |row| take(row, true))?;
    }
    // New vectors get the labels that follow the highest ever assigned, as in Chroma.
    let mut next = known.total_elements_added.max(highest.into());
    for (number, label) in (0_u64..).zip(&mut ids.labels) {
        if is_new.contains(number) {
            next = next.saturating_add(1);
            *label = u32::try_from(next).map_err(|_| {
                Error::argument(
                    "collection",
                    format!("labels up to {next}"),
                    "labels of 32 bits, the limit of Chroma",
                )
            })?;
        }
    }
    let merged = Merged {
        chosen: Chosen::of(live)?,
        without_vector,
        outcome,
        total_elements_added: next,
        last_seq_id,
    };
    Ok((merged, ids.finish()?, vectors.finish()?))
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
