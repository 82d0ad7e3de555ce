//! How much tests go through.
//!
//! Usually a part that has something of every kind in it, so that whoever changes something has an
//! answer in a few minutes. With `HNSW_TOOLBOX_TESTS=all`, which `make test-all` sets, everything.

/// `all` where tests go through everything, and `usual` otherwise.
pub fn extent<T>(usual: T, all: T) -> T {
    match std::env::var_os("HNSW_TOOLBOX_TESTS") {
        Some(value) if value == "all" => all,
        _ => usual,
    }
}

/// Every pair of two lists; usually as many of them as the longer one has items, so that each item is
/// in one.
pub fn pairs<'a, 'b, A, B>(first: &'a [A], second: &'b [B]) -> Vec<(&'a A, &'b B)> {
    let longer = first.len().max(second.len());
    let each = first.iter().cycle().zip(second.iter().cycle()).take(longer);
    let every = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| (a, b)));
    extent(each.collect(), every.collect())
}
