//! `index_metadata.pickle`: the id and the sequence number of each label.
//!
//! A pickle is a program that builds values on a stack. A library that runs it, as serde-pickle does,
//! holds every id three times, recurses into nested values, and copies a value for each reference to
//! it, so a small hostile file can exhaust stack or memory. This reader builds no values. Three maps
//! matter: `label_to_id`, its inverse `id_to_label`, and `id_to_seq_id`, which may be empty or
//! partial, or contain deleted ids. The file is read in up to four passes, window by window, and an
//! id is copied only when the caller requests it:
//!
//! ```text
//! 1. validate         is it well formed; where are the maps; which memo entries are used again
//! 2. label_to_id      label, span and fingerprint of each id, and the memo's strings on the way
//! 3. id_to_label      compared with 2, by fingerprint
//! 4. id_to_seq_id     joined to 2, by fingerprint
//! ```
//!
//! The result takes 24 bytes for each id, ordered by label. Reading takes at most 48: besides the
//! 24, either 16 for each string in the memo or, later, 8 for the string and 8 for its sequence
//! number, and a few bits.
//!
//! A fingerprint is a 64-bit hash with a random key. If two ids of `label_to_id` collide, the passes
//! run again with another key. An id that is missing from `label_to_id` is mistaken for a given id of
//! it with a probability of 2⁻⁶⁴.

mod fingerprint;
mod memo;
mod opcode;
#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) mod oracle;
mod pairs;
mod span;
mod table;
#[cfg(test)]
mod tests;
mod validate;
mod walk;
pub(crate) mod write;

use self::fingerprint::Fingerprinter;
use self::memo::MemoStrings;
use self::table::{find_label, ByFingerprint, Row};
use self::validate::{validate, MapSpan, Outline};
use self::walk::Walker;
use super::decode_error::{DecodeError, Decoded};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::io::source::{exact, Source};

/// Bytes of the pickle in memory at a time.
pub(crate) const WINDOW: usize = 512 << 10;

/// Maximum number of keys to try. A million ids need a second key in one of 10⁷ files.
const FINGERPRINT_KEYS: usize = 4;

/// The ids and sequence numbers of a segment, by label.
///
/// Memory: 24 bytes for each id, and 48 while reading. The ids stay in the source and are read by
/// [`read_id`](Self::read_id).
#[derive(Debug)]
pub struct Pickle {
    /// Ordered by label, each label once.
    rows: Vec<Row>,
    total_elements_added: Option<u64>,
    dimensionality: Option<u64>,
    max_seq_id: Option<u64>,
}

/// A label, the place of its id, and its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Number of this entry, unique and less than [`Pickle::len`].
    pub slot: usize,
    /// hnswlib's label.
    pub label: u64,
    /// Offset in the file of the id, which is UTF-8.
    pub position: u64,
    /// Length of the id in bytes.
    pub length: usize,
    /// Chroma's sequence number of the last write to the record.
    pub seq_id: Option<u64>,
}

impl Pickle {
    /// Reads the pickle.
    ///
    /// `id_to_seq_id` may be absent; ids that only it knows are ignored.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid), with the offset, if the pickle is malformed or larger than
    /// 1 TiB, if `label_to_id` repeats a label or an id, or if `id_to_label` is not its exact inverse;
    /// [`Changed`](DecodeError::Changed) if two passes read different bytes;
    /// [`Failed`](DecodeError::Failed) for errors of the source and the monitor.
    pub fn read(source: impl Source, monitor: &Monitor<'_>) -> Decoded<Self> {
        Self::read_in_windows(source, monitor, WINDOW)
    }

    /// Reads the pickle with `window` bytes in memory at a time, or more for a longer id.
    pub(crate) fn read_in_windows(
        source: impl Source,
        monitor: &Monitor<'_>,
        window: usize,
    ) -> Decoded<Self> {
        Self::read_with(source, monitor, window, Fingerprinter::new)
    }

    fn read_with(
        source: impl Source,
        monitor: &Monitor<'_>,
        window: usize,
        mut fingerprinter: impl FnMut() -> Fingerprinter,
    ) -> Decoded<Self> {
        let len = source.len();
        if len > span::MAX_FILE_BYTES {
            return Err(DecodeError::byte(
                0,
                format!("{len} bytes"),
                format!("a pickle of at most {} bytes", span::MAX_FILE_BYTES),
            ));
        }
        let mut walker = Walker::new(source, window, monitor);
        let Outline {
            label_to_id,
            id_to_label,
            id_to_seq_id,
            total_elements_added,
            dimensionality,
            max_seq_id,
            memo,
        } = validate(&mut walker)?;
        let mut passes = LaterPasses {
            label_to_id: required(len, label_to_id, "label_to_id")?,
            id_to_label: required(len, id_to_label, "id_to_label")?,
            id_to_seq_id,
            memo: MemoStrings::new(memo)?,
            walker,
        };
        if passes.id_to_label.pairs != passes.label_to_id.pairs {
            return Err(DecodeError::byte(
                passes.id_to_label.start,
                format!("{} ids in id_to_label", passes.id_to_label.pairs),
                format!("{}, as in label_to_id", passes.label_to_id.pairs),
            ));
        }
        for _ in 0..FINGERPRINT_KEYS {
            if let Some(rows) = passes.run(&fingerprinter())? {
                return Ok(Self {
                    rows,
                    total_elements_added,
                    dimensionality,
                    max_seq_id,
                });
            }
        }
        Err(DecodeError::internal(
            "fingerprints of ids collide again and again",
        ))
    }

    /// Number of labels, which is also the number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if the segment has no ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The entry of `label`.
    #[must_use]
    pub fn find(&self, label: u64) -> Option<Entry> {
        let slot = find_label(&self.rows, label)?;
        Some(entry(slot, self.rows.get(slot)?))
    }

    /// The entry with this slot.
    pub(crate) fn at(&self, slot: usize) -> Option<Entry> {
        Some(entry(slot, self.rows.get(slot)?))
    }

    /// All entries, by ascending label and slot.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.rows
            .iter()
            .enumerate()
            .map(|(slot, row)| entry(slot, row))
    }

    /// Copies the id of an entry to `id`. `source` must be the pickle that was read.
    ///
    /// The copy is validated as UTF-8 again, because another process may have written to the file
    /// since the first pass.
    ///
    /// # Errors
    ///
    /// Errors of the source; [`Invalid`](DecodeError::Invalid) if the id is no longer UTF-8.
    pub fn read_id(&self, entry: Entry, source: &mut impl Source, id: &mut String) -> Decoded<()> {
        let mut bytes = std::mem::take(id).into_bytes();
        bytes.clear();
        memory::reserve(&mut bytes, entry.length, "hold an id")?;
        bytes.extend_from_slice(exact(source, entry.position, entry.length)?);
        *id = String::from_utf8(bytes).map_err(|error| {
            let valid = u64::try_from(error.utf8_error().valid_up_to()).unwrap_or_default();
            DecodeError::byte(
                entry.position + valid,
                "bytes that are no UTF-8",
                "an id of UTF-8, as before",
            )
        })?;
        Ok(())
    }

    /// `total_elements_added`: the last label that Chroma gave.
    #[must_use]
    pub fn total_elements_added(&self) -> Option<u64> {
        self.total_elements_added
    }

    /// `dimensionality`: components of each vector.
    #[must_use]
    pub fn dimensionality(&self) -> Option<u64> {
        self.dimensionality
    }

    /// `max_seq_id`: the last sequence number that was written to the segment.
    #[must_use]
    pub fn max_seq_id(&self) -> Option<u64> {
        self.max_seq_id
    }
}

fn entry(slot: usize, row: &Row) -> Entry {
    Entry {
        slot,
        label: row.label,
        position: row.span.position(),
        length: row.span.length(),
        seq_id: row.span.is_flagged().then_some(row.word),
    }
}

/// The passes after validation. They run again with another key if fingerprints collide.
struct LaterPasses<'m, S> {
    walker: Walker<'m, S>,
    label_to_id: MapSpan,
    id_to_label: MapSpan,
    id_to_seq_id: Option<MapSpan>,
    memo: MemoStrings,
}

impl<S: Source> LaterPasses<'_, S> {
    /// Rows ordered by label, or `None` when two different ids have the same fingerprint.
    fn run(&mut self, fingerprinter: &Fingerprinter) -> Decoded<Option<Vec<Row>>> {
        let rows = self.read_labels(fingerprinter)?;
        let table = ByFingerprint::new(rows)?;
        self.walker.check()?;
        if self.has_collision(&table)? {
            return Ok(None);
        }
        self.memo.forget_spans();
        self.check_inverse(&table, fingerprinter)?;
        let (seq_ids, has_seq_id) = self.read_seq_ids(&table, fingerprinter)?;
        self.walker.check()?;
        let rows = table.into_by_label(seq_ids, &has_seq_id);
        for pair in rows.windows(2) {
            if let [first, second] = pair {
                if first.label == second.label {
                    return Err(DecodeError::byte(
                        second.span.position(),
                        format!("a second id for label {}", second.label),
                        "one id for each label",
                    ));
                }
            }
        }
        Ok(Some(rows))
    }

    fn read_labels(&mut self, fingerprinter: &Fingerprinter) -> Decoded<Vec<Row>> {
        let Self {
            walker,
            label_to_id: map,
            memo,
            ..
        } = self;
        let count = count(*map)?;
        memo.restart()?;
        let fill = !memo.is_unused();
        if fill {
            pairs::fill_memo(walker, 0, map.start, memo, fingerprinter)?;
        }
        let mut rows = memory::with_capacity(count, "hold its ids")?;
        pairs::pairs(walker, *map, memo, fill, fingerprinter, |key, value| {
            let label = key.number("a label")?;
            let id = value.id()?;
            if rows.len() == count {
                return Err(DecodeError::Changed {
                    found: "more labels".into(),
                    expected: format!("{count} labels"),
                });
            }
            rows.push(Row {
                label,
                span: id.span,
                word: id.fingerprint,
            });
            Ok(())
        })?;
        if fill {
            pairs::fill_memo(walker, map.end, walker.len(), memo, fingerprinter)?;
        }
        Ok(rows)
    }

    /// Returns true if two different ids have the same fingerprint. Two labels with the same id are an
    /// error, which names the first pair in the file.
    fn has_collision(&mut self, table: &ByFingerprint) -> Decoded<bool> {
        let mut duplicate: Option<(Entry, Entry)> = None;
        for pair in table.rows().windows(2) {
            let [first, second] = pair else { continue };
            if first.word != second.word {
                continue;
            }
            let (first, second) = (entry(0, first), entry(0, second));
            // Ids that the file writes once are not compared: one could be shared by all labels.
            if first.position != second.position {
                let mut id = memory::with_capacity(first.length, "compare two ids")?;
                id.extend_from_slice(self.walker.bytes(first.position, first.length)?);
                if id != self.walker.bytes(second.position, second.length)? {
                    return Ok(true);
                }
            }
            let place = |(_, second): &(Entry, Entry)| (second.position, second.label);
            let found = (first, second);
            if duplicate
                .as_ref()
                .is_none_or(|known| place(&found) < place(known))
            {
                duplicate = Some(found);
            }
        }
        match duplicate {
            None => Ok(false),
            Some((first, second)) => Err(DecodeError::byte(
                second.position,
                format!(
                    "the same id for labels {} and {}",
                    first.label, second.label
                ),
                "one label for each id",
            )),
        }
    }

    fn check_inverse(
        &mut self,
        table: &ByFingerprint,
        fingerprinter: &Fingerprinter,
    ) -> Decoded<()> {
        let mut seen = Bits::with_len(table.rows().len() as u64)?;
        let (walker, memo) = (&mut self.walker, &mut self.memo);
        pairs::pairs(
            walker,
            self.id_to_label,
            memo,
            false,
            fingerprinter,
            |key, value| {
                let id = key.id()?;
                let label = value.number("a label")?;
                let found = match table.find(id.fingerprint) {
                    Some((row, known)) if known == label => {
                        if !seen.insert(row as u64) {
                            return Ok(());
                        }
                        format!("an id of label {label} for the second time")
                    }
                    Some((_, known)) => {
                        format!("label {label} for an id that has {known} in label_to_id")
                    }
                    None => format!("label {label} for an id that label_to_id does not hold"),
                };
                Err(DecodeError::byte(
                    key.at,
                    found,
                    "id_to_label to be the inverse of label_to_id",
                ))
            },
        )
    }

    /// The sequence number of each row, and the rows that have one.
    fn read_seq_ids(
        &mut self,
        table: &ByFingerprint,
        fingerprinter: &Fingerprinter,
    ) -> Decoded<(Vec<u64>, Bits)> {
        let map = match self.id_to_seq_id {
            Some(map) if map.pairs > 0 => map,
            _ => return Ok((Vec::new(), Bits::default())),
        };
        let count = table.rows().len();
        let mut seq_ids = memory::filled(count, 0, "hold its sequence numbers")?;
        let mut has_seq_id = Bits::with_len(count as u64)?;
        let (walker, memo) = (&mut self.walker, &mut self.memo);
        pairs::pairs(walker, map, memo, false, fingerprinter, |key, value| {
            let id = key.id()?;
            let number = value.number("a sequence number")?;
            // An id that is not there was deleted since.
            let Some((row, label)) = table.find(id.fingerprint) else {
                return Ok(());
            };
            if has_seq_id.insert(row as u64) {
                return Err(DecodeError::byte(
                    key.at,
                    format!("the id of label {label} for the second time"),
                    "one sequence number for each id",
                ));
            }
            if let Some(seq_id) = seq_ids.get_mut(row) {
                *seq_id = number;
            }
            Ok(())
        })?;
        Ok((seq_ids, has_seq_id))
    }
}

fn required(len: u64, map: Option<MapSpan>, name: &str) -> Decoded<MapSpan> {
    map.ok_or_else(|| {
        DecodeError::byte(
            len,
            format!("a pickle without {name}"),
            format!("a dict of fields that holds {name}"),
        )
    })
}

/// The number of pairs of a map, as the size of an allocation.
fn count(map: MapSpan) -> Decoded<usize> {
    u32::try_from(map.pairs)
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| {
            DecodeError::byte(
                map.start,
                format!("{} ids", map.pairs),
                format!("at most {} ids", u32::MAX),
            )
        })
}
