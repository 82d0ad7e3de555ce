//! Input of both formats' writers: options, and rows that can be read column by column.

use super::columns::Builder;
use super::{ColumnarFormat, Compression, DEFAULT_BATCH_SIZE};
use crate::error::{Error, Result};

/// Options for writing a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) format: ColumnarFormat,
    /// Compression of Parquet pages; Arrow IPC is written uncompressed.
    pub(crate) compression: Compression,
    /// Maximum number of rows in a page or record batch.
    pub(crate) batch_size: usize,
    /// Bytes of vectors per Parquet row group, before compression.
    pub(crate) row_group_bytes: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            format: ColumnarFormat::default(),
            compression: Compression::default(),
            batch_size: DEFAULT_BATCH_SIZE,
            row_group_bytes: 64 << 20,
        }
    }
}

impl WriteOptions {
    /// Number of rows whose vectors of `row_bytes` fill `bytes`; at least 1 and at most
    /// `batch_size`.
    pub(super) fn batch_rows(&self, bytes: usize, row_bytes: usize) -> usize {
        // Rows without vectors (0 bytes) have no limit in bytes.
        let most = bytes.checked_div(row_bytes).unwrap_or(usize::MAX);
        self.batch_size.min(most).max(1)
    }
}

/// Rows chosen group by group. Each column of a group is read separately.
pub(crate) trait ColumnSource {
    /// Chooses the next rows: at most `rows`, or fewer if their strings reach `string_bytes`.
    /// Returns their number; 0 means the end.
    fn next_group(&mut self, rows: usize, string_bytes: usize) -> Result<usize>;

    /// Pushes values of column number `column` from row `from` of the group. Stops when `builder`
    /// is full or the group ends, after at least one value.
    fn fill(&mut self, column: usize, from: usize, builder: &mut Builder) -> Result<()>;
}

/// Pushes values of `rows` into `builder` until it is full. Returns their number.
pub(super) fn fill(
    source: &mut impl ColumnSource,
    column: usize,
    rows: std::ops::Range<usize>,
    builder: &mut Builder,
) -> Result<usize> {
    source.fill(column, rows.start, builder)?;
    let filled = builder.len();
    if filled == 0 || filled > rows.len() {
        return Err(Error::internal(format!(
            "{filled} values of column {} for {} rows",
            builder.column().name,
            rows.len()
        )));
    }
    Ok(filled)
}
