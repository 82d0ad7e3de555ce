//! Duplicate vectors, chained behind the first of them on level 0.
//!
//! ```text
//! others ⇄ first → copy → copy → copy → …
//!            others ↙  others ↙  others ↙
//! ```
//!
//! A search that reaches the first node follows the chain, one copy at a time, while no nearer node is
//! left. Copies alone could fill the search's pool and end it. So each copy also links to other nodes:
//! the first copy to the nearest nodes that its node does not link to, the next copy to the following
//! ones, and so on. Only its predecessor links to a copy, so copies take no slots in other lists.

use pulp::{Arch, Simd, WithSimd};

use super::distance::{Measure, Space};
use super::equal::Equals;
use super::links::{add_link, all_ids, write_ids, Links};
use super::native::search::{SearchScratch, Searcher};
use super::THREAD;
use crate::base::progress::Monitor;
use crate::base::threads::{run, Stop};
use crate::error::Result;

/// Links every copy.
#[derive(Debug)]
pub(crate) struct Attach<'a> {
    pub(crate) links: &'a Links,
    pub(crate) equals: &'a Equals,
    /// Number of nearest nodes that the copies of a node share.
    pub(crate) ef: usize,
    pub(crate) threads: usize,
    pub(crate) monitor: &'a Monitor<'a>,
}

impl Attach<'_> {
    pub(crate) fn run<M: Measure>(&self, space: &Space<'_, M>) -> Result<()> {
        if self.equals.is_empty() {
            return Ok(());
        }
        // No link leads to a copy yet, so no search reads the lists that are written here.
        let mut states = Vec::new();
        for thread in 0..self.threads {
            let scratch = SearchScratch::new(space.len(), self.links.m0(), self.ef)?;
            states.push((thread, scratch));
        }
        let arch = Arch::new();
        run(THREAD, &mut states, |(thread, scratch), _, stop| {
            arch.dispatch(Worker {
                attach: self,
                space,
                thread: *thread,
                scratch,
                stop,
            });
        })?;
        for (first, copy) in self.equals.groups().filter_map(<[_]>::first) {
            add_link(self.links.list(*first, 0), *copy, |_| true);
        }
        Ok(())
    }
}

struct Worker<'w, 'v, M> {
    attach: &'w Attach<'w>,
    space: &'w Space<'v, M>,
    thread: usize,
    scratch: &'w mut SearchScratch,
    stop: &'w Stop,
}

impl<M: Measure> WithSimd for Worker<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attach {
            links,
            equals,
            ef,
            threads,
            monitor,
        } = *self.attach;
        let searcher = Searcher {
            simd,
            space: self.space,
            links,
            ef,
        };
        let mut others: Vec<u32> = Vec::new();
        for group in equals.groups().skip(self.thread).step_by(threads) {
            if self.stop.is_stopped() || !self.stop.check(monitor.check()) {
                return;
            }
            let Some((first, _)) = group.first().copied() else {
                continue;
            };
            searcher.nearest(self.scratch, &self.space.origin(first));
            let found = self.scratch.pool.iter().map(|found| found.node());
            let held = links.list(first, 0);
            others.clear();
            others
                .extend(found.filter(|node| *node != first && all_ids(held).all(|id| id != *node)));
            // The node may link to the whole pool already.
            if others.is_empty() {
                others.extend(all_ids(held));
            }
            let mut next = group.iter().skip(1).map(|(_, copy)| *copy);
            let mut position = 0;
            for (_, copy) in group {
                let list = links.list(*copy, 0);
                let next = next.next();
                let room = list.len().saturating_sub(next.iter().count());
                let room = room.min(others.len());
                let some = others.iter().cycle().skip(position).take(room);
                write_ids(list, next.into_iter().chain(some.copied()));
                position = position.wrapping_add(room) % others.len().max(1);
            }
        }
    }
}
