//! Standard output: checks that it is open, and streams records to it as Arrow IPC (`-o -`).

use std::io::{self, BufWriter, IsTerminal, Write};

use hnsw_toolbox::ColumnarFormat;

use super::args::WorkArguments;
use super::Failure;

/// Bytes of the buffer. It collects the small writes between record batches, which are larger and
/// bypass it.
const BUFFER_BYTES: usize = 64 << 10;

/// Checks, before the work, that the arguments allow a stream, and that standard output is no
/// terminal.
pub(super) fn check(format: Option<ColumnarFormat>, work: &WorkArguments) -> Result<(), Failure> {
    let wrong = match format {
        Some(format) if format != ColumnarFormat::ArrowIpc => format!(
            "--format: found {format}, expected arrow_ipc, because -o - writes an Arrow IPC stream"
        ),
        _ if work.answer.json => "--json: found with -o -, expected without it, because \
                                  standard output has the records"
            .into(),
        _ if io::stdout().is_terminal() => "OUT: found standard output, which is a terminal, \
                                            expected a pipe or a file, because records are binary"
            .into(),
        _ => return Ok(()),
    };
    Err(Failure::Usage(wrong))
}

/// True if standard output is open for writing.
///
/// Before `main`, Rust's runtime replaces a closed descriptor by `/dev/null`. It also ignores the
/// error of writing to a descriptor that is read-only. So the descriptor is checked before the
/// runtime starts.
#[cfg(unix)]
pub(super) fn is_open() -> bool {
    at_start::IS_OPEN.load(std::sync::atomic::Ordering::Relaxed)
}

/// On other systems, services often have no standard output and run commands for their status.
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

    // SAFETY: the system calls the functions of this section before `main`. `look` takes no
    // argument, needs nothing of the runtime, and cannot unwind.
    #[used]
    #[cfg_attr(target_vendor = "apple", link_section = "__DATA,__mod_init_func")]
    #[cfg_attr(not(target_vendor = "apple"), link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;
}

pub(super) fn writer() -> impl Write {
    BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock())
}
