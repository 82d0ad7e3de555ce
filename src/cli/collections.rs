//! `hnsw-toolbox collections`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::styling::Style;
use hnsw_toolbox::{
    list_collections, CancelToken, CollectionFilter, CollectionFinding, CollectionList,
    CollectionState, Monitor,
};

use super::args::CollectionsArguments;
use super::color::{BAD, GOOD, WARNING};
use super::{answer, check_answerable, Failure};

pub(super) fn run(
    arguments: &CollectionsArguments,
    cancel: &CancelToken,
) -> Result<ExitCode, Failure> {
    check_answerable(
        &arguments.answer,
        &[("PERSIST_DIR", &arguments.persist_dir)],
    )?;
    let monitor = Monitor::default().with_cancel(cancel);
    let filter = CollectionFilter::default();
    let list = list_collections(&arguments.persist_dir, &filter, &monitor)?;
    answer(&arguments.answer, &list, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(list: &CollectionList) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    for collection in &list.collections {
        let style = match collection.state {
            CollectionState::Flushed => GOOD,
            CollectionState::Unsupported => WARNING,
            CollectionState::Damaged | CollectionState::Incomplete => BAD,
            _ => Style::new(),
        };
        writeln!(
            out,
            "{:?} (database {:?}, tenant {:?}): {style}{}{style:#}",
            collection.name, collection.database, collection.tenant, collection.state
        )?;
        let mut field =
            |name: &str, value: &dyn std::fmt::Display| writeln!(out, "  {name:<20}{value}");
        field("id", &collection.id)?;
        match &collection.segment_dir {
            Some(directory) => field("segment directory", directory)?,
            None => field("segment directory", &"none")?,
        }
        field(
            "metric",
            &format_args!("{} (from {})", collection.metric, collection.metric_source),
        )?;
        match collection.dimension {
            Some(dimension) => field("dimension", &dimension)?,
            None => field("dimension", &"none yet")?,
        }
        field("records", &collection.records)?;
        field("in the index", &collection.in_index)?;
        field("waiting in the log", &collection.queued)?;
        field("without a vector", &collection.without_vector)?;
        print_findings(&mut out, "  ", &collection.findings)?;
    }
    if list.collections.is_empty() {
        writeln!(out, "no collections")?;
    }
    for directory in &list.orphan_directories {
        writeln!(out, "{directory}: a directory that belongs to no segment")?;
    }
    print_findings(&mut out, "", &list.findings)
}

pub(super) fn print_findings(
    out: &mut impl Write,
    indent: &str,
    findings: &[CollectionFinding],
) -> io::Result<()> {
    for finding in findings {
        write!(out, "{indent}{}: {}", finding.code, finding.message)?;
        if finding.count > 1 {
            write!(out, " ({})", finding.count)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
