//! Any columns of a file, chosen by name.

use super::metadata::{Annotation, Element, Field, Physical};
use super::page::{ColumnReader, Form, Leaf};
use super::{
    chunks_of, describe, float, footer, integer, list, list_leaf, mistyped, optional, vector_leaf,
    with_footer, Vector,
};
use crate::base::memory;
use crate::columnar::bytes::{Decoded, Input};
use crate::columnar::cells::VectorRow;
use crate::columnar::selection::Name;
use crate::columnar::table::cell::{CellSink, ColumnKind, ScalarType, CELL_TYPE, HOLD_CELLS};
use crate::columnar::table::{Contents, Selected, TableRows};
use crate::error::{Error, Result};

/// The columns of a file, not yet chosen.
pub(crate) struct ParquetTable {
    /// In the order of [`Contents`].
    fields: Vec<Field>,
    leaves: u64,
    rows: u64,
}

impl ParquetTable {
    /// Reads the footer, and adds columns and metadata to `contents`.
    pub(crate) fn open(input: &Input, contents: &mut Contents) -> Result<Self> {
        with_footer(input, |footer| {
            let mut fields = Vec::new();
            let leaves = footer.for_each_field(|name, field| {
                contents.push_column(name, CellType::kind(&field.elements))?;
                memory::reserve(&mut fields, 1, "hold the columns")?;
                fields.push(field);
                Ok(())
            })?;
            footer.for_each_pair(|key, value| contents.push_metadata(key, value))?;
            let groups = footer.row_groups(&[], leaves)?;
            Ok(Self {
                fields,
                leaves,
                rows: groups.iter().map(|group| group.rows).sum(),
            })
        })
    }

    pub(crate) fn row_count(&self) -> u64 {
        self.rows
    }

    pub(crate) fn select(self, input: &Input, selected: &Selected) -> Result<ParquetRows> {
        let field = |position: usize| {
            let field = self.fields.get(position);
            field.ok_or_else(|| Error::internal(format!("no column {position}")))
        };
        let mistyped = |name: &Name, error| input.error(format!("column {name}"), error);

        // Chunks are requested in the order cells, vectors.
        let mut wanted = Vec::new();
        let mut types = Vec::new();
        for (name, position) in &selected.cells {
            let field = field(*position)?;
            wanted.push(field.leaf);
            types.push(CellType::new(&field.elements).map_err(|error| mistyped(name, error))?);
        }
        let mut vector = None;
        if let Some((name, position)) = &selected.vector {
            let field = field(*position)?;
            wanted.push(field.leaf);
            let type_ = vector_leaf(&field.elements).map_err(|error| mistyped(name, error))?;
            vector = Some((name, type_));
        }

        let groups = with_footer(input, |footer| footer.row_groups(&wanted, self.leaves))?;
        if groups.iter().map(|group| group.rows).sum::<u64>() != self.rows {
            let expected = format!("{} rows, as when it was opened", self.rows);
            return Err(input.invalid(footer(), "another number of rows", expected));
        }
        let reader = |name: &Name, number, leaf| -> Result<_> {
            let chunks = chunks_of(&groups, number)?;
            Ok(ColumnReader::new(input.clone(), name.clone(), leaf, chunks))
        };
        let vector = match vector {
            Some((name, (leaf, float, empty))) => Some(Vector {
                column: reader(name, types.len(), leaf)?,
                empty,
                present: leaf.max_definition,
                float,
            }),
            None => None,
        };
        let columns = selected.cells.iter().zip(types).enumerate();
        let cells = columns.map(|(number, ((name, _), type_))| {
            Ok(CellColumn {
                column: reader(name, number, type_.leaf)?,
                type_,
            })
        });
        Ok(ParquetRows {
            vector,
            cells: cells.collect::<Result<_>>()?,
        })
    }
}

/// The chosen columns. Each has its own cursor, so that they need no common state.
pub(crate) struct ParquetRows {
    vector: Option<Vector>,
    cells: Vec<CellColumn>,
}

impl TableRows for ParquetRows {
    fn next_row(&mut self) -> Result<()> {
        Ok(())
    }

    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        match &mut self.vector {
            Some(vector) => vector.next(row),
            None => Err(Error::internal("no column of vectors")),
        }
    }

    fn cell(&mut self, column: usize, sink: &mut CellSink<'_>) -> Result<()> {
        match self.cells.get_mut(column) {
            Some(column) => column.next(sink),
            None => Err(Error::internal(format!("no column {column}"))),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let vector = self.vector.iter_mut().map(|vector| &mut vector.column);
        let cells = self.cells.iter_mut().map(|cells| &mut cells.column);
        vector.chain(cells).try_for_each(ColumnReader::finish_group)
    }
}

/// The type of a column of cells.
#[derive(Clone, Copy, Debug)]
struct CellType {
    leaf: Leaf,
    scalar: ScalarType,
    /// Definition level of an empty list; `None` if the cells are scalars.
    empty: Option<u64>,
}

impl CellType {
    fn new(elements: &[Element]) -> Decoded<Self> {
        Self::find(elements).ok_or_else(|| mistyped(elements, CELL_TYPE))
    }

    fn kind(elements: &[Element]) -> ColumnKind {
        match Self::find(elements) {
            Some(Self {
                scalar,
                empty: None,
                ..
            }) => ColumnKind::Scalar(scalar.kind()),
            Some(Self { scalar, .. }) => ColumnKind::List(scalar.kind()),
            None => ColumnKind::Other(describe(elements)),
        }
    }

    fn find(elements: &[Element]) -> Option<Self> {
        if let Some((element, empty)) = list(elements) {
            let (physical, form, scalar) = scalar(element)?;
            return Some(Self {
                leaf: list_leaf(element, physical, form, empty),
                scalar,
                empty: Some(empty),
            });
        }
        let [element] = elements else {
            return None;
        };
        let (physical, form, scalar) = scalar(element)?;
        let leaf = Leaf {
            physical,
            form,
            repeated: false,
            max_definition: optional(element),
        };
        Some(Self {
            leaf,
            scalar,
            empty: None,
        })
    }
}

/// The type of a leaf's values, and how they are stored.
fn scalar(element: &Element) -> Option<(Physical, Form, ScalarType)> {
    if let Some((physical, type_)) = integer(element) {
        let form = Form::Number(type_.width());
        return Some((physical, form, ScalarType::Integer(type_)));
    }
    if let Some((physical, type_)) = float(element) {
        let form = Form::Number(type_.width());
        return Some((physical, form, ScalarType::Float(type_)));
    }
    let physical = element.physical?;
    let width = element.length.and_then(|len| usize::try_from(len).ok());
    let width = width.filter(|len| *len > 0);
    let (form, scalar) = match (physical, element.annotation) {
        (Physical::Boolean, None) => (Form::Bit, ScalarType::Bool),
        // Columns without any value have a type only by name.
        (Physical::Int32, Some(Annotation::Other("null"))) => (Form::Number(4), ScalarType::Null),
        (Physical::ByteArray, None | Some(Annotation::Other("string" | "enum" | "JSON"))) => {
            (Form::Text, ScalarType::Text)
        }
        (Physical::FixedLenByteArray, None) => (Form::FixedText(width?), ScalarType::Text),
        (Physical::FixedLenByteArray, Some(Annotation::Other("UUID"))) if width == Some(16) => {
            (Form::FixedText(16), ScalarType::Uuid)
        }
        _ => return None,
    };
    Some((physical, form, scalar))
}

struct CellColumn {
    column: ColumnReader,
    type_: CellType,
}

impl CellColumn {
    fn next(&mut self, sink: &mut CellSink<'_>) -> Result<()> {
        let mut definition = self.column.next_row()?;
        let Some(empty) = self.type_.empty else {
            return self.value(definition, sink);
        };
        if definition < empty {
            return sink.null();
        }
        sink.begin_list();
        if definition == empty {
            return Ok(());
        }
        loop {
            self.value(definition, sink)?;
            match self.column.next_in_row()? {
                Some(next) => definition = next,
                None => return Ok(()),
            }
        }
    }

    /// Reads a value, or the element of a list, with this definition level.
    fn value(&mut self, definition: u64, sink: &mut CellSink<'_>) -> Result<()> {
        let CellType { leaf, scalar, .. } = self.type_;
        if definition < leaf.max_definition {
            return sink.null();
        }
        match scalar {
            ScalarType::Text | ScalarType::Uuid => self.column.text(|bytes| {
                sink.text(scalar, bytes.len() as u64, |out| {
                    memory::reserve(out, bytes.len(), HOLD_CELLS)?;
                    out.extend_from_slice(bytes);
                    Ok(())
                })
            }),
            _ => sink.number(scalar, self.column.value()?),
        }
    }
}
