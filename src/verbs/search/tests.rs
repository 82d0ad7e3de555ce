//! Searches compared with the fast-hnsw crate, and searches of damaged files.

use std::path::PathBuf;

use fast_hnsw::distance as reference;
use fast_hnsw::labeled::LabeledIndex;
use fast_hnsw::Builder;
use pulp::{Arch, Simd, WithSimd};

use super::*;
use crate::graph::distance::{with_measure, Measure, Query, WithMeasure};
use crate::test_extent::pairs;
use crate::verbs::build::tests::{structured, Random};
use crate::{build_index_from_vectors, Engine, GraphOptions, Monitor};

/// The distance keys of this crate as a metric for fast-hnsw.
#[derive(Clone, Copy)]
struct Keys(Metric);

impl reference::Distance for Keys {
    fn distance(&self, a: &[f32], b: &[f32]) -> f32 {
        struct Key<'a>(&'a [f32], &'a [f32]);

        struct KeyBy<'a, M>(Key<'a>, std::marker::PhantomData<M>);

        impl<M: Measure> WithSimd for KeyBy<'_, M> {
            type Output = f32;

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> f32 {
                Query::<M>::new(simd, self.0 .0).key(simd, self.0 .1)
            }
        }

        impl WithMeasure for Key<'_> {
            type Output = f32;

            fn run<M: Measure>(self) -> f32 {
                Arch::new().dispatch(KeyBy(self, std::marker::PhantomData::<M>))
            }
        }

        with_measure(self.0, Key(a, b))
    }
}

struct Built {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn label_of(node: usize) -> u64 {
    1_000_000_007 * (node as u64 + 1)
}

fn build(data: &[f32], dimension: usize, engine: Engine, metric: Metric) -> Built {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let options = GraphOptions {
        engine,
        metric,
        m: 8,
        ef_construction: 60,
        seed: Some(3),
        ..GraphOptions::default()
    };
    let labels: Vec<u64> = (0..data.len() / dimension).map(label_of).collect();
    let monitor = Monitor::default();
    build_index_from_vectors(data, dimension, Some(&labels), &path, &options, &monitor).unwrap();
    Built {
        _directory: directory,
        path,
    }
}

fn modes() -> [OpenOptions; 3] {
    let mapped = OpenOptions::default();
    [
        mapped.clone(),
        mapped.clone().with_io(IoMode::Read),
        mapped.with_load(true),
    ]
}

/// Returns smooth data, noise, and noise with few distinct vectors.
fn data_sets(dimension: usize) -> [Vec<f32>; 3] {
    let mut random = Random(5);
    let noise: Vec<f32> = (0..500 * dimension).map(|_| random.unit()).collect();
    let alike = (0..500 * dimension)
        .map(|_| (random.unit() * 1.5).round())
        .collect();
    [structured(500, dimension, 4), noise, alike]
}

#[test]
fn results_equal_those_from_fast_hnsw_bit_for_bit() {
    for dimension in [3, 20] {
        let queries = structured(12, dimension, 2);
        let sets = data_sets(dimension);
        for (&number, &metric) in pairs(&[0, 1, 2], Metric::ALL) {
            let engine = Engine::ALL[number % 2];
            let built = build(&sets[number], dimension, engine, metric);
            let expected = LabeledIndex::<Keys, u64>::load(&built.path, Keys(metric)).unwrap();
            for options in modes() {
                let index = HnswIndex::open(&built.path, &options).unwrap();
                assert_eq!((index.len(), index.dimension()), (500, dimension));
                for (k, ef) in [(1, 1), (5, 2), (10, 40), (10, 500), (1000, 1000)] {
                    for query in queries.chunks(dimension) {
                        let found = index.search(query, k, ef).unwrap();
                        let hits = expected.search(query, k, ef);
                        let what = format!("{metric} {engine} data {number} k {k} ef {ef}");
                        assert_same(&found, &hits, metric, &what);
                    }
                }
            }
        }
    }
}

/// Asserts the same distances, and the same labels for each distance except the last. Among vectors
/// at the last distance, the choice is arbitrary.
fn assert_same(
    found: &[Neighbour],
    hits: &[fast_hnsw::labeled::LabeledResult<'_, u64>],
    metric: Metric,
    what: &str,
) {
    let expected: Vec<(u32, u64)> = hits
        .iter()
        .map(|hit| (metric.distance_of_key(hit.distance).to_bits(), *hit.payload))
        .collect();
    let found: Vec<(u32, u64)> = found
        .iter()
        .map(|hit| (hit.distance.to_bits(), hit.label))
        .collect();
    let distances = |hits: &[(u32, u64)]| hits.iter().map(|hit| hit.0).collect::<Vec<_>>();
    assert_eq!(distances(&found), distances(&expected), "{what}");
    let last = expected.last().map(|hit| hit.0);
    let labels = |hits: &[(u32, u64)]| {
        let mut labels: Vec<_> = hits.iter().filter(|hit| Some(hit.0) != last).collect();
        labels.sort_unstable();
        labels.into_iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(labels(&found), labels(&expected), "{what}");
}

#[test]
fn files_written_by_fast_hnsw_need_a_metric() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let data = structured(500, 6, 1);
    for &metric in Metric::ALL {
        let mut index: LabeledIndex<Keys, u64> =
            Builder::new().m(4).seed(1).build_labeled(Keys(metric));
        for (node, vector) in data.chunks(6).enumerate() {
            index.insert(vector.to_vec(), label_of(node));
        }
        index.save(&path).unwrap();
        let error = HnswIndex::open(&path, &OpenOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "metric: found none, expected a metric, because {} states none",
                path.display()
            )
        );
        for options in modes() {
            let options = options.with_metric(metric);
            let found = HnswIndex::open(&path, &options).unwrap();
            assert_eq!(found.metric(), metric);
            for query in data.chunks(6).take(50) {
                let hits = index.search(query, 10, 30);
                assert_same(&found.search(query, 10, 30).unwrap(), &hits, metric, "own");
            }
        }
    }
}

#[test]
fn an_index_without_labels_gives_node_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let mut index = Builder::new().build(reference::Euclidean);
    for vector in structured(50, 6, 1).chunks(6) {
        index.insert(vector.to_vec());
    }
    fast_hnsw::persist::save(&index, &path).unwrap();
    let options = OpenOptions::default().with_metric(Metric::Euclidean);
    let found = HnswIndex::open(&path, &options).unwrap();
    for (node, vector) in structured(50, 6, 1).chunks(6).enumerate() {
        let hits = found.search(vector, 1, 50).unwrap();
        assert_eq!((hits[0].label, hits[0].distance), (node as u64, 0.0));
    }
}

#[test]
fn an_empty_index_gives_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.hnsw");
    let index = Builder::new().build(reference::Euclidean);
    fast_hnsw::persist::save(&index, &path).unwrap();
    for options in modes() {
        let options = options.with_metric(Metric::Euclidean);
        let index = HnswIndex::open(&path, &options).unwrap();
        assert!(index.is_empty());
        assert_eq!(index.search(&[], 10, 10).unwrap(), []);
    }
}

#[test]
fn fast_hnsw_ignores_the_metric_in_the_header() {
    let data = structured(300, 6, 1);
    for &metric in Metric::ALL {
        let built = build(&data, 6, Engine::Native, metric);
        for options in modes() {
            let index = HnswIndex::open(&built.path, &options).unwrap();
            assert_eq!(index.metric(), metric);
            assert!(HnswIndex::open(&built.path, &options.with_metric(metric)).is_ok());
        }
        for other in Metric::ALL.iter().copied().filter(|other| *other != metric) {
            let options = OpenOptions::default().with_metric(other);
            let error = HnswIndex::open(&built.path, &options).unwrap_err();
            assert_eq!(error.code(), 101);
            assert_eq!(
                error.to_string(),
                format!(
                    "metric: found {other}, expected {metric}, as stated in {}, or none",
                    built.path.display()
                )
            );
        }

        // Without the metric, as in files of version 0.1.0.
        let mut bytes = std::fs::read(&built.path).unwrap();
        bytes[72..256].fill(0);
        let earlier = built.path.with_extension("earlier");
        std::fs::write(&earlier, &bytes).unwrap();
        assert!(HnswIndex::open(&earlier, &OpenOptions::default()).is_err());
        let options = OpenOptions::default().with_metric(metric);
        let index = HnswIndex::open(&earlier, &options).unwrap();
        let found = index.search(&data[..6], 10, 50).unwrap();
        let load = LabeledIndex::<Keys, u64>::load;
        let load_mmap = LabeledIndex::<Keys, u64>::load_mmap;
        for path in [&built.path, &earlier] {
            for loaded in [load(path, Keys(metric)), load_mmap(path, Keys(metric))] {
                let hits = loaded.unwrap();
                let hits = hits.search(&data[..6], 10, 50);
                assert_same(&found, &hits, metric, "with and without the metric");
            }
        }
    }
}

#[test]
fn batches_equal_single_searches_for_any_thread_count() {
    let data = structured(700, 9, 1);
    let queries = structured(100, 9, 2);
    let built = build(&data, 9, Engine::Native, Metric::Cosine);
    for options in modes() {
        let index = HnswIndex::open(&built.path, &options).unwrap();
        let expected: Vec<_> = queries
            .chunks(9)
            .map(|query| index.search(query, 7, 30).unwrap())
            .collect();
        for threads in [Some(1), Some(2), Some(7), None] {
            let found = index.search_batch(&queries, 7, 30, threads).unwrap();
            assert_eq!(found, expected);
        }
        assert_eq!(index.search_batch(&[], 7, 30, None).unwrap().len(), 0);
    }
}

#[test]
fn one_index_serves_many_threads() {
    let data = structured(700, 9, 1);
    let built = build(&data, 9, Engine::Native, Metric::Euclidean);
    for options in modes() {
        let index = HnswIndex::open(&built.path, &options).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (index, data) = (&index, &data);
                scope.spawn(move || {
                    // More than 255 searches, after which the stamps of visited nodes wrap around.
                    for turn in 0..300 {
                        let node = (thread * 41 + turn) % 700;
                        let query = &data[node * 9..][..9];
                        let found = index.search(query, 3, 30).unwrap();
                        assert_eq!(found[0].label, label_of(node));
                        assert_eq!(found[0].distance, 0.0);
                    }
                });
            }
        });
        let held = lock(&index.scratches).len();
        assert!((1..=16).contains(&held), "{held}");
    }
}

#[test]
fn invalid_queries_are_refused() {
    let data = structured(50, 4, 1);
    let built = build(&data, 4, Engine::Native, Metric::Euclidean);
    let index = HnswIndex::open(&built.path, &OpenOptions::default()).unwrap();
    let refused = |query: &[f32], k| index.search(query, k, 10).unwrap_err().to_string();
    assert_eq!(refused(&data[..4], 0), "k: found 0, expected at least 1");
    assert_eq!(
        refused(&data[..3], 1),
        "query: found 3 elements, expected 4, the index's dimension"
    );
    assert_eq!(
        refused(&[0.0, 1.0, f32::NAN, f32::INFINITY], 1),
        "query: found NaN at element 2, expected finite numbers"
    );
    let batch = |queries: &[f32], threads| {
        let result = index.search_batch(queries, 1, 1, threads);
        result.unwrap_err().to_string()
    };
    assert_eq!(
        batch(&data[..6], None),
        "queries: found 6 elements, expected a multiple of the dimension, 4"
    );
    assert_eq!(
        batch(&data[..8], Some(0)),
        "threads: found 0, expected a number from 1 to 1024"
    );
    let mut bad = data[..40].to_vec();
    bad[21] = f32::INFINITY;
    assert_eq!(
        batch(&bad, Some(1)),
        "query 5: found inf at element 1, expected finite numbers"
    );
    // The results, and the memory for them, are limited by the number of vectors.
    assert_eq!(index.search(&data[..4], usize::MAX, 1).unwrap().len(), 50);
    assert_eq!(index.search(&data[..4], 1, usize::MAX).unwrap().len(), 1);
}

/// Offsets in a file of 200 vectors of dimension 4: tables of levels and offsets, and the lists.
const LEVELS: usize = 256 + 200 * 16;
const OFFSETS: usize = LEVELS + 200 * 4;
const CONNECTIONS: usize = OFFSETS + 200 * 8;

#[test]
fn damage_is_an_error_that_names_it() {
    let data = structured(200, 4, 1);
    let built = build(&data, 4, Engine::Native, Metric::Euclidean);
    let good = std::fs::read(&built.path).unwrap();
    let entry_point = good[52] as usize;
    let entry_level = u64::from(good[60]);
    assert!(entry_level > 0);
    let path = built.path.with_extension("bad");
    let name = path.display().to_string();
    let errors = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let errors = modes().map(|options| {
            let search = HnswIndex::open(&path, &options)
                .and_then(|index| index.search_batch(&data, 200, 200, Some(1)));
            let error = search.unwrap_err();
            assert!(matches!(error.code(), 200 | 203), "{error}");
            error.to_string().replace(&format!("{name}: "), "")
        });
        assert_eq!(errors[0], errors[1]);
        errors[0].clone()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let number = |value: u64| value.to_le_bytes();
    let entry_list =
        u64::from_le_bytes(good[OFFSETS + 8 * entry_point..][..8].try_into().unwrap()) as usize;
    let not_entry = if entry_point == 0 { 1 } else { 0 };
    for (bad, expected) in [
        (good[..100].to_vec(), "length: found 100 bytes, expected at least 256, for the header".to_string()),
        (Vec::new(), "length: found 0 bytes, expected at least 256, for the header".to_string()),
        (with(0, b"PAR1"), r"magic: found PAR1NDX\x00, expected HNSWNDX\x00".to_string()),
        (with(8, &[2]), "version: found 2, which is not supported; expected 1".to_string()),
        (with(12, &number(u64::MAX)), format!("length: found {} bytes, expected more, for 18446744073709551615 vectors of dimension 4 and their lists", good.len())),
        (with(20, &number(1 << 61)), format!("length: found {} bytes, expected more, for 200 vectors of dimension 2305843009213693952 and their lists", good.len())),
        (with(20, &number(0)), "dimension: found 0, expected at least 1".to_string()),
        (with(52, &number(200)), "entry point: found node 200, expected a node below 200".to_string()),
        (with(52, &number(u64::MAX)), "entry point: found none, expected a node below 200".to_string()),
        (with(60, &number(77)), format!("level of the entry point: found 77, expected {entry_level}, as in the table of levels")),
        (with(84, &[6]), "metric: found 6, expected a code from 1 to 5".to_string()),
        (with(80, &[9]), "version of the metric's field: found 9, which is not supported; expected 1".to_string()),
        (with(LEVELS + 4 * 199, &[0, 1]), "level of node 199: found 256, expected at most 255".to_string()),
        (with(OFFSETS + 8 * not_entry, &number(17)), format!("offset of node {not_entry}: found 17, expected at least {CONNECTIONS}, after the tables")),
        (with(entry_list, &[17]), format!("number of neighbours of node {entry_point} on level 0: found 17, expected at most m0, which is 16")),
        (with(entry_list + 4, &[200]), format!("neighbours of node {entry_point} on level 0: found node 200, expected nodes below 200")),
    ] {
        assert_eq!(errors(&bad), expected);
    }
    let error = errors(&with(OFFSETS + 8 * not_entry, &number(u64::MAX)));
    let start = format!(
        "offset of the list of node {not_entry} on level 0: found {}",
        u64::MAX
    );
    assert!(error.starts_with(&start), "{error}");
    let mut bad = with(entry_list, &u32::MAX.to_le_bytes());
    bad[36..44].fill(0xff);
    let error = errors(&bad);
    assert!(
        error.contains("found 4294967295, expected at most")
            && error.contains("as the lists end at byte"),
        "{error}"
    );
    // A file truncated anywhere is refused on opening.
    for len in (0..good.len()).step_by(61) {
        std::fs::write(&path, &good[..len]).unwrap();
        for options in modes() {
            let error = HnswIndex::open(&path, &options).unwrap_err();
            assert_eq!(error.code(), 200, "{len}: {error}");
        }
    }
    // Trailing bytes are accepted.
    std::fs::write(&path, [&good[..], &[7; 100]].concat()).unwrap();
    let index = HnswIndex::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(
        index.search(&data[..4], 1, 10).unwrap()[0].label,
        label_of(0)
    );
}
