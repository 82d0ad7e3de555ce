//! Searching a `.hnsw` index.
//!
//! An index is opened in a time that does not depend on its size, and nothing of it is copied: a
//! search reads the pages that it walks over, from a map or with positioned reads. What it needs
//! beside them, a byte a node and a few candidates, is kept for the next search. Any number of
//! threads may search one index at once.

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::graph::distance::Metric;
use crate::graph::file::read::{Layout, View};
use crate::graph::search::{Ahead, Scratch, Search};
use crate::io::file::{InputFile, IoMode};
use crate::io::mmap::Map;
use crate::memory;
use crate::path::display_path;
use crate::threads::thread_count;

/// How an index is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The metric that the index was built for. Needed where the file does not state it, which is
    /// so in files that were not written by this crate, or by its version 0.1.0.
    pub metric: Option<Metric>,
    /// How the file is read. A map is several times as fast.
    pub io: IoMode,
}

impl OpenOptions {
    /// Sets [`metric`](Self::metric).
    #[must_use]
    pub fn with_metric(mut self, metric: impl Into<Option<Metric>>) -> Self {
        self.metric = metric.into();
        self
    }

    /// Sets [`io`](Self::io).
    #[must_use]
    pub fn with_io(mut self, io: IoMode) -> Self {
        self.io = io;
        self
    }
}

/// A vector of the index, and how far it is from a query.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Neighbour {
    /// The vector's label: what the input of the build gave it, or its number in an index without
    /// labels.
    pub label: u64,
    /// By the index's metric.
    pub distance: f32,
}

/// An open `.hnsw` index.
///
/// The file may be renamed, replaced or deleted while it is open, but not written to or, when it is
/// mapped, truncated: the operating system then kills the process (see [`IoMode`]).
#[derive(Debug)]
pub struct HnswIndex {
    file: InputFile,
    map: Option<Map>,
    layout: Layout,
    metric: Metric,
    /// Those that no search is using.
    scratches: Mutex<Vec<Scratch>>,
}

impl HnswIndex {
    /// Opens an index.
    ///
    /// Checks the header, the entry point, and that the tables are inside the file. Neighbour lists
    /// are checked when searches walk over them.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or is not such a file ([`Error::CorruptIndex`],
    /// [`Error::Unsupported`]), and [`Error::InvalidArgument`] when the metric is not known or is
    /// not the one that the file states.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = InputFile::open(path, options.io)?;
        let map = match options.io {
            IoMode::Mmap if file.len() > 0 => Some(file.map()?),
            _ => None,
        };
        let layout = match &map {
            Some(map) => Layout::read(&mut &**map, path)?,
            None => Layout::read(&mut file.window_for_lookups(), path)?,
        };
        let metric = metric_of(layout.metric, options.metric, path)?;
        Ok(Self {
            file,
            map,
            layout,
            metric,
            scratches: Mutex::default(),
        })
    }

    /// Vectors in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.nodes as usize
    }

    /// Whether there are no vectors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.nodes == 0
    }

    /// Elements of each vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.layout.dimension
    }

    /// The metric that searches use.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Finds the `k` vectors that are likely the nearest to `query`, nearest first: fewer when the
    /// index has fewer or its graph does not lead to more.
    ///
    /// `ef` is how many candidates the search keeps: the more, the surer and the slower. Fewer than
    /// `k` count as `k`.
    ///
    /// # Errors
    ///
    /// When `k` is 0, when the query has another dimension than the index or an element that is not
    /// finite, and [`Error::CorruptIndex`] when the walk meets what cannot be.
    pub fn search(&self, query: &[f32], k: usize, ef: usize) -> Result<Vec<Neighbour>> {
        check_k(k)?;
        self.check_query(query, || "query".into())?;
        let mut found = Vec::new();
        self.search_into(query, k, ef, &mut found)?;
        Ok(found)
    }

    /// Searches for each of some queries, which follow each other in `queries`.
    ///
    /// `threads`, all cores when not given, share the work. The results are those of
    /// [`search`](Self::search).
    ///
    /// # Errors
    ///
    /// As for [`search`](Self::search), when `queries` has a part of a query, and when `threads` is
    /// 0 or above 1024.
    pub fn search_batch(
        &self,
        queries: &[f32],
        k: usize,
        ef: usize,
        threads: Option<usize>,
    ) -> Result<Vec<Vec<Neighbour>>> {
        let dimension = self.dimension().max(1);
        if !queries.len().is_multiple_of(dimension) {
            return Err(Error::argument(
                "queries",
                format!("{} elements", queries.len()),
                format!("a multiple of the dimension, {dimension}"),
            ));
        }
        check_k(k)?;
        for (number, query) in queries.chunks_exact(dimension).enumerate() {
            self.check_query(query, || format!("query {number}"))?;
        }
        let count = queries.len() / dimension;
        let threads = thread_count(threads)?.get().min(count);
        let mut results = memory::filled(count, Vec::new(), "hold a result for each query")?;

        let work = Mutex::new(
            queries
                .chunks_exact(dimension)
                .zip(&mut results)
                .enumerate(),
        );
        let failure = Mutex::new(None);
        let mut panicked = false;
        let search = || {
            while lock(&failure).is_none() {
                let Some((number, (query, result))) = lock(&work).next() else {
                    return;
                };
                if let Err(error) = self.search_into(query, k, ef, result) {
                    // The first query that fails, whichever thread comes upon one first.
                    let mut failure = lock(&failure);
                    if failure.as_ref().is_none_or(|(first, _)| number < *first) {
                        *failure = Some((number, error));
                    }
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for _ in 1..threads {
                let thread = std::thread::Builder::new().name("hnsw-toolbox-search".into());
                match thread.spawn_scoped(scope, search) {
                    Ok(handle) => handles.push(handle),
                    // The system gives no more: those that there are do the work.
                    Err(_) => break,
                }
            }
            search();
            // A scope waits for the closures only. Joined, the threads have left this library,
            // which the caller may unload next.
            for handle in handles {
                panicked |= handle.join().is_err();
            }
        });
        if panicked {
            return Err(Error::internal("a searching thread panicked"));
        }
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(results),
        }
    }

    /// Puts what [`search`](Self::search) gives for a query that was checked into `found`, in place
    /// of what was there.
    fn search_into(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        found: &mut Vec<Neighbour>,
    ) -> Result<()> {
        found.clear();
        let mut scratch = match lock(&self.scratches).pop() {
            Some(scratch) => scratch,
            None => {
                Scratch::new(self.layout.nodes).map_err(|error| error.in_file(self.file.path()))?
            }
        };
        let result = match &self.map {
            Some(map) => self.search_with(&**map, query, k, ef, &mut scratch, found),
            None => {
                let source = self.file.window_for_lookups();
                self.search_with(source, query, k, ef, &mut scratch, found)
            }
        };
        lock(&self.scratches).push(scratch);
        result
    }

    fn search_with<S: Ahead>(
        &self,
        source: S,
        query: &[f32],
        k: usize,
        ef: usize,
        scratch: &mut Scratch,
        found: &mut Vec<Neighbour>,
    ) -> Result<()> {
        let mut view = View::new(source, &self.layout, self.file.path());
        let search = Search {
            view: &mut view,
            scratch,
            query,
            ef: ef.max(k),
        };
        search.run(self.metric)?;
        let count = k.min(scratch.found().len());
        memory::reserve_exact(found, count, "hold the results")?;
        for candidate in scratch.found().take(count) {
            found.push(Neighbour {
                label: view.label(candidate.node())?,
                distance: self.metric.distance_of_key(candidate.key()),
            });
        }
        Ok(())
    }

    fn check_query(&self, query: &[f32], name: impl Fn() -> String) -> Result<()> {
        if query.len() != self.dimension() {
            return Err(Error::argument(
                name(),
                format!("{} elements", query.len()),
                format!("{}, the index's dimension", self.dimension()),
            ));
        }
        match (0u64..)
            .zip(query)
            .find(|(_, element)| !element.is_finite())
        {
            None => Ok(()),
            Some((at, element)) => Err(Error::argument(
                name(),
                format!("{element} at element {at}"),
                "finite numbers",
            )),
        }
    }
}

fn check_k(k: usize) -> Result<()> {
    if k == 0 {
        return Err(Error::argument("k", k, "at least 1"));
    }
    Ok(())
}

/// The metric that the file states or the caller gives, who may not contradict each other.
fn metric_of(stated: Option<Metric>, given: Option<Metric>, path: &Path) -> Result<Metric> {
    match (stated, given) {
        (Some(stated), Some(given)) if stated != given => Err(Error::argument(
            "metric",
            given,
            format!("{stated}, as {} states, or none", display_path(path)),
        )),
        (Some(metric), _) | (None, Some(metric)) => Ok(metric),
        (None, None) => Err(Error::argument(
            "metric",
            "none",
            format!("one, as {} does not state its own", display_path(path)),
        )),
    }
}

/// Nothing under these locks can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
