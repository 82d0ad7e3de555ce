//! Data sets that disconnect careless graphs: sorted rows, and equal rows.

use super::{structured, Random};
use crate::test_extent::extent;

/// Components of each vector.
pub(super) const DIMENSION: usize = 12;

const ROWS: usize = 1000;

/// The orders in which the rows of a set are inserted.
pub(super) const ORDERS: [&str; 3] = ["in order", "reversed", "shuffled"];

/// Vectors, and queries near them.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) rows: Vec<[f32; DIMENSION]>,
    pub(super) queries: Vec<[f32; DIMENSION]>,
}

impl Set {
    /// Returns the components of the rows in one of [`ORDERS`].
    pub(super) fn arranged(&self, order: &str) -> Vec<f32> {
        let mut rows = self.rows.clone();
        match order {
            "reversed" => rows.reverse(),
            "shuffled" => shuffle(&mut rows, 7),
            _ => {}
        }
        rows.concat()
    }
}

fn shuffle<T>(values: &mut [T], seed: u64) {
    let mut random = Random(seed);
    for last in (1..values.len()).rev() {
        values.swap(last, (random.next() % (last as u64 + 1)) as usize);
    }
}

fn smooth(count: usize, seed: u64) -> Vec<[f32; DIMENSION]> {
    structured(count, DIMENSION, seed).as_chunks().0.to_vec()
}

/// Returns `each` copies of every vector, with `noise` added to each component.
fn near(rows: &[[f32; DIMENSION]], each: usize, noise: f32, seed: u64) -> Vec<[f32; DIMENSION]> {
    let mut random = Random(seed);
    let repeated = rows.iter().flat_map(|row| std::iter::repeat_n(*row, each));
    repeated
        .map(|row| row.map(|element| element + noise * random.unit()))
        .collect()
}

/// Returns queries near some of the rows.
fn queries_near(rows: &[[f32; DIMENSION]], noise: f32) -> Vec<[f32; DIMENSION]> {
    let some: Vec<_> = rows.iter().copied().step_by(rows.len() / 30).collect();
    near(&some, 1, noise, 5)
}

/// Returns tight clusters of more rows than a list has slots, so that no near neighbour leads out.
pub(super) fn clusters() -> Set {
    let mut random = Random(3);
    let centres: Vec<[f32; DIMENSION]> = (0..extent(120, 400))
        .map(|_| std::array::from_fn(|_| random.unit()))
        .collect();
    let rows = near(&centres, 50, 0.005, 4);
    let some: Vec<_> = rows.iter().copied().step_by(20).collect();
    let queries = near(&some, 1, 0.005, 5);
    Set {
        name: "clusters",
        rows,
        queries,
    }
}

/// Returns sets whose rows are sorted, so that near rows are inserted one after the other.
pub(super) fn ordered() -> Vec<Set> {
    let mut random = Random(3);
    let direction: [f32; DIMENSION] = std::array::from_fn(|_| random.unit());
    let line: Vec<_> = (0..ROWS)
        .map(|row| direction.map(|element| element * row as f32 / 10.0))
        .collect();
    let mut position = [0.0; DIMENSION];
    let walk: Vec<_> = (0..ROWS)
        .map(|_| {
            position = position.map(|element| element + random.unit());
            position
        })
        .collect();
    let centres: Vec<_> = (0..40).map(|_| direction.map(|_| random.unit())).collect();
    let documents = near(&centres, ROWS / 40, 0.2, 8);
    let tight = near(&centres, ROWS / 40, 0.005, 8);
    let sines: Vec<[f32; DIMENSION]> = (0..ROWS)
        .map(|row| std::array::from_fn(|at| (row as f32 * 0.01 * (1.0 + at as f32 / 10.0)).sin()))
        .collect();
    let mut by_element = smooth(ROWS, 1);
    by_element.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let norm = |row: &[f32; DIMENSION]| row.iter().map(|element| element * element).sum::<f32>();
    let mut by_norm = smooth(ROWS, 1);
    by_norm.sort_by(|a, b| norm(a).total_cmp(&norm(b)));
    let halves: Vec<_> = (0..ROWS)
        .zip(smooth(ROWS, 1))
        .map(|(row, vector)| {
            vector.map(|element| {
                if row < ROWS / 2 {
                    element
                } else {
                    element + 90.0
                }
            })
        })
        .collect();
    [
        ("points along a line", line, 0.01),
        ("a random walk", walk, 0.3),
        ("chunks of documents", documents, 0.1),
        ("tight clusters", tight, 0.005),
        ("sines", sines, 0.02),
        ("sorted by the first component", by_element, 0.1),
        ("sorted by norm", by_norm, 0.1),
        ("two halves far apart", halves, 0.1),
    ]
    .into_iter()
    .map(|(name, rows, noise)| Set {
        name,
        queries: queries_near(&rows, noise),
        rows,
    })
    .collect()
}

/// Returns sets with equal rows.
pub(super) fn equal() -> Vec<Set> {
    let replaced = |part: usize, with: Option<[f32; DIMENSION]>| {
        let mut rows = smooth(ROWS, 1);
        let with = with.unwrap_or(rows[0]);
        rows[..ROWS / part].fill(with);
        shuffle(&mut rows, 2);
        rows
    };
    let mut every_seventh = smooth(ROWS, 1);
    let first = every_seventh[0];
    for row in every_seventh.iter_mut().step_by(7) {
        *row = first;
    }
    let twice = [smooth(ROWS / 2, 1), smooth(ROWS / 2, 1)].concat();
    let few: Vec<_> = smooth(20, 1).into_iter().cycle().take(ROWS).collect();
    let sets = [
        ("a tenth of zeros", replaced(10, Some([0.0; DIMENSION]))),
        ("a quarter of copies", replaced(4, None)),
        ("a third of copies", replaced(3, None)),
        ("every seventh equal", every_seventh),
        ("every vector twice", twice),
        ("twenty vectors fifty times", few),
        ("all equal", vec![first; ROWS]),
    ];
    let mut queries = smooth(25, 2);
    // Also near the duplicates.
    queries.extend(near(&[first], 5, 0.05, 4));
    sets.into_iter()
        .map(|(name, rows)| Set {
            name,
            rows,
            queries: queries.clone(),
        })
        .collect()
}
