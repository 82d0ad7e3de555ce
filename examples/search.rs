//! Extracts the vectors of a Chroma vector segment directory, builds an index of them, and searches
//! it:
//!
//! ```sh
//! cargo run --release --example search -- SEGMENT_DIR OUTPUT_DIR
//! ```

use std::error::Error;
use std::path::Path;

use hnsw_toolbox::{
    build_index_from_columnar, extract_index, extract_index_to_columnar, BuildOptions,
    ColumnarOptions, ExtractOptions, GraphOptions, HnswIndex, Metric, Monitor, Neighbour,
    OpenOptions,
};

/// Returns the three nearest neighbours of the first vector of the collection.
pub fn run(segment: &Path, output: &Path) -> Result<Vec<Neighbour>, Box<dyn Error>> {
    let monitor = Monitor::default();
    let vectors = output.join("vectors.parquet");
    extract_index_to_columnar(segment, &vectors, &ColumnarOptions::default(), &monitor)?;

    let path = output.join("vectors.hnsw");
    let graph = GraphOptions::default().with_metric(Metric::SquaredEuclidean);
    let options = BuildOptions::default().with_graph(graph);
    let built = build_index_from_columnar(&vectors, &path, &options, &monitor)?;
    println!(
        "{} vectors of dimension {}",
        built.inserted, built.dimension
    );

    // The file states its metric. It is mapped, not loaded.
    let index = HnswIndex::open(&path, &OpenOptions::default())?;
    let mut query = Vec::new();
    extract_index(segment, &ExtractOptions::default(), &monitor, |record| {
        query.extend_from_slice(record.vector);
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    let neighbours = index.search(&query, 3, 100)?;
    for neighbour in &neighbours {
        println!("label {}, distance {}", neighbour.label, neighbour.distance);
    }
    Ok(neighbours)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [segment, output] = arguments.as_slice() else {
        return Err("expected SEGMENT_DIR OUTPUT_DIR".into());
    };
    run(segment.as_ref(), output.as_ref())?;
    Ok(())
}
