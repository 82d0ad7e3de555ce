//! Removes deleted nodes from a graph and reconnects their neighbours.
//!
//! A node that loses neighbours gets new ones from the lists of the lost ones: live nodes two links
//! away, through a deleted node.
//!
//! ```text
//!   node ── deleted ── a          node ── a
//!     │        └────── b    →       ├──── b
//!    live                          live
//! ```
//!
//! With many deletions, the nodes behind a deleted node are deleted also. The walk then continues
//! through the nearest deleted nodes, until it has found enough live ones or has expanded its
//! maximum of deleted ones. If a node loses more than a few neighbours, the neighbours of its live
//! neighbours become candidates also.
//!
//! A node often has a hundred such candidates, and reading all of their vectors would dominate the
//! run time. [Sketches](super::sketch) therefore rank the candidates. If many neighbours are lost,
//! they also decide which vectors to read. Candidates are taken in this order until the list is
//! full:
//!
//! 1. candidates closer to the node than to any neighbour: HNSW's heuristic, which keeps
//!    neighbours from all pointing in one direction;
//! 2. if vectors are read, candidates only slightly closer to a neighbour;
//! 3. the nearest of the rest.
//!
//! A search of an index with deleted nodes expands more nodes than `ef`. Full lists compensate for
//! that.
//!
//! Lists depend on the old graph only, never on new lists. They can therefore be computed in any
//! order and by any number of threads.

use std::slice;

use pulp::{Arch, Simd, WithSimd};

use super::distance::{with_space, Measure, Metric, Space, Vectors, WithSpace};
use super::sketch::Sketch;
use crate::base::memory;
use crate::error::Result;
use crate::io::mmap::prefetch;

/// A graph with deleted nodes, as read by one thread.
pub(crate) trait PartlyDeletedGraph {
    /// Returns true if a node is live.
    fn is_live(&self, node: u32) -> bool;

    /// Appends a node's neighbours on a level. Each of them exists and is on that level.
    fn add_neighbours(&mut self, node: u32, layer: u8, neighbours: &mut Vec<u32>) -> Result<()>;

    /// Reads the vector of a node.
    fn read_vector(&mut self, node: u32, vector: &mut [f32]) -> Result<()>;

    /// A node's sketch.
    fn sketch(&self, node: u32) -> &Sketch;
}

/// Slots that the walk tries to fill per deleted neighbour, up to the whole list.
const SLOTS_PER_DELETED: usize = 2;

/// The walk through deleted nodes stops once it has found this many live candidates per slot.
const CANDIDATES_PER_SLOT: usize = 8;

/// Maximum number of deleted nodes expanded, per slot of a list and unit of effort.
const DELETED_PER_SLOT: usize = 1;

/// Larger efforts count as this one.
const MAX_EFFORT: usize = 8;

/// At one deletion per this many survivors or more, the neighbours of live neighbours become
/// candidates also, and exact distances are compared.
const DENSE_DELETION_RATIO: usize = 3;

/// Number of candidates whose vectors are read, per free slot.
const VECTORS_PER_FREE_SLOT: usize = 2;

/// Tolerance of the pruning rule. A candidate is kept although it is closer to a chosen neighbour
/// than to the node, if by less than this fraction of its distance to the node. Raises recall by
/// 0.002 to 0.004 when half of the nodes are deleted.
const PRUNING_TOLERANCE: f32 = 0.125;

/// Maximum size in bytes of the vectors compared at a time.
const MAX_VECTOR_BYTES: usize = 512 << 10;

/// Purpose of the memory in out-of-memory errors.
const ACTION: &str = "find other neighbours";

/// Minimum number of vectors compared at a time, regardless of their size.
const MIN_VECTORS: usize = 4;

/// Computes new neighbour lists, one at a time.
#[derive(Debug)]
pub(crate) struct Reconnector {
    metric: Metric,
    dimension: usize,
    effort: usize,
    /// The node itself and every node seen from it.
    seen: Seen,
    /// Live neighbours, which keep their slots.
    kept: Vec<u32>,
    /// Deleted nodes in the order of expansion.
    deleted: Vec<u32>,
    /// Neighbours of the nodes just expanded, unfiltered.
    behind: Vec<u32>,
    /// Live nodes found, without the node's neighbours and without duplicates.
    candidates: Vec<u32>,
    /// Deleted nodes found behind deleted ones, not yet expanded.
    unexpanded: Vec<u32>,
    by_key: Vec<(i32, u32)>,
    by_sketch: Vec<(i32, u32)>,
    sketches: Vec<Sketch>,
    keys: Vec<i32>,
    /// Vectors of the node, of its live neighbours and of candidates, in this order.
    vectors: Vec<f32>,
    order: Vec<(f32, u32)>,
    chosen: Vec<u32>,
}

impl Reconnector {
    /// The maximum number of expanded deleted nodes is proportional to `effort`.
    pub(crate) fn new(metric: Metric, dimension: usize, effort: usize) -> Self {
        Self {
            metric,
            dimension,
            effort: effort.min(MAX_EFFORT),
            seen: Seen::default(),
            kept: Vec::new(),
            deleted: Vec::new(),
            behind: Vec::new(),
            candidates: Vec::new(),
            unexpanded: Vec::new(),
            by_key: Vec::new(),
            by_sketch: Vec::new(),
            sketches: Vec::new(),
            keys: Vec::new(),
            vectors: Vec::new(),
            order: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Fills `list` with the new neighbours of a live node on a level, at most `slots`. `old` is
    /// its old list, and `vector` its vector.
    ///
    /// Live neighbours come first, in their old order. The list has no duplicates and does not
    /// contain the node itself.
    pub(crate) fn neighbours(
        &mut self,
        graph: &mut impl PartlyDeletedGraph,
        (node, layer): (u32, u8),
        old: &[u32],
        vector: &[f32],
        slots: usize,
        list: &mut Vec<u32>,
    ) -> Result<()> {
        self.kept.clear();
        self.deleted.clear();
        self.seen.clear();
        self.seen.insert(node)?;
        for &neighbour in old {
            if self.seen.insert(neighbour)? {
                match graph.is_live(neighbour) {
                    true => self.kept.push(neighbour),
                    false => self.deleted.push(neighbour),
                }
            }
        }
        self.kept.truncate(slots);
        list.clear();
        list.extend_from_slice(&self.kept);
        let free = slots.saturating_sub(list.len());
        if self.deleted.is_empty() || free == 0 {
            return Ok(());
        }
        let is_dense = self.deleted.len().saturating_mul(DENSE_DELETION_RATIO) >= self.kept.len();
        self.find_candidates(graph, (node, layer), slots, is_dense)?;
        if self.candidates.len() > free {
            match is_dense {
                true => self.choose(graph, node, vector, free)?,
                false => self.choose_by_sketch(graph, node, free)?,
            }
            list.extend_from_slice(&self.chosen);
        } else {
            self.candidates.sort_unstable();
            list.extend_from_slice(&self.candidates);
        }
        Ok(())
    }

    /// Collects in `candidates` the live nodes behind the neighbours.
    fn find_candidates(
        &mut self,
        graph: &mut impl PartlyDeletedGraph,
        (node, layer): (u32, u8),
        slots: usize,
        is_dense: bool,
    ) -> Result<()> {
        self.candidates.clear();
        self.behind.clear();
        if is_dense {
            for neighbour in &self.kept {
                graph.add_neighbours(*neighbour, layer, &mut self.behind)?;
            }
        }
        // A node that loses few neighbours is still well connected by the others.
        let wanted = slots.min(self.deleted.len().saturating_mul(SLOTS_PER_DELETED));
        let enough = wanted.saturating_mul(CANDIDATES_PER_SLOT);
        let most = slots
            .saturating_mul(DELETED_PER_SLOT)
            .saturating_mul(self.effort);
        let own = *graph.sketch(node);
        let mut expanded = 0;
        loop {
            while let Some(node) = self.deleted.get(expanded) {
                graph.add_neighbours(*node, layer, &mut self.behind)?;
                expanded += 1;
            }
            self.unexpanded.clear();
            for node in self.behind.drain(..) {
                if !self.seen.insert(node)? {
                    continue;
                }
                if graph.is_live(node) {
                    // Sketches are compared after the walk.
                    prefetch(slice::from_ref(graph.sketch(node)));
                    self.candidates.push(node);
                } else {
                    self.unexpanded.push(node);
                }
            }
            let more = most.saturating_sub(self.deleted.len());
            if self.candidates.len() >= enough || self.unexpanded.is_empty() || more == 0 {
                return Ok(());
            }
            self.by_key.clear();
            for node in &self.unexpanded {
                let key = own.key(self.metric, graph.sketch(*node));
                self.by_key.push((key, *node));
            }
            take_least(&mut self.by_key, more);
            self.deleted
                .extend(self.by_key.iter().map(|(_, node)| node));
        }
    }

    /// Chooses `free` candidates by exact distances, into `chosen`.
    fn choose(
        &mut self,
        graph: &mut impl PartlyDeletedGraph,
        node: u32,
        vector: &[f32],
        free: usize,
    ) -> Result<()> {
        // One place is the node's own vector.
        let room = (MAX_VECTOR_BYTES / self.dimension.max(1).saturating_mul(size_of::<f32>()))
            .max(MIN_VECTORS)
            .saturating_sub(1);
        let most = free.saturating_mul(VECTORS_PER_FREE_SLOT).saturating_add(4);
        let most = most.min(room.max(1));
        self.order_by_sketch(graph, node, most.max(free))?;
        // If only few vectors fit in the buffer, the live neighbours are not compared, and sketches
        // decide about the remaining candidates.
        let kept = self.kept.len();
        let kept = if kept.saturating_add(most) <= room {
            kept
        } else {
            0
        };
        let compared = self.by_sketch.iter().take(most).map(|(_, node)| *node);
        let read = self.kept.iter().copied().take(kept).chain(compared);
        self.vectors.clear();
        self.vectors.extend_from_slice(vector);
        let mut end = self.vectors.len();
        for other in read {
            let start = end;
            end = start.saturating_add(self.dimension);
            if self.vectors.len() < end {
                memory::reserve(&mut self.vectors, self.dimension, "compare vectors")?;
                self.vectors.resize(end, 0.0);
            }
            if let Some(slot) = self.vectors.get_mut(start..end) {
                graph.read_vector(other, slot)?;
            }
        }
        with_space(
            self.metric,
            Vectors::new(&self.vectors, self.dimension)?,
            Choose {
                kept,
                free,
                order: &mut self.order,
                chosen: &mut self.chosen,
            },
        )?;
        // Map positions in the buffer back to nodes.
        for chosen in &mut self.chosen {
            let place = (*chosen as usize).wrapping_sub(1).wrapping_sub(kept);
            *chosen = self.by_sketch.get(place).map_or(node, |(_, node)| *node);
        }
        let others = self.by_sketch.iter().skip(most).map(|(_, node)| *node);
        let left = free.saturating_sub(self.chosen.len());
        self.chosen.extend(others.take(left));
        Ok(())
    }

    /// Chooses `free` candidates by sketches alone. Nearly as good, and sufficient if few
    /// neighbours are lost.
    fn choose_by_sketch(
        &mut self,
        graph: &impl PartlyDeletedGraph,
        node: u32,
        free: usize,
    ) -> Result<()> {
        self.order_by_sketch(graph, node, free.saturating_mul(VECTORS_PER_FREE_SLOT))?;
        let Self {
            metric,
            kept,
            by_sketch,
            sketches,
            chosen,
            ..
        } = self;
        // Sketches of the live neighbours, followed by those chosen so far.
        sketches.clear();
        memory::reserve(sketches, kept.len().saturating_add(free), ACTION)?;
        sketches.extend(kept.iter().map(|kept| graph.sketch(*kept)));
        chosen.clear();
        by_sketch.retain(|(key, candidate)| {
            if chosen.len() >= free {
                return false;
            }
            // Shadowed: closer to a neighbour than to the node.
            let own = graph.sketch(*candidate);
            let is_shadowed = own.is_any_nearer(*metric, sketches, *key);
            if !is_shadowed {
                chosen.push(*candidate);
                sketches.push(*own);
            }
            is_shadowed
        });
        let left = free.saturating_sub(chosen.len());
        chosen.extend(by_sketch.iter().take(left).map(|(_, node)| *node));
        Ok(())
    }

    /// Collects the nearest candidates in `by_sketch`. Ties are broken by node, so the order is
    /// deterministic.
    fn order_by_sketch(
        &mut self,
        graph: &impl PartlyDeletedGraph,
        node: u32,
        most: usize,
    ) -> Result<()> {
        self.sketches.clear();
        memory::reserve(&mut self.sketches, self.candidates.len(), ACTION)?;
        let candidates = self.candidates.iter();
        self.sketches
            .extend(candidates.map(|node| graph.sketch(*node)));
        if self.keys.len() < self.candidates.len() {
            memory::reserve(&mut self.keys, self.candidates.len(), ACTION)?;
            self.keys.resize(self.candidates.len(), 0);
        }
        let own = graph.sketch(node);
        own.keys(self.metric, &self.sketches, &mut self.keys);
        self.by_sketch.clear();
        memory::reserve(&mut self.by_sketch, self.candidates.len(), ACTION)?;
        let keyed = self
            .keys
            .iter()
            .copied()
            .zip(self.candidates.iter().copied());
        self.by_sketch.extend(keyed);
        take_least(&mut self.by_sketch, most);
        self.by_sketch.sort_unstable();
        Ok(())
    }
}

/// A set of nodes, refilled for each list.
///
/// A hash table with open addressing, at most half full. Entries hold the round of their insertion,
/// so clearing takes constant time.
#[derive(Debug, Default)]
struct Seen {
    /// Pairs (round, node). The length is 0 or a power of two.
    entries: Vec<(u32, u32)>,
    len: usize,
    round: u32,
}

/// Minimum number of entries of a set.
const MIN_SET_ENTRIES: usize = 512;

impl Seen {
    fn clear(&mut self) {
        self.len = 0;
        self.round = self.round.wrapping_add(1);
        // The counter wrapped around: old entries could pass for new ones.
        if self.round == 0 {
            self.entries.fill((0, 0));
            self.round = 1;
        }
    }

    /// Inserts a node. Returns false if it was present.
    #[inline]
    fn insert(&mut self, node: u32) -> Result<bool> {
        if self.len.saturating_mul(2) >= self.entries.len() {
            self.grow()?;
        }
        let is_new = place(&mut self.entries, (self.round, node));
        self.len += usize::from(is_new);
        Ok(is_new)
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        let size = self.entries.len().saturating_mul(2).max(MIN_SET_ENTRIES);
        let entries = memory::filled(size, (0, 0), ACTION)?;
        let old = std::mem::replace(&mut self.entries, entries);
        for entry in old.into_iter().filter(|entry| entry.0 == self.round) {
            place(&mut self.entries, entry);
        }
        Ok(())
    }
}

/// Inserts an entry of the current round. Returns false if it was present.
#[inline(always)]
fn place(entries: &mut [(u32, u32)], entry: (u32, u32)) -> bool {
    let mask = entries.len().wrapping_sub(1);
    // Fibonacci hashing: the multiplier is 2⁶⁴ divided by the golden ratio, and spreads regular
    // patterns.
    let hash = u64::from(entry.1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut at = usize::try_from(hash).unwrap_or_default() & mask;
    while let Some(slot) = entries.get_mut(at) {
        if slot.0 != entry.0 {
            *slot = entry;
            return true;
        }
        if *slot == entry {
            return false;
        }
        at = at.wrapping_add(1) & mask;
    }
    false
}

/// Keeps the `most` smallest pairs.
fn take_least(keyed: &mut Vec<(i32, u32)>, most: usize) {
    if most < keyed.len() {
        keyed.select_nth_unstable(most);
        keyed.truncate(most);
    }
}

/// Chooses among vectors: number 0 is the node's, followed by its live neighbours and the
/// candidates.
struct Choose<'c> {
    kept: usize,
    free: usize,
    order: &'c mut Vec<(f32, u32)>,
    chosen: &'c mut Vec<u32>,
}

impl WithSpace for Choose<'_> {
    type Output = ();

    fn run<M: Measure>(self, space: &Space<'_, M>) {
        Arch::new().dispatch(ChooseIn {
            choose: self,
            space,
        });
    }
}

struct ChooseIn<'c, 's, 'v, M> {
    choose: Choose<'c>,
    space: &'s Space<'v, M>,
}

impl<M: Measure> WithSimd for ChooseIn<'_, '_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            choose:
                Choose {
                    kept,
                    free,
                    order,
                    chosen,
                },
            space,
        } = self;
        let first = u32::try_from(kept).unwrap_or(u32::MAX).saturating_add(1);
        let origin = space.origin(0);
        // Loops instead of closures: a closure is compiled separately, without the instructions of
        // `S`.
        order.clear();
        for at in first..space.len() {
            order.push((space.key(simd, &origin, at), at));
        }
        order.sort_unstable_by(|(a, at), (b, other)| a.total_cmp(b).then(at.cmp(other)));
        chosen.clear();
        for tolerance in [0.0, PRUNING_TOLERANCE] {
            let mut left_over = 0;
            for number in 0..order.len() {
                let Some(&(key, at)) = order.get(number) else {
                    break;
                };
                if chosen.len() >= free {
                    break;
                }
                let origin = space.origin(at);
                // Subtract a share of the absolute value: keys of the dot product are often
                // negative.
                let most = key - key.abs() * tolerance;
                let mut is_shadowed = false;
                for other in (1..first).chain(chosen.iter().copied()) {
                    if space.key(simd, &origin, other) < most {
                        is_shadowed = true;
                        break;
                    }
                }
                if !is_shadowed {
                    chosen.push(at);
                } else if let Some(slot) = order.get_mut(left_over) {
                    *slot = (key, at);
                    left_over += 1;
                }
            }
            order.truncate(left_over);
        }
        let left = free.saturating_sub(chosen.len());
        chosen.extend(order.iter().take(left).map(|(_, at)| *at));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::sketch::Directions;
    use super::*;

    struct Listed {
        live: Vec<bool>,
        lists: Vec<Vec<u32>>,
        vectors: Vec<[f32; 2]>,
        sketches: Vec<Sketch>,
    }

    impl PartlyDeletedGraph for Listed {
        fn is_live(&self, node: u32) -> bool {
            self.live[node as usize]
        }

        fn add_neighbours(&mut self, node: u32, layer: u8, list: &mut Vec<u32>) -> Result<()> {
            assert_eq!(layer, 0);
            list.extend_from_slice(&self.lists[node as usize]);
            Ok(())
        }

        fn read_vector(&mut self, node: u32, vector: &mut [f32]) -> Result<()> {
            vector.copy_from_slice(&self.vectors[node as usize]);
            Ok(())
        }

        fn sketch(&self, node: u32) -> &Sketch {
            &self.sketches[node as usize]
        }
    }

    impl Listed {
        fn new(live: Vec<bool>, lists: Vec<Vec<u32>>, vectors: Vec<[f32; 2]>) -> Self {
            let directions = Directions::of_sample(&vectors.concat(), 2).unwrap();
            Self {
                sketches: vectors
                    .iter()
                    .map(|vector| directions.sketch(vector))
                    .collect(),
                live,
                lists,
                vectors,
            }
        }

        fn bridged(&mut self, node: u32, slots: usize) -> Vec<u32> {
            let old = self.lists[node as usize].clone();
            let vector = self.vectors[node as usize];
            let mut list = Vec::new();
            Reconnector::new(Metric::SquaredEuclidean, 2, 3)
                .neighbours(self, (node, 0), &old, &vector, slots, &mut list)
                .unwrap();
            list
        }
    }

    #[test]
    fn a_chain_of_deleted_nodes_is_bridged() {
        // 0 → 1 → … → 9, with all nodes deleted except the ends.
        let lists = (1..11_u32).map(|next| if next < 10 { vec![next] } else { vec![] });
        let mut live = vec![false; 10];
        (live[0], live[9]) = (true, true);
        let mut graph = Listed::new(live, lists.collect(), vec![[0.0; 2]; 10]);
        assert_eq!(graph.bridged(0, 4), [9]);
        assert!(graph.bridged(9, 4).is_empty());
    }

    #[test]
    fn candidates_in_other_directions_are_chosen_first() {
        // The deleted node leads to two nodes on one side and one on the other; two slots are free.
        let vectors = vec![[0.0, 0.0], [0.5, 0.5], [1.0, 0.0], [1.2, 0.0], [-3.0, 0.0]];
        let lists = vec![vec![1], vec![2, 3, 4], vec![], vec![], vec![]];
        let live = vec![true, false, true, true, true];
        let mut graph = Listed::new(live, lists, vectors);
        assert_eq!(graph.bridged(0, 2), [2, 4]);
        assert_eq!(graph.bridged(0, 1), [2]);
        let mut all = graph.bridged(0, 3);
        all.sort_unstable();
        assert_eq!(all, [2, 3, 4]);
    }

    #[test]
    fn a_set_detects_new_nodes_at_any_size() {
        for round in [0, u32::MAX - 2] {
            let mut seen = Seen {
                round,
                ..Seen::default()
            };
            for count in [3, 700, 5000] {
                seen.clear();
                let mut expected = HashSet::new();
                // Some are duplicates, and many are multiples of the table's size.
                for node in (0..count).map(|number| number / 2 * 512) {
                    assert_eq!(seen.insert(node).unwrap(), expected.insert(node), "{node}");
                }
                assert!(seen.entries.len() >= 2 * seen.len);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn lists_start_with_live_neighbours_and_have_no_duplicates(
            nodes in prop::collection::vec((any::<bool>(), -9..9_i8, -9..9_i8), 1..80),
            links in prop::collection::vec((any::<u32>(), any::<u32>()), 0..600),
            slots in 1..12_usize,
        ) {
            let count = u32::try_from(nodes.len()).unwrap();
            let mut lists = vec![Vec::new(); nodes.len()];
            for (from, to) in links {
                let list: &mut Vec<u32> = &mut lists[(from % count) as usize];
                if list.len() < slots {
                    list.push(to % count);
                }
            }
            let live: Vec<bool> = nodes.iter().map(|(live, _, _)| *live).collect();
            let vectors = nodes.iter().map(|(_, x, y)| [f32::from(*x), f32::from(*y)]);
            let mut graph = Listed::new(live.clone(), lists.clone(), vectors.collect());
            for node in (0..count).filter(|node| live[*node as usize]) {
                let list = graph.bridged(node, slots);
                prop_assert!(list.len() <= slots);
                let distinct: HashSet<u32> = list.iter().copied().collect();
                prop_assert_eq!(distinct.len(), list.len());
                prop_assert!(!distinct.contains(&node));
                prop_assert!(list.iter().all(|id| live[*id as usize]));
                let mut stay = Vec::new();
                for id in &lists[node as usize] {
                    if live[*id as usize] && *id != node && !stay.contains(id) {
                        stay.push(*id);
                    }
                }
                prop_assert!(list.starts_with(&stay));
                // The nodes behind a deleted neighbour are neighbours now, if there is room.
                let behind = lists[node as usize].iter().filter(|id| !live[**id as usize]);
                for near in behind.flat_map(|id| &lists[*id as usize]) {
                    let is_one = *near != node && live[*near as usize];
                    prop_assert!(!is_one || list.len() == slots || distinct.contains(near));
                }
            }
        }
    }
}
