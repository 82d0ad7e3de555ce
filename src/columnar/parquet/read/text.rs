//! Decoders of BYTE_ARRAY and FIXED_LEN_BYTE_ARRAY values.
//!
//! Like the decoders of numbers, they hold positions in a page's bytes, and receive the bytes with
//! each call.

use parquet_format_safe::Encoding;

use super::encoding::{Delta, Hybrid};
use super::page::encoding_name;
use crate::base::memory;
use crate::columnar::bytes::{array, DecodeError, Decoded};

/// Purpose of a text's memory in out-of-memory errors.
const HOLD_TEXT: &str = "hold a text";

/// The dictionary of a column chunk: the bytes of its page, in encoding PLAIN.
#[derive(Debug)]
pub(crate) struct TextDictionary {
    bytes: Vec<u8>,
    places: Places,
}

#[derive(Debug)]
enum Places {
    /// Position of each value's length.
    Starts(Vec<u32>),
    Fixed {
        width: usize,
        count: usize,
    },
}

impl TextDictionary {
    /// Takes the `count` values of a dictionary page, of `width` bytes each if it is known.
    pub(crate) fn new(bytes: Vec<u8>, count: usize, width: Option<usize>) -> Decoded<Self> {
        let places = match width {
            Some(width) => Places::Fixed { width, count },
            None => {
                // Each value takes at least the 4 bytes of its length, which the caller checked.
                let mut starts = memory::with_capacity(count, "hold a dictionary")?;
                let mut at = 0;
                for _ in 0..count {
                    starts.push(u32::try_from(at).map_err(|_| DecodeError::end())?);
                    prefixed(&bytes, &mut at)?;
                }
                Places::Starts(starts)
            }
        };
        Ok(Self { bytes, places })
    }

    fn get(&self, index: u64) -> Decoded<&[u8]> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let (value, count) = match &self.places {
            Places::Starts(starts) => {
                let start = starts.get(index).and_then(|at| usize::try_from(*at).ok());
                let value = start.and_then(|mut at| prefixed(&self.bytes, &mut at).ok());
                (value, starts.len())
            }
            Places::Fixed { width, count } => {
                let start = index.saturating_mul(*width);
                let range = start..start.saturating_add(*width);
                let value = self.bytes.get(range).filter(|_| index < *count);
                (value, *count)
            }
        };
        value.ok_or_else(|| {
            DecodeError::new(
                format!("dictionary index {index}"),
                format!("less than {count}"),
            )
        })
    }
}

/// Takes the value at `at`: a u32 length, and as many bytes.
fn prefixed<'a>(bytes: &'a [u8], at: &mut usize) -> Decoded<&'a [u8]> {
    let len = u32::from_le_bytes(array(bytes, *at)?);
    *at = at.saturating_add(4);
    take(bytes, at, len.into())
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, len: u64) -> Decoded<&'a [u8]> {
    let taken = usize::try_from(len)
        .ok()
        .and_then(|len| bytes.get(*at..at.checked_add(len)?))
        .ok_or_else(|| {
            DecodeError::new(
                format!("a text of {len} bytes at byte {at} of the page"),
                format!("one within its {} bytes", bytes.len()),
            )
        })?;
    *at = at.saturating_add(taken.len());
    Ok(taken)
}

/// The texts of a page.
#[derive(Clone, Debug)]
pub(crate) enum Texts {
    /// A u32 length in front of each value.
    Plain {
        at: usize,
    },
    /// Values of `width` bytes each.
    Fixed {
        at: usize,
        width: usize,
    },
    Dictionary(Hybrid),
    /// The lengths of all values, then the values.
    DeltaLength {
        lengths: Delta,
        at: usize,
    },
    /// For each value, the length of the prefix that it shares with the one before, then the
    /// lengths of all suffixes, then the suffixes.
    Delta {
        prefixes: Delta,
        lengths: Delta,
        at: usize,
        last: Vec<u8>,
    },
}

impl Texts {
    /// Finds the values from byte `at` to the end of `page`. Values have `width` bytes if it is
    /// known.
    pub(crate) fn new(
        encoding: Encoding,
        page: &[u8],
        at: usize,
        width: Option<usize>,
        has_dictionary: bool,
    ) -> Decoded<Self> {
        let end = page.len();
        Ok(match (encoding, width) {
            (Encoding::PLAIN, None) => Self::Plain { at },
            (Encoding::PLAIN, Some(width)) => Self::Fixed { at, width },
            (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, _) => {
                Self::Dictionary(Hybrid::indices(page, at, has_dictionary)?)
            }
            // A page without values can lack the headers.
            (Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY, _) if at == end => {
                Self::Plain { at }
            }
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, None) => {
                let lengths = Delta::new(page, at, end)?;
                let at = lengths.end(page)?;
                Self::DeltaLength { lengths, at }
            }
            (Encoding::DELTA_BYTE_ARRAY, _) => {
                let prefixes = Delta::new(page, at, end)?;
                let lengths = Delta::new(page, prefixes.end(page)?, end)?;
                Self::Delta {
                    at: lengths.end(page)?,
                    prefixes,
                    lengths,
                    last: Vec::new(),
                }
            }
            _ => {
                return Err(DecodeError::unsupported(
                    format!("text in encoding {}", encoding_name(encoding)),
                    "PLAIN, a dictionary, DELTA_LENGTH_BYTE_ARRAY or DELTA_BYTE_ARRAY",
                ))
            }
        })
    }

    /// Decodes the next value. `dictionary` belongs to the column chunk.
    pub(crate) fn next<'a>(
        &'a mut self,
        page: &'a [u8],
        dictionary: Option<&'a TextDictionary>,
    ) -> Decoded<&'a [u8]> {
        match self {
            Self::Plain { at } => prefixed(page, at),
            Self::Fixed { at, width } => take(page, at, *width as u64),
            Self::Dictionary(indices) => {
                let index = indices.next(page)?;
                let dictionary = dictionary.ok_or_else(DecodeError::end)?;
                dictionary.get(index)
            }
            Self::DeltaLength { lengths, at } => take(page, at, lengths.next(page)?),
            Self::Delta {
                prefixes,
                lengths,
                at,
                last,
            } => {
                let prefix = prefixes.next(page)?;
                let kept = usize::try_from(prefix).ok();
                let kept = kept.filter(|kept| *kept <= last.len()).ok_or_else(|| {
                    DecodeError::new(
                        format!("a prefix of {prefix} bytes"),
                        format!("at most the {} of the value before", last.len()),
                    )
                })?;
                let suffix = take(page, at, lengths.next(page)?)?;
                // All suffixes are in the page, so its size bounds the value.
                last.truncate(kept);
                memory::reserve(last, suffix.len(), HOLD_TEXT)?;
                last.extend_from_slice(suffix);
                Ok(last)
            }
        }
    }
}
