//! Writes the records of a Chroma vector segment directory to a Parquet file, with their original
//! vectors:
//!
//! ```sh
//! cargo run --release --example extract -- SEGMENT_DIR OUT.parquet
//! ```

use std::error::Error;

use hnsw_toolbox::{
    extract_index_to_columnar, ColumnarOptions, Compression, ExtractOptions, Monitor, VectorForm,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [segment, output] = arguments.as_slice() else {
        return Err("usage: extract SEGMENT_DIR OUT.parquet".into());
    };

    // Chroma divides the vectors of a cosine collection by their norms, and stores the norms.
    let extract = ExtractOptions::default().with_vectors(VectorForm::Original);
    let options = ColumnarOptions::default()
        .with_extract(extract)
        .with_compression(Compression::Zstd);
    let show = |progress: hnsw_toolbox::Progress| {
        eprint!("\r{} of {} records", progress.done, progress.total);
    };
    let monitor = Monitor::default().on_progress(&show);

    let summary = extract_index_to_columnar(segment, output, &options, &monitor)?;
    eprintln!();
    println!(
        "{} records of dimension {}; {} deleted ones left out",
        summary.emitted, summary.dimension, summary.deleted_skipped
    );
    Ok(())
}
