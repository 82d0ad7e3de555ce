//! Import into a persist directory: collections of other stores, of exports and of files.
//!
//! ```text
//! sources ─ records of each collection ─┐
//!                                       ├─ by target collection ─ a store as a repair writes it
//! --into: the store that is extended ───┘
//! ```
//!
//! The store that is extended is rewritten as a repair rewrites it, without its segments that nothing
//! joins: those are copied.

mod file;
mod records;
mod source;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::source::Sources;
use self::target::Targets;
use crate::base::progress::Monitor;
use crate::base::threads::thread_count;
use crate::error::{Error, Result};
use crate::io::atomic::refuse_inside;
use crate::segment::file_name;
use crate::verbs::collections::{has_loss, CollectionFinding, Persist};
use crate::verbs::export::escaped_path;
use crate::verbs::repair::store::{
    check_new_dir, write_beside, InPlace, RepairStoreOptions, RepairStoreSummary,
};
use crate::verbs::repair::{RepairLinks, Space, MAX_EF_CONSTRUCTION};

use crate::store::write::FullText;

/// The largest m that the graph engines accept.
const MAX_M: u64 = 256;

named_enum! {
    /// Fate of a record whose id its collection already has.
    #[derive(Default)]
    pub enum OnConflict for "on_conflict" {
        /// The import fails, and nothing is written.
        #[default]
        Error = "error",
        /// The record of the collection stays.
        Skip = "skip",
        /// The record of the source takes its place, whole.
        Replace = "replace",
    }
}

named_enum! {
    /// The form of metadata values that are lists.
    #[derive(Default)]
    pub enum ListForm for "lists" {
        /// Lists, which Chroma 1.5 introduced.
        #[default]
        List = "list",
        /// Text in JSON.
        Json = "json",
    }
}

/// The columns of a file that are imported, by name. Without them, `id` or `ids`; `vector`,
/// `embedding`, `embeddings`, `emb` or the only column with lists of floats; `document`, `text` or
/// `content`. A column `uri`, a column `metadata` with JSON objects, and columns `metadata.<key>`
/// are always taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileColumns {
    /// The ids: text or integers.
    pub id: Option<String>,
    /// The vectors: lists of floats.
    pub vector: Option<String>,
    /// The documents: text.
    pub document: Option<String>,
    /// Columns that become metadata under their own names: text, numbers, booleans or lists.
    pub metadata: Vec<String>,
}

setters!(FileColumns {
    with_id(id: impl Into<Option<String>>),
    with_vector(vector: impl Into<Option<String>>),
    with_document(document: impl Into<Option<String>>),
    with_metadata(metadata: Vec<String>),
});

/// Options of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Of a store or an export, the collections to import; all by default. Of a file, the name of the
    /// collection that gets its rows; by default the one in the file, or else the file's name.
    pub collections: Vec<String>,
    /// The columns of files.
    pub columns: FileColumns,
    /// New names of collections, by their names in the sources.
    pub rename: BTreeMap<String, String>,
    /// The database that gets the collections; by default the one they are in.
    pub database: Option<String>,
    /// The tenant that gets the collections; by default the one they belong to.
    pub tenant: Option<String>,
    /// The metric of new collections; by default the one of their source, or else l2, as in Chroma.
    pub metric: Option<Space>,
    /// Links per record of new collections, 2 to 256; by default as in their source, or else 16.
    pub m: Option<u64>,
    /// Candidates for the links of a record in new collections, 1 to 65536; by default as in their
    /// source, or else 100.
    pub ef_construction: Option<u64>,
    /// Fate of a record whose id its collection already has.
    pub on_conflict: OnConflict,
    /// The form of metadata values that are lists.
    pub lists: ListForm,
    /// Import records without a vector as well. Chroma 1.0 and later fails on every filtered query
    /// of a collection with such records.
    pub keep_incomplete: bool,
    /// Number of threads: by default one per core, and never more than 8.
    pub threads: Option<usize>,
    /// Report what would be done, and write nothing.
    pub dry_run: bool,
}

setters!(ImportOptions {
    with_collections(collections: Vec<String>),
    with_columns(columns: FileColumns),
    with_rename(rename: BTreeMap<String, String>),
    with_database(database: impl Into<Option<String>>),
    with_tenant(tenant: impl Into<Option<String>>),
    with_metric(metric: impl Into<Option<Space>>),
    with_m(m: impl Into<Option<u64>>),
    with_ef_construction(ef_construction: impl Into<Option<u64>>),
    with_on_conflict(on_conflict: OnConflict),
    with_lists(lists: ListForm),
    with_keep_incomplete(keep_incomplete: bool),
    with_threads(threads: impl Into<Option<usize>>),
    with_dry_run(dry_run: bool),
});

impl ImportOptions {
    fn validate(&self) -> Result<()> {
        thread_count(self.threads)?;
        for (field, name) in [("database", &self.database), ("tenant", &self.tenant)] {
            // Chroma opens none with a shorter name.
            if let Some(name) = name.as_ref().filter(|name| name.chars().count() < 3) {
                return Err(Error::argument(field, name, "at least 3 characters"));
            }
        }
        for (field, value, min, max) in [
            ("m", self.m, 2, MAX_M),
            (
                "ef_construction",
                self.ef_construction,
                1,
                MAX_EF_CONSTRUCTION,
            ),
        ] {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                let expected = format!("a number from {min} to {max}");
                return Err(Error::argument(field, value, expected));
            }
        }
        Ok(())
    }
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImportSummary {
    /// The sources, as they were given.
    pub sources: Vec<PathBuf>,
    /// The persist directory that is extended.
    pub into_dir: PathBuf,
    /// The new one.
    pub output_dir: PathBuf,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Records of the new store, in all of its collections.
    pub records: u64,
    /// Records that were imported; in a dry run, that would be if no id occurs twice.
    pub imported: u64,
    /// Records of the sources that were left out, because their collection has their id.
    pub skipped: u64,
    /// Records whose place was taken by an imported one.
    pub replaced: u64,
    /// Records of the sources that were left out, because they have no vector.
    pub left_out: u64,
    /// The collections that got records, by tenant, database and name.
    pub collections: Vec<ImportedCollection>,
    /// The origin of the full-text table; absent in a dry run.
    pub full_text: Option<FullText>,
    /// The old store, after an import in place.
    pub kept_dir: Option<PathBuf>,
    /// The commands that bring the old store back, after an import in place.
    pub undo: Vec<String>,
    /// Bytes that the store took on the disk.
    pub bytes_before: u64,
    /// Bytes that it takes now; in a dry run, about as many.
    pub bytes_after: u64,
    /// Findings about the databases of the sources as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<CollectionFinding>,
    /// Warnings, such as files whose owner could not be set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ImportSummary {
    /// Returns true if every record of the sources has its vector and is in the new store, or was
    /// left out because of its id, and nothing of it is damaged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_whole = |collection: &ImportedCollection| {
            collection.without_vector == 0 && !has_loss(&collection.findings)
        };
        self.collections.iter().all(is_whole) && !has_loss(&self.findings)
    }
}

/// A collection that got records.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImportedCollection {
    /// The tenant.
    pub tenant: String,
    /// The database, in Chroma's sense.
    pub database: String,
    /// The name.
    pub name: String,
    /// The id of the collection.
    pub id: String,
    /// True if the import created it.
    pub is_new: bool,
    /// The directory of its segment; absent if it has no vectors.
    pub segment_dir: Option<String>,
    /// Components of each vector.
    pub dimension: Option<usize>,
    /// The metric: `l2`, `cosine` or `ip`.
    pub metric: &'static str,
    /// The source of the links of its segment.
    pub links: Option<RepairLinks>,
    /// Records in the new store.
    pub records: u64,
    /// Records that were imported.
    pub imported: u64,
    /// Records of the sources that were left out, because the collection has their id.
    pub skipped: u64,
    /// Records whose place was taken by an imported one.
    pub replaced: u64,
    /// Imported records whose vector is not finite. They stay in the queue, as no segment can hold
    /// them.
    pub vectors_not_finite: u64,
    /// Records of the sources without a vector. They are left out by default.
    pub without_vector: u64,
    /// The ids of the first hundred of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_ids_without_vector: Vec<String>,
    /// Where its records are from.
    pub origins: Vec<ImportOrigin>,
    /// The findings about its records in the sources.
    pub findings: Vec<CollectionFinding>,
}

/// A source of records of one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportOrigin {
    /// A persist directory or a file. In JSON, bytes that are not UTF-8 are escaped.
    #[serde(serialize_with = "escaped_path")]
    pub path: PathBuf,
    /// The collection of a persist directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The columns that were taken from a file: each with what became of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

/// Writes a copy of the persist directory `into_dir`, with the records of `sources`, to `new_dir`.
///
/// A source is a persist directory of Chroma, 0.3 to 1.5, the output of
/// [`export_collections`](crate::export_collections), a Parquet or Arrow IPC file, or a directory of
/// such files. Rows of a file without a vector are left out, as records without one are.
///
/// A collection that `into_dir` does not have is created, with the configuration and the metadata of
/// its source. Others are extended. New vectors are inserted into the graph of the segment, or a new
/// graph is built if they are many. Segments that nothing joins are copied. Rows of the database are
/// written anew, as [`repair_store`](crate::repair_store) writes them.
///
/// `new_dir` must not exist. It is created atomically, after it was read back and checked.
///
/// Memory and errors: as for [`repair_store`](crate::repair_store).
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name or a record that the
/// Chroma of `into_dir` does not allow, for an id that occurs twice, and for vectors of another
/// dimension than the collection's.
pub fn import_collections(
    sources: &[PathBuf],
    into_dir: impl AsRef<Path>,
    new_dir: impl AsRef<Path>,
    options: &ImportOptions,
    monitor: &Monitor<'_>,
) -> Result<ImportSummary> {
    options.validate()?;
    let (into_dir, new_dir) = (into_dir.as_ref(), new_dir.as_ref());
    check_new_dir(into_dir, new_dir)?;
    // Nothing is written into a store that is only read.
    for source in sources {
        if source.join(file_name::DATABASE).exists() {
            refuse_inside(new_dir, source)?;
        }
    }
    let into = Persist::open(into_dir, &monitor.without_progress())?;
    import(sources, into, options, monitor, |into, store, additions| {
        write_beside(into, new_dir, store, additions, monitor)
    })
}

/// Imports the records of `sources` into the persist directory `into_dir`, under its name.
///
/// As [`import_collections`] does, and then as
/// [`repair_store_in_place`](crate::repair_store_in_place) does: the old store stays, under
/// [`kept_dir`](ImportSummary::kept_dir).
///
/// # Errors
///
/// As for [`import_collections`]. When another process, or this one, has a file of the store open.
pub fn import_collections_in_place(
    sources: &[PathBuf],
    into_dir: impl AsRef<Path>,
    options: &ImportOptions,
    announce: impl FnOnce(&[String]),
    monitor: &Monitor<'_>,
) -> Result<ImportSummary> {
    options.validate()?;
    let place = InPlace::lock(into_dir.as_ref())?;
    let into = Persist::open(place.directory(), &monitor.without_progress())?;
    import(sources, into, options, monitor, |into, store, additions| {
        place.write(into, store, additions, announce, monitor)
    })
}

fn import(
    sources: &[PathBuf],
    mut into: Persist<'_>,
    options: &ImportOptions,
    monitor: &Monitor<'_>,
    write: impl FnOnce(
        &Persist<'_>,
        &RepairStoreOptions,
        &mut [crate::verbs::repair::store::Addition<'_>],
    ) -> Result<RepairStoreSummary>,
) -> Result<ImportSummary> {
    let silent = monitor.without_progress();
    let opened = Sources::open(sources, &silent)?;
    let mut targets = Targets::new(&into, opened.records(options, &silent)?, options)?;
    into.add(targets.new_collections(), &silent)?;
    let store = RepairStoreOptions::default()
        .with_keep_incomplete(true)
        .with_threads(options.threads)
        .with_dry_run(options.dry_run);
    let mut additions = targets.additions(options);
    let written = write(&into, &store, &mut additions)?;
    let counts: Vec<_> = additions.iter().map(|addition| addition.counts).collect();
    drop(additions);
    opened.check_unchanged()?;
    Ok(targets.summary(&opened, written, &counts, options))
}
