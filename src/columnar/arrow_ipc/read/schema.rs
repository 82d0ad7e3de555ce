//! The schema: which columns there are, and which nodes and buffers of a record batch are theirs.
//!
//! A record batch lists the nodes (lengths and null counts) and buffers of all columns in
//! depth-first order, so the columns before a wanted one must be understood well enough to count
//! theirs. Source: `Schema.fbs` and <https://arrow.apache.org/docs/format/Columnar.html>.

use super::flatbuffer::Table;
use crate::columnar::bytes::{Decoded, Flaw};
use crate::columnar::read::{Found, IntegerType, NAMES};

/// Nesting of columns that are skipped.
const MAX_DEPTH: u32 = 64;

/// Where a column's parts begin in a record batch's lists.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) node: usize,
    /// Without those buffers whose number each record batch says for itself.
    pub(crate) buffer: usize,
    /// How many columns there are before this one that have such buffers.
    pub(crate) variadic: usize,
}

/// A column that was asked for.
pub(crate) struct Field<'a> {
    pub(crate) slot: Slot,
    field: Table<'a>,
    /// The code of a type before it that is not known, so that `slot` is wrong.
    lost: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ListKind {
    /// Of this many elements.
    Fixed(u64),
    /// With offsets of this many bytes.
    Offsets(usize),
}

struct Walk {
    slot: Slot,
    lost: Option<u8>,
    /// Fields that may still be visited. Tables may be shared, so that a short schema could
    /// describe a tree without end.
    budget: usize,
    /// Whether unions have validity bitmaps, as they had until version 4.
    union_validity: bool,
}

/// The columns of [`NAMES`] in a schema of `len` bytes.
pub(crate) fn fields<'a>(
    schema: &Table<'a>,
    len: usize,
    union_validity: bool,
) -> Decoded<[Found<Field<'a>>; NAMES.len()]> {
    let mut found = NAMES.map(|_| Found {
        seen: 0,
        column: None,
    });
    let mut walk = Walk {
        slot: Slot::default(),
        lost: None,
        budget: len / 4,
        union_validity,
    };
    for field in schema.tables(1)? {
        let field = field?;
        let name = field.vector(0, 1)?;
        let mut columns = NAMES.iter().zip(&mut found);
        if let Some((_, found)) = columns.find(|(wanted, _)| wanted.as_bytes() == name) {
            found.seen += 1;
            found.column = Some(Field {
                slot: walk.slot,
                field,
                lost: walk.lost,
            });
        }
        walk.skip(&field, 0)?;
    }
    Ok(found)
}

impl Walk {
    fn skip(&mut self, field: &Table<'_>, depth: u32) -> Decoded<()> {
        self.budget = self
            .budget
            .checked_sub(1)
            .filter(|_| depth <= MAX_DEPTH)
            .ok_or_else(|| Flaw::new("a schema nested without end", "a tree of columns"))?;
        let code = type_code(field)?;
        // A dictionary's indices; its values are elsewhere.
        let (own, has_children) = if is_dictionary(field)? {
            (Some(2), false)
        } else {
            let buffers = match code {
                1 | 22 => Some(0),
                13 | 16 => Some(1),
                2 | 3 | 6..=12 | 15 | 17 | 18 | 21 => Some(2),
                4 | 5 | 19 | 20 | 25 | 26 => Some(3),
                // Views: and as many more as each record batch says.
                23 | 24 => {
                    self.slot.variadic += 1;
                    Some(2)
                }
                14 => {
                    let mode = field.table(3)?.map_or(Ok(0), |union| union.i16(0))?;
                    Some(usize::from(mode == 1) + 1 + usize::from(self.union_validity))
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
            for child in field.tables(5)? {
                self.skip(&child?, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn type_code(field: &Table<'_>) -> Decoded<u8> {
    field.u8(2)
}

fn is_dictionary(field: &Table<'_>) -> Decoded<bool> {
    Ok(field.table(4)?.is_some())
}

impl Field<'_> {
    /// For a list of floats: what kind of list, and whether its elements are float64.
    pub(crate) fn vector(&self) -> Decoded<(ListKind, bool)> {
        self.check_known()?;
        let wrong = || mistyped(&self.field, "a list of float32 or float64");
        let parameters = self.field.table(3)?;
        let kind = match type_code(&self.field)? {
            12 => ListKind::Offsets(4),
            21 => ListKind::Offsets(8),
            16 => {
                let size = parameters.map_or(Ok(0), |list| list.i32(0))?;
                let size = u64::try_from(size).map_err(|_| {
                    Flaw::new(format!("lists of {size} elements"), "a number from 0 on")
                })?;
                ListKind::Fixed(size)
            }
            _ => return Err(wrong()?),
        };
        let mut children = self.field.tables(5)?;
        let (Some(child), None) = (children.next(), children.next()) else {
            return Err(Flaw::new("a list without one child", "one"));
        };
        let child = child?;
        refuse_dictionary(&child)?;
        let precision = child.table(3)?.map_or(Ok(0), |float| float.i16(0))?;
        match (type_code(&child)?, precision) {
            (3, 1) => Ok((kind, false)),
            (3, 2) => Ok((kind, true)),
            _ => Err(wrong()?),
        }
    }

    /// For a column of integers: `None` when it is a boolean one, which must be allowed.
    pub(crate) fn integer(&self, boolean: bool) -> Decoded<Option<IntegerType>> {
        self.check_known()?;
        let parameters = self.field.table(3)?;
        match (type_code(&self.field)?, parameters) {
            (6, _) if boolean => Ok(None),
            (2, Some(int)) => match int.i32(0)? {
                bits @ (8 | 16 | 32 | 64) => {
                    Ok(Some(IntegerType::new(bits.unsigned_abs(), int.u8(1)? != 0)))
                }
                bits => Err(Flaw::new(format!("integers of {bits} bits"), "8 to 64")),
            },
            _ if boolean => Err(mistyped(&self.field, "a boolean or an integer")?),
            _ => Err(mistyped(&self.field, "an integer of at most 64 bits")?),
        }
    }

    fn check_known(&self) -> Decoded<()> {
        if let Some(code) = self.lost {
            return Err(Flaw::unsupported(
                format!("a column of unknown type {code} before it"),
                "only types up to LargeListView before a column that is needed",
            ));
        }
        refuse_dictionary(&self.field)
    }
}

fn refuse_dictionary(field: &Table<'_>) -> Decoded<()> {
    if is_dictionary(field)? {
        return Err(Flaw::unsupported(
            "a dictionary-encoded column",
            "one that is not",
        ));
    }
    Ok(())
}

/// What a column of a wrong type is; `Err` when even that cannot be said.
fn mistyped(field: &Table<'_>, expected: &'static str) -> Decoded<Flaw> {
    let mut found = type_name(field)?;
    let mut children = field.tables(5)?;
    if let (Some(child), None) = (children.next(), children.next()) {
        found = format!("{found} of {}", type_name(&child?)?);
    }
    Ok(Flaw::new(found, expected))
}

fn type_name(field: &Table<'_>) -> Decoded<String> {
    let code = type_code(field)?;
    let parameters = field.table(3)?;
    let name = match code {
        2 => {
            let (bits, signed) = match parameters {
                Some(int) => (int.i32(0)?, int.u8(1)? != 0),
                None => (0, false),
            };
            return Ok(format!("{}int{bits}", if signed { "" } else { "u" }));
        }
        3 => match parameters.map_or(Ok(0), |float| float.i16(0))? {
            0 => "float16",
            1 => "float32",
            _ => "float64",
        },
        1 => "null",
        4 => "binary",
        5 => "string",
        6 => "boolean",
        7 => "decimal",
        8 => "date",
        9 => "time",
        10 => "timestamp",
        11 => "interval",
        12 => "list",
        13 => "struct",
        14 => "union",
        15 => "fixed-size binary",
        16 => "fixed-size list",
        17 => "map",
        18 => "duration",
        19 => "large binary",
        20 => "large string",
        21 => "large list",
        22 => "run-end encoded",
        23 => "binary view",
        24 => "string view",
        25 => "list view",
        26 => "large list view",
        _ => return Ok(format!("unknown type {code}")),
    };
    Ok(name.into())
}
