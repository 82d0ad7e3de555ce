//! The Arrow IPC file format.

pub(crate) mod read;
pub(crate) mod write;
