//! Standard output: whether it is open, and records on it as an Arrow IPC stream (`-o -`).

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

/// True if standard output is open for writing.
///
/// The runtime opens `/dev/null` in the place of a closed descriptor before `main`, and takes a
/// write to one that is open for reading only as done. So the descriptor is looked at before.
#[cfg(unix)]
pub(super) fn is_open() -> bool {
    at_start::IS_OPEN.load(std::sync::atomic::Ordering::Relaxed)
}

/// Elsewhere a service without standard output is ordinary, and runs commands for their status.
#[cfg(not(unix))]
pub(super) fn is_open() -> bool {
    true
}

#[cfg(unix)]
mod at_start {
    #![expect(
        unsafe_code,
        reason = "nothing safe runs before the runtime, or reads a descriptor's flags"
    )]

    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) static IS_OPEN: AtomicBool = AtomicBool::new(true);

    extern "C" fn look() {
        // SAFETY: F_GETFL reads the flags of a descriptor, and fails when it is closed.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
        let is_open = flags != -1 && flags & libc::O_ACCMODE != libc::O_RDONLY;
        IS_OPEN.store(is_open, Ordering::Relaxed);
    }

    // SAFETY: the system calls the functions of this section before `main`. `look` takes no argument,
    // needs nothing of the runtime, and cannot unwind.
    #[used]
    #[cfg_attr(target_vendor = "apple", link_section = "__DATA,__mod_init_func")]
    #[cfg_attr(not(target_vendor = "apple"), link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;
}

pub(super) fn writer() -> impl Write {
    BufWriter::with_capacity(BUFFER, io::stdout().lock())
}
