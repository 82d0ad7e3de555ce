//! The C ABI of hnsw-toolbox.

#![allow(unsafe_code)]

use std::ffi::{c_char, CStr};

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// The library's version, such as `0.1.0`. Static: never free it.
#[no_mangle]
pub extern "C" fn hnsw_toolbox_version() -> *const c_char {
    VERSION.as_ptr()
}
