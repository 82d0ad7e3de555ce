//! The position and length of a string in a pickle, packed into eight bytes.

const LENGTH_BITS: u32 = 23;

/// Maximum length of an id, in bytes of UTF-8.
pub(super) const MAX_ID_BYTES: u64 = (1 << LENGTH_BITS) - 1;

/// Maximum length of a pickle, in bytes: 1 TiB.
pub(super) const MAX_FILE_BYTES: u64 = 1 << (63 - LENGTH_BITS);

/// From the highest bit: 40 bits of position, 23 of length, and one flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(u64);

impl Span {
    /// The span of a string that was not found in its place.
    pub(super) const NOWHERE: Self = Self(1);
    /// The span of a string whose place is unknown.
    pub(super) const UNKNOWN: Self = Self(0);

    /// `length` bytes from `position` on, within the two limits above.
    pub(super) fn new(position: u64, length: u64) -> Self {
        debug_assert!(position < MAX_FILE_BYTES, "{position}");
        Self((position % MAX_FILE_BYTES) << (LENGTH_BITS + 1) | length.min(MAX_ID_BYTES) << 1)
    }

    pub(super) fn position(self) -> u64 {
        self.0 >> (LENGTH_BITS + 1)
    }

    pub(super) fn length(self) -> usize {
        // 23 bits fit in a usize of 32 bits.
        usize::try_from(self.0 >> 1 & MAX_ID_BYTES).unwrap_or(0)
    }

    pub(super) fn is_flagged(self) -> bool {
        self.0 & 1 != 0
    }

    pub(super) fn flagged(self) -> Self {
        Self(self.0 | 1)
    }
}
