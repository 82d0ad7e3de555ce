//! Lists the collections of a Chroma persist directory (with `chroma.sqlite3`), and exports each to
//! a Parquet file with a column for each metadata key:
//!
//! ```sh
//! cargo run --release --example export -- PERSIST_DIR OUT_DIR
//! ```

use std::error::Error;

use hnsw_toolbox::{
    export_collections, list_collections, CollectionFilter, ExportOptions, MetadataForm, Monitor,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [persist, output] = arguments.as_slice() else {
        return Err("usage: export PERSIST_DIR OUT_DIR".into());
    };
    let monitor = Monitor::default();

    let list = list_collections(persist, &CollectionFilter::default(), &monitor)?;
    for collection in &list.collections {
        println!(
            "{}: {} records, {} without a vector, {}",
            collection.name, collection.records, collection.without_vector, collection.state
        );
    }

    let options = ExportOptions::default().with_metadata(MetadataForm::Columns);
    let summary = export_collections(persist, output, &options, &monitor)?;
    for file in &summary.files {
        println!("{}: {} rows, SHA-256 {}", file.file, file.rows, file.sha256);
        for finding in &file.findings {
            println!("    {}", finding.message);
        }
    }
    Ok(())
}
