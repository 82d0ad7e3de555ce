//! What an engine is told.

use std::num::NonZeroUsize;

use super::distance::Metric;
use crate::error::{Error, Result};
use crate::threads::thread_count;

/// hnsw_rs takes no larger m either.
const M_MAX: usize = 256;
const M0_MAX: usize = 1024;
const EF_CONSTRUCTION_MAX: usize = 1 << 16;

named_enum! {
    /// Which code builds the graph.
    #[derive(Default)]
    pub enum Engine for "engine" {
        /// This crate's own: compares vectors in groups instead of searching for neighbours. That
        /// takes a fraction of `Native`'s time, and up to 256 bytes more for each vector while it
        /// lasts. With a few vectors, or of one or two elements, or where groups alone make no
        /// graph that can be searched, it does what `Native` does.
        #[default]
        Partition = "partition",
        /// This crate's own, too: inserts one vector after the other, as HNSW does.
        Native = "native",
        /// The hnsw_rs crate: m0 is 2·m and nothing else; a seed makes it use one thread.
        HnswRs = "hnsw_rs",
    }
}

/// How a graph is built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphOptions {
    /// What "near" means. The `.hnsw` file states it, but fast-hnsw does not read that: whoever
    /// opens the file with fast-hnsw must know it.
    pub metric: Metric,
    /// Neighbours of a node on the layers above 0: 2 to 256.
    pub m: usize,
    /// Neighbours of a node on layer 0: `m` to 1024; 2·m when not given. The engine `hnsw_rs` can
    /// only do 2·m.
    pub m0: Option<usize>,
    /// Candidates that are kept while a node's neighbours are looked for: `m` to 65536. With the
    /// engine `partition` it says how many groups each node is in: 8 for 50, 12 for 200, 64 from
    /// 1024 on, and 16 more for vectors that are hard to group; with as much, both have about the
    /// same recall.
    pub ef_construction: usize,
    /// The most vectors that are expected. More of them are an error.
    pub capacity: Option<usize>,
    /// Makes the build repeatable: same input, options and seed give the same bytes on this kind
    /// of processor, whatever the number of threads.
    pub seed: Option<u64>,
    /// Threads that build the graph: 1 to 1024; one for each core when not given.
    pub threads: Option<usize>,
    /// Which code builds the graph.
    pub engine: Engine,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            metric: Metric::Euclidean,
            m: 16,
            m0: None,
            ef_construction: 200,
            capacity: None,
            seed: None,
            threads: None,
            engine: Engine::default(),
        }
    }
}

setters!(GraphOptions {
    with_metric(metric: Metric),
    with_m(m: usize),
    with_m0(m0: impl Into<Option<usize>>),
    with_ef_construction(ef_construction: usize),
    with_capacity(capacity: impl Into<Option<usize>>),
    with_seed(seed: impl Into<Option<u64>>),
    with_threads(threads: impl Into<Option<usize>>),
    with_engine(engine: Engine),
});

impl GraphOptions {
    /// # Errors
    ///
    /// When a value is out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        let m = self.m;
        if !(2..=M_MAX).contains(&m) {
            return Err(Error::argument(
                "m",
                m,
                format!("a number from 2 to {M_MAX}"),
            ));
        }
        let m0 = self.m0();
        if !(m..=M0_MAX).contains(&m0) {
            let expected = format!("a number from m, which is {m}, to {M0_MAX}");
            return Err(Error::argument("m0", m0, expected));
        }
        if self.engine == Engine::HnswRs && m0 != 2 * m {
            let expected = format!(
                "2·m, which is {}: the engine hnsw_rs can do nothing else (the others can)",
                2 * m
            );
            return Err(Error::argument("m0", m0, expected));
        }
        if !(m..=EF_CONSTRUCTION_MAX).contains(&self.ef_construction) {
            let expected = format!("a number from m, which is {m}, to {EF_CONSTRUCTION_MAX}");
            return Err(Error::argument(
                "ef_construction",
                self.ef_construction,
                expected,
            ));
        }
        if self.capacity == Some(0) {
            return Err(Error::argument(
                "capacity",
                0,
                "at least the number of vectors to insert",
            ));
        }
        thread_count(self.threads)?;
        #[cfg(not(feature = "hnsw_rs"))]
        if self.engine == Engine::HnswRs {
            let expected = "native: this library was built without the feature hnsw_rs";
            return Err(Error::argument("engine", self.engine, expected));
        }
        Ok(())
    }

    /// Neighbours of a node on layer 0.
    pub(crate) fn m0(&self) -> usize {
        self.m0.unwrap_or(self.m.saturating_mul(2))
    }

    /// Threads that build the graph.
    pub(crate) fn threads(&self) -> Result<NonZeroUsize> {
        thread_count(self.threads)
    }
}
