//! The schema: columns, and the nodes and buffers of a record batch that belong to each.
//!
//! A record batch lists the nodes (lengths and null counts) and buffers of all columns in
//! depth-first order. To locate a column, the reader must count the nodes and buffers of
//! every column in front of it. Source: `Schema.fbs` and <https://arrow.apache.org/docs/format/Columnar.html>.

use super::cells::Layout;
use super::flatbuffer::Table;
use super::format::{
    dictionary_encoding, field as field_of, fixed_size_binary, fixed_size_list, floating_point,
    int, key_value, schema, type_code, union,
};
use super::messages::Schema;
use super::parts::Size;
use crate::columnar::bytes::{DecodeError, Decoded};
use crate::columnar::cells::{FloatType, IntegerType};
use crate::columnar::selection::{ColumnNames, Found, INTEGER_TYPE, VECTOR_TYPE};
use crate::columnar::table::cell::{ScalarType, CELL_TYPE};

/// Maximum nesting of skipped columns.
const MAX_DEPTH: u32 = 64;

/// Indices of a column's first node and buffer in a record batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) node: usize,
    /// Excludes variadic buffers, which each record batch counts for itself.
    pub(crate) buffer: usize,
    /// Number of columns with variadic buffers in front of this one.
    pub(crate) variadic: usize,
}

/// A column found by name.
pub(crate) struct Field<'a> {
    pub(crate) slot: Slot,
    field: Table<'a>,
    /// The code of an unknown type in front of it. The number of its buffers is unknown, so `slot`
    /// is wrong.
    lost: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ListKind {
    /// Fixed-size lists of this many elements.
    Fixed(u64),
    /// Lists with offsets of this many bytes each.
    Offsets(usize),
}

impl ListKind {
    /// Number of buffers of offsets.
    pub(super) fn offset_buffers(self) -> usize {
        match self {
            Self::Fixed(_) => 0,
            Self::Offsets(_) => 1,
        }
    }

    /// Size of a column of lists with such elements.
    pub(super) fn size(self, elements: Size) -> Size {
        Size {
            nodes: elements.nodes + 1,
            // The lists have a validity bitmap.
            buffers: elements.buffers + 1 + self.offset_buffers(),
            is_variadic: elements.is_variadic,
        }
    }
}

struct Walk {
    slot: Slot,
    lost: Option<u8>,
    /// Number of fields left to visit. Tables can be shared, so a short schema could otherwise
    /// describe an endless tree.
    budget: usize,
    /// True if unions have validity bitmaps, as in metadata version 4.
    union_validity: bool,
}

/// Finds the columns of a schema that have one of `names`, and collects all column names in `all`.
pub(super) fn fields<'a>(
    schema: &Schema<'a>,
    names: &[&str],
    all: &mut ColumnNames,
) -> Decoded<Vec<Found<Field<'a>>>> {
    let mut found: Vec<Found<Field<'a>>> = names.iter().map(|_| Found::default()).collect();
    for_each_field(schema, |name, field| {
        all.push(name);
        let mut columns = names.iter().zip(&mut found);
        if let Some((_, found)) = columns.find(|(wanted, _)| wanted.as_bytes() == name) {
            found.seen += 1;
            found.column = Some(field);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Calls `visit` with the name and the description of each column.
pub(super) fn for_each_field<'a>(
    schema: &Schema<'a>,
    mut visit: impl FnMut(&'a [u8], Field<'a>) -> Decoded<()>,
) -> Decoded<()> {
    let mut walk = Walk {
        slot: Slot::default(),
        lost: None,
        // Each field takes at least a 4-byte entry in a vector of the buffer, unless it is shared.
        budget: schema.len / 4,
        union_validity: schema.union_validity,
    };
    for field in schema.table.tables(schema::FIELDS)? {
        let field = field?;
        let column = Field {
            slot: walk.slot,
            field,
            lost: walk.lost,
        };
        visit(field.vector(field_of::NAME, 1)?, column)?;
        // Wanted or not, the column advances the slot of the next one.
        walk.skip(&field, 0)?;
    }
    Ok(())
}

/// Calls `visit` with each key and value of the schema's metadata.
pub(super) fn for_each_pair<'a>(
    table: &Table<'a>,
    mut visit: impl FnMut(&'a [u8], &'a [u8]) -> Decoded<()>,
) -> Decoded<()> {
    for pair in table.tables(schema::CUSTOM_METADATA)? {
        let pair = pair?;
        visit(
            pair.vector(key_value::KEY, 1)?,
            pair.vector(key_value::VALUE, 1)?,
        )?;
    }
    Ok(())
}

/// Returns true if the schema's metadata has this key. Malformed metadata counts as absent, because
/// nothing else depends on it.
pub(crate) fn has_key(table: &Table<'_>, wanted: &str) -> bool {
    let is_wanted = |pair: Decoded<Table<'_>>| -> Decoded<bool> {
        Ok(pair?.vector(key_value::KEY, 1)? == wanted.as_bytes())
    };
    let pairs = table.tables(schema::CUSTOM_METADATA);
    pairs.is_ok_and(|mut pairs| pairs.any(|pair| is_wanted(pair).unwrap_or(false)))
}

impl Walk {
    fn skip(&mut self, field: &Table<'_>, depth: u32) -> Decoded<()> {
        self.budget = self
            .budget
            .checked_sub(1)
            .filter(|_| depth <= MAX_DEPTH)
            .ok_or_else(|| DecodeError::new("a schema nested too deeply", "a tree of columns"))?;
        let code = type_code(field)?;
        // Validity and indices; the values come in dictionary messages.
        let (own, has_children) = if is_dictionary(field)? {
            (Some(2), false)
        } else {
            let buffers = match code {
                type_code::NULL | type_code::RUN_END_ENCODED => Some(0),
                // Validity bitmap.
                type_code::STRUCT | type_code::FIXED_SIZE_LIST => Some(1),
                // Validity bitmap, and values or offsets.
                type_code::INT
                | type_code::FLOATING_POINT
                | type_code::BOOL
                | type_code::DECIMAL
                | type_code::DATE
                | type_code::TIME
                | type_code::TIMESTAMP
                | type_code::INTERVAL
                | type_code::LIST
                | type_code::FIXED_SIZE_BINARY
                | type_code::MAP
                | type_code::DURATION
                | type_code::LARGE_LIST => Some(2),
                // Validity bitmap, offsets, and values or sizes.
                type_code::BINARY
                | type_code::UTF8
                | type_code::LARGE_BINARY
                | type_code::LARGE_UTF8
                | type_code::LIST_VIEW
                | type_code::LARGE_LIST_VIEW => Some(3),
                // Validity bitmap, views, and a variable number of data buffers.
                type_code::BINARY_VIEW | type_code::UTF8_VIEW => {
                    self.slot.variadic += 1;
                    Some(2)
                }
                // Type ids, and offsets for dense unions.
                type_code::UNION => {
                    let parameters = field.table(field_of::TYPE)?;
                    let mode = parameters.map_or(Ok(0), |table| table.i16(union::MODE))?;
                    let dense = usize::from(mode == union::DENSE);
                    Some(dense + 1 + usize::from(self.union_validity))
                }
                _ => None,
            };
            (buffers, true)
        };
        match own {
            Some(buffers) => self.slot.buffer += buffers,
            None => self.lost = self.lost.or(Some(code)),
        }
        self.slot.node += 1;
        if has_children {
            for child in field.tables(field_of::CHILDREN)? {
                self.skip(&child?, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn type_code(field: &Table<'_>) -> Decoded<u8> {
    field.u8(field_of::TYPE_CODE)
}

fn is_dictionary(field: &Table<'_>) -> Decoded<bool> {
    Ok(field.table(field_of::DICTIONARY)?.is_some())
}

/// Storage of a column of integers or booleans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerField {
    /// Type of the stored values; `None` for booleans.
    pub(crate) stored: Option<IntegerType>,
    /// Id of the dictionary and type of its values. The record batches then hold indices.
    pub(crate) dictionary: Option<(i64, IntegerType)>,
}

/// Storage of a column of cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellField {
    /// `None` if the cells are scalars.
    pub(super) list: Option<ListKind>,
    pub(super) scalar: ScalarField,
}

/// Storage of scalar values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarField {
    pub(super) type_: ScalarType,
    /// Layout of the values, which a dictionary can hold.
    pub(super) layout: Layout,
    /// Id of the dictionary and type of the indices, which the record batches then hold.
    pub(super) dictionary: Option<(i64, IntegerType)>,
}

impl Field<'_> {
    /// Checks that the column holds scalars, or lists of them.
    pub(crate) fn cells(&self) -> Decoded<CellField> {
        self.check_known()?;
        if let Some(scalar) = scalar(&self.field)? {
            return Ok(CellField { list: None, scalar });
        }
        let list = list_kind(&self.field)?.filter(|_| !is_dictionary(&self.field).unwrap_or(true));
        let mut children = self.field.tables(field_of::CHILDREN)?;
        if let (Some(_), Some(child), None) = (list, children.next(), children.next()) {
            if let Some(scalar) = scalar(&child?)? {
                return Ok(CellField { list, scalar });
            }
        }
        Err(mistyped(&self.field, CELL_TYPE)?)
    }

    /// Checks that the column is a list of floats. Returns the kind of list and the component type.
    pub(crate) fn vector(&self) -> Decoded<(ListKind, FloatType)> {
        self.check_known()?;
        refuse_dictionary(&self.field)?;
        let wrong = || mistyped(&self.field, VECTOR_TYPE);
        let Some(kind) = list_kind(&self.field)? else {
            return Err(wrong()?);
        };
        let mut children = self.field.tables(field_of::CHILDREN)?;
        let (Some(child), None) = (children.next(), children.next()) else {
            return Err(DecodeError::new(
                "a list type without a child field",
                "one child field",
            ));
        };
        let child = child?;
        refuse_dictionary(&child)?;
        match float_type(&child)? {
            Some(float) => Ok((kind, float)),
            None => Err(wrong()?),
        }
    }

    /// Checks that the column holds integers. Booleans are accepted if `boolean` is set.
    pub(crate) fn integer(&self, boolean: bool) -> Decoded<IntegerField> {
        self.check_known()?;
        let parameters = self.field.table(field_of::TYPE)?;
        let dictionary = self.field.table(field_of::DICTIONARY)?;
        match (type_code(&self.field)?, parameters, dictionary) {
            (type_code::BOOL, _, None) if boolean => Ok(IntegerField {
                stored: None,
                dictionary: None,
            }),
            (type_code::INT, Some(int), None) => Ok(IntegerField {
                stored: Some(integer_type(&int)?),
                dictionary: None,
            }),
            (type_code::INT, Some(int), Some(encoding)) => {
                let (id, stored) = dictionary_of(&encoding)?;
                Ok(IntegerField {
                    stored: Some(stored),
                    dictionary: Some((id, integer_type(&int)?)),
                })
            }
            _ if boolean => Err(mistyped(&self.field, "a boolean or an integer")?),
            _ => Err(mistyped(&self.field, INTEGER_TYPE)?),
        }
    }

    fn check_known(&self) -> Decoded<()> {
        if let Some(code) = self.lost {
            return Err(DecodeError::unsupported(
                format!("a column of unknown type {code} before it"),
                "only types up to LargeListView before a column that is needed",
            ));
        }
        Ok(())
    }
}

/// Id of a dictionary, and type of the indices.
fn dictionary_of(encoding: &Table<'_>) -> Decoded<(i64, IntegerType)> {
    let index = match encoding.table(dictionary_encoding::INDEX_TYPE)? {
        Some(index) => integer_type(&index)?,
        // `Schema.fbs`: without an index type, indices are signed 32-bit integers.
        None => IntegerType::new(32, true),
    };
    Ok((encoding.i64(dictionary_encoding::ID)?, index))
}

/// The kind of list; `None` for other types.
fn list_kind(field: &Table<'_>) -> Decoded<Option<ListKind>> {
    Ok(Some(match type_code(field)? {
        type_code::LIST => ListKind::Offsets(4),
        type_code::LARGE_LIST => ListKind::Offsets(8),
        type_code::FIXED_SIZE_LIST => {
            let parameters = field.table(field_of::TYPE)?;
            let size = parameters.map_or(Ok(0), |list| list.i32(fixed_size_list::LIST_SIZE))?;
            let size = u64::try_from(size)
                .map_err(|_| DecodeError::new(format!("lists of {size} elements"), "0 or more"))?;
            ListKind::Fixed(size)
        }
        _ => return Ok(None),
    }))
}

/// The storage of scalars; `None` for other types.
fn scalar(field: &Table<'_>) -> Decoded<Option<ScalarField>> {
    let parameters = field.table(field_of::TYPE)?;
    let dictionary = field.table(field_of::DICTIONARY)?;
    let (type_, layout) = match (type_code(field)?, parameters) {
        (type_code::NULL, _) if dictionary.is_none() => (ScalarType::Null, Layout::Nothing),
        (type_code::BOOL, _) => (ScalarType::Bool, Layout::Bits),
        (type_code::INT, Some(int)) => {
            let type_ = integer_type(&int)?;
            (ScalarType::Integer(type_), Layout::Number(type_))
        }
        (type_code::FLOATING_POINT, _) => match float_type(field)? {
            Some(float) => {
                let stored = match float {
                    FloatType::Half => 16,
                    FloatType::Single => 32,
                    FloatType::Double => 64,
                };
                let stored = IntegerType::new(stored, false);
                (ScalarType::Float(float), Layout::Number(stored))
            }
            None => return Ok(None),
        },
        (type_code::UTF8 | type_code::BINARY, _) => (ScalarType::Text, Layout::Texts(4)),
        (type_code::LARGE_UTF8 | type_code::LARGE_BINARY, _) => {
            (ScalarType::Text, Layout::Texts(8))
        }
        (type_code::UTF8_VIEW | type_code::BINARY_VIEW, _) => (ScalarType::Text, Layout::Views),
        (type_code::FIXED_SIZE_BINARY, Some(binary)) => {
            match u32::try_from(binary.i32(fixed_size_binary::BYTE_WIDTH)?) {
                Ok(16) if is_uuid(field)? => (ScalarType::Uuid, Layout::FixedTexts(16)),
                Ok(width @ 1..) => (ScalarType::Text, Layout::FixedTexts(width)),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(ScalarField {
        type_,
        layout,
        dictionary: dictionary.as_ref().map(dictionary_of).transpose()?,
    }))
}

/// Returns true if the column has the canonical extension type of UUIDs.
fn is_uuid(field: &Table<'_>) -> Decoded<bool> {
    for pair in field.tables(field_of::CUSTOM_METADATA)? {
        let pair = pair?;
        if pair.vector(key_value::KEY, 1)? == b"ARROW:extension:name" {
            return Ok(pair.vector(key_value::VALUE, 1)? == b"arrow.uuid");
        }
    }
    Ok(false)
}

/// The type of floats; `None` for other types.
fn float_type(field: &Table<'_>) -> Decoded<Option<FloatType>> {
    Ok(match (type_code(field)?, precision(field)?) {
        (type_code::FLOATING_POINT, floating_point::HALF) => Some(FloatType::Half),
        (type_code::FLOATING_POINT, floating_point::SINGLE) => Some(FloatType::Single),
        (type_code::FLOATING_POINT, floating_point::DOUBLE) => Some(FloatType::Double),
        _ => None,
    })
}

fn integer_type(int: &Table<'_>) -> Decoded<IntegerType> {
    match int.i32(int::BIT_WIDTH)? {
        bits @ (8 | 16 | 32 | 64) => {
            let signed = int.u8(int::IS_SIGNED)? != 0;
            Ok(IntegerType::new(bits.unsigned_abs(), signed))
        }
        bits => Err(DecodeError::new(
            format!("integers of {bits} bits"),
            "8 to 64",
        )),
    }
}

fn precision(field: &Table<'_>) -> Decoded<i16> {
    let parameters = field.table(field_of::TYPE)?;
    parameters.map_or(Ok(0), |float| float.i16(floating_point::PRECISION))
}

fn refuse_dictionary(field: &Table<'_>) -> Decoded<()> {
    if is_dictionary(field)? {
        return Err(DecodeError::unsupported(
            "dictionary-encoded vectors",
            "plain vectors",
        ));
    }
    Ok(())
}

/// Error that describes a column's type as found; `Err` if the type itself is malformed.
fn mistyped(field: &Table<'_>, expected: &'static str) -> Decoded<DecodeError> {
    let mut found = type_name(field)?;
    let mut children = field.tables(field_of::CHILDREN)?;
    if let (Some(child), None) = (children.next(), children.next()) {
        found = format!("{found} of {}", type_name(&child?)?);
    }
    if is_dictionary(field)? {
        found = format!("dictionary-encoded {found}");
    }
    Ok(DecodeError::new(found, expected))
}

fn type_name(field: &Table<'_>) -> Decoded<String> {
    let code = type_code(field)?;
    let name = match code {
        type_code::INT => {
            let (bits, signed) = match field.table(field_of::TYPE)? {
                Some(int) => (int.i32(int::BIT_WIDTH)?, int.u8(int::IS_SIGNED)? != 0),
                None => (0, false),
            };
            return Ok(format!("{}int{bits}", if signed { "" } else { "u" }));
        }
        type_code::FLOATING_POINT => match precision(field)? {
            floating_point::HALF => "float16",
            floating_point::SINGLE => "float32",
            _ => "float64",
        },
        type_code::NULL => "null",
        type_code::BINARY => "binary",
        type_code::UTF8 => "string",
        type_code::BOOL => "boolean",
        type_code::DECIMAL => "decimal",
        type_code::DATE => "date",
        type_code::TIME => "time",
        type_code::TIMESTAMP => "timestamp",
        type_code::INTERVAL => "interval",
        type_code::LIST => "list",
        type_code::STRUCT => "struct",
        type_code::UNION => "union",
        type_code::FIXED_SIZE_BINARY => "fixed-size binary",
        type_code::FIXED_SIZE_LIST => "fixed-size list",
        type_code::MAP => "map",
        type_code::DURATION => "duration",
        type_code::LARGE_BINARY => "large binary",
        type_code::LARGE_UTF8 => "large string",
        type_code::LARGE_LIST => "large list",
        type_code::RUN_END_ENCODED => "run-end encoded",
        type_code::BINARY_VIEW => "binary view",
        type_code::UTF8_VIEW => "string view",
        type_code::LIST_VIEW => "list view",
        type_code::LARGE_LIST_VIEW => "large list view",
        _ => return Ok(format!("unknown type {code}")),
    };
    Ok(name.into())
}
