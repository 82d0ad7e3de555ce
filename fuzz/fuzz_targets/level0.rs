//! The property is stated in `src/fuzzing/level0.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: hnsw_toolbox_fuzz::leave_caught_panics_alone(), |bytes: &[u8]| {
    toolbox::fuzzing::level0::property(bytes);
});
