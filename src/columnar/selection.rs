//! Which of a file's columns are read: those of the vectors, the labels and `deleted`, by name.

use std::fmt;
use std::sync::Arc;

use super::bytes::Input;
use super::columns::{DELETED, INTERNAL_ID, LABEL, VECTOR};
use super::ColumnarFormat;
use crate::error::{Error, Result};
use crate::io::file::IoMode;

/// The key of the file metadata by which the export of a collection is known. Some of its rows may
/// have no vector, and some of its labels may be null.
pub(crate) const EXPORT_KEY: &str = "hnsw_toolbox.collection_id";

/// How a file is read, and which of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOptions {
    pub(crate) format: ColumnarFormat,
    /// Most rows in a batch.
    pub(crate) batch_size: usize,
    /// Keep every row, and do not look at the column `deleted`.
    pub(crate) include_deleted: bool,
    /// The column of the vectors, `vector` unless it is given.
    pub(crate) vector_column: Option<String>,
    /// The column of the labels, which must then exist. Without it, `label` is taken, or else
    /// `internal_id`, or else the row numbers are. Those of an export of a collection are always
    /// the row numbers, as only some of its vectors have a label.
    pub(crate) label_column: Option<String>,
    /// The labels are the row numbers, whatever columns there are.
    pub(crate) row_numbers: bool,
    pub(crate) io: IoMode,
}

/// What a column of vectors must be.
pub(crate) const VECTOR_TYPE: &str = "a list of float16, float32 or float64";

/// A column's name.
pub(crate) type Name = Arc<str>;

/// The names of the columns that may be needed, each once.
pub(crate) struct Wanted {
    vector: Name,
    /// Of which the first that there is will be taken.
    labels: Vec<Name>,
    /// Whether there must be one.
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
                    "another column than that of the vectors",
                ));
            }
            Some(label) => vec![label.as_str().into()],
            None => [LABEL, INTERNAL_ID].map(Name::from).into(),
        };
        let is_taken = |name: &str| {
            let label = options.label_column.as_deref();
            *vector == *name || label == Some(name)
        };
        Ok(Self {
            labels: labels.into_iter().filter(|l| *l != vector).collect(),
            label_required: options.label_column.is_some(),
            deleted: (!options.include_deleted && !is_taken(DELETED)).then(|| DELETED.into()),
            vector,
        })
    }

    /// All of them, in the order of [`choose`](Self::choose)'s argument.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.vector)
            .chain(&self.labels)
            .chain(&self.deleted)
    }

    /// Chooses from the columns of a file, whose columns are called `all`. Of an export, labels
    /// are only taken when they were asked for.
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
            // A column that is not taken may be there twice.
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

/// What a column of labels must be.
pub(crate) const INTEGER_TYPE: &str = "an integer of at most 64 bits";

/// A column that may be there.
pub(crate) struct Found<T> {
    /// How many columns have its name.
    pub(crate) seen: usize,
    /// The last of them.
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

/// The columns that will be read, with their names.
pub(crate) struct Chosen<T> {
    pub(crate) vector: (Name, T),
    pub(crate) label: Option<(Name, T)>,
    pub(crate) deleted: Option<(Name, T)>,
}

/// The names of a file's columns, for errors: of very many or very long ones, the beginning.
#[derive(Debug, Default)]
pub(crate) struct ColumnNames {
    first: Vec<String>,
    count: usize,
}

/// Columns that are named in an error, and characters of each.
const NAMES_SHOWN: usize = 20;
const CHARACTERS_SHOWN: usize = 60;

impl ColumnNames {
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMES_SHOWN {
            // Longer than what is shown, however many bytes a character has.
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
