//! A whole collection: its segment, the tail of the queue that the segment has not applied, and its
//! documents and metadata, merged as Chroma would.
//!
//! ```text
//! embeddings ──────── ids, in the order in which they were first added
//!    │
//!    ├─ vector:  segment (base) ◀ queue after the VECTOR segment's watermark
//!    │                          ◀ the whole queue, for an id that still has none
//!    └─ texts:   embedding_metadata, …_array ◀ queue after the METADATA segment's watermark
//! ```
//!
//! Reading takes two steps. [`Plan::new`] locates the vector of each record, at 16 bytes per
//! record. [`Plan::for_each`] then reads one record after another, vectors and texts.
//!
//! Rows come in the order of `embeddings.id`, the order of Chroma's own `get()` from 0.5 on (0.4
//! sorts by the bytes of the ids). Records found only in the queue come last, in queue order.

pub(crate) mod base;
mod elsewhere;
mod finding;
mod fingerprint;
mod log;
pub(crate) mod metric;
mod read;
pub(crate) mod shape;

use std::collections::HashSet;
use std::path::Path;

use self::base::{Base, EmptyReason, Found, Records};
pub use self::finding::CollectionFinding;
pub(crate) use self::finding::Findings;
use self::fingerprint::{Fingerprinter, Fingerprints};
use self::log::{replay_vectors, Logged, Presence};
pub(crate) use self::read::{divide_by_norm, normalize, Added, Form, Outcome, Row, MAX_LISTED_IDS};
use self::shape::Stated;
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{Access, IoMode};
use crate::segment::directory;
use crate::store::catalog::{Collection, Segment, Space, SpaceSource, LOCAL_INDEX};
use crate::store::queue::{LoggedVector, Operation, QueueRow, Topics};
use crate::store::records::SeqIdReader;
use crate::store::{Damage, Database};

/// Location of a record's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Location {
    Nowhere,
    /// Record of the segment with this internal id.
    Index(u32),
    /// Queue row with this sequence number.
    Queue(i64),
    /// Record with this internal id of another directory, by its number.
    Elsewhere(usize, u32),
}

/// A [`Location`] in eight bytes: the kind in the top two bits, the position in the other 62. Kind
/// 3 is a queue row whose operation is an add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packed(u64);

/// Purpose of an allocation, for error messages.
const HOLD_ROWS: &str = "hold where the records of a collection are";

/// Bits of a [`Packed`] below its kind.
const POSITION_BITS: u32 = 62;

/// Largest sequence number of a queue row, which Chroma will never reach. [`Logged`] has 61 bits
/// for it.
const MAX_SEQ_ID: i64 = (1 << 60) - 1;

impl Packed {
    const NOWHERE: Self = Self(0);

    fn queue(logged: Logged) -> Self {
        let kind = if logged.is_add() { 3 } else { 2 };
        Self(kind << POSITION_BITS | logged.seq_id().unsigned_abs())
    }

    /// Sequence number of the add that the vector comes from, if an add wrote it.
    fn added_by(self) -> Option<u64> {
        let value = self.0 & ((1 << POSITION_BITS) - 1);
        (self.0 >> POSITION_BITS == 3).then_some(value)
    }

    fn index(internal_id: u32) -> Self {
        Self(1 << POSITION_BITS | u64::from(internal_id))
    }

    /// Record of the other directory with this number. The upper half of an index position is 0 for
    /// the collection's own segment.
    fn elsewhere(source: u32, internal_id: u32) -> Self {
        let source = u64::from(source).saturating_add(1) & u64::from(u32::MAX >> 2);
        Self(1 << POSITION_BITS | source << 32 | u64::from(internal_id))
    }

    fn unpack(self) -> Location {
        let value = self.0 & ((1 << POSITION_BITS) - 1);
        match self.0 >> POSITION_BITS {
            1 => {
                #[allow(clippy::cast_possible_truncation)] // the lower half
                let internal_id = value as u32;
                match usize::try_from(value >> 32)
                    .unwrap_or_default()
                    .checked_sub(1)
                {
                    None => Location::Index(internal_id),
                    Some(source) => Location::Elsewhere(source, internal_id),
                }
            }
            2 | 3 => i64::try_from(value).map_or(Location::Nowhere, Location::Queue),
            _ => Location::Nowhere,
        }
    }
}

/// A record of `embeddings`.
#[derive(Clone, Copy, Debug)]
struct PlannedRow {
    rowid: i64,
    vector: Packed,
}

/// A record found only in the queue.
#[derive(Clone, Copy, Debug)]
struct AppendedRow {
    /// Sequence number of the queue row that created it.
    created: i64,
    fingerprint: u64,
    vector: Packed,
}

/// Counts of a collection's records and vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records of `embeddings`.
    pub(crate) stored: u64,
    /// Records after the queue is merged.
    pub(crate) records: u64,
    /// Live records of the segment that have an id.
    pub(crate) in_index: u64,
    /// Queue rows that the segment has not applied.
    pub(crate) queued: u64,
    /// Records without a vector.
    pub(crate) without_vector: u64,
    /// Vectors whose id has no record.
    pub(crate) without_record: u64,
}

/// Locations of all parts of a collection.
#[derive(Debug)]
pub(crate) struct Plan {
    rows: Vec<PlannedRow>,
    appended: Vec<AppendedRow>,
    /// Vectors without a record that are exported as records because records were lost.
    orphans: Vec<Packed>,
    /// Queue rows that the metadata segment has not applied.
    lag: Fingerprints<Logged>,
    index: Index,
    /// Other directories that hold vectors of the collection.
    elsewhere: Vec<Records>,
    fingerprinter: Fingerprinter,
    /// `None` if neither the database nor any vector determines it.
    pub(crate) dimension: Option<usize>,
    /// Metric that the segment was built with, and its source.
    pub(crate) space: Space,
    pub(crate) space_source: SpaceSource,
    pub(crate) counts: Counts,
    /// Sequence number of the last write that the segment has applied.
    pub(crate) watermark: Option<u64>,
    /// True if any file was damaged or missing.
    pub(crate) is_damaged: bool,
    pub(crate) findings: Findings,
}

/// The usable part of a segment.
#[derive(Debug)]
enum Index {
    None,
    Base(Base),
    /// Without a pickle; records and ids are joined by rank.
    Ranked(Records),
}

impl Index {
    fn records(&self) -> Option<&Records> {
        match self {
            Self::None => None,
            Self::Base(base) => Some(&base.records),
            Self::Ranked(records) => Some(records),
        }
    }

    /// Flaws of a vector: a missing norm, a zeroed sector, a component that is not finite.
    fn flaws(&self, vector: Packed) -> [bool; 3] {
        match (vector.unpack(), self.records()) {
            (Location::Index(internal_id), Some(records)) => {
                let (id, flaws) = (internal_id.into(), &records.flaws);
                [
                    flaws.lacks_norm(id),
                    flaws.has_zeroed_sector(id),
                    flaws.is_not_finite(id),
                ]
            }
            _ => [false; 3],
        }
    }

    fn locate(&self, fingerprint: u64) -> Packed {
        match self {
            Self::Base(base) => base
                .ids
                .internal_ids
                .get(fingerprint)
                .map_or(Packed::NOWHERE, Packed::index),
            _ => Packed::NOWHERE,
        }
    }
}

/// Sources of a collection's plan.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'o> {
    pub(crate) database: &'o Database,
    pub(crate) persist_dir: &'o Path,
    /// I/O mode for the segment's files.
    pub(crate) io: IoMode,
    pub(crate) collection: &'o Collection,
    /// Queue rows by collection; `None` if it is the only collection.
    pub(crate) topics: Option<&'o Topics>,
    pub(crate) given: Given,
}

/// Properties of a collection that the caller states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) dimension: Option<usize>,
    pub(crate) m: Option<usize>,
    pub(crate) space: Option<Space>,
}

impl<'o> Origin<'o> {
    pub(crate) fn with_given(self, given: Given) -> Self {
        Self { given, ..self }
    }
}

impl Plan {
    /// Locates every part of a collection.
    pub(crate) fn new(origin: Origin<'_>, monitor: &Monitor<'_>) -> Result<Self> {
        Planner {
            origin,
            monitor,
            findings: Findings::default(),
            is_damaged: false,
            header_is_damaged: false,
            index: Index::None,
            elsewhere: Vec::new(),
            unjoined: None,
            fingerprinter: Fingerprinter::new(),
            dimension: origin.collection.dimension,
            damage: Damage::default(),
            loss: Loss::Nothing,
            is_cosine: false,
        }
        .plan()
    }

    /// Frees the memory of the rows, which will not be read again.
    pub(crate) fn forget_rows(&mut self) {
        self.rows = Vec::new();
        self.appended = Vec::new();
        self.orphans = Vec::new();
        self.lag = Fingerprints::default();
    }

    /// Returns the number of records whose vector is in the segment, in the queue, and elsewhere.
    pub(crate) fn places(&self) -> [u64; 3] {
        let of_rows = self.rows.iter().map(|row| row.vector);
        let of_appended = self.appended.iter().map(|row| row.vector);
        let mut counts = [0; 3];
        for vector in of_rows
            .chain(of_appended)
            .chain(self.orphans.iter().copied())
        {
            let [index, queue, elsewhere] = &mut counts;
            match vector.unpack() {
                Location::Nowhere => {}
                Location::Index(_) => *index += 1,
                Location::Queue(_) => *queue += 1,
                Location::Elsewhere(..) => *elsewhere += 1,
            }
        }
        counts
    }

    /// Keeps the records of `embeddings` for whose id `keeps` is true, and drops all others.
    pub(crate) fn keep_rows(&mut self, keeps: impl Fn(i64) -> bool) {
        self.rows.retain(|row| keeps(row.rowid));
        self.appended = Vec::new();
        self.orphans = Vec::new();
    }

    /// Fails if a file of the segment changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match &self.index {
            Index::None => Ok(()),
            Index::Base(base) => base.records.check_unchanged(),
            Index::Ranked(records) => records.check_unchanged(),
        }?;
        self.elsewhere.iter().try_for_each(Records::check_unchanged)
    }

    /// Reopens the segment with another access. Internal ids stay the same.
    pub(crate) fn reopen_segment(&self, access: Access) -> Result<Option<directory::Segment>> {
        let records = self.index.records();
        records.map(|records| records.reopen(access)).transpose()
    }
}

struct Planner<'p> {
    origin: Origin<'p>,
    monitor: &'p Monitor<'p>,
    findings: Findings,
    is_damaged: bool,
    header_is_damaged: bool,
    index: Index,
    elsewhere: Vec<Records>,
    /// Records whose pickle is lost, with the reason.
    unjoined: Option<(Records, String)>,
    fingerprinter: Fingerprinter,
    dimension: Option<usize>,
    /// Damage met in the queue.
    damage: Damage,
    loss: Loss,
    is_cosine: bool,
}

/// Extent of a segment's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// Some of its records are lost.
    Some,
    /// All of it is lost, so its watermark has no meaning.
    All,
}

/// Queue rows that matter, by id.
#[derive(Debug, Default)]
struct Tail {
    vectors: Fingerprints<Logged>,
    texts: Fingerprints<Logged>,
    /// Number of rows that the segment has not applied.
    queued: u64,
}

/// Rows planned from the records of `embeddings`.
struct Sink<'d> {
    /// Set only if part of the segment is lost.
    seq_ids: Option<SeqIdReader<'d>>,
    rows: Vec<PlannedRow>,
    appended: Vec<AppendedRow>,
    /// Fingerprints of records without a vector.
    missing: Vec<u64>,
    /// Marks of entries that a record uses, by position in the base's ids, in the changes, and in
    /// the lag.
    in_base: Bits,
    in_changes: Bits,
    in_lag: Bits,
    stored: u64,
    /// Number of vectors with each of the [flaws](Index::flaws).
    flaws: [u64; 3],
}

impl<'p> Planner<'p> {
    fn plan(mut self) -> Result<Plan> {
        let collection = self.origin.collection;
        metric::check_shape(collection, self.origin.given)?;
        // Order matters from here on: the segment determines the tail, and the tail and the records
        // determine what the whole queue must be searched for.
        let vector_watermark = self.watermark(collection.vector_segment.as_ref(), "VECTOR");
        let text_watermark = self.watermark(collection.metadata_segment.as_ref(), "METADATA");
        let empty = self.open_index()?;
        let watermark = vector_watermark.or(match &self.index {
            Index::Base(base) => base.ids.max_seq_id,
            _ => None,
        });
        self.loss = match &self.index {
            Index::Base(base) if base.is_whole() => Loss::Nothing,
            Index::Base(_) => Loss::Some,
            // The segment never held records, so nothing is lost.
            _ if empty == Some(EmptyReason::AllDeleted) || watermark.is_none() => Loss::Nothing,
            _ => Loss::All,
        };
        if collection.is_lost {
            self.damaged(
                "collection-damaged",
                format!(
                    "the row of collection {} in the table collections is lost: its name comes \
                     from an index or is its id, and its configuration is unknown",
                    collection.id
                ),
            );
        }
        if let Some(dimension) = collection.impossible_dimension {
            self.damaged(
                "collection-dimension",
                format!(
                    "the table collections states the dimension {dimension}, which is invalid: \
                     the dimension of the segment or the queue is used"
                ),
            );
        }
        let space = self.choose_metric()?;
        // The rule for damaged vectors depends on the metric, so the metric is chosen first.
        self.judge_vectors(space.space == Space::Cosine);

        let mut tail = self.read_tail(watermark, text_watermark)?;
        let changes = self.replay(&mut tail)?;
        tail.texts.sort();
        let (mut sink, lost_records) = self.read_records(&tail, &changes)?;
        self.add_unknown(&tail, &changes, &mut sink)?;

        if !sink.missing.is_empty() {
            self.search_queue(&mut sink)?;
        }
        if let Some((records, why)) = self.unjoined.take() {
            self.join_by_rank(records, why, watermark, &mut sink)?;
        }
        if !sink.missing.is_empty() {
            self.search_elsewhere(space.space, &mut sink)?;
        }
        let (orphans, without_record) = self.orphans(&changes, &sink, lost_records)?;
        for vector in &orphans {
            sink.note_flaws(*vector, &self.index);
        }
        self.report_flaws(&sink, &orphans);
        let records = sink.rows.len() + sink.appended.len() + orphans.len();
        let vectors = sink.rows.iter().map(|row| row.vector);
        let without_vector = vectors
            .chain(sink.appended.iter().map(|row| row.vector))
            .filter(|vector| *vector == Packed::NOWHERE)
            .count() as u64;
        // The first scan already started at 0, so `search_queue` did not see these vectors as
        // missing.
        if self.loss == Loss::All {
            let first_queued = after(watermark);
            let rows = sink.rows.iter().map(|row| row.vector.unpack());
            let early = rows.filter(
                |vector| matches!(vector, Location::Queue(seq_id) if *seq_id < first_queued),
            );
            self.found_in_queue(early.count() as u64);
        }
        let counts = Counts {
            stored: sink.stored,
            records: records as u64,
            in_index: match &self.index {
                Index::None => 0,
                Index::Base(base) => base.ids.internal_ids.len() as u64,
                Index::Ranked(_) => sink
                    .rows
                    .iter()
                    .filter(|row| matches!(row.vector.unpack(), Location::Index(_)))
                    .count() as u64,
            },
            queued: tail.queued,
            without_vector,
            without_record,
        };
        self.judge(&counts, watermark, empty, lost_records);
        Ok(Plan {
            rows: sink.rows,
            appended: sink.appended,
            orphans,
            lag: tail.texts,
            index: self.index,
            elsewhere: self.elsewhere,
            fingerprinter: self.fingerprinter,
            dimension: self.dimension,
            space: space.space,
            space_source: space.source,
            counts,
            watermark,
            is_damaged: self.is_damaged || self.header_is_damaged,
            findings: self.findings,
        })
    }

    fn watermark(&mut self, segment: Option<&Segment>, scope: &str) -> Option<u64> {
        let watermark = segment?.watermark?;
        if let Some(stored) = watermark.poisoned {
            self.findings.note(
                "poisoned-watermark",
                1,
                format!(
                    "max_seq_id of the {scope} segment is {stored}, which a migration of Chroma \
                     made of {}; with it, Chroma applies no later write",
                    watermark.value
                ),
            );
        }
        Some(watermark.value)
    }

    /// Notes damage to a file. Records that lose their vector with it are counted as
    /// `vector-missing`.
    fn damaged(&mut self, code: &'static str, message: String) {
        self.is_damaged = true;
        self.findings.note(code, 1, message);
    }

    /// Drops the vectors that are damaged by the rule for the metric.
    fn judge_vectors(&mut self, is_cosine: bool) {
        self.is_cosine = is_cosine;
        if let Index::Base(base) = &mut self.index {
            let damaged = base.drop_damaged(is_cosine);
            if self.loss == Loss::Nothing && base.records.flaws.has_any() {
                self.loss = Loss::Some;
            }
            self.damaged_vectors(damaged);
        }
    }

    fn damaged_vectors(&mut self, count: u64) {
        if count > 0 {
            self.is_damaged = true;
            self.findings.note(
                "vector-damaged",
                count,
                "vectors of the segment that do not have norm 1, as the cosine metric requires: \
                 they are damaged, and only the queue can replace them"
                    .into(),
            );
        }
    }

    /// Reports the flaws of the segment's vectors: as a loss if a record has such a vector, and as a
    /// note if the queue replaced all of them.
    fn report_flaws(&mut self, sink: &Sink<'_>, orphans: &[Packed]) {
        let of_rows = sink.rows.iter().map(|row| row.vector);
        let of_appended = sink.appended.iter().map(|row| row.vector);
        let mut left = [0_u64; 3];
        for vector in of_rows.chain(of_appended).chain(orphans.iter().copied()) {
            for (count, flaw) in left.iter_mut().zip(self.index.flaws(vector)) {
                *count += u64::from(flaw);
            }
        }
        let kinds = [
            (
                "norm-missing",
                "records whose norm in length.bin is missing or impossible: unless the queue holds \
                 the vector, it is exported divided by its norm",
            ),
            (
                "vector-zeroed-sector",
                "vectors of the segment in which zeros fill a 512-byte sector, so that part of \
                 them is likely lost; unless the queue holds the vector, it is exported as it is",
            ),
            (
                "vector-not-finite",
                "vectors of the segment with components that are infinite or NaN; unless the queue \
                 holds the vector, it is exported as it is",
            ),
        ];
        for (((code, message), met), left) in kinds.into_iter().zip(sink.flaws).zip(left) {
            self.is_damaged |= met > 0;
            if left > 0 {
                self.findings.add(code, left, message.into());
            } else if met > 0 {
                let message = format!("{message}: it holds all of them");
                self.findings.note(code, met, message);
            }
        }
    }

    fn found_in_queue(&mut self, vectors: u64) {
        if vectors > 0 {
            let message = "records whose vector is missing from the segment; it was found in the \
                           queue";
            self.findings
                .set_note("vector-from-log", vectors, message.into());
        }
    }

    fn open_index(&mut self) -> Result<Option<EmptyReason>> {
        let Some(segment) = &self.origin.collection.vector_segment else {
            self.damaged(
                "segment-missing",
                "the collection has no VECTOR segment".into(),
            );
            return Ok(None);
        };
        if segment.type_ != LOCAL_INDEX {
            self.findings.note(
                "segment-type",
                1,
                format!(
                    "the vector segment is of type {:?}, whose vectors are not in the persist \
                     directory: only the vectors in the queue are read",
                    segment.type_
                ),
            );
            return Ok(None);
        }
        let Some(directory) = directory_of(self.origin.persist_dir, &segment.id) else {
            self.damaged(
                "segment-missing",
                format!("the segment id {:?} is not a directory name", segment.id),
            );
            return Ok(None);
        };
        let given = self.origin.given;
        let stated = Stated {
            dimension: self.dimension,
            m: self.origin.collection.m,
            ef_construction: self.origin.collection.ef_construction,
        };
        let guess = given.dimension.zip(given.m);
        let (found, header_flaw) = base::open(
            &directory,
            self.origin.io,
            (stated, guess),
            None,
            self.monitor,
        )?;
        if let Some(flaw) = header_flaw {
            self.header_is_damaged = true;
            self.findings.note("header-damaged", 1, flaw);
        }
        let records = match &found {
            Found::Base(base) => Some(&base.records),
            Found::WithoutIds(records, _) => Some(records),
            _ => None,
        };
        if let Some(records) = records {
            let found = records.dimension();
            match self.dimension {
                Some(expected) if expected != found => {
                    self.damaged(
                        "index-dimension",
                        format!(
                            "header.bin states the dimension {found}, and the collection \
                             {expected}: the segment is not used"
                        ),
                    );
                    return Ok(None);
                }
                // Queued vectors are judged by this dimension later.
                _ => self.dimension = Some(found),
            }
            self.check_given(records)?;
            for (sectors, message) in records.bad_sectors() {
                self.is_damaged = true;
                self.findings.note("index-unreadable", sectors, message);
            }
            if let Some(damage) = &records.damage {
                let damage = damage.clone();
                self.damaged(
                    "index-damaged",
                    format!("{damage}: only complete records are used"),
                );
            }
        }
        match found {
            Found::Empty(reason) => return Ok(Some(reason)),
            Found::Unusable(why) => {
                if let Some((dimension, m)) = guess {
                    let found = format!("{dimension} and {m}");
                    return Err(Error::argument("dimension and m", found, why));
                }
                self.damaged("index-damaged", format!("{why}: the segment is not used"));
            }
            Found::WithoutIds(records, why) => self.unjoined = Some((records, why)),
            Found::Base(base) => {
                if base.ids.without_record > 0 {
                    self.findings.note(
                        "id-without-record",
                        base.ids.without_record,
                        "ids of index_metadata.pickle without a live record of their label".into(),
                    );
                }
                if base.ids.repeated_labels > 0 {
                    self.is_damaged = true;
                    self.findings.add(
                        "label-duplicate",
                        base.ids.repeated_labels,
                        "records of the segment with the label of an earlier one: at least one of \
                         them is damaged, and the last is exported, as Chroma reads it"
                            .into(),
                    );
                }
                // All fingerprints of a plan must have one key, and the base's are computed
                // already.
                self.fingerprinter = base.ids.fingerprinter.clone();
                self.index = Index::Base(base);
            }
        }
        Ok(None)
    }

    fn scan_queue(
        &mut self,
        first: i64,
        mut visit: impl FnMut(u64, Logged, bool) -> Result<()>,
    ) -> Result<()> {
        let origin = self.origin;
        // Sequence numbers outside this range do not fit into `Logged`.
        let range = (first.max(0), MAX_SEQ_ID);
        let mut unknown = 0;
        let mut unreadable = 0;
        let mut other_dimension = 0;
        let (dimension, fingerprinter) = (&mut self.dimension, &self.fingerprinter);
        let damage = origin.database.queue(
            &origin.collection.id,
            origin.topics,
            range,
            self.monitor,
            |row: QueueRow<'_>| {
                let vector = match row.vector {
                    LoggedVector::Absent => false,
                    LoggedVector::Unreadable => {
                        unreadable += 1;
                        false
                    }
                    LoggedVector::Floats(found) => match *dimension {
                        Some(expected) if found != expected => {
                            other_dimension += 1;
                            false
                        }
                        _ => {
                            // Without a segment and a dimension in the database, the first queued
                            // vector decides.
                            *dimension = Some(found);
                            true
                        }
                    },
                };
                let fingerprint = fingerprinter.of(&row.id);
                match Logged::new(row.seq_id, row.operation, vector) {
                    Some(logged) => visit(fingerprint, logged, row.vector != LoggedVector::Absent),
                    None => {
                        unknown += u64::from(row.operation != Operation::Backfill);
                        Ok(())
                    }
                }
            },
        )?;
        // The queue is scanned several times, each time from another row on.
        self.damage.widen(damage);
        for (code, count, what) in [
            (
                "queue-operation",
                unknown,
                "queue rows with an unknown operation",
            ),
            (
                "queue-encoding",
                unreadable,
                "queued vectors that are not float32",
            ),
            (
                "queue-dimension",
                other_dimension,
                "queued vectors whose dimension differs from the collection's",
            ),
        ] {
            if count > 0 {
                self.findings.set(code, count, format!("{what} (skipped)"));
            }
        }
        Ok(())
    }

    fn read_tail(&mut self, watermark: Option<u64>, text_watermark: Option<u64>) -> Result<Tail> {
        let first_queued = after(watermark);
        let first_vector = match self.loss {
            Loss::All => 0,
            _ => first_queued,
        };
        let first_text = match self.origin.collection.metadata_segment {
            Some(_) => after(text_watermark),
            None => 0,
        };
        let mut tail = Tail::default();
        self.scan_queue(first_vector.min(first_text), |fingerprint, logged, _| {
            // One scan serves both segments, from the lower of the two watermarks.
            tail.queued += u64::from(logged.seq_id() >= first_queued);
            if logged.seq_id() >= first_vector && logged.changes_vector() {
                tail.vectors.reserve()?;
                tail.vectors.push(fingerprint, logged);
            }
            if logged.seq_id() >= first_text {
                tail.texts.reserve()?;
                tail.texts.push(fingerprint, logged);
            }
            Ok(())
        })?;
        Ok(tail)
    }

    /// Returns the location of each vector that the tail changes; `NOWHERE` for deleted ones.
    fn replay(&mut self, tail: &mut Tail) -> Result<Fingerprints<Packed>> {
        let mut vectors = std::mem::take(&mut tail.vectors);
        vectors.sort();
        let mut changes = Fingerprints::default();
        for group in vectors.groups() {
            let Some((fingerprint, _)) = group.first() else {
                continue;
            };
            let in_index = self.index.locate(*fingerprint) != Packed::NOWHERE;
            if let Some(change) = replay_vectors(group, in_index) {
                changes.reserve()?;
                let vector = change.map_or(Packed::NOWHERE, Packed::queue);
                changes.push(*fingerprint, vector);
            }
        }
        Ok(changes)
    }

    /// Plans the records of `embeddings`. Also returns whether some of them are lost.
    fn read_records(
        &mut self,
        tail: &Tail,
        changes: &Fingerprints<Packed>,
    ) -> Result<(Sink<'p>, bool)> {
        let base_len = match &self.index {
            Index::Base(base) => base.ids.internal_ids.len(),
            _ => 0,
        };
        let (database, loss) = (self.origin.database, self.loss);
        let mut sink = Sink {
            seq_ids: match loss {
                Loss::Nothing => None,
                _ => SeqIdReader::new(database)?,
            },
            rows: Vec::new(),
            appended: Vec::new(),
            missing: Vec::new(),
            in_base: Bits::with_len(base_len as u64)?,
            in_changes: Bits::with_len(changes.len() as u64)?,
            in_lag: Bits::with_len(tail.texts.len() as u64)?,
            stored: 0,
            flaws: [0; 3],
        };
        let Some(segment) = &self.origin.collection.metadata_segment else {
            self.is_damaged = true;
            self.findings.add(
                "segment-missing",
                1,
                "the collection has no METADATA segment".into(),
            );
            return Ok((sink, true));
        };
        let (index, fingerprinter) = (&self.index, &self.fingerprinter);
        // A damaged table may repeat an id.
        let mut once = (!database.is_sound("embeddings")).then(HashSet::new);
        let damage = database.record_ids(&segment.id, self.monitor, |rowid, id| {
            let fingerprint = fingerprinter.of(id);
            if let Some(once) = &mut once {
                once.try_reserve(1)
                    .map_err(|_| Error::out_of_memory(HOLD_ROWS, None))?;
                if !once.insert(fingerprint) {
                    return Ok(());
                }
            }
            sink.stored += 1;
            let mut vector = sink.locate(fingerprint, index, changes);
            // An add for an existing id does not replace the vector that is lost.
            if is_of_another(&mut sink.seq_ids, rowid, vector)? {
                vector = Packed::NOWHERE;
            }
            match sink.presence_after(fingerprint, tail) {
                Presence::Kept => {
                    memory::reserve(&mut sink.rows, 1, HOLD_ROWS)?;
                    sink.rows.push(PlannedRow { rowid, vector });
                }
                Presence::Gone => return Ok(()),
                Presence::Created(created) => {
                    sink.appended.push(AppendedRow {
                        created,
                        fingerprint,
                        vector,
                    });
                }
            }
            if sink.note_flaws(vector, index) {
                memory::reserve(&mut sink.missing, 1, HOLD_ROWS)?;
                sink.missing.push(fingerprint);
            }
            Ok(())
        })?;
        // The index visits ids in its own order; output rows come in rowid order.
        sink.rows.sort_unstable_by_key(|row| row.rowid);
        let is_lost = !damage.is_none() || !database.has_table("embeddings");
        if is_lost {
            self.is_damaged = true;
            self.findings.add(
                "records-damaged",
                damage.rows + damage.ranges,
                "rows or pages of the table embeddings that cannot be read; ids that the segment \
                 holds are exported without document and metadata"
                    .into(),
            );
        }
        Ok((sink, is_lost))
    }

    /// Adds the records that are not in `embeddings` yet because the metadata segment is behind.
    fn add_unknown(
        &mut self,
        tail: &Tail,
        changes: &Fingerprints<Packed>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut at = 0;
        for group in tail.texts.groups() {
            let first = at;
            at += group.len() as u64;
            if sink.in_lag.contains(first) {
                continue;
            }
            let Some(&(fingerprint, _)) = group.first() else {
                continue;
            };
            if let Presence::Created(created) = log::presence(group, false) {
                let vector = sink.locate(fingerprint, &self.index, changes);
                memory::reserve(&mut sink.appended, 1, HOLD_ROWS)?;
                sink.appended.push(AppendedRow {
                    created,
                    fingerprint,
                    vector,
                });
                if sink.note_flaws(vector, &self.index) {
                    sink.missing.push(fingerprint);
                }
            }
        }
        sink.appended.sort_unstable_by_key(|row| row.created);
        if at > 0 {
            self.findings.note(
                "metadata-behind",
                at,
                "queue rows that the metadata segment has not seen were applied".into(),
            );
        }
        Ok(())
    }

    /// Searches the whole queue for the vectors of records that have none.
    ///
    /// Such vectors belong to a segment that is lost or behind its own watermark, or were lost by
    /// Chroma 0.4. That version drops an id that is deleted and added again within one batch.
    fn search_queue(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink.missing.sort_unstable();
        let missing = &sink.missing;
        let mut logged = Fingerprints::default();
        self.scan_queue(0, |fingerprint, row, _| {
            if row.changes_vector() && missing.binary_search(&fingerprint).is_ok() {
                logged.reserve()?;
                logged.push(fingerprint, row);
            }
            Ok(())
        })?;
        logged.sort();
        let mut found = Fingerprints::default();
        for group in logged.groups() {
            if let (Some((fingerprint, _)), Some(logged)) = (group.first(), log::last_vector(group))
            {
                found.reserve()?;
                found.push(*fingerprint, Packed::queue(logged));
            }
        }
        self.found_in_queue(found.len() as u64);
        let index = std::mem::replace(&mut self.index, Index::None);
        let lacks = |vector| vector == Packed::NOWHERE || index.flaws(vector).contains(&true);
        let filled = self.fill(sink, &found, lacks);
        self.index = index;
        filled.map(|_| ())
    }

    /// Gives records that lack a vector the one that was found for their id. Returns their number.
    fn fill(
        &self,
        sink: &mut Sink<'_>,
        found: &Fingerprints<Packed>,
        lacks: impl Fn(Packed) -> bool,
    ) -> Result<u64> {
        let mut filled = 0;
        if found.is_empty() {
            return Ok(filled);
        }
        for row in &mut sink.appended {
            if let (true, Some(vector)) = (lacks(row.vector), found.get(row.fingerprint)) {
                row.vector = vector;
                filled += 1;
            }
        }
        // The plan holds only rowids of `embeddings`, so the ids are read again.
        let Some(segment) = &self.origin.collection.metadata_segment else {
            return Ok(filled);
        };
        let Sink { rows, seq_ids, .. } = sink;
        let fingerprinter = &self.fingerprinter;
        let database = self.origin.database;
        database.record_ids(&segment.id, self.monitor, |rowid, id| {
            let Ok(at) = rows.binary_search_by_key(&rowid, |row| row.rowid) else {
                return Ok(());
            };
            let row = rows.get_mut(at).filter(|row| lacks(row.vector));
            if let (Some(row), Some(vector)) = (row, found.get(fingerprinter.of(id))) {
                if !is_of_another(seq_ids, rowid, vector)? {
                    row.vector = vector;
                    filled += 1;
                }
            }
            Ok(())
        })?;
        Ok(filled)
    }

    /// Joins records without a pickle to the ids of `embeddings` by rank, if that is exact. Labels
    /// ascend in the order in which records are added, and so do the rowids of `embeddings`.
    ///
    /// It is not exact if a version before 1.0 wrote records, because that version orders the
    /// labels of a batch arbitrarily. A delete that the segment has not applied also breaks it.
    fn join_by_rank(
        &mut self,
        mut records: Records,
        why: String,
        watermark: Option<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let lacks = |row: &PlannedRow| row.vector == Packed::NOWHERE;
        let missing = sink.rows.iter().filter(|row| lacks(row)).count();
        if missing == 0 {
            if !sink.rows.is_empty() {
                self.damaged(
                    "pickle-lost",
                    format!("{why}; every vector was found in the queue"),
                );
            }
            return Ok(());
        }
        // Labels in ascending order pair with rows in ascending order of rowid.
        let labels = records.by_label(self.monitor)?;
        records.flaws.keep(self.is_cosine);
        let refused = self.why_not_by_rank(&labels, records.may_hold_junk(), watermark, sink)?;
        if let Some(reason) = refused {
            self.damaged(
                "pickle-lost",
                format!(
                    "{why}, and the {} records of the segment cannot be matched to ids with \
                     certainty ({reason}): the {missing} vectors that are not in the queue are \
                     left out; `extract` writes them without ids",
                    labels.len()
                ),
            );
            return Ok(());
        }
        let mut damaged = 0;
        for (row, (_, internal_id)) in sink.rows.iter_mut().zip(&labels) {
            if lacks(row) && records.flaws.is_damaged((*internal_id).into()) {
                damaged += 1;
            } else if lacks(row) {
                row.vector = Packed::index(*internal_id);
            }
        }
        self.damaged_vectors(damaged);
        self.damaged(
            "pickle-lost",
            format!(
                "{why}; records and ids were joined by rank, which is exact for this collection"
            ),
        );
        self.index = Index::Ranked(records);
        for at in 0..sink.rows.len() {
            if let Some(row) = sink.rows.get(at).copied() {
                sink.note_flaws(row.vector, &self.index);
            }
        }
        Ok(())
    }

    fn why_not_by_rank(
        &mut self,
        labels: &[(u64, u32)],
        junk_is_possible: bool,
        watermark: Option<u64>,
        sink: &Sink<'_>,
    ) -> Result<Option<String>> {
        let database = self.origin.database;
        let collection = self.origin.collection;
        let Some(segment) = &collection.metadata_segment else {
            return Ok(Some("there are no ids".into()));
        };
        if !collection.configured_by_rust
            || database.has_python_records(&segment.id, self.monitor)?
        {
            return Ok(Some("the collection was made before Chroma 1.0".into()));
        }
        // One lost row or record would shift every later pair.
        if self.is_damaged || junk_is_possible || !sink.appended.is_empty() {
            return Ok(Some("other parts are also damaged".into()));
        }
        let mut deletes = 0_u64;
        self.scan_queue(after(watermark), |_, logged, _| {
            deletes += u64::from(logged.is_delete());
            Ok(())
        })?;
        if deletes > 0 {
            return Ok(Some(format!(
                "{deletes} records were deleted since the segment was written"
            )));
        }
        // Records that the segment has not applied came later, and their vectors are in the queue.
        let later = sink.rows.get(labels.len()..);
        let explained = later.is_some_and(|later| {
            later
                .iter()
                .all(|row| matches!(row.vector.unpack(), Location::Queue(_)))
        });
        if explained {
            return Ok(None);
        }
        Ok(Some(format!(
            "there are {} ids and {} records",
            sink.rows.len(),
            labels.len()
        )))
    }

    /// Returns the number of vectors without a record, and their locations if `save` is set.
    fn orphans(
        &self,
        changes: &Fingerprints<Packed>,
        sink: &Sink<'_>,
        save: bool,
    ) -> Result<(Vec<Packed>, u64)> {
        let base = match &self.index {
            Index::Base(base) => base.ids.internal_ids.entries(),
            _ => &[],
        };
        let in_base = (0..)
            .zip(base)
            .filter(|(at, (fingerprint, _))| {
                !sink.in_base.contains(*at) && changes.position(*fingerprint).is_none()
            })
            .map(|(_, (_, internal_id))| Packed::index(*internal_id));
        let in_changes = (0..)
            .zip(changes.entries())
            .filter(|(at, (_, vector))| {
                !sink.in_changes.contains(*at) && *vector != Packed::NOWHERE
            })
            .map(|(_, (_, vector))| *vector);
        let mut orphans = Vec::new();
        let mut count = 0;
        for vector in in_base.chain(in_changes) {
            count += 1;
            if save {
                memory::reserve(&mut orphans, 1, HOLD_ROWS)?;
                orphans.push(vector);
            }
        }
        // Segment vectors first, in order of internal id, then queue rows: `for_each_orphan` relies
        // on it.
        orphans.sort_unstable();
        Ok((orphans, count))
    }

    fn judge(
        &mut self,
        counts: &Counts,
        watermark: Option<u64>,
        empty: Option<EmptyReason>,
        lost_records: bool,
    ) {
        if let (Some(reason), Some(watermark)) = (empty, watermark) {
            // A segment whose records were all deleted is not damaged.
            if counts.records > 0 && reason != EmptyReason::AllDeleted || counts.without_vector > 0
            {
                let what = match reason {
                    EmptyReason::NoDirectory => "the segment has no directory",
                    EmptyReason::NeverFlushed => "index_metadata.pickle is missing",
                    EmptyReason::AllDeleted => "index_metadata.pickle holds no ids",
                };
                self.damaged(
                    "index-missing",
                    format!(
                        "{what}, although the segment was written up to sequence number {watermark}: \
                         the queue was read from its beginning"
                    ),
                );
            }
        }
        if counts.without_vector > 0 {
            self.findings.add(
                "vector-missing",
                counts.without_vector,
                "records without a vector, neither in the segment nor in the queue".into(),
            );
        }
        if counts.without_record > 0 {
            let what = match lost_records {
                true => "vectors whose record is lost; they are exported with their id only",
                false => "vectors whose id has no record (left out, as Chroma does)",
            };
            self.findings
                .add("vector-without-record", counts.without_record, what.into());
        }
        if !self.damage.is_none() {
            self.is_damaged = true;
            self.findings.add(
                "queue-damaged",
                self.damage.rows + self.damage.ranges,
                "rows or pages of the queue that cannot be read".into(),
            );
        }
    }
}

impl Sink<'_> {
    /// Locates the vector of a record, and marks the entries that it uses.
    fn locate(
        &mut self,
        fingerprint: u64,
        index: &Index,
        changes: &Fingerprints<Packed>,
    ) -> Packed {
        let mut vector = Packed::NOWHERE;
        if let Index::Base(base) = index {
            if let Some(at) = base.ids.internal_ids.position(fingerprint) {
                self.in_base.insert(at as u64);
                if let Some((_, internal_id)) = base.ids.internal_ids.entries().get(at) {
                    vector = Packed::index(*internal_id);
                }
            }
        }
        if let Some(at) = changes.position(fingerprint) {
            self.in_changes.insert(at as u64);
            if let Some((_, changed)) = changes.entries().get(at) {
                vector = *changed;
            }
        }
        vector
    }

    /// Counts the flaws of a vector. Returns true if it is missing, or if the queue may have a
    /// better copy.
    fn note_flaws(&mut self, vector: Packed, index: &Index) -> bool {
        let flaws = index.flaws(vector);
        for (count, flaw) in self.flaws.iter_mut().zip(flaws) {
            *count += u64::from(flaw);
        }
        vector == Packed::NOWHERE || flaws.contains(&true)
    }

    /// Returns the state of a record of `embeddings` after the metadata segment has caught up.
    fn presence_after(&mut self, fingerprint: u64, tail: &Tail) -> Presence {
        if tail.texts.is_empty() {
            return Presence::Kept;
        }
        match tail.texts.position(fingerprint) {
            None => Presence::Kept,
            Some(at) => {
                self.in_lag.insert(at as u64);
                log::presence(tail.texts.group(fingerprint), true)
            }
        }
    }
}

/// Returns true if a queued vector does not belong to the record, because its add met an existing
/// id and did nothing. If the segment's record is lost, only the sequence number in `embeddings`
/// shows that. It names the last queue row that changed the record.
fn is_of_another(
    seq_ids: &mut Option<SeqIdReader<'_>>,
    rowid: i64,
    vector: Packed,
) -> Result<bool> {
    match (seq_ids, vector.added_by()) {
        (Some(seq_ids), Some(added_by)) => {
            Ok(seq_ids.read(rowid)?.is_some_and(|last| last < added_by))
        }
        _ => Ok(false),
    }
}

/// First sequence number after a watermark.
fn after(watermark: Option<u64>) -> i64 {
    watermark.map_or(0, |watermark| {
        i64::try_from(watermark)
            .ok()
            .and_then(|watermark| watermark.checked_add(1))
            .unwrap_or(i64::MAX)
    })
}

/// Directory of a segment, or `None` if its id cannot be a directory name. Ids come from the
/// database, so one with `..` or a separator must not lead elsewhere.
pub(crate) fn directory_of(persist_dir: &Path, segment: &str) -> Option<std::path::PathBuf> {
    // NAME_MAX of Linux and macOS, in bytes. Chroma's ids have 36.
    const MAX_NAME_BYTES: usize = 255;
    if segment.len() > MAX_NAME_BYTES || segment.contains('\0') {
        return None;
    }
    let mut parts = Path::new(segment).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(name)), None) => Some(persist_dir.join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_ids_name_a_directory_below_the_store_or_none() {
        let dir = |id: &str| directory_of(Path::new("/chroma"), id);
        let id = "00000000-0000-4000-8000-00000000000a";
        assert_eq!(dir(id), Some(Path::new("/chroma").join(id)));
        assert!(dir(&"a".repeat(255)).is_some());
        for id in [
            "",
            ".",
            "..",
            "/",
            "/etc",
            "a/b",
            "../a",
            "a\0b",
            &"a".repeat(256),
        ] {
            assert_eq!(dir(id), None, "{id:?}");
        }
    }
}
