//! Property: building from any Parquet or Arrow IPC file never panics or allocates without bound.
//! Mapping and reading the file give the same index or the same kind of error.
//!
//! Input: the format (u8, even for Parquet), and the file.

use super::Directory;
use crate::{
    build_index_from_columnar, BuildOptions, ColumnarFormat, GraphOptions, IoMode, Monitor,
};

pub fn property(bytes: &[u8]) -> bool {
    let [format, file @ ..] = bytes else {
        return false;
    };
    let directory = Directory::new();
    let input = directory.write("input", file);
    let output = directory.path().join("output");
    let build = |io| {
        let options = BuildOptions {
            format: match format % 2 {
                0 => ColumnarFormat::Parquet,
                _ => ColumnarFormat::ArrowIpc,
            },
            batch_size: 16,
            graph: GraphOptions {
                m: 2,
                ef_construction: 8,
                // A few bytes can encode a huge number of rows.
                capacity: Some(256),
                seed: Some(1),
                threads: Some(1),
                ..GraphOptions::default()
            },
            io,
            ..BuildOptions::default()
        };
        build_index_from_columnar(&input, &output, &options, &Monitor::default())
            .map(|summary| (summary, std::fs::read(&output).unwrap()))
            .map_err(|error| {
                assert!(error.code() < 900, "{error}");
                error.code()
            })
    };
    let mapped = build(IoMode::Mmap);
    assert!(mapped == build(IoMode::Read));
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("build_index", super::property);
    }
}
