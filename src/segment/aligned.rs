//! Bytes in memory, aligned as they are in a mapped file.

use zerocopy::IntoBytes;

use crate::error::Result;
use crate::io::source::{range_of, Source};

/// A copy of bytes that starts at a multiple of 8.
///
/// [`Records`](super::Records) cast vectors to `f32` in place, and a `Vec<u8>` may start at any
/// address.
#[derive(Clone, Debug, Default)]
pub struct AlignedBytes {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBytes {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or_default()
    }
}

/// Aborts if memory runs out, like `Vec`.
impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(size_of::<u64>())];
        if let Some(target) = words.as_mut_bytes().get_mut(..bytes.len()) {
            target.copy_from_slice(bytes);
        }
        Self {
            words,
            len: bytes.len(),
        }
    }
}

impl From<Vec<u8>> for AlignedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl Source for AlignedBytes {
    fn len(&self) -> u64 {
        self.len as u64
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        range_of(self.as_slice(), offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_start_at_a_multiple_of_eight() {
        let bytes: Vec<u8> = (0..=255).collect();
        for start in 0..9 {
            for end in [start, start + 1, 100, 256] {
                let given = &bytes[start..end];
                let mut aligned = AlignedBytes::from(given);
                assert_eq!(aligned.as_slice(), given);
                assert_eq!(aligned.as_slice().as_ptr() as usize % 8, 0);
                assert_eq!(aligned.bytes(0, given.len()).unwrap(), given);
                assert!(aligned.bytes(1, given.len()).is_err());
            }
        }
    }
}
