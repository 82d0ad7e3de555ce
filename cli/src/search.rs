//! `hnsw-toolbox search`

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, Response};
use hnsw_toolbox::{
    display_path, search_index, CancelToken, Neighbour, SearchOptions, SearchSummary,
};
use serde::Serialize;

use super::args::SearchArguments;
use super::extract::format;
use super::{answer, check_answerable, warn, work, Failure};

pub(super) fn run(arguments: SearchArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let SearchArguments {
        index,
        queries,
        output,
        ..
    } = arguments;
    let mut options = SearchOptions::default()
        .with_k(arguments.k)
        .with_ef(arguments.ef)
        .with_metric(arguments.searches.metric)
        .with_queries_format(format(arguments.queries_format, &queries, "--queries")?)
        .with_vector_column(arguments.vector_column)
        .with_threads(arguments.searches.threads)
        .with_io(arguments.searches.io)
        .with_load(arguments.searches.load);
    let mut paths = vec![("INDEX", &*index), ("--queries", &*queries)];
    paths.extend(output.as_deref().map(|output| ("OUT", output)));
    check_answerable(&arguments.searches.work.answer, &paths)?;
    let Some(output) = output else {
        return print_answers(index, queries, &options, &arguments.searches.work, cancel);
    };
    options.output_format = format(arguments.format, &output, "OUT")?;
    let response = work("searching", &arguments.searches.work, cancel, |monitor| {
        wire::search(index, queries, output, &options, monitor)
    })?;
    warn_of_damage(response.summary.damaged_skipped);
    answer(&arguments.searches.work.answer, &response, print)
}

pub(super) fn warn_of_damage(skipped: u64) {
    if skipped > 0 {
        warn(format_args!(
            "{skipped} damaged vectors of the graph file are in no answer; `hnsw-toolbox verify` \
             names them"
        ));
    }
}

fn print(response: &Response<SearchSummary>) -> io::Result<()> {
    let summary = response.summary;
    writeln!(
        io::stdout(),
        "{}: {} neighbours of {} queries, among {} vectors of dimension {}, metric {}",
        display_path(&response.output_path),
        summary.found,
        summary.queries,
        summary.vectors,
        summary.dimension,
        summary.metric,
    )
}

/// The result of a query, as printed by `--json` without OUT.
#[derive(Serialize)]
struct Answer<'a> {
    query: u64,
    neighbours: &'a [Neighbour],
}

/// The fields after the results.
#[derive(Serialize)]
struct Rest {
    complete: bool,
    index_path: PathBuf,
    queries_path: PathBuf,
    summary: SearchSummary,
}

/// Prints every neighbour on its own line, or streams a single JSON object.
fn print_answers(
    index: PathBuf,
    queries: PathBuf,
    options: &SearchOptions,
    arguments: &super::args::WorkArguments,
    cancel: &CancelToken,
) -> Result<ExitCode, Failure> {
    let json = arguments.answer.json;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut first = true;
    let summary = work("searching", arguments, cancel, |monitor| {
        search_index(&index, &queries, options, monitor, |query, neighbours| {
            let printed = if json {
                let start = if first { "{\"answers\":[" } else { "," };
                first = false;
                out.write_all(start.as_bytes()).and_then(|()| {
                    serde_json::to_writer(&mut out, &Answer { query, neighbours })
                        .map_err(io::Error::from)
                })
            } else {
                neighbours.iter().try_for_each(|neighbour| {
                    let Neighbour {
                        label, distance, ..
                    } = neighbour;
                    writeln!(out, "{query}\t{label}\t{distance}")
                })
            };
            Ok(printed?)
        })
    })?;
    if json {
        // Without queries, the array is not open yet.
        if first {
            out.write_all(b"{\"answers\":[")?;
        }
        let rest = Rest {
            complete: true,
            index_path: index,
            queries_path: queries,
            summary,
        };
        let rest = serde_json::to_string(&rest).map_err(io::Error::from)?;
        // Merge the two objects: the fields of the second follow the array of the first.
        writeln!(out, "],{}", rest.strip_prefix('{').unwrap_or_default())?;
    }
    out.flush()?;
    warn_of_damage(summary.damaged_skipped);
    Ok(ExitCode::SUCCESS)
}
