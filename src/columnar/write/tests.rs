//! Pushed rows, read back with parquet2 and arrow2.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::columnar::columns::{Column, ColumnType, ElementType};
use crate::columnar::Compression;
use crate::io::protected::Protected;

#[allow(dead_code, unreachable_pub)]
#[path = "../../../tests/support/table.rs"]
mod table;

use table::Cell;

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

    fn string(&mut self) -> String {
        let len = [0, 1, 5, 300][self.below(4)];
        (0..len).map(|_| ['a', 'é', '🦀'][self.below(3)]).collect()
    }

    fn element(&mut self, type_: ElementType) -> Cell {
        match type_ {
            ElementType::Float32 => Cell::Float32((self.next() >> 32).try_into().unwrap()),
            ElementType::UInt64 => Cell::UInt64(self.next()),
            ElementType::Int64 => Cell::Int64(self.next().cast_signed()),
            ElementType::Float64 => Cell::Float64(self.next()),
            ElementType::Boolean => Cell::Boolean(self.below(2) == 0),
            ElementType::Utf8 => Cell::Utf8(self.string()),
        }
    }

    fn cell(&mut self, column: &Column) -> Cell {
        if column.nullable && self.below(3) == 0 {
            return Cell::Null;
        }
        match column.type_ {
            ColumnType::UInt64 => Cell::UInt64(self.next()),
            ColumnType::Int64 => Cell::Int64(self.next().cast_signed()),
            ColumnType::Float64 => Cell::Float64(self.next()),
            ColumnType::Boolean => Cell::Boolean(self.below(2) == 0),
            ColumnType::Utf8 => Cell::Utf8(self.string()),
            ColumnType::Vector(dimension) => {
                let elements = (0..dimension).map(|_| self.element(ElementType::Float32));
                Cell::List(elements.collect())
            }
            ColumnType::List(element) => {
                let len = self.below(4);
                Cell::List((0..len).map(|_| self.element(element)).collect())
            }
        }
    }
}

fn schema() -> Schema {
    let nullable = [
        ColumnType::UInt64,
        ColumnType::Int64,
        ColumnType::Float64,
        ColumnType::Boolean,
        ColumnType::Utf8,
        ColumnType::Vector(3),
        ColumnType::List(ElementType::Float32),
        ColumnType::List(ElementType::UInt64),
        ColumnType::List(ElementType::Int64),
        ColumnType::List(ElementType::Float64),
        ColumnType::List(ElementType::Boolean),
        ColumnType::List(ElementType::Utf8),
    ];
    let columns = nullable.into_iter().enumerate();
    let both = columns.flat_map(|(number, type_)| {
        [
            Column::nullable(format!("nullable {number}"), type_),
            Column::required(format!("required {number}"), type_),
        ]
    });
    Schema {
        columns: both.collect(),
        metadata: vec![("one".into(), "1".into()), ("two".into(), String::new())],
    }
}

fn push(table: &mut TableWriter<'_>, column: usize, type_: ColumnType, cell: &Cell) {
    let value = match cell {
        Cell::Null => Value::Null,
        Cell::UInt64(value) => Value::UInt64(*value),
        Cell::Int64(value) => Value::Int64(*value),
        Cell::Float64(value) => Value::Float64(f64::from_bits(*value)),
        Cell::Boolean(value) => Value::Boolean(*value),
        Cell::Utf8(value) => Value::Utf8(value),
        Cell::Float32(_) => panic!("outside of a list"),
        Cell::List(cells) => return push_list(table, column, type_, cells),
    };
    table.push(column, value).unwrap();
}

fn push_list(table: &mut TableWriter<'_>, column: usize, type_: ColumnType, cells: &[Cell]) {
    fn all<T>(cells: &[Cell], value: impl Fn(&Cell) -> Option<T>) -> Vec<T> {
        cells.iter().map(|cell| value(cell).unwrap()).collect()
    }
    macro_rules! elements {
        ($variant:ident, $value:ident => $element:expr) => {
            all(cells, |cell| match cell {
                Cell::$variant($value) => Some($element),
                _ => None,
            })
        };
    }
    let pushed = match type_ {
        ColumnType::Vector(_) | ColumnType::List(ElementType::Float32) => {
            let elements = elements!(Float32, value => f32::from_bits(*value));
            table.push(column, Value::Vector(&elements))
        }
        ColumnType::List(ElementType::UInt64) => table.push(
            column,
            Value::UInt64List(&elements!(UInt64, value => *value)),
        ),
        ColumnType::List(ElementType::Int64) => {
            table.push(column, Value::Int64List(&elements!(Int64, value => *value)))
        }
        ColumnType::List(ElementType::Float64) => {
            let elements = elements!(Float64, value => f64::from_bits(*value));
            table.push(column, Value::Float64List(&elements))
        }
        ColumnType::List(ElementType::Boolean) => table.push(
            column,
            Value::BooleanList(&elements!(Boolean, value => *value)),
        ),
        ColumnType::List(ElementType::Utf8) => table.push(
            column,
            Value::Utf8List(&elements!(Utf8, value => value.clone())),
        ),
        _ => panic!("not a list"),
    };
    pushed.unwrap();
}

fn write_table(path: &Path, options: &WriteOptions, schema: &Schema, rows: &[Vec<Cell>]) {
    let mut file = AtomicFile::create(path, Protected::default()).unwrap();
    let mut table = TableWriter::new(&mut file, schema, options).unwrap();
    for row in rows {
        for (number, (column, cell)) in schema.columns.iter().zip(row).enumerate() {
            // Columns without a value are null.
            if *cell != Cell::Null || number % 4 == 0 {
                push(&mut table, number, column.type_, cell);
            }
        }
        table.end_row().unwrap();
    }
    assert_eq!(table.finish().unwrap(), rows.len() as u64);
    file.commit().unwrap();
}

/// A file's rows by column, and the number of rows of each row group or record batch.
fn read(format: ColumnarFormat, path: &Path, schema: &Schema) -> (Vec<Vec<Cell>>, Vec<usize>) {
    let table = match format {
        ColumnarFormat::Parquet => table::read_parquet(path),
        ColumnarFormat::ArrowIpc => table::read_arrow(path),
    };
    let metadata: BTreeMap<_, _> = schema.metadata.iter().cloned().collect();
    assert_eq!(table.metadata, metadata);
    let names = schema.columns.iter().map(|column| &column.name);
    assert!(table.names.iter().eq(names));
    (table.cells, table.groups)
}

fn options(format: ColumnarFormat, batch_size: usize) -> WriteOptions {
    WriteOptions {
        format,
        batch_size,
        ..WriteOptions::default()
    }
}

#[test]
fn pushed_rows_of_every_type_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema();
    let mut random = Random(1);
    for rows in [0, 1, 8, 500] {
        let rows: Vec<Vec<Cell>> = (0..rows)
            .map(|_| schema.columns.iter().map(|c| random.cell(c)).collect())
            .collect();
        let written = schema.columns.iter().enumerate().map(|(number, _)| {
            let column: Vec<_> = rows.iter().map(|row| row[number].clone()).collect();
            column
        });
        let written: Vec<Vec<Cell>> = written.collect();
        for (format, compression) in [
            (ColumnarFormat::Parquet, Compression::None),
            (ColumnarFormat::Parquet, Compression::Snappy),
            (ColumnarFormat::Parquet, Compression::Zstd),
            (ColumnarFormat::ArrowIpc, Compression::None),
        ] {
            for batch_size in [1, 7, 1024] {
                let path = folder.path().join("table");
                let options = WriteOptions {
                    compression,
                    ..options(format, batch_size)
                };
                write_table(&path, &options, &schema, &rows);
                let (columns, _) = read(format, &path, &schema);
                for ((column, found), written) in schema.columns.iter().zip(columns).zip(&written) {
                    let context = format!("{format} {compression} {batch_size} {}", column.name);
                    assert_eq!(&found, written, "{context}");
                }
            }
        }
    }
}

#[test]
fn large_strings_end_row_groups_and_record_batches() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Schema {
        columns: vec![
            Column::required("id", ColumnType::UInt64),
            Column::nullable("vector", ColumnType::Vector(2)),
            Column::nullable("document", ColumnType::Utf8),
        ],
        metadata: Vec::new(),
    };
    let document = "x".repeat(1 << 20);
    for format in [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc] {
        let path = folder.path().join("table");
        let mut file = AtomicFile::create(&path, Protected::default()).unwrap();
        let mut table = TableWriter::new(&mut file, &schema, &options(format, 1024)).unwrap();
        for row in 0..40 {
            table.push(0, Value::UInt64(row)).unwrap();
            table.push(2, Value::Utf8(&document)).unwrap();
            table.end_row().unwrap();
        }
        assert_eq!(table.finish().unwrap(), 40);
        file.commit().unwrap();
        let (columns, groups) = read(format, &path, &schema);
        assert!(groups.len() > 3, "{groups:?}");
        assert!(columns[0]
            .iter()
            .eq(&(0..40).map(Cell::UInt64).collect::<Vec<_>>()));
        assert!(columns[1].iter().all(|cell| *cell == Cell::Null));
        assert!(columns[2]
            .iter()
            .all(|cell| *cell == Cell::Utf8(document.clone())));
    }
}

#[test]
fn wrong_types_and_missing_required_values_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema();
    for format in [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc] {
        let mut file =
            AtomicFile::create(&folder.path().join("table"), Protected::default()).unwrap();
        let mut table = TableWriter::new(&mut file, &schema, &options(format, 8)).unwrap();
        for column in 0..schema.columns.len() {
            let refused = table.push(column, Value::Vector(&[1.0, 2.0, 3.0, 4.0]));
            assert_eq!(refused.is_ok(), (12..14).contains(&column), "{column}");
        }
        assert!(table.push(12, Value::Null).is_err(), "a second value");
        assert!(table.push(99, Value::Null).is_err(), "no such column");
        assert!(table.end_row().is_err(), "required values are missing");
    }
}
