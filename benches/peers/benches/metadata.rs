//! Time to read metadata pickles, compared with serde-pickle in one run.
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml --bench metadata [-- IDS …]`. Both read from
//! a file in the page cache; serde-pickle through its fastest way, from a slice into typed maps.

#[path = "../../../tests/support/metadata_pickles.rs"]
mod metadata_pickles;
#[path = "../../../tests/support/synthetic.rs"]
mod synthetic;

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use hnsw_toolbox::{extract_index, ExtractOptions, IoMode, MetadataFrom, Monitor};
use metadata_pickles::{write, Shape};
use synthetic::{Synthetic, Word};

const ROUNDS: usize = 5;

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "all fields are deserialised, and one is read")]
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

/// Extracts an index without records, so that reading the metadata is the only work.
fn with_ours(directory: &Path, pickle: &Path, io: IoMode) -> usize {
    let options = ExtractOptions::default()
        .with_metadata(MetadataFrom::Path(pickle.to_path_buf()))
        .with_io(io);
    let monitor = Monitor::default();
    let summary = extract_index(directory, &options, &monitor, |_| {
        Ok(ControlFlow::Continue(()))
    });
    let joined = summary.unwrap().metadata.unwrap();
    usize::try_from(joined.labels_without_record).unwrap()
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
        // Without `cargo bench`, only checks that it runs.
        let is_bench = std::env::args().any(|word| word == "--bench");
        counts = if is_bench {
            vec![500_000, 1_000_000]
        } else {
            vec![1000]
        };
    }
    let directory = Synthetic::new(Word::U64, 2, 1, 0).directory();
    let path = directory.path().join("index_metadata.pickle");
    for count in counts {
        for shape in Shape::ALL {
            write(&path, shape, count).unwrap();
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                times[0].push(time(|| with_ours(directory.path(), &path, IoMode::Mmap)));
                times[1].push(time(|| with_ours(directory.path(), &path, IoMode::Read)));
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
