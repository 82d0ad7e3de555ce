//! Tenants, databases, collections and segments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::ToSql;
use serde_json::Value as Json;

use super::queue::TOPIC;
use super::{insert_into, owned, DatabaseWriter};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::segment::write::{DEFAULT_EF_CONSTRUCTION, DEFAULT_M};
use crate::store::catalog::{
    vector_index_of, Catalog, Collection, Space, StatedConfiguration, CONFIGURATION_OF_PYTHON,
    DEFAULT_DATABASE, DEFAULT_DATABASE_ID, DEFAULT_TENANT, LOCAL_INDEX,
};
use crate::store::metadata::{Map, Value as MetadataValue};
use crate::store::Database;

const METADATA_SEGMENT: &str = "urn:chroma:segment/metadata/sqlite";

/// Ids of the segments of a collection in the new store.
#[derive(Clone, Debug)]
pub(crate) struct NewSegments {
    pub(crate) vector: String,
    pub(crate) metadata: String,
}

/// Number of rows of a table that were left out, because nothing they belong to exists, or because
/// they are damaged.
pub(crate) type Dropped = BTreeMap<&'static str, u64>;

/// The configuration of a collection, where the old store does not state it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configuration<'c> {
    pub(crate) space: Space,
    /// By default Chroma's.
    pub(crate) m: Option<u64>,
    pub(crate) ef_construction: Option<u64>,
    /// The configuration of the collection in another store.
    pub(crate) origin: Option<&'c StatedConfiguration>,
}

/// The catalogue's statements about a collection of another store.
#[derive(Clone, Debug)]
pub(crate) struct NewCollection {
    pub(crate) metadata: Map,
    pub(crate) stated: StatedConfiguration,
    /// True if the configuration was changed on the way, so that it cannot be copied.
    pub(crate) is_changed: bool,
}

impl DatabaseWriter {
    /// Copies all rows except records and writes. `segments` has the new ids of each collection, in
    /// the order of the catalogue.
    pub(crate) fn copy_catalog(
        &self,
        old: &Database,
        catalog: &Catalog,
        segments: &[NewSegments],
        monitor: &Monitor<'_>,
    ) -> Result<Dropped> {
        let mut dropped = Dropped::new();
        let collections = &catalog.collections;
        let known: BTreeSet<&str> = collections.iter().map(|known| known.id.as_str()).collect();
        let mut new_ids = BTreeMap::new();
        for (collection, new) in collections.iter().zip(segments) {
            for (old, new) in [
                (&collection.vector_segment, &new.vector),
                (&collection.metadata_segment, &new.metadata),
            ] {
                new_ids.extend(old.as_ref().map(|old| (old.id.as_str(), new)));
            }
        }
        let mut copy = |table, is_kept: &mut dyn FnMut(&mut [Value]) -> bool| {
            let count = self.copy_catalog_table(old, table, monitor, is_kept)?;
            if count > 0 {
                dropped.insert(table, count);
            }
            Ok(())
        };
        for table in ["tenants", "databases", "embeddings_queue_config"] {
            copy(table, &mut |_| true)?;
        }
        for table in ["collections", "collection_metadata"] {
            copy(
                table,
                &mut |row| matches!(row.first(), Some(Value::Text(id)) if known.contains(&**id)),
            )?;
        }
        for table in ["segments", "segment_metadata"] {
            copy(table, &mut |row| {
                let Some(Value::Text(id)) = row.first_mut() else {
                    return false;
                };
                let new = new_ids.get(id.as_str());
                if let Some(new) = new {
                    id.clone_from(new);
                }
                new.is_some()
            })?;
        }
        for table in ["maintenance_log", "acquire_write"] {
            if !self.columns(table)?.is_empty() && self.copies_table(old, table)? {
                self.copy_rows(old, table, monitor)?;
            }
        }
        for (collection, new) in collections.iter().zip(segments) {
            self.complete(collection, new)?;
        }
        Ok(dropped)
    }

    /// Copies the rows of a table by the names of the columns. Returns the number of rows left out.
    fn copy_catalog_table(
        &self,
        old: &Database,
        table: &'static str,
        monitor: &Monitor<'_>,
        is_kept: &mut dyn FnMut(&mut [Value]) -> bool,
    ) -> Result<u64> {
        let columns = self.columns(table)?;
        if columns.is_empty() {
            return Ok(0);
        }
        let names: Vec<_> = columns.iter().map(String::as_str).collect();
        // A damaged page may repeat a row, or lack the value of a NOT NULL column.
        let mut insert = self.prepare(&insert_into(table, &names))?;
        let found = columns
            .iter()
            .map(|column| match old.has_column(table, column) {
                true => column.as_str(),
                false => "NULL",
            });
        let found = found.collect::<Vec<_>>().join(", ");
        let mut dropped = 0;
        let all = (i64::MIN, i64::MAX);
        old.scan(table, &found, all, monitor, |_, row| {
            let values = (1..=columns.len()).map(|at| row.get_ref(at).map(owned));
            let values: std::result::Result<Vec<_>, _> = values.collect();
            let mut values = values.map_err(|error| self.failed(error))?;
            let is_copied = is_kept(&mut values) && {
                let values: Vec<&dyn ToSql> = values.iter().map(|value| value as _).collect();
                self.run(&mut insert, &values)? == 1
            };
            dropped += u64::from(!is_copied);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(dropped)
    }

    /// Adds the rows that a collection needs and that the old database has lost.
    fn complete(&self, collection: &Collection, segments: &NewSegments) -> Result<()> {
        let columns = self.columns("collections")?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        let topic = format!("{TOPIC}{}", collection.id);
        let database_id = match has("database_id") {
            true => self.complete_database(collection)?,
            false => None,
        };
        let dimension = collection
            .dimension
            .and_then(|value| i64::try_from(value).ok());
        let given: [(&str, &dyn ToSql); 5] = [
            ("id", &collection.id),
            ("name", &collection.name),
            ("topic", &topic),
            ("dimension", &dimension),
            ("database_id", &database_id),
        ];
        self.add_row("collections", &columns, &given)?;
        if !self.has_collection(&collection.id)? {
            // Another collection of its database has its name.
            let name = format!("{}-{}", collection.name, collection.id);
            let mut given = given;
            if let Some((_, value)) = given.get_mut(1) {
                *value = &name;
            }
            self.add_row("collections", &columns, &given)?;
        }
        if collection.impossible_dimension.is_some() {
            self.write_dimension(&collection.id, None)?;
        }
        let columns = self.columns("segments")?;
        for (id, kind, scope) in [
            (&segments.vector, LOCAL_INDEX, "VECTOR"),
            (&segments.metadata, METADATA_SEGMENT, "METADATA"),
        ] {
            let given: [(&str, &dyn ToSql); 5] = [
                ("id", id),
                ("type", &kind),
                ("scope", &scope),
                ("topic", &topic),
                ("collection", &collection.id),
            ];
            self.add_row("segments", &columns, &given)?;
        }
        Ok(())
    }

    /// Makes sure that the tenant and the database of a collection exist, and that its row names
    /// them. Returns the id of the database.
    fn complete_database(&self, collection: &Collection) -> Result<Option<String>> {
        let Collection {
            id,
            tenant,
            database,
            ..
        } = collection;
        self.execute("INSERT OR IGNORE INTO tenants (id) VALUES (?1)", &[tenant])?;
        if self.database_id(collection)?.is_none() {
            let new_id = match database == DEFAULT_DATABASE && tenant == DEFAULT_TENANT {
                true => DEFAULT_DATABASE_ID.to_string(),
                false => new_uuid(),
            };
            self.execute(
                "INSERT OR IGNORE INTO databases (id, name, tenant_id) VALUES (?1, ?2, ?3)",
                &[&new_id, database, tenant],
            )?;
        }
        let database_id = self.database_id(collection)?;
        self.execute(
            "UPDATE OR IGNORE collections SET database_id = ?2 \
             WHERE id = ?1 AND database_id NOT IN (SELECT id FROM databases)",
            &[id, &database_id],
        )?;
        Ok(database_id)
    }

    /// Returns the id of the database that a collection is in.
    fn database_id(&self, collection: &Collection) -> Result<Option<String>> {
        let mut find =
            self.prepare("SELECT id FROM databases WHERE name = ?1 AND tenant_id = ?2")?;
        let found = find.query_row([&collection.database, &collection.tenant], |row| row.get(0));
        match found {
            Ok(id) => Ok(Some(id)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Adds a row, unless one has its key. Values without a column are left out.
    fn add_row(
        &self,
        table: &str,
        columns: &[String],
        given: &[(&str, &dyn ToSql)],
    ) -> Result<usize> {
        let given = given
            .iter()
            .filter(|(name, _)| columns.iter().any(|column| column == name));
        let (names, values): (Vec<&str>, Vec<&dyn ToSql>) = given.copied().unzip();
        self.execute(&insert_into(table, &names), &values)
    }

    fn has_collection(&self, id: &str) -> Result<bool> {
        let mut find = self.prepare("SELECT 1 FROM collections WHERE id = ?1")?;
        find.exists([id]).map_err(|error| self.failed(error))
    }

    /// Sets the dimension of a collection.
    pub(crate) fn write_dimension(&self, id: &str, dimension: Option<usize>) -> Result<()> {
        let dimension = dimension.and_then(|value| i64::try_from(value).ok());
        self.execute(
            "UPDATE collections SET dimension = ?2 WHERE id = ?1",
            &[&id, &dimension],
        )?;
        Ok(())
    }

    /// Writes the metadata and the configuration of a collection that the old store does not have.
    pub(crate) fn write_new_collection(
        &self,
        collection: &Collection,
        vector_segment: &str,
        new: &NewCollection,
    ) -> Result<()> {
        let columns = self.columns("collection_metadata")?;
        let has_bool = columns.iter().any(|column| column == "bool_value");
        for (key, value) in new.metadata.iter() {
            self.write_parameter("collection_metadata", &collection.id, key, value, has_bool)?;
            // Until 1.0 a segment gets its parameters from the metadata.
            if !self.has_integer_seq_ids && key.starts_with("hnsw:") {
                self.write_parameter("segment_metadata", vector_segment, key, value, false)?;
            }
        }
        let configuration = Configuration {
            space: collection.space.space,
            m: collection.m,
            ef_construction: collection.ef_construction,
            origin: Some(&new.stated),
        };
        let columns = self.columns("collections")?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        let StatedConfiguration {
            configuration: stated,
            schema,
        } = &new.stated;
        let is_of_python = stated
            .as_ref()
            .is_some_and(|json| json.contains(CONFIGURATION_OF_PYTHON));
        let is_kept = match (self.has_integer_seq_ids, schema) {
            (false, _) => has("config_json_str") && is_of_python,
            (true, Some(_)) => has("schema_str") && !new.is_changed,
            (true, None) => stated.is_some() && !is_of_python && !new.is_changed,
        };
        if is_kept && !self.has_integer_seq_ids {
            // It says nothing about the segment.
            self.execute(
                "UPDATE collections SET config_json_str = ?2 WHERE id = ?1",
                &[&collection.id, stated],
            )?;
            return self.write_segment_parameters(vector_segment, configuration);
        }
        if is_kept {
            self.execute(
                "UPDATE collections SET config_json_str = ?2 WHERE id = ?1",
                &[&collection.id, stated],
            )?;
            if has("schema_str") {
                self.execute(
                    "UPDATE collections SET schema_str = ?2 WHERE id = ?1",
                    &[&collection.id, schema],
                )?;
            }
            return Ok(());
        }
        self.write_configuration(&collection.id, vector_segment, configuration)
    }

    /// Writes a value of the metadata of a collection or a segment.
    fn write_parameter(
        &self,
        table: &str,
        owner: &str,
        key: &str,
        value: &MetadataValue,
        has_bool: bool,
    ) -> Result<()> {
        let owner_column = match table {
            "segment_metadata" => "segment_id",
            _ => "collection_id",
        };
        let (column, value): (_, &dyn ToSql) = match value {
            MetadataValue::Text(text) => ("str_value", text),
            MetadataValue::Int(value) => ("int_value", value),
            MetadataValue::Float(value) => ("float_value", value),
            MetadataValue::Bool(value) if has_bool => ("bool_value", value),
            MetadataValue::Bool(value) => ("int_value", value),
            // Chroma has no lists here.
            MetadataValue::List(_) | MetadataValue::Null => return Ok(()),
        };
        let sql = format!(
            "INSERT OR REPLACE INTO {table} ({owner_column}, key, {column}) VALUES (?1, ?2, ?3)"
        );
        self.execute(&sql, &[&owner, &key, value])?;
        Ok(())
    }

    /// States the metric and the parameters of a segment that are not the defaults.
    fn write_segment_parameters(
        &self,
        vector_segment: &str,
        configuration: Configuration<'_>,
    ) -> Result<()> {
        let space = configuration.space.name();
        let m = configuration.m.unwrap_or(DEFAULT_M);
        let ef_construction = configuration.ef_construction;
        let ef_construction = ef_construction.unwrap_or(DEFAULT_EF_CONSTRUCTION);
        let text = "INSERT OR REPLACE INTO segment_metadata (segment_id, key, str_value) \
                    VALUES (?1, ?2, ?3)";
        self.execute(text, &[&vector_segment, &"hnsw:space", &space])?;
        for (key, value, default) in [
            ("hnsw:M", m, DEFAULT_M),
            (
                "hnsw:construction_ef",
                ef_construction,
                DEFAULT_EF_CONSTRUCTION,
            ),
        ] {
            if value != default {
                let sql = "INSERT OR REPLACE INTO segment_metadata (segment_id, key, int_value) \
                           VALUES (?1, ?2, ?3)";
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                self.execute(sql, &[&vector_segment, &key, &value])?;
            }
        }
        Ok(())
    }

    /// States the metric and the parameters of a collection everywhere that a Chroma looks for
    /// them.
    pub(crate) fn write_configuration(
        &self,
        collection: &str,
        vector_segment: &str,
        configuration: Configuration<'_>,
    ) -> Result<()> {
        let Configuration {
            space,
            m,
            ef_construction,
            origin,
        } = configuration;
        let space = space.name();
        let m = m.unwrap_or(DEFAULT_M);
        let ef_construction = ef_construction.unwrap_or(DEFAULT_EF_CONSTRUCTION);
        let columns = self.columns("collections")?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        // Until 1.0 this column says nothing about the metric.
        if self.has_integer_seq_ids && has("config_json_str") {
            let json = rust_configuration(space, (m, ef_construction), origin);
            self.execute(
                "UPDATE collections SET config_json_str = ?2 WHERE id = ?1",
                &[&collection, &json],
            )?;
        }
        if has("schema_str") {
            self.execute(
                "UPDATE collections SET schema_str = NULL WHERE id = ?1",
                &[&collection],
            )?;
        }
        self.write_segment_parameters(vector_segment, configuration)?;
        if !self.has_integer_seq_ids {
            let sql = "INSERT OR REPLACE INTO collection_metadata (collection_id, key, str_value) \
                       VALUES (?1, ?2, ?3)";
            self.execute(sql, &[&collection, &"hnsw:space", &space])?;
        }
        Ok(())
    }
}

/// Returns the configuration of a collection in the form of Chroma 1.0 and later. Everything but the
/// metric and the parameters is as it was `origin`ally, above all the embedding function.
fn rust_configuration(
    space: &str,
    (m, ef_construction): (u64, u64),
    origin: Option<&StatedConfiguration>,
) -> String {
    let parsed = |text: &Option<String>| serde_json::from_str::<Json>(text.as_deref()?).ok();
    let configuration = origin.and_then(|stated| parsed(&stated.configuration));
    let schema = origin.and_then(|stated| parsed(&stated.schema));
    let index = schema.as_ref().and_then(vector_index_of);
    let hnsw = index.and_then(|index| index.get("hnsw"));
    let hnsw = hnsw.or_else(|| configuration.as_ref()?.pointer("/vector_index/hnsw"));
    let mut hnsw = match hnsw {
        Some(Json::Object(hnsw)) => hnsw.clone(),
        _ => serde_json::Map::new(),
    };
    for (name, value) in [
        ("ef_search", Json::from(100)),
        ("resize_factor", Json::from(1.2)),
        ("sync_threshold", Json::from(1000)),
    ] {
        hnsw.entry(name).or_insert(value);
    }
    hnsw.insert("space".into(), space.into());
    hnsw.insert("max_neighbors".into(), m.into());
    hnsw.insert("ef_construction".into(), ef_construction.into());
    let function = index.and_then(|index| index.get("embedding_function"));
    let function = function.or_else(|| configuration.as_ref()?.get("embedding_function"));
    let function = function.filter(|function| function.is_object()).cloned();
    let function = function.unwrap_or_else(|| serde_json::json!({"type": "legacy"}));
    serde_json::json!({
        "vector_index": {"hnsw": hnsw},
        "embedding_function": function,
    })
    .to_string()
}

/// Returns a random UUID, version 4, as Chroma names segments.
pub(crate) fn new_uuid() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Each state has its own random keys.
    let random = || RandomState::new().hash_one(0_u8);
    let high = random() & !0xf000 | 0x4000;
    let low = random() & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_uuids_are_of_version_4_and_differ() {
        let (one, two) = (new_uuid(), new_uuid());
        assert_ne!(one, two);
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{one}");
        assert!(one[14..].starts_with('4'), "{one}");
        assert!("89ab".contains(&one[19..20]), "{one}");
    }
}
