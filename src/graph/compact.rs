//! Takes deleted nodes out of a graph, and gives their neighbours other neighbours.
//!
//! A node that loses neighbours gets new ones from among those that the lost ones had: nodes two
//! links away, through a node that goes.
//!
//! ```text
//!   node ── deleted ── a          node ── a
//!     │        └────── b    →       ├──── b
//!    live                          live
//! ```
//!
//! Where many nodes go, what lies behind a deleted node is deleted too; then the search goes on
//! through the nearest of the deleted nodes, until it has met enough live ones or has gone through
//! many deleted ones. Where more than a few neighbours go, what lies behind the live ones competes
//! as well.
//!
//! There are often a hundred such candidates, and reading the vector of each would cost more than
//! everything else. So [sketches](super::sketch) say which nodes are near, and, where many
//! neighbours go, which vectors are read. Of these, ones nearer to the node than to any neighbour
//! are taken first (the heuristic of HNSW, which keeps neighbours from all pointing the same way),
//! then, where vectors are read, ones that are hardly nearer to a neighbour, then the nearest of the
//! others, until the list is full: a search of an index with deleted nodes looks at more nodes than
//! `ef` says, and full lists make up for that.
//!
//! Lists depend on the old graph only, never on other new lists. So they can be made in any order
//! and on any number of threads.

use std::slice;

use pulp::{Arch, Simd, WithSimd};

use super::distance::{with_space, Measure, Metric, Space, Vectors, WithSpace};
use super::sketch::Sketch;
use crate::base::memory;
use crate::error::Result;
use crate::io::mmap::prefetch;

/// A graph some of whose nodes are to go, as one thread reads it.
pub(crate) trait Holed {
    /// Whether a node stays.
    fn is_live(&self, node: u32) -> bool;

    /// Appends a node's neighbours on a layer: nodes that exist and are on that layer.
    fn add_neighbours(&mut self, node: u32, layer: u8, neighbours: &mut Vec<u32>) -> Result<()>;

    /// Reads the vector of a node.
    fn read_vector(&mut self, node: u32, vector: &mut [f32]) -> Result<()>;

    /// A node's sketch.
    fn sketch(&self, node: u32) -> &Sketch;
}

/// Slots of a list that are looked after for each deleted neighbour, at most all.
const SLOTS_PER_HOLE: usize = 2;

/// Live nodes that must be met before the search behind deleted ones stops, for each of those slots.
const MET_PER_SLOT: usize = 8;

/// Deleted nodes that are gone through at most, for each slot of a list and by effort.
const HOLES_PER_SLOT: usize = 1;

/// The most that effort counts.
const MOST_EFFORT: usize = 8;

/// Many go when there is one for so many that stay: then what lies behind the live ones competes,
/// too, and vectors are read.
const MANY_GO: usize = 3;

/// Candidates whose vectors are read, for each free slot.
const READ_PER_FREE: usize = 2;

/// What part of its distance to the node a candidate may be nearer to a neighbour, and still be taken
/// before those that are nearer yet. Recall rises by 0.002 to 0.004 where half of the nodes go.
const SLACK: f32 = 0.125;

/// Bytes of vectors that are compared at a time.
const VECTORS_BYTES: usize = 512 << 10;

/// What the memory is for.
const ACTION: &str = "find other neighbours";

/// The fewest vectors that are compared at a time, whatever they take.
const VECTORS_LEAST: usize = 4;

/// Makes new lists of neighbours, one at a time.
#[derive(Debug)]
pub(crate) struct Bridge {
    metric: Metric,
    dimension: usize,
    effort: usize,
    /// The node, and all that were seen from it.
    seen: Seen,
    /// Neighbours that stay.
    kept: Vec<u32>,
    /// Deleted nodes in the order in which they are gone through.
    holes: Vec<u32>,
    /// Nodes behind one of those, as they come.
    behind: Vec<u32>,
    /// Live nodes that are not neighbours, each once.
    met: Vec<u32>,
    /// Deleted nodes behind others.
    further: Vec<u32>,
    by_key: Vec<(i32, u32)>,
    by_sketch: Vec<(i32, u32)>,
    sketches: Vec<Sketch>,
    keys: Vec<i32>,
    /// The node's own vector, those of neighbours that stay, and those of candidates.
    vectors: Vec<f32>,
    order: Vec<(f32, u32)>,
    chosen: Vec<u32>,
}

impl Bridge {
    /// `effort` times as many deleted nodes are gone through as for 1.
    pub(crate) fn new(metric: Metric, dimension: usize, effort: usize) -> Self {
        Self {
            metric,
            dimension,
            effort: effort.min(MOST_EFFORT),
            seen: Seen::default(),
            kept: Vec::new(),
            holes: Vec::new(),
            behind: Vec::new(),
            met: Vec::new(),
            further: Vec::new(),
            by_key: Vec::new(),
            by_sketch: Vec::new(),
            sketches: Vec::new(),
            keys: Vec::new(),
            vectors: Vec::new(),
            order: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Puts into `list` the neighbours, at most `slots`, that a live node has on a layer without
    /// the deleted nodes. `old` are those that it had, and `vector` is its vector.
    ///
    /// Neighbours that stay come first, in their order. Each comes once, and the node not at all.
    pub(crate) fn neighbours(
        &mut self,
        graph: &mut impl Holed,
        (node, layer): (u32, u8),
        old: &[u32],
        vector: &[f32],
        slots: usize,
        list: &mut Vec<u32>,
    ) -> Result<()> {
        self.kept.clear();
        self.holes.clear();
        self.seen.clear();
        self.seen.insert(node)?;
        for &neighbour in old {
            if self.seen.insert(neighbour)? {
                match graph.is_live(neighbour) {
                    true => self.kept.push(neighbour),
                    false => self.holes.push(neighbour),
                }
            }
        }
        self.kept.truncate(slots);
        list.clear();
        list.extend_from_slice(&self.kept);
        let free = slots.saturating_sub(list.len());
        if self.holes.is_empty() || free == 0 {
            return Ok(());
        }
        let many_go = self.holes.len().saturating_mul(MANY_GO) >= self.kept.len();
        self.meet(graph, (node, layer), slots, many_go)?;
        if self.met.len() > free {
            match many_go {
                true => self.choose(graph, node, vector, free)?,
                false => self.choose_by_sketch(graph, node, free)?,
            }
            list.extend_from_slice(&self.chosen);
        } else {
            self.met.sort_unstable();
            list.extend_from_slice(&self.met);
        }
        Ok(())
    }

    /// Puts into `met` the live nodes that are found behind neighbours.
    fn meet(
        &mut self,
        graph: &mut impl Holed,
        (node, layer): (u32, u8),
        slots: usize,
        many_go: bool,
    ) -> Result<()> {
        self.met.clear();
        self.behind.clear();
        if many_go {
            for neighbour in &self.kept {
                graph.add_neighbours(*neighbour, layer, &mut self.behind)?;
            }
        }
        // A node that loses few neighbours is well linked without them.
        let wanted = slots.min(self.holes.len().saturating_mul(SLOTS_PER_HOLE));
        let enough = wanted.saturating_mul(MET_PER_SLOT);
        let most = slots
            .saturating_mul(HOLES_PER_SLOT)
            .saturating_mul(self.effort);
        let own = *graph.sketch(node);
        let mut expanded = 0;
        loop {
            while let Some(hole) = self.holes.get(expanded) {
                graph.add_neighbours(*hole, layer, &mut self.behind)?;
                expanded += 1;
            }
            self.further.clear();
            for node in self.behind.drain(..) {
                if !self.seen.insert(node)? {
                    continue;
                }
                if graph.is_live(node) {
                    // Looked at when all have been met.
                    prefetch(slice::from_ref(graph.sketch(node)));
                    self.met.push(node);
                } else {
                    self.further.push(node);
                }
            }
            let more = most.saturating_sub(self.holes.len());
            if self.met.len() >= enough || self.further.is_empty() || more == 0 {
                return Ok(());
            }
            self.by_key.clear();
            for node in &self.further {
                let key = own.key(self.metric, graph.sketch(*node));
                self.by_key.push((key, *node));
            }
            take_least(&mut self.by_key, more);
            self.holes.extend(self.by_key.iter().map(|(_, node)| node));
        }
    }

    /// Puts into `chosen` so many of the nodes that were met.
    fn choose(
        &mut self,
        graph: &mut impl Holed,
        node: u32,
        vector: &[f32],
        free: usize,
    ) -> Result<()> {
        let room = (VECTORS_BYTES / self.dimension.max(1).saturating_mul(size_of::<f32>()))
            .max(VECTORS_LEAST)
            .saturating_sub(1);
        let most = free.saturating_mul(READ_PER_FREE).saturating_add(4);
        let most = most.min(room.max(1));
        self.order_by_sketch(graph, node, most.max(free))?;
        // Where vectors are so large that few are compared, the sketches alone choose the others.
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
        // From places among the vectors to nodes.
        for chosen in &mut self.chosen {
            let place = (*chosen as usize).wrapping_sub(1).wrapping_sub(kept);
            *chosen = self.by_sketch.get(place).map_or(node, |(_, node)| *node);
        }
        let others = self.by_sketch.iter().skip(most).map(|(_, node)| *node);
        let left = free.saturating_sub(self.chosen.len());
        self.chosen.extend(others.take(left));
        Ok(())
    }

    /// The same without reading a vector: nearly as good, and enough where few neighbours go.
    fn choose_by_sketch(&mut self, graph: &impl Holed, node: u32, free: usize) -> Result<()> {
        self.order_by_sketch(graph, node, free.saturating_mul(READ_PER_FREE))?;
        let Self {
            metric,
            kept,
            by_sketch,
            sketches,
            chosen,
            ..
        } = self;
        // Of those that stay, and then of those that are chosen.
        sketches.clear();
        memory::reserve(sketches, kept.len().saturating_add(free), ACTION)?;
        sketches.extend(kept.iter().map(|kept| graph.sketch(*kept)));
        chosen.clear();
        by_sketch.retain(|(key, candidate)| {
            if chosen.len() >= free {
                return false;
            }
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

    /// Puts into `by_sketch` the nearest of the nodes that were met, in an order that depends on
    /// nothing else.
    fn order_by_sketch(&mut self, graph: &impl Holed, node: u32, most: usize) -> Result<()> {
        self.sketches.clear();
        memory::reserve(&mut self.sketches, self.met.len(), ACTION)?;
        let met = self.met.iter();
        self.sketches.extend(met.map(|node| graph.sketch(*node)));
        if self.keys.len() < self.met.len() {
            memory::reserve(&mut self.keys, self.met.len(), ACTION)?;
            self.keys.resize(self.met.len(), 0);
        }
        let own = graph.sketch(node);
        own.keys(self.metric, &self.sketches, &mut self.keys);
        self.by_sketch.clear();
        memory::reserve(&mut self.by_sketch, self.met.len(), ACTION)?;
        let keyed = self.keys.iter().copied().zip(self.met.iter().copied());
        self.by_sketch.extend(keyed);
        take_least(&mut self.by_sketch, most);
        self.by_sketch.sort_unstable();
        Ok(())
    }
}

/// A set of nodes that is filled and emptied for each list.
///
/// A hash table with open addressing that is at most half full. Each entry holds the round in which it
/// was inserted, so clearing the table takes constant time.
#[derive(Debug, Default)]
struct Seen {
    /// A power of two of entries (round, node), or none.
    entries: Vec<(u32, u32)>,
    len: usize,
    round: u32,
}

/// The least that a set has room for, in entries.
const SEEN_LEAST: usize = 512;

impl Seen {
    fn clear(&mut self) {
        self.len = 0;
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.entries.fill((0, 0));
            self.round = 1;
        }
    }

    /// Says whether the node was not there.
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
        let size = self.entries.len().saturating_mul(2).max(SEEN_LEAST);
        let entries = memory::filled(size, (0, 0), ACTION)?;
        let old = std::mem::replace(&mut self.entries, entries);
        for entry in old.into_iter().filter(|entry| entry.0 == self.round) {
            place(&mut self.entries, entry);
        }
        Ok(())
    }
}

/// Puts an entry of this round where it belongs; says whether it was not there.
#[inline(always)]
fn place(entries: &mut [(u32, u32)], entry: (u32, u32)) -> bool {
    let mask = entries.len().wrapping_sub(1);
    // The golden ratio, as a fraction of 2⁶⁴, spreads what follows a pattern.
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

/// Leaves the least, at most so many.
fn take_least(keyed: &mut Vec<(i32, u32)>, most: usize) {
    if most < keyed.len() {
        keyed.select_nth_unstable(most);
        keyed.truncate(most);
    }
}

/// Chooses among vectors: 0 is the node's, then come those that stay, then candidates.
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
        // Loops, not closures: those are compiled by themselves, without the instructions of `S`.
        order.clear();
        for at in first..space.len() {
            order.push((space.key(simd, &origin, at), at));
        }
        order.sort_unstable_by(|(a, at), (b, other)| a.total_cmp(b).then(at.cmp(other)));
        chosen.clear();
        for slack in [0.0, SLACK] {
            let mut left_over = 0;
            for number in 0..order.len() {
                let Some(&(key, at)) = order.get(number) else {
                    break;
                };
                if chosen.len() >= free {
                    break;
                }
                let origin = space.origin(at);
                // Keys of the dot product are often negative.
                let most = key - key.abs() * slack;
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

    impl Holed for Listed {
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
            Bridge::new(Metric::SquaredEuclidean, 2, 3)
                .neighbours(self, (node, 0), &old, &vector, slots, &mut list)
                .unwrap();
            list
        }
    }

    #[test]
    fn a_chain_of_deleted_nodes_is_bridged() {
        // 0 → 1 → … → 9, of which only the ends stay.
        let lists = (1..11_u32).map(|next| if next < 10 { vec![next] } else { vec![] });
        let mut live = vec![false; 10];
        (live[0], live[9]) = (true, true);
        let mut graph = Listed::new(live, lists.collect(), vec![[0.0; 2]; 10]);
        assert_eq!(graph.bridged(0, 4), [9]);
        assert!(graph.bridged(9, 4).is_empty());
    }

    #[test]
    fn nearer_ones_in_other_directions_are_taken_before_others() {
        // The deleted node leads to two on one side and one on the other, and there is room for two.
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
    fn a_set_tells_what_is_new_however_much_it_holds() {
        for round in [0, u32::MAX - 2] {
            let mut seen = Seen {
                round,
                ..Seen::default()
            };
            for count in [3, 700, 5000] {
                seen.clear();
                let mut expected = HashSet::new();
                // Some come twice, and many are multiples of the table's size.
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
        fn lists_hold_live_nodes_once_and_first_those_that_stay(
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
                // What lies behind one that goes is a neighbour now, if there is room.
                let behind = lists[node as usize].iter().filter(|id| !live[**id as usize]);
                for near in behind.flat_map(|id| &lists[*id as usize]) {
                    let is_one = *near != node && live[*near as usize];
                    prop_assert!(!is_one || list.len() == slots || distinct.contains(near));
                }
            }
        }
    }
}
