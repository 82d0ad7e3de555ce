//! Searches a `.hnsw` graph file.
//!
//! Opening takes the same time for a file of any size. The file is not copied unless it is loaded:
//! a search touches only the pages it visits, in a memory map or with positioned reads. Its scratch
//! space, a byte per node and a few candidates, is reused by the next search. Any number of threads
//! may search an index at the same time.

#[cfg(test)]
mod tests;

#[cfg(test)]
mod extreme_tests;

pub(crate) mod queries;

use std::path::Path;
use std::sync::Mutex;

use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::path::display_path;
use crate::base::threads::{for_each, lock, thread_count};
use crate::error::{Error, Result};
use crate::graph::candidate::Candidate;
use crate::graph::distance::{is_finite, Metric};
use crate::graph::exact::rank;
use crate::graph::file::read::{Layout, View};
use crate::graph::search::{Scratch, Search};
use crate::io::file::{InputFile, IoMode, WINDOW};
use crate::io::mmap::Map;

/// Bytes of vectors per read in a scan of all vectors.
const BLOCK_BYTES: usize = 1 << 20;

/// Options for opening an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The metric that the index was built for. Required if the file does not state it, like files
    /// written by other programs or by version 0.1.0 of this crate.
    pub metric: Option<Metric>,
    /// The I/O mode. A memory map is several times as fast.
    pub io: IoMode,
    /// Load the whole file into memory on opening, in either I/O mode. That takes as much memory as
    /// the file has bytes. Searches are then faster, by an eighth on Linux, and changes to the file
    /// do not affect them.
    pub load: bool,
}

setters!(OpenOptions {
    with_metric(metric: impl Into<Option<Metric>>),
    with_io(io: IoMode),
    with_load(load: bool),
});

/// A vector of the index, and its distance from a query.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Neighbour {
    /// The label from the input of the build, or the node number in an index without labels.
    pub label: u64,
    /// The distance under the metric of the index.
    pub distance: f32,
}

/// An open `.hnsw` index.
///
/// The file may be renamed, replaced or deleted while it is open, but must not be written to. If a
/// mapped file is truncated, the operating system kills the process (see [`IoMode`]). A
/// [loaded](OpenOptions::load) index does not need the file any more.
#[derive(Debug)]
pub struct HnswIndex {
    file: InputFile,
    map: Option<Map>,
    layout: Layout,
    metric: Metric,
    /// Scratch space that is currently unused, for the next searches.
    scratches: Mutex<Vec<Scratch>>,
    /// Nodes skipped by searches because their vectors are damaged. Has no bits until the first
    /// one.
    damaged: Mutex<Bits>,
}

impl HnswIndex {
    /// Opens an index.
    ///
    /// Checks the header, the entry point, and that the tables are inside the file. Neighbour lists
    /// are checked when searches walk over them.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or is not a graph file
    /// ([`ErrorKind::CorruptIndex`](crate::ErrorKind::CorruptIndex),
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)).
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the metric is unknown,
    /// or contradicts the file.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = InputFile::open(path, options.io)?;
        let map = match options.io {
            // An empty file cannot be mapped; reading its header gives the right error.
            _ if file.len() == 0 => None,
            _ if options.load => Some(file.load()?),
            IoMode::Mmap => Some(file.map()?),
            IoMode::Read => None,
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
            damaged: Mutex::default(),
        })
    }

    /// Returns the number of vectors in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.nodes as usize
    }

    /// Returns true if the index has no vectors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.nodes == 0
    }

    /// Returns the number of components of each vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.layout.dimension
    }

    /// Returns the metric that searches use.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Returns the number of damaged vectors that searches have met so far. A vector is damaged if
    /// a component is not finite; it is in no result. [`verify_hnsw`](crate::verify_hnsw) finds all
    /// damaged vectors of a file.
    #[must_use]
    pub fn damaged_vectors(&self) -> u64 {
        lock(&self.damaged).count()
    }

    /// Finds the approximate `k` nearest neighbours of `query`, nearest first. There are fewer if
    /// the index has fewer vectors, more are unreachable, or [vectors are
    /// damaged](Self::damaged_vectors).
    ///
    /// `ef` is the number of candidates that the search keeps. Larger values raise recall and cost
    /// time. Values below `k` count as `k`.
    ///
    /// # Errors
    ///
    /// When `k` is 0, when the dimension of the query differs from the index, or when a component
    /// is not finite. [`ErrorKind::CorruptIndex`](crate::ErrorKind::CorruptIndex) if the search
    /// meets invalid data.
    pub fn search(&self, query: &[f32], k: usize, ef: usize) -> Result<Vec<Neighbour>> {
        check_k(k)?;
        self.check_query(query, || "query".into())?;
        let mut found = Vec::new();
        self.search_into(query, k, ef, &mut found)?;
        Ok(found)
    }

    /// Searches for several queries, which are contiguous in `queries`.
    ///
    /// The work is divided among `threads`, by default one per core. The results are the same as
    /// with [`search`](Self::search).
    ///
    /// # Errors
    ///
    /// The same as for [`search`](Self::search). Also when `queries` ends with an incomplete query,
    /// and when `threads` is 0 or above 1024.
    pub fn search_batch(
        &self,
        queries: &[f32],
        k: usize,
        ef: usize,
        threads: Option<usize>,
    ) -> Result<Vec<Vec<Neighbour>>> {
        check_k(k)?;
        let count = self.check_queries(queries)?;
        let mut results = memory::filled(count, Vec::new(), "hold a result for each query")?;
        let threads = thread_count(threads)?.get();
        self.for_each_query(queries, &mut results, threads, |query, result| {
            self.search_into(query, k, ef, result)
        })?;
        Ok(results)
    }

    /// Calls `work` for each of the checked `queries` and its result, on several threads.
    pub(crate) fn for_each_query<T: Send>(
        &self,
        queries: &[f32],
        results: &mut [T],
        threads: usize,
        work: impl Fn(&[f32], &mut T) -> Result<()> + Sync,
    ) -> Result<()> {
        let threads = &mut vec![(); threads.min(results.len())];
        let queries = queries.chunks_exact(self.dimension().max(1));
        let items = queries.zip(results.iter_mut());
        for_each(
            "hnsw-toolbox-search",
            threads,
            items,
            |(), (query, result)| work(query, result),
        )
    }

    /// Replaces the contents of `found` by the results of [`search`](Self::search) for a checked
    /// query.
    fn search_into(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        found: &mut Vec<Neighbour>,
    ) -> Result<()> {
        let mut nodes = Vec::new();
        self.search_nodes(query, k, ef, &mut nodes)?;
        found.clear();
        memory::reserve_exact(found, nodes.len(), "hold the results")?;
        for candidate in nodes {
            found.push(Neighbour {
                label: self.label(candidate.node())?,
                distance: self.metric.distance_of_key(candidate.key()),
            });
        }
        Ok(())
    }

    /// Replaces the contents of `found` by the nearest nodes for a checked query.
    pub(crate) fn search_nodes(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        found: &mut Vec<Candidate>,
    ) -> Result<()> {
        let in_file = |error: Error| error.in_file(self.file.path());
        // Each concurrent search has its own scratch space; later ones reuse it.
        let mut scratch = match lock(&self.scratches).pop() {
            Some(scratch) => scratch,
            None => Scratch::new(self.layout.nodes).map_err(in_file)?,
        };
        let search = Search {
            scratch: &mut scratch,
            query,
            ef: ef.max(k),
            metric: self.metric,
        };
        let result = match &self.map {
            Some(map) => search.run(&mut self.view(&**map)),
            None => search.run(&mut self.view(self.file.window_for_lookups())),
        };
        found.clear();
        let result = result.and_then(|()| {
            let count = k.min(scratch.found().len());
            memory::reserve_exact(found, count, "hold the results")?;
            found.extend(scratch.found().take(count).map(Candidate::unmarked));
            Ok(())
        });
        let result = result.and_then(|()| self.note_damaged(scratch.damaged()));
        // Returned after an error as well.
        lock(&self.scratches).push(scratch);
        result.map_err(in_file)
    }

    /// Counts the damaged nodes that a search met.
    fn note_damaged(&self, nodes: &[u32]) -> Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let mut damaged = lock(&self.damaged);
        // A bit per node, so that a vector met by several searches counts once.
        damaged.grow(self.layout.nodes.into())?;
        for node in nodes {
            damaged.insert((*node).into());
        }
        Ok(())
    }

    fn view<S: crate::io::source::Source>(&self, source: S) -> View<'_, S> {
        View::new(source, &self.layout, self.file.path())
    }

    /// Returns the label of a node.
    pub(crate) fn label(&self, node: u32) -> Result<u64> {
        match &self.map {
            Some(map) => self.view(&**map).label(node),
            None => self.view(self.file.window_for_lookups()).label(node),
        }
    }

    /// Appends the vector of a node and returns true. Returns false for a damaged vector.
    pub(crate) fn append_vector(&self, node: u32, vectors: &mut Vec<f32>) -> Result<bool> {
        memory::reserve(vectors, self.dimension(), "hold vectors of the index")?;
        let mut view = self.view(self.file.window_for_lookups());
        let vector = view.vector(node)?;
        let usable = is_finite(vector);
        if usable {
            vectors.extend_from_slice(vector);
        }
        Ok(usable)
    }

    /// Sorts nodes by their distance from a query, with the same arithmetic as searches.
    pub(crate) fn rank(&self, query: &[f32], nodes: &mut [Candidate]) -> Result<()> {
        match &self.map {
            Some(map) => rank(&mut self.view(&**map), self.metric, query, nodes),
            None => {
                let mut view = self.view(self.file.window_for_lookups());
                rank(&mut view, self.metric, query, nodes)
            }
        }
    }

    /// Calls `work` with blocks of all vectors, each with the number of its first node.
    pub(crate) fn for_each_block(
        &self,
        mut work: impl FnMut(u32, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut view = self.view(self.file.window(WINDOW));
        // At least one row, for vectors larger than a block.
        let rows = (BLOCK_BYTES / self.layout.vector_size().max(1)).max(1);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let mut first = 0;
        while first < self.layout.nodes {
            let end = first.saturating_add(rows).min(self.layout.nodes);
            work(first, view.vectors(first..end)?)?;
            first = end;
        }
        Ok(())
    }

    pub(crate) fn io(&self) -> IoMode {
        match self.map {
            Some(_) => IoMode::Mmap,
            None => IoMode::Read,
        }
    }

    /// Fails if the file has changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.file.check_unchanged()
    }

    /// Checks that all queries are valid. Returns their number.
    pub(crate) fn check_queries(&self, queries: &[f32]) -> Result<usize> {
        let dimension = self.dimension().max(1);
        if !queries.len().is_multiple_of(dimension) {
            return Err(Error::argument(
                "queries",
                format!("{} elements", queries.len()),
                format!("a multiple of the dimension, {dimension}"),
            ));
        }
        for (number, query) in queries.chunks_exact(dimension).enumerate() {
            self.check_query(query, || format!("query {number}"))?;
        }
        Ok(queries.len() / dimension)
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

/// Returns the metric stated by the file or given by the caller. Fails if they differ.
fn metric_of(stated: Option<Metric>, given: Option<Metric>, path: &Path) -> Result<Metric> {
    match (stated, given) {
        (Some(stated), Some(given)) if stated != given => Err(Error::argument(
            "metric",
            given,
            format!("{stated}, as stated in {}, or none", display_path(path)),
        )),
        (Some(metric), _) | (None, Some(metric)) => Ok(metric),
        (None, None) => Err(Error::argument(
            "metric",
            "none",
            format!("a metric, because {} states none", display_path(path)),
        )),
    }
}
