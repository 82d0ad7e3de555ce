//! The C ABI of hnsw-toolbox: JSON requests in, JSON responses out.
//!
//! `abi` holds every exported symbol and is what `include/hnsw_toolbox.h` is generated from;
//! `boundary` is what each of them stands behind; `request` turns JSON into calls of the Rust
//! library; `token` is behind progress and cancellation, `index` behind searches, `registry` behind
//! the numbers that callers hold of both, and `stream` behind the callbacks of Arrow C streams; `hidden` keeps the names of other crates out of the
//! interface.

// As in the library that this one wraps.
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

pub mod abi;
mod boundary;
#[cfg(test)]
mod fuzzing;
mod hidden;
mod index;
mod registry;
mod request;
mod stream;
mod token;
