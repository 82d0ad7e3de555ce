//! The command line of hnsw-toolbox.

// As in the library.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::print_stderr
    ),
    warn(missing_docs, unreachable_pub)
)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
