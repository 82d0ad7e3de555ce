//! Work shared by several threads.
//!
//! An engine runs one function on several threads, which wait for each other between phases. With
//! `std::sync::Barrier`, they would wait forever if one of them panicked or returned early. A
//! [`Meeting`] releases them.

use std::num::NonZeroUsize;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Upper bound on threads. Larger requests are rejected as mistakes.
const MAX_THREADS: usize = 1024;

/// Returns the requested number of threads, or one per core.
pub(crate) fn thread_count(threads: Option<usize>) -> Result<NonZeroUsize> {
    match threads {
        None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        Some(threads) => NonZeroUsize::new(threads)
            .filter(|threads| threads.get() <= MAX_THREADS)
            .ok_or_else(|| {
                Error::argument(
                    "threads",
                    threads,
                    format!("a number from 1 to {MAX_THREADS}"),
                )
            }),
    }
}

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
    /// With the number of the item that failed.
    error: Mutex<Option<(usize, Error)>>,
}

impl Stop {
    /// Asks all threads to stop. Only the first error is reported.
    pub(crate) fn fail(&self, error: Error) {
        self.fail_at(0, error);
    }

    fn fail_at(&self, item: usize, error: Error) {
        let mut first = lock(&self.error);
        if first.as_ref().is_none_or(|(first, _)| item < *first) {
            *first = Some((item, error));
        }
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
            .map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Calls `work` once for each of `states`, each on its own thread; the first on the calling thread.
/// `name` is the one of the threads.
///
/// If fewer threads can be spawned, the existing ones do all the work, so `work` must not rely on
/// their number. A panic of `work` becomes an error.
///
/// # Errors
///
/// The first error passed to [`Stop::fail`].
pub(crate) fn run<S: Send>(
    name: &str,
    states: &mut [S],
    work: impl Fn(&mut S, &Meeting, &Stop) + Sync,
) -> Result<()> {
    let meeting = Meeting::new(states.len());
    let stop = Stop::default();
    let work = |state: &mut S| {
        // State left inconsistent by a panic is dropped with the result.
        if catch_unwind(AssertUnwindSafe(|| work(state, &meeting, &stop))).is_err() {
            stop.fail(Error::internal(format!(
                "a thread of {name}, or the progress function, panicked"
            )));
        }
        meeting.leave();
    };
    std::thread::scope(|scope| {
        let mut states = states.iter_mut();
        let own = states.next();
        let mut handles = Vec::new();
        for state in states {
            let thread = std::thread::Builder::new().name(name.into());
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
/// The error of the first item that failed. No further items are taken after an error.
pub(crate) fn for_each<S: Send, T>(
    name: &str,
    states: &mut [S],
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut S, T) -> Result<()> + Sync,
) -> Result<()> {
    let items = Mutex::new(items.enumerate());
    run(name, states, |state, _, stop| {
        while !stop.is_stopped() {
            let Some((number, item)) = lock(&items).next() else {
                return;
            };
            if let Err(error) = work(state, item) {
                stop.fail_at(number, error);
            }
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

/// Runs two closures concurrently, the second on another thread, or one after the other if no
/// thread can be started. If both fail, the first one's error is returned.
pub(crate) fn both<A, B: Send>(
    name: &'static str,
    first: impl FnOnce() -> Result<A>,
    second: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    let second = Mutex::new(Some(second));
    // The lock is released before the work begins.
    let take = || lock(&second).take();
    let (first, second) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.into());
        let thread = thread.spawn_scoped(scope, || take().map(|work| work()));
        let first = first();
        let second = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| {
                let error = Error::internal(format!("the thread {name} panicked"));
                Some(Err(error))
            }),
            Err(_) if first.is_ok() => take().map(|work| work()),
            Err(_) => None,
        };
        (first, second)
    });
    let first = first?;
    let second = second.ok_or_else(|| Error::internal(format!("no work for {name}")))?;
    Ok((first, second?))
}

/// Locks data that no panic can leave inconsistent.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_item_is_processed_once() {
        for threads in [1, 2, 9] {
            let mut done = [0; 100];
            for_each(
                "test",
                &mut vec![(); threads],
                done.iter_mut(),
                |(), item| {
                    *item += 1;
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(done, [1; 100]);
        }
    }

    #[test]
    fn both_run_and_the_first_error_takes_precedence() {
        let (first, second) = both("test", || Ok(1), || Ok("two")).unwrap();
        assert_eq!((first, second), (1, "two"));
        let fail = |what: &'static str| move || Err::<u8, _>(Error::internal(what));
        for (first, second, expected) in [
            ("one", Some("two"), "internal error: one"),
            ("", Some("two"), "internal error: two"),
            ("one", None, "internal error: one"),
        ] {
            let result = both(
                "test",
                || {
                    if first.is_empty() {
                        Ok(1)
                    } else {
                        fail(first)()
                    }
                },
                || second.map_or(Ok(2), |what| fail(what)()),
            );
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
        let error = both("test", || Ok(1), || -> Result<u8> { panic!("on purpose") });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "internal error: the thread test panicked");
    }

    #[test]
    fn the_first_error_ends_the_work() {
        for threads in [1, 4] {
            let begun = AtomicUsize::new(0);
            let error = for_each("test", &mut vec![(); threads], 0..10_000, |(), item| {
                begun.fetch_add(1, Relaxed);
                match item {
                    5.. => Err(Error::internal(item)),
                    _ => Ok(()),
                }
            })
            .unwrap_err();
            assert_eq!(error.to_string(), "internal error: 5");
            assert!(begun.into_inner() < 10_000);
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let caught = for_each("test", &mut [(); 3], 0..100, |(), item| {
            assert!(std::thread::current().name() != Some("test") || item < 50);
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        });
        assert_eq!(caught.unwrap_err().code(), 900);
    }

    #[test]
    fn threads_meet_after_each_phase() {
        let arrived = AtomicU32::new(0);
        run("test", &mut [0; 4], |_, meeting, _| {
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
            let error = run("test", &mut states, |state, meeting, stop| {
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
        let error = run("test", &mut [0, 1, 2], |state, meeting, stop| {
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
