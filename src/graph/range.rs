//! Vectors whose norms overflow or underflow f32.
//!
//! Searches compute distances in f32. There, the square of a component of 1e30 is infinite, and
//! that square is zero for 1e-30. fast-hnsw does not find such a vector, or cannot tell it from
//! others. This crate can under cosine, where it computes such
//! [keys](super::distance::Measure::key) in f64.

use pulp::{Arch, Simd, WithSimd};

use super::distance::Metric;

/// Numbers of vectors out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    /// Vectors whose distance from others is infinite or not a number.
    pub(crate) overflow: u64,
    /// Non-zero vectors that are taken for zero, or nearly so.
    pub(crate) underflow: u64,
}

impl OutOfRange {
    /// Counts the vectors out of range among rows of `dimension` components.
    pub(crate) fn count(&mut self, metric: Metric, rows: &[f32], dimension: usize) {
        Arch::new().dispatch(Count {
            found: self,
            metric,
            rows,
            dimension,
        });
    }

    /// Number of vectors that no search can use.
    pub(crate) fn unusable(self, metric: Metric) -> u64 {
        match metric {
            Metric::Cosine => 0,
            _ => self.overflow.saturating_add(self.underflow),
        }
    }

    /// One sentence per kind that occurs.
    pub(crate) fn warnings(self, metric: Metric, all: u64) -> Vec<String> {
        let kinds = match metric {
            Metric::Cosine => [
                (
                    self.overflow,
                    "so long that their squares overflow f32: searches with fast-hnsw may not find \
                     them",
                ),
                (
                    self.underflow,
                    "so short that their squares underflow f32: searches with fast-hnsw take them \
                     for zeros",
                ),
            ],
            _ => [
                (
                    self.overflow,
                    "too long for f32: distances to them overflow, and searches may not find them",
                ),
                (
                    self.underflow,
                    "so short that their squares underflow f32: searches take them for zeros",
                ),
            ],
        };
        let found = kinds.into_iter().filter(|(count, _)| *count > 0);
        found
            .map(|(count, reason)| format!("{count} of {all} vectors are {reason}"))
            .collect()
    }
}

struct Count<'c> {
    found: &'c mut OutOfRange,
    metric: Metric,
    rows: &'c [f32],
    dimension: usize,
}

impl WithSimd for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let squares = |element: f32| element * element;
        for vector in self.rows.chunks_exact(self.dimension.max(1)) {
            // The largest sum that a search can compute with this vector and another of the same
            // norm.
            let (sum, largest) = match self.metric {
                Metric::Manhattan => {
                    let sum = sum(vector, f32::abs);
                    (sum, 2.0 * sum)
                }
                Metric::Euclidean | Metric::SquaredEuclidean => {
                    let sum = sum(vector, squares);
                    (sum, 4.0 * sum)
                }
                Metric::Cosine | Metric::DotProduct => {
                    let sum = sum(vector, squares);
                    (sum, sum)
                }
            };
            if !largest.is_finite() {
                self.found.overflow += 1;
            } else if sum < f32::MIN_POSITIVE
                && self.metric != Metric::Manhattan
                && vector.iter().any(|element| *element != 0.0)
            {
                // Subnormal sums have lost digits. Manhattan sums are exempt: nothing is squared.
                self.found.underflow += 1;
            }
        }
    }
}

#[inline(always)]
fn sum(vector: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    /// Number of lanes that a processor computes at once.
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = vector.as_chunks::<LANES>();
    for elements in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (lane, element) in lanes.iter_mut().zip(elements) {
            *lane += term(*element);
        }
    }
    lanes.iter().sum()
}
