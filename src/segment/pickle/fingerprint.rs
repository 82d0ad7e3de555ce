//! Fingerprints of ids: equal ids are recognised without reading them again.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A hash with a random key, so that a file cannot contain ids crafted to collide.
#[derive(Clone, Debug)]
pub(super) enum Fingerprinter {
    Keyed(RandomState),
    /// Gives every id the same fingerprint, to test collisions.
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
