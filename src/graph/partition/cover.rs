//! Coverage: the share of a node's nearest neighbours that its groups have offered.
//!
//! If distances differ little, as between uniformly distributed vectors of many components, near nodes
//! follow different leaders more often. The coverage is measured by comparing a sample of nodes with
//! all nodes, which takes about a hundredth of the time of the groups.

use pulp::{Arch, Simd, WithSimd};

use super::super::candidate::Candidate;
use super::super::distance::{Measure, Space};
use super::super::exact::Exact;
use super::super::links::Links;
use super::super::native::search::Searcher;
use super::super::random::Random;
use super::reservoir::Reservoirs;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;

/// Number of nodes in the sample.
const SAMPLE: usize = 64;

/// Number of sampled nodes that one thread compares with all nodes at a time.
const PART: usize = 16;

/// Number of nearest neighbours that a node's groups should have offered.
const NEAREST: usize = 10;

/// Number of components gathered at a time: 128 KiB.
const BLOCK: usize = 32 << 10;

/// Number of nearest neighbours counted, and how many of them were offered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    offered: usize,
    of: usize,
}

impl Count {
    /// Minimum sufficient coverage. Twelve groups cover 90 % of the neighbours of learned
    /// embeddings, but only two thirds for uniform vectors with 64 components.
    const ENOUGH_PERCENT: usize = 85;

    pub(super) fn add(&mut self, other: Self) {
        self.offered = self.offered.saturating_add(other.offered);
        self.of = self.of.saturating_add(other.of);
    }

    pub(super) fn is_enough(self) -> bool {
        self.offered.saturating_mul(100) >= self.of.saturating_mul(Self::ENOUGH_PERCENT)
    }
}

/// Draws a sample of positions in `nodes`, in parts.
pub(super) fn sample(nodes: &[u32], seed: u64) -> impl Iterator<Item = Vec<u32>> {
    let mut random = Random::new(seed);
    let end = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    (0..SAMPLE / PART).map(move |_| (0..PART).map(|_| random.below(end)).collect())
}

/// Measures the coverage of nodes.
pub(super) struct Cover<'c, 'v, 'r, M> {
    pub(super) space: &'c Space<'v, M>,
    pub(super) links: &'c Links,
    pub(super) nodes: &'c [u32],
    pub(super) reservoirs: &'c Reservoirs<'r>,
    pub(super) monitor: &'c Monitor<'c>,
}

impl<M: Measure> Cover<'_, '_, '_, M> {
    /// Compares a part of the sample with all nodes.
    pub(super) fn count(&self, part: &[u32]) -> Result<Count> {
        let action = "check the groups";
        let vectors = self.space.vectors();
        let dimension = vectors.dimension();
        let rows = (BLOCK / dimension).max(1);
        let mut queries = memory::with_capacity(part.len().saturating_mul(dimension), action)?;
        let mut block = memory::with_capacity(rows.saturating_mul(dimension), action)?;
        for number in part {
            queries.extend_from_slice(vectors.get(self.node(*number)));
        }
        // One more than needed, because each node is its own nearest.
        let mut exact = Exact::new(&queries, dimension, NEAREST.saturating_add(1))?;
        let mut first = 0;
        for nodes in self.nodes.chunks(rows) {
            self.monitor.check()?;
            block.clear();
            for node in nodes {
                block.extend_from_slice(vectors.get(*node));
            }
            exact.compare_by::<M>(first, &block)?;
            first = first.wrapping_add(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        }
        let mut count = Count::default();
        let mut nearest = memory::with_capacity(NEAREST, action)?;
        let mut candidates = memory::with_capacity(NEAREST, action)?;
        let mut chosen = memory::with_capacity(NEAREST, action)?;
        for (own, found) in part.iter().zip(exact.into_nearest()) {
            // Positions in `nodes`, not nodes, until mapped below.
            let others = found.iter().filter(|found| found.node() != *own);
            nearest.clear();
            nearest.extend(others.take(NEAREST).map(|found| self.node(found.node())));
            let node = self.node(*own);
            // Only neighbours that the heuristic keeps count: a group does not offer the others.
            Arch::new().dispatch(Choose {
                space: self.space,
                links: self.links,
                node,
                nearest: &nearest,
                candidates: &mut candidates,
                chosen: &mut chosen,
            });
            let offered = self.reservoirs.candidates(node)?;
            let offered = chosen
                .iter()
                .filter(|chosen| offered.contains(&chosen.node()));
            count.add(Count {
                offered: offered.count(),
                of: chosen.len(),
            });
        }
        Ok(count)
    }

    fn node(&self, number: u32) -> u32 {
        self.nodes.get(number as usize).copied().unwrap_or_default()
    }
}

/// Prunes the nearest neighbours of a node by the heuristic.
struct Choose<'w, 'v, M> {
    space: &'w Space<'v, M>,
    links: &'w Links,
    node: u32,
    nearest: &'w [u32],
    candidates: &'w mut Vec<Candidate>,
    chosen: &'w mut Vec<Candidate>,
}

impl<M: Measure> WithSimd for Choose<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { space, links, .. } = self;
        let nearest = self.nearest.iter().copied();
        measure(simd, space, self.node, nearest, self.candidates);
        let searcher = Searcher {
            simd,
            space,
            links,
            ef: 0,
        };
        searcher.choose::<false>(self.candidates, NEAREST, self.chosen);
    }
}

/// Fills `candidates` with the nodes `others` by distance from `node`, nearest first.
#[inline(always)]
pub(super) fn measure<S: Simd, M: Measure>(
    simd: S,
    space: &Space<'_, M>,
    node: u32,
    others: impl Iterator<Item = u32> + Clone,
    candidates: &mut Vec<Candidate>,
) {
    /// Vectors prefetched ahead of the one being compared.
    const AHEAD: usize = 4;
    let origin = space.origin(node);
    let mut ahead = others.clone().skip(AHEAD);
    candidates.clear();
    for other in others {
        if let Some(later) = ahead.next() {
            space.prefetch(later);
        }
        let key = space.key(simd, &origin, other);
        // Never reallocates: the capacity is the room of a node.
        candidates.push(Candidate::new(key, other));
    }
    candidates.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::super::super::distance::{SquaredDifference, SumOf, Vectors};
    use super::super::super::equal::Equals;
    use super::super::reservoir::allocate;
    use super::*;

    const NODES: u32 = 600;

    /// On a line only a node's two neighbours count, since each shadows the nodes behind it.
    #[test]
    fn neighbours_that_were_offered_are_counted() {
        // Every other row is a node.
        let data: Vec<f32> = (0..2 * NODES)
            .flat_map(|row| [0.0, row as f32, 0.0])
            .collect();
        let space =
            Space::<SumOf<SquaredDifference>>::new(Vectors::new(&data, 3).unwrap()).unwrap();
        let links = Links::new(space.len(), 4, 8, 7, &Equals::find(&space).unwrap()).unwrap();
        let nodes: Vec<u32> = (0..NODES).map(|number| 2 * number).collect();
        let mut places = allocate(space.len(), 12).unwrap();
        let reservoirs = Reservoirs::new(&mut places, space.len(), 12).unwrap();
        for node in &nodes {
            for other in [node + 1, node + 2, node + 6] {
                let key = (other - node) as f32;
                reservoirs.offer(*node, &[Candidate::new(key * key, other)]);
            }
        }
        let cover = Cover {
            space: &space,
            links: &links,
            nodes: &nodes,
            reservoirs: &reservoirs,
            monitor: &Monitor::default(),
        };
        let before = cover.count(&[100, 300, 500, 300]).unwrap();
        assert_eq!((before.offered, before.of), (4, 8));
        assert!(!before.is_enough());
        reservoirs.offer(nodes[300], &[Candidate::new(4.0, nodes[299])]);
        let after = cover.count(&[300]).unwrap();
        assert_eq!((after.offered, after.of), (2, 2));
        assert!(after.is_enough());
    }

    #[test]
    fn the_sample_is_of_the_nodes() {
        let nodes = [0; 70];
        let sample: Vec<u32> = sample(&nodes, 3).flatten().collect();
        assert_eq!(sample.len(), SAMPLE);
        assert!(sample.iter().all(|number| *number < 70));
        assert!(
            sample
                .iter()
                .collect::<std::collections::HashSet<_>>()
                .len()
                > SAMPLE / 2
        );
    }
}
