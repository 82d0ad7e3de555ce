//! `hnsw-toolbox collections`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::styling::Style;
use hnsw_toolbox::{
    list_collections, CancelToken, CollectionFilter, CollectionFinding, CollectionList,
    CollectionReport, CollectionState,
};

use super::args::CollectionsArguments;
use super::color::{BAD, GOOD, WARNING};
use super::table::{self, left, right, Cell};
use super::{answer, check_answerable, one_line, work, Failure};

pub(super) fn run(
    arguments: &CollectionsArguments,
    cancel: &CancelToken,
) -> Result<ExitCode, Failure> {
    check_answerable(
        &arguments.read.work.answer,
        &[("PERSIST_DIR", &arguments.persist_dir)],
    )?;
    let filter = CollectionFilter::default().with_io(arguments.read.io);
    let list = work("listing", &arguments.read.work, cancel, |monitor| {
        list_collections(&arguments.persist_dir, &filter, monitor)
    })?;
    answer(&arguments.read.work.answer, &list, print)
}

fn print(list: &CollectionList) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    if list.collections.is_empty() {
        writeln!(out, "no collections")?;
    } else {
        print_table(&mut out, &list.collections)?;
    }
    for directory in &list.orphan_directories {
        let directory = one_line(directory);
        writeln!(out, "{directory}: a directory that no segment names")?;
    }
    print_findings(&mut out, "", &list.findings)
}

/// Prints a line for each collection, followed by its findings.
fn print_table(out: &mut impl Write, collections: &[CollectionReport]) -> io::Result<()> {
    // Most persist directories only have the database that Chroma creates by default.
    let databases = collections.iter().any(|collection| {
        collection.database != "default_database" || collection.tenant != "default_tenant"
    });
    let mut rows = vec![heading(databases)];
    rows.extend(
        collections
            .iter()
            .map(|collection| row(collection, databases)),
    );
    let mut findings = collections.iter().map(|collection| &collection.findings);
    for (number, line) in table::lines(&rows).iter().enumerate() {
        writeln!(out, "{line}")?;
        if number > 0 {
            print_findings(out, "  ", findings.next().map_or(&[], Vec::as_slice))?;
        }
    }
    Ok(())
}

fn heading(databases: bool) -> Vec<Cell> {
    let mut cells = vec![left("collection")];
    if databases {
        cells.extend(["database", "tenant"].map(left));
    }
    cells.push(left("state"));
    cells.extend(["records", "in index", "in queue", "no vector", "dimension"].map(right));
    cells.extend(["metric", "segment directory"].map(left));
    cells
}

fn row(collection: &CollectionReport, databases: bool) -> Vec<Cell> {
    let style = match collection.state {
        CollectionState::Flushed => GOOD,
        CollectionState::Unsupported => WARNING,
        CollectionState::Damaged | CollectionState::Incomplete => BAD,
        _ => Style::new(),
    };
    // Quoted and escaped: a name may have spaces and control characters.
    let name = |name: &String| left(format!("{name:?}"));
    let mut cells = vec![name(&collection.name)];
    if databases {
        cells.extend([name(&collection.database), name(&collection.tenant)]);
    }
    cells.push(left(collection.state).with_style(style));
    cells.extend(
        [
            collection.records,
            collection.in_index,
            collection.queued,
            collection.without_vector,
        ]
        .map(right),
    );
    cells.extend([
        match collection.dimension {
            Some(dimension) => right(dimension),
            None => right("none yet"),
        },
        left(collection.metric),
        left(one_line(
            collection.segment_dir.as_deref().unwrap_or("none"),
        )),
    ]);
    cells
}

pub(super) fn print_findings(
    out: &mut impl Write,
    indent: &str,
    findings: &[CollectionFinding],
) -> io::Result<()> {
    for finding in findings {
        let message = one_line(&finding.message);
        write!(out, "{indent}{}: {message}", finding.code)?;
        if finding.count > 1 {
            write!(out, " ({})", finding.count)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
