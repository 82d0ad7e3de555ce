//! Parquet, read column by column and page by page.
//!
//! ```text
//! "PAR1"
//! row group 0:  column chunk 0:  [dictionary page] data page, data page, …
//!               column chunk 1:  …
//! row group 1:  …
//! footer (Thrift: schema, place of every column chunk), u32 length of the footer, "PAR1"
//! ```
//!
//! Each wanted column has its own cursor over its pages, so no row group is in memory at once.
//! Source: <https://github.com/apache/parquet-format>.

mod encoding;
mod metadata;
mod page;
mod table;
mod text;
mod thrift;

use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Decoded, Input, MAX_METADATA};
use crate::columnar::cells::{Columns, FloatType, IntegerType, VectorRow};
use crate::columnar::selection::{
    Chosen, ColumnNames, Name, Wanted, EXPORT_KEY, INTEGER_TYPE, VECTOR_TYPE,
};
use crate::error::Result;
use metadata::{Annotation, Chunk, Element, Field, Footer, Physical, Repetition, RowGroup};
use page::{ColumnReader, Form, Leaf};
pub(crate) use table::ParquetTable;

const MAGIC: &[u8] = b"PAR1";

#[derive(Debug)]
pub(crate) struct ParquetColumns {
    rows: u64,
    vector: Vector,
    /// Name of the label column; `None` if the row numbers serve as labels.
    label_name: Option<Name>,
    is_export: bool,
    label: Option<Integers>,
    deleted: Option<Integers>,
}

#[derive(Debug)]
struct Vector {
    column: ColumnReader,
    /// Definition level of an empty list; null lists have a lower one.
    empty: u64,
    /// Definition level of a non-null component.
    present: u64,
    float: FloatType,
}

#[derive(Debug)]
struct Integers {
    column: ColumnReader,
    present: u64,
    integer: IntegerType,
}

impl Vector {
    fn next(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        let Self {
            column,
            empty,
            present,
            float,
        } = self;
        let mut definition = column.next_row()?;
        // Below `empty` the list is null; at `empty` it has no components.
        if definition < *empty {
            return row.null();
        }
        if definition == *empty {
            return Ok(());
        }
        loop {
            if definition < *present {
                row.null_element()?;
            }
            let values = column.known_in_row() + u64::from(definition >= *present);
            column.push_values(*float, values, row)?;
            match column.next_in_row()? {
                Some(next) => definition = next,
                None => return Ok(()),
            }
        }
    }
}

impl Integers {
    fn next(&mut self) -> Result<Option<i128>> {
        if self.column.next_row()? < self.present {
            return Ok(None);
        }
        self.column
            .value()
            .map(|bits| Some(self.integer.value(bits)))
    }
}

impl ParquetColumns {
    pub(crate) fn open(input: &Input, wanted: &Wanted) -> Result<Self> {
        with_footer(input, |footer| {
            let names: Vec<&str> = wanted.names().map(|name| &**name).collect();
            let mut all = ColumnNames::default();
            let (found, leaves) = footer.fields(&names, &mut all)?;
            // The inner result is an error that names a column; the outer one is an error of the
            // footer.
            let is_export = footer.has_key(EXPORT_KEY);
            let columns = wanted
                .choose(input, found, &all, is_export)
                .and_then(|chosen| Self::new(input, footer, chosen, leaves));
            Ok(columns.map(|columns| Self {
                is_export,
                ..columns
            }))
        })?
    }

    fn new(input: &Input, parsed: &Footer<'_>, chosen: Chosen<Field>, leaves: u64) -> Result<Self> {
        let mistyped = |name: &Name, error| input.error(format!("column {name}"), error);

        let (name, field) = chosen.vector;
        let (vector_leaf, float, empty) =
            vector_leaf(&field.elements).map_err(|error| mistyped(&name, error))?;
        let integer = |column: Option<(Name, Field)>, boolean| match column {
            None => Ok(None),
            Some((name, field)) => match integer_leaf(&field.elements, boolean) {
                Ok((leaf, integer)) => Ok(Some((name, field.leaf, leaf, integer))),
                Err(error) => Err(mistyped(&name, error)),
            },
        };
        let label = integer(chosen.label, false)?;
        let deleted = integer(chosen.deleted, true)?;

        // Chunks are requested in the order vectors, labels, `deleted`.
        let mut wanted = vec![field.leaf];
        wanted.extend(label.iter().chain(&deleted).map(|known| known.1));
        let groups = parsed
            .row_groups(&wanted, leaves)
            .map_err(|error| input.error(footer(), error))?;
        let reader = |name, number, leaf| -> Result<_> {
            let chunks = chunks_of(&groups, number)?;
            Ok(ColumnReader::new(input.clone(), name, leaf, chunks))
        };
        let deleted_number = 1 + usize::from(label.is_some());
        let integers = |known: Option<(Name, u64, Leaf, IntegerType)>, number| -> Result<_> {
            let Some((name, _, leaf, integer)) = known else {
                return Ok(None);
            };
            Ok(Some(Integers {
                column: reader(name, number, leaf)?,
                present: leaf.max_definition,
                integer,
            }))
        };
        Ok(Self {
            is_export: false,
            rows: groups.iter().map(|group| group.rows).sum(),
            vector: Vector {
                column: reader(name, 0, vector_leaf)?,
                empty,
                present: vector_leaf.max_definition,
                float,
            },
            label_name: label.as_ref().map(|known| known.0.clone()),
            label: integers(label, 1)?,
            deleted: integers(deleted, deleted_number)?,
        })
    }
}

fn footer() -> String {
    "footer".into()
}

/// Finds the footer at the end of the file, and calls `read` with it.
fn with_footer<T>(input: &Input, read: impl FnOnce(&Footer<'_>) -> Decoded<T>) -> Result<T> {
    let len = input.len();
    let tail = len.saturating_sub(8);
    // The file ends with the u32 length of the footer and the magic number.
    let footer_len = input.decode(tail, len - tail, len, footer, |bytes| {
        match bytes.split_last_chunk::<4>() {
            Some((length, b"PAR1")) => match length.try_into() {
                Ok(length) => Ok(u64::from(u32::from_le_bytes(length))),
                Err(_) => Err(DecodeError::end()),
            },
            Some((_, b"PARE")) => Err(DecodeError::unsupported(
                "an encrypted Parquet file",
                "an unencrypted file",
            )),
            _ => Err(DecodeError::new(
                "other bytes at the end of the file",
                "PAR1, as at the end of every Parquet file",
            )),
        }
    })?;
    let start = tail
        .checked_sub(footer_len)
        .filter(|start| *start >= MAGIC.len() as u64 && footer_len <= MAX_METADATA)
        .ok_or_else(|| {
            input.invalid(
                "length of the footer",
                format!("{footer_len} bytes"),
                format!("less than the file's {len}, and at most {MAX_METADATA}"),
            )
        })?;
    input.decode(start, footer_len, tail, footer, |bytes| {
        read(&Footer::new(bytes)?)
    })
}

fn chunks_of(groups: &[RowGroup], number: usize) -> Result<Vec<(u64, Chunk)>> {
    let mut chunks = memory::with_capacity(groups.len(), "hold the row groups")?;
    let known = groups.iter();
    chunks.extend(known.filter_map(|group| Some((group.rows, *group.chunks.get(number)?))));
    Ok(chunks)
}

/// The number of definition levels that an element adds because it can be null.
fn optional(element: &Element) -> u64 {
    u64::from(element.repetition == Repetition::Optional)
}

/// The element of a list, and the definition level of an empty list; `None` for other columns.
fn list(elements: &[Element]) -> Option<(&Element, u64)> {
    let is_list = |element: &Element| {
        element.physical.is_none()
            && element.children == 1
            && element.repetition != Repetition::Repeated
            && element.annotation == Some(Annotation::List)
    };
    let repeated = |element: &Element| element.repetition == Repetition::Repeated;
    match elements {
        // A repeated field outside of a list, as Protocol Buffers writers produce it.
        [leaf] if repeated(leaf) => Some((leaf, 0)),
        // The two-level form of old writers, then the standard three-level form.
        [list, leaf] if is_list(list) && repeated(leaf) => Some((leaf, optional(list))),
        [list, group, leaf]
            if is_list(list) && repeated(group) && group.children == 1 && !repeated(leaf) =>
        {
            Some((leaf, optional(list)))
        }
        _ => None,
    }
}

/// The leaf of a list's elements.
fn list_leaf(element: &Element, physical: Physical, form: Form, empty: u64) -> Leaf {
    Leaf {
        physical,
        form,
        repeated: true,
        // One level for the repeated field, and one if the elements are optional.
        max_definition: empty + 1 + optional(element),
    }
}

/// The leaf of a list of floats, its type, and the definition level of an empty list.
fn vector_leaf(elements: &[Element]) -> Decoded<(Leaf, FloatType, u64)> {
    list(elements)
        .and_then(|(element, empty)| {
            let (physical, float) = float(element)?;
            let leaf = list_leaf(element, physical, Form::Number(float.width()), empty);
            Some((leaf, float, empty))
        })
        .ok_or_else(|| mistyped(elements, VECTOR_TYPE))
}

/// The types of an element that holds floats.
fn float(element: &Element) -> Option<(Physical, FloatType)> {
    let physical = element.physical?;
    let float = match (physical, element.annotation, element.length) {
        (Physical::Float, None, _) => FloatType::Single,
        (Physical::Double, None, _) => FloatType::Double,
        (Physical::FixedLenByteArray, Some(Annotation::Float16), Some(2)) => FloatType::Half,
        _ => return None,
    };
    Some((physical, float))
}

/// The types of an element that holds integers.
fn integer(element: &Element) -> Option<(Physical, IntegerType)> {
    let physical = element.physical?;
    let storage = match physical {
        Physical::Int32 => 32,
        Physical::Int64 => 64,
        _ => return None,
    };
    let signed = match element.annotation {
        None => true,
        Some(Annotation::Integer { bits, signed }) if u32::from(bits) <= storage => signed,
        Some(_) => return None,
    };
    Some((physical, IntegerType::new(storage, signed)))
}

fn integer_leaf(elements: &[Element], boolean: bool) -> Decoded<(Leaf, IntegerType)> {
    let wrong = || {
        let expected = if boolean {
            "a boolean or an integer"
        } else {
            INTEGER_TYPE
        };
        mistyped(elements, expected)
    };
    let [element] = elements else {
        return Err(wrong());
    };
    if element.repetition == Repetition::Repeated {
        return Err(wrong());
    }
    let (physical, form, type_) = match (element.physical, element.annotation, integer(element)) {
        (_, _, Some((physical, type_))) => (physical, Form::Number(type_.width()), type_),
        (Some(physical @ Physical::Boolean), None, _) if boolean => {
            (physical, Form::Bit, IntegerType::new(1, false))
        }
        _ => return Err(wrong()),
    };
    let leaf = Leaf {
        physical,
        form,
        repeated: false,
        max_definition: optional(element),
    };
    Ok((leaf, type_))
}

fn mistyped(elements: &[Element], expected: &'static str) -> DecodeError {
    DecodeError::new(describe(elements), expected)
}

fn describe(elements: &[Element]) -> String {
    let describe = |element: &Element| {
        let name = match (element.physical, element.annotation) {
            (None, Some(Annotation::List)) => "list".to_string(),
            (None, Some(Annotation::Other(name))) => name.to_string(),
            (None, _) => "group".to_string(),
            (Some(_), Some(Annotation::Float16)) => "float16".to_string(),
            (Some(physical), Some(Annotation::Other(name))) => format!("{name} ({physical:?})"),
            (Some(physical), _) => format!("{physical:?}"),
        };
        match element.repetition {
            Repetition::Repeated => format!("repeated {name}"),
            _ => name,
        }
    };
    let described: Vec<_> = elements.iter().map(describe).collect();
    described.join(" of ")
}

impl Columns for ParquetColumns {
    fn row_count(&self) -> u64 {
        self.rows
    }

    fn vector_name(&self) -> Name {
        self.vector.column.name()
    }

    fn label_name(&self) -> Option<Name> {
        self.label_name.clone()
    }

    fn is_export(&self) -> bool {
        self.is_export
    }

    fn deleted(&mut self) -> Result<Option<i128>> {
        match &mut self.deleted {
            Some(column) => column.next(),
            None => Ok(Some(0)),
        }
    }

    fn label(&mut self, row: u64) -> Result<Option<i128>> {
        match &mut self.label {
            Some(column) => column.next(),
            None => Ok(Some(row.into())),
        }
    }

    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        self.vector.next(row)
    }

    fn finish(&mut self) -> Result<()> {
        let integers = [&mut self.label, &mut self.deleted].into_iter().flatten();
        std::iter::once(&mut self.vector.column)
            .chain(integers.map(|column| &mut column.column))
            .try_for_each(ColumnReader::finish_group)
    }
}
