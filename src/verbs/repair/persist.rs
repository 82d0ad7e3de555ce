//! An index put together from what a persist directory still holds: the records of the index and
//! of the log, merged as an export merges them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::records::Chosen;
use super::steps::{run_sql, steps};
use super::{
    choose_links, flaw_of_links, threads, write_metadata, written_shape, written_shape_with,
    MetricSource, RepairOptions, RepairSummary, RepairedCollection, Space, Work,
    DEFAULT_EF_CONSTRUCTION, EF_CONSTRUCTION_MAX,
};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::path::Shell;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::atomic::{refuse_inside, require_vacant, AtomicDirectory, DirectoryFile};
use crate::io::file::{exists, is_directory, Access, IoMode};
use crate::segment::directory::{Segment, SegmentFiles};
use crate::segment::evidence::Evidence;
use crate::segment::file_name;
use crate::segment::pickle::write::{Ids, Totals};
use crate::segment::write::Shape;
use crate::store::catalog::{self, Catalog, SpaceSource, LOCAL_INDEX};
use crate::store::collection::base::recoverable;
use crate::store::collection::{directory_of, metric, normalize, Given, Origin, Plan};
use crate::store::Database;
use crate::verbs::collections::{CollectionFilter, Persist};
use crate::verbs::verify::{self, VerifyReport};

/// The name of the file in the new directory that holds the ids until the metadata is written.
const SPOOL: &str = "ids.tmp";

/// What memory is needed for.
const LABELS: &str = "hold the labels of a collection";

/// Records of the log are inserted into a graph that is kept when they are one for so many of the
/// index, or no more than so many; else a new graph is built, which takes less time then.
const INSERTED_PART: u32 = 20;
const INSERTED_LEAST: u32 = 1000;

/// What Chroma takes where nobody says anything, and what is taken for a number at all.
const DEFAULT_M: u64 = 16;
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

/// The metric of the collection whose index a directory is, if there is a database next to it that
/// knows the collection. One that cannot be read does not keep the index from being repaired.
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
        // Chroma may be writing.
        Err(Error::InputChanged { .. }) => return Ok(None),
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

/// Puts the index of a collection together.
pub(super) fn repair(
    persist_dir: &Path,
    name: &str,
    new_dir: &Path,
    options: &RepairOptions,
    monitor: &Monitor<'_>,
) -> Result<RepairSummary> {
    options.salvage.shape()?;
    let threads = threads::count(options.threads)?;
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
            format!("{name}, which {} databases have", origins.len()),
            "the name of one collection, with the database and the tenant that it is in",
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
            format!("{name}, whose segment is {:?}", own_segment.id),
            "a segment whose id can be the name of a directory",
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
    let metric_source = MetricSource::from(plan.space_source);
    let space = match metric_source {
        MetricSource::Undecided => None,
        _ => Some(Space::from(plan.space)),
    };
    let (report, known) = match exists {
        true => (
            Some(verify::examine(
                &SegmentFiles::new(&index_dir, options.access())?,
                space,
                None,
                threads,
                &silent,
            )?),
            Known::read(&index_dir, &silent)?,
        ),
        false => (None, Known::default()),
    };
    let segment = match plan.counts.in_index {
        0 => None,
        _ => plan.reopen_segment(options.access())?,
    };
    let (merged, mut ids) = merge(origin, &plan, segment.as_ref(), known, &output, &silent)?;
    let base = merged.chosen.ranks().count();
    let count = base.checked_add(merged.logged);
    let count = count.ok_or_else(|| Error::internal("more than 2³² records"))?;
    if count == 0 {
        return Err(Error::NothingToRepair {
            path: persist_dir.to_path_buf(),
            field: format!("collection {name}").into(),
            found: format!(
                "{} records, none of which has a vector, in the index or in the log",
                plan.counts.records
            ),
            expected:
                "at least one vector: there is nothing to repair. Documents and metadata can \
                       be saved with export"
                    .into(),
        });
    }
    if space.is_none() && merged.logged > 0 {
        return Err(Error::argument(
            "metric",
            "none",
            format!(
                "l2, cosine or ip: neither the database nor the vectors of the collection {name} \
                 say how the {} vectors of the queue are stored",
                merged.logged
            ),
        ));
    }
    let few_are_new = base > 0 && merged.logged <= (base / INSERTED_PART).max(INSERTED_LEAST);
    let work = Work {
        segment: segment.as_ref(),
        chosen: &merged.chosen,
        logged: merged.logged,
        shape: shape_of(&plan, segment.as_ref(), collection)?,
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
        // Python's Chroma needs a number where the database has none; Rust's never looks at it.
        max_seq_id: known.max_seq_id.or(match own_segment.watermark {
            None if !collection.configured_by_rust => merged.last_seq_id,
            _ => None,
        }),
    };
    let append = |out: &DirectoryFile| {
        let norms = append_logged(origin, &plan, &merged, work.shape, out, &silent)?;
        // The graph needs the memory.
        plan.forget_rows();
        Ok(norms)
    };
    let metadata_of = |output: &AtomicDirectory| {
        write_metadata(output, totals, &mut ids, &silent)?;
        ids.remove()
    };
    let written = work.write(&output, append, metadata_of, monitor)?;
    let scanned = segment.as_ref().map_or(0, Segment::count);
    let (from_index, from_log) = (base.into(), merged.logged.into());
    let without_vector = merged.without_vector;
    plan.check_unchanged()?;
    if let Some(segment) = &segment {
        segment.files().check_unchanged()?;
    }
    persist.database.check_unchanged()?;
    let statements = statements(collection);
    let shell = Shell::of_system();
    let mut next = steps(shell, &index_dir, new_dir, exists);
    let database = persist_dir.join(file_name::DATABASE);
    let mend = statements
        .iter()
        .map(|statement| run_sql(shell, &database, statement));
    let at = next.len().saturating_sub(1);
    next.splice(at..at, mend);
    let summary = RepairSummary {
        state_before: report.map(|report| report.state),
        scanned,
        deleted_removed: scanned.saturating_sub(from_index),
        metric_source,
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
        ..work.summary(&written)
    };
    output.commit()?;
    monitor.advance(count.into(), count.into())?;
    Ok(summary)
}

/// Why the links of the index cannot be kept.
fn links_flaw(report: Option<&VerifyReport>, segment: Option<&Segment>) -> Option<String> {
    match (report, segment.map(Segment::header)) {
        (Some(_), Some(None)) => Some("its header.bin is damaged".into()),
        (report, _) => flaw_of_links(report),
    }
}

/// The shape of the new index: dimension and m of the records that are there, else as the database
/// says or Chroma assumes. The database also says ef_construction, which nothing else in the segment
/// would contradict.
fn shape_of(
    plan: &Plan,
    segment: Option<&Segment>,
    collection: &catalog::Collection,
) -> Result<Shape> {
    let ef_construction = collection
        .ef_construction
        .filter(|ef| (1..=EF_CONSTRUCTION_MAX).contains(ef));
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
                "{}, whose vectors have {dimension} components",
                collection.name
            ),
            "vectors of at least one component and less than 2 GiB",
        )
    })
}

/// What the metadata of the index says besides ids, where it can be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) total_elements_added: u64,
    pub(super) max_seq_id: Option<u64>,
    /// Whether it gives a sequence number for any id.
    has_seq_ids: bool,
    /// Whether it can be read at all.
    is_known: bool,
}

impl Known {
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

/// The records of a collection: those whose vector is in the index, and those whose vector is in
/// the log.
pub(super) struct Merged {
    pub(super) chosen: Chosen,
    /// Records whose vector is in the log: they follow the others, in the order of the collection.
    pub(super) logged: u32,
    /// Records without a vector that can be used.
    pub(super) without_vector: u64,
    /// The highest label.
    pub(super) total_elements_added: u64,
    /// The last write of a record.
    pub(super) last_seq_id: Option<u64>,
}

/// Goes over the collection once: which records are in the index, and their ids.
pub(super) fn merge<'d>(
    origin: Origin<'_>,
    plan: &Plan,
    segment: Option<&Segment>,
    known: Known,
    output: &'d AtomicDirectory,
    monitor: &Monitor<'_>,
) -> Result<(Merged, SpooledIds<'d>)> {
    let with_seq_ids =
        known.has_seq_ids || (!known.is_known && !origin.collection.configured_by_rust);
    let mut spool = Spool::create(output)?;
    let mut live = Bits::with_len(segment.map_or(0, Segment::count))?;
    let mut of_log = Bits::default();
    let mut highest = 0;
    let (mut without_vector, mut number) = (0, 0_u64);
    let mut last_seq_id = None;
    plan.for_each(origin, Some(false), monitor, |row| {
        let usable = row
            .vector
            .filter(|vector| vector.iter().all(|component| component.is_finite()));
        let label = match (usable, row.internal_id, row.label) {
            (None, _, _) => None,
            (Some(_), None, _) => Some(0),
            (Some(_), Some(id), Some(label)) => {
                let label = u32::try_from(label).ok().filter(|label| *label > 0);
                label.filter(|_| !live.insert(id))
            }
            _ => None,
        };
        let Some(label) = label else {
            without_vector += 1;
            return Ok(());
        };
        if label == 0 {
            of_log.grow(number.saturating_add(1))?;
            of_log.insert(number);
        }
        highest = label.max(highest);
        last_seq_id = last_seq_id.max(row.seq_id);
        let seq_id = row.seq_id.filter(|_| with_seq_ids);
        spool.push(row.id, label, seq_id)?;
        number = number.saturating_add(1);
        Ok(())
    })?;
    // Records of the log get the labels that follow.
    let mut next = known.total_elements_added.max(highest.into());
    let mut logged = 0_u32;
    for (number, label) in (0_u64..).zip(&mut spool.labels) {
        if of_log.contains(number) {
            next = next.saturating_add(1);
            *label = u32::try_from(next).map_err(|_| {
                Error::argument(
                    "collection",
                    format!("labels up to {next}"),
                    "labels of 32 bits, as Chroma's are",
                )
            })?;
            logged = logged.saturating_add(1);
        }
    }
    let merged = Merged {
        chosen: Chosen::of(live)?,
        logged,
        without_vector,
        total_elements_added: next,
        last_seq_id,
    };
    Ok((merged, spool.finish()?))
}

/// Appends the records whose vector is in the log to those that were written, without links, and
/// gives their norms.
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
        vector.clear();
        vector.extend_from_slice(given);
        let norm = if normalizes {
            normalize(&mut vector)
        } else {
            0.0
        };
        if !vector.iter().all(|component| component.is_finite()) {
            return Ok(());
        }
        let number = norms.len() as u64;
        if number >= u64::from(merged.logged) {
            return Err(Error::internal("more records in the log than before"));
        }
        let label = u32::try_from(first_label.saturating_add(number)).map_err(Error::internal)?;
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
        Err(Error::internal("fewer records in the log than before"))
    }
}

/// Ids on their way through a file.
struct Spool<'d> {
    output: &'d AtomicDirectory,
    out: BufWriter<DirectoryFile>,
    labels: Vec<u32>,
    seq_ids: Vec<u64>,
}

/// The sequence number of an id that has none.
const NONE: u64 = u64::MAX;

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
        let length = u32::try_from(id.len()).map_err(Error::internal)?;
        let written = self
            .out
            .write_all(&length.to_le_bytes())
            .and_then(|()| self.out.write_all(id.as_bytes()));
        written.map_err(|error| self.out.get_ref().error("write")(error))?;
        memory::reserve(&mut self.labels, 1, LABELS)?;
        memory::reserve(&mut self.seq_ids, 1, LABELS)?;
        self.labels.push(label);
        self.seq_ids.push(seq_id.unwrap_or(NONE));
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

/// Ids from the file that they were put in.
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
        seq_id.filter(|seq_id| *seq_id != NONE)
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

/// What mends a watermark that a migration of Chroma has spoilt, for each segment that has one.
pub(super) fn statements(collection: &catalog::Collection) -> Vec<String> {
    let segments = [&collection.vector_segment, &collection.metadata_segment];
    let spoilt = segments.into_iter().flatten().filter_map(|segment| {
        let watermark = segment
            .watermark
            .filter(|seq_id| seq_id.poisoned.is_some())?;
        Some(format!(
            "UPDATE max_seq_id SET seq_id = {} WHERE segment_id = '{}';",
            watermark.value,
            segment.id.replace('\'', "''")
        ))
    });
    spoilt.collect()
}

/// Fails when the collection's vectors are not in an index of the persist directory.
pub(super) fn vector_segment(collection: &catalog::Collection) -> Result<&catalog::Segment> {
    let unsupported = |found: &str| {
        Error::argument(
            "collection",
            format!("{}, {found}", collection.name),
            "one whose vector segment is a local HNSW index",
        )
    };
    match &collection.vector_segment {
        None => Err(unsupported("which has no vector segment")),
        Some(segment) if segment.type_ != LOCAL_INDEX => Err(unsupported(&format!(
            "whose vector segment is of type {}",
            segment.type_
        ))),
        Some(segment) => Ok(segment),
    }
}
