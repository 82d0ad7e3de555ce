//! A real Chroma directory, extracted and rebuilt: fast-hnsw finds every live vector under its own
//! label.

use std::collections::HashMap;
use std::path::Path;

use fast_hnsw::distance::{Cosine, Distance, Euclidean};
use fast_hnsw::labeled::LabeledIndex;
use hnsw_toolbox::{
    build_index_from_columnar, extract_index_to_columnar, BuildOptions, ColumnarFormat,
    ColumnarOptions, Engine, ExtractOptions, GraphOptions, Metric, Monitor,
};

fn every_vector_is_found<D: Distance + Copy>(
    index: &Path,
    metric: D,
    rows: &[crate::support::Row],
) {
    let index = LabeledIndex::<D, u64>::load(index, metric).unwrap();
    let mut alike: HashMap<&[u32], Vec<u64>> = HashMap::new();
    for row in rows {
        alike.entry(&row.vector).or_default().push(row.label);
    }
    for row in rows.iter().step_by(crate::support::extent(3, 1)) {
        let query: Vec<f32> = row.vector.iter().copied().map(f32::from_bits).collect();
        let hits = index.search(&query, 1, 100);
        let found = hits.first().unwrap();
        // Among bitwise equal vectors, any can come first.
        let alike = alike.get(row.vector.as_slice()).unwrap();
        assert!(
            alike.contains(found.payload),
            "label {}: found {} at distance {}",
            row.label,
            found.payload,
            found.distance
        );
    }
}

#[test]
fn every_live_vector_of_a_real_index_finds_its_own_label_first() {
    let monitor = Monitor::default();
    let work = tempfile::tempdir().unwrap();
    let mut tried = 0;
    let fixtures = crate::support::fixtures();
    let ways = [
        (ColumnarFormat::Parquet, Engine::Native),
        (ColumnarFormat::ArrowIpc, Engine::HnswRs),
    ];
    for (fixture, &(format, engine)) in crate::support::pairs(&fixtures, &ways) {
        let segment = fixture.join("segment");
        let (summary, rows) =
            crate::support::rows_by_callback(&segment, &ExtractOptions::default()).unwrap();
        if rows.is_empty() {
            continue;
        }
        let cosine = fixture.ends_with("cosine");
        let extracted = work.path().join("extracted");
        let built = work.path().join("built.hnsw");
        let options = ColumnarOptions::default().with_format(format);
        extract_index_to_columnar(&segment, &extracted, &options, &monitor).unwrap();
        let graph = GraphOptions::default()
            .with_engine(engine)
            // With several threads, hnsw_rs sometimes leaves a node unreachable.
            .with_seed(1)
            .with_metric(if cosine {
                Metric::Cosine
            } else {
                Metric::Euclidean
            });
        let options = BuildOptions::default()
            .with_graph(graph)
            .with_format(format);
        let built_summary =
            build_index_from_columnar(&extracted, &built, &options, &monitor).unwrap();
        assert_eq!(built_summary.inserted, summary.emitted);
        assert_eq!(built_summary.dimension, summary.dimension);
        if cosine {
            every_vector_is_found(&built, Cosine, &rows);
        } else {
            every_vector_is_found(&built, Euclidean, &rows);
        }
        tried += 1;
    }
    let least = crate::support::extent(8, 16);
    assert!(tried >= least, "{tried}");
}
