//! Peak resident memory of the command line. It must not depend on the size of the vectors, and
//! depends on the number of records only as documented.
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use support::metadata_pickles::Shape;
use support::*;

const MIB: u64 = 1 << 20;

/// Memory that a test build takes more than a release: its program is larger.
const PROGRAM: u64 = if cfg!(debug_assertions) { MIB } else { 0 };

/// Includes mapped pages.
const BUDGET: u64 = 16 * MIB + PROGRAM;

/// Runs a command. Returns its exit status (as encoded by `wait`) and its peak resident memory in
/// bytes, as measured by the kernel.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn peak_memory(command: &mut Command) -> (i32, u64) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: rusage consists of plain numbers, for which zero is valid.
    #[expect(unsafe_code, reason = "the type is C's")]
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the types that wait4 fills. Nobody else waits for the
    // child: `Child` does so only on request.
    #[expect(unsafe_code, reason = "the standard library does not give the usage")]
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    // Before `exec`, the child shares the memory of this process, so the figure can be too high but
    // never too low.
    (status, u64::try_from(usage.ru_maxrss).unwrap() * 1024)
}

fn assert_within_budget(dir: &Path, format: &str, more: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    let (status, peak) = peak_memory(
        Command::new(BINARY)
            .arg("extract")
            .arg(dir)
            .arg("-o")
            .arg(&output)
            .args(["--format", format, "--quiet"])
            .args(more),
    );
    assert_eq!(status, 0);
    let written = std::fs::metadata(&output).unwrap().len();
    assert!(written > 140 * MIB, "only {written} bytes were written");
    assert!(peak <= BUDGET, "{format} {more:?}: {} KiB", peak / 1024);
    println!("{format} {more:?}: {} KiB", peak / 1024);
}

#[test]
fn the_measurement_detects_a_commands_memory() {
    let (status, peak) = peak_memory(
        Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=48M", "count=1"])
            .stderr(Stdio::null()),
    );
    assert_eq!(status, 0);
    assert!(peak > 48 * MIB, "{peak}");
}

#[test]
fn extracting_100_000_vectors_stays_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    write_sparse(dir.path(), 384, 100_000);
    assert_within_budget(dir.path(), "parquet", &[]);
    assert_within_budget(dir.path(), "arrow_ipc", &[]);
    assert_within_budget(dir.path(), "parquet", &["--io", "read"]);

    let mut stream = Command::new(BINARY);
    stream
        .arg("extract")
        .arg(dir.path())
        .args(["-o", "-", "--quiet"]);
    let (status, peak) = peak_memory(&mut stream);
    assert_eq!(status, 0);
    assert!(peak <= BUDGET, "stream: {} KiB", peak / 1024);
    println!("stream: {} KiB", peak / 1024);
}

/// A healthy index except for its metadata. Each record has 2·m random neighbours, so a walk over
/// the graph soon reaches most of them at once.
fn write_graph(dir: &Path, m: u64, dimension: u64, count: u64, label: fn(u64) -> u64) {
    let mut header = Header::new(Word::U64, m, dimension, count);
    header.max_level = 1;
    header.enterpoint_node = 0;
    std::fs::write(dir.join("header.bin"), header.bytes()).unwrap();
    let create = |name: &str| BufWriter::new(File::create(dir.join(name)).unwrap());
    let mut level0 = create("data_level0.bin");
    let mut lists = create("link_lists.bin");
    let mut random = Random(1);
    let mut record = Vec::new();
    let step = count / (2 * m + 1);
    for id in 0..count {
        record.clear();
        record.extend((2 * m as u32).to_le_bytes());
        for place in 0..2 * m {
            let neighbour = (id + 1 + place * step + random.next() % step) % count;
            record.extend((neighbour as u32).to_le_bytes());
        }
        for _ in 0..dimension {
            record.extend(0.5_f32.to_le_bytes());
        }
        record.extend(label(id).to_le_bytes());
        level0.write_all(&record).unwrap();
        // One in m is also on level 1, without neighbours there.
        let size = if id % m == 0 { 4 + 4 * m as usize } else { 0 };
        lists.write_all(&(size as u32).to_le_bytes()).unwrap();
        lists.write_all(&vec![0; size]).unwrap();
    }
    level0.flush().unwrap();
    lists.flush().unwrap();
    std::fs::write(dir.join("length.bin"), vec![0xFF; count as usize * 4]).unwrap();
}

fn dense(id: u64) -> u64 {
    id + 1
}

fn far_apart(id: u64) -> u64 {
    (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Verifies and salvages by both ways of reading.
fn assert_verify_and_salvage(dir: &Path, status: i32, verify_limit: u64, salvage_limit: u64) {
    let scratch = tempfile::tempdir().unwrap();
    for io in ["mmap", "read"] {
        let common = ["--io", io, "--quiet"];
        let mut verify = Command::new(BINARY);
        verify.arg("verify").arg(dir).args(common);
        let mut salvage = Command::new(BINARY);
        salvage.arg("extract").arg(dir).args(common);
        salvage.args(["--salvage", "--no-metadata", "-o"]);
        salvage.arg(scratch.path().join("out.arrow"));
        for (what, command, expected, limit) in [
            ("verify", &mut verify, status, verify_limit),
            ("salvage", &mut salvage, 0, salvage_limit),
        ] {
            let (found, peak) = peak_memory(command);
            assert_eq!(found, expected, "{what}, {io}");
            let (peak, limit) = (peak / 1024, limit / 1024);
            println!("{what}, {io}: {peak} KiB of {limit}");
            assert!(peak <= limit, "{what}, {io}: {peak} KiB");
        }
    }
}

/// `wait` gives the exit status 1 in the high byte.
const DAMAGED: i32 = 1 << 8;

/// Memory needed regardless of the number of records.
const BASE: u64 = BUDGET;

#[test]
fn verify_and_salvage_of_100_000_vectors_stay_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    write_graph(dir.path(), 16, 384, 100_000, dense);
    let pickle = dir.path().join("index_metadata.pickle");
    crate::support::metadata_pickles::write(&pickle, Shape::PythonShared, 100_000).unwrap();
    assert_verify_and_salvage(dir.path(), 0, BUDGET, BUDGET);
}

#[test]
fn memory_grows_with_the_number_of_records_as_documented() {
    const COUNT: u64 = 500_000;
    let dir = tempfile::tempdir().unwrap();
    let pickle = dir.path().join("index_metadata.pickle");
    write_graph(dir.path(), 8, 2, COUNT, dense);
    crate::support::metadata_pickles::write(&pickle, Shape::PythonShared, COUNT as u32).unwrap();
    // At most 48 bytes per id while the pickle is read, and some bits per label and record.
    assert_verify_and_salvage(dir.path(), 0, BASE + 49 * COUNT, BASE + COUNT);

    // 12 bytes per label; or 8 per record, 16 per record on upper levels (one in m), and bits.
    std::fs::remove_file(pickle).unwrap();
    write_graph(dir.path(), 8, 2, COUNT, far_apart);
    assert_verify_and_salvage(dir.path(), DAMAGED, BASE + 13 * COUNT, BASE + 13 * COUNT);
}

/// Stores written by another process: the kernel would attribute this process's peak to the
/// commands it starts.
#[cfg(feature = "database")]
mod stores {
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use super::support::stores::{loop_chain_at, shuffled_keys, write_interleaved, Schema, Store};
    use super::{peak_memory, BINARY, MIB};

    const KIND: &str = "HNSW_TOOLBOX_STORE_KIND";
    const DIRECTORY: &str = "HNSW_TOOLBOX_STORE_DIRECTORY";

    /// Size of a large document in bytes.
    pub const DOCUMENT: u64 = 48 * MIB;

    /// A directory that contains a store.
    pub struct Written(tempfile::TempDir);

    impl Written {
        pub fn new(kind: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "stores::a_store_is_written_for_another_test"])
                .env(KIND, kind)
                .env(DIRECTORY, directory.path().join("store"))
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success());
            Self(directory)
        }

        pub fn output(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Runs a command on the store within `SECONDS` of processor time. Returns its peak memory.
        pub fn peak(&self, arguments: &[&str], output: Option<&Path>) -> u64 {
            let mut command = Command::new("sh");
            command
                .args(["-c", &format!("ulimit -t {SECONDS}; exec \"$0\" \"$@\"")])
                .args([BINARY])
                .args(arguments)
                .arg(self.0.path().join("store"));
            if let Some(output) = output {
                command.arg("-o").arg(output);
            }
            let (status, peak) = peak_memory(&mut command);
            // Done, possibly with findings.
            assert!(
                [0, 3 << 8].contains(&status),
                "{arguments:?}: status {status}"
            );
            println!("{arguments:?}: {} KiB", peak / 1024);
            peak
        }
    }

    /// Far more processor time than necessary, and far less than quadratic work takes.
    const SECONDS: u32 = 60;

    #[test]
    fn a_store_is_written_for_another_test() {
        let (Ok(kind), Some(directory)) = (std::env::var(KIND), std::env::var_os(DIRECTORY)) else {
            return;
        };
        let directory = PathBuf::from(directory);
        match kind.as_str() {
            "interleaved" => write_interleaved(&directory, Schema::Whole, 4000, 20),
            "without indexes" => write_interleaved(&directory, Schema::WithoutIndexes, 2000, 20),
            _ => {}
        }
        if directory.exists() {
            return;
        }
        let mut store = Store::create(&directory, Schema::Whole);
        let collection = store.add_collection(2);
        let words = |bytes: u64| -> String {
            let words = (0..bytes / 8).map(|number| format!("{number:07x} "));
            words.collect()
        };
        match kind.as_str() {
            "keys" => drop(store.queue(collection, "a", &[1.0, 2.0], &shuffled_keys(400_000))),
            "document" => drop(store.add(collection, "a", &words(DOCUMENT))),
            "queued document" => {
                let json = format!("{{\"chroma:document\":\"{}\"}}", words(DOCUMENT));
                store.queue(collection, "a", &[1.0, 2.0], &json);
            }
            "loop" => {
                let text = words(DOCUMENT);
                store.add(collection, "a", &text);
                store.finish();
                let marker = text.as_bytes().get(400_000..400_016).unwrap();
                return loop_chain_at(&directory.join("chroma.sqlite3"), marker);
            }
            "collection metadata" => {
                let rows = "WITH RECURSIVE n(i) AS
                    (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000)
                    INSERT INTO collection_metadata (collection_id, key, str_value)
                    SELECT ?1, 'key' || i, 'v' FROM n";
                let id = &store.collections[collection][0];
                store.database.execute(rows, [id]).unwrap();
            }
            other => panic!("{other}"),
        }
        store.finish();
    }
}

#[cfg(feature = "database")]
#[test]
fn thousands_of_interleaved_collections_take_linear_time() {
    for kind in ["interleaved", "without indexes"] {
        let store = stores::Written::new(kind);
        let output = store.output("out");
        let peak = store.peak(&["export", "--quiet"], Some(&output));
        // Catalog, summary and manifest take about 9 KiB per collection, with its configuration.
        assert!(peak <= BASE + 4000 * 12288, "{} KiB", peak / 1024);
    }
}

#[cfg(feature = "database")]
#[test]
fn many_keys_of_one_record_take_linear_time() {
    let store = stores::Written::new("keys");
    let output = store.output("out.parquet");
    store.peak(&["export", "--quiet"], Some(&output));
}

#[cfg(feature = "database")]
#[test]
fn a_large_document_is_in_memory_at_most_twice() {
    for kind in ["document", "queued document"] {
        let store = stores::Written::new(kind);
        for name in ["out.parquet", "out.arrow"] {
            let output = store.output(name);
            let peak = store.peak(&["export", "--quiet"], Some(&output));
            let limit = BASE + 16 * MIB + 2 * stores::DOCUMENT;
            assert!(peak <= limit, "{kind}, {name}: {} KiB", peak / 1024);
            assert!(std::fs::metadata(&output).unwrap().len() > stores::DOCUMENT);
        }
    }
}

#[cfg(feature = "database")]
#[test]
fn a_fictitious_document_takes_no_memory() {
    let store = stores::Written::new("loop");
    let output = store.output("out.parquet");
    let peak = store.peak(&["export", "--quiet"], Some(&output));
    assert!(peak <= BASE + 8 * MIB, "{} KiB", peak / 1024);
    assert!(std::fs::metadata(&output).unwrap().len() < MIB);
}

#[cfg(feature = "database")]
#[test]
fn collection_metadata_takes_bounded_memory() {
    let store = stores::Written::new("collection metadata");
    let peak = store.peak(&["collections", "--json"], None);
    assert!(peak <= BASE + 8 * MIB, "{} KiB", peak / 1024);
}
