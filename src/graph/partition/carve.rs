//! Nodes into overlapping groups of bounded size.
//!
//! Some nodes, chosen at random, lead; each node follows the leaders nearest to it, and those that
//! follow one leader are a group. A node near the border of one group is most likely in the middle
//! of another. A group that is too large is carved again, into fewer parts for each node, and those
//! that are small are put together.

use pulp::{Arch, Simd, WithSimd};

use super::super::distance::{Measure, Space};
use super::super::random::{mix, Random};
use super::group::{centre, multiply, Scratch};
use super::pick::nearest;
use super::product::{Gather, Rows, WIDTH};
use crate::error::Result;
use crate::memory;

/// A group's keys fill this number squared.
pub(super) const GROUP_MAX: usize = 1024;

/// Followers that a leader has on average.
const FOLLOWERS: usize = 460;

/// Groups below are put together.
const GROUP_MIN: usize = GROUP_MAX / 6;

/// Bounds the comparisons of each node with leaders.
const LEADERS_MAX: usize = 2048;

/// Bounds the bytes of leaders' vectors, down to [`LEADERS_MIN`].
const LEADERS_BYTES: usize = 8 << 20;
const LEADERS_MIN: usize = 64;

/// Groups that a node of a group goes to when that is carved again.
const FAN_OUT_AGAIN: usize = 2;

/// Carvings after which what is still too large is cut anywhere.
const DEPTH_MAX: usize = 6;

/// Nodes that are compared with the leaders at a time.
pub(super) const CHUNK: usize = 4 * WIDTH;

/// Nodes that others follow.
#[derive(Debug)]
pub(super) struct Leaders {
    rows: Rows,
    centre: Option<u32>,
}

impl Leaders {
    /// As many of `nodes` as they need when each follows `fan_out`.
    pub(super) fn choose<M: Measure>(
        space: &Space<'_, M>,
        nodes: &[u32],
        fan_out: usize,
        seed: u64,
    ) -> Result<Self> {
        let bytes = space.vectors().dimension().saturating_mul(4);
        let most = (LEADERS_BYTES / bytes.max(1)).clamp(LEADERS_MIN, LEADERS_MAX);
        let count = nodes.len().saturating_mul(fan_out).div_ceil(FOLLOWERS);
        let count = count.clamp(2, most);
        let mut random = Random::new(seed);
        let mut leaders = memory::with_capacity(count, "choose leaders")?;
        // One of each of as many equal parts.
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

/// Finds the leaders that each of `nodes` follows, as many as there is room for in `followed`.
pub(super) struct Follow<'f, 'v, M> {
    pub(super) space: &'f Space<'v, M>,
    pub(super) leaders: &'f Leaders,
    pub(super) nodes: &'f [u32],
    /// Numbers of leaders, equally many for each node. One may come twice.
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

/// Nodes by the leader that they follow. Each bucket is in order, and no node comes twice in one.
#[derive(Debug)]
pub(super) struct Buckets {
    nodes: Vec<u32>,
    ranges: Vec<std::ops::Range<usize>>,
}

impl Buckets {
    /// `followed` has equally many leaders for each of `nodes`, which are in order.
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
        let large = |size: &usize| *size >= GROUP_MIN;
        for (size, bucket) in sizes.iter().zip(&mut bucket_of) {
            if large(size) {
                *bucket = ranges.len();
                ranges.push(start..start);
                start = start.wrapping_add(*size);
            }
        }
        // The small ones, together.
        let mut held = GROUP_MIN;
        for (size, bucket) in sizes.iter().zip(&mut bucket_of) {
            if !large(size) && *size > 0 {
                if held >= GROUP_MIN {
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

/// Carves a bucket until its groups are small enough, and does `with` each what it does.
pub(super) fn carve<M: Measure>(
    space: &Space<'_, M>,
    nodes: &[u32],
    seed: u64,
    depth: usize,
    scratch: &mut Scratch,
    with: &mut impl FnMut(&[u32], &mut Scratch) -> Result<()>,
) -> Result<()> {
    if nodes.len() <= GROUP_MAX {
        return with(nodes, scratch);
    }
    if depth >= DEPTH_MAX {
        return nodes
            .chunks(GROUP_MAX)
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
        // Nothing tells these apart, or those that overflow.
        let equal = vec![1.0; 2 * count as usize];
        let huge = vec![f32::MAX; 2 * count as usize];
        for data in [line, equal, huge] {
            for &metric in Metric::ALL {
                let vectors = Vectors::new(&data, 2).unwrap();
                let groups = with_space(metric, vectors, Groups).unwrap();
                let mut seen = vec![false; count as usize];
                for group in groups {
                    assert!(group.len() <= GROUP_MAX);
                    assert!(group.is_sorted_by(|a, b| a < b));
                    group.iter().for_each(|node| seen[*node as usize] = true);
                }
                assert!(seen.iter().all(|seen| *seen), "{metric}");
            }
        }
    }
}
