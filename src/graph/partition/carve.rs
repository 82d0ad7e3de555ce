//! Carving of nodes into overlapping groups of bounded size.
//!
//! Leaders are chosen at random. Each node follows its nearest leaders, and the followers of one leader
//! form a group. A node near the border of one group is most likely in the middle of another. A group
//! that is too large is carved again, with fewer leaders a node; small groups are merged.

use pulp::{Arch, Simd, WithSimd};

use super::super::distance::{Measure, Space};
use super::super::random::{mix, Random};
use super::group::{centre, multiply, Scratch};
use super::pick::nearest;
use super::product::{Gather, Rows, WIDTH};
use crate::base::memory;
use crate::error::Result;

/// Maximum number of nodes in a group. A thread holds one key for each pair of them: 4 MiB.
pub(super) const MAX_GROUP: usize = 1024;

/// Average number of followers per leader.
const FOLLOWERS_PER_LEADER: usize = 460;

/// Minimum number of nodes in a group. Smaller groups are merged.
const MIN_GROUP: usize = MAX_GROUP / 6;

/// Maximum number of leaders. Bounds the comparisons per node.
const MAX_LEADERS: usize = 2048;

/// Maximum size in bytes of the leaders' vectors, for more than [`MIN_LEADERS`] leaders.
const MAX_LEADER_BYTES: usize = 8 << 20;
const MIN_LEADERS: usize = 64;

/// Number of leaders that a node follows when a group is carved for the second time. Later, it is
/// 1.
const FAN_OUT_AGAIN: usize = 2;

/// Maximum recursion depth. A group that is still too large is then split arbitrarily.
const MAX_DEPTH: usize = 6;

/// Number of nodes compared with the leaders at a time.
pub(super) const CHUNK: usize = 4 * WIDTH;

/// The leaders, packed for comparison.
#[derive(Debug)]
pub(super) struct Leaders {
    rows: Rows,
    centre: Option<u32>,
}

impl Leaders {
    /// Draws leaders for `nodes`, enough for each node to follow `fan_out` of them.
    pub(super) fn choose<M: Measure>(
        space: &Space<'_, M>,
        nodes: &[u32],
        fan_out: usize,
        seed: u64,
    ) -> Result<Self> {
        let bytes = space.vectors().dimension().saturating_mul(4);
        let most = (MAX_LEADER_BYTES / bytes.max(1)).clamp(MIN_LEADERS, MAX_LEADERS);
        let count = nodes
            .len()
            .saturating_mul(fan_out)
            .div_ceil(FOLLOWERS_PER_LEADER);
        let count = count.clamp(2, most);
        let mut random = Random::new(seed);
        let mut leaders = memory::with_capacity(count, "choose leaders")?;
        // One from each of `count` equal parts, so that leaders spread over the order of the nodes.
        for part in nodes.chunks(nodes.len().div_ceil(count).max(1)) {
            let end = u32::try_from(part.len()).unwrap_or(u32::MAX);
            leaders.extend(part.get(random.below(end) as usize));
        }
        let centre = centre::<M>(&leaders);
        let mut rows = Rows::default();
        Arch::new().dispatch(Gather {
            rows: &mut rows,
            space,
            nodes: &leaders,
            centre,
        })?;
        Ok(Self { rows, centre })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Finds the nearest leaders of each of `nodes`.
pub(super) struct Follow<'f, 'v, M> {
    pub(super) space: &'f Space<'v, M>,
    pub(super) leaders: &'f Leaders,
    pub(super) nodes: &'f [u32],
    /// Output: numbers of leaders, equally many for each node. A leader may occur twice.
    pub(super) followed: &'f mut [u16],
    pub(super) scratch: &'f mut Scratch,
}

impl<M: Measure> WithSimd for Follow<'_, '_, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Scratch { rows, keys, .. } = self.scratch;
        let fan_out = self.followed.len() / self.nodes.len().max(1);
        let followed = self
            .followed
            .chunks_mut(CHUNK.saturating_mul(fan_out.max(1)));
        for (nodes, followed) in self.nodes.chunks(CHUNK).zip(followed) {
            simd.vectorize(Gather {
                rows,
                space: self.space,
                nodes,
                centre: self.leaders.centre,
            })?;
            multiply::<S, M>(simd, rows, Some(&self.leaders.rows), keys)?;
            for (row, followed) in followed.chunks_mut(fan_out.max(1)).enumerate() {
                let keys = keys.row_mut(row);
                let mut last = 0;
                for slot in followed {
                    if let Some((_, leader)) = nearest(simd, keys) {
                        last = u16::try_from(leader).unwrap_or_default();
                        // Taken: the next search finds the second nearest.
                        if let Some(key) = keys.get_mut(leader) {
                            *key = f32::INFINITY;
                        }
                    }
                    *slot = last;
                }
            }
        }
        Ok(())
    }
}

/// Nodes by the leader that they follow. Each bucket is sorted and has no duplicates.
#[derive(Debug)]
pub(super) struct Buckets {
    nodes: Vec<u32>,
    ranges: Vec<std::ops::Range<usize>>,
}

impl Buckets {
    /// `followed` holds equally many leaders for each of `nodes`; `nodes` are sorted.
    pub(super) fn new(nodes: &[u32], followed: &[u16], leaders: usize) -> Result<Self> {
        let action = "hold groups of nodes";
        let fan_out = followed.len() / nodes.len().max(1);
        let mut sizes = memory::filled(leaders, 0_usize, action)?;
        for leader in followed {
            if let Some(size) = sizes.get_mut(usize::from(*leader)) {
                *size = size.wrapping_add(1);
            }
        }
        let mut bucket_of = memory::filled(leaders, 0_usize, action)?;
        let mut ranges = memory::with_capacity(leaders, action)?;
        let mut start = 0_usize;
        let large = |size: &usize| *size >= MIN_GROUP;
        for (size, bucket) in sizes.iter().zip(&mut bucket_of) {
            if large(size) {
                *bucket = ranges.len();
                ranges.push(start..start);
                start = start.wrapping_add(*size);
            }
        }
        // Small groups share buckets.
        let mut held = MIN_GROUP;
        for (size, bucket) in sizes.iter().zip(&mut bucket_of) {
            if !large(size) && *size > 0 {
                if held >= MIN_GROUP {
                    ranges.push(start..start);
                    held = 0;
                }
                *bucket = ranges.len().wrapping_sub(1);
                held = held.wrapping_add(*size);
                start = start.wrapping_add(*size);
            }
        }
        let mut held = memory::filled(followed.len(), 0_u32, action)?;
        for (node, followed) in nodes.iter().zip(followed.chunks(fan_out.max(1))) {
            for leader in followed {
                let bucket = bucket_of.get(usize::from(*leader)).copied();
                let Some(range) = bucket.and_then(|bucket| ranges.get_mut(bucket)) else {
                    continue;
                };
                let bucket = held.get(range.clone()).unwrap_or_default();
                // A node that follows two leaders of a merged bucket appears once.
                if bucket.last() == Some(node) {
                    continue;
                }
                if let Some(slot) = held.get_mut(range.end) {
                    *slot = *node;
                    range.end = range.end.wrapping_add(1);
                }
            }
        }
        Ok(Self {
            nodes: held,
            ranges,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.ranges
            .iter()
            .map(|range| self.nodes.get(range.clone()).unwrap_or_default())
    }
}

/// Carves a bucket into groups of at most [`MAX_GROUP`] nodes and calls `with` for each.
pub(super) fn carve<M: Measure>(
    space: &Space<'_, M>,
    nodes: &[u32],
    seed: u64,
    depth: usize,
    scratch: &mut Scratch,
    with: &mut impl FnMut(&[u32], &mut Scratch) -> Result<()>,
) -> Result<()> {
    if nodes.len() <= MAX_GROUP {
        return with(nodes, scratch);
    }
    if depth >= MAX_DEPTH {
        return nodes
            .chunks(MAX_GROUP)
            .try_for_each(|nodes| with(nodes, scratch));
    }
    let fan_out = if depth == 0 { FAN_OUT_AGAIN } else { 1 };
    let leaders = Leaders::choose(space, nodes, fan_out, seed)?;
    let followed = nodes.len().saturating_mul(fan_out);
    let mut followed = memory::filled(followed, 0, "hold groups of nodes")?;
    Arch::new().dispatch(Follow {
        space,
        leaders: &leaders,
        nodes,
        followed: &mut followed,
        scratch,
    })?;
    let buckets = Buckets::new(nodes, &followed, leaders.len())?;
    drop((leaders, followed));
    for (number, bucket) in buckets.iter().enumerate() {
        // Each bucket needs its own leaders.
        let seed = mix(seed ^ number as u64);
        carve(space, bucket, seed, depth.wrapping_add(1), scratch, with)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::distance::{with_space, Metric, Vectors, WithSpace};
    use super::*;

    struct Groups;

    impl WithSpace for Groups {
        type Output = Vec<Vec<u32>>;

        fn run<M: Measure>(self, space: &Space<'_, M>) -> Vec<Vec<u32>> {
            let nodes: Vec<u32> = (0..space.len()).collect();
            let mut groups = Vec::new();
            let mut scratch = Scratch::default();
            carve(space, &nodes, 1, 0, &mut scratch, &mut |group, _| {
                groups.push(group.to_vec());
                Ok(())
            })
            .unwrap();
            groups
        }
    }

    #[test]
    fn every_node_is_in_groups_of_bounded_size() {
        let count: u32 = 5000;
        #[allow(clippy::cast_precision_loss)]
        let line: Vec<f32> = (0..count).flat_map(|at| [at as f32, 1.0]).collect();
        // Leaders cannot separate equal vectors or vectors whose distances overflow.
        let equal = vec![1.0; 2 * count as usize];
        let huge = vec![f32::MAX; 2 * count as usize];
        for data in [line, equal, huge] {
            for &metric in Metric::ALL {
                let vectors = Vectors::new(&data, 2).unwrap();
                let groups = with_space(metric, vectors, Groups).unwrap();
                let mut seen = vec![false; count as usize];
                for group in groups {
                    assert!(group.len() <= MAX_GROUP);
                    assert!(group.is_sorted_by(|a, b| a < b));
                    group.iter().for_each(|node| seen[*node as usize] = true);
                }
                assert!(seen.iter().all(|seen| *seen), "{metric}");
            }
        }
    }
}
