//! Property: the metadata reader never panics, and its heap is proportional to the file. If both it
//! and serde-pickle accept a pickle, they agree on every id, label and sequence number.
//!
//! Input: the pickle.

use crate::segment::pickle::oracle::{contents, serde_pickle_contents};
use crate::segment::pickle::Pickle;
use crate::Monitor;

/// Limit on the bytes of heap for reading a pickle of `len` bytes. The worst case is a file of
/// one-byte opcodes that each push a value onto the stack.
fn heap_limit(len: usize) -> usize {
    (64 << 10) + 128 * len
}

/// `peak_of` runs a closure, and returns the peak of its heap use.
pub fn property(pickle: &[u8], peak_of: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
    let mut read = None;
    let peak = peak_of(&mut || read = Some(Pickle::read(pickle, &Monitor::default())));
    assert!(
        peak <= heap_limit(pickle.len()),
        "{peak} bytes of heap for a file of {}",
        pickle.len()
    );
    match read.unwrap() {
        Err(error) => {
            let error = error.in_file("index_metadata.pickle".as_ref());
            assert!(error.code() < 900, "{error}");
        }
        Ok(metadata) => {
            let found = contents(&metadata, pickle).unwrap();
            if let Some(expected) = serde_pickle_contents(pickle) {
                assert_eq!(found, expected);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        // `tests/metadata_memory.rs` measures the heap. Here, other tests allocate concurrently.
        super::super::replay("pickle", |pickle| {
            super::property(pickle, |read| {
                read();
                0
            })
        });
    }
}
