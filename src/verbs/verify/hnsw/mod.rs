//! Checks a `.hnsw` graph file for damage.
//!
//! The file is read once in its own order: levels, vectors, lists, labels. The distances of a
//! sample of links are recomputed, and a walk over level 0 finds the nodes that are unreachable.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::finding::{self, Findings};
use super::{IndexState, VerifyOptions, VerifyReport};
use crate::base::bits::Bits;
use crate::base::memory;
use crate::base::progress::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::candidate::Candidate;
use crate::graph::distance::{dot_in_f64, Metric};
use crate::graph::exact::measure;
use crate::graph::file::layout::Connection;
use crate::graph::file::read::{Layout, List, View};
use crate::io::file::{InputFile, WINDOW};
use crate::io::source::Source;
use crate::segment::LabelRange;

/// The parts of a file that findings name.
mod part {
    pub(super) const HEADER: &str = "header";
    pub(super) const VECTORS: &str = "vectors";
    pub(super) const LEVELS: &str = "levels";
    pub(super) const OFFSETS: &str = "offsets";
    pub(super) const LISTS: &str = "lists";
    pub(super) const LABELS: &str = "labels";
    pub(super) const END: &str = "end";
}

/// At most about this many nodes, evenly spaced in the file, have the distances of their links
/// recomputed.
const SAMPLE_NODES: u32 = 4096;

/// Nodes between two checks for cancellation.
const CHECK_INTERVAL: u32 = 1024;

/// Accepted difference between a stored and a recomputed distance, relative to the summands: other
/// programs sum in another order.
const TOLERANCE: f64 = 1e-4;

/// Links read at a time. A damaged count must not decide how much memory a list takes.
const CONNECTIONS_AT_ONCE: usize = 1024;

/// The contents of a graph file in numbers.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// `None` if the header is invalid.
    pub(crate) layout: Option<Layout>,
    /// For each level, the number of nodes that have it as their highest.
    pub(crate) levels: Vec<u64>,
    /// For each number of neighbours on level 0, the number of nodes with this many.
    pub(crate) degrees: Vec<u64>,
    pub(crate) not_finite: u64,
    pub(crate) unreachable: u64,
    pub(crate) labels: Option<LabelRange>,
    pub(crate) duplicate_labels: u64,
    pub(crate) trailing_bytes: u64,
}

/// Checks everything that a `.hnsw` file promises.
///
/// Damage is a [`Finding`](super::Finding), not an error. `live` of the report is the number of
/// vectors; `file` of a finding names the part of the file.
///
/// Memory: a byte and a bit for each node, at most 4 bytes more while the graph is walked, and a
/// bit for each label (8 bytes when labels are far apart).
///
/// # Errors
///
/// When the file cannot be opened or read, when it changes while it is read
/// ([`ErrorKind::InputChanged`](crate::ErrorKind::InputChanged)), and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn verify_hnsw(
    path: impl AsRef<Path>,
    options: &VerifyOptions,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    let file = InputFile::open(path.as_ref(), options.io)?;
    let mut findings = Findings::new();
    let census = take(&file, &mut findings, monitor)?;
    file.check_unchanged()?;
    let (findings, found) = findings.finish();
    let live = census.layout.as_ref().map_or(0, |layout| layout.nodes);
    let state = match (found, &census.layout) {
        (IndexState::Healthy, Some(layout)) if layout.nodes == 0 => IndexState::Empty,
        (found, _) => found,
    };
    Ok(VerifyReport {
        state,
        damaged: state.is_damaged(),
        live: live.into(),
        deleted: 0,
        findings,
    })
}

/// Checks the whole file and counts its contents.
pub(crate) fn take(
    file: &InputFile,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<Census> {
    let path = file.path();
    let mut census = Census::default();
    let mut source = file.window_for_lookups();
    let mut layout = match Layout::read_header(&mut source, path) {
        Ok(layout) => layout,
        Err(error) => {
            let kind = match error.kind() {
                ErrorKind::Unsupported => &finding::HNSW_UNSUPPORTED,
                _ => &finding::HNSW_HEADER,
            };
            note(error, findings, kind, part::HEADER)?;
            return Ok(census);
        }
    };
    if let Err(error) = layout.read_entry_point(&mut source, path) {
        note(error, findings, &finding::HNSW_ENTRY_POINT, part::HEADER)?;
    }
    if let Err(error) = layout.find_labels(&mut source, path) {
        note(error, findings, &finding::HNSW_LABELS, part::LABELS)?;
    }
    let (end, len) = (layout.end, file.len());
    census.trailing_bytes = len.saturating_sub(end);
    if census.trailing_bytes > 0 {
        findings.note(&finding::HNSW_TRAILING, part::END, || {
            format!("byte {end} of {len}")
        });
    }

    let mut checker = Checker {
        file,
        layout: &layout,
        levels: memory::filled(layout.nodes as usize, 0, "hold the level of each node")?,
        census: &mut census,
        findings,
        monitor,
    };
    checker.check_levels()?;
    checker.check_vectors()?;
    checker.check_lists()?;
    checker.check_distances()?;
    checker.check_reachability()?;
    checker.check_labels()?;
    census.layout = Some(layout);
    Ok(census)
}

/// Turns an error about the contents of the file into a finding; passes all others on.
fn note(
    error: Error,
    findings: &mut Findings,
    kind: &finding::Kind,
    part: &'static str,
) -> Result<()> {
    use ErrorKind::{CorruptIndex, Unsupported};
    let content = (error.field(), error.found(), error.expected());
    let (CorruptIndex | Unsupported, (Some(field), Some(found), Some(expected))) =
        (error.kind(), content)
    else {
        return Err(error);
    };
    findings.note(kind, part, || {
        format!("{field}: found {found}, expected {expected}")
    });
    Ok(())
}

struct Checker<'c> {
    file: &'c InputFile,
    layout: &'c Layout,
    levels: Vec<u8>,
    census: &'c mut Census,
    findings: &'c mut Findings,
    monitor: &'c Monitor<'c>,
}

impl Checker<'_> {
    fn view<S: Source>(&self, source: S) -> View<'_, S> {
        View::new(source, self.layout, self.file.path())
    }

    fn check_levels(&mut self) -> Result<()> {
        let mut view = View::new(self.file.window(WINDOW), self.layout, self.file.path());
        for (node, place) in (0..).zip(&mut self.levels) {
            if node % CHECK_INTERVAL == 0 {
                self.monitor.check()?;
            }
            match view.level(node) {
                Ok(level) => *place = level,
                // The node keeps level 0, so that its base list is still checked.
                Err(error) => note(error, self.findings, &finding::HNSW_LEVEL, part::LEVELS)?,
            }
            let level = usize::from(*place);
            if self.census.levels.len() <= level {
                self.census.levels.resize(level.saturating_add(1), 0);
            }
            if let Some(count) = self.census.levels.get_mut(level) {
                *count = count.saturating_add(1);
            }
        }
        if let Some(entry_point) = self.layout.entry_point {
            let top = self.census.levels.len().saturating_sub(1);
            if usize::from(entry_point.level) < top {
                self.findings
                    .note(&finding::HNSW_ENTRY_POINT_LOW, part::HEADER, || {
                        format!(
                            "node {} is on level {}, others on level {top}",
                            entry_point.node, entry_point.level
                        )
                    });
            }
        }
        Ok(())
    }

    fn check_vectors(&mut self) -> Result<()> {
        let mut view = View::new(self.file.window(WINDOW), self.layout, self.file.path());
        for node in 0..self.layout.nodes {
            if node % CHECK_INTERVAL == 0 {
                self.monitor.check()?;
            }
            let vector = view.vector(node)?;
            let wrong = (0u32..).zip(vector).find(|(_, value)| !value.is_finite());
            if let Some((at, value)) = wrong {
                self.census.not_finite = self.census.not_finite.saturating_add(1);
                self.findings
                    .note(&finding::HNSW_NOT_FINITE, part::VECTORS, || {
                        format!("node {node}, component {at}: {value}")
                    });
            }
        }
        Ok(())
    }

    /// Checks the neighbour lists in file order, and the offsets at which they start.
    fn check_lists(&mut self) -> Result<()> {
        let (file, layout) = (self.file, self.layout);
        let mut offsets = View::new(file.window(WINDOW), layout, file.path());
        let mut lists = View::new(file.window(WINDOW), layout, file.path());
        let mut ids = Vec::new();
        let range = layout.connections();
        let mut expected = Some(range.start);
        for node in 0..layout.nodes {
            if node % CHECK_INTERVAL == 0 {
                self.monitor.advance(node.into(), layout.nodes.into())?;
            }
            let mut offset = offsets.offset(node)?;
            if let Some(expected) = expected.filter(|expected| *expected != offset) {
                self.findings
                    .note(&finding::HNSW_OFFSETS, part::OFFSETS, || {
                        format!("node {node}: found byte {offset}, expected byte {expected}")
                    });
                // Continue where the previous list ended, so that a wrong offset hides no list.
                offset = expected;
            }
            expected = None;
            let level = self.levels.get(node as usize).copied().unwrap_or_default();
            let mut whole = true;
            for layer in 0..=level {
                let list = if range.contains(&offset) {
                    lists.list_at(node, layer, offset)
                } else {
                    let found = format!("byte {offset}");
                    let end = range.end;
                    Err(Error::corrupt(
                        file.path(),
                        format!("offset of node {node} on level {layer}"),
                        found,
                        format!("one from {} to {end}", range.start),
                    ))
                };
                let list = match list {
                    Ok(list) => list,
                    Err(error) => {
                        note(error, self.findings, &finding::HNSW_LIST, part::LISTS)?;
                        whole = false;
                        break;
                    }
                };
                self.check_list(&mut lists, list, &mut ids)?;
                offset = lists.end_of(list);
            }
            if whole {
                expected = Some(offset);
            }
        }
        let nodes = u64::from(layout.nodes);
        self.monitor.advance(nodes, nodes)
    }

    fn check_list<S: Source>(
        &mut self,
        lists: &mut View<'_, S>,
        list: List,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let List {
            node, layer, count, ..
        } = list;
        if layer == 0 {
            if self.census.degrees.len() <= count {
                // A list of `count` links was found in the file, so this cannot exceed its size.
                let more = count
                    .saturating_add(1)
                    .saturating_sub(self.census.degrees.len());
                memory::reserve(&mut self.census.degrees, more, "count neighbours")?;
                self.census.degrees.resize(count.saturating_add(1), 0);
            }
            if let Some(nodes) = self.census.degrees.get_mut(count) {
                *nodes = nodes.saturating_add(1);
            }
        }
        ids.clear();
        memory::reserve(ids, count, "hold the neighbours of a node")?;
        let mut first = 0;
        while first < count {
            let connections: &[Connection] = lists.connections(list, first, CONNECTIONS_AT_ONCE)?;
            ids.extend(connections.iter().map(|connection| connection.id.get()));
            first = first.saturating_add(CONNECTIONS_AT_ONCE);
        }
        // Sorted, duplicates are adjacent.
        ids.sort_unstable();
        let mut before = None;
        for id in ids.iter().copied() {
            let what = || format!("node {node} on level {layer}: node {id}");
            let kind = if Some(id) == before {
                &finding::HNSW_DUPLICATE
            } else if id == node {
                &finding::HNSW_SELF
            } else {
                match self.levels.get(id as usize) {
                    None => &finding::HNSW_OUT_OF_RANGE,
                    Some(level) if *level < layer => &finding::HNSW_BELOW_LEVEL,
                    Some(_) => {
                        before = Some(id);
                        continue;
                    }
                }
            };
            before = Some(id);
            self.findings.note(kind, part::LISTS, what);
        }
        Ok(())
    }

    /// Recomputes the distances of a sample of links, with the metric that the file states. If it
    /// states none, all metrics are tried, and a hint names the ones that fit.
    fn check_distances(&mut self) -> Result<()> {
        let metrics = match self.layout.metric {
            Some(metric) => vec![metric],
            None => Metric::ALL.to_vec(),
        };
        let mut wrong: Vec<_> = metrics.into_iter().map(|metric| (metric, 0u64)).collect();
        let mut view = self.view(self.file.window_for_lookups());
        let mut others = self.view(self.file.window_for_lookups());
        let (mut vector, mut links, mut measured) = (Vec::new(), Vec::new(), Vec::new());
        let (mut count, mut first_wrong) = (0u64, None);
        let stride = self.layout.nodes.div_ceil(SAMPLE_NODES).max(1);
        let mut node = 0;
        while node < self.layout.nodes {
            if (node / stride).is_multiple_of(64) {
                self.monitor.check()?;
            }
            vector.clear();
            vector.extend_from_slice(view.vector(node)?);
            // `check_lists` has already reported unreadable lists.
            if let Ok(list) = view.list(node, 0) {
                links.clear();
                measured.clear();
                for connection in view.connections(list, 0, CONNECTIONS_AT_ONCE)? {
                    let id = connection.id.get();
                    if id < self.layout.nodes {
                        links.push(connection.distance.get());
                        measured.push(Candidate::new(0.0, id));
                    }
                }
                count = count.saturating_add(links.len() as u64);
                for (number, (metric, wrong)) in wrong.iter_mut().enumerate() {
                    measure(&mut others, *metric, &vector, &mut measured)?;
                    for (stored, candidate) in links.iter().zip(&measured) {
                        let computed = metric.distance_of_key(candidate.key());
                        let scale = scale(*metric, &vector, others.vector(candidate.node())?);
                        if !is_close(*stored, computed, scale) {
                            *wrong = wrong.saturating_add(1);
                            if number == 0 && first_wrong.is_none() {
                                first_wrong = Some(format!(
                                    "node {node} to node {}: found {stored}, expected {computed}",
                                    candidate.node()
                                ));
                            }
                        }
                    }
                }
            }
            node = node.saturating_add(stride);
        }
        drop((view, others));
        match (self.layout.metric, wrong.first()) {
            (Some(_), Some((_, wrong))) => {
                let first = first_wrong.unwrap_or_default();
                self.findings
                    .note_many(&finding::HNSW_DISTANCES, part::LISTS, *wrong, || first);
            }
            _ => {
                let fitting: Vec<_> = wrong
                    .iter()
                    // Below 1 % of wrong distances, the metric fits and some links are damaged.
                    .filter(|(_, wrong)| wrong.saturating_mul(100) < count)
                    .map(|(metric, _)| metric.name())
                    .collect();
                let metrics = match fitting.as_slice() {
                    [] if count == 0 => {
                        "no metric can be deduced, because the graph has no links".to_string()
                    }
                    [] => "the distances in the lists fit no known metric".to_string(),
                    fitting => format!("the distances in the lists are {}", fitting.join(" or ")),
                };
                if self.layout.nodes > 0 {
                    self.findings
                        .note(&finding::HNSW_METRIC, part::HEADER, || metrics);
                }
            }
        }
        Ok(())
    }

    /// Counts the nodes that are unreachable from the entry point over level 0. The walk is breadth
    /// first, and visits the nodes of each step in file order.
    fn check_reachability(&mut self) -> Result<()> {
        let Some(entry_point) = self.layout.entry_point else {
            return Ok(());
        };
        let mut view = self.view(self.file.window_for_lookups());
        let nodes = self.layout.nodes;
        let mut seen = Bits::with_len(nodes.into())?;
        seen.insert(entry_point.node.into());
        let (mut front, mut next) = (vec![entry_point.node], Vec::new());
        let mut visited = 0u32;
        while !front.is_empty() {
            front.sort_unstable();
            for node in &front {
                visited = visited.wrapping_add(1);
                if visited.is_multiple_of(CHECK_INTERVAL) {
                    self.monitor.check()?;
                }
                // `check_lists` has already reported unreadable lists.
                let Ok(list) = view.list(*node, 0) else {
                    continue;
                };
                let mut first = 0;
                while first < list.count {
                    let connections = view.connections(list, first, CONNECTIONS_AT_ONCE)?;
                    for connection in connections {
                        let id = connection.id.get();
                        if id < nodes && !seen.insert(id.into()) {
                            memory::reserve(&mut next, 1, "walk the graph")?;
                            next.push(id);
                        }
                    }
                    first = first.saturating_add(CONNECTIONS_AT_ONCE);
                }
            }
            front.clear();
            std::mem::swap(&mut front, &mut next);
        }
        drop(view);
        self.census.unreachable = u64::from(nodes).saturating_sub(seen.count());
        if let Some(first) = seen.first_absent(nodes.into()) {
            self.findings.note_many(
                &finding::HNSW_UNREACHABLE,
                part::LISTS,
                self.census.unreachable,
                || format!("node {first}"),
            );
        }
        Ok(())
    }

    fn check_labels(&mut self) -> Result<()> {
        let nodes = self.layout.nodes;
        if !self.layout.has_labels() {
            return Ok(());
        }
        let mut view = self.view(self.file.window(WINDOW));
        let mut range = None;
        for node in 0..nodes {
            LabelRange::extend(&mut range, view.label(node)?);
        }
        let Some(LabelRange { min, max }) = range else {
            return Ok(());
        };
        let (mut duplicates, mut first) = (0u64, None);
        // A bit set over the range takes at most the 8 bytes per node that sorting would take.
        if (max - min) / 64 <= u64::from(nodes) {
            let mut seen = Bits::with_len((max - min).saturating_add(1))?;
            for node in 0..nodes {
                if node % CHECK_INTERVAL == 0 {
                    self.monitor.check()?;
                }
                let label = view.label(node)?;
                // A label outside the range appeared after the first pass. `check_unchanged`
                // reports it.
                if label.checked_sub(min).is_some_and(|at| seen.insert(at)) {
                    duplicates = duplicates.saturating_add(1);
                    first.get_or_insert(label);
                }
            }
        } else {
            let mut labels = memory::with_capacity(nodes as usize, "hold the labels")?;
            for node in 0..nodes {
                labels.push(view.label(node)?);
            }
            labels.sort_unstable();
            for pair in labels.windows(2) {
                if let [a, b] = pair {
                    if a == b {
                        duplicates = duplicates.saturating_add(1);
                        first.get_or_insert(*a);
                    }
                }
            }
        }
        drop(view);
        self.census.labels = range;
        self.census.duplicate_labels = duplicates;
        let label = first.unwrap_or_default();
        self.findings.note_many(
            &finding::HNSW_LABEL_DUPLICATE,
            part::LABELS,
            duplicates,
            || format!("label {label}"),
        );
        Ok(())
    }
}

/// The magnitude of the terms that can cancel out in a distance: it bounds the rounding error.
fn scale(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let norm = |vector: &[f32]| dot_in_f64(vector, vector).sqrt();
    match metric {
        Metric::Cosine => 1.0,
        Metric::DotProduct => 1.0 + norm(a) * norm(b),
        Metric::Euclidean | Metric::SquaredEuclidean | Metric::Manhattan => 0.0,
    }
}

fn is_close(stored: f32, computed: f32, scale: f64) -> bool {
    let (stored, computed) = (f64::from(stored), f64::from(computed));
    // Infinities compare equal. A NaN comes from a vector that `check_vectors` has reported.
    stored == computed
        || computed.is_nan()
        || (stored - computed).abs() <= TOLERANCE * (computed.abs() + scale)
}
