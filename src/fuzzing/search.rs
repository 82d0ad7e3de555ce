//! Property: a search of any bytes as a `.hnsw` file ends with results or an error about the file.
//!
//! - The result is the same with copies of each range, like positioned reads, and with the whole
//!   file in memory, like a map.
//! - Results are sorted, distinct nodes of the file with intact vectors and numeric distances.
//! - Nodes reported as damaged are damaged.
//! - Heap is bounded by the size of the file.
//!
//! Input: k (u8), ef (u8), the number of bytes of the file that serve as the query (u8), and the
//! file.

use std::path::Path;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::Result;
use crate::graph::candidate::Candidate;
use crate::graph::distance::{is_finite, Metric};
use crate::graph::file::read::{Layout, View};
use crate::graph::search::{Ahead, Scratch, Search};
use crate::io::source::Source;
use crate::segment::AlignedBytes;

/// Limit on the bytes of heap for a search of a file of `len` bytes. The search takes up to 17
/// bytes for each node, and a constant for errors and the ids of a list.
fn heap_limit(len: usize) -> usize {
    (64 << 10) + 8 * len
}

/// A source that serves every range from a copy.
struct Copies<'b> {
    bytes: &'b [u8],
    held: Vec<u64>,
}

impl Source for Copies<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let mut all = self.bytes;
        let bytes = Source::bytes(&mut all, offset, len)?;
        // With the same alignment as in the file, and surrounded by bytes of no other range.
        let skipped = (offset % 8) as usize;
        self.held = vec![u64::MAX; (skipped + len).div_ceil(8)];
        let held = self.held.as_mut_slice().as_mut_bytes();
        held[skipped..skipped + len].copy_from_slice(bytes);
        Ok(&self.held.as_bytes()[skipped..skipped + len])
    }
}

impl Ahead for Copies<'_> {
    const FETCHES: bool = false;

    fn will_read(&self, _: u64, _: usize) {}
}

type Found = Result<Vec<(u64, u32)>, String>;

fn search<S: Ahead>(source: S, query: &[f32], k: usize, ef: usize) -> Found {
    try_search(source, query, k, ef).map_err(|error| {
        assert!(matches!(error.code(), 200 | 203), "{error}");
        error.to_string()
    })
}

fn try_search<S: Ahead>(
    mut source: S,
    query: &[f32],
    k: usize,
    ef: usize,
) -> Result<Vec<(u64, u32)>> {
    let path = Path::new("index.hnsw");
    let layout = Layout::read(&mut source, path)?;
    // Without vectors, the length of the file does not bound the dimension.
    if layout.nodes == 0 {
        return Ok(Vec::new());
    }
    let query = if query.is_empty() { &[0.0] } else { query };
    let query: Vec<f32> = query
        .iter()
        .copied()
        .cycle()
        .take(layout.dimension)
        .collect();
    let mut scratch = Scratch::new(layout.nodes)?;
    let mut view = View::new(source, &layout, path);
    let search = Search {
        scratch: &mut scratch,
        query: &query,
        ef: ef.max(k),
        metric: layout.metric.unwrap_or(Metric::Cosine),
    };
    search.run(&mut view)?;
    let found: Vec<Candidate> = scratch.found().take(k).collect();
    assert!(found.is_sorted_by_key(|candidate| candidate.order()));
    let mut nodes: Vec<u32> = found.iter().map(|candidate| candidate.node()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), found.len(), "duplicate nodes");
    assert!(nodes.iter().all(|node| *node < layout.nodes));
    assert!(found.iter().all(|candidate| !candidate.key().is_nan()));
    for node in nodes {
        assert!(is_finite(view.vector(node)?), "node {node} is damaged");
    }
    for node in scratch.damaged() {
        assert!(!is_finite(view.vector(*node)?), "node {node} is intact");
    }
    found
        .iter()
        .map(|candidate| Ok((view.label(candidate.node())?, candidate.key().to_bits())))
        .collect()
}

/// `peak_of` runs a closure, and returns the peak of its heap use.
pub fn property(mut bytes: &[u8], peak_of: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
    let Some(([k, ef, query], file)) = bytes.split_first_chunk::<3>() else {
        return false;
    };
    bytes = file;
    // Aligned like a map.
    let aligned = AlignedBytes::from(bytes);
    let mapped = aligned.as_slice();
    let query = &bytes[..usize::from(*query).min(bytes.len()) / 4 * 4];
    let query: Vec<f32> = query
        .chunks_exact(4)
        .map(|bytes| f32::read_from_bytes(bytes).unwrap())
        .map(|value| if value.is_finite() { value } else { 1.0 })
        .collect();
    let (k, ef) = (usize::from(*k).max(1), usize::from(*ef));

    let mut found = None;
    let peak = peak_of(&mut || found = Some(search(mapped, &query, k, ef)));
    assert!(
        peak <= heap_limit(bytes.len()),
        "{peak} bytes of heap for a file of {}",
        bytes.len()
    );
    let copies = Copies {
        bytes,
        held: Vec::new(),
    };
    assert_eq!(found.unwrap(), search(copies, &query, k, ef));
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("search", property);
    }

    /// Runs the property without its heap limit, which the fuzz target checks. Here, other tests
    /// allocate concurrently.
    fn property(bytes: &[u8]) -> bool {
        super::property(bytes, |search| {
            search();
            0
        })
    }

    #[test]
    fn holds_for_seeds_whose_vectors_are_damaged() {
        // The vectors follow 3 bytes before the file and its header of 256 bytes.
        const VECTORS: usize = 3 + 256;
        let values = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38];
        super::super::replay("search", |seed| {
            let n = usize::from(seed[3 + 12]) * usize::from(seed[3 + 20]);
            for round in 0..n.min(40) {
                let mut bytes = seed.to_vec();
                // A single component, some of them, or all of them.
                for at in (round..n).step_by(1 + round * 5 % 17) {
                    let value = values[(round + at) % values.len()];
                    bytes[VECTORS + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
                }
                assert!(property(&bytes));
            }
            property(seed)
        });
    }
}
