//! The extent of the tests.
//!
//! By default, a subset with something of every kind runs in a few minutes.
//! `HNSW_TOOLBOX_TESTS=all`, as set by `make test-all`, runs everything.

/// Returns `all` if the full tests run, else `usual`.
pub fn extent<T>(usual: T, all: T) -> T {
    match std::env::var_os("HNSW_TOOLBOX_TESTS") {
        Some(value) if value == "all" => all,
        _ => usual,
    }
}

/// Every pair from two lists. By default only as many as the longer list has items, so that each
/// item is in a pair.
pub fn pairs<'a, 'b, A, B>(first: &'a [A], second: &'b [B]) -> Vec<(&'a A, &'b B)> {
    let longer = first.len().max(second.len());
    let each = first.iter().cycle().zip(second.iter().cycle()).take(longer);
    let every = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| (a, b)));
    extent(each.collect(), every.collect())
}
