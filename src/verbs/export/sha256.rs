//! SHA-256 of an output file, computed while it is written, for the manifest.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// The hash and length of the bytes that the writing thread passes to an observer.
#[derive(Debug, Default)]
pub(super) struct Hash(Arc<Mutex<Hashed>>);

#[derive(Debug, Default)]
struct Hashed {
    length: u64,
    hasher: Sha256,
}

impl Hash {
    /// Returns a function that takes the next bytes, for the writing thread.
    pub(super) fn observer(&self) -> impl FnMut(&[u8]) + Send + 'static {
        let hashed = Arc::clone(&self.0);
        move |bytes| {
            let mut hashed = hashed.lock().unwrap_or_else(PoisonError::into_inner);
            hashed.hasher.update(bytes);
            hashed.length = hashed.length.saturating_add(bytes.len() as u64);
        }
    }

    /// Returns the number of bytes so far, and their hash in hexadecimal digits.
    pub(super) fn finish(&self) -> (u64, String) {
        let hashed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = hashed.hasher.clone().finalize();
        let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (hashed.length, digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_matches_the_example_of_fips_180() {
        let hash = Hash::default();
        let mut observe = hash.observer();
        observe(b"ab");
        observe(b"c");
        let (length, digits) = hash.finish();
        assert_eq!(length, 3);
        assert_eq!(
            digits,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
