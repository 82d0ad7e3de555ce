//! What every other room builds on: progress and cancellation, fallible allocation, bit sets,
//! threads and paths.

#[macro_use]
pub(crate) mod macros;

pub(crate) mod bits;
pub(crate) mod memory;
pub(crate) mod path;
pub(crate) mod progress;
pub(crate) mod threads;
