//! The new store: its database, segments and other files.

use std::collections::BTreeSet;
use std::path::Path;

use super::check::{self, Expected, Samples};
use super::files::{self, Contents};
use super::{RepairStoreOptions, RepairStoreSummary, RepairedStoreCollection};
use crate::base::bits::Bits;
use crate::base::progress::{Monitor, Progress};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicDirectory;
use crate::io::sparse::check_free_space;
use crate::io::swap::copy_owner;
use crate::segment::file_name;
use crate::store::catalog::{Segment, SpaceSource, LOCAL_INDEX};
use crate::store::collection::{
    directory_of, Added, Form, Given, Origin, Plan, Row, MAX_LISTED_IDS,
};
use crate::store::write::migrations::Migrations;
use crate::store::write::{
    new_uuid, Configuration, DatabaseWriter, Dropped, LastWrite, NewCollection, NewSegments,
    Queued, RecordWriter,
};
use crate::verbs::collections::{segment_dir, CollectionFilter, Persist};
use crate::verbs::export::export_rows;
use crate::verbs::repair::persist::{self, Fate, Source};
use crate::verbs::repair::RepairOptions;

/// Records between two progress reports.
const RECORDS_PER_REPORT: u64 = 512;

/// Ids of the new vector segments, which name their directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentIds {
    Kept,
    New,
}

/// A persist directory that is written anew.
pub(super) struct Store<'s> {
    persist: &'s Persist<'s>,
    options: &'s RepairStoreOptions,
    monitor: &'s Monitor<'s>,
    pub(super) origins: Vec<Origin<'s>>,
    migrations: Migrations,
    pub(super) contents: Contents,
    segment_ids: SegmentIds,
    /// Progress of all collections: each record counts twice, when it is read and when its vector
    /// is linked.
    total: u64,
    added_bytes: u64,
}

impl<'s> Store<'s> {
    pub(super) fn new(
        persist: &'s Persist<'s>,
        options: &'s RepairStoreOptions,
        segment_ids: SegmentIds,
        additions: &[Addition<'_>],
        monitor: &'s Monitor<'s>,
    ) -> Result<Self> {
        options.salvage.shape()?;
        let given = Given {
            dimension: options.salvage.dimension,
            m: options.salvage.m,
            space: None,
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
        let added: u64 = additions.iter().map(|addition| addition.expected).sum();
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
            segment_ids,
            total: records.saturating_add(added).saturating_mul(2),
            added_bytes: additions.iter().map(|addition| addition.bytes).sum(),
        })
    }

    /// Bytes that the new store takes at most.
    fn bytes_needed(&self) -> u64 {
        let parts = self.contents.segments.iter().chain(&self.contents.others);
        let parts = parts.map(|name| files::size(&self.persist.dir.join(name)));
        parts.fold(
            files::size(self.persist.database.path()).saturating_add(self.added_bytes),
            u64::saturating_add,
        )
    }

    pub(super) fn check_free_space(&self, new_dir: &Path) -> Result<()> {
        check_free_space(
            volume(new_dir),
            self.bytes_needed(),
            "write the new store there",
        )
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
            kept_dir: None,
            undo: Vec::new(),
            collections: Vec::new(),
            rows_dropped: Dropped::new(),
            full_text: None,
            leftover_directories: self.contents.leftovers.iter().map(lossy).collect(),
            other_files: 0,
            other_bytes: 0,
            bytes_before: files::size(self.persist.dir),
            bytes_after: 0,
            findings: self.persist.findings(),
            warnings: Vec::new(),
        }
    }

    /// Reports that all is done.
    pub(super) fn report_end(&self) -> Result<()> {
        self.monitor.advance(self.total, self.total)
    }

    /// Plans a collection. The metric of the options is for collections that do not state theirs.
    fn plan(&self, origin: Origin<'s>) -> Result<(Origin<'s>, Plan)> {
        let silent = self.monitor.without_progress();
        let plan = Plan::new(origin, &silent)?;
        if plan.space_source != SpaceSource::Undecided || self.options.metric.is_none() {
            return Ok((origin, plan));
        }
        let origin = origin.with_given(Given {
            space: self.options.metric.map(Into::into),
            ..origin.given
        });
        Ok((origin, Plan::new(origin, &silent)?))
    }

    /// Finds what a repair would write and what it would lose.
    pub(super) fn preview(&self, new_dir: &Path) -> Result<RepairStoreSummary> {
        let mut summary = self.summary(new_dir);
        summary.bytes_after = self.bytes_needed();
        for origin in &self.origins {
            let (origin, plan) = self.plan(*origin)?;
            plan.check_unchanged()?;
            let mut collection = describe(origin, &plan);
            collection.without_vector = plan.counts.without_vector;
            collection.records = plan.counts.records;
            if !self.options.keep_incomplete {
                collection.records = collection
                    .records
                    .saturating_sub(plan.counts.without_vector);
                summary.left_out += plan.counts.without_vector;
            }
            [
                collection.vectors_from_segment,
                collection.vectors_from_queue,
                collection.vectors_from_elsewhere,
            ] = plan.places();
            collection.findings = plan.findings.clone().into_vec();
            summary.records += collection.records;
            summary.collections.push(collection);
        }
        self.persist.database.check_unchanged()?;
        Ok(summary)
    }

    /// Writes the store into `output`, and checks it. Records without a vector are exported to
    /// `left_out_dir`.
    ///
    /// With `additions`, sound segments that they do not join are copied.
    pub(super) fn write(
        &self,
        output: &AtomicDirectory,
        new_dir: &Path,
        left_out_dir: &Path,
        additions: &mut [Addition<'_>],
    ) -> Result<RepairStoreSummary> {
        let silent = self.monitor.without_progress();
        let database = &self.persist.database;
        let directory = output.temporary();
        let mut summary = self.summary(new_dir);
        let last_write = LastWrite::read(database, &silent)?;
        // With the permissions of the output.
        drop(output.create_file(file_name::DATABASE)?);
        let path = directory.join(file_name::DATABASE);
        let writer = DatabaseWriter::create(&path, &self.migrations, last_write, &silent)?;
        let segments: Vec<_> = self
            .origins
            .iter()
            .map(|origin| self.new_segments(origin))
            .collect();
        let catalog = &self.persist.catalog;
        summary.rows_dropped = writer.copy_catalog(database, catalog, &segments, &silent)?;
        let mut target = Target {
            directory,
            writer: &writer,
            records: RecordWriter::new(&writer, database, &silent)?,
            queued: writer.queued(),
            done: 0,
            repeated: 0,
            copies_sound: !additions.is_empty(),
        };
        let (mut left_out, mut expected) = (Vec::new(), Vec::new());
        let mut stored = 0_u64;
        for (origin, segments) in self.origins.iter().zip(&segments) {
            self.monitor.begin_part(&origin.collection.name);
            let (origin, plan) = self.plan(*origin)?;
            stored = stored.saturating_add(plan.counts.stored);
            let mut additions = additions.iter_mut();
            let addition = additions.find(|addition| addition.collection == origin.collection.id);
            let written = self.write_collection(origin, plan, segments, addition, &mut target)?;
            let WrittenCollection {
                collection,
                left_out: numbers,
                expected: read_back,
            } = written;
            writer.write_watermarks(&segments.vector, &segments.metadata, target.queued)?;
            expected.push(read_back);
            if let Some(numbers) = numbers {
                summary.left_out += numbers.count();
                left_out.push((origin, numbers));
            }
            summary.records += collection.records;
            summary.collections.push(collection);
        }
        let (first_new, repeated) = (target.records.first_new, target.repeated);
        drop(target);
        // Records of segments that no collection has.
        let left = database
            .row_count("embeddings", &silent)?
            .saturating_sub(stored);
        let dropped = left.saturating_add(repeated);
        if dropped > 0 {
            summary.rows_dropped.insert("embeddings", dropped);
        }
        let check = || check::check(directory, &expected, &silent);
        let full_text = writer.finish(database, first_new, check, &silent)?;
        summary.full_text = Some(full_text);
        if self.segment_ids == SegmentIds::Kept {
            let others = &self.contents.others;
            let copied = files::copy(self.persist.dir, directory, others, &silent)?;
            (summary.other_files, summary.other_bytes) = (copied.files, copied.bytes);
            if copied.special > 0 {
                let warning = format!("{} sockets, pipes or devices not copied", copied.special);
                summary.warnings.push(warning);
            }
        }
        if !left_out.is_empty() {
            export_rows(self.persist, left_out, left_out_dir, &silent)?;
            summary.left_out_dir = Some(left_out_dir.to_path_buf());
        }
        let failed = copy_owner(self.persist.dir, directory)?;
        if failed > 0 {
            let warning = format!("the owner or permissions of {failed} files could not be set");
            summary.warnings.push(warning);
        }
        summary.bytes_after = files::size(directory);
        Ok(summary)
    }

    /// Writes the segment and the records of a collection.
    fn write_collection(
        &self,
        origin: Origin<'_>,
        mut plan: Plan,
        segments: &NewSegments,
        addition: Option<&mut Addition<'_>>,
        target: &mut Target<'_, '_>,
    ) -> Result<WrittenCollection> {
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
        let mut records = plan.counts.records;
        if let Some(addition) = &addition {
            records = records.saturating_add(addition.expected);
            plan.dimension = plan.dimension.or(addition.dimension);
        }
        let mut rows = Rows {
            segments,
            keeps_incomplete: self.options.keep_incomplete,
            keeps_added: addition.as_ref().is_some_and(|it| it.keeps_incomplete),
            replaces: addition.as_ref().is_some_and(|it| it.records.replaces()),
            samples: Samples::new(records),
            collection: describe(origin, &plan),
            number: 0,
            without_vector: 0,
            left_out: Bits::default(),
            added: AddedCounts::default(),
            target,
        };
        match addition {
            None if rows.target.copies_sound && is_whole(origin, &plan)? => {
                self.copy_segment(origin, &plan, &mut rows, records)?;
            }
            None => self.write_segment(origin, plan, None, &mut rows, records)?,
            Some(addition) => {
                self.write_segment(origin, plan, Some(addition.records), &mut rows, records)?;
                addition.counts = rows.added;
                if let Some(new) = &addition.new {
                    let writer = rows.target.writer;
                    writer.write_new_collection(origin.collection, &segments.vector, new)?;
                }
            }
        }
        let done = &mut rows.target.done;
        *done = done.saturating_add(records.saturating_mul(2));
        Ok(WrittenCollection {
            left_out: (rows.left_out.count() > 0).then_some(rows.left_out),
            expected: Expected {
                id: rows.collection.id.clone(),
                records: rows.collection.records,
                without_vector: rows.without_vector,
                samples: rows.samples,
            },
            collection: rows.collection,
        })
    }

    /// Reports progress within a collection of so many records.
    fn advance(&self, rows: &Rows<'_, '_, '_>) -> Result<()> {
        if !rows.number.is_multiple_of(RECORDS_PER_REPORT) {
            return Ok(());
        }
        let done = rows.target.done.saturating_add(rows.number);
        self.monitor.advance(done, self.total.max(done))
    }

    /// Copies the segment of a collection as it is.
    fn copy_segment(
        &self,
        origin: Origin<'_>,
        plan: &Plan,
        rows: &mut Rows<'_, '_, '_>,
        records: u64,
    ) -> Result<()> {
        let silent = self.monitor.without_progress();
        let outcome = plan.for_each(origin, Form::Stored, &silent, |row| {
            rows.push(row, Fate::InSegment, false)?;
            self.advance(rows)
        })?;
        if let Some(old) = segment_dir(origin.persist_dir, origin.collection)? {
            let new = &rows.segments.vector;
            files::copy_directory(&old, &rows.target.directory.join(new), &silent)?;
            rows.collection.segment_dir = Some(new.clone());
        }
        plan.check_unchanged()?;
        self.complete(rows.target.writer, origin, plan, rows.segments)?;
        rows.collection.vectors_from_segment = records;
        let mut findings = plan.findings.clone();
        outcome.report(&mut findings);
        rows.collection.findings = findings.into_vec();
        Ok(())
    }

    /// Writes the segment of a collection anew, and its records through `rows`.
    fn write_segment(
        &self,
        origin: Origin<'_>,
        mut plan: Plan,
        added: Option<&mut dyn Added>,
        rows: &mut Rows<'_, '_, '_>,
        records: u64,
    ) -> Result<()> {
        let silent = self.monitor.without_progress();
        let first = rows.target.done.saturating_add(records);
        let (monitor, total) = (self.monitor, self.total);
        let report = |progress: Progress| {
            let done = first.saturating_add(progress.done.min(records));
            // A cancellation is noticed at the next check.
            let _ = monitor.advance(done, total.max(done));
        };
        let (segments, writer) = (rows.segments, rows.target.writer);
        let segment = rows.target.directory.join(&segments.vector);
        let output = AtomicDirectory::create(&segment, self.persist.sharing(&[origin]))?;
        let index_dir = segment_dir(origin.persist_dir, origin.collection)?;
        let (outcome, written) = persist::write_segment(
            Source {
                origin,
                plan: &mut plan,
                index_dir: index_dir.as_deref(),
                added: match added {
                    Some(added) => Some(&mut *added),
                    None => None,
                },
            },
            &output,
            &self.segment_options(),
            Some(writer.last_seq_id()),
            |row, fate, is_added| {
                let is_new = rows.push(row, fate, is_added)?;
                self.advance(rows)?;
                Ok(is_new)
            },
            &silent.on_progress(&report),
        )?;
        self.complete(writer, origin, &plan, segments)?;
        let AddedCounts { vectors: added, .. } = rows.added;
        let collection = &mut rows.collection;
        let mut findings = plan.findings.clone();
        outcome.report(&mut findings);
        collection.findings = findings.into_vec();
        if let Some(written) = written {
            output.commit()?;
            collection.segment_dir = Some(segments.vector.clone());
            collection.links = Some(written.summary.links);
            collection.vectors_from_segment = written.from_index;
            collection.vectors_from_queue = written
                .from_log
                .saturating_sub(collection.vectors_from_elsewhere)
                .saturating_sub(added);
        }
        Ok(())
    }

    /// Returns the ids of a collection's segments. Lost ones get new ids, and so does a vector
    /// segment whose id cannot name a directory.
    fn new_segments(&self, origin: &Origin<'_>) -> NewSegments {
        let collection = origin.collection;
        let kept = |segment: &Option<Segment>| {
            let id = segment.as_ref().map(|segment| segment.id.clone());
            id.filter(|id| directory_of(origin.persist_dir, id).is_some())
        };
        NewSegments {
            vector: kept(&collection.vector_segment)
                .filter(|_| self.segment_ids == SegmentIds::Kept)
                .unwrap_or_else(new_uuid),
            metadata: kept(&collection.metadata_segment).unwrap_or_else(new_uuid),
        }
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
                m: collection.m,
                ef_construction: collection.ef_construction,
                origin: None,
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

/// Returns the directory that `new_dir` will be in, as far as it exists.
pub(super) fn volume(new_dir: &Path) -> &Path {
    let parent = new_dir.ancestors().skip(1).find(|parent| parent.is_dir());
    parent.unwrap_or(Path::new("."))
}

/// Returns true if every record has its vector in a segment without a flaw, so that the segment can
/// be copied.
fn is_whole(origin: Origin<'_>, plan: &Plan) -> Result<bool> {
    let counts = plan.counts;
    let is_whole = !plan.is_damaged
        && plan.findings.is_empty()
        && counts.queued == 0
        && counts.in_index == counts.records
        && counts.stored == counts.records;
    let directory = segment_dir(origin.persist_dir, origin.collection)?;
    // A copy would fill the holes of a sparse file.
    Ok(is_whole && !directory.is_some_and(|directory| files::has_holes(&directory)))
}

/// Records that join a collection of the new store.
pub(crate) struct Addition<'a> {
    /// Id of the collection, which the catalogue has.
    pub(crate) collection: String,
    pub(crate) records: &'a mut dyn Added,
    /// Number of records, as far as known.
    pub(crate) expected: u64,
    /// Bytes that they take in the new store, about.
    pub(crate) bytes: u64,
    pub(crate) dimension: Option<usize>,
    /// True to keep records without a vector.
    pub(crate) keeps_incomplete: bool,
    /// The description of a collection that the old store does not have.
    pub(crate) new: Option<NewCollection>,
    pub(crate) counts: AddedCounts,
}

/// Numbers of added records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AddedCounts {
    /// Records in the new store.
    pub(crate) records: u64,
    /// Those whose vector is in the segment.
    pub(crate) vectors: u64,
    pub(crate) not_finite: u64,
    /// Records without a vector, kept or not.
    pub(crate) without_vector: u64,
    /// Records of the collection whose place was taken.
    pub(crate) replaced: u64,
}

/// The new store while it is written.
struct Target<'t, 'w> {
    directory: &'t Path,
    writer: &'w DatabaseWriter,
    records: RecordWriter<'w>,
    queued: Queued,
    /// Progress up to the current collection.
    done: u64,
    /// Records of damaged tables that were left out because their id occurred before.
    repeated: u64,
    /// True if sound segments are copied.
    copies_sound: bool,
}

struct WrittenCollection {
    collection: RepairedStoreCollection,
    /// Numbers of the records that were left out, if any.
    left_out: Option<Bits>,
    expected: Expected,
}

/// The rows of one collection, on their way into the new database.
struct Rows<'r, 't, 'w> {
    segments: &'r NewSegments,
    keeps_incomplete: bool,
    keeps_added: bool,
    replaces: bool,
    samples: Samples,
    collection: RepairedStoreCollection,
    /// Records so far.
    number: u64,
    /// Records without a vector that are in the new store.
    without_vector: u64,
    /// Numbers of the collection's own records without a vector that are not.
    left_out: Bits,
    added: AddedCounts,
    target: &'r mut Target<'t, 'w>,
}

impl Rows<'_, '_, '_> {
    /// Writes a record. Returns false if the collection already has its id.
    fn push(&mut self, row: &mut Row<'_>, fate: Fate, is_added: bool) -> Result<bool> {
        let number = self.number;
        self.number += 1;
        if fate == Fate::WithoutVector && !self.keeps(row, number, is_added)? {
            return Ok(true);
        }
        let target = &mut *self.target;
        let Some(id) = target.records.push(&self.segments.metadata, row)? else {
            match is_added {
                false if self.replaces => self.added.replaced += 1,
                false => target.repeated += 1,
                true => {}
            }
            return Ok(false);
        };
        let collection = &mut self.collection;
        match (fate, row.vector) {
            (Fate::NotFinite, Some(vector)) => {
                collection.vectors_not_finite += 1;
                self.added.not_finite += u64::from(is_added);
                let queued = &mut target.queued;
                target
                    .writer
                    .push_queued(queued, &collection.id, row.id, vector)?;
            }
            (Fate::WithoutVector, _) => self.without_vector += 1,
            _ => self.added.vectors += u64::from(is_added),
        }
        collection.records += 1;
        collection.vectors_from_elsewhere += u64::from(row.is_from_elsewhere);
        self.added.records += u64::from(is_added);
        self.samples.push(id, row);
        Ok(true)
    }

    /// Counts a record without a vector. Returns true if it stays.
    fn keeps(&mut self, row: &Row<'_>, number: u64, is_added: bool) -> Result<bool> {
        if is_added {
            self.added.without_vector += 1;
        } else {
            self.collection.without_vector += 1;
        }
        let ids = &mut self.collection.first_ids_without_vector;
        if ids.len() < MAX_LISTED_IDS {
            ids.push(row.id.to_string());
        }
        if is_added {
            return Ok(self.keeps_added);
        }
        if self.keeps_incomplete {
            let writer = self.target.writer;
            writer.forget_last_vector(&self.collection.id, row.id)?;
        } else {
            self.left_out.grow(number.saturating_add(1))?;
            self.left_out.insert(number);
        }
        Ok(self.keeps_incomplete)
    }
}
