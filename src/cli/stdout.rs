//! `-o -`: records on standard output, as an Arrow IPC stream.

use std::io::{self, BufWriter, IsTerminal, Write};

use hnsw_toolbox::ColumnarFormat;

use super::args::WorkArguments;
use super::Failure;

/// Record batches are larger and pass through; this gathers what is between them.
const BUFFER: usize = 64 << 10;

/// Checks, before the work, that a stream is what was asked for, and that standard output can take
/// it.
pub(super) fn check(format: Option<ColumnarFormat>, work: &WorkArguments) -> Result<(), Failure> {
    let wrong = match format {
        Some(format) if format != ColumnarFormat::ArrowIpc => format!(
            "--format: found {format}, expected arrow_ipc, as -o - writes an Arrow IPC stream"
        ),
        _ if work.answer.json => "--json: found with -o -, expected without it, as standard \
                                  output holds the records"
            .into(),
        _ if io::stdout().is_terminal() => "OUT: found standard output, which is a terminal, \
                                            expected a pipe or a file, as the records are not text"
            .into(),
        _ => return Ok(()),
    };
    Err(Failure::Usage(wrong))
}

pub(super) fn writer() -> impl Write {
    BufWriter::with_capacity(BUFFER, io::stdout().lock())
}
