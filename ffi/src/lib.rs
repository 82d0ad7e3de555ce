//! The C ABI of hnsw-toolbox: JSON requests in, JSON responses out.
//!
//! `abi` holds all exported symbols; `include/hnsw_toolbox.h` is generated from it. `boundary`
//! guards each of them. `request` turns JSON into calls of the Rust library. `token` implements
//! progress and cancellation, `index` searches, and `registry` the numbers of both. `stream`
//! implements the callbacks of Arrow C streams. `hidden` keeps the names of other crates out of the
//! interface.

// The same rules as in the wrapped library: a panic or a lossy cast must not reach a caller.
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
