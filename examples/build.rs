//! Builds a `.hnsw` index of the column `vector` of a Parquet or Arrow IPC file, and measures its
//! recall:
//!
//! ```sh
//! cargo run --release --example build -- INPUT OUT.hnsw
//! ```

use std::error::Error;

use hnsw_toolbox::{
    build_index_from_columnar, measure_recall, BuildOptions, ColumnarFormat, GraphOptions,
    HnswIndex, Metric, Monitor, OpenOptions, RecallOptions, RecallQueries,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        return Err("usage: build INPUT OUT.hnsw".into());
    };
    let format = ColumnarFormat::from_extension(input.as_ref()).unwrap_or_default();
    let monitor = Monitor::default();

    // The same input and seed give the same bytes, for any number of threads.
    let graph = GraphOptions::default()
        .with_metric(Metric::Cosine)
        .with_seed(42);
    let options = BuildOptions::default()
        .with_format(format)
        .with_graph(graph);
    let built = build_index_from_columnar(input, output, &options, &monitor)?;
    println!("{} vectors", built.inserted);

    let index = HnswIndex::open(output, &OpenOptions::default())?;
    let sample = RecallQueries::Sample(100);
    let report = measure_recall(&index, &sample, &RecallOptions::default(), &monitor)?;
    for row in &report.rows {
        println!("ef {}: recall {:.4}", row.ef, row.recall);
    }
    Ok(())
}
