//! Join of metadata and records by label.

use super::JoinSummary;
use crate::base::bits::Bits;
use crate::error::{Error, Result};
use crate::segment::directory::SegmentMetadata;
use crate::segment::pickle::Entry;

/// The slot of a record without metadata.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// The metadata of an index, and the entries that were used.
pub(crate) struct Join<'s> {
    metadata: SegmentMetadata<'s>,
    /// The slots whose label a live record has.
    seen: Bits,
    rows_with_user_id: u64,
}

impl<'s> Join<'s> {
    pub(crate) fn new(metadata: SegmentMetadata<'s>) -> Result<Self> {
        Ok(Self {
            seen: Bits::with_len(metadata.table().len() as u64)?,
            metadata,
            rows_with_user_id: 0,
        })
    }

    /// Returns the slot of an emitted record, and the length of its id in bytes.
    pub(crate) fn choose(&mut self, label: u64, deleted: bool) -> Result<(u32, usize)> {
        let Some(entry) = self.metadata.table().find(label) else {
            return Ok((NO_ENTRY, 0));
        };
        // `labels_without_record` is about live records.
        if !deleted {
            self.seen.insert(entry.slot as u64);
        }
        self.rows_with_user_id += 1;
        match u32::try_from(entry.slot) {
            // `u32::MAX` is taken by `NO_ENTRY`.
            Ok(slot) if slot != NO_ENTRY => Ok((slot, entry.length)),
            _ => Err(Error::internal("the metadata has more than 2³² ids")),
        }
    }

    /// Returns the sequence number of a slot.
    pub(crate) fn seq_id(&self, slot: u32) -> Option<u64> {
        self.entry(slot)?.seq_id
    }

    /// Reads the id of a slot from the file.
    pub(crate) fn user_id(&mut self, slot: u32) -> Result<Option<&str>> {
        match self.entry(slot) {
            None => Ok(None),
            Some(entry) => self.metadata.user_id(entry).map(Some),
        }
    }

    fn entry(&self, slot: u32) -> Option<Entry> {
        if slot == NO_ENTRY {
            return None;
        }
        let entry = self.metadata.table().at(usize::try_from(slot).ok()?);
        debug_assert!(entry.is_some(), "slot {slot} is of another table");
        entry
    }

    pub(crate) fn summary(&self) -> JoinSummary {
        let table = self.metadata.table();
        JoinSummary {
            rows_with_user_id: self.rows_with_user_id,
            max_seq_id: table.max_seq_id(),
            labels_without_record: (table.len() as u64).saturating_sub(self.seen.count()),
        }
    }
}
