//! Collections whose row in `collections` was lost with a page.
//!
//! Their ids are also in the table of segments, in the queue's topics, and in the table's own
//! indexes, which hold their names as well. In a sound table, a segment without a collection is a
//! leftover, not a loss.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{integer, queue, text, Database};
use super::CollectionRow;
use crate::base::progress::Monitor;
use crate::error::Result;

const TABLE: &str = "collections";

/// Names and ids of collections from other tables and from indexes.
#[derive(Debug)]
pub(super) struct Lost {
    /// Name and database id, by collection id.
    pub(super) names: BTreeMap<String, Option<(String, String)>>,
    in_queue: BTreeSet<String>,
}

impl Lost {
    /// Returns `None` if the table of collections is sound.
    pub(super) fn read(database: &Database, monitor: &Monitor<'_>) -> Result<Option<Self>> {
        if database.is_sound(TABLE) {
            return Ok(None);
        }
        let mut by_rowid = BTreeMap::new();
        database.index_entries(TABLE, &["id"], |row| {
            if let (Some(rowid), Some(id)) = (integer(row, 0), text(row, 1)) {
                by_rowid.insert(rowid, id);
            }
        })?;
        let mut names: BTreeMap<_, _> = by_rowid.values().map(|id| (id.clone(), None)).collect();
        database.index_entries(TABLE, &["name", "database_id"], |row| {
            let id = integer(row, 0).and_then(|rowid| by_rowid.get(&rowid));
            if let (Some(id), Some(name), Some(of)) = (id, text(row, 1), text(row, 2)) {
                names.insert(id.clone(), Some((name, of)));
            }
        })?;
        Ok(Some(Self {
            names,
            // Scans the queue, so it comes after the cheaper sources.
            in_queue: queue::collections(database, monitor)?,
        }))
    }

    /// Returns the collections that are not among `known`.
    pub(super) fn collections(
        self,
        of_segments: Vec<String>,
        known: &BTreeSet<String>,
    ) -> Vec<CollectionRow> {
        let mut ids: BTreeSet<String> = of_segments.into_iter().collect();
        // An index that lacks rows of the table belongs to another table.
        if known.iter().all(|id| self.names.contains_key(id)) {
            ids.extend(self.names.keys().cloned());
        }
        ids.extend(self.in_queue);
        let lost = ids.into_iter().filter(|id| !known.contains(id));
        let row = |id: String| {
            let (name, database_id) = self.names.get(&id).cloned().flatten().unzip();
            CollectionRow::lost(id, name, database_id)
        };
        lost.map(row).collect()
    }
}
