//! Bytes in, files out.

pub(crate) mod atomic;
pub(crate) mod file;
pub(crate) mod mmap;
pub(crate) mod protected;
pub(crate) mod source;
pub(crate) mod temporary;
