//! How much heap the metadata reader takes for each id.
//!
//! `cargo test --test metadata_memory [-- IDS]`.
//!
//! A program of its own, because it counts every allocation. It compiles the reader's sources
//! itself, as they are no part of the public interface.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    missing_docs,
    unreachable_pub,
    clippy::pedantic
)]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]
#![allow(clippy::cast_precision_loss)]

#[path = "support/counting_allocator.rs"]
mod counting_allocator;
#[macro_use]
#[path = "../src/macros.rs"]
mod macros;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/memory.rs"]
mod memory;
#[path = "support/metadata_pickles.rs"]
mod metadata_pickles;
#[path = "../src/progress.rs"]
mod progress;

#[path = "../src/chroma"]
mod chroma {
    pub mod pickle;
}

#[path = "../src/io"]
mod io {
    pub mod file;
    pub mod mmap;
}

use chroma::pickle::Metadata;
use counting_allocator::{peak_of, CountingAllocator};
use io::file::{IoMode, Source};
use metadata_pickles::{id, seq_id, write, Shape};
use progress::Monitor;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Heap for whatever is in a file of `len` bytes, as in `src/fuzzing/pickle.rs`.
fn limit_for_any_bytes(len: u64) -> usize {
    (64 << 10) + 128 * usize::try_from(len).unwrap()
}

/// What the fuzzer starts from, and what it has found.
fn fuzzed_pickles() -> impl Iterator<Item = std::path::PathBuf> {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    ["seeds", "regressions"]
        .into_iter()
        .filter_map(move |kind| std::fs::read_dir(fuzz.join(kind).join("pickle")).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
}

const DEFAULT_COUNT: u32 = 300_000;

/// Peak heap in bytes for each id, whatever else is held.
const LIMIT: f64 = 48.0;

fn main() {
    let count = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(DEFAULT_COUNT);
    for path in fuzzed_pickles() {
        let source = Source::open(&path, IoMode::Mmap).unwrap();
        let (_, peak) = peak_of(|| Metadata::read(&source, &Monitor::default()).map(drop));
        let limit = limit_for_any_bytes(source.len());
        assert!(peak <= limit, "{}: {peak} bytes of heap", path.display());
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index_metadata.pickle");
    for shape in Shape::ALL {
        write(&path, shape, count).unwrap();
        for mode in [IoMode::Mmap, IoMode::Read] {
            let source = Source::open(&path, mode).unwrap();
            let (metadata, peak) = peak_of(|| Metadata::read(&source, &Monitor::default()));
            let metadata = metadata.unwrap();
            assert_eq!(metadata.len(), count as usize);
            let each = peak as f64 / f64::from(count);
            println!("{shape:?}, {mode}: {each:.1} bytes of heap for each id");
            assert!(each <= LIMIT, "{shape:?}, {mode}: {each} bytes for each id");

            let (checked, peak) = peak_of(|| {
                let mut cursor = source.cursor_for_lookups();
                (1..=count).step_by(997).all(|label| {
                    let entry = metadata.find(label.into()).unwrap();
                    let expected = (shape != Shape::Rust).then(|| seq_id(label));
                    entry.seq_id == expected
                        && metadata.user_id(entry, &mut cursor).unwrap() == id(label)
                })
            });
            assert!(checked, "{shape:?}, {mode}");
            assert!(peak < 64 << 10, "{peak} bytes of heap to look ids up");
        }

        let file = std::fs::File::open(&path).unwrap();
        let (value, peak) = peak_of(|| {
            let options = serde_pickle::DeOptions::new();
            serde_pickle::value_from_reader(std::io::BufReader::new(file), options)
        });
        assert!(value.is_ok());
        let each = peak as f64 / f64::from(count);
        println!("{shape:?}: {each:.1} by serde-pickle");
    }
}
