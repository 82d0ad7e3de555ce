//! `hnsw-toolbox verify`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::styling::Style;
use hnsw_toolbox::{
    verify_hnsw, verify_index, CancelToken, Finding, Severity, VerifyOptions, VerifyReport,
};

use super::args::LookArguments;
use super::color::{BAD, GOOD, WARNING};
use super::hnsw::is_hnsw_file;
use super::table::{self, left, Cell};
use super::{answer, work, Failure, FAILED};

pub(super) fn run(arguments: &LookArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let options = VerifyOptions::default().with_io(arguments.read.io);
    let index = &arguments.index;
    let report = work("verifying", &arguments.read.work, cancel, |monitor| {
        if is_hnsw_file(index)? {
            verify_hnsw(index, &options, monitor)
        } else {
            verify_index(index, &options, monitor)
        }
    })?;
    let checked = answer(&arguments.read.work.answer, &report, print)?;
    Ok(match report.damaged {
        // 1 means damage here; a check that fails gives 2.
        true => ExitCode::from(FAILED),
        false => checked,
    })
}

fn print(report: &VerifyReport) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let style = if report.damaged { BAD } else { GOOD };
    writeln!(
        out,
        "{style}{}{style:#} ({} live records, {} deleted)",
        report.state, report.live, report.deleted
    )?;
    let rows: Vec<_> = report.findings.iter().map(row).collect();
    table::print(&mut out, &rows)
}

fn row(finding: &Finding) -> Vec<Cell> {
    let style = match finding.severity {
        Severity::Error => BAD,
        Severity::Warning => WARNING,
        _ => Style::new(),
    };
    let mut words = finding.message.to_string();
    if finding.count > 1 {
        words.push_str(&format!(" ({} times)", finding.count));
    }
    if let Some(first) = &finding.first {
        words.push_str(&format!("; first: {first}"));
    }
    vec![
        left(finding.severity).with_style(style),
        left(finding.code),
        left(finding.file),
        left(words),
    ]
}
