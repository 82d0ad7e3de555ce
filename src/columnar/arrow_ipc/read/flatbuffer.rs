//! FlatBuffers, the encoding of Arrow's schemas and message headers, with every access checked.
//!
//! A table starts with the signed distance back to its vtable. The vtable holds, per field, the
//! field's distance from the table, or 0 if the field has its default value. Tables, strings and
//! vectors are stored elsewhere; their fields hold the distance to them.
//! Source: <https://flatbuffers.dev/internals/>.

use crate::columnar::bytes::{array, DecodeError, Decoded};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    vtable: usize,
    /// Length of the vtable in bytes.
    vtable_len: usize,
}

fn size(value: impl TryInto<usize>) -> Decoded<usize> {
    value.try_into().map_err(|_| DecodeError::end())
}

/// Follows the unsigned 32-bit distance stored at `at`.
fn follow(bytes: &[u8], at: usize) -> Decoded<usize> {
    let distance = size(u32::from_le_bytes(array(bytes, at)?))?;
    at.checked_add(distance).ok_or_else(DecodeError::end)
}

impl<'a> Table<'a> {
    /// The root table of a buffer.
    pub(crate) fn root(bytes: &'a [u8]) -> Decoded<Self> {
        Self::new(bytes, follow(bytes, 0)?)
    }

    fn new(bytes: &'a [u8], at: usize) -> Decoded<Self> {
        // The distance is signed: the vtable can also come after the table.
        let back = i64::from(i32::from_le_bytes(array(bytes, at)?));
        let vtable = i64::try_from(at)
            .ok()
            .and_then(|at| at.checked_sub(back))
            .ok_or_else(DecodeError::end)?;
        let vtable = size(vtable)?;
        let vtable_len = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        Ok(Self {
            bytes,
            at,
            vtable,
            vtable_len,
        })
    }

    /// Position of a field's value, or `None` if the field is omitted.
    fn position(&self, field: usize) -> Decoded<Option<usize>> {
        // The vtable starts with two u16: its own length and the table's. Fields of newer versions
        // lie past the end of an older vtable.
        let entry = 4 + 2 * field;
        if entry + 2 > self.vtable_len {
            return Ok(None);
        }
        let distance = u16::from_le_bytes(array(self.bytes, self.vtable.saturating_add(entry))?);
        Ok((distance != 0).then(|| self.at.saturating_add(usize::from(distance))))
    }

    fn scalar<const N: usize>(&self, field: usize) -> Decoded<Option<[u8; N]>> {
        match self.position(field)? {
            Some(at) => array(self.bytes, at).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn u8(&self, field: usize) -> Decoded<u8> {
        Ok(self.scalar(field)?.map_or(0, u8::from_le_bytes))
    }

    pub(crate) fn i16(&self, field: usize) -> Decoded<i16> {
        Ok(self.scalar(field)?.map_or(0, i16::from_le_bytes))
    }

    pub(crate) fn i32(&self, field: usize) -> Decoded<i32> {
        Ok(self.scalar(field)?.map_or(0, i32::from_le_bytes))
    }

    pub(crate) fn i64(&self, field: usize) -> Decoded<i64> {
        Ok(self.scalar(field)?.map_or(0, i64::from_le_bytes))
    }

    pub(crate) fn table(&self, field: usize) -> Decoded<Option<Table<'a>>> {
        match self.position(field)? {
            Some(at) => Self::new(self.bytes, follow(self.bytes, at)?).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes of a vector with elements of `width` bytes. Strings are vectors of bytes.
    pub(crate) fn vector(&self, field: usize, width: usize) -> Decoded<&'a [u8]> {
        match self.position(field)? {
            Some(at) => Self::elements(self.bytes, at, width).map(|(bytes, _)| bytes),
            None => Ok(&[]),
        }
    }

    fn elements(bytes: &'a [u8], at: usize, width: usize) -> Decoded<(&'a [u8], usize)> {
        let at = follow(bytes, at)?;
        let count = size(u32::from_le_bytes(array(bytes, at)?))?;
        // The elements follow a u32 count.
        let start = at.saturating_add(4);
        count
            .checked_mul(width)
            .and_then(|len| bytes.get(start..)?.get(..len))
            .map(|elements| (elements, start))
            .ok_or_else(|| {
                DecodeError::new(
                    format!("a vector of {count} elements"),
                    "no more than the bytes hold",
                )
            })
    }

    /// A vector of tables.
    pub(crate) fn tables(
        &self,
        field: usize,
    ) -> Decoded<impl Iterator<Item = Decoded<Table<'a>>> + use<'a>> {
        let (elements, start) = match self.position(field)? {
            Some(at) => Self::elements(self.bytes, at, 4)?,
            None => (&[] as &[u8], 0),
        };
        let bytes = self.bytes;
        Ok((0..elements.len() / 4)
            // Each element is a distance from its own position.
            .map(move |index| Table::new(bytes, follow(bytes, start + 4 * index)?)))
    }
}
