//! Comparison of all nodes of one group with each other.
//!
//! Under Euclidean metrics a key is ‖a‖² + ‖b‖² − 2·a·b, from a product of matrices. That cancels
//! digits if two vectors are much closer to each other than to the origin, so one vector of the group
//! is subtracted from all of them first. If some are still too close, the squared differences are
//! summed instead, which takes twice as long.

use pulp::{Simd, WithSimd};

use super::super::candidate::Candidate;
use super::super::distance::{Measure, Product, Space, Term};
use super::pick::{nearest, strike_out};
use super::product::{Form, Gather, Keys, Rows};
use super::reservoir::Reservoirs;
use crate::base::memory;
use crate::error::Result;

/// Below this fraction of ‖a‖² + ‖b‖², cancellation leaves a key fewer than 3 of f32's 7 digits.
const PRECISION: f32 = 1e-4;

/// Buffers that one thread reuses from group to group.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) rows: Rows,
    pub(super) keys: Keys,
    /// Keys of one node. Picked and shadowed candidates are infinite.
    open: Vec<f32>,
    /// For each node, the key above which its reservoir keeps no candidate.
    bounds: Vec<f32>,
    /// Picked candidates of all nodes, concatenated.
    picked: Vec<Candidate>,
    /// End of each node's candidates in `picked`.
    ends: Vec<usize>,
}

/// Finds candidates for each of `nodes`, which ascend.
pub(super) struct Group<'g, 'r, 'v, M> {
    pub(super) space: &'g Space<'v, M>,
    pub(super) nodes: &'g [u32],
    /// Maximum number of candidates per node.
    pub(super) picks: usize,
    pub(super) reservoirs: &'g Reservoirs<'r>,
    pub(super) scratch: &'g mut Scratch,
}

impl<M: Measure> WithSimd for Group<'_, '_, '_, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self {
            space,
            nodes,
            picks,
            reservoirs,
            scratch,
        } = self;
        let Scratch {
            rows,
            keys,
            open,
            bounds,
            picked,
            ends,
        } = scratch;
        simd.vectorize(Gather {
            rows,
            space,
            nodes,
            centre: centre::<M>(nodes),
        })?;
        // Sums of terms lose no digits.
        let mut precise = !M::Term::EXPANDS;
        if rows.can_multiply() {
            multiply::<S, M>(simd, rows, None, keys)?;
        } else {
            keys.begin(nodes.len())?;
            for (row, node) in nodes.iter().enumerate() {
                let origin = space.origin(*node);
                for (column, other) in nodes.iter().enumerate() {
                    keys.set(row, column, space.key(simd, &origin, *other));
                }
            }
            precise = true;
        }
        let action = "hold the candidates of a group";
        memory::reserve(ends, nodes.len(), action)?;
        memory::reserve(picked, nodes.len().saturating_mul(picks), action)?;
        memory::reserve(bounds, nodes.len(), action)?;
        bounds.clear();
        bounds.extend(nodes.iter().map(|node| reservoirs.bound(*node)));
        if !pick(
            simd,
            (nodes, rows, keys),
            (picks, precise, bounds),
            open,
            picked,
            ends,
        ) {
            keys.multiply_with_themselves::<S, M::Term>(simd, rows, sums_of::<M>())?;
            pick(
                simd,
                (nodes, rows, keys),
                (picks, true, bounds),
                open,
                picked,
                ends,
            );
        }
        let mut start = 0;
        for (node, end) in nodes.iter().zip(ends) {
            // One lock per node, for all of its candidates.
            reservoirs.offer(*node, picked.get(start..*end).unwrap_or_default());
            start = *end;
        }
        Ok(())
    }
}

/// The node whose vector is subtracted before comparison, if the metric's term expands.
pub(super) fn centre<M: Measure>(nodes: &[u32]) -> Option<u32> {
    nodes.first().copied().filter(|_| M::Term::EXPANDS)
}

/// Compares vectors with others, or with each other.
#[inline(always)]
pub(super) fn multiply<S: Simd, M: Measure>(
    simd: S,
    rows: &Rows,
    others: Option<&Rows>,
    keys: &mut Keys,
) -> Result<()> {
    let form = if M::Term::EXPANDS {
        Form {
            squares: true,
            constant: 0.0,
            factor: -2.0,
            floor: 0.0,
        }
    } else {
        sums_of::<M>()
    };
    match (others, M::Term::EXPANDS) {
        (None, false) => keys.multiply_with_themselves::<S, M::Term>(simd, rows, form),
        (None, true) => keys.multiply_with_themselves::<S, Product>(simd, rows, form),
        (Some(others), false) => keys.multiply::<S, M::Term>(simd, rows, others, form),
        (Some(others), true) => keys.multiply::<S, Product>(simd, rows, others, form),
    }
}

/// The form of a key in terms of the metric's own sum. Vectors are scaled already.
fn sums_of<M: Measure>() -> Form {
    let constant = M::linear_key(0.0, 1.0, 1.0);
    Form {
        squares: false,
        constant,
        factor: M::linear_key(1.0, 1.0, 1.0) - constant,
        floor: if M::SCALED { 0.0 } else { f32::MIN },
    }
}

/// Picks the candidates of each node. Returns false if a key is not precise enough.
#[inline(always)]
fn pick<S: Simd>(
    simd: S,
    (nodes, rows, keys): (&[u32], &Rows, &Keys),
    (picks, precise, bounds): (usize, bool, &[f32]),
    open: &mut Vec<f32>,
    picked: &mut Vec<Candidate>,
    ends: &mut Vec<usize>,
) -> bool {
    picked.clear();
    ends.clear();
    for (row, bound) in bounds.iter().enumerate() {
        open.clear();
        open.extend_from_slice(keys.row(row));
        let mut next = nearest(simd, open);
        // If the nearest key is precise enough, so are the larger ones. The decision must not depend on
        // `bounds`, which depend on the timing of other threads.
        if let Some((key, column)) = next.filter(|_| !precise) {
            if key < PRECISION * (rows.square(row) + rows.square(column)) {
                return false;
            }
        }
        let mut left = picks;
        while let Some((key, column)) = next {
            if key > *bound {
                break;
            }
            let node = nodes.get(column).copied().unwrap_or_default();
            picked.push(Candidate::new(key, node));
            left = left.saturating_sub(1);
            if left == 0 {
                break;
            }
            if let Some(itself) = open.get_mut(column) {
                *itself = f32::INFINITY;
            }
            next = strike_out(simd, open, keys.row(column));
        }
        ends.push(picked.len());
    }
    true
}
