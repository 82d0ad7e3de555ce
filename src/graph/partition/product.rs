//! Keys of all pairs of two sets of vectors, as a product of matrices.
//!
//! [`WIDTH`] vectors are interleaved in a *panel*, so that one step reads one component of each:
//!
//! ```text
//! panel 0: a₀ b₀ c₀ …  a₁ b₁ c₁ …  a₂ b₂ c₂ …      48 vectors, component by component
//! panel 1: …
//! ```
//!
//! The product of two panels is computed in registers: a few vectors of the first with all lanes of the
//! second, so that each loaded component takes part in many sums. If a set is compared with itself, half
//! of the products are transposes of the other half.
//!
//! The kernel sums any [`Term`]: products for most metrics, absolute differences for Manhattan.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::distance::{to_unit, Space, Term};
use crate::base::memory;
use crate::error::Result;

/// Number of vectors in a panel: a multiple of [`VECTORS`] times the lanes of every instruction set
/// (4 to 16).
pub(super) const WIDTH: usize = 48;

/// Number of registers of the second panel that are multiplied at a time.
const VECTORS: usize = 3;

/// Width of the square tiles that are transposed in registers.
const TILE: usize = 8;

/// Maximum squared norm. Longer vectors are compared one by one, because their products can
/// overflow.
const MAX_SQUARED_NORM: f32 = f32::MAX / 8.0;

/// One component of each vector of a panel, or the keys of one vector to all of them. The alignment
/// keeps each register load within one cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line([f32; WIDTH]);

impl Line {
    const ZERO: Self = Self([0.0; WIDTH]);
}

#[inline(always)]
fn elements(lines: &[Line]) -> &[f32] {
    <[f32]>::ref_from_bytes(lines.as_bytes()).unwrap_or_default()
}

#[inline(always)]
fn elements_mut(lines: &mut [Line]) -> &mut [f32] {
    <[f32]>::mut_from_bytes(lines.as_mut_bytes()).unwrap_or_default()
}

/// A key as a function of a sum: `constant + factor · sum`, plus ‖a‖² + ‖b‖² if `squares`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) squares: bool,
    pub(super) constant: f32,
    pub(super) factor: f32,
    /// Lower bound of keys.
    pub(super) floor: f32,
}

/// Vectors in panels.
#[derive(Debug, Default)]
pub(super) struct Rows {
    lines: Vec<Line>,
    /// Squared norms of the packed vectors.
    squares: Vec<Line>,
    count: usize,
    depth: usize,
}

impl Rows {
    /// Packs the vectors of `nodes`, scaled as the metric asks, minus the vector of `centre` if given.
    #[inline(always)]
    pub(super) fn gather<M: super::Measure>(
        &mut self,
        space: &Space<'_, M>,
        nodes: &[u32],
        centre: Option<u32>,
    ) -> Result<()> {
        let action = "compare vectors";
        self.count = nodes.len();
        self.depth = space.vectors().dimension();
        // The last panel is padded with zeros.
        let panels = nodes.len().div_ceil(WIDTH);
        self.lines.clear();
        self.squares.clear();
        memory::reserve(&mut self.lines, panels.saturating_mul(self.depth), action)?;
        memory::reserve(&mut self.squares, panels, action)?;
        self.lines
            .resize(panels.saturating_mul(self.depth), Line::ZERO);
        self.squares.resize(panels, Line::ZERO);
        let centre = centre.map(|node| space.vectors().get(node));
        let panels = self.lines.chunks_exact_mut(self.depth.max(1));
        for ((nodes, panel), squares) in nodes.chunks(WIDTH).zip(panels).zip(&mut self.squares) {
            // Columns of an incomplete panel keep a scale of 0.
            let mut vectors: [&[f32]; WIDTH] = [&[]; WIDTH];
            let mut scales = [0.0; WIDTH];
            for ((node, vector), scale) in nodes.iter().zip(&mut vectors).zip(&mut scales) {
                let origin = space.origin(*node);
                *vector = origin.vector();
                *scale = origin.inverse_length();
            }
            transpose(&vectors, panel);
            for (at, Line(line)) in panel.iter_mut().enumerate() {
                let moved = centre.and_then(|centre| centre.get(at)).copied();
                let moved = moved.unwrap_or_default();
                for ((element, scale), square) in line.iter_mut().zip(&scales).zip(&mut squares.0) {
                    *element = *element * scale - moved;
                    *square += *element * *element;
                }
            }
            for (place, (vector, scale)) in vectors.iter().zip(&scales).enumerate() {
                if scale.is_nan() {
                    scale_extreme(vector, place, panel, squares);
                }
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns true if the product of any two of the vectors is finite.
    #[inline(always)]
    pub(super) fn can_multiply(&self) -> bool {
        let mut squares = elements(&self.squares).iter();
        squares.all(|square| *square <= MAX_SQUARED_NORM)
    }

    /// The squared norm of a packed vector.
    #[inline(always)]
    pub(super) fn square(&self, row: usize) -> f32 {
        let square = elements(&self.squares).get(row);
        square.copied().unwrap_or_default()
    }

    fn panels(&self) -> impl Iterator<Item = (&[Line], &Line)> {
        let panels = self.lines.chunks_exact(self.depth.max(1));
        panels.zip(&self.squares)
    }
}

/// Repacks a vector whose norm has no inverse in f32.
#[cold]
#[inline(never)]
fn scale_extreme(vector: &[f32], place: usize, panel: &mut [Line], Line(squares): &mut Line) {
    let unit = to_unit(vector);
    let mut square = 0.0;
    for (element, Line(line)) in vector.iter().zip(panel) {
        if let Some(slot) = line.get_mut(place) {
            *slot = unit(*element);
            square += *slot * *slot;
        }
    }
    if let Some(slot) = squares.get_mut(place) {
        *slot = square;
    }
}

/// [Packs](Rows::gather) vectors. A separate type for dispatch, because the code is too large to
/// inline.
pub(super) struct Gather<'g, 'v, M> {
    pub(super) rows: &'g mut Rows,
    pub(super) space: &'g Space<'v, M>,
    pub(super) nodes: &'g [u32],
    pub(super) centre: Option<u32>,
}

impl<M: super::Measure> WithSimd for Gather<'_, '_, M> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        self.rows.gather(self.space, self.nodes, self.centre)
    }
}

/// Packs vectors into a panel. An empty vector leaves its column unchanged.
///
/// This function and its callees use no closures: a closure that is not inlined would be compiled
/// without the processor's vector instructions.
#[inline(always)]
fn transpose(vectors: &[&[f32]; WIDTH], panel: &mut [Line]) {
    for (block, eight) in vectors.as_chunks::<TILE>().0.iter().enumerate() {
        let mut wholes: [&[[f32; TILE]]; TILE] = [&[]; TILE];
        let mut rests: [&[f32]; TILE] = [&[]; TILE];
        for ((vector, whole), rest) in eight.iter().zip(&mut wholes).zip(&mut rests) {
            (*whole, *rest) = vector.as_chunks::<TILE>();
        }
        let (whole, rest) = panel.as_chunks_mut::<TILE>();
        for (number, lines) in whole.iter_mut().enumerate() {
            for (line, column) in lines.iter_mut().zip(transposed(&wholes, number)) {
                if let Some(slots) = line.0.as_chunks_mut::<TILE>().0.get_mut(block) {
                    *slots = column;
                }
            }
        }
        for (at, line) in rest.iter_mut().enumerate() {
            if let Some(slots) = line.0.as_chunks_mut::<TILE>().0.get_mut(block) {
                for (slot, rest) in slots.iter_mut().zip(rests) {
                    *slot = rest.get(at).copied().unwrap_or_default();
                }
            }
        }
    }
}

/// Transposes tile `number` of eight rows.
#[inline(always)]
fn transposed(rows: &[&[[f32; TILE]]; TILE], number: usize) -> [[f32; TILE]; TILE] {
    let mut tile = [[0.0; TILE]; TILE];
    for (slots, row) in tile.iter_mut().zip(rows) {
        if let Some(elements) = row.get(number) {
            *slots = *elements;
        }
    }
    let mut columns = [[0.0; TILE]; TILE];
    for (at, column) in columns.iter_mut().enumerate() {
        for (slot, row) in column.iter_mut().zip(&tile) {
            *slot = row.get(at).copied().unwrap_or_default();
        }
    }
    columns
}

/// A matrix of keys, one row for each vector of the first set, padded with infinity.
#[derive(Debug, Default)]
pub(super) struct Keys {
    lines: Vec<Line>,
    /// Lines of a row.
    width: usize,
}

impl Keys {
    /// Compares all of `a` with all of `b`.
    #[inline(always)]
    pub(super) fn multiply<S: Simd, T: Term>(
        &mut self,
        simd: S,
        a: &Rows,
        b: &Rows,
        form: Form,
    ) -> Result<()> {
        self.resize(a.len(), b.len())?;
        for (row, (a, a_squares)) in a.panels().enumerate() {
            for (column, (b, b_squares)) in b.panels().enumerate() {
                let tile = product::<S, T>(simd, (a, a_squares), (b, b_squares), form);
                self.store(row, column, &tile);
            }
        }
        self.pad(b.len());
        Ok(())
    }

    /// Compares all of `rows` with each other. A vector's key to itself is infinity.
    #[inline(always)]
    pub(super) fn multiply_with_themselves<S: Simd, T: Term>(
        &mut self,
        simd: S,
        rows: &Rows,
        form: Form,
    ) -> Result<()> {
        self.resize(rows.len(), rows.len())?;
        for (column, (b, b_squares)) in rows.panels().enumerate() {
            // The diagonal and the upper triangle; the lower one is transposed from it.
            for (row, (a, a_squares)) in rows.panels().enumerate().take(column.wrapping_add(1)) {
                let tile = product::<S, T>(simd, (a, a_squares), (b, b_squares), form);
                self.store(row, column, &tile);
                if row != column {
                    self.store_transposed(column, row, &tile);
                }
            }
        }
        // Only the upper triangle was computed; the loop has stored the transposed tiles.
        self.pad_and_close(rows.len());
        Ok(())
    }

    /// Resizes for keys that [`set`](Self::set) will give, `count` vectors with each other.
    pub(super) fn begin(&mut self, count: usize) -> Result<()> {
        self.resize(count, count)?;
        self.pad_and_close(count);
        Ok(())
    }

    /// Sets a key. A vector's key to itself stays infinite.
    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, column: usize, key: f32) {
        if row != column {
            if let Some(slot) = self.row_mut(row).get_mut(column) {
                // Infinity is reserved for padding and struck out candidates.
                *slot = key.min(f32::MAX);
            }
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[f32] {
        let start = row.wrapping_mul(self.width);
        let lines = self.lines.get(start..start.wrapping_add(self.width));
        elements(lines.unwrap_or_default())
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let start = row.wrapping_mul(self.width);
        let lines = self.lines.get_mut(start..start.wrapping_add(self.width));
        elements_mut(lines.unwrap_or_default())
    }

    /// Resizes to complete panels.
    fn resize(&mut self, rows: usize, columns: usize) -> Result<()> {
        self.width = columns.div_ceil(WIDTH);
        let count = rows.next_multiple_of(WIDTH).saturating_mul(self.width);
        if let Some(more) = count.checked_sub(self.lines.len()) {
            memory::reserve(&mut self.lines, more, "compare vectors")?;
        }
        self.lines.resize(count, Line::ZERO);
        Ok(())
    }

    #[inline(always)]
    fn store(&mut self, row: usize, column: usize, tile: &[Line; WIDTH]) {
        let first = row.wrapping_mul(WIDTH).wrapping_mul(self.width);
        let lines = self.lines.iter_mut().skip(first.wrapping_add(column));
        for (line, keys) in lines.step_by(self.width.max(1)).zip(tile) {
            *line = *keys;
        }
    }

    #[inline(always)]
    fn store_transposed(&mut self, row: usize, column: usize, tile: &[Line; WIDTH]) {
        let first = row.wrapping_mul(WIDTH).wrapping_mul(self.width);
        let Some(lines) = self.lines.get_mut(first..) else {
            return;
        };
        for (block, rows) in tile.as_chunks::<TILE>().0.iter().enumerate() {
            let mut parts: [&[[f32; TILE]]; TILE] = [&[]; TILE];
            for (part, Line(row)) in parts.iter_mut().zip(rows) {
                *part = row.as_chunks::<TILE>().0;
            }
            let mut lines = lines.iter_mut().skip(column).step_by(self.width.max(1));
            for number in 0..WIDTH / TILE {
                for (keys, line) in transposed(&parts, number).into_iter().zip(&mut lines) {
                    if let Some(slots) = line.0.as_chunks_mut::<TILE>().0.get_mut(block) {
                        *slots = keys;
                    }
                }
            }
        }
    }

    fn pad(&mut self, columns: usize) {
        for row in self.lines.chunks_exact_mut(self.width.max(1)) {
            if let Some(padding) = elements_mut(row).get_mut(columns..) {
                padding.fill(f32::INFINITY);
            }
        }
    }

    fn pad_and_close(&mut self, count: usize) {
        self.pad(count);
        for row in 0..count {
            if let Some(itself) = self.row_mut(row).get_mut(row) {
                *itself = f32::INFINITY;
            }
        }
    }
}

/// Keys of all pairs of two panels: one line for each vector of the first.
///
/// Not inlined, so that it is compiled once for each instruction set and term. The code is large, and a
/// call costs little next to its work.
#[inline(never)]
fn product<S: Simd, T: Term>(
    simd: S,
    a: (&[Line], &Line),
    b: (&[Line], &Line),
    form: Form,
) -> [Line; WIDTH] {
    let mut tile = [Line::ZERO; WIDTH];
    simd.vectorize(ProductOf {
        a,
        b,
        form,
        tile: &mut tile,
        term: PhantomData::<T>,
    });
    tile
}

struct ProductOf<'p, T> {
    a: (&'p [Line], &'p Line),
    b: (&'p [Line], &'p Line),
    form: Form,
    tile: &'p mut [Line; WIDTH],
    term: PhantomData<T>,
}

impl<T: Term> WithSimd for ProductOf<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a, b, form, tile, ..
        } = self;
        // AVX-512 has 32 registers, AVX2 has 16: 8 or 4 rows × 3 sums fit beside the operands.
        if S::F32_LANES >= 16 {
            product_by::<S, T, 8>(simd, a, b, form, tile);
        } else {
            product_by::<S, T, 4>(simd, a, b, form, tile);
        }
    }
}

#[inline(always)]
fn product_by<S: Simd, T: Term, const ROWS: usize>(
    simd: S,
    (a, a_squares): (&[Line], &Line),
    (b, b_squares): (&[Line], &Line),
    form: Form,
    tile: &mut [Line; WIDTH],
) {
    // Register groups per panel row: 4 with 4 lanes, 2 with 8, 1 with 16.
    let parts = WIDTH / VECTORS / S::F32_LANES;
    let a = elements(a).as_chunks::<ROWS>().0;
    let b = pulp::as_arrays::<VECTORS, _>(S::as_simd_f32s(elements(b)).0).0;
    let a_squares = a_squares.0.as_chunks::<ROWS>().0;
    let b_squares = pulp::as_arrays::<VECTORS, _>(S::as_simd_f32s(&b_squares.0).0).0;
    let (factor, floor) = (simd.splat_f32s(form.factor), simd.splat_f32s(form.floor));
    let most = simd.splat_f32s(f32::MAX);
    let blocks = tile.as_chunks_mut::<ROWS>().0.iter_mut().zip(a_squares);
    for (block, (rows, a_squares)) in blocks.enumerate() {
        for (part, b_squares) in b_squares.iter().enumerate() {
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            // One step per component: the block's rows of each line of the panel.
            let a = a.iter().skip(block).step_by(WIDTH / ROWS);
            let b = b.iter().skip(part).step_by(parts);
            for (a, b) in a.zip(b) {
                for (sums, a) in sums.iter_mut().zip(a) {
                    let a = simd.splat_f32s(*a);
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = T::add(simd, *sum, a, *b);
                    }
                }
            }
            for ((row, sums), square) in rows.iter_mut().zip(sums).zip(a_squares) {
                let row = S::as_mut_simd_f32s(&mut row.0).0;
                let slots = pulp::as_arrays_mut::<VECTORS, _>(row).0.get_mut(part);
                let square = if form.squares { *square } else { 0.0 };
                // Everything of the key that depends on the row only.
                let constant = simd.splat_f32s(form.constant + square);
                for ((slot, sum), square) in slots.into_iter().flatten().zip(sums).zip(b_squares) {
                    let constant = if form.squares {
                        simd.add_f32s(constant, *square)
                    } else {
                        constant
                    };
                    let key = simd.mul_add_e_f32s(sum, factor, constant);
                    *slot = simd.min_f32s(simd.max_f32s(key, floor), most);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::super::super::distance::{with_space, Measure, Metric, Vectors, WithSpace};
    use super::super::super::random::mix;
    use super::super::group::{centre, multiply};
    use super::*;

    /// Keys of the first vectors to all vectors, by products and one by one.
    struct Both<'b, M> {
        space: &'b Space<'b, M>,
        firsts: usize,
    }

    impl<M: Measure> WithSimd for Both<'_, M> {
        type Output = Vec<(f32, f32)>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<(f32, f32)> {
            let Self { space, firsts } = self;
            let nodes: Vec<u32> = (0..space.len()).collect();
            let (mut rows, mut some) = (Rows::default(), Rows::default());
            let centre = centre::<M>(&nodes);
            rows.gather(space, &nodes, centre).unwrap();
            some.gather(space, &nodes[..firsts], centre).unwrap();
            let (mut square, mut oblong) = (Keys::default(), Keys::default());
            multiply::<S, M>(simd, &rows, None, &mut square).unwrap();
            multiply::<S, M>(simd, &some, Some(&rows), &mut oblong).unwrap();
            let mut pairs = Vec::new();
            for (row, node) in nodes.iter().enumerate() {
                let (own, others) = square.row(row).split_at(nodes.len());
                assert!(others.iter().all(|key| *key == f32::INFINITY));
                assert_eq!(own[row], f32::INFINITY);
                for (column, key) in own.iter().enumerate().filter(|(column, _)| *column != row) {
                    let expected = space.key(simd, &space.origin(*node), nodes[column]);
                    pairs.push((*key, expected));
                    if row < firsts {
                        pairs.push((oblong.row(row)[column], expected));
                    }
                }
            }
            pairs
        }
    }

    struct OnEveryProcessor;

    impl WithSpace for OnEveryProcessor {
        type Output = Vec<(f32, f32)>;

        fn run<M: Measure>(self, space: &Space<'_, M>) -> Vec<(f32, f32)> {
            let firsts = space.len() as usize / 3;
            let mut pairs = Both { space, firsts }.with_simd(pulp::Scalar);
            pairs.extend(Arch::new().dispatch(Both { space, firsts }));
            pairs
        }
    }

    #[test]
    fn products_give_the_keys_of_every_metric() {
        for (count, dimension) in [(3, 1), (47, 5), (48, 8), (49, 24), (150, 67)] {
            let elements = u64::try_from(count * dimension).unwrap();
            #[allow(clippy::cast_precision_loss)]
            let data: Vec<f32> = (0..elements)
                .map(|at| (mix(at) >> 40) as f32 / 8e6 - 1.0)
                .collect();
            for &metric in Metric::ALL {
                let vectors = Vectors::new(&data, dimension).unwrap();
                for (found, expected) in with_space(metric, vectors, OnEveryProcessor).unwrap() {
                    assert!(
                        (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                        "{metric}, {count} x {dimension}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
