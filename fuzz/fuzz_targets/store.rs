//! The property is stated in `tests/support/damaged_store.rs`.

#![no_main]

use hnsw_toolbox_fuzz::keep_if;
use libfuzzer_sys::{fuzz_target, Corpus};

extern crate toolbox as hnsw_toolbox;

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../tests/support"]
mod support {
    pub mod damaged_store;
    pub mod persist;
    pub mod table;
}

fuzz_target!(|bytes: &[u8]| -> Corpus { keep_if(support::damaged_store::property(bytes)) });
