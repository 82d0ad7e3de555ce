//! What is to be known of signals beyond that they cancel the work.

use std::io;

/// What an interrupt, such as Ctrl-C, is on every system.
const INTERRUPT: u8 = 2;

pub(super) use system::{last_one, survive_file_size_limit};

#[cfg(unix)]
mod system {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::Arc;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;

    use super::{io, INTERRUPT};

    /// Which of the signals came last that cancel the work.
    pub(crate) struct LastSignal(Arc<AtomicUsize>);

    impl LastSignal {
        pub(crate) fn number(&self) -> u8 {
            u8::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(INTERRUPT)
        }
    }

    /// Notes signals from now on. The handler that is there already, which cancels, still runs.
    pub(crate) fn last_one() -> LastSignal {
        let last = Arc::new(AtomicUsize::new(usize::from(INTERRUPT)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if let Ok(number) = usize::try_from(signal) {
                // Without it, the exit status is that of an interrupt.
                let _ = flag::register_usize(signal, Arc::clone(&last), number);
            }
        }
        LastSignal(last)
    }

    /// Lets a write beyond the limit on file sizes (`ulimit -f`) fail, where the system would end
    /// the process and leave the temporary file.
    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        let ignored = Arc::new(AtomicBool::new(false));
        flag::register(SIGXFSZ, ignored).map(drop)
    }
}

#[cfg(not(unix))]
mod system {
    use super::{io, INTERRUPT};

    pub(crate) struct LastSignal;

    impl LastSignal {
        pub(crate) fn number(&self) -> u8 {
            INTERRUPT
        }
    }

    pub(crate) fn last_one() -> LastSignal {
        LastSignal
    }

    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        Ok(())
    }
}
