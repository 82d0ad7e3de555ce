//! HNSW graphs: engines that build them, the file that keeps them, and the search of that file.

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
mod random;
pub(crate) mod range;
mod reach;
pub(crate) mod search;
pub(crate) mod sketch;
pub(crate) mod workers;

use std::ops::RangeInclusive;

/// A layered graph over nodes `0 .. len`.
pub(crate) trait Graph {
    /// Number of nodes.
    fn len(&self) -> u32;

    /// The highest layer that a node is in.
    fn level(&self, node: u32) -> u8;

    /// Puts the ids of a node's neighbours on a layer into `neighbours`, in place of what was
    /// there. Each is another node, which is on that layer too, and none comes twice.
    fn neighbours(&self, node: u32, layer: u8, neighbours: &mut Vec<u32>);

    /// Where searches start: a node of the highest level. `None` when there is no node.
    fn entry_point(&self) -> Option<u32>;

    /// The layers that a node is in.
    fn layers(&self, node: u32) -> RangeInclusive<u8> {
        0..=self.level(node)
    }
}
