//! `hnsw-toolbox build`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, Response};
use hnsw_toolbox::{display_path, BuildOptions, BuildSummary, CancelToken, GraphOptions, Metric};

use super::args::BuildArguments;
use super::extract::format;
use super::{answer, check_answerable, warn, work, Failure};

pub(super) fn run(arguments: BuildArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let graph = GraphOptions::default()
        .with_metric(arguments.metric)
        .with_m(arguments.m)
        .with_m0(arguments.m0)
        .with_ef_construction(arguments.ef_construction)
        .with_capacity(arguments.capacity)
        .with_seed(arguments.seed)
        .with_threads(arguments.threads)
        .with_engine(arguments.engine);
    let options = BuildOptions::default()
        .with_graph(graph)
        .with_format(format(arguments.format, &arguments.input, "INPUT")?)
        .with_include_deleted(arguments.include_deleted)
        .with_batch_size(arguments.batch_size)
        .with_vector_column(arguments.vector_column)
        .with_label_column(arguments.label_column)
        .with_row_numbers(arguments.row_numbers)
        .with_io(arguments.io);
    let (input, output) = (arguments.input, arguments.output);
    let paths = [("INPUT", &*input), ("OUT", &*output)];
    check_answerable(&arguments.work.answer, &paths)?;
    let response = work("building", &arguments.work, cancel, |monitor| {
        wire::build(input, output, &options, monitor)
    })?;
    // To standard error, so that the result on standard output stays parsable.
    response.summary.warnings.iter().for_each(warn);
    answer(&arguments.work.answer, &response, |response| {
        print(response, arguments.metric)
    })
}

fn print(response: &Response<BuildSummary>, metric: Metric) -> io::Result<()> {
    let summary = &response.summary;
    writeln!(
        io::stdout(),
        "{}: {} vectors of dimension {}, metric {} ({} rows, {} deleted skipped)",
        display_path(&response.output_path),
        summary.inserted,
        summary.dimension,
        metric,
        summary.scanned,
        summary.deleted_skipped,
    )
}
