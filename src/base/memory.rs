//! Fallible allocation.
//!
//! `Vec::with_capacity` and `vec!` abort the process when memory runs out. Every allocation whose
//! size grows with a file or an option uses these functions instead, which return
//! [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).

use crate::error::{Error, Result};

/// Reserves room for `additional` more values, growing geometrically.
///
/// `action` is the purpose of the memory, as an infinitive: "hold the labels".
pub(crate) fn reserve<T>(
    values: &mut Vec<T>,
    additional: usize,
    action: &'static str,
) -> Result<()> {
    values.try_reserve(additional).map_err(|_| {
        // A growing vector requests at least twice its capacity.
        let doubled = values.capacity().saturating_mul(2);
        let count = values.len().saturating_add(additional).max(doubled);
        Error::out_of_memory(action, size_of_values::<T>(count))
    })
}

/// Reserves room for exactly `additional` more values.
pub(crate) fn reserve_exact<T>(
    values: &mut Vec<T>,
    additional: usize,
    action: &'static str,
) -> Result<()> {
    values.try_reserve_exact(additional).map_err(|_| {
        let count = values.len().saturating_add(additional);
        Error::out_of_memory(action, size_of_values::<T>(count))
    })
}

/// Returns an empty vector with room for exactly `capacity` values.
pub(crate) fn with_capacity<T>(capacity: usize, action: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    reserve_exact(&mut values, capacity, action)?;
    Ok(values)
}

/// Returns `count` copies of `value`.
pub(crate) fn filled<T: Clone>(count: usize, value: T, action: &'static str) -> Result<Vec<T>> {
    let mut values = with_capacity(count, action)?;
    values.resize(count, value);
    Ok(values)
}

fn size_of_values<T>(count: usize) -> Option<u64> {
    u64::try_from(count)
        .ok()?
        .checked_mul(size_of::<T>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_an_error_with_code_302() {
        let error = filled(usize::MAX / 8, 0_u64, "hold the labels").unwrap_err();
        assert_eq!(error.code(), 302);
        assert_eq!(
            error.to_string(),
            format!(
                "cannot hold the labels: out of memory ({} bytes)",
                usize::MAX / 8 * 8
            )
        );
        let error = with_capacity::<u64>(usize::MAX, "hold the labels").unwrap_err();
        assert_eq!(error.to_string(), "cannot hold the labels: out of memory");
        let error = error.in_file("/data/in.parquet".as_ref());
        assert_eq!(
            error.to_string(),
            "/data/in.parquet: cannot hold the labels: out of memory"
        );
        assert_eq!(filled(3, 7_u8, "hold three numbers").unwrap(), [7, 7, 7]);
    }
}
