//! Ranges of records.

use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A range of records by internal id. Several workers can share an index: concatenated in order,
/// their parts equal the full output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordRange {
    /// All records.
    #[default]
    All,
    /// The records from internal id `first` on.
    From {
        /// At most the number of records.
        first: u64,
        /// Number of records. By default, and if there are fewer, up to the last one.
        count: Option<u64>,
    },
    /// One of several parts, whose sizes differ by at most one record.
    Part {
        /// Number of the part, from 1 to `of`.
        number: u64,
        /// Number of parts.
        of: u64,
    },
}

impl RecordRange {
    /// Returns part `number` of `of`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) unless `number` is from 1
    /// to `of`.
    pub fn part(number: u64, of: u64) -> Result<Self> {
        if (1..=of).contains(&number) {
            Ok(Self::Part { number, of })
        } else {
            let expected = "a part from 1 to the number of parts";
            Err(Error::argument(
                "part",
                format!("{number} of {of}"),
                expected,
            ))
        }
    }

    /// Returns the internal ids, for an index of `records` records.
    pub(super) fn resolve(self, records: u64) -> Result<Range<u64>> {
        match self {
            Self::All => Ok(0..records),
            Self::From { first, count } => {
                if first > records {
                    let expected = format!("at most {records}, the number of records");
                    return Err(Error::argument("first_row", first, expected));
                }
                let end = count.map_or(records, |count| first.saturating_add(count));
                Ok(first..end.min(records))
            }
            Self::Part { number, of } => {
                Self::part(number, of)?;
                // The product needs 128 bits. Divided by `of` it fits into 64 again, because
                // part ≤ of.
                let bound = |part: u64| {
                    let bound = u128::from(records) * u128::from(part) / u128::from(of);
                    u64::try_from(bound).unwrap_or(records)
                };
                Ok(bound(number - 1)..bound(number))
            }
        }
    }
}

impl FromStr for RecordRange {
    type Err = Error;

    /// Parses a half-open range `A..B` with optional bounds, or `I/N` for part I of N.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let expected = "a half-open range of internal ids A..B, or I/N for part I of N";
            Error::argument("rows", text, expected)
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| refused());
        if let Some((first, end)) = text.split_once("..") {
            let first = if first.is_empty() { 0 } else { number(first)? };
            let count = match end {
                "" => None,
                end => Some(number(end)?.checked_sub(first).ok_or_else(refused)?),
            };
            Ok(Self::From { first, count })
        } else {
            let (part, of) = text.split_once('/').ok_or_else(refused)?;
            Self::part(number(part)?, number(of)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_contiguous_and_differ_by_at_most_one_record() {
        for records in [0, 1, 7, 1000, u64::MAX] {
            for of in [1, 2, 3, 16, 1001] {
                let mut next = 0;
                for number in 1..=of {
                    let range = RecordRange::Part { number, of }.resolve(records).unwrap();
                    assert_eq!(range.start, next);
                    assert!((records / of..=records.div_ceil(of)).contains(&(range.end - next)));
                    next = range.end;
                }
                assert_eq!(next, records);
            }
        }
    }

    #[test]
    fn ranges_and_parts_are_parsed() {
        let resolve = |text: &str| text.parse::<RecordRange>()?.resolve(10);
        for (text, expected) in [
            ("..", 0..10),
            ("3..", 3..10),
            ("..3", 0..3),
            ("3..7", 3..7),
            ("3..3", 3..3),
            ("3..70", 3..10),
            ("10..11", 10..10),
            ("1/1", 0..10),
            ("1/3", 0..3),
            ("3/3", 6..10),
        ] {
            assert_eq!(resolve(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            (
                "11..12",
                "first_row: found 11, expected at most 10, the number of records",
            ),
            (
                "0/3",
                "part: found 0 of 3, expected a part from 1 to the number of parts",
            ),
            (
                "4/3",
                "part: found 4 of 3, expected a part from 1 to the number of parts",
            ),
            (
                "0/0",
                "part: found 0 of 0, expected a part from 1 to the number of parts",
            ),
        ] {
            assert_eq!(resolve(text).unwrap_err().to_string(), expected);
        }
        for text in [
            "",
            "3",
            "7..3",
            "-1..3",
            "1/",
            "a..b",
            "1/2/3",
            "99999999999999999999..",
        ] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(
                error.contains("expected a half-open range of internal ids A..B"),
                "{text}: {error}"
            );
        }
    }
}
