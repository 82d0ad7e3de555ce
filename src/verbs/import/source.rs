//! The sources of an import: stores, exports and files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file;
use super::records::{Incoming, OldRecords, StoreRecords};
use super::ImportOptions;
use crate::base::progress::Monitor;
use crate::columnar::ColumnarFormat;
use crate::error::{Error, Result};
use crate::segment::file_name;
use crate::store::catalog::{SpaceSource, StatedConfiguration};
use crate::store::collection::{Given, Plan};
use crate::verbs::collections::{choose_old, CollectionFilter, CollectionFinding, Persist};
use crate::verbs::export::MANIFEST;
use crate::verbs::old::OldStore;

/// The longest manifest that is read: a thousand bytes for each of many collections.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// The opened sources.
pub(super) struct Sources<'s> {
    paths: &'s [PathBuf],
    opened: Vec<Source<'s>>,
}

enum Source<'s> {
    Store(Box<Persist<'s>>),
    /// Files whose rows join the collections that they name.
    Export(&'s Path, Vec<ExportedFile>),
    /// A store of Chroma 0.3.
    Old(OldStore),
    /// Files, and the name of their collection.
    Files(Vec<PathBuf>, String),
}

/// An entry of an export's manifest. The file itself has the rest.
#[derive(Deserialize)]
struct ExportedFile {
    file: String,
    collection: String,
}

#[derive(Deserialize)]
struct Manifest {
    files: Vec<ExportedFile>,
}

impl<'s> Sources<'s> {
    pub(super) fn open(paths: &'s [PathBuf], monitor: &Monitor<'_>) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::argument("sources", "none", "at least one source"));
        }
        let opened = paths.iter().map(|path| Source::open(path, monitor));
        Ok(Self {
            paths,
            opened: opened.collect::<Result<_>>()?,
        })
    }

    pub(super) fn paths(&self) -> &'s [PathBuf] {
        self.paths
    }

    fn stores(&self) -> impl Iterator<Item = &Persist<'s>> {
        self.opened.iter().filter_map(|source| match source {
            Source::Store(store) => Some(&**store),
            _ => None,
        })
    }

    /// Fails if a store has changed since it was opened. Files are checked when they are read.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let mut stores = self.stores();
        stores.try_for_each(|store| store.database.check_unchanged())
    }

    /// Returns findings about the databases as a whole.
    pub(super) fn findings(&self) -> Vec<CollectionFinding> {
        let findings = self.opened.iter().map(|source| match source {
            Source::Store(store) => store.findings(),
            Source::Old(store) => store.findings(),
            Source::Export(..) | Source::Files(..) => Vec::new(),
        });
        findings.flatten().collect()
    }

    /// Finds the records of each collection.
    pub(super) fn records(
        &self,
        options: &ImportOptions,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<Incoming<'_>>> {
        let mut incoming = Vec::new();
        for source in &self.opened {
            match source {
                Source::Store(store) => of_store(store, options, monitor, &mut incoming)?,
                Source::Export(directory, files) => {
                    for file in chosen(files, &options.collections)? {
                        let path = directory.join(&file.file);
                        let name = (None, file.collection.as_str());
                        incoming.push(file::open(&path, name, options, monitor)?);
                    }
                }
                Source::Old(store) => {
                    of_old_store(store, options, &mut incoming)?;
                }
                Source::Files(files, name) => {
                    if options.collections.len() > 1 {
                        return Err(Error::argument(
                            "collection",
                            options.collections.join(", "),
                            "one name for the rows of a file",
                        ));
                    }
                    let given = options.collections.first();
                    for path in files {
                        let name = (given.map(String::as_str), name.as_str());
                        incoming.push(file::open(path, name, options, monitor)?);
                    }
                }
            }
        }
        Ok(incoming)
    }
}

impl<'s> Source<'s> {
    fn open(path: &'s Path, monitor: &Monitor<'_>) -> Result<Self> {
        let name = |path: &Path| {
            let stem = path.file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        };
        if !path.is_dir() {
            return Ok(Self::Files(vec![path.to_path_buf()], name(path)));
        }
        if path.join(file_name::DATABASE).exists() {
            return Ok(Self::Store(Box::new(Persist::open(path, monitor)?)));
        }
        let manifest = path.join(MANIFEST);
        if manifest.exists() {
            return Ok(Self::Export(path, read_manifest(&manifest)?));
        }
        if OldStore::is_in(path) {
            return Ok(Self::Old(OldStore::open(path, monitor)?));
        }
        let entries = std::fs::read_dir(path).map_err(Error::io(path, "list"))?;
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(Error::io(path, "list"))?.path();
            if ColumnarFormat::from_extension(&file).is_some() {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(Error::unusable(
                path,
                "none of them in this directory",
                "chroma.sqlite3, an export's manifest.json, or Parquet or Arrow files",
            ));
        }
        Ok(Self::Files(files, name(path)))
    }
}

fn read_manifest(path: &Path) -> Result<Vec<ExportedFile>> {
    let length = std::fs::metadata(path)
        .map_err(Error::io(path, "look up"))?
        .len();
    let invalid = |found: String| {
        Error::input(
            path,
            "files",
            found,
            "the manifest of an export".to_string(),
        )
    };
    if length > MAX_MANIFEST_BYTES {
        return Err(invalid(format!("{length} bytes")));
    }
    let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    let is_name = |file: &ExportedFile| {
        let mut components = Path::new(&file.file).components();
        let is_normal = matches!(components.next(), Some(std::path::Component::Normal(_)));
        is_normal && components.next().is_none()
    };
    match manifest.files.iter().find(|file| !is_name(file)) {
        Some(file) => Err(invalid(format!("the file {:?}", file.file))),
        None => Ok(manifest.files),
    }
}

/// Returns the files of the collections with one of the names; all if there are none.
fn chosen<'f>(files: &'f [ExportedFile], names: &[String]) -> Result<Vec<&'f ExportedFile>> {
    let known: Vec<_> = files.iter().map(|file| &*file.collection).collect();
    check_names(&known, names)?;
    let is_chosen = |file: &&ExportedFile| names.is_empty() || names.contains(&file.collection);
    Ok(files.iter().filter(is_chosen).collect())
}

/// Fails if no collection has one of the names.
fn check_names(known: &[&str], names: &[String]) -> Result<()> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            // Bounds the length of the message.
            let some: Vec<_> = known.iter().take(20).copied().collect();
            let expected = format!("one of {}", some.join(", "));
            Err(Error::argument("collection", name, expected))
        }
    }
}

/// Finds the records of each collection of a store.
fn of_store<'s>(
    store: &'s Persist<'_>,
    options: &ImportOptions,
    monitor: &Monitor<'_>,
    incoming: &mut Vec<Incoming<'s>>,
) -> Result<()> {
    let filter = CollectionFilter::default().with_names(options.collections.clone());
    for origin in store.choose(&filter)? {
        let collection = origin.collection;
        let (mut origin, mut plan) = (origin, Plan::new(origin, monitor)?);
        let is_undecided = plan.space_source == SpaceSource::Undecided;
        if let (true, Some(space)) = (is_undecided, options.metric) {
            let space = Some(space.into());
            origin = origin.with_given(Given {
                space,
                ..origin.given
            });
            plan = Plan::new(origin, monitor)?;
        } else if is_undecided && plan.counts.records > 0 {
            return Err(Error::argument(
                "metric",
                "none",
                format!(
                    "l2, cosine or ip, because neither the database nor the vectors of the \
                     collection {} determine it",
                    collection.name
                ),
            ));
        }
        incoming.push(Incoming {
            tenant: Some(collection.tenant.clone()),
            database: Some(collection.database.clone()),
            name: collection.name.clone(),
            id: Some(collection.id.clone()),
            metadata: collection.metadata.clone(),
            stated: StatedConfiguration::read(&store.database, collection, monitor)?,
            is_of_python: !collection.configured_by_rust,
            space: Some(plan.space),
            m: collection.m,
            ef_construction: collection.ef_construction,
            dimension: plan.dimension,
            expected: plan.counts.records,
            without_vector: plan.counts.without_vector,
            findings: plan.findings.into_vec(),
            path: store.dir.to_path_buf(),
            collection: Some(collection.name.clone()),
            columns: BTreeMap::new(),
            // A plan has files open, and memory for each record: it is made again for the records.
            records: Box::new(StoreRecords { origin }),
        });
    }
    Ok(())
}

/// Finds the records of each collection of a store of Chroma 0.3.
fn of_old_store<'s>(
    store: &'s OldStore,
    options: &ImportOptions,
    incoming: &mut Vec<Incoming<'s>>,
) -> Result<()> {
    let filter = CollectionFilter::default().with_names(options.collections.clone());
    for old in choose_old(store, &filter)? {
        let collection = &old.collection;
        incoming.push(Incoming {
            tenant: None,
            database: None,
            name: collection.name.clone(),
            id: Some(collection.id.clone()),
            metadata: collection.metadata.clone(),
            stated: StatedConfiguration::default(),
            is_of_python: true,
            space: collection
                .space
                .source
                .is_said()
                .then_some(collection.space.space),
            m: collection.m,
            ef_construction: collection.ef_construction,
            dimension: collection.dimension,
            expected: old.records,
            without_vector: old.without_vector,
            findings: Vec::new(),
            path: store.dir.clone(),
            collection: Some(collection.name.clone()),
            columns: BTreeMap::new(),
            records: Box::new(OldRecords { store, collection }),
        });
    }
    Ok(())
}
