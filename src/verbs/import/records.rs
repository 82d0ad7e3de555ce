//! Records of one source that join a collection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::progress::Monitor;
use crate::error::Result;
use crate::store::catalog::{Collection, Space, StatedConfiguration};
use crate::store::collection::{Findings, Form, Origin, Plan, Row};
use crate::store::metadata::Map;
use crate::verbs::collections::CollectionFinding;
use crate::verbs::old::OldStore;

/// Receives a record, and its number if it is the row of a file.
pub(super) type Visit<'v> = dyn FnMut(&mut Row<'_>, Option<u64>) -> Result<()> + 'v;

/// Records that are read one after another.
pub(super) trait Records {
    /// Passes each record to `visit`, with its vector as the user gave it. Returns findings about
    /// what could not be read.
    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Vec<CollectionFinding>>;
}

/// The records of one source for one collection, and what the source says about the collection.
pub(super) struct Incoming<'s> {
    pub(super) tenant: Option<String>,
    pub(super) database: Option<String>,
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) metadata: Map,
    pub(super) stated: StatedConfiguration,
    /// True if a Chroma before 1.0 made the collection, whose segment knows its parameters.
    pub(super) is_of_python: bool,
    pub(super) space: Option<Space>,
    pub(super) m: Option<u64>,
    pub(super) ef_construction: Option<u64>,
    pub(super) dimension: Option<usize>,
    /// Number of records.
    pub(super) expected: u64,
    pub(super) without_vector: u64,
    pub(super) findings: Vec<CollectionFinding>,
    /// The persist directory or file.
    pub(super) path: PathBuf,
    /// The collection of a persist directory.
    pub(super) collection: Option<String>,
    /// The columns of a file, each with what becomes of it.
    pub(super) columns: BTreeMap<String, String>,
    pub(super) records: Box<dyn Records + 's>,
}

/// The records of a collection of a persist directory.
pub(super) struct StoreRecords<'s> {
    pub(super) origin: Origin<'s>,
}

impl Records for StoreRecords<'_> {
    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Vec<CollectionFinding>> {
        let plan = Plan::new(self.origin, monitor)?;
        let outcome = plan.for_each(self.origin, Form::Original, monitor, |row| {
            // Nothing that has a meaning only in its own store.
            row.rowid = None;
            row.seq_id = None;
            row.internal_id = None;
            row.label = None;
            row.is_from_elsewhere = false;
            visit(row, None)
        })?;
        plan.check_unchanged()?;
        let mut findings = Findings::default();
        outcome.report(&mut findings);
        Ok(findings.into_vec())
    }
}

/// The records of a collection of Chroma 0.3.
pub(super) struct OldRecords<'s> {
    pub(super) store: &'s OldStore,
    pub(super) collection: &'s Collection,
}

impl Records for OldRecords<'_> {
    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Vec<CollectionFinding>> {
        let visit = |row: &mut Row<'_>, number| {
            row.is_from_elsewhere = false;
            visit(row, Some(number))
        };
        let outcome = self.store.for_each(self.collection, monitor, visit)?;
        let mut findings = Findings::default();
        outcome.report(&mut findings);
        Ok(findings.into_vec())
    }
}
