//! The true nearest nodes of many queries, by comparing each query with every vector that is not
//! damaged.
//!
//! Vectors come block by block, so that an index may be larger than memory. Four queries and two
//! vectors are compared at a time: each element that is loaded takes part in several sums, as in a
//! product of matrices, and unlike the product of `‖a‖² + ‖b‖² − 2ab` no digits are lost where
//! vectors are far from the origin and near to each other. It serves all metrics.
//!
//! A block's sums run over the elements in another order than a search's, so that the last bits
//! differ. More nodes than were asked for are kept, and compared once more as a search does.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::candidate::Candidate;
use super::distance::{inverse_length, with_measure, Measure, Metric, Query, Term, WithMeasure};
use super::file::read::View;
use crate::base::memory;
use crate::error::Result;
use crate::io::source::Source;

/// Nodes that are kept in addition to those that were asked for.
const SPARE: usize = 16;

/// Bytes of vectors that are compared with all queries before the next are: they stay in a cache.
const TILE: usize = 128 << 10;

const QUERIES_AT_ONCE: usize = 4;
const VECTORS_AT_ONCE: usize = 2;

/// The nearest nodes so far of each of some queries.
#[derive(Debug)]
pub(crate) struct Exact<'q> {
    queries: &'q [f32],
    dimension: usize,
    keep: usize,
    /// For each query, nearest first.
    nearest: Vec<Vec<Candidate>>,
}

impl<'q> Exact<'q> {
    /// Looks for the `count` nearest nodes of each query, and for some more.
    ///
    /// `dimension` is not 0, and `queries` holds whole ones.
    pub(crate) fn new(queries: &'q [f32], dimension: usize, count: usize) -> Result<Self> {
        let number = queries.len().checked_div(dimension).unwrap_or_default();
        Ok(Self {
            queries,
            dimension,
            keep: count.saturating_add(SPARE),
            nearest: memory::filled(number, Vec::new(), "hold the nearest nodes of each query")?,
        })
    }

    /// Compares all queries with some vectors, whose first is that of node `first`.
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

    /// The same, where the metric is known.
    pub(crate) fn compare_by<M: Measure>(&mut self, first: u32, vectors: &[f32]) -> Result<()> {
        Arch::new().dispatch(CompareBy {
            exact: self,
            first,
            vectors,
            measure: PhantomData::<M>,
        })
    }

    /// For each query, the nearest nodes, nearest first as blocks compare them.
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
        let rows = (TILE / dimension / size_of::<f32>()).max(VECTORS_AT_ONCE);
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
                    // Where a group has fewer queries, the others' lists are not there.
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
                            // A damaged vector is no answer.
                            if !key.is_nan() {
                                let found = Candidate::new(key, node.wrapping_add(row));
                                keep(nearest, found, exact.keep)?;
                            }
                        }
                    }
                    row = row.wrapping_add(vectors.1);
                }
            }
            let rows = u32::try_from(tile.len() / dimension).unwrap_or(u32::MAX);
            node = node.wrapping_add(rows);
        }
        Ok(())
    }
}

/// Sorts nodes by their distance from a query, to the bit as a search compares them.
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

/// Gives nodes their keys, to the bit as a search computes them; NaN where a vector is damaged.
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

/// Keeps the `most` nearest.
#[inline(always)]
fn keep(nearest: &mut Vec<Candidate>, found: Candidate, most: usize) -> Result<()> {
    if nearest.len() >= most {
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

/// Four queries, the last of them more than once where there are fewer.
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

/// Two vectors, and how many of them are different: one comes twice where there is only one.
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

/// The sums of each query with each vector.
type Sums<T> = [[T; VECTORS_AT_ONCE]; QUERIES_AT_ONCE];

/// The sum of each query with each vector, all of one length.
///
/// There is no closure in it: one would be compiled without the instructions of `simd`.
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
