//! New `.hnsw` indexes from columnar files.

pub(crate) mod input;
