//! The native engine: HNSW by insertion, after Malkov and Yashunin, "Efficient and robust approximate
//! nearest neighbor search using Hierarchical Navigable Small World graphs", 2016.
//!
//! Vectors stay in place. Besides the [links](super::links), a node takes 4 bytes for its position in
//! the insertion order, and 1 byte a thread for its visited mark.
//!
//! # Order
//!
//! Rows often come in an order in which neighbours follow each other: the chunks of a document, the
//! days of a journal. In that order, most neighbours of a node would come after it or in the same
//! batch. So the seed scatters the insertion order. Levels are drawn before the first insertion, and
//! the node of the highest level comes first: it is the entry point throughout.
//!
//! # Choice
//!
//! On level 0 a new node chooses up to (m + m0) / 2 neighbours. Choosing m0 would leave no slots for
//! reverse links; choosing m leaves lists emptier than necessary.
//!
//! # Threads
//!
//! Nodes are inserted in batches that grow with the graph. A batch has two phases, each followed by a
//! barrier:
//!
//! 1. *Plan*: threads take nodes of the batch, search the graph for their neighbours, and write the
//!    nodes' own lists. The rest of the graph does not change. No link leads to a node of the batch
//!    yet, so no search reads the lists that are being written.
//! 2. *Link*: every chosen neighbour gets a reverse link. Links are grouped by target, and one thread
//!    handles each target, reading and writing only its list.
//!
//! So no thread reads a list while another writes it, no locks are needed, and the result does not
//! depend on the number of threads or their timing. Nodes of one batch do not find each other, so a
//! batch is a small part of the graph.
//!
//! # Duplicates
//!
//! A vector that is [equal](super::equal) to an earlier one is not inserted but
//! [attached](super::attach) at the end. Then every node that is unreachable on level 0
//! [gets a link](super::reach).

mod insert;
pub(super) mod lists;
pub(super) mod search;

use std::num::NonZeroUsize;

use super::attach::Attach;
use super::candidate::Candidate;
use super::distance::{Measure, Space, WithSpace};
use super::equal::Equals;
use super::links::Links;
use super::random::Random;
use super::reach::Repair;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;
use insert::Insert;

/// Maximum number of nodes: the mark in a [`Candidate`] or a list takes one bit of the node's
/// number.
pub(crate) const MAX_NODES: usize = Candidate::MAX_NODES as usize;

/// Builds a graph.
#[derive(Debug)]
pub(crate) struct Native<'a> {
    pub(crate) m: usize,
    pub(crate) m0: usize,
    pub(crate) ef_construction: usize,
    pub(crate) seed: u64,
    pub(crate) threads: NonZeroUsize,
    pub(crate) monitor: &'a Monitor<'a>,
}

impl WithSpace for Native<'_> {
    type Output = Result<Links>;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<Links> {
        self.build(space, &Equals::find(space)?)
    }
}

impl Native<'_> {
    pub(super) fn build<M: Measure>(&self, space: &Space<'_, M>, equals: &Equals) -> Result<Links> {
        let nodes = u64::from(space.len());
        let links = Links::new(space.len(), self.m, self.m0, self.seed, equals)?;
        // Duplicates count as done with the last inserted node.
        let progress = |inserted, all| {
            let done = if inserted < all { inserted } else { nodes };
            self.monitor.advance(done, nodes)
        };
        self.insert(space, &links, equals, 0, &progress)?;
        self.finish(space, &links, equals)?;
        Ok(links)
    }

    /// Inserts the nodes of level `lowest` and above into the levels from `lowest` up.
    ///
    /// Calls `progress` with the number of inserted nodes and their total.
    pub(super) fn insert<M: Measure>(
        &self,
        space: &Space<'_, M>,
        links: &Links,
        equals: &Equals,
        lowest: u8,
        progress: &(dyn Fn(u64, u64) -> Result<()> + Sync),
    ) -> Result<()> {
        let order = insertion_order(links, equals, self.seed, lowest)?;
        // The entry point is not in `order`.
        let all = order.len().saturating_add(1) as u64;
        Insert {
            links,
            order: &order,
            lowest,
            ef_construction: self.ef_construction,
            threads: self.threads.get(),
            progress: &|inserted| progress(u64::from(inserted), all),
            monitor: self.monitor,
        }
        .run(space)
    }

    /// Links duplicates, then nodes that are unreachable on level 0.
    pub(super) fn finish<M: Measure>(
        &self,
        space: &Space<'_, M>,
        links: &Links,
        equals: &Equals,
    ) -> Result<()> {
        Attach {
            links,
            equals,
            ef: self.ef_construction,
            threads: self.threads.get(),
            monitor: self.monitor,
        }
        .run(space)?;
        Repair {
            links,
            ef: self.ef_construction,
            monitor: self.monitor,
        }
        .run(space)
    }
}

/// The nodes of a level in an order scattered by the seed, without duplicates and the entry point.
fn insertion_order(links: &Links, equals: &Equals, seed: u64, layer: u8) -> Result<Vec<u32>> {
    let on_layer = |node: &u32| {
        *node != links.entry() && links.level_of(*node) >= layer && !equals.is_copy(*node)
    };
    let nodes = 0..super::Graph::len(links);
    let count = nodes.clone().filter(on_layer).count();
    let mut order = memory::with_capacity(count, "order the nodes")?;
    order.extend(nodes.filter(on_layer));
    Random::new(seed).shuffle(&mut order);
    Ok(order)
}
