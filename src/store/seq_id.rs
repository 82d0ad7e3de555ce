//! Decoding of sequence numbers in the forms of all Chroma versions.
//!
//! Up to 0.6 they are BLOBs of eight bytes, big-endian; from 1.0 on they are INTEGERs. An upgraded
//! database has both in one column, which SQL cannot compare, so each value is decoded by its own
//! type.
//!
//! The migration to 1.0 also corrupted values that were INTEGERs already: it read their *decimal
//! digits* as bytes and padded with `0x11`. 7 became `11 11 11 11 11 11 11 37`. Chroma then takes
//! every later write for an old one and never applies it.

use rusqlite::types::ValueRef;

/// Padding of the migration in every byte: the smallest value that it can have produced.
const ALL_PADDING: u64 = 0x1111_1111_1111_1111;

/// A decoded sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeqId {
    pub(crate) value: u64,
    /// The stored number, if the migration corrupted it.
    pub(crate) poisoned: Option<u64>,
}

impl SeqId {
    /// Returns `None` for NULL and for values that are not sequence numbers.
    pub(crate) fn decode(value: ValueRef<'_>) -> Option<Self> {
        let stored = match value {
            ValueRef::Integer(value) => u64::try_from(value).ok()?,
            ValueRef::Blob(bytes) => match *bytes {
                [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                // 0.4 also has a 24-byte form for numbers beyond 64 bits, which do not occur.
                [.., a, b, c, d, e, f, g, h] if bytes.len() == 24 => {
                    let high = bytes.get(..16)?;
                    if high.iter().any(|byte| *byte != 0) {
                        return None;
                    }
                    u64::from_be_bytes([a, b, c, d, e, f, g, h])
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(match repaired(stored) {
            Some(value) => Self {
                value,
                poisoned: Some(stored),
            },
            None => Self {
                value: stored,
                poisoned: None,
            },
        })
    }
}

/// Recovers the number that the migration was given. Exact below 10⁸; of a longer one, only the
/// last eight digits survive.
fn repaired(stored: u64) -> Option<u64> {
    if stored < ALL_PADDING {
        return None;
    }
    let bytes = stored.to_be_bytes();
    let digits = bytes.iter().skip_while(|byte| **byte == 0x11);
    let mut value = None;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value = Some(value.unwrap_or(0_u64) * 10 + u64::from(digit));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: ValueRef<'_>) -> Option<(u64, bool)> {
        SeqId::decode(value).map(|seq_id| (seq_id.value, seq_id.poisoned.is_some()))
    }

    #[test]
    fn each_form_is_decoded_by_its_type() {
        let mut wide = [0; 24];
        wide[22] = 1;
        assert_eq!(decoded(ValueRef::Integer(2700)), Some((2700, false)));
        assert_eq!(
            decoded(ValueRef::Blob(&2700_u64.to_be_bytes())),
            Some((2700, false))
        );
        assert_eq!(decoded(ValueRef::Blob(&wide)), Some((256, false)));
        wide[0] = 1;
        assert_eq!(decoded(ValueRef::Blob(&wide)), None);
        assert_eq!(decoded(ValueRef::Integer(-1)), None);
        assert_eq!(decoded(ValueRef::Blob(&[1, 2, 3])), None);
        assert_eq!(decoded(ValueRef::Null), None);
        assert_eq!(decoded(ValueRef::Text(b"7")), None);
    }

    #[test]
    fn numbers_corrupted_by_the_migration_are_repaired() {
        for (stored, expected) in [
            (0x1111_1111_1111_1137_u64, 7),
            (1_229_818_264_926_041_398, 123_456),
            (0x3132_3334_3536_3738, 12_345_678),
            (1_229_821_589_196_978_484, 481_194),
            (1_229_822_654_349_062_456, 501_418),
            (1_229_822_654_365_841_720, 502_498),
        ] {
            let value = ValueRef::Integer(i64::try_from(stored).unwrap());
            assert_eq!(decoded(value), Some((expected, true)));
            let bytes = stored.to_be_bytes();
            assert_eq!(decoded(ValueRef::Blob(&bytes)), Some((expected, true)));
        }
        // Too large, but not produced by the migration.
        for stored in [ALL_PADDING, 0x1111_1111_1111_1140, 0x3131_3131_3131_1137] {
            let value = ValueRef::Integer(i64::try_from(stored).unwrap());
            assert_eq!(decoded(value), Some((stored, false)));
        }
    }
}
