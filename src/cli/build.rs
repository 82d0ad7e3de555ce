//! `hnsw-toolbox build`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::{build_index_from_columnar, BuildOptions, BuildResponse, CancelToken};

use super::args::BuildArguments;
use super::extract::format;
use super::{answer, check_answerable, work, Failure};

pub(super) fn run(arguments: BuildArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let options = BuildOptions {
        format: format(arguments.format, &arguments.input, "INPUT")?,
        metric: arguments.metric,
        include_deleted: arguments.include_deleted,
        m: arguments.m,
        m0: arguments.m0,
        ef_construction: arguments.ef_construction,
        batch_size: arguments.batch_size,
        capacity: arguments.capacity,
        seed: arguments.seed,
        threads: arguments.threads,
        engine: arguments.engine,
        io: arguments.io,
    };
    let (input, output) = (&arguments.input, &arguments.output);
    check_answerable(&arguments.work.answer, &[("INPUT", input), ("OUT", output)])?;
    let summary = work("building", &arguments.work, cancel, |monitor| {
        build_index_from_columnar(input, output, &options, monitor)
    })?;
    let response = BuildResponse {
        input_path: arguments.input,
        output_path: arguments.output,
        input_format: options.format,
        metric: options.metric,
        summary,
    };
    answer(&arguments.work.answer, &response, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(response: &BuildResponse) -> io::Result<()> {
    let summary = response.summary;
    writeln!(
        io::stdout(),
        "{}: {} vectors of dimension {}, metric {} ({} rows, {} deleted left out)",
        response.output_path.display(),
        summary.inserted,
        summary.dimension,
        response.metric,
        summary.scanned,
        summary.deleted_skipped,
    )
}
