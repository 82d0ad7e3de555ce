//! Catalogue of the collections: their segments, parameters, metrics and metadata.

mod lost;

use std::collections::{BTreeMap, BTreeSet};

use super::seq_id::SeqId;
use super::space::{self, Sources, Stored};
pub(crate) use super::space::{
    vector_index_of, Space, SpaceSource, SpaceStatement, CONFIGURATION_OF_PYTHON,
};
use super::{integer, text, text_ref, Damage, Database};
use crate::base::progress::Monitor;
use crate::error::Result;
use crate::store::metadata::{Map, Value};
use rusqlite::types::ValueRef;
use rusqlite::Row;

/// Versions without databases and tenants have collections in these defaults, as an upgrade does.
pub(crate) const DEFAULT_DATABASE: &str = "default_database";
pub(super) const DEFAULT_DATABASE_ID: &str = "00000000-0000-0000-0000-000000000000";
pub(crate) const DEFAULT_TENANT: &str = "default_tenant";

/// The only type of vector segment whose files are in the persist directory.
pub(crate) const LOCAL_INDEX: &str = "urn:chroma:segment/vector/hnsw-local-persisted";

const SEGMENT_METADATA: &str = "segment_metadata";

/// Columns that a collection can do without, each with the `sysdb` migration that introduced it.
const COLUMNS: [(&str, &str, i64); 17] = [
    ("collections", "name", 1),
    ("collections", "dimension", 1),
    ("collections", "database_id", 4),
    ("collections", "config_json_str", 7),
    ("collections", "schema_str", 10),
    ("collection_metadata", "collection_id", 1),
    ("collection_metadata", "key", 1),
    ("collection_metadata", "str_value", 1),
    ("collection_metadata", "int_value", 1),
    ("collection_metadata", "float_value", 1),
    ("collection_metadata", "bool_value", 6),
    (SEGMENT_METADATA, "segment_id", 1),
    (SEGMENT_METADATA, "key", 1),
    (SEGMENT_METADATA, "str_value", 1),
    (SEGMENT_METADATA, "int_value", 1),
    (SEGMENT_METADATA, "float_value", 1),
    (SEGMENT_METADATA, "bool_value", 6),
];

/// Every rowid.
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// A configuration column: its text, or the reason why there is none.
fn stored(
    row: &Row<'_>,
    column: usize,
    is_missing: bool,
) -> std::result::Result<String, Stored<'static>> {
    text(row, column).ok_or_else(|| match row.get_ref(column) {
        Ok(ValueRef::Null) if is_missing => Stored::NoColumn,
        Ok(ValueRef::Null) => Stored::Absent,
        _ => Stored::Other,
    })
}

fn as_stored<'s>(column: &'s std::result::Result<String, Stored<'static>>) -> Stored<'s> {
    match column {
        Ok(text) => Stored::Text(text),
        Err(why) => *why,
    }
}

/// Upper bound in components, far above every embedding model. Buffers are sized by the dimension
/// even where no vector exists, so that a wrong number must not decide it.
const MAX_DIMENSION: usize = 1 << 20;

fn dimension(stored: i64) -> Option<usize> {
    let dimension = usize::try_from(stored).ok()?;
    (1..=MAX_DIMENSION)
        .contains(&dimension)
        .then_some(dimension)
}

/// A segment of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) id: String,
    pub(crate) type_: String,
    /// Sequence number of the last write that it holds, if the database has one.
    pub(crate) watermark: Option<SeqId>,
}

/// A collection as the database describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collection {
    pub(crate) id: String,
    /// The position of its row in the table `collections`, if it is not lost.
    pub(crate) rowid: Option<i64>,
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) tenant: String,
    /// `None` until the first write, or if the stored value is invalid.
    pub(crate) dimension: Option<usize>,
    /// The stored dimension, if it is invalid.
    pub(crate) impossible_dimension: Option<i64>,
    pub(crate) metadata: Map,
    pub(crate) space: SpaceStatement,
    /// The metric in the metadata, which the user may have set at creation or later.
    pub(crate) space_in_metadata: Option<String>,
    pub(crate) vector_segment: Option<Segment>,
    pub(crate) metadata_segment: Option<Segment>,
    /// Construction parameters of its segment, if they are not the defaults.
    pub(crate) m: Option<u64>,
    pub(crate) ef_construction: Option<u64>,
    /// True if only Chroma 1.0 and later write such a configuration.
    pub(crate) configured_by_rust: bool,
    /// True if its row in the table `collections` is lost.
    pub(crate) is_lost: bool,
}

/// The configuration of a collection as the table `collections` has it, unless it is impossibly long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatedConfiguration {
    /// `config_json_str`
    pub(crate) configuration: Option<String>,
    /// `schema_str`
    pub(crate) schema: Option<String>,
}

impl StatedConfiguration {
    /// Reads the configuration of a collection.
    pub(crate) fn read(
        database: &Database,
        collection: &Collection,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let Some(rowid) = collection.rowid else {
            return Ok(found);
        };
        let columns = ["id", "config_json_str", "schema_str"]
            .map(|column| database.column_or_null("collections", column));
        database.scan(
            "collections",
            &columns.join(", "),
            (rowid, rowid),
            monitor,
            |_, row| {
                if text_ref(row, 1).is_none_or(|found| found != collection.id) {
                    return Ok(std::ops::ControlFlow::Continue(()));
                }
                let bounded = |column| {
                    let text = text(row, column);
                    text.filter(|text| text.len() <= space::MAX_CONFIGURATION_BYTES)
                };
                found = Self {
                    configuration: bounded(2),
                    schema: bounded(3),
                };
                Ok(std::ops::ControlFlow::Break(()))
            },
        )?;
        Ok(found)
    }
}

/// All collections of a database.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// Sorted by tenant, database and name.
    pub(crate) collections: Vec<Collection>,
    /// Ids of all segments, of any collection and scope.
    pub(crate) segment_ids: Vec<String>,
    /// Highest migration of each part of the schema, such as `sysdb`.
    pub(crate) schema: BTreeMap<String, i64>,
    /// Columns, with their tables, that are missing although the schema version includes them.
    pub(crate) missing: Vec<(&'static str, &'static str)>,
    pub(crate) damage: Damage,
    /// Number of metadata rows skipped because of [`MAX_OWNER_METADATA_BYTES`] and
    /// [`MAX_METADATA_BYTES`].
    pub(crate) left_out: u64,
}

/// Soft limits in bytes for the metadata of one collection and of all collections, including the
/// memory per row besides key and text. Ten thousand collections with five keys each take 8 MiB.
pub(crate) const MAX_OWNER_METADATA_BYTES: usize = 1 << 20;
pub(crate) const MAX_METADATA_BYTES: usize = 64 << 20;
/// Bytes of memory per row besides its key and text.
const METADATA_ROW_BYTES: usize = 128;

/// Keys of the construction parameters of a segment.
const PARAMETERS: [&str; 3] = ["hnsw:space", "hnsw:M", "hnsw:construction_ef"];

impl Catalog {
    pub(crate) fn read(database: &Database, monitor: &Monitor<'_>) -> Result<Self> {
        Reader {
            database,
            monitor,
            damage: Damage::default(),
            left_out: 0,
        }
        .read()
    }
}

#[derive(Debug, Default)]
struct Segments {
    vector: Option<Segment>,
    metadata: Option<Segment>,
}

/// A row of `collections`, or the remaining knowledge about a lost one.
#[derive(Debug)]
struct CollectionRow {
    id: String,
    rowid: Option<i64>,
    name: Option<String>,
    dimension: Option<i64>,
    database_id: Option<String>,
    /// The text, or the reason why there is none.
    configuration: std::result::Result<String, Stored<'static>>,
    schema: std::result::Result<String, Stored<'static>>,
    is_lost: bool,
}

impl CollectionRow {
    /// Builds the row of a collection whose own row is lost.
    fn lost(id: String, name: Option<String>, database_id: Option<String>) -> Self {
        Self {
            id,
            rowid: None,
            name,
            dimension: None,
            database_id,
            configuration: Err(Stored::NoRow),
            schema: Err(Stored::NoRow),
            is_lost: true,
        }
    }
}

/// Parts from which collections are assembled, by id.
struct Parts {
    databases: BTreeMap<String, (String, String)>,
    segments: BTreeMap<String, Segments>,
    collection_metadata: BTreeMap<String, Map>,
    segment_metadata: BTreeMap<String, Map>,
    /// True if rows of `segment_metadata` may be lost.
    segment_is_damaged: bool,
    collections: Vec<Collection>,
}

impl Parts {
    fn add(&mut self, row: CollectionRow) {
        let database_id = row.database_id.unwrap_or_default();
        let (database, tenant) = match self.databases.get(&database_id) {
            Some((name, tenant)) => (name.clone(), tenant.clone()),
            None => (DEFAULT_DATABASE.into(), DEFAULT_TENANT.into()),
        };
        let metadata = self.collection_metadata.remove(&row.id).unwrap_or_default();
        let Segments {
            vector: vector_segment,
            metadata: metadata_segment,
        } = self.segments.remove(&row.id).unwrap_or_default();
        let of_segment = vector_segment
            .as_ref()
            .and_then(|segment| self.segment_metadata.remove(&segment.id))
            .unwrap_or_default();
        let sources = Sources {
            segment: &of_segment,
            segment_is_damaged: self.segment_is_damaged,
            schema: as_stored(&row.schema),
            configuration: as_stored(&row.configuration),
            metadata: &metadata,
        };
        let space = space::find_space(&sources);
        let parameter = |key, name| space::find_parameter((key, name), &sources);
        self.collections.push(Collection {
            m: parameter("hnsw:M", "max_neighbors"),
            ef_construction: parameter("hnsw:construction_ef", "ef_construction"),
            // The id serves as the name of a collection whose name is lost.
            name: match row.name {
                Some(name) => name,
                None if row.is_lost => row.id.clone(),
                None => String::new(),
            },
            id: row.id,
            rowid: row.rowid,
            database,
            tenant,
            dimension: row.dimension.and_then(dimension),
            impossible_dimension: row.dimension.filter(|stored| dimension(*stored).is_none()),
            space_in_metadata: space::name_in(&metadata).map(str::to_string),
            configured_by_rust: space::is_of_rust(&sources),
            metadata,
            space,
            vector_segment,
            metadata_segment,
            is_lost: row.is_lost,
        });
    }
}

struct Reader<'d> {
    database: &'d Database,
    monitor: &'d Monitor<'d>,
    damage: Damage,
    left_out: u64,
}

impl Reader<'_> {
    fn each(
        &mut self,
        table: &'static str,
        columns: &str,
        mut visit: impl FnMut(&Row<'_>),
    ) -> Result<()> {
        self.each_numbered(table, columns, |_, row| visit(row))
    }

    /// Visits the rows of a table, with the rowid of each.
    fn each_numbered(
        &mut self,
        table: &'static str,
        columns: &str,
        mut visit: impl FnMut(i64, &Row<'_>),
    ) -> Result<()> {
        let damage = self
            .database
            .scan(table, columns, ALL, self.monitor, |rowid, row| {
                visit(rowid, row);
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
        self.damage.add(damage);
        Ok(())
    }

    fn read(mut self) -> Result<Catalog> {
        let databases = self.databases()?;
        let watermarks = self.watermarks()?;
        let (segments, segment_ids) = self.segments(&watermarks)?;
        let collection_metadata = self.metadata("collection_metadata", "collection_id", |id| {
            segments.contains_key(id)
        })?;
        let ids: BTreeSet<_> = segment_ids.iter().map(String::as_str).collect();
        let before = self.damage;
        let segment_metadata =
            self.metadata(SEGMENT_METADATA, "segment_id", |id| ids.contains(id))?;
        let segment_damage = self.damage.since(before);
        let schema = self.schema()?;
        let missing = self.missing_columns(&schema);
        let is_missing = |table, column| missing.contains(&(table, column));
        let segment_is_damaged = segment_damage != Damage::default()
            || ["segment_id", "key", "str_value"]
                .into_iter()
                .any(|column| is_missing(SEGMENT_METADATA, column));
        let no_configuration = is_missing("collections", "config_json_str");
        let no_schema = is_missing("collections", "schema_str");

        let lost = lost::Lost::read(self.database, self.monitor)?;
        let mut parts = Parts {
            databases,
            segments,
            collection_metadata,
            segment_metadata,
            segment_is_damaged,
            collections: Vec::new(),
        };
        let or_null = |column| self.database.column_or_null("collections", column);
        let columns = format!(
            "id, {}, {}, {}, {}, {}",
            or_null("name"),
            or_null("dimension"),
            or_null("database_id"),
            or_null("config_json_str"),
            or_null("schema_str")
        );
        let mut known = BTreeSet::new();
        self.each_numbered("collections", &columns, |rowid, row| {
            let Some(id) = text(row, 1) else { return };
            if let Some(lost) = &lost {
                // A page of another table may have been linked into this one: accept only ids that
                // another source lists, and each of them once.
                let is_listed = lost.names.contains_key(&id) || parts.segments.contains_key(&id);
                if !is_listed || !known.insert(id.clone()) {
                    return;
                }
            }
            parts.add(CollectionRow {
                id,
                rowid: Some(rowid),
                name: text(row, 2),
                dimension: integer(row, 3),
                database_id: text(row, 4),
                configuration: stored(row, 5, no_configuration),
                schema: stored(row, 6, no_schema),
                is_lost: false,
            });
        })?;
        if let Some(lost) = lost {
            let of_segments: Vec<_> = parts.segments.keys().cloned().collect();
            for row in lost.collections(of_segments, &known) {
                parts.add(row);
            }
        }
        let mut collections = parts.collections;
        // Rows come in rowid order; reports need an order that does not depend on it.
        collections.sort_by(|a, b| {
            let key = |c: &Collection| (c.tenant.clone(), c.database.clone(), c.name.clone());
            key(a).cmp(&key(b))
        });
        Ok(Catalog {
            collections,
            segment_ids,
            schema,
            missing,
            damage: self.damage,
            left_out: self.left_out,
        })
    }

    /// Reads name and tenant of each database, by id.
    fn databases(&mut self) -> Result<BTreeMap<String, (String, String)>> {
        let mut databases = BTreeMap::new();
        self.each("databases", "id, name, tenant_id", |row| {
            if let (Some(id), Some(name), Some(tenant)) = (text(row, 1), text(row, 2), text(row, 3))
            {
                databases.insert(id, (name, tenant));
            }
        })?;
        Ok(databases)
    }

    fn watermarks(&mut self) -> Result<BTreeMap<String, SeqId>> {
        let mut watermarks = BTreeMap::new();
        self.each("max_seq_id", "segment_id, seq_id", |row| {
            let seq_id = row.get_ref(2).ok().and_then(SeqId::decode);
            if let (Some(segment), Some(seq_id)) = (text(row, 1), seq_id) {
                watermarks.insert(segment, seq_id);
            }
        })?;
        Ok(watermarks)
    }

    /// Reads the segments by collection, and the ids of all segments.
    fn segments(
        &mut self,
        watermarks: &BTreeMap<String, SeqId>,
    ) -> Result<(BTreeMap<String, Segments>, Vec<String>)> {
        let mut segments = BTreeMap::<String, Segments>::new();
        let mut ids = Vec::new();
        self.each("segments", "id, type, scope, collection", |row| {
            let Some(id) = text(row, 1) else { return };
            ids.push(id.clone());
            let Some(collection) = text(row, 4) else {
                return;
            };
            let segments = segments.entry(collection).or_default();
            let place = match text(row, 3).as_deref() {
                Some("VECTOR") => &mut segments.vector,
                Some("METADATA") => &mut segments.metadata,
                _ => return,
            };
            // A collection has one segment per scope; the first row counts.
            place.get_or_insert_with(|| Segment {
                watermark: watermarks.get(&id).copied(),
                type_: text(row, 2).unwrap_or_default(),
                id,
            });
        })?;
        Ok((segments, ids))
    }

    /// Reads a table of typed values, by owner.
    fn metadata(
        &mut self,
        table: &'static str,
        owner: &'static str,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Map>> {
        let columns = [
            owner,
            "key",
            "str_value",
            "int_value",
            "float_value",
            "bool_value",
        ]
        .map(|column| self.database.column_or_null(table, column));
        let mut all = BTreeMap::<String, (Map, usize)>::new();
        let mut total = 0_usize;
        let mut left_out = 0;
        self.each(table, &columns.join(", "), |row| {
            let (Some(owner), Some(key)) = (text_ref(row, 1), text_ref(row, 2)) else {
                return;
            };
            let length = text_ref(row, 3).map_or(0, |text| text.len());
            let needed = [owner.len(), key.len(), length].into_iter();
            let needed = needed.fold(METADATA_ROW_BYTES, usize::saturating_add);
            // Construction parameters are always read: there are only a few such keys, and a wrong
            // default would corrupt the result.
            let is_parameter = PARAMETERS.contains(&key.as_ref())
                && length <= METADATA_ROW_BYTES
                && is_known(&owner);
            if !is_parameter {
                let held = all.get(owner.as_ref()).map_or(0, |known| known.1);
                let is_full = held.saturating_add(needed) > MAX_OWNER_METADATA_BYTES
                    || total.saturating_add(needed) > MAX_METADATA_BYTES;
                if is_full {
                    left_out += 1;
                    return;
                }
                total = total.saturating_add(needed);
            }
            let value = match super::values::value(row, 3) {
                // Keeps the key although its value is unreadable: an invalid metric of the segment
                // must not pass as an absent one.
                None if table == SEGMENT_METADATA => Some(Value::Text(String::new())),
                value => value,
            };
            if let Some(value) = value {
                let (map, held) = all.entry(owner.into_owned()).or_default();
                *held = held.saturating_add(needed);
                map.insert(key.into_owned(), value);
            }
        })?;
        self.left_out += left_out;
        let maps = all.into_iter().map(|(owner, (map, _))| (owner, map));
        Ok(maps.collect())
    }

    /// Columns that the migrations should have made in the tables read here, but that are missing.
    fn missing_columns(&self, schema: &BTreeMap<String, i64>) -> Vec<(&'static str, &'static str)> {
        let version = schema.get("sysdb").copied().unwrap_or_default();
        let promised = COLUMNS.iter().filter(|(_, _, since)| *since <= version);
        promised
            .map(|(table, column, _)| (*table, *column))
            .filter(|(table, column)| !self.database.has_column(table, column))
            .collect()
    }

    fn schema(&mut self) -> Result<BTreeMap<String, i64>> {
        let mut schema = BTreeMap::new();
        self.each("migrations", "dir, version", |row| {
            if let (Some(part), Some(version)) = (text(row, 1), integer(row, 2)) {
                // One row per applied migration: the highest version counts.
                let newest = schema.entry(part).or_insert(version);
                *newest = version.max(*newest);
            }
        })?;
        Ok(schema)
    }
}
