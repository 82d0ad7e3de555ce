//! Base of a collection: the vectors that its segment holds.

use std::path::Path;

use super::fingerprint::{Fingerprinter, Fingerprints};
use super::shape::{self, Counted, Opened, Stated};
use crate::base::memory;
use crate::base::path::display_path;
use crate::base::progress::Monitor;
pub(crate) use crate::error::recoverable;
use crate::error::{Error, Result};
use crate::io::file::{exists, is_directory, Access, FileWindow, IoMode};
use crate::segment::directory::{Segment, SegmentFiles, SegmentMetadata};
use crate::segment::evidence::Evidence;
use crate::segment::file_name;
use crate::segment::header::MAX_COUNT;
use crate::segment::norms::Norms;
use crate::segment::record;
use crate::segment::vectors::{scale, FlawReader, Flaws};

/// Random hash keys to try before giving up. For a million ids, one key fails with probability 3 ·
/// 10⁻⁸ (see [`Fingerprints`]).
const FINGERPRINT_KEYS: usize = 4;

/// State of a segment on disk.
#[derive(Debug)]
pub(crate) enum Found {
    /// No directory, a segment that was never flushed, or one whose records are all deleted.
    Empty(EmptyReason),
    /// Records with their ids.
    Base(Base),
    /// Records whose ids are lost because the pickle is missing or unreadable, with the reason.
    WithoutIds(Records, String),
    /// Files exist but are unusable, with the reason.
    Unusable(String),
}

/// Extent of the search for [`Evidence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Few,
    All,
}

/// Reason why a segment has no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyReason {
    NoDirectory,
    NeverFlushed,
    AllDeleted,
}

/// Records of a segment, by internal id.
#[derive(Debug)]
pub(crate) struct Records {
    segment: Segment,
    /// Damaged vectors and norms of the records that have an id.
    pub(crate) flaws: Box<Flaws>,
    /// Reason for a shortage: the file holds fewer records than the count.
    pub(crate) damage: Option<String>,
    counted: Counted,
}

/// Records of a segment, with the mapping from ids to internal ids.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) records: Records,
    pub(crate) ids: Ids,
}

/// Ids from the pickle, joined to the records.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) fingerprinter: Fingerprinter,
    /// Internal id, by fingerprint.
    pub(crate) internal_ids: Fingerprints<u32>,
    /// Number of ids without a record.
    pub(crate) without_record: u64,
    /// Number of live records that repeat the label of an earlier one.
    pub(crate) repeated_labels: u64,
    /// Flaws of the records, until they are moved to [`Records`].
    flaws: Box<Flaws>,
    /// Sequence number of the last write that the segment holds, if the pickle has one.
    pub(crate) max_seq_id: Option<u64>,
}

/// Access to the files of a segment: a rescue reads past bad sectors.
fn access(io: IoMode) -> Access {
    Access::from(io).past_bad_sectors()
}

/// Opens the segment in a directory. Also returns the reason if its `header.bin` cannot be trusted.
/// `key` is the key of the fingerprints, by default a new one.
pub(crate) fn open(
    directory: &Path,
    io: IoMode,
    (stated, guess): (Stated, Option<(usize, usize)>),
    key: Option<&Fingerprinter>,
    monitor: &Monitor<'_>,
) -> Result<(Found, Option<String>)> {
    if !is_directory(directory)? {
        return Ok((Found::Empty(EmptyReason::NoDirectory), None));
    }
    let opened = Records::open(directory, io, (stated, guess), monitor);
    let (mut records, mut header_flaw) = match opened {
        Ok(records) => records,
        Err(error) => {
            let found = without_records(directory, io, recoverable(error)?, monitor)?;
            return Ok((found, None));
        }
    };
    let joined = match records.segment.files().metadata.get() {
        Ok(None) if records.is_empty() => {
            return Ok((Found::Empty(EmptyReason::NeverFlushed), header_flaw));
        }
        Ok(None) => Err(format!("there is no {}", file_name::METADATA)),
        Ok(Some(_)) => match records.metadata(monitor) {
            Ok(metadata) if metadata.table().is_empty() => {
                return Ok((Found::Empty(EmptyReason::AllDeleted), header_flaw));
            }
            Ok(metadata) => Ok(Ids::join(&records, metadata, key, monitor)?),
            Err(error) => Err(recoverable(error)?),
        },
        Err(error) => Err(recoverable(error)?),
    };
    let found = match joined {
        Ok(ids) => {
            let (mut ids, flaw) = records.look_further(ids, key, monitor)?;
            header_flaw = header_flaw.or(flaw);
            records.flaws = std::mem::take(&mut ids.flaws);
            Found::Base(Base { records, ids })
        }
        Err(why) => Found::WithoutIds(records, why),
    };
    Ok((found, header_flaw))
}

/// State of a segment whose records cannot be read at all.
fn without_records(
    directory: &Path,
    io: IoMode,
    why: String,
    monitor: &Monitor<'_>,
) -> Result<Found> {
    let files = SegmentFiles::new(directory, access(io))?;
    let empty = match files.metadata.get() {
        Ok(None) => (!exists(files.header.path())?).then_some(EmptyReason::NeverFlushed),
        Ok(Some(_)) => match files.read_metadata(monitor) {
            Ok(metadata) => metadata
                .table()
                .is_empty()
                .then_some(EmptyReason::AllDeleted),
            Err(error) => recoverable(error).map(|_| None)?,
        },
        Err(error) => recoverable(error).map(|_| None)?,
    };
    Ok(match empty {
        Some(reason) => Found::Empty(reason),
        None => Found::Unusable(why),
    })
}

impl Records {
    fn open(
        directory: &Path,
        io: IoMode,
        (stated, guess): (Stated, Option<(usize, usize)>),
        monitor: &Monitor<'_>,
    ) -> Result<(Self, Option<String>)> {
        let Opened {
            segment,
            header_flaw,
            shortage: damage,
            counted,
        } = shape::open(
            SegmentFiles::new(directory, access(io))?,
            stated,
            guess,
            monitor,
        )?;
        // Opened early, so that all files are of one state of the directory.
        segment.files().norms.get()?;
        let records = Self {
            segment,
            flaws: Box::default(),
            damage,
            counted,
        };
        Ok((records, header_flaw))
    }

    /// Returns true if the header, or the files without one, count no records.
    fn is_empty(&self) -> bool {
        match self.segment.header() {
            Some(header) => header.cur_element_count == 0,
            None => self.segment.count() == 0 && self.damage.is_none(),
        }
    }

    /// Returns true if uninitialised memory may be among the records.
    pub(crate) fn may_hold_junk(&self) -> bool {
        self.counted == Counted::AtMost
    }

    /// If the number of records is uncertain, looks for ids without a record behind the last
    /// counted record. Keeps the count that finds more of them.
    fn look_further(
        &mut self,
        ids: Ids,
        key: Option<&Fingerprinter>,
        monitor: &Monitor<'_>,
    ) -> Result<(Ids, Option<String>)> {
        let whole = self.segment.whole_records()?.min(MAX_COUNT);
        // MAX_COUNT bounds the scan: a sparse file may be terabytes long.
        let is_certain = self.counted == Counted::Confirmed || self.segment.count() >= whole;
        if ids.without_record == 0 || is_certain {
            return Ok((ids, None));
        }
        let further = Self {
            segment: self.segment.with_count(whole)?,
            flaws: Box::default(),
            damage: self.damage.clone(),
            counted: Counted::AtMost,
        };
        let metadata = further.metadata(monitor)?;
        let more = Ids::join(&further, metadata, key, monitor)?;
        if more.without_record >= ids.without_record {
            return Ok((ids, None));
        }
        let flaw = format!(
            "{}: cur_element_count: found {}, expected more: later records have {} labels of \
             index_metadata.pickle",
            display_path(further.segment.files().header.path()),
            self.segment.count(),
            ids.without_record - more.without_record,
        );
        *self = further;
        Ok((more, Some(flaw)))
    }

    /// Returns the dimension and m.
    pub(crate) fn shape(&self) -> (usize, usize) {
        let layout = self.segment.layout();
        (layout.dimension(), layout.max_m0() / 2)
    }

    /// Evaluates the vectors for evidence of the metric.
    pub(crate) fn evidence(&self, extent: Extent, monitor: &Monitor<'_>) -> Result<Evidence> {
        match extent {
            Extent::Few => Evidence::of_few(&self.segment, monitor),
            Extent::All => Evidence::of(&self.segment, monitor),
        }
    }

    /// Reopens the segment with another access. Internal ids stay the same.
    pub(crate) fn reopen(&self, access: Access) -> Result<Segment> {
        self.segment.reopen(access)
    }

    pub(crate) fn dimension(&self) -> usize {
        self.segment.layout().dimension()
    }

    /// Number of bad sectors met so far in each file, with a message.
    pub(crate) fn bad_sectors(&self) -> Vec<(u64, String)> {
        let files = self.segment.files().bad_sectors();
        files
            .map(|(file, sectors)| {
                let message = format!(
                    "sectors of {} that the disk cannot read: their content is lost",
                    display_path(file.path())
                );
                (sectors, message)
            })
            .collect()
    }

    fn level0(&self) -> Result<record::Records<FileWindow<'_>>> {
        self.segment.level0()
    }

    fn metadata(&self, monitor: &Monitor<'_>) -> Result<SegmentMetadata<'_>> {
        self.segment.files().read_metadata(monitor)
    }

    fn flaw_reader(&self) -> Result<FlawReader<FileWindow<'_>>> {
        let norms = self.segment.files().read_norms()?;
        Ok(FlawReader::new(self.segment.layout(), norms))
    }

    /// Returns labels and internal ids of the live records, sorted by label. A label that occurs
    /// twice keeps its last record.
    pub(crate) fn by_label(&mut self, monitor: &Monitor<'_>) -> Result<Vec<(u64, u32)>> {
        let mut level0 = self.level0()?;
        let mut flaws = self.flaw_reader()?;
        let mut labels = Vec::new();
        level0.for_each(&monitor.without_progress(), |internal_id, record| {
            if !record.links.is_deleted() && !record.unreadable {
                flaws.see(internal_id, &record)?;
                memory::reserve(&mut labels, 1, "hold the labels of a segment")?;
                labels.push((record.label, narrow(internal_id)?));
            }
            Ok(())
        })?;
        *self.flaws = flaws.finish();
        // Sorted by label, then internal id, so that a repeated label's last record comes last.
        labels.sort_unstable();
        let first_wins = self.may_hold_junk();
        labels.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same && !first_wins {
                kept.1 = later.1;
            }
            same
        });
        Ok(labels)
    }

    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.segment.files().check_unchanged()
    }
}

fn narrow(internal_id: u64) -> Result<u32> {
    u32::try_from(internal_id).map_err(|_| Error::internal("a segment of more than 2³² records"))
}

impl Ids {
    fn join(
        records: &Records,
        mut metadata: SegmentMetadata<'_>,
        key: Option<&Fingerprinter>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        const NO_RECORD: u32 = u32::MAX;
        // Indexed by slot of the metadata.
        let mut internal_ids = memory::filled(
            metadata.table().len(),
            NO_RECORD,
            "hold the ids of a segment",
        )?;
        let first_wins = records.may_hold_junk();
        let mut repeated_labels = 0;
        let mut flaws = records.flaw_reader()?;
        records
            .level0()?
            .for_each(&monitor.without_progress(), |internal_id, record| {
                if record.links.is_deleted() || record.unreadable {
                    return Ok(());
                }
                let entry = metadata.table().find(record.label);
                let slot = entry.map(|entry| entry.slot);
                if let Some(place) = slot.and_then(|slot| internal_ids.get_mut(slot)) {
                    let is_repeated = *place != NO_RECORD;
                    // Uninitialised records lie behind all real ones, so the first record of a
                    // label counts.
                    if first_wins && is_repeated {
                        return Ok(());
                    }
                    repeated_labels += u64::from(is_repeated);
                    *place = narrow(internal_id)?;
                    flaws.see(internal_id, &record)?;
                }
                Ok(())
            })?;
        let mut flaws = Box::new(flaws.finish());

        for _ in 0..FINGERPRINT_KEYS {
            let fingerprinter = key.map_or_else(Fingerprinter::new, Clone::clone);
            let mut ids = Fingerprints::with_capacity(metadata.table().len())?;
            let mut without_record = 0;
            for (slot, &internal_id) in internal_ids.iter().enumerate() {
                match metadata.table().at(slot) {
                    Some(entry) if internal_id != NO_RECORD => {
                        let id = metadata.user_id(entry)?;
                        ids.push(fingerprinter.of(id), internal_id);
                    }
                    _ => without_record += 1,
                }
            }
            monitor.check()?;
            if ids.sort() {
                return Ok(Self {
                    fingerprinter,
                    internal_ids: ids,
                    without_record,
                    repeated_labels,
                    flaws: std::mem::take(&mut flaws),
                    max_seq_id: metadata.table().max_seq_id(),
                });
            }
        }
        Err(Error::internal(
            "fingerprints of ids collide under every key",
        ))
    }
}

impl Base {
    /// Drops the ids of records whose vector is damaged, if the metric is cosine. Returns their
    /// number.
    pub(crate) fn drop_damaged(&mut self, is_cosine: bool) -> u64 {
        self.records.flaws.keep(is_cosine);
        let flaws = &self.records.flaws;
        let ids = &mut self.ids.internal_ids;
        let before = ids.len();
        ids.retain(|internal_id| !flaws.is_damaged(internal_id.into()));
        before.saturating_sub(ids.len()) as u64
    }

    /// Returns true if every id has its record.
    pub(crate) fn is_whole(&self) -> bool {
        self.records.damage.is_none() && self.ids.without_record == 0
    }

    /// Returns the ids of the given records. `internal_ids` must ascend.
    pub(crate) fn names(&self, internal_ids: &[u32], monitor: &Monitor<'_>) -> Result<Vec<String>> {
        let mut metadata = self.records.metadata(monitor)?;
        let mut names = Vec::new();
        let ids = internal_ids.iter().copied().map(u64::from);
        self.records.level0()?.visit(ids, |_, record| {
            if let Some(entry) = metadata.table().find(record.label) {
                names.push(metadata.user_id(entry)?.to_string());
            }
            Ok(())
        })?;
        Ok(names)
    }
}

/// Reads vectors by internal id.
#[derive(Debug)]
pub(crate) struct VectorReader<'b> {
    level0: record::Records<FileWindow<'b>>,
    norms: Option<Norms<FileWindow<'b>>>,
    flaws: &'b Flaws,
}

impl<'b> VectorReader<'b> {
    pub(crate) fn new(records: &'b Records, multiply: bool) -> Result<Self> {
        Ok(Self {
            // Records that were added together are close in the segment and in the database, but in
            // different orders.
            level0: records.segment.level0_for_neighbours()?,
            norms: match multiply {
                true => records.segment.files().read_norms_for_neighbours()?,
                false => None,
            },
            flaws: &records.flaws,
        })
    }

    /// Appends a record's vector to `out` and returns its label. The vector is multiplied by its
    /// norm if requested and known.
    pub(crate) fn read(&mut self, internal_id: u32, out: &mut Vec<f32>) -> Result<u64> {
        let id = u64::from(internal_id);
        let record = self.level0.record(id)?;
        let norm = match &mut self.norms {
            Some(norms) if !self.flaws.lacks_norm(id) => norms.find(id)?,
            _ => None,
        };
        match norm {
            None => out.extend_from_slice(record.vector),
            Some(norm) => {
                let scale = scale(norm);
                out.extend(record.vector.iter().map(|component| component * scale));
            }
        }
        Ok(record.label)
    }
}
