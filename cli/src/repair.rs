//! `hnsw-toolbox repair`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::wire::{self, Response};
use hnsw_toolbox::{display_path, CancelToken, MetricSource, RepairOptions, RepairSummary};

#[cfg(feature = "database")]
pub(super) mod store;

use super::args::RepairArguments;
use super::extract::print_salvage;
use super::{answer, check_answerable, work, Failure};

pub(super) fn run(arguments: RepairArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    #[cfg(feature = "database")]
    {
        if store::is_meant(&arguments) {
            return store::run(arguments, cancel);
        }
        store::refuse(&arguments.store)?;
    }
    let output = arguments.output.unwrap_or_default();
    let options = RepairOptions::default()
        .with_links(arguments.links)
        .with_metric(arguments.metric)
        .with_salvage(arguments.header.salvage())
        .with_threads(arguments.threads)
        .with_collection(arguments.collection)
        .with_database(arguments.database)
        .with_tenant(arguments.tenant)
        .with_io(arguments.read.io);
    let index_dir = arguments.index_dir;
    check_answerable(
        &arguments.read.work.answer,
        &[("INDEX_DIR", &index_dir), ("NEW_DIR", &output)],
    )?;
    let response = work("repairing", &arguments.read.work, cancel, |monitor| {
        wire::repair(index_dir, output, &options, monitor)
    })?;
    answer(&arguments.read.work.answer, &response, print)
}

fn print(response: &Response<RepairSummary>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let summary = &response.summary;
    writeln!(
        out,
        "{}: {} records of dimension {} (before: {}, {} records, {} deleted skipped)",
        display_path(&response.output_path),
        summary.records,
        summary.dimension,
        match summary.state_before {
            Some(state) => state.to_string(),
            None => "no index".into(),
        },
        summary.scanned,
        summary.deleted_removed,
    )?;
    match (summary.metric, summary.metric_source) {
        (Some(metric), MetricSource::Hint) => writeln!(
            out,
            "links: {}; metric: {metric}, because all vectors have norm 1 and there are norms",
            summary.links,
        )?,
        (Some(metric), MetricSource::Evidence) => writeln!(
            out,
            "links: {}; metric: {metric}, deduced from vectors and norms",
            summary.links,
        )?,
        (Some(metric), _) => writeln!(out, "links: {}; metric: {metric}", summary.links)?,
        (None, _) => writeln!(
            out,
            "links: {}; metric: not known, neighbours compared by {}",
            summary.links, summary.compared_by,
        )?,
    }
    for (count, what) in [
        (
            summary.bridged,
            "records lost neighbours and were linked to others",
        ),
        (
            summary.links_added,
            "links were added to reach unreachable records",
        ),
        (
            summary.records_without_id,
            "records without an id were skipped",
        ),
        (
            summary.ids_without_record,
            "ids without a record were skipped",
        ),
        (summary.norms_lost, "lost norms were set to 1"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    if let Some(salvage) = &summary.salvage {
        print_salvage(&mut out, salvage)?;
    }
    #[cfg(feature = "database")]
    if let Some(collection) = &summary.collection {
        writeln!(
            out,
            "{} records from the index, {} from the queue, {} without a vector skipped",
            collection.from_index, collection.from_log, collection.without_vector,
        )?;
        for finding in &collection.findings {
            writeln!(
                out,
                "{}: {}",
                finding.code,
                super::one_line(&finding.message)
            )?;
        }
    }
    // The library has quoted the paths in the commands for the system's shell.
    writeln!(out, "next:")?;
    for (number, step) in (1..).zip(&summary.steps) {
        writeln!(out, "{number}. {step}")?;
    }
    Ok(())
}
