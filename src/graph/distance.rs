//! The five metrics, vectorised for the current processor.
//!
//! They follow the definitions of the fast-hnsw crate, which searches the files that are built
//! here. Sums run over several lanes at once, so the last bits differ from a sequential sum.
//!
//! The engines compare [keys](Space::key), which have the order of the metric but are cheaper:
//! under [`Metric::Euclidean`] the key is the squared distance. If f32 overflows on the way to a
//! key, the key is recomputed in f64, where no product of two floats over- or underflows. Keys of
//! finite vectors are therefore never NaN. A vector with a non-finite component is damaged. A
//! [`Query`]'s key to it is NaN, which sorts last, and a [`Space`]'s key to it is infinite.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::random::mix;
use crate::base::memory;
use crate::error::{Error, Result};
use crate::io::mmap::prefetch;

named_enum! {
    /// The distance of two vectors *a* and *b*. Lower is closer.
    #[derive(Default)]
    pub enum Metric for "metric" {
        /// ‖a−b‖, the norm of the difference.
        #[default]
        Euclidean = "euclidean",
        /// ‖a−b‖². Also accepted as `l2`, Chroma's name.
        SquaredEuclidean = "squared_euclidean" or "l2",
        /// 1 − cos(a, b), from 0 to 2. A vector of zeros is at distance 1 from every vector,
        /// including itself.
        Cosine = "cosine",
        /// 1 − a·b; negative if a·b is above 1. Also accepted as `ip`, Chroma's name.
        DotProduct = "dot_product" or "ip",
        /// ‖a−b‖₁, the sum of the absolute differences.
        Manhattan = "manhattan",
    }
}

impl Metric {
    /// Converts a [key](Space::key) to a distance.
    pub(crate) fn distance_of_key(self, key: f32) -> f32 {
        match self {
            Self::Euclidean => key.sqrt(),
            _ => key,
        }
    }
}

/// Vectors of one dimension: contiguous rows, or a field of larger records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vectors<'a> {
    data: &'a [f32],
    dimension: usize,
    len: u32,
    /// Position of the vector in a record, and size of a record, in `f32`s.
    offset: usize,
    stride: usize,
}

impl<'a> Vectors<'a> {
    /// `data` must hold complete rows, fewer than `u32::MAX` and each of at least one component.
    pub(crate) fn new(data: &'a [f32], dimension: usize) -> Result<Self> {
        let len = data
            .len()
            .checked_div(dimension)
            .and_then(|len| u32::try_from(len).ok())
            .filter(|len| *len < u32::MAX)
            .ok_or_else(|| Error::internal("vectors without a dimension, or too many"))?;
        if !data.len().is_multiple_of(dimension) {
            return Err(Error::internal("vectors with a part of a row"));
        }
        Ok(Self {
            data,
            dimension,
            len,
            offset: 0,
            stride: dimension,
        })
    }

    /// Vectors embedded in records of `stride` floats, each at position `offset`. `data` must hold
    /// complete records, fewer than `u32::MAX`. The other floats are never read as numbers.
    pub(crate) fn in_records(
        data: &'a [f32],
        dimension: usize,
        offset: usize,
        stride: usize,
    ) -> Result<Self> {
        if dimension == 0 || offset.checked_add(dimension).is_none_or(|end| end > stride) {
            return Err(Error::internal("vectors that do not fit their records"));
        }
        Ok(Self {
            dimension,
            offset,
            ..Self::new(data, stride)?
        })
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Number of components per vector.
    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// All rows or records.
    pub(crate) fn data(&self) -> &'a [f32] {
        self.data
    }

    /// The vector of a node; empty if the node does not exist.
    #[inline(always)]
    pub(crate) fn get(&self, node: u32) -> &'a [f32] {
        let start = (node as usize)
            .wrapping_mul(self.stride)
            .wrapping_add(self.offset);
        let vector = self.data.get(start..start.wrapping_add(self.dimension));
        debug_assert!(vector.is_some(), "node {node} does not exist");
        vector.unwrap_or_default()
    }
}

/// The arithmetic of one metric.
pub(crate) trait Measure: Copy + Send + Sync + 'static {
    /// The term summed over all components.
    type Term: Term;

    /// True if keys use the inverse norms of both vectors.
    const SCALED: bool;

    /// Computes the key as a linear function of the sum and, if [`SCALED`](Self::SCALED), both
    /// inverse norms. The result is not finite if f32 overflows.
    fn linear_key(sum: f32, inverse_a: f32, inverse_b: f32) -> f32;

    /// Clamps a key that rounding took beyond its limits.
    #[inline(always)]
    fn limited(key: f32) -> f32 {
        key
    }

    /// Computes the key of finite vectors for which f32 does not suffice.
    fn key_in_f64(a: &[f32], b: &[f32]) -> f32;

    /// Computes the key from the arguments of [`linear_key`](Self::linear_key). NaN if one of the
    /// vectors is damaged.
    #[inline(always)]
    fn key(sum: f32, (inverse_a, inverse_b): (f32, f32), a: &[f32], b: &[f32]) -> f32 {
        let key = Self::linear_key(sum, inverse_a, inverse_b);
        // This one test also catches damaged vectors and norms outside of f32.
        if key.is_finite() {
            Self::limited(key)
        } else {
            exact_key::<Self>(a, b)
        }
    }
}

/// Computes the key in f64. If a vector is damaged, returns a NaN with the sign that sorts last.
#[cold]
#[inline(never)]
fn exact_key<M: Measure>(a: &[f32], b: &[f32]) -> f32 {
    if is_finite(a) && is_finite(b) {
        M::key_in_f64(a, b)
    } else {
        f32::NAN
    }
}

/// Returns true if all components are finite, so that the vector is not damaged.
pub(crate) fn is_finite(vector: &[f32]) -> bool {
    vector.iter().all(|component| component.is_finite())
}

/// The term of a sum, in lanes.
pub(crate) trait Term: Copy + Send + Sync + 'static {
    /// True if the sum equals ‖a‖² + ‖b‖² − 2·a·b, and so can be derived from products.
    const EXPANDS: bool;

    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s;
}

/// Sums in four accumulators: an addition takes several cycles to finish, but one can start in each
/// cycle.
#[inline(always)]
pub(super) fn sum_of<S: Simd, T: Term>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = S::as_simd_f32s(a);
    let (b_lanes, b_rest) = S::as_simd_f32s(b);
    // `a` and `b` have the same length, so both split at the same positions.
    let (a_fours, a_ones) = pulp::as_arrays::<4, _>(a_lanes);
    let (b_fours, b_ones) = pulp::as_arrays::<4, _>(b_lanes);
    let zero = simd.splat_f32s(0.0);
    let (mut s0, mut s1, mut s2, mut s3) = (zero, zero, zero, zero);
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_fours.iter().zip(b_fours) {
        s0 = T::add(simd, s0, *a0, *b0);
        s1 = T::add(simd, s1, *a1, *b1);
        s2 = T::add(simd, s2, *a2, *b2);
        s3 = T::add(simd, s3, *a3, *b3);
    }
    for (a0, b0) in a_ones.iter().zip(b_ones) {
        s0 = T::add(simd, s0, *a0, *b0);
    }
    if !a_rest.is_empty() {
        s1 = T::add(
            simd,
            s1,
            simd.partial_load_f32s(a_rest),
            simd.partial_load_f32s(b_rest),
        );
    }
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3)))
}

/// Computes the sums of a·b and of b·b in one pass.
#[inline(always)]
fn products_of<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> (f32, f32) {
    let (a_lanes, a_rest) = S::as_simd_f32s(a);
    let (b_lanes, b_rest) = S::as_simd_f32s(b);
    let (a_pairs, a_ones) = pulp::as_arrays::<2, _>(a_lanes);
    let (b_pairs, b_ones) = pulp::as_arrays::<2, _>(b_lanes);
    let zero = simd.splat_f32s(0.0);
    // Two accumulators per sum, for the same reason as in `sum_of`.
    let (mut ab0, mut ab1, mut bb0, mut bb1) = (zero, zero, zero, zero);
    for ([a0, a1], [b0, b1]) in a_pairs.iter().zip(b_pairs) {
        ab0 = simd.mul_add_e_f32s(*a0, *b0, ab0);
        ab1 = simd.mul_add_e_f32s(*a1, *b1, ab1);
        bb0 = simd.mul_add_e_f32s(*b0, *b0, bb0);
        bb1 = simd.mul_add_e_f32s(*b1, *b1, bb1);
    }
    for (a0, b0) in a_ones.iter().zip(b_ones) {
        ab0 = simd.mul_add_e_f32s(*a0, *b0, ab0);
        bb0 = simd.mul_add_e_f32s(*b0, *b0, bb0);
    }
    if !a_rest.is_empty() {
        let (a0, b0) = (
            simd.partial_load_f32s(a_rest),
            simd.partial_load_f32s(b_rest),
        );
        ab1 = simd.mul_add_e_f32s(a0, b0, ab1);
        bb1 = simd.mul_add_e_f32s(b0, b0, bb1);
    }
    (
        simd.reduce_sum_f32s(simd.add_f32s(ab0, ab1)),
        simd.reduce_sum_f32s(simd.add_f32s(bb0, bb1)),
    )
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SquaredDifference;

impl Term for SquaredDifference {
    const EXPANDS: bool = true;

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        let difference = simd.sub_f32s(a, b);
        simd.mul_add_e_f32s(difference, difference, sum)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AbsoluteDifference;

impl Term for AbsoluteDifference {
    const EXPANDS: bool = false;

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(sum, simd.abs_f32s(simd.sub_f32s(a, b)))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Product;

impl Term for Product {
    const EXPANDS: bool = false;

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, sum)
    }
}

/// Dot product in f64. Lanes are independent, because a single sum would wait for each addition.
/// Finite if all components are: the product of the largest floats is 1e77.
pub(crate) fn dot_in_f64(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += f64::from(*a) * f64::from(*b);
    }
    sums.iter().sum()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what f32 cannot hold becomes infinite"
)]
fn to_f32(value: f64) -> f32 {
    value as f32
}

/// The plain sum of non-negative terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SumOf<T>(PhantomData<T>);

impl<T: Term> Measure for SumOf<T> {
    type Term = T;

    const SCALED: bool = false;

    #[inline(always)]
    fn linear_key(sum: f32, _: f32, _: f32) -> f32 {
        sum
    }

    fn key_in_f64(_: &[f32], _: &[f32]) -> f32 {
        f32::INFINITY
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OneMinusDot;

impl Measure for OneMinusDot {
    type Term = Product;

    const SCALED: bool = false;

    #[inline(always)]
    fn linear_key(sum: f32, _: f32, _: f32) -> f32 {
        1.0 - sum
    }

    fn key_in_f64(a: &[f32], b: &[f32]) -> f32 {
        to_f32(1.0 - dot_in_f64(a, b))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OneMinusCosine;

impl Measure for OneMinusCosine {
    type Term = Product;

    const SCALED: bool = true;

    #[inline(always)]
    fn linear_key(sum: f32, inverse_a: f32, inverse_b: f32) -> f32 {
        // In this order nothing overflows, because the sum is at most the product of the norms.
        1.0 - sum * inverse_a * inverse_b
    }

    #[inline(always)]
    fn limited(key: f32) -> f32 {
        key.clamp(0.0, 2.0)
    }

    fn key_in_f64(a: &[f32], b: &[f32]) -> f32 {
        let lengths = dot_in_f64(a, a).sqrt() * dot_in_f64(b, b).sqrt();
        // A vector of zeros has no direction: its distance is 1 by definition.
        if lengths == 0.0 {
            return 1.0;
        }
        to_f32((1.0 - dot_in_f64(a, b) / lengths).clamp(0.0, 2.0))
    }
}

/// Minimum sum of squares that f32 represents as exactly as the squares themselves. Squares below
/// 2⁻¹²⁶ are rounded to a multiple of 2⁻¹⁴⁹. The error of 2²⁴ such squares is below the last bit of
/// 2⁻¹⁰⁰.
const MIN_EXACT_SQUARES: f32 = f32::from_bits((127 - 100) << 23);

/// The inverse norm of a vector; 0 for a vector of zeros. NaN if the squared norm over- or
/// underflows f32, or if the vector is damaged. [Keys](Measure::key) are then computed in f64.
#[inline(always)]
pub(crate) fn inverse_length<S: Simd>(simd: S, vector: &[f32]) -> f32 {
    inverse_of_squared(sum_of::<S, Product>(simd, vector, vector), vector)
}

/// The inverse norm for a known sum of squares.
#[inline(always)]
fn inverse_of_squared(squared: f32, vector: &[f32]) -> f32 {
    if (MIN_EXACT_SQUARES..=f32::MAX).contains(&squared) {
        squared.sqrt().recip()
    } else {
        extreme_inverse(vector)
    }
}

#[cold]
#[inline(never)]
fn extreme_inverse(vector: &[f32]) -> f32 {
    if vector.iter().all(|component| *component == 0.0) {
        0.0
    } else {
        f32::NAN
    }
}

/// Returns a function that scales components to norm 1, in f64. The vector must be finite and not
/// zero.
#[inline(never)]
pub(super) fn to_unit(vector: &[f32]) -> impl Fn(f32) -> f32 {
    let inverse = dot_in_f64(vector, vector).sqrt().recip();
    move |component| to_f32(f64::from(component) * inverse)
}

struct InverseLengths<'i, 'a> {
    vectors: Vectors<'a>,
    lengths: &'i mut Vec<f32>,
}

impl WithSimd for InverseLengths<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for node in 0..self.vectors.len() {
            self.lengths
                .push(inverse_length(simd, self.vectors.get(node)));
        }
    }
}

/// Vectors under a metric.
#[derive(Debug)]
pub(crate) struct Space<'a, M> {
    vectors: Vectors<'a>,
    /// 4 bytes per vector under cosine; otherwise empty.
    inverse_lengths: Vec<f32>,
    measure: PhantomData<M>,
}

/// The vector with which others are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    vector: &'a [f32],
    inverse_length: f32,
}

impl<'a> Origin<'a> {
    #[inline(always)]
    pub(crate) fn vector(&self) -> &'a [f32] {
        self.vector
    }

    /// The inverse norm; 1 if the metric does not scale.
    #[inline(always)]
    pub(crate) fn inverse_length(&self) -> f32 {
        self.inverse_length
    }
}

impl<'a, M: Measure> Space<'a, M> {
    pub(crate) fn new(vectors: Vectors<'a>) -> Result<Self> {
        let mut inverse_lengths = Vec::new();
        if M::SCALED {
            let action = "hold the lengths of the vectors";
            memory::reserve_exact(&mut inverse_lengths, vectors.len() as usize, action)?;
            Arch::new().dispatch(InverseLengths {
                vectors,
                // The vector was reserved above, so pushing never reallocates.
                lengths: &mut inverse_lengths,
            });
        }
        Ok(Self {
            vectors,
            inverse_lengths,
            measure: PhantomData,
        })
    }

    pub(crate) fn vectors(&self) -> Vectors<'a> {
        self.vectors
    }

    pub(crate) fn len(&self) -> u32 {
        self.vectors.len()
    }

    #[inline(always)]
    fn inverse_length(&self, node: u32) -> f32 {
        if M::SCALED {
            self.inverse_lengths
                .get(node as usize)
                .copied()
                .unwrap_or_default()
        } else {
            1.0
        }
    }

    #[inline(always)]
    pub(crate) fn origin(&self, node: u32) -> Origin<'a> {
        Origin {
            vector: self.vectors.get(node),
            inverse_length: self.inverse_length(node),
        }
    }

    /// Computes the key that orders nodes by their distance from `origin`.
    #[inline(always)]
    pub(crate) fn key<S: Simd>(&self, simd: S, origin: &Origin<'_>, node: u32) -> f32 {
        let vector = self.vectors.get(node);
        let sum = sum_of::<S, M::Term>(simd, origin.vector, vector);
        let inverses = (origin.inverse_length, self.inverse_length(node));
        let key = M::key(sum, inverses, origin.vector, vector);
        if key.is_nan() {
            // Damaged vectors are unknown to the engines, but still need an order.
            return f32::INFINITY;
        }
        key
    }

    /// A hash that is equal for vectors which the metric cannot tell apart, except for rounding,
    /// and differs for nearly all others.
    #[inline(always)]
    pub(crate) fn fingerprint(&self, node: u32) -> u64 {
        /// 1.5 · 2²³. Added to a number below 2²², it leaves the rounded integer in the low bits.
        const ROUNDING: f32 = 12_582_912.0;
        /// Rounding steps between 0 and 1 for the components of a direction. Coarse enough that f32
        /// errors seldom change the step.
        const STEPS: f32 = 65536.0;
        let vector = self.vectors.get(node);
        if M::SCALED {
            let scale = self.inverse_length(node) * STEPS;
            // Such a norm over- or underflows f32, so the direction is computed in f64.
            if scale.is_nan() {
                let unit = to_unit(vector);
                return fingerprint(vector, |element| {
                    (unit(element) * STEPS + ROUNDING).to_bits()
                });
            }
            fingerprint(vector, |element| (element * scale + ROUNDING).to_bits())
        } else {
            // Adding 0.0 turns a negative zero into a positive one.
            fingerprint(vector, |element| (element + 0.0).to_bits())
        }
    }

    /// Returns true if the metric cannot tell two vectors apart.
    pub(crate) fn equal(&self, a: u32, b: u32) -> bool {
        /// Square of the rounding error of a direction.
        const TOLERANCE: f32 = 1e-12;
        let (vector_a, vector_b) = (self.vectors.get(a), self.vectors.get(b));
        if M::SCALED {
            let (inverse_a, inverse_b) = (self.inverse_length(a), self.inverse_length(b));
            let pairs = vector_a.iter().zip(vector_b);
            let square = |difference: f32| difference * difference;
            let squared: f32 = if inverse_a.is_nan() || inverse_b.is_nan() {
                let (unit_a, unit_b) = (to_unit(vector_a), to_unit(vector_b));
                pairs.map(|(a, b)| square(unit_a(*a) - unit_b(*b))).sum()
            } else {
                pairs
                    .map(|(a, b)| square(a * inverse_a - b * inverse_b))
                    .sum()
            };
            // A vector of zeros equals only vectors of zeros.
            (inverse_a == 0.0) == (inverse_b == 0.0) && squared <= TOLERANCE
        } else {
            vector_a == vector_b
        }
    }

    /// Prefetches a vector into the processor's caches.
    #[inline(always)]
    pub(crate) fn prefetch(&self, node: u32) {
        prefetch(self.vectors.get(node));
        if M::SCALED {
            if let Some(value) = self.inverse_lengths.get(node as usize) {
                prefetch(std::slice::from_ref(value));
            }
        }
    }
}

/// A vector compared with vectors whose norms are not known in advance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'q, M> {
    vector: &'q [f32],
    inverse_length: f32,
    measure: PhantomData<M>,
}

impl<'q, M: Measure> Query<'q, M> {
    #[inline(always)]
    pub(crate) fn new<S: Simd>(simd: S, vector: &'q [f32]) -> Self {
        Self {
            vector,
            inverse_length: if M::SCALED {
                inverse_length(simd, vector)
            } else {
                1.0
            },
            measure: PhantomData,
        }
    }

    /// Computes the key that orders vectors by their distance from the query. NaN for a damaged
    /// vector.
    #[inline(always)]
    pub(crate) fn key<S: Simd>(&self, simd: S, vector: &[f32]) -> f32 {
        let (sum, inverse) = if M::SCALED {
            let (sum, squared) = products_of(simd, self.vector, vector);
            (sum, inverse_of_squared(squared, vector))
        } else {
            (sum_of::<S, M::Term>(simd, self.vector, vector), 1.0)
        };
        M::key(sum, (self.inverse_length, inverse), self.vector, vector)
    }
}

/// Work compiled once per metric that needs no [`Space`].
pub(crate) trait WithMeasure {
    type Output;

    fn run<M: Measure>(self) -> Self::Output;
}

/// Runs the work with the measure of `metric`.
pub(crate) fn with_measure<W: WithMeasure>(metric: Metric, work: W) -> W::Output {
    match metric {
        Metric::Euclidean | Metric::SquaredEuclidean => work.run::<SumOf<SquaredDifference>>(),
        Metric::Cosine => work.run::<OneMinusCosine>(),
        Metric::DotProduct => work.run::<OneMinusDot>(),
        Metric::Manhattan => work.run::<SumOf<AbsoluteDifference>>(),
    }
}

/// Work compiled once per metric.
pub(crate) trait WithSpace {
    type Output;

    fn run<M: Measure>(self, space: &Space<'_, M>) -> Self::Output;
}

/// Runs the work with the measure of `metric`.
pub(crate) fn with_space<W: WithSpace>(
    metric: Metric,
    vectors: Vectors<'_>,
    work: W,
) -> Result<W::Output> {
    with_measure(metric, InSpace { vectors, work })
}

struct InSpace<'a, W> {
    vectors: Vectors<'a>,
    work: W,
}

impl<W: WithSpace> WithMeasure for InSpace<'_, W> {
    type Output = Result<W::Output>;

    fn run<M: Measure>(self) -> Result<W::Output> {
        Ok(self.work.run(&Space::<M>::new(self.vectors)?))
    }
}

/// Hashes a vector by the result of `bits` for each component.
#[inline(always)]
fn fingerprint(vector: &[f32], bits: impl Fn(f32) -> u32) -> u64 {
    /// Number of lanes that a processor computes at once.
    const LANES: usize = 16;
    let mut lanes = [0u32; LANES];
    let (chunks, rest) = vector.as_chunks::<LANES>();
    for elements in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (lane, element) in lanes.iter_mut().zip(elements) {
            *lane = (*lane ^ bits(*element))
                // Multiplicative hashing; the multiplier is a prime near 2³² / golden ratio.
                .wrapping_mul(0x9e37_79b1)
                .rotate_left(15);
        }
    }
    lanes
        .iter()
        .fold(0, |sum, lane| mix(sum ^ u64::from(*lane)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct KeyOf<'a, M>(&'a Space<'a, M>);

    impl<M: Measure> WithSimd for KeyOf<'_, M> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            self.0.key(simd, &self.0.origin(0), 1)
        }
    }

    struct Distance;

    impl WithSpace for Distance {
        type Output = [f32; 2];

        fn run<M: Measure>(self, space: &Space<'_, M>) -> [f32; 2] {
            let scalar = KeyOf(space).with_simd(pulp::Scalar);
            [Arch::new().dispatch(KeyOf(space)), scalar]
        }
    }

    fn distances(metric: Metric, a: &[f32], b: &[f32]) -> [f32; 2] {
        let data = [a, b].concat();
        let vectors = Vectors::new(&data, a.len()).unwrap();
        with_space(metric, vectors, Distance)
            .unwrap()
            .map(|key| metric.distance_of_key(key))
    }

    fn reference(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let squared: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        match metric {
            Metric::Euclidean => squared.sqrt(),
            Metric::SquaredEuclidean => squared,
            Metric::DotProduct => 1.0 - dot,
            Metric::Manhattan => pairs().map(|(a, b)| (a - b).abs()).sum(),
            Metric::Cosine => {
                let (aa, bb): (f64, f64) = (
                    pairs().map(|(a, _)| a * a).sum(),
                    pairs().map(|(_, b)| b * b).sum(),
                );
                1.0 - dot / (aa * bb).sqrt()
            }
        }
    }

    #[test]
    fn every_dimension_is_summed_to_its_end_on_every_processor() {
        for dimension in (1..150).chain([384, 768, 1536]) {
            let vector = |seed: usize| -> Vec<f32> {
                (0..dimension)
                    .map(|at| ((at * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)
                    .collect()
            };
            let (a, b) = (vector(1), vector(2));
            for &metric in Metric::ALL {
                let expected = reference(metric, &a, &b);
                for found in distances(metric, &a, &b) {
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error <= 1e-5 * expected.abs().max(1.0),
                        "{metric}, dimension {dimension}: {found}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_beyond_f32_are_infinite_or_right_but_never_nan() {
        let a = [3e38, -3e38, 3e38, 1.0];
        let b = [3e38, 3e38, -3e38, 1.0];
        let c = [3e38, 3e38, 3e38, 1.0];
        for (x, y) in [(a, a), (a, b), (a, c), (b, c)] {
            for &metric in Metric::ALL {
                for found in distances(metric, &x, &y) {
                    assert!(!found.is_nan(), "{metric}");
                }
            }
            for found in distances(Metric::Cosine, &x, &y) {
                let expected = reference(Metric::Cosine, &x, &y);
                assert!((f64::from(found) - expected).abs() < 1e-6);
            }
        }
        assert_eq!(
            distances(Metric::DotProduct, &a, &b),
            [f32::INFINITY, f32::INFINITY]
        );
    }

    #[test]
    fn cosine_distances_are_right_at_every_norm() {
        for dimension in [3, 40, 700] {
            let vector = |seed: usize, scale: f32| -> Vec<f32> {
                (0..dimension)
                    .map(|at| (((at * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0) * scale)
                    .collect()
            };
            // From subnormal numbers to the largest, over the edges of what f32 can square.
            let scales: Vec<f32> = (-44..=38).map(|power| 10f32.powi(power)).collect();
            for &scale_a in scales.iter().step_by(3) {
                for &scale_b in &scales {
                    let (a, b) = (vector(1, scale_a), vector(2, scale_b));
                    let expected = reference(Metric::Cosine, &a, &b);
                    if expected.is_nan() {
                        // Too short even for subnormal numbers: a vector of zeros.
                        continue;
                    }
                    for found in distances(Metric::Cosine, &a, &b) {
                        assert!(
                            (f64::from(found) - expected).abs() <= 1e-5,
                            "{dimension}, {scale_a} and {scale_b}: {found}, not {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn directions_are_equal_at_every_norm() {
        struct Equal;

        impl WithSpace for Equal {
            type Output = Vec<(u64, bool)>;

            fn run<M: Measure>(self, space: &Space<'_, M>) -> Self::Output {
                (0..space.len())
                    .map(|node| (space.fingerprint(node), space.equal(0, node)))
                    .collect()
            }
        }

        let mut data = Vec::new();
        // Powers of 2, by which no bit of a component is lost.
        for scale in [1.0, 1.0 / (1u128 << 100) as f32, (1u128 << 90) as f32] {
            data.extend([3.0 * scale, -4.0 * scale, 0.5 * scale]);
        }
        data.extend([3e-30, 4e-30, 0.5e-30, 0.0, 0.0, 0.0]);
        let vectors = Vectors::new(&data, 3).unwrap();
        let found = with_space(Metric::Cosine, vectors, Equal).unwrap();
        assert!(found[..3].iter().all(|one| *one == (found[0].0, true)));
        assert!(found[3..].iter().all(|one| !one.1 && one.0 != found[0].0));
    }

    #[test]
    fn a_vector_of_zeros_is_at_cosine_distance_one() {
        for (a, b) in [
            ([0.0; 3], [0.0; 3]),
            ([0.0; 3], [1.0, 2.0, 3.0]),
            ([-0.0; 3], [f32::MAX; 3]),
        ] {
            assert_eq!(distances(Metric::Cosine, &a, &b), [1.0, 1.0]);
        }
    }
}
