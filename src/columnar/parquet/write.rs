//! Parquet, written page by page from the index.
//!
//! ```text
//! PAR1 | row group | row group | … | footer | footer length: u32 | PAR1
//!        = internal_id pages, label pages, deleted pages, user_id pages, seq_id pages,
//!          vector pages
//! ```
//!
//! Pages hold at most `batch_size` rows and are PLAIN; nothing but the page at hand is in memory,
//! so row groups can be as large as readers like them. The metadata kept for the footer is that of
//! a row group, not of a page.

use std::io::Write;

use base64::Engine as _;
use parquet2::compression::{compress, CompressionOptions};
use parquet_format_safe::thrift::protocol::TCompactOutputProtocol;
use parquet_format_safe::{
    ColumnChunk, ColumnMetaData, ColumnOrder, CompressionCodec, ConvertedType, DataPageHeader,
    Encoding, FieldRepetitionType, FileMetaData, IntType, KeyValue, ListType, LogicalType,
    PageHeader, PageType, RowGroup, SchemaElement, Statistics, StringType, Type, TypeDefinedOrder,
};

use crate::chroma::IndexHeader;
use crate::columnar::columns as schema;
use crate::error::{Error, Result};
use crate::extract::rows::{RowReader, RowSet};
use crate::extract::{ColumnarOptions, Compression};
use crate::io::atomic::AtomicFile;
use crate::progress::Monitor;

const MAGIC: &[u8; 4] = b"PAR1";

/// A row group has no more rows than this, so that the list of them stays small beside the pages
/// even where vectors are very short.
const MAX_ROW_GROUP_ROWS: u64 = 1 << 19;

/// A page holds fewer than `batch_size` rows when they would exceed this.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// What a value counts in a row's progress where its column is not that of the vectors, in bytes.
const VALUE_WEIGHT: usize = 8;

/// Columns of such values.
const VALUE_COLUMNS: usize = 5;

/// A page of strings is closed when it holds this much, though it has fewer than `batch_size` rows.
const FULL_PAGE_BYTES: usize = 1 << 20;

/// Where column statistics are given: the two id columns.
type Bounds = Option<(u64, u64)>;

pub(crate) fn write(
    rows: &mut RowReader<'_>,
    header: &IndexHeader,
    output: &mut AtomicFile,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let mut writer = Writer {
        output,
        offset: 0,
        compression: options.compression,
        page: Vec::new(),
        compressed: Vec::new(),
        progress: GroupProgress::default(),
        monitor: *monitor,
    };
    writer.write_all(MAGIC)?;

    let vector_bytes = header.dimension().saturating_mul(4);
    let group_rows = (options.row_group_bytes / vector_bytes as u64).clamp(1, MAX_ROW_GROUP_ROWS);
    let group_rows = usize::try_from(group_rows).unwrap_or(usize::MAX);
    let vector_page_rows = options
        .batch_size
        .min(MAX_PAGE_BYTES / vector_bytes.max(1))
        .max(1);

    let mut groups = Vec::new();
    let mut chosen = RowSet::default();
    let mut emitted = 0;
    loop {
        let first = rows.scanned();
        rows.choose(&mut chosen, group_rows, usize::MAX, monitor)?;
        if chosen.is_empty() {
            break;
        }
        let row_weight = vector_bytes.saturating_add(VALUE_COLUMNS * VALUE_WEIGHT);
        writer.progress = GroupProgress {
            first,
            end: rows.scanned(),
            total: rows.total(),
            written: 0,
            weight: chosen.len() as u128 * row_weight as u128,
        };
        let columns = Columns {
            rows: &chosen,
            page_rows: options.batch_size,
        };
        let start = writer.offset;
        let chunks = vec![
            columns.internal_id(&mut writer)?,
            columns.label(&mut writer)?,
            columns.deleted(&mut writer)?,
            columns.user_id(&mut writer, rows)?,
            columns.seq_id(&mut writer, rows)?,
            columns.vector(&mut writer, rows, header.dimension(), vector_page_rows)?,
        ];
        emitted += chosen.len();
        groups.push(row_group(chunks, chosen.len(), start, groups.len())?);
        monitor.advance(rows.scanned(), rows.total())?;
    }

    let footer = footer(header, groups, signed(emitted)?)?;
    let start = writer.offset;
    writer.thrift(|protocol| footer.write_to_out_protocol(protocol))?;
    let length = u32::try_from(writer.offset - start)
        .map_err(|_| Error::internal("the Parquet footer exceeds 4 GiB"))?;
    writer.write_all(&length.to_le_bytes())?;
    writer.write_all(MAGIC)
}

/// Writes pages and counts bytes.
struct Writer<'o> {
    output: &'o mut AtomicFile,
    offset: u64,
    compression: Compression,
    /// The page being filled: levels, then values.
    page: Vec<u8>,
    compressed: Vec<u8>,
    progress: GroupProgress,
    monitor: Monitor<'o>,
}

/// How much of a row group is written. A group is chosen as a whole and written column by column,
/// so that the records that it was chosen from are done bit by bit with each of its pages.
#[derive(Default)]
struct GroupProgress {
    /// Records looked at before the group was chosen, and after.
    first: u64,
    end: u64,
    /// Records in the index.
    total: u64,
    /// Of `weight`, which is that of all values of the group.
    written: u128,
    weight: u128,
}

impl GroupProgress {
    fn done(&self) -> u64 {
        let records = self.end.saturating_sub(self.first);
        let part = (u128::from(records) * self.written.min(self.weight))
            .checked_div(self.weight)
            .and_then(|part| u64::try_from(part).ok());
        self.first.saturating_add(part.unwrap_or_default())
    }
}

impl Writer<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.output
            .write_all(bytes)
            .map_err(|error| self.output.write_error(error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn thrift<F, T>(&mut self, write: F) -> Result<()>
    where
        F: FnOnce(
            &mut TCompactOutputProtocol<&mut Vec<u8>>,
        ) -> parquet_format_safe::thrift::Result<T>,
    {
        let mut bytes = Vec::new();
        write(&mut TCompactOutputProtocol::new(&mut bytes)).map_err(Error::internal)?;
        self.write_all(&bytes)
    }

    /// Writes `self.page` as a data page of `values` values, nulls included, and empties it.
    /// A value counts `weight` in the group's progress.
    /// Stops here when the work is cancelled: in every column, as small pages take long.
    fn flush_page(&mut self, chunk: &mut Chunk, values: usize, weight: usize) -> Result<()> {
        let compression = match self.compression {
            Compression::None => None,
            Compression::Snappy => Some(CompressionOptions::Snappy),
            Compression::Zstd => Some(CompressionOptions::Zstd(None)),
        };
        let mut page = std::mem::take(&mut self.page);
        let mut compressed = std::mem::take(&mut self.compressed);
        let body = match compression {
            None => &page,
            Some(compression) => {
                compressed.clear();
                compress(compression, &page, &mut compressed).map_err(Error::internal)?;
                &compressed
            }
        };
        let size = |bytes: usize| {
            i32::try_from(bytes).map_err(|_| Error::internal("a Parquet page exceeds 2 GiB"))
        };
        let header = PageHeader {
            type_: PageType::DATA_PAGE,
            uncompressed_page_size: size(page.len())?,
            compressed_page_size: size(body.len())?,
            crc: None,
            data_page_header: Some(DataPageHeader {
                num_values: size(values)?,
                encoding: Encoding::PLAIN,
                definition_level_encoding: Encoding::RLE,
                repetition_level_encoding: Encoding::RLE,
                statistics: None,
            }),
            index_page_header: None,
            dictionary_page_header: None,
            data_page_header_v2: None,
        };
        let start = self.offset;
        self.thrift(|protocol| header.write_to_out_protocol(protocol))?;
        let header_size = self.offset - start;
        self.write_all(body)?;
        chunk.values += values as u64;
        chunk.compressed += header_size + body.len() as u64;
        chunk.uncompressed += header_size + page.len() as u64;
        page.clear();
        self.page = page;
        self.compressed = compressed;
        self.progress.written += values as u128 * weight as u128;
        self.monitor
            .advance(self.progress.done(), self.progress.total)
    }
}

/// What the footer says of a column of a row group.
#[derive(Default)]
struct Chunk {
    start: u64,
    values: u64,
    compressed: u64,
    uncompressed: u64,
}

impl Chunk {
    fn at(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    fn finish(
        self,
        writer: &Writer<'_>,
        type_: Type,
        path: &[&str],
        statistics: Option<Statistics>,
    ) -> Result<ColumnChunk> {
        let metadata = ColumnMetaData {
            type_,
            encodings: vec![Encoding::PLAIN, Encoding::RLE],
            path_in_schema: path.iter().map(ToString::to_string).collect(),
            codec: match writer.compression {
                Compression::None => CompressionCodec::UNCOMPRESSED,
                Compression::Snappy => CompressionCodec::SNAPPY,
                Compression::Zstd => CompressionCodec::ZSTD,
            },
            num_values: signed(self.values)?,
            total_uncompressed_size: signed(self.uncompressed)?,
            total_compressed_size: signed(self.compressed)?,
            key_value_metadata: None,
            data_page_offset: signed(self.start)?,
            index_page_offset: None,
            dictionary_page_offset: None,
            statistics,
            encoding_stats: None,
            bloom_filter_offset: None,
        };
        Ok(ColumnChunk {
            file_path: None,
            file_offset: signed(self.start)?,
            meta_data: Some(metadata),
            offset_index_offset: None,
            offset_index_length: None,
            column_index_offset: None,
            column_index_length: None,
            crypto_metadata: None,
            encrypted_column_metadata: None,
        })
    }
}

/// The columns of one row group.
struct Columns<'r> {
    rows: &'r RowSet,
    page_rows: usize,
}

impl Columns<'_> {
    fn internal_id(&self, writer: &mut Writer<'_>) -> Result<ColumnChunk> {
        let ids = self.rows.internal_ids.iter().map(|&id| u64::from(id));
        self.required_u64(writer, "internal_id", ids)
    }

    fn label(&self, writer: &mut Writer<'_>) -> Result<ColumnChunk> {
        self.required_u64(writer, "label", self.rows.labels.iter().copied())
    }

    fn required_u64(
        &self,
        writer: &mut Writer<'_>,
        name: &str,
        values: impl Iterator<Item = u64>,
    ) -> Result<ColumnChunk> {
        let mut chunk = Chunk::at(writer.offset);
        let mut bounds: Bounds = None;
        let mut filled = 0;
        for value in values {
            writer.page.extend_from_slice(&value.to_le_bytes());
            bounds = Some(bounds.map_or((value, value), |(low, high)| {
                (low.min(value), high.max(value))
            }));
            filled += 1;
            if filled == self.page_rows {
                writer.flush_page(&mut chunk, filled, VALUE_WEIGHT)?;
                filled = 0;
            }
        }
        if filled > 0 {
            writer.flush_page(&mut chunk, filled, VALUE_WEIGHT)?;
        }
        chunk.finish(writer, Type::INT64, &[name], Some(statistics(bounds, 0)))
    }

    fn deleted(&self, writer: &mut Writer<'_>) -> Result<ColumnChunk> {
        let mut chunk = Chunk::at(writer.offset);
        for rows in self.rows.deleted.chunks(self.page_rows) {
            writer.page.extend(rows.chunks(8).map(pack_bits));
            writer.flush_page(&mut chunk, rows.len(), VALUE_WEIGHT)?;
        }
        chunk.finish(writer, Type::BOOLEAN, &["deleted"], None)
    }

    fn user_id(&self, writer: &mut Writer<'_>, reader: &mut RowReader<'_>) -> Result<ColumnChunk> {
        self.optional(writer, Type::BYTE_ARRAY, "user_id", |slot, values| {
            let Some(join) = reader.join() else {
                return Ok(false);
            };
            let Some(user_id) = join.user_id(slot)? else {
                return Ok(false);
            };
            let length = u32::try_from(user_id.len())
                .map_err(|_| Error::internal("a user id exceeds 4 GiB"))?;
            values.extend_from_slice(&length.to_le_bytes());
            values.extend_from_slice(user_id.as_bytes());
            Ok(true)
        })
    }

    fn seq_id(&self, writer: &mut Writer<'_>, reader: &mut RowReader<'_>) -> Result<ColumnChunk> {
        self.optional(writer, Type::INT64, "seq_id", |slot, values| {
            let seq_id = reader.join().and_then(|join| join.seq_id(slot));
            if let Some(seq_id) = seq_id {
                values.extend_from_slice(&seq_id.to_le_bytes());
            }
            Ok(seq_id.is_some())
        })
    }

    /// A nullable column. `push` appends the value of a row, if it has one, and tells whether.
    fn optional(
        &self,
        writer: &mut Writer<'_>,
        type_: Type,
        name: &str,
        mut push: impl FnMut(u32, &mut Vec<u8>) -> Result<bool>,
    ) -> Result<ColumnChunk> {
        let mut chunk = Chunk::at(writer.offset);
        let mut values = Vec::new();
        let mut nulls: u64 = 0;
        let mut slots = self.rows.slots.iter();
        while !slots.as_slice().is_empty() {
            values.clear();
            let mut rows = 0;
            // Runs of equal definition levels: 1 for a value, 0 for a null.
            let mut levels = Vec::new();
            let mut run = (1, 0);
            while rows < self.page_rows && values.len() < FULL_PAGE_BYTES {
                let Some(&slot) = slots.next() else {
                    break;
                };
                let level = u8::from(push(slot, &mut values)?);
                nulls += u64::from(1 - level);
                if level != run.0 {
                    push_run(&mut levels, run.0, run.1);
                    run = (level, 0);
                }
                run.1 += 1;
                rows += 1;
            }
            push_run(&mut levels, run.0, run.1);
            push_levels(&mut writer.page, |page| page.extend_from_slice(&levels));
            writer.page.extend_from_slice(&values);
            writer.flush_page(&mut chunk, rows, VALUE_WEIGHT)?;
        }
        let statistics = statistics(None, signed(nulls)?);
        chunk.finish(writer, type_, &[name], Some(statistics))
    }

    fn vector(
        &self,
        writer: &mut Writer<'_>,
        reader: &mut RowReader<'_>,
        dimension: usize,
        page_rows: usize,
    ) -> Result<ColumnChunk> {
        let mut chunk = Chunk::at(writer.offset);
        for ids in self.rows.internal_ids.chunks(page_rows) {
            let values = ids.len().saturating_mul(dimension);
            writer.page.reserve(values.saturating_mul(4));
            push_levels(&mut writer.page, |levels| {
                for _ in ids {
                    // A row starts with a 0, and goes on with 1s.
                    push_run(levels, 0, 1);
                    push_run(levels, 1, dimension - 1);
                }
            });
            push_levels(&mut writer.page, |levels| push_run(levels, 1, values));
            reader.vectors(ids, |vector| {
                writer
                    .page
                    .extend_from_slice(zerocopy::IntoBytes::as_bytes(vector));
            })?;
            writer.flush_page(&mut chunk, values, size_of::<f32>())?;
        }
        chunk.finish(writer, Type::FLOAT, &["vector", "list", "element"], None)
    }
}

/// Appends levels of bit width 1, with the length in bytes that a version 1 page puts before them.
fn push_levels(page: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = page.len();
    page.extend_from_slice(&[0; 4]);
    fill(page);
    let length = u32::try_from(page.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = page.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends a run of the RLE / bit-packing hybrid encoding, bit width 1.
fn push_run(levels: &mut Vec<u8>, level: u8, count: usize) {
    if count == 0 {
        return;
    }
    let mut header = (count as u64) << 1;
    while header >= 0x80 {
        levels.push(low_byte(header) | 0x80);
        header >>= 7;
    }
    levels.push(low_byte(header));
    levels.push(level);
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

/// Up to eight booleans as a byte, the first in the lowest bit.
fn pack_bits(bits: &[bool]) -> u8 {
    bits.iter()
        .rev()
        .fold(0, |byte, &bit| byte << 1 | u8::from(bit))
}

fn signed(value: impl TryInto<i64>) -> Result<i64> {
    value
        .try_into()
        .map_err(|_| Error::internal("a size in a Parquet footer exceeds 63 bits"))
}

fn statistics(bounds: Bounds, null_count: i64) -> Statistics {
    Statistics {
        max: None,
        min: None,
        null_count: Some(null_count),
        distinct_count: None,
        max_value: bounds.map(|(_, high)| high.to_le_bytes().to_vec()),
        min_value: bounds.map(|(low, _)| low.to_le_bytes().to_vec()),
    }
}

fn row_group(
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
        ordinal: i16::try_from(ordinal).ok(),
        columns,
    })
}

fn footer(header: &IndexHeader, row_groups: Vec<RowGroup>, num_rows: i64) -> Result<FileMetaData> {
    let mut key_values: Vec<_> = schema::metadata(header)
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value))
        .collect();
    key_values.push(KeyValue::new(
        "ARROW:schema".to_string(),
        arrow_schema(header)?,
    ));
    Ok(FileMetaData {
        version: 1,
        schema: schema_elements(),
        num_rows,
        row_groups,
        key_value_metadata: Some(key_values),
        created_by: Some(schema::CREATED_BY.to_string()),
        column_orders: Some(vec![ColumnOrder::TYPEORDER(TypeDefinedOrder {}); 6]),
        encryption_algorithm: None,
        footer_signing_key_metadata: None,
    })
}

/// The Arrow schema as Arrow readers look for it: an encapsulated IPC message in base64.
fn arrow_schema(header: &IndexHeader) -> Result<String> {
    let schema = schema::arrow_schema(header)?;
    let fields = arrow2::io::ipc::write::default_ipc_fields(&schema.fields);
    let message = arrow2::io::ipc::write::schema_to_bytes(&schema, &fields);
    let length = u32::try_from(message.len())
        .map_err(|_| Error::internal("the Arrow schema exceeds 4 GiB"))?;
    let mut bytes = vec![0xFF; 4];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&message);
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn schema_elements() -> Vec<SchemaElement> {
    use FieldRepetitionType as Repetition;

    let group = |name: &str, repetition, children, converted, logical| SchemaElement {
        type_: None,
        type_length: None,
        repetition_type: repetition,
        name: name.to_string(),
        num_children: Some(children),
        converted_type: converted,
        scale: None,
        precision: None,
        field_id: None,
        logical_type: logical,
    };
    let leaf = |name: &str, type_, repetition, converted, logical| SchemaElement {
        type_: Some(type_),
        num_children: None,
        ..group(name, Some(repetition), 0, converted, logical)
    };
    let u64_leaf = |name, repetition| {
        leaf(
            name,
            Type::INT64,
            repetition,
            Some(ConvertedType::UINT_64),
            Some(LogicalType::INTEGER(IntType {
                bit_width: 64,
                is_signed: false,
            })),
        )
    };
    vec![
        group("schema", None, 6, None, None),
        u64_leaf("internal_id", Repetition::REQUIRED),
        u64_leaf("label", Repetition::REQUIRED),
        leaf("deleted", Type::BOOLEAN, Repetition::REQUIRED, None, None),
        leaf(
            "user_id",
            Type::BYTE_ARRAY,
            Repetition::OPTIONAL,
            Some(ConvertedType::UTF8),
            Some(LogicalType::STRING(StringType {})),
        ),
        u64_leaf("seq_id", Repetition::OPTIONAL),
        group(
            "vector",
            Some(Repetition::REQUIRED),
            1,
            Some(ConvertedType::LIST),
            Some(LogicalType::LIST(ListType {})),
        ),
        group("list", Some(Repetition::REPEATED), 1, None, None),
        leaf("element", Type::FLOAT, Repetition::REQUIRED, None, None),
    ]
}
