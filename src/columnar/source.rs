//! What both formats' writers are given: the options, and rows that can be gone over column by column.

use super::columns::Builder;
use super::{ColumnarFormat, Compression, DEFAULT_BATCH_SIZE};
use crate::error::{Error, Result};

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) format: ColumnarFormat,
    /// Of Parquet pages; Arrow IPC is not compressed.
    pub(crate) compression: Compression,
    /// Most rows in a page or record batch.
    pub(crate) batch_size: usize,
    /// Bytes of vectors in a Parquet row group, before compression.
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
    /// The rows whose vectors, of `row_bytes` each, fill `bytes`: `batch_size` at most.
    pub(super) fn batch_rows(&self, bytes: usize, row_bytes: usize) -> usize {
        let most = bytes.checked_div(row_bytes).unwrap_or(usize::MAX);
        self.batch_size.min(most).max(1)
    }
}

/// Rows that are chosen group by group. Each column of a group is read by itself.
pub(crate) trait ColumnSource {
    /// Chooses the rows that follow: at most `rows`, or fewer, when their strings hold
    /// `string_bytes`. Returns their number, which is 0 at the end.
    fn next_group(&mut self, rows: usize, string_bytes: usize) -> Result<usize>;

    /// Pushes values of column number `column`, from row `from` of the group on, until `builder` is
    /// full or the group ends; at least one.
    fn fill(&mut self, column: usize, from: usize, builder: &mut Builder) -> Result<()>;
}

/// Pushes the values of `rows` rows into `builder`, as many as it takes, and says how many.
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
