//! The property is stated in `src/fuzzing/build_index.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: hnsw_toolbox_fuzz::leave_caught_panics_alone(), |bytes: &[u8]| {
    toolbox::fuzzing::build_index::property(bytes);
});
