//! `hnsw-toolbox extract`

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, ExtractResponse};
use hnsw_toolbox::{
    display_path, CancelToken, ColumnarFormat, ColumnarOptions, ExtractOptions, MetadataFrom,
    RecordRange, Salvage,
};

use super::args::ExtractArguments;
use super::{answer, check_answerable, work, Failure};

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
    let options = ColumnarOptions::default()
        .with_extract(extract)
        .with_format(format(arguments.format, &arguments.output, "OUT")?)
        .with_batch_size(arguments.batch_size)
        .with_compression(arguments.compression)
        .with_row_group_bytes(arguments.row_group_bytes);
    let is_whole = options.extract.records == RecordRange::All;
    let (index_dir, output) = (arguments.index_dir, arguments.output);
    check_answerable(&arguments.work.answer, &[("OUT", &output)])?;
    let response = work("extracting", &arguments.work, cancel, |monitor| {
        wire::extract(index_dir, output, &options, monitor)
    })?;
    answer(&arguments.work.answer, &response, |response| {
        print(response, is_whole)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(response: &ExtractResponse, is_whole: bool) -> io::Result<()> {
    let summary = &response.summary;
    writeln!(
        io::stdout(),
        "{}: {} rows of dimension {} ({} records, {} deleted left out)",
        display_path(&response.output_path),
        summary.emitted,
        summary.dimension,
        summary.scanned,
        summary.deleted_skipped,
    )?;
    if let Some(join) = summary.metadata {
        let mut out = io::stdout();
        write!(out, "{} of the rows have a user id", join.rows_with_user_id)?;
        // The other labels may well belong to records of another part.
        if is_whole {
            let lost = join.labels_without_record;
            write!(out, "; {lost} labels of the metadata have no live record")?;
        }
        writeln!(out)?;
    }
    if let Some(salvage) = &summary.salvage {
        writeln!(
            io::stdout(),
            "left out: {} records with label 0, {} with the label of a later one, {} with a vector \
             that is not finite",
            salvage.label_zero, salvage.label_duplicate, salvage.vector_not_finite,
        )?;
        match salvage.counted_records {
            Some(counted) => writeln!(
                io::stdout(),
                "header.bin counts {counted} records; data_level0.bin has room for {}",
                salvage.whole_records,
            )?,
            None => writeln!(
                io::stdout(),
                "without the header, what follows the last record may be among the rows",
            )?,
        }
        if let Some(error) = &salvage.metadata_error {
            writeln!(io::stdout(), "no user ids: {error}")?;
        }
    }
    Ok(())
}

/// The format that was asked for, or else the one that the file's name stands for.
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
