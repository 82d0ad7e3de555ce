//! Reservoirs: the nearest candidates of every node, in one flat array.
//!
//! A node's candidates come from many groups, on many threads. A reservoir keeps the lowest key of each
//! candidate, and the lowest candidates. So its content does not depend on the order of offers.
//!
//! ```text
//! bit 39                              0
//! ├── key, upper bits ──┬──── node ────┤    a million nodes: 20 bits of key, 20 of node
//! ```
//!
//! A candidate takes 5 bytes: ⌈log2(nodes)⌉ bits of its node, and the upper bits of its key. That is
//! precise enough to decide which candidates to keep. The final choice computes the keys again.

use std::sync::{Mutex, MutexGuard};

use super::super::candidate::Candidate;
use crate::base::memory;
use crate::base::threads::lock;
use crate::error::Result;

/// Number of nodes guarded by one lock. Small enough that threads seldom contend, large enough that
/// the locks take little memory.
const STRIPE: usize = 64;

/// A candidate in 40 bits, little-endian, ordered by key, then by node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place([u8; 5]);

impl Place {
    /// Sorts last.
    const EMPTY: Self = Self([u8::MAX; 5]);

    #[inline(always)]
    fn new(bits: u64) -> Self {
        let [a, b, c, d, e, ..] = bits.to_le_bytes();
        Self([a, b, c, d, e])
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

/// Division of 40 bits between key and node.
#[derive(Clone, Copy, Debug)]
struct Packing {
    /// Bits of a node: at least 8, so that a key has at most 32.
    node_bits: u32,
}

impl Packing {
    /// For nodes below `nodes`. No packed node has all bits set, unlike [`Place::EMPTY`].
    fn new(nodes: u32) -> Self {
        Self {
            node_bits: (u32::BITS.wrapping_sub(nodes.leading_zeros())).max(8),
        }
    }

    /// Dropped low bits of a key.
    #[inline(always)]
    fn dropped(self) -> u32 {
        self.node_bits.wrapping_sub(8)
    }

    #[inline(always)]
    fn pack(self, candidate: Candidate) -> Place {
        // Only the upper bits of the key are kept; see the module's documentation.
        let key = u64::from(candidate.order() >> self.dropped());
        Place::new(key << self.node_bits | u64::from(candidate.node()))
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a node has 32 bits at most"
    )]
    fn node(self, place: Place) -> u32 {
        (place.bits() & !(u64::MAX << self.node_bits)) as u32
    }

    /// The candidate's key, rounded up to the largest key with the same upper bits.
    #[inline(always)]
    fn bound(self, place: Place) -> f32 {
        if place == Place::EMPTY {
            return f32::INFINITY;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a key has 32 bits at most")]
        let key = (place.bits() >> self.node_bits) as u32;
        let dropped = !(u32::MAX << self.dropped());
        Candidate::with_order(key << self.dropped() | dropped, 0).key()
    }

    /// Inserts a candidate into sorted `places`, which keep the lowest candidates and each node once.
    fn insert(self, places: &mut [Place], candidate: Place) {
        let bits = candidate.bits();
        if places.last().is_none_or(|worst| bits >= worst.bits()) {
            return;
        }
        let at = places.partition_point(|place| place.bits() < bits);
        let Some((nearer, others)) = places.split_at_mut_checked(at) else {
            return;
        };
        let is_same = |place: &Place| self.node(*place) == self.node(candidate);
        // The node is present with a lower key.
        if nearer.iter().any(is_same) {
            return;
        }
        // A worse entry of the same node is replaced; otherwise the worst entry is dropped.
        let same = others.iter().position(is_same);
        let last = same.unwrap_or(others.len().wrapping_sub(1));
        if let Some(moved) = others.get_mut(..=last) {
            moved.copy_within(..moved.len().wrapping_sub(1), 1);
        }
        if let Some(place) = others.first_mut() {
            *place = candidate;
        }
    }
}

/// The candidates of a node, nearest first up to the dropped bits of their keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'h> {
    places: &'h [Place],
    packing: Packing,
}

impl<'h> Held<'h> {
    #[inline(always)]
    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'h> {
        self.places
            .iter()
            .map(move |place| self.packing.node(*place))
    }
}

/// The places of all nodes. [`STRIPE`] consecutive nodes share a lock.
pub(super) struct Reservoirs<'r> {
    stripes: Vec<Mutex<&'r mut [Place]>>,
    room: usize,
    packing: Packing,
}

/// Allocates `room` places for each of `nodes` nodes.
pub(super) fn allocate(nodes: u32, room: usize) -> Result<Vec<Place>> {
    let count = (nodes as usize).saturating_mul(room);
    memory::filled(count, Place::EMPTY, "hold the candidates of each node")
}

impl<'r> Reservoirs<'r> {
    /// `places` come from [`allocate`] with the same `room`, which is not 0. Candidates are below
    /// `nodes`.
    pub(super) fn new(places: &'r mut [Place], nodes: u32, room: usize) -> Result<Self> {
        let stripes = places.chunks_mut(STRIPE.saturating_mul(room.max(1)));
        let action = "hold the candidates of each node";
        let mut locked = memory::with_capacity(stripes.len(), action)?;
        locked.extend(stripes.map(Mutex::new));
        Ok(Self {
            stripes: locked,
            room,
            packing: Packing::new(nodes),
        })
    }

    /// Offers a node candidates.
    pub(super) fn offer(&self, node: u32, candidates: &[Candidate]) {
        let node = node as usize;
        let Some(stripe) = self.stripes.get(node / STRIPE) else {
            return;
        };
        let mut stripe = lock(stripe);
        let mut places = stripe.chunks_exact_mut(self.room.max(1));
        if let Some(places) = places.nth(node % STRIPE) {
            for candidate in candidates {
                self.packing.insert(places, self.packing.pack(*candidate));
            }
        }
    }

    /// The key above which a node keeps no candidate. Other threads only lower it.
    pub(super) fn bound(&self, node: u32) -> f32 {
        let node = node as usize;
        let stripe = self.stripes.get(node / STRIPE).map(lock);
        let places = stripe.as_ref().and_then(|stripe| {
            let end = (node % STRIPE).wrapping_add(1).wrapping_mul(self.room);
            stripe.get(end.wrapping_sub(1))
        });
        places.map_or(f32::INFINITY, |last| self.packing.bound(*last))
    }

    /// The candidates of a node.
    pub(super) fn candidates(&self, node: u32) -> Result<Vec<u32>> {
        let mut candidates = memory::with_capacity(self.room, "hold the candidates of a node")?;
        let node = node as usize;
        let stripe = self.lock(node / STRIPE);
        if let Some((_, held)) = stripe
            .as_ref()
            .and_then(|stripe| stripe.iter().nth(node % STRIPE))
        {
            candidates.extend(held.iter());
        }
        Ok(candidates)
    }

    /// Numbers of the stripes.
    pub(super) fn stripes(&self) -> std::ops::Range<usize> {
        0..self.stripes.len()
    }

    /// Locks a stripe. A thread must release it before it locks another one.
    pub(super) fn lock(&self, stripe: usize) -> Option<Stripe<'_, 'r>> {
        Some(Stripe {
            places: lock(self.stripes.get(stripe)?),
            first: stripe.wrapping_mul(STRIPE),
            room: self.room,
            packing: self.packing,
        })
    }

    /// The nodes of a stripe.
    pub(super) fn nodes(&self, stripe: usize) -> std::ops::Range<u32> {
        let stripe = self.lock(stripe);
        let count = stripe.as_ref().map_or(0, |stripe| stripe.places.len());
        let first = stripe.map_or(0, |stripe| stripe.first);
        let node = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        node(first)..node(first.wrapping_add(count / self.room.max(1)))
    }
}

/// The locked candidates of consecutive nodes.
pub(super) struct Stripe<'s, 'r> {
    places: MutexGuard<'s, &'r mut [Place]>,
    first: usize,
    room: usize,
    packing: Packing,
}

impl Stripe<'_, '_> {
    /// Each node and its candidates.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Held<'_>)> {
        let packing = self.packing;
        let places = self.places.chunks_exact(self.room.max(1));
        (self.first..).zip(places).map(move |(node, places)| {
            // Empty places sort last.
            let count = places.partition_point(|place| *place != Place::EMPTY);
            let node = u32::try_from(node).unwrap_or(u32::MAX);
            let held = Held {
                places: places.get(..count).unwrap_or_default(),
                packing,
            };
            (node, held)
        })
    }

    /// Removes all candidates.
    pub(super) fn clear(&mut self) {
        self.places.fill(Place::EMPTY);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of nodes that leave 32, 19 and 9 bits to a key.
    const NODES: [u32; 3] = [20, 1 << 20, (1 << 31) - 1];

    proptest! {
        #[test]
        fn the_order_of_offers_does_not_matter(
            offers in prop::collection::vec((0..20_u32, 0..6_u8), 1..60),
            room in 1..12_usize,
            nodes in prop::sample::select(NODES.to_vec()),
            turned in any::<prop::sample::Index>(),
        ) {
            let last = nodes - 1;
            let candidates: Vec<Candidate> = offers
                .iter()
                .map(|(node, key)| Candidate::new(f32::from(*key), last - node))
                .collect();
            let kept = |candidates: &[Candidate]| {
                let mut places = allocate(1, room).unwrap();
                let reservoirs = Reservoirs::new(&mut places, nodes, room).unwrap();
                for part in candidates.chunks(7) {
                    reservoirs.offer(0, part);
                }
                let bound = reservoirs.bound(0);
                let kept = reservoirs.candidates(0).unwrap();
                let mut stripe = reservoirs.lock(0).unwrap();
                assert!(stripe.iter().map(|(node, held)| (node, held.iter().len())).eq([(0, kept.len())]));
                stripe.clear();
                assert!(stripe.iter().all(|(_, held)| held.iter().len() == 0));
                // A node may be kept for the sake of its other, lower key.
                for node in &kept {
                    let keys = candidates.iter().filter(|candidate| candidate.node() == *node);
                    assert!(keys.map(|candidate| candidate.key()).any(|key| key <= bound));
                }
                kept
            };
            let packing = Packing::new(nodes);
            let mut sorted = candidates.clone();
            sorted.sort_by_key(|candidate| (candidate.order() >> packing.dropped(), candidate.node()));
            let mut seen = std::collections::HashSet::new();
            sorted.retain(|candidate| seen.insert(candidate.node()));
            sorted.truncate(room);
            let sorted: Vec<u32> = sorted.iter().map(|candidate| candidate.node()).collect();
            prop_assert_eq!(&kept(&candidates), &sorted);
            let mut others = candidates.clone();
            others.rotate_left(turned.index(candidates.len()));
            prop_assert_eq!(&kept(&others), &sorted);
            others.reverse();
            prop_assert_eq!(kept(&others), sorted);
        }
    }
}
