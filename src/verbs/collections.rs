//! The collections of a persist directory, and their states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::io::file::{is_directory, IoMode};
use crate::io::permissions::Sharing;
use crate::segment::file_name;
use crate::store::catalog::{
    Catalog, Collection, LOCAL_INDEX, MAX_METADATA_BYTES, MAX_OWNER_METADATA_BYTES,
};
use crate::store::collection::{directory_of, Given, Origin, Plan};
use crate::store::metadata::Map;
use crate::store::queue::Topics;
use crate::store::Database;
use crate::verbs::old::{OldCollection, OldStore};

pub use crate::store::collection::CollectionFinding;

/// Selects collections of a persist directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionFilter {
    /// Their names; empty for all. A name is unique within a database.
    pub names: Vec<String>,
    /// Their database in Chroma's sense.
    pub database: Option<String>,
    /// The tenant of their database.
    pub tenant: Option<String>,
    /// The I/O mode for their segments: [`IoMode::Read`] by default, because Chroma may
    /// be writing them.
    pub io: IoMode,
}

impl Default for CollectionFilter {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            database: None,
            tenant: None,
            io: IoMode::Read,
        }
    }
}

setters!(CollectionFilter {
    with_names(names: Vec<String>),
    with_database(database: impl Into<Option<String>>),
    with_tenant(tenant: impl Into<Option<String>>),
    with_io(io: IoMode),
});

/// The result of [`list_collections`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CollectionList {
    /// The persist directory.
    pub persist_dir: PathBuf,
    /// The version of each part of the schema of `chroma.sqlite3`.
    pub chroma_schema: BTreeMap<String, i64>,
    /// The SQLite rollback journal or write-ahead log that was replayed, in a copy, to read the
    /// database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<&'static str>,
    /// The collections, by tenant, database and name.
    pub collections: Vec<CollectionReport>,
    /// Directories that belong to no segment, such as the directories of deleted collections.
    pub orphan_directories: Vec<String>,
    /// Findings about the database as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<CollectionFinding>,
}

/// A summary of a collection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CollectionReport {
    /// The tenant.
    pub tenant: String,
    /// The database, in Chroma's sense.
    pub database: String,
    /// The name, which is unique in its database.
    pub name: String,
    /// The id of the collection, which is not the name of its directory.
    pub id: String,
    /// The directory of its index in the persist directory; absent if it does not exist.
    pub segment_dir: Option<String>,
    /// The metric of its index: `l2`, `cosine` or `ip`.
    pub metric: &'static str,
    /// The source of the metric.
    pub metric_source: &'static str,
    /// Components of each vector; absent until the first write.
    pub dimension: Option<usize>,
    /// Records that SQLite holds.
    pub records: u64,
    /// Records that the index holds.
    pub in_index: u64,
    /// Rows of the queue that the index has not seen.
    pub queued: u64,
    /// Records without a vector in the index or in the queue.
    pub without_vector: u64,
    /// Its state.
    pub state: CollectionState,
    /// The collection's own metadata, set by the user.
    pub metadata: CollectionMetadata,
    /// The findings reported with the collection.
    pub findings: Vec<CollectionFinding>,
}

impl CollectionList {
    /// Returns true if no collection and no part of the database is damaged, and no record lacks a
    /// vector.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_whole = |collection: &CollectionReport| {
            let state = collection.state;
            !matches!(
                state,
                CollectionState::Damaged | CollectionState::Incomplete
            ) && !has_loss(&collection.findings)
        };
        self.collections.iter().all(is_whole) && !has_loss(&self.findings)
    }
}

/// Returns true if any of the findings is a loss.
pub(crate) fn has_loss(findings: &[CollectionFinding]) -> bool {
    findings.iter().any(|finding| finding.loss)
}

named_enum! {
    /// The state of a collection.
    pub enum CollectionState for "state" {
        /// It has no records.
        Empty = "empty",
        /// Every vector is in the index.
        Flushed = "flushed",
        /// Every record has a vector. The newest vectors are only in the queue.
        Queued = "queued",
        /// Every record has a vector, but files are damaged or missing.
        Damaged = "damaged",
        /// Some records have no vector, or an unreadable id.
        Incomplete = "incomplete",
        /// Its index is of a kind that is stored elsewhere.
        Unsupported = "unsupported",
    }
}

/// The metadata of a collection, set by the user: values by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CollectionMetadata(Map);

impl CollectionMetadata {
    pub(crate) fn of(collection: &Collection) -> Self {
        Self(collection.metadata.clone())
    }

    /// Returns the values as a JSON object with sorted keys.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        self.0.write_json(&mut json);
        json
    }
}

/// Lists the collections of a persist directory: with `chroma.sqlite3`, or the two Parquet files of
/// Chroma 0.3, `chroma-collections.parquet` and `chroma-embeddings.parquet`, which are in no schema,
/// index or queue.
///
/// The directory is never written to. If Chroma crashed during a write, or SQLite keeps a
/// write-ahead log, the database is copied to the system's temporary directory, and the log is
/// replayed there.
///
/// Memory: 16 bytes for each record of the largest collection, and up to 48 bytes for each id while
/// its metadata is read.
///
/// # Errors
///
/// [`ErrorKind::UnusablePath`](crate::ErrorKind::UnusablePath) if there is no database,
/// [`ErrorKind::CorruptDatabase`](crate::ErrorKind::CorruptDatabase) if it is unreadable or not
/// Chroma's, [`ErrorKind::InputChanged`](crate::ErrorKind::InputChanged) if Chroma writes to it
/// while it is read, and [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
pub fn list_collections(
    persist_dir: impl AsRef<Path>,
    filter: &CollectionFilter,
    monitor: &Monitor<'_>,
) -> Result<CollectionList> {
    if OldStore::is_in(persist_dir.as_ref()) {
        return list_old(persist_dir.as_ref(), filter, monitor);
    }
    let persist = Persist::open(persist_dir.as_ref(), monitor)?;
    let mut collections = Vec::new();
    for chosen in persist.choose(filter)? {
        let collection = chosen.collection;
        let plan = Plan::new(chosen, monitor)?;
        plan.check_unchanged()?;
        collections.push(CollectionReport {
            tenant: collection.tenant.clone(),
            database: collection.database.clone(),
            name: collection.name.clone(),
            id: collection.id.clone(),
            segment_dir: match (
                segment_dir(persist.dir, collection)?,
                &collection.vector_segment,
            ) {
                (Some(_), Some(segment)) => Some(segment.id.clone()),
                _ => None,
            },
            metric: plan.space.name(),
            metric_source: plan.space_source.name(),
            dimension: plan.dimension,
            records: plan.counts.stored,
            in_index: plan.counts.in_index,
            queued: plan.counts.queued,
            without_vector: plan.counts.without_vector,
            state: state(collection, &plan, plan.counts.without_vector > 0),
            metadata: CollectionMetadata::of(collection),
            findings: plan.findings.into_vec(),
        });
    }
    let list = CollectionList {
        persist_dir: persist.dir.to_path_buf(),
        chroma_schema: persist.catalog.schema.clone(),
        replayed: persist.database.replayed(),
        orphan_directories: persist.orphan_directories()?,
        findings: persist.findings(),
        collections,
    };
    // Last, so that it covers every read.
    persist.database.check_unchanged()?;
    Ok(list)
}

/// Returns the collections of a store of Chroma 0.3 that a filter selects. Fails if no collection has
/// one of its names.
pub(crate) fn choose_old<'s>(
    store: &'s OldStore,
    filter: &CollectionFilter,
) -> Result<Vec<&'s OldCollection>> {
    chosen(store.collections.iter(), filter, |old| &old.collection)
}

/// Returns the state of a collection of Chroma 0.3.
pub(crate) fn state_of_old(old: &OldCollection) -> CollectionState {
    match (old.records, old.without_vector) {
        (0, _) => CollectionState::Empty,
        (_, 0) => CollectionState::Flushed,
        _ => CollectionState::Incomplete,
    }
}

/// Lists the collections of a store of Chroma 0.3, whose vectors are all in one Parquet file.
fn list_old(
    dir: &Path,
    filter: &CollectionFilter,
    monitor: &Monitor<'_>,
) -> Result<CollectionList> {
    let store = OldStore::open(dir, monitor)?;
    let collections = choose_old(&store, filter)?.into_iter().map(|old| {
        let collection = &old.collection;
        CollectionReport {
            tenant: collection.tenant.clone(),
            database: collection.database.clone(),
            name: collection.name.clone(),
            id: collection.id.clone(),
            segment_dir: None,
            metric: collection.space.space.name(),
            metric_source: collection.space.source.name(),
            dimension: collection.dimension,
            records: old.records,
            in_index: 0,
            queued: 0,
            without_vector: old.without_vector,
            state: state_of_old(old),
            metadata: CollectionMetadata::of(collection),
            findings: Vec::new(),
        }
    });
    Ok(CollectionList {
        persist_dir: dir.to_path_buf(),
        chroma_schema: BTreeMap::new(),
        replayed: None,
        collections: collections.collect(),
        orphan_directories: Vec::new(),
        findings: store.findings(),
    })
}

/// Returns the directory of a collection's vector segment, if it exists.
pub(crate) fn segment_dir(persist_dir: &Path, collection: &Collection) -> Result<Option<PathBuf>> {
    let segment = collection.vector_segment.as_ref();
    // The id is text from the database. `directory_of` gives none for an unsafe name.
    let directory = segment.and_then(|segment| directory_of(persist_dir, &segment.id));
    Ok(match directory {
        Some(directory) if is_directory(&directory)? => Some(directory),
        _ => None,
    })
}

/// Returns the state of a collection: the worst that applies.
pub(crate) fn state(collection: &Collection, plan: &Plan, is_incomplete: bool) -> CollectionState {
    let is_local = |segment: &crate::store::catalog::Segment| segment.type_ == LOCAL_INDEX;
    // Only a segment of another type is unsupported, not a missing one.
    if !collection.vector_segment.as_ref().is_none_or(is_local) {
        return CollectionState::Unsupported;
    }
    if is_incomplete {
        CollectionState::Incomplete
    } else if plan.is_damaged {
        CollectionState::Damaged
    } else if plan.counts.records == 0 {
        CollectionState::Empty
    } else if plan.counts.queued > 0 {
        CollectionState::Queued
    } else {
        CollectionState::Flushed
    }
}

/// Returns what a filter selects. Fails if no collection has one of its names.
pub(crate) fn chosen<'c, C>(
    all: impl Iterator<Item = &'c C>,
    filter: &CollectionFilter,
    collection: impl Fn(&'c C) -> &'c Collection,
) -> Result<Vec<&'c C>> {
    let within = |candidate: &&'c C| {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        let found = collection(candidate);
        is(&filter.database, &found.database) && is(&filter.tenant, &found.tenant)
    };
    let name = |candidate: &&'c C| &collection(candidate).name;
    let candidates: Vec<_> = all.filter(within).collect();
    // After the database and the tenant, so that an error only lists names that can be chosen.
    let names: BTreeSet<_> = candidates.iter().map(name).collect();
    let wanted: BTreeSet<_> = filter.names.iter().collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !names.contains(**wanted)) {
        // Enough to spot a typing error in a message that stays readable.
        let known: Vec<_> = candidates
            .iter()
            .take(20)
            .map(|known| name(known).as_str())
            .collect();
        let expected = match known.as_slice() {
            [] => "the name of a collection (the database has none)".to_string(),
            known => format!("one of {}", known.join(", ")),
        };
        return Err(Error::argument("collection", unknown, expected));
    }
    let is_wanted = |candidate: &&'c C| wanted.is_empty() || wanted.contains(name(candidate));
    Ok(candidates.into_iter().filter(is_wanted).collect())
}

/// An open persist directory.
#[derive(Debug)]
pub(crate) struct Persist<'d> {
    pub(crate) dir: &'d Path,
    pub(crate) database: Database,
    pub(crate) catalog: Catalog,
    /// `None` for a single collection, to which every row of the queue belongs.
    topics: Option<Topics>,
}

impl<'d> Persist<'d> {
    pub(crate) fn open(dir: &'d Path, monitor: &Monitor<'_>) -> Result<Self> {
        let database = Database::open(dir, monitor)?;
        let catalog = Catalog::read(&database, monitor)?;
        let ids = catalog.collections.iter().map(|known| known.id.as_str());
        let topics = match catalog.collections.len() {
            0 | 1 => None,
            _ => Some(Topics::read(&database, ids, monitor)?),
        };
        Ok(Self {
            dir,
            database,
            catalog,
            topics,
        })
    }

    /// Adds collections that the database does not have. They are empty.
    pub(crate) fn add(&mut self, new: Vec<Collection>, monitor: &Monitor<'_>) -> Result<()> {
        self.catalog.collections.extend(new);
        let key = |c: &Collection| (c.tenant.clone(), c.database.clone(), c.name.clone());
        self.catalog.collections.sort_by_cached_key(key);
        let collections = self.catalog.collections.iter();
        let ids = collections.map(|known| known.id.as_str());
        self.topics = Some(Topics::read(&self.database, ids, monitor)?);
        Ok(())
    }

    /// Returns the collections that a filter selects. Fails if no collection has one of its names.
    pub(crate) fn choose(&self, filter: &CollectionFilter) -> Result<Vec<Origin<'_>>> {
        let collections = self.catalog.collections.iter();
        Ok(chosen(collections, filter, |collection| collection)?
            .into_iter()
            .map(|collection| Origin {
                database: &self.database,
                persist_dir: self.dir,
                io: filter.io,
                collection,
                topics: self.topics.as_ref(),
                given: Given::default(),
            })
            .collect())
    }

    /// Returns the permissions of group and others for an output made from these collections. It is
    /// no more accessible than any of its inputs.
    pub(crate) fn sharing(&self, origins: &[Origin<'_>]) -> Sharing {
        let of_database = file_name::PROTECTED
            .iter()
            .map(|name| self.dir.join(name))
            .chain([self.dir.to_path_buf()])
            .fold(Sharing::default(), |sharing, path| sharing.and_input(&path));
        origins.iter().fold(of_database, |sharing, origin| {
            let segment = origin.collection.vector_segment.as_ref();
            let directory = segment.and_then(|segment| directory_of(self.dir, &segment.id));
            let Some(directory) = directory else {
                return sharing;
            };
            let files = file_name::ALL.iter().map(|name| directory.join(name));
            files.fold(sharing.and_input(&directory), |sharing, file| {
                sharing.and_input(&file)
            })
        })
    }

    fn orphan_directories(&self) -> Result<Vec<String>> {
        let known: BTreeSet<&str> = self
            .catalog
            .segment_ids
            .iter()
            .map(String::as_str)
            .collect();
        let entries = std::fs::read_dir(self.dir).map_err(Error::io(self.dir, "list"))?;
        let mut orphans = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(self.dir, "list"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_directory(&entry.path())? && !known.contains(name.as_str()) {
                orphans.push(name);
            }
        }
        orphans.sort();
        Ok(orphans)
    }

    /// Returns findings about the database and the tables that list the collections.
    pub(crate) fn findings(&self) -> Vec<CollectionFinding> {
        let damage = self.catalog.damage;
        let mut findings = crate::store::collection::Findings::default();
        let missing = self.database.missing_pages();
        if missing > 0 {
            findings.add(
                "database-cut",
                missing,
                "pages missing at the end of chroma.sqlite3; their contents are lost".into(),
            );
        }
        if let Some(rebuilt) = self.database.rebuilt() {
            let mut message =
                "tables of chroma.sqlite3, whose schema is damaged, were recognised by \
                               their rows"
                    .to_string();
            if !rebuilt.empty.is_empty() {
                let empty = rebuilt.empty.join(", ");
                message.push_str(&format!("; no rows were found of {empty}"));
            }
            findings.note("schema-damaged", rebuilt.tables, message);
            for (table, parts) in &rebuilt.parts {
                findings.add(
                    "database-damaged",
                    *parts,
                    format!("parts of the table {table}, whose root page is lost (skipped)"),
                );
            }
        }
        for damage in self.database.damaged_tables() {
            findings.add(
                "database-damaged",
                damage.pages.max(damage.lost_rows),
                format!(
                    "damaged pages of the table {}, or pages with rows missing or of another table: \
                     {}",
                    damage.table, damage.first
                ),
            );
        }
        if OldStore::has_files_in(self.dir) {
            findings.note(
                "old-store",
                1,
                "a store of Chroma 0.3 beside chroma.sqlite3, which is not in it: move \
                 chroma-collections.parquet and chroma-embeddings.parquet to a directory of their \
                 own, and export or import that"
                    .into(),
            );
        }
        let columns = &self.catalog.missing;
        if !columns.is_empty() {
            let columns = columns
                .iter()
                .map(|(table, column)| format!("{table}.{column}"));
            findings.note(
                "column-missing",
                self.catalog.missing.len() as u64,
                format!(
                    "columns missing although the migrations of chroma.sqlite3 create them: {}",
                    columns.collect::<Vec<_>>().join(", ")
                ),
            );
        }
        if self.catalog.left_out > 0 {
            findings.add(
                "collection-metadata-limit",
                self.catalog.left_out,
                format!(
                    "rows of collection_metadata and segment_metadata (skipped): expected at most \
                     {} MiB for a collection and {} MiB for all",
                    MAX_OWNER_METADATA_BYTES >> 20,
                    MAX_METADATA_BYTES >> 20
                ),
            );
        }
        if !damage.is_none() {
            findings.add(
                "catalog-damaged",
                damage.rows + damage.ranges,
                "unreadable rows or pages of the tables that list collections and segments; \
                 collections may be missing"
                    .into(),
            );
        }
        findings.into_vec()
    }
}
