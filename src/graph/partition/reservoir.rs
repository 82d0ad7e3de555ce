//! The nearest candidates of every node, in one flat array.
//!
//! A node's candidates come from many groups, on many threads. Of each candidate the lowest key
//! stays, and of all candidates the lowest: that does not depend on the order in which they come.
//!
//! A candidate takes 6 bytes, because its key is rounded to 17 bits: that is enough to tell which
//! ones to keep. Whoever chooses among them computes the keys again.

use std::sync::{Mutex, MutexGuard};

use super::super::candidate::Candidate;
use super::super::workers::lock;
use crate::error::Result;
use crate::memory;

/// Nodes whose candidates one lock guards: few enough that threads seldom meet, many enough that
/// the locks take no room.
const STRIPE: usize = 64;

/// A candidate in 48 bits that sort by key, then by node: the highest 17 of
/// [`Candidate::order`] and the node's 31. The lowest bits come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place([u16; 3]);

impl Place {
    /// Sorts behind all candidates.
    const EMPTY: Self = Self([u16::MAX; 3]);

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "16 bits each")]
    fn new(candidate: Candidate) -> Self {
        let bits = u64::from(candidate.order() >> 15) << 31 | u64::from(candidate.node());
        Self([bits as u16, (bits >> 16) as u16, (bits >> 32) as u16])
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        high << 32 | middle << 16 | low
    }

    /// The candidate's key, rounded up, since a place drops its last bits.
    #[inline(always)]
    fn bound(self) -> f32 {
        if self == Self::EMPTY {
            return f32::INFINITY;
        }
        #[expect(clippy::cast_possible_truncation, reason = "17 bits")]
        let order = (self.bits() >> 31) as u32;
        Candidate::with_order(order << 15 | 0x7fff, 0).key()
    }

    #[inline(always)]
    pub(super) fn node(self) -> u32 {
        let [low, middle, _] = self.0.map(u32::from);
        (middle << 16 | low) & Candidate::NODES_MAX
    }
}

/// The places of all nodes, each locked together with its neighbours'.
pub(super) struct Reservoirs<'r> {
    stripes: Vec<Mutex<&'r mut [Place]>>,
    room: usize,
}

/// Room for `room` candidates of each of `nodes`.
pub(super) fn allocate(nodes: u32, room: usize) -> Result<Vec<Place>> {
    let count = (nodes as usize).saturating_mul(room);
    memory::filled(count, Place::EMPTY, "hold the candidates of each node")
}

impl<'r> Reservoirs<'r> {
    /// `places` is what [`allocate`] has made for as much `room`, which is not 0.
    pub(super) fn new(places: &'r mut [Place], room: usize) -> Result<Self> {
        let stripes = places.chunks_mut(STRIPE.saturating_mul(room.max(1)));
        let action = "hold the candidates of each node";
        let mut locked = memory::with_capacity(stripes.len(), action)?;
        locked.extend(stripes.map(Mutex::new));
        Ok(Self {
            stripes: locked,
            room,
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
                insert(places, Place::new(*candidate));
            }
        }
    }

    /// A key above which no candidate of a node is kept. Other threads may only lower it.
    pub(super) fn bound(&self, node: u32) -> f32 {
        let node = node as usize;
        let stripe = self.stripes.get(node / STRIPE).map(lock);
        let places = stripe.as_ref().and_then(|stripe| {
            let end = (node % STRIPE).wrapping_add(1).wrapping_mul(self.room);
            stripe.get(end.wrapping_sub(1))
        });
        places.map_or(f32::INFINITY, |last| last.bound())
    }

    /// Numbers of the stripes.
    pub(super) fn stripes(&self) -> std::ops::Range<usize> {
        0..self.stripes.len()
    }

    /// Locks a stripe. The thread must not ask for another one until it lets go of it.
    pub(super) fn lock(&self, stripe: usize) -> Option<Stripe<'_, 'r>> {
        Some(Stripe {
            places: lock(self.stripes.get(stripe)?),
            first: stripe.wrapping_mul(STRIPE),
            room: self.room,
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

/// The candidates of some nodes that follow each other.
pub(super) struct Stripe<'s, 'r> {
    places: MutexGuard<'s, &'r mut [Place]>,
    first: usize,
    room: usize,
}

impl Stripe<'_, '_> {
    /// Each node and its candidates, roughly nearest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[Place])> {
        let places = self.places.chunks_exact(self.room.max(1));
        (self.first..).zip(places).map(|(node, places)| {
            let count = places.partition_point(|place| *place != Place::EMPTY);
            let node = u32::try_from(node).unwrap_or(u32::MAX);
            (node, places.get(..count).unwrap_or_default())
        })
    }

    /// Forgets all candidates.
    pub(super) fn clear(&mut self) {
        self.places.fill(Place::EMPTY);
    }
}

/// Keeps the lowest candidates, in order, and of each node one.
fn insert(places: &mut [Place], candidate: Place) {
    let bits = candidate.bits();
    if places.last().is_none_or(|worst| bits >= worst.bits()) {
        return;
    }
    let at = places.partition_point(|place| place.bits() < bits);
    let Some((nearer, others)) = places.split_at_mut_checked(at) else {
        return;
    };
    let node = candidate.node();
    if nearer.iter().any(|place| place.node() == node) {
        return;
    }
    let same = others.iter().position(|place| place.node() == node);
    let last = same.unwrap_or(others.len().wrapping_sub(1));
    if let Some(moved) = others.get_mut(..=last) {
        moved.copy_within(..moved.len().wrapping_sub(1), 1);
    }
    if let Some(place) = others.first_mut() {
        *place = candidate;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_of_offers_does_not_matter(
            offers in prop::collection::vec((0..20_u32, 0..6_u8), 1..60),
            room in 1..12_usize,
            turned in any::<prop::sample::Index>(),
        ) {
            let candidates: Vec<Candidate> = offers
                .iter()
                .map(|(node, key)| Candidate::new(f32::from(*key), *node))
                .collect();
            let kept = |candidates: &[Candidate]| {
                let mut places = allocate(1, room).unwrap();
                let reservoirs = Reservoirs::new(&mut places, room).unwrap();
                for part in candidates.chunks(7) {
                    reservoirs.offer(0, part);
                }
                let bound = reservoirs.bound(0);
                let mut stripe = reservoirs.lock(0).unwrap();
                let kept: Vec<_> = stripe
                    .iter()
                    .map(|(node, places)| {
                        let nodes: Vec<u32> = places.iter().map(|place| place.node()).collect();
                        (node, nodes)
                    })
                    .collect();
                stripe.clear();
                assert!(stripe.iter().all(|(_, candidates)| candidates.is_empty()));
                assert!(kept.len() == 1 && kept[0].0 == 0);
                let is_kept = |candidate: &&Candidate| kept[0].1.contains(&candidate.node());
                // A node may be kept for the sake of its other, lower key.
                let keys = candidates.iter().filter(is_kept).map(|kept| (kept.node(), kept.key()));
                let mut lowest = std::collections::HashMap::new();
                for (node, key) in keys {
                    let known: &mut f32 = lowest.entry(node).or_insert(key);
                    *known = known.min(key);
                }
                assert!(lowest.values().all(|key| *key <= bound));
                kept[0].1.clone()
            };
            let mut sorted = candidates.clone();
            sorted.sort_unstable();
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
