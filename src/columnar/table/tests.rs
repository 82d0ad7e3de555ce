//! Tables of other programs (see `tests/fixtures/columnar/table/generate.py`) and of our own
//! writers, intact and damaged.

use std::path::PathBuf;

use arrow2::array::{Array, BinaryArray, FixedSizeListArray, Float64Array, Int8Array, Utf8Array};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow2::io::ipc::write::{FileWriter, WriteOptions as IpcOptions};

use super::*;
use crate::columnar::columns::{Column, ColumnType, ElementType, Schema, Value};
use crate::columnar::source::WriteOptions;
use crate::columnar::write::TableWriter;
use crate::columnar::Compression;
use crate::io::atomic::AtomicFile;
use crate::io::protected::Protected;

const ROWS: u64 = 40;

/// All columns of cells in `generate.py`.
const CELLS: [&str; 25] = [
    "text", "large", "binary", "word", "fixed", "uuid", "flag", "none", "f16", "f32", "f64",
    "ints", "floats", "flags", "words", "pair", "nones", "i8", "i16", "i32", "i64", "u8", "u16",
    "u32", "u64",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/columnar/table")
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| ColumnarFormat::from_extension(path).is_some())
        .collect();
    files.sort();
    assert!(files.len() > 10);
    files
}

fn open(path: &Path, io: IoMode) -> Result<Table> {
    Table::open(path, &TableOptions { format: None, io })
}

fn rows(mut reader: TableReader) -> Result<Vec<TableRow>> {
    let (mut rows, mut row) = (Vec::new(), TableRow::default());
    while reader.next(&mut row)? {
        assert_eq!(row.number, rows.len() as u64);
        rows.push(row.clone());
    }
    assert!(!reader.next(&mut row)?);
    reader.check_unchanged()?;
    Ok(rows)
}

fn read(path: &Path, vector: Option<&str>, cells: &[&str]) -> Result<Vec<TableRow>> {
    rows(open(path, IoMode::Mmap)?.select(vector, cells)?)
}

/// Reads all columns that can be read.
fn read_all(path: &Path, io: IoMode) -> Result<Vec<TableRow>> {
    let table = open(path, io)?;
    let columns = table.columns().to_vec();
    let readable = columns
        .iter()
        .filter(|column| !matches!(column.kind, ColumnKind::Other(_)));
    let names: Vec<_> = readable.map(|column| &*column.name).collect();
    let vector = columns.iter().find(|column| column.kind.is_vector_like());
    let vector = vector.map(|column| &*column.name);
    rows(table.select(vector, &names)?.accept_non_finite())
}

fn text(row: u64) -> Cell {
    match row % 7 {
        3 => Cell::Null,
        5 => Cell::Text(String::new()),
        _ => {
            let more = "x".repeat(usize::try_from(row % 5 * 4).unwrap());
            Cell::Text(format!("row {} é🦀{more}", row / 4))
        }
    }
}

fn word(row: u64) -> Cell {
    let words = ["red", "green", "", "a colour of more than twelve bytes"];
    match row % 9 {
        4 => Cell::Null,
        _ => Cell::Text(words[usize::try_from(row % 4).unwrap()].into()),
    }
}

fn list(row: u64, element: impl Fn(u64) -> Cell) -> Cell {
    let elements = (0..row % 4).map(|k| match k {
        2 => Cell::Null,
        _ => element(row + k),
    });
    Cell::List(elements.collect())
}

fn integer(value: impl TryInto<i64> + TryInto<u64> + Copy) -> Cell {
    match (value.try_into(), value.try_into()) {
        (Ok(value), _) => Cell::Int(value),
        (_, Ok(value)) => Cell::UInt(value),
        _ => panic!("not 64 bits"),
    }
}

fn decimal(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap())
}

/// The cell that `generate.py` writes.
fn expected(column: &str, row: u64) -> Cell {
    match column {
        "text" | "large" | "binary" => return text(row),
        "word" => return word(row),
        "none" => return Cell::Null,
        _ if row % 5 == 2 => return Cell::Null,
        _ => {}
    }
    match column {
        "fixed" => Cell::Text(format!("{row:04}")),
        "uuid" => Cell::Text(format!(
            "00000000-0000-00{row:02x}-0000-0000000000{row:02x}"
        )),
        "flag" => Cell::Bool(row.is_multiple_of(3)),
        "f16" | "f32" => Cell::Float(decimal(row) / 2.0),
        "f64" => Cell::Float(decimal(row) / 10.0),
        "ints" => list(row, |n| Cell::Int(i64::try_from(n).unwrap() - 3)),
        "floats" => list(row, |n| Cell::Float(decimal(n) / 10.0)),
        "flags" => list(row, |n| Cell::Bool(n % 2 == 0)),
        "words" => list(row, word),
        "pair" => Cell::List(vec![integer(row), Cell::Null]),
        "nones" => list(row, |_| Cell::Null),
        _ => {
            let bits: u32 = column[1..].parse().unwrap();
            let range = 1i128 << bits;
            let low = if column.starts_with('i') {
                -range / 2
            } else {
                0
            };
            let values = [low, low + range - 1, i128::from(row)];
            integer(values[usize::try_from(row % 3).unwrap()])
        }
    }
}

fn assert_cells(path: &Path, columns: &[&str], first: u64) {
    for io in [IoMode::Mmap, IoMode::Read] {
        let reader = open(path, io).unwrap().select(None, columns).unwrap();
        let rows = rows(reader).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rows.len() as u64, ROWS - first);
        for row in rows {
            assert_eq!(row.vector(), None);
            for (column, cell) in columns.iter().zip(&row.cells) {
                let context = format!("{} {column} {}", path.display(), row.number);
                assert_eq!(*cell, expected(column, row.number + first), "{context}");
            }
        }
    }
}

#[test]
fn every_kind_of_cell_is_read_from_both_formats() {
    for file in ["cells.parquet", "cells-v2.parquet", "cells.arrow"] {
        let path = folder().join(file);
        // pyarrow cannot write lists of nulls to Parquet.
        let is_written = |name: &&str| !file.ends_with("parquet") || *name != "nones";
        let columns: Vec<_> = CELLS.into_iter().filter(is_written).collect();
        assert_cells(&path, &columns, 0);
        // Single columns, and in another order.
        for column in &columns {
            assert_cells(&path, &[column], 0);
        }
        let reversed: Vec<_> = columns.into_iter().rev().collect();
        assert_cells(&path, &reversed, 0);
        // A column can be read twice.
        assert_cells(&path, &["text", "i8", "text", "ints", "ints"], 0);

        let table = open(&path, IoMode::Mmap).unwrap();
        let mut reader = table.select(Some("vector"), &[]).unwrap();
        assert_eq!(reader.dimension(), 0);
        assert!(reader.next(&mut TableRow::default()).unwrap());
        assert_eq!(reader.dimension(), 3);
        for row in read(&path, Some("vector"), &["i8"]).unwrap() {
            let number = f32::from(u16::try_from(row.number).unwrap());
            let vector = [number, number + 0.5, -number];
            let vector = (row.number % 5 != 2).then_some(&vector[..]);
            assert_eq!(row.vector(), vector);
            assert_eq!(row.cells, [expected("i8", row.number)]);
        }
    }
}

#[test]
fn every_encoding_of_text_is_read() {
    let texts = ["text", "large", "binary", "words", "fixed"];
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let columns = match name {
            _ if name.starts_with("texts-delta-length") => &texts[..4],
            _ if name.starts_with("texts-") => &texts[..],
            _ => continue,
        };
        assert_cells(&file, columns, 0);
    }
}

#[test]
fn views_slices_and_streams_are_read() {
    let view_columns = ["text", "binary", "words", "f64", "i8"];
    assert_cells(&folder().join("views.arrow"), &view_columns, 0);
    assert_cells(&folder().join("views-lz4.arrow"), &view_columns, 0);
    assert_cells(
        &folder().join("slices.arrow"),
        &["text", "words", "ints", "fixed"],
        3,
    );
    let stream = ["text", "word", "flag", "words", "i8"];
    assert_cells(&folder().join("cells.arrows"), &stream, 0);
    for file in ["polars.arrow", "polars.parquet"] {
        assert_cells(&folder().join(file), &["text", "word", "words", "i64"], 0);
    }
    for file in ["polars-reversed.arrow", "polars-reversed-zstd.arrow"] {
        for row in read(&folder().join(file), None, &["text", "words"]).unwrap() {
            let number = ROWS - 1 - row.number;
            let cells = [expected("text", number), expected("words", number)];
            assert_eq!(row.cells, cells, "{file}");
        }
    }
}

#[test]
fn columns_and_metadata_are_listed() {
    use cell::ScalarKind::{Bool, Float, Int, Null, Text};
    for file in ["cells-v2.parquet", "cells.arrow"] {
        let table = open(&folder().join(file), IoMode::Read).unwrap();
        assert_eq!(table.row_count(), ROWS);
        let metadata: Vec<_> = table.metadata().iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(metadata, [("one", "1"), ("zwei", "é")]);
        for column in table.columns() {
            let name = &*column.name;
            let expected = match name {
                "vector" | "floats" => ColumnKind::List(Float),
                "text" | "large" | "binary" | "word" | "fixed" | "uuid" => ColumnKind::Scalar(Text),
                "flag" => ColumnKind::Scalar(Bool),
                "none" => ColumnKind::Scalar(Null),
                "f16" | "f32" | "f64" => ColumnKind::Scalar(Float),
                "ints" | "pair" => ColumnKind::List(Int),
                "flags" => ColumnKind::List(Bool),
                "words" => ColumnKind::List(Text),
                "nones" => ColumnKind::List(Null),
                "time" if file.ends_with("arrow") => ColumnKind::Other("timestamp".into()),
                "time" => ColumnKind::Other("timestamp (Int64)".into()),
                "struct" if file.ends_with("arrow") => ColumnKind::Other("struct of int8".into()),
                "struct" => ColumnKind::Other("group of Int32".into()),
                _ => ColumnKind::Scalar(Int),
            };
            assert_eq!(column.kind, expected, "{file} {name}");
        }
        let count = table.columns().len();
        assert_eq!(count, if file.ends_with("arrow") { 28 } else { 27 });
    }
}

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// Writes a table with our own writer.
fn write(
    columns: Vec<Column>,
    metadata: &[(&str, &str)],
    options: &WriteOptions,
    fill: impl FnOnce(&mut TableWriter<'_>),
) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let schema = Schema {
        columns,
        metadata: metadata
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
    };
    let mut file = AtomicFile::create(&path, Protected::default()).unwrap();
    let mut table = TableWriter::new(&mut file, &schema, options).unwrap();
    fill(&mut table);
    table.finish().unwrap();
    file.commit().unwrap();
    Written {
        _folder: folder,
        path,
    }
}

fn all_options() -> impl Iterator<Item = WriteOptions> {
    let compressions = [Compression::None, Compression::Snappy, Compression::Zstd];
    [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc]
        .into_iter()
        .flat_map(move |format| {
            compressions.into_iter().flat_map(move |compression| {
                [1, 7, 1024].map(|batch_size| WriteOptions {
                    format,
                    compression,
                    batch_size,
                    ..WriteOptions::default()
                })
            })
        })
}

/// A list of `row % 4` elements; null in every fifth row.
fn elements<T>(row: u64, element: impl Fn(u64) -> T) -> Option<Vec<T>> {
    (row % 5 != 2).then(|| (0..row % 4).map(|k| element(row + k)).collect())
}

#[test]
fn our_own_tables_are_read_back_exactly() {
    let floats = [0.1, -0.0, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE];
    let float = |row: u64| floats[usize::try_from(row % 5).unwrap()];
    let ints = [i64::MIN, i64::MAX, 0, -1];
    let int = |row: u64| ints[usize::try_from(row % 4).unwrap()];
    let string = |row: u64| ["", "é", "🦀 text", "a\0b\n"][usize::try_from(row % 4).unwrap()];
    let vector = |row: u64| {
        let first = [f32::NAN, f32::INFINITY, -0.0, 1.5][usize::try_from(row % 4).unwrap()];
        [first, 2.0, -3.0]
    };
    let columns = vec![
        Column::required("id", ColumnType::Utf8),
        Column::nullable("vector", ColumnType::Vector(3)),
        Column::nullable("other", ColumnType::List(ElementType::Float32)),
        Column::nullable("document", ColumnType::Utf8),
        Column::nullable("metadata.page", ColumnType::Int64),
        Column::nullable("metadata.score", ColumnType::Float64),
        Column::nullable("metadata.is.new", ColumnType::Boolean),
        Column::nullable("metadata.ints", ColumnType::List(ElementType::Int64)),
        Column::nullable("metadata.floats", ColumnType::List(ElementType::Float64)),
        Column::nullable("metadata.flags", ColumnType::List(ElementType::Boolean)),
        Column::nullable("metadata.tags", ColumnType::List(ElementType::Utf8)),
        Column::required("label", ColumnType::UInt64),
    ];
    let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
    let cells: Vec<_> = names
        .iter()
        .map(|name| &**name)
        .filter(|n| *n != "vector")
        .collect();
    let metadata = [
        ("hnsw_toolbox.collection_id", "x"),
        ("hnsw_toolbox.metric", "l2"),
    ];
    for options in all_options() {
        let written = write(columns.clone(), &metadata, &options, |table| {
            for row in 0..ROWS {
                table.push(0, Value::Utf8(&format!("id {row}"))).unwrap();
                if row % 3 != 0 {
                    table.push(1, Value::Vector(&vector(row))).unwrap();
                    table.push(3, Value::Utf8(string(row))).unwrap();
                    table.push(4, Value::Int64(int(row))).unwrap();
                    table.push(5, Value::Float64(float(row))).unwrap();
                    table.push(6, Value::Boolean(row % 2 == 0)).unwrap();
                }
                if let Some(list) = elements(row, int) {
                    table.push(7, Value::Int64List(&list)).unwrap();
                }
                if let Some(list) = elements(row, float) {
                    table.push(8, Value::Float64List(&list)).unwrap();
                }
                if let Some(list) = elements(row, |n| n % 2 == 0) {
                    table.push(9, Value::BooleanList(&list)).unwrap();
                }
                if let Some(list) = elements(row, |n| string(n).to_string()) {
                    table.push(10, Value::Utf8List(&list)).unwrap();
                }
                table.push(11, Value::UInt64(u64::MAX - row)).unwrap();
                table.end_row().unwrap();
            }
        });
        let table = open(&written.path, IoMode::Read).unwrap();
        let found: Vec<_> = table.columns().iter().map(|column| &column.name).collect();
        assert_eq!(found, names.iter().collect::<Vec<_>>());
        assert!(table.columns()[1].kind.is_vector_like());
        let pairs = table.metadata().iter().map(|(k, v)| (&**k, &**v));
        let pairs: std::collections::BTreeMap<_, _> = pairs.collect();
        assert_eq!(pairs, metadata.into());

        let reader = table.select(Some("vector"), &cells).unwrap();
        for row in rows(reader.accept_non_finite()).unwrap() {
            let n = row.number;
            let vector = (n % 3 != 0).then(|| vector(n).map(f32::to_bits));
            let bits = row
                .vector()
                .map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            assert_eq!(
                bits,
                vector.map(|vector| vector.to_vec()),
                "{options:?} {n}"
            );
            let some = |cell| if n % 3 == 0 { Cell::Null } else { cell };
            let lists = |list: Option<Vec<Cell>>| list.map_or(Cell::Null, Cell::List);
            let expected = [
                Cell::Text(format!("id {n}")),
                Cell::Null,
                some(Cell::Text(string(n).into())),
                some(Cell::Int(int(n))),
                some(Cell::Float(float(n))),
                some(Cell::Bool(n % 2 == 0)),
                lists(elements(n, |n| Cell::Int(int(n)))),
                lists(elements(n, |n| Cell::Float(float(n)))),
                lists(elements(n, |n| Cell::Bool(n % 2 == 0))),
                lists(elements(n, |n| Cell::Text(string(n).into()))),
                Cell::UInt(u64::MAX - n),
            ];
            assert_eq!(row.cells, expected, "{options:?} {n}");
        }
    }
}

#[test]
fn large_texts_cross_pages_and_buffers() {
    let columns = || {
        vec![
            Column::required("id", ColumnType::Utf8),
            Column::nullable("document", ColumnType::Utf8),
        ]
    };
    let text = |row: usize| {
        let len = [0, 3 << 20, 70_000, 1, (1 << 20) - 1][row % 5];
        let letters =
            (0..len).map(|k| char::from(b'a' + u8::try_from((k * k + row) % 26).unwrap()));
        letters.collect::<String>()
    };
    for options in all_options() {
        let written = write(columns(), &[], &options, |table| {
            for row in 0..12 {
                table.push(0, Value::Utf8(&row.to_string())).unwrap();
                table.push_text(1, text(row)).unwrap();
                table.end_row().unwrap();
            }
        });
        let mut reader = open(&written.path, IoMode::Read)
            .unwrap()
            .select(None, &["document", "id"])
            .unwrap();
        let mut row = TableRow::default();
        for number in 0..12 {
            assert!(reader.next(&mut row).unwrap());
            let expected = [Cell::Text(text(number)), Cell::Text(number.to_string())];
            assert!(row.cells == expected, "{options:?} {number}");
        }
        assert!(!reader.next(&mut row).unwrap());
    }
}

/// Writes an Arrow IPC file of these columns with arrow2.
fn arrow(columns: Vec<(&str, Box<dyn Array>)>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = ArrowSchema::from(fields.collect::<Vec<_>>());
    let output = std::fs::File::create(file.path()).unwrap();
    let options = IpcOptions { compression: None };
    let mut writer = FileWriter::try_new(output, schema, None, options).unwrap();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    writer.write(&Chunk::new(arrays), None).unwrap();
    writer.finish().unwrap();
    file
}

fn floats(values: &[f64], dimension: usize) -> Box<dyn Array> {
    let item = Field::new("item", DataType::Float64, true);
    let type_ = DataType::FixedSizeList(Box::new(item), dimension);
    let values = Float64Array::from_slice(values).boxed();
    FixedSizeListArray::new(type_, values, None).boxed()
}

#[track_caller]
fn assert_error(outcome: Result<impl Sized>, code: u16, words: &str) {
    let error = outcome.err().expect("an error");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}\nlacks: {words}");
}

#[test]
fn columns_that_cannot_be_read_are_refused_by_name() {
    let cells = |file: &str, name: &str| read(&folder().join(file), None, &["i8", name]);
    let vector = |file: &str, name: &str| read(&folder().join(file), Some(name), &["i8"]);
    let wanted = "expected booleans, integers, floats, text, or lists of them";
    let missing = format!("column x: found no such column, {wanted}; the file has vector, text,");
    for file in ["cells.parquet", "cells.arrow"] {
        assert_error(cells(file, "x"), 202, &missing);
        let words =
            "column x: found no such column, expected a list of float16, float32 or float64";
        assert_error(vector(file, "x"), 202, words);
    }
    let words = format!("column time: found timestamp, {wanted}");
    assert_error(cells("cells.arrow", "time"), 202, &words);
    let words = format!("column time: found timestamp (Int64), {wanted}");
    assert_error(cells("cells.parquet", "time"), 202, &words);
    let words = "column text: found string, expected a list of float16, float32 or float64";
    assert_error(vector("cells.arrow", "text"), 202, words);
    let words = "column text: found string (ByteArray), expected a list of float16,";
    assert_error(vector("cells.parquet", "text"), 202, words);

    let table = open(&folder().join("cells.arrow"), IoMode::Read).unwrap();
    let many = vec!["i8"; MAX_SELECTED + 1];
    assert_error(
        table.select(None, &many),
        101,
        "columns: found 4097, expected at most 4096",
    );
    let options = TableOptions {
        format: Some(ColumnarFormat::Parquet),
        ..TableOptions::default()
    };
    let other = Table::open(&folder().join("cells.arrow"), &options);
    assert_error(
        other,
        202,
        "found an Arrow IPC file, expected a Parquet file",
    );
    let none = tempfile::NamedTempFile::new().unwrap();
    let words = "found an empty file, expected a Parquet file, or an Arrow IPC file or stream";
    assert_error(open(none.path(), IoMode::Read), 202, words);
}

#[test]
fn duplicates_of_a_chosen_column_are_refused() {
    let columns = ["a.b", "id", "id"].map(|name| Column::required(name, ColumnType::Int64));
    for options in all_options() {
        let written = write(columns.to_vec(), &[], &options, |table| {
            for column in 0..3 {
                table.push(column, Value::Int64(7)).unwrap();
            }
            table.end_row().unwrap();
        });
        let words = "column id: found 2 columns of that name, expected one";
        assert_error(read(&written.path, None, &["id"]), 202, words);
        let rows = read(&written.path, None, &["a.b"]).unwrap();
        assert_eq!(rows[0].cells, [Cell::Int(7)]);
        assert_error(
            read(&written.path, None, &["a"]),
            202,
            "found no such column",
        );
    }
}

#[test]
fn invalid_vectors_are_refused_by_row() {
    let read = |values: &[f64], accept: bool| {
        let file = arrow(vec![("vector", floats(values, 2))]);
        let reader = open(file.path(), IoMode::Read)?.select(Some("vector"), &[])?;
        rows(match accept {
            true => reader.accept_non_finite(),
            false => reader,
        })
    };
    let values = [1.0, 2.0, 3.0, f64::NAN];
    let words = "row 1, column vector, element 1: found NaN, expected a finite number";
    assert_error(read(&values, false), 202, words);
    let accepted = read(&values, true).unwrap();
    assert!(accepted[1].vector().unwrap()[1].is_nan());
    let values = [1.0, f64::NEG_INFINITY];
    assert_error(
        read(&values, false),
        202,
        "row 0, column vector, element 1: found -inf",
    );
    assert_eq!(
        read(&values, true).unwrap()[0].vector(),
        Some(&[1.0, f32::NEG_INFINITY][..])
    );
    // Too large for float32, which is not an infinite value of the file.
    let words = "row 0, column vector, element 1: found 1e39, expected a number in the range";
    assert_error(read(&[f64::NAN, 1e39], true), 202, words);

    // Lists of any length.
    for options in all_options() {
        let column = Column::nullable("vector", ColumnType::List(ElementType::Float32));
        let written = write(vec![column], &[], &options, |table| {
            for vector in [&[1.0, 2.0][..], &[1.0, 2.0, 3.0]] {
                table.push(0, Value::Vector(vector)).unwrap();
                table.end_row().unwrap();
            }
        });
        let words = "row 1, column vector: found 3 elements, expected 2, as in the rows before";
        assert_error(self::read(&written.path, Some("vector"), &[]), 202, words);
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused_by_row() {
    let words = "row 1, column text: found a text that is not UTF-8 at byte 2, expected UTF-8 text";
    let texts = BinaryArray::<i32>::from_slice([&b"ab"[..], b"ab\xff", b"c"]);
    let file = arrow(vec![("text", texts.boxed())]);
    assert_error(read(file.path(), None, &["text"]), 202, words);
    let column = Column::required("text", ColumnType::Utf8);
    let written = write(vec![column], &[], &WriteOptions::default(), |table| {
        for text in ["ok", "ab!"] {
            table.push(0, Value::Utf8(text)).unwrap();
            table.end_row().unwrap();
        }
    });
    let mut bytes = std::fs::read(&written.path).unwrap();
    let at = bytes.windows(3).position(|bytes| bytes == b"ab!").unwrap();
    bytes[at + 2] = 0xff;
    std::fs::write(&written.path, bytes).unwrap();
    assert_error(read(&written.path, None, &["text"]), 202, words);
}

#[test]
fn an_index_outside_its_dictionary_is_refused() {
    let keys = Int8Array::from_slice([0, 1, 0]);
    let values = Utf8Array::<i32>::from_slice(["a", "b"]).boxed();
    let array = arrow2::array::DictionaryArray::try_from_keys(keys, values).unwrap();
    let file = arrow(vec![("word", array.boxed())]);
    let texts = |path| -> Result<Vec<Cell>> {
        let rows = read(path, None, &["word"])?;
        Ok(rows.into_iter().flat_map(|row| row.cells).collect())
    };
    assert_eq!(
        texts(file.path()).unwrap(),
        ["a", "b", "a"].map(|text| Cell::Text(text.into()))
    );
    let mut bytes = std::fs::read(file.path()).unwrap();
    // The indices, which the padding of their buffer follows.
    let indices = [0, 1, 0, 0, 0, 0, 0, 0];
    let found: Vec<_> = (0..bytes.len())
        .step_by(8)
        .filter(|at| bytes[*at..].starts_with(&indices))
        .collect();
    for at in found {
        let mut damaged = bytes.clone();
        damaged[at + 2] = 2;
        std::fs::write(file.path(), &damaged).unwrap();
        if let Err(error) = texts(file.path()) {
            let words = "record batch 0, column word: found dictionary index 2, \
                         expected 0 or more, and less than 2";
            if error.to_string().contains(words) {
                bytes.clear();
                break;
            }
        }
    }
    assert!(bytes.is_empty(), "no index was found");
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

/// Reads damaged bytes, which must neither panic nor fail for a reason outside the file.
fn read_damaged(path: &Path, bytes: &[u8], io: IoMode) -> Result<Vec<TableRow>> {
    write_aged(path, bytes);
    let outcome = read_all(path, io);
    if let Err(error) = &outcome {
        assert!(matches!(error.code(), 202 | 203), "{error:?}");
    }
    std::fs::remove_file(path).unwrap();
    outcome
}

#[test]
fn intact_tables_are_read_whole() {
    for file in files() {
        for io in [IoMode::Mmap, IoMode::Read] {
            let rows = read_all(&file, io).unwrap_or_else(|error| panic!("{error}"));
            assert!(rows.len() as u64 >= ROWS - 3);
        }
    }
}

#[test]
fn a_table_truncated_anywhere_is_an_error() {
    let cuts = tempfile::tempdir().unwrap();
    for file in [
        "polars.parquet",
        "polars.arrow",
        "texts-delta-v1.parquet",
        "views-lz4.arrow",
    ] {
        let bytes = std::fs::read(folder().join(file)).unwrap();
        for len in (0..bytes.len()).step_by(3) {
            let io = [IoMode::Mmap, IoMode::Read][len % 2];
            let cut = cuts.path().join(format!("{len}-{file}"));
            read_damaged(&cut, &bytes[..len], io).expect_err(file);
        }
    }
}

#[test]
fn damaged_tables_never_panic() {
    let rounds = std::env::var("DAMAGE_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    let seed = std::env::var("DAMAGE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let damaged = tempfile::tempdir().unwrap();
    let path = damaged.path().join("damaged");
    let mut random = Random(seed);
    let originals = files().into_iter().map(|path| std::fs::read(path).unwrap());
    let originals: Vec<_> = originals.collect();
    for _ in 0..rounds {
        for bytes in &originals {
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 | 1 => bytes[at] ^= 1 << random.below(8),
                    2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                    _ => {
                        let numbers = [0, -1, i64::MAX, i64::MIN, 1 << 31, 1 << 40];
                        let number = numbers[random.below(6)].to_le_bytes();
                        let len = [1, 4, 8][random.below(3)].min(bytes.len() - at);
                        bytes[at..at + len].copy_from_slice(&number[..len]);
                    }
                }
            }
            let io = [IoMode::Mmap, IoMode::Read][random.below(2)];
            let _ = read_damaged(&path, &bytes, io);
        }
    }
}
