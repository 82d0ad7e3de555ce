//! Input and output: files as byte sources, atomic outputs, and their permissions.

pub(crate) mod atomic;
pub(crate) mod bad_sectors;
#[cfg_attr(not(feature = "database"), allow(dead_code))] // only exports write behind
mod behind;
pub(crate) mod file;
pub(crate) mod mmap;
pub(crate) mod permissions;
pub(crate) mod protected;
pub(crate) mod source;
#[cfg(feature = "database")]
pub(crate) mod sparse;
#[cfg(feature = "database")]
pub(crate) mod swap;
pub(crate) mod temporary;
