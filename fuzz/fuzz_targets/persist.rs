//! The property is stated in `src/fuzzing/persist.rs`.

#![no_main]

#[path = "../../tests/support/counting_allocator.rs"]
mod counting_allocator;

use counting_allocator::{peak_of, CountingAllocator};
use hnsw_toolbox_fuzz::keep_if;
use libfuzzer_sys::{fuzz_target, Corpus};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    keep_if(toolbox::fuzzing::persist::property(bytes, |work| {
        peak_of(work).1
    }))
});
