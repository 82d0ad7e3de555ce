//! Check of a new store before it gets its name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::store::collection::{Form, Plan, Row};
use crate::verbs::collections::{CollectionFilter, Persist};

/// Records of a collection that are compared.
const SAMPLES: u64 = 64;

/// Hashes of some of the records of a collection, evenly spread over it.
#[derive(Debug)]
pub(super) struct Samples {
    /// One of this many records is a sample.
    step: u64,
    /// Ids in `embeddings`, and hashes.
    hashes: Vec<(i64, u64)>,
}

impl Samples {
    /// For a collection of about `expected` records.
    pub(super) fn new(expected: u64) -> Self {
        Self {
            step: (expected / SAMPLES).max(1),
            hashes: Vec::new(),
        }
    }

    /// Takes a record that was written with an id, if it is a sample.
    pub(super) fn push(&mut self, id: i64, row: &Row<'_>) {
        if is_sample(id, self.step) {
            self.hashes.push((id, hash(row)));
        }
    }
}

/// Returns true for one of `step` ids.
fn is_sample(id: i64, step: u64) -> bool {
    // The upper bits of a product with an odd number depend on all bits of the id.
    let mixed = id.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    mixed.is_multiple_of(step)
}

/// Hash of everything that a user stored: id, vector, document, URI and metadata.
fn hash(row: &Row<'_>) -> u64 {
    let mut json = String::new();
    row.texts.metadata.write_json(&mut json);
    row.texts.hidden.write_json(&mut json);
    let mut hasher = DefaultHasher::new();
    let bits = row
        .vector
        .map(|vector| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    (row.id, bits, &row.texts.document, &row.texts.uri, json).hash(&mut hasher);
    hasher.finish()
}

/// A collection as it was written.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) id: String,
    pub(super) records: u64,
    pub(super) without_vector: u64,
    pub(super) samples: Samples,
}

/// Reads a new store back, and fails unless every collection has its records.
pub(super) fn check(dir: &Path, expected: &[Expected], monitor: &Monitor<'_>) -> Result<()> {
    let persist = Persist::open(dir, monitor)?;
    let origins = persist.choose(&CollectionFilter::default())?;
    let wrong = |what: String| Err(Error::internal(format!("the new store {what}")));
    if !persist.findings().is_empty() || origins.len() != expected.len() {
        return wrong(format!(
            "has {} of {} collections, and the findings {:?}",
            origins.len(),
            expected.len(),
            persist.findings()
        ));
    }
    for wanted in expected {
        let Some(origin) = origins
            .iter()
            .find(|origin| origin.collection.id == wanted.id)
        else {
            return wrong(format!("lacks the collection {}", wanted.id));
        };
        let mut plan = Plan::new(*origin, monitor)?;
        let found = (plan.counts.records, plan.counts.without_vector);
        if found != (wanted.records, wanted.without_vector) {
            return wrong(format!(
                "has {} records in the collection {}, {} of them without a vector, instead of {} \
                 and {}: {:?}",
                found.0,
                wanted.id,
                found.1,
                wanted.records,
                wanted.without_vector,
                plan.findings.clone().into_vec(),
            ));
        }
        let step = wanted.samples.step;
        plan.keep_rows(|id| is_sample(id, step));
        let mut samples = wanted.samples.hashes.clone();
        samples.sort_unstable();
        let mut samples = samples.into_iter();
        let mut differs = 0_u64;
        plan.for_each(*origin, Form::Stored, monitor, |row| {
            let found = row.rowid.map(|id| (id, hash(row)));
            differs += u64::from(samples.next() != found);
            Ok(())
        })?;
        if differs > 0 || samples.next().is_some() {
            return wrong(format!(
                "has other records in the collection {} than the old one: {differs} of {} that \
                 were compared",
                wanted.id,
                wanted.samples.hashes.len()
            ));
        }
    }
    Ok(())
}
