//! `index_metadata.pickle`: which user id and sequence number each label has.
//!
//! Three maps are of interest: `label_to_id`, its inverse `id_to_label`, and `id_to_seq_id`, which
//! may be empty, partial, or know ids that are gone. The file is gone over up to four times, window
//! by window, and no string is ever copied out of it:
//!
//! ```text
//! 1. survey           is it well formed; where are the maps; which memo entries are referred to
//! 2. label_to_id      (label, place, fingerprint) of each id, and the memo's strings on the way
//! 3. id_to_label      held against 2, by fingerprint
//! 4. id_to_seq_id     joined to 2, by fingerprint
//! ```
//!
//! What stays is 24 bytes for each id, ordered by label. On the way to it there are at most 48: 24,
//! and 16 for each string that the memo is asked for or, later, 8 for that and 8 for its sequence
//! number, and some bits.
//!
//! A fingerprint is a 64-bit hash with a random key. That no two ids of `label_to_id` share one is
//! checked, and if they do, another key is taken. Two *different* ids, one in `label_to_id` and one
//! that is only elsewhere, are taken for the same with a probability of 2⁻⁶⁴ for each such pair.

mod fingerprint;
mod labels;
mod memo;
mod opcode;
#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;
mod pairs;
mod place;
mod survey;
#[cfg(test)]
mod tests;
mod walk;

use std::borrow::Cow;
use std::path::Path;

use self::fingerprint::Fingerprinter;
use self::labels::{find_label, ByFingerprint, Row};
use self::memo::{Bits, MemoStrings};
use self::survey::{survey, Map, Survey};
use self::walk::Walker;
use crate::error::{Error, Result};
use crate::io::file::{window_size, Cursor, Source};
use crate::memory;
use crate::progress::Monitor;

/// Bytes of the pickle that are looked at at once.
const WINDOW: usize = 512 << 10;

/// Keys to try before giving up. Two tries are one in 10⁷ for a million ids.
const FINGERPRINT_KEYS: usize = 4;

/// What an index's metadata says about its labels.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Ordered by label, each label once.
    rows: Vec<Row>,
    total_elements_added: Option<u64>,
    dimensionality: Option<u64>,
    max_seq_id: Option<u64>,
}

/// What is known of one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Number of this entry: below [`Metadata::len`], and another one for each label.
    pub(crate) slot: usize,
    pub(crate) label: u64,
    /// Offset in bytes of the id's UTF-8 in the file.
    pub(crate) position: u64,
    /// Its length in bytes.
    pub(crate) length: usize,
    pub(crate) seq_id: Option<u64>,
}

impl Metadata {
    /// Reads the pickle, and fails when any part of it is not as it should be.
    ///
    /// Each label and each id of `label_to_id` must be there once, and `id_to_label` must be the
    /// exact inverse. `id_to_seq_id` may be absent; ids that only it knows are ignored.
    pub(crate) fn read(source: &Source, monitor: &Monitor<'_>) -> Result<Self> {
        Self::read_with(source, monitor, window_size(WINDOW), Fingerprinter::new)
    }

    fn read_with(
        source: &Source,
        monitor: &Monitor<'_>,
        window: usize,
        mut fingerprinter: impl FnMut() -> Fingerprinter,
    ) -> Result<Self> {
        if source.len() > place::MAX_FILE_BYTES {
            return Err(corrupt(
                source.path(),
                0,
                format!("{} bytes", source.len()),
                format!("a pickle of at most {} bytes", place::MAX_FILE_BYTES),
            ));
        }
        let mut walker = Walker::new(source, window, monitor);
        let Survey {
            label_to_id,
            id_to_label,
            id_to_seq_id,
            total_elements_added,
            dimensionality,
            max_seq_id,
            memo,
        } = survey(&mut walker)?;
        let mut join = Join {
            label_to_id: required(source, label_to_id, "label_to_id")?,
            id_to_label: required(source, id_to_label, "id_to_label")?,
            id_to_seq_id,
            memo: MemoStrings::new(source, memo)?,
            walker,
        };
        if join.id_to_label.pairs != join.label_to_id.pairs {
            return Err(corrupt(
                source.path(),
                join.id_to_label.start,
                format!("{} ids in id_to_label", join.id_to_label.pairs),
                format!("{}, as in label_to_id", join.label_to_id.pairs),
            ));
        }
        for _ in 0..FINGERPRINT_KEYS {
            if let Some(rows) = join.run(&fingerprinter())? {
                source.check_unchanged()?;
                return Ok(Self {
                    rows,
                    total_elements_added,
                    dimensionality,
                    max_seq_id,
                });
            }
        }
        Err(Error::internal(
            "fingerprints of ids collide again and again",
        ))
    }

    /// Number of labels, each of which has one id.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What is known of `label`.
    pub(crate) fn find(&self, label: u64) -> Option<Entry> {
        let slot = find_label(&self.rows, label)?;
        Some(entry(slot, self.rows.get(slot)?))
    }

    /// The entry with this slot.
    pub(crate) fn at(&self, slot: usize) -> Option<Entry> {
        Some(entry(slot, self.rows.get(slot)?))
    }

    /// All entries, by ascending label, which is also by slot.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.rows
            .iter()
            .enumerate()
            .map(|(slot, row)| entry(slot, row))
    }

    /// The id of an entry, from the file that the metadata was read from. It is checked again to be
    /// UTF-8, as the file may have changed.
    ///
    /// Ids are wanted in no order of the file: [`Source::cursor_for_lookups`] is made for that.
    pub(crate) fn user_id<'c>(&self, entry: Entry, cursor: &'c mut Cursor<'_>) -> Result<&'c str> {
        let source = cursor.source();
        let bytes = cursor.bytes(entry.position, entry.length)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let valid = u64::try_from(error.valid_up_to()).unwrap_or_default();
            corrupt(
                source.path(),
                entry.position + valid,
                "bytes that are no UTF-8",
                "an id of UTF-8, as before",
            )
        })
    }

    /// `total_elements_added`: the next label, less one.
    pub(crate) fn total_elements_added(&self) -> Option<u64> {
        self.total_elements_added
    }

    /// `dimensionality`: the number of components of each vector.
    pub(crate) fn dimensionality(&self) -> Option<u64> {
        self.dimensionality
    }

    /// `max_seq_id`: the last sequence number that the index has seen.
    pub(crate) fn max_seq_id(&self) -> Option<u64> {
        self.max_seq_id
    }
}

fn entry(slot: usize, row: &Row) -> Entry {
    Entry {
        slot,
        label: row.label,
        position: row.place.position(),
        length: row.place.length(),
        seq_id: row.place.is_flagged().then_some(row.word),
    }
}

/// The later passes, which may run again with another fingerprint key.
struct Join<'s, 'm> {
    walker: Walker<'s, 'm>,
    label_to_id: Map,
    id_to_label: Map,
    id_to_seq_id: Option<Map>,
    memo: MemoStrings,
}

impl Join<'_, '_> {
    /// Rows ordered by label, or `None` when two different ids have the same fingerprint.
    fn run(&mut self, fingerprinter: &Fingerprinter) -> Result<Option<Vec<Row>>> {
        let source = self.walker.source();
        let rows = self.read_labels(fingerprinter)?;
        let table = ByFingerprint::new(source, rows)?;
        self.walker.check()?;
        if self.has_collision(&table)? {
            return Ok(None);
        }
        self.memo.forget_places();
        self.check_inverse(&table, fingerprinter)?;
        let (seq_ids, has_seq_id) = self.read_seq_ids(&table, fingerprinter)?;
        self.walker.check()?;
        let rows = table.into_by_label(seq_ids, &has_seq_id);
        for pair in rows.windows(2) {
            if let [first, second] = pair {
                if first.label == second.label {
                    return Err(corrupt(
                        source.path(),
                        second.place.position(),
                        format!("a second id for label {}", second.label),
                        "one id for each label",
                    ));
                }
            }
        }
        Ok(Some(rows))
    }

    fn read_labels(&mut self, fingerprinter: &Fingerprinter) -> Result<Vec<Row>> {
        let Self {
            walker,
            label_to_id: map,
            memo,
            ..
        } = self;
        let source = walker.source();
        let path = source.path();
        let count = count(source, *map)?;
        memo.restart(source)?;
        let fill = !memo.is_unused();
        if fill {
            pairs::fill_memo(walker, 0, map.start, memo, fingerprinter)?;
        }
        let mut rows = reserve(source, count)?;
        pairs::pairs(walker, *map, memo, fill, fingerprinter, |key, value| {
            let label = key.number(path, "a label")?;
            let id = value.id(path)?;
            if rows.len() == count {
                return Err(Error::InputChanged {
                    path: path.to_path_buf(),
                    found: "more labels".into(),
                    expected: format!("{count} labels"),
                });
            }
            rows.push(Row {
                label,
                place: id.place,
                word: id.fingerprint,
            });
            Ok(())
        })?;
        if fill {
            pairs::fill_memo(walker, map.end, source.len(), memo, fingerprinter)?;
        }
        Ok(rows)
    }

    /// Whether two different ids have the same fingerprint. Two labels with the same id are an
    /// error.
    fn has_collision(&self, table: &ByFingerprint) -> Result<bool> {
        let source = self.walker.source();
        for pair in table.rows().windows(2) {
            let [first, second] = pair else { continue };
            if first.word != second.word {
                continue;
            }
            let mut cursors = (source.cursor_for_lookups(), source.cursor_for_lookups());
            let (first, second) = (entry(0, first), entry(0, second));
            let same = cursors.0.bytes(first.position, first.length)?
                == cursors.1.bytes(second.position, second.length)?;
            if same {
                return Err(corrupt(
                    source.path(),
                    first.position.max(second.position),
                    format!(
                        "the same id for labels {} and {}",
                        first.label, second.label
                    ),
                    "one label for each id",
                ));
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn check_inverse(
        &mut self,
        table: &ByFingerprint,
        fingerprinter: &Fingerprinter,
    ) -> Result<()> {
        let source = self.walker.source();
        let path = source.path();
        let mut seen = Bits::with_len(source, table.rows().len())?;
        let (walker, memo) = (&mut self.walker, &mut self.memo);
        pairs::pairs(
            walker,
            self.id_to_label,
            memo,
            false,
            fingerprinter,
            |key, value| {
                let id = key.id(path)?;
                let label = value.number(path, "a label")?;
                let found = match table.find(id.fingerprint) {
                    Some((row, known)) if known == label => {
                        if !seen.replace(row) {
                            return Ok(());
                        }
                        format!("an id of label {label} for the second time")
                    }
                    Some((_, known)) => {
                        format!("label {label} for an id that has {known} in label_to_id")
                    }
                    None => format!("label {label} for an id that label_to_id does not hold"),
                };
                Err(corrupt(
                    path,
                    key.at,
                    found,
                    "id_to_label to be the inverse of label_to_id",
                ))
            },
        )
    }

    /// By row, the sequence number, and whether there is one.
    fn read_seq_ids(
        &mut self,
        table: &ByFingerprint,
        fingerprinter: &Fingerprinter,
    ) -> Result<(Vec<u64>, Bits)> {
        let source = self.walker.source();
        let path = source.path();
        let map = match self.id_to_seq_id {
            Some(map) if map.pairs > 0 => map,
            _ => return Ok((Vec::new(), Bits::default())),
        };
        let mut seq_ids = reserve(source, table.rows().len())?;
        seq_ids.resize(table.rows().len(), 0);
        let mut has_seq_id = Bits::with_len(source, table.rows().len())?;
        let (walker, memo) = (&mut self.walker, &mut self.memo);
        pairs::pairs(walker, map, memo, false, fingerprinter, |key, value| {
            let id = key.id(path)?;
            let seq_id = value.number(path, "a sequence number")?;
            // An id that is not there was deleted since.
            let Some((row, label)) = table.find(id.fingerprint) else {
                return Ok(());
            };
            if has_seq_id.replace(row) {
                return Err(corrupt(
                    path,
                    key.at,
                    format!("the id of label {label} for the second time"),
                    "one sequence number for each id",
                ));
            }
            if let Some(place) = seq_ids.get_mut(row) {
                *place = seq_id;
            }
            Ok(())
        })?;
        Ok((seq_ids, has_seq_id))
    }
}

fn required(source: &Source, map: Option<Map>, name: &str) -> Result<Map> {
    map.ok_or_else(|| {
        corrupt(
            source.path(),
            source.len(),
            format!("a pickle without {name}"),
            format!("a dict of fields that holds {name}"),
        )
    })
}

/// The pairs that the file was seen to hold, as a size.
fn count(source: &Source, map: Map) -> Result<usize> {
    u32::try_from(map.pairs)
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| {
            corrupt(
                source.path(),
                map.start,
                format!("{} ids", map.pairs),
                format!("at most {} ids", u32::MAX),
            )
        })
}

#[cold]
fn corrupt(
    path: &Path,
    position: u64,
    found: impl Into<String>,
    expected: impl Into<Cow<'static, str>>,
) -> Error {
    Error::CorruptMetadata {
        path: path.to_path_buf(),
        position,
        found: found.into(),
        expected: expected.into(),
    }
}

/// A vector with room for exactly `capacity` values, all of which the file was seen to call for.
fn reserve<T>(source: &Source, capacity: usize) -> Result<Vec<T>> {
    memory::with_capacity(capacity, "hold its ids").map_err(|error| error.in_file(source.path()))
}
