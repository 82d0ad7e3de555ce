//! Property: whatever a Parquet or Arrow IPC file holds, building from it never panics, and mapping
//! and reading the file give the same index or the same kind of error.
//!
//! Input: the format (u8, even for Parquet), and the rest as the file.

#![no_main]

use hnsw_toolbox::{build_index_from_columnar, BuildOptions, ColumnarFormat, IoMode, Monitor};
use hnsw_toolbox_fuzz::Directory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [format, file @ ..] = bytes else {
        return;
    };
    let directory = Directory::new();
    let input = directory.write("input", file);
    let output = directory.path().join("output");
    let mut options = BuildOptions {
        format: match format % 2 {
            0 => ColumnarFormat::Parquet,
            _ => ColumnarFormat::ArrowIpc,
        },
        m: 2,
        ef_construction: 8,
        batch_size: 16,
        // A few bytes may stand for very many rows.
        capacity: Some(256),
        seed: Some(1),
        threads: Some(1),
        ..BuildOptions::default()
    };
    let mut build = |io| {
        options.io = io;
        build_index_from_columnar(&input, &output, &options, &Monitor::default())
            .map(|summary| {
                (
                    summary,
                    std::fs::read(&output).expect("the output is there"),
                )
            })
            .map_err(|error| error.code())
    };
    let mapped = build(IoMode::Mmap);
    assert!(mapped == build(IoMode::Read));
});
