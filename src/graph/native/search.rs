//! Searches of the graph while it is being built.

use pulp::{Scalar, Simd, WithSimd};

use super::super::candidate::{ordered, Candidate};
use super::super::distance::{Measure, Origin, Space};
use super::super::links::{ids, Links};
use crate::base::memory;
use crate::error::Result;
use crate::io::mmap::prefetch;

/// Maximum size in bytes of the vectors prefetched at a time.
const MAX_PREFETCHED_BYTES: usize = 12 << 10;

/// Buffers that one thread reuses from search to search.
#[derive(Debug)]
pub(crate) struct SearchScratch {
    /// For each node, the stamp of the last search that visited it.
    visited: Vec<u8>,
    stamp: u8,
    /// The results of a search, nearest first.
    pub(crate) pool: Vec<Candidate>,
    unvisited: Vec<u32>,
}

impl SearchScratch {
    pub(crate) fn new(nodes: u32, m0: usize, ef: usize) -> Result<Self> {
        let action = "search the graph";
        Ok(Self {
            visited: memory::filled(nodes as usize, 0, action)?,
            stamp: 0,
            pool: memory::with_capacity(ef.saturating_add(1), action)?,
            unvisited: memory::with_capacity(m0, action)?,
        })
    }

    /// Starts a new search without visited nodes.
    #[inline(always)]
    fn begin(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        // The stamp wrapped around: old stamps could pass for new ones.
        if self.stamp == 0 {
            self.visited.fill(0);
            self.stamp = 1;
        }
        self.pool.clear();
    }
}

/// The paper's read-only algorithms, for one instruction set and one metric.
///
/// Long ones are functions of their own, which [`Simd::vectorize`] compiles for the processor.
/// Inlined into every caller, they dominated the crate's compile time.
#[derive(Clone, Copy)]
pub(crate) struct Searcher<'s, 'v, S, M> {
    pub(crate) simd: S,
    pub(crate) space: &'s Space<'v, M>,
    pub(crate) links: &'s Links,
    /// Number of nearest nodes that a search keeps.
    pub(crate) ef: usize,
}

impl<'s, 'v, S: Simd, M: Measure> Searcher<'s, 'v, S, M> {
    /// The node at which every search starts.
    #[inline(always)]
    pub(crate) fn entry(&self, origin: &Origin<'_>) -> Candidate {
        let entry = self.links.entry();
        Candidate::new(self.space.key(self.simd, origin, entry), entry)
    }

    /// Leaves the nearest nodes of level 0 in the pool, nearest first.
    #[inline(always)]
    pub(crate) fn nearest(&self, scratch: &mut SearchScratch, origin: &Origin<'_>) {
        let mut nearest = self.entry(origin);
        for layer in (1..=self.links.level_of(nearest.node())).rev() {
            nearest = self.descend(origin, nearest, layer);
        }
        self.search(scratch, origin, nearest, 0);
    }

    /// Walks to a node that is nearer than all its neighbours on the level.
    #[inline(never)]
    pub(crate) fn descend(&self, origin: &Origin<'_>, start: Candidate, layer: u8) -> Candidate {
        self.simd.vectorize(Descend {
            graph: self.graph(),
            origin,
            start,
            layer,
        })
    }

    /// Algorithm 2: leaves the nearest nodes of the level in the pool, nearest first.
    ///
    /// The pool serves both as the paper's result set and as its candidate queue: a candidate
    /// outside of the best `ef` is never expanded. Marks show the expanded ones.
    #[inline(never)]
    pub(crate) fn search(
        &self,
        scratch: &mut SearchScratch,
        origin: &Origin<'_>,
        start: Candidate,
        layer: u8,
    ) {
        self.simd.vectorize(Search {
            graph: self.graph(),
            scratch,
            origin,
            start,
            layer,
        });
    }

    /// Algorithm 4 without its extensions: from candidates in ascending distance, chooses at most
    /// `most` that are closer to the origin than to any node chosen before.
    ///
    /// With `TRUST`, marked candidates are known not to exclude each other, and are not compared.
    #[inline(never)]
    pub(crate) fn choose<const TRUST: bool>(
        &self,
        candidates: &[Candidate],
        most: usize,
        chosen: &mut Vec<Candidate>,
    ) {
        self.simd.vectorize(Choose::<'_, '_, TRUST, M> {
            graph: self.graph(),
            candidates,
            most,
            chosen,
        });
    }

    /// A searcher for any processor, to be specialised by [`Simd::vectorize`].
    fn graph(&self) -> Searcher<'s, 'v, Scalar, M> {
        self.on(Scalar)
    }

    #[inline(always)]
    fn on<V: Simd>(&self, simd: V) -> Searcher<'s, 'v, V, M> {
        Searcher {
            simd,
            space: self.space,
            links: self.links,
            ef: self.ef,
        }
    }

    #[inline(always)]
    fn descend_inlined(&self, origin: &Origin<'_>, start: Candidate, layer: u8) -> Candidate {
        let mut nearest = start;
        loop {
            let list = self.links.list(nearest.node(), layer);
            for id in ids(list) {
                self.space.prefetch(id);
            }
            let mut next = nearest;
            for id in ids(list) {
                let candidate = Candidate::new(self.space.key(self.simd, origin, id), id);
                next = next.min(candidate);
            }
            if next.order() >= nearest.order() {
                return nearest;
            }
            nearest = next;
        }
    }

    #[inline(always)]
    fn search_inlined(
        &self,
        scratch: &mut SearchScratch,
        origin: &Origin<'_>,
        start: Candidate,
        layer: u8,
    ) {
        scratch.begin();
        let SearchScratch {
            visited,
            stamp,
            pool,
            unvisited,
        } = scratch;
        let stamp = *stamp;
        if let Some(visited) = visited.get_mut(start.node() as usize) {
            *visited = stamp;
        }
        pool.push(start.unmarked());
        let ahead = (MAX_PREFETCHED_BYTES / size_of_val(origin.vector()).max(1)).max(1);
        let mut next = 0;
        loop {
            // Everything in the pool is expanded: the search is complete.
            let Some(candidate) = pool.get_mut(next) else {
                return;
            };
            if candidate.is_marked() {
                next += 1;
                continue;
            }
            *candidate = candidate.marked();
            let node = candidate.node();

            unvisited.clear();
            for id in ids(self.links.list(node, layer)) {
                if let Some(visited) = visited.get_mut(id as usize) {
                    if *visited != stamp {
                        *visited = stamp;
                        unvisited.push(id);
                    }
                }
            }
            for id in unvisited.iter().take(ahead) {
                self.space.prefetch(*id);
            }
            // Probably the next node to be expanded.
            if let Some(following) = pool.get(next.wrapping_add(1)) {
                prefetch(self.links.list(following.node(), layer));
            }
            for (number, id) in unvisited.iter().enumerate() {
                if let Some(later) = unvisited.get(number.wrapping_add(ahead)) {
                    self.space.prefetch(*later);
                }
                let found = Candidate::new(self.space.key(self.simd, origin, *id), *id);
                if pool.len() >= self.ef {
                    if pool.last().is_some_and(|worst| found >= *worst) {
                        continue;
                    }
                    pool.pop();
                }
                let position = pool.partition_point(|candidate| *candidate < found);
                pool.insert(position, found);
                // A new candidate before `next` must be expanded first.
                next = next.min(position);
            }
        }
    }

    #[inline(always)]
    fn choose_inlined<const TRUST: bool>(
        &self,
        candidates: &[Candidate],
        most: usize,
        chosen: &mut Vec<Candidate>,
    ) {
        chosen.clear();
        for (number, candidate) in candidates.iter().enumerate() {
            if chosen.len() >= most {
                return;
            }
            if let Some(later) = candidates.get(number.wrapping_add(2)) {
                self.space.prefetch(later.node());
            }
            let origin = self.space.origin(candidate.node());
            // A loop instead of a closure, which would be compiled without the processor's
            // instructions.
            let mut shadowed = false;
            for before in chosen.iter() {
                if TRUST && candidate.is_marked() && before.is_marked() {
                    continue;
                }
                let key = self.space.key(self.simd, &origin, before.node());
                if ordered(key) < candidate.order() {
                    shadowed = true;
                    break;
                }
            }
            if !shadowed {
                chosen.push(*candidate);
            }
        }
    }
}

struct Descend<'d, 'v, M> {
    graph: Searcher<'d, 'v, Scalar, M>,
    origin: &'d Origin<'d>,
    start: Candidate,
    layer: u8,
}

impl<M: Measure> WithSimd for Descend<'_, '_, M> {
    type Output = Candidate;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Candidate {
        let searcher = self.graph.on(simd);
        searcher.descend_inlined(self.origin, self.start, self.layer)
    }
}

struct Search<'d, 'v, M> {
    graph: Searcher<'d, 'v, Scalar, M>,
    scratch: &'d mut SearchScratch,
    origin: &'d Origin<'d>,
    start: Candidate,
    layer: u8,
}

impl<M: Measure> WithSimd for Search<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let searcher = self.graph.on(simd);
        searcher.search_inlined(self.scratch, self.origin, self.start, self.layer);
    }
}

struct Choose<'d, 'v, const TRUST: bool, M> {
    graph: Searcher<'d, 'v, Scalar, M>,
    candidates: &'d [Candidate],
    most: usize,
    chosen: &'d mut Vec<Candidate>,
}

impl<const TRUST: bool, M: Measure> WithSimd for Choose<'_, '_, TRUST, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let searcher = self.graph.on(simd);
        searcher.choose_inlined::<TRUST>(self.candidates, self.most, self.chosen);
    }
}
