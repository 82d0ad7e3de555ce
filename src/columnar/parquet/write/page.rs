//! Encodes a builder's values as a data page: levels, then PLAIN values.
//!
//! ```text
//! u32 length, repetition levels | u32 length, definition levels | non-null values
//! ```
//!
//! Levels assign values to rows. The repetition level is 0 for a row's first value and 1 for the
//! other values of its list. The definition level counts the optional and repeated fields present
//! on the path to the value. The maximum stands for a value; lower ones for empty lists and nulls.
//! Columns that are neither nullable nor lists have no levels.

use arrow2::bitmap::MutableBitmap;
use arrow2::offset::Offsets;
use zerocopy::{Immutable, IntoBytes};

use crate::base::memory::reserve;
use crate::columnar::columns::{Builder, Column, Lists, Values};
use crate::error::{Error, Result};

/// Purpose of a page's memory in out-of-memory errors.
const ENCODE: &str = "encode a page";

/// Buffers for encoding, reused for each page.
#[derive(Default)]
pub(super) struct PageBuffer {
    levels: Vec<u8>,
    /// Values whose layout in Parquet differs from the builder's.
    gathered: Vec<u8>,
}

/// A page before compression.
pub(super) struct Page<'p> {
    pub(super) levels: &'p [u8],
    pub(super) values: &'p [u8],
    /// Number of values, including nulls and empty lists.
    pub(super) count: usize,
    /// Number of null rows.
    pub(super) nulls: usize,
    /// Minimum and maximum; integers only.
    pub(super) bounds: Option<(i128, i128)>,
}

impl<'p> Page<'p> {
    /// A page of one non-null value, without the value itself.
    pub(super) fn of_one(levels: &'p [u8]) -> Self {
        Self {
            levels,
            values: &[],
            count: 1,
            nulls: 0,
            bounds: None,
        }
    }
}

impl PageBuffer {
    /// The levels of a single non-null value.
    pub(super) fn levels_of_one(&mut self, column: &Column) -> &[u8] {
        self.levels.clear();
        if column.nullable {
            flat_levels(&mut self.levels, 1, 0, None);
        }
        &self.levels
    }

    /// Encodes the values of `builder`.
    pub(super) fn encode<'p>(&'p mut self, builder: &'p Builder) -> Result<Page<'p>> {
        let Self { levels, gathered } = self;
        levels.clear();
        gathered.clear();
        let optional = builder.column().nullable;
        let rows = builder.len();
        let validity = builder.validity();
        let nulls = validity.map_or(0, MutableBitmap::unset_bits);
        // `None` if all rows have values.
        let present = validity.filter(|_| nulls > 0);

        let count = match builder.values() {
            Values::Vector(array) => {
                let lengths = std::iter::repeat_n(array.size(), rows);
                list_levels(levels, lengths, optional, present)
            }
            Values::List(lists) => list_levels(levels, lengths(lists.offsets()), optional, present),
            _ => {
                if optional {
                    flat_levels(levels, rows, nulls, present);
                }
                rows
            }
        };
        if nulls == rows {
            return Ok(Page {
                levels,
                values: &[],
                count,
                nulls,
                bounds: None,
            });
        }
        let bounds = match builder.values() {
            Values::UInt64(array) => bounds(array.values(), present),
            Values::Int64(array) => bounds(array.values(), present),
            _ => None,
        };
        let values = match builder.values() {
            Values::UInt64(array) => plain(array.values(), 1, present, gathered)?,
            Values::Int64(array) => plain(array.values(), 1, present, gathered)?,
            Values::Float64(array) => plain(array.values(), 1, present, gathered)?,
            Values::Boolean(array) => booleans(array.values(), present, gathered)?,
            Values::Utf8(array) => strings(array.values(), array.offsets(), present, gathered)?,
            Values::Vector(array) => {
                plain(array.values().values(), array.size(), present, gathered)?
            }
            // Null lists are empty, and elements are never null, so the buffers need no filtering.
            Values::List(Lists::Float32(lists)) => lists.values().values().as_bytes(),
            Values::List(Lists::UInt64(lists)) => lists.values().values().as_bytes(),
            Values::List(Lists::Int64(lists)) => lists.values().values().as_bytes(),
            Values::List(Lists::Float64(lists)) => lists.values().values().as_bytes(),
            Values::List(Lists::Boolean(lists)) => lists.values().values().as_slice(),
            Values::List(Lists::Utf8(lists)) => {
                let elements = lists.values();
                strings(elements.values(), elements.offsets(), None, gathered)?
            }
        };
        Ok(Page {
            levels,
            values,
            count,
            nulls,
            bounds,
        })
    }
}

fn lengths(offsets: &Offsets<i32>) -> impl Iterator<Item = usize> + Clone + '_ {
    offsets.as_slice().windows(2).map(|offsets| match offsets {
        [start, end] => usize::try_from(end - start).unwrap_or_default(),
        _ => 0,
    })
}

fn is_present(present: Option<&MutableBitmap>, row: usize) -> bool {
    present.is_none_or(|present| present.get(row))
}

/// Levels of an optional column other than a list: 0 for nulls, 1 for values.
fn flat_levels(levels: &mut Vec<u8>, rows: usize, nulls: usize, present: Option<&MutableBitmap>) {
    let mut definition = Runs::new(levels);
    match present {
        None => definition.push(1, rows),
        Some(_) if nulls == rows => definition.push(0, rows),
        Some(present) => present
            .iter()
            .for_each(|present| definition.push(u8::from(present), 1)),
    }
    definition.finish();
}

/// Levels of a list column with required elements. Returns their number.
fn list_levels(
    levels: &mut Vec<u8>,
    lengths: impl Iterator<Item = usize> + Clone,
    optional: bool,
    present: Option<&MutableBitmap>,
) -> usize {
    // An optional list adds one definition level; its repeated field adds another.
    let empty = u8::from(optional);
    let element = empty + 1;

    let mut count: usize = 0;
    let mut repetition = Runs::new(levels);
    for (row, length) in lengths.clone().enumerate() {
        // A null or empty list still takes one level.
        let values = if is_present(present, row) {
            length.max(1)
        } else {
            1
        };
        repetition.push(0, 1);
        repetition.push(1, values - 1);
        count = count.saturating_add(values);
    }
    repetition.finish();

    let mut definition = Runs::new(levels);
    for (row, length) in lengths.enumerate() {
        match (is_present(present, row), length) {
            (false, _) => definition.push(0, 1),
            (true, 0) => definition.push(empty, 1),
            (true, length) => definition.push(element, length),
        }
    }
    definition.finish();
    count
}

/// Appends levels as runs of equal values in the RLE / bit-packing hybrid encoding. A length in
/// bytes precedes them, as in version 1 pages.
struct Runs<'l> {
    levels: &'l mut Vec<u8>,
    /// Position of the length.
    start: usize,
    level: u8,
    count: usize,
}

impl<'l> Runs<'l> {
    fn new(levels: &'l mut Vec<u8>) -> Self {
        let start = levels.len();
        levels.extend_from_slice(&[0; 4]);
        Self {
            levels,
            start,
            level: 0,
            count: 0,
        }
    }

    /// Appends `count` equal levels. In a run, a level of up to 8 bits takes one byte.
    #[inline]
    fn push(&mut self, level: u8, count: usize) {
        if level != self.level {
            self.end_run();
            self.level = level;
        }
        self.count += count;
    }

    fn end_run(&mut self) {
        if self.count == 0 {
            return;
        }
        // A lowest bit of 0 marks a run of equal values.
        let mut header = (self.count as u64) << 1;
        while header >= 0x80 {
            self.levels.push(low_byte(header) | 0x80);
            header >>= 7;
        }
        self.levels.push(low_byte(header));
        self.levels.push(self.level);
        self.count = 0;
    }

    fn finish(mut self) {
        self.end_run();
        let length = self.levels.len() - self.start - size_of::<u32>();
        // Pages of this size are rejected when their header is written.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Some(prefix) = self.levels.get_mut(self.start..self.start + 4) {
            prefix.copy_from_slice(&length.to_le_bytes());
        }
    }
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

/// Minimum and maximum of the non-null values.
fn bounds<T: Copy + Ord + Into<i128>>(
    values: &[T],
    present: Option<&MutableBitmap>,
) -> Option<(i128, i128)> {
    let (low, high) = match present {
        None => (values.iter().min()?, values.iter().max()?),
        Some(present) => {
            let values = || values.iter().zip(present.iter()).filter(|row| row.1);
            (values().min()?.0, values().max()?.0)
        }
    };
    Some(((*low).into(), (*high).into()))
}

/// Little-endian numbers, `width` per row. Null rows are omitted.
fn plain<'p, T: IntoBytes + Immutable>(
    values: &'p [T],
    width: usize,
    present: Option<&MutableBitmap>,
    gathered: &'p mut Vec<u8>,
) -> Result<&'p [u8]> {
    let Some(present) = present else {
        return Ok(values.as_bytes());
    };
    reserve(gathered, size_of_val(values), ENCODE)?;
    for (row, present) in values.chunks(width).zip(present.iter()) {
        if present {
            gathered.extend_from_slice(row.as_bytes());
        }
    }
    Ok(gathered)
}

/// Booleans as bits, least significant first, the same layout as Arrow's.
fn booleans<'p>(
    values: &'p MutableBitmap,
    present: Option<&MutableBitmap>,
    gathered: &'p mut Vec<u8>,
) -> Result<&'p [u8]> {
    let Some(present) = present else {
        return Ok(values.as_slice());
    };
    reserve(gathered, values.len().div_ceil(8), ENCODE)?;
    let values = values.iter().zip(present.iter()).filter(|row| row.1);
    let mut bit = 0;
    for (value, _) in values {
        if bit == 0 {
            gathered.push(0);
        }
        if let Some(byte) = gathered.last_mut() {
            *byte |= u8::from(value) << bit;
        }
        bit = (bit + 1) % 8;
    }
    Ok(gathered)
}

/// Strings, each preceded by its u32 length.
fn strings<'p>(
    bytes: &[u8],
    offsets: &Offsets<i32>,
    present: Option<&MutableBitmap>,
    gathered: &'p mut Vec<u8>,
) -> Result<&'p [u8]> {
    let prefixes = offsets.len_proxy().saturating_mul(size_of::<u32>());
    reserve(gathered, bytes.len().saturating_add(prefixes), ENCODE)?;
    let mut rest = bytes;
    for (row, length) in lengths(offsets).enumerate() {
        let (string, after) = rest
            .split_at_checked(length)
            .ok_or_else(|| Error::internal("strings end before their last offset"))?;
        rest = after;
        if is_present(present, row) {
            let length = u32::try_from(length).map_err(Error::internal)?;
            gathered.extend_from_slice(&length.to_le_bytes());
            gathered.extend_from_slice(string);
        }
    }
    Ok(gathered)
}
