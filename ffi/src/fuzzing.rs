//! Property: for any request, an entry point returns either a JSON response or an error, never
//! both. No panic is behind the error, and the strings and the token can be released.
//!
//! Input: the entry point (u8, modulo 6: one of [`CALLS`], or a stream that is read to its end),
//! then the request. In the request, `DIR` stands for a new directory and `TOKEN` for the number of
//! a live token. Requests that name a path outside that directory are not sent, because the library
//! would carry them out.

#![expect(unsafe_code, reason = "the C ABI is called")]

use std::ffi::{c_char, CStr, CString};
use std::path::{Component, Path};
use std::ptr;

use arrow2::ffi::ArrowArray;
use serde_json::Value;

use crate::abi::*;
use crate::stream::ArrowArrayStream;

#[path = "../../tests/support/fuzzing.rs"]
mod support;
#[path = "../../tests/support/synthetic.rs"]
mod synthetic;

use support::Directory;
use synthetic::{Synthetic, Word};

const PATHS: [&str; 5] = [
    "index_dir",
    "persist_dir",
    "metadata_path",
    "input_path",
    "output_path",
];

type Call = unsafe extern "C" fn(*const c_char) -> *mut c_char;
const CALLS: [Call; 5] = [
    hnsw_toolbox_extract_index,
    hnsw_toolbox_build_index,
    hnsw_toolbox_inspect,
    hnsw_toolbox_verify,
    hnsw_toolbox_repair_index,
];

/// Bound on threads: they dominate the time of a run, and more of them reveal nothing new.
const MAX_THREADS: u64 = 4;

/// Creates the files that requests can refer to: `DIR/index`, `DIR/in.parquet`, `DIR/in.arrow`.
fn inputs() -> Directory {
    let directory = Directory::new();
    let index = Synthetic::new(Word::U64, 2, 3, 6);
    directory.write("index/header.bin", &index.header.bytes());
    directory.write("index/data_level0.bin", &index.level0_bytes());
    directory.write("index/length.bin", &[0; 24]);
    directory.write("index/link_lists.bin", &[0; 24]);
    let pickle = include_bytes!("../../tests/fixtures/pickles/one-5.pickle");
    directory.write("index/index_metadata.pickle", pickle);
    let parquet = include_bytes!("../../tests/fixtures/columnar/duckdb-deleted.parquet");
    directory.write("in.parquet", parquet);
    let ipc = include_bytes!("../../tests/fixtures/columnar/pyarrow-one-batch.arrow");
    directory.write("in.arrow", ipc);
    directory
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(from) {
            replaced.extend(to);
            rest = after;
        } else {
            replaced.push(rest[0]);
            rest = &rest[1..];
        }
    }
    replaced
}

/// Returns true if the request cannot read or write anything outside `directory`. A request that is
/// not an object has no effect.
fn is_harmless(request: &[u8], directory: &Path) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(request) else {
        return true;
    };
    let inside = |path: &str| {
        Path::new(path).strip_prefix(directory).is_ok_and(|rest| {
            rest.components()
                .all(|part| matches!(part, Component::Normal(_)))
        })
    };
    let threads = fields.get("threads").and_then(Value::as_u64);
    PATHS
        .iter()
        .filter_map(|name| fields.get(*name)?.as_str())
        .all(inside)
        && threads.is_none_or(|threads| threads <= MAX_THREADS)
}

/// Reads a stream to its end. Returns an empty response, or null if there is no stream.
///
/// # Safety
///
/// The request ends with a NUL.
unsafe fn read_stream(request: *const c_char) -> *mut c_char {
    let mut stream = ArrowArrayStream::RELEASED;
    // SAFETY: the caller's, and a struct without a stream.
    if unsafe { hnsw_toolbox_open_stream(request, &raw mut stream) } != 0 {
        assert!(stream.release.is_none());
        return ptr::null_mut();
    }
    let out = &raw mut stream;
    loop {
        // Releases its content on drop.
        let mut array = ArrowArray::empty();
        // SAFETY: the stream has not been released, and the struct holds no array.
        let result = unsafe { (*out).get_next.unwrap()(out, &raw mut array) };
        // SAFETY: the ninth of its ten words is the function that releases it.
        let release = unsafe { *(&raw const array).cast::<usize>().add(8) };
        if result != 0 {
            // SAFETY: the stream has not been released.
            let words = unsafe { CStr::from_ptr((*out).get_last_error.unwrap()(out)) };
            let words = words.to_str().unwrap();
            assert!(
                words.starts_with("[E") && !words.starts_with("[E9"),
                "{words}"
            );
        }
        if result != 0 || release == 0 {
            break;
        }
    }
    // SAFETY: the stream has not been released.
    unsafe { (*out).release.unwrap()(out) };
    assert!(stream.release.is_none());
    c"{}".to_owned().into_raw()
}

/// Returns whether the request was sent.
pub fn property(bytes: &[u8]) -> bool {
    let Some((call, request)) = bytes.split_first() else {
        return false;
    };
    let request = request.split(|byte| *byte == 0).next().unwrap_or_default();
    let directory = inputs();
    let token = hnsw_toolbox_token_new();
    let path = directory.path().to_str().unwrap();
    let request = replace(request, b"DIR", path.as_bytes());
    let request = replace(&request, b"TOKEN", token.to_string().as_bytes());
    if !is_harmless(&request, directory.path()) {
        assert!(hnsw_toolbox_token_free(token));
        return false;
    }
    let output: Option<String> = serde_json::from_slice(&request)
        .ok()
        .and_then(|request: Value| Some(request.get("output_path")?.as_str()?.to_string()));
    let request = CString::new(request).unwrap();

    // SAFETY: the request ends with a NUL.
    let response = unsafe {
        match CALLS.get(usize::from(call % 6)) {
            Some(call) => call(request.as_ptr()),
            None => read_stream(request.as_ptr()),
        }
    };
    // The library must not keep references to the request.
    drop(request);
    let error = hnsw_toolbox_get_last_error();
    let code = hnsw_toolbox_get_last_error_code();
    assert_ne!(response.is_null(), error.is_null());
    assert_eq!(error.is_null(), code == 0);
    if error.is_null() {
        // SAFETY: not null, and not released yet.
        let text = unsafe { CStr::from_ptr(response) }.to_str().unwrap();
        let answer: Value = serde_json::from_str(text).unwrap();
        assert_eq!(answer["output_path"].as_str(), output.as_deref());
        assert!(output.is_none_or(|output| Path::new(&output).exists()));
    } else {
        // SAFETY: not null, and no call since.
        let text = unsafe { CStr::from_ptr(error) }.to_str().unwrap();
        assert!(text.starts_with(&format!("[E{code}] ")), "{text}");
        assert!(code < 900, "{text}");
    }
    let (mut done, mut total) = (u64::MAX, 0);
    // SAFETY: both may be written.
    assert!(unsafe { hnsw_toolbox_token_progress(token, &raw mut done, &raw mut total) });
    assert!(done <= total);
    // SAFETY: as it was returned; null is fine.
    unsafe { hnsw_toolbox_free_string(response) };
    assert!(hnsw_toolbox_token_free(token));
    assert!(!unsafe { hnsw_toolbox_token_progress(token, ptr::null_mut(), ptr::null_mut()) });
    true
}

#[cfg(test)]
#[test]
fn holds_for_seeds_and_regressions() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    support::replay(&fuzz, "c_abi", property);
}
