//! The engine of the hnsw_rs crate.
//!
//! hnsw_rs would copy every vector, so it is given node numbers in their place, and a distance that
//! looks the vectors up in the mapped file.
//!
//! What that crate does on bad input is kept away from it: it exits the process when m is above
//! 256, panics on NaN and asserts that distances are not negative. A panic all the same becomes an
//! error. It draws levels from a generator of its own, always seeded alike, so that the order of
//! insertion alone decides the graph: with a seed, nodes are inserted by one thread.

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

/// More than any level that is ever drawn; hnsw_rs has no more either.
const LAYERS: usize = 16;

/// Nodes inserted between two looks at the monitor.
const NODES_AT_ONCE: u32 = 1024;

/// Builds a graph with hnsw_rs. Its m0 is always 2·m.
#[derive(Debug)]
pub(crate) struct HnswRs<'a> {
    pub(crate) metric: Metric,
    pub(crate) m: usize,
    pub(crate) ef_construction: usize,
    /// Same input, same graph: on one thread.
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
        // Not the global pool, whose size another user of rayon may have set.
        let mut handles = Vec::with_capacity(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let builder = std::thread::Builder::new().name("hnsw-toolbox-build".into());
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
        // The pool, dropped, does not wait. Joined, its threads are gone when the call returns.
        for handle in handles {
            // A panic in one came out of `install`.
            let _ = handle.join();
        }
        links
    }
}

impl HnswRs<'_> {
    /// In the pool of `threads`.
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
            // The first one alone: several at once could each find no entry point.
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
    /// Whether keys may be negative.
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

/// A number that is not negative, in the order of `value`, from half as many: two values that
/// differ in their last bit only may become one.
fn to_positive(value: f32) -> f32 {
    /// The largest f32 below 2¹²⁷.
    const LIMIT: f32 = f32::from_bits(0x7eff_ffff);
    f32::from_bits(ordered(value.clamp(-LIMIT, LIMIT)) >> 1)
}

/// The graph, out of hnsw_rs' own structures.
#[derive(Debug)]
pub(crate) struct Links {
    levels: Vec<u8>,
    /// Where each node's lists are in `lists`: one for each layer it is in.
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
                // hnsw_rs keeps links on layers above a node's own, and to nodes that are not on
                // the layer: steps of its descent, not part of the graph.
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
