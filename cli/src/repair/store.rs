//! `hnsw-toolbox repair` of a whole persist directory

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::wire::store_space;
use hnsw_toolbox::{
    display_path, repair_store, repair_store_in_place, CancelToken, RepairStoreOptions,
    RepairStoreSummary,
};
use indicatif::HumanBytes;

use crate::args::{RepairArguments, StoreArguments};
use crate::hint::DATABASE;
use crate::{answer, check_answerable, one_line, work, Failure};

/// Returns true if the arguments name a whole persist directory.
pub(super) fn is_meant(arguments: &RepairArguments) -> bool {
    arguments.collection.is_none() && arguments.index_dir.join(DATABASE).exists()
}

/// Refuses the arguments that only a whole persist directory has.
pub(super) fn refuse(arguments: &StoreArguments) -> Result<(), Failure> {
    for (flag, is_given) in [
        ("--in-place", arguments.in_place),
        ("--keep-incomplete", arguments.keep_incomplete),
        ("--template", arguments.template.is_some()),
        ("--dry-run", arguments.dry_run),
    ] {
        if is_given {
            return Err(Failure::Usage(format!(
                "{flag}: found a directory without {DATABASE}, expected a persist directory"
            )));
        }
    }
    Ok(())
}

pub(super) fn run(arguments: RepairArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let store = arguments.store;
    let options = RepairStoreOptions::default()
        .with_template(store.template)
        .with_keep_incomplete(store.keep_incomplete)
        .with_links(arguments.links)
        .with_metric(arguments.metric)
        .with_salvage(arguments.header.salvage())
        .with_threads(arguments.threads)
        .with_io(arguments.read.io)
        .with_dry_run(store.dry_run);
    let persist_dir = arguments.index_dir;
    // Without a name, a dry run shows what a new store beside this one would be.
    let output = arguments.output.unwrap_or_else(|| {
        let mut name = persist_dir.as_os_str().to_owned();
        name.push(".new");
        name.into()
    });
    check_answerable(
        &arguments.read.work.answer,
        &[("PERSIST_DIR", &persist_dir), ("NEW_DIR", &output)],
    )?;
    if !store.dry_run && !arguments.read.work.quiet {
        let target = Some(&*output).filter(|_| !store.in_place);
        let (needed, free) = store_space(&persist_dir, target);
        let free = free.map_or_else(|| "unknown".into(), |free| HumanBytes(free).to_string());
        let _ = writeln!(
            anstream::stderr(),
            "disk space: at most {} needed, {free} free",
            HumanBytes(needed)
        );
    }
    let summary = work("repairing", &arguments.read.work, cancel, |monitor| {
        if store.in_place {
            repair_store_in_place(&persist_dir, &options, announce, monitor)
        } else {
            repair_store(&persist_dir, &output, &options, monitor)
        }
    })?;
    answer(&arguments.read.work.answer, &summary, print)
}

/// Prints how to bring the old store back, in case this process is killed during the exchange.
pub(crate) fn announce(undo: &[String]) {
    let mut out = anstream::stderr();
    // A closed standard error must not keep the store from being repaired.
    let _ = writeln!(out, "to undo the exchange of old and new:");
    for command in undo {
        let _ = writeln!(out, "  {command}");
    }
}

fn print(summary: &RepairStoreSummary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if summary.left_out > 0 {
        let place = match &summary.left_out_dir {
            Some(dir) => format!(
                "they are in {}; embed their documents again and add them with collection.upsert \
                 (docs/rescue.md shows how)",
                display_path(dir)
            ),
            None => "they will be exported beside it".into(),
        };
        writeln!(
            out,
            "{} records have no vector and are not in the new store: {place}",
            summary.left_out
        )?;
    }
    writeln!(
        out,
        "{}: {} collections, {} records, {} (before: {})",
        display_path(&summary.output_dir),
        summary.collections.len(),
        summary.records,
        HumanBytes(summary.bytes_after),
        HumanBytes(summary.bytes_before),
    )?;
    for collection in &summary.collections {
        writeln!(
            out,
            "{}: {} records; vectors: {} from the segment, {} from the queue, {} from elsewhere, \
             {} without",
            one_line(&collection.name),
            collection.records,
            collection.vectors_from_segment,
            collection.vectors_from_queue,
            collection.vectors_from_elsewhere,
            collection.without_vector,
        )?;
        for finding in &collection.findings {
            writeln!(out, "  {}: {}", finding.code, one_line(&finding.message))?;
        }
    }
    if let Some(full_text) = summary.full_text {
        writeln!(out, "full-text table: {full_text}")?;
    }
    if summary.other_files > 0 {
        let bytes = HumanBytes(summary.other_bytes);
        writeln!(out, "{} other files copied: {bytes}", summary.other_files)?;
    }
    for name in &summary.leftover_directories {
        writeln!(out, "not copied, of no collection: {}", one_line(name))?;
    }
    for (table, rows) in &summary.rows_dropped {
        writeln!(
            out,
            "{rows} rows of {table} left out: of deleted collections, or damaged"
        )?;
    }
    for finding in &summary.findings {
        writeln!(out, "{}: {}", finding.code, one_line(&finding.message))?;
    }
    for warning in &summary.warnings {
        writeln!(out, "warning: {}", one_line(warning))?;
    }
    if let Some(kept) = &summary.kept_dir {
        writeln!(
            out,
            "the old store is in {}: start Chroma, check it, and only then delete that",
            display_path(kept)
        )?;
    }
    Ok(())
}
