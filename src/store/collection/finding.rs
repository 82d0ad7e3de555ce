//! Findings: problems and remarks reported with a collection.

use serde::Serialize;

/// A problem of a collection, or a decision that its reader made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CollectionFinding {
    /// Name of the kind of finding. It never changes.
    pub code: &'static str,
    /// Number of records, rows or pages affected.
    pub count: u64,
    /// True if records, vectors or texts are missing or damaged because of it.
    pub loss: bool,
    /// Description for people.
    pub message: String,
}

/// The findings of a collection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<CollectionFinding>);

impl Findings {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a finding about missing or damaged records, vectors or texts.
    pub(crate) fn add(&mut self, code: &'static str, count: u64, message: String) {
        self.push(code, count, message, true);
    }

    /// Adds a finding without a loss: a decision, or damage whose loss other findings count.
    pub(crate) fn note(&mut self, code: &'static str, count: u64, message: String) {
        self.push(code, count, message, false);
    }

    fn push(&mut self, code: &'static str, count: u64, message: String, loss: bool) {
        self.0.push(CollectionFinding {
            code,
            count,
            loss,
            message,
        });
    }

    /// Adds a loss that several passes report. The largest count is kept.
    pub(super) fn set(&mut self, code: &'static str, count: u64, message: String) {
        match self.0.iter_mut().find(|finding| finding.code == code) {
            // The passes read overlapping ranges, so their counts must not be added.
            Some(known) => known.count = known.count.max(count),
            None => self.add(code, count, message),
        }
    }

    /// Adds a note that several passes report. The largest count is kept.
    pub(super) fn set_note(&mut self, code: &'static str, count: u64, message: String) {
        match self.0.iter_mut().find(|finding| finding.code == code) {
            Some(known) => known.count = known.count.max(count),
            None => self.note(code, count, message),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<CollectionFinding> {
        self.0
    }
}
