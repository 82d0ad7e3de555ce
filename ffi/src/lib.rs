//! The C ABI of hnsw-toolbox: JSON requests in, JSON responses out.
//!
//! `abi` holds every exported symbol and is what `include/hnsw_toolbox.h` is generated from;
//! `boundary` is what each of them stands behind; `request` turns JSON into calls of the Rust
//! library; `token` is the registry behind progress and cancellation.

pub mod abi;
mod boundary;
#[cfg(test)]
mod fuzzing;
mod request;
mod token;
