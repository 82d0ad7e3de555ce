//! `hnsw-toolbox recall`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::{
    measure_recall, CancelToken, HnswIndex, OpenOptions, RecallOptions, RecallQueries, RecallReport,
};

use super::args::RecallArguments;
use super::extract::format;
use super::search::warn_of_damage;
use super::{answer, work, Failure};

pub(super) fn run(arguments: RecallArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let queries = match arguments.queries {
        None => RecallQueries::Sample(arguments.sample),
        Some(path) => RecallQueries::File {
            format: format(arguments.queries_format, &path, "--queries")?,
            path,
        },
    };
    let open = OpenOptions::default()
        .with_metric(arguments.searches.metric)
        .with_io(arguments.searches.io)
        .with_load(arguments.searches.load);
    let options = RecallOptions::default()
        .with_k(arguments.k)
        .with_efs(arguments.ef)
        .with_threads(arguments.searches.threads)
        .with_vector_column(arguments.vector_column);
    let report = work("comparing", &arguments.searches.work, cancel, |monitor| {
        let index = HnswIndex::open(&arguments.index, &open)?;
        measure_recall(&index, &queries, &options, monitor)
    })?;
    warn_of_damage(report.damaged_skipped);
    answer(&arguments.searches.work.answer, &report, print)
}

fn print(report: &RecallReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} queries, {} vectors of dimension {}, metric {}, {} threads; true neighbours found in \
         {:.1} s",
        report.queries,
        report.vectors,
        report.dimension,
        report.metric,
        report.threads,
        report.exact_seconds,
    )?;
    let recall = format!("recall@{}", report.k);
    writeln!(out, "{:>8}  {recall:>10}  {:>12}", "ef", "queries/s")?;
    for row in &report.rows {
        writeln!(
            out,
            "{:>8}  {:>10.4}  {:>12.0}",
            row.ef, row.recall, row.queries_per_second
        )?;
    }
    Ok(())
}
