//! Selection of a node's candidates within one group.
//!
//! The native engine's heuristic takes candidates in ascending order of distance and skips a candidate
//! that is closer to a chosen one than to the node. All keys of a group are known, so each chosen
//! candidate strikes out everything that it shadows at once, a register at a time. The rest is never
//! sorted.

use pulp::Simd;

/// Number of keys examined without a branch.
const BLOCK: usize = 16;

/// The smallest of `keys` and its first position, or `None` if all are infinite.
#[inline(always)]
pub(super) fn nearest<S: Simd>(simd: S, keys: &[f32]) -> Option<(f32, usize)> {
    let infinity = simd.splat_f32s(f32::INFINITY);
    let (keys_by_lanes, rest) = S::as_simd_f32s(keys);
    // Rows are padded with infinity to a multiple of every register width.
    debug_assert!(rest.is_empty(), "rows are padded");
    let mut lowest = infinity;
    for keys in keys_by_lanes {
        lowest = simd.min_f32s(lowest, *keys);
    }
    position(keys, simd.reduce_min_f32s(lowest))
}

/// Sets the keys of candidates that are closer to a chosen node to infinity; `others` are that node's
/// keys. Returns the smallest remaining key and its position.
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
    let (blocks, _) = keys.as_chunks::<BLOCK>();
    let block = blocks.iter().position(|block| {
        let any = |found: bool, key: &f32| found | (*key == value);
        block.iter().fold(false, any)
    })?;
    let within = blocks.get(block)?.iter().position(|key| *key == value)?;
    Some((value, block.wrapping_mul(BLOCK).wrapping_add(within)))
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::super::super::random::Random;
    use super::*;

    /// Picks from the first of rows of keys until none is left.
    struct All<'a>(&'a [Vec<f32>]);

    impl WithSimd for All<'_> {
        type Output = Vec<usize>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<usize> {
            let Self(rows) = self;
            let mut open = rows[0].clone();
            let mut picked = Vec::new();
            let mut next = nearest(simd, &open);
            while let Some((key, column)) = next {
                assert_eq!(key, rows[0][column]);
                picked.push(column);
                open[column] = f32::INFINITY;
                next = strike_out(simd, &mut open, &rows[column]);
            }
            picked
        }
    }

    #[test]
    fn what_is_picked_is_what_the_heuristic_chooses() {
        let mut random = Random::new(3);
        for count in [1, 2, 16, 40, 96] {
            let mut key = |row: usize, column: usize| match column {
                _ if column == row || column >= count => f32::INFINITY,
                // Few values, so that many are equal.
                _ => f32::from(u8::try_from(random.below(30)).unwrap()),
            };
            let rows: Vec<Vec<f32>> = (0..count)
                .map(|row| (0..96).map(|column| key(row, column)).collect())
                .collect();
            let mut order: Vec<usize> = (1..count).collect();
            order.sort_by(|a, b| rows[0][*a].total_cmp(&rows[0][*b]));
            let mut chosen: Vec<usize> = Vec::new();
            for column in order {
                if chosen
                    .iter()
                    .all(|before| rows[*before][column] >= rows[0][column])
                {
                    chosen.push(column);
                }
            }
            assert_eq!(All(&rows).with_simd(pulp::Scalar), chosen);
            assert_eq!(Arch::new().dispatch(All(&rows)), chosen);
        }
    }
}
