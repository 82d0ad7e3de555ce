//! Makes every node reachable from the entry point.
//!
//! Pruning may remove the last link to a node, and under the dot product a short vector is nearest to no
//! other. No search finds such a node. So the last step of a build walks level 0 from the entry point.
//! Each node that the walk misses gets a link from a reached node near it. The link replaces one that
//! is not part of the walk's tree, so that reached nodes stay reachable.

use pulp::{Arch, Simd, WithSimd};

use super::distance::{Measure, Space};
use super::links::{add_link, all_ids, Links, NONE};
use super::native::search::{SearchScratch, Searcher};
use super::Graph;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Makes every node of a graph reachable on level 0.
#[derive(Debug)]
pub(crate) struct Repair<'a> {
    pub(crate) links: &'a Links,
    /// Number of near nodes that are tried as the source of a link.
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

/// Nodes reached by a walk over level 0.
struct Reached<'r> {
    links: &'r Links,
    /// For each node its parent in the walk's tree, [`NONE`] if it is not reached. The entry point is
    /// its own parent.
    parents: Vec<u32>,
    /// In the order of the walk.
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
                // Never reallocates: each node is pushed once.
                self.nodes.push(node);
            }
        }
    }

    /// Extends the walk from `node`, which is not reached yet, to every node that it leads to.
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

    /// Links `from` to `node`, unless `from` is unreachable or all its links belong to the walk's tree.
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
            // The node's own neighbours are near it, and usually reachable.
            if all_ids(links.list(node, 0)).any(|near| reached.link(near, node)) {
                continue;
            }
            searcher.nearest(&mut scratch, &self.space.origin(node));
            let mut near = scratch.pool.iter().map(|near| near.node());
            if near.any(|near| reached.link(near, node)) {
                continue;
            }
            // The last node of the walk is a leaf of its tree, so it has a replaceable link.
            let last = reached.nodes.last().copied();
            if !last.is_some_and(|last| reached.link(last, node)) {
                return Err(Error::internal(format!("node {node} gets no link")));
            }
        }
        Ok(())
    }
}
