//! The footer: schema, key-value metadata, and the positions of the column chunks.

use base64::Engine as _;
use parquet_format_safe::{
    ColumnChunk, ColumnMetaData, ColumnOrder, CompressionCodec, ConvertedType, Encoding,
    FieldRepetitionType, FileMetaData, IntType, KeyValue, ListType, LogicalType, RowGroup,
    SchemaElement, Statistics, StringType, Type, TypeDefinedOrder,
};

use super::page::Page;
use crate::columnar::columns::{Column, ColumnType, ElementType, Schema};
use crate::columnar::Compression;
use crate::error::{Error, Result};

/// Name and version of the writer, as stored in the footer.
const CREATED_BY: &str = concat!("hnsw-toolbox ", env!("CARGO_PKG_VERSION"));

/// Key of the Arrow schema in the file metadata, by Arrow's convention.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Totals of a column chunk for the footer.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    values: u64,
    pub(super) compressed: u64,
    uncompressed: u64,
    nulls: u64,
    bounds: Option<(i128, i128)>,
}

impl Chunk {
    /// Adds a page, with its sizes in the file before and after compression, header included.
    pub(super) fn add(&mut self, page: &Page<'_>, uncompressed: usize, compressed: usize) {
        self.values += page.count as u64;
        self.uncompressed += uncompressed as u64;
        self.compressed += compressed as u64;
        self.nulls += page.nulls as u64;
        self.bounds = match (self.bounds, page.bounds) {
            (Some((low, high)), Some(page)) => Some((low.min(page.0), high.max(page.1))),
            (known, None) => known,
            (None, page) => page,
        };
    }

    /// Describes the chunk of `column` whose pages start at offset `start`.
    pub(super) fn finish(
        self,
        column: &Column,
        compression: Compression,
        start: u64,
    ) -> Result<ColumnChunk> {
        let list = list_element(column.type_).is_some();
        // The leaf's path in the schema; the chunk's metadata must repeat it.
        let mut path = vec![column.name.clone()];
        if list {
            path.extend([LIST.to_string(), ELEMENT.to_string()]);
        }
        let metadata = ColumnMetaData {
            type_: leaf_type(column.type_).physical,
            encodings: vec![Encoding::PLAIN, Encoding::RLE],
            path_in_schema: path,
            codec: match compression {
                Compression::None => CompressionCodec::UNCOMPRESSED,
                Compression::Snappy => CompressionCodec::SNAPPY,
                Compression::Zstd => CompressionCodec::ZSTD,
            },
            num_values: signed(self.values)?,
            total_uncompressed_size: signed(self.uncompressed)?,
            total_compressed_size: signed(self.compressed)?,
            key_value_metadata: None,
            data_page_offset: signed(start)?,
            index_page_offset: None,
            dictionary_page_offset: None,
            // Statistics of a list column would describe its elements.
            statistics: if list { None } else { Some(self.statistics()?) },
            encoding_stats: None,
            bloom_filter_offset: None,
        };
        Ok(ColumnChunk {
            file_path: None,
            file_offset: signed(start)?,
            meta_data: Some(metadata),
            offset_index_offset: None,
            offset_index_length: None,
            column_index_offset: None,
            column_index_length: None,
            crypto_metadata: None,
            encrypted_column_metadata: None,
        })
    }

    fn statistics(&self) -> Result<Statistics> {
        // Plain encoding: 8 little-endian bytes, signed or unsigned.
        let plain = |value: i128| value.to_le_bytes().iter().take(8).copied().collect();
        Ok(Statistics {
            max: None,
            min: None,
            null_count: Some(signed(self.nulls)?),
            distinct_count: None,
            max_value: self.bounds.map(|(_, high)| plain(high)),
            min_value: self.bounds.map(|(low, _)| plain(low)),
        })
    }
}

pub(super) fn row_group(
    columns: Vec<ColumnChunk>,
    rows: usize,
    start: u64,
    ordinal: usize,
) -> Result<RowGroup> {
    let sum = |size: fn(&ColumnMetaData) -> i64| {
        columns
            .iter()
            .flat_map(|chunk| &chunk.meta_data)
            .map(size)
            .sum()
    };
    Ok(RowGroup {
        total_byte_size: sum(|chunk| chunk.total_uncompressed_size),
        total_compressed_size: Some(sum(|chunk| chunk.total_compressed_size)),
        num_rows: signed(rows)?,
        sorting_columns: None,
        file_offset: Some(signed(start)?),
        // Optional, and only 16 bits wide.
        ordinal: i16::try_from(ordinal).ok(),
        columns,
    })
}

pub(super) fn footer(schema: &Schema, row_groups: Vec<RowGroup>) -> Result<FileMetaData> {
    let arrow_schema = (ARROW_SCHEMA.to_string(), arrow_schema(schema)?);
    let key_values = schema.metadata.iter().cloned().chain([arrow_schema]);
    let mut elements = vec![group("schema", None, schema.columns.len(), None)?];
    let leaves = schema.columns.len();
    for column in &schema.columns {
        elements.extend(schema_elements(column)?);
    }
    Ok(FileMetaData {
        // Version 1 of the format: only its encodings and page type are used.
        version: 1,
        schema: elements,
        num_rows: row_groups.iter().map(|group| group.num_rows).sum(),
        row_groups,
        key_value_metadata: Some(
            key_values
                .map(|(key, value)| KeyValue::new(key, value))
                .collect(),
        ),
        created_by: Some(CREATED_BY.to_string()),
        column_orders: Some(vec![ColumnOrder::TYPEORDER(TypeDefinedOrder {}); leaves]),
        encryption_algorithm: None,
        footer_signing_key_metadata: None,
    })
}

/// The Arrow schema as Arrow readers expect it: an encapsulated IPC message in base64.
fn arrow_schema(schema: &Schema) -> Result<String> {
    let schema = schema.arrow();
    let fields = arrow2::io::ipc::write::default_ipc_fields(&schema.fields);
    let message = arrow2::io::ipc::write::schema_to_bytes(&schema, &fields);
    let length = u32::try_from(message.len())
        .map_err(|_| Error::internal("the Arrow schema exceeds 4 GiB"))?;
    // Continuation marker in front of the length, since Arrow 0.15.
    let mut bytes = vec![0xFF; 4];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&message);
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Names of the two inner levels of a list in parquet-format's `LIST` layout.
const LIST: &str = "list";
const ELEMENT: &str = "element";

/// Physical type of a column's leaf, and its annotations.
struct LeafType {
    physical: Type,
    /// Annotation for readers that predate logical types.
    converted: Option<ConvertedType>,
    logical: Option<LogicalType>,
}

impl From<Type> for LeafType {
    fn from(physical: Type) -> Self {
        Self {
            physical,
            converted: None,
            logical: None,
        }
    }
}

fn list_element(type_: ColumnType) -> Option<ElementType> {
    match type_ {
        ColumnType::Vector(_) => Some(ElementType::Float32),
        ColumnType::List(element) => Some(element),
        _ => None,
    }
}

fn leaf_type(type_: ColumnType) -> LeafType {
    let string = LeafType {
        physical: Type::BYTE_ARRAY,
        converted: Some(ConvertedType::UTF8),
        logical: Some(LogicalType::STRING(StringType {})),
    };
    match type_ {
        ColumnType::UInt64 | ColumnType::List(ElementType::UInt64) => LeafType {
            physical: Type::INT64,
            converted: Some(ConvertedType::UINT_64),
            logical: Some(LogicalType::INTEGER(IntType {
                bit_width: 64,
                is_signed: false,
            })),
        },
        ColumnType::Int64 | ColumnType::List(ElementType::Int64) => Type::INT64.into(),
        ColumnType::Float64 | ColumnType::List(ElementType::Float64) => Type::DOUBLE.into(),
        ColumnType::Boolean | ColumnType::List(ElementType::Boolean) => Type::BOOLEAN.into(),
        ColumnType::Utf8 | ColumnType::List(ElementType::Utf8) => string,
        ColumnType::Vector(_) | ColumnType::List(ElementType::Float32) => Type::FLOAT.into(),
    }
}

/// Schema elements of a column: one, or the three levels of a list.
fn schema_elements(column: &Column) -> Result<Vec<SchemaElement>> {
    let repetition = if column.nullable {
        FieldRepetitionType::OPTIONAL
    } else {
        FieldRepetitionType::REQUIRED
    };
    if list_element(column.type_).is_none() {
        return Ok(vec![leaf(&column.name, column.type_, repetition)]);
    }
    let list = ConvertedType::LIST;
    Ok(vec![
        group(&column.name, Some(repetition), 1, Some(list))?,
        group(LIST, Some(FieldRepetitionType::REPEATED), 1, None)?,
        leaf(ELEMENT, column.type_, FieldRepetitionType::REQUIRED),
    ])
}

fn leaf(name: &str, type_: ColumnType, repetition: FieldRepetitionType) -> SchemaElement {
    let leaf = leaf_type(type_);
    SchemaElement {
        type_: Some(leaf.physical),
        type_length: None,
        repetition_type: Some(repetition),
        name: name.to_string(),
        num_children: None,
        converted_type: leaf.converted,
        scale: None,
        precision: None,
        field_id: None,
        logical_type: leaf.logical,
    }
}

fn group(
    name: &str,
    repetition: Option<FieldRepetitionType>,
    children: usize,
    converted: Option<ConvertedType>,
) -> Result<SchemaElement> {
    Ok(SchemaElement {
        type_: None,
        type_length: None,
        repetition_type: repetition,
        name: name.to_string(),
        num_children: Some(i32::try_from(children).map_err(Error::internal)?),
        converted_type: converted,
        scale: None,
        precision: None,
        field_id: None,
        logical_type: converted.map(|_| LogicalType::LIST(ListType {})),
    })
}

fn signed(value: impl TryInto<i64>) -> Result<i64> {
    value
        .try_into()
        .map_err(|_| Error::internal("a size in a Parquet footer exceeds 63 bits"))
}
