//! Selection of the columns to read by name: vectors, labels and `deleted`.

use std::fmt;
use std::sync::Arc;

use super::bytes::Input;
use super::columns::{DELETED, INTERNAL_ID, LABEL, VECTOR};
use super::ColumnarFormat;
use crate::error::{Error, Result};
use crate::io::file::IoMode;

/// Key in the file metadata that identifies an export of a collection. An export can contain rows
/// without a vector and null labels.
pub(crate) const EXPORT_KEY: &str = "hnsw_toolbox.collection_id";

/// Options for reading a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOptions {
    pub(crate) format: ColumnarFormat,
    /// Maximum number of rows in a batch.
    pub(crate) batch_size: usize,
    /// Keep all rows and ignore the column `deleted`.
    pub(crate) include_deleted: bool,
    /// Name of the vector column; `vector` by default.
    pub(crate) vector_column: Option<String>,
    /// Name of the label column, which must then exist. By default `label`, then `internal_id`,
    /// then the row numbers. In an export only some vectors have a label, so its labels are the
    /// row numbers by default.
    pub(crate) label_column: Option<String>,
    /// Use row numbers as labels, even if the file has a label column.
    pub(crate) row_numbers: bool,
    pub(crate) io: IoMode,
}

/// The type required of a vector column, for errors.
pub(crate) const VECTOR_TYPE: &str = "a list of float16, float32 or float64";

/// A column's name.
pub(crate) type Name = Arc<str>;

/// The names of the columns to look for, without duplicates.
pub(crate) struct Wanted {
    vector: Name,
    /// Candidates in order of precedence.
    labels: Vec<Name>,
    /// True if one of the candidates must exist.
    label_required: bool,
    deleted: Option<Name>,
}

impl Wanted {
    pub(super) fn new(options: &ReadOptions) -> Result<Self> {
        let vector: Name = options.vector_column.as_deref().unwrap_or(VECTOR).into();
        let labels: Vec<Name> = match &options.label_column {
            Some(label) if options.row_numbers => {
                return Err(Error::argument(
                    "label_column",
                    label,
                    "none with row_numbers",
                ));
            }
            _ if options.row_numbers => Vec::new(),
            Some(label) if **label == *vector => {
                return Err(Error::argument(
                    "label_column",
                    label,
                    "a column other than the vector column",
                ));
            }
            Some(label) => vec![label.as_str().into()],
            None => [LABEL, INTERNAL_ID].map(Name::from).into(),
        };
        // A column that the caller names for another purpose does not mark deletions.
        let is_taken = |name: &str| {
            let label = options.label_column.as_deref();
            *vector == *name || label == Some(name)
        };
        Ok(Self {
            // A vector column called `label` is not a candidate for the labels.
            labels: labels.into_iter().filter(|l| *l != vector).collect(),
            label_required: options.label_column.is_some(),
            deleted: (!options.include_deleted && !is_taken(DELETED)).then(|| DELETED.into()),
            vector,
        })
    }

    /// All names, in the order that [`choose`](Self::choose) expects.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.vector)
            .chain(&self.labels)
            .chain(&self.deleted)
    }

    /// Chooses columns among `found`; `all` names every column of the file for errors. In an
    /// export, label columns are used only on request.
    pub(crate) fn choose<T>(
        &self,
        input: &Input,
        found: Vec<Found<T>>,
        all: &ColumnNames,
        is_export: bool,
    ) -> Result<Chosen<T>> {
        let mut found = found.into_iter();
        let mut next = |name: &Name| match found.next() {
            Some(Found { seen, .. }) if seen > 1 => Err(input.invalid(
                format!("column {name}"),
                format!("{seen} columns of that name"),
                "one",
            )),
            found => Ok(found
                .and_then(|found| found.column)
                .map(|column| (name.clone(), column))),
        };
        let missing = |name: &Name, expected| {
            input.invalid(
                format!("column {name}"),
                "no such column",
                format!("{expected}; {all}"),
            )
        };
        let vector = next(&self.vector)?.ok_or_else(|| missing(&self.vector, VECTOR_TYPE))?;
        let mut label = None;
        for name in &self.labels {
            // Duplicates of a column that is not used do no harm.
            let candidate = next(name);
            if label.is_none() && (!is_export || self.label_required) {
                label = candidate?;
            }
        }
        if let (None, true, Some(name)) = (&label, self.label_required, self.labels.first()) {
            return Err(missing(name, INTEGER_TYPE));
        }
        Ok(Chosen {
            vector,
            label,
            deleted: match &self.deleted {
                Some(name) => next(name)?,
                None => None,
            },
        })
    }
}

/// The type required of a label column, for errors.
pub(crate) const INTEGER_TYPE: &str = "an integer of at most 64 bits";

/// The result of the search for a column.
pub(crate) struct Found<T> {
    /// Number of columns with this name.
    pub(crate) seen: usize,
    /// The last such column.
    pub(crate) column: Option<T>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self {
            seen: 0,
            column: None,
        }
    }
}

/// The columns to read, with their names.
pub(crate) struct Chosen<T> {
    pub(crate) vector: (Name, T),
    pub(crate) label: Option<(Name, T)>,
    pub(crate) deleted: Option<(Name, T)>,
}

/// Column names for errors, abbreviated if there are many or long ones.
#[derive(Debug, Default)]
pub(crate) struct ColumnNames {
    first: Vec<String>,
    count: usize,
}

/// Maximum number of column names in an error, and of characters of each.
const NAMES_SHOWN: usize = 20;
const CHARACTERS_SHOWN: usize = 60;

impl ColumnNames {
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMES_SHOWN {
            // A UTF-8 character has at most 4 bytes; one more tells that the name was cut.
            let start = name.get(..4 * CHARACTERS_SHOWN + 4).unwrap_or(name);
            let name = String::from_utf8_lossy(start);
            let mut shown: String = name.chars().take(CHARACTERS_SHOWN).collect();
            if shown.len() < name.len() {
                shown.push('…');
            }
            self.first.push(shown.escape_debug().to_string());
        }
    }
}

impl fmt::Display for ColumnNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first.is_empty() {
            return f.write_str("the file has no columns");
        }
        write!(f, "the file has {}", self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more columns"),
        }
    }
}
