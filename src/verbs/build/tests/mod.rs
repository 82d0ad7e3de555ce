//! Properties of all engines, checked on the bytes they write and with the loader and search of
//! the fast-hnsw crate.

mod sets;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use fast_hnsw::distance as reference;
use fast_hnsw::labeled::LabeledIndex;

use super::*;
use crate::base::progress::{CancelToken, Progress};
use crate::error::ErrorKind;
use crate::graph::distance::Metric;
use crate::test_extent::{extent, pairs};

/// SplitMix64: the same data on every platform.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [−1, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Returns points of a smooth 12-dimensional surface in `dimension` dimensions, like embeddings.
pub(crate) fn structured(count: usize, dimension: usize, seed: u64) -> Vec<f32> {
    const LATENT: usize = 12;
    let mut random = Random(7);
    let mixing: Vec<f32> = (0..LATENT * dimension).map(|_| random.unit()).collect();
    let mut random = Random(seed);
    let mut data = Vec::with_capacity(count * dimension);
    for _ in 0..count {
        let latent: Vec<f32> = (0..LATENT).map(|_| random.unit()).collect();
        for column in 0..dimension {
            let sum: f32 = latent
                .iter()
                .enumerate()
                .map(|(row, value)| value * mixing[row * dimension + column])
                .sum();
            data.push(sum.tanh());
        }
    }
    data
}

/// A source of rows in memory.
struct Rows {
    batches: std::vec::IntoIter<RowBatch>,
}

impl Rows {
    fn new(data: &[f32], dimension: usize, labels: &[u64], batch_size: usize) -> Self {
        let batches: Vec<RowBatch> = labels
            .chunks(batch_size)
            .zip(data.chunks(batch_size * dimension))
            .enumerate()
            .map(|(number, (labels, vectors))| {
                let first_row = (number * batch_size) as u64;
                RowBatch {
                    dimension,
                    vectors: vectors.to_vec(),
                    labels: labels.to_vec(),
                    rows: (first_row..first_row + labels.len() as u64).collect(),
                    scanned: labels.len() as u64,
                    deleted_skipped: 0,
                    without_vector: 0,
                }
            })
            .collect();
        Self {
            batches: batches.into_iter(),
        }
    }
}

impl RowSource for Rows {
    fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        *batch = self.batches.next().unwrap_or_default();
        Ok(batch.scanned != 0)
    }
}

struct Built {
    /// Removes the file when dropped.
    _dir: tempfile::TempDir,
    path: PathBuf,
    summary: BuildSummary,
}

fn build_rows(
    mut rows: impl RowSource,
    options: &GraphOptions,
    monitor: &Monitor<'_>,
) -> Result<Built> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.hnsw");
    options.check()?;
    let summary = {
        let output = (path.as_path(), Protected::names(&[]));
        build_to(
            &mut rows,
            "input.parquet".as_ref(),
            output,
            options,
            monitor,
        )?
    };
    Ok(Built {
        _dir: dir,
        path,
        summary,
    })
}

fn build(data: &[f32], dimension: usize, options: &GraphOptions) -> Result<Built> {
    build_in_batches(data, dimension, 100, options)
}

fn build_in_batches(
    data: &[f32],
    dimension: usize,
    batch_size: usize,
    options: &GraphOptions,
) -> Result<Built> {
    let labels: Vec<u64> = (0..data.len() / dimension).map(label_of).collect();
    let rows = Rows::new(data, dimension, &labels, batch_size);
    build_rows(rows, options, &Monitor::default())
}

/// All engines that are compiled in.
pub(crate) const ENGINES: &[Engine] = if cfg!(feature = "hnsw_rs") {
    Engine::ALL
} else {
    OURS
};

/// The engines of this crate, which keep all of its guarantees.
pub(crate) const OURS: &[Engine] = &[Engine::Native, Engine::Partition];

fn label_of(node: usize) -> u64 {
    1_000_000_007 * (node as u64 + 1)
}

fn options(engine: Engine, metric: Metric) -> GraphOptions {
    GraphOptions {
        engine,
        metric,
        m: 8,
        ef_construction: 60,
        threads: Some(2),
        ..GraphOptions::default()
    }
}

/// A graph file, parsed independently of the crate's reader.
struct Parsed {
    m: u64,
    m0: u64,
    ef_construction: u64,
    entry_point: u64,
    entry_point_level: u64,
    dimension: usize,
    vectors: Vec<f32>,
    /// For each node and each of its levels.
    links: Vec<Vec<Vec<(u32, f32)>>>,
    labels: Vec<u64>,
}

impl Parsed {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(&bytes[..8], b"HNSWNDX\0");
        assert_eq!(u32_at(8), 1);
        assert_eq!(&bytes[72..84], b"hnswtool\x01\0\0\0");
        assert!((1..=5).contains(&bytes[84]));
        assert!(bytes[85..256].iter().all(|byte| *byte == 0));
        let (n, dimension) = (u64_at(12) as usize, u64_at(20) as usize);
        let vectors = (0..n * dimension)
            .map(|at| f32::from_bits(u32_at(256 + 4 * at)))
            .collect();
        let levels_at = 256 + 4 * n * dimension;
        let offsets_at = levels_at + 4 * n;
        let mut at = offsets_at + 8 * n;
        let mut links = Vec::new();
        for node in 0..n {
            assert_eq!(u64_at(offsets_at + 8 * node), at as u64, "offset of {node}");
            let mut layers = Vec::new();
            for _ in 0..=u32_at(levels_at + 4 * node) {
                let count = u32_at(at) as usize;
                at += 4;
                layers.push(
                    (0..count)
                        .map(|link| {
                            let at = at + 8 * link;
                            (u32_at(at), f32::from_bits(u32_at(at + 4)))
                        })
                        .collect(),
                );
                at += 8 * count;
            }
            links.push(layers);
        }
        assert_eq!(u64_at(at), n as u64);
        assert_eq!(u64_at(at + 8), 8);
        let labels = (0..n).map(|node| u64_at(at + 16 + 8 * node)).collect();
        assert_eq!(bytes.len(), at + 16 + 8 * n);
        Self {
            m: u64_at(28),
            m0: u64_at(36),
            ef_construction: u64_at(44),
            entry_point: u64_at(52),
            entry_point_level: u64_at(60),
            dimension,
            vectors,
            links,
            labels,
        }
    }

    fn vector(&self, node: u32) -> &[f32] {
        let start = node as usize * self.dimension;
        &self.vectors[start..start + self.dimension]
    }

    /// Panics if the graph is invalid. Returns the number of nodes unreachable over level 0.
    fn check_graph(&self) -> usize {
        let n = self.links.len();
        let entry_point = self.entry_point as usize;
        let top = self.links.iter().map(Vec::len).max().unwrap();
        assert_eq!(self.links[entry_point].len(), top);
        assert_eq!(self.entry_point_level as usize, top - 1);
        for (node, layers) in self.links.iter().enumerate() {
            for (layer, links) in layers.iter().enumerate() {
                let most = if layer == 0 { self.m0 } else { self.m };
                assert!(
                    links.len() as u64 <= most,
                    "degree of {node} on level {layer}"
                );
                let ids: HashSet<u32> = links.iter().map(|link| link.0).collect();
                assert_eq!(ids.len(), links.len(), "a neighbour of {node} comes twice");
                for id in ids {
                    assert!((id as usize) < n, "{node} has neighbour {id} of {n}");
                    assert_ne!(id as usize, node, "{node} is its own neighbour");
                    assert!(
                        self.links[id as usize].len() > layer,
                        "{id}, neighbour of {node}, is not on level {layer}"
                    );
                }
            }
        }
        let mut seen = vec![false; n];
        let mut open = vec![entry_point];
        seen[entry_point] = true;
        while let Some(node) = open.pop() {
            for (id, _) in &self.links[node][0] {
                if !std::mem::replace(&mut seen[*id as usize], true) {
                    open.push(*id as usize);
                }
            }
        }
        seen.iter().filter(|seen| !**seen).count()
    }
}

fn reference_distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    use reference::Distance;
    match metric {
        Metric::Euclidean => reference::Euclidean.distance(a, b),
        Metric::SquaredEuclidean => reference::SquaredEuclidean.distance(a, b),
        Metric::Cosine => reference::Cosine.distance(a, b),
        Metric::DotProduct => reference::DotProduct.distance(a, b),
        Metric::Manhattan => reference::Manhattan.distance(a, b),
    }
}

/// Searches with fast-hnsw, and returns the labels found for each query. Asserts that its loaders
/// `load` and `load_mmap` give the same results.
fn search(path: &Path, metric: Metric, queries: &[f32], k: usize, ef: usize) -> Vec<Vec<u64>> {
    fn both<D: reference::Distance + Copy>(
        path: &Path,
        metric: D,
        queries: &[f32],
        k: usize,
        ef: usize,
    ) -> Vec<Vec<u64>> {
        let owned = LabeledIndex::<D, u64>::load(path, metric).unwrap();
        let mapped = LabeledIndex::<D, u64>::load_mmap(path, metric).unwrap();
        let dimension = owned.get_embedding(0).len();
        queries
            .chunks(dimension)
            .map(|query| {
                let labels = |index: &LabeledIndex<D, u64>| -> Vec<u64> {
                    let hits = index.search(query, k, ef);
                    hits.iter().map(|hit| *hit.payload).collect()
                };
                let found = labels(&owned);
                assert_eq!(found, labels(&mapped));
                found
            })
            .collect()
    }
    match metric {
        Metric::Euclidean => both(path, reference::Euclidean, queries, k, ef),
        Metric::SquaredEuclidean => both(path, reference::SquaredEuclidean, queries, k, ef),
        Metric::Cosine => both(path, reference::Cosine, queries, k, ef),
        Metric::DotProduct => both(path, reference::DotProduct, queries, k, ef),
        Metric::Manhattan => both(path, reference::Manhattan, queries, k, ef),
    }
}

/// Returns the fraction of the ten results that are as near as the true ten nearest.
fn recall_by_distance(path: &Path, metric: Metric, data: &[f32], queries: &[f32]) -> f64 {
    const K: usize = 10;
    let dimension = sets::DIMENSION;
    let vectors: Vec<&[f32]> = data.chunks(dimension).collect();
    let found = search(path, metric, queries, K, 50);
    let mut hits = 0;
    for (query, found) in queries.chunks(dimension).zip(&found) {
        let distance = |vector: &&[f32]| reference_distance(metric, query, vector);
        let mut all: Vec<f32> = vectors.iter().map(distance).collect();
        all.sort_by(f32::total_cmp);
        let farthest = all[K - 1] + 1e-6 * all[K - 1].abs().max(1.0);
        let vector_of = |label: &u64| vectors[(label / label_of(0)) as usize - 1];
        let distances = found.iter().map(|label| distance(&vector_of(label)));
        hits += distances.filter(|distance| *distance <= farthest).count();
    }
    hits as f64 / (K * found.len()) as f64
}

fn check_sets(sets: Vec<sets::Set>, metrics: &[Metric]) {
    for set in sets {
        let queries = set.queries.concat();
        // The first order is the characteristic one of the set.
        for order in extent(&sets::ORDERS[..1], &sets::ORDERS) {
            let data = set.arranged(order);
            for (&engine, &metric) in OURS
                .iter()
                .flat_map(|o| metrics.iter().map(move |m| (o, m)))
            {
                let built = build(&data, sets::DIMENSION, &options(engine, metric)).unwrap();
                let name = format!("{}, {order}, {engine}, {metric}", set.name);
                assert_eq!(Parsed::read(&built.path).check_graph(), 0, "{name}");
                let recall = recall_by_distance(&built.path, metric, &data, &queries);
                assert!(recall >= 0.95, "{name}: {recall}");
            }
        }
    }
}

#[test]
fn recall_does_not_depend_on_the_order_of_rows() {
    check_sets(sets::ordered(), &[Metric::Euclidean]);
}

#[test]
fn every_engine_searches_distant_clusters_equally_well() {
    let set = sets::clusters();
    let data = set.arranged("in order");
    let metric = Metric::SquaredEuclidean;
    let recalls = OURS.iter().map(|&engine| {
        let built = build(&data, sets::DIMENSION, &options(engine, metric)).unwrap();
        recall_by_distance(&built.path, metric, &data, &set.queries.concat())
    });
    let recalls: Vec<f64> = recalls.collect();
    let lowest = recalls[0] - 0.005;
    assert!(
        recalls.iter().all(|recall| *recall >= lowest),
        "{recalls:?}"
    );
}

#[test]
fn equal_vectors_do_not_disconnect_the_graph() {
    check_sets(sets::equal(), &[Metric::Euclidean, Metric::Cosine]);
}

#[test]
fn equal_vectors_leave_every_node_reachable_under_every_metric() {
    let sets = sets::equal();
    for (set, &metric) in pairs(&sets, Metric::ALL) {
        for &engine in OURS {
            // The lists are so short that links to duplicates, and links added for reachability,
            // displace others.
            let options = options(engine, metric)
                .with_m(2)
                .with_m0(2)
                .with_ef_construction(8);
            let data = set.arranged("shuffled");
            let built = build(&data, sets::DIMENSION, &options).unwrap();
            let name = format!("{}, {engine}, {metric}", set.name);
            assert_eq!(Parsed::read(&built.path).check_graph(), 0, "{name}");
        }
    }
}

#[test]
fn cosine_treats_vectors_of_one_direction_as_duplicates() {
    let sets = sets::equal();
    for (set, &engine) in pairs(&sets, OURS) {
        let mut random = Random(6);
        let mut data = set.arranged("shuffled");
        for vector in data.chunks_mut(sets::DIMENSION) {
            let norm = 1.5 + random.unit();
            vector.iter_mut().for_each(|component| *component *= norm);
        }
        let metric = Metric::Cosine;
        let built = build(&data, sets::DIMENSION, &options(engine, metric)).unwrap();
        assert_eq!(Parsed::read(&built.path).check_graph(), 0, "{}", set.name);
        let recall = recall_by_distance(&built.path, metric, &data, &set.queries.concat());
        assert!(recall >= 0.95, "{}, {engine}: {recall}", set.name);
    }
}

#[test]
fn duplicates_give_the_same_bytes_for_any_thread_count() {
    let sets = sets::equal();
    for (set, &engine) in pairs(&sets, OURS) {
        let data = set.arranged("shuffled");
        let bytes = |threads: usize| {
            let options = options(engine, Metric::Euclidean).with_threads(threads);
            let built = build(&data, sets::DIMENSION, &options).unwrap();
            std::fs::read(&built.path).unwrap()
        };
        let one = bytes(1);
        assert!(one == bytes(2) && one == bytes(5), "{}, {engine}", set.name);
    }
}

#[test]
fn vectors_beyond_the_range_of_f32_are_counted() {
    let dimension = 6;
    let ordinary = structured(40, dimension, 8);
    let warnings = |metric: Metric, size: f32| {
        let mut data = ordinary.clone();
        for value in data.iter_mut().take(10 * dimension) {
            *value *= size;
        }
        let built = build(&data, dimension, &options(Engine::default(), metric)).unwrap();
        let found = search(&built.path, metric, &data[..10 * dimension], 1, 40);
        let itself = (0..10)
            .filter(|row| found[*row] == [label_of(*row)])
            .count();
        (built.summary.warnings, itself)
    };
    let long =
        "10 of 40 vectors are too long for f32: distances to them overflow, and searches may \
                not find them";
    let short =
        "10 of 40 vectors are so short that their squares underflow f32: searches take them \
                 for zeros";
    // The counts of `itself` are from searches with fast-hnsw.
    let cosine = [
        "10 of 40 vectors are so long that their squares overflow f32: searches with fast-hnsw may \
         not find them",
        "10 of 40 vectors are so short that their squares underflow f32: searches with fast-hnsw \
         take them for zeros",
    ];
    for metric in [Metric::Euclidean, Metric::SquaredEuclidean, Metric::Cosine] {
        let [long, short] = match metric {
            Metric::Cosine => cosine,
            _ => [long, short],
        };
        let (found, itself) = warnings(metric, 1e30);
        assert_eq!(found, [long], "{metric}");
        assert!(metric != Metric::Cosine || itself <= 1, "{itself}");
        let (found, itself) = warnings(metric, 1e-30);
        assert_eq!(found, [short], "{metric}");
        assert!(itself <= 1, "{metric}: {itself}");
        for size in [1e15, 1e-15] {
            let (found, itself) = warnings(metric, size);
            assert!(
                found.is_empty() && itself == 10,
                "{metric} {size}: {found:?} {itself}"
            );
        }
    }
    assert_eq!(warnings(Metric::DotProduct, 1e30).0, [long]);
    assert_eq!(warnings(Metric::Manhattan, 1e38).0, [long]);
    assert!(warnings(Metric::Manhattan, 1e-30).0.is_empty());
    assert!(warnings(Metric::Cosine, 0.0).0.is_empty());
}

#[test]
fn a_build_without_comparable_vectors_is_refused() {
    let mut data = structured(10, 3, 8);
    data[..15].iter_mut().for_each(|value| *value *= 1e30);
    data[15..].iter_mut().for_each(|value| *value *= 1e-30);
    assert!(build(&data, 3, &options(Engine::default(), Metric::Cosine)).is_ok());
    let error = build(&data, 3, &options(Engine::default(), Metric::Euclidean))
        .err()
        .unwrap();
    assert_eq!(error.code(), 202);
    assert_eq!(
        error.to_string(),
        "input.parquet: vectors: found 5 of 10 vectors are too long for f32: distances to them \
         overflow, and searches may not find them; 5 of 10 vectors are so short that their squares \
         underflow f32: searches take them for zeros, expected at least one vector whose norm is \
         representable as f32"
    );
}

/// Returns the fraction of the true `k` nearest that are found.
fn recall(
    built: &Built,
    metric: Metric,
    data: &[f32],
    dimension: usize,
    queries: &[f32],
    ef: usize,
) -> f64 {
    const K: usize = 10;
    let found = search(&built.path, metric, queries, K, ef);
    let mut hits = 0;
    for (query, found) in queries.chunks(dimension).zip(&found) {
        let mut all: Vec<(f32, u64)> = data
            .chunks(dimension)
            .enumerate()
            .map(|(node, vector)| (reference_distance(metric, query, vector), label_of(node)))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        hits += all[..K]
            .iter()
            .filter(|(_, label)| found.contains(label))
            .count();
    }
    hits as f64 / (K * found.len()) as f64
}

fn close(found: f32, expected: f32, scale: f32) -> bool {
    (found - expected).abs() <= 1e-5 * scale.max(expected.abs())
}

#[test]
fn fast_hnsw_finds_the_nearest_vectors_for_every_metric() {
    let dimension = 20;
    let data = structured(1500, dimension, 1);
    let queries = structured(50, dimension, 2);
    for (&engine, &metric) in pairs(ENGINES, Metric::ALL) {
        let built = build(&data, dimension, &options(engine, metric)).unwrap();
        assert_eq!(built.summary.inserted, 1500);
        let recall = recall(&built, metric, &data, dimension, &queries, 60);
        assert!(recall > 0.95, "{engine} {metric}: recall {recall}");
    }
}

#[test]
fn every_vector_is_its_own_nearest_neighbour() {
    let dimension = 16;
    let data = structured(600, dimension, 3);
    let metrics = [Metric::Euclidean, Metric::Cosine, Metric::Manhattan];
    for (&engine, &metric) in pairs(ENGINES, &metrics) {
        // With a seed: without one, hnsw_rs sometimes leaves a node unreachable on several threads.
        let options = GraphOptions {
            seed: Some(1),
            ..options(engine, metric)
        };
        let built = build(&data, dimension, &options).unwrap();
        let found = search(&built.path, metric, &data, 1, 60);
        let wrong = (0..600)
            .filter(|node| found[*node] != [label_of(*node)])
            .count();
        assert_eq!(wrong, 0, "{engine} {metric}");
    }
}

#[test]
fn the_file_has_the_input_a_valid_graph_and_exact_distances() {
    let dimension = 7;
    let smooth = structured(700, dimension, 4);
    let mut random = Random(5);
    let noise: Vec<f32> = (0..700 * dimension).map(|_| random.unit()).collect();
    for (&engine, &metric) in pairs(ENGINES, Metric::ALL) {
        for data in [&smooth, &noise] {
            let built = build(data, dimension, &options(engine, metric)).unwrap();
            let parsed = Parsed::read(&built.path);
            assert_eq!(&parsed.vectors, data);
            assert_eq!(parsed.dimension, dimension);
            assert_eq!((parsed.m, parsed.m0, parsed.ef_construction), (8, 16, 60));
            let labels: Vec<u64> = (0..700).map(label_of).collect();
            assert_eq!(parsed.labels, labels);
            let unreachable = parsed.check_graph();
            // Under the dot product, a short vector is nobody's nearest neighbour.
            let most = match metric {
                _ if OURS.contains(&engine) => 0,
                Metric::DotProduct => 70,
                _ => 2,
            };
            assert!(
                unreachable <= most,
                "{engine} {metric}: {unreachable} of 700"
            );
            for (node, layers) in parsed.links.iter().enumerate() {
                let vector = parsed.vector(node as u32);
                for (id, distance) in layers.iter().flatten() {
                    let expected = reference_distance(metric, vector, parsed.vector(*id));
                    assert!(
                        close(*distance, expected, 1.0),
                        "{engine} {metric}: {node} to {id}: {distance}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_bytes_for_any_thread_count() {
    let dimension = 12;
    let data = structured(800, dimension, 6);
    for &engine in ENGINES {
        let bytes = |seed: u64, threads: usize, batch_size: usize| {
            let options = GraphOptions {
                seed: Some(seed),
                threads: Some(threads),
                ..options(engine, Metric::Euclidean)
            };
            let built = build_in_batches(&data, dimension, batch_size, &options).unwrap();
            std::fs::read(&built.path).unwrap()
        };
        let one = bytes(42, 1, 100);
        for (threads, batch_size) in [(1, 7), (2, 100), (3, 100), (8, 100)] {
            assert!(
                one == bytes(42, threads, batch_size),
                "{engine} with {threads} threads, batches of {batch_size}"
            );
        }
    }
}

#[test]
fn more_threads_than_processors_give_the_same_bytes() {
    let (count, dimension) = (3000, 4);
    let data = structured(count, dimension, 11);
    let bytes = |engine: Engine, seed: u64, threads: usize| {
        let options = GraphOptions {
            seed: Some(seed),
            threads: Some(threads),
            m: 4,
            m0: Some(6),
            ef_construction: 12,
            ..options(engine, Metric::SquaredEuclidean)
        };
        let built = build(&data, dimension, &options).unwrap();
        (std::fs::read(&built.path).unwrap(), built)
    };
    for &engine in OURS {
        for seed in 0..extent(2, 6) {
            let (one, built) = bytes(engine, seed, 1);
            assert_eq!(Parsed::read(&built.path).check_graph(), 0);
            for threads in [2, 7, 16] {
                let (many, _) = bytes(engine, seed, threads);
                assert!(one == many, "{engine}, seed {seed}, {threads} threads");
            }
        }
    }
}

#[test]
fn one_vector_is_an_index() {
    for &engine in ENGINES {
        for &metric in Metric::ALL {
            let built = build(&[0.5, -0.25], 2, &options(engine, metric)).unwrap();
            let found = search(&built.path, metric, &[1.0, 1.0], 10, 10);
            assert_eq!(found, [[label_of(0)]], "{engine} {metric}");
            let parsed = Parsed::read(&built.path);
            assert_eq!(parsed.entry_point, 0);
            assert!(parsed.links[0].iter().all(Vec::is_empty));
        }
    }
}

#[test]
fn few_vectors_are_all_found() {
    for &engine in ENGINES {
        for count in 2..12 {
            let data = structured(count, 3, 9);
            let built = build(&data, 3, &options(engine, Metric::Euclidean)).unwrap();
            let found = search(&built.path, Metric::Euclidean, &data[..3], 100, 100);
            assert_eq!(found[0].len(), count, "{engine}");
            assert_eq!(Parsed::read(&built.path).check_graph(), 0, "{engine}");
        }
    }
}

#[test]
fn no_vectors_are_an_error() {
    let nothing = Rows::new(&[], 1, &[], 10);
    let error = build_rows(nothing, &GraphOptions::default(), &Monitor::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "input.parquet: rows: found none, expected at least one vector to insert"
    );
    assert_eq!(error.code(), 202);
}

#[test]
fn rows_that_are_all_deleted_are_an_error() {
    let mut rows = Rows::new(&[], 1, &[], 10);
    rows.batches = vec![RowBatch {
        scanned: 5,
        deleted_skipped: 5,
        ..RowBatch::default()
    }]
    .into_iter();
    let error = build_rows(rows, &GraphOptions::default(), &Monitor::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "input.parquet: rows: found 5, all of them deleted, expected at least one vector to insert"
    );
}

#[test]
fn deleted_rows_are_counted_and_not_inserted() {
    let data = structured(5, 2, 1);
    let mut rows = Rows::new(&data, 2, &[7, 8, 9, 10, 11], 3);
    for batch in rows.batches.as_mut_slice() {
        batch.scanned += 2;
        batch.deleted_skipped = 2;
    }
    let built = build_rows(rows, &GraphOptions::default(), &Monitor::default()).unwrap();
    assert_eq!(
        built.summary,
        BuildSummary {
            scanned: 9,
            inserted: 5,
            deleted_skipped: 4,
            without_vector: 0,
            dimension: 2,
            warnings: Vec::new(),
        }
    );
    assert_eq!(
        serde_json::to_string(&built.summary).unwrap(),
        r#"{"scanned":9,"inserted":5,"deleted_skipped":4,"dimension":2}"#
    );
}

#[test]
fn duplicate_vectors_and_labels_are_all_inserted() {
    let dimension = 4;
    for &engine in ENGINES {
        for &metric in Metric::ALL {
            let mut data = structured(200, dimension, 8);
            for _ in 0..100 {
                data.extend_from_slice(&[0.5, 0.25, -0.5, 0.75]);
            }
            let labels = vec![77; 300];
            let rows = Rows::new(&data, dimension, &labels, 64);
            let built = build_rows(rows, &options(engine, metric), &Monitor::default()).unwrap();
            let parsed = Parsed::read(&built.path);
            parsed.check_graph();
            assert_eq!(parsed.labels, labels);
            let found = search(&built.path, metric, &data[..dimension], 5, 50);
            assert_eq!(found, [[77; 5]], "{engine} {metric}");
        }
    }
}

#[test]
fn zero_vectors_have_cosine_distance_one_to_all() {
    let dimension = 4;
    let mut data = structured(200, dimension, 8);
    data[40..44].fill(0.0);
    data[80..84].fill(0.0);
    data[..4].fill(-0.0);
    for &engine in ENGINES {
        let built = build(&data, dimension, &options(engine, Metric::Cosine)).unwrap();
        let parsed = Parsed::read(&built.path);
        parsed.check_graph();
        for zero in [0usize, 10, 20] {
            assert!(!parsed.links[zero][0].is_empty());
            for (_, distance) in parsed.links[zero].iter().flatten() {
                assert_eq!(*distance, 1.0, "{engine}");
            }
        }
        let recall = recall(
            &built,
            Metric::Cosine,
            &data,
            dimension,
            &data[dimension..10 * dimension],
            60,
        );
        assert!(recall > 0.95, "{engine}: {recall}");
    }
}

#[test]
fn negative_distances_are_written_unchanged() {
    let dimension = 8;
    let data: Vec<f32> = structured(500, dimension, 8)
        .into_iter()
        .map(|value| 50.0 * value)
        .collect();
    for &engine in ENGINES {
        let built = build(&data, dimension, &options(engine, Metric::DotProduct)).unwrap();
        let parsed = Parsed::read(&built.path);
        let (mut below_zero, mut all) = (0, 0);
        for (node, layers) in parsed.links.iter().enumerate() {
            for (id, distance) in layers.iter().flatten() {
                let (a, b) = (parsed.vector(node as u32), parsed.vector(*id));
                let expected = reference_distance(Metric::DotProduct, a, b);
                assert!(close(*distance, expected, 1e4), "{distance} {expected}");
                below_zero += usize::from(*distance < 0.0);
                all += 1;
            }
        }
        assert!(below_zero * 2 > all, "{engine}: {below_zero} of {all}");
    }
}

#[test]
fn distances_that_overflow_or_underflow_still_give_a_graph() {
    let dimension = 6;
    for (&engine, &metric) in pairs(ENGINES, Metric::ALL) {
        for size in [f32::MAX, 1e30, 1e19, 1e-30, f32::from_bits(1)] {
            let mut data: Vec<f32> = structured(150, dimension, 8);
            for value in data.iter_mut().skip(50 * dimension) {
                *value *= size;
            }
            let built = build(&data, dimension, &options(engine, metric)).unwrap();
            let parsed = Parsed::read(&built.path);
            parsed.check_graph();
            for (_, distance) in parsed.links.iter().flatten().flatten() {
                assert!(!distance.is_nan(), "{engine} {metric} {size}");
            }
            assert!(parsed.links.iter().all(|layers| !layers[0].is_empty()));
        }
    }
}

#[test]
fn cancelling_stops_the_build() {
    let data = structured(3000, 4, 8);
    let labels: Vec<u64> = (0..3000).collect();
    for &engine in ENGINES {
        let token = CancelToken::new();
        let last = AtomicU64::new(0);
        let report = |progress: Progress| {
            assert_eq!(progress.total, 3000);
            last.store(progress.done, Ordering::Relaxed);
            if progress.done > 0 {
                token.cancel();
            }
        };
        let monitor = Monitor::default().with_cancel(&token).on_progress(&report);
        let rows = Rows::new(&data, 4, &labels, 100);
        let error = build_rows(rows, &options(engine, Metric::Euclidean), &monitor)
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{engine}: {error}");
        assert!(last.load(Ordering::Relaxed) < 3000, "{engine}");
    }
}

#[test]
fn a_panic_in_the_progress_function_stops_every_thread() {
    let data = structured(300, 4, 8);
    let labels: Vec<u64> = (0..300).collect();
    // Panics in the middle, and at the end: a busy machine may report only the end.
    for (&engine, most) in ENGINES
        .iter()
        .flat_map(|engine| [(engine, 100), (engine, 300)])
    {
        let report = |progress: Progress| assert!(progress.done < most, "on purpose");
        let monitor = Monitor::default().on_progress(&report);
        let options = GraphOptions {
            threads: Some(3),
            ..options(engine, Metric::Euclidean)
        };
        let rows = Rows::new(&data, 4, &labels, 100);
        let error = build_rows(rows, &options, &monitor).err().unwrap();
        assert_eq!(error.code(), 900, "{engine}: {error}");
    }
}

#[test]
fn vectors_in_memory_are_checked_and_built() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.hnsw");
    let data = structured(300, 4, 8);
    let build = |data: &[f32], dimension, labels: Option<&[u64]>| {
        let options = GraphOptions::default();
        build_index_from_vectors(
            data,
            dimension,
            labels,
            &path,
            &options,
            &Monitor::default(),
        )
        .map_err(|error| error.to_string())
    };
    let refused = [
        build(&data, 0, None).unwrap_err(),
        build(&data, 7, None).unwrap_err(),
        build(&data, 4, Some(&[1, 2])).unwrap_err(),
        build(&[1.0, 2.0, 3.0, f32::NAN], 2, None).unwrap_err(),
    ];
    assert_eq!(
        refused,
        [
            "dimension: found 0, expected a divisor of the number of components, 1200",
            "dimension: found 7, expected a divisor of the number of components, 1200",
            "labels: found 2, expected one for each of 300 vectors",
            "vectors: found NaN in row 1, component 1, expected finite numbers",
        ]
    );
    assert!(!path.exists());
    assert_eq!(build(&data, 4, None).unwrap().inserted, 300);
    let parsed = Parsed::read(&path);
    assert_eq!(parsed.vectors, data);
    assert_eq!(parsed.labels, (0..300).collect::<Vec<u64>>());
}

#[test]
fn progress_ends_at_the_number_of_vectors() {
    let data = structured(300, 4, 8);
    let labels: Vec<u64> = (0..300).collect();
    for &engine in ENGINES {
        let last = AtomicU64::new(0);
        let report = |progress: Progress| {
            assert_eq!(progress.total, 300);
            assert!(last.fetch_max(progress.done, Ordering::Relaxed) <= progress.done);
        };
        let monitor = Monitor::default().on_progress(&report);
        let rows = Rows::new(&data, 4, &labels, 100);
        build_rows(rows, &options(engine, Metric::Euclidean), &monitor).unwrap();
        assert_eq!(last.load(Ordering::Relaxed), 300, "{engine}");
    }
}

#[test]
fn more_vectors_than_the_capacity_are_an_error() {
    let data = structured(30, 4, 8);
    let with_capacity = |capacity| {
        let options = GraphOptions {
            capacity: Some(capacity),
            ..GraphOptions::default()
        };
        build_in_batches(&data, 4, 7, &options).map(|built| built.summary.inserted)
    };
    assert_eq!(with_capacity(30).unwrap(), 30);
    assert_eq!(with_capacity(usize::MAX).unwrap(), 30);
    assert_eq!(
        with_capacity(29).unwrap_err().to_string(),
        "capacity: found 29, expected at least the number of vectors to insert; row 29 is one more"
    );
    assert_eq!(
        with_capacity(10).unwrap_err().to_string(),
        "capacity: found 10, expected at least the number of vectors to insert; row 10 is one more"
    );
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut BuildOptions)| {
        let mut options = BuildOptions::default();
        change(&mut options);
        options.check().unwrap_err().to_string()
    };
    for (message, expected) in [
        (
            refused(|o| o.graph.m = 1),
            "m: found 1, expected a number from 2 to 256",
        ),
        (
            refused(|o| o.graph.m = 257),
            "m: found 257, expected a number from 2 to 256",
        ),
        (
            refused(|o| o.graph.m0 = Some(15)),
            "m0: found 15, expected a number from m, which is 16, to 1024",
        ),
        (
            refused(|o| o.graph.m0 = Some(usize::MAX)),
            "m0: found 18446744073709551615, expected a number from m, which is 16, to 1024",
        ),
        (
            refused(|o| {
                o.graph.m0 = Some(33);
                o.graph.engine = Engine::HnswRs;
            }),
            "m0: found 33, expected 2·m, which is 32: the engine hnsw_rs supports no other value \
             (the others do)",
        ),
        (
            refused(|o| o.graph.ef_construction = 15),
            "ef_construction: found 15, expected a number from m, which is 16, to 65536",
        ),
        (
            refused(|o| o.graph.ef_construction = 65537),
            "ef_construction: found 65537, expected a number from m, which is 16, to 65536",
        ),
        (
            refused(|o| o.batch_size = 0),
            "batch_size: found 0, expected a number from 1 to 1048576",
        ),
        (
            refused(|o| o.batch_size = 1_048_577),
            "batch_size: found 1048577, expected a number from 1 to 1048576",
        ),
        (
            refused(|o| o.graph.capacity = Some(0)),
            "capacity: found 0, expected at least the number of vectors to insert",
        ),
        (
            refused(|o| o.graph.threads = Some(0)),
            "threads: found 0, expected a number from 1 to 1024",
        ),
        (
            refused(|o| o.graph.threads = Some(1025)),
            "threads: found 1025, expected a number from 1 to 1024",
        ),
    ] {
        assert_eq!(message, expected);
    }
}

#[test]
fn the_smallest_and_the_largest_m_work() {
    // More vectors than a list of 2·256 slots can link to.
    let data = structured(extent(550, 700), 5, 8);
    for &engine in ENGINES {
        for (m, ef_construction) in [(2, 2), (2, 40), (256, 256)] {
            let options = GraphOptions {
                m,
                ef_construction,
                ..options(engine, Metric::Euclidean)
            };
            let built = build(&data, 5, &options).unwrap();
            let parsed = Parsed::read(&built.path);
            assert_eq!((parsed.m, parsed.m0), (m as u64, 2 * m as u64));
            let unreachable = parsed.check_graph();
            assert!(
                unreachable == 0 || m == 2 && !OURS.contains(&engine),
                "{engine} {m}: {unreachable} unreachable"
            );
        }
    }
}

#[test]
fn names_of_metrics_and_engines_are_parsed() {
    for &metric in Metric::ALL {
        assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
        let json = serde_json::to_string(&metric).unwrap();
        assert_eq!(json, format!("\"{metric}\""));
    }
    for &engine in ENGINES {
        assert_eq!(engine.to_string().parse::<Engine>().unwrap(), engine);
        let json = serde_json::to_string(&engine).unwrap();
        assert_eq!(json, format!("\"{engine}\""));
    }
    // Chroma's names.
    assert_eq!("l2".parse::<Metric>().unwrap(), Metric::SquaredEuclidean);
    assert_eq!("ip".parse::<Metric>().unwrap(), Metric::DotProduct);
    assert_eq!(
        "L2".parse::<Metric>().unwrap_err().to_string(),
        "metric: found L2, expected euclidean, squared_euclidean, l2, cosine, dot_product, ip or \
         manhattan"
    );
    assert_eq!(
        "faiss".parse::<Engine>().unwrap_err().to_string(),
        "engine: found faiss, expected partition, native or hnsw_rs"
    );
}

#[test]
fn errors_of_the_input_are_passed_on() {
    struct Failing;
    impl RowSource for Failing {
        fn next(&mut self, _: &mut RowBatch) -> Result<bool> {
            Err(Error::internal("from the input"))
        }
    }
    let error = build_rows(Failing, &GraphOptions::default(), &Monitor::default())
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "internal error: from the input");
}
