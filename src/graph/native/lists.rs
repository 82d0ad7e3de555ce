//! Writing of neighbour lists: a node's own choice, and reverse links.

use std::sync::atomic::Ordering::Relaxed;

use pulp::Simd;

use super::super::candidate::Candidate;
use super::super::distance::Measure;
use super::super::links::{ids, write_list};
use super::search::Searcher;
use crate::base::memory;
use crate::error::Result;

/// Buffers that one thread reuses from list to list.
#[derive(Debug)]
pub(crate) struct ListScratch {
    candidates: Vec<Candidate>,
    /// The choice of [`Searcher::write_own`].
    pub(crate) chosen: Vec<Candidate>,
    spare: Vec<u32>,
}

impl ListScratch {
    pub(crate) fn new(m0: usize) -> Result<Self> {
        let action = "choose neighbours";
        Ok(Self {
            candidates: memory::with_capacity(m0.saturating_mul(2), action)?,
            chosen: memory::with_capacity(m0, action)?,
            spare: memory::with_capacity(m0, action)?,
        })
    }
}

impl<S: Simd, M: Measure> Searcher<'_, '_, S, M> {
    /// Chooses at most `most` of a node's candidates on a level, which are sorted nearest first, and
    /// writes its list. Free slots are filled with the nearest of the rejected candidates.
    #[inline(always)]
    pub(crate) fn write_own(
        &self,
        scratch: &mut ListScratch,
        node: u32,
        layer: u8,
        candidates: &[Candidate],
        most: usize,
    ) {
        let links = self.links;
        let ListScratch { chosen, spare, .. } = scratch;
        let list = links.list(node, layer);
        self.choose::<false>(candidates, most, chosen);
        write_list(list, candidates, chosen, spare);
        if layer == 0 {
            links.set_diverse(node, chosen.len());
        }
    }

    /// Adds links to nodes that chose `target`. None of them is in its list yet.
    #[inline(always)]
    pub(crate) fn add_back(
        &self,
        scratch: &mut ListScratch,
        target: u32,
        layer: u8,
        added: impl ExactSizeIterator<Item = Candidate>,
    ) {
        let Self {
            simd, space, links, ..
        } = *self;
        let ListScratch {
            candidates,
            chosen,
            spare,
        } = scratch;
        let list = links.list(target, layer);
        let held = ids(list).count();
        // With enough free slots no choice is needed, and spare links are overwritten.
        if held.wrapping_add(added.len()) <= list.len() {
            let slots = list.iter().skip(held);
            for (slot, link) in slots.zip(added) {
                slot.store(link.node(), Relaxed);
            }
            return;
        }
        for id in ids(list) {
            space.prefetch(id);
        }
        let diverse = if layer == 0 { links.diverse(target) } else { 0 };
        let origin = space.origin(target);
        candidates.clear();
        for (number, id) in ids(list).enumerate() {
            let candidate = Candidate::new(space.key(simd, &origin, id), id);
            // The marked prefix was chosen together, so its members do not exclude each other.
            candidates.push(if number < diverse {
                candidate.marked()
            } else {
                candidate
            });
        }
        candidates.extend(added);
        candidates.sort_unstable();
        self.choose::<true>(candidates, list.len(), chosen);
        write_list(list, candidates, chosen, spare);
        if layer == 0 {
            links.set_diverse(target, chosen.len());
        }
    }
}
