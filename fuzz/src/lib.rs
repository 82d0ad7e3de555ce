//! What the fuzz targets share.

use libfuzzer_sys::Corpus;

/// Keeps an input that a property has run, and no other.
pub fn keep_if(ran: bool) -> Corpus {
    if ran {
        Corpus::Keep
    } else {
        Corpus::Reject
    }
}

/// Takes back libfuzzer-sys's panic hook, which aborts. Where the library catches the panic of a
/// decoder, and makes an error of it, that is no finding; a panic that nobody catches still is one.
pub fn leave_caught_panics_alone() {
    drop(std::panic::take_hook());
}
