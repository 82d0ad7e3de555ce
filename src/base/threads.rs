//! Work shared by several threads.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Runs `work` on every item, on at most `threads` threads including the caller's.
///
/// Works with fewer threads if not all can be started. After an error no further item is started.
/// If several items fail, the error of the first item is returned.
pub(crate) fn share<I: Send>(
    threads: usize,
    name: &'static str,
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> Result<()> + Sync,
) -> Result<()> {
    let items = Mutex::new(items.enumerate());
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let worker = || {
        while lock(&failure).is_none() {
            let Some((number, item)) = lock(&items).next() else {
                return;
            };
            if let Err(error) = work(item) {
                let mut failure = lock(&failure);
                if failure.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failure = Some((number, error));
                }
            }
        }
    };
    let panicked = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for _ in 1..threads {
            let thread = std::thread::Builder::new().name(name.into());
            match thread.spawn_scoped(scope, worker) {
                Ok(handle) => handles.push(handle),
                Err(_) => break,
            }
        }
        worker();
        // A scope waits only for the closures. After the joins, the threads themselves have ended.
        let mut panicked = false;
        for handle in handles {
            panicked |= handle.join().is_err();
        }
        panicked
    });
    if panicked {
        return Err(Error::internal(format!("a thread of {name} panicked")));
    }
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_item_is_processed_once() {
        for threads in [1, 2, 9] {
            let mut done = [0; 100];
            share(threads, "test", done.iter_mut(), |item| {
                *item += 1;
                Ok(())
            })
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
            let error = share(threads, "test", 0..10_000, |item| {
                begun.fetch_add(1, Ordering::Relaxed);
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
        let caught = share(3, "test", 0..100, |item| {
            // Only in a spawned thread: a panic in the caller's own thread would propagate.
            assert!(std::thread::current().name() != Some("test") || item < 50);
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        });
        assert_eq!(caught.unwrap_err().code(), 900);
    }
}
