//! Extraction of a small synthetic index through the Rust API, from the page cache.
//!
//! The programs of this package compare the command line with others at realistic sizes.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use hnsw_toolbox::{
    extract_index, extract_index_to_columnar, ColumnarFormat, ColumnarOptions, ExtractOptions,
    Monitor,
};
use hnsw_toolbox_peers::synthetic_index;

const SHAPE: synthetic_index::Shape = synthetic_index::Shape {
    count: 10_000,
    dimension: 128,
};

fn extract(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index");
    SHAPE.write(&index).unwrap();
    assert!(SHAPE.is_at(&index));
    let monitor = Monitor::default();

    let mut group = criterion.benchmark_group("extract 10,000 x 128");
    group.throughput(Throughput::Bytes(SHAPE.data_size()));
    group.sample_size(20);
    group.bench_function("callback", |bencher| {
        let options = ExtractOptions::default();
        bencher.iter(|| {
            let summary = extract_index(&index, &options, &monitor, |record| {
                // A callback that reads the vector, like any real one.
                black_box(record.vector.iter().sum::<f32>());
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            assert_eq!(summary.emitted, SHAPE.count);
        });
    });
    for format in [ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc] {
        let options = ColumnarOptions::default().with_format(format);
        let output = dir.path().join("output");
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| {
                extract_index_to_columnar(&index, &output, &options, &monitor).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, extract);
criterion_main!(benches);
