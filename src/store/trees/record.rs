//! Record of a cell: its plausibility in its tree, its order in an index, and its hash.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hasher};

use super::page::Payload;
use super::{varint, TreeKind};

/// Largest number of columns in a record. SQLite's own limit is 2,000; Chroma's tables have eight.
const MAX_COLUMNS: usize = 64;

/// Constraints on the values of a table's column.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Column {
    /// Text affinity: numbers are stored as text.
    pub(in super::super) is_text: bool,
    pub(in super::super) is_not_null: bool,
    /// True for an alias of the rowid, which is stored as NULL.
    pub(in super::super) is_rowid: bool,
}

/// Number of entries and sum of their hashes, independent of their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct EntrySum {
    pub(in super::super) entries: u64,
    hashes: u64,
}

/// Type of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Integer,
    Real,
    Text,
    Blob,
}

/// Type and length in bytes of a value, from its serial type (SQLite file format, section 2.1). 10
/// and 11 are reserved.
fn serial(code: u64) -> Option<(Type, u64)> {
    Some(match code {
        0 => (Type::Null, 0),
        1..=4 => (Type::Integer, code),
        5 => (Type::Integer, 6),
        6 => (Type::Integer, 8),
        7 => (Type::Real, 8),
        8 | 9 => (Type::Integer, 0),
        10 | 11 => return None,
        _ if code % 2 == 1 => (Type::Text, (code - 13) / 2),
        _ => (Type::Blob, (code - 12) / 2),
    })
}

/// A value of a record, with its range of bytes in the payload.
#[derive(Clone, Copy, Debug)]
struct Field {
    code: u64,
    kind: Type,
    start: u64,
    end: u64,
}

/// Parses the header of a record into fields.
fn fields(local: &[u8], len: u64, out: &mut Vec<Field>) -> Result<(), &'static str> {
    const NO_RECORD: &str = "a cell without a record";
    out.clear();
    let (header_len, mut at) = varint(local).ok_or(NO_RECORD)?;
    let header_end = usize::try_from(header_len).map_err(|_| NO_RECORD)?;
    let header = local.get(..header_end).ok_or(NO_RECORD)?;
    let mut start = header_len;
    while at < header_end {
        let (code, size) = header.get(at..).and_then(varint).ok_or(NO_RECORD)?;
        at += size;
        let (kind, size) = serial(code).ok_or(NO_RECORD)?;
        let end = start.checked_add(size).ok_or(NO_RECORD)?;
        if out.len() == MAX_COLUMNS {
            return Err(NO_RECORD);
        }
        out.push(Field {
            code,
            kind,
            start,
            end,
        });
        start = end;
    }
    if start != len || at != header_end {
        return Err("a record of another length than its cell says");
    }
    Ok(())
}

/// Decodes a signed big-endian integer of up to eight bytes.
fn integer(code: u64, bytes: &[u8]) -> i64 {
    match code {
        // Serial types 8 and 9 are the constants 0 and 1, without any bytes.
        8 => return 0,
        9 => return 1,
        _ => {}
    }
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if is_negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

fn real(bytes: &[u8]) -> f64 {
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    f64::from_be_bytes(bytes)
}

/// Checks one record after another, in the chunks in which their bytes arrive.
#[derive(Debug, Default)]
pub(super) struct RecordCheck {
    fields: Vec<Field>,
    /// For each field that an index covers, its hash so far.
    hashes: Vec<Option<DefaultHasher>>,
    /// Field of the next byte.
    field: usize,
    /// Position of the next byte.
    at: u64,
}

impl RecordCheck {
    /// Checks the header of a record.
    pub(super) fn begin(
        &mut self,
        kind: &TreeKind,
        payload: &Payload<'_>,
    ) -> Result<(), &'static str> {
        fields(payload.local, payload.len, &mut self.fields)?;
        self.at = 0;
        self.field = 0;
        self.hashes.clear();
        match kind {
            TreeKind::Table { columns, indexes } => {
                // Older rows lack columns that were added later.
                if self.fields.is_empty() || self.fields.len() > columns.len() {
                    return Err("a row of another table");
                }
                for (field, column) in self.fields.iter().zip(columns) {
                    let is_possible = match field.kind {
                        Type::Null => !column.is_not_null || column.is_rowid,
                        _ if column.is_rowid => false,
                        Type::Integer | Type::Real => !column.is_text,
                        Type::Text | Type::Blob => true,
                    };
                    if !is_possible {
                        return Err("a row of another table");
                    }
                }
                self.hashes.resize(self.fields.len(), None);
                for at in indexes.iter().flatten() {
                    if let Some(hash) = self.hashes.get_mut(*at) {
                        *hash = Some(DefaultHasher::new());
                    }
                }
            }
            TreeKind::Index { columns, .. } => {
                // Every index entry ends with the rowid of its row.
                let is_rowid = self
                    .fields
                    .last()
                    .is_some_and(|field| field.kind == Type::Integer);
                if self.fields.len() != columns + 1 || !is_rowid {
                    return Err("an entry of another index");
                }
                self.hashes
                    .resize(self.fields.len(), Some(DefaultHasher::new()));
            }
        }
        Ok(())
    }

    /// Returns true if the next byte is text.
    pub(super) fn is_in_text(&self) -> bool {
        let field = self.fields.iter().find(|field| self.at < field.end);
        field.is_some_and(|field| field.kind == Type::Text)
    }

    /// Consumes the next bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (first, end) = (self.at, self.at.saturating_add(bytes.len() as u64));
        self.at = end;
        while let Some(field) = self.fields.get(self.field) {
            let within =
                |at: u64| usize::try_from(at.clamp(first, end) - first).unwrap_or(usize::MAX);
            if let Some(Some(hash)) = self.hashes.get_mut(self.field) {
                let part = bytes.get(within(field.start)..within(field.end));
                let part = part.unwrap_or_default();
                match field.kind {
                    // Integers of different lengths may be equal, so the value is hashed. Keys
                    // begin in the page, so an overflow page never splits their integers.
                    Type::Integer if part.len() as u64 == field.end - field.start => {
                        hash.write_i64(integer(field.code, part));
                    }
                    _ => hash.write(part),
                }
            }
            if field.end > end {
                break;
            }
            self.field += 1;
        }
    }

    /// Adds the record to the sums.
    pub(super) fn end(&mut self, kind: &TreeKind, rowid: Option<i64>, sums: &mut [EntrySum]) {
        let hashes = &self.hashes;
        let hash_of = |at: usize| match hashes.get(at) {
            Some(Some(hash)) => hash.finish(),
            _ => 0,
        };
        let kind_of = |at: usize| self.fields.get(at).map_or(0, |field| field.kind as u8);
        match (kind, rowid) {
            (TreeKind::Table { columns, indexes }, Some(rowid)) => {
                let mut of_rowid = DefaultHasher::new();
                of_rowid.write_i64(rowid);
                let of_rowid = of_rowid.finish();
                for (sum, index) in sums.iter_mut().zip(indexes) {
                    let parts = index.iter().map(|at| {
                        match columns.get(*at).is_some_and(|column| column.is_rowid) {
                            true => (Type::Integer as u8, of_rowid),
                            false => (kind_of(*at), hash_of(*at)),
                        }
                    });
                    sum.add(parts, of_rowid);
                }
            }
            (TreeKind::Index { columns, .. }, _) => {
                let parts = (0..*columns).map(|at| (kind_of(at), hash_of(at)));
                if let Some(sum) = sums.first_mut() {
                    sum.add(parts, hash_of(*columns));
                }
            }
            _ => {}
        }
    }
}

impl EntrySum {
    fn add(&mut self, parts: impl Iterator<Item = (u8, u64)>, rowid: u64) {
        let mut hash = DefaultHasher::new();
        for (kind, part) in parts {
            hash.write_u8(kind);
            hash.write_u64(part);
        }
        hash.write_u64(rowid);
        self.entries += 1;
        // Addition makes the sum independent of the order of the entries.
        self.hashes = self.hashes.wrapping_add(hash.finish());
    }
}

/// Order check for the keys of an index.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    last: Vec<u8>,
    last_fields: Vec<Field>,
    fields: Vec<Field>,
}

impl KeyOrder {
    /// Returns true if a key, or its part in the page, is above the last one.
    pub(super) fn follows(&mut self, local: &[u8], len: u64) -> bool {
        if fields(local, len, &mut self.fields).is_err() {
            return false;
        }
        let pairs = self.last_fields.iter().zip(&self.fields);
        let mut order = match self.last_fields.is_empty() {
            true => Some(Ordering::Less),
            false => Some(Ordering::Equal),
        };
        for (before, field) in pairs {
            order = compare((&self.last, before), (local, field));
            if order != Some(Ordering::Equal) {
                break;
            }
        }
        let follows = !matches!(order, Some(Ordering::Greater | Ordering::Equal));
        if follows {
            self.last.clear();
            self.last.extend_from_slice(local);
            std::mem::swap(&mut self.last_fields, &mut self.fields);
        }
        follows
    }
}

/// Compares two values as SQLite does, or returns `None` if overflow pages hold the rest.
fn compare((a, a_field): (&[u8], &Field), (b, b_field): (&[u8], &Field)) -> Option<Ordering> {
    let class = |field: &Field| match field.kind {
        Type::Null => 0,
        Type::Integer | Type::Real => 1,
        Type::Text => 2,
        Type::Blob => 3,
    };
    let part = |bytes: &[u8], field: &Field| {
        let at = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        at(field.start)..at(field.end)
    };
    let by_class = class(a_field).cmp(&class(b_field));
    if by_class != Ordering::Equal || a_field.kind == Type::Null {
        return Some(by_class);
    }
    let a_part = a.get(part(a, a_field)).unwrap_or_default();
    let b_part = b.get(part(b, b_field)).unwrap_or_default();
    let is_whole = |part: &[u8], field: &Field| part.len() as u64 == field.end - field.start;
    let both_whole = is_whole(a_part, a_field) && is_whole(b_part, b_field);
    if class(a_field) == 1 {
        if !both_whole {
            return None;
        }
        #[allow(clippy::cast_precision_loss)] // equal where it matters: both are then compared so
        let number = |field: &Field, part: &[u8]| match field.kind {
            Type::Real => real(part),
            _ => integer(field.code, part) as f64,
        };
        return match (a_field.kind, b_field.kind) {
            (Type::Integer, Type::Integer) => {
                Some(integer(a_field.code, a_part).cmp(&integer(b_field.code, b_part)))
            }
            _ => number(a_field, a_part).partial_cmp(&number(b_field, b_part)),
        };
    }
    let shared = a_part.len().min(b_part.len());
    let by_bytes = a_part.get(..shared).cmp(&b_part.get(..shared));
    match by_bytes {
        Ordering::Equal if both_whole => Some(a_part.len().cmp(&b_part.len())),
        Ordering::Equal => None,
        order => Some(order),
    }
}
