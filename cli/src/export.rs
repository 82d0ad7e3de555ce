//! `hnsw-toolbox export`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, Response};
use hnsw_toolbox::{
    display_path, CancelToken, CollectionFilter, ColumnarFormat, ExportOptions, ExportSummary,
    ExportedFile,
};

use super::args::{is_stdout, ExportArguments};
use super::collections::print_findings;
use super::{answer, check_answerable, done, one_line, stdout, work, Failure};

pub(super) fn run(arguments: ExportArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let (persist_dir, output) = (arguments.persist_dir, arguments.output);
    let streams = is_stdout(&output);
    let format = if streams {
        stdout::check(arguments.format, &arguments.read.work)?;
        ColumnarFormat::ArrowIpc
    } else {
        // A directory has no extension, and gets the default format.
        arguments
            .format
            .or_else(|| ColumnarFormat::from_extension(&output))
            .unwrap_or_default()
    };
    let filter = CollectionFilter::default()
        .with_names(arguments.collections)
        .with_database(arguments.database)
        .with_tenant(arguments.tenant)
        .with_io(arguments.read.io);
    let options = ExportOptions::default()
        .with_filter(filter)
        .with_format(format)
        .with_vectors(arguments.vectors)
        .with_metadata(arguments.metadata)
        .with_index_columns(arguments.index_columns)
        .with_batch_size(arguments.batch_size)
        .with_compression(arguments.compression)
        .with_salvage(arguments.header.salvage())
        .with_metric(arguments.metric);
    if streams {
        let summary = work("exporting", &arguments.read.work, cancel, |monitor| {
            wire::export_to_stream(&persist_dir, stdout::writer(), &options, monitor)
        })?;
        // The records are complete even if standard error is closed.
        let _ = print_stream(&summary, arguments.read.work.quiet);
        return Ok(done(summary.is_complete()));
    }
    let paths = [("PERSIST_DIR", persist_dir.as_path()), ("OUT", &output)];
    check_answerable(&arguments.read.work.answer, &paths)?;
    let response = work("exporting", &arguments.read.work, cancel, |monitor| {
        wire::export(persist_dir, output, &options, monitor)
    })?;
    answer(&arguments.read.work.answer, &response, print)
}

fn print(response: &Response<ExportSummary>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for file in &response.summary.files {
        print_file(&mut out, &file.file, file)?;
        print_findings(&mut out, "  ", &file.findings)?;
    }
    print_findings(&mut out, "", &response.summary.findings)?;
    writeln!(
        out,
        "{}: {} rows of {} collections",
        display_path(&response.output_path),
        response.summary.rows,
        response.summary.files.len()
    )
}

fn print_file(out: &mut impl Write, name: &str, file: &ExportedFile) -> io::Result<()> {
    write!(
        out,
        "{}: {} rows of {:?}, metric {}",
        one_line(name),
        file.rows,
        file.collection,
        file.metric
    )?;
    if let Some(dimension) = file.dimension {
        write!(out, ", dimension {dimension}")?;
    }
    write!(
        out,
        " ({} vectors from the index, {} from the queue, ",
        file.vectors_from_index, file.vectors_from_log
    )?;
    if file.vectors_from_elsewhere > 0 {
        write!(out, "{} from elsewhere, ", file.vectors_from_elsewhere)?;
    }
    writeln!(out, "{} missing)", file.without_vector)
}

/// Prints the summary of a stream to standard error. Findings are printed even with `--quiet`.
fn print_stream(summary: &ExportSummary, quiet: bool) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for file in &summary.files {
        if !quiet {
            print_file(&mut out, "standard output", file)?;
        }
        print_findings(&mut out, "  ", &file.findings)?;
    }
    print_findings(&mut out, "", &summary.findings)
}
