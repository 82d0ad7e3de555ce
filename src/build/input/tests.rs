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

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Reads damaged bytes under a file name of the given extension. They may be readable all the same;
/// what they must not do is make it panic, or fail for a reason that is not the file's.
fn read_damaged(folder: &Path, like: &Path, bytes: &[u8], io: IoMode) {
    let path = folder
        .join("damaged")
        .with_extension(like.extension().unwrap());
    std::fs::write(&path, bytes).unwrap();
    if let Err(error) = read_all(&path, 16, false, io) {
        assert!(
            matches!(error.code(), 202 | 203),
            "{}: {error:?}",
            name(like)
        );
    }
    // Some file systems write a file that is cut to nothing and filled again out at once.
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let folder_of_cuts = tempfile::tempdir().unwrap();
    for file in [
        "pyarrow-snappy-v1.parquet",
        "pyarrow-delta-i32.parquet",
        "polars-array-f32.parquet",
        "pyarrow-list-f32.arrow",
        "pyarrow-zstd.arrow",
    ] {
        let path = folder().join(file);
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            let cut = folder_of_cuts.path().join(format!("{len}-{file}"));
            std::fs::write(&cut, &bytes[..len]).unwrap();
            let io = [IoMode::Mmap, IoMode::Read][len % 2];
            let error = read_all(&cut, 16, false, io).expect_err(file);
            std::fs::remove_file(&cut).unwrap();
            assert!(matches!(error.code(), 202 | 203), "{file} {len}: {error:?}");
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => bytes[at] = random.next().to_le_bytes()[0],
        4 => {
            let numbers = [
                0,
                1,
                -1,
                i64::MAX,
                i64::MIN,
                1 << 31,
                (1 << 31) - 1,
                1 << 40,
                24,
            ];
            let number = numbers[random.below(9)].to_le_bytes();
            let len = [4, 8][random.below(2)].min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&number[..len]);
        }
        5 => {
            // A long number of the variable-length kind.
            let len = random.below(10).min(bytes.len() - at);
            bytes[at..at + len].fill(0xff);
        }
        6 => {
            let from = random.below(bytes.len());
            let len = random.below(32).min(bytes.len() - at.max(from));
            bytes.copy_within(from..from + len, at);
        }
        _ => {
            let end = (at + random.below(16)).min(bytes.len());
            if random.below(2) == 0 {
                bytes.drain(at..end);
            } else {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
    }
}

#[test]
fn damaged_files_are_read_or_refused_but_never_crash() {
    let rounds = std::env::var("DAMAGE_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let seed = std::env::var("DAMAGE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let damaged = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut originals = files(&folder());
    originals.extend(files(&folder().join("bad")));
    let originals: Vec<_> = originals
        .into_iter()
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .filter(|(bytes, _)| !bytes.is_empty())
        .collect();
    for _ in 0..rounds {
        for (bytes, path) in &originals {
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(3) {
                damage(&mut bytes, &mut random);
            }
            let io = [IoMode::Mmap, IoMode::Read][random.below(2)];
            let start = std::time::Instant::now();
            read_damaged(damaged.path(), path, &bytes, io);
            if start.elapsed().as_millis() > 500 {
                let kept = std::env::temp_dir().join(format!("slow-{}", name(path)));
                std::fs::write(&kept, &bytes).unwrap();
                eprintln!("{:?} {}", start.elapsed(), kept.display());
            }
        }
    }
}
