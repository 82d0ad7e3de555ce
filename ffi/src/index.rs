//! Open graph files: opened from a JSON request, searched with the caller's arrays.

#![allow(unsafe_code)] // The caller's arrays.

use std::sync::Arc;

use toolbox::{Error, HnswIndex, Result};

use crate::registry::Registry;

static INDEXES: Registry<HnswIndex> = Registry::new();

/// Registers an open index and returns its number.
pub(crate) fn register(index: HnswIndex) -> u64 {
    INDEXES.insert(index)
}

pub(crate) fn find(number: u64) -> Result<Arc<HnswIndex>> {
    INDEXES
        .find(number)
        .ok_or_else(|| refused("index", number, "the number of an open index"))
}

/// Closes an index. Returns true if it existed.
pub(crate) fn release(number: u64) -> bool {
    INDEXES.release(number)
}

/// Arguments of a search.
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
    /// Searches, and writes the results to the caller's arrays.
    ///
    /// # Safety
    ///
    /// Each pointer is null or points to an array that nothing else uses during the call: `queries`
    /// to `count` × `dimension` numbers, `labels` and `distances` to `count` × `k` places, and
    /// `found` to `count` places.
    pub(crate) unsafe fn run(self, index: &HnswIndex) -> Result<()> {
        if self.dimension != index.dimension() as u64 {
            let expected = format!("{}, the index's", index.dimension());
            return Err(refused("dimension", self.dimension, expected));
        }
        let values = size(self.count, self.dimension, size_of::<f32>(), "queries")?;
        // Checks only for overflow: results never exceed the number of vectors, and nothing is
        // written beyond them.
        size(self.count, self.k, size_of::<u64>(), "k")?;
        let queries = if values == 0 {
            &[]
        } else if self.queries.is_null() {
            return Err(refused("queries", "NULL", "an array of numbers"));
        } else if !self.queries.is_aligned() {
            return Err(refused(
                "queries",
                "a misaligned address",
                "an address aligned to 4 bytes",
            ));
        } else {
            // SAFETY: as the caller promises; the size was checked.
            unsafe { std::slice::from_raw_parts(self.queries, values) }
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

/// Writes a value to a caller's array.
///
/// # Safety
///
/// `array` is null or has a place with that index.
unsafe fn put<T>(array: *mut T, place: usize, value: T) {
    if !array.is_null() {
        // SAFETY: as the caller promises. Arrays from other languages may be unaligned.
        unsafe { array.add(place).write_unaligned(value) };
    }
}

/// Number of values in an array whose size in bytes fits into an `isize`.
fn size(count: u64, each: u64, element: usize, field: &'static str) -> Result<usize> {
    count
        .checked_mul(each)
        .and_then(|values| usize::try_from(values).ok())
        .filter(|values| {
            let bytes = values.checked_mul(element);
            bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
        })
        .ok_or_else(|| {
            let found = format!("{count} × {each} values");
            refused(field, found, "as many as memory can hold")
        })
}

fn refused(field: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::argument(field, found, expected.into())
}
