//! Parameters of a collection's segment, as the database states them.

use serde_json::Value as Json;

use crate::store::metadata::{Map, Value};

/// Longest configuration in bytes that is parsed. Chroma's have about a thousand bytes, and parsed
/// they take twenty times as much memory.
pub(super) const MAX_CONFIGURATION_BYTES: usize = 1 << 20;

/// Key of the metric in the metadata of segments and collections.
pub(super) const SPACE: &str = "hnsw:space";

/// Key that only a configuration of Chroma before 1.0 has.
pub(crate) const CONFIGURATION_OF_PYTHON: &str = "hnsw_configuration";

/// JSON pointers to the vector index in a schema, in order of precedence.
const IN_SCHEMA: [&str; 2] = [
    // `#` stands for itself in a JSON pointer.
    "/keys/#embedding/float_list/vector_index/config",
    "/defaults/float_list/vector_index/config",
];

/// The metric that a collection's segment uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    L2,
    Cosine,
    Ip,
}

impl Space {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "l2" => Some(Self::L2),
            "cosine" => Some(Self::Cosine),
            "ip" => Some(Self::Ip),
            _ => None,
        }
    }

    /// Chroma's name of the metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Ip => "ip",
        }
    }
}

/// Source of a collection's metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceSource {
    SegmentMetadata,
    Schema,
    Configuration,
    CollectionMetadata,
    Default,
    /// Stated by the caller.
    Option,
    /// Inferred from the vectors.
    Evidence,
    /// No source: the metric is a guess.
    Undecided,
}

impl SpaceSource {
    /// Returns true if the metric is stated somewhere, not guessed or inferred.
    pub(crate) fn is_said(self) -> bool {
        !matches!(self, Self::Default | Self::Evidence | Self::Undecided)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SegmentMetadata => "segment_metadata",
            Self::Schema => "schema_str",
            Self::Configuration => "config_json_str",
            Self::CollectionMetadata => "collection_metadata",
            Self::Default => "default",
            Self::Option => "option",
            Self::Evidence => "evidence",
            Self::Undecided => "undecided",
        }
    }
}

/// State of a configuration column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored<'s> {
    Absent,
    /// The column is missing although the migrations should have made it.
    NoColumn,
    /// The row is lost.
    NoRow,
    Text(&'s str),
    /// A value of another type.
    Other,
}

/// All sources of a segment's parameters in the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'s> {
    pub(super) segment: &'s Map,
    /// True if rows of `segment_metadata` may be lost.
    pub(super) segment_is_damaged: bool,
    pub(super) schema: Stored<'s>,
    pub(super) configuration: Stored<'s>,
    pub(super) metadata: &'s Map,
}

/// Metric of a segment according to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceStatement {
    pub(crate) space: Space,
    pub(crate) source: SpaceSource,
    /// True if an unreadable source of higher precedence may state another metric.
    pub(crate) in_doubt: bool,
    /// Messages about configuration that cannot be read.
    pub(crate) unreadable: Vec<String>,
}

impl Default for SpaceStatement {
    fn default() -> Self {
        Self {
            space: Space::L2,
            source: SpaceSource::Default,
            in_doubt: false,
            unreadable: Vec::new(),
        }
    }
}

impl SpaceStatement {
    /// Returns true if the metric is from a source that is fixed when the segment is created.
    pub(crate) fn is_of_index(&self) -> bool {
        use SpaceSource::{Configuration, Schema, SegmentMetadata};
        matches!(self.source, SegmentMetadata | Schema | Configuration)
    }
}

/// Parses the JSON of a column: `None` if absent, or the reason why it cannot be read.
fn document(stored: Stored<'_>) -> Result<Option<Json>, String> {
    match stored {
        Stored::Absent | Stored::Text("" | "null") => Ok(None),
        Stored::NoColumn => {
            Err("found no such column, expected the one that the migrations make".into())
        }
        Stored::NoRow => Err("found no row, expected the collection's".into()),
        Stored::Other => Err("found a value that is not text, expected JSON".into()),
        Stored::Text(text) if text.len() > MAX_CONFIGURATION_BYTES => Err(format!(
            "found {} bytes, expected at most {MAX_CONFIGURATION_BYTES}",
            text.len()
        )),
        Stored::Text(text) => match serde_json::from_str::<Json>(text) {
            Ok(json) if json.is_object() => Ok(Some(json)),
            Ok(_) => Err("found JSON of another type, expected an object".into()),
            Err(error) => Err(format!(
                "found text that is not JSON ({error}), expected an object"
            )),
        },
    }
}

/// Returns the configuration of the vectors in a schema.
pub(crate) fn vector_index_of(schema: &Json) -> Option<&Json> {
    IN_SCHEMA.iter().find_map(|place| schema.pointer(place))
}

/// Finds the metric in the first of several places of a document that has one.
fn space_at(json: &Json, places: &[&str]) -> Result<Option<Space>, String> {
    for place in places {
        match json.pointer(&format!("{place}/space")) {
            None | Some(Json::Null) => {}
            Some(found) => {
                let space = found.as_str().and_then(Space::from_name);
                return space.map(Some).ok_or_else(|| unknown(found));
            }
        }
    }
    Ok(None)
}

fn unknown(found: impl std::fmt::Display) -> String {
    format!("found the metric {found}, expected l2, cosine or ip")
}

fn of_schema(schema: Stored<'_>) -> Result<Option<Space>, String> {
    let Some(json) = document(schema)? else {
        return Ok(None);
    };
    let is_there = |place: &&str| json.pointer(place).is_some_and(Json::is_object);
    if !IN_SCHEMA.iter().any(is_there) {
        return Err("found no vector_index, expected one".into());
    }
    space_at(&json, &IN_SCHEMA)
}

fn of_configuration(
    configuration: Stored<'_>,
    may_be_empty: bool,
) -> Result<Option<Space>, String> {
    let Some(json) = document(configuration)? else {
        return Ok(None);
    };
    let is_empty = json.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty && !may_be_empty {
        return Err("found {}, expected a configuration, because there is no schema_str".into());
    }
    space_at(&json, &["/vector_index/hnsw", "/vector_index/spann"])
}

fn of_map(map: &Map) -> Result<Option<Space>, String> {
    match map.get(SPACE) {
        None => Ok(None),
        Some(Value::Text(name)) => Space::from_name(name)
            .map(Some)
            .ok_or_else(|| unknown(format_args!("{name:?}"))),
        Some(_) => Err(unknown("of another type")),
    }
}

/// The metric's name in the metadata, valid or not.
pub(super) fn name_in(metadata: &Map) -> Option<&str> {
    match metadata.get(SPACE) {
        Some(Value::Text(name)) => Some(name),
        _ => None,
    }
}

/// Determines the metric that the segment was built with.
///
/// Segment metadata takes precedence, because only versions before 1.0 write it. A later
/// configuration change of a migrated collection writes l2 into the configuration regardless of the
/// segment. `hnsw_configuration`, the form of 0.5 and 0.6, is ignored for the same reason: it
/// always states l2. The collection's metadata can be changed without an effect on the segment.
pub(super) fn find_space(sources: &Sources<'_>) -> SpaceStatement {
    let mut statement = SpaceStatement::default();
    let of_segment = match of_map(sources.segment) {
        Ok(None) if sources.segment_is_damaged => {
            Err("found a damaged table, expected the parameters of the segment".into())
        }
        found => found,
    };
    statement.look(SpaceSource::SegmentMetadata, of_segment);
    statement.look(SpaceSource::Schema, of_schema(sources.schema));
    // Chroma writes an empty configuration only with a schema.
    let may_be_empty = statement.is_found() || document(sources.schema) != Ok(None);
    let configuration = of_configuration(sources.configuration, may_be_empty);
    statement.look(SpaceSource::Configuration, configuration);
    if statement.is_found() {
        return statement;
    }
    let asked = of_map(sources.metadata);
    if matches!(document(sources.configuration), Ok(Some(_))) {
        // The user requested a metric, and no source of higher precedence confirms or refuses it.
        statement.in_doubt |=
            asked.is_ok_and(|asked| asked.is_some_and(|asked| asked != Space::L2));
    } else {
        statement.look(SpaceSource::CollectionMetadata, asked);
    }
    statement
}

impl SpaceStatement {
    fn is_found(&self) -> bool {
        self.source != SpaceSource::Default
    }

    /// Takes the metric of a source, unless one of higher precedence has stated it.
    fn look(&mut self, place: SpaceSource, found: Result<Option<Space>, String>) {
        match found {
            Ok(Some(space)) if !self.is_found() => (self.space, self.source) = (space, place),
            // A lower source that disagrees is normal: the user may have changed it since.
            Ok(_) => {}
            Err(why) => {
                self.in_doubt |= !self.is_found();
                self.unreadable.push(format!("{}: {why}", place.name()));
            }
        }
    }
}

/// Finds a parameter of the segment, named `key` in metadata and `name` in configurations. The
/// sources have the same order as for the metric.
pub(super) fn find_parameter((key, name): (&str, &str), sources: &Sources<'_>) -> Option<u64> {
    let of_map = |map: &Map| match map.get(key) {
        Some(Value::Int(value)) => u64::try_from(*value).ok(),
        _ => None,
    };
    let of_json = |stored: Stored<'_>, place: &str| {
        let json = document(stored).ok()??;
        json.pointer(&format!("{place}/hnsw/{name}"))?.as_u64()
    };
    let [own, defaults] = IN_SCHEMA;
    of_map(sources.segment)
        .or_else(|| of_json(sources.schema, own))
        .or_else(|| of_json(sources.schema, defaults))
        .or_else(|| of_json(sources.configuration, "/vector_index"))
        .or_else(|| of_map(sources.metadata))
}

/// Returns true if only Chroma 1.0 and later write such a schema and configuration.
pub(super) fn is_of_rust(sources: &Sources<'_>) -> bool {
    let of = |stored| document(stored).ok().flatten();
    let configuration = of(sources.configuration);
    configuration.is_some_and(|json| json.get(CONFIGURATION_OF_PYTHON).is_none())
        || of(sources.schema).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources<'s>(
        segment: &'s Map,
        schema: Option<&'s str>,
        configuration: Option<&'s str>,
        metadata: &'s Map,
    ) -> Sources<'s> {
        let stored = |text: Option<&'s str>| text.map_or(Stored::Absent, Stored::Text);
        Sources {
            segment,
            segment_is_damaged: false,
            schema: stored(schema),
            configuration: stored(configuration),
            metadata,
        }
    }

    #[test]
    fn parameters_come_from_the_creation_of_the_segment() {
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
            let sources = sources(segment, schema, configuration, collection);
            assert_eq!(find_parameter(keys, &sources), expected);
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
    fn the_metric_comes_from_the_creation_of_the_segment() {
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
            let sources = sources(&segment, schema, configuration, &collection);
            let statement = find_space(&sources);
            assert_eq!((statement.space, statement.source), expected);
        }
    }

    #[test]
    fn unreadable_sources_put_the_metric_in_doubt() {
        let schema = r##"{"keys":{"#embedding":{"float_list":{"vector_index":{"config":
            {"space":"cosine"}}}}}}"##;
        let of_type = schema.replace("\"cosine\"", "7");
        let unknown = schema.replace("cosine", "manhattan");
        let none = metadata(None);
        let empty = Stored::Text("{}");
        let text = Stored::Text;
        let full = text(r#"{"vector_index":{"hnsw":{"space":"ip"}}}"#);
        for (segment, schema, configuration, space, in_doubt, unreadable) in [
            (None, text(schema), empty, Space::Cosine, false, 0),
            (None, text(&schema[..60]), empty, Space::L2, true, 1),
            (None, text(&of_type), empty, Space::L2, true, 1),
            (None, text(&unknown), empty, Space::L2, true, 1),
            (None, text("{}"), empty, Space::L2, true, 1),
            (None, Stored::Other, empty, Space::L2, true, 1),
            (None, Stored::NoColumn, empty, Space::L2, true, 1),
            (None, Stored::Absent, empty, Space::L2, true, 1),
            (None, Stored::Absent, Stored::Absent, Space::L2, false, 0),
            (None, Stored::Absent, text("{\"vec"), Space::L2, true, 1),
            (None, Stored::Absent, Stored::NoColumn, Space::L2, true, 1),
            // Another source states it.
            (
                None,
                text(schema),
                Stored::NoColumn,
                Space::Cosine,
                false,
                1,
            ),
            (None, Stored::NoColumn, full, Space::Ip, true, 1),
            (Some("ip"), Stored::NoColumn, empty, Space::Ip, false, 1),
            (
                Some("manhattan"),
                text(schema),
                empty,
                Space::Cosine,
                true,
                1,
            ),
        ] {
            let segment = metadata(segment);
            let sources = Sources {
                segment: &segment,
                segment_is_damaged: false,
                schema,
                configuration,
                metadata: &none,
            };
            let found = find_space(&sources);
            let summary = (found.space, found.in_doubt, found.unreadable.len());
            assert_eq!(summary, (space, in_doubt, unreadable), "{sources:?}");
        }
    }

    #[test]
    fn lost_rows_of_the_segment_put_the_metric_in_doubt() {
        let lies = Stored::Text(r#"{"hnsw_configuration":{"space":"l2"}}"#);
        for (asked, configuration, segment_is_damaged, expected) in [
            (None, lies, false, (Space::L2, false)),
            (None, lies, true, (Space::L2, true)),
            (Some("cosine"), lies, false, (Space::L2, true)),
            (Some("l2"), lies, false, (Space::L2, false)),
            (
                Some("cosine"),
                Stored::Absent,
                false,
                (Space::Cosine, false),
            ),
        ] {
            let (segment, metadata) = (metadata(None), metadata(asked));
            let found = find_space(&Sources {
                segment: &segment,
                segment_is_damaged,
                schema: Stored::Absent,
                configuration,
                metadata: &metadata,
            });
            assert_eq!((found.space, found.in_doubt), expected, "{asked:?}");
        }
    }
}
