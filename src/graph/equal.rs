//! Equal vectors under a metric.
//!
//! Empty chunks, boilerplate and retries put the same vector into a collection a thousand times. A
//! graph of all of them falls apart: each finds only its equals and fills its list with them, and no
//! link leads out. So the engines build the graph of the first vector of each set. The others, its
//! *copies*, are chained behind it afterwards ([`attach`](super::attach)).
//!
//! Fingerprints find copies, and a comparison confirms each. Under most metrics two vectors are equal if
//! their components are. Under cosine they are equal if their directions are, up to rounding. Vectors of
//! norm 0 are all equal under cosine: their distance from every vector is 1.

use pulp::{Arch, Simd, WithSimd};

use super::distance::{Measure, Space};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::error::Result;

/// Most distinct vectors of one fingerprint that are compared. More share one only by collision, or if
/// their directions differ by less than the fingerprint resolves.
const COMPARED: usize = 16;

/// Bits of a fingerprint, packed with the 31 bits of a node into a u64.
const FINGERPRINT_BITS: u32 = 33;

/// Sets of equal vectors.
#[derive(Debug, Default)]
pub(crate) struct Equals {
    /// Pairs (first node, copy), sorted.
    pairs: Vec<(u32, u32)>,
    /// Empty if there are no copies.
    copies: Bits,
}

impl Equals {
    /// Compares all vectors.
    pub(crate) fn find<M: Measure>(space: &Space<'_, M>) -> Result<Self> {
        let mut prints = memory::with_capacity(space.len() as usize, "find equal vectors")?;
        Arch::new().dispatch(Fingerprints {
            space,
            prints: &mut prints,
        });
        // Equal fingerprints become adjacent, and nodes ascend within each run.
        prints.sort_unstable();
        let mut pairs = Vec::new();
        let node_bits = 64 - FINGERPRINT_BITS;
        for run in prints.chunk_by(|a, b| a >> node_bits == b >> node_bits) {
            if run.len() == 1 {
                continue;
            }
            // The first node of each distinct vector in the run.
            let mut firsts = [0; COMPARED];
            let mut count = 0;
            for print in run {
                #[expect(clippy::cast_possible_truncation, reason = "the low 31 bits")]
                let node = (print & ((1 << node_bits) - 1)) as u32;
                let mut seen = firsts.iter().take(count);
                if let Some(first) = seen.find(|first| space.equal(**first, node)) {
                    memory::reserve(&mut pairs, 1, "find equal vectors")?;
                    pairs.push((*first, node));
                } else if let Some(slot) = firsts.get_mut(count) {
                    *slot = node;
                    count += 1;
                }
            }
        }
        drop(prints);
        pairs.sort_unstable();
        let mut copies = Bits::default();
        if !pairs.is_empty() {
            copies = Bits::with_len(u64::from(space.len()))?;
            for (_, copy) in &pairs {
                copies.insert(u64::from(*copy));
            }
        }
        Ok(Self { pairs, copies })
    }

    /// Returns true if an earlier node has an equal vector.
    #[inline(always)]
    pub(crate) fn is_copy(&self, node: u32) -> bool {
        self.copies.contains(u64::from(node))
    }

    /// Returns true if all vectors differ.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// For each vector with copies, its pairs (first node, copy).
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(u32, u32)]> {
        self.pairs.chunk_by(|a, b| a.0 == b.0)
    }
}

/// Computes fingerprints, each packed above the number of its node.
struct Fingerprints<'f, 'a, M> {
    space: &'f Space<'a, M>,
    prints: &'f mut Vec<u64>,
}

impl<M: Measure> WithSimd for Fingerprints<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for node in 0..self.space.len() {
            let print = self.space.fingerprint(node) >> FINGERPRINT_BITS.abs_diff(64);
            self.prints
                .push(print << (64 - FINGERPRINT_BITS) | u64::from(node));
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use super::super::distance::{with_space, Metric, Vectors, WithSpace};
    use super::super::random::mix;
    use super::*;

    struct Find;

    impl WithSpace for Find {
        type Output = Result<Equals>;

        fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<Equals> {
            Equals::find(space)
        }
    }

    fn groups(metric: Metric, data: &[f32], dimension: usize) -> Vec<Vec<u32>> {
        let vectors = Vectors::new(data, dimension).unwrap();
        let equals = with_space(metric, vectors, Find).unwrap().unwrap();
        let groups = equals.groups().map(|pairs| {
            let copies = pairs.iter().map(|(_, copy)| *copy);
            assert!(copies.clone().all(|copy| equals.is_copy(copy)));
            assert!(!equals.is_copy(pairs[0].0));
            std::iter::once(pairs[0].0).chain(copies).collect()
        });
        groups.collect()
    }

    /// Row `number` of vectors of 40 elements that all differ.
    fn row(number: u32) -> Vec<f32> {
        (0..40)
            .map(|column| (mix(u64::from(number * 64 + column)) >> 40) as f32 / 8e6 - 1.0)
            .collect()
    }

    #[test]
    fn equal_elements_are_found_under_every_metric() {
        let mut data: Vec<f32> = (0..50).flat_map(row).collect();
        for (to, from) in [(7, 3), (20, 3), (49, 3), (31, 30)] {
            data.copy_within(from * 40..from * 40 + 40, to * 40);
        }
        for &metric in Metric::ALL {
            let found = groups(metric, &data, 40);
            assert_eq!(found, [vec![3, 7, 20, 49], vec![30, 31]], "{metric}");
        }
    }

    #[test]
    fn zeros_of_both_signs_are_equal() {
        let data = [0.0, -0.0, 1.0, 0.0, 1.0, -0.0, -0.0, 0.0];
        for metric in [Metric::Euclidean, Metric::DotProduct, Metric::Manhattan] {
            assert_eq!(groups(metric, &data, 2), [vec![0, 3], vec![1, 2]]);
        }
    }

    #[test]
    fn equal_directions_are_equal_under_cosine_only() {
        let lengths = [1.0, 3.7, 1e-3, 12345.678, 1e15, 1e-15, 7.0, 1.0 / 3.0];
        let mut data = Vec::new();
        for number in 0..100 {
            for length in lengths {
                data.extend(row(number).iter().map(|element| element * length));
            }
        }
        let found = groups(Metric::Cosine, &data, 40);
        for group in &found {
            assert!(group.iter().all(|node| node / 8 == group[0] / 8));
        }
        // Rounding may put one direction on both sides of a border between two fingerprints.
        assert!((100..110).contains(&found.len()), "{}", found.len());
        assert!(found.concat().len() > 790, "{}", found.concat().len());
        assert!(groups(Metric::Euclidean, &data, 40).is_empty());
    }

    #[test]
    fn zeros_and_directions_are_equal_under_cosine() {
        let denormal = f32::from_bits(1);
        let mut data = vec![0.0, 0.0, 1.0, 2.0, denormal, -denormal, -0.0, 0.0, 2.0, 1.0];
        assert_eq!(groups(Metric::Cosine, &data, 2), [[0, 3]]);
        // A direction is the same at every norm.
        data.extend([3e38, -3e38]);
        assert_eq!(groups(Metric::Cosine, &data, 2), [[0, 3], [2, 5]]);
    }

    #[test]
    fn many_near_directions_are_compared_in_bounded_time() {
        let mut data = Vec::new();
        for number in 0..20_000u32 {
            data.extend([1.0, 1.0 + f32::EPSILON * (number % 64) as f32, 0.5]);
        }
        let found = groups(Metric::Cosine, &data, 3);
        assert!(!found.is_empty());
    }
}
