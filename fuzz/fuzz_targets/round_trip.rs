//! The property is stated in `src/fuzzing/round_trip.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: hnsw_toolbox_fuzz::leave_caught_panics_alone(), |bytes: &[u8]| {
    toolbox::fuzzing::round_trip::property(bytes);
});
