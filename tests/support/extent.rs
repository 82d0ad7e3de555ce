//! The share of their cases that tests run.
//!
//! Usually a sample with something of every kind, which takes a few minutes. With
//! `cargo test -- --include-ignored`, all cases.

/// `all` if the test program was given `--include-ignored`, and `usual` otherwise.
pub fn extent<T>(usual: T, all: T) -> T {
    match std::env::args().any(|argument| argument == "--include-ignored") {
        true => all,
        false => usual,
    }
}

/// Pairs of two lists: all of them, or usually as many as the longer list has items, so that each
/// item is in one pair.
pub fn pairs<'a, 'b, A, B>(first: &'a [A], second: &'b [B]) -> Vec<(&'a A, &'b B)> {
    let longer = first.len().max(second.len());
    let each = first.iter().cycle().zip(second.iter().cycle()).take(longer);
    let every = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| (a, b)));
    extent(each.collect(), every.collect())
}
