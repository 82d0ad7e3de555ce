//! The partition engine: level 0 from groups of near nodes, without searches.
//!
//! Insertion walks the graph for each node and reads vectors all over memory. This engine
//! [carves](carve) the nodes into overlapping groups of near nodes. [Within a group](group), a
//! [product of matrices](product) compares every node with every other and reads each vector once for
//! many comparisons. Each node keeps the best candidates of its groups in a [reservoir], and the native
//! engine's heuristic chooses its neighbours among them. The idea comes from PiPNN (Rubel and others,
//! arXiv 2602.21247, 2026).
//!
//! Groups contain no distant nodes, and a graph of near links alone cannot be searched. So the native
//! engine inserts the nodes of the upper levels, one in m: these levels lead a search close to its
//! target, and level 0 takes over. The native engine's code also handles duplicate vectors and
//! unreachable nodes.
//!
//! If distances differ little, a node shares too few groups with its nearest neighbours. The engine
//! [measures the coverage](cover) of a sample and adds groups if it is low.
//!
//! If vectors form many tight clusters, more groups do not help. As a [final check](check), a sample of
//! nodes is searched for. If too many are missed, the graph is rebuilt by insertion, and the better of
//! the two graphs is kept.
//!
//! # Memory
//!
//! Besides the links, at most 256 bytes a node while m0 is at most 40: candidates of 5 bytes each, the
//! node's groups, and its number. Each further slot of m0 adds 5 bytes. Each thread holds the vectors
//! of one group and their keys, and the buffers of insertion.
//!
//! # Determinism
//!
//! The seed determines the leaders, a node follows the same leaders on any thread, and a reservoir does
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
use crate::base::memory;
use crate::error::Result;
use base::Base;
use check::{Check, MAX_LOST};
use effort::Effort;

/// Minimum number of nodes. Smaller sets fit into one group and are inserted instead.
const MIN_NODES: usize = 128;

/// Minimum dimension. Shorter vectors are inserted: comparing them costs less than grouping them.
const MIN_DIMENSION: usize = 3;

/// Builds a graph; the native engine inside inserts the upper levels.
#[derive(Debug)]
pub(crate) struct Partition<'a>(pub(crate) Native<'a>);

impl WithSpace for Partition<'_> {
    type Output = Result<Links>;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<Links> {
        let Self(native) = self;
        let equals = Equals::find(space)?;
        // Copies would crowd the groups of their vector.
        let nodes = distinct(space.len(), &equals)?;
        if nodes.len() < MIN_NODES || space.vectors().dimension() < MIN_DIMENSION {
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
        if lost <= MAX_LOST {
            return Ok(links);
        }
        // The groups are freed by now, so a second graph does not raise the peak of memory.
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

/// All nodes except copies.
fn distinct(nodes: u32, equals: &Equals) -> Result<Vec<u32>> {
    let all = 0..nodes;
    let count = all.clone().filter(|node| !equals.is_copy(*node)).count();
    let mut distinct = memory::with_capacity(count, "hold groups of nodes")?;
    distinct.extend(all.filter(|node| !equals.is_copy(*node)));
    Ok(distinct)
}
