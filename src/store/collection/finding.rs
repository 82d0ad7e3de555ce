//! What is worth knowing about a collection besides its records.

use serde::Serialize;

/// Something that is not as it should be, or that was decided on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CollectionFinding {
    /// A name for the kind of finding, which never changes.
    pub code: &'static str,
    /// How many records, rows or pages it is about.
    pub count: u64,
    /// True if records, vectors or texts are missing or damaged because of it.
    pub loss: bool,
    /// What was found.
    pub message: String,
}

/// The findings of a collection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<CollectionFinding>);

impl Findings {
    /// Adds a finding about missing or damaged records, vectors or texts.
    pub(crate) fn add(&mut self, code: &'static str, count: u64, message: String) {
        self.push(code, count, message, true);
    }

    /// Adds a finding without a loss: a decision, or damage that other findings count the loss of.
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

    /// Adds a loss that several passes meet. The largest count stays.
    pub(super) fn set(&mut self, code: &'static str, count: u64, message: String) {
        match self.0.iter_mut().find(|finding| finding.code == code) {
            Some(known) => known.count = known.count.max(count),
            None => self.add(code, count, message),
        }
    }

    /// Adds a note that several passes make. The largest count stays.
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
