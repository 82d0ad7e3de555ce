//! Second step: reads one record after another.

use std::collections::BTreeMap;

use super::base::VectorReader;
use super::{Findings, Index, Location, Origin, Packed, Plan};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::segment::vectors::{is_positive_norm, scale};
use crate::store::catalog::Space;
use crate::store::metadata::Texts;
use crate::store::queue::{Operation, QueueReader, Stored};
use crate::store::records::{Record, RecordReader, RECORDS_PER_STATEMENT};

/// A record, in buffers that are reused for the next one.
#[derive(Debug)]
pub(crate) struct Row<'r> {
    pub(crate) id: &'r str,
    /// Its rowid in `embeddings`, unless only the queue has the record.
    pub(crate) rowid: Option<i64>,
    /// Time of its first write, as Chroma stores it.
    pub(crate) created_at: Option<&'r str>,
    pub(crate) vector: Option<&'r [f32]>,
    /// The visitor may take the contents.
    pub(crate) texts: &'r mut Texts,
    pub(crate) seq_id: Option<u64>,
    /// True if the vector is from another directory than the collection's.
    pub(crate) is_from_elsewhere: bool,
    /// Internal id of the vector, if the segment holds it.
    pub(crate) internal_id: Option<u64>,
    pub(crate) label: Option<u64>,
}

impl Row<'_> {
    /// Returns the same record with another vector.
    pub(crate) fn with_vector<'v>(&'v mut self, vector: &'v [f32]) -> Row<'v> {
        Row {
            vector: Some(vector),
            texts: self.texts,
            ..*self
        }
    }
}

/// Records from elsewhere that join a collection.
pub(crate) trait Added {
    /// Returns true if they take the place of the collection's records with the same ids.
    fn replaces(&self) -> bool;

    /// Calls `visit` with each record, whose vector is in the form in which the user gave it. `visit`
    /// returns false if it already had a record with that id.
    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut dyn FnMut(&mut Row<'_>) -> Result<bool>,
    ) -> Result<()>;
}

/// The form in which vectors are read. Segments of cosine collections hold them divided by their
/// norm; the queue holds them as the user gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// No vector is read.
    None,
    /// As the user gave them.
    Original,
    /// As a segment stores them.
    Stored,
    /// As they are where they are found.
    Found,
}

/// Counts of the records that were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: u64,
    pub(crate) from_index: u64,
    pub(crate) from_log: u64,
    pub(crate) from_elsewhere: u64,
    pub(crate) without_vector: u64,
    /// Ids of the first records without a vector.
    pub(crate) first_without_vector: Vec<String>,
    /// Number of records whose id is unreadable, and of records whose document and metadata are.
    pub(crate) damaged_ids: u64,
    pub(crate) damaged_texts: u64,
    /// Number of documents taken from the full-text table.
    pub(crate) copied_documents: u64,
    /// Number of queue rows whose metadata is unreadable, and of those whose vector is.
    pub(crate) damaged_logged_texts: u64,
    pub(crate) damaged_vectors: u64,
}

/// Number of ids without a vector that are listed.
pub(crate) const MAX_LISTED_IDS: usize = 100;

impl Outcome {
    /// Adds a finding for each kind of damage that was met.
    pub(crate) fn report(&self, findings: &mut Findings) {
        for (code, count, message) in [
            (
                "record-damaged",
                self.damaged_ids,
                "records with an unreadable id (skipped)",
            ),
            (
                "metadata-damaged",
                self.damaged_texts,
                "records whose document or metadata is unreadable, at least in part",
            ),
            (
                "queue-metadata",
                self.damaged_logged_texts,
                "queued rows with unreadable metadata",
            ),
            (
                "vector-damaged",
                self.damaged_vectors,
                "records with an unreadable vector in the queue",
            ),
        ] {
            if count > 0 {
                findings.add(code, count, message.into());
            }
        }
        if self.copied_documents > 0 {
            findings.note(
                "document-copied",
                self.copied_documents,
                "documents missing from embedding_metadata, recovered from the full-text table"
                    .into(),
            );
        }
    }

    /// Counts a record.
    pub(crate) fn count(&mut self, row: &Row<'_>) {
        self.rows += 1;
        match (row.vector, row.internal_id) {
            (Some(_), Some(_)) => self.from_index += 1,
            (Some(_), None) if row.is_from_elsewhere => self.from_elsewhere += 1,
            (Some(_), None) => self.from_log += 1,
            (None, _) => {
                self.without_vector += 1;
                if self.first_without_vector.len() < MAX_LISTED_IDS {
                    self.first_without_vector.push(row.id.to_string());
                }
            }
        }
    }
}

impl Plan {
    /// Calls `visit` with each record.
    pub(crate) fn for_each(
        &self,
        origin: Origin<'_>,
        form: Form,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(&mut Row<'_>) -> Result<()>,
    ) -> Result<Outcome> {
        let cosine = self.space == Space::Cosine;
        let mut vectors = Vectors {
            index: match self.index.records() {
                Some(records) if form != Form::None => {
                    let original = form == Form::Original;
                    Some(VectorReader::new(records, cosine && original)?)
                }
                _ => None,
            },
            elsewhere: match form {
                Form::None => Vec::new(),
                // As given to Chroma, like queued vectors: a new segment normalises both.
                _ => {
                    let records = self.elsewhere.iter();
                    let readers = records.map(|of| VectorReader::new(of, cosine));
                    readers.collect::<Result<_>>()?
                }
            },
            queue: match form {
                Form::None => None,
                _ => QueueReader::new(origin.database)?,
            },
            normalize: cosine && form == Form::Stored,
            dimension: self.dimension.unwrap_or(0),
            buffer: Vec::new(),
            damaged: 0,
        };
        let mut texts = LoggedTexts {
            reader: QueueReader::new(origin.database)?,
            unreadable: 0,
        };
        let mut outcome = Outcome::default();
        let mut record = Record::default();
        let mut emit = |rowid: Option<i64>,
                        record: &mut Record,
                        vector: Packed,
                        outcome: &mut Outcome|
         -> Result<()> {
            let found = vectors.read(vector, monitor)?;
            let (internal_id, label) = match found {
                Some(Read::Index { internal_id, label }) => (Some(internal_id), Some(label)),
                _ => (None, None),
            };
            let mut row = Row {
                id: &record.id,
                rowid,
                created_at: record.created_at.as_deref(),
                vector: found.map(|_| vectors.buffer.as_slice()),
                texts: &mut record.texts,
                seq_id: record.seq_id,
                is_from_elsewhere: matches!(found, Some(Read::Elsewhere)),
                internal_id,
                label,
            };
            outcome.count(&row);
            visit(&mut row)
        };

        if let Some(mut reader) = RecordReader::new(origin.database)? {
            // Filled at the first unreadable id: it takes two more passes over the ids.
            let mut names = None;
            for rows in self.rows.chunks(RECORDS_PER_STATEMENT) {
                reader.read_ahead(rows.iter().map(|row| row.rowid))?;
                for row in rows {
                    monitor.check()?;
                    if !reader.read(row.rowid, &mut record, monitor)? {
                        let names = match &mut names {
                            Some(names) => names,
                            None => names.insert(unreadable_ids(origin, monitor)?),
                        };
                        let Some(name) = names.remove(&row.rowid) else {
                            outcome.damaged_ids += 1;
                            continue;
                        };
                        record.id = name;
                    }
                    // The metadata segment is behind: apply the queue rows that it has not seen.
                    if !self.lag.is_empty() {
                        let fingerprint = self.fingerprinter.of(&record.id);
                        texts.apply(self.lag.group(fingerprint), 0, &mut record, monitor)?;
                    }
                    emit(Some(row.rowid), &mut record, row.vector, &mut outcome)?;
                }
            }
            outcome.damaged_texts = reader.damaged_texts;
            outcome.copied_documents = reader.copied_documents;
        }
        for row in &self.appended {
            monitor.check()?;
            let Some(id) = texts.id(row.created)? else {
                outcome.damaged_ids += 1;
                continue;
            };
            record.clear();
            record.id = id;
            let group = self.lag.group(row.fingerprint);
            texts.apply(group, row.created, &mut record, monitor)?;
            emit(None, &mut record, row.vector, &mut outcome)?;
        }
        let unreadable = self.for_each_orphan(&mut texts, monitor, |id, vector| {
            record.clear();
            record.id.push_str(id);
            emit(None, &mut record, vector, &mut outcome)
        })?;
        // The readers count across all records, so their counts are taken at the end.
        outcome.damaged_ids += unreadable;
        outcome.damaged_logged_texts = texts.unreadable;
        outcome.damaged_vectors = vectors.damaged;
        Ok(outcome)
    }

    /// Calls `visit` with each vector without a record. Returns the number of vectors whose id is
    /// unreadable.
    fn for_each_orphan(
        &self,
        texts: &mut LoggedTexts<'_>,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(&str, Packed) -> Result<()>,
    ) -> Result<u64> {
        let of_index: Vec<u32> = self
            .orphans
            .iter()
            .filter_map(|vector| match vector.unpack() {
                Location::Index(internal_id) => Some(internal_id),
                _ => None,
            })
            .collect();
        if let (Index::Base(base), false) = (&self.index, of_index.is_empty()) {
            // `orphans` is sorted by location, so internal ids ascend as `names` requires.
            let names = base.names(&of_index, monitor)?;
            for (id, internal_id) in names.iter().zip(of_index) {
                visit(id, Packed::index(internal_id))?;
            }
        }
        let mut unreadable = 0;
        for vector in &self.orphans {
            if let Location::Queue(seq_id) = vector.unpack() {
                match texts.id(seq_id)? {
                    Some(id) => visit(&id, *vector)?,
                    None => unreadable += 1,
                }
            }
        }
        Ok(unreadable)
    }
}

/// Ids of the records that a lookup by rowid does not find.
fn unreadable_ids(origin: Origin<'_>, monitor: &Monitor<'_>) -> Result<BTreeMap<i64, String>> {
    match &origin.collection.metadata_segment {
        Some(segment) => origin.database.unreadable_ids(&segment.id, monitor),
        None => Ok(BTreeMap::new()),
    }
}

#[derive(Clone, Copy)]
enum Read {
    Index { internal_id: u64, label: u64 },
    Queue,
    Elsewhere,
}

struct Vectors<'p> {
    index: Option<VectorReader<'p>>,
    elsewhere: Vec<VectorReader<'p>>,
    queue: Option<QueueReader<'p>>,
    normalize: bool,
    dimension: usize,
    buffer: Vec<f32>,
    /// Number of queue vectors that cannot be read.
    damaged: u64,
}

impl Vectors<'_> {
    /// Reads a vector into the buffer.
    fn read(&mut self, vector: Packed, monitor: &Monitor<'_>) -> Result<Option<Read>> {
        self.buffer.clear();
        match (vector.unpack(), &mut self.index, &mut self.queue) {
            (Location::Index(internal_id), Some(index), _) => {
                let label = index.read(internal_id, &mut self.buffer)?;
                let internal_id = u64::from(internal_id);
                Ok(Some(Read::Index { internal_id, label }))
            }
            (Location::Queue(seq_id), _, Some(queue)) => {
                let found = queue.vector(seq_id, &mut self.buffer, monitor)?;
                // The output's vector column has a fixed size: a vector of any other dimension is
                // damage.
                if found != Stored::Readable(true) || self.buffer.len() != self.dimension {
                    self.damaged += 1;
                    return Ok(None);
                }
                self.normalize();
                Ok(Some(Read::Queue))
            }
            (Location::Elsewhere(source, internal_id), ..) => {
                let Some(records) = self.elsewhere.get_mut(source) else {
                    return Ok(None);
                };
                records.read(internal_id, &mut self.buffer)?;
                self.normalize();
                Ok(Some(Read::Elsewhere))
            }
            _ => Ok(None),
        }
    }
}

impl Vectors<'_> {
    /// Normalises the buffer, if that is asked for. A vector whose norm is not finite has no
    /// direction: it stays as it is.
    fn normalize(&mut self) {
        if self.normalize && norm(&self.buffer).is_finite() {
            normalize(&mut self.buffer);
        }
    }
}

/// Divides a vector by its norm, as hnswlib does when it adds the vector. Returns the norm.
pub(crate) fn normalize(vector: &mut [f32]) -> f32 {
    let norm = norm(vector);
    // hnswlib adds the same constant, so that a zero vector is not divided by zero.
    let scale = 1.0 / (norm + 1e-30);
    for component in vector {
        *component *= scale;
    }
    norm
}

/// Candidates for a norm on either side of the computed one. Sums in f32 of thousands of squares
/// differ by less.
const MAX_STEPS: u32 = 16;

/// Writes `given`, divided by its norm, to `quotients`, and returns the norm.
///
/// A vector that was a quotient times a norm before, as in an export, is divided into such a pair
/// again, so that no import or export changes a bit of it. Others are divided as by [`normalize`].
pub(crate) fn divide_by_norm(given: &[f32], quotients: &mut Vec<f32>) -> f32 {
    quotients.clear();
    quotients.extend_from_slice(given);
    let norm = normalize(quotients);
    let is_exact = |norm: f32, quotients: &[f32]| {
        let mut pairs = quotients.iter().zip(given);
        pairs.all(|(quotient, given)| quotient * scale(norm) == *given)
    };
    if !is_positive_norm(norm) || is_exact(norm, quotients) {
        return norm;
    }
    let steps = (0..=MAX_STEPS).flat_map(|step| [norm.to_bits() - step, norm.to_bits() + step]);
    for candidate in steps.map(f32::from_bits) {
        let exact = given
            .iter()
            .map_while(|component| quotient(*component, scale(candidate)));
        quotients.clear();
        quotients.extend(exact);
        if quotients.len() == given.len() {
            return candidate;
        }
    }
    quotients.clear();
    quotients.extend_from_slice(given);
    normalize(quotients)
}

/// Returns the number that gives `product` if it is multiplied by `factor`, if there is one.
fn quotient(product: f32, factor: f32) -> Option<f32> {
    let near = product / factor;
    let mut candidates = [near, near.next_down(), near.next_up()].into_iter();
    candidates.find(|candidate| candidate * factor == product)
}

fn norm(vector: &[f32]) -> f32 {
    let squares: f32 = vector.iter().map(|component| component * component).sum();
    squares.sqrt()
}

/// Merges the queue's texts into records.
struct LoggedTexts<'d> {
    reader: Option<QueueReader<'d>>,
    unreadable: u64,
}

impl LoggedTexts<'_> {
    fn id(&mut self, seq_id: i64) -> Result<Option<String>> {
        match &mut self.reader {
            Some(reader) => match reader.id(seq_id)? {
                Stored::Readable(id) => Ok(id),
                Stored::Damaged => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Applies the queue rows of an id from sequence number `first` on. An add creates the record,
    /// or does nothing if the record exists.
    fn apply(
        &mut self,
        group: &[(u64, super::Logged)],
        first: i64,
        record: &mut Record,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        for (_, logged) in group {
            let seq_id = logged.seq_id();
            // Only the add at `first` created this record. Every other add met an existing id.
            if seq_id < first || logged.operation() == Operation::Add && seq_id != first {
                continue;
            }
            record.seq_id = u64::try_from(seq_id).ok();
            monitor.check()?;
            let is_merged = match reader.metadata(seq_id, monitor)? {
                Stored::Readable(None) => true,
                Stored::Readable(Some(json)) => record.texts.merge(&json).is_ok(),
                Stored::Damaged => false,
            };
            self.unreadable += u64::from(!is_merged);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_of_quotients_and_a_norm_is_divided_into_such_a_pair() {
        let mut state = 1_u64;
        let mut random = || {
            // Knuth's MMIX constants.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut quotients = Vec::new();
        let mut changed = 0;
        for count in 1..2000_usize {
            let size = 10_f32.powf(8.0 * random());
            let given: Vec<_> = (0..1 + count % 700).map(|_| random() * size).collect();
            let multiplied = |quotients: &[f32], norm| -> Vec<f32> {
                quotients
                    .iter()
                    .map(|quotient| quotient * scale(norm))
                    .collect()
            };
            let norm = divide_by_norm(&given, &mut quotients);
            let once = multiplied(&quotients, norm);
            changed += u32::from(once != given);
            let norm = divide_by_norm(&once, &mut quotients);
            assert_eq!(multiplied(&quotients, norm), once);
            let length = quotients
                .iter()
                .map(|q| f64::from(*q).powi(2))
                .sum::<f64>()
                .sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        // Most vectors are no such product, and this would be no test of them if all were.
        assert!(changed > 1000, "{changed}");
        for given in [
            vec![0.0; 3],
            vec![-0.0, 1e-30],
            vec![1e-23, 0.0],
            vec![3e38, 3e38],
        ] {
            let mut expected = given.clone();
            let norm = normalize(&mut expected);
            assert_eq!(
                divide_by_norm(&given, &mut quotients).to_bits(),
                norm.to_bits()
            );
            assert_eq!(quotients, expected);
        }
    }
}
