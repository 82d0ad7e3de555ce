//! Property: building from any Parquet or Arrow IPC file never panics or allocates without bound, and
//! neither does reading all its columns as a table. Mapping and reading the file give the same index
//! or the same kind of error.
//!
//! Input: the format (u8, even for Parquet), and the file.

use std::path::Path;

use super::Directory;
use crate::columnar::table::{ColumnKind, Table, TableOptions, TableRow};
use crate::{
    build_index_from_columnar, BuildOptions, ColumnarFormat, GraphOptions, IoMode, Monitor,
};

pub fn property(bytes: &[u8]) -> bool {
    let [format, file @ ..] = bytes else {
        return false;
    };
    let directory = Directory::new();
    let input = directory.write("input", file);
    let output = directory.path().join("output");
    let build = |io| {
        let options = BuildOptions {
            format: match format % 2 {
                0 => ColumnarFormat::Parquet,
                _ => ColumnarFormat::ArrowIpc,
            },
            batch_size: 16,
            graph: GraphOptions {
                m: 2,
                ef_construction: 8,
                // A few bytes can encode a huge number of rows.
                capacity: Some(256),
                seed: Some(1),
                threads: Some(1),
                ..GraphOptions::default()
            },
            io,
            ..BuildOptions::default()
        };
        build_index_from_columnar(&input, &output, &options, &Monitor::default())
            .map(|summary| (summary, std::fs::read(&output).unwrap()))
            .map_err(|error| {
                assert!(error.code() < 900, "{error}");
                error.code()
            })
    };
    let mapped = build(IoMode::Mmap);
    assert!(mapped == build(IoMode::Read));
    assert_eq!(
        read_table(&input, IoMode::Mmap),
        read_table(&input, IoMode::Read)
    );
    true
}

/// Reads rows of all columns. Returns the number of vectors and of cells, or the code of the error.
fn read_table(input: &Path, io: IoMode) -> Result<(usize, usize), u16> {
    /// A few bytes can encode a huge number of rows.
    const MAX_ROWS: u64 = 64;
    let read = || {
        let table = Table::open(input, &TableOptions { format: None, io })?;
        assert!(table.metadata().len() <= input.metadata().unwrap().len() as usize);
        let columns = table.columns().to_vec();
        let vector = columns.iter().find(|column| column.kind.is_vector_like());
        let cells = columns
            .iter()
            .filter(|column| !matches!(column.kind, ColumnKind::Other(_)));
        let cells: Vec<&str> = cells.map(|column| &*column.name).collect();
        let vector = vector.map(|column| &*column.name);
        let mut reader = table.select(vector, &cells)?.accept_non_finite();
        let (mut row, mut found) = (TableRow::default(), (0, 0));
        while row.number < MAX_ROWS && reader.next(&mut row)? {
            if let Some(vector) = row.vector() {
                assert_eq!(vector.len(), reader.dimension());
                found.0 += 1;
            }
            assert_eq!(row.cells.len(), cells.len());
            found.1 += row.cells.len();
        }
        reader.check_unchanged()?;
        Ok(found)
    };
    read().map_err(|error: crate::Error| {
        assert!(error.code() < 900, "{error}");
        error.code()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("build_index", super::property);
    }
}
