//! Conversion of JSON requests to calls of the Rust library, and of their summaries to JSON
//! responses.
//!
//! Files are read without memory maps unless a request asks for them: if another process truncates
//! a mapped file, the host process dies of SIGBUS. A graph file to search is mapped by default,
//! because its writers replace files by rename.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};
use toolbox::wire::{BatchStream, StreamSource};
use toolbox::{
    inspect_index, is_hnsw, verify_hnsw, verify_index, wire, BuildOptions, ColumnarOptions, Error,
    ErrorKind, HnswIndex, InspectOptions, IoMode, MetadataFrom, Monitor, OpenOptions, Progress,
    RecordRange, RepairOptions, Result, Salvage, VerifyOptions,
};
#[cfg(feature = "database")]
use toolbox::{CollectionFilter, ExportOptions};

use crate::index;
use crate::token::{self, Token};

/// Fields of an extract request that do not concern its output.
const EXTRACT: [&str; 13] = [
    "index_dir",
    "metadata_path",
    "include_deleted",
    "first_row",
    "rows",
    "part",
    "parts",
    "batch_size",
    "vectors",
    "salvage",
    "dimension",
    "m",
    "io",
];

fn extract_options(fields: &Fields) -> Result<ColumnarOptions> {
    let mut options = ColumnarOptions::default();
    // Not the library's default: see the module's documentation.
    options.extract.io = IoMode::Read;
    fields.size("batch_size", &mut options.batch_size)?;
    let extract = &mut options.extract;
    extract.metadata = fields
        .optional_path("metadata_path")?
        .map_or(MetadataFrom::None, MetadataFrom::Path);
    fields.flag("include_deleted", &mut extract.include_deleted)?;
    extract.records = records(fields)?;
    fields.name("vectors", &mut extract.vectors)?;
    let mut salvage = false;
    let mut shape = Salvage::default();
    fields.flag("salvage", &mut salvage)?;
    fields.optional_size("dimension", &mut shape.dimension)?;
    fields.optional_size("m", &mut shape.m)?;
    if !salvage && shape != Salvage::default() {
        // Names a field that the caller did set.
        let field = if shape.m.is_some() { "m" } else { "dimension" };
        return Err(refused(
            field,
            "a value without salvage".to_string(),
            "none unless \"salvage\" is true",
        ));
    }
    extract.salvage = salvage.then_some(shape);
    fields.name("io", &mut extract.io)?;
    Ok(options)
}

fn records(fields: &Fields) -> Result<RecordRange> {
    let first = fields.optional_number("first_row")?;
    let count = fields.optional_number("rows")?;
    match (
        fields.optional_number("part")?,
        fields.optional_number("parts")?,
    ) {
        (None, None) if first.is_none() && count.is_none() => Ok(RecordRange::All),
        (None, None) => Ok(RecordRange::From {
            first: first.unwrap_or(0),
            count,
        }),
        (Some(part), Some(parts)) if first.is_none() && count.is_none() => {
            RecordRange::part(part, parts)
        }
        (Some(_), Some(_)) => Err(refused(
            "part",
            "a part of a range".to_string(),
            "no \"first_row\" and \"rows\" with it",
        )),
        (part, _) => Err(refused(
            if part.is_some() { "parts" } else { "part" },
            "nothing".to_string(),
            "both of \"part\" and \"parts\", or neither",
        )),
    }
}

/// Runs an extract request and returns the response document.
pub(crate) fn extract(request: &str) -> Result<String> {
    let output = [
        "output_path",
        "output_format",
        "compression",
        "row_group_bytes",
        "token",
    ];
    let fields = Fields::parse(request, &[&EXTRACT[..], &output].concat())?;
    let index_dir = fields.path("index_dir")?;
    let output_path = fields.path("output_path")?;
    let mut options = extract_options(&fields)?;
    fields.name("output_format", &mut options.format)?;
    fields.name("compression", &mut options.compression)?;
    fields.number("row_group_bytes", &mut options.row_group_bytes)?;

    to_json(&monitored(fields.token()?, |monitor| {
        wire::extract(index_dir, output_path, &options, monitor)
    })?)
}

/// Runs a build request and returns the response document.
pub(crate) fn build(request: &str) -> Result<String> {
    let fields = Fields::parse(
        request,
        &[
            "input_path",
            "output_path",
            "input_format",
            "vector_column",
            "label_column",
            "row_numbers",
            "metric",
            "include_deleted",
            "m",
            "m0",
            "ef_construction",
            "batch_size",
            "capacity",
            "seed",
            "threads",
            "engine",
            "io",
            "token",
        ],
    )?;
    let input_path = fields.path("input_path")?;
    let output_path = fields.path("output_path")?;
    let mut options = BuildOptions::default().with_io(IoMode::Read);
    fields.name("input_format", &mut options.format)?;
    options.vector_column = fields.optional_text("vector_column")?;
    options.label_column = fields.optional_text("label_column")?;
    fields.flag("row_numbers", &mut options.row_numbers)?;
    fields.name("metric", &mut options.graph.metric)?;
    fields.flag("include_deleted", &mut options.include_deleted)?;
    fields.size("m", &mut options.graph.m)?;
    fields.optional_size("m0", &mut options.graph.m0)?;
    fields.size("ef_construction", &mut options.graph.ef_construction)?;
    fields.size("batch_size", &mut options.batch_size)?;
    fields.optional_size("capacity", &mut options.graph.capacity)?;
    // An absent seed keeps the default.
    options.graph.seed = fields.optional_number("seed")?.or(options.graph.seed);
    fields.optional_size("threads", &mut options.graph.threads)?;
    fields.name("engine", &mut options.graph.engine)?;
    fields.name("io", &mut options.io)?;

    to_json(&monitored(fields.token()?, |monitor| {
        wire::build(input_path, output_path, &options, monitor)
    })?)
}

/// Runs an inspect request and returns the report.
pub(crate) fn inspect(request: &str) -> Result<String> {
    let fields = Fields::parse(request, &["index_dir", "io", "token"])?;
    let index_dir = fields.path("index_dir")?;
    let mut options = InspectOptions::default();
    fields.name("io", &mut options.io)?;
    to_json(&monitored(fields.token()?, |monitor| {
        inspect_index(index_dir, &options, monitor)
    })?)
}

/// Runs a verify request and returns the report.
pub(crate) fn verify(request: &str) -> Result<String> {
    let fields = Fields::parse(request, &["index_dir", "io", "token"])?;
    let index_dir = fields.path("index_dir")?;
    let mut options = VerifyOptions::default();
    fields.name("io", &mut options.io)?;
    to_json(&monitored(fields.token()?, |monitor| {
        // The field keeps its name for a graph file: the contract has no other.
        if index_dir.is_file() && is_hnsw(&index_dir)? {
            return verify_hnsw(index_dir, &options, monitor);
        }
        verify_index(index_dir, &options, monitor)
    })?)
}

/// Runs a request to list collections and returns the response document.
#[cfg(feature = "database")]
pub(crate) fn list_collections(request: &str) -> Result<String> {
    let known = ["persist_dir", "database", "tenant", "io", "token"];
    let fields = Fields::parse(request, &known)?;
    let persist_dir = fields.path("persist_dir")?;
    let mut filter = CollectionFilter::default()
        .with_database(fields.optional_text("database")?)
        .with_tenant(fields.optional_text("tenant")?);
    fields.name("io", &mut filter.io)?;

    to_json(&monitored(fields.token()?, |monitor| {
        toolbox::list_collections(persist_dir, &filter, monitor)
    })?)
}

/// Fields of an export request that do not concern its output.
#[cfg(feature = "database")]
const EXPORT: [&str; 12] = [
    "persist_dir",
    "collections",
    "database",
    "tenant",
    "vectors",
    "metadata",
    "index_columns",
    "batch_size",
    "io",
    "dimension",
    "m",
    "metric",
];

#[cfg(feature = "database")]
fn export_options(fields: &Fields) -> Result<ExportOptions> {
    let mut options = ExportOptions::default();
    options.filter = CollectionFilter::default()
        .with_names(fields.texts("collections")?)
        .with_database(fields.optional_text("database")?)
        .with_tenant(fields.optional_text("tenant")?);
    fields.name("io", &mut options.filter.io)?;
    fields.name("vectors", &mut options.vectors)?;
    fields.name("metadata", &mut options.metadata)?;
    fields.flag("index_columns", &mut options.index_columns)?;
    fields.optional_size("dimension", &mut options.salvage.dimension)?;
    fields.optional_size("m", &mut options.salvage.m)?;
    fields.optional_name("metric", &mut options.metric)?;
    fields.size("batch_size", &mut options.batch_size)?;
    Ok(options)
}

/// Runs an export request and returns the response document.
#[cfg(feature = "database")]
pub(crate) fn export(request: &str) -> Result<String> {
    let output = ["output_path", "output_format", "compression", "token"];
    let fields = Fields::parse(request, &[&EXPORT[..], &output].concat())?;
    let persist_dir = fields.path("persist_dir")?;
    let output_path = fields.path("output_path")?;
    let mut options = export_options(&fields)?;
    fields.name("output_format", &mut options.format)?;
    fields.name("compression", &mut options.compression)?;

    to_json(&monitored(fields.token()?, |monitor| {
        wire::export(persist_dir, output_path, &options, monitor)
    })?)
}

/// Opens the stream of a request.
pub(crate) fn open_stream(request: &str) -> Result<BatchStream> {
    let fields = Fields::object(request)?;
    // The persist directory tells a collection's request from an index's. The two have different
    // fields.
    let source = match fields.0.contains_key("persist_dir") {
        #[cfg(feature = "database")]
        true => {
            fields.check(&[&EXPORT[..], &["token"]].concat())?;
            StreamSource::Collection {
                persist_dir: fields.path("persist_dir")?,
                options: export_options(&fields)?,
            }
        }
        _ => {
            fields.check(&[&EXTRACT[..], &["token"]].concat())?;
            StreamSource::Index {
                index_dir: fields.path("index_dir")?,
                options: extract_options(&fields)?,
            }
        }
    };
    match fields.token()? {
        None => BatchStream::open(source, None, drop),
        // The stream may outlive the call and the token's number, so it shares the flag.
        Some(token) => {
            let cancel = token.cancel.clone();
            BatchStream::open(source, Some(&cancel), move |progress| {
                token.report(progress)
            })
        }
    }
}

/// Runs a repair request and returns the response document.
pub(crate) fn repair(request: &str) -> Result<String> {
    let fields = Fields::parse(
        request,
        &[
            "index_dir",
            "output_path",
            "links",
            "metric",
            "dimension",
            "m",
            "collection",
            "database",
            "tenant",
            "threads",
            "io",
            "token",
        ],
    )?;
    let index_dir = fields.path("index_dir")?;
    let output_path = fields.path("output_path")?;
    let mut options = RepairOptions::default();
    options.collection = fields.optional_text("collection")?;
    options.database = fields.optional_text("database")?;
    options.tenant = fields.optional_text("tenant")?;
    fields.optional_name("links", &mut options.links)?;
    fields.optional_name("metric", &mut options.metric)?;
    fields.optional_size("dimension", &mut options.salvage.dimension)?;
    fields.optional_size("m", &mut options.salvage.m)?;
    fields.optional_size("threads", &mut options.threads)?;
    fields.name("io", &mut options.io)?;

    to_json(&monitored(fields.token()?, |monitor| {
        wire::repair(index_dir, output_path, &options, monitor)
    })?)
}

/// Opens the graph file of a request and returns its number.
pub(crate) fn open_index(request: &str) -> Result<u64> {
    let fields = Fields::parse(request, &["index_path", "metric", "io", "load"])?;
    let path = fields.path("index_path")?;
    let mut options = OpenOptions::default();
    fields.optional_name("metric", &mut options.metric)?;
    fields.name("io", &mut options.io)?;
    fields.flag("load", &mut options.load)?;
    Ok(index::register(HnswIndex::open(path, &options)?))
}

fn monitored<T>(
    token: Option<Arc<Token>>,
    work: impl FnOnce(&Monitor<'_>) -> Result<T>,
) -> Result<T> {
    let Some(token) = token else {
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

/// Fields of a request. Every error names its field.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(request: &str, known: &[&str]) -> Result<Self> {
        let fields = Self::object(request)?;
        fields.check(known)?;
        Ok(fields)
    }

    fn object(request: &str) -> Result<Self> {
        // serde_json refuses more than 127 levels of nesting.
        let value: Value = serde_json::from_str(request).map_err(|e| {
            Error::request(format!(
                "found text that is not JSON ({e}), expected a JSON object"
            ))
        })?;
        let Value::Object(fields) = value else {
            return Err(Error::request(format!(
                "found {}, expected a JSON object",
                describe(&value)
            )));
        };
        Ok(Self(fields))
    }

    /// Fails if a field is unknown.
    fn check(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(Error::argument(
                shorten(unknown),
                "an unknown field",
                format!("one of {}", known.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// Returns the field's value after `convert`; `None` if the field is absent.
    fn get<'a, T>(
        &'a self,
        name: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(converted) => Ok(Some(converted)),
                None => Err(refused(name, describe(value), expected)),
            },
        }
    }

    /// Like [`get`](Self::get), but null also means absent.
    fn get_or_null<'a, T>(
        &'a self,
        name: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.0.get(name) {
            // Optional fields are null by default in the documented request.
            Some(Value::Null) => Ok(None),
            _ => self.get(name, expected, convert),
        }
    }

    fn path(&self, name: &'static str) -> Result<PathBuf> {
        let expected = "a path as a string";
        match self.get(name, expected, Value::as_str)? {
            Some(path) => checked_path(name, path),
            None => Err(refused(name, "nothing".to_string(), expected)),
        }
    }

    fn optional_path(&self, name: &'static str) -> Result<Option<PathBuf>> {
        self.get_or_null(name, "a path as a string, or null", Value::as_str)?
            .map(|path| checked_path(name, path))
            .transpose()
    }

    fn optional_text(&self, name: &'static str) -> Result<Option<String>> {
        let text = self.get_or_null(name, "a string, or null", Value::as_str)?;
        Ok(text.map(str::to_string))
    }

    #[cfg(feature = "database")]
    fn texts(&self, name: &'static str) -> Result<Vec<String>> {
        let texts = self.get_or_null(name, "an array of strings, or null", |value| {
            let texts = value.as_array()?.iter();
            texts
                .map(|text| text.as_str().map(str::to_string))
                .collect::<Option<Vec<_>>>()
        })?;
        Ok(texts.unwrap_or_default())
    }

    fn flag(&self, name: &'static str, flag: &mut bool) -> Result<()> {
        if let Some(value) = self.get(name, "true or false", Value::as_bool)? {
            *flag = value;
        }
        Ok(())
    }

    fn number(&self, name: &'static str, number: &mut u64) -> Result<()> {
        if let Some(value) = self.get(name, "an integer from 0 to 2^64-1", Value::as_u64)? {
            *number = value;
        }
        Ok(())
    }

    fn optional_number(&self, name: &'static str) -> Result<Option<u64>> {
        self.get_or_null(name, "an integer from 0 to 2^64-1, or null", Value::as_u64)
    }

    fn size(&self, name: &'static str, size: &mut usize) -> Result<()> {
        if let Some(value) = self.get(name, "an integer that is not negative", as_size)? {
            *size = value;
        }
        Ok(())
    }

    fn optional_size(&self, name: &'static str, size: &mut Option<usize>) -> Result<()> {
        let expected = "an integer that is not negative, or null";
        if let Some(value) = self.get_or_null(name, expected, as_size)? {
            *size = Some(value);
        }
        Ok(())
    }

    /// Parses one of the names of `T`.
    fn name<T: FromStr<Err = Error>>(&self, name: &'static str, chosen: &mut T) -> Result<()> {
        if let Some(text) = self.get(name, "a string", Value::as_str)? {
            *chosen = parse_name(name, text)?;
        }
        Ok(())
    }

    /// Like [`name`](Self::name), but null means absent.
    fn optional_name<T: FromStr<Err = Error>>(
        &self,
        name: &'static str,
        chosen: &mut Option<T>,
    ) -> Result<()> {
        if let Some(text) = self.get_or_null(name, "a string, or null", Value::as_str)? {
            *chosen = Some(parse_name(name, text)?);
        }
        Ok(())
    }

    fn token(&self) -> Result<Option<Arc<Token>>> {
        let expected = "the number of a live token, or null";
        self.get_or_null("token", expected, |value| token::find(value.as_u64()?))
    }
}

fn parse_name<T: FromStr<Err = Error>>(name: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|e: Error| match e.expected() {
        Some(expected) if e.kind() == ErrorKind::InvalidArgument => {
            refused(name, shorten(&format!("{text:?}")), expected)
        }
        _ => e,
    })
}

fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn checked_path(name: &'static str, path: &str) -> Result<PathBuf> {
    let refuse = |found: &str| Err(refused(name, found.to_string(), "a path"));
    if path.is_empty() {
        refuse("an empty string")
    // The operating system would end the path there.
    } else if path.contains('\0') {
        refuse("a string with a NUL character in it")
    } else {
        Ok(PathBuf::from(path))
    }
}

fn refused(field: &'static str, found: String, expected: &str) -> Error {
    Error::argument(field, found, expected.to_string())
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
