//! Conversion of JSON requests to calls of the Rust library, and of their summaries to JSON
//! responses.
//!
//! Files are read without memory maps unless a request asks for them: if another process truncates
//! a mapped file, the host process dies of SIGBUS. A graph file to search is mapped by default,
//! because its writers replace files by rename.

#[cfg(feature = "database")]
use std::collections::BTreeMap;
#[cfg(feature = "database")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::{value::MapDeserializer, DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toolbox::wire::{BatchStream, StreamSource};
#[cfg(feature = "database")]
use toolbox::{
    import_collections, import_collections_in_place, repair_store, repair_store_in_place,
    CollectionFilter, ExportOptions, FileColumns, ImportOptions, ListForm, MetadataForm,
    OnConflict, RepairStoreOptions,
};
use toolbox::{
    inspect_index, is_hnsw, verify_hnsw, verify_index, wire, BuildOptions, ColumnarFormat,
    ColumnarOptions, Compression, Engine, Error, HnswIndex, InspectOptions, IoMode, MetadataFrom,
    Metric, Monitor, OpenOptions, Progress, RecordRange, RepairLinks, RepairOptions, Result,
    Salvage, Space, VectorForm, VerifyOptions,
};

use crate::index;
use crate::token::{self, Token};

/// Fields of requests to extract an index or to stream it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extract {
    index_dir: Given<Location>,
    metadata_path: Option<Location>,
    include_deleted: Given<bool>,
    first_row: Option<u64>,
    rows: Option<u64>,
    part: Option<u64>,
    parts: Option<u64>,
    batch_size: Given<usize>,
    vectors: Given<VectorForm>,
    salvage: Given<bool>,
    dimension: Option<usize>,
    m: Option<usize>,
    io: Given<IoMode>,
    output_path: Given<Location>,
    output_format: Given<ColumnarFormat>,
    compression: Given<Compression>,
    row_group_bytes: Given<u64>,
    token: Option<Live>,
}

impl Extract {
    fn options(self) -> Result<ColumnarOptions> {
        let mut options = ColumnarOptions::default();
        self.batch_size.set(&mut options.batch_size);
        self.output_format.set(&mut options.format);
        self.compression.set(&mut options.compression);
        self.row_group_bytes.set(&mut options.row_group_bytes);
        let range = (self.first_row, self.rows, self.part, self.parts);
        let extract = &mut options.extract;
        extract.records = records(range)?;
        extract.metadata = self
            .metadata_path
            .map_or(MetadataFrom::None, |path| MetadataFrom::Path(path.0));
        self.include_deleted.set(&mut extract.include_deleted);
        self.vectors.set(&mut extract.vectors);
        let shape = Salvage::default()
            .with_dimension(self.dimension)
            .with_m(self.m);
        let mut salvage = false;
        self.salvage.set(&mut salvage);
        if !salvage && shape != Salvage::default() {
            // Names a field that the caller did set.
            let field = if shape.m.is_some() { "m" } else { "dimension" };
            let expected = "none unless \"salvage\" is true";
            return Err(Error::argument(field, "a value without salvage", expected));
        }
        extract.salvage = salvage.then_some(shape);
        // Not the library's default: see the module's documentation.
        extract.io = self.io.0.unwrap_or(IoMode::Read);
        Ok(options)
    }
}

fn records(fields: (Option<u64>, Option<u64>, Option<u64>, Option<u64>)) -> Result<RecordRange> {
    match fields {
        (None, None, None, None) => Ok(RecordRange::All),
        (first, count, None, None) => Ok(RecordRange::From {
            first: first.unwrap_or(0),
            count,
        }),
        (None, None, Some(part), Some(parts)) => RecordRange::part(part, parts),
        (_, _, Some(_), Some(_)) => {
            let expected = "no \"first_row\" and \"rows\" with it";
            Err(Error::argument("part", "a part of a range", expected))
        }
        (_, _, part, _) => {
            let missing = if part.is_some() { "parts" } else { "part" };
            let expected = "both of \"part\" and \"parts\", or neither";
            Err(Error::argument(missing, "nothing", expected))
        }
    }
}

/// Runs an extract request and returns the response document.
pub(crate) fn extract(request: &str) -> Result<String> {
    let mut fields: Extract = parse(object(request)?)?;
    let index_dir = fields.index_dir.take("index_dir")?;
    let output_path = fields.output_path.take("output_path")?;
    let token = fields.token.take();
    let options = fields.options()?;
    to_json(&monitored(token, |monitor| {
        wire::extract(index_dir, output_path, &options, monitor)
    })?)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Build {
    input_path: Given<Location>,
    output_path: Given<Location>,
    input_format: Given<ColumnarFormat>,
    vector_column: Option<String>,
    label_column: Option<String>,
    row_numbers: Given<bool>,
    metric: Given<Metric>,
    include_deleted: Given<bool>,
    m: Given<usize>,
    m0: Option<usize>,
    ef_construction: Given<usize>,
    batch_size: Given<usize>,
    capacity: Option<usize>,
    seed: Option<u64>,
    threads: Option<usize>,
    engine: Given<Engine>,
    io: Given<IoMode>,
    token: Option<Live>,
}

/// Runs a build request and returns the response document.
pub(crate) fn build(request: &str) -> Result<String> {
    let mut fields: Build = parse(object(request)?)?;
    let input_path = fields.input_path.take("input_path")?;
    let output_path = fields.output_path.take("output_path")?;
    let mut options = BuildOptions::default();
    fields.input_format.set(&mut options.format);
    options.vector_column = fields.vector_column;
    options.label_column = fields.label_column;
    fields.row_numbers.set(&mut options.row_numbers);
    fields.metric.set(&mut options.graph.metric);
    fields.include_deleted.set(&mut options.include_deleted);
    fields.m.set(&mut options.graph.m);
    options.graph.m0 = fields.m0;
    fields
        .ef_construction
        .set(&mut options.graph.ef_construction);
    fields.batch_size.set(&mut options.batch_size);
    options.graph.capacity = fields.capacity;
    // An absent seed keeps the default.
    options.graph.seed = fields.seed.or(options.graph.seed);
    options.graph.threads = fields.threads;
    fields.engine.set(&mut options.graph.engine);
    options.io = fields.io.0.unwrap_or(IoMode::Read);

    to_json(&monitored(fields.token, |monitor| {
        wire::build(input_path, output_path, &options, monitor)
    })?)
}

/// Fields of requests to inspect or to verify an index.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Look {
    index_dir: Given<Location>,
    io: Given<IoMode>,
    token: Option<Live>,
}

/// Runs an inspect request and returns the report.
pub(crate) fn inspect(request: &str) -> Result<String> {
    let mut fields: Look = parse(object(request)?)?;
    let index_dir = fields.index_dir.take("index_dir")?;
    let mut options = InspectOptions::default();
    fields.io.set(&mut options.io);
    to_json(&monitored(fields.token, |monitor| {
        inspect_index(index_dir, &options, monitor)
    })?)
}

/// Runs a verify request and returns the report.
pub(crate) fn verify(request: &str) -> Result<String> {
    let mut fields: Look = parse(object(request)?)?;
    let index_dir = fields.index_dir.take("index_dir")?;
    let mut options = VerifyOptions::default();
    fields.io.set(&mut options.io);
    to_json(&monitored(fields.token, |monitor| {
        // The field keeps its name for a graph file: the contract has no other.
        if index_dir.is_file() && is_hnsw(&index_dir)? {
            return verify_hnsw(index_dir, &options, monitor);
        }
        verify_index(index_dir, &options, monitor)
    })?)
}

#[cfg(feature = "database")]
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct List {
    persist_dir: Given<Location>,
    database: Option<String>,
    tenant: Option<String>,
    io: Given<IoMode>,
    token: Option<Live>,
}

/// Runs a request to list collections and returns the response document.
#[cfg(feature = "database")]
pub(crate) fn list_collections(request: &str) -> Result<String> {
    let mut fields: List = parse(object(request)?)?;
    let persist_dir = fields.persist_dir.take("persist_dir")?;
    let mut filter = CollectionFilter::default()
        .with_database(fields.database)
        .with_tenant(fields.tenant);
    fields.io.set(&mut filter.io);
    to_json(&monitored(fields.token, |monitor| {
        toolbox::list_collections(persist_dir, &filter, monitor)
    })?)
}

/// Fields of requests to export collections or to stream one.
#[cfg(feature = "database")]
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Export {
    persist_dir: Given<Location>,
    #[serde(deserialize_with = "texts")]
    collections: Vec<String>,
    database: Option<String>,
    tenant: Option<String>,
    vectors: Given<VectorForm>,
    metadata: Given<MetadataForm>,
    index_columns: Given<bool>,
    batch_size: Given<usize>,
    io: Given<IoMode>,
    dimension: Option<usize>,
    m: Option<usize>,
    metric: Option<Space>,
    output_path: Given<Location>,
    output_format: Given<ColumnarFormat>,
    compression: Given<Compression>,
    token: Option<Live>,
}

#[cfg(feature = "database")]
impl Export {
    fn options(self) -> ExportOptions {
        let mut options = ExportOptions::default();
        options.filter = CollectionFilter::default()
            .with_names(self.collections)
            .with_database(self.database)
            .with_tenant(self.tenant);
        self.io.set(&mut options.filter.io);
        self.vectors.set(&mut options.vectors);
        self.metadata.set(&mut options.metadata);
        self.index_columns.set(&mut options.index_columns);
        options.salvage.dimension = self.dimension;
        options.salvage.m = self.m;
        options.metric = self.metric;
        self.batch_size.set(&mut options.batch_size);
        self.output_format.set(&mut options.format);
        self.compression.set(&mut options.compression);
        options
    }
}

/// Runs an export request and returns the response document.
#[cfg(feature = "database")]
pub(crate) fn export(request: &str) -> Result<String> {
    let mut fields: Export = parse(object(request)?)?;
    let persist_dir = fields.persist_dir.take("persist_dir")?;
    let output_path = fields.output_path.take("output_path")?;
    let token = fields.token.take();
    let options = fields.options();
    to_json(&monitored(token, |monitor| {
        wire::export(persist_dir, output_path, &options, monitor)
    })?)
}

/// Opens the stream of a request.
pub(crate) fn open_stream(request: &str) -> Result<BatchStream> {
    let request = object(request)?;
    for name in [
        "output_path",
        "output_format",
        "compression",
        "row_group_bytes",
    ] {
        if request.contains_key(name) {
            let expected = "a field of requests for streams";
            return Err(Error::argument(name, "an unknown field", expected));
        }
    }
    // The persist directory tells a collection's request from an index's. The two have different
    // fields.
    let (source, token) = match request.contains_key("persist_dir") {
        #[cfg(feature = "database")]
        true => {
            let mut fields: Export = parse(request)?;
            let token = fields.token.take();
            let source = StreamSource::Collection {
                persist_dir: fields.persist_dir.take("persist_dir")?,
                options: fields.options(),
            };
            (source, token)
        }
        _ => {
            let mut fields: Extract = parse(request)?;
            let token = fields.token.take();
            let source = StreamSource::Index {
                index_dir: fields.index_dir.take("index_dir")?,
                options: fields.options()?,
            };
            (source, token)
        }
    };
    match token {
        None => BatchStream::open(source, None, drop),
        // The stream may outlive the call and the token's number, so it shares the flag.
        Some(Live(token)) => {
            let cancel = token.cancel.clone();
            BatchStream::open(source, Some(&cancel), move |progress| {
                token.report(progress)
            })
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Repair {
    index_dir: Given<Location>,
    output_path: Given<Location>,
    links: Option<RepairLinks>,
    metric: Option<Space>,
    dimension: Option<usize>,
    m: Option<usize>,
    collection: Option<String>,
    database: Option<String>,
    tenant: Option<String>,
    threads: Option<usize>,
    io: Given<IoMode>,
    token: Option<Live>,
}

/// Runs a repair request and returns the response document.
pub(crate) fn repair(request: &str) -> Result<String> {
    let mut fields: Repair = parse(object(request)?)?;
    let index_dir = fields.index_dir.take("index_dir")?;
    let output_path = fields.output_path.take("output_path")?;
    let mut options = RepairOptions::default();
    options.collection = fields.collection;
    options.database = fields.database;
    options.tenant = fields.tenant;
    options.links = fields.links;
    options.metric = fields.metric;
    options.salvage.dimension = fields.dimension;
    options.salvage.m = fields.m;
    options.threads = fields.threads;
    fields.io.set(&mut options.io);
    to_json(&monitored(fields.token, |monitor| {
        wire::repair(index_dir, output_path, &options, monitor)
    })?)
}

#[cfg(feature = "database")]
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RepairStore {
    persist_dir: Given<Location>,
    output_dir: Option<Location>,
    in_place: Given<bool>,
    template: Option<Location>,
    keep_incomplete: Given<bool>,
    links: Option<RepairLinks>,
    metric: Option<Space>,
    dimension: Option<usize>,
    m: Option<usize>,
    threads: Option<usize>,
    io: Given<IoMode>,
    dry_run: Given<bool>,
    token: Option<Live>,
}

/// Runs a request to repair a store and returns the summary.
#[cfg(feature = "database")]
pub(crate) fn repair_whole_store(request: &str) -> Result<String> {
    let mut fields: RepairStore = parse(object(request)?)?;
    let persist_dir = fields.persist_dir.take("persist_dir")?;
    let mut options = RepairStoreOptions::default();
    options.template = fields.template.map(|path| path.0);
    fields.keep_incomplete.set(&mut options.keep_incomplete);
    options.links = fields.links;
    options.metric = fields.metric;
    options.salvage.dimension = fields.dimension;
    options.salvage.m = fields.m;
    options.threads = fields.threads;
    fields.io.set(&mut options.io);
    fields.dry_run.set(&mut options.dry_run);
    let output_dir = new_dir(fields.output_dir, fields.in_place)?;
    to_json(&monitored(fields.token, |monitor| match output_dir {
        Some(new_dir) => repair_store(persist_dir, new_dir, &options, monitor),
        None => {
            check_answerable("persist_dir", &persist_dir)?;
            // The response has the commands: a caller cannot lose them without losing the process.
            repair_store_in_place(persist_dir, &options, |_| {}, monitor)
        }
    })?)
}

/// Returns the new directory of a request to write a store, or `None` to write it in place.
#[cfg(feature = "database")]
fn new_dir(output_dir: Option<Location>, in_place: Given<bool>) -> Result<Option<PathBuf>> {
    match (output_dir, in_place.0.unwrap_or(false)) {
        (Some(path), false) => Ok(Some(path.0)),
        (None, true) => Ok(None),
        (Some(_), true) => {
            let expected = "none, because \"in_place\" is true";
            Err(Error::argument("output_dir", "a path", expected))
        }
        (None, false) => {
            let expected = "a path as a string, or \"in_place\": true";
            Err(Error::argument("output_dir", "nothing", expected))
        }
    }
}

/// Refuses a symbolic link to a path that the response cannot represent, before the work: the
/// summary of work in place has resolved paths.
#[cfg(feature = "database")]
fn check_answerable(field: &'static str, dir: &Path) -> Result<()> {
    match dir.canonicalize() {
        Ok(resolved) if resolved.to_str().is_none() => Err(Error::argument(
            field,
            toolbox::display_path(&resolved).to_string(),
            "a path in UTF-8, because the response is JSON",
        )),
        // The work reports a path that cannot be resolved.
        _ => Ok(()),
    }
}

#[cfg(feature = "database")]
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Import {
    sources: Given<Locations>,
    into_dir: Given<Location>,
    output_dir: Option<Location>,
    in_place: Given<bool>,
    #[serde(deserialize_with = "texts")]
    collections: Vec<String>,
    #[serde(deserialize_with = "nested")]
    columns: Map<String, Value>,
    #[serde(deserialize_with = "names")]
    rename: BTreeMap<String, String>,
    database: Option<String>,
    tenant: Option<String>,
    metric: Option<Space>,
    m: Option<u64>,
    ef_construction: Option<u64>,
    on_conflict: Given<OnConflict>,
    lists: Given<ListForm>,
    keep_incomplete: Given<bool>,
    threads: Option<usize>,
    dry_run: Given<bool>,
    token: Option<Live>,
}

/// Fields of the object "columns".
#[cfg(feature = "database")]
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Columns {
    id: Option<String>,
    vector: Option<String>,
    document: Option<String>,
    #[serde(deserialize_with = "texts")]
    metadata: Vec<String>,
}

/// Runs a request to import collections and returns the summary.
#[cfg(feature = "database")]
pub(crate) fn import(request: &str) -> Result<String> {
    let mut fields: Import = parse(object(request)?)?;
    let columns: Columns = parse_within("columns.", fields.columns)?;
    let sources = fields.sources.0.take().ok_or_else(|| {
        let expected = "an array of paths as strings";
        Error::argument("sources", "nothing", expected)
    })?;
    let into_dir = fields.into_dir.take("into_dir")?;
    let output_dir = new_dir(fields.output_dir, fields.in_place)?;
    let mut options = ImportOptions::default();
    options.collections = fields.collections;
    options.columns = FileColumns::default()
        .with_id(columns.id)
        .with_vector(columns.vector)
        .with_document(columns.document)
        .with_metadata(columns.metadata);
    options.rename = fields.rename;
    options.database = fields.database;
    options.tenant = fields.tenant;
    options.metric = fields.metric;
    options.m = fields.m;
    options.ef_construction = fields.ef_construction;
    fields.on_conflict.set(&mut options.on_conflict);
    fields.lists.set(&mut options.lists);
    fields.keep_incomplete.set(&mut options.keep_incomplete);
    options.threads = fields.threads;
    fields.dry_run.set(&mut options.dry_run);
    to_json(&monitored(fields.token, |monitor| match output_dir {
        Some(new_dir) => import_collections(&sources.0, into_dir, new_dir, &options, monitor),
        None => {
            check_answerable("into_dir", &into_dir)?;
            import_collections_in_place(&sources.0, into_dir, &options, |_| {}, monitor)
        }
    })?)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Open {
    index_path: Given<Location>,
    metric: Option<Metric>,
    io: Given<IoMode>,
    load: Given<bool>,
}

/// Opens the graph file of a request and returns its number.
pub(crate) fn open_index(request: &str) -> Result<u64> {
    let mut fields: Open = parse(object(request)?)?;
    let path = fields.index_path.take("index_path")?;
    let mut options = OpenOptions::default();
    options.metric = fields.metric;
    fields.io.set(&mut options.io);
    fields.load.set(&mut options.load);
    Ok(index::register(HnswIndex::open(path, &options)?))
}

fn monitored<T>(token: Option<Live>, work: impl FnOnce(&Monitor<'_>) -> Result<T>) -> Result<T> {
    let Some(Live(token)) = token else {
        return work(&Monitor::default());
    };
    let report = |progress: Progress| token.report(progress);
    work(
        &Monitor::default()
            .with_cancel(&token.cancel)
            .on_progress(&report),
    )
}

fn to_json(response: &impl wire::Answer) -> Result<String> {
    let mut json = Vec::new();
    wire::write_json(&mut json, response)
        .and_then(|()| String::from_utf8(json).map_err(std::io::Error::other))
        .map_err(|e| Error::internal(format!("the response cannot be written as JSON: {e}")))
}

fn object(request: &str) -> Result<Map<String, Value>> {
    // serde_json refuses more than 127 levels of nesting.
    match serde_json::from_str(request) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(value) => Err(Error::request(format!(
            "found {}, expected a JSON object",
            describe(&value)
        ))),
        Err(e) => Err(Error::request(format!(
            "found text that is not JSON ({e}), expected a JSON object"
        ))),
    }
}

/// Reads a request, all of whose fields have a default. Every error names its field.
fn parse<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T> {
    parse_within("", fields)
}

/// Reads a part of a request. Errors name its fields with the prefix.
fn parse_within<T: DeserializeOwned>(prefix: &str, fields: Map<String, Value>) -> Result<T> {
    // A field on its own fails for itself.
    for (name, value) in &fields {
        let field = MapDeserializer::new(std::iter::once((name.as_str(), value)));
        T::deserialize(field).map_err(|e: serde_json::Error| {
            let text = e.to_string().replace('`', "");
            let expected = match text.rsplit_once(", expected ") {
                Some((_, "u64" | "usize")) => "an integer that is not negative",
                Some((_, expected)) => expected,
                None => text.as_str(),
            };
            let field = format!("{prefix}{}", shorten(name));
            if text.starts_with("unknown field") {
                Error::argument(field, "an unknown field", expected.to_string())
            } else {
                Error::argument(field, describe(value), expected.to_string())
            }
        })?;
    }
    T::deserialize(Value::Object(fields)).map_err(Error::internal)
}

/// A field that may be absent, but not null.
struct Given<T>(Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        T::deserialize(value).map(|value| Self(Some(value)))
    }
}

impl<T> Given<T> {
    /// Replaces the default, if the field is there.
    fn set(self, option: &mut T) {
        if let Some(value) = self.0 {
            *option = value;
        }
    }
}

impl Given<Location> {
    /// Takes a field that a request must have.
    fn take(&mut self, name: &'static str) -> Result<PathBuf> {
        let path = self.0.take().map(|path| path.0);
        path.ok_or_else(|| Error::argument(name, "nothing", "a path as a string"))
    }
}

/// A path that the operating system would not end early.
struct Location(PathBuf);

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        match String::deserialize(value) {
            Ok(path) if !path.is_empty() && !path.contains('\0') => Ok(Self(path.into())),
            _ => Err(D::Error::custom(
                ", expected a path as a string without NUL",
            )),
        }
    }
}

/// Several of them.
#[cfg(feature = "database")]
struct Locations(Vec<PathBuf>);

#[cfg(feature = "database")]
impl<'de> Deserialize<'de> for Locations {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        match Vec::<Location>::deserialize(value) {
            Ok(paths) => Ok(Self(paths.into_iter().map(|path| path.0).collect())),
            Err(_) => Err(D::Error::custom(
                ", expected an array of paths as strings without NUL",
            )),
        }
    }
}

/// The number of a token that was not released.
struct Live(Arc<Token>);

impl<'de> Deserialize<'de> for Live {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let token = u64::deserialize(value).ok().and_then(token::find);
        let error = || D::Error::custom(", expected the number of a live token, or null");
        token.map(Self).ok_or_else(error)
    }
}

#[cfg(feature = "database")]
fn texts<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    match Option::deserialize(value) {
        Ok(texts) => Ok(texts.unwrap_or_default()),
        Err(_) => Err(D::Error::custom(", expected an array of strings, or null")),
    }
}

#[cfg(feature = "database")]
fn names<'de, D: Deserializer<'de>>(value: D) -> Result<BTreeMap<String, String>, D::Error> {
    match Option::deserialize(value) {
        Ok(names) => Ok(names.unwrap_or_default()),
        Err(_) => Err(D::Error::custom(", expected an object of strings, or null")),
    }
}

#[cfg(feature = "database")]
fn nested<'de, D: Deserializer<'de>>(value: D) -> Result<Map<String, Value>, D::Error> {
    match Option::deserialize(value) {
        Ok(fields) => Ok(fields.unwrap_or_default()),
        Err(_) => Err(D::Error::custom(", expected an object, or null")),
    }
}

/// Describes a value briefly for an error.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => shorten(&value.to_string()),
        Value::Array(_) => "an array".to_string(),
        Value::Object(_) => "an object".to_string(),
    }
}

fn shorten(text: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 80;
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        // Cuts at a character, not at a byte: requests may be any UTF-8.
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}
