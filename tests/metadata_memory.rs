//! Heap used per id while metadata is read.
//!
//! `cargo test --test metadata_memory [-- IDS]`.
//!
//! A separate program, because it counts every allocation.

#[path = "support/counting_allocator.rs"]
mod counting_allocator;
#[path = "support/metadata_pickles.rs"]
mod metadata_pickles;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use counting_allocator::{peak, peak_of, restart, CountingAllocator};
use hnsw_toolbox::{
    extract_index, ExtractOptions, ExtractSummary, IoMode, MetadataFrom, Monitor, Record,
};
use metadata_pickles::{id, seq_id, write, Shape};
use synthetic::{Element, Synthetic, Word};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Heap limit for a file of `len` bytes, as in `src/fuzzing/pickle.rs`.
fn limit_for_any_bytes(len: u64) -> usize {
    (64 << 10) + 128 * usize::try_from(len).unwrap()
}

/// The fuzzer's seeds and regressions.
fn fuzzed_pickles() -> impl Iterator<Item = PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    ["seeds", "regressions"]
        .into_iter()
        .filter_map(move |kind| std::fs::read_dir(fuzz.join(kind).join("pickle")).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
}

/// Writes an index of live records with these labels. Vectors have one component.
fn write_index(directory: &Path, labels: impl Iterator<Item = u32>) {
    let element = |label: u32| Element {
        label: label.into(),
        deleted: false,
        vector: vec![0],
    };
    Synthetic::of(Word::U64, 2, 1, labels.map(element).collect()).write(directory);
}

/// Extracts an index with this metadata.
fn extract(
    directory: &Path,
    pickle: &Path,
    io: IoMode,
    mut on_record: impl FnMut(Record<'_>),
) -> hnsw_toolbox::Result<ExtractSummary> {
    let options = ExtractOptions::default()
        .with_metadata(MetadataFrom::Path(pickle.to_path_buf()))
        .with_io(io);
    extract_index(directory, &options, &Monitor::default(), |record| {
        on_record(record);
        Ok(ControlFlow::Continue(()))
    })
}

const DEFAULT_COUNT: u32 = 300_000;

/// One in this many ids has the label of a record.
const STEP: usize = 997;

/// Maximum peak heap in bytes per id, regardless of other allocations.
const LIMIT: f64 = 48.0;

fn main() {
    let count = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(DEFAULT_COUNT);
    let directory = tempfile::tempdir().unwrap();

    write_index(directory.path(), std::iter::empty());
    for path in fuzzed_pickles() {
        let (_, peak) =
            peak_of(|| extract(directory.path(), &path, IoMode::Mmap, |_| {}).map(drop));
        let limit = limit_for_any_bytes(std::fs::metadata(&path).unwrap().len());
        assert!(peak <= limit, "{}: {peak} bytes of heap", path.display());
    }

    let labels = (1..=count).step_by(STEP);
    write_index(directory.path(), labels.clone());
    let path = directory.path().join("index_metadata.pickle");
    for shape in Shape::ALL {
        write(&path, shape, count).unwrap();
        for io in [IoMode::Mmap, IoMode::Read] {
            let mut expected = labels.clone();
            let before = restart();
            let mut read = None;
            let summary = extract(directory.path(), &path, io, |record| {
                // The metadata has been read. Only lookups follow.
                read.get_or_insert_with(|| (peak() - before, restart()));
                let label = expected.next().unwrap();
                assert_eq!(record.label, u64::from(label));
                assert_eq!(record.user_id, Some(id(label).as_str()), "{shape:?}, {io}");
                let expected = (shape != Shape::Rust).then(|| seq_id(label));
                assert_eq!(record.seq_id, expected, "{shape:?}, {io}");
            });
            let (read, in_use) = read.unwrap();
            let lookups = peak() - in_use;
            let joined = summary.unwrap().metadata.unwrap();
            let found = joined.rows_with_user_id + joined.labels_without_record;
            assert_eq!(found, u64::from(count));
            let each = read as f64 / f64::from(count);
            println!("{shape:?}, {io}: {each:.1} bytes of heap for each id");
            assert!(each <= LIMIT, "{shape:?}, {io}: {each} bytes for each id");
            assert!(lookups < 64 << 10, "{lookups} bytes of heap to look ids up");
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
