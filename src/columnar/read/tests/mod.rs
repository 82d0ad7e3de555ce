//! Files written by other programs (see `tests/fixtures/columnar/generate.py`), intact and damaged.

mod wide;

use std::path::{Path, PathBuf};

use arrow2::types::f16;

use super::*;
use crate::columnar::cells::MAX_DIMENSION;
use crate::columnar::selection::ColumnNames;
use crate::io::file::IoMode;

const ROWS: u64 = 50;
const DIMENSION: u64 = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/columnar")
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

/// Reads all batches of a file and concatenates them.
fn read_all(path: &Path, batch_size: usize, include_deleted: bool, io: IoMode) -> Result<RowBatch> {
    let named = name(path).contains("-named");
    let mut input = ColumnarInput::open(
        path,
        &ReadOptions {
            format: ColumnarFormat::from_extension(path).unwrap(),
            batch_size,
            include_deleted,
            vector_column: named.then(|| "embedding".into()),
            label_column: named.then(|| "key".into()),
            row_numbers: false,
            io,
        },
    )?;
    let (mut all, mut batch) = (RowBatch::default(), RowBatch::default());
    while input.next(&mut batch)? {
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

fn expected_vector(name: &str, row: u64) -> impl Iterator<Item = f32> {
    let half = name.contains("f16");
    (0..DIMENSION).map(move |j| {
        let tenths = i16::try_from((37 * row + 11 * j) % 200).unwrap() - 100;
        let element = f32::from(tenths) / 10.0;
        if half {
            f16::from_f32(element).to_f32()
        } else {
            element
        }
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
    let vectors = rows.iter().flat_map(|row| expected_vector(name, *row));
    let vectors: Vec<_> = vectors.collect();
    assert_eq!(found.vectors, vectors, "{name} {context}");
}

#[test]
fn files_of_pyarrow_duckdb_and_polars_are_read_exactly() {
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
fn deleted_rows_are_read_on_request() {
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
fn unreadable_files_are_rejected_with_a_reason() {
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

/// Writes a file with an age beyond the clock's resolution, so that opening it does not wait.
fn write_aged(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}

/// Reads damaged bytes from a file with the extension of `like`. They are allowed to be readable,
/// but must neither panic nor fail for a reason outside the file. Returns true if they were
/// rejected.
fn read_damaged(folder: &Path, like: &Path, bytes: &[u8], io: IoMode) -> bool {
    let path = folder
        .join("damaged")
        .with_extension(like.extension().unwrap());
    write_aged(&path, bytes);
    let outcome = read_all(&path, 16, false, io);
    if let Err(error) = &outcome {
        assert!(
            matches!(error.code(), 202 | 203),
            "{}: {error:?}",
            name(like)
        );
    }
    // Some file systems flush a file at once if it is truncated and rewritten.
    std::fs::remove_file(&path).unwrap();
    outcome.is_err()
}

#[test]
fn a_file_truncated_anywhere_is_an_error() {
    let folder_of_cuts = tempfile::tempdir().unwrap();
    for file in [
        "pyarrow-snappy-v1.parquet",
        "pyarrow-delta-i32.parquet",
        "polars-array-f32.parquet",
        "pyarrow-list-f32.arrow",
        "pyarrow-zstd.arrow",
        "pyarrow-brotli-v2.parquet",
        "pyarrow-dictionary-i8.arrow",
    ] {
        let path = folder().join(file);
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            let cut = folder_of_cuts.path().join(format!("{len}-{file}"));
            write_aged(&cut, &bytes[..len]);
            let io = [IoMode::Mmap, IoMode::Read][len % 2];
            let error = read_all(&cut, 16, false, io).expect_err(file);
            std::fs::remove_file(&cut).unwrap();
            assert!(matches!(error.code(), 202 | 203), "{file} {len}: {error:?}");
        }
    }
}

#[test]
fn a_stream_may_end_only_between_messages() {
    let folder_of_cuts = tempfile::tempdir().unwrap();
    let path = folder().join("pyarrow-dictionary-deltas.arrows");
    let bytes = std::fs::read(&path).unwrap();
    let mut ends = Vec::new();
    for len in 0..bytes.len() {
        let cut = folder_of_cuts.path().join("cut.arrows");
        write_aged(&cut, &bytes[..len]);
        match read_all(&cut, 16, false, IoMode::Read) {
            Ok(batch) => ends.push((len, batch.rows.len())),
            Err(error) => assert!(matches!(error.code(), 202 | 203), "{len}: {error:?}"),
        }
    }
    // After the schema, then after each of four dictionaries and four record batches.
    let rows: Vec<_> = ends.iter().map(|(_, rows)| *rows).collect();
    assert_eq!(rows, [0, 0, 16, 16, 32, 32, 48, 48, 50]);
    // The last message is the end-of-stream marker.
    assert_eq!(ends.last(), Some(&(bytes.len() - 8, 50)));
}

#[test]
fn a_missing_column_is_reported_with_the_columns_present() {
    let open = |file: &str, vector: Option<&str>, label: Option<&str>| {
        let path = folder().join(file);
        let options = ReadOptions {
            format: ColumnarFormat::from_extension(&path).unwrap(),
            vector_column: vector.map(Into::into),
            label_column: label.map(Into::into),
            ..ReadOptions::default()
        };
        let error = ColumnarInput::open(&path, &options).unwrap_err();
        (error.code(), error.to_string())
    };
    for extension in ["parquet", "arrow"] {
        let file = format!("polars-list-f32.{extension}");
        let (code, text) = open(&file, Some("embedding"), None);
        assert_eq!(code, 202);
        let words = "column embedding: found no such column, expected a list of float16, \
                     float32 or float64; the file has name, vector, label";
        assert!(text.ends_with(words), "{text}");
        let (code, text) = open(&file, None, Some("key"));
        assert_eq!(code, 202);
        let words = "column key: found no such column, expected an integer of at most 64 bits; \
                     the file has name, vector, label";
        assert!(text.ends_with(words), "{text}");

        let (_, text) = open(&file, Some("name"), None);
        assert!(text.contains("column name: found "), "{text}");
        let (_, text) = open(&file, None, Some("name"));
        assert!(text.contains("column name: found "), "{text}");
        let (code, text) = open(&file, Some("x"), Some("x"));
        assert_eq!(code, 101);
        assert!(text.starts_with("label_column: found x"), "{text}");

        // A long list of columns is abbreviated.
        let (_, text) = open(
            &format!("pyarrow-other-columns.{extension}"),
            Some("x"),
            None,
        );
        assert!(text.contains("a_null, a_string, a_long_view"), "{text}");
        assert!(text.ends_with(" more columns"), "{text}");
    }
}

#[test]
fn a_column_chosen_for_labels_does_not_mark_deletions() {
    // Labels come from `deleted`, so no row counts as deleted.
    let path = folder().join("pyarrow-deleted-u32.parquet");
    let options = ReadOptions {
        batch_size: 1,
        label_column: Some("deleted".into()),
        ..ReadOptions::default()
    };
    let mut input = ColumnarInput::open(&path, &options).unwrap();
    let error = input.next(&mut RowBatch::default()).unwrap_err();
    let words = "row 0, column vector, element 0: found NaN";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn column_names_are_escaped_and_truncated() {
    let mut names = ColumnNames::default();
    assert_eq!(names.to_string(), "the file has no columns");
    names.push(b"a\x1b[2J\xff");
    names.push("é".repeat(1000).as_bytes());
    let shown = format!("the file has a\\u{{1b}}[2J\u{fffd}, {}…", "é".repeat(60));
    assert_eq!(names.to_string(), shown);
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
            // A long varint.
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
fn damaged_files_never_panic() {
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
            read_damaged(damaged.path(), path, &bytes, io);
        }
    }
}

/// A value of Thrift's compact protocol.
enum Thrift {
    I32(i64),
    I64(i64),
    Text(&'static str),
    List(Vec<Thrift>),
    Struct(Vec<(u8, Thrift)>),
}

use Thrift::{List, Struct, Text, I32, I64};

impl Thrift {
    fn wire(&self) -> u8 {
        match self {
            I32(_) => 5,
            I64(_) => 6,
            Text(_) => 8,
            List(_) => 9,
            Struct(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            I32(value) | I64(value) => {
                varint(
                    out,
                    (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned(),
                );
            }
            Text(text) => {
                varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            List(values) => {
                out.push(0xf0 | values[0].wire());
                varint(out, values.len() as u64);
                values.iter().for_each(|value| value.write(out));
            }
            Struct(fields) => {
                for (id, value) in fields {
                    out.push(value.wire());
                    varint(out, u64::from(*id) << 1);
                    value.write(out);
                }
                out.push(0);
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A schema element: name, physical type or none, repetition, children, converted type.
fn element(
    name: &'static str,
    physical: Option<i64>,
    repetition: i64,
    children: i64,
    converted: Option<i64>,
) -> Thrift {
    let mut fields = vec![(3, I32(repetition)), (4, Text(name))];
    fields.extend(physical.map(|code| (1, I32(code))));
    if physical.is_none() {
        fields.push((5, I32(children)));
    }
    fields.extend(converted.map(|code| (6, I32(code))));
    Struct(fields)
}

/// A handwritten file: one float column with one page in one row group.
struct Page {
    rows: i64,
    physical: i64,
    /// A dictionary page's number of values, and its content.
    dictionary: Option<(i64, Vec<u8>)>,
    codec: i64,
    encoding: i64,
    level_encoding: i64,
    values: i64,
    uncompressed: Option<i64>,
    body: Vec<u8>,
}

impl Page {
    /// Two rows of two components; repetition levels, definition levels and values uncompressed.
    fn new(definition: u8) -> Self {
        // One bit-packed run: 0, 1, 0, 1.
        let mut body = vec![2, 0, 0, 0, 0b11, 0b1010];
        if definition > 0 {
            body.extend([2, 0, 0, 0, 8, definition]);
        }
        body.extend(
            [1.5f32, -2.0, 3.0, 0.25]
                .iter()
                .flat_map(|value| value.to_le_bytes()),
        );
        Self {
            rows: 2,
            physical: 4,
            dictionary: None,
            codec: 0,
            encoding: 0,
            level_encoding: 3,
            values: 4,
            uncompressed: None,
            body,
        }
    }

    fn file(&self, schema: Vec<Thrift>) -> Vec<u8> {
        let len = self.body.len().try_into().unwrap();
        let header = Struct(vec![
            (1, I32(0)),
            (2, I32(self.uncompressed.unwrap_or(len))),
            (3, I32(len)),
            (
                5,
                Struct(vec![
                    (1, I32(self.values)),
                    (2, I32(self.encoding)),
                    (3, I32(self.level_encoding)),
                    (4, I32(self.level_encoding)),
                ]),
            ),
        ]);
        let mut file = b"PAR1".to_vec();
        if let Some((values, content)) = &self.dictionary {
            let len = content.len().try_into().unwrap();
            let dictionary = Struct(vec![(1, I32(*values)), (2, I32(0))]);
            let header = [(1, I32(2)), (2, I32(len)), (3, I32(len)), (7, dictionary)];
            file.extend(Struct(header.into()).bytes());
            file.extend_from_slice(content);
        }
        file.extend(header.bytes());
        file.extend_from_slice(&self.body);
        let metadata = Struct(vec![
            (1, I32(self.physical)),
            (4, I32(self.codec)),
            (5, I64(self.values)),
            (7, I64(i64::try_from(file.len()).unwrap() - 4)),
            (9, I64(4)),
        ]);
        let chunk = Struct(vec![(3, metadata)]);
        let group = Struct(vec![(1, List(vec![chunk])), (3, I64(self.rows))]);
        let footer = Struct(vec![
            (1, I32(1)),
            (2, List(schema)),
            (3, I64(self.rows)),
            (4, List(vec![group])),
        ])
        .bytes();
        file.extend_from_slice(&footer);
        file.extend(u32::try_from(footer.len()).unwrap().to_le_bytes());
        file.extend(b"PAR1");
        file
    }
}

fn read_bytes(extension: &str, bytes: &[u8]) -> Result<RowBatch> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written").with_extension(extension);
    write_aged(&path, bytes);
    read_all(&path, 16, false, IoMode::Read)
}

const LIST: Option<i64> = Some(3);
const FLOAT: Option<i64> = Some(4);

fn three_levels(list: &'static str, item: &'static str) -> Vec<Thrift> {
    vec![
        element("schema", None, 0, 1, None),
        element("vector", None, 1, 1, LIST),
        element(list, None, 2, 1, None),
        element(item, FLOAT, 0, 0, None),
    ]
}

#[test]
fn lists_are_read_in_all_layouts_parquet_allows() {
    let two_levels = vec![
        element("schema", None, 0, 1, None),
        element("vector", None, 1, 1, LIST),
        element("array", FLOAT, 2, 0, None),
    ];
    let repeated_only = vec![
        element("schema", None, 0, 1, None),
        element("vector", FLOAT, 2, 0, None),
    ];
    for (definition, schema) in [
        (2, two_levels),
        (1, repeated_only),
        (2, three_levels("list", "element")),
        (2, three_levels("list", "item")),
        (2, three_levels("bag", "array_element")),
    ] {
        let found = read_bytes("parquet", &Page::new(definition).file(schema)).unwrap();
        assert_eq!(found.vectors, [1.5, -2.0, 3.0, 0.25]);
        assert_eq!((found.dimension, found.labels), (2, vec![0, 1]));
    }
}

#[test]
fn levels_are_independent_of_their_split_into_runs() {
    const ELEMENTS: usize = 100;
    let values: Vec<f32> = (0..3 * 100u16).map(f32::from).collect();
    let levels: Vec<(u8, u8)> = (0..values.len())
        .map(|at| (u8::from(at % ELEMENTS > 0), 2))
        .collect();
    let mut random = Random(5);
    for _ in 0..200 {
        let mut body = Vec::new();
        for (width, levels) in [
            (1, levels.iter().map(|level| level.0).collect::<Vec<_>>()),
            (2, levels.iter().map(|level| level.1).collect()),
        ] {
            let (mut encoded, mut rest) = (Vec::new(), levels.as_slice());
            while let Some(&value) = rest.first() {
                let equal = rest.iter().take_while(|other| **other == value).count();
                let groups = (1 + random.below(9)).min(rest.len() / 8);
                if groups > 0 && random.below(2) == 0 {
                    varint(&mut encoded, groups as u64 * 2 + 1);
                    let (run, after) = rest.split_at(8 * groups);
                    let mut packed = vec![0; groups * width];
                    for (at, level) in run.iter().enumerate() {
                        packed[at * width / 8] |= level << (at * width % 8);
                    }
                    encoded.extend(packed);
                    rest = after;
                } else {
                    let count = 1 + random.below(equal);
                    varint(&mut encoded, count as u64 * 2);
                    encoded.push(value);
                    rest = &rest[count..];
                }
            }
            body.extend(u32::try_from(encoded.len()).unwrap().to_le_bytes());
            body.extend(encoded);
        }
        body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let page = Page {
            rows: 3,
            values: i64::try_from(values.len()).unwrap(),
            body,
            ..Page::new(2)
        };
        let file = page.file(three_levels("list", "element"));
        let found = read_bytes("parquet", &file).unwrap();
        assert_eq!((found.dimension, found.vectors), (ELEMENTS, values.clone()));
    }
}

#[test]
fn inconsistent_pages_are_rejected_with_a_reason() {
    let page = || Page::new(2);
    for (words, page) in [
        (
            "in encoding DELTA_BYTE_ARRAY, which is not",
            Page {
                encoding: 7,
                ..page()
            },
        ),
        (
            "in encoding 77, which is not",
            Page {
                encoding: 77,
                ..page()
            },
        ),
        (
            "levels in encoding BIT_PACKED, which is not",
            Page {
                level_encoding: 4,
                ..page()
            },
        ),
        (
            "dictionary indices without a dictionary",
            Page {
                encoding: 8,
                ..page()
            },
        ),
        ("no values for the last 1 rows", Page { rows: 3, ..page() }),
        ("values after the last row", Page { rows: 1, ..page() }),
        (
            "the end of the data",
            Page {
                values: 9,
                ..page()
            },
        ),
        (
            "which is not supported; expected no compression",
            Page { codec: 5, ..page() },
        ),
        (
            "data that cannot be decompressed",
            Page { codec: 1, ..page() },
        ),
        (
            "data that cannot be decompressed",
            Page {
                codec: 4,
                uncompressed: Some(500 << 20),
                ..page()
            },
        ),
        (
            "data that cannot be decompressed",
            Page { codec: 2, ..page() },
        ),
        (
            "data that cannot be decompressed",
            Page { codec: 6, ..page() },
        ),
        (
            "data that cannot be decompressed",
            Page { codec: 7, ..page() },
        ),
        // Sizes that an unchecked reader would allocate.
        (
            "(only 28 bytes)",
            Page {
                codec: 1,
                uncompressed: Some(500 << 20),
                ..page()
            },
        ),
        (
            "(only 28 bytes)",
            Page {
                codec: 2,
                uncompressed: Some(500 << 20),
                ..page()
            },
        ),
        (
            "(only 28 bytes)",
            Page {
                codec: 6,
                uncompressed: Some(500 << 20),
                ..page()
            },
        ),
        (
            "(only 28 bytes)",
            Page {
                codec: 7,
                uncompressed: Some(500 << 20),
                ..page()
            },
        ),
        (
            "a page of 2147483647 bytes",
            Page {
                codec: 6,
                uncompressed: Some((1 << 31) - 1),
                ..page()
            },
        ),
        (
            "a page of a negative size",
            Page {
                uncompressed: Some(-1),
                ..page()
            },
        ),
    ] {
        let error = read_bytes("parquet", &page.file(three_levels("list", "element")));
        let error = error.expect_err(words).to_string();
        assert!(error.contains(words), "{error}\nlacks: {words}");
    }
}

/// Levels in the fewest bytes: `first`, encoded, and one run of `value`.
fn level_run(first: &[u8], value: u8, run: u64) -> Vec<u8> {
    let mut levels = first.to_vec();
    varint(&mut levels, run << 1);
    levels.push(value);
    let mut out = u32::try_from(levels.len()).unwrap().to_le_bytes().to_vec();
    out.extend(levels);
    out
}

#[test]
fn missing_values_are_detected_before_they_fill_memory() {
    let count = 1 << 30;
    let mut body = level_run(&[2, 0], 1, count - 1);
    body.extend(level_run(&[], 2, count));
    for encoding in [0, 9] {
        let page = Page {
            rows: 1,
            values: count.cast_signed(),
            encoding,
            body: body.clone(),
            ..Page::new(2)
        };
        let file = page.file(three_levels("list", "element"));
        let error = read_bytes("parquet", &file).unwrap_err().to_string();
        assert!(error.contains("the end of the data"), "{error}");
    }
}

#[test]
fn well_compressed_vectors_over_the_limit_are_rejected() {
    let count: usize = MAX_DIMENSION + 1;
    let mut content = level_run(&[2, 0], 1, count as u64 - 1);
    content.extend(level_run(&[], 2, count as u64));
    content.resize(content.len() + 4 * count, 0);
    let page = Page {
        rows: 1,
        codec: 6,
        values: i64::try_from(count).unwrap(),
        uncompressed: Some(content.len().try_into().unwrap()),
        body: zstd::bulk::compress(&content, 3).unwrap(),
        ..Page::new(2)
    };
    assert!(page.body.len() < 4096);
    let error = read_bytes("parquet", &page.file(three_levels("list", "element"))).unwrap_err();
    let words = "found more than 1048576 elements";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn inconsistent_schemas_are_rejected() {
    let column = || element("vector", FLOAT, 2, 0, None);
    let deep = (0..5000).map(|_| element("deep", None, 0, 1, None));
    for (words, schema) in [
        (
            "a schema that ends early",
            vec![element("root", None, 0, 2, None), column()],
        ),
        (
            "elements after the root's last",
            vec![element("root", None, 0, 1, None), column(), column()],
        ),
        ("a schema whose root is a leaf", vec![column()]),
        (
            "a negative number of children",
            vec![element("root", None, 0, -1, None)],
        ),
        ("a column nested too deeply", deep.collect()),
        (
            "column vector: found no such column",
            vec![
                element("root", None, 0, 1, None),
                element("Vector", FLOAT, 2, 0, None),
            ],
        ),
        (
            "row group of 1 column chunks",
            vec![
                element("root", None, 0, 2, None),
                column(),
                element("other", FLOAT, 0, 0, None),
            ],
        ),
    ] {
        let error = read_bytes("parquet", &Page::new(1).file(schema)).expect_err(words);
        assert!(error.to_string().contains(words), "{error}\nlacks: {words}");
    }
}

#[test]
fn deeply_nested_structures_do_not_overflow_the_stack() {
    // An unknown field that nests lists deeply.
    let mut footer = vec![0x99];
    footer.resize(4 << 20, 0x19);
    let mut file = b"PAR1".to_vec();
    file.extend_from_slice(&footer);
    file.extend(u32::try_from(footer.len()).unwrap().to_le_bytes());
    file.extend(b"PAR1");
    let error = read_bytes("parquet", &file).unwrap_err();
    assert!(
        error.to_string().contains("nested more than 32 deep"),
        "{error}"
    );
}

#[test]
fn wrong_footer_offsets_never_cause_a_loop() {
    let path = folder().join("pyarrow-list-f32.arrow");
    let original = std::fs::read(&path).unwrap();
    let damaged = tempfile::tempdir().unwrap();
    let len = original.len();
    let footer_len = u32::from_le_bytes(original[len - 10..len - 6].try_into().unwrap()) as usize;
    let start = len - 10 - footer_len;
    let (mut refused, mut random) = (0, Random(3));
    for _ in 0..3000 {
        let mut bytes = original.clone();
        let at = start + 4 * random.below(footer_len / 4);
        let distance = u32::try_from(random.below(footer_len)).unwrap();
        bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        refused += u32::from(read_damaged(damaged.path(), &path, &bytes, IoMode::Read));
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_file_truncated_while_read_is_reported_as_changed() {
    let folder_of_copy = tempfile::tempdir().unwrap();
    for file in [
        "pyarrow-one-row-groups.parquet",
        "pyarrow-list-f32.arrow",
        "pyarrow-list-f32.arrows",
    ] {
        let path = folder_of_copy.path().join(file);
        std::fs::copy(folder().join(file), &path).unwrap();
        let options = ReadOptions {
            format: ColumnarFormat::from_extension(&path).unwrap(),
            batch_size: 1,
            io: IoMode::Read,
            ..ReadOptions::default()
        };
        let mut input = ColumnarInput::open(&path, &options).unwrap();
        let mut batch = RowBatch::default();
        assert!(input.next(&mut batch).unwrap());
        input.check_unchanged().unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(100)
            .unwrap();
        let mut outcome = Ok(true);
        while matches!(outcome, Ok(true)) {
            outcome = input.next(&mut batch);
        }
        assert_eq!(outcome.unwrap_err().code(), 204, "{file}");
        assert_eq!(input.check_unchanged().unwrap_err().code(), 204, "{file}");
    }
}

#[test]
fn files_without_rows_are_read_as_empty() {
    let page = Page {
        rows: 0,
        values: 0,
        ..Page::new(2)
    };
    let found = read_bytes("parquet", &page.file(three_levels("list", "element"))).unwrap();
    assert_eq!((found.scanned, found.dimension), (0, 0));
    for file in ["no-rows.arrow", "no-rows.arrows", "no-rows.parquet"] {
        let path = folder().join("none").join(file);
        let found = read_all(&path, 16, false, IoMode::Mmap).unwrap();
        assert_eq!((found.scanned, found.dimension), (0, 0));
    }
}
