//! The neighbour lists of a graph, in flat arrays.
//!
//! Level 0 is one array with m0 slots a node. The upper levels are another array with m slots for each
//! level of each node.
//!
//! # Spare links
//!
//! The heuristic that chooses neighbours leaves most lists half empty. Free slots hold the nearest
//! rejected candidates, marked as *spare*:
//!
//! ```text
//! chosen, ascending distance | spare, descending distance | NONE …
//! ```
//!
//! Construction neither follows nor counts spare links, and a new link takes the slot of the first one,
//! so they cost almost nothing. A search of the finished graph follows all links.

use std::sync::atomic::{AtomicU32, AtomicU8, Ordering::Relaxed};

use super::candidate::Candidate;
use super::equal::Equals;
use super::random::mix;
use super::Graph;
use crate::base::memory;
use crate::error::{Error, Result};

/// Terminates a list that is not full.
pub(crate) const NONE: u32 = u32::MAX;

/// Marks a link as spare.
const SPARE: u32 = 1 << 31;

/// Higher levels are clamped to this one. Even with m = 2, only one node in 2⁴⁰ would be higher.
const MAX_LEVEL: u8 = 40;

/// A graph in flat arrays.
///
/// Ids are atomics because safe Rust offers no other way for threads to write disjoint parts of one
/// array. Accesses are relaxed: the phases of the engines order them.
#[derive(Debug)]
pub(crate) struct Links {
    m: usize,
    m0: usize,
    levels: Vec<u8>,
    /// m0 ids a node.
    base: Vec<AtomicU32>,
    /// For each list on level 0, the length of the prefix that the heuristic chose together.
    diverse: Vec<AtomicU8>,
    /// For each node, the number of upper lists before its own.
    upper_starts: Vec<u32>,
    /// m ids a list; a node's lists are contiguous from level 1 up.
    upper: Vec<AtomicU32>,
    entry_point: u32,
}

impl Links {
    /// Draws the levels of nodes; there are no links yet. Duplicates stay on level 0.
    pub(crate) fn new(nodes: u32, m: usize, m0: usize, seed: u64, equals: &Equals) -> Result<Self> {
        let too_many = || Error::out_of_memory("hold the graph", None);
        let count = nodes as usize;
        let mut levels = memory::filled(count, 0u8, "hold the graph")?;
        let mut upper_starts = memory::filled(count, 0u32, "hold the graph")?;
        // The paper's mL = 1 / ln(m).
        let scale = 1.0 / f64::from(u32::try_from(m).map_err(|_| too_many())?).ln();
        let mut lists = 0u32;
        let mut entry_point = 0;
        let mut top = 0;
        for (node, (level, start)) in (0..nodes).zip(levels.iter_mut().zip(&mut upper_starts)) {
            // Copies stay on level 0, chained behind their first node.
            if !equals.is_copy(node) {
                *level = draw_level(seed, node, scale);
            }
            *start = lists;
            lists = lists.checked_add(u32::from(*level)).ok_or_else(too_many)?;
            if *level > top {
                top = *level;
                entry_point = node;
            }
        }
        Ok(Self {
            m,
            m0,
            levels,
            base: allocate(count.checked_mul(m0).ok_or_else(too_many)?, || {
                AtomicU32::new(NONE)
            })?,
            diverse: allocate(count, || AtomicU8::new(0))?,
            upper_starts,
            upper: allocate(
                (lists as usize).checked_mul(m).ok_or_else(too_many)?,
                || AtomicU32::new(NONE),
            )?,
            entry_point,
        })
    }

    /// Slots of a list on the upper levels.
    #[inline(always)]
    pub(crate) fn m(&self) -> usize {
        self.m
    }

    /// Slots of a list on level 0.
    #[inline(always)]
    pub(crate) fn m0(&self) -> usize {
        self.m0
    }

    /// A node of the highest level.
    #[inline(always)]
    pub(crate) fn entry(&self) -> u32 {
        self.entry_point
    }

    #[inline(always)]
    pub(crate) fn level_of(&self, node: u32) -> u8 {
        let level = self.levels.get(node as usize);
        debug_assert!(level.is_some(), "node {node} does not exist");
        level.copied().unwrap_or_default()
    }

    /// A node's list on one of its levels.
    #[inline(always)]
    pub(crate) fn list(&self, node: u32, layer: u8) -> &[AtomicU32] {
        let (lists, number, length) = if layer == 0 {
            (&self.base, node as usize, self.m0)
        } else {
            debug_assert!(layer <= self.level_of(node), "{node} is not on {layer}");
            let start = self.upper_starts.get(node as usize);
            let start = start.map_or(usize::MAX, |start| *start as usize);
            let number = start.wrapping_add(usize::from(layer)).wrapping_sub(1);
            (&self.upper, number, self.m)
        };
        let start = number.wrapping_mul(length);
        let list = lists.get(start..start.wrapping_add(length));
        debug_assert!(list.is_some(), "no list of {node} on {layer}");
        list.unwrap_or_default()
    }

    /// Length of the prefix of a list on level 0 that the heuristic chose together.
    #[inline(always)]
    pub(crate) fn diverse(&self, node: u32) -> usize {
        let count = self.diverse.get(node as usize);
        count.map_or(0, |count| usize::from(count.load(Relaxed)))
    }

    #[inline(always)]
    pub(crate) fn set_diverse(&self, node: u32, count: usize) {
        if let Some(diverse) = self.diverse.get(node as usize) {
            // Saturates: a shorter prefix only means more comparisons.
            diverse.store(u8::try_from(count).unwrap_or(u8::MAX), Relaxed);
        }
    }
}

fn allocate<T>(count: usize, value: impl Fn() -> T) -> Result<Vec<T>> {
    let mut values = memory::with_capacity(count, "hold the graph")?;
    values.resize_with(count, value);
    Ok(values)
}

/// The ids of a list without spare links.
#[inline(always)]
pub(crate) fn ids(list: &[AtomicU32]) -> impl Iterator<Item = u32> + '_ {
    list.iter()
        .map(|id| id.load(Relaxed))
        .take_while(|id| *id < SPARE)
}

/// All ids of a list, spare links included.
#[inline(always)]
pub(crate) fn all_ids(list: &[AtomicU32]) -> impl Iterator<Item = u32> + '_ {
    list.iter()
        .map(|id| id.load(Relaxed))
        .take_while(|id| *id != NONE)
        .map(|id| id & !SPARE)
}

/// Replaces a list.
#[inline(always)]
pub(crate) fn write_ids(list: &[AtomicU32], ids: impl IntoIterator<Item = u32>) {
    for (slot, id) in list
        .iter()
        .zip(ids.into_iter().chain(std::iter::repeat(NONE)))
    {
        slot.store(id, Relaxed);
    }
}

/// Writes a list: the chosen candidates, then the nearest of the others as spare links.
#[inline(always)]
pub(crate) fn write_list(
    list: &[AtomicU32],
    candidates: &[Candidate],
    chosen: &[Candidate],
    spare: &mut Vec<u32>,
) {
    spare.clear();
    let free = list.len().saturating_sub(chosen.len());
    // Chosen candidates are a subsequence of all candidates, so one pass separates them.
    let mut next = chosen.iter().map(|candidate| candidate.node()).peekable();
    for candidate in candidates {
        if spare.len() >= free {
            break;
        }
        let node = candidate.node();
        if next.next_if_eq(&node).is_none() {
            spare.push(node | SPARE);
        }
    }
    let chosen = chosen.iter().map(|candidate| candidate.node());
    write_ids(list, chosen.chain(spare.iter().rev().copied()));
}

/// Removes the ids of a list for which `keep` returns false.
pub(crate) fn retain(list: &[AtomicU32], keep: impl Fn(u32) -> bool) {
    let kept = list
        .iter()
        .map(|id| id.load(Relaxed))
        .filter(|id| *id != NONE && keep(id & !SPARE));
    // In place: each id moves to its own slot or an earlier one.
    write_ids(list, kept);
}

/// Adds a link to a list. In a full list it replaces the least useful link for which `may_go` returns
/// true: the farthest spare link, else the farthest link. Returns false if there is none.
pub(crate) fn add_link(list: &[AtomicU32], id: u32, may_go: impl Fn(u32) -> bool) -> bool {
    let spare = |slot: &&AtomicU32| slot.load(Relaxed) >= SPARE;
    let slot = list
        .iter()
        .find(|slot| slot.load(Relaxed) == NONE)
        .or_else(|| {
            let mut spare = list.iter().filter(spare);
            spare.find(|slot| may_go(slot.load(Relaxed) & !SPARE))
        })
        .or_else(|| {
            let mut chosen = list.iter().rev().filter(|slot| !spare(slot));
            chosen.find(|slot| may_go(slot.load(Relaxed)))
        });
    if let Some(slot) = slot {
        slot.store(id | SPARE, Relaxed);
    }
    slot.is_some()
}

impl Graph for Links {
    fn len(&self) -> u32 {
        u32::try_from(self.levels.len()).unwrap_or(NONE)
    }

    fn level(&self, node: u32) -> u8 {
        self.level_of(node)
    }

    fn neighbours(&self, node: u32, layer: u8, neighbours: &mut Vec<u32>) {
        neighbours.clear();
        neighbours.extend(all_ids(self.list(node, layer)));
    }

    fn entry_point(&self) -> Option<u32> {
        (!self.levels.is_empty()).then_some(self.entry_point)
    }
}

/// ⌊−ln(u) · scale⌋ for a u in (0, 1] that depends only on the seed and the node.
fn draw_level(seed: u64, node: u32, scale: f64) -> u8 {
    let bits = mix(seed ^ mix(u64::from(node)));
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    let uniform = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let level = -uniform.ln() * scale;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped first"
    )]
    let level = level.clamp(0.0, f64::from(MAX_LEVEL)) as u8;
    level
}
