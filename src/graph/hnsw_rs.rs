//! The engine of the hnsw_rs crate.
//!
//! hnsw_rs would copy every vector. It receives node numbers instead, and a distance function that
//! looks the vectors up in the mapped file.
//!
//! The crate is shielded from bad input: it exits the process if m is above 256, panics on NaN and
//! asserts that distances are not negative. If it panics anyway, the panic becomes an error. It
//! draws levels from its own generator with a fixed seed, so only the insertion order determines
//! the graph. With a seed, one thread inserts all nodes.

use std::num::NonZeroUsize;
use std::panic::{catch_unwind, AssertUnwindSafe};

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;
use pulp::{Arch, Simd, WithSimd};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::candidate::ordered;
use super::distance::{Measure, Metric, Origin, Space, WithSpace};
use super::Graph;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};

/// Number of levels, which is hnsw_rs' maximum; no drawn level is higher.
const LAYERS: usize = 16;

/// Number of nodes inserted between two progress reports.
const NODES_AT_ONCE: u32 = 1024;

/// Builds a graph with hnsw_rs. Its m0 is always 2·m.
#[derive(Debug)]
pub(crate) struct HnswRs<'a> {
    pub(crate) metric: Metric,
    pub(crate) m: usize,
    pub(crate) ef_construction: usize,
    /// Build on one thread, so that equal input gives an equal graph.
    pub(crate) repeatable: bool,
    pub(crate) threads: NonZeroUsize,
    pub(crate) monitor: &'a Monitor<'a>,
}

impl WithSpace for HnswRs<'_> {
    type Output = Result<Links>;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<Links> {
        let threads = if self.repeatable {
            1
        } else {
            self.threads.get()
        };
        // Not rayon's global pool, whose size another user can have set.
        let mut handles = Vec::with_capacity(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let builder = std::thread::Builder::new().name(super::THREAD.into());
                handles.push(builder.spawn(|| thread.run())?);
                Ok(())
            })
            .build()
            .map_err(|error| Error::internal(format!("cannot start threads: {error}")));
        let links = pool.and_then(|pool| {
            let build = AssertUnwindSafe(move || pool.install(|| self.build(space, threads)));
            catch_unwind(build).unwrap_or_else(|_| {
                Err(Error::internal(
                    "hnsw_rs, or the progress function, panicked",
                ))
            })
        });
        // Dropping the pool does not wait for its threads. Join them so that none outlives the
        // call.
        for handle in handles {
            // `install` has already returned a thread's panic.
            let _ = handle.join();
        }
        links
    }
}

impl HnswRs<'_> {
    /// Runs in the pool of `threads` threads.
    fn build<M: Measure>(&self, space: &Space<'_, M>, threads: usize) -> Result<Links> {
        let nodes = space.len();
        let hnsw = Hnsw::new(
            self.m,
            nodes as usize,
            LAYERS,
            self.ef_construction,
            NodeDistance {
                space,
                arch: Arch::new(),
                signed: self.metric == Metric::DotProduct,
            },
        );
        let mut first = 0;
        while first < nodes {
            let end = first.saturating_add(NODES_AT_ONCE).min(nodes);
            // The first node is inserted alone: parallel insertions could each find no entry point.
            let end = if first == 0 { 1 } else { end };
            if threads == 1 {
                for node in first..end {
                    hnsw.insert_slice((&[node], node as usize));
                }
            } else {
                (first..end)
                    .into_par_iter()
                    .for_each(|node| hnsw.insert_slice((&[node], node as usize)));
            }
            first = end;
            self.monitor.advance(u64::from(first), u64::from(nodes))?;
        }
        Links::of(&hnsw, nodes)
    }
}

/// Distance between nodes, never negative, never NaN.
#[derive(Debug)]
struct NodeDistance<'a, M> {
    space: &'a Space<'a, M>,
    arch: Arch,
    /// True if keys can be negative.
    signed: bool,
}

impl<M: Measure> Distance<u32> for NodeDistance<'_, M> {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        let (Some(a), Some(b)) = (a.first(), b.first()) else {
            return f32::INFINITY;
        };
        let key = self.arch.dispatch(Key {
            space: self.space,
            origin: self.space.origin(*a),
            node: *b,
        });
        if self.signed {
            to_positive(key)
        } else {
            key
        }
    }
}

struct Key<'a, M> {
    space: &'a Space<'a, M>,
    origin: Origin<'a>,
    node: u32,
}

impl<M: Measure> WithSimd for Key<'_, M> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        self.space.key(simd, &self.origin, self.node)
    }
}

/// Maps a float to a non-negative one of the same order. The result has half as many values: two
/// inputs that differ only in the last bit can coincide.
fn to_positive(value: f32) -> f32 {
    /// The largest f32 below 2¹²⁷.
    const LIMIT: f32 = f32::from_bits(0x7eff_ffff);
    f32::from_bits(ordered(value.clamp(-LIMIT, LIMIT)) >> 1)
}

/// The graph, copied from hnsw_rs' structures.
#[derive(Debug)]
pub(crate) struct Links {
    levels: Vec<u8>,
    /// Index in `lists` of each node's list on level 0, followed by its upper levels.
    starts: Vec<usize>,
    lists: Vec<Vec<u32>>,
    entry_point: Option<u32>,
}

impl Links {
    fn of<D: Distance<u32> + Send + Sync>(hnsw: &Hnsw<'_, u32, D>, nodes: u32) -> Result<Self> {
        let points = hnsw.get_point_indexation();
        let mut levels = memory::filled(nodes as usize, None, "hold the graph")?;
        for layer in 0..LAYERS {
            for point in points.get_layer_iterator(layer) {
                if let Some(level) = levels.get_mut(point.get_origin_id()) {
                    *level = Some(point.get_point_id().0);
                }
            }
        }
        let levels: Vec<u8> = levels
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| Error::internal("hnsw_rs lost a node"))?;

        let mut starts = memory::with_capacity(levels.len(), "hold the graph")?;
        let mut count = 0usize;
        for level in &levels {
            starts.push(count);
            count = count.saturating_add(usize::from(*level) + 1);
        }
        let mut lists = memory::filled(count, Vec::new(), "hold the graph")?;
        for layer in 0..LAYERS {
            for point in points.get_layer_iterator(layer) {
                let node = point.get_origin_id();
                let Some(start) = starts.get(node) else {
                    continue;
                };
                let layers = usize::from(point.get_point_id().0) + 1;
                // hnsw_rs keeps links above a node's own level, and links to nodes that are not on
                // the level. They serve its descent and are not part of the graph.
                for (on_layer, found) in point
                    .get_neighborhood_id()
                    .into_iter()
                    .take(layers)
                    .enumerate()
                {
                    let Some(list) = lists.get_mut(*start + on_layer) else {
                        continue;
                    };
                    *list = found
                        .into_iter()
                        .map(|neighbour| neighbour.d_id)
                        .filter(|id| {
                            *id != node
                                && levels
                                    .get(*id)
                                    .is_some_and(|level| usize::from(*level) >= on_layer)
                        })
                        .filter_map(|id| u32::try_from(id).ok())
                        .collect();
                }
            }
        }
        let entry_point = (0..nodes)
            .zip(&levels)
            .max_by_key(|(node, level)| (**level, std::cmp::Reverse(*node)))
            .map(|(node, _)| node);
        Ok(Self {
            levels,
            starts,
            lists,
            entry_point,
        })
    }
}

impl Graph for Links {
    fn len(&self) -> u32 {
        u32::try_from(self.levels.len()).unwrap_or(u32::MAX)
    }

    fn level(&self, node: u32) -> u8 {
        self.levels.get(node as usize).copied().unwrap_or_default()
    }

    fn neighbours(&self, node: u32, layer: u8, neighbours: &mut Vec<u32>) {
        neighbours.clear();
        if let Some(list) = self
            .starts
            .get(node as usize)
            .and_then(|start| self.lists.get(start + usize::from(layer)))
        {
            neighbours.extend_from_slice(list);
        }
    }

    fn entry_point(&self) -> Option<u32> {
        self.entry_point
    }
}

#[cfg(test)]
mod tests {
    use super::to_positive;

    #[test]
    fn keys_made_positive_keep_their_order() {
        let values = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1e30,
            -2.0,
            -1.999_999,
            -1.0,
            -1e-30,
            0.0,
            1e-30,
            0.5,
            0.500_001,
            1.0,
            1e30,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in values.windows(2) {
            let (a, b) = (to_positive(pair[0]), to_positive(pair[1]));
            assert!(a >= 0.0 && b.is_finite(), "{pair:?}");
            let beyond = pair.iter().all(|value| value.abs() > 1.7e38);
            assert!(a < b || beyond && a == b, "{pair:?}: {a:e}, {b:e}");
        }
    }
}
