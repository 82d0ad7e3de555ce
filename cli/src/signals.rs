//! What is to be known of signals beyond that they cancel the work.

use std::io;

/// What an interrupt, such as Ctrl-C, is on every system.
const INTERRUPT: u8 = 2;

pub(super) use system::{survive_file_size_limit, LastSignal};

#[cfg(unix)]
mod system {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::Arc;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;

    use super::{io, INTERRUPT};

    /// Which of the signals came last that cancel the work. Clones are of the same signals.
    #[derive(Clone)]
    pub(crate) struct LastSignal(Arc<AtomicUsize>);

    impl LastSignal {
        pub(crate) fn new() -> Self {
            Self(Arc::default())
        }

        pub(crate) fn number(&self) -> u8 {
            match u8::try_from(self.0.load(Ordering::SeqCst)) {
                Ok(0) | Err(_) => INTERRUPT,
                Ok(number) => number,
            }
        }

        /// Whether one came, which is known before the work is cancelled.
        pub(crate) fn came(&self) -> bool {
            self.0.load(Ordering::SeqCst) != 0
        }

        /// Notes signals from now on. The handler that is there already, which cancels, still runs.
        pub(crate) fn watch(&self) {
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                if let Ok(number) = usize::try_from(signal) {
                    // Without it, the exit status is that of an interrupt.
                    let _ = flag::register_usize(signal, Arc::clone(&self.0), number);
                }
            }
        }
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

    #[derive(Clone)]
    pub(crate) struct LastSignal;

    impl LastSignal {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn watch(&self) {}

        /// Not known here.
        pub(crate) fn came(&self) -> bool {
            false
        }

        pub(crate) fn number(&self) -> u8 {
            INTERRUPT
        }
    }

    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        Ok(())
    }
}
