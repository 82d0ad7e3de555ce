//! Second copy of documents, which Chroma keeps for its full-text search.
//!
//! `embedding_fulltext_search_content` holds each document under the rowid of its record. It is not
//! reliable by itself: Chroma 0.4 leaves documents of deleted records in it, and a store migrated
//! from 0.4.5 or earlier has other texts there. A copy is therefore used only for a record whose
//! document is lost, and only if the copies agree with every readable document. If the index over
//! values is readable, the text must also be in that index.

use std::ops::ControlFlow;

use rusqlite::Statement;

use super::{integer, text, text_ref, Database};
use crate::base::progress::Monitor;
use crate::error::Result;

const TABLE: &str = "embedding_fulltext_search_content";
const VALUES: &str = "embedding_metadata";
const VALUE_INDEX: &str = "embedding_metadata_string_value";
const DOCUMENT: &str = "chroma:document";

/// Reads copies of documents.
#[derive(Debug)]
pub(super) struct DocumentCopies<'d> {
    database: &'d Database,
    copy: Statement<'d>,
    /// Searches the index over values for a document.
    listed: Option<Statement<'d>>,
}

impl<'d> DocumentCopies<'d> {
    /// Returns `None` if there are no copies, or if one differs from its document.
    pub(super) fn new(database: &'d Database, monitor: &Monitor<'_>) -> Result<Option<Self>> {
        if !database.has_column(TABLE, "c0") || !database.has_table(VALUES) {
            return Ok(None);
        }
        let mut copy = database.prepare(&format!("SELECT c0 FROM {TABLE} WHERE id = ?1"))?;
        let mut agrees = true;
        let all = (i64::MIN, i64::MAX);
        database.scan(VALUES, "id, key, string_value", all, monitor, |_, row| {
            if let (Some(id), Some(document)) = (integer(row, 1), text_ref(row, 3)) {
                let is_document = text_ref(row, 2).as_deref() == Some(DOCUMENT);
                if is_document && !document.contains('\0') {
                    agrees = !differs(database, &mut copy, id, &document)?;
                }
            }
            Ok(match agrees {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })?;
        database.forget_noted();
        Ok(agrees.then(|| Self {
            database,
            copy,
            // Preparation fails if there is no such index.
            listed: database
                .connection
                .prepare(&format!(
                    "SELECT 1 FROM {VALUES} INDEXED BY {VALUE_INDEX} \
                     WHERE key = '{DOCUMENT}' AND string_value = ?1 LIMIT 1"
                ))
                .ok(),
        }))
    }

    /// Reads the copy for the record with this rowid.
    pub(super) fn read(&mut self, rowid: i64) -> Result<Option<String>> {
        let document = match self.copy.query_row([rowid], |row| Ok(text(row, 0))) {
            Ok(document) => document,
            Err(rusqlite::Error::QueryReturnedNoRows) => None,
            Err(error) if self.database.is_damage(&error) => None,
            Err(error) => return Err(self.database.failed(error)),
        };
        if let (Some(document), Some(listed)) = (&document, &mut self.listed) {
            match listed.exists([document]) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // The index is damaged as well: the copy is the only source.
                Err(error) if self.database.is_damage(&error) => {}
                Err(error) => return Err(self.database.failed(error)),
            }
        }
        Ok(document)
    }
}

/// Returns true if the document has a differing copy.
fn differs(
    database: &Database,
    copy: &mut Statement<'_>,
    rowid: i64,
    document: &str,
) -> Result<bool> {
    let differs = copy.query_row([rowid], |row| {
        Ok(text_ref(row, 0).as_deref() != Some(document))
    });
    match differs {
        Ok(differs) => Ok(differs),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(false),
        Err(error) if database.note_damage(&error) => Ok(false),
        Err(error) => Err(database.failed(error)),
    }
}
