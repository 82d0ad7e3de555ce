//! HNSW graphs: engines that build them, the `.hnsw` file, and the search of that file.

mod attach;
pub(crate) mod candidate;
pub(crate) mod compact;
pub(crate) mod connect;
pub(crate) mod distance;
mod equal;
pub(crate) mod exact;
pub(crate) mod file;
#[cfg(feature = "hnsw_rs")]
pub(crate) mod hnsw_rs;
mod links;
pub(crate) mod native;
pub(crate) mod options;
pub(crate) mod partition;
pub(crate) mod random;
pub(crate) mod range;
mod reach;
pub(crate) mod search;
pub(crate) mod sketch;

use std::ops::RangeInclusive;

/// Name of the threads of engines.
const THREAD: &str = "hnsw-toolbox-build";

/// A graph of several levels over nodes `0 .. len`.
pub(crate) trait Graph {
    /// Number of nodes.
    fn len(&self) -> u32;

    /// The highest level of a node.
    fn level(&self, node: u32) -> u8;

    /// Replaces `neighbours` with the ids of a node's neighbours on a level. Each is another node of
    /// that level, without duplicates.
    fn neighbours(&self, node: u32, layer: u8, neighbours: &mut Vec<u32>);

    /// The node where searches start: one of the highest level. `None` without nodes.
    fn entry_point(&self) -> Option<u32>;

    /// The levels of a node.
    fn layers(&self, node: u32) -> RangeInclusive<u8> {
        0..=self.level(node)
    }
}
