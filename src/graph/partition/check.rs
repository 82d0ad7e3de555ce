//! The final check of a graph by searches for a sample of its nodes.
//!
//! If vectors form many tight clusters far from each other, a group offers a node only its own cluster,
//! and a search that enters another cluster never leaves it. A reachability walk does not show this:
//! every node is reachable, but not by steps that each lead closer.

use pulp::{Arch, Simd, WithSimd};

use super::super::candidate::Candidate;
use super::super::distance::{Measure, Space};
use super::super::links::{ids, Links};
use super::super::native::search::{SearchScratch, Searcher};
use super::super::random::Random;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::Result;

/// Number of nodes searched for.
const SAMPLE: usize = 1000;

/// Candidates that a search keeps. A smaller number makes the check stricter.
const EF: usize = 50;

/// Maximum number of sampled nodes that searches miss in an accepted graph.
pub(super) const MAX_LOST: usize = 1;

/// Searches a graph for a sample of its nodes.
pub(super) struct Check<'c> {
    pub(super) nodes: &'c [u32],
    pub(super) seed: u64,
    pub(super) monitor: &'c Monitor<'c>,
}

impl Check<'_> {
    /// Returns the number of nodes, out of [`SAMPLE`], that a search misses.
    pub(super) fn run<M: Measure>(&self, space: &Space<'_, M>, links: &Links) -> Result<usize> {
        Arch::new().dispatch(Sample {
            check: self,
            space,
            links,
        })
    }
}

struct Sample<'s, 'v, M> {
    check: &'s Check<'s>,
    space: &'s Space<'v, M>,
    links: &'s Links,
}

impl<M: Measure> WithSimd for Sample<'_, '_, M> {
    type Output = Result<usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<usize> {
        let Check {
            nodes,
            seed,
            monitor,
        } = *self.check;
        let Self { space, links, .. } = self;
        let searcher = Searcher {
            simd,
            space,
            links,
            ef: EF,
        };
        let mut scratch = SearchScratch::new(space.len(), links.m0(), EF)?;
        let mut near = memory::with_capacity(links.m0(), "check the graph")?;
        let mut random = Random::new(seed);
        let end = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let mut lost = 0;
        for _ in 0..SAMPLE {
            monitor.check()?;
            let Some(node) = nodes.get(random.below(end) as usize).copied() else {
                continue;
            };
            let origin = space.origin(node);
            searcher.nearest(&mut scratch, &origin);
            near.clear();
            for neighbour in ids(links.list(node, 0)) {
                let key = space.key(simd, &origin, neighbour);
                near.push(Candidate::new(key, neighbour).order());
            }
            near.sort_unstable();
            // In uniform data of many dimensions a search often misses a node and still finds nodes
            // around it, which is good enough. The median, because the heuristic keeps some distant
            // neighbours on purpose.
            let median = near.get(near.len() / 2);
            let found = scratch.pool.first().map(|nearest| nearest.order());
            lost += usize::from(found.as_ref() > median);
        }
        Ok(lost)
    }
}
