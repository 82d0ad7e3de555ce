//! Sketches: vectors quantised to 24 bytes, for estimating distances without reading vectors.
//!
//! A sketch holds the vector's components along 24 directions, each quantised to a byte. They are
//! the directions in which a sample of vectors varies most, found by subspace iteration (multiply
//! by XᵀX, make orthonormal, repeat). That needs only the sample, not a matrix of dimension².
//!
//! Random directions would need no sample, but are far worse: embeddings vary along few directions,
//! and neighbours differ in these.

use pulp::{Arch, Simd, WithSimd};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::distance::{sum_of, Metric, Product};
use super::random::Random;
use crate::base::memory;
use crate::error::Result;

/// Number of directions, one byte each.
const COMPONENTS: usize = 24;

/// Number of iterations; later ones hardly change the directions.
const ITERATIONS: usize = 3;

/// Range of a byte, in root mean squares of the widest component.
const RANGE: f32 = 4.0;

/// A quantised vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(crate) struct Sketch([i8; COMPONENTS]);

impl Sketch {
    pub(crate) const NONE: Self = Self([0; COMPONENTS]);

    /// Approximates the order of the distance.
    // A loop instead of a closure: a closure is compiled separately, without the instructions of a
    // dispatched caller.
    #[inline(always)]
    pub(crate) fn key(&self, metric: Metric, other: &Self) -> i32 {
        let mut sum = 0;
        let is_dot = metric == Metric::DotProduct;
        for (a, b) in self.0.iter().zip(&other.0) {
            // In 16 bits first: processors multiply those and add pairs in one instruction.
            let (a, b) = (i16::from(*a), i16::from(*b));
            sum += if is_dot {
                -(i32::from(a) * i32::from(b))
            } else {
                i32::from(a - b) * i32::from(a - b)
            };
        }
        sum
    }

    /// Fills `keys` with the [`key`](Self::key) of each of `others`.
    pub(crate) fn keys(&self, metric: Metric, others: &[Self], keys: &mut [i32]) {
        Arch::new().dispatch(Keys {
            own: self,
            metric,
            others,
            keys,
        });
    }

    /// Returns true if the [`key`](Self::key) of any of `others` is less than `key`.
    pub(crate) fn is_any_nearer(&self, metric: Metric, others: &[Self], key: i32) -> bool {
        Arch::new().dispatch(IsAnyNearer {
            own: self,
            metric,
            others,
            key,
        })
    }
}

struct Keys<'k> {
    own: &'k Sketch,
    metric: Metric,
    others: &'k [Sketch],
    keys: &'k mut [i32],
}

impl WithSimd for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (key, other) in self.keys.iter_mut().zip(self.others) {
            *key = self.own.key(self.metric, other);
        }
    }
}

struct IsAnyNearer<'k> {
    own: &'k Sketch,
    metric: Metric,
    others: &'k [Sketch],
    key: i32,
}

impl WithSimd for IsAnyNearer<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> bool {
        for other in self.others {
            if self.own.key(self.metric, other) < self.key {
                return true;
            }
        }
        false
    }
}

/// The directions of sketches.
#[derive(Debug)]
pub(crate) struct Directions {
    /// [`COMPONENTS`] rows in the vectors' dimension.
    rows: Vec<f32>,
    dimension: usize,
    scale: f32,
}

impl Directions {
    /// Computes the directions of `sample`, rows of `dimension` components.
    pub(crate) fn of_sample(sample: &[f32], dimension: usize) -> Result<Self> {
        let action = "hold the directions of sketches";
        let size = dimension.saturating_mul(COMPONENTS);
        let mut directions = Self {
            rows: memory::filled(size, 0.0, action)?,
            dimension,
            scale: 0.0,
        };
        let mut next = memory::filled(size, 0.0, action)?;
        let mut random = Random::new(0);
        for element in &mut directions.rows {
            *element = if random.below(2) == 0 { 1.0 } else { -1.0 };
        }
        let mut squares = [0.0; COMPONENTS];
        for _ in 0..ITERATIONS {
            next.fill(0.0);
            squares = [0.0; COMPONENTS];
            for vector in sample.chunks_exact(dimension.max(1)) {
                let projected = directions.project(vector);
                for (row, (projected, sum)) in next
                    .chunks_exact_mut(dimension.max(1))
                    .zip(projected.iter().zip(&mut squares))
                {
                    *sum += projected * projected;
                    for (element, value) in row.iter_mut().zip(vector) {
                        *element += projected * value;
                    }
                }
            }
            std::mem::swap(&mut directions.rows, &mut next);
            directions.make_orthonormal();
        }
        // Sums of the directions before the last iteration, which are accurate enough for a scale.
        let widest = squares.iter().fold(0.0_f32, |widest, sum| widest.max(*sum));
        let vectors = sample.len().checked_div(dimension).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a sample is small")]
        let root = (widest / vectors.max(1) as f32).sqrt();
        directions.scale = if root.is_normal() {
            f32::from(i8::MAX) / (RANGE * root)
        } else {
            0.0
        };
        Ok(directions)
    }

    /// Gram-Schmidt orthonormalisation, row by row. A row that depends on the previous ones becomes
    /// zero.
    fn make_orthonormal(&mut self) {
        let dimension = self.dimension.max(1);
        for at in 0..COMPONENTS {
            let start = at.saturating_mul(dimension);
            let Some((before, rest)) = self.rows.split_at_mut_checked(start) else {
                return;
            };
            let Some(row) = rest.get_mut(..dimension) else {
                return;
            };
            let length_before = dot(row, row).sqrt();
            for earlier in before.chunks_exact(dimension) {
                let along = dot(row, earlier);
                for (element, other) in row.iter_mut().zip(earlier) {
                    *element -= along * other;
                }
            }
            let length = dot(row, row).sqrt();
            let is_new = length.is_normal() && length > 1e-4 * length_before;
            let scale = if is_new { length.recip() } else { 0.0 };
            for element in row {
                *element = if is_new { *element * scale } else { 0.0 };
            }
        }
    }

    fn project(&self, vector: &[f32]) -> [f32; COMPONENTS] {
        Arch::new().dispatch(Project {
            directions: self,
            vector,
        })
    }

    pub(crate) fn sketch(&self, vector: &[f32]) -> Sketch {
        let projected = self.project(vector);
        // The cast saturates at the limits of i8 and turns NaN into 0.
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        Sketch(projected.map(|component| (component * self.scale).round() as i8))
    }
}

/// The components of a vector along all directions.
struct Project<'p> {
    directions: &'p Directions,
    vector: &'p [f32],
}

impl WithSimd for Project<'_> {
    type Output = [f32; COMPONENTS];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut projected = [0.0; COMPONENTS];
        let rows = self
            .directions
            .rows
            .chunks_exact(self.directions.dimension.max(1));
        for (component, row) in projected.iter_mut().zip(rows) {
            *component = sum_of::<S, Product>(simd, row, self.vector);
        }
        projected
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    Arch::new().dispatch(Dot(a, b))
}

struct Dot<'d>(&'d [f32], &'d [f32]);

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        sum_of::<S, Product>(simd, self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points near three directions of 40, and a little noise.
    fn points(count: usize) -> Vec<Vec<f32>> {
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            f32::from(u16::try_from(state >> 48).unwrap()) / 32768.0 - 1.0
        };
        let base: Vec<Vec<f32>> = (0..3)
            .map(|_| (0..40).map(|_| random()).collect())
            .collect();
        (0..count)
            .map(|_| {
                let weights = [random(), random(), random()];
                (0..40)
                    .map(|at| {
                        let along = base.iter().zip(weights).map(|(row, w)| row[at] * w);
                        along.sum::<f32>() + 0.01 * random()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn near_vectors_have_near_sketches() {
        let points = points(300);
        let directions = Directions::of_sample(&points.concat(), 40).unwrap();
        let sketches: Vec<Sketch> = points
            .iter()
            .map(|point| directions.sketch(point))
            .collect();
        let squared =
            |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let (mut found, mut all) = (0, 0);
        for at in 0..50 {
            let order = |key: &dyn Fn(usize) -> f32| {
                let mut others: Vec<usize> = (0..300).filter(|other| *other != at).collect();
                others.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
                others[..20].to_vec()
            };
            let near = order(&|other| squared(&points[at], &points[other]));
            #[allow(clippy::cast_precision_loss)]
            let guess =
                order(&|other| sketches[at].key(Metric::SquaredEuclidean, &sketches[other]) as f32);
            found += near.iter().filter(|id| guess.contains(id)).count();
            all += near.len();
        }
        assert!(found * 10 > all * 8, "{found} of {all}");
    }

    #[test]
    fn any_numbers_have_a_sketch() {
        for value in [0.0, 1e-45, f32::MAX, f32::INFINITY, f32::NAN] {
            for dimension in [1, 2, 30] {
                let sample = vec![value; 5 * dimension];
                let directions = Directions::of_sample(&sample, dimension).unwrap();
                let sketch = directions.sketch(&vec![value; dimension]);
                assert_eq!(sketch.key(Metric::SquaredEuclidean, &sketch), 0);
            }
        }
        let none = Directions::of_sample(&[], 3).unwrap().sketch(&[1.0; 3]);
        assert_eq!(none, Sketch::NONE);
    }
}
