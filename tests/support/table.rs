//! Reads any Parquet or Arrow IPC file into cells, with parquet2 and arrow2.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow2::array::{
    Array, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, Utf8Array,
};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Schema};
use arrow2::io::ipc::read::{
    read_file_metadata, read_stream_metadata, FileReader, StreamReader, StreamState,
};
use parquet2::encoding::hybrid_rle::HybridRleDecoder;
use parquet2::metadata::ColumnChunkMetaData;
use parquet2::page::{split_buffer, Page};
use parquet2::read::{decompress, get_page_iterator, read_metadata};
use parquet2::schema::types::PhysicalType;

/// An owned value. Floats are compared bit by bit.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    UInt64(u64),
    Int64(i64),
    Float64(u64),
    Boolean(bool),
    Utf8(String),
    List(Vec<Cell>),
    Float32(u32),
}

/// The contents of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Key-value metadata, without the Arrow schema of a Parquet file.
    pub metadata: BTreeMap<String, String>,
    pub names: Vec<String>,
    /// Cells by column.
    pub cells: Vec<Vec<Cell>>,
    /// Number of rows in each row group or record batch.
    pub groups: Vec<usize>,
}

impl Table {
    pub fn rows(&self) -> usize {
        self.groups.iter().sum()
    }

    /// The cells of the column with this name.
    pub fn column(&self, name: &str) -> &[Cell] {
        let at = self.names.iter().position(|known| known == name);
        let at = at.unwrap_or_else(|| panic!("no column {name} in {:?}", self.names));
        &self.cells[at]
    }
}

pub fn read_parquet(path: &Path) -> Table {
    let mut file = File::open(path).unwrap();
    let footer = read_metadata(&mut file).unwrap();
    let pairs = footer.key_value_metadata().as_ref().unwrap();
    let pairs = pairs.iter().filter(|pair| pair.key != "ARROW:schema");
    let fields = footer.schema().fields();
    let mut table = Table {
        metadata: pairs
            .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
            .collect(),
        names: fields
            .iter()
            .map(|field| field.name().to_string())
            .collect(),
        cells: vec![Vec::new(); fields.len()],
        groups: Vec::new(),
    };
    for group in &footer.row_groups {
        table.groups.push(group.num_rows());
        assert_eq!(group.columns().len(), table.cells.len());
        for (chunk, cells) in group.columns().iter().zip(&mut table.cells) {
            let before = cells.len();
            read_chunk(&mut file, chunk, cells);
            assert_eq!(cells.len() - before, group.num_rows());
        }
    }
    assert_eq!(table.rows(), footer.num_rows);
    table
}

fn read_chunk(file: &mut File, chunk: &ColumnChunkMetaData, cells: &mut Vec<Cell>) {
    let descriptor = &chunk.descriptor().descriptor;
    let highest = u32::try_from(descriptor.max_def_level).unwrap();
    let is_list = descriptor.max_rep_level == 1;
    let first = cells.len();
    for page in get_page_iterator(chunk, file, None, Vec::new(), 1 << 30).unwrap() {
        let Page::Data(page) = decompress(page.unwrap(), &mut Vec::new()).unwrap() else {
            panic!("a dictionary page");
        };
        let (repetitions, definitions, mut values) = split_buffer(&page).unwrap();
        let levels = |bytes, highest: i16| -> Vec<u32> {
            let width = 16 - highest.leading_zeros();
            let levels = HybridRleDecoder::try_new(bytes, width, page.num_values()).unwrap();
            levels.map(Result::unwrap).collect()
        };
        let repetitions = levels(repetitions, descriptor.max_rep_level);
        let definitions = levels(definitions, descriptor.max_def_level);
        let (mut bit, physical) = (0, descriptor.primitive_type.physical_type);
        let unsigned = descriptor.primitive_type.logical_type.is_some();
        for (repetition, definition) in repetitions.into_iter().zip(definitions) {
            let cell = (definition == highest).then(|| {
                let mut take = |len: usize| {
                    let (value, rest) = values.split_at(len);
                    values = rest;
                    value
                };
                match physical {
                    PhysicalType::Boolean => {
                        bit += 1;
                        Cell::Boolean(values[(bit - 1) / 8] >> ((bit - 1) % 8) & 1 == 1)
                    }
                    PhysicalType::Int64 if unsigned => {
                        Cell::UInt64(u64::from_le_bytes(take(8).try_into().unwrap()))
                    }
                    PhysicalType::Int64 => {
                        Cell::Int64(i64::from_le_bytes(take(8).try_into().unwrap()))
                    }
                    PhysicalType::Double => {
                        Cell::Float64(u64::from_le_bytes(take(8).try_into().unwrap()))
                    }
                    PhysicalType::Float => {
                        Cell::Float32(u32::from_le_bytes(take(4).try_into().unwrap()))
                    }
                    PhysicalType::ByteArray => {
                        let len = u32::from_le_bytes(take(4).try_into().unwrap());
                        Cell::Utf8(String::from_utf8(take(len as usize).to_vec()).unwrap())
                    }
                    other => panic!("{other:?}"),
                }
            });
            match (is_list, repetition, cell) {
                (false, _, cell) => cells.push(cell.unwrap_or(Cell::Null)),
                (true, 0, Some(cell)) => cells.push(Cell::List(vec![cell])),
                (true, 0, None) if highest == 2 && definition == 0 => cells.push(Cell::Null),
                (true, 0, None) => cells.push(Cell::List(Vec::new())),
                (true, _, cell) => match cells.last_mut() {
                    Some(Cell::List(elements)) => elements.push(cell.unwrap()),
                    other => panic!("{other:?} goes on"),
                },
            }
        }
        assert_eq!(values.len(), bit.div_ceil(8), "bytes after the last value");
    }
    let statistics = chunk.statistics().map(Result::unwrap);
    if let Some(statistics) = statistics {
        let nulls = cells[first..].iter().filter(|cell| **cell == Cell::Null);
        assert_eq!(statistics.null_count(), Some(nulls.count() as i64));
    }
}

pub fn read_arrow(path: &Path) -> Table {
    let mut file = File::open(path).unwrap();
    let footer = read_file_metadata(&mut file).unwrap();
    let schema = footer.schema.clone();
    let batches = FileReader::new(file, footer, None, None);
    arrow_table(&schema, batches.map(Result::unwrap))
}

/// Reads an Arrow IPC stream.
pub fn read_arrow_stream(mut bytes: &[u8]) -> Table {
    let metadata = read_stream_metadata(&mut bytes).unwrap();
    let schema = metadata.schema.clone();
    let states = StreamReader::new(bytes, metadata, None);
    let batches = states.map(|state| match state.unwrap() {
        StreamState::Some(batch) => batch,
        StreamState::Waiting => panic!("the stream is cut"),
    });
    arrow_table(&schema, batches)
}

fn arrow_table(schema: &Schema, batches: impl Iterator<Item = Chunk<Box<dyn Array>>>) -> Table {
    let fields = &schema.fields;
    let mut table = Table {
        metadata: schema.metadata.clone(),
        names: fields.iter().map(|field| field.name.clone()).collect(),
        cells: vec![Vec::new(); fields.len()],
        groups: Vec::new(),
    };
    for batch in batches {
        table.groups.push(batch.len());
        for (array, column) in batch.arrays().iter().zip(&mut table.cells) {
            column.extend(cells(array.as_ref()));
        }
    }
    table
}

fn cells(array: &dyn Array) -> Vec<Cell> {
    macro_rules! each {
        ($type:ty, $array:ident, $row:ident => $cell:expr) => {{
            let $array = array.as_any().downcast_ref::<$type>().unwrap();
            let cell = |$row| match $array.is_valid($row) {
                true => $cell,
                false => Cell::Null,
            };
            (0..$array.len()).map(cell).collect()
        }};
    }
    match array.data_type() {
        DataType::UInt64 => each!(PrimitiveArray<u64>, a, row => Cell::UInt64(a.value(row))),
        DataType::Int64 => each!(PrimitiveArray<i64>, a, row => Cell::Int64(a.value(row))),
        DataType::Float64 => {
            each!(PrimitiveArray<f64>, a, row => Cell::Float64(a.value(row).to_bits()))
        }
        DataType::Float32 => {
            each!(PrimitiveArray<f32>, a, row => Cell::Float32(a.value(row).to_bits()))
        }
        DataType::Boolean => each!(BooleanArray, a, row => Cell::Boolean(a.value(row))),
        DataType::Utf8 => each!(Utf8Array<i32>, a, row => Cell::Utf8(a.value(row).into())),
        DataType::List(field) => {
            assert!(!field.is_nullable);
            each!(ListArray<i32>, a, row => Cell::List(cells(a.value(row).as_ref())))
        }
        DataType::FixedSizeList(field, _) => {
            assert!(!field.is_nullable);
            let lists = array.as_any().downcast_ref::<FixedSizeListArray>().unwrap();
            assert_eq!(lists.values().null_count(), 0);
            each!(FixedSizeListArray, a, row => Cell::List(cells(a.value(row).as_ref())))
        }
        other => panic!("{other:?}"),
    }
}
