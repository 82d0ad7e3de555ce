//! The `.hnsw` file: the single file of the fast-hnsw crate, version 1.
//!
//! ```text
//!   0  header                    256 bytes
//! 256  vectors                   n × dimension × f32, row-major
//!      levels                    n × u32, the highest level of each node
//!      offsets                   n × u64, the offset of each node's lists in the file
//!      connections               for each node and each of its levels, from 0 up:
//!                                u32 count, count × (u32 id, f32 distance)
//!      labels                    u64 n, u64 8, n × u64
//! ```
//!
//! All numbers are little-endian. The header:
//!
//! ```text
//!   0  magic "HNSWNDX\0"         60  u64 the entry point's level
//!   8  u32 version = 1           68  u8 × 4 flags of the builder
//!  12  u64 n                     72  "hnswtool", where this crate wrote the file
//!  20  u64 dimension             80  u32 version = 1
//!  28  u64 m                     84  u8 metric: 1 euclidean, 2 squared_euclidean, 3 cosine,
//!  36  u64 m0                                   4 dot_product, 5 manhattan
//!  44  u64 ef_construction       85  zeros
//!  52  u64 entry point
//! ```
//!
//! fast-hnsw writes zeros from byte 72 on and does not read them. Its own files therefore state no
//! metric, and it can open ours. The offset of the labels is not stored: they follow the last
//! node's lists.

pub(crate) mod layout;
pub(crate) mod read;
pub(crate) mod write;
