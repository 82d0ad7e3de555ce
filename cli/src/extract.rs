//! `hnsw-toolbox extract`

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use hnsw_toolbox::wire;
use hnsw_toolbox::{
    display_path, CancelToken, ColumnarFormat, ColumnarOptions, ExtractOptions, ExtractSummary,
    MetadataFrom, RecordRange, Salvage, SalvageSummary,
};

use super::args::{is_stdout, ExtractArguments};
use super::{answer, check_answerable, done, stdout, work, Failure};

pub(super) fn run(arguments: ExtractArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let metadata = match arguments.metadata {
        _ if arguments.no_metadata => MetadataFrom::None,
        Some(path) => MetadataFrom::Path(path),
        None => MetadataFrom::IndexDir,
    };
    let salvage = Salvage::default()
        .with_dimension(arguments.dimension)
        .with_m(arguments.m);
    let extract = ExtractOptions::default()
        .with_records(arguments.rows.or(arguments.part).unwrap_or_default())
        .with_include_deleted(arguments.include_deleted)
        .with_metadata(metadata)
        .with_vectors(arguments.vectors)
        .with_io(arguments.io)
        .with_salvage(arguments.salvage.then_some(salvage));
    let streams = is_stdout(&arguments.output);
    let format = if streams {
        stdout::check(arguments.format, &arguments.work)?;
        ColumnarFormat::ArrowIpc
    } else {
        format(arguments.format, &arguments.output, "OUT")?
    };
    let options = ColumnarOptions::default()
        .with_extract(extract)
        .with_format(format)
        .with_batch_size(arguments.batch_size)
        .with_compression(arguments.compression)
        .with_row_group_bytes(arguments.row_group_bytes);
    let is_whole = options.extract.records == RecordRange::All;
    let (index_dir, output) = (arguments.index_dir, arguments.output);
    if streams {
        let summary = work("extracting", &arguments.work, cancel, |monitor| {
            wire::extract_to_stream(&index_dir, stdout::writer(), &options, monitor)
        })?;
        // A loss is reported even with --quiet.
        if !arguments.work.quiet || !summary.is_complete() {
            // The records are complete even if standard error is closed.
            let _ = print(&mut io::stderr(), "standard output", &summary, is_whole);
        }
        return Ok(done(summary.is_complete()));
    }
    check_answerable(&arguments.work.answer, &[("OUT", &output)])?;
    let response = work("extracting", &arguments.work, cancel, |monitor| {
        wire::extract(index_dir, output, &options, monitor)
    })?;
    answer(&arguments.work.answer, &response, |response| {
        let output = display_path(&response.output_path).to_string();
        print(&mut io::stdout(), &output, &response.summary, is_whole)
    })
}

fn print(
    out: &mut impl Write,
    output: &str,
    summary: &ExtractSummary,
    is_whole: bool,
) -> io::Result<()> {
    writeln!(
        out,
        "{output}: {} rows of dimension {} ({} records, {} deleted skipped)",
        summary.emitted, summary.dimension, summary.scanned, summary.deleted_skipped,
    )?;
    if let Some(join) = summary.metadata {
        write!(out, "{} of the rows have a user id", join.rows_with_user_id)?;
        // With --rows or --part, the other labels may belong to records outside the range.
        if is_whole {
            let lost = join.labels_without_record;
            write!(out, "; {lost} labels of the metadata have no live record")?;
        }
        writeln!(out)?;
    }
    if let Some(salvage) = &summary.salvage {
        print_salvage(out, salvage)?;
        match salvage.counted_records {
            Some(counted) => writeln!(
                out,
                "header.bin counts {counted} records; data_level0.bin has room for {}",
                salvage.whole_records,
            )?,
            None => writeln!(
                out,
                "without the header, rows may include junk after the last record",
            )?,
        }
        if let Some(error) = &salvage.metadata_error {
            writeln!(out, "no user ids: {error}")?;
        }
    }
    Ok(())
}

/// Prints the records left out of a damaged segment, and the damage to the others.
pub(super) fn print_salvage(out: &mut impl Write, salvage: &SalvageSummary) -> io::Result<()> {
    writeln!(
        out,
        "skipped: {} records with label 0, {} with the label of a later record, {} with a vector \
         that is not finite, {} with a damaged vector, {} in unreadable sectors",
        salvage.label_zero,
        salvage.label_duplicate,
        salvage.vector_not_finite,
        salvage.vector_damaged,
        salvage.unreadable,
    )?;
    for (count, what) in [
        (
            salvage.norm_missing,
            "vectors have no norm in length.bin and are written with norm 1",
        ),
        (
            salvage.vector_zeroed_sector,
            "vectors have a sector of zeros and are likely damaged",
        ),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    Ok(())
}

/// Returns the requested format, or else the format of the file's extension.
pub(super) fn format(
    asked: Option<ColumnarFormat>,
    path: &Path,
    argument: &str,
) -> Result<ColumnarFormat, Failure> {
    asked
        .or_else(|| ColumnarFormat::from_extension(path))
        .ok_or_else(|| {
            Failure::Usage(format!(
                "{argument}: found {}, expected the extension .parquet, .arrow, .ipc or .feather, \
                 or --format",
                display_path(path)
            ))
        })
}
