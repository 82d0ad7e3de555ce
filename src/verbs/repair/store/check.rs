//! Check of a new store before it gets its name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::store::collection::{Plan, Row};
use crate::verbs::collections::{CollectionFilter, Persist};

/// Records of a collection that are compared.
const SAMPLES: usize = 64;

/// Hashes of some of the records of a collection, evenly spread over it.
#[derive(Debug)]
pub(super) struct Samples {
    /// Every record whose number is a multiple of this is a sample.
    step: usize,
    written: usize,
    hashes: Vec<u64>,
}

impl Samples {
    /// For a collection of about `expected` records.
    pub(super) fn new(expected: u64) -> Self {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        Self {
            step: (expected / SAMPLES).max(1),
            written: 0,
            hashes: Vec::new(),
        }
    }

    /// Counts a written record.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        if self.written.is_multiple_of(self.step) {
            self.hashes.push(hash(row));
        }
        self.written = self.written.saturating_add(1);
    }
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
        plan.keep_every(wanted.samples.step);
        let mut hashes = wanted.samples.hashes.iter();
        let mut differs = 0_u64;
        plan.for_each(*origin, Some(false), monitor, |row| {
            differs += u64::from(hashes.next() != Some(&hash(row)));
            Ok(())
        })?;
        if differs > 0 || hashes.next().is_some() {
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
