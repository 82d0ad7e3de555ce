//! Every node within reach.
//!
//! The heuristic that prunes a list may remove the last link to a node, and under the dot product a
//! short vector is the nearest of none. No search finds such a node. So after everything else, a
//! walk over layer 0 from the entry point looks for them, and each gets a link from a node near it
//! that the walk has reached. The link takes the place of one by which the walk reached nothing, so
//! that what was within reach stays so.

use pulp::{Arch, Simd, WithSimd};

use super::distance::{Measure, Space};
use super::links::{add_link, all_ids, Links, NONE};
use super::native::search::{SearchScratch, Searcher};
use super::Graph;
use crate::error::{Error, Result};
use crate::memory;
use crate::progress::Monitor;

/// Makes every node of a graph reachable on layer 0.
#[derive(Debug)]
pub(crate) struct Repair<'a> {
    pub(crate) links: &'a Links,
    /// How many of the nearest of a node are asked for a link.
    pub(crate) ef: usize,
    pub(crate) monitor: &'a Monitor<'a>,
}

impl Repair<'_> {
    pub(crate) fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<()> {
        Arch::new().dispatch(Walk {
            repair: self,
            space,
        })
    }
}

struct Walk<'w, 'v, M> {
    repair: Repair<'w>,
    space: &'w Space<'v, M>,
}

/// What a walk over layer 0 has reached.
struct Reached<'r> {
    links: &'r Links,
    /// For each node, the one from which it was reached, [`NONE`] where it was not. The entry point
    /// was reached from itself.
    parents: Vec<u32>,
    /// In the order in which they were reached.
    nodes: Vec<u32>,
}

impl Reached<'_> {
    fn contains(&self, node: u32) -> bool {
        let parent = self.parents.get(node as usize);
        parent.is_some_and(|parent| *parent != NONE)
    }

    fn insert(&mut self, node: u32, parent: u32) {
        if let Some(slot) = self.parents.get_mut(node as usize) {
            if *slot == NONE {
                *slot = parent;
                // Within its capacity: each node comes once.
                self.nodes.push(node);
            }
        }
    }

    /// Goes from `node`, which has not been reached from anywhere else, to all that it leads to.
    fn walk(&mut self, node: u32, parent: u32) {
        let mut next = self.nodes.len();
        self.insert(node, parent);
        while let Some(node) = self.nodes.get(next).copied() {
            for id in all_ids(self.links.list(node, 0)) {
                self.insert(id, node);
            }
            next += 1;
        }
    }

    /// Links to `node` from `from` unless that is out of reach, or reached others by all its links.
    fn link(&mut self, from: u32, node: u32) -> bool {
        if from == node || !self.contains(from) {
            return false;
        }
        let unneeded = |id: u32| {
            let parent = self.parents.get(id as usize);
            parent.is_some_and(|parent| *parent != from)
        };
        let linked = add_link(self.links.list(from, 0), node, unneeded);
        if linked {
            self.walk(node, from);
        }
        linked
    }
}

impl<M: Measure> WithSimd for Walk<'_, '_, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Repair { links, ef, monitor } = self.repair;
        let nodes = links.len();
        let action = "walk over the graph";
        let mut reached = Reached {
            links,
            parents: memory::filled(nodes as usize, NONE, action)?,
            nodes: memory::with_capacity(nodes as usize, action)?,
        };
        reached.walk(links.entry(), links.entry());
        if reached.nodes.len() == nodes as usize {
            return Ok(());
        }
        let mut scratch = SearchScratch::new(nodes, links.m0(), ef)?;
        let searcher = Searcher {
            simd,
            space: self.space,
            links,
            ef,
        };
        for node in 0..nodes {
            if reached.contains(node) {
                continue;
            }
            monitor.check()?;
            // Its own neighbours are near it, and most often within reach.
            if all_ids(links.list(node, 0)).any(|near| reached.link(near, node)) {
                continue;
            }
            searcher.nearest(&mut scratch, &self.space.origin(node));
            let mut near = scratch.pool.iter().map(|near| near.node());
            if near.any(|near| reached.link(near, node)) {
                continue;
            }
            // Nothing was reached from the node that was reached last.
            let last = reached.nodes.last().copied();
            if !last.is_some_and(|last| reached.link(last, node)) {
                return Err(Error::internal(format!("node {node} gets no link")));
            }
        }
        Ok(())
    }
}
