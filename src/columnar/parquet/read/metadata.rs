//! The footer: columns, and the positions of their chunks.
//!
//! Parses `FileMetaData` of parquet.thrift, but keeps only the wanted columns, so memory does not
//! grow with the others. The structs of parquet-format-safe would hold everything. Its parser also
//! rejects a file if any column has a logical type newer than the crate.

use parquet_format_safe::{CompressionCodec, ConvertedType, FieldRepetitionType, Type};

use super::thrift::{Thrift, Wire};
use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Decoded};
use crate::columnar::codec::Codec;
use crate::columnar::selection::{ColumnNames, Found};

/// Maximum nesting of skipped columns.
const MAX_SCHEMA_DEPTH: usize = 1000;

/// Maximum number of schema elements kept per wanted column. Lists have at most three; a fourth
/// marks the column as something else.
const KEPT_ELEMENTS: usize = 4;

/// Field ids used here, grouped by the structs of parquet.thrift.
mod fields {
    pub(super) mod file_metadata {
        pub(crate) const SCHEMA: i64 = 2;
        pub(crate) const NUM_ROWS: i64 = 3;
        pub(crate) const ROW_GROUPS: i64 = 4;
        pub(crate) const KEY_VALUE_METADATA: i64 = 5;
        pub(crate) const ENCRYPTION_ALGORITHM: i64 = 8;
    }

    pub(super) mod key_value {
        pub(crate) const KEY: i64 = 1;
        pub(crate) const VALUE: i64 = 2;
    }

    pub(super) mod schema_element {
        pub(crate) const TYPE: i64 = 1;
        pub(crate) const TYPE_LENGTH: i64 = 2;
        pub(crate) const REPETITION_TYPE: i64 = 3;
        pub(crate) const NAME: i64 = 4;
        pub(crate) const NUM_CHILDREN: i64 = 5;
        pub(crate) const CONVERTED_TYPE: i64 = 6;
        pub(crate) const LOGICAL_TYPE: i64 = 10;
    }

    /// A union: the id of its single field identifies the logical type.
    pub(super) mod logical_type {
        pub(crate) const STRING: i64 = 1;
        pub(crate) const MAP: i64 = 2;
        pub(crate) const LIST: i64 = 3;
        pub(crate) const ENUM: i64 = 4;
        pub(crate) const DECIMAL: i64 = 5;
        pub(crate) const DATE: i64 = 6;
        pub(crate) const TIME: i64 = 7;
        pub(crate) const TIMESTAMP: i64 = 8;
        pub(crate) const INTEGER: i64 = 10;
        pub(crate) const UNKNOWN: i64 = 11;
        pub(crate) const JSON: i64 = 12;
        pub(crate) const BSON: i64 = 13;
        pub(crate) const UUID: i64 = 14;
        pub(crate) const FLOAT16: i64 = 15;
        pub(crate) const VARIANT: i64 = 16;
    }

    pub(super) mod int_type {
        pub(crate) const BIT_WIDTH: i64 = 1;
        pub(crate) const IS_SIGNED: i64 = 2;
    }

    pub(super) mod row_group {
        pub(crate) const COLUMNS: i64 = 1;
        pub(crate) const NUM_ROWS: i64 = 3;
    }

    pub(super) mod column_chunk {
        pub(crate) const FILE_PATH: i64 = 1;
        pub(crate) const META_DATA: i64 = 3;
        pub(crate) const CRYPTO_METADATA: i64 = 8;
        pub(crate) const ENCRYPTED_COLUMN_METADATA: i64 = 9;
    }

    pub(super) mod column_metadata {
        pub(crate) const TYPE: i64 = 1;
        pub(crate) const CODEC: i64 = 4;
        pub(crate) const NUM_VALUES: i64 = 5;
        pub(crate) const TOTAL_COMPRESSED_SIZE: i64 = 7;
        pub(crate) const DATA_PAGE_OFFSET: i64 = 9;
        pub(crate) const DICTIONARY_PAGE_OFFSET: i64 = 11;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    Boolean,
    Int32,
    Int64,
    Int96,
    Float,
    Double,
    ByteArray,
    FixedLenByteArray,
}

impl Physical {
    fn new(code: i32) -> Decoded<Self> {
        Ok(match Type(code) {
            Type::BOOLEAN => Self::Boolean,
            Type::INT32 => Self::Int32,
            Type::INT64 => Self::Int64,
            Type::INT96 => Self::Int96,
            Type::FLOAT => Self::Float,
            Type::DOUBLE => Self::Double,
            Type::BYTE_ARRAY => Self::ByteArray,
            Type::FIXED_LEN_BYTE_ARRAY => Self::FixedLenByteArray,
            _ => return Err(DecodeError::new(format!("physical type {code}"), "0 to 7")),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    Required,
    Optional,
    Repeated,
}

/// Interpretation of a physical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Annotation {
    List,
    Integer { bits: u8, signed: bool },
    Float16,
    Other(&'static str),
}

/// A node of the schema tree, in depth-first order.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Physical type of a leaf; `None` for a group.
    pub(crate) physical: Option<Physical>,
    /// Bytes per value of a FIXED_LEN_BYTE_ARRAY.
    pub(crate) length: Option<i32>,
    pub(crate) repetition: Repetition,
    pub(crate) annotation: Option<Annotation>,
    pub(crate) children: usize,
}

/// A wanted column: a field of the schema's root.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Index of its first leaf among all leaves. Column chunks have the same order.
    pub(crate) leaf: u64,
    /// Schema elements of the field in depth-first order, truncated to [`KEPT_ELEMENTS`].
    pub(crate) elements: Vec<Element>,
}

/// Position of a column's pages in one row group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// Byte offset of the first page in the file.
    pub(crate) offset: u64,
    /// Bytes of all pages.
    pub(crate) len: u64,
    /// Number of values in all pages, including nulls and empty lists.
    pub(crate) values: u64,
    pub(crate) codec: Codec,
    pub(crate) physical: Physical,
}

#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: u64,
    /// One per leaf requested from [`Footer::row_groups`].
    pub(crate) chunks: Vec<Chunk>,
}

/// The parts of the footer, located but not parsed.
#[derive(Debug)]
pub(crate) struct Footer<'a> {
    schema: Thrift<'a>,
    row_groups: Thrift<'a>,
    key_values: Option<Thrift<'a>>,
    rows: i64,
    encrypted: bool,
}

fn missing(what: &'static str) -> impl FnOnce() -> DecodeError {
    move || DecodeError::new(format!("no {what}"), "one")
}

pub(crate) fn unsigned(value: i64, what: &str) -> Decoded<u64> {
    u64::try_from(value).map_err(|_| DecodeError::new(format!("{what} {value}"), "0 or more"))
}

impl<'a> Footer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoded<Self> {
        let (mut schema, mut row_groups, mut rows, mut encrypted) = (None, None, None, false);
        let mut key_values = None;
        Thrift::new(bytes).structure(|thrift, id, wire| {
            use fields::file_metadata as field;
            match (id, wire) {
                // Clone the position and parse the list later, once the columns are chosen.
                (field::SCHEMA, Wire::List) => schema = Some(thrift.clone()),
                (field::NUM_ROWS, Wire::I64) => {
                    rows = Some(thrift.i64()?);
                    return Ok(());
                }
                (field::ROW_GROUPS, Wire::List) => row_groups = Some(thrift.clone()),
                (field::KEY_VALUE_METADATA, Wire::List) => key_values = Some(thrift.clone()),
                (field::ENCRYPTION_ALGORITHM, _) => encrypted = true,
                _ => {}
            }
            thrift.skip(wire)
        })?;
        Ok(Self {
            schema: schema.ok_or_else(missing("schema"))?,
            row_groups: row_groups.ok_or_else(missing("list of row groups"))?,
            key_values,
            rows: rows.ok_or_else(missing("number of rows"))?,
            encrypted,
        })
    }

    /// Returns true if the file's metadata has this key.
    pub(crate) fn has_key(&self, wanted: &str) -> bool {
        let mut found = false;
        let read = self.for_each_pair(|key, _| {
            found |= key == wanted.as_bytes();
            Ok(())
        });
        // Malformed metadata counts as absent, because nothing else depends on it.
        found && read.is_ok()
    }

    /// Calls `visit` with each key and value of the file's metadata.
    pub(crate) fn for_each_pair(
        &self,
        mut visit: impl FnMut(&'a [u8], &'a [u8]) -> Decoded<()>,
    ) -> Decoded<()> {
        let Some(mut list) = self.key_values.clone() else {
            return Ok(());
        };
        list.structures(|thrift| {
            // Values are optional.
            let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
            thrift.structure(|thrift, id, wire| {
                use fields::key_value as field;
                match (id, wire) {
                    (field::KEY, Wire::Binary) => key = thrift.binary()?,
                    (field::VALUE, Wire::Binary) => value = thrift.binary()?,
                    _ => thrift.skip(wire)?,
                }
                Ok(())
            })?;
            visit(key, value)
        })
    }

    /// Finds the fields of the schema's root that have one of `names`, and collects all of their
    /// names in `all`. Also returns the number of leaves.
    pub(crate) fn fields(
        &self,
        names: &[&str],
        all: &mut ColumnNames,
    ) -> Decoded<(Vec<Found<Field>>, u64)> {
        let mut found: Vec<Found<Field>> = names.iter().map(|_| Found::default()).collect();
        let leaves = self.for_each_field(|name, field| {
            all.push(name);
            let mut columns = names.iter().zip(&mut found);
            if let Some((_, found)) = columns.find(|(wanted, _)| wanted.as_bytes() == name) {
                found.seen += 1;
                found.column = Some(field);
            }
            Ok(())
        })?;
        Ok((found, leaves))
    }

    /// Calls `visit` with the name and the description of each field of the schema's root. Returns
    /// the number of leaves.
    pub(crate) fn for_each_field(
        &self,
        mut visit: impl FnMut(&'a [u8], Field) -> Decoded<()>,
    ) -> Decoded<u64> {
        // The field whose elements are being read.
        let mut current: Option<(&[u8], Field)> = None;
        // Number of missing children of each open group, starting with the root.
        let mut open: Vec<usize> = Vec::new();
        let (mut leaves, mut root_seen) = (0u64, false);
        self.schema.clone().structures(|thrift| {
            let (element, name) = element(thrift)?;
            if !root_seen {
                root_seen = true;
                if element.physical.is_some() {
                    return Err(DecodeError::new("a schema whose root is a leaf", "a group"));
                }
                open.push(element.children);
                return Ok(());
            }
            // Close the groups whose children are complete.
            while open.pop_if(|left| *left == 0).is_some() {}
            let depth = open.len();
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => {
                    return Err(DecodeError::new(
                        "elements after the root's last",
                        "their end",
                    ))
                }
            }
            if depth == 1 {
                let field = Field {
                    leaf: leaves,
                    elements: Vec::new(),
                };
                if let Some((name, complete)) = current.replace((name, field)) {
                    visit(name, complete)?;
                }
            }
            if element.physical.is_some() {
                leaves += 1;
            } else {
                open.push(element.children);
                if open.len() > MAX_SCHEMA_DEPTH {
                    return Err(DecodeError::new(
                        "a column nested too deeply",
                        "at most 1000 levels",
                    ));
                }
            }
            if let Some((_, field)) = &mut current {
                if field.elements.len() < KEPT_ELEMENTS {
                    field.elements.push(element);
                }
            }
            Ok(())
        })?;
        if !root_seen || open.iter().any(|left| *left > 0) {
            return Err(DecodeError::new(
                "a schema that ends early",
                "all its elements",
            ));
        }
        if let Some((name, complete)) = current {
            visit(name, complete)?;
        }
        Ok(leaves)
    }

    /// Parses all row groups, with the chunks of the `wanted` leaves.
    pub(crate) fn row_groups(&self, wanted: &[u64], leaves: u64) -> Decoded<Vec<RowGroup>> {
        let mut groups = Vec::new();
        let mut total = 0u64;
        self.row_groups.clone().structures(|thrift| {
            let group = row_group(thrift, wanted, leaves, self.encrypted)?;
            total = total
                .checked_add(group.rows)
                .ok_or_else(|| DecodeError::new("more than 2^64 rows", "fewer"))?;
            memory::reserve(&mut groups, 1, "hold the row groups")?;
            groups.push(group);
            Ok(())
        })?;
        if total == unsigned(self.rows, "row count")? {
            Ok(groups)
        } else {
            Err(DecodeError::new(
                format!("row groups of {total} rows in all"),
                format!("{} rows", self.rows),
            ))
        }
    }
}

fn element<'a>(thrift: &mut Thrift<'a>) -> Decoded<(Element, &'a [u8])> {
    let (mut physical, mut repetition, mut name, mut children) = (None, None, None, None);
    let (mut converted, mut logical, mut length) = (None, None, None);
    thrift.structure(|thrift, id, wire| {
        use fields::schema_element as field;
        match (id, wire) {
            (field::TYPE, Wire::I32) => physical = Some(Physical::new(thrift.i32()?)?),
            (field::TYPE_LENGTH, Wire::I32) => length = Some(thrift.i32()?),
            (field::REPETITION_TYPE, Wire::I32) => {
                repetition = Some(match FieldRepetitionType(thrift.i32()?) {
                    FieldRepetitionType::REQUIRED => Repetition::Required,
                    FieldRepetitionType::OPTIONAL => Repetition::Optional,
                    FieldRepetitionType::REPEATED => Repetition::Repeated,
                    FieldRepetitionType(other) => {
                        return Err(DecodeError::new(
                            format!("repetition type {other}"),
                            "0, 1 or 2",
                        ))
                    }
                });
            }
            (field::NAME, Wire::Binary) => name = Some(thrift.binary()?),
            (field::NUM_CHILDREN, Wire::I32) => children = Some(thrift.i32()?),
            (field::CONVERTED_TYPE, Wire::I32) => converted = Some(thrift.i32()?),
            (field::LOGICAL_TYPE, Wire::Struct) => logical = logical_type(thrift)?,
            _ => thrift.skip(wire)?,
        }
        Ok(())
    })?;
    let children = usize::try_from(children.unwrap_or(0))
        .map_err(|_| DecodeError::new("a negative number of children", "0 or more"))?;
    if physical.is_some() && children > 0 {
        return Err(DecodeError::new(
            "a leaf with children",
            "a leaf or a group",
        ));
    }
    let element = Element {
        physical,
        length,
        // The root has no repetition type.
        repetition: repetition.unwrap_or(Repetition::Required),
        annotation: logical.or_else(|| converted.map(converted_type)),
        children,
    };
    Ok((element, name.ok_or_else(missing("name of a column"))?))
}

/// Maps `ConvertedType` of parquet.thrift, the annotation that predates `LogicalType`.
fn converted_type(code: i32) -> Annotation {
    let integer = |bits, signed| Annotation::Integer { bits, signed };
    Annotation::Other(match ConvertedType(code) {
        ConvertedType::LIST => return Annotation::List,
        ConvertedType::UINT_8 => return integer(8, false),
        ConvertedType::UINT_16 => return integer(16, false),
        ConvertedType::UINT_32 => return integer(32, false),
        ConvertedType::UINT_64 => return integer(64, false),
        ConvertedType::INT_8 => return integer(8, true),
        ConvertedType::INT_16 => return integer(16, true),
        ConvertedType::INT_32 => return integer(32, true),
        ConvertedType::INT_64 => return integer(64, true),
        ConvertedType::UTF8 => "string",
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => "map",
        ConvertedType::ENUM => "enum",
        ConvertedType::DECIMAL => "decimal",
        ConvertedType::DATE => "date",
        ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => "time",
        ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => "timestamp",
        _ => "annotated",
    })
}

/// Maps the union `LogicalType` of parquet.thrift.
fn logical_type(thrift: &mut Thrift<'_>) -> Decoded<Option<Annotation>> {
    use fields::{int_type, logical_type as field};
    let mut annotation = None;
    thrift.structure(|thrift, id, wire| {
        if let (field::INTEGER, Wire::Struct) = (id, wire) {
            let (mut bits, mut signed) = (0, true);
            thrift.structure(|thrift, id, wire| {
                match (id, wire) {
                    (int_type::BIT_WIDTH, Wire::Byte) => bits = thrift.byte()?,
                    // A boolean field is encoded in its wire type, without a value.
                    (int_type::IS_SIGNED, Wire::True) => signed = true,
                    (int_type::IS_SIGNED, Wire::False) => signed = false,
                    _ => thrift.skip(wire)?,
                }
                Ok(())
            })?;
            annotation = Some(Annotation::Integer { bits, signed });
            return Ok(());
        }
        annotation = Some(match id {
            field::LIST => Annotation::List,
            field::FLOAT16 => Annotation::Float16,
            field::STRING => Annotation::Other("string"),
            field::MAP => Annotation::Other("map"),
            field::ENUM => Annotation::Other("enum"),
            field::DECIMAL => Annotation::Other("decimal"),
            field::DATE => Annotation::Other("date"),
            field::TIME => Annotation::Other("time"),
            field::TIMESTAMP => Annotation::Other("timestamp"),
            field::UNKNOWN => Annotation::Other("null"),
            field::JSON => Annotation::Other("JSON"),
            field::BSON => Annotation::Other("BSON"),
            field::UUID => Annotation::Other("UUID"),
            field::VARIANT => Annotation::Other("variant"),
            _ => Annotation::Other("annotated"),
        });
        thrift.skip(wire)
    })?;
    Ok(annotation)
}

fn row_group(
    thrift: &mut Thrift<'_>,
    wanted: &[u64],
    leaves: u64,
    encrypted: bool,
) -> Decoded<RowGroup> {
    let (mut columns, mut rows) = (None, None);
    thrift.structure(|thrift, id, wire| {
        use fields::row_group as field;
        match (id, wire) {
            (field::COLUMNS, Wire::List) => columns = Some(thrift.clone()),
            (field::NUM_ROWS, Wire::I64) => {
                rows = Some(unsigned(thrift.i64()?, "row count of a row group")?);
                return Ok(());
            }
            _ => {}
        }
        thrift.skip(wire)
    })?;
    let rows = rows.ok_or_else(missing("number of rows of a row group"))?;
    let mut columns = columns.ok_or_else(missing("column chunks of a row group"))?;
    let (wire, count) = columns.list()?;
    // Chunks are matched to leaves by position, so the counts must agree.
    if count != leaves || (count > 0 && wire != Wire::Struct) {
        return Err(DecodeError::new(
            format!("a row group of {count} column chunks"),
            format!("{leaves}, as in the schema"),
        ));
    }
    // In the order of `wanted`; the file has them in the order of leaves.
    let mut chunks = vec![None; wanted.len()];
    for leaf in 0..count {
        let places = wanted.iter().zip(&mut chunks);
        let mut places = places.filter(|(at, _)| **at == leaf).peekable();
        if places.peek().is_none() {
            columns.skip(Wire::Struct)?;
            continue;
        }
        let chunk = column_chunk(&mut columns, encrypted)?;
        // A column can be wanted twice.
        places.for_each(|(_, place)| *place = Some(chunk));
    }
    let chunks = chunks
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .ok_or_else(missing("column chunk of a wanted column"))?;
    Ok(RowGroup { rows, chunks })
}

fn column_chunk(thrift: &mut Thrift<'_>, encrypted_file: bool) -> Decoded<Chunk> {
    let (mut chunk, mut encrypted, mut elsewhere) = (None, false, false);
    thrift.structure(|thrift, id, wire| {
        use fields::column_chunk as field;
        match (id, wire) {
            (field::FILE_PATH, Wire::Binary) => {
                elsewhere = !thrift.binary()?.is_empty();
                return Ok(());
            }
            (field::META_DATA, Wire::Struct) => {
                chunk = Some(column_metadata(thrift)?);
                return Ok(());
            }
            (field::CRYPTO_METADATA | field::ENCRYPTED_COLUMN_METADATA, _) => encrypted = true,
            _ => {}
        }
        thrift.skip(wire)
    })?;
    // In an encrypted file, unencrypted columns are still readable.
    if encrypted || (encrypted_file && chunk.is_none()) {
        return Err(DecodeError::unsupported(
            "an encrypted column",
            "an unencrypted column",
        ));
    }
    if elsewhere {
        return Err(DecodeError::unsupported(
            "a column chunk in another file",
            "all columns in this file",
        ));
    }
    chunk.ok_or_else(missing("description of a column chunk"))
}

fn column_metadata(thrift: &mut Thrift<'_>) -> Decoded<Chunk> {
    let (mut physical, mut codec, mut values, mut len) = (None, None, None, None);
    let (mut data, mut dictionary) = (None, None);
    thrift.structure(|thrift, id, wire| {
        use fields::column_metadata as field;
        let length = |thrift: &mut Thrift<'_>, what| unsigned(thrift.i64()?, what).map(Some);
        match (id, wire) {
            (field::TYPE, Wire::I32) => physical = Some(Physical::new(thrift.i32()?)?),
            (field::CODEC, Wire::I32) => {
                codec = Some(Codec::from_parquet(CompressionCodec(thrift.i32()?))?);
            }
            (field::NUM_VALUES, Wire::I64) => values = length(thrift, "value count")?,
            (field::TOTAL_COMPRESSED_SIZE, Wire::I64) => {
                len = length(thrift, "compressed size")?;
            }
            (field::DATA_PAGE_OFFSET, Wire::I64) => data = length(thrift, "data page offset")?,
            // Some writers store 0 or a negative offset if there is no dictionary page.
            (field::DICTIONARY_PAGE_OFFSET, Wire::I64) => {
                dictionary = u64::try_from(thrift.i64()?).ok()
            }
            _ => thrift.skip(wire)?,
        }
        Ok(())
    })?;
    let data = data.ok_or_else(missing("offset of the data pages"))?;
    Ok(Chunk {
        // The dictionary page, if any, precedes the data pages.
        offset: dictionary
            .filter(|at| *at > 0)
            .map_or(data, |at| at.min(data)),
        len: len.ok_or_else(missing("compressed size"))?,
        values: values.ok_or_else(missing("number of values"))?,
        codec: codec.ok_or_else(missing("compression codec"))?,
        physical: physical.ok_or_else(missing("physical type"))?,
    })
}
