//! The property is stated in `src/fuzzing/round_trip.rs`.

#![no_main]

use hnsw_toolbox_fuzz::{keep_if, leave_caught_panics_alone};
use libfuzzer_sys::{fuzz_target, Corpus};

fuzz_target!(init: leave_caught_panics_alone(), |bytes: &[u8]| -> Corpus {
    keep_if(toolbox::fuzzing::round_trip::property(bytes))
});
