//! What the fuzz targets share.

/// Takes back libfuzzer-sys's panic hook, which aborts. Where the library catches the panic of a
/// decoder, and makes an error of it, that is no finding; a panic that nobody catches still is one.
pub fn leave_caught_panics_alone() {
    drop(std::panic::take_hook());
}
