//! Metadata joined to records by label.

use super::JoinSummary;
use crate::chroma::pickle::{Entry, Metadata};
use crate::error::{Error, Result};
use crate::io::file::{Cursor, Source};
use crate::progress::Monitor;

/// The slot of a record that the metadata does not know.
pub(crate) const NO_ENTRY: u32 = u32::MAX;

/// The metadata of an index, and which of it was used.
pub(crate) struct Join<'s> {
    metadata: Metadata,
    cursor: Cursor<'s>,
    /// A bit for each entry: whether a live record has its label.
    seen: Vec<u64>,
    rows_with_user_id: u64,
}

impl<'s> Join<'s> {
    pub(crate) fn new(source: &'s Source, monitor: &Monitor<'_>) -> Result<Self> {
        let metadata = Metadata::read(source, monitor)?;
        Ok(Self {
            seen: vec![0; metadata.len().div_ceil(64)],
            cursor: source.cursor_for_lookups(),
            metadata,
            rows_with_user_id: 0,
        })
    }

    /// Gives the slot of a record that is emitted, and the length in bytes of its user id.
    pub(crate) fn choose(&mut self, label: u64, deleted: bool) -> Result<(u32, usize)> {
        let Some(entry) = self.metadata.find(label) else {
            return Ok((NO_ENTRY, 0));
        };
        if !deleted {
            if let Some(word) = self.seen.get_mut(entry.slot / 64) {
                *word |= 1 << (entry.slot % 64);
            }
        }
        self.rows_with_user_id += 1;
        match u32::try_from(entry.slot) {
            Ok(slot) if slot != NO_ENTRY => Ok((slot, entry.length)),
            _ => Err(Error::internal("the metadata has more than 2³² ids")),
        }
    }

    /// The sequence number of a slot.
    pub(crate) fn seq_id(&self, slot: u32) -> Option<u64> {
        self.entry(slot)?.seq_id
    }

    /// The user id of a slot, from the file.
    pub(crate) fn user_id(&mut self, slot: u32) -> Result<Option<&str>> {
        match self.entry(slot) {
            None => Ok(None),
            Some(entry) => self.metadata.user_id(entry, &mut self.cursor).map(Some),
        }
    }

    fn entry(&self, slot: u32) -> Option<Entry> {
        if slot == NO_ENTRY {
            return None;
        }
        self.metadata.at(usize::try_from(slot).ok()?)
    }

    pub(crate) fn summary(&self) -> JoinSummary {
        let seen: u64 = self
            .seen
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        JoinSummary {
            rows_with_user_id: self.rows_with_user_id,
            max_seq_id: self.metadata.max_seq_id(),
            labels_without_record: (self.metadata.len() as u64).saturating_sub(seen),
        }
    }
}
