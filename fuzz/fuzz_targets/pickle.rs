//! The property is stated in `src/fuzzing/pickle.rs`.

#![no_main]

#[path = "../../tests/support/counting_allocator.rs"]
mod counting_allocator;

use counting_allocator::{peak_of, CountingAllocator};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    toolbox::fuzzing::pickle::property(bytes, |work| peak_of(work).1);
});
