//! Sequence numbers as Chroma's versions have stored them.
//!
//! Up to 0.6 they are BLOBs of eight bytes, big-endian; from 1.0 on INTEGERs. Upgraded databases
//! hold both in one column, which SQL cannot compare, so each value is decoded by what it is.
//!
//! The migration to 1.0 also turned values that were INTEGERs already into other numbers: it read
//! the *decimal digits* as bytes and filled up with `0x11`. 7 became `11 11 11 11 11 11 11 37`.
//! Chroma then takes every later write for one that was applied already, and never applies it.

use rusqlite::types::ValueRef;

/// What the migration filled up with, in every byte: the least value that it can have made.
const FILLED: u64 = 0x1111_1111_1111_1111;

/// A decoded sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeqId {
    pub(crate) value: u64,
    /// The number that is stored, where the migration has spoilt it.
    pub(crate) poisoned: Option<u64>,
}

impl SeqId {
    /// `None` for NULL and what is no sequence number.
    pub(crate) fn decode(value: ValueRef<'_>) -> Option<Self> {
        let stored = match value {
            ValueRef::Integer(value) => u64::try_from(value).ok()?,
            ValueRef::Blob(bytes) => match *bytes {
                [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                // 0.4 has a form for numbers beyond 64 bits, which never come.
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

/// The number that the migration was given, exact below 10⁸: of a longer one, the last eight digits
/// are all that is left.
fn repaired(stored: u64) -> Option<u64> {
    if stored < FILLED {
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
    fn each_form_is_decoded_by_what_it_is() {
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
    fn numbers_that_the_migration_spoilt_are_repaired() {
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
        // Too large, but not by the migration.
        for stored in [FILLED, 0x1111_1111_1111_1140, 0x3131_3131_3131_1137] {
            let value = ValueRef::Integer(i64::try_from(stored).unwrap());
            assert_eq!(decoded(value), Some((stored, false)));
        }
    }
}
