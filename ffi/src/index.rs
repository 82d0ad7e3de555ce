//! Open indexes: opened from JSON, searched with the caller's own arrays.

#![allow(unsafe_code)] // The caller's arrays.

use std::sync::Arc;

use toolbox::{Error, HnswIndex, Result};

use crate::registry::Registry;

static INDEXES: Registry<HnswIndex> = Registry::new();

/// The number of an index that is open from now on.
pub(crate) fn register(index: HnswIndex) -> u64 {
    INDEXES.insert(index)
}

pub(crate) fn find(number: u64) -> Result<Arc<HnswIndex>> {
    INDEXES
        .find(number)
        .ok_or_else(|| refused("index", number, "the number of an open index"))
}

/// Whether there was such an index.
pub(crate) fn release(number: u64) -> bool {
    INDEXES.release(number)
}

/// A search that a caller asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub(crate) queries: *const f32,
    pub(crate) count: u64,
    pub(crate) dimension: u64,
    pub(crate) k: u64,
    pub(crate) ef: u64,
    pub(crate) threads: u64,
    pub(crate) labels: *mut u64,
    pub(crate) distances: *mut f32,
    pub(crate) found: *mut u64,
}

impl Search {
    /// Searches, and writes what is found to the caller's arrays.
    ///
    /// # Safety
    ///
    /// Where a pointer is not null, `queries` points to `count` × `dimension` numbers that do not
    /// change during the call, `labels` and `distances` to as many places as `count` × `k`, and `found` to
    /// `count` places, and nothing else may use them during the call.
    pub(crate) unsafe fn run(self, index: &HnswIndex) -> Result<()> {
        if self.dimension != index.dimension() as u64 {
            let expected = format!("{}, the index's", index.dimension());
            return Err(refused("dimension", self.dimension, expected));
        }
        let elements = size(self.count, self.dimension, size_of::<f32>(), "queries")?;
        // Nothing is found beyond the number of vectors, and nothing is written there.
        size(self.count, self.k, size_of::<u64>(), "k")?;
        let queries = if elements == 0 {
            &[]
        } else if self.queries.is_null() {
            return Err(refused("queries", "NULL", "an array of numbers"));
        } else if !self.queries.is_aligned() {
            return Err(refused("queries", "an odd address", "an aligned one"));
        } else {
            // SAFETY: as the caller promises; the size was checked.
            unsafe { std::slice::from_raw_parts(self.queries, elements) }
        };
        let k = usize::try_from(self.k).unwrap_or(usize::MAX);
        let ef = usize::try_from(self.ef).unwrap_or(usize::MAX);
        let threads = match self.threads {
            0 => None,
            threads => Some(usize::try_from(threads).unwrap_or(usize::MAX)),
        };
        let results = index.search_batch(queries, k, ef, threads)?;
        let mut first = 0;
        for (number, result) in results.iter().enumerate() {
            for (place, neighbour) in (first..).zip(result) {
                // SAFETY: `place` is below (number + 1) · k, and so in the caller's arrays.
                unsafe {
                    put(self.labels, place, neighbour.label);
                    put(self.distances, place, neighbour.distance);
                }
            }
            // SAFETY: `number` is below `count`.
            unsafe { put(self.found, number, result.len() as u64) };
            first = first.saturating_add(k);
        }
        Ok(())
    }
}

/// Writes to a caller's array.
///
/// # Safety
///
/// `array` is null or has a place of that number.
unsafe fn put<T>(array: *mut T, place: usize, value: T) {
    if !array.is_null() {
        // SAFETY: as the caller promises. Arrays from other languages may be aligned as bytes are.
        unsafe { array.add(place).write_unaligned(value) };
    }
}

/// The number of elements of an array, whose bytes one can count.
fn size(count: u64, each: u64, element: usize, field: &'static str) -> Result<usize> {
    count
        .checked_mul(each)
        .and_then(|elements| usize::try_from(elements).ok())
        .filter(|elements| {
            let bytes = elements.checked_mul(element);
            bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
        })
        .ok_or_else(|| {
            let found = format!("{count} × {each} elements");
            refused(field, found, "as many as memory can hold")
        })
}

fn refused(field: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::InvalidArgument {
        field: field.into(),
        found: found.to_string(),
        expected: expected.into().into(),
    }
}
