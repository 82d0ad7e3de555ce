//! Selection of the columns for labels and vectors.

use std::path::Path;

use crate::columnar::columns::{Column, ColumnType, Schema, Value};
use crate::columnar::source::WriteOptions;
use crate::columnar::write::TableWriter;
use crate::io::atomic::AtomicFile;
use crate::io::protected::Protected;
use crate::{
    build_index_from_columnar, build_index_from_vectors, measure_recall, search_index,
    BuildOptions, BuildSummary, ColumnarFormat, GraphOptions, HnswIndex, Metric, Monitor,
    OpenOptions, RecallOptions, RecallQueries, Result, SearchOptions, SearchSummary,
};

const ROWS: usize = 60;
const FORMATS: [ColumnarFormat; 2] = [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc];

/// The contents of a column of labels.
#[derive(Clone, Copy)]
enum Labels {
    Classes,
    Distinct,
    Negative,
    Texts,
}

fn vector(row: usize) -> [f32; 2] {
    [row as f32, (row * row % 7) as f32]
}

/// Writes rows with the columns `label`, and `embedding` or `vector`.
fn write(path: &Path, format: ColumnarFormat, vectors: &'static str, labels: Labels) {
    let schema = Schema {
        columns: vec![
            Column::required(
                "label",
                match labels {
                    Labels::Texts => ColumnType::Utf8,
                    _ => ColumnType::Int64,
                },
            ),
            Column::required(vectors, ColumnType::Vector(2)),
        ],
        metadata: Vec::new(),
    };
    let options = WriteOptions {
        format,
        batch_size: 16,
        ..WriteOptions::default()
    };
    let mut file = AtomicFile::create(path, Protected::names(&[])).unwrap();
    let mut table = TableWriter::new(&mut file, &schema, &options).unwrap();
    for row in 0..ROWS {
        let number = row as i64;
        let label = match labels {
            Labels::Classes => Value::Int64(number % 3),
            Labels::Distinct => Value::Int64(number + 1000),
            Labels::Negative => Value::Int64(-1 - number),
            Labels::Texts => Value::Utf8(["cat", "dog"][row % 2]),
        };
        table.push(0, label).unwrap();
        table.push(1, Value::Vector(&vector(row))).unwrap();
        table.end_row().unwrap();
    }
    table.finish().unwrap();
    file.commit().unwrap();
}

fn build(input: &Path, output: &Path, options: &BuildOptions) -> Result<BuildSummary> {
    build_index_from_columnar(input, output, options, &Monitor::default())
}

fn search(
    index: &Path,
    queries: &Path,
    options: &SearchOptions,
) -> Result<(Vec<u64>, SearchSummary)> {
    let mut nearest = Vec::new();
    let options = options.clone().with_k(1).with_ef(ROWS);
    let monitor = Monitor::default();
    let summary = search_index(index, queries, &options, &monitor, |query, neighbours| {
        assert_eq!(query, nearest.len() as u64);
        nearest.push(neighbours[0].label);
        Ok(())
    })?;
    Ok((nearest, summary))
}

#[test]
fn queries_use_any_vector_column_and_ignore_labels() {
    let directory = tempfile::tempdir().unwrap();
    let (file, index) = (directory.path().join("in"), directory.path().join("x.hnsw"));
    let rows: Vec<u64> = (0..ROWS as u64).collect();
    for format in FORMATS {
        for labels in [
            Labels::Classes,
            Labels::Distinct,
            Labels::Negative,
            Labels::Texts,
        ] {
            for name in ["embedding", "vector"] {
                write(&file, format, name, labels);
                let options = BuildOptions::default()
                    .with_format(format)
                    .with_vector_column(name.to_string())
                    .with_row_numbers(true);
                let summary = build(&file, &index, &options).unwrap();
                assert_eq!(summary.warnings, [""; 0]);

                let options = SearchOptions::default().with_queries_format(format);
                let named = options.clone().with_vector_column(name.to_string());
                let (nearest, summary) = search(&index, &file, &named).unwrap();
                assert_eq!((nearest, summary.queries), (rows.clone(), ROWS as u64));
                let without = search(&index, &file, &options);
                assert_eq!(without.is_ok(), name == "vector");

                let opened = HnswIndex::open(&index, &OpenOptions::default()).unwrap();
                let queries = RecallQueries::File {
                    path: file.clone(),
                    format,
                };
                let options = RecallOptions::default()
                    .with_efs([ROWS])
                    .with_vector_column(name.to_string());
                let report =
                    measure_recall(&opened, &queries, &options, &Monitor::default()).unwrap();
                assert_eq!((report.queries, report.rows[0].recall), (ROWS as u64, 1.0));
            }
        }
    }
}

#[test]
fn repeated_labels_warn_unless_row_numbers_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let (file, index) = (directory.path().join("in"), directory.path().join("x.hnsw"));
    for format in FORMATS {
        let options = BuildOptions::default().with_format(format);
        write(&file, format, "vector", Labels::Classes);
        let summary = build(&file, &index, &options).unwrap();
        assert_eq!(
            summary.warnings,
            [
                "column label: 57 of 60 labels repeat another label, so results do not identify \
              a vector; --row-numbers (row_numbers) uses the row numbers instead"
            ]
        );
        let numbered = options.clone().with_row_numbers(true);
        assert_eq!(build(&file, &index, &numbered).unwrap().warnings, [""; 0]);
        let search_options = SearchOptions::default().with_queries_format(format);
        let (nearest, _) = search(&index, &file, &search_options).unwrap();
        assert_eq!(nearest, (0..ROWS as u64).collect::<Vec<_>>());

        write(&file, format, "vector", Labels::Distinct);
        assert_eq!(build(&file, &index, &options).unwrap().warnings, [""; 0]);
        let (nearest, _) = search(&index, &file, &search_options).unwrap();
        assert_eq!(nearest, (1000..1000 + ROWS as u64).collect::<Vec<_>>());

        for labels in [Labels::Texts, Labels::Negative] {
            write(&file, format, "vector", labels);
            let error = build(&file, &index, &options).unwrap_err();
            assert_eq!(error.code(), 202, "{error}");
            assert!(error.to_string().contains("column label"), "{error}");
            assert_eq!(build(&file, &index, &numbered).unwrap().warnings, [""; 0]);
        }

        let both = numbered.with_label_column("label".to_string());
        assert_eq!(
            build(&file, &index, &both).unwrap_err().to_string(),
            "label_column: found label, expected none with row_numbers"
        );
    }
    let data: Vec<f32> = (0..ROWS).flat_map(vector).collect();
    let labels: Vec<u64> = (0..ROWS as u64).map(|row| row.max(1)).collect();
    let options = GraphOptions::default().with_metric(Metric::Euclidean);
    let monitor = Monitor::default();
    let summary = build_index_from_vectors(&data, 2, Some(&labels), &index, &options, &monitor);
    assert!(summary.unwrap().warnings[0].starts_with("labels: 1 of 60 labels repeat another"));
}
