//! Indexes built from real collections and searched: by the library and by the command line,
//! compared with fast-hnsw.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow2::array::{ListArray, PrimitiveArray};
use arrow2::datatypes::{DataType, Field};
use fast_hnsw::distance::{Cosine, Distance, DotProduct, Euclidean, Manhattan, SquaredEuclidean};
use fast_hnsw::labeled::LabeledIndex;
use hnsw_toolbox::{
    build_index_from_columnar, extract_index_to_columnar, search_index, search_index_to_columnar,
    BuildOptions, ColumnarFormat, ColumnarOptions, Engine, GraphOptions, HnswIndex, IoMode, Metric,
    Monitor, Neighbour, OpenOptions, SearchOptions,
};
use serde_json::{json, Value};

use crate::support::{
    extent, fixtures, fixtures_root, pairs, BINARY, FORMATS, IO_MODES, REPOSITORY,
};

const K: usize = 10;
const EF: usize = 60;

/// A collection's vectors, their number, and the path for an index of them.
struct Case {
    rows: u64,
    directory: tempfile::TempDir,
    format: ColumnarFormat,
    vectors: PathBuf,
    index: PathBuf,
}

fn extract(segment: &Path, format: ColumnarFormat) -> Case {
    let directory = tempfile::tempdir().unwrap();
    let vectors = directory.path().join(match format {
        ColumnarFormat::ArrowIpc => "vectors.arrow",
        _ => "vectors.parquet",
    });
    let options = ColumnarOptions::default().with_format(format);
    let monitor = Monitor::default();
    let summary = extract_index_to_columnar(segment, &vectors, &options, &monitor).unwrap();
    let index = directory.path().join("index.hnsw");
    Case {
        rows: summary.emitted,
        directory,
        format,
        vectors,
        index,
    }
}

impl Case {
    fn build(&self, metric: Metric, engine: Engine) {
        let graph = GraphOptions::default()
            .with_metric(metric)
            .with_engine(engine)
            .with_m(8)
            .with_ef_construction(40)
            .with_seed(7);
        let options = BuildOptions::default()
            .with_graph(graph)
            .with_format(self.format);
        let monitor = Monitor::default();
        build_index_from_columnar(&self.vectors, &self.index, &options, &monitor).unwrap();
    }
}

fn churn() -> Case {
    let case = extract(
        &fixtures_root().join("1.5.9/churn/segment"),
        ColumnarFormat::Parquet,
    );
    case.build(Metric::Euclidean, Engine::Native);
    case
}

/// A query, and the labels and distances of fast-hnsw's results.
type Hits = (Vec<f32>, Vec<(u64, f32)>);

/// The results of fast-hnsw for every `step`-th vector of the index.
fn hits<D: Distance>(index: &Path, metric: D, step: usize) -> Vec<Hits> {
    let index = LabeledIndex::<D, u64>::load(index, metric).unwrap();
    (0..index.len())
        .step_by(step)
        .map(|node| {
            // Moved slightly, so that it differs from all vectors.
            let mut query = index.get_embedding(node).to_vec();
            for (number, element) in query.iter_mut().enumerate() {
                *element += [0.003, -0.002, 0.001][number % 3];
            }
            let hits = index.search(&query, K, EF);
            let hits = hits
                .iter()
                .map(|hit| (*hit.payload, hit.distance))
                .collect();
            (query, hits)
        })
        .collect()
}

#[test]
fn every_fixture_gives_the_results_of_fast_hnsw() {
    let (mut searches, mut other_labels) = (0, 0);
    let fixtures = fixtures();
    let step = extent(10, 7);
    for (number, (fixture, &metric)) in pairs(&fixtures, Metric::ALL).into_iter().enumerate() {
        let case = extract(&fixture.join("segment"), ColumnarFormat::Parquet);
        // A collection that was never flushed has no vectors to build from.
        if case.rows == 0 {
            continue;
        }
        let engine = Engine::ALL[number % Engine::ALL.len()];
        case.build(metric, engine);
        let expected = match metric {
            Metric::Euclidean => hits(&case.index, Euclidean, step),
            Metric::SquaredEuclidean => hits(&case.index, SquaredEuclidean, step),
            Metric::Cosine => hits(&case.index, Cosine, step),
            Metric::DotProduct => hits(&case.index, DotProduct, step),
            _ => hits(&case.index, Manhattan, step),
        };
        for io in IO_MODES {
            let options = OpenOptions::default().with_io(io);
            let index = HnswIndex::open(&case.index, &options).unwrap();
            assert_eq!(index.metric(), metric);
            for (query, expected) in &expected {
                let found = index.search(query, K, EF).unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, (label, distance)) in found.iter().zip(expected) {
                    // Rounding of sums of up to a few hundred terms.
                    let close = (found.distance - distance).abs() <= 2e-5 * distance.abs().max(1.0);
                    assert!(
                        close,
                        "{metric} {engine} {}: {} at {}, not {label} at {distance}",
                        fixture.display(),
                        found.label,
                        found.distance
                    );
                    searches += 1;
                    // The label is then one of several at the same distance.
                    other_labels += usize::from(found.label != *label);
                }
            }
        }
    }
    assert!(searches > extent(4000, 10_000), "{searches}");
    assert!(other_labels * 50 < searches, "{other_labels} of {searches}");
}

type Results = Vec<(u64, Vec<(u64, f32)>)>;

/// Reads an output with arrow2, after a check of its columns.
fn read_arrow(path: &Path) -> Results {
    let mut file = std::fs::File::open(path).unwrap();
    let metadata = arrow2::io::ipc::read::read_file_metadata(&mut file).unwrap();
    let list = |type_| DataType::List(Box::new(Field::new("item", type_, false)));
    assert_eq!(
        metadata.schema.fields,
        [
            Field::new("query", DataType::UInt64, false),
            Field::new("labels", list(DataType::UInt64), false),
            Field::new("distances", list(DataType::Float32), false),
        ]
    );
    let mut results = Vec::new();
    for batch in arrow2::io::ipc::read::FileReader::new(file, metadata, None, None) {
        let batch = batch.unwrap();
        let [queries, labels, distances] = batch.arrays() else {
            panic!("{} columns", batch.arrays().len());
        };
        let queries: &PrimitiveArray<u64> = queries.as_any().downcast_ref().unwrap();
        let labels: &ListArray<i32> = labels.as_any().downcast_ref().unwrap();
        let distances: &ListArray<i32> = distances.as_any().downcast_ref().unwrap();
        for row in 0..batch.len() {
            let (labels, distances) = (labels.value(row), distances.value(row));
            let labels: &PrimitiveArray<u64> = labels.as_any().downcast_ref().unwrap();
            let distances: &PrimitiveArray<f32> = distances.as_any().downcast_ref().unwrap();
            let pairs = labels
                .values_iter()
                .copied()
                .zip(distances.values_iter().copied());
            results.push((queries.value(row), pairs.collect()));
        }
    }
    results
}

fn neighbours(found: &[Neighbour]) -> Vec<(u64, f32)> {
    let pair = |neighbour: &Neighbour| (neighbour.label, neighbour.distance);
    found.iter().map(pair).collect()
}

#[test]
fn answers_in_a_file_equal_those_of_the_library() {
    for format in FORMATS {
        let case = extract(&fixtures_root().join("1.5.9/l2/segment"), format);
        case.build(Metric::Euclidean, Engine::Native);
        let monitor = Monitor::default();
        for io in IO_MODES {
            let options = SearchOptions::default()
                .with_k(5)
                .with_ef(40)
                .with_queries_format(format)
                .with_output_format(ColumnarFormat::ArrowIpc)
                .with_batch_size(100)
                .with_threads(2)
                .with_io(io);
            let mut answers: Results = Vec::new();
            let summary = search_index(
                &case.index,
                &case.vectors,
                &options,
                &monitor,
                |row, found| {
                    answers.push((row, neighbours(found)));
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(summary.queries, answers.len() as u64);
            assert_eq!(summary.found, 5 * summary.queries);
            assert!(summary.queries > 500 && summary.vectors == summary.queries);
            // Every vector is its own nearest, or as near as an equal one.
            assert!(answers.iter().all(|(_, found)| found[0].1 == 0.0));
            assert!((0..).zip(&answers).all(|(number, (row, _))| number == *row));

            let output = case.directory.path().join("answers.arrow");
            let written =
                search_index_to_columnar(&case.index, &case.vectors, &output, &options, &monitor);
            assert_eq!(written.unwrap(), summary);
            assert_eq!(read_arrow(&output), answers);
        }
    }
}

fn run(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(BINARY);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.is_empty(), "{error}");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn error(output: &Output, status: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(output.stdout.is_empty());
    error
}

#[test]
fn the_command_line_prints_neighbours_or_writes_a_file() {
    let case = churn();
    let index = HnswIndex::open(&case.index, &OpenOptions::default()).unwrap();
    let mut expected: Results = Vec::new();
    let options = SearchOptions::default().with_k(3).with_ef(50);
    let monitor = Monitor::default();
    search_index(
        &case.index,
        &case.vectors,
        &options,
        &monitor,
        |row, found| {
            expected.push((row, neighbours(found)));
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(expected.len(), index.len());

    let arguments: [&dyn AsRef<std::ffi::OsStr>; 8] = [
        &"search",
        &case.index,
        &"--queries",
        &case.vectors,
        &"--k",
        &"3",
        &"--ef",
        &"50",
    ];
    let text = printed(&run(&arguments));
    let lines: Vec<_> = text.lines().collect();
    let rows: Vec<String> = expected
        .iter()
        .flat_map(|(row, found)| {
            found
                .iter()
                .map(move |(label, distance)| format!("{row}\t{label}\t{distance}"))
        })
        .collect();
    assert_eq!(lines, rows);

    let with = |more: &[&dyn AsRef<std::ffi::OsStr>]| run(&[&arguments[..], more].concat());
    let answer: Value = serde_json::from_str(&printed(&with(&[&"--json"]))).unwrap();
    assert_eq!(answer["answers"].as_array().unwrap().len(), expected.len());
    assert_eq!(answer["answers"][7]["query"], 7);
    let first = &answer["answers"][7]["neighbours"][0];
    assert_eq!(first["label"], expected[7].1[0].0);
    assert_eq!(answer["summary"]["metric"], "euclidean");

    let output = case.directory.path().join("answers.arrow");
    let answer: Value =
        serde_json::from_str(&printed(&with(&[&"-o", &output, &"--json"]))).unwrap();
    assert_eq!(
        answer,
        json!({
            "index_path": case.index, "queries_path": case.vectors, "output_path": output,
            "output_format": "arrow_ipc", "complete": true,
            "summary": {
                "metric": "euclidean", "vectors": 960, "dimension": 5, "queries": 960,
                "found": 2880,
            },
        })
    );
    assert_eq!(read_arrow(&output), expected);
    let text = printed(&with(&[
        &"-o",
        &output,
        &"--threads",
        &"2",
        &"--io",
        &"read",
    ]));
    assert!(text.contains("2880 neighbours of 960 queries"), "{text}");
    assert_eq!(read_arrow(&output), expected);
}

#[test]
fn the_command_line_explains_why_a_search_is_impossible() {
    let case = churn();
    let queries: [&dyn AsRef<std::ffi::OsStr>; 4] =
        [&"search", &case.index, &"--queries", &case.vectors];
    let with = |more: &[&dyn AsRef<std::ffi::OsStr>]| run(&[&queries[..], more].concat());
    let words = error(&with(&[&"--metric", &"cosine"]), 2);
    assert!(
        words.contains("metric: found cosine, expected euclidean, as"),
        "{words}"
    );
    assert!(error(&with(&[&"--k", &"0"]), 2).contains("k: found 0"));
    assert!(error(&with(&[&"-o", &case.vectors]), 1).contains("vectors.parquet"));
    let words = error(&with(&[&"-o", &"out.csv"]), 2);
    assert!(words.contains("OUT: found out.csv"), "{words}");
    let other = extract(
        &fixtures_root().join("1.5.9/l2/segment"),
        ColumnarFormat::Parquet,
    );
    let words = error(
        &run(&[&"search", &case.index, &"--queries", &other.vectors]),
        1,
    );
    assert!(words.contains("column vector: found dimension"), "{words}");
    // A file other than an index.
    let words = error(&run(&[&"recall", &case.vectors]), 1);
    assert!(words.contains("magic: found PAR1"), "{words}");
}

#[test]
fn the_command_line_measures_recall() {
    let case = churn();
    let text = printed(&run(&[
        &"recall",
        &case.index,
        &"--sample",
        &"100",
        &"--ef",
        &"20,80",
    ]));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1], ["ef", "recall@10", "queries/s"]);
    assert_eq!((rows.len(), rows[2][0], rows[3][0]), (4, "20", "80"));
    let recall: f64 = rows[3][1].parse().unwrap();
    assert!((0.95..=1.0).contains(&recall), "{text}");

    let answer = printed(&run(&[
        &"recall",
        &case.index,
        &"--queries",
        &case.vectors,
        &"--k",
        &"1",
        &"--ef",
        &"60",
        &"--threads",
        &"2",
        &"--json",
    ]));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["queries"], 960);
    assert_eq!(answer["rows"][0]["recall"], 1.0);
}

#[test]
fn a_hnsw_file_is_recognised_by_its_first_bytes() {
    let case = churn();
    let renamed = case.directory.path().join("an index");
    std::fs::rename(&case.index, &renamed).unwrap();
    let report: Value =
        serde_json::from_str(&printed(&run(&[&"inspect", &renamed, &"--json"]))).unwrap();
    assert_eq!(report["metric"], "euclidean");
    assert_eq!(
        (&report["vectors"], &report["dimension"]),
        (&json!(960), &json!(5))
    );
    assert_eq!((&report["m"], &report["m0"]), (&json!(8), &json!(16)));
    let sum = |field: &str, of: &str| -> u64 {
        let list = report[field].as_array().unwrap().iter();
        list.map(|entry| entry.get(of).unwrap_or(entry).as_u64().unwrap())
            .sum()
    };
    assert_eq!((sum("levels", ""), sum("degrees", "nodes")), (960, 960));
    assert_eq!(report["unreachable"], 0);
    assert_eq!(report["damaged"], false);
    let bytes = std::fs::metadata(&renamed).unwrap().len();
    assert_eq!(report["bytes"], bytes);
    let text = printed(&run(&[&"inspect", &renamed]));
    assert!(text.contains("ef_construction         40"), "{text}");

    for io in IO_MODES.map(IoMode::name) {
        let text = printed(&run(&[&"verify", &renamed, &"--io", &io]));
        assert!(text.starts_with("healthy"), "{text}");
    }
    let mut damaged = std::fs::read(&renamed).unwrap();
    damaged.truncate(damaged.len() - 1);
    std::fs::write(&renamed, damaged).unwrap();
    let output = run(&[&"verify", &renamed, &"--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["state"], "torn_data");
    assert_eq!(report["findings"][0]["code"], "labels.unreadable");
    let words = error(&run(&[&"inspect", &case.vectors]), 1);
    assert!(words.contains("a file of another kind"), "{words}");
}

#[path = "../../examples/search.rs"]
#[allow(
    dead_code,
    clippy::print_stdout,
    reason = "an example has a main function, and prints"
)]
mod example;

#[test]
fn the_example_finds_its_query_vector() {
    let output = tempfile::tempdir().unwrap();
    let segment = fixtures_root().join("1.5.9/churn/segment");
    let neighbours = example::run(&segment, output.path()).unwrap();
    assert_eq!(neighbours.len(), 3);
    assert_eq!(neighbours[0].distance, 0.0);
}

/// A file with vectors in the column `embedding` and labels in `key`.
fn named(format: &str) -> PathBuf {
    Path::new(REPOSITORY)
        .join("tests/fixtures/columnar")
        .join(format!("pyarrow-named.{format}"))
}

#[test]
fn the_command_line_reads_queries_from_any_column() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("index.hnsw");
    for format in ["parquet", "arrow"] {
        let file = named(format);
        let column: [&dyn AsRef<std::ffi::OsStr>; 2] = [&"--vector-column", &"embedding"];
        let with = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| run(&[arguments, &column].concat());
        printed(&with(&[&"build", &file, &"-o", &index, &"--row-numbers"]));
        let answer = printed(&with(&[
            &"search",
            &index,
            &"--queries",
            &file,
            &"--k",
            &"1",
            &"--json",
        ]));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["summary"]["damaged_skipped"], Value::Null);
        let answers = answer["answers"].as_array().unwrap();
        assert!(!answers.is_empty());
        for (row, answer) in answers.iter().enumerate() {
            assert_eq!(answer["query"], row);
            assert_eq!(answer["neighbours"][0]["label"], row);
        }
        let answer = printed(&with(&[
            &"recall",
            &index,
            &"--queries",
            &file,
            &"--k",
            &"1",
            &"--json",
        ]));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["rows"][0]["recall"], 1.0);
        let words = error(&run(&[&"search", &index, &"--queries", &file]), 1);
        assert!(
            words.contains("column vector: found no such column"),
            "{words}"
        );
        let both = with(&[
            &"build",
            &file,
            &"-o",
            &index,
            &"--row-numbers",
            &"--label-column",
            &"key",
        ]);
        assert!(error(&both, 2).contains("--row-numbers"));
    }
}

#[test]
fn the_command_line_warns_of_skipped_damaged_vectors() {
    let case = churn();
    let mut bytes = std::fs::read(&case.index).unwrap();
    for node in [3, 400, 800] {
        bytes[256 + 20 * node..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&case.index, bytes).unwrap();
    let output = case.directory.path().join("answers.parquet");
    for arguments in [
        &[&"--json" as &dyn AsRef<std::ffi::OsStr>][..],
        &[&"-o", &output, &"--json"],
        &[],
        &[&"-o", &output],
    ] {
        let search: [&dyn AsRef<std::ffi::OsStr>; 6] = [
            &"search",
            &case.index,
            &"--queries",
            &case.vectors,
            &"--ef",
            &"960",
        ];
        let result = run(&[&search[..], arguments].concat());
        assert!(result.status.success());
        let words = String::from_utf8(result.stderr).unwrap();
        assert!(
            words.contains("warning: 3 damaged vectors of the graph file are in no answer"),
            "{words}"
        );
        let text = String::from_utf8(result.stdout).unwrap();
        assert!(!text.contains("NaN") && !text.contains("null"), "{text}");
        if arguments.len() % 2 == 1 {
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["summary"]["damaged_skipped"], 3);
        }
    }
    let result = run(&[&"recall", &case.index, &"--sample", &"960", &"--json"]);
    let report: Value = serde_json::from_slice(&result.stdout).unwrap();
    assert_eq!(
        (&report["damaged_skipped"], &report["queries"]),
        (&json!(3), &json!(957))
    );
    assert_eq!(run(&[&"verify", &case.index]).status.code(), Some(1));
}

#[test]
fn every_reading_command_documents_its_default_read_mode() {
    for (command, default) in [
        ("extract", "mmap"),
        ("build", "mmap"),
        ("search", "mmap"),
        ("recall", "mmap"),
        ("inspect", "read"),
        ("verify", "read"),
        ("collections", "read"),
        ("export", "read"),
        ("repair", "read"),
    ] {
        let help = printed(&run(&[&command, &"-h"]));
        let (_, io) = help.split_once("--io <IO>").unwrap();
        let (_, value) = io.split_once("[default: ").unwrap();
        assert!(value.starts_with(default), "{command}: {help}");
    }
}
