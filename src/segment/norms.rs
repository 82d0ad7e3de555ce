//! `length.bin`: the L2 norm of each vector as the user gave it.
//!
//! Chroma writes the file for every collection, but fills it for the cosine space only. With l2 and
//! ip it is uninitialised memory, so that a norm must be checked before it is used.

use zerocopy::little_endian::F32;
use zerocopy::FromBytes;

use super::decode_error::{DecodeError, Decoded};
use crate::error::{Error, Result};
use crate::io::source::Source;

const SIZE: u64 = size_of::<F32>() as u64;

/// Bytes that are read at a time: 16,384 norms. Records are 100 times as long and read beside them.
pub(crate) const WINDOW: usize = 64 << 10;

/// Reads norms by internal id.
#[derive(Debug)]
pub(crate) struct Norms<S> {
    source: S,
}

impl<S: Source> Norms<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source }
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Number of norms that the file holds.
    pub(crate) fn count(&self) -> u64 {
        self.source.len() / SIZE
    }

    /// Fails when the file does not hold a norm for each of `count` records.
    pub(crate) fn check_count(&self, count: u64) -> Decoded<()> {
        let held = self.count();
        if held >= count {
            return Ok(());
        }
        Err(DecodeError::field(
            "length",
            format!("{} bytes, which hold {held} norms", self.source.len()),
            format!("{count} norms, as header.bin counts (cur_element_count)"),
        ))
    }

    /// The norm of a record as the file holds it; `None` past its end.
    pub(crate) fn find(&mut self, internal_id: u64) -> Result<Option<f32>> {
        if internal_id >= self.count() {
            return Ok(None);
        }
        Ok(self.block(internal_id, 1)?.first().map(|norm| norm.get()))
    }

    /// `count` norms from the one of record `first` on, as the file holds them.
    pub(crate) fn block(&mut self, first: u64, count: usize) -> Result<&[F32]> {
        let outside = || Error::internal(format!("record {first} is outside the index"));
        let offset = first.checked_mul(SIZE).ok_or_else(outside)?;
        let len = count.checked_mul(size_of::<F32>()).ok_or_else(outside)?;
        <[F32]>::ref_from_bytes(self.source.bytes(offset, len)?).map_err(Error::internal)
    }
}
