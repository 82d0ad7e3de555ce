//! Rows of a columnar file, batch by batch.

/// Live rows that follow each other in the input.
#[derive(Debug, Default)]
pub(crate) struct RowBatch {
    /// Row number in the file of the first row looked at.
    pub(crate) first_row: u64,
    /// Elements of each vector.
    pub(crate) dimension: usize,
    /// Live rows only, row-major.
    pub(crate) vectors: Vec<f32>,
    /// The label of each live row.
    pub(crate) labels: Vec<u64>,
    /// The row number in the file of each live row.
    pub(crate) rows: Vec<u64>,
    /// Rows looked at.
    pub(crate) scanned: u64,
    /// Rows left out because they are deleted.
    pub(crate) deleted_skipped: u64,
}
