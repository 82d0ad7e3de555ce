//! A typed column for each metadata key.

use std::collections::BTreeMap;

use crate::columnar::columns::{Column, ColumnType, ElementType, Value};
use crate::columnar::write::TableWriter;
use crate::error::{Error, Result};
use crate::store::collection::{Outcome, Row};
use crate::store::metadata::{self, Kind, Map};

/// Limit on the number of columns. Each has its own builder here, and costs readers memory and
/// time.
const MAX_COLUMNS: usize = 1000;

/// The keys of a collection's metadata, and the type of each one's column.
#[derive(Debug)]
pub(super) struct MetadataColumns {
    /// By key, in order: the kind of all its values, or `None` if they differ. A column without a
    /// kind holds JSON.
    keys: BTreeMap<String, Option<Kind>>,
}

impl MetadataColumns {
    /// Collects the keys and kinds of the metadata of each record that `for_each` passes to its
    /// argument.
    pub(super) fn survey(
        collection: &str,
        for_each: impl FnOnce(&mut dyn FnMut(&mut Row<'_>) -> Result<()>) -> Result<Outcome>,
    ) -> Result<Self> {
        let mut keys = BTreeMap::<String, Option<Kind>>::new();
        for_each(&mut |row| {
            for (key, value) in row.texts.metadata.iter() {
                // Nulls, and lists of several kinds, have no column type.
                let kind = Some(value.kind()).filter(|kind| *kind != Kind::Other);
                let is_full = keys.len() == MAX_COLUMNS;
                match keys.get_mut(key) {
                    Some(known) if *known == kind => {}
                    // Kinds differ: the column holds JSON from here on.
                    Some(known) => *known = None,
                    None if is_full => {
                        return Err(Error::argument(
                            "metadata",
                            format!(
                                "columns for the collection {collection}, with more than \
                                 {MAX_COLUMNS} metadata keys"
                            ),
                            "json",
                        ));
                    }
                    None => {
                        keys.insert(key.to_string(), kind);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self { keys })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        self.keys.iter().map(|(key, kind)| {
            let type_ = match kind {
                Some(Kind::Int) => ColumnType::Int64,
                Some(Kind::Float) => ColumnType::Float64,
                Some(Kind::Bool) => ColumnType::Boolean,
                Some(Kind::IntList) => ColumnType::List(ElementType::Int64),
                Some(Kind::FloatList) => ColumnType::List(ElementType::Float64),
                Some(Kind::BoolList) => ColumnType::List(ElementType::Boolean),
                Some(Kind::TextList) => ColumnType::List(ElementType::Utf8),
                Some(Kind::Text | Kind::Other) | None => ColumnType::Utf8,
            };
            Column::nullable(name(key), type_)
        })
    }

    /// Returns the names of the columns that hold JSON.
    pub(super) fn json_columns(&self) -> Vec<String> {
        self.keys
            .iter()
            .filter(|(_, kind)| kind.is_none())
            .map(|(key, _)| name(key))
            .collect()
    }

    /// Pushes the values of a record. `first` is the number of the first metadata column.
    pub(super) fn push(
        &self,
        values: &Map,
        first: usize,
        table: &mut TableWriter<'_>,
        json: &mut String,
    ) -> Result<()> {
        for (column, (key, kind)) in (first..).zip(&self.keys) {
            let Some(value) = values.get(key) else {
                continue;
            };
            match (value, kind) {
                // All values of such a column are JSON, so that strings are quoted.
                (_, None) => {
                    json.clear();
                    value.write_json(json);
                    table.push(column, Value::Utf8(json))?;
                }
                (metadata::Value::Text(text), _) => table.push(column, Value::Utf8(text))?,
                (metadata::Value::Int(value), _) => table.push(column, Value::Int64(*value))?,
                (metadata::Value::Float(value), _) => table.push(column, Value::Float64(*value))?,
                (metadata::Value::Bool(value), _) => table.push(column, Value::Boolean(*value))?,
                (metadata::Value::List(values), Some(kind)) => {
                    push_list(values, *kind, column, table)?;
                }
                (metadata::Value::Null, _) => {}
            }
        }
        Ok(())
    }
}

fn name(key: &str) -> String {
    format!("metadata.{key}")
}

/// Pushes a list of one kind. The survey has made sure that all lists of the column have this kind.
fn push_list(
    values: &[metadata::Value],
    kind: Kind,
    column: usize,
    table: &mut TableWriter<'_>,
) -> Result<()> {
    use metadata::Value as Element;
    let values = values.iter();
    match kind {
        Kind::IntList => {
            let ints: Vec<i64> = values
                .filter_map(|value| match value {
                    Element::Int(value) => Some(*value),
                    _ => None,
                })
                .collect();
            table.push(column, Value::Int64List(&ints))
        }
        Kind::FloatList => {
            let floats: Vec<f64> = values
                .filter_map(|value| match value {
                    Element::Float(value) => Some(*value),
                    _ => None,
                })
                .collect();
            table.push(column, Value::Float64List(&floats))
        }
        Kind::BoolList => {
            let bools: Vec<bool> = values
                .filter_map(|value| match value {
                    Element::Bool(value) => Some(*value),
                    _ => None,
                })
                .collect();
            table.push(column, Value::BooleanList(&bools))
        }
        _ => {
            let texts: Vec<String> = values
                .filter_map(|value| match value {
                    Element::Text(value) => Some(value.clone()),
                    _ => None,
                })
                .collect();
            table.push(column, Value::Utf8List(&texts))
        }
    }
}
