//! The kept records of an index, and their ids.

use crate::base::bits::{Bits, Ranks};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::directory::{Segment, SegmentMetadata};
use crate::segment::pickle::write::Ids;
use crate::segment::pickle::{Entry, Pickle};
use crate::verbs::extract::salvage::Selection;

/// New ids per anchor. Finding the old id of a new one takes a walk of fewer than this many records
/// that are kept.
const IDS_PER_ANCHOR: usize = 64;

/// The kept records, and counts of others.
#[derive(Debug)]
pub(super) struct Chosen {
    ranks: Ranks,
    /// The old id of each [`IDS_PER_ANCHOR`]th kept record.
    anchors: Vec<u32>,
    /// The slots of the metadata whose label a kept record has.
    slots: Bits,
    /// Records that are not marked as deleted and have no id.
    pub(super) without_id: u64,
    /// The highest label of a kept record.
    pub(super) highest_label: u32,
}

impl Chosen {
    /// Reads all records. A record is kept if `selection` admits it and `metadata` has an id for
    /// it.
    pub(super) fn read(
        segment: &Segment,
        selection: &mut Selection,
        metadata: &Pickle,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let mut live = Bits::with_len(segment.count())?;
        let mut slots = Bits::with_len(metadata.len() as u64)?;
        let mut without_id = 0;
        let mut highest_label = 0;
        segment.level0()?.for_each(monitor, |id, record| {
            if !selection.admits(id, &record) {
                return Ok(());
            }
            // Chroma cannot return a record without an id.
            let Some(entry) = metadata.find(record.label) else {
                without_id += 1;
                return Ok(());
            };
            let label = u32::try_from(record.label).map_err(|_| {
                Error::corrupt(
                    segment.files().level0.path(),
                    format!("label of record {id}"),
                    record.label,
                    format!("at most {}, because Chroma's labels are 32-bit", u32::MAX),
                )
            })?;
            highest_label = label.max(highest_label);
            live.insert(id);
            slots.insert(entry.slot as u64);
            Ok(())
        })?;
        Ok(Self {
            slots,
            without_id,
            highest_label,
            ..Self::of(live)?
        })
    }

    /// Keeps the records with these internal ids.
    pub(super) fn of(live: Bits) -> Result<Self> {
        let ranks = Ranks::of(live)?;
        let mut anchors = Vec::new();
        for id in ranks.iter().step_by(IDS_PER_ANCHOR) {
            memory::reserve(&mut anchors, 1, "number the kept records")?;
            anchors.push(id);
        }
        Ok(Self {
            ranks,
            anchors,
            slots: Bits::default(),
            without_id: 0,
            highest_label: 0,
        })
    }

    pub(super) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        u32::try_from(id).is_ok_and(|id| self.ranks.contains(id))
    }

    /// Returns the old id of a new one.
    pub(super) fn old_id(&self, id: u32) -> Result<u32> {
        let missing = || Error::internal("a record that is not kept");
        let anchor = self
            .anchors
            .get(id as usize / IDS_PER_ANCHOR)
            .ok_or_else(missing)?;
        let after = id as usize % IDS_PER_ANCHOR;
        // The anchor itself is the first of its ids.
        let mut ids = (*anchor..).filter(|old| self.ranks.contains(*old));
        ids.nth(after).ok_or_else(missing)
    }

    /// Returns the ids to write to the new metadata.
    pub(super) fn ids<'m, 'f>(
        &self,
        metadata: &'m mut SegmentMetadata<'f>,
    ) -> Result<WrittenIds<'m, 'f>> {
        let table = metadata.table();
        let mut order = memory::with_capacity(
            self.ranks.count() as usize,
            "order the ids by their place in the metadata",
        )?;
        for entry in table.iter() {
            if self.slots.contains(entry.slot as u64) {
                memory::reserve(
                    &mut order,
                    1,
                    "order the ids by their place in the metadata",
                )?;
                order.push(u32::try_from(entry.slot).map_err(Error::internal)?);
            }
        }
        // In file order, so that the old pickle is read sequentially.
        let position = |slot: &u32| table.at(*slot as usize).map(|entry| entry.position);
        order.sort_unstable_by_key(position);
        Ok(WrittenIds { metadata, order })
    }
}

/// The ids of the kept records, in the order of the old pickle.
#[derive(Debug)]
pub(super) struct WrittenIds<'m, 'f> {
    metadata: &'m mut SegmentMetadata<'f>,
    order: Vec<u32>,
}

impl WrittenIds<'_, '_> {
    fn entry(&self, number: u32) -> Option<Entry> {
        let slot = self.order.get(number as usize)?;
        self.metadata.table().at(*slot as usize)
    }
}

impl Ids for WrittenIds<'_, '_> {
    fn len(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(u32::MAX)
    }

    fn label(&self, number: u32) -> u32 {
        let label = self.entry(number).map(|entry| entry.label);
        label
            .and_then(|label| u32::try_from(label).ok())
            .unwrap_or_default()
    }

    fn seq_id(&self, number: u32) -> Option<u64> {
        self.entry(number)?.seq_id
    }

    fn user_id(&mut self, number: u32) -> Result<&str> {
        let entry = self.entry(number);
        let entry = entry.ok_or_else(|| Error::internal("an id that was not counted"))?;
        self.metadata.user_id(entry)
    }
}
