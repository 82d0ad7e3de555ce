//! A node's neighbours of one group.
//!
//! Native's heuristic takes candidates from the nearest on, and leaves out those that are nearer to
//! one that was taken. A group's keys are all known, so all candidates that one shadows are struck
//! out at once, a register at a time, and what is left is never sorted.

use pulp::Simd;

/// Elements that are looked through without a branch.
const BLOCK: usize = 16;

/// The nearest of `keys`, unless all are infinite. Of equal ones, the first.
#[inline(always)]
pub(super) fn nearest<S: Simd>(simd: S, keys: &[f32]) -> Option<(f32, usize)> {
    let infinity = simd.splat_f32s(f32::INFINITY);
    let (keys_by_lanes, rest) = S::as_simd_f32s(keys);
    debug_assert!(rest.is_empty(), "rows are padded");
    let mut lowest = infinity;
    for keys in keys_by_lanes {
        lowest = simd.min_f32s(lowest, *keys);
    }
    position(keys, simd.reduce_min_f32s(lowest))
}

/// Strikes out, in `keys`, those that are nearer to another node, whose keys are `others`. Returns
/// the nearest that is left.
#[inline(always)]
pub(super) fn strike_out<S: Simd>(
    simd: S,
    keys: &mut [f32],
    others: &[f32],
) -> Option<(f32, usize)> {
    let infinity = simd.splat_f32s(f32::INFINITY);
    let mut lowest = infinity;
    let pairs = S::as_mut_simd_f32s(keys).0.iter_mut();
    for (key, other) in pairs.zip(S::as_simd_f32s(others).0) {
        let shadowed = simd.less_than_f32s(*other, *key);
        *key = simd.select_f32s(shadowed, infinity, *key);
        lowest = simd.min_f32s(lowest, *key);
    }
    position(keys, simd.reduce_min_f32s(lowest))
}

#[inline(always)]
fn position(keys: &[f32], value: f32) -> Option<(f32, usize)> {
    if value == f32::INFINITY {
        return None;
    }
    let is_value = |key: &f32| key.to_bits() == value.to_bits() || *key == value;
    let (blocks, _) = keys.as_chunks::<BLOCK>();
    let block = blocks.iter().position(|block| {
        block
            .iter()
            .fold(false, |found, key| found | (*key == value))
    })?;
    let within = blocks.get(block)?.iter().position(is_value)?;
    Some((value, block.wrapping_mul(BLOCK).wrapping_add(within)))
}
