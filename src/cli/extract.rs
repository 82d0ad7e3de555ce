//! `hnsw-toolbox extract`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hnsw_toolbox::{
    extract_index_to_columnar, CancelToken, ColumnarFormat, ColumnarOptions, ExtractOptions,
    ExtractResponse, Salvage,
};

use super::args::ExtractArguments;
use super::{answer, check_answerable, work, Failure};

pub(super) fn run(arguments: ExtractArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let options = ColumnarOptions {
        extract: ExtractOptions {
            include_deleted: arguments.include_deleted,
            metadata: match arguments.metadata {
                None if !arguments.no_metadata => {
                    metadata_beside(&arguments.index_dir, arguments.salvage)
                }
                given => given,
            },
            vectors: arguments.vectors,
            io: arguments.io,
            salvage: arguments.salvage.then_some(Salvage {
                dimension: arguments.dimension,
                m: arguments.m,
            }),
        },
        format: format(arguments.format, &arguments.output, "OUT")?,
        batch_size: arguments.batch_size,
        compression: arguments.compression,
        row_group_bytes: arguments.row_group_bytes,
    };
    let (index_dir, output) = (&arguments.index_dir, &arguments.output);
    check_answerable(&arguments.work.answer, &[("OUT", output)])?;
    let summary = work("extracting", &arguments.work, cancel, |monitor| {
        extract_index_to_columnar(index_dir, output, &options, monitor)
    })?;
    let response = ExtractResponse {
        output_path: arguments.output,
        output_format: options.format,
        summary,
    };
    answer(&arguments.work.answer, &response, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(response: &ExtractResponse) -> io::Result<()> {
    let summary = &response.summary;
    writeln!(
        io::stdout(),
        "{}: {} rows of dimension {} ({} records, {} deleted left out)",
        response.output_path.display(),
        summary.emitted,
        summary.dimension,
        summary.scanned,
        summary.deleted_skipped,
    )?;
    if let Some(join) = summary.metadata {
        writeln!(
            io::stdout(),
            "{} of the rows have a user id; {} labels of the metadata have no live record",
            join.rows_with_user_id,
            join.labels_without_record,
        )?;
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

/// The metadata of an index that has some, or of one that is torn: a summary says then that it is
/// missing.
fn metadata_beside(index_dir: &Path, torn: bool) -> Option<PathBuf> {
    let path = index_dir.join("index_metadata.pickle");
    // A dangling link is no reason to leave the ids out in silence.
    (torn || path.symlink_metadata().is_ok()).then_some(path)
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
                path.display()
            ))
        })
}
