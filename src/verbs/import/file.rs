//! Parquet and Arrow IPC files as sources.
//!
//! Exports of this library describe their collection in the file's own metadata. Other files have
//! columns only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::records::{Incoming, Records, Visit};
use super::target::INTEGER_SEQ_IDS;
use super::{FileColumns, ImportOptions};
use crate::base::progress::Monitor;
use crate::columnar::columns::VECTOR;
use crate::columnar::table::cell::ScalarKind;
use crate::columnar::table::{Cell, ColumnKind, Table, TableColumn, TableReader, TableRow};
use crate::error::{Error, Result};
use crate::store::catalog::{Space, StatedConfiguration};
use crate::store::collection::Row;
use crate::store::metadata::{self, Map, Texts, Value};
use crate::verbs::collections::CollectionFinding;

/// Prefix of the keys under which an export describes its collection.
const DESCRIPTION: &str = "hnsw_toolbox.";

/// Prefix of columns with the values of one metadata key.
const METADATA: &str = "metadata.";

/// Names of columns that are taken without being asked for, in order of precedence.
const IDS: &[&str] = &["id", "ids"];
const VECTORS: &[&str] = &[VECTOR, "embedding", "embeddings", "emb"];
const DOCUMENTS: &[&str] = &["document", "text", "content"];

/// Use of a column, besides the vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Use {
    Id,
    Document,
    Uri,
    /// A JSON object with all metadata.
    Metadata,
    /// The values of one metadata key, in JSON if the flag is true.
    Key(String, bool),
}

/// The chosen columns of a file.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    vector: Option<String>,
    others: Vec<(String, Use)>,
}

/// The rows of a file.
pub(super) struct FileRecords {
    path: PathBuf,
    columns: Columns,
    accepts_non_finite: bool,
}

/// Opens a file whose rows join one collection: `given`, or the one that the file names, or `name`.
pub(super) fn open<'s>(
    path: &Path,
    (given, name): (Option<&str>, &str),
    options: &ImportOptions,
    monitor: &Monitor<'_>,
) -> Result<Incoming<'s>> {
    let table = Table::open_any(path)?;
    let described = |key: &str| {
        let key = format!("{DESCRIPTION}{key}");
        let mut pairs = table.metadata().iter();
        let found = pairs.find(|(found, _)| *found == key);
        found.map(|(_, value)| value.clone())
    };
    let collection = described("collection");
    let is_export = collection.is_some();
    let json_columns: Vec<String> = described("json_columns")
        .and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default();
    let columns = Columns::choose(path, table.columns(), &options.columns, &json_columns)?;
    let number = |key| described(key).and_then(|value| value.parse().ok());
    let mut metadata = Texts::default();
    if let Some(json) = described("collection_metadata") {
        metadata.merge(&json).map_err(|why| {
            Error::input(
                path,
                "hnsw_toolbox.collection_metadata",
                why,
                "a JSON object",
            )
        })?;
    }
    let expected = table.row_count();
    let records = FileRecords::new(path, columns, is_export);
    let name = match given {
        Some(given) => given.to_string(),
        None => collection.unwrap_or_else(|| name.to_string()),
    };
    Ok(Incoming {
        tenant: described("tenant"),
        database: described("database"),
        name,
        id: described("collection_id"),
        metadata: metadata.metadata,
        stated: StatedConfiguration {
            configuration: described("config_json_str"),
            schema: described("schema_str"),
        },
        is_of_python: described("chroma_schema").is_some_and(|schema| {
            let mut parts = schema.split(", ");
            let metadb = parts.find_map(|part| part.strip_prefix("metadb ")?.parse().ok());
            metadb.is_some_and(|version: i64| version < INTEGER_SEQ_IDS)
        }),
        space: described("metric").and_then(|name| Space::from_name(&name)),
        m: number("m"),
        ef_construction: number("ef_construction"),
        dimension: match number("dimension").and_then(|value| usize::try_from(value).ok()) {
            Some(dimension) => Some(dimension),
            None => records.dimension(monitor)?,
        },
        expected,
        without_vector: 0,
        findings: Vec::new(),
        path: path.to_path_buf(),
        collection: None,
        columns: records.columns.names(),
        records: Box::new(records),
    })
}

impl Columns {
    fn choose(
        path: &Path,
        all: &[TableColumn],
        given: &FileColumns,
        json_columns: &[String],
    ) -> Result<Self> {
        let find = |name: &str| all.iter().find(|column| column.name == name);
        let first = |names: &[&str]| names.iter().find_map(|name| find(name));
        let listed = || {
            // Bounds the length of the message.
            let names = all.iter().take(20).map(|column| column.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let id = match &given.id {
            Some(name) => name.clone(),
            None => first(IDS)
                .map(|column| column.name.clone())
                .ok_or_else(|| {
                    Error::input(
                        path,
                        "columns",
                        listed(),
                        "a column id or ids, or the option --id-column",
                    )
                })?,
        };
        let vector = match &given.vector {
            Some(name) => Some(name.clone()),
            None => {
                let mut vectors = all.iter().filter(|column| column.kind.is_vector_like());
                let only = vectors.next().filter(|_| vectors.next().is_none());
                let named = first(VECTORS).filter(|column| column.kind.is_vector_like());
                let column = named.or(only).ok_or_else(|| {
                    Error::input(
                        path,
                        "columns",
                        listed(),
                        "a column vector, embedding, embeddings or emb with lists of floats, or \
                         the option --vector-column",
                    )
                })?;
                Some(column.name.clone())
            }
        };
        let mut others = vec![(id, Use::Id)];
        let document = match &given.document {
            Some(name) => Some(name.clone()),
            None => {
                let mut columns = DOCUMENTS.iter().filter_map(|name| find(name));
                let column = columns.find(|column| is_text(column));
                column.map(|column| column.name.clone())
            }
        };
        others.extend(document.map(|name| (name, Use::Document)));
        if find("uri").is_some_and(is_text) {
            others.push(("uri".into(), Use::Uri));
        }
        if find("metadata").is_some_and(is_text) {
            others.push(("metadata".into(), Use::Metadata));
        }
        for column in all {
            if let Some(key) = column.name.strip_prefix(METADATA) {
                let is_json = json_columns.contains(&column.name);
                others.push((column.name.clone(), Use::Key(key.into(), is_json)));
            }
        }
        for name in &given.metadata {
            if name.starts_with("chroma:") {
                let expected = "a name without the prefix chroma:, which is Chroma's own";
                return Err(Error::argument("metadata_columns", name, expected));
            }
            others.push((name.clone(), Use::Key(name.clone(), false)));
        }
        Ok(Self { vector, others })
    }

    /// Returns each column with what becomes of it.
    fn names(&self) -> BTreeMap<String, String> {
        let vector = self.vector.iter().map(|name| (name.clone(), VECTOR.into()));
        let others = self.others.iter().map(|(name, use_)| {
            let use_ = match use_ {
                Use::Id => "id".into(),
                Use::Document => "document".into(),
                Use::Uri => "uri".into(),
                Use::Metadata => "metadata".into(),
                Use::Key(key, _) => format!("metadata {key}"),
            };
            (name.clone(), use_)
        });
        others.chain(vector).collect()
    }
}

fn is_text(column: &TableColumn) -> bool {
    matches!(
        column.kind,
        ColumnKind::Scalar(ScalarKind::Text | ScalarKind::Null)
    )
}

impl FileRecords {
    pub(super) fn new(path: &Path, columns: Columns, accepts_non_finite: bool) -> Self {
        Self {
            path: path.to_path_buf(),
            columns,
            accepts_non_finite,
        }
    }

    fn reader(&self) -> Result<TableReader> {
        let table = Table::open_any(&self.path)?;
        let Columns { vector, others } = &self.columns;
        let cells: Vec<_> = others.iter().map(|(name, _)| name.as_str()).collect();
        let reader = table.select(vector.as_deref(), &cells)?;
        Ok(match self.accepts_non_finite {
            true => reader.accept_non_finite(),
            false => reader,
        })
    }

    /// Returns the dimension of the first vector.
    pub(super) fn dimension(&self, monitor: &Monitor<'_>) -> Result<Option<usize>> {
        let (mut reader, mut row) = (self.reader()?, TableRow::default());
        while reader.next(&mut row)? {
            monitor.check()?;
            if row.vector().is_some() {
                return Ok(Some(reader.dimension()));
            }
        }
        Ok(None)
    }

    fn invalid(&self, row: u64, column: &str, found: String, expected: &str) -> Error {
        let field = format!("row {row}, column {column}");
        Error::input(&self.path, field, found, expected.to_string())
    }

    /// Returns the id in a cell. Integers become text.
    fn id(&self, row: u64, column: &str, cell: &mut Cell) -> Result<String> {
        match std::mem::take(cell) {
            Cell::Text(text) => Ok(text),
            Cell::Int(number) => Ok(number.to_string()),
            Cell::UInt(number) => Ok(number.to_string()),
            other => Err(self.invalid(row, column, describe(&other), "text or an integer")),
        }
    }

    fn text(&self, row: u64, column: &str, cell: &mut Cell) -> Result<Option<String>> {
        match std::mem::take(cell) {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            other => Err(self.invalid(row, column, describe(&other), "text")),
        }
    }

    fn value(&self, row: u64, column: &str, cell: Cell) -> Result<Option<Value>> {
        Ok(match cell {
            Cell::Null => None,
            Cell::Bool(value) => Some(Value::Bool(value)),
            Cell::Int(value) => Some(Value::Int(value)),
            Cell::UInt(value) => {
                return Err(self.invalid(row, column, value.to_string(), "at most 2⁶³ - 1"));
            }
            // Chroma stores NaN as NULL, which it never returns.
            Cell::Float(value) if value.is_nan() => None,
            Cell::Float(value) => Some(Value::Float(value)),
            Cell::Text(text) => Some(Value::Text(text)),
            Cell::List(cells) => {
                let values = cells.into_iter().map(|cell| {
                    let value = self.value(row, column, cell)?;
                    Ok(value.unwrap_or(Value::Null))
                });
                Some(Value::List(values.collect::<Result<_>>()?))
            }
        })
    }

    /// Fills the texts of a record from the cells of its row, and returns its id.
    fn fill(&self, row: &mut TableRow, texts: &mut Texts) -> Result<String> {
        texts.clear();
        let number = row.number;
        let mut id = String::new();
        for ((column, use_), cell) in self.columns.others.iter().zip(&mut row.cells) {
            match use_ {
                Use::Id => id = self.id(number, column, cell)?,
                Use::Document => texts.document = self.text(number, column, cell)?,
                Use::Uri => texts.uri = self.text(number, column, cell)?,
                Use::Metadata => {
                    if let Some(json) = self.text(number, column, cell)? {
                        // Chroma's own keys cannot come from outside.
                        let mut parsed = Texts::default();
                        parsed.merge(&json).map_err(|why| {
                            let expected = "a JSON object of text, numbers, booleans and lists";
                            self.invalid(number, column, why, expected)
                        })?;
                        self.take(texts, parsed.metadata);
                    }
                }
                Use::Key(key, is_json) => {
                    let value =
                        match (is_json, std::mem::take(cell)) {
                            (true, Cell::Text(json)) => {
                                let parsed = metadata::parse_value(&json);
                                Some(parsed.map_err(|why| {
                                    self.invalid(number, column, why, "a JSON value")
                                })?)
                            }
                            (_, cell) => self.value(number, column, cell)?,
                        };
                    if let Some(value) = value {
                        texts.metadata.insert(key.clone(), value);
                    }
                }
            }
        }
        Ok(id)
    }

    fn take(&self, texts: &mut Texts, metadata: Map) {
        if texts.metadata.is_empty() {
            texts.metadata = metadata;
        } else {
            for (key, value) in metadata.iter() {
                texts.metadata.insert(key.into(), value.clone());
            }
        }
    }
}

fn describe(cell: &Cell) -> String {
    match cell {
        Cell::Null => "null".into(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) => value.to_string(),
        Cell::Float(value) => value.to_string(),
        Cell::Text(_) => "text".into(),
        Cell::List(_) => "a list".into(),
    }
}

impl Records for FileRecords {
    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Vec<CollectionFinding>> {
        let (mut reader, mut row) = (self.reader()?, TableRow::default());
        let mut texts = Texts::default();
        while reader.next(&mut row)? {
            monitor.check()?;
            let id = self.fill(&mut row, &mut texts)?;
            let mut record = Row {
                id: &id,
                rowid: None,
                created_at: None,
                vector: row.vector(),
                texts: &mut texts,
                seq_id: None,
                is_from_elsewhere: false,
                internal_id: None,
                label: None,
            };
            visit(&mut record, Some(row.number))?;
        }
        reader.check_unchanged()?;
        Ok(Vec::new())
    }
}
