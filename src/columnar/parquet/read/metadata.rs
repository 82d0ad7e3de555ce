//! The footer: which columns there are, and where their chunks lie.
//!
//! Follows `FileMetaData` of parquet.thrift, but takes only what reading the wanted columns needs.

use super::thrift::{Thrift, Wire};
use crate::columnar::bytes::{Decoded, Flaw};
use crate::columnar::codec::Codec;

/// Nesting of columns that are skipped.
const MAX_SCHEMA_DEPTH: usize = 1000;

/// Elements of a wanted column that are kept: a list has three at most.
const KEPT_ELEMENTS: usize = 4;

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
        Ok(match code {
            0 => Self::Boolean,
            1 => Self::Int32,
            2 => Self::Int64,
            3 => Self::Int96,
            4 => Self::Float,
            5 => Self::Double,
            6 => Self::ByteArray,
            7 => Self::FixedLenByteArray,
            _ => return Err(Flaw::new(format!("physical type {code}"), "0 to 7")),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    Required,
    Optional,
    Repeated,
}

/// What an annotation makes of a physical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Annotation {
    List,
    Integer { bits: u8, signed: bool },
    Other(&'static str),
}

/// A node of the schema tree, in depth-first order.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Of a leaf; `None` for a group.
    pub(crate) physical: Option<Physical>,
    pub(crate) repetition: Repetition,
    pub(crate) annotation: Option<Annotation>,
    pub(crate) children: usize,
}

/// A column that was asked for: a field of the schema's root.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    /// How many fields have its name.
    pub(crate) seen: usize,
    /// The number of its first leaf among all leaves, which is its column chunk's number.
    pub(crate) leaf: u64,
    /// The field's element and those below it, cut off at [`KEPT_ELEMENTS`].
    pub(crate) elements: Vec<Element>,
}

/// Where a column's pages of one row group lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// Of the first page, in bytes from the start of the file.
    pub(crate) offset: u64,
    /// Length of all pages in bytes.
    pub(crate) len: u64,
    /// Values in all pages, nulls and empty lists included.
    pub(crate) values: u64,
    pub(crate) codec: Codec,
    pub(crate) physical: Physical,
}

#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: u64,
    /// For each column of the request to [`Footer::row_groups`].
    pub(crate) chunks: Vec<Chunk>,
}

/// The footer's parts, before the wanted columns are known.
#[derive(Debug)]
pub(crate) struct Footer<'a> {
    schema: Thrift<'a>,
    row_groups: Thrift<'a>,
    rows: i64,
    encrypted: bool,
}

fn missing(what: &'static str) -> impl FnOnce() -> Flaw {
    move || Flaw::new(format!("no {what}"), "one")
}

pub(crate) fn unsigned(value: i64, what: &str) -> Decoded<u64> {
    u64::try_from(value).map_err(|_| Flaw::new(format!("{what} {value}"), "a number from 0 on"))
}

impl<'a> Footer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoded<Self> {
        let (mut schema, mut row_groups, mut rows, mut encrypted) = (None, None, None, false);
        Thrift::new(bytes).structure(|thrift, id, wire| {
            match (id, wire) {
                (2, Wire::List) => schema = Some(thrift.clone()),
                (3, Wire::I64) => {
                    rows = Some(thrift.i64()?);
                    return Ok(());
                }
                (4, Wire::List) => row_groups = Some(thrift.clone()),
                (8, _) => encrypted = true,
                _ => {}
            }
            thrift.skip(wire)
        })?;
        Ok(Self {
            schema: schema.ok_or_else(missing("schema"))?,
            row_groups: row_groups.ok_or_else(missing("list of row groups"))?,
            rows: rows.ok_or_else(missing("number of rows"))?,
            encrypted,
        })
    }

    /// The fields of the schema's root that have one of `names`, and the number of leaves in all.
    pub(crate) fn fields<const N: usize>(&self, names: [&str; N]) -> Decoded<([Field; N], u64)> {
        let mut fields: [Field; N] = std::array::from_fn(|_| Field::default());
        let mut current: Option<usize> = None;
        // Children still to come of each group that is open; the root's first.
        let mut open: Vec<usize> = Vec::new();
        let (mut leaves, mut root_seen) = (0u64, false);
        self.schema.clone().structures(|thrift| {
            let (element, name) = element(thrift)?;
            if !root_seen {
                root_seen = true;
                if element.physical.is_some() {
                    return Err(Flaw::new("a schema whose root is a leaf", "a group"));
                }
                open.push(element.children);
                return Ok(());
            }
            while open.pop_if(|left| *left == 0).is_some() {}
            let depth = open.len();
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return Err(Flaw::new("elements after the root's last", "their end")),
            }
            if depth == 1 {
                current = names.iter().position(|wanted| wanted.as_bytes() == name);
                if let Some(field) = current.and_then(|at| fields.get_mut(at)) {
                    field.seen += 1;
                    field.leaf = leaves;
                    field.elements.clear();
                }
            }
            if element.physical.is_some() {
                leaves += 1;
            } else {
                open.push(element.children);
                if open.len() > MAX_SCHEMA_DEPTH {
                    return Err(Flaw::new("a column nested too deep", "at most 1000 levels"));
                }
            }
            if let Some(field) = current.and_then(|at| fields.get_mut(at)) {
                if field.elements.len() < KEPT_ELEMENTS {
                    field.elements.push(element);
                }
            }
            Ok(())
        })?;
        if !root_seen || open.iter().any(|left| *left > 0) {
            return Err(Flaw::new("a schema that ends early", "all its elements"));
        }
        Ok((fields, leaves))
    }

    /// Every row group, with the chunks of the columns whose leaves are given.
    pub(crate) fn row_groups(&self, wanted: &[u64], leaves: u64) -> Decoded<Vec<RowGroup>> {
        let mut groups = Vec::new();
        let mut total = 0u64;
        self.row_groups.clone().structures(|thrift| {
            let group = row_group(thrift, wanted, leaves, self.encrypted)?;
            total = total
                .checked_add(group.rows)
                .ok_or_else(|| Flaw::new("more than 2^64 rows", "fewer"))?;
            groups.push(group);
            Ok(())
        })?;
        if total == unsigned(self.rows, "a number of rows of")? {
            Ok(groups)
        } else {
            Err(Flaw::new(
                format!("row groups of {total} rows in all"),
                format!("{} rows", self.rows),
            ))
        }
    }
}

fn element<'a>(thrift: &mut Thrift<'a>) -> Decoded<(Element, &'a [u8])> {
    let (mut physical, mut repetition, mut name, mut children) = (None, None, None, None);
    let (mut converted, mut logical) = (None, None);
    thrift.structure(|thrift, id, wire| {
        match (id, wire) {
            (1, Wire::I32) => physical = Some(Physical::new(thrift.i32()?)?),
            (3, Wire::I32) => {
                repetition = Some(match thrift.i32()? {
                    0 => Repetition::Required,
                    1 => Repetition::Optional,
                    2 => Repetition::Repeated,
                    other => {
                        return Err(Flaw::new(format!("repetition type {other}"), "0, 1 or 2"))
                    }
                });
            }
            (4, Wire::Binary) => name = Some(thrift.binary()?),
            (5, Wire::I32) => children = Some(thrift.i32()?),
            (6, Wire::I32) => converted = Some(thrift.i32()?),
            (10, Wire::Struct) => logical = logical_type(thrift)?,
            _ => thrift.skip(wire)?,
        }
        Ok(())
    })?;
    let children = usize::try_from(children.unwrap_or(0))
        .map_err(|_| Flaw::new("a negative number of children", "0 or more"))?;
    if physical.is_some() && children > 0 {
        return Err(Flaw::new("a leaf with children", "a leaf or a group"));
    }
    let element = Element {
        physical,
        // The root has none.
        repetition: repetition.unwrap_or(Repetition::Required),
        annotation: logical.or_else(|| converted.map(converted_type)),
        children,
    };
    Ok((element, name.ok_or_else(missing("name of a column"))?))
}

/// `ConvertedType` of parquet.thrift.
fn converted_type(code: i32) -> Annotation {
    let integer = |bits, signed| Annotation::Integer { bits, signed };
    match code {
        3 => Annotation::List,
        11 => integer(8, false),
        12 => integer(16, false),
        13 => integer(32, false),
        14 => integer(64, false),
        15 => integer(8, true),
        16 => integer(16, true),
        17 => integer(32, true),
        18 => integer(64, true),
        0 => Annotation::Other("string"),
        1 | 2 => Annotation::Other("map"),
        4 => Annotation::Other("enum"),
        5 => Annotation::Other("decimal"),
        6 => Annotation::Other("date"),
        7 | 8 => Annotation::Other("time"),
        9 | 10 => Annotation::Other("timestamp"),
        _ => Annotation::Other("annotated"),
    }
}

/// The union `LogicalType` of parquet.thrift: one field, whose number says which.
fn logical_type(thrift: &mut Thrift<'_>) -> Decoded<Option<Annotation>> {
    let mut annotation = None;
    thrift.structure(|thrift, id, wire| {
        annotation = Some(match (id, wire) {
            (10, Wire::Struct) => {
                let (mut bits, mut signed) = (0, true);
                thrift.structure(|thrift, id, wire| {
                    match (id, wire) {
                        (1, Wire::Byte) => bits = thrift.byte()?,
                        (2, Wire::True) => signed = true,
                        (2, Wire::False) => signed = false,
                        _ => thrift.skip(wire)?,
                    }
                    Ok(())
                })?;
                annotation = Some(Annotation::Integer { bits, signed });
                return Ok(());
            }
            (3, _) => Annotation::List,
            (1, _) => Annotation::Other("string"),
            (2, _) => Annotation::Other("map"),
            (4, _) => Annotation::Other("enum"),
            (5, _) => Annotation::Other("decimal"),
            (6, _) => Annotation::Other("date"),
            (7, _) => Annotation::Other("time"),
            (8, _) => Annotation::Other("timestamp"),
            (11, _) => Annotation::Other("null"),
            (12, _) => Annotation::Other("JSON"),
            (13, _) => Annotation::Other("BSON"),
            (14, _) => Annotation::Other("UUID"),
            (15, _) => Annotation::Other("float16"),
            (16, _) => Annotation::Other("variant"),
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
        match (id, wire) {
            (1, Wire::List) => columns = Some(thrift.clone()),
            (3, Wire::I64) => {
                rows = Some(unsigned(
                    thrift.i64()?,
                    "a row group of a number of rows of",
                )?);
                return Ok(());
            }
            _ => {}
        }
        thrift.skip(wire)
    })?;
    let rows = rows.ok_or_else(missing("number of rows of a row group"))?;
    let mut columns = columns.ok_or_else(missing("column chunks of a row group"))?;
    let (wire, count) = columns.list()?;
    if count != leaves || (count > 0 && wire != Wire::Struct) {
        return Err(Flaw::new(
            format!("a row group of {count} column chunks"),
            format!("{leaves}, as in the schema"),
        ));
    }
    let mut chunks = vec![None; wanted.len()];
    for leaf in 0..count {
        let mut places = wanted
            .iter()
            .zip(&mut chunks)
            .filter(|(at, _)| **at == leaf);
        match places.next() {
            None => columns.skip(Wire::Struct)?,
            Some((_, place)) => *place = Some(column_chunk(&mut columns, encrypted)?),
        }
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
        match (id, wire) {
            (1, Wire::Binary) => {
                elsewhere = !thrift.binary()?.is_empty();
                return Ok(());
            }
            (3, Wire::Struct) => {
                chunk = Some(column_metadata(thrift)?);
                return Ok(());
            }
            (8 | 9, _) => encrypted = true,
            _ => {}
        }
        thrift.skip(wire)
    })?;
    if encrypted || (encrypted_file && chunk.is_none()) {
        return Err(Flaw::unsupported("an encrypted column", "one that is not"));
    }
    if elsewhere {
        return Err(Flaw::unsupported(
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
        match (id, wire) {
            (1, Wire::I32) => physical = Some(Physical::new(thrift.i32()?)?),
            (4, Wire::I32) => codec = Some(Codec::from_parquet(thrift.i32()?)?),
            (5, Wire::I64) => values = Some(unsigned(thrift.i64()?, "a number of values of")?),
            (7, Wire::I64) => len = Some(unsigned(thrift.i64()?, "a compressed size of")?),
            (9, Wire::I64) => data = Some(unsigned(thrift.i64()?, "a data page at byte")?),
            // Some writers say 0 or less when there is none.
            (11, Wire::I64) => dictionary = u64::try_from(thrift.i64()?).ok(),
            _ => thrift.skip(wire)?,
        }
        Ok(())
    })?;
    let data = data.ok_or_else(missing("offset of the data pages"))?;
    Ok(Chunk {
        offset: dictionary
            .filter(|at| *at > 0)
            .map_or(data, |at| at.min(data)),
        len: len.ok_or_else(missing("compressed size"))?,
        values: values.ok_or_else(missing("number of values"))?,
        codec: codec.ok_or_else(missing("compression codec"))?,
        physical: physical.ok_or_else(missing("physical type"))?,
    })
}
