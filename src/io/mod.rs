//! Bytes in, files out.

pub(crate) mod atomic;
pub(crate) mod file;
pub(crate) mod mmap;
pub(crate) mod protected;
pub(crate) mod source;
#[cfg_attr(
    not(feature = "database"),
    expect(dead_code, reason = "only exports write directories")
)]
pub(crate) mod temporary;
