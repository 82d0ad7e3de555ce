//! Shared by the integration tests: fixtures, and extraction into comparable rows.
#![allow(dead_code, unused_imports, reason = "each user needs a part")]

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hnsw_toolbox::{
    extract_index, extract_index_to_columnar, ColumnarFormat, ColumnarOptions, ExtractOptions,
    ExtractSummary, IoMode, MetadataFrom, Monitor, Result,
};
use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};

#[cfg(feature = "database")]
pub mod damaged_store;
pub mod export;
pub mod extent;
pub mod metadata_pickles;
#[cfg(feature = "database")]
pub mod persist;
#[cfg(feature = "database")]
pub mod stores;
pub mod synthetic;
pub mod table;

pub use export::{assert_same_rows, Export, Row};
pub use extent::{extent, pairs};
pub use synthetic::{Element, Header, Random, Synthetic, Word};

/// The root of the repository. Tests are built as part of a package below it.
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub const BINARY: &str = env!("CARGO_BIN_EXE_hnsw-toolbox");

/// This number of cases, or by default a quarter. Failures are kept next to the test's source and
/// tried first.
pub fn proptest_config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: extent(cases / 4, cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

pub const IO_MODES: [IoMode; 2] = [IoMode::Mmap, IoMode::Read];
pub const FORMATS: [ColumnarFormat; 2] = [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc];

pub fn extract_options(include_deleted: bool, io: IoMode) -> ExtractOptions {
    ExtractOptions::default()
        .with_include_deleted(include_deleted)
        .with_io(io)
        .with_metadata(MetadataFrom::None)
}

pub fn columnar_options(format: ColumnarFormat, extract: ExtractOptions) -> ColumnarOptions {
    ColumnarOptions::default()
        .with_extract(extract)
        .with_format(format)
}

/// The rows that [`extract_index`] passes to its callback.
pub fn rows_by_callback(
    dir: &Path,
    options: &ExtractOptions,
) -> Result<(ExtractSummary, Vec<Row>)> {
    let mut rows = Vec::new();
    let summary = extract_index(dir, options, &Monitor::default(), |record| {
        rows.push(Row {
            internal_id: record.internal_id,
            label: record.label,
            deleted: record.deleted,
            user_id: record.user_id.map(str::to_string),
            seq_id: record.seq_id,
            vector: record.vector.iter().map(|value| value.to_bits()).collect(),
        });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((summary, rows))
}

/// Extracts to a file in `scratch`, and reads it back with an independent reader.
pub fn rows_by_file(
    dir: &Path,
    scratch: &Path,
    options: &ColumnarOptions,
) -> Result<(ExtractSummary, Export)> {
    let output = scratch.join(format!("out.{}", options.format));
    let summary = extract_index_to_columnar(dir, &output, options, &Monitor::default())?;
    Ok((summary, read_export(&output, options.format)))
}

/// Reads a columnar file, and checks for the six columns of the contract and their types.
pub fn read_export(path: &Path, format: ColumnarFormat) -> Export {
    let file = BufReader::new(File::open(path).unwrap());
    match format {
        ColumnarFormat::Parquet => export::parquet::read(file),
        ColumnarFormat::ArrowIpc => export::arrow_ipc::read(file),
        other => panic!("{other}"),
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The segment directories below a root with the layout `<version>/<case>/segment`.
pub fn cases(root: &Path) -> Vec<PathBuf> {
    let mut cases = Vec::new();
    for version in std::fs::read_dir(root).unwrap() {
        let version = version.unwrap().path();
        if !version.is_dir() {
            continue;
        }
        for case in std::fs::read_dir(version).unwrap() {
            let case = case.unwrap().path();
            if case.join("expected.json").is_file() {
                cases.push(case);
            }
        }
    }
    cases.sort();
    cases
}

pub fn fixtures_root() -> PathBuf {
    Path::new(REPOSITORY).join("tests/fixtures/chroma")
}

/// The fixtures of the repository, and those in `HNSW_TOOLBOX_FIXTURES`.
pub fn fixtures() -> Vec<PathBuf> {
    let mut fixtures = cases(&fixtures_root());
    assert!(fixtures.len() >= 8, "fixtures are missing: {fixtures:?}");
    if let Some(more) = std::env::var_os("HNSW_TOOLBOX_FIXTURES") {
        let more = cases(Path::new(&more));
        assert!(!more.is_empty(), "HNSW_TOOLBOX_FIXTURES holds no fixture");
        fixtures.extend(more);
    }
    fixtures
}

impl Synthetic {
    /// The rows of its extraction.
    pub fn rows(&self, include_deleted: bool) -> Vec<Row> {
        (0..)
            .zip(&self.elements)
            .filter(|(_, element)| include_deleted || !element.deleted)
            .map(|(internal_id, element)| Row {
                internal_id,
                label: element.label,
                deleted: element.deleted,
                user_id: None,
                seq_id: None,
                vector: element.vector.clone(),
            })
            .collect()
    }
}

/// A large index that is written instantly: a valid header and `count` records of zeros, mostly
/// holes in a sparse file.
pub fn write_sparse(dir: &Path, dimension: u64, count: u64) {
    let header = Header::new(Word::U64, 16, dimension, count);
    std::fs::write(dir.join("header.bin"), header.bytes()).unwrap();
    File::create(dir.join("data_level0.bin"))
        .unwrap()
        .set_len(count * header.size_data_per_element)
        .unwrap();
}
