//! The verbs of the library. Each has one file or folder with its options, flow and summary.

#[cfg(all(test, feature = "database"))]
mod bad_sector_tests;
pub(crate) mod build;
#[cfg(feature = "database")]
pub(crate) mod collections;
#[cfg(feature = "database")]
pub(crate) mod export;
pub(crate) mod extract;
#[cfg(feature = "database")]
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod inspect_hnsw;
#[cfg(feature = "database")]
mod old;
pub(crate) mod recall;
pub(crate) mod repair;
pub(crate) mod search;
#[cfg(feature = "wire")]
pub(crate) mod stream;
pub(crate) mod verify;
#[cfg(feature = "wire")]
pub mod wire;
