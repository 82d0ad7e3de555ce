//! Threads that work in phases.
//!
//! An engine runs one function on several threads, which wait for each other between phases. With
//! `std::sync::Barrier`, they would wait forever if one of them panicked or returned early. A
//! [`Meeting`] releases them.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A barrier that threads can leave.
#[derive(Debug)]
pub(crate) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Number of threads that have not left.
    members: usize,
    /// Number of waiting threads.
    waiting: usize,
    /// Number of times that all threads have met.
    round: u64,
}

impl Meeting {
    fn new(members: usize) -> Self {
        Self {
            state: Mutex::new(State {
                members,
                waiting: 0,
                round: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until all other threads wait also or have left.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.state);
        state.waiting = state.waiting.saturating_add(1);
        if state.waiting >= state.members {
            self.release(&mut state);
            return;
        }
        // Wakeups can be spurious, so the round decides.
        let round = state.round;
        while state.round == round {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes a thread, so that the others no longer wait for it.
    fn leave(&self) {
        let mut state = lock(&self.state);
        state.members = state.members.saturating_sub(1);
        if state.waiting >= state.members {
            self.release(&mut state);
        }
    }

    fn release(&self, state: &mut State) {
        state.waiting = 0;
        state.round = state.round.wrapping_add(1);
        self.changed.notify_all();
    }
}

/// A cancellation flag and the first error, shared by threads.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Stop {
    /// Asks all threads to stop. Only the first error is reported.
    pub(crate) fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.stopped.store(true, Relaxed);
    }

    /// [`fail`](Self::fail)s with the error of `result`, if any. Returns true if there was none.
    pub(crate) fn check(&self, result: Result<()>) -> bool {
        result.map_err(|error| self.fail(error)).is_ok()
    }

    #[inline(always)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    fn result(self) -> Result<()> {
        let error = self.error.into_inner();
        error
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

/// Calls `work` once for each of `states`, each on its own thread; the first on the calling thread.
///
/// If fewer threads can be spawned, the existing ones do all the work, so `work` must not rely on
/// their number. A panic of `work` becomes an error.
///
/// # Errors
///
/// The first error passed to [`Stop::fail`].
pub(crate) fn run<S: Send>(
    states: &mut [S],
    work: impl Fn(&mut S, &Meeting, &Stop) + Sync,
) -> Result<()> {
    let meeting = Meeting::new(states.len());
    let stop = Stop::default();
    let work = |state: &mut S| {
        // State left inconsistent by a panic is dropped with the result.
        if catch_unwind(AssertUnwindSafe(|| work(state, &meeting, &stop))).is_err() {
            stop.fail(Error::internal(
                "the construction of the graph, or the progress function, panicked",
            ));
        }
        meeting.leave();
    };
    std::thread::scope(|scope| {
        let mut states = states.iter_mut();
        let own = states.next();
        let mut handles = Vec::new();
        for state in states {
            let thread = std::thread::Builder::new().name("hnsw-toolbox-build".into());
            let work = &work;
            match thread.spawn_scoped(scope, move || work(state)) {
                Ok(handle) => handles.push(handle),
                Err(_) => meeting.leave(),
            }
        }
        if let Some(state) = own {
            work(state);
        }
        // A scope waits only for the closures. Join the threads so that none outlives the call.
        for handle in handles {
            // Panics were caught on the thread itself.
            let _ = handle.join();
        }
    });
    stop.result()
}

/// Calls `work` with each of `items`, on one thread per state, like [`run`].
///
/// # Errors
///
/// The first error of `work`. No further items are taken after it.
pub(crate) fn for_each<S: Send, T>(
    states: &mut [S],
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut S, T) -> Result<()> + Sync,
) -> Result<()> {
    let items = Mutex::new(items);
    run(states, |state, _, stop| {
        while !stop.is_stopped() {
            let Some(item) = lock(&items).next() else {
                return;
            };
            stop.check(work(state, item));
        }
    })
}

/// Takes the next number below `end`.
#[inline(always)]
pub(crate) fn take(next: &AtomicU32, end: u32) -> Option<u32> {
    next.fetch_update(Relaxed, Relaxed, |number| {
        (number < end).then_some(number.wrapping_add(1))
    })
    .ok()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn threads_meet_after_each_phase() {
        let arrived = AtomicU32::new(0);
        run(&mut [0; 4], |_, meeting, _| {
            for phase in 1..100 {
                arrived.fetch_add(1, Relaxed);
                meeting.wait();
                assert_eq!(arrived.load(Relaxed), 4 * phase);
                meeting.wait();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_panic_releases_the_threads_that_wait() {
        for panicking in 0..3 {
            let mut states = [0, 1, 2];
            let error = run(&mut states, |state, meeting, stop| {
                for phase in 0..10 {
                    assert!((phase, *state) != (5, panicking), "on purpose");
                    meeting.wait();
                    if stop.is_stopped() {
                        return;
                    }
                }
            })
            .unwrap_err();
            assert_eq!(error.code(), 900);
        }
    }

    #[test]
    fn an_early_return_releases_the_threads_that_wait() {
        let error = run(&mut [0, 1, 2], |state, meeting, stop| {
            if *state == 1 {
                stop.fail(Error::cancelled());
                return;
            }
            meeting.wait();
            meeting.wait();
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
