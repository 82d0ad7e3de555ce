//! The true nearest nodes of many queries, found by comparing each query with every undamaged
//! vector.
//!
//! Vectors arrive in blocks, so an index can be larger than memory. Four queries are compared with
//! two vectors at a time. Each loaded component contributes to several sums, as in a matrix
//! product. Unlike `‖a‖² + ‖b‖² − 2ab`, the sums lose no digits if vectors are close together and
//! far from the origin. The scheme serves all metrics.
//!
//! A block sums components in another order than a search, so the last bits differ. A few spare
//! nodes are therefore kept, and compared again the way a search does.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::candidate::Candidate;
use super::distance::{inverse_length, with_measure, Measure, Metric, Query, Term, WithMeasure};
use super::file::read::View;
use crate::base::memory;
use crate::error::Result;
use crate::io::source::Source;

/// Number of nodes kept in addition to those requested.
const SPARE: usize = 16;

/// Bytes of vectors compared with all queries before the next ones, so that they stay in a cache.
const TILE_BYTES: usize = 128 << 10;

/// Size of a block: this many queries are compared with this many vectors at a time.
const QUERIES_AT_ONCE: usize = 4;
const VECTORS_AT_ONCE: usize = 2;

/// The nearest nodes found so far for each query.
#[derive(Debug)]
pub(crate) struct Exact<'q> {
    queries: &'q [f32],
    dimension: usize,
    keep: usize,
    /// For each query, nearest first.
    nearest: Vec<Vec<Candidate>>,
}

impl<'q> Exact<'q> {
    /// Prepares to find the `count` nearest nodes of each query, and some spare ones.
    ///
    /// `dimension` must not be 0, and `queries` must hold complete vectors.
    pub(crate) fn new(queries: &'q [f32], dimension: usize, count: usize) -> Result<Self> {
        let number = queries.len().checked_div(dimension).unwrap_or_default();
        Ok(Self {
            queries,
            dimension,
            keep: count.saturating_add(SPARE),
            nearest: memory::filled(number, Vec::new(), "hold the nearest nodes of each query")?,
        })
    }

    /// Compares all queries with consecutive vectors. `first` is the node of the first vector.
    pub(crate) fn compare(&mut self, metric: Metric, first: u32, vectors: &[f32]) -> Result<()> {
        with_measure(
            metric,
            Compare {
                exact: self,
                first,
                vectors,
            },
        )
    }

    /// The same for a metric known at compile time.
    pub(crate) fn compare_by<M: Measure>(&mut self, first: u32, vectors: &[f32]) -> Result<()> {
        Arch::new().dispatch(CompareBy {
            exact: self,
            first,
            vectors,
            measure: PhantomData::<M>,
        })
    }

    /// Returns the nearest nodes of each query, sorted by the distances that blocks compute.
    pub(crate) fn into_nearest(self) -> Vec<Vec<Candidate>> {
        self.nearest
    }
}

struct Compare<'c, 'q> {
    exact: &'c mut Exact<'q>,
    first: u32,
    vectors: &'c [f32],
}

impl WithMeasure for Compare<'_, '_> {
    type Output = Result<()>;

    fn run<M: Measure>(self) -> Result<()> {
        self.exact.compare_by::<M>(self.first, self.vectors)
    }
}

struct CompareBy<'c, 'q, M> {
    exact: &'c mut Exact<'q>,
    first: u32,
    vectors: &'c [f32],
    measure: PhantomData<M>,
}

impl<M: Measure> WithSimd for CompareBy<'_, '_, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self {
            exact,
            first,
            vectors,
            ..
        } = self;
        let dimension = exact.dimension.max(1);
        let group = QUERIES_AT_ONCE.saturating_mul(dimension);
        let rows = (TILE_BYTES / dimension / size_of::<f32>()).max(VECTORS_AT_ONCE);
        let mut node = first;
        let mut inverses = Vec::new();
        for tile in vectors.chunks(rows.saturating_mul(dimension)) {
            inverses.clear();
            if M::SCALED {
                let vectors = tile.chunks_exact(dimension);
                memory::reserve(&mut inverses, vectors.len(), "hold the lengths of vectors")?;
                for vector in vectors {
                    inverses.push(inverse_length(simd, vector));
                }
            }
            // The tile stays in the cache while all queries pass over it.
            let queries = exact.queries.chunks(group);
            for (queries, nearest) in queries.zip(exact.nearest.chunks_mut(QUERIES_AT_ONCE)) {
                let queries = Group::new(queries, dimension);
                let mut inverse_lengths = [1.0; QUERIES_AT_ONCE];
                if M::SCALED {
                    for (inverse, query) in inverse_lengths.iter_mut().zip(queries.0) {
                        *inverse = inverse_length(simd, query);
                    }
                }
                let mut row = 0u32;
                for pair in tile.chunks(VECTORS_AT_ONCE.saturating_mul(dimension)) {
                    let vectors = Pair::new(pair, dimension);
                    let sums = sums_of::<S, M::Term>(simd, queries.0, vectors.0);
                    // `nearest` has no list for the repeated queries of a short group.
                    for (((nearest, query), sums), inverse_length) in nearest
                        .iter_mut()
                        .zip(queries.0)
                        .zip(sums)
                        .zip(inverse_lengths)
                    {
                        for ((number, vector), sum) in (0u32..vectors.1).zip(vectors.0).zip(sums) {
                            let row = row.wrapping_add(number);
                            let inverse = inverses.get(row as usize).copied();
                            let inverses = (inverse_length, inverse.unwrap_or_default());
                            let key = M::key(sum, inverses, query, vector);
                            // A damaged vector is never a result.
                            if !key.is_nan() {
                                let found = Candidate::new(key, node.wrapping_add(row));
                                keep(nearest, found, exact.keep)?;
                            }
                        }
                    }
                    row = row.wrapping_add(vectors.1);
                }
            }
            // The last tile can be shorter.
            let rows = u32::try_from(tile.len() / dimension).unwrap_or(u32::MAX);
            node = node.wrapping_add(rows);
        }
        Ok(())
    }
}

/// Sorts nodes by their distance from a query, bit for bit as a search computes it.
pub(crate) fn rank<S: Source>(
    view: &mut View<'_, S>,
    metric: Metric,
    query: &[f32],
    nodes: &mut [Candidate],
) -> Result<()> {
    measure(view, metric, query, nodes)?;
    nodes.sort_unstable();
    Ok(())
}

/// Computes the keys of nodes, bit for bit as a search does; NaN for a damaged vector.
pub(crate) fn measure<S: Source>(
    view: &mut View<'_, S>,
    metric: Metric,
    query: &[f32],
    nodes: &mut [Candidate],
) -> Result<()> {
    with_measure(metric, Measuring { view, query, nodes })
}

struct Measuring<'r, 'v, S> {
    view: &'r mut View<'v, S>,
    query: &'r [f32],
    nodes: &'r mut [Candidate],
}

impl<S: Source> WithMeasure for Measuring<'_, '_, S> {
    type Output = Result<()>;

    fn run<M: Measure>(self) -> Result<()> {
        Arch::new().dispatch(MeasuringBy {
            measuring: self,
            measure: PhantomData::<M>,
        })
    }
}

struct MeasuringBy<'r, 'v, S, M> {
    measuring: Measuring<'r, 'v, S>,
    measure: PhantomData<M>,
}

impl<S: Source, M: Measure> WithSimd for MeasuringBy<'_, '_, S, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) -> Result<()> {
        let Measuring { view, query, nodes } = self.measuring;
        let query = Query::<M>::new(simd, query);
        for candidate in nodes {
            let node = candidate.node();
            *candidate = Candidate::new(query.key(simd, view.vector(node)?), node);
        }
        Ok(())
    }
}

/// Inserts `found` if it is among the `most` nearest.
#[inline(always)]
fn keep(nearest: &mut Vec<Candidate>, found: Candidate, most: usize) -> Result<()> {
    if nearest.len() >= most {
        // Ties are decided by node, so the result does not depend on the order of blocks.
        if nearest.last().is_some_and(|worst| found >= *worst) {
            return Ok(());
        }
        nearest.pop();
    }
    memory::reserve(nearest, 1, "hold the nearest nodes of each query")?;
    let position = nearest.partition_point(|candidate| *candidate < found);
    nearest.insert(position, found);
    Ok(())
}

/// A block of four queries; a short block repeats its last query.
#[derive(Clone, Copy)]
struct Group<'g>([&'g [f32]; QUERIES_AT_ONCE]);

impl<'g> Group<'g> {
    #[inline(always)]
    fn new(queries: &'g [f32], dimension: usize) -> Self {
        let mut rows = queries.chunks_exact(dimension);
        let mut last: &[f32] = &[];
        Self(std::array::from_fn(|_| {
            last = rows.next().unwrap_or(last);
            last
        }))
    }
}

/// Two vectors and the number of distinct ones; a single vector is repeated.
#[derive(Clone, Copy)]
struct Pair<'p>([&'p [f32]; VECTORS_AT_ONCE], u32);

impl<'p> Pair<'p> {
    #[inline(always)]
    fn new(vectors: &'p [f32], dimension: usize) -> Self {
        match vectors.split_at_checked(dimension) {
            Some((first, second)) if second.len() == dimension => Self([first, second], 2),
            _ => Self([vectors, vectors], 1),
        }
    }
}

/// One sum per query and vector.
type Sums<T> = [[T; VECTORS_AT_ONCE]; QUERIES_AT_ONCE];

/// Sums over each query with each vector, all of one dimension.
///
/// Contains no closure, because one would be compiled without the instructions of `simd`.
#[inline(always)]
fn sums_of<S: Simd, T: Term>(
    simd: S,
    queries: [&[f32]; QUERIES_AT_ONCE],
    vectors: [&[f32]; VECTORS_AT_ONCE],
) -> Sums<f32> {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS_AT_ONCE]; QUERIES_AT_ONCE];
    let [a, b, c, d] = queries.map(S::as_simd_f32s);
    let [x, y] = vectors.map(S::as_simd_f32s);
    let queries = a.0.iter().zip(b.0).zip(c.0.iter().zip(d.0));
    let vectors = x.0.iter().zip(y.0);
    for (((a, b), (c, d)), (x, y)) in queries.zip(vectors) {
        add::<S, T>(simd, &mut sums, [*a, *b, *c, *d], [*x, *y]);
    }
    // The components after the last full register; missing lanes are zero.
    if !x.1.is_empty() {
        let [a, b, c, d] = [a.1, b.1, c.1, d.1];
        let queries = [
            simd.partial_load_f32s(a),
            simd.partial_load_f32s(b),
            simd.partial_load_f32s(c),
            simd.partial_load_f32s(d),
        ];
        let vectors = [simd.partial_load_f32s(x.1), simd.partial_load_f32s(y.1)];
        add::<S, T>(simd, &mut sums, queries, vectors);
    }
    let mut totals = [[0.0; VECTORS_AT_ONCE]; QUERIES_AT_ONCE];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = simd.reduce_sum_f32s(sum);
        }
    }
    totals
}

#[inline(always)]
fn add<S: Simd, T: Term>(
    simd: S,
    sums: &mut Sums<S::f32s>,
    queries: [S::f32s; QUERIES_AT_ONCE],
    vectors: [S::f32s; VECTORS_AT_ONCE],
) {
    for (sums, query) in sums.iter_mut().zip(queries) {
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = T::add(simd, *sum, query, vector);
        }
    }
}
