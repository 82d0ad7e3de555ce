//! Build options shared by all engines.

use std::num::NonZeroUsize;

use super::distance::Metric;
use crate::base::threads::thread_count;
use crate::error::{Error, Result};

/// Maximum m; also the maximum of hnsw_rs.
const MAX_M: usize = 256;
const MAX_M0: usize = 1024;
const MAX_EF_CONSTRUCTION: usize = 1 << 16;

named_enum! {
    /// The code that builds the graph.
    #[derive(Default)]
    pub enum Engine for "engine" {
        /// This crate's default: compares vectors within groups instead of searching for neighbours. It
        /// takes a fraction of the time of `Native`, and up to 256 bytes more memory a vector. It falls
        /// back to `Native` for few vectors, for one or two components, and where a graph from groups
        /// alone cannot be searched.
        #[default]
        Partition = "partition",
        /// This crate's insertion engine: inserts one vector after the other, as the HNSW paper does.
        Native = "native",
        /// The hnsw_rs crate: m0 is 2·m and nothing else; a seed makes it use one thread.
        HnswRs = "hnsw_rs",
    }
}

/// Options of a graph build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphOptions {
    /// The metric. The `.hnsw` file records it, but fast-hnsw does not read the record: a program that
    /// opens the file with fast-hnsw must pass the same metric.
    pub metric: Metric,
    /// Neighbours of a node on the upper levels: 2 to 256.
    pub m: usize,
    /// Neighbours of a node on level 0: `m` to 1024 [default: 2·m]. The engine `hnsw_rs` supports
    /// only 2·m.
    pub m0: Option<usize>,
    /// Candidates kept during the search for a node's neighbours: `m` to 65536. In the engine
    /// `partition` it determines the groups of a node: 8 for 50, 12 for 200, 64 from 1024, and 16 more
    /// if vectors are hard to group. At equal values both engines have about the same recall.
    pub ef_construction: usize,
    /// Maximum number of vectors. A larger input is an error.
    pub capacity: Option<usize>,
    /// Makes the build reproducible: on one kind of processor, equal input, options and seed give equal
    /// bytes for any number of threads.
    pub seed: Option<u64>,
    /// Threads of the build: 1 to 1024 [default: one for each core].
    pub threads: Option<usize>,
    /// The code that builds the graph.
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
    /// If a value is out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        let m = self.m;
        if !(2..=MAX_M).contains(&m) {
            return Err(Error::argument(
                "m",
                m,
                format!("a number from 2 to {MAX_M}"),
            ));
        }
        let m0 = self.m0();
        if !(m..=MAX_M0).contains(&m0) {
            let expected = format!("a number from m, which is {m}, to {MAX_M0}");
            return Err(Error::argument("m0", m0, expected));
        }
        // hnsw_rs derives m0 from m.
        if self.engine == Engine::HnswRs && m0 != 2 * m {
            let expected = format!(
                "2·m, which is {}: the engine hnsw_rs supports no other value (the others do)",
                2 * m
            );
            return Err(Error::argument("m0", m0, expected));
        }
        if !(m..=MAX_EF_CONSTRUCTION).contains(&self.ef_construction) {
            let expected = format!("a number from m, which is {m}, to {MAX_EF_CONSTRUCTION}");
            return Err(Error::argument(
                "ef_construction",
                self.ef_construction,
                expected,
            ));
        }
        // A capacity of 0 would reject every input.
        if self.capacity == Some(0) {
            return Err(Error::argument(
                "capacity",
                0,
                "at least the number of vectors to insert",
            ));
        }
        // Checked early, so that a bad value fails before the input is read.
        thread_count(self.threads)?;
        #[cfg(not(feature = "hnsw_rs"))]
        if self.engine == Engine::HnswRs {
            let expected =
                "partition or native: this library was built without the feature hnsw_rs";
            return Err(Error::argument("engine", self.engine, expected));
        }
        Ok(())
    }

    /// Neighbours of a node on level 0.
    pub(crate) fn m0(&self) -> usize {
        self.m0.unwrap_or(self.m.saturating_mul(2))
    }

    /// Threads that build the graph.
    pub(crate) fn threads(&self) -> Result<NonZeroUsize> {
        thread_count(self.threads)
    }
}
