//! Level 0: groups, reservoirs and links.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use pulp::{Arch, Simd, WithSimd};

use super::super::candidate::Candidate;
use super::super::distance::{Measure, Space};
use super::super::links::{ids, retain, Links};
use super::super::native::lists::ListScratch;
use super::super::native::search::Searcher;
use super::super::random::mix;
use super::super::THREAD;
use super::carve::{carve, Buckets, Follow, Leaders, CHUNK, MAX_GROUP};
use super::cover::{self, measure, Count, Cover};
use super::effort::{Effort, EXTRA_ROUNDS, FAN_OUT_OF_ROUNDS};
use super::group::{Group, Scratch};
use super::reservoir::{self, Reservoirs};
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::base::threads::{for_each, lock, run};
use crate::error::Result;

/// Links nodes on level 0.
pub(super) struct Base<'b> {
    pub(super) links: &'b Links,
    /// Ascending.
    pub(super) nodes: &'b [u32],
    pub(super) effort: Effort,
    pub(super) seed: u64,
    pub(super) threads: NonZeroUsize,
    pub(super) monitor: &'b Monitor<'b>,
}

impl Base<'_> {
    pub(super) fn run<M: Measure>(self, space: &Space<'_, M>) -> Result<()> {
        let mut threads = Vec::new();
        for number in 0..self.threads.get() {
            threads.push(self.thread(number)?);
        }
        let mut steps = Steps::new(&self, space.len());
        let room = self.effort.room;
        // Allocated before the candidates: the groups of the first round live next to them.
        let first = self.buckets(space, 0, &mut threads, &steps)?;
        let mut places = reservoir::allocate(space.len(), room)?;
        let reservoirs = Reservoirs::new(&mut places, space.len(), room)?;
        let mut buckets = first;
        let mut rounds = self.rounds();
        for round in 1.. {
            self.compare(space, &buckets, round, &reservoirs, &mut threads, &steps)?;
            if round == self.rounds() && self.needs_more(space, &reservoirs, &mut threads)? {
                rounds = rounds.saturating_add(EXTRA_ROUNDS);
                steps.add(self.carved(EXTRA_ROUNDS, FAN_OUT_OF_ROUNDS));
            }
            if round >= rounds {
                break;
            }
            drop(buckets);
            buckets = self.buckets(space, round, &mut threads, &steps)?;
        }
        drop(buckets);
        self.link(space, &reservoirs, &mut threads, &steps)?;
        steps.finish()
    }

    fn thread(&self, number: usize) -> Result<Thread> {
        Ok(Thread {
            number,
            groups: Scratch::default(),
            lists: ListScratch::new(self.links.m0())?,
            candidates: memory::with_capacity(self.effort.room, "choose neighbours")?,
        })
    }

    /// Number of rounds. Nodes that fit into one group form the same group in every round.
    fn rounds(&self) -> usize {
        if self.nodes.len() <= MAX_GROUP {
            1
        } else {
            self.effort.rounds
        }
    }

    /// Progress steps of carving: one for each followed leader and one for each membership.
    fn carved(&self, rounds: usize, fan_out: usize) -> u64 {
        let each = rounds.saturating_mul(fan_out.saturating_add(1));
        self.nodes.len().saturating_mul(each) as u64
    }

    /// Returns true if the groups cover too few near neighbours of these vectors.
    fn needs_more<M: Measure>(
        &self,
        space: &Space<'_, M>,
        reservoirs: &Reservoirs<'_>,
        threads: &mut [Thread],
    ) -> Result<bool> {
        if self.nodes.len() <= MAX_GROUP || !self.effort.is_checked() {
            return Ok(false);
        }
        let all = Mutex::new(Count::default());
        let cover = Cover {
            space,
            links: self.links,
            nodes: self.nodes,
            reservoirs,
            monitor: self.monitor,
        };
        let sample = cover::sample(self.nodes, self.seed);
        for_each(THREAD, threads, sample, |_, part| {
            let count = cover.count(&part)?;
            lock(&all).add(count);
            Ok(())
        })?;
        let all = *lock(&all);
        Ok(!all.is_enough())
    }

    fn seed(&self, round: usize) -> u64 {
        mix(self.seed ^ mix(round as u64))
    }

    /// Carves all nodes once.
    fn buckets<M: Measure>(
        &self,
        space: &Space<'_, M>,
        round: usize,
        threads: &mut [Thread],
        steps: &Steps<'_>,
    ) -> Result<Buckets> {
        let nodes = self.nodes;
        let action = "hold groups of nodes";
        if nodes.len() <= MAX_GROUP {
            let followed = memory::filled(nodes.len(), 0, action)?;
            return Buckets::new(nodes, &followed, 1);
        }
        let fan_out = self.effort.fan_out(round);
        let leaders = Leaders::choose(space, nodes, fan_out, self.seed(round))?;
        let count = nodes.len().saturating_mul(fan_out);
        let mut followed = memory::filled(count, 0_u16, action)?;
        let arch = Arch::new();
        let chunks = followed.chunks_mut(CHUNK.saturating_mul(fan_out.max(1)));
        for_each(
            THREAD,
            threads,
            nodes.chunks(CHUNK).zip(chunks),
            |thread, (nodes, followed)| {
                arch.dispatch(Follow {
                    space,
                    leaders: &leaders,
                    nodes,
                    followed,
                    scratch: &mut thread.groups,
                })?;
                steps.advance(thread, nodes.len())
            },
        )?;
        Buckets::new(nodes, &followed, leaders.len())
    }

    /// Compares the nodes of each group and offers the candidates to their reservoirs.
    fn compare<M: Measure>(
        &self,
        space: &Space<'_, M>,
        buckets: &Buckets,
        round: usize,
        reservoirs: &Reservoirs<'_>,
        threads: &mut [Thread],
        steps: &Steps<'_>,
    ) -> Result<()> {
        let arch = Arch::new();
        let seed = self.seed(round);
        let picks = self.effort.picks;
        let buckets = buckets.iter().enumerate();
        for_each(THREAD, threads, buckets, |thread, (number, bucket)| {
            let seed = mix(seed ^ number as u64);
            carve(
                space,
                bucket,
                seed,
                0,
                &mut thread.groups,
                &mut |nodes, scratch| {
                    self.monitor.check()?;
                    arch.dispatch(Group {
                        space,
                        nodes,
                        picks,
                        reservoirs,
                        scratch,
                    })
                },
            )?;
            steps.advance(thread, bucket.len())
        })
    }

    /// Chooses each node's neighbours among its candidates, then adds reverse links.
    ///
    /// Reverse links pass through the reservoirs, which are empty by then, so that their order does not
    /// matter either.
    fn link<M: Measure>(
        &self,
        space: &Space<'_, M>,
        reservoirs: &Reservoirs<'_>,
        threads: &mut [Thread],
        steps: &Steps<'_>,
    ) -> Result<()> {
        let arch = Arch::new();
        for pass in [Pass::Own, Pass::Offer, Pass::Back] {
            for_each(THREAD, threads, reservoirs.stripes(), |thread, stripe| {
                arch.dispatch(LinkStripe {
                    space,
                    links: self.links,
                    reservoirs,
                    stripe,
                    pass,
                    lists: &mut thread.lists,
                    candidates: &mut thread.candidates,
                });
                steps.advance(thread, reservoirs.nodes(stripe).len())
            })?;
        }
        Ok(())
    }
}

/// Buffers that one thread reuses.
struct Thread {
    number: usize,
    groups: Scratch,
    lists: ListScratch,
    candidates: Vec<Candidate>,
}

/// Progress of the work.
struct Steps<'s> {
    monitor: &'s Monitor<'s>,
    nodes: u64,
    all: u64,
    done: AtomicU64,
}

impl<'s> Steps<'s> {
    fn new(base: &Base<'s>, nodes: u32) -> Self {
        let carved = base.carved(base.rounds(), base.effort.fan_out);
        // One for each pass of `link`.
        let linked = u64::from(nodes).saturating_mul(3);
        Self {
            monitor: base.monitor,
            nodes: u64::from(nodes),
            all: carved.saturating_add(linked).max(1),
            done: AtomicU64::new(0),
        }
    }

    /// Adds unforeseen work. The finished fraction stays the same, so that progress never goes back.
    fn add(&mut self, steps: u64) {
        let done = self.done.get_mut();
        let left = self.all.saturating_sub(*done).max(1);
        let grown = |steps_so_far: u64| {
            let steps_so_far = u128::from(steps_so_far);
            let grown = steps_so_far * u128::from(left.saturating_add(steps)) / u128::from(left);
            u64::try_from(grown).unwrap_or(u64::MAX)
        };
        (self.all, *done) = (grown(self.all), grown(*done));
    }

    /// Reports progress on the first thread only, which is the caller's.
    fn advance(&self, thread: &Thread, count: usize) -> Result<()> {
        let count = count as u64;
        let done = self.done.fetch_add(count, Relaxed).saturating_add(count);
        if thread.number > 0 {
            return self.monitor.check();
        }
        // Duplicates and unreachable nodes follow, so the last step is not reported yet.
        let most = self.nodes.saturating_sub(1);
        let part = done.saturating_mul(self.nodes) / self.all;
        self.monitor.advance(part.min(most), self.nodes)
    }

    fn finish(&self) -> Result<()> {
        // A worker turns a panic of the progress function into an error, as during the work.
        run(THREAD, &mut [()], |(), _, stop| {
            stop.check(self.monitor.advance(self.nodes, self.nodes));
        })
    }
}

/// A pass over all nodes.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// Writes each node's own list.
    Own,
    /// Offers each node to its chosen neighbours.
    Offer,
    /// Writes each node's reverse links.
    Back,
}

/// One pass over one stripe.
struct LinkStripe<'l, 'r, 'v, M> {
    space: &'l Space<'v, M>,
    links: &'l Links,
    reservoirs: &'l Reservoirs<'r>,
    stripe: usize,
    pass: Pass,
    lists: &'l mut ListScratch,
    candidates: &'l mut Vec<Candidate>,
}

impl<M: Measure> WithSimd for LinkStripe<'_, '_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            space,
            links,
            reservoirs,
            stripe,
            pass,
            lists,
            candidates,
        } = self;
        let searcher = Searcher {
            simd,
            space,
            links,
            ef: 0,
        };
        match pass {
            Pass::Own => {
                if let Some(mut stripe) = reservoirs.lock(stripe) {
                    for (node, held) in stripe.iter() {
                        measure(simd, space, node, held.iter(), candidates);
                        // Unlike insertion, this fills the list: free slots for reverse links did not
                        // improve the graph.
                        searcher.write_own(lists, node, 0, candidates, links.m0());
                    }
                    stripe.clear();
                }
            }
            Pass::Offer => {
                for node in reservoirs.nodes(stripe) {
                    let origin = space.origin(node);
                    for chosen in ids(links.list(node, 0)) {
                        if ids(links.list(chosen, 0)).all(|id| id != node) {
                            let key = space.key(simd, &origin, chosen);
                            reservoirs.offer(chosen, &[Candidate::new(key, node)]);
                        }
                    }
                }
            }
            Pass::Back => {
                if let Some(stripe) = reservoirs.lock(stripe) {
                    for (node, held) in stripe.iter() {
                        if held.iter().len() == 0 {
                            continue;
                        }
                        retain(links.list(node, 0), |id| {
                            held.iter().all(|added| added != id)
                        });
                        measure(simd, space, node, held.iter(), candidates);
                        searcher.add_back(lists, node, 0, candidates.iter().copied());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::distance::{SquaredDifference, SumOf, Vectors};
    use super::super::super::equal::Equals;
    use super::super::super::random::Random;
    use super::*;

    #[test]
    fn rounds_are_added_where_groups_have_offered_too_little() {
        let mut random = Random::new(3);
        let data: Vec<f32> = (0..3 * 1500).map(|_| random.below(9999) as f32).collect();
        let space =
            Space::<SumOf<SquaredDifference>>::new(Vectors::new(&data, 3).unwrap()).unwrap();
        let links = Links::new(space.len(), 4, 8, 7, &Equals::find(&space).unwrap()).unwrap();
        let nodes: Vec<u32> = (0..space.len()).collect();
        let needs_more = |effort: usize, nodes: &[u32]| {
            let monitor = Monitor::default();
            let base = Base {
                links: &links,
                nodes,
                effort: Effort::new(effort, 4, 8),
                seed: 5,
                threads: NonZeroUsize::MIN,
                monitor: &monitor,
            };
            let mut threads = vec![base.thread(0).unwrap()];
            let room = base.effort.room;
            let mut places = reservoir::allocate(space.len(), room).unwrap();
            let reservoirs = Reservoirs::new(&mut places, space.len(), room).unwrap();
            let before = base.needs_more(&space, &reservoirs, &mut threads).unwrap();
            let mut steps = Steps::new(&base, space.len());
            let buckets = base.buckets(&space, 0, &mut threads, &steps).unwrap();
            base.compare(&space, &buckets, 1, &reservoirs, &mut threads, &steps)
                .unwrap();
            let (done, all) = (*steps.done.get_mut(), steps.all);
            steps.add(1000);
            let (more_done, more_all) = (*steps.done.get_mut(), steps.all);
            assert_eq!(more_all - more_done, all - done + 1000);
            let part = |done: u64, all: u64| done as f64 / all as f64;
            assert!((part(done, all) - part(more_done, more_all)).abs() < 1e-3);
            (
                before,
                base.needs_more(&space, &reservoirs, &mut threads).unwrap(),
            )
        };
        assert_eq!(needs_more(200, &nodes), (true, false));
        // Little effort is asked for, or there is one group.
        assert_eq!(needs_more(50, &nodes), (false, false));
        assert_eq!(needs_more(200, &nodes[..1000]), (false, false));
    }
}
