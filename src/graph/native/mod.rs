//! HNSW by insertion: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search
//! using Hierarchical Navigable Small World graphs", 2016.
//!
//! Vectors stay where they are. Next to the [links](super::links), a node takes 4 bytes for its
//! place in the order of insertion, and 1 for each thread, which marks it as visited.
//!
//! # Order
//!
//! Rows often come in an order in which neighbours follow each other: the chunks of a document, the
//! days of a log. Inserted in that order, most of what is near a node would come after it or in the
//! same batch, so nodes are inserted in an order that the seed scatters. The levels are drawn
//! before the first insertion, and the node of the highest level is inserted first: it is the entry
//! point from the beginning to the end.
//!
//! # Choice
//!
//! On layer 0 a new node chooses up to halfway between m and m0 neighbours: all of m0 would leave no
//! room for the links back, and m leaves lists emptier than they need to be.
//!
//! # Threads
//!
//! Nodes are inserted in batches, which grow with the graph, and each batch in two phases, with a
//! meeting after each:
//!
//! 1. *Plan*: threads take nodes of the batch, search the graph for their neighbours, and write the
//!    nodes' own lists. The rest of the graph does not change: no link leads to a node of the batch
//!    yet, so nobody reads the lists that are being written.
//! 2. *Link*: every chosen neighbour gets a link back. The links are grouped by the node that gets
//!    them, and each such node is handled by one thread, which reads and writes its list only.
//!
//! So no thread reads a list while another writes it, there is nothing to lock, and the result does
//! not depend on the number of threads or on their timing. Nodes of one batch do not find each
//! other, so a batch is a small part of the graph.
//!
//! # Copies
//!
//! Vectors that are [equal](super::equal) to an earlier one are not inserted but
//! [attached](super::attach) at the end. Then every node that no walk over layer 0 reaches
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
use crate::error::Result;
use crate::memory;
use crate::progress::Monitor;
use insert::Insert;

/// More nodes would leave no room for the mark in a [`Candidate`] or in a list.
pub(crate) const NODES_MAX: usize = Candidate::NODES_MAX as usize;

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
        // The copies are done when the last of the others is.
        let progress = |inserted, all| {
            let done = if inserted < all { inserted } else { nodes };
            self.monitor.advance(done, nodes)
        };
        self.insert(space, &links, equals, 0, &progress)?;
        self.finish(space, &links, equals)?;
        Ok(links)
    }

    /// Inserts the nodes that are on layer `lowest`, into the layers from there up.
    ///
    /// `progress` is told how many nodes of how many have been inserted.
    pub(super) fn insert<M: Measure>(
        &self,
        space: &Space<'_, M>,
        links: &Links,
        equals: &Equals,
        lowest: u8,
        progress: &(dyn Fn(u64, u64) -> Result<()> + Sync),
    ) -> Result<()> {
        let order = insertion_order(links, equals, self.seed, lowest)?;
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

    /// Links the copies, then what no walk over layer 0 reaches.
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

/// The nodes that are on a layer, but for copies and the entry point, in an order that the seed
/// scatters.
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
