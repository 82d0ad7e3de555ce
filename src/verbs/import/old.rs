//! Stores of Chroma 0.3, which are two Parquet files: `chroma-collections.parquet` with the columns
//! `uuid`, `name` and `metadata`, and `chroma-embeddings.parquet` with `collection_uuid`, `id`,
//! `embedding`, `document` and `metadata`. Both metadata columns hold JSON objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{open_table, Columns, FileRecords};
use super::records::Incoming;
use super::ImportOptions;
use crate::base::progress::Monitor;
use crate::columnar::table::{Cell, TableRow};
use crate::error::{Error, Result};
use crate::store::catalog::{Space, StatedConfiguration};
use crate::store::metadata::{Texts, Value};

const COLLECTIONS: &str = "chroma-collections.parquet";
const EMBEDDINGS: &str = "chroma-embeddings.parquet";

/// A collection of such a store.
pub(super) struct OldCollection {
    id: String,
    pub(super) name: String,
    metadata: Texts,
    records: u64,
}

/// The collections of such a store, and the path of the records.
pub(super) struct OldStore {
    path: PathBuf,
    collections: Vec<OldCollection>,
}

impl OldStore {
    pub(super) fn is_in(directory: &Path) -> bool {
        directory.join(COLLECTIONS).exists() && directory.join(EMBEDDINGS).exists()
    }

    pub(super) fn open(directory: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let list = directory.join(COLLECTIONS);
        let mut collections = Vec::new();
        each(
            &list,
            &["uuid", "name", "metadata"],
            monitor,
            |number, cells| {
                let [id, name, metadata] = cells else {
                    return Ok(());
                };
                let invalid = |column: &str, found: String, expected: &'static str| {
                    Error::input(
                        &list,
                        format!("row {number}, column {column}"),
                        found,
                        expected,
                    )
                };
                let (Cell::Text(id), Cell::Text(name)) = (&id, &name) else {
                    return Err(invalid("uuid and name", "no text".into(), "text"));
                };
                let mut texts = Texts::default();
                if let Cell::Text(json) = metadata {
                    let parsed = texts.merge(json);
                    parsed.map_err(|why| invalid("metadata", why, "a JSON object"))?;
                }
                collections.push(OldCollection {
                    id: id.clone(),
                    name: name.clone(),
                    metadata: texts,
                    records: 0,
                });
                Ok(())
            },
        )?;
        let path = directory.join(EMBEDDINGS);
        let mut counts = BTreeMap::<String, u64>::new();
        each(&path, &["collection_uuid"], monitor, |_, cells| {
            if let [Cell::Text(id)] = cells {
                *counts.entry(std::mem::take(id)).or_default() += 1;
            }
            Ok(())
        })?;
        for collection in &mut collections {
            collection.records = counts.get(&collection.id).copied().unwrap_or_default();
        }
        Ok(Self { path, collections })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.collections.iter().map(|collection| &*collection.name)
    }

    /// Finds the records of each collection.
    pub(super) fn records<'s>(
        &self,
        options: &ImportOptions,
        monitor: &Monitor<'_>,
        incoming: &mut Vec<Incoming<'s>>,
    ) -> Result<()> {
        for collection in &self.collections {
            let names = &options.collections;
            if !names.is_empty() && !names.contains(&collection.name) {
                continue;
            }
            let columns = Columns::of_old_store(&collection.id);
            let records = FileRecords::new(&self.path, columns, true);
            let metadata = &collection.metadata.metadata;
            let space = match metadata.get("hnsw:space") {
                Some(Value::Text(name)) => Space::from_name(name),
                _ => None,
            };
            let number = |key| match metadata.get(key) {
                Some(Value::Int(value)) => u64::try_from(*value).ok(),
                _ => None,
            };
            incoming.push(Incoming {
                tenant: None,
                database: None,
                name: collection.name.clone(),
                id: Some(collection.id.clone()),
                metadata: metadata.clone(),
                stated: StatedConfiguration::default(),
                is_of_python: true,
                space,
                m: number("hnsw:M"),
                ef_construction: number("hnsw:construction_ef"),
                dimension: records.dimension(monitor)?,
                expected: collection.records,
                without_vector: 0,
                findings: Vec::new(),
                path: self.path.clone(),
                collection: Some(collection.name.clone()),
                columns: BTreeMap::new(),
                records: Box::new(records),
            });
        }
        Ok(())
    }
}

/// Calls `visit` with the number and the cells of each row.
fn each(
    path: &Path,
    columns: &[&str],
    monitor: &Monitor<'_>,
    mut visit: impl FnMut(u64, &mut [Cell]) -> Result<()>,
) -> Result<()> {
    let (mut reader, mut row) = (
        open_table(path)?.select(None, columns)?,
        TableRow::default(),
    );
    while reader.next(&mut row)? {
        monitor.check()?;
        visit(row.number, &mut row.cells)?;
    }
    reader.check_unchanged()
}
