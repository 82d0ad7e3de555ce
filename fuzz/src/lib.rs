//! Shared by the fuzz targets.

use libfuzzer_sys::Corpus;

/// Keeps an input in the corpus only if the property has run it.
pub fn keep_if(ran: bool) -> Corpus {
    if ran {
        Corpus::Keep
    } else {
        Corpus::Reject
    }
}

/// Removes libfuzzer-sys's panic hook, which aborts. A decoder's panic that the library catches and
/// reports as an error is not a finding; an uncaught panic still is.
pub fn leave_caught_panics_alone() {
    drop(std::panic::take_hook());
}
