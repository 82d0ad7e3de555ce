//! The schema: columns, and the nodes and buffers of a record batch that belong to each.
//!
//! A record batch lists the nodes (lengths and null counts) and buffers of all columns in
//! depth-first order. To locate a column, the reader must count the nodes and buffers of
//! every column in front of it. Source: `Schema.fbs` and <https://arrow.apache.org/docs/format/Columnar.html>.

use super::flatbuffer::Table;
use super::format::{
    dictionary_encoding, field as field_of, fixed_size_list, floating_point, int, key_value,
    schema, type_code, union,
};
use crate::columnar::bytes::{DecodeError, Decoded};
use crate::columnar::cells::{FloatType, IntegerType};
use crate::columnar::selection::{ColumnNames, Found, INTEGER_TYPE, VECTOR_TYPE};

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
/// `len` is the size in bytes of the buffer that holds the schema.
pub(crate) fn fields<'a>(
    table: &Table<'a>,
    len: usize,
    union_validity: bool,
    names: &[&str],
    all: &mut ColumnNames,
) -> Decoded<Vec<Found<Field<'a>>>> {
    let mut found: Vec<Found<Field<'a>>> = names.iter().map(|_| Found::default()).collect();
    let mut walk = Walk {
        slot: Slot::default(),
        lost: None,
        // Each field takes at least a 4-byte entry in a vector of the buffer, unless it is shared.
        budget: len / 4,
        union_validity,
    };
    for field in table.tables(schema::FIELDS)? {
        let field = field?;
        let name = field.vector(field_of::NAME, 1)?;
        all.push(name);
        let mut columns = names.iter().zip(&mut found);
        if let Some((_, found)) = columns.find(|(wanted, _)| wanted.as_bytes() == name) {
            found.seen += 1;
            found.column = Some(Field {
                slot: walk.slot,
                field,
                lost: walk.lost,
            });
        }
        // Found or not, the column advances the slot of the next one.
        walk.skip(&field, 0)?;
    }
    Ok(found)
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

impl Field<'_> {
    /// Checks that the column is a list of floats. Returns the kind of list and the component type.
    pub(crate) fn vector(&self) -> Decoded<(ListKind, FloatType)> {
        self.check_known()?;
        refuse_dictionary(&self.field)?;
        let wrong = || mistyped(&self.field, VECTOR_TYPE);
        let parameters = self.field.table(field_of::TYPE)?;
        let kind = match type_code(&self.field)? {
            type_code::LIST => ListKind::Offsets(4),
            type_code::LARGE_LIST => ListKind::Offsets(8),
            type_code::FIXED_SIZE_LIST => {
                let size = parameters.map_or(Ok(0), |list| list.i32(fixed_size_list::LIST_SIZE))?;
                let size = u64::try_from(size).map_err(|_| {
                    DecodeError::new(format!("lists of {size} elements"), "0 or more")
                })?;
                ListKind::Fixed(size)
            }
            _ => return Err(wrong()?),
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
        match (type_code(&child)?, precision(&child)?) {
            (type_code::FLOATING_POINT, floating_point::HALF) => Ok((kind, FloatType::Half)),
            (type_code::FLOATING_POINT, floating_point::SINGLE) => Ok((kind, FloatType::Single)),
            (type_code::FLOATING_POINT, floating_point::DOUBLE) => Ok((kind, FloatType::Double)),
            _ => Err(wrong()?),
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
                let stored = match encoding.table(dictionary_encoding::INDEX_TYPE)? {
                    Some(index) => integer_type(&index)?,
                    // `Schema.fbs`: without an index type, indices are signed 32-bit integers.
                    None => IntegerType::new(32, true),
                };
                let id = encoding.i64(dictionary_encoding::ID)?;
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
