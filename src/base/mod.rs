//! Foundations of all other modules: progress and cancellation, fallible allocation, bit sets,
//! threads and paths.

// Declared first: `macro_rules!` macros are visible only to the modules below.
#[macro_use]
pub(crate) mod macros;

pub(crate) mod bits;
pub(crate) mod memory;
pub(crate) mod path;
pub(crate) mod progress;
pub(crate) mod threads;
