//! Reads an export in Parquet. parquet2 finds the pages and decodes the levels; PLAIN values are
//! decoded here.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use base64::Engine as _;
use parquet2::encoding::hybrid_rle::HybridRleDecoder;
use parquet2::encoding::Encoding;
use parquet2::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet2::page::{split_buffer, Page};
use parquet2::read::{decompress, get_page_iterator, read_metadata};
use parquet2::statistics::PrimitiveStatistics;

use super::{Export, Row};

const COLUMNS: &str = "message schema {
    REQUIRED INT64 internal_id (INTEGER(64,false));
    REQUIRED INT64 label (INTEGER(64,false));
    REQUIRED BOOLEAN deleted;
    OPTIONAL BYTE_ARRAY user_id (STRING);
    OPTIONAL INT64 seq_id (INTEGER(64,false));
    REQUIRED GROUP vector (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
}";

pub fn read(mut file: impl Read + Seek) -> Export {
    let footer = read_metadata(&mut file).unwrap();
    check_columns(footer.schema());
    let mut metadata: BTreeMap<_, _> = footer
        .key_value_metadata()
        .iter()
        .flatten()
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap()))
        .collect();
    check_arrow_schema(&metadata.remove("ARROW:schema").unwrap());
    let dimension = metadata["hnsw_toolbox.dimension"].parse().unwrap();

    let mut export = Export {
        rows: Vec::new(),
        groups: Vec::new(),
        largest_page: 0,
        metadata,
    };
    for group in &footer.row_groups {
        read_row_group(&mut file, group, dimension, &mut export);
    }
    assert_eq!(footer.num_rows, export.rows.len());
    export
}

fn check_columns(schema: &parquet2::metadata::SchemaDescriptor) {
    let expected = parquet2::metadata::SchemaDescriptor::try_from_message(COLUMNS).unwrap();
    assert_eq!(schema.columns().len(), expected.columns().len());
    for (found, expected) in schema.columns().iter().zip(expected.columns()) {
        assert_eq!(found.path_in_schema, expected.path_in_schema);
        let (found, expected) = (&found.descriptor, &expected.descriptor);
        let name = &expected.primitive_type.field_info.name;
        assert_eq!(found.max_def_level, expected.max_def_level, "{name}");
        assert_eq!(found.max_rep_level, expected.max_rep_level, "{name}");
        let (found, expected) = (&found.primitive_type, &expected.primitive_type);
        assert_eq!(found.physical_type, expected.physical_type, "{name}");
        assert_eq!(found.logical_type, expected.logical_type, "{name}");
    }
}

fn check_arrow_schema(encoded: &str) {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap();
    // An encapsulated message: continuation, length, flatbuffer.
    assert_eq!(bytes[..4], [0xFF; 4]);
    let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    assert_eq!(length as usize, bytes.len() - 8);
    let (schema, _) = arrow2::io::ipc::read::deserialize_schema(&bytes[8..]).unwrap();
    super::arrow_ipc::check_schema(&schema);
}

fn read_row_group(
    file: &mut (impl Read + Seek),
    group: &RowGroupMetaData,
    dimension: usize,
    export: &mut Export,
) {
    let columns: Vec<Column> = group
        .columns()
        .iter()
        .map(|chunk| Column::read(file, chunk))
        .collect();
    let [internal_id, label, deleted, user_id, seq_id, vector] = columns.as_slice() else {
        panic!("{} columns", columns.len());
    };
    let rows = group.num_rows();
    assert!(rows > 0);
    let internal_ids = internal_id.u64s();
    let labels = label.u64s();
    let (deleted_values, user_ids, seq_ids) =
        (deleted.booleans(), user_id.strings(), seq_id.u64s());
    check_bounds(&group.columns()[0], &internal_ids);
    check_bounds(&group.columns()[1], &labels);

    // A row starts at repetition level 0 and has as many values as the dimension.
    let starts = vector.pages.iter().flat_map(|page| &page.repetitions);
    assert!(starts
        .enumerate()
        .all(|(at, &level)| level == u32::from(at % dimension != 0)));
    let vectors = vector.words();
    assert_eq!(vectors.len(), rows * dimension);
    for required in [internal_id, label, deleted, vector] {
        assert_eq!(required.nulls(), 0);
    }
    for column in &columns[..5] {
        assert_eq!(
            column.pages.iter().map(|page| page.len).sum::<usize>(),
            rows
        );
    }

    for at in 0..rows {
        export.rows.push(Row {
            internal_id: internal_ids[at].unwrap(),
            label: labels[at].unwrap(),
            deleted: deleted_values[at],
            user_id: user_ids[at].clone(),
            seq_id: seq_ids[at],
            vector: vectors[at * dimension..][..dimension].to_vec(),
        });
    }
    export.groups.push(rows);
    let pages = columns[..5].iter().flat_map(|column| &column.pages);
    let vector_pages = vector.pages.iter().map(|page| page.len / dimension);
    let largest = pages.map(|page| page.len).chain(vector_pages).max();
    export.largest_page = export.largest_page.max(largest.unwrap());
}

/// Statistics are optional, but readers skip rows because of wrong ones.
fn check_bounds(chunk: &ColumnChunkMetaData, values: &[Option<u64>]) {
    let statistics = chunk.statistics().unwrap().unwrap();
    let statistics: &PrimitiveStatistics<i64> = statistics.as_any().downcast_ref().unwrap();
    let unsigned = |value: Option<i64>| value.map(|value| u64::from_le_bytes(value.to_le_bytes()));
    assert_eq!(
        unsigned(statistics.min_value),
        values.iter().copied().min().flatten()
    );
    assert_eq!(
        unsigned(statistics.max_value),
        values.iter().copied().max().flatten()
    );
}

struct Column {
    pages: Vec<DataPage>,
}

struct DataPage {
    /// Number of values, including nulls.
    len: usize,
    repetitions: Vec<u32>,
    /// For each position, true if it has a value.
    present: Vec<bool>,
    values: Vec<u8>,
}

impl Column {
    fn read(file: &mut (impl Read + Seek), chunk: &ColumnChunkMetaData) -> Self {
        let pages = get_page_iterator(chunk, file, None, Vec::new(), 1 << 30).unwrap();
        let pages: Vec<_> = pages
            .map(|page| {
                let Page::Data(page) = decompress(page.unwrap(), &mut Vec::new()).unwrap() else {
                    panic!("a dictionary page");
                };
                assert_eq!(page.encoding(), Encoding::Plain);
                let len = page.num_values();
                let levels = |bytes: &[u8], highest: i16| -> Vec<u32> {
                    if highest == 0 {
                        return vec![0; len];
                    }
                    HybridRleDecoder::try_new(bytes, 1, len)
                        .unwrap()
                        .map(|level| level.unwrap())
                        .collect()
                };
                let (repetitions, definitions, values) = split_buffer(&page).unwrap();
                let (highest_repetition, highest) =
                    (page.descriptor.max_rep_level, page.descriptor.max_def_level);
                DataPage {
                    len,
                    repetitions: levels(repetitions, highest_repetition),
                    present: levels(definitions, highest)
                        .into_iter()
                        .map(|level| level == u32::try_from(highest).unwrap())
                        .collect(),
                    values: values.to_vec(),
                }
            })
            .collect();
        let values: usize = pages.iter().map(|page| page.len).sum();
        assert_eq!(values, usize::try_from(chunk.num_values()).unwrap());
        Self { pages }
    }

    fn nulls(&self) -> usize {
        let places = self.pages.iter().flat_map(|page| &page.present);
        places.filter(|&&present| !present).count()
    }

    fn u64s(&self) -> Vec<Option<u64>> {
        self.optional(|bytes| {
            let (value, rest) = bytes.split_first_chunk().unwrap();
            *bytes = rest;
            u64::from_le_bytes(*value)
        })
    }

    fn strings(&self) -> Vec<Option<String>> {
        self.optional(|bytes| {
            let (length, rest) = bytes.split_first_chunk().unwrap();
            let (string, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            *bytes = rest;
            String::from_utf8(string.to_vec()).unwrap()
        })
    }

    fn words(&self) -> Vec<u32> {
        let words = self.optional(|bytes| {
            let (value, rest) = bytes.split_first_chunk().unwrap();
            *bytes = rest;
            u32::from_le_bytes(*value)
        });
        words.into_iter().map(Option::unwrap).collect()
    }

    fn booleans(&self) -> Vec<bool> {
        let bits = self.pages.iter().flat_map(|page| {
            assert_eq!(page.values.len(), page.len.div_ceil(8));
            let padding = page.values.last().unwrap().checked_shr(page.len as u32 % 8);
            assert!(page.len % 8 == 0 || padding == Some(0), "padding bits");
            (0..page.len).map(|at| page.values[at / 8] >> (at % 8) & 1 == 1)
        });
        bits.collect()
    }

    /// Takes each value from the front of its page, and asserts that nothing is left in the page.
    fn optional<T>(&self, take: impl Fn(&mut &[u8]) -> T) -> Vec<Option<T>> {
        let mut column = Vec::new();
        for page in &self.pages {
            let mut bytes = page.values.as_slice();
            column.extend(
                page.present
                    .iter()
                    .map(|&present| present.then(|| take(&mut bytes))),
            );
            assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
        }
        column
    }
}
