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
use crate::store::collection::{directory_of, Given, Origin, Plan, Row, MAX_LISTED_IDS};
use crate::store::write::migrations::Migrations;
use crate::store::write::{
    new_uuid, Configuration, DatabaseWriter, Dropped, LastWrite, NewSegments, Queued, RecordWriter,
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
}

impl<'s> Store<'s> {
    pub(super) fn new(
        persist: &'s Persist<'s>,
        options: &'s RepairStoreOptions,
        segment_ids: SegmentIds,
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
            total: records * 2,
        })
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
    pub(super) fn write(
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
        let mut records = RecordWriter::new(&writer, database, &silent)?;
        let mut queued = writer.queued();
        let (mut left_out, mut expected) = (Vec::new(), Vec::new());
        let (mut done, mut stored) = (0, 0_u64);
        for (origin, segments) in self.origins.iter().zip(&segments) {
            self.monitor.begin_part(&origin.collection.name);
            let (origin, plan) = self.plan(*origin)?;
            stored = stored.saturating_add(plan.counts.stored);
            let mut rows = Rows {
                segments,
                keeps_incomplete: self.options.keep_incomplete,
                writer: &writer,
                records: &mut records,
                queued: &mut queued,
                samples: Samples::new(plan.counts.records),
                collection: describe(origin, &plan),
                number: 0,
                left_out: Bits::default(),
            };
            self.write_collection(origin, plan, directory, &mut rows, &mut done)?;
            let Rows {
                collection,
                left_out: numbers,
                samples,
                ..
            } = rows;
            writer.write_watermarks(&segments.vector, &segments.metadata, queued)?;
            let kept_without = match self.options.keep_incomplete {
                true => collection.without_vector,
                false => 0,
            };
            expected.push(Expected {
                id: collection.id.clone(),
                records: collection.records,
                without_vector: kept_without,
                samples,
            });
            if kept_without < collection.without_vector {
                summary.left_out += collection.without_vector;
                left_out.push((origin, numbers));
            }
            summary.records += collection.records;
            summary.collections.push(collection);
        }
        let (keeps_ids, repeated) = (records.keeps_ids, records.repeated);
        drop(records);
        // Records of segments that no collection has.
        let left = database
            .row_count("embeddings", &silent)?
            .saturating_sub(stored);
        let dropped = left.saturating_add(repeated);
        if dropped > 0 {
            summary.rows_dropped.insert("embeddings", dropped);
        }
        let check = || check::check(directory, &expected, &silent);
        let full_text = writer.finish(database, keeps_ids, check, &silent)?;
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

    /// Writes the segment of a collection, and its records through `rows`.
    fn write_collection(
        &self,
        origin: Origin<'_>,
        mut plan: Plan,
        directory: &Path,
        rows: &mut Rows<'_, '_>,
        done: &mut u64,
    ) -> Result<()> {
        let silent = self.monitor.without_progress();
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
        let (first, of_collection) = (*done, plan.counts.records);
        let (monitor, total) = (self.monitor, self.total);
        let advance = |count: u64| {
            let done = first.saturating_add(count);
            monitor.advance(done, total.max(done))
        };
        let report = |progress: Progress| {
            // A cancellation is noticed at the next check.
            let _ = advance(of_collection.saturating_add(progress.done.min(of_collection)));
        };
        let (segments, writer) = (rows.segments, rows.writer);
        let visit = |row: &mut Row<'_>, fate| {
            rows.push(row, fate)?;
            match rows.number.is_multiple_of(RECORDS_PER_REPORT) {
                true => advance(rows.number),
                false => Ok(()),
            }
        };
        let segment = &segments.vector;
        let output =
            AtomicDirectory::create(&directory.join(segment), self.persist.sharing(&[origin]))?;
        let index_dir = segment_dir(origin.persist_dir, origin.collection)?;
        let (outcome, written) = persist::write_segment(
            Source {
                origin,
                plan: &mut plan,
                index_dir: index_dir.as_deref(),
            },
            &output,
            &self.segment_options(),
            Some(writer.last_seq_id()),
            visit,
            &silent.on_progress(&report),
        )?;
        *done = first.saturating_add(of_collection.saturating_mul(2));
        self.complete(writer, origin, &plan, segments)?;
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
                .saturating_sub(collection.vectors_from_elsewhere);
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

/// The rows of one collection, on their way into the new database.
struct Rows<'r, 'w> {
    segments: &'r NewSegments,
    keeps_incomplete: bool,
    writer: &'w DatabaseWriter,
    records: &'r mut RecordWriter<'w>,
    queued: &'r mut Queued,
    samples: Samples,
    collection: RepairedStoreCollection,
    /// Records so far.
    number: u64,
    /// Numbers of the records without a vector.
    left_out: Bits,
}

impl Rows<'_, '_> {
    fn push(&mut self, row: &mut Row<'_>, fate: Fate) -> Result<()> {
        let number = self.number;
        self.number += 1;
        let collection = &mut self.collection;
        if fate == Fate::WithoutVector {
            collection.without_vector += 1;
            if collection.first_ids_without_vector.len() < MAX_LISTED_IDS {
                collection.first_ids_without_vector.push(row.id.to_string());
            }
            if !self.keeps_incomplete {
                self.left_out.grow(number.saturating_add(1))?;
                self.left_out.insert(number);
                return Ok(());
            }
            self.writer.forget_last_vector(&collection.id, row.id)?;
        }
        if let (Fate::NotFinite, Some(vector)) = (fate, row.vector) {
            collection.vectors_not_finite += 1;
            self.writer
                .push_queued(self.queued, &collection.id, row.id, vector)?;
        }
        if self.records.push(&self.segments.metadata, row)? {
            collection.records += 1;
            collection.vectors_from_elsewhere += u64::from(row.is_from_elsewhere);
            self.samples.push(row);
        }
        Ok(())
    }
}
