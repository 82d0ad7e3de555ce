//! `hnsw-toolbox export`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, ExportResponse};
use hnsw_toolbox::{CancelToken, CollectionFilter, ColumnarFormat, ExportOptions};

use super::args::ExportArguments;
use super::collections::print_findings;
use super::{answer, check_answerable, work, Failure};

pub(super) fn run(arguments: ExportArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let (persist_dir, output) = (arguments.persist_dir, arguments.output);
    let format = arguments
        .format
        .or_else(|| ColumnarFormat::from_extension(&output))
        .unwrap_or_default();
    let filter = CollectionFilter::default()
        .with_names(arguments.collections)
        .with_database(arguments.database)
        .with_tenant(arguments.tenant);
    let options = ExportOptions::default()
        .with_filter(filter)
        .with_format(format)
        .with_vectors(arguments.vectors)
        .with_metadata(arguments.metadata)
        .with_index_columns(arguments.index_columns)
        .with_batch_size(arguments.batch_size)
        .with_compression(arguments.compression);
    let paths = [("PERSIST_DIR", persist_dir.as_path()), ("OUT", &output)];
    check_answerable(&arguments.work.answer, &paths)?;
    let response = work("exporting", &arguments.work, cancel, |monitor| {
        wire::export(persist_dir, output, &options, monitor)
    })?;
    answer(&arguments.work.answer, &response, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(response: &ExportResponse) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for file in &response.summary.files {
        write!(
            out,
            "{}: {} rows of {:?}, metric {}",
            file.file, file.rows, file.collection, file.metric
        )?;
        if let Some(dimension) = file.dimension {
            write!(out, ", dimension {dimension}")?;
        }
        writeln!(
            out,
            " ({} vectors from the index, {} from the log, {} missing)",
            file.vectors_from_index, file.vectors_from_log, file.without_vector
        )?;
        print_findings(&mut out, "  ", &file.findings)?;
    }
    print_findings(&mut out, "", &response.summary.findings)?;
    writeln!(
        out,
        "{}: {} rows of {} collections",
        response.output_path.display(),
        response.summary.rows,
        response.summary.files.len()
    )
}
