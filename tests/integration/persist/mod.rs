//! Persist directories, as `list_collections` and `export_collections` see them.

mod bounds;
mod changing;
mod damage;
mod exports;
mod faults;
mod hostile;
mod imports;
mod lost_header;
mod metric;
mod pages;
mod properties;
mod repairs;
mod schema;
mod stores;
mod variants;

use std::path::Path;

use hnsw_toolbox::{
    export_collections, CollectionFilter, ColumnarFormat, ExportOptions, ExportSummary, Monitor,
};

use crate::support::table::{read_arrow, read_parquet, Table};

/// Reads a file that an export wrote.
fn read(path: &Path, format: ColumnarFormat) -> Table {
    match format {
        ColumnarFormat::ArrowIpc => read_arrow(path),
        _ => read_parquet(path),
    }
}

/// Options to export one collection of the default database.
fn only(name: &str) -> ExportOptions {
    let filter = CollectionFilter::default()
        .with_names(vec![name.into()])
        .with_database(Some("default_database".into()))
        .with_tenant(Some("default_tenant".into()));
    ExportOptions::default()
        .with_filter(filter)
        .with_format(ColumnarFormat::ArrowIpc)
        .with_index_columns(true)
}

/// Exports one collection of the default database.
fn export(persist_dir: &Path, name: &str) -> (ExportSummary, Table) {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    let summary =
        export_collections(persist_dir, &output, &only(name), &Monitor::default()).unwrap();
    (summary, read_arrow(&output))
}

/// The codes of the single file's findings.
fn codes(summary: &ExportSummary) -> Vec<&str> {
    assert_eq!(summary.files.len(), 1);
    let findings = summary.files[0].findings.iter();
    findings.map(|finding| finding.code).collect()
}
