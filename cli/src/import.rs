//! `hnsw-toolbox import`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::{
    display_path, import_collections, import_collections_in_place, CancelToken, FileColumns,
    ImportOptions, ImportSummary, ImportedCollection,
};
use indicatif::HumanBytes;

use super::args::ImportArguments;
use super::repair::store::announce;
use super::spool::Spooled;
use super::{answer, check_answerable, one_line, work, Failure};

pub(super) fn run(arguments: ImportArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let columns = FileColumns::default()
        .with_id(arguments.id_column)
        .with_vector(arguments.vector_column)
        .with_document(arguments.document_column)
        .with_metadata(arguments.metadata_columns);
    let options = ImportOptions::default()
        .with_columns(columns)
        .with_collections(arguments.collections)
        .with_rename(arguments.rename.into_iter().collect())
        .with_database(arguments.database)
        .with_tenant(arguments.tenant)
        .with_metric(arguments.metric)
        .with_m(arguments.m)
        .with_ef_construction(arguments.ef_construction)
        .with_on_conflict(arguments.on_conflict)
        .with_lists(arguments.lists)
        .with_keep_incomplete(arguments.keep_incomplete)
        .with_threads(arguments.threads)
        .with_dry_run(arguments.dry_run);
    let (sources, into) = (arguments.sources, arguments.into);
    // Without a name, a dry run shows what a new store beside this one would be.
    let output = arguments.output.unwrap_or_else(|| {
        let mut name = into.as_os_str().to_owned();
        name.push(".new");
        name.into()
    });
    let named = sources.iter().map(|source| ("SOURCE", source.as_path()));
    let named: Vec<_> = named
        .chain([("DIR", &*into), ("NEW_DIR", &*output)])
        .collect();
    check_answerable(&arguments.work.answer, &named)?;
    let spooled = Spooled::new(&sources, &output, cancel)?;
    let mut summary = work("importing", &arguments.work, cancel, |monitor| {
        let sources = &spooled.paths;
        if arguments.in_place {
            import_collections_in_place(sources, &into, &options, announce, monitor)
        } else {
            import_collections(sources, &into, &output, &options, monitor)
        }
    })?;
    spooled.restore_names(&mut summary);
    answer(&arguments.work.answer, &summary, print)
}

fn print(summary: &ImportSummary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if summary.left_out > 0 {
        writeln!(
            out,
            "{} records of the sources have no vector and are not in the new store",
            summary.left_out
        )?;
    }
    let imported = if summary.dry_run {
        "would be imported"
    } else {
        "imported"
    };
    writeln!(
        out,
        "{}: {} records {imported}, {} in all; {} (before: {})",
        display_path(&summary.output_dir),
        summary.imported,
        summary.records,
        HumanBytes(summary.bytes_after),
        HumanBytes(summary.bytes_before),
    )?;
    for collection in &summary.collections {
        print_collection(&mut out, collection)?;
    }
    if let Some(full_text) = summary.full_text {
        writeln!(out, "full-text table: {full_text}")?;
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

fn print_collection(out: &mut impl Write, collection: &ImportedCollection) -> io::Result<()> {
    writeln!(
        out,
        "{} ({}, {}): {} records imported, {} in all",
        one_line(&collection.name),
        if collection.is_new { "new" } else { "extended" },
        collection.metric,
        collection.imported,
        collection.records,
    )?;
    for (count, what) in [
        (
            collection.skipped,
            "left out, because the collection has their ids",
        ),
        (collection.replaced, "records replaced"),
        (
            collection.vectors_not_finite,
            "vectors that are not finite, in the queue",
        ),
        (collection.without_vector, "without a vector"),
    ] {
        if count > 0 {
            writeln!(out, "  {count} {what}")?;
        }
    }
    for origin in &collection.origins {
        let columns = origin.columns.iter();
        let columns: Vec<_> = columns
            .map(|(column, use_)| match column == use_ {
                true => one_line(column).to_string(),
                false => format!("{} as {}", one_line(column), one_line(use_)),
            })
            .collect();
        if !columns.is_empty() {
            let path = display_path(&origin.path);
            writeln!(out, "  {path}: columns {}", columns.join(", "))?;
        }
    }
    for finding in &collection.findings {
        writeln!(out, "  {}: {}", finding.code, one_line(&finding.message))?;
    }
    Ok(())
}
