//! Time to read metadata pickles, beside serde-pickle, in one run.
//!
//! `cargo bench --bench metadata [-- IDS …]`. Both read from a file in the page cache; serde-pickle
//! through its fastest way, from a slice into typed maps.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    missing_docs,
    unreachable_pub,
    clippy::pedantic
)]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]
#![allow(clippy::indexing_slicing)]

#[macro_use]
#[path = "../src/macros.rs"]
mod macros;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../tests/support/metadata_pickles.rs"]
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

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use chroma::pickle::Metadata;
use io::file::{IoMode, Source};
use metadata_pickles::{write, Shape};
use progress::Monitor;

const ROUNDS: usize = 5;

#[derive(serde::Deserialize)]
struct Fields {
    dimensionality: Option<u64>,
    total_elements_added: u64,
    id_to_label: HashMap<String, u64>,
    label_to_id: HashMap<u64, String>,
    id_to_seq_id: HashMap<String, u64>,
}

fn with_serde_pickle(path: &Path) -> usize {
    let pickle = std::fs::read(path).unwrap();
    let fields: Fields = serde_pickle::from_slice(&pickle, serde_pickle::DeOptions::new()).unwrap();
    fields.label_to_id.len()
}

fn with_ours(path: &Path, mode: IoMode) -> usize {
    let source = Source::open(path, mode).unwrap();
    let metadata = Metadata::read(&source, &Monitor::default()).unwrap();
    black_box(&metadata).len()
}

fn time(work: impl FnOnce() -> usize) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let mut counts: Vec<u32> = std::env::args()
        .filter_map(|word| word.parse().ok())
        .collect();
    if counts.is_empty() {
        // Without `cargo bench`, only to see that it runs.
        let is_bench = std::env::args().any(|word| word == "--bench");
        counts = if is_bench {
            vec![500_000, 1_000_000]
        } else {
            vec![1000]
        };
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index_metadata.pickle");
    for count in counts {
        for shape in Shape::ALL {
            write(&path, shape, count).unwrap();
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                times[0].push(time(|| with_ours(&path, IoMode::Mmap)));
                times[1].push(time(|| with_ours(&path, IoMode::Read)));
                times[2].push(time(|| with_serde_pickle(&path)));
            }
            let [mmap, read, peer] = times.map(median);
            println!(
                "{count} ids, {shape:?}: {} ms mapped, {} ms read, {} ms serde-pickle \
                 ({:.1} times as long as mapped)",
                mmap.as_millis(),
                read.as_millis(),
                peer.as_millis(),
                peer.as_secs_f64() / mmap.as_secs_f64()
            );
        }
    }
}
