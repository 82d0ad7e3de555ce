//! Case folding of the trigram tokenizer.
//!
//! FTS5 folds by a table of its own, of an older version of Unicode than Rust's. Its folding is
//! therefore read from the terms of a small index, for 256 code points at a time.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Code points that are looked up together.
const BLOCK: u32 = 256;

/// Folded code points, by block. Text needs few blocks.
#[derive(Debug, Default)]
pub(super) struct Folding {
    blocks: HashMap<u32, Vec<u32>>,
}

impl Folding {
    /// Returns the code point that FTS5 indexes instead of `character`, or 0 if it skips it.
    pub(super) fn fold(&mut self, character: char) -> Result<u32> {
        if character.is_ascii() {
            return Ok(character.to_ascii_lowercase().into());
        }
        let code = u32::from(character);
        let block = match self.blocks.entry(code / BLOCK) {
            std::collections::hash_map::Entry::Occupied(block) => block.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(read_block(code / BLOCK).map_err(Error::internal)?)
            }
        };
        Ok(block
            .get((code % BLOCK) as usize)
            .copied()
            .unwrap_or_default())
    }
}

/// Returns the folded code points of a block, 0 for each that FTS5 skips.
fn read_block(block: u32) -> rusqlite::Result<Vec<u32>> {
    let first = block * BLOCK;
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(
        "CREATE VIRTUAL TABLE t USING fts5(c, tokenize='trigram'); \
         CREATE VIRTUAL TABLE v USING fts5vocab(t, instance);",
    )?;
    let mut insert = connection.prepare("INSERT INTO t (rowid, c) VALUES (?1, ?2)")?;
    for code in first..first.saturating_add(BLOCK) {
        // Not in UTF-8: surrogates.
        if let Some(character) = char::from_u32(code) {
            insert.execute((code, format!("{character}aa")))?;
        }
    }
    let mut folded = vec![0; BLOCK as usize];
    let mut terms = connection.prepare("SELECT doc, term FROM v")?;
    let mut terms = terms.query([])?;
    while let Some(row) = terms.next()? {
        let (code, term): (u32, String) = (row.get(0)?, row.get(1)?);
        let place = folded.get_mut(code.wrapping_sub(first) as usize);
        if let (Some(place), Some(character)) = (place, term.chars().next()) {
            *place = character.into();
        }
    }
    Ok(folded)
}
