//! The usual way to convert such an index to a columnar file: read records through a BufReader,
//! collect batches of 1,024 rows with the same six columns, and pass them to arrow-rs.
//!
//! `extract_arrow_rs WRITER INDEX_DIR OUT`, where WRITER is `parquet` (default properties),
//! `parquet-plain` (no dictionary, no statistics, row groups of 16,384 rows) or `ipc`.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure, Context, Result};
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

const BATCH_ROWS: usize = 1024;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [writer, index_dir, out] = arguments.as_slice() else {
        bail!("usage: extract_arrow_rs parquet|parquet-plain|ipc INDEX_DIR OUT");
    };
    let mut batches = Batches::open(Path::new(index_dir))?;
    let schema = batches.schema.clone();
    let file = File::create(out).with_context(|| out.clone())?;
    match writer.as_str() {
        "parquet" => write_parquet(&mut batches, file, schema, WriterProperties::default()),
        "parquet-plain" => {
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_statistics_enabled(EnabledStatistics::None)
                .set_max_row_group_size(16_384)
                .build();
            write_parquet(&mut batches, file, schema, properties)
        }
        "ipc" => {
            let mut writer = FileWriter::try_new_buffered(file, &schema)?;
            while let Some(batch) = batches.next()? {
                writer.write(&batch)?;
            }
            Ok(writer.finish()?)
        }
        other => bail!("WRITER: found {other}, expected parquet, parquet-plain or ipc"),
    }
}

fn write_parquet(
    batches: &mut Batches,
    file: File,
    schema: SchemaRef,
    properties: WriterProperties,
) -> Result<()> {
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
    while let Some(batch) = batches.next()? {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(())
}

/// Reads records of an index with a 64-bit header.
struct Batches {
    data: BufReader<File>,
    schema: SchemaRef,
    element: FieldRef,
    record: Vec<u8>,
    offset_data: usize,
    label_offset: usize,
    next_id: u64,
    count: u64,
}

impl Batches {
    fn open(index_dir: &Path) -> Result<Self> {
        let header = fs::read(index_dir.join("header.bin"))?;
        ensure!(header.len() == 100, "header.bin: not 100 bytes long");
        let word = |at: usize| -> Result<usize> {
            let bytes = header[at..at + 8].try_into()?;
            Ok(u64::from_le_bytes(bytes).try_into()?)
        };
        let (count, record_size) = (word(20)? as u64, word(28)?);
        let (label_offset, offset_data) = (word(36)?, word(44)?);
        let element = Arc::new(Field::new("item", DataType::Float32, false));
        let dimension = i32::try_from((label_offset - offset_data) / 4)?;
        let schema = Schema::new(vec![
            Field::new("internal_id", DataType::UInt64, false),
            Field::new("label", DataType::UInt64, false),
            Field::new("deleted", DataType::Boolean, false),
            Field::new("user_id", DataType::Utf8, true),
            Field::new("seq_id", DataType::UInt64, true),
            Field::new(
                "vector",
                DataType::FixedSizeList(element.clone(), dimension),
                false,
            ),
        ]);
        Ok(Self {
            data: BufReader::new(File::open(index_dir.join("data_level0.bin"))?),
            schema: Arc::new(schema),
            element,
            record: vec![0; record_size],
            offset_data,
            label_offset,
            next_id: 0,
            count,
        })
    }

    /// The next batch of live records.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let dimension = (self.label_offset - self.offset_data) / 4;
        let mut internal_ids = Vec::with_capacity(BATCH_ROWS);
        let mut labels = Vec::with_capacity(BATCH_ROWS);
        let mut values = Vec::with_capacity(BATCH_ROWS * dimension);
        while internal_ids.len() < BATCH_ROWS && self.next_id < self.count {
            let internal_id = self.next_id;
            self.next_id += 1;
            self.data.read_exact(&mut self.record)?;
            let deleted = self.record[2] & 1 == 1;
            if deleted {
                continue;
            }
            let label = &self.record[self.label_offset..self.label_offset + 8];
            internal_ids.push(internal_id);
            labels.push(u64::from_le_bytes(label.try_into()?));
            let vector = self.record[self.offset_data..self.label_offset].chunks_exact(4);
            values.extend(vector.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        let rows = internal_ids.len();
        if rows == 0 {
            return Ok(None);
        }
        let vectors = FixedSizeListArray::try_new(
            self.element.clone(),
            i32::try_from(dimension)?,
            Arc::new(Float32Array::from(values)),
            None,
        )?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(internal_ids)),
            Arc::new(UInt64Array::from(labels)),
            Arc::new(BooleanArray::from(vec![false; rows])),
            Arc::new(StringArray::new_null(rows)),
            Arc::new(UInt64Array::new_null(rows)),
            Arc::new(vectors),
        ];
        Ok(Some(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}
