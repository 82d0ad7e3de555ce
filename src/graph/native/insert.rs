//! Insertion of nodes in batches, on several threads.

use std::sync::atomic::AtomicU32;
use std::sync::Mutex;

use pulp::{Arch, Simd, WithSimd};

use super::super::candidate::Candidate;
use super::super::distance::{Measure, Space};
use super::super::links::Links;
use super::super::THREAD;
use super::lists::ListScratch;
use super::search::{SearchScratch, Searcher};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::base::threads::{lock, run, take, Meeting, Stop};
use crate::error::Result;

/// Divisor of the graph's size: a batch has at most one node per `BATCH_PART` inserted nodes.
const BATCH_PART: u32 = 200;

/// Maximum number of nodes in a batch. Bounds the memory of planned links.
const MAX_BATCH: u32 = 4096;

/// Groups of links per thread. Several, so that threads finish at about the same time.
const GROUPS_PER_THREAD: usize = 4;

/// Upper bound on the number of groups.
const MAX_GROUPS: usize = 128;

/// Inserts nodes into a graph that holds only the entry point.
pub(crate) struct Insert<'a> {
    pub(crate) links: &'a Links,
    /// The nodes in the order of insertion, without the entry point.
    pub(crate) order: &'a [u32],
    /// Levels below are not changed.
    pub(crate) lowest: u8,
    pub(crate) ef_construction: usize,
    pub(crate) threads: usize,
    /// Called with the number of inserted nodes, the entry point included.
    pub(crate) progress: &'a (dyn Fn(u32) -> Result<()> + Sync),
    pub(crate) monitor: &'a Monitor<'a>,
}

impl Insert<'_> {
    pub(crate) fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<()> {
        let groups = self
            .threads
            .saturating_mul(GROUPS_PER_THREAD)
            .min(MAX_GROUPS);
        let mut scratch = Vec::new();
        for thread in 0..self.threads {
            scratch.push(Scratch::new(thread, groups, &self, space.len())?);
        }
        // One list per pair of planning thread and group, so that threads seldom share a lock.
        let slots = self.threads.saturating_mul(groups);
        let shared = Shared {
            planned: AtomicU32::new(0),
            linked: AtomicU32::new(0),
            reverse: (0..slots).map(|_| Mutex::default()).collect(),
            groups,
            insert: self,
        };
        let arch = Arch::new();
        run(THREAD, &mut scratch, |scratch, meeting, stop| {
            arch.dispatch(Worker {
                space,
                shared: &shared,
                scratch,
                meeting,
                stop,
            });
        })
    }
}

/// A link to be made from `target` to `source`, because `source` chose `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reverse {
    layer: u8,
    target: u32,
    source: u32,
    /// [`Candidate::order`] of the distance between the two.
    order: u32,
}

/// State shared by all threads.
struct Shared<'a> {
    insert: Insert<'a>,
    /// Nodes taken for planning.
    planned: AtomicU32,
    /// Groups taken for linking.
    linked: AtomicU32,
    /// The planned links by planning thread and group.
    reverse: Vec<Mutex<Vec<Reverse>>>,
    groups: usize,
}

/// Buffers that one thread reuses from node to node.
struct Scratch {
    thread: usize,
    search: SearchScratch,
    lists: ListScratch,
    /// Planned reverse links by group.
    planned: Vec<Vec<Reverse>>,
    linking: Vec<Reverse>,
}

impl Scratch {
    fn new(thread: usize, groups: usize, insert: &Insert<'_>, nodes: u32) -> Result<Self> {
        let m0 = insert.links.m0();
        let action = "insert nodes";
        Ok(Self {
            thread,
            search: SearchScratch::new(nodes, m0, insert.ef_construction)?,
            lists: ListScratch::new(m0)?,
            planned: memory::filled(groups, Vec::new(), action)?,
            linking: Vec::new(),
        })
    }
}

struct Worker<'w, 'v, M> {
    space: &'w Space<'v, M>,
    shared: &'w Shared<'w>,
    scratch: &'w mut Scratch,
    meeting: &'w Meeting,
    stop: &'w Stop,
}

impl<M: Measure> WithSimd for Worker<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            space,
            shared,
            scratch,
            meeting,
            stop,
        } = self;
        let insert = &shared.insert;
        let inserter = Inserter {
            searcher: Searcher {
                simd,
                space,
                links: insert.links,
                ef: insert.ef_construction,
            },
            lowest: insert.lowest,
        };
        let nodes = u32::try_from(insert.order.len()).unwrap_or(u32::MAX);
        let groups = u32::try_from(shared.groups).unwrap_or(u32::MAX);
        let mut groups_end = 0u32;
        let mut done = 0u32;
        loop {
            // The entry point is in the graph from the start.
            let inserted = done.saturating_add(1);
            if scratch.thread == 0 {
                stop.check((insert.progress)(inserted));
            }
            if done >= nodes {
                return;
            }
            let batch = (inserted / BATCH_PART).clamp(1, MAX_BATCH);
            let end = done.saturating_add(batch).min(nodes);
            while let Some(position) = take(&shared.planned, end) {
                if stop.is_stopped() || !stop.check(insert.monitor.check()) {
                    break;
                }
                if let Some(node) = insert.order.get(position as usize) {
                    let planned = inserter.plan(scratch, *node);
                    // Threads stop after the barrier below, which each of them must reach.
                    stop.check(planned);
                }
            }
            for (group, planned) in scratch.planned.iter_mut().enumerate() {
                let slot = scratch
                    .thread
                    .wrapping_mul(shared.groups)
                    .wrapping_add(group);
                if let Some(slot) = shared.reverse.get(slot) {
                    stop.check(append(&mut lock(slot), planned));
                }
            }
            meeting.wait();
            if stop.is_stopped() {
                return;
            }
            // The counter continues from batch to batch; its remainder is the group.
            groups_end = groups_end.wrapping_add(groups);
            while let Some(taken) = take(&shared.linked, groups_end) {
                let group = (taken % groups) as usize;
                scratch.linking.clear();
                for slot in shared.reverse.iter().skip(group).step_by(shared.groups) {
                    stop.check(append(&mut scratch.linking, &mut lock(slot)));
                }
                // The order of planning threads must not matter.
                scratch.linking.sort_unstable();
                inserter.link(scratch);
            }
            meeting.wait();
            done = end;
        }
    }
}

fn append(links: &mut Vec<Reverse>, more: &mut Vec<Reverse>) -> Result<()> {
    memory::reserve(links, more.len(), "insert nodes")?;
    links.append(more);
    Ok(())
}

/// The algorithm for one instruction set and one metric.
#[derive(Clone, Copy)]
struct Inserter<'i, 'v, S, M> {
    searcher: Searcher<'i, 'v, S, M>,
    lowest: u8,
}

impl<S: Simd, M: Measure> Inserter<'_, '_, S, M> {
    /// Algorithm 1 of the paper: finds a node's neighbours on all its levels, writes its lists, and
    /// notes the reverse links.
    #[inline(always)]
    fn plan(&self, scratch: &mut Scratch, node: u32) -> Result<()> {
        let Searcher { space, links, .. } = self.searcher;
        let origin = space.origin(node);
        let level = links.level_of(node);
        let mut nearest = self.searcher.entry(&origin);
        for layer in (self.lowest..=links.level_of(links.entry())).rev() {
            if layer > level {
                nearest = self.searcher.descend(&origin, nearest, layer);
                continue;
            }
            self.searcher
                .search(&mut scratch.search, &origin, nearest, layer);
            let Scratch {
                search: SearchScratch { pool, .. },
                lists,
                planned,
                ..
            } = scratch;
            // m0 neighbours would leave no slots for reverse links: fewer make a better graph.
            let most = usize::midpoint(links.m(), links.list(node, layer).len());
            self.searcher.write_own(lists, node, layer, pool, most);
            for candidate in &lists.chosen {
                let target = candidate.node();
                let group = target as usize % planned.len().max(1);
                if let Some(group) = planned.get_mut(group) {
                    memory::reserve(group, 1, "insert nodes")?;
                    group.push(Reverse {
                        layer,
                        target,
                        source: node,
                        order: candidate.order(),
                    });
                }
            }
            if let Some(first) = pool.first() {
                nearest = *first;
            }
        }
        Ok(())
    }

    /// Makes the links of `scratch.linking`, which is sorted by level, target and source.
    #[inline(always)]
    fn link(&self, scratch: &mut Scratch) {
        let Scratch { lists, linking, .. } = scratch;
        for added in linking.chunk_by(|a, b| a.layer == b.layer && a.target == b.target) {
            let Some(Reverse { layer, target, .. }) = added.first().copied() else {
                continue;
            };
            let added = added
                .iter()
                .map(|link| Candidate::with_order(link.order, link.source));
            self.searcher.add_back(lists, target, layer, added);
        }
    }
}
