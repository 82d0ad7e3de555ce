//! `length.bin`: the L2 norm of each vector as the user gave it.
//!
//! Chroma writes the file for every collection, but hnswlib fills it only if the metric is cosine.
//! Otherwise it is uninitialised memory, so a norm must be checked before it is used.

use zerocopy::little_endian::F32;
use zerocopy::FromBytes;

use super::decode_error::{DecodeError, Decoded};
use crate::error::{Error, Result};
use crate::io::source::{exact, Source};

const SIZE: u64 = size_of::<F32>() as u64;

/// Bytes per read: 16,384 norms. A record is about 100 times as long as its norm, so larger reads
/// would save little.
pub(crate) const WINDOW: usize = 64 << 10;

/// Reads norms by internal id, from `length.bin`.
#[derive(Debug)]
pub struct Norms<S> {
    source: S,
}

impl<S: Source> Norms<S> {
    /// Reads norms from `source`. Its length is not checked: see [`check_count`](Self::check_count).
    pub fn new(source: S) -> Self {
        Self { source }
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Number of norms in the file.
    pub fn count(&self) -> u64 {
        self.source.len() / SIZE
    }

    /// Checks that the file has a norm for each of `count` records.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid) if it has fewer.
    pub fn check_count(&self, count: u64) -> Decoded<()> {
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

    /// Reads the norm of a record; `None` past the end of the file.
    ///
    /// # Errors
    ///
    /// Errors of the source.
    pub fn find(&mut self, internal_id: u64) -> Result<Option<f32>> {
        if internal_id >= self.count() {
            return Ok(None);
        }
        Ok(self.block(internal_id, 1)?.first().map(|norm| norm.get()))
    }

    /// Reads `count` norms, starting with the norm of record `first`.
    pub(crate) fn block(&mut self, first: u64, count: usize) -> Result<&[F32]> {
        let outside = || Error::internal(format!("record {first} is outside the index"));
        let offset = first.checked_mul(SIZE).ok_or_else(outside)?;
        let len = count.checked_mul(size_of::<F32>()).ok_or_else(outside)?;
        <[F32]>::ref_from_bytes(exact(&mut self.source, offset, len)?).map_err(Error::internal)
    }
}
