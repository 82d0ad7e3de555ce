//! Links to unreachable nodes.
//!
//! A breadth-first walk over one level builds a tree: each reached node has a parent, the node from
//! which it was reached. An unreachable node gets a link from a reached node near it. The link
//! takes a free slot, or replaces a link outside of the tree, so no reached node is lost. The walk
//! then continues from the new node. It takes at most one link per unreachable node to reach all
//! nodes.
//!
//! A slot is always found. If all links of a node belong to the tree, its nearest child is tried
//! next, and so on down to a leaf. No link of a leaf belongs to the tree.
//!
//! Several threads expand the nodes at one distance from the entry point. If a node can be reached
//! from several of them, the lowest number becomes its parent. The tree therefore does not depend
//! on the order of threads.
//!
//! Memory: 4 bytes and a bit per node, and 8 bytes per node at one distance from the entry point.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pulp::{Arch, Simd, WithSimd};

use super::distance::{with_space, Measure, Metric, Space, Vectors, WithSpace};
use super::THREAD;
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::base::threads::for_each;
use crate::error::{Error, Result};

/// One level of a graph, with modifiable lists.
pub(crate) trait Layer: Sync {
    /// Number of nodes.
    fn len(&self) -> u32;

    /// Capacity of a list: at least 2, unless the level has only one node.
    fn slots(&self) -> usize;

    /// Fills `list` with a node's neighbours. Each is another node of the level.
    fn read(&self, node: u32, list: &mut Vec<u32>) -> Result<()>;

    /// Replaces a node's neighbours.
    fn write(&mut self, node: u32, list: &[u32]) -> Result<()>;

    /// Reads the vector of a node.
    fn read_vector(&self, node: u32, vector: &mut [f32]) -> Result<()>;
}

/// Number of nodes that a thread expands between two checks for cancellation.
const STEP: usize = 1024;

/// Parent of an unreached node.
const NONE: u32 = u32::MAX;

/// Maximum number of nodes visited from an unreached node in search of a reached one.
const MAX_NEARBY: usize = 256;

/// Number of nearest nodes that a search keeps.
const BEAM: usize = 16;

/// Maximum number of nodes that a search visits.
const MAX_SEARCHED: usize = 4096;

/// Makes every node of a level reachable from `entry_point`, and the entry point reachable from one
/// of the others, if any. Returns the number of new links.
pub(crate) fn connect(
    layer: &mut impl Layer,
    entry_point: u32,
    (metric, dimension): (Metric, usize),
    threads: NonZeroUsize,
    monitor: &Monitor<'_>,
) -> Result<u64> {
    let len = layer.len();
    let mut parents = memory::with_capacity(len as usize, ACTION)?;
    parents.resize_with(len as usize, || AtomicU32::new(NONE));
    let mut steps = Vec::new();
    steps.resize_with(threads.get(), Step::default);
    let mut walk = Walk {
        parents,
        settled: Bits::with_len(len.into())?,
        layer,
        entry_point,
        to_entry_point: NONE,
        next: Vec::new(),
        steps,
        vectors: Compared {
            metric,
            dimension,
            vectors: Vec::new(),
            keys: Vec::new(),
        },
        monitor,
    };
    walk.reach(entry_point, entry_point)?;
    walk.expand_all()?;
    let mut made = 0;
    for node in 0..len {
        if !walk.is_reached(node) {
            let near = walk.near(node)?;
            let parent = walk.link(near, node)?;
            walk.reach(node, parent)?;
            walk.expand_all()?;
            made += 1;
        }
    }
    if len > 1 && walk.to_entry_point == NONE {
        let mut list = Vec::new();
        walk.layer.read(entry_point, &mut list)?;
        let near = walk.vectors.nearest(walk.layer, entry_point, &list)?;
        let near = near.ok_or_else(|| Error::internal("an entry point that leads nowhere"))?;
        walk.to_entry_point = walk.link(near, entry_point)?;
        made += 1;
    }
    Ok(made)
}

struct Walk<'w, L> {
    layer: &'w mut L,
    /// For each node, its parent. The entry point is its own parent.
    parents: Vec<AtomicU32>,
    /// Nodes whose parent is final.
    settled: Bits,
    entry_point: u32,
    /// The node whose link to the entry point must stay.
    to_entry_point: u32,
    /// Reached nodes that have not been expanded yet.
    next: Vec<u32>,
    /// Results of each thread.
    steps: Vec<Step>,
    vectors: Compared,
    monitor: &'w Monitor<'w>,
}

/// Results of a thread for the nodes it expands.
#[derive(Default)]
struct Step {
    /// Nodes that this thread reached first.
    reached: Vec<u32>,
    /// The lowest expanded node with a link to the entry point.
    to_entry_point: Option<u32>,
    list: Vec<u32>,
}

/// Purpose of the memory in out-of-memory errors.
const ACTION: &str = "walk over the graph";

impl<L: Layer> Walk<'_, L> {
    fn parent(&self, node: u32) -> u32 {
        let parent = self.parents.get(node as usize);
        parent.map_or(NONE, |parent| parent.load(Relaxed))
    }

    fn is_reached(&self, node: u32) -> bool {
        self.parent(node) != NONE
    }

    fn reach(&mut self, node: u32, from: u32) -> Result<()> {
        parent_of(&self.parents, node)?.store(from, Relaxed);
        memory::reserve(&mut self.next, 1, ACTION)?;
        self.next.push(node);
        Ok(())
    }

    /// Returns true if the link between two nodes belongs to the tree.
    fn is_tree(&self, from: u32, to: u32) -> bool {
        if to == self.entry_point {
            self.to_entry_point == from
        } else {
            self.parent(to) == from
        }
    }

    /// Expands reached nodes until no new node is found.
    fn expand_all(&mut self) -> Result<()> {
        let mut frontier = Vec::new();
        while !self.next.is_empty() {
            frontier.clear();
            std::mem::swap(&mut frontier, &mut self.next);
            // Sorted so that the result is independent of the threads' order.
            frontier.sort_unstable();
            for node in &frontier {
                self.settled.insert((*node).into());
            }
            self.expand(&frontier)?;
            let mut to_entry_point = None;
            for step in &mut self.steps {
                memory::reserve(&mut self.next, step.reached.len(), ACTION)?;
                self.next.append(&mut step.reached);
                let own = step.to_entry_point.take();
                to_entry_point = to_entry_point.into_iter().chain(own).min();
            }
            if self.to_entry_point == NONE {
                self.to_entry_point = to_entry_point.unwrap_or(NONE);
            }
        }
        Ok(())
    }

    /// Expands `frontier`, and collects the nodes reached for the first time.
    fn expand(&mut self, frontier: &[u32]) -> Result<()> {
        let parts = frontier.chunks(STEP);
        // At most one thread per part.
        let threads = parts.len().min(self.steps.len());
        let steps = self.steps.get_mut(..threads).unwrap_or_default();
        let (layer, monitor) = (&*self.layer, self.monitor);
        let (parents, settled) = (self.parents.as_slice(), &self.settled);
        let entry_point = self.entry_point;
        for_each(THREAD, steps, parts, |step, nodes| {
            monitor.check()?;
            for node in nodes {
                layer.read(*node, &mut step.list)?;
                for neighbour in &step.list {
                    if *neighbour == entry_point {
                        let known = step.to_entry_point;
                        step.to_entry_point = known.into_iter().chain([*node]).min();
                    }
                    if settled.contains((*neighbour).into()) {
                        continue;
                    }
                    let parent = parent_of(parents, *neighbour)?;
                    // The first thread to lower the parent from NONE records the node; later ones
                    // only lower it further.
                    if parent.fetch_min(*node, Relaxed) == NONE {
                        memory::reserve(&mut step.reached, 1, ACTION)?;
                        step.reached.push(*neighbour);
                    }
                }
            }
            Ok(())
        })
    }

    /// Finds a reached node near `node`, first among the nodes that its own links lead to.
    fn near(&mut self, node: u32) -> Result<u32> {
        let mut seen = HashSet::from([node]);
        let mut nodes = vec![node];
        let mut at = 0;
        let mut list = Vec::new();
        while let Some(from) = nodes.get(at).copied() {
            at += 1;
            self.layer.read(from, &mut list)?;
            let reached: Vec<u32> = list
                .iter()
                .copied()
                .filter(|neighbour| self.is_reached(*neighbour))
                .collect();
            if let Some(nearest) = self.vectors.nearest(self.layer, node, &reached)? {
                return Ok(nearest);
            }
            for neighbour in list.drain(..) {
                if nodes.len() < MAX_NEARBY && seen.insert(neighbour) {
                    nodes.push(neighbour);
                }
            }
        }
        self.search(node)
    }

    /// Searches the reached nodes for one near `node`, by HNSW's search of one level.
    fn search(&mut self, node: u32) -> Result<u32> {
        let Self {
            layer,
            parents,
            entry_point,
            vectors,
            ..
        } = self;
        let is_reached = |node: u32| {
            let parent = parents.get(node as usize);
            parent.is_some_and(|parent| parent.load(Relaxed) != NONE)
        };
        let beam = vectors.search(*layer, *entry_point, node, BEAM, is_reached)?;
        Ok(beam.first().map_or(*entry_point, |(_, node)| *node))
    }

    /// Adds a link to `node` at `near` or at a descendant of it in the tree. Returns the source of
    /// the link.
    fn link(&mut self, near: u32, node: u32) -> Result<u32> {
        let mut from = near;
        let mut list = Vec::new();
        // A tree has no cycle, so each node is visited at most once.
        for _ in 0..self.layer.len() {
            self.layer.read(from, &mut list)?;
            if list.contains(&node) {
                return Ok(from);
            }
            if list.len() < self.layer.slots() {
                list.push(node);
                self.layer.write(from, &list)?;
                return Ok(from);
            }
            let others: Vec<u32> = list
                .iter()
                .copied()
                .filter(|neighbour| !self.is_tree(from, *neighbour))
                .collect();
            if let Some(farthest) = self.vectors.farthest(self.layer, from, &others)? {
                if let Some(slot) = list.iter_mut().find(|neighbour| **neighbour == farthest) {
                    *slot = node;
                }
                self.layer.write(from, &list)?;
                return Ok(from);
            }
            // All links belong to the tree: continue with a child. The link to the entry point
            // leads upwards.
            list.retain(|neighbour| *neighbour != self.entry_point);
            let below = self.vectors.nearest(self.layer, node, &list)?;
            from = below.ok_or_else(|| Error::internal("a full list without neighbours"))?;
        }
        Err(Error::internal("a tree without a leaf"))
    }
}

fn parent_of(parents: &[AtomicU32], node: u32) -> Result<&AtomicU32> {
    let parent = parents.get(node as usize);
    parent.ok_or_else(|| Error::internal("a link out of the graph"))
}

/// Links the nodes from number `first`, which have no incoming links yet. Each gets the nearest
/// nodes found by a search from `entry_point` over the nodes before it, with beam width `ef`.
pub(crate) fn insert(
    layer: &mut impl Layer,
    entry_point: u32,
    first: u32,
    ef: usize,
    (metric, dimension): (Metric, usize),
    monitor: &Monitor<'_>,
) -> Result<()> {
    let mut vectors = Compared {
        metric,
        dimension,
        vectors: Vec::new(),
        keys: Vec::new(),
    };
    let slots = layer.slots();
    let mut list = Vec::new();
    for node in first..layer.len() {
        monitor.check()?;
        let near = vectors.search(layer, entry_point, node, ef.max(slots), |other| {
            other < node
        })?;
        let chosen = vectors.choose(layer, &near, slots)?;
        layer.write(node, &chosen)?;
        for other in chosen {
            layer.read(other, &mut list)?;
            if list.contains(&node) {
                continue;
            }
            if list.len() < slots {
                list.push(node);
                layer.write(other, &list)?;
                continue;
            }
            // Let the new link compete with the others; the farthest is dropped.
            list.push(node);
            if let Some(farthest) = vectors.farthest(layer, other, &list)? {
                if farthest != node {
                    list.retain(|neighbour| *neighbour != farthest);
                    layer.write(other, &list)?;
                }
            }
        }
    }
    Ok(())
}

/// Buffers for comparing vectors with one another.
struct Compared {
    metric: Metric,
    dimension: usize,
    vectors: Vec<f32>,
    keys: Vec<f32>,
}

impl Compared {
    /// Fills `keys` with the distances of `others` from `node`.
    fn compare(&mut self, layer: &mut impl Layer, node: u32, others: &[u32]) -> Result<()> {
        self.keys.clear();
        // Only two vectors are held at a time, because they can be as large as memory.
        memory::reserve(&mut self.keys, others.len(), "compare vectors")?;
        let size = self.dimension.saturating_mul(2);
        if self.vectors.len() != size {
            self.vectors = memory::filled(size, 0.0, "compare vectors")?;
        }
        if let Some(slot) = self.vectors.get_mut(..self.dimension) {
            layer.read_vector(node, slot)?;
        }
        for other in others {
            if let Some(slot) = self.vectors.get_mut(self.dimension..) {
                layer.read_vector(*other, slot)?;
            }
            let vectors = Vectors::new(&self.vectors, self.dimension)?;
            self.keys.push(with_space(self.metric, vectors, Key)?);
        }
        Ok(())
    }

    /// Searches from `entry_point` for the nodes nearest to `node` among those admitted, by HNSW's
    /// search of one level. Returns at most `width` nodes, nearest first.
    fn search(
        &mut self,
        layer: &mut impl Layer,
        entry_point: u32,
        node: u32,
        width: usize,
        admits: impl Fn(u32) -> bool,
    ) -> Result<Vec<(f32, u32)>> {
        let mut seen = HashSet::from([entry_point]);
        self.compare(layer, node, &[entry_point])?;
        let key = self.keys.first().copied().unwrap_or(f32::INFINITY);
        // Nearest first; the flag marks expanded nodes.
        let mut beam: Vec<(f32, u32, bool)> = vec![(key, entry_point, false)];
        let mut list = Vec::new();
        while seen.len() < MAX_SEARCHED {
            let Some(from) = beam.iter_mut().find(|(_, _, expanded)| !expanded) else {
                break;
            };
            from.2 = true;
            let from = from.1;
            layer.read(from, &mut list)?;
            list.retain(|neighbour| admits(*neighbour) && seen.insert(*neighbour));
            self.compare(layer, node, &list)?;
            for (key, neighbour) in self.keys.iter().zip(&list) {
                let place = beam.partition_point(|(other, _, _)| other <= key);
                if place < width {
                    beam.insert(place, (*key, *neighbour, false));
                    beam.truncate(width);
                }
            }
        }
        Ok(beam.into_iter().map(|(key, node, _)| (key, node)).collect())
    }

    /// Chooses at most `slots` of a search's results: first the nodes closer to the query than to
    /// any node chosen before, then the nearest of the rest.
    fn choose(
        &mut self,
        layer: &mut impl Layer,
        near: &[(f32, u32)],
        slots: usize,
    ) -> Result<Vec<u32>> {
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        for (key, node) in near {
            if chosen.len() >= slots {
                break;
            }
            self.compare(layer, *node, &chosen)?;
            if self.keys.iter().any(|other| other < key) {
                others.push(*node);
            } else {
                chosen.push(*node);
            }
        }
        let left = slots.saturating_sub(chosen.len());
        chosen.extend(others.into_iter().take(left));
        Ok(chosen)
    }

    fn nearest(
        &mut self,
        layer: &mut impl Layer,
        node: u32,
        others: &[u32],
    ) -> Result<Option<u32>> {
        self.compare(layer, node, others)?;
        let pairs = self.keys.iter().zip(others);
        let nearest = pairs.min_by(|(a, x), (b, y)| a.total_cmp(b).then(x.cmp(y)));
        Ok(nearest.map(|(_, node)| *node))
    }

    fn farthest(
        &mut self,
        layer: &mut impl Layer,
        node: u32,
        others: &[u32],
    ) -> Result<Option<u32>> {
        self.compare(layer, node, others)?;
        let pairs = self.keys.iter().zip(others);
        let farthest = pairs.max_by(|(a, x), (b, y)| a.total_cmp(b).then(x.cmp(y)));
        Ok(farthest.map(|(_, node)| *node))
    }
}

/// Computes the distance of the second vector from the first.
struct Key;

impl WithSpace for Key {
    type Output = f32;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> f32 {
        Arch::new().dispatch(KeyIn(space))
    }
}

struct KeyIn<'s, 'v, M>(&'s Space<'v, M>);

impl<M: Measure> WithSimd for KeyIn<'_, '_, M> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        self.0.key(simd, &self.0.origin(0), 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nodes on a line, at their numbers.
    struct Listed {
        slots: usize,
        lists: Vec<Vec<u32>>,
    }

    impl Layer for Listed {
        fn len(&self) -> u32 {
            u32::try_from(self.lists.len()).unwrap()
        }

        fn slots(&self) -> usize {
            self.slots
        }

        fn read(&self, node: u32, list: &mut Vec<u32>) -> Result<()> {
            list.clone_from(&self.lists[node as usize]);
            Ok(())
        }

        fn write(&mut self, node: u32, list: &[u32]) -> Result<()> {
            assert!(list.len() <= self.slots);
            self.lists[node as usize] = list.to_vec();
            Ok(())
        }

        fn read_vector(&self, node: u32, vector: &mut [f32]) -> Result<()> {
            vector.fill(f32::from(u16::try_from(node).unwrap()));
            Ok(())
        }
    }

    fn reached(lists: &[Vec<u32>], entry_point: u32) -> HashSet<u32> {
        let mut reached = HashSet::from([entry_point]);
        let mut next = vec![entry_point];
        while let Some(node) = next.pop() {
            for neighbour in &lists[node as usize] {
                if reached.insert(*neighbour) {
                    next.push(*neighbour);
                }
            }
        }
        reached
    }

    fn made_by(layer: &mut Listed, entry_point: u32, threads: usize) -> u64 {
        let space = (Metric::SquaredEuclidean, 2);
        let threads = NonZeroUsize::new(threads).unwrap();
        connect(layer, entry_point, space, threads, &Monitor::default()).unwrap()
    }

    fn check(mut layer: Listed, entry_point: u32) {
        let before = reached(&layer.lists, entry_point);
        let lists = layer.lists.clone();
        let made = made_by(&mut layer, entry_point, 1);
        let after = &layer.lists;
        assert_eq!(reached(after, entry_point).len(), after.len());
        let missing = (after.len() - before.len()) as u64;
        assert!(made <= missing + 1);
        if made == 0 {
            assert_eq!(&lists, after);
        }
        let mut inbound = vec![false; after.len()];
        for (node, list) in after.iter().enumerate() {
            let distinct: HashSet<_> = list.iter().collect();
            assert_eq!(distinct.len(), list.len());
            assert!(!list.contains(&u32::try_from(node).unwrap()));
            for neighbour in list {
                inbound[*neighbour as usize] = true;
            }
        }
        assert!(after.len() == 1 || inbound.iter().all(|inbound| *inbound));
    }

    #[test]
    fn a_full_chain_and_nodes_without_links_are_connected() {
        check(
            Listed {
                slots: 2,
                lists: vec![vec![]],
            },
            0,
        );
        // Each node leads to the next only, and the last to nobody; none leads to the rest.
        let mut lists: Vec<Vec<u32>> = (1..20).map(|next| vec![next]).collect();
        lists.resize(40, Vec::new());
        for entry_point in [0, 10, 19, 39] {
            check(
                Listed {
                    slots: 2,
                    lists: lists.clone(),
                },
                entry_point,
            );
        }
        // Full lists, all of whose links the tree needs.
        let binary = (0..31_u32)
            .map(|node| match node {
                0..15 => vec![2 * node + 1, 2 * node + 2],
                _ => vec![0, node - 1],
            })
            .chain((0..9).map(|_| vec![0, 1]))
            .collect();
        check(
            Listed {
                slots: 2,
                lists: binary,
            },
            0,
        );
    }

    #[test]
    fn threads_leave_the_same_links() {
        // Twenty nodes that nobody links to among many that are reached in a few steps.
        let count = 50_000_u32;
        let lists: Vec<Vec<u32>> = (0..count)
            .map(|node| {
                let far = (0..6_u32).map(|at| node.wrapping_mul(31 + at).wrapping_add(at) % count);
                far.filter(|other| *other != node && other % 2500 != 7)
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect()
            })
            .collect();
        let after = [1, 2, 5].map(|threads| {
            let lists = lists.clone();
            let mut layer = Listed { slots: 6, lists };
            assert!(made_by(&mut layer, 1, threads) >= 20);
            layer.lists
        });
        assert_eq!(after[0], after[1]);
        assert_eq!(after[0], after[2]);
    }

    #[test]
    fn nodes_that_are_inserted_are_next_to_their_neighbours() {
        // A line in which every node links to the next ones on both sides.
        let count = 60_u32;
        let lists = (0..count)
            .map(|node| {
                let near = node.saturating_sub(2)..(node + 3).min(40);
                near.filter(|other| *other != node && node < 40).collect()
            })
            .collect();
        let mut layer = Listed { slots: 4, lists };
        let space = (Metric::SquaredEuclidean, 2);
        insert(&mut layer, 0, 40, 8, space, &Monitor::default()).unwrap();
        for node in 40..count {
            let list = &layer.lists[node as usize];
            assert!(list.contains(&(node - 1)), "{node}: {list:?}");
            assert!(list.len() <= 4 && list.iter().all(|other| *other != node));
            assert!(layer.lists[node as usize - 1].contains(&node));
        }
        made_by(&mut layer, 0, 1);
        assert_eq!(reached(&layer.lists, 0).len(), count as usize);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_node_of_any_graph_is_reached_and_has_a_link_to_it(
            count in 1..60_u32,
            slots in 2..5_usize,
            links in prop::collection::vec((any::<u32>(), any::<u32>()), 0..200),
            entry_point in any::<u32>(),
        ) {
            let mut lists = vec![Vec::new(); count as usize];
            for (from, to) in links {
                let (from, to) = (from % count, to % count);
                let list: &mut Vec<u32> = &mut lists[from as usize];
                if from != to && list.len() < slots && !list.contains(&to) {
                    list.push(to);
                }
            }
            check(Listed { slots, lists }, entry_point % count);
        }
    }
}
