//! The rows of an extraction, and the contents of their columns.
//!
//! A columnar file is written column by column. The rows of a group are selected once, and every
//! column uses that selection: if the index is being written to, a second selection could differ,
//! and a file whose columns disagree is corrupt.

use std::ops::{ControlFlow, Range};

use super::join::{Join, NO_ENTRY};
use super::salvage::Selection;
use super::{ExtractOptions, JoinSummary, MetadataFrom, Record, SalvageSummary, VectorForm};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::columnar::columns::{Builder, Extracted};
use crate::columnar::source::ColumnSource;
use crate::error::{recoverable, BoxError, Error, Result};
use crate::io::file::FileWindow;
use crate::segment::directory::{Segment, SegmentMetadata};
use crate::segment::norms::Norms;
use crate::segment::record::Records;
use crate::segment::vectors::{judge, scale, squares, Verdict};
use crate::verbs::repair::{space_beside, Space};

/// Purpose of the allocations, for error messages.
const CHOOSE: &str = "choose the rows of a group";

/// Rows chosen from the index, in internal-id order.
#[derive(Debug, Default)]
struct RowSet {
    internal_ids: Vec<u32>,
    labels: Vec<u64>,
    deleted: Vec<bool>,
    /// The metadata slot of each row; [`NO_ENTRY`] for a row without metadata.
    slots: Vec<u32>,
}

impl RowSet {
    fn len(&self) -> usize {
        self.internal_ids.len()
    }

    fn clear(&mut self) {
        self.internal_ids.clear();
        self.labels.clear();
        self.deleted.clear();
        self.slots.clear();
    }

    fn push(&mut self, internal_id: u64, label: u64, deleted: bool, slot: u32) -> Result<()> {
        let internal_id = u32::try_from(internal_id)
            .map_err(|_| Error::internal("an internal id exceeds 32 bits"))?;
        memory::reserve(&mut self.internal_ids, 1, CHOOSE)?;
        memory::reserve(&mut self.labels, 1, CHOOSE)?;
        memory::reserve(&mut self.deleted, 1, CHOOSE)?;
        memory::reserve(&mut self.slots, 1, CHOOSE)?;
        self.internal_ids.push(internal_id);
        self.labels.push(label);
        self.deleted.push(deleted);
        self.slots.push(slot);
        Ok(())
    }
}

/// Selects rows in file order, and reads their contents.
pub(crate) struct RowReader<'i> {
    level0: Records<FileWindow<'i>>,
    join: Option<Join<'i>>,
    scaling: Option<Scaling<'i>>,
    selection: Selection,
    /// The reason why the metadata of a damaged index is not joined.
    metadata_error: Option<String>,
    /// Internal ids of the records to scan.
    records: Range<u64>,
    /// The next record to scan.
    next: u64,
    /// Number of rows selected.
    emitted: u64,
}

impl<'i> RowReader<'i> {
    /// Creates a reader. Reads the metadata if it is to be joined.
    pub(crate) fn new(
        segment: &'i Segment,
        options: &ExtractOptions,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let level0 = segment.level0()?;
        let is_original = options.vectors == VectorForm::Original;
        // The lookup opens the database, which other extractions do not need.
        let space = match is_original || options.salvage.is_some() {
            true => space_beside(segment.files().dir(), None, &monitor.without_progress())?,
            false => None,
        };
        let records = options.records.resolve(level0.count())?;
        let (mut join, mut metadata_error) = (None, None);
        if wants_metadata(segment, options) {
            match read_metadata(segment, options.salvage.is_some(), monitor)? {
                Ok(metadata) => join = Some(Join::new(metadata)?),
                Err(why) => metadata_error = Some(why),
            }
        }
        let selection = Selection::new(segment, space, options, monitor)?;
        Ok(Self {
            metadata_error,
            join,
            scaling: match options.vectors {
                VectorForm::Stored => None,
                VectorForm::Original => {
                    Some(Scaling::new(segment, space, selection.mends_norms())?)
                }
            },
            selection,
            level0,
            next: records.start,
            records,
            emitted: 0,
        })
    }

    /// Number of records to scan.
    pub(crate) fn total(&self) -> u64 {
        self.records.end - self.records.start
    }

    /// Number of records scanned.
    pub(crate) fn scanned(&self) -> u64 {
        self.next - self.records.start
    }

    pub(crate) fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Records left out because they are deleted.
    pub(crate) fn deleted_skipped(&self) -> u64 {
        self.selection.deleted_skipped()
    }

    pub(crate) fn salvage_summary(&self, segment: &Segment) -> Result<Option<SalvageSummary>> {
        self.selection.summary(segment, self.metadata_error.clone())
    }

    pub(crate) fn join_summary(&self) -> Option<JoinSummary> {
        self.join.as_ref().map(Join::summary)
    }

    /// Replaces `rows` by the next rows: at most `limit`, and fewer if their ids reach
    /// `id_bytes`.
    fn choose(
        &mut self,
        rows: &mut RowSet,
        limit: usize,
        id_bytes: usize,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        rows.clear();
        let mut full = false;
        let mut held_id_bytes: usize = 0;
        while !full && self.next < self.records.end {
            // Skipping many records takes time without a row to report.
            monitor.check()?;
            let left = self.records.end - self.next;
            let block = self.level0.block(self.next, left)?;
            for record in block.iter() {
                let (internal_id, record) = record?;
                self.next += 1;
                if !self.selection.admits(internal_id, &record) {
                    continue;
                }
                let deleted = record.links.is_deleted();
                let (slot, id_length) = match &mut self.join {
                    None => (NO_ENTRY, 0),
                    Some(join) => join.choose(record.label, deleted)?,
                };
                rows.push(internal_id, record.label, deleted, slot)?;
                self.emitted += 1;
                held_id_bytes = held_id_bytes.saturating_add(id_length);
                // Ids vary in length, so the number of rows alone does not bound memory.
                full = rows.len() == limit || held_id_bytes >= id_bytes;
                if full {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Passes each row to `on_record` until that breaks.
    pub(crate) fn for_each<F>(&mut self, monitor: &Monitor<'_>, mut on_record: F) -> Result<()>
    where
        F: FnMut(Record<'_>) -> Result<ControlFlow<()>, BoxError>,
    {
        let total = self.total();
        loop {
            monitor.advance(self.scanned(), total)?;
            let left = self.records.end - self.next;
            if left == 0 {
                return Ok(());
            }
            let block = self.level0.block(self.next, left)?;
            for record in block.iter() {
                let (internal_id, record) = record?;
                self.next += 1;
                if !self.selection.admits(internal_id, &record) {
                    continue;
                }
                let deleted = record.links.is_deleted();
                self.emitted += 1;
                let (mut user_id, mut seq_id) = (None, None);
                if let Some(join) = &mut self.join {
                    let (slot, _) = join.choose(record.label, deleted)?;
                    seq_id = join.seq_id(slot);
                    user_id = join.user_id(slot)?;
                }
                let vector = match &mut self.scaling {
                    None => record.vector,
                    Some(_) if self.selection.lacks_norm(internal_id) => record.vector,
                    Some(scaling) => scaling.scale(internal_id, record.vector)?,
                };
                let record = Record {
                    internal_id,
                    label: record.label,
                    deleted,
                    user_id,
                    seq_id,
                    vector,
                };
                if on_record(record).map_err(Error::callback)?.is_break() {
                    return monitor.advance(self.next - self.records.start, total);
                }
            }
        }
    }

    /// Calls `push` with the vector of each of the selected `internal_ids`, in order.
    fn vectors(
        &mut self,
        internal_ids: impl Iterator<Item = u32> + Clone,
        mut push: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let (scaling, selection) = (&mut self.scaling, &self.selection);
        self.level0
            .visit(internal_ids.map(u64::from), |internal_id, record| {
                push(match scaling {
                    None => record.vector,
                    Some(_) if selection.lacks_norm(internal_id) => record.vector,
                    Some(scaling) => scaling.scale(internal_id, record.vector)?,
                })
            })
    }
}

/// Serves the rows as the columns of a file.
pub(crate) struct RowGroups<'r, 'i, 'm> {
    rows: &'r mut RowReader<'i>,
    group: RowSet,
    monitor: &'r Monitor<'m>,
}

impl<'r, 'i, 'm> RowGroups<'r, 'i, 'm> {
    pub(crate) fn new(rows: &'r mut RowReader<'i>, monitor: &'r Monitor<'m>) -> Self {
        Self {
            rows,
            group: RowSet::default(),
            monitor,
        }
    }
}

impl ColumnSource for RowGroups<'_, '_, '_> {
    fn next_group(&mut self, rows: usize, string_bytes: usize) -> Result<usize> {
        self.rows
            .choose(&mut self.group, rows, string_bytes, self.monitor)?;
        Ok(self.group.len())
    }

    fn fill(&mut self, column: usize, from: usize, builder: &mut Builder) -> Result<()> {
        // For each page of each column, because a row group has many small pages.
        self.monitor.check()?;
        let Self { rows, group, .. } = self;
        let column = Extracted::ALL.get(column);
        match column.ok_or_else(|| Error::internal("no such column"))? {
            Extracted::InternalId => builder.extend_u32(page(&group.internal_ids, from, builder)),
            Extracted::Label => builder.extend_u64(page(&group.labels, from, builder)),
            Extracted::Deleted => builder.extend_booleans(page(&group.deleted, from, builder)),
            Extracted::UserId | Extracted::SeqId if rows.join.is_none() => {
                builder.extend_nulls(page(&group.slots, from, builder).len())
            }
            Extracted::UserId => {
                for &slot in page(&group.slots, from, builder) {
                    if builder.is_full() {
                        break;
                    }
                    let user_id = match &mut rows.join {
                        None => None,
                        Some(join) => join.user_id(slot)?,
                    };
                    builder.push(user_id.into())?;
                }
                Ok(())
            }
            Extracted::SeqId => {
                let join = rows.join.as_ref();
                let seq_id = |&slot| join.and_then(|join| join.seq_id(slot));
                let mut slots = page(&group.slots, from, builder).iter();
                slots.try_for_each(|slot| builder.push(seq_id(slot).into()))
            }
            Extracted::Vector => {
                let ids = page(&group.internal_ids, from, builder);
                rows.vectors(ids.iter().copied(), |vector| builder.push_vector(vector))?;
                // The vectors are most of a file and its last column, so they measure progress.
                let done = ids
                    .last()
                    .map_or(0, |&id| u64::from(id) + 1 - rows.records.start);
                self.monitor.advance(done, rows.total())
            }
        }
    }
}

/// Returns the values from row `from` on, as many as `builder` has room for.
fn page<'r, T>(rows: &'r [T], from: usize, builder: &Builder) -> &'r [T] {
    let rows = rows.get(from..).unwrap_or_default();
    rows.get(..builder.room()).unwrap_or(rows)
}

/// Returns true if metadata is joined. A salvage also tries if the file is missing, and reports why
/// it fails.
fn wants_metadata(segment: &Segment, options: &ExtractOptions) -> bool {
    match options.salvage {
        Some(_) => options.metadata != MetadataFrom::None,
        None => segment.files().metadata.opened().is_some(),
    }
}

/// Returns the metadata of a segment. In a salvage, an inner error gives the reason why it is
/// unreadable.
fn read_metadata<'i>(
    segment: &'i Segment,
    salvage: bool,
    monitor: &Monitor<'_>,
) -> Result<Result<SegmentMetadata<'i>, String>> {
    match segment.files().read_metadata(monitor) {
        Err(error) if salvage => recoverable(error).map(Err),
        metadata => metadata.map(Ok),
    }
}

/// Multiplies vectors by their norms.
struct Scaling<'i> {
    segment: &'i Segment,
    norms: Option<Norms<FileWindow<'i>>>,
    /// True in a salvage, which has judged all vectors before.
    is_salvage: bool,
    /// True if a database states the cosine metric.
    is_cosine: bool,
    scaled: Vec<f32>,
}

impl<'i> Scaling<'i> {
    fn new(segment: &'i Segment, space: Option<Space>, is_salvage: bool) -> Result<Self> {
        Ok(Self {
            segment,
            norms: match is_salvage {
                true => segment.files().read_norms()?,
                false => Some(segment.norms()?),
            },
            is_salvage,
            is_cosine: space == Some(Space::Cosine),
            scaled: memory::with_capacity(segment.layout().dimension(), "scale a vector")?,
        })
    }

    fn scale(&mut self, internal_id: u64, stored: &[f32]) -> Result<&[f32]> {
        let norm = match &mut self.norms {
            Some(norms) => norms.find(internal_id)?,
            None => None,
        };
        if !self.is_salvage {
            self.check(internal_id, stored, norm)?;
        }
        // Not missing here: `lacks_norm` in a salvage, or `check` otherwise, comes first.
        let scale = scale(norm.unwrap_or(1.0));
        self.scaled.clear();
        self.scaled
            .extend(stored.iter().map(|component| component * scale));
        Ok(&self.scaled)
    }

    /// Fails if the norm is missing, or if the metric is known to be cosine and Chroma cannot have
    /// written this vector for it.
    fn check(&self, internal_id: u64, stored: &[f32], norm: Option<f32>) -> Result<()> {
        let files = self.segment.files();
        let missing = || {
            Error::corrupt(
                files.norms.path(),
                format!("norm of record {internal_id}"),
                norm.unwrap_or(f32::NAN),
                "the norm of a cosine vector; --salvage writes the vector as stored",
            )
        };
        let is_norm = |norm: f32| norm.is_finite() && norm >= 0.0;
        match judge(stored, norm) {
            Verdict::Sound => Ok(()),
            Verdict::NormMissing | Verdict::Overflow => Err(missing()),
            // The metric is unknown or not cosine, so the norm of the stored vector proves nothing.
            Verdict::Damaged if !self.is_cosine && norm.is_some_and(is_norm) => Ok(()),
            Verdict::Damaged if !self.is_cosine => Err(missing()),
            Verdict::Damaged => Err(Error::corrupt(
                files.level0.path(),
                format!("vector of record {internal_id}"),
                format!("norm {}", squares(stored).sqrt()),
                "norm 1, because the metric is cosine; --salvage skips the record",
            )),
        }
    }
}
