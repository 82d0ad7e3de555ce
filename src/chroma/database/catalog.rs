//! Which collections there are, where their segments are, and which distance they use.

mod lost;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Row;
use serde_json::Value as Json;

use super::seq_id::SeqId;
use super::{integer, text, Damage, Database};
use crate::chroma::metadata::{Map, Value};
use crate::error::Result;
use crate::progress::Monitor;

/// Collections of versions without databases and tenants are in these, as after an upgrade.
const DEFAULT_DATABASE: &str = "default_database";
const DEFAULT_TENANT: &str = "default_tenant";

/// The one type of vector segment that has its index in the persist directory.
pub(crate) const LOCAL_INDEX: &str = "urn:chroma:segment/vector/hnsw-local-persisted";

/// Every rowid.
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// The distance that a collection's index uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    L2,
    Cosine,
    Ip,
}

impl Space {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "l2" => Some(Self::L2),
            "cosine" => Some(Self::Cosine),
            "ip" => Some(Self::Ip),
            _ => None,
        }
    }

    /// Chroma's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Ip => "ip",
        }
    }
}

/// Where a collection's distance was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceSource {
    SegmentMetadata,
    Schema,
    Configuration,
    CollectionMetadata,
    Default,
}

impl SpaceSource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SegmentMetadata => "segment_metadata",
            Self::Schema => "schema_str",
            Self::Configuration => "config_json_str",
            Self::CollectionMetadata => "collection_metadata",
            Self::Default => "default",
        }
    }
}

/// Far more components than any model gives. A vector takes so much room whether it is there or
/// not, which a wrong number must not decide.
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
    /// The last write that it holds, where the database says so.
    pub(crate) watermark: Option<SeqId>,
}

/// What the database says of a collection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collection {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) tenant: String,
    /// Absent until the first write, or where it is none.
    pub(crate) dimension: Option<usize>,
    /// What stands in its place and is none.
    pub(crate) impossible_dimension: Option<i64>,
    pub(crate) metadata: Map,
    pub(crate) space: Space,
    pub(crate) space_source: SpaceSource,
    /// The distance in the metadata, where it is another: what the user asked for once, or later.
    pub(crate) space_in_metadata: Option<String>,
    pub(crate) vector_segment: Option<Segment>,
    pub(crate) metadata_segment: Option<Segment>,
    /// The parameters that its index was created with, where they are not the defaults.
    pub(crate) m: Option<u64>,
    pub(crate) ef_construction: Option<u64>,
    /// Whether its configuration is one that only Chroma 1.0 and later write.
    pub(crate) configured_by_rust: bool,
    /// Whether its row in the table of collections is lost.
    pub(crate) is_lost: bool,
}

/// Every collection of a database.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// By tenant, database and name.
    pub(crate) collections: Vec<Collection>,
    /// The id of every segment, of whatever collection and scope.
    pub(crate) segment_ids: Vec<String>,
    /// The version of each part of the schema.
    pub(crate) schema: BTreeMap<String, i64>,
    pub(crate) damage: Damage,
}

impl Catalog {
    pub(crate) fn read(database: &Database, monitor: &Monitor<'_>) -> Result<Self> {
        Reader {
            database,
            monitor,
            damage: Damage::default(),
        }
        .read()
    }
}

#[derive(Debug, Default)]
struct Segments {
    vector: Option<Segment>,
    metadata: Option<Segment>,
}

/// A row of `collections`, or what else is known of one that is lost.
#[derive(Debug, Default)]
struct CollectionRow {
    id: String,
    name: Option<String>,
    dimension: Option<i64>,
    database_id: Option<String>,
    configuration: Option<String>,
    schema: Option<String>,
    is_lost: bool,
}

/// What collections are made of, by id.
struct Parts {
    databases: BTreeMap<String, (String, String)>,
    segments: BTreeMap<String, Segments>,
    collection_metadata: BTreeMap<String, Map>,
    segment_metadata: BTreeMap<String, Map>,
    collections: Vec<Collection>,
}

impl Parts {
    fn add(&mut self, row: CollectionRow) {
        let database_id = row.database_id.unwrap_or_default();
        let (database, tenant) = match self.databases.get(&database_id) {
            Some((name, tenant)) => (name.clone(), tenant.clone()),
            None => (DEFAULT_DATABASE.into(), DEFAULT_TENANT.into()),
        };
        let (configuration, schema) = (row.configuration.as_deref(), row.schema.as_deref());
        let metadata = self.collection_metadata.remove(&row.id).unwrap_or_default();
        let Segments {
            vector: vector_segment,
            metadata: metadata_segment,
        } = self.segments.remove(&row.id).unwrap_or_default();
        let of_segment = vector_segment
            .as_ref()
            .and_then(|segment| self.segment_metadata.remove(&segment.id))
            .unwrap_or_default();
        let (space, space_source) = find_space(&of_segment, schema, configuration, &metadata);
        let parameter =
            |key, name| find_parameter((key, name), &of_segment, schema, configuration, &metadata);
        self.collections.push(Collection {
            m: parameter("hnsw:M", "max_neighbors"),
            ef_construction: parameter("hnsw:construction_ef", "ef_construction"),
            name: match row.name {
                Some(name) => name,
                None if row.is_lost => row.id.clone(),
                None => String::new(),
            },
            id: row.id,
            database,
            tenant,
            dimension: row.dimension.and_then(dimension),
            impossible_dimension: row.dimension.filter(|stored| dimension(*stored).is_none()),
            space_in_metadata: space_of(&metadata)
                .filter(|name| *name != space.name())
                .map(str::to_string),
            metadata,
            space,
            space_source,
            vector_segment,
            metadata_segment,
            configured_by_rust: configuration
                .and_then(parse)
                .is_some_and(|json| json.get("hnsw_configuration").is_none()),
            is_lost: row.is_lost,
        });
    }
}

struct Reader<'d> {
    database: &'d Database,
    monitor: &'d Monitor<'d>,
    damage: Damage,
}

impl Reader<'_> {
    fn each(
        &mut self,
        table: &'static str,
        columns: &str,
        mut visit: impl FnMut(&Row<'_>),
    ) -> Result<()> {
        let damage = self
            .database
            .scan(table, columns, ALL, self.monitor, |_, row| {
                visit(row);
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
        self.damage.add(damage);
        Ok(())
    }

    fn read(mut self) -> Result<Catalog> {
        let databases = self.databases()?;
        let watermarks = self.watermarks()?;
        let (segments, segment_ids) = self.segments(&watermarks)?;
        let collection_metadata = self.metadata("collection_metadata", "collection_id")?;
        let segment_metadata = self.metadata("segment_metadata", "segment_id")?;

        let lost = lost::Lost::read(self.database, self.monitor)?;
        let mut parts = Parts {
            databases,
            segments,
            collection_metadata,
            segment_metadata,
            collections: Vec::new(),
        };
        let or_null = |column| self.database.column_or_null("collections", column);
        let columns = format!(
            "id, name, dimension, {}, {}, {}",
            or_null("database_id"),
            or_null("config_json_str"),
            or_null("schema_str")
        );
        let mut known = BTreeSet::new();
        self.each("collections", &columns, |row| {
            let Some(id) = text(row, 1) else { return };
            if let Some(lost) = &lost {
                // A page of another table may be among those of this one.
                let is_listed = lost.names.contains_key(&id) || parts.segments.contains_key(&id);
                if !is_listed || !known.insert(id.clone()) {
                    return;
                }
            }
            parts.add(CollectionRow {
                id,
                name: text(row, 2),
                dimension: integer(row, 3),
                database_id: text(row, 4),
                configuration: text(row, 5),
                schema: text(row, 6),
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
        collections.sort_by(|a, b| {
            let key = |c: &Collection| (c.tenant.clone(), c.database.clone(), c.name.clone());
            key(a).cmp(&key(b))
        });
        let schema = self.schema()?;
        Ok(Catalog {
            collections,
            segment_ids,
            schema,
            damage: self.damage,
        })
    }

    /// By id, the name and the tenant.
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

    /// By collection; and the ids of all.
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
            place.get_or_insert_with(|| Segment {
                watermark: watermarks.get(&id).copied(),
                type_: text(row, 2).unwrap_or_default(),
                id,
            });
        })?;
        Ok((segments, ids))
    }

    /// By owner, the rows of a table of typed values.
    fn metadata(
        &mut self,
        table: &'static str,
        owner: &'static str,
    ) -> Result<BTreeMap<String, Map>> {
        let bool_value = self.database.column_or_null(table, "bool_value");
        let columns = format!("{owner}, key, str_value, int_value, float_value, {bool_value}");
        let mut all = BTreeMap::<String, Map>::new();
        self.each(table, &columns, |row| {
            if let (Some(owner), Some(key), Some(value)) =
                (text(row, 1), text(row, 2), super::values::value(row, 3))
            {
                all.entry(owner).or_default().insert(key, value);
            }
        })?;
        Ok(all)
    }

    fn schema(&mut self) -> Result<BTreeMap<String, i64>> {
        let mut schema = BTreeMap::new();
        self.each("migrations", "dir, version", |row| {
            if let (Some(part), Some(version)) = (text(row, 1), integer(row, 2)) {
                let newest = schema.entry(part).or_insert(version);
                *newest = version.max(*newest);
            }
        })?;
        Ok(schema)
    }
}

fn parse(json: &str) -> Option<Json> {
    serde_json::from_str(json).ok().filter(Json::is_object)
}

fn space_of(metadata: &Map) -> Option<&str> {
    match metadata.get("hnsw:space") {
        Some(Value::Text(name)) => Some(name),
        _ => None,
    }
}

/// The distance that the index was built with.
///
/// Segment metadata comes first: only versions before 1.0 write it, and a later change of a
/// migrated collection's configuration writes l2 into it whatever the index was built with. For the
/// same reason `hnsw_configuration`, the form of 0.5 and 0.6, is never looked at: it always says l2.
/// What the collection's metadata says can be changed without an effect on the index.
fn find_space(
    of_segment: &Map,
    schema: Option<&str>,
    configuration: Option<&str>,
    metadata: &Map,
) -> (Space, SpaceSource) {
    if let Some(space) = space_of(of_segment).and_then(Space::from_name) {
        return (space, SpaceSource::SegmentMetadata);
    }
    if let Some(schema) = schema.and_then(parse) {
        let config = "/float_list/vector_index/config/space";
        // `#` stands for itself in a JSON pointer.
        for at in ["/keys/#embedding", "/defaults"] {
            let space = schema.pointer(&format!("{at}{config}"));
            if let Some(space) = space.and_then(Json::as_str).and_then(Space::from_name) {
                return (space, SpaceSource::Schema);
            }
        }
    }
    match configuration.and_then(parse) {
        Some(configuration) => {
            for at in ["/vector_index/hnsw/space", "/vector_index/spann/space"] {
                let space = configuration.pointer(at);
                if let Some(space) = space.and_then(Json::as_str).and_then(Space::from_name) {
                    return (space, SpaceSource::Configuration);
                }
            }
        }
        None => {
            if let Some(space) = space_of(metadata).and_then(Space::from_name) {
                return (space, SpaceSource::CollectionMetadata);
            }
        }
    }
    (Space::L2, SpaceSource::Default)
}

/// A parameter of the index, which is `key` in metadata and `name` in configurations. Where it is
/// looked for, and in which order, is as for the distance.
fn find_parameter(
    (key, name): (&str, &str),
    of_segment: &Map,
    schema: Option<&str>,
    configuration: Option<&str>,
    metadata: &Map,
) -> Option<u64> {
    let of_map = |map: &Map| match map.get(key) {
        Some(Value::Int(value)) => u64::try_from(*value).ok(),
        _ => None,
    };
    let of_json = |json: Option<&str>, start: &str| {
        let json = json.and_then(parse)?;
        json.pointer(&format!("{start}/hnsw/{name}"))?.as_u64()
    };
    let config = "float_list/vector_index/config";
    of_map(of_segment)
        .or_else(|| of_json(schema, &format!("/keys/#embedding/{config}")))
        .or_else(|| of_json(schema, &format!("/defaults/{config}")))
        .or_else(|| of_json(configuration, "/vector_index"))
        .or_else(|| of_map(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_that_the_index_was_created_with() {
        let of = |value| {
            let mut map = Map::default();
            map.insert("hnsw:M".into(), Value::Int(value));
            map
        };
        let schema = r##"{"defaults":{"float_list":{"vector_index":{"config":{"hnsw":null}}}},
            "keys":{"#embedding":{"float_list":{"vector_index":{"config":
            {"space":"l2","hnsw":{"max_neighbors":12}}}}}}}"##;
        let configuration = r#"{"vector_index":{"hnsw":{"max_neighbors":24}}}"#;
        let none = Map::default();
        for (segment, schema, configuration, collection, expected) in [
            (&of(8), Some(schema), Some(configuration), &of(32), Some(8)),
            (&none, Some(schema), Some(configuration), &of(32), Some(12)),
            (&none, Some("null"), Some(configuration), &of(32), Some(24)),
            (&none, None, Some("{}"), &of(32), Some(32)),
            (&none, None, None, &of(-1), None),
            (&none, None, None, &none, None),
        ] {
            let keys = ("hnsw:M", "max_neighbors");
            let found = find_parameter(keys, segment, schema, configuration, collection);
            assert_eq!(found, expected);
        }
    }

    fn metadata(space: Option<&str>) -> Map {
        let mut map = Map::default();
        if let Some(space) = space {
            map.insert("hnsw:space".into(), Value::Text(space.into()));
        }
        map
    }

    #[test]
    fn the_distance_is_what_the_index_was_built_with() {
        let schema = r##"{"defaults":{"float_list":{"vector_index":{"config":{"space":"l2"}}}},
            "keys":{"#embedding":{"float_list":{"vector_index":{"config":{"space":"cosine"}}}}}}"##;
        let defaults = r#"{"defaults":{"float_list":{"vector_index":{"config":{"space":"ip"}}}}}"#;
        let lies = r#"{"hnsw_configuration":{"space":"l2"}}"#;
        let hnsw = r#"{"vector_index":{"hnsw":{"space":"cosine"}}}"#;
        let spann = r#"{"vector_index":{"spann":{"space":"ip"}}}"#;
        use Space::{Cosine, Ip, L2};
        use SpaceSource as From;
        for (segment, schema, configuration, collection, expected) in [
            (
                Some("cosine"),
                None,
                Some(lies),
                None,
                (Cosine, From::SegmentMetadata),
            ),
            (
                Some("ip"),
                Some(schema),
                Some(hnsw),
                Some("l2"),
                (Ip, From::SegmentMetadata),
            ),
            (
                None,
                Some(schema),
                Some("{}"),
                Some("ip"),
                (Cosine, From::Schema),
            ),
            (None, Some(defaults), Some("{}"), None, (Ip, From::Schema)),
            (
                None,
                Some("null"),
                Some(hnsw),
                Some("ip"),
                (Cosine, From::Configuration),
            ),
            (None, None, Some(spann), None, (Ip, From::Configuration)),
            (None, None, Some(lies), Some("cosine"), (L2, From::Default)),
            (
                None,
                None,
                None,
                Some("cosine"),
                (Cosine, From::CollectionMetadata),
            ),
            (
                None,
                None,
                Some(""),
                Some("ip"),
                (Ip, From::CollectionMetadata),
            ),
            (Some("manhattan"), None, None, None, (L2, From::Default)),
            (None, Some("{"), Some("["), None, (L2, From::Default)),
        ] {
            let (segment, collection) = (metadata(segment), metadata(collection));
            assert_eq!(
                find_space(&segment, schema, configuration, &collection),
                expected
            );
        }
    }
}
