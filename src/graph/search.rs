//! Search of a `.hnsw` file in place.
//!
//! The search copies nothing from the file except the ids of one neighbour list at a time. In a
//! mapped file it touches only the pages that it visits. The algorithm is fast-hnsw's: greedy on
//! the upper levels. On level 0 it keeps the `ef` nearest nodes seen so far, and ends when all of
//! them are expanded. Results equal fast-hnsw's, except for nodes at exactly the same distance and
//! for the last bits of distances.
//!
//! A damaged vector has a non-finite component and no distance. The walk passes through its node:
//! the node's neighbours count as neighbours of its predecessor. The node itself is left out of the
//! results.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};
use zerocopy::FromZeros;

use super::candidate::Candidate;
use super::distance::{with_measure, Measure, Metric, Query, WithMeasure};
use super::file::read::{List, View};
use crate::base::memory;
use crate::error::{Error, Result};
use crate::io::file::FileWindow;
use crate::io::mmap::prefetch;
use crate::io::source::Source;

/// Maximum size in bytes of the vectors prefetched at a time. With 64 KiB, requests waited for one
/// another: searches took 7 % longer on a Xeon.
const MAX_PREFETCHED_BYTES: usize = 12 << 10;

/// Number of links read at a time. Lists of an undamaged file are shorter.
const CONNECTIONS_AT_ONCE: usize = 1024;

/// Maximum capacity, in candidates, of the pool kept for the next search.
const MAX_KEPT_POOL: usize = 16 << 10;

/// Maximum number of links prefetched per list.
const MAX_PREFETCHED_LINKS: usize = 64;

/// A source that supports prefetching.
pub(crate) trait Ahead: Source {
    /// True if prefetching has an effect.
    const FETCHES: bool;

    /// Hints that bytes will be read soon.
    fn will_read(&self, offset: u64, len: usize);
}

impl Ahead for &[u8] {
    const FETCHES: bool = true;

    #[inline(always)]
    fn will_read(&self, offset: u64, len: usize) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(bytes) = self.get(start..start.saturating_add(len)) {
            prefetch(bytes);
        }
    }
}

impl Ahead for FileWindow<'_> {
    const FETCHES: bool = false;

    fn will_read(&self, _: u64, _: usize) {}
}

/// Working memory of a search. It is large, and reused for later searches.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// For each node, the stamp of the last search that visited it.
    visited: Vec<u8>,
    stamp: u8,
    /// The nearest nodes seen so far, nearest first. Expanded nodes are marked.
    pool: Vec<Candidate>,
    unvisited: Vec<u32>,
    /// Nodes with a damaged vector visited by this search, without duplicates.
    damaged: Vec<u32>,
}

impl Scratch {
    pub(crate) fn new(nodes: u32) -> Result<Self> {
        // From zeroed pages: a search touches only the pages it needs.
        let visited = u8::new_vec_zeroed(nodes as usize)
            .map_err(|_| Error::out_of_memory("hold a byte for each node", u64::from(nodes)))?;
        Ok(Self {
            visited,
            ..Self::default()
        })
    }

    /// Starts a new search without visited nodes.
    fn begin(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        // The stamp wrapped around: old stamps could pass for new ones.
        if self.stamp == 0 {
            self.visited.fill(0);
            self.stamp = 1;
        }
        self.pool.clear();
        self.pool.shrink_to(MAX_KEPT_POOL);
        self.damaged.clear();
    }

    /// Records a node with a damaged vector, unless this search has visited it.
    #[cold]
    #[inline(never)]
    fn note_damaged(&mut self, node: u32) -> Result<()> {
        if let Some(place) = self.visited.get_mut(node as usize) {
            if std::mem::replace(place, self.stamp) != self.stamp {
                push(&mut self.damaged, node)?;
            }
        }
        Ok(())
    }

    /// The results of the last search, nearest first.
    pub(crate) fn found(&self) -> impl ExactSizeIterator<Item = Candidate> + '_ {
        self.pool.iter().copied()
    }

    /// Nodes that the last search left out because of damaged vectors, without duplicates.
    pub(crate) fn damaged(&self) -> &[u32] {
        &self.damaged
    }
}

/// A search for the `ef` nearest nodes, which it leaves in [`Scratch::found`].
#[derive(Debug)]
pub(crate) struct Search<'s> {
    pub(crate) scratch: &'s mut Scratch,
    /// A vector of the index's dimension.
    pub(crate) query: &'s [f32],
    pub(crate) ef: usize,
    pub(crate) metric: Metric,
}

impl Search<'_> {
    pub(crate) fn run<S: Ahead>(self, view: &mut View<'_, S>) -> Result<()> {
        let Self {
            scratch,
            query,
            ef,
            metric,
        } = self;
        scratch.begin();
        // Bounds memory for any requested `ef`.
        let ef = ef.min(view.layout().nodes as usize);
        memory::reserve(
            &mut scratch.pool,
            ef.saturating_add(1),
            "hold ef candidates",
        )?;
        with_measure(
            metric,
            Walk {
                view,
                scratch,
                query,
                ef,
            },
        )
    }
}

struct Walk<'s, 'v, S> {
    view: &'s mut View<'v, S>,
    scratch: &'s mut Scratch,
    query: &'s [f32],
    ef: usize,
}

impl<S: Ahead> WithMeasure for Walk<'_, '_, S> {
    type Output = Result<()>;

    fn run<M: Measure>(self) -> Result<()> {
        Arch::new().dispatch(WalkBy {
            walk: self,
            measure: PhantomData::<M>,
        })
    }
}

struct WalkBy<'s, 'v, S, M> {
    walk: Walk<'s, 'v, S>,
    measure: PhantomData<M>,
}

impl<S: Ahead, M: Measure> WithSimd for WalkBy<'_, '_, S, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) -> Result<()> {
        let Walk {
            view,
            scratch,
            query,
            ef,
        } = self.walk;
        let Some(entry_point) = view.layout().entry_point else {
            return Ok(());
        };
        let node = entry_point.node;
        let mut walker = Walker {
            simd,
            // At least one vector, however large.
            ahead: (MAX_PREFETCHED_BYTES / view.layout().vector_size().max(1)).max(1),
            view,
            query: Query::<M>::new(simd, query),
        };
        let mut nearest = Candidate::new(walker.key(node)?, node);
        if nearest.key().is_nan() {
            scratch.note_damaged(node)?;
        }
        for layer in (1..=entry_point.level).rev() {
            nearest = walker.descend(scratch, nearest, layer)?;
        }
        walker.search_base(scratch, nearest, ef)
    }
}

/// The algorithm for one processor, metric and kind of source.
struct Walker<'s, 'v, V, M, S> {
    simd: V,
    view: &'s mut View<'v, S>,
    query: Query<'s, M>,
    /// Number of vectors prefetched.
    ahead: usize,
}

impl<V: Simd, M: Measure, S: Ahead> Walker<'_, '_, V, M, S> {
    /// The key of a node; NaN if its vector is damaged.
    #[inline(always)]
    fn key(&mut self, node: u32) -> Result<f32> {
        Ok(self.query.key(self.simd, self.view.vector(node)?))
    }

    #[inline(always)]
    fn fetch_vector(&self, node: u32) {
        let layout = self.view.layout();
        let source = self.view.source();
        source.will_read(layout.vector_offset(node), layout.vector_size());
    }

    #[inline(always)]
    fn fetch_offset(&self, node: u32) {
        let offset = self.view.layout().offset_offset(node);
        self.view.source().will_read(offset, 1);
    }

    /// Prefetches a node's list on level 0. Its offset should be in the caches by now.
    #[inline(always)]
    fn fetch_list(&mut self, node: u32) -> Result<()> {
        if S::FETCHES {
            let offset = self.view.offset(node)?;
            let m0 = usize::try_from(self.view.layout().m0).unwrap_or(usize::MAX);
            let size = List::size_of(m0.min(MAX_PREFETCHED_LINKS));
            self.view.source().will_read(offset, size);
        }
        Ok(())
    }

    /// Fills `ids` with ids of a list from position `first`. Each is a valid node.
    #[inline(always)]
    fn read_ids(&mut self, list: List, first: usize, ids: &mut Vec<u32>) -> Result<()> {
        ids.clear();
        let nodes = self.view.layout().nodes;
        let mut highest = 0;
        let connections = self.view.connections(list, first, CONNECTIONS_AT_ONCE)?;
        ids.extend(connections.iter().map(|connection| {
            let id = connection.id.get();
            highest = highest.max(id);
            id
        }));
        if highest >= nodes {
            return Err(self.view.no_such_node(list, highest));
        }
        Ok(())
    }

    /// Walks to a node that is nearer than all its neighbours on the level. Damaged nodes count as
    /// farthest.
    #[inline(always)]
    fn descend(&mut self, scratch: &mut Scratch, start: Candidate, layer: u8) -> Result<Candidate> {
        let mut ids = std::mem::take(&mut scratch.unvisited);
        let mut nearest = start;
        loop {
            let list = self.view.list(nearest.node(), layer)?;
            let mut next = nearest;
            let mut first = 0;
            while first < list.count {
                self.read_ids(list, first, &mut ids)?;
                for id in ids.iter().take(self.ahead) {
                    self.fetch_vector(*id);
                }
                for (number, id) in ids.iter().enumerate() {
                    if let Some(later) = ids.get(number.wrapping_add(self.ahead)) {
                        self.fetch_vector(*later);
                    }
                    let key = self.key(*id)?;
                    if key.is_nan() {
                        scratch.note_damaged(*id)?;
                    }
                    next = next.min(Candidate::new(key, *id));
                }
                first = first.wrapping_add(CONNECTIONS_AT_ONCE);
                // Keys only: a tie is not an improvement.
            }
            if next.order() >= nearest.order() {
                scratch.unvisited = ids;
                return Ok(nearest);
            }
            nearest = next;
        }
    }

    /// Leaves the nearest nodes of level 0 in the pool, nearest first.
    ///
    /// The pool serves both as the result and as the queue of nodes to expand: a node outside of
    /// the best `ef` is never expanded.
    #[inline(always)]
    fn search_base(&mut self, scratch: &mut Scratch, start: Candidate, ef: usize) -> Result<()> {
        let Scratch {
            visited,
            stamp,
            pool,
            unvisited,
            damaged,
        } = scratch;
        let stamp = *stamp;
        if let Some(place) = visited.get_mut(start.node() as usize) {
            *place = stamp;
        }
        if !start.key().is_nan() {
            pool.push(start.unmarked());
        }
        // Number of damaged nodes passed through. Nodes on upper levels count as well.
        let mut passed = 0;
        let mut next = 0;
        loop {
            let list = if let Some(node) = damaged.get(passed) {
                passed += 1;
                self.view.list(*node, 0)?
            } else {
                let Some(candidate) = pool.get_mut(next) else {
                    return Ok(());
                };
                if candidate.is_marked() {
                    next += 1;
                    continue;
                }
                *candidate = candidate.marked();
                let list = self.view.list(candidate.node(), 0)?;
                // Probably the next node to be expanded.
                if let Some(following) = pool.get(next.wrapping_add(1)) {
                    self.fetch_list(following.node())?;
                }
                list
            };
            let mut first = 0;
            while first < list.count {
                self.read_ids(list, first, unvisited)?;
                first = first.wrapping_add(CONNECTIONS_AT_ONCE);
                unvisited.retain(|id| {
                    visited
                        .get_mut(*id as usize)
                        .is_some_and(|place| std::mem::replace(place, stamp) != stamp)
                });
                for id in unvisited.iter().take(self.ahead) {
                    self.fetch_vector(*id);
                }
                for (number, id) in unvisited.iter().enumerate() {
                    if let Some(later) = unvisited.get(number.wrapping_add(self.ahead)) {
                        self.fetch_vector(*later);
                    }
                    let key = self.key(*id)?;
                    if key.is_nan() {
                        push(damaged, *id)?;
                        continue;
                    }
                    let found = Candidate::new(key, *id);
                    if pool.len() >= ef {
                        if pool.last().is_some_and(|worst| found >= *worst) {
                            continue;
                        }
                        pool.pop();
                    }
                    self.fetch_offset(*id);
                    let position = pool.partition_point(|candidate| *candidate < found);
                    pool.insert(position, found);
                    next = next.min(position);
                }
            }
        }
    }
}

#[cold]
#[inline(never)]
fn push(damaged: &mut Vec<u32>, node: u32) -> Result<()> {
    memory::reserve(damaged, 1, "hold the damaged nodes of a search")?;
    damaged.push(node);
    Ok(())
}
