//! The property is stated in `ffi/src/fuzzing.rs`. The C ABI is compiled in, because its crate is
//! only a dynamic library.

#![no_main]

use hnsw_toolbox_fuzz::{keep_if, leave_caught_panics_alone};
use libfuzzer_sys::{fuzz_target, Corpus};

#[allow(dead_code, reason = "only the C header has the enum of codes")]
#[path = "../../ffi/src/abi.rs"]
mod abi;
#[path = "../../ffi/src/boundary.rs"]
mod boundary;
#[path = "../../ffi/src/fuzzing.rs"]
mod fuzzing;
#[path = "../../ffi/src/index.rs"]
mod index;
#[path = "../../ffi/src/registry.rs"]
mod registry;
#[path = "../../ffi/src/request.rs"]
mod request;
#[path = "../../ffi/src/stream.rs"]
mod stream;
#[path = "../../ffi/src/token.rs"]
mod token;

fuzz_target!(init: leave_caught_panics_alone(), |bytes: &[u8]| -> Corpus {
    keep_if(fuzzing::property(bytes))
});
