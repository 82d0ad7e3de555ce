//! `length.bin`: the L2 norm of each vector as the user gave it.
//!
//! Chroma writes it for every collection, but fills it for the cosine space only; with l2 and ip
//! it is uninitialised memory.

use zerocopy::little_endian::F32;
use zerocopy::FromBytes;

use crate::error::{Error, Result};
use crate::io::file::{Cursor, Source};

const SIZE: usize = size_of::<F32>();

/// Reads norms by internal id, through one window of the file.
#[derive(Debug)]
pub(crate) struct Norms<'s> {
    cursor: Cursor<'s>,
}

impl<'s> Norms<'s> {
    /// Fails when the file does not hold a norm for each of `count` records.
    pub(crate) fn new(source: &'s Source, count: u64) -> Result<Self> {
        let held = source.len() / SIZE as u64;
        if held < count {
            return Err(Error::corrupt(
                source.path(),
                "length",
                format!("{} bytes, which hold {held} norms", source.len()),
                format!("{count} norms, as header.bin counts (cur_element_count)"),
            ));
        }
        Ok(Self {
            cursor: source.cursor(),
        })
    }

    /// The norm of a record, which must be one.
    pub(crate) fn get(&mut self, internal_id: u64) -> Result<f32> {
        let source = self.cursor.source();
        let offset = internal_id
            .checked_mul(SIZE as u64)
            .ok_or_else(|| Error::internal(format!("record {internal_id} is outside the index")))?;
        let norm = F32::read_from_bytes(self.cursor.bytes(offset, SIZE)?)
            .map_err(|_| Error::internal("a norm is not four bytes"))?
            .get();
        if norm.is_finite() && norm >= 0.0 {
            Ok(norm)
        } else {
            Err(Error::corrupt(
                source.path(),
                format!("norm of record {internal_id}"),
                norm,
                "a finite number, 0 or more, as in a collection with the cosine metric",
            ))
        }
    }
}
