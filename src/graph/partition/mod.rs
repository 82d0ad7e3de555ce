//! HNSW without searches: layer 0 from groups of near nodes.
//!
//! Insertion walks the graph for each node and reads vectors all over memory. Here, nodes are
//! [carved](carve) into overlapping groups of near ones, and [within a group](group) every node is
//! compared with every other by a [product of matrices](product), which reads each vector once for
//! many comparisons. What a node's groups offer is kept in its [reservoir], and its neighbours are
//! chosen among that by native's heuristic. The idea is that of PiPNN (Rubel and others,
//! arXiv 2602.21247, 2026).
//!
//! Groups know no node far away, and a graph of near ones alone cannot be searched. So the layers
//! above 0 are native's, of insertions of the nodes that are on them, one of m: they lead any search
//! near its end, from where layer 0 goes on. Copies and nodes out of reach are native's, too.
//!
//! Where distances differ little, a node's nearest are in more groups than it is in itself. So for a
//! sample it is [counted](cover) how many of their nearest the groups have offered, and if they are too
//! few, there are more groups.
//!
//! Where vectors are in many tight clusters, that is not enough. So a sample of the nodes is
//! [looked for](check) in the end, and if too many are not found, all are inserted after all, and the
//! better of the two graphs is taken.
//!
//! # Memory
//!
//! Next to the links, at most 256 bytes for each node where m0 is 40 or less: candidates of 5 bytes,
//! the groups that it is in, and its number. Beyond that, 5 bytes for each further slot of m0. A
//! thread takes the vectors of one group and their keys, in addition to what insertion takes.
//!
//! # Determinism
//!
//! Leaders are drawn by the seed, each node follows the same on whatever thread, and reservoirs do
//! not depend on the order of offers.

mod base;
mod carve;
mod check;
mod cover;
mod effort;
mod group;
mod pick;
mod product;
mod reservoir;

use super::distance::{Measure, Space, WithSpace};
use super::equal::Equals;
use super::links::Links;
use super::native::Native;
use crate::error::Result;
use crate::memory;
use base::Base;
use check::{Check, LOST_MAX};
use effort::Effort;

/// Fewer nodes are inserted.
const NODES_MIN: usize = 128;

/// Vectors of fewer elements are inserted: comparing them costs less than grouping them.
const DIMENSION_MIN: usize = 3;

/// Builds a graph, with what is native's by the engine itself.
#[derive(Debug)]
pub(crate) struct Partition<'a>(pub(crate) Native<'a>);

impl WithSpace for Partition<'_> {
    type Output = Result<Links>;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<Links> {
        let Self(native) = self;
        let equals = Equals::find(space)?;
        let nodes = distinct(space.len(), &equals)?;
        if nodes.len() < NODES_MIN || space.vectors().dimension() < DIMENSION_MIN {
            return native.build(space, &equals);
        }
        let links = Links::new(space.len(), native.m, native.m0, native.seed, &equals)?;
        let above = Native {
            ef_construction: effort::above(native.ef_construction, native.m),
            ..native
        };
        above.insert(space, &links, &equals, 1, &|_, _| Ok(()))?;
        Base {
            links: &links,
            nodes: &nodes,
            effort: Effort::new(native.ef_construction, native.m, native.m0),
            seed: native.seed,
            threads: native.threads,
            monitor: native.monitor,
        }
        .run(space)?;
        native.finish(space, &links, &equals)?;
        let check = Check {
            nodes: &nodes,
            seed: native.seed,
            monitor: native.monitor,
        };
        let lost = check.run(space, &links)?;
        if lost <= LOST_MAX {
            return Ok(links);
        }
        // Next to what the groups took, another graph takes no more memory.
        let monitor = native.monitor.without_progress();
        let inserted = Native {
            monitor: &monitor,
            ..native
        }
        .build(space, &equals)?;
        Ok(match check.run(space, &inserted)? < lost {
            true => inserted,
            false => links,
        })
    }
}

/// All nodes but copies.
fn distinct(nodes: u32, equals: &Equals) -> Result<Vec<u32>> {
    let all = 0..nodes;
    let count = all.clone().filter(|node| !equals.is_copy(*node)).count();
    let mut distinct = memory::with_capacity(count, "hold groups of nodes")?;
    distinct.extend(all.filter(|node| !equals.is_copy(*node)));
    Ok(distinct)
}
