//! Fingerprints of ids, which tell equal ids without reading both from the file again.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A keyed hash. The key is random, so that nobody can craft ids with equal fingerprints.
#[derive(Clone, Debug)]
pub(super) enum Fingerprinter {
    Keyed(RandomState),
    /// The same fingerprint for all, to see what collisions do.
    #[cfg(test)]
    Constant,
}

impl Fingerprinter {
    pub(super) fn new() -> Self {
        Self::Keyed(RandomState::new())
    }

    #[inline]
    pub(super) fn of(&self, id: &[u8]) -> u64 {
        match self {
            Self::Keyed(state) => {
                let mut hasher = state.build_hasher();
                hasher.write(id);
                hasher.finish()
            }
            #[cfg(test)]
            Self::Constant => 0,
        }
    }
}
