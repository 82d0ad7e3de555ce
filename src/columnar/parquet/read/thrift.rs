//! The compact protocol of Apache Thrift, in which Parquet stores its footer and page headers.
//!
//! Values are taken from the front of a slice. Unwanted fields are skipped by their wire type
//! alone, so newer types and annotations do no harm. (The parser of parquet-format-safe rejects a
//! file if a logical type is unknown to it.)

use crate::columnar::bytes::{DecodeError, Decoded};

/// Maximum nesting of skipped structs. Parquet's own nest less than ten deep.
const MAX_DEPTH: u32 = 32;

/// The wire type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    True,
    False,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

impl Wire {
    fn new(code: u8) -> Decoded<Self> {
        Ok(match code {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4 => Self::I16,
            5 => Self::I32,
            6 => Self::I64,
            7 => Self::Double,
            8 => Self::Binary,
            // Sets and lists have the same encoding.
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(DecodeError::new(format!("Thrift type {code}"), "1 to 13")),
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Thrift<'a> {
    rest: &'a [u8],
}

impl<'a> Thrift<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> Decoded<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(DecodeError::end)?;
        self.rest = rest;
        Ok(byte)
    }

    fn take(&mut self, len: u64) -> Decoded<&'a [u8]> {
        let (taken, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or_else(DecodeError::end)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Decoded<u64> {
        varint(&mut self.rest)
    }

    pub(crate) fn i64(&mut self) -> Decoded<i64> {
        self.varint().map(zigzag)
    }

    pub(crate) fn i32(&mut self) -> Decoded<i32> {
        let value = self.i64()?;
        i32::try_from(value).map_err(|_| DecodeError::new(value.to_string(), "a number of 32 bits"))
    }

    pub(crate) fn binary(&mut self) -> Decoded<&'a [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Parses a struct. `field` is called with each field's id and wire type, and must take the
    /// value or [skip](Self::skip) it.
    pub(crate) fn structure(
        &mut self,
        mut field: impl FnMut(&mut Self, i64, Wire) -> Decoded<()>,
    ) -> Decoded<()> {
        let mut id = 0i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            // The high bits hold the difference from the previous id; 0 means that the id follows.
            id = match header >> 4 {
                0 => self.i64()?,
                delta => id.saturating_add(i64::from(delta)),
            };
            field(self, id, Wire::new(header & 15)?)?;
        }
    }

    /// Parses a list's header: element type and count. Each element takes at least one byte, which
    /// bounds the count.
    pub(crate) fn list(&mut self) -> Decoded<(Wire, u64)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            // 15 means that the count follows as a varint.
            15 => self.varint()?,
            short => u64::from(short),
        };
        if count > self.rest.len() as u64 {
            return Err(DecodeError::new(
                format!("a list of {count}"),
                format!("no more than the {} bytes that follow", self.rest.len()),
            ));
        }
        // Some writers store element type 0 for an empty list.
        let wire = if count == 0 {
            Wire::Byte
        } else {
            Wire::new(header & 15)?
        };
        Ok((wire, count))
    }

    /// Parses a list of structs, and calls `element` for each.
    pub(crate) fn structures(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Decoded<()>,
    ) -> Decoded<()> {
        let (wire, count) = self.list()?;
        if count > 0 && wire != Wire::Struct {
            return Err(DecodeError::new(
                format!("a list of {wire:?}"),
                "a list of structs",
            ));
        }
        (0..count).try_for_each(|_| element(self))
    }

    /// Skips the value of a field.
    pub(crate) fn skip(&mut self, wire: Wire) -> Decoded<()> {
        match wire {
            // As a field, a boolean is encoded in its wire type; elsewhere it takes a byte.
            Wire::True | Wire::False => Ok(()),
            _ => self.skip_value(wire, 0),
        }
    }

    fn skip_value(&mut self, wire: Wire, depth: u32) -> Decoded<()> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::new(
                format!("values nested more than {MAX_DEPTH} deep"),
                "a Parquet structure",
            ));
        }
        match wire {
            Wire::True | Wire::False | Wire::Byte => self.take(1).map(drop),
            Wire::I16 | Wire::I32 | Wire::I64 => self.varint().map(drop),
            Wire::Double => self.take(8).map(drop),
            Wire::Uuid => self.take(16).map(drop),
            Wire::Binary => self.binary().map(drop),
            Wire::List => {
                let (element, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_value(element, depth + 1))
            }
            Wire::Map => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let types = self.byte()?;
                let (key, value) = (Wire::new(types >> 4)?, Wire::new(types & 15)?);
                (0..count).try_for_each(|_| {
                    self.skip_value(key, depth + 1)?;
                    self.skip_value(value, depth + 1)
                })
            }
            Wire::Struct => self.structure(|thrift, _, wire| match wire {
                Wire::True | Wire::False => Ok(()),
                _ => thrift.skip_value(wire, depth + 1),
            }),
        }
    }
}

/// Parses an unsigned LEB128 number of up to 64 bits.
pub(crate) fn varint(rest: &mut &[u8]) -> Decoded<u64> {
    let mut value = 0u64;
    // 7 bits per byte, least significant first; the high bit marks a continuation.
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or_else(DecodeError::end)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::new(
        "a number of more than ten bytes",
        "at most ten",
    ))
}

/// Decodes zigzag: 0, 1, 2, 3, … become 0, −1, 1, −2, …
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
