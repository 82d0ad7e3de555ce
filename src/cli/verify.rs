//! `hnsw-toolbox verify`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::styling::Style;
use hnsw_toolbox::{verify_hnsw, verify_index, CancelToken, Severity, VerifyOptions, VerifyReport};

use super::args::VerifyArguments;
use super::color::{BAD, GOOD, WARNING};
use super::hnsw::is_hnsw_file;
use super::{answer, work, Failure, FAILED};

pub(super) fn run(arguments: &VerifyArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let options = VerifyOptions::default().with_io(arguments.io);
    let index = &arguments.index;
    let report = work("verifying", &arguments.work, cancel, |monitor| {
        if is_hnsw_file(index)? {
            verify_hnsw(index, &options, monitor)
        } else {
            verify_index(index, &options, monitor)
        }
    })?;
    answer(&arguments.work.answer, &report, print)?;
    Ok(if report.damaged {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
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
    for finding in &report.findings {
        let style = match finding.severity {
            Severity::Error => BAD,
            Severity::Warning => WARNING,
            _ => Style::new(),
        };
        write!(
            out,
            "{style}{:<8}{style:#}{}",
            finding.severity, finding.code
        )?;
        write!(out, ": {}: {}", finding.file, finding.message)?;
        if finding.count > 1 {
            write!(out, " ({} times)", finding.count)?;
        }
        match &finding.first {
            Some(first) => writeln!(out, "; first: {first}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
