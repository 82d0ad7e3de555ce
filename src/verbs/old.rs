//! Stores of Chroma 0.3, which are two Parquet files: `chroma-collections.parquet` with the columns
//! `uuid`, `name` and `metadata`, and `chroma-embeddings.parquet` with `collection_uuid`, `id`,
//! `embedding`, `document` and `metadata`. Both metadata columns hold JSON objects.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::progress::Monitor;
use crate::columnar::table::{Cell, Table, TableReader, TableRow};
use crate::error::{Error, Result};
use crate::io::permissions::Sharing;
use crate::segment::file_name;
use crate::store::catalog::{
    Collection, Space, SpaceSource, SpaceStatement, DEFAULT_DATABASE, DEFAULT_TENANT,
};
use crate::store::collection::{CollectionFinding, Findings, Outcome, Row};
use crate::store::metadata::{Texts, Value};

const COLLECTIONS: &str = "chroma-collections.parquet";
const EMBEDDINGS: &str = "chroma-embeddings.parquet";

/// A collection of such a store.
#[derive(Debug)]
pub(crate) struct OldCollection {
    /// Without segments.
    pub(crate) collection: Collection,
    pub(crate) records: u64,
    pub(crate) without_vector: u64,
}

/// The collections of such a store, by name, and the path of the records.
#[derive(Debug)]
pub(crate) struct OldStore {
    pub(crate) dir: PathBuf,
    records: PathBuf,
    pub(crate) collections: Vec<OldCollection>,
    /// Records of collections that the list does not have.
    unlisted: u64,
}

impl OldStore {
    /// Returns true if a directory is such a store, and not one of a later Chroma.
    pub(crate) fn is_in(dir: &Path) -> bool {
        !dir.join(file_name::DATABASE).exists() && Self::has_files_in(dir)
    }

    /// Returns true if a directory has the files of such a store, perhaps beside a later one.
    pub(crate) fn has_files_in(dir: &Path) -> bool {
        [COLLECTIONS, EMBEDDINGS]
            .iter()
            .all(|name| dir.join(name).exists())
    }

    /// Reads the list of collections, and counts the records of each.
    pub(crate) fn open(dir: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let mut collections = Vec::new();
        let list = dir.join(COLLECTIONS);
        let columns = ["uuid", "name", "metadata"];
        let mut reader = Table::open_any(&list)?.select(None, &columns)?;
        let mut row = TableRow::default();
        while reader.next(&mut row)? {
            monitor.check()?;
            collections.push(collection(&list, &mut row)?);
        }
        reader.check_unchanged()?;
        collections.sort_by(|a, b| a.collection.name.cmp(&b.collection.name));
        let mut store = Self {
            dir: dir.to_path_buf(),
            records: dir.join(EMBEDDINGS),
            collections,
            unlisted: 0,
        };
        store.count(monitor)?;
        Ok(store)
    }

    /// The two files.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        [COLLECTIONS, EMBEDDINGS].map(|name| self.dir.join(name))
    }

    /// Returns the permissions of group and others for an output made from it.
    pub(crate) fn sharing(&self) -> Sharing {
        let files = self.files();
        let inputs = files.iter().chain([&self.dir]);
        inputs.fold(Sharing::default(), |sharing, path| sharing.and_input(path))
    }

    fn reader(&self, columns: &[&str]) -> Result<TableReader> {
        let reader = Table::open_any(&self.records)?.select(Some("embedding"), columns)?;
        Ok(reader.accept_non_finite().accept_any_dimension())
    }

    fn count(&mut self, monitor: &Monitor<'_>) -> Result<()> {
        let (mut reader, mut row) = (self.reader(&["collection_uuid"])?, TableRow::default());
        let collections = self.collections.iter_mut();
        let mut by_id: HashMap<_, _> = collections
            .map(|old| (old.collection.id.clone(), old))
            .collect();
        while reader.next(&mut row)? {
            monitor.check()?;
            let owner = match row.cells.as_slice() {
                [Cell::Text(id)] => by_id.get_mut(id),
                _ => None,
            };
            let Some(old) = owner else {
                self.unlisted += 1;
                continue;
            };
            old.records += 1;
            match row.vector() {
                Some(vector) => {
                    let dimension = &mut old.collection.dimension;
                    *dimension = dimension.or(Some(vector.len()));
                }
                None => old.without_vector += 1,
            }
        }
        reader.check_unchanged()
    }

    /// Returns findings about the store as a whole.
    pub(crate) fn findings(&self) -> Vec<CollectionFinding> {
        let mut findings = Findings::default();
        if self.unlisted > 0 {
            findings.add(
                "record-unlisted",
                self.unlisted,
                format!("records of collections that {COLLECTIONS} does not list (skipped)"),
            );
        }
        findings.into_vec()
    }

    /// Passes each record of a collection to `visit`, with the number of its row. Steps over records
    /// whose id cannot be read, and leaves out metadata that cannot, both counted in the outcome.
    pub(crate) fn for_each(
        &self,
        collection: &Collection,
        monitor: &Monitor<'_>,
        mut visit: impl FnMut(&mut Row<'_>, u64) -> Result<()>,
    ) -> Result<Outcome> {
        let columns = ["collection_uuid", "id", "document", "metadata"];
        let (mut reader, mut row) = (self.reader(&columns)?, TableRow::default());
        let (mut texts, mut outcome) = (Texts::default(), Outcome::default());
        while reader.next(&mut row)? {
            monitor.check()?;
            let number = row.number;
            let [Cell::Text(owner), id, document, metadata] = row.cells.as_mut_slice() else {
                continue;
            };
            if *owner != collection.id {
                continue;
            }
            let Cell::Text(id) = std::mem::take(id) else {
                outcome.damaged_ids += 1;
                continue;
            };
            texts.clear();
            if let Cell::Text(json) = metadata {
                if texts.merge(json).is_err() {
                    texts.clear();
                    outcome.damaged_texts += 1;
                }
            }
            texts.document = match std::mem::take(document) {
                Cell::Text(document) => Some(document),
                _ => None,
            };
            let vector = row.vector();
            if let (Some(vector), Some(expected)) = (vector, collection.dimension) {
                if vector.len() != expected {
                    let expected = format!("{expected}, as in the rows before");
                    let found = format!("{} components", vector.len());
                    let error = invalid(&self.records, number, "embedding", &found, &expected);
                    return Err(error);
                }
            }
            let mut record = Row {
                id: &id,
                rowid: None,
                created_at: None,
                vector,
                texts: &mut texts,
                seq_id: None,
                is_from_elsewhere: vector.is_some(),
                internal_id: None,
                label: None,
            };
            outcome.count(&record);
            visit(&mut record, number)?;
        }
        reader.check_unchanged()?;
        Ok(outcome)
    }
}

/// Returns the collection in a row of the list.
fn collection(path: &Path, row: &mut TableRow) -> Result<OldCollection> {
    let number = row.number;
    let mut texts = Texts::default();
    let (id, name) = match row.cells.as_mut_slice() {
        [Cell::Text(id), Cell::Text(name), metadata] => {
            if let Cell::Text(json) = metadata {
                let parsed = texts.merge(json);
                parsed.map_err(|why| invalid(path, number, "metadata", &why, "a JSON object"))?;
            }
            (std::mem::take(id), std::mem::take(name))
        }
        _ => return Err(invalid(path, number, "uuid or name", "no text", "text")),
    };
    let metadata = texts.metadata;
    let number = |key| match metadata.get(key) {
        Some(Value::Int(value)) => u64::try_from(*value).ok(),
        _ => None,
    };
    let (m, ef_construction) = (number("hnsw:M"), number("hnsw:construction_ef"));
    let space_in_metadata = match metadata.get("hnsw:space") {
        Some(Value::Text(name)) => Some(name.clone()),
        _ => None,
    };
    let stated = space_in_metadata.as_deref().and_then(Space::from_name);
    Ok(OldCollection {
        collection: Collection {
            id,
            rowid: None,
            name,
            database: DEFAULT_DATABASE.into(),
            tenant: DEFAULT_TENANT.into(),
            dimension: None,
            impossible_dimension: None,
            metadata,
            space: SpaceStatement {
                space: stated.unwrap_or(Space::L2),
                source: match stated {
                    Some(_) => SpaceSource::CollectionMetadata,
                    None => SpaceSource::Default,
                },
                ..SpaceStatement::default()
            },
            space_in_metadata,
            vector_segment: None,
            metadata_segment: None,
            m,
            ef_construction,
            configured_by_rust: false,
            is_lost: false,
        },
        records: 0,
        without_vector: 0,
    })
}

fn invalid(path: &Path, row: u64, column: &str, found: &str, expected: &str) -> Error {
    let field = format!("row {row}, column {column}");
    Error::input(path, field, found.to_string(), expected.to_string())
}
