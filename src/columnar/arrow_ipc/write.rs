//! The Arrow IPC file format: a record batch for each `batch_size` rows.

use arrow2::array::{
    Array, BooleanArray, FixedSizeListArray, MutablePrimitiveArray, MutableUtf8Array,
    PrimitiveArray, TryPush, Utf8Array,
};
use arrow2::buffer::Buffer;
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field};
use arrow2::io::ipc::write::{FileWriter, WriteOptions};

use crate::chroma::IndexHeader;
use crate::columnar::columns as schema;
use crate::error::{Error, Result};
use crate::extract::rows::{RowReader, RowSet};
use crate::extract::{ColumnarOptions, Compression};
use crate::io::atomic::AtomicFile;
use crate::progress::Monitor;

/// A record batch holds fewer than `batch_size` rows when their vectors would exceed this.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// And it ends when its user ids hold this much.
const MAX_ID_BYTES: usize = 32 << 20;

pub(crate) fn write(
    rows: &mut RowReader<'_>,
    header: &IndexHeader,
    output: &mut AtomicFile,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<()> {
    if options.compression != Compression::None {
        return Err(Error::argument(
            "compression",
            options.compression,
            "none, as Arrow IPC is written uncompressed",
        ));
    }
    let target = output.target().to_path_buf();
    let write_error = |error| match error {
        arrow2::error::Error::Io(source) => Error::io(&target, "write")(source),
        other => Error::internal(other),
    };

    let schema = schema::arrow_schema(header)?;
    let types: Vec<_> = schema
        .fields
        .iter()
        .map(Field::data_type)
        .cloned()
        .collect();
    let mut writer = FileWriter::try_new(output, schema, None, WriteOptions { compression: None })
        .map_err(write_error)?;
    let most = MAX_BATCH_BYTES / header.dimension().saturating_mul(4).max(1);
    let batch_size = options.batch_size.min(most.max(1));
    let mut builders = Builders::new(types, header.dimension());
    let mut chosen = RowSet::default();
    loop {
        rows.choose(&mut chosen, batch_size, MAX_ID_BYTES, monitor)?;
        if chosen.is_empty() {
            break;
        }
        let batch = builders.fill(&chosen, rows)?;
        writer.write(&batch, None).map_err(write_error)?;
        builders.reclaim(batch);
        monitor.advance(rows.scanned(), rows.total())?;
    }
    writer.finish().map_err(write_error)
}

/// The columns that come from the metadata, one value or null for each slot.
fn joined(
    slots: &[u32],
    rows: &mut RowReader<'_>,
) -> Result<(Utf8Array<i32>, PrimitiveArray<u64>)> {
    let mut user_ids = MutableUtf8Array::<i32>::with_capacity(slots.len());
    let mut seq_ids = MutablePrimitiveArray::<u64>::with_capacity(slots.len());
    for &slot in slots {
        let mut user_id = None;
        let mut seq_id = None;
        if let Some(join) = rows.join() {
            seq_id = join.seq_id(slot);
            user_id = join.user_id(slot)?;
        }
        user_ids
            .try_push(user_id)
            .map_err(|_| too_many_bytes_of_ids())?;
        seq_ids.push(seq_id);
    }
    Ok((user_ids.into(), seq_ids.into()))
}

fn too_many_bytes_of_ids() -> Error {
    Error::argument(
        "batch_size",
        "rows whose user ids exceed 2 GiB",
        "fewer rows in a record batch",
    )
}

/// The columns of a record batch. The one large buffer is taken back after each batch.
struct Builders {
    types: Vec<DataType>,
    dimension: usize,
    vectors: Vec<f32>,
    /// Shared with the batch that was handed out.
    lent: Option<Buffer<f32>>,
}

impl Builders {
    fn new(types: Vec<DataType>, dimension: usize) -> Self {
        Self {
            types,
            dimension,
            vectors: Vec::new(),
            lent: None,
        }
    }

    fn fill(&mut self, chosen: &RowSet, rows: &mut RowReader<'_>) -> Result<Chunk<Box<dyn Array>>> {
        let [internal_id, label, deleted, _, _, vector] = self.types.as_slice() else {
            return Err(Error::internal("an export has six columns"));
        };
        let u64s = |type_: &DataType, values: Vec<u64>| {
            PrimitiveArray::try_new(type_.clone(), values.into(), None).map(PrimitiveArray::boxed)
        };

        self.vectors.clear();
        self.vectors
            .reserve_exact(chosen.len().saturating_mul(self.dimension));
        rows.vectors(&chosen.internal_ids, |vector| {
            self.vectors.extend_from_slice(vector);
        })?;
        let values = Buffer::from(std::mem::take(&mut self.vectors));
        self.lent = Some(values.clone());

        let ids = chosen
            .internal_ids
            .iter()
            .map(|&id| u64::from(id))
            .collect();
        let (user_ids, seq_ids) = joined(&chosen.slots, rows)?;
        let arrays = || {
            let values = PrimitiveArray::try_new(DataType::Float32, values, None)?;
            Ok(vec![
                u64s(internal_id, ids)?,
                u64s(label, chosen.labels.clone())?,
                BooleanArray::try_new(deleted.clone(), chosen.deleted.as_slice().into(), None)?
                    .boxed(),
                user_ids.boxed(),
                seq_ids.boxed(),
                FixedSizeListArray::try_new(vector.clone(), values.boxed(), None)?.boxed(),
            ])
        };
        arrays()
            .and_then(Chunk::try_new)
            .map_err(|error: arrow2::error::Error| Error::internal(error))
    }

    /// Takes the buffer of a batch back, so that the next one fills the same memory.
    fn reclaim(&mut self, batch: Chunk<Box<dyn Array>>) {
        drop(batch);
        if let Some(vectors) = self.lent.take().and_then(|lent| lent.into_mut().right()) {
            self.vectors = vectors;
        }
    }
}
