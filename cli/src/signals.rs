//! Signal handling: the exit status names the last signal, and a file size limit is an error.

use std::io;

/// The number of SIGINT (Ctrl-C) on every system.
const INTERRUPT: u8 = 2;

pub(super) use system::{survive_file_size_limit, LastSignal};

#[cfg(unix)]
mod system {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::Arc;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;

    use super::{io, INTERRUPT};

    /// The last signal that cancelled the work. Clones share it.
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

        /// Returns true if a signal came. This is recorded before the work is cancelled.
        pub(crate) fn came(&self) -> bool {
            self.0.load(Ordering::SeqCst) != 0
        }

        /// Starts to record signals. The existing handler, which cancels the work, still runs.
        pub(crate) fn watch(&self) {
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                if let Ok(number) = usize::try_from(signal) {
                    // After a failure, the exit status always names an interrupt.
                    let _ = flag::register_usize(signal, Arc::clone(&self.0), number);
                }
            }
        }
    }

    /// Makes a write beyond the file size limit (`ulimit -f`) fail. By default SIGXFSZ would kill
    /// the process and leave its temporary file.
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

        /// Always false: signals are not recorded on this system.
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
