//! Files of other programs (see `tests/columnar/generate.py`), whole and damaged.

use std::path::{Path, PathBuf};

use super::*;

const ROWS: u64 = 50;
const DIMENSION: u64 = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/columnar")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| ColumnarFormat::from_extension(path).is_some())
        .collect();
    files.sort();
    assert!(files.len() > 50);
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// All batches of a file in one.
fn read_all(path: &Path, batch_size: usize, include_deleted: bool, io: IoMode) -> Result<RowBatch> {
    let format = ColumnarFormat::from_extension(path).unwrap();
    let mut input = ColumnarInput::open(path, format, batch_size, include_deleted, io)?;
    let (mut all, mut batch) = (RowBatch::default(), RowBatch::default());
    while input.next(&mut batch)? {
        assert_eq!(batch.first_row, all.scanned);
        assert!(batch.scanned <= batch_size as u64);
        assert_eq!(
            batch.scanned,
            batch.labels.len() as u64 + batch.deleted_skipped
        );
        assert_eq!(batch.labels.len(), batch.rows.len());
        assert_eq!(batch.vectors.len(), batch.dimension * batch.rows.len());
        assert!(batch.vectors.iter().all(|value| value.is_finite()));
        all.vectors.extend_from_slice(&batch.vectors);
        all.labels.extend_from_slice(&batch.labels);
        all.rows.extend_from_slice(&batch.rows);
        all.scanned += batch.scanned;
        all.deleted_skipped += batch.deleted_skipped;
        all.dimension = batch.dimension;
    }
    assert_eq!(all.scanned, input.row_count());
    assert!(!input.next(&mut batch)?);
    input.check_unchanged()?;
    Ok(all)
}

fn expected_vector(row: u64) -> impl Iterator<Item = f32> {
    (0..DIMENSION).map(move |j| {
        let tenths = i16::try_from((37 * row + 11 * j) % 200).unwrap() - 100;
        f32::from(tenths) / 10.0
    })
}

fn expected_label(name: &str, row: u64) -> u64 {
    if name.contains("no-label") || name.contains("-count-") {
        row
    } else if name.contains("-u64") {
        (1 << 63) + row
    } else {
        1000 * row + 7
    }
}

fn assert_rows(path: &Path, found: &RowBatch, rows: &[u64], context: &str) {
    let name = name(path);
    assert_eq!(found.rows, rows, "{name} {context}");
    assert_eq!(found.scanned, ROWS, "{name} {context}");
    assert_eq!(found.deleted_skipped, ROWS - rows.len() as u64);
    assert_eq!(found.dimension as u64, DIMENSION, "{name} {context}");
    let labels: Vec<_> = rows.iter().map(|row| expected_label(name, *row)).collect();
    assert_eq!(found.labels, labels, "{name} {context}");
    let vectors: Vec<_> = rows.iter().flat_map(|row| expected_vector(*row)).collect();
    assert_eq!(found.vectors, vectors, "{name} {context}");
}

#[test]
fn files_of_pyarrow_duckdb_and_polars_are_read_value_for_value() {
    for path in files(&folder()) {
        let deleted = name(&path).contains("deleted");
        let rows: Vec<_> = (0..ROWS).filter(|row| !deleted || row % 3 != 0).collect();
        for io in [IoMode::Mmap, IoMode::Read] {
            for batch_size in [1, 7, 1024] {
                let found = read_all(&path, batch_size, false, io)
                    .unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
                assert_rows(&path, &found, &rows, &format!("{io:?} {batch_size}"));
            }
        }
    }
}

#[test]
fn deleted_rows_are_read_like_any_other_on_request() {
    let rows: Vec<_> = (0..ROWS).collect();
    for file in [
        "polars-deleted.parquet",
        "polars-deleted.arrow",
        "duckdb-deleted.parquet",
    ] {
        let path = folder().join(file);
        let found = read_all(&path, 16, true, IoMode::Mmap).unwrap();
        assert_rows(&path, &found, &rows, "include_deleted");
    }
    for file in ["pyarrow-deleted-bool.parquet", "pyarrow-deleted-bool.arrow"] {
        let error = read_all(&folder().join(file), 16, true, IoMode::Mmap).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("row 0, column vector, element 0: found NaN"),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_words() {
    let bad = folder().join("bad");
    let list = std::fs::read_to_string(bad.join("refusals.txt")).unwrap();
    let mut listed: Vec<_> = list
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    listed.sort();
    let present = files(&bad);
    assert_eq!(listed.len(), present.len());
    for ((file, words), path) in listed.into_iter().zip(present) {
        assert_eq!(file, name(&path));
        for io in [IoMode::Mmap, IoMode::Read] {
            let error = read_all(&path, 10, false, io).expect_err(file);
            assert!(matches!(error.code(), 202 | 203), "{file}: {error:?}");
            assert!(error.to_string().contains(words), "{error}\nlacks: {words}");
        }
    }
}
