//! The base of a collection: the vectors that its index holds.

use std::path::Path;

use super::fingerprint::{Fingerprinter, Fingerprints};
use crate::chroma::file_name;
use crate::chroma::norms::Norms;
use crate::chroma::record::Level0;
use crate::chroma::segment::{Segment, SegmentFiles, SegmentMetadata};
pub(crate) use crate::error::recoverable;
use crate::error::{Error, Result};
use crate::io::file::{exists, is_directory, Access, FileWindow, IoMode};
use crate::memory;
use crate::path::display_path;
use crate::progress::Monitor;

/// Keys to try before giving up. Two tries are one in 10⁷ for a million ids.
const FINGERPRINT_KEYS: usize = 4;

/// What there is of an index.
#[derive(Debug)]
pub(crate) enum Found {
    /// No directory, or one that was never flushed, or one whose records are all deleted.
    Nothing(Nothing),
    /// Records with their ids.
    Base(Base),
    /// Records whose ids are lost, since there is no pickle, or one that cannot be read.
    WithoutIds(Records, String),
    /// Files that are there and cannot be used.
    Unusable(String),
}

/// Why an index holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    NoDirectory,
    NeverFlushed,
    Empty,
}

/// The records of an index, by internal id.
#[derive(Debug)]
pub(crate) struct Records {
    segment: Segment,
    /// Why not all of the records that the header counts are there.
    pub(crate) damage: Option<String>,
}

/// The records of an index, and which of them each id has.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) records: Records,
    pub(crate) ids: Ids,
}

/// What the pickle says.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) fingerprinter: Fingerprinter,
    /// By fingerprint, the internal id.
    pub(crate) internal_ids: Fingerprints<u32>,
    /// Ids that no record has.
    pub(crate) without_record: u64,
    /// The last write that the index holds, where the pickle says so.
    pub(crate) max_seq_id: Option<u64>,
}

/// Access to the files of a segment.
fn access(io: IoMode) -> Access {
    Access::from(io).past_bad_sectors()
}

/// What an index in this directory holds.
pub(crate) fn open(directory: &Path, io: IoMode, monitor: &Monitor<'_>) -> Result<Found> {
    if !is_directory(directory)? {
        return Ok(Found::Nothing(Nothing::NoDirectory));
    }
    let records = match Records::open(directory, io) {
        Ok(records) => records,
        Err(error) => return without_records(directory, io, recoverable(error)?, monitor),
    };
    let joined = match records.segment.files().metadata.get() {
        Ok(None) if records.is_empty() => return Ok(Found::Nothing(Nothing::NeverFlushed)),
        Ok(None) => Err(format!("there is no {}", file_name::METADATA)),
        Ok(Some(_)) => match records.metadata(monitor) {
            Ok(metadata) if metadata.table().len() == 0 => {
                return Ok(Found::Nothing(Nothing::Empty));
            }
            Ok(metadata) => Ok(Ids::join(&records, metadata, monitor)?),
            Err(error) => Err(recoverable(error)?),
        },
        Err(error) => Err(recoverable(error)?),
    };
    Ok(match joined {
        Ok(ids) => Found::Base(Base { records, ids }),
        Err(why) => Found::WithoutIds(records, why),
    })
}

/// What there is where records cannot be read at all.
fn without_records(
    directory: &Path,
    io: IoMode,
    why: String,
    monitor: &Monitor<'_>,
) -> Result<Found> {
    let files = SegmentFiles::new(directory, access(io))?;
    let nothing = match files.metadata.get() {
        Ok(None) => (!exists(files.header.path())?).then_some(Nothing::NeverFlushed),
        Ok(Some(_)) => match files.read_metadata(monitor) {
            Ok(metadata) => (metadata.table().len() == 0).then_some(Nothing::Empty),
            Err(error) => recoverable(error).map(|_| None)?,
        },
        Err(error) => recoverable(error).map(|_| None)?,
    };
    Ok(match nothing {
        Some(nothing) => Found::Nothing(nothing),
        None => Found::Unusable(why),
    })
}

impl Records {
    fn open(directory: &Path, io: IoMode) -> Result<Self> {
        let files = || SegmentFiles::new(directory, access(io));
        let (segment, damage) = match Segment::of(files()?) {
            Ok(segment) => (segment, None),
            Err(error) => {
                let why = recoverable(error)?;
                (Segment::of_damaged(files()?, None)?, Some(why))
            }
        };
        // Opened now, so that one state of the directory is read.
        segment.files().norms.get()?;
        Ok(Self { segment, damage })
    }

    /// Whether the header counts no record.
    fn is_empty(&self) -> bool {
        let header = self.segment.header();
        header.is_some_and(|header| header.cur_element_count == 0)
    }

    pub(crate) fn dimension(&self) -> usize {
        self.segment.layout().dimension()
    }

    /// Files with bad sectors: the number of sectors met so far, and a message.
    pub(crate) fn bad_sectors(&self) -> Vec<(u64, String)> {
        let files = self.segment.files().bad_sectors();
        files
            .map(|(file, sectors)| {
                let message = format!(
                    "sectors of {} that the disk cannot read: what is in them is lost",
                    display_path(file.path())
                );
                (sectors, message)
            })
            .collect()
    }

    fn level0(&self) -> Result<Level0<FileWindow<'_>>> {
        self.segment.level0()
    }

    fn metadata(&self, monitor: &Monitor<'_>) -> Result<SegmentMetadata<'_>> {
        self.segment.files().read_metadata(monitor)
    }

    /// Whether there is a norm for each record.
    pub(crate) fn has_norms(&self) -> Result<bool> {
        let norms = self.segment.files().read_norms()?;
        Ok(norms.is_some_and(|norms| norms.count() >= self.segment.count()))
    }

    /// Labels and internal ids of the live records, by label. Of records with one label, the last.
    pub(crate) fn by_label(&self, monitor: &Monitor<'_>) -> Result<Vec<(u64, u32)>> {
        let mut level0 = self.level0()?;
        let mut labels = Vec::new();
        level0.for_each(&monitor.without_progress(), |internal_id, record| {
            if !record.links.is_deleted() && !record.unreadable {
                memory::reserve(&mut labels, 1, "hold the labels of an index")?;
                labels.push((record.label, narrow(internal_id)?));
            }
            Ok(())
        })?;
        labels.sort_unstable();
        labels.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
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
    u32::try_from(internal_id).map_err(|_| Error::internal("an index of more than 2³² records"))
}

impl Ids {
    fn join(
        records: &Records,
        mut metadata: SegmentMetadata<'_>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        const NO_RECORD: u32 = u32::MAX;
        // By slot of the metadata.
        let mut internal_ids = memory::filled(
            metadata.table().len(),
            NO_RECORD,
            "hold the ids of an index",
        )?;
        records
            .level0()?
            .for_each(&monitor.without_progress(), |internal_id, record| {
                if record.links.is_deleted() || record.unreadable {
                    return Ok(());
                }
                let entry = metadata.table().find(record.label);
                let slot = entry.map(|entry| entry.slot);
                if let Some(place) = slot.and_then(|slot| internal_ids.get_mut(slot)) {
                    *place = narrow(internal_id)?;
                }
                Ok(())
            })?;

        for _ in 0..FINGERPRINT_KEYS {
            let fingerprinter = Fingerprinter::new();
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
                    max_seq_id: metadata.table().max_seq_id(),
                });
            }
        }
        Err(Error::internal(
            "fingerprints of ids collide again and again",
        ))
    }
}

impl Base {
    /// Whether each id has its record.
    pub(crate) fn is_whole(&self) -> bool {
        self.records.damage.is_none() && self.ids.without_record == 0
    }

    /// The ids of some records, by internal id, which must ascend.
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
    level0: Level0<FileWindow<'b>>,
    norms: Option<Norms<FileWindow<'b>>>,
}

impl<'b> VectorReader<'b> {
    pub(crate) fn new(records: &'b Records, multiply: bool) -> Result<Self> {
        Ok(Self {
            // Records that were added together are near one another in the index as they are in the
            // database, but not in its order.
            level0: records.segment.level0_for_neighbours()?,
            norms: match multiply {
                true => records.segment.files().read_norms_for_neighbours()?,
                false => None,
            },
        })
    }

    /// The label of a record, whose vector is appended to `out`, multiplied by its norm if asked
    /// for. Whatever is in length.bin is taken: an infinite component makes an infinite norm.
    pub(crate) fn read(&mut self, internal_id: u32, out: &mut Vec<f32>) -> Result<u64> {
        let id = u64::from(internal_id);
        let record = self.level0.record(id)?;
        match &mut self.norms {
            None => out.extend_from_slice(record.vector),
            Some(norms) => {
                let [norm] = norms.block(id, 1)? else {
                    return Err(Error::internal(format!("there is no norm of record {id}")));
                };
                let norm = norm.get();
                out.extend(record.vector.iter().map(|component| component * norm));
            }
        }
        Ok(record.label)
    }
}
