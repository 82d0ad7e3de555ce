#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]

use super::*;
use crate::base::progress::{CancelToken, Progress};
use crate::error::ErrorKind;
use crate::test_extent::pairs;
use crate::verbs::build::tests::{structured, Random};
use crate::{build_index_from_vectors, GraphOptions, IoMode, OpenOptions};

fn open(
    data: &[f32],
    dimension: usize,
    metric: Metric,
    io: IoMode,
) -> (tempfile::TempDir, HnswIndex) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let options = GraphOptions {
        metric,
        m: 4,
        ef_construction: 20,
        seed: Some(1),
        ..GraphOptions::default()
    };
    let monitor = Monitor::default();
    build_index_from_vectors(data, dimension, None, &path, &options, &monitor).unwrap();
    let index = HnswIndex::open(&path, &OpenOptions::default().with_io(io)).unwrap();
    (directory, index)
}

fn options(k: usize, efs: &[usize], threads: usize) -> RecallOptions {
    RecallOptions {
        k,
        efs: efs.to_vec(),
        threads: Some(threads),
        ..RecallOptions::default()
    }
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    match metric {
        Metric::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
        Metric::SquaredEuclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum(),
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::DotProduct => 1.0 - dot(a, b),
        Metric::Manhattan => pairs().map(|(a, b)| (a - b).abs()).sum(),
    }
}

/// Computes recall from its definition, by a loop over all vectors.
fn recall_by_definition(
    index: &HnswIndex,
    data: &[f32],
    queries: &[f32],
    k: usize,
    ef: usize,
) -> f64 {
    let dimension = index.dimension();
    let (mut hits, mut wanted) = (0, 0);
    for query in queries.chunks(dimension) {
        let mut all: Vec<f64> = data
            .chunks(dimension)
            .map(|vector| distance(index.metric(), query, vector))
            .collect();
        all.sort_by(f64::total_cmp);
        all.truncate(k);
        let farthest = all.last().unwrap();
        let found = index.search(query, k, ef).unwrap();
        hits += found
            .iter()
            .filter(|hit| {
                let vector = &data[hit.label as usize * dimension..][..dimension];
                distance(index.metric(), query, vector) <= farthest + 1e-6 * farthest.abs()
            })
            .count();
        wanted += all.len();
    }
    hits as f64 / wanted as f64
}

#[test]
fn recall_matches_its_definition() {
    for dimension in [3, 7, 32, 50] {
        let data = structured(901, dimension, 1);
        let queries = structured(37, dimension, 2);
        for metric in Metric::ALL.iter().copied() {
            let (directory, index) = open(&data, dimension, metric, IoMode::Mmap);
            let efs = [10, 40];
            let expected = efs.map(|ef| recall_by_definition(&index, &data, &queries, 10, ef));
            for (&io, &threads) in pairs(&[IoMode::Mmap, IoMode::Read], &[1, 3]) {
                let path = directory.path().join("index.hnsw");
                let index = HnswIndex::open(path, &OpenOptions::default().with_io(io)).unwrap();
                let report = measure_recall(
                    &index,
                    &RecallQueries::Vectors(&queries),
                    &options(10, &efs, threads),
                    &Monitor::default(),
                )
                .unwrap();
                assert_eq!((report.queries, report.vectors), (37, 901));
                assert_eq!((report.k, report.threads), (10, threads));
                assert_eq!(report.rows.len(), efs.len());
                for (row, (ef, expected)) in report.rows.iter().zip(efs.iter().zip(expected)) {
                    assert_eq!(row.ef, *ef);
                    assert!(row.queries_per_second > 0.0);
                    // Rounding may swap one of 370 true neighbours for another at the same
                    // distance.
                    assert!(
                        (row.recall - expected).abs() < 0.003,
                        "{metric} × {dimension}: {}, not {expected}",
                        row.recall
                    );
                }
            }
        }
    }
}

#[test]
fn a_sampled_vector_is_not_its_own_neighbour() {
    // Distant pairs: the nearest neighbour of each vector is its partner.
    let mut data = Vec::new();
    for pair in 0..200 {
        let at = pair as f32 * 10.0;
        data.extend([at, 0.0, at, 1.0]);
    }
    for io in [IoMode::Mmap, IoMode::Read] {
        let (_directory, index) = open(&data, 2, Metric::Euclidean, io);
        let report = measure_recall(
            &index,
            &RecallQueries::Sample(1000),
            &options(1, &[100], 2),
            &Monitor::default(),
        )
        .unwrap();
        assert_eq!((report.queries, report.rows[0].recall), (400, 1.0));
        let sample = RecallQueries::Sample(50);
        let report = measure_recall(&index, &sample, &options(1, &[100], 2), &Monitor::default());
        assert_eq!(report.unwrap().queries, 50);
    }
}

#[test]
fn a_disconnected_graph_has_low_recall() {
    let data = structured(600, 8, 1);
    let (directory, index) = open(&data, 8, Metric::Euclidean, IoMode::Read);
    drop(index);
    let path = directory.path().join("index.hnsw");
    let mut bytes = std::fs::read(&path).unwrap();
    // Every link on level 0 leads back to its own node.
    let offsets = 256 + 600 * 32 + 600 * 4;
    for node in 0..600u32 {
        let offset: [u8; 8] = bytes[offsets + 8 * node as usize..][..8]
            .try_into()
            .unwrap();
        let at = u64::from_le_bytes(offset) as usize;
        for link in 0..bytes[at] as usize {
            bytes[at + 4 + 8 * link..][..4].copy_from_slice(&node.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let index = HnswIndex::open(&path, &OpenOptions::default()).unwrap();
    let sample = RecallQueries::Sample(600);
    let report = measure_recall(&index, &sample, &options(10, &[50], 1), &Monitor::default());
    // At most the node that the upper levels lead to.
    assert!(report.unwrap().rows[0].recall <= 0.1);
}

#[test]
fn vectors_at_equal_distance_are_equivalent() {
    let mut random = Random(3);
    let data: Vec<f32> = (0..500 * 2).map(|_| random.unit().round()).collect();
    let (_directory, index) = open(&data, 2, Metric::Euclidean, IoMode::Mmap);
    let report = measure_recall(
        &index,
        &RecallQueries::Vectors(&data[..200]),
        &options(5, &[500], 1),
        &Monitor::default(),
    )
    .unwrap();
    let expected = recall_by_definition(&index, &data, &data[..200], 5, 500);
    assert!((report.rows[0].recall - expected).abs() < 1e-9);
}

#[test]
fn invalid_options_are_refused() {
    let data = structured(50, 4, 1);
    let (directory, index) = open(&data, 4, Metric::Euclidean, IoMode::Mmap);
    let refused = |queries: RecallQueries<'_>, options: RecallOptions| {
        let error = measure_recall(&index, &queries, &options, &Monitor::default()).unwrap_err();
        error.to_string()
    };
    let sample = || RecallQueries::Sample(10);
    for (found, expected) in [
        (
            refused(sample(), options(0, &[10], 1)),
            "k: found 0, expected at least 1",
        ),
        (
            refused(sample(), options(1, &[], 1)),
            "ef: found none, expected at least one value",
        ),
        (
            refused(RecallQueries::Sample(0), options(1, &[1], 1)),
            "sample: found 0, expected at least 1",
        ),
        (
            refused(RecallQueries::Vectors(&[]), options(1, &[1], 1)),
            "queries: found none, expected at least one",
        ),
        (
            refused(RecallQueries::Vectors(&data[..3]), options(1, &[1], 1)),
            "queries: found 3 elements, expected a multiple of the dimension, 4",
        ),
        (
            refused(sample(), options(1, &[1], 0)),
            "threads: found 0, expected a number from 1 to 1024",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let missing = RecallQueries::File {
        path: directory.path().join("none.parquet"),
        format: ColumnarFormat::Parquet,
    };
    assert!(refused(missing, options(1, &[1], 1)).contains("none.parquet: cannot open"));
}

#[test]
fn progress_ends_at_its_total_and_cancelling_stops() {
    let data = structured(500, 4, 1);
    let (_directory, index) = open(&data, 4, Metric::Euclidean, IoMode::Mmap);
    let last = std::sync::Mutex::new(None);
    let report = |progress: Progress| *last.lock().unwrap() = Some(progress);
    let token = CancelToken::new();
    let monitor = Monitor::default().on_progress(&report).with_cancel(&token);
    let sample = RecallQueries::Sample(100);
    measure_recall(&index, &sample, &options(5, &[10], 2), &monitor).unwrap();
    let progress = last.lock().unwrap().unwrap();
    assert_eq!((progress.done, progress.total), (500, 500));
    token.cancel();
    let error = measure_recall(&index, &sample, &options(5, &[10], 2), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
