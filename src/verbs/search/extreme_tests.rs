//! Searches of vectors with extreme norms, and of damaged vectors.

use std::path::Path;

use super::*;
use crate::test_extent::pairs;
use crate::verbs::build::tests::{structured, ENGINES, OURS};
use crate::{
    build_index_from_vectors, measure_recall, verify_hnsw, Engine, GraphOptions, Monitor,
    RecallOptions, RecallQueries, VerifyOptions,
};

const DIMENSION: usize = 12;
const VECTORS: usize = 100;

fn build(data: &[f32], engine: Engine, metric: Metric, path: &Path) {
    let options = GraphOptions {
        engine,
        metric,
        m: 8,
        ef_construction: 60,
        seed: Some(3),
        ..GraphOptions::default()
    };
    let monitor = Monitor::default();
    build_index_from_vectors(data, DIMENSION, None, path, &options, &monitor).unwrap();
}

fn modes() -> [OpenOptions; 3] {
    let mapped = OpenOptions::default();
    [
        mapped.clone(),
        mapped.clone().with_io(IoMode::Read),
        mapped.with_load(true),
    ]
}

fn recall(index: &HnswIndex, queries: &RecallQueries<'_>, ef: usize) -> crate::RecallReport {
    let options = RecallOptions::default().with_efs([ef]).with_threads(2);
    measure_recall(index, queries, &options, &Monitor::default()).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    1.0 - dot(a, b) / dot(a, a).sqrt() / dot(b, b).sqrt()
}

#[test]
fn cosine_answers_are_right_at_extreme_norms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let scales = [1e-30, 1e-22, 1e-19, 1.0, 1e18, 1e20, 1e30, 1e37];
    let mut data = structured(VECTORS, DIMENSION, 4);
    for (row, vector) in data.chunks_mut(DIMENSION).enumerate() {
        let scale = scales[row * 7 % 11 % scales.len()];
        vector.iter_mut().for_each(|component| *component *= scale);
    }
    for (&engine, options) in ENGINES.iter().zip(modes().iter().cycle()) {
        build(&data, engine, Metric::Cosine, &path);
        let index = HnswIndex::open(&path, options).unwrap();
        let queries = structured(10, DIMENSION, 9);
        for (number, query) in queries.chunks(DIMENSION).enumerate() {
            let scale = scales[number % scales.len()];
            let query: Vec<f32> = query.iter().map(|component| component * scale).collect();
            let found = index.search(&query, 10, VECTORS).unwrap();
            let mut expected: Vec<f64> = data
                .chunks(DIMENSION)
                .map(|vector| cosine(&query, vector))
                .collect();
            for hit in &found {
                let expected = expected[hit.label as usize];
                assert!(
                    (f64::from(hit.distance) - expected).abs() < 1e-5,
                    "{engine} {scale}: label {} at {}, not {expected}",
                    hit.label,
                    hit.distance
                );
            }
            if engine == Engine::HnswRs {
                // This engine does not make every node reachable.
                continue;
            }
            expected.sort_by(f64::total_cmp);
            assert_eq!(found.len(), 10);
            for (hit, expected) in found.iter().zip(expected) {
                assert!((f64::from(hit.distance) - expected).abs() < 1e-5);
            }
        }
        let report = recall(&index, &RecallQueries::Vectors(&data[..600]), VECTORS);
        let least = if engine == Engine::HnswRs { 0.9 } else { 0.999 };
        assert!(report.rows[0].recall > least, "{engine}: {report:?}");
    }
}

/// Sets a component of the vectors of some nodes to NaN or infinity.
fn damage(path: &Path, nodes: &[usize]) {
    let values = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let mut bytes = std::fs::read(path).unwrap();
    for node in nodes {
        let at = 256 + 4 * (node * DIMENSION + node % DIMENSION);
        bytes[at..at + 4].copy_from_slice(&values[node % 4].to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_vectors_are_traversed_skipped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let data = structured(VECTORS, DIMENSION, 4);
    let queries = structured(4, DIMENSION, 2);
    for (&engine, &metric) in pairs(OURS, Metric::ALL) {
        build(&data, engine, metric, &path);
        let good = std::fs::read(&path).unwrap();
        let entry_point = usize::from(good[52]) + 256 * usize::from(good[53]);
        let thirds = (0..VECTORS).step_by(3).collect();
        let most = (0..VECTORS).filter(|node| node % 10 != 4).collect();
        for nodes in [vec![entry_point], thirds, most, (0..VECTORS).collect()] {
            std::fs::write(&path, &good).unwrap();
            damage(&path, &nodes);
            let sound = VECTORS - nodes.len();
            for options in modes() {
                let index = HnswIndex::open(&path, &options).unwrap();
                for query in queries.chunks(DIMENSION) {
                    // With a candidate per vector, every reachable vector is found.
                    let found = index.search(query, VECTORS, VECTORS).unwrap();
                    assert_eq!(found.len(), sound, "{engine} {metric}");
                    assert!(found.is_sorted_by_key(|hit| hit.distance));
                    for hit in &found {
                        assert!(!hit.distance.is_nan(), "{engine} {metric}");
                        assert!(!nodes.contains(&(hit.label as usize)));
                    }
                    let few = index.search(query, 5, 5).unwrap();
                    assert_eq!(few.len(), sound.min(5), "{engine} {metric}");
                    assert!(few.iter().all(|hit| hit.distance.is_finite()));
                }
                assert_eq!(index.damaged_vectors(), nodes.len() as u64);
            }
            let index = HnswIndex::open(&path, &OpenOptions::default()).unwrap();
            let report = recall(&index, &RecallQueries::Vectors(&queries), VECTORS);
            assert_eq!(report.damaged_skipped, nodes.len() as u64);
            assert_eq!(report.rows[0].recall, 1.0, "{engine} {metric}");
            if sound > 0 {
                let report = recall(&index, &RecallQueries::Sample(VECTORS), VECTORS);
                assert_eq!(report.queries, sound as u64);
                assert_eq!(report.rows[0].recall, 1.0, "{engine} {metric}");
            }
            let report =
                verify_hnsw(&path, &VerifyOptions::default(), &Monitor::default()).unwrap();
            let finding = report
                .findings
                .iter()
                .find(|f| f.code == "vectors.not_finite");
            assert!(report.damaged);
            assert_eq!(finding.unwrap().count, nodes.len() as u64);
        }
    }
}

#[test]
fn a_sound_index_reports_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let data = structured(VECTORS, DIMENSION, 4);
    build(&data, Engine::default(), Metric::Cosine, &path);
    let index = HnswIndex::open(&path, &OpenOptions::default()).unwrap();
    index.search_batch(&data, 3, 50, None).unwrap();
    assert_eq!(index.damaged_vectors(), 0);
}

#[test]
fn an_empty_index_of_an_impossible_dimension_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let mut bytes = vec![0; 272];
    bytes[..8].copy_from_slice(b"HNSWNDX\0");
    bytes[8] = 1;
    bytes[52..60].fill(0xff);
    for (dimension, allowed) in [
        (0, true),
        (1536, true),
        (1 << 29, false),
        (1 << 44, false),
        (1 << 62, false),
        (u64::MAX, false),
    ] {
        bytes[20..28].copy_from_slice(&u64::to_le_bytes(dimension));
        std::fs::write(&path, &bytes).unwrap();
        for options in modes() {
            let opened = HnswIndex::open(&path, &options.with_metric(Metric::Cosine));
            match opened {
                Ok(index) => assert!(allowed && index.is_empty()),
                Err(error) => {
                    assert!(!allowed && error.code() == 200, "{error}");
                    let words = format!("dimension: found {dimension}, expected at most 536870911");
                    assert!(error.to_string().ends_with(&words), "{error}");
                }
            }
        }
    }
}
