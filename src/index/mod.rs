//! Reading a persisted index directory. Nothing here knows of Arrow.

pub(crate) mod source;

pub use source::IoMode;
